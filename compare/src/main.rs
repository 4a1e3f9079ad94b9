//! The same scenarios on punctual and on other schedulers, each used as its documentation says.
//!
//! ```text
//! cargo run --release                      # all of them, about six minutes
//! cargo run --release -- burst --jobs 1000 --on punctual,clokwerk
//! cargo run --release -- --json figures.json
//! ```
//!
//! Every scheduler meets every scenario in a process of its own with a time limit, so that one that
//! hangs or breaks down costs its own row.

mod child;
mod fates;
mod heard;
mod log;
mod peer;
mod scenario;
mod scheduler;
mod table;
mod usage;

use std::{
    env,
    error::Error,
    fs,
    path::PathBuf,
    process::{self, Command},
    thread,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::{
    scenario::{Row, Scenario},
    scheduler::Scheduler,
};

/// What a scheduler may take for a scenario. A burst of a million jobs is given 102 s to be added.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs the same scenarios on several schedulers and prints tables of how they did.
#[derive(Parser)]
struct Args {
    /// The scenarios. Default: all.
    scenarios: Vec<Scenario>,
    /// The schedulers. Default: all.
    #[arg(long, value_name = "SCHEDULER", value_delimiter = ',')]
    on: Vec<Scheduler>,
    /// How many jobs, in a table each, for the scenarios of many. Default: up to 100,000.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    jobs: Vec<u32>,
    /// Writes all figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measures in this process and prints the outcome as JSON.
    #[arg(long, hide = true)]
    child: bool,
}

/// How a scheduler did.
#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    Measured(Row),
    /// It has no way to do it, for this reason.
    Unable(String),
    /// It was tried, and this came of it.
    Failed(String),
}

/// What the JSON file has a list of.
#[derive(Serialize)]
struct Record {
    scenario: Scenario,
    jobs: u32,
    scheduler: &'static str,
    version: &'static str,
    setting: Option<&'static str>,
    figures: Option<Value>,
    unable: Option<String>,
    failed: Option<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args::parse();
    if args.child {
        measure(&args);
    }
    if args.scenarios.is_empty() {
        args.scenarios = Scenario::value_variants().to_vec();
    }
    if args.on.is_empty() {
        args.on = Scheduler::value_variants().to_vec();
    }
    println!("On {} cores.", thread::available_parallelism()?);
    if cfg!(debug_assertions) {
        println!("This build is not optimized: use `cargo run --release` for figures.");
    }
    let mut records = Vec::new();
    for &scenario in &args.scenarios {
        for jobs in scenario.jobs(&args.jobs) {
            let (mut rows, mut remarks) = (Vec::new(), String::new());
            for &scheduler in args.on.iter().filter(|scheduler| scheduler.meets(scenario)) {
                eprintln!("{}: {}", word(&scenario), word(&scheduler));
                let outcome = ask(scenario, scheduler, jobs)?;
                rows.push(row(scheduler, &outcome));
                records.push(record(scenario, scheduler, jobs, outcome));
                if let Some(remark) = scheduler.remark(scenario) {
                    remarks += &format!("- {} {remark}.\n", scheduler.package());
                }
            }
            let table = table::markdown(scenario.headings(), &rows);
            print!("\n### {}\n\n{table}", scenario.title(jobs));
            if !remarks.is_empty() {
                print!("\n{remarks}");
            }
        }
    }
    if let Some(file) = args.json {
        fs::write(file, serde_json::to_string_pretty(&records)?)?;
    }
    Ok(())
}

/// Measures in a process of its own.
fn ask(scenario: Scenario, scheduler: Scheduler, jobs: u32) -> Result<Outcome, Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("--child").arg(word(&scenario)).arg("--on").arg(word(&scheduler));
    command.arg("--jobs").arg(jobs.to_string());
    Ok(match child::run(&mut command, LIMIT)? {
        Ok(outcome) => serde_json::from_str(&outcome)?,
        Err(reason) => Outcome::Failed(reason),
    })
}

/// Measures here and ends the process: dropping what still runs would be a scenario of its own.
fn measure(args: &Args) -> ! {
    let (&[scenario], &[scheduler], &[jobs]) = (&*args.scenarios, &*args.on, &*args.jobs) else {
        panic!("a child is asked for one thing");
    };
    let outcome = match scheduler.run(scenario, jobs) {
        Ok(row) => Outcome::Measured(row),
        Err(reason) => Outcome::Unable(reason),
    };
    println!("{}", serde_json::to_string(&outcome).expect("figures are JSON"));
    process::exit(0);
}

/// A value as the command line has it.
fn word(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value().expect("none is skipped");
    value.get_name().to_owned()
}

fn row(scheduler: Scheduler, outcome: &Outcome) -> Vec<String> {
    let mut row = vec![format!("{} {}", scheduler.package(), scheduler.version())];
    if let Some(setting) = scheduler.setting() {
        row[0] += &format!(", {setting}");
    }
    match outcome {
        Outcome::Measured(measured) => row.extend_from_slice(&measured.cells),
        Outcome::Unable(reason) | Outcome::Failed(reason) => row.push(reason.clone()),
    }
    row
}

fn record(scenario: Scenario, scheduler: Scheduler, jobs: u32, outcome: Outcome) -> Record {
    let (figures, unable, failed) = match outcome {
        Outcome::Measured(row) => (Some(row.figures), None, None),
        Outcome::Unable(reason) => (None, Some(reason), None),
        Outcome::Failed(reason) => (None, None, Some(reason)),
    };
    Record {
        scenario,
        jobs,
        scheduler: scheduler.package(),
        version: scheduler.version(),
        setting: scheduler.setting(),
        figures,
        unable,
        failed,
    }
}
