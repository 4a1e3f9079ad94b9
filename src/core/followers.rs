//! Jobs that run after the runs of others: who follows whom, and what becomes of them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::{
    Core, Discarded, NewJob, Payload, Preceding, decide::Due, fates::shrink, runs::Submission,
};
use crate::{
    error::Error,
    job::{JobId, SkipReason},
    trigger::Trigger,
};

/// The jobs that follow others, by the ids of those, in order of adding.
#[derive(Default)]
pub(super) struct Followers(HashMap<JobId, BTreeMap<u64, u32>>);

impl Followers {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether anybody follows the job of this id.
    pub(super) fn has(&self, id: &JobId) -> bool {
        self.0.contains_key(id)
    }

    fn of(&self, id: &JobId) -> Vec<u32> {
        self.0.get(id).map(|followers| followers.values().copied().collect()).unwrap_or_default()
    }

    fn insert(&mut self, id: JobId, incarnation: u64, slot: u32) {
        self.0.entry(id).or_default().insert(incarnation, slot);
    }

    fn remove(&mut self, id: &JobId, incarnation: u64) {
        if let Some(followers) = self.0.get_mut(id) {
            followers.remove(&incarnation);
            if followers.is_empty() {
                self.0.remove(id);
                shrink(&mut self.0);
            }
        }
    }

    /// All that follow the job of this id, no longer.
    fn remove_all(&mut self, id: &JobId) -> Vec<u32> {
        let followers = self.0.remove(id);
        shrink(&mut self.0);
        followers.map(|followers| followers.into_values().collect()).unwrap_or_default()
    }
}

/// Jobs that are checked together, as far as they have been.
pub(super) struct Batch<'a> {
    triggers: HashMap<&'a JobId, &'a Trigger>,
    followed: HashSet<&'a JobId>,
}

impl<'a> Batch<'a> {
    pub(super) fn new() -> Batch<'a> {
        Batch { triggers: HashMap::new(), followed: HashSet::new() }
    }

    pub(super) fn add<P>(&mut self, job: &'a NewJob<P>) {
        if let Some(id) = &job.id {
            self.triggers.insert(id, &job.trigger);
        }
        self.followed.extend(job.trigger.follow().map(|follow| follow.job()));
    }
}

impl<P: Payload> Core<P> {
    /// Whether a job of this id may follow another: there must be one, and no circle.
    pub(super) fn check_follow(
        &self,
        id: Option<&JobId>,
        followed: &JobId,
        batch: &Batch<'_>,
    ) -> Result<(), Error> {
        let trigger = |id: &JobId| {
            let new = batch.triggers.get(id).copied();
            new.or_else(|| Some(&self.jobs[self.slot_of(id)?].trigger))
        };
        if trigger(followed).is_none() {
            return Err(Error::unknown_job(format!(
                "there is no job `{followed}` to follow: add it first"
            )));
        }
        // Whom nobody follows closes no circle.
        let Some(id) = id
            .filter(|&id| id == followed || self.followers.has(id) || batch.followed.contains(id))
        else {
            return Ok(());
        };
        let mut at = Some(followed);
        // A job follows one other at most: it is a chain, no longer than there are jobs.
        for _ in 0..=self.jobs.len() + batch.triggers.len() {
            let Some(there) = at else { break };
            if there == id {
                return Err(Error::invalid_trigger(format!(
                    "job `{id}` would follow itself, by way of `{followed}`: let one of them have a trigger of its own"
                )));
            }
            at = trigger(there).and_then(Trigger::follow).map(|follow| follow.job());
        }
        Ok(())
    }

    /// Has a job run after the runs of another.
    pub(super) fn follow(&mut self, slot: u32, followed: JobId) {
        if let Some(followed) = self.slot_of(&followed) {
            self.jobs[followed].payload.want_output();
        }
        let job = &mut self.jobs[slot];
        job.follows = true;
        self.followers.insert(followed, job.incarnation, slot);
    }

    /// Has it do so no longer.
    pub(super) fn unfollow(&mut self, slot: u32) {
        let job = &mut self.jobs[slot];
        if std::mem::take(&mut job.follows)
            && let Some(follow) = job.trigger.follow()
        {
            self.followers.remove(follow.job(), job.incarnation);
        }
    }

    /// Has the jobs that follow a run's job run after it.
    pub(super) fn submit_followers(&mut self, preceding: Preceding, now: DateTime<Utc>) {
        let preceding = Arc::new(preceding);
        let run = &preceding.run;
        for slot in self.followers.of(&run.job) {
            let Some(job) = self.jobs.get(slot).filter(|job| !job.retired) else { continue };
            if job.trigger.follow().is_none_or(|follow| !follow.wants(&run.outcome)) {
                continue;
            }
            let (paused, once) = (job.paused, job.once);
            let due = Due { fire_time: run.fire_time, at: now };
            let submission =
                Submission { preceding: Some(preceding.clone()), ..Submission::of(due) };
            if paused {
                self.skip_submission(slot, submission, SkipReason::Paused, now);
                continue;
            }
            if once {
                // This is its run.
                self.unfollow(slot);
            }
            self.submit(slot, submission, now);
            self.end_if_over(slot, now);
        }
        self.out.discarded.push(Discarded::Preceding(preceding));
    }

    /// Those who followed a job that is gone, and end with it.
    pub(super) fn orphans(&mut self, id: &JobId) -> Vec<u32> {
        if self.followers.is_empty() || self.slot_of(id).is_some() {
            return Vec::new();
        }
        let orphans = self.followers.remove_all(id);
        for &orphan in &orphans {
            if let Some(job) = self.jobs.get_mut(orphan) {
                job.follows = false;
            }
        }
        orphans
    }
}
