//! Verbs whose futures are dropped.

use std::time::Duration;

use punctual::{
    Error, OnConflict, Scheduler,
    store::{MemoryStore, RecordFilter, RowState, Store as _},
    testing::FaultyStore,
    trigger::every,
};
use tokio::time::{sleep, timeout};

use crate::tasks::{Notes, on, remember, rows};

const SECOND: Duration = Duration::from_secs(1);

/// Polls the future of each verb a number of times, drops it, and then calls the verb again to its end.
#[tokio::test(start_paused = true)]
async fn verbs_that_are_dropped_lock_and_lose_nothing() {
    for polls in 0..12 {
        for verb in 0..10 {
            let (memory, notes) = (MemoryStore::new(), Notes::default());
            let store = FaultyStore::new(memory.clone());
            let scheduler = on(&store, &notes).start().await.unwrap();
            let add = |id: &str| scheduler.add(every(SECOND), remember(id)).id(id);
            let job = add("job").await.unwrap();
            add("spare").await.unwrap();
            sleep(SECOND * 2 + SECOND / 4).await;
            let document = scheduler.export().await.unwrap();
            let ask = async |scheduler: &Scheduler| -> Result<(), Error> {
                let job = scheduler.job("job");
                let add = |id: &str| {
                    scheduler
                        .add(every(SECOND), remember(id))
                        .id(id)
                        .on_conflict(OnConflict::Replace)
                };
                match verb {
                    0 => add("new").await.map(drop),
                    1 => add("job").await.map(drop),
                    2 => scheduler.add_all([add("a"), add("b")]).await.map(drop),
                    3 => scheduler.import(&document, OnConflict::Replace).await.map(drop),
                    4 => job.pause().await,
                    5 => job.reschedule(every(SECOND * 2)).await,
                    6 => job.modify(|settings| settings.priority(3)).await,
                    7 => job.run_now().await.map(drop),
                    8 => scheduler.add(every(SECOND), || async {}).id("c").await.map(drop),
                    _ => scheduler.remove_all().await.map(drop),
                }
            };
            {
                let mut asked = std::pin::pin!(ask(&scheduler));
                for _ in 0..polls {
                    if futures::FutureExt::now_or_never(asked.as_mut()).is_some() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            let again = ask(&scheduler).await;
            let fine = match &again {
                Ok(()) => true,
                // The dropped call may have taken effect.
                Err(error) => {
                    error.is_duplicate_id() && verb == 8 || error.is_overlap() && verb == 7
                }
            };
            assert!(fine, "verb {verb} after {polls} polls: {again:?}");
            // The dropped call leaves no id reserved.
            for id in ["job", "new", "a", "b", "spare"] {
                let add = scheduler.add(every(SECOND), remember("last")).id(id);
                let added = add.on_conflict(OnConflict::Replace).await;
                assert!(added.is_ok(), "{id} after verb {verb} and {polls} polls: {added:?}");
            }
            notes.clear();
            sleep(SECOND * 10).await;
            let last = notes.all().iter().filter(|ran| ran.text == "last").count();
            assert!(last >= 5 * 9, "verb {verb}, {polls} polls: {last} of 50 runs");
            assert_eq!(notes.len(), last, "verb {verb}, {polls} polls: others run, too");
            let end = timeout(SECOND * 20, job).await;
            assert!(end.is_ok(), "verb {verb}, {polls} polls: the handle never resolves");
            let report = timeout(SECOND * 60, scheduler.shutdown()).await;
            assert!(report.is_ok());
            let open = rows(&memory).await.into_iter().filter(|row| row.state.is_open()).count();
            let there = memory.list(RecordFilter::default(), None, 100).await.unwrap().records;
            let due = rows(&memory).await;
            let taken = due.iter().filter(|row| matches!(row.state, RowState::Claimed(_))).count();
            assert_eq!(taken, 0, "verb {verb}, {polls} polls; {open} open, {} jobs", there.len());
        }
    }
}
