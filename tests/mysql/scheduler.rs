//! Schedulers on one database.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use punctual::{
    Context, Scheduler, Task,
    store::{FateFilter, Store as _},
    trigger::every,
};

use crate::fixture::Tables;

/// The texts of the runs so far.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Note(pub(crate) String);

impl Notes {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Task for Note {
    const NAME: &'static str = "note";
    type Output = ();

    async fn run(self, cx: Context) {
        cx.state::<Notes>().0.lock().unwrap().push(self.0);
    }
}

#[tokio::test]
async fn two_schedulers_share_the_work() {
    for tables in Tables::on_each() {
        let store = tables.connect().await;
        let notes = [Notes::default(), Notes::default()];
        let mut schedulers = Vec::new();
        for notes in &notes {
            let store = tables.connect().await;
            let builder = Scheduler::builder().store(store).state(notes.clone()).task::<Note>();
            schedulers.push(builder.start().await.unwrap());
        }
        let period = Duration::from_millis(200);
        for number in 0..10 {
            let add = schedulers[0].add(every(period).times(5), Note(format!("job {number}")));
            add.id(format!("job-{number}")).await.unwrap();
        }
        // Real time: the server's clock is no test's.
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if store.list(Default::default(), None, 1).await.unwrap().records.is_empty() {
                break;
            }
        }
        for scheduler in schedulers {
            scheduler.shutdown().await;
        }
        assert!(store.list(Default::default(), None, 1).await.unwrap().records.is_empty());
        let ran: usize = notes.iter().map(|notes| notes.0.lock().unwrap().len()).sum();
        let fates = store.fates(FateFilter::default(), None, 1000).await.unwrap().rows;
        let mut counts = std::collections::BTreeMap::<String, u64>::new();
        for row in &fates {
            if let punctual::store::RowState::Closed(fate) = &row.state {
                *counts.entry(fate.to_string()).or_default() += row.count;
            }
        }
        assert_eq!(counts.get("ran: succeeded"), Some(&(ran as u64)), "{counts:?}");
        // Each fire time has one fate, and each job its end.
        assert_eq!(counts.values().sum::<u64>(), 10 * 5 + 10, "{counts:?}");
        assert_eq!(counts.get("completed"), Some(&10), "{counts:?}");
        assert!(store.nodes().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_views_are_for_people() {
    for tables in Tables::on_each() {
        let store = tables.connect().await;
        let scheduler = Scheduler::builder().store(store.clone()).state(Notes::default());
        let scheduler = scheduler.task::<Note>().start().await.unwrap();
        let add = scheduler.add(every(Duration::from_secs(3600)), Note("x".into()));
        let job = add.id("hourly").await.unwrap();
        job.run_now().await.unwrap();
        for _ in 0..200 {
            let sql = "SELECT state FROM punctual_ledger_view WHERE kind = 'requested'";
            if store.execute(sql).await.unwrap() == ["ran: succeeded"] {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let sql = "SELECT CONCAT(job, ' ', state) FROM punctual_ledger_view";
        assert_eq!(store.execute(sql).await.unwrap(), ["hourly ran: succeeded"]);
        let sql = "SELECT next_fire > UTC_TIMESTAMP() FROM punctual_jobs_view WHERE id = 'hourly'";
        assert_eq!(store.execute(sql).await.unwrap(), ["1"]);
        let sql = "SELECT count(*) FROM punctual_nodes_view WHERE lease_until > UTC_TIMESTAMP()";
        assert_eq!(store.execute(sql).await.unwrap(), ["1"]);
        assert!(store.execute("SELECT `by` FROM punctual_actions_view").await.is_ok());
        scheduler.shutdown().await;
    }
}
