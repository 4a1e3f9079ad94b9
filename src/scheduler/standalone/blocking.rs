//! The scheduler that a synchronous program is all about: it blocks until it is told to stop.

use std::{fmt, future::IntoFuture, ops::Deref, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Workers, host::Host, signals::Signals, waiting};
use crate::{
    error::Error,
    scheduler::{Scheduler, SchedulerBuilder, ShutdownReport},
};

/// A [`Scheduler`] on threads of its own, for programs that have no async `main` and nothing else to
/// do: [`run`](BlockingScheduler::run) blocks until it is stopped or signalled.
///
/// It can do all that a `Scheduler` can, by `Deref`, with `.wait()` where async code has `.await`; see
/// [`Wait`](super::Wait). Jobs fire from when they are added, not only in `run`; with
/// [`paused`](SchedulerBuilder::paused) they wait for [`resume`](Scheduler::resume).
///
/// Dropping it without a `run` shuts it down as dropping a
/// [`BackgroundScheduler`](super::BackgroundScheduler) does.
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
#[must_use = "it blocks when `run` is called"]
pub struct BlockingScheduler {
    host: Host,
    stop: StopHandle,
    within: Duration,
}

impl BlockingScheduler {
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
    pub fn new() -> Result<BlockingScheduler, Error> {
        BlockingScheduler::start(Scheduler::builder())
    }

    /// Starts a scheduler that was set up by its builder, on the [default](Workers::default)
    /// workers.
    ///
    /// # Errors
    ///
    /// Those of [`SchedulerBuilder::start`] and of [`new`](BlockingScheduler::new).
    ///
    /// # Panics
    ///
    /// As [`new`](BlockingScheduler::new).
    pub fn start(builder: SchedulerBuilder) -> Result<BlockingScheduler, Error> {
        BlockingScheduler::start_on(Workers::default(), builder)
    }

    /// As [`start`](BlockingScheduler::start), on workers of your choice.
    ///
    /// # Errors
    ///
    /// That their number or name is out of range, and those of [`start`](BlockingScheduler::start).
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

    /// Sets how long going runs may take to end by themselves at the end of
    /// [`run`](BlockingScheduler::run). Default: 30 s.
    pub fn within(mut self, wait: Duration) -> BlockingScheduler {
        self.within = wait;
        self
    }

    /// What ends [`run`](BlockingScheduler::run), from another thread or from a job.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Waits for async code of any kind; see
    /// [`BackgroundScheduler::block_on`](super::BackgroundScheduler::block_on).
    ///
    /// # Errors
    ///
    /// That of what is waited for, and in async code that a thread must not be blocked there
    /// ([`is_no_runtime`](Error::is_no_runtime)).
    ///
    /// # Panics
    ///
    /// In a future that Tokio polls [`unconstrained`](tokio::task::unconstrained), which can't be told
    /// from code that may block.
    pub fn block_on<T>(
        &self,
        work: impl IntoFuture<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.host.block_on(work)
    }

    /// Blocks until the scheduler is to stop, and shuts it down.
    ///
    /// | what ends it | |
    /// |---|---|
    /// | [`StopHandle::stop`] | at any time, also before |
    /// | SIGINT or SIGTERM, on Windows Ctrl-C | from when this is called |
    /// | [`Scheduler::shutdown`], of a job for example | at its end |
    ///
    /// Then going runs may end by themselves [`within`](BlockingScheduler::within) 30 s, are cancelled,
    /// and dropped after their `cancel_grace`. A signal during that ends the patience: they are
    /// cancelled at once. If async jobs block every worker, the runs that are left are abandoned 5 s
    /// later. What else runs on the workers, such as tasks that jobs have spawned, has a second to end.
    ///
    /// The signals stay taken over when this returns, for as long as the process lives: Tokio can't
    /// give them back. A program that handles signals by itself is better off with a
    /// [`BackgroundScheduler`](super::BackgroundScheduler).
    ///
    /// # Errors
    ///
    /// In async code, that a thread must not be blocked there ([`is_no_runtime`](Error::is_no_runtime)):
    /// use a [`Scheduler`] in it. That the system refuses its signals, or has no files left to wait
    /// with. The scheduler shuts down all the same, as if dropped.
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
                tracing::info!(target: "punctual", "{signal}: runs have {:?} to end", self.within);
            }
        }
        Ok(tokio::select! {
            report = self.host.shut_down(self.within) => report,
            signal = signals.next() => {
                tracing::warn!(target: "punctual", "{signal} during the shutdown: runs are cancelled");
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

/// Ends [`BlockingScheduler::run`]; clones end the same one.
///
/// It does not keep the scheduler open, and does nothing once that is gone.
#[derive(Clone)]
pub struct StopHandle(CancellationToken);

impl StopHandle {
    /// Has [`run`](BlockingScheduler::run) shut the scheduler down and return, now or as soon as it
    /// is called. Does not wait for that, so a job may call it.
    pub fn stop(&self) {
        self.0.cancel();
    }
}

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopHandle").field("stopped", &self.0.is_cancelled()).finish()
    }
}
