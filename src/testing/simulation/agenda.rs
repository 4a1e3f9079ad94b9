//! What happens next: everything that is to happen, in order of its time.

use std::{collections::BTreeMap, fmt};

use super::{chance::Chance, clocks::Micros, log::Log, scenario::Scenario, verbs::VerbAnswer};
use crate::{
    core::{Reply, Request},
    job::JobId,
    ledger::{StoreChange, StoreError},
};

/// One node, in one of its lives.
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
    /// Something goes wrong; on this host, if it is one that has trouble already.
    Fault(Option<usize>),
    /// A user asks for something; about this job, if it is what comes after another wish.
    Wish(Option<JobId>),
    /// The store's clock steps by so much.
    StoreSteps(Micros),
    /// The clock of this host does, where the store has none.
    HostSteps(usize, Micros),
    /// Somebody adds what is poison.
    Poison,
    /// Faults end.
    Heal,
    /// All jobs are to go.
    Sweep,
    /// Whether all has come to an end is looked at, until then.
    Look(Micros),
    /// What this node had taken must be others' by now.
    Inherited(Life, Vec<Life>),
    Of(Life, Happening),
}

/// What happens to a node.
pub(super) enum Happening {
    /// The driver has a turn.
    Turn,
    Timers,
    /// The clock is looked at.
    Watch,
    Begin(u64),
    /// The work of a run returns.
    Return(u64),
    /// The work of a run is dropped, if it still goes on.
    Drop(u64),
    Answered(u64, Result<Reply, StoreError>),
    /// The next commit of an operation is done.
    Step(u64),
    /// No answer is waited for any more.
    GiveUp(u64),
    /// The store notifies of changes.
    Told(Vec<StoreChange>),
    VerbAnswered(u64, u64, Result<VerbAnswer, StoreError>),

    VerbAgain(u64),
    /// Its scheduler is no longer paused.
    ResumeAll,
    /// Its process dies.
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

    /// The next event; time passes until then.
    pub(super) fn next(&mut self) -> Option<(u64, Event)> {
        let ((time, number), event) = self.events.pop_first()?;
        self.now = time;
        Some((number, event))
    }

    /// Puts an event off, that keeps its place before later ones.
    pub(super) fn put_off(&mut self, until: Micros, number: u64, event: Event) {
        self.events.insert((until, number), event);
    }
}

/// What a node has to do with the rest of the world.
pub(super) struct Outside<'a> {
    pub(super) life: Life,
    pub(super) agenda: &'a mut Agenda,
    pub(super) chance: &'a mut Chance,
    pub(super) log: &'a mut Log,
    pub(super) scenario: &'a Scenario,
    /// What the node asks its store.
    pub(super) asked: Vec<Request>,
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
