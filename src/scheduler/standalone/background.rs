//! The scheduler that works in the background of a synchronous program.

use std::{fmt, future::IntoFuture, ops::Deref, time::Duration};

use super::{Workers, host::Host, waiting};
use crate::{
    error::Error,
    scheduler::{Scheduler, SchedulerBuilder, ShutdownReport},
};

/// A [`Scheduler`] on threads of its own, for programs that have no async `main` and other things to
/// do.
///
/// It can do all that a `Scheduler` can, by `Deref`, with `.wait()` where async code has `.await`; see
/// [`Wait`](super::Wait). It leaves signals alone.
///
/// Dropping it shuts it down and waits for nothing: no new run starts, going ones have the 30 s of
/// [`Scheduler::shutdown`] if the process lives that long, and then the threads end. To wait, call
/// [`shutdown`](BackgroundScheduler::shutdown).
///
/// It may be made and dropped anywhere, also in async code.
///
/// ```
/// use std::time::Duration;
/// use punctual::{BackgroundScheduler, Wait, trigger::{after, every}};
///
/// fn main() -> Result<(), punctual::Error> {
///     let scheduler = BackgroundScheduler::new()?;
///     let ping = every(Duration::from_secs(5));
///     let job = scheduler.add(ping, || async { println!("ping") }).wait()?;
///
///     let answer = scheduler.add_once(after(Duration::from_millis(10)), async { 42 }).wait()?;
///     assert_eq!(answer.wait()?, 42);
///
///     job.pause().wait()?;
///     println!("{}", scheduler.shutdown()?);
///     Ok(())
/// }
/// ```
#[must_use = "dropping it shuts it down"]
pub struct BackgroundScheduler {
    host: Host,
}

impl BackgroundScheduler {
    /// A scheduler in memory, started, on the [default](Workers::default) workers.
    ///
    /// # Errors
    ///
    /// That the process may open no more files, which a runtime takes a few of
    /// ([`is_no_runtime`](Error::is_no_runtime)).
    ///
    /// # Panics
    ///
    /// If the system refuses a thread, as Tokio's runtime does.
    pub fn new() -> Result<BackgroundScheduler, Error> {
        BackgroundScheduler::start(Scheduler::builder())
    }

    /// Starts a scheduler that was set up by its builder, on the [default](Workers::default)
    /// workers.
    ///
    /// # Errors
    ///
    /// Those of [`SchedulerBuilder::start`] and of [`new`](BackgroundScheduler::new).
    ///
    /// # Panics
    ///
    /// As [`new`](BackgroundScheduler::new).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use punctual::{BackgroundScheduler, Scheduler};
    /// # fn main() -> Result<(), punctual::Error> {
    /// let scheduler = BackgroundScheduler::start(
    ///     Scheduler::builder()
    ///         .time_zone("Europe/Berlin")
    ///         .misfire_grace_time(Duration::from_secs(60)),
    /// )?;
    /// # Ok(()) }
    /// ```
    pub fn start(builder: SchedulerBuilder) -> Result<BackgroundScheduler, Error> {
        BackgroundScheduler::start_on(Workers::default(), builder)
    }

    /// As [`start`](BackgroundScheduler::start), on workers of your choice.
    ///
    /// # Errors
    ///
    /// That their number or name is out of range, and those of
    /// [`start`](BackgroundScheduler::start).
    ///
    /// # Panics
    ///
    /// As [`new`](BackgroundScheduler::new).
    pub fn start_on(
        workers: Workers,
        builder: SchedulerBuilder,
    ) -> Result<BackgroundScheduler, Error> {
        Ok(BackgroundScheduler { host: Host::start(workers, builder)? })
    }

    /// Waits for async code of any kind, such as several steps in one `async` block; for a single step
    /// there is [`wait`](super::Wait::wait).
    ///
    /// What is given is polled on this thread, in the context of the scheduler's runtime. What has no
    /// `Result` is given one: `scheduler.block_on(async { Ok(job.await) })?` waits for a job's end.
    ///
    /// # Errors
    ///
    /// That of what is waited for. In async code, where a thread must not be blocked, that this is so
    /// ([`is_no_runtime`](Error::is_no_runtime)): await it there, or call this in
    /// [`blocking`](crate::blocking) work or [`spawn_blocking`](tokio::task::spawn_blocking).
    ///
    /// # Panics
    ///
    /// In a future that Tokio polls [`unconstrained`](tokio::task::unconstrained), which can't be told
    /// from code that may block.
    ///
    /// ```
    /// # use punctual::{BackgroundScheduler, End, trigger::now};
    /// # fn main() -> Result<(), punctual::Error> {
    /// let scheduler = BackgroundScheduler::new()?;
    /// let end = scheduler.block_on(async {
    ///     let job = scheduler.add(now(), || async { println!("once") }).await?;
    ///     Ok(job.await)
    /// })?;
    /// assert!(matches!(end, End::Completed));
    /// # Ok(()) }
    /// ```
    pub fn block_on<T>(
        &self,
        work: impl IntoFuture<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.host.block_on(work)
    }

    /// Shuts the scheduler down, and waits: going runs may end by themselves within 30 s, as with
    /// [`Scheduler::shutdown`].
    ///
    /// # Errors
    ///
    /// As [`shutdown_within`](BackgroundScheduler::shutdown_within).
    ///
    /// # Panics
    ///
    /// As [`block_on`](BackgroundScheduler::block_on).
    pub fn shutdown(self) -> Result<ShutdownReport, Error> {
        self.shutdown_within(Duration::from_secs(30))
    }

    /// Shuts the scheduler down, and waits: going runs may end by themselves within this time, are
    /// cancelled then, and dropped after their `cancel_grace`.
    ///
    /// If async jobs block every worker, the runs that are left are abandoned 5 s later. What else runs
    /// on the workers, such as tasks that jobs have spawned, has a second to end.
    ///
    /// # Errors
    ///
    /// Where a thread must not be blocked, as [`block_on`](BackgroundScheduler::block_on), or if the
    /// system has no files left to wait with. The scheduler shuts down all the same, as if dropped. In
    /// async code await its [`Scheduler::shutdown`] instead: `Scheduler::shutdown(&scheduler).await`.
    ///
    /// # Panics
    ///
    /// As [`block_on`](BackgroundScheduler::block_on).
    pub fn shutdown_within(self, within: Duration) -> Result<ShutdownReport, Error> {
        let report = waiting::wait("shutdown", async { Ok(self.host.shut_down(within).await) })?;
        self.host.close();
        Ok(report)
    }
}

impl Deref for BackgroundScheduler {
    type Target = Scheduler;

    fn deref(&self) -> &Scheduler {
        self.host.scheduler()
    }
}

impl fmt::Debug for BackgroundScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BackgroundScheduler").field(self.host.scheduler()).finish()
    }
}
