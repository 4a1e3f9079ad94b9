//! Jobs of every kind on one scheduler: what runs when, how late, and a clean shutdown.
//!
//! Ends after six seconds, or at Ctrl-C.
//!
//! ```text
//! cargo run --example quickstart
//! ```

use std::{fmt::Display, time::Duration};

use chrono::Utc;
use chrono_tz::Europe::Berlin;
use punctual::{
    BoxError, Context, Scheduler,
    trigger::{after, cron, every},
};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let scheduler = Scheduler::new();

    // An interval, and an async fn as its work.
    scheduler.add(every(Duration::from_secs(1)).immediately(), heartbeat).id("heartbeat").await?;

    // Cron, every other second, by the wall clock of a time zone.
    scheduler
        .add(cron("*/2 * * * * *").in_tz(Berlin), |cx: Context| async move {
            let local = cx.fire_time().with_timezone(&Berlin);
            say(&cx, format!("it is {} in Berlin", local.format("%H:%M:%S")));
        })
        .id("chimes")
        .await?;

    // A text is cron, too, in UTC by default. This job is only listed.
    scheduler.add("30 8 * * MON-FRI", report).id("report").name("daily report").await?;

    // Work that takes a while: its last run is active when the scheduler shuts down.
    scheduler
        .add(every(Duration::from_millis(1400)), |cx: Context| async move {
            say(&cx, "uploading");
            sleep(Duration::from_secs(1)).await;
        })
        .id("upload")
        .await?;

    // Polls until its job is cancelled.
    let poll = scheduler
        .add(every(Duration::from_millis(800)), |cx: Context| async move {
            say(&cx, "anything new?");
        })
        .id("poll")
        .await?;

    // Runs once, and returns its value through the handle.
    let warm_up =
        scheduler.add_once(after(Duration::from_millis(2500)), load_cache).id("warm-up").await?;

    for job in scheduler.jobs().await? {
        println!("  {job}");
    }

    let errands = async {
        let entries = warm_up.await?;
        println!("{}  the cache holds {entries} entries", clock());
        poll.cancel_token().cancel();
        println!("{}  poll is {}", clock(), poll.await);
        sleep(Duration::from_millis(3500)).await;
        Ok::<_, BoxError>(())
    };
    tokio::select! {
        done = errands => done?,
        pressed = tokio::signal::ctrl_c() => pressed?,
    }

    println!("{}  shutting down", clock());
    let report = scheduler.shutdown().within(Duration::from_secs(3)).await;
    println!("{}  stopped: {report}", clock());
    for run in &report.finished {
        println!("  {} finished its last run, which took {:.1?}", run.job, run.took);
    }
    Ok(())
}

async fn heartbeat(cx: Context) {
    say(&cx, "alive");
}

async fn report() {
    println!("{}  good morning, here are yesterday's figures", clock());
}

async fn load_cache() -> usize {
    sleep(Duration::from_millis(20)).await;
    4096
}

fn say(cx: &Context, what: impl Display) {
    println!("{}  {:<10} {:>8.2?} late  {what}", clock(), cx.job_id(), cx.late_by());
}

fn clock() -> impl Display {
    Utc::now().format("%H:%M:%S%.3f")
}
