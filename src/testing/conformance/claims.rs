//! Cases of [`Store::claim`]: which jobs it finds, and what becomes of them.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};

use super::stage::*;
use crate::{error::Error, job::SkipReason, store::*};

/// Jobs are taken in order of their next fire times, up to the horizon and including it.
pub(super) async fn what_is_due_is_taken_in_order<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let after = now + TimeDelta::milliseconds(1);
    for (number, at) in [(1, now), (2, now - secs(3)), (3, after), (4, now - secs(9))] {
        store.add(job(number, at)).await;
    }
    store.add(job(5, None)).await;
    let node = Node::join(&other, 1).await;
    let taken = node.claim(node.ask(now)).await;
    assert_eq!(ids(&taken), ["job-0004", "job-0002", "job-0001"]);
    assert_eq!(ids(&node.claim(node.ask(after)).await), ["job-0003"]);
    assert_eq!(ids(&node.claim(node.ask(after)).await), [""; 0]);
}

/// A take answers with the record as it is now and the rows that it put into the ledger.
pub(super) async fn a_take_marks_record_and_row<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let before = store.add(Record { recover: true, ..job(1, now) }).await;
    let node = Node::join(&other, 1).await;
    let next = now + secs(60);
    let decide = fire(now, move |_| Some(next));
    let (record, row) = node.claim_one_of(ClaimRequest { decide, ..node.ask(now) }).await;
    let fence = record.fence;
    assert_eq!(record, Record { fence, next_fire: Some(next), ..before.clone() });
    let (state, by) = (RowState::Claimed(node.id), Some(node.id));
    let expected = Row { state, node: by, fence, ..scheduled(&before, now) };
    assert_eq!(row, expected);
    assert_eq!(store.record(&before.id).await, record);
    assert_eq!(store.row(row.key).await, row);
}

/// No more jobs are taken than asked for, and whether there may be more is said.
pub(super) async fn the_limit_is_kept<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 0..10 {
        store.add(job(number, now - secs(10 - number as i64))).await;
    }
    let node = Node::join(&other, 1).await;
    let first = store.claim(ClaimRequest { limit: 4, ..node.ask(now) }).await.unwrap();
    assert_eq!(ids(&first.jobs), ["job-0000", "job-0001", "job-0002", "job-0003"]);
    assert!(first.more);
    let second = store.claim(ClaimRequest { limit: 4, ..node.ask(now) }).await.unwrap();
    assert_eq!(ids(&second.jobs), ["job-0004", "job-0005", "job-0006", "job-0007"]);
    assert!(second.more);
    let third = store.claim(ClaimRequest { limit: 4, ..node.ask(now) }).await.unwrap();
    assert_eq!(ids(&third.jobs), ["job-0008", "job-0009"]);
    assert!(!third.more);
}

/// No further job is taken once there are as many rows as were asked for.
pub(super) async fn the_limit_of_rows_is_kept<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 0..6 {
        store.add(job(number, now - secs(10 - number as i64))).await;
    }
    let asked = Record { paused: true, ..job(7, None) };
    store.add_waiting(asked.clone(), requested(&asked, 1, now)).await;
    let node = Node::join(&other, 1).await;
    let first = store.claim(ClaimRequest { row_limit: 2, ..node.ask(now) }).await.unwrap();
    assert_eq!(ids(&first.jobs), ["job-0007", "job-0000"]);
    assert!(first.more);
    // All that was decided for the job at hand is taken.
    let decide = fire(now, |_| None);
    let three: Decide = Arc::new(move |record, waiting| match decide(record, waiting) {
        Decision::Claim { rows, next_fire } => {
            let later = |secs: i64| {
                let fire_time = now + TimeDelta::seconds(secs);
                Row { fence: 0, ..scheduled(record, fire_time) }
            };
            Decision::Claim {
                rows: rows.into_iter().chain([later(1), later(2)]).collect(),
                next_fire,
            }
        }
        leave => leave,
    });
    let ask = || ClaimRequest { row_limit: 4, decide: three.clone(), ..node.ask(now) };
    let second = store.claim(ask()).await.unwrap();
    assert_eq!(ids(&second.jobs), ["job-0001", "job-0002"]);
    assert!(second.more && second.jobs.iter().all(|taken| taken.rows.len() == 3));
    let third = store.claim(ClaimRequest { row_limit: 1000, ..ask() }).await.unwrap();
    assert_eq!(third.jobs.len(), 3);
    assert!(!third.more);
}

/// A node takes only jobs whose task it knows, however many others are due before.
pub(super) async fn unknown_tasks_are_left_alone<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let early = now - secs(60);
    for number in 0..8 {
        store.add(Record { task: TASK.to_uppercase(), ..job(number, early) }).await;
    }
    let unknown = Record { task: "later".into(), ..job(8, None) };
    let waiting = requested(&unknown, 1, now);
    store.add_waiting(unknown, waiting.clone()).await;
    store.add(Record { task: "mail".into(), ..job(9, now) }).await;
    store.add(job(10, now - secs(1))).await;
    let node = Node::join(&other, 1).await;
    let ask = |names| ClaimRequest { tasks: names, limit: 2, ..node.ask(now) };
    assert_eq!(ids(&node.claim(ask(tasks([]))).await), [""; 0]);
    assert_eq!(ids(&node.claim(ask(tasks([TASK, "mail"]))).await), ["job-0010", "job-0009"]);
    assert_eq!(store.row(waiting.key).await.state, RowState::Waiting);
    assert_eq!(ids(&node.claim(ask(tasks(["later"]))).await), ["job-0008"]);
}

/// The incarnations that a node can't read are left to others.
pub(super) async fn exceptions_are_left_alone<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let unread = store.add(job(1, now)).await;
    let waiting = job(2, None);
    store.add_waiting(waiting.clone(), requested(&waiting, 1, now)).await;
    store.add(job(3, now)).await;
    let node = Node::join(&other, 1).await;
    let except = Arc::new([unread.incarnation, waiting.incarnation].into());
    assert_eq!(ids(&node.claim(ClaimRequest { except, ..node.ask(now) }).await), ["job-0003"]);
    assert_eq!(ids(&node.claim(node.ask(now)).await), ["job-0002", "job-0001"]);
}

/// Paused jobs do not fire, but runs of them that were asked for are taken.
pub(super) async fn of_paused_jobs_only_requests_are_taken<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let paused = |number| Record { paused: true, ..job(number, now) };
    store.add(paused(1)).await;
    let handed_out = Row { state: RowState::Waiting, ..scheduled(&paused(2), now) };
    let asked = requested(&paused(2), 1, now);
    let mut write = insert(&paused(2));
    write.rows = vec![handed_out.clone(), Row { state: RowState::Waiting, ..asked.clone() }];
    store.done(vec![write]).await;
    store.add_waiting(paused(3), scheduled(&paused(3), now)).await;

    let node = Node::join(&other, 1).await;
    let (record, row) = node.claim_one_of(node.ask(now)).await;
    assert_eq!(row.key, asked.key);
    assert_eq!(record.next_fire, Some(now));
    assert_eq!(store.row(handed_out.key).await, handed_out);

    other.change(&paused(2).id, |record| record.paused = false).await;
    let resumed =
        node.claim(ClaimRequest { decide: fire(now, |_| None), ..node.ask(now - secs(1)) }).await;
    assert_eq!(keys(&resumed), [handed_out.key]);
}

/// Jobs with waiting rows come first, whether they are due or not.
pub(super) async fn what_waits_comes_first<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    store.add(job(1, now - secs(60))).await;
    let waiting = job(2, now + secs(60));
    store.add_waiting(waiting.clone(), requested(&waiting, 1, now)).await;
    let node = Node::join(&other, 1).await;
    let ask = || ClaimRequest { limit: 1, ..node.ask(now) };
    let (record, _) = node.claim_one_of(ask()).await;
    assert_eq!(record.id, waiting.id);
    assert_eq!(record.next_fire, Some(now + secs(60)));
    assert_eq!(ids(&node.claim(ask()).await), ["job-0001"]);
}

/// A job that waits and is due is one job, and its rows are decided on together.
pub(super) async fn a_job_is_decided_on_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = job(1, now);
    store.add_waiting(record.clone(), requested(&record, 1, now)).await;
    let node = Node::join(&other, 1).await;
    // Its next fire time is due, too: that is for the next take.
    let decide = fire(now, Some);
    let taken = node.claim(ClaimRequest { decide, ..node.ask(now) }).await;
    assert_eq!(ids(&taken), ["job-0001"]);
    assert_eq!(keys(&taken), [scheduled(&record, now).key, requested(&record, 1, now).key]);
    assert_eq!(store.record(&record.id).await.fence, taken[0].record.fence);
}

/// A decision is about the record and its waiting rows that count, in order of their keys.
pub(super) async fn decisions_see_record_and_waiting_rows<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = job(1, None);
    let early = DateTime::UNIX_EPOCH - secs(5);
    let late = DateTime::UNIX_EPOCH + secs(5);
    let rows: Vec<_> = [
        scheduled(&record, early),
        scheduled(&record, late),
        requested(&record, 2, now),
        requested(&record, 10, now),
    ]
    .map(|row| Row { state: RowState::Waiting, ..row })
    .into();
    let mut write = insert(&record);
    write.rows = vec![rows[3].clone(), rows[1].clone(), rows[2].clone(), rows[0].clone()];
    write.rows.push(closed(requested(&record, 3, now), Fate::Missed, now));
    store.done(vec![write]).await;
    let before = store.record(&record.id).await;
    let seen = Arc::new(Mutex::new(None));
    let decide: Decide = {
        let seen = seen.clone();
        Arc::new(move |record, waiting| {
            *seen.lock().unwrap() = Some((record.clone(), waiting.to_vec()));
            fire(now, |_| None)(record, waiting)
        })
    };
    let node = Node::join(&other, 1).await;
    let taken = node.claim(ClaimRequest { decide, ..node.ask(now) }).await;
    assert_eq!(seen.lock().unwrap().take(), Some((before, rows.clone())));
    assert_eq!(keys(&taken), rows.iter().map(|row| row.key).collect::<Vec<_>>());
}

/// A job whose record can't be read is answered with the error, and stays as it is.
pub(super) async fn what_is_rejected_is_named<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let due = store.add(job(1, now)).await;
    let waiting = job(2, None);
    let row = Row { state: RowState::Waiting, ..requested(&waiting, 1, now) };
    let waiting = store.add_waiting(waiting, row.clone()).await;
    let node = Node::join(&other, 1).await;
    let ask = ClaimRequest { decide: reject_below(u64::MAX, now).1, ..node.ask(now) };
    let claim_result = other.claim(ask).await.unwrap();
    assert!(claim_result.jobs.is_empty() && !claim_result.more && claim_result.next_due.is_none());
    let mut rejected: Vec<_> = claim_result
        .rejected
        .into_iter()
        .map(|it| (it.job, it.stamp, it.error.to_string()))
        .collect();
    rejected.sort_by(|a, b| a.0.cmp(&b.0));
    let named = [&due, &waiting].map(|it| (it.id.clone(), it.stamp(), format!("no {}", it.id)));
    assert_eq!(rejected, named);
    assert_eq!((store.record(&due.id).await, store.record(&waiting.id).await), (due, waiting));
    assert_eq!(store.row(row.key).await, row);
    // Others may be able to.
    let rival = Node::join(&store, 2).await;
    assert_eq!(ids(&rival.claim(rival.ask(now)).await), ["job-0002", "job-0001"]);
}

/// However many jobs can't be taken, a take looks at a few of them, and the next goes on behind those;
/// what is due just now is found at once.
pub(super) async fn a_take_looks_at_so_many_in_vain<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 0..60 {
        store.add(job(number, now - secs(100 - number as i64))).await;
    }
    store.add(job(60, now - secs(60) + TimeDelta::milliseconds(500))).await;
    store.add(job(61, now)).await;
    let node = Node::join(&other, 1).await;
    let (mut passed, mut taken, mut takes) = (ClaimCursor::default(), Vec::new(), 0);
    loop {
        let (seen, decide) = reject_below(60, now);
        let ask = ClaimRequest { decide, looks: 16, passed, ..node.ask(now) };
        let claim_result = store.claim(ask).await.unwrap();
        let in_vain = seen.lock().unwrap().len() - claim_result.jobs.len();
        assert!(in_vain <= 16 + 2 + 2, "{in_vain} jobs were looked at in vain");
        if takes == 0 {
            assert_eq!(ids(&claim_result.jobs), ["job-0061"], "what is due just now");
        }
        assert!(claim_result.passed.due >= passed.due, "it goes backwards");
        taken.extend(ids(&claim_result.jobs));
        (passed, takes) = (claim_result.passed, takes + 1);
        if !claim_result.more {
            break;
        }
        assert!(takes < 10, "it does not come to an end");
    }
    assert_eq!(taken, ["job-0061", "job-0060"]);
    // What comes before the place that was reached is found all the same, if it is among the first.
    store.add(job(62, now - secs(200))).await;
    let claim_result =
        store.claim(ClaimRequest { looks: 16, passed, ..node.ask(now - secs(200)) }).await.unwrap();
    assert_eq!(ids(&claim_result.jobs), ["job-0062"]);
}

/// The same of those that have waiting rows, and none of them hides what is due.
pub(super) async fn waiting_rows_are_passed_as_well<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 1..40 {
        let waiting = job(number, None);
        store.add_waiting(waiting.clone(), requested(&waiting, 1, now)).await;
    }
    store.add(job(40, now)).await;
    // Those of higher numbers have lower incarnations.
    let last = Record { incarnation: Incarnation(i64::MAX as u64), ..job(41, None) };
    store.add_waiting(last.clone(), requested(&last, 1, now)).await;
    let node = Node::join(&other, 1).await;
    let (mut passed, mut taken) = (ClaimCursor::default(), Vec::new());
    for _ in 0..10 {
        let (_, decide) = reject_below(40, now);
        let claim_result =
            store.claim(ClaimRequest { decide, looks: 8, passed, ..node.ask(now) }).await.unwrap();
        taken.extend(ids(&claim_result.jobs));
        passed = claim_result.passed;
        if !claim_result.more {
            break;
        }
    }
    assert_eq!(taken, ["job-0040", "job-0041"]);
    let due = NextDueRequest { passed, ..node.due() };
    assert_eq!(store.next_due(due).await.unwrap(), None);
    assert_eq!(store.next_due(node.due()).await.unwrap(), Some(DateTime::<Utc>::MIN_UTC));
}

/// What a node has passed is not for it to take next.
pub(super) async fn what_is_passed_is_not_due<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 0..20 {
        store.add(job(number, now - secs(9))).await;
    }
    store.add(job(20, now + secs(60))).await;
    let node = Node::join(&other, 1).await;
    let (_, decide) = reject_below(20, now);
    let claim_result = store.claim(ClaimRequest { decide, ..node.ask(now) }).await.unwrap();
    assert!(!claim_result.more);
    let due = NextDueRequest { passed: claim_result.passed, ..node.due() };
    assert_eq!(store.next_due(due.clone()).await.unwrap(), Some(now + secs(60)));
    store.add(job(21, now)).await;
    assert_eq!(store.next_due(due).await.unwrap(), Some(now));
    assert_eq!(store.next_due(node.due()).await.unwrap(), Some(now - secs(9)));
}

/// A take that leaves no more answers when to take next.
pub(super) async fn a_take_says_when_to_take_next<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&other, 1).await;
    let next = async |ask: ClaimRequest| store.claim(ask).await.unwrap().next_due;
    assert_eq!(next(node.ask(now)).await, None);
    store.add(job(1, now)).await;
    store.add(job(2, now + secs(30))).await;
    let (_, decide) = reject_below(1, now);
    assert_eq!(next(ClaimRequest { decide, ..node.ask(now) }).await, Some(now + secs(30)));
    store.add(job(3, now - secs(1))).await;
    let rejecting = ClaimRequest { decide: reject_below(u64::MAX, now).1, ..node.ask(now) };
    assert_eq!(next(rejecting).await, Some(now + secs(30)), "what was looked at in vain");
    let decide = fire(now, |at| Some(at + secs(5)));
    assert_eq!(next(ClaimRequest { decide, ..node.ask(now) }).await, Some(now + secs(4)));
    let except = Arc::new([job(3, now).incarnation].into());
    assert_eq!(next(ClaimRequest { except, ..node.ask(now) }).await, Some(now + secs(30)));
}

/// A decision that rejects the jobs of lower numbers, and what it was asked about.
fn reject_below(number: u64, horizon: DateTime<Utc>) -> (Arc<Mutex<Vec<Incarnation>>>, Decide) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (noted, fire) = (seen.clone(), fire(horizon, |_| None));
    let decide: Decide = Arc::new(move |record, waiting| {
        noted.lock().unwrap().push(record.incarnation);
        let of: u64 = record.id.as_str()["job-".len()..].parse().unwrap();
        match of < number {
            true => Decision::Reject(Error::unreadable(format!("no {}", record.id))),
            false => fire(record, waiting),
        }
    });
    (seen, decide)
}

/// A job that is left is as it was, and does not count for the limit.
pub(super) async fn what_is_left_is_as_it_was<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let mut left = Vec::new();
    for number in 0..5 {
        left.push(store.add(job(number, now - secs(9))).await);
    }
    let waiting = job(5, None);
    let row = Row { state: RowState::Waiting, ..requested(&waiting, 1, now) };
    left.push(store.add_waiting(waiting, row.clone()).await);
    store.add(job(6, now)).await;
    let node = Node::join(&other, 1).await;
    let decide: Decide = Arc::new(move |record, waiting| match &*record.id.as_str() {
        "job-0006" => fire(now, |_| None)(record, waiting),
        _ => Decision::Leave,
    });
    let taken = node.claim(ClaimRequest { decide, limit: 1, ..node.ask(now) }).await;
    assert_eq!(ids(&taken), ["job-0006"]);
    for record in left {
        assert_eq!(store.record(&record.id).await, record);
    }
    assert_eq!(store.row(row.key).await, row);
}

/// Of a job of which one node has a taken row, no other takes any, be that one alive or not.
pub(super) async fn only_the_holder_takes_more<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let holder = Node::join(&store, 1).await;
    let rival = Node::join(&other, 2).await;
    let record = store.add(job(1, now - secs(2))).await;
    let every = |node: &Node<S>| ClaimRequest {
        decide: fire(now, |at| Some(at + secs(1))),
        ..node.ask(now)
    };
    let (_, first) = holder.claim_one_of(every(&holder)).await;
    assert_eq!(ids(&rival.claim(every(&rival)).await), [""; 0]);

    let current = store.record(&record.id).await;
    let mut write = update(&current, current.clone());
    write.rows = vec![Row { state: RowState::Waiting, ..requested(&record, 1, now) }];
    store.done(vec![write]).await;
    assert_eq!(ids(&rival.claim(every(&rival)).await), [""; 0]);
    let more = holder.claim(every(&holder)).await;
    assert_eq!(more.iter().map(|taken| taken.rows.len()).sum::<usize>(), 2);

    store.finish_one(&first, succeeded()).await;
    holder.lapse().await;
    assert_eq!(ids(&rival.claim(every(&rival)).await), [""; 0]);
    for row in more.iter().flat_map(|taken| &taken.rows) {
        store.finish_one(row, succeeded()).await;
    }
    assert_eq!(rival.claim_one_of(every(&rival)).await.1.fire_time, now);
}

/// A fire time that the ledger has already is left out, and the next fire time moves on all the same.
pub(super) async fn what_the_ledger_has_is_left_out<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = job(1, now);
    let there = closed(scheduled(&record, now), succeeded(), now);
    store.done(vec![Write { rows: vec![there.clone()], ..insert(&record) }]).await;
    let node = Node::join(&other, 1).await;
    let next = now + secs(60);
    let decide = fire(now, move |_| Some(next));
    let taken = node.claim(ClaimRequest { decide, ..node.ask(now) }).await;
    assert_eq!(keys(&taken), []);
    assert_eq!(store.row(there.key).await, there);
    assert_eq!(store.record(&record.id).await.next_fire, Some(next));

    // The same for a row that the node itself has taken, beside one that is new.
    let (_, first) = node.claim_one_of(node.ask(next)).await;
    store.change(&record.id, |record| record.next_fire = Some(next)).await;
    let rows = vec![scheduled(&record, next), requested(&record, 1, next)];
    let decide = always(rows.clone(), None);
    let taken = node.claim(ClaimRequest { decide, ..node.ask(next) }).await;
    assert_eq!(keys(&taken), [rows[1].key]);
    assert_eq!(store.row(first.key).await, first);
}

/// Rows that run for nothing are put into the ledger as they are, and are part of the answer.
pub(super) async fn closed_rows_are_put_too<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let first = now - secs(30);
    let record = store.add(job(1, first)).await;
    let stretch = Row { count: 29, last: now - secs(1), ..scheduled(&record, first) };
    let stretch = closed(stretch, Fate::Coalesced(now), now);
    let run = Row { coalesced: 29, ..scheduled(&record, now) };
    let node = Node::join(&other, 1).await;
    let decide = always(vec![stretch.clone(), run.clone()], Some(now + secs(1)));
    let mut taken = node.claim(ClaimRequest { decide, ..node.ask(now) }).await;
    assert_eq!(ids(&taken), ["job-0001"]);
    let ClaimedJob { record, mut rows } = taken.remove(0);
    let (state, by) = (RowState::Claimed(node.id), Some(node.id));
    let run = Row { state, node: by, fence: record.fence, ..run };
    rows.sort_by_key(|row| row.key);
    assert_eq!(rows, [stretch.clone(), run.clone()]);
    assert_eq!(store.all_rows().await, [stretch, run]);
}

/// A row that waited is taken, or closed, or goes on waiting, as decided; it is the same row.
pub(super) async fn waiting_rows_become_what_is_decided<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = job(1, None);
    let rows: Vec<_> = (1..=3)
        .map(|number| Row {
            state: RowState::Waiting,
            attempt: 4,
            recover: true,
            ..requested(&record, number, now)
        })
        .collect();
    store.done(vec![Write { rows: rows.clone(), ..insert(&record) }]).await;
    let skipped = Fate::Skipped(SkipReason::MaxInstances);
    let decide = always(
        vec![
            Row { state: RowState::Claimed(NodeId(0)), ..rows[0].clone() },
            closed(rows[1].clone(), skipped.clone(), now),
        ],
        None,
    );
    let node = Node::join(&other, 1).await;
    let fence = node.claim(ClaimRequest { decide, ..node.ask(now) }).await[0].record.fence;
    let expected = [
        Row { state: RowState::Claimed(node.id), node: Some(node.id), fence, ..rows[0].clone() },
        closed(rows[1].clone(), skipped, now),
        rows[2].clone(),
    ];
    assert_eq!(store.all_rows().await, expected);
    assert_eq!(node.take_one(now).await.key, rows[2].key);
}

/// The fence grows with each take of the job, whoever takes, and is at least the time; the version
/// stays.
pub(super) async fn fences_grow_with_takes_and_time<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    // Another incarnation of the id has no fence of before to count from.
    let first = store.add(job(1, now)).await;
    other.done(vec![replace(&first, reborn(&first))]).await;
    let record = store.record(&first.id).await;
    let nodes = [Node::join(&store, 1).await, Node::join(&other, 2).await];
    let mut last = u64::try_from(now.timestamp_millis()).unwrap() - 1;
    for number in 0..6 {
        let node = &nodes[number % 2];
        let decide = fire(now, |at| Some(at - secs(1)));
        let (taken, row) = node.claim_one_of(ClaimRequest { decide, ..node.ask(now) }).await;
        assert!(taken.fence > last, "{} after {last}", taken.fence);
        assert_eq!((row.fence, taken.version), (taken.fence, record.version));
        last = taken.fence;
        store.finish_one(&row, succeeded()).await;
    }
    // A clock that is behind, as after a failover, does not make fences repeat.
    let current = store.record(&record.id).await;
    let ahead = current.fence + 1_000_000_000;
    store.done(vec![update(&current, Record { fence: ahead, ..current.clone() })]).await;
    let (taken, _) = nodes[0].claim_one_of(nodes[0].ask(now)).await;
    assert_eq!(taken.fence, ahead + 1);
}

/// A node that the store does not know, or that was buried, or has left, takes nothing.
pub(super) async fn without_a_row_nothing_is_taken<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = store.add(job(1, now)).await;
    let node = Node::join(&other, 1).await;
    let stranger = ClaimRequest { node: NodeId(7), ..node.ask(now) };
    assert!(store.claim(stranger).await.unwrap_err().is_lease_lost());
    other.bury(&node).await;
    assert!(store.claim(node.ask(now)).await.unwrap_err().is_lease_lost());
    node.heartbeat(true, LONG).await.unwrap();
    node.leave().await;
    assert!(store.claim(node.ask(now)).await.unwrap_err().is_lease_lost());
    assert_eq!(store.record(&record.id).await, record);
    assert_eq!(store.all_rows().await, []);
}

/// A take of the same number gets what the first one took and the node still has, and no more.
pub(super) async fn a_take_asked_again_gets_the_same<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 1..=5 {
        store.add(job(number, now - secs(number as i64))).await;
    }
    let node = Node::join(&store, 1).await;
    let earlier = node.claim(ClaimRequest { limit: 1, ..node.ask(now) }).await;
    let ask = ClaimRequest { limit: 3, ..node.ask(now) };
    let first = node.claim(ask.clone()).await;
    assert_eq!(first.len(), 3);

    let again = other.claim(ask.clone()).await.unwrap().jobs;
    assert_eq!(keys(&again), keys(&first));
    for taken in &again {
        assert_eq!(taken.record, store.record(&taken.record.id).await);
        assert_eq!(taken.rows, [store.row(taken.rows[0].key).await]);
    }
    assert!(node.holds().await.len() == 4 && earlier.len() == 1, "the fifth is not taken");

    let [gone, back, left] = &first[..] else { unreachable!() };
    store.finish_one(&gone.rows[0], succeeded()).await;
    node.release(&[back.rows[0].claim()]).await;
    let again = other.claim(ask).await.unwrap().jobs;
    assert_eq!(keys(&again), [left.rows[0].key]);
    // The next number gets what is to be had.
    assert_eq!(node.claim(node.ask(now)).await.len(), 2);
}

/// A take that found nothing finds nothing when it is asked again, either.
pub(super) async fn a_take_of_nothing_asked_again_is_that<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let ask = node.ask(now);
    assert_eq!(ids(&node.claim(ask.clone()).await), [""; 0]);
    other.add(job(1, now)).await;
    assert_eq!(ids(&node.claim(ask).await), [""; 0]);
    node.take_one(now).await;
}

/// Nobody waits for the answer to an earlier take any more: it is refused.
pub(super) async fn an_earlier_take_is_refused<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let earlier = node.ask(now);
    node.claim(node.ask(now)).await;
    let record = store.add(job(1, now)).await;
    assert!(other.claim(earlier).await.unwrap_err().is_refused());
    assert_eq!(store.record(&record.id).await, record);
}

/// Takes are counted by each node for itself.
pub(super) async fn nodes_count_for_themselves<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let first = Node::join(&store, 1).await;
    let second = Node::join(&other, 2).await;
    first.claim(first.ask(now)).await;
    first.claim(first.ask(now)).await;
    store.add(job(1, now)).await;
    second.take_one(now).await;
}

/// A job with nothing to come and nothing open is over with the take that leaves it so.
pub(super) async fn a_take_ends_a_job<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let missed = store.add(job(1, now)).await;
    let nothing = store.add(job(2, now)).await;
    let running = store.add(job(3, now)).await;
    let recurring = store.add(job(4, now)).await;
    let waiting = job(5, now);
    store.add_waiting(waiting.clone(), requested(&waiting, 1, now)).await;
    let node = Node::join(&other, 1).await;
    let decide: Decide = Arc::new(move |record, _| {
        let row = scheduled(record, now);
        let over = |rows| Decision::Claim { rows, next_fire: None };
        match &*record.id.as_str() {
            "job-0001" => over(vec![closed(row, Fate::Missed, now)]),
            "job-0003" => over(vec![row]),
            "job-0004" => Decision::Claim { rows: vec![], next_fire: Some(now + secs(1)) },
            _ => over(vec![]),
        }
    });
    let taken = node.claim(ClaimRequest { decide, ..node.ask(now) }).await;
    assert_eq!(taken.len(), 5);
    for record in [&missed, &nothing] {
        assert!(!store.is_there(record).await, "{}", record.id);
        assert_eq!(store.end(record).await, Some(Fate::Completed));
    }
    for record in [&running, &recurring, &waiting] {
        assert!(store.is_there(record).await, "{}", record.id);
        assert_eq!(store.end(record).await, None);
    }
    let answered = taken.iter().find(|taken| taken.record.id == missed.id).unwrap();
    let fence = answered.record.fence;
    assert_eq!(answered.record, Record { fence, next_fire: None, ..missed });
    assert_eq!(keys(std::slice::from_ref(answered)), [scheduled(&answered.record, now).key]);
}

/// Instants far from now are ordered like others.
pub(super) async fn far_fire_times_are_taken_in_order<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let at = |text: &str| -> DateTime<Utc> { text.parse().unwrap() };
    store.add(job(1, at("9999-12-31T23:59:59.999Z"))).await;
    store.add(job(2, at("1969-12-31T23:59:59.999Z"))).await;
    store.add(job(3, at("0001-01-01T00:00:00Z"))).await;
    store.add(job(4, at("1970-01-01T00:00:00Z"))).await;
    let node = Node::join(&other, 1).await;
    assert_eq!(ids(&node.claim(node.ask(now)).await), ["job-0003", "job-0002", "job-0004"]);
    let row = node.take_one(at("9999-12-31T23:59:59.999Z")).await;
    assert_eq!(row.key.number, 253_402_300_799_999);
}
