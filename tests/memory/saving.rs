//! A job in memory that is saved again: due fire times run once.

use std::sync::{Arc, Mutex};

use punctual::{
    Add, End, EventFilter, EventKind, EventPayload, OnConflict, Scheduler, SkipReason,
    trigger::{IntoTrigger, cron, every},
};
use tokio::time::{sleep, timeout};

use crate::{SECOND, instant, scheduler_at};

/// The runs, by name.
type Ran = Arc<Mutex<Vec<&'static str>>>;

fn declare(scheduler: &Scheduler, trigger: impl IntoTrigger, name: &'static str, ran: &Ran) -> Add {
    let ran = ran.clone();
    let work = move || {
        ran.lock().unwrap().push(name);
        async {}
    };
    scheduler.add(trigger, work).id("job").on_conflict(OnConflict::Reconcile)
}

fn take(ran: &Ran) -> Vec<&'static str> {
    std::mem::take(&mut *ran.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_jitter_runs_once_although_the_trigger_changes() {
    for other in ["0 * * * *", "30 3 * * *"] {
        for reconciled in [true, false] {
            let (_clock, scheduler) = scheduler_at("2026-06-01T11:59:00Z").await;
            let ran = Ran::default();
            let hourly = declare(&scheduler, cron("0 * * * *"), "one", &ran).jitter(1700 * SECOND);
            let job = hourly.await.unwrap();
            sleep(61 * SECOND).await;
            assert_eq!(take(&ran).len(), 0, "it waits for its jitter");
            if reconciled {
                let again = declare(&scheduler, cron(other), "two", &ran).jitter(1700 * SECOND);
                again.await.unwrap();
            } else {
                job.reschedule(cron(other)).await.unwrap();
            }
            assert_eq!(job.next_fire().await.unwrap(), Some(instant("2026-06-01T12:00:00Z")));
            sleep(1800 * SECOND).await;
            assert_eq!(take(&ran).len(), 1, "{other}, reconciled: {reconciled}");
            assert!(job.next_fire().await.unwrap() > Some(instant("2026-06-01T12:30:00Z")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn replacing_skips_it_as_replaced() {
    let (_clock, scheduler) = scheduler_at("2026-06-01T11:59:00Z").await;
    let mut skipped = scheduler.events_matching(EventFilter::new().kinds([EventKind::Skipped]));
    let ran = Ran::default();
    let hourly = || declare(&scheduler, cron("0 * * * *"), "one", &ran).jitter(1700 * SECOND);
    hourly().await.unwrap();
    sleep(61 * SECOND).await;
    hourly().on_conflict(OnConflict::Replace).await.unwrap();
    let what = skipped.next().await.unwrap().payload;
    assert!(matches!(what, EventPayload::Skipped { reason: SkipReason::Replaced, .. }), "{what:?}");
    sleep(1800 * SECOND).await;
    assert_eq!(take(&ran).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_jitter_is_skipped_when_the_job_is_paused_or_removed() {
    for removed in [true, false] {
        let (_clock, scheduler) = scheduler_at("2026-06-01T11:59:00Z").await;
        let mut skipped = scheduler.events_matching(EventFilter::new().kinds([EventKind::Skipped]));
        let ran = Ran::default();
        let hourly = declare(&scheduler, cron("0 * * * *"), "one", &ran).jitter(1700 * SECOND);
        let job = hourly.await.unwrap();
        sleep(61 * SECOND).await;
        job.reschedule(cron("30 3 * * *")).await.unwrap();
        if removed {
            job.remove().await.unwrap();
        } else {
            job.pause().await.unwrap();
        }
        let EventPayload::Skipped { fire_times, .. } = skipped.next().await.unwrap().payload else {
            panic!()
        };
        assert_eq!(fire_times.first, instant("2026-06-01T12:00:00Z"));
        sleep(1800 * SECOND).await;
        assert_eq!(take(&ran).len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn declaring_the_same_again_takes_the_new_work_and_puts_nothing_off() {
    let scheduler = Scheduler::new();
    let ran = Ran::default();
    let mut first = declare(&scheduler, every(60 * SECOND), "one", &ran);
    let mut seen = first.runs();
    let first = first.await.unwrap();
    sleep(40 * SECOND).await;
    let mut second = declare(&scheduler, every(60 * SECOND), "two", &ran);
    let mut seen_anew = second.runs();
    let second = second.await.unwrap();
    sleep(21 * SECOND).await;
    assert_eq!(take(&ran), ["two"], "its grid stays");
    seen.next().await.unwrap();
    seen_anew.next().await.unwrap();
    // A third time, and with another trigger and other options.
    let third = declare(&scheduler, every(10 * SECOND), "three", &ran).name("third").tag("x");
    third.await.unwrap();
    sleep(11 * SECOND).await;
    assert_eq!(take(&ran), ["three"]);
    let info = first.get().await.unwrap();
    assert_eq!((info.name.as_deref(), info.tags.len()), (Some("third"), 1));
    assert_eq!(scheduler.len(), 1);
    // All handles and tokens reference the one job.
    second.cancel_token().cancel();
    assert!(matches!(timeout(SECOND, first).await, Ok(End::Cancelled)));
    assert!(matches!(timeout(SECOND, second).await, Ok(End::Cancelled)));
}

#[tokio::test(start_paused = true)]
async fn an_active_run_keeps_its_work() {
    let scheduler = Scheduler::new();
    let ran = Ran::default();
    let slow = {
        let ran = ran.clone();
        move || {
            let ran = ran.clone();
            async move {
                sleep(5 * SECOND).await;
                ran.lock().unwrap().push("slow");
            }
        }
    };
    let add = scheduler.add(every(10 * SECOND), slow).id("job");
    let job = add.on_conflict(OnConflict::Reconcile).await.unwrap();
    sleep(11 * SECOND).await;
    declare(&scheduler, every(10 * SECOND), "quick", &ran).await.unwrap();
    sleep(10 * SECOND).await;
    assert_eq!(take(&ran), ["slow", "quick"]);
    job.remove().await.unwrap();
}
