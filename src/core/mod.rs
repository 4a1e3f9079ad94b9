//! The decisions of the scheduler: what to do for each input, and at which instant.
//!
//! No tokio, no async, no clock, no randomness. The shell calls the verbs with the current instant;
//! the effects collect in the [`Outbox`], which the holder of the lock drains. `P` is the data that
//! the shell keeps with each job (its work and its handles); the core only hands it back.
//!
//! [`Core`] consists of parts, and the fields of a part are private to its module. The same holds
//! for the parts of a job: a [`Job`] belongs to the registry, its `timing` to the schedule, its
//! `runs` to the runs, and its store data to the claims. A flow through several parts is a method
//! of [`Core`], in the module of the part whose fields it changes; it reaches the other parts by
//! calls.
//!
//! | part | keeps | its flows |
//! |---|---|---|
//! | [`registry`] | jobs by slot and id, reservations, followers, ended jobs | `verbs`, `ending` |
//! | [`schedule`] | when each job is due | waking, corrections of the clock, `again` |
//! | [`runs`] | active runs, permits, queues, limits, histories, metrics | submitting, starting, skipping, retrying, ending |
//! | [`durable`] | for each store its node and its claims | the additions of a durable run |
//! | [`effects`] | what the shell must do | |
//!
//! A durable run takes the same path as a run in memory. The store is involved at four places: the
//! run's number and fence (`durable_run`, `row_of`), skipped fire times (`skip_durable`), ended
//! runs (`conclude_durable`), and jobs that are dropped (`drop_claims`).

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

/// The data that the shell keeps with a job.
pub(crate) trait Payload: Clone {
    /// Calls off all runs that have not started, or admits them again. A run reads this when it
    /// would start.
    fn set_standing(&self, standing: Option<SkipReason>);

    /// Whether the runs of the job are reported.
    fn wants_runs(&self) -> bool;

    /// Notes that the output of the work is needed, since another job follows.
    fn want_output(&self);

    /// Sets the arguments of the task, as of this version of the job's record.
    fn set_args(&self, version: u64, args: &str);

    /// Whether the job was cancelled by its token.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Whether a handle may query the job's history after the job is over.
    fn has_handle(&self) -> bool {
        false
    }

    /// Returns the payload of the same job with the work of `new`.
    fn rework(&self, new: Self) -> Self;

    /// Moves the waiters for runs of a job that was not added to this job.
    fn take_over(&self, new: &Self);

    /// Whether both are the same payload.
    fn is(&self, other: &Self) -> bool;
}

/// Where a job lives.
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

/// A job to be added; its trigger is anchored and has computed its first fire time.
pub(crate) struct NewJob<P> {
    pub(crate) id: Option<JobId>,
    pub(crate) on_conflict: OnConflict,
    pub(crate) trigger: Trigger,
    /// The declaration, if the job is kept or reconciled.
    pub(crate) declared: Option<Box<Declaration>>,
    /// `None` if the job follows another job, or has no fire time left.
    pub(crate) first: Option<DateTime<Utc>>,
    /// Whether its fire times are elapsed time, and so move with a step of the clock.
    pub(crate) elapsed: bool,
    /// Whether its work can run only once.
    pub(crate) once: bool,
    pub(crate) paused: bool,
    /// `None` for the scheduler's defaults.
    pub(crate) options: Option<Arc<JobOptions>>,
    pub(crate) labels: Option<Box<Labels>>,
    pub(crate) payload: P,
}

/// A job that exists now.
pub(crate) struct Added<P> {
    pub(crate) key: JobKey,
    pub(crate) id: JobId,
    pub(crate) payload: P,
}

/// The modifiable settings of a job, and the payload that must accept them.
pub(crate) struct Settings<P> {
    pub(crate) options: Arc<JobOptions>,
    pub(crate) labels: Labels,
    pub(crate) payload: P,
}

/// The filter of [`Core::list`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) name: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) paused: Option<bool>,
}

/// The coordinator of the parts.
///
/// Some seventy methods are the interface of the shell, and most of those call one part. The others
/// are flows through several parts, each in the folder of one part.
pub(crate) struct Core<P> {
    registry: Registry<P>,
    runs: Runs,
    durable: Durable,
    effects: Effects<P>,
    /// The clocks at the last input.
    reading: Reading,
    /// A longer step back is a correction.
    correction: TimeDelta,
    /// Jobs that came due, or whose backlog was interrupted, while the scheduler was paused.
    deferred_jobs: HashSet<u32>,
    paused: bool,
    closed: bool,
    /// Whether all jobs are being retired.
    retiring_all: bool,
}

impl<P: Payload> Core<P> {
    /// `scheduler` is a number that makes this scheduler's ids unique.
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

/// Shrinks a map after a burst, once three quarters of its capacity are free.
fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > 1024 && map.len() * 4 < map.capacity() {
        map.shrink_to(map.len() * 2);
    }
}
