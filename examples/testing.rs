//! How to test code that schedules: a year of cron in moments, and a manual clock.
//!
//! In a test, `#[tokio::test(start_paused = true)]` does what the attribute of `main` does here.
//! `ManualClock` needs the feature `testing` of punctual: enable it in `[dev-dependencies]`.
//!
//! ```text
//! cargo run --example testing
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use chrono::{DateTime, Datelike as _, Days, NaiveTime, TimeDelta, Utc, Weekday};
use chrono_tz::Europe::Berlin;
use futures::StreamExt as _;
use punctual::{
    BoxError, End, Scheduler,
    testing::ManualClock,
    trigger::{after, cron},
};
use tokio::time::sleep;

const HOUR: Duration = Duration::from_secs(60 * 60);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), BoxError> {
    // Tokio's clock stands still, so this measures real time.
    let real = std::time::Instant::now();
    a_year_of_reports().await?;
    a_reminder_that_is_cancelled().await?;
    the_night_the_clocks_go_forward().await?;
    a_wall_clock_that_is_set_back().await?;
    println!("all as expected, in {:.2?}", real.elapsed());
    Ok(())
}

/// Under paused time, a sleep returns once everything due before it is done, and time jumps.
async fn a_year_of_reports() -> Result<(), BoxError> {
    let scheduler = Scheduler::new();
    let start = Utc::now();
    let mut report = scheduler.add(cron("30 8 * * MON-FRI").in_tz(Berlin), || async {});
    // Created before the job is armed, the stream receives all runs.
    let runs = report.runs();
    let report = report.await?;

    sleep(365 * 24 * HOUR).await;
    report.cancel_token().cancel();
    assert!(matches!(report.await, End::Cancelled));
    let runs: Vec<_> = runs.collect().await;

    for run in &runs {
        let local = run.fire_time.with_timezone(&Berlin);
        assert_eq!(local.time(), NaiveTime::from_hms_opt(8, 30, 0).ok_or("no such time")?);
        assert!(!matches!(local.weekday(), Weekday::Sat | Weekday::Sun));
        assert_eq!(run.late_by, Duration::ZERO);
    }
    for pair in runs.windows(2) {
        // The next weekday, across clock changes.
        let dates =
            [&pair[0], &pair[1]].map(|run| run.fire_time.with_timezone(&Berlin).date_naive());
        let step = if dates[0].weekday() == Weekday::Fri { 3 } else { 1 };
        assert_eq!(dates[0].checked_add_days(Days::new(step)), Some(dates[1]));
    }
    assert!((260..=261).contains(&runs.len()), "{} reports", runs.len());
    println!(
        "{} reports in a year from {}, each at 8:30 in Berlin and on time",
        runs.len(),
        start.date_naive()
    );
    Ok(())
}

/// The usual test: nothing before its time, nothing after its cancellation.
async fn a_reminder_that_is_cancelled() -> Result<(), BoxError> {
    let scheduler = Scheduler::new();
    let sent: [Arc<AtomicBool>; 2] = Default::default();
    let [first, second] = sent.clone();
    scheduler.add_once(after(24 * HOUR), async move { first.store(true, SeqCst) }).await?;
    let handle =
        scheduler.add_once(after(24 * HOUR), async move { second.store(true, SeqCst) }).await?;

    sleep(24 * HOUR - Duration::from_millis(1)).await;
    assert!(!sent[0].load(SeqCst), "not a millisecond early");
    handle.cancel_token().cancel();
    // One millisecond more than necessary, since the order at one instant is not specified.
    sleep(Duration::from_millis(2)).await;
    assert!(sent[0].load(SeqCst), "on the dot");
    assert!(!sent[1].load(SeqCst), "cancelled");
    assert!(handle.await.is_err_and(|error| error.is_cancelled()));
    println!("one reminder was sent after a day, the other was called off in its last millisecond");
    Ok(())
}

/// A date of your choice: on 29 March 2026 there is no 2:30 in Berlin.
async fn the_night_the_clocks_go_forward() -> Result<(), BoxError> {
    let clock = ManualClock::new(instant("2026-03-27T23:00:00Z"));
    let scheduler = Scheduler::builder().clock(clock.clone()).time_zone(Berlin).start().await?;
    let mut backup = scheduler.add(cron("30 2 * * *").times(3), || async {});
    let runs = backup.runs();
    let backup = backup.await?;

    for _ in 0..3 * 24 * 2 {
        clock.advance(HOUR / 2);
        // Lets the scheduler run: everything that comes due in one `advance` comes due together.
        sleep(Duration::from_millis(1)).await;
    }
    assert!(matches!(backup.await, End::Completed));
    let runs: Vec<_> = runs.map(|run| run.fire_time).collect().await;
    assert_eq!(
        runs,
        [
            instant("2026-03-28T01:30:00Z"), // 2:30 in winter
            instant("2026-03-29T01:00:00Z"), // 3:00, the first instant after the gap
            instant("2026-03-30T00:30:00Z"), // 2:30 in summer
        ]
    );
    for run in runs {
        println!("backup at {}", run.with_timezone(&Berlin));
    }
    Ok(())
}

/// Whatever happens to the wall clock, no fire time fires twice.
async fn a_wall_clock_that_is_set_back() -> Result<(), BoxError> {
    let clock = ManualClock::new(instant("2026-06-01T11:30:00Z"));
    let scheduler = Scheduler::builder().clock(clock.clone()).start().await?;
    let mut noon = scheduler.add(cron("0 12 * * *").times(2), || async {});
    let runs = noon.runs();
    noon.await?;

    clock.advance(HOUR);
    sleep(Duration::from_millis(1)).await;
    clock.step(-TimeDelta::hours(1));
    for _ in 0..25 {
        clock.advance(HOUR);
        sleep(Duration::from_millis(1)).await;
    }
    let runs: Vec<_> = runs.map(|run| run.fire_time).collect().await;
    assert_eq!(runs, [instant("2026-06-01T12:00:00Z"), instant("2026-06-02T12:00:00Z")]);
    println!("two noons, although the wall clock passed one of them twice");
    Ok(())
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().expect("the example says instants as RFC 3339 does")
}
