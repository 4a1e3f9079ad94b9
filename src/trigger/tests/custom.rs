//! Triggers of the user's own, and answers that break the rules.

use super::*;

/// Fires at the squares of milliseconds since 1970, up to a limit.
#[derive(Debug)]
struct Squares(i64);

impl CustomTrigger for Squares {
    fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let root = match t.timestamp_millis() {
            negative if negative < 0 => 0,
            millis => millis.isqrt() + 1,
        };
        (root <= self.0).then(|| DateTime::from_timestamp_millis(root * root))?
    }
}

#[test]
fn a_custom_trigger_that_breaks_its_rules_is_an_error() {
    #[derive(Debug)]
    struct Stuck;
    impl CustomTrigger for Stuck {
        fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
            Some(t)
        }
    }
    let error = trigger(custom(Stuck)).next_after(Utc::now()).unwrap_err();
    assert!(error.is_invalid_trigger());
}

/// Fires every hour, and from some time on answers with what is so much later than it is asked.
#[derive(Debug)]
struct Broken(DateTime<Utc>, TimeDelta);

impl CustomTrigger for Broken {
    fn next_after(&self, asked: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if asked < self.0 { Some(asked + hours(1)) } else { Some(asked + self.1) }
    }
}

#[test]
fn an_answer_that_is_no_later_than_asked_is_an_error() {
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
fn answers_of_every_kind_are_checked() {
    let noon = t("2026-11-30T12:00:00Z");
    let trigger = trigger("every 1h");
    for wrong in [noon, noon - hours(1)] {
        assert!(trigger.later(noon, Some(wrong)).is_err());
    }
    let right = Some(noon + TimeDelta::milliseconds(1));
    assert_eq!(trigger.later(noon, right).unwrap(), right);
}

proptest! {
    #[test]
    fn the_last_of_a_custom_trigger_is_found(limit in 0..2_000_i64, millis in -10..5_000_000_i64) {
        let squares = trigger(custom(Squares(limit)));
        let walked = (0..=limit).map(|n| n * n).take_while(|&square| square <= millis).last();
        let at = DateTime::from_timestamp_millis(millis).unwrap();
        let last = squares.last_at_or_before(at).unwrap();
        prop_assert_eq!(last.map(|t| t.timestamp_millis()), walked);
    }
}
