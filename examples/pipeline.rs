//! A nightly import in miniature: retries, jobs that follow jobs, a limit shared by jobs, blocking
//! work, a named task, and the history afterwards. Takes about two seconds.
//!
//! ```text
//! cargo run --example pipeline
//! ```

use std::time::Duration;

use punctual::{
    BlockingPool, BoxError, Context, Retry, Scheduler, Task, blocking,
    trigger::{after, after_failure, after_success, every},
};
use serde::{Deserialize, Serialize};

const TICK: Duration = Duration::from_millis(100);

/// The shared state of the tasks.
struct Mailer;

/// A task: work with a name and serializable arguments.
#[derive(Serialize, Deserialize)]
struct Tell {
    whom: String,
}

impl Task for Tell {
    const NAME: &'static str = "tell";
    type Output = ();

    async fn run(self, cx: Context) {
        let Mailer = cx.state();
        let why = cx.preceding().map(|import| import.run().outcome.to_string());
        println!("telling {}: import {}", self.whom, why.unwrap_or_default());
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let scheduler = Scheduler::builder()
        .add_executor("crunch", BlockingPool::new(2).thread_name("crunch"))
        .state(Mailer)
        .task::<Tell>()
        .start()
        .await?;

    // The source fails twice before it responds, and hangs now and then: all attempts are one run,
    // for one fire time.
    let fetch = scheduler
        .add(after(TICK), |cx: Context| async move {
            match cx.attempt() {
                1 => Err("connection refused".into()),
                2 => std::future::pending().await,
                _ => Ok::<_, BoxError>(vec![3_u64, 1, 2]),
            }
        })
        .id("fetch")
        .timeout(3 * TICK)
        .retry(Retry::exponential(TICK).max_delay(10 * TICK).jitter().times(4))
        .await?;

    // A blocking step, with the return value of the run that it follows.
    let sort = blocking(|cx: Context| {
        let preceding = cx.preceding().ok_or("this job follows another")?;
        let mut rows = preceding.output::<Vec<u64>>().ok_or("nothing was fetched")?.clone();
        rows.sort_unstable();
        println!("sorted on {:?}: {rows:?}", std::thread::current().name());
        Ok::<_, BoxError>(rows)
    });
    let sort = scheduler.add(after_success(&fetch), sort).id("sort").executor("crunch").await?;
    let done = scheduler.add(after_success(&sort), Tell { whom: "everyone".into() }).await?;
    let failed = scheduler.add(after_failure(&fetch), Tell { whom: "the operator".into() }).await?;

    // Two jobs that together would overload the database.
    for table in ["orders", "invoices"] {
        scheduler
            .add(every(3 * TICK).times(2), async move |_: Context| {
                println!("vacuum of {table} begins");
                tokio::time::sleep(2 * TICK).await;
                println!("vacuum of {table} ends");
            })
            .id(table)
            .group("db", 1)
            .await?;
    }

    for job in [done, failed] {
        job.await;
    }
    for run in scheduler.job("orders").history().await? {
        println!("orders at {}: {}, {:?} late", run.fire_time, run.outcome, run.late_by);
    }
    let metrics = scheduler.metrics();
    println!("{} succeeded, {} attempts failed", metrics.succeeded, metrics.retried);
    println!("{}", scheduler.shutdown().await);
    Ok(())
}
