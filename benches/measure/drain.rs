//! Running jobs that are all due at one instant.
//!
//! Timed from that instant to the end of the last job's work. Every job is a closure that marks its
//! own place in a tally, so one that is lost or run twice is noticed.

use std::time::{Duration, Instant};

use punctual::{Scheduler, trigger::at};
use tokio::runtime::Runtime;

use crate::common::{
    Tally, both_clocks, counted, emptied, floor, jobs,
    race::{Contender, Stopwatch, Took},
    seen_to, stop,
};

pub(crate) const OURS: &str = "punctual";

pub(crate) fn contenders(runtime: &Runtime) -> Vec<Contender<'_>> {
    vec![
        Contender::new(&["floor"], |size| {
            runtime.block_on(in_time(size, |lead| floor_drain(size, lead)))
        }),
        Contender::new(&[OURS, "  until all jobs have ended"], |size| {
            runtime.block_on(in_time(size, |lead| our_drain(size, lead)))
        }),
    ]
}

/// Drains as soon as the jobs can all be there by: tries again with more time until they are.
async fn in_time(size: usize, drain: impl AsyncFn(Duration) -> Option<Vec<Took>>) -> Vec<Took> {
    let mut lead = Duration::from_millis(20) + Duration::from_micros(2) * size as u32;
    loop {
        if let Some(took) = drain(lead).await {
            return took;
        }
        lead *= 2;
    }
}

/// `None` if the jobs were due before their timers were set.
async fn our_drain(size: usize, lead: Duration) -> Option<Vec<Took>> {
    let (scheduler, tally) = (Scheduler::new(), Tally::new(size));
    let (wall, due) = both_clocks(lead);
    let all = jobs(size).map(|job| counted(&scheduler, at(wall), &tally, job));
    drop(scheduler.add_all(all).await.expect("nothing is wrong with the jobs"));
    seen_to(&scheduler).await;
    let watch = Stopwatch::start();
    if Instant::now() > due {
        return None;
    }
    let last = tally.all().await;
    let ran = Took { wall: last - due, ..watch.read() };
    emptied(&scheduler);
    let ended = Took { wall: due.elapsed(), ..watch.read() };
    stop(scheduler).await;
    tally.check();
    Some(vec![ran, ended])
}

async fn floor_drain(size: usize, lead: Duration) -> Option<Vec<Took>> {
    let tally = Tally::new(size);
    let (_, due) = both_clocks(lead);
    let (queue, _) = floor::filled(size, |_| due);
    let driver = tokio::spawn(floor::drive(queue, tally.clone()));
    let watch = Stopwatch::start();
    if Instant::now() > due {
        return None;
    }
    let last = tally.all().await;
    let ran = Took { wall: last - due, ..watch.read() };
    driver.await.expect("the floor does not panic");
    tally.check();
    Some(vec![ran])
}
