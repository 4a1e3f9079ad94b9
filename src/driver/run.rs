//! A run's link to the scheduler: whether it may start, and its one outcome, come what may.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Span, field::display};

use super::{Entry, shared::Shared};
use crate::{
    core::{Candidate, Lease, RunKey, RunResult, Start, Verdict, mix},
    executor::Supervisor,
    job::{JobOptions, Outcome, Output, SkipReason},
    panic::{line, message, text},
    task::Context,
    trigger::rfc3339,
};

thread_local! {
    /// The run whose work is being polled on this thread, and the scheduler it belongs to.
    static CURRENT: Cell<Option<(*const Shared, RunKey)>> = const { Cell::new(None) };
}

/// Owned by the run's future: whatever becomes of that, the outcome is reported once, when this is
/// dropped, and the permit given back.
pub(crate) struct RunGuard {
    start: Start<Arc<dyn Entry>>,
    /// In a box, since it is there only if somebody traces.
    span: Option<Box<Span>>,
    /// When it was judged whether to call the work.
    judged_at: Option<DateTime<Utc>>,
    /// When the work was called, if it was.
    called_at: Option<Instant>,
    outcome: Option<Outcome>,
    output: Option<Output>,
    /// Whether it is to be tried again when the node is trusted again.
    put_back: bool,
}

impl RunGuard {
    pub(super) fn new(start: Start<Arc<dyn Entry>>) -> RunGuard {
        RunGuard {
            start,
            span: None,
            judged_at: None,
            called_at: None,
            outcome: None,
            output: None,
            put_back: false,
        }
    }

    pub(crate) fn context(&self) -> Context {
        Context {
            shared: self.shared().clone(),
            run: self.start.run,
            job: self.start.job.clone(),
            fire_time: self.start.fire_time,
            late_by: self.late_by(),
            coalesced: self.start.coalesced,
            on_request: self.start.on_request,
            attempt: self.start.attempt,
            fence: self.start.fence,
            preceding: self.start.preceding.clone(),
            #[cfg(feature = "process")]
            stop: None,
        }
    }

    /// Whether anybody wants what the work returns.
    pub(crate) fn wants_output(&self) -> bool {
        self.start.payload.state().wants_output()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.start.payload.state().shared
    }

    fn options(&self) -> &JobOptions {
        self.start.options.as_ref().unwrap_or(&self.shared().defaults)
    }

    /// The lease that it goes by, if its job is durable.
    fn lease(&self) -> Option<&Lease> {
        self.start.lease.as_deref()
    }

    fn is_trusted(&self) -> bool {
        self.lease().is_none_or(|lease| lease.is_trusted(self.shared().clock.read()))
    }

    /// How much later than due it was judged.
    fn late_by(&self) -> Duration {
        // Negative if the clock stepped back: then it is not late.
        self.judged_at.and_then(|at| (at - self.start.due).to_std().ok()).unwrap_or_default()
    }

    /// How a run that could start ends instead, by the user's own condition.
    fn unwanted(&self) -> Option<Outcome> {
        let condition = self.options().condition.as_ref().filter(|_| !self.start.on_request)?;
        let holds = || self.poll(|| condition.holds());
        match catch_unwind(AssertUnwindSafe(holds)) {
            Ok(true) => None,
            Ok(false) => Some(Outcome::Skipped(SkipReason::Condition)),
            Err(panic) => Some(Outcome::Panicked(message(panic))),
        }
    }

    /// The text of an error, if the job keeps a history.
    fn said(&self, outcome: &Outcome) -> Option<Arc<str>> {
        match outcome {
            Outcome::Failed(error) if self.options().history > 0 => Some(text(error).into()),
            _ => None,
        }
    }

    /// How long until the work is to be called again, if it is.
    fn retry_in(&self, outcome: &Outcome) -> Option<Duration> {
        let retry = self.options().retry.as_ref()?;
        if !self.start.payload.is_repeatable() {
            return None;
        }
        let seed = mix(self.start.job.stable_hash()).wrapping_add(self.start.run.id.0);
        // Whether it is worth it may be the user's to say.
        let delay = || retry.delay_after(self.start.attempt, outcome, seed);
        catch_unwind(AssertUnwindSafe(delay)).unwrap_or_else(|panic| {
            let (job, run) = (display(&self.start.job), display(self.start.run.id));
            let message = line(&message(panic));
            tracing::error!(target: "punctual", job, run, "a retry's condition panicked: {message}");
            None
        })
    }

    /// The run of this scheduler that is calling, if one is.
    pub(crate) fn current(shared: &Arc<Shared>) -> Option<RunKey> {
        let (scheduler, run) = CURRENT.get()?;
        (scheduler == Arc::as_ptr(shared)).then_some(run)
    }
}

impl Supervisor for RunGuard {
    fn start(&mut self) -> bool {
        let now = self.shared().clock.now_cached();
        self.judged_at = Some(now);
        let Start { run, on_request, attempt, life, .. } = self.start;
        let is = self.lease().map(|lease| lease.life());
        let candidate = Candidate {
            standing: self.start.payload.state().standing(),
            on_request,
            attempt,
            // A first attempt sees by itself that it was asked to stop.
            cancelled: attempt > 1 && self.shared().is_cancelled(run),
            late_by: self.late_by(),
            grace: self.options().grace(),
            trusted: self.is_trusted(),
            distrusted: is.is_some_and(|is| is.lapses != life.lapses),
            lost: is.is_some_and(|is| is.deaths != life.deaths),
        };
        match candidate.judge() {
            Verdict::Start => self.outcome = self.unwanted(),
            Verdict::Refuse(outcome) => self.outcome = Some(outcome),
            Verdict::PutBack => {
                self.put_back = true;
                self.outcome = Some(Outcome::Abandoned);
            }
        }
        if self.outcome.is_some() {
            return false;
        }
        self.called_at = Some(Instant::now());
        let span = tracing::debug_span!(
            target: "punctual",
            "run",
            job = %self.start.job,
            run = %self.start.run.id,
            fire_time = %rfc3339(self.start.fire_time),
            late_by = ?self.late_by(),
            outcome = tracing::field::Empty,
        );
        self.span = (!span.is_disabled()).then(|| Box::new(span));
        true
    }

    fn poll<T>(&self, poll: impl FnOnce() -> T) -> T {
        struct Restore(Option<(*const Shared, RunKey)>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let current = (Arc::as_ptr(self.shared()), self.start.run);
        let _restore = Restore(CURRENT.replace(Some(current)));
        match &self.span {
            Some(span) => span.in_scope(poll),
            None => poll(),
        }
    }

    fn cancelled(&self) -> CancellationToken {
        self.shared().run_token(self.start.run)
    }

    fn cancel_grace(&self) -> Duration {
        let grace = self.options().cancel_grace;
        match self.lease() {
            // It must have ended when the store takes the node for dead.
            Some(lease) => grace.min(lease.grace(self.shared().clock.read())),
            None => grace,
        }
    }

    fn timeout(&self) -> Option<Duration> {
        self.options().timeout
    }

    fn finish(mut self, outcome: Outcome, output: Option<Output>) {
        self.outcome = Some(outcome);
        self.output = output;
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        // Without an outcome the future was dropped: by its runtime, or while unwinding from a
        // destructor of the work.
        let outcome = self.outcome.take().unwrap_or_else(|| {
            if std::thread::panicking() {
                Outcome::Panicked("the work panicked while it was dropped".into())
            } else {
                Outcome::Cancelled
            }
        });
        if let Some(span) = &self.span {
            span.record("outcome", display(line(&outcome)));
        }
        let took = self.called_at.map_or(Duration::ZERO, |called_at| called_at.elapsed());
        let judged_at = self.judged_at.unwrap_or_else(|| self.shared().clock.now());
        let finish = RunResult {
            started_at: self.called_at.and(self.judged_at),
            ended_at: judged_at.checked_add_signed(delta(took)).unwrap_or(judged_at),
            took,
            late_by: self.late_by(),
            said: self.said(&outcome),
            retry_in: self.retry_in(&outcome),
            outcome,
            output: self.output.take(),
            put_back: self.put_back,
        };
        self.shared().finish(self.start.run, finish);
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
