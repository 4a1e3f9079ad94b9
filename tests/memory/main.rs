//! Jobs in memory through the public API.

mod adding;
mod attempts;
mod bad_input;
mod blocking;
mod clock_set_back;
mod clock_set_forward;
mod clock_steps;
mod combinations;
mod condition;
mod events;
mod following;
mod handles;
mod history;
mod lateness;
mod limits;
mod panics;
mod random_verbs;
mod runtimes;
mod saving;
mod shutdown;
mod tokens;
mod until;
mod within_runs;
mod work;
mod years;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use punctual::{Scheduler, testing::ManualClock};

const SECOND: Duration = Duration::from_secs(1);

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A scheduler on a clock that runs with Tokio's paused time and can be set as well.
async fn scheduler_at(text: &str) -> (ManualClock, Scheduler) {
    let clock = ManualClock::running(instant(text));
    let scheduler = Scheduler::builder().clock(clock.clone()).start().await.unwrap();
    (clock, scheduler)
}

/// A counter, and work that counts.
fn counter() -> (Arc<AtomicUsize>, impl FnOnce() -> std::future::Ready<()> + Clone + Send) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    (count, move || {
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::ready(())
    })
}

fn get(count: &AtomicUsize) -> usize {
    count.load(Ordering::SeqCst)
}
