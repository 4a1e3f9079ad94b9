//! The events of a scheduler, and the filter of event listeners.

use std::{fmt, ops::BitOr, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    error::{Chain, Error},
    escape::Escaped,
    job::{DEFAULT_STORE, End, FireTimes, JobId, Run, RunId, SkipReason},
    ledger::NodeId,
    trigger::rfc3339,
    zone::TimeZoneData,
};

/// An event of a scheduler.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The number of the event, counted per scheduler from 1. A filter leaves gaps.
    pub sequence: u64,
    /// When the event happened.
    pub at: DateTime<Utc>,
    /// The store of the event's job, or the store that the event is about; `None` for jobs in
    /// memory and for events of the scheduler.
    pub store: Option<Arc<str>>,
    /// The kind of the event, with its data.
    pub payload: EventPayload,
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident $(($inner:ty))? $({$($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)?})?,)*) => {
        /// The kind of an event, with its data.
        ///
        #[doc = "The kinds are those of [`EventKind`]; every fire time is covered by exactly one of"]
        #[doc = "[`Executed`](EventPayload::Executed), [`Failed`](EventPayload::Failed), [`TimedOut`](EventPayload::TimedOut),"]
        #[doc = "[`Cancelled`](EventPayload::Cancelled),"]
        #[doc = "[`Missed`](EventPayload::Missed), [`Skipped`](EventPayload::Skipped), [`Coalesced`](EventPayload::Coalesced) and"]
        #[doc = "[`Abandoned`](EventPayload::Abandoned)."]
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum EventPayload {
            $($(#[$doc])* $name $(($inner))? $({$($(#[$field_doc])* $field: $type),*})?,)*
        }

        /// The kinds of events, for filters.
        ///
        /// | about | kinds |
        /// |---|---|
        /// | the scheduler | [`Started`](EventKind::Started), [`Paused`](EventKind::Paused), [`Resumed`](EventKind::Resumed), [`ShutDown`](EventKind::ShutDown), [`ClockStepped`](EventKind::ClockStepped), [`TimeZonesUpdated`](EventKind::TimeZonesUpdated), [`ExecutorAdded`](EventKind::ExecutorAdded), [`ExecutorRemoved`](EventKind::ExecutorRemoved) |
        /// | a job | [`JobAdded`](EventKind::JobAdded), [`JobModified`](EventKind::JobModified), [`JobPaused`](EventKind::JobPaused), [`JobResumed`](EventKind::JobResumed), [`JobRemoved`](EventKind::JobRemoved), [`AllJobsRemoved`](EventKind::AllJobsRemoved), [`TriggerFailed`](EventKind::TriggerFailed) |
        /// | a run | [`Submitted`](EventKind::Submitted), [`Executed`](EventKind::Executed), [`Failed`](EventKind::Failed), [`TimedOut`](EventKind::TimedOut), [`Cancelled`](EventKind::Cancelled), [`Retrying`](EventKind::Retrying), [`Abandoned`](EventKind::Abandoned) |
        /// | a fire time without a run | [`Missed`](EventKind::Missed), [`Skipped`](EventKind::Skipped), [`Coalesced`](EventKind::Coalesced) |
        /// | a store | [`StoreAdded`](EventKind::StoreAdded), [`StoreRemoved`](EventKind::StoreRemoved), [`StoreFailing`](EventKind::StoreFailing), [`StoreWorking`](EventKind::StoreWorking), [`JobUnreadable`](EventKind::JobUnreadable), [`OutcomeRefused`](EventKind::OutcomeRefused) |
        /// | schedulers that share a store | [`LeaseLapsed`](EventKind::LeaseLapsed), [`LeaseLost`](EventKind::LeaseLost), [`NodesDied`](EventKind::NodesDied) |
        /// | a listener | [`Lagged`](EventKind::Lagged) |
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum EventKind {
            $($(#[$doc])* $name,)*
        }

        impl EventPayload {
            /// The kind of this event.
            pub fn kind(&self) -> EventKind {
                match self {
                    $(EventPayload::$name { .. } => EventKind::$name,)*
                }
            }
        }

        impl EventKind {
            /// All kinds.
            pub const ALL: &'static [EventKind] = &[$(EventKind::$name,)*];
        }
    };
}

events! {
    /// The scheduler started.
    Started,
    /// The scheduler was paused: nothing fires until it is resumed.
    Paused,
    /// The scheduler was resumed.
    Resumed,
    /// The scheduler has shut down. This is the last event, except for the end of a run that called
    /// `shutdown` itself.
    ShutDown,
    /// The wall clock has stepped relative to elapsed time, and all timers were re-armed.
    ClockStepped {
        /// The size of the step; negative if backward.
        by: TimeDelta,
        /// Whether the step was a correction: the clock was set back by more than
        /// [`clock_correction`](crate::SchedulerBuilder::clock_correction), and jobs that follow
        /// the wall clock continue from now.
        corrected: bool,
    },
    /// The time zone rules have changed, since the system's data was updated. The next fire times
    /// of all jobs that follow a wall clock were recomputed.
    TimeZonesUpdated {
        /// The data in use now.
        data: TimeZoneData,
    },
    /// A job was added.
    JobAdded {
        /// The job's id.
        job: JobId,
        /// The job's first fire time.
        next_fire: Option<DateTime<Utc>>,
    },
    /// A job's trigger, options, labels or work was changed.
    JobModified {
        /// The job's id.
        job: JobId,
        /// The job's next fire time.
        next_fire: Option<DateTime<Utc>>,
    },
    /// A job was paused.
    JobPaused {
        /// The job's id.
        job: JobId,
    },
    /// A job was resumed.
    JobResumed {
        /// The job's id.
        job: JobId,
        /// The job's next fire time.
        next_fire: Option<DateTime<Utc>>,
    },
    /// A job has ended: completed, removed, cancelled, replaced, or its trigger failed.
    JobRemoved {
        /// The job's id.
        job: JobId,
        /// How the job ended.
        end: End,
    },
    /// All jobs were removed at once.
    AllJobsRemoved {
        /// How many jobs were removed.
        count: usize,
    },
    /// An executor was added.
    ExecutorAdded {
        /// The executor's name.
        name: Arc<str>,
    },
    /// An executor was removed.
    ExecutorRemoved {
        /// The executor's name.
        name: Arc<str>,
    },
    /// A store for durable jobs was added.
    StoreAdded {
        /// The store's name.
        store: Arc<str>,
    },
    /// A store was removed: the scheduler has deregistered from the store and closed it. The store
    /// keeps its jobs.
    StoreRemoved {
        /// The store's name.
        store: Arc<str>,
    },
    /// The store's operations fail, and its durable jobs stall. The scheduler retries with backoff.
    StoreFailing {
        /// The store's name.
        store: Arc<str>,
        /// The first error.
        error: Error,
    },
    /// The store's operations succeed again.
    StoreWorking {
        /// The store's name.
        store: Arc<str>,
    },
    /// The scheduler could not renew its lease in time, so other nodes may expire it.
    ///
    /// Until a heartbeat succeeds, the scheduler starts no durable runs. It cancels the active runs
    /// that another node may start again, or that would overlap with another node's runs.
    LeaseLapsed {
        /// The store's name.
        store: Arc<str>,
    },
    /// The store has expired the scheduler. Its durable runs were reclaimed by other nodes or
    /// abandoned. The scheduler joins again as a new node.
    LeaseLost {
        /// The store's name.
        store: Arc<str>,
    },
    /// Other schedulers that share the store have expired.
    NodesDied {
        /// The store's name.
        store: Arc<str>,
        /// The ids of the nodes.
        nodes: Vec<NodeId>,
        /// How many of their runs will be recovered.
        recovered: usize,
        /// How many of their runs were abandoned; each has its own event.
        abandoned: usize,
    },
    /// A record in the store cannot be read, or its job cannot run on this scheduler. The record is
    /// kept.
    JobUnreadable {
        /// The store's name.
        store: Arc<str>,
        /// The job's id.
        job: JobId,
        /// The reason.
        error: Error,
    },
    /// The store has repeatedly refused the outcome of a run, also without its error message, and
    /// the scheduler stops sending it.
    ///
    /// After the scheduler has shut down, the run counts as abandoned, or is recovered if its job
    /// recovers.
    OutcomeRefused {
        /// The store's name.
        store: Arc<str>,
        /// The job's id.
        job: JobId,
        /// The run's number.
        run: RunId,
        /// The store's error.
        error: Error,
    },
    /// A job's trigger failed to compute the next fire time, and the job has ended.
    TriggerFailed {
        /// The job's id.
        job: JobId,
        /// The trigger's error.
        error: Error,
    },
    /// A run was submitted to its executor.
    Submitted {
        /// The job's id.
        job: JobId,
        /// The run's number.
        run: RunId,
        /// The run's fire time.
        fire_time: DateTime<Utc>,
        /// Whether `run_now` or `again_in` requested the run.
        on_request: bool,
    },
    /// A run ended and its work succeeded.
    Executed(Run),
    /// A run ended and its work returned an error or panicked.
    Failed(Run),
    /// A run took longer than its job's timeout.
    TimedOut(Run),
    /// A run was cancelled and dropped before its work returned.
    Cancelled(Run),
    /// An attempt failed, and the run will be retried.
    Retrying {
        /// The run at the end of the attempt.
        run: Run,
        /// The time until the next attempt.
        delay: Duration,
    },
    /// Fire times whose run could not start within the misfire grace time.
    Missed {
        /// The job's id.
        job: JobId,
        /// The run that was too late, if a run was already submitted.
        run: Option<RunId>,
        /// The fire times.
        fire_times: FireTimes,
    },
    /// Fire times that were skipped.
    Skipped {
        /// The job's id.
        job: JobId,
        /// The run that was skipped, if a run was already submitted.
        run: Option<RunId>,
        /// The fire times.
        fire_times: FireTimes,
        /// The reason.
        reason: SkipReason,
    },
    /// Fire times that were coalesced into the run of another fire time.
    Coalesced {
        /// The job's id.
        job: JobId,
        /// The fire times.
        fire_times: FireTimes,
        /// The fire time of that run.
        into: DateTime<Utc>,
    },
    /// A run whose result is unknown: the scheduler stopped before the run ended, or the job was
    /// removed before the run was recovered.
    Abandoned(Run),
    /// This listener was too slow, and its oldest events were dropped.
    Lagged {
        /// How many events were dropped.
        missed: u64,
    },
}

impl EventPayload {
    /// Returns the id of the event's job, if the event is about a job.
    pub fn job(&self) -> Option<&JobId> {
        match self {
            EventPayload::Started
            | EventPayload::Paused
            | EventPayload::Resumed
            | EventPayload::ShutDown
            | EventPayload::ClockStepped { .. }
            | EventPayload::TimeZonesUpdated { .. }
            | EventPayload::AllJobsRemoved { .. }
            | EventPayload::StoreAdded { .. }
            | EventPayload::StoreRemoved { .. }
            | EventPayload::StoreFailing { .. }
            | EventPayload::StoreWorking { .. }
            | EventPayload::LeaseLapsed { .. }
            | EventPayload::LeaseLost { .. }
            | EventPayload::NodesDied { .. }
            | EventPayload::ExecutorAdded { .. }
            | EventPayload::ExecutorRemoved { .. }
            | EventPayload::Lagged { .. } => None,
            EventPayload::JobAdded { job, .. }
            | EventPayload::JobModified { job, .. }
            | EventPayload::JobPaused { job }
            | EventPayload::JobResumed { job, .. }
            | EventPayload::JobRemoved { job, .. }
            | EventPayload::TriggerFailed { job, .. }
            | EventPayload::JobUnreadable { job, .. }
            | EventPayload::OutcomeRefused { job, .. }
            | EventPayload::Submitted { job, .. }
            | EventPayload::Missed { job, .. }
            | EventPayload::Skipped { job, .. }
            | EventPayload::Coalesced { job, .. } => Some(job),
            EventPayload::Executed(run)
            | EventPayload::Failed(run)
            | EventPayload::TimedOut(run)
            | EventPayload::Cancelled(run)
            | EventPayload::Retrying { run, .. }
            | EventPayload::Abandoned(run) => Some(&run.job),
        }
    }
}

/// Displays the event as one line; line breaks, control characters and invisible characters are
/// escaped.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(Line(self)))
    }
}

/// The displayed line of an event before escaping.
struct Line<'a>(&'a Event);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { at, sequence, store, payload } = self.0;
        write!(f, "{} #{sequence} {:?}", rfc3339(*at), payload.kind())?;
        if let Some(job) = payload.job() {
            write!(f, " {job}")?;
            if let Some(store) = store.as_deref().filter(|&store| store != DEFAULT_STORE) {
                write!(f, " in store {store}")?;
            }
        }
        let stretch = |f: &mut fmt::Formatter<'_>, times: &FireTimes| match times.count {
            1 => write!(f, " {}", rfc3339(times.first)),
            n => write!(f, " {n} from {} to {}", rfc3339(times.first), rfc3339(times.last)),
        };
        match payload {
            EventPayload::JobAdded { next_fire: Some(next), .. }
            | EventPayload::JobModified { next_fire: Some(next), .. }
            | EventPayload::JobResumed { next_fire: Some(next), .. } => {
                write!(f, ", next {}", rfc3339(*next))
            }
            EventPayload::JobRemoved { end, .. } => write!(f, ", {end}"),
            EventPayload::TriggerFailed { error, .. }
            | EventPayload::JobUnreadable { error, .. } => {
                write!(f, ", {}", Chain(error))
            }
            EventPayload::OutcomeRefused { run, error, .. } => {
                write!(f, " run {run}, {}", Chain(error))
            }
            EventPayload::StoreAdded { store }
            | EventPayload::StoreRemoved { store }
            | EventPayload::StoreWorking { store }
            | EventPayload::LeaseLapsed { store }
            | EventPayload::LeaseLost { store } => write!(f, " {store}"),
            EventPayload::StoreFailing { store, error } => write!(f, " {store}, {}", Chain(error)),
            EventPayload::NodesDied { store, nodes, recovered, abandoned } => {
                write!(f, " {store}:")?;
                for node in nodes {
                    write!(f, " {node}")?;
                }
                write!(f, ", {recovered} runs recovered, {abandoned} abandoned")
            }
            EventPayload::AllJobsRemoved { count } => write!(f, ", {count} jobs"),
            EventPayload::TimeZonesUpdated { data } => write!(f, ", now {data}"),
            EventPayload::ClockStepped { by, corrected } => {
                write!(f, ", by {by}{}", if *corrected { ", corrected" } else { "" })
            }
            EventPayload::Submitted { run, fire_time, .. } => {
                write!(f, " run {run} for {}", rfc3339(*fire_time))
            }
            EventPayload::Executed(run)
            | EventPayload::Failed(run)
            | EventPayload::TimedOut(run)
            | EventPayload::Cancelled(run)
            | EventPayload::Abandoned(run) => write!(
                f,
                " run {} for {}, {:?} late, took {:?}, {}",
                run.id,
                rfc3339(run.fire_time),
                run.late_by,
                run.took,
                run.outcome
            ),
            EventPayload::Retrying { run, delay } => write!(
                f,
                " run {} for {}, attempt {} {}, again in {delay:?}",
                run.id,
                rfc3339(run.fire_time),
                run.attempt,
                run.outcome
            ),
            EventPayload::ExecutorAdded { name } | EventPayload::ExecutorRemoved { name } => {
                write!(f, " {name}")
            }
            EventPayload::Missed { fire_times, .. } => stretch(f, fire_times),
            EventPayload::Skipped { fire_times, reason, .. } => {
                stretch(f, fire_times)?;
                write!(f, ", {reason}")
            }
            EventPayload::Coalesced { fire_times, into, .. } => {
                stretch(f, fire_times)?;
                write!(f, " into {}", rfc3339(*into))
            }
            EventPayload::Lagged { missed } => write!(f, ", {missed} events missed"),
            _ => Ok(()),
        }
    }
}

/// A filter for the events of a listener. Default: all events.
///
/// Events that do not pass cost the listener nothing and never make it lag. Every method that takes
/// a filter also accepts a kind, kinds joined by `|`, or a list of kinds.
///
/// | written | passes |
/// |---|---|
/// | `EventKind::Missed` | events of this kind |
/// | `EventKind::Missed \| EventKind::Skipped` | events of either kind |
/// | `[EventKind::Missed, EventKind::Skipped]`, a slice or a `Vec` | the same |
/// | `(EventKind::Missed \| EventKind::Skipped).job("report")` | events of either kind, of one job |
/// | `EventFilter::new()` | all events |
///
/// ```
/// use punctual::{EventFilter, EventKind, Scheduler};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// let scheduler = Scheduler::new();
/// let missed = scheduler.events_matching(EventKind::Missed | EventKind::Skipped);
/// scheduler.on_event([EventKind::Failed, EventKind::TimedOut], |event| eprintln!("{event}"))?;
///
/// let report = EventFilter::new().kinds([EventKind::Missed, EventKind::Skipped]).job("report");
/// # drop((missed, report));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    kinds: Option<KindSet>,
    job: Option<JobId>,
}

impl EventFilter {
    /// A filter that passes all events.
    pub fn new() -> EventFilter {
        EventFilter::default()
    }

    /// Passes only events of these kinds.
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = EventKind>) -> EventFilter {
        self.kinds = Some(kinds.into_iter().fold(KindSet::NONE, KindSet::with));
        self
    }

    /// Passes only events of the job with this id, in any incarnation.
    pub fn job(mut self, id: impl Into<JobId>) -> EventFilter {
        self.job = Some(id.into());
        self
    }

    /// The kinds that the filter passes.
    pub(crate) fn kind_set(&self) -> KindSet {
        self.kinds.unwrap_or(KindSet::ALL)
    }

    pub(crate) fn passes(&self, payload: &EventPayload) -> bool {
        self.kind_set().contains(payload.kind())
            && self.job.as_ref().is_none_or(|job| payload.job() == Some(job))
    }
}

impl From<EventKind> for EventFilter {
    fn from(kind: EventKind) -> EventFilter {
        EventFilter::from([kind])
    }
}

impl<const N: usize> From<[EventKind; N]> for EventFilter {
    fn from(kinds: [EventKind; N]) -> EventFilter {
        EventFilter::new().kinds(kinds)
    }
}

impl<const N: usize> From<&[EventKind; N]> for EventFilter {
    fn from(kinds: &[EventKind; N]) -> EventFilter {
        EventFilter::from(&kinds[..])
    }
}

impl From<&[EventKind]> for EventFilter {
    fn from(kinds: &[EventKind]) -> EventFilter {
        EventFilter::new().kinds(kinds.iter().copied())
    }
}

impl From<Vec<EventKind>> for EventFilter {
    fn from(kinds: Vec<EventKind>) -> EventFilter {
        EventFilter::new().kinds(kinds)
    }
}

impl From<&EventFilter> for EventFilter {
    fn from(filter: &EventFilter) -> EventFilter {
        filter.clone()
    }
}

/// Events of either kind.
impl BitOr for EventKind {
    type Output = EventFilter;

    fn bitor(self, other: EventKind) -> EventFilter {
        EventFilter::from([self, other])
    }
}

/// Also passes events of this kind, of the filter's job if it has one.
impl BitOr<EventKind> for EventFilter {
    type Output = EventFilter;

    fn bitor(mut self, kind: EventKind) -> EventFilter {
        // A filter without kinds passes all of them already.
        self.kinds = self.kinds.map(|kinds| kinds.with(kind));
        self
    }
}

/// A set of kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KindSet(u64);

impl KindSet {
    pub(crate) const NONE: KindSet = KindSet(0);
    pub(crate) const ALL: KindSet = KindSet(u64::MAX);

    pub(crate) const fn with(self, kind: EventKind) -> KindSet {
        KindSet(self.0 | 1 << kind as u64)
    }

    pub(crate) const fn union(self, other: KindSet) -> KindSet {
        KindSet(self.0 | other.0)
    }

    pub(crate) fn contains(self, kind: EventKind) -> bool {
        self.0 & (1 << kind as u64) != 0
    }
}
