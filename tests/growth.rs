//! A million finished one-shots leave nothing behind.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicIsize, AtomicUsize, Ordering},
    time::Duration,
};

use punctual::{Scheduler, trigger::after};

/// Counts the bytes that are out.
struct Counting;

static ALLOCATED: AtomicIsize = AtomicIsize::new(0);

// SAFETY: it passes everything on to the system's allocator, and counts besides.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
        for (i, handle) in handles.iter().enumerate() {
            if i % 10 == 0 {
                // Some have what others never ask for.
                drop((handle.cancel_token(), handle.runs()));
            }
        }
        for handle in handles {
            handle.await;
        }
    };
    // The first rounds set the size of the tables.
    round(0).await;
    round(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = ALLOCATED.load(Ordering::Relaxed);
    for n in 2..20 {
        round(n).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let grown = ALLOCATED.load(Ordering::Relaxed) - before;
    assert_eq!(RUNS.load(Ordering::Relaxed), 20 * ROUND);
    assert!(grown < 100_000, "{grown} bytes more after a million jobs");
    assert!(scheduler.is_empty());
}
