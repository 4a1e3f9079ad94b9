//! Whole clusters on a simulated network, with everything that goes wrong there: a store is put through
//! years of trouble in minutes.

mod agenda;
mod chance;
mod clocks;
mod judge;
mod log;
mod node;
mod operation;
mod scenario;
mod verbs;
mod world;

use std::fmt;

use self::world::World;
use super::ManualClock;
use crate::store::Store;

/// A cluster of one to five nodes with a store, simulated.
///
/// A seed says all: how many nodes there are, which jobs, what users ask of which node and when; how
/// long each message takes, which are lost and which take effect late; which nodes crash, shut down, are
/// stopped, suspended or cut off, and how wrong their clocks are. The same seed is the same simulation.
///
/// In the end all faults end, and what the ledger says is compared with what happened.
///
/// ```
/// use punctual::{store::MemoryStore, testing::Simulation};
///
/// let report = Simulation::new(7).run(MemoryStore::with_clock)?;
/// println!("{report}");
/// # Ok::<(), punctual::testing::Broken>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Simulation {
    seed: u64,
    traced: bool,
    several_commits: bool,
    clockless: bool,
}

impl Simulation {
    /// The simulation of this seed.
    pub fn new(seed: u64) -> Simulation {
        Simulation { seed, traced: false, several_commits: false, clockless: false }
    }

    /// Keeps a line for all that happens: [`Report::trace`].
    pub fn traced(self) -> Simulation {
        Simulation { traced: true, ..self }
    }

    /// Does what concerns several jobs or rows in a commit for each, as the contract allows: others come
    /// between, the rest may be lost, and a node that crashes or waits no longer leaves it half done.
    ///
    /// ```
    /// use punctual::{store::MemoryStore, testing::Simulation};
    ///
    /// Simulation::new(7).in_several_commits().run(MemoryStore::with_clock)?;
    /// # Ok::<(), punctual::testing::Broken>(())
    /// ```
    pub fn in_several_commits(self) -> Simulation {
        Simulation { several_commits: true, ..self }
    }

    /// Has the store be one without a clock: nodes go by those of their machines, which agree, and step
    /// together or one after the other. So it is for a store that says so in
    /// [`Capabilities::has_clock`](crate::store::Capabilities::has_clock).
    ///
    /// ```
    /// use punctual::{store::MemoryStore, testing::Simulation};
    ///
    /// Simulation::new(7).without_store_clock().run(MemoryStore::with_clock)?;
    /// # Ok::<(), punctual::testing::Broken>(())
    /// ```
    pub fn without_store_clock(self) -> Simulation {
        Simulation { clockless: true, ..self }
    }

    /// Runs it on an empty store, which is to take its time from the clock.
    ///
    /// The store's operations are waited for, and must not wait for time to pass. One that wakes its own
    /// task and is not ready lets others come between, as `tokio::task::yield_now` does.
    ///
    /// # Errors
    ///
    /// What was promised and is not so.
    pub fn run<S: Store>(self, store: impl FnOnce(ManualClock) -> S) -> Result<Report, Broken> {
        let seed = self.seed;
        let mut world = World::new(self, store);
        world.run();
        let log = &mut world.log;
        let wrong = std::mem::take(&mut log.wrong);
        let counts = log.counts;
        let report = Report {
            seed,
            runs: log.executions.len(),
            requests: counts.requests,
            verbs: counts.verbs,
            faults: counts.faults,
            trace: log.take_trace(),
        };
        if wrong.is_empty() { Ok(report) } else { Err(Broken { report, wrong }) }
    }
}

/// What happened in a [`Simulation`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// How often work was called.
    pub runs: usize,
    /// How many requests there were to the store.
    pub requests: u64,
    /// How much users asked for.
    pub verbs: u64,
    /// How much went wrong, or was tried.
    pub faults: u64,
    /// A line for all that happened, if it was [`traced`](Simulation::traced).
    pub trace: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seed, runs, requests, verbs, faults, .. } = self;
        write!(f, "seed {seed}: {runs} runs, {requests} requests, {verbs} verbs, {faults} faults")
    }
}

/// What a [`Simulation`] found to be broken.
#[derive(Clone, Debug)]
pub struct Broken {
    report: Report,
    wrong: Vec<String>,
}

impl Broken {
    /// What is not as promised, in the order in which it was found.
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// What happened up to then.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken promises, in {}:", self.report)?;
        for wrong in &self.wrong {
            write!(f, "\n  {wrong}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Broken {}
