//! The rules of a time zone change while no scheduler runs.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use punctual::{
    Context, Scheduler,
    store::{MemoryStore, Store as _, Write, WriteResult},
    testing::ManualClock,
    trigger::{IntoTrigger as _, cron, every},
};
use tokio::time::sleep;

use crate::tasks::{Notes, on, remember};

const SECOND: Duration = Duration::from_secs(1);

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Adds a daily job at 9:00 in Vancouver, which is 16:00 UTC, with a next fire time by other rules.
/// Returns the corrected next fire time, and the runs from `now` on.
async fn runs_from(now: &str, next_fire: &str) -> (Option<DateTime<Utc>>, Vec<DateTime<Utc>>) {
    let clock = ManualClock::running(instant("2026-12-01T12:00:00Z"));
    let (store, notes) = (MemoryStore::with_clock(clock.clone()), Notes::default());
    let scheduler = on(&store, &notes).clock(clock.clone()).start().await.unwrap();
    let trigger = cron("0 9 * * *").in_tz("America/Vancouver");
    scheduler.add(trigger, remember("daily")).id("daily").await.unwrap();
    scheduler.shutdown().await;
    let mut record = store.get("daily".into()).await.unwrap().unwrap();
    assert_eq!(record.next_fire, Some(instant("2026-12-01T16:00:00Z")));
    let expected = record.stamp();
    record.next_fire = Some(instant(next_fire));
    let written = store.write(vec![Write::change(expected, record, 7)]).await.unwrap();
    assert_eq!(written, [WriteResult::Done]);

    clock.step(instant(now) - clock.now());
    let scheduler = on(&store, &notes).clock(clock.clone()).start().await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let next = store.get("daily".into()).await.unwrap().unwrap().next_fire;
    sleep(Duration::from_secs(30 * 60 * 60)).await;
    scheduler.shutdown().await;
    (next, notes.all().iter().map(|note| note.fire_time).collect())
}

#[tokio::test(start_paused = true)]
async fn a_fire_time_of_old_rules_is_computed_anew_at_the_start() {
    for old in ["2026-12-01T17:00:00Z", "2026-12-01T15:00:00Z"] {
        let (next, runs) = runs_from("2026-12-01T12:00:00Z", old).await;
        assert_eq!(next, Some(instant("2026-12-01T16:00:00Z")), "{old}");
        let days = ["2026-12-01T16:00:00Z", "2026-12-02T16:00:00Z"];
        assert_eq!(runs, days.map(instant), "{old}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_the_new_rules_have_moved_to_the_past_is_late_and_not_lost() {
    let (_, runs) = runs_from("2026-12-01T16:30:00Z", "2026-12-01T17:00:00Z").await;
    assert_eq!(runs[0], instant("2026-12-01T16:00:00Z"));
    assert_eq!(runs[1] - runs[0], TimeDelta::days(1));
}

#[tokio::test(start_paused = true)]
async fn the_last_of_so_many_is_counted_by_the_new_rules() {
    let clock = ManualClock::running(instant("2026-12-01T12:00:00Z"));
    let (store, notes) = (MemoryStore::with_clock(clock.clone()), Notes::default());
    let scheduler = on(&store, &notes).clock(clock.clone()).start().await.unwrap();
    let trigger = cron("0 9 * * *").in_tz("America/Vancouver").times(2);
    scheduler.add(trigger, remember("daily")).id("daily").await.unwrap();
    scheduler.shutdown().await;
    let record = store.get("daily".into()).await.unwrap().unwrap();
    let (first, last) = ("2026-12-01T15:00:00Z", "2026-12-02T15:00:00Z");
    let mut old = record.clone();
    old.next_fire = Some(instant(first));
    old.trigger = record.trigger.replace("2026-12-02T16:00:00Z", last);
    assert!(old.trigger.contains(last), "{}", old.trigger);
    let written = store.write(vec![Write::change(record.stamp(), old, 7)]).await.unwrap();
    assert_eq!(written, [WriteResult::Done]);

    let scheduler = on(&store, &notes).clock(clock.clone()).start().await.unwrap();
    sleep(Duration::from_secs(50 * 60 * 60)).await;
    scheduler.shutdown().await;
    let runs: Vec<_> = notes.all().iter().map(|note| note.fire_time).collect();
    assert_eq!(runs, ["2026-12-01T16:00:00Z", "2026-12-02T16:00:00Z"].map(instant));
}

/// Ten days around each change of the clocks, with a restart every five hours, compared with a
/// scheduler in memory without restarts.
#[tokio::test(start_paused = true)]
async fn restarts_around_a_change_of_the_clocks_change_no_fire_time() {
    for start in ["2027-03-23T00:00:00Z", "2027-10-26T00:00:00Z"] {
        let clock = ManualClock::running(start.parse().unwrap());
        let (store, notes) = (MemoryStore::with_clock(clock.clone()), Notes::default());
        let triggers = || {
            let hour = SECOND * 3600;
            [
                ("gap", cron("30 2 * * *").into_trigger().unwrap()),
                ("both", cron("*/30 1-3 * * *").into_trigger().unwrap()),
                ("three", every(hour * 3).into_trigger().unwrap()),
                ("times", every(hour).times(50).into_trigger().unwrap()),
            ]
        };
        let (zone, ran) = ("Europe/Berlin", Notes::default());
        let oracle = Scheduler::builder().time_zone(zone).clock(clock.clone()).start();
        let oracle = oracle.await.unwrap();
        let builder = || {
            let builder = on(&store, &notes).time_zone(zone).clock(clock.clone());
            builder.lease(SECOND * 600).poll_interval(SECOND * 600)
        };
        let mut scheduler = builder().start().await.unwrap();
        for (id, trigger) in triggers() {
            scheduler.add(trigger.clone(), remember(id)).id(id).await.unwrap();
            let ran = ran.clone();
            let work = move |cx: Context| {
                ran.add(&cx, id);
                async {}
            };
            oracle.add(trigger, work).id(id).await.unwrap();
        }
        for _ in 0..48 {
            sleep(SECOND * 18_000 - SECOND / 3).await;
            scheduler.shutdown().await;
            scheduler = builder().start().await.unwrap();
        }
        sleep(SECOND * 60).await;
        for (id, _) in triggers() {
            let times = |notes: &Notes| -> Vec<i64> {
                let of = notes.all().into_iter().filter(|ran| ran.text == id);
                of.map(|ran| ran.fire_time.timestamp()).collect()
            };
            assert_eq!(times(&notes), times(&ran), "{id} from {start} on");
        }
    }
}
