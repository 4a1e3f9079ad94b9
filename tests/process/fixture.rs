//! A scheduler with a pool, and the states of its processes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use punctual::{Add, Outcome, ProcessPool, Scheduler, trigger::now};
use tokio::time::sleep;

use super::tasks::{Act, Stranger, Then};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Longer than any test waits for a well-behaved process.
pub(super) const FOREVER: Duration = Duration::from_secs(600);

/// A scheduler with a pool, and a file to which its processes write their ids.
pub(super) struct Fixture {
    pub(super) scheduler: Scheduler,
    pids: PathBuf,
}

impl Fixture {
    pub(super) async fn new(max_workers: u32) -> Fixture {
        let scheduler = Scheduler::builder()
            .task::<Act>()
            .task::<Stranger>()
            .add_executor("pool", ProcessPool::new(max_workers))
            .start()
            .await
            .unwrap();
        Fixture { scheduler, pids: path() }
    }

    pub(super) fn add(&self, then: Then) -> Add {
        self.scheduler.add(now(), self.act(then)).executor("pool")
    }

    pub(super) fn act(&self, then: Then) -> Act {
        Act { pids: self.pids.clone(), then }
    }

    pub(super) async fn outcome(&self, then: Then) -> Outcome {
        outcome(self.add(then)).await
    }

    /// Returns the ids that the processes have written.
    pub(super) fn pids(&self) -> Vec<u32> {
        let said = fs::read_to_string(&self.pids).unwrap_or_default();
        said.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Waits for this many ids.
    pub(super) async fn wait_for_pids(&self, number: usize) -> Vec<u32> {
        eventually(|| self.pids().len() >= number).await;
        self.pids()
    }
}

/// Returns a path for a file of one test.
pub(super) fn path() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Adds a job, and waits for its first run.
pub(super) async fn outcome(mut add: Add) -> Outcome {
    let mut runs = add.runs();
    let _job = add.await.unwrap();
    runs.next().await.unwrap().outcome
}

/// Waits, within bounds, for an event outside of this process.
pub(super) async fn eventually(mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < 20 * SECOND, "it never happens");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Returns the state of a process from `/proc`: `None` if it is gone, and `Z` if it waits to be
/// reaped.
pub(super) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim().chars().next()
}

/// Waits a short time until the processes are gone. Child processes must have been reaped.
pub(super) async fn gone(pids: &[u32]) {
    let began = Instant::now();
    while let Some(pid) = pids.iter().find(|pid| state(**pid).is_some()) {
        assert!(began.elapsed() < 5 * SECOND, "{pid} is there, {:?}", state(*pid));
        sleep(Duration::from_millis(2)).await;
    }
}

/// Like [`gone`], for a process that a process started and that another one reaps.
pub(super) async fn dead(pid: u32) {
    let began = Instant::now();
    while state(pid).is_some_and(|state| state != 'Z') {
        assert!(began.elapsed() < 5 * SECOND, "{pid} is there");
        sleep(Duration::from_millis(2)).await;
    }
}

pub(super) fn kill_9(pid: u32) {
    let text = format!("kill -9 {pid}");
    assert!(std::process::Command::new("sh").args(["-c", &text]).status().unwrap().success());
}

pub(super) fn failed(outcome: &Outcome) -> String {
    let Outcome::Failed(error) = outcome else { panic!("{outcome}") };
    error.to_string()
}
