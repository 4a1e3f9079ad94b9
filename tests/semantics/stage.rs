//! The work of the jobs: a run waits until the replay ends it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use chrono::{DateTime, Utc};
use punctual::{Context, testing::ManualClock};
use tokio::sync::oneshot;

use super::{
    account::{Fact, Start},
    trace::{Job, Time},
};

pub(crate) struct Stage {
    clock: ManualClock,
    t0: DateTime<Utc>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many runs of each job were started.
    counts: BTreeMap<String, usize>,
    starts: Vec<Start>,
    going: Vec<Going>,
}

struct Going {
    start: Start,
    end: Time,
    ended: oneshot::Sender<()>,
}

impl Stage {
    pub(crate) fn new(clock: ManualClock) -> Arc<Stage> {
        Arc::new(Stage { t0: clock.now(), clock, state: Mutex::default() })
    }

    /// The work of a run.
    ///
    /// # Errors
    ///
    /// If the run is one that fails.
    pub(crate) async fn run(self: Arc<Self>, job: Job, cx: Context) -> Result<(), String> {
        let (number, ended) = self.start(&job, &cx);
        if let Some(ended) = ended {
            ended.await.expect("the stage is there as long as the run");
        }
        if job.fail_runs.contains(&number) { Err(format!("run {number}")) } else { Ok(()) }
    }

    fn start(&self, job: &Job, cx: &Context) -> (usize, Option<oneshot::Receiver<()>>) {
        let time = |instant: DateTime<Utc>| Time((instant - self.t0).num_milliseconds());
        let at = time(self.clock.now());
        let start = Start { at, job: job.id.clone(), fire_time: time(cx.fire_time()) };
        let mut state = self.state();
        state.starts.push(start.clone());
        let count = state.counts.entry(job.id.clone()).or_default();
        let number = *count;
        *count += 1;
        let duration = job.duration(number);
        if duration == Time(0) {
            return (number, None);
        }
        let (ended, end) = oneshot::channel();
        state.going.push(Going { start, end: Time(at.0 + duration.0), ended });
        (number, Some(end))
    }

    /// Returns when the next active run ends.
    pub(crate) fn next_end(&self) -> Option<Time> {
        self.state().going.iter().filter(|run| !run.ended.is_closed()).map(|run| run.end).min()
    }

    /// Ends the runs whose end satisfies `at`, in order. Returns whether there were any.
    pub(crate) fn end_runs(&self, at: impl Fn(Time) -> bool) -> bool {
        let mut ended: Vec<Going> = self.state().going.extract_if(.., |run| at(run.end)).collect();
        ended.sort_by_key(|run| run.end);
        let any = !ended.is_empty();
        for run in ended {
            // The receiver is gone if the run was dropped.
            let _ = run.ended.send(());
        }
        any
    }

    /// The runs in the order of their starts.
    pub(crate) fn starts(&self) -> Vec<Start> {
        self.state().starts.clone()
    }

    /// Returns the active runs.
    pub(crate) fn going(&self) -> Vec<Fact> {
        let state = self.state();
        let going = state.going.iter().filter(|run| !run.ended.is_closed());
        let facts = going.map(|run| {
            let Start { at, job, fire_time } = run.start.clone();
            Fact::Ran { job, fire_time, start: at, end: None }
        });
        facts.collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics with the stage")
    }
}
