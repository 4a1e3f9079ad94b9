//! The runs that have not ended: how they begin, wait, back off and end.

mod cancel;
mod end;
mod job;
pub(in crate::core) mod limits;
mod retry;
pub(in crate::core) mod semaphore;
mod skip;
mod start;
mod submit;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

pub(in crate::core) use self::job::{JobRuns, WaitingRuns};
use self::{
    limits::{Limits, Slots},
    semaphore::Permit,
    start::turn,
};
use crate::{
    core::{decide::Due, durable::node::LeaseEpoch, effects::Effects, registry::table::Table},
    job::{JobOptions, Outcome, Output, Run, RunId},
    metrics::Metrics,
};

/// The key of an active run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RunKey {
    pub(in crate::core) slot: u32,
    pub(crate) id: RunId,
}

#[cfg(feature = "process")]
impl RunKey {
    /// The key of a run that is in another process, so that no core knows it.
    pub(crate) fn detached(id: u64) -> RunKey {
        RunKey { slot: u32::MAX, id: RunId(id) }
    }
}

/// The run that another run follows.
#[derive(Debug)]
pub(crate) struct Preceding {
    pub(crate) run: Run,
    /// The runs of the other jobs that it follows, which ended before.
    pub(crate) others: Vec<Arc<Preceding>>,
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct RunResult {
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) ended_at: DateTime<Utc>,
    pub(crate) took: Duration,
    pub(crate) late_by: Duration,
    pub(crate) outcome: Outcome,
    /// What the work returned, if that is kept.
    pub(crate) output: Option<Output>,
    /// The text of the error, if that is kept.
    pub(crate) error_text: Option<Arc<str>>,
    /// How long until the work is called again, if it is.
    pub(crate) retry_in: Option<Duration>,
    /// Whether the run did not start because the node did not trust its lease; it starts once the
    /// lease is trusted again.
    pub(crate) put_back: bool,
}

impl RunResult {
    /// The result of a run whose work was not called, or that is given up.
    pub(crate) fn without_work(outcome: Outcome, ended_at: DateTime<Utc>) -> RunResult {
        RunResult {
            started_at: None,
            ended_at,
            took: Duration::ZERO,
            late_by: Duration::ZERO,
            outcome,
            output: None,
            error_text: None,
            retry_in: None,
            put_back: false,
        }
    }
}

/// A run that has not ended.
///
/// More than fifteen fields, all of them of this run alone: moving some into a struct of their own
/// would cost each run an allocation or an indirection.
pub(in crate::core) struct ActiveRun {
    id: RunId,
    job: u32,
    due: Due,
    coalesced: u64,
    on_request: bool,
    /// Counts the calls of the work, from 1.
    attempt: u32,
    phase: Phase,
    cancelled: bool,
    /// Whether `cancelled` was set because the node did not trust its lease.
    distrusted: bool,
    /// The fence of the row; zero without a row.
    fence: u64,
    /// The epoch of the lease in which the run began.
    epoch: LeaseEpoch,
    permit: Permit,
    /// The slots of limits that the run uses beyond its permit.
    slots: Slots,
    /// The options that the run was started with.
    options: Option<Arc<JobOptions>>,
    /// Fire times that run after this one, under its permit.
    backlog: VecDeque<Due>,
    preceding: Option<Arc<Preceding>>,
    /// The result of the last attempt, if there was one.
    last: Option<Box<RunResult>>,
    /// The next older and the next newer run of the same job.
    older: Option<u32>,
    newer: Option<u32>,
}

/// The phase of a run.
#[derive(Clone, Copy)]
enum Phase {
    /// A limit has no free slot.
    Waiting {
        limit: u32,
        priority: i32,
    },
    Started,
    /// The last attempt failed; the next one is due at this instant.
    BackingOff(DateTime<Utc>),
}

/// A run to be made.
pub(in crate::core) struct Submission {
    /// The number of the run, if it was returned to a caller already.
    pub(in crate::core) id: Option<RunId>,
    pub(in crate::core) due: Due,
    pub(in crate::core) coalesced: u64,
    pub(in crate::core) on_request: bool,
    /// Whether the run may have begun before, on a node that died: then it is not skipped for other
    /// runs.
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

/// The table of active runs, and their limits beyond their job.
pub(in crate::core) struct Runs {
    active: Table<ActiveRun>,
    limits: Limits,
    metrics: Metrics,
    /// The number of the last run.
    last_id: u64,
}

/// What the ledger needs to know of a run.
#[derive(Clone, Copy)]
pub(in crate::core) struct RunRow {
    pub(in crate::core) job: u32,
    pub(in crate::core) id: RunId,
    pub(in crate::core) due: Due,
    pub(in crate::core) attempt: u32,
    /// The fence of the row; zero without a row.
    pub(in crate::core) fence: u64,
    /// Whether the run was cancelled because the node did not trust its lease.
    pub(in crate::core) distrusted: bool,
}

impl Runs {
    pub(in crate::core) fn new() -> Runs {
        Runs {
            active: Table::new(),
            limits: Limits::new(),
            metrics: Metrics::default(),
            last_id: 0,
        }
    }

    pub(in crate::core) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(in crate::core) fn limits_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }

    pub(in crate::core) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(in crate::core) fn count_missed(&mut self, fire_times: u64) {
        self.metrics.missed += fire_times;
    }

    pub(in crate::core) fn count_coalesced(&mut self, fire_times: u64) {
        self.metrics.coalesced += fire_times;
    }

    pub(in crate::core) fn count_skipped(&mut self, fire_times: u64) {
        self.metrics.skipped += fire_times;
    }

    #[cfg(test)]
    pub(in crate::core) fn len(&self) -> usize {
        self.active.len()
    }

    fn get(&self, key: RunKey) -> Option<&ActiveRun> {
        self.active.get(key.slot).filter(|run| run.id == key.id)
    }

    /// Returns the active runs.
    pub(in crate::core) fn keys(&self) -> impl Iterator<Item = RunKey> + '_ {
        self.active.iter().map(|(slot, run)| RunKey { slot, id: run.id })
    }

    /// Whether a run is cancelled, or has ended.
    pub(in crate::core) fn is_cancelled(&self, key: RunKey) -> bool {
        self.get(key).is_none_or(|run| run.cancelled)
    }

    /// Returns the slot of the job of an active run.
    pub(in crate::core) fn job_of(&self, key: RunKey) -> Option<u32> {
        self.get(key).map(|run| run.job)
    }

    /// Returns what the ledger needs to know of an active run.
    pub(in crate::core) fn row(&self, key: RunKey) -> Option<RunRow> {
        self.get(key).map(ActiveRun::row)
    }

    /// Returns the runs of a job whose newest run is `newest`, the newest first.
    pub(in crate::core) fn chain(&self, newest: Option<u32>) -> Vec<u32> {
        std::iter::successors(newest, |&run| self.active[run].older).collect()
    }

    /// Returns a run, and the fire times that run after it under its permit.
    pub(in crate::core) fn with_backlog(&self, run: u32) -> (RunRow, &VecDeque<Due>) {
        let run = &self.active[run];
        (run.row(), &run.backlog)
    }

    pub(in crate::core) fn take_backlog(&mut self, run: u32) -> VecDeque<Due> {
        std::mem::take(&mut self.active[run].backlog)
    }

    /// Whether the work of a run was started and the run is not backing off.
    pub(in crate::core) fn is_started(&self, run: u32) -> bool {
        matches!(self.active[run].phase, Phase::Started)
    }

    /// Cancels a run.
    pub(in crate::core) fn cancel<P>(&mut self, run: u32, effects: &mut Effects<P>) {
        let active = &mut self.active[run];
        if !std::mem::replace(&mut active.cancelled, true) {
            effects.cancel(RunKey { slot: run, id: active.id });
        }
    }

    /// Cancels a started run because its node does not trust its lease.
    pub(in crate::core) fn cancel_distrusted<P>(&mut self, run: u32, effects: &mut Effects<P>) {
        let active = &mut self.active[run];
        if matches!(active.phase, Phase::Started) && !active.cancelled {
            active.distrusted = true;
            self.cancel(run, effects);
        }
    }

    /// Cancels runs except those in `spared`. Returns the longest cancel grace of their jobs.
    pub(in crate::core) fn cancel_all<P>(
        &mut self,
        keys: Vec<RunKey>,
        spared: &[RunKey],
        defaults: &Arc<JobOptions>,
        effects: &mut Effects<P>,
    ) -> Duration {
        let mut grace = Duration::ZERO;
        for key in keys {
            let run = &mut self.active[key.slot];
            if !run.cancelled && !spared.contains(&key) {
                run.cancelled = true;
                effects.cancel(key);
            }
            let options = run.options.as_ref().unwrap_or(defaults);
            grace = grace.max(options.cancel_grace);
        }
        grace
    }

    /// Moves the due instants of a run and of its backlog after a step of the store's clock.
    pub(in crate::core) fn shift_due(&mut self, run: u32, shifted: impl Fn(&mut Due)) {
        let run = &mut self.active[run];
        shifted(&mut run.due);
        run.backlog.iter_mut().for_each(shifted);
    }

    /// Moves the unstarted fire times of a run with the clock: its backlog, and the run itself if
    /// it waits for a limit.
    pub(in crate::core) fn shift_waiting(&mut self, run: u32, by: TimeDelta, incarnation: u64) {
        let active = &mut self.active[run];
        active.backlog.iter_mut().for_each(|due| due.shift(by));
        if let Phase::Waiting { limit, priority } = active.phase
            && !active.on_request
        {
            let old = turn(active, priority, incarnation);
            active.due.shift(by);
            let new = turn(active, priority, incarnation);
            self.limits.change_turn(limit, old, new);
        }
    }
}

impl ActiveRun {
    pub(in crate::core) fn row(&self) -> RunRow {
        let ActiveRun { id, job, due, attempt, fence, distrusted, .. } = *self;
        RunRow { job, id, due, attempt, fence, distrusted }
    }
}
