//! The serialized form of every kind, and what is refused in it.

use super::*;

fn round_trip(trigger: Trigger, json: &str) {
    assert_eq!(serde_json::to_string(&trigger).unwrap(), json);
    assert_eq!(serde_json::from_str::<Trigger>(json).unwrap(), trigger);
}

#[test]
fn every_kind_keeps_its_form() {
    let start = t("2026-01-01T00:00:00Z");
    round_trip(
        trigger(
            cron("0 2 13 * FRI")
                .in_tz(NEW_YORK)
                .gap(Gap::Skip)
                .fold(Fold::Both)
                .dom_and_dow()
                .starting_at(start)
                .times(3),
        ),
        concat!(
            r#"{"type":"cron","expression":"0 2 13 * FRI","zone":"America/New_York","gap":"skip","#,
            r#""fold":"both","dom_and_dow":true,"start":"2026-01-01T00:00:00Z","times":3}"#
        ),
    );
    round_trip(trigger("@daily"), r#"{"type":"cron","expression":"@daily"}"#);
    round_trip(
        trigger(every(Duration::from_secs(90)).until(start)),
        r#"{"type":"interval","period_ms":90000,"end":"2026-01-01T00:00:00Z"}"#,
    );
}

const NEW_YORK: Tz = Tz::America__New_York;

#[test]
fn dates_come_back() {
    for trigger in
        [trigger(at(t("2026-01-01T00:00:00.001Z"))), trigger(after(Duration::from_secs(5)))]
    {
        let json = serde_json::to_string(&trigger).unwrap();
        assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger, "{json}");
    }
}

#[test]
fn the_both_days_rule_comes_back() {
    let json = r#"{"type":"cron","expression":"0 0 13 * 5","dom_and_dow":true}"#;
    let trigger: Trigger = serde_json::from_str(json).unwrap();
    assert_eq!(
        trigger.next_after(t("2026-02-14T00:00:00Z")).unwrap(),
        Some(t("2026-03-13T00:00:00Z"))
    );
}

#[test]
fn nonsense_is_refused_with_its_reason() {
    for (json, reason) in [
        (r#"{"type":"cron","expression":"61 * * * *"}"#, "minute 61 is not in 0..=59"),
        (
            r#"{"type":"cron","expression":"@daily","zone":"Nowhere"}"#,
            "unknown time zone `Nowhere`",
        ),
        (r#"{"type":"cron"}"#, "expression"),
        (r#"{"type":"interval","period_ms":0}"#, "0 ms"),
    ] {
        let error = serde_json::from_str::<Trigger>(json).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_custom_trigger_has_no_form() {
    #[derive(Debug)]
    struct Never;
    impl CustomTrigger for Never {
        fn next_after(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> {
            None
        }
    }
    assert!(serde_json::to_string(&trigger(custom(Never))).is_err());
}

#[test]
fn the_kinds_of_the_calendar_and_combinations_keep_their_form() {
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
fn nonsense_of_the_calendar_and_combinations_is_refused() {
    for (json, reason) in [
        (r#"{"type":"and","triggers":[]}"#, "no triggers"),
        (r#"{"type":"or","triggers":[{"type":"cron","expression":"61 * * * *"}]}"#, "minute 61"),
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
    fn what_is_written_is_read((_, zone, members) in zone_and_members(), both in any::<bool>()) {
        let build = if both { trigger(and(members)) } else { trigger(or(members)) };
        let anchored = build.anchored(t("2026-01-01T00:00:00Z"), zone).unwrap();
        for trigger in [build, anchored] {
            let json = serde_json::to_string(&trigger).unwrap();
            prop_assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger);
        }
    }
}
