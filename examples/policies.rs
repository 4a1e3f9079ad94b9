//! The fate of each fire time under the policies: grace, coalescing, overlap, jitter, priority.
//!
//! Times are seconds since the start of each act. Takes about three seconds.
//!
//! ```text
//! cargo run --example policies
//! ```

use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use punctual::{
    BoxError, Coalesce, Event, EventPayload, FireTimes, Scheduler,
    trigger::{at, every},
};
use tokio::{task::JoinHandle, time::sleep};

const PERIOD: Duration = Duration::from_millis(200);

// On one thread, runs begin in the order in which they are started, which the last act shows.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    outage().await?;
    overlap().await?;
    jitter().await?;
    priority().await?;
    Ok(())
}

/// The scheduler is paused from 0.3 to 1.3: five fire times of each job come due together.
async fn outage() -> Result<(), BoxError> {
    let act = Act::begin("every 0.2 s, and the scheduler is paused from 0.3 to 1.3").await?;
    let ticks = every(PERIOD).starting_at(act.start).times(7);

    let scheduler = &act.scheduler;
    // One run, for the latest fire time.
    scheduler.add(ticks.clone(), || async {}).id("latest").coalesce(Coalesce::Latest).await?;
    // One run, for the first fire time within grace; earlier ones are missed.
    scheduler
        .add(ticks.clone(), || async {})
        .id("earliest")
        .coalesce(Coalesce::Earliest)
        .misfire_grace_time(Duration::from_millis(600))
        .await?;
    // One run each, for the newest three.
    scheduler
        .add(ticks.clone(), || async {})
        .id("all")
        .coalesce(Coalesce::All)
        .max_catch_up(3)
        .await?;
    // One run for the latest fire time, but it is 0.1 s late, and the grace time is 0.05 s.
    scheduler
        .add(ticks, || async {})
        .id("strict")
        .misfire_grace_time(Duration::from_millis(50))
        .await?;

    act.reach(300).await;
    scheduler.pause().await?;
    act.reach(1300).await;
    scheduler.resume().await?;
    act.end().await
}

/// Work that takes longer than its period.
async fn overlap() -> Result<(), BoxError> {
    let act = Act::begin("every 0.2 s, and each run takes 0.3 s").await?;
    let ticks = || every(PERIOD).starting_at(act.start).times(4);
    let slow = || sleep(Duration::from_millis(300));

    act.scheduler.add(ticks(), slow).id("one").await?;
    act.scheduler.add(ticks(), slow).id("two").max_instances(2).await?;
    act.end().await
}

/// Starts are spread; fire times are unchanged.
async fn jitter() -> Result<(), BoxError> {
    let act = Act::begin("every 0.2 s, with up to 0.15 s of jitter").await?;
    let ticks = every(PERIOD).starting_at(act.start).times(4);
    act.scheduler.add(ticks, || async {}).id("spread").jitter(Duration::from_millis(150)).await?;
    act.end().await
}

/// Three jobs are due at the same instant.
async fn priority() -> Result<(), BoxError> {
    let act = Act::begin("all at once, by priority").await?;
    for (id, priority) in [("whenever", -1), ("normal", 0), ("urgent", 9)] {
        act.scheduler.add(at(act.start), || async {}).id(id).priority(priority).await?;
    }
    act.end().await
}

/// A scheduler and its events.
struct Act {
    scheduler: Scheduler,
    start: DateTime<Utc>,
    listener: JoinHandle<()>,
}

impl Act {
    async fn begin(title: &str) -> Result<Act, BoxError> {
        println!("\n{title}");
        let scheduler = Scheduler::new();
        // A moment from now, so that all jobs are added before.
        let start = (Utc::now() + TimeDelta::milliseconds(50))
            .duration_trunc(TimeDelta::milliseconds(10))?;
        let mut events = scheduler.events();
        let listener = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let Some(line) = describe(&event, start) {
                    println!("{line}");
                }
            }
        });
        Ok(Act { scheduler, start, listener })
    }

    /// Waits until this number of milliseconds after the start.
    async fn reach(&self, millis: i64) {
        let wait = self.start + TimeDelta::milliseconds(millis) - Utc::now();
        sleep(wait.to_std().unwrap_or_default()).await;
    }

    /// Waits for the end of all jobs, and for the listener's last event.
    async fn end(self) -> Result<(), BoxError> {
        while !self.scheduler.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        self.scheduler.shutdown().await;
        // The stream ends with the scheduler.
        Ok(self.listener.await?)
    }
}

/// The line for an event with the fate of a fire time.
fn describe(event: &Event, start: DateTime<Utc>) -> Option<String> {
    let seconds = |t: DateTime<Utc>| (t - start).as_seconds_f64();
    let stretch = |times: &FireTimes| match times.count {
        1 => format!("{:.1}", seconds(times.first)),
        _ => format!("{:.1} to {:.1}", seconds(times.first), seconds(times.last)),
    };
    let fate = match &event.payload {
        EventPayload::Paused => "the scheduler is paused".into(),
        EventPayload::Resumed => "the scheduler is resumed".into(),
        EventPayload::Executed(run) => {
            let started = seconds(run.started_at?);
            format!(
                "{:<10} ran for {:.1}, started at {started:.3}",
                run.job,
                seconds(run.fire_time)
            )
        }
        EventPayload::Coalesced { job, fire_times, into } => {
            format!("{job:<10} coalesced {} into {:.1}", stretch(fire_times), seconds(*into))
        }
        EventPayload::Missed { job, fire_times, .. } => {
            format!("{job:<10} missed {}", stretch(fire_times))
        }
        EventPayload::Skipped { job, fire_times, reason, .. } => {
            format!("{job:<10} skipped {}: {reason}", stretch(fire_times))
        }
        _ => return None,
    };
    Some(format!("  {:6.3}  {fate}", seconds(event.at)))
}
