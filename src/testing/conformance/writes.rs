//! Cases of [`Store::write`] and [`Store::get`].

use chrono::{DateTime, Utc};

use super::stage::*;
use crate::{job::SkipReason, ledger::fitting, store::*};

/// A new record has version 1 and the token of its write, and otherwise the written fields.
pub(super) async fn a_new_record_has_the_written_fields<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = job(1, now);
    let write = insert(&record);
    store.done(vec![write.clone()]).await;
    let expected = Record { version: 1, tokens: tokens([write.token]), ..record };
    assert_eq!(other.record(&expected.id).await, expected);
}

/// An unknown id has no record.
pub(super) async fn an_unknown_id_has_no_record<S: Store>(Stage { store, .. }: Stage<S>) {
    assert_eq!(store.get("nobody".into()).await.unwrap(), None);
}

/// A write that adds an id in use is lost, and returns the current record.
pub(super) async fn adding_an_id_in_use_is_lost<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let there = store.add(job(1, now)).await;
    let mut write = insert(&next_incarnation(&there));
    write.rows = vec![closed(scheduled(&next_incarnation(&there), now), Fate::Missed, now)];
    assert_eq!(other.lost(write).await, Some(there.clone()));
    assert_eq!(store.record(&there.id).await, there);
    assert_eq!(store.all_rows().await, []);
}

/// A change of the version that was read is done, and increments the version.
pub(super) async fn a_change_increments_the_version<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let before = store.add(job(1, now)).await;
    let changed = Record {
        requests: 7,
        task: "other".into(),
        args: "[1]".into(),
        trigger: "2".into(),
        options: "3".into(),
        name: Some("report".into()),
        tags: vec!["a".into(), "b".into()],
        declared: Some("4".into()),
        added_at: now - secs(5),
        next_fire: None,
        paused: true,
        resumed_at: Some(now),
        taken_to: Some(now),
        recover: true,
        recoveries: 7,
        ..before.clone()
    };
    let write = update(&before, changed.clone());
    other.done(vec![write.clone()]).await;
    let tokens = tokens([before.tokens.as_slice()[0], write.token]);
    let expected = Record { version: 2, tokens, ..changed };
    assert_eq!(store.record(&before.id).await, expected);
}

/// A change or removal of an old version is lost, and returns the current record.
pub(super) async fn a_stale_version_is_lost<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let stale = store.add(job(1, now)).await;
    let current = other.change(&stale.id, |record| record.paused = true).await;
    let writes = [update(&stale, stale.clone()), remove(&stale, Fate::Removed)];
    for write in writes {
        assert_eq!(store.lost(write).await, Some(current.clone()));
    }
    assert_eq!(store.record(&stale.id).await, current);
    assert_eq!(store.end(&stale).await, None);
}

/// A change of a record that was claimed since it was read is lost.
pub(super) async fn a_stale_fence_is_lost<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let stale = store.add(job(1, now)).await;
    let node = Node::join(&other, 1).await;
    node.claim_one(now).await;
    let current = store.record(&stale.id).await;
    assert_eq!(store.lost(update(&stale, stale.clone())).await, Some(current));
}

/// A change of an incarnation that was replaced is lost.
pub(super) async fn a_stale_incarnation_is_lost<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let stale = store.add(job(1, now)).await;
    other.done(vec![replace(&stale, next_incarnation(&stale))]).await;
    let current = store.record(&stale.id).await;
    assert_eq!(current.version, stale.version, "only the incarnations differ");
    assert_eq!(store.lost(update(&stale, stale.clone())).await, Some(current));
}

/// A change or removal of a missing record is lost, and returns no record.
pub(super) async fn changing_a_missing_record_is_lost<S: Store>(stage: Stage<S>) {
    let Stage { store, now, .. } = stage;
    let record = job(1, now);
    assert_eq!(store.lost(update(&record, record.clone())).await, None);
    assert_eq!(store.lost(remove(&record, Fate::Removed)).await, None);
    assert!(!store.is_there(&record).await);
    assert_eq!(store.end(&record).await, None);
}

/// A record of another incarnation replaces the old one, whose waiting rows are closed.
pub(super) async fn replacing_starts_another_incarnation<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let old = job(1, now);
    let waiting = requested(&old, 1, now);
    store.add_waiting(old, waiting.clone()).await;
    let old = store.change(&"job-0001".into(), |record| record.requests = 1).await;
    let new = next_incarnation(&old);
    let write = replace(&old, new.clone());
    other.done(vec![write.clone()]).await;
    let expected = Record { version: 1, tokens: tokens([write.token]), ..new };
    assert_eq!(store.record(&old.id).await, expected);
    assert_eq!(store.end(&old).await, Some(Fate::Replaced));
    let row = store.row(waiting.key).await;
    assert_eq!(row.state, RowState::Closed(Fate::Skipped(SkipReason::Replaced)));
    assert!(row.ended_at.is_some_and(|at| at >= now));
}

/// A removal closes the waiting rows of its job and no others, and leaves claimed rows to their
/// node.
pub(super) async fn removing_closes_waiting_rows<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let taken_from = store.add(job(1, now)).await;
    let claimed = node.claim_one(now).await;
    let bystander = job(2, None);
    let bystanding = requested(&bystander, 1, now);
    store.add_waiting(bystander, bystanding.clone()).await;
    let waiting = requested(&taken_from, 1, now);
    let current = store.record(&taken_from.id).await;
    let mut write = update(&current, current.clone());
    write.rows = vec![Row { state: RowState::Waiting, ..waiting.clone() }];
    store.done(vec![write]).await;

    let current = store.record(&taken_from.id).await;
    other.done(vec![remove(&current, Fate::Cancelled)]).await;
    assert!(!store.is_there(&current).await);
    assert_eq!(store.end(&current).await, Some(Fate::Cancelled));
    let row = store.row(waiting.key).await;
    assert_eq!(row.state, RowState::Closed(Fate::Skipped(SkipReason::Removed)));
    assert!(row.ended_at.is_some_and(|at| at >= now));
    assert_eq!(store.row(claimed.key).await, claimed);
    assert_eq!(store.row(bystanding.key).await.state, RowState::Waiting);
}

/// A waiting row that was recovered or released after a call of its work is closed as abandoned,
/// and not as skipped, when its job is removed.
pub(super) async fn a_waiting_row_whose_work_was_called_is_abandoned_with_its_job<S: Store>(
    stage: Stage<S>,
) {
    let Stage { store, other, now } = stage;
    let dead = Node::join(&store, 1).await;
    let mut keys = Vec::new();
    for number in 1..=2 {
        store.add(Record { recover: true, ..job(number, now) }).await;
        keys.push(dead.claim_one(now).await.key);
    }
    other.expire(&dead).await;
    let node = Node::join(&store, 2).await;
    store.add(Record { recover: true, ..job(3, now) }).await;
    for claimed in node.claim(node.request(now)).await {
        let of = |row: &Row| Release::new(row.key, row.fence, row.attempt);
        node.release_rows(claimed.rows.iter().map(of).collect()).await;
        if claimed.record.id == "job-0003" {
            keys.push(claimed.rows[0].key);
        }
    }
    let current = store.record(&"job-0001".into()).await;
    other.done(vec![remove(&current, Fate::Removed)]).await;
    let current = store.record(&"job-0002".into()).await;
    other.done(vec![replace(&current, next_incarnation(&job(2, None)))]).await;
    let current = store.record(&"job-0003".into()).await;
    other.done(vec![remove(&current, Fate::Removed)]).await;
    let fates = [Fate::Abandoned, Fate::Abandoned, Fate::Skipped(SkipReason::Removed)];
    for (key, fate) in keys.into_iter().zip(fates) {
        let row = store.row(key).await;
        assert_eq!(row.state, RowState::Closed(fate));
        assert!(row.ended_at.is_some_and(|at| at >= now));
    }
}

/// Each write is done or lost independently, with its record and its rows, and its result is at its
/// index.
pub(super) async fn each_write_is_independent<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let first = store.add(job(1, now)).await;
    let stale = store.add(job(2, now)).await;
    let current = other.change(&stale.id, |record| record.paused = true).await;
    let going = store.add(job(3, now)).await;
    let new = job(4, now);
    let mut change = update(&first, Record { paused: true, ..first.clone() });
    let missed = closed(scheduled(&first, now), Fate::Missed, now);
    change.rows = vec![missed.clone()];
    let elsewhere = job(5, now);
    let mut lost = update(&elsewhere, elsewhere.clone());
    let not_written = closed(scheduled(&elsewhere, now), Fate::Missed, now);
    lost.rows = vec![not_written.clone()];
    let writes = vec![
        change,
        insert(&new),
        update(&stale, stale.clone()),
        remove(&going, Fate::Removed),
        lost,
    ];
    let lost = WriteResult::Lost(Some(Box::new(current.clone())));
    let expected =
        [WriteResult::Done, WriteResult::Done, lost, WriteResult::Done, WriteResult::Lost(None)];
    assert_eq!(store.write(writes).await.unwrap(), expected);
    assert!(other.record(&first.id).await.paused);
    assert_eq!(other.record(&stale.id).await, current);
    assert_eq!(other.end(&going).await, Some(Fate::Removed));
    assert!(other.is_there(&new).await);
    assert!(!other.is_there(&elsewhere).await);
    let keys: Vec<RowKey> = other.all_rows().await.iter().map(|row| row.key).collect();
    assert!(keys.contains(&missed.key) && !keys.contains(&not_written.key), "{keys:?}");
}

/// [`Capabilities::max_batch`] writes are done in one call.
pub(super) async fn a_full_batch_is_written<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let batch = store.capabilities().max_batch;
    store.done((0..batch as u64).map(|number| insert(&job(number, now))).collect()).await;
    let listed = other.list(RecordFilter::default(), None, batch).await.unwrap().records;
    assert_eq!(listed.len(), batch);
    let removals = listed.iter().map(|record| remove(record, Fate::Removed)).collect();
    store.done(removals).await;
    assert_eq!(other.list(RecordFilter::default(), None, batch).await.unwrap().records, []);
    assert_eq!(other.all_rows().await.len(), batch);
}

/// Retried writes, whose response was lost, count as done and change nothing.
pub(super) async fn a_retried_write_is_done<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = job(1, now);
    let added = vec![insert(&record), insert(&job(2, now))];
    store.done(added.clone()).await;
    let current = store.record(&record.id).await;
    other.done(added).await;
    assert_eq!(store.record(&record.id).await, current);

    let mut change = update(&current, Record { paused: true, ..current.clone() });
    change.rows = vec![closed(scheduled(&current, now), Fate::Missed, now)];
    store.done(vec![change.clone()]).await;
    let changed = store.record(&record.id).await;
    assert_eq!(changed.version, 2);
    // The rows of the first call have been pruned since, or would differ by now.
    change.rows = vec![closed(scheduled(&current, now + secs(1)), Fate::Missed, now)];
    other.done(vec![change]).await;
    assert_eq!(store.record(&record.id).await, changed);
    assert_eq!(store.all_rows().await.len(), 1);

    let replacing = replace(&changed, next_incarnation(&changed));
    store.done(vec![replacing.clone()]).await;
    let replaced = store.record(&record.id).await;
    other.done(vec![replacing]).await;
    assert_eq!(store.record(&record.id).await, replaced);
}

/// A write that is retried after a few others counts as done.
pub(super) async fn a_write_retried_after_others_is_done<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = store.add(job(1, now)).await;
    let mut asked = update(&record, Record { requests: 1, ..record.clone() });
    let row = Row { state: RowState::Waiting, ..requested(&record, 1, now) };
    asked.rows = vec![row.clone()];
    store.done(vec![asked.clone()]).await;
    for number in 0..Tokens::KEPT as u64 - 1 {
        other.change(&record.id, |record| record.added_at = now - secs(number as i64)).await;
        let current = other.record(&record.id).await;
        store.done(vec![asked.clone()]).await;
        assert_eq!(other.record(&record.id).await, current);
    }
    assert_eq!(other.all_rows().await, [row]);
    // Another incarnation has its own tokens.
    let current = other.record(&record.id).await;
    other.done(vec![replace(&current, next_incarnation(&current))]).await;
    let there = other.record(&record.id).await;
    assert_eq!(there.tokens.as_slice().len(), 1);
    assert_eq!(store.lost(asked).await, Some(there));
}

/// A write that is retried after a claim counts as done.
pub(super) async fn a_write_retried_after_a_claim_is_done<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let write = insert(&job(1, now));
    store.done(vec![write.clone()]).await;
    Node::join(&other, 1).await.claim_one(now).await;
    let current = store.record(&write.id).await;
    store.done(vec![write]).await;
    assert_eq!(store.record(&current.id).await, current);
}

/// A retried add does not restore a job that was removed since.
pub(super) async fn a_retried_add_does_not_restore_a_removed_job<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let write = insert(&job(1, now));
    store.done(vec![write.clone()]).await;
    let current = other.record(&write.id).await;
    other.done(vec![remove(&current, Fate::Removed)]).await;
    store.done(vec![write.clone()]).await;
    assert!(!store.is_there(&current).await);

    // Nor does it replace a job that has the id since.
    let heir = other.add(next_incarnation(&current)).await;
    store.done(vec![write]).await;
    assert_eq!(store.record(&heir.id).await, heir);
}

/// A retried add does not restart a job that has ended since.
pub(super) async fn a_retried_add_does_not_restart_an_ended_job<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let write = insert(&job(1, now));
    store.done(vec![write.clone()]).await;
    let row = Node::join(&other, 1).await.claim_one(now).await;
    other.finish_one(&row, succeeded()).await;
    store.done(vec![write.clone()]).await;
    assert_eq!(store.get(write.id).await.unwrap(), None);
}

/// A removed and added id is another incarnation, whose fire times do not conflict with those of
/// the first.
pub(super) async fn a_reused_id_has_no_row_conflicts<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let first = store.add(job(1, now)).await;
    let early = node.claim_one(now).await;
    let current = store.record(&first.id).await;
    other.done(vec![remove(&current, Fate::Removed)]).await;
    let second = other.add(next_incarnation(&first)).await;
    let late = node.claim_one(now).await;
    assert_eq!((late.key.kind, late.key.number), (early.key.kind, early.key.number));
    assert_eq!(late.key.incarnation, second.incarnation);
    assert!(late.fence > 0);
    store.finish_one(&early, succeeded()).await;
    assert!(store.is_there(&second).await);
    assert_eq!(store.row(late.key).await, late);
    assert_eq!(store.history(first.incarnation, 10).await.unwrap().len(), 2);
    assert_eq!(store.history(second.incarnation, 10).await.unwrap(), [late]);
}

/// The rows of a write are inserted into the ledger, but do not replace existing rows.
pub(super) async fn written_rows_do_not_replace_rows<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let record = store.add(job(1, now)).await;
    let claimed = node.claim_one(now).await;
    let current = store.record(&record.id).await;
    let stretch = Row { count: 12, last: now + secs(9), ..scheduled(&record, now - secs(3)) };
    let missed = closed(stretch, Fate::Missed, now);
    let asked = Row { state: RowState::Waiting, ..requested(&record, 1, now) };
    let mut write = update(&current, current.clone());
    let over_taken = closed(scheduled(&record, now), Fate::Missed, now);
    write.rows = vec![missed.clone(), over_taken, asked.clone()];
    other.done(vec![write]).await;
    assert_eq!(store.all_rows().await, [missed.clone(), claimed.clone(), asked.clone()]);

    let current = store.record(&record.id).await;
    let mut write = update(&current, current.clone());
    write.rows = vec![
        closed(missed.clone(), Fate::Abandoned, now),
        closed(asked.clone(), Fate::Missed, now),
    ];
    other.done(vec![write]).await;
    assert_eq!(store.all_rows().await, [missed, claimed, asked]);
}

/// Ids are compared by their bytes, and may have any 255 of them.
pub(super) async fn ids_are_compared_by_bytes<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let ids = odd_ids();
    for (number, id) in ids.iter().enumerate() {
        store.add(Record { id: id.into(), ..job(number as u64, now) }).await;
    }
    for (number, id) in ids.iter().enumerate() {
        let record = other.record(&id.into()).await;
        assert_eq!(record.id, id.as_str());
        assert_eq!(record.incarnation, job(number as u64, now).incarnation, "of `{id}`");
    }
    let listed = store.list(RecordFilter::default(), None, 100).await.unwrap().records;
    let listed: Vec<_> = listed.iter().map(|record| record.id.as_str()).collect();
    let mut sorted = ids;
    sorted.sort();
    assert_eq!(listed, sorted);
}

/// Texts are stored unchanged, whatever they contain.
pub(super) async fn texts_are_stored_unchanged<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for (number, text) in odd_texts().into_iter().enumerate() {
        // Tasks, names, tags and messages are short; JSON may be long.
        let short = if text.len() < 1000 { text.clone() } else { "short".to_owned() };
        let record = Record {
            task: short.clone(),
            args: text.clone(),
            trigger: text.clone(),
            options: text.clone(),
            name: Some(short.clone()),
            tags: vec![short.clone(), String::new(), short.clone()],
            declared: Some(text.clone()),
            paused_by: Some(short.clone()),
            paused_because: Some(short.clone()),
            extra: text,
            ..job(number as u64, now)
        };
        let mut write = insert(&record);
        let row = closed(scheduled(&record, now), Fate::Unknown("postponed: rain".into()), now);
        let (requested_by, trace_id) = (Some(short.clone()), Some(short.clone()));
        let row = Row { message: Some(short), requested_by, trace_id, ..row };
        write.rows = vec![row.clone()];
        let expected = Record { version: 1, tokens: tokens([write.token]), ..record };
        store.done(vec![write]).await;
        assert_eq!(other.record(&expected.id).await, expected);
        assert_eq!(other.row(row.key).await, row);
    }
}

/// Instants are stored to the millisecond, before 1970 and in the far future, and numbers exactly.
pub(super) async fn instants_and_numbers_are_stored_exactly<S: Store>(stage: Stage<S>) {
    let Stage { store, other, .. } = stage;
    let instants = [
        "0001-01-01T00:00:00Z",
        "1883-11-18T12:03:58.001Z",
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00Z",
        "2024-02-29T23:59:59.123Z",
        "2038-01-19T03:14:08Z",
        "9999-12-31T23:59:59.999Z",
    ];
    for (number, instant) in instants.into_iter().enumerate() {
        let at: DateTime<Utc> = instant.parse().unwrap();
        let record = Record {
            requests: u64::from(u32::MAX) + 1,
            added_at: at,
            resumed_at: Some(at),
            taken_to: Some(at),
            ..job(number as u64, at)
        };
        let row = Row {
            last: at,
            count: i64::MAX as u64,
            coalesced: i64::MAX as u64,
            attempt: i32::MAX as u32,
            recover: true,
            recoveries: 0,
            started_at: Some(at),
            due: Some(at),
            node: Some(NodeId(i64::MAX as u64)),
            ..closed(scheduled(&record, at), Fate::Coalesced(at), at)
        };
        let write = Write { rows: vec![row.clone()], ..insert(&record) };
        let expected = Record { version: 1, tokens: tokens([write.token]), ..record };
        store.done(vec![write]).await;
        assert_eq!(other.record(&expected.id).await, expected);
        assert_eq!(other.row(row.key).await, row);
    }
}

/// A store with the maximum number of jobs refuses an add, with all other writes of the call.
pub(super) async fn a_full_store_refuses_an_add<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let Capabilities { max_jobs, max_batch, .. } = store.capabilities();
    // A higher limit is not tested.
    let Some(most) = max_jobs.filter(|most| *most <= 100_000) else { return };
    let all: Vec<u64> = (0..most).collect();
    for numbers in all.chunks(max_batch) {
        store.done(numbers.iter().map(|&number| insert(&job(number, now))).collect()).await;
    }
    let first = store.record(&"job-0000".into()).await;
    let change = update(&first, Record { paused: true, ..first.clone() });
    let mut both = vec![change.clone(), insert(&job(most, now))];
    both.truncate(max_batch.max(1));
    if both.len() == 2 {
        assert!(other.write(both).await.unwrap_err().is_refused());
    }
    assert!(other.write(vec![insert(&job(most, now))]).await.unwrap_err().is_refused());
    assert_eq!(other.record(&first.id).await, first);
    // A write that adds no job is done.
    store.done(vec![change]).await;
    let current = store.record(&first.id).await;
    store.done(vec![replace(&current, next_incarnation(&current))]).await;
    let current = store.record(&first.id).await;
    other.done(vec![remove(&current, Fate::Removed)]).await;
    store.done(vec![insert(&job(most, now))]).await;
    // One job replaces another one, with another id.
    let last = store.record(&job(most, now).id).await;
    if max_batch >= 2 {
        store.done(vec![remove(&last, Fate::Removed), insert(&job(most + 1, now))]).await;
    }
}

/// Writes within the maximum size of a commit are done.
pub(super) async fn writes_within_max_bytes_are_done<S: Store>(stage: Stage<S>) {
    let Stage { store, now, .. } = stage;
    let Capabilities { max_bytes, max_batch, .. } = store.capabilities();
    let Some(most) = max_bytes else { return };
    let args = format!("\"{}\"", "x".repeat(8 * 1024));
    let write = |number| insert(&Record { args: args.clone(), ..job(number, now) });
    let count = fitting((0..).map(|number| write(number).size()), max_batch.min(1000), most);
    store.done((0..count as u64).map(write).collect()).await;
}

/// A write that is done logs its action once, however often it is retried.
pub(super) async fn actions_are_logged_once<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    assert_eq!(store.actions(None, None, 10).await.unwrap(), ActionPage::default());
    let logged = |write: Write, by: &str, what: &str| {
        write.with_action(Some(Action::new(by, what).because("“rain”")))
    };
    let add = logged(insert(&job(1, now)), "ada", "add");
    store.done(vec![add.clone(), insert(&job(2, now))]).await;
    let first = store.record(&"job-0001".into()).await;
    let pause = Record { paused: true, ..first.clone() };
    let pause = logged(update(&first, pause), "bob", "pause");
    store.done(vec![pause.clone()]).await;
    let late = logged(update(&first, first.clone()), "eve", "resume");
    store.lost(late).await;
    other.done(vec![pause.clone(), add.clone()]).await;
    let second = store.record(&"job-0002".into()).await;
    let removal = logged(remove(&second, Fate::Removed), "eve", "remove");
    store.done(vec![removal.clone()]).await;

    let all = other.actions(None, None, 10).await.unwrap();
    assert_eq!(all.next, None);
    // Actions within one millisecond are in any order.
    let mut done: Vec<_> = all.actions.iter().map(|it| (it.token, it.incarnation)).collect();
    let mut expected = vec![
        (removal.token, second.incarnation),
        (pause.token, first.incarnation),
        (add.token, first.incarnation),
    ];
    done.sort();
    expected.sort();
    assert_eq!(done, expected);
    assert!(all.actions.is_sorted_by(|a, b| a.cursor() > b.cursor()), "{all:?}");
    let of = |token| all.actions.iter().find(|it| it.token == token).unwrap();
    let expected = Action::new("bob", "pause").because("“rain”");
    assert_eq!((&of(pause.token).action, &of(pause.token).job), (&expected, &first.id));
    assert!(all.actions.iter().all(|it| it.at >= now));

    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = other.actions(None, after, 1).await.unwrap();
        pages.extend(page.actions);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, all.actions);
    let of_first = other.actions(Some(first.id), None, 10).await.unwrap();
    let mut tokens: Vec<_> = of_first.actions.iter().map(|it| it.token).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, [add.token, pause.token]);
}

/// The log keeps the latest [`Keep::MOST_ACTIONS`] actions, once nothing more is to be pruned.
pub(super) async fn the_action_log_is_bounded<S: Store>(stage: Stage<S>) {
    let Stage { store, now, .. } = stage;
    let batch = store.capabilities().max_batch.min(1000) as u64;
    let most = Keep::MOST_ACTIONS as u64 + 10;
    let mut last = None;
    for first in (0..most).step_by(batch as usize) {
        let numbers = first..most.min(first + batch);
        let action = |number: u64| Action::new("ada", format!("add {number}"));
        let write = |number| insert(&job(number, None)).with_action(Some(action(number)));
        let writes: Vec<_> = numbers.map(write).collect();
        last = writes.last().map(|write| write.token);
        let at = store.time().await;
        store.done(writes).await;
        // So that the batches differ in time.
        store.wait_until(at).await;
    }
    // Two calls find as many as they may delete.
    store.prune_all(Keep::default(), 5).await;
    let (mut kept, mut after) = (Vec::new(), None);
    loop {
        let page = store.actions(None, after, 1000).await.unwrap();
        kept.extend(page.actions);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(kept.len(), Keep::MOST_ACTIONS);
    assert!(kept.iter().any(|it| Some(it.token) == last));
    assert!(kept.iter().all(|it| it.at >= now));
}

fn tokens<const N: usize>(tokens: [u64; N]) -> Tokens {
    tokens.into_iter().collect()
}

/// Ids that case folding, trimming, normalizing or quoting would change or make equal.
pub(super) fn odd_ids() -> Vec<String> {
    let mut ids = [
        "a",
        "A",
        "a ",
        " a",
        "a.",
        "a/b",
        "a\\b",
        "a:b",
        "a*",
        "a%",
        "a_",
        "a?",
        "a'b",
        "a\"b",
        "a`b",
        "a\nb",
        "a\tb",
        "{a}",
        "$a",
        "--",
        ";",
        "NULL",
        "null",
        "0",
        "00",
        "1e3",
        "ä",
        "a\u{308}",
        "ß",
        "ss",
        "İ",
        "日本語",
        "🦀",
        "\u{10ffff}",
        "\u{fffd}",
        "9f2c01ab-17-42",
        "9F2C01AB-17-42",
        "9f2c01ab-017-42",
    ]
    .map(String::from)
    .to_vec();
    ids.push("x".repeat(255));
    ids.push("x".repeat(254) + "y");
    ids.push("🦀".repeat(63));
    ids
}

fn odd_texts() -> Vec<String> {
    let mut texts = odd_ids();
    texts.push(String::new());
    texts.push(r#"{"text":"\u0000 \" \\ \n","b":1.0,  "a": [1e400, null]}"#.to_owned());
    texts.push("crlf\r\n and trailing space ".to_owned());
    texts.push("é".repeat(40_000));
    texts
}

/// A job with a remembered end, after its last run.
async fn ended<S: Store>(store: &Client<S>, now: DateTime<Utc>) -> Record {
    let node = Node::join(store, 1).await;
    let record = Record { remember: true, declared: Some("[1]".into()), ..job(1, now) };
    let added = store.add(record).await;
    let row = node.claim_one(now).await;
    assert_eq!(store.finish_one(&row, succeeded()).await.over, [added.incarnation]);
    store.record(&added.id).await
}

/// The remembered end of a job is read by its id, and by no other operation.
pub(super) async fn a_remembered_end_is_read_only_by_its_id<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = ended(&store, now).await;
    assert!(record.ended_at.is_some_and(|at| at >= now));
    assert_eq!((record.next_fire, record.declared.as_deref()), (None, Some("[1]")));
    assert_eq!(other.record(&record.id).await, record);
    assert_eq!(other.list(RecordFilter::default(), None, 10).await.unwrap().records, []);
    let known = vec![(record.id.clone(), record.incarnation, record.version)];
    let changed = other.changed(known).await.unwrap();
    assert!(matches!(
        &changed[..],
        [RecordChange { status: RecordStatus::Removed(Some(Fate::Completed)), .. }]
    ));
    let node = Node::join(&other, 2).await;
    assert_eq!(node.claim(node.request(now + secs(9))).await.len(), 0);
    // Pruning keeps it for long.
    other.prune_all(Keep { rows: 0, age: std::time::Duration::ZERO, ..Keep::default() }, 100).await;
    assert_eq!(other.record(&record.id).await, record);
}

/// A job that is added or changed without any fire time left has ended at once.
pub(super) async fn a_job_written_without_fire_times_is_remembered<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for (number, next_fire) in [(1, None), (2, Some(now))] {
        let record = Record { remember: true, ..job(number, next_fire) };
        store.done(vec![insert(&record)]).await;
        let there = store.record(&record.id).await;
        assert_eq!(there.ended_at.is_some(), next_fire.is_none());
        if there.ended_at.is_none() {
            store.done(vec![update(&there, Record { next_fire: None, ..there.clone() })]).await;
        }
        assert!(other.record(&record.id).await.ended_at.is_some_and(|at| at >= now));
        assert_eq!(other.end(&record).await, Some(Fate::Completed));
    }
    // A job with an open row has not ended.
    let node = Node::join(&store, 1).await;
    let record = store.add(Record { remember: true, ..job(3, now) }).await;
    let row = node.claim_one(now).await;
    store.change(&record.id, |record| record.name = Some("last".into())).await;
    assert_eq!(store.record(&record.id).await.ended_at, None);
    store.finish_one(&row, succeeded()).await;
    assert_eq!(other.record(&record.id).await.name.as_deref(), Some("last"));
}

/// A remembered end is compared and swapped by its stamp, remembered again, and deleted by a
/// removal.
pub(super) async fn a_remembered_end_is_compared_and_swapped<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let record = ended(&store, now).await;
    assert_eq!(other.lost(insert(&next_incarnation(&record))).await, Some(record.clone()));
    // A change with the stamp before its end is lost too.
    let before = Record { version: record.version - 1, ended_at: None, ..record.clone() };
    let change = update(&before, Record { paused: true, ..before.clone() });
    assert_eq!(other.lost(change).await, Some(record.clone()));
    store.wait_until(now + secs(0)).await;
    other.done(vec![update(&record, record.clone())]).await;
    let anew = store.record(&record.id).await;
    assert!(anew.ended_at >= record.ended_at);
    assert!(anew.incarnation == record.incarnation && anew.version > record.version);
    let new = Record { next_fire: Some(now), remember: false, ..next_incarnation(&record) };
    other.done(vec![update(&anew, new.clone())]).await;
    let there = store.record(&record.id).await;
    assert_eq!((there.incarnation, there.ended_at), (new.incarnation, None));
    other.done(vec![remove(&there, Fate::Removed)]).await;

    let again = Record { remember: true, ..next_incarnation(&next_incarnation(&record)) };
    store.done(vec![insert(&again)]).await;
    let again = store.record(&record.id).await;
    assert!(again.ended_at.is_some());
    other.done(vec![remove(&again, Fate::Removed)]).await;
    assert_eq!(store.get(record.id.clone()).await.unwrap(), None);
}

/// A job without `remember` is gone after its end.
pub(super) async fn other_ends_are_not_remembered<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let record = store.add(job(1, now)).await;
    let row = node.claim_one(now).await;
    store.finish_one(&row, succeeded()).await;
    assert_eq!(other.get(record.id).await.unwrap(), None);
}
