//! What the work says of itself: a file to which all processes append.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
    sync::Arc,
};

use nix::time::{ClockId, clock_gettime};
use punctual::{Context, chrono::Utc};
use serde_json::{Value, json};

/// A line is as long as all others, and no page has a part of one: so a process that is killed has
/// written all of it or nothing.
const LINE: usize = 256;

#[derive(Clone)]
pub(crate) struct Log(Arc<File>);

impl Log {
    pub(crate) fn open(path: &Path) -> Log {
        Log(Arc::new(OpenOptions::new().append(true).create(true).open(path).unwrap()))
    }

    /// Says something of a job.
    pub(crate) fn say(&self, what: &str, job: &str) {
        self.append(json!({ "what": what, "job": job }));
    }

    /// Says something of a run.
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
        // The clock of the wall steps; the other is that of all processes, and does not.
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
