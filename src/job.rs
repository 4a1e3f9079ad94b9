//! The words for jobs and runs: ids, options, outcomes and ends.

use std::{any::Any, borrow::Cow, fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    error::{BoxError, Chain, Error},
    escape::{Escaped, is_plain},
    retry::Retry,
    scheduler::JobHandle,
    trigger::{Short, Trigger, rfc3339},
};

/// The id of a job, unique within its scheduler.
///
/// It is the text given to `.id(..)`, of 1 to 255 bytes, or one that the scheduler made, such as
/// `9f2c01ab-17-42`. Ids are equal when their texts are. `Display` escapes line breaks, control
/// characters and what is invisible, so that an id can't break a line of a log.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Named(Arc<str>),
    Made(Made),
}

/// An id that costs no allocation and leads to its job without a map.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Made {
    /// Tells the ids of one scheduler from those of another.
    pub(crate) scheduler: u32,
    pub(crate) slot: u32,
    pub(crate) incarnation: u64,
}

impl JobId {
    /// The longest id, in bytes: what every store can hold as a key.
    pub const MAX_LEN: usize = 255;

    /// The id as text, exactly as it is: borrowed if it was given to `.id(..)`, and put together if the
    /// scheduler made it, which keeps no text of it. A store takes this for its key, and not `Display`.
    ///
    /// ```
    /// use punctual::JobId;
    ///
    /// let id = JobId::from("report");
    /// assert_eq!(id.as_str(), "report");
    /// assert!(id.as_str().starts_with("rep"));
    /// ```
    pub fn as_str(&self) -> Cow<'_, str> {
        match &self.0 {
            Repr::Named(name) => Cow::Borrowed(name),
            Repr::Made(made) => Cow::Owned(made.to_string()),
        }
    }

    pub(crate) fn made(made: Made) -> JobId {
        JobId(Repr::Made(made))
    }

    pub(crate) fn as_made(&self) -> Option<Made> {
        match self.0 {
            Repr::Named(_) => None,
            Repr::Made(made) => Some(made),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        match &self.0 {
            Repr::Named(name) if name.is_empty() => {
                Err(Error::invalid_option("the job's id is empty: use 1 to 255 bytes, or none"))
            }
            Repr::Named(name) => check_name("the job's id", name),
            Repr::Made(_) => Ok(()),
        }
    }

    /// A number that is the same for this id in every process, for spreading things out.
    pub(crate) fn stable_hash(&self) -> u64 {
        match &self.0 {
            // FNV-1a: std's hasher is seeded anew in each process.
            Repr::Named(name) => name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            }),
            Repr::Made(made) => made.incarnation ^ (u64::from(made.scheduler) << 32),
        }
    }
}

impl From<&str> for JobId {
    fn from(text: &str) -> JobId {
        let made = || {
            let mut parts = text.split('-');
            let made = Made {
                scheduler: u32::from_str_radix(parts.next()?, 16).ok()?,
                slot: parts.next()?.parse().ok()?,
                incarnation: parts.next()?.parse().ok()?,
            };
            // Only the canonical spelling: ids are equal when their texts are.
            (made.to_string() == text).then_some(made)
        };
        JobId(made().map_or_else(|| Repr::Named(text.into()), Repr::Made))
    }
}

impl From<String> for JobId {
    fn from(text: String) -> JobId {
        JobId::from(text.as_str())
    }
}

impl From<&String> for JobId {
    fn from(text: &String) -> JobId {
        JobId::from(text.as_str())
    }
}

impl From<&JobHandle> for JobId {
    fn from(job: &JobHandle) -> JobId {
        job.id().clone()
    }
}

impl From<&JobId> for JobId {
    fn from(id: &JobId) -> JobId {
        id.clone()
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.as_str())
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JobId, D::Error> {
        let id = JobId::from(String::deserialize(deserializer)?);
        id.validate().map_err(serde::de::Error::custom)?;
        Ok(id)
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}-{}", self.scheduler, self.slot, self.incarnation)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.as_str();
        match is_plain(&text) {
            true => f.pad(&text),
            false => f.pad(&Escaped(text).to_string()),
        }
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({self})")
    }
}

impl PartialEq<str> for JobId {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for JobId {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

/// The number of a run, counted per scheduler from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub(crate) u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What becomes of several fire times that came due together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Coalesce {
    /// One run, for the latest of them.
    #[default]
    Latest,
    /// One run, for the earliest that is still within the misfire grace time; those before it are
    /// missed.
    Earliest,
    /// A run for each, one after the other, but only for the newest `max_catch_up`.
    All,
}

/// What becomes of a fire time while `max_instances` runs of its job are going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Overlap {
    /// It is skipped.
    #[default]
    Skip,
    /// It waits in line for a run to end, unless so many wait already: then it is skipped.
    Queue(u32),
    /// The oldest run is asked to stop, and this one starts as soon as that has ended. A newer fire
    /// time takes the place of one that still waits.
    CancelPrevious,
}

/// What adding a job does when its id is taken. That of a job in another of the scheduler's stores, or in
/// memory where the new one goes to a store, or the other way round, is an error in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnConflict {
    /// It is an error.
    #[default]
    Error,
    /// The other job is cancelled and this one takes its place; what was due of it and had not started
    /// is skipped as *replaced*.
    Replace,
    /// The other job stays, and its handle is returned.
    ///
    /// A job that is over stays over if it was declared just the same, and awaiting its handle resolves at
    /// once. If any part of the declaration has changed, or the end was forgotten by
    /// [`remove`](crate::Job::remove), the job is added anew, with its count of
    /// [`times`](crate::trigger::Build::times) from the start. A store remembers the end for 30 days after
    /// the last declaration; memory for 10 minutes, of the last 1,000 jobs that have ended.
    ///
    /// For work that runs only once ([`add_once`](crate::Scheduler::add_once)) it is an error.
    Keep,
    /// The other job becomes this one, in place, and its handle is returned: nothing changes if it was
    /// declared just the same; otherwise its work, options, labels and trigger are changed as
    /// [`modify`](crate::Job::modify) and [`reschedule`](crate::Job::reschedule) do. Active runs go on
    /// as they are, and what is due, its jitter included, still runs once. Whether it is paused stays.
    ///
    /// A job that is over stays over if it was declared just the same, and awaiting its handle resolves at
    /// once. If any part of the declaration has changed, or the end was forgotten by
    /// [`remove`](crate::Job::remove), the job is added anew, with its count of
    /// [`times`](crate::trigger::Build::times) from the start. A store remembers the end for 30 days after
    /// the last declaration; memory for 10 minutes, of the last 1,000 jobs that have ended.
    ///
    /// For jobs that are declared in code: adding them at each start leaves alone what has not changed,
    /// so that a daily deployment does not put off a daily job for ever. The declaration is what was
    /// given: the trigger, options and labels, and of a task its arguments; closures can't be compared,
    /// so a job in memory takes the new one while it is not over. Work that runs only once
    /// ([`add_once`](crate::Scheduler::add_once)) takes the other's place in memory, and in a store is an
    /// error: use [`Replace`](OnConflict::Replace).
    Reconcile,
}

impl OnConflict {
    /// Whether a job may say so: what it says is about an id, which only the job's user can give twice.
    pub(crate) fn validate(self, id: Option<&JobId>) -> Result<(), Error> {
        match (self, id) {
            (OnConflict::Error, _) | (_, Some(_)) => Ok(()),
            (_, None) => Err(Error::invalid_option(format!(
                "on_conflict(OnConflict::{self:?}) needs an id: without one each start adds another job, so give it one with `.id(..)`"
            ))),
        }
    }
}

/// The executor of async work whose job names none.
pub(crate) const DEFAULT_EXECUTOR: &str = "default";

/// The store that tasks go to unless they name another.
pub(crate) const DEFAULT_STORE: &str = "default";

/// That of work that blocks.
pub(crate) const BLOCKING_EXECUTOR: &str = "blocking";

/// Everything about a job but its trigger and its work.
///
/// Stores keep it as JSON, durations in milliseconds; what a later version may leave out is the
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
    /// Whether a run is to start, by the user's judgement.
    #[serde(skip)]
    pub(crate) condition: Option<Condition>,
    /// None is the default of the kind of work.
    pub(crate) executor: Option<Arc<str>>,
    pub(crate) group: Option<Group>,
    pub(crate) history: u32,
}

/// Whether a run is to start: a function of the user's own.
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

/// Runs of several jobs that share a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) name: Arc<str>,
    pub(crate) limit: u32,
}

/// A duration as whole milliseconds, rounded up: what is more than nothing stays so.
pub(crate) mod millis {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        to.serialize_u64(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

mod optional_millis {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Millis(#[serde(with = "millis")] Duration);

    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(Millis).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Millis>::deserialize(from)?.map(|millis| millis.0))
    }
}

impl Group {
    /// The error of a group that was given another limit before.
    pub(crate) fn contradicted(&self, limit: u32) -> Error {
        Error::invalid_option(format!(
            "group `{}` has a limit of {limit}, not {}: say the same for all its jobs",
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

    /// A start that is no later than this is on time.
    ///
    /// Tokio's timers round up to whole milliseconds, as does the delay queue on them and the wait for
    /// I/O: a run starts 1 to 3 ms late on an idle machine, and a busy one adds to that.
    const ON_TIME: Duration = Duration::from_millis(10);

    /// How late a run may start, if there is a limit: never less than what counts as on time.
    pub(crate) fn grace(&self) -> Option<Duration> {
        self.misfire_grace_time.map(|grace| grace.max(JobOptions::ON_TIME))
    }

    /// Whether something of the user's code is in them.
    pub(crate) fn hold_code(&self) -> bool {
        self.condition.is_some() || self.retry.as_ref().is_some_and(Retry::holds_code)
    }

    /// Whether they are the same, as far as can be told: of the user's code only whether there is any.
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
        /// Sets how late a run may start and still run.
        ///
        /// Lateness is wall-clock time between the instant the run was due (its fire time plus
        /// jitter) and its start. A later run does not start and is reported as *missed*; equal is
        /// not later. Default: no limit. Judged after coalescing, so
        /// [`Coalesce::Latest`](crate::Coalesce::Latest) judges only the last fire time.
        ///
        /// Tokio's timers are some milliseconds late by themselves, so a start that is at most 10 ms
        /// late is on time, and a shorter grace acts as 10 ms.
        pub fn misfire_grace_time(mut self, grace: impl Into<Option<std::time::Duration>>) -> Self {
            self.$options().misfire_grace_time = grace.into();
            self
        }

        /// Sets what becomes of several fire times that came due together.
        /// Default: [`Coalesce::Latest`](crate::Coalesce::Latest).
        pub fn coalesce(mut self, coalesce: crate::Coalesce) -> Self {
            self.$options().coalesce = coalesce;
            self
        }

        /// Sets how many fire times [`Coalesce::All`](crate::Coalesce::All) makes up for: the
        /// newest so many; older ones are coalesced into the first of them. Default: 100, 1 to 10,000.
        pub fn max_catch_up(mut self, fire_times: u32) -> Self {
            self.$options().max_catch_up = fire_times;
            self
        }

        /// Sets how many runs of the job may be going at once. Default: 1, at least 1.
        pub fn max_instances(mut self, runs: u32) -> Self {
            self.$options().max_instances = runs;
            self
        }

        /// Sets what becomes of a fire time while `max_instances` runs are going.
        /// Default: [`Overlap::Skip`](crate::Overlap::Skip).
        pub fn overlap(mut self, overlap: crate::Overlap) -> Self {
            self.$options().overlap = overlap;
            self
        }

        /// Delays each start by a part of `bound`, in whole milliseconds, that follows from the job
        /// and the fire time alone: it does not accumulate, and stays before the next fire time and
        /// not after the trigger's `until`. Default: zero, at most a year.
        pub fn jitter(mut self, bound: std::time::Duration) -> Self {
            self.$options().jitter = bound;
            self
        }

        /// Sets who is first among jobs that start at the same instant for the same fire time: the
        /// higher. Default: 0.
        pub fn priority(mut self, priority: i32) -> Self {
            self.$options().priority = priority;
            self
        }

        /// Sets how long a cancelled run may go on before it is dropped. Default: 5 s.
        pub fn cancel_grace(mut self, grace: std::time::Duration) -> Self {
            self.$options().cancel_grace = grace;
            self
        }

        /// Sets how long the work of a run may take, each attempt anew: then it is dropped, and the
        /// run ends as *timed out*. Default: no limit.
        ///
        /// Work that blocks can't be dropped: it sees that it is cancelled, and its run ends when it
        /// returns.
        pub fn timeout(mut self, timeout: impl Into<Option<std::time::Duration>>) -> Self {
            self.$options().timeout = timeout.into();
            self
        }

        /// Runs the work again when a run failed, panicked or timed out; see
        /// [`Retry`](crate::Retry). Work that can run only once never is. Default: not.
        pub fn retry(mut self, retry: impl Into<Option<crate::Retry>>) -> Self {
            self.$options().retry = retry.into();
            self
        }

        /// Starts a scheduled run only if `condition` says so: otherwise its fire time is *skipped*, for
        /// the reason [`SkipReason::Condition`](crate::SkipReason::Condition).
        ///
        /// It is called just before the work is, each time; what it answers counts for that run alone,
        /// and bounds such as `times` count the fire time all the same. If it panics the run has
        /// panicked, and its work is not called. A run that [`run_now`](crate::Job::run_now) asked for
        /// does not ask it. Default: none. It must not block, and can't be kept in a store.
        pub fn when(mut self, condition: impl Fn() -> bool + Send + Sync + 'static) -> Self {
            self.$options().condition = Some(crate::job::Condition::new(condition));
            self
        }

        /// Names the executor that the runs go to. Default: `default` for async work, `blocking` for
        /// work that blocks.
        pub fn executor(mut self, name: impl Into<std::sync::Arc<str>>) -> Self {
            self.$options().executor = Some(name.into());
            self
        }

        /// Lets at most `limit` runs be going at once of all jobs of this group, at least 1. A run
        /// that finds no room waits, in order of fire time, then priority; if it waits too long
        /// for its misfire grace time, it is missed. Default: no group.
        ///
        /// The limit is the group's: jobs that name another for the same group are in error.
        pub fn group(mut self, name: impl Into<std::sync::Arc<str>>, limit: u32) -> Self {
            self.$options().group = Some(crate::job::Group { name: name.into(), limit });
            self
        }

        /// Sets how many of the job's last runs are kept, for
        /// [`Job::history`](crate::Job::history), also for a while when it is over. Default: 4, at
        /// most 1000; a run takes about 170 bytes.
        pub fn history(mut self, runs: u32) -> Self {
            self.$options().history = runs;
            self
        }
    };
}
pub(crate) use option_setters;

/// Checks a text that stores keep in a column of their own: ids, names, tags and names of tasks.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), Error> {
    if name.contains('\0') {
        return Err(Error::invalid_option(format!(
            "{what} has a NUL in it, which not every store can hold: leave it out"
        )));
    }
    if name.len() > JobId::MAX_LEN {
        return Err(Error::invalid_option(format!(
            "{what} of {} bytes is too long: use at most {}",
            name.len(),
            JobId::MAX_LEN
        )));
    }
    Ok(())
}

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

/// A stretch of a job's fire times that met the same fate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FireTimes {
    /// The first of them.
    pub first: DateTime<Utc>,
    /// The last of them.
    pub last: DateTime<Utc>,
    /// How many they are: exact for intervals and up to 10,000, a lower bound past that, and where a
    /// combination of triggers takes too long to count.
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
    /// `max_instances` runs of the job were going.
    MaxInstances,
    /// As many fire times of the job waited as [`Overlap::Queue`] lets wait.
    QueueFull,
    /// The job was given another trigger, or a newer fire time took the place of this one.
    Superseded,
    /// The condition that the job was given by [`when`](crate::Add::when) did not hold.
    Condition,
    /// The job was paused.
    Paused,
    /// The job was removed or cancelled.
    Removed,
    /// Another job took its place, as [`OnConflict::Replace`] says.
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
    /// The work returned, and not with an error.
    Succeeded,
    /// The work returned an error.
    Failed(Arc<dyn std::error::Error + Send + Sync>),
    /// The work panicked with this message.
    Panicked(Arc<str>),
    /// The work took longer than the job's timeout, and was dropped.
    TimedOut,
    /// The run was cancelled and dropped before its work returned.
    Cancelled,
    /// The run could not start within the misfire grace time; its work was not called.
    Missed,
    /// The run was called off before it started; its work was not called.
    Skipped(SkipReason),
    /// Nobody knows: the scheduler stopped before the run ended, or the job went before the run was
    /// begun again.
    Abandoned,
}

impl Outcome {
    /// Whether the work returned, and not with an error.
    pub fn is_success(&self) -> bool {
        matches!(self, Outcome::Succeeded)
    }

    /// Whether the work returned an error, panicked or took too long.
    pub fn is_failure(&self) -> bool {
        matches!(self, Outcome::Failed(_) | Outcome::Panicked(_) | Outcome::TimedOut)
    }

    /// A failure of which only the text is known.
    pub(crate) fn said(text: &str) -> Outcome {
        Outcome::Failed(Arc::from(BoxError::from(text)))
    }

    /// Whether the work was called at all.
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

/// One execution of a job's work, for one fire time, after it ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Run {
    /// The job's id.
    pub job: JobId,
    /// The run's number.
    pub id: RunId,
    /// The instant that the trigger named, before jitter.
    pub fire_time: DateTime<Utc>,
    /// How much later than due the run started, or was found to be too late or called off; further
    /// attempts do not count.
    pub late_by: Duration,
    /// How many earlier fire times were coalesced into this run, or later ones with
    /// [`Coalesce::Earliest`].
    pub coalesced: u64,
    /// Whether `run_now` or `again_in` asked for it.
    pub on_request: bool,
    /// How often the work was called for it, or was to be: from 1, more only with a
    /// [`Retry`](crate::Retry).
    pub attempt: u32,
    /// When the work was called, if it was; the last time.
    pub started_at: Option<DateTime<Utc>>,
    /// How long the work took then, in elapsed time; zero if it was not called.
    pub took: Duration,
    /// When the run ended.
    pub ended_at: DateTime<Utc>,
    /// How it ended.
    pub outcome: Outcome,
    /// What its work returned, where somebody asked for it.
    pub(crate) output: Option<Output>,
}

/// What work returned.
pub(crate) type Output = Arc<dyn Any + Send + Sync>;

impl Run {
    /// What the work returned, if that was a `T`: the value of `Ok`, where it returned a `Result`.
    ///
    /// It is kept only of runs that began after somebody asked for it, and where they ran: by
    /// [`runs`](crate::Add::runs), by a job that [follows](crate::trigger::after_success), or for the
    /// listeners of events by [`keep_output`](crate::Add::keep_output). There is none of work that
    /// returns `()`, of work that runs once (its handle yields it), of what ran in a process of its own,
    /// nor in the job's history.
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

/// How a job ended; what awaiting its handle yields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum End {
    /// Its trigger has no fire time left and its last run has ended.
    Completed,
    /// It was removed.
    Removed,
    /// It was cancelled, by its token.
    Cancelled,
    /// Another job took its id.
    Replaced,
    /// The scheduler shut down, or was dropped.
    ShutDown,
    /// Its trigger could not say when to fire next.
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

/// A job as it stood when it was asked for.
///
/// It prints as a line: `report: 30 8 * * MON-FRI (Europe/Berlin); except 2026-12-25, next
/// 2026-11-23T07:30:00Z, 0/1 running`. What is said of its trigger is there, but for where a grid
/// starts, and for all but three of many dates.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JobInfo {
    /// Its id.
    pub id: JobId,
    /// Its name, if it was given one.
    pub name: Option<Arc<str>>,
    /// Its tags.
    pub tags: Vec<Arc<str>>,
    /// Its trigger, with everything filled in.
    pub trigger: Trigger,
    /// The next fire time; none while the job is paused, and after the last. Of a job in a store those
    /// are left out that another scheduler has taken ahead.
    pub next_fire: Option<DateTime<Utc>>,
    /// Whether it is paused.
    pub paused: bool,
    /// How many of its runs have begun and not ended, those included that wait for room or to be tried
    /// again; of a job in a store those on this scheduler.
    pub running: u32,
    /// How many of its runs may be going.
    pub max_instances: u32,
    /// Who is first among jobs that start at the same instant.
    pub priority: i32,
    /// The name of its task, if it is in a store.
    pub task: Option<Arc<str>>,
    /// Whether it is in memory although the scheduler has a store: it is gone at the next start.
    pub volatile: bool,
    /// The name of the store that it is in; none if it is in memory.
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
