//! How a scheduler is set up and started.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
};

use chrono_tz::Tz;

use super::{Scheduler, events};
use crate::{
    clock::{Clock, SystemClock},
    core::Core,
    driver::{Driver, Shared},
    error::Error,
    event::{Event, EventFilter, What},
    executor::{AsyncExecutor, BlockingPool, Executor},
    job::{BLOCKING_EXECUTOR, DEFAULT_EXECUTOR, JobOptions, option_setters},
    task::{States, Task, Tasks},
    trigger::IntoTimeZone,
};

type Callback = Box<dyn FnMut(Event) + Send>;

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
    zone: Result<Tz, Error>,
    /// The system's, if none is given.
    clock: Option<Clock>,
    paused: bool,
    buffer: usize,
    precise: bool,
    executors: Vec<(Arc<str>, Executor)>,
    states: States,
    tasks: Result<Tasks, Error>,
    callbacks: Vec<(EventFilter, Callback)>,
}

impl SchedulerBuilder {
    pub(super) fn new() -> SchedulerBuilder {
        SchedulerBuilder {
            defaults: JobOptions::default(),
            zone: Ok(Tz::UTC),
            clock: None,
            paused: false,
            buffer: 1024,
            precise: false,
            executors: Vec::new(),
            states: States::default(),
            tasks: Ok(Tasks::default()),
            callbacks: Vec::new(),
        }
    }

    option_setters!(options_mut);

    fn options_mut(&mut self) -> &mut JobOptions {
        &mut self.defaults
    }

    /// Sets the zone of cron texts that name none: a [`chrono_tz::Tz`], or the IANA name of one.
    /// Default: UTC.
    pub fn time_zone(mut self, zone: impl IntoTimeZone) -> Self {
        self.zone = zone.into_time_zone();
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

    /// Calls `callback` with everything that passes the filter, the start included; see
    /// [`Scheduler::on_event`].
    pub fn on_event(
        mut self,
        filter: EventFilter,
        callback: impl FnMut(Event) + Send + 'static,
    ) -> Self {
        self.callbacks.push((filter, Box::new(callback)));
        self
    }

    /// Takes the time from a clock that a test moves by hand.
    #[cfg(feature = "testing")]
    pub fn clock(mut self, clock: crate::testing::ManualClock) -> Self {
        self.clock = Some(Clock::Manual(clock));
        self
    }

    /// Starts the scheduler on the current runtime.
    ///
    /// # Errors
    ///
    /// That there is no runtime, that an option is out of range, that the zone is unknown, that two
    /// executors or tasks have the same name, or that the default options name an executor that there
    /// is not.
    pub async fn start(mut self) -> Result<Scheduler, Error> {
        self.defaults.validate()?;
        self.tasks = Ok(self.tasks?);
        if self.buffer == 0 {
            return Err(Error::invalid_option(
                "event_buffer(0) would keep no event for any listener: use 1 or more",
            ));
        }
        self.zone = Ok(self.zone?);
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
        callbacks,
    } = builder;
    // The hasher's keys are random in each process and differ with every call.
    let number = RandomState::new().build_hasher().finish();
    let defaults = Arc::new(defaults);
    let core = Core::new((number >> 32) as u32, defaults.clone(), paused);
    let zone = zone.unwrap_or(Tz::UTC);
    let clock = clock.unwrap_or_else(|| Clock::System(SystemClock::new()));
    let shared = Arc::new(Shared::new(
        core,
        clock,
        zone,
        defaults,
        buffer,
        precise,
        (states, tasks.unwrap_or_default()),
    ));
    let scheduler = Scheduler::owned(shared.clone());
    let started = shared.runtime().map(|runtime| {
        for (filter, callback) in callbacks {
            events::call(runtime, scheduler.events_matching(filter), callback);
        }
        shared.with(|state, now| state.core.note(now, What::Started));
        Driver::spawn(shared.clone(), runtime);
    });
    let started = started.and_then(|()| add_executors(&shared, executors));
    (scheduler, started)
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
