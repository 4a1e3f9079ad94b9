//! Shutting down, and the report of its runs.

use std::{fmt, future::IntoFuture, pin::Pin, sync::Arc, time::Duration};

use crate::{
    driver::{RunGuard, Shared},
    job::{Outcome, Run},
};

/// A shutdown of the scheduler, which begins when it is awaited.
///
/// 1. No new run starts; due fire times are skipped, with an event each.
/// 2. Active runs may finish by themselves, [`within`](Shutdown::within) 30 s by default.
/// 3. The remaining runs are cancelled, and dropped after their job's `cancel_grace`.
/// 4. Runs that cannot be dropped, since they block their thread, are abandoned one second later.
///
/// A run that shuts down its own scheduler is not waited for, if it does so in its own task and not
/// in a spawned one. After several calls, the shortest limit applies, and all calls return the same
/// report.
///
/// # Cancel safety
///
/// Dropping the future does not stop the shutdown.
#[must_use = "a shutdown begins when it is awaited"]
pub struct Shutdown {
    shared: Arc<Shared>,
    within: Duration,
}

impl Shutdown {
    pub(super) fn new(shared: Arc<Shared>) -> Shutdown {
        Shutdown { shared, within: Duration::from_secs(30) }
    }

    /// Sets how long active runs may take to finish by themselves. Default: 30 s.
    pub fn within(mut self, wait: Duration) -> Shutdown {
        self.within = wait;
        self
    }
}

impl IntoFuture for Shutdown {
    type Output = ShutdownReport;
    type IntoFuture = Pin<Box<dyn Future<Output = ShutdownReport> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Shutdown { shared, within } = self;
            let caller = RunGuard::current(&shared);
            shared.begin_shutdown(within, caller);
            if shared.runtime().is_ok() {
                shared.stopped.cancelled().await;
            }
            shared.shutdown_report()
        })
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("within", &self.within).finish_non_exhaustive()
    }
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
