//! Calendar intervals, combinations and days: properties against naive walks, and tables.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Datelike as _, Months, NaiveDate, NaiveTime, TimeDelta, Utc, Weekday};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;

const MS: TimeDelta = TimeDelta::milliseconds(1);
const BERLIN: Tz = Tz::Europe__Berlin;

fn t(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn trigger(trigger: impl IntoTrigger) -> Trigger {
    trigger.into_trigger().unwrap()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The fire times in `from..to`, found forward; those found backward must be the same.
fn walk(trigger: &Trigger, from: DateTime<Utc>, to: DateTime<Utc>) -> BTreeSet<DateTime<Utc>> {
    let mut fires = BTreeSet::new();
    let mut at = from - MS;
    while let Some(next) = trigger.next_after(at).unwrap().filter(|&next| next < to) {
        assert!(next > at, "{trigger}: {next} is not later than {at}");
        fires.insert(next);
        at = next;
    }
    let mut back = BTreeSet::new();
    let mut at = to - MS;
    while let Some(last) = trigger.last_at_or_before(at).unwrap().filter(|&last| last >= from) {
        assert!(last <= at, "{trigger}: {last} is later than {at}");
        back.insert(last);
        at = last - MS;
    }
    assert_eq!(fires, back, "{trigger}: forward, and backward");
    if let (Some(&first), Some(&last)) = (fires.first(), fires.last()) {
        let (counted, all) = (trigger.count(first, last, 10_000), fires.len() as u64);
        // To ask a member that has ended costs a search in vain each time.
        let least = if trigger.is_searched() { all.min(500) } else { all };
        assert!((least..=all).contains(&counted), "{trigger}: {counted} of {all}");
    }
    fires
}

/// The first fire times after `from` as the zone's wall clock shows them.
fn wall<K: Into<Kind>>(
    build: Build<K>,
    zone: impl IntoTimeZone,
    from: &str,
    n: usize,
) -> Vec<String> {
    let zone = zone.into_time_zone().unwrap();
    let trigger = trigger(build);
    let fires = std::iter::successors(trigger.next_after(t(from)).unwrap(), |&fire| {
        assert_eq!(trigger.last_at_or_before(fire).unwrap(), Some(fire));
        trigger.next_after(fire).unwrap()
    });
    let shown = |fire: DateTime<Utc>| fire.with_timezone(&zone).format("%F %H:%M%:z").to_string();
    fires.take(n).map(shown).collect()
}

/// Zones, and an instant near a transition of them.
const TRANSITIONS: [(&str, &str); 12] = [
    ("UTC", "2026-03-29T00:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("Africa/Cairo", "2026-04-23T22:00:00Z"),
    ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
    ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),
    ("America/St_Johns", "2006-10-29T02:31:00Z"), // back at 00:01: the day before is shown again
    ("America/St_Johns", "2006-04-02T03:31:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"), // loses a day
    ("Pacific/Kwajalein", "1969-09-30T13:00:00Z"), // a fold of 23 hours
];

mod calendar {
    use super::*;

    #[test]
    fn dates_that_do_not_exist_are_passed_over() {
        let dates = |build: Build<CalendarInterval>, start: &str, n| {
            let fires = wall(build.starting_on(date(start)), Tz::UTC, "1999-01-01T00:00:00Z", n);
            fires.iter().map(|fire| fire[..10].to_owned()).collect::<Vec<_>>()
        };
        let every = calendar_interval;
        assert_eq!(
            dates(every().months(1), "2026-01-31", 5),
            ["2026-01-31", "2026-03-31", "2026-05-31", "2026-07-31", "2026-08-31"]
        );
        assert_eq!(
            dates(every().years(1), "2088-02-29", 5),
            ["2088-02-29", "2092-02-29", "2096-02-29", "2104-02-29", "2108-02-29"]
        );
        assert_eq!(dates(every().years(100), "2000-02-29", 3), ["2000-02-29"]);
        assert_eq!(
            dates(every().weeks(2).days(1), "2026-02-20", 3),
            ["2026-02-20", "2026-03-07", "2026-03-22"]
        );
        // The day of the month is that of the date before, not that of the start.
        assert_eq!(
            dates(every().years(1).months(11).weeks(2).days(2), "2034-08-30", 4),
            ["2034-08-30", "2036-08-15", "2038-07-31", "2042-06-16"]
        );
        assert_eq!(
            dates(every().months(5).days(7), "2199-01-30", 4),
            ["2199-01-30", "2199-07-07", "2199-12-14"]
        );
    }

    #[test]
    fn gaps_and_folds() {
        let new_york = Tz::America__New_York;
        let daily = |time: &str| calendar_interval().days(1).at(time).in_tz(new_york);
        let spring = |build| wall(build, new_york, "2026-03-07T12:00:00Z", 2).join(" ");
        let gap = daily("02:30").starting_on(date("2026-03-07"));
        assert_eq!(spring(gap.clone()), "2026-03-08 03:00-04:00 2026-03-09 02:30-04:00");
        assert_eq!(spring(gap.gap(Gap::Skip)), "2026-03-09 02:30-04:00 2026-03-10 02:30-04:00");
        let autumn = |build| wall(build, new_york, "2026-10-31T12:00:00Z", 2).join(" ");
        let fold = daily("01:30").starting_on(date("2026-10-31"));
        assert_eq!(autumn(fold.clone()), "2026-11-01 01:30-04:00 2026-11-02 01:30-05:00");
        assert_eq!(
            autumn(fold.clone().fold(Fold::Last)),
            "2026-11-01 01:30-05:00 2026-11-02 01:30-05:00"
        );
        assert_eq!(autumn(fold.fold(Fold::Both)), "2026-11-01 01:30-04:00 2026-11-01 01:30-05:00");
    }

    #[test]
    fn the_start_is_said_or_filled_in() {
        let build = || calendar_interval().days(2).at("10:30");
        let now = t("2026-06-01T22:30:00Z"); // 2 June in Berlin
        let anchored = trigger(build()).anchored(now, BERLIN).unwrap();
        assert_eq!(anchored.first(now).unwrap(), Some(t("2026-06-02T08:30:00Z")));
        let Kind::CalendarInterval(calendar) = anchored.kind() else { unreachable!() };
        assert_eq!(calendar.start_date(), Some(date("2026-06-02")));
        assert_eq!(anchored.anchored(t("2030-01-01T00:00:00Z"), Tz::UTC).unwrap(), anchored);

        let later = build().starting_at(t("2026-07-01T09:00:00Z"));
        let anchored = trigger(later).anchored(now, BERLIN).unwrap();
        // 10:30 of that day has passed by then.
        assert_eq!(anchored.first(now).unwrap(), Some(t("2026-07-03T08:30:00Z")));

        // Not anchored, it counts from what is asked.
        assert_eq!(trigger(build()).next_after(now).unwrap(), Some(t("2026-06-03T10:30:00Z")));
        assert!(!trigger(build()).is_elapsed_time());
        let three = trigger(build().times(3)).anchored(now, BERLIN).unwrap();
        assert_eq!(three.end(), Some(t("2026-06-06T08:30:00Z")));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let error = |build: Build<CalendarInterval>| {
            let error = build.into_trigger().unwrap_err();
            assert!(error.is_invalid_trigger());
            error.to_string()
        };
        let half = NaiveTime::from_hms_milli_opt(9, 30, 0, 500).unwrap();
        for (build, reason) in [
            (calendar_interval(), "nothing at all"),
            (calendar_interval().months(0).days(0), "nothing at all"),
            (calendar_interval().years(301), "301 years is longer than the calendar"),
            (calendar_interval().years(u32::MAX).days(u32::MAX), "longer than the calendar"),
            (calendar_interval().weeks(15_654), "15654 weeks is longer"),
            (calendar_interval().days(1).at("25:00"), "invalid time of day `25:00`"),
            (calendar_interval().days(1).at("evening"), "as in `9:00`"),
            (calendar_interval().days(1).at(half), "not a whole second: use 09:30:00"),
            (calendar_interval().days(1).in_tz("Berlin"), "unknown time zone `Berlin`"),
            (calendar_interval().days(1).starting_on(date("1899-12-31")), "1900 to 2199"),
        ] {
            let error = error(build);
            assert!(error.contains(reason), "{error}");
        }
        for json in [
            r#"{"type":"calendar_interval","time":"10:30:00"}"#,
            r#"{"type":"calendar_interval","months":-1,"time":"10:30:00"}"#,
            r#"{"type":"calendar_interval","months":1}"#,
            r#"{"type":"calendar_interval","months":1,"time":"10:30:00","zone":"Nowhere"}"#,
            r#"{"type":"calendar_interval","days":1,"time":"10:30:00","start_date":"2200-01-01"}"#,
        ] {
            assert!(serde_json::from_str::<Trigger>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn the_calendar_ends_without_a_panic() {
        for build in [
            calendar_interval().days(1),
            calendar_interval().days(109_573),
            calendar_interval().months(1),
            calendar_interval().months(3_600),
            calendar_interval().months(1).days(1),
            calendar_interval().months(3_600).days(109_573),
        ] {
            for start in ["1900-01-01", "2026-01-31", "2199-12-31"] {
                let trigger = trigger(build.clone().starting_on(date(start)));
                let first = Some(date(start).and_time(NaiveTime::MIN).and_utc());
                assert_eq!(trigger.next_after(DateTime::<Utc>::MIN_UTC).unwrap(), first);
                assert_eq!(trigger.next_after(DateTime::<Utc>::MAX_UTC).unwrap(), None);
                assert_eq!(trigger.last_at_or_before(DateTime::<Utc>::MIN_UTC).unwrap(), None);
                assert!(trigger.last_at_or_before(DateTime::<Utc>::MAX_UTC).unwrap() >= first);
            }
        }
    }

    /// The dates one after the other, as the documentation has it.
    fn naive(start: NaiveDate, months: u32, days: u32) -> impl Iterator<Item = NaiveDate> {
        std::iter::successors(Some(start), move |&date| {
            let mut added = months;
            let reached = loop {
                let reached = date.checked_add_months(Months::new(added))?;
                if reached.day() == date.day() {
                    break reached;
                }
                added += months;
            };
            Some(reached + TimeDelta::days(i64::from(days)))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn agrees_with_a_naive_walk(
            (zone, transition) in prop::sample::select(&TRANSITIONS[..]),
            (months, days) in prop_oneof![
                (0..1_u32, 1..40_u32), (1..14_u32, 0..1_u32), (1..14_u32, 1..40_u32)
            ],
            back in 0..4_000_i64,
            minute in 0..1440_u32,
            gap in prop::sample::select(&[Gap::Next, Gap::Skip][..]),
            fold in prop::sample::select(&[Fold::First, Fold::Last, Fold::Both][..]),
            shift in -200_000..200_000_i64,
        ) {
            let zone: TimeZone = zone.parse().unwrap();
            let middle = t(transition);
            let (from, to) = (middle - TimeDelta::days(60), middle + TimeDelta::days(60));
            let start = middle.date_naive() - TimeDelta::days(back);
            let time = NaiveTime::from_hms_opt(minute / 60, minute % 60, 0).unwrap();
            let ours = trigger(
                calendar_interval()
                    .months(months)
                    .days(days)
                    .at(time)
                    .starting_on(start)
                    .in_tz(zone)
                    .gap(gap)
                    .fold(fold),
            );
            // The zone layer is proven elsewhere: cron finds what a date and a time are.
            let expected: BTreeSet<_> = naive(start, months, days)
                .take_while(|date| *date <= to.date_naive() + TimeDelta::days(2))
                .filter(|date| *date >= from.date_naive() - TimeDelta::days(2))
                .flat_map(|date| {
                    let text = format!("{} {} ? {}", time.format("0 %-M %-H"), date.format("%-d %-m"), date.year());
                    walk(&trigger(cron(text).in_tz(zone).gap(gap).fold(fold)), from, to)
                })
                .collect();
            prop_assert_eq!(&walk(&ours, from, to), &expected);
            let at = middle + TimeDelta::seconds(shift);
            prop_assert_eq!(
                ours.next_after(at).unwrap().filter(|&next| next < to),
                expected.range(at + MS..).next().copied()
            );
        }
    }
}

/// Triggers of every kind that combinations are made of, with something happening in a few days.
fn leaf(from: DateTime<Utc>, zone: TimeZone) -> impl Strategy<Value = Trigger> {
    let grid = (1..200_i64, -100..100_i64).prop_map(move |(period, shift)| {
        let start = from + TimeDelta::minutes(30 * shift);
        trigger(every(TimeDelta::minutes(15 * period)).starting_at(start))
    });
    let crons = prop::sample::select(
        &["*/15 * * * *", "0 */2 * * *", "30 1,2,3 * * *", "0 0 * * *", "45 23 * * MON-FRI"][..],
    );
    let crons = crons.prop_map(move |text| trigger(cron(text).in_tz(zone)));
    let days = (1..4_u32, 0..48_u32).prop_map(move |(days, half)| {
        let time = NaiveTime::from_hms_opt(half / 2, half % 2 * 30, 0).unwrap();
        let start = from.date_naive() - TimeDelta::days(3);
        trigger(calendar_interval().days(days).at(time).starting_on(start).in_tz(zone))
    });
    let once = (0..40_i64).prop_map(move |n| trigger(at(from + TimeDelta::minutes(90 * n))));
    let plain = prop_oneof![3 => grid, 3 => crons, 2 => days, 1 => once];
    // Bounds, and days.
    (plain, 0..6_u8, 0..128_u8).prop_map(move |(mut plain, what, weekdays)| {
        match what {
            0 => plain = with_end(plain, from + TimeDelta::days(5)),
            1 if plain.start.is_none() => plain.start = Some(from + TimeDelta::hours(31)),
            2 => {
                let picked = Days::weekdays(
                    WEEK.into_iter().filter(|day| weekdays >> day.num_days_from_monday() & 1 == 0),
                );
                let said = Said { only: Some(picked.and(from.date_naive())), ..Said::default() };
                let days = DayFilter::new(said, Some(zone)).unwrap();
                plain = plain.with_limits(Limits { days, ..Limits::default() });
            }
            _ => {}
        }
        plain
    })
}

const WEEK: [Weekday; 7] = [
    Weekday::Mon,
    Weekday::Tue,
    Weekday::Wed,
    Weekday::Thu,
    Weekday::Fri,
    Weekday::Sat,
    Weekday::Sun,
];

fn scene() -> impl Strategy<Value = (DateTime<Utc>, TimeZone, Vec<Trigger>)> {
    prop::sample::select(&TRANSITIONS[..]).prop_flat_map(|(zone, transition)| {
        let from = t(transition) - TimeDelta::days(4);
        let zone: TimeZone = zone.parse().unwrap();
        (Just(from), Just(zone), prop::collection::vec(leaf(from, zone), 1..5))
    })
}

fn with_end(trigger: Trigger, end: DateTime<Utc>) -> Trigger {
    let limits = Limits { end: Some(end), ..trigger.limits().clone() };
    trigger.with_limits(limits)
}

/// As [`walk`], for searches that would go on in vain outside: a walk within bounds of a week.
fn walk_week(trigger: &Trigger, from: DateTime<Utc>) -> BTreeSet<DateTime<Utc>> {
    let to = from + TimeDelta::days(8);
    let mut bounded = trigger.clone();
    bounded = with_end(bounded, trigger.limits().end.map_or(to, |end| end.min(to)));
    // The start of an interval is that of its grid.
    if !matches!(trigger.kind, Kind::Interval(_)) {
        bounded.start = Some(trigger.start.map_or(from, |start| start.max(from)));
    }
    walk(&bounded, from, to)
}

mod combined {
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn agree_with_sets((from, zone, members) in scene(), weekdays in 1..128_u8) {
            let sets: Vec<_> = members.iter().map(|member| walk_week(member, from)).collect();
            let union: BTreeSet<_> = sets.iter().flatten().copied().collect();
            let common: BTreeSet<_> =
                union.iter().copied().filter(|fire| sets.iter().all(|set| set.contains(fire))).collect();

            prop_assert_eq!(walk_week(&trigger(or(members.clone())), from), union.clone());
            prop_assert_eq!(walk_week(&trigger(and(members.clone())), from), common.clone());

            // Nested, it is the same.
            let (first, rest) = members.split_at(members.len() / 2);
            if !first.is_empty() {
                let nested = or([trigger(or(first.to_vec())), trigger(or(rest.to_vec()))]);
                prop_assert_eq!(walk_week(&trigger(nested), from), union.clone());
                let nested = and([trigger(and(first.to_vec())), trigger(and(rest.to_vec()))]);
                prop_assert_eq!(walk_week(&trigger(nested), from), common);
                let mixed = and([trigger(or(first.to_vec())), trigger(or(rest.to_vec()))]);
                let any = |sets: &[BTreeSet<_>], fire| sets.iter().any(|set| set.contains(fire));
                let (one, other) = sets.split_at(first.len());
                let both = union.iter().filter(|fire| any(one, *fire) && any(other, *fire));
                prop_assert_eq!(walk_week(&trigger(mixed), from), both.copied().collect());
            }

            // Days of the whole pick from it.
            let days = Days::weekdays(WEEK.into_iter().filter(|day| {
                weekdays >> day.num_days_from_monday() & 1 != 0
            }));
            let picked = trigger(or(members).only(days.clone())).anchored(from, zone).unwrap();
            let on = |fire: &&DateTime<Utc>| days.contains(fire.with_timezone(&zone).date_naive());
            prop_assert_eq!(walk_week(&picked, from), union.iter().filter(on).copied().collect());
        }

        #[test]
        fn grids_meet_where_arithmetic_says(
            grids in prop::collection::vec((1..60_i64, -100..100_i64), 1..5)
        ) {
            let epoch = DateTime::UNIX_EPOCH;
            let grid = |&(period, first): &(i64, i64)| {
                trigger(every(TimeDelta::milliseconds(period)).starting_at(epoch + MS * first as i32))
            };
            let whole = trigger(and(grids.iter().map(grid).collect::<Vec<_>>()));
            let named = |at: i64| {
                grids.iter().all(|&(period, first)| at >= first && (at - first) % period == 0)
            };
            let period = grids.iter().fold(1, |lcm, &(p, _)| (1..).map(|n| n * lcm).find(|n| n % p == 0).unwrap());
            let expected = (-100..100 + period).find(|&at| named(at)).map(|at| epoch + TimeDelta::milliseconds(at));
            let first = whole.next_after(DateTime::<Utc>::MIN_UTC).unwrap();
            prop_assert_eq!(first, expected);
            if let Some(first) = first {
                let second = first + TimeDelta::milliseconds(period);
                prop_assert_eq!(whole.next_after(first).unwrap(), Some(second));
                prop_assert_eq!(whole.last_at_or_before(second - MS).unwrap(), Some(first));
                prop_assert_eq!(whole.last_at_or_before(first - MS).unwrap(), None);
                prop_assert_eq!(whole.count(first, second, 10), 2);
            }
        }
    }

    fn grid(millis: i64, start: &str) -> Build<Interval> {
        every(TimeDelta::milliseconds(millis)).starting_at(t(start))
    }

    #[test]
    fn what_is_impossible_has_no_fire_time() {
        const HOUR: i64 = 3_600_000;
        let start = "2026-01-01T00:00:00Z"; // a Thursday
        let hourly = || trigger(grid(HOUR, start));
        let noon = || trigger(cron("0 12 * * *").in_tz(BERLIN));
        for members in [
            // Odd and even.
            vec![trigger(grid(2, start)), trigger(grid(2, "2026-01-01T00:00:00.001Z"))],
            vec![
                trigger(grid(6 * HOUR, start)),
                trigger(grid(35, start)),
                trigger(grid(10 * HOUR, "2026-01-01T01:00:00Z")),
            ],
            // Times of day that are never the same, or never on the grid.
            vec![noon(), trigger(cron("0 11 * * *").in_tz(BERLIN))],
            vec![hourly(), trigger(cron("30 * * * *").in_tz(BERLIN))],
            vec![trigger(grid(1000, "2026-01-01T00:00:00.500Z")), noon()],
            vec![
                trigger(grid(72 * HOUR, "2014-04-09T10:00:00Z")),
                trigger(calendar_interval().days(1).at("11:00").starting_on(date("2014-04-09"))),
            ],
            // Days that never come.
            vec![trigger(grid(168 * HOUR, start).only(Weekday::Mon)), hourly()],
            vec![hourly(), trigger(cron("0 0 30 2 *"))],
            // An end before the other's start.
            vec![
                trigger(cron("* * * * *").until(t(start))),
                trigger(grid(HOUR, "2026-01-01T01:00:00Z")),
            ],
        ] {
            let trigger = trigger(and(members));
            assert_eq!(trigger.next_after(t(start)).unwrap(), None, "{trigger}");
            let later = t("2030-01-01T00:00:00Z");
            assert_eq!(trigger.last_at_or_before(later).unwrap(), None, "{trigger}");
        }
        let never = trigger(grid(168 * HOUR, start).only(Weekday::Mon));
        assert_eq!(never.next_after(t(start)).unwrap(), None);
        assert_eq!(never.last_at_or_before(t("2099-01-01T00:00:00Z")).unwrap(), None);
    }

    /// Two times that one gap swallows both fire at its end, and nowhere else together.
    #[test]
    fn different_times_meet_at_the_end_of_a_gap() {
        let zone = Tz::America__New_York;
        let [early, late] =
            ["15 2 * * *", "45 2 * * *"].map(|text| trigger(cron(text).in_tz(zone)));
        let both = and([early, late]);
        assert_eq!(
            wall(both.clone(), zone, "2026-01-01T00:00:00Z", 2),
            ["2026-03-08 03:00-04:00", "2027-03-14 03:00-04:00"]
        );
        let end = t("2026-12-31T00:00:00Z");
        assert_eq!(trigger(both).last_at_or_before(end).unwrap(), Some(t("2026-03-08T07:00:00Z")));
    }

    /// No call may do more work than what a millisecond is enough for.
    #[test]
    fn every_answer_is_bounded() {
        let start = "2026-01-01T00:00:00Z";
        let prime = |n: i64| trigger(grid(n, start));
        let hard: Vec<Trigger> = vec![
            trigger(and([prime(999_999_999_989), prime(999_999_999_961), prime(86_400_007)])),
            trigger(and((prime(86_400_007), cron("0 12 * * *").in_tz(BERLIN)))),
            trigger(and((prime(1_009), cron("0 0 29 2 MON").dom_and_dow()))),
            trigger(and((cron("*/7 * * * * *"), cron("0 0 0 31 12 ? 2199")))),
            trigger(and((
                cron("0 12 * * *").in_tz("Asia/Tokyo"),
                cron("0 12 * * *").in_tz(BERLIN),
            ))),
            trigger(and((
                calendar_interval().months(1).days(1).starting_on(date("1900-01-01")),
                calendar_interval().months(1).days(2).starting_on(date("1900-01-02")),
                cron("0 0 29 2 *"),
            ))),
            trigger(or(vec![trigger("0 0 31 2,4,6,9,11 *"); 32])),
            trigger(and([
                trigger(or(vec![trigger("0 0 31 2,4,6,9,11 *"); 15])),
                trigger(or(vec![trigger("* * * * * *"); 16])),
            ])),
            trigger(grid(86_400_007, start).only([date("2190-01-01"), date("2191-01-01")])),
            trigger(
                cron("* * * * * *").only(Days::weekdays([Weekday::Sun])).except(
                    (0..4_096)
                        .map(|week| date("2026-01-04") + TimeDelta::weeks(week))
                        .collect::<Vec<_>>(),
                ),
            ),
            trigger(every(seconds(1)).starting_at(t(start)).only(date("2020-02-02"))),
            trigger(cron("45 23 * * MON-FRI").only(Days::weekend())),
        ];
        let mut exhausted = 0;
        for trigger in &hard {
            for at in
                ["1900-01-01T00:00:00Z", start, "2035-05-05T05:05:05.5Z", "2199-12-31T23:59:59Z"]
            {
                for (name, asked) in [
                    ("next", trigger.next_after(t(at)).map(drop)),
                    ("last", trigger.last_at_or_before(t(at)).map(drop)),
                ] {
                    let Err(error) = asked else { continue };
                    exhausted += 1;
                    assert!(error.is_search_exhausted(), "{trigger}: {name}: {error}");
                    assert!(!error.never_fires() && !error.is_invalid_trigger());
                    let text = error.to_string();
                    assert!(text.contains("ran out of its budget"), "{text}");
                }
                // The budget is what bounds the work: none may do without.
                let mut budget = Budget::for_one();
                let full = budget.left();
                let _ = trigger.next_within(t(at), DateTime::<Utc>::MAX_UTC, &mut budget);
                assert!(budget.left() < full || trigger.grid().is_some(), "{trigger}");
            }
        }
        assert!(exhausted > 0, "none of them was hard");
    }

    #[test]
    #[ignore = "measures time: run it with --release"]
    fn times_of_hard_searches() {
        let start = "2026-01-01T00:00:00Z";
        let grid = |millis| every(TimeDelta::milliseconds(millis)).starting_at(t(start));
        let dead = || trigger("0 0 31 2,4,6,9,11 *");
        let sundays: Vec<NaiveDate> =
            (0..4_096).map(|week| date("2026-01-04") + TimeDelta::weeks(week)).collect();
        let primes = [86_400_007, 86_400_011, 999_983, 1_000_003, 1_000_033, 1_000_037];
        for (name, trigger) in [
            ("grids", trigger(and(primes.map(grid)))),
            ("grid × daily", trigger(and((grid(86_400_007), cron("0 12 * * *").in_tz(BERLIN))))),
            ("grid × minutes", trigger(and((grid(60_007), cron("* * * * *").in_tz(BERLIN))))),
            (
                "zones",
                trigger(and((
                    cron("0 12 * * *").in_tz("Asia/Tokyo"),
                    cron("0 12 * * *").in_tz(BERLIN),
                ))),
            ),
            (
                "dead timetables",
                trigger(or(
                    ["every 12 months on the 30th at 9:00 Europe/Berlin; from 2026-02-01"; 32]
                )),
            ),
            (
                "seconds × leap Mondays",
                trigger(and((
                    cron("*/7 * * * * *").in_tz(BERLIN),
                    cron("1 0 0 29 2 MON").dom_and_dow().in_tz(BERLIN),
                ))),
            ),
            (
                "walks",
                trigger(and((
                    calendar_interval()
                        .months(1)
                        .days(1)
                        .starting_on(date("1900-01-01"))
                        .in_tz(BERLIN),
                    calendar_interval()
                        .months(1)
                        .days(2)
                        .starting_on(date("1900-01-02"))
                        .in_tz(BERLIN),
                ))),
            ),
            (
                "gaps only",
                trigger(and((
                    cron("15 2 * * *").in_tz(BERLIN),
                    cron("45 2 * * *").in_tz(BERLIN),
                    cron("50 12 * * *").in_tz(BERLIN),
                ))),
            ),
            ("32 dead", trigger(or(vec![dead(); 32]))),
            (
                "or × or",
                trigger(and([
                    trigger(or(vec![trigger("0 0 1 1 *"); 16])),
                    trigger(or(vec![trigger("1 * * * * *"); 16])),
                ])),
            ),
            (
                "no Sundays",
                trigger(
                    cron("* * * * * *").in_tz(BERLIN).only(Weekday::Sun).except(sundays.clone()),
                ),
            ),
            ("grid on dates", trigger(grid(86_400_007).only(sundays))),
        ] {
            let mut worst = Duration::ZERO;
            for at in
                ["1900-01-01T00:00:00Z", start, "2035-05-05T05:05:05.5Z", "2199-12-31T23:59:59Z"]
            {
                for backward in [false, true] {
                    let mut best = Duration::MAX;
                    for _ in 0..20 {
                        let begin = std::time::Instant::now();
                        let answer = if backward {
                            trigger.last_at_or_before(t(at))
                        } else {
                            trigger.next_after(t(at))
                        };
                        best = best.min(begin.elapsed());
                        let _ = std::hint::black_box(answer);
                    }
                    worst = worst.max(best);
                }
            }
            println!(
                "{name}: {worst:?}, {:?}",
                trigger.next_after(t(start)).map_err(|_| "exhausted")
            );
            assert!(worst <= Duration::from_millis(1), "{name}: {worst:?}");
        }
    }

    #[test]
    fn members_are_anchored_and_only_elapsed_time_moves() {
        let now = t("2026-01-01T00:00:00Z");
        let hour = TimeDelta::hours(1);
        let either = trigger(or((every(seconds(7200)), cron("0 1 * * *"))));
        assert!(either.is_elapsed_time());
        let mut either = either.anchored(now, BERLIN).unwrap();
        let fires = |trigger: &Trigger| {
            let to = t("2026-01-01T05:00:00Z");
            walk(trigger, now, to).iter().map(|t| t.format("%H:%M").to_string()).collect::<Vec<_>>()
        };
        assert_eq!(fires(&either), ["00:00", "02:00", "04:00"]);
        either.shift(hour);
        assert_eq!(fires(&either), ["00:00", "03:00"]);
        either.shift(-hour);
        assert_eq!(fires(&either), ["00:00", "02:00", "04:00"]);

        // Nested, and combined by arithmetic, too.
        let grids = [every(seconds(3600)), every(seconds(5400)).starting_at(now)];
        let both = trigger(and([trigger(and(grids))]));
        assert!(both.is_elapsed_time());
        let mut both = both.anchored(now, BERLIN).unwrap();
        assert_eq!(fires(&both), ["03:00"]);
        both.shift(TimeDelta::minutes(30));
        assert_eq!(fires(&both), ["01:30", "04:30"]);

        let fixed = trigger(or([cron("0 1 * * *"), cron("0 2 * * *")]));
        assert!(!fixed.is_elapsed_time());

        // Not anchored, it counts from what is asked.
        let floating = trigger(or([every(seconds(60)), every(seconds(90))]));
        assert_eq!(floating.next_after(now).unwrap(), Some(now + TimeDelta::minutes(1)));
        let thrice = trigger(or([every(seconds(60)), every(seconds(90))]).times(3));
        assert_eq!(thrice.anchored(now, BERLIN).unwrap().end(), Some(now + TimeDelta::minutes(2)));
    }

    #[test]
    fn too_many_or_too_deep_is_refused() {
        let daily = || trigger("@daily");
        let error = |build: Build<Or>| {
            let error = build.into_trigger().unwrap_err();
            assert!(error.is_invalid_trigger());
            error.to_string()
        };
        assert!(error(or(Vec::<Trigger>::new())).contains("no triggers"));
        assert!(or(vec![daily(); 32]).into_trigger().is_ok());
        assert!(error(or(vec![daily(); 33])).contains("33 triggers on 1 levels is too large"));
        assert!(error(or(["@daily", "61 * * * *"])).contains("minute 61"));
        let nest = |levels| (0..levels).try_fold(daily(), |inner, _| and([inner]).into_trigger());
        assert!(nest(8).is_ok());
        assert!(nest(9).unwrap_err().to_string().contains("9 levels"));
    }
}

mod days {
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn agree_with_filtering_a_walk(
            (zone, transition) in prop::sample::select(&TRANSITIONS[..]),
            which in 0..5_usize,
            (only, except) in (0..128_u8, 0..128_u8),
            (listed, struck) in (
                prop::collection::vec(-9..9_i64, 0..5), prop::collection::vec(-9..9_i64, 0..5)
            ),
            restricts in any::<bool>(),
        ) {
            let zone: TimeZone = zone.parse().unwrap();
            let middle = t(transition);
            let (from, to) = (middle - TimeDelta::days(8), middle + TimeDelta::days(8));
            let plain = match which {
                0 => trigger(cron("*/10 * * * *").in_tz(zone)),
                1 => trigger(cron("0 0 * * *").in_tz(zone)),
                2 => trigger(every(seconds(601)).starting_at(from)),
                3 => trigger(or((every(seconds(7_300)).starting_at(from), cron("59 23 * * *").in_tz(zone)))),
                _ => trigger(calendar_interval().days(1).at("23:45").starting_on(from.date_naive()).in_tz(zone)),
            };
            let set = |weekdays: u8, dates: &[i64]| {
                let weekdays = WEEK.into_iter().filter(|day| weekdays >> day.num_days_from_monday() & 1 != 0);
                let dates = dates.iter().map(|&n| middle.date_naive() + TimeDelta::days(n));
                Days::weekdays(weekdays).and(Days::dates(dates))
            };
            let only = restricts.then(|| set(only, &listed));
            let except = set(except, &struck);
            let said = Said { only: only.clone(), except: Some(except.clone()), ..Said::default() };
            let Ok(filter) = DayFilter::new(said, Some(zone)) else { return Ok(()) };
            let limits = Limits { days: filter, end: Some(to), ..plain.limits().clone() };
            let start = plain.start.or(Some(from));
            let filtered = Trigger { start, ..plain.clone() }.with_limits(limits);
            let time = match which {
                1 => NaiveTime::from_hms_opt(0, 0, 0),
                4 => NaiveTime::from_hms_opt(23, 45, 0),
                _ => None,
            };
            let allowed = |fire: &DateTime<Utc>| {
                let shown = fire.with_timezone(&zone).naive_local();
                let second = TimeDelta::seconds(1);
                let before = (*fire - second).with_timezone(&zone).naive_local() + second;
                // A fixed time of day names dates; a gap moves it to the gap's end.
                let named = |date: &NaiveDate| time.is_none_or(|time| {
                    let reading = date.and_time(time);
                    reading == shown || (before..shown).contains(&reading)
                });
                let dates = if time.is_some() { 0..3 } else { 0..1 };
                dates.map(|n| shown.date() - TimeDelta::days(n)).filter(named).any(|date| {
                    only.as_ref().is_none_or(|only| only.contains(date)) && !except.contains(date)
                })
            };
            let expected = walk(&plain, from, to).into_iter().filter(allowed).collect();
            prop_assert_eq!(walk(&filtered, from, to), expected);
        }
    }

    #[test]
    fn a_list_of_dates_ends() {
        let days = [date("2026-05-01"), date("2026-12-24")];
        let trigger = trigger(cron("0 9 * * *").only(days));
        let first = t("2026-05-01T09:00:00Z");
        assert_eq!(trigger.next_after(t("2020-01-01T00:00:00Z")).unwrap(), Some(first));
        assert_eq!(trigger.next_after(first).unwrap(), Some(t("2026-12-24T09:00:00Z")));
        assert_eq!(trigger.next_after(t("2026-12-24T09:00:00Z")).unwrap(), None);
        assert_eq!(trigger.last_at_or_before(first - MS).unwrap(), None);
    }

    #[test]
    fn sets_add_up_and_narrow_down() {
        let build = cron("0 9 * * *").except(Weekday::Sun).except(date("2026-05-01"));
        let fires = |build| wall(build, Tz::UTC, "2026-04-30T12:00:00Z", 2).join(" ");
        assert_eq!(fires(build), "2026-05-02 09:00+00:00 2026-05-04 09:00+00:00");
        let work = [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri];
        let build = cron("0 9 * * *").only(work).only([Weekday::Fri, Weekday::Sat]);
        assert_eq!(fires(build), "2026-05-01 09:00+00:00 2026-05-08 09:00+00:00");
        let build = cron("0 9 * * *").only([date("2026-05-02"), date("2026-05-05")]).only(work);
        assert_eq!(fires(build), "2026-05-05 09:00+00:00");
    }

    #[test]
    fn a_day_is_one_of_the_zone() {
        let start = t("2026-01-01T00:00:00Z");
        let trigger = trigger(every(seconds(1800)).starting_at(start).only(Weekday::Mon));
        let anchored = trigger.anchored(start, Tz::Asia__Tokyo).unwrap();
        let monday = t("2026-01-04T15:00:00Z"); // midnight in Tokyo
        assert_eq!(anchored.next_after(start).unwrap(), Some(monday));
        assert_eq!(
            anchored.last_at_or_before(monday + TimeDelta::days(3)).unwrap(),
            Some(monday + TimeDelta::minutes(23 * 60 + 30))
        );
        // What has a zone of its own goes by that.
        let own = cron("0 * * * *").in_tz(BERLIN).only(Weekday::Mon).into_trigger().unwrap();
        let own = own.anchored(start, Tz::Asia__Tokyo).unwrap();
        assert_eq!(own.next_after(start).unwrap(), Some(t("2026-01-04T23:00:00Z")));
    }

    #[test]
    fn no_day_at_all_is_refused() {
        for build in [
            cron("@daily").except(WEEK),
            cron("@daily").only(Weekday::Sun).except(Weekday::Sun),
            cron("@daily").only(Vec::<NaiveDate>::new()),
        ] {
            let error = build.into_trigger().unwrap_err();
            assert!(error.is_invalid_trigger() && error.to_string().contains("no day"), "{error}");
        }
        let many = (0..4_097).map(|n| date("2026-01-01") + TimeDelta::days(n)).collect::<Vec<_>>();
        let error = cron("@daily").except(many).into_trigger().unwrap_err();
        assert!(error.to_string().contains("4097 dates are too many"), "{error}");
    }
}

mod serialized {
    use super::*;

    #[test]
    fn every_kind_keeps_its_form() {
        let start = t("2026-01-01T00:00:00Z");
        for (trigger, json, words) in [
            (
                trigger(
                    calendar_interval()
                        .years(1)
                        .months(2)
                        .weeks(3)
                        .days(4)
                        .at("09:30:15")
                        .starting_on(date("2026-01-31"))
                        .in_tz(BERLIN)
                        .gap(Gap::Skip)
                        .fold(Fold::Both)
                        .times(3),
                ),
                concat!(
                    r#"{"type":"calendar_interval","years":1,"months":2,"weeks":3,"days":4,"#,
                    r#""time":"09:30:15","start_date":"2026-01-31","zone":"Europe/Berlin","#,
                    r#""gap":"skip","fold":"both","times":3}"#
                ),
                "calendar[1 year, 2 months, 3 weeks, 4 days at 09:30:15] (Europe/Berlin); from 2026-01-31; gap skip; fold both; 3 times",
            ),
            (
                trigger(and((
                    every(seconds(90)).starting_at(start),
                    or(["@daily", "0 12 * * *"]).until(start),
                ))),
                concat!(
                    r#"{"type":"and","triggers":["#,
                    r#"{"type":"interval","period_ms":90000,"start":"2026-01-01T00:00:00Z"},"#,
                    r#"{"type":"or","triggers":[{"type":"cron","expression":"@daily"},"#,
                    r#"{"type":"cron","expression":"0 12 * * *"}],"end":"2026-01-01T00:00:00Z"}]}"#
                ),
                "and[every 90s; starting 2026-01-01T00:00:00Z & or[@daily | 0 12 * * *]; until 2026-01-01T00:00:00Z]",
            ),
            (
                trigger(
                    every(seconds(90))
                        .starting_at(start)
                        .only(Days::weekdays([Weekday::Fri, Weekday::Mon]))
                        .except(Days::dates([date("2026-12-25")])),
                )
                .anchored(start, BERLIN)
                .unwrap(),
                concat!(
                    r#"{"type":"interval","period_ms":90000,"start":"2026-01-01T00:00:00Z","#,
                    r#""only":{"weekdays":["Mon","Fri"]},"except":{"dates":["2026-12-25"]},"#,
                    r#""day_zone":"Europe/Berlin"}"#
                ),
                "every 90s; starting 2026-01-01T00:00:00Z; only Mon, Fri; except 2026-12-25; days in Europe/Berlin",
            ),
        ] {
            assert_eq!(serde_json::to_string(&trigger).unwrap(), json);
            assert_eq!(serde_json::from_str::<Trigger>(json).unwrap(), trigger);
            assert_eq!(trigger.to_string(), words);
        }
    }

    #[test]
    fn midnight_is_the_time_of_day_that_is_not_said() {
        let said = trigger(calendar_interval().days(1).at("00:00"));
        for build in [calendar_interval().days(1), calendar_interval().days(1).in_tz(BERLIN)] {
            let trigger = trigger(build);
            let json = serde_json::to_string(&trigger).unwrap();
            assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger, "{json}");
            assert_eq!(trigger.to_string().parse::<Trigger>().unwrap(), trigger);
        }
        assert_eq!(trigger(calendar_interval().days(1)), said);
    }

    #[test]
    fn nonsense_is_refused() {
        for (json, reason) in [
            (r#"{"type":"and","triggers":[]}"#, "no triggers"),
            (
                r#"{"type":"or","triggers":[{"type":"cron","expression":"61 * * * *"}]}"#,
                "minute 61",
            ),
            (r#"{"type":"or"}"#, "triggers"),
            (
                r#"{"type":"cron","expression":"@daily","except":{"weekdays":["Mon","Tue","Wed","Thu","Fri","Sat","Sun"]}}"#,
                "no day",
            ),
            (r#"{"type":"cron","expression":"@daily","only":{"weekdays":["Someday"]}}"#, "eekday"),
            (
                r#"{"type":"cron","expression":"@daily","only":{"dates":["2026-02-30"]}}"#,
                "out of range",
            ),
        ] {
            let error = serde_json::from_str::<Trigger>(json).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read((_, zone, members) in scene(), both in any::<bool>()) {
            let build = if both { trigger(and(members)) } else { trigger(or(members)) };
            let anchored = build.anchored(t("2026-01-01T00:00:00Z"), zone).unwrap();
            for trigger in [build, anchored] {
                let json = serde_json::to_string(&trigger).unwrap();
                prop_assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger);
            }
        }
    }
}
