//! The decisions: what to do when something happens, told what happened and when.
//!
//! No tokio, no async, no clock, no randomness. The driver and the handles call the verbs below
//! with the current instant; what must be done about it collects in the [`Outbox`], which whoever
//! holds the lock empties. `P` is what the shell keeps with each job (its work and its handles);
//! the core only ever hands it back.

mod decide;
mod semaphore;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use slab::Slab;

pub(crate) use self::decide::refusal;
use self::{
    decide::{Due, Plan, Schedule},
    semaphore::{Permit, Semaphore},
};
use crate::{
    error::Error,
    event::{Event, EventKind, KindSet, What},
    job::{
        End, FireTimes, JobId, JobInfo, JobOptions, Labels, Made, OnConflict, Outcome, Run, RunId,
        SkipReason,
    },
    trigger::{Kind, Trigger},
};

/// What the shell keeps with a job.
pub(crate) trait Payload: Clone {
    /// Calls off all runs that have not started, or admits them again. A run looks at this when it
    /// would start.
    fn set_standing(&self, standing: Option<SkipReason>);
}

/// One incarnation of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct JobKey {
    slot: u32,
    incarnation: u64,
}

/// One run, as long as it is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RunKey {
    slot: usize,
    pub(crate) id: RunId,
}

/// A job to be added; its trigger is anchored and has said its first fire time.
pub(crate) struct NewJob<P> {
    pub(crate) id: Option<JobId>,
    pub(crate) on_conflict: OnConflict,
    pub(crate) trigger: Trigger,
    pub(crate) first: DateTime<Utc>,
    /// Whether its fire times are elapsed time, and so move with a step of the clock.
    pub(crate) elapsed: bool,
    /// Whether its work can run only once.
    pub(crate) once: bool,
    pub(crate) paused: bool,
    pub(crate) options: Arc<JobOptions>,
    pub(crate) labels: Option<Box<Labels>>,
    pub(crate) payload: P,
}

/// A job that is there now.
pub(crate) struct Added<P> {
    pub(crate) key: JobKey,
    pub(crate) id: JobId,
    pub(crate) payload: P,
}

/// What must be done about what happened, in order.
pub(crate) struct Outbox<P> {
    /// Jobs whose wake-up may have changed: [`Core::wake_at`] says what it is now.
    pub(crate) dirty: Vec<u32>,
    pub(crate) starts: Vec<Start<P>>,
    /// Runs that were asked to stop.
    pub(crate) cancels: Vec<RunKey>,
    pub(crate) events: Vec<Event>,
    pub(crate) reports: Vec<(P, Run)>,
    /// Jobs that were removed, cancelled or replaced, before their last run has ended.
    pub(crate) retired: Vec<P>,
    pub(crate) ended: Vec<Ended<P>>,
    /// What was replaced: dropping it may run the user's code, so the lock must be free.
    pub(crate) dropped: Vec<Trigger>,
}

/// A run to be started.
pub(crate) struct Start<P> {
    pub(crate) run: RunKey,
    pub(crate) job: JobId,
    pub(crate) fire_time: DateTime<Utc>,
    pub(crate) due: DateTime<Utc>,
    pub(crate) coalesced: u64,
    pub(crate) on_request: bool,
    pub(crate) options: Arc<JobOptions>,
    pub(crate) payload: P,
}

/// A job that is over, none of its runs going.
pub(crate) struct Ended<P> {
    pub(crate) payload: P,
    pub(crate) end: End,
    _trigger: Trigger,
}

/// What a run says when it ends.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) late_by: Duration,
    pub(crate) outcome: Outcome,
}

/// What [`Core::list`] looks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) name: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) paused: Option<bool>,
}

pub(crate) struct Core<P> {
    jobs: Slab<Job<P>>,
    runs: Slab<Going>,
    named: HashMap<JobId, u32>,
    /// Jobs that came due, or whose backlog was interrupted, while the scheduler was paused.
    held: Vec<u32>,
    /// Tells the ids made here from those of other schedulers.
    scheduler: u32,
    incarnations: u64,
    run_ids: u64,
    paused: bool,
    closed: bool,
    log: Log,
    pub(crate) out: Outbox<P>,
}

struct Job<P> {
    incarnation: u64,
    id: JobId,
    trigger: Trigger,
    /// The earliest fire time that has no fate yet, also while the job is paused.
    next: Option<DateTime<Utc>>,
    /// When that is due.
    due: DateTime<Utc>,
    options: Arc<JobOptions>,
    labels: Option<Box<Labels>>,
    semaphore: Semaphore,
    /// The first of its runs, which are linked through [`Going::sibling`].
    runs: Option<usize>,
    /// Backlogs that wait for the scheduler to be resumed, and the permits they keep.
    parked: Vec<(Permit, VecDeque<Due>)>,
    elapsed: bool,
    once: bool,
    paused: bool,
    held: bool,
    dirty: bool,
    /// Removed, cancelled, replaced or shut down: only its going runs keep it here.
    retired: bool,
    /// How it will have ended when its last run ends, if not as completed.
    end: Option<End>,
    payload: P,
}

struct Going {
    id: RunId,
    job: u32,
    fire_time: DateTime<Utc>,
    coalesced: u64,
    on_request: bool,
    cancelled: bool,
    permit: Permit,
    /// Fire times that run after this one, under its permit.
    backlog: VecDeque<Due>,
    /// The next run of the same job.
    sibling: Option<usize>,
}

/// The fire times of a run that is about to start.
struct Submission {
    due: Due,
    coalesced: u64,
    on_request: bool,
    backlog: VecDeque<Due>,
}

/// The events' sequence, and which kinds anybody wants to see.
struct Log {
    sequence: u64,
    observed: KindSet,
}

impl Log {
    fn emit<P>(
        &mut self,
        out: &mut Outbox<P>,
        at: DateTime<Utc>,
        kind: EventKind,
        what: impl FnOnce() -> What,
    ) {
        self.sequence += 1;
        if self.observed.contains(kind) {
            out.events.push(Event { sequence: self.sequence, at, what: what() });
        }
    }
}

impl<P> Outbox<P> {
    fn new() -> Outbox<P> {
        Outbox {
            dirty: Vec::new(),
            starts: Vec::new(),
            cancels: Vec::new(),
            events: Vec::new(),
            reports: Vec::new(),
            retired: Vec::new(),
            ended: Vec::new(),
            dropped: Vec::new(),
        }
    }
}

impl<P> Job<P> {
    fn key(&self, slot: u32) -> JobKey {
        JobKey { slot, incarnation: self.incarnation }
    }

    fn schedule(&self) -> Schedule<'_> {
        Schedule { trigger: &self.trigger, options: &self.options, seed: self.id.stable_hash() }
    }

    /// The next fire time, as seen from outside.
    fn next_fire(&self) -> Option<DateTime<Utc>> {
        self.next.filter(|_| !self.paused && !self.retired)
    }

    fn info(&self) -> JobInfo {
        let labels = self.labels.as_deref();
        JobInfo {
            id: self.id.clone(),
            name: labels.and_then(|labels| labels.name.clone()),
            tags: labels.map(|labels| labels.tags.clone()).unwrap_or_default(),
            trigger: self.trigger.clone(),
            next_fire: self.next_fire(),
            paused: self.paused,
            running: self.semaphore.taken(),
            max_instances: self.options.max_instances,
            priority: self.options.priority,
        }
    }
}

impl Filter {
    fn passes<P>(&self, job: &Job<P>) -> bool {
        let labels = job.labels.as_deref();
        let named = |name: &String| labels.is_some_and(|l| l.name.as_deref() == Some(&**name));
        let tagged = |tag: &String| labels.is_some_and(|l| l.tags.iter().any(|t| **t == **tag));
        self.name.as_ref().is_none_or(named)
            && self.tag.as_ref().is_none_or(tagged)
            && self.paused.is_none_or(|paused| paused == job.paused)
    }
}

impl<P: Payload> Core<P> {
    /// `scheduler` is a number that tells this one's ids from those of others.
    pub(crate) fn new(scheduler: u32, paused: bool) -> Core<P> {
        Core {
            jobs: Slab::new(),
            runs: Slab::new(),
            named: HashMap::new(),
            held: Vec::new(),
            scheduler,
            incarnations: 0,
            run_ids: 0,
            paused,
            closed: false,
            log: Log { sequence: 0, observed: KindSet::NONE },
            out: Outbox::new(),
        }
    }

    /// Says which kinds of events are worth making.
    pub(crate) fn observe(&mut self, kinds: KindSet) {
        self.log.observed = kinds;
    }

    pub(crate) fn note(&mut self, now: DateTime<Utc>, what: What) {
        self.log.emit(&mut self.out, now, what.kind(), || what);
    }

    // Jobs.

    pub(crate) fn add(&mut self, new: NewJob<P>, now: DateTime<Utc>) -> Result<Added<P>, Error> {
        if self.closed {
            return Err(shut_down());
        }
        if let Some(slot) = new.id.as_ref().and_then(|id| self.slot_of(id)) {
            let job = &self.jobs[slot as usize];
            match new.on_conflict {
                OnConflict::Error => {
                    return Err(Error::duplicate_id(format!(
                        "there is a job `{}` already: choose another id, or say `.on_conflict(..)`",
                        job.id
                    )));
                }
                OnConflict::Keep => {
                    let payload = job.payload.clone();
                    return Ok(Added { key: job.key(slot), id: job.id.clone(), payload });
                }
                OnConflict::Replace => self.retire(slot, End::Replaced, now),
            }
        }
        self.incarnations += 1;
        let incarnation = self.incarnations;
        let entry = self.jobs.vacant_entry();
        let slot = u32::try_from(entry.key())
            .map_err(|_| Error::invalid_option("there are 4,294,967,296 jobs: remove some"))?;
        let id = new.id.unwrap_or_else(|| {
            JobId::made(Made { scheduler: self.scheduler, slot, incarnation })
        });
        let added =
            Added { key: JobKey { slot, incarnation }, id, payload: new.payload.clone() };
        entry.insert(Job {
            incarnation,
            id: added.id.clone(),
            trigger: new.trigger,
            next: None,
            due: new.first,
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
            retired: false,
            end: None,
            payload: new.payload,
        });
        if added.id.as_made().is_none() {
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
    pub(crate) fn check_add(&self, id: Option<&JobId>, on_conflict: OnConflict) -> Result<(), Error> {
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
        list.extend(
            jobs.filter(|job| !job.retired && filter.passes(job)).map(Job::info),
        );
        (end < self.jobs.capacity()).then_some(end)
    }

    /// Ends a job. Cancelling and replacing it ask its going runs to stop; removing lets them be.
    pub(crate) fn remove(&mut self, key: JobKey, end: End, now: DateTime<Utc>) -> Result<(), Error> {
        self.live(key)?;
        self.retire(key.slot, end, now);
        Ok(())
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
            self.settle(key.slot, SkipReason::Paused, now);
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
        let just_before = now.trunc_subsecs(3).checked_sub_signed(TimeDelta::milliseconds(1));
        if let Some(before) = just_before.filter(|_| !self.is_date(key.slot)) {
            self.settle(key.slot, SkipReason::Paused, before);
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

    /// Gives a job another trigger. What is due by the old one runs; what has passed but is not due
    /// yet is superseded.
    pub(crate) fn reschedule(
        &mut self,
        key: JobKey,
        trigger: Trigger,
        first: DateTime<Utc>,
        elapsed: bool,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        self.live(key)?;
        self.wake_one(key.slot, now);
        // A date that was due and skipped may have been the end of the job.
        self.live_again(key)?;
        let reason = match self.jobs[key.slot as usize].paused {
            true => SkipReason::Paused,
            false => SkipReason::Superseded,
        };
        self.settle(key.slot, reason, now);
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
        let next = job.next;
        self.set_next(key.slot, next);
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
            job.next = None;
            self.mark(key.slot);
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

    // Time.

    /// When the job in this slot must be looked at, if it must.
    pub(crate) fn wake_at(&mut self, slot: u32) -> Option<DateTime<Utc>> {
        let job = self.jobs.get_mut(slot as usize)?;
        job.dirty = false;
        job.next_fire().filter(|_| !job.held).map(|_| job.due)
    }

    /// Puts slots in the order in which their jobs start: of fire time, then priority, then the
    /// order of adding.
    pub(crate) fn sort(&self, slots: &mut [u32]) {
        slots.sort_by_cached_key(|&slot| {
            self.jobs.get(slot as usize).map(|job| {
                (job.next, std::cmp::Reverse(job.options.priority), job.incarnation)
            })
        });
    }

    /// Looks at jobs that may be due. `now` decides whether they are.
    pub(crate) fn wake(&mut self, slots: &[u32], now: DateTime<Utc>) {
        for &slot in slots {
            self.wake_one(slot, now);
        }
    }

    /// The wall clock stepped by so much against elapsed time.
    pub(crate) fn clock_stepped(&mut self, by: TimeDelta, now: DateTime<Utc>) {
        for slot in self.live_slots() {
            let job = &mut self.jobs[slot as usize];
            if job.elapsed {
                job.trigger.shift(by);
                job.next = job.next.map(|next| next.checked_add_signed(by).unwrap_or(next));
            }
            let next = job.next;
            self.set_next(slot, next);
        }
        self.note(now, What::ClockStepped { by });
    }

    /// Has the driver look at every job's wake-up: the clock was moved.
    pub(crate) fn rearm_all(&mut self) {
        for slot in self.live_slots() {
            self.mark(slot);
        }
    }

    // Runs.

    /// A run has ended. Whoever was declared abandoned has nothing to say any more.
    pub(crate) fn finish(&mut self, key: RunKey, finish: Finish, now: DateTime<Utc>) {
        if self.runs.get(key.slot).is_none_or(|run| run.id != key.id) {
            return;
        }
        let mut going = self.runs.remove(key.slot);
        let slot = going.job;
        self.unlink(slot, key.slot, going.sibling);
        let job = &mut self.jobs[slot as usize];
        let Finish { started_at, late_by, outcome } = finish;
        let record = Run {
            job: job.id.clone(),
            id: going.id,
            fire_time: going.fire_time,
            late_by,
            coalesced: going.coalesced,
            on_request: going.on_request,
            started_at,
            ended_at: now,
            outcome,
        };
        let kind = kind_of(&record.outcome);
        self.log.emit(&mut self.out, now, kind, || fate_of(record.clone()));
        self.out.reports.push((job.payload.clone(), record));
        match going.backlog.pop_front() {
            Some(due) if self.paused => {
                going.backlog.push_front(due);
                job.parked.push((going.permit, going.backlog));
                self.held.push(slot);
            }
            Some(due) => {
                let backlog = going.backlog;
                let next = Submission { due, coalesced: 0, on_request: false, backlog };
                self.start(slot, going.permit, next, now);
            }
            None => job.semaphore.release(going.permit),
        }
        self.end_if_over(slot, now);
    }

    /// Whether a run has been asked to stop; one that is over has.
    pub(crate) fn is_cancelled(&self, key: RunKey) -> bool {
        self.runs.get(key.slot).is_none_or(|run| run.id != key.id || run.cancelled)
    }

    /// The runs that are going.
    pub(crate) fn going(&self) -> impl Iterator<Item = RunKey> + '_ {
        self.runs.iter().map(|(slot, run)| RunKey { slot, id: run.id })
    }

    /// Asks every run to stop, but for those in `spared`; says how long the most patient job lets
    /// its runs go on.
    pub(crate) fn cancel_all(&mut self, spared: &[RunKey]) -> Duration {
        let mut grace = Duration::ZERO;
        for (slot, run) in &mut self.runs {
            let key = RunKey { slot, id: run.id };
            if !run.cancelled && !spared.contains(&key) {
                run.cancelled = true;
                self.out.cancels.push(key);
            }
            if let Some(job) = self.jobs.get(run.job as usize) {
                grace = grace.max(job.options.cancel_grace);
            }
        }
        grace
    }

    // The scheduler.

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn pause_all(&mut self, now: DateTime<Utc>) -> Result<(), Error> {
        if self.closed {
            return Err(shut_down());
        }
        if !self.paused {
            self.paused = true;
            self.note(now, What::Paused);
        }
        Ok(())
    }

    /// Resumes the scheduler: what came due meanwhile is coalesced and judged by grace.
    pub(crate) fn resume_all(&mut self, now: DateTime<Utc>) -> Result<(), Error> {
        if self.closed {
            return Err(shut_down());
        }
        if self.paused {
            self.paused = false;
            self.note(now, What::Resumed);
            let mut held = std::mem::take(&mut self.held);
            self.sort(&mut held);
            for &slot in &held {
                if let Some(job) = self.jobs.get_mut(slot as usize) {
                    job.held = false;
                    self.mark(slot);
                }
            }
            self.wake(&held, now);
        }
        Ok(())
    }

    /// Starts nothing from here on; jobs end as soon as none of their runs is going.
    pub(crate) fn close(&mut self, now: DateTime<Utc>) {
        if !self.closed {
            self.closed = true;
            for slot in self.live_slots() {
                self.retire(slot, End::ShutDown, now);
            }
        }
    }

    // What the above have in common.

    /// Whether the job's trigger is a date, which stays due while the job is paused.
    fn is_date(&self, slot: u32) -> bool {
        matches!(self.jobs[slot as usize].trigger.kind(), Kind::Date(_))
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

    fn live_slots(&self) -> Vec<u32> {
        let live = self.jobs.iter().filter(|(_, job)| !job.retired);
        live.filter_map(|(slot, _)| u32::try_from(slot).ok()).collect()
    }

    /// Sets the next fire time and when it is due.
    fn set_next(&mut self, slot: u32, next: Option<DateTime<Utc>>) {
        let job = &mut self.jobs[slot as usize];
        job.next = next;
        if let Some(next) = next {
            job.due = job.schedule().due(next);
        }
        job.held = false;
        self.mark(slot);
    }

    /// Has the driver look at the job's wake-up.
    fn mark(&mut self, slot: u32) {
        let job = &mut self.jobs[slot as usize];
        if !job.dirty {
            job.dirty = true;
            self.out.dirty.push(slot);
        }
    }

    fn wake_one(&mut self, slot: u32, now: DateTime<Utc>) {
        let Some(job) = self.jobs.get_mut(slot as usize) else { return };
        if !self.paused {
            for (permit, mut backlog) in std::mem::take(&mut job.parked) {
                if let Some(due) = backlog.pop_front() {
                    let next = Submission { due, coalesced: 0, on_request: false, backlog };
                    self.start(slot, permit, next, now);
                }
            }
        }
        let job = &mut self.jobs[slot as usize];
        let Some(first) = job.next_fire() else { return };
        if job.due > now {
            self.mark(slot);
            return;
        }
        if self.paused {
            if !job.held {
                job.held = true;
                self.held.push(slot);
                self.mark(slot);
            }
            return;
        }
        let plan = job.schedule().plan(first, now);
        let once = job.once;
        self.advance(slot, plan.last, now);
        self.submit(slot, plan, now);
        if once {
            let job = &mut self.jobs[slot as usize];
            job.next = None;
        }
        self.end_if_over(slot, now);
    }

    /// Goes on to the fire time after `last`.
    fn advance(&mut self, slot: u32, last: DateTime<Utc>, now: DateTime<Utc>) {
        match self.jobs[slot as usize].trigger.next_after(last) {
            Ok(next) => self.set_next(slot, next),
            Err(error) => {
                self.set_next(slot, None);
                let job = &mut self.jobs[slot as usize];
                job.end = Some(End::TriggerFailed(error.clone()));
                let what = What::TriggerFailed { job: job.id.clone(), error };
                self.note(now, what);
            }
        }
    }

    /// Carries a plan out, as far as the semaphore lets it.
    fn submit(&mut self, slot: u32, plan: Plan, now: DateTime<Utc>) {
        let job = &mut self.jobs[slot as usize];
        let Plan { missed, coalesced, run, .. } = plan;
        if let Some(fire_times) = missed {
            self.log.emit(&mut self.out, now, EventKind::Missed, || What::Missed {
                job: job.id.clone(),
                run: None,
                fire_times,
            });
        }
        if let Some((fire_times, into)) = coalesced {
            self.log.emit(&mut self.out, now, EventKind::Coalesced, || What::Coalesced {
                job: job.id.clone(),
                fire_times,
                into,
            });
        }
        let Some((due, backlog)) = run else { return };
        match job.semaphore.try_acquire(job.options.max_instances) {
            Some(permit) => {
                let coalesced = coalesced.map_or(0, |(fire_times, _)| fire_times.count);
                let submission = Submission { due, coalesced, on_request: false, backlog };
                self.start(slot, permit, submission, now);
            }
            None => {
                let fire_times = FireTimes {
                    first: due.fire_time,
                    last: backlog.back().unwrap_or(&due).fire_time,
                    count: 1 + backlog.len() as u64,
                };
                self.skip(slot, fire_times, SkipReason::MaxInstances, now);
            }
        }
    }

    fn start(
        &mut self,
        slot: u32,
        permit: Permit,
        submission: Submission,
        now: DateTime<Utc>,
    ) -> RunId {
        self.run_ids += 1;
        let id = RunId(self.run_ids);
        let job = &mut self.jobs[slot as usize];
        let Submission { due: Due { fire_time, at: due }, coalesced, on_request, backlog } = submission;
        let run_slot = self.runs.insert(Going {
            id,
            job: slot,
            fire_time,
            coalesced,
            on_request,
            cancelled: false,
            permit,
            backlog,
            sibling: job.runs,
        });
        job.runs = Some(run_slot);
        self.log.emit(&mut self.out, now, EventKind::Submitted, || What::Submitted {
            job: job.id.clone(),
            run: id,
            fire_time,
        });
        self.out.starts.push(Start {
            run: RunKey { slot: run_slot, id },
            job: job.id.clone(),
            fire_time,
            due,
            coalesced,
            on_request,
            options: job.options.clone(),
            payload: job.payload.clone(),
        });
        id
    }

    /// Takes a run out of its job's list.
    fn unlink(&mut self, slot: u32, run: usize, sibling: Option<usize>) {
        let job = &mut self.jobs[slot as usize];
        if job.runs == Some(run) {
            job.runs = sibling;
            return;
        }
        let mut at = job.runs;
        while let Some(going) = at.and_then(|at| self.runs.get_mut(at)) {
            if going.sibling == Some(run) {
                going.sibling = sibling;
                return;
            }
            at = going.sibling;
        }
    }

    fn skip(&mut self, slot: u32, fire_times: FireTimes, reason: SkipReason, now: DateTime<Utc>) {
        let job = &self.jobs[slot as usize];
        self.log.emit(&mut self.out, now, EventKind::Skipped, || What::Skipped {
            job: job.id.clone(),
            run: None,
            fire_times,
            reason,
        });
    }

    /// Skips all fire times up to `now` that have no fate yet.
    fn settle(&mut self, slot: u32, reason: SkipReason, now: DateTime<Utc>) {
        let job = &self.jobs[slot as usize];
        let passed = job.next.and_then(|next| job.schedule().passed(next, now));
        if let Some(fire_times) = passed {
            self.skip(slot, fire_times, reason, now);
            self.advance(slot, fire_times.last, now);
        }
    }

    /// Skips the fire times that wait for a run of the job to end.
    fn call_off_waiting(&mut self, slot: u32, reason: SkipReason, now: DateTime<Utc>) {
        let job = &mut self.jobs[slot as usize];
        let mut waiting = Vec::new();
        for (permit, backlog) in std::mem::take(&mut job.parked) {
            job.semaphore.release(permit);
            waiting.push(backlog);
        }
        let mut at = job.runs;
        while let Some(going) = at.and_then(|at| self.runs.get_mut(at)) {
            waiting.push(std::mem::take(&mut going.backlog));
            at = going.sibling;
        }
        for backlog in waiting {
            if let (Some(&first), Some(&last)) = (backlog.front(), backlog.back()) {
                let (first, last) = (first.fire_time, last.fire_time);
                let fire_times = FireTimes { first, last, count: backlog.len() as u64 };
                self.skip(slot, fire_times, reason, now);
            }
        }
    }

    /// Takes a job out of service; it is over when none of its runs is going.
    fn retire(&mut self, slot: u32, end: End, now: DateTime<Utc>) {
        let reason = match end {
            End::ShutDown => SkipReason::Shutdown,
            _ => SkipReason::Removed,
        };
        let paused = self.jobs[slot as usize].paused;
        self.settle(slot, if paused { SkipReason::Paused } else { reason }, now);
        self.call_off_waiting(slot, reason, now);
        let cancel = matches!(end, End::Cancelled | End::Replaced);
        let job = &mut self.jobs[slot as usize];
        job.payload.set_standing(Some(reason));
        job.retired = true;
        if let Entry::Occupied(entry) = self.named.entry(job.id.clone()) {
            entry.remove();
        }
        if !matches!(end, End::ShutDown) {
            self.out.retired.push(job.payload.clone());
            self.log.emit(&mut self.out, now, EventKind::JobRemoved, || What::JobRemoved {
                job: job.id.clone(),
                end: end.clone(),
            });
        }
        job.end = Some(end);
        let mut at = if cancel { job.runs } else { None };
        while let Some((run, going)) = at.and_then(|at| Some((at, self.runs.get_mut(at)?))) {
            if !going.cancelled {
                going.cancelled = true;
                self.out.cancels.push(RunKey { slot: run, id: going.id });
            }
            at = going.sibling;
        }
        self.mark(slot);
        self.end_if_over(slot, now);
    }

    /// Lets go of a job that has neither a fire time nor a run left.
    fn end_if_over(&mut self, slot: u32, now: DateTime<Utc>) {
        let job = &self.jobs[slot as usize];
        if job.semaphore.taken() > 0 || !(job.retired || job.next.is_none()) {
            return;
        }
        self.mark(slot);
        let job = self.jobs.remove(slot as usize);
        let end = job.end.unwrap_or(End::Completed);
        if !job.retired {
            self.named.remove(&job.id);
            let (id, end) = (job.id, end.clone());
            self.log.emit(&mut self.out, now, EventKind::JobRemoved, || What::JobRemoved {
                job: id,
                end,
            });
        }
        self.out.ended.push(Ended { payload: job.payload, end, _trigger: job.trigger });
    }

    fn note_modified(&mut self, slot: u32, now: DateTime<Utc>) {
        let job = &self.jobs[slot as usize];
        self.log.emit(&mut self.out, now, EventKind::JobModified, || What::JobModified {
            job: job.id.clone(),
            next_fire: job.next_fire(),
        });
    }
}

fn kind_of(outcome: &Outcome) -> EventKind {
    match outcome {
        Outcome::Succeeded => EventKind::Executed,
        Outcome::Failed(_) | Outcome::Panicked(_) => EventKind::Failed,
        Outcome::Cancelled => EventKind::Cancelled,
        Outcome::Missed => EventKind::Missed,
        Outcome::Skipped(_) => EventKind::Skipped,
        Outcome::Abandoned => EventKind::Abandoned,
    }
}

/// The event of a run's end.
fn fate_of(run: Run) -> What {
    let fire_times = FireTimes::one(run.fire_time);
    match run.outcome {
        Outcome::Succeeded => What::Executed(run),
        Outcome::Failed(_) | Outcome::Panicked(_) => What::Failed(run),
        Outcome::Cancelled => What::Cancelled(run),
        Outcome::Abandoned => What::Abandoned(run),
        Outcome::Missed => What::Missed { job: run.job, run: Some(run.id), fire_times },
        Outcome::Skipped(reason) => {
            What::Skipped { job: run.job, run: Some(run.id), fire_times, reason }
        }
    }
}

fn shut_down() -> Error {
    Error::shut_down("the scheduler has shut down: make a new one")
}
