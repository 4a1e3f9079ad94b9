//! The program, run as its users do.

use std::{
    env, fs,
    process::{self, Command},
    thread,
};

use serde_json::Value;

/// What it prints, and what it writes into a JSON file.
fn compare(args: &[&str]) -> (String, Vec<Value>) {
    let name = format!("punctual-compare-{}-{}.json", process::id(), args.join("-"));
    let file = env::temp_dir().join(name);
    let output = Command::new(env!("CARGO_BIN_EXE_punctual-compare"))
        .args(args)
        .arg("--json")
        .arg(&file)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let records = fs::read(&file).expect("it was written");
    fs::remove_file(&file).expect("it is there");
    let records = serde_json::from_slice(&records).expect("it is a list");
    (String::from_utf8(output.stdout).expect("it is text"), records)
}

#[test]
fn a_table_has_a_row_for_every_scheduler() {
    let (table, records) = compare(&["daylight"]);
    let named = |name| table.lines().find(|line| line.starts_with(&format!("| {name} ")));
    assert!(named("punctual").is_some_and(|row| row.contains("| runs at 03:00 EDT ")), "{table}");
    assert!(named("clokwerk").is_some_and(|row| row.contains("| panics ")), "{table}");
    assert!(named("delay_timer").is_some_and(|row| row.contains("can't be asked")), "{table}");

    let schedulers: Vec<_> = records.iter().map(|record| &record["scheduler"]).collect();
    assert_eq!(
        schedulers,
        ["punctual", "tokio-cron-scheduler", "delay_timer", "clokwerk", "apalis-cron"]
    );
    assert_eq!(records[0]["figures"]["gap"], "runs at 03:00 EDT");
    assert!(records[1]["figures"].is_null());
    assert!(records[1]["unable"].is_string());
}

/// So few jobs are too many for nobody: a scheduler that loses one of them is used wrongly.
#[test]
fn every_scheduler_runs_a_few_jobs_once() {
    let schedulers = ["punctual", "tokio-cron-scheduler", "delay-timer", "clokwerk", "apalis-cron"];
    thread::scope(|scope| {
        for scheduler in schedulers {
            scope.spawn(move || {
                let figures = figures(&["burst", "--jobs", "5", "--on", scheduler]);
                assert_eq!(figures["ran"], 5, "{scheduler} {figures}");
                assert_eq!(figures["lost"], 0, "{scheduler} {figures}");
                assert_eq!(figures["doubled"], 0, "{scheduler} {figures}");
            });
        }
    });
}

#[test]
fn punctual_keeps_what_it_promises() {
    thread::scope(|scope| {
        scope.spawn(|| {
            let steady = figures(&["steady", "--jobs", "5", "--on", "punctual"]);
            assert_eq!(steady["ran"], 20, "{steady}");
            for fate in ["lost", "doubled", "early"] {
                assert_eq!(steady[fate], 0, "{steady}");
            }
        });
        scope.spawn(|| {
            let idle = figures(&["idle", "--jobs", "1000", "--on", "punctual"]);
            assert!(idle["cpu_percent"].as_f64().is_some_and(|cpu| cpu < 5.0), "{idle}");
        });
        scope.spawn(|| {
            let stall = figures(&["stall", "--on", "punctual"]);
            assert_eq!(stall["ran"], 2, "{stall}");
            assert_eq!(stall["says"], "event Coalesced of 3 (2 times)");
            assert_eq!(stall["goes_on"], true, "{stall}");
            assert_eq!(stall["other_goes_on"], true, "{stall}");
        });
        scope.spawn(|| {
            let panic = figures(&["panic", "--on", "punctual"]);
            assert_eq!(panic["runs_after"], 5, "{panic}");
            assert_eq!(panic["runs_of_the_other_after"], 5, "{panic}");
        });
    });
}

/// The figures of one scheduler in one scenario.
fn figures(args: &[&str]) -> Value {
    let (table, mut records) = compare(args);
    assert_eq!(records.len(), 1, "{table}");
    records.remove(0)["figures"].take()
}
