//! What a run knows of itself.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use crate::{
    core::{self, RunKey},
    driver::Shared,
    error::Error,
    job::{JobId, Run, RunId},
};

/// What a run knows of itself: given to work that takes an argument, `|cx: Context| async move { … }`.
///
/// ```
/// use std::time::Duration;
/// use punctual::{Context, Scheduler, trigger::every};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// let scheduler = Scheduler::new();
/// let job = scheduler
///     .add(every(Duration::from_secs(1)).times(3), |cx: Context| async move {
///         println!("run {} for {}, {:?} late", cx.run_id(), cx.fire_time(), cx.late_by());
///     })
///     .await?;
/// job.await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) run: RunKey,
    pub(crate) job: JobId,
    pub(crate) fire_time: DateTime<Utc>,
    pub(crate) late_by: Duration,
    pub(crate) coalesced: u64,
    pub(crate) on_request: bool,
    pub(crate) attempt: u32,
    pub(crate) fence: u64,
    pub(crate) preceding: Option<Arc<core::Preceding>>,
    /// Asks the run to stop, where there is no scheduler to ask: in a process of its own.
    #[cfg(feature = "process")]
    pub(crate) stop: Option<CancellationToken>,
}

impl Context {
    /// The id of the job.
    pub fn job_id(&self) -> &JobId {
        &self.job
    }

    /// Has this job run once more, `delay` from now, rounded up to a whole millisecond: besides what its
    /// trigger names, and also if that has named its last fire time.
    ///
    /// The job is not over before that run has ended, and may ask for another then. It has one such run
    /// ahead at most: if another is asked for, the earlier instant counts. It is like a
    /// [`run_now`](crate::Job::run_now) at that instant: neither coalesced nor judged by grace, with that
    /// instant as its [`fire_time`](Context::fire_time) and [`on_request`](Context::on_request). If
    /// `max_instances` runs are going, it waits for one to end. While the job or the scheduler is paused
    /// it stays due. It does not move when the wall clock steps.
    ///
    /// # Errors
    ///
    /// That this run or its job is over, or that the scheduler has shut down; that the work is that of
    /// [`add_once`](crate::Scheduler::add_once), which runs once; that the job is in a store: there, add a job
    /// for it, which outlives the process.
    ///
    /// ```
    /// # use std::{time::Duration, sync::atomic::{AtomicU32, Ordering}};
    /// # use punctual::{Context, Error, Scheduler, trigger::now};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// # static ASKED: AtomicU32 = AtomicU32::new(0);
    /// # fn is_ready() -> bool { ASKED.fetch_add(1, Ordering::SeqCst) == 3 }
    /// # let scheduler = Scheduler::new();
    /// let poll = |cx: Context| async move {
    ///     match is_ready() {
    ///         true => Ok(()),
    ///         false => cx.again_in(Duration::from_secs(10)),
    ///     }
    /// };
    /// scheduler.add(now(), poll).await?.await;
    /// # assert_eq!(ASKED.load(Ordering::SeqCst), 4);
    /// # Ok(()) }
    /// ```
    pub fn again_in(&self, delay: Duration) -> Result<(), Error> {
        let millis = delay.as_nanos().div_ceil(1_000_000);
        let delay = i64::try_from(millis).ok().and_then(TimeDelta::try_milliseconds);
        self.shared.try_transact(|core, now| {
            let at = delay.and_then(|delay| now.trunc_subsecs(3).checked_add_signed(delay));
            let at = at.ok_or_else(|| {
                Error::invalid_option(
                    "the delay leads past the last instant there is: use a shorter one",
                )
            })?;
            core.again(self.run, at)
        })
    }

    /// The number of this run.
    pub fn run_id(&self) -> RunId {
        self.run.id
    }

    /// The instant that the trigger named, before jitter; for `run_now`, when that was called.
    pub fn fire_time(&self) -> DateTime<Utc> {
        self.fire_time
    }

    /// How much later than due the work was called: for another attempt, with the delay before it.
    pub fn late_by(&self) -> Duration {
        self.late_by
    }

    /// How many other fire times this run stands for, because they came due together.
    pub fn coalesced(&self) -> u64 {
        self.coalesced
    }

    /// Whether `run_now` or `again_in` asked for this run.
    pub fn on_request(&self) -> bool {
        self.on_request
    }

    /// How often the work has been called for this run, this time included: from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The number that proves who took this run's fire time last, if the job is durable: it grows
    /// each time the job is taken. Give it to what the run writes to, and let that refuse lower ones:
    /// a node that was taken for dead, and is not, can then do no harm.
    pub fn fence(&self) -> Option<u64> {
        (self.fence > 0).then_some(self.fence)
    }

    /// The run that this one follows, if its job has [such a trigger](crate::trigger::after_success);
    /// if it follows [several](crate::trigger::after_all), the one that ended last.
    pub fn preceding(&self) -> Option<Preceding<'_>> {
        self.preceding.as_deref().map(Preceding)
    }

    /// The run of this job that this one follows, if it follows one of it; see
    /// [`after_all`](crate::trigger::after_all).
    pub fn preceding_of(&self, job: impl Into<JobId>) -> Option<Preceding<'_>> {
        let (last, job) = (self.preceding.as_deref()?, job.into());
        let others = last.others.iter().map(|other| &**other);
        std::iter::once(last).chain(others).find(|it| it.run.job == job).map(Preceding)
    }

    /// What was given to [`SchedulerBuilder::state`](crate::SchedulerBuilder::state), by its type; in
    /// a process of a pool, to its `Worker`.
    ///
    /// # Panics
    ///
    /// If nothing of this type was given; the panic is this run's failure.
    pub fn state<T: Send + Sync + 'static>(&self) -> &T {
        self.try_state().unwrap_or_else(|| {
            panic!(
                "no `{}` was given to the scheduler, or to the worker of a process: say `.state(..)` or `.state_with(..)`",
                std::any::type_name::<T>()
            )
        })
    }

    /// The same, or nothing if none was given.
    pub fn try_state<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.shared.states.get()
    }

    /// Waits until the run is asked to stop: its job was cancelled or replaced, or the scheduler
    /// shuts down. After `cancel_grace` (5 s by default) the run is dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn cancelled(&self) {
        self.cancellation_token().cancelled().await;
    }

    /// Whether the run has been asked to stop.
    pub fn is_cancelled(&self) -> bool {
        #[cfg(feature = "process")]
        if let Some(stop) = &self.stop {
            return stop.is_cancelled();
        }
        self.shared.is_cancelled(self.run)
    }

    /// The token behind [`cancelled`](Context::cancelled), to hand on. Cancelling it asks this run
    /// alone to stop.
    pub fn cancellation_token(&self) -> CancellationToken {
        #[cfg(feature = "process")]
        if let Some(stop) = &self.stop {
            return stop.clone();
        }
        self.shared.run_token(self.run)
    }
}

/// The run that another one follows.
#[derive(Clone, Copy, Debug)]
pub struct Preceding<'a>(&'a core::Preceding);

impl<'a> Preceding<'a> {
    /// The run and how it ended.
    pub fn run(self) -> &'a Run {
        &self.0.run
    }

    /// What its work returned, if that was a `T`; see [`Run::output`]. Nothing is kept of a run that was
    /// under way when its first follower was added.
    pub fn output<T: 'static>(self) -> Option<&'a T> {
        self.run().output()
    }
}

/// What work may ask for by its type.
#[derive(Default)]
pub(crate) struct States(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl States {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, state: T) {
        self.0.insert(TypeId::of::<T>(), Box::new(state));
    }

    fn get<T: 'static>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("job_id", &self.job)
            .field("run_id", &self.run.id)
            .field("fire_time", &self.fire_time)
            .field("late_by", &self.late_by)
            .finish_non_exhaustive()
    }
}
