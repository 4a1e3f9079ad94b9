//! Each feature does its work in a user's crate.

use std::time::Duration;

use punctual::{
    Scheduler,
    trigger::{after, every},
};

#[tokio::test]
async fn a_job_in_memory_runs() {
    let scheduler = Scheduler::new();
    let millis = Duration::from_millis(20);
    let job = scheduler.add(every(millis).times(3), || async {}).await.unwrap();
    job.await;
    let answer: u32 = scheduler.add_once(after(millis), async { 42 }).await.unwrap().await.unwrap();
    assert_eq!(answer, 42);
    // On a busy machine fire times may come due together.
    let metrics = scheduler.metrics();
    assert_eq!(metrics.succeeded + metrics.coalesced, 4);
    scheduler.shutdown().await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_task_in_a_file_runs() {
    use outside::Hello;
    use punctual::store::SqliteStore;

    let path = std::env::temp_dir().join(format!("punctual-outside-{}.db", std::process::id()));
    let store = SqliteStore::open(&path).await.unwrap();
    let scheduler = Scheduler::builder().store(store).task::<Hello>().start().await.unwrap();
    let hello = Hello { name: "world".into() };
    scheduler.add(after(Duration::from_millis(20)), hello).await.unwrap().await;
    scheduler.shutdown().await;
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.clone().into_os_string();
        file.push(suffix);
        let _ = std::fs::remove_file(file);
    }
}

#[cfg(feature = "process")]
#[tokio::test]
async fn a_command_runs() {
    let scheduler = Scheduler::new();
    let command = punctual::command("sh", ["-c", "exit 0"]);
    scheduler.add(punctual::trigger::now(), command).await.unwrap().await;
    assert_eq!(scheduler.metrics().succeeded, 1);
    scheduler.shutdown().await;
}

#[cfg(feature = "standalone")]
#[test]
fn a_program_without_async_main_runs_jobs() {
    let scheduler = punctual::BackgroundScheduler::new().unwrap();
    let job = scheduler.add(punctual::trigger::now(), || async {});
    scheduler.block_on(async { Ok(job.await?.await) }).unwrap();
    scheduler.shutdown().unwrap();
}

#[cfg(feature = "testing")]
#[tokio::test]
async fn a_clock_moved_by_hand_fires_jobs() {
    let clock = punctual::testing::ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
    let scheduler = Scheduler::builder().clock(clock.clone()).start().await.unwrap();
    let job = scheduler.add(every(Duration::from_secs(3600)).times(1), || async {}).await.unwrap();
    clock.advance(Duration::from_secs(3600));
    job.await;
    scheduler.shutdown().await;
}
