//! Runs of jobs, and how they, their fire times and their jobs end.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use crate::{
    error::{BoxError, Chain, Error},
    escape::Escaped,
    id::{JobId, RunId},
};

/// A stretch of a job's fire times that have the same fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FireTimes {
    /// The first fire time.
    pub first: DateTime<Utc>,
    /// The last fire time.
    pub last: DateTime<Utc>,
    /// The number of fire times: exact for intervals and up to 10,000. Beyond that, and for
    /// combinations of triggers that take too long to count, a lower bound.
    pub count: u64,
}

impl FireTimes {
    pub(crate) fn one(fire_time: DateTime<Utc>) -> FireTimes {
        FireTimes { first: fire_time, last: fire_time, count: 1 }
    }
}

/// Why a fire time was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// `max_instances` runs of the job were active.
    MaxInstances,
    /// The job already had as many waiting fire times as [`Overlap::Queue`](crate::Overlap::Queue) allows.
    QueueFull,
    /// A newer fire time superseded this one, or the job was rescheduled.
    Superseded,
    /// The condition set by [`when`](crate::Add::when) returned `false`.
    Condition,
    /// The job was paused.
    Paused,
    /// The job was removed or cancelled.
    Removed,
    /// Another job replaced this one, as with [`OnConflict::Replace`](crate::OnConflict::Replace).
    Replaced,
    /// The scheduler was shutting down.
    Shutdown,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SkipReason::MaxInstances => "max instances",
            SkipReason::QueueFull => "queue full",
            SkipReason::Superseded => "superseded",
            SkipReason::Condition => "condition",
            SkipReason::Paused => "paused",
            SkipReason::Removed => "removed",
            SkipReason::Replaced => "replaced",
            SkipReason::Shutdown => "shutdown",
        })
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The work returned, without an error.
    Succeeded,
    /// The work returned an error.
    Failed(Arc<dyn std::error::Error + Send + Sync>),
    /// The work panicked with this message.
    Panicked(Arc<str>),
    /// The work took longer than the job's timeout and was dropped.
    TimedOut,
    /// The run was cancelled and dropped before its work returned.
    Cancelled,
    /// The run could not start within the misfire grace time; its work was not called.
    Missed,
    /// The run was skipped before it started; its work was not called.
    Skipped(SkipReason),
    /// The result is unknown: the scheduler stopped before the run ended, or the job was removed
    /// before the run was recovered.
    Abandoned,
}

impl Outcome {
    /// Whether the work returned, without an error.
    pub fn is_success(&self) -> bool {
        matches!(self, Outcome::Succeeded)
    }

    /// Whether the work returned an error, panicked or timed out.
    pub fn is_failure(&self) -> bool {
        matches!(self, Outcome::Failed(_) | Outcome::Panicked(_) | Outcome::TimedOut)
    }

    /// A failure with this error text.
    pub(crate) fn from_error_text(text: &str) -> Outcome {
        Outcome::Failed(Arc::from(BoxError::from(text)))
    }

    /// Whether the work was called.
    pub(crate) fn has_run(&self) -> bool {
        !matches!(self, Outcome::Missed | Outcome::Skipped(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Succeeded => f.write_str("succeeded"),
            Outcome::Failed(error) => write!(f, "failed: {}", Chain(&**error)),
            Outcome::Panicked(message) => write!(f, "panicked: {}", Escaped(message)),
            Outcome::TimedOut => f.write_str("timed out"),
            Outcome::Cancelled => f.write_str("cancelled"),
            Outcome::Missed => f.write_str("missed"),
            Outcome::Skipped(reason) => write!(f, "skipped: {reason}"),
            Outcome::Abandoned => f.write_str("abandoned"),
        }
    }
}

/// One execution of a job's work for one fire time, after its end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Run {
    /// The job's id.
    pub job: JobId,
    /// The run's number.
    pub id: RunId,
    /// The instant that the trigger named, before jitter.
    pub fire_time: DateTime<Utc>,
    /// How long after the due instant the run started, or was missed or skipped. Retries do not
    /// count.
    pub late_by: Duration,
    /// How many earlier fire times were coalesced into this run; with [`Coalesce::Earliest`](crate::Coalesce::Earliest), how
    /// many later ones.
    pub coalesced: u64,
    /// Whether `run_now` or `again_in` requested the run.
    pub on_request: bool,
    /// The last attempt, from 1; more than 1 only with a [`Retry`](crate::Retry) or a recovery.
    pub attempt: u32,
    /// When the last attempt called the work; `None` if it was not called.
    pub started_at: Option<DateTime<Utc>>,
    /// The elapsed time of the last attempt; zero if the work was not called.
    pub took: Duration,
    /// When the run ended.
    pub ended_at: DateTime<Utc>,
    /// How the run ended.
    pub outcome: Outcome,
    /// The return value of the work, if it is kept.
    pub(crate) output: Option<Output>,
}

/// The return value of some work.
pub(crate) type Output = Arc<dyn Any + Send + Sync>;

impl Run {
    /// Returns the return value of the work if it is a `T`, or the value of `Ok` if the work
    /// returned a `Result`.
    ///
    /// The value is kept only for runs that start after a request, on the node that ran them.
    /// Requests are [`runs`](crate::Add::runs), a job that [follows](crate::trigger::after_success)
    /// this one, and [`keep_output`](crate::Add::keep_output) for event listeners.
    ///
    /// Returns `None` for work that returns `()`, for work that runs once (its handle returns the
    /// value), for work in a separate process, and for runs in the job's history.
    ///
    /// ```
    /// use std::time::Duration;
    /// use punctual::{BoxError, Scheduler, trigger::every};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// # let scheduler = Scheduler::new();
    /// let measure = || async { Ok::<f64, BoxError>(21.5) };
    /// let mut job = scheduler.add(every(Duration::from_secs(1)).times(3), measure);
    /// let mut runs = job.runs();
    /// job.await?;
    /// while let Some(run) = runs.next().await {
    ///     assert_eq!(run.output::<f64>(), Some(&21.5));
    /// }
    /// # Ok(()) }
    /// ```
    pub fn output<T: 'static>(&self) -> Option<&T> {
        self.output.as_deref()?.downcast_ref()
    }
}

/// How a job ended; the value of its awaited handle.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum End {
    /// The job's trigger has no fire time left, and its last run has ended.
    Completed,
    /// The job was removed.
    Removed,
    /// The job's token was cancelled.
    Cancelled,
    /// Another job replaced this one under its id.
    Replaced,
    /// The scheduler was shut down or dropped.
    ShutDown,
    /// The trigger failed to compute the next fire time.
    TriggerFailed(Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Completed => f.write_str("completed"),
            End::Removed => f.write_str("removed"),
            End::Cancelled => f.write_str("cancelled"),
            End::Replaced => f.write_str("replaced"),
            End::ShutDown => f.write_str("shut down"),
            End::TriggerFailed(error) => write!(f, "trigger failed: {error}"),
        }
    }
}
