//! Work for after the machine's lock is free: waking, cancelling and dropping may call user code.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    entry::{Entry, Reported},
    listeners::trace,
    shared::Shared,
};
use crate::{
    core::{Discarded, Ended, StoreKey},
    event::Event,
    job::{End, Run},
    ledger::Incarnation,
    panic::shielded,
};

/// Work for after the lock is free.
#[derive(Default)]
pub(super) struct PostUnlock {
    pub(super) events: Vec<Event>,
    pub(super) dropped_events: Vec<Event>,
    pub(super) reported: Reported,
    pub(super) cancelled: Vec<CancellationToken>,
    pub(super) runs: Vec<(Arc<dyn Entry>, Run)>,
    pub(super) retired: Vec<Arc<dyn Entry>>,
    pub(super) ended: Vec<Ended<Arc<dyn Entry>>>,
    pub(super) over: Vec<(StoreKey, Incarnation, End)>,
    pub(super) discarded: Vec<Discarded<Arc<dyn Entry>>>,
    /// Whether no job is left here.
    pub(super) left_none: bool,
    /// Whether the removal of a store has progressed.
    pub(super) leaving: bool,
    pub(super) wake_driver: bool,
}

impl PostUnlock {
    /// Calls user code. A panic in one part must not skip the others.
    pub(super) fn carry_out(self, shared: &Shared) {
        // Woken first, the driver starts while the rest continues.
        if self.wake_driver {
            shared.wake.notify_one();
        }
        for token in self.cancelled {
            shielded(|| token.cancel());
        }
        for entry in self.retired {
            shielded(|| entry.state().cancel_token());
        }
        for waker in self.reported.wakers {
            shielded(|| waker.wake());
        }
        for event in &self.events {
            shielded(|| trace(event));
        }
        for (entry, run) in &self.runs {
            shielded(|| entry.conclude(&run.outcome));
        }
        for Ended { payload, end, trigger, history } in self.ended {
            shielded(|| payload.drop_work());
            shielded(|| drop(trigger));
            if let Some(history) = history {
                payload.state().keep(history);
            }
            shielded(|| payload.state().end(end));
        }
        for (store, incarnation, end) in self.over {
            if let Some(durable) = shared.stores.get(store) {
                shielded(|| durable.end(incarnation, end));
            }
        }
        for run in self.runs {
            shielded(|| drop(run));
        }
        for discarded in self.discarded {
            shielded(|| drop(discarded));
        }
        // The user values of events and runs are the errors of the runs.
        let reported = self.reported.dropped;
        if !(self.events.is_empty() && self.dropped_events.is_empty() && reported.is_empty()) {
            shielded(|| drop((self.events, self.dropped_events, reported)));
        }
        if self.leaving {
            shielded(|| shared.leaving.notify_waiters());
        }
        if self.left_none {
            shielded(|| shared.emptied.notify_waiters());
        }
    }
}
