//! Cases of [`Store::claim`]: the candidates and their decisions.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use chrono::{DateTime, TimeDelta, Utc};

use super::stage::*;
use crate::{error::Error, job::SkipReason, store::*};

/// Jobs are claimed in order of their next fire times, up to and including the horizon.
pub(super) async fn due_jobs_are_claimed_in_order<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let after = now + TimeDelta::milliseconds(1);
    for (number, at) in [(1, now), (2, now - secs(3)), (3, after), (4, now - secs(9))] {
        store.add(job(number, at)).await;
    }
    store.add(job(5, None)).await;
    let node = Node::join(&other, 1).await;
    let claimed = node.claim(node.request(now)).await;
    assert_eq!(ids(&claimed), ["job-0004", "job-0002", "job-0001"]);
    assert_eq!(ids(&node.claim(node.request(after)).await), ["job-0003"]);
    assert_eq!(ids(&node.claim(node.request(after)).await), [""; 0]);
}

/// A claim returns the current record and the rows that it put into the ledger.
pub(super) async fn a_claim_marks_record_and_row<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let before = store.add(Record { recover: true, ..job(1, now) }).await;
    let node = Node::join(&other, 1).await;
    let next = now + secs(60);
    let decide = fire(now, move |_| Some(next));
    let (record, row) = node.claim_one_of(ClaimRequest { decide, ..node.request(now) }).await;
    let fence = record.fence;
    assert_eq!(record, Record { fence, next_fire: Some(next), ..before.clone() });
    let (state, by) = (RowState::Claimed(node.id), Some(node.id));
    let expected = Row { state, node: by, fence, ..scheduled(&before, now) };
    assert_eq!(row, expected);
    assert_eq!(store.record(&before.id).await, record);
    assert_eq!(store.row(row.key).await, row);
}

/// A claim returns no more jobs than its limit, and says whether there may be more.
pub(super) async fn a_claim_keeps_to_its_limit<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 0..10 {
        store.add(job(number, now - secs(10 - number as i64))).await;
    }
    let node = Node::join(&other, 1).await;
    let first = store.claim(ClaimRequest { limit: 4, ..node.request(now) }).await.unwrap();
    assert_eq!(ids(&first.jobs), ["job-0000", "job-0001", "job-0002", "job-0003"]);
    assert!(first.more);
    let second = store.claim(ClaimRequest { limit: 4, ..node.request(now) }).await.unwrap();
    assert_eq!(ids(&second.jobs), ["job-0004", "job-0005", "job-0006", "job-0007"]);
    assert!(second.more);
    let third = store.claim(ClaimRequest { limit: 4, ..node.request(now) }).await.unwrap();
    assert_eq!(ids(&third.jobs), ["job-0008", "job-0009"]);
    assert!(!third.more);
}

/// A claim selects no further job once it has reached its row limit.
pub(super) async fn a_claim_keeps_to_its_row_limit<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 0..6 {
        store.add(job(number, now - secs(10 - number as i64))).await;
    }
    let asked = Record { paused: true, ..job(7, None) };
    store.add_waiting(asked.clone(), requested(&asked, 1, now)).await;
    let node = Node::join(&other, 1).await;
    let first = store.claim(ClaimRequest { row_limit: 2, ..node.request(now) }).await.unwrap();
    assert_eq!(ids(&first.jobs), ["job-0007", "job-0000"]);
    assert!(first.more);
    // All decided rows of the last job are claimed.
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
    let request = || ClaimRequest { row_limit: 4, decide: three.clone(), ..node.request(now) };
    let second = store.claim(request()).await.unwrap();
    assert_eq!(ids(&second.jobs), ["job-0001", "job-0002"]);
    assert!(second.more && second.jobs.iter().all(|claimed| claimed.rows.len() == 3));
    let third = store.claim(ClaimRequest { row_limit: 1000, ..request() }).await.unwrap();
    assert_eq!(third.jobs.len(), 3);
    assert!(!third.more);
}

/// The largest limits are no limits.
pub(super) async fn a_claim_without_limits_claims_what_is_due<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 0..3 {
        store.add(job(number, now - secs(3 - number as i64))).await;
    }
    let node = Node::join(&other, 1).await;
    let unlimited = |looks| ClaimRequest {
        limit: usize::MAX,
        row_limit: usize::MAX,
        looks,
        ..node.request(now)
    };
    // From a position on, the start and the end of the list are scanned, too.
    let passed = ClaimCursor { waiting: None, due: Some((now - secs(2), Incarnation(0))) };
    let only = Arc::new(HashSet::from([job(0, None).incarnation]));
    let some = ClaimRequest { passed, except: only, ..unlimited(usize::MAX) };
    let claimed = store.claim(some).await.unwrap();
    let mut claimed_ids = ids(&claimed.jobs);
    claimed_ids.sort();
    assert_eq!((claimed_ids.join(" "), claimed.more), ("job-0001 job-0002".into(), false));
    let claimed = store.claim(unlimited(usize::MAX)).await.unwrap();
    assert_eq!((ids(&claimed.jobs), claimed.more), (vec!["job-0000".to_owned()], false));
}

/// A node claims only jobs whose task it has registered, however many others are due before.
pub(super) async fn unregistered_tasks_are_not_claimed<S: Store>(stage: Stage<S>) {
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
    let request = |names| ClaimRequest { tasks: names, limit: 2, ..node.request(now) };
    assert_eq!(ids(&node.claim(request(tasks([]))).await), [""; 0]);
    assert_eq!(ids(&node.claim(request(tasks([TASK, "mail"]))).await), ["job-0010", "job-0009"]);
    assert_eq!(store.row(waiting.key).await.state, RowState::Waiting);
    assert_eq!(ids(&node.claim(request(tasks(["later"]))).await), ["job-0008"]);
}

/// The incarnations that a node excludes are left to other nodes.
pub(super) async fn excluded_jobs_are_not_claimed<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let unread = store.add(job(1, now)).await;
    let waiting = job(2, None);
    store.add_waiting(waiting.clone(), requested(&waiting, 1, now)).await;
    store.add(job(3, now)).await;
    let node = Node::join(&other, 1).await;
    let except = Arc::new([unread.incarnation, waiting.incarnation].into());
    assert_eq!(ids(&node.claim(ClaimRequest { except, ..node.request(now) }).await), ["job-0003"]);
    assert_eq!(ids(&node.claim(node.request(now)).await), ["job-0002", "job-0001"]);
}

/// Paused jobs do not fire, but their requested runs are claimed.
pub(super) async fn of_paused_jobs_only_requested_runs_are_claimed<S: Store>(stage: Stage<S>) {
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
    let (record, row) = node.claim_one_of(node.request(now)).await;
    assert_eq!(row.key, asked.key);
    assert_eq!(record.next_fire, Some(now));
    assert_eq!(store.row(handed_out.key).await, handed_out);

    other.change(&paused(2).id, |record| record.paused = false).await;
    let resumed = node
        .claim(ClaimRequest { decide: fire(now, |_| None), ..node.request(now - secs(1)) })
        .await;
    assert_eq!(keys(&resumed), [handed_out.key]);
}

/// Jobs with waiting rows come first, whether they are due or not.
pub(super) async fn jobs_with_waiting_rows_come_first<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    store.add(job(1, now - secs(60))).await;
    let waiting = job(2, now + secs(60));
    store.add_waiting(waiting.clone(), requested(&waiting, 1, now)).await;
    let node = Node::join(&other, 1).await;
    let request = || ClaimRequest { limit: 1, ..node.request(now) };
    let (record, _) = node.claim_one_of(request()).await;
    assert_eq!(record.id, waiting.id);
    assert_eq!(record.next_fire, Some(now + secs(60)));
    assert_eq!(ids(&node.claim(request()).await), ["job-0001"]);
}

/// A job with waiting rows that is also due is one job, and its rows are decided together.
pub(super) async fn a_job_is_decided_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = job(1, now);
    store.add_waiting(record.clone(), requested(&record, 1, now)).await;
    let node = Node::join(&other, 1).await;
    // Its next fire time is also due, for the next claim.
    let decide = fire(now, Some);
    let claimed = node.claim(ClaimRequest { decide, ..node.request(now) }).await;
    assert_eq!(ids(&claimed), ["job-0001"]);
    assert_eq!(keys(&claimed), [scheduled(&record, now).key, requested(&record, 1, now).key]);
    assert_eq!(store.record(&record.id).await.fence, claimed[0].record.fence);
}

/// A decision gets the record and its waiting rows that count, in order of their keys.
pub(super) async fn decisions_get_record_and_waiting_rows<S: Store>(stage: Stage<S>) {
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
    let claimed = node.claim(ClaimRequest { decide, ..node.request(now) }).await;
    assert_eq!(seen.lock().unwrap().take(), Some((before, rows.clone())));
    assert_eq!(keys(&claimed), rows.iter().map(|row| row.key).collect::<Vec<_>>());
}

/// A decision gets the first waiting rows of a job, and later claims the others.
pub(super) async fn decisions_get_a_bounded_number_of_waiting_rows<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = store.add(job(1, None)).await;
    let most = ClaimRequest::MOST_WAITING;
    let numbers: Vec<i64> = (1..=(2 * most + most / 2) as i64).collect();
    for numbers in numbers.chunks(store.capabilities().max_batch.min(500)) {
        let current = store.record(&record.id).await;
        let waits =
            |&number: &i64| Row { state: RowState::Waiting, ..requested(&record, number, now) };
        let rows = numbers.iter().map(waits).collect();
        store.done(vec![Write { rows, ..update(&current, current.clone()) }]).await;
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let decide: Decide = {
        let seen = seen.clone();
        Arc::new(move |record, waiting| {
            seen.lock().unwrap().push(waiting.len());
            fire(now, |_| None)(record, waiting)
        })
    };
    let node = Node::join(&other, 1).await;
    let mut claimed = Vec::new();
    for _ in 0..3 {
        let request = ClaimRequest { decide: decide.clone(), ..node.request(now) };
        claimed.extend(keys(&node.claim(request).await).into_iter().map(|key| key.number));
    }
    assert_eq!(claimed, numbers, "in order, and each once");
    assert_eq!(*seen.lock().unwrap(), [most, most, most / 2]);
}

/// A rejected job is returned with the error, and is unchanged.
pub(super) async fn rejected_jobs_are_returned<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let due = store.add(job(1, now)).await;
    let waiting = job(2, None);
    let row = Row { state: RowState::Waiting, ..requested(&waiting, 1, now) };
    let waiting = store.add_waiting(waiting, row.clone()).await;
    let node = Node::join(&other, 1).await;
    let request = ClaimRequest { decide: reject_below(u64::MAX, now).1, ..node.request(now) };
    let claim_result = other.claim(request).await.unwrap();
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
    // Other nodes may claim it.
    let rival = Node::join(&store, 2).await;
    assert_eq!(ids(&rival.claim(rival.request(now)).await), ["job-0002", "job-0001"]);
}

/// However many jobs are rejected, a claim scans a few of them, and the next continues after them;
/// a job that has just come due is found at once.
pub(super) async fn the_scan_of_a_claim_is_bounded<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 0..60 {
        store.add(job(number, now - secs(100 - number as i64))).await;
    }
    store.add(job(60, now - secs(60) + TimeDelta::milliseconds(500))).await;
    store.add(job(61, now)).await;
    let node = Node::join(&other, 1).await;
    let (mut passed, mut claimed, mut claims) = (ClaimCursor::default(), Vec::new(), 0);
    loop {
        let (seen, decide) = reject_below(60, now);
        let request = ClaimRequest { decide, looks: 16, passed, ..node.request(now) };
        let claim_result = store.claim(request).await.unwrap();
        let in_vain = seen.lock().unwrap().len() - claim_result.jobs.len();
        assert!(in_vain <= 16 + 2 + 2, "{in_vain} jobs were looked at in vain");
        if claims == 0 {
            assert_eq!(ids(&claim_result.jobs), ["job-0061"], "a job that has just come due");
        }
        assert!(claim_result.passed.due >= passed.due, "the position goes backwards");
        claimed.extend(ids(&claim_result.jobs));
        (passed, claims) = (claim_result.passed, claims + 1);
        if !claim_result.more {
            break;
        }
        assert!(claims < 10, "the scan does not end");
    }
    assert_eq!(claimed, ["job-0061", "job-0060"]);
    // A candidate before the position is still found, if it is among the first.
    store.add(job(62, now - secs(200))).await;
    let claim_result = store
        .claim(ClaimRequest { looks: 16, passed, ..node.request(now - secs(200)) })
        .await
        .unwrap();
    assert_eq!(ids(&claim_result.jobs), ["job-0062"]);
}

/// The scan of jobs with waiting rows is bounded too, and hides no due job.
pub(super) async fn the_scan_of_waiting_rows_is_bounded<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 1..40 {
        let waiting = job(number, None);
        store.add_waiting(waiting.clone(), requested(&waiting, 1, now)).await;
    }
    store.add(job(40, now)).await;
    // Jobs with higher numbers have lower incarnations.
    let last = Record { incarnation: Incarnation(i64::MAX as u64), ..job(41, None) };
    store.add_waiting(last.clone(), requested(&last, 1, now)).await;
    let node = Node::join(&other, 1).await;
    let (mut passed, mut claimed) = (ClaimCursor::default(), Vec::new());
    for _ in 0..10 {
        let (_, decide) = reject_below(40, now);
        let claim_result = store
            .claim(ClaimRequest { decide, looks: 8, passed, ..node.request(now) })
            .await
            .unwrap();
        claimed.extend(ids(&claim_result.jobs));
        passed = claim_result.passed;
        if !claim_result.more {
            break;
        }
    }
    assert_eq!(claimed, ["job-0040", "job-0041"]);
    let due = NextDueRequest { passed, ..node.due() };
    assert_eq!(store.next_due(due).await.unwrap(), None);
    assert_eq!(store.next_due(node.due()).await.unwrap(), Some(DateTime::<Utc>::MIN_UTC));
}

/// A job before the node's scan position does not count for its next claim.
pub(super) async fn passed_jobs_are_not_due<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 0..20 {
        store.add(job(number, now - secs(9))).await;
    }
    store.add(job(20, now + secs(60))).await;
    let node = Node::join(&other, 1).await;
    let (_, decide) = reject_below(20, now);
    let claim_result = store.claim(ClaimRequest { decide, ..node.request(now) }).await.unwrap();
    assert!(!claim_result.more);
    let due = NextDueRequest { passed: claim_result.passed, ..node.due() };
    assert_eq!(store.next_due(due.clone()).await.unwrap(), Some(now + secs(60)));
    store.add(job(21, now)).await;
    assert_eq!(store.next_due(due).await.unwrap(), Some(now));
    assert_eq!(store.next_due(node.due()).await.unwrap(), Some(now - secs(9)));
}

/// A claim with no more candidates returns the instant of the next claim.
pub(super) async fn a_claim_returns_the_next_due_instant<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&other, 1).await;
    let next = async |request: ClaimRequest| store.claim(request).await.unwrap().next_due;
    assert_eq!(next(node.request(now)).await, None);
    store.add(job(1, now)).await;
    store.add(job(2, now + secs(30))).await;
    let (_, decide) = reject_below(1, now);
    assert_eq!(next(ClaimRequest { decide, ..node.request(now) }).await, Some(now + secs(30)));
    store.add(job(3, now - secs(1))).await;
    let rejecting = ClaimRequest { decide: reject_below(u64::MAX, now).1, ..node.request(now) };
    assert_eq!(next(rejecting).await, Some(now + secs(30)), "rejected jobs do not count");
    let decide = fire(now, |at| Some(at + secs(5)));
    assert_eq!(next(ClaimRequest { decide, ..node.request(now) }).await, Some(now + secs(4)));
    let except = Arc::new([job(3, now).incarnation].into());
    assert_eq!(next(ClaimRequest { except, ..node.request(now) }).await, Some(now + secs(30)));
}

/// A decision that rejects jobs with lower numbers, and the incarnations it was called for.
fn reject_below(number: u64, horizon: DateTime<Utc>) -> (Arc<Mutex<Vec<Incarnation>>>, Decide) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (noted, fire) = (seen.clone(), fire(horizon, |_| None));
    let decide: Decide = Arc::new(move |record, waiting| {
        noted.lock().unwrap().push(record.incarnation);
        let of: u64 = record.id.as_str()["job-".len()..].parse().unwrap();
        if of < number {
            Decision::Reject(Error::unreadable(format!("no {}", record.id)))
        } else {
            fire(record, waiting)
        }
    });
    (seen, decide)
}

/// A job that is left is unchanged, and does not count towards the limit.
pub(super) async fn a_left_job_is_unchanged<S: Store>(stage: Stage<S>) {
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
    let claimed = node.claim(ClaimRequest { decide, limit: 1, ..node.request(now) }).await;
    assert_eq!(ids(&claimed), ["job-0006"]);
    for record in left {
        assert_eq!(store.record(&record.id).await, record);
    }
    assert_eq!(store.row(row.key).await, row);
}

/// While a node has a claimed row of a job, no other node claims rows of it, whether the node is
/// alive or dead.
pub(super) async fn only_the_claiming_node_claims_more<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let holder = Node::join(&store, 1).await;
    let rival = Node::join(&other, 2).await;
    let record = store.add(job(1, now - secs(2))).await;
    let every = |node: &Node<S>| ClaimRequest {
        decide: fire(now, |at| Some(at + secs(1))),
        ..node.request(now)
    };
    let (_, first) = holder.claim_one_of(every(&holder)).await;
    assert_eq!(ids(&rival.claim(every(&rival)).await), [""; 0]);

    let current = store.record(&record.id).await;
    let mut write = update(&current, current.clone());
    write.rows = vec![Row { state: RowState::Waiting, ..requested(&record, 1, now) }];
    store.done(vec![write]).await;
    assert_eq!(ids(&rival.claim(every(&rival)).await), [""; 0]);
    let more = holder.claim(every(&holder)).await;
    assert_eq!(more.iter().map(|claimed| claimed.rows.len()).sum::<usize>(), 2);

    store.finish_one(&first, succeeded()).await;
    holder.lapse().await;
    assert_eq!(ids(&rival.claim(every(&rival)).await), [""; 0]);
    for row in more.iter().flat_map(|claimed| &claimed.rows) {
        store.finish_one(row, succeeded()).await;
    }
    assert_eq!(rival.claim_one_of(every(&rival)).await.1.fire_time, now);
}

/// A fire time that the ledger already has is left out, and the next fire time still advances.
pub(super) async fn fire_times_in_the_ledger_are_left_out<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = job(1, now);
    let there = closed(scheduled(&record, now), succeeded(), now);
    store.done(vec![Write { rows: vec![there.clone()], ..insert(&record) }]).await;
    let node = Node::join(&other, 1).await;
    let next = now + secs(60);
    let decide = fire(now, move |_| Some(next));
    let claimed = node.claim(ClaimRequest { decide, ..node.request(now) }).await;
    assert_eq!(keys(&claimed), []);
    assert_eq!(store.row(there.key).await, there);
    assert_eq!(store.record(&record.id).await.next_fire, Some(next));

    // Also for a row that the node itself has claimed, beside a new one.
    let (_, first) = node.claim_one_of(node.request(next)).await;
    store.change(&record.id, |record| record.next_fire = Some(next)).await;
    let rows = vec![scheduled(&record, next), requested(&record, 1, next)];
    let decide = always(rows.clone(), None);
    let claimed = node.claim(ClaimRequest { decide, ..node.request(next) }).await;
    assert_eq!(keys(&claimed), [rows[1].key]);
    assert_eq!(store.row(first.key).await, first);
}

/// Closed rows for fire times without a run are inserted unchanged, and returned.
pub(super) async fn closed_rows_are_inserted<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let first = now - secs(30);
    let record = store.add(job(1, first)).await;
    let stretch = Row { count: 29, last: now - secs(1), ..scheduled(&record, first) };
    let stretch = closed(stretch, Fate::Coalesced(now), now);
    let run = Row { coalesced: 29, ..scheduled(&record, now) };
    let node = Node::join(&other, 1).await;
    let decide = always(vec![stretch.clone(), run.clone()], Some(now + secs(1)));
    let mut claimed = node.claim(ClaimRequest { decide, ..node.request(now) }).await;
    assert_eq!(ids(&claimed), ["job-0001"]);
    let ClaimedJob { record, mut rows } = claimed.remove(0);
    let (state, by) = (RowState::Claimed(node.id), Some(node.id));
    let run = Row { state, node: by, fence: record.fence, ..run };
    rows.sort_by_key(|row| row.key);
    assert_eq!(rows, [stretch.clone(), run.clone()]);
    assert_eq!(store.all_rows().await, [stretch, run]);
}

/// A waiting row is claimed, closed or stays waiting as decided, under the same key.
pub(super) async fn waiting_rows_change_as_decided<S: Store>(stage: Stage<S>) {
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
    let fence = node.claim(ClaimRequest { decide, ..node.request(now) }).await[0].record.fence;
    let expected = [
        Row { state: RowState::Claimed(node.id), node: Some(node.id), fence, ..rows[0].clone() },
        closed(rows[1].clone(), skipped, now),
        rows[2].clone(),
    ];
    assert_eq!(store.all_rows().await, expected);
    assert_eq!(node.claim_one(now).await.key, rows[2].key);
}

/// The fence grows with each claim of the job, by any node, and is at least the time; the version
/// is unchanged.
pub(super) async fn fences_grow_with_claims_and_time<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    // Another incarnation of the id starts without a fence.
    let first = store.add(job(1, now)).await;
    other.done(vec![replace(&first, next_incarnation(&first))]).await;
    let record = store.record(&first.id).await;
    let nodes = [Node::join(&store, 1).await, Node::join(&other, 2).await];
    let mut last = u64::try_from(now.timestamp_millis()).unwrap() - 1;
    for number in 0..6 {
        let node = &nodes[number % 2];
        let decide = fire(now, |at| Some(at - secs(1)));
        let (claimed, row) = node.claim_one_of(ClaimRequest { decide, ..node.request(now) }).await;
        assert!(claimed.fence > last, "{} after {last}", claimed.fence);
        assert_eq!((row.fence, claimed.version), (claimed.fence, record.version));
        last = claimed.fence;
        store.finish_one(&row, succeeded()).await;
    }
    // A clock that is behind, as after a failover, does not repeat fences.
    let current = store.record(&record.id).await;
    let ahead = current.fence + 1_000_000_000;
    store.done(vec![update(&current, Record { fence: ahead, ..current.clone() })]).await;
    let (claimed, _) = nodes[0].claim_one_of(nodes[0].request(now)).await;
    assert_eq!(claimed.fence, ahead + 1);
}

/// A node that is unknown, has expired or has deregistered claims nothing.
pub(super) async fn a_node_without_a_row_claims_nothing<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = store.add(job(1, now)).await;
    let node = Node::join(&other, 1).await;
    let stranger = ClaimRequest { node: NodeId(7), ..node.request(now) };
    assert!(store.claim(stranger).await.unwrap_err().is_lease_lost());
    other.expire(&node).await;
    assert!(store.claim(node.request(now)).await.unwrap_err().is_lease_lost());
    node.heartbeat(true, LONG).await.unwrap();
    node.deregister().await;
    assert!(store.claim(node.request(now)).await.unwrap_err().is_lease_lost());
    assert_eq!(store.record(&record.id).await, record);
    assert_eq!(store.all_rows().await, []);
}

/// A claim with the same number returns the rows of the first that the node still has claimed, and
/// no more.
pub(super) async fn a_retried_claim_returns_the_same_rows<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 1..=5 {
        store.add(job(number, now - secs(number as i64))).await;
    }
    let node = Node::join(&store, 1).await;
    let earlier = node.claim(ClaimRequest { limit: 1, ..node.request(now) }).await;
    let request = ClaimRequest { limit: 3, ..node.request(now) };
    let first = node.claim(request.clone()).await;
    assert_eq!(first.len(), 3);

    let again = other.claim(request.clone()).await.unwrap().jobs;
    assert_eq!(keys(&again), keys(&first));
    for claimed in &again {
        assert_eq!(claimed.record, store.record(&claimed.record.id).await);
        assert_eq!(claimed.rows, [store.row(claimed.rows[0].key).await]);
    }
    assert!(node.claimed_keys().await.len() == 4 && earlier.len() == 1, "the fifth is not claimed");

    let [gone, back, left] = &first[..] else { unreachable!() };
    store.finish_one(&gone.rows[0], succeeded()).await;
    node.release(&[back.rows[0].claim()]).await;
    let again = other.claim(request).await.unwrap().jobs;
    assert_eq!(keys(&again), [left.rows[0].key]);
    // The next number claims the remaining candidates.
    assert_eq!(node.claim(node.request(now)).await.len(), 2);
}

/// A claim that found nothing finds nothing when it is retried.
pub(super) async fn a_retried_empty_claim_is_empty<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let request = node.request(now);
    assert_eq!(ids(&node.claim(request.clone()).await), [""; 0]);
    other.add(job(1, now)).await;
    assert_eq!(ids(&node.claim(request).await), [""; 0]);
    node.claim_one(now).await;
}

/// A claim with a lower number is refused, since its node no longer waits for the response.
pub(super) async fn an_earlier_claim_is_refused<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let earlier = node.request(now);
    node.claim(node.request(now)).await;
    let record = store.add(job(1, now)).await;
    assert!(other.claim(earlier).await.unwrap_err().is_refused());
    assert_eq!(store.record(&record.id).await, record);
}

/// Each node counts its own claims.
pub(super) async fn each_node_counts_its_claims<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let first = Node::join(&store, 1).await;
    let second = Node::join(&other, 2).await;
    first.claim(first.request(now)).await;
    first.claim(first.request(now)).await;
    store.add(job(1, now)).await;
    second.claim_one(now).await;
}

/// A job without a fire time left and without an open row ends with the claim that leaves it so.
pub(super) async fn a_claim_ends_a_job<S: Store>(stage: Stage<S>) {
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
    let claimed = node.claim(ClaimRequest { decide, ..node.request(now) }).await;
    assert_eq!(claimed.len(), 5);
    for record in [&missed, &nothing] {
        assert!(!store.is_there(record).await, "{}", record.id);
        assert_eq!(store.end(record).await, Some(Fate::Completed));
    }
    for record in [&running, &recurring, &waiting] {
        assert!(store.is_there(record).await, "{}", record.id);
        assert_eq!(store.end(record).await, None);
    }
    let answered = claimed.iter().find(|claimed| claimed.record.id == missed.id).unwrap();
    let fence = answered.record.fence;
    assert_eq!(answered.record, Record { fence, next_fire: None, ..missed });
    assert_eq!(keys(std::slice::from_ref(answered)), [scheduled(&answered.record, now).key]);
}

/// Distant instants are ordered like others.
pub(super) async fn far_fire_times_are_claimed_in_order<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let at = |text: &str| -> DateTime<Utc> { text.parse().unwrap() };
    store.add(job(1, at("9999-12-31T23:59:59.999Z"))).await;
    store.add(job(2, at("1969-12-31T23:59:59.999Z"))).await;
    store.add(job(3, at("0001-01-01T00:00:00Z"))).await;
    store.add(job(4, at("1970-01-01T00:00:00Z"))).await;
    let node = Node::join(&other, 1).await;
    assert_eq!(ids(&node.claim(node.request(now)).await), ["job-0003", "job-0002", "job-0004"]);
    let row = node.claim_one(at("9999-12-31T23:59:59.999Z")).await;
    assert_eq!(row.key.number, 253_402_300_799_999);
}
