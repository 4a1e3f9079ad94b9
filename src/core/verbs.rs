//! What jobs can be told, and what is answered.

use std::{collections::VecDeque, sync::Arc};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

use super::{
    Added, Core, Filter, Job, JobKey, NewJob, Payload, Submission, decide::Due,
    semaphore::Semaphore, shut_down,
};
use crate::{
    error::Error,
    event::{EventKind, What},
    job::{End, JobId, JobInfo, JobOptions, Labels, Made, OnConflict, RunId, SkipReason},
    trigger::{Kind, Trigger},
};

impl<P: Payload> Core<P> {
    pub(crate) fn add(&mut self, new: NewJob<P>, now: DateTime<Utc>) -> Result<Added<P>, Error> {
        if let Err(error) = self.check_add(new.id.as_ref(), new.on_conflict) {
            self.out.refused.push(new);
            return Err(error);
        }
        if let Some(slot) = new.id.as_ref().and_then(|id| self.slot_of(id)) {
            if new.on_conflict == OnConflict::Keep {
                self.out.refused.push(new);
                let job = &self.jobs[slot as usize];
                let payload = job.payload.clone();
                return Ok(Added { key: job.key(slot), id: job.id.clone(), payload });
            }
            self.retire(slot, End::Replaced, now);
        }
        self.incarnations += 1;
        let incarnation = self.incarnations;
        let entry = self.jobs.vacant_entry();
        // A slot takes over a hundred bytes: memory ends before the numbers do.
        let slot = u32::try_from(entry.key()).expect("fewer than 2^32 jobs fit into memory");
        let named = new.id.is_some();
        let id = new
            .id
            .unwrap_or_else(|| JobId::made(Made { scheduler: self.scheduler, slot, incarnation }));
        let added = Added { key: JobKey { slot, incarnation }, id, payload: new.payload.clone() };
        entry.insert(Job {
            incarnation,
            id: added.id.clone(),
            trigger: new.trigger,
            next: None,
            options: new.options,
            labels: new.labels,
            semaphore: Semaphore::default(),
            runs: None,
            parked: Vec::new(),
            elapsed: new.elapsed,
            once: new.once,
            paused: new.paused,
            held: false,
            dirty: false,
            armed: false,
            retired: false,
            end: None,
            payload: new.payload,
        });
        if named {
            self.named.insert(added.id.clone(), slot);
        }
        self.set_next(slot, Some(new.first));
        if new.paused {
            added.payload.set_standing(Some(SkipReason::Paused));
        }
        let next_fire = self.jobs[slot as usize].next_fire();
        self.log.emit(&mut self.out, now, EventKind::JobAdded, || What::JobAdded {
            job: added.id.clone(),
            next_fire,
        });
        Ok(added)
    }

    /// Whether adding a job of this id would be an error.
    pub(crate) fn check_add(
        &self,
        id: Option<&JobId>,
        on_conflict: OnConflict,
    ) -> Result<(), Error> {
        if self.closed {
            return Err(shut_down());
        }
        match id {
            Some(id) if on_conflict == OnConflict::Error && self.slot_of(id).is_some() => {
                Err(Error::duplicate_id(format!(
                    "there is a job `{id}` already: choose another id, or say `.on_conflict(..)`"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The job that has this id now.
    pub(crate) fn find(&self, id: &JobId) -> Result<Added<P>, Error> {
        if self.closed {
            return Err(shut_down());
        }
        let slot = self.slot_of(id).ok_or_else(|| {
            Error::unknown_job(format!("there is no job `{id}`: `jobs()` lists those there are"))
        })?;
        let job = &self.jobs[slot as usize];
        Ok(Added { key: job.key(slot), id: job.id.clone(), payload: job.payload.clone() })
    }

    pub(crate) fn info(&self, key: JobKey) -> Result<JobInfo, Error> {
        Ok(self.live(key)?.info())
    }

    /// Adds to `list` what passes the filter among up to `limit` slots from `slot` on; says where to
    /// go on.
    pub(crate) fn list(
        &self,
        slot: usize,
        limit: usize,
        filter: &Filter,
        list: &mut Vec<JobInfo>,
    ) -> Option<usize> {
        let end = slot.saturating_add(limit).min(self.jobs.capacity());
        let jobs = (slot..end).filter_map(|slot| self.jobs.get(slot));
        list.extend(jobs.filter(|job| !job.retired && filter.passes(job)).map(Job::info));
        (end < self.jobs.capacity()).then_some(end)
    }

    /// Ends a job. Cancelling and replacing it ask its going runs to stop; removing lets them be.
    pub(crate) fn remove(
        &mut self,
        key: JobKey,
        end: End,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        self.live(key)?;
        self.retire(key.slot, end, now);
        Ok(())
    }

    /// Ends a job, if it has not ended already, and asks its going runs to stop in any case.
    pub(crate) fn cancel(&mut self, key: JobKey, now: DateTime<Utc>) {
        if self.live(key).is_ok() {
            self.retire(key.slot, End::Cancelled, now);
        } else if self.jobs.get(key.slot as usize).is_some_and(|job| job.key(key.slot) == key) {
            self.cancel_runs(key.slot);
        }
    }

    pub(crate) fn remove_all(&mut self, now: DateTime<Utc>) -> Result<usize, Error> {
        if self.closed {
            return Err(shut_down());
        }
        let slots = self.live_slots();
        for &slot in &slots {
            self.retire(slot, End::Removed, now);
        }
        self.note(now, What::AllJobsRemoved { count: slots.len() });
        Ok(slots.len())
    }

    pub(crate) fn pause(&mut self, key: JobKey, now: DateTime<Utc>) -> Result<(), Error> {
        if self.live(key)?.paused {
            return Ok(());
        }
        if !self.is_date(key.slot) {
            self.settle(key.slot, SkipReason::Paused, now, now);
        }
        self.call_off_waiting(key.slot, SkipReason::Paused, now);
        let job = &mut self.jobs[key.slot as usize];
        job.paused = true;
        job.payload.set_standing(Some(SkipReason::Paused));
        let id = job.id.clone();
        self.mark(key.slot);
        self.note(now, What::JobPaused { job: id });
        self.end_if_over(key.slot, now);
        Ok(())
    }

    pub(crate) fn resume(&mut self, key: JobKey, now: DateTime<Utc>) -> Result<(), Error> {
        if !self.live(key)?.paused {
            return Ok(());
        }
        // What passed while it was paused is skipped, but for a date, which is still due.
        let just_before = now.checked_sub_signed(TimeDelta::nanoseconds(1));
        if let Some(before) = just_before.filter(|_| !self.is_date(key.slot)) {
            self.settle(key.slot, SkipReason::Paused, before, now);
        }
        let job = &mut self.jobs[key.slot as usize];
        job.paused = false;
        job.payload.set_standing(None);
        let what = What::JobResumed { job: job.id.clone(), next_fire: job.next_fire() };
        self.mark(key.slot);
        self.note(now, what);
        self.end_if_over(key.slot, now);
        Ok(())
    }

    /// Gives a job another trigger. What is due by the old one runs, if the scheduler is not paused;
    /// what has passed otherwise is superseded.
    pub(crate) fn reschedule(
        &mut self,
        key: JobKey,
        trigger: Trigger,
        first: DateTime<Utc>,
        elapsed: bool,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let mut ready = self.live(key).map(drop);
        if ready.is_ok() {
            self.wake_one(key.slot, now);
            // A date that was due and skipped may have been the end of the job.
            ready = self.live_again(key).map(drop);
        }
        if let Err(error) = ready {
            self.out.dropped.push(trigger);
            return Err(error);
        }
        let reason = match self.jobs[key.slot as usize].paused {
            true => SkipReason::Paused,
            false => SkipReason::Superseded,
        };
        self.settle(key.slot, reason, now, now);
        let job = &mut self.jobs[key.slot as usize];
        self.out.dropped.push(std::mem::replace(&mut job.trigger, trigger));
        job.elapsed = elapsed;
        job.end = None;
        self.set_next(key.slot, Some(first));
        self.note_modified(key.slot, now);
        Ok(())
    }

    /// A job's options and labels.
    pub(crate) fn settings(&self, key: JobKey) -> Result<(Arc<JobOptions>, Labels), Error> {
        let job = self.live(key)?;
        Ok((job.options.clone(), job.labels.as_deref().cloned().unwrap_or_default()))
    }

    /// Changes a job's options and labels, if the options are still `expected`; its fire times stay.
    pub(crate) fn modify(
        &mut self,
        key: JobKey,
        expected: &Arc<JobOptions>,
        options: JobOptions,
        labels: Labels,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        options.validate()?;
        if !Arc::ptr_eq(&self.live(key)?.options, expected) {
            return Ok(false);
        }
        let job = &mut self.jobs[key.slot as usize];
        job.options = Arc::new(options);
        job.labels = (labels != Labels::default()).then(|| Box::new(labels));
        if let Some(old) = job.next {
            // Other jitter moves when it is due, but makes it no later than it is already.
            let new = job.schedule().due(old.fire_time);
            job.next = Some(Due { at: new.at.max(old.at.min(now)), ..new });
        }
        self.mark(key.slot);
        self.note_modified(key.slot, now);
        Ok(true)
    }

    /// Starts an extra run with fire time `now`.
    pub(crate) fn run_now(&mut self, key: JobKey, now: DateTime<Utc>) -> Result<RunId, Error> {
        if self.closed {
            return Err(shut_down());
        }
        self.live_again(key)?;
        let job = &mut self.jobs[key.slot as usize];
        let limit = job.options.max_instances;
        let Some(permit) = job.semaphore.try_acquire(limit) else {
            return Err(Error::overlap(format!(
                "job `{}` has {} of {limit} runs going: wait for one to end, or raise `max_instances`",
                job.id,
                job.semaphore.taken()
            )));
        };
        if job.once {
            // Its work can run only once: this is its run.
            self.settle(key.slot, SkipReason::Superseded, now, now);
            self.set_next(key.slot, None);
        }
        Ok(self.start(
            key.slot,
            permit,
            Submission {
                due: Due { fire_time: now.trunc_subsecs(3), at: now },
                coalesced: 0,
                on_request: true,
                backlog: VecDeque::new(),
            },
            now,
        ))
    }

    /// The job, if it is neither over nor retired.
    fn live(&self, key: JobKey) -> Result<&Job<P>, Error> {
        let job = self.jobs.get(key.slot as usize);
        job.filter(|job| job.incarnation == key.incarnation && !job.retired).ok_or_else(|| {
            if self.closed {
                shut_down()
            } else {
                Error::gone(
                    "the job is gone: it has ended, was removed or replaced; `scheduler.job(id)` is the current one",
                )
            }
        })
    }

    /// The same, if the job's work can run again.
    fn live_again(&self, key: JobKey) -> Result<&Job<P>, Error> {
        let job = self.live(key)?;
        if job.once && job.next.is_none() {
            return Err(Error::gone("the job's one run has started: add another job"));
        }
        Ok(job)
    }

    fn slot_of(&self, id: &JobId) -> Option<u32> {
        if let Some(&slot) = self.named.get(id) {
            return Some(slot);
        }
        let made = id.as_made().filter(|made| made.scheduler == self.scheduler)?;
        let job = self.jobs.get(made.slot as usize)?;
        (job.id == *id && !job.retired).then_some(made.slot)
    }

    /// Whether the job's trigger is a date, which stays due while the job is paused.
    fn is_date(&self, slot: u32) -> bool {
        matches!(self.jobs[slot as usize].trigger.kind(), Kind::Date(_))
    }

    fn note_modified(&mut self, slot: u32, now: DateTime<Utc>) {
        let job = &self.jobs[slot as usize];
        self.log.emit(&mut self.out, now, EventKind::JobModified, || What::JobModified {
            job: job.id.clone(),
            next_fire: job.next_fire(),
        });
    }
}
