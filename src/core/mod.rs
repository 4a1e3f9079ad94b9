//! The decisions: what to do when something happens, told what happened and when.
//!
//! No tokio, no async, no clock, no randomness. The driver and the handles call the verbs below
//! with the current instant; what must be done about it collects in the [`Outbox`], which whoever
//! holds the lock empties. `P` is what the shell keeps with each job (its work and its handles);
//! the core only ever hands it back.

mod decide;
mod fates;
mod limits;
mod runs;
mod semaphore;
mod table;
#[cfg(test)]
mod tests;
mod verbs;

use std::{
    any::Any,
    cmp::Reverse,
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

pub(crate) use self::{decide::refusal, limits::DEFAULT};
use self::{
    decide::{Due, Schedule},
    limits::{Limits, Taken},
    semaphore::{Permit, Semaphore},
    table::Table,
};
use crate::{
    error::Error,
    event::{Event, EventKind, KindSet, What},
    job::{End, JobId, JobOptions, Labels, Made, OnConflict, Outcome, Run, RunId, SkipReason},
    metrics::Metrics,
    trigger::{Kind, Trigger},
};

/// What the shell keeps with a job.
pub(crate) trait Payload: Clone {
    /// Calls off all runs that have not started, or admits them again. A run looks at this when it
    /// would start.
    fn set_standing(&self, standing: Option<SkipReason>);

    /// Whether the job's runs are to be reported.
    fn wants_runs(&self) -> bool;

    /// What its work returns is wanted, since another job follows.
    fn set_followed(&self);
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
    slot: u32,
    pub(crate) id: RunId,
}

/// A job to be added; its trigger is anchored and has said its first fire time.
pub(crate) struct NewJob<P> {
    pub(crate) id: Option<JobId>,
    pub(crate) on_conflict: OnConflict,
    pub(crate) trigger: Trigger,
    /// None if it follows another job.
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
    /// What holds something of the user's, whose code dropping it may run: the lock must be free.
    pub(crate) discarded: Vec<Discarded<P>>,
}

/// Something that is done with.
pub(crate) enum Discarded<P> {
    Trigger(#[expect(dead_code, reason = "it is only dropped")] Trigger),
    Job(#[expect(dead_code, reason = "it is only dropped")] Box<NewJob<P>>),
    Outcome(#[expect(dead_code, reason = "it is only dropped")] Outcome),
    Output(#[expect(dead_code, reason = "it is only dropped")] Output),
    Preceding(#[expect(dead_code, reason = "it is only dropped")] Arc<Preceding>),
}

/// What work returned, for those who follow it.
pub(crate) type Output = Arc<dyn Any + Send + Sync>;

/// The run that another one follows.
#[derive(Debug)]
pub(crate) struct Preceding {
    pub(crate) run: Run,
    pub(crate) output: Option<Output>,
}

/// A run to be started.
pub(crate) struct Start<P> {
    pub(crate) run: RunKey,
    pub(crate) job: JobId,
    pub(crate) fire_time: DateTime<Utc>,
    pub(crate) due: DateTime<Utc>,
    pub(crate) coalesced: u64,
    pub(crate) on_request: bool,
    pub(crate) attempt: u32,
    pub(crate) preceding: Option<Arc<Preceding>>,
    /// Tells which of two jobs was added first.
    pub(crate) incarnation: u64,
    /// None if they are the scheduler's defaults.
    pub(crate) options: Option<Arc<JobOptions>>,
    pub(crate) payload: P,
}

/// A job that is over, none of its runs going.
pub(crate) struct Ended<P> {
    pub(crate) payload: P,
    pub(crate) end: End,
    pub(crate) trigger: Trigger,
}

/// What a run says when it ends.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) ended_at: DateTime<Utc>,
    pub(crate) took: Duration,
    pub(crate) late_by: Duration,
    pub(crate) outcome: Outcome,
    /// What the work returned, if it is wanted.
    pub(crate) output: Option<Output>,
    /// The text of the error, if it is wanted.
    pub(crate) said: Option<Arc<str>>,
    /// How long until the work is to be called again, if it is.
    pub(crate) retry_in: Option<Duration>,
}

impl Finish {
    /// The end of a run whose work was not called, or that is given up.
    pub(crate) fn without_work(outcome: Outcome, ended_at: DateTime<Utc>) -> Finish {
        Finish {
            started_at: None,
            ended_at,
            took: Duration::ZERO,
            late_by: Duration::ZERO,
            outcome,
            output: None,
            said: None,
            retry_in: None,
        }
    }
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
    runs: Table<Going>,
    /// The options of jobs that have none of their own.
    defaults: Arc<JobOptions>,
    named: HashMap<JobId, u32>,
    /// The jobs that follow others, by the ids of those.
    followers: HashMap<JobId, Vec<u32>>,
    limits: Limits,
    metrics: Metrics,
    /// Jobs that came due, or whose backlog was interrupted, while the scheduler was paused.
    held: HashSet<u32>,
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
    trigger: Trigger,
    /// The earliest fire time that has no fate yet, also while the job is paused.
    next: Option<Due>,
    /// None if they are the scheduler's defaults, which many jobs then share at no cost.
    options: Option<Arc<JobOptions>>,
    semaphore: Semaphore,
    /// The newest of its runs, which are linked.
    runs: Option<u32>,
    elapsed: bool,
    once: bool,
    /// Whether it runs after the runs of a job that there is.
    follows: bool,
    paused: bool,
    held: bool,
    dirty: bool,
    /// Whether the driver has a timer for it, as far as it was told.
    armed: bool,
    /// Removed, cancelled, replaced or shut down: only its going runs keep it here.
    retired: bool,
    /// In a box, since few jobs have any of it and all take the room.
    extras: Option<Box<Extras>>,
    payload: P,
}

/// What few jobs have.
#[derive(Default)]
struct Extras {
    /// The id that the user gave.
    id: Option<JobId>,
    labels: Labels,
    /// Backlogs that wait for the scheduler to be resumed, and the permits they keep.
    parked: Vec<(Permit, VecDeque<Due>)>,
    /// What waits in line for a permit.
    queue: VecDeque<Submission>,
    /// When the first of its runs that failed is to be tried again.
    retry_at: Option<DateTime<Utc>>,
    /// Its last runs, the latest last.
    history: VecDeque<Run>,
    /// How the job will have ended when its last run ends, if not as completed.
    end: Option<End>,
}

/// A run that has not ended.
struct Going {
    id: RunId,
    job: u32,
    due: Due,
    coalesced: u64,
    on_request: bool,
    /// Counts the calls of the work from 1.
    attempt: u32,
    phase: Phase,
    cancelled: bool,
    permit: Permit,
    /// What it has of the limits beyond its permit.
    taken: Taken,
    /// The options that it was started with.
    options: Option<Arc<JobOptions>>,
    /// Fire times that run after this one, under its permit.
    backlog: VecDeque<Due>,
    preceding: Option<Arc<Preceding>>,
    /// How the last attempt ended, if it is not the first.
    last: Option<Box<Finish>>,
    /// The next older and the next newer run of the same job.
    older: Option<u32>,
    newer: Option<u32>,
}

/// How far a run has come.
#[derive(Clone, Copy)]
enum Phase {
    /// A limit keeps it from being started.
    Waiting {
        limit: u32,
        priority: i32,
    },
    Started,
    /// It failed, and is tried again then.
    BackingOff(DateTime<Utc>),
}

/// What a run is to be for.
struct Submission {
    /// Its number, if somebody was told already.
    id: Option<RunId>,
    due: Due,
    coalesced: u64,
    on_request: bool,
    backlog: VecDeque<Due>,
    preceding: Option<Arc<Preceding>>,
}

impl Submission {
    fn of(due: Due) -> Submission {
        let backlog = VecDeque::new();
        Submission { id: None, due, coalesced: 0, on_request: false, backlog, preceding: None }
    }
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

impl Extras {
    /// All fire times that wait.
    fn waiting(&mut self) -> impl Iterator<Item = &mut Due> {
        let parked = self.parked.iter_mut().flat_map(|(_, backlog)| backlog);
        let queue = self.queue.iter_mut().filter(|queued| !queued.on_request);
        parked.chain(
            queue.flat_map(|queued| std::iter::once(&mut queued.due).chain(&mut queued.backlog)),
        )
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
            discarded: Vec::new(),
        }
    }

    fn discard(&mut self, finish: Finish) {
        self.discard_outcome(finish.outcome);
        self.discarded.extend(finish.output.map(Discarded::Output));
    }

    fn discard_outcome(&mut self, outcome: Outcome) {
        if let Outcome::Failed(_) = outcome {
            self.discarded.push(Discarded::Outcome(outcome));
        }
    }
}

impl<P> Job<P> {
    fn key(&self, slot: u32) -> JobKey {
        JobKey { slot, incarnation: self.incarnation }
    }

    /// The id that the user gave it.
    fn given_id(&self) -> Option<&JobId> {
        self.extras.as_ref()?.id.as_ref()
    }

    /// Its id: the user's, or one made of where the job is.
    fn id(&self, scheduler: u32, slot: u32) -> JobId {
        let made = Made { scheduler, slot, incarnation: self.incarnation };
        self.given_id().cloned().unwrap_or_else(|| JobId::made(made))
    }

    fn options<'a>(&'a self, defaults: &'a Arc<JobOptions>) -> &'a Arc<JobOptions> {
        self.options.as_ref().unwrap_or(defaults)
    }

    fn labels(&self) -> Option<&Labels> {
        self.extras.as_ref().map(|extras| &extras.labels)
    }

    fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    fn take_parked(&mut self) -> Vec<(Permit, VecDeque<Due>)> {
        self.extras.as_mut().map(|extras| std::mem::take(&mut extras.parked)).unwrap_or_default()
    }

    /// The next fire time, as seen from outside.
    fn next_fire(&self) -> Option<DateTime<Utc>> {
        self.awaited().map(|next| next.fire_time)
    }

    /// The next fire time, unless it doesn't count now.
    fn awaited(&self) -> Option<Due> {
        self.next.filter(|_| !self.paused && !self.retired)
    }

    /// When the driver is to look at the job, if it is.
    fn wake_at(&self) -> Option<DateTime<Utc>> {
        let next = self.awaited().filter(|_| !self.held).map(|next| next.at);
        let retry = self.extras.as_ref().and_then(|extras| extras.retry_at);
        [next, retry].into_iter().flatten().min()
    }

    fn is_queue_empty(&self) -> bool {
        self.extras.as_ref().is_none_or(|extras| extras.queue.is_empty())
    }

    /// Keeps a run for the job's history, unless that ends with it.
    fn remember(&mut self, run: &Run, said: Option<&Arc<str>>, defaults: &Arc<JobOptions>) {
        let kept = self.options(defaults).history as usize;
        let is_last = self.next.is_none() && !self.follows && self.semaphore.taken() == 1;
        if kept == 0 || (is_last && self.is_queue_empty()) {
            return;
        }
        let history = &mut self.extras().history;
        while history.len() >= kept {
            history.pop_front();
        }
        let outcome = match (&run.outcome, said) {
            // Not the error itself: that may be large, and dropping it is the user's code.
            (Outcome::Failed(_), said) => Outcome::said(said.map_or("", |said| said)),
            (outcome, _) => outcome.clone(),
        };
        history.push_back(Run { outcome, ..run.clone() });
    }
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
    pub(crate) fn new(scheduler: u32, defaults: Arc<JobOptions>, paused: bool) -> Core<P> {
        Core {
            jobs: Table::new(),
            runs: Table::new(),
            defaults,
            named: HashMap::new(),
            followers: HashMap::new(),
            limits: Limits::new(),
            metrics: Metrics::default(),
            held: HashSet::new(),
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
        slots.sort_by_cached_key(|&slot| {
            let job = self.jobs.get(slot)?;
            Some((job.next_fire(), Reverse(job.options(&self.defaults).priority), job.incarnation))
        });
    }

    /// The wall clock stepped by so much against elapsed time.
    pub(crate) fn clock_stepped(&mut self, by: TimeDelta, now: DateTime<Utc>) {
        for slot in self.live_slots() {
            self.shift_retries(slot, by);
            let job = &mut self.jobs[slot];
            if job.elapsed {
                // As long until each of them as before the step, and as much of their jitter.
                job.trigger.shift(by);
                let combined = matches!(job.trigger.kind(), Kind::And(_) | Kind::Or(_));
                if let Some(next) = job.next.filter(|next| combined && next.fire_time > now) {
                    // Some of its members moved and some did not. Nothing may fire twice, so after
                    // a step back it goes on where it was.
                    let from = now.max(now.checked_sub_signed(by).unwrap_or(now));
                    let first = job.trigger.first(from).ok().flatten();
                    let schedule = Schedule::of(job, slot, &self.defaults, self.scheduler);
                    job.next = Some(first.map_or(next, |first| schedule.due(first)));
                    self.mark(slot);
                    continue;
                }
                if let Some(next) = &mut job.next {
                    next.shift(by);
                }
                for due in job.extras.iter_mut().flat_map(|extras| extras.waiting()) {
                    due.shift(by);
                }
                for run in self.runs_of(slot) {
                    self.runs[run].backlog.iter_mut().for_each(|due| due.shift(by));
                }
            }
            self.mark(slot);
        }
        self.note(now, What::ClockStepped { by });
    }

    /// How long until a run is tried again is elapsed time.
    fn shift_retries(&mut self, slot: u32, by: TimeDelta) {
        let extras = self.jobs[slot].extras.as_mut();
        let Some(retry_at) = extras.and_then(|extras| extras.retry_at.as_mut()) else { return };
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
        let mut grace = Duration::ZERO;
        let going: Vec<RunKey> = self.going().collect();
        for key in going {
            let run = &mut self.runs[key.slot];
            if !run.cancelled && !spared.contains(&key) {
                run.cancelled = true;
                self.out.cancels.push(key);
            }
            if let Some(job) = self.jobs.get(run.job) {
                grace = grace.max(job.options(&self.defaults).cancel_grace);
            }
        }
        grace
    }

    // The scheduler.

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether the options are possible that jobs have by default.
    pub(crate) fn check_defaults(&mut self) -> Result<(), Error> {
        self.limits.check(&self.defaults)?;
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
        self.note(now, What::ExecutorAdded { name });
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
        self.note(now, What::ExecutorRemoved { name });
        Ok(())
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
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
            for slot in std::mem::take(&mut self.held) {
                if let Some(job) = self.jobs.get_mut(slot) {
                    job.held = false;
                    self.mark(slot);
                    self.unpark(slot, now);
                    self.serve_queue(slot, now);
                    self.end_if_over(slot, now);
                }
            }
            for limit in self.limits.waited_for() {
                self.serve(limit);
            }
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

    /// The id of the job in this slot.
    fn id(&self, slot: u32) -> JobId {
        self.jobs[slot].id(self.scheduler, slot)
    }

    fn schedule(&self, slot: u32) -> Schedule<'_> {
        Schedule::of(&self.jobs[slot], slot, &self.defaults, self.scheduler)
    }

    fn live_slots(&self) -> Vec<u32> {
        let live = self.jobs.iter().filter(|(_, job)| !job.retired);
        live.map(|(slot, _)| slot).collect()
    }
}

impl<'a> Schedule<'a> {
    fn of<P>(
        job: &'a Job<P>,
        slot: u32,
        defaults: &'a Arc<JobOptions>,
        scheduler: u32,
    ) -> Schedule<'a> {
        Schedule {
            trigger: &job.trigger,
            options: job.options(defaults),
            seed: match job.options(defaults).jitter.is_zero() {
                true => 0,
                false => job.id(scheduler, slot).stable_hash(),
            },
            once: job.once,
        }
    }
}

fn shut_down() -> Error {
    Error::shut_down("the scheduler has shut down: make a new one")
}
