//! When a trigger ends.

use super::*;

#[test]
fn the_ends_of_the_calendar_are_instants_like_others() {
    let (first, last) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
    for zone in ["America/New_York", "Europe/Berlin", "Asia/Tokyo", "UTC"] {
        let daily = || calendar_interval().days(1).in_tz(zone);
        for at in [first, last] {
            // Years that no calendar interval has.
            assert!(trigger(daily()).next_after(at).is_err(), "{zone} {at}");
            let window = trigger(every(Duration::from_secs(60)).between("9:00", "10:00"));
            let _ = window.next_after(at);
            let _ = window.last_at_or_before(at);
            let hourly = trigger(cron("0 * * * *").in_tz(zone).between("9:00", "10:00"));
            let _ = hourly.next_after(at);
            let _ = hourly.last_at_or_before(at);
        }
        let start = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
        assert!(daily().starting_on(start).until(last).into_trigger().is_ok(), "{zone}");
        assert!(daily().starting_on(start).until(first).into_trigger().is_err(), "{zone}");
    }
}

#[test]
fn an_end_that_waits_for_its_zone_counts_for_what_was_last() {
    let until = trigger(cron("0 9 * * *").until("2026-12-01"));
    let (eve, later) = (t("2026-11-30T09:00:00Z"), t("2026-12-05T12:00:00Z"));
    assert_eq!(until.last_at_or_before(later).unwrap(), Some(eve));
    assert_eq!(until.next_after(later).unwrap(), None);
    let starting = trigger(cron("0 9 * * *").starting_at("2026-12-01"));
    assert_eq!(starting.last_at_or_before(eve).unwrap(), None);
}

#[test]
fn an_end_that_has_passed_when_a_job_is_added_leaves_no_fire_time() {
    let now = t("2026-11-30T12:00:00Z");
    let hourly = || every(Duration::from_secs(3600));
    let passed = "2026-11-01T00:00:00Z";
    for build in [
        trigger(hourly().immediately().until(passed)),
        trigger(hourly().starting_at("09:00").until(passed)),
        trigger(hourly().starting_at(Duration::from_secs(600)).until(passed)),
        trigger(hourly().until(passed)),
        trigger(every(60).to(120).minutes().immediately().until(passed)),
        trigger(cron("0 9 * * *").immediately().until(passed)),
        trigger(cron("0 9 * * *").starting_at("09:00").until(passed)),
    ] {
        let anchored = build.anchored(now, TimeZone::UTC).unwrap();
        assert_eq!(anchored.first_when_added(now).unwrap(), None, "{build}");
        // A store reads what it keeps.
        let json = serde_json::to_string(&anchored).unwrap();
        assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), anchored, "{json}");
        assert_eq!(trigger(anchored.to_string()), anchored);
    }
}

#[test]
fn an_end_may_be_a_time_of_day_or_a_duration() {
    let now = t("2026-11-30T12:00:00Z");
    let berlin = Tz::Europe__Berlin;
    let minutely = || every(Duration::from_secs(60));
    for (build, end) in [
        (minutely().until("18:00"), "2026-11-30T17:00:00Z"),
        (minutely().until("13:00"), "2026-12-01T12:00:00Z"),
        (minutely().until(NaiveTime::from_hms_opt(12, 0, 0).unwrap()), "2026-12-01T11:00:00Z"),
        (minutely().until(Duration::from_secs(600)), "2026-11-30T12:10:00Z"),
        (minutely().until(hours(1)).starting_at("2026-12-24 18:00"), "2026-12-24T18:00:00Z"),
        (minutely().until("18:00").starting_at("2026-12-24 18:00"), "2026-12-25T17:00:00Z"),
        (minutely().until(hours(1)).first_at("18:00"), "2026-11-30T18:00:00Z"),
        (minutely().until("2026-12-24"), "2026-12-23T23:00:00Z"),
    ] {
        let trigger = trigger(build);
        let anchored = trigger.anchored(now, berlin).unwrap();
        assert_eq!(anchored.end(), Some(t(end)), "{trigger}");
        assert_eq!(anchored.anchored(now + hours(1), Tz::UTC).unwrap(), anchored);
    }
    let ten = trigger(minutely().until("10 minutes")).anchored(now, berlin).unwrap();
    assert_eq!(ten.upcoming_after(now).count(), 10);
    let three = trigger(minutely().until("10 minutes").times(3)).anchored(now, berlin).unwrap();
    assert_eq!(three.upcoming_after(now).count(), 3);
    let twenty = trigger(minutely().until("10 minutes").times(20));
    assert_eq!(twenty.anchored(now, berlin).unwrap().upcoming_after(now).count(), 10);
}

#[test]
fn an_end_that_counts_from_the_adding_moves_with_the_clock() {
    let now = t("2026-11-30T12:00:00Z");
    let grid = || every(Duration::from_secs(60)).until("10 minutes");
    let random = || every(1).to(2).minutes().until("10 minutes");
    for build in [
        trigger(grid()),
        trigger(grid().immediately()),
        trigger(grid().starting_at(hours(1))),
        trigger(grid().immediately().only(chrono::Weekday::Mon)),
        trigger(random()),
        trigger(random().immediately()),
        trigger(or((grid().immediately(), random())).until("10 minutes")),
    ] {
        let anchored = build.anchored(now, TimeZone::UTC).unwrap();
        assert!(build.is_elapsed_time(), "{build}");
        let json = serde_json::to_string(&anchored).unwrap();
        assert!(json.contains(r#""elapsed_end":"2026-11-30T1"#), "{json}");
        let read: Trigger = serde_json::from_str(&json).unwrap();
        assert_eq!(read, anchored, "{json}");
        assert_eq!(trigger(anchored.to_string()), anchored);
        let fires = |trigger: &Trigger| trigger.upcoming_after(now - hours(5)).count();
        for by in [hours(1), hours(-1)] {
            let mut moved = anchored.clone();
            moved.shift(by);
            assert_eq!(moved.end(), anchored.end().map(|end| end + by), "{build}");
            if anchored.days().is_none() {
                assert_eq!(fires(&moved), fires(&anchored), "{build}");
            }
        }
    }
    // One that was given is an instant.
    let given = trigger(grid_until("2026-11-30T12:10:00Z")).anchored(now, TimeZone::UTC);
    let mut given = given.unwrap();
    given.shift(hours(1));
    assert_eq!(given.end(), Some(t("2026-11-30T12:10:00Z")));
}

fn grid_until(end: &str) -> Build<Interval> {
    every(Duration::from_secs(60)).until(end)
}

/// Stores have such triggers.
#[test]
fn an_end_that_is_kept_as_the_last_fire_time_is_read() {
    let json = concat!(
        r#"{"type":"interval","period_ms":60000,"start":"2026-11-30T12:01:00Z","#,
        r#""last":"2026-11-30T12:10:00Z"}"#,
    );
    let read: Trigger = serde_json::from_str(json).unwrap();
    assert_eq!(read.end(), Some(t("2026-11-30T12:10:00Z")));
    assert_eq!(serde_json::to_string(&read).unwrap(), json);
}

#[test]
fn only_what_counts_from_the_adding_is_elapsed_time() {
    let hourly = || every(Duration::from_secs(3600));
    for (build, elapsed) in [
        (hourly(), true),
        (hourly().immediately(), true),
        (hourly().starting_at(hours(1)), true),
        (hourly().starting_at("2026-12-01"), false),
        (hourly().starting_at("18:00"), false),
        (hourly().first_at("18:00"), false),
        (hourly().first_at("2026-12-01T00:00:00Z"), false),
    ] {
        let trigger = trigger(build);
        assert_eq!(trigger.is_elapsed_time(), elapsed, "{trigger}");
    }
}

#[test]
fn what_ends_before_it_starts_is_refused() {
    let refused = |build: Result<Trigger, Error>| build.unwrap_err().to_string();
    let error =
        refused(cron("@daily").starting_at("2026-12-02 10:00").until("2026-12-01").into_trigger());
    assert_eq!(
        error,
        "the trigger ends at 2026-12-01T00:00:00, before it starts at 2026-12-02T10:00:00: swap them"
    );
    let mixed = trigger(cron("@daily").starting_at("2026-12-02").until("2026-12-01T00:00:00Z"));
    let error = refused(mixed.anchored(t("2026-01-01T00:00:00Z"), Tz::UTC));
    assert!(error.contains("2026-12-01T00:00:00Z, before it starts at 2026-12-02T00:00:00Z"));
    let error =
        refused(cron("@daily").first_at("2026-12-01").starting_at("2026-12-02").into_trigger());
    assert!(error.contains("fires first at 2026-12-01T00:00:00, before it starts"), "{error}");
    let error = refused(cron("@daily").first_at("2026-12-03").until("2026-12-02").into_trigger());
    assert!(error.contains("before it fires first at"), "{error}");
}

#[test]
fn what_is_said_twice_is_refused_unless_it_is_the_same() {
    let day = || cron("@daily");
    for (build, both) in [
        (
            day().starting_at("2026-12-01").starting_at("18:00"),
            "the start is 2026-12-01T00:00:00 and again 18:00:00",
        ),
        (day().until("18:00").until("10s"), "the end is 18:00:00 and again +10s"),
        (day().immediately().first_at("18:00"), "the first fire is at now and again 18:00:00"),
        (day().times(3).times(4), "`times` is 3 and again 4"),
    ] {
        let error = build.into_trigger().unwrap_err().to_string();
        assert_eq!(error, format!("{both}: leave one of them out"));
    }
    let twice = day().times(3).times(3).until("18:00").until("18:00:00");
    assert!(twice.immediately().immediately().into_trigger().is_ok());
    let error = "@daily; first 18:00; immediately".parse::<Trigger>().unwrap_err();
    assert!(error.to_string().contains("leave one of them out"), "{error}");
}
