//! The log of the work: a file to which all processes append.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
    sync::Arc,
};

use nix::time::{ClockId, clock_gettime};
use punctual::{Context, chrono::Utc};
use serde_json::{Value, json};

/// All lines have this length, which divides a page: so a process that is killed has written a
/// whole line or nothing.
const LINE: usize = 256;

#[derive(Clone)]
pub(crate) struct Log(Arc<File>);

impl Log {
    pub(crate) fn open(path: &Path) -> Log {
        Log(Arc::new(OpenOptions::new().append(true).create(true).open(path).unwrap()))
    }

    /// Logs an entry about a job.
    pub(crate) fn say(&self, what: &str, job: &str) {
        self.append(json!({ "what": what, "job": job }));
    }

    /// Logs an entry about a run.
    pub(crate) fn say_of(&self, what: &str, cx: &Context) {
        self.append(json!({
            "what": what,
            "job": cx.job_id().to_string(),
            "fire_time": cx.fire_time().timestamp_millis(),
            "on_request": cx.on_request(),
            "attempt": cx.attempt(),
            "fence": cx.fence(),
        }));
    }

    fn append(&self, mut entry: Value) {
        // The wall clock steps; the monotonic clock is shared by all processes and does not.
        entry["wall"] = Utc::now().timestamp_micros().into();
        let steady = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
        entry["steady"] = (steady.tv_sec() * 1_000_000 + steady.tv_nsec() / 1000).into();
        entry["pid"] = std::process::id().into();
        let text = entry.to_string();
        let line = format!("{text:<width$}\n", width = LINE - 1);
        assert_eq!(line.len(), LINE, "{text}");
        (&*self.0).write_all(line.as_bytes()).unwrap();
    }
}
