//! Queries of all jobs, by pages of slots, so that no job is delayed.

use chrono::{DateTime, Utc};

use super::{Registry, job::Job};
use crate::{
    core::{Filter, JobKey},
    job::JobInfo,
};

/// How many slots are read under one lock.
pub(crate) const PAGE: u32 = 1024;

impl Filter {
    fn passes<P>(&self, job: &Job<P>) -> bool {
        let labels = job.labels();
        let named = |name: &String| labels.is_some_and(|l| l.name.as_deref() == Some(&**name));
        let tagged = |tag: &String| labels.is_some_and(|l| l.tags.iter().any(|t| **t == **tag));
        self.name.as_ref().is_none_or(named)
            && self.tag.as_ref().is_none_or(tagged)
            && self.paused.is_none_or(|paused| paused == job.paused)
    }
}

impl<P> Registry<P> {
    /// Returns the jobs of memory alone that have not ended, among `limit` slots from `slot` on,
    /// and where the next page begins, if there is one.
    fn page(&self, slot: u32, limit: u32) -> (impl Iterator<Item = (u32, &Job<P>)>, Option<u32>) {
        let end = slot.saturating_add(limit).min(self.jobs.end());
        let jobs = (slot..end).filter_map(|slot| Some((slot, self.jobs.get(slot)?)));
        let jobs = jobs.filter(|(_, job)| !job.retired && !job.is_durable());
        (jobs, (end < self.jobs.end()).then_some(end))
    }

    /// Adds to `list` the jobs that pass the filter among up to `limit` slots from `slot` on. Returns where
    /// the next page begins.
    pub(in crate::core) fn list(
        &self,
        slot: u32,
        limit: u32,
        filter: &Filter,
        volatile: bool,
        list: &mut Vec<JobInfo>,
    ) -> Option<u32> {
        let (jobs, next) = self.page(slot, limit);
        let jobs = jobs.filter(|(_, job)| filter.passes(job));
        list.extend(jobs.map(|(slot, job)| self.info(job, slot, volatile)));
        next
    }

    /// Adds to `keys` the jobs of a page that pass the filter. Returns where the next page begins.
    pub(in crate::core) fn keys(
        &self,
        slot: u32,
        filter: &Filter,
        keys: &mut Vec<JobKey>,
    ) -> Option<u32> {
        let (jobs, next) = self.page(slot, PAGE);
        keys.extend(jobs.filter(|(_, job)| filter.passes(job)).map(|(slot, job)| job.key(slot)));
        next
    }

    /// Returns the earliest next fire time of a page, and where the next page begins.
    pub(in crate::core) fn earliest(&self, slot: u32) -> (Option<DateTime<Utc>>, Option<u32>) {
        let (jobs, next) = self.page(slot, PAGE);
        (jobs.filter_map(|(_, job)| job.next_fire()).min(), next)
    }

    /// Returns how many jobs of memory alone have not ended.
    pub(in crate::core) fn unfinished(&self) -> usize {
        self.jobs.iter().filter(|(_, job)| !job.retired && !job.is_durable()).count()
    }

    /// Returns a job as users see it. It is `volatile` if the scheduler has a store and the job is
    /// not in it.
    pub(in crate::core) fn info(&self, job: &Job<P>, slot: u32, volatile: bool) -> JobInfo {
        let (labels, options) = (job.labels(), job.options(self.common()));
        JobInfo {
            id: job.id(self.common(), slot),
            name: labels.and_then(|labels| labels.name.clone()),
            tags: labels.map(|labels| labels.tags.clone()).unwrap_or_default(),
            trigger: job.trigger.clone(),
            next_fire: job.next_fire(),
            paused: job.paused,
            running: job.runs.active(),
            max_instances: options.max_instances,
            priority: options.priority,
            task: None,
            volatile,
            store: None,
        }
    }
}
