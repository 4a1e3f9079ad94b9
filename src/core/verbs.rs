//! What jobs can be told, and what is answered.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

use super::{
    Added, Core, Discarded, Extras, Filter, Job, JobKey, NewJob, Payload, Place, Settings,
    Submission, decide::Due, registry::followers::Batch, runs::semaphore::Semaphore, shut_down,
};
use crate::{
    error::Error,
    event::{EventKind, EventPayload},
    job::{End, JobId, JobInfo, JobOptions, Labels, OnConflict, Run, RunId, SkipReason},
    trigger::{Kind, Trigger},
};

impl<P: Payload> Core<P> {
    pub(crate) fn add(&mut self, new: NewJob<P>, now: DateTime<Utc>) -> Result<Added<P>, Error> {
        if let Err(error) = self.check_add(&new, &Batch::new(), now) {
            self.effects.discard(Discarded::Job(Box::new(new)));
            return Err(error);
        }
        if let Some(over) = self.stays_over(&new, now) {
            return Ok(self.stay_over(over, new, now));
        }
        if let Some(slot) = new.id.as_ref().and_then(|id| self.slot_of(id)) {
            if new.on_conflict == OnConflict::Keep {
                let payload = self.jobs[slot].payload.clone();
                payload.take_over(&new.payload);
                self.effects.discard(Discarded::Job(Box::new(new)));
                let job = &self.jobs[slot];
                return Ok(Added { key: job.key(slot), id: self.id(slot), payload });
            }
            if new.on_conflict == OnConflict::Reconcile && !new.once && !self.jobs[slot].once {
                // What is due of it runs, and may be its end.
                self.wake_one(slot, now);
                if new.id.as_ref().and_then(|id| self.slot_of(id)) == Some(slot) {
                    return self.reconcile(slot, new, now);
                }
            } else {
                self.retire(slot, End::Replaced, now);
            }
        }
        self.incarnations += 1;
        let incarnation = self.incarnations;
        let NewJob { id, labels, trigger, options, elapsed, once, paused, payload, .. } = new;
        let declared = new.declared;
        let extras = (id.is_some() || labels.is_some()).then(|| {
            let labels = labels.map(|labels| *labels).unwrap_or_default();
            Box::new(Extras { id: id.clone(), labels, ..Extras::default() })
        });
        let follow = trigger.follow().cloned();
        if let Some(options) = &options {
            self.limits.join(options);
        }
        let slot = self.jobs.insert_with(|_| Job {
            incarnation,
            trigger,
            next: None,
            options,
            semaphore: Semaphore::default(),
            runs: None,
            elapsed,
            once,
            follows: false,
            paused,
            deferred: false,
            dirty: false,
            armed: false,
            retired: false,
            extras,
            payload: payload.clone(),
        });
        if let Some(id) = id {
            self.forget_end(&id);
            self.named.insert(id, slot);
        }
        self.jobs[slot].set_declared(declared);
        let added = Added { key: JobKey { slot, incarnation }, id: self.id(slot), payload };
        if let Some(follow) = follow {
            self.follow(slot, &follow);
        }
        if !self.followers.is_empty() && self.followers.has(&added.id) {
            added.payload.want_output();
        }
        self.set_next(slot, new.first);
        if paused {
            added.payload.set_standing(Some(SkipReason::Paused));
        }
        let next_fire = self.jobs[slot].next_fire();
        self.effects.emit(now, EventKind::JobAdded, || EventPayload::JobAdded {
            job: added.id.clone(),
            next_fire,
        });
        if next_fire.is_none() {
            self.end_if_over(slot, now);
        }
        Ok(added)
    }

    /// Makes a job the one that it is declared as now: active runs keep what they have, what is due runs,
    /// and its trigger changes only if it is declared differently.
    fn reconcile(
        &mut self,
        slot: u32,
        new: NewJob<P>,
        now: DateTime<Utc>,
    ) -> Result<Added<P>, Error> {
        let NewJob { trigger, declared, first, elapsed, options, labels, payload, .. } = new;
        let (key, id) = (self.jobs[slot].key(slot), self.id(slot));
        let job = &mut self.jobs[slot];
        let both = job.declared().zip(declared.as_deref());
        let same = both.is_some_and(|(old, new)| old.is_same(new));
        let same_trigger = both.is_some_and(|(old, new)| old.trigger == new.trigger);
        let is_task = declared.as_ref().is_some_and(|declared| declared.task.is_some());
        let old = job.set_declared(declared);
        self.effects.discard_all(old.map(Discarded::Declaration));
        let job = &mut self.jobs[slot];
        let discarded = match same && is_task {
            // Its arguments may have been modified since.
            true => {
                job.payload.take_over(&payload);
                payload
            }
            false => {
                let reworked = job.payload.rework(payload);
                std::mem::replace(&mut job.payload, reworked)
            }
        };
        self.effects.discard(Discarded::Payload(discarded));
        let payload = job.payload.clone();
        let labels = labels.map(|labels| *labels).unwrap_or_default();
        let old = job.options(&self.defaults);
        let new = options.as_ref().unwrap_or(&self.defaults);
        let same_settings = match same {
            // Closures can't be compared, so the new ones count.
            true => !new.hold_code(),
            false => **old == **new && job.labels() == Some(&labels),
        };
        if !same_settings {
            self.set_options(slot, options, labels, now);
        }
        if same_trigger {
            self.effects.discard(Discarded::Trigger(trigger));
        } else if self.jobs[slot].key(slot) == key {
            self.reschedule(key, trigger, first, elapsed, now)?;
        }
        Ok(Added { key, id, payload })
    }

    /// Whether adding all of these jobs would be an error.
    pub(crate) fn check_all(&self, jobs: &[NewJob<P>], now: DateTime<Utc>) -> Result<(), Error> {
        let (mut batch, mut groups) = (Batch::new(), HashMap::new());
        for job in jobs {
            self.check_add(job, &batch, now)?;
            if let Some(group) = job.options.as_ref().and_then(|options| options.group.as_ref()) {
                let limit = *groups.entry(&group.name).or_insert(group.limit);
                if limit != group.limit {
                    return Err(group.contradicted(limit));
                }
            }
            batch.add(job);
        }
        Ok(())
    }

    fn check_add(
        &self,
        new: &NewJob<P>,
        batch: &Batch<'_>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if self.closed {
            return Err(shut_down());
        }
        let other = new.id.as_ref().and_then(|id| self.slot_of(id));
        if let Some(options) = &new.options {
            let replaced = other.and_then(|slot| self.jobs[slot].options.as_deref());
            self.limits.check(options, replaced)?;
        }
        if let Some(follow) = new.trigger.follow()
            // The jobs that it followed are over, too.
            && self.stays_over(new, now).is_none()
        {
            self.check_follow(new.id.as_ref(), follow, batch)?;
        }
        if let Some(id) = new.id.as_ref().filter(|id| self.reserved.contains_key(id)) {
            self.check_reserved(id, Place::Memory)?;
        }
        match &new.id {
            Some(id) if new.on_conflict == OnConflict::Error && other.is_some() => {
                Err(Error::duplicate_id(format!(
                    "there is a job `{id}` already: choose another id, or say `.on_conflict(..)`"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Keeps an id for a job that is about to be added, to memory or to the store, which takes a while to
    /// ask whether it has one.
    /// Several may do so for the same place.
    pub(crate) fn reserve(&mut self, id: &JobId, place: Place) -> Result<(), Error> {
        if self.closed {
            return Err(shut_down());
        }
        self.check_reserved(id, place)?;
        if matches!(place, Place::Store(_)) && self.slot_of(id).is_some() {
            return Err(Error::duplicate_id(format!(
                "there is a job `{id}` in memory already: choose another id, or remove it first"
            )));
        }
        self.reserved.entry(id.clone()).or_insert((place, 0)).1 += 1;
        Ok(())
    }

    fn check_reserved(&self, id: &JobId, place: Place) -> Result<(), Error> {
        match self.reserved.get(id) {
            Some(&(other, _)) if other != place => Err(Error::duplicate_id(format!(
                "a job `{id}` is being added to {}: choose another id",
                self.place_name(other)
            ))),
            _ => Ok(()),
        }
    }

    /// Whether it can be asked anything.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.closed { Err(shut_down()) } else { Ok(()) }
    }

    /// How an error names a place.
    fn place_name(&self, place: Place) -> String {
        match place {
            Place::Memory => "memory".to_owned(),
            Place::Store(store) => match self.stores.get(store) {
                Some(room) => format!("store `{}`", room.name),
                None => "a store".to_owned(),
            },
        }
    }

    pub(crate) fn unreserve(&mut self, id: &JobId) {
        if let Some((_, adding)) = self.reserved.get_mut(id) {
            *adding -= 1;
            if *adding == 0 {
                self.reserved.remove(id);
            }
        }
    }

    /// Whether a job may have these options here; `old` are those that it has now, if any.
    pub(crate) fn check_options(
        &self,
        options: &JobOptions,
        old: Option<&JobOptions>,
    ) -> Result<(), Error> {
        self.limits.check(options, old)
    }

    /// The job that has this id now.
    pub(crate) fn find(&self, id: &JobId) -> Result<Added<P>, Error> {
        if self.closed {
            return Err(shut_down());
        }
        let slot = self.slot_of(id).ok_or_else(|| {
            Error::unknown_job(format!("there is no job `{id}`: `jobs()` lists those there are"))
        })?;
        let job = &self.jobs[slot];
        Ok(Added { key: job.key(slot), id: self.id(slot), payload: job.payload.clone() })
    }

    pub(crate) fn info(&self, key: JobKey) -> Result<JobInfo, Error> {
        let job = self.live(key)?;
        Ok(self.info_of(job, key.slot))
    }

    /// Adds to `list` what passes the filter among up to `limit` slots from `slot` on; says where to
    /// go on.
    pub(crate) fn list(
        &self,
        slot: u32,
        limit: u32,
        filter: &Filter,
        list: &mut Vec<JobInfo>,
    ) -> Option<u32> {
        let end = slot.saturating_add(limit).min(self.jobs.end());
        let jobs = (slot..end).filter_map(|slot| Some((slot, self.jobs.get(slot)?)));
        let volatile = |job: &Job<P>| !job.retired && !job.is_durable();
        let jobs = jobs.filter(|(_, job)| volatile(job) && filter.passes(job));
        list.extend(jobs.map(|(slot, job)| self.info_of(job, slot)));
        (end < self.jobs.end()).then_some(end)
    }

    fn info_of(&self, job: &Job<P>, slot: u32) -> JobInfo {
        let (labels, options) = (job.labels(), job.options(&self.defaults));
        JobInfo {
            id: job.id(self.scheduler, slot),
            name: labels.and_then(|labels| labels.name.clone()),
            tags: labels.map(|labels| labels.tags.clone()).unwrap_or_default(),
            trigger: job.trigger.clone(),
            next_fire: job.next_fire(),
            paused: job.paused,
            running: job.semaphore.in_use(),
            max_instances: options.max_instances,
            priority: options.priority,
            task: None,
            volatile: !self.stores.is_empty(),
            store: None,
        }
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
        } else if self.jobs.get(key.slot).is_some_and(|job| job.key(key.slot) == key) {
            self.cancel_runs(key.slot);
        }
    }

    pub(crate) fn remove_all(&mut self, now: DateTime<Utc>) -> Result<usize, Error> {
        if self.closed {
            return Err(shut_down());
        }
        Ok(self.retire_all(&End::Removed, now))
    }

    pub(crate) fn pause(&mut self, key: JobKey, now: DateTime<Utc>) -> Result<(), Error> {
        if self.live(key)?.paused {
            return Ok(());
        }
        if !self.is_date(key.slot) {
            self.skip_due(key.slot, SkipReason::Paused, now, now);
        }
        self.skip_waiting(key.slot, SkipReason::Paused, false, now);
        let job = &mut self.jobs[key.slot];
        job.paused = true;
        job.payload.set_standing(Some(SkipReason::Paused));
        self.mark(key.slot);
        self.note(now, EventPayload::JobPaused { job: self.id(key.slot) });
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
            self.skip_due(key.slot, SkipReason::Paused, before, now);
        }
        let job = &mut self.jobs[key.slot];
        job.paused = false;
        job.payload.set_standing(None);
        let next_fire = job.next_fire();
        let what = EventPayload::JobResumed { job: self.id(key.slot), next_fire };
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
        first: Option<DateTime<Utc>>,
        elapsed: bool,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let mut ready = self.live(key).map(drop);
        if ready.is_ok()
            && let Some(follow) = trigger.follow()
        {
            ready = self.check_follow(Some(&self.id(key.slot)), follow, &Batch::new());
        }
        if ready.is_ok() {
            self.wake_one(key.slot, now);
            // A date that was due and skipped may have been the end of the job.
            ready = self.live_again(key).map(drop);
        }
        if let Err(error) = ready {
            self.effects.discard(Discarded::Trigger(trigger));
            return Err(error);
        }
        let reason = match self.jobs[key.slot].paused {
            true => SkipReason::Paused,
            false => SkipReason::Superseded,
        };
        self.carry_due(key.slot, now);
        self.skip_due(key.slot, reason, now, now);
        self.unfollow(key.slot);
        let job = &mut self.jobs[key.slot];
        let follow = trigger.follow().cloned();
        let old = std::mem::replace(&mut job.trigger, trigger);
        self.effects.discard(Discarded::Trigger(old));
        job.elapsed = elapsed;
        if let Some(extras) = &mut job.extras {
            extras.end = None;
        }
        if let Some(follow) = follow {
            self.follow(key.slot, &follow);
        }
        self.set_next(key.slot, first);
        self.note_modified(key.slot, now);
        self.end_if_over(key.slot, now);
        Ok(())
    }

    /// A job's options and labels.
    pub(crate) fn settings(&self, key: JobKey) -> Result<Settings<P>, Error> {
        let job = self.live(key)?;
        Ok(Settings {
            options: job.options(&self.defaults).clone(),
            labels: job.labels().cloned().unwrap_or_default(),
            payload: job.payload.clone(),
        })
    }

    /// Changes a job's options and labels and, if there are any, the arguments of its task, if its settings
    /// are still what was `expected`; its fire times stay. Says whether they were.
    pub(crate) fn modify(
        &mut self,
        key: JobKey,
        expected: &Settings<P>,
        options: Arc<JobOptions>,
        labels: Labels,
        args: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let job = self.live(key)?;
        // A declaration may have brought other work and left the options.
        if !Arc::ptr_eq(job.options(&self.defaults), &expected.options)
            || !job.payload.is(&expected.payload)
        {
            return Ok(false);
        }
        self.limits.check(&options, job.options.as_deref())?;
        if let Some(args) = args {
            job.payload.set_args(0, args);
        }
        self.set_options(key.slot, Some(options), labels, now);
        Ok(true)
    }

    /// Gives a job options that were checked, or the scheduler's defaults, and labels.
    fn set_options(
        &mut self,
        slot: u32,
        options: Option<Arc<JobOptions>>,
        labels: Labels,
        now: DateTime<Utc>,
    ) {
        if let Some(old) = self.jobs[slot].options.take() {
            self.limits.leave(&old);
            self.effects.discard_options(old);
        }
        let options_now = options.as_ref().unwrap_or(&self.defaults);
        let limits = options.as_ref().map(|options| self.limits.join(options));
        let job = &mut self.jobs[slot];
        job.trim_history(options_now.history);
        job.options = options;
        if job.extras.is_some() || !labels.is_empty() {
            job.extras().labels = labels;
        }
        if let Some(old) = job.next {
            // Other jitter moves when it is due, but makes it no later than it is already.
            let new = self.planner(slot).due(old.fire_time);
            self.jobs[slot].next = Some(Due { at: new.at.max(old.at.min(now)), ..new });
        }
        self.mark(slot);
        self.note_modified(slot, now);
        // There may be more permits than before, and other limits.
        self.requeue_waiting(slot);
        self.serve_queue(slot, now);
        limits.into_iter().flatten().for_each(|limit| self.serve(limit));
    }

    /// Starts an extra run with fire time `now`.
    pub(crate) fn run_now(&mut self, key: JobKey, now: DateTime<Utc>) -> Result<RunId, Error> {
        if self.closed {
            return Err(shut_down());
        }
        self.live_again(key)?;
        if self.would_skip(key.slot) {
            let job = &self.jobs[key.slot];
            return Err(Error::overlap(format!(
                "job `{}` has {} of {} runs going: wait for one to end, or raise `max_instances`",
                self.id(key.slot),
                job.semaphore.in_use(),
                job.options(&self.defaults).max_instances
            )));
        }
        if self.jobs[key.slot].once {
            // Its work can run only once: this is its run.
            self.skip_due(key.slot, SkipReason::Superseded, now, now);
            self.set_next(key.slot, None);
            self.unfollow(key.slot);
        }
        let due = Due { fire_time: now.trunc_subsecs(3), at: now };
        let submission = Submission { on_request: true, ..Submission::of(due) };
        self.submit(key.slot, submission, now).ok_or_else(|| Error::overlap("the run was skipped"))
    }

    /// The job's last runs, the latest last.
    pub(crate) fn history(&self, key: JobKey) -> Result<Vec<Run>, Error> {
        let extras = self.live(key)?.extras.as_ref();
        Ok(extras.map(|extras| extras.history.iter().cloned().collect()).unwrap_or_default())
    }

    /// The job, if it is neither over nor retired.
    pub(super) fn live(&self, key: JobKey) -> Result<&Job<P>, Error> {
        let job = self.jobs.get(key.slot);
        job.filter(|job| job.incarnation == key.incarnation && !job.retired).ok_or_else(|| {
            if self.closed {
                shut_down()
            } else {
                Error::gone(
                    "the job is gone: it has ended, was removed or replaced; if its id was added again, `scheduler.job(id)` is the job that has it now",
                )
            }
        })
    }

    /// The same, if the job's work can run again.
    fn live_again(&self, key: JobKey) -> Result<&Job<P>, Error> {
        let job = self.live(key)?;
        if job.once && job.next.is_none() && !job.follows {
            return Err(Error::gone("the job's one run has started: add another job"));
        }
        Ok(job)
    }

    pub(super) fn slot_of(&self, id: &JobId) -> Option<u32> {
        if let Some(&slot) = self.named.get(id) {
            return Some(slot);
        }
        let made = id.as_made().filter(|made| made.scheduler == self.scheduler)?;
        let job = self.jobs.get(made.slot)?;
        (!job.retired && job.id(self.scheduler, made.slot) == *id).then_some(made.slot)
    }

    /// Whether the job's trigger is a date, which stays due while the job is paused.
    fn is_date(&self, slot: u32) -> bool {
        matches!(self.jobs[slot].trigger.kind(), Kind::Date(_))
    }

    fn note_modified(&mut self, slot: u32, now: DateTime<Utc>) {
        let job = &self.jobs[slot];
        self.effects.emit(now, EventKind::JobModified, || EventPayload::JobModified {
            job: job.id(self.scheduler, slot),
            next_fire: job.next_fire(),
        });
    }
}
