//! The decisions: what to do when something happens, told what happened and when.
//!
//! No tokio, no async, no clock, no randomness. The driver and the handles call the verbs below
//! with the current instant; what must be done about it collects in the [`Outbox`], which whoever
//! holds the lock empties. `P` is what the shell keeps with each job (its work and its handles);
//! the core only ever hands it back.

pub(crate) mod change;
mod durable;
mod effects;
mod fates;
mod machine;
mod node;
mod registry;
mod room;
mod runs;
mod schedule;
#[cfg(test)]
mod tests;
mod verbs;

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

pub use self::machine::ShutdownReport;
pub(crate) use self::{
    change::{Author, Change},
    durable::StoreKey,
    effects::{Discarded, Ended, Outbox, Start},
    machine::{
        Addition, Attempt, Course, Ending, FAREWELL, FIRST_RETRY, FOREVER, Handles, Inbox, KEPT,
        Known, LAST_WAIT, LONGEST_RETRY, Machine, RETRIES, Step, Timer, Turn, Update, Updated,
        Urgency, modified, next_fire_of,
    },
    node::{CanRun, Lease, NodeOptions, Reply, Request, claimer, closer, membership, pruner},
    registry::{Declaration, PAGE},
    runs::{Preceding, RunKey, RunResult},
    schedule::{Candidate, Definition, Own, Verdict, mix, run_id},
};
use self::{
    durable::Stores,
    effects::Effects,
    registry::{
        ended::Past,
        followers::Followers,
        job::{Extras, Job},
        table::Table,
    },
    runs::{ActiveRun, Phase, Submission, limits::Limits},
    schedule::{ahead, correct, decide, decide::Planner},
};
use crate::{
    clock::Reading,
    error::Error,
    event::{EventPayload, KindSet},
    job::{End, JobId, JobOptions, Labels, OnConflict, SkipReason},
    metrics::Metrics,
    trigger::Trigger,
    zone::TimeZoneData,
};

/// What the shell keeps with a job.
pub(crate) trait Payload: Clone {
    /// Calls off all runs that have not started, or admits them again. A run looks at this when it
    /// would start.
    fn set_standing(&self, standing: Option<SkipReason>);

    /// Whether the job's runs are to be reported.
    fn wants_runs(&self) -> bool;

    /// What its work returns is wanted, since another job follows.
    fn want_output(&self);

    /// The task that its work is has other arguments, by this version of the job's record.
    fn set_args(&self, version: u64, args: &str);

    /// Whether the job was cancelled by its token.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Whether a handle may ask for the job's history when the job is over.
    fn has_handle(&self) -> bool {
        false
    }

    /// That of the same job with the work of another.
    fn rework(&self, new: Self) -> Self;

    /// Has those who wait for runs of a job that was not added wait for those of this one.
    fn take_over(&self, new: &Self);

    /// Whether both are the very same.
    fn is(&self, other: &Self) -> bool;
}

/// Where a job is to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    Store(StoreKey),
}

/// One incarnation of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct JobKey {
    slot: u32,
    incarnation: u64,
}

/// A job to be added; its trigger is anchored and has said its first fire time.
pub(crate) struct NewJob<P> {
    pub(crate) id: Option<JobId>,
    pub(crate) on_conflict: OnConflict,
    pub(crate) trigger: Trigger,
    /// What it is declared as, if it is to be kept or reconciled.
    pub(crate) declared: Option<Box<Declaration>>,
    /// None if it follows another job, or has no fire time left.
    pub(crate) first: Option<DateTime<Utc>>,
    /// Whether its fire times are elapsed time, and so move with a step of the clock.
    pub(crate) elapsed: bool,
    /// Whether its work can run only once.
    pub(crate) once: bool,
    pub(crate) paused: bool,
    /// None if they are the scheduler's defaults.
    pub(crate) options: Option<Arc<JobOptions>>,
    pub(crate) labels: Option<Box<Labels>>,
    pub(crate) payload: P,
}

/// A job that is there now.
pub(crate) struct Added<P> {
    pub(crate) key: JobKey,
    pub(crate) id: JobId,
    pub(crate) payload: P,
}

/// What of a job can be modified, and what must agree to it.
pub(crate) struct Settings<P> {
    pub(crate) options: Arc<JobOptions>,
    pub(crate) labels: Labels,
    pub(crate) payload: P,
}

/// What [`Core::list`] looks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) name: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) paused: Option<bool>,
}

pub(crate) struct Core<P> {
    jobs: Table<Job<P>>,
    runs: Table<ActiveRun>,
    /// The options of jobs that have none of their own.
    defaults: Arc<JobOptions>,
    named: HashMap<JobId, u32>,
    /// Ids of jobs that are about to be added, where to, and how often.
    reserved: HashMap<JobId, (Place, u32)>,
    followers: Followers,
    stores: Stores,
    /// What the clocks said when it was last told something.
    reading: Reading,
    /// A step back by more is a correction.
    correction: TimeDelta,
    limits: Limits,
    past: Past,
    metrics: Metrics,
    /// Jobs that came due, or whose backlog was interrupted, while the scheduler was paused.
    deferred_jobs: HashSet<u32>,
    /// Tells the ids made here from those of other schedulers.
    scheduler: u32,
    incarnations: u64,
    run_ids: u64,
    paused: bool,
    closed: bool,
    /// Whether all jobs are about to go.
    retiring_all: bool,
    effects: Effects<P>,
}

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

impl<P: Payload> Core<P> {
    /// `scheduler` is a number that tells this one's ids from those of others.
    pub(crate) fn new(
        scheduler: u32,
        defaults: Arc<JobOptions>,
        paused: bool,
        reading: Reading,
    ) -> Core<P> {
        Core {
            jobs: Table::new(),
            runs: Table::new(),
            defaults,
            named: HashMap::new(),
            reserved: HashMap::new(),
            followers: Followers::default(),
            stores: Stores::default(),
            reading,
            correction: TimeDelta::MAX,
            retiring_all: false,
            limits: Limits::new(),
            past: Past::default(),
            metrics: Metrics::default(),
            deferred_jobs: HashSet::new(),
            scheduler,
            incarnations: 0,
            run_ids: 0,
            paused,
            closed: false,
            effects: Effects::new(),
        }
    }

    /// What the shell must do: it drains this after each call, and before it lets the lock go.
    pub(crate) fn outbox(&mut self) -> &mut Outbox<P> {
        self.effects.outbox()
    }

    /// What the shell has yet to do.
    pub(crate) fn pending_effects(&self) -> &Outbox<P> {
        self.effects.pending()
    }

    /// Sets which kinds of events are made.
    pub(crate) fn observe(&mut self, kinds: KindSet) {
        self.effects.observe(kinds);
    }

    /// Notes what happened to a job of this store, or to the store.
    pub(crate) fn note_in(&mut self, store: StoreKey, now: DateTime<Utc>, payload: EventPayload) {
        let name = || self.stores.name(Some(store));
        self.effects.emit_in(now, payload.kind(), name, || payload);
    }

    pub(crate) fn note(&mut self, now: DateTime<Utc>, payload: EventPayload) {
        self.effects.emit(now, payload.kind(), || payload);
    }

    // Time.

    /// When the job in this slot must be looked at, if it must.
    pub(crate) fn wake_at(&mut self, slot: u32) -> Option<DateTime<Utc>> {
        let job = self.jobs.get_mut(slot)?;
        job.dirty = false;
        let wake_at = job.wake_at();
        job.armed = wake_at.is_some();
        wake_at
    }

    /// Puts slots in the order in which their jobs start: of fire time, then priority, then the
    /// order of adding.
    pub(crate) fn sort(&self, slots: &mut [u32]) {
        let mut keyed: Vec<_> = slots
            .iter()
            .map(|&slot| match self.jobs.get(slot) {
                Some(job) => {
                    let fire_time = job.next_fire().map_or(i64::MAX, |t| t.timestamp_millis());
                    let priority = job.options(&self.defaults).priority;
                    (fire_time, Reverse(priority), job.incarnation, slot)
                }
                None => (i64::MAX, Reverse(0), 0, slot),
            })
            .collect();
        keyed.sort_unstable();
        for (slot, (.., sorted)) in slots.iter_mut().zip(keyed) {
            *slot = sorted;
        }
    }

    /// Sets by how much the wall clock may step back for jobs to wait until it has caught up.
    pub(crate) fn correct_clocks_after(&mut self, longest: TimeDelta) {
        self.correction = longest;
    }

    /// The wall clock stepped by so much against elapsed time.
    pub(crate) fn clock_stepped(&mut self, by: TimeDelta, now: DateTime<Utc>) {
        // Durable jobs go by their store's clock, which need not have moved.
        for store in self.stores.keys() {
            if let Some(node) = self.stores.node_mut(store) {
                let moved = node.clock_stepped(by);
                self.shift_claims(store, -moved);
            }
        }
        self.effects.poll_stores();
        let corrected = -by > self.correction;
        for slot in self.live_slots() {
            self.shift_retries(slot, by);
            // One that ended may have taken its followers along.
            let Some(job) = self.jobs.get_mut(slot) else { continue };
            if job.elapsed {
                let next = job.next.filter(|_| !job.trigger.moves_as_a_whole());
                let left = next.and_then(|next| job.trigger.left(next.fire_time));
                // As long until each of them as before the step, and as much of their jitter.
                job.trigger.shift(by);
                let before = now.checked_sub_signed(by).unwrap_or(now);
                if let Some(next) = next.filter(|next| next.fire_time > now.min(before)) {
                    // Some of its members moved and some did not. Nothing may fire twice, so after
                    // a step back it goes on where it was, unless that was a correction. What a step
                    // forward has passed is due.
                    let from = match corrected {
                        true => now,
                        false => before.max(next.fire_time.min(now)),
                    };
                    if corrected {
                        job.trigger.correct_members(next.fire_time, now);
                    }
                    let first = job.trigger.go_on(left, from).ok().flatten();
                    let planner = Planner::of(job, slot, &self.defaults, self.scheduler);
                    job.next = Some(first.map_or(next, |first| planner.due(first)));
                    self.mark(slot);
                    continue;
                }
                if let Some(next) = &mut job.next {
                    next.shift(by);
                }
                // The end is an instant, and stays.
                let end = job.trigger.end();
                let is_past_end =
                    job.next.is_some_and(|next| end.is_some_and(|end| next.fire_time > end));
                if is_past_end {
                    job.next = None;
                }
                for due in job.extras.iter_mut().flat_map(|extras| extras.waiting()) {
                    due.shift(by);
                }
                for run in self.runs_of(slot) {
                    self.runs[run].backlog.iter_mut().for_each(|due| due.shift(by));
                    self.shift_waiting(run, by);
                }
                if is_past_end {
                    self.mark(slot);
                    self.end_if_over(slot, now);
                    continue;
                }
            } else if corrected && !job.is_durable() {
                self.correct_next(slot, by, now);
            }
            self.mark(slot);
        }
        self.note(now, EventPayload::ClockStepped { by, corrected });
    }

    /// A job that follows the wall clock goes on from now, although it has fired at later instants: they
    /// were none. What fires so many times in all has as many fire times left as before.
    fn correct_next(&mut self, slot: u32, by: TimeDelta, now: DateTime<Utc>) {
        let job = &mut self.jobs[slot];
        for carried in job.carried_mut() {
            // Its jitter is as long as before.
            carried.at = carried.at.checked_add_signed(by).unwrap_or(now);
        }
        let Some(next) = job.next.filter(|next| next.fire_time > now) else { return };
        let before = now.checked_sub_signed(by).unwrap_or(now);
        // It waits for its jitter or for the scheduler to be resumed.
        let has_come = next.fire_time <= before;
        let used = TimeDelta::milliseconds(i64::from(has_come));
        let used_to = next.fire_time.checked_add_signed(used).unwrap_or(next.fire_time);
        let first = match job.trigger.corrected(used_to, now) {
            Ok(None) if has_come => job.trigger.next_after(next.fire_time).ok().flatten(),
            Ok(Some(first)) => Some(first),
            _ => return,
        };
        if has_come {
            job.carry(decide::Due { at: next.at.checked_add_signed(by).unwrap_or(now), ..next });
        }
        self.set_next(slot, first);
    }

    /// The rules of time zones have changed: what is to come goes by the new ones. What is due already,
    /// or has been claimed, does not.
    pub(crate) fn time_zones_updated(&mut self, data: TimeZoneData, now: DateTime<Utc>) {
        for slot in self.live_slots() {
            // One that ended may have taken its followers along.
            let Some(job) = self.jobs.get_mut(slot).filter(|job| !job.is_durable()) else {
                continue;
            };
            job.trigger.recount();
            let Some(next) = job.next.filter(|next| next.fire_time > now) else { continue };
            if let Some(next) = correct::rezoned(&job.trigger, next.fire_time, now).transpose() {
                self.go_on(slot, next, now);
                self.end_if_over(slot, now);
            }
        }
        for room in self.stores.iter_mut() {
            room.node.search_for_corrections();
            self.effects.poll_stores();
        }
        self.note(now, EventPayload::TimeZonesUpdated { data });
    }

    /// How long until a run is tried again, or asked for again, is elapsed time.
    fn shift_retries(&mut self, slot: u32, by: TimeDelta) {
        let Some(extras) = &mut self.jobs[slot].extras else { return };
        if let Some(again) = &mut extras.again {
            *again = again.checked_add_signed(by).unwrap_or(*again);
        }
        let Some(retry_at) = &mut extras.retry_at else { return };
        *retry_at = retry_at.checked_add_signed(by).unwrap_or(*retry_at);
        for run in self.runs_of(slot) {
            if let Phase::BackingOff(at) = &mut self.runs[run].phase {
                *at = at.checked_add_signed(by).unwrap_or(*at);
            }
        }
    }

    /// Has the driver look at every job's wake-up: the clock was moved.
    pub(crate) fn rearm_all(&mut self) {
        for slot in self.live_slots() {
            self.mark(slot);
        }
    }

    // Runs.

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
        let going = self.going().collect();
        self.cancel_going(going, spared)
    }

    fn cancel_going(&mut self, going: Vec<RunKey>, spared: &[RunKey]) -> Duration {
        let mut grace = Duration::ZERO;
        for key in going {
            let run = &mut self.runs[key.slot];
            if !run.cancelled && !spared.contains(&key) {
                run.cancelled = true;
                self.effects.cancel(key);
            }
            let options = run.options.as_ref().unwrap_or(&self.defaults);
            grace = grace.max(options.cancel_grace);
        }
        grace
    }

    // The scheduler.

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether the options are possible that jobs have by default.
    pub(crate) fn check_defaults(&mut self) -> Result<(), Error> {
        self.limits.check(&self.defaults, None)?;
        self.limits.join(&self.defaults);
        Ok(())
    }

    /// Adds an executor for so many runs at once, or any number.
    pub(crate) fn add_executor(
        &mut self,
        name: Arc<str>,
        max: Option<u32>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if self.closed {
            return Err(shut_down());
        }
        self.limits.add_executor(name.clone(), max)?;
        self.note(now, EventPayload::ExecutorAdded { name });
        // Jobs that name it could not be run here until now.
        self.look_at_all();
        Ok(())
    }

    pub(crate) fn remove_executor(
        &mut self,
        name: Arc<str>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if self.closed {
            return Err(shut_down());
        }
        self.limits.remove_executor(&name)?;
        self.note(now, EventPayload::ExecutorRemoved { name });
        Ok(())
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How many jobs there are in memory, those included that are held for a store.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// How many of them are in memory alone.
    pub(crate) fn volatile(&self) -> usize {
        self.jobs.len() - self.stores.iter().map(|room| room.claims.len()).sum::<usize>()
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
            self.note(now, EventPayload::Paused);
            self.release_unstarted(now);
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
            self.note(now, EventPayload::Resumed);
            self.look_at_all();
            let first_start = self.effects.start_count();
            // Who has waited longest for a limit comes before who has not begun to.
            for limit in self.limits.waited_for() {
                self.serve(limit);
            }
            let mut deferred: Vec<u32> =
                std::mem::take(&mut self.deferred_jobs).into_iter().collect();
            deferred.sort_by_key(|&slot| self.jobs.get(slot).map(|job| job.incarnation));
            for slot in deferred {
                if let Some(job) = self.jobs.get_mut(slot) {
                    job.deferred = false;
                    self.mark(slot);
                    self.resume_backlogs(slot, now);
                    self.serve_queue(slot, now);
                    self.end_if_over(slot, now);
                }
            }
            self.effects.sort_starts(first_start, &self.defaults);
        }
        Ok(())
    }

    /// Starts nothing from here on; jobs end as soon as none of their runs is going.
    pub(crate) fn close(&mut self, now: DateTime<Utc>) {
        if !self.closed {
            self.closed = true;
            self.retire_all(&End::ShutDown, now);
            self.deregister_idle_nodes();
        }
    }

    /// The id of the job in this slot.
    fn id(&self, slot: u32) -> JobId {
        self.jobs[slot].id(self.scheduler, slot)
    }

    fn planner(&self, slot: u32) -> Planner<'_> {
        Planner::of(&self.jobs[slot], slot, &self.defaults, self.scheduler)
    }

    fn live_slots(&self) -> Vec<u32> {
        let live = self.jobs.iter().filter(|(_, job)| !job.retired);
        live.map(|(slot, _)| slot).collect()
    }
}

fn shut_down() -> Error {
    Error::shut_down("the scheduler has shut down: make a new one")
}
