//! The stage of the nodes: their database and their log, and the span of the jobs.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use chrono::Utc;

use crate::{
    database::{Database, Held, Kind},
    jobs::Span,
    node::Setup,
    process::Process,
};

/// How long after the last fire time everything must be done.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Stage {
    folder: PathBuf,
    pub(crate) database: Database,
    pub(crate) span: Span,
    lease: Duration,
    pub(crate) rng: Rng,
    started: u32,
}

impl Stage {
    /// Creates a stage whose jobs fire soon, for at least this long.
    pub(crate) fn new(
        name: &str,
        kind: Kind,
        lease: Duration,
        lasts: impl FnOnce(&mut Rng) -> Duration,
    ) -> Stage {
        Stage::with(name, lease, lasts, |folder| kind.create(folder))
    }

    /// The same with this database.
    pub(crate) fn with(
        name: &str,
        lease: Duration,
        lasts: impl FnOnce(&mut Rng) -> Duration,
        database: impl FnOnce(&PathBuf) -> Database,
    ) -> Stage {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let seed = std::env::var("PUNCTUAL_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = seed.unwrap_or_else(|| Utc::now().timestamp_micros().cast_unsigned());
        println!("{name}: PUNCTUAL_SEED={seed}");
        let mut rng = Rng(seed);
        let folder = format!("punctual-{name}-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let first = (Utc::now().timestamp() + 2) * 1000;
        let last = first + (lasts(&mut rng).as_secs() as i64 + 1) * 1000;
        let (database, span) = (database(&folder), Span { first, last });
        Stage { folder, database, span, lease, rng, started: 0 }
    }

    /// Starts another node.
    pub(crate) fn start(&mut self) -> Process {
        self.start_on(self.database.clone())
    }

    /// Starts another node, which reaches the database in this way.
    pub(crate) fn start_on(&mut self, database: Database) -> Process {
        self.started += 1;
        // The claim ahead decides between abandoned and late.
        let claim_ahead = [0, 50, 300, 1000][self.rng.below(4) as usize];
        Process::start(&Setup {
            database,
            log: self.log_path(),
            span: self.span,
            name: format!("node {}", self.started),
            lease: self.lease,
            claim_ahead: Duration::from_millis(claim_ahead),
        })
    }

    /// Returns a random duration up to `most`.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.rng.below(most.as_millis() as u64))
    }

    /// Sleeps until this long after the first fire time.
    pub(crate) fn sleep_until(&self, after: Duration) {
        let at = self.span.first + after.as_millis() as i64;
        let wait = at - Utc::now().timestamp_millis();
        std::thread::sleep(Duration::from_millis(wait.try_into().unwrap_or_default()));
    }

    /// Returns the rows that a node has claimed.
    pub(crate) fn held_by(&self, node: &str) -> HashSet<Held> {
        self.database.held_by(node)
    }

    /// Has a node run until nothing is left to do.
    pub(crate) fn come_to_rest(&mut self) {
        let node = self.start();
        self.sleep_until(Duration::from_millis((self.span.last - self.span.first) as u64));
        let since = Instant::now();
        loop {
            let jobs = self.database.jobs();
            if jobs == 0 {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "{jobs} jobs are not over");
            std::thread::sleep(Duration::from_millis(20));
        }
        node.close();
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.database.remove();
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A generator of random numbers.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}
