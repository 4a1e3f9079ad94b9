//! The outcomes of claimed rows: closed, or released.

use std::collections::{HashSet, VecDeque};

use chrono::{DateTime, Utc};

use super::{ClaimedRow, DurableJob, Upcoming};
use crate::{
    core::{Core, Payload, RunKey, RunResult, ahead::run_id, decide::Due, runs::RunRow},
    job::{FireTimes, Outcome, RunId, SkipReason},
    ledger::{Claim, Fate, Release, RowKey, RowKind, RowOutcome, RunEnd},
};

impl<P: Payload> Core<P> {
    /// Closes the rows of a stretch of fire times.
    pub(in crate::core) fn close_stretch(
        &mut self,
        slot: u32,
        fire_times: FireTimes,
        fate: &Fate,
        now: DateTime<Utc>,
    ) {
        for (kind, number) in self.rows_in(slot, fire_times) {
            self.close_row(slot, (kind, number), fate.clone(), None, now);
        }
    }

    /// Returns the open rows of a stretch of fire times. The rows of active, queued and upcoming
    /// fire times, which may lie in between, are left out.
    fn rows_in(&self, slot: u32, fire_times: FireTimes) -> Vec<(RowKind, i64)> {
        let Some(durable) = self.registry[slot].durable() else { return Vec::new() };
        let (first, last) =
            (fire_times.first.timestamp_millis(), fire_times.last.timestamp_millis());
        let range = (RowKind::Scheduled, first)..=(RowKind::Scheduled, last);
        let rows = durable.open.range(range).map(|(&row, _)| row).collect();
        self.unassigned(slot, durable, rows)
    }

    /// Returns the open rows of these fire times, of which `run` has the first one.
    fn rows_of(
        &self,
        slot: u32,
        run: Option<RunId>,
        fire_times: impl IntoIterator<Item = DateTime<Utc>>,
    ) -> Vec<(RowKind, i64)> {
        let Some(durable) = self.registry[slot].durable() else { return Vec::new() };
        let mut run = run;
        let rows = fire_times.into_iter().map(|fire_time| {
            let of_run = run.take().and_then(|run| durable.row_of(run, fire_time));
            of_run.unwrap_or((RowKind::Scheduled, fire_time.timestamp_millis()))
        });
        let rows = rows.filter(|row| durable.open.contains_key(row)).collect();
        self.unassigned(slot, durable, rows)
    }

    fn unassigned(
        &self,
        slot: u32,
        durable: &DurableJob,
        mut rows: Vec<(RowKind, i64)>,
    ) -> Vec<(RowKind, i64)> {
        if rows.len() > 1 {
            let others = self.assigned_fire_times(slot, durable);
            rows.retain(|(_, number)| !others.contains(number));
        }
        rows
    }

    /// Returns the fire times of a job that a run, the queue or a backlog already has.
    fn assigned_fire_times(&self, slot: u32, durable: &DurableJob) -> HashSet<i64> {
        let job = &self.registry[slot];
        let upcoming = durable.upcoming.iter().filter(|it| it.kind == RowKind::Scheduled);
        let mut spoken_for: HashSet<i64> = upcoming.map(|it| it.number).collect();
        let mut add = |due: &Due| spoken_for.insert(due.fire_time.timestamp_millis());
        if let Some(extras) = &job.extras {
            extras.runs.scheduled().for_each(|due| _ = add(due));
        }
        for run in self.runs_of(slot) {
            let (RunRow { id, due, fence, .. }, backlog) = self.runs.with_backlog(run);
            let row = durable.row_of(id, due.fire_time);
            if row
                .is_some_and(|row| row.0 == RowKind::Scheduled && durable.open[&row].fence == fence)
            {
                add(&due);
            }
            backlog.iter().for_each(|due| _ = add(due));
        }
        spoken_for
    }

    /// Closes the rows of a skipped stretch of fire times, or releases them if other nodes may run for
    /// them. Returns whether they are skipped.
    pub(in crate::core) fn skip_durable(
        &mut self,
        slot: u32,
        run: Option<RunId>,
        fire_times: FireTimes,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) -> bool {
        let Some(durable) = self.registry[slot].durable() else { return true };
        let rows = match run.and_then(|run| durable.row_of(run, fire_times.first)) {
            Some(row) if fire_times.count == 1 => vec![row],
            _ => self.rows_in(slot, fire_times),
        };
        self.skip_rows(slot, rows, fire_times.first, reason, now)
    }

    /// The counterpart of [`skip_durable`](Self::skip_durable) for fire times that are known one by one:
    /// claimed ones that are to run may lie in between.
    pub(in crate::core) fn skip_durable_each(
        &mut self,
        slot: u32,
        run: Option<RunId>,
        fire_times: impl IntoIterator<Item = DateTime<Utc>>,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) -> bool {
        let mut fire_times = fire_times.into_iter().peekable();
        let Some(&first) = fire_times.peek() else { return true };
        let rows = self.rows_of(slot, run, fire_times);
        self.skip_rows(slot, rows, first, reason, now)
    }

    fn skip_rows(
        &mut self,
        slot: u32,
        rows: Vec<(RowKind, i64)>,
        first: DateTime<Utc>,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) -> bool {
        if self.registry[slot].durable().is_none() {
            return true;
        }
        let released = matches!(reason, SkipReason::Paused | SkipReason::Shutdown);
        if released {
            rows.into_iter().for_each(|row| self.release_row(slot, row));
            return false;
        }
        let mut skipped = true;
        for row in rows {
            let Some(open) =
                self.registry[slot].durable().and_then(|durable| durable.open.get(&row))
            else {
                continue;
            };
            let fate = Fate::called_off(reason, open.attempt);
            // A run that may have begun on another node comes due by itself, not in a stretch.
            if fate.is_abandoned() {
                self.report_abandoned(slot, row, first, now);
                skipped = false;
            }
            self.close_row(slot, row, fate, None, now);
        }
        skipped
    }

    /// Closes the row of a run that has ended, or releases it if another node runs it again.
    /// Returns whether the run has ended.
    pub(in crate::core) fn conclude_durable(
        &mut self,
        run: RunRow,
        finish: &RunResult,
        now: DateTime<Utc>,
    ) -> bool {
        let RunRow { job: slot, attempt, distrusted, .. } = run;
        let Some(durable) = self.registry[slot].durable() else { return true };
        let store = durable.store;
        let row = durable.row_of(run.id, run.due.fire_time);
        let Some(row) = row.filter(|row| durable.open[row].fence == run.fence) else {
            // The store has expired the node, and the row was claimed again, maybe by this node.
            return true;
        };
        let recover = durable.open[&row].recover;
        let fate = match &finish.outcome {
            Outcome::Succeeded => Fate::Ran(RunEnd::Succeeded),
            Outcome::Failed(_) => Fate::Ran(RunEnd::Failed),
            Outcome::Panicked(_) => Fate::Ran(RunEnd::Panicked),
            Outcome::TimedOut => Fate::Ran(RunEnd::TimedOut),
            // Another node runs it again.
            Outcome::Cancelled | Outcome::Abandoned if recover && self.is_leaving(store) => {
                self.release_begun(slot, row, attempt + u32::from(finish.started_at.is_some()));
                return true;
            }
            Outcome::Abandoned if recover && durable.open[&row].lost => {
                // The work was not called, and other nodes have the row now.
                self.remove_open(slot, row);
                return true;
            }
            Outcome::Cancelled if recover && distrusted && durable.open[&row].lost => {
                // The node that has the row now runs it again.
                self.remove_open(slot, row);
                return true;
            }
            // Any live node runs it again, once the store knows of this attempt.
            Outcome::Cancelled if recover && distrusted && !self.registry[slot].retired => {
                self.release_begun(slot, row, attempt + 1);
                return true;
            }
            Outcome::Cancelled => Fate::Ran(RunEnd::Cancelled),
            Outcome::Abandoned => Fate::Abandoned,
            Outcome::Missed => Fate::Missed,
            Outcome::Skipped(SkipReason::Paused | SkipReason::Shutdown) => {
                self.release_row(slot, row);
                return false;
            }
            Outcome::Skipped(reason) => Fate::Skipped(*reason),
        };
        let message = match &finish.outcome {
            Outcome::Panicked(message) => Some(shortened(message)),
            Outcome::Failed(_) => finish.error_text.as_deref().map(shortened),
            _ => None,
        };
        let ran = Some((attempt, finish.started_at, message));
        self.close_row(slot, row, fate, ran, finish.ended_at.min(now));
        true
    }

    fn close_row(
        &mut self,
        slot: u32,
        row: (RowKind, i64),
        fate: Fate,
        ran: Option<(u32, Option<DateTime<Utc>>, Option<String>)>,
        ended_at: DateTime<Utc>,
    ) {
        let Some((key, open)) = self.detach_row(slot, row) else { return };
        let job = &self.registry[slot];
        let job_end = if job.payload.is_cancelled() { Fate::Cancelled } else { Fate::Completed };
        let Some(node) = job.store().and_then(|store| self.durable.node_mut(store)) else { return };
        let (attempt, started_at, message) = ran.unwrap_or((open.attempt, None, None));
        // Instants of the ledger follow the store's clock.
        let to_store = |instant| chrono::SubsecRound::trunc_subsecs(node.to_store(instant), 3);
        let outcome = RowOutcome {
            key,
            fence: open.fence,
            fate,
            attempt,
            started_at: started_at.map(to_store),
            ended_at: to_store(ended_at),
            message,
            job_end,
        };
        node.finish(outcome, self.reading);
        self.effects.poll_stores();
    }

    pub(in crate::core) fn release_row(&mut self, slot: u32, row: (RowKind, i64)) {
        if let Some((key, open)) = self.detach_row(slot, row)
            && let Some(node) =
                self.registry[slot].store().and_then(|store| self.durable.node_mut(store))
        {
            node.release(Release::new(key, open.fence, open.attempt));
            self.effects.poll_stores();
        }
    }

    /// Releases a row whose work was called; the next attempt is `attempt`.
    fn release_begun(&mut self, slot: u32, row: (RowKind, i64), attempt: u32) {
        let open = self.registry[slot].durable_mut().and_then(|durable| durable.open.get_mut(&row));
        open.into_iter().for_each(|open| open.attempt = attempt);
        self.release_row(slot, row);
    }

    fn detach_row(&mut self, slot: u32, row: (RowKind, i64)) -> Option<(RowKey, ClaimedRow)> {
        let (key, open) = self.remove_open(slot, row)?;
        if let Some(durable) = self.registry[slot].durable_mut()
            && self.durable.get(durable.store).is_some()
        {
            durable.unacknowledged.insert(Claim { key, fence: open.fence });
        }
        Some((key, open))
    }

    fn remove_open(&mut self, slot: u32, row: (RowKind, i64)) -> Option<(RowKey, ClaimedRow)> {
        let durable = self.registry[slot].durable_mut()?;
        let open = durable.open.remove(&row)?;
        let (key, before) = (durable.key(row.0, row.1), durable.open.len() + 1);
        self.count_open(slot, before);
        Some((key, open))
    }

    /// Requeues the row of a run that was about to start while the lease had lapsed: it starts when the
    /// lease is renewed.
    ///
    /// Returns how the run ends instead, if the row is not this node's to start any more.
    pub(in crate::core) fn requeue_run(&mut self, run: RunKey) -> Option<Outcome> {
        let RunRow { job: slot, due, fence, .. } = self.runs.row(run)?;
        let job = &self.registry[slot];
        let durable = job.durable()?;
        let row = durable.row_of(run.id, due.fire_time)?;
        let open = &durable.open[&row];
        if open.fence != fence {
            return None;
        }
        if open.lost {
            return Some(Outcome::Abandoned);
        }
        if self.closed || job.retired {
            // Nothing starts here any more, so the row is released.
            return Some(Outcome::Skipped(SkipReason::Shutdown));
        }
        self.requeue_row(slot, row, due);
        None
    }

    /// Puts a row back among the upcoming ones.
    fn requeue_row(&mut self, slot: u32, (kind, number): (RowKind, i64), due: Due) {
        let Some(durable) = self.registry[slot].durable_mut() else { return };
        let place = durable.upcoming.partition_point(|other| other.due.at <= due.at);
        durable.upcoming.insert(place, Upcoming { due, kind, number });
        self.arm_claims(slot);
    }

    /// Skips, or releases, the claimed rows of a durable job that have not come due.
    pub(in crate::core) fn skip_upcoming(
        &mut self,
        slot: u32,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) {
        let Some(durable) = self.registry[slot].durable_mut() else { return };
        for Upcoming { due, kind, number } in std::mem::take(&mut durable.upcoming) {
            let run =
                self.registry[slot].durable().map(|durable| run_id(durable.key(kind, number)));
            self.skip(slot, run, FireTimes::one(due.fire_time), reason, now);
        }
        self.arm_claims(slot);
    }

    /// Like [`skip_upcoming`](Self::skip_upcoming), except for requested runs, which start during a
    /// pause.
    pub(in crate::core) fn skip_claimed(
        &mut self,
        slot: u32,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) {
        let Some(durable) = self.registry[slot].durable_mut() else { return };
        let mut spared = VecDeque::new();
        if reason == SkipReason::Paused && !self.paused {
            let goes_on = |it: &Upcoming| it.kind == RowKind::Requested;
            let upcoming = std::mem::take(&mut durable.upcoming);
            (spared, durable.upcoming) = upcoming.into_iter().partition(goes_on);
        }
        self.skip_upcoming(slot, reason, now);
        if let Some(durable) = self.registry[slot].durable_mut() {
            durable.upcoming = spared;
        }
        self.arm_claims(slot);
        self.end_if_over(slot, now);
    }

    /// Like [`skip_upcoming`](Self::skip_upcoming), for all rows that have not started.
    pub(in crate::core) fn skip_unstarted(
        &mut self,
        slot: u32,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) {
        self.skip_claimed(slot, reason, now);
        if self.registry.get(slot).is_some() {
            self.skip_waiting(slot, reason, false, now);
            self.end_if_over(slot, now);
        }
    }
}

/// Returns as much of a message as the ledger keeps, without characters that some stores cannot
/// keep.
fn shortened(message: &str) -> String {
    const LONGEST: usize = 1024;
    let mut kept = String::with_capacity(message.len().min(LONGEST));
    for char in
        message.chars().map(|char| if char == '\0' { char::REPLACEMENT_CHARACTER } else { char })
    {
        if kept.len() + char.len_utf8() > LONGEST {
            break;
        }
        kept.push(char);
    }
    kept
}
