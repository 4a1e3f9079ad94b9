//! The process's side of a pool: `worker`, which makes a program able to run its tasks in separate
//! processes.

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
    protocol::{Ending, FromProcess, Request, ToProcess, VERSION, read, write},
};
use crate::{
    core::RunKey,
    driver::Shared,
    error::Error,
    panic::{message, text},
    task::{Context, States, Task, Tasks},
};

/// The name (`argv[0]`) of a pool's process. Unlike an environment variable, it is not inherited by
/// programs that the process starts.
pub(super) const MARK: &str = "punctual: worker";

/// The tasks that the process pools of this program can run, set by [`worker`].
static PROCESS_TASKS: OnceLock<Result<Tasks, Error>> = OnceLock::new();

/// Makes this program able to run tasks in the separate processes of a
/// [`ProcessPool`](crate::ProcessPool). Must be the first line of `main`.
///
/// `setup` registers the tasks for these processes and their [`Context::state`]. In the program
/// itself, the call stores them and returns. In a process of a pool, the call does not return: it
/// executes runs, and the process exits with the pool or the program.
///
/// Only the first call in a program has an effect. `#[tokio::main]` on `main` is allowed.
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
        None => drop(PROCESS_TASKS.set(worker.tasks)),
        Some(pool) => worker.serve(pool),
    }
}

/// The setup of a pool's processes; see [`worker`].
#[must_use = "return the worker from the closure"]
pub struct Worker {
    tasks: Result<Tasks, Error>,
    states: Vec<MakeState>,
}

/// Creates a value that runs can access by its type.
type MakeState = Box<dyn FnOnce(&mut States) + Send>;

impl Worker {
    /// Registers a task for separate processes.
    pub fn task<T: Task>(mut self) -> Self {
        self.tasks = self.tasks.and_then(|mut tasks| tasks.register::<T>().map(|()| tasks));
        self
    }

    /// Adds a value that runs can access by its type, with [`Context::state`].
    ///
    /// `make` is called in each process of a pool, before its first run and within its Tokio
    /// runtime, and not in the program itself.
    pub fn state_with<T: Send + Sync + 'static>(
        mut self,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Self {
        self.states.push(Box::new(|states| states.insert(make())));
        self
    }

    /// Executes runs until the pool closes, then exits this process.
    fn serve(self, pool: UnixStream) -> ! {
        // `main` may run in a runtime, which must not be blocked, and in which no other runtime can
        // be started.
        let serving = thread::Builder::new().spawn(move || self.answer(&pool));
        let served = serving.map(|thread| thread.join());
        match served {
            Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
                // The pool has closed: kill everything that the runs have started.
                if getpgrp() == getpid() {
                    let _ = kill_current_process_group(Signal::KILL);
                }
                exit(0)
            }
            Ok(Ok(Err(error))) | Err(error) => {
                eprintln!("{error}");
                exit(1)
            }
            // The panic hook has already reported the panic.
            Ok(Err(_)) => exit(101),
        }
    }

    /// Executes runs until there is an error, which is normally that the pool has closed.
    fn answer(self, pool: &UnixStream) -> io::Result<Infallible> {
        let tasks = Arc::new(self.tasks.map_err(io::Error::other)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            // One thread for the run, and one for the tasks that it spawns.
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
                    "a run in a separate process has no scheduler: add and change jobs from async work",
                ),
            ))
        };
        write(pool, &FromProcess::Ready { version: VERSION })?;
        let mut stop = CancellationToken::new();
        loop {
            match read(pool)? {
                ToProcess::Stop => stop.cancel(),
                ToProcess::Run(request) => {
                    stop = CancellationToken::new();
                    spawn(&runtime, &tasks, &shared, request, stop.clone(), pool.try_clone()?);
                }
            }
        }
    }
}

/// Executes a run and sends its outcome.
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
        // Ends the output of the run before the next mark.
        print(b"");
        if write(pool, &FromProcess::Ended(ending)).is_err() {
            // Without a response the pool would wait forever.
            exit(1);
        }
    });
}

/// Prints; ignores errors, since standard output may have no reader.
fn print(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// The socket to the pool that started this process, if any. Standard input is empty afterwards.
fn pool() -> Option<UnixStream> {
    if env::args_os().next()? != MARK {
        return None;
    }
    let pool = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    // Fails unless standard input is a socket: the program may have this name for another reason.
    pool.local_addr().ok()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null").ok()?).ok()?;
    Some(pool)
}

/// The tasks for separate processes, or an error if this program cannot run any.
pub(super) fn process_tasks() -> Result<&'static Tasks, Error> {
    match PROCESS_TASKS.get() {
        Some(tasks) => tasks.as_ref().map_err(Clone::clone),
        None => Err(Error::invalid_option(
            "a process pool starts this program again: call `punctual::worker` in the first line of `main`",
        )),
    }
}

/// Checks that processes of this program can run the task.
pub(crate) fn knows<T: Task>() -> Result<(), Error> {
    if process_tasks()?.has::<T>() {
        return Ok(());
    }
    Err(Error::invalid_task(format!(
        "task `{}` is not registered for processes: add `.task::<..>()` in `punctual::worker`, too",
        T::NAME
    )))
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("tasks", &self.tasks).finish_non_exhaustive()
    }
}
