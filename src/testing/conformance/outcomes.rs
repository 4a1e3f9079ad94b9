//! Cases of [`Store::release`] and [`Store::finish`]: what becomes of what was taken.

use chrono::TimeDelta;

use super::stage::*;
use crate::{job::SkipReason, store::*};

/// What is released waits for any node, and is taken under another fence.
pub(super) async fn what_is_released_waits<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    store.add(job(1, now)).await;
    let row = node.take_one(now).await;
    node.release(&[row.claim()]).await;
    let released = Row { state: RowState::Waiting, ..row.clone() };
    assert_eq!(other.row(row.key).await, released);
    assert_eq!(node.holds().await, []);
    let again = rival.take_one(now).await;
    assert!(again.fence > row.fence);
    let fence = again.fence;
    let (state, node) = (RowState::Claimed(rival.id), Some(rival.id));
    assert_eq!(again, Row { state, node, fence, ..released });
}

/// Rows of another node, under another fence, closed or unknown are left alone; the others are not.
pub(super) async fn only_what_is_ones_own_is_released<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    let mut rows = Vec::new();
    for number in 1..=4 {
        store.add(job(number, now)).await;
        rows.push(node.take_one(now).await);
    }
    let [foreign, stale, finished, own] = &rows[..] else { unreachable!() };
    store.finish_one(finished, succeeded()).await;
    rival.release(&[foreign.claim()]).await;
    let unknown = RowKey { number: 7, ..own.key };
    node.release(&[
        Claim { fence: stale.fence + 1, ..stale.claim() },
        Claim { fence: stale.fence - 1, ..stale.claim() },
        finished.claim(),
        Claim { key: unknown, fence: 1 },
        own.claim(),
    ])
    .await;
    assert_eq!(store.row(foreign.key).await, *foreign);
    assert_eq!(store.row(stale.key).await, *stale);
    assert_eq!(store.row(finished.key).await.state, RowState::Closed(succeeded()));
    assert_eq!(store.row(own.key).await.state, RowState::Waiting);
}

/// A release that is asked for again leaves alone what has been taken again since.
pub(super) async fn a_release_asked_again_leaves_alone<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    store.add(job(1, now)).await;
    let row = node.take_one(now).await;
    let release = [row.claim()];
    node.release(&release).await;
    node.release(&release).await;
    assert_eq!(other.row(row.key).await.state, RowState::Waiting);
    // By the same node even, which is then about to run it.
    let again = node.take_one(now).await;
    node.release(&release).await;
    assert_eq!(other.row(row.key).await, again);
}

/// A row that is released says which attempt comes next, and never an earlier one.
pub(super) async fn what_is_released_counts_its_attempts<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    store.add(Record { recover: true, ..job(1, now) }).await;
    let row = node.take_one(now).await;
    node.give_back(vec![Release::new(row.key, row.fence, 4)]).await;
    let released = Row { state: RowState::Waiting, attempt: 4, ..row };
    assert_eq!(other.row(row.key).await, released);
    let again = rival.take_one(now).await;
    assert_eq!((again.attempt, again.recoveries), (4, released.recoveries));
    rival.give_back(vec![Release::new(again.key, again.fence, 1)]).await;
    assert_eq!(other.row(row.key).await.attempt, 4);
    node.take_one(now).await;
    other.bury(&node).await;
    assert_eq!(store.row(row.key).await.attempt, 5);
}

/// What is released when its job is gone can't be taken any more: it is skipped.
pub(super) async fn what_is_released_of_a_gone_job_is_skipped<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let id = store.add(job(1, now)).await.id;
    let row = node.take_one(now).await;
    other.done(vec![remove(&other.record(&id).await, Fate::Removed)]).await;
    node.release(&[row.claim()]).await;
    let row = other.row(row.key).await;
    assert_eq!(row.state, RowState::Closed(Fate::Skipped(SkipReason::Removed)));
    assert!(row.ended_at.is_some_and(|at| at >= now));
}

/// The same of which the work was called: nobody knows how far it came, and what its node says of it
/// later counts.
pub(super) async fn what_is_released_of_a_gone_job_and_was_called_is_abandoned<S: Store>(
    stage: Stage<S>,
) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let id = store.add(Record { recover: true, ..job(1, now) }).await.id;
    let row = node.take_one(now).await;
    other.done(vec![remove(&other.record(&id).await, Fate::Removed)]).await;
    node.give_back(vec![Release::new(row.key, row.fence, 2)]).await;
    let closed = other.row(row.key).await;
    assert_eq!((closed.state, closed.attempt), (RowState::Closed(Fate::Abandoned), 2));
    assert!(closed.ended_at.is_some_and(|at| at >= now));
    assert_eq!(store.finish_one(&row, succeeded()).await.refused, []);
    assert_eq!(other.row(row.key).await.state, RowState::Closed(succeeded()));
}

/// An outcome closes its row with all that it says.
pub(super) async fn an_outcome_is_kept<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    store.add(Record { recover: true, ..job(1, now) }).await;
    let row = node.take_one(now).await;
    let outcome = RowOutcome {
        attempt: 3,
        started_at: Some(now + TimeDelta::milliseconds(5)),
        ended_at: now + TimeDelta::milliseconds(7),
        message: Some("no “route” to host: O'Hare\n🦀".into()),
        ..finished(&row, Fate::Ran(RunEnd::Failed), now)
    };
    let report = other.finish(vec![outcome.clone()]).await.unwrap();
    assert_eq!(report.refused, []);
    let expected = Row {
        state: RowState::Closed(outcome.fate),
        attempt: 3,
        started_at: outcome.started_at,
        ended_at: Some(outcome.ended_at),
        message: outcome.message,
        ..row
    };
    assert_eq!(store.row(expected.key).await, expected);
    assert_eq!(expected.node, Some(node.id), "who ran it is known");
}

/// Every fate can be kept, those that a later version knows included.
pub(super) async fn every_fate_is_kept<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let ends =
        [RunEnd::Succeeded, RunEnd::Failed, RunEnd::Panicked, RunEnd::TimedOut, RunEnd::Cancelled];
    let reasons = [
        SkipReason::MaxInstances,
        SkipReason::QueueFull,
        SkipReason::Superseded,
        SkipReason::Condition,
        SkipReason::Paused,
        SkipReason::Removed,
        SkipReason::Replaced,
        SkipReason::Shutdown,
    ];
    let mut fates = vec![
        Fate::Missed,
        Fate::Coalesced(now + secs(3)),
        Fate::Abandoned,
        Fate::Unknown("postponed: rain, \"🦀\"".into()),
    ];
    fates.extend(ends.map(Fate::Ran));
    fates.extend(reasons.map(Fate::Skipped));
    let record = store.add(job(1, now)).await;
    let times = fates.len() as i64;
    let rows = (0..times).map(|number| scheduled(&record, now + secs(number))).collect();
    let taken = node.claim(ClaimRequest { decide: always(rows, None), ..node.ask(now) }).await;
    let outcomes = taken[0].rows.iter().zip(&fates);
    let outcomes = outcomes.map(|(row, fate)| finished(row, fate.clone(), now)).collect();
    assert_eq!(other.finish(outcomes).await.unwrap().refused, []);
    for (row, fate) in taken[0].rows.iter().zip(fates) {
        assert_eq!(store.row(row.key).await.state, RowState::Closed(fate));
    }
}

/// The outcome of a row that has been taken again since is refused, and those beside it are not.
pub(super) async fn an_outcome_is_refused_once_taken_again<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    store.add(job(1, now)).await;
    let stale = node.take_one(now).await;
    node.release(&[stale.claim()]).await;
    let current = rival.take_one(now).await;
    store.add(job(2, now)).await;
    let own = node.take_one(now).await;

    let outcomes = vec![finished(&stale, succeeded(), now), finished(&own, succeeded(), now)];
    let report = store.finish(outcomes).await.unwrap();
    assert_eq!(report.refused, [stale.key]);
    assert_eq!(report.over, [own.key.incarnation]);
    assert_eq!(store.row(current.key).await, current);
    assert_eq!(store.row(own.key).await.state, RowState::Closed(succeeded()));
}

/// Fences of different rows are not compared: a later take of the job refuses no earlier row.
pub(super) async fn a_later_take_refuses_no_other_row<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    store.add(job(1, now - secs(1))).await;
    let decide = fire(now, |at| Some(at + secs(1)));
    let (_, first) = node.claim_one_of(ClaimRequest { decide, ..node.ask(now) }).await;
    let second = node.take_one(now).await;
    assert!(second.fence > first.fence);
    for row in [second, first] {
        assert_eq!(other.finish_one(&row, succeeded()).await.refused, []);
        assert_eq!(store.row(row.key).await.state, RowState::Closed(succeeded()));
    }
}

/// The outcome of a row that was closed as abandoned meanwhile takes the place of that.
pub(super) async fn a_late_outcome_replaces_abandoned<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let record = store.add(job(1, now)).await;
    let row = node.take_one(now).await;
    other.bury(&node).await;
    assert_eq!(store.row(row.key).await.state, RowState::Closed(Fate::Abandoned));
    let outcome = RowOutcome {
        message: Some("late".into()),
        ..finished(&row, Fate::Ran(RunEnd::Failed), now + secs(1))
    };
    let report = store.finish(vec![outcome.clone()]).await.unwrap();
    assert_eq!(report.refused, []);
    let closed = other.row(row.key).await;
    assert_eq!(closed.state, RowState::Closed(outcome.fate));
    assert_eq!(closed.started_at, outcome.started_at);
    assert_eq!(closed.ended_at, Some(outcome.ended_at));
    assert_eq!(closed.message, outcome.message);
    assert_eq!(other.end(&record).await, Some(Fate::Completed));
}

/// A job that is over with an outcome ends as the outcome says.
pub(super) async fn an_outcome_says_how_its_job_ends<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let record = store.add(Record { remember: true, ..job(1, now) }).await;
    let row = node.take_one(now).await;
    let outcome = RowOutcome { job_end: Fate::Cancelled, ..finished(&row, succeeded(), now) };
    assert_eq!(other.finish(vec![outcome]).await.unwrap().over, [record.incarnation]);
    assert_eq!(store.end(&record).await, Some(Fate::Cancelled));
    assert_eq!(store.row(row.key).await.state, RowState::Closed(succeeded()));
}

/// The outcome of a row that was handed out again and that nobody has taken since is accepted.
pub(super) async fn a_late_outcome_closes_what_waits_again<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    let record = store.add(Record { recover: true, ..job(1, now) }).await;
    let row = node.take_one(now).await;
    other.bury(&node).await;
    assert_eq!(store.row(row.key).await.state, RowState::Waiting);
    let report = store.finish_one(&row, succeeded()).await;
    assert_eq!((report.refused, report.over), (vec![], vec![record.incarnation]));
    assert_eq!(store.row(row.key).await.state, RowState::Closed(succeeded()));
    assert_eq!(ids(&rival.claim(rival.ask(now)).await), [""; 0]);
}

/// It does not matter whether the node's lease has run out, or whether it has left.
pub(super) async fn an_outcome_needs_no_lease<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    store.add(job(1, now)).await;
    let row = node.take_one(now).await;
    node.lapse().await;
    assert_eq!(other.finish_one(&row, succeeded()).await.refused, []);
    assert_eq!(other.row(row.key).await.state, RowState::Closed(succeeded()));
    assert_eq!(other.bury(&node).await.abandoned, []);
    assert_eq!(other.row(row.key).await.state, RowState::Closed(succeeded()));
}

/// A row that is closed stays as it is, and another outcome of it counts as accepted.
pub(super) async fn the_first_outcome_stays<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    store.add(job(1, now)).await;
    let row = node.take_one(now).await;
    store.finish_one(&row, succeeded()).await;
    let first = store.row(row.key).await;
    for fate in [succeeded(), Fate::Ran(RunEnd::Failed), Fate::Abandoned] {
        let outcome = finished(&row, fate, now + secs(60));
        assert_eq!(other.finish(vec![outcome]).await.unwrap().refused, []);
        assert_eq!(other.row(row.key).await, first);
    }
}

/// Outcomes are asked for again, some of which were kept the first time.
pub(super) async fn a_finish_asked_again_does_the_rest<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for number in 1..=3 {
        store.add(job(number, now)).await;
    }
    let taken = node.claim(node.ask(now)).await;
    let rows = taken.iter().flat_map(|taken| &taken.rows);
    let outcomes: Vec<_> = rows.map(|row| finished(row, succeeded(), now)).collect();
    store.finish(outcomes[..1].to_vec()).await.unwrap();
    let report = other.finish(outcomes.clone()).await.unwrap();
    assert_eq!(report.refused, []);
    assert_eq!(other.finish(outcomes).await.unwrap().refused, []);
    for key in keys(&taken) {
        assert_eq!(store.row(key).await.state, RowState::Closed(succeeded()));
    }
    assert_eq!(store.all_rows().await.len(), 6, "three ran, three jobs are over");
}

/// The outcome of a row that is not there is refused.
pub(super) async fn the_outcome_of_no_row_is_refused<S: Store>(stage: Stage<S>) {
    let Stage { store, now, .. } = stage;
    let record = store.add(job(1, now)).await;
    let row = Row { fence: 1, ..scheduled(&record, now) };
    let report = store.finish_one(&row, succeeded()).await;
    assert_eq!((report.refused, report.over), (vec![row.key], vec![]));
    assert_eq!(store.all_rows().await, []);
}

/// A job is over with the last of its rows, if it has no fire time left.
pub(super) async fn a_finish_ends_a_job<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let last = store.add(job(1, now)).await;
    let recurring = store.add(job(2, now)).await;
    let paused = store.add(job(3, now)).await;
    let decide: Decide = std::sync::Arc::new(move |record, _| {
        let rows = vec![scheduled(record, now), requested(record, 1, now)];
        let next_fire = (record.id == "job-0002").then(|| now + secs(60));
        Decision::Claim { rows, next_fire }
    });
    let taken = node.claim(ClaimRequest { decide, ..node.ask(now) }).await;
    let of = |place: usize| {
        let rows = taken.iter().flat_map(|taken| taken.rows.get(place));
        rows.map(|row| finished(row, succeeded(), now)).collect::<Vec<_>>()
    };
    let waits = Row { state: RowState::Waiting, ..requested(&paused, 2, now) };
    let current = store.record(&paused.id).await;
    let write = Write { rows: vec![waits], ..update(&current, current.clone()) };
    store.done(vec![write]).await;

    assert_eq!(other.finish(of(0)).await.unwrap().over, []);
    assert!(store.is_there(&last).await);
    assert_eq!(other.finish(of(1)).await.unwrap().over, [last.incarnation]);
    assert!(!store.is_there(&last).await);
    assert_eq!(store.end(&last).await, Some(Fate::Completed));
    for record in [&recurring, &paused] {
        assert!(store.is_there(record).await, "{}", record.id);
        assert_eq!(store.end(record).await, None);
    }
}

/// The outcome of a run whose job was removed meanwhile is kept, and ends nothing.
pub(super) async fn the_outcome_of_a_gone_job_is_kept<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let id = store.add(job(1, now)).await.id;
    let row = node.take_one(now).await;
    let current = other.record(&id).await;
    other.done(vec![replace(&current, reborn(&job(1, None)))]).await;
    let report = store.finish_one(&row, succeeded()).await;
    assert_eq!((report.refused, report.over), (vec![], vec![]));
    assert_eq!(other.row(row.key).await.state, RowState::Closed(succeeded()));
    assert_eq!(other.end(&current).await, Some(Fate::Replaced));
    assert!(other.get(id).await.unwrap().is_some());
}
