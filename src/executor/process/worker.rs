//! The process's side: `worker`, which makes a program one that can run its tasks in processes of its
//! own.

use std::{
    convert::Infallible,
    env, fmt,
    fs::File,
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    panic::AssertUnwindSafe,
    process::exit,
    sync::{Arc, OnceLock},
    thread,
};

use futures::FutureExt as _;
use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{
    output::mark,
    protocol::{Answer, Ask, Ending, Request, VERSION, read, write},
};
use crate::{
    core::RunKey,
    driver::Shared,
    error::Error,
    panic::{message, text},
    task::{Context, States, Task, Tasks},
};

/// The name that a pool's process is started by. Unlike an environment variable, it is not handed
/// down to the programs that the process starts.
pub(super) const MARK: &str = "punctual: worker";

/// What the process pools of this program know. It is there once [`worker`] was called.
static KNOWN: OnceLock<Result<Tasks, Error>> = OnceLock::new();

/// Makes this program one that a [`ProcessPool`](crate::ProcessPool) can start again, for runs in a
/// process of their own. It must be the first line of `main`.
///
/// `setup` says which tasks may run there, and what they find in [`Context::state`]. In the
/// program itself, that is noted and the call returns; in a process of a pool it does not return: it
/// waits for runs, and the process ends with the pool, or with the program.
///
/// Only the first call in a program counts. `#[tokio::main]` on `main` is fine.
///
/// ```no_run
/// use punctual::{Context, Task};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Resize;
/// # impl Task for Resize {
/// #     const NAME: &'static str = "resize";
/// #     type Output = ();
/// #     async fn run(self, _: Context) {}
/// # }
/// # struct Filters;
///
/// fn main() {
///     punctual::worker(|worker| worker.task::<Resize>().state_with(|| Filters));
///     // What the program itself does.
/// }
/// ```
pub fn worker(setup: impl FnOnce(Worker) -> Worker) {
    let worker = setup(Worker { tasks: Ok(Tasks::default()), states: Vec::new() });
    match pool() {
        None => drop(KNOWN.set(worker.tasks)),
        Some(pool) => worker.serve(pool),
    }
}

/// What a process of a pool is set up with; see [`worker`].
#[must_use = "the worker is what the closure returns"]
pub struct Worker {
    tasks: Result<Tasks, Error>,
    states: Vec<MakeState>,
}

/// Makes something that work may ask for by its type.
type MakeState = Box<dyn FnOnce(&mut States) + Send>;

impl Worker {
    /// Registers a task that may run in a process of its own.
    pub fn task<T: Task>(mut self) -> Self {
        self.tasks = self.tasks.and_then(|mut tasks| tasks.register::<T>().map(|()| tasks));
        self
    }

    /// Gives runs something that they may ask for by its type, with [`Context::state`]. It is made
    /// in each process of a pool, before its first run and within its Tokio runtime, and not in the
    /// program itself.
    pub fn state_with<T: Send + Sync + 'static>(
        mut self,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Self {
        self.states.push(Box::new(|states| states.insert(make())));
        self
    }

    /// Serves the pool to its end, and ends this process.
    fn serve(self, pool: UnixStream) -> ! {
        // `main` may be within a runtime, which must not be blocked, and in which there can be no other.
        let serving = thread::Builder::new().spawn(move || self.answer(&pool));
        let served = serving.map(|thread| thread.join());
        match served {
            Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
                // The pool is gone: so is what the runs have started.
                if getpgrp() == getpid() {
                    let _ = kill_current_process_group(Signal::KILL);
                }
                exit(0)
            }
            Ok(Ok(Err(error))) | Err(error) => {
                eprintln!("{error}");
                exit(1)
            }
            // The panic has been reported where it happened.
            Ok(Err(_)) => exit(101),
        }
    }

    /// Carries out runs until there is an error: that the pool is gone, if it is no other.
    fn answer(self, pool: &UnixStream) -> io::Result<Infallible> {
        let tasks = Arc::new(self.tasks.map_err(io::Error::other)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            // One for the run, and one for what it spawns.
            .worker_threads(2)
            .enable_all()
            .build()?;
        let shared = {
            let _within = runtime.enter();
            let mut states = States::default();
            for make in self.states {
                make(&mut states);
            }
            Arc::new(Shared::detached(
                states,
                Error::no_runtime(
                    "a run in a process of its own has no scheduler: add and change jobs from async work",
                ),
            ))
        };
        write(pool, &Answer::Ready { version: VERSION })?;
        let mut stop = CancellationToken::new();
        loop {
            match read(pool)? {
                Ask::Stop => stop.cancel(),
                Ask::Run(request) => {
                    stop = CancellationToken::new();
                    spawn(&runtime, &tasks, &shared, request, stop.clone(), pool.try_clone()?);
                }
            }
        }
    }
}

/// Carries out a run, and says how it ended.
fn spawn(
    runtime: &Runtime,
    tasks: &Arc<Tasks>,
    shared: &Arc<Shared>,
    request: Request,
    stop: CancellationToken,
    pool: UnixStream,
) {
    let context = Context {
        shared: shared.clone(),
        run: RunKey::detached(request.run),
        job: request.job.into(),
        fire_time: request.fire_time,
        late_by: request.late_by,
        coalesced: request.coalesced,
        on_request: request.on_request,
        attempt: request.attempt,
        fence: request.fence,
        preceding: None,
        stop: Some(stop),
    };
    let tasks = tasks.clone();
    let mark = mark(request.run, &context.job);
    runtime.spawn(async move {
        print(mark.as_bytes());
        let work = async { tasks.call(&request.task, request.args, context).await };
        let ending = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(())) => Ending::Succeeded,
            Ok(Err(error)) => Ending::Failed(error.into()),
            Err(panic) => Ending::Panicked(text(&message(panic))),
        };
        // What the run has printed belongs before the next mark.
        print(b"");
        if write(pool, &Answer::Ended(ending)).is_err() {
            // Without an answer the pool would wait for ever.
            exit(1);
        }
    });
}

/// Prints, as nobody need be there to read it.
fn print(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// The pool that started this process, if one did. From then on standard input is empty.
fn pool() -> Option<UnixStream> {
    if env::args_os().next()? != MARK {
        return None;
    }
    let pool = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    // Fails for what is no socket: then somebody has named a program so.
    pool.local_addr().ok()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null").ok()?).ok()?;
    Some(pool)
}

/// Whether processes of this program can run tasks at all.
pub(super) fn called() -> Result<&'static Tasks, Error> {
    match KNOWN.get() {
        Some(tasks) => tasks.as_ref().map_err(Clone::clone),
        None => Err(Error::invalid_option(
            "a process pool starts this program again: call `punctual::worker` in the first line of `main`",
        )),
    }
}

/// Whether processes of this program can run the task.
pub(crate) fn knows<T: Task>() -> Result<(), Error> {
    match called()?.has::<T>() {
        true => Ok(()),
        false => Err(Error::invalid_task(format!(
            "no process knows task `{}`: say `.task::<..>()` in `punctual::worker`, too",
            T::NAME
        ))),
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("tasks", &self.tasks).finish_non_exhaustive()
    }
}
