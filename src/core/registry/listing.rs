//! Questions about all jobs at once, answered a page of slots at a time, so that no job is delayed.

use chrono::{DateTime, Utc};

use crate::{
    core::{Core, Filter, JobKey, Payload, registry::job::Job, shut_down},
    error::Error,
};

/// How many slots are looked at under one lock.
pub(crate) const PAGE: u32 = 1024;

impl<P: Payload> Core<P> {
    /// The jobs in memory alone that have not ended, among a page of slots from `slot` on; and where
    /// the next page begins, if there is one.
    fn page(&self, slot: u32) -> (impl Iterator<Item = (u32, &Job<P>)>, Option<u32>) {
        let end = slot.saturating_add(PAGE).min(self.jobs.end());
        let jobs = (slot..end).filter_map(|slot| Some((slot, self.jobs.get(slot)?)));
        let jobs = jobs.filter(|(_, job)| !job.retired && !job.is_durable());
        (jobs, (end < self.jobs.end()).then_some(end))
    }

    /// Adds to `keys` the jobs of a page that pass the filter. Returns where the next page begins.
    pub(crate) fn keys(
        &self,
        slot: u32,
        filter: &Filter,
        keys: &mut Vec<JobKey>,
    ) -> Result<Option<u32>, Error> {
        if self.closed {
            return Err(shut_down());
        }
        let (jobs, next) = self.page(slot);
        keys.extend(jobs.filter(|(_, job)| filter.passes(job)).map(|(slot, job)| job.key(slot)));
        Ok(next)
    }

    /// The earliest next fire time of a page, and where the next page begins.
    pub(crate) fn earliest(&self, slot: u32) -> (Option<DateTime<Utc>>, Option<u32>) {
        let (jobs, next) = self.page(slot);
        (jobs.filter_map(|(_, job)| job.next_fire()).min(), next)
    }

    /// How many jobs in memory alone have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.jobs.iter().filter(|(_, job)| !job.retired && !job.is_durable()).count()
    }
}
