//! What happened: the events of a scheduler and the filter of those who listen.

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

/// Something that happened in a scheduler.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// Counts the scheduler's events from 1. A filter leaves gaps.
    pub sequence: u64,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The name of the store that the job is in to which it happened, or of the store itself; none if the
    /// job is in memory, or if it happened to the scheduler.
    pub store: Option<Arc<str>>,
    /// What happened.
    pub payload: EventPayload,
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident $(($inner:ty))? $({$($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)?})?,)*) => {
        /// What happened, with its particulars.
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

        /// The kinds of events, to filter by.
        ///
        /// | about | kinds |
        /// |---|---|
        /// | the scheduler | [`Started`](EventKind::Started), [`Paused`](EventKind::Paused), [`Resumed`](EventKind::Resumed), [`ShutDown`](EventKind::ShutDown), [`ClockStepped`](EventKind::ClockStepped), [`TimeZonesUpdated`](EventKind::TimeZonesUpdated), [`ExecutorAdded`](EventKind::ExecutorAdded), [`ExecutorRemoved`](EventKind::ExecutorRemoved) |
        /// | a job | [`JobAdded`](EventKind::JobAdded), [`JobModified`](EventKind::JobModified), [`JobPaused`](EventKind::JobPaused), [`JobResumed`](EventKind::JobResumed), [`JobRemoved`](EventKind::JobRemoved), [`AllJobsRemoved`](EventKind::AllJobsRemoved), [`TriggerFailed`](EventKind::TriggerFailed) |
        /// | a run | [`Submitted`](EventKind::Submitted), [`Executed`](EventKind::Executed), [`Failed`](EventKind::Failed), [`TimedOut`](EventKind::TimedOut), [`Cancelled`](EventKind::Cancelled), [`Retrying`](EventKind::Retrying), [`Abandoned`](EventKind::Abandoned) |
        /// | a fire time without a run | [`Missed`](EventKind::Missed), [`Skipped`](EventKind::Skipped), [`Coalesced`](EventKind::Coalesced) |
        /// | a store | [`StoreAdded`](EventKind::StoreAdded), [`StoreRemoved`](EventKind::StoreRemoved), [`StoreFailing`](EventKind::StoreFailing), [`StoreWorking`](EventKind::StoreWorking), [`JobUnreadable`](EventKind::JobUnreadable), [`OutcomeRefused`](EventKind::OutcomeRefused) |
        /// | schedulers that share it | [`LeaseLapsed`](EventKind::LeaseLapsed), [`LeaseLost`](EventKind::LeaseLost), [`NodesDied`](EventKind::NodesDied) |
        /// | a listener | [`Lagged`](EventKind::Lagged) |
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum EventKind {
            $($(#[$doc])* $name,)*
        }

        impl EventPayload {
            /// The kind of event that this is.
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
    /// The scheduler has shut down. It is the last event there is, but for the end of a run that
    /// asked for it.
    ShutDown,
    /// The wall clock was found to have stepped against elapsed time, and all timers were set anew.
    ClockStepped {
        /// By how much it stepped; negative if backward.
        by: TimeDelta,
        /// Whether that was a correction: it was set back by more than
        /// [`clock_correction`](crate::SchedulerBuilder::clock_correction), and jobs that follow the
        /// wall clock go on from now.
        corrected: bool,
    },
    /// The rules of time zones in use have changed, since the machine's data was updated: the next
    /// fire times of all jobs that go by a wall clock were computed anew.
    TimeZonesUpdated {
        /// The data that is in use now.
        data: TimeZoneData,
    },
    /// A job was added.
    JobAdded {
        /// Its id.
        job: JobId,
        /// Its first fire time.
        next_fire: Option<DateTime<Utc>>,
    },
    /// A job was given another trigger or other options.
    JobModified {
        /// Its id.
        job: JobId,
        /// Its next fire time.
        next_fire: Option<DateTime<Utc>>,
    },
    /// A job was paused.
    JobPaused {
        /// Its id.
        job: JobId,
    },
    /// A job was resumed.
    JobResumed {
        /// Its id.
        job: JobId,
        /// Its next fire time.
        next_fire: Option<DateTime<Utc>>,
    },
    /// A job is over: removed, cancelled, replaced, or completed.
    JobRemoved {
        /// Its id.
        job: JobId,
        /// Why.
        end: End,
    },
    /// All jobs were removed at once.
    AllJobsRemoved {
        /// How many there were.
        count: usize,
    },
    /// An executor was added.
    ExecutorAdded {
        /// Its name.
        name: Arc<str>,
    },
    /// An executor was removed.
    ExecutorRemoved {
        /// Its name.
        name: Arc<str>,
    },
    /// A store was added, to which durable jobs go.
    StoreAdded {
        /// The store's name.
        store: Arc<str>,
    },
    /// A store was removed: the scheduler has taken leave of it and closed it. Its jobs stay in it.
    StoreRemoved {
        /// The store's name.
        store: Arc<str>,
    },
    /// The store does not do what it is asked: durable jobs stall until it does. It is asked again,
    /// with backoff.
    StoreFailing {
        /// The store's name.
        store: Arc<str>,
        /// What was wrong, the first time.
        error: Error,
    },
    /// The store does again what it is asked.
    StoreWorking {
        /// The store's name.
        store: Arc<str>,
    },
    /// The scheduler has not been able to tell the store for so long that it lives that others may take
    /// it for dead: until it can, it starts no durable run, and cancels those that others may start
    /// again, or beside which they may start others.
    LeaseLapsed {
        /// The store's name.
        store: Arc<str>,
    },
    /// The store took the scheduler for dead. What durable runs it had is others' now, or abandoned; it
    /// begins anew.
    LeaseLost {
        /// The store's name.
        store: Arc<str>,
    },
    /// Other schedulers that share the store have died.
    NodesDied {
        /// The store's name.
        store: Arc<str>,
        /// Which.
        nodes: Vec<NodeId>,
        /// How many of their runs are to be run again.
        recovered: usize,
        /// How many were abandoned; each has an event of its own.
        abandoned: usize,
    },
    /// A record of the store can't be read, or its job can't run here. It is kept.
    JobUnreadable {
        /// The store's name.
        store: Arc<str>,
        /// The job's id.
        job: JobId,
        /// What was wrong.
        error: Error,
    },
    /// The store refuses, again and again, what became of a run, without its message as well: the
    /// scheduler gives it up. Once it has shut down, the run counts as abandoned, or is run again if its
    /// job recovers.
    OutcomeRefused {
        /// The store's name.
        store: Arc<str>,
        /// The job's id.
        job: JobId,
        /// The run's number.
        run: RunId,
        /// What the store says.
        error: Error,
    },
    /// A job's trigger could not say when to fire next, and the job is over.
    TriggerFailed {
        /// The job's id.
        job: JobId,
        /// What was wrong.
        error: Error,
    },
    /// A run was handed over to start.
    Submitted {
        /// The job's id.
        job: JobId,
        /// The run's number.
        run: RunId,
        /// The fire time it is for.
        fire_time: DateTime<Utc>,
        /// Whether `run_now` or `again_in` asked for it.
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
    /// An attempt failed, and the work will be called again: the run goes on.
    Retrying {
        /// The run as it stood at the end of the attempt.
        run: Run,
        /// How long until the next attempt.
        delay: Duration,
    },
    /// Fire times whose run could not start within the misfire grace time.
    Missed {
        /// The job's id.
        job: JobId,
        /// The run that came too late, if it had come so far.
        run: Option<RunId>,
        /// The fire times.
        fire_times: FireTimes,
    },
    /// Fire times that were skipped.
    Skipped {
        /// The job's id.
        job: JobId,
        /// The run that was called off, if it had come so far.
        run: Option<RunId>,
        /// The fire times.
        fire_times: FireTimes,
        /// Why.
        reason: SkipReason,
    },
    /// Fire times that became part of another's run.
    Coalesced {
        /// The job's id.
        job: JobId,
        /// The fire times.
        fire_times: FireTimes,
        /// The fire time whose run stands for them.
        into: DateTime<Utc>,
    },
    /// A run whose end nobody knows: the scheduler stopped before it ended, or its job went before it was
    /// begun again.
    Abandoned(Run),
    /// This listener was too slow, and the scheduler threw away its oldest events.
    Lagged {
        /// How many it missed.
        missed: u64,
    },
}

impl EventPayload {
    /// The job that it happened to, if it happened to one.
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

/// It prints as one line: what would break the line, or hide in it, is escaped.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(Line(self)))
    }
}

/// An event as it is displayed, but for what is to be escaped.
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

/// Which events a listener wants; by default all of them.
///
/// Other events cost the listener nothing and never make it lag. Wherever a filter goes, a kind, kinds
/// joined by `|`, or a list of kinds does too.
///
/// | written | passes |
/// |---|---|
/// | `EventKind::Missed` | events of this kind |
/// | `EventKind::Missed \| EventKind::Skipped` | events of either kind |
/// | `[EventKind::Missed, EventKind::Skipped]`, a slice or a `Vec` | the same |
/// | `(EventKind::Missed \| EventKind::Skipped).job("report")` | those of one job |
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
    /// All events.
    pub fn new() -> EventFilter {
        EventFilter::default()
    }

    /// Only events of these kinds.
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = EventKind>) -> EventFilter {
        self.kinds = Some(kinds.into_iter().fold(KindSet::NONE, KindSet::with));
        self
    }

    /// Only events of this job, whatever its incarnation.
    pub fn job(mut self, id: impl Into<JobId>) -> EventFilter {
        self.job = Some(id.into());
        self
    }

    /// The kinds that may pass.
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

/// Events of this kind too: of the filter's job, if it has one.
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
