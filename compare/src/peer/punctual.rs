//! punctual, from this repository.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Timelike as _, Utc};
use chrono_tz::Tz;
use punctual::{
    EventFilter, EventKind, Scheduler, EventPayload,
    trigger::{IntoTrigger as _, at, cron},
};

use super::{Peer, When, bounds};
use crate::{heard, log::Log, scenario::Unable};

pub(crate) struct Punctual {
    scheduler: Scheduler,
}

impl Peer for Punctual {
    async fn new(_: u32) -> Punctual {
        Punctual { scheduler: Scheduler::new() }
    }

    fn listen(&mut self) {
        use EventKind::{Coalesced, Failed, Missed, Skipped};
        let filter = EventFilter::new().kinds([Coalesced, Failed, Missed, Skipped]);
        let listening = self.scheduler.on_event(filter, |event| match event.payload {
            EventPayload::Coalesced { fire_times, .. }
            | EventPayload::Missed { fire_times, .. }
            | EventPayload::Skipped { fire_times, .. } => {
                heard::note(format_args!("event {:?} of {}", event.payload.kind(), fire_times.count));
            }
            EventPayload::Failed(run) => heard::note(format_args!("event Failed, {}", run.outcome)),
            _ => {}
        });
        drop(listening.expect("there is a runtime"));
    }

    async fn add(&mut self, job: u32, when: When, log: &Arc<Log>) {
        let log = log.clone();
        let work = move || async move { log.ran(job) };
        let add = match when {
            When::Once(due) => self.scheduler.add(at(due), work),
            When::EverySeconds(period) => self.scheduler.add(format!("*/{period} * * * * *"), work),
            When::Daily(time) => self.scheduler.add(daily(time), work),
        };
        add.await.expect("nothing is wrong with the job");
    }

    fn runs_on(day: NaiveDate, time: NaiveTime, zone: Tz) -> Result<Vec<DateTime<Tz>>, Unable> {
        let (midnight, next) = bounds(day, zone);
        let trigger = cron(daily(time)).in_tz(zone).into_trigger().expect("it is cron");
        let from = midnight.with_timezone(&Utc) - TimeDelta::milliseconds(1);
        let upcoming = trigger.upcoming_after(from);
        let upcoming = upcoming.map(|at| at.expect("it has a next one").with_timezone(&zone));
        Ok(upcoming.take_while(|at| *at < next).collect())
    }
}

fn daily(time: NaiveTime) -> String {
    format!("{} {} {} * * *", time.second(), time.minute(), time.hour())
}
