//! The worker threads of a standalone scheduler.

use std::{io, thread};

use tokio::runtime::{Builder, Runtime};

use crate::error::Error;

/// The maximum number of workers. All jobs share them, so more are a mistake.
const MAX_WORKERS: usize = 1024;

/// The threads on which a [`BackgroundScheduler`](super::BackgroundScheduler) or a
/// [`BlockingScheduler`](super::BlockingScheduler) runs async jobs: the workers of its own Tokio
/// runtime. Default: one per core, but at least two.
///
/// The scheduler's own task shares these threads. Work that blocks its thread delays other work on
/// that thread, or all work with a single worker: make such work [`blocking`](crate::blocking).
///
/// ```
/// use punctual::{BackgroundScheduler, Scheduler, Workers};
///
/// # fn main() -> Result<(), punctual::Error> {
/// let workers = Workers::new(4).thread_name("jobs");
/// let scheduler = BackgroundScheduler::start_on(workers, Scheduler::builder())?;
/// scheduler.shutdown()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "pass the workers to `start_on` of a scheduler"]
pub struct Workers {
    number: usize,
    thread_name: String,
}

impl Workers {
    /// This number of threads, 1 to 1024.
    pub fn new(number: usize) -> Workers {
        Workers { number, thread_name: "punctual-async".to_owned() }
    }

    /// Sets the name of the threads. Default: `punctual-async`.
    ///
    /// Linux shows the first 15 bytes of the name.
    pub fn thread_name(mut self, name: impl Into<String>) -> Workers {
        self.thread_name = name.into();
        self
    }

    /// Starts a runtime with these workers.
    pub(super) fn start(self) -> Result<Runtime, Error> {
        let Workers { number, thread_name } = self;
        if !(1..=MAX_WORKERS).contains(&number) {
            return Err(Error::invalid_option(format!(
                "`Workers::new({number})` is not in 1..={MAX_WORKERS}: use about as many as there are cores"
            )));
        }
        if thread_name.contains('\0') {
            return Err(Error::invalid_option(format!(
                "the thread name {thread_name:?} contains a NUL, where the system would end it: remove the NUL"
            )));
        }
        Builder::new_multi_thread()
            .worker_threads(number)
            .thread_name(thread_name)
            .enable_all()
            .build()
            .map_err(refused)
    }
}

impl Default for Workers {
    fn default() -> Workers {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        // With a second worker, a job that blocks its thread does not stop all others.
        Workers::new(cores.clamp(2, MAX_WORKERS))
    }
}

/// The error if the system cannot start a runtime.
pub(super) fn refused(error: io::Error) -> Error {
    Error::no_runtime(format!(
        "the system refused to start a Tokio runtime ({error}): raise the process's limit of open files"
    ))
}
