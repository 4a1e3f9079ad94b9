//! The schedulers, each used as its own documentation says, behind what the scenarios ask of them.

mod apalis_cron;
mod clokwerk;
mod delay_timer;
mod punctual;
mod tokio_cron_scheduler;

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeZone as _, Utc};
use chrono_tz::Tz;

pub(crate) use self::{
    apalis_cron::ApalisCron, clokwerk::Clokwerk, delay_timer::DelayTimer, punctual::Punctual,
    tokio_cron_scheduler::TokioCronScheduler,
};
use crate::{log::Log, scenario::Unable};

/// A scheduler.
///
/// Jobs are added one by one, as all of them can.
pub(crate) trait Peer: Sized {
    /// Sets it up for so many jobs, on the current runtime unless it brings its own.
    async fn new(jobs: u32) -> Self;

    /// Has it tell [`heard`](crate::heard) what its API tells listeners.
    fn listen(&mut self) {}

    /// Adds a job that does `log.ran(job)`, and returns when the scheduler has taken it.
    async fn add(&mut self, job: u32, when: When, log: &Arc<Log>);

    /// Starts it, unless it runs by itself. Nothing is added after that.
    async fn start(&mut self) {}

    /// When a daily job at this time runs on this day, asked of the scheduler itself without
    /// waiting for that day; or why that can't be.
    fn runs_on(day: NaiveDate, time: NaiveTime, zone: Tz) -> Result<Vec<DateTime<Tz>>, Unable>;
}

/// When a job is to run. All schedulers know whole seconds, some nothing finer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Once(DateTime<Utc>),
    /// When the seconds of the minute are a multiple of this divisor of 60.
    EverySeconds(u32),
    Daily(NaiveTime),
}

/// The midnights between which a day lies.
fn bounds(day: NaiveDate, zone: Tz) -> (DateTime<Tz>, DateTime<Tz>) {
    let midnight = |day: NaiveDate| {
        let midnight = zone.from_local_datetime(&day.and_time(NaiveTime::MIN));
        midnight.single().expect("there is a midnight, in the zones asked about")
    };
    (midnight(day), midnight(day.succ_opt().expect("it is not the last day of all")))
}

#[cfg(test)]
mod tests {
    use chrono_tz::America::New_York;

    use super::*;

    #[test]
    fn those_that_can_be_asked_know_an_ordinary_day() {
        let day = NaiveDate::from_ymd_opt(2026, 6, 1).expect("it is a date");
        let time = NaiveTime::from_hms_opt(2, 30, 0).expect("it is a time");
        let run = New_York.from_local_datetime(&day.and_time(time)).single();
        let expected = Ok(vec![run.expect("it is shown once")]);
        assert_eq!(Punctual::runs_on(day, time, New_York), expected);
        assert_eq!(Clokwerk::runs_on(day, time, New_York), expected);
        assert_eq!(ApalisCron::<false>::runs_on(day, time, New_York), expected);
    }
}
