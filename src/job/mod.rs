//! Jobs: their policies, options, labels, and what can be known of one.

mod options;

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub(crate) use self::options::{Condition, Group, JobOptions, option_setters};
use crate::{
    error::Error,
    escape::Escaped,
    trigger::{Short, Trigger, rfc3339},
};
pub(crate) use crate::{
    id::{JobId, Made, RunId, check_name},
    outcome::{End, FireTimes, Outcome, Output, Run, SkipReason},
};

/// How a job runs several fire times that came due together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Coalesce {
    /// One run, for the latest fire time.
    #[default]
    Latest,
    /// One run, for the earliest fire time that is still within the misfire grace time; earlier
    /// fire times are missed.
    Earliest,
    /// One run for each of the newest `max_catch_up` fire times, one after the other.
    All,
}

/// What happens to a fire time that comes due while `max_instances` runs of its job are active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Overlap {
    /// The fire time is skipped.
    #[default]
    Skip,
    /// The fire time waits until a run ends. If this many fire times already wait, it is skipped.
    Queue(u32),
    /// The oldest run is cancelled, and the new one starts when that run has ended. A newer fire
    /// time supersedes one that still waits.
    CancelPrevious,
}

/// What adding a job does if its id is in use.
///
/// If the job with this id is in another store of the scheduler, or one of the two jobs is in
/// memory and the other in a store, adding is an error with every variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnConflict {
    /// Adding is an error.
    #[default]
    Error,
    /// Replaces the existing job: it is cancelled, and its due fire times that have not started are
    /// skipped as *replaced*.
    Replace,
    /// Keeps the existing job and returns its handle.
    ///
    /// A job that is over stays over if the declaration is unchanged, and its handle resolves at
    /// once. If any part of the declaration has changed, or [`remove`](crate::Job::remove) has
    /// deleted the remembered end, the job is added anew, and its
    /// [`times`](crate::trigger::Build::times) count starts again. A store remembers an end for 365
    /// days after the last declaration; memory remembers the last 1,000 ends for 10 minutes.
    ///
    /// For work that runs only once ([`add_once`](crate::Scheduler::add_once)), adding is an error.
    Keep,
    /// Updates the existing job in place and returns its handle.
    ///
    /// An unchanged declaration changes nothing. Otherwise the work, options, labels and trigger
    /// are updated as by [`modify`](crate::Job::modify) and [`reschedule`](crate::Job::reschedule).
    /// Active runs continue with their old options, and each fire time that is due, including its
    /// jitter, still runs once. A paused job stays paused.
    ///
    /// A job that is over stays over if the declaration is unchanged, and its handle resolves at
    /// once. If any part of the declaration has changed, or [`remove`](crate::Job::remove) has
    /// deleted the remembered end, the job is added anew, and its
    /// [`times`](crate::trigger::Build::times) count starts again. A store remembers an end for 365
    /// days after the last declaration; memory remembers the last 1,000 ends for 10 minutes.
    ///
    /// Use this for jobs that are declared in code and added at each start: a daily deployment then
    /// does not postpone a daily job forever. The declaration is the trigger, options and labels as
    /// given, and the arguments of a task. Closures cannot be compared, so a job in memory that is
    /// not over always gets the new closure. Work that runs only once
    /// ([`add_once`](crate::Scheduler::add_once)) replaces the existing job in memory, and is an
    /// error in a store: use [`Replace`](OnConflict::Replace).
    Reconcile,
}

impl OnConflict {
    /// Checks that a job with this policy has an id: without one, no second add can conflict.
    pub(crate) fn validate(self, id: Option<&JobId>) -> Result<(), Error> {
        match (self, id) {
            (OnConflict::Error, _) | (_, Some(_)) => Ok(()),
            (_, None) => Err(Error::invalid_option(format!(
                "on_conflict(OnConflict::{self:?}) needs an id: without one each start adds another job, so give it one with `.id(..)`"
            ))),
        }
    }
}

/// The executor of async work without a named executor.
pub(crate) const DEFAULT_EXECUTOR: &str = "default";

/// The store of tasks without a named store.
pub(crate) const DEFAULT_STORE: &str = "default";

/// The executor of blocking work without a named executor.
pub(crate) const BLOCKING_EXECUTOR: &str = "blocking";

/// The name and tags of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) tags: Vec<Arc<str>>,
}

impl Labels {
    const MAX_TAGS: usize = 100;

    pub(crate) fn is_empty(&self) -> bool {
        self.name.is_none() && self.tags.is_empty()
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        self.name.iter().try_for_each(|name| check_name("the job's name", name))?;
        self.tags.iter().try_for_each(|tag| check_name("a tag of the job", tag))?;
        if self.tags.len() > Labels::MAX_TAGS {
            return Err(Error::invalid_option(format!(
                "{} tags on one job are too many: use at most {}",
                self.tags.len(),
                Labels::MAX_TAGS
            )));
        }
        Ok(())
    }
}

/// A snapshot of a job.
///
/// `Display` prints one line: `report: 30 8 * * MON-FRI (Europe/Berlin); except 2026-12-25, next
/// 2026-11-23T07:30:00Z, 0/1 running`. The line contains the whole trigger except the start of an
/// interval's grid and all but three of many dates.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JobInfo {
    /// The job's id.
    pub id: JobId,
    /// The job's name, if set.
    pub name: Option<Arc<str>>,
    /// The job's tags.
    pub tags: Vec<Arc<str>>,
    /// The job's trigger, with all defaults resolved.
    pub trigger: Trigger,
    /// The next fire time; `None` while the job is paused, and after the last fire time. For a job
    /// in a store, fire times that another scheduler has claimed ahead are left out.
    pub next_fire: Option<DateTime<Utc>>,
    /// Whether the job is paused.
    pub paused: bool,
    /// The number of runs that have begun and not ended, including runs that wait for a free slot
    /// or for a retry. For a job in a store, only runs on this scheduler count.
    pub running: u32,
    /// The maximum number of active runs.
    pub max_instances: u32,
    /// The priority among jobs that start at the same instant: the higher starts first.
    pub priority: i32,
    /// The name of the job's task, if the job is in a store.
    pub task: Option<Arc<str>>,
    /// Whether the job is in memory although the scheduler has a store; such a job is lost at a
    /// restart.
    pub volatile: bool,
    /// The name of the job's store; `None` if the job is in memory.
    pub store: Option<Arc<str>>,
}

impl fmt::Display for JobInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " \"{}\"", Escaped(name))?;
        }
        write!(f, ": {}", Escaped(Short(&self.trigger)))?;
        f.write_str(", ")?;
        match self.next_fire {
            Some(next) => write!(f, "next {}", rfc3339(next))?,
            None if self.paused => write!(f, "paused")?,
            None => write!(f, "no further fire")?,
        }
        write!(f, ", {}/{} running", self.running, self.max_instances)?;
        if self.volatile {
            f.write_str(", volatile")?;
        }
        if let Some(store) = self.store.as_deref().filter(|&store| store != DEFAULT_STORE) {
            write!(f, ", in store {}", Escaped(store))?;
        }
        if !self.tags.is_empty() {
            write!(f, ", tags {}", Escaped(self.tags.join(", ")))?;
        }
        Ok(())
    }
}
