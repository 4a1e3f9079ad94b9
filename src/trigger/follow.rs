//! Jobs that run after another job's runs.

use std::{collections::HashSet, fmt};

use serde::{Deserialize, Serialize};

use super::{Build, Kind, cron::one_line};
use crate::{error::Error, id::JobId, outcome::Outcome};

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

/// A dependency on other jobs in place of fire times; made by [`after_success`], [`after_failure`],
/// [`after_any`] and [`after_all`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Repr", into = "Repr")]
pub struct Follow {
    /// One at least, each once.
    jobs: Vec<JobId>,
    on: FollowOn,
}

/// A dependency as it is written: of one job as `job`, of several as `jobs`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repr {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job: Option<JobId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    jobs: Vec<JobId>,
    on: FollowOn,
}

impl TryFrom<Repr> for Follow {
    type Error = Error;

    fn try_from(Repr { job, jobs, on }: Repr) -> Result<Follow, Error> {
        Follow::new(job.into_iter().chain(jobs), on)
    }
}

impl From<Follow> for Repr {
    fn from(Follow { mut jobs, on }: Follow) -> Repr {
        let job = if jobs.len() == 1 { jobs.pop() } else { None };
        Repr { job, jobs, on }
    }
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
    /// The jobs that are followed: if they are several, a run of each of them is waited for.
    pub fn jobs(&self) -> &[JobId] {
        &self.jobs
    }

    /// Which of their runs are.
    pub fn on(&self) -> FollowOn {
        self.on
    }

    pub(super) fn new(
        jobs: impl IntoIterator<Item = JobId>,
        on: FollowOn,
    ) -> Result<Follow, Error> {
        let mut seen = HashSet::new();
        let jobs: Vec<JobId> = jobs.into_iter().filter(|job| seen.insert(job.clone())).collect();
        match jobs.is_empty() {
            true => Err(Error::invalid_trigger(
                "a trigger that follows no job would never fire: name one or more",
            )),
            false if jobs.len() > 1 && on != FollowOn::Success => Err(Error::invalid_trigger(
                "of several jobs only successes can be followed: use a job of its own for each of them",
            )),
            false => Ok(Follow { jobs, on }),
        }
    }

    /// Reads a list of several jobs, as it is displayed.
    pub(super) fn read_all(text: &str) -> Result<Follow, Error> {
        let jobs: Vec<JobId> = serde_json::from_str(text).map_err(|_| {
            Error::invalid_trigger(format!(
                "`{}` is no list of jobs: write `after all of [\"extract\", \"load\"]`",
                one_line(text)
            ))
        })?;
        Follow::new(jobs, FollowOn::Success)
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
        match &self.jobs[..] {
            [job] => write!(f, "after {} of {job}", self.on.name()),
            jobs => {
                let jobs = serde_json::to_string(jobs).map_err(|_| fmt::Error)?;
                write!(f, "after all of {jobs}")
            }
        }
    }
}

impl From<Follow> for Kind {
    fn from(follow: Follow) -> Kind {
        Kind::Follow(Box::new(follow))
    }
}
