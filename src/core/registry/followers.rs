//! Jobs that follow the runs of other jobs.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::Registry;
use crate::{
    core::{Discarded, NewJob, Payload, Preceding, effects::Effects, shrink},
    error::Error,
    job::JobId,
    trigger::{Follow, Trigger},
};

/// The jobs that follow other jobs.
#[derive(Default)]
pub(super) struct Followers {
    /// By the id of the followed job, in order of adding.
    by_job: HashMap<JobId, BTreeMap<u64, u32>>,
    /// For followers of several jobs, by slot: the latest success of each followed job since the
    /// follower's last run.
    gathered: HashMap<u32, Vec<Arc<Preceding>>>,
}

impl Followers {
    /// Whether the job with this id has followers.
    fn has(&self, id: &JobId) -> bool {
        self.by_job.contains_key(id)
    }

    fn of(&self, id: &JobId) -> Vec<u32> {
        self.by_job
            .get(id)
            .map(|followers| followers.values().copied().collect())
            .unwrap_or_default()
    }

    fn insert(&mut self, id: JobId, incarnation: u64, slot: u32) {
        self.by_job.entry(id).or_default().insert(incarnation, slot);
    }

    fn remove(&mut self, id: &JobId, incarnation: u64) {
        if let Some(followers) = self.by_job.get_mut(id) {
            followers.remove(&incarnation);
            if followers.is_empty() {
                self.by_job.remove(id);
                shrink(&mut self.by_job);
            }
        }
    }

    /// Removes all followers of the job with this id, and returns them.
    fn remove_all(&mut self, id: &JobId) -> Vec<u32> {
        let followers = self.by_job.remove(id);
        shrink(&mut self.by_job);
        followers.map(|followers| followers.into_values().collect()).unwrap_or_default()
    }

    /// Whether this job follows the job with this id.
    fn follows(&self, incarnation: u64, id: &JobId) -> bool {
        self.by_job.get(id).is_some_and(|followers| followers.contains_key(&incarnation))
    }

    /// Whether the job in this slot has a success of the job with this id since its last run.
    fn has_gathered(&self, slot: u32, id: &JobId) -> bool {
        self.gathered.get(&slot).is_some_and(|gathered| gathered.iter().any(|it| it.run.job == *id))
    }
}

/// Jobs that are checked together, as far as they have been checked.
pub(in crate::core) struct Batch<'a> {
    triggers: HashMap<&'a JobId, &'a Trigger>,
    followed: HashSet<&'a JobId>,
}

impl<'a> Batch<'a> {
    pub(in crate::core) fn new() -> Batch<'a> {
        Batch { triggers: HashMap::new(), followed: HashSet::new() }
    }

    pub(in crate::core) fn add<P>(&mut self, job: &'a NewJob<P>) {
        if let Some(id) = &job.id {
            self.triggers.insert(id, &job.trigger);
        }
        self.followed.extend(job.trigger.follow().into_iter().flat_map(Follow::jobs));
    }
}

impl<P: Payload> Registry<P> {
    /// Whether any job follows another.
    pub(in crate::core) fn has_followers(&self) -> bool {
        !self.followers.by_job.is_empty()
    }

    /// Whether any job follows the job with this id.
    pub(in crate::core) fn is_followed(&self, id: &JobId) -> bool {
        self.has_followers() && self.followers.has(id)
    }

    /// Returns the followers of the job with this id, in order of adding.
    pub(in crate::core) fn followers_of(&self, id: &JobId) -> Vec<u32> {
        self.followers.of(id)
    }

    /// Checks that a job with this id may follow other jobs: they must exist, and must not follow
    /// it.
    pub(in crate::core) fn check_follow(
        &self,
        id: Option<&JobId>,
        follow: &Follow,
        batch: &Batch<'_>,
    ) -> Result<(), Error> {
        let trigger = |id: &JobId| {
            let new = batch.triggers.get(id).copied();
            new.or_else(|| Some(&self[self.slot_of(id)?].trigger))
        };
        if let Some(unknown) = follow.jobs().iter().find(|id| trigger(id).is_none()) {
            return Err(Error::unknown_job(format!(
                "there is no job `{unknown}` to follow: add it first"
            )));
        }
        // A job without followers closes no cycle.
        let Some(id) = id.filter(|id| {
            follow.jobs().contains(id) || self.followers.has(id) || batch.followed.contains(id)
        }) else {
            return Ok(());
        };
        let mut seen = HashSet::new();
        for followed in follow.jobs() {
            let mut ahead = vec![followed];
            while let Some(there) = ahead.pop() {
                if there == id {
                    return Err(Error::invalid_trigger(format!(
                        "job `{id}` would follow itself, by way of `{followed}`: let one of them have a trigger of its own"
                    )));
                }
                if seen.insert(there) {
                    let further = trigger(there).and_then(Trigger::follow);
                    ahead.extend(further.into_iter().flat_map(Follow::jobs));
                }
            }
        }
        Ok(())
    }

    /// Makes a job follow the runs of other jobs.
    pub(in crate::core) fn follow(&mut self, slot: u32, follow: &Follow) {
        let job = &mut self[slot];
        job.follows = true;
        let incarnation = job.incarnation;
        for followed in follow.jobs() {
            if let Some(followed) = self.slot_of(followed) {
                self[followed].payload.want_output();
            }
            self.followers.insert(followed.clone(), incarnation, slot);
        }
    }

    /// Undoes [`follow`](Self::follow).
    pub(in crate::core) fn unfollow(&mut self, slot: u32, effects: &mut Effects<P>) {
        let job = &mut self.jobs[slot];
        if !std::mem::take(&mut job.follows) {
            return;
        }
        for followed in job.trigger.follow().into_iter().flat_map(Follow::jobs) {
            self.followers.remove(followed, job.incarnation);
        }
        if let Some(gathered) = self.followers.gathered.remove(&slot) {
            effects.discard_all(gathered.into_iter().map(Discarded::Preceding));
            shrink(&mut self.followers.gathered);
        }
    }

    /// Keeps a success for a follower of `wanted` jobs, until there is one of each job. Then
    /// returns the preceding runs of its run.
    pub(in crate::core) fn gather(
        &mut self,
        slot: u32,
        wanted: usize,
        preceding: &Arc<Preceding>,
        effects: &mut Effects<P>,
    ) -> Option<Arc<Preceding>> {
        let gathered = self.followers.gathered.entry(slot).or_default();
        let earlier = gathered.iter().position(|it| it.run.job == preceding.run.job);
        if let Some(earlier) = earlier {
            // The latest counts.
            effects.discard(Discarded::Preceding(gathered.remove(earlier)));
        }
        if gathered.len() + 1 < wanted {
            gathered.push(preceding.clone());
            return None;
        }
        let others = self.followers.gathered.remove(&slot).unwrap_or_default();
        shrink(&mut self.followers.gathered);
        let job = &self[slot];
        let follow = job.trigger.follow()?;
        if !follow.jobs().iter().all(|id| self.followers.follows(job.incarnation, id)) {
            // One of the followed jobs has ended, so there will never be a success of each again.
            self.unfollow(slot, effects);
        }
        Some(Arc::new(Preceding { run: preceding.run.clone(), others }))
    }

    /// Returns the followers of a job that is gone, and ends their following.
    pub(in crate::core) fn orphans(&mut self, id: &JobId, effects: &mut Effects<P>) -> Vec<u32> {
        if !self.has_followers() || self.slot_of(id).is_some() {
            return Vec::new();
        }
        let mut orphans = self.followers.remove_all(id);
        // A gathered success of that job may still complete the set.
        orphans.retain(|&orphan| !self.followers.has_gathered(orphan, id));
        for &orphan in &orphans {
            if self.get(orphan).is_some() {
                self.unfollow(orphan, effects);
            }
        }
        orphans
    }
}
