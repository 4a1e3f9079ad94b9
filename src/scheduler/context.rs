//! What a run can do with its job and its scheduler.

use super::{Job, Scheduler};
use crate::task::Context;

impl Context {
    /// The job itself, to change, pause or remove it. Once this run has ended it means whichever job has
    /// the id.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use punctual::{Context, Error, Scheduler, trigger::every};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// # let scheduler = Scheduler::new();
    /// let poll = |cx: Context| async move {
    ///     // Nothing is left to poll: no further run.
    ///     cx.job().remove().await
    /// };
    /// scheduler.add(every(Duration::from_secs(1)), poll).await?.await;
    /// # Ok(()) }
    /// ```
    pub fn job(&self) -> Job {
        Job::of_run(self.shared.clone(), self.job.clone(), self.run)
    }

    /// The scheduler, to add, change or remove jobs, this one included. It does not keep the
    /// scheduler from shutting down when its last owner drops it. In a process of a pool there is none,
    /// and whatever it is asked it refuses.
    pub fn scheduler(&self) -> Scheduler {
        Scheduler::borrowed(self.shared.clone())
    }
}
