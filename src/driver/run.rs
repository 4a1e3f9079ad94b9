//! A run's link to the scheduler: whether it may start, and its one outcome in any case.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Span, field::display};

use super::{Entry, shared::Shared};
use crate::{
    core::{Attempt, Ending, RunKey, Start},
    executor::Supervisor,
    job::{JobOptions, Outcome, Output, SkipReason},
    panic::{line, message},
    task::Context,
    trigger::rfc3339,
};

thread_local! {
    /// The run whose work is being polled on this thread, and its scheduler.
    static CURRENT: Cell<Option<(*const Shared, RunKey)>> = const { Cell::new(None) };
}

/// Owned by the run's future. Whatever happens to the future, dropping the guard reports the
/// outcome once and returns the permit.
pub(crate) struct RunGuard {
    attempt: Attempt<Arc<dyn Entry>>,
    /// Boxed, since it exists only with tracing.
    span: Option<Box<Span>>,
    /// When the work was called, if it was.
    called_at: Option<Instant>,
    outcome: Option<Outcome>,
    output: Option<Output>,
}

impl RunGuard {
    pub(super) fn new(start: Start<Arc<dyn Entry>>) -> RunGuard {
        RunGuard {
            attempt: Attempt::new(start),
            span: None,
            called_at: None,
            outcome: None,
            output: None,
        }
    }

    pub(crate) fn context(&self) -> Context {
        let start = self.run();
        Context {
            shared: self.shared().clone(),
            run: start.run,
            job: start.job.clone(),
            fire_time: start.fire_time,
            late_by: self.attempt.late_by(),
            coalesced: start.coalesced,
            on_request: start.on_request,
            attempt: start.attempt,
            fence: start.fence,
            preceding: start.preceding.clone(),
            #[cfg(feature = "process")]
            stop: None,
        }
    }

    /// Whether the output of the work has any receivers.
    pub(crate) fn wants_output(&self) -> bool {
        self.run().payload.state().wants_output()
    }

    fn run(&self) -> &Start<Arc<dyn Entry>> {
        &self.attempt.start
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.run().payload.state().shared
    }

    fn options(&self) -> &JobOptions {
        self.attempt.options(&self.shared().defaults)
    }

    /// Returns the outcome of a run that the user's condition keeps from starting.
    fn unwanted(&self) -> Option<Outcome> {
        let condition = self.options().condition.as_ref().filter(|_| !self.run().on_request)?;
        let holds = || self.poll(|| condition.holds());
        match catch_unwind(AssertUnwindSafe(holds)) {
            Ok(true) => None,
            Ok(false) => Some(Outcome::Skipped(SkipReason::Condition)),
            Err(panic) => Some(Outcome::Panicked(message(panic))),
        }
    }

    /// Returns how long until the work is called again, if it is.
    fn retry_in(&self, outcome: &Outcome) -> Option<Duration> {
        if self.options().retry.is_none() || !self.run().payload.is_repeatable() {
            return None;
        }
        // The retry condition may be user code.
        let delay = || self.attempt.retry_in(self.options(), outcome);
        catch_unwind(AssertUnwindSafe(delay)).unwrap_or_else(|panic| {
            let (job, run) = (display(&self.run().job), display(self.run().run.id));
            let message = line(&message(panic));
            tracing::error!(target: "punctual", job, run, "a retry's condition panicked: {message}");
            None
        })
    }

    /// Returns the run of this scheduler that is calling, if any.
    pub(crate) fn current(shared: &Arc<Shared>) -> Option<RunKey> {
        let (scheduler, run) = CURRENT.get()?;
        (scheduler == Arc::as_ptr(shared)).then_some(run)
    }
}

impl Supervisor for RunGuard {
    fn start(&mut self) -> bool {
        let (shared, run) = (self.shared(), self.run().run);
        let standing = self.run().payload.state().standing();
        let (now, grace) = (shared.clock.now_cached(), self.options().grace());
        let is_cancelled = || shared.is_cancelled(run);
        let verdict =
            self.attempt.judge(now, standing, grace, is_cancelled, || shared.clock.read());
        self.outcome = self.attempt.judged(now, verdict).or_else(|| self.unwanted());
        if self.outcome.is_some() {
            return false;
        }
        self.called_at = Some(Instant::now());
        let span = tracing::debug_span!(
            target: "punctual",
            "run",
            job = %self.run().job,
            run = %self.run().run.id,
            fire_time = %rfc3339(self.run().fire_time),
            late_by = ?self.attempt.late_by(),
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
        let current = (Arc::as_ptr(self.shared()), self.run().run);
        let _restore = Restore(CURRENT.replace(Some(current)));
        match &self.span {
            Some(span) => span.in_scope(poll),
            None => poll(),
        }
    }

    fn cancelled(&self) -> CancellationToken {
        self.shared().run_token(self.run().run)
    }

    fn cancel_grace(&self) -> Duration {
        self.attempt.cancel_grace(self.options(), || self.shared().clock.read())
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
        // Without an outcome, the future was dropped: by its runtime, or while unwinding from a
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
        let ending = Ending {
            retry_in: self.retry_in(&outcome),
            outcome,
            output: self.output.take(),
            took: self.called_at.map(|called_at| called_at.elapsed()),
        };
        let shared = self.shared();
        let result = self.attempt.result(ending, self.options(), || shared.clock.now());
        shared.finish(self.run().run, result);
    }
}
