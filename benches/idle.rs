//! What do recurring jobs cost that are hours away?
//!
//! CPU time and wake-ups of the whole process, read from `/proc/self` over a few seconds in which
//! nothing is due. A wake-up is a voluntary context switch of a thread.

mod common;

use std::time::{Duration, Instant};

use common::{
    Args, Tally, counted,
    floor::{self, hours_away},
    grouped, jobs, seen_to, stop,
};
use punctual::{Scheduler, trigger::every};

/// Puts so many jobs in place and watches what they cost for so long.
type Measure = fn(usize, Duration) -> Load;

fn main() {
    let args = Args::parse(&[100, 100_000]);
    if Usage::now().is_none() {
        println!("idle: this system has no /proc/self to read");
        return;
    }
    let window = if args.test { Duration::from_millis(50) } else { Duration::from_secs(5) };
    println!(
        "\nidle: recurring jobs, hours away, over {window:?}; the floor is a polled DelayQueue"
    );
    println!("{:>11}  {:<10} {:>12} {:>14}", "jobs", "", "CPU", "wake-ups");
    println!("{:>11}  {:<10} {:>12} {:>14}", "", "", "% of a core", "per second");
    for &size in &args.sizes {
        let contenders: [(&str, Measure); 3] =
            [("nothing", no_load), ("floor", floor_load), ("punctual", our_load)];
        for (what, load) in contenders.into_iter().filter(|(what, _)| args.wants(what)) {
            let Load { cpu, wake_ups } = load(size, window);
            let size = grouped(size);
            println!("{size:>11}  {what:<10} {:>12.4} {wake_ups:>14.1}", cpu * 100.0);
        }
    }
}

fn no_load(_: usize, window: Duration) -> Load {
    Load::of(window)
}

fn our_load(size: usize, window: Duration) -> Load {
    let runtime = common::runtime();
    let (scheduler, tally) = runtime.block_on(async {
        let (scheduler, tally) = (Scheduler::new(), Tally::new(size));
        let all = jobs(size).map(|job| counted(&scheduler, every(hours_away(job)), &tally, job));
        drop(scheduler.add_all(all).await.expect("nothing is wrong with the jobs"));
        seen_to(&scheduler).await;
        (scheduler, tally)
    });
    let load = Load::of(window);
    assert_eq!(scheduler.len(), size);
    drop(tally);
    runtime.block_on(stop(scheduler));
    load
}

fn floor_load(size: usize, window: Duration) -> Load {
    let runtime = common::runtime();
    let queue =
        runtime.block_on(async { floor::filled(size, |job| Instant::now() + hours_away(job)).0 });
    let driver = runtime.spawn(floor::drive(queue, Tally::new(size)));
    let load = Load::of(window);
    driver.abort();
    load
}

/// What the process did per second.
struct Load {
    cpu: f64,
    wake_ups: f64,
}

impl Load {
    fn of(window: Duration) -> Load {
        // Adding has its aftermath.
        std::thread::sleep(window / 5);
        let (start, before) = (Instant::now(), Usage::now());
        std::thread::sleep(window);
        let (after, took) = (Usage::now(), start.elapsed().as_secs_f64());
        let (before, after) = before.zip(after).expect("it could be read a moment ago");
        Load {
            cpu: (after.cpu - before.cpu).as_secs_f64() / took,
            // The sleep above is one of them.
            wake_ups: (after.switches - before.switches).saturating_sub(1) as f64 / took,
        }
    }
}

/// What all threads of the process have used so far.
#[derive(Default)]
struct Usage {
    cpu: Duration,
    switches: u64,
}

impl Usage {
    fn now() -> Option<Usage> {
        let mut usage = Usage::default();
        for thread in std::fs::read_dir("/proc/self/task").ok()? {
            let thread = thread.ok()?.path();
            // utime and stime count ticks of 10 ms; this counts nanoseconds.
            let schedstat = std::fs::read_to_string(thread.join("schedstat")).ok()?;
            usage.cpu += Duration::from_nanos(schedstat.split(' ').next()?.parse().ok()?);
            let status = std::fs::read_to_string(thread.join("status")).ok()?;
            let switches =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            usage.switches += switches.trim().parse::<u64>().ok()?;
        }
        Some(usage)
    }
}
