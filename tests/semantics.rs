//! Recorded fates of fire times in APScheduler 3.11.3, replayed: which ran and when, which were
//! missed, skipped and coalesced, and the jobs at the end.
//!
//! `tests/vectors` has the recording. With `PUNCTUAL_VECTORS=DIR cargo test --test semantics` the
//! files `semantics.*.jsonl` of another folder are replayed instead. [`DIFFERENT`] lists the
//! deliberate differences, with reasons.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use self::{account::Account, differences::DIFFERENT, trace::Trace};

#[path = "semantics/account.rs"]
mod account;
#[path = "semantics/differences.rs"]
mod differences;
#[path = "semantics/recorded.rs"]
mod recorded;
#[path = "semantics/replay.rs"]
mod replay;
#[path = "semantics/stage.rs"]
mod stage;
#[path = "semantics/trace.rs"]
mod trace;

/// How many differing traces are shown, and how many differences of each.
const SHOWN: usize = 10;

#[test]
fn recorded_semantics() {
    let folder = match std::env::var_os("PUNCTUAL_VECTORS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
    };
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("semantics.") && name.ends_with(".jsonl")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no semantics.*.jsonl", folder.display());

    let mut report = String::from("\n");
    let mut failures = Vec::new();
    for file in &files {
        replay_file(file, &mut report, &mut failures);
    }
    let failed = failures.len();
    failures.truncate(SHOWN);
    // Bypasses the test harness, which captures the output of `println!`.
    io::stdout().write_all(report.as_bytes()).unwrap();
    assert!(failed == 0, "{failed} traces differ, as\n{}", failures.join("\n"));
}

fn replay_file(path: &Path, report: &mut String, failures: &mut Vec<String>) {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let text = fs::read_to_string(path).unwrap();
    let mut different = vec![0; DIFFERENT.len()];
    let (mut read, mut compared) = (0, 0);
    for line in text.lines() {
        read += 1;
        let trace: Trace =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{file}:{read}: {error}"));
        compared += 1;
        let expected = expected(&trace, &mut different);
        let mut differences = expected.differences(&replay::replay(&trace));
        if !differences.is_empty() {
            let count = differences.len();
            differences.truncate(SHOWN);
            let shown = differences.join("\n    ");
            failures.push(format!("{}: {count} differences\n    {shown}", trace.id));
        }
    }
    *report += &format!("{file}: {read} read, {compared} compared, {} excluded\n", read - compared);
    for (count, (_, reason)) in different.iter().zip(DIFFERENT).filter(|(count, _)| **count > 0) {
        *report += &format!("    {count} expected otherwise: {reason}\n");
    }
}

/// Returns the expected account of a trace. Counts which rules change the recorded one.
fn expected(trace: &Trace, different: &mut [usize]) -> Account {
    let mut account = recorded::recorded(trace);
    for (count, (rule, _)) in different.iter_mut().zip(DIFFERENT) {
        let before = account.clone();
        rule(trace, &mut account);
        *count += usize::from(account != before);
    }
    account
}
