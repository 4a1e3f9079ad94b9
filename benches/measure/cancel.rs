//! Cancelling jobs that are hours away, by their tokens and by their handles.
//!
//! Timed to the last call's return, from when on nothing can start, and on until no job is left and
//! no timer is set.

use std::time::Instant;

use punctual::{JobHandle, Scheduler, trigger::after};
use tokio::runtime::Runtime;

use crate::common::{
    Tally, counted, emptied,
    floor::{self, Floor, hours_away},
    jobs,
    race::{Contender, Stopwatch, Took},
    seen_to, stop,
};

pub(crate) const TOKEN: &str = "token.cancel(), until none is left";
pub(crate) const TOKEN_DISARMED: &str = "token.cancel(), until none is set";
pub(crate) const HANDLE: &str = "handle.remove().await";
pub(crate) const HANDLE_DISARMED: &str = "handle.remove(), until none is set";

pub(crate) fn contenders(runtime: &Runtime) -> Vec<Contender<'_>> {
    vec![
        Contender::new(&["floor: told and removed"], |size| runtime.block_on(floor(size))),
        Contender::new(&["  DelayQueue::remove alone"], |size| runtime.block_on(queue(size))),
        Contender::new(
            &["cancel_token(), first asked for", "token.cancel()", TOKEN, TOKEN_DISARMED],
            |size| runtime.block_on(by_token(size)),
        ),
        Contender::new(&[HANDLE, HANDLE_DISARMED], |size| runtime.block_on(by_handle(size))),
        Contender::new(&["remove_all().await"], |size| runtime.block_on(at_once(size))),
    ]
}

async fn floor(size: usize) -> Vec<Took> {
    let floor = Floor::spawn(Tally::new(size));
    for job in jobs(size) {
        floor.add(job, Instant::now() + hours_away(job));
    }
    assert_eq!(floor.count().await, size);
    let watch = Stopwatch::start();
    for job in jobs(size) {
        floor.remove(job);
    }
    assert_eq!(floor.count().await, 0);
    let took = watch.read();
    floor.stop().await;
    vec![took]
}

async fn queue(size: usize) -> Vec<Took> {
    let (mut queue, keys) = floor::filled(size, |job| Instant::now() + hours_away(job));
    let watch = Stopwatch::start();
    for key in &keys {
        queue.remove(key);
    }
    let took = watch.read();
    assert!(queue.is_empty());
    vec![took]
}

async fn by_token(size: usize) -> Vec<Took> {
    let (scheduler, handles) = far_jobs(size).await;
    let watch = Stopwatch::start();
    let tokens: Vec<_> = handles.iter().map(JobHandle::cancel_token).collect();
    let asked = watch.read();
    seen_to(&scheduler).await;
    let watch = Stopwatch::start();
    for token in &tokens {
        token.cancel();
    }
    let cancelled = watch.read();
    emptied(&scheduler);
    let gone = watch.read();
    seen_to(&scheduler).await;
    let disarmed = watch.read();
    stop(scheduler).await;
    vec![asked, cancelled, gone, disarmed]
}

async fn by_handle(size: usize) -> Vec<Took> {
    let (scheduler, handles) = far_jobs(size).await;
    let watch = Stopwatch::start();
    for handle in &handles {
        handle.remove().await.expect("the job is there");
    }
    let removed = watch.read();
    assert!(scheduler.is_empty());
    seen_to(&scheduler).await;
    let disarmed = watch.read();
    stop(scheduler).await;
    vec![removed, disarmed]
}

async fn at_once(size: usize) -> Vec<Took> {
    let (scheduler, _handles) = far_jobs(size).await;
    let watch = Stopwatch::start();
    let removed = scheduler.remove_all().await.expect("the scheduler is open");
    let took = watch.read();
    assert_eq!(removed, size);
    stop(scheduler).await;
    vec![took]
}

async fn far_jobs(size: usize) -> (Scheduler, Vec<JobHandle>) {
    let (scheduler, tally) = (Scheduler::new(), Tally::new(size));
    let all = jobs(size).map(|job| counted(&scheduler, after(hours_away(job)), &tally, job));
    let handles = scheduler.add_all(all).await.expect("nothing is wrong with the jobs");
    seen_to(&scheduler).await;
    (scheduler, handles)
}
