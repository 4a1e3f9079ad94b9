//! Listening to events: the stream and the callback form.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt as _};
use tokio::{runtime::Handle, task::JoinHandle};
use tracing::field::display;

use crate::{
    event::{Event, EventPayload},
    feed::{Fed, FeedReceiver},
    panic::{line, message},
};

/// A [`Stream`] of the events of a scheduler, which ends after [`EventPayload::ShutDown`].
///
/// Its buffer is bounded (`event_buffer` on the scheduler's builder). A listener that is too slow
/// loses the oldest events, and receives [`EventPayload::Lagged`] with their number instead.
///
/// # Cancel safety
///
/// Waiting for the next event is cancel safe: no event is lost.
///
/// ```
/// use std::time::Duration;
/// use punctual::{EventKind, Scheduler, trigger::every};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// let scheduler = Scheduler::new();
/// let mut runs = scheduler.events_matching(EventKind::Executed);
/// scheduler.add(every(Duration::from_secs(1)), || async {}).await?;
/// println!("{}", runs.next().await.unwrap());
/// # Ok(()) }
/// ```
#[must_use = "a stream does nothing unless polled"]
pub struct Events {
    feed: FeedReceiver<Event>,
    /// The sequence number and instant of the last event, for `Lagged` events.
    last: (u64, DateTime<Utc>),
}

impl Events {
    pub(super) fn new(feed: FeedReceiver<Event>) -> Events {
        Events { feed, last: (0, DateTime::UNIX_EPOCH) }
    }

    /// Returns the next event, or `None` after [`EventPayload::ShutDown`]. Like `StreamExt::next`,
    /// without a trait in scope.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no event is lost if the future is dropped.
    #[allow(clippy::should_implement_trait, reason = "streams have a method of this name")]
    pub fn next(&mut self) -> impl Future<Output = Option<Event>> + Send + Unpin + '_ {
        futures::StreamExt::next(self)
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        Poll::Ready(match ready!(self.feed.poll_next_unpin(cx)) {
            Some(Fed::Item(event)) => {
                self.last = (event.sequence, event.at);
                Some(event)
            }
            Some(Fed::Lost(missed)) => {
                let (sequence, at) = self.last;
                Some(Event { sequence, at, store: None, payload: EventPayload::Lagged { missed } })
            }
            None => None,
        })
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("last_sequence", &self.last.0).finish_non_exhaustive()
    }
}

/// Calls `callback` with each event, in a separate task.
pub(super) fn call(
    runtime: &Handle,
    mut events: Events,
    mut callback: impl FnMut(Event) + Send + 'static,
) -> JoinHandle<()> {
    runtime.spawn(async move {
        while let Some(event) = events.next().await {
            let (sequence, job) = (event.sequence, event.payload.job().cloned());
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| callback(event))) {
                let (job, message) = (job.as_ref().map(display), line(&message(panic)));
                tracing::error!(target: "punctual", sequence, job, "an event callback panicked: {message}");
            }
        }
    })
}
