//! Work that runs once and yields a value.

use std::{
    future::ready,
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{FutureExt as _, future::Either};
use tokio::{runtime::Handle, sync::oneshot};

use super::{OnceWork, gone, only_async, take_if_free};
use crate::{
    driver::{Entry, EntryState, RunGuard, Shared},
    error::{BoxError, Error},
    executor::{Executor, task::execute},
    job::Outcome,
};

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

    fn check(&self, executor: &Executor) -> Result<(), Error> {
        only_async(executor)
    }

    fn launch(self: Arc<Self>, run: RunGuard, _: Option<Arc<Executor>>, runtime: &Handle) {
        runtime.spawn(execute(run, move |run: &RunGuard| {
            let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
            match work {
                Some(work) => Either::Left(work.call(|| run.context()).map(move |value| {
                    self.settle(Ok((self.finish)(value)?));
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
        let error = match outcome {
            Outcome::Succeeded => return,
            Outcome::Failed(error) => Error::failed(error.clone()),
            Outcome::Panicked(message) => {
                Error::panicked(format!("the job's run panicked: {message}"))
            }
            Outcome::TimedOut => {
                Error::timed_out("the job's run took longer than its timeout: raise that if it may")
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
