//! Queries of jobs, and how a job is found by its id or its key.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{
    core::{Added, Core, Filter, Job, JobKey, Payload, Settings, shut_down},
    error::Error,
    job::{JobId, JobInfo, Run},
    trigger::Kind,
};

impl<P: Payload> Core<P> {
    /// Returns the job that has this id now.
    pub(crate) fn find(&self, id: &JobId) -> Result<Added<P>, Error> {
        if self.closed {
            return Err(shut_down());
        }
        let slot = self.registry.slot_of(id).ok_or_else(|| {
            Error::unknown_job(format!("there is no job `{id}`: `jobs()` lists those there are"))
        })?;
        let job = &self.registry[slot];
        Ok(Added { key: job.key(slot), id: self.registry.id(slot), payload: job.payload.clone() })
    }

    pub(crate) fn info(&self, key: JobKey) -> Result<JobInfo, Error> {
        let job = self.live(key)?;
        Ok(self.registry.info(job, key.slot, !self.durable.is_empty()))
    }

    /// Adds to `list` the jobs that pass the filter among up to `limit` slots from `slot` on.
    /// Returns where the next page begins.
    pub(crate) fn list(
        &self,
        slot: u32,
        limit: u32,
        filter: &Filter,
        list: &mut Vec<JobInfo>,
    ) -> Option<u32> {
        self.registry.list(slot, limit, filter, !self.durable.is_empty(), list)
    }

    /// Adds to `keys` the jobs of a page of slots that pass the filter. Returns where the next page begins.
    pub(crate) fn keys(
        &self,
        slot: u32,
        filter: &Filter,
        keys: &mut Vec<JobKey>,
    ) -> Result<Option<u32>, Error> {
        self.check_open()?;
        Ok(self.registry.keys(slot, filter, keys))
    }

    /// Returns the earliest next fire time of a page of slots, and where the next page begins.
    pub(crate) fn earliest(&self, slot: u32) -> (Option<DateTime<Utc>>, Option<u32>) {
        self.registry.earliest(slot)
    }

    /// Returns how many jobs of memory alone have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.registry.unfinished()
    }

    /// Returns the last runs of an ended job with this id: of this incarnation, or of the latest
    /// that is kept.
    pub(crate) fn past(
        &self,
        id: &JobId,
        key: Option<JobKey>,
        now: DateTime<Utc>,
    ) -> Option<Arc<[Run]>> {
        self.registry.past(id, key, now)
    }

    /// Forgets the remembered end of a job with this id, so that the id can be declared anew.
    /// Returns whether an end was remembered.
    pub(crate) fn forget_end(&mut self, id: &JobId) -> bool {
        self.registry.forget_end(id, &mut self.effects)
    }

    /// Returns a job's options and labels.
    pub(crate) fn settings(&self, key: JobKey) -> Result<Settings<P>, Error> {
        let job = self.live(key)?;
        Ok(Settings {
            options: job.options(self.registry.common()).clone(),
            labels: job.labels().cloned().unwrap_or_default(),
            payload: job.payload.clone(),
        })
    }

    /// Returns the job's last runs, the latest last.
    pub(crate) fn history(&self, key: JobKey) -> Result<Vec<Run>, Error> {
        let extras = self.live(key)?.extras.as_ref();
        Ok(extras.map(|extras| extras.runs.history().cloned().collect()).unwrap_or_default())
    }

    /// Returns the job, unless it is over or retired.
    pub(in crate::core) fn live(&self, key: JobKey) -> Result<&Job<P>, Error> {
        self.registry.live(key).ok_or_else(|| {
            if self.closed {
                shut_down()
            } else {
                Error::gone(
                    "the job is gone: it has ended, was removed or replaced; if its id was added again, `scheduler.job(id)` is the job that has it now",
                )
            }
        })
    }

    /// Like [`live`](Self::live), but fails if the job's work cannot run again.
    pub(in crate::core) fn live_again(&self, key: JobKey) -> Result<&Job<P>, Error> {
        let job = self.live(key)?;
        if job.once && job.timing.next().is_none() && !job.follows {
            return Err(Error::gone("the job's one run has started: add another job"));
        }
        Ok(job)
    }

    /// Whether the job's trigger is a date, which stays due while the job is paused.
    pub(in crate::core) fn is_date(&self, slot: u32) -> bool {
        matches!(self.registry[slot].trigger.kind(), Kind::Date(_))
    }
}
