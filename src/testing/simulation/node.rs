//! A simulated node: the machine of a scheduler, on simulated clocks.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

use super::{
    agenda::{Happening, Outside},
    clocks::{AGREEMENT, Clocks, Micros},
    log::How,
    scenario::{MILLI, Scenario, micros_of},
};
use crate::{
    clock::Reading,
    core::{
        Attempt, CanRun, Core, Course, Definition, Ending, Handles, Inbox, Known, Lease, Machine,
        NodeOptions, Payload, Reply, Request, RunKey, RunResult, Start, StoreKey, Timer, Turn,
        Urgency, membership, run_id,
    },
    error::Error,
    event::KindSet,
    job::{JobOptions, Outcome, SkipReason},
    ledger::{Incarnation, Keep, Record, RowKey, RowKind, StoreChange, StoreError},
};

/// The payload of a job.
#[derive(Clone)]
pub(super) struct Work(Rc<Kept>);

struct Kept {
    incarnation: Incarnation,
    standing: Cell<Option<SkipReason>>,
}

impl Work {
    pub(super) fn of(incarnation: Incarnation) -> Work {
        Work(Rc::new(Kept { incarnation, standing: Cell::new(None) }))
    }
}

impl Payload for Work {
    fn set_standing(&self, standing: Option<SkipReason>) {
        self.0.standing.set(standing);
    }

    fn wants_runs(&self) -> bool {
        false
    }

    fn want_output(&self) {}

    fn set_args(&self, _: u64, _: &str) {}

    fn rework(&self, _: Work) -> Work {
        self.clone()
    }

    fn take_over(&self, _: &Work) {}

    fn is(&self, _: &Work) -> bool {
        true
    }
}

/// A caller that has received a job keeps its handle to the end.
impl Handles for Work {
    fn is_wanted(&self) -> bool {
        true
    }
}

/// A run that was handed over or is active.
struct Running {
    number: u64,
    attempt: Attempt<Work>,
    /// The uncertainty of the node's estimate of the store's time at the handover.
    uncertainty: Micros,
    begun: Option<Begun>,
}

/// A run whose work was called.
struct Begun {
    /// The elapsed time at the call.
    called_at: Micros,
    outcome: Outcome,
    obeys: bool,
    cancelled: bool,
}

/// A program on a machine: the machine of the scheduler, and the state of the driver.
pub(super) struct Node {
    machine: Machine<Work>,
    inbox: Inbox,
    pub(super) store: StoreKey,
    pub(super) clocks: Clocks,
    lease: Arc<Lease>,
    /// When jobs wake, in elapsed time.
    timers: BTreeMap<u32, Micros>,
    node_timer: Option<Micros>,
    /// A deadline of the shutdown.
    patient_until: Option<Micros>,
    /// When timers are checked next.
    wakes_at: Option<Micros>,
    turn: Turn<Work>,
    /// Whether a turn of the loop is scheduled.
    awake: bool,
    runs: BTreeMap<u64, Running>,
    numbers: u64,
    /// The requests without a reply, and the clocks at their sending.
    waiting: BTreeMap<u64, (Request, Reading)>,
    /// The uncertainty of the estimate of the store's time, and when it was measured, in elapsed
    /// time.
    uncertainty: Option<(Micros, Micros)>,
    /// Whether the machine was suspended, or the store's clock has stepped, possibly unnoticed.
    lost_time: bool,
    known: Known<Work>,
}

/// The tasks of the simulation: all nodes know `common`, some know `rare`.
pub(super) const TASKS: [&str; 2] = ["common", "rare"];

/// The tag of jobs that only newer programs can read. These know all tasks.
pub(super) const NEWER: &str = "newer";

/// The arguments that no program can read.
pub(super) const UNREADABLE: &str = "unreadable";

/// The prefix of the ids of jobs whose work kills its process.
pub(super) const DEADLY: &str = "deadly";

impl Node {
    pub(super) fn new(outside: &mut Outside<'_>, clocks: Clocks, knows_all: bool) -> Node {
        let Scenario { lease, claim_ahead, poll, max_batch, .. } = *outside.scenario;
        let reading = clocks.read(outside.now());
        let mut core = Core::new(1, Arc::default(), false, reading);
        if outside.log.is_tracing() {
            core.observe(KindSet::ALL);
        }
        let life = outside.life;
        let options = NodeOptions {
            name: format!("node {}.{}", life.host, life.life).into(),
            lease,
            claim_ahead,
            poll: Some(poll),
            keep: Keep {
                rows: u32::MAX,
                age: Duration::from_secs(1 << 30),
                ended: Duration::from_secs(1 << 30),
                total: u64::MAX,
            },
            correction: TimeDelta::hours(3),
            max_batch,
            max_bytes: usize::MAX,
            notifies: outside.scenario.notified,
            has_clock: !outside.scenario.clockless,
            seed: outside.chance.number(),
        };
        let tasks: HashSet<String> =
            TASKS[..if knows_all { 2 } else { 1 }].iter().map(|&task| task.to_owned()).collect();
        let can_run: CanRun = Arc::new(move |record: &Record, _: &Definition| {
            let newer = record.tags.iter().any(|tag| tag == NEWER);
            if record.args == UNREADABLE || newer && !knows_all {
                Err(Error::unreadable("it is of a later version"))
            } else {
                Ok(())
            }
        });
        let (store, lease) = core.join("default".into(), options, tasks, can_run);
        let mut node = Node {
            machine: Machine::new(core, reading),
            inbox: Inbox::default(),
            store,
            clocks,
            lease,
            timers: BTreeMap::new(),
            node_timer: None,
            patient_until: None,
            wakes_at: None,
            turn: Turn::new(),
            awake: false,
            runs: BTreeMap::new(),
            numbers: 0,
            waiting: BTreeMap::new(),
            uncertainty: outside.scenario.clockless.then_some((AGREEMENT, 0)),
            lost_time: false,
            known: Known::default(),
        };
        node.wake(outside);
        outside.after(1_000 * MILLI, Happening::Watch);
        node
    }

    /// Runs `f` on the core at an instant, and carries out the effects.
    pub(super) fn transact<T>(
        &mut self,
        outside: &mut Outside<'_>,
        f: impl FnOnce(&mut Core<Work>, DateTime<Utc>) -> T,
    ) -> T {
        self.with(outside, |machine, now| f(&mut machine.core, now))
    }

    /// Has the machine read the clock.
    pub(super) fn catch_up(&mut self, outside: &mut Outside<'_>) {
        self.with(outside, |_, _| ());
    }

    fn with<T>(
        &mut self,
        outside: &mut Outside<'_>,
        f: impl FnOnce(&mut Machine<Work>, DateTime<Utc>) -> T,
    ) -> T {
        let reading = self.clocks.read(outside.now());
        let mut ended = Vec::new();
        self.inbox.take(&mut ended);
        let result = self.machine.transact(reading, &mut ended, f);
        self.drain_outbox(outside);
        result
    }

    /// Drains the outbox, except for the effects that the loop carries out.
    fn drain_outbox(&mut self, outside: &mut Outside<'_>) {
        let wakes = self.machine.wakes_loop(false);
        let out = self.machine.core.outbox();
        for event in out.events.drain(..) {
            outside
                .log
                .trace(outside.agenda.now, || format!("{:?}    {:?}", outside.life, event.payload));
        }
        out.concluded.clear();
        out.reports.clear();
        out.retired.clear();
        out.ended.clear();
        out.discarded.clear();
        for (_, incarnation, _) in out.over.drain(..) {
            self.known.remove(incarnation);
        }
        let cancels = std::mem::take(&mut out.cancels);
        for run in cancels {
            self.cancel(run, outside);
        }
        if wakes {
            self.wake(outside);
        }
    }

    /// Schedules a turn of the loop.
    fn wake(&mut self, outside: &mut Outside<'_>) {
        if !std::mem::replace(&mut self.awake, true) {
            let delay = moment(outside);
            outside.after(delay, Happening::Turn);
        }
    }

    /// Takes turns of the loop until it waits. Returns whether the last turn was the final one.
    pub(super) fn turn(&mut self, outside: &mut Outside<'_>) -> bool {
        let mut turn = std::mem::replace(&mut self.turn, Turn::new());
        self.awake = true;
        loop {
            let elapsed = self.elapsed(outside);
            self.with(outside, |machine, now| machine.turn(elapsed, now, &mut turn));
            self.carry_out(&mut turn, elapsed, outside);
            if let Course::Ends(_) = turn.course {
                return true;
            }
            if !turn.fires {
                break;
            }
            self.with(outside, |machine, now| machine.fire(now, &mut turn));
            self.launch(&mut turn, outside);
        }
        self.awake = false;
        self.turn = turn;
        if self.machine.has_work() {
            self.wake(outside);
        }
        self.set_timers(outside);
        false
    }

    fn carry_out(&mut self, turn: &mut Turn<Work>, elapsed: TimeDelta, outside: &mut Outside<'_>) {
        self.launch(turn, outside);
        let wall = self.clocks.read(outside.now()).wall;
        let elapsed = micros_in(elapsed);
        for (slot, timer) in turn.timers.drain(..) {
            match timer {
                Timer::At(at) => {
                    self.timers.insert(slot, elapsed + tick(micros_in(at - wall)));
                }
                Timer::Due | Timer::Gone => {
                    self.timers.remove(&slot);
                }
            }
        }
        outside.requests.extend(turn.requests.drain(..).map(|(_, request)| request));
        let sends = turn.sends_in.map(|wait| elapsed + tick(micros_of(wait)));
        self.node_timer =
            [sends, turn.acknowledge_until.map(micros_in)].into_iter().flatten().min();
        self.patient_until = turn.patient_until.map(micros_in);
    }

    fn set_timers(&mut self, outside: &mut Outside<'_>) {
        let timers = self.timers.values().copied();
        let first = timers.chain(self.node_timer).chain(self.patient_until).min();
        let Some(at) = first.map(|first| self.clocks.reaches(first) + 1) else { return };
        let at = at.max(outside.now() + 1);
        if self.wakes_at.is_none_or(|wakes_at| at < wakes_at) {
            self.wakes_at = Some(at);
            outside.at(at, Happening::Timers);
        }
    }

    /// Handles expired timers.
    pub(super) fn expire(&mut self, outside: &mut Outside<'_>) -> bool {
        if self.wakes_at.is_none_or(|wakes_at| wakes_at > outside.now()) {
            return false;
        }
        self.wakes_at = None;
        let now = self.clocks.elapsed(outside.now());
        let expired = self.timers.iter().filter(|(_, at)| **at <= now);
        self.turn.expired.extend(expired.map(|(&slot, _)| slot));
        self.timers.retain(|_, at| *at > now);
        let has_expired = |timer: Option<Micros>| timer.is_some_and(|at| at <= now);
        let is_over = has_expired(self.patient_until);
        if self.turn.expired.is_empty() && !has_expired(self.node_timer) && !is_over {
            self.set_timers(outside);
            return false;
        }
        if is_over {
            let elapsed = self.elapsed(outside);
            self.with(outside, |machine, now| machine.end_patience(elapsed, now));
        }
        self.turn(outside)
    }

    fn elapsed(&self, outside: &Outside<'_>) -> TimeDelta {
        TimeDelta::microseconds(self.clocks.elapsed(outside.now()))
    }

    // Runs.

    fn launch(&mut self, turn: &mut Turn<Work>, outside: &mut Outside<'_>) {
        for start in turn.starts.drain(..) {
            self.launch_one(start, outside);
        }
    }

    fn launch_one(&mut self, start: Start<Work>, outside: &mut Outside<'_>) {
        self.numbers += 1;
        let number = self.numbers;
        let uncertainty = self.uncertainty(self.clocks.elapsed(outside.now()));
        self.runs.insert(
            number,
            Running { number, attempt: Attempt::new(start), uncertainty, begun: None },
        );
        // All faults stop at the end.
        let crowd = if outside.now() < outside.scenario.busy { outside.scenario.crowd } else { 0 };
        let delay = if crowd > 0 && outside.chance.percent(15) {
            outside.chance.between(0..=crowd)
        } else {
            moment(outside)
        };
        outside.after(delay, Happening::Begin(number));
    }

    /// Starts a run, if it may start.
    pub(super) fn begin(&mut self, number: u64, outside: &mut Outside<'_>) {
        let reading = self.clocks.read(outside.now());
        let Some(Running { attempt, .. }) = self.runs.get(&number) else { return };
        let run = attempt.start.run;
        let is_cancelled = self.transact(outside, |core, _| core.is_cancelled(run));
        let Some(Running { attempt, .. }) = self.runs.get_mut(&number) else { return };
        let grace = attempt.options(&JobOptions::default()).grace();
        let standing = attempt.start.payload.0.standing.get();
        let now = reading.wall;
        let verdict = attempt.judge(now, standing, grace, || is_cancelled, || reading);
        match attempt.judged(now, verdict) {
            None => self.call(number, is_cancelled, outside),
            Some(outcome) => self.conclude(number, outcome, None, outside),
        }
    }

    /// Ends a run; `took` is how long its work took, if it was called.
    fn conclude(
        &mut self,
        number: u64,
        outcome: Outcome,
        took: Option<Duration>,
        outside: &mut Outside<'_>,
    ) {
        let Some(Running { attempt, .. }) = self.runs.remove(&number) else { return };
        let defaults = JobOptions::default();
        let options = attempt.options(&defaults);
        let retry_in = attempt.retry_in(options, &outcome);
        let ending = Ending { outcome, output: None, took, retry_in };
        let wall = self.clocks.read(outside.now()).wall;
        let result = attempt.result(ending, options, || wall);
        self.finish(attempt.start.run, result, outside);
    }

    /// Calls the work of a run.
    fn call(&mut self, number: u64, cancelled: bool, outside: &mut Outside<'_>) {
        let called_at = self.clocks.elapsed(outside.now());
        let uncertainty = self.uncertainty(called_at);
        let Some(running) = self.runs.get_mut(&number) else { return };
        let timeout = running.attempt.options(&JobOptions::default()).timeout;
        let chance = &mut *outside.chance;
        let duration = match chance.below(9) {
            _ if chance.percent(outside.scenario.lengthy) => chance.between(700_000..=2_500_000),
            0 => 0,
            1..=6 => chance.between(200..=60_000),
            _ => chance.between(60_000..=700_000),
        };
        let outcome = match chance.below(10) {
            0 => Outcome::from_error_text("it failed"),
            1 => Outcome::Panicked("it panicked".into()),
            _ => Outcome::Succeeded,
        };
        let obeys = chance.percent(outside.scenario.obedience);
        let timeout = timeout.map(micros_of).filter(|&timeout| timeout <= duration);
        let (duration, outcome) = match timeout {
            Some(timeout) => (timeout, Outcome::TimedOut),
            None => (duration, outcome),
        };
        let start = &running.attempt.start;
        let run = start.run;
        let row = (key_of(start), start.fence, start.attempt);
        let uncertainty = uncertainty.max(running.uncertainty);
        outside.log.began(outside.agenda.now, (outside.life, number), row, uncertainty);
        running.begun = Some(Begun { called_at, outcome, obeys, cancelled: false });
        if start.job.as_str().starts_with(DEADLY) {
            let wait = outside.chance.between(0..=duration.min(20 * MILLI));
            outside.after(wait, Happening::Die);
        }
        outside.after(duration, Happening::Return(number));
        if cancelled {
            self.cancel(run, outside);
        }
    }

    /// Cancels a run.
    fn cancel(&mut self, run: RunKey, outside: &mut Outside<'_>) {
        let reading = self.clocks.read(outside.now());
        let defaults = JobOptions::default();
        for running in self.runs.values_mut().filter(|it| it.attempt.start.run == run) {
            let Some(begun) = running.begun.as_mut().filter(|begun| !begun.cancelled) else {
                continue;
            };
            begun.cancelled = true;
            if begun.obeys {
                let wait = outside.chance.between(0..=20_000);
                outside.after(wait, Happening::Return(running.number));
            }
            let options = running.attempt.options(&defaults);
            let grace = running.attempt.cancel_grace(options, || reading);
            // Dropped work continues until its next yield.
            let yields = outside.chance.between(0..=micros_of(outside.scenario.lease) / 30);
            outside.after(tick(micros_of(grace)) + yields, Happening::Drop(running.number));
        }
    }

    /// Ends the work of a run, which returns or is dropped.
    pub(super) fn end(&mut self, number: u64, dropped: bool, outside: &mut Outside<'_>) {
        let Some(running) = self.runs.get_mut(&number) else { return };
        let Some(begun) = running.begun.take() else { return };
        let outcome = if dropped { Outcome::Cancelled } else { begun.outcome };
        outside.log.ended(outside.agenda.now, outside.life, number, How::of(&outcome));
        let elapsed = self.clocks.elapsed(outside.now());
        let took = Duration::from_micros((elapsed - begun.called_at).unsigned_abs());
        self.conclude(number, outcome, Some(took), outside);
    }

    /// Puts a run's result into the inbox, and drains the inbox unless the loop does.
    fn finish(&mut self, run: RunKey, result: RunResult, outside: &mut Outside<'_>) {
        if self.inbox.push(run, result) != Urgency::CanWait {
            self.catch_up(outside);
        }
    }

    // The store.

    /// Whether a job has reached its limit of active runs.
    pub(super) fn is_full(&self, incarnation: Incarnation) -> bool {
        self.machine.core.is_full(self.store, incarnation)
    }

    /// Accepts notifications of the store.
    pub(super) fn notice(&mut self, changes: Vec<StoreChange>, outside: &mut Outside<'_>) {
        let store = self.store;
        let changes: Vec<_> =
            changes.into_iter().map(|change| (change, self.known.is_news(change))).collect();
        self.transact(outside, |core, _| {
            changes.iter().for_each(|&(change, is_news)| core.notice(store, change, is_news));
        });
    }

    /// Notes a request that is sent. Handles add the changes of their jobs to it.
    pub(super) fn sent(&mut self, number: u64, request: &mut Request, outside: &mut Outside<'_>) {
        self.known.add_to(request);
        let sent = self.clocks.read(outside.now());
        self.waiting.insert(number, (request.clone(), sent));
    }

    /// Whether the node waits for the reply to a request.
    pub(super) fn waits_for(&self, number: u64) -> bool {
        self.waiting.contains_key(&number)
    }

    /// Accepts the reply to a request, or its timeout. Returns whether that was the final turn of
    /// the driver.
    pub(super) fn answered(
        &mut self,
        number: u64,
        answer: Result<Reply, StoreError>,
        outside: &mut Outside<'_>,
    ) -> bool {
        let Some((request, sent)) = self.waiting.remove(&number) else { return false };
        if let Ok(Reply::Membership(membership::Reply::Heartbeat { .. })) = &answer
            && !outside.scenario.clockless
        {
            self.measure(sent, outside);
        }
        let works = answer.as_ref().map(|reply| self.works_for(reply)).unwrap_or_default();
        let store = self.store;
        self.transact(outside, |core, now| core.answer(store, request, answer, works, now));
        self.turn(outside)
    }

    /// Returns the work of each job of a reply, in order.
    fn works_for(&mut self, reply: &Reply) -> Vec<Work> {
        self.known.update_versions(reply);
        let work = |record: &Record| {
            let known = self.known.get(record.incarnation).cloned();
            known.unwrap_or_else(|| Work::of(record.incarnation))
        };
        reply.records().into_iter().map(work).collect()
    }

    /// Adds a handle of a job. Returns whether the job was changed or removed meanwhile.
    pub(super) fn know(&mut self, record: &Record) -> bool {
        self.known.insert(record, Work::of(record.incarnation)).0
    }

    /// Forgets a job that was not added.
    pub(super) fn forget(&mut self, incarnation: Incarnation) {
        self.known.remove_unadded(incarnation);
    }

    /// Accounts for a measurement of the store's clock.
    fn measure(&mut self, sent: Reading, outside: &mut Outside<'_>) {
        let now = self.clocks.read(outside.now());
        let took = (now.elapsed - sent.elapsed).max(now.wall - sent.wall);
        let new = took.num_microseconds().unwrap_or(Micros::MAX) / 2 + MILLI;
        let elapsed = self.clocks.elapsed(outside.now());
        let old = self.uncertainty(elapsed);
        if self.uncertainty.is_none() || new <= old {
            self.uncertainty = Some((new, elapsed));
            self.lost_time = false;
        } else if self.lost_time {
            // The measurement may contradict the estimate.
            self.uncertainty = Some((new, elapsed));
        }
    }

    pub(super) fn sleep(&mut self, time: Micros) {
        self.clocks.suspend(time);
        self.lose_time();
    }

    /// Invalidates the estimate of the store's clock.
    pub(super) fn lose_time(&mut self) {
        self.lost_time = true;
    }

    fn uncertainty(&self, elapsed: Micros) -> Micros {
        let (uncertainty, at) = self.uncertainty.unwrap_or_default();
        uncertainty + (elapsed - at) / 5000
    }

    /// Whether the node trusts its lease.
    pub(super) fn trusts_lease(&self, now: Micros) -> bool {
        self.lease.is_trusted(self.clocks.read(now))
    }

    /// Whether the store's clock was measured.
    pub(super) fn knows_clock(&self) -> bool {
        self.uncertainty.is_some()
    }

    /// Returns the time of the store's clock, as far as it is known, and a number for a write.
    pub(super) fn now_and_number(&mut self, outside: &mut Outside<'_>) -> (DateTime<Utc>, u64) {
        let store = self.store;
        self.transact(outside, |core, _| {
            (core.store_now(store).trunc_subsecs(3), core.number(store).unwrap_or_default())
        })
    }

    // The end.

    pub(super) fn is_closing(&self) -> bool {
        self.machine.core.is_closed()
    }

    pub(super) fn close(&mut self, within: Micros, outside: &mut Outside<'_>) {
        let (within, elapsed) =
            (Duration::from_micros(within.unsigned_abs()), self.elapsed(outside));
        self.with(outside, |machine, now| machine.begin_shutdown(within, None, elapsed, now));
        self.wake(outside);
    }
}

fn micros_in(time: TimeDelta) -> Micros {
    time.num_microseconds().unwrap_or(Micros::MAX / 4)
}

/// Returns a random scheduling delay.
fn moment(outside: &mut Outside<'_>) -> Micros {
    match outside.chance.below(16) {
        0 => outside.chance.between(500..=4_000),
        _ => outside.chance.between(0..=200),
    }
}

/// Rounds up to whole milliseconds: timers expire at those, and not early.
fn tick(wait: Micros) -> Micros {
    (wait + MILLI - 1) / MILLI * MILLI
}

/// Returns the row of a run.
fn key_of(start: &Start<Work>) -> RowKey {
    let incarnation = start.payload.0.incarnation;
    let scheduled = RowKey {
        incarnation,
        kind: RowKind::Scheduled,
        number: start.fire_time.timestamp_millis(),
    };
    let requested =
        (1..10_000).map(|number| RowKey { incarnation, kind: RowKind::Requested, number });
    if start.on_request {
        requested.into_iter().find(|&key| run_id(key) == start.run.id).unwrap_or(scheduled)
    } else {
        scheduled
    }
}
