//! Cron patterns in gaps and folds.

use super::*;

const NEW_YORK: &str = "America/New_York";

#[test]
fn a_reading_in_a_gap_fires_after_it_or_not_at_all() {
    let fires = |build| wall_fires(build, NEW_YORK, "2026-03-07T17:00:00Z", 2);

    // Fixed-time: once, at the first instant after the gap.
    assert_eq!(fires(cron("30 2 * * *")), ["03-08 03:00-04:00", "03-09 02:30-04:00"]);
    assert_eq!(fires(cron("0,30 2 * * *")), ["03-08 03:00-04:00", "03-09 02:00-04:00"]);
    assert_eq!(fires(cron("30 2,14 * * *")), ["03-07 14:30-05:00", "03-08 03:00-04:00"]);
    assert_eq!(fires(cron("0 2,3 * * *")), ["03-08 03:00-04:00", "03-09 02:00-04:00"]);
    assert_eq!(fires(cron("* 30 2 * * *"))[0], "03-08 03:00-04:00");
    assert_eq!(
        fires(cron("30 2 * * *").gap(Gap::Skip)),
        ["03-09 02:30-04:00", "03-10 02:30-04:00"]
    );
    // Wild: none in the gap.
    assert_eq!(fires(cron("*/30 2 * * *")), ["03-09 02:00-04:00", "03-09 02:30-04:00"]);
    assert_eq!(
        fires(cron("*/30 2 * * *").gap(Gap::Next)),
        ["03-08 03:00-04:00", "03-09 02:00-04:00"]
    );
    // The rest of the day is none of the gap's business.
    assert_eq!(fires(cron("0 1 * * *")), ["03-08 01:00-05:00", "03-09 01:00-04:00"]);
    assert_eq!(fires(cron("0 3 * * *")), ["03-08 03:00-04:00", "03-09 03:00-04:00"]);
    assert_eq!(fires(cron("0 9 * * *")), ["03-08 09:00-04:00", "03-09 09:00-04:00"]);
}

#[test]
fn the_end_of_a_gap_is_one_fire() {
    // 2:00 to 2:59 are missing, and 3:00 is one of the pattern's own.
    let trigger = trigger(cron("0,30 2-3 * * *").in_tz(NEW_YORK));
    let after_gap = t("2026-03-08T07:00:00Z");
    assert_eq!(
        fires_after(&trigger, t("2026-03-08T05:00:00Z"), 2),
        [after_gap, t("2026-03-08T07:30:00Z")]
    );
    assert_eq!(
        trigger.last_at_or_before(after_gap - TimeDelta::nanoseconds(1)).unwrap(),
        Some(t("2026-03-07T08:30:00Z"))
    );
}

#[test]
fn a_reading_shown_twice_fires_as_often_as_asked() {
    let fires = |build| wall_fires(build, NEW_YORK, "2026-10-31T16:00:00Z", 3);

    let (first, last, day_after) = ("11-01 01:30-04:00", "11-01 01:30-05:00", "11-02 01:30-05:00");
    assert_eq!(fires(cron("30 1 * * *"))[..2], [first, day_after]);
    assert_eq!(fires(cron("30 1 * * *").fold(Fold::Last))[..2], [last, day_after]);
    assert_eq!(fires(cron("30 1 * * *").fold(Fold::Both)), [first, last, day_after]);
    assert_eq!(fires(cron("30 */1 * * *").fold(Fold::First))[..1], ["10-31 12:30-04:00"]);
    // Wild: both passes.
    assert_eq!(
        fires(cron("*/30 1 * * *")),
        ["11-01 01:00-04:00", "11-01 01:30-04:00", "11-01 01:00-05:00"]
    );
    // Shown once.
    assert_eq!(fires(cron("0 2 * * *"))[..2], ["11-01 02:00-05:00", "11-02 02:00-05:00"]);
}

#[test]
fn a_question_between_the_passes_of_a_fold_finds_the_second() {
    let next = |fold, at| {
        trigger(cron("30 1 * * *").in_tz(NEW_YORK).fold(fold)).next_after(t(at)).unwrap()
    };

    let first = t("2026-11-01T05:30:00Z");
    let last = t("2026-11-01T06:30:00Z");
    let day_after = t("2026-11-02T06:30:00Z");
    for between in ["2026-11-01T05:30:00Z", "2026-11-01T05:45:00Z", "2026-11-01T06:29:59.999Z"] {
        assert_eq!(next(Fold::First, between), Some(day_after), "{between}");
        assert_eq!(next(Fold::Last, between), Some(last), "{between}");
        assert_eq!(next(Fold::Both, between), Some(last), "{between}");
    }
    assert_eq!(next(Fold::First, "2026-11-01T05:29:59.999Z"), Some(first));
}

#[test]
fn cairo_loses_midnight() {
    let fires = |text| wall_fires(cron(text), "Africa/Cairo", "2026-04-23T09:00:00Z", 2);

    assert_eq!(fires("0 12 * * *"), ["04-23 12:00+02:00", "04-24 12:00+03:00"]);
    assert_eq!(fires("0 0 * * *"), ["04-24 01:00+03:00", "04-25 00:00+03:00"]);
    assert_eq!(fires("30 0 24 4 *")[0], "04-24 01:00+03:00");
}

#[test]
fn sao_paulo_repeats_the_hour_before_midnight() {
    let fires = |text| wall_fires(cron(text), "America/Sao_Paulo", "2018-02-17T20:00:00Z", 3);

    assert_eq!(
        fires("30 23 * * *"),
        ["02-17 23:30-02:00", "02-18 23:30-03:00", "02-19 23:30-03:00"]
    );
    assert_eq!(fires("0 0 * * *"), ["02-18 00:00-03:00", "02-19 00:00-03:00", "02-20 00:00-03:00"]);
}

#[test]
fn apia_loses_a_day() {
    let fires = |build| wall_fires(build, "Pacific/Apia", "2011-12-29T12:00:00Z", 3);

    assert_eq!(
        fires(cron("0 12 * * *")),
        ["12-29 12:00-10:00", "12-31 00:00+14:00", "12-31 12:00+14:00"]
    );
    assert_eq!(
        fires(cron("0 12 * * *").gap(Gap::Skip)),
        ["12-29 12:00-10:00", "12-31 12:00+14:00", "01-01 12:00+14:00"]
    );
    assert_eq!(
        fires(cron("0 */8 * * *")),
        ["12-29 08:00-10:00", "12-29 16:00-10:00", "12-31 00:00+14:00"]
    );
    // A Friday that was not there.
    assert_eq!(fires(cron("0 9 30 * *"))[0], "12-31 00:00+14:00");
}

#[test]
fn lord_howe_moves_by_half_an_hour() {
    let fires = |build, from| wall_fires(build, "Australia/Lord_Howe", from, 3);

    assert_eq!(
        fires(cron("15 2 * * *"), "2026-10-02T16:00:00Z"),
        ["10-04 02:30+11:00", "10-05 02:15+11:00", "10-06 02:15+11:00"]
    );
    assert_eq!(
        fires(cron("*/15 * * * *"), "2026-10-03T15:10:00Z"),
        ["10-04 01:45+10:30", "10-04 02:30+11:00", "10-04 02:45+11:00"]
    );
    assert_eq!(
        fires(cron("45 1 * * *").fold(Fold::Both), "2026-04-04T12:00:00Z"),
        ["04-05 01:45+11:00", "04-05 01:45+10:30", "04-06 01:45+10:30"]
    );
}

/// A transition of a zone, or at least an instant within a few hours of it.
const ZONES_AND_TRANSITIONS: [(&str, &str); 26] = [
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("America/New_York", "1967-04-30T07:00:00Z"),
    ("America/New_York", "2099-11-01T06:00:00Z"),
    ("Europe/Dublin", "2026-03-29T01:00:00Z"),
    ("Europe/Dublin", "2026-10-25T01:00:00Z"),
    ("Africa/Casablanca", "2026-02-15T02:00:00Z"),
    ("Africa/Casablanca", "2026-03-22T02:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("Africa/Cairo", "2026-04-23T22:00:00Z"),
    ("Africa/Cairo", "2026-10-29T21:00:00Z"),
    ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
    ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),
    ("Antarctica/Troll", "2026-03-29T01:00:00Z"),
    ("Antarctica/Troll", "2026-10-25T01:00:00Z"),
    ("Antarctica/Casey", "2009-10-17T18:00:00Z"),
    ("Antarctica/Casey", "2010-03-04T15:00:00Z"),
    ("Asia/Kathmandu", "1985-12-31T18:30:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Pacific/Kwajalein", "1969-09-30T13:00:00Z"), // a fold of 23 hours
    ("Pacific/Kwajalein", "1993-08-21T12:00:00Z"),
    // The shortest time between two transitions of any zone.
    ("America/Boa_Vista", "2000-10-08T04:00:00Z"),
    ("America/Boa_Vista", "2000-10-15T03:00:00Z"),
    ("Africa/Tunis", "1943-04-17T00:00:00Z"),
    ("Europe/Riga", "1944-10-08T01:00:00Z"),
];

/// Minutes and hours; the fields to say them with.
#[derive(Debug, Clone)]
struct Times {
    minutes: BTreeSet<i64>,
    hours: BTreeSet<i64>,
    text: String,
    fixed_time: bool,
}

fn times() -> impl Strategy<Value = Times> {
    let field = |count: i64| {
        prop_oneof![
            prop::collection::btree_set(0..count, 1..5).prop_map(|set| (list(&set), set)),
            (2..count / 2).prop_map(move |step| {
                (format!("*/{step}"), (0..count).step_by(step as usize).collect())
            }),
            Just(("*".to_owned(), (0..count).collect())),
        ]
    };
    (field(60), field(24)).prop_map(|((minute, minutes), (hour, hours))| Times {
        text: format!("{minute} {hour} * * *"),
        fixed_time: !minute.starts_with('*') && !hour.starts_with('*'),
        minutes,
        hours,
    })
}

fn list(set: &BTreeSet<i64>) -> String {
    set.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

/// What fires in `from..to`, found by looking at the wall clock at each minute.
fn brute_force(
    times: &Times,
    zone: TimeZone,
    gap: Gap,
    fold: Fold,
    from: i64,
    to: i64,
) -> BTreeSet<i64> {
    const MARGIN: i64 = 25 * 60;
    let reading = |minute: i64| {
        let instant = DateTime::from_timestamp(minute * 60, 0).unwrap();
        let wall = instant.with_timezone(&zone).naive_local();
        wall.and_utc().timestamp() / 60
    };
    let matches = |reading: i64| {
        times.minutes.contains(&reading.rem_euclid(60))
            && times.hours.contains(&reading.div_euclid(60).rem_euclid(24))
    };
    let readings: Vec<(i64, i64)> =
        (from - MARGIN..to + MARGIN).map(|minute| (minute, reading(minute))).collect();

    let mut shown: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for &(minute, reading) in readings.iter().filter(|(_, reading)| matches(*reading)) {
        shown.entry(reading).or_default().push(minute);
    }
    let mut fires: BTreeSet<i64> = shown
        .values()
        .flat_map(|minutes| match fold {
            Fold::First => &minutes[..1],
            Fold::Last => &minutes[minutes.len() - 1..],
            Fold::Both => &minutes[..],
        })
        .copied()
        .collect();
    if gap == Gap::Next {
        for pair in readings.windows(2) {
            if (pair[0].1 + 1..pair[1].1).any(matches) {
                fires.insert(pair[1].0);
            }
        }
    }
    fires.range(from..to).copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn agrees_with_a_look_at_every_minute(
        times in times(),
        (zone, transition) in prop::sample::select(&ZONES_AND_TRANSITIONS[..]),
        gap in prop::sample::select(&[None, Some(Gap::Next), Some(Gap::Skip)][..]),
        fold in prop::sample::select(&[None, Some(Fold::First), Some(Fold::Last), Some(Fold::Both)][..]),
        shift in -600..600_i64,
        millis in 0..60_000_i64,
    ) {
        let zone: TimeZone = zone.parse().unwrap();
        let mut build = cron(&times.text).in_tz(zone);
        if let Some(gap) = gap {
            build = build.gap(gap);
        }
        if let Some(fold) = fold {
            build = build.fold(fold);
        }
        let trigger = trigger(build);
        let gap = gap.unwrap_or(if times.fixed_time { Gap::Next } else { Gap::Skip });
        let fold = fold.unwrap_or(if times.fixed_time { Fold::First } else { Fold::Both });

        let middle = t(transition).timestamp() / 60 + shift;
        let (from, to) = (middle - 30 * 60, middle + 30 * 60);
        let fires = brute_force(&times, zone, gap, fold, from, to);
        let instant = |minute: i64| DateTime::from_timestamp(minute * 60, 0).unwrap();

        let mut found = BTreeSet::new();
        let mut at = instant(from) - TimeDelta::nanoseconds(1);
        while let Some(next) = trigger.next_after(at).unwrap().filter(|&next| next < instant(to)) {
            prop_assert!(next > at);
            found.insert(next.timestamp() / 60);
            at = next;
        }
        prop_assert_eq!(&found, &fires, "forward");

        found.clear();
        let mut at = instant(to) - TimeDelta::nanoseconds(1);
        while let Some(last) = trigger.last_at_or_before(at).unwrap().filter(|&last| last >= instant(from)) {
            prop_assert!(last <= at);
            found.insert(last.timestamp() / 60);
            at = last - TimeDelta::nanoseconds(1);
        }
        prop_assert_eq!(&found, &fires, "backward");

        // From anywhere, not only from fire times.
        let at = instant(middle) + TimeDelta::milliseconds(millis);
        if let Some(&next) = fires.range(middle + 1..).next() {
            prop_assert_eq!(trigger.next_after(at).unwrap(), Some(instant(next)));
        }
        if let Some(&last) = fires.range(..=middle).next_back() {
            prop_assert_eq!(trigger.last_at_or_before(at).unwrap(), Some(instant(last)));
        }
    }

    /// The reading of the wall clock at any instant, in any zone, finds that instant.
    #[test]
    fn what_the_clock_shows_finds_the_instant(
        zone in prop::sample::select(&TZ_VARIANTS[..]),
        // From 1900-01-03 to 2199-12-29.
        seconds in -2_208_816_000..7_257_859_200_i64,
    ) {
        let zone = TimeZone::from(zone);
        let instant = DateTime::from_timestamp(seconds, 0).unwrap();
        let text = instant.with_timezone(&zone).format("%-S %-M %-H %-d %-m ? %Y").to_string();
        let trigger = trigger(cron(text).in_tz(zone).gap(Gap::Skip).fold(Fold::Both));
        let second = TimeDelta::seconds(1);
        prop_assert_eq!(trigger.next_after(instant - second).unwrap(), Some(instant));
        prop_assert_eq!(trigger.last_at_or_before(instant).unwrap(), Some(instant));
        prop_assert_eq!(trigger.last_at_or_before(instant + second).unwrap(), Some(instant));
    }
}
