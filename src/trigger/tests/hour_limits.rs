//! `between`.

use super::*;

/// All minutes of three days whose reading is in the window, by looking at each.
fn looked_up(zone: TimeZone, from: DateTime<Utc>, window: [&str; 2]) -> Vec<DateTime<Utc>> {
    let [first, last] = window.map(|time| time.parse::<chrono::NaiveTime>().unwrap());
    (0..3 * 24 * 60)
        .map(|minute| from + TimeDelta::minutes(minute))
        .filter(|t| {
            let time = t.with_timezone(&zone).time();
            if first <= last {
                (first..=last).contains(&time)
            } else {
                time >= first || time <= last
            }
        })
        .collect()
}

#[test]
fn every_minute_in_them_fires_through_gaps_and_folds() {
    let zones = ["UTC", "Europe/Berlin", "Africa/Cairo", "Australia/Lord_Howe"];
    let days = ["2026-03-28T00:00:00Z", "2026-10-24T00:00:00Z", "2026-04-03T12:00:00Z"];
    let windows = [
        ["10:00:00", "12:00:00"],
        ["22:00:00", "02:00:00"],
        ["02:15:00", "02:45:00"],
        ["23:59:00", "00:30:00"],
        ["10:00:00", "10:00:00"],
    ];
    for (zone, from, window) in zones.iter().flat_map(|zone| {
        days.iter().flat_map(move |from| windows.map(|window| (zone, t(from), window)))
    }) {
        let zone = zone.into_time_zone().unwrap();
        let minutely = every(Duration::from_secs(60)).starting_at(from);
        let interval = trigger(minutely.between(window[0], window[1]));
        let pattern = cron("* * * * *").in_tz(zone).between(window[0], window[1]);
        let wanted = looked_up(zone, from, window);
        for trigger in [interval, trigger(pattern)] {
            let anchored = trigger.anchored(from, zone).unwrap();
            let end = from + TimeDelta::days(3);
            let fires: Vec<_> = anchored
                .upcoming_after(from - TimeDelta::milliseconds(1))
                .map(Result::unwrap)
                .take_while(|&fire| fire < end)
                .collect();
            assert_eq!(fires, wanted, "{anchored}");
            let mut last = anchored.last_at_or_before(end - TimeDelta::milliseconds(1));
            for &fire in wanted.iter().rev() {
                assert_eq!(last.unwrap(), Some(fire), "{anchored}");
                last = anchored.last_at_or_before(fire - TimeDelta::milliseconds(1));
            }
            let json = serde_json::to_string(&anchored).unwrap();
            assert!(json.contains(r#""between":["#), "{json}");
            assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), anchored);
            assert_eq!(trigger_of(anchored.to_string()), anchored);
        }
    }
}

#[test]
fn their_ends_are_exact() {
    let from = t("2026-12-01T09:59:59.700Z");
    let trigger =
        trigger(every(Duration::from_millis(300)).starting_at(from).between("10:00", "10:00:01"));
    let fires: Vec<_> = trigger.upcoming_after(from).take(5).map(Result::unwrap).collect();
    assert_eq!(
        fires[..4],
        ["00.000", "00.300", "00.600", "00.900"]
            .map(|second| t(&format!("2026-12-01T10:00:{second}Z")))
    );
    assert_eq!(fires[4], t("2026-12-02T10:00:00Z"));
    assert_eq!(trigger.last_at_or_before(fires[4] - hours(1)).unwrap(), Some(fires[3]));
}

#[test]
fn they_go_with_days_and_in_combinations() {
    let now = t("2026-11-30T12:00:00Z");
    for (text, fires) in [
        ("0 * * * *; only Tue; between 10:00 and 11:00", [1, 10, 1, 11, 8, 10]),
        ("every 1h; starting 2026-11-30; only Tue; between 10:00 and 11:00", [1, 10, 1, 11, 8, 10]),
        ("or[0 * * * *; between 3:00 and 3:00 | 0 4 * * *]", [1, 3, 1, 4, 2, 3]),
        ("and[every 1h; starting 2026-11-30; between 3:00 and 4:00 & 0 4,5 * * *]", {
            [1, 4, 2, 4, 3, 4]
        }),
        ("0 0 * * *; between 22:00 and 2:00; first 2026-11-30T13:00:00Z", [30, 13, 1, 0, 2, 0]),
    ] {
        let anchored = trigger(text).anchored(now, TimeZone::UTC).unwrap();
        let found: Vec<String> = anchored
            .upcoming_after(now)
            .take(3)
            .map(|fire| fire.unwrap().format("%-d %-H").to_string())
            .collect();
        let wanted: Vec<String> =
            fires.chunks(2).map(|day| format!("{} {}", day[0], day[1])).collect();
        assert_eq!(found, wanted, "{text}");
    }
}

#[test]
fn what_never_fires_in_them_ends_or_runs_out_of_its_budget() {
    let noon = t("2026-11-30T12:00:00Z");
    let daily = every(Duration::from_secs(86_400)).starting_at(noon).between("9:00", "11:00");
    assert_eq!(
        trigger(daily).anchored(noon, TimeZone::UTC).unwrap().next_after(noon).unwrap(),
        None
    );
    let error = trigger(cron("0 12 * * *").between("9:00", "11:00")).next_after(noon);
    let error = error.unwrap_err();
    assert!(error.is_search_exhausted() && error.to_string().contains("between 09:00 and 11:00"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |build: Build<Cron>| build.into_trigger().unwrap_err().to_string();
    let daily = || cron("@daily");
    assert!(refused(daily().between("25:00", "26:00")).contains("invalid time of day `25:00`"));
    let half = chrono::NaiveTime::from_hms_milli_opt(9, 0, 0, 500).unwrap();
    assert!(refused(daily().between(half, "10:00")).contains("use 09:00:00"));
    assert_eq!(
        refused(daily().between("9:00", "10:00").between("17:00", "18:00")),
        "the hours are between 09:00 and 10:00 and again between 17:00 and 18:00: leave one of them out"
    );
    let error = "@daily; between 9 and 10".parse::<Trigger>().unwrap_err().to_string();
    assert!(error.contains("write, for example, `between 10:00 and 12:00`"), "{error}");
}

#[test]
fn an_exhausted_search_asks_for_more_days_or_hours() {
    let noon = t("2026-11-30T12:00:00Z");
    let hours = trigger(cron("0 12 * * *").between("9:00", "11:00"));
    let error = hours.next_after(noon).unwrap_err();
    assert!(error.is_search_exhausted());
    assert!(error.to_string().ends_with("allow more days or hours, or fire more often"), "{error}");
}
