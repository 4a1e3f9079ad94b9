//! Calendar intervals: tables, and a naive walk.

use super::*;

#[test]
fn dates_that_do_not_exist_are_passed_over() {
    let dates = |build: Build<CalendarInterval>, start: &str, n| {
        let fires = shown_fires(build.starting_on(date(start)), Tz::UTC, "1999-01-01T00:00:00Z", n);
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
    let spring = |build| shown_fires(build, new_york, "2026-03-07T12:00:00Z", 2).join(" ");
    let gap = daily("02:30").starting_on(date("2026-03-07"));
    assert_eq!(spring(gap.clone()), "2026-03-08 03:00-04:00 2026-03-09 02:30-04:00");
    assert_eq!(spring(gap.gap(Gap::Skip)), "2026-03-09 02:30-04:00 2026-03-10 02:30-04:00");
    let autumn = |build| shown_fires(build, new_york, "2026-10-31T12:00:00Z", 2).join(" ");
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
                fires_between(&trigger(cron(text).in_tz(zone).gap(gap).fold(fold)), from, to)
            })
            .collect();
        prop_assert_eq!(&fires_between(&ours, from, to), &expected);
        let at = middle + TimeDelta::seconds(shift);
        prop_assert_eq!(
            ours.next_after(at).unwrap().filter(|&next| next < to),
            expected.range(at + MS..).next().copied()
        );
    }
}

proptest! {
    #[test]
    fn several_times_of_a_calendar_interval_are_those_of_each(
        days in 1_u32..40, months in 0_u32..3, minutes in prop::collection::vec(0_u32..1440, 1..5),
        now in 0_i64..4_000_000_000,
    ) {
        let now = DateTime::from_timestamp(now, 0).unwrap();
        let build = || calendar_interval().days(days).months(months).in_tz("America/New_York");
        let time = |minute: &u32| format!("{}:{:02}", minute / 60, minute % 60);
        let all = minutes.iter().fold(build(), |build, minute| build.at(time(minute)));
        let all = trigger(all).anchored(now, Tz::UTC).unwrap();
        let each = or(minutes.iter().map(|minute| build().at(time(minute))).collect::<Vec<_>>());
        let each = trigger(each).anchored(now, Tz::UTC).unwrap();
        let mut at = now;
        for _ in 0..20 {
            let next = all.next_after(at).unwrap();
            prop_assert_eq!(next, each.next_after(at).unwrap());
            let Some(next) = next else { break };
            let before = next - TimeDelta::seconds(1);
            prop_assert_eq!(all.last_at_or_before(next).unwrap(), Some(next));
            prop_assert_eq!(all.last_at_or_before(before).unwrap(), each.last_at_or_before(before).unwrap());
            at = next;
        }
    }
}
