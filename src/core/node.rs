//! A node of a store: when it says that it lives, what it takes and gives back, and how long it
//! believes its own word. It asks and is answered; it neither waits nor reads a clock.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{ahead, ahead::Definition, mix};
use crate::{
    clock::Reading,
    error::Error,
    job::JobId,
    panic::shielded_or,
    store::{
        Beat, Changed, Decide, Decision, Finished, Finishes, Incarnation, Keep, NextDue, NodeId,
        Pruned, Reaped, Record, RowKey, StoreError, Take, Takings,
    },
};

/// How a scheduler uses its store.
#[derive(Clone, Debug)]
pub(crate) struct NodeOptions {
    /// For people.
    pub(crate) name: Arc<str>,
    /// How long a sign of life counts.
    pub(crate) lease: Duration,
    /// How far ahead fire times are taken.
    pub(crate) claim_ahead: Duration,
    /// How often the store is asked for changes that it did not tell of.
    pub(crate) poll: Duration,
    pub(crate) keep: Keep,
    /// How many jobs or rows one operation of the store may be asked for.
    pub(crate) max_batch: usize,
    /// Tells this node's numbers from those of others.
    pub(crate) seed: u64,
}

/// Says whether a job of this record can run here.
pub(crate) type Fits = Arc<dyn Fn(&Record, &Definition) -> Result<(), Error> + Send + Sync>;

/// What a node asks its store.
#[derive(Clone)]
pub(crate) enum Request {
    Beat(Beat),
    Reap,
    TakenBy(NodeId, usize),
    Take(Take),
    NextDue(NextDue),
    Changed(Vec<(JobId, Incarnation, u64)>),
    Prune(Keep, Option<RowKey>, usize),
    Finish(Vec<Finished>),
    Release(NodeId, Vec<(RowKey, u64)>),
}

/// What the store answers.
#[derive(Debug)]
pub(crate) enum Answer {
    Beat(DateTime<Utc>),
    Reaped(Reaped),
    TakenBy(Takings),
    Takings(Takings),
    NextDue(Option<DateTime<Utc>>),
    Changed(Vec<Changed>),
    Pruned(Pruned),
    Finished(Finishes),
    Released,
}

/// A request, and which it is.
pub(crate) type Asked = (Lane, Request);

/// Requests of one lane go one after the other; the lanes do not wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Life, and those who lost it.
    Life,
    /// What to do.
    Take,
    /// What was done.
    Close,
}

/// What of an answer concerns the jobs.
pub(crate) enum News {
    /// Rows were taken by this node.
    Taken(Takings),
    /// Rows that this node has, as far as the store knows.
    Mine(Takings),
    Changed(Vec<Changed>),
    /// The store knows what became of these rows, and that these jobs are over with them.
    Settled {
        rows: Vec<(RowKey, u64)>,
        over: Vec<Incarnation>,
    },
    Reaped(Reaped),
    /// The store did not answer as it should, after it did.
    Failing(StoreError),
    /// It does again.
    Working,
    /// Its clock was found to be this much further than thought.
    ClockMoved(TimeDelta),
    /// The node believes itself again.
    Trusted,
    /// The store takes the node for dead.
    Lost,
    /// Records that can't be read, or run, here.
    Unreadable(Vec<(JobId, Error)>),
}

/// How long the node's own word counts; for whoever is about to start a run.
#[derive(Debug)]
pub(crate) struct Lease {
    /// In milliseconds since 1970, and of elapsed time.
    wall: AtomicI64,
    elapsed: AtomicI64,
    /// Counts how often the store took the node for dead.
    life: AtomicU32,
    /// How much sooner than the store the node takes itself for dead.
    margin: TimeDelta,
}

impl Lease {
    fn new(margin: TimeDelta) -> Lease {
        let never = || AtomicI64::new(i64::MIN);
        Lease { wall: never(), elapsed: never(), life: AtomicU32::new(0), margin }
    }

    fn set(&self, wall: i64, elapsed: i64) {
        self.wall.store(wall, Ordering::SeqCst);
        self.elapsed.store(elapsed, Ordering::SeqCst);
    }

    /// How much longer: the clock that gets there first counts.
    pub(crate) fn left(&self, now: Reading) -> TimeDelta {
        let wall = self.wall.load(Ordering::SeqCst).saturating_sub(now.wall.timestamp_millis());
        let elapsed =
            self.elapsed.load(Ordering::SeqCst).saturating_sub(now.elapsed.num_milliseconds());
        TimeDelta::try_milliseconds(wall.min(elapsed).clamp(-MAX_MS, MAX_MS)).unwrap_or_default()
    }

    pub(crate) fn is_trusted(&self, now: Reading) -> bool {
        self.left(now) > TimeDelta::zero()
    }

    /// In which of its lives the node is.
    pub(crate) fn life(&self) -> u32 {
        self.life.load(Ordering::SeqCst)
    }

    /// How long a run that is asked to stop may go on: until a moment before the lease runs out.
    pub(crate) fn grace(&self, now: Reading) -> Duration {
        let left = self.left(now) + self.margin * 3 / 4;
        left.to_std().unwrap_or_default()
    }
}

const MAX_MS: i64 = 1 << 40;

pub(super) struct Node {
    options: NodeOptions,
    pub(super) tasks: Arc<HashSet<String>>,
    except: Arc<HashSet<Incarnation>>,
    /// Those of them that were told of, and their versions.
    reported: HashSet<(Incarnation, u64)>,
    fits: Fits,
    /// This life of it.
    id: NodeId,
    /// Whether the store knows of this life.
    joined: bool,
    numbers: u64,
    lease: Arc<Lease>,
    /// Whether the jobs were told that it is trusted.
    trusted: bool,
    clock: Option<StoreClock>,
    /// What the wall clock here said when elapsed time was zero, as far as its steps were noticed.
    own_zero: DateTime<Utc>,
    life: Traffic,
    take: Traffic,
    close: Traffic,
    /// Whether the store answers as it should.
    failing: bool,
    next_beat: TimeDelta,
    reap: bool,
    ask_mine: bool,
    takes: u64,
    /// A take whose answer did not come, to be asked again.
    taking: Option<Take>,
    /// When to take, as far as the store has said.
    told: TimeDelta,
    /// The same, as far as the node knows better.
    expected: TimeDelta,
    /// How often a take found nothing although something was due.
    in_vain: u32,
    /// When it makes sense to take again after that.
    patient_until: TimeDelta,
    limit: usize,
    ask_due: bool,
    ask_changed: bool,
    next_look: TimeDelta,
    next_poll: TimeDelta,
    next_prune: TimeDelta,
    prune_from: Option<RowKey>,
    outcomes: VecDeque<Finished>,
    /// Whose they are.
    untold: HashSet<(RowKey, u64)>,
    /// How many are told at once: one after the other if there is one that the store refuses.
    told_at_once: usize,
    releases: Vec<(RowKey, u64)>,
    /// When outcomes are sent, if there are any.
    flush_at: Option<TimeDelta>,
    /// Rows that were closed or released while the store was asked which there are.
    settled: HashSet<(RowKey, u64)>,
    /// Records that were changed, or removed, while the store was asked.
    overtaken: HashMap<Incarnation, Option<Record>>,
    /// Rows that others are to run again, once the node has left.
    left_behind: HashSet<(RowKey, u64)>,
    unreadable: Arc<Mutex<Vec<Unreadable>>>,
    pub(super) paused: bool,
    leaving: bool,
    left: bool,
}

/// A record that a take could not read.
struct Unreadable {
    incarnation: Incarnation,
    version: u64,
    job: JobId,
    error: Error,
}

/// What is under way on a lane.
#[derive(Default)]
struct Traffic {
    /// When the request was sent that is not answered.
    sent: Option<Reading>,
    failures: u32,
    not_before: TimeDelta,
}

impl Traffic {
    fn is_free(&self, now: Reading) -> bool {
        self.sent.is_none() && now.elapsed >= self.not_before
    }
}

/// The store's clock as this node knows it: elapsed time, moved.
#[derive(Clone, Copy, Debug)]
struct StoreClock {
    /// What it said when elapsed time was zero.
    zero: DateTime<Utc>,
    /// How far off that may be, when it was measured.
    uncertainty: TimeDelta,
    measured_at: TimeDelta,
}

impl StoreClock {
    /// How fast two clocks may part, one second in so many.
    const DRIFT: i32 = 5000;

    fn measure(said: DateTime<Utc>, sent: Reading, now: Reading) -> StoreClock {
        let half_way = (now.elapsed - sent.elapsed) / 2;
        // It leaves out what is less than a millisecond: half of one, on average.
        let left_out = TimeDelta::microseconds(500);
        let zero = said.checked_sub_signed(sent.elapsed + half_way - left_out).unwrap_or(said);
        StoreClock { zero, uncertainty: half_way + left_out, measured_at: now.elapsed }
    }

    fn now(&self, now: Reading) -> DateTime<Utc> {
        self.zero.checked_add_signed(now.elapsed).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// How far it is ahead of one that said this when elapsed time was zero. The two are the same as
    /// long as they can't be told apart: often it is one clock, and then what is in the store runs as
    /// exactly as what is in memory, and never early.
    fn ahead_of(&self, zero: DateTime<Utc>) -> TimeDelta {
        let ahead = self.zero - zero;
        if ahead.abs() <= self.uncertainty { TimeDelta::zero() } else { ahead }
    }

    /// Takes another measurement into account, if it is more precise or contradicts this one.
    fn refine(&mut self, new: StoreClock) {
        let age = (new.measured_at - self.measured_at) / StoreClock::DRIFT;
        let uncertainty = self.uncertainty + age.max(TimeDelta::zero());
        let moved = new.zero - self.zero;
        if new.uncertainty <= uncertainty || moved.abs() > uncertainty + new.uncertainty {
            // What is less than a millisecond moves nothing.
            let whole = TimeDelta::milliseconds(moved.num_milliseconds());
            let uncertainty = new.uncertainty + (moved - whole).abs();
            *self = StoreClock { zero: self.zero + whole, uncertainty, ..new };
        }
    }
}

/// How long outcomes are gathered before they are sent.
const LINGER: TimeDelta = TimeDelta::milliseconds(10);

/// How long after the store was asked for changes it is not asked again because it told of some: what
/// is asked grows with what is held, and a busy store tells all the time.
const LOOK_EVERY: TimeDelta = TimeDelta::milliseconds(100);

/// How often a batch of the ledger is looked at for what need not be kept.
const PRUNE_EVERY: TimeDelta = TimeDelta::seconds(2);

/// How long after it was looked at to its end.
const PRUNE_AGAIN: TimeDelta = TimeDelta::minutes(1);

/// How many rows it is.
const PRUNED: usize = 500;

/// How many rows a node has at most, taken and not closed.
const MAX_OPEN: usize = 20_000;

/// How many records that it can't read a node remembers.
const MAX_UNREADABLE: usize = 10_000;

impl NodeOptions {
    /// How much sooner than the store a node takes itself for dead.
    fn margin(&self) -> TimeDelta {
        delta(self.lease / 5)
    }

    fn beat_every(&self) -> TimeDelta {
        delta(self.lease / 3)
    }
}

impl Node {
    pub(super) fn new(
        options: NodeOptions,
        tasks: HashSet<String>,
        fits: Fits,
        now: Reading,
    ) -> Node {
        let lease = Arc::new(Lease::new(options.margin()));
        let mut node = Node {
            id: NodeId(0),
            numbers: options.seed,
            limit: options.max_batch.min(100),
            options,
            tasks: Arc::new(tasks),
            except: Arc::default(),
            reported: HashSet::new(),
            fits,
            joined: false,
            lease,
            trusted: false,
            clock: None,
            own_zero: now.wall.checked_sub_signed(now.elapsed).unwrap_or(now.wall),
            life: Traffic::default(),
            take: Traffic::default(),
            close: Traffic::default(),
            failing: false,
            next_beat: TimeDelta::MIN,
            reap: false,
            ask_mine: false,
            takes: 0,
            taking: None,
            told: TimeDelta::MAX,
            expected: TimeDelta::MIN,
            in_vain: 0,
            patient_until: TimeDelta::MIN,
            ask_due: false,
            ask_changed: false,
            next_look: TimeDelta::MIN,
            next_poll: TimeDelta::MIN,
            next_prune: TimeDelta::MIN,
            prune_from: None,
            outcomes: VecDeque::new(),
            untold: HashSet::new(),
            told_at_once: usize::MAX,
            releases: Vec::new(),
            flush_at: None,
            settled: HashSet::new(),
            overtaken: HashMap::new(),
            left_behind: HashSet::new(),
            unreadable: Arc::default(),
            paused: false,
            leaving: false,
            left: false,
        };
        node.id = NodeId(node.number());
        node
    }

    pub(super) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    pub(super) fn id(&self) -> NodeId {
        self.id
    }

    /// A number of 63 bits that nobody else has.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers = self.numbers.wrapping_add(1);
        mix(mix(self.options.seed).wrapping_add(self.numbers)) >> 1
    }

    pub(super) fn knows_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// What the store's clock says, as far as it is known.
    pub(super) fn store_now(&self, now: Reading) -> DateTime<Utc> {
        self.clock.map_or(now.wall, |clock| clock.now(now))
    }

    /// When an instant of the store's clock comes, by the wall clock here.
    pub(super) fn here(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        instant.checked_sub_signed(self.ahead()).unwrap_or(instant)
    }

    /// When an instant of the wall clock here comes, by the store's.
    pub(super) fn there(&self, instant: DateTime<Utc>) -> DateTime<Utc> {
        instant.checked_add_signed(self.ahead()).unwrap_or(instant)
    }

    /// How far the store's clock is ahead of the wall clock here, as far as is known.
    fn ahead(&self) -> TimeDelta {
        self.clock.map_or(TimeDelta::zero(), |clock| clock.ahead_of(self.own_zero))
    }

    /// The wall clock here stepped by so much; says by how much the store's is further ahead of it.
    pub(super) fn clock_stepped(&mut self, by: TimeDelta) -> TimeDelta {
        let before = self.ahead();
        self.own_zero = self.own_zero.checked_add_signed(by).unwrap_or(self.own_zero);
        self.next_beat = TimeDelta::MIN;
        self.ahead() - before
    }

    /// Whether it believes that the store takes it for alive.
    pub(super) fn is_trusted(&self, now: Reading) -> bool {
        self.lease.is_trusted(now)
    }

    /// Whether its trust has ended since the jobs were told that it had it.
    pub(super) fn has_lapsed(&mut self, now: Reading) -> bool {
        self.trusted && !self.is_trusted(now) && std::mem::replace(&mut self.trusted, false)
    }

    /// Something comes due at `instant` by the store's clock.
    pub(super) fn expect(&mut self, instant: DateTime<Utc>, now: Reading) {
        let wait = instant - self.store_now(now) - self.lead();
        self.expected = self.expected.min(now.elapsed + wait.max(TimeDelta::zero()));
    }

    /// Something may have changed in the store.
    pub(super) fn look(&mut self) {
        self.ask_changed = true;
        self.ask_due = true;
    }

    /// How long before something is due it is taken: later than as soon as possible, so that it comes
    /// in batches.
    fn lead(&self) -> TimeDelta {
        delta(self.options.claim_ahead) / 2
    }

    /// Closes a row.
    pub(super) fn finish(&mut self, outcome: Finished, now: Reading) {
        self.flush_at.get_or_insert(now.elapsed + LINGER);
        self.untold.insert((outcome.key, outcome.fence));
        self.outcomes.push_back(outcome);
    }

    /// Takes nothing of a job that it can't read, for a while.
    pub(super) fn leave_out(&mut self, incarnation: Incarnation) {
        if self.except.len() < MAX_UNREADABLE {
            Arc::make_mut(&mut self.except).insert(incarnation);
        }
    }

    /// Lets a row be taken by others.
    pub(super) fn release(&mut self, key: RowKey, fence: u64) {
        self.releases.push((key, fence));
    }

    /// Leaves a row to others, when the node has left.
    pub(super) fn leave_behind(&mut self, key: RowKey, fence: u64) {
        self.left_behind.insert((key, fence));
    }

    /// Says good-bye to the store, once all is told that there is to tell.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Whether it has told the store all, and left.
    pub(super) fn has_left(&self) -> bool {
        self.left
    }

    /// How many outcomes the store has not been told.
    pub(super) fn untold(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether the store may show this row as taken although it has been settled.
    pub(super) fn is_settled(&self, key: RowKey, fence: u64) -> bool {
        self.settled.contains(&(key, fence))
            || self.left_behind.contains(&(key, fence))
            || self.releases.contains(&(key, fence))
            || self.untold.contains(&(key, fence))
    }

    /// A record was changed to this, or removed: an answer that is on its way may not know.
    pub(super) fn overtake(&mut self, incarnation: Incarnation, record: Option<&Record>) {
        let newer = |known: &Option<Record>| match (known, record) {
            (Some(known), Some(record)) => known.version < record.version,
            (known, _) => known.is_some(),
        };
        if self.overtaken.get(&incarnation).is_none_or(newer) {
            self.overtaken.insert(incarnation, record.cloned());
        }
    }

    /// What became of a record while the store was asked; `Some(None)` if it was removed.
    pub(super) fn overtaken(&self, incarnation: Incarnation) -> Option<&Option<Record>> {
        self.overtaken.get(&incarnation)
    }

    /// When it must be asked again what it wants.
    pub(super) fn wake_at(&self, open: usize, now: Reading) -> Option<TimeDelta> {
        if self.left {
            return None;
        }
        let mut at = Vec::new();
        let mut lane = |traffic: &Traffic, wanted: Option<TimeDelta>| {
            if traffic.sent.is_none() {
                at.extend(wanted.map(|wanted| wanted.max(traffic.not_before)));
            }
        };
        lane(&self.life, self.life_wanted());
        if self.takes_now(now) {
            lane(&self.take, self.take_wanted(open));
        }
        lane(&self.close, self.close_wanted());
        if self.trusted {
            at.push(now.elapsed + self.lease.left(now).max(TimeDelta::zero()));
        }
        at.into_iter().min()
    }

    /// Whether it leaves and there is nothing left that it has, or is to tell.
    fn may_leave(&self) -> bool {
        let told = self.outcomes.is_empty() && self.releases.is_empty();
        // What a take has taken that was not answered would be abandoned.
        let has_all = self.take.sent.is_none() && self.taking.is_none();
        self.leaving && told && self.close.sent.is_none() && has_all
    }

    fn life_wanted(&self) -> Option<TimeDelta> {
        if self.may_leave() {
            return Some(TimeDelta::MIN);
        }
        if self.leaving {
            // Its lease must not run out while it waits.
            return self.joined.then_some(self.next_beat);
        }
        if self.joined && (self.reap || self.ask_mine) {
            return Some(TimeDelta::MIN);
        }
        Some(self.next_beat)
    }

    /// Whether more may be taken: not while the store is not told of what was.
    fn has_room(&self, open: usize) -> bool {
        open + self.outcomes.len() < MAX_OPEN
    }

    fn takes_now(&self, now: Reading) -> bool {
        self.joined && (!self.leaving || self.taking.is_some()) && self.is_trusted(now)
    }

    fn take_wanted(&self, open: usize) -> Option<TimeDelta> {
        if self.taking.is_some() || self.ask_due {
            return Some(TimeDelta::MIN);
        }
        let take = (!self.paused && self.has_room(open)).then_some(self.next_take());
        let poll = self.changes_wanted().min(self.next_prune);
        Some(take.map_or(poll, |take| take.min(poll)))
    }

    fn changes_wanted(&self) -> TimeDelta {
        let looks = self.ask_changed.then_some(self.next_look);
        looks.map_or(self.next_poll, |look| look.min(self.next_poll))
    }

    fn close_wanted(&self) -> Option<TimeDelta> {
        let full = self.outcomes.len() >= self.options.max_batch.min(100);
        match self.flush_at {
            _ if !self.releases.is_empty() => Some(TimeDelta::MIN),
            Some(_) if full || self.leaving => Some(TimeDelta::MIN),
            flush_at => flush_at,
        }
    }

    /// What is to be asked now. `held` are the jobs that it holds and `open` is how many rows; what is
    /// asked is answered.
    pub(super) fn poll(
        &mut self,
        now: Reading,
        open: usize,
        held: impl FnOnce() -> Vec<(JobId, Incarnation, u64)>,
    ) -> Vec<Asked> {
        if self.left {
            return Vec::new();
        }
        if self.life.sent.is_none() && self.take.sent.is_none() && self.taking.is_none() {
            // What the store knew before it is asked, its answer will show.
            self.settled.clear();
            self.overtaken.clear();
        }
        let mut asked = Vec::new();
        if self.life.is_free(now) && self.life_wanted().is_some_and(|at| at <= now.elapsed) {
            let request = self.life_request(now);
            self.life.sent = Some(now);
            asked.push((Lane::Life, request));
        }
        if self.take.is_free(now)
            && self.takes_now(now)
            && self.take_wanted(open).is_some_and(|at| at <= now.elapsed)
            && let Some(request) = self.take_request(now, open, held)
        {
            self.take.sent = Some(now);
            asked.push((Lane::Take, request));
        }
        if self.close.is_free(now)
            && self.close_wanted().is_some_and(|at| at <= now.elapsed)
            && let Some(request) = self.close_request(now)
        {
            self.close.sent = Some(now);
            asked.push((Lane::Close, request));
        }
        asked
    }

    fn life_request(&mut self, now: Reading) -> Request {
        let leaves = self.may_leave();
        let ttl = if leaves { Duration::ZERO } else { self.options.lease };
        if leaves || !self.joined || now.elapsed >= self.next_beat {
            let (node, name) = (self.id, self.options.name.clone());
            return Request::Beat(Beat { node, name, first: !self.joined, ttl });
        }
        if std::mem::take(&mut self.reap) {
            return Request::Reap;
        }
        self.ask_mine = false;
        Request::TakenBy(self.id, MAX_OPEN)
    }

    fn take_request(
        &mut self,
        now: Reading,
        open: usize,
        held: impl FnOnce() -> Vec<(JobId, Incarnation, u64)>,
    ) -> Option<Request> {
        if let Some(take) = &self.taking {
            return Some(Request::Take(take.clone()));
        }
        if now.elapsed >= self.changes_wanted() {
            self.ask_changed = false;
            self.next_look = now.elapsed + LOOK_EVERY;
            // What could not be read, or run here, may have been changed.
            if !self.except.is_empty() {
                self.except = Arc::default();
            }
            // Nodes that poll do not do it together.
            let part = (self.number() % 1000) as i32;
            let poll = delta(self.options.poll);
            self.next_poll = now.elapsed + poll - poll / 4000 * part;
            self.ask_due = true;
            return Some(Request::Changed(held()));
        }
        if !self.paused && self.has_room(open) && now.elapsed >= self.next_take() {
            let take = self.new_take(now);
            self.taking = Some(take.clone());
            return Some(Request::Take(take));
        }
        if std::mem::take(&mut self.ask_due) {
            let (tasks, except) = (self.tasks.clone(), self.except.clone());
            return Some(Request::NextDue(NextDue { node: self.id, tasks, except }));
        }
        if now.elapsed >= self.next_prune {
            self.next_prune = now.elapsed + PRUNE_EVERY;
            return Some(Request::Prune(self.options.keep, self.prune_from, PRUNED));
        }
        None
    }

    fn new_take(&mut self, now: Reading) -> Take {
        self.takes += 1;
        // Until it is known when to take next.
        (self.told, self.expected) = (TimeDelta::MAX, TimeDelta::MAX);
        let store_now = self.store_now(now);
        let ahead = delta(self.options.claim_ahead);
        let horizon = store_now.checked_add_signed(ahead).unwrap_or(store_now);
        let (node, fits, unreadable) = (self.id, self.fits.clone(), self.unreadable.clone());
        let decide: Decide = Arc::new(move |record, waiting| {
            let decided = shielded_or(|| {
                let definition = Definition::read(record)?;
                fits(record, &definition)?;
                ahead::decide(record, waiting, &definition, node, store_now, horizon)
            });
            decided.unwrap_or_else(|error| {
                let mut unreadable = unreadable.lock().unwrap_or_else(|lock| lock.into_inner());
                unreadable.push(Unreadable {
                    incarnation: record.incarnation,
                    version: record.version,
                    job: record.id.clone(),
                    error,
                });
                Decision::Leave
            })
        });
        Take {
            node,
            number: self.takes,
            horizon,
            tasks: self.tasks.clone(),
            except: self.except.clone(),
            limit: self.limit,
            decide,
        }
    }

    fn close_request(&mut self, now: Reading) -> Option<Request> {
        if !self.releases.is_empty() {
            let count = self.releases.len().min(self.options.max_batch);
            return Some(Request::Release(self.id, self.releases[..count].to_vec()));
        }
        let count = self.outcomes.len().min(self.options.max_batch).min(self.told_at_once);
        let due = self.flush_at.is_some_and(|at| at <= now.elapsed) || self.leaving;
        (count > 0 && (due || self.outcomes.len() >= 100.min(self.options.max_batch)))
            .then(|| Request::Finish(self.outcomes.iter().take(count).cloned().collect()))
    }

    /// An answer, and what follows from it for the jobs.
    pub(super) fn answer(
        &mut self,
        (lane, request): Asked,
        answer: Result<Answer, StoreError>,
        now: Reading,
    ) -> Vec<News> {
        let traffic = match lane {
            Lane::Life => &mut self.life,
            Lane::Take => &mut self.take,
            Lane::Close => &mut self.close,
        };
        let Some(sent) = traffic.sent.take() else { return Vec::new() };
        let mut news = Vec::new();
        match answer {
            Ok(answer) => {
                traffic.failures = 0;
                let lanes = [&self.life, &self.take, &self.close];
                let works = lanes.iter().all(|lane| lane.failures == 0);
                if works && std::mem::take(&mut self.failing) {
                    news.push(News::Working);
                }
                self.accept(request, answer, sent, now, &mut news);
            }
            Err(error) if error.is_lease_lost() => {
                // A life that was given up since has nothing to lose.
                let of = match &request {
                    Request::Beat(beat) => beat.node,
                    Request::Take(take) => take.node,
                    _ => self.id,
                };
                if of == self.id {
                    self.lose(&mut news);
                }
            }
            Err(error) => {
                traffic.failures = traffic.failures.saturating_add(1);
                let (failures, refused) = (traffic.failures, error.is_refused());
                let wait = self.backoff(failures, refused);
                let traffic = match lane {
                    Lane::Life => &mut self.life,
                    Lane::Take => &mut self.take,
                    Lane::Close => &mut self.close,
                };
                traffic.not_before = now.elapsed + wait;
                self.repeat(&request, refused);
                if !std::mem::replace(&mut self.failing, true) {
                    news.push(News::Failing(error));
                }
            }
        }
        news
    }

    /// How long to wait after so many failures: longer each time, up to a part of the lease.
    fn backoff(&mut self, failures: u32, refused: bool) -> TimeDelta {
        let longest = delta(self.options.lease / 6);
        let base = if refused { longest } else { TimeDelta::milliseconds(20) };
        let wait = (base * (1 << failures.min(10))).min(longest);
        // A part of it is left to chance, so that nodes do not come together.
        let part = (self.number() % 1000) as i32;
        wait - wait / 2000 * part
    }

    /// Remembers to ask again what was not answered.
    fn repeat(&mut self, request: &Request, refused: bool) {
        match request {
            Request::Reap => self.reap = true,
            Request::TakenBy(..) => self.ask_mine = true,
            Request::Changed(_) => self.ask_changed = true,
            Request::NextDue(_) => self.ask_due = true,
            // The store will not do this one, but perhaps another.
            Request::Take(_) if refused => {
                self.taking = None;
                self.ask_due = true;
            }
            // One of them the store refuses: the others must not wait for it.
            Request::Finish(sent) if refused => {
                self.outcomes.rotate_left(sent.len().min(self.outcomes.len()));
                self.told_at_once = 1;
            }
            // What these are about is still there.
            Request::Beat(_)
            | Request::Take(_)
            | Request::Prune(..)
            | Request::Finish(_)
            | Request::Release(..) => {}
        }
    }

    fn accept(
        &mut self,
        request: Request,
        answer: Answer,
        sent: Reading,
        now: Reading,
        news: &mut Vec<News>,
    ) {
        match (request, answer) {
            (Request::Beat(beat), Answer::Beat(_)) if beat.ttl.is_zero() => self.left = true,
            (Request::Beat(beat), Answer::Beat(said)) if beat.node == self.id => {
                self.has_beaten(said, sent, now, news);
            }
            (Request::Reap, Answer::Reaped(reaped)) => {
                self.reap = reaped.more;
                if !reaped.handed_out.is_empty() || !reaped.nodes.is_empty() {
                    self.expected = now.elapsed;
                }
                let lost = reaped.nodes.contains(&self.id);
                news.push(News::Reaped(reaped));
                if lost {
                    self.lose(news);
                }
            }
            (Request::TakenBy(node, _), Answer::TakenBy(taken)) if node == self.id => {
                news.push(News::Mine(taken));
            }
            (Request::Take(take), Answer::Takings(takings)) => {
                self.taking = None;
                if take.node == self.id {
                    self.has_taken(takings, now, news);
                }
            }
            (Request::NextDue(_), Answer::NextDue(due)) => self.has_been_told(due, now),
            (Request::Changed(_), Answer::Changed(changed)) => news.push(News::Changed(changed)),
            (Request::Prune(..), Answer::Pruned(pruned)) => {
                self.prune_from = pruned.next;
                if pruned.next.is_none() {
                    self.next_prune = now.elapsed + PRUNE_AGAIN;
                }
            }
            (Request::Finish(sent), Answer::Finished(finishes)) => {
                let settled = self.outcomes.drain(..sent.len().min(self.outcomes.len()));
                let settled: Vec<_> = settled.map(|outcome| (outcome.key, outcome.fence)).collect();
                for row in &settled {
                    self.untold.remove(row);
                }
                self.told_at_once = self.told_at_once.saturating_mul(2);
                self.flush_at = (!self.outcomes.is_empty()).then_some(now.elapsed);
                self.has_settled(&settled, finishes.over, news);
            }
            (Request::Release(node, sent), Answer::Released) if node == self.id => {
                let count = sent.len().min(self.releases.len());
                let settled: Vec<_> = self.releases.drain(..count).collect();
                self.has_settled(&settled, Vec::new(), news);
            }
            _ => {}
        }
    }

    fn has_settled(
        &mut self,
        settled: &[(RowKey, u64)],
        over: Vec<Incarnation>,
        news: &mut Vec<News>,
    ) {
        self.settled.extend(settled);
        news.push(News::Settled { rows: settled.to_vec(), over });
    }

    fn has_beaten(
        &mut self,
        said: DateTime<Utc>,
        sent: Reading,
        now: Reading,
        news: &mut Vec<News>,
    ) {
        let (measured, before) = (StoreClock::measure(said, sent, now), self.ahead());
        let clock = self.clock.get_or_insert(measured);
        let zero = clock.zero;
        clock.refine(measured);
        if clock.zero != zero {
            // When to take was reckoned by what it was thought to be.
            self.expected = now.elapsed;
        }
        let moved = self.ahead() - before;
        if !moved.is_zero() {
            news.push(News::ClockMoved(moved));
        }
        let until = delta(self.options.lease) - self.options.margin();
        self.lease.set(
            sent.wall.timestamp_millis() + until.num_milliseconds(),
            (sent.elapsed + until).num_milliseconds(),
        );
        if !std::mem::replace(&mut self.joined, true) {
            (self.expected, self.next_poll) = (now.elapsed, now.elapsed);
            self.next_prune = now.elapsed + PRUNE_EVERY;
        }
        (self.reap, self.ask_mine) = (true, true);
        self.next_beat = sent.elapsed + self.options.beat_every();
        if self.is_trusted(now) && !std::mem::replace(&mut self.trusted, true) {
            news.push(News::Trusted);
        }
    }

    fn has_taken(&mut self, takings: Takings, now: Reading, news: &mut Vec<News>) {
        let found = takings.jobs.len();
        let unreadable = self.unreadable_found();
        if takings.more || !unreadable.is_empty() {
            self.expected = now.elapsed;
        } else {
            self.ask_due = true;
        }
        // Bigger batches while there is much to do.
        let least = self.options.max_batch.min(100);
        self.limit = match takings.more {
            true => (self.limit * 2).min(self.options.max_batch),
            false => least,
        };
        self.in_vain = if found == 0 { self.in_vain.saturating_add(1) } else { 0 };
        if found == 0 {
            // Its node holds what was due, or is about to be found dead; or it was the end of another
            // node's lease.
            let patience = TimeDelta::milliseconds(20) * (1 << self.in_vain.min(6));
            self.patient_until = now.elapsed + patience;
            self.reap = true;
        }
        if !unreadable.is_empty() {
            news.push(News::Unreadable(unreadable));
        }
        news.push(News::Taken(takings));
    }

    /// The records that the last take could not read, and the next will leave out.
    fn unreadable_found(&mut self) -> Vec<(JobId, Error)> {
        let mut found = self.unreadable.lock().unwrap_or_else(|lock| lock.into_inner());
        let mut new = Vec::new();
        for Unreadable { incarnation, version, job, error } in found.drain(..) {
            if self.except.len() >= MAX_UNREADABLE {
                break;
            }
            Arc::make_mut(&mut self.except).insert(incarnation);
            if self.reported.len() >= MAX_UNREADABLE {
                self.reported.clear();
            }
            if self.reported.insert((incarnation, version)) {
                new.push((job, error));
            }
        }
        new
    }

    fn has_been_told(&mut self, due: Option<DateTime<Utc>>, now: Reading) {
        let Some(due) = due else {
            self.told = TimeDelta::MAX;
            return;
        };
        let ahead = (due - self.store_now(now)).max(TimeDelta::zero());
        let wait = (ahead - self.lead()).max(TimeDelta::zero());
        self.told = now.elapsed + wait;
        if self.in_vain > 0 && wait.is_zero() {
            let at = self.patient_until.max(now.elapsed);
            // What is not found ahead of its time twice is the end of a lease, most likely.
            self.told = match ahead.is_zero() {
                true => at,
                false if self.in_vain > 1 => now.elapsed + ahead,
                false => at.min(now.elapsed + ahead),
            };
        }
    }

    fn next_take(&self) -> TimeDelta {
        self.told.min(self.expected)
    }

    /// The store takes the node for dead: it begins another life.
    fn lose(&mut self, news: &mut Vec<News>) {
        self.id = NodeId(self.number());
        (self.joined, self.trusted) = (false, false);
        (self.takes, self.taking) = (0, None);
        self.lease.set(i64::MIN, i64::MIN);
        self.lease.life.fetch_add(1, Ordering::SeqCst);
        self.next_beat = TimeDelta::MIN;
        let released: Vec<_> = std::mem::take(&mut self.releases);
        self.has_settled(&released, Vec::new(), news);
        if self.leaving {
            self.left = self.outcomes.is_empty();
        }
        news.push(News::Lost);
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the clocks say so many milliseconds after the start.
    fn reading(millis: i64) -> Reading {
        let wall = DateTime::from_timestamp_millis(1_763_640_000_000 + millis).unwrap();
        Reading { wall, elapsed: TimeDelta::milliseconds(millis), together: true }
    }

    fn own_zero() -> DateTime<Utc> {
        reading(0).wall
    }

    #[test]
    fn clocks_that_can_not_be_told_apart_are_taken_for_one() {
        for (sent, said, answered) in
            [(100, 100, 100), (100, 100, 140), (100, 120, 140), (100, 140, 140)]
        {
            // Less than a millisecond before it is the next.
            for left_out in [0, 999] {
                let late = |reading: Reading| Reading {
                    wall: reading.wall + TimeDelta::microseconds(left_out),
                    elapsed: reading.elapsed + TimeDelta::microseconds(left_out),
                    ..reading
                };
                let (sent, answered) = (late(reading(sent)), late(reading(answered)));
                let clock = StoreClock::measure(reading(said).wall, sent, answered);
                assert_eq!(clock.ahead_of(own_zero()), TimeDelta::zero());
            }
        }
    }

    #[test]
    fn a_clock_that_is_ahead_is_known_to_half_the_way_to_it_and_back() {
        let ahead = TimeDelta::seconds(30);
        let clock = StoreClock::measure(reading(100).wall + ahead, reading(100), reading(140));
        let off = clock.ahead_of(own_zero()) - ahead;
        assert!(
            off.abs() <= clock.uncertainty && clock.uncertainty < TimeDelta::milliseconds(21),
            "{off}"
        );
    }

    #[test]
    fn a_measurement_that_is_less_precise_and_agrees_is_left_out() {
        let mut clock = StoreClock::measure(reading(100).wall, reading(100), reading(102));
        let before = clock.zero;
        clock.refine(StoreClock::measure(reading(200).wall, reading(200), reading(240)));
        assert_eq!(clock.zero, before);
        let stepped = reading(300).wall + TimeDelta::seconds(5);
        clock.refine(StoreClock::measure(stepped, reading(300), reading(340)));
        assert!((clock.ahead_of(own_zero()) - TimeDelta::seconds(5)).abs() <= clock.uncertainty);
    }
}
