//! Where runs execute. An executor knows work and its supervisor, and nothing of jobs.

pub(crate) mod task;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::job::Outcome;

/// Who watches over one run. If it is dropped without an outcome, the run was cancelled.
pub(crate) trait Supervisor: Send + 'static {
    /// Whether the run may start now. If not, it is over.
    fn start(&mut self) -> bool;

    /// Polls the work, so that what it calls knows which run it is.
    fn poll<T>(&self, poll: impl FnOnce() -> T) -> T;

    /// Cancelled when the run is asked to stop. It is asked for only by runs that take time.
    fn cancelled(&self) -> CancellationToken;

    /// How long the work may go on after that.
    fn cancel_grace(&self) -> Duration;

    fn finish(self, outcome: Outcome);
}
