//! When a node claims and checks for changes, what its claims leave out, and how they are repeated.

use super::{
    super::tests::{now, now_ms, options},
    *,
};
use crate::ledger::{ClaimCursor, ClaimedJob, Record, RejectedJob};

const NODE: NodeId = NodeId(1);

/// A claimer, with the other arguments of its calls.
struct Stage {
    claimer: Claimer,
    numbers: Numbers,
    events: Vec<NodeEvent>,
    open_rows: usize,
    throttled: HashSet<Incarnation>,
}

fn stage_with(options: NodeOptions, tasks: &[&str]) -> Stage {
    let tasks = tasks.iter().map(|&task| task.to_owned()).collect();
    let numbers = Numbers::new(options.seed);
    let mut claimer = Claimer::new(Arc::new(options), tasks, Arc::new(|_, _| Ok(())));
    claimer.start(TimeDelta::zero());
    Stage { claimer, numbers, events: Vec::new(), open_rows: 0, throttled: HashSet::new() }
}

/// A claimer of a node that has just joined.
fn stage() -> Stage {
    stage_with(options(), &["task"])
}

/// A claimer that has checked for changes, and found nothing to claim.
fn idle() -> Stage {
    let mut stage = stage();
    stage.check_all(0);
    stage.claims(0);
    stage.claimed(ClaimResult::default(), 0);
    assert!(stage.queries_next_due(0));
    stage.accept(Reply::NextDue(None), 0);
    stage.events.clear();
    stage
}

impl Stage {
    fn load(&self) -> Load<'_> {
        Load { open_rows: self.open_rows, unacknowledged: 0, throttled: &self.throttled }
    }

    fn poll_at(&mut self, now: Now) -> Option<Request> {
        let Stage { claimer, numbers, open_rows, throttled, .. } = self;
        let load = Load { open_rows: *open_rows, unacknowledged: 0, throttled };
        claimer.poll(NODE, load, Allowance::default, |_| Vec::new(), numbers, now)
    }

    fn poll(&mut self, second: i64) -> Option<Request> {
        self.poll_at(now(second))
    }

    /// Sends a claim.
    fn claims(&mut self, second: i64) -> ClaimRequest {
        match self.poll(second) {
            Some(Request::Claim(claim)) => claim,
            _ => panic!("no claim at {second} s"),
        }
    }

    /// Sends a check. Returns the records that it names, or `None` for all.
    fn changes_at(&mut self, now: Now) -> Option<HashMap<Incarnation, u64>> {
        match self.poll_at(now) {
            Some(Request::Changed { named, .. }) => named,
            _ => panic!("no request for changes at {now:?}"),
        }
    }

    /// Checks all records, and finds no changes.
    fn check_all(&mut self, second: i64) {
        assert_eq!(self.changes_at(now(second)), None);
        self.accept(Reply::Changed(Vec::new()), second);
    }

    fn queries_next_due(&mut self, second: i64) -> bool {
        matches!(self.poll(second), Some(Request::NextDue(_)))
    }

    fn accept(&mut self, reply: Reply, second: i64) {
        self.claimer.accept(reply, NODE, now(second), &mut self.events);
    }

    fn claimed(&mut self, result: ClaimResult, second: i64) {
        self.accept(Reply::Claim { node: NODE, result }, second);
    }

    fn fail(&mut self, request: Request, error: &StoreError, second: i64) {
        self.claimer.fail(request, error, now(second), &mut self.numbers);
    }

    fn next_claim(&self) -> TimeDelta {
        self.claimer.next_claim()
    }
}

fn no_reply() -> StoreError {
    StoreError::unavailable("no reply")
}

/// A claimed job.
fn job(number: u64) -> ClaimedJob {
    let record = Record::new("job", Incarnation(number), "task", now(0).store);
    ClaimedJob { record, rows: Vec::new() }
}

fn rejected(number: u64) -> RejectedJob {
    let record = Record::new("job", Incarnation(number), "task", now(0).store);
    RejectedJob {
        job: record.id.clone(),
        stamp: record.stamp(),
        error: Error::invalid_option("no such trigger"),
    }
}

fn rejecting(numbers: std::ops::Range<u64>) -> ClaimResult {
    ClaimResult { rejected: numbers.map(rejected).collect(), ..ClaimResult::default() }
}

#[test]
fn a_node_that_has_joined_checks_for_changes_and_claims_at_once() {
    let mut stage = stage();
    stage.check_all(0);
    let claim = stage.claims(0);
    assert_eq!((claim.node, claim.number), (NODE, 1));
    assert_eq!(claim.horizon, now(10).store);
    assert!(stage.poll(0).is_none(), "one request is in flight at a time");
}

#[test]
fn a_claim_without_a_reply_is_repeated_with_its_number() {
    let mut stage = stage();
    stage.check_all(0);
    for second in 0..5 {
        let claim = stage.claims(second);
        assert_eq!((claim.number, claim.horizon), (1, now(10).store), "second {second}");
        stage.fail(Request::Claim(claim), &no_reply(), second);
        assert!(stage.claimer.is_pending() && stage.claimer.is_waiting());
    }
    assert_eq!(stage.claims(5 + 5).number, 1);
    stage.claimed(ClaimResult { more: true, ..ClaimResult::default() }, 10);
    assert_eq!(stage.claims(10).number, 2);
}

#[test]
fn a_refused_claim_is_not_repeated() {
    let mut stage = stage();
    stage.check_all(0);
    let claim = stage.claims(0);
    stage.fail(Request::Claim(claim), &StoreError::refused("too many"), 0);
    assert!(!stage.claimer.is_pending() && stage.poll(2).is_none());
    assert!(stage.queries_next_due(5));
    stage.accept(Reply::NextDue(Some(now(0).store)), 5);
    assert_eq!(stage.claims(5).number, 2);
}

#[test]
fn another_life_numbers_its_claims_anew_and_ignores_those_of_the_last() {
    let mut stage = stage();
    stage.check_all(0);
    stage.claims(0);
    stage.events.clear();
    stage.claimer.restart();
    assert!(!stage.claimer.is_pending());
    let result = ClaimResult { jobs: vec![job(1)], ..ClaimResult::default() };
    let next = NodeId(2);
    let reply = Reply::Claim { node: NODE, result };
    stage.claimer.accept(reply, next, now(0), &mut stage.events);
    assert!(stage.events.is_empty());
    stage.claimer.set_local_due(TimeDelta::zero());
    assert_eq!(stage.claims(0).number, 1);
}

#[test]
fn a_reply_shows_when_to_claim_next_half_of_the_time_ahead() {
    let mut stage = stage();
    stage.check_all(0);
    stage.claims(0);
    let next_due = Some(now(100).store);
    stage.claimed(ClaimResult { jobs: vec![job(1)], next_due, ..ClaimResult::default() }, 0);
    assert_eq!(stage.next_claim(), TimeDelta::seconds(95));
}

#[test]
fn a_notification_moves_the_next_claim() {
    let mut stage = idle();
    assert_eq!(stage.next_claim(), TimeDelta::MAX);
    stage.claimer.notice(StoreChange::Due(now(100).store), true, now(1));
    assert_eq!(stage.next_claim(), TimeDelta::seconds(95));
    stage.claimer.notice(StoreChange::Due(now(200).store), true, now(2));
    assert_eq!(stage.next_claim(), TimeDelta::seconds(95), "what comes later moves nothing");
    stage.claimer.notice(StoreChange::Due(DateTime::<Utc>::MIN_UTC), true, now(3));
    assert_eq!(stage.next_claim(), TimeDelta::seconds(3));
    assert_eq!(stage.claims(3).number, 2);
}

#[test]
fn claims_that_find_nothing_although_something_is_due_wait_longer_each_time() {
    let mut stage = stage();
    stage.check_all(0);
    let (mut waits, mut at) = (Vec::new(), 0);
    for _ in 0..8 {
        assert!(matches!(stage.poll_at(now_ms(at)), Some(Request::Claim(_))));
        let result = ClaimResult { next_due: Some(now(0).store), ..ClaimResult::default() };
        let reply = Reply::Claim { node: NODE, result };
        stage.claimer.accept(reply, NODE, now_ms(at), &mut Vec::new());
        waits.push(stage.next_claim().num_milliseconds() - at);
        at = stage.next_claim().num_milliseconds();
        stage.claimer.queries_next_due = false;
    }
    assert_eq!(waits, [40, 80, 160, 320, 640, 1280, 1280, 1280]);
}

#[test]
fn batches_grow_while_there_is_more() {
    let mut stage = stage();
    stage.check_all(0);
    let mut limits = Vec::new();
    for more in [true, true, true, true, true, false, true] {
        limits.push(stage.claims(0).limit);
        stage.claimed(ClaimResult { jobs: vec![job(1)], more, ..ClaimResult::default() }, 0);
        stage.claimer.set_local_due(TimeDelta::zero());
        stage.claimer.queries_next_due = false;
    }
    assert_eq!(limits, [100, 200, 400, 800, 1000, 1000, 100]);
}

#[test]
fn nodes_spread_their_polls_over_a_quarter_of_the_time() {
    let next_poll = |seed| {
        let mut stage = stage_with(NodeOptions { seed, ..options() }, &[]);
        stage.check_all(0);
        stage.claimer.wake_at(stage.load()).unwrap()
    };
    let polls: HashSet<TimeDelta> = (0..20).map(next_poll).collect();
    let (first, last) = (polls.iter().min().unwrap(), polls.iter().max().unwrap());
    assert!(polls.len() > 15, "{polls:?}");
    assert!(*first > TimeDelta::seconds(45) && *last <= TimeDelta::seconds(60), "{polls:?}");
}

#[test]
fn records_that_the_store_notifies_of_are_checked_by_name_and_not_all_the_time() {
    let mut stage = idle();
    let change = |number| StoreChange::Job(Incarnation(number), 7);
    stage.claimer.notice(change(1), true, now(1));
    stage.claimer.notice(change(2), false, now(1));
    assert_eq!(stage.changes_at(now(1)), Some(HashMap::from([(Incarnation(1), 7)])));
    stage.accept(Reply::Changed(Vec::new()), 1);
    stage.claimer.notice(change(3), true, now(1));
    assert!(stage.poll_at(now_ms(1099)).is_none());
    assert_eq!(stage.changes_at(now_ms(1100)), Some(HashMap::from([(Incarnation(3), 7)])));
    // A lost check is repeated. It took 0.9 s, so that takes four times as long.
    let named = Some(HashMap::from([(Incarnation(3), 7)]));
    stage.fail(Request::Changed { known: Vec::new(), named: named.clone() }, &no_reply(), 2);
    assert!(stage.poll(5).is_none());
    assert_eq!(stage.changes_at(now(6)), named);
}

#[test]
fn more_changes_than_a_thousand_are_not_named() {
    let mut stage = idle();
    for number in 0..=1000 {
        stage.claimer.notice(StoreChange::Gone(Incarnation(number)), true, now(1));
    }
    assert_eq!(stage.changes_at(now(1)), None);
}

#[test]
fn an_echo_moves_nothing_unless_it_may_be_of_somebody_else() {
    let mut stage = idle();
    let due = StoreChange::Due(now(100).store);
    stage.claimer.note_due(now(100).store, now(1));
    stage.claimer.set_local_due(TimeDelta::MAX);
    stage.claimer.notice(due, true, now(1));
    assert_eq!(stage.next_claim(), TimeDelta::MAX);
    stage.claimer.notice(due, true, now(1));
    assert_eq!(stage.next_claim(), TimeDelta::seconds(95), "another has written as well");
    stage.claimer.note_due(now(100).store, now(1));
    stage.claimer.set_local_due(TimeDelta::MAX);
    stage.claimer.notice(StoreChange::Unknown, true, now(1));
    stage.claimer.notice(due, true, now(1));
    assert_eq!(stage.next_claim(), TimeDelta::seconds(95), "the echo may have been unknown");
}

#[test]
fn an_unnamed_change_checks_all_records() {
    let mut stage = idle();
    stage.claimer.notice(StoreChange::Unknown, true, now(1));
    stage.check_all(1);
    assert!(stage.queries_next_due(1));
}

#[test]
fn a_record_that_can_not_be_read_is_left_out_until_it_changes() {
    let mut stage = stage();
    stage.check_all(0);
    stage.claims(0);
    stage.claimed(rejecting(1..3), 0);
    stage.claimer.set_local_due(TimeDelta::zero());
    assert_eq!(*stage.claims(0).except, HashSet::from([Incarnation(1), Incarnation(2)]));
    stage.claimed(ClaimResult::default(), 0);
    assert!(stage.queries_next_due(0));
    stage.accept(Reply::NextDue(None), 0);
    stage.claimer.notice(StoreChange::Job(Incarnation(1), 2), false, now(1));
    let Some(Request::NextDue(due)) = stage.poll(1) else { panic!("it may be due") };
    assert_eq!(*due.except, HashSet::from([Incarnation(2)]));
    stage.accept(Reply::NextDue(None), 1);
    // A poll finds changes without a notification.
    stage.check_all(60);
    stage.claimer.set_local_due(TimeDelta::zero());
    assert!(stage.claims(60).except.is_empty());
}

#[test]
fn a_record_that_can_not_be_read_is_reported_once_for_each_version() {
    let mut stage = stage();
    stage.check_all(0);
    for (version, reported) in [(1, 1), (1, 0), (2, 1)] {
        stage.claimer.set_local_due(TimeDelta::zero());
        stage.claims(0);
        let mut result = rejecting(1..2);
        result.rejected[0].stamp.version = version;
        stage.events.clear();
        stage.claimed(result, 0);
        let reports = |event: &&NodeEvent| matches!(event, NodeEvent::Unreadable(_));
        assert_eq!(stage.events.iter().filter(reports).count(), reported, "version {version}");
        assert!(matches!(stage.events.last(), Some(NodeEvent::Claimed(_))));
        stage.claimer.queries_next_due = false;
    }
}

#[test]
fn more_than_a_thousand_that_can_not_be_read_are_passed_over_and_tried_again_in_time() {
    let mut stage = stage();
    stage.check_all(0);
    stage.claims(0);
    let due = Some((now(0).store, Incarnation(1001)));
    let passed = ClaimCursor { due, ..ClaimCursor::default() };
    stage.claimed(ClaimResult { more: true, passed, ..rejecting(0..1001) }, 0);
    assert_eq!(stage.next_claim(), TimeDelta::milliseconds(5), "others have a turn meanwhile");
    let claim = stage.claims(1);
    assert!(claim.except.is_empty() && claim.passed == passed);
    // The scan took a second, so it starts over after ten, however often the node claims.
    stage.claimed(ClaimResult { passed, ..rejecting(0..0) }, 1);
    for second in 2..=12 {
        stage.claimer.refresh();
        stage.check_all(second);
        stage.claimer.set_local_due(TimeDelta::zero());
        let expected = if second < 11 { passed } else { ClaimCursor::default() };
        assert_eq!(stage.claims(second).passed, expected, "at {second} s");
        stage.claimed(ClaimResult { passed: expected, ..ClaimResult::default() }, second);
    }
}

#[test]
fn claims_go_on_while_checks_fail() {
    for (error, took) in [(StoreError::refused("no"), 0), (no_reply(), 4)] {
        let mut stage = stage();
        stage.check_all(0);
        stage.claims(0);
        stage.claimed(ClaimResult::default(), 0);
        let (mut checks, mut claims, mut second) = (0, 0, 1);
        while second < 100 {
            stage.claimer.refresh();
            stage.claimer.set_local_due(TimeDelta::seconds(second));
            match stage.poll(second) {
                Some(Request::Claim(_)) => {
                    claims += 1;
                    stage.claimed(ClaimResult::default(), second);
                }
                Some(Request::NextDue(_)) => stage.accept(Reply::NextDue(None), second),
                Some(check) => {
                    checks += 1;
                    second += took;
                    stage.fail(check, &error, second);
                }
                None => {}
            }
            second += 1;
        }
        assert!(checks >= 3 && claims >= 30, "{checks} checks and {claims} claims");
    }
}

#[test]
fn jobs_that_were_left_are_claimed_once_there_is_room_again() {
    let mut stage = stage();
    stage.check_all(0);
    stage.claims(0);
    stage.claimed(ClaimResult { left: 1, ..ClaimResult::default() }, 0);
    assert_eq!(stage.next_claim(), TimeDelta::MAX);
    stage.claimer.has_room_again(TimeDelta::seconds(3));
    assert_eq!(stage.next_claim(), TimeDelta::milliseconds(3005));
    // Rows that are closed while the claim is in flight count, too.
    stage.claimer.queries_next_due = false;
    stage.claims(4);
    stage.claimer.has_room_again(TimeDelta::seconds(4));
    stage.claimed(ClaimResult { left: 1, ..ClaimResult::default() }, 4);
    assert_eq!(stage.next_claim(), TimeDelta::milliseconds(4005));
}

#[test]
fn a_paused_node_claims_nothing_and_follows_changes() {
    let mut stage = stage();
    stage.claimer.set_paused(true);
    stage.check_all(0);
    assert!(stage.queries_next_due(0));
    stage.accept(Reply::NextDue(Some(now(0).store)), 0);
    assert!(stage.poll(1).is_none());
    stage.check_all(60);
    stage.claimer.set_paused(false);
    assert_eq!(stage.claims(60).number, 1);
}

#[test]
fn a_node_that_knows_no_task_claims_nothing() {
    let mut stage = stage_with(options(), &[]);
    stage.check_all(0);
    assert!(stage.poll(1).is_none());
    stage.check_all(60);
}

#[test]
fn a_node_claims_within_its_limit_and_nothing_of_throttled_jobs() {
    let mut stage = stage();
    stage.check_all(0);
    stage.open_rows = MAX_OPEN - 7;
    stage.throttled.insert(Incarnation(3));
    let claim = stage.claims(0);
    assert_eq!((claim.row_limit, claim.limit), (7, 100));
    assert_eq!(*claim.except, HashSet::from([Incarnation(3)]));
    stage.claimed(ClaimResult { more: true, ..ClaimResult::default() }, 0);
    stage.open_rows = MAX_OPEN;
    assert!(stage.queries_next_due(0));
    stage.accept(Reply::NextDue(None), 0);
    assert!(stage.poll(0).is_none());
}

#[test]
fn a_claim_is_made_soon_if_what_is_due_next_can_not_be_found_out() {
    let mut stage = idle();
    stage.claimer.queries_next_due = true;
    let request = stage.poll(1).unwrap();
    stage.fail(request, &no_reply(), 1);
    assert_eq!(stage.next_claim(), TimeDelta::seconds(6));
    assert!(stage.queries_next_due(2));
}
