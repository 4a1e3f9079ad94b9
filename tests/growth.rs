//! A million finished one-shots leave nothing behind.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use peak_alloc::PeakAlloc;
use punctual::{End, Scheduler, trigger::after};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// The counter is the process's: one test at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

static RUNS: AtomicUsize = AtomicUsize::new(0);

#[tokio::test(start_paused = true)]
async fn a_million_finished_one_shots_without_growth() {
    const ROUND: usize = 50_000;
    let _alone = ALONE.lock().await;
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
            // Some handles have tokens and streams that are never used.
            drop((handle.cancel_token(), handle.runs()));
        }
        for handle in handles {
            handle.await;
        }
    };
    // Listeners come and go while nothing else happens.
    let before = ALLOCATED.current_usage();
    let far = scheduler.add(after(Duration::from_secs(86_400)), || async {}).await.unwrap();
    for _ in 0..20_000 {
        drop((scheduler.events(), far.runs()));
    }
    far.remove().await.unwrap();
    let grown = ALLOCATED.current_usage() - before;
    assert!(grown < 50_000, "{grown} bytes for listeners that are gone");
    let before = ALLOCATED.current_usage();
    for n in 0..20 {
        round(n).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = ALLOCATED.current_usage();
    assert_eq!(RUNS.load(Ordering::Relaxed), 20 * ROUND);
    // A round takes 15 MB; only buffers for a batch of runs are kept.
    assert!(after < before + 250_000, "{before} bytes, and {after} after a million jobs");
    assert!(scheduler.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_burst_is_given_back_and_the_rest_still_fires() {
    let _alone = ALONE.lock().await;
    let scheduler = Scheduler::new();
    scheduler.add(after(Duration::from_secs(1)), || async {}).await.unwrap().await;
    let before = ALLOCATED.current_usage();
    let burst = (0..100_000).map(|n| {
        let job = scheduler.add(after(Duration::from_secs(3600 + n)), || async {});
        job.id(format!("job-{n}"))
    });
    let mut burst = scheduler.add_all(burst).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let most = ALLOCATED.current_usage() - before;
    let rest = burst.split_off(99_900);
    for job in burst {
        job.remove().await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let left = ALLOCATED.current_usage().saturating_sub(before);
    assert!(
        left < most / 50,
        "{left} of {most} bytes are left of a burst of which a thousandth is"
    );
    for job in rest {
        assert!(matches!(job.await, End::Completed));
    }
}
