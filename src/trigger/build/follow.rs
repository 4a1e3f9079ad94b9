//! Jobs that run after the runs of other jobs.

use super::Build;
use crate::{
    id::JobId,
    trigger::kinds::{Follow, FollowOn},
};

/// Runs a job after each run of another one that succeeded.
///
/// The run bears the fire time of the run that it follows, and can see that one, with what it
/// returned, in [`Context::preceding`](crate::Context::preceding). Such a job has no fire times of
/// its own and takes no bounds. It ends when the other job has ended, after its own last run;
/// if that is replaced, it follows the new one.
///
/// ```
/// use std::time::Duration;
/// use punctual::{BoxError, Context, Scheduler, trigger::{after, after_success}};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// let scheduler = Scheduler::new();
/// let extract = scheduler
///     .add(after(Duration::from_secs(1)), || async { Ok::<u32, BoxError>(17) })
///     .await?;
/// let load = scheduler
///     .add(after_success(&extract), |cx: Context| async move {
///         let rows = cx.preceding().and_then(|run| run.output::<u32>());
///         assert_eq!(rows, Some(&17));
///     })
///     .await?;
/// load.await;
/// # Ok(()) }
/// ```
pub fn after_success(job: impl Into<JobId>) -> Build<Follow> {
    Build::new(Follow::new([job.into()], FollowOn::Success))
}

/// Runs a job after each run of another one that failed, panicked or timed out, all its attempts
/// included; otherwise as [`after_success`].
pub fn after_failure(job: impl Into<JobId>) -> Build<Follow> {
    Build::new(Follow::new([job.into()], FollowOn::Failure))
}

/// Runs a job after each run of another one, however it ended, but for runs that were missed or
/// skipped; otherwise as [`after_success`].
pub fn after_any(job: impl Into<JobId>) -> Build<Follow> {
    Build::new(Follow::new([job.into()], FollowOn::Any))
}

/// Runs a job when each of several others has succeeded since its last run: otherwise as
/// [`after_success`].
///
/// The success that completes the set starts the run, with its fire time, and is what
/// [`Context::preceding`](crate::Context::preceding) answers;
/// [`preceding_of`](crate::Context::preceding_of) has the latest success of each of them. Then the set
/// starts afresh, also if that run is skipped, as it is while the job is paused or runs. Several
/// successes of one job count once, and a later failure does not take them back. The job ends, after its
/// own last run, when one of the others has ended whose success it still waits for. In memory only.
///
/// ```
/// use std::time::Duration;
/// use punctual::{BoxError, Context, Scheduler, trigger::{after, after_all}};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// let scheduler = Scheduler::new();
/// let second = Duration::from_secs(1);
/// let orders = scheduler.add(after(second), || async { Ok::<u32, BoxError>(17) }).await?;
/// let prices = scheduler.add(after(2 * second), || async { Ok::<f64, BoxError>(0.5) }).await?;
/// let (first, last) = (orders.id().clone(), prices.id().clone());
/// let report = scheduler
///     .add(after_all([&orders, &prices]), move |cx: Context| async move {
///         let orders = cx.preceding_of(&first).and_then(|run| run.output::<u32>());
///         let prices = cx.preceding_of(&last).and_then(|run| run.output::<f64>());
///         assert_eq!((orders, prices), (Some(&17), Some(&0.5)));
///     })
///     .await?;
/// report.await;
/// # Ok(()) }
/// ```
pub fn after_all<J: Into<JobId>>(jobs: impl IntoIterator<Item = J>) -> Build<Follow> {
    Build::new(Follow::new(jobs.into_iter().map(Into::into), FollowOn::Success))
}
