//! The part of a run's context that gives access to its job and its scheduler.

use super::{Job, Scheduler};
use crate::task::Context;

impl Context {
    /// Returns a handle on the job of this run, to change, pause or remove it. After the end of
    /// this run the handle refers to the current job with the id.
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

    /// Returns the scheduler, to add, change or remove jobs, including this one.
    ///
    /// The returned scheduler does not keep the scheduler open. In a process of a pool, all its
    /// methods return an error.
    pub fn scheduler(&self) -> Scheduler {
        Scheduler::borrowed(self.shared.clone())
    }
}
