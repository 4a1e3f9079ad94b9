//! Tests of the instants that come in, and of the answers that go out.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use super::*;

fn t(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn trigger(trigger: impl IntoTrigger) -> Trigger {
    trigger.into_trigger().unwrap()
}

fn hours(n: i64) -> TimeDelta {
    TimeDelta::hours(n)
}

mod leap_seconds {
    use super::*;

    const LEAP: &str = "2016-12-31T23:59:60Z";
    const NEXT: &str = "2017-01-01T00:00:00Z";

    /// The same, but for the leap second in place of the one that follows it, in as many ways as
    /// there are to say it.
    fn said_in_every_way(text: &str) -> Vec<Trigger> {
        let right = trigger(text);
        let json = serde_json::to_string(&right).unwrap();
        assert!(text.contains(NEXT) && json.contains(NEXT), "{text}: {json}");
        let leaps = [LEAP, "2016-12-31T23:59:60.0001Z", "2016-12-31T23:59:60.999Z"];
        leaps
            .iter()
            .flat_map(|leap| {
                let json = json.replace(NEXT, leap);
                [trigger(text.replace(NEXT, leap)), serde_json::from_str(&json).unwrap()]
            })
            .chain([right])
            .collect()
    }

    #[test]
    fn they_count_as_the_next_second_wherever_one_comes_in() {
        let now = t("2026-11-30T12:59:59Z");
        for (text, next) in [
            ("every 1h; starting 2017-01-01T00:00:00Z", Some(t("2026-11-30T13:00:00Z"))),
            ("every 1h; starting 2017-01-01T00:00:00Z; days in UTC; only Mon", {
                Some(t("2026-11-30T13:00:00Z"))
            }),
            ("every 1h; starting 2017-01-01T00:00:00Z; 90000 times", {
                Some(t("2026-11-30T13:00:00Z"))
            }),
            (
                "and[every 1h; starting 2017-01-01T00:00:00Z & every 10min; starting 2017-01-01T00:00:00Z]",
                { Some(t("2026-11-30T13:00:00Z")) },
            ),
            ("or[every 1h; starting 2017-01-01T00:00:00Z | at 2017-01-01T00:00:00Z]", {
                Some(t("2026-11-30T13:00:00Z"))
            }),
            ("0 13 * * *; starting 2017-01-01T00:00:00Z", Some(t("2026-11-30T13:00:00Z"))),
            ("cron[hour='13']; starting 2017-01-01T00:00:00Z", Some(t("2026-11-30T13:00:00Z"))),
            ("every day at 13:00; starting 2017-01-01T00:00:00Z", Some(t("2026-11-30T13:00:00Z"))),
            ("calendar[1 day at 13:00:00]; starting 2017-01-01T00:00:00Z", {
                Some(t("2026-11-30T13:00:00Z"))
            }),
            ("0 0 * * *; until 2017-01-01T00:00:00Z", None),
            ("at 2017-01-01T00:00:00Z", None),
        ] {
            for trigger in said_in_every_way(text) {
                let anchored = trigger.anchored(t(NEXT), Tz::UTC).unwrap();
                assert_eq!(anchored.next_after(now).unwrap(), next, "{trigger}");
                assert!(!trigger.to_string().contains(":60"), "{trigger}");
                // Nothing happens in the leap second itself, and all is well around it.
                let mut at = t("2016-12-31T23:59:58.500Z");
                for _ in 0..4 {
                    let Some(next) = anchored.next_after(at).unwrap() else { break };
                    assert!(next > at && next.timestamp_subsec_nanos() < 1_000_000_000);
                    let last = anchored.last_at_or_before(next).unwrap();
                    assert_eq!(last, Some(next), "{trigger}");
                    at = next;
                }
            }
        }
        let typed = trigger(every(Duration::from_secs(3600)).starting_at(t(LEAP)));
        assert_eq!(typed, trigger("every 1h; starting 2017-01-01T00:00:00Z"));
        assert_eq!(trigger(at(t(LEAP))), trigger("at 2017-01-01T00:00:00Z"));
        assert_eq!(
            trigger(cron("0 0 * * *").until(t(LEAP))),
            trigger("0 0 * * *; until 2017-01-01T00:00:00Z")
        );
    }

    #[test]
    fn random_periods_stay_within_their_bounds() {
        let [leap, next] =
            [LEAP, NEXT].map(|start| trigger(every(60).to(120).minutes().starting_at(t(start))));
        assert_eq!(leap, next);
        let mut at = t("2026-11-30T12:59:59Z");
        for _ in 0..100 {
            let fire = leap.next_after(at).unwrap().unwrap();
            assert!(fire > at && fire - at <= hours(2), "{at} {fire}");
            assert_eq!(leap.last_at_or_before(fire).unwrap(), Some(fire));
            at = fire;
        }
    }

    #[test]
    fn a_question_about_one_is_about_the_next_second() {
        for trigger in [
            trigger("every 1s; starting 2016-12-31T00:00:00Z"),
            trigger("* * * * * *"),
            trigger("or[* * * * * * | at 2017-01-01T00:00:01Z]"),
            trigger(cron("* * * * * *").only(NaiveDate::from_ymd_opt(2017, 1, 1).unwrap())),
        ] {
            for leap in [LEAP, "2016-12-31T23:59:60.999999Z"] {
                let next = trigger.next_after(t(leap)).unwrap();
                assert_eq!(next, Some(t("2017-01-01T00:00:01Z")), "{trigger}");
                let last = trigger.last_at_or_before(t(leap)).unwrap();
                assert_eq!(last, Some(t(NEXT)), "{trigger}");
            }
        }
        // What counts from when it is added.
        for (text, fire) in [
            ("every 1h", "2017-01-01T01:00:00Z"),
            ("after 1h", "2017-01-01T01:00:00Z"),
            ("now", NEXT),
            ("calendar[1 day at 0:00]", NEXT),
        ] {
            let anchored = trigger(text).anchored(t(LEAP), Tz::UTC).unwrap();
            assert_eq!(anchored.first(t(LEAP)).unwrap(), Some(t(fire)), "{text}");
        }
    }

    #[test]
    fn a_custom_trigger_may_answer_with_one() {
        #[derive(Debug)]
        struct Leap;
        impl CustomTrigger for Leap {
            fn next_after(&self, asked: DateTime<Utc>) -> Option<DateTime<Utc>> {
                Some(t(LEAP)).filter(|&leap| leap > asked)
            }
        }
        let leap = trigger(custom(Leap));
        assert_eq!(leap.next_after(t("2016-12-31T12:00:00Z")).unwrap(), Some(t(NEXT)));
        assert_eq!(leap.last_at_or_before(t("2018-01-01T00:00:00Z")).unwrap(), Some(t(NEXT)));
        assert_eq!(leap.next_after(t(NEXT)).unwrap(), None);
    }

    #[test]
    fn the_calendar_ends_with_one() {
        let end = DateTime::<Utc>::MAX_UTC.timestamp();
        let leap = DateTime::from_timestamp(end, 1_500_000_000).unwrap();
        assert!(at(leap).into_trigger().is_err());
        assert_eq!(trigger("* * * * *").next_after(leap).unwrap(), None);
    }
}

mod answers {
    use super::*;

    /// Fires every hour, and from some time on answers with what is so much later than it is asked.
    #[derive(Debug)]
    struct Broken(DateTime<Utc>, TimeDelta);

    impl CustomTrigger for Broken {
        fn next_after(&self, asked: DateTime<Utc>) -> Option<DateTime<Utc>> {
            match asked < self.0 {
                true => Some(asked + hours(1)),
                false => Some(asked + self.1),
            }
        }
    }

    #[test]
    fn one_that_is_no_later_than_asked_is_an_error() {
        let noon = t("2026-11-30T12:00:00Z");
        for off in [TimeDelta::zero(), TimeDelta::milliseconds(-1), TimeDelta::days(-1)] {
            let broken = || custom(Broken(noon, off));
            for trigger in [
                trigger(broken()),
                trigger(or((broken(), at(noon + hours(48))))),
                trigger(and((broken(), every(Duration::from_secs(60)).starting_at(noon)))),
                trigger(broken().only([chrono::Weekday::Mon, chrono::Weekday::Tue])),
            ] {
                let error = trigger.next_after(noon).unwrap_err();
                assert!(error.is_invalid_trigger(), "{trigger}");
                assert!(error.to_string().contains("answer with a later instant"), "{error}");
                assert!(trigger.last_at_or_before(noon + hours(24)).is_err(), "{trigger}");
            }
        }
    }

    /// The check is of every kind, whatever went wrong in it.
    #[test]
    fn the_check_is_not_left_to_the_kinds() {
        let noon = t("2026-11-30T12:00:00Z");
        let trigger = trigger("every 1h");
        for wrong in [noon, noon - hours(1)] {
            assert!(trigger.later(noon, Some(wrong)).is_err());
        }
        let right = Some(noon + TimeDelta::milliseconds(1));
        assert_eq!(trigger.later(noon, right).unwrap(), right);
    }
}

mod moments {
    use chrono::{NaiveDateTime, NaiveTime};

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
        for text in ["tomorrow", "", "1.12.2026", "18:00 tomorrow", "every 10 minutes", "+", "day"]
        {
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
    fn an_end_may_be_a_time_of_day_or_a_duration() {
        let now = t("2026-11-30T12:00:00Z");
        let berlin = Tz::Europe__Berlin;
        let minutely = || every(Duration::from_secs(60));
        for (build, end) in [
            (minutely().until("18:00"), "2026-11-30T17:00:00Z"),
            (minutely().until("13:00"), "2026-12-01T12:00:00Z"),
            (minutely().until(NaiveTime::from_hms_opt(12, 0, 0).unwrap()), "2026-12-01T11:00:00Z"),
            (minutely().until(Duration::from_secs(600)), "2026-11-30T12:10:00Z"),
            (minutely().until(hours(1)).starting_at("2026-12-24 18:00"), "2026-12-24T18:00:00Z"),
            (minutely().until("18:00").starting_at("2026-12-24 18:00"), "2026-12-25T17:00:00Z"),
            (minutely().until(hours(1)).first_at("18:00"), "2026-11-30T18:00:00Z"),
            (minutely().until("2026-12-24"), "2026-12-23T23:00:00Z"),
        ] {
            let trigger = trigger(build);
            let anchored = trigger.anchored(now, berlin).unwrap();
            assert_eq!(anchored.end(), Some(t(end)), "{trigger}");
            assert_eq!(anchored.anchored(now + hours(1), Tz::UTC).unwrap(), anchored);
        }
        let ten = trigger(minutely().until("10 minutes")).anchored(now, berlin).unwrap();
        assert_eq!(ten.upcoming_after(now).count(), 10);
        let three = trigger(minutely().until("10 minutes").times(3)).anchored(now, berlin).unwrap();
        assert_eq!(three.upcoming_after(now).count(), 3);
        let twenty = trigger(minutely().until("10 minutes").times(20));
        assert_eq!(twenty.anchored(now, berlin).unwrap().upcoming_after(now).count(), 10);
    }

    #[test]
    fn an_end_that_counts_from_the_adding_moves_with_the_clock() {
        let now = t("2026-11-30T12:00:00Z");
        let grid = || every(Duration::from_secs(60)).until("10 minutes");
        let random = || every(1).to(2).minutes().until("10 minutes");
        for build in [
            trigger(grid()),
            trigger(grid().immediately()),
            trigger(grid().starting_at(hours(1))),
            trigger(grid().immediately().only(chrono::Weekday::Mon)),
            trigger(random()),
            trigger(random().immediately()),
            trigger(or((grid().immediately(), random())).until("10 minutes")),
        ] {
            let anchored = build.anchored(now, TimeZone::UTC).unwrap();
            assert!(build.is_elapsed_time(), "{build}");
            let json = serde_json::to_string(&anchored).unwrap();
            assert!(json.contains(r#""elapsed_end":"2026-11-30T1"#), "{json}");
            let read: Trigger = serde_json::from_str(&json).unwrap();
            assert_eq!(read, anchored, "{json}");
            assert_eq!(trigger(anchored.to_string()), anchored);
            let fires = |trigger: &Trigger| trigger.upcoming_after(now - hours(5)).count();
            for by in [hours(1), hours(-1)] {
                let mut moved = anchored.clone();
                moved.shift(by);
                assert_eq!(moved.end(), anchored.end().map(|end| end + by), "{build}");
                if anchored.days().is_none() {
                    assert_eq!(fires(&moved), fires(&anchored), "{build}");
                }
            }
        }
        // One that was given is an instant.
        let given = trigger(grid_until("2026-11-30T12:10:00Z")).anchored(now, TimeZone::UTC);
        let mut given = given.unwrap();
        given.shift(hours(1));
        assert_eq!(given.end(), Some(t("2026-11-30T12:10:00Z")));
    }

    fn grid_until(end: &str) -> Build<Interval> {
        every(Duration::from_secs(60)).until(end)
    }

    /// Stores have such triggers.
    #[test]
    fn an_end_that_is_kept_as_the_last_fire_time_is_read() {
        let json = concat!(
            r#"{"type":"interval","period_ms":60000,"start":"2026-11-30T12:01:00Z","#,
            r#""last":"2026-11-30T12:10:00Z"}"#,
        );
        let read: Trigger = serde_json::from_str(json).unwrap();
        assert_eq!(read.end(), Some(t("2026-11-30T12:10:00Z")));
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
    }

    #[test]
    fn only_what_counts_from_the_adding_is_elapsed_time() {
        let hourly = || every(Duration::from_secs(3600));
        for (build, elapsed) in [
            (hourly(), true),
            (hourly().immediately(), true),
            (hourly().starting_at(hours(1)), true),
            (hourly().starting_at("2026-12-01"), false),
            (hourly().starting_at("18:00"), false),
            (hourly().first_at("18:00"), false),
            (hourly().first_at("2026-12-01T00:00:00Z"), false),
        ] {
            let trigger = trigger(build);
            assert_eq!(trigger.is_elapsed_time(), elapsed, "{trigger}");
        }
    }

    #[test]
    fn what_ends_before_it_starts_is_refused() {
        let refused = |build: Result<Trigger, Error>| build.unwrap_err().to_string();
        let error = refused(
            cron("@daily").starting_at("2026-12-02 10:00").until("2026-12-01").into_trigger(),
        );
        assert_eq!(
            error,
            "the trigger ends at 2026-12-01T00:00:00, before it starts at 2026-12-02T10:00:00: swap them"
        );
        let mixed = trigger(cron("@daily").starting_at("2026-12-02").until("2026-12-01T00:00:00Z"));
        let error = refused(mixed.anchored(t("2026-01-01T00:00:00Z"), Tz::UTC));
        assert!(error.contains("2026-12-01T00:00:00Z, before it starts at 2026-12-02T00:00:00Z"));
        let error =
            refused(cron("@daily").first_at("2026-12-01").starting_at("2026-12-02").into_trigger());
        assert!(error.contains("fires first at 2026-12-01T00:00:00, before it starts"), "{error}");
        let error =
            refused(cron("@daily").first_at("2026-12-03").until("2026-12-02").into_trigger());
        assert!(error.contains("before it fires first at"), "{error}");
    }

    #[test]
    fn what_is_said_twice_is_refused_unless_it_is_the_same() {
        let day = || cron("@daily");
        for (build, both) in [
            (
                day().starting_at("2026-12-01").starting_at("18:00"),
                "the start is 2026-12-01T00:00:00 and again 18:00:00",
            ),
            (day().until("18:00").until("10s"), "the end is 18:00:00 and again +10s"),
            (day().immediately().first_at("18:00"), "the first fire is at now and again 18:00:00"),
            (day().times(3).times(4), "`times` is 3 and again 4"),
        ] {
            let error = build.into_trigger().unwrap_err().to_string();
            assert_eq!(error, format!("{both}: leave one of them out"));
        }
        let twice = day().times(3).times(3).until("18:00").until("18:00:00");
        assert!(twice.immediately().immediately().into_trigger().is_ok());
        let error = "@daily; first 18:00; immediately".parse::<Trigger>().unwrap_err();
        assert!(error.to_string().contains("leave one of them out"), "{error}");
    }
}

mod first_fires {
    use chrono::Weekday::{Mon, Tue};

    use super::*;

    fn upcoming(build: impl IntoTrigger, n: usize) -> Vec<String> {
        // A Monday.
        let now = t("2026-11-30T12:00:00Z");
        let trigger = trigger(build);
        let json = serde_json::to_string(&trigger).ok();
        if let Some(json) = json {
            assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger, "{json}");
            assert_eq!(super::trigger(trigger.to_string()), trigger);
        }
        let anchored = trigger.anchored(now, Tz::UTC).unwrap();
        if let Ok(json) = serde_json::to_string(&anchored) {
            assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), anchored, "{json}");
            assert_eq!(super::trigger(anchored.to_string()), anchored);
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
        assert_eq!(
            upcoming(CronFields::builder().hour(9).immediately(), 2),
            ["30 12:00", "01 09:00"]
        );
        assert_eq!(upcoming(every("day at 9:00").immediately(), 2), ["30 12:00", "01 09:00"]);
        assert_eq!(
            upcoming(every("2 weeks on monday at 9:00").immediately(), 3),
            ["30 12:00", "07 09:00", "21 09:00"]
        );
        let days = calendar_interval().days(2).at("09:00");
        assert_eq!(upcoming(days.immediately(), 2), ["30 12:00", "02 09:00"]);
        assert_eq!(upcoming(at("2026-12-01").immediately(), 3), ["30 12:00", "01 00:00"]);
        assert_eq!(upcoming(now().immediately(), 3), ["30 12:00"]);
        assert_eq!(
            upcoming(or(["@daily", "0 9 * * *"]).immediately(), 2),
            ["30 12:00", "01 00:00"]
        );
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
        assert_eq!(
            upcoming(cron("0 * * * *").first_at("15:30").times(2), 9),
            ["30 15:30", "30 16:00"]
        );
        assert_eq!(upcoming(hourly().first_at("12:30").times(2), 9), ["30 12:30", "30 13:30"]);
        // What has passed is left out.
        let passed = trigger(cron("0 * * * *").first_at("2026-11-30T11:30:00Z"));
        let now = t("2026-11-30T12:00:00Z");
        assert_eq!(passed.first_when_added(now).unwrap(), Some(now));
    }

    #[test]
    fn days_do_not_keep_the_first_fire_away() {
        assert_eq!(
            upcoming(cron("0 9 * * *").immediately().only(Tue), 2),
            ["30 12:00", "01 09:00"]
        );
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
}

mod windows {
    use super::*;

    /// All minutes of three days whose reading is in the window, by looking at each.
    fn looked_up(zone: TimeZone, from: DateTime<Utc>, window: [&str; 2]) -> Vec<DateTime<Utc>> {
        let [first, last] = window.map(|time| time.parse::<chrono::NaiveTime>().unwrap());
        (0..3 * 24 * 60)
            .map(|minute| from + TimeDelta::minutes(minute))
            .filter(|t| {
                let time = t.with_timezone(&zone).time();
                match first <= last {
                    true => (first..=last).contains(&time),
                    false => time >= first || time <= last,
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
                assert_eq!(super::trigger(anchored.to_string()), anchored);
            }
        }
    }

    #[test]
    fn their_ends_are_exact() {
        let from = t("2026-12-01T09:59:59.700Z");
        let trigger = trigger(
            every(Duration::from_millis(300)).starting_at(from).between("10:00", "10:00:01"),
        );
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
            (
                "every 1h; starting 2026-11-30; only Tue; between 10:00 and 11:00",
                [1, 10, 1, 11, 8, 10],
            ),
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
        assert!(
            error.is_search_exhausted() && error.to_string().contains("between 09:00 and 11:00")
        );
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
}

#[test]
fn a_short_text_says_all_but_where_a_grid_starts() {
    let now = t("2026-11-30T12:00:00Z");
    let shortened = |text: &str| {
        let anchored = trigger(text).anchored(now, TimeZone::UTC).unwrap();
        Short(&anchored).to_string()
    };
    assert_eq!(shortened("every 1h"), "every 1h");
    assert_eq!(shortened("every 1h; only Sat, Sun"), "every 1h; only Sat, Sun; days in UTC");
    assert_eq!(
        shortened("0 9 * * *; starting 2026-12-01; until 18:00; except 2026-12-25"),
        "0 9 * * * (UTC); starting 2026-12-01T00:00:00Z; until 2026-12-01T18:00:00Z; except 2026-12-25"
    );
    assert_eq!(shortened("@daily; 3 times"), "@daily (UTC); the last at 2026-12-03T00:00:00Z");
    let holidays = "@daily; except 2026-12-24, 2026-12-25, 2026-12-26, 2026-12-31, 2027-01-01";
    assert_eq!(
        shortened(holidays),
        "@daily (UTC); except 2026-12-24, 2026-12-25, 2026-12-26, 2 more dates"
    );
    // What is short is read back.
    for text in ["0 9 * * *; only Mon; until 18:00", "every 1h; only Sat; first 2027-01-01"] {
        let anchored = trigger(text).anchored(now, TimeZone::UTC).unwrap();
        let read = trigger(Short(&anchored).to_string());
        assert_eq!(Short(&read).to_string(), Short(&anchored).to_string());
    }
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

#[test]
fn an_exhausted_search_asks_for_more_days_or_hours() {
    let noon = t("2026-11-30T12:00:00Z");
    let hours = trigger(cron("0 12 * * *").between("9:00", "11:00"));
    let error = hours.next_after(noon).unwrap_err();
    assert!(error.is_search_exhausted());
    assert!(error.to_string().ends_with("allow more days or hours, or fire more often"), "{error}");
}

#[test]
fn the_ends_of_the_calendar_are_instants_like_others() {
    let (first, last) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
    for zone in ["America/New_York", "Europe/Berlin", "Asia/Tokyo", "UTC"] {
        let daily = || calendar_interval().days(1).in_tz(zone);
        for at in [first, last] {
            // Years that no calendar interval has.
            assert!(trigger(daily()).next_after(at).is_err(), "{zone} {at}");
            let window = trigger(every(Duration::from_secs(60)).between("9:00", "10:00"));
            let _ = window.next_after(at);
            let _ = window.last_at_or_before(at);
            let hourly = trigger(cron("0 * * * *").in_tz(zone).between("9:00", "10:00"));
            let _ = hourly.next_after(at);
            let _ = hourly.last_at_or_before(at);
        }
        let start = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
        assert!(daily().starting_on(start).until(last).into_trigger().is_ok(), "{zone}");
        assert!(daily().starting_on(start).until(first).into_trigger().is_err(), "{zone}");
    }
}

#[test]
fn an_end_that_waits_for_its_zone_counts_for_what_was_last() {
    let until = trigger(cron("0 9 * * *").until("2026-12-01"));
    let (eve, later) = (t("2026-11-30T09:00:00Z"), t("2026-12-05T12:00:00Z"));
    assert_eq!(until.last_at_or_before(later).unwrap(), Some(eve));
    assert_eq!(until.next_after(later).unwrap(), None);
    let starting = trigger(cron("0 9 * * *").starting_at("2026-12-01"));
    assert_eq!(starting.last_at_or_before(eve).unwrap(), None);
}

#[test]
fn a_list_of_jobs_is_not_quoted_whole() {
    let text = format!("after all of [{}", "x".repeat(1_000_000));
    let error = text.parse::<Trigger>().unwrap_err().to_string();
    assert!(error.contains("is no list of jobs") && error.len() < 1_000, "{}", error.len());
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

#[test]
fn an_end_that_has_passed_when_a_job_is_added_leaves_no_fire_time() {
    let now = t("2026-11-30T12:00:00Z");
    let hourly = || every(Duration::from_secs(3600));
    let passed = "2026-11-01T00:00:00Z";
    for build in [
        trigger(hourly().immediately().until(passed)),
        trigger(hourly().starting_at("09:00").until(passed)),
        trigger(hourly().starting_at(Duration::from_secs(600)).until(passed)),
        trigger(hourly().until(passed)),
        trigger(every(60).to(120).minutes().immediately().until(passed)),
        trigger(cron("0 9 * * *").immediately().until(passed)),
        trigger(cron("0 9 * * *").starting_at("09:00").until(passed)),
    ] {
        let anchored = build.anchored(now, TimeZone::UTC).unwrap();
        assert_eq!(anchored.first_when_added(now).unwrap(), None, "{build}");
        // A store reads what it keeps.
        let json = serde_json::to_string(&anchored).unwrap();
        assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), anchored, "{json}");
        assert_eq!(trigger(anchored.to_string()), anchored);
    }
}
