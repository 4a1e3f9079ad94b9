//! A million finished one-shots leave nothing behind.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use peak_alloc::PeakAlloc;
use punctual::{Scheduler, trigger::after};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

static RUNS: AtomicUsize = AtomicUsize::new(0);

#[tokio::test(start_paused = true)]
async fn a_million_finished_one_shots_without_growth() {
    const ROUND: usize = 50_000;
    let scheduler = Scheduler::new();
    let round = async |n: u64| {
        let jobs = (0..ROUND).map(|i| {
            let delay = Duration::from_millis((i % 100) as u64);
            scheduler.add(after(delay), move || async move {
                RUNS.fetch_add(1, Ordering::Relaxed);
                std::hint::black_box((i, n));
            })
        });
        let handles = scheduler.add_all(jobs).await.unwrap();
        for handle in handles.iter().step_by(10) {
            // Some have what others never ask for.
            drop((handle.cancel_token(), handle.runs()));
        }
        for handle in handles {
            handle.await;
        }
    };
    // Listeners that come and go while nothing else happens.
    let before = ALLOCATED.current_usage();
    let far = scheduler.add(after(Duration::from_secs(86_400)), || async {}).await.unwrap();
    for _ in 0..20_000 {
        drop((scheduler.events(), far.runs()));
    }
    far.remove().await.unwrap();
    let grown = ALLOCATED.current_usage() - before;
    assert!(grown < 50_000, "{grown} bytes for listeners that are gone");
    // The first rounds set the size of the tables.
    round(0).await;
    round(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = ALLOCATED.current_usage();
    for n in 2..20 {
        round(n).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = ALLOCATED.current_usage();
    assert_eq!(RUNS.load(Ordering::Relaxed), 20 * ROUND);
    assert!(after < before + 100_000, "{before} bytes, and {after} after a million jobs");
    assert!(scheduler.is_empty());
}
