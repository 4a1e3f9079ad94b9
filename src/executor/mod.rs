//! Executors, which run work under a supervisor. They do not depend on jobs.

pub(crate) mod blocking;
#[cfg(feature = "process")]
pub(crate) mod process;
pub(crate) mod task;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use self::blocking::BlockingPool;
use self::blocking::Threads;
#[cfg(feature = "process")]
use self::process::Processes;
use crate::{
    error::{BoxError, Error},
    job::{BLOCKING_EXECUTOR, DEFAULT_EXECUTOR, Outcome, Output},
};

/// The result of work: its value, if wanted, or its error.
pub(crate) type Returned = Result<Option<Output>, BoxError>;

/// Supervises one run. Dropping it without an outcome means that the run was cancelled.
pub(crate) trait Supervisor: Send + 'static {
    /// Whether the run may start now. If not, it has ended.
    fn start(&mut self) -> bool;

    /// Polls the work in the context of its run.
    fn poll<T>(&self, poll: impl FnOnce() -> T) -> T;

    /// A token that is cancelled with the run. Only runs that do not complete at once request it.
    fn cancelled(&self) -> CancellationToken;

    /// How long the work may continue after the cancellation.
    fn cancel_grace(&self) -> Duration;

    /// The maximum duration of the work.
    fn timeout(&self) -> Option<Duration>;

    fn finish(self, outcome: Outcome, output: Option<Output>);
}

/// Runs the work of jobs: an [`AsyncExecutor`], a [`BlockingPool`] or, with the feature `process`,
/// a `ProcessPool`.
#[derive(Debug)]
pub struct Executor {
    pub(crate) kind: Kind,
    /// The maximum number of concurrent runs.
    pub(crate) limit: Option<u32>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Async,
    Blocking(Threads),
    #[cfg(feature = "process")]
    Process(Processes),
}

impl Executor {
    /// Checks that the executor can run anything, and can have this name.
    pub(crate) fn validate(&self, name: &str) -> Result<(), Error> {
        let wanted = match name {
            DEFAULT_EXECUTOR => matches!(self.kind, Kind::Async),
            BLOCKING_EXECUTOR => matches!(self.kind, Kind::Blocking(_)),
            _ => true,
        };
        if !wanted {
            return Err(Error::invalid_option(format!(
                "the executor `{name}` can't be {}, since it runs jobs without a named executor: choose another name",
                self.kind_name()
            )));
        }
        if self.limit == Some(0) {
            return Err(Error::invalid_option(
                "an executor for 0 runs would never run anything: use 1 or more",
            ));
        }
        match &self.kind {
            Kind::Async => Ok(()),
            Kind::Blocking(threads) => threads.validate(),
            #[cfg(feature = "process")]
            Kind::Process(processes) => processes.validate(),
        }
    }

    /// The kind of executor, for messages.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Async => "an async executor",
            Kind::Blocking(_) => "a blocking pool",
            #[cfg(feature = "process")]
            Kind::Process(_) => "a process pool",
        }
    }
}

/// Runs async work: each run is a Tokio task in the runtime of the scheduler.
///
/// The built-in executor `default` is one without a limit; the scheduler's builder can replace it.
///
/// ```
/// use punctual::{AsyncExecutor, Scheduler, trigger::now};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// let scheduler = Scheduler::new();
/// scheduler.add_executor("downloads", AsyncExecutor::new().max_running(4)).await?;
/// scheduler.add(now(), || async { println!("GET /") }).executor("downloads").await?.await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "an executor does nothing until it is added to a scheduler"]
pub struct AsyncExecutor {
    max_running: Option<u32>,
}

impl AsyncExecutor {
    /// An executor without a limit.
    pub fn new() -> AsyncExecutor {
        AsyncExecutor::default()
    }

    /// Sets the maximum number of active runs, at least 1. Default: no limit.
    ///
    /// Other runs wait, in order of fire time, then priority. A wait beyond the run's misfire grace
    /// time ends it as missed.
    pub fn max_running(mut self, runs: u32) -> AsyncExecutor {
        self.max_running = Some(runs);
        self
    }
}

impl From<AsyncExecutor> for Executor {
    fn from(executor: AsyncExecutor) -> Executor {
        Executor { kind: Kind::Async, limit: executor.max_running }
    }
}
