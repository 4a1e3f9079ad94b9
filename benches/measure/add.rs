//! Adding one-shot closures that capture something, in bulk and one after the other.
//!
//! The floor is sent as many numbers; beside it stands what the `DelayQueue` alone takes to insert
//! them.

use std::time::Instant;

use punctual::{JobHandle, Scheduler, trigger::after};
use tokio::runtime::Runtime;

use crate::common::{
    Tally, counted,
    floor::{self, Floor, hours_away},
    jobs,
    race::{Contender, Stopwatch, Took},
    seen_to, stop,
};

pub(crate) const BULK: &str = "add_all";
pub(crate) const BULK_ARMED: &str = "add_all, until all are set";
pub(crate) const ONE_BY_ONE: &str = "add().await from block_on";
pub(crate) const ONE_BY_ONE_ARMED: &str = "add().await, until all are set";

pub(crate) fn contenders(runtime: &Runtime) -> Vec<Contender<'_>> {
    vec![
        Contender::new(&["floor: sent and inserted"], |size| runtime.block_on(floor(size))),
        Contender::new(&["  DelayQueue::insert alone"], |size| runtime.block_on(queue(size))),
        Contender::new(&[BULK, BULK_ARMED], |size| runtime.block_on(bulk(size))),
        Contender::new(&[ONE_BY_ONE, ONE_BY_ONE_ARMED], |size| runtime.block_on(one_by_one(size))),
    ]
}

async fn floor(size: usize) -> Vec<Took> {
    let floor = Floor::spawn(Tally::new(size));
    let watch = Stopwatch::start();
    for job in jobs(size) {
        floor.add(job, Instant::now() + hours_away(job));
    }
    assert_eq!(floor.count().await, size);
    let took = watch.read();
    floor.stop().await;
    vec![took]
}

async fn queue(size: usize) -> Vec<Took> {
    let watch = Stopwatch::start();
    let filled = floor::filled(size, |job| Instant::now() + hours_away(job));
    let took = watch.read();
    drop(filled);
    vec![took]
}

async fn bulk(size: usize) -> Vec<Took> {
    let (scheduler, tally) = (Scheduler::new(), Tally::new(size));
    let watch = Stopwatch::start();
    let all = jobs(size).map(|job| counted(&scheduler, after(hours_away(job)), &tally, job));
    let handles = scheduler.add_all(all).await.expect("nothing is wrong with the jobs");
    let added = watch.read();
    seen_to(&scheduler).await;
    let armed = watch.read();
    check(scheduler, handles, &tally).await;
    vec![added, armed]
}

async fn one_by_one(size: usize) -> Vec<Took> {
    let (scheduler, tally) = (Scheduler::new(), Tally::new(size));
    let mut handles = Vec::with_capacity(size);
    let watch = Stopwatch::start();
    for job in jobs(size) {
        let job = counted(&scheduler, after(hours_away(job)), &tally, job).await;
        handles.push(job.expect("nothing is wrong with the job"));
    }
    let added = watch.read();
    seen_to(&scheduler).await;
    let armed = watch.read();
    check(scheduler, handles, &tally).await;
    vec![added, armed]
}

/// Sees that each handle leads to a job that can run, and does.
async fn check(scheduler: Scheduler, handles: Vec<JobHandle>, tally: &Tally) {
    assert_eq!(scheduler.len(), handles.len());
    for handle in &handles {
        handle.run_now().await.expect("a job that was added can run");
    }
    tally.all().await;
    drop(handles);
    stop(scheduler).await;
    tally.check();
}
