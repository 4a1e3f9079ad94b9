//! The process pool: each run is a call in a separate process.

mod child;
pub(crate) mod group;
mod io;
pub(crate) mod output;
mod protocol;
pub(crate) mod worker;

use std::{
    panic::resume_unwind,
    sync::{Mutex, MutexGuard, PoisonError},
};

use self::{
    child::Child,
    protocol::{Ending, Request, ToProcess, encode},
};
use super::{Executor, Kind, Returned};
use crate::{error::Error, task::Context};

/// Runs [tasks](crate::Task) in separate processes: for work that must be isolated, or killed if it
/// does not stop.
///
/// The processes are new instances of this program, so its `main` must begin with
/// [`worker`](crate::worker()), which registers their tasks. Processes are started on demand,
/// reused for one run after another, and killed with the pool. A run that waits for a process is
/// subject to its misfire grace time when it starts.
///
/// | event | outcome | process |
/// |---|---|---|
/// | the task returns or panics | as the task ended | is reused |
/// | the run exceeds its `timeout` | timed out | is killed at once |
/// | the run is cancelled, and the task ends | as the task ended | is reused |
/// | the run is cancelled, and the task does not end within `cancel_grace` | cancelled | is killed |
/// | the process crashes or is killed | failed, with the exit status and the last output | is replaced |
/// | the pool or the scheduler is dropped | | is killed |
/// | the program is killed | | exits |
///
/// A process is killed with SIGKILL, together with its process group. Arguments and errors are sent
/// as JSON of up to 16 MiB; an error is sent as its text and the texts of its sources. In a
/// process, a task has no scheduler and no preceding run, and its return value is not passed to
/// followers. Each line of its output, on either stream, goes to `tracing`, target
/// `punctual::worker`, level INFO, with the fields `pid`, `run` and `job`, or to the standard error
/// of this program if no subscriber is enabled for it.
///
/// One separate thread watches all processes of the program, so any runtime with timers works.
/// Timeouts are real time: under Tokio's paused time a process would time out at once.
///
/// ```standalone_crate
/// use punctual::{Context, ProcessPool, Scheduler, Task, trigger::now};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Resize {
///     picture: String,
/// }
///
/// impl Task for Resize {
///     const NAME: &'static str = "resize";
///     type Output = ();
///
///     async fn run(self, _: Context) {
///         println!("process {} resizes {}", std::process::id(), self.picture);
///     }
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<(), punctual::Error> {
///     punctual::worker(|worker| worker.task::<Resize>());
///
///     let scheduler = Scheduler::builder()
///         .task::<Resize>()
///         .add_executor("pictures", ProcessPool::new(2))
///         .start()
///         .await?;
///     let resize = Resize { picture: "cat.png".to_owned() };
///     scheduler.add(now(), resize).executor("pictures").await?.await;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an executor does nothing until it is added to a scheduler"]
pub struct ProcessPool {
    max_workers: u32,
}

impl ProcessPool {
    /// A pool of at most `max_workers` processes, at least 1.
    pub fn new(max_workers: u32) -> ProcessPool {
        ProcessPool { max_workers }
    }
}

impl From<ProcessPool> for Executor {
    fn from(pool: ProcessPool) -> Executor {
        Executor { kind: Kind::Process(Processes::default()), limit: Some(pool.max_workers) }
    }
}

/// The idle processes of a pool; active runs own theirs. The limit on active runs also limits the
/// processes.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    idle: Mutex<Vec<Child>>,
}

impl Processes {
    /// Checks that this program can start worker processes.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        worker::process_tasks().map(drop)
    }

    /// Runs the task in a process. Dropping the future kills the process.
    pub(crate) async fn run(&self, task: &str, args: &str, cx: &Context) -> Returned {
        let request = encode(&ToProcess::Run(Request {
            task: task.to_owned(),
            args: args.to_owned(),
            job: cx.job.as_str().into_owned(),
            run: cx.run.id.0,
            fire_time: cx.fire_time,
            late_by: cx.late_by,
            coalesced: cx.coalesced,
            on_request: cx.on_request,
            attempt: cx.attempt,
            fence: cx.fence,
        }))?;
        let mut child = match self.take() {
            Some(child) => child,
            None => Child::start().await?,
        };
        let ending = match child.run(&request, cx.cancellation_token()).await {
            Ok(ending) => ending,
            Err(error) => return Err(child.lost("before its run did", error).await),
        };
        self.idle().push(child);
        match ending {
            Ending::Succeeded => Ok(None),
            Ending::Failed(error) => Err(error.into()),
            // The process has already reported the panic.
            Ending::Panicked(message) => resume_unwind(Box::new(message)),
        }
    }

    /// The most recently used idle process that is still alive.
    fn take(&self) -> Option<Child> {
        let mut idle = self.idle();
        idle.retain(Child::is_ready);
        idle.pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Child>> {
        // No code panics while it holds the lock.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use crate::{ProcessPool, Scheduler};

    /// The program of these tests does not begin with `worker`.
    #[tokio::test]
    async fn a_pool_needs_a_worker() {
        let scheduler = Scheduler::new();
        let error = scheduler.add_executor("pool", ProcessPool::new(1)).await.unwrap_err();
        assert!(error.is_invalid_option(), "{error}");
        assert!(error.to_string().contains("call `punctual::worker` in the first line of `main`"));
        let built = Scheduler::builder().add_executor("pool", ProcessPool::new(1)).start().await;
        assert!(built.is_err());
    }
}
