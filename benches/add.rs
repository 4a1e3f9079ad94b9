//! How fast are jobs added, and are they all there?
//!
//! One-shot closures that capture something, in bulk and one after the other. The floor is sent as
//! many numbers; beside it stands what the `DelayQueue` alone takes to insert them.

mod common;

use std::time::Instant;

use common::{
    Args, Contender, Tally, counted,
    floor::{self, Floor, hours_away},
    jobs, race, seen_to, stop,
};
use punctual::{JobHandle, Scheduler, trigger::after};

fn main() {
    let args = Args::parse(&[100, 10_000, 100_000]);
    let runtime = common::runtime();
    let mut floor = |size| {
        runtime.block_on(async {
            let floor = Floor::spawn(Tally::new(size));
            let start = Instant::now();
            for job in jobs(size) {
                floor.add(job, Instant::now() + hours_away(job));
            }
            assert_eq!(floor.count().await, size);
            let took = start.elapsed();
            floor.stop().await;
            vec![took]
        })
    };
    let mut queue = |size| {
        runtime.block_on(async {
            let start = Instant::now();
            let filled = floor::filled(size, |job| Instant::now() + hours_away(job));
            let took = start.elapsed();
            drop(filled);
            vec![took]
        })
    };
    let mut bulk = |size| {
        runtime.block_on(async {
            let (scheduler, tally) = (Scheduler::new(), Tally::new(size));
            let start = Instant::now();
            let all =
                jobs(size).map(|job| counted(&scheduler, after(hours_away(job)), &tally, job));
            let handles = scheduler.add_all(all).await.expect("nothing is wrong with the jobs");
            let added = start.elapsed();
            seen_to(&scheduler).await;
            let armed = start.elapsed();
            check(scheduler, handles, &tally).await;
            vec![added, armed]
        })
    };
    let mut one_by_one = |size| {
        runtime.block_on(async {
            let (scheduler, tally) = (Scheduler::new(), Tally::new(size));
            let mut handles = Vec::with_capacity(size);
            let start = Instant::now();
            for job in jobs(size) {
                let job = counted(&scheduler, after(hours_away(job)), &tally, job).await;
                handles.push(job.expect("nothing is wrong with the job"));
            }
            let added = start.elapsed();
            seen_to(&scheduler).await;
            let armed = start.elapsed();
            check(scheduler, handles, &tally).await;
            vec![added, armed]
        })
    };
    race(
        &args,
        "add: one-shot closures, hours away; the floor is sent a u32 each",
        vec![
            Contender { rows: &["floor: sent and inserted"], run: &mut floor },
            Contender { rows: &["  DelayQueue::insert alone"], run: &mut queue },
            Contender { rows: &["add_all", "  and their timers are set"], run: &mut bulk },
            Contender {
                rows: &["add().await from block_on", "  and their timers are set"],
                run: &mut one_by_one,
            },
        ],
    );
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
