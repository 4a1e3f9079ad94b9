//! Jobs that run after another job's runs.

use std::{collections::HashSet, fmt};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::schedule::{Schedule, Search};
use crate::{
    error::Error,
    id::JobId,
    outcome::Outcome,
    trigger::{quote::one_line, search::Budget},
};

/// A dependency on other jobs in place of fire times; made by
/// [`after_success`](crate::trigger::after_success), [`after_failure`](crate::trigger::after_failure),
/// [`after_any`](crate::trigger::after_any) and [`after_all`](crate::trigger::after_all).
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

    pub(in crate::trigger) fn new(
        jobs: impl IntoIterator<Item = JobId>,
        on: FollowOn,
    ) -> Result<Follow, Error> {
        let mut seen = HashSet::new();
        let jobs: Vec<JobId> = jobs.into_iter().filter(|job| seen.insert(job.clone())).collect();
        if jobs.is_empty() {
            return Err(Error::invalid_trigger(
                "a trigger that follows no job would never fire: name one or more",
            ));
        }
        if jobs.len() > 1 && on != FollowOn::Success {
            return Err(Error::invalid_trigger(
                "of several jobs only successes can be followed: use a job of its own for each of them",
            ));
        }
        Ok(Follow { jobs, on })
    }

    /// Reads the text of such a trigger, if it is one. Everything after `of` is ids, which may have any
    /// characters.
    pub(in crate::trigger) fn read(text: &str) -> Option<Result<Follow, Error>> {
        let text = text.strip_prefix("after ")?;
        if let Some(jobs) = text.strip_prefix("all of ") {
            return Some(Follow::read_all(jobs));
        }
        [FollowOn::Success, FollowOn::Failure, FollowOn::Any].into_iter().find_map(|on| {
            let job = text.strip_prefix(on.name())?.strip_prefix(" of ")?;
            Some(Follow::new([job.into()], on))
        })
    }

    /// Reads a list of several jobs, as it is displayed.
    fn read_all(text: &str) -> Result<Follow, Error> {
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
    fn name(self) -> &'static str {
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

impl Schedule for Follow {
    fn next(
        &self,
        _search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        budget.spend(1).map(|()| None)
    }

    fn last(
        &self,
        _search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        budget.spend(1).map(|()| None)
    }

    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }

    fn description(&self) -> String {
        let jobs: Vec<String> = self.jobs.iter().map(|job| one_line(&job.to_string())).collect();
        let all = if jobs.len() > 1 { "all of " } else { "" };
        format!("After {} of {all}{}", self.on.name(), jobs.join(", "))
    }
}
