//! The process pool: a run is a call in a process of its own.

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
    protocol::{Ask, Ending, Request, encode},
};
use super::{Executor, Kind, Returned};
use crate::{error::Error, task::Context};

/// Runs [tasks](crate::Task) in processes of their own: work that has to be isolated, or that must
/// be killed if it does not stop.
///
/// The processes are this program, started again: so its `main` begins with
/// [`worker`](crate::worker()), which says what they can run. They are started when they are needed,
/// used for one run after the other, and killed with the pool. A run that waits for one is judged by its
/// misfire grace time when it starts.
///
/// | what happens | outcome | the process |
/// |---|---|---|
/// | the task returns, or panics | that of the task | stays |
/// | it takes longer than its `timeout` | timed out | is killed at once |
/// | the run is cancelled, and the task ends | that of the task | stays |
/// | it does not end within `cancel_grace` | cancelled | is killed |
/// | the process crashes or is killed | failed, with how, and what it printed last | is replaced |
/// | the pool or the scheduler goes | | is killed |
/// | the program is killed | | ends by itself |
///
/// Killed means SIGKILL for the process and what it has started in its process group. Arguments and
/// errors cross over as JSON of up to 16 MiB: of an error that is its text and those of its sources. A task
/// finds no scheduler there and no run that it follows, and what it returns is not handed to
/// followers. What it prints, on whichever stream, goes line by line to `tracing`, target
/// `punctual::worker`, level INFO, with the fields `pid`, `run` and `job`; and to the standard error of this program where no subscriber is
/// interested in that.
///
/// A thread of its own watches all processes of the program, so any runtime with timers will do.
/// Timeouts are real time: under Tokio's paused time a process would have none to do anything in.
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
    /// A pool of at most so many processes, at least 1.
    pub fn new(max_workers: u32) -> ProcessPool {
        ProcessPool { max_workers }
    }
}

impl From<ProcessPool> for Executor {
    fn from(pool: ProcessPool) -> Executor {
        Executor { kind: Kind::Process(Processes::default()), limit: Some(pool.max_workers) }
    }
}

/// The processes of a pool that wait for a run; going runs own theirs. There are never more than the
/// pool may have, since no more runs are started.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    idle: Mutex<Vec<Child>>,
}

impl Processes {
    /// Whether there can be processes in this program.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        worker::called().map(drop)
    }

    /// Carries out a run of the task in a process. If this is dropped, the process is killed.
    pub(crate) async fn run(&self, task: &str, args: &str, cx: &Context) -> Returned {
        let request = encode(&Ask::Run(Request {
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
            // Its own process has reported it.
            Ending::Panicked(message) => resume_unwind(Box::new(message)),
        }
    }

    /// The process that was used last, of those that are still there.
    fn take(&self) -> Option<Child> {
        let mut idle = self.idle();
        idle.retain(Child::is_ready);
        idle.pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Child>> {
        // Nothing panics while it holds the lock.
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
