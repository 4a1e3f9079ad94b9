//! The work of jobs: async closures and functions, blocking work, named tasks, and the context of a
//! run.

mod blocking;
#[cfg(feature = "process")]
mod command;
mod context;
mod named;
mod once;
mod output;
mod stateful;

use std::{
    future::ready,
    sync::{Arc, Mutex, PoisonError, TryLockError},
};

use futures::{FutureExt as _, future::Either};
use tokio::runtime::Handle;

#[cfg(feature = "process")]
pub use self::command::{Command, CommandError, CommandWork, command};
use self::output::returned;
pub use self::{
    blocking::{Blocking, BlockingWork, blocking},
    context::{Context, Preceding},
    named::{ByName, NamedTask, Task, named_task},
    once::{OnceWork, Ready},
    output::{WorkError, WorkOutput},
    stateful::{Stateful, StatefulWork, stateful},
};
pub(crate) use self::{
    context::States,
    named::Tasks,
    once::{Value, once, try_once},
};
use crate::{
    driver::{Entry, EntryState, RunGuard, Shared},
    error::{BoxError, Error},
    executor::{Executor, Kind, task::execute},
};

/// The work of a job.
///
/// | work | runs |
/// |---|---|
/// | an async function or closure without arguments, or with a [`Context`] | as a Tokio task |
/// | [`blocking`] with a function or closure | on a thread of a [`BlockingPool`](crate::BlockingPool) |
/// | [`stateful`] with a closure that mutates what it captured | as a Tokio task; with `blocking(stateful(..))` on a thread |
/// | a [`Task`], or a [`named_task`] | as a Tokio task, or in a separate process |
/// | with the feature `process`, a `command` | as a process |
///
/// A closure is cloned for each run, and the clone is called inside the run, so capturing `async
/// move` closures work. Captured values are cloned per run, which an `Arc` makes cheap. Changes to
/// them are lost after the run, unless the closure is [`stateful`]. Work returns `()` or a `Result`
/// whose error converts into [`BoxError`]. A closure `|| async { .. }` that ends with `Ok(())` must
/// name the error type: `Ok::<_, BoxError>(())`.
///
/// `M` is a marker that distinguishes the forms of work. This trait is not meant to be implemented.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not work for a job",
    label = "not an async function or closure of the right shape, nor a `Task`",
    note = "work is `|| async {{ .. }}`, `|cx: Context| async move {{ .. }}`, the name of an `async fn`, or `blocking(|| ..)` if it is not async",
    note = "a future such as `async {{ .. }}` runs once: write `|| async {{ .. }}`, or use `add_once`",
    note = "a closure that changes what it captured, as by `n += 1`, is `stateful(move || {{ n += 1; async {{ .. }} }})`, or `blocking(stateful(..))` if it is not async",
    note = "it must be `Clone + Send + 'static`, its future `Send`, and it returns `()` or a `Result`"
)]
pub trait Work<M>: Send + 'static {
    /// The return value of a run, which must be a [`WorkOutput`].
    type Output;

    #[doc(hidden)]
    fn into_entry(self, scheduler: Home) -> NewEntry
    where
        Self::Output: WorkOutput;
}

/// The scheduler of some work.
#[doc(hidden)]
pub struct Home(Arc<Shared>);

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Home").finish_non_exhaustive()
    }
}

/// Work in the form that its job uses.
#[doc(hidden)]
pub struct NewEntry(Arc<dyn Entry>);

pub(crate) fn entry<M>(
    work: impl Work<M, Output: WorkOutput>,
    scheduler: Arc<Shared>,
) -> Arc<dyn Entry> {
    work.into_entry(Home(scheduler)).0
}

impl std::fmt::Debug for NewEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewEntry").finish_non_exhaustive()
    }
}

/// Marks work that is a closure without arguments.
#[derive(Debug)]
pub enum Plain {}

/// Marks work that is a closure with a [`Context`].
#[derive(Debug)]
pub enum WithContext {}

impl<F, Fut> Work<Plain> for F
where
    F: FnOnce() -> Fut + Clone + Send + 'static,
    Fut: Future + Send + 'static,
{
    type Output = Fut::Output;

    fn into_entry(self, scheduler: Home) -> NewEntry
    where
        Fut::Output: WorkOutput,
    {
        repeated(scheduler, self, |work, _| work())
    }
}

impl<F, Fut> Work<WithContext> for F
where
    F: FnOnce(Context) -> Fut + Clone + Send + 'static,
    Fut: Future + Send + 'static,
{
    type Output = Fut::Output;

    fn into_entry(self, scheduler: Home) -> NewEntry
    where
        Fut::Output: WorkOutput,
    {
        repeated(scheduler, self, |work, run| work(run.context()))
    }
}

/// The entry of a closure that runs many times.
struct Repeated<W, C> {
    state: EntryState,
    /// In a mutex, so that work need not be `Sync`; locked only for the clone.
    work: Mutex<Option<W>>,
    /// Zero-sized, since it captures nothing.
    call: C,
}

fn repeated<W, C, F>(scheduler: Home, work: W, call: C) -> NewEntry
where
    W: Clone + Send + 'static,
    C: Fn(W, &RunGuard) -> F + Send + Sync + 'static,
    F: Future<Output: WorkOutput> + Send + 'static,
{
    let state = EntryState::new(scheduler.0);
    NewEntry(Arc::new(Repeated { state, work: Mutex::new(Some(work)), call }))
}

impl<W, C, F> Entry for Repeated<W, C>
where
    W: Clone + Send + 'static,
    C: Fn(W, &RunGuard) -> F + Send + Sync + 'static,
    F: Future<Output: WorkOutput> + Send + 'static,
{
    fn state(&self) -> &EntryState {
        &self.state
    }

    fn check(&self, executor: &Executor) -> Result<(), Error> {
        only_async(executor)
    }

    fn launch(self: Arc<Self>, run: RunGuard, _: Option<Arc<Executor>>, runtime: &Handle) {
        runtime.spawn(execute(run, move |run: &RunGuard| {
            // A panic in `clone` poisons the lock, and the next run tries again.
            let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let wanted = run.wants_output();
            match work {
                Some(work) => {
                    Either::Left((self.call)(work, run).map(move |output| returned(output, wanted)))
                }
                None => Either::Right(ready(Err(gone()))),
            }
        }));
    }

    fn drop_work(&self) {
        drop(take_if_free(&self.work));
    }
}

/// Checks that the executor is async: async closures only run in this process's runtime.
fn only_async(executor: &Executor) -> Result<(), Error> {
    match executor.kind {
        Kind::Async => Ok(()),
        #[cfg(feature = "process")]
        Kind::Process(_) => Err(Error::invalid_option(
            "a closure can't run on a process pool: make a `Task` of it, or name an async executor",
        )),
        _ => Err(Error::invalid_option(format!(
            "an async closure can't run on {}: name an async executor",
            executor.kind_name()
        ))),
    }
}

/// Takes the value out of a mutex, unless it is locked: an abandoned run may block in its work's
/// `clone`. Then the value is dropped with the entry.
fn take_if_free<W>(work: &Mutex<Option<W>>) -> Option<W> {
    match work.try_lock() {
        Ok(mut work) => work.take(),
        Err(TryLockError::Poisoned(work)) => work.into_inner().take(),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// The error if the job ended between the start of a run and the call of its work.
fn gone() -> BoxError {
    "the job ended before its work was called".into()
}
