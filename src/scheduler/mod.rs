//! The user's side: the scheduler and everything it is asked.

mod add;
mod builder;
mod context;
mod drained;
mod durable;
mod events;
mod handle;
mod jobs;
mod shutdown;
#[cfg(feature = "standalone")]
mod standalone;
mod stores;
mod transfer;

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use futures::future::join_all;
use tokio::task::JoinHandle;

#[cfg(feature = "standalone")]
pub use self::standalone::{
    BackgroundScheduler, BlockingScheduler, StopHandle, Wait, Waited, Workers,
};
pub use self::{
    add::{Add, AddFuture},
    builder::SchedulerBuilder,
    events::Events,
    handle::{Job, JobHandle, JobSettings, OnceHandle, Runs},
    jobs::Jobs,
    shutdown::{Shutdown, ShutdownReport},
    transfer::Unhandled,
};
use crate::{
    core::Core,
    driver::Shared,
    error::{BoxError, Error},
    event::{Event, EventFilter, EventPayload},
    executor::Executor,
    job::JobId,
    ledger::RecordFilter,
    metrics::Metrics,
    task::{self, OnceWork, Work, WorkOutput},
    trigger::IntoTrigger,
};

/// Runs jobs when their triggers say so.
///
/// Clones are the same scheduler. When the last one is dropped no new run starts, going ones
/// finish, and handles resolve with [`End::ShutDown`](crate::End::ShutDown); if jobs in memory are left
/// then, a line of the log at level WARN says how many. A closure that captures
/// a clone keeps the scheduler open for ever: use [`Context::scheduler`](crate::Context::scheduler).
///
/// ```
/// use std::time::Duration;
/// use punctual::{Scheduler, trigger::{after, cron, every}};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// let scheduler = Scheduler::new();
/// scheduler.add(every(Duration::from_secs(5)), || async { println!("ping") }).await?;
/// scheduler.add(cron("30 8 * * MON-FRI"), || async { println!("report") }).id("report").await?;
///
/// let answer: u64 = scheduler.add_once(after(Duration::from_secs(10)), async { 42 }).await?.await?;
/// assert_eq!(answer, 42);
///
/// let report = scheduler.shutdown().within(Duration::from_secs(20)).await;
/// assert!(report.is_clean());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Scheduler {
    shared: Arc<Shared>,
    _owner: Option<Arc<Owner>>,
}

/// Keeps a scheduler open: when the last one goes, it closes.
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let left = self.shared.with(|state, _| match state.core.is_closed() {
            true => 0,
            false => state.core.unfinished(),
        });
        if left > 0 {
            tracing::warn!(
                target: "punctual",
                jobs = left,
                "the last `Scheduler` was dropped with {left} jobs left, which end now: keep it for as long as they are to run, or call `shutdown()` first",
            );
        }
        self.shared.close();
    }
}

impl Scheduler {
    /// A scheduler on the current runtime, in memory, started.
    ///
    /// Outside a Tokio runtime, or in one without timers, every use of it is an error
    /// ([`is_no_runtime`](Error::is_no_runtime)). Tokio says only by a panic that it has no timers; in a
    /// program that aborts on panics, such a runtime ends it here, with Tokio's message.
    #[expect(clippy::new_without_default, reason = "starting a task is no default")]
    pub fn new() -> Scheduler {
        // Nothing was asked for that could be refused, and without a runtime every use says so.
        builder::start(SchedulerBuilder::new()).0
    }

    /// A scheduler that is not started yet, to set its options.
    pub fn builder() -> SchedulerBuilder {
        SchedulerBuilder::new()
    }

    pub(crate) fn owned(shared: Arc<Shared>) -> Scheduler {
        let owner = Arc::new(Owner { shared: shared.clone() });
        Scheduler { shared, _owner: Some(owner) }
    }

    /// A scheduler as seen from one of its runs.
    pub(crate) fn borrowed(shared: Arc<Shared>) -> Scheduler {
        Scheduler { shared, _owner: None }
    }

    /// Adds a job: `work` runs whenever `trigger` fires.
    ///
    /// Each run calls a clone of the closure as it was given, so one that changes what it captured
    /// starts afresh each time: wrap it in [`stateful`](crate::stateful) for it to keep its state. Work
    /// returns `()` or a `Result`; a bare `Ok(())` must name its error: `Ok::<_, BoxError>(())`.
    ///
    /// Returns a builder for the job's options; the job is added when that is awaited.
    ///
    /// # Errors
    ///
    /// What is wrong with the trigger, an option or the id; that the id is taken; that the
    /// scheduler has shut down or has no runtime.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use punctual::{Coalesce, Scheduler, trigger::every};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// # let scheduler = Scheduler::new();
    /// let job = scheduler
    ///     .add(every(Duration::from_secs(1)), || async { println!("drain") })
    ///     .id("drain")
    ///     .misfire_grace_time(Duration::from_secs(30))
    ///     .coalesce(Coalesce::Latest)
    ///     .max_instances(2)
    ///     .await?;
    /// job.pause().await?;
    ///
    /// // Work that may fail.
    /// # use punctual::BoxError;
    /// let read = || async {
    ///     let port: u16 = "8080".parse()?;
    ///     println!("{port}");
    ///     Ok::<_, BoxError>(())
    /// };
    /// scheduler.add(every(Duration::from_secs(1)), read).await?;
    ///
    /// // A closure that changes what it captured.
    /// # use punctual::stateful;
    /// let mut n = 0;
    /// let count = stateful(move || {
    ///     n += 1;
    ///     async move { println!("{n}") }
    /// });
    /// scheduler.add(every(Duration::from_secs(1)), count).await?;
    /// # Ok(()) }
    /// ```
    pub fn add<W, M>(&self, trigger: impl IntoTrigger, work: W) -> Add
    where
        W: Work<M>,
        W::Output: WorkOutput,
        M: 'static,
    {
        Add::new(trigger.into_trigger(), task::entry(work, self.shared.clone()), ())
    }

    /// Adds a job that runs once, at the first fire time of `trigger`, and yields a value: awaiting
    /// its handle returns that.
    ///
    /// Whatever a closure or a future returns, the run counts as a success. A [`Task`](crate::Task)
    /// that returns an error has failed, and its handle yields that error, or the value of `Ok`. In a
    /// store such a job may run on another scheduler, and then the value is there
    /// ([`is_elsewhere`](Error::is_elsewhere)).
    ///
    /// # Errors
    ///
    /// Those of [`add`](Scheduler::add). Awaiting the handle: why there is no value.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use punctual::{Scheduler, blocking, trigger::after};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// # let scheduler = Scheduler::new();
    /// let soon = || after(Duration::from_millis(1));
    /// let answer: u64 = scheduler.add_once(soon(), async { 42 }).await?.await?;
    /// let sum: u64 = scheduler.add_once(soon(), blocking(|| (1..=9).sum())).await?.await?;
    /// assert_eq!((answer, sum), (42, 45));
    /// # Ok(()) }
    /// ```
    pub fn add_once<W, M>(&self, trigger: impl IntoTrigger, work: W) -> Add<task::Value<W::Output>>
    where
        W: OnceWork<M>,
        M: 'static,
    {
        let (entry, value) = task::once(work, self.shared.clone());
        Add::new(trigger.into_trigger(), entry, value).once()
    }

    /// As [`add_once`](Scheduler::add_once), for a closure or a future that may fail: awaiting the handle
    /// returns the value of `Ok`, and an error whose source is that of `Err`. For a task `add_once` does
    /// the same.
    pub fn try_add_once<W, M, T, E>(
        &self,
        trigger: impl IntoTrigger,
        work: W,
    ) -> Add<task::Value<T>>
    where
        W: OnceWork<M, Output = Result<T, E>>,
        M: 'static,
        T: Send + 'static,
        E: Into<BoxError>,
    {
        let (entry, value) = task::try_once(work, self.shared.clone());
        Add::new(trigger.into_trigger(), entry, value).once()
    }

    /// Adds many jobs as one command: all of them, or none and an error.
    ///
    /// Those that go to a store are written in batches as large as it takes. The ones whose ids must be
    /// free, which is the default, come first, and are removed again if one of the ids is not: what
    /// the others find there ([`OnConflict`](crate::OnConflict)) is changed only after that. A process
    /// that dies on the way leaves what it has written. A thousand declarations that have not changed
    /// are one request, and no write.
    ///
    /// The jobs are what [`add`](Scheduler::add) of this scheduler returns, not awaited. They go in
    /// under one lock, about 0.1 µs a job.
    ///
    /// # Errors
    ///
    /// Those of [`add`](Scheduler::add), for the first job in error.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use punctual::{Scheduler, trigger::after};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// let scheduler = Scheduler::new();
    /// let reminders = (1..=1000).map(|n| {
    ///     scheduler.add(after(Duration::from_secs(n)), move || async move { println!("{n}") })
    /// });
    /// let handles = scheduler.add_all(reminders).await?;
    /// assert_eq!(handles.len(), 1000);
    /// # Ok(()) }
    /// ```
    pub async fn add_all(
        &self,
        jobs: impl IntoIterator<Item = Add>,
    ) -> Result<Vec<JobHandle>, Error> {
        let batch = add::prepare_all(&self.shared, jobs)?;
        self.shared.within(add::add_all(&self.shared, batch)).await
    }

    /// The job that has this id whenever it is asked something.
    pub fn job(&self, id: impl Into<JobId>) -> Job {
        Job::by_id(self.shared.clone(), id.into())
    }

    /// The jobs, in order of their next fire time; awaited after setting what to look for.
    pub fn jobs(&self) -> Jobs {
        Jobs::new(self.shared.clone())
    }

    /// How many jobs there are in memory, those in a store not counted.
    pub fn len(&self) -> usize {
        self.shared.with(|state, _| state.core.volatile())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The earliest next fire time of all jobs, those in a store included; `None` if no job has one,
    /// since each is paused or has fired for the last time. The scheduler may be paused.
    ///
    /// It looks at every job: about 10 ms for a million in memory, during which they go on firing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use punctual::{Scheduler, trigger::after};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// let scheduler = Scheduler::new();
    /// assert_eq!(scheduler.next_fire().await?, None);
    /// let job = scheduler.add(after(Duration::from_secs(5)), || async {}).await?;
    /// assert_eq!(scheduler.next_fire().await?, job.next_fire().await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That the scheduler has no runtime, or that its store is not available.
    pub async fn next_fire(&self) -> Result<Option<DateTime<Utc>>, Error> {
        self.shared.within(jobs::next_fire(&self.shared)).await
    }

    /// Adds an executor, to which jobs go that [name](Add::executor) it.
    ///
    /// ```
    /// # use punctual::{BlockingPool, Scheduler};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// # let scheduler = Scheduler::new();
    /// scheduler.add_executor("reports", BlockingPool::new(2)).await?;
    /// scheduler.remove_executor("reports").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That the name is taken, or the executor has room for nothing; that the scheduler has shut down
    /// or has no runtime.
    pub async fn add_executor(
        &self,
        name: impl Into<Arc<str>>,
        executor: impl Into<Executor>,
    ) -> Result<(), Error> {
        self.shared.runtime()?;
        self.shared.add_executor(name.into(), executor.into())
    }

    /// Removes an executor that no job names.
    ///
    /// # Errors
    ///
    /// That there is none of this name, that jobs in memory or runs still use it, or that it is the
    /// default;
    /// that the scheduler has shut down or has no runtime.
    pub async fn remove_executor(&self, name: impl Into<Arc<str>>) -> Result<(), Error> {
        self.shared.remove_executor(name.into())
    }

    /// What the scheduler has counted so far, with a histogram of how late runs were.
    pub fn metrics(&self) -> Metrics {
        self.shared.with(|state, _| state.core.metrics().clone())
    }

    /// Removes all jobs, those in stores included, whoever added them; going runs finish. Returns
    /// how many there were.
    ///
    /// # Errors
    ///
    /// That the scheduler has shut down or has no runtime; that a store is not available: then those
    /// in memory and in the others are removed nevertheless.
    pub async fn remove_all(&self) -> Result<usize, Error> {
        let mut count = self.shared.try_with(|state, now| state.core.remove_all(now))?;
        let (stores, all) = (self.shared.stores.usable(), RecordFilter::default());
        // All at once: one that is down must not keep the others from it.
        let removals = stores.iter().map(|it| durable::remove_all(&self.shared, it, &all));
        let removed = self.shared.within(async { Ok(join_all(removals).await) }).await?;
        count += removed.iter().flatten().sum::<usize>();
        self.shared.with(|state, now| state.core.note(now, EventPayload::AllJobsRemoved { count }));
        removed.into_iter().collect::<Result<Vec<usize>, Error>>().map(|_| count)
    }

    /// Pauses the scheduler: nothing fires until it is resumed. Going runs finish, and `run_now`
    /// still works for jobs in memory. What it has taken from a store and not started is given back:
    /// others may run it, and what is asked for there waits for them, or for the scheduler to be
    /// resumed.
    ///
    /// # Errors
    ///
    /// That the scheduler has shut down or has no runtime.
    pub async fn pause(&self) -> Result<(), Error> {
        self.shared.try_with(|state, now| state.core.pause_all(now))
    }

    /// Resumes the scheduler. What came due meanwhile is coalesced and judged by its misfire grace
    /// time.
    ///
    /// # Errors
    ///
    /// That the scheduler has shut down or has no runtime.
    pub async fn resume(&self) -> Result<(), Error> {
        self.shared.try_with(|state, now| state.core.resume_all(now))
    }

    /// Whether the scheduler is paused.
    pub fn is_paused(&self) -> bool {
        self.shared.with(|state, _| state.core.is_paused())
    }

    /// Whether jobs fire: the scheduler is neither paused nor shut down, nor is a shutdown on its way,
    /// and it was made in a runtime.
    pub fn is_running(&self) -> bool {
        let fires = |core: &Core<_>| !core.is_paused() && !core.is_closed();
        self.shared.runtime().is_ok() && self.shared.with(|state, _| fires(&state.core))
    }

    /// Everything that happens from here on, as a stream; see [`Events`].
    pub fn events(&self) -> Events {
        self.events_matching(EventFilter::new())
    }

    /// What passes the filter from here on, as a stream; see [`Events`]. A filter is an [`EventFilter`],
    /// a kind, kinds joined by `|`, or a list of kinds.
    pub fn events_matching(&self, filter: impl Into<EventFilter>) -> Events {
        Events::new(self.shared.listen(filter.into()))
    }

    /// Calls `callback` with everything that passes the filter, in order, from a task of its own
    /// that ends with the scheduler. A panic in it is logged and costs that event alone.
    ///
    /// ```
    /// # use punctual::{EventKind, Scheduler};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// # let scheduler = Scheduler::new();
    /// scheduler.on_event(EventKind::Failed | EventKind::Missed, |event| eprintln!("{event}"))?;
    /// # Ok(()) }
    /// ```
    ///
    /// The handle is that task's: awaiting it after a shutdown waits for the last event, aborting
    /// it ends the listening, and dropping it does nothing.
    ///
    /// # Errors
    ///
    /// That the scheduler has no runtime.
    pub fn on_event(
        &self,
        filter: impl Into<EventFilter>,
        callback: impl FnMut(Event) + Send + 'static,
    ) -> Result<JoinHandle<()>, Error> {
        let runtime = self.shared.runtime()?;
        Ok(events::call(runtime, self.events_matching(filter), callback))
    }

    /// Waits until no job is left that can still run and no run is under way, or until the scheduler has
    /// shut down: what a program awaits that has added all of its jobs and ends with the last of them.
    ///
    /// A job that has a fire time left counts, so with a job that recurs without end this waits for a
    /// shutdown. So does a paused job, which may be resumed. Jobs in a store count if they can run on this
    /// scheduler, whoever added them and wherever they run; once none is left in memory, the stores are
    /// asked each second. A run that waits for this waits for its own job.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use punctual::{Scheduler, trigger::{after, every}};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// let scheduler = Scheduler::new();
    /// scheduler.add(every(Duration::from_secs(5)).times(3), || async { println!("ping") }).await?;
    /// scheduler.add(after(Duration::from_secs(20)), || async { println!("done") }).await?;
    /// scheduler.drained().await;
    /// assert!(scheduler.is_empty());
    /// # Ok(()) }
    /// ```
    pub async fn drained(&self) {
        drained::drained(&self.shared).await;
    }

    /// Shuts the scheduler down when awaited: no new runs; going ones may finish within a time,
    /// are cancelled then, and dropped after their `cancel_grace`.
    pub fn shutdown(&self) -> Shutdown {
        Shutdown::new(self.shared.clone())
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("jobs", &self.len()).finish_non_exhaustive()
    }
}
