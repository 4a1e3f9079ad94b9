//! clokwerk's asynchronous scheduler, polled every 100 ms by a task, as its documentation does.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use clokwerk::{AsyncScheduler, Job as _, TimeUnits as _, timeprovider::TimeProvider};

use super::{Peer, When, bounds};
use crate::{log::Log, scenario::Unable};

pub(crate) struct Clokwerk {
    scheduler: Option<AsyncScheduler<Utc>>,
}

impl Peer for Clokwerk {
    async fn new(_: u32) -> Clokwerk {
        Clokwerk { scheduler: Some(AsyncScheduler::with_tz(Utc)) }
    }

    async fn add(&mut self, job: u32, when: When, log: &Arc<Log>) {
        let log = log.clone();
        let work = move || {
            let log = log.clone();
            async move { log.ran(job) }
        };
        let scheduler = self.scheduler.as_mut().expect("it has not started");
        match when {
            // It has no dates; a daily job may be told to run once.
            When::Once(due) => {
                scheduler.every(1.day()).at_time(due.time()).once().run(work);
            }
            When::EverySeconds(period) => {
                scheduler.every(period.seconds()).run(work);
            }
            When::Daily(time) => {
                scheduler.every(1.day()).at_time(time).run(work);
            }
        }
    }

    async fn start(&mut self) {
        let mut scheduler = self.scheduler.take().expect("it has not started");
        tokio::spawn(async move {
            loop {
                scheduler.run_pending().await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }

    /// Asked by the clock that it has for tests, moved a second at a time.
    fn runs_on(day: NaiveDate, time: NaiveTime, zone: Tz) -> Result<Vec<DateTime<Tz>>, Unable> {
        let (midnight, next) = bounds(day, zone);
        let mut now = midnight - TimeDelta::seconds(1);
        HandClock::set(&now);
        let mut scheduler = AsyncScheduler::with_tz_and_provider::<Tz, HandClock>(zone);
        let runs = Arc::new(Mutex::new(Vec::new()));
        let noted = runs.clone();
        scheduler.every(1.day()).at_time(time).run(move || {
            noted.lock().expect("nothing panics here").push(HandClock::now(&zone));
            async {}
        });
        while now < next {
            HandClock::set(&now);
            // It calls the job's function at once; there is nothing in the future it returns.
            drop(scheduler.run_pending());
            now += TimeDelta::seconds(1);
        }
        Ok(std::mem::take(&mut *runs.lock().expect("nothing panics here")))
    }
}

/// A clock that is moved by hand, in seconds of Unix time.
struct HandClock;

static HAND: AtomicI64 = AtomicI64::new(0);

impl HandClock {
    fn set<Z: TimeZone>(now: &DateTime<Z>) {
        HAND.store(now.timestamp(), Ordering::Relaxed);
    }
}

impl TimeProvider for HandClock {
    fn now<Z: TimeZone + Sync + Send>(zone: &Z) -> DateTime<Z> {
        zone.timestamp_opt(HAND.load(Ordering::Relaxed), 0).single().expect("a second is one")
    }
}
