//! What is done to jobs while their instructions are counted.
//!
//! On one thread and in paused time, so that it is the same each time.

use std::{hint::black_box, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use chrono_tz::America::New_York;
use punctual::{
    JobHandle, Scheduler,
    trigger::{Cron, IntoTrigger, after, cron, every},
};
use tokio::runtime::{Builder, Runtime};

use crate::common::{Tally, counted, floor::hours_away, jobs, seen_to};

/// A name, and what prepares something for so many jobs and does it in [`measured`].
pub(crate) type Case = (&'static str, fn(usize));

pub(crate) const CASES: [Case; 9] = [
    ("add", add),
    ("add_all", add_all),
    ("add a cron job", add_cron),
    ("fire a job that runs once", fire_once),
    ("fire a job that recurs", fire_recurring),
    ("cancel by token", cancel),
    ("remove by handle", remove),
    ("next fire of a cron", next_fire),
    ("parse a cron", parse),
];

/// Where these are, for callgrind: it counts only what happens in here.
pub(crate) const MEASURED: &str = "*measure::instructions::measured*";

#[inline(never)]
fn measured<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

const PATTERN: &str = "0 9 * * MON-FRI";

fn add(size: usize) {
    let (runtime, scheduler) = paused();
    let tally = Tally::new(size);
    measured(|| {
        runtime.block_on(async {
            for job in jobs(size) {
                let added = counted(&scheduler, after(hours_away(job)), &tally, job).await;
                added.expect("nothing is wrong with the job");
            }
            seen_to(&scheduler).await;
        });
    });
}

fn add_cron(size: usize) {
    let (runtime, scheduler) = paused();
    let tally = Tally::new(size);
    measured(|| {
        runtime.block_on(async {
            for job in jobs(size) {
                let added = counted(&scheduler, cron(PATTERN).in_tz(New_York), &tally, job).await;
                added.expect("nothing is wrong with the job");
            }
            seen_to(&scheduler).await;
        });
    });
}

fn add_all(size: usize) {
    let (runtime, scheduler) = paused();
    let tally = Tally::new(size);
    measured(|| runtime.block_on(add_jobs(&scheduler, size, &tally, |job| after(hours_away(job)))));
}

fn fire_once(size: usize) {
    fire(size, |_| after(hours_away(0)));
}

fn fire_recurring(size: usize) {
    fire(size, |_| every(hours_away(0)));
}

/// Fires all jobs once, at one instant.
fn fire<T: IntoTrigger>(size: usize, trigger: impl Fn(u32) -> T) {
    let (runtime, scheduler) = paused();
    let tally = Tally::new(size);
    runtime.block_on(async {
        drop(add_jobs(&scheduler, size, &tally, trigger).await);
        // Less than any patience, which is measured in paused time too.
        tokio::time::sleep(hours_away(0) - Duration::from_secs(1)).await;
    });
    measured(|| {
        runtime.block_on(async {
            tally.all().await;
            seen_to(&scheduler).await;
        });
    });
    tally.check();
}

fn cancel(size: usize) {
    let (runtime, scheduler) = paused();
    let handles = far_jobs(&runtime, &scheduler, size);
    let tokens: Vec<_> = handles.iter().map(JobHandle::cancel_token).collect();
    runtime.block_on(seen_to(&scheduler));
    measured(|| {
        tokens.iter().for_each(|token| token.cancel());
        runtime.block_on(seen_to(&scheduler));
    });
    assert!(scheduler.is_empty());
}

fn remove(size: usize) {
    let (runtime, scheduler) = paused();
    let handles = far_jobs(&runtime, &scheduler, size);
    measured(|| {
        runtime.block_on(async {
            for handle in &handles {
                handle.remove().await.expect("the job is there");
            }
            seen_to(&scheduler).await;
        });
    });
    assert!(scheduler.is_empty());
}

fn next_fire(calls: usize) {
    let trigger = cron(PATTERN).in_tz(New_York).into_trigger().expect("the pattern is valid");
    let mut t = "2026-11-20T00:00:00Z".parse::<DateTime<Utc>>().expect("an instant");
    measured(|| {
        for _ in 0..calls {
            t = trigger.next_after(t).expect("a cron knows").expect("there is always another");
        }
    });
}

fn parse(times: usize) {
    measured(|| {
        for _ in 0..times {
            black_box(Cron::parse(black_box(PATTERN)).expect("the pattern is valid"));
        }
    });
}

/// A scheduler on one thread, in paused time.
fn paused() -> (Runtime, Scheduler) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime needs nothing");
    let scheduler = runtime.block_on(async {
        let scheduler = Scheduler::new();
        seen_to(&scheduler).await;
        scheduler
    });
    (runtime, scheduler)
}

fn far_jobs(runtime: &Runtime, scheduler: &Scheduler, size: usize) -> Vec<JobHandle> {
    let trigger = |job| after(hours_away(job));
    runtime.block_on(add_jobs(scheduler, size, &Tally::new(size), trigger))
}

/// Adds the jobs, and waits until their timers are set.
async fn add_jobs<T: IntoTrigger>(
    scheduler: &Scheduler,
    size: usize,
    tally: &Arc<Tally>,
    trigger: impl Fn(u32) -> T,
) -> Vec<JobHandle> {
    let all = jobs(size).map(|job| counted(scheduler, trigger(job), tally, job));
    let handles = scheduler.add_all(all).await.expect("nothing is wrong with the jobs");
    seen_to(scheduler).await;
    handles
}
