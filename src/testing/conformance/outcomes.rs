//! Cases of [`Store::release`] and [`Store::finish`].

use chrono::TimeDelta;

use super::stage::*;
use crate::{job::SkipReason, store::*};

/// A released row waits for any node, and is claimed under another fence.
pub(super) async fn a_released_row_waits<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    store.add(job(1, now)).await;
    let row = node.claim_one(now).await;
    node.release(&[row.claim()]).await;
    let released = Row { state: RowState::Waiting, ..row.clone() };
    assert_eq!(other.row(row.key).await, released);
    assert_eq!(node.claimed_keys().await, []);
    let again = rival.claim_one(now).await;
    assert!(again.fence > row.fence);
    let fence = again.fence;
    let (state, node) = (RowState::Claimed(rival.id), Some(rival.id));
    assert_eq!(again, Row { state, node, fence, ..released });
}

/// Rows of another node, under another fence, closed or unknown are unchanged by a release of them
/// and others.
pub(super) async fn only_own_claims_are_released<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    let mut rows = Vec::new();
    for number in 1..=4 {
        store.add(job(number, now)).await;
        rows.push(node.claim_one(now).await);
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

/// A retried release leaves rows alone that were claimed again since.
pub(super) async fn a_retried_release_leaves_new_claims_alone<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    store.add(job(1, now)).await;
    let row = node.claim_one(now).await;
    let release = [row.claim()];
    node.release(&release).await;
    node.release(&release).await;
    assert_eq!(other.row(row.key).await.state, RowState::Waiting);
    // Even by the same node, which is then about to run it.
    let again = node.claim_one(now).await;
    node.release(&release).await;
    assert_eq!(other.row(row.key).await, again);
}

/// A released row has the next attempt, and never an earlier one.
pub(super) async fn a_release_sets_the_attempt<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    store.add(Record { recover: true, ..job(1, now) }).await;
    let row = node.claim_one(now).await;
    node.release_rows(vec![Release::new(row.key, row.fence, 4)]).await;
    let released = Row { state: RowState::Waiting, attempt: 4, ..row };
    assert_eq!(other.row(row.key).await, released);
    let again = rival.claim_one(now).await;
    assert_eq!((again.attempt, again.recoveries), (4, released.recoveries));
    rival.release_rows(vec![Release::new(again.key, again.fence, 1)]).await;
    assert_eq!(other.row(row.key).await.attempt, 4);
    node.claim_one(now).await;
    other.expire(&node).await;
    assert_eq!(store.row(row.key).await.attempt, 5);
}

/// A released row of a removed job cannot be claimed any more: it is closed as skipped.
pub(super) async fn a_released_row_of_a_removed_job_is_skipped<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let id = store.add(job(1, now)).await.id;
    let row = node.claim_one(now).await;
    other.done(vec![remove(&other.record(&id).await, Fate::Removed)]).await;
    node.release(&[row.claim()]).await;
    let row = other.row(row.key).await;
    assert_eq!(row.state, RowState::Closed(Fate::Skipped(SkipReason::Removed)));
    assert!(row.ended_at.is_some_and(|at| at >= now));
}

/// A released row of a removed job whose work was called is closed as abandoned, and a later
/// outcome of its node counts.
pub(super) async fn a_released_row_of_a_removed_job_whose_work_was_called_is_abandoned<S: Store>(
    stage: Stage<S>,
) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let id = store.add(Record { recover: true, ..job(1, now) }).await.id;
    let row = node.claim_one(now).await;
    other.done(vec![remove(&other.record(&id).await, Fate::Removed)]).await;
    node.release_rows(vec![Release::new(row.key, row.fence, 2)]).await;
    let closed = other.row(row.key).await;
    assert_eq!((closed.state, closed.attempt), (RowState::Closed(Fate::Abandoned), 2));
    assert!(closed.ended_at.is_some_and(|at| at >= now));
    assert_eq!(store.finish_one(&row, succeeded()).await.refused, []);
    assert_eq!(other.row(row.key).await.state, RowState::Closed(succeeded()));
}

/// An outcome closes its row with all its fields.
pub(super) async fn an_outcome_is_stored<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    store.add(Record { recover: true, ..job(1, now) }).await;
    let row = node.claim_one(now).await;
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
    assert_eq!(expected.node, Some(node.id), "the row keeps its node");
}

/// Every fate is stored, including those of later versions.
pub(super) async fn every_fate_is_stored<S: Store>(stage: Stage<S>) {
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
    let claimed =
        node.claim(ClaimRequest { decide: always(rows, None), ..node.request(now) }).await;
    let outcomes = claimed[0].rows.iter().zip(&fates);
    let outcomes = outcomes.map(|(row, fate)| finished(row, fate.clone(), now)).collect();
    assert_eq!(other.finish(outcomes).await.unwrap().refused, []);
    for (row, fate) in claimed[0].rows.iter().zip(fates) {
        assert_eq!(store.row(row.key).await.state, RowState::Closed(fate));
    }
}

/// The outcome of a row that was claimed again is refused, and the others of the call are not.
pub(super) async fn an_outcome_is_refused_after_another_claim<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    store.add(job(1, now)).await;
    let stale = node.claim_one(now).await;
    node.release(&[stale.claim()]).await;
    let current = rival.claim_one(now).await;
    store.add(job(2, now)).await;
    let own = node.claim_one(now).await;

    let outcomes = vec![finished(&stale, succeeded(), now), finished(&own, succeeded(), now)];
    let report = store.finish(outcomes).await.unwrap();
    assert_eq!(report.refused, [stale.key]);
    assert_eq!(report.over, [own.key.incarnation]);
    assert_eq!(store.row(current.key).await, current);
    assert_eq!(store.row(own.key).await.state, RowState::Closed(succeeded()));
}

/// Fences of different rows are not compared: a later claim of the job refuses no earlier row.
pub(super) async fn a_later_claim_refuses_no_other_row<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    store.add(job(1, now - secs(1))).await;
    let decide = fire(now, |at| Some(at + secs(1)));
    let (_, first) = node.claim_one_of(ClaimRequest { decide, ..node.request(now) }).await;
    let second = node.claim_one(now).await;
    assert!(second.fence > first.fence);
    for row in [second, first] {
        assert_eq!(other.finish_one(&row, succeeded()).await.refused, []);
        assert_eq!(store.row(row.key).await.state, RowState::Closed(succeeded()));
    }
}

/// The outcome of a row that was closed as abandoned replaces that fate.
pub(super) async fn a_late_outcome_replaces_abandoned<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let record = store.add(job(1, now)).await;
    let row = node.claim_one(now).await;
    other.expire(&node).await;
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

/// A job that ends with an outcome has the fate that the outcome names.
pub(super) async fn an_outcome_has_the_fate_of_its_job<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let record = store.add(Record { remember: true, ..job(1, now) }).await;
    let row = node.claim_one(now).await;
    let outcome = RowOutcome { job_end: Fate::Cancelled, ..finished(&row, succeeded(), now) };
    assert_eq!(other.finish(vec![outcome]).await.unwrap().over, [record.incarnation]);
    assert_eq!(store.end(&record).await, Some(Fate::Cancelled));
    assert_eq!(store.row(row.key).await.state, RowState::Closed(succeeded()));
}

/// The outcome of a row that waits for a recovery is accepted.
pub(super) async fn a_late_outcome_closes_a_waiting_row<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let (node, rival) = (Node::join(&store, 1).await, Node::join(&other, 2).await);
    let record = store.add(Record { recover: true, ..job(1, now) }).await;
    let row = node.claim_one(now).await;
    other.expire(&node).await;
    assert_eq!(store.row(row.key).await.state, RowState::Waiting);
    let report = store.finish_one(&row, succeeded()).await;
    assert_eq!((report.refused, report.over), (vec![], vec![record.incarnation]));
    assert_eq!(store.row(row.key).await.state, RowState::Closed(succeeded()));
    assert_eq!(ids(&rival.claim(rival.request(now)).await), [""; 0]);
}

/// An outcome is accepted after the node's lease has ended, or the node has deregistered.
pub(super) async fn an_outcome_needs_no_lease<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    store.add(job(1, now)).await;
    let row = node.claim_one(now).await;
    node.lapse().await;
    assert_eq!(other.finish_one(&row, succeeded()).await.refused, []);
    assert_eq!(other.row(row.key).await.state, RowState::Closed(succeeded()));
    assert_eq!(other.expire(&node).await.abandoned, []);
    assert_eq!(other.row(row.key).await.state, RowState::Closed(succeeded()));
}

/// A message is no reason to refuse an outcome, whatever characters it has; a store that can't keep
/// one of them may replace it.
pub(super) async fn a_message_may_have_any_characters<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for (number, message) in (1..).zip(["nul: \0!", "\u{1}\u{7f}\u{85}\u{2028}\u{202e}", "\r\n"]) {
        store.add(job(number, now)).await;
        let row = node.claim_one(now).await;
        let failed = finished(&row, Fate::Ran(RunEnd::Failed), now);
        let outcome = RowOutcome { message: Some(message.to_owned()), ..failed };
        assert_eq!(store.finish(vec![outcome.clone()]).await.unwrap().refused, []);
        let kept = other.row(row.key).await;
        assert_eq!(kept.state, RowState::Closed(outcome.fate));
        let kept = kept.message.unwrap();
        assert!(kept == message || kept == message.replace('\0', "\u{fffd}"), "{kept:?}");
    }
}

/// A closed row is unchanged by another outcome, which counts as accepted.
pub(super) async fn the_first_outcome_stays<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    store.add(job(1, now)).await;
    let row = node.claim_one(now).await;
    store.finish_one(&row, succeeded()).await;
    let first = store.row(row.key).await;
    for fate in [succeeded(), Fate::Ran(RunEnd::Failed), Fate::Abandoned] {
        let outcome = finished(&row, fate, now + secs(60));
        assert_eq!(other.finish(vec![outcome]).await.unwrap().refused, []);
        assert_eq!(other.row(row.key).await, first);
    }
}

/// A retried call stores the outcomes that the first one did not.
pub(super) async fn a_retried_finish_does_the_rest<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    for number in 1..=3 {
        store.add(job(number, now)).await;
    }
    let claimed = node.claim(node.request(now)).await;
    let rows = claimed.iter().flat_map(|claimed| &claimed.rows);
    let outcomes: Vec<_> = rows.map(|row| finished(row, succeeded(), now)).collect();
    store.finish(outcomes[..1].to_vec()).await.unwrap();
    let report = other.finish(outcomes.clone()).await.unwrap();
    assert_eq!(report.refused, []);
    assert_eq!(other.finish(outcomes).await.unwrap().refused, []);
    for key in keys(&claimed) {
        assert_eq!(store.row(key).await.state, RowState::Closed(succeeded()));
    }
    assert_eq!(store.all_rows().await.len(), 6, "three runs and three ends of jobs");
}

/// The outcome of a missing row is refused.
pub(super) async fn the_outcome_of_a_missing_row_is_refused<S: Store>(stage: Stage<S>) {
    let Stage { store, now, .. } = stage;
    let record = store.add(job(1, now)).await;
    let row = Row { fence: 1, ..scheduled(&record, now) };
    let report = store.finish_one(&row, succeeded()).await;
    assert_eq!((report.refused, report.over), (vec![row.key], vec![]));
    assert_eq!(store.all_rows().await, []);
}

/// A job without a fire time left ends with the last of its rows.
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
    let claimed = node.claim(ClaimRequest { decide, ..node.request(now) }).await;
    let of = |place: usize| {
        let rows = claimed.iter().flat_map(|claimed| claimed.rows.get(place));
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

/// The outcome of a run whose job was removed since is stored, and ends nothing.
pub(super) async fn the_outcome_of_a_removed_job_is_stored<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let id = store.add(job(1, now)).await.id;
    let row = node.claim_one(now).await;
    let current = other.record(&id).await;
    other.done(vec![replace(&current, next_incarnation(&job(1, None)))]).await;
    let report = store.finish_one(&row, succeeded()).await;
    assert_eq!((report.refused, report.over), (vec![], vec![]));
    assert_eq!(other.row(row.key).await.state, RowState::Closed(succeeded()));
    assert_eq!(other.end(&current).await, Some(Fate::Replaced));
    assert!(other.get(id).await.unwrap().is_some());
}
