//! The receivers of an event: the listeners whose filters it passes, and `tracing`.

use std::task::Waker;

use tracing::{field::display, level_filters::LevelFilter};

use crate::{
    event::{Event, EventFilter, EventKind, KindSet},
    feed::{FeedReceiver, FeedSender, feed},
    panic::line,
};

/// The streams of events.
#[derive(Default)]
pub(super) struct Listeners(Vec<Listener>);

struct Listener {
    filter: EventFilter,
    sender: FeedSender<Event>,
}

impl Listeners {
    /// Adds a listener for later events, with a buffer of `buffer` events.
    pub(super) fn add(&mut self, filter: EventFilter, buffer: usize) -> FeedReceiver<Event> {
        let (sender, receiver) = feed(buffer);
        // The next event may be far away, and until then nothing else shows which listeners are
        // gone.
        self.0.retain(|listener| !listener.sender.is_closed());
        self.0.push(Listener { filter, sender });
        receiver
    }

    /// Returns the kinds of events that a listener or a subscriber of `tracing` wants.
    pub(super) fn observed(&self) -> KindSet {
        self.0.iter().fold(traced(), |kinds, listener| kinds.union(listener.filter.kind_set()))
    }

    /// Sends events to the listeners whose filters they pass, in order. Returns the work for after
    /// the lock is free: wakers to wake, and dropped older events.
    pub(super) fn send(
        &mut self,
        events: &[Event],
        wakers: &mut Vec<Waker>,
        dropped_events: &mut Vec<Event>,
    ) {
        for event in events {
            self.0.retain(|listener| {
                if listener.filter.passes(&event.payload) {
                    let (waker, dropped) = listener.sender.send(event.clone());
                    wakers.extend(waker);
                    dropped_events.extend(dropped);
                }
                !listener.sender.is_closed()
            });
        }
    }
}

const WARNED: KindSet = KindSet::NONE
    .with(EventKind::Failed)
    .with(EventKind::TimedOut)
    .with(EventKind::Retrying)
    .with(EventKind::Missed)
    .with(EventKind::Abandoned)
    .with(EventKind::TriggerFailed)
    .with(EventKind::StoreFailing)
    .with(EventKind::LeaseLapsed)
    .with(EventKind::LeaseLost)
    .with(EventKind::NodesDied)
    .with(EventKind::JobUnreadable)
    .with(EventKind::OutcomeRefused);

const INFORMED: KindSet = KindSet::NONE
    .with(EventKind::Started)
    .with(EventKind::ShutDown)
    .with(EventKind::Paused)
    .with(EventKind::Resumed)
    .with(EventKind::ClockStepped)
    .with(EventKind::TimeZonesUpdated)
    .with(EventKind::StoreAdded)
    .with(EventKind::StoreRemoved)
    .with(EventKind::StoreWorking);

/// Returns the kinds of events that a subscriber of `tracing` may want.
fn traced() -> KindSet {
    match LevelFilter::current() {
        LevelFilter::OFF | LevelFilter::ERROR => KindSet::NONE,
        LevelFilter::WARN => WARNED,
        LevelFilter::INFO => WARNED.union(INFORMED),
        _ => KindSet::ALL,
    }
}

/// Sends an event to `tracing`: its text, with its number and its job, if any, as fields.
pub(super) fn trace(event: &Event) {
    let kind = event.payload.kind();
    if !traced().contains(kind) {
        return;
    }
    let (sequence, job) = (event.sequence, event.payload.job().map(display));
    let line = line(event);
    if WARNED.contains(kind) {
        tracing::warn!(target: "punctual", sequence, job, "{line}");
    } else if INFORMED.contains(kind) {
        tracing::info!(target: "punctual", sequence, job, "{line}");
    } else {
        tracing::debug!(target: "punctual", sequence, job, "{line}");
    }
}
