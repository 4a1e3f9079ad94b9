//! What does a job weigh, and is its memory given back?
//!
//! Bytes that the allocator has handed out, counted, and beside them by how much the process grew in
//! the system's eyes. Each case is measured in a process of its own: in one that has freed memory
//! before, a job that takes it again costs no page.

mod common;
mod measure;

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use clap::Parser;
use common::{
    Args, Tally, both_clocks, counted, emptied,
    figures::grouped,
    floor::{Floor, hours_away},
    jobs, seen_to, stop,
    usage::resident,
};
use measure::{
    memory::{
        CRONER, FLOOR, FLOOR_LEFT, JOB, LEFT_BY_HANDLE, LEFT_BY_TOKEN, NAMED, PATTERN, Weight,
    },
    trigger::{PATTERNS, cron_crate, croner},
};
use peak_alloc::PeakAlloc;
use punctual::{
    Add, JobHandle, Scheduler,
    trigger::{Cron, after, at},
};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

#[derive(Parser)]
struct MemoryArgs {
    #[command(flatten)]
    args: Args,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Measures the case of this number, in this process.
    #[arg(long, hide = true)]
    case: Option<usize>,
}

const CASES: [fn(&mut Bench); 9] = [
    Bench::floor,
    Bench::job,
    Bench::named,
    Bench::handles_and_tokens,
    Bench::removed,
    Bench::ran,
    |bench| bench.patterns(PATTERN, |text| Cron::parse(text).ok()),
    |bench| bench.patterns(CRONER, |text| Some(croner(text))),
    |bench| bench.patterns("  cron's", cron_crate),
];

fn main() {
    let MemoryArgs { args, json, case } = MemoryArgs::parse();
    let sizes = args.sizes(&[100, 10_000, 100_000, 1_000_000]);
    if let Some(case) = case {
        let mut bench = Bench { runtime: common::runtime(), size: sizes[0], weights: Vec::new() };
        CASES[case](&mut bench);
        return print_json(&bench.weights);
    }
    let all =
        sizes.iter().flat_map(|&size| (0..CASES.len()).flat_map(move |case| child(size, case)));
    if json {
        return print_json(&all.collect::<Vec<_>>());
    }
    println!("\nmemory: one-shot closures that capture an `Arc` and a `u32`");
    println!("{:>11}  {:<44} {:>10} {:>10}", "jobs", "", "allocated", "resident");
    println!("{:>11}  {:<44} {:>10} {:>10}", "", "", "B/job", "B/job");
    for Weight { what, of, allocated, resident } in all {
        let resident = resident.map_or("-".into(), |resident| format!("{resident:.0}"));
        println!("{:>11}  {what:<44} {allocated:>10.0} {resident:>10}", grouped(of));
    }
}

/// Measures a case in a process of its own.
fn child(size: usize, case: usize) -> Vec<Weight> {
    let output = Command::new(std::env::current_exe().expect("it runs"))
        .args([size.to_string(), format!("--case={case}")])
        .stderr(Stdio::inherit())
        .output()
        .expect("it runs already");
    assert!(output.status.success(), "case {case} failed: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("a case prints its weights")
}

fn print_json(weights: &[Weight]) {
    println!("{}", serde_json::to_string(weights).expect("weights are data"));
}

struct Bench {
    runtime: Runtime,
    size: usize,
    weights: Vec<Weight>,
}

/// What was in use.
#[derive(Clone, Copy)]
struct Before {
    allocated: usize,
    resident: Option<u64>,
}

impl Before {
    fn now() -> Before {
        Before { allocated: ALLOCATOR.current_usage(), resident: resident() }
    }
}

impl Bench {
    fn floor(&mut self) {
        let size = self.size;
        let before = Before::now();
        let tally = Tally::new(size);
        let floor = self.runtime.block_on(async {
            let floor = Floor::spawn(tally);
            for job in jobs(size) {
                floor.add(job, Instant::now() + hours_away(job));
            }
            assert_eq!(floor.count().await, size);
            floor
        });
        self.weigh(FLOOR, before);
        self.runtime.block_on(async {
            for job in jobs(size) {
                floor.remove(job);
            }
            assert_eq!(floor.count().await, 0);
        });
        self.weigh(FLOOR_LEFT, before);
        self.runtime.block_on(floor.stop());
    }

    fn job(&mut self) {
        let (scheduler, before) = self.scheduler();
        drop(self.add(&scheduler, |job, _| job));
        self.weigh(JOB, before);
        self.stop(scheduler);
    }

    fn named(&mut self) {
        let (scheduler, before) = self.scheduler();
        drop(self.add(&scheduler, |job, number| job.id(format!("job-{number}"))));
        self.weigh(NAMED, before);
        self.stop(scheduler);
    }

    fn handles_and_tokens(&mut self) {
        let (scheduler, before) = self.scheduler();
        let handles = self.add(&scheduler, |job, _| job);
        self.weigh("job and its handle, kept", before);
        let mut tokens = Vec::with_capacity(self.size);
        tokens.extend(handles.iter().map(JobHandle::cancel_token));
        self.runtime.block_on(seen_to(&scheduler));
        self.weigh("job, its handle and its token, kept", before);
        for token in &tokens {
            token.cancel();
        }
        emptied(&scheduler);
        drop((handles, tokens));
        self.runtime.block_on(seen_to(&scheduler));
        self.weigh(LEFT_BY_TOKEN, before);
        self.stop(scheduler);
    }

    fn removed(&mut self) {
        let (scheduler, before) = self.scheduler();
        let handles = self.add(&scheduler, |job, _| job);
        self.runtime.block_on(async {
            for handle in &handles {
                handle.remove().await.expect("the job is there");
            }
            drop(handles);
            seen_to(&scheduler).await;
        });
        self.weigh(LEFT_BY_HANDLE, before);
        self.stop(scheduler);
    }

    fn ran(&mut self) {
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
        self.weigh("left when run", before);
        self.stop(scheduler);
    }

    /// What crontab texts become, beside the texts themselves.
    fn patterns<T>(&mut self, what: &str, parse: impl Fn(&str) -> Option<T>) {
        let mut all = Vec::new();
        let before = Before::now();
        all.reserve_exact(self.size);
        let texts = PATTERNS.into_iter().filter(|text| parse(text).is_some()).cycle();
        all.extend(texts.clone().take(self.size).map(&parse));
        self.weigh(what, before);
        let texts: usize = texts.take(self.size).map(str::len).sum();
        self.weights[0].allocated -= texts as f64 / self.size as f64;
    }

    /// A scheduler that has run a job, and what is in use by then.
    fn scheduler(&self) -> (Scheduler, Before) {
        let scheduler = self.runtime.block_on(async {
            let scheduler = Scheduler::new();
            seen_to(&scheduler).await;
            scheduler
        });
        (scheduler, Before::now())
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

    fn weigh(&mut self, what: &str, before: Before) {
        let each = |now: f64, before: f64| (now - before) / self.size as f64;
        let now = Before::now();
        self.weights.push(Weight {
            what: what.into(),
            of: self.size,
            allocated: each(now.allocated as f64, before.allocated as f64),
            resident: now
                .resident
                .zip(before.resident)
                .map(|(now, before)| each(now as f64, before as f64)),
        });
    }
}
