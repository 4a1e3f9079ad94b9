//! What becomes of rows that this node has taken: closed, or released.

use std::collections::{HashSet, VecDeque};

use chrono::{DateTime, Utc};

use super::{Held, Open, Upcoming};
use crate::{
    core::{Core, Payload, RunKey, RunResult, ahead::run_id, decide::Due, runs::Going},
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

    /// The open rows of a stretch. Others may lie between them, of fire times that come before or after:
    /// what is going, in line or yet to come is not among them.
    fn rows_in(&self, slot: u32, fire_times: FireTimes) -> Vec<(RowKind, i64)> {
        let Some(held) = self.jobs[slot].held() else { return Vec::new() };
        let (first, last) =
            (fire_times.first.timestamp_millis(), fire_times.last.timestamp_millis());
        let range = (RowKind::Scheduled, first)..=(RowKind::Scheduled, last);
        let mut rows: Vec<_> = held.open.range(range).map(|(&row, _)| row).collect();
        if rows.len() > 1 {
            let others = self.spoken_for(slot, held);
            rows.retain(|(_, number)| !others.contains(number));
        }
        rows
    }

    /// The fire times of a job that something is to become of already.
    fn spoken_for(&self, slot: u32, held: &Held) -> HashSet<i64> {
        let job = &self.jobs[slot];
        let upcoming = held.upcoming.iter().filter(|it| it.kind == RowKind::Scheduled);
        let mut spoken_for: HashSet<i64> = upcoming.map(|it| it.number).collect();
        let mut add = |due: &Due| spoken_for.insert(due.fire_time.timestamp_millis());
        if let Some(extras) = &job.extras {
            for submission in extras.queue.iter().filter(|it| !it.on_request) {
                add(&submission.due);
                submission.backlog.iter().for_each(|due| _ = add(due));
            }
            extras.parked.iter().flat_map(|(_, backlog)| backlog).for_each(|due| _ = add(due));
        }
        for run in self.runs_of(slot) {
            let Going { id, due, fence, backlog, .. } = &self.runs[run];
            let row = held.row_of(*id, due.fire_time);
            if row.is_some_and(|row| row.0 == RowKind::Scheduled && held.open[&row].fence == *fence)
            {
                add(due);
            }
            backlog.iter().for_each(|due| _ = add(due));
        }
        spoken_for
    }

    /// Tells the store of fire times that are skipped, unless others may run for them: then they are
    /// released. Says whether they are skipped.
    pub(in crate::core) fn skip_durable(
        &mut self,
        slot: u32,
        run: Option<RunId>,
        fire_times: FireTimes,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) -> bool {
        let Some(held) = self.jobs[slot].held() else { return true };
        let rows = match run.and_then(|run| held.row_of(run, fire_times.first)) {
            Some(row) if fire_times.count == 1 => vec![row],
            _ => self.rows_in(slot, fire_times),
        };
        let released = matches!(reason, SkipReason::Paused | SkipReason::Shutdown);
        if released {
            rows.into_iter().for_each(|row| self.release_row(slot, row));
            return false;
        }
        let mut skipped = true;
        for row in rows {
            let Some(open) = self.jobs[slot].held().and_then(|held| held.open.get(&row)) else {
                continue;
            };
            let fate = Fate::called_off(reason, open.attempt);
            // What may have begun on another node comes due by itself, not in a stretch.
            if fate.is_abandoned() {
                self.report_abandoned(slot, row, fire_times.first, now);
                skipped = false;
            }
            self.close_row(slot, row, fate, None, now);
        }
        skipped
    }

    /// Tells the store how a run ended, unless another node is to run it again. Says whether it has
    /// ended.
    pub(in crate::core) fn conclude_durable(
        &mut self,
        run: &Going,
        finish: &RunResult,
        now: DateTime<Utc>,
    ) -> bool {
        let Going { job: slot, attempt, distrusted, .. } = *run;
        let Some(held) = self.jobs[slot].held() else { return true };
        let store = held.store;
        let row = held.row_of(run.id, run.due.fire_time);
        let Some(row) = row.filter(|row| held.open[row].fence == run.fence) else {
            // The store took the node for dead, and has given the row to another, or to this one again.
            return true;
        };
        let recover = held.open[&row].recover;
        let fate = match &finish.outcome {
            Outcome::Succeeded => Fate::Ran(RunEnd::Succeeded),
            Outcome::Failed(_) => Fate::Ran(RunEnd::Failed),
            Outcome::Panicked(_) => Fate::Ran(RunEnd::Panicked),
            Outcome::TimedOut => Fate::Ran(RunEnd::TimedOut),
            // It is run again by another node.
            Outcome::Cancelled | Outcome::Abandoned if recover && self.leaves(store) => {
                self.release_begun(slot, row, attempt + u32::from(finish.started_at.is_some()));
                return true;
            }
            Outcome::Abandoned if recover && held.open[&row].lost => {
                // It has not been called, and others have it now.
                self.remove_open(slot, row);
                return true;
            }
            Outcome::Cancelled if recover && distrusted && held.open[&row].lost => {
                // It is to be run again, by whoever has it now.
                self.remove_open(slot, row);
                return true;
            }
            // By whichever node lives, once the store knows of this attempt.
            Outcome::Cancelled if recover && distrusted && !self.jobs[slot].retired => {
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
            Outcome::Failed(_) => finish.said.as_deref().map(shortened),
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
        let Some((key, open)) = self.let_row_go(slot, row) else { return };
        let job = &self.jobs[slot];
        let job_end = match job.payload.is_cancelled() {
            true => Fate::Cancelled,
            false => Fate::Completed,
        };
        let Some(node) = job.store().and_then(|store| self.stores.node_mut(store)) else { return };
        let (attempt, started_at, message) = ran.unwrap_or((open.attempt, None, None));
        // Instants of the ledger are the store's.
        let there = |instant| chrono::SubsecRound::trunc_subsecs(node.there(instant), 3);
        let outcome = RowOutcome {
            key,
            fence: open.fence,
            fate,
            attempt,
            started_at: started_at.map(there),
            ended_at: there(ended_at),
            message,
            job_end,
        };
        node.finish(outcome, self.reading);
        self.out.ask = true;
    }

    pub(super) fn release_row(&mut self, slot: u32, row: (RowKind, i64)) {
        if let Some((key, open)) = self.let_row_go(slot, row)
            && let Some(node) =
                self.jobs[slot].store().and_then(|store| self.stores.node_mut(store))
        {
            node.release(Release::new(key, open.fence, open.attempt));
            self.out.ask = true;
        }
    }

    /// Gives a row back whose work was called, so that the next attempt is this one.
    fn release_begun(&mut self, slot: u32, row: (RowKind, i64), attempt: u32) {
        let open = self.jobs[slot].held_mut().and_then(|held| held.open.get_mut(&row));
        open.into_iter().for_each(|open| open.attempt = attempt);
        self.release_row(slot, row);
    }

    fn let_row_go(&mut self, slot: u32, row: (RowKind, i64)) -> Option<(RowKey, Open)> {
        let (key, open) = self.remove_open(slot, row)?;
        if let Some(held) = self.jobs[slot].held_mut()
            && self.stores.get(held.store).is_some()
        {
            held.unsettled.insert(Claim { key, fence: open.fence });
        }
        Some((key, open))
    }

    fn remove_open(&mut self, slot: u32, row: (RowKind, i64)) -> Option<(RowKey, Open)> {
        let held = self.jobs[slot].held_mut()?;
        let open = held.open.remove(&row)?;
        let (key, before) = (held.key(row.0, row.1), held.open.len() + 1);
        self.count_open(slot, before);
        Some((key, open))
    }

    /// Gives a run back that was about to start while the node did not believe itself: it is begun
    /// again when the node does.
    pub(in crate::core) fn put_back(&mut self, run: RunKey) {
        let Some(going) = self.runs.get(run.slot).filter(|going| going.id == run.id) else {
            return;
        };
        let (slot, due) = (going.job, going.due);
        let held = self.jobs[slot].held();
        let row = held.and_then(|held| {
            let row = held.row_of(run.id, due.fire_time)?;
            (held.open[&row].fence == going.fence).then_some(row)
        });
        row.into_iter().for_each(|row| self.hold_again(slot, row, due));
    }

    /// Begins a row again that has come due, as soon as the node believes itself.
    fn hold_again(&mut self, slot: u32, (kind, number): (RowKind, i64), due: Due) {
        let Some(held) = self.jobs[slot].held_mut() else { return };
        let place = held.upcoming.partition_point(|other| other.due.at <= due.at);
        held.upcoming.insert(place, Upcoming { due, kind, number });
        self.arm_durable(slot);
    }

    /// Skips, or releases, what of a durable job has been taken and has not come due.
    pub(in crate::core) fn call_off_upcoming(
        &mut self,
        slot: u32,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) {
        let Some(held) = self.jobs[slot].held_mut() else { return };
        for Upcoming { due, kind, number } in std::mem::take(&mut held.upcoming) {
            let run = self.jobs[slot].held().map(|held| run_id(held.key(kind, number)));
            self.skip(slot, run, FireTimes::one(due.fire_time), reason, now);
        }
        self.arm_durable(slot);
    }

    /// The same, but for runs that a pause does not keep from starting: those that were asked for.
    pub(super) fn call_off_taken(&mut self, slot: u32, reason: SkipReason, now: DateTime<Utc>) {
        let Some(held) = self.jobs[slot].held_mut() else { return };
        let mut spared = VecDeque::new();
        if reason == SkipReason::Paused && !self.paused {
            let goes_on = |it: &Upcoming| it.kind == RowKind::Requested;
            let upcoming = std::mem::take(&mut held.upcoming);
            (spared, held.upcoming) = upcoming.into_iter().partition(goes_on);
        }
        self.call_off_upcoming(slot, reason, now);
        if let Some(held) = self.jobs[slot].held_mut() {
            held.upcoming = spared;
        }
        self.arm_durable(slot);
        self.end_if_over(slot, now);
    }

    /// The same, for all that has not started.
    pub(super) fn call_off_durable(&mut self, slot: u32, reason: SkipReason, now: DateTime<Utc>) {
        self.call_off_taken(slot, reason, now);
        if self.jobs.get(slot).is_some() {
            self.call_off_waiting(slot, reason, false, now);
            self.end_if_over(slot, now);
        }
    }
}

/// As much of a message as the ledger keeps, and without what not every store can hold.
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
