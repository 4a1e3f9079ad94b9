//! What a process does while nothing is due: CPU time and wake-ups of all its threads.

use std::time::{Duration, Instant};

use punctual::{Scheduler, trigger::every};
use tokio::runtime::Runtime;

use crate::common::{
    Tally, Usage, counted,
    floor::{self, hours_away},
    jobs, seen_to, stop,
};

/// What the process did per second.
pub(crate) struct Load {
    /// Seconds of a core's time.
    pub(crate) cpu: f64,
    pub(crate) wake_ups: f64,
}

/// A process that has nothing to do but to measure itself.
pub(crate) fn nothing(_: &Runtime, _: usize, window: Duration) -> Load {
    Load::of(window)
}

/// So many recurring jobs, hours away.
pub(crate) fn ours(runtime: &Runtime, size: usize, window: Duration) -> Load {
    let scheduler = runtime.block_on(async {
        let (scheduler, tally) = (Scheduler::new(), Tally::new(size));
        let all = jobs(size).map(|job| counted(&scheduler, every(hours_away(job)), &tally, job));
        drop(scheduler.add_all(all).await.expect("nothing is wrong with the jobs"));
        seen_to(&scheduler).await;
        scheduler
    });
    let load = Load::of(window);
    assert_eq!(scheduler.len(), size);
    runtime.block_on(stop(scheduler));
    load
}

/// So many entries of a `DelayQueue` that is polled.
pub(crate) fn floor(runtime: &Runtime, size: usize, window: Duration) -> Load {
    let queue =
        runtime.block_on(async { floor::filled(size, |job| Instant::now() + hours_away(job)).0 });
    let driver = runtime.spawn(floor::drive(queue, Tally::new(size)));
    let load = Load::of(window);
    driver.abort();
    load
}

impl Load {
    fn of(window: Duration) -> Load {
        // Adding has its aftermath.
        std::thread::sleep(window / 5);
        let (start, before) = (Instant::now(), Usage::now());
        std::thread::sleep(window);
        let (used, took) = (Usage::since(before), start.elapsed().as_secs_f64());
        Load {
            cpu: used.cpu.as_secs_f64() / took,
            // The sleep above is one of them.
            wake_ups: used.wake_ups.saturating_sub(1) as f64 / took,
        }
    }
}
