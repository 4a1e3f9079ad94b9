//! What the benches share: sizes from the command line, rounds that take turns with a bare floor, a
//! tally of what really ran, and tables.
//!
//! `cargo bench --bench drain -- 1000 1000000 --rounds 3` measures those sizes with so many rounds; a
//! word, such as `punctual`, only those whose name has it in it, which is good for a profiler.
//! Without `--bench`, which `cargo bench` passes and `cargo test` does not, a tiny size is run once.
#![allow(dead_code, reason = "each bench uses its part")]

pub(crate) mod floor;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, SubsecRound as _, Utc};
use punctual::{Add, Scheduler, trigger::IntoTrigger};
use tokio::{runtime::Runtime, sync::Notify};

/// What a round may wait for; longer means that something was lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the command line asked for.
pub(crate) struct Args {
    pub(crate) sizes: Vec<usize>,
    /// Only see that it works.
    pub(crate) test: bool,
    rounds: Option<usize>,
    only: Option<String>,
}

impl Args {
    pub(crate) fn parse(default: &[usize]) -> Args {
        let (mut sizes, mut rounds, mut only) = (Vec::new(), None, None);
        let (mut bench, mut test) = (false, false);
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => bench = true,
                "--test" => test = true,
                "--rounds" => rounds = args.next().and_then(|rounds| rounds.parse().ok()),
                word => match word.replace('_', "").parse() {
                    Ok(size) => sizes.push(size),
                    Err(_) => only = Some(arg),
                },
            }
        }
        if test || (!bench && sizes.is_empty()) {
            return Args { sizes: vec![10], test: true, rounds: Some(1), only };
        }
        if sizes.is_empty() {
            sizes = default.to_vec();
        }
        Args { sizes, test, rounds, only }
    }

    /// Whether what goes by this name is to be measured.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only))
    }

    /// How often each size is measured: more often what is over soon and so tells less.
    pub(crate) fn rounds(&self, size: usize) -> usize {
        self.rounds.unwrap_or(match size {
            0..=1_000 => 41,
            1_001..=20_000 => 15,
            20_001..=200_000 => 7,
            _ => 3,
        })
    }
}

/// The runtime that everything is measured on: two workers, and the caller's thread beside them.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be spawned")
}

/// One way to do the thing that a bench measures; it may take the time at several points.
pub(crate) struct Contender<'a> {
    pub(crate) rows: &'a [&'a str],
    pub(crate) run: &'a mut dyn FnMut(usize) -> Vec<Duration>,
}

/// Lets the contenders take turns and prints what each needed for a job. Ratios are of the first
/// row, the floor's, to each: 1 is as fast as the floor, less is slower.
pub(crate) fn race(args: &Args, title: &str, mut contenders: Vec<Contender<'_>>) {
    contenders.retain(|contender| contender.rows.iter().any(|row| args.wants(row)));
    println!("\n{title}");
    println!(
        "{:>11}  {:<34} {:>11} {:>11} {:>10} {:>7} {:>7}",
        "jobs", "", "best", "median", "median", "ratio", "ratio"
    );
    println!(
        "{:>11}  {:<34} {:>11} {:>11} {:>10} {:>7} {:>7}",
        "", "", "jobs/s", "jobs/s", "ns/job", "best", "median"
    );
    for &size in &args.sizes {
        let mut took: Vec<Vec<Vec<Duration>>> =
            contenders.iter().map(|contender| vec![Vec::new(); contender.rows.len()]).collect();
        for _ in 0..args.rounds(size) {
            for (contender, took) in contenders.iter_mut().zip(&mut took) {
                for (row, time) in took.iter_mut().zip((contender.run)(size)) {
                    row.push(time);
                }
            }
        }
        let mut floor = None;
        for (contender, took) in contenders.iter().zip(took) {
            for (row, mut times) in contender.rows.iter().zip(took) {
                times.sort_unstable();
                let per_job = |time: Duration| time.as_secs_f64().max(1e-9) / size as f64;
                let (best, median) = (per_job(times[0]), per_job(times[times.len() / 2]));
                let (floor_best, floor_median) = *floor.get_or_insert((best, median));
                println!(
                    "{:>11}  {:<34} {:>11} {:>11} {:>10.0} {:>7.2} {:>7.2}",
                    grouped(size),
                    row,
                    rate(best),
                    rate(median),
                    median * 1e9,
                    floor_best / best,
                    floor_median / median,
                );
            }
        }
    }
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Jobs per second, of seconds per job.
fn rate(per_job: f64) -> String {
    match 1.0 / per_job {
        rate if rate >= 1e6 => format!("{:.2} M", rate / 1e6),
        rate => format!("{:.1} k", rate / 1e3),
    }
}

/// Which jobs have run, and when the last of them did.
pub(crate) struct Tally {
    runs: Box<[AtomicU8]>,
    ran: AtomicUsize,
    last: OnceLock<Instant>,
    done: Notify,
}

impl Tally {
    pub(crate) fn new(jobs: usize) -> Arc<Tally> {
        Arc::new(Tally {
            runs: (0..jobs).map(|_| AtomicU8::new(0)).collect(),
            ran: AtomicUsize::new(0),
            last: OnceLock::new(),
            done: Notify::new(),
        })
    }

    /// What a job does when it runs.
    pub(crate) fn ran(&self, job: u32) {
        self.runs[job as usize].fetch_add(1, Ordering::Relaxed);
        if self.ran.fetch_add(1, Ordering::AcqRel) + 1 == self.runs.len() {
            let _ = self.last.set(Instant::now());
            self.done.notify_one();
        }
    }

    /// Waits until as many runs were counted as there are jobs; says when the last was.
    pub(crate) async fn all(&self) -> Instant {
        if tokio::time::timeout(PATIENCE, self.done.notified()).await.is_err() {
            let ran = self.ran.load(Ordering::Acquire);
            panic!("only {ran} of {} jobs ran within {PATIENCE:?}", self.runs.len());
        }
        *self.last.get().expect("it is set before `done` is notified")
    }

    /// Sees that each job ran exactly once.
    pub(crate) fn check(&self) {
        for (job, runs) in self.runs.iter().enumerate() {
            assert_eq!(runs.load(Ordering::Acquire), 1, "runs of job {job}");
        }
    }
}

/// A job that counts its runs in the tally: it captures an `Arc` and a number.
pub(crate) fn counted(
    scheduler: &Scheduler,
    trigger: impl IntoTrigger,
    tally: &Arc<Tally>,
    job: u32,
) -> Add {
    let tally = tally.clone();
    scheduler.add(trigger, move || async move { tally.ran(job) })
}

/// The numbers of so many jobs.
pub(crate) fn jobs(size: usize) -> std::ops::Range<u32> {
    0..u32::try_from(size).expect("at most 4,294,967,295 jobs")
}

/// An instant on both clocks, a whole millisecond of the wall's.
pub(crate) fn both_clocks(lead: Duration) -> (DateTime<Utc>, Instant) {
    let (instant, wall) = (Instant::now(), Utc::now());
    let due = (wall + lead).trunc_subsecs(3);
    (due, instant + (due - wall).to_std().unwrap_or_default())
}

/// Waits until the driver has seen to all that it was told before: it starts runs after that.
pub(crate) async fn seen_to(scheduler: &Scheduler) {
    let job = scheduler.add_once(punctual::trigger::now(), async {}).await;
    job.expect("the scheduler is open").await.expect("its run is not called off");
}

/// Waits until the scheduler has no jobs left.
pub(crate) fn emptied(scheduler: &Scheduler) {
    let start = Instant::now();
    while !scheduler.is_empty() {
        assert!(start.elapsed() < PATIENCE, "{} jobs are left", scheduler.len());
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Stops a scheduler, and sees that no run had to be dropped.
pub(crate) async fn stop(scheduler: Scheduler) {
    let report = scheduler.shutdown().await;
    assert!(report.is_clean(), "{report}");
}
