//! Which jobs have run, and when the last of them did.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::Notify;

use super::PATIENCE;

/// A place for each job to mark when it runs, so that one that is lost or run twice is noticed.
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
