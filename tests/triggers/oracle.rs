//! Cron triggers compared with every second of real time, in every zone that changes its clock.
//!
//! The oracle does not use spans and bits: it reads the wall clock at each second around a
//! transition of the zone, checks the reading with chrono's calendar, and applies the definitions
//! of `Gap` and `Fold` to the readings. The seed of a failing case is printed.
//!
//! `PUNCTUAL_SOAK=100` runs this many rounds of all zones, from other seeds, instead of one.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    ops::{Range, RangeInclusive},
    time::Instant,
};

use chrono::{
    DateTime, Datelike as _, NaiveDate, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _,
    Timelike as _, Weekday,
};
use chrono_tz::TZ_VARIANTS;
use croner::parser::CronParser;
use punctual::{
    TimeZone,
    trigger::{Fold, Gap, IntoTrigger, Trigger, cron},
};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// How far around a transition the results are compared.
const SIGHT: i64 = 5 * HOUR;
/// 1970-01-01 to 2100-01-01.
const YEARS: Range<i64> = 0..4_102_444_800;

#[test]
fn agrees_with_a_look_at_every_second_in_all_zones() {
    let (rounds, first_seed) = soak();
    let (start, mut cases, mut fires, mut zones, mut known) = (Instant::now(), 0, 0, 0, 0);
    for (number, zone) in (0..).zip(TZ_VARIANTS.map(TimeZone::from)) {
        let transitions = transitions(zone);
        if transitions.is_empty() {
            continue;
        }
        (zones, known) = (zones + 1, known + transitions.len());
        for round in 0..rounds {
            // Each round tests one kind of text and of fields, under two of the policies.
            for (kind, build) in [Spec::crontab, Spec::fields].into_iter().enumerate() {
                let seed = first_seed + round * 10_000 + number * 2 + kind as u64;
                let mut random = Random(seed);
                let transition = random.one_of(&transitions);
                let spec = build(&mut random, zone, transition.at);
                let gap = random.one_of(&[None, Some(Gap::Next), Some(Gap::Skip)]);
                let fold = random.one_of(&FOLDS);
                for (gap, fold) in [(gap, fold), (None, None)] {
                    cases += 1;
                    fires += compare(&mut random, &spec, zone, transition, gap, fold, seed);
                }
            }
        }
    }
    let took = start.elapsed();
    println!("{zones} zones, {known} transitions: {cases} cases, {fires} fire times, {took:?}");
    assert!(zones > 400 && fires > cases, "{zones} zones, {fires} fire times");
}

const FOLDS: [Option<Fold>; 4] = [None, Some(Fold::First), Some(Fold::Last), Some(Fold::Both)];

#[test]
fn agrees_with_croner_in_civil_time() {
    let (rounds, first_seed) = soak();
    let mut compared = 0;
    for seed in first_seed..first_seed + 300 * rounds {
        let mut random = Random(seed);
        let from = YEARS.start + random.below(YEARS.end);
        let spec = Spec::crontab(&mut random, TimeZone::UTC, from);
        let theirs = CronParser::builder().dom_and_dow(!spec.either).build();
        // It rejects ranges that wrap around, which the oracle above covers.
        let Ok(theirs) = theirs.parse(&spec.text) else { continue };
        compared += 1;
        let ours = spec.trigger(TimeZone::UTC, None, None);
        let mut t = DateTime::from_timestamp(from, 0).unwrap();
        for _ in 0..3 {
            let next = ours.next_after(t).unwrap();
            let civil = theirs.find_next_occurrence(&t.naive_utc(), false).ok();
            let civil = civil.filter(|t| t.year() < 2200).map(|t: NaiveDateTime| t.and_utc());
            assert_eq!(next, civil, "`{}` after {t}, seed {seed}", spec.text);
            let Some(next) = next else { break };
            t = next;
        }
    }
    println!("{compared} patterns compared with croner");
    assert!(compared >= 200 * rounds, "{compared}");
}

/// Returns the number of rounds, and the seed of the first.
fn soak() -> (u64, u64) {
    match std::env::var("PUNCTUAL_SOAK") {
        Ok(rounds) => (rounds.parse().expect("PUNCTUAL_SOAK is a number of rounds"), 1 << 32),
        Err(_) => (1, 1),
    }
}

/// Compares all fire times around the transition, forward, backward and from any instant. Returns
/// their number.
fn compare(
    random: &mut Random,
    spec: &Spec,
    zone: TimeZone,
    transition: Transition,
    gap: Option<Gap>,
    fold: Option<Fold>,
    seed: u64,
) -> usize {
    let trigger = spec.trigger(zone, gap, fold);
    let gap = gap.unwrap_or(if spec.fixed_time { Gap::Next } else { Gap::Skip });
    let fold = fold.unwrap_or(if spec.fixed_time { Fold::First } else { Fold::Both });
    let sight = transition.at - SIGHT..transition.at + SIGHT;
    let fires = oracle(spec, zone, gap, fold, sight.clone(), transition.by.abs());
    let what = || format!("{trigger} with {gap:?} and {fold:?} at {transition:?}, seed {seed}");
    let second = |t: i64| DateTime::from_timestamp(t, 0).unwrap();
    let tick = TimeDelta::nanoseconds(1);

    let mut t = second(sight.start) - tick;
    let mut found = Vec::with_capacity(fires.len());
    while let Some(next) = trigger.next_after(t).unwrap().filter(|&t| t < second(sight.end)) {
        assert!(next > t && next.timestamp_subsec_nanos() == 0, "{}", what());
        found.push(next.timestamp());
        t = next;
    }
    assert_eq!(found, fires, "{}", what());

    let mut t = second(sight.end) - tick;
    found.clear();
    while let Some(last) = trigger.last_at_or_before(t).unwrap() {
        if last < second(sight.start) {
            break;
        }
        assert!(last <= t, "{}", what());
        found.push(last.timestamp());
        t = last - tick;
    }
    found.reverse();
    assert_eq!(found, fires, "backward, {}", what());

    for _ in 0..4 {
        let t = sight.start + random.below(2 * SIGHT);
        let at = second(t) + TimeDelta::nanoseconds(random.below(1_000_000_000));
        let later = fires.partition_point(|&fire| fire <= t);
        if let Some(&next) = fires.get(later) {
            assert_eq!(trigger.next_after(at).unwrap(), Some(second(next)), "{}", what());
        }
        if let Some(&last) = later.checked_sub(1).and_then(|index| fires.get(index)) {
            assert_eq!(trigger.last_at_or_before(at).unwrap(), Some(second(last)), "{}", what());
        }
    }
    fires.len()
}

/// Returns the fire times in `sight`, by the wall clock of every second.
fn oracle(
    spec: &Spec,
    zone: TimeZone,
    gap: Gap,
    fold: Fold,
    sight: Range<i64>,
    change: i64,
) -> Vec<i64> {
    // A reading may be repeated this much later, and so may its neighbours.
    let margin = (2 * change).max(3 * HOUR);
    let (from, to) = (sight.start - margin, sight.end + margin);
    // The offset is looked up once for a stretch with the same offset at both ends.
    const STRETCH: i64 = 600;
    let mut readings: Vec<(i64, i64)> = Vec::with_capacity((to - from) as usize);
    for start in (from..to).step_by(STRETCH as usize) {
        let constant = offset(zone, start);
        let is_constant = constant == offset(zone, start + STRETCH - 1);
        readings.extend((start..start + STRETCH).map(|t| {
            let offset = if is_constant { constant } else { offset(zone, t) };
            (t + offset, t)
        }));
    }
    let mut days: Vec<(i64, bool)> = Vec::new();
    let mut matches = |reading: i64| {
        let number = reading.div_euclid(DAY);
        let day = match days.iter().find(|(known, _)| *known == number) {
            Some(&(_, day)) => day,
            None => {
                let date = DateTime::from_timestamp(number * DAY, 0).unwrap().date_naive();
                let day = (spec.day)(date);
                days.push((number, day));
                day
            }
        };
        let time = reading.rem_euclid(DAY) as usize;
        day && spec.hours[time / 3600] && spec.minutes[time / 60 % 60] && spec.seconds[time % 60]
    };

    let mut fires = BTreeSet::new();
    for pair in readings.windows(2) {
        let ((before, _), (after, first)) = (pair[0], pair[1]);
        if gap == Gap::Next && (before + 1..after).any(&mut matches) {
            fires.insert(first);
        }
    }
    let mut shown: Vec<(i64, i64)> =
        readings.into_iter().filter(|&(reading, _)| matches(reading)).collect();
    shown.sort();
    for times in shown.chunk_by(|one, other| one.0 == other.0) {
        let chosen = match fold {
            Fold::First => &times[..1],
            Fold::Last => &times[times.len() - 1..],
            Fold::Both => times,
        };
        fires.extend(chosen.iter().map(|&(_, t)| t));
    }
    fires.range(sight).copied().collect()
}

#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "the zone is for messages")]
struct Transition {
    zone: TimeZone,
    at: i64,
    /// How far the clock is set forward.
    by: i64,
}

/// Returns every change of the offset: the closest two since 1970 are 167 hours apart.
fn transitions(zone: TimeZone) -> Vec<Transition> {
    const STEP: i64 = 5 * DAY;
    let mut found = Vec::new();
    let mut before = offset(zone, YEARS.start);
    for start in YEARS.step_by(STEP as usize) {
        let after = offset(zone, start + STEP);
        if before != after {
            let (mut same, mut other) = (start, start + STEP);
            while other - same > 1 {
                let middle = same.midpoint(other);
                *(if offset(zone, middle) == before { &mut same } else { &mut other }) = middle;
            }
            found.push(Transition { zone, at: other, by: after - before });
        }
        before = after;
    }
    found
}

fn offset(zone: TimeZone, t: i64) -> i64 {
    let utc = DateTime::from_timestamp(t, 0).unwrap().naive_utc();
    i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
}

/// A pattern: its text, and its meaning.
struct Spec {
    /// Crontab text, or fields as JSON.
    text: String,
    /// Whether a day may match either of the day fields.
    either: bool,
    fixed_time: bool,
    hours: Vec<bool>,
    minutes: Vec<bool>,
    seconds: Vec<bool>,
    day: Box<dyn Fn(NaiveDate) -> bool>,
}

type Days = Box<dyn Fn(NaiveDate) -> bool>;

impl Spec {
    /// Returns crontab text that is related to the wall clock around `t`.
    fn crontab(random: &mut Random, zone: TimeZone, t: i64) -> Spec {
        let near = random.near(zone, t);
        let (second, seconds) = match random.below(3) {
            0 => random.field(0..=59, near.second, true),
            _ => ("0".into(), BTreeSet::from([0])),
        };
        let (minute, minutes) = random.field(0..=59, near.minute, true);
        let (hour, hours) = random.field(0..=23, near.hour, true);
        let (dom, of_month): (String, Days) = match random.below(9) {
            0..=3 => ("*".into(), Box::new(|_| true)),
            4 => ("L".into(), Box::new(|date| date.day() == length(date))),
            5 => {
                let last = |date: NaiveDate| nearest_weekday(date, length(date));
                ("LW".into(), Box::new(move |date| last(date) == date.day()))
            }
            6 => {
                let day = near.date.day();
                let nearest = move |date: NaiveDate| {
                    day <= length(date) && nearest_weekday(date, day) == date.day()
                };
                (format!("{day}W"), Box::new(nearest))
            }
            _ => {
                let (text, set) = random.field(1..=31, near.date.day(), true);
                (text, Box::new(move |date| set.contains(&date.day())))
            }
        };
        let (month, months) = match random.below(3) {
            0 => random.field(1..=12, near.date.month(), true),
            _ => ("*".into(), (1..=12).collect()),
        };
        let weekday = near.date.weekday().num_days_from_sunday();
        let (dow, of_week): (String, Days) = match random.below(9) {
            0..=3 => ("*".into(), Box::new(|_| true)),
            4 => ("?".into(), Box::new(|_| true)),
            5 => {
                let nth = near.date.day0() / 7;
                let is = move |date: NaiveDate| is_weekday(date, weekday) && date.day0() / 7 == nth;
                (format!("{weekday}#{}", nth + 1), Box::new(is))
            }
            6 => {
                let is = move |date: NaiveDate| {
                    is_weekday(date, weekday) && date.day() + 7 > length(date)
                };
                (format!("{weekday}L"), Box::new(is))
            }
            _ => {
                let (text, set) = random.field(0..=6, weekday, true);
                (text, Box::new(move |date| set.contains(&date.weekday().num_days_from_sunday())))
            }
        };
        let either = random.below(2) == 0;
        let both_restricted = dom != "*" && !matches!(&*dow, "*" | "?");
        let text = match &*second {
            "0" => format!("{minute} {hour} {dom} {month} {dow}"),
            _ => format!("{second} {minute} {hour} {dom} {month} {dow}"),
        };
        Spec {
            either,
            fixed_time: !minute.starts_with('*') && !hour.starts_with('*'),
            hours: flags(&hours, 24),
            minutes: flags(&minutes, 60),
            seconds: flags(&seconds, 60),
            day: Box::new(move |date| {
                let of_either = of_month(date) || of_week(date);
                let of_both = of_month(date) && of_week(date);
                let is_day = if either && both_restricted { of_either } else { of_both };
                is_day && months.contains(&date.month())
            }),
            text,
        }
    }

    /// Returns fields, some of them left out, by the table of `CronFields`.
    fn fields(random: &mut Random, zone: TimeZone, t: i64) -> Spec {
        let near = random.near(zone, t);
        let mut given = [(); 8].map(|()| random.below(2) == 0);
        given[5] |= !given.contains(&true);
        let mut fields = Fields { given, json: r#"{"type":"cron_fields""#.into() };
        let weekday = near.date.weekday();
        let from_monday = weekday.num_days_from_monday();
        let (_, years) = fields.set(random, 0, "year", 1970..=9999, near.date.year() as u32, "*");
        let (_, months) = fields.set(random, 1, "month", 1..=12, near.date.month(), "1");
        let (_, weeks) = fields.set(random, 3, "week", 1..=53, near.date.iso_week().week(), "*");
        let (_, of_week) = fields.set(random, 4, "day_of_week", 0..=6, from_monday, "*");
        let (hour, hours) = fields.set(random, 5, "hour", 0..=23, near.hour, "0");
        let (minute, minutes) = fields.set(random, 6, "minute", 0..=59, near.minute, "0");
        let (_, seconds) = fields.set(random, 7, "second", 0..=59, near.second, "0");
        let day: Days = match random.below(4) {
            0 if given[2] => {
                fields.push("day", "last");
                Box::new(|date| date.day() == length(date))
            }
            1 if given[2] => {
                let nth = near.date.day0() / 7;
                let position = ["1st", "2nd", "3rd", "4th", "5th"][nth as usize];
                fields.push("day", &format!("{position} {weekday}"));
                Box::new(move |date| date.weekday() == weekday && date.day0() / 7 == nth)
            }
            2 if given[2] => {
                fields.push("day", &format!("last {weekday}"));
                Box::new(move |date| date.weekday() == weekday && date.day() + 7 > length(date))
            }
            _ => {
                let (_, set) = fields.set(random, 2, "day", 1..=31, near.date.day(), "1");
                Box::new(move |date| set.contains(&date.day()))
            }
        };
        Spec {
            text: fields.json + "}",
            either: false,
            fixed_time: !minute.starts_with('*') && !hour.starts_with('*'),
            hours: flags(&hours, 24),
            minutes: flags(&minutes, 60),
            seconds: flags(&seconds, 60),
            day: Box::new(move |date| {
                day(date)
                    && years.contains(&(date.year() as u32))
                    && months.contains(&date.month())
                    && weeks.contains(&date.iso_week().week())
                    && of_week.contains(&date.weekday().num_days_from_monday())
            }),
        }
    }

    fn trigger(&self, zone: TimeZone, gap: Option<Gap>, fold: Option<Fold>) -> Trigger {
        // Fields are read from JSON, which needs no setter for each; so are the policies.
        let trigger = if self.text.starts_with('{') {
            serde_json::from_str(&self.text).map_err(|error| error.to_string())
        } else if self.either {
            cron(&self.text).into_trigger().map_err(|error| error.to_string())
        } else {
            cron(&self.text).dom_and_dow().into_trigger().map_err(|error| error.to_string())
        };
        let trigger: Trigger = trigger.unwrap_or_else(|error| panic!("`{}`: {error}", self.text));
        let mut json = serde_json::to_value(trigger).unwrap();
        json["zone"] = zone.name().into();
        if let Some(gap) = gap {
            json["gap"] = serde_json::to_value(gap).unwrap();
        }
        if let Some(fold) = fold {
            json["fold"] = serde_json::to_value(fold).unwrap();
        }
        serde_json::from_value(json).unwrap()
    }
}

/// Fields under construction.
struct Fields {
    given: [bool; 8],
    json: String,
}

impl Fields {
    /// The text and the values of a field, which may be left out.
    fn set(
        &mut self,
        random: &mut Random,
        index: usize,
        name: &str,
        values: RangeInclusive<u32>,
        near: u32,
        default: &str,
    ) -> (String, BTreeSet<u32>) {
        if self.given[index] {
            let (text, set) = random.field(values, near, false);
            self.push(name, &text);
            return (text, set);
        }
        let is_all = default == "*" || self.given[index..].contains(&true);
        if is_all {
            ("*".into(), values.collect())
        } else {
            (default.into(), BTreeSet::from([default.parse().unwrap()]))
        }
    }

    fn push(&mut self, name: &str, text: &str) {
        write!(self.json, r#","{name}":"{text}""#).unwrap();
    }
}

/// A reading of the wall clock.
struct Near {
    date: NaiveDate,
    hour: u32,
    minute: u32,
    second: u32,
}

/// A generator of numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: i64) -> i64 {
        (self.next() % end as u64) as i64
    }

    fn number(&mut self, values: RangeInclusive<u32>) -> u32 {
        values.start() + self.below(i64::from(values.end() - values.start()) + 1) as u32
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as i64) as usize]
    }

    /// Returns a reading before, in or after the gap or the fold at `t`.
    fn near(&mut self, zone: TimeZone, t: i64) -> Near {
        let t = t + self.below(4 * HOUR) - 2 * HOUR;
        let reading = t + offset(zone, t - DAY);
        let reading = DateTime::from_timestamp(reading, 0).unwrap().naive_utc();
        Near {
            date: reading.date(),
            hour: reading.hour(),
            minute: reading.minute(),
            second: reading.second(),
        }
    }

    /// Returns a field: its text, and its values, mostly with one that is near.
    fn field(
        &mut self,
        values: RangeInclusive<u32>,
        near: u32,
        wraps: bool,
    ) -> (String, BTreeSet<u32>) {
        let (min, max) = (*values.start(), *values.end());
        let all = || values.clone().collect::<BTreeSet<u32>>();
        let value = if self.below(3) == 0 { self.number(values.clone()) } else { near };
        let other = self.number(values.clone());
        let (text, set) = match self.below(7) {
            0 => return ("*".into(), all()),
            1 => (value.to_string(), BTreeSet::from([value])),
            2 => (format!("{value},{other}"), BTreeSet::from([value, other])),
            3 => {
                let step = self.number(2..=max - min);
                return (format!("*/{step}"), values.step_by(step as usize).collect());
            }
            4 if wraps && other < value => {
                (format!("{value}-{other}"), (value..=max).chain(min..=other).collect())
            }
            4 if !wraps && value + 1 < max => {
                let step = self.number(1..=max - value);
                (format!("{value}/{step}"), (value..=max).step_by(step as usize).collect())
            }
            5 if value + 1 < other => {
                let step = self.number(1..=other - value);
                (
                    format!("{value}-{other}/{step}"),
                    (value..=other).step_by(step as usize).collect(),
                )
            }
            _ => {
                let (first, last) = (value.min(other), value.max(other));
                (format!("{first}-{last}"), (first..=last).collect())
            }
        };
        // Whether a list of all values is `*` is a question for croniter, not for an oracle.
        if set == all() { (near.to_string(), BTreeSet::from([near])) } else { (text, set) }
    }
}

fn flags(set: &BTreeSet<u32>, count: u32) -> Vec<bool> {
    (0..count).map(|value| set.contains(&value)).collect()
}

/// Returns the number of days in the month.
fn length(date: NaiveDate) -> u32 {
    (28..=31).rev().find(|&day| date.with_day(day).is_some()).unwrap()
}

/// Returns the weekday from Monday to Friday nearest to a day of the month, in the same month.
fn nearest_weekday(date: NaiveDate, day: u32) -> u32 {
    let is_workday = |day: i64| {
        let date = u32::try_from(day).ok().and_then(|day| date.with_day(day));
        date.is_some_and(|date| !matches!(date.weekday(), Weekday::Sat | Weekday::Sun))
    };
    let nearest = [0, -1, 1, -2, 2].map(|by| i64::from(day) + by).into_iter();
    nearest.clone().find(|&day| is_workday(day)).unwrap() as u32
}

fn is_weekday(date: NaiveDate, weekday: u32) -> bool {
    date.weekday().num_days_from_sunday() == weekday
}
