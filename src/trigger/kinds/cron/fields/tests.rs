//! Fields against brute force, and tables for what they mean and refuse.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike as _, NaiveDate, TimeDelta, Timelike as _, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;

use crate::trigger::{
    Build, CronFields, Fold, Gap, IntoTrigger as _, Trigger, kinds::cron::pattern::Pattern,
};

fn t(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn fields() -> Build<CronFields> {
    CronFields::builder()
}

/// At most `n` fire times after `from`, each of which must be the last at its own time.
fn walk(trigger: &Trigger, from: DateTime<Utc>, n: usize) -> Vec<DateTime<Utc>> {
    let mut fires = Vec::new();
    let mut at = from;
    while fires.len() < n {
        let Some(next) = trigger.next_after(at).unwrap() else {
            break;
        };
        assert!(next > at, "{trigger}: {next} is not later than {at}");
        assert_eq!(trigger.last_at_or_before(next).unwrap(), Some(next), "{trigger} at {next}");
        fires.push(next);
        at = next;
    }
    fires
}

fn utc(build: Build<CronFields>, from: &str, n: usize) -> Vec<String> {
    let trigger = build.into_trigger().unwrap();
    walk(&trigger, t(from), n).iter().map(|t| t.format("%F %T").to_string()).collect()
}

#[test]
fn fields_that_are_left_out() {
    let from = "2026-01-01T00:00:00Z"; // a Thursday
    for (build, fires) in [
        (fields().second("*/30"), ["2026-01-01 00:00:30", "2026-01-01 00:01:00"]),
        (fields().minute(5), ["2026-01-01 00:05:00", "2026-01-01 01:05:00"]),
        (fields().hour(3), ["2026-01-01 03:00:00", "2026-01-02 03:00:00"]),
        (fields().hour(3).second(7), ["2026-01-01 03:00:07", "2026-01-01 03:01:07"]),
        (fields().day_of_week(0), ["2026-01-05 00:00:00", "2026-01-12 00:00:00"]),
        (fields().week(2), ["2026-01-05 00:00:00", "2026-01-06 00:00:00"]),
        (fields().day(15), ["2026-01-15 00:00:00", "2026-02-15 00:00:00"]),
        (fields().month(2), ["2026-02-01 00:00:00", "2027-02-01 00:00:00"]),
        (fields().year("2030-2040/9"), ["2030-01-01 00:00:00", "2039-01-01 00:00:00"]),
    ] {
        assert_eq!(utc(build, from, 2), fires);
    }
}

#[test]
fn expressions() {
    let from = "2026-01-01T00:00:00Z";
    for (build, fires) in [
        (fields().day("3rd fri"), ["2026-01-16", "2026-02-20", "2026-03-20"]),
        (fields().day("LAST Fri"), ["2026-01-30", "2026-02-27", "2026-03-27"]),
        (fields().day("last"), ["2026-01-31", "2026-02-28", "2026-03-31"]),
        (fields().day("1st mon, 15"), ["2026-01-05", "2026-01-15", "2026-02-02"]),
        (fields().day("5th sun,last"), ["2026-01-31", "2026-02-28", "2026-03-29"]),
        (fields().day("1-7").day_of_week("tue"), ["2026-01-06", "2026-02-03", "2026-03-03"]),
        (fields().day_of_week("SAT-sun"), ["2026-01-03", "2026-01-04", "2026-01-10"]),
        (fields().day_of_week("5/1"), ["2026-01-03", "2026-01-04", "2026-01-10"]),
        (fields().month("feb-mar,012"), ["2026-02-01", "2026-03-01", "2026-12-01"]),
        (fields().month("5/3"), ["2026-05-01", "2026-08-01", "2026-11-01"]),
        (fields().week("*/26").day_of_week(0), ["2026-06-29", "2026-12-28", "2027-01-04"]),
        (fields().day("*/15"), ["2026-01-16", "2026-01-31", "2026-02-01"]),
        (fields().year("2025,2028,3000").day("3 , 4"), ["2028-01-03", "2028-01-04", "2028-02-03"]),
    ] {
        let fires: Vec<_> = fires.iter().map(|day| format!("{day} 00:00:00")).collect();
        assert_eq!(utc(build, from, 3), fires);
    }
}

#[test]
fn a_field_set_again_is_an_error_whose_remedy_has_both() {
    let error = fields().hour(3).day(1).hour("4").into_trigger().unwrap_err().to_string();
    let both = error.split('`').nth(5).unwrap();
    let trigger = fields().hour(both).day(1).into_trigger().unwrap();
    assert_eq!(trigger.to_string(), "cron[day='1', hour='3,4']");
    let same = fields().hour(3).day(1).hour("3").into_trigger().unwrap();
    assert_eq!(same.to_string(), "cron[day='1', hour='3']");
}

#[test]
fn years_of_53_weeks() {
    assert_eq!(
        utc(fields().week(53).day_of_week("mon"), "2000-01-01T00:00:00Z", 5),
        ["2004-12-27", "2009-12-28", "2015-12-28", "2020-12-28", "2026-12-28"]
            .map(|day| format!("{day} 00:00:00"))
    );
    assert_eq!(
        utc(fields().week(1).day_of_week("mon"), "2023-02-01T00:00:00Z", 4),
        ["2024-01-01", "2024-12-30", "2025-12-29", "2027-01-04"]
            .map(|day| format!("{day} 00:00:00"))
    );
}

#[test]
fn every_day_is_in_the_week_that_chrono_says() {
    let days = || {
        let first = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        first.iter_days().take_while(|day| day.year() < 2200)
    };
    for week in 1..=53 {
        let trigger = fields().week(week).into_trigger().unwrap();
        let expected: Vec<_> = days().filter(|day| day.iso_week().week() == week).collect();
        let fires = walk(&trigger, t("1969-12-31T00:00:00Z"), usize::MAX);
        let fires: Vec<_> = fires.iter().map(|fire| fire.date_naive()).collect();
        assert_eq!(fires, expected, "week {week}");
    }
}

#[test]
fn what_never_fires_has_no_fire_time() {
    for never in [
        fields().week(53).month("3-11"),
        fields().month(2).day(30),
        fields().year(2200),
        fields().day("1-7").week("10-20").month("jun-dec"),
    ] {
        let never = never.in_tz(Tz::Pacific__Apia).into_trigger().unwrap();
        for at in [DateTime::<Utc>::MIN_UTC, t("2026-01-01T00:00:00Z"), DateTime::<Utc>::MAX_UTC] {
            assert_eq!(never.next_after(at).unwrap(), None, "{never}");
            assert_eq!(never.last_at_or_before(at).unwrap(), None, "{never}");
        }
    }
}

#[test]
fn fixed_time_and_wild() {
    let fires = |build: Build<CronFields>| {
        let trigger = build.in_tz(Tz::America__New_York).into_trigger().unwrap();
        walk(&trigger, t("2026-03-08T05:00:00Z"), 1)[0]
    };
    let after_gap = t("2026-03-08T07:00:00Z");

    assert_eq!(fires(fields().hour(2).minute(30)), after_gap);
    assert_eq!(fires(fields().hour(2)), after_gap);
    assert_eq!(fires(fields().hour("*").minute(30)), t("2026-03-08T05:30:00Z"));
    assert_eq!(fires(fields().hour(2).minute("*/30")), t("2026-03-09T06:00:00Z"));
    assert_eq!(fires(fields().hour(2).gap(Gap::Skip)), t("2026-03-09T06:00:00Z"));
}

#[test]
fn errors_name_the_field_the_token_and_the_remedy() {
    for (build, reason) in [
        (fields().minute(60), "minute 60 is not in 0..=59"),
        (fields().second(""), "second is empty: write an expression, or leave the field out"),
        (fields().hour("1,"), "hour `1,` has an empty item: remove the comma"),
        (fields().hour(-1), "hour `-1` lacks a number"),
        (fields().day_of_week(7), "day_of_week 7 is not in 0..=6"),
        (fields().day_of_week("mon-fri/2"), "has a step after names: write `0-4/2`"),
        (fields().day_of_week("fri-mon"), "ends before it begins: write `fri-sun,mon`"),
        (fields().day_of_week("1-fri"), "mixes a name and a number: write `1-4`"),
        (fields().day_of_week("monday"), "`monday` is neither a number in 0..=6 nor one of MON to"),
        (fields().month("jan5"), "month `jan5`: `jan5` is neither"),
        (fields().month("jan/2"), "month `jan/2` has a step after names"),
        (fields().month("jan feb"), "month `jan feb`"),
        (fields().month("dec-jan"), "write `dec,jan`"),
        (fields().day("last-1"), "day `last-1`: write `last`, or as in `2nd fri`"),
        (fields().day("lastmon"), "day `lastmon`: write `last`"),
        (fields().day("1st"), "day `1st`: write `last`, or as in `2nd fri`"),
        (fields().day("6th mon"), "day `6th mon` is not a position and a day of the week"),
        (fields().day("last mon-fri"), "day `last mon-fri` is not a position"),
        (fields().day("last 5"), "day `last 5` is not a position"),
        (fields().day("fri"), "day `fri`: `fri` is a name of another field"),
        (
            fields().day("*/31"),
            "day `*/31`: the step is not in 1..=30, so only 1 would be left: write `1`",
        ),
        (
            fields().minute("*/90"),
            "in 1..=59: for longer periods use the trigger `every 90 minutes`",
        ),
        (fields().day_of_week("*/14"), "use the trigger `every 2 weeks on mon`"),
        (fields().minute("*/0"), "minute `*/0`: the step is not in 1..=59"),
        (fields().minute("10-20/11"), "minute `10-20/11`: the step is not in 1..=10, so only 10"),
        (fields().minute("59/1"), "minute `59/1` has a step but one value: write `59`"),
        (fields().minute("5 - 10"), "minute `5 - 10`"),
        (fields().minute("５"), "minute `５`"),
        (fields().week(54), "week 54 is not in 1..=53"),
        (fields().year(1969), "year 1969 is not in 1970..=9999"),
        (fields().year("2030-2020"), "year `2030-2020` ends before it begins: swap its ends"),
        (fields(), "none is given"),
        (fields().hour(99).minute(99), "hour 99"),
        (fields().hour(9).minute(30).hour("17,18"), "hour is `9` and again `17,18`"),
    ] {
        let error = build.into_trigger().unwrap_err();
        assert!(error.is_invalid_trigger());
        let message = error.to_string();
        assert!(message.starts_with("invalid cron fields: "), "{message}");
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn serialized_form() {
    let trigger = fields()
        .second(5)
        .year("2026-2030")
        .month("jan,jul")
        .day("3rd fri")
        .week("*/2")
        .day_of_week("fri")
        .hour("0-3")
        .minute("*/15")
        .in_tz("Europe/Berlin")
        .gap(Gap::Next)
        .fold(Fold::Last)
        .until(t("2029-01-01T00:00:00Z"))
        .into_trigger()
        .unwrap();
    let json = concat!(
        r#"{"type":"cron_fields","year":"2026-2030","month":"jan,jul","day":"3rd fri","week":"*/2","#,
        r#""day_of_week":"fri","hour":"0-3","minute":"*/15","second":"5","zone":"Europe/Berlin","#,
        r#""gap":"next","fold":"last","end":"2029-01-01T00:00:00Z"}"#
    );
    assert_eq!(serde_json::to_string(&trigger).unwrap(), json);
    assert_eq!(serde_json::from_str::<Trigger>(json).unwrap(), trigger);
    assert_eq!(
        serde_json::from_str::<Trigger>(r#"{"type":"cron_fields","hour":3}"#).unwrap(),
        fields().hour(3).into_trigger().unwrap()
    );

    for (json, reason) in [
        (r#"{"type":"cron_fields","hour":24}"#, "hour 24 is not in 0..=23"),
        (r#"{"type":"cron_fields","hour":1.5}"#, "a field is a text or a whole number"),
        (r#"{"type":"cron_fields","hours":3}"#, "unknown field `hours`"),
        (r#"{"type":"cron_fields"}"#, "none is given"),
        (r#"{"type":"cron_fields","hour":3,"zone":"Nowhere"}"#, "unknown time zone `Nowhere`"),
    ] {
        let error = serde_json::from_str::<Trigger>(json).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn fields_are_small() {
    assert!(size_of::<CronFields>() <= 16, "{}", size_of::<CronFields>());
    assert!(size_of::<Pattern>() <= 128, "{}", size_of::<Pattern>());
}

/// The values of a field, and a text that says them.
fn values(min: i64, max: i64) -> impl Strategy<Value = (String, BTreeSet<i64>)> {
    let value = min..=max;
    prop_oneof![
        value.clone().prop_map(|a| (a.to_string(), [a].into())),
        (value.clone(), value.clone()).prop_map(|(a, b)| {
            let (a, b) = (a.min(b), a.max(b));
            (format!("{a}-{b}"), (a..=b).collect())
        }),
        (1..=max - min).prop_map(move |step| {
            (format!("*/{step}"), (min..=max).step_by(step as usize).collect())
        }),
        (min..max, 1..=max - min).prop_map(move |(a, step)| {
            let step = step.min(max - a);
            (format!("{a}/{step}"), (a..=max).step_by(step as usize).collect())
        }),
        (value.clone(), value).prop_map(|(a, b)| (format!("{a}, {b}"), [a, b].into())),
        Just(("*".to_owned(), (min..=max).collect())),
    ]
}

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// One item of the field `day`.
#[derive(Clone, Debug)]
enum Day {
    Of(BTreeSet<i64>),
    Last,
    /// The n-th day of the week in a month, counted from 0, or the last.
    Nth(Option<u32>, u32),
}

impl Day {
    fn matches(&self, day: NaiveDate) -> bool {
        let is_last_within = |days| (day + TimeDelta::days(days)).month() != day.month();
        match self {
            Day::Of(days) => days.contains(&i64::from(day.day())),
            Day::Last => is_last_within(1),
            Day::Nth(nth, weekday) => {
                day.weekday().num_days_from_monday() == *weekday
                    && match nth {
                        Some(nth) => (day.day() - 1) / 7 == *nth,
                        None => is_last_within(7),
                    }
            }
        }
    }
}

fn day() -> impl Strategy<Value = (String, Day)> {
    prop_oneof![
        values(1, 31).prop_map(|(text, days)| (text, Day::Of(days))),
        Just(("last".to_owned(), Day::Last)),
        (0..5_u32, 0..7_u32).prop_map(|(nth, weekday)| {
            let position = ["1st", "2nd", "3rd", "4th", "5th"][nth as usize];
            (format!("{position} {}", WEEKDAYS[weekday as usize]), Day::Nth(Some(nth), weekday))
        }),
        (0..7_u32).prop_map(|weekday| {
            (format!("last {}", WEEKDAYS[weekday as usize]), Day::Nth(None, weekday))
        }),
    ]
}

/// Fields as they are said, and what they mean, the defaults of what is left out included.
#[derive(Clone, Debug)]
struct Said {
    build: Build<CronFields>,
    months: BTreeSet<i64>,
    days: Vec<Day>,
    weeks: BTreeSet<i64>,
    weekdays: BTreeSet<i64>,
    hours: BTreeSet<i64>,
    minutes: BTreeSet<i64>,
}

impl Said {
    fn matches(&self, instant: DateTime<Tz>) -> bool {
        let day = instant.date_naive();
        self.months.contains(&i64::from(day.month()))
            && self.days.iter().any(|item| item.matches(day))
            && self.weeks.contains(&i64::from(day.iso_week().week()))
            && self.weekdays.contains(&i64::from(day.weekday().num_days_from_monday()))
            && self.hours.contains(&i64::from(instant.hour()))
            && self.minutes.contains(&i64::from(instant.minute()))
    }
}

fn said() -> impl Strategy<Value = Said> {
    let half = |strategy| prop::option::of(strategy);
    // Minutes stay on the quarters of an hour, which the oracle looks at.
    let minute = prop_oneof![
        Just(("0".to_owned(), BTreeSet::from([0]))),
        Just(("*/15".to_owned(), BTreeSet::from([0, 15, 30, 45]))),
        Just(("15, 30/15".to_owned(), BTreeSet::from([15, 30, 45]))),
    ];
    (
        half(values(1, 12)),
        prop::option::of(prop::collection::vec(day(), 1..4)),
        half(values(1, 53)),
        half(values(0, 6)),
        half(values(0, 23)),
        prop::option::of(minute),
    )
        .prop_filter("at least one field", |(month, day, week, weekday, hour, minute)| {
            let numbers = [month, week, weekday, hour, minute];
            numbers.iter().any(|field| field.is_some()) || day.is_some()
        })
        .prop_map(|(month, day, week, weekday, hour, minute)| {
            // What is more significant than the last field given is any, the rest the least.
            let given = [
                month.is_some(),
                day.is_some(),
                week.is_some(),
                weekday.is_some(),
                hour.is_some(),
                minute.is_some(),
            ];
            let last = given.iter().rposition(|&given| given).unwrap_or_default();
            let or_default = |field: &Option<(String, BTreeSet<i64>)>, index, min, max| match field
            {
                Some((_, values)) => values.clone(),
                None if index < last => (min..=max).collect(),
                None => [min].into(),
            };
            let all = |max: i64| (0..=max).collect::<BTreeSet<_>>();
            let months = or_default(&month, 0, 1, 12);
            let days = match &day {
                Some(items) => items.iter().map(|(_, day)| day.clone()).collect(),
                None if 1 < last => vec![Day::Of((1..=31).collect())],
                None => vec![Day::Of([1].into())],
            };
            let weeks = week.as_ref().map_or(all(53), |(_, weeks)| weeks.clone());
            let weekdays = weekday.as_ref().map_or(all(6), |(_, weekdays)| weekdays.clone());
            let (hours, minutes) = (or_default(&hour, 4, 0, 23), or_default(&minute, 5, 0, 59));

            let mut build = fields();
            if let Some((text, _)) = month {
                build = build.month(text);
            }
            if let Some(items) = day {
                let items: Vec<String> = items.into_iter().map(|(text, _)| text).collect();
                build = build.day(items.join(","));
            }
            if let Some((text, _)) = week {
                build = build.week(text);
            }
            if let Some((text, _)) = weekday {
                build = build.day_of_week(text);
            }
            if let Some((text, _)) = hour {
                build = build.hour(text);
            }
            if let Some((text, _)) = minute {
                build = build.minute(text);
            }
            Said { build, months, days, weeks, weekdays, hours, minutes }
        })
}

/// Instants to look around: transitions, new years, the end of a year of 53 weeks, leap days.
const AROUND: [(&str, &str); 12] = [
    ("UTC", "2027-01-01T00:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Europe/Berlin", "2020-12-31T23:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("Africa/Cairo", "2026-04-23T22:00:00Z"),
    ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
    ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),
    ("Asia/Kathmandu", "1985-12-31T18:30:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Europe/Dublin", "2024-02-29T00:00:00Z"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn agrees_with_a_look_at_every_quarter_of_an_hour(
        said in said(),
        (zone, middle) in prop::sample::select(&AROUND[..]),
    ) {
        const QUARTER: TimeDelta = TimeDelta::minutes(15);
        let zone: Tz = zone.parse().unwrap();
        let trigger =
            said.build.clone().in_tz(zone).gap(Gap::Skip).fold(Fold::Both).into_trigger().unwrap();
        let (from, to) = (t(middle) - TimeDelta::days(20), t(middle) + TimeDelta::days(20));

        let mut expected = Vec::new();
        let mut at = from;
        while at < to {
            if said.matches(at.with_timezone(&zone)) {
                expected.push(at);
            }
            at += QUARTER;
        }

        let mut found = Vec::new();
        let mut at = from - TimeDelta::nanoseconds(1);
        while let Some(next) = trigger.next_after(at).unwrap().filter(|&next| next < to) {
            prop_assert!(next > at);
            found.push(next);
            at = next;
        }
        prop_assert_eq!(&found, &expected, "{} forward", trigger);

        found.clear();
        let mut at = to - TimeDelta::nanoseconds(1);
        while let Some(last) = trigger.last_at_or_before(at).unwrap().filter(|&last| last >= from) {
            prop_assert!(last <= at);
            found.insert(0, last);
            at = last - TimeDelta::nanoseconds(1);
        }
        prop_assert_eq!(&found, &expected, "{} backward", trigger);
    }

    #[test]
    fn next_and_last_are_inverse(
        said in said(),
        zone in prop::sample::select(&chrono_tz::TZ_VARIANTS[..]),
        gap in prop::sample::select(&[Gap::Next, Gap::Skip][..]),
        fold in prop::sample::select(&[Fold::First, Fold::Last, Fold::Both][..]),
        // From 1960 to 2210.
        millis in -315_600_000_000..7_573_000_000_000_i64,
    ) {
        let trigger = said.build.in_tz(zone).gap(gap).fold(fold).into_trigger().unwrap();
        let at = DateTime::from_timestamp_millis(millis).unwrap();
        let tick = TimeDelta::nanoseconds(1);
        let last = trigger.last_at_or_before(at).unwrap();
        let next = trigger.next_after(at).unwrap();
        if let Some(last) = last {
            prop_assert!(last <= at);
            prop_assert_eq!(trigger.next_after(last - tick).unwrap(), Some(last));
            prop_assert_eq!(trigger.next_after(last).unwrap(), next);
        }
        if let Some(next) = next {
            prop_assert!(next > at);
            prop_assert_eq!(trigger.last_at_or_before(next).unwrap(), Some(next));
            prop_assert_eq!(trigger.last_at_or_before(next - tick).unwrap(), last);
        }
    }

    #[test]
    fn whatever_is_accepted_comes_back(said in said(), zone in prop::option::of(Just(Tz::Asia__Tokyo))) {
        let build = zone.into_iter().fold(said.build, |build, zone| build.in_tz(zone));
        let trigger = build.into_trigger().unwrap();
        let json = serde_json::to_string(&trigger).unwrap();
        prop_assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger);
    }

    #[test]
    fn no_text_panics(text in "[0-9*/,a-z -]{0,12}", other in ".{0,4}", seconds in any::<i32>()) {
        for text in [&text, &other] {
            for build in [
                fields().year(text),
                fields().month(text),
                fields().day(text),
                fields().week(text),
                fields().day_of_week(text),
                fields().hour(text),
                fields().second(text),
            ] {
                if let Ok(trigger) = build.into_trigger() {
                    let at = DateTime::from_timestamp(i64::from(seconds), 0).unwrap();
                    let _ = (trigger.next_after(at), trigger.last_at_or_before(at));
                }
            }
        }
    }
}
