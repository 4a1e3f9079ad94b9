//! Work that runs once and returns a value.

use std::{
    future::ready,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt as _, future::Either};
use tokio::runtime::Handle;

use super::{
    Context, Home, NewEntry, Plain, WithContext, blocking, gone, only_async, take_if_free,
};
use crate::{
    driver::{Entry, EntryState, RunGuard, Shared},
    error::{BoxError, Error},
    executor::{Executor, task::execute},
    job::{BLOCKING_EXECUTOR, Outcome},
};

/// Work for a job that runs once and returns a value: a future, a closure that need not be `Clone`,
/// [`blocking`](crate::blocking) work, or a [`Task`](crate::Task); for
/// [`add_once`](crate::Scheduler::add_once).
///
/// `M` is a marker that distinguishes the forms of work. This trait is not meant to be implemented.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not work for a job that runs once",
    label = "not a future, an async function or closure of the right shape, nor a `Task`",
    note = "work is `async move {{ .. }}`, `|| async {{ .. }}`, `|cx: Context| async move {{ .. }}`, or `blocking(|| ..)` if it is not async",
    note = "it must be `Send + 'static`, and so must be its future and what that returns"
)]
pub trait OnceWork<M>: Send + 'static {
    /// The value that the job's awaited handle returns.
    type Output: Send + 'static;

    #[doc(hidden)]
    fn into_once<R: Send + 'static>(
        self,
        scheduler: Home,
        taker: Taker<Self::Output, R>,
    ) -> NewEntry;
}

/// Marks work that is a future.
#[derive(Debug)]
pub enum Ready {}

impl<F, Fut> OnceWork<Plain> for F
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = Fut::Output;

    fn into_once<R: Send + 'static>(self, home: Home, taker: Taker<Fut::Output, R>) -> NewEntry {
        once_spawned(home, self, taker, |work, _| work())
    }
}

impl<F, Fut> OnceWork<WithContext> for F
where
    F: FnOnce(Context) -> Fut + Send + 'static,
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = Fut::Output;

    fn into_once<R: Send + 'static>(self, home: Home, taker: Taker<Fut::Output, R>) -> NewEntry {
        once_spawned(home, self, taker, |work, run| work(run.context()))
    }
}

impl<Fut> OnceWork<Ready> for Fut
where
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = Fut::Output;

    fn into_once<R: Send + 'static>(self, home: Home, taker: Taker<Fut::Output, R>) -> NewEntry {
        once_spawned(home, self, taker, |work, _| work)
    }
}

/// Converts work whose every value is a success.
pub(crate) fn once<M, W: OnceWork<M>>(
    work: W,
    scheduler: Arc<Shared>,
) -> (Arc<dyn Entry>, Value<W::Output>) {
    once_with(work, scheduler, Ok)
}

/// Converts work that returns a result.
pub(crate) fn try_once<M, T, E>(
    work: impl OnceWork<M, Output = Result<T, E>>,
    scheduler: Arc<Shared>,
) -> (Arc<dyn Entry>, Value<T>)
where
    T: Send + 'static,
    E: Into<BoxError>,
{
    once_with(work, scheduler, |result: Result<T, E>| result.map_err(Into::into))
}

fn once_with<M, W: OnceWork<M>, R: Send + 'static>(
    work: W,
    scheduler: Arc<Shared>,
    finish: fn(W::Output) -> Result<R, BoxError>,
) -> (Arc<dyn Entry>, Value<R>) {
    let value = Value::default();
    let taker = Taker { finish, value: value.clone() };
    (work.into_once(Home(scheduler), taker).0, value)
}

/// The value of work that runs once, shared between its job and its handle.
#[doc(hidden)]
pub struct Value<R>(Arc<Mutex<Option<Result<R, Error>>>>);

impl<R> Value<R> {
    /// Takes the value, or the error of a run without a value; `None` if the run has not ended, or
    /// after the first call.
    pub(crate) fn take(&self) -> Option<Result<R, Error>> {
        self.lock().take()
    }

    fn set(&self, value: Result<R, Error>) {
        // Dropped without the lock, since the value may be of the user's type.
        let replaced = self.lock().replace(value);
        drop(replaced);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<R, Error>>> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> Default for Value<R> {
    fn default() -> Value<R> {
        Value(Arc::default())
    }
}

impl<R> Clone for Value<R> {
    fn clone(&self) -> Value<R> {
        Value(self.0.clone())
    }
}

/// Receives the return value of work that runs once, for the job's handle.
#[doc(hidden)]
pub struct Taker<T, R> {
    /// Converts the work's return value into the handle's value, or the error of a failed run.
    finish: fn(T) -> Result<R, BoxError>,
    value: Value<R>,
}

impl<T, R> Taker<T, R> {
    pub(super) fn take(&self, output: T) -> Result<(), BoxError> {
        self.value.set(Ok((self.finish)(output)?));
        Ok(())
    }

    /// Sets the handle's error, if the run has ended without a value.
    pub(super) fn conclude(&self, outcome: &Outcome) {
        let error = match outcome {
            Outcome::Succeeded => return,
            Outcome::Failed(error) => Error::failed(error.clone()),
            Outcome::Panicked(message) => {
                Error::panicked(format!("the job's run panicked: {message}"))
            }
            Outcome::TimedOut => {
                Error::timed_out("the job's run took longer than its timeout: raise the timeout")
            }
            Outcome::Missed => Error::missed(
                "the job's run could not start within its misfire grace time: raise it if the run may start late",
            ),
            Outcome::Cancelled | Outcome::Skipped(_) | Outcome::Abandoned => {
                Error::cancelled(format!("the job's run did not return a value: {outcome}"))
            }
        };
        self.value.set(Err(error));
    }
}

/// The entry of async work that runs once.
struct Once<W, C, T, R> {
    state: EntryState,
    work: Mutex<Option<W>>,
    call: C,
    taker: Taker<T, R>,
}

fn once_spawned<W, C, F, R>(
    scheduler: Home,
    work: W,
    taker: Taker<F::Output, R>,
    call: C,
) -> NewEntry
where
    W: Send + 'static,
    C: Fn(W, &RunGuard) -> F + Send + Sync + 'static,
    F: Future<Output: 'static> + Send + 'static,
    R: Send + 'static,
{
    let state = EntryState::new(scheduler.0);
    NewEntry(Arc::new(Once { state, work: Mutex::new(Some(work)), call, taker }))
}

impl<W, C, F, R> Entry for Once<W, C, F::Output, R>
where
    W: Send + 'static,
    C: Fn(W, &RunGuard) -> F + Send + Sync + 'static,
    F: Future<Output: 'static> + Send + 'static,
    R: Send + 'static,
{
    fn state(&self) -> &EntryState {
        &self.state
    }

    fn check(&self, executor: &Executor) -> Result<(), Error> {
        only_async(executor)
    }

    fn is_repeatable(&self) -> bool {
        false
    }

    fn launch(self: Arc<Self>, run: RunGuard, _: Option<Arc<Executor>>, runtime: &Handle) {
        runtime.spawn(execute(run, move |run: &RunGuard| {
            let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
            match work {
                Some(work) => Either::Left((self.call)(work, run).map(move |value| {
                    self.taker.take(value)?;
                    Ok(None)
                })),
                None => Either::Right(ready(Err(gone()))),
            }
        }));
    }

    fn wants_runs(&self) -> bool {
        true
    }

    fn conclude(&self, outcome: &Outcome) {
        self.taker.conclude(outcome);
    }

    fn drop_work(&self) {
        drop(take_if_free(&self.work));
    }
}

/// The entry of blocking work that runs once.
struct OnceCalled<W, T, R> {
    state: EntryState,
    work: Mutex<Option<W>>,
    call: fn(W, &RunGuard) -> T,
    taker: Taker<T, R>,
}

pub(super) fn once_called<W: Send + 'static, T: 'static, R: Send + 'static>(
    scheduler: Home,
    work: W,
    taker: Taker<T, R>,
    call: fn(W, &RunGuard) -> T,
) -> NewEntry {
    let state = EntryState::new(scheduler.0);
    NewEntry(Arc::new(OnceCalled { state, work: Mutex::new(Some(work)), call, taker }))
}

impl<W: Send + 'static, T: 'static, R: Send + 'static> Entry for OnceCalled<W, T, R> {
    fn state(&self) -> &EntryState {
        &self.state
    }

    fn check(&self, executor: &Executor) -> Result<(), Error> {
        blocking::only_blocking(executor)
    }

    fn default_executor(&self) -> &'static str {
        BLOCKING_EXECUTOR
    }

    fn is_repeatable(&self) -> bool {
        false
    }

    fn launch(self: Arc<Self>, run: RunGuard, executor: Option<Arc<Executor>>, runtime: &Handle) {
        blocking::launch(run, executor, runtime, move |run| {
            let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
            let value = (self.call)(work.ok_or_else(gone)?, run);
            self.taker.take(value)?;
            Ok(None)
        });
    }

    fn wants_runs(&self) -> bool {
        true
    }

    fn conclude(&self, outcome: &Outcome) {
        self.taker.conclude(outcome);
    }

    fn drop_work(&self) {
        drop(take_if_free(&self.work));
    }
}
