//! Events about rows without a run on this node.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{
    core::{Core, Payload, StoreKey, ahead::run_id},
    event::EventPayload,
    job::{End, FireTimes, Outcome, Run},
    ledger::{Fate, ReapReport, Row, RowKind, RowState},
};

impl<P: Payload> Core<P> {
    /// Emits the events of a row that was closed without a run.
    pub(in crate::core) fn report_closed(
        &mut self,
        store: StoreKey,
        row: &Row,
        now: DateTime<Utc>,
    ) {
        let RowState::Closed(fate) = &row.state else { return };
        let job = row.job.clone();
        let fire_times = FireTimes { first: row.fire_time, last: row.last, count: row.count };
        match *fate {
            Fate::Missed => {
                self.runs.count_missed(row.count);
                self.note_in(store, now, EventPayload::Missed { job, run: None, fire_times });
            }
            Fate::Coalesced(into) => {
                self.runs.count_coalesced(row.count);
                self.note_in(store, now, EventPayload::Coalesced { job, fire_times, into });
            }
            Fate::Skipped(reason) => {
                self.runs.count_skipped(row.count);
                self.note_in(
                    store,
                    now,
                    EventPayload::Skipped { job, run: None, fire_times, reason },
                );
            }
            Fate::Abandoned => self.report_abandoned_row(store, row, now),
            _ => {}
        }
    }

    /// Emits the event of a row that is not run again although its work may have been called.
    pub(in crate::core) fn report_abandoned(
        &mut self,
        slot: u32,
        (kind, number): (RowKind, i64),
        fire_time: DateTime<Utc>,
        now: DateTime<Utc>,
    ) {
        let job = self.registry.id(slot);
        let Some(durable) = self.registry[slot].durable() else { return };
        let (store, Some(open)) = (durable.store, durable.open.get(&(kind, number))) else {
            return;
        };
        let row = Row::new(durable.key(kind, number), job, fire_time, RowState::Waiting);
        let row = Row { attempt: open.attempt, coalesced: open.coalesced, ..row };
        self.report_abandoned_row(store, &row, now);
    }

    fn report_abandoned_row(&mut self, store: StoreKey, row: &Row, now: DateTime<Utc>) {
        let run = Run {
            job: row.job.clone(),
            id: run_id(row.key),
            fire_time: row.fire_time,
            late_by: Duration::ZERO,
            coalesced: row.coalesced,
            on_request: row.key.kind == RowKind::Requested,
            attempt: row.attempt,
            started_at: None,
            took: Duration::ZERO,
            ended_at: row.ended_at.unwrap_or(now),
            outcome: Outcome::Abandoned,
            output: None,
        };
        self.note_in(store, now, EventPayload::Abandoned(run));
    }

    pub(in crate::core) fn report_reaped(
        &mut self,
        store: StoreKey,
        reaped: ReapReport,
        now: DateTime<Utc>,
    ) {
        let ReapReport { nodes, handed_out, abandoned, over, .. } = reaped;
        if !nodes.is_empty() {
            let (recovered, abandoned) = (handed_out.len(), abandoned.len());
            self.note_of(store, now, |store| EventPayload::NodesDied {
                store,
                nodes,
                recovered,
                abandoned,
            });
        }
        for row in &abandoned {
            self.report_abandoned_row(store, row, now);
        }
        for incarnation in over {
            if self.has_claimed(store, incarnation) {
                continue;
            }
            let of = abandoned.iter().find(|row| row.key.incarnation == incarnation);
            if let Some(row) = of {
                let job = row.job.clone();
                self.note_in(store, now, EventPayload::JobRemoved { job, end: End::Completed });
            }
            self.effects.job_over(store, incarnation, End::Completed);
        }
    }
}
