//! What an operation costs does not grow with what it is not about.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use punctual::store::{
    Incarnation, NodeId, Passed, RowKey, RowKind, RowState, SqliteStore, Store as _, Take, Write,
};

use crate::fixture::{add, beat, now, record, row, take, taking};

/// How many: `PUNCTUAL_HELD=200000` is for measuring.
fn size(default: u64) -> u64 {
    let size = std::env::var("PUNCTUAL_HELD").ok().map(|text| text.parse());
    size.map_or(default, |size| size.expect("`PUNCTUAL_HELD` is a number"))
}

/// How long an operation takes, at best of some.
async fn at_best(mut operation: impl AsyncFnMut()) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        operation().await;
        best = best.min(start.elapsed());
    }
    best
}

#[tokio::test]
async fn what_others_hold_costs_nothing() {
    let size = size(5000);
    let store = SqliteStore::in_memory().await.unwrap();
    let due = now() - TimeDelta::hours(1);
    for numbers in (1..=size).collect::<Vec<_>>().chunks(1000) {
        add(&store, numbers.iter().map(|&n| record(&n.to_string(), n, Some(due)))).await;
    }
    for node in [1, 2] {
        beat(&store, node, Duration::from_secs(600)).await;
    }
    let (mut number, mut held) = (0, 0);
    while held < size {
        number += 1;
        let takings = store.take(taking(1, number, 1000)).await.unwrap();
        held += takings.jobs.len() as u64;
    }
    let of = taking(2, 1, 100).next_due(Passed::default(), &HashSet::new());
    let next_due = at_best(async || {
        assert_eq!(store.next_due(of.clone()).await.unwrap(), None);
    })
    .await;
    let mut number = 0;
    let take = at_best(async || {
        number += 1;
        assert!(take(&store, 2, number).await.unwrap().jobs.is_empty());
    })
    .await;
    println!("{size} held by another: `next_due` {next_due:?}, `take` {take:?}");
    assert!(next_due < Duration::from_millis(2), "`next_due` took {next_due:?}");
    assert!(take < Duration::from_millis(2), "`take` took {take:?}");
}

#[tokio::test]
async fn a_run_that_is_asked_for_costs_the_same_however_many_there_are() {
    const COUNT: usize = 3000;
    let store = SqliteStore::in_memory().await.unwrap();
    let start = now();
    add(&store, [record("queue", 1, Some(start + TimeDelta::hours(1)))]).await;
    beat(&store, 1, Duration::from_secs(600)).await;
    let (mut each, mut number) = (Vec::new(), 0);
    for run in 0..COUNT as i64 {
        let asked = Instant::now();
        let current = store.get("queue".into()).await.unwrap().unwrap();
        let key = RowKey { incarnation: Incarnation(1), kind: RowKind::Requested, number: run };
        let mut asked_for = row(&current, start);
        (asked_for.key, asked_for.state) = (key, RowState::Waiting);
        let write = Write::change(current.stamp(), current, 1000 + run as u64);
        store.write(vec![write.with_rows(vec![asked_for])]).await.unwrap();
        number += 1;
        let ask = Take { horizon: start, ..taking(1, number, 100) };
        let of = ask.next_due(Passed::default(), &HashSet::new());
        let only_asked: punctual::store::Decide = std::sync::Arc::new(|record, waiting| {
            let mut rows = waiting.to_vec();
            rows.iter_mut().for_each(|row| row.state = RowState::Taken(NodeId(0)));
            punctual::store::Decision::Take { rows, next_fire: record.next_fire }
        });
        let takings = store.take(Take { decide: only_asked, ..ask }).await.unwrap();
        assert_eq!(takings.jobs.len(), 1);
        store.next_due(of).await.unwrap();
        each.push(asked.elapsed());
    }
    let typical = |each: &[Duration]| {
        let mut each = each.to_vec();
        each.sort();
        each[each.len() / 2]
    };
    let (first, last) = (typical(&each[..COUNT / 10]), typical(&each[COUNT - COUNT / 10..]));
    println!("a run of {COUNT}: {first:?} at first, {last:?} at last");
    assert!(last < first * 3, "{first:?} at first, {last:?} at last");
}
