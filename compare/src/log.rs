//! What the jobs of all schedulers do: they write down that they ran, and when.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};

/// How many runs go before the mishap.
const MISHAP: usize = 2;

/// What is waited for the mishap.
const PATIENCE: Duration = Duration::from_secs(10);

/// The job that has the mishap, where there is one.
pub(crate) const FAULTY: u32 = 0;

/// What happens in a job's third run: some schedulers take two to get into their stride.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mishap {
    Panic,
    /// The run blocks its thread for so long.
    Block(Duration),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) job: u32,
    pub(crate) at: DateTime<Utc>,
}

/// The runs of a scenario's jobs.
pub(crate) struct Log {
    runs: Mutex<Vec<Run>>,
    mishap: Option<Mishap>,
    /// How often [`FAULTY`] has run.
    faulty: AtomicUsize,
}

impl Log {
    /// Has room for so many runs, so that none of them waits for memory.
    pub(crate) fn with_room(runs: usize) -> Arc<Log> {
        Log::new(runs, None)
    }

    /// Its job [`FAULTY`] has this mishap.
    pub(crate) fn with_a(mishap: Mishap) -> Arc<Log> {
        Log::new(0, Some(mishap))
    }

    fn new(room: usize, mishap: Option<Mishap>) -> Arc<Log> {
        let runs = Mutex::new(Vec::with_capacity(room));
        Arc::new(Log { runs, mishap, faulty: AtomicUsize::new(0) })
    }

    /// What a job does when it runs.
    pub(crate) fn ran(&self, job: u32) {
        let at = Utc::now();
        self.lock().push(Run { job, at });
        if job == FAULTY && self.faulty.fetch_add(1, Ordering::Relaxed) == MISHAP {
            match self.mishap {
                Some(Mishap::Panic) => panic!("as arranged"),
                Some(Mishap::Block(time)) => thread::sleep(time),
                None => {}
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn runs(&self) -> Vec<Run> {
        self.lock().clone()
    }

    /// Waits for the mishap, and says when that run began.
    pub(crate) async fn mishap(&self) -> DateTime<Utc> {
        let start = Instant::now();
        loop {
            if let Some(run) = self.runs().iter().filter(|run| run.job == FAULTY).nth(MISHAP) {
                return run.at;
            }
            assert!(start.elapsed() < PATIENCE, "the job did not run thrice in {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mishap_is_in_the_third_run_of_one_job() {
        let log = Log::with_a(Mishap::Panic);
        for job in [FAULTY, FAULTY + 1, FAULTY + 1, FAULTY + 1, FAULTY] {
            log.ran(job);
        }
        assert!(std::panic::catch_unwind(|| log.ran(FAULTY)).is_err());
        log.ran(FAULTY);
        assert_eq!(log.len(), 7);
    }
}
