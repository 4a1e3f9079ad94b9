//! How a scheduler is set up and started.

use std::{
    collections::HashSet,
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use chrono::TimeDelta;

use super::{Scheduler, events, stores};
use crate::{
    clock::{Clock, SystemClock},
    core::{Core, NodeOptions},
    driver::{Driver, Shared, SharedConfig},
    error::Error,
    event::{Event, EventFilter, EventPayload},
    executor::{AsyncExecutor, BlockingPool, Executor},
    job::{self, BLOCKING_EXECUTOR, DEFAULT_EXECUTOR, DEFAULT_STORE, JobOptions, option_setters},
    ledger::Keep,
    store::{ErasedStore, Store},
    task::{States, Task, Tasks},
    zone::{IntoTimeZone, TimeZone},
};

type Callback = Box<dyn FnMut(Event) + Send>;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Sets up a scheduler. The job options set here are the defaults of its jobs.
///
/// ```
/// use std::time::Duration;
/// use punctual::Scheduler;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// let scheduler = Scheduler::builder()
///     .time_zone("Europe/Berlin")
///     .misfire_grace_time(Duration::from_secs(60))
///     .paused()
///     .start()
///     .await?;
/// scheduler.resume().await?;
/// # Ok(()) }
/// ```
#[must_use = "a scheduler starts when `start` is awaited"]
pub struct SchedulerBuilder {
    defaults: JobOptions,
    /// None is the zone of the machine, looked up at the start.
    zone: Option<Result<TimeZone, Error>>,
    /// The system's, if none is given.
    clock: Option<Clock>,
    paused: bool,
    buffer: usize,
    precise: bool,
    executors: Vec<(Arc<str>, Executor)>,
    states: States,
    tasks: Result<Tasks, Error>,
    stores: Vec<(Arc<str>, Arc<dyn ErasedStore>)>,
    node: NodeOptions,
    node_name: Option<Arc<str>>,
    callbacks: Vec<(EventFilter, Callback)>,
    correction: Duration,
}

impl SchedulerBuilder {
    pub(super) fn new() -> SchedulerBuilder {
        SchedulerBuilder {
            defaults: JobOptions::default(),
            zone: Some(Ok(TimeZone::UTC)),
            clock: None,
            paused: false,
            buffer: 1024,
            precise: false,
            executors: Vec::new(),
            states: States::default(),
            tasks: Ok(Tasks::default()),
            stores: Vec::new(),
            node: NodeOptions::default(),
            node_name: None,
            callbacks: Vec::new(),
            correction: 3 * HOUR,
        }
    }

    option_setters!(options_mut);

    fn options_mut(&mut self) -> &mut JobOptions {
        &mut self.defaults
    }

    /// Sets the zone of cron texts that name none: a [`TimeZone`], a [`chrono_tz::Tz`], or the IANA
    /// name of one.
    /// Default: UTC.
    pub fn time_zone(mut self, zone: impl IntoTimeZone) -> Self {
        self.zone = Some(zone.into_time_zone());
        self
    }

    /// Takes the zone of the machine for cron texts that name none: what `TZ` says, else the machine's
    /// settings, else UTC. It is looked up when the scheduler starts, and kept with each job.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// let scheduler = punctual::Scheduler::builder().local_time_zone().start().await?;
    /// let job = scheduler.add("0 9 * * *", || async { println!("good morning") }).await?;
    /// println!("{}", job.get().await?); // …: 0 9 * * * (Europe/Berlin), next …
    /// # Ok(()) }
    /// ```
    pub fn local_time_zone(mut self) -> Self {
        self.zone = None;
        self
    }

    /// Sets the longest step back of the wall clock that jobs wait out. Default: 3 h; zero to a year.
    ///
    /// A cron, a calendar, a timetable, or what combines them, has fired up to where the clock was, and
    /// after such a step fires next when the clock is there again, so that nothing happens twice. A
    /// longer step back is a correction: the clock was wrong, and these jobs go on from now.
    /// [`EventPayload::ClockStepped`](crate::EventPayload::ClockStepped) says which it was. In a store, where no fire
    /// time is claimed twice, those that the ledger has already are passed over.
    ///
    /// An interval without a start is elapsed time: its fire times move with each step. In a store it
    /// goes by the store's clock: when that was set back by more than a minute, it goes on within a
    /// period from when a scheduler notices, which it does while it runs, and when it starts.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use punctual::Scheduler;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// let scheduler =
    ///     Scheduler::builder().clock_correction(Duration::from_secs(600)).start().await?;
    /// # Ok(()) }
    /// ```
    pub fn clock_correction(mut self, longest: Duration) -> Self {
        self.correction = longest;
        self
    }

    /// Starts the scheduler paused: nothing fires until [`resume`](Scheduler::resume).
    pub fn paused(mut self) -> Self {
        self.paused = true;
        self
    }

    /// Sets how many events are kept for each listener, and runs for each stream of runs, before
    /// the oldest are thrown away and the listener is told that it lagged. Default: 1024, at least 1.
    ///
    /// One command may cause many events (`add_all` one per job): a listener that must see all of
    /// them wants a filter, or room for them.
    pub fn event_buffer(mut self, events: usize) -> Self {
        self.buffer = events;
        self
    }

    /// Starts runs within a fraction of a millisecond, by a thread that waits for the next fire time
    /// to the microsecond. Default: Tokio's timers, which are up to two milliseconds late.
    ///
    /// The thread spins for up to 80 µs before each instant at which something is due: 8 % of a core
    /// at a thousand such instants a second. It sleeps otherwise. Under paused time it is not used.
    pub fn precise_timers(mut self) -> Self {
        self.precise = true;
        self
    }

    /// Adds an executor, to which jobs go that [name](crate::Add::executor) it. One named `default`
    /// or `blocking` takes the place of the one there is.
    ///
    /// ```
    /// # use punctual::{AsyncExecutor, BlockingPool, Scheduler};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// let scheduler = Scheduler::builder()
    ///     .add_executor("default", AsyncExecutor::new().max_running(100))
    ///     .add_executor("reports", BlockingPool::new(2))
    ///     .start()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn add_executor(
        mut self,
        name: impl Into<Arc<str>>,
        executor: impl Into<Executor>,
    ) -> Self {
        self.executors.push((name.into(), executor.into()));
        self
    }

    /// Gives runs something that they may ask for by its type, with
    /// [`Context::state`](crate::Context::state). A second one of the same type takes the place of
    /// the first.
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.states.insert(state);
        self
    }

    /// Registers a task, so that jobs can be added that run it.
    pub fn task<T: Task>(mut self) -> Self {
        self.tasks = self.tasks.and_then(|mut tasks| tasks.register::<T>().map(|()| tasks));
        self
    }

    /// Keeps jobs that are [tasks](Task) in a store, which is named `default`, where they outlive the process and may be shared
    /// with other schedulers; see [`store`](crate::store). Default: none, and all jobs are in memory.
    ///
    /// Closures stay in memory, as do tasks that are added with [`in_memory`](crate::Add::in_memory).
    ///
    /// ```
    /// use punctual::{Context, OnConflict, Scheduler, Task, store::MemoryStore, trigger::every};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Report {
    ///     team: String,
    /// }
    ///
    /// impl Task for Report {
    ///     const NAME: &'static str = "report";
    ///     type Output = ();
    ///
    ///     async fn run(self, cx: Context) {
    ///         println!("{} of {} at {}", cx.job_id(), self.team, cx.fire_time());
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// let scheduler =
    ///     Scheduler::builder().store(MemoryStore::new()).task::<Report>().start().await?;
    /// let report = Report { team: "storage".into() };
    /// scheduler
    ///     .add(every("monday at 9:00"), report)
    ///     .id("report-storage")
    ///     .on_conflict(OnConflict::Reconcile)
    ///     .await?;
    /// # scheduler.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn store(self, store: impl Store) -> Self {
        self.add_store(DEFAULT_STORE, store)
    }

    /// Adds a store under a name, to which jobs go that [name](crate::Add::store) it;
    /// [`store`](SchedulerBuilder::store) adds the one named `default`, to which tasks go that name none.
    ///
    /// The scheduler is a node of each store, with a lease of its own: one that is down stalls its own
    /// jobs only. Ids are unique over all of them, as far as the scheduler can see. Give each store one
    /// name: under a second one its jobs would be found twice.
    ///
    /// ```
    /// # use punctual::{Context, Scheduler, Task, store::MemoryStore, trigger::every};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Report;
    /// # impl Task for Report { const NAME: &'static str = "report"; type Output = (); async fn run(self, _: Context) {} }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), punctual::Error> {
    /// let scheduler = Scheduler::builder()
    ///     .store(MemoryStore::new())
    ///     .add_store("archive", MemoryStore::new())
    ///     .task::<Report>()
    ///     .start()
    ///     .await?;
    /// scheduler.add(every("1h"), Report).id("hourly").await?;
    /// scheduler.add(every("30d"), Report).id("monthly").store("archive").await?;
    /// # scheduler.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn add_store(mut self, name: impl Into<Arc<str>>, store: impl Store) -> Self {
        self.stores.push((name.into(), Arc::new(store)));
        self
    }

    /// Sets for how long the store takes this scheduler for alive after it last said so, which it does
    /// three times as often. Default: 15 s; 100 ms to an hour.
    ///
    /// When a scheduler dies, others take its work over within this and a heartbeat; one that has only
    /// started watches the others for as long first. No clock that steps has any part in that. One that can't reach the
    /// store for four fifths of it starts no durable run any more, and cancels those that others may
    /// start again: with less, a slow store does that sooner.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.node.lease = lease;
        self
    }

    /// Sets how long before they are due fire times are taken from the store, in batches, so that
    /// durable jobs start as exactly as those in memory. Default: 1 s, at most a minute.
    ///
    /// If the scheduler dies, what it has taken and not started is *abandoned*, unless its job
    /// [recovers](crate::Add::recover): zero makes that window small, and runs later by the time that
    /// the store takes to answer.
    pub fn claim_ahead(mut self, ahead: Duration) -> Self {
        self.node.claim_ahead = ahead;
        self
    }

    /// Sets how often the store is asked for changes by others that it does not tell of. Default: 5 s,
    /// less a quarter at random; 10 ms to an hour.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.node.poll = interval;
        self
    }

    /// Sets how many rows of each job's history the store keeps, and for how long. Older ones are
    /// deleted in small batches, more often the more there is to delete. Default: 1000, 30 days.
    ///
    /// What was closed in the last minute, how a job ended in the last two hours, and what has yet to
    /// meet its fate is kept in any case.
    pub fn keep_history(mut self, rows: u32, age: Duration) -> Self {
        self.node.keep = Keep { rows, age, ..self.node.keep };
        self
    }

    /// Sets for how long the store keeps the history of a job that is over. Default: 7 days.
    ///
    /// How a job ended is kept for two hours in any case, unless the ledger
    /// [grows too large](SchedulerBuilder::keep_in_all).
    pub fn keep_ended(mut self, age: Duration) -> Self {
        self.node.keep.ended = age;
        self
    }

    /// Sets how many rows of history the store keeps of all jobs together. Default: a million, which
    /// take some 200 MB in a file.
    ///
    /// Beyond them the oldest are deleted, even if [`keep_history`](SchedulerBuilder::keep_history) would
    /// keep them, but for what ended in the last minute. A job that runs once leaves two rows.
    pub fn keep_in_all(mut self, rows: u64) -> Self {
        self.node.keep.total = rows;
        self
    }

    /// Names this scheduler in the store, for people, in at most 255 bytes. Default: the program's name and its process id.
    pub fn node_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.node_name = Some(name.into());
        self
    }

    /// Calls `callback` with everything that passes the filter, the start included; see
    /// [`Scheduler::on_event`].
    pub fn on_event(
        mut self,
        filter: impl Into<EventFilter>,
        callback: impl FnMut(Event) + Send + 'static,
    ) -> Self {
        self.callbacks.push((filter.into(), Box::new(callback)));
        self
    }

    /// Takes the time from a clock that a test moves by hand.
    #[cfg(feature = "testing")]
    pub fn clock(mut self, clock: crate::clock::ManualClock) -> Self {
        self.clock = Some(Clock::Manual(clock));
        self
    }

    /// Starts the scheduler on the current runtime.
    ///
    /// # Errors
    ///
    /// That there is no runtime, that an option is out of range, that two stores have the same name, that the zone is unknown or the machine's has no IANA name, that two
    /// executors or tasks have the same name, or that the default options name an executor that there
    /// is not.
    pub async fn start(mut self) -> Result<Scheduler, Error> {
        self.defaults.validate()?;
        self.tasks = Ok(self.tasks?);
        self.node_name.iter().try_for_each(|name| job::check_name("the node's name", name))?;
        if self.buffer == 0 {
            return Err(Error::invalid_option(
                "event_buffer(0) would keep no event for any listener: use 1 or more",
            ));
        }
        self.zone = Some(Ok(self.zone.unwrap_or_else(TimeZone::local)?));
        let ranges = [
            ("lease", self.node.lease, Duration::from_millis(100)..=HOUR),
            ("claim_ahead", self.node.claim_ahead, Duration::ZERO..=Duration::from_secs(60)),
            ("clock_correction", self.correction, Duration::ZERO..=365 * 24 * HOUR),
            ("poll_interval", self.node.poll, Duration::from_millis(10)..=HOUR),
            (
                "keep_ended",
                self.node.keep.ended,
                Duration::ZERO..=Duration::from_secs(u32::MAX.into()),
            ),
            (
                "keep_history",
                self.node.keep.age,
                Duration::ZERO..=Duration::from_secs(u32::MAX.into()),
            ),
        ];
        for (what, value, range) in ranges {
            if !range.contains(&value) {
                return Err(Error::invalid_option(format!(
                    "{what}({value:?}) is out of its range: use {:?} to {:?}",
                    range.start(),
                    range.end()
                )));
            }
        }
        let mut names = HashSet::new();
        if let Some((name, _)) = self.stores.iter().find(|(name, _)| !names.insert(name.clone())) {
            return Err(Error::invalid_option(format!(
                "two stores are named `{name}`: give one of them another name, with `add_store(\"..\", ..)`{}",
                match &**name == DEFAULT_STORE {
                    true => " (`store(..)` is `default`)",
                    false => "",
                }
            )));
        }
        let (scheduler, started) = start(self);
        started.map(|()| scheduler)
    }
}

/// Starts a scheduler whose options were checked, and says what is wrong nevertheless. Without a
/// runtime it says so when it is used, too.
pub(super) fn start(builder: SchedulerBuilder) -> (Scheduler, Result<(), Error>) {
    let SchedulerBuilder {
        defaults,
        zone,
        clock,
        paused,
        buffer,
        precise,
        executors,
        states,
        tasks,
        stores,
        node,
        node_name,
        callbacks,
        correction,
    } = builder;
    // The hasher's keys are random in each process and differ with every call.
    let number = RandomState::new().build_hasher().finish();
    let defaults = Arc::new(defaults);
    let zone = zone.and_then(Result::ok).unwrap_or(TimeZone::UTC);
    let clock = clock.unwrap_or_else(|| Clock::System(SystemClock::new()));
    let mut core = Core::new((number >> 32) as u32, defaults.clone(), paused, clock.read());
    core.correct_clocks_after(TimeDelta::from_std(correction).unwrap_or(TimeDelta::MAX));
    let tasks = tasks.unwrap_or_default();
    let node = NodeOptions {
        name: node_name.unwrap_or_else(default_name),
        correction: TimeDelta::from_std(correction).unwrap_or(TimeDelta::MAX),
        ..node
    };
    let parts = SharedConfig { clock, zone, defaults, buffer, precise, states, tasks, node };
    let shared = Arc::new(Shared::new(core, parts));
    let scheduler = Scheduler::owned(shared.clone());
    let started = shared.runtime().map(|runtime| {
        for (filter, callback) in callbacks {
            events::call(runtime, scheduler.events_matching(filter), callback);
        }
        shared.with(|state, now| state.core.note(now, EventPayload::Started));
        let joined =
            stores.into_iter().try_for_each(|(name, store)| stores::join(&shared, name, store));
        // Before the first look at the store: its jobs name them.
        let added = add_executors(&shared, executors);
        Driver::spawn(shared.clone(), runtime);
        joined.and(added)
    });
    (scheduler, started.and_then(|added| added))
}

fn default_name() -> Arc<str> {
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(|path| path.file_name()).unwrap_or_default();
    format!("{} {}", program.to_string_lossy(), std::process::id()).into()
}

/// Adds the executors that were given, and those that are always there.
fn add_executors(shared: &Shared, executors: Vec<(Arc<str>, Executor)>) -> Result<(), Error> {
    for (name, executor) in executors {
        shared.add_executor(name, executor)?;
    }
    if shared.executor(DEFAULT_EXECUTOR).is_none() {
        shared.add_executor(DEFAULT_EXECUTOR.into(), AsyncExecutor::new().into())?;
    }
    if shared.executor(BLOCKING_EXECUTOR).is_none() {
        shared.add_executor(BLOCKING_EXECUTOR.into(), BlockingPool::default().into())?;
    }
    shared.with(|state, _| state.core.check_defaults())
}

impl fmt::Debug for SchedulerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerBuilder")
            .field("defaults", &self.defaults)
            .field("zone", &self.zone)
            .field("paused", &self.paused)
            .finish_non_exhaustive()
    }
}
