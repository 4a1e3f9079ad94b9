//! The builder of a scheduler: its options and its start.

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

/// A builder for a scheduler. Job options set here are the defaults for all jobs.
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
    /// `None` is the system's time zone, looked up at the start.
    zone: Option<Result<TimeZone, Error>>,
    /// Default: the system clock.
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

    /// Sets the time zone of cron texts without a time zone: a [`TimeZone`], a [`chrono_tz::Tz`],
    /// or an IANA name. Default: UTC.
    pub fn time_zone(mut self, zone: impl IntoTimeZone) -> Self {
        self.zone = Some(zone.into_time_zone());
        self
    }

    /// Uses the system's time zone for cron texts without a time zone.
    ///
    /// The time zone is the one in `TZ`, otherwise the system setting, otherwise UTC. It is looked
    /// up when the scheduler starts, and stored with each job.
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

    /// Sets the maximum backward step of the wall clock that jobs wait out. Default: 3 h. Range:
    /// zero to a year.
    ///
    /// Jobs with a cron, calendar or timetable trigger, or a combination of them, have already
    /// fired up to the old time. After a step within this limit they fire next when the clock has
    /// passed the old time, so that nothing fires twice. A longer backward step is a correction:
    /// these jobs continue from the new time.
    /// [`EventPayload::ClockStepped`](crate::EventPayload::ClockStepped) reports which of the two
    /// applied. A job in a store skips fire times that the ledger already has, since no fire time
    /// is claimed twice.
    ///
    /// An interval without a start is elapsed time: its fire times move with each step. In a store
    /// it follows the store's clock. If that clock was set back by more than a minute, the interval
    /// continues within one period from when a scheduler detects this, while running or at its
    /// start.
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

    /// Sets the buffer size of each event listener and of each stream of runs. Default: 1024.
    /// Minimum: 1.
    ///
    /// When a buffer is full, the oldest items are dropped, and the listener receives a notice of
    /// how many. One call may cause many events (`add_all` causes one per job): use a filter or a
    /// large buffer if a listener must receive all of them.
    pub fn event_buffer(mut self, events: usize) -> Self {
        self.buffer = events;
        self
    }

    /// Starts runs within a fraction of a millisecond, with a thread that waits for the next due
    /// instant with microsecond precision. Default: Tokio's timers, which are up to 2 ms late.
    ///
    /// The thread spins for up to 80 µs before each due instant, which takes 8 % of a core at 1,000
    /// instants per second, and otherwise sleeps. Not used under paused time.
    pub fn precise_timers(mut self) -> Self {
        self.precise = true;
        self
    }

    /// Adds an executor for the jobs that [name](crate::Add::executor) it. An executor named
    /// `default` or `blocking` replaces the built-in one.
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

    /// Adds a value that runs can access by its type, with
    /// [`Context::state`](crate::Context::state). A second value of the same type replaces the
    /// first.
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.states.insert(state);
        self
    }

    /// Registers a task, so that jobs with this task can be added and run.
    pub fn task<T: Task>(mut self) -> Self {
        self.tasks = self.tasks.and_then(|mut tasks| tasks.register::<T>().map(|()| tasks));
        self
    }

    /// Keeps jobs that are [tasks](Task) in a store named `default`, where they survive the process
    /// and may be shared with other schedulers; see [`store`](crate::store). Default: no store, and
    /// all jobs are in memory.
    ///
    /// Closures stay in memory, as do tasks with [`in_memory`](crate::Add::in_memory).
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

    /// Adds a store for the jobs that [name](crate::Add::store) it.
    ///
    /// [`store`](SchedulerBuilder::store) adds the store named `default`, for tasks without a named
    /// store. The scheduler is a node of each store, with one lease per store, so an outage of one
    /// store stalls only its own jobs. Ids are unique across all stores, as far as the scheduler
    /// can see. Add each store only once: under a second name, its jobs would be found twice.
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

    /// Sets the lease: how long a store keeps this scheduler's claims after its last heartbeat.
    /// Default: 15 s. Range: 100 ms to 1 h.
    ///
    /// The scheduler sends three heartbeats per lease. When it dies, other schedulers reclaim its
    /// rows within the lease and one heartbeat; a scheduler that has just started first watches the
    /// others for their whole lease. Clock steps have no effect on this. A scheduler that cannot
    /// reach the store for four fifths of the lease starts no durable runs, and cancels runs that
    /// other schedulers may start again. A short lease makes this happen sooner with a slow store.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.node.lease = lease;
        self
    }

    /// Sets how long before their due instants fire times are claimed from the store, in batches,
    /// so that durable jobs start as punctually as jobs in memory. Default: 1 s. Maximum: 60 s.
    ///
    /// If the scheduler dies, its unstarted claims are *abandoned* unless their job
    /// [recovers](crate::Add::recover). A value of zero makes this window small, and delays each
    /// run by the store's response time.
    pub fn claim_ahead(mut self, ahead: Duration) -> Self {
        self.node.claim_ahead = ahead;
        self
    }

    /// Sets how often a store is polled for changes of other nodes that it does not notify of.
    /// Default: 5 s, and 20 s for a store that [notifies](crate::store::Capabilities::notifies); less up
    /// to a quarter at random. Range: 10 ms to 1 h.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.node.poll = Some(interval);
        self
    }

    /// Sets how many rows of history a store keeps for each job, and for how long. Default: 1000
    /// rows, 30 days.
    ///
    /// Older rows are deleted in small batches, more often if there is more to delete. Rows that
    /// were closed in the last minute, the ends of jobs of the last two hours, and open rows are
    /// kept in any case.
    pub fn keep_history(mut self, rows: u32, age: Duration) -> Self {
        self.node.keep = Keep { rows, age, ..self.node.keep };
        self
    }

    /// Sets how long a store keeps the history of a job that has ended. Default: 7 days.
    ///
    /// The end of a job is kept for two hours in any case, unless the ledger [exceeds its
    /// limit](SchedulerBuilder::keep_in_all).
    pub fn keep_ended(mut self, age: Duration) -> Self {
        self.node.keep.ended = age;
        self
    }

    /// Sets how many rows of history a store keeps for all jobs together. Default: 1,000,000, about
    /// 200 MB in a file.
    ///
    /// Beyond this limit the oldest rows are deleted, even if
    /// [`keep_history`](SchedulerBuilder::keep_history) would keep them, except rows that were
    /// closed in the last minute. A job that runs once leaves two rows.
    pub fn keep_in_all(mut self, rows: u64) -> Self {
        self.node.keep.total = rows;
        self
    }

    /// Sets the name of this scheduler in its stores, for people, in at most 255 bytes. Default:
    /// the program's name and its process id.
    pub fn node_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.node_name = Some(name.into());
        self
    }

    /// Calls `callback` with each event that passes the filter, including the start; see
    /// [`Scheduler::on_event`].
    pub fn on_event(
        mut self,
        filter: impl Into<EventFilter>,
        callback: impl FnMut(Event) + Send + 'static,
    ) -> Self {
        self.callbacks.push((filter.into(), Box::new(callback)));
        self
    }

    /// Sets a clock that a test advances manually.
    #[cfg(feature = "testing")]
    pub fn clock(mut self, clock: crate::clock::ManualClock) -> Self {
        self.clock = Some(Clock::Manual(clock));
        self
    }

    /// Starts the scheduler on the current runtime.
    ///
    /// # Errors
    ///
    /// If there is no runtime, an option is out of range, two stores, executors or tasks have the
    /// same name, the time zone is unknown or the system's has no IANA name, or the default options
    /// name an executor that does not exist.
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
            ("poll_interval", self.node.poll.unwrap_or(HOUR), Duration::from_millis(10)..=HOUR),
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
                    "{what}({value:?}) is out of range: use {:?} to {:?}",
                    range.start(),
                    range.end()
                )));
            }
        }
        let mut names = HashSet::new();
        if let Some((name, _)) = self.stores.iter().find(|(name, _)| !names.insert(name.clone())) {
            return Err(Error::invalid_option(format!(
                "two stores are named `{name}`: give one of them another name, with `add_store(\"..\", ..)`{}",
                if &**name == DEFAULT_STORE { " (`store(..)` is `default`)" } else { "" }
            )));
        }
        let (scheduler, started) = start(self);
        started.map(|()| scheduler)
    }
}

/// Starts a scheduler with checked options.
///
/// Returns the scheduler also on an error, and then every later call returns an error too.
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
    // The hasher's keys are random in each process and differ in each call.
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
        shared.transact(|core, now| core.note(now, EventPayload::Started));
        let joined =
            stores.into_iter().try_for_each(|(name, store)| stores::join(&shared, name, store));
        // Before the stores are first read: their jobs name executors.
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

/// Adds the given executors, and the built-in ones that were not given.
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
    shared.transact(|core, _| core.check_defaults())
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
