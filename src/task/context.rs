//! The context of a run.

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

/// The context of a run, which work with an argument receives: `|cx: Context| async move { … }`.
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
    /// Cancels the run in a separate process, where there is no scheduler.
    #[cfg(feature = "process")]
    pub(crate) stop: Option<CancellationToken>,
}

impl Context {
    /// Returns the job's id.
    pub fn job_id(&self) -> &JobId {
        &self.job
    }

    /// Requests another run of this job, `delay` from now, rounded up to a whole millisecond, in
    /// addition to the trigger's fire times.
    ///
    /// The job does not end before that run, also if its trigger has no fire time left, and that
    /// run may request another. A job has at most one such run ahead: of several requests, the
    /// earliest counts. The run is like a [`run_now`](crate::Job::run_now) at that instant, which
    /// is its [`fire_time`](Context::fire_time): it is neither coalesced nor subject to the misfire
    /// grace time, and [`on_request`](Context::on_request) is `true`. If `max_instances` runs are
    /// active, it waits for one to end. While the job or the scheduler is paused, it stays due. A
    /// step of the wall clock does not move it.
    ///
    /// # Errors
    ///
    /// If this run or its job has ended, the scheduler has shut down, the work runs only once
    /// ([`add_once`](crate::Scheduler::add_once)), or the job is in a store: add another job for it
    /// then, which survives the process.
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
    ///     if is_ready() { Ok(()) } else { cx.again_in(Duration::from_secs(10)) }
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
                    "the delay exceeds the last representable instant: use a shorter one",
                )
            })?;
            core.again(self.run, at)
        })
    }

    /// Returns the number of this run.
    pub fn run_id(&self) -> RunId {
        self.run.id
    }

    /// Returns the instant that the trigger named, before jitter; for `run_now`, the time of the
    /// call.
    pub fn fire_time(&self) -> DateTime<Utc> {
        self.fire_time
    }

    /// Returns how long after the due instant the work was called; a retry includes the delay
    /// before it.
    pub fn late_by(&self) -> Duration {
        self.late_by
    }

    /// Returns how many other fire times were coalesced into this run.
    pub fn coalesced(&self) -> u64 {
        self.coalesced
    }

    /// Whether `run_now` or `again_in` requested this run.
    pub fn on_request(&self) -> bool {
        self.on_request
    }

    /// Returns the number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the fence of a durable job's run: a number that grows with each claim of the job.
    ///
    /// Pass it to the systems that the run writes to, and let them reject a lower one: then a node
    /// that has expired, but is still alive, can do no harm. Returns `None` for a job in memory.
    pub fn fence(&self) -> Option<u64> {
        (self.fence > 0).then_some(self.fence)
    }

    /// Returns the run that this run follows, if its job has a [following
    /// trigger](crate::trigger::after_success). If it follows [several
    /// jobs](crate::trigger::after_all), returns the run that ended last.
    pub fn preceding(&self) -> Option<Preceding<'_>> {
        self.preceding.as_deref().map(Preceding)
    }

    /// Returns the run of `job` that this run follows, if any; see
    /// [`after_all`](crate::trigger::after_all).
    pub fn preceding_of(&self, job: impl Into<JobId>) -> Option<Preceding<'_>> {
        let (last, job) = (self.preceding.as_deref()?, job.into());
        let others = last.others.iter().map(|other| &**other);
        std::iter::once(last).chain(others).find(|it| it.run.job == job).map(Preceding)
    }

    /// Returns the value of this type from
    /// [`SchedulerBuilder::state`](crate::SchedulerBuilder::state); in a process of a pool, from
    /// its `Worker`.
    ///
    /// # Panics
    ///
    /// If there is no value of this type. The run then ends as panicked.
    pub fn state<T: Send + Sync + 'static>(&self) -> &T {
        self.try_state().unwrap_or_else(|| {
            panic!(
                "there is no state of type `{}`: add it with `.state(..)` on the scheduler's builder, or with `.state_with(..)` on the worker of a process",
                std::any::type_name::<T>()
            )
        })
    }

    /// Like [`state`](Context::state), but returns `None` if there is no value of this type.
    pub fn try_state<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.shared.states.get()
    }

    /// Waits until the run is cancelled: its job was cancelled or replaced, or the scheduler is
    /// shutting down. The run is dropped after `cancel_grace` (default: 5 s).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn cancelled(&self) {
        self.cancellation_token().cancelled().await;
    }

    /// Whether the run is cancelled.
    pub fn is_cancelled(&self) -> bool {
        #[cfg(feature = "process")]
        if let Some(stop) = &self.stop {
            return stop.is_cancelled();
        }
        self.shared.is_cancelled(self.run)
    }

    /// Returns the token behind [`cancelled`](Context::cancelled). Cancelling it cancels only this
    /// run.
    pub fn cancellation_token(&self) -> CancellationToken {
        #[cfg(feature = "process")]
        if let Some(stop) = &self.stop {
            return stop.clone();
        }
        self.shared.run_token(self.run)
    }
}

/// The run that another run follows.
#[derive(Clone, Copy, Debug)]
pub struct Preceding<'a>(&'a core::Preceding);

impl<'a> Preceding<'a> {
    /// Returns the run, with its outcome.
    pub fn run(self) -> &'a Run {
        &self.0.run
    }

    /// Returns the return value of the run's work, if it is a `T`; see [`Run::output`]. Returns
    /// `None` for a run that was active when its job's first follower was added.
    pub fn output<T: 'static>(self) -> Option<&'a T> {
        self.run().output()
    }
}

/// The state of a scheduler: one value per type.
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
