//! A run's link to the scheduler: whether it may start, and its one outcome, come what may.

use std::{cell::Cell, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Span, field::display};

use super::shared::Shared;
use crate::{
    core::{Finish, RunKey, Start, refusal},
    executor::Supervisor,
    job::Outcome,
    panic::text,
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
    shared: Arc<Shared>,
    start: Start<Arc<dyn super::Entry>>,
    span: Span,
    started_at: Option<DateTime<Utc>>,
    called_at: Instant,
    late_by: Duration,
    outcome: Option<Outcome>,
}

impl RunGuard {
    pub(super) fn new(shared: Arc<Shared>, start: Start<Arc<dyn super::Entry>>) -> RunGuard {
        RunGuard {
            shared,
            start,
            span: Span::none(),
            started_at: None,
            called_at: Instant::now(),
            late_by: Duration::ZERO,
            outcome: None,
        }
    }

    pub(crate) fn context(&self) -> Context {
        Context {
            shared: self.shared.clone(),
            run: self.start.run,
            job: self.start.job.clone(),
            fire_time: self.start.fire_time,
            late_by: self.late_by,
            coalesced: self.start.coalesced,
            on_request: self.start.on_request,
        }
    }

    /// The run of this scheduler that is calling, if one is.
    pub(crate) fn current(shared: &Arc<Shared>) -> Option<RunKey> {
        let (scheduler, run) = CURRENT.get()?;
        (scheduler == Arc::as_ptr(shared)).then_some(run)
    }
}

impl Supervisor for RunGuard {
    fn start(&mut self) -> bool {
        let now = self.shared.clock.now();
        self.called_at = Instant::now();
        // Negative if the clock stepped back: then it is not late.
        self.late_by = (now - self.start.due).to_std().unwrap_or_default();
        let grace = self.start.options.misfire_grace_time;
        let standing = self.start.payload.state().standing();
        self.outcome = refusal(standing, self.start.on_request, self.late_by, grace);
        if self.outcome.is_some() {
            return false;
        }
        self.started_at = Some(now);
        self.span = tracing::debug_span!(
            target: "punctual",
            "run",
            job = %self.start.job,
            run = %self.start.run.id,
            fire_time = %rfc3339(self.start.fire_time),
            late_by = ?self.late_by,
            outcome = tracing::field::Empty,
        );
        true
    }

    fn poll<T>(&self, poll: impl FnOnce() -> T) -> T {
        struct Restore(Option<(*const Shared, RunKey)>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let current = (Arc::as_ptr(&self.shared), self.start.run);
        let _restore = Restore(CURRENT.replace(Some(current)));
        self.span.in_scope(poll)
    }

    fn cancelled(&self) -> CancellationToken {
        self.shared.run_token(self.start.run)
    }

    fn cancel_grace(&self) -> Duration {
        self.start.options.cancel_grace
    }

    fn finish(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
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
        if !self.span.is_disabled() {
            self.span.record("outcome", display(text(&outcome)));
        }
        let (started_at, late_by) = (self.started_at, self.late_by);
        let took = started_at.map_or(Duration::ZERO, |_| self.called_at.elapsed());
        let finish = Finish { started_at, took, late_by, outcome };
        self.shared.finish(self.start.run, finish);
    }
}
