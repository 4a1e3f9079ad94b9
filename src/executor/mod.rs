//! Where runs execute. An executor knows work and its supervisor, and nothing of jobs.

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

/// What work returned: a value, if it is wanted, or an error.
pub(crate) type Returned = Result<Option<Output>, BoxError>;

/// Who watches over one run. If it is dropped without an outcome, the run was cancelled.
pub(crate) trait Supervisor: Send + 'static {
    /// Whether the run may start now. If not, it is over.
    fn start(&mut self) -> bool;

    /// Polls the work, so that what it calls knows which run it is.
    fn poll<T>(&self, poll: impl FnOnce() -> T) -> T;

    /// Cancelled when the run is asked to stop. It is asked for only by runs that take time.
    fn cancelled(&self) -> CancellationToken;

    /// How long the work may go on after that.
    fn cancel_grace(&self) -> Duration;

    /// How long the work may take at all.
    fn timeout(&self) -> Option<Duration>;

    fn finish(self, outcome: Outcome, output: Option<Output>);
}

/// Where runs execute: an [`AsyncExecutor`], a [`BlockingPool`] or, with the feature `process`, a
/// `ProcessPool`.
#[derive(Debug)]
pub struct Executor {
    pub(crate) kind: Kind,
    /// How many runs execute at once.
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
    /// Whether runs can execute there at all, and it can go by this name.
    pub(crate) fn validate(&self, name: &str) -> Result<(), Error> {
        let wanted = match name {
            DEFAULT_EXECUTOR => matches!(self.kind, Kind::Async),
            BLOCKING_EXECUTOR => matches!(self.kind, Kind::Blocking(_)),
            _ => true,
        };
        if !wanted {
            return Err(Error::invalid_option(format!(
                "the executor `{name}` can't be {}, since jobs that name none go there: choose another name",
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

    /// What it is, for messages.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Async => "an async executor",
            Kind::Blocking(_) => "a blocking pool",
            #[cfg(feature = "process")]
            Kind::Process(_) => "a process pool",
        }
    }
}

/// Runs async work: each run is a Tokio task, in the runtime that the scheduler was made in.
///
/// The executor `default` is one without a limit; it can be replaced on the scheduler's builder.
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
    /// An executor for any number of runs at once.
    pub fn new() -> AsyncExecutor {
        AsyncExecutor::default()
    }

    /// Sets how many runs may be going at once, at least 1. Others wait, in order of fire time, then
    /// priority; one that waits too long for its misfire grace time is missed. Default: any number.
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
