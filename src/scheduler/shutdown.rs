//! Shutting down: what is waited for, and what became of it.

use std::{fmt, future::IntoFuture, pin::Pin, sync::Arc, time::Duration};

use crate::{
    driver::{RunGuard, Shared},
    job::{Outcome, Run},
};

/// A shutdown that begins when it is awaited.
///
/// 1. No new run starts; what has come due is skipped, and says so.
/// 2. Going runs may end by themselves, [`within`](Shutdown::within) 30 s by default.
/// 3. The rest are cancelled, and dropped after their job's `cancel_grace`.
/// 4. What can't be dropped, since it blocks its thread, is abandoned a second later.
///
/// A run that shuts its own scheduler down is not waited for, as long as it does so in its own task
/// and not in one that it spawned. If several ask, the shortest time
/// counts and all get the same report.
///
/// # Cancel safety
///
/// Dropping the future leaves the shutdown going.
#[must_use = "a shutdown begins when it is awaited"]
pub struct Shutdown {
    shared: Arc<Shared>,
    within: Duration,
}

impl Shutdown {
    pub(super) fn new(shared: Arc<Shared>) -> Shutdown {
        Shutdown { shared, within: Duration::from_secs(30) }
    }

    /// Sets how long going runs may take to end by themselves. Default: 30 s.
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
            shared.with(|state, _| {
                state.shutdown.as_ref().map(|shutdown| shutdown.report.clone()).unwrap_or_default()
            })
        })
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown").field("within", &self.within).finish_non_exhaustive()
    }
}

/// What became of the runs that were going when a shutdown began.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// They ended by themselves in time.
    pub finished: Vec<Run>,
    /// They ended by themselves after they were asked to stop.
    pub cancelled: Vec<Run>,
    /// They did not, and were dropped.
    pub dropped: Vec<Run>,
    /// They could not be dropped, and may still be going.
    pub abandoned: Vec<Run>,
    /// They had not started, and did not.
    pub called_off: Vec<Run>,
}

impl ShutdownReport {
    /// Whether every run that was going ended by itself.
    pub fn is_clean(&self) -> bool {
        self.dropped.is_empty() && self.abandoned.is_empty()
    }

    pub(crate) fn add(&mut self, run: &Run, cancelling: bool) {
        let kind = match run.outcome {
            Outcome::Cancelled => &mut self.dropped,
            Outcome::Abandoned => &mut self.abandoned,
            Outcome::Missed | Outcome::Skipped(_) => &mut self.called_off,
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
            "{} finished, {} cancelled, {} dropped, {} abandoned, {} called off",
            self.finished.len(),
            self.cancelled.len(),
            self.dropped.len(),
            self.abandoned.len(),
            self.called_off.len()
        )
    }
}
