//! How fast are jobs cancelled, by their tokens and by their handles?
//!
//! Timed to the last call's return, from when on nothing can start, and on until no job is left. What
//! memory comes back is `memory.rs`'s question.

mod common;

use std::time::Instant;

use common::{
    Args, Contender, Tally, counted, emptied,
    floor::{self, Floor, hours_away},
    jobs, race, seen_to, stop,
};
use punctual::{JobHandle, Scheduler, trigger::after};
use tokio::runtime::Runtime;

fn main() {
    let args = Args::parse(&[100, 10_000, 100_000]);
    let runtime = common::runtime();
    let mut floor = |size| {
        runtime.block_on(async {
            let floor = Floor::spawn(Tally::new(size));
            for job in jobs(size) {
                floor.add(job, Instant::now() + hours_away(job));
            }
            assert_eq!(floor.count().await, size);
            let start = Instant::now();
            for job in jobs(size) {
                floor.remove(job);
            }
            assert_eq!(floor.count().await, 0);
            let took = start.elapsed();
            floor.stop().await;
            vec![took]
        })
    };
    let mut queue = |size| {
        runtime.block_on(async {
            let (mut queue, keys) = floor::filled(size, |job| Instant::now() + hours_away(job));
            let start = Instant::now();
            for key in &keys {
                queue.remove(key);
            }
            let took = start.elapsed();
            assert!(queue.is_empty());
            vec![took]
        })
    };
    let mut by_token = |size| {
        let (scheduler, handles) = far_jobs(&runtime, size);
        let start = Instant::now();
        let tokens: Vec<_> = handles.iter().map(JobHandle::cancel_token).collect();
        let asked = start.elapsed();
        runtime.block_on(seen_to(&scheduler));
        let start = Instant::now();
        for token in &tokens {
            token.cancel();
        }
        let cancelled = start.elapsed();
        emptied(&scheduler);
        let gone = start.elapsed();
        runtime.block_on(stop(scheduler));
        vec![asked, cancelled, gone]
    };
    let mut by_handle = |size| {
        let (scheduler, handles) = far_jobs(&runtime, size);
        let took = runtime.block_on(async {
            let start = Instant::now();
            for handle in &handles {
                handle.remove().await.expect("the job is there");
            }
            start.elapsed()
        });
        assert!(scheduler.is_empty());
        runtime.block_on(stop(scheduler));
        vec![took]
    };
    let mut at_once = |size| {
        let (scheduler, _handles) = far_jobs(&runtime, size);
        let start = Instant::now();
        let removed = runtime.block_on(scheduler.remove_all()).expect("the scheduler is open");
        let took = start.elapsed();
        assert_eq!(removed, size);
        runtime.block_on(stop(scheduler));
        vec![took]
    };
    race(
        &args,
        "cancel: jobs hours away; the floor is told to remove each",
        vec![
            Contender { rows: &["floor: told and removed"], run: &mut floor },
            Contender { rows: &["  DelayQueue::remove alone"], run: &mut queue },
            Contender {
                rows: &[
                    "cancel_token(), first asked for",
                    "token.cancel()",
                    "  and no job is left",
                ],
                run: &mut by_token,
            },
            Contender { rows: &["handle.remove().await"], run: &mut by_handle },
            Contender { rows: &["remove_all().await"], run: &mut at_once },
        ],
    );
}

fn far_jobs(runtime: &Runtime, size: usize) -> (Scheduler, Vec<JobHandle>) {
    runtime.block_on(async {
        let (scheduler, tally) = (Scheduler::new(), Tally::new(size));
        let all = jobs(size).map(|job| counted(&scheduler, after(hours_away(job)), &tally, job));
        let handles = scheduler.add_all(all).await.expect("nothing is wrong with the jobs");
        seen_to(&scheduler).await;
        (scheduler, handles)
    })
}
