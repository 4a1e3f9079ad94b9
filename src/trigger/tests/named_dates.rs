//! Which date a fire time belongs to: the one that the trigger names, also where a gap moves the fire time past midnight.

use crate::zone::DAY;

use super::*;

fn fires(trigger: impl IntoTrigger, added: &str, n: usize) -> Vec<DateTime<Utc>> {
    let trigger = trigger.into_trigger().unwrap().anchored(t(added), TimeZone::UTC).unwrap();
    let next = |&fire: &DateTime<Utc>| {
        assert_eq!(trigger.last_at_or_before(fire).unwrap(), Some(fire), "{trigger}");
        trigger.next_after(fire).unwrap()
    };
    let first = trigger.next_after(t(added) - TimeDelta::milliseconds(1)).unwrap();
    std::iter::successors(first, next).take(n).collect()
}

#[track_caller]
fn assert_fires(trigger: impl IntoTrigger, added: &str, expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|text| t(text)).collect();
    assert_eq!(fires(trigger, added, expected.len()), expected);
}

/// In Nuuk the clock goes from Saturday 2027-03-27 22:59:59 to Sunday 00:00:00, at 01:00 UTC.
const ADDED: &str = "2027-03-27T20:00:00Z";

#[test]
fn days_count_from_the_date_that_was_named() {
    assert_fires(
        every("2 days at 23:30 America/Nuuk"),
        ADDED,
        &["2027-03-28T01:00:00Z", "2027-03-30T00:30:00Z", "2027-04-01T00:30:00Z"],
    );
    // The first of several times of day is what counts.
    assert_fires(
        every("2 days at 22:00, 23:30 America/Nuuk"),
        ADDED,
        &["2027-03-28T00:00:00Z", "2027-03-28T01:00:00Z", "2027-03-29T23:00:00Z"],
    );
    assert_fires(
        every("2 days at 0:00, 23:30 America/Nuuk"),
        ADDED,
        &["2027-03-28T01:00:00Z", "2027-03-29T01:00:00Z", "2027-03-30T00:30:00Z"],
    );
}

#[test]
fn weeks_and_months_do_too() {
    assert_fires(
        every("2 weeks on saturday at 23:30 America/Nuuk"),
        ADDED,
        &["2027-03-28T01:00:00Z", "2027-04-11T00:30:00Z", "2027-04-25T00:30:00Z"],
    );
    assert_fires(
        every("2 months on the 27th at 23:30 America/Nuuk"),
        ADDED,
        &["2027-03-28T01:00:00Z", "2027-05-28T00:30:00Z", "2027-07-28T00:30:00Z"],
    );
    assert_fires(
        calendar_interval().days(2).at("23:30").in_tz("America/Nuuk"),
        ADDED,
        &["2027-03-28T01:00:00Z", "2027-03-30T00:30:00Z", "2027-04-01T00:30:00Z"],
    );
}

#[test]
fn in_every_zone_whose_gap_crosses_midnight() {
    let mut gaps = 0;
    for zone in TZ_VARIANTS.map(TimeZone::from) {
        for spans in zone.spans().windows(2) {
            let (transition, first, end) = (
                spans[1].begin,
                spans[1].begin + spans[0].offset,
                spans[1].begin + spans[1].offset,
            );
            let midnight = end.div_euclid(DAY) * DAY;
            // One that swallows a second before midnight, within the years of timetables.
            if first >= midnight || !(0..7_000_000_000).contains(&transition) {
                continue;
            }
            gaps += 1;
            let named = DateTime::from_timestamp(midnight - 1, 0).unwrap();
            let (date, time) = (named.date_naive(), named.time());
            let added = DateTime::from_timestamp(transition, 0).unwrap();
            let just_before = added - TimeDelta::milliseconds(1);
            let words = format!("2 days at {}", time.format("%H:%M:%S"));
            let trigger = every(words).in_tz(zone).into_trigger().unwrap();
            let anchored = trigger.anchored(added, zone).unwrap();
            let Kind::Timetable(timetable) = anchored.kind() else { panic!("{anchored}") };
            assert_eq!(timetable.counts_from(), Some(date), "{anchored}");
            let moved = anchored.next_after(just_before).unwrap().unwrap();
            assert_eq!(moved.timestamp(), transition, "{anchored}");

            let only = |days: Days| trigger_on(&words_of(time), zone, |build| build.only(days));
            let except = |days: Days| trigger_on(&words_of(time), zone, |build| build.except(days));
            assert_eq!(
                only(date.into()).next_after(just_before).unwrap(),
                Some(moved),
                "{zone} {date}"
            );
            assert_ne!(
                except(date.into()).next_after(just_before).unwrap(),
                Some(moved),
                "{zone} {date}"
            );
        }
    }
    assert!(gaps > 500, "{gaps}");
}

fn words_of(time: chrono::NaiveTime) -> String {
    format!("day at {}", time.format("%H:%M:%S"))
}

fn trigger_on(
    words: &str,
    zone: TimeZone,
    days: impl FnOnce(Build<Words>) -> Build<Words>,
) -> Trigger {
    days(every(words).in_tz(zone)).into_trigger().unwrap()
}

#[test]
fn only_and_except_go_by_the_date_that_was_named() {
    let saturday: NaiveDate = "2027-03-27".parse().unwrap();
    let before = "2027-03-27T20:00:00Z";
    let cron = || cron("30 23 * * *").in_tz("America/Nuuk");
    assert_fires(
        cron().only(Weekday::Sat),
        before,
        &["2027-03-28T01:00:00Z", "2027-04-04T00:30:00Z"],
    );
    assert_fires(cron().except(saturday), before, &["2027-03-29T00:30:00Z"]);
    let fields = || cron_fields().hour("23").minute("30").in_tz("America/Nuuk");
    assert_fires(
        fields().only(Weekday::Sat),
        before,
        &["2027-03-28T01:00:00Z", "2027-04-04T00:30:00Z"],
    );
    let daily = || every("day at 23:30 America/Nuuk");
    assert_fires(
        daily().only(Weekday::Sat),
        before,
        &["2027-03-28T01:00:00Z", "2027-04-04T00:30:00Z"],
    );
    assert_fires(daily().except(saturday), before, &["2027-03-29T00:30:00Z"]);
    let calendar = || calendar_interval().days(1).at("23:30").in_tz("America/Nuuk");
    assert_fires(
        calendar().only(Weekday::Sat),
        before,
        &["2027-03-28T01:00:00Z", "2027-04-04T00:30:00Z"],
    );
    // Midnight itself is on Sunday, and what was moved there is not.
    let both = || every("day at 0:00, 23:30 America/Nuuk");
    assert_fires(
        both().only(Weekday::Sun),
        before,
        &["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"],
    );
    assert_fires(
        both().only(Weekday::Sat),
        before,
        &["2027-03-28T01:00:00Z", "2027-04-03T01:00:00Z"],
    );
}

#[test]
fn only_of_a_member_goes_by_the_date_that_was_named() {
    let member = cron("30 23 * * *").in_tz("America/Nuuk").only(Weekday::Sat);
    let both = and((member, every("1 hour").starting_at(t("2027-03-27T00:00:00Z"))));
    assert_fires(both, ADDED, &["2027-03-28T01:00:00Z"]);
}

#[test]
fn days_cost_the_members_of_a_combination_once() {
    let saturday = t("2026-12-05T12:00:00Z");
    let days = ["monday", "tuesday", "wednesday", "thursday", "friday"];
    let christmas: NaiveDate = "2026-12-25".parse().unwrap();
    let weekly = days.iter().enumerate().map(|(n, day)| {
        every(format!("{day} at {}:00", 9 + n)).except(christmas).into_trigger().unwrap()
    });
    let weekly = or(weekly.collect::<Vec<_>>()).into_trigger().unwrap();
    let weekly = weekly.anchored(saturday, "UTC").unwrap();
    assert_eq!(weekly.next_after(saturday).unwrap(), Some(t("2026-12-07T09:00:00Z")));
    assert_eq!(weekly.last_at_or_before(saturday).unwrap(), Some(t("2026-12-04T13:00:00Z")));

    let once = (0..5u32).map(|n| {
        let date = NaiveDate::from_ymd_opt(2026, 12, 7 + n).unwrap();
        every(format!("day at {}:00", 9 + n)).only(date).into_trigger().unwrap()
    });
    let once = or(once.collect::<Vec<_>>()).into_trigger().unwrap();
    let once = once.anchored(saturday, "UTC").unwrap();
    assert_eq!(once.next_after(saturday).unwrap(), Some(t("2026-12-07T09:00:00Z")));
    let later = t("2027-01-01T00:00:00Z");
    assert_eq!(once.last_at_or_before(later).unwrap(), Some(t("2026-12-11T13:00:00Z")));
    assert_eq!(once.next_after(later).unwrap(), None);
}

#[test]
fn except_no_day_is_as_if_it_had_not_been_said() {
    let plain = cron("0 9 * * *").into_trigger().unwrap();
    let none = cron("0 9 * * *").except(Vec::<NaiveDate>::new()).into_trigger().unwrap();
    assert_eq!(none, plain);
    assert_eq!(none.to_string().parse::<Trigger>().unwrap(), plain);
    let json = r#"{"type":"cron","expression":"0 9 * * *","except":{}}"#;
    assert_eq!(serde_json::from_str::<Trigger>(json).unwrap(), plain);
    assert!(cron("0 9 * * *").only(Vec::<NaiveDate>::new()).into_trigger().is_err());
}
