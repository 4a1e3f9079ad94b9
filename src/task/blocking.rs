//! Work that blocks its thread.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

use super::{
    Context, Home, NewEntry, OnceWork, Plain, WithContext, Work, WorkOutput, gone,
    once::{Taker, once_called},
    output::returned,
    take_if_free,
};
use crate::{
    driver::{Entry, EntryState, RunGuard},
    error::{BoxError, Error},
    executor::{Executor, Kind, Returned, Supervisor as _},
    job::{BLOCKING_EXECUTOR, Outcome},
};

/// Creates work from a function or closure that blocks its thread. It runs on a
/// [`BlockingPool`](crate::BlockingPool), by default the one named `blocking`.
///
/// The function takes no argument or a [`Context`], and returns `()` or a `Result`; with
/// [`add_once`](crate::Scheduler::add_once) any value, which the handle returns. It is cloned for
/// each run, so changes to captured values are lost: use `blocking(stateful(..))` to keep them
/// ([`stateful`](crate::stateful)). Blocking work cannot be dropped, so long work should check
/// [`Context::is_cancelled`] regularly.
///
/// ```
/// use std::time::Duration;
/// use punctual::{Context, Scheduler, blocking, trigger::{every, now}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), punctual::Error> {
/// let scheduler = Scheduler::new();
/// let count = blocking(|cx: Context| {
///     for n in 0.. {
///         if cx.is_cancelled() || n == 1000 {
///             break;
///         }
///     }
/// });
/// scheduler.add(every(Duration::from_millis(10)).times(1), count).await?.await;
///
/// let sum: u64 = scheduler.add_once(now(), blocking(|| (1..=1000).sum())).await?.await?;
/// assert_eq!(sum, 500_500);
/// # Ok(()) }
/// ```
pub fn blocking<F>(work: F) -> Blocking<F> {
    Blocking(work)
}

/// Work that blocks its thread, created by [`blocking`].
#[derive(Clone, Copy, Debug)]
pub struct Blocking<F>(pub(super) F);

/// Marks blocking work; `M` distinguishes its forms.
#[derive(Debug)]
pub struct BlockingWork<M>(std::marker::PhantomData<M>);

impl<F, T> Work<BlockingWork<Plain>> for Blocking<F>
where
    F: FnOnce() -> T + Clone + Send + 'static,
    T: 'static,
{
    type Output = T;

    fn into_entry(self, scheduler: Home) -> NewEntry
    where
        T: WorkOutput,
    {
        called(scheduler, self.0, |work, run| returned(work(), run.wants_output()))
    }
}

impl<F, T> Work<BlockingWork<WithContext>> for Blocking<F>
where
    F: FnOnce(Context) -> T + Clone + Send + 'static,
    T: 'static,
{
    type Output = T;

    fn into_entry(self, scheduler: Home) -> NewEntry
    where
        T: WorkOutput,
    {
        called(scheduler, self.0, |work, run| returned(work(run.context()), run.wants_output()))
    }
}

impl<F, T> OnceWork<BlockingWork<Plain>> for Blocking<F>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    type Output = T;

    fn into_once<R: Send + 'static>(self, scheduler: Home, taker: Taker<T, R>) -> NewEntry {
        once_called(scheduler, self.0, taker, |work, _| work())
    }
}

impl<F, T> OnceWork<BlockingWork<WithContext>> for Blocking<F>
where
    F: FnOnce(Context) -> T + Send + 'static,
    T: Send + 'static,
{
    type Output = T;

    fn into_once<R: Send + 'static>(self, scheduler: Home, taker: Taker<T, R>) -> NewEntry {
        once_called(scheduler, self.0, taker, |work, run| work(run.context()))
    }
}

/// The entry of a blocking closure.
struct Called<W> {
    state: EntryState,
    work: Mutex<Option<W>>,
    call: fn(W, &RunGuard) -> Returned,
}

pub(super) fn called<W: Clone + Send + 'static>(
    scheduler: Home,
    work: W,
    call: fn(W, &RunGuard) -> Returned,
) -> NewEntry {
    let state = EntryState::new(scheduler.0);
    NewEntry(Arc::new(Called { state, work: Mutex::new(Some(work)), call }))
}

impl<W: Clone + Send + 'static> Entry for Called<W> {
    fn state(&self) -> &EntryState {
        &self.state
    }

    fn check(&self, executor: &Executor) -> Result<(), Error> {
        only_blocking(executor)
    }

    fn default_executor(&self) -> &'static str {
        BLOCKING_EXECUTOR
    }

    fn launch(self: Arc<Self>, run: RunGuard, executor: Option<Arc<Executor>>, runtime: &Handle) {
        launch(run, executor, runtime, move |run| {
            let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match work {
                Some(work) => (self.call)(work, run),
                None => Err(gone()),
            }
        });
    }

    fn drop_work(&self) {
        drop(take_if_free(&self.work));
    }
}

/// Checks that the executor is a blocking pool: blocking work runs only on its threads.
pub(super) fn only_blocking(executor: &Executor) -> Result<(), Error> {
    match executor.kind {
        Kind::Blocking(_) => Ok(()),
        _ => Err(Error::invalid_option(format!(
            "work that blocks can't run on {}: name a blocking pool, or no executor for the default one",
            executor.kind_name()
        ))),
    }
}

/// Calls `work` on a thread of the executor.
pub(super) fn launch(
    run: RunGuard,
    executor: Option<Arc<Executor>>,
    runtime: &Handle,
    work: impl FnOnce(&RunGuard) -> Returned + Send + 'static,
) {
    match executor.as_deref().map(|executor| &executor.kind) {
        Some(Kind::Blocking(threads)) => threads.spawn(run, runtime, work),
        // The options were checked, and an executor that a job uses cannot be removed.
        _ => {
            let error = BoxError::from("the job's executor has no threads");
            run.finish(Outcome::Failed(error.into()), None);
        }
    }
}
