//! What does a job weigh, and is its memory given back?
//!
//! Bytes that the allocator has handed out, counted, so that neither pages nor fragments blur them.

mod common;

use std::time::{Duration, Instant};

use common::{
    Args, Tally, both_clocks, counted, emptied,
    floor::{Floor, hours_away},
    grouped, jobs, seen_to, stop,
};
use peak_alloc::PeakAlloc;
use punctual::{
    Add, JobHandle, Scheduler,
    trigger::{after, at},
};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

fn main() {
    let args = Args::parse(&[100, 10_000, 100_000]);
    let runtime = common::runtime();
    println!("\nmemory: one-shot closures that capture an `Arc` and a `u32`; bytes per job");
    println!("{:>11}  {:<44} {:>10}", "jobs", "", "B/job");
    for &size in &args.sizes {
        let bench = Bench { runtime: &runtime, size };
        bench.floor();
        bench.plain();
        bench.named();
        bench.handles_and_tokens();
        bench.removed();
        bench.ran();
    }
}

struct Bench<'a> {
    runtime: &'a Runtime,
    size: usize,
}

impl Bench<'_> {
    fn floor(&self) {
        self.runtime.block_on(async {
            let tally = Tally::new(self.size);
            let before = ALLOCATOR.current_usage();
            let floor = Floor::spawn(tally);
            for job in jobs(self.size) {
                floor.add(job, Instant::now() + hours_away(job));
            }
            assert_eq!(floor.count().await, self.size);
            self.print("floor: job", before);
            for job in jobs(self.size) {
                floor.remove(job);
            }
            assert_eq!(floor.count().await, 0);
            self.print("floor: left when removed", before);
            floor.stop().await;
        });
    }

    fn plain(&self) {
        let (scheduler, before) = self.scheduler();
        drop(self.add(&scheduler, |job, _| job));
        self.print("job", before);
        self.stop(scheduler);
    }

    fn named(&self) {
        let (scheduler, before) = self.scheduler();
        drop(self.add(&scheduler, |job, number| job.id(format!("job-{number}"))));
        self.print("job with an id of its own", before);
        self.stop(scheduler);
    }

    fn handles_and_tokens(&self) {
        let (scheduler, before) = self.scheduler();
        let handles = self.add(&scheduler, |job, _| job);
        self.print("job and its handle, kept", before);
        let mut tokens = Vec::with_capacity(self.size);
        tokens.extend(handles.iter().map(JobHandle::cancel_token));
        self.runtime.block_on(seen_to(&scheduler));
        self.print("job, its handle and its token, kept", before);
        for token in &tokens {
            token.cancel();
        }
        emptied(&scheduler);
        drop((handles, tokens));
        self.runtime.block_on(seen_to(&scheduler));
        self.print("left when cancelled by token", before);
        self.stop(scheduler);
    }

    fn removed(&self) {
        let (scheduler, before) = self.scheduler();
        let handles = self.add(&scheduler, |job, _| job);
        self.runtime.block_on(async {
            for handle in &handles {
                handle.remove().await.expect("the job is there");
            }
            drop(handles);
            seen_to(&scheduler).await;
        });
        self.print("left when removed", before);
        self.stop(scheduler);
    }

    fn ran(&self) {
        let (scheduler, before) = self.scheduler();
        self.runtime.block_on(async {
            let tally = Tally::new(self.size);
            let lead = Duration::from_millis(20) + Duration::from_micros(4) * self.size as u32;
            let (due, _) = both_clocks(lead);
            let all = jobs(self.size).map(|job| counted(&scheduler, at(due), &tally, job));
            drop(scheduler.add_all(all).await.expect("nothing is wrong with the jobs"));
            tally.all().await;
            emptied(&scheduler);
            seen_to(&scheduler).await;
        });
        self.print("left when run", before);
        self.stop(scheduler);
    }

    /// A scheduler that has run a job, and what is allocated by then.
    fn scheduler(&self) -> (Scheduler, usize) {
        let scheduler = self.runtime.block_on(async {
            let scheduler = Scheduler::new();
            seen_to(&scheduler).await;
            scheduler
        });
        (scheduler, ALLOCATOR.current_usage())
    }

    /// Adds the jobs, and waits until their timers are set.
    fn add(&self, scheduler: &Scheduler, with: impl Fn(Add, u32) -> Add) -> Vec<JobHandle> {
        self.runtime.block_on(async {
            let tally = Tally::new(self.size);
            let all = jobs(self.size)
                .map(|job| with(counted(scheduler, after(hours_away(job)), &tally, job), job));
            let handles = scheduler.add_all(all).await.expect("nothing is wrong with the jobs");
            seen_to(scheduler).await;
            handles
        })
    }

    fn stop(&self, scheduler: Scheduler) {
        self.runtime.block_on(stop(scheduler));
    }

    fn print(&self, what: &str, before: usize) {
        let bytes = ALLOCATOR.current_usage() as f64 - before as f64;
        println!("{:>11}  {what:<44} {:>10.0}", grouped(self.size), bytes / self.size as f64);
    }
}
