//! Instants as people write them.

use super::*;

fn naive(text: &str) -> NaiveDateTime {
    text.parse().unwrap()
}

#[test]
fn they_are_what_people_have() {
    let instant = t("2026-12-01T09:30:00Z");
    let berlin = instant.with_timezone(&Tz::Europe__Berlin);
    let half_past_ten = naive("2026-12-01T10:30:00");
    let midnight = naive("2026-12-01T00:00:00");
    let date = NaiveDate::from_ymd_opt(2026, 12, 1).unwrap();
    let same = |typed: Result<Moment, Error>, texts: &[&str]| {
        let typed = typed.unwrap();
        for text in texts.iter().copied().chain([&*typed.to_string()]) {
            assert_eq!(text.parse::<Moment>().unwrap(), typed, "{text}");
        }
    };
    same(
        berlin.into_moment(),
        &[
            "2026-12-01T10:30:00+01:00",
            "2026-12-01 10:30:00+01:00",
            "2026-12-01 10:30+01:00",
            "2026-12-01T09:30Z",
            "2026-12-01 10:30 Europe/Berlin",
            "2026-12-01T10:30:00 Europe/Berlin",
            "2026-12-01 10:30 in Europe/Berlin",
            "2026-12-01 10:30 am (Europe/Berlin)",
            "2026-12-01 at 10:30am europe/berlin",
            "2026-12-01 10:30 +01:00",
        ],
    );
    same(
        half_past_ten.into_moment(),
        &[
            "2026-12-01 10:30",
            "2026-12-01T10:30",
            "2026-12-01 10:30:00",
            " 2026-12-01T10:30:00.000 ",
        ],
    );
    same(date.into_moment(), &["2026-12-01", "2026-12-01 00:00"]);
    assert_eq!(date.into_moment().unwrap(), midnight.into_moment().unwrap());
    same(NaiveTime::from_hms_opt(18, 0, 0).unwrap().into_moment(), &["18:00", "18:00:00"]);
    let six = NaiveTime::from_hms_opt(18, 0, 0).unwrap();
    let tokyo = six.into_moment().unwrap().in_tz("Asia/Tokyo".parse().unwrap());
    same(tokyo, &["18:00 Asia/Tokyo", "6pm in Asia/Tokyo", "6 pm (Asia/Tokyo)"]);
    same(Duration::from_secs(90).into_moment(), &["90s", "+90s", "90 seconds", "+90 sec"]);
    same(hours(2).into_moment(), &["2 hours", "120min"]);
    same(Duration::ZERO.into_moment(), &["now"]);
}

#[test]
fn a_zone_behind_a_text_is_the_one_whose_clock_counts() {
    let noon: DateTime<Utc> = "2026-12-01T12:00:00Z".parse().unwrap();
    let berlin: TimeZone = "Europe/Berlin".parse().unwrap();
    let end = |text: &str| {
        let trigger = every(60).seconds().until(text).into_trigger().unwrap();
        trigger.anchored(noon, berlin).unwrap().end().unwrap().to_string()
    };
    // 18:00 in Tokyo is 09:00 UTC, which has passed at noon.
    assert_eq!(end("18:00 Asia/Tokyo"), "2026-12-02 09:00:00 UTC");
    assert_eq!(end("18:00"), "2026-12-01 17:00:00 UTC");
    assert_eq!(end("2026-12-24 18:00 Asia/Tokyo"), "2026-12-24 09:00:00 UTC");
    assert_eq!(end("2026-12-24 Asia/Tokyo"), "2026-12-23 15:00:00 UTC");

    let in_tz = at("18:00").in_tz("Asia/Tokyo").into_trigger().unwrap();
    assert_eq!(in_tz, at("18:00 Asia/Tokyo").into_trigger().unwrap());
    let fire = in_tz.anchored(noon, berlin).unwrap().next_after(noon).unwrap();
    assert_eq!(fire.unwrap().to_string(), "2026-12-02 09:00:00 UTC");
    let json = serde_json::to_string(&in_tz).unwrap();
    assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), in_tz, "{json}");
    let error = at("18:00 Asia/Tokyo").in_tz("UTC").into_trigger().unwrap_err().to_string();
    assert!(error.contains("`Asia/Tokyo` and again `UTC`: leave one"), "{error}");
}

#[test]
fn errors_say_what_to_write() {
    for text in ["tomorrow", "", "1.12.2026", "18:00 tomorrow", "every 10 minutes", "+", "day"] {
        let error = at(text).into_trigger().unwrap_err().to_string();
        assert!(error.contains("does not name an instant: write, for example,"), "{error}");
    }
    for (text, reason) in [
        ("2026-13-01", "month 13 is not in 1..=12"),
        ("2026-02-30 18:00", "February 2026 has 28 days: use a day in 1..=28"),
        ("2028-02-30", "February 2028 has 29 days: use a day in 1..=29"),
        ("2026-11-31T18:00:00Z", "November 2026 has 30 days"),
        ("2026-12-00 18:00 Asia/Tokyo", "December 2026 has 31 days"),
        ("2026-12-01 25:00", "the hour is in 0..=23"),
        ("2026-12-01T13:00 pm", "with `am` or `pm`, the hour is in 1..=12"),
        ("25:00", "the hour is in 0..=23"),
        ("18:00 pm", "with `am` or `pm`, the hour is in 1..=12"),
        ("18:00\u{200b}", "is a zero-width space"),
    ] {
        let error = cron("@daily").until(text).into_trigger().unwrap_err().to_string();
        assert!(error.contains("does not name an instant: "), "{text}: {error}");
        assert!(error.contains(reason), "{text}: {error}");
    }
    for (text, reason) in [
        ("@daily; until 2026-02-30", "February 2026 has 28 days"),
        ("@daily; except Sat, 2026-02-30", "February 2026 has 28 days"),
        ("every 2 days at 9:00; from 2026-02-30", "February 2026 has 28 days"),
    ] {
        let error = text.into_trigger().unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let error = at("2026-12-01 10:30 Europe/Berln").into_trigger().unwrap_err().to_string();
    assert!(error.contains("Europe/Berlin"), "{error}");
    let error = cron("@daily").until(-hours(1)).into_trigger().unwrap_err().to_string();
    assert!(error.contains("before the job is added"), "{error}");
    let half = NaiveTime::from_hms_milli_opt(9, 0, 0, 500).unwrap();
    let error = cron("@daily").until(half).into_trigger().unwrap_err().to_string();
    assert!(error.contains("not a whole second: use 09:00:00"), "{error}");
}

/// The start of a trigger as it is said, once the trigger is added in a zone.
fn start(build: impl IntoTrigger, now: &str, zone: Tz) -> Option<DateTime<Utc>> {
    trigger(build).anchored(t(now), zone).unwrap().start()
}

#[test]
fn readings_are_those_of_the_own_zone_or_of_the_schedulers() {
    let (berlin, new_york) = (Tz::Europe__Berlin, Tz::America__New_York);
    let now = "2026-01-01T00:00:00Z";
    let plain = || every(Duration::from_secs(60)).starting_at("2026-12-01 10:30");
    assert_eq!(start(plain(), now, berlin), Some(t("2026-12-01T09:30:00Z")));
    assert_eq!(start(plain(), now, new_york), Some(t("2026-12-01T15:30:00Z")));
    let own = cron("* * * * *").in_tz(new_york).starting_at(naive("2026-12-01T10:30:00"));
    assert_eq!(start(own, now, berlin), Some(t("2026-12-01T15:30:00Z")));
    // The clock goes from 02:00 to 03:00, and back from 03:00 to 02:00.
    let at_reading = |text: &str| cron("* * * * *").in_tz(berlin).starting_at(text);
    let gap = "2026-03-29 02:30";
    assert_eq!(start(at_reading(gap), now, new_york), Some(t("2026-03-29T01:00:00Z")));
    let skip = at_reading(gap).gap(Gap::Skip);
    assert_eq!(start(skip, now, new_york), Some(t("2026-03-29T01:00:00Z")));
    let fold = "2026-10-25 02:30";
    assert_eq!(start(at_reading(fold), now, new_york), Some(t("2026-10-25T00:30:00Z")));
    let last = at_reading(fold).fold(Fold::Last);
    assert_eq!(start(last, now, new_york), Some(t("2026-10-25T01:30:00Z")));
    // A day that a zone left out.
    let apia = start(plain_at("2011-12-30"), "2011-01-01T00:00:00Z", Tz::Pacific__Apia);
    assert_eq!(apia, Some(t("2011-12-30T10:00:00Z")));
    // A midnight that a clock skips.
    let cairo = start(plain_at("2026-04-24"), now, Tz::Africa__Cairo);
    assert_eq!(cairo, Some(t("2026-04-23T22:00:00Z")));
}

fn plain_at(text: &str) -> Build<Interval> {
    every(Duration::from_secs(60)).starting_at(text)
}

#[test]
fn a_date_waits_for_its_zone_too() {
    let now = t("2026-11-30T12:00:00Z");
    for (build, zone, fire) in [
        (at("2026-12-01 10:30"), Tz::Europe__Berlin, "2026-12-01T09:30:00Z"),
        (at("2026-12-01"), Tz::America__New_York, "2026-12-01T05:00:00Z"),
        (at("18:00"), Tz::Europe__Berlin, "2026-11-30T17:00:00Z"),
        (at("13:00"), Tz::Europe__Berlin, "2026-11-30T12:00:00Z"),
        (at("12:59"), Tz::Europe__Berlin, "2026-12-01T11:59:00Z"),
        (at("10 minutes"), Tz::Europe__Berlin, "2026-11-30T12:10:00Z"),
    ] {
        let date = trigger(build);
        let json = serde_json::to_string(&date).unwrap();
        assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), date, "{json}");
        assert_eq!(trigger(date.to_string()), date);
        let anchored = date.anchored(now, zone).unwrap();
        assert_eq!(anchored, trigger(at(t(fire))), "{date}");
        assert!(!date.is_elapsed_time() || date.to_string().starts_with("after"));
    }
    // Not anchored, the clock is that of UTC.
    assert_eq!(
        trigger(at("2026-12-01 10:30")).next_after(now).unwrap(),
        Some(t("2026-12-01T10:30:00Z"))
    );
}

#[test]
fn a_time_of_day_is_the_same_text_everywhere() {
    for (said, time) in [
        ("6pm", "18:00"),
        ("6:30 pm", "18:30"),
        ("6:30 PM", "18:30"),
        ("noon", "12:00"),
        ("midnight", "0:00"),
    ] {
        for (text, meant) in [
            (format!("every day at {said}"), format!("every day at {time}")),
            (format!("at {said}"), format!("at {time}")),
            (format!("at 2026-12-24 {said}"), format!("at 2026-12-24 {time}")),
            (format!("at 2026-12-24 at {said} UTC"), format!("at 2026-12-24T{time}:00Z")),
            (format!("@daily; until {said}"), format!("@daily; until {time}")),
            (
                format!("every 5min; between {said} and 19:00"),
                format!("every 5min; between {time} and 19:00"),
            ),
            (format!("calendar[1 day at {said}]"), format!("calendar[1 day at {time}]")),
        ] {
            let meant = meant.replace("T0:00", "T00:00");
            assert_eq!(trigger(text.as_str()), trigger(meant.as_str()), "{text}");
        }
        assert_eq!(trigger(at(said)), trigger(at(time)));
        assert_eq!(trigger(every(1).day().at(said)), trigger(every(1).day().at(time)));
    }
    for text in ["6pm", "noon", "6:30 pm"] {
        let error = error(text);
        assert!(error.contains(&format!("write `every day at {text}`, or `at {text}`")), "{error}");
    }
}

#[test]
fn a_delay_is_a_duration_or_a_text() {
    let minute = trigger(after(Duration::from_secs(60)));
    assert_eq!(trigger(after(TimeDelta::minutes(1))), minute);
    assert_eq!(trigger(after(Duration::from_nanos(59_999_000_001))), minute);
    for text in ["1 minute", "60s", "+60s", "1min"] {
        assert_eq!(trigger(after(text)), minute, "{text}");
        assert_eq!(trigger(after(text.to_owned())), minute, "{text}");
    }
    assert_eq!(trigger(after("now")), trigger(now()));
    for (text, expected) in [
        ("18:00", "`18:00` is no delay: write `at(\"18:00\")`"),
        ("soon", "`soon` is no delay: write, for example, `10 minutes`, `90s` or `1h30m`"),
        ("1 month", "`1 month` is no delay"),
    ] {
        let error = after(text).into_trigger().unwrap_err();
        assert!(error.is_invalid_trigger());
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let error = after(TimeDelta::seconds(-1)).into_trigger().unwrap_err().to_string();
    assert!(error.contains("use a duration that is not negative"), "{error}");
}

#[test]
fn a_delay_is_read_back_however_long() {
    let longest = Duration::from_millis(i64::MAX.unsigned_abs());
    let moment = longest.into_moment().unwrap();
    assert_eq!(moment.to_string().parse::<Moment>().unwrap(), moment);
    for too_long in [Duration::MAX, longest + Duration::from_nanos(1)] {
        let error = cron("0 9 * * *").until(too_long).into_trigger().unwrap_err().to_string();
        assert!(error.contains("use a shorter duration"), "{error}");
        let error = after(too_long).into_trigger().unwrap_err().to_string();
        assert!(error.contains("use a shorter duration"), "{error}");
    }
    let date = trigger(after(longest));
    assert_eq!(trigger(date.to_string()), date);
    let error =
        serde_json::from_str::<Trigger>(r#"{"type":"date","after_ms":18446744073709551615}"#);
    assert!(error.unwrap_err().to_string().contains("use a shorter duration"));
}
