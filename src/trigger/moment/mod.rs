//! Instants as people say them: with an offset or without one, as a time of day, or as a delay.

mod delay;
mod read;

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike as _, Utc};
use serde::{Deserialize, Serialize};

pub use self::delay::IntoDelay;
pub(super) use self::read::impossible_date;
use super::{
    instant::{add_millis, rfc3339, whole_millis},
    once::set_once,
    period::in_units,
    wall_clock::{Fold, Gap, Readings, ZoneRules},
};
use crate::{
    error::Error,
    zone::{DAY, TimeZone},
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
/// | [`Duration`](std::time::Duration), [`TimeDelta`] | `10 minutes`, `1.5 hours`, `1h30m`, `+90s`, `now` | so long after the job is added |
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
pub struct Moment(pub(super) Form);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
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
        Ok(Moment(Form::Instant(self.with_timezone(&Utc))))
    }
}

impl IntoMoment for NaiveDateTime {
    fn into_moment(self) -> Result<Moment, Error> {
        // As UTC it is rounded like an instant.
        Ok(Moment(Form::Wall(whole_millis(self.and_utc())?.naive_utc())))
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
            0 => Ok(Moment(Form::Time(self, None))),
            _ => Err(Error::invalid_trigger(format!(
                "the time of day {self} is not a whole second: use {}",
                self.with_nanosecond(0).unwrap_or_default()
            ))),
        }
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

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Form::Instant(instant) => write!(f, "{}", rfc3339(instant)),
            Form::Wall(reading) => write!(f, "{}", reading.format("%Y-%m-%dT%H:%M:%S%.f")),
            Form::Time(time, None) => write!(f, "{time}"),
            Form::Time(time, Some(zone)) => write!(f, "{time} {zone}"),
            Form::Delay(0) => f.write_str("now"),
            Form::Delay(delay) => {
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
    pub(super) const NOW: Moment = Moment(Form::Delay(0));

    /// The same by the wall clock of a zone: a date and time of day are an instant then.
    pub(super) fn in_tz(self, zone: TimeZone) -> Result<Moment, Error> {
        match self.0 {
            Form::Instant(_) | Form::Delay(_) => Ok(self),
            Form::Wall(_) => {
                let rules = ZoneRules { zone: Some(zone), ..ZoneRules::default() };
                self.resolve(DateTime::default(), rules)?.into_moment()
            }
            Form::Time(time, mut named) => {
                set_once(&mut named, zone, |[a, b]| format!("the zone is `{a}` and again `{b}`"))?;
                Ok(Moment(Form::Time(time, named)))
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
            Form::Instant(instant) => Some(instant),
            Form::Wall(reading) => {
                let (second, millis) =
                    (reading.and_utc(), reading.and_utc().timestamp_subsec_millis());
                // No clock differs from UTC by as much.
                let before = second.checked_sub_signed(TimeDelta::days(2));
                let once = Once(second.timestamp());
                let found = rules.apply(&once, true).next_after(before.unwrap_or(second));
                found.and_then(|found| add_millis(found, i64::from(millis)))
            }
            Form::Time(time, zone) => {
                let rules = ZoneRules { zone: zone.or(rules.zone), ..rules };
                let daily = Daily::at(time);
                let before = add_millis(from, -1).unwrap_or(from);
                rules.apply(&daily, true).next_after(before)
            }
            Form::Delay(delay) => {
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
            Form::Instant(instant) => Some(instant),
            _ => None,
        }
    }

    /// Whether it is certain, before a zone is known, that it is earlier than the other.
    pub(super) fn is_before(self, other: Moment) -> bool {
        match (self.0, other.0) {
            (Form::Instant(this), Form::Instant(other)) => this < other,
            (Form::Wall(this), Form::Wall(other)) => this < other,
            _ => false,
        }
    }

    /// Whether it names the same instant whenever the job is added.
    pub(super) fn is_fixed(self) -> bool {
        matches!(self.0, Form::Instant(_) | Form::Wall(_))
    }

    /// Whether it counts from when the job is added.
    pub(super) fn is_delay(self) -> bool {
        matches!(self.0, Form::Delay(_))
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
