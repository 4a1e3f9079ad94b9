//! Adding jobs: checks, conflicts of ids, and declared jobs.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::{
    core::{
        Added, Core, Discarded, Extras, Job, NewJob, Payload, Place, registry::Batch,
        runs::JobRuns, schedule::Timing, shut_down,
    },
    error::Error,
    event::{EventKind, EventPayload},
    job::{End, JobId, OnConflict, SkipReason},
};

impl<P: Payload> Core<P> {
    pub(crate) fn add(&mut self, new: NewJob<P>, now: DateTime<Utc>) -> Result<Added<P>, Error> {
        if let Err(error) = self.check_add(&new, &Batch::new(), now) {
            self.effects.discard(Discarded::Job(Box::new(new)));
            return Err(error);
        }
        if let Some(over) = self.registry.stays_over(&new, now) {
            return Ok(self.registry.stay_over(over, new, now, &mut self.effects));
        }
        if let Some(slot) = new.id.as_ref().and_then(|id| self.registry.slot_of(id)) {
            if new.on_conflict == OnConflict::Keep {
                let payload = self.registry[slot].payload.clone();
                payload.take_over(&new.payload);
                self.effects.discard(Discarded::Job(Box::new(new)));
                let job = &self.registry[slot];
                return Ok(Added { key: job.key(slot), id: self.registry.id(slot), payload });
            }
            if new.on_conflict == OnConflict::Reconcile && !new.once && !self.registry[slot].once {
                // Due fire times run, and may end the job.
                self.wake_one(slot, now);
                if new.id.as_ref().and_then(|id| self.registry.slot_of(id)) == Some(slot) {
                    return self.reconcile(slot, new, now);
                }
            } else {
                self.retire(slot, End::Replaced, now);
            }
        }
        let NewJob { id, labels, trigger, options, elapsed, once, paused, payload, .. } = new;
        let declared = new.declared;
        let extras = (id.is_some() || labels.is_some()).then(|| {
            let labels = labels.map(|labels| *labels).unwrap_or_default();
            Box::new(Extras { id: id.clone(), labels, ..Extras::default() })
        });
        let follow = trigger.follow().cloned();
        if let Some(options) = &options {
            self.runs.limits_mut().join(options);
        }
        let key = self.registry.insert(|incarnation| Job {
            incarnation,
            trigger,
            timing: Timing::new(elapsed),
            options,
            runs: JobRuns::default(),
            once,
            follows: false,
            paused,
            retired: false,
            extras,
            payload: payload.clone(),
        });
        let slot = key.slot;
        if let Some(id) = id {
            self.registry.forget_end(&id, &mut self.effects);
            self.registry.name(id, slot);
        }
        self.registry[slot].set_declared(declared);
        let added = Added { key, id: self.registry.id(slot), payload };
        if let Some(follow) = follow {
            self.registry.follow(slot, &follow);
        }
        if self.registry.is_followed(&added.id) {
            added.payload.want_output();
        }
        self.set_next(slot, new.first);
        if paused {
            added.payload.set_standing(Some(SkipReason::Paused));
        }
        let next_fire = self.registry[slot].next_fire();
        self.effects.emit(now, EventKind::JobAdded, || EventPayload::JobAdded {
            job: added.id.clone(),
            next_fire,
        });
        if next_fire.is_none() {
            self.end_if_over(slot, now);
        }
        Ok(added)
    }

    /// Changes a job to its new declaration: active runs keep what they have, due fire times run,
    /// and the trigger changes only if it is declared differently.
    fn reconcile(
        &mut self,
        slot: u32,
        new: NewJob<P>,
        now: DateTime<Utc>,
    ) -> Result<Added<P>, Error> {
        let NewJob { trigger, declared, first, elapsed, options, labels, payload, .. } = new;
        let (key, id) = (self.registry[slot].key(slot), self.registry.id(slot));
        let job = &mut self.registry[slot];
        let both = job.declared().zip(declared.as_deref());
        let same = both.is_some_and(|(old, new)| old.is_same(new));
        let same_trigger = both.is_some_and(|(old, new)| old.trigger == new.trigger);
        let is_task = declared.as_ref().is_some_and(|declared| declared.task.is_some());
        let old = job.set_declared(declared);
        self.effects.discard_all(old.map(Discarded::Declaration));
        let job = &mut self.registry[slot];
        let discarded = match same && is_task {
            // The arguments may have been modified since.
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
        let old = self.registry.options(slot);
        let new = options.as_ref().unwrap_or(self.registry.defaults());
        let same_settings = match same {
            // Closures cannot be compared, so the new ones count.
            true => !new.hold_code(),
            false => **old == **new && self.registry[slot].labels() == Some(&labels),
        };
        if !same_settings {
            self.set_options(slot, options, labels, now);
        }
        if same_trigger {
            self.effects.discard(Discarded::Trigger(trigger));
        } else if self.registry[slot].key(slot) == key {
            self.reschedule(key, trigger, first, elapsed, now)?;
        }
        Ok(Added { key, id, payload })
    }

    /// Checks whether adding all of these jobs would succeed.
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
        let other = new.id.as_ref().and_then(|id| self.registry.slot_of(id));
        if let Some(options) = &new.options {
            let replaced = other.and_then(|slot| self.registry[slot].options.as_deref());
            self.runs.limits().check(options, replaced)?;
        }
        if let Some(follow) = new.trigger.follow()
            // The jobs that it followed are over, too.
            && self.registry.stays_over(new, now).is_none()
        {
            self.registry.check_follow(new.id.as_ref(), follow, batch)?;
        }
        if let Some(id) = &new.id {
            self.registry.check_reserved(id, Place::Memory, &self.durable)?;
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

    /// Reserves an id for a job that is about to be added to `place`, which other schedulers may
    /// add to as well.
    pub(crate) fn reserve(&mut self, id: &JobId, place: Place) -> Result<(), Error> {
        if self.closed {
            return Err(shut_down());
        }
        self.registry.reserve(id, place, &self.durable)
    }

    pub(crate) fn unreserve(&mut self, id: &JobId) {
        self.registry.unreserve(id);
    }
}
