//! The async executor: a run is a Tokio task.

use std::{future::poll_fn, panic::AssertUnwindSafe, pin::pin, task::Poll};

use futures::FutureExt as _;

use super::Supervisor;
use crate::{error::BoxError, job::Outcome, panic::message};

/// Runs `work` to its outcome, which the supervisor learns when the work is dropped, not earlier.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn keeps its arguments twice, as they came and as they are used"
)]
pub(crate) fn execute<S, F>(
    mut supervisor: S,
    work: impl FnOnce(&S) -> F,
) -> impl Future<Output = ()>
where
    S: Supervisor,
    F: Future<Output = Result<(), BoxError>>,
{
    async move {
        if supervisor.start() {
            let outcome = outcome(&supervisor, work).await;
            supervisor.finish(outcome);
        }
    }
}

async fn outcome<S, F>(supervisor: &S, work: impl FnOnce(&S) -> F) -> Outcome
where
    S: Supervisor,
    F: Future<Output = Result<(), BoxError>>,
{
    // The closure is called inside the future, so that its panic is the run's too.
    let body = AssertUnwindSafe(async { work(supervisor).await }).catch_unwind();
    let mut body = pin!(body);
    let mut body = poll_fn(|cx| supervisor.poll(|| body.as_mut().poll(cx)));
    // Most runs end at their first poll: only the others need a cancellation token.
    let first = poll_fn(|cx| Poll::Ready(body.poll_unpin(cx))).await;
    let returned = match first {
        Poll::Ready(returned) => returned,
        Poll::Pending => {
            let (cancelled, grace) = (supervisor.cancelled(), supervisor.cancel_grace());
            // In a box, so that runs which end at once need no room for it.
            let mut out_of_grace = Box::pin(async move {
                cancelled.cancelled().await;
                tokio::time::sleep(grace).await;
            });
            tokio::select! {
                biased;
                returned = &mut body => returned,
                () = &mut out_of_grace => return Outcome::Cancelled,
            }
        }
    };
    match returned {
        Ok(Ok(())) => Outcome::Succeeded,
        Ok(Err(error)) => Outcome::Failed(error.into()),
        Err(panic) => Outcome::Panicked(message(panic)),
    }
}
