//! A scheduler that blocks a synchronous program until it is stopped.

use std::{fmt, future::IntoFuture, ops::Deref, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Workers, host::Host, signals::Signals, waiting};
use crate::{
    error::Error,
    scheduler::{Scheduler, SchedulerBuilder, ShutdownReport},
};

/// A [`Scheduler`] on its own threads, for programs without an async `main` that do nothing else:
/// [`run`](BlockingScheduler::run) blocks until the scheduler is stopped or the process receives a
/// signal.
///
/// It dereferences to [`Scheduler`]. Call `.wait()` where async code has `.await`; see
/// [`Wait`](super::Wait). Jobs fire as soon as they are added, also before `run`; with
/// [`paused`](SchedulerBuilder::paused) they wait for [`resume`](Scheduler::resume).
///
/// Dropping it without calling `run` shuts it down like a
/// [`BackgroundScheduler`](super::BackgroundScheduler).
///
/// ```
/// use std::time::Duration;
/// use punctual::{BlockingScheduler, Wait, trigger::{after, every}};
///
/// fn main() -> Result<(), punctual::Error> {
///     let scheduler = BlockingScheduler::new()?;
///     let ping = every(Duration::from_millis(10));
///     scheduler.add(ping, || async { println!("ping") }).wait()?;
///
///     let stop = scheduler.stop_handle();
///     let enough = after(Duration::from_millis(50));
///     scheduler.add(enough, || async move { stop.stop() }).wait()?;
///
///     println!("{}", scheduler.run()?);
///     Ok(())
/// }
/// ```
#[must_use = "call `run` to block until the scheduler stops"]
pub struct BlockingScheduler {
    host: Host,
    stop: StopHandle,
    within: Duration,
}

impl BlockingScheduler {
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
    pub fn new() -> Result<BlockingScheduler, Error> {
        BlockingScheduler::start(Scheduler::builder())
    }

    /// Starts a scheduler from its builder, on the [default](Workers::default) workers.
    ///
    /// # Errors
    ///
    /// The errors of [`SchedulerBuilder::start`] and of [`new`](BlockingScheduler::new).
    ///
    /// # Panics
    ///
    /// As [`new`](BlockingScheduler::new).
    pub fn start(builder: SchedulerBuilder) -> Result<BlockingScheduler, Error> {
        BlockingScheduler::start_on(Workers::default(), builder)
    }

    /// Like [`start`](BlockingScheduler::start), with the given workers.
    ///
    /// # Errors
    ///
    /// If the number or name of the workers is out of range, and the errors of
    /// [`start`](BlockingScheduler::start).
    ///
    /// # Panics
    ///
    /// As [`new`](BlockingScheduler::new).
    pub fn start_on(
        workers: Workers,
        builder: SchedulerBuilder,
    ) -> Result<BlockingScheduler, Error> {
        Ok(BlockingScheduler {
            host: Host::start(workers, builder)?,
            stop: StopHandle(CancellationToken::new()),
            within: Duration::from_secs(30),
        })
    }

    /// Sets how long active runs may take to finish at the end of [`run`](BlockingScheduler::run).
    /// Default: 30 s.
    pub fn within(mut self, wait: Duration) -> BlockingScheduler {
        self.within = wait;
        self
    }

    /// Returns a handle that stops [`run`](BlockingScheduler::run) from another thread or from a
    /// job.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Blocks on a future; see
    /// [`BackgroundScheduler::block_on`](super::BackgroundScheduler::block_on).
    ///
    /// # Errors
    ///
    /// The error of the future. In async code, whose thread must not be blocked, an error with
    /// [`is_no_runtime`](Error::is_no_runtime).
    ///
    /// # Panics
    ///
    /// In a future that Tokio polls [`unconstrained`](tokio::task::unconstrained), since such a
    /// future cannot be distinguished from code that may block.
    pub fn block_on<T>(
        &self,
        work: impl IntoFuture<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.host.block_on(work)
    }

    /// Blocks until the scheduler is stopped, then shuts it down.
    ///
    /// | stopped by | when |
    /// |---|---|
    /// | [`StopHandle::stop`] | at any time, also before this call |
    /// | SIGINT or SIGTERM, on Windows Ctrl-C | from this call on |
    /// | [`Scheduler::shutdown`], for example in a job | when that shutdown ends |
    ///
    /// Active runs may then finish [`within`](BlockingScheduler::within) 30 s, are cancelled, and
    /// are dropped after their `cancel_grace`. A signal in that time cancels them at once. If async
    /// jobs block every worker, the remaining runs are abandoned 5 s later. Other tasks on the
    /// workers, such as tasks that jobs have spawned, may run for another second.
    ///
    /// The signal handlers stay installed after this call until the process ends, since Tokio
    /// cannot remove them. A program with its own signal handling should use a
    /// [`BackgroundScheduler`](super::BackgroundScheduler).
    ///
    /// # Errors
    ///
    /// In async code, whose thread must not be blocked ([`is_no_runtime`](Error::is_no_runtime)):
    /// use a [`Scheduler`] there. Also if the system refuses the signal handlers, or has no file
    /// descriptors left for the wait. The scheduler is then shut down as if dropped.
    ///
    /// # Panics
    ///
    /// As [`block_on`](BlockingScheduler::block_on).
    pub fn run(self) -> Result<ShutdownReport, Error> {
        let report = waiting::wait("run", self.until_shut_down())?;
        self.host.close();
        Ok(report)
    }

    async fn until_shut_down(&self) -> Result<ShutdownReport, Error> {
        let mut signals = Signals::listen()?;
        tokio::select! {
            () = self.stop.0.cancelled() => {}
            () = self.host.stopped() => {}
            signal = signals.next() => {
                tracing::info!(target: "punctual", "{signal}: active runs have {:?} to finish", self.within);
            }
        }
        Ok(tokio::select! {
            report = self.host.shut_down(self.within) => report,
            signal = signals.next() => {
                tracing::warn!(target: "punctual", "{signal} during the shutdown: active runs are cancelled");
                self.host.shut_down(Duration::ZERO).await
            }
        })
    }
}

impl Deref for BlockingScheduler {
    type Target = Scheduler;

    fn deref(&self) -> &Scheduler {
        self.host.scheduler()
    }
}

impl fmt::Debug for BlockingScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlockingScheduler").field(self.host.scheduler()).finish()
    }
}

/// A handle that stops [`BlockingScheduler::run`]. Clones stop the same scheduler.
///
/// It does not keep the scheduler open, and has no effect after the scheduler's end.
#[derive(Clone)]
pub struct StopHandle(CancellationToken);

impl StopHandle {
    /// Makes [`run`](BlockingScheduler::run) shut the scheduler down and return, now or when it is
    /// called. Does not wait, so a job may call it.
    pub fn stop(&self) {
        self.0.cancel();
    }
}

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopHandle").field("stopped", &self.0.is_cancelled()).finish()
    }
}
