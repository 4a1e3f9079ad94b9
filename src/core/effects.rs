//! What must be done about what happened: the core says it, the shell does it.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    Declaration, NewJob, Preceding, RunKey, RunResult, StoreKey,
    node::{Lease, Life},
};
use crate::{
    event::{Event, EventKind, EventPayload, KindSet},
    job::{End, JobId, JobOptions, Outcome, Output, Run},
    ledger::Incarnation,
    trigger::Trigger,
};

/// What must be done about what happened, in order.
pub(crate) struct Outbox<P> {
    /// Jobs whose wake-up may have changed: [`Core::wake_at`] says what it is now.
    pub(crate) dirty: Vec<u32>,
    pub(crate) starts: Vec<Start<P>>,
    /// Whether the nodes may have something to ask.
    pub(crate) ask: bool,
    /// Whether a store that is being left was told more, or has fewer runs.
    pub(crate) leaves: bool,
    /// Runs that were asked to stop.
    pub(crate) cancels: Vec<RunKey>,
    pub(crate) events: Vec<Event>,
    pub(crate) reports: Vec<(P, Run)>,
    /// Jobs that were removed, cancelled or replaced, before their last run has ended.
    pub(crate) retired: Vec<P>,
    pub(crate) ended: Vec<Ended<P>>,
    /// Durable jobs that are over and that the node of their store does not hold.
    pub(crate) over: Vec<(StoreKey, Incarnation, End)>,
    /// What holds something of the user's, whose code dropping it may run: the lock must be free.
    pub(crate) discarded: Vec<Discarded<P>>,
}

/// Something that is done with.
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
    /// Tells which of two jobs was added first.
    pub(crate) incarnation: u64,
    /// The number that proves who took its row last; zero if its job is not durable.
    pub(crate) fence: u64,
    /// What its node goes by, if its job is durable.
    pub(crate) lease: Option<Arc<Lease>>,
    /// The life of the node in which it began.
    pub(crate) life: Life,
    /// None if they are the scheduler's defaults.
    pub(crate) options: Option<Arc<JobOptions>>,
    pub(crate) payload: P,
}

/// A job that is over, none of its runs going.
pub(crate) struct Ended<P> {
    pub(crate) payload: P,
    pub(crate) end: End,
    pub(crate) trigger: Trigger,
    /// Its last runs, if any were kept.
    pub(crate) history: Option<Arc<[Run]>>,
}

impl<P> Outbox<P> {
    pub(super) fn new() -> Outbox<P> {
        Outbox {
            dirty: Vec::new(),
            starts: Vec::new(),
            ask: false,
            leaves: false,
            cancels: Vec::new(),
            events: Vec::new(),
            reports: Vec::new(),
            retired: Vec::new(),
            ended: Vec::new(),
            over: Vec::new(),
            discarded: Vec::new(),
        }
    }

    pub(super) fn discard(&mut self, finish: RunResult) {
        self.discard_outcome(finish.outcome);
        self.discarded.extend(finish.output.map(Discarded::Output));
    }

    pub(super) fn discard_options(&mut self, options: Arc<JobOptions>) {
        if options.hold_code() {
            self.discarded.push(Discarded::Options(options));
        }
    }

    pub(super) fn discard_outcome(&mut self, outcome: Outcome) {
        if let Outcome::Failed(_) = outcome {
            self.discarded.push(Discarded::Outcome(outcome));
        }
    }
}

/// The events' sequence, and which kinds anybody wants to see.
pub(super) struct Log {
    pub(super) sequence: u64,
    pub(super) observed: KindSet,
}

impl Log {
    pub(super) fn wants(&self, kind: EventKind) -> bool {
        self.observed.contains(kind)
    }

    /// Counts an event that nobody wants.
    pub(super) fn skip(&mut self) {
        self.sequence += 1;
    }

    pub(super) fn emit<P>(
        &mut self,
        out: &mut Outbox<P>,
        at: DateTime<Utc>,
        kind: EventKind,
        payload: impl FnOnce() -> EventPayload,
    ) {
        self.emit_in(out, at, kind, || None, payload);
    }

    /// The same of a job, whose store `store` names.
    pub(super) fn emit_in<P>(
        &mut self,
        out: &mut Outbox<P>,
        at: DateTime<Utc>,
        kind: EventKind,
        store: impl FnOnce() -> Option<Arc<str>>,
        payload: impl FnOnce() -> EventPayload,
    ) {
        self.sequence += 1;
        if self.observed.contains(kind) {
            let (sequence, store) = (self.sequence, store());
            out.events.push(Event { sequence, at, store, payload: payload() });
        }
    }
}
