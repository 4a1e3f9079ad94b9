//! The worker threads that a scheduler brings along: how many, and what they are called.

use std::{io, thread};

use tokio::runtime::{Builder, Runtime};

use crate::error::Error;

/// More of them than this are a mistake: they are shared by all jobs.
const MOST: usize = 1024;

/// The threads on which a [`BackgroundScheduler`](super::BackgroundScheduler) or a
/// [`BlockingScheduler`](super::BlockingScheduler) runs async jobs: the workers of a Tokio runtime of
/// its own. Default: one for each core, but two at least.
///
/// The scheduler's own task shares them. Work that blocks its thread holds up whatever else would run
/// there, with a single worker everything: make such work [`blocking`](crate::blocking).
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
#[must_use = "workers are started by a scheduler's `start_on`"]
pub struct Workers {
    number: usize,
    thread_name: String,
}

impl Workers {
    /// So many threads, 1 to 1024.
    pub fn new(number: usize) -> Workers {
        Workers { number, thread_name: "punctual-async".to_owned() }
    }

    /// Sets the name of the threads. Default: `punctual-async`.
    ///
    /// Linux shows the first 15 bytes of it.
    pub fn thread_name(mut self, name: impl Into<String>) -> Workers {
        self.thread_name = name.into();
        self
    }

    /// Starts them.
    pub(super) fn start(self) -> Result<Runtime, Error> {
        let Workers { number, thread_name } = self;
        if !(1..=MOST).contains(&number) {
            return Err(Error::invalid_option(format!(
                "`Workers::new({number})` is not in 1..={MOST}: use about as many as there are cores"
            )));
        }
        if thread_name.contains('\0') {
            return Err(Error::invalid_option(format!(
                "the thread name {thread_name:?} has a NUL in it, where the system takes it to end: leave it out"
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
        // With a second one, a single job that blocks its thread does not stop all others.
        Workers::new(cores.clamp(2, MOST))
    }
}

/// The system has no runtime to give.
pub(super) fn refused(error: io::Error) -> Error {
    Error::no_runtime(format!(
        "the system refused what a Tokio runtime takes ({error}): raise the process's limit of open files"
    ))
}
