//! Properties of cron text: the last and the next fire time agree, and croner finds the same.

use super::*;

/// A field that is a value, a range, a list, or a step of all, but never a list of all values.
fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    let value = min..=max;
    prop_oneof![
        3 => Just("*".to_owned()),
        3 => value.clone().prop_map(|value| value.to_string()),
        1 => (min..max, 1..4_u32).prop_map(move |(a, n)| format!("{a}-{}", (a + n).min(max))),
        1 => (2..=(max - min) / 2).prop_map(|step| format!("*/{step}")),
        1 => (value.clone(), value.clone(), value).prop_map(|(a, b, c)| format!("{a},{b},{c}")),
    ]
}

fn day_of_month() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => field(1, 31),
        1 => Just("?".to_owned()),
        1 => Just("L".to_owned()),
        1 => Just("LW".to_owned()),
        1 => (1..=31).prop_map(|day| format!("{day}W")),
        1 => (1..=31).prop_map(|day| format!("{day},L")),
    ]
}

fn day_of_week() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => field(0, 6),
        1 => Just("?".to_owned()),
        1 => Just("MON-FRI".to_owned()),
        1 => Just("7".to_owned()),
        1 => (0..=6, 1..=5).prop_map(|(day, nth)| format!("{day}#{nth}")),
        1 => (0..=6).prop_map(|day| format!("{day}L")),
        1 => (0..=6, 0..=6).prop_map(|(a, b)| format!("{a}L,{b}")),
    ]
}

fn text() -> impl Strategy<Value = String> {
    let seconds = prop_oneof![2 => Just("0".to_owned()), 1 => field(0, 59)];
    let years = prop_oneof![4 => Just("*".to_owned()), 1 => Just("2000-2060/3".to_owned())];
    (seconds, field(0, 59), field(0, 23), day_of_month(), field(1, 12), day_of_week(), years)
        .prop_map(|(s, min, h, dom, mon, dow, y)| {
            // Beside `?`, numbers could be those of Quartz.
            let is_numbered = dow.contains(|c: char| c.is_ascii_digit());
            let dom = if dom == "?" && is_numbered { "*".to_owned() } else { dom };
            format!("{s} {min} {h} {dom} {mon} {dow} {y}")
        })
}

proptest! {
    #[test]
    fn next_and_last_are_inverse(
        text in text(),
        zone in prop::sample::select(&TZ_VARIANTS[..]),
        both in any::<bool>(),
        gap in prop::sample::select(&[Gap::Next, Gap::Skip][..]),
        fold in prop::sample::select(&[Fold::First, Fold::Last, Fold::Both][..]),
        // From 1890 to 2210.
        millis in -2_524_000_000_000..7_573_000_000_000_i64,
    ) {
        let mut build = cron(text).in_tz(zone).gap(gap).fold(fold);
        if both {
            build = build.dom_and_dow();
        }
        let trigger = trigger(build);
        let at = DateTime::from_timestamp_millis(millis).unwrap();
        let tick = TimeDelta::nanoseconds(1);
        let last = trigger.last_at_or_before(at).unwrap();
        if let Some(last) = last {
            prop_assert!(last <= at);
            prop_assert_eq!(trigger.next_after(last - tick).unwrap(), Some(last));
        }
        let next = trigger.next_after(at).unwrap();
        if let Some(next) = next {
            prop_assert!(next > at);
            prop_assert_eq!(next.timestamp_subsec_nanos(), 0);
            prop_assert_eq!(trigger.last_at_or_before(next).unwrap(), Some(next));
            prop_assert_eq!(trigger.last_at_or_before(next - tick).unwrap(), last);
        }
        if let Some(last) = last {
            prop_assert_eq!(trigger.next_after(last).unwrap(), next);
        }
    }

    #[test]
    fn whatever_is_accepted_has_words_and_a_serialized_form(text in text(), both in any::<bool>()) {
        let build = cron(&text).in_tz(Tz::UTC);
        let trigger = trigger(if both { build.dom_and_dow() } else { build });
        let Kind::Cron(cron) = trigger.kind() else { panic!() };
        // Without words there is but the text.
        prop_assert!(!cron.describe().starts_with(&text));
        let json = serde_json::to_string(&trigger).unwrap();
        prop_assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger);
    }

    #[test]
    fn no_text_panics(text in "([0-9*?LW#,/A-Za-z@=-]{0,4}[ \t]){0,8}.{0,3}|(0|9|1,|15|L-3|0/5|[*]/60|[?]|MON|2#|# a|-|/bin/x|\u{a0}| ){0,12}", seconds in any::<i32>()) {
        if let Ok(trigger) = cron(text).into_trigger() {
            let at = DateTime::from_timestamp(i64::from(seconds), 0).unwrap();
            let _ = (trigger.next_after(at), trigger.last_at_or_before(at));
        }
    }
}

proptest! {
    // croner takes its time over what never fires.
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// croner's search in civil time is sound; ours must agree wherever both look.
    #[test]
    fn agrees_with_croner_in_civil_time(
        text in text(),
        both in any::<bool>(),
        // From 1970 to 2100.
        seconds in 0..4_102_000_000_i64,
    ) {
        let theirs = croner::parser::CronParser::builder().dom_and_dow(both).build();
        let theirs = theirs.parse(&text).unwrap();
        let build = cron(&text);
        let ours = trigger(if both { build.dom_and_dow() } else { build });

        let at = DateTime::from_timestamp(seconds, 0).unwrap();
        let known = |found: Result<NaiveDateTime, _>| {
            found.ok().map(|t| t.and_utc()).filter(|t| t.year() >= 1900 && t.year() < 2200)
        };
        prop_assert_eq!(
            ours.next_after(at).unwrap(),
            known(theirs.find_next_occurrence(&at.naive_utc(), false))
        );
        prop_assert_eq!(
            ours.last_at_or_before(at - TimeDelta::nanoseconds(1)).unwrap(),
            known(theirs.find_previous_occurrence(&at.naive_utc(), false))
        );
    }
}
