//! What a job weighs, as the memory bench says: its allocator counts, which slows everything else
//! down, so it is a program of its own.

use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

pub(crate) const FLOOR: &str = "floor: job";
pub(crate) const FLOOR_LEFT: &str = "floor: left when removed";
pub(crate) const JOB: &str = "job";
pub(crate) const NAMED: &str = "job with an id of its own";
pub(crate) const LEFT_BY_TOKEN: &str = "left when cancelled by token";
pub(crate) const LEFT_BY_HANDLE: &str = "left when removed";
pub(crate) const PATTERN: &str = "cron pattern";
pub(crate) const CRONER: &str = "  croner's";

/// What one of many weighs, in bytes.
#[derive(Serialize, Deserialize)]
pub(crate) struct Weight {
    pub(crate) what: String,
    pub(crate) of: usize,
    /// Handed out by the allocator and not given back: neither pages nor fragments blur it.
    pub(crate) allocated: f64,
    /// By which the process grew, in pages, where the system says so.
    pub(crate) resident: Option<f64>,
}

/// Asks the memory bench, which is built first if need be.
pub(crate) fn ask(size: usize, test: bool) -> Vec<Weight> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([if test { "test" } else { "bench" }, "--bench", "memory", "--"])
        .args([&size.to_string(), "--json"])
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs: it has run this");
    assert!(output.status.success(), "the memory bench failed: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("the memory bench prints its weights")
}
