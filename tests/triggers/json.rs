//! The serialized form of every trigger, which stores keep: a change here breaks stored triggers.

use std::time::Duration;

use chrono::{DateTime, Utc, Weekday::Mon};
use punctual::trigger::{
    CronFields, Fold, Gap, IntoTrigger, Trigger, after, at, cron, custom, every, now,
};

fn t(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn trigger(trigger: impl IntoTrigger) -> Trigger {
    trigger.into_trigger().unwrap()
}

#[test]
fn every_kind_has_its_form() {
    let noon = t("2026-11-20T12:00:00Z");
    let anchored = |trigger: Trigger| trigger.anchored(noon, punctual::chrono_tz::Tz::UTC).unwrap();
    for (trigger, json) in [
        (trigger(at(noon)), r#"{"type":"date","at":"2026-11-20T12:00:00Z"}"#),
        (trigger(after(Duration::from_secs(10))), r#"{"type":"date","after_ms":10000}"#),
        (trigger(now()), r#"{"type":"date","after_ms":0}"#),
        (trigger(every(Duration::from_secs(90))), r#"{"type":"interval","period_ms":90000}"#),
        (
            trigger(every(90).seconds().immediately().times(3)),
            r#"{"type":"interval","period_ms":90000,"immediate":true,"times":3}"#,
        ),
        (
            anchored(trigger(every(90).seconds().times(2))),
            r#"{"type":"interval","period_ms":90000,"start":"2026-11-20T12:01:30Z","times":2,"times_since":"2026-11-20T12:01:30Z","last":"2026-11-20T12:03:00Z"}"#,
        ),
        (
            anchored(trigger(every(90).seconds().until(Duration::from_secs(600)))),
            r#"{"type":"interval","period_ms":90000,"start":"2026-11-20T12:01:30Z","elapsed_end":"2026-11-20T12:10:00Z"}"#,
        ),
        (
            trigger(every(5).to(10).minutes()),
            r#"{"type":"random","min_ms":300000,"max_ms":600000}"#,
        ),
        (
            trigger("every 5 to 10min; seed -7; immediately"),
            r#"{"type":"random","min_ms":300000,"max_ms":600000,"immediate":true,"seed":-7}"#,
        ),
        (
            trigger(every("weekday at 9:00, 17:30 Europe/Berlin").gap(Gap::Skip).fold(Fold::Both)),
            r#"{"type":"timetable","words":"every weekday at 9:00, 17:30","zone":"Europe/Berlin","gap":"skip","fold":"both"}"#,
        ),
        (
            anchored(trigger(every(2).weeks().on(Mon).at("10:30"))),
            r#"{"type":"timetable","words":"every 2 weeks on monday at 10:30","from":"2026-11-23","zone":"UTC"}"#,
        ),
        (
            trigger(every(1).month().on("the 1st, last day and last friday").until(noon)),
            r#"{"type":"timetable","words":"every month on the 1st, last day, last friday at 0:00","end":"2026-11-20T12:00:00Z"}"#,
        ),
        (trigger(cron("30 8 * * MON-FRI")), r#"{"type":"cron","expression":"30 8 * * MON-FRI"}"#),
        (
            trigger(
                cron("0 0 13 * FRI")
                    .in_tz("Europe/Berlin")
                    .gap(Gap::Next)
                    .fold(Fold::Last)
                    .dom_and_dow()
                    .starting_at(noon),
            ),
            r#"{"type":"cron","expression":"0 0 13 * FRI","zone":"Europe/Berlin","gap":"next","fold":"last","dom_and_dow":true,"start":"2026-11-20T12:00:00Z"}"#,
        ),
        (
            trigger(CronFields::builder().day("3rd fri").hour(3).fold(Fold::First)),
            r#"{"type":"cron_fields","day":"3rd fri","hour":"3","fold":"first"}"#,
        ),
    ] {
        assert_eq!(serde_json::to_string(&trigger).unwrap(), json);
        assert_eq!(serde_json::from_str::<Trigger>(json).unwrap(), trigger, "{json}");
    }
}

#[test]
fn what_makes_no_sense_is_an_error_that_says_why() {
    for (json, reason) in [
        (r#"{"type":"interval","period_ms":90000,"jitter":5}"#, "unknown field `jitter`"),
        (r#"{"type":"random","min_ms":1,"max_ms":2,"zone":"UTC"}"#, "unknown field `zone`"),
        (r#"{"type":"cron","expression":"* * * * *","tz":"UTC"}"#, "unknown field `tz`"),
        (r#"{"type":"timetable","words":"every day at 9:00","at":"9:00"}"#, "unknown field `at`"),
        (r#"{"type":"cron_fields","hour":3,"hours":4}"#, "unknown field `hours`"),
        (r#"{"type":"intervall","period_ms":1}"#, "unknown variant `intervall`"),
        (r#"{"type":"interval","period_ms":0}"#, "too short"),
        (r#"{"type":"random","min_ms":2,"max_ms":1}"#, "swap them"),
        (r#"{"type":"cron","expression":"61 * * * *"}"#, "minute 61 is not in 0..=59"),
        (r#"{"type":"cron","expression":"* * * * *","zone":"Europe/Berln"}"#, "Europe/Berlin"),
        (r#"{"type":"cron","expression":"* * * * *","gap":"jump"}"#, "unknown variant `jump`"),
        (r#"{"type":"timetable","words":"every 10 minutes"}"#, "is no timetable"),
        (r#"{"type":"timetable","words":"every day at 25:00"}"#, "is not a time of day"),
        (r#"{"type":"timetable","words":"every monday","from":"2026-11-20"}"#, "counts nothing"),
        (r#"{"type":"interval","period_ms":1,"times":0}"#, "nonzero"),
        (
            r#"{"type":"interval","period_ms":1,"start":"2026-11-20T12:00:00Z","end":"2026-11-19T12:00:00Z"}"#,
            "swap them",
        ),
    ] {
        let error = serde_json::from_str::<Trigger>(json).unwrap_err().to_string();
        assert!(error.contains(reason), "{json}: {error}");
    }
}

#[test]
fn a_custom_trigger_has_none() {
    #[derive(Debug)]
    struct Never;
    impl punctual::trigger::CustomTrigger for Never {
        fn next_after(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> {
            None
        }
    }
    let error = serde_json::to_string(&trigger(custom(Never))).unwrap_err().to_string();
    assert!(error.contains("lives in memory only"), "{error}");
}
