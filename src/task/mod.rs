//! The work of jobs: closures and async functions, and what a run knows of itself.

mod context;

use std::{
    future::ready,
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError, TryLockError},
};

use futures::{FutureExt as _, future::Either};
use tokio::{runtime::Handle, sync::oneshot};

pub use self::context::Context;
use crate::{
    driver::{Entry, EntryState, RunGuard, Shared},
    error::{BoxError, Error},
    executor::task::execute,
    job::Outcome,
};

/// What can be a job's work: an async function or closure without arguments, or with a [`Context`].
///
/// It is cloned for each run and called inside it, so `async move` closures that capture work as
/// they are; what they capture is cloned per run (an `Arc` makes that cheap). It returns `()` or a
/// `Result` whose error converts into [`BoxError`].
///
/// `M` only tells the two forms apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not work for a job",
    label = "not an async function or closure of the right shape",
    note = "work is `|| async {{ .. }}`, `|cx: Context| async move {{ .. }}` or the name of an `async fn`",
    note = "it must be `Clone + Send + 'static`, its future `Send`, and it returns `()` or a `Result`"
)]
pub trait Work<M>: Clone + Send + 'static {
    /// What the work returns when it is called.
    type Future: Future<Output: WorkOutput> + Send + 'static;

    /// Calls the work. `context` is made only if the work takes it.
    fn call(self, context: impl FnOnce() -> Context) -> Self::Future;
}

/// Work that can run only once: a future, or a closure that need not be `Clone`; for
/// [`add_once`](crate::Scheduler::add_once).
///
/// `M` only tells the forms apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not work for a job that runs once",
    label = "not a future, nor an async function or closure of the right shape",
    note = "work is `async move {{ .. }}`, `|| async {{ .. }}` or `|cx: Context| async move {{ .. }}`",
    note = "it must be `Send + 'static`, and so must be its future and what that returns"
)]
pub trait OnceWork<M>: Send + 'static {
    /// What the future returns.
    type Output: Send + 'static;
    /// What the work returns when it is called.
    type Future: Future<Output = Self::Output> + Send + 'static;

    /// Calls the work. `context` is made only if the work takes it.
    fn call(self, context: impl FnOnce() -> Context) -> Self::Future;
}

/// Marks work that is a closure without arguments.
#[derive(Debug)]
pub enum Plain {}

/// Marks work that is a closure with a [`Context`].
#[derive(Debug)]
pub enum WithContext {}

/// Marks work that is a future already.
#[derive(Debug)]
pub enum Ready {}

impl<F, Fut> Work<Plain> for F
where
    F: FnOnce() -> Fut + Clone + Send + 'static,
    Fut: Future<Output: WorkOutput> + Send + 'static,
{
    type Future = Fut;

    fn call(self, _: impl FnOnce() -> Context) -> Fut {
        self()
    }
}

impl<F, Fut> Work<WithContext> for F
where
    F: FnOnce(Context) -> Fut + Clone + Send + 'static,
    Fut: Future<Output: WorkOutput> + Send + 'static,
{
    type Future = Fut;

    fn call(self, context: impl FnOnce() -> Context) -> Fut {
        self(context())
    }
}

impl<F, Fut> OnceWork<Plain> for F
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = Fut::Output;
    type Future = Fut;

    fn call(self, _: impl FnOnce() -> Context) -> Fut {
        self()
    }
}

impl<F, Fut> OnceWork<WithContext> for F
where
    F: FnOnce(Context) -> Fut + Send + 'static,
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = Fut::Output;
    type Future = Fut;

    fn call(self, context: impl FnOnce() -> Context) -> Fut {
        self(context())
    }
}

impl<Fut> OnceWork<Ready> for Fut
where
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    type Output = Fut::Output;
    type Future = Fut;

    fn call(self, _: impl FnOnce() -> Context) -> Fut {
        self
    }
}

/// What a job's work may return: `()`, or a `Result` whose error converts into [`BoxError`].
#[diagnostic::on_unimplemented(
    message = "a job's work can't return `{Self}`",
    note = "it returns `()` or a `Result<T, E>` where `E: Into<BoxError>`; `add_once` takes any value"
)]
pub trait WorkOutput {
    /// Success, or the error of a failed run.
    ///
    /// # Errors
    ///
    /// The error that the work returned.
    fn into_result(self) -> Result<(), BoxError>;
}

impl WorkOutput for () {
    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<T, E: Into<BoxError>> WorkOutput for Result<T, E> {
    fn into_result(self) -> Result<(), BoxError> {
        self.map(drop).map_err(Into::into)
    }
}

/// An entry for work that runs many times.
struct Repeated<W, M> {
    state: EntryState,
    /// Behind a lock so that work need not be `Sync`; held only while it is cloned.
    work: Mutex<Option<W>>,
    marker: PhantomData<fn(M)>,
}

pub(crate) fn repeated<W: Work<M>, M: 'static>(shared: Arc<Shared>, work: W) -> Arc<dyn Entry> {
    Arc::new(Repeated {
        state: EntryState::new(shared),
        work: Mutex::new(Some(work)),
        marker: PhantomData,
    })
}

impl<W: Work<M>, M: 'static> Entry for Repeated<W, M> {
    fn state(&self) -> &EntryState {
        &self.state
    }

    fn launch(self: Arc<Self>, run: RunGuard, runtime: &Handle) {
        runtime.spawn(execute(run, move |run: &RunGuard| {
            // A `clone` that panics poisons the lock, and the next run tries again.
            let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match work {
                Some(work) => {
                    Either::Left(work.call(|| run.context()).map(WorkOutput::into_result))
                }
                None => Either::Right(ready(Err(gone()))),
            }
        }));
    }

    fn drop_work(&self) {
        drop(take_if_free(&self.work));
    }
}

/// Takes what is behind a lock, unless somebody holds it: a run that was given up may be stuck in
/// its work's `clone`. Then it is dropped with the entry.
fn take_if_free<W>(work: &Mutex<Option<W>>) -> Option<W> {
    match work.try_lock() {
        Ok(mut work) => work.take(),
        Err(TryLockError::Poisoned(work)) => work.into_inner().take(),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// An entry for work that runs once. `finish` makes of what it returned what the handle yields, or
/// the error of a failed run.
struct Once<W, M, T, R> {
    state: EntryState,
    work: Mutex<Option<W>>,
    value: Mutex<Option<oneshot::Sender<Result<R, Error>>>>,
    finish: fn(T) -> Result<R, BoxError>,
    marker: PhantomData<fn(M)>,
}

/// What becomes of the value of work that runs once, when its job is over.
pub(crate) type Value<R> = oneshot::Receiver<Result<R, Error>>;

/// Work whose every value is a success.
pub(crate) fn once<W: OnceWork<M>, M: 'static>(
    shared: Arc<Shared>,
    work: W,
) -> (Arc<dyn Entry>, Value<W::Output>) {
    once_with(shared, work, Ok)
}

/// Work that may fail.
pub(crate) fn try_once<W, M, T, E>(shared: Arc<Shared>, work: W) -> (Arc<dyn Entry>, Value<T>)
where
    W: OnceWork<M, Output = Result<T, E>>,
    M: 'static,
    T: Send + 'static,
    E: Into<BoxError>,
{
    once_with(shared, work, |result: Result<T, E>| result.map_err(Into::into))
}

fn once_with<W: OnceWork<M>, M: 'static, R: Send + 'static>(
    shared: Arc<Shared>,
    work: W,
    finish: fn(W::Output) -> Result<R, BoxError>,
) -> (Arc<dyn Entry>, Value<R>) {
    let (sender, receiver) = oneshot::channel();
    let entry = Once {
        state: EntryState::new(shared),
        work: Mutex::new(Some(work)),
        value: Mutex::new(Some(sender)),
        finish,
        marker: PhantomData,
    };
    (Arc::new(entry), receiver)
}

impl<W, M, T, R> Once<W, M, T, R> {
    fn settle(&self, value: Result<R, Error>) {
        let sender = self.value.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // Nobody has to want it.
            let _ = sender.send(value);
        }
    }
}

impl<W, M, T, R> Entry for Once<W, M, T, R>
where
    W: OnceWork<M, Output = T>,
    M: 'static,
    T: 'static,
    R: Send + 'static,
{
    fn state(&self) -> &EntryState {
        &self.state
    }

    fn launch(self: Arc<Self>, run: RunGuard, runtime: &Handle) {
        runtime.spawn(execute(run, move |run: &RunGuard| {
            let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
            match work {
                Some(work) => Either::Left(work.call(|| run.context()).map(move |value| {
                    self.settle(Ok((self.finish)(value)?));
                    Ok(())
                })),
                None => Either::Right(ready(Err(gone()))),
            }
        }));
    }

    fn wants_runs(&self) -> bool {
        true
    }

    fn conclude(&self, outcome: &Outcome) {
        let error = match outcome {
            Outcome::Succeeded => return,
            Outcome::Failed(error) => Error::failed(error.clone()),
            Outcome::Panicked(message) => {
                Error::panicked(format!("the job's run panicked: {message}"))
            }
            Outcome::Missed => Error::missed(
                "the job's run could not start within its misfire grace time: raise that if it should run late",
            ),
            Outcome::Cancelled | Outcome::Skipped(_) | Outcome::Abandoned => {
                Error::cancelled(format!("the job's run did not return a value: {outcome}"))
            }
        };
        self.settle(Err(error));
    }

    fn drop_work(&self) {
        drop(take_if_free(&self.work));
    }
}

/// The job ended between the start of a run and the call of its work.
fn gone() -> BoxError {
    "the job ended before its work was called".into()
}
