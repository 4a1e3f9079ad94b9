//! The blocking pool: each run is a call on a named thread.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
    time::{Duration, Instant},
};

use tokio::runtime::{self, Handle, Runtime};

use super::{Executor, Kind, Returned, Supervisor};
use crate::{error::Error, job::Outcome, panic::message};

/// Runs blocking work: each run is a call on a thread of the pool.
///
/// Threads are started on demand and end after 10 s without work. A run that waits for a thread is
/// subject to its misfire grace time when it starts. The built-in executor `blocking`, the default
/// for [`blocking`](crate::blocking) work, is a pool of 32 threads.
///
/// A call cannot be dropped. A run that is cancelled or exceeds its timeout sees that in
/// [`Context::is_cancelled`](crate::Context::is_cancelled), and ends when the call returns. Under
/// Tokio's paused time a timeout elapses at once, since nothing else stops the time from advancing.
///
/// ```
/// use punctual::{BlockingPool, Scheduler, blocking, trigger::now};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), punctual::Error> {
/// let scheduler = Scheduler::new();
/// scheduler.add_executor("resize", BlockingPool::new(2)).await?;
/// let work = blocking(|| println!("on {:?}", std::thread::current().name()));
/// scheduler.add(now(), work).executor("resize").await?.await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an executor does nothing until it is added to a scheduler"]
pub struct BlockingPool {
    max_workers: u32,
    thread_name: String,
}

impl BlockingPool {
    /// A pool of at most `max_workers` threads, at least 1.
    pub fn new(max_workers: u32) -> BlockingPool {
        BlockingPool { max_workers, thread_name: "punctual-worker".to_owned() }
    }

    /// Sets the name of the threads. Default: `punctual-worker`.
    pub fn thread_name(mut self, name: impl Into<String>) -> BlockingPool {
        self.thread_name = name.into();
        self
    }
}

impl Default for BlockingPool {
    fn default() -> BlockingPool {
        BlockingPool::new(32)
    }
}

impl From<BlockingPool> for Executor {
    fn from(pool: BlockingPool) -> Executor {
        let limit = Some(pool.max_workers);
        Executor { kind: Kind::Blocking(Threads { pool, runtime: OnceLock::new() }), limit }
    }
}

/// The threads of a pool: the blocking threads of a Tokio runtime that does nothing else.
#[derive(Debug)]
pub(crate) struct Threads {
    pool: BlockingPool,
    runtime: OnceLock<Runtime>,
}

impl Threads {
    pub(super) fn validate(&self) -> Result<(), Error> {
        if self.pool.thread_name.contains('\0') {
            return Err(Error::invalid_option(format!(
                "the thread name {:?} contains a NUL, where the system would end it: remove the NUL",
                self.pool.thread_name
            )));
        }
        Ok(())
    }

    /// Calls `work` on a thread of the pool, within `runtime`.
    pub(crate) fn spawn<S: Supervisor>(
        &self,
        supervisor: S,
        runtime: &Handle,
        work: impl FnOnce(&S) -> Returned + Send + 'static,
    ) {
        let home = runtime.clone();
        let call = move || {
            // The work spawns tasks in the scheduler's runtime and uses its time.
            let _home = home.enter();
            execute(supervisor, &home, work);
        };
        match self.runtime() {
            Ok(threads) => drop(threads.spawn_blocking(call)),
            // If the pool cannot start threads, it uses those of the scheduler's runtime.
            Err(error) => {
                tracing::warn!(target: "punctual", "a blocking pool uses the threads of the runtime: {error}");
                drop(runtime.spawn_blocking(call));
            }
        }
    }

    fn runtime(&self) -> Result<&Handle, Error> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime.handle());
        }
        let made = runtime::Builder::new_current_thread()
            .max_blocking_threads(self.pool.max_workers as usize)
            .thread_name(&self.pool.thread_name)
            .build()
            .map_err(|error| {
                Error::invalid_option(format!("no threads can be started: {error}"))
            })?;
        if let Err(spare) = self.runtime.set(made) {
            spare.shutdown_background();
        }
        self.runtime.get().map(Runtime::handle).ok_or_else(|| Error::invalid_option("no threads"))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The scheduler's shutdown waits for the threads, within its limits.
            runtime.shutdown_background();
        }
    }
}

/// Runs `work` on this thread and sends its outcome to the supervisor.
fn execute<S: Supervisor>(mut supervisor: S, timers: &Handle, work: impl FnOnce(&S) -> Returned) {
    if !supervisor.start() {
        return;
    }
    let began = Instant::now();
    let timeout = supervisor.timeout();
    let alarm = timeout.map(|timeout| {
        let cancelled = supervisor.cancelled();
        timers.spawn(async move {
            tokio::time::sleep(timeout).await;
            cancelled.cancel();
        })
    });
    let returned = catch_unwind(AssertUnwindSafe(|| supervisor.poll(|| work(&supervisor))));
    if let Some(alarm) = alarm {
        alarm.abort();
    }
    let late = timeout.is_some_and(|timeout: Duration| began.elapsed() >= timeout);
    let (outcome, output) = match returned {
        _ if late => (Outcome::TimedOut, None),
        Ok(Ok(output)) => (Outcome::Succeeded, output),
        Ok(Err(error)) => (Outcome::Failed(error.into()), None),
        Err(panic) => (Outcome::Panicked(message(panic)), None),
    };
    supervisor.finish(outcome, output);
}
