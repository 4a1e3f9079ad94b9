//! One attempt of a run: whether its work is called, and the result that it ends with.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    clock::Reading,
    core::{Candidate, Lease, RunResult, Start, Verdict, mix},
    job::{JobOptions, Outcome, Output, SkipReason},
    panic::text,
};

/// A started run, up to its result.
pub(crate) struct Attempt<P> {
    pub(crate) start: Start<P>,
    /// When it was decided whether to call the work.
    judged_at: Option<DateTime<Utc>>,
    /// Whether the attempt is repeated once the node trusts its lease again.
    put_back: bool,
}

/// How an attempt ended.
pub(crate) struct Ending {
    pub(crate) outcome: Outcome,
    pub(crate) output: Option<Output>,
    /// How long the work took; `None` if it was not called.
    pub(crate) took: Option<Duration>,
    /// How long until the work is called again, if it is.
    pub(crate) retry_in: Option<Duration>,
}

impl<P> Attempt<P> {
    pub(crate) fn new(start: Start<P>) -> Attempt<P> {
        Attempt { start, judged_at: None, put_back: false }
    }

    /// Returns the options of the run; `defaults` are the scheduler's.
    pub(crate) fn options<'a>(&'a self, defaults: &'a JobOptions) -> &'a JobOptions {
        self.start.options.as_deref().unwrap_or(defaults)
    }

    /// Returns the lease that the run depends on, if its job is durable.
    fn lease(&self) -> Option<&Lease> {
        self.start.lease.as_deref()
    }

    /// Returns how late the run was judged. Zero if the clock was set back since.
    pub(crate) fn late_by(&self) -> Duration {
        self.judged_at.map(|at| self.late_at(at)).unwrap_or_default()
    }

    fn late_at(&self, now: DateTime<Utc>) -> Duration {
        (now - self.start.due).to_std().unwrap_or_default()
    }

    /// Decides whether the work may be called. `standing` is the reason why the job's runs are
    /// called off, if they are. `is_cancelled` is called only between two attempts, since a first
    /// attempt checks by itself whether it is cancelled.
    pub(crate) fn judge(
        &self,
        now: DateTime<Utc>,
        standing: Option<SkipReason>,
        grace: Option<Duration>,
        is_cancelled: impl FnOnce() -> bool,
        read_clocks: impl FnOnce() -> Reading,
    ) -> Verdict {
        let Start { on_request, attempt, epoch, .. } = self.start;
        let is = self.lease().map(Lease::epoch);
        let candidate = Candidate {
            standing,
            on_request,
            attempt,
            cancelled: attempt > 1 && is_cancelled(),
            late_by: self.late_at(now),
            grace,
            trusted: self.lease().is_none_or(|lease| lease.is_trusted(read_clocks())),
            distrusted: is.is_some_and(|is| is.lapses != epoch.lapses),
            lost: is.is_some_and(|is| is.expiries != epoch.expiries),
        };
        candidate.judge()
    }

    /// Keeps the verdict of `now`. Returns the outcome of the run if its work may not be called.
    pub(crate) fn judged(&mut self, now: DateTime<Utc>, verdict: Verdict) -> Option<Outcome> {
        self.judged_at = Some(now);
        match verdict {
            Verdict::Start => None,
            Verdict::Refuse(outcome) => Some(outcome),
            Verdict::PutBack => {
                self.put_back = true;
                Some(Outcome::Abandoned)
            }
        }
    }

    /// Returns how long the work may continue after it was cancelled: it must end before the store
    /// expires the node.
    pub(crate) fn cancel_grace(
        &self,
        options: &JobOptions,
        read_clocks: impl FnOnce() -> Reading,
    ) -> Duration {
        let grace = options.cancel_grace;
        self.lease().map_or(grace, |lease| grace.min(lease.grace(read_clocks())))
    }

    /// Returns how long until the work is called again after this outcome, if it is. Calls the
    /// user's retry condition.
    pub(crate) fn retry_in(&self, options: &JobOptions, outcome: &Outcome) -> Option<Duration> {
        let seed = mix(self.start.job.stable_hash()).wrapping_add(self.start.run.id.0);
        options.retry.as_ref()?.delay_after(self.start.attempt, outcome, seed)
    }

    /// Returns the result of the run. `read_wall` returns the end of a run that was not judged.
    pub(crate) fn result(
        &self,
        ending: Ending,
        options: &JobOptions,
        read_wall: impl FnOnce() -> DateTime<Utc>,
    ) -> RunResult {
        let Ending { outcome, output, took, retry_in } = ending;
        let judged_at = self.judged_at.unwrap_or_else(read_wall);
        let started_at = took.and(self.judged_at);
        let took = took.unwrap_or_default();
        let ran_for = TimeDelta::from_std(took).unwrap_or(TimeDelta::MAX);
        RunResult {
            started_at,
            ended_at: judged_at.checked_add_signed(ran_for).unwrap_or(judged_at),
            took,
            late_by: self.late_by(),
            error_text: error_text(&outcome, options),
            retry_in,
            outcome,
            output,
            put_back: self.put_back,
        }
    }
}

/// Returns the text of an error, if the job keeps a history.
fn error_text(outcome: &Outcome, options: &JobOptions) -> Option<Arc<str>> {
    match outcome {
        Outcome::Failed(error) if options.history > 0 => Some(text(error).into()),
        _ => None,
    }
}
