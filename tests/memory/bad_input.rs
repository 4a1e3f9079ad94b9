//! Bad input is an error at `.await?` that shows the value, the reason and the remedy.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use punctual::{
    End, Error, EventFilter, EventKind, OnConflict, Scheduler,
    trigger::{CustomTrigger, IntoTrigger, after, and, at, cron, custom, every, now},
};

use crate::SECOND;

async fn refused(trigger: impl IntoTrigger) -> Error {
    let scheduler = Scheduler::new();
    let error = scheduler.add(trigger, || async {}).await.unwrap_err();
    assert!(scheduler.is_empty(), "nothing is left of a job that was refused");
    error
}

/// Checks that an error contains all of these.
fn says(error: &Error, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
    assert!(text.chars().next().is_some_and(|c| !c.is_uppercase()), "{text}");
}

#[tokio::test]
async fn bad_cron_text() {
    for (text, parts) in [
        ("61 * * * *", &["61 * * * *", "minute", "61", "0..=59"][..]),
        ("* * *", &["* * *", "field"]),
        ("", &["empty text", "every 10 minutes"]),
        ("* * * * MOO", &["MOO"]),
        ("MON * * * *", &["minute", "MON"]),
        (", * * * *", &["minute"]),
        ("*/90 * * * *", &["*/90"]),
        ("0 0 * * 7L#2", &["7L#2"]),
        ("@reboot", &["@reboot", "now()"]),
        ("99999999999999999999 * * * *", &["99999999999999999999"]),
        ("* * * * * * * *", &["field"]),
        ("☃ * * * *", &["☃"]),
    ] {
        let error = refused(text).await;
        assert!(error.is_invalid_trigger(), "{text}: {error:?}");
        says(&error, parts);
    }
}

#[tokio::test]
async fn a_zone_that_does_not_exist() {
    let error = refused(cron("0 9 * * *").in_tz("Europe/Berln")).await;
    assert!(error.is_invalid_trigger());
    says(&error, &["Europe/Berln", "Europe/Berlin"]);
    let error = Scheduler::builder().time_zone("Mars").start().await.unwrap_err();
    says(&error, &["Mars"]);
}

#[tokio::test]
async fn periods_that_make_no_sense() {
    for (period, parts) in [
        (TimeDelta::zero(), &["0 ms", "1 ms"][..]),
        (TimeDelta::seconds(-5), &["-5000 ms", "1 ms"]),
        (TimeDelta::microseconds(10), &["0.01 ms", "1 ms"]),
        (TimeDelta::microseconds(1500), &["1.5 ms", "use 1 ms"]),
    ] {
        let error = refused(every(period)).await;
        assert!(error.is_invalid_trigger());
        says(&error, parts);
    }
    says(&refused(every(Duration::ZERO)).await, &["0 ms"]);
    assert!(refused(every(Duration::MAX)).await.is_invalid_trigger());
    assert!(refused(every(TimeDelta::MAX)).await.is_invalid_trigger());
    assert!(refused(after(Duration::MAX)).await.is_invalid_trigger());
}

#[tokio::test]
async fn bounds_that_make_no_sense() {
    let now = Utc::now();
    let error = refused(every(SECOND).starting_at(now).until(now - TimeDelta::seconds(1))).await;
    assert!(error.is_invalid_trigger());
    says(&error, &["ends at", "before it starts at", "swap"]);
    says(&refused(every(SECOND).times(0)).await, &["times(0)", "1 or more"]);
    says(&refused(cron("* * * * *").times(10_001)).await, &["times(10001)", "until"]);
    let error = refused(every(SECOND).starting_at(now).immediately()).await;
    says(&error, &["immediately", "starting_at"]);
}

#[tokio::test]
async fn a_trigger_that_can_never_fire() {
    let past: DateTime<Utc> = "2020-01-01T00:00:00Z".parse().unwrap();
    for error in [
        refused("0 0 30 2 *").await,
        refused(cron("0 0 * * *").until(past)).await,
        refused(every(SECOND).until(Utc::now())).await,
        refused(at(past).starting_at(past + TimeDelta::days(1))).await,
        refused("0 0 0 1 1 * 2020").await,
    ] {
        assert!(error.never_fires(), "{error:?}");
        says(&error, &["never fires"]);
    }
    // A date in the past is late, not impossible.
    Scheduler::new().add(at(past), || async {}).await.unwrap();
    for extreme in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        let scheduler = Scheduler::new();
        // Any result is fine, except a panic.
        let _ = scheduler.add(at(extreme), || async {}).await;
        let _ = scheduler.add(every(SECOND).starting_at(extreme), || async {}).await;
        let _ = scheduler.add(cron("* * * * *").starting_at(extreme), || async {}).await;
        let _ = scheduler.add(cron("* * * * *").until(extreme).times(3), || async {}).await;
        tokio::task::yield_now().await;
        scheduler.shutdown().await;
    }
}

#[tokio::test]
async fn intervals_and_crons_that_never_meet() {
    let start: DateTime<Utc> = "2026-12-01T12:34:17.250Z".parse().unwrap();
    let grid = |millis: i64, start| every(TimeDelta::milliseconds(millis)).starting_at(start);
    for (period, start, beside) in [
        (60_000, start, "beside the whole seconds"),
        (60_000, start - TimeDelta::milliseconds(250), "beside the seconds of the minute"),
        (3_600_000, start - TimeDelta::milliseconds(17_250), "beside the times of day"),
    ] {
        let error = refused(and((grid(period, start), cron("0 9 * * *").in_tz("UTC")))).await;
        says(&error, &["never fire", beside, "starting_at(\"2026-12-02T09:00:00Z\")"]);
        // The exact remedy.
        let remedy = grid(period, "2026-12-02T09:00:00Z".parse().unwrap());
        let both = and((remedy, cron("0 9 * * *").in_tz("UTC")));
        let job = Scheduler::new().add(both, || async {}).await.unwrap();
        drop(job);
    }
    let with_days = cron("0 9 * * MON").in_tz("Europe/Berlin");
    let error = refused(and((grid(60_000, start), with_days))).await;
    says(&error, &["beside the whole seconds"]);
}

#[tokio::test]
async fn ids_out_of_range_or_taken() {
    let scheduler = Scheduler::new();
    let add = |id: &str| scheduler.add(every(SECOND), || async {}).id(id);
    says(&add("").await.unwrap_err(), &["empty", "1 to 255"]);
    let error = add(&"x".repeat(256)).await.unwrap_err();
    assert!(error.is_invalid_option());
    says(&error, &["256", "at most 255"]);
    let longest = add(&"x".repeat(255)).await.unwrap();
    let error = add(&"x".repeat(255)).await.unwrap_err();
    assert!(error.is_duplicate_id());
    says(&error, &["already", "on_conflict"]);
    let kept = add(&"x".repeat(255)).on_conflict(OnConflict::Keep).await.unwrap();
    kept.pause().await.unwrap();
    assert!(longest.get().await.unwrap().paused, "the handle is that of the job that was kept");

    let error = scheduler.add_all([add("twice"), add("twice")]).await.unwrap_err();
    assert!(error.is_duplicate_id());
    let error = scheduler.add_all([add("new"), add(&"x".repeat(255))]).await.unwrap_err();
    assert!(error.is_duplicate_id());
    assert_eq!(scheduler.len(), 1, "all of them or none");
    let error = Scheduler::new().add_all([add("of another scheduler")]).await.unwrap_err();
    assert!(error.is_invalid_option());
}

#[tokio::test]
async fn options_out_of_range() {
    let scheduler = Scheduler::new();
    let error = scheduler.add(every(SECOND), || async {}).max_instances(0).await.unwrap_err();
    assert!(error.is_invalid_option());
    says(&error, &["max_instances(0)", "1 or more"]);
    let error = scheduler.add(every(SECOND), || async {}).max_catch_up(0).await.unwrap_err();
    says(&error, &["max_catch_up(0)"]);
    let error = scheduler.add(every(SECOND), || async {}).max_catch_up(10_001).await.unwrap_err();
    says(&error, &["max_catch_up(10001)", "10000"]);
    let error = scheduler.add(every(SECOND), || async {}).jitter(Duration::MAX).await.unwrap_err();
    says(&error, &["jitter", "a year"]);
    let error = Scheduler::builder().event_buffer(0).start().await.unwrap_err();
    says(&error, &["event_buffer(0)", "1 or more"]);
    assert!(Scheduler::builder().max_instances(0).start().await.unwrap_err().is_invalid_option());
    let job = scheduler.add(every(SECOND), || async {}).await.unwrap();
    let error = job.modify(|settings| settings.max_instances(0)).await.unwrap_err();
    assert!(error.is_invalid_option());
    assert_eq!(job.get().await.unwrap().max_instances, 1, "nothing has changed");
    // Extremes that are allowed.
    scheduler
        .add(every(SECOND), || async {})
        .misfire_grace_time(Duration::MAX)
        .jitter(Duration::from_secs(366 * 86400))
        .cancel_grace(Duration::MAX)
        .max_instances(u32::MAX)
        .max_catch_up(10_000)
        .priority(i32::MIN)
        .await
        .unwrap();
}

#[tokio::test]
async fn after_shutdown_everything_says_so() {
    let scheduler = Scheduler::new();
    let job = scheduler.add(every(SECOND), || async {}).id("job").await.unwrap();
    scheduler.shutdown().await;
    for error in [
        scheduler.add(now(), || async {}).await.unwrap_err(),
        scheduler.add_once(now(), async { 1 }).await.unwrap_err(),
        scheduler.add_all([scheduler.add(now(), || async {})]).await.unwrap_err(),
        scheduler.pause().await.unwrap_err(),
        scheduler.resume().await.unwrap_err(),
        scheduler.remove_all().await.unwrap_err(),
        job.run_now().await.unwrap_err(),
        job.reschedule(every(SECOND)).await.unwrap_err(),
        job.pause().await.unwrap_err(),
        job.modify(|settings| settings).await.unwrap_err(),
        job.get().await.unwrap_err(),
    ] {
        assert!(error.is_shut_down(), "{error:?}");
    }
    assert!(scheduler.jobs().await.unwrap().is_empty());
    // A second shutdown returns at once, with the same report.
    assert!(scheduler.shutdown().await.is_clean());
}

#[test]
fn a_runtime_without_timers_is_an_error_too() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let error = Scheduler::new().add(now(), || async {}).await.unwrap_err();
        assert!(error.is_no_runtime());
        says(&error, &["without timers", "enable_time()"]);
        assert!(Scheduler::builder().start().await.unwrap_err().is_no_runtime());
    });
}

#[test]
fn a_scheduler_made_outside_a_runtime_says_so_when_it_is_used() {
    let scheduler = Scheduler::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for error in [
            scheduler.add(now(), || async {}).await.unwrap_err(),
            scheduler.jobs().await.unwrap_err(),
            scheduler.pause().await.unwrap_err(),
            scheduler.job("x").get().await.unwrap_err(),
            scheduler.on_event(punctual::EventFilter::new(), |_| {}).unwrap_err(),
        ] {
            assert!(error.is_no_runtime(), "{error:?}");
            says(&error, &["outside a Tokio runtime", "Scheduler::new()"]);
        }
        assert!(scheduler.shutdown().await.is_clean());
    });
    assert!(
        futures::FutureExt::now_or_never(Scheduler::builder().start())
            .unwrap()
            .unwrap_err()
            .is_no_runtime()
    );
}

#[tokio::test(start_paused = true)]
async fn a_custom_trigger_that_answers_no_later_instant_ends_its_job_and_no_other() {
    /// Fires once, and then returns an instant that is this much later than the given one.
    #[derive(Debug)]
    struct Broken(DateTime<Utc>, TimeDelta);
    impl CustomTrigger for Broken {
        fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
            Some(if t < self.0 { self.0 } else { t + self.1 })
        }
    }
    let scheduler = Scheduler::new();
    let failed = EventFilter::new().kinds([EventKind::TriggerFailed]);
    let mut failed = scheduler.events_matching(failed);
    let mut neighbour = scheduler.add(every(Duration::from_millis(100)).times(50), || async {});
    let neighbour_runs = neighbour.runs();
    neighbour.await.unwrap();
    for off in [TimeDelta::zero(), TimeDelta::milliseconds(-1), TimeDelta::days(-1)] {
        let mut add =
            scheduler.add(custom(Broken(Utc::now() + TimeDelta::seconds(1), off)), || async {});
        let runs = add.runs();
        let job = add.await.unwrap();
        let id = job.id().clone();
        let End::TriggerFailed(error) = job.await else { panic!("it ended otherwise") };
        says(&error, &["custom trigger answered", "must answer with a later instant"]);
        assert!(runs.count().await <= 1);
        let event = failed.next().await.unwrap();
        assert_eq!(event.payload.job(), Some(&id));
    }
    let error = refused(custom(Broken(DateTime::<Utc>::MIN_UTC, TimeDelta::zero()))).await;
    says(&error, &["must answer with a later instant"]);
    assert_eq!(neighbour_runs.count().await, 50, "the neighbour keeps running");
}
