//! Instants as people say them: with an offset or without one, as a time of day, or as a delay.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{
    DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Utc,
};
use serde::{Deserialize, Serialize};

use super::{
    IntoDelay as _, IntoTimeZone as _, Kind, add_millis,
    build::set_once,
    cron::one_line,
    floor_millis, pasted, rfc3339,
    text::in_units,
    time_of_day, whole_millis, words,
    zone::{Fold, Gap, Readings, ZoneRules},
};
use crate::{
    error::Error,
    zone::{DAY, TimeZone, is_like_a_zone},
};

/// An instant, or what names one once it is known when a job is added, and in which zone.
///
/// [`at`](super::at), [`starting_at`](super::Build::starting_at), [`until`](super::Build::until) and
/// [`first_at`](super::Build::first_at) take what [`IntoMoment`] makes one of:
///
/// | given | as text | names |
/// |---|---|---|
/// | [`DateTime`] | `2026-12-01T10:30:00+01:00`, `2026-12-01 10:30Z` | that instant |
/// | [`NaiveDateTime`] | `2026-12-01 10:30`, `2026-12-01T10:30:00`, `2026-12-01 6:30 pm` | when the wall clock shows it |
/// | [`NaiveDate`] | `2026-12-01` | the midnight with which that day begins |
/// | [`NaiveTime`] | `18:00`, `18:00:30`, `6pm`, `6:30 pm`, `noon`, `midnight` | the next time that the wall clock shows it |
/// | [`Duration`], [`TimeDelta`] | `10 minutes`, `1.5 hours`, `1h30m`, `+90s`, `now` | so long after the job is added |
///
/// The wall clock is that of the zone behind the text, as in `2026-12-01 10:30 Europe/Berlin`,
/// `2026-12-01 Asia/Tokyo` and `18:00 in Asia/Tokyo`. Without one it is that of the trigger's own zone
/// if the trigger goes by one, otherwise of the scheduler's.
/// A reading that a gap swallows names the first instant after the gap, and one that is shown twice
/// its first occurrence, or its last with [`Fold::Last`]. Instants are rounded to whole
/// milliseconds, fire times and starts up and ends down, and a leap second is the second after it.
///
/// [`Display`](fmt::Display) prints the text, which is the serialized form as well.
///
/// ```
/// use chrono::NaiveDate;
/// use punctual::trigger::{IntoTrigger, Trigger, cron};
///
/// let day: NaiveDate = "2026-12-01".parse()?;
/// let trigger = cron("0 9 * * *").in_tz("Europe/Berlin").starting_at(day).into_trigger()?;
/// assert_eq!(trigger, "0 9 * * * (Europe/Berlin); starting 2026-12-01".parse::<Trigger>()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(pub(super) Said);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Instant(DateTime<Utc>),
    /// What a wall clock shows.
    Wall(NaiveDateTime),
    /// What a wall clock shows every day: that of the zone, if one was named.
    Time(NaiveTime, Option<TimeZone>),
    /// So many milliseconds after the job is added.
    Delay(u64),
}

/// What names an instant; [`Moment`] has the table.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name an instant",
    note = "use a `DateTime`, `NaiveDateTime`, `NaiveDate` or `NaiveTime` of `chrono`, a `Duration` from when the job is added, or a text such as \"2026-12-01 10:30\""
)]
pub trait IntoMoment {
    /// Reads the moment.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if it names none.
    fn into_moment(self) -> Result<Moment, Error>;
}

impl IntoMoment for Moment {
    fn into_moment(self) -> Result<Moment, Error> {
        Ok(self)
    }
}

impl<Z: chrono::TimeZone> IntoMoment for DateTime<Z> {
    fn into_moment(self) -> Result<Moment, Error> {
        Ok(Moment(Said::Instant(self.with_timezone(&Utc))))
    }
}

impl IntoMoment for NaiveDateTime {
    fn into_moment(self) -> Result<Moment, Error> {
        // As UTC it is rounded like an instant.
        Ok(Moment(Said::Wall(whole_millis(self.and_utc())?.naive_utc())))
    }
}

impl IntoMoment for NaiveDate {
    fn into_moment(self) -> Result<Moment, Error> {
        self.and_time(NaiveTime::MIN).into_moment()
    }
}

impl IntoMoment for NaiveTime {
    fn into_moment(self) -> Result<Moment, Error> {
        match self.nanosecond() {
            0 => Ok(Moment(Said::Time(self, None))),
            _ => Err(Error::invalid_trigger(format!(
                "the time of day {self} is not a whole second: use {}",
                self.with_nanosecond(0).unwrap_or_default()
            ))),
        }
    }
}

impl IntoMoment for Duration {
    fn into_moment(self) -> Result<Moment, Error> {
        let millis = i64::try_from(self.as_nanos().div_ceil(1_000_000)).map_err(|_| {
            Error::invalid_trigger(format!(
                "{} s reaches past the end of the calendar: use a shorter duration",
                self.as_secs()
            ))
        })?;
        Ok(Moment(Said::Delay(millis.unsigned_abs())))
    }
}

impl IntoMoment for TimeDelta {
    fn into_moment(self) -> Result<Moment, Error> {
        self.into_delay()?.into_moment()
    }
}

impl IntoMoment for &str {
    fn into_moment(self) -> Result<Moment, Error> {
        self.parse()
    }
}

impl IntoMoment for String {
    fn into_moment(self) -> Result<Moment, Error> {
        self.parse()
    }
}

impl FromStr for Moment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Moment, Error> {
        let text = text.trim();
        if text == "now" {
            return Ok(Moment(Said::Delay(0)));
        }
        if let Some(instant) = instant(text) {
            return instant.into_moment();
        }
        if let Some(moment) = on_wall_clock(text) {
            return moment;
        }
        if let Some(moment) = in_named_zone(text) {
            return moment;
        }
        if let Some(delay) = delay(text) {
            return Ok(delay);
        }
        let reason = pasted::disguised(text).or_else(|| fault(text)).unwrap_or_else(|| {
            "write, for example, `2026-12-01T10:30:00+01:00`, `2026-12-01 10:30`, `2026-12-01`, `18:00` or `10 minutes`".to_owned()
        });
        Err(Error::invalid_trigger(format!(
            "`{}` does not name an instant: {reason}",
            one_line(text)
        )))
    }
}

/// What a wall clock shows, its zone not being said.
fn on_wall_clock(text: &str) -> Option<Result<Moment, Error>> {
    match reading(text) {
        Some(reading) => Some(reading.into_moment()),
        None => Some(time_of_day::read(text).ok()?.into_moment()),
    }
}

/// What the wall clock shows in the zone whose name follows, as in `18:00 Asia/Tokyo`.
fn in_named_zone(text: &str) -> Option<Result<Moment, Error>> {
    // A date, `at`, a time and `pm` are the most.
    const WORDS: usize = 4;
    let (moment, zone) = text
        .match_indices(char::is_whitespace)
        .take(WORDS)
        .filter_map(|(end, _)| Some((on_wall_clock(&text[..end])?, text[end..].trim())))
        .last()?;
    let zone = zone.strip_prefix("in ").map_or(zone, str::trim);
    let zone = zone.strip_prefix('(').and_then(|zone| zone.strip_suffix(')')).unwrap_or(zone);
    match zone.into_time_zone() {
        Ok(zone) => Some(moment.and_then(|moment| moment.in_tz(zone))),
        // Of anything else it is not certain that it is meant as a zone.
        Err(error) if zone.contains('/') || is_like_a_zone(zone) => Some(Err(error)),
        Err(_) => None,
    }
}

/// What is wrong with a text that has the shape of a date, of a date with a time, or of a time of day.
fn fault(text: &str) -> Option<String> {
    if let Some(fault) = impossible_date(text) {
        return Some(fault);
    }
    let time = match text.split_at_checked("2026-12-01".len()) {
        Some((date, time)) if date.parse::<NaiveDate>().is_ok() => {
            time.trim_start_matches(|c: char| c == 'T' || c.is_whitespace())
        }
        _ => text,
    };
    let is_time = time.starts_with(|c: char| c.is_ascii_digit()) && time.contains(':');
    let mut words = time.split_whitespace();
    time_of_day::from_words(words.next()?, words.next()).err().filter(|_| is_time)
}

/// What is wrong with a text that begins with the numbers of a date that no calendar has.
pub(super) fn impossible_date(text: &str) -> Option<String> {
    let date = text.trim().split([' ', 'T', '\t']).next()?;
    let parts: Vec<&str> = date.split('-').collect();
    let [year, month, day] = parts[..] else { return None };
    let number = |text: &str, digits| {
        let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| is_number)
    };
    let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
    let Some(first) = NaiveDate::from_ymd_opt(year.cast_signed(), month, 1) else {
        return Some(format!("month {month} is not in 1..=12"));
    };
    let days = u32::from(first.num_days_in_month());
    (!(1..=days).contains(&day))
        .then(|| format!("{} has {days} days: use a day in 1..={days}", first.format("%B %Y")))
}

/// An instant with its offset.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    let seconds_left_out =
        || ["%Y-%m-%dT%H:%M%:z", "%Y-%m-%d %H:%M%:z", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d %H:%MZ"];
    text.parse().ok().or_else(|| {
        seconds_left_out().into_iter().find_map(|format| match format.ends_with('Z') {
            true => NaiveDateTime::parse_from_str(text, format).ok().map(|utc| utc.and_utc()),
            false => DateTime::parse_from_str(text, format).ok().map(Into::into),
        })
    })
}

/// What a wall clock shows: date and time, or midnight.
fn reading(text: &str) -> Option<NaiveDateTime> {
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
        .into_iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .or_else(|| Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN)))
        .or_else(|| {
            let (date, time) = text.split_once(char::is_whitespace)?;
            let time = time.trim_start();
            let time = time_of_day::read(time.strip_prefix("at ").unwrap_or(time)).ok()?;
            Some(date.parse::<NaiveDate>().ok()?.and_time(time))
        })
}

/// A number of units, as in `10 minutes`, `90s` or `+90s`.
fn delay(text: &str) -> Option<Moment> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    match words::parse(text).and_then(Kind::try_from).ok()? {
        Kind::Interval(delay) => Some(Moment(Said::Delay(delay.period_ms().unsigned_abs()))),
        _ => None,
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Said::Instant(instant) => write!(f, "{}", rfc3339(instant)),
            Said::Wall(reading) => write!(f, "{}", reading.format("%Y-%m-%dT%H:%M:%S%.f")),
            Said::Time(time, None) => write!(f, "{time}"),
            Said::Time(time, Some(zone)) => write!(f, "{time} {zone}"),
            Said::Delay(0) => f.write_str("now"),
            Said::Delay(delay) => {
                let (n, unit) = in_units([delay]);
                write!(f, "+{}{unit}", n[0])
            }
        }
    }
}

impl TryFrom<String> for Moment {
    type Error = Error;

    fn try_from(text: String) -> Result<Moment, Error> {
        text.parse()
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> String {
        moment.to_string()
    }
}

impl Moment {
    pub(super) const NOW: Moment = Moment(Said::Delay(0));

    /// The same by the wall clock of a zone: a date and time of day are an instant then.
    pub(super) fn in_tz(self, zone: TimeZone) -> Result<Moment, Error> {
        match self.0 {
            Said::Instant(_) | Said::Delay(_) => Ok(self),
            Said::Wall(_) => {
                let rules = ZoneRules { zone: Some(zone), ..ZoneRules::default() };
                self.resolve(DateTime::default(), rules)?.into_moment()
            }
            Said::Time(time, mut named) => {
                set_once(&mut named, zone, |[a, b]| format!("the zone is `{a}` and again `{b}`"))?;
                Ok(Moment(Said::Time(time, named)))
            }
        }
    }

    /// The instant, not rounded, that it names if it counts from `from`, which is a whole
    /// millisecond; a time of day is the first that is not earlier.
    pub(super) fn resolve(
        self,
        from: DateTime<Utc>,
        rules: ZoneRules,
    ) -> Result<DateTime<Utc>, Error> {
        // A bound is an instant: a gap can't swallow it, and it comes once.
        let rules = ZoneRules {
            gap: Some(Gap::Next),
            fold: rules.fold.filter(|&fold| fold != Fold::Both).or(Some(Fold::First)),
            ..rules
        };
        let found = match self.0 {
            Said::Instant(instant) => Some(instant),
            Said::Wall(reading) => {
                let (second, millis) =
                    (reading.and_utc(), reading.and_utc().timestamp_subsec_millis());
                // No clock differs from UTC by as much.
                let before = second.checked_sub_signed(TimeDelta::days(2));
                let once = Once(second.timestamp());
                let found = rules.apply(&once, true).next_after(before.unwrap_or(second));
                found.and_then(|found| add_millis(found, i64::from(millis)))
            }
            Said::Time(time, zone) => {
                let rules = ZoneRules { zone: zone.or(rules.zone), ..rules };
                let daily = Daily::at(time);
                let before = add_millis(from, -1).unwrap_or(from);
                rules.apply(&daily, true).next_after(before)
            }
            Said::Delay(delay) => {
                i64::try_from(delay).ok().and_then(|delay| add_millis(from, delay))
            }
        };
        found.ok_or_else(|| {
            Error::invalid_trigger(format!(
                "`{self}` is past the end of the calendar: use an earlier one"
            ))
        })
    }

    /// The instant, if it does not depend on anything.
    pub(super) fn as_instant(self) -> Option<DateTime<Utc>> {
        match self.0 {
            Said::Instant(instant) => Some(instant),
            _ => None,
        }
    }

    /// Whether it is certain, before a zone is known, that it is earlier than the other.
    pub(super) fn is_before(self, other: Moment) -> bool {
        match (self.0, other.0) {
            (Said::Instant(this), Said::Instant(other)) => this < other,
            (Said::Wall(this), Said::Wall(other)) => this < other,
            _ => false,
        }
    }

    /// Whether it names the same instant whenever the job is added.
    pub(super) fn is_fixed(self) -> bool {
        matches!(self.0, Said::Instant(_) | Said::Wall(_))
    }

    /// Whether it counts from when the job is added.
    pub(super) fn is_delay(self) -> bool {
        matches!(self.0, Said::Delay(_))
    }
}

/// One reading of a wall clock.
struct Once(i64);

impl Readings for Once {
    fn at_or_after(&self, reading: i64) -> Option<i64> {
        (reading <= self.0).then_some(self.0)
    }

    fn at_or_before(&self, reading: i64) -> Option<i64> {
        (reading >= self.0).then_some(self.0)
    }
}

/// A second of every day.
pub(super) struct Daily(i64);

impl Daily {
    pub(super) fn at(time: NaiveTime) -> Daily {
        Daily(i64::from(time.num_seconds_from_midnight()))
    }
}

impl Readings for Daily {
    fn at_or_after(&self, reading: i64) -> Option<i64> {
        Some(reading + (self.0 - reading).rem_euclid(DAY))
    }

    fn at_or_before(&self, reading: i64) -> Option<i64> {
        Some(reading - (reading - self.0).rem_euclid(DAY))
    }
}

/// What was said of when a trigger starts, fires first and ends, as far as that waits for a zone or
/// for when the job is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Bounds {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<Moment>,
}

impl Bounds {
    pub(super) fn is_empty(&self) -> bool {
        self.start.is_none() && self.first.is_none() && self.end.is_none()
    }

    /// Sets the first fire, which two methods and two clauses do.
    pub(super) fn say_first(&mut self, first: Moment) -> Result<(), Error> {
        set_once(&mut self.first, first, |[a, b]| format!("the first fire is at {a} and again {b}"))
    }

    /// Checks that it starts before it fires first, and that before it ends.
    pub(super) fn check(&self) -> Result<(), Error> {
        let reversed = |before: Option<Moment>, after: Option<Moment>| {
            before.zip(after).filter(|(before, after)| after.is_before(*before))
        };
        if let Some((start, end)) = reversed(self.start, self.end) {
            return Err(Error::invalid_trigger(format!(
                "the trigger ends at {end}, before it starts at {start}: swap them"
            )));
        }
        if let Some((start, first)) = reversed(self.start, self.first) {
            return Err(Error::invalid_trigger(format!(
                "the trigger fires first at {first}, before it starts at {start}: leave the start out"
            )));
        }
        if let Some((first, end)) = reversed(self.first, self.end) {
            return Err(Error::invalid_trigger(format!(
                "the trigger ends at {end}, before it fires first at {first}: end it later"
            )));
        }
        Ok(())
    }

    /// Takes the instants out, which are known: those of start and first fire, rounded up, and the
    /// end, rounded down.
    pub(super) fn take_instants(&mut self) -> Result<[Option<DateTime<Utc>>; 3], Error> {
        let take = |moment: &mut Option<Moment>| {
            let instant = moment.and_then(Moment::as_instant);
            *moment = moment.filter(|_| instant.is_none());
            instant
        };
        Ok([
            take(&mut self.start).map(whole_millis).transpose()?,
            take(&mut self.first).map(whole_millis).transpose()?,
            take(&mut self.end).map(floor_millis),
        ])
    }
}
