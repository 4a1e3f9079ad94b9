//! Jobs that the application adds in a transaction of its own.

use std::time::Duration;

use chrono::TimeDelta;
use mysql_async::{TxOpts, prelude::Queryable as _};
use punctual::{
    End, Scheduler,
    store::Store as _,
    trigger::{after, every},
};
use tokio::time::{sleep, timeout};

use crate::{
    fixture::Tables,
    scheduler::{Note, Notes},
};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_job_exists_when_the_transaction_commits() {
    for tables in Tables::on_each() {
        let (store, notes) = (tables.connect().await, Notes::default());
        let builder = Scheduler::builder().store(store.clone()).state(notes.clone());
        let scheduler = builder.task::<Note>().poll_interval(SECOND / 10).start().await.unwrap();
        let add = scheduler.add(after(MILLISECOND * 10), Note("invoice".into())).id("invoice 7");
        let prepared =
            add.name("an 'invoice'").tag("a \"tag\"").recover(true).prepare().await.unwrap();

        let mut application = tables.application().await;
        let mut transaction = application.start_transaction(TxOpts::default()).await.unwrap();
        let parameter = prepared.parameter();
        transaction.exec_drop(prepared.sql(), (parameter,)).await.unwrap();
        assert_eq!(store.get("invoice 7".into()).await.unwrap(), None);
        sleep(MILLISECOND * 400).await;
        transaction.commit().await.unwrap();

        let ended = timeout(SECOND * 60, async {
            loop {
                let rows = store.rows(None, 10).await.unwrap();
                if let Some(row) = rows.into_iter().find(|row| row.started_at.is_some()) {
                    break row;
                }
                sleep(MILLISECOND * 10).await;
            }
        });
        let row = ended.await.unwrap();
        let late = row.started_at.unwrap() - row.fire_time;
        assert!(late >= TimeDelta::milliseconds(380) && late < TimeDelta::seconds(60), "{late}");
        let end = timeout(SECOND * 60, prepared.handle()).await.unwrap();
        assert!(matches!(end, End::Completed), "{end}");
        assert_eq!(notes.all(), ["invoice"]);
        scheduler.shutdown().await;
    }
}

/// The record is the one that `add` writes.
#[tokio::test]
async fn a_prepared_job_is_like_an_added_one() {
    for tables in Tables::on_each() {
        let store = tables.connect().await;
        let builder = Scheduler::builder().store(store.clone()).state(Notes::default());
        let scheduler = builder.task::<Note>().paused().start().await.unwrap();
        let job = |id: &str| {
            let add = scheduler.add(every(SECOND * 3600), Note("x".into())).id(id).jitter(SECOND);
            add.paused()
                .max_instances(3)
                .misfire_grace_time(SECOND * 5)
                .recoveries(7)
                .tag("a")
                .tag("b")
        };
        job("added").await.unwrap();
        let prepared = job("prepared").prepare().await.unwrap();
        let parameter = prepared.parameter();
        tables.application().await.exec_drop(prepared.sql(), (parameter,)).await.unwrap();
        let added = store.get("added".into()).await.unwrap().unwrap();
        let mut record = store.get("prepared".into()).await.unwrap().unwrap();
        assert_eq!((record.version, record.tokens.as_slice().len()), (1, 1));
        record.id = added.id.clone();
        record.incarnation = added.incarnation;
        record.tokens = added.tokens;
        record.added_at = added.added_at;
        record.next_fire = added.next_fire;
        // The grid of the interval starts when the job is added.
        record.trigger = added.trigger.clone();
        assert_eq!(record, added);
        prepared.handle().resume().await.unwrap();
        assert!(!store.get("prepared".into()).await.unwrap().unwrap().paused);
    }
}

#[tokio::test]
async fn a_job_never_existed_if_the_transaction_is_rolled_back() {
    for tables in Tables::on_each() {
        let store = tables.connect().await;
        let builder = Scheduler::builder().store(store.clone()).state(Notes::default());
        let scheduler = builder.task::<Note>().start().await.unwrap();
        let prepared =
            scheduler.add(after(SECOND), Note("x".into())).id("x").prepare().await.unwrap();
        let mut application = tables.application().await;
        let mut transaction = application.start_transaction(TxOpts::default()).await.unwrap();
        let parameter = prepared.parameter();
        transaction.exec_drop(prepared.sql(), (parameter,)).await.unwrap();
        transaction.rollback().await.unwrap();
        assert_eq!(store.get("x".into()).await.unwrap(), None);
        // An id in use fails the statement.
        scheduler.add(every(SECOND * 60), Note("y".into())).id("x").await.unwrap();
        let error = application.exec_drop(prepared.sql(), (parameter,)).await.unwrap_err();
        assert!(matches!(&error, mysql_async::Error::Server(it) if it.code == 1242), "{error}");
    }
}

/// A remembered end makes room for the new job, as it does for one that is added.
#[tokio::test]
async fn a_prepared_job_takes_the_place_of_a_remembered_end() {
    for tables in Tables::on_each() {
        let store = tables.connect().await;
        let builder = Scheduler::builder().store(store.clone()).state(Notes::default());
        let scheduler = builder.task::<Note>().start().await.unwrap();
        let job = scheduler.add(after(MILLISECOND), Note("x".into())).id("x");
        let job = job.on_conflict(punctual::OnConflict::Reconcile);
        assert!(matches!(job.await.unwrap().await, End::Completed));
        assert!(store.get("x".into()).await.unwrap().unwrap().ended_at.is_some());
        let add = scheduler.add(every(SECOND * 3600), Note("ü'\\\"\0".into())).id("x");
        let prepared = add.prepare().await.unwrap();
        let parameter = prepared.parameter();
        let mut application = tables.application().await;
        application.exec_drop(prepared.sql(), (parameter,)).await.unwrap();
        let record = store.get("x".into()).await.unwrap().unwrap();
        assert_eq!((record.ended_at, record.paused_by), (None, None));
        assert_eq!(serde_json::from_str::<Note>(&record.args).unwrap().0, "ü'\\\"\0");
        assert!(record.next_fire.is_some());
    }
}
