//! The jobs of the nodes: dense schedules whose fire times can be counted without the scheduler.

use std::time::Duration;

use chrono::{DateTime, Utc};
use punctual::{
    Add, Coalesce, Context, OnConflict, Overlap, Scheduler, Task,
    trigger::{Trigger, cron, every},
};
use serde::{Deserialize, Serialize};

use crate::log::{Log, Run};

/// The first and the last instant at which jobs may fire: whole seconds, in milliseconds since 1970.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) first: i64,
    pub(crate) last: i64,
}

pub(crate) struct Job {
    pub(crate) id: &'static str,
    /// A period of a second uses cron.
    pub(crate) every_ms: i64,
    pub(crate) recover: bool,
    pub(crate) max_instances: u32,
    overlap: Overlap,
    coalesce: Coalesce,
    takes_ms: u64,
}

pub(crate) const JOBS: [Job; 7] = [
    Job { every_ms: 20, takes_ms: 3, ..Job::new("dense") },
    Job { every_ms: 50, takes_ms: 8, recover: true, ..Job::new("dense, recovers") },
    Job { every_ms: 100, takes_ms: 30, overlap: Overlap::Queue(20), ..Job::new("in line").all() },
    Job { every_ms: 100, takes_ms: 30, recover: true, ..Job::new("in line, recovers").all() },
    Job { every_ms: 200, takes_ms: 250, recover: true, max_instances: 2, ..Job::new("two") },
    Job { every_ms: 500, takes_ms: 300, ..Job::new("long") },
    Job { every_ms: 1000, takes_ms: 300, recover: true, ..Job::new("cron") },
];

impl Job {
    const fn new(id: &'static str) -> Job {
        Job {
            id,
            every_ms: 0,
            recover: false,
            max_instances: 1,
            overlap: Overlap::Skip,
            coalesce: Coalesce::Latest,
            takes_ms: 0,
        }
    }

    const fn all(self) -> Job {
        Job { overlap: Overlap::Queue(20), coalesce: Coalesce::All, ..self }
    }

    /// Returns all its fire times.
    pub(crate) fn fire_times(&self, span: Span) -> impl Iterator<Item = i64> + use<> {
        (span.first..=span.last).step_by(self.every_ms as usize)
    }

    /// The declaration of each node at its start.
    pub(crate) fn declared(&self, scheduler: &Scheduler, span: Span) -> Add {
        let add = scheduler.add(self.trigger(span), Work { takes_ms: self.takes_ms });
        // The run is killed again and again.
        let add = if self.recover { add.recoveries(u32::MAX) } else { add };
        add.id(self.id)
            .max_instances(self.max_instances)
            .overlap(self.overlap)
            .coalesce(self.coalesce)
            .on_conflict(OnConflict::Reconcile)
    }

    fn trigger(&self, span: Span) -> Trigger {
        use punctual::trigger::IntoTrigger as _;

        let (first, last) = (instant(span.first), instant(span.last));
        let trigger = match self.every_ms {
            1000 => cron("* * * * * *").starting_at(first).until(last).into_trigger(),
            period => every(Duration::from_millis(period as u64))
                .starting_at(first)
                .until(last)
                .into_trigger(),
        };
        trigger.unwrap()
    }
}

/// Logs its begin and its end.
#[derive(Serialize, Deserialize)]
pub(crate) struct Work {
    takes_ms: u64,
}

impl Task for Work {
    const NAME: &'static str = "work";
    type Output = ();

    async fn run(self, cx: Context) {
        let run = Run::begin(cx.state::<Log>(), &cx);
        tokio::time::sleep(Duration::from_millis(self.takes_ms)).await;
        run.end();
    }
}

fn instant(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap()
}
