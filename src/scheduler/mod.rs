//! The public API: the scheduler, its builder, its handles.

mod add;
mod builder;
mod context;
mod drained;
mod durable;
mod events;
mod handle;
mod jobs;
mod prepared;
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
    prepared::PreparedAdd,
    shutdown::Shutdown,
    transfer::Unhandled,
};
pub use crate::core::ShutdownReport;
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

/// Runs jobs when their triggers fire.
///
/// Clones share one scheduler. When the last clone is dropped, no new run starts, active runs
/// finish, and handles resolve with [`End::ShutDown`](crate::End::ShutDown); a log line at level
/// WARN has the number of remaining jobs in memory, if any. A closure that captures a clone keeps
/// the scheduler alive forever: use [`Context::scheduler`](crate::Context::scheduler) instead.
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

/// Closes the scheduler when the last clone is dropped.
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let left =
            self.shared.transact(|core, _| if core.is_closed() { 0 } else { core.unfinished() });
        if left > 0 {
            tracing::warn!(
                target: "punctual",
                jobs = left,
                "the last `Scheduler` was dropped while {left} jobs were left, which end now: keep the `Scheduler` while jobs are to run, or call `shutdown()` before dropping it",
            );
        }
        self.shared.close();
    }
}

impl Scheduler {
    /// Starts a scheduler on the current runtime, with its jobs in memory.
    ///
    /// Outside a Tokio runtime, or in one without timers, every call returns an error
    /// ([`is_no_runtime`](Error::is_no_runtime)). Tokio reports missing timers only by a panic: a
    /// program that aborts on panics aborts here, with Tokio's message.
    #[expect(clippy::new_without_default, reason = "starting a task is no default")]
    pub fn new() -> Scheduler {
        // Default options cannot be refused. Without a runtime, every later call returns an error.
        builder::start(SchedulerBuilder::new()).0
    }

    /// Returns a builder for a scheduler with other options.
    pub fn builder() -> SchedulerBuilder {
        SchedulerBuilder::new()
    }

    pub(crate) fn owned(shared: Arc<Shared>) -> Scheduler {
        let owner = Arc::new(Owner { shared: shared.clone() });
        Scheduler { shared, _owner: Some(owner) }
    }

    /// A handle on the scheduler for one of its runs, which does not keep the scheduler open.
    pub(crate) fn borrowed(shared: Arc<Shared>) -> Scheduler {
        Scheduler { shared, _owner: None }
    }

    /// Adds a job: `work` runs whenever `trigger` fires.
    ///
    /// Each run calls a clone of the original closure, so changes to captured values are lost
    /// between runs: use [`stateful`](crate::stateful) to keep them. Work returns `()` or a
    /// `Result`; a bare `Ok(())` must name its error type: `Ok::<_, BoxError>(())`.
    ///
    /// Returns a builder for the job's options. The job is added when the builder is awaited.
    ///
    /// # Errors
    ///
    /// If the trigger, an option or the id is invalid, the id is in use, or the scheduler has shut
    /// down or has no runtime.
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

    /// Adds a job that runs once, at the first fire time of `trigger`, and returns a value through
    /// its handle.
    ///
    /// The run of a closure or future counts as a success, whatever it returns. The run of a
    /// [`Task`](crate::Task) that returns an error has failed, and its awaited handle returns that
    /// error, or otherwise the value of `Ok`. A job in a store may run on another scheduler, which
    /// then has the value ([`is_elsewhere`](Error::is_elsewhere)).
    ///
    /// # Errors
    ///
    /// The errors of [`add`](Scheduler::add). The awaited handle returns an error if there is no
    /// value.
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

    /// Adds a job that runs a fallible closure or future once, like
    /// [`add_once`](Scheduler::add_once).
    ///
    /// The awaited handle returns the value of `Ok`, or an error whose source is the value of
    /// `Err`. For a task, `add_once` does the same.
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

    /// Adds many jobs in one call: all of them, or none and an error.
    ///
    /// `jobs` are the builders that [`add`](Scheduler::add) of this scheduler returns, not awaited.
    /// Jobs in memory are added under one lock, which takes about 0.1 µs per job.
    ///
    /// Jobs in a store are written in batches of the store's maximum size. Jobs whose ids must be
    /// unused (the default) are written first, and are removed again if one of the ids is in use.
    /// Existing jobs are changed only after that, as [`OnConflict`](crate::OnConflict) specifies.
    /// If the process crashes in between, the batches written so far remain. A thousand unchanged
    /// declarations take one request and no write.
    ///
    /// # Errors
    ///
    /// The errors of [`add`](Scheduler::add), for the first job with an error.
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

    /// Returns the job with this id, looked up at each call of a method.
    pub fn job(&self, id: impl Into<JobId>) -> Job {
        Job::by_id(self.shared.clone(), id.into())
    }

    /// Returns a query for jobs, in order of their next fire times; set its filters, then await it.
    pub fn jobs(&self) -> Jobs {
        Jobs::new(self.shared.clone())
    }

    /// The number of jobs in memory. Jobs in stores do not count.
    pub fn len(&self) -> usize {
        self.shared.transact(|core, _| core.volatile())
    }

    /// Whether there are no jobs in memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the earliest next fire time of all jobs, including jobs in stores.
    ///
    /// Returns `None` if every job is paused or has no fire time left. Ignores whether the
    /// scheduler is paused. Scans every job in memory, about 10 ms per million; jobs continue to
    /// fire during the scan.
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
    /// If the scheduler has no runtime, or a store is not available.
    pub async fn next_fire(&self) -> Result<Option<DateTime<Utc>>, Error> {
        self.shared.within(jobs::next_fire(&self.shared)).await
    }

    /// Adds an executor for the jobs that [name](Add::executor) it.
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
    /// If the name is in use, the executor has a capacity of zero, or the scheduler has shut down
    /// or has no runtime.
    pub async fn add_executor(
        &self,
        name: impl Into<Arc<str>>,
        executor: impl Into<Executor>,
    ) -> Result<(), Error> {
        self.shared.runtime()?;
        self.shared.add_executor(name.into(), executor.into())
    }

    /// Removes an executor.
    ///
    /// # Errors
    ///
    /// If there is no executor with this name, it is the default, jobs in memory or active runs
    /// still use it, or the scheduler has shut down or has no runtime.
    pub async fn remove_executor(&self, name: impl Into<Arc<str>>) -> Result<(), Error> {
        self.shared.remove_executor(name.into())
    }

    /// Returns the counters of this scheduler, with a histogram of how late runs were.
    pub fn metrics(&self) -> Metrics {
        self.shared.transact(|core, _| core.metrics().clone())
    }

    /// Removes all jobs, including all jobs in stores, and returns how many.
    ///
    /// Active runs finish.
    ///
    /// # Errors
    ///
    /// If the scheduler has shut down or has no runtime, or a store is not available. With a store
    /// unavailable, the jobs in memory and in the other stores are removed nevertheless.
    pub async fn remove_all(&self) -> Result<usize, Error> {
        let mut count = self.shared.try_transact(|core, now| core.remove_all(now))?;
        let (stores, all) = (self.shared.stores.usable(), RecordFilter::default());
        // Concurrently, so that an unavailable store does not delay the others.
        let removals = stores.iter().map(|it| durable::remove_all(&self.shared, it, &all));
        let removed = self.shared.within(async { Ok(join_all(removals).await) }).await?;
        count += removed.iter().flatten().sum::<usize>();
        self.shared.transact(|core, now| core.note(now, EventPayload::AllJobsRemoved { count }));
        removed.into_iter().collect::<Result<Vec<usize>, Error>>().map(|_| count)
    }

    /// Pauses the scheduler: nothing fires until it is resumed.
    ///
    /// Active runs finish, and `run_now` still works for jobs in memory. Unstarted claims are
    /// released, so that other schedulers may run them. Runs that are requested from a store wait
    /// for another scheduler, or for this one to be resumed.
    ///
    /// # Errors
    ///
    /// If the scheduler has shut down or has no runtime.
    pub async fn pause(&self) -> Result<(), Error> {
        self.shared.try_transact(|core, now| core.pause_all(now))
    }

    /// Resumes the scheduler.
    ///
    /// Fire times that came due during the pause are coalesced, and their misfire grace time
    /// applies.
    ///
    /// # Errors
    ///
    /// If the scheduler has shut down or has no runtime.
    pub async fn resume(&self) -> Result<(), Error> {
        self.shared.try_transact(|core, now| core.resume_all(now))
    }

    /// Whether the scheduler is paused.
    pub fn is_paused(&self) -> bool {
        self.shared.transact(|core, _| core.is_paused())
    }

    /// Whether jobs fire: the scheduler has a runtime, is not paused, and has not begun to shut
    /// down.
    pub fn is_running(&self) -> bool {
        let fires = |core: &Core<_>| !core.is_paused() && !core.is_closed();
        self.shared.runtime().is_ok() && self.shared.transact(|core, _| fires(core))
    }

    /// Returns a stream of all events from now on; see [`Events`].
    pub fn events(&self) -> Events {
        self.events_matching(EventFilter::new())
    }

    /// Returns a stream of the events that pass the filter, from now on; see [`Events`].
    ///
    /// A filter is an [`EventFilter`], a kind, kinds joined by `|`, or a list of kinds.
    pub fn events_matching(&self, filter: impl Into<EventFilter>) -> Events {
        Events::new(self.shared.listen(filter.into()))
    }

    /// Calls `callback` with each event that passes the filter, in order.
    ///
    /// The callback runs in a task of its own, which ends with the scheduler. A panic in the
    /// callback is logged, and the task continues with the next event.
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
    /// Returns the handle of the task. Awaiting it after a shutdown waits for the last event,
    /// aborting it stops the callback, and dropping it does nothing.
    ///
    /// # Errors
    ///
    /// If the scheduler has no runtime.
    pub fn on_event(
        &self,
        filter: impl Into<EventFilter>,
        callback: impl FnMut(Event) + Send + 'static,
    ) -> Result<JoinHandle<()>, Error> {
        let runtime = self.shared.runtime()?;
        Ok(events::call(runtime, self.events_matching(filter), callback))
    }

    /// Waits until no job can run any more and no run is active, or until the scheduler has shut
    /// down.
    ///
    /// Use this in a program that adds all its jobs first and ends after the last one. A job with a
    /// fire time left counts, and so does a paused job, which may be resumed; with an unbounded
    /// recurring job this waits for a shutdown. Jobs in stores count if they can run on this
    /// scheduler, whoever added them and wherever they run. When no job is left in memory, the
    /// stores are polled every second. A run that awaits this waits for its own job, which never
    /// ends.
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

    /// Shuts the scheduler down when awaited.
    ///
    /// No new runs start. Active runs may finish within a limit, then are cancelled, and are
    /// dropped after their `cancel_grace`.
    pub fn shutdown(&self) -> Shutdown {
        Shutdown::new(self.shared.clone())
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("jobs", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Overlap, Retry, trigger::every};

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_over_leaves_no_cancel_token_behind() {
        let scheduler = Scheduler::new();
        // Each run fails, and is superseded while it waits to be tried again.
        let fails = || async {
            tokio::task::yield_now().await;
            Err::<(), _>("it fails")
        };
        let job = scheduler
            .add(every(Duration::from_secs(1)).times(100), fails)
            .overlap(Overlap::CancelPrevious)
            .retry(Retry::fixed(Duration::from_secs(60)).times(1));
        job.await.unwrap().await;
        assert_eq!(scheduler.shared.count_run_tokens(), 0);
    }
}
