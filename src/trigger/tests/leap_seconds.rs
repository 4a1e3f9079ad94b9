//! A leap second counts as the second after it.

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
