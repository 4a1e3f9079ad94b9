//! The agenda: all future events, in order of time.

use std::{collections::BTreeMap, fmt};

use super::{chance::Chance, clocks::Micros, log::Log, scenario::Scenario, verbs::VerbAnswer};
use crate::{
    core::{Reply, Request},
    job::JobId,
    ledger::{StoreChange, StoreError},
};

/// One node, in one of its incarnations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life {
    pub(super) host: usize,
    pub(super) life: u32,
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}.{}", self.host, self.life)
    }
}

pub(super) enum Event {
    /// A request takes effect in the store.
    Effect(u64),
    Boot(usize),
    /// A fault; on this host, if the host has one already.
    Fault(Option<usize>),
    /// A user calls a verb; for this job, if it follows another verb.
    Wish(Option<JobId>),
    /// The store's clock steps by this much.
    StoreSteps(Micros),
    /// The clock of this host steps, if the store has none.
    HostSteps(usize, Micros),
    /// Adds unreadable records and a deadly job.
    Poison,
    /// Faults end.
    Heal,
    /// All jobs are removed.
    Sweep,
    /// Checks whether everything has ended, until this time.
    CheckRest(Micros),
    /// The rows of this dead node must have been reclaimed by now.
    Inherited(Life, Vec<Life>),
    Of(Life, Happening),
}

/// An event of a node.
pub(super) enum Happening {
    /// The loop takes a turn.
    Turn,
    Timers,
    /// The clock is read.
    Watch,
    Begin(u64),
    /// The work of a run returns.
    Return(u64),
    /// The work of a run is dropped, if it is still active.
    Drop(u64),
    Answered(u64, Result<Reply, StoreError>),
    /// The next commit of an operation is done.
    Step(u64),
    /// The timeout of a reply.
    GiveUp(u64),
    /// The store notifies of changes.
    Notified(Vec<StoreChange>),
    VerbAnswered(u64, u64, Result<VerbAnswer, StoreError>),

    VerbAgain(u64),
    /// The scheduler is resumed.
    ResumeAll,
    /// The process dies.
    Die,
}

#[derive(Default)]
pub(super) struct Agenda {
    pub(super) now: Micros,
    events: BTreeMap<(Micros, u64), Event>,
    count: u64,
}

impl Agenda {
    pub(super) fn at(&mut self, time: Micros, event: Event) {
        self.count += 1;
        self.events.insert((time.max(self.now), self.count), event);
    }

    pub(super) fn after(&mut self, wait: Micros, event: Event) {
        self.at(self.now.saturating_add(wait), event);
    }

    /// Returns the next event, and advances time to it.
    pub(super) fn next(&mut self) -> Option<(u64, Event)> {
        let ((time, number), event) = self.events.pop_first()?;
        self.now = time;
        Some((number, event))
    }

    /// Postpones an event, which keeps its place before later ones.
    pub(super) fn put_off(&mut self, until: Micros, number: u64, event: Event) {
        self.events.insert((until, number), event);
    }
}

/// The world, as a node accesses it.
pub(super) struct Outside<'a> {
    pub(super) life: Life,
    pub(super) agenda: &'a mut Agenda,
    pub(super) chance: &'a mut Chance,
    pub(super) log: &'a mut Log,
    pub(super) scenario: &'a Scenario,
    /// The requests of the node to its store.
    pub(super) requests: Vec<Request>,
}

impl Outside<'_> {
    pub(super) fn now(&self) -> Micros {
        self.agenda.now
    }

    pub(super) fn after(&mut self, wait: Micros, what: Happening) {
        self.agenda.after(wait, Event::Of(self.life, what));
    }

    pub(super) fn at(&mut self, time: Micros, what: Happening) {
        self.agenda.at(time, Event::Of(self.life, what));
    }
}
