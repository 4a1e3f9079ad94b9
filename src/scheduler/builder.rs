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
    job::{JobOptions, option_setters},
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
    /// That there is no runtime, that an option is out of range or that the zone is unknown.
    pub async fn start(mut self) -> Result<Scheduler, Error> {
        self.defaults.validate()?;
        if self.buffer == 0 {
            return Err(Error::invalid_option(
                "event_buffer(0) would keep no event for any listener: use 1 or more",
            ));
        }
        self.zone = Ok(self.zone?);
        let scheduler = start(self);
        scheduler.shared.runtime()?;
        Ok(scheduler)
    }
}

/// Starts a scheduler whose options were checked. Without a runtime it says so when it is used.
pub(super) fn start(builder: SchedulerBuilder) -> Scheduler {
    let SchedulerBuilder { defaults, zone, clock, paused, buffer, precise, callbacks } = builder;
    // The hasher's keys are random in each process and differ with every call.
    let number = RandomState::new().build_hasher().finish();
    let defaults = Arc::new(defaults);
    let core = Core::new((number >> 32) as u32, defaults.clone(), paused);
    let zone = zone.unwrap_or(Tz::UTC);
    let clock = clock.unwrap_or_else(|| Clock::System(SystemClock::new()));
    let shared = Arc::new(Shared::new(core, clock, zone, defaults, buffer, precise));
    let scheduler = Scheduler::owned(shared.clone());
    if let Ok(runtime) = shared.runtime() {
        for (filter, callback) in callbacks {
            events::call(runtime, scheduler.events_matching(filter), callback);
        }
        shared.with(|state, now| state.core.note(now, What::Started));
        Driver::spawn(shared.clone(), runtime);
    }
    scheduler
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
