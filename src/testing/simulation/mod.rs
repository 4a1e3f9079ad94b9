//! Simulated clusters with every kind of fault: years of trouble for a store in minutes.

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

/// A simulated cluster of one to five nodes with a store.
///
/// The seed determines everything: the number of nodes, the jobs, the verbs that users call on each
/// node and when; the latency of each message, which messages are lost and which take effect late;
/// which nodes crash, shut down, are stopped, suspended or cut off, and the errors of their clocks.
/// The same seed gives the same simulation.
///
/// At the end all faults stop, and the ledger is compared with the true events.
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
    /// Creates the simulation of this seed.
    pub fn new(seed: u64) -> Simulation {
        Simulation { seed, traced: false, several_commits: false, clockless: false }
    }

    /// Keeps a line for each event: [`Report::trace`].
    pub fn traced(self) -> Simulation {
        Simulation { traced: true, ..self }
    }

    /// Splits operations on several jobs or rows into one commit for each, as the contract allows.
    /// Other operations come in between, the rest may be lost, and a node that crashes or times out
    /// leaves an operation half done.
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

    /// Simulates a store without a clock: nodes use the clocks of their machines, which agree, and
    /// step together or one after the other. For stores without
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

    /// Runs the simulation on an empty store, which must use the given clock.
    ///
    /// Blocks until each operation of the store is done; an operation must not wait for time to
    /// pass. An operation that wakes its own task and returns pending lets other operations run in
    /// between, as `tokio::task::yield_now` does.
    ///
    /// # Errors
    ///
    /// [`Broken`], with the broken promises.
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

/// The report of a [`Simulation`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The seed of the simulation.
    pub seed: u64,
    /// How often work was called.
    pub runs: usize,
    /// How many requests the store received.
    pub requests: u64,
    /// How many verbs users called.
    pub verbs: u64,
    /// How many faults were caused or tried.
    pub faults: u64,
    /// A line for each event, if the simulation was [`traced`](Simulation::traced).
    pub trace: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seed, runs, requests, verbs, faults, .. } = self;
        write!(f, "seed {seed}: {runs} runs, {requests} requests, {verbs} verbs, {faults} faults")
    }
}

/// The promises that a [`Simulation`] found broken.
#[derive(Clone, Debug)]
pub struct Broken {
    report: Report,
    wrong: Vec<String>,
}

impl Broken {
    /// Returns the broken promises, in the order in which they were found.
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// Returns the report up to then.
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
