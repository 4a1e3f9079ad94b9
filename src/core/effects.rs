//! The effects that the shell must carry out: starts, cancellations, events, reports, and values to
//! drop.

use std::{cmp::Reverse, sync::Arc};

use chrono::{DateTime, Utc};

use super::{
    Declaration, NewJob, Preceding, RunKey, RunResult, StoreKey,
    durable::node::{Lease, LeaseEpoch},
};
use crate::{
    event::{Event, EventKind, EventPayload, KindSet},
    job::{End, JobId, JobOptions, Outcome, Output, Run},
    ledger::Incarnation,
    trigger::Trigger,
};

/// The effects that the shell must carry out, each kind in order.
pub(crate) struct Outbox<P> {
    /// Jobs whose wake-up may have changed: [`Core::wake_at`](super::Core::wake_at) returns the new
    /// one.
    pub(crate) dirty: Vec<u32>,
    pub(crate) starts: Vec<Start<P>>,
    /// Whether the nodes may have requests for their stores.
    pub(crate) has_requests: bool,
    /// Whether a store that is being removed has acknowledged more outcomes, or has fewer runs.
    pub(crate) wake_removals: bool,
    /// Runs that are over, including all their attempts.
    pub(crate) concluded: Vec<RunKey>,
    /// Runs that were cancelled.
    pub(crate) cancels: Vec<RunKey>,
    pub(crate) events: Vec<Event>,
    pub(crate) reports: Vec<(P, Run)>,
    /// Jobs that were removed, cancelled or replaced before their last run has ended.
    pub(crate) retired: Vec<P>,
    pub(crate) ended: Vec<Ended<P>>,
    /// Durable jobs that are over and that the node of their store has not claimed.
    pub(crate) over: Vec<(StoreKey, Incarnation, End)>,
    /// Values of the user, whose code may run when they are dropped: the lock must be free.
    pub(crate) discarded: Vec<Discarded<P>>,
}

/// A value that is no longer needed.
pub(crate) enum Discarded<P> {
    Trigger(#[expect(dead_code, reason = "it is only dropped")] Trigger),
    Job(#[expect(dead_code, reason = "it is only dropped")] Box<NewJob<P>>),
    Declaration(#[expect(dead_code, reason = "it is only dropped")] Box<Declaration>),
    Options(#[expect(dead_code, reason = "it is only dropped")] Arc<JobOptions>),
    Outcome(#[expect(dead_code, reason = "it is only dropped")] Outcome),
    Output(#[expect(dead_code, reason = "it is only dropped")] Output),
    Preceding(#[expect(dead_code, reason = "it is only dropped")] Arc<Preceding>),
    Payload(P),
}

/// A run to be started.
pub(crate) struct Start<P> {
    pub(crate) run: RunKey,
    pub(crate) job: JobId,
    pub(crate) fire_time: DateTime<Utc>,
    pub(crate) due: DateTime<Utc>,
    pub(crate) coalesced: u64,
    pub(crate) on_request: bool,
    pub(crate) attempt: u32,
    pub(crate) preceding: Option<Arc<Preceding>>,
    /// Orders jobs by when they were added.
    pub(crate) incarnation: u64,
    /// The fence of the row; zero if the job is not durable.
    pub(crate) fence: u64,
    /// The lease of the node, if the job is durable.
    pub(crate) lease: Option<Arc<Lease>>,
    /// The epoch of the lease in which the run began.
    pub(crate) epoch: LeaseEpoch,
    /// `None` for the scheduler's defaults.
    pub(crate) options: Option<Arc<JobOptions>>,
    pub(crate) payload: P,
}

/// A job that is over and has no active runs.
pub(crate) struct Ended<P> {
    pub(crate) payload: P,
    pub(crate) end: End,
    pub(crate) trigger: Trigger,
    /// The last runs, if any were kept.
    pub(crate) history: Option<Arc<[Run]>>,
}

impl<P> Outbox<P> {
    fn new() -> Outbox<P> {
        Outbox {
            dirty: Vec::new(),
            starts: Vec::new(),
            has_requests: false,
            wake_removals: false,
            concluded: Vec::new(),
            cancels: Vec::new(),
            events: Vec::new(),
            reports: Vec::new(),
            retired: Vec::new(),
            ended: Vec::new(),
            over: Vec::new(),
            discarded: Vec::new(),
        }
    }
}

/// The outbox, and the numbering of events.
pub(super) struct Effects<P> {
    out: Outbox<P>,
    /// The number of the last event.
    sequence: u64,
    /// The kinds of events that are emitted; others are only counted.
    observed: KindSet,
}

impl<P> Effects<P> {
    pub(super) fn new() -> Effects<P> {
        Effects { out: Outbox::new(), sequence: 0, observed: KindSet::NONE }
    }

    pub(super) fn outbox(&mut self) -> &mut Outbox<P> {
        &mut self.out
    }

    pub(super) fn pending(&self) -> &Outbox<P> {
        &self.out
    }

    // Events.

    pub(super) fn observe(&mut self, kinds: KindSet) {
        self.observed = kinds;
    }

    pub(super) fn wants(&self, kind: EventKind) -> bool {
        self.observed.contains(kind)
    }

    /// Counts an event that has no listener.
    pub(super) fn skip_event(&mut self) {
        self.sequence += 1;
    }

    /// Counts an event, and emits it if its kind is observed.
    pub(super) fn emit(
        &mut self,
        at: DateTime<Utc>,
        kind: EventKind,
        payload: impl FnOnce() -> EventPayload,
    ) {
        self.emit_in(at, kind, || None, payload);
    }

    /// Like [`emit`](Self::emit), for a job whose store is named by `store`.
    pub(super) fn emit_in(
        &mut self,
        at: DateTime<Utc>,
        kind: EventKind,
        store: impl FnOnce() -> Option<Arc<str>>,
        payload: impl FnOnce() -> EventPayload,
    ) {
        self.sequence += 1;
        if self.observed.contains(kind) {
            let (sequence, store) = (self.sequence, store());
            self.out.events.push(Event { sequence, at, store, payload: payload() });
        }
    }

    // Runs.

    pub(super) fn start(&mut self, start: Start<P>) {
        self.out.starts.push(start);
    }

    pub(super) fn start_count(&self) -> usize {
        self.out.starts.len()
    }

    /// Sorts the starts from index `first` on: by fire time, then priority, then the order of
    /// adding.
    ///
    /// They are in the order in which their jobs were woken, which may differ.
    pub(super) fn sort_starts(&mut self, first: usize, defaults: &Arc<JobOptions>) {
        self.out.starts[first..].sort_by_key(|start| {
            let options = start.options.as_ref().unwrap_or(defaults);
            (start.fire_time, Reverse(options.priority), start.incarnation)
        });
    }

    /// Notes that a run is over.
    pub(super) fn conclude(&mut self, run: RunKey) {
        self.out.concluded.push(run);
    }

    /// Cancels a run.
    pub(super) fn cancel(&mut self, run: RunKey) {
        self.out.cancels.push(run);
    }

    /// Reports a run that has ended to the handles of its job.
    pub(super) fn report(&mut self, payload: P, run: Run) {
        self.out.reports.push((payload, run));
    }

    // Jobs and stores.

    /// Has the driver look up when the job in this slot wakes.
    pub(super) fn rearm(&mut self, slot: u32) {
        self.out.dirty.push(slot);
    }

    /// Reports that a job was removed, cancelled or replaced; some of its runs may be active.
    pub(super) fn retire(&mut self, payload: P) {
        self.out.retired.push(payload);
    }

    /// Reports that a job is over and has no active runs.
    pub(super) fn end(&mut self, ended: Ended<P>) {
        self.out.ended.push(ended);
    }

    /// Reports the end of a durable job of which this node has no rows.
    pub(super) fn job_over(&mut self, store: StoreKey, incarnation: Incarnation, end: End) {
        self.out.over.push((store, incarnation, end));
    }

    /// Has the shell poll the nodes for requests to their stores.
    pub(super) fn poll_stores(&mut self) {
        self.out.has_requests = true;
    }

    /// Wakes the callers that wait for the removal of a store.
    pub(super) fn wake_store_removal(&mut self) {
        self.out.wake_removals = true;
    }

    // Values that are dropped once the lock is free.

    pub(super) fn discard(&mut self, discarded: Discarded<P>) {
        self.out.discarded.push(discarded);
    }

    pub(super) fn discard_all(&mut self, discarded: impl IntoIterator<Item = Discarded<P>>) {
        self.out.discarded.extend(discarded);
    }

    pub(super) fn discard_result(&mut self, result: RunResult) {
        if let Outcome::Failed(_) = result.outcome {
            self.out.discarded.push(Discarded::Outcome(result.outcome));
        }
        self.out.discarded.extend(result.output.map(Discarded::Output));
    }

    pub(super) fn discard_options(&mut self, options: Arc<JobOptions>) {
        if options.hold_code() {
            self.out.discarded.push(Discarded::Options(options));
        }
    }
}
