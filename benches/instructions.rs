//! How many instructions does it take to add, to fire and to cancel a job?
//!
//! Counted by Valgrind, so that a regression is seen on a noisy machine. This program runs itself
//! under callgrind for each case, with few jobs and with more: what these differ by is what a job
//! takes.
//!
//! `cargo bench --bench instructions -- --check` fails if a case takes over 10 % more than
//! `instructions.json` says, and `-- --save` writes that file.

mod common;
mod measure;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::Parser;
use common::{figures::grouped, targets::rustc};
use measure::instructions::{CASES, MEASURED};
use serde::{Deserialize, Serialize};

const FEW: usize = 1_000;
const MORE: usize = 3_000;

/// How much more a job may take than it did.
const TOLERANCE: f64 = 0.1;

const SAVE: &str = "cargo bench --bench instructions -- --save";

#[derive(Parser)]
struct InstructionArgs {
    /// Fails if a case takes over 10 % more than was saved.
    #[arg(long)]
    check: bool,
    /// Saves what the cases take.
    #[arg(long, conflicts_with = "check")]
    save: bool,
    #[arg(long, hide = true)]
    bench: bool,
    /// Runs the case of this number for so many jobs.
    #[arg(long, hide = true, num_args = 2, value_names = ["CASE", "JOBS"])]
    case: Option<Vec<usize>>,
}

fn main() -> ExitCode {
    let args = InstructionArgs::parse();
    if let Some([case, jobs]) = args.case.as_deref() {
        CASES[*case].1(*jobs);
        return ExitCode::SUCCESS;
    }
    if !args.bench {
        // Only to see that it works.
        CASES.iter().for_each(|(_, case)| case(10));
        return ExitCode::SUCCESS;
    }
    let done = if args.save {
        Counts::now().and_then(|counts| counts.save())
    } else if args.check {
        check()
    } else {
        Counts::now().map(|counts| counts.print(&Counts::saved().unwrap_or_default()))
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("instructions: {why}");
            // Who only wants to see all benches may have no valgrind.
            if args.save || args.check { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
    }
}

fn check() -> Result<(), String> {
    let (saved, now) = (Counts::saved()?, Counts::now()?);
    now.print(&saved);
    let (mut grown, mut shrunk) = (Vec::new(), false);
    for (case, &count) in &now.per_job {
        match saved.change(case, count) {
            None => grown.push(format!("`{case}` is new")),
            Some(change) if change > TOLERANCE => {
                grown.push(format!("`{case}` takes {:.0} % more", change * 100.0));
            }
            Some(change) => shrunk |= change < -TOLERANCE,
        }
    }
    if !grown.is_empty() {
        let compilers = if saved.rustc == now.rustc {
            String::new()
        } else {
            format!(" (saved with {}, this is {})", saved.rustc, now.rustc)
        };
        let grown = grown.join(", ");
        return Err(format!("{grown}{compilers}: if that is to stay, run `{SAVE}`"));
    }
    if shrunk {
        println!("some take over 10 % less than was saved: to keep them there, run `{SAVE}`");
    }
    Ok(())
}

/// How many instructions each case takes for a job.
#[derive(Default, Serialize, Deserialize)]
struct Counts {
    /// The compiler that made them.
    rustc: String,
    per_job: BTreeMap<String, u64>,
}

impl Counts {
    fn now() -> Result<Counts, String> {
        let mut per_job = BTreeMap::new();
        for (case, (name, _)) in CASES.iter().enumerate() {
            let (few, more) = (count(case, FEW)?, count(case, MORE)?);
            per_job.insert((*name).to_owned(), more.saturating_sub(few) / (MORE - FEW) as u64);
        }
        Ok(Counts { rustc: rustc().unwrap_or_default(), per_job })
    }

    fn saved() -> Result<Counts, String> {
        let text = std::fs::read_to_string(file()).map_err(|error| error.to_string());
        let counts = text.and_then(|text| serde_json::from_str(&text).map_err(|e| e.to_string()));
        counts.map_err(|error| format!("no counts in {}: {error}: run `{SAVE}`", file().display()))
    }

    fn save(&self) -> Result<(), String> {
        self.print(&Counts::saved().unwrap_or_default());
        let text = serde_json::to_string_pretty(self).expect("counts are data");
        std::fs::write(file(), text + "\n")
            .map_err(|error| format!("{} can't be written: {error}", file().display()))
    }

    /// By which part of what it took here a case takes more, if it is here.
    fn change(&self, case: &str, now: u64) -> Option<f64> {
        let before = *self.per_job.get(case)?;
        Some(now as f64 / before as f64 - 1.0)
    }

    fn print(&self, saved: &Counts) {
        println!("\n{:<28} {:>8} {:>8}", "instructions per job", "", "change");
        for (case, &count) in &self.per_job {
            let change = saved.change(case, count);
            let change = change.map_or("new".into(), |change| format!("{:+.1} %", change * 100.0));
            println!("{case:<28} {:>8} {change:>8}", grouped(count as usize));
        }
    }
}

fn file() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "benches", "instructions.json"].iter().collect()
}

/// How many instructions a case takes for so many jobs.
fn count(case: usize, jobs: usize) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(std::env::current_exe().expect("it runs"))
        .args(["--case", &case.to_string(), &jobs.to_string()])
        .output()
        .map_err(|error| {
            format!("valgrind can't be run: {error}: `apt-get install valgrind`, or the like")
        })?;
    let log = String::from_utf8_lossy(&output.stderr);
    let count = log.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match count {
        Some(count) if output.status.success() && count > 0 => Ok(count),
        _ => Err(format!("callgrind counted nothing in `{}`:\n{log}", CASES[case].0)),
    }
}
