//! Assertions of users about triggers: fire times over a range, and a year's changes of the clocks.

use std::panic::{AssertUnwindSafe, catch_unwind};

use punctual::{
    chrono::{DateTime, Utc},
    testing::{assert_fires, daylight_saving_days},
    trigger::{IntoTrigger, Trigger, every},
};

fn days(zone: &str, year: i32) -> Vec<String> {
    daylight_saving_days(zone, year).unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn the_days_on_which_clocks_change() {
    assert_eq!(
        days("America/New_York", 2026),
        [
            "2026-03-08: a gap of 60 min at 2026-03-08T07:00:00Z",
            "2026-11-01: a fold of 60 min at 2026-11-01T06:00:00Z",
        ],
    );
    assert_eq!(
        days("Australia/Lord_Howe", 2026),
        [
            "2026-04-05: a fold of 30 min at 2026-04-04T15:00:00Z",
            "2026-10-04: a gap of 30 min at 2026-10-03T15:30:00Z",
        ],
    );
    // Samoa skipped 30 December.
    assert_eq!(
        days("Pacific/Apia", 2011)[2..],
        ["2011-12-29: a gap of 1440 min at 2011-12-30T10:00:00Z"]
    );
    assert!(days("UTC", 2026).is_empty());
    let error = daylight_saving_days("Europe/Berln", 2026).unwrap_err();
    assert!(error.to_string().contains("Europe/Berlin"));
}

#[test]
fn the_rules_of_zones_do_not_end_with_2099() {
    for zone in ["Europe/Berlin", "America/New_York", "Australia/Sydney"] {
        for year in [2099, 2100, 2199] {
            assert_eq!(days(zone, year).len(), 2, "{zone} {year}");
        }
    }
}

#[test]
fn the_table_of_daylight_saving_holds() {
    let berlin = |text: &str| format!("{text} (Europe/Berlin)").parse::<Trigger>().unwrap();
    let new_york = |text: &str| format!("{text} (America/New_York)").parse::<Trigger>().unwrap();
    let half = "*/30 * * * *";
    for fixed in ["30 2 * * *", "every day at 2:30"] {
        let spring = "2026-03-29T00:30:00Z"..="2026-03-29T01:00:00Z";
        assert_fires(&berlin(fixed), spring, ["2026-03-29T03:00:00+02:00"]);
        let autumn = "2026-10-25T00:00:00Z"..="2026-10-25T01:30:00Z";
        assert_fires(&berlin(fixed), autumn, ["2026-10-25T02:30:00+02:00"]);
        let spring = "2026-03-08T06:30:00Z"..="2026-03-08T07:00:00Z";
        assert_fires(&new_york(fixed), spring, ["2026-03-08T03:00:00-04:00"]);
        let autumn = "2026-11-01T05:00:00Z"..="2026-11-01T08:00:00Z";
        assert_fires(&new_york(fixed), autumn, ["2026-11-01T02:30:00-05:00"]);
    }
    assert_fires(
        &berlin(half),
        "2026-03-29T00:30:00Z"..="2026-03-29T01:00:00Z",
        ["2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00"],
    );
    assert_fires(
        &new_york(half),
        "2026-11-01T05:00:00Z"..="2026-11-01T06:30:00Z",
        [
            "2026-11-01T01:00:00-04:00",
            "2026-11-01T01:30:00-04:00",
            "2026-11-01T01:00:00-05:00",
            "2026-11-01T01:30:00-05:00",
        ],
    );
}

fn panic_of(assertion: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(assertion)).unwrap_err();
    *panic.downcast().unwrap()
}

#[test]
fn what_differs_is_listed() {
    let trigger = every(1).day().at("9:00").into_trigger().unwrap();
    let day = |text: &str| format!("2026-01-{text}T09:00:00Z").parse::<DateTime<Utc>>().unwrap();
    let range = day("01")..=day("03");
    assert_fires(&trigger, range.clone(), [day("01"), day("02"), day("03")]);
    let panic = panic_of(|| assert_fires(&trigger, range, [day("01"), day("04"), day("03")]));
    assert_eq!(
        panic,
        "`every day at 9:00` does not fire as expected:
    2026-01-01T09:00:00Z
  + 2026-01-02T09:00:00Z  fires, and is not expected
    2026-01-03T09:00:00Z
  - 2026-01-04T09:00:00Z  is expected, and does not fire"
    );

    let often = "every 1ms".into_trigger().unwrap();
    let panic = panic_of(|| assert_fires(&often, day("01")..=day("03"), Vec::<&str>::new()));
    assert!(panic.ends_with("  + and so on"));
}
