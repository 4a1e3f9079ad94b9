//! The core against a simulated shell: every fire time has exactly one fate, never two, never early.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
    time::Duration,
};

use chrono_tz::Tz;
use proptest::prelude::*;

use super::{
    schedule::decide::{Planner, refusal},
    *,
};
use crate::{
    clock::Reading,
    event::{Event, EventKind, EventPayload, KindSet},
    job::{Coalesce, End, FireTimes, Group, Outcome, Overlap, RunId},
    retry::Retry,
    trigger::{CustomTrigger, IntoTrigger, at, cron, custom, every},
};

/// The payload of the tests: whether the runs of the job are called off.
#[derive(Clone, Default)]
struct Standing(Rc<Cell<Option<SkipReason>>>);

impl Payload for Standing {
    fn set_standing(&self, standing: Option<SkipReason>) {
        self.0.set(standing);
    }

    fn wants_runs(&self) -> bool {
        true
    }

    fn want_output(&self) {}

    fn set_args(&self, _: u64, _: &str) {}

    fn rework(&self, _: Standing) -> Standing {
        self.clone()
    }

    fn take_over(&self, _: &Standing) {}

    fn is(&self, _: &Standing) -> bool {
        true
    }
}

/// An executor for one run at a time.
const EXECUTOR: &str = "one";

/// A trigger of a job, and the time during which it was the job's trigger.
struct Segment {
    trigger: Trigger,
    first: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
}

/// A shell without a runtime: a manual clock, and runs of a set length.
struct Shell {
    core: Core<Standing>,
    now: DateTime<Utc>,
    wakes: HashMap<u32, DateTime<Utc>>,
    /// Runs that were handed over and have not begun.
    handed: Vec<(Start<Standing>, DateTime<Utc>)>,
    active: Vec<(RunKey, DateTime<Utc>, RunResult)>,
    /// The time between the handover of a run and its start.
    latency: TimeDelta,
    /// How long the next run takes.
    takes: TimeDelta,
    /// The expected standing of the runs of each incarnation.
    standing: HashMap<u64, Option<SkipReason>>,
    /// Whether the scheduler is paused.
    paused: bool,
    on_request: HashSet<RunId>,
    /// Whether the next runs fail.
    failing: bool,
    /// Runs that use a slot of the group, and of the executor.
    limited: HashMap<RunId, (bool, bool)>,
    segments: Vec<Segment>,
    covered: BTreeMap<DateTime<Utc>, i64>,
    events: Vec<Event>,
    ended: usize,
}

fn ms(millis: i64) -> TimeDelta {
    TimeDelta::milliseconds(millis)
}

fn epoch() -> DateTime<Utc> {
    "2026-03-27T23:00:00Z".parse().unwrap()
}

impl Shell {
    fn new() -> Shell {
        let reading = Reading { wall: epoch(), elapsed: TimeDelta::zero(), together: true };
        let mut core = Core::new(7, Arc::default(), false, reading);
        core.observe(KindSet::ALL);
        core.add_executor(EXECUTOR.into(), Some(1), epoch()).unwrap();
        Shell {
            core,
            now: epoch(),
            wakes: HashMap::new(),
            handed: Vec::new(),
            active: Vec::new(),
            latency: ms(0),
            takes: ms(0),
            standing: HashMap::new(),
            paused: false,
            on_request: HashSet::new(),
            failing: false,
            limited: HashMap::new(),
            segments: Vec::new(),
            covered: BTreeMap::new(),
            events: Vec::new(),
            ended: 0,
        }
    }

    fn new_job(id: &str, trigger: Trigger, first: DateTime<Utc>) -> NewJob<Standing> {
        NewJob {
            id: Some(id.into()),
            on_conflict: OnConflict::Error,
            trigger,
            declared: None,
            first: Some(first),
            elapsed: false,
            once: false,
            paused: false,
            options: None,
            labels: None,
            payload: Standing::default(),
        }
    }

    fn segment(&mut self, trigger: &Trigger) -> Option<(Trigger, DateTime<Utc>)> {
        let trigger = trigger.anchored(self.now, Tz::Europe__Berlin).unwrap();
        let first = trigger.first(self.now).unwrap()?;
        Some((trigger, first))
    }

    fn add(
        &mut self,
        trigger: &Trigger,
        options: JobOptions,
        on_conflict: OnConflict,
    ) -> Option<JobKey> {
        let (trigger, first) = self.segment(trigger)?;
        let new = NewJob {
            on_conflict,
            options: Some(Arc::new(options)),
            ..Shell::new_job("job", trigger.clone(), first)
        };
        self.close_segment();
        let added = self.core.add(new, self.now).unwrap();
        self.segments.push(Segment { trigger, first, until: None });
        for standing in self.standing.values_mut() {
            if !matches!(standing, Some(SkipReason::Removed | SkipReason::Replaced)) {
                *standing = Some(SkipReason::Replaced);
            }
        }
        self.standing.insert(added.key.incarnation, None);
        self.skip_due();
        Some(added.key)
    }

    /// Ends the current segment, since the job has another trigger.
    fn close_segment(&mut self) {
        if let Some(segment) = self.segments.last_mut() {
            segment.until.get_or_insert(self.now);
        }
    }

    /// Carries out the effects of the core.
    fn skip_due(&mut self) {
        loop {
            for slot in std::mem::take(&mut self.core.outbox().dirty) {
                match self.core.wake_at(slot) {
                    Some(due) => self.wakes.insert(slot, due),
                    None => self.wakes.remove(&slot),
                };
            }
            let starts = std::mem::take(&mut self.core.outbox().starts);
            if starts.is_empty() {
                break;
            }
            for start in starts {
                let goes_on = start.on_request || start.attempt > 1;
                assert!(!self.paused || goes_on, "nothing starts in a paused scheduler");
                let standing = self.standing[&start.incarnation];
                assert!(goes_on || standing.is_none(), "nor for a job that is {standing:?}");
                let options = start.options.as_ref().unwrap();
                let limited = (options.group.is_some(), options.executor.is_some());
                self.limited.insert(start.run.id, limited);
                self.handed.push((start, self.now + self.latency));
            }
            self.begin();
        }
        for run in std::mem::take(&mut self.core.outbox().cancels) {
            // Cancelled work stops at once here.
            for (_, end, _) in self.active.iter_mut().filter(|(key, ..)| *key == run) {
                *end = self.now;
            }
        }
        let events = std::mem::take(&mut self.core.outbox().events);
        for event in &events {
            self.cover(&event.payload);
        }
        self.events.extend(events);
        self.ended += self.core.outbox().ended.drain(..).count();
        self.core.outbox().reports.clear();
        self.core.outbox().retired.clear();
        self.core.outbox().discarded.clear();
    }

    /// Begins the runs that are due to begin.
    fn begin(&mut self) {
        while let Some(index) = self.handed.iter().position(|(_, begin)| *begin <= self.now) {
            let (start, _) = self.handed.remove(index);
            self.start(start);
        }
    }

    fn start(&mut self, start: Start<Standing>) {
        assert!(start.fire_time <= start.due, "jitter only delays");
        assert!(start.due <= self.now, "{} started early, at {}", start.due, self.now);
        if start.on_request {
            self.on_request.insert(start.run.id);
        }
        let late_by = (self.now - start.due).to_std().unwrap();
        let options = start.options.unwrap();
        let grace = options.grace();
        let standing = start.payload.0.get();
        assert_eq!(standing, self.standing[&start.incarnation], "what runs are told of their job");
        let exempt = start.on_request || start.attempt > 1;
        let refused = refusal(standing, exempt, late_by, grace);
        let took = Duration::ZERO;
        let finish = |ended_at, outcome| RunResult {
            took,
            late_by,
            ..RunResult::without_work(outcome, ended_at)
        };
        match refused {
            Some(outcome) => {
                self.limited.remove(&start.run.id);
                self.core.finish(start.run, finish(self.now, outcome), self.now);
            }
            None => {
                let end = self.now + self.takes;
                let outcome =
                    if self.failing { Outcome::from_error_text("") } else { Outcome::Succeeded };
                let retry = options.retry.as_ref();
                let retry_in =
                    retry.and_then(|retry| retry.delay_after(start.attempt, &outcome, 0));
                self.active.push((start.run, end, RunResult { retry_in, ..finish(end, outcome) }));
            }
        }
    }

    fn cover(&mut self, what: &EventPayload) {
        match what {
            EventPayload::Executed(run)
            | EventPayload::Failed(run)
            | EventPayload::Cancelled(run)
            | EventPayload::Abandoned(run)
                if !run.on_request =>
            {
                *self.covered.entry(run.fire_time).or_default() += 1;
            }
            EventPayload::Missed { run: Some(run), .. }
            | EventPayload::Skipped { run: Some(run), .. }
                if self.on_request.contains(run) => {}
            EventPayload::Missed { fire_times, .. }
            | EventPayload::Skipped { fire_times, .. }
            | EventPayload::Coalesced { fire_times, .. } => {
                for fire_time in self.stretch(*fire_times) {
                    *self.covered.entry(fire_time).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    /// Returns the fire times of a stretch, by the newest trigger that has that many in it.
    fn stretch(&self, stretch: FireTimes) -> Vec<DateTime<Utc>> {
        let mut candidates = self
            .segments
            .iter()
            .rev()
            .map(|segment| fire_times(&segment.trigger, stretch.first, stretch.last));
        candidates
            .find(|times| {
                times.len() as u64 == stretch.count
                    && times.first() == Some(&stretch.first)
                    && times.last() == Some(&stretch.last)
            })
            .unwrap_or_else(|| panic!("{stretch:?} is no stretch of any trigger of the job"))
    }

    /// Advances the clock, carrying out effects on the way.
    fn advance(&mut self, by: TimeDelta) {
        let to = self.now + by;
        loop {
            let wake = self.wakes.values().min().copied();
            let begin = self.handed.iter().map(|(_, begin)| *begin).min();
            let end = self.active.iter().map(|(_, end, _)| *end).min();
            match [wake, begin, end].into_iter().flatten().min().filter(|&at| at <= to) {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.poll();
                }
                None => break,
            }
        }
        self.now = self.now.max(to);
    }

    /// Handles everything that is due now.
    fn poll(&mut self) {
        self.begin();
        self.skip_due();
        while let Some(index) = self.active.iter().position(|(_, end, _)| *end <= self.now) {
            let (run, _, finish) = self.active.swap_remove(index);
            self.limited.remove(&run.id);
            self.core.finish(run, finish, self.now);
            self.skip_due();
        }
        let mut due: Vec<u32> =
            self.wakes.iter().filter(|(_, due)| **due <= self.now).map(|(&slot, _)| slot).collect();
        for slot in &due {
            self.wakes.remove(slot);
        }
        self.core.sort(&mut due);
        self.core.wake(&due, self.now);
        self.skip_due();
    }

    /// Compares the covered fire times with those that the triggers named.
    fn check(&mut self) {
        let mut expected: BTreeMap<DateTime<Utc>, i64> = BTreeMap::new();
        for segment in &self.segments {
            for t in fire_times(&segment.trigger, segment.first, segment.until.unwrap_or(self.now))
            {
                *expected.entry(t).or_default() += 1;
            }
        }
        let differences: Vec<_> = expected
            .keys()
            .chain(self.covered.keys())
            .filter(|t| expected.get(t) != self.covered.get(t))
            .map(|t| (t, expected.get(t), self.covered.get(t)))
            .collect();
        assert!(differences.is_empty(), "fire time, named, covered: {differences:?}");
    }
}

/// Returns all fire times in `first ..= last`, one by one.
fn fire_times(trigger: &Trigger, first: DateTime<Utc>, last: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut times = Vec::new();
    let mut t = first - ms(1);
    while let Some(next) = trigger.next_after(t).unwrap().filter(|&next| next <= last) {
        times.push(next);
        t = next;
    }
    times
}

/// Fires at the squares of whole milliseconds after the epoch of the tests.
#[derive(Debug)]
struct Squares;

impl CustomTrigger for Squares {
    fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let since = (t - epoch()).num_milliseconds().max(-1);
        let root = (since as f64).sqrt() as i64;
        let next = (root.max(0)..).map(|root| root * root).find(|square| *square > since)?;
        Some(epoch() + ms(next))
    }
}

#[derive(Clone, Debug)]
enum Op {
    Advance(i64),
    /// Nothing executes for this many milliseconds.
    Outage(i64),
    Takes(i64),
    Latency(i64),
    Failing(bool),
    Pause,
    Resume,
    PauseAll,
    ResumeAll,
    RunNow,
    Reschedule(Trigger),
    Modify(JobOptions),
    Replace(Trigger, JobOptions),
    Cancel,
    Remove,
    CancelAll,
    Close,
}

fn triggers() -> impl Strategy<Value = Trigger> {
    let start = epoch();
    prop_oneof![
        4 => (1..5000i64, -9000..9000i64, proptest::option::of(1..60u64)).prop_map(
            move |(period, offset, times)| {
                let interval = every(ms(period)).starting_at(start + ms(offset));
                match times {
                    Some(times) => interval.times(times),
                    None => interval,
                }
                .into_trigger()
                .unwrap()
            }
        ),
        1 => (-5000..60_000i64).prop_map(move |offset| at(start + ms(offset)).into_trigger().unwrap()),
        1 => prop::sample::select(vec!["* * * * * *", "*/7 * * * * *", "*/5 * * * *", "30 2 * * *"])
            .prop_map(|text| cron(text).into_trigger().unwrap()),
        1 => Just(()).prop_map(|()| custom(Squares).into_trigger().unwrap()),
    ]
}

fn options() -> impl Strategy<Value = JobOptions> {
    (
        prop_oneof![Just(None), (0..4000u64).prop_map(Some)],
        prop::sample::select(vec![Coalesce::Latest, Coalesce::Earliest, Coalesce::All]),
        1..12u32,
        1..4u32,
        prop_oneof![Just(0), 1..3000u64],
        (
            prop_oneof![
                Just(Overlap::Skip),
                (1..4u32).prop_map(Overlap::Queue),
                Just(Overlap::CancelPrevious)
            ],
            any::<bool>(),
            any::<bool>(),
            proptest::option::of((0..3000u64, 0..4u32)),
        ),
    )
        .prop_map(|(grace, coalesce, max_catch_up, max_instances, jitter, more)| JobOptions {
            misfire_grace_time: grace.map(Duration::from_millis),
            coalesce,
            max_catch_up,
            max_instances,
            overlap: more.0,
            group: more.1.then(|| Group { name: "group".into(), limit: 2 }),
            executor: more.2.then(|| EXECUTOR.into()),
            retry: more
                .3
                .map(|(delay, times)| Retry::fixed(Duration::from_millis(delay)).times(times)),
            jitter: Duration::from_millis(jitter),
            ..JobOptions::default()
        })
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..8000i64).prop_map(Op::Advance),
        4 => (1..30_000i64).prop_map(Op::Outage),
        3 => (0..9000i64).prop_map(Op::Takes),
        1 => (0..3000i64).prop_map(Op::Latency),
        2 => any::<bool>().prop_map(Op::Failing),
        2 => Just(Op::Pause),
        3 => Just(Op::Resume),
        1 => Just(Op::PauseAll),
        2 => Just(Op::ResumeAll),
        2 => Just(Op::RunNow),
        2 => triggers().prop_map(Op::Reschedule),
        2 => options().prop_map(Op::Modify),
        1 => (triggers(), options()).prop_map(|(trigger, options)| Op::Replace(trigger, options)),
        1 => Just(Op::Cancel),
        1 => Just(Op::Remove),
        1 => Just(Op::CancelAll),
        1 => Just(Op::Close),
    ]
}

/// Errors that a verb may return in a random history.
fn tolerable(error: &Error) -> bool {
    error.is_gone() || error.is_overlap() || error.is_shut_down()
}

fn live_through(trigger: &Trigger, options: JobOptions, ops: Vec<Op>) {
    let mut shell = Shell::new();
    let Some(mut key) = shell.add(trigger, options, OnConflict::Error) else { return };
    for op in ops {
        let now = shell.now;
        let result = match op {
            Op::Advance(by) => {
                shell.advance(ms(by));
                Ok(())
            }
            Op::Outage(by) => {
                shell.now += ms(by);
                shell.poll();
                Ok(())
            }
            Op::Takes(takes) => {
                shell.takes = ms(takes);
                Ok(())
            }
            Op::Latency(latency) => {
                shell.latency = ms(latency);
                Ok(())
            }
            Op::Failing(failing) => {
                shell.failing = failing;
                Ok(())
            }
            Op::Pause => shell.core.pause(key, now).inspect(|()| {
                shell.standing.insert(key.incarnation, Some(SkipReason::Paused));
            }),
            Op::Resume => shell.core.resume(key, now).inspect(|()| {
                shell.standing.insert(key.incarnation, None);
            }),
            Op::PauseAll => shell.core.pause_all(now).inspect(|()| shell.paused = true),
            Op::ResumeAll => {
                shell.paused &= shell.core.is_closed();
                shell.core.resume_all(now)
            }
            Op::RunNow => shell.core.run_now(key, now).map(|run| {
                shell.on_request.insert(run);
            }),
            Op::Reschedule(trigger) => match shell.segment(&trigger) {
                Some((trigger, first)) => {
                    let done = shell.core.reschedule(key, trigger.clone(), Some(first), false, now);
                    if done.is_ok() {
                        // The fire times of the old trigger up to now have a fate by now.
                        shell.close_segment();
                        shell.skip_due();
                        shell.segments.push(Segment { trigger, first, until: None });
                    }
                    done
                }
                None => Ok(()),
            },
            Op::Modify(options) => shell.core.settings(key).and_then(|expected| {
                let (options, labels) = (Arc::new(options), expected.labels.clone());
                shell.core.modify(key, &expected, options, labels, None, now).map(drop)
            }),
            Op::Replace(trigger, options) if !shell.core.is_closed() => {
                if let Some(replaced) = shell.add(&trigger, options, OnConflict::Replace) {
                    assert_ne!(key, replaced);
                    key = replaced;
                }
                Ok(())
            }
            Op::Replace(..) => Ok(()),
            Op::Cancel => {
                shell.core.cancel(key, now);
                Ok(())
            }
            Op::Remove => shell.core.remove(key, End::Removed, now),
            Op::CancelAll => {
                shell.core.cancel_all(&[]);
                Ok(())
            }
            Op::Close => {
                shell.core.close(now);
                Ok(())
            }
        };
        if let Err(error) = result {
            assert!(tolerable(&error), "{error}");
        }
        if shell.core.info(key).is_err() {
            shell.close_segment();
            let standing = shell.standing.get_mut(&key.incarnation).unwrap();
            // A completed job leaves no run that would read its standing.
            if !matches!(standing, Some(SkipReason::Removed | SkipReason::Replaced)) {
                *standing = Some(if shell.core.is_closed() {
                    SkipReason::Shutdown
                } else {
                    SkipReason::Removed
                });
            }
        }
        shell.skip_due();
        let most = shell.core.registry.iter().map(|(_, job)| job.runs.active()).max();
        assert!(most.unwrap_or(0) <= 3, "max_instances is at most 3 here");
        let limited = shell.limited.values();
        let (group, executor): (Vec<_>, Vec<_>) = limited.copied().unzip();
        let count = |taken: Vec<bool>| taken.into_iter().filter(|&taken| taken).count();
        assert!(count(group) <= 2 && count(executor) <= 1, "the limits hold");
    }
    if shell.core.info(key).is_ok() {
        shell.standing.insert(key.incarnation, Some(SkipReason::Shutdown));
    }
    shell.core.close(shell.now);
    shell.close_segment();
    shell.skip_due();
    // Active runs still end.
    shell.advance(TimeDelta::hours(1));
    shell.check();
    assert!(
        shell.handed.is_empty() && shell.active.is_empty() && shell.core.runs.len() == 0,
        "every run ends"
    );
    assert!(shell.core.registry.len() == 0, "nothing is left of the jobs");
    assert!(shell.core.registry.named_count() == 0, "nor of their ids");
    assert!(shell.core.runs.limits().is_idle(), "and the limits have all that was taken");
}

/// 3,000 cases, or the number in `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => default,
        None => ProptestConfig { cases: 3000, ..default },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_fire_time_has_exactly_one_fate(
        trigger in triggers(),
        options in options(),
        ops in prop::collection::vec(ops(), 1..40),
    ) {
        live_through(&trigger, options, ops);
    }

    #[test]
    fn a_clock_that_steps_fires_nothing_twice_and_leaves_nothing_out(
        trigger in triggers(),
        options in options(),
        steps in prop::collection::vec((0..9000i64, -40_000..40_000i64), 1..12),
    ) {
        let mut shell = Shell::new();
        let Some(key) = shell.add(&trigger, options, OnConflict::Error) else { return Ok(()) };
        let mut latest = shell.now;
        for (advance, step) in steps {
            shell.advance(ms(advance));
            latest = latest.max(shell.now);
            shell.now += ms(step);
            shell.core.clock_stepped(ms(step), shell.now);
            shell.skip_due();
            shell.poll();
            latest = latest.max(shell.now);
        }
        // Every fire time up to now has its fate; no fire time after the latest instant has one.
        let trigger = shell.segments[0].trigger.clone();
        let first = shell.segments[0].first;
        if shell.core.info(key).is_ok() {
            shell.standing.insert(key.incarnation, Some(SkipReason::Shutdown));
            shell.core.close(shell.now);
        }
        let last = shell.now;
        shell.skip_due();
        shell.advance(TimeDelta::hours(30));
        prop_assert!(shell.covered.values().all(|&count| count == 1), "{:?}", shell.covered);
        let covered: Vec<_> = shell.covered.keys().copied().collect();
        let named = fire_times(&trigger, first, latest.max(first));
        prop_assert!(named.starts_with(&covered), "covered {covered:?} of {named:?}");
        let passed = fire_times(&trigger, first, last);
        prop_assert!(covered.starts_with(&passed), "covered {covered:?}, and {passed:?} had passed");
    }
}

#[test]
fn an_elapsed_interval_moves_with_a_step_of_the_clock() {
    let mut shell = Shell::new();
    let trigger = every(ms(1000)).into_trigger().unwrap();
    let key = shell.add(&trigger, JobOptions::default(), OnConflict::Error).unwrap();
    shell.core.registry[key.slot].timing.set_elapsed(true);
    shell.advance(ms(2500));
    for step in [TimeDelta::hours(1), TimeDelta::hours(-2)] {
        let next = shell.core.info(key).unwrap().next_fire.unwrap() - shell.now;
        shell.now += step;
        shell.core.clock_stepped(step, shell.now);
        shell.skip_due();
        let moved = shell.core.info(key).unwrap().next_fire.unwrap() - shell.now;
        assert_eq!(moved, next, "as long until the next fire as before the step");
        shell.advance(ms(1000));
        let following = shell.core.info(key).unwrap().next_fire.unwrap() - shell.now;
        assert_eq!(following, next, "and from that to the one after it");
    }
    let runs = shell.on_request.len() + shell.covered.len();
    assert_eq!(runs, 4, "and nothing fired for the steps themselves");
}

#[test]
fn an_outage_of_ten_years_costs_no_more_than_one_of_a_minute() {
    let next_afters = |outage: TimeDelta, coalesce| {
        let mut shell = Shell::new();
        let options = JobOptions { coalesce, ..JobOptions::default() };
        shell.add(&every(ms(1000)).into_trigger().unwrap(), options, OnConflict::Error).unwrap();
        shell.now += outage;
        let slots: Vec<u32> = shell.wakes.keys().copied().collect();
        let started = std::time::Instant::now();
        shell.core.wake(&slots, shell.now);
        let took = started.elapsed();
        (took, shell.core.outbox().events.len())
    };
    for coalesce in [Coalesce::Latest, Coalesce::Earliest, Coalesce::All] {
        let (_, minute) = next_afters(TimeDelta::minutes(1), coalesce);
        let (took, decade) = next_afters(TimeDelta::days(3653), coalesce);
        assert!(
            decade <= minute + 1,
            "{coalesce:?}: {decade} events after ten years, {minute} after a minute"
        );
        assert!(took < Duration::from_millis(20), "{coalesce:?}: {took:?}");
    }
}

/// Returns the fates of the fire times of a one-second job after an outage of ten seconds.
fn after_ten_seconds(options: JobOptions) -> Vec<String> {
    let mut shell = Shell::new();
    let trigger = every(ms(1000)).starting_at(epoch() + ms(1000)).into_trigger().unwrap();
    shell.add(&trigger, options, OnConflict::Error).unwrap();
    shell.events.clear();
    shell.now += ms(10_000);
    shell.poll();
    shell.advance(ms(0));
    let second = |t: DateTime<Utc>| (t - epoch()).num_seconds();
    let fates = shell.events.iter().filter_map(|event| match &event.payload {
        EventPayload::Coalesced { fire_times, into, .. } => Some(format!(
            "{}-{} into {}",
            second(fire_times.first),
            second(fire_times.last),
            second(*into)
        )),
        EventPayload::Missed { fire_times, .. } => {
            Some(format!("missed {}-{}", second(fire_times.first), second(fire_times.last)))
        }
        EventPayload::Executed(run) => Some(format!("ran {}", second(run.fire_time))),
        EventPayload::Skipped { fire_times, reason, .. } => Some(format!(
            "skipped {}-{}: {reason}",
            second(fire_times.first),
            second(fire_times.last)
        )),
        _ => None,
    });
    fates.collect()
}

#[test]
fn coalescing_and_grace_to_the_letter() {
    let options = |coalesce, grace: Option<u64>| JobOptions {
        coalesce,
        misfire_grace_time: grace.map(Duration::from_secs),
        max_catch_up: 3,
        ..JobOptions::default()
    };
    let cases = [
        (Coalesce::Latest, None, &["1-9 into 10", "ran 10"][..]),
        // Exactly at the grace is not later.
        (Coalesce::Latest, Some(0), &["1-9 into 10", "ran 10"]),
        (Coalesce::Earliest, None, &["2-10 into 1", "ran 1"]),
        (Coalesce::Earliest, Some(4), &["missed 1-5", "7-10 into 6", "ran 6"]),
        (Coalesce::Earliest, Some(0), &["missed 1-9", "ran 10"]),
        (Coalesce::All, None, &["1-7 into 8", "ran 8", "ran 9", "ran 10"]),
        (Coalesce::All, Some(1), &["1-7 into 8", "missed 8-8", "ran 9", "ran 10"]),
    ];
    for (coalesce, grace, fates) in cases {
        assert_eq!(after_ten_seconds(options(coalesce, grace)), fates, "{coalesce:?}, {grace:?}");
    }
}

#[test]
fn jobs_of_one_instant_start_in_order_of_fire_time_priority_and_adding() {
    let mut shell = Shell::new();
    for (name, offset, priority) in
        [("late", 2000, 9), ("low", 1000, 0), ("second", 1000, 5), ("third", 1000, 5)]
    {
        let (trigger, first) =
            shell.segment(&at(epoch() + ms(offset)).into_trigger().unwrap()).unwrap();
        let new = NewJob {
            options: Some(Arc::new(JobOptions { priority, ..JobOptions::default() })),
            ..Shell::new_job(name, trigger.clone(), first)
        };
        shell.core.add(new, shell.now).unwrap();
    }
    shell.now += ms(3000);
    let mut slots = std::mem::take(&mut shell.core.outbox().dirty);
    shell.core.sort(&mut slots);
    shell.core.wake(&slots, shell.now);
    let order: Vec<_> =
        shell.core.outbox().starts.iter().map(|start| start.job.to_string()).collect();
    assert_eq!(order, ["second", "third", "low", "late"]);
}

#[test]
fn jitter_is_the_same_for_whoever_computes_it_and_stays_before_the_next_fire() {
    let trigger = every(ms(1000)).starting_at(epoch()).into_trigger().unwrap();
    let options = JobOptions { jitter: Duration::from_millis(5000), ..JobOptions::default() };
    let due = |seed, n: i64| {
        let planner = Planner { trigger: &trigger, options: &options, seed, once: false };
        let fire_time = epoch() + ms(1000 * n);
        (planner.due(fire_time).at - fire_time).num_milliseconds()
    };
    let delays: Vec<_> = (0..1000).map(|n| due(1, n)).collect();
    assert_eq!(delays, (0..1000).map(|n| due(1, n)).collect::<Vec<_>>());
    assert_ne!(delays, (0..1000).map(|n| due(2, n)).collect::<Vec<_>>());
    assert!(delays.iter().all(|delay| (0..1000).contains(delay)));
    // Four of five exceed the period and are cut.
    let cut = delays.iter().filter(|&&delay| delay == 999).count();
    assert!((700..900).contains(&cut), "{cut} of 1000 were cut");
}

#[test]
fn backlogs_of_several_runs_wait_out_a_pause_together() {
    let mut shell = Shell::new();
    let options = JobOptions { coalesce: Coalesce::All, max_instances: 2, ..JobOptions::default() };
    let trigger = every(ms(1000)).starting_at(epoch() + ms(1000)).until(epoch() + ms(6000));
    shell.add(&trigger.into_trigger().unwrap(), options, OnConflict::Error).unwrap();
    shell.takes = ms(5000);
    // Two outages of three fire times each: two runs, each with a backlog of two.
    for _ in 0..2 {
        shell.now += ms(3000);
        shell.poll();
    }
    assert_eq!(shell.active.len(), 2);
    shell.core.pause_all(shell.now).unwrap();
    shell.paused = true;
    shell.advance(TimeDelta::minutes(1));
    assert_eq!(shell.active.len(), 0);
    shell.core.resume_all(shell.now).unwrap();
    shell.paused = false;
    shell.skip_due();
    shell.advance(TimeDelta::minutes(1));
    shell.core.close(shell.now);
    shell.check();
    assert!(shell.core.registry.len() == 0);
}

#[test]
fn a_step_moves_what_waits_of_an_elapsed_interval_and_rolls_no_other_jitter() {
    let mut shell = Shell::new();
    let options = JobOptions {
        coalesce: Coalesce::All,
        misfire_grace_time: Some(Duration::from_secs(10)),
        jitter: Duration::from_millis(900),
        ..JobOptions::default()
    };
    let key =
        shell.add(&every(ms(1000)).into_trigger().unwrap(), options, OnConflict::Error).unwrap();
    shell.core.registry[key.slot].timing.set_elapsed(true);
    shell.takes = ms(1000);
    shell.now += ms(3990);
    shell.poll();
    let next = shell.core.registry[key.slot].timing.next().unwrap();
    let step = TimeDelta::hours(1);
    shell.now += step;
    // The active run takes no longer because of the step.
    shell.active[0].1 += step;
    shell.core.clock_stepped(step, shell.now);
    let moved = shell.core.registry[key.slot].timing.next().unwrap();
    assert_eq!((moved.fire_time, moved.at), (next.fire_time + step, next.at + step));
    shell.events.clear();
    shell
        .core
        .reschedule(
            key,
            at(shell.now + TimeDelta::days(1)).into_trigger().unwrap(),
            Some(shell.now + TimeDelta::days(1)),
            false,
            shell.now,
        )
        .unwrap();
    shell.advance(ms(5000));
    let missed =
        shell.events.iter().any(|event| matches!(event.payload, EventPayload::Missed { .. }));
    assert!(!missed, "{:#?}", shell.events);
    // The new trigger is not elapsed time, and stays.
    let step = TimeDelta::hours(2);
    let next = shell.core.info(key).unwrap().next_fire;
    shell.core.clock_stepped(step, shell.now + step);
    assert_eq!(shell.core.info(key).unwrap().next_fire, next);
}

#[test]
fn an_end_that_was_given_is_an_instant_and_one_that_was_counted_moves() {
    let end = epoch() + ms(10_500);
    let anchored = |build: crate::trigger::Build<_>| {
        let mut trigger = build.into_trigger().unwrap().anchored(epoch(), Tz::UTC).unwrap();
        trigger.shift(TimeDelta::hours(1));
        trigger.end().unwrap() - epoch()
    };
    assert_eq!(anchored(every(ms(1000)).until(end)), ms(10_500));
    assert_eq!(anchored(every(ms(1000)).times(3)), ms(3000) + TimeDelta::hours(1));
    // The earlier of the two counts.
    let both = every(ms(1000)).until(end).times(50).into_trigger().unwrap();
    assert_eq!(both.anchored(epoch(), Tz::UTC).unwrap().end(), Some(end));
}

#[test]
fn what_waits_for_its_jitter_waits_for_it_however_often_the_job_is_rescheduled() {
    let mut shell = Shell::new();
    let options = JobOptions { jitter: Duration::from_millis(900), ..JobOptions::default() };
    let every_second = every(ms(1000)).starting_at(epoch()).into_trigger().unwrap();
    let key = shell.add(&every_second, options, OnConflict::Error).unwrap();
    shell.events.clear();
    // Twice at the very instant of a fire time: both still wait for their jitter.
    for _ in 0..2 {
        let trigger = every_second.clone();
        shell.core.reschedule(key, trigger, Some(epoch()), false, shell.now).unwrap();
    }
    shell.skip_due();
    shell.poll();
    assert!(shell.events.iter().all(|event| event.payload.kind() == EventKind::JobModified));
    // The shell asserts that no run starts early.
    shell.advance(ms(999));
    let kinds = shell.events.iter().map(|event| event.payload.kind());
    let fates = kinds.filter(|kind| matches!(kind, EventKind::Executed | EventKind::Skipped));
    assert_eq!(fates.count(), 3);
}

#[test]
fn runs_that_are_tried_again_keep_to_the_limit_of_a_group_that_their_job_has_left() {
    let mut shell = Shell::new();
    let options = JobOptions {
        max_instances: 3,
        group: Some(Group { name: "group".into(), limit: 2 }),
        retry: Some(Retry::fixed(Duration::from_secs(10)).times(1)),
        ..JobOptions::default()
    };
    let trigger = every(ms(1000)).starting_at(epoch() + ms(1000)).into_trigger().unwrap();
    let key = shell.add(&trigger, options, OnConflict::Error).unwrap();
    shell.failing = true;
    shell.advance(ms(3000));
    let expected = shell.core.settings(key).unwrap();
    let alone = Arc::new(JobOptions { max_instances: 3, ..JobOptions::default() });
    let labels = Labels::default();
    assert!(shell.core.modify(key, &expected, alone, labels, None, shell.now).unwrap());
    shell.skip_due();
    (shell.failing, shell.takes) = (false, ms(1000));
    // All three next attempts are due.
    shell.now += ms(30_000);
    shell.poll();
    let in_group = |shell: &Shell| shell.limited.values().filter(|(group, _)| *group).count();
    assert_eq!(in_group(&shell), 2);
    shell.advance(ms(1000));
    assert_eq!(in_group(&shell), 1);
    shell.core.close(shell.now);
    shell.advance(ms(5000));
    assert!(shell.core.runs.limits().is_idle());
}

#[test]
fn a_run_checks_its_standing_then_its_grace() {
    let late = Duration::from_millis(5);
    let judge = |standing, on_request, grace: Option<u64>| {
        refusal(standing, on_request, late, grace.map(Duration::from_millis))
            .map(|outcome| outcome.to_string())
    };
    assert_eq!(judge(None, false, None), None);
    assert_eq!(judge(None, false, Some(5)), None, "equal is not later");
    assert_eq!(judge(None, false, Some(4)).as_deref(), Some("missed"));
    assert_eq!(judge(None, true, Some(4)), None, "what was asked for is exempt from grace");
    assert_eq!(judge(Some(SkipReason::Paused), true, None), None, "and from pausing");
    assert_eq!(judge(Some(SkipReason::Paused), false, Some(4)).as_deref(), Some("skipped: paused"));
    assert_eq!(
        judge(Some(SkipReason::Shutdown), true, None).as_deref(),
        Some("skipped: shutdown"),
        "but from nothing else"
    );
}

#[test]
fn what_runs_once_has_one_run_and_its_other_fire_times_have_fates() {
    let once = |coalesce, paused: bool| {
        let mut shell = Shell::new();
        let (trigger, first) = shell.segment(&every(ms(1000)).into_trigger().unwrap()).unwrap();
        let new = NewJob {
            id: None,
            once: true,
            options: Some(Arc::new(JobOptions { coalesce, ..JobOptions::default() })),
            ..Shell::new_job("", trigger.clone(), first)
        };
        let key = shell.core.add(new, shell.now).unwrap().key;
        shell.standing.insert(key.incarnation, None);
        shell.segments.push(Segment { trigger, first, until: None });
        if paused {
            shell.core.pause_all(shell.now).unwrap();
            shell.paused = true;
        }
        shell.skip_due();
        shell.now += ms(5000);
        shell.poll();
        if paused {
            shell.core.run_now(key, shell.now).unwrap();
            shell.skip_due();
        }
        shell.advance(ms(10_000));
        assert!(shell.core.registry.len() == 0, "it has ended");
        let runs =
            shell.events.iter().filter(|e| matches!(e.payload, EventPayload::Executed(_))).count();
        (runs, shell.covered.len())
    };
    for coalesce in [Coalesce::Latest, Coalesce::Earliest, Coalesce::All] {
        assert_eq!(once(coalesce, false), (1, 5), "{coalesce:?}");
        assert_eq!(once(coalesce, true), (1, 5), "{coalesce:?}, run now while paused");
    }
}

#[test]
fn more_jitter_or_less_makes_no_fire_time_late() {
    let mut shell = Shell::new();
    let options = |millis| JobOptions {
        jitter: Duration::from_millis(millis),
        misfire_grace_time: Some(Duration::ZERO),
        ..JobOptions::default()
    };
    let trigger = every(ms(10_000)).starting_at(epoch() + ms(10_000)).into_trigger().unwrap();
    let key = shell.add(&trigger, options(9000), OnConflict::Error).unwrap();
    // Within the jitter of the fire time, before the run was due.
    shell.now += ms(10_001);
    let expected = shell.core.settings(key).unwrap();
    let labels = expected.labels.clone();
    shell.core.modify(key, &expected, Arc::new(options(0)), labels, None, shell.now).unwrap();
    shell.skip_due();
    shell.poll();
    shell.advance(ms(100));
    let fates: Vec<_> = shell.events.iter().map(|event| event.payload.kind()).collect();
    assert!(fates.contains(&EventKind::Executed), "{fates:?}");
}

#[test]
fn runs_of_an_outage_start_in_order_of_their_own_fire_times() {
    let mut shell = Shell::new();
    let add = |shell: &mut Shell, name: &str, trigger: Trigger| {
        let (trigger, first) = shell.segment(&trigger).unwrap();
        let new = Shell::new_job(name, trigger.clone(), first);
        shell.core.add(new, shell.now).unwrap()
    };
    let gone = add(&mut shell, "gone", at(epoch() + ms(1)).into_trigger().unwrap());
    add(&mut shell, "second", at(epoch() + ms(5000)).into_trigger().unwrap());
    // Reuses the slot of the removed job, and is nevertheless the younger job.
    shell.core.remove(gone.key, End::Removed, shell.now).unwrap();
    add(&mut shell, "third", at(epoch() + ms(5000)).into_trigger().unwrap());
    let every_second = every(ms(1000)).starting_at(epoch() + ms(1000)).into_trigger().unwrap();
    add(&mut shell, "last", every_second);
    add(&mut shell, "first", at(epoch() + ms(4000)).into_trigger().unwrap());
    shell.now += ms(10_000);
    let mut slots = std::mem::take(&mut shell.core.outbox().dirty);
    slots.sort_unstable();
    shell.core.sort(&mut slots);
    shell.core.wake(&slots, shell.now);
    let order: Vec<_> =
        shell.core.outbox().starts.iter().map(|start| start.job.to_string()).collect();
    assert_eq!(order, ["first", "second", "third", "last"]);
}

#[test]
fn many_jobs_after_a_long_outage_are_woken_in_portions() {
    let mut shell = Shell::new();
    let trigger = cron("* * * * * *").into_trigger().unwrap();
    for n in 0..20 {
        let (trigger, first) = shell.segment(&trigger).unwrap();
        let new = Shell::new_job(&n.to_string(), trigger.clone(), first);
        shell.core.add(new, shell.now).unwrap();
    }
    let slots = std::mem::take(&mut shell.core.outbox().dirty);
    shell.now += TimeDelta::days(1);
    assert_eq!(shell.core.wake(&slots, shell.now), 3, "10,000 are counted for each");
    assert_eq!(shell.core.wake(&slots[3..], shell.now), 3);
}

#[test]
fn what_is_due_when_a_job_is_rescheduled_runs_its_jitter_included() {
    let fates = |jitter| {
        let mut shell = Shell::new();
        let options = JobOptions { jitter: Duration::from_millis(jitter), ..JobOptions::default() };
        let trigger = every(ms(10_000)).starting_at(epoch() + ms(10_000)).into_trigger().unwrap();
        let key = shell.add(&trigger, options, OnConflict::Error).unwrap();
        shell.events.clear();
        shell.now += ms(10_000);
        let later = shell.now + TimeDelta::days(1);
        let other = at(later).into_trigger().unwrap();
        shell.core.reschedule(key, other, Some(later), false, shell.now).unwrap();
        shell.skip_due();
        shell.advance(ms(1));
        let at_once = shell.events.iter().any(|it| it.payload.kind() == EventKind::Executed);
        assert_eq!(at_once, jitter == 0);
        shell.advance(ms(9000));
        let kinds = shell.events.iter().map(|event| event.payload.kind());
        kinds
            .filter(|kind| matches!(kind, EventKind::Executed | EventKind::Skipped))
            .collect::<Vec<_>>()
    };
    assert_eq!(fates(0), [EventKind::Executed]);
    assert_eq!(fates(9000), [EventKind::Executed]);
}
