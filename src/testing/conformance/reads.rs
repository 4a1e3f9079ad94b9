//! Cases of [`Store::list`], [`Store::changed`] and [`Store::now`].

use std::time::Duration;

use chrono::SubsecRound as _;

use super::stage::*;
use crate::store::*;

/// The store's clock advances, is the same for all clients, and has whole milliseconds.
pub(super) async fn the_clock_advances<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    store.wait_until(now + secs(0)).await;
    let first = store.now().await.unwrap();
    let second = other.now().await.unwrap();
    assert!(first > now);
    assert!(second >= first, "the clock went back, from {first} to {second}");
    assert_eq!(first.trunc_subsecs(3), first);
}

/// The capabilities of the store are within the bounds of the contract.
pub(super) async fn capabilities_are_within_bounds<S: Store>(Stage { store, .. }: Stage<S>) {
    let capabilities = store.capabilities();
    assert!(capabilities.time_precision <= Duration::from_millis(1));
    assert!(capabilities.max_batch >= 1);
    // Otherwise a scheduler with default options does not start, or cannot add a large job.
    assert!(capabilities.min_lease <= Duration::from_secs(15));
    assert!(capabilities.max_bytes.is_none_or(|most| most >= 64 * 1024));
    assert!(capabilities.max_jobs != Some(0) && capabilities.max_rows != Some(0));
}

/// Pages list all records once, in order of the bytes of their ids.
pub(super) async fn pages_list_all_records_in_order<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let mut expected = super::writes::odd_ids();
    expected.truncate(23);
    for (number, id) in expected.iter().enumerate() {
        store.add(Record { id: id.into(), ..job(number as u64, now) }).await;
    }
    expected.sort();
    for limit in [1, 7, 23, 24] {
        let (mut listed, mut after) = (Vec::<Record>::new(), None);
        loop {
            let page = other.list(RecordFilter::default(), after, limit).await.unwrap();
            assert!(page.records.len() <= limit);
            listed.extend(page.records);
            assert!(listed.len() <= expected.len(), "pages of {limit} do not end");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let ids: Vec<_> = listed.iter().map(|record| record.id.as_str().into_owned()).collect();
        assert_eq!(ids, expected, "in pages of {limit}");
    }
}

/// A page starts after an id, whether there is a record of it or not.
pub(super) async fn a_page_starts_after_any_id<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in [1, 2, 3] {
        store.add(job(number, now)).await;
    }
    store.done(vec![remove(&store.record(&"job-0002".into()).await, Fate::Removed)]).await;
    let page = other
        .list(RecordFilter::default(), Some(RecordCursor::from(&"job-0002".into())), 10)
        .await
        .unwrap();
    assert_eq!(page.records, [store.record(&"job-0003".into()).await]);
}

/// Only records that pass the filter are listed, and pages are filled with them.
pub(super) async fn records_are_filtered<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    for number in 0..12 {
        let name = (number % 2 == 0).then(|| "even".to_owned());
        let tags = match number % 3 {
            0 => vec!["three".to_owned(), "x".to_owned()],
            _ => vec!["x".to_owned(), "Three".to_owned(), "thre".to_owned(), "e".to_owned()],
        };
        store.add(Record { name, tags, paused: number >= 6, ..job(number, now) }).await;
    }
    let filter = |name: Option<&str>, tag: Option<&str>, paused| RecordFilter {
        name: name.map(String::from),
        tag: tag.map(String::from),
        paused,
    };
    let cases: [(RecordFilter, &[u64]); 9] = [
        (filter(None, None, None), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        (filter(Some("even"), None, None), &[0, 2, 4, 6, 8, 10]),
        (filter(Some("Even"), None, None), &[]),
        (filter(None, Some("three"), None), &[0, 3, 6, 9]),
        (filter(None, Some("x"), Some(true)), &[6, 7, 8, 9, 10, 11]),
        (filter(None, None, Some(false)), &[0, 1, 2, 3, 4, 5]),
        (filter(Some("even"), Some("three"), None), &[0, 6]),
        (filter(Some("even"), Some("three"), Some(true)), &[6]),
        (filter(None, Some("%"), None), &[]),
    ];
    for (filter, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|number| job(*number, now).id).collect();
        let listed = other.list(filter.clone(), None, 100).await.unwrap();
        let listed: Vec<_> = listed.records.into_iter().map(|record| record.id).collect();
        assert_eq!(listed, expected, "{filter:?}");
        let page = other.list(filter.clone(), None, 2).await.unwrap();
        let page: Vec<_> = page.records.into_iter().map(|record| record.id).collect();
        assert_eq!(page, expected[..expected.len().min(2)], "two of {filter:?}");
    }
}

/// Changed and removed records are returned, the latter with their fates, and unchanged ones are
/// not.
pub(super) async fn changed_records_are_returned<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let mut known = Vec::new();
    for number in 1..=6 {
        known.push(store.add(job(number, Some(now + secs(1000)))).await);
    }
    let [same, changed, removed, replaced, claimed, over] = &known[..] else { unreachable!() };
    let current = other.change(&changed.id, |record| record.paused = true).await;
    other.done(vec![remove(removed, Fate::Cancelled)]).await;
    other.done(vec![replace(replaced, next_incarnation(replaced))]).await;
    let heir = other.record(&replaced.id).await;
    let node = Node::join(&other, 1).await;
    let only = |record: &Record, decide| {
        let incarnation = record.incarnation;
        let except = known
            .iter()
            .map(|known| known.incarnation)
            .chain([heir.incarnation])
            .filter(|it| *it != incarnation);
        ClaimRequest {
            except: std::sync::Arc::new(except.collect()),
            decide,
            ..node.request(now + secs(2000))
        }
    };
    node.claim_one_of(only(claimed, fire(now + secs(2000), |at| Some(at + secs(9))))).await;
    node.claim(only(over, always(vec![], None))).await;

    let mut asked: Vec<_> =
        known.iter().map(|it| (it.id.clone(), it.incarnation, it.version)).collect();
    asked.push(("nobody".into(), Incarnation(1), 1));
    let changes = store.changed(asked).await.unwrap();
    assert_eq!(changes.len(), 5, "{changes:#?}");
    let status = |incarnation: Incarnation| {
        let change = changes.iter().find(|it| it.incarnation == incarnation);
        let status = change.map(|it| it.status.clone());
        status.unwrap_or_else(|| panic!("no change of {incarnation}: {changes:#?}"))
    };
    assert!(changes.iter().all(|it| it.incarnation != same.incarnation));
    assert!(changes.iter().all(|it| it.incarnation != claimed.incarnation), "a claim is no change");
    assert!(matches!(status(changed.incarnation), RecordStatus::Updated(it) if *it == current));
    assert!(matches!(status(removed.incarnation), RecordStatus::Removed(Some(Fate::Cancelled))));
    assert!(matches!(status(replaced.incarnation), RecordStatus::Removed(Some(Fate::Replaced))));
    assert!(matches!(status(over.incarnation), RecordStatus::Removed(Some(Fate::Completed))));
    assert!(matches!(status(Incarnation(1)), RecordStatus::Removed(None)));
}

/// A page of at most nothing is empty, and no page follows it.
pub(super) async fn a_page_of_nothing_is_the_last<S: Store>(stage: Stage<S>) {
    let Stage { store, other, now } = stage;
    let node = Node::join(&store, 1).await;
    let add = insert(&job(1, now)).with_action(Some(Action::new("ada", "add")));
    store.done(vec![add]).await;
    store.finish_one(&node.claim_one(now).await, succeeded()).await;
    let record = job(2, now);
    store.add_waiting(record.clone(), requested(&record, 1, now)).await;
    let after = Some(RecordCursor::from(&"job-0000".into()));
    for after in [None, after] {
        let page = other.list(RecordFilter::default(), after, 0).await.unwrap();
        assert!(page.records.is_empty() && page.next.is_none(), "{page:?}");
    }
    let fates = other.fates(FateFilter::default(), None, 0).await.unwrap();
    assert_eq!(fates, FatePage::default());
    assert_eq!(other.actions(None, None, 0).await.unwrap(), ActionPage::default());
    assert_eq!(other.history(job(1, now).incarnation, 0).await.unwrap(), []);
    assert_eq!(other.rows(None, 0).await.unwrap(), []);
    assert_eq!(other.waiting(vec![record.incarnation], None, 0).await.unwrap(), []);
    node.claim(node.request(now)).await;
    assert_eq!(other.claimed_by(node.id, None, 0).await.unwrap(), []);
}
