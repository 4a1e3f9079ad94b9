//! A durable job fires, ends and leaves its ledger.

use std::time::Duration;

use punctual::{
    End,
    store::{Fate, MemoryStore, RowKind, RowState, RunEnd, Store as _},
    trigger::every,
};

use crate::tasks::{Notes, on, remember};

#[tokio::test(start_paused = true)]
async fn it_runs_for_each_fire_time_and_ends_with_its_trigger() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let trigger = every(Duration::from_millis(100)).times(25);
    let job = scheduler.add(trigger, remember("tick")).id("tick").await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(60), job.clone()).await.unwrap();
    assert!(matches!(end, End::Completed), "{end:?}");
    assert_eq!(notes.len(), 25);
    assert!(notes.all().is_sorted_by_key(|note| note.fire_time));
    let rows = store.rows(None, 100).await.unwrap();
    let ran = |fate: &RowState| *fate == RowState::Closed(Fate::Ran(RunEnd::Succeeded));
    assert_eq!(rows.iter().filter(|row| ran(&row.state)).count(), 25);
    assert!(rows.iter().any(|row| row.key.kind == RowKind::Ended));
    assert_eq!(store.get("tick".into()).await.unwrap(), None);
    assert!(scheduler.shutdown().await.is_clean());
}
