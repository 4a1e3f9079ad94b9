//! A scheduler that works in the background of a synchronous program.

use std::{fmt, future::IntoFuture, ops::Deref, time::Duration};

use super::{Workers, host::Host, waiting};
use crate::{
    error::Error,
    scheduler::{Scheduler, SchedulerBuilder, ShutdownReport},
};

/// A [`Scheduler`] on its own threads, for programs without an async `main` that do other work too.
///
/// It dereferences to [`Scheduler`]. Call `.wait()` where async code has `.await`; see
/// [`Wait`](super::Wait). It does not handle signals.
///
/// Dropping it shuts it down without waiting: no new run starts, active runs have the 30 s of
/// [`Scheduler::shutdown`] if the process lives that long, and then the threads end. Call
/// [`shutdown`](BackgroundScheduler::shutdown) to wait for that.
///
/// It can be created and dropped anywhere, including in async code.
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
#[must_use = "dropping the scheduler shuts it down"]
pub struct BackgroundScheduler {
    host: Host,
}

impl BackgroundScheduler {
    /// Starts a scheduler with its jobs in memory, on the [default](Workers::default) workers.
    ///
    /// # Errors
    ///
    /// If the process has no file descriptors left for a runtime
    /// ([`is_no_runtime`](Error::is_no_runtime)).
    ///
    /// # Panics
    ///
    /// If the system refuses a thread, as with Tokio's runtime.
    pub fn new() -> Result<BackgroundScheduler, Error> {
        BackgroundScheduler::start(Scheduler::builder())
    }

    /// Starts a scheduler from its builder, on the [default](Workers::default) workers.
    ///
    /// # Errors
    ///
    /// The errors of [`SchedulerBuilder::start`] and of [`new`](BackgroundScheduler::new).
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

    /// Like [`start`](BackgroundScheduler::start), with the given workers.
    ///
    /// # Errors
    ///
    /// If the number or name of the workers is out of range, and the errors of
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

    /// Blocks on a future, such as an `async` block of several steps. For a single call, use
    /// [`wait`](super::Wait::wait).
    ///
    /// The future is polled on this thread, in the context of the scheduler's runtime. Wrap an
    /// output that is not a `Result`: `scheduler.block_on(async { Ok(job.await) })?` waits for a
    /// job's end.
    ///
    /// # Errors
    ///
    /// The error of the future. In async code, whose thread must not be blocked, an error with
    /// [`is_no_runtime`](Error::is_no_runtime): await the future there instead, or call this in
    /// [`blocking`](crate::blocking) work or [`spawn_blocking`](tokio::task::spawn_blocking).
    ///
    /// # Panics
    ///
    /// In a future that Tokio polls [`unconstrained`](tokio::task::unconstrained), since such a
    /// future cannot be distinguished from code that may block.
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

    /// Shuts the scheduler down and waits for it. Active runs may finish within 30 s, as with
    /// [`Scheduler::shutdown`].
    ///
    /// # Errors
    ///
    /// The errors of [`shutdown_within`](BackgroundScheduler::shutdown_within).
    ///
    /// # Panics
    ///
    /// As [`block_on`](BackgroundScheduler::block_on).
    pub fn shutdown(self) -> Result<ShutdownReport, Error> {
        self.shutdown_within(Duration::from_secs(30))
    }

    /// Shuts the scheduler down and waits for it. Active runs may finish within this time, then are
    /// cancelled, and are dropped after their `cancel_grace`.
    ///
    /// If async jobs block every worker, the remaining runs are abandoned 5 s later. Other tasks on
    /// the workers, such as tasks that jobs have spawned, may run for another second.
    ///
    /// # Errors
    ///
    /// If this thread must not be blocked, as in [`block_on`](BackgroundScheduler::block_on), or
    /// the system has no file descriptors left for the wait. The scheduler is then shut down as if
    /// dropped. In async code, await [`Scheduler::shutdown`] instead:
    /// `Scheduler::shutdown(&scheduler).await`.
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
