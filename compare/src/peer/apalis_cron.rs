//! apalis-cron, as its README does it: a schedule is a worker, and a worker is a future that is run.

use std::{str::FromStr as _, sync::Arc};

use apalis::prelude::{Data, Monitor, WorkerBuilder};
use apalis_cron::{CronScheduler, Tick};
use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, TimeDelta, Timelike as _};
use chrono_tz::Tz;
use cron::Schedule;

use super::{Peer, When, bounds};
use crate::{heard, log::Log, scenario::Unable};

/// What the handler of a job's ticks is given beside the tick.
type JobData = Data<(u32, Arc<Log>)>;

async fn handle(_: Tick, job: JobData) {
    let (job, log) = &*job;
    log.ran(*job);
}

/// Its workers run by themselves, or under a monitor that restarts those that end in an error.
pub(crate) struct ApalisCron<const MONITORED: bool> {
    monitor: Monitor,
}

impl<const MONITORED: bool> Peer for ApalisCron<MONITORED> {
    async fn new(_: u32) -> Self {
        let monitor = Monitor::new().should_restart(|_, error| {
            heard::note(format_args!("monitor restarts: {error}"));
            true
        });
        ApalisCron { monitor }
    }

    async fn add(&mut self, job: u32, when: When, log: &Arc<Log>) {
        let log = log.clone();
        let worker = move |_| {
            WorkerBuilder::new(format!("job-{job}"))
                .backend(CronScheduler::new(schedule(when)))
                .data((job, log.clone()))
                .build(handle)
        };
        if MONITORED {
            self.monitor = std::mem::take(&mut self.monitor).register(worker);
            return;
        }
        let worker = worker(0);
        tokio::spawn(async move {
            if let Err(error) = worker.run().await {
                heard::note(format_args!("worker ends: {error}"));
            }
        });
    }

    async fn start(&mut self) {
        if MONITORED {
            tokio::spawn(std::mem::take(&mut self.monitor).run());
        }
    }

    /// Asked of the schedule, which the user makes and it asks for the next tick.
    fn runs_on(day: NaiveDate, time: NaiveTime, zone: Tz) -> Result<Vec<DateTime<Tz>>, Unable> {
        let (midnight, next) = bounds(day, zone);
        let schedule = schedule(When::Daily(time));
        let upcoming = schedule.after_owned(midnight - TimeDelta::seconds(1));
        Ok(upcoming.take_while(|at| *at < next).collect())
    }
}

fn schedule(when: When) -> Schedule {
    let text = match when {
        // It has no one-shot jobs; a text that names the year has one tick.
        When::Once(due) => format!(
            "{} {} {} {} {} * {}",
            due.second(),
            due.minute(),
            due.hour(),
            due.day(),
            due.month(),
            due.year()
        ),
        When::EverySeconds(period) => format!("*/{period} * * * * *"),
        When::Daily(time) => format!("{} {} {} * * *", time.second(), time.minute(), time.hour()),
    };
    Schedule::from_str(&text).expect("it is a cron text")
}
