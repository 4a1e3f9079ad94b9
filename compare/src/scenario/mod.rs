//! What users ask of a scheduler, and what it is measured by.

mod burst;
mod daylight;
mod idle;
mod panic;
mod stall;
mod steady;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{peer::Peer, table::grouped};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// Many one-shot jobs, all due at one instant.
    Burst,
    /// Jobs that go on running.
    Steady,
    /// Jobs that have nothing to do for hours.
    Idle,
    /// A job that blocks the runtime for a while.
    Stall,
    /// A job that panics.
    Panic,
    /// Jobs at times that daylight saving leaves out or repeats.
    Daylight,
}

/// What was measured of one scheduler.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// As people read it, under the scenario's headings.
    pub(crate) cells: Vec<String>,
    /// As programs read it.
    pub(crate) figures: Value,
}

impl Row {
    fn new(cells: impl IntoIterator<Item = String>, figures: Value) -> Row {
        Row { cells: cells.into_iter().collect(), figures }
    }
}

/// Why a scheduler can't do it.
pub(crate) type Unable = String;

impl Scenario {
    /// How many jobs there are, in a table each: as many as asked, where it is a matter of numbers.
    pub(crate) fn jobs(self, asked: &[u32]) -> Vec<u32> {
        let default: &[u32] = match self {
            Scenario::Burst => &[10_000, 100_000],
            Scenario::Steady => &[1_000],
            Scenario::Idle => &[10_000],
            Scenario::Stall | Scenario::Panic => return vec![2],
            Scenario::Daylight => return vec![1],
        };
        if asked.is_empty() { default } else { asked }.to_vec()
    }

    /// What is asked.
    pub(crate) fn title(self, jobs: u32) -> String {
        let jobs = grouped(jobs as usize);
        match self {
            Scenario::Burst => format!("{jobs} one-shot jobs, due at one instant"),
            Scenario::Steady => format!("{jobs} jobs, each every {} s", steady::PERIOD),
            Scenario::Idle => format!("{jobs} daily jobs, hours away"),
            Scenario::Stall => format!(
                "Two jobs every second, of which one blocks the runtime's only thread for {} s",
                stall::STALL.as_secs()
            ),
            Scenario::Panic => "Two jobs every second, of which one panics once".to_owned(),
            Scenario::Daylight => "Daily jobs in New York".to_owned(),
        }
    }

    pub(crate) fn headings(self) -> &'static [&'static str] {
        match self {
            Scenario::Burst => burst::HEADINGS,
            Scenario::Steady => steady::HEADINGS,
            Scenario::Idle => idle::HEADINGS,
            Scenario::Stall => stall::HEADINGS,
            Scenario::Panic => panic::HEADINGS,
            Scenario::Daylight => daylight::HEADINGS,
        }
    }

    /// Measures, in this process, which is not of much use afterwards: there are jobs in it.
    pub(crate) fn run<P: Peer>(self, jobs: u32) -> Result<Row, Unable> {
        match self {
            Scenario::Burst => burst::run::<P>(jobs),
            Scenario::Steady => steady::run::<P>(jobs),
            Scenario::Idle => idle::run::<P>(jobs),
            Scenario::Stall => Ok(stall::run::<P>()),
            Scenario::Panic => Ok(panic::run::<P>()),
            Scenario::Daylight => daylight::run::<P>(),
        }
    }
}

/// The runtime that `#[tokio::main]` makes.
fn runtime() -> Runtime {
    Runtime::new().expect("threads can be spawned")
}
