//! How runs begin, wait, are tried again and end.

pub(in crate::core) mod limits;
pub(in crate::core) mod semaphore;

use std::{cmp::Reverse, collections::VecDeque, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use self::{
    limits::{Slots, Turn},
    semaphore::Permit,
};
use crate::{
    core::{Core, Discarded, Payload, Start, decide::Due, node::Life},
    event::{EventKind, EventPayload},
    job::{FireTimes, JobId, JobOptions, Outcome, Output, Overlap, Run, RunId, SkipReason},
};

/// One run, as long as it is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RunKey {
    pub(in crate::core) slot: u32,
    pub(crate) id: RunId,
}

#[cfg(feature = "process")]
impl RunKey {
    /// A run that no core knows, since it is in another process.
    pub(crate) fn detached(id: u64) -> RunKey {
        RunKey { slot: u32::MAX, id: RunId(id) }
    }
}

/// The run that another one follows.
#[derive(Debug)]
pub(crate) struct Preceding {
    pub(crate) run: Run,
    /// Those of other jobs that it follows as well, which ended before.
    pub(crate) others: Vec<Arc<Preceding>>,
}

/// What a run says when it ends.
#[derive(Debug)]
pub(crate) struct RunResult {
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) ended_at: DateTime<Utc>,
    pub(crate) took: Duration,
    pub(crate) late_by: Duration,
    pub(crate) outcome: Outcome,
    /// What the work returned, if it is wanted.
    pub(crate) output: Option<Output>,
    /// The text of the error, if it is wanted.
    pub(crate) said: Option<Arc<str>>,
    /// How long until the work is to be called again, if it is.
    pub(crate) retry_in: Option<Duration>,
    /// Whether it did not start since the node did not believe itself, and is to when it does.
    pub(crate) put_back: bool,
}

impl RunResult {
    /// The end of a run whose work was not called, or that is given up.
    pub(crate) fn without_work(outcome: Outcome, ended_at: DateTime<Utc>) -> RunResult {
        RunResult {
            started_at: None,
            ended_at,
            took: Duration::ZERO,
            late_by: Duration::ZERO,
            outcome,
            output: None,
            said: None,
            retry_in: None,
            put_back: false,
        }
    }
}

/// A run that has not ended.
pub(in crate::core) struct ActiveRun {
    pub(in crate::core) id: RunId,
    pub(in crate::core) job: u32,
    pub(in crate::core) due: Due,
    pub(in crate::core) coalesced: u64,
    pub(in crate::core) on_request: bool,
    /// Counts the calls of the work from 1.
    pub(in crate::core) attempt: u32,
    pub(in crate::core) phase: Phase,
    pub(in crate::core) cancelled: bool,
    /// Whether that is since the node did not believe itself.
    pub(in crate::core) distrusted: bool,
    /// That of its row; zero if it has none.
    pub(in crate::core) fence: u64,
    /// In which life of the node it began.
    pub(in crate::core) life: Life,
    pub(in crate::core) permit: Permit,
    /// What it has of the limits beyond its permit.
    pub(in crate::core) taken: Slots,
    /// The options that it was started with.
    pub(in crate::core) options: Option<Arc<JobOptions>>,
    /// Fire times that run after this one, under its permit.
    pub(in crate::core) backlog: VecDeque<Due>,
    pub(in crate::core) preceding: Option<Arc<Preceding>>,
    /// How the last attempt ended, if it is not the first.
    pub(in crate::core) last: Option<Box<RunResult>>,
    /// The next older and the next newer run of the same job.
    pub(in crate::core) older: Option<u32>,
    pub(in crate::core) newer: Option<u32>,
}

/// How far a run has come.
#[derive(Clone, Copy)]
pub(in crate::core) enum Phase {
    /// A limit keeps it from being started.
    Waiting {
        limit: u32,
        priority: i32,
    },
    Started,
    /// It failed, and is tried again then.
    BackingOff(DateTime<Utc>),
}

/// What a run is to be for.
pub(in crate::core) struct Submission {
    /// Its number, if somebody was told already.
    pub(in crate::core) id: Option<RunId>,
    pub(in crate::core) due: Due,
    pub(in crate::core) coalesced: u64,
    pub(in crate::core) on_request: bool,
    /// Whether it may have begun before, on a node that died: then it is not skipped for others.
    pub(in crate::core) again: bool,
    pub(in crate::core) backlog: VecDeque<Due>,
    pub(in crate::core) preceding: Option<Arc<Preceding>>,
}

impl Submission {
    pub(in crate::core) fn of(due: Due) -> Submission {
        let backlog = VecDeque::new();
        Submission {
            id: None,
            due,
            coalesced: 0,
            on_request: false,
            again: false,
            backlog,
            preceding: None,
        }
    }
}

impl<P: Payload> Core<P> {
    /// Begins a run, or lets it wait, as the job's options for overlap say. Says which run it is, if
    /// it is not skipped.
    pub(in crate::core) fn submit(
        &mut self,
        slot: u32,
        submission: Submission,
        now: DateTime<Utc>,
    ) -> Option<RunId> {
        let job = &mut self.jobs[slot];
        let options = job.options(&self.defaults);
        let (limit, overlap) = (options.max_instances, options.overlap);
        let queued = job.extras.as_ref().map_or(0, |extras| extras.queue.len());
        // While the scheduler is paused what comes takes no permit, but may wait for one.
        let free = match self.paused && !submission.on_request {
            true => (limit.saturating_sub(job.semaphore.in_use()) as usize).saturating_sub(queued),
            false => 0,
        };
        if free > 0 {
            return Some(self.queue(slot, submission));
        }
        if (!self.paused || submission.on_request)
            && let Some(permit) = job.semaphore.try_acquire(limit)
        {
            return Some(self.begin(slot, permit, submission, now));
        }
        if submission.again {
            return Some(self.queue(slot, submission));
        }
        match overlap {
            Overlap::Skip => {
                self.skip_submission(slot, submission, SkipReason::MaxInstances, now);
                None
            }
            Overlap::Queue(room) if queued >= room as usize => {
                self.skip_submission(slot, submission, SkipReason::QueueFull, now);
                None
            }
            Overlap::Queue(_) => Some(self.queue(slot, submission)),
            Overlap::CancelPrevious => {
                for superseded in std::mem::take(&mut job.extras().queue) {
                    self.skip_submission(slot, superseded, SkipReason::Superseded, now);
                }
                let run = self.queue(slot, submission);
                self.cancel_previous(slot, now);
                Some(run)
            }
        }
    }

    /// Whether a run that is asked for now would be skipped.
    pub(in crate::core) fn would_skip(&self, slot: u32) -> bool {
        let job = &self.jobs[slot];
        let options = job.options(&self.defaults);
        let queued = job.extras.as_ref().map_or(0, |extras| extras.queue.len());
        job.semaphore.in_use() >= options.max_instances
            && match options.overlap {
                Overlap::Skip => true,
                Overlap::Queue(room) => queued >= room as usize,
                Overlap::CancelPrevious => false,
            }
    }

    fn queue(&mut self, slot: u32, mut submission: Submission) -> RunId {
        let id = submission.id.unwrap_or_else(|| self.run_id(slot, submission.due));
        submission.id = Some(id);
        self.jobs[slot].extras().queue.push_back(submission);
        if self.paused {
            self.deferred_jobs.insert(slot);
        }
        id
    }

    /// Begins the runs that wait in line, as far as there are permits.
    pub(in crate::core) fn serve_queue(&mut self, slot: u32, now: DateTime<Utc>) {
        while let Some(job) = self.jobs.get_mut(slot)
            && let limit = job.options(&self.defaults).max_instances
            && let Some(extras) = &mut job.extras
            && !extras.queue.is_empty()
        {
            // While the scheduler is paused only those have a turn that were asked for.
            let turn = match self.paused {
                false => Some(0),
                true => extras.queue.iter().position(|submission| submission.on_request),
            };
            if self.paused {
                self.deferred_jobs.insert(slot);
            }
            let Some(turn) = turn else { return };
            let Some(permit) = job.semaphore.try_acquire(limit) else { return };
            match extras.queue.remove(turn) {
                Some(submission) => drop(self.begin(slot, permit, submission, now)),
                None => job.semaphore.release(permit),
            }
        }
    }

    /// Gives a permit back, to who waits in line or to nobody.
    pub(in crate::core) fn release(&mut self, slot: u32, permit: Permit, now: DateTime<Utc>) {
        let job = &mut self.jobs[slot];
        job.semaphore.release(permit);
        self.serve_queue(slot, now);
    }

    /// Makes a run, under a permit of its job.
    pub(in crate::core) fn begin(
        &mut self,
        slot: u32,
        permit: Permit,
        submission: Submission,
        now: DateTime<Utc>,
    ) -> RunId {
        self.begin_with(slot, permit, Slots::default(), submission, now)
    }

    /// The same, if it has taken something of the limits already.
    fn begin_with(
        &mut self,
        slot: u32,
        permit: Permit,
        taken: Slots,
        submission: Submission,
        now: DateTime<Utc>,
    ) -> RunId {
        let Submission { id, due, coalesced, on_request, backlog, preceding, .. } = submission;
        let id = id.unwrap_or_else(|| self.run_id(slot, due));
        let job = &mut self.jobs[slot];
        let (attempt, fence) = job.row_of(id, due.fire_time).unwrap_or((1, 0));
        let older = job.runs;
        let life = job.store().map_or_else(Life::default, |store| self.stores.life(store));
        let run = self.runs.insert_with(|_| ActiveRun {
            id,
            job: slot,
            due,
            coalesced,
            on_request,
            attempt,
            phase: Phase::Started,
            cancelled: false,
            distrusted: false,
            fence,
            life,
            permit,
            taken,
            options: None,
            backlog,
            preceding,
            last: None,
            older,
            newer: None,
        });
        if let Some(older) = job.runs.replace(run) {
            self.runs[older].newer = Some(run);
        }
        self.metrics.submitted += 1;
        let store = || self.stores.name(job.store());
        self.effects.emit_in(now, EventKind::Submitted, store, || EventPayload::Submitted {
            job: job.id(self.scheduler, slot),
            run: id,
            fire_time: due.fire_time,
            on_request,
        });
        self.try_start(run);
        id
    }

    /// The number of a run for this fire time.
    fn run_id(&mut self, slot: u32, due: Due) -> RunId {
        self.jobs[slot].durable_run(due).unwrap_or_else(|| {
            self.run_ids += 1;
            RunId(self.run_ids)
        })
    }

    /// Starts a run, or lets it wait until no limit keeps it from that.
    fn try_start(&mut self, run: u32) {
        let going = &mut self.runs[run];
        let job = &self.jobs[going.job];
        if going.last.is_some()
            && let Some(store) = job.store()
        {
            // Its node may not have believed itself while it waited, and does again.
            going.life.lapses = self.stores.life(store).lapses;
        }
        // A run keeps its options from its first start on.
        let options = match going.last {
            None => &job.options,
            Some(_) => &going.options,
        };
        let taken = match going.taken {
            none if none == Slots::default() => {
                self.limits.try_acquire_slots(options.as_ref().unwrap_or(&self.defaults))
            }
            taken => Ok(taken),
        };
        match taken {
            Err(limit) => {
                let priority = options.as_ref().unwrap_or(&self.defaults).priority;
                going.phase = Phase::Waiting { limit, priority };
                let turn = turn(going, priority, job.incarnation);
                self.limits.wait(limit, turn, run, going.on_request || going.attempt > 1);
            }
            Ok(taken) => {
                let options = options.clone();
                going.options = options.clone();
                going.taken = taken;
                going.phase = Phase::Started;
                self.effects.start(Start {
                    run: RunKey { slot: run, id: going.id },
                    job: job.id(self.scheduler, going.job),
                    fire_time: going.due.fire_time,
                    due: going.due.at,
                    coalesced: going.coalesced,
                    on_request: going.on_request,
                    attempt: going.attempt,
                    incarnation: job.incarnation,
                    fence: going.fence,
                    lease: job
                        .store()
                        .filter(|_| going.fence > 0)
                        .and_then(|store| self.stores.node(store))
                        .map(|node| node.lease().clone()),
                    life: going.life,
                    preceding: going.preceding.clone(),
                    options,
                    payload: job.payload.clone(),
                });
            }
        }
    }

    /// Lets those runs of a job start, or wait, by other options that wait for a limit.
    pub(in crate::core) fn requeue_waiting(&mut self, slot: u32) {
        for run in self.runs_of(slot) {
            let going = &self.runs[run];
            if let Phase::Waiting { limit, priority } = going.phase
                && (!self.paused || going.on_request || going.attempt > 1)
            {
                let turn = turn(going, priority, self.jobs[slot].incarnation);
                self.limits.stop_waiting(limit, turn);
                self.try_start(run);
            }
        }
    }

    /// Moves a run that waits for a limit with the clock.
    pub(in crate::core) fn shift_waiting(&mut self, run: u32, by: TimeDelta) {
        let going = &mut self.runs[run];
        if let Phase::Waiting { limit, priority } = going.phase
            && !going.on_request
        {
            let incarnation = self.jobs[going.job].incarnation;
            let old = turn(going, priority, incarnation);
            going.due.shift(by);
            let new = turn(going, priority, incarnation);
            self.limits.change_turn(limit, old, new);
        }
    }

    /// Gives back what a run took beyond its permit, to those who wait for it.
    fn free_slots(&mut self, taken: Slots) {
        for limit in taken.iter() {
            self.limits.give_back(limit);
            self.serve(limit);
        }
    }

    /// Starts those who wait for a limit, as far as there is room.
    pub(in crate::core) fn serve(&mut self, limit: u32) {
        while let Some(run) = self.limits.next(limit, self.paused) {
            self.try_start(run);
        }
    }

    /// The work of a run has ended, or was not called. Whoever was declared abandoned has nothing to
    /// say any more.
    pub(crate) fn finish(&mut self, key: RunKey, mut finish: RunResult, now: DateTime<Utc>) {
        let Some(going) = self.runs.get_mut(key.slot).filter(|run| run.id == key.id) else {
            self.effects.discard_result(finish);
            return;
        };
        let slot = going.job;
        let job = &self.jobs[slot];
        let wanted = !going.cancelled && !self.closed && !job.retired;
        if finish.put_back && going.last.is_some() {
            // It has run before, and ends as it did then if there will be no other attempt.
            let is_called_off = going.cancelled && !going.distrusted;
            if !(is_called_off || self.closed || job.retired) {
                (going.cancelled, going.distrusted) = (false, false);
                self.wait_to_retry(key.slot, now, UNTRUSTED_WAIT);
                self.effects.discard_result(finish);
                return;
            }
            let given_up = RunResult::without_work(Outcome::Skipped(SkipReason::Shutdown), now);
            self.effects.discard_result(std::mem::replace(&mut finish, given_up));
        } else if finish.put_back {
            self.requeue_run(key);
        }
        match finish.retry_in.filter(|_| wanted) {
            Some(delay) => self.back_off(key.slot, finish, delay, now),
            None => {
                self.conclude(key.slot, finish, now);
                self.end_if_over(slot, now);
            }
        }
    }

    /// Whether a run has ended, all its attempts included.
    pub(crate) fn is_over(&self, key: RunKey) -> bool {
        self.runs.get(key.slot).is_none_or(|run| run.id != key.id)
    }

    /// An attempt failed, and there will be another.
    fn back_off(&mut self, run: u32, mut finish: RunResult, delay: Duration, now: DateTime<Utc>) {
        let going = &mut self.runs[run];
        let slot = going.job;
        let job = &mut self.jobs[slot];
        self.metrics.retried += 1;
        // Late is the first attempt alone.
        finish.late_by = going.last.as_ref().map_or(finish.late_by, |last| last.late_by);
        let record = || going.record(job.id(self.scheduler, slot), &finish);
        let store = || self.stores.name(job.store());
        self.effects.emit_in(now, EventKind::Retrying, store, || EventPayload::Retrying {
            run: record(),
            delay,
        });
        going.attempt += 1;
        if let Some(last) = going.last.replace(Box::new(finish)) {
            self.effects.discard_result(*last);
        }
        self.wait_to_retry(run, now, delay);
    }

    /// A run waits for its next attempt, and lets go of what it has taken of executor and group.
    fn wait_to_retry(&mut self, run: u32, now: DateTime<Utc>, delay: Duration) {
        let delay = TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX);
        let at = now.checked_add_signed(delay).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let going = &mut self.runs[run];
        let slot = going.job;
        going.phase = Phase::BackingOff(at);
        let taken = std::mem::take(&mut going.taken);
        let retry_at = &mut self.jobs[slot].extras().retry_at;
        *retry_at = Some(retry_at.map_or(at, |earliest| earliest.min(at)));
        self.mark(slot);
        self.free_slots(taken);
    }

    /// Tries those runs of a job again that have waited long enough.
    pub(in crate::core) fn retry_due(&mut self, slot: u32, now: DateTime<Utc>) {
        let retry_at = self.jobs[slot].extras.as_ref().and_then(|extras| extras.retry_at);
        if retry_at.is_none_or(|at| at > now) {
            return;
        }
        let mut earliest: Option<DateTime<Utc>> = None;
        for run in self.runs_of(slot) {
            match self.runs[run].phase {
                Phase::BackingOff(at) if at <= now => self.try_start(run),
                Phase::BackingOff(at) => {
                    earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
                }
                _ => {}
            }
        }
        self.jobs[slot].extras().retry_at = earliest;
    }

    /// The runs of a job that have not ended, the newest first.
    pub(in crate::core) fn runs_of(&self, slot: u32) -> Vec<u32> {
        let newest = self.jobs[slot].runs;
        std::iter::successors(newest, |&run| self.runs[run].older).collect()
    }

    /// A run has ended.
    pub(in crate::core) fn conclude(&mut self, run: u32, finish: RunResult, now: DateTime<Utc>) {
        let Some(mut going) = self.runs.remove(run) else { return };
        self.unlink(&going);
        let slot = going.job;
        if let Some(store) = self.jobs[slot].store() {
            self.wake_store_removal(store);
        }
        if let Phase::Waiting { limit, priority } = going.phase {
            let turn = turn(&going, priority, self.jobs[slot].incarnation);
            self.limits.stop_waiting(limit, turn);
        }
        // One that was to be tried again and is not ends as it did the last time.
        let put_back = finish.put_back;
        let finish = match going.last.take() {
            Some(last) if !finish.outcome.has_run() && !put_back => {
                going.attempt -= 1;
                self.effects.discard_result(finish);
                *last
            }
            Some(last) => {
                let late_by = last.late_by;
                self.effects.discard_result(*last);
                RunResult { late_by, ..finish }
            }
            None => finish,
        };
        let finish = match finish.outcome {
            // Its work may have been called before, on another node.
            Outcome::Skipped(reason)
                if going.attempt > 1
                    && !matches!(reason, SkipReason::Paused | SkipReason::Shutdown) =>
            {
                RunResult { outcome: Outcome::Abandoned, ..finish }
            }
            _ => finish,
        };
        if put_back || !self.conclude_durable(&going, &finish, now) {
            self.effects.discard_result(finish);
        } else {
            let late_by = finish.started_at.map(|_| finish.late_by);
            self.metrics.count(&finish.outcome, late_by);
            self.report_run(&going, finish, now);
        }
        self.effects.discard_all(going.preceding.take().map(Discarded::Preceding));
        going.options.iter().for_each(|options| self.effects.discard_options(options.clone()));
        match going.backlog.pop_front() {
            Some(due) if self.paused => {
                going.backlog.push_front(due);
                self.jobs[slot].extras().parked.push((going.permit, going.backlog));
                self.deferred_jobs.insert(slot);
                self.free_slots(going.taken);
            }
            Some(due) => {
                let next = Submission { backlog: going.backlog, ..Submission::of(due) };
                let options = &self.jobs[slot].options;
                if options.as_ref().map(Arc::as_ptr) == going.options.as_ref().map(Arc::as_ptr) {
                    // A backlog is one submission: it keeps what it has taken.
                    self.begin_with(slot, going.permit, going.taken, next, now);
                } else {
                    self.free_slots(going.taken);
                    self.begin(slot, going.permit, next, now);
                }
            }
            None => {
                self.free_slots(going.taken);
                self.release(slot, going.permit, now);
            }
        }
    }

    /// Tells of a run that has ended whoever wants to know.
    fn report_run(&mut self, run: &ActiveRun, finish: RunResult, now: DateTime<Utc>) {
        let slot = run.job;
        let job = &mut self.jobs[slot];
        let kind = kind_of(&finish.outcome);
        let kept = job.keeps_run(!run.backlog.is_empty(), &self.defaults);
        let reported = self.closed || job.payload.wants_runs();
        if !(self.effects.wants(kind) || kept || reported || !self.followers.is_empty()) {
            // Nearly always nobody does.
            self.effects.skip_event();
            self.effects.discard_result(finish);
            return;
        }
        let record = run.record(job.id(self.scheduler, slot), &finish);
        let store = || self.stores.name(job.store());
        self.effects.emit_in(now, kind, store, || fate_of(record.clone()));
        if kept {
            job.keep_run(&record, finish.said.as_ref(), &self.defaults);
        }
        if record.outcome.has_run() && self.followers.has(&record.job) {
            self.submit_followers(Preceding { run: record.clone(), others: Vec::new() }, now);
        }
        if reported {
            self.effects.report(self.jobs[slot].payload.clone(), record);
        }
        // That what they hold is dropped when the lock is free.
        self.effects.discard_result(finish);
    }

    /// Takes a run out of its job's list.
    fn unlink(&mut self, run: &ActiveRun) {
        match run.newer {
            Some(newer) => self.runs[newer].older = run.older,
            None => self.jobs[run.job].runs = run.older,
        }
        if let Some(older) = run.older {
            self.runs[older].newer = run.newer;
        }
    }

    /// Skips what a submission is for.
    pub(in crate::core) fn skip_submission(
        &mut self,
        slot: u32,
        submission: Submission,
        reason: SkipReason,
        now: DateTime<Utc>,
    ) {
        let fire_times = FireTimes {
            first: submission.due.fire_time,
            last: submission.backlog.back().unwrap_or(&submission.due).fire_time,
            count: 1 + submission.backlog.len() as u64,
        };
        self.skip(slot, submission.id, fire_times, reason, now);
        self.effects.discard_all(submission.preceding.map(Discarded::Preceding));
    }

    /// Ends a run that has not started, or that waits to be tried again.
    fn skip_run(&mut self, run: u32, reason: SkipReason, now: DateTime<Utc>) {
        let late_by = (now - self.runs[run].due.at).to_std().unwrap_or_default();
        let finish =
            RunResult { late_by, ..RunResult::without_work(Outcome::Skipped(reason), now) };
        self.conclude(run, finish, now);
    }

    /// Ends the runs of a job that wait: for room, and, if it is `for_good`, to be tried again.
    pub(in crate::core) fn skip_waiting_runs(
        &mut self,
        slot: u32,
        reason: SkipReason,
        for_good: bool,
        now: DateTime<Utc>,
    ) {
        for run in self.runs_of(slot) {
            let going = &self.runs[run];
            let waits = match going.phase {
                Phase::Started => false,
                Phase::Waiting { .. } => for_good || (going.attempt == 1 && !going.on_request),
                Phase::BackingOff(_) => for_good,
            };
            if waits {
                self.skip_run(run, reason, now);
            }
        }
    }

    /// Asks the oldest run of a job to stop, unless one has been asked already.
    fn cancel_previous(&mut self, slot: u32, now: DateTime<Utc>) {
        let runs = self.runs_of(slot);
        if runs.iter().any(|&run| self.runs[run].cancelled) {
            return;
        }
        let Some(&run) = runs.last() else { return };
        // What it was to catch up with is older still.
        let backlog = std::mem::take(&mut self.runs[run].backlog);
        self.skip_backlog(slot, &backlog, SkipReason::Superseded, now);
        match self.runs[run].phase {
            Phase::Started => self.cancel_run(run),
            // What has not started, or waits to be tried again, ends at once.
            _ => self.skip_run(run, SkipReason::Superseded, now),
        }
    }

    /// Asks a run to stop.
    pub(in crate::core) fn cancel_run(&mut self, run: u32) {
        let going = &mut self.runs[run];
        if !std::mem::replace(&mut going.cancelled, true) {
            self.effects.cancel(RunKey { slot: run, id: going.id });
        }
    }
}

/// How long an attempt waits that may not begin since the node does not believe that it lives.
const UNTRUSTED_WAIT: Duration = Duration::from_millis(100);

impl ActiveRun {
    /// What there is to say of the run, if it ended like this.
    fn record(&self, job: JobId, finish: &RunResult) -> Run {
        Run {
            job,
            id: self.id,
            fire_time: self.due.fire_time,
            late_by: finish.late_by,
            coalesced: self.coalesced,
            on_request: self.on_request,
            attempt: self.attempt,
            started_at: finish.started_at,
            took: finish.took,
            ended_at: finish.ended_at,
            outcome: finish.outcome.clone(),
            output: finish.output.clone(),
        }
    }
}

fn turn(going: &ActiveRun, priority: i32, incarnation: u64) -> Turn {
    (going.due.fire_time, Reverse(priority), incarnation, going.id)
}

fn kind_of(outcome: &Outcome) -> EventKind {
    match outcome {
        Outcome::Succeeded => EventKind::Executed,
        Outcome::Failed(_) | Outcome::Panicked(_) => EventKind::Failed,
        Outcome::TimedOut => EventKind::TimedOut,
        Outcome::Cancelled => EventKind::Cancelled,
        Outcome::Missed => EventKind::Missed,
        Outcome::Skipped(_) => EventKind::Skipped,
        Outcome::Abandoned => EventKind::Abandoned,
    }
}

/// The event of a run's end.
fn fate_of(run: Run) -> EventPayload {
    let fire_times = FireTimes::one(run.fire_time);
    match run.outcome {
        Outcome::Succeeded => EventPayload::Executed(run),
        Outcome::Failed(_) | Outcome::Panicked(_) => EventPayload::Failed(run),
        Outcome::TimedOut => EventPayload::TimedOut(run),
        Outcome::Cancelled => EventPayload::Cancelled(run),
        Outcome::Abandoned => EventPayload::Abandoned(run),
        Outcome::Missed => EventPayload::Missed { job: run.job, run: Some(run.id), fire_times },
        Outcome::Skipped(reason) => {
            EventPayload::Skipped { job: run.job, run: Some(run.id), fire_times, reason }
        }
    }
}
