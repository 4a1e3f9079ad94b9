//! The shutdown: which runs it waits for, for how long, and their outcomes.

use std::{fmt, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::{FOREVER, LAST_WAIT, Machine};
use crate::{
    core::{Payload, RunKey, RunResult, Start},
    job::{Outcome, Run, SkipReason},
};

/// A shutdown in progress.
pub(super) struct Shutdown {
    /// Until when runs may end by themselves, in elapsed time.
    pub(super) deadline: TimeDelta,
    /// Whether the deadline has passed and the other runs were cancelled.
    cancelling: bool,
    /// Whether the runs that did not stop were given up.
    pub(super) given_up: bool,
    /// Runs that requested the shutdown, so that it cannot wait for them.
    pub(super) callers: Vec<RunKey>,
    report: ShutdownReport,
}

impl Shutdown {
    pub(super) fn record<P>(&mut self, reports: &[(P, Run)]) {
        for (_, run) in reports {
            self.report.add(run, self.cancelling);
        }
    }
}

impl<P: Payload> Machine<P> {
    /// Begins a shutdown, or shortens the one in progress. `caller` is the run that requests it, if
    /// any.
    pub(crate) fn begin_shutdown(
        &mut self,
        within: Duration,
        caller: Option<RunKey>,
        elapsed: TimeDelta,
        now: DateTime<Utc>,
    ) {
        self.core.close(now);
        let deadline = after(elapsed, within);
        let shutdown = self.shutdown.get_or_insert_with(|| Shutdown {
            deadline,
            cancelling: false,
            given_up: false,
            callers: Vec::new(),
            report: ShutdownReport::default(),
        });
        if !shutdown.cancelling {
            shutdown.deadline = shutdown.deadline.min(deadline);
        }
        shutdown.callers.extend(caller);
    }

    /// Handles the end of a deadline: the one for runs to end by themselves, or the one for
    /// cancelled runs to be dropped.
    pub(crate) fn end_patience(&mut self, elapsed: TimeDelta, now: DateTime<Utc>) {
        let Some(shutdown) = self.shutdown.as_mut().filter(|it| elapsed >= it.deadline) else {
            return;
        };
        if !shutdown.cancelling {
            shutdown.cancelling = true;
            let grace = self.core.cancel_all(&shutdown.callers);
            shutdown.deadline = after(elapsed, grace.min(FOREVER) + LAST_WAIT);
            return;
        }
        shutdown.given_up = true;
        let callers = &shutdown.callers;
        let active = self.core.active_runs().filter(|run| !callers.contains(run)).collect();
        self.abandon(active, now);
    }

    /// Ends the scheduler: nothing starts any more. Returns the runs that the shell had not
    /// started, which may own user values.
    pub(crate) fn stop(&mut self, now: DateTime<Utc>) -> Vec<Start<P>> {
        self.core.close(now);
        let starts = std::mem::take(&mut self.core.outbox().starts);
        for start in &starts {
            let skipped = Outcome::Skipped(SkipReason::Shutdown);
            self.core.finish(start.run, RunResult::without_work(skipped, now), now);
        }
        self.note_stop(now);
        starts
    }

    /// Returns until when the shutdown in progress lets runs end by themselves, in elapsed time.
    #[cfg(feature = "standalone")]
    pub(crate) fn shutdown_deadline(&self) -> Option<TimeDelta> {
        self.shutdown.as_ref().map(|shutdown| shutdown.deadline)
    }

    /// Returns the outcomes of the shutdown in progress so far.
    pub(crate) fn shutdown_report(&self) -> ShutdownReport {
        self.shutdown.as_ref().map(|shutdown| shutdown.report.clone()).unwrap_or_default()
    }
}

fn after(elapsed: TimeDelta, wait: Duration) -> TimeDelta {
    let wait = TimeDelta::from_std(wait.min(FOREVER)).unwrap_or(TimeDelta::MAX);
    elapsed.checked_add(&wait).unwrap_or(TimeDelta::MAX)
}

/// The outcomes of the runs that were active or waiting when a shutdown began.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Runs that finished by themselves within the limit.
    pub finished: Vec<Run>,
    /// Runs that finished after they were cancelled.
    pub cancelled: Vec<Run>,
    /// Runs that did not finish after they were cancelled, and were dropped.
    pub dropped: Vec<Run>,
    /// Runs that could not be dropped and may still be active.
    pub abandoned: Vec<Run>,
    /// Runs that had not started, and were skipped.
    pub not_started: Vec<Run>,
}

impl ShutdownReport {
    /// Whether every active run finished.
    pub fn is_clean(&self) -> bool {
        self.dropped.is_empty() && self.abandoned.is_empty()
    }

    pub(crate) fn add(&mut self, run: &Run, cancelling: bool) {
        let kind = match run.outcome {
            Outcome::Cancelled => &mut self.dropped,
            Outcome::Abandoned => &mut self.abandoned,
            Outcome::Missed | Outcome::Skipped(_) => &mut self.not_started,
            _ if cancelling => &mut self.cancelled,
            _ => &mut self.finished,
        };
        kind.push(run.clone());
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} finished, {} cancelled, {} dropped, {} abandoned, {} not started",
            self.finished.len(),
            self.cancelled.len(),
            self.dropped.len(),
            self.abandoned.len(),
            self.not_started.len()
        )
    }
}
