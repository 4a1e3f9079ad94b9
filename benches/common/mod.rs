//! What the benches share: a runtime, jobs that count their runs, and ways to wait for a scheduler.
//!
//! `cargo bench --bench drain -- 1000 1000000 --rounds 3` measures those sizes with so many rounds.
#![allow(dead_code, unused_imports, reason = "each bench uses its part")]

mod args;
pub(crate) mod claims;
pub(crate) mod figures;
pub(crate) mod floor;
pub(crate) mod postgres;
pub(crate) mod race;
mod tally;
pub(crate) mod targets;
pub(crate) mod usage;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, SubsecRound as _, Utc};
use punctual::{Add, Scheduler, trigger::IntoTrigger};
use tokio::runtime::Runtime;

pub(crate) use self::{args::Args, tally::Tally, usage::Usage};

/// What a round may wait for; longer means that something was lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// The runtime that everything is measured on: two workers, and the caller's thread beside them.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be spawned")
}

/// A job that counts its runs in the tally: it captures an `Arc` and a number.
pub(crate) fn counted(
    scheduler: &Scheduler,
    trigger: impl IntoTrigger,
    tally: &Arc<Tally>,
    job: u32,
) -> Add {
    let tally = tally.clone();
    scheduler.add(trigger, move || async move { tally.ran(job) })
}

/// The numbers of so many jobs.
pub(crate) fn jobs(size: usize) -> std::ops::Range<u32> {
    0..u32::try_from(size).expect("at most 4,294,967,295 jobs")
}

/// An instant on both clocks, a whole millisecond of the wall's.
pub(crate) fn both_clocks(lead: Duration) -> (DateTime<Utc>, Instant) {
    let (instant, wall) = (Instant::now(), Utc::now());
    let due = (wall + lead).trunc_subsecs(3);
    (due, instant + (due - wall).to_std().unwrap_or_default())
}

/// Waits until the driver has seen to all that it was told before: it starts runs after that.
pub(crate) async fn seen_to(scheduler: &Scheduler) {
    let job = scheduler.add_once(punctual::trigger::now(), async {}).await;
    job.expect("the scheduler is open").await.expect("its run is not called off");
}

/// Waits until the scheduler has no jobs left.
pub(crate) fn emptied(scheduler: &Scheduler) {
    let start = Instant::now();
    while !scheduler.is_empty() {
        assert!(start.elapsed() < PATIENCE, "{} jobs are left", scheduler.len());
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Stops a scheduler, and sees that no run had to be dropped.
pub(crate) async fn stop(scheduler: Scheduler) {
    let report = scheduler.shutdown().await;
    assert!(report.is_clean(), "{report}");
}
