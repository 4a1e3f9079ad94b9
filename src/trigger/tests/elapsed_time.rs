//! Intervals, random periods and dates.

use super::*;

#[test]
fn an_interval_is_a_grid_from_its_start() {
    let start = t("2026-01-01T00:00:00Z");
    let trigger = trigger(every(Duration::from_millis(1_900)).starting_at(start));
    assert_eq!(trigger.next_after(start - MS).unwrap(), Some(start));
    assert_eq!(fires_after(&trigger, start, 2), [start + MS * 1_900, start + MS * 3_800]);
    assert_eq!(trigger.next_after(start + MS * 1_899).unwrap(), Some(start + MS * 1_900));
    assert_eq!(trigger.last_at_or_before(start - MS).unwrap(), None);
    let years = start + TimeDelta::days(10_000);
    let last = trigger.last_at_or_before(years).unwrap().unwrap();
    assert_eq!((last - start).num_milliseconds() % 1_900, 0);
    assert!(years - last < MS * 1_900);
}

#[test]
fn periods_are_whole_positive_milliseconds() {
    for period in
        [Duration::ZERO, Duration::from_micros(999), Duration::from_micros(1_500), Duration::MAX]
    {
        assert!(every(period).into_trigger().unwrap_err().is_invalid_trigger(), "{period:?}");
    }
    assert!(every(-MS).into_trigger().is_err());
    assert!(every(MS).into_trigger().is_ok());
}

#[test]
fn anchoring_fills_in_what_depends_on_now() {
    let now = t("2026-01-01T00:00:00Z");
    let first = |trigger: Trigger| {
        let anchored = trigger.anchored(now, Tz::UTC).unwrap();
        anchored.first(now).unwrap().map(|fire| (fire - now).num_milliseconds())
    };
    let second = Duration::from_secs(1);
    assert_eq!(first(trigger(every(second))), Some(1_000));
    assert_eq!(first(trigger(every(second).immediately())), Some(0));
    assert_eq!(first(trigger(after(second))), Some(1_000));
    assert_eq!(first(trigger(super::now())), Some(0));
    assert_eq!(first(trigger(at(now - MS * 5))), Some(-5));
    assert_eq!(first(trigger("@hourly")), Some(0));
}

#[test]
fn a_date_fires_once_on_a_whole_millisecond() {
    let date = trigger(at(t("2026-01-01T00:00:00.0001Z")));
    let fire = t("2026-01-01T00:00:00.001Z");
    assert_eq!(fires_after(&date, DateTime::<Utc>::MIN_UTC, 9), [fire]);
    assert_eq!(date.last_at_or_before(fire - MS).unwrap(), None);
}

#[test]
fn bounds_are_inclusive() {
    let (start, end) = (t("2026-01-01T09:00:00Z"), t("2026-01-03T09:00:00Z"));
    let bounded = trigger(cron("0 9 * * *").starting_at(start).until(end));
    assert_eq!(
        fires_after(&bounded, DateTime::<Utc>::MIN_UTC, 9),
        [start, t("2026-01-02T09:00:00Z"), end]
    );
    assert_eq!(bounded.last_at_or_before(DateTime::<Utc>::MAX_UTC).unwrap(), Some(end));
    assert_eq!(bounded.last_at_or_before(start - MS).unwrap(), None);
    assert!(cron("@daily").starting_at(end).until(start).into_trigger().is_err());
}

#[test]
fn times_become_an_end() {
    let now = t("2026-01-01T00:00:00Z");
    let count =
        |build: Trigger| fires_after(&build.anchored(now, Tz::UTC).unwrap(), now - MS, 99).len();
    assert_eq!(count(trigger(every(MS).times(7))), 7);
    assert_eq!(count(trigger(every(MS).immediately().times(1))), 1);
    assert_eq!(count(trigger(cron("0 9 * * *").times(3))), 3);
    assert_eq!(count(trigger(cron("0 0 0 1 1 ? 2030,2031").times(5))), 2);
    assert!(cron("@daily").times(0).into_trigger().is_err());
}

#[test]
fn a_step_of_the_clock_moves_a_random_grid_and_keeps_its_offsets() {
    let start = t("2026-01-01T00:00:00Z");
    let mut random = trigger(every(1).to(100).minutes()).anchored(start, Tz::UTC).unwrap();
    let before = random.next_after(start).unwrap().unwrap();
    random.shift(TimeDelta::seconds(-7));
    let after = random.next_after(start).unwrap().unwrap();
    assert_eq!(before - after, TimeDelta::seconds(7));
}

#[test]
fn upcoming_fire_times_end_with_the_last_or_with_an_error() {
    let from = t("2026-07-01T12:00:00Z");
    let list =
        |trigger: Trigger| trigger.upcoming_after(from).map(Result::unwrap).collect::<Vec<_>>();
    let day = |text: &str| t(&format!("2026-{text}T09:00:00Z"));
    assert_eq!(list(trigger("every 2 days at 9:00; 2 times")), [day("07-02"), day("07-04")]);
    assert!(list(trigger(at(from))).is_empty());
    assert_eq!(list(trigger(after(Duration::from_secs(1)))), [from + TimeDelta::seconds(1)]);
    assert_eq!(trigger("* * * * *").upcoming(3).count(), 3);

    #[derive(Debug)]
    struct Broken;
    impl CustomTrigger for Broken {
        fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
            Some(t)
        }
    }
    let mut broken = trigger(custom(Broken)).upcoming_after(from);
    assert!(broken.next().unwrap().is_err());
    assert!(broken.next().is_none());
}

proptest! {
    #[test]
    fn random_periods_stay_within_their_bounds(
        min in 1_u64..100_000, more in 0_u64..200_000, now in 0_i64..4_000_000_000_000,
    ) {
        let now = DateTime::from_timestamp_millis(now).unwrap();
        let (least, most) = (min as i64, (min + more) as i64);
        let build = every(min).to(min + more).milliseconds();
        let random = trigger(build.times(60)).anchored(now, Tz::UTC).unwrap();
        let (mut at, mut count) = (now, 0);
        let first = random.next_after(now).unwrap().unwrap();
        while let Some(next) = random.next_after(at).unwrap() {
            let distance = (next - at).num_milliseconds();
            prop_assert!((least..=most).contains(&distance), "{distance}");
            prop_assert_eq!(random.last_at_or_before(next).unwrap(), Some(next));
            let before = next - TimeDelta::milliseconds(1);
            prop_assert_eq!(random.next_after(before).unwrap(), Some(next));
            let last = random.last_at_or_before(before).unwrap();
            prop_assert_eq!(last, (count > 0).then_some(at));
            count += 1;
            prop_assert_eq!(random.count(first, next, u64::MAX), count);
            at = next;
        }
        prop_assert_eq!(count, 60);
    }
}
