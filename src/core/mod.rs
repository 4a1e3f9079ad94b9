//! The decisions: what to do when something happens, and when it happened.
//!
//! No tokio, no async, no clock, no randomness. The shell calls the verbs with the current instant; what
//! it must do about them collects in the [`Outbox`], which whoever holds the lock drains. `P` is what the
//! shell keeps with each job (its work and its handles); the core only hands it back.
//!
//! [`Core`] has rooms, and a room's fields are private to its module. So are its parts of a job: a
//! [`Job`] is the registry's, its `timing` the schedule's, its `runs` the runs', and what it has of a store
//! the claims'. A flow through several rooms is a method of [`Core`], in the module of the room whose fields
//! it changes; what it needs of another room it gets by a call.
//!
//! | room | has | its flows |
//! |---|---|---|
//! | [`registry`] | jobs by slot and id, reservations, followers, jobs that have ended | `verbs`, `ending` |
//! | [`schedule`] | when each job is due | waking, corrections of the clock, `again` |
//! | [`runs`] | active runs, permits, lines, limits, histories, metrics | submitting, starting, skipping, retrying, ending |
//! | [`durable`] | for each store its node and its claims | what a durable run has beyond one in memory |
//! | [`effects`] | what the shell must do | |
//!
//! A durable run and one in memory go one way. What a store adds hooks in at four places: the run's number
//! and fence (`durable_run`, `row_of`), what is skipped (`skip_durable`), what has ended
//! (`conclude_durable`), and what is dropped with the job (`drop_claims`).

pub(crate) mod change;
mod durable;
mod effects;
mod ending;
mod machine;
mod registry;
mod runs;
mod schedule;
#[cfg(test)]
mod tests;
mod verbs;

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};

pub use self::machine::ShutdownReport;
pub(crate) use self::{
    change::{Author, Change},
    durable::StoreKey,
    durable::node::{
        CanRun, Lease, NodeOptions, Reply, Request, claimer, closer, membership, pruner,
    },
    effects::{Discarded, Ended, Outbox, Start},
    machine::{
        ACKNOWLEDGE_TIMEOUT, Addition, Attempt, Course, Ending, FIRST_RETRY, FOREVER, Handles,
        Inbox, KEPT, Known, LAST_WAIT, LONGEST_RETRY, Machine, RETRIES, Step, Timer, Turn, Update,
        Updated, Urgency, modified, next_fire_of,
    },
    registry::{Declaration, PAGE},
    runs::{Preceding, RunKey, RunResult},
    schedule::{Candidate, Definition, Own, Verdict, mix, run_id},
};
use self::{
    durable::Durable,
    effects::Effects,
    registry::{
        Registry,
        job::{Extras, Job},
    },
    runs::{Runs, Submission},
    schedule::{ahead, correct, decide},
};
use crate::{
    clock::Reading,
    error::Error,
    job::{JobId, JobOptions, Labels, OnConflict, SkipReason},
    trigger::Trigger,
};

/// What the shell keeps with a job.
pub(crate) trait Payload: Clone {
    /// Calls off all runs that have not started, or admits them again. A run looks at this when it
    /// would start.
    fn set_standing(&self, standing: Option<SkipReason>);

    /// Whether the job's runs are to be reported.
    fn wants_runs(&self) -> bool;

    /// What its work returns is wanted, since another job follows.
    fn want_output(&self);

    /// The task that its work is has other arguments, by this version of the job's record.
    fn set_args(&self, version: u64, args: &str);

    /// Whether the job was cancelled by its token.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Whether a handle may ask for the job's history when the job is over.
    fn has_handle(&self) -> bool {
        false
    }

    /// That of the same job with the work of another.
    fn rework(&self, new: Self) -> Self;

    /// Has those who wait for runs of a job that was not added wait for those of this one.
    fn take_over(&self, new: &Self);

    /// Whether both are the very same.
    fn is(&self, other: &Self) -> bool;
}

/// Where a job is to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    Store(StoreKey),
}

/// One incarnation of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct JobKey {
    slot: u32,
    incarnation: u64,
}

/// A job to be added; its trigger is anchored and has said its first fire time.
pub(crate) struct NewJob<P> {
    pub(crate) id: Option<JobId>,
    pub(crate) on_conflict: OnConflict,
    pub(crate) trigger: Trigger,
    /// What it is declared as, if it is to be kept or reconciled.
    pub(crate) declared: Option<Box<Declaration>>,
    /// None if it follows another job, or has no fire time left.
    pub(crate) first: Option<DateTime<Utc>>,
    /// Whether its fire times are elapsed time, and so move with a step of the clock.
    pub(crate) elapsed: bool,
    /// Whether its work can run only once.
    pub(crate) once: bool,
    pub(crate) paused: bool,
    /// None if they are the scheduler's defaults.
    pub(crate) options: Option<Arc<JobOptions>>,
    pub(crate) labels: Option<Box<Labels>>,
    pub(crate) payload: P,
}

/// A job that is there now.
pub(crate) struct Added<P> {
    pub(crate) key: JobKey,
    pub(crate) id: JobId,
    pub(crate) payload: P,
}

/// What of a job can be modified, and what must agree to it.
pub(crate) struct Settings<P> {
    pub(crate) options: Arc<JobOptions>,
    pub(crate) labels: Labels,
    pub(crate) payload: P,
}

/// What [`Core::list`] looks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) name: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) paused: Option<bool>,
}

/// The coordinator of the rooms.
///
/// It has more than forty methods, since it is also what the shell sees: some seventy of them are that, and
/// most of those ask one room. The others are flows through several rooms, each in the folder of its own.
pub(crate) struct Core<P> {
    registry: Registry<P>,
    runs: Runs,
    durable: Durable,
    effects: Effects<P>,
    /// What the clocks said at the last input.
    reading: Reading,
    /// A step back by more is a correction.
    correction: TimeDelta,
    /// Jobs that came due, or whose backlog was interrupted, while the scheduler was paused.
    deferred_jobs: HashSet<u32>,
    paused: bool,
    closed: bool,
    /// Whether all jobs are about to go.
    retiring_all: bool,
}

impl<P: Payload> Core<P> {
    /// `scheduler` is a number that tells this one's ids from those of others.
    pub(crate) fn new(
        scheduler: u32,
        defaults: Arc<JobOptions>,
        paused: bool,
        reading: Reading,
    ) -> Core<P> {
        Core {
            registry: Registry::new(scheduler, defaults),
            runs: Runs::new(),
            durable: Durable::default(),
            effects: Effects::new(),
            reading,
            correction: TimeDelta::MAX,
            deferred_jobs: HashSet::new(),
            paused,
            closed: false,
            retiring_all: false,
        }
    }
}

fn shut_down() -> Error {
    Error::shut_down("the scheduler has shut down: make a new one")
}

/// Gives back what a burst has left, once three quarters of it are free.
fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > 1024 && map.len() * 4 < map.capacity() {
        map.shrink_to(map.len() * 2);
    }
}
