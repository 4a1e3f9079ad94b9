//! The jobs: by slot and by id, their followers, and the jobs that ended last.

mod declaration;
mod ended;
mod followers;
pub(in crate::core) mod job;
mod listing;
mod reservations;
pub(in crate::core) mod table;

use std::{
    collections::HashMap,
    ops::{Index, IndexMut},
    sync::Arc,
};

pub(in crate::core) use self::followers::Batch;
pub(crate) use self::{declaration::Declaration, listing::PAGE};
use self::{ended::EndedJobs, followers::Followers, job::Job, reservations::Reservations};
use super::{JobKey, decide::Planner, registry::table::Table, shrink};
use crate::job::{JobId, JobOptions};

/// The jobs: only the registry adds and removes them, and keeps their ids.
///
/// It has more than forty methods: a job is found by its slot, its key, its id, its place in a
/// page, or the job that it follows.
pub(in crate::core) struct Registry<P> {
    jobs: Table<Job<P>>,
    /// The options of jobs without options of their own.
    defaults: Arc<JobOptions>,
    named: HashMap<JobId, u32>,
    reservations: Reservations,
    followers: Followers,
    ended: EndedJobs,
    /// Makes the ids made here unique among schedulers.
    scheduler: u32,
    /// The incarnation of the job that was added last.
    incarnations: u64,
}

/// The common data of all jobs of a scheduler.
#[derive(Clone, Copy)]
pub(in crate::core) struct Common<'a> {
    pub(in crate::core) defaults: &'a Arc<JobOptions>,
    pub(in crate::core) scheduler: u32,
}

impl<P> Registry<P> {
    pub(in crate::core) fn new(scheduler: u32, defaults: Arc<JobOptions>) -> Registry<P> {
        Registry {
            jobs: Table::new(),
            defaults,
            named: HashMap::new(),
            reservations: Reservations::default(),
            followers: Followers::default(),
            ended: EndedJobs::default(),
            scheduler,
            incarnations: 0,
        }
    }

    pub(in crate::core) fn common(&self) -> Common<'_> {
        Common { defaults: &self.defaults, scheduler: self.scheduler }
    }

    pub(in crate::core) fn defaults(&self) -> &Arc<JobOptions> {
        &self.defaults
    }

    // By slot.

    pub(in crate::core) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(in crate::core) fn get(&self, slot: u32) -> Option<&Job<P>> {
        self.jobs.get(slot)
    }

    pub(in crate::core) fn get_mut(&mut self, slot: u32) -> Option<&mut Job<P>> {
        self.jobs.get_mut(slot)
    }

    /// Returns the job in this slot, to be changed, and the common data.
    pub(in crate::core) fn with_common(&mut self, slot: u32) -> Option<(&mut Job<P>, Common<'_>)> {
        let common = Common { defaults: &self.defaults, scheduler: self.scheduler };
        Some((self.jobs.get_mut(slot)?, common))
    }

    /// Like [`with_common`](Self::with_common), for a slot that is occupied.
    pub(in crate::core) fn job_mut(&mut self, slot: u32) -> (&mut Job<P>, Common<'_>) {
        let common = Common { defaults: &self.defaults, scheduler: self.scheduler };
        (&mut self.jobs[slot], common)
    }

    /// Adds a job, made from its incarnation.
    pub(in crate::core) fn insert(&mut self, make: impl FnOnce(u64) -> Job<P>) -> JobKey {
        self.incarnations += 1;
        let incarnation = self.incarnations;
        JobKey { slot: self.jobs.insert_with(|_| make(incarnation)), incarnation }
    }

    pub(in crate::core) fn remove(&mut self, slot: u32) -> Option<Job<P>> {
        self.jobs.remove(slot)
    }

    /// Returns the slots of the jobs that are not retired.
    pub(in crate::core) fn live_slots(&self) -> Vec<u32> {
        let live = self.jobs.iter().filter(|(_, job)| !job.retired);
        live.map(|(slot, _)| slot).collect()
    }

    /// Returns the id of the job in this slot.
    pub(in crate::core) fn id(&self, slot: u32) -> JobId {
        self.jobs[slot].id(self.common(), slot)
    }

    /// Returns the options of the job in this slot.
    pub(in crate::core) fn options(&self, slot: u32) -> &Arc<JobOptions> {
        self.jobs[slot].options(self.common())
    }

    /// Returns the planner of the job in this slot.
    pub(in crate::core) fn planner(&self, slot: u32) -> Planner<'_> {
        Planner::of(&self.jobs[slot], slot, self.common())
    }

    // By id and by key.

    /// Returns the slot of the job that has this id now.
    pub(in crate::core) fn slot_of(&self, id: &JobId) -> Option<u32> {
        if let Some(&slot) = self.named.get(id) {
            return Some(slot);
        }
        let made = id.as_made().filter(|made| made.scheduler == self.scheduler)?;
        let job = self.jobs.get(made.slot)?;
        (!job.retired && job.id(self.common(), made.slot) == *id).then_some(made.slot)
    }

    /// Returns the job of this incarnation, unless it is over or retired.
    pub(in crate::core) fn live(&self, key: JobKey) -> Option<&Job<P>> {
        let job = self.jobs.get(key.slot);
        job.filter(|job| job.incarnation == key.incarnation && !job.retired)
    }

    /// Gives an id to the job in this slot.
    pub(in crate::core) fn name(&mut self, id: JobId, slot: u32) {
        self.named.insert(id, slot);
    }

    /// Frees the id of a job. The ids of durable jobs are in the store.
    pub(in crate::core) fn unname(&mut self, slot: u32) {
        if let Some(id) = self.jobs[slot].given_id()
            && self.named.get(id) == Some(&slot)
        {
            let id = id.clone();
            self.named.remove(&id);
            shrink(&mut self.named);
        }
    }

    /// Returns how many jobs have an id that the user gave.
    #[cfg(test)]
    pub(in crate::core) fn named_count(&self) -> usize {
        self.named.len()
    }

    #[cfg(test)]
    pub(in crate::core) fn iter(&self) -> impl Iterator<Item = (u32, &Job<P>)> {
        self.jobs.iter()
    }
}

impl<P> Index<u32> for Registry<P> {
    type Output = Job<P>;

    fn index(&self, slot: u32) -> &Job<P> {
        &self.jobs[slot]
    }
}

impl<P> IndexMut<u32> for Registry<P> {
    fn index_mut(&mut self, slot: u32) -> &mut Job<P> {
        &mut self.jobs[slot]
    }
}
