//! A node of a store: when it says that it lives, what it takes and gives back, and how long it
//! believes its own word. It asks and is answered; it neither waits nor reads a clock.

mod answer;
mod ask;
pub(crate) mod claimer;
mod clock;
pub(crate) mod closer;
mod exchange;
mod lease;
pub(crate) mod membership;
pub(crate) mod pruner;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use self::{clock::StoreClock, exchange::Operation, watch::Watch};
pub(crate) use self::{
    exchange::{Reply, Request},
    lease::{Lease, Life},
};
use super::{ahead::Definition, mix};
use crate::{
    clock::Reading,
    error::Error,
    job::JobId,
    ledger::{
        Claim, ClaimRequest, ClaimResult, Cursor, Incarnation, Keep, NodeId, Passed, Reaped,
        Record, RecordChange, Release, RowKey, RowOutcome, StoreChange, StoreError, Write,
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
    /// By how much the store's clock may step back for jobs to wait until it has caught up.
    pub(crate) correction: TimeDelta,
    /// How many jobs or rows one operation of the store may be asked for.
    pub(crate) max_batch: usize,
    /// How many bytes one operation may commit.
    pub(crate) max_bytes: usize,
    /// Whether the store has a clock of its own; otherwise it goes by the wall clock here.
    pub(crate) has_clock: bool,
    /// Tells this node's numbers from those of others.
    pub(crate) seed: u64,
}

/// Says whether a job of this record can run here.
pub(crate) type CanRun = Arc<dyn Fn(&Record, &Definition) -> Result<(), Error> + Send + Sync>;

/// Requests of one lane go one after the other; the lanes do not wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Life, and those who lost it.
    Membership,
    /// What to do.
    Claim,
    /// What was done.
    Close,
    /// What need not be kept, and what a clock that was wrong has left.
    Prune,
}

/// What of an answer concerns the jobs.
pub(crate) enum NodeEvent {
    /// Rows were taken by this node.
    Claimed(ClaimResult),
    /// Rows that this node has, as far as the store knows.
    Listed(Vec<Claim>),
    /// Those of them that were asked for.
    Mine(ClaimResult),
    Changed(Vec<RecordChange>),
    /// The store knows what became of these rows, and that these jobs are over with them.
    Settled {
        rows: Vec<Claim>,
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
    /// The store refuses for good what became of this row.
    GivenUp(RowKey, StoreError),
    /// Records that go on from now, since the store's clock was set back.
    Corrected(Vec<Record>),
    /// Records that can't be read, or run, here.
    Unreadable(Vec<(JobId, Error)>),
}

pub(super) struct Node {
    options: NodeOptions,
    pub(super) tasks: Arc<HashSet<String>>,
    except: Arc<HashSet<Incarnation>>,
    /// How far it has looked in vain, where that is too much to list.
    passed: Passed,
    /// Whether the last take left jobs for which there was no room.
    left_some: bool,
    /// Whether there has been more room since the last take was asked for.
    room_again: bool,
    /// When it began to pass over jobs, and when it is to begin anew.
    pass_began: TimeDelta,
    next_pass: TimeDelta,
    /// Records that can't be read and were told of, with their versions, and since when they are noted.
    reported: HashSet<(Incarnation, u64)>,
    reported_since: TimeDelta,
    can_run: CanRun,
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
    life: InFlight,
    take: InFlight,
    close: InFlight,
    prune: InFlight,
    /// Which requests the store has not answered as it should, the last time.
    failing: HashSet<Operation>,
    next_beat: TimeDelta,
    /// The other nodes.
    watch: Watch,
    ask_nodes: bool,
    reap: bool,
    ask_mine: bool,
    /// Behind which row it is to ask further.
    mine_after: Option<RowKey>,
    /// Rows that it has, as the store says, and does not know.
    unknown: Vec<RowKey>,
    takes: u64,
    /// A take whose answer did not come, to be asked again.
    taking: Option<ClaimRequest>,
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
    /// Records that have changed, as the store notifies, if not all are to be asked after.
    named: HashSet<Incarnation>,
    next_look: TimeDelta,
    next_poll: TimeDelta,
    next_prune: TimeDelta,
    /// How far it has looked for records of which the clock was wrong, if it does.
    looking: Option<Looking>,
    /// Whether what was last asked of that lane was a look.
    looked: bool,
    outcomes: VecDeque<RowOutcome>,
    /// Rows of which the store refused, alone, the outcome or the release; and when it did first.
    refused: HashMap<Claim, TimeDelta>,
    /// Rows of which the store refuses the outcome for good: it has them as taken by this node.
    given_up: HashSet<Claim>,
    /// When the last heartbeat was sent that the store answered.
    beaten_at: TimeDelta,
    /// Whose they are.
    untold: HashSet<Claim>,
    /// How many are told at once: half as many each time that the store refuses one of them, or does not
    /// answer, since it may be too many for the time that is waited.
    told_at_once: usize,
    /// The same of rows to release.
    released_at_once: usize,
    releases: Vec<Release>,
    /// Whether what was last asked of that lane was to release some.
    released: bool,
    /// When outcomes are sent, if there are any.
    flush_at: Option<TimeDelta>,
    /// Rows that were closed or released while the store was asked which there are.
    settled: HashSet<Claim>,
    /// Records that were changed, or removed, while the store was asked.
    overtaken: HashMap<Incarnation, Option<Record>>,
    pub(super) paused: bool,
    leaving: bool,
    left: bool,
}

/// A look at all records.
#[derive(Default)]
struct Looking {
    /// Those behind this one are still to be looked at.
    after: Option<Cursor>,
    /// What was found.
    corrections: Vec<Write>,
    /// How many of them have lost to other writes.
    lost: usize,
    /// Whether the last page was looked at.
    ends: bool,
    /// Whether the request on its way is one of this look, and not of an earlier one.
    asked: bool,
}

/// What is under way on a lane.
#[derive(Default)]
struct InFlight {
    /// When the request was sent that is not answered.
    sent: Option<Reading>,
    failures: u32,
    not_before: TimeDelta,
}

impl InFlight {
    fn is_free(&self, now: Reading) -> bool {
        self.sent.is_none() && now.elapsed >= self.not_before
    }
}

/// How long outcomes are gathered before they are sent.
const LINGER: TimeDelta = TimeDelta::milliseconds(10);

/// How long after the store was asked for changes it is not asked again because it told of some: what
/// is asked grows with what is held, and a busy store tells all the time.
const LOOK_EVERY: TimeDelta = TimeDelta::milliseconds(100);

/// How many records are asked after by name; if there are more, all are.
const MAX_NAMED: usize = 1000;

/// How often the store is asked to delete of the ledger what need not be kept, unless it has more to do.
const PRUNE_EVERY: TimeDelta = TimeDelta::seconds(5);

/// How many rows that is at most: others wait meanwhile.
const PRUNED: usize = 500;

/// How many records are looked at together for those of which the clock was wrong.
const LOOKED_AT: usize = 500;

/// How many corrections of a page are computed anew since other writes came first.
const MAX_LOST: usize = 2 * LOOKED_AT;

/// How many rows a node has at most, taken and not closed.
const MAX_OPEN: usize = 20_000;

/// How many rows a take brings for each job that it may bring: what is due often, or catches up, has
/// many, and other operations of the store wait for the take.
const ROWS_PER_JOB: usize = 10;

/// How many records that it can't read a node lists in what it asks. Where there are more it passes over
/// all that comes before the place up to which it has looked.
const MAX_EXCEPT: usize = 1000;

/// How many records that can't be read are told of in an hour.
const MAX_REPORTED: usize = 10_000;

/// How many jobs a take looks at in vain: some milliseconds' worth.
const LOOKS: usize = 250;

/// How long after a take that looked at so many in vain the next goes on, so that there is time for
/// others.
const LOOKS_AGAIN: TimeDelta = TimeDelta::milliseconds(5);

impl Default for NodeOptions {
    fn default() -> NodeOptions {
        NodeOptions {
            name: "".into(),
            lease: Duration::from_secs(15),
            claim_ahead: Duration::from_secs(1),
            poll: Duration::from_secs(5),
            keep: Keep::default(),
            correction: TimeDelta::hours(3),
            max_batch: 1,
            max_bytes: usize::MAX,
            has_clock: false,
            seed: 0,
        }
    }
}

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
        can_run: CanRun,
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
            passed: Passed::default(),
            left_some: false,
            room_again: false,
            pass_began: TimeDelta::MIN,
            next_pass: TimeDelta::MIN,
            reported: HashSet::new(),
            reported_since: TimeDelta::MIN,
            can_run,
            joined: false,
            lease,
            trusted: false,
            clock: None,
            own_zero: now.wall.checked_sub_signed(now.elapsed).unwrap_or(now.wall),
            life: InFlight::default(),
            take: InFlight::default(),
            close: InFlight::default(),
            prune: InFlight::default(),
            failing: HashSet::new(),
            next_beat: TimeDelta::MIN,
            watch: Watch::default(),
            ask_nodes: false,
            reap: false,
            ask_mine: false,
            mine_after: None,
            unknown: Vec::new(),
            takes: 0,
            taking: None,
            told: TimeDelta::MAX,
            expected: TimeDelta::MIN,
            in_vain: 0,
            patient_until: TimeDelta::MIN,
            ask_due: false,
            ask_changed: false,
            named: HashSet::new(),
            next_look: TimeDelta::MIN,
            next_poll: TimeDelta::MIN,
            next_prune: TimeDelta::MIN,
            looking: None,
            looked: false,
            outcomes: VecDeque::new(),
            refused: HashMap::new(),
            given_up: HashSet::new(),
            beaten_at: TimeDelta::MIN,
            untold: HashSet::new(),
            told_at_once: usize::MAX,
            released_at_once: usize::MAX,
            releases: Vec::new(),
            released: false,
            flush_at: None,
            settled: HashSet::new(),
            overtaken: HashMap::new(),
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
        self.clock.is_some() || !self.options.has_clock
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

    /// The wall clock here stepped by so much; says by how much sooner by it comes what has been claimed.
    pub(super) fn clock_stepped(&mut self, by: TimeDelta) -> TimeDelta {
        let before = self.ahead();
        self.own_zero = self.own_zero.checked_add_signed(by).unwrap_or(self.own_zero);
        self.lease.stepped(by);
        self.next_beat = TimeDelta::MIN;
        if self.options.has_clock {
            return self.ahead() - before;
        }
        // It is the store's clock that stepped.
        self.expected = TimeDelta::MIN;
        if -by > TimeDelta::seconds(1) {
            self.look_for_corrections();
        }
        // What has been claimed runs when it would have if the clock was wrong.
        if -by > self.options.correction { -by } else { TimeDelta::zero() }
    }

    /// Whether it believes that the store takes it for alive.
    pub(super) fn is_trusted(&self, now: Reading) -> bool {
        self.lease.is_trusted(now)
    }

    /// Whether its trust has ended since the jobs were told that it had it.
    pub(super) fn has_lapsed(&mut self, now: Reading) -> bool {
        let lapsed = self.trusted && !self.is_trusted(now);
        if lapsed {
            self.trusted = false;
            self.lease.lapse();
        }
        lapsed
    }

    /// Something comes due at `instant` by the store's clock.
    pub(super) fn expect(&mut self, instant: DateTime<Utc>, now: Reading) {
        let wait = instant - self.store_now(now) - self.lead();
        self.expected = self.expected.min(now.elapsed + wait.max(TimeDelta::zero()));
    }

    /// Asks for rows that it has and does not know.
    pub(super) fn fetch(&mut self, rows: impl Iterator<Item = RowKey>) {
        self.unknown.extend(rows);
    }

    /// There is room for more than there was.
    pub(super) fn has_room_again(&mut self, now: Reading) {
        self.room_again = true;
        if std::mem::take(&mut self.left_some) {
            self.expected = self.expected.min(now.elapsed + LOOKS_AGAIN);
        }
    }

    /// Something may have changed in the store.
    pub(super) fn look(&mut self) {
        self.ask_changed = true;
        self.ask_due = true;
    }

    /// The store notifies of a change; `is_news` says whether it is one of a record that is known here by
    /// another version.
    pub(super) fn notice(&mut self, change: StoreChange, is_news: bool, now: Reading) {
        match change {
            StoreChange::Due(at) => self.expect(at, now),
            StoreChange::Job(of, _) | StoreChange::Gone(of) => {
                // An answer that is on its way may have the record as it was before.
                let is_news = is_news || self.awaits_records();
                if is_news && !self.ask_changed {
                    self.named.insert(of);
                }
                // What could not be read, or run here, may have been changed.
                if self.except.contains(&of) {
                    Arc::make_mut(&mut self.except).remove(&of);
                    self.ask_due = true;
                }
                if self.named.len() > MAX_NAMED || self.passed != Passed::default() {
                    self.look();
                }
            }
            StoreChange::Unknown => self.look(),
        }
    }

    /// Whether an answer is on its way that may bring records.
    fn awaits_records(&self) -> bool {
        self.take.sent.is_some() || self.taking.is_some() || self.life.sent.is_some()
    }

    /// How long before something is due it is taken: later than as soon as possible, so that it comes
    /// in batches.
    fn lead(&self) -> TimeDelta {
        delta(self.options.claim_ahead) / 2
    }

    /// Closes a row.
    pub(super) fn finish(&mut self, outcome: RowOutcome, now: Reading) {
        self.flush_at.get_or_insert(now.elapsed + LINGER);
        self.untold.insert(outcome.claim());
        self.outcomes.push_back(outcome);
    }

    /// Takes nothing of a job that it can't read, for a while.
    pub(super) fn leave_out(&mut self, incarnation: Incarnation) {
        if self.except.len() < MAX_EXCEPT {
            Arc::make_mut(&mut self.except).insert(incarnation);
        }
    }

    /// Gives a row back, for any node to run.
    pub(super) fn release(&mut self, row: Release) {
        self.releases.push(row);
    }

    /// Says good-bye to the store, once all is told that there is to tell.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Whether it has told the store all, and left.
    pub(super) fn has_left(&self) -> bool {
        self.left
    }

    /// Whether the store has not answered the last of its heartbeats as it should.
    pub(super) fn is_down(&self) -> bool {
        self.life.failures > 0
    }

    /// How many outcomes the store has not been told.
    pub(super) fn untold(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether the store may show this row as taken although it has been settled.
    pub(super) fn is_settled(&self, claim: Claim) -> bool {
        self.settled.contains(&claim)
            || self.releases.iter().any(|row| row.claim() == claim)
            || self.untold.contains(&claim)
            || self.given_up.contains(&claim)
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
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
