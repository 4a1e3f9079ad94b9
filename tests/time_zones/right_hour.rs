//! The hour at which a daily job fires, by current data.

use chrono::{DateTime, Utc};
use punctual::{
    TimeZone,
    trigger::{IntoTrigger as _, cron},
};

#[test]
fn nine_in_the_morning_is_the_right_instant_in_december_2026() {
    let midnight: DateTime<Utc> = "2026-12-01T00:00:00Z".parse().unwrap();
    for (zone, expected) in [
        ("America/Vancouver", "16:00"),
        ("Canada/Pacific", "16:00"),
        ("America/Edmonton", "15:00"),
        ("America/Yellowknife", "15:00"),
        ("America/Inuvik", "15:00"),
        ("Canada/Mountain", "15:00"),
        ("America/Winnipeg", "14:00"),
        ("America/Rainy_River", "14:00"),
        ("Canada/Central", "14:00"),
        ("America/Havana", "13:00"),
        ("Cuba", "13:00"),
        ("Africa/Casablanca", "09:00"),
        ("Africa/El_Aaiun", "09:00"),
    ] {
        // By name, and by the type, whose own rules are older.
        let by_name = cron("0 9 * * *").in_tz(zone).into_trigger().unwrap();
        let typed: punctual::chrono_tz::Tz = zone.parse().unwrap();
        assert_eq!(by_name, cron("0 9 * * *").in_tz(typed).into_trigger().unwrap());
        let fire = by_name.next_after(midnight).unwrap().unwrap();
        assert_eq!(fire.format("%F %H:%M").to_string(), format!("2026-12-01 {expected}"), "{zone}");
    }
}

#[test]
fn rules_go_on_after_2099() {
    let trigger = cron("0 9 * * *").in_tz("Europe/Berlin").into_trigger().unwrap();
    let summer = "2150-07-01T00:00:00Z".parse().unwrap();
    assert_eq!(trigger.next_after(summer).unwrap(), Some("2150-07-01T07:00:00Z".parse().unwrap()));
}

#[test]
fn the_data_says_its_version() {
    let data = punctual::time_zone_data();
    assert!(data.version() >= "2026f", "{data}");
}

#[test]
fn an_instant_is_shown_in_a_zone() {
    let berlin: TimeZone = "Europe/Berlin".parse().unwrap();
    let instant: DateTime<Utc> = "2026-07-01T12:00:00Z".parse().unwrap();
    assert_eq!(instant.with_timezone(&berlin).to_rfc3339(), "2026-07-01T14:00:00+02:00");
}
