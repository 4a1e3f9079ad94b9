//! The log of the runs: a file to which the work of all nodes appends.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
};

use chrono::Utc;
use punctual::Context;
use serde::{Deserialize, Serialize};

/// All lines have this length, which divides a page: so a process that is killed has written a
/// whole line or nothing.
const LINE: usize = 256;

pub(crate) struct Log(File);

impl Log {
    pub(crate) fn open(path: &Path) -> Log {
        Log(OpenOptions::new().append(true).create(true).open(path).unwrap())
    }

    fn append(&self, entry: &Entry) {
        let text = serde_json::to_string(entry).unwrap();
        let line = format!("{text:<width$}\n", width = LINE - 1);
        assert_eq!(line.len(), LINE, "{text}");
        (&self.0).write_all(line.as_bytes()).unwrap();
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    run: Who,
    what: EventPayload,
    /// Microseconds since 1970.
    at: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum EventPayload {
    /// When the scheduler decided that the run may start.
    Began {
        called: i64,
    },
    Ended,
    Dropped,
}

/// Identifies an execution.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Who {
    pub(crate) job: String,
    /// In milliseconds since 1970.
    pub(crate) fire_time: i64,
    pub(crate) attempt: u32,
    pub(crate) fence: u64,
    pub(crate) pid: u32,
}

/// An active run.
pub(crate) struct Run<'a> {
    log: &'a Log,
    who: Who,
    ended: bool,
}

impl<'a> Run<'a> {
    pub(crate) fn begin(log: &'a Log, cx: &Context) -> Run<'a> {
        let who = Who {
            job: cx.job_id().to_string(),
            fire_time: cx.fire_time().timestamp_millis(),
            attempt: cx.attempt(),
            fence: cx.fence().unwrap_or_default(),
            pid: std::process::id(),
        };
        let called = who.fire_time * 1000 + cx.late_by().as_micros() as i64;
        let run = Run { log, who, ended: false };
        run.says(EventPayload::Began { called });
        run
    }

    pub(crate) fn end(mut self) {
        self.ended = true;
    }

    fn says(&self, what: EventPayload) {
        self.log.append(&Entry { run: self.who.clone(), what, at: Utc::now().timestamp_micros() });
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.says(if self.ended { EventPayload::Ended } else { EventPayload::Dropped });
    }
}

/// An execution. Instants are microseconds since 1970.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) who: Who,
    /// When the scheduler decided that it may start.
    pub(crate) called: i64,
    pub(crate) began: i64,
    /// When it ended or was dropped, if its process lived long enough.
    pub(crate) over: Option<i64>,
    /// Whether it ran to its end.
    pub(crate) ended: bool,
}

/// All executions, in the order in which they began.
pub(crate) fn read(path: &Path) -> Vec<Execution> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut executions: Vec<Execution> = Vec::new();
    let mut places = HashMap::new();
    for line in text.lines() {
        let Entry { run, what, at } = serde_json::from_str(line).unwrap();
        if let EventPayload::Began { called } = what {
            let before = places.insert(run.clone(), executions.len());
            assert_eq!(before, None, "{run:?} began twice");
            executions.push(Execution { who: run, called, began: at, over: None, ended: false });
        } else {
            let execution = &mut executions[places[&run]];
            execution.over = Some(at);
            execution.ended = what == EventPayload::Ended;
        }
    }
    executions
}
