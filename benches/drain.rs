//! How fast are jobs run that are all due at one instant, and are all of them run?
//!
//! Timed from that instant to the end of the last job's work. Every job is a closure that marks its
//! own place in a tally, so one that is lost or run twice is noticed.

mod common;

use std::time::{Duration, Instant};

use common::{Args, Contender, Tally, both_clocks, counted, floor, jobs, race, stop};
use punctual::{Scheduler, trigger::at};

fn main() {
    let args = Args::parse(&[100, 10_000, 100_000]);
    let runtime = common::runtime();
    let mut floor =
        |size| runtime.block_on(in_time(size, async |lead| floor_drain(size, lead).await));
    let mut ours = |size| runtime.block_on(in_time(size, async |lead| our_drain(size, lead).await));
    race(
        &args,
        "drain: jobs due at one instant, until the last has run; the floor spawns a task for each",
        vec![
            Contender { rows: &["floor"], run: &mut floor },
            Contender { rows: &["punctual", "  and all jobs have ended"], run: &mut ours },
        ],
    );
}

/// Drains as soon as the jobs can all be there by: tries again with more time until they are.
async fn in_time(
    size: usize,
    drain: impl AsyncFn(Duration) -> Option<Vec<Duration>>,
) -> Vec<Duration> {
    let mut lead = Duration::from_millis(20) + Duration::from_micros(2) * size as u32;
    loop {
        if let Some(took) = drain(lead).await {
            return took;
        }
        lead *= 2;
    }
}

/// `None` if the jobs were due before half of the time was left to set their timers in.
async fn our_drain(size: usize, lead: Duration) -> Option<Vec<Duration>> {
    let (scheduler, tally) = (Scheduler::new(), Tally::new(size));
    let (wall, due) = both_clocks(lead);
    let all = jobs(size).map(|job| counted(&scheduler, at(wall), &tally, job));
    drop(scheduler.add_all(all).await.expect("nothing is wrong with the jobs"));
    if Instant::now() + lead / 2 > due {
        return None;
    }
    let last = tally.all().await;
    common::emptied(&scheduler);
    let ended = Instant::now();
    stop(scheduler).await;
    tally.check();
    Some(vec![last - due, ended - due])
}

async fn floor_drain(size: usize, lead: Duration) -> Option<Vec<Duration>> {
    let tally = Tally::new(size);
    let (_, due) = both_clocks(lead);
    let (queue, _) = floor::filled(size, |_| due);
    if Instant::now() + lead / 2 > due {
        return None;
    }
    let driver = tokio::spawn(floor::drive(queue, tally.clone()));
    let last = tally.all().await;
    driver.await.expect("the floor does not panic");
    tally.check();
    Some(vec![last - due])
}
