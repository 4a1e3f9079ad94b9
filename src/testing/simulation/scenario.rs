//! The scenario of a seed: the nodes, the faults and the jobs.

use std::time::Duration;

use chrono::TimeDelta;

use super::{
    chance::Chance,
    clocks::{Micros, instant, micros},
};
use crate::{
    job::{Coalesce, Group, JobOptions, Overlap},
    retry::Retry,
    trigger::{IntoTrigger, Trigger, after, at, cron, every},
};

pub(super) const MILLI: Micros = 1_000;
pub(super) const SECOND: Micros = 1_000_000;

/// The scenario of a seed: one field for each variable of a simulation.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) nodes: usize,
    pub(super) lease: Duration,
    pub(super) claim_ahead: Duration,
    pub(super) poll: Duration,
    pub(super) max_batch: usize,
    /// Whether the store notifies nodes of changes.
    pub(super) notified: bool,
    /// How many job ids there are.
    pub(super) ids: u64,
    /// How long new jobs and faults come.
    pub(super) busy: Micros,
    /// The longest time between two verbs of users.
    pub(super) pace: Micros,
    /// The usual maximum latency of a message.
    pub(super) latency: Micros,
    /// The longest wait of a run between its handover and its start.
    pub(super) crowd: Micros,
    /// The percentage of runs that stop when they are cancelled.
    pub(super) obedience: u64,
    /// The percentage of long runs.
    pub(super) lengthy: u64,
    /// The percentage of triggers that share instants with other triggers.
    pub(super) alike: u64,
    /// Whether the store uses the clocks of the machines, which agree.
    pub(super) clockless: bool,
    /// Whether half of the nodes are older programs, which cannot read some jobs.
    pub(super) mixed: bool,
    /// How many records no program can read or run.
    pub(super) unreadable: u64,
    pub(super) faults: Faults,
}

/// The faults.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// The percentage of lost requests and replies.
    pub(super) lost: u64,
    /// The percentage of requests that take effect much later.
    pub(super) late: u64,
    pub(super) crashes: bool,
    pub(super) shutdowns: bool,
    /// Processes that are stopped and continue, and machines that are suspended.
    pub(super) pauses: bool,
    /// Nodes that cannot reach the store.
    pub(super) cuts: bool,
    pub(super) steps: bool,
    pub(super) skew: bool,
    /// Whether the store's clock steps, too.
    pub(super) store_steps: bool,
    /// Whether there are runs that kill each node on which they run.
    pub(super) deadly: bool,
    /// Whether there are outcomes that the store refuses for good.
    pub(super) refused: bool,
}

/// A fault of a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Disturbance {
    Crash,
    Shutdown,
    Stop,
    Cut,
    Step,
    /// The scheduler is paused.
    Pause,
}

impl Faults {
    /// Returns the possible faults of a node.
    pub(super) fn kinds(&self) -> Vec<Disturbance> {
        let Faults { crashes, shutdowns, pauses, cuts, steps, .. } = *self;
        let kinds = [
            (crashes, Disturbance::Crash),
            (shutdowns, Disturbance::Shutdown),
            (pauses, Disturbance::Stop),
            (cuts, Disturbance::Cut),
            (steps, Disturbance::Step),
            (shutdowns, Disturbance::Pause),
        ];
        kinds.into_iter().filter(|(may_be, _)| *may_be).map(|(_, kind)| kind).collect()
    }

    /// Whether messages arrive, and live nodes reply to them.
    pub(super) fn is_reliable(&self) -> bool {
        self.lost == 0 && self.late == 0 && !self.pauses && !self.cuts && !self.steps
    }

    /// Whether all clocks run evenly.
    pub(super) fn is_steady(&self) -> bool {
        !self.pauses && !self.steps && !self.store_steps
    }

    pub(super) fn is_calm(&self) -> bool {
        let lives = !self.crashes && !self.shutdowns && !self.deadly;
        self.is_reliable() && lives && !self.store_steps && !self.refused
    }
}

impl Scenario {
    pub(super) fn new(chance: &mut Chance) -> Scenario {
        let millis = |millis| Duration::from_millis(millis);
        let calm = chance.percent(12);
        let some = |chance: &mut Chance, percent| !calm && chance.percent(percent);
        let faults = Faults {
            lost: if some(chance, 50) { chance.pick(&[4, 4, 12]) } else { 0 },
            late: if some(chance, 45) { chance.pick(&[4, 12, 25]) } else { 0 },
            crashes: some(chance, 50),
            shutdowns: some(chance, 40),
            pauses: some(chance, 40),
            cuts: some(chance, 50),
            steps: some(chance, 35),
            skew: some(chance, 60),
            ..Faults::default()
        };
        let lease = chance.pick(&[millis(600), millis(1000), millis(1500), millis(3000)]);
        Scenario {
            nodes: chance.pick(&[1, 2, 2, 3, 3, 4, 5]),
            lease,
            claim_ahead: chance.pick(&[millis(0), millis(300), millis(1000), millis(1000)]),
            poll: chance.pick(&[millis(200), millis(1000), millis(3000)]),
            max_batch: chance.pick(&[1, 3, 100, 1000]),
            notified: chance.percent(60),
            ids: chance.pick(&[1, 2, 4, 6]),
            busy: chance.between(6 * SECOND..=14 * SECOND),
            pace: chance.pick(&[300 * MILLI, 800 * MILLI, 2 * SECOND]),
            crowd: if faults.is_reliable() { 0 } else { chance.pick(&[0, 0, micros_of(lease)]) },
            obedience: chance.pick(&[90, 60, 20]),
            lengthy: chance.pick(&[10, 10, 50]),
            alike: chance.pick(&[10, 30, 95]),
            latency: if faults.is_reliable() {
                2 * MILLI
            } else {
                chance.pick(&[2, 2, 2, 20, 60]) * MILLI
            },
            clockless: false,
            mixed: false,
            unreadable: 0,
            faults,
        }
    }

    /// Sets the later additions to the scenario, from a random generator of their own, so that the
    /// rest of a seed's scenario stays the same.
    pub(super) fn poison(&mut self, chance: &mut Chance) {
        self.mixed = chance.percent(25);
        self.unreadable =
            if chance.percent(20) { chance.pick(&[1, 1, 5, 5, 40, 40, 40, 300]) } else { 0 };
        self.faults.deadly = chance.percent(12);
        self.faults.refused = chance.percent(15);
    }

    /// How long a poison run may keep killing nodes, one incarnation after the other.
    pub(super) fn poison_time(&self) -> Micros {
        if self.faults.deadly { 5 * (micros_of(self.lease) * 5 / 3 + SECOND) } else { 0 }
    }

    /// The timeout of a reply.
    pub(super) fn timeout(&self) -> Micros {
        micros_of(self.lease / 4)
    }
}

pub(super) fn micros_of(duration: Duration) -> Micros {
    duration.as_micros() as Micros
}

/// Returns a trigger that fires once, within two seconds.
pub(super) fn soon(chance: &mut Chance, now: Micros) -> Trigger {
    let soon = instant(now - now % MILLI + chance.between(0..=1500) * MILLI);
    at(soon).into_trigger().unwrap_or_else(|error| unreachable!("{error}"))
}

/// Returns a random trigger of a user.
pub(super) fn trigger(chance: &mut Chance, alike: u64, now: Micros) -> Trigger {
    let ms = TimeDelta::milliseconds;
    let now = instant(now - now % MILLI);
    let interval = |chance: &mut Chance| {
        if chance.percent(alike) {
            let start = instant(chance.between(-2..=2) * SECOND + micros(now) / SECOND * SECOND);
            return every(ms(chance.pick(&[100, 250, 500, 1000, 2000]))).starting_at(start);
        }
        let period = chance.pick(&[50, 90, 200, 350, 700, 1000, 1000, 2500, 4000]);
        let start = now + ms(chance.between(-900..=1500));
        let build = every(ms(period));
        if chance.percent(60) { build.starting_at(start) } else { build }
    };
    let made = match chance.below(12) {
        0..=3 => interval(chance).into_trigger(),
        4..=5 => interval(chance).times(chance.below(20) + 1).into_trigger(),
        6 => interval(chance).until(now + ms(chance.between(2500..=9000))).into_trigger(),
        7 => every(ms(300)).immediately().times(chance.below(4) + 1).into_trigger(),
        8 => at(now + ms(chance.between(-3000..=6000))).into_trigger(),
        9 => after(Duration::from_millis(chance.below(2000))).into_trigger(),
        10 => cron("* * * * * *").into_trigger(),
        _ => cron("*/3 * * * * *").into_trigger(),
    };
    made.unwrap_or_else(|error| unreachable!("the simulation made a wrong trigger: {error}"))
}

/// Returns random options of a user.
pub(super) fn options(chance: &mut Chance) -> JobOptions {
    let millis = Duration::from_millis;
    JobOptions {
        misfire_grace_time: chance.percent(40).then(|| millis(chance.below(1500))),
        coalesce: chance.pick(&[Coalesce::Latest, Coalesce::Earliest, Coalesce::All]),
        max_catch_up: chance.pick(&[1, 3, 100]),
        max_instances: chance.pick(&[1, 1, 1, 2, 3]),
        overlap: chance.pick(&[
            Overlap::Skip,
            Overlap::Skip,
            Overlap::Queue(1),
            Overlap::Queue(4),
            Overlap::CancelPrevious,
        ]),
        jitter: if chance.percent(25) { millis(chance.below(400)) } else { Duration::ZERO },
        cancel_grace: millis(chance.pick(&[0, 50, 400, 3000])),
        timeout: chance.percent(20).then(|| millis(chance.pick(&[40, 300, 1500]))),
        retry: chance
            .percent(25)
            .then(|| Retry::fixed(millis(chance.pick(&[0, 30, 400]))).times(2)),
        group: chance.percent(15).then(|| Group { name: "narrow".into(), limit: 2 }),
        ..JobOptions::default()
    }
}
