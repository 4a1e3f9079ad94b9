//! Jobs that run after another job's runs.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Build, Kind};
use crate::job::{JobId, Outcome};

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
    Build::new(Ok(Follow { job: job.into(), on: FollowOn::Success }))
}

/// Runs a job after each run of another one that failed, panicked or timed out, all its attempts
/// included; otherwise as [`after_success`].
pub fn after_failure(job: impl Into<JobId>) -> Build<Follow> {
    Build::new(Ok(Follow { job: job.into(), on: FollowOn::Failure }))
}

/// Runs a job after each run of another one, however it ended, but for runs that were missed or
/// skipped; otherwise as [`after_success`].
pub fn after_any(job: impl Into<JobId>) -> Build<Follow> {
    Build::new(Ok(Follow { job: job.into(), on: FollowOn::Any }))
}

/// A dependency on another job in place of fire times; made by [`after_success`], [`after_failure`]
/// and [`after_any`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    job: JobId,
    on: FollowOn,
}

/// Which runs are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowOn {
    /// Those that succeeded.
    Success,
    /// Those that failed, panicked or timed out.
    Failure,
    /// All that were started.
    Any,
}

impl Follow {
    /// The job that is followed.
    pub fn job(&self) -> &JobId {
        &self.job
    }

    /// Which of its runs are.
    pub fn on(&self) -> FollowOn {
        self.on
    }

    pub(super) fn new(job: JobId, on: FollowOn) -> Follow {
        Follow { job, on }
    }

    /// Whether a run that ended like this is followed.
    pub(crate) fn wants(&self, outcome: &Outcome) -> bool {
        match self.on {
            FollowOn::Success => outcome.is_success(),
            FollowOn::Failure => outcome.is_failure(),
            FollowOn::Any => outcome.has_run(),
        }
    }
}

impl FollowOn {
    pub(super) fn name(self) -> &'static str {
        match self {
            FollowOn::Success => "success",
            FollowOn::Failure => "failure",
            FollowOn::Any => "any run",
        }
    }
}

impl fmt::Display for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} of {}", self.on.name(), self.job)
    }
}

impl From<Follow> for Kind {
    fn from(follow: Follow) -> Kind {
        Kind::Follow(Box::new(follow))
    }
}
