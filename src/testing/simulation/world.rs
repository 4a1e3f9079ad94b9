//! The world of the nodes: a store behind a network that loses and delays messages, users, and
//! faults.

use std::{collections::BTreeMap, sync::Arc, task::Poll, time::Duration};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use futures::{FutureExt as _, StreamExt as _, executor::block_on, stream::BoxStream};

use super::Simulation;
use super::{
    agenda::{Agenda, Event, Happening, Life, Outside},
    chance::Chance,
    clocks::{AGREEMENT, Clocks, Micros, instant, micros},
    judge::judge,
    log::{Log, describe, name},
    node::{DEADLY, Node, TASKS, UNREADABLE},
    operation::{Commit, MOST, Operation, Operations, is_poison, step},
    scenario::{Disturbance, MILLI, SECOND, Scenario, micros_of},
    verbs::{New, Next, Verb, VerbAnswer, VerbRequest, Wish},
};
use crate::{
    core::{Request, claimer, closer, membership, pruner},
    driver::perform,
    job::JobId,
    ledger::{
        Incarnation, NodeId, Record, RecordFilter, Release, Row, RowKey, RowOutcome, RowState,
        StoreChange, StoreError, Write, WriteResult,
    },
    store::Store,
    testing::ManualClock,
};

pub(super) struct World<S> {
    agenda: Agenda,
    chance: Chance,
    /// The random generator of the later additions.
    further: Chance,
    pub(super) log: Log,
    pub(super) scenario: Scenario,
    store: Arc<Operations<S>>,
    /// The store's clock, which is exact until it steps.
    clock: ManualClock,
    hosts: Vec<Host>,
    requests: BTreeMap<u64, Query>,
    under_way: BTreeMap<u64, UnderWay>,
    wishes: BTreeMap<u64, Wish>,
    count: u64,
    healed: bool,
    at_rest: bool,
}

/// A machine, and the node that runs on it now.
struct Host {
    node: Option<Node>,
    life: u32,
    clocks: Clocks,
    stopped: Option<Stopped>,
    /// Until when the machine cannot reach the store.
    cut_until: Micros,
    changes: Option<BoxStream<'static, StoreChange>>,
}

struct Stopped {
    since: Micros,
    until: Micros,
    /// Whether elapsed time stands still, too.
    suspended: bool,
}

/// A request in flight.
struct Query {
    life: Life,
    ask: Ask,
    /// Whether the request has left the machine, so that a cut does not matter.
    late: bool,
    /// The latency of the reply, if the reply arrives.
    back: Option<Micros>,
}

enum Ask {
    Node(Request),
    Verb(u64, VerbRequest),
}

/// An operation whose commits may be partly done.
struct UnderWay {
    life: Life,
    /// The verb of the operation, and the time by the clock of its node.
    verb: Option<(u64, DateTime<Utc>)>,
    back: Option<Micros>,
    operation: Operation<Result<Reply, StoreError>>,
}

enum Reply {
    Node(crate::core::Reply),
    Verb(VerbAnswer),
}

impl<S: Store> World<S> {
    pub(super) fn new(
        Simulation { seed, traced, several_commits, clockless }: Simulation,
        store: impl FnOnce(ManualClock) -> S,
    ) -> World<S> {
        let mut chance = Chance::new(seed);
        let mut scenario = Scenario::new(&mut chance);
        let clock = ManualClock::new(instant(0));
        // A random generator of its own, so that the other choices of a seed stay the same.
        let mut apart = Chance::new(!seed);
        scenario.faults.store_steps = apart.percent(15);
        let mut further = Chance::new(seed ^ FURTHER);
        scenario.poison(&mut further);
        let store = store(clock.clone());
        scenario.clockless = clockless || !store.capabilities().has_clock;
        if scenario.clockless {
            (scenario.faults.skew, scenario.faults.store_steps) = (false, false);
        }
        let mut world = World {
            agenda: Agenda::default(),
            log: Log::new(traced),
            store: Arc::new(Operations::new(store, several_commits, scenario.faults.refused)),
            clock,
            hosts: Vec::new(),
            requests: BTreeMap::new(),
            under_way: BTreeMap::new(),
            wishes: BTreeMap::new(),
            count: 0,
            healed: false,
            at_rest: false,
            chance,
            further,
            scenario,
        };
        world.log.trace(0, || format!("seed {seed}: {:?}", world.scenario));
        for host in 0..world.scenario.nodes {
            let skew = match world.scenario.faults.skew {
                true => world.chance.between(-20 * SECOND..=20 * SECOND),
                false if clockless => world.further.between(-AGREEMENT / 2..=AGREEMENT / 2),
                false => 0,
            };
            let drift = world.chance.between(-60..=60);
            world.hosts.push(Host {
                node: None,
                life: 0,
                clocks: Clocks::new(0, drift, skew),
                stopped: None,
                cut_until: 0,
                changes: None,
            });
            let boot = if host == 0 { 0 } else { world.chance.between(0..=2 * SECOND) };
            world.agenda.at(boot, Event::Boot(host));
        }
        let busy = world.scenario.busy;
        world.agenda.at(20 * MILLI, Event::Wish(None));
        world.agenda.at(700 * MILLI, Event::Fault(None));
        if world.scenario.faults.store_steps {
            for _ in 0..apart.between(1..=3) {
                let at = apart.between(SECOND..=busy);
                world.agenda.at(at, Event::StoreSteps(apart.between(-20 * SECOND..=20 * SECOND)));
            }
        }
        if world.scenario.unreadable > 0 || world.scenario.faults.deadly {
            world.agenda.at(world.further.between(SECOND..=busy / 2), Event::Poison);
        }
        world.agenda.at(busy, Event::Heal);
        let settled = busy + 4 * micros_of(world.scenario.lease) + 3 * SECOND;
        let settled = settled + world.scenario.poison_time();
        world.agenda.at(settled, Event::Sweep);
        world
    }

    /// Runs all events, and judges the result.
    pub(super) fn run(&mut self) {
        while !self.at_rest && self.log.wrong.len() < 5 {
            let before = self.agenda.now;
            let Some((number, event)) = self.agenda.next() else { break };
            self.clock.advance(Duration::from_micros((self.agenda.now - before).unsigned_abs()));
            self.happen(number, event);
        }
        if self.at_rest {
            let rows = self.rows();
            let here = |(host, at): (usize, &Host)| {
                let node = at.node.as_ref().filter(|node| !node.is_closing());
                node.map(|_| Life { host, life: at.life })
            };
            let alive: Vec<Life> = self.hosts.iter().enumerate().filter_map(here).collect();
            judge(&mut self.log, &self.scenario, &rows, &alive, self.agenda.now);
        }
    }

    fn happen(&mut self, number: u64, event: Event) {
        match event {
            Event::Effect(request) => self.take_effect(request),
            Event::Boot(host) => self.boot(host),
            Event::Fault(host) => self.fault(host),
            Event::Wish(id) => self.wish(id),
            Event::StoreSteps(by) => self.step_store(by),
            Event::HostSteps(host, by) => self.step_host(host, by),
            Event::Poison => self.poison(),
            Event::Heal => self.heal(),
            Event::Sweep => self.sweep(),
            Event::CheckRest(until) => self.check_rest(until),
            Event::Inherited(life, witnesses) => self.check_inheritance(life, &witnesses),
            Event::Of(life, what) => self.happen_to(life, number, what),
        }
    }

    // Nodes.

    fn boot(&mut self, host: usize) {
        let now = self.agenda.now;
        let at = &mut self.hosts[host];
        if at.node.is_some() {
            return;
        }
        at.life += 1;
        at.stopped = None;
        // Elapsed time starts at zero.
        at.clocks = at.clocks.booted(now);
        at.changes = self.scenario.notified.then(|| self.store.store.changes());
        let (life, clocks) = (Life { host, life: at.life }, at.clocks.clone());
        self.log.trace(now, || format!("{life:?} boots"));
        let mut outside = Outside {
            life,
            agenda: &mut self.agenda,
            chance: &mut self.chance,
            log: &mut self.log,
            scenario: &self.scenario,
            requests: Vec::new(),
        };
        let node = Node::new(&mut outside, clocks, host.is_multiple_of(2));
        self.hosts[host].node = Some(node);
    }

    /// Runs `f` on a node, and sends its requests.
    fn with_node<T>(
        &mut self,
        life: Life,
        f: impl FnOnce(&mut Node, &mut Outside<'_>) -> T,
    ) -> Option<T> {
        let host = &mut self.hosts[life.host];
        let node = host.node.as_mut().filter(|_| host.life == life.life)?;
        let mut outside = Outside {
            life,
            agenda: &mut self.agenda,
            chance: &mut self.chance,
            log: &mut self.log,
            scenario: &self.scenario,
            requests: Vec::new(),
        };
        let result = f(node, &mut outside);
        for request in outside.requests {
            self.send(life, request);
        }
        Some(result)
    }

    fn happen_to(&mut self, life: Life, number: u64, what: Happening) {
        let now = self.agenda.now;
        let host = &mut self.hosts[life.host];
        if host.life != life.life || host.node.is_none() {
            return;
        }
        match &host.stopped {
            Some(stopped) if stopped.until > now => {
                self.agenda.put_off(stopped.until, number, Event::Of(life, what));
                return;
            }
            Some(_) => self.go_on(life),
            None => {}
        }
        let cut = self.hosts[life.host].cut_until > now;
        let over = match what {
            Happening::Turn => self.with_node(life, |node, outside| node.turn(outside)),
            Happening::Timers => self.with_node(life, |node, outside| node.expire(outside)),
            Happening::Watch => {
                self.agenda.after(SECOND, Event::Of(life, Happening::Watch));
                self.with_node(life, |node, outside| {
                    node.catch_up(outside);
                    false
                })
            }
            Happening::Begin(run) => self.with_node(life, |node, outside| {
                node.begin(run, outside);
                false
            }),
            Happening::Return(run) => self.with_node(life, |node, outside| {
                node.end(run, false, outside);
                false
            }),
            Happening::Drop(run) => self.with_node(life, |node, outside| {
                node.end(run, true, outside);
                false
            }),
            Happening::Answered(..) if cut => None,
            Happening::Answered(request, answer) => {
                self.with_node(life, |node, outside| node.answered(request, answer, outside))
            }
            Happening::Step(_) if cut => None,
            Happening::Step(request) => {
                self.go_on_with(request);
                None
            }
            Happening::GiveUp(request) => {
                self.under_way.remove(&request);
                self.with_node(life, |node, outside| {
                    node.answered(request, Err(StoreError::unavailable("no answer")), outside)
                })
            }
            Happening::Notified(_) if cut => None,
            Happening::Notified(notified) => self.with_node(life, |node, outside| {
                node.notice(notified, outside);
                false
            }),
            Happening::VerbAnswered(_, _, Ok(_)) if cut => None,
            Happening::VerbAnswered(wish, request, answer) => {
                self.under_way.remove(&request);
                self.wish_answered(wish, request, answer);
                None
            }
            Happening::VerbAgain(wish) => {
                self.ask_for(wish);
                None
            }
            Happening::ResumeAll => self.with_node(life, |node, outside| {
                let _ = node.transact(outside, |core, now| core.resume_all(now));
                false
            }),
            Happening::Die => {
                self.crash(life);
                None
            }
        };
        if over == Some(true) {
            self.has_shut_down(life);
        }
    }

    /// Handles a node that has shut down.
    fn has_shut_down(&mut self, life: Life) {
        let now = self.agenda.now;
        self.log.trace(now, || format!("{life:?} has shut down"));
        self.log.crashed(now, life);
        self.hosts[life.host].node = None;
        self.boot_later(life.host);
    }

    fn boot_later(&mut self, host: usize) {
        let wait = self.chance.between(20 * MILLI..=4 * SECOND);
        let at = (self.agenda.now + wait).min(self.scenario.busy.max(self.agenda.now));
        self.agenda.at(at, Event::Boot(host));
    }

    /// Continues a stopped process.
    fn go_on(&mut self, life: Life) {
        let now = self.agenda.now;
        let host = &mut self.hosts[life.host];
        let Some(Stopped { since, until, suspended }) = host.stopped.take() else { return };
        self.log.trace(now, || format!("{life:?} goes on"));
        self.log.went_on(now, life, since);
        if suspended {
            host.clocks.suspend(until - since);
            if let Some(node) = &mut host.node {
                node.sleep(until - since);
            }
        }
    }

    // The network.

    fn latency(&mut self) -> Micros {
        let most = if self.healed { 2 * MILLI } else { self.scenario.latency };
        match self.chance.below(25) {
            0 => self.chance.between(5 * MILLI..=40 * MILLI),
            _ => self.chance.between(100..=most),
        }
    }

    fn send(&mut self, life: Life, mut request: Request) {
        let number = self.post(life, Ask::Node(request.clone()));
        self.with_node(life, |node, outside| node.sent(number, &mut request, outside));
        if let Some(Query { ask: Ask::Node(sent), .. }) = self.requests.get_mut(&number) {
            *sent = request;
        }
        let patience = self.scenario.timeout();
        self.agenda.after(patience, Event::Of(life, Happening::GiveUp(number)));
    }

    /// Sends a request, unless it is lost.
    fn post(&mut self, life: Life, ask: Ask) -> u64 {
        self.count += 1;
        self.log.counts.requests += 1;
        let number = self.count;
        let (lost, late) = if self.healed {
            (0, 0)
        } else {
            (self.scenario.faults.lost, self.scenario.faults.late)
        };
        let there = self.latency();
        let back = self.latency();
        let back = (!self.chance.percent(lost)).then_some(back);
        // Releases are rare, so more of them are late.
        let late = match &ask {
            Ask::Node(Request::Close(closer::Request::Release { .. })) => {
                self.chance.percent(3 * late)
            }
            _ => self.chance.percent(late),
        };
        if self.chance.percent(lost) {
            return number;
        }
        let there =
            if late { self.chance.between(there..=5 * self.scenario.timeout()) } else { there };
        self.requests.insert(number, Query { life, ask, late, back });
        self.agenda.after(there, Event::Effect(number));
        number
    }

    /// Carries out a request, or its first commit.
    fn take_effect(&mut self, number: u64) {
        let Some(Query { life, ask, late, back }) = self.requests.remove(&number) else { return };
        let now = self.agenda.now;
        if self.hosts[life.host].cut_until > now && !late {
            return;
        }
        let store = self.store.clone();
        let (verb, operation): (_, Operation<_>) = match ask {
            Ask::Node(request) => {
                self.log.trace(now, || format!("      {life:?}: {}", describe_request(&request)));
                let answer = async move { perform(&*store, request).await.map(Reply::Node) };
                (None, Box::pin(answer))
            }
            Ask::Verb(wish, request) => {
                let at = match &request {
                    VerbRequest::Write(_, at) => *at,
                    VerbRequest::Get(_) | VerbRequest::Changed(..) => instant(now),
                };
                let answer = async move { store.perform_verb(request).await.map(Reply::Verb) };
                (Some((wish, at)), Box::pin(answer))
            }
        };
        self.under_way.insert(number, UnderWay { life, verb, back, operation });
        self.go_on_with(number);
    }

    /// Carries out the next commit of an operation.
    fn go_on_with(&mut self, number: u64) {
        let Some(mut under_way) = self.under_way.remove(&number) else { return };
        let done = step(&mut under_way.operation);
        let UnderWay { life, verb, back, .. } = under_way;
        for commit in self.store.commits() {
            self.observe(life, commit, verb);
        }
        self.send_changes();
        let Poll::Ready(answer) = done else {
            // An operation without a waiting caller does not continue.
            let lost = self.chance.percent(if self.healed { 0 } else { self.scenario.faults.lost });
            if self.is_waited_for(life, number, verb) {
                self.under_way.insert(number, under_way);
                if !lost {
                    let wait = self.latency() + self.latency();
                    self.agenda.after(wait, Event::Of(life, Happening::Step(number)));
                }
            }
            return;
        };
        let now = self.agenda.now;
        let happening = match (verb, answer) {
            (None, Ok(Reply::Node(answer))) => {
                self.log.trace(now, || format!("      store answers {number}"));
                Happening::Answered(number, Ok(answer))
            }
            (Some((wish, _)), Ok(Reply::Verb(answer))) => {
                Happening::VerbAnswered(wish, number, Ok(answer))
            }
            (Some((wish, _)), Err(error)) => Happening::VerbAnswered(wish, number, Err(error)),
            (None, Err(error)) => {
                self.log.trace(now, || format!("      store refuses {number}: {error}"));
                Happening::Answered(number, Err(error))
            }
            (None, Ok(Reply::Verb(_))) | (Some(_), Ok(Reply::Node(_))) => return,
        };
        if let Some(back) = back {
            self.agenda.after(back, Event::Of(life, happening));
        }
    }

    /// Whether a caller waits for the reply.
    fn is_waited_for(&self, life: Life, number: u64, verb: Option<(u64, DateTime<Utc>)>) -> bool {
        let host = &self.hosts[life.host];
        let node = host.node.as_ref().filter(|_| host.life == life.life);
        match verb {
            None => node.is_some_and(|node| node.waits_for(number)),
            Some((wish, _)) => {
                node.is_some() && self.wishes.get(&wish).is_some_and(|it| it.asking == number)
            }
        }
    }

    fn send_changes(&mut self) {
        for host in 0..self.hosts.len() {
            let Host { changes: Some(changes), life, .. } = &mut self.hosts[host] else { continue };
            let mut notified = Vec::new();
            while let Some(Some(change)) = changes.next().now_or_never() {
                notified.push(change);
            }
            if !notified.is_empty() {
                let life = Life { host, life: *life };
                let wait = self.chance.between(100..=5 * MILLI);
                self.agenda.after(wait, Event::Of(life, Happening::Notified(notified)));
            }
        }
    }

    /// Logs the effect of a commit, and judges it.
    fn observe(&mut self, life: Life, commit: Commit, verb: Option<(u64, DateTime<Utc>)>) {
        let now = self.agenda.now;
        match commit {
            Commit::Heartbeat { heartbeat, lease_lost, before, after } => {
                let node = self.hosts[life.host].node.as_ref();
                let knows = node.is_some_and(|node| node.trusts_lease(now));
                // Deregistering hands out the begun rows that recover.
                for row in before {
                    self.log.abandoned.insert(row.key, now);
                    if self.is_refused(row.key) {
                        continue;
                    }
                    // A run that was handed over may be given up before its work is called.
                    let given_up = self.scenario.crowd > 0 || self.log.was_begun(&row);
                    if row.recover && given_up {
                        continue;
                    }
                    // A node that does not trust its lease may not know its rows.
                    if knows {
                        let row = describe(&row);
                        self.log.wrong(now, format!("a node leaves and has {row}"));
                    }
                }
                if lease_lost {
                    self.log.was_refused(now, &heartbeat);
                    return;
                }
                self.log.heartbeat_sent(now, life, &heartbeat);
                if after > 0 {
                    self.log.wrong(now, format!("node {} has left and has rows", heartbeat.node));
                }
            }
            Commit::Reap(reaped) => {
                self.log.has_reaped(now, &reaped);
                self.check_over(&reaped.over);
            }
            Commit::Claim(request, claim_result) => self.log.claimed(now, &request, &claim_result),
            Commit::Finish(outcomes, report) => {
                self.log.has_finished(now, &outcomes, &report);
                self.check_over(&report.over);
            }
            Commit::Refuse(key, fence) => self.log.has_refused(now, key, fence),
            Commit::Release { node, rows, changes } => {
                for (&Release { key, fence, .. }, (before, after)) in rows.iter().zip(changes) {
                    let names =
                        |row: &Row| rows.iter().any(|it| (it.key, it.fence) == (key, row.fence));
                    let its = |row: &Row| row.state == RowState::Claimed(node) && names(row);
                    if !before.as_ref().is_some_and(its) && before != after {
                        let (name, after) = (name(key), after.as_ref().map(describe));
                        self.log.wrong(now, format!("{name} is let go under {fence}: {after:?}"));
                    }
                }
            }
            Commit::Write { write, written, before, after, rows } => {
                let (before, after) = (before.as_deref(), after.as_deref());
                for (row, then) in rows {
                    // A waiting row may be closed, since its record goes.
                    if then.is_none_or(|then| then != row && row.state != RowState::Waiting) {
                        self.log.wrong(now, format!("a write changes {}", describe(&row)));
                    }
                }
                let lost = matches!(written, WriteResult::Lost(_));
                if lost && before.is_some_and(|before| before.tokens.contains(write.token)) {
                    self.log.wrong(now, format!("a write of {} was done, and is lost", write.id));
                }
                let at = verb.map_or_else(|| self.clock.now(), |(_, at)| at);
                let wish = verb.map(|(wish, _)| wish);
                self.log.has_written(now, before, after, &write, at, wish);
            }
        }
    }

    /// A job that is over has no open row.
    fn check_over(&mut self, over: &[Incarnation]) {
        for &incarnation in over {
            let rows = block_on(self.store.store.history(incarnation, MOST)).unwrap_or_default();
            if let Some(open) = rows.iter().find(|row| row.state.is_open()) {
                let open = describe(open);
                self.log.wrong(self.agenda.now, format!("{incarnation} is over and has {open}"));
            }
        }
    }

    // Users.

    fn wish(&mut self, about: Option<JobId>) {
        if self.healed {
            return;
        }
        let again = about.is_some();
        let id = about.unwrap_or_else(|| {
            let wait = self.chance.between(5 * MILLI..=self.scenario.pace);
            self.agenda.after(wait, Event::Wish(None));
            format!("job-{}", self.chance.below(self.scenario.ids)).into()
        });
        if self.chance.percent(35) {
            // Another verb, before all nodes know of this one.
            let wait = self.chance.between(0..=150 * MILLI);
            self.agenda.after(wait, Event::Wish(Some(id.clone())));
        }
        let alike = self.scenario.alike;
        let mut verb = Verb::random(&mut self.chance, alike, self.agenda.now, again);
        if self.scenario.mixed && self.further.percent(30) {
            verb = verb.newer();
        }
        let host = self.chance.below(self.hosts.len() as u64) as usize;
        self.wish_on(host, id, verb);
    }

    fn wish_on(&mut self, host: usize, id: JobId, verb: Verb) {
        let at = &self.hosts[host];
        let life = Life { host, life: at.life };
        let fit = |node: &Node| !node.is_closing() && node.knows_clock();
        if at.stopped.is_some() || !at.node.as_ref().is_some_and(fit) {
            return;
        }
        let wish = self.with_node(life, |node, outside| Wish::new(id, verb, node, outside));
        if let Some(Some(wish)) = wish {
            self.count += 1;
            self.log.counts.verbs += 1;
            if wish.adds() {
                self.log.adds.insert(self.count);
            }
            self.wishes.insert(self.count, wish);
            self.ask_for(self.count);
        }
    }

    fn ask_for(&mut self, number: u64) {
        let Some(Wish { life, request, .. }) = self.wishes.get(&number) else { return };
        let (life, request) = (*life, request.clone());
        let adds = self.wishes.get(&number).is_some_and(Wish::adds);
        if adds && self.scenario.faults.crashes && !self.healed && self.further.percent(4) {
            // The process dies before or after the request took effect, possibly before the reply.
            let wait = self.further.between(0..=2 * self.scenario.latency + MILLI);
            self.agenda.after(wait, Event::Of(life, Happening::Die));
        }
        let asking = self.post(life, Ask::Verb(number, request));
        if let Some(wish) = self.wishes.get_mut(&number) {
            wish.asking = asking;
        }
        let lost = Err(StoreError::unavailable("no answer"));
        let lost = Happening::VerbAnswered(number, asking, lost);
        self.agenda.after(self.scenario.timeout(), Event::Of(life, lost));
    }

    fn wish_answered(&mut self, number: u64, asking: u64, answer: Result<VerbAnswer, StoreError>) {
        let Some(mut wish) = self.wishes.remove(&number) else { return };
        if wish.asking != asking {
            self.wishes.insert(number, wish);
            return;
        }
        let life = wish.life;
        let next = self.with_node(life, |node, outside| wish.answered(answer, node, outside));
        match next.unwrap_or(Next::Done) {
            Next::Done => {}
            Next::Ask => {
                self.wishes.insert(number, wish);
                self.ask_for(number);
            }
            Next::AskAfter(wait) => {
                wish.asking = 0;
                self.wishes.insert(number, wish);
                self.agenda.after(wait, Event::Of(life, Happening::VerbAgain(number)));
            }
        }
    }

    // What goes wrong.

    fn fault(&mut self, on: Option<usize>) {
        if self.healed {
            return;
        }
        let lease = micros_of(self.scenario.lease);
        let host = on.unwrap_or_else(|| {
            let wait = self.chance.between(100 * MILLI..=2500 * MILLI);
            self.agenda.after(wait, Event::Fault(None));
            self.chance.below(self.hosts.len() as u64) as usize
        });
        if self.chance.percent(40) {
            // Faults rarely come alone.
            let wait = self.chance.between(1..=2 * lease);
            self.agenda.after(wait, Event::Fault(Some(host)));
        }
        let faults = &self.scenario.faults;
        // About as long as a lease, or any time.
        let time = if self.chance.percent(50) {
            self.chance.between(lease * 3 / 4..=lease * 2)
        } else {
            self.chance.between(1..=3 * lease)
        };
        let until = (self.agenda.now + time).min(self.scenario.busy).max(self.agenda.now + 1);
        let kinds = faults.kinds();
        let life = Life { host, life: self.hosts[host].life };
        if kinds.is_empty() || self.hosts[host].node.is_none() || self.hosts[host].stopped.is_some()
        {
            return;
        }
        self.log.counts.faults += 1;
        let now = self.agenda.now;
        match self.chance.pick(&kinds) {
            Disturbance::Crash => self.crash(life),
            Disturbance::Shutdown => {
                let within = self.chance.pick(&[0, 300 * MILLI, 2 * SECOND]);
                self.log.trace(now, || format!("{life:?} shuts down"));
                self.with_node(life, |node, outside| node.close(within, outside));
            }
            Disturbance::Stop => {
                let suspended = self.chance.percent(50);
                if suspended {
                    // A machine that sleeps right after its clock was set back looks awake by both
                    // of its clocks, unless it noticed the step: the kernel reports it at once.
                    self.with_node(life, |node, outside| node.catch_up(outside));
                }
                self.log.trace(now, || format!("{life:?} stops, suspended: {suspended}"));
                self.hosts[host].stopped = Some(Stopped { since: now, until, suspended });
            }
            Disturbance::Cut => {
                let all = self.chance.percent(25);
                self.log.trace(now, || format!("{life:?} is cut off, with all: {all}"));
                for (index, other) in self.hosts.iter_mut().enumerate() {
                    if all || index == host {
                        other.cut_until = until;
                    }
                }
            }
            Disturbance::Step => {
                let by = if self.chance.percent(50) {
                    self.chance.between(-200 * MILLI..=200 * MILLI)
                } else {
                    self.chance.between(-30 * SECOND..=30 * SECOND)
                };
                if self.scenario.clockless {
                    self.step_all(by);
                } else {
                    self.step_host(host, by);
                }
            }
            Disturbance::Pause => {
                self.log.trace(now, || format!("{life:?} is paused"));
                self.with_node(life, |node, outside| {
                    let _ = node.transact(outside, |core, now| core.pause_all(now));
                });
                self.agenda.at(until, Event::Of(life, Happening::ResumeAll));
            }
        }
    }

    /// Steps the clocks of all machines, at once or one after the other.
    fn step_all(&mut self, by: Micros) {
        let within = self.further.pick(&[0, 0, 400 * MILLI]);
        for host in 0..self.hosts.len() {
            let wait = self.further.between(0..=within);
            self.agenda.after(wait, Event::HostSteps(host, by));
        }
        let wait = self.further.between(0..=within);
        self.agenda.after(wait, Event::StoreSteps(by));
    }

    fn step_host(&mut self, host: usize, by: Micros) {
        let now = self.agenda.now;
        if let Some(Stopped { until, suspended: true, .. }) = self.hosts[host].stopped
            && until >= now
        {
            // A clock that is set back while its machine sleeps hides the sleep.
            self.agenda.at(until + MILLI, Event::HostSteps(host, by));
            return;
        }
        let life = Life { host, life: self.hosts[host].life };
        self.log.trace(now, || format!("{life:?}'s clock steps by {} ms", by / MILLI));
        let at = &mut self.hosts[host];
        at.clocks.step(by);
        at.node.iter_mut().for_each(|node| node.clocks.step(by));
        if self.scenario.clockless {
            self.clocks_stepped();
        }
    }

    /// Without a clock of the store, the clock furthest ahead decides what may be due.
    fn clocks_stepped(&mut self) {
        let now = self.agenda.now;
        let aheads = self.hosts.iter().map(|host| host.clocks.ahead(now));
        let ahead = aheads.max().unwrap_or_default();
        self.log.store_stepped(now, ahead);
    }

    fn step_store(&mut self, by: Micros) {
        let now = self.agenda.now;
        self.log.trace(now, || format!("the store's clock steps by {} ms", by / MILLI));
        self.log.counts.faults += 1;
        self.clock.step(TimeDelta::microseconds(by));
        if self.scenario.clockless {
            return self.clocks_stepped();
        }
        self.log.store_stepped(now, micros(self.clock.now()) - now);
        for host in &mut self.hosts {
            host.node.iter_mut().for_each(Node::lose_time);
        }
    }

    /// Adds due records that no program can read or run, and a job that kills its nodes.
    fn poison(&mut self) {
        let due = instant(self.agenda.now - self.agenda.now % MILLI);
        self.log.trace(self.agenda.now, || "there is poison".into());
        for number in 0..self.scenario.unreadable {
            let incarnation = Incarnation(self.further.number() >> 1);
            let task = if number % 4 == 0 { "unknown" } else { TASKS[0] };
            let id = format!("{UNREADABLE}-{number}");
            let mut record = Record::new(id, incarnation, task, due);
            record.next_fire =
                Some(due.trunc_subsecs(0) - TimeDelta::seconds(self.further.between(0..=5)));
            match number % 4 {
                0 => record.trigger = EVERY_SECOND.into(),
                1 => record.trigger = "{".into(),
                2 => (record.trigger, record.options) = (EVERY_SECOND.into(), "?".into()),
                _ => (record.trigger, record.args) = (EVERY_SECOND.into(), UNREADABLE.into()),
            }
            let added = block_on(self.store.store.write(vec![Write::add(record, number + 1)]));
            assert!(added.is_ok(), "{added:?}");
        }
        self.send_changes();
        if self.scenario.faults.deadly {
            let new = New::deadly(&mut self.further, self.agenda.now);
            let host = self.further.below(self.hosts.len() as u64) as usize;
            self.wish_on(host, format!("{DEADLY}-job").into(), Verb::Add(new));
        }
    }

    /// Unreadable records must stay unchanged.
    fn check_unreadable(&mut self) {
        for record in self.all_records().iter().filter(|it| it.id.as_str().starts_with(UNREADABLE))
        {
            let rows = block_on(self.store.store.history(record.incarnation, MOST));
            if (record.version, record.fence) != (1, 0) || rows.is_ok_and(|rows| !rows.is_empty()) {
                self.log.wrong(self.agenda.now, format!("somebody has changed {}", record.id));
            }
            self.log.counts.unreadable += 1;
            let remove = Write::remove(record.id.clone(), record.stamp(), 1 << 60);
            let _ = block_on(self.store.store.write(vec![remove]));
        }
        if self.log.counts.unreadable != self.scenario.unreadable {
            self.log.wrong(self.agenda.now, "records are gone that nobody can read".into());
        }
    }

    fn crash(&mut self, life: Life) {
        let now = self.agenda.now;
        self.log.trace(now, || format!("{life:?} crashes"));
        self.log.crashed(now, life);
        self.hosts[life.host].node = None;
        self.under_way.retain(|_, under_way| under_way.life != life);
        self.boot_later(life.host);
        if self.scenario.faults.is_reliable() {
            let lives = self.hosts.iter().enumerate().filter(|(_, host)| host.node.is_some());
            let witnesses = lives.map(|(host, at)| Life { host, life: at.life }).collect();
            let lease = micros_of(self.scenario.lease);
            let within = lease + lease / 3 + 300 * MILLI;
            self.agenda.after(within, Event::Inherited(life, witnesses));
        }
    }

    /// The rows of a dead node must have been reclaimed by now, if one of the witnesses was alive
    /// throughout.
    fn check_inheritance(&mut self, dead: Life, witnesses: &[Life]) {
        let alive = |life: &&Life| {
            let host = &self.hosts[life.host];
            host.life == life.life && host.node.as_ref().is_some_and(|node| !node.is_closing())
        };
        if witnesses.iter().find(alive).is_none() {
            return;
        }
        for row in self.rows() {
            if let RowState::Claimed(node) = row.state
                && self.log.is_node_of(node, dead)
            {
                let row = describe(&row);
                self.log.wrong(self.agenda.now, format!("{dead:?} is long dead and has {row}"));
            }
        }
    }

    // The end.

    fn heal(&mut self) {
        self.log.trace(self.agenda.now, || "faults end".into());
        self.healed = true;
        self.hosts.iter_mut().for_each(|host| host.cut_until = 0);
    }

    /// After a while without faults, nothing due may be left. Then all jobs are removed.
    fn sweep(&mut self) {
        let now = self.agenda.now;
        self.log.trace(now, || "all jobs are removed".into());
        self.check_unreadable();
        let since = now - 3 * SECOND;
        let long_ago = self.clock.now() - TimeDelta::seconds(3);
        let rows = self.rows();
        for record in self.records() {
            let of_it = |row: &&Row| row.key.incarnation == record.incarnation;
            let open = rows.iter().filter(of_it).any(|row| row.state.is_open());
            if record.next_fire.is_none() && !open {
                self.log.wrong(now, format!("{} is over, and does not go", record.id));
            }
            // The claiming node may be unable to run the changed job, and ends the runs that it
            // has.
            let ends = rows.iter().filter(of_it).any(|row| match row.state {
                RowState::Claimed(node) => !self.can_run(node, &record),
                _ => false,
            });
            let ends = ends && {
                // A node keeps a row with a refused outcome as long as it lives.
                let keeps = |row: &Row| row.state.is_open() && self.is_refused(row.key);
                let busy = self.log.is_busy(record.incarnation, now - SECOND);
                busy || rows.iter().filter(of_it).any(keeps)
            };
            for row in rows.iter().filter(of_it) {
                if !ends
                    && !self.is_refused(row.key)
                    && self.log.is_stuck(row, record.paused, long_ago, since)
                {
                    self.log.wrong(now, format!("nobody runs {}", describe(row)));
                }
            }
            let waits = record.paused || ends;
            let due = record.next_fire.filter(|&due| !waits && due < long_ago);
            if let Some(due) = due {
                let due = micros(due) / MILLI;
                self.log
                    .wrong(now, format!("{} is due since {due} ms, and nobody runs it", record.id));
            }
            self.wish_on(0, record.id, Verb::Remove);
        }
        self.agenda.after(500 * MILLI, Event::CheckRest(now + 12 * SECOND));
    }

    /// Whether the store refuses the outcome of this row.
    fn is_refused(&self, key: RowKey) -> bool {
        self.scenario.faults.refused && is_poison(key)
    }

    /// Whether this node knows the task of a record, and can read it.
    fn can_run(&self, node: NodeId, record: &Record) -> bool {
        let newer = self.log.life_of(node).is_none_or(|life| life.host.is_multiple_of(2));
        newer || record.task == TASKS[0] && record.tags.is_empty()
    }

    fn check_rest(&mut self, until: Micros) {
        let now = self.agenda.now;
        let mut open = self.rows();
        open.retain(|row| row.state.is_open() && !self.is_refused(row.key));
        if self.records().is_empty() && open.is_empty() && self.wishes.is_empty() {
            self.at_rest = true;
        } else if now >= until {
            for row in open.iter().take(3) {
                self.log.wrong(now, format!("there is no end to {}", describe(row)));
            }
            for record in self.records() {
                self.log.wrong(now, format!("{} does not go", record.id));
            }
            self.at_rest = true;
        } else {
            for record in self.records() {
                self.wish_on(0, record.id, Verb::Remove);
            }
            self.agenda.after(500 * MILLI, Event::CheckRest(until));
        }
    }

    /// Returns the readable records.
    fn records(&self) -> Vec<Record> {
        let mut records = self.all_records();
        records.retain(|record| !record.id.as_str().starts_with(UNREADABLE));
        records
    }

    fn all_records(&self) -> Vec<Record> {
        block_on(self.store.store.list(RecordFilter::default(), None, 1000))
            .unwrap_or_default()
            .records
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        loop {
            let after = rows.last().map(|row| row.key);
            let page = block_on(self.store.store.rows(after, 1000)).unwrap_or_default();
            if page.is_empty() {
                return rows;
            }
            rows.extend(page);
        }
    }
}

/// A trigger that every program can read.
const EVERY_SECOND: &str = r#"{"type":"cron","expression":"* * * * * *"}"#;

/// Derives the seed of the later additions.
const FURTHER: u64 = 0x5eed_0fa1;

/// Describes a request for people.
fn describe_request(request: &Request) -> String {
    match request {
        Request::Membership(request) => describe_membership(request),
        Request::Claim(claimer::Request::Claim(claim)) => {
            let horizon = micros(claim.horizon) / MILLI;
            format!("claims as {} for the {}th time, up to {horizon} ms", claim.node, claim.number)
        }
        Request::Claim(claimer::Request::NextDue(_)) => "asks what is due next".into(),
        Request::Claim(claimer::Request::Changed { known, .. }) => {
            format!("asks what changed of {}", known.len())
        }
        Request::Prune(pruner::Request::Prune { .. }) => "prunes".into(),
        Request::Prune(pruner::Request::List { .. }) => {
            "looks for records of which the clock was wrong".into()
        }
        Request::Prune(pruner::Request::Correct(writes)) => {
            format!("corrects {} records", writes.len())
        }
        Request::Close(closer::Request::Finish(outcomes)) => {
            let outcome = |o: &RowOutcome| format!("{} {} fence {}", name(o.key), o.fate, o.fence);
            format!("finishes {}", outcomes.iter().map(outcome).collect::<Vec<_>>().join("; "))
        }
        Request::Close(closer::Request::Release { rows, .. }) => {
            let row = |row: &Release| {
                format!("{} fence {} attempt {}", name(row.key), row.fence, row.attempt)
            };
            format!("releases {}", rows.iter().map(row).collect::<Vec<_>>().join("; "))
        }
    }
}

fn describe_membership(request: &membership::Request) -> String {
    match request {
        membership::Request::Heartbeat(heartbeat) => {
            format!("lives for {:?} as {}", heartbeat.ttl, heartbeat.node)
        }
        membership::Request::Nodes => "looks for other nodes".into(),
        membership::Request::Reap(suspects) => {
            let suspects: Vec<_> = suspects.iter().map(|(node, _)| node.to_string()).collect();
            format!("reaps {}", suspects.join(", "))
        }
        membership::Request::ClaimedBy { node, .. } => format!("asks what {node} has"),
        membership::Request::Claimed { node, rows } => {
            format!("asks for {} rows of {node}", rows.len())
        }
    }
}
