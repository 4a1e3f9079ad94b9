//! Strategies and walks that several files share.

use super::*;

pub(super) fn t(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(super) fn trigger(trigger: impl IntoTrigger) -> Trigger {
    trigger.into_trigger().unwrap()
}

/// At most `n` fire times after `from`, each of which must be the last at its own time.
pub(super) fn fires_after(trigger: &Trigger, from: DateTime<Utc>, n: usize) -> Vec<DateTime<Utc>> {
    let mut fires = Vec::new();
    let mut at = from;
    while fires.len() < n {
        let Some(next) = trigger.next_after(at).unwrap() else {
            break;
        };
        assert!(next > at, "{trigger}: {next} is not later than {at}");
        assert_eq!(trigger.last_at_or_before(next).unwrap(), Some(next), "{trigger} at {next}");
        fires.push(next);
        at = next;
    }
    fires
}

/// The fire times after `from` as the zone's wall clock shows them.
pub(super) fn wall_fires(build: Build<Cron>, zone: &str, from: &str, n: usize) -> Vec<String> {
    let zone: TimeZone = zone.parse().unwrap();
    fires_after(&trigger(build.in_tz(zone)), t(from), n)
        .iter()
        .map(|fire| fire.with_timezone(&zone).format("%m-%d %H:%M%:z").to_string())
        .collect()
}

pub(super) const MS: TimeDelta = TimeDelta::milliseconds(1);

pub(super) const BERLIN: Tz = Tz::Europe__Berlin;

pub(super) fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

pub(super) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The fire times in `from..to`, found forward; those found backward must be the same.
pub(super) fn fires_between(
    trigger: &Trigger,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> BTreeSet<DateTime<Utc>> {
    let mut fires = BTreeSet::new();
    let mut at = from - MS;
    while let Some(next) = trigger.next_after(at).unwrap().filter(|&next| next < to) {
        assert!(next > at, "{trigger}: {next} is not later than {at}");
        fires.insert(next);
        at = next;
    }
    let mut back = BTreeSet::new();
    let mut at = to - MS;
    while let Some(last) = trigger.last_at_or_before(at).unwrap().filter(|&last| last >= from) {
        assert!(last <= at, "{trigger}: {last} is later than {at}");
        back.insert(last);
        at = last - MS;
    }
    assert_eq!(fires, back, "{trigger}: forward, and backward");
    if let (Some(&first), Some(&last)) = (fires.first(), fires.last()) {
        let (counted, all) = (trigger.count(first, last, 10_000), fires.len() as u64);
        // To ask a member that has ended costs a search in vain each time.
        let least = if trigger.is_searched() { all.min(500) } else { all };
        assert!((least..=all).contains(&counted), "{trigger}: {counted} of {all}");
    }
    fires
}

/// The first fire times after `from` as the zone's wall clock shows them.
pub(super) fn shown_fires<K: Into<Kind>>(
    build: Build<K>,
    zone: impl IntoTimeZone,
    from: &str,
    n: usize,
) -> Vec<String> {
    let zone = zone.into_time_zone().unwrap();
    let trigger = trigger(build);
    let fires = std::iter::successors(trigger.next_after(t(from)).unwrap(), |&fire| {
        assert_eq!(trigger.last_at_or_before(fire).unwrap(), Some(fire));
        trigger.next_after(fire).unwrap()
    });
    let shown = |fire: DateTime<Utc>| fire.with_timezone(&zone).format("%F %H:%M%:z").to_string();
    fires.take(n).map(shown).collect()
}

/// Zones, and an instant near a transition of them.
pub(super) const TRANSITIONS: [(&str, &str); 12] = [
    ("UTC", "2026-03-29T00:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("Africa/Cairo", "2026-04-23T22:00:00Z"),
    ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
    ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),
    ("America/St_Johns", "2006-10-29T02:31:00Z"), // back at 00:01: the day before is shown again
    ("America/St_Johns", "2006-04-02T03:31:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"), // loses a day
    ("Pacific/Kwajalein", "1969-09-30T13:00:00Z"), // a fold of 23 hours
];

/// Triggers of every kind that combinations are made of, with something happening in a few days.
pub(super) fn member(from: DateTime<Utc>, zone: TimeZone) -> impl Strategy<Value = Trigger> {
    let grid = (1..200_i64, -100..100_i64).prop_map(move |(period, shift)| {
        let start = from + TimeDelta::minutes(30 * shift);
        trigger(every(TimeDelta::minutes(15 * period)).starting_at(start))
    });
    let crons = prop::sample::select(
        &["*/15 * * * *", "0 */2 * * *", "30 1,2,3 * * *", "0 0 * * *", "45 23 * * MON-FRI"][..],
    );
    let crons = crons.prop_map(move |text| trigger(cron(text).in_tz(zone)));
    let days = (1..4_u32, 0..48_u32).prop_map(move |(days, half)| {
        let time = NaiveTime::from_hms_opt(half / 2, half % 2 * 30, 0).unwrap();
        let start = from.date_naive() - TimeDelta::days(3);
        trigger(calendar_interval().days(days).at(time).starting_on(start).in_tz(zone))
    });
    let once = (0..40_i64).prop_map(move |n| trigger(at(from + TimeDelta::minutes(90 * n))));
    let plain = prop_oneof![3 => grid, 3 => crons, 2 => days, 1 => once];
    // Bounds, and days.
    (plain, 0..6_u8, 0..128_u8).prop_map(move |(mut plain, what, weekdays)| {
        match what {
            0 => plain = with_end(plain, from + TimeDelta::days(5)),
            1 if plain.start.is_none() => plain.start = Some(from + TimeDelta::hours(31)),
            2 => {
                let picked = Days::weekdays(
                    WEEK.into_iter().filter(|day| weekdays >> day.num_days_from_monday() & 1 == 0),
                );
                let said = DayOptions {
                    only: Some(picked.and(from.date_naive())),
                    ..DayOptions::default()
                };
                let days = DayFilter::new(said, Some(zone)).unwrap();
                plain = plain.with_limits(Limits { days, ..Limits::default() });
            }
            _ => {}
        }
        plain
    })
}

pub(super) fn zone_and_members() -> impl Strategy<Value = (DateTime<Utc>, TimeZone, Vec<Trigger>)> {
    prop::sample::select(&TRANSITIONS[..]).prop_flat_map(|(zone, transition)| {
        let from = t(transition) - TimeDelta::days(4);
        let zone: TimeZone = zone.parse().unwrap();
        (Just(from), Just(zone), prop::collection::vec(member(from, zone), 1..5))
    })
}

pub(super) fn with_end(trigger: Trigger, end: DateTime<Utc>) -> Trigger {
    let limits = Limits { end: Some(end), ..trigger.limits().clone() };
    trigger.with_limits(limits)
}

/// As [`fires_between`], for searches that would go on in vain outside: a walk within bounds of a week.
pub(super) fn fires_in_week(trigger: &Trigger, from: DateTime<Utc>) -> BTreeSet<DateTime<Utc>> {
    let to = from + TimeDelta::days(8);
    let mut bounded = trigger.clone();
    bounded = with_end(bounded, trigger.limits().end.map_or(to, |end| end.min(to)));
    // The start of an interval is that of its grid.
    if !matches!(trigger.kind, Kind::Interval(_)) {
        bounded.start = Some(trigger.start.map_or(from, |start| start.max(from)));
    }
    fires_between(&bounded, from, to)
}

/// As if added then: `n` fire times after `from`, each of which must be the last at its own time.
pub(super) fn fires_when_added(trigger: &Trigger, from: &str, n: usize) -> Vec<String> {
    let trigger = trigger.anchored(t(from), Tz::UTC).unwrap();
    let mut at = t(from);
    let mut fires = Vec::new();
    for _ in 0..n {
        let Some(next) = trigger.next_after(at).unwrap() else { break };
        assert!(next > at, "{trigger}: {next} is not later than {at}");
        assert_eq!(trigger.last_at_or_before(next).unwrap(), Some(next), "{trigger} at {next}");
        fires.push(next.format("%m-%d %H:%M").to_string());
        at = next;
    }
    fires
}

pub(super) fn error(trigger: impl IntoTrigger) -> String {
    let error = trigger.into_trigger().unwrap_err();
    assert!(error.is_invalid_trigger());
    error.to_string()
}

pub(super) fn hours(n: i64) -> TimeDelta {
    TimeDelta::hours(n)
}

/// As [`trigger`], where a local variable has its name.
pub(super) fn trigger_of(build: impl IntoTrigger) -> Trigger {
    trigger(build)
}
