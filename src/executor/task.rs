//! The async executor: each run is a Tokio task.

use std::{future::poll_fn, panic::AssertUnwindSafe, pin::pin, task::Poll};

use futures::FutureExt as _;

use super::{Returned, Supervisor};
use crate::{
    job::{Outcome, Output},
    panic::message,
};

/// Runs `work` and sends its outcome to the supervisor, after the work has been dropped.
#[expect(clippy::manual_async_fn, reason = "an async fn would store its arguments twice")]
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
    // The closure is called inside the future, so that its panic also ends the run.
    let body = AssertUnwindSafe(async { work(supervisor).await }).catch_unwind();
    let mut body = pin!(body);
    let mut body = poll_fn(|cx| supervisor.poll(|| body.as_mut().poll(cx)));
    // Most runs complete at the first poll; only the others need a cancellation token.
    let first = poll_fn(|cx| Poll::Ready(body.poll_unpin(cx))).await;
    let returned = match first {
        Poll::Ready(returned) => returned,
        Poll::Pending => {
            // Boxed, so that runs that complete at once do not need space for it.
            let mut end = Box::pin(limits_reached(supervisor));
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

/// Waits until the work must be dropped: it timed out, or did not end within its `cancel_grace`.
async fn limits_reached(supervisor: &impl Supervisor) -> Outcome {
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
