//! The async executor: a run is a Tokio task.

use std::{future::poll_fn, panic::AssertUnwindSafe, pin::pin, task::Poll};

use futures::FutureExt as _;

use super::{Returned, Supervisor};
use crate::{
    job::{Outcome, Output},
    panic::message,
};

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
    F: Future<Output = Returned>,
{
    async move {
        if supervisor.start() {
            let (outcome, output) = outcome(&supervisor, work).await;
            supervisor.finish(outcome, output);
        }
    }
}

async fn outcome<S, F>(supervisor: &S, work: impl FnOnce(&S) -> F) -> (Outcome, Option<Output>)
where
    S: Supervisor,
    F: Future<Output = Returned>,
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
            // In a box, so that runs which end at once need no room for it.
            let mut end = Box::pin(end_of_patience(supervisor));
            tokio::select! {
                biased;
                returned = &mut body => returned,
                outcome = &mut end => return (outcome, None),
            }
        }
    };
    match returned {
        Ok(Ok(output)) => (Outcome::Succeeded, output),
        Ok(Err(error)) => (Outcome::Failed(error.into()), None),
        Err(panic) => (Outcome::Panicked(message(panic)), None),
    }
}

/// Waits until the work is to be dropped: it takes too long, or was asked to stop and does not.
async fn end_of_patience(supervisor: &impl Supervisor) -> Outcome {
    let out_of_grace = async {
        supervisor.cancelled().cancelled_owned().await;
        tokio::time::sleep(supervisor.cancel_grace()).await;
    };
    let Some(timeout) = supervisor.timeout() else {
        out_of_grace.await;
        return Outcome::Cancelled;
    };
    tokio::select! {
        biased;
        () = out_of_grace => Outcome::Cancelled,
        () = tokio::time::sleep(timeout) => Outcome::TimedOut,
    }
}
