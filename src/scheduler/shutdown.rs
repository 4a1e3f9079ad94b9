//! Shutting down, and the report of its runs.

use std::{fmt, future::IntoFuture, pin::Pin, sync::Arc, time::Duration};

use crate::{
    core::ShutdownReport,
    driver::{RunGuard, Shared},
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
