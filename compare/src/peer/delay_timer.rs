//! delay_timer, as its README does it in asynchronous contexts: on the runtime that it makes itself.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime, Timelike as _};
use chrono_tz::Tz;
use delay_timer::prelude::{DelayTimerBuilder, ScheduleIteratorTimeZone, TaskBuilder};

use super::{Peer, When};
use crate::{log::Log, scenario::Unable};

pub(crate) struct DelayTimer {
    timer: delay_timer::entity::DelayTimer,
}

impl Peer for DelayTimer {
    async fn new(_: u32) -> DelayTimer {
        DelayTimer { timer: DelayTimerBuilder::default().build() }
    }

    async fn add(&mut self, job: u32, when: When, log: &Arc<Log>) {
        let log = log.clone();
        let work = move || {
            let log = log.clone();
            async move { log.ran(job) }
        };
        let cron = match when {
            When::Once(_) => String::new(),
            When::EverySeconds(period) => format!("*/{period} * * * * * *"),
            When::Daily(time) => {
                format!("{} {} {} * * * *", time.second(), time.minute(), time.hour())
            }
        };
        let mut task = TaskBuilder::default();
        // 0 is what all tasks have that are given no id.
        task.set_task_id(u64::from(job) + 1);
        match when {
            When::Once(due) => task.set_frequency_once_by_timestamp_seconds(
                due.timestamp().try_into().expect("it is not before 1970"),
            ),
            When::EverySeconds(_) | When::Daily(_) => task
                .set_frequency_repeated_by_cron_str(&cron)
                .set_schedule_iterator_time_zone(ScheduleIteratorTimeZone::Utc),
        };
        let task = task.spawn_async_routine(work).expect("nothing is wrong with the task");
        self.timer.add_task(task).expect("it is added");
    }

    fn runs_on(_: NaiveDate, _: NaiveTime, _: Tz) -> Result<Vec<DateTime<Tz>>, Unable> {
        Err("can't be asked: it tells no fire times, and knows no zones by name".to_owned())
    }
}
