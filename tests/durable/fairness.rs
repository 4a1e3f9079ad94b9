//! One job, or one store, does not stall the others.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use punctual::{
    Coalesce, Context, Overlap, Scheduler, Task,
    store::MemoryStore,
    testing::{Fault, FaultyStore, Operation},
    trigger::{after, every},
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::tasks::{Lasting, Notes, on, remember};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
/// A closure that starts this late was stalled by a fault, not by a busy machine.
const STALL: Duration = Duration::from_secs(1);

/// Returns the greatest lateness so far of a closure that runs fifty times a second.
async fn watch_lateness(scheduler: &Scheduler) -> Arc<Mutex<Duration>> {
    let late = Arc::new(Mutex::new(Duration::ZERO));
    let worst = late.clone();
    let tick = move |cx: Context| {
        let worst = worst.clone();
        async move {
            let mut worst = worst.lock().unwrap();
            *worst = (*worst).max(cx.late_by());
        }
    };
    scheduler.add(every(Duration::from_millis(20)), tick).await.unwrap();
    late
}

#[tokio::test(start_paused = true)]
async fn arguments_that_panic_block_no_other_job() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).task::<Poison>().start().await.unwrap();
    scheduler.add(every(SECOND), remember("fine")).id("fine").await.unwrap();
    drop(scheduler.add(every(SECOND), Poison { n: 1 }).id("poison").await);
    sleep(SECOND * 60).await;
    assert!(notes.len() >= 55, "{} runs in a minute", notes.len());
}

/// Its arguments panic when they are read.
#[derive(Serialize, Deserialize, Clone)]
#[serde(from = "u64", into = "u64")]
struct Poison {
    n: u64,
}

impl From<u64> for Poison {
    fn from(_: u64) -> Poison {
        panic!("poison")
    }
}

impl From<Poison> for u64 {
    fn from(it: Poison) -> u64 {
        it.n
    }
}

impl Task for Poison {
    const NAME: &'static str = "poison";
    type Output = ();
    async fn run(self, _: Context) {}
}

// In real time, because the test measures how long the machine takes.
#[tokio::test]
async fn many_handles_do_not_stall_the_driver() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let jobs: Vec<_> =
        (0..100_000).map(|_| scheduler.add(after(SECOND * 86_400), remember("far"))).collect();
    let handles = scheduler.add_all(jobs).await.unwrap();
    sleep(SECOND * 2).await;
    let late = watch_lateness(&scheduler).await;
    sleep(SECOND * 12).await;
    let worst = *late.lock().unwrap();
    assert!(worst < STALL, "a closure was {worst:?} late since 100,000 handles are held");
    drop(handles);
}

// In real time, because the test measures how long the machine takes.
#[tokio::test]
async fn outcomes_that_can_not_be_stored_do_not_stall_other_jobs() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let faulty = FaultyStore::new(store.clone());
    let scheduler = on(&faulty, &notes).start().await.unwrap();
    let late = watch_lateness(&scheduler).await;
    for n in 0..10 {
        scheduler
            .add(every(Duration::from_millis(1)), remember("x"))
            .id(format!("{n}"))
            .max_instances(10)
            .await
            .unwrap();
    }
    sleep(SECOND * 3).await;
    let before = std::mem::take(&mut *late.lock().unwrap());
    faulty.set(Operation::Finish, Fault::Unavailable);
    sleep(SECOND * 13).await;
    let worst = *late.lock().unwrap();
    assert!(worst < STALL, "a closure was {worst:?} late, before that {before:?}");
}

// In real time, because the test measures how long the machine takes.
#[tokio::test]
async fn a_job_of_every_millisecond_claimed_a_minute_ahead_does_not_stall_others() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).claim_ahead(SECOND * 60).start().await.unwrap();
    scheduler.add(every(Duration::from_millis(1)), remember("x")).id("fast").await.unwrap();
    let late = watch_lateness(&scheduler).await;
    sleep(SECOND * 8).await;
    let worst = *late.lock().unwrap();
    assert!(worst < STALL, "a closure was {worst:?} late");
}

/// Three jobs catch up on ten thousand runs each, one run after the other.
#[tokio::test(start_paused = true)]
async fn a_backlog_of_some_jobs_does_not_stall_the_others() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).paused().start().await.unwrap();
    for n in 0..3 {
        let add = scheduler.add(every(SECOND), Lasting(2_000)).id(format!("backlog {n}"));
        add.coalesce(Coalesce::All).max_catch_up(10_000).await.unwrap();
    }
    // Three hours of pause.
    sleep(SECOND * 10_800).await;
    scheduler.resume().await.unwrap();
    scheduler.add(every(SECOND), remember("tick")).id("tick").await.unwrap();
    sleep(SECOND * 600).await;
    let ticks = notes.all().iter().filter(|ran| ran.text == "tick").count();
    assert!(ticks > 590, "in ten minutes a job of every second ran {ticks} times");
}

#[tokio::test(start_paused = true)]
async fn a_long_queue_of_one_job_does_not_stall_the_others() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let add = scheduler.add(every(MILLISECOND * 10), Lasting(3_600_000)).id("queue");
    add.overlap(Overlap::Queue(100_000)).await.unwrap();
    scheduler.add(every(SECOND), remember("tick")).id("tick").await.unwrap();
    sleep(SECOND * 300).await;
    notes.clear();
    sleep(SECOND * 300).await;
    assert!(notes.len() > 290, "in five minutes a job of every second ran {} times", notes.len());
}
