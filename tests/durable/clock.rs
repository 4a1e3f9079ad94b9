//! The store's clock is set back: by little, and jobs wait; by much, and they continue from now.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual::{
    OnConflict,
    store::{MemoryStore, Store as _},
    testing::{Fault, FaultyStore, ManualClock, Operation},
    trigger::{IntoTrigger, after, cron, every},
};
use tokio::time::{Instant, sleep, timeout};

use crate::tasks::{Notes, on, remember};

const SECOND: Duration = Duration::from_secs(1);

const MINUTE: Duration = Duration::from_secs(60);

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn fire_times(notes: &Notes) -> Vec<DateTime<Utc>> {
    notes.all().iter().map(|note| note.fire_time).collect()
}

/// A clock, a store on this clock, and a job that has run at noon.
async fn noon(at: &str, trigger: impl IntoTrigger) -> (ManualClock, MemoryStore, Notes) {
    let clock = ManualClock::running(instant(at));
    let (store, notes) = (MemoryStore::with_clock(clock.clone()), Notes::default());
    let scheduler = on(&store, &notes).clock(clock.clone()).start().await.unwrap();
    scheduler.add(trigger, remember("tick")).id("tick").await.unwrap();
    sleep(2 * SECOND).await;
    assert_eq!(notes.len(), 1);
    // The scheduler continues in the background, unless a test shuts it down.
    std::mem::forget(scheduler);
    (clock, store, notes)
}

#[tokio::test(start_paused = true)]
async fn a_correction_while_a_scheduler_runs_has_jobs_go_on_from_now() {
    let (clock, store, notes) = noon("2037-06-01T11:59:59Z", cron("*/30 * * * *")).await;
    clock.step(instant("2026-06-01T12:10:00Z") - clock.now());
    sleep(61 * MINUTE).await;
    let expected = ["2037-06-01T12:00:00Z", "2026-06-01T12:30:00Z", "2026-06-01T13:00:00Z"];
    assert_eq!(fire_times(&notes), expected.map(instant));
    let next = store.get("tick".into()).await.unwrap().unwrap().next_fire;
    assert_eq!(next, Some(instant("2026-06-01T13:30:00Z")));
}

#[tokio::test(start_paused = true)]
async fn a_correction_while_none_runs_is_noticed_at_the_next_start() {
    let clock = ManualClock::running(instant("2037-06-01T11:59:59Z"));
    let (store, notes) = (MemoryStore::with_clock(clock.clone()), Notes::default());
    for _ in 0..2 {
        let scheduler = on(&store, &notes).clock(clock.clone()).start().await.unwrap();
        let add = scheduler.add(cron("*/30 * * * *"), remember("tick")).id("tick");
        let job = add.on_conflict(OnConflict::Reconcile).await.unwrap();
        // Pausing a job changes nothing.
        job.pause().await.unwrap();
        job.resume().await.unwrap();
        sleep(31 * MINUTE).await;
        scheduler.shutdown().await;
        clock.step(instant("2026-06-01T12:10:00Z") - clock.now());
    }
    assert!(
        fire_times(&notes).contains(&instant("2026-06-01T12:30:00Z")),
        "{notes:?}",
        notes = fire_times(&notes)
    );
}

#[tokio::test(start_paused = true)]
async fn no_fire_time_is_claimed_twice() {
    let (clock, store, notes) = noon("2026-06-01T11:59:59Z", cron("*/30 * * * *")).await;
    sleep(9 * 60 * MINUTE).await;
    clock.step(-TimeDelta::hours(5));
    sleep(9 * 60 * MINUTE).await;
    let all = fire_times(&notes);
    let unique: HashSet<_> = all.iter().collect();
    assert_eq!(unique.len(), all.len(), "{all:?}");
    // From noon to one in the morning; claimed fire times are not claimed again.
    assert_eq!(all.len(), 2 * 13 + 1, "{all:?}");
    assert_eq!(store.rows(None, 100).await.unwrap().len(), all.len());
}

#[tokio::test(start_paused = true)]
async fn after_three_hours_or_less_jobs_wait() {
    let (clock, _store, notes) = noon("2026-06-01T11:59:59Z", cron("*/30 * * * *")).await;
    clock.step(-TimeDelta::hours(3));
    sleep(3 * 60 * MINUTE).await;
    assert_eq!(notes.len(), 1);
    sleep(30 * MINUTE).await;
    assert_eq!(fire_times(&notes)[1..], [instant("2026-06-01T12:30:00Z")]);
}

#[tokio::test(start_paused = true)]
async fn an_interval_goes_on_within_a_period() {
    for by in [TimeDelta::minutes(10), TimeDelta::hours(5), TimeDelta::days(4000)] {
        let (clock, _store, notes) =
            noon("2037-06-01T11:59:59Z", every(MINUTE).immediately()).await;
        sleep(10 * MINUTE).await;
        let before = notes.len();
        clock.step(-by);
        let started = Instant::now();
        while notes.len() == before {
            sleep(SECOND).await;
        }
        assert!(started.elapsed() <= 2 * MINUTE, "{by}: {:?}", started.elapsed());
        sleep(10 * MINUTE).await;
        assert!((before + 10..before + 13).contains(&notes.len()), "{by}: {}", notes.len());
    }
}

#[tokio::test(start_paused = true)]
async fn an_interval_that_has_yet_to_fire_keeps_its_first_fire_time() {
    let clock = ManualClock::running(instant("2026-06-03T18:00:00Z"));
    let (store, notes) = (MemoryStore::with_clock(clock.clone()), Notes::default());
    let hour = 60 * MINUTE;
    let triggers = [
        every(MINUTE).first_at(hour).into_trigger().unwrap(),
        every(10 * MINUTE).between("10:00", "12:00").into_trigger().unwrap(),
        every(hour).only(chrono::Weekday::Sat).into_trigger().unwrap(),
    ];
    let mut before = Vec::new();
    for _ in 0..2 {
        let scheduler = on(&store, &notes).clock(clock.clone()).start().await.unwrap();
        for (number, trigger) in triggers.iter().enumerate() {
            let add = scheduler.add(trigger.clone(), remember("later")).id(format!("{number}"));
            add.on_conflict(OnConflict::Reconcile).await.unwrap();
        }
        sleep(10 * SECOND).await;
        let mut next = Vec::new();
        for number in 0..triggers.len() {
            next.push(store.get(number.to_string().into()).await.unwrap().unwrap().next_fire);
        }
        assert!(before.is_empty() || before == next, "{before:?} {next:?}");
        before = next;
        scheduler.shutdown().await;
    }
    assert_eq!(notes.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_clock_is_followed_at_once() {
    let start = "2030-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap();
    let clock = ManualClock::running(start);
    let (store, notes) = (MemoryStore::with_clock(clock.clone()), Notes::default());
    let scheduler =
        on(&store, &notes).clock(clock.clone()).poll_interval(SECOND * 3600).start().await.unwrap();
    scheduler.add(cron("0 2 * * *"), remember("two")).id("two").await.unwrap();
    sleep(SECOND * 60).await;
    // It is 00:01. Now it is 01:59.
    clock.step(TimeDelta::minutes(118));
    sleep(SECOND * 120).await;
    assert_eq!(notes.len(), 1, "it is {} and the job of 02:00 has not run", clock.now());
    drop(scheduler);
}

#[tokio::test(start_paused = true)]
async fn the_stores_clock_counts_from_the_start() {
    let start = "2030-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap();
    let (here, there) =
        (ManualClock::running(start), ManualClock::running(start + TimeDelta::hours(1)));
    let (store, notes) = (MemoryStore::with_clock(there), Notes::default());
    let scheduler = on(&store, &notes).clock(here).start().await.unwrap();
    scheduler.add(after(SECOND * 60), remember("x")).id("job").await.unwrap();
    sleep(SECOND * 30).await;
    assert_eq!(notes.len(), 0, "it ran half a minute early");
    sleep(SECOND * 40).await;
    assert_eq!(notes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_clock_at_the_end_of_time_stops_no_closure() {
    for clock in [DateTime::<Utc>::MAX_UTC, DateTime::<Utc>::MIN_UTC] {
        let (store, notes) = (FaultyStore::new(MemoryStore::new()), Notes::default());
        store.set(Operation::Heartbeat, Fault::ClockAt(clock));
        let scheduler = on(&store, &notes).start().await.unwrap();
        let ticks = Arc::new(AtomicUsize::new(0));
        let count = ticks.clone();
        let tick = move || {
            let count = count.clone();
            async move { _ = count.fetch_add(1, Ordering::SeqCst) }
        };
        scheduler.add(every(SECOND), tick).await.unwrap();
        sleep(SECOND).await;
        let added =
            tokio::spawn(scheduler.add(every(SECOND), remember("x")).id("job").into_future());
        assert!(added.await.is_ok(), "`add` panicked");
        sleep(SECOND * 60).await;
        assert!(ticks.load(Ordering::SeqCst) > 55, "closures stopped at {clock}");
        store.heal();
        let shut = timeout(SECOND * 60, scheduler.shutdown()).await;
        assert!(shut.is_ok());
    }
}
