//! When runs start: by the clock, however it is set, within their grace, before their end, and
//! although their job is saved again.

mod clock_set_back;
mod clock_set_forward;
mod lateness;
mod saving;
mod until;

use std::time::Duration;

use chrono::{DateTime, Utc};
use punctual::{Scheduler, testing::ManualClock};

const SECOND: Duration = Duration::from_secs(1);

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A scheduler on a clock that runs with Tokio's paused time and can be set besides.
async fn scheduler_at(text: &str) -> (ManualClock, Scheduler) {
    let clock = ManualClock::running(instant(text));
    let scheduler = Scheduler::builder().clock(clock.clone()).start().await.unwrap();
    (clock, scheduler)
}
