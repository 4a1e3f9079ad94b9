//! Cases of [`Store::history`], [`Store::rows`], [`Store::waiting`] and [`Store::prune`].

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::stage::*;
use crate::store::*;

/// Keeps all rows.
const ALL: Keep = Keep { rows: u32::MAX, age: CENTURY, ended: CENTURY, total: u64::MAX };

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The history of one incarnation starts with the latest fire times, and ends at the limit.
pub(super) async fn history_begins_with_the_latest<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = job(1, now);
    let row_of =
        |record: &Record, seconds| closed(scheduled(record, now + secs(seconds)), succeeded(), now);
    let asked = closed(requested(&record, 1, now + secs(25)), Fate::Missed, now);
    let ancient = closed(scheduled(&record, DateTime::UNIX_EPOCH - secs(1)), Fate::Missed, now);
    let mut rows: Vec<_> = [20, 10, 30].map(|seconds| row_of(&record, seconds)).into();
    rows.extend([asked.clone(), ancient.clone()]);
    store.done(vec![Write { rows, ..insert(&record) }]).await;
    // Neighbours in the order of keys.
    for number in [0, 2] {
        let neighbour = job(number, now);
        let rows = vec![row_of(&neighbour, 15)];
        store.done(vec![Write { rows, ..insert(&neighbour) }]).await;
    }
    let expected = [row_of(&record, 30), asked, row_of(&record, 20), row_of(&record, 10), ancient];
    let history = other.history(record.incarnation, 100).await.unwrap();
    assert_eq!(history, expected);
    assert_eq!(other.history(record.incarnation, 2).await.unwrap(), expected[..2]);
    assert_eq!(other.history(Incarnation(1), 100).await.unwrap(), []);
}

/// Closed rows of several jobs and kinds, two of each at each of several instants.
async fn ended<S: Store>(store: &Client<S>, now: DateTime<Utc>) -> Vec<Row> {
    let mut all = Vec::new();
    for number in 1..=3 {
        let record = job(number, None);
        let mut rows = Vec::new();
        for seconds in 0..4 {
            let at = now - secs(100 + seconds);
            let node = Some(NodeId(number));
            rows.push(Row { node, ..closed(scheduled(&record, at), succeeded(), at) });
            rows.push(closed(requested(&record, 1 + seconds, at), Fate::Missed, at));
        }
        all.extend(rows.clone());
        rows.push(Row { state: RowState::Waiting, ..requested(&record, 9, now) });
        store.done(vec![Write { rows, ..insert(&record) }]).await;
    }
    all
}

async fn all_fates<S: Store>(store: &Client<S>, filter: &FateFilter, limit: usize) -> Vec<Row> {
    let (mut rows, mut after) = (Vec::new(), None);
    for _ in 0..1000 {
        let page = store.fates(filter.clone(), after, limit).await.unwrap();
        assert!(page.rows.len() <= limit);
        rows.extend(page.rows);
        match page.next {
            Some(next) => after = Some(next),
            None => return rows,
        }
    }
    panic!("the pages do not end");
}

/// Pages list the fates of all jobs once, the latest end first, and later ends do not move them.
pub(super) async fn fates_are_listed_latest_first<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let filter = FateFilter::default();
    assert_eq!(all_fates(&other, &filter, 10).await, []);
    let mut expected = ended(&store, now).await;
    let all = all_fates(&other, &filter, 100).await;
    assert!(all.is_sorted_by(|a, b| a.ended_at >= b.ended_at), "{all:#?}");
    for limit in [1, 2, 3, 7] {
        assert_eq!(all_fates(&other, &filter, limit).await, all);
    }
    let mut sorted = all.clone();
    sorted.sort_by_key(|row| row.key);
    expected.sort_by_key(|row| row.key);
    assert_eq!(sorted, expected);

    let page = other.fates(filter.clone(), None, 5).await.unwrap();
    let record = job(4, None);
    let late = closed(scheduled(&record, now), succeeded(), now);
    store.done(vec![Write { rows: vec![late.clone()], ..insert(&record) }]).await;
    let rest = other.fates(filter.clone(), page.next, 100).await.unwrap();
    assert_eq!([page.rows, rest.rows].concat(), all);
    assert_eq!(other.fates(filter, None, 1).await.unwrap().rows, [late]);
}

/// Fates are filtered by their end, job, fate and node.
pub(super) async fn fates_are_filtered<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let all = ended(&store, now).await;
    let at = |seconds| Some(now - secs(seconds));
    let filters = [
        FateFilter { from: at(102), ..FateFilter::default() },
        FateFilter { until: at(102), ..FateFilter::default() },
        FateFilter { from: at(102), until: at(101), ..FateFilter::default() },
        FateFilter { job: Some("job-0002".into()), ..FateFilter::default() },
        FateFilter { fate: Some("ran".into()), ..FateFilter::default() },
        FateFilter { fate: Some("ran: succeeded".into()), ..FateFilter::default() },
        FateFilter { fate: Some("missed".into()), until: at(100), ..FateFilter::default() },
        FateFilter { node: Some(NodeId(3)), ..FateFilter::default() },
    ];
    for (filter, count) in filters.into_iter().zip([18, 6, 6, 8, 12, 12, 9, 4]) {
        for limit in [1, 4, 100] {
            let mut found = all_fates(&other, &filter, limit).await;
            found.sort_by_key(|row| row.key);
            let mut expected: Vec<_> =
                all.iter().filter(|row| filter.passes(row)).cloned().collect();
            expected.sort_by_key(|row| row.key);
            assert_eq!(found, expected, "{filter:?}");
            assert_eq!(found.len(), count, "{filter:?}");
        }
    }
    for fate in ["failed", "ran: failed", "skipped"] {
        let filter = FateFilter { fate: Some(fate.into()), ..FateFilter::default() };
        assert_eq!(all_fates(&other, &filter, 10).await, []);
    }
}

/// The bounds of a filter are instants of any precision, and rows end at whole milliseconds.
pub(super) async fn fates_are_filtered_between_milliseconds<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = job(1, None);
    let at = |millis| now - secs(100) + TimeDelta::milliseconds(millis);
    let row = |millis| closed(requested(&record, millis, now), succeeded(), at(millis));
    let rows: Vec<_> = (1..=3).map(row).collect();
    store.done(vec![Write { rows: rows.clone(), ..insert(&record) }]).await;
    let half = TimeDelta::microseconds(500);
    let bounds = [
        (None, Some(at(2)), vec![1]),
        (None, Some(at(2) + half), vec![1, 2]),
        (None, Some(at(2) - half), vec![1]),
        (Some(at(2)), None, vec![2, 3]),
        (Some(at(2) + half), None, vec![3]),
        (Some(at(2) - half), Some(at(2) + half), vec![2]),
        (Some(at(2) + half), Some(at(2) + half), vec![]),
    ];
    for (from, until, expected) in bounds {
        let filter = FateFilter { from, until, ..FateFilter::default() };
        for limit in [1, 100] {
            let mut found: Vec<_> =
                all_fates(&other, &filter, limit).await.iter().map(|row| row.key.number).collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{filter:?}");
        }
    }
}

/// Pages list all rows of the ledger once, in order of their keys.
pub(super) async fn pages_cover_the_ledger<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let mut expected = Vec::new();
    for number in [3, 1, 2] {
        let record = job(number, now);
        let mut rows = vec![
            closed(requested(&record, 2, now), Fate::Missed, now),
            closed(requested(&record, 10, now), Fate::Missed, now),
            Row { state: RowState::Waiting, ..requested(&record, 1, now) },
        ];
        for seconds in [-1_000_000, -7, 0, 5, 3] {
            let at = DateTime::UNIX_EPOCH + secs(seconds);
            rows.push(closed(scheduled(&record, at), succeeded(), now));
        }
        expected.extend(rows.clone());
        store.done(vec![Write { rows, ..insert(&record) }]).await;
    }
    let gone = job(4, now);
    store.add(gone.clone()).await;
    let current = store.record(&gone.id).await;
    let write = remove(&current, Fate::Removed);
    expected.extend(write.rows.clone());
    store.done(vec![write]).await;

    expected.sort_by_key(|row| row.key);
    for limit in [1, 5, expected.len(), expected.len() + 1] {
        let mut rows: Vec<Row> = Vec::new();
        loop {
            let page = other.rows(rows.last().map(|row| row.key), limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            rows.extend(page);
            assert!(rows.len() <= expected.len(), "pages of {limit} do not end");
        }
        assert_eq!(rows, expected, "in pages of {limit}");
    }
    // After a missing row.
    let after = RowKey { number: expected[3].key.number - 1, ..expected[3].key };
    assert_eq!(other.rows(Some(after), 2).await.unwrap(), expected[3..5]);
}

/// The newest rows of each incarnation and kind are kept, wherever a page begins.
pub(super) async fn the_newest_are_kept<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let long_ago = now - secs(3600);
    for limit in [1, 3, 1000] {
        let number = limit as u64;
        // Later than the rows pruned before.
        let long_ago = long_ago + secs(limit as i64);
        let mut kept = Vec::new();
        for record in [job(number, now), job(number + 5000, now)] {
            let mut rows = Vec::new();
            for seconds in [-2, -1, 0, 1, 2, 3] {
                let at = DateTime::UNIX_EPOCH + secs(seconds);
                rows.push(closed(scheduled(&record, at), succeeded(), long_ago));
                let number = seconds + 3;
                rows.push(closed(requested(&record, number, now), Fate::Missed, long_ago));
            }
            kept.extend(
                rows.iter()
                    .filter(|row| {
                        let number = row.key.number;
                        number >= 2000 || (row.key.kind == RowKind::Requested && number >= 5)
                    })
                    .cloned(),
            );
            store.done(vec![Write { rows, ..insert(&record) }]).await;
        }
        let deleted = other.prune_all(Keep { rows: 2, ..ALL }, limit).await;
        assert_eq!(deleted, 16, "in pages of {limit}");
        kept.sort_by_key(|row| row.key);
        let mut rows = store.all_rows().await;
        rows.retain(|row| kept.iter().any(|kept| kept.job == row.job));
        assert_eq!(rows, kept, "in pages of {limit}");
        assert_eq!(other.prune_all(Keep { rows: 2, ..ALL }, limit).await, 0);
    }
}

/// Rows beyond the age limit are deleted, even if they are among the newest.
pub(super) async fn the_old_are_deleted<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = job(1, now);
    let ended =
        |number, seconds| closed(requested(&record, number, now), succeeded(), now - secs(seconds));
    let rows = vec![ended(1, 500), ended(2, 5000), ended(3, 499), ended(4, 5001)];
    store.done(vec![Write { rows: rows.clone(), ..insert(&record) }]).await;
    let keep = Keep { age: Duration::from_secs(4000), ..ALL };
    assert_eq!(other.prune_all(keep, 100).await, 2);
    assert_eq!(store.all_rows().await, [rows[0].clone(), rows[2].clone()]);
}

/// Open rows are not deleted, and do not count towards the limits.
pub(super) async fn open_rows_are_kept<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let long_ago = now - secs(100_000);
    let record = job(1, long_ago);
    let old = |number| closed(requested(&record, number, long_ago), succeeded(), long_ago);
    let waiting = Row { state: RowState::Waiting, ..requested(&record, 3, long_ago) };
    let rows = vec![old(1), old(2), waiting.clone()];
    store.done(vec![Write { rows: rows.clone(), ..insert(&record) }]).await;
    let node = Node::join(&store, 1).await;
    // The waiting row is unchanged.
    let decide = always(vec![scheduled(&record, long_ago)], None);
    let (_, claimed) = node.claim_one_of(ClaimRequest { decide, ..node.request(now) }).await;
    assert_eq!(other.prune_all(Keep { rows: 1, ..ALL }, 100).await, 1);
    assert_eq!(store.all_rows().await, [claimed.clone(), old(2), waiting.clone()]);
    let none = Keep { rows: 0, age: Duration::ZERO, ..ALL };
    assert_eq!(other.prune_all(none, 100).await, 1);
    assert_eq!(store.all_rows().await, [claimed, waiting]);
}

/// Rows that were closed in the last minute, by the store's clock, are kept in any case.
pub(super) async fn the_last_minute_is_kept<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = job(1, now);
    let ended = |number, at: DateTime<Utc>| {
        closed(requested(&record, number, DateTime::UNIX_EPOCH), succeeded(), at)
    };
    // No machine is so slow that half a minute passes; a row may not end in the future.
    let rows = vec![
        ended(1, now - secs(61)),
        ended(2, now - secs(30)),
        ended(3, now),
        ended(4, now + secs(3600)),
    ];
    store.done(vec![Write { rows: rows.clone(), ..insert(&record) }]).await;
    let none = Keep { rows: 0, age: Duration::ZERO, ..ALL };
    assert_eq!(other.prune_all(none, 100).await, 1);
    assert_eq!(store.all_rows().await, rows[1..]);
}

/// The end of an incarnation is a closed row like others.
pub(super) async fn ends_are_deleted_too<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    // Its end has the instant at which it was added.
    let record = store.add(Record { added_at: now - secs(10_000), ..job(1, now) }).await;
    store.done(vec![remove(&record, Fate::Removed)]).await;
    // Nodes may not have read it yet.
    let late = store.add(Record { added_at: now - secs(5000), ..job(2, now) }).await;
    store.done(vec![remove(&late, Fate::Removed)]).await;
    assert_eq!(other.prune_all(Keep { rows: 1, ..ALL }, 100).await, 0);
    assert_eq!(store.end(&record).await, Some(Fate::Removed));
    let keep = Keep { age: Duration::from_secs(4000), ..ALL };
    assert_eq!(other.prune_all(keep, 100).await, 1);
    assert_eq!(store.end(&record).await, None);
    assert_eq!(store.end(&late).await, Some(Fate::Removed));
}

/// The outcome of a pruned row is refused.
pub(super) async fn a_pruned_row_has_no_outcome<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    store.add(job(1, now)).await;
    let row = node.claim_one(now).await;
    let outcome = finished(&row, succeeded(), now - secs(5000));
    store.finish(vec![outcome.clone()]).await.unwrap();
    other.prune_all(Keep { rows: 0, ..ALL }, 100).await;
    assert_eq!(store.finish(vec![outcome]).await.unwrap().refused, [row.key]);
}

/// A call deletes no more rows than its limit.
pub(super) async fn pruning_keeps_to_its_limit<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = job(1, now);
    let row = |number| closed(requested(&record, number, now), succeeded(), now - secs(5000));
    let rows: Vec<_> = (1..=5).map(row).collect();
    store.done(vec![Write { rows: rows.clone(), ..insert(&record) }]).await;
    let none = Keep { rows: 0, age: Duration::ZERO, ..ALL };
    for left in [3, 1] {
        let pruned = other.prune(none, 2).await.unwrap();
        assert_eq!((pruned.deleted, pruned.more), (2, true));
        assert_eq!(store.all_rows().await.len(), left);
    }
    let last = other.prune(none, 2).await.unwrap();
    assert_eq!((last.deleted, last.more), (1, false));
    assert_eq!(other.prune(none, 2).await.unwrap(), PruneReport::default());
}

/// The rows of a job are deleted some time after its end.
pub(super) async fn rows_of_ended_jobs_are_deleted<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let mut kept = Vec::new();
    for (number, ended_for) in [(1, 90_000), (2, 80_000), (3, 100_000)] {
        let record = job(number, now);
        let ran = |kind: Row| closed(kind, succeeded(), now - secs(ended_for + 10));
        let rows = vec![
            ran(scheduled(&record, now)),
            ran(scheduled(&record, now + secs(1))),
            ran(requested(&record, 1, now)),
            closed(scheduled(&record, now + secs(2)), succeeded(), now),
            Row::ended(&record, Fate::Completed, now - secs(ended_for)),
        ];
        kept.extend(match number {
            2 => rows.clone(),
            _ => vec![rows[3].clone()],
        });
        store.done(vec![Write { rows, ..insert(&job(10 + number, now)) }]).await;
    }
    let keep = Keep { ended: Duration::from_secs(85_000), ..ALL };
    for limit in [1, 100] {
        let deleted = other.prune_all(keep, limit).await;
        assert_eq!(deleted, if limit == 1 { 8 } else { 0 });
    }
    kept.sort_by_key(|row| row.key);
    assert_eq!(store.all_rows().await, kept);
}

/// Beyond the limit on all rows, the earliest ends are deleted, of any job and kind, except for the
/// last minute.
pub(super) async fn the_ledger_is_bounded<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = job(1, now);
    let mut rows = Vec::new();
    for number in 1..=10 {
        let job = job(number, now);
        let at = now - secs(1000 - 10 * number as i64);
        rows.push(closed(scheduled(&job, now), succeeded(), at));
        rows.push(Row::ended(&job, Fate::Completed, at + secs(1)));
    }
    let new = closed(requested(&record, 7, now), succeeded(), now);
    let open = Row { state: RowState::Waiting, ..requested(&record, 8, now) };
    let all = [&rows[..], &[new.clone(), open.clone()]].concat();
    store.done(vec![Write { rows: all, ..insert(&record) }]).await;
    assert_eq!(other.prune_all(Keep { total: 9, ..ALL }, 5).await, 12);
    let mut kept = [&rows[12..], &[new, open]].concat();
    kept.sort_by_key(|row| row.key);
    assert_eq!(store.all_rows().await, kept);
}

/// Pages list the waiting rows of the given jobs, in order of their keys, and no others.
pub(super) async fn waiting_rows_are_read_by_job<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let mut expected = Vec::new();
    for number in 1..=4 {
        let record = job(number, now);
        let waits = |row: Row| Row { state: RowState::Waiting, ..row };
        let rows = vec![
            waits(scheduled(&record, now + secs(7))),
            waits(requested(&record, 2, now)),
            waits(requested(&record, 1, now)),
            closed(requested(&record, 3, now), succeeded(), now),
            waits(scheduled(&record, DateTime::UNIX_EPOCH - secs(1))),
        ];
        let mut waiting = [rows[4].clone(), rows[0].clone(), rows[2].clone(), rows[1].clone()];
        waiting.sort_by_key(|row| row.key);
        store.done(vec![Write { rows, ..insert(&record) }]).await;
        if number != 2 {
            expected.extend(waiting);
        }
    }
    expected.sort_by_key(|row| row.key);
    let of = [4, 1, 3].map(|number| job(number, now).incarnation).to_vec();
    for limit in [1, 3, 12, 100] {
        let mut found: Vec<Row> = Vec::new();
        loop {
            let after = found.last().map(|row| row.key);
            let page = other.waiting(of.clone(), after, limit).await.unwrap();
            assert!(page.len() <= limit);
            let is_last = page.len() < limit;
            found.extend(page);
            if is_last {
                break;
            }
        }
        assert_eq!(found, expected, "in pages of {limit}");
    }
    assert_eq!(other.waiting(Vec::new(), None, 10).await.unwrap(), []);
    assert_eq!(other.waiting(vec![Incarnation(99)], None, 10).await.unwrap(), []);
}
