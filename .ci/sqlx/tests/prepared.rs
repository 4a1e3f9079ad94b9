//! A job in a transaction of sqlx, on the server that `PUNCTUAL_POSTGRES_URL` names.

use std::time::Duration;

use punctual::{
    Context, End, Scheduler, Task,
    store::{PostgresStore, Store as _},
    trigger::after,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct SendInvoice {
    order: i64,
}

impl Task for SendInvoice {
    const NAME: &'static str = "send-invoice";
    type Output = ();

    async fn run(self, _: Context) {}
}

#[tokio::test]
async fn a_job_exists_when_the_transaction_of_sqlx_commits() {
    let url = std::env::var("PUNCTUAL_POSTGRES_URL").expect("a server is named");
    let store = PostgresStore::builder().url(&url).namespace("sqlx_").connect().await.unwrap();
    let builder = Scheduler::builder().store(store.clone()).task::<SendInvoice>();
    let scheduler = builder.start().await.unwrap();
    let add = scheduler.add(after(Duration::from_millis(1)), SendInvoice { order: 7 });
    let prepared = add.prepare().await.unwrap();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let insert = || sqlx::query(prepared.sql()).bind(prepared.parameter());

    let mut transaction = pool.begin().await.unwrap();
    insert().execute(&mut *transaction).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(store.get(prepared.id().clone()).await.unwrap(), None);

    let mut transaction = pool.begin().await.unwrap();
    insert().execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(60), prepared.handle()).await.unwrap();
    assert!(matches!(end, End::Completed), "{end}");
    scheduler.shutdown().await;
    pool.close().await;
}
