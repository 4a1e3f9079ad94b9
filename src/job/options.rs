//! What can be set of a job beyond its trigger and its work.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Coalesce, Overlap};
use crate::{
    error::Error,
    json::{millis, optional_millis},
    retry::Retry,
};

/// All of a job except its trigger and its work.
///
/// Stores keep the options as JSON, with durations in milliseconds. A missing field has its
/// default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct JobOptions {
    #[serde(rename = "misfire_grace_time_ms", with = "optional_millis")]
    pub(crate) misfire_grace_time: Option<Duration>,
    pub(crate) coalesce: Coalesce,
    pub(crate) max_catch_up: u32,
    pub(crate) max_instances: u32,
    pub(crate) overlap: Overlap,
    #[serde(rename = "jitter_ms", with = "millis")]
    pub(crate) jitter: Duration,
    pub(crate) priority: i32,
    #[serde(rename = "cancel_grace_ms", with = "millis")]
    pub(crate) cancel_grace: Duration,
    #[serde(rename = "timeout_ms", with = "optional_millis")]
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<Retry>,
    /// A condition for starting a run.
    #[serde(skip)]
    pub(crate) condition: Option<Condition>,
    /// `None` is the default executor for the kind of work.
    pub(crate) executor: Option<Arc<str>>,
    pub(crate) group: Option<Group>,
    pub(crate) history: u32,
}

/// A user's function that decides whether a run starts.
#[derive(Clone)]
pub(crate) struct Condition(Arc<dyn Fn() -> bool + Send + Sync>);

impl Condition {
    pub(crate) fn new(condition: impl Fn() -> bool + Send + Sync + 'static) -> Condition {
        Condition(Arc::new(condition))
    }

    pub(crate) fn holds(&self) -> bool {
        (self.0)()
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Condition) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").finish_non_exhaustive()
    }
}

/// A limit that the runs of several jobs share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) name: Arc<str>,
    pub(crate) limit: u32,
}

impl Group {
    /// The error for a second limit of the same group.
    pub(crate) fn contradicted(&self, limit: u32) -> Error {
        Error::invalid_option(format!(
            "group `{}` already has a limit of {limit}, not {}: use the same limit for all its jobs",
            self.name, self.limit
        ))
    }
}

impl Default for JobOptions {
    fn default() -> JobOptions {
        JobOptions {
            misfire_grace_time: None,
            coalesce: Coalesce::default(),
            max_catch_up: 100,
            max_instances: 1,
            overlap: Overlap::default(),
            jitter: Duration::ZERO,
            priority: 0,
            cancel_grace: Duration::from_secs(5),
            timeout: None,
            retry: None,
            condition: None,
            executor: None,
            group: None,
            history: 4,
        }
    }
}

impl JobOptions {
    const MAX_CATCH_UP: u32 = 10_000;
    const MAX_JITTER: Duration = Duration::from_secs(366 * 24 * 60 * 60);
    const MAX_HISTORY: u32 = 1000;

    /// The lateness up to which a start counts as on time.
    ///
    /// Tokio's timers, the delay queue and the wait for I/O round up to whole milliseconds: a run
    /// starts 1 to 3 ms late on an idle machine, and later on a busy one.
    const ON_TIME: Duration = Duration::from_millis(10);

    /// The maximum lateness of a start, if limited; at least the lateness that counts as on time.
    pub(crate) fn grace(&self) -> Option<Duration> {
        self.misfire_grace_time.map(|grace| grace.max(JobOptions::ON_TIME))
    }

    /// Whether the options contain user code.
    pub(crate) fn hold_code(&self) -> bool {
        self.condition.is_some() || self.retry.as_ref().is_some_and(Retry::holds_code)
    }

    /// Whether the options are equal, except that user code is only compared for presence.
    pub(crate) fn is_same_but_for_code(&self, other: &JobOptions) -> bool {
        if !self.hold_code() || !other.hold_code() {
            return self == other;
        }
        self.without_code() == other.without_code()
    }

    fn without_code(&self) -> JobOptions {
        let retry = self.retry.clone().map(Retry::without_code);
        JobOptions { condition: None, retry, ..self.clone() }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let zero = |what| {
            Error::invalid_option(format!(
                "{what}(0) would never let the job run: use 1 or more, or pause the job"
            ))
        };
        if self.max_instances == 0 {
            return Err(zero("max_instances"));
        }
        if self.max_catch_up == 0 {
            return Err(zero("max_catch_up"));
        }
        if self.max_catch_up > JobOptions::MAX_CATCH_UP {
            return Err(Error::invalid_option(format!(
                "max_catch_up({}) would hold up every other job after an outage: use {} or less",
                self.max_catch_up,
                JobOptions::MAX_CATCH_UP
            )));
        }
        if self.jitter > JobOptions::MAX_JITTER {
            return Err(Error::invalid_option(format!(
                "a jitter of {:?} is longer than a year: use a shorter one",
                self.jitter
            )));
        }
        if self.overlap == Overlap::Queue(0) {
            return Err(Error::invalid_option(
                "Overlap::Queue(0) has no room for any fire time: use 1 or more, or `Overlap::Skip`",
            ));
        }
        if self.timeout == Some(Duration::ZERO) {
            return Err(Error::invalid_option(
                "a timeout of zero would end every run before it begins: use a longer one, or none",
            ));
        }
        if let Some(group) = &self.group
            && group.limit == 0
        {
            return Err(Error::invalid_option(format!(
                "group `{}` with a limit of 0 would never let its jobs run: use 1 or more",
                group.name
            )));
        }
        if self.history > JobOptions::MAX_HISTORY {
            return Err(Error::invalid_option(format!(
                "history({}) keeps more than {} runs of a job: keep fewer, and listen to events for the rest",
                self.history,
                JobOptions::MAX_HISTORY
            )));
        }
        self.retry.as_ref().map_or(Ok(()), Retry::validate)
    }
}

/// Generates the setters of the job options, the same on everything that has them.
macro_rules! option_setters {
    ($options:ident) => {
        /// Sets the maximum lateness of a start.
        ///
        /// Lateness is the wall-clock time from the due instant (fire time plus jitter) to the
        /// start of the run. A run that is later than this does not start and is reported as
        /// *missed*. Default: no limit. Checked after coalescing, so
        /// [`Coalesce::Latest`](crate::Coalesce::Latest) checks only the last fire time.
        ///
        /// Tokio's timers fire some milliseconds late, so a start up to 10 ms late counts as on
        /// time, and a shorter grace time acts as 10 ms.
        pub fn misfire_grace_time(mut self, grace: impl Into<Option<std::time::Duration>>) -> Self {
            self.$options().misfire_grace_time = grace.into();
            self
        }

        /// Sets how several fire times that came due together run.
        ///
        /// Default: [`Coalesce::Latest`](crate::Coalesce::Latest).
        pub fn coalesce(mut self, coalesce: crate::Coalesce) -> Self {
            self.$options().coalesce = coalesce;
            self
        }

        /// Sets how many of the newest fire times [`Coalesce::All`](crate::Coalesce::All) runs.
        ///
        /// Older fire times are coalesced into the first of these. Default: 100. Range: 1 to
        /// 10,000.
        pub fn max_catch_up(mut self, fire_times: u32) -> Self {
            self.$options().max_catch_up = fire_times;
            self
        }

        /// Sets the maximum number of active runs of the job. Default: 1. Minimum: 1.
        pub fn max_instances(mut self, runs: u32) -> Self {
            self.$options().max_instances = runs;
            self
        }

        /// Sets what happens to a fire time that comes due while `max_instances` runs are active.
        ///
        /// Default: [`Overlap::Skip`](crate::Overlap::Skip).
        pub fn overlap(mut self, overlap: crate::Overlap) -> Self {
            self.$options().overlap = overlap;
            self
        }

        /// Delays each start by a part of `bound`, in whole milliseconds.
        ///
        /// The delay is a function of the job and the fire time alone, so it does not accumulate.
        /// The start stays before the next fire time and not after the trigger's `until`. Default:
        /// zero. Maximum: 366 days.
        pub fn jitter(mut self, bound: std::time::Duration) -> Self {
            self.$options().jitter = bound;
            self
        }

        /// Sets the priority among jobs that start at the same instant for the same fire time: the
        /// higher starts first. Default: 0.
        pub fn priority(mut self, priority: i32) -> Self {
            self.$options().priority = priority;
            self
        }

        /// Sets how long a cancelled run may continue before it is dropped. Default: 5 s.
        pub fn cancel_grace(mut self, grace: std::time::Duration) -> Self {
            self.$options().cancel_grace = grace;
            self
        }

        /// Sets the maximum duration of each attempt of a run.
        ///
        /// An attempt that takes longer is dropped, and ends as *timed out*. Default: no limit.
        ///
        /// Blocking work cannot be dropped: its context is cancelled, and its run ends when the
        /// work returns.
        pub fn timeout(mut self, timeout: impl Into<Option<std::time::Duration>>) -> Self {
            self.$options().timeout = timeout.into();
            self
        }

        /// Retries a run that failed, panicked or timed out; see [`Retry`](crate::Retry).
        ///
        /// Work that can run only once is never retried. Default: no retries.
        pub fn retry(mut self, retry: impl Into<Option<crate::Retry>>) -> Self {
            self.$options().retry = retry.into();
            self
        }

        /// Starts a scheduled run only if `condition` returns `true`.
        ///
        /// Otherwise the fire time is *skipped*, with
        /// [`SkipReason::Condition`](crate::SkipReason::Condition). The condition is called just
        /// before the work, for each run; bounds such as `times` also count skipped fire times. If
        /// the condition panics, the run ends as panicked and the work is not called. A run that
        /// was requested by [`run_now`](crate::Job::run_now) does not check the condition. Default:
        /// no condition. The condition must not block, and a store cannot keep it.
        pub fn when(mut self, condition: impl Fn() -> bool + Send + Sync + 'static) -> Self {
            self.$options().condition = Some(crate::job::Condition::new(condition));
            self
        }

        /// Names the executor of the runs. Default: `default` for async work, `blocking` for
        /// blocking work.
        pub fn executor(mut self, name: impl Into<std::sync::Arc<str>>) -> Self {
            self.$options().executor = Some(name.into());
            self
        }

        /// Limits the active runs of all jobs in this group to `limit`, at least 1.
        ///
        /// A run without a free slot waits, in order of fire time, then priority. A wait beyond the
        /// run's misfire grace time ends it as missed. Default: no group.
        ///
        /// All jobs of a group must give the same limit; another limit is an error.
        pub fn group(mut self, name: impl Into<std::sync::Arc<str>>, limit: u32) -> Self {
            self.$options().group = Some(crate::job::Group { name: name.into(), limit });
            self
        }

        /// Sets how many of the job's latest runs are kept for
        /// [`Job::history`](crate::Job::history).
        ///
        /// They are also kept for a while after the job has ended. Default: 4. Maximum: 1000. A run
        /// takes about 170 bytes.
        pub fn history(mut self, runs: u32) -> Self {
            self.$options().history = runs;
            self
        }
    };
}
pub(crate) use option_setters;
