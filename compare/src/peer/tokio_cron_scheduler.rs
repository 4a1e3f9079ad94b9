//! tokio-cron-scheduler, as its README does it: jobs are added, then it is started.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, NaiveDate, NaiveTime, Timelike as _, Utc};
use chrono_tz::Tz;
use tokio_cron_scheduler::{Job, JobScheduler};

use super::{Peer, When};
use crate::{log::Log, scenario::Unable};

/// Its channels have room for 200 messages by default; wide ones have room for those about all jobs.
pub(crate) struct TokioCronScheduler<const WIDE: bool> {
    scheduler: JobScheduler,
}

impl<const WIDE: bool> Peer for TokioCronScheduler<WIDE> {
    async fn new(jobs: u32) -> Self {
        let scheduler = if WIDE {
            JobScheduler::new_with_channel_size(4 * jobs as usize).await
        } else {
            JobScheduler::new().await
        };
        TokioCronScheduler { scheduler: scheduler.expect("memory is all it needs") }
    }

    async fn add(&mut self, job: u32, when: When, log: &Arc<Log>) {
        let log = log.clone();
        let work = move |_, _| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let log = log.clone();
            Box::pin(async move { log.ran(job) })
        };
        let job = match when {
            When::Once(due) => Job::new_one_shot_at_instant_async(instant(due), work),
            When::EverySeconds(period) => Job::new_async(format!("*/{period} * * * * *"), work),
            When::Daily(time) => Job::new_async(
                format!("{} {} {} * * *", time.second(), time.minute(), time.hour()),
                work,
            ),
        };
        let job = job.expect("nothing is wrong with the job");
        self.scheduler.add(job).await.expect("it is added");
    }

    async fn start(&mut self) {
        self.scheduler.start().await.expect("it was not started before");
    }

    fn runs_on(_: NaiveDate, _: NaiveTime, _: Tz) -> Result<Vec<DateTime<Tz>>, Unable> {
        Err("can't be asked: it tells a job's next tick from now, and no others".to_owned())
    }
}

/// The same on the clock by which its one-shot jobs go.
fn instant(due: DateTime<Utc>) -> Instant {
    Instant::now() + (due - Utc::now()).to_std().unwrap_or(Duration::ZERO)
}
