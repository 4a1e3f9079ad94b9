//! First fires, and starts that have just passed.

use chrono::Weekday::Tue;

use super::*;

fn upcoming(build: impl IntoTrigger, n: usize) -> Vec<String> {
    // A Monday.
    let now = t("2026-11-30T12:00:00Z");
    let trigger = trigger(build);
    let json = serde_json::to_string(&trigger).ok();
    if let Some(json) = json {
        assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger, "{json}");
        assert_eq!(trigger_of(trigger.to_string()), trigger);
    }
    let anchored = trigger.anchored(now, Tz::UTC).unwrap();
    if let Ok(json) = serde_json::to_string(&anchored) {
        assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), anchored, "{json}");
        assert_eq!(trigger_of(anchored.to_string()), anchored);
    }
    let mut fires = Vec::new();
    let mut next = anchored.first_when_added(now).unwrap();
    while let Some(fire) = next.filter(|_| fires.len() < n) {
        assert_eq!(anchored.last_at_or_before(fire).unwrap(), Some(fire), "{anchored}");
        let before = anchored.last_at_or_before(fire - TimeDelta::milliseconds(1)).unwrap();
        assert_eq!(before, fires.last().copied(), "{anchored}");
        fires.push(fire);
        assert_eq!(anchored.count(fires[0], fire, 99), fires.len() as u64, "{anchored}");
        next = anchored.next_after(fire).unwrap();
    }
    fires.iter().map(|fire| fire.format("%d %H:%M").to_string()).collect()
}

#[derive(Debug)]
struct EveryNoon;

impl CustomTrigger for EveryNoon {
    fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
        trigger("0 12 * * *").next_after(t).unwrap()
    }
}

#[test]
fn every_kind_may_fire_when_it_is_added() {
    let hour = Duration::from_secs(3600);
    assert_eq!(upcoming(every(hour).immediately(), 3), ["30 12:00", "30 13:00", "30 14:00"]);
    assert_eq!(upcoming(cron("0 9 * * *").immediately(), 2), ["30 12:00", "01 09:00"]);
    assert_eq!(upcoming(CronFields::builder().hour(9).immediately(), 2), ["30 12:00", "01 09:00"]);
    assert_eq!(upcoming(every("day at 9:00").immediately(), 2), ["30 12:00", "01 09:00"]);
    assert_eq!(
        upcoming(every("2 weeks on monday at 9:00").immediately(), 3),
        ["30 12:00", "07 09:00", "21 09:00"]
    );
    let days = calendar_interval().days(2).at("09:00");
    assert_eq!(upcoming(days.immediately(), 2), ["30 12:00", "02 09:00"]);
    assert_eq!(upcoming(at("2026-12-01").immediately(), 3), ["30 12:00", "01 00:00"]);
    assert_eq!(upcoming(now().immediately(), 3), ["30 12:00"]);
    assert_eq!(upcoming(or(["@daily", "0 9 * * *"]).immediately(), 2), ["30 12:00", "01 00:00"]);
    assert_eq!(upcoming(and(["@daily", "@weekly"]).immediately(), 2), ["30 12:00", "06 00:00"]);
    assert_eq!(upcoming(custom(EveryNoon).first_at("13:00"), 2), ["30 13:00", "01 12:00"]);
    let random = upcoming(every(60).to(60).minutes().immediately(), 2);
    assert_eq!(random, ["30 12:00", "30 13:00"]);
    assert!(after_success("other").immediately().into_trigger().is_err());
}

#[test]
fn the_first_fire_is_said_and_the_others_are_later() {
    let hourly = || every(Duration::from_secs(3600));
    assert_eq!(upcoming(hourly().first_at("12:17"), 2), ["30 12:17", "30 13:17"]);
    assert_eq!(
        upcoming(hourly().starting_at("2026-11-30").first_at("12:17"), 3),
        ["30 12:17", "30 13:00", "30 14:00"]
    );
    assert_eq!(
        upcoming(cron("0 * * * *").first_at("2026-11-30T14:00:00Z"), 2),
        ["30 14:00", "30 15:00"]
    );
    assert_eq!(upcoming(cron("0 * * * *").first_at("15:30").times(2), 9), ["30 15:30", "30 16:00"]);
    assert_eq!(upcoming(hourly().first_at("12:30").times(2), 9), ["30 12:30", "30 13:30"]);
    // What has passed is left out.
    let passed = trigger(cron("0 * * * *").first_at("2026-11-30T11:30:00Z"));
    let now = t("2026-11-30T12:00:00Z");
    assert_eq!(passed.first_when_added(now).unwrap(), Some(now));
}

#[test]
fn days_do_not_keep_the_first_fire_away() {
    assert_eq!(upcoming(cron("0 9 * * *").immediately().only(Tue), 2), ["30 12:00", "01 09:00"]);
    assert_eq!(
        upcoming(every(Duration::from_secs(3600)).immediately().except(Mon), 2),
        ["30 12:00", "01 00:00"]
    );
    assert_eq!(
        upcoming(every(60).to(60).minutes().first_at("12:30").only(Tue).times(2), 9),
        ["30 12:30", "01 00:30"]
    );
}

#[test]
fn members_have_first_fires_of_their_own() {
    let member = || cron("0 9 * * *").immediately();
    assert_eq!(upcoming(or((member(), at("13:00"))), 3), ["30 12:00", "30 13:00", "01 09:00"]);
    let both = and((member(), every(Duration::from_secs(3600)).immediately()));
    assert_eq!(upcoming(both, 2), ["30 12:00", "01 09:00"]);
    let times = and((cron("0 9 * * *").first_at("10:00"), cron("0 9,10 * * *")));
    assert_eq!(upcoming(times, 2), ["01 10:00", "02 09:00"]);
}

#[test]
fn a_start_that_is_less_than_a_second_old_counts_as_now() {
    let now = t("2026-11-30T12:00:00.700Z");
    let first = |build: Trigger, age: i64| {
        let start = now - TimeDelta::milliseconds(age);
        let trigger = Trigger { start: Some(start), ..build };
        let first = trigger.first_when_added(now).unwrap().unwrap();
        (first - start).num_milliseconds()
    };
    let hourly = || trigger("every 1h");
    assert_eq!(first(hourly(), 0), 0);
    assert_eq!(first(hourly(), 1), 0);
    assert_eq!(first(hourly(), 999), 0);
    assert_eq!(first(hourly(), 1000), 3_600_000);
    // The grid has a fire time that is newer.
    assert_eq!(first(trigger("every 100ms"), 250), 300);
    assert_eq!(first(trigger("every 60 to 60 min; immediately"), 999), 0);
    // What goes by a wall clock has fire times of its own.
    let daily = trigger(cron("0 12 * * *").starting_at("2026-11-30T12:00:00Z"));
    assert_eq!(daily.first_when_added(now).unwrap(), Some(t("2026-12-01T12:00:00Z")));
    let said = trigger(cron("@daily").first_at("2026-11-30T12:00:00Z"));
    assert_eq!(said.first_when_added(now).unwrap(), Some(t("2026-11-30T12:00:00Z")));
}

#[test]
fn a_first_fire_that_has_just_passed_is_one_of_the_times() {
    let now = t("2026-11-30T12:00:00Z");
    let just_passed = now - TimeDelta::milliseconds(400);
    let nine = || cron("0 9 * * *").first_at(just_passed);
    for once in [trigger(nine().times(1)), trigger(nine()).once()] {
        let anchored = once.anchored(now, TimeZone::UTC).unwrap();
        assert_eq!(anchored.first_when_added(now).unwrap(), Some(just_passed), "{once}");
        assert_eq!(anchored.next_after(just_passed).unwrap(), None, "{once}");
    }
    let twice = trigger(nine().times(2)).anchored(now, TimeZone::UTC).unwrap();
    let fires: Vec<_> = twice.upcoming_after(just_passed).map(Result::unwrap).collect();
    assert_eq!(fires, [t("2026-12-01T09:00:00Z")]);
}

#[test]
fn the_first_fire_of_a_member_that_has_just_passed_is_one_of_the_whole() {
    let now = t("2026-11-30T12:00:00Z");
    let just_passed = now - TimeDelta::milliseconds(400);
    let nine = || cron("0 9 * * *").first_at(just_passed);
    let first = |build: Trigger| {
        let anchored = build.anchored(now, TimeZone::UTC).unwrap();
        anchored.first_when_added(now).unwrap()
    };
    let grid = |minutes: u64| every(Duration::from_secs(60 * minutes)).starting_at(just_passed);
    for build in [
        trigger(or((nine().times(1), cron("0 10 * * *")))),
        trigger(or((or([nine().times(1)]), cron("0 10 * * *")))),
        trigger(or((nine().times(1), cron("0 10 * * *"))).times(1)),
        trigger(or((grid(10), cron("0 10 * * *")))),
        trigger(and((grid(6), grid(10)))),
    ] {
        assert_eq!(first(build.clone()), Some(just_passed), "{build}");
    }
    // Unless the whole does not fire then.
    assert_eq!(first(trigger(and((grid(6), cron("0 13 * * *"))))), None);
    let tomorrow = trigger(or((nine().times(1), cron("0 10 * * *"))).starting_at("2026-12-01"));
    assert_eq!(first(tomorrow), Some(t("2026-12-01T10:00:00Z")));
    // Nor if it has passed long since.
    let long_since = cron("0 9 * * *").first_at(now - TimeDelta::seconds(2));
    let once = or((long_since.times(1), cron("0 10 * * *")));
    assert_eq!(first(trigger(once)), Some(t("2026-12-01T09:00:00Z")));
}

#[test]
fn a_grid_beside_its_days_or_hours_ends_after_a_first_fire() {
    let noon = t("2026-11-30T12:00:00Z");
    let daily = || every(Duration::from_secs(86_400)).immediately().between("09:00", "11:00");
    let weekly = || every(Duration::from_secs(7 * 86_400)).immediately().only(chrono::Weekday::Tue);
    for build in [daily(), weekly()] {
        let anchored = trigger(build).anchored(noon, TimeZone::UTC).unwrap();
        assert_eq!(anchored.first_when_added(noon).unwrap(), Some(noon), "{anchored}");
        assert_eq!(anchored.next_after(noon).unwrap(), None, "{anchored}");
        assert_eq!(anchored.last_at_or_before(noon + hours(48)).unwrap(), Some(noon), "{anchored}");
    }
}
