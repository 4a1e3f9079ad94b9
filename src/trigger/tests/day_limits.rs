//! `only` and `except`.

use super::*;

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
    let fires = |build| shown_fires(build, Tz::UTC, "2026-04-30T12:00:00Z", 2).join(" ");
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
        let said = DayOptions { only: only.clone(), except: Some(except.clone()), ..DayOptions::default() };
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
        let expected = fires_between(&plain, from, to).into_iter().filter(allowed).collect();
        prop_assert_eq!(fires_between(&filtered, from, to), expected);
    }
}
