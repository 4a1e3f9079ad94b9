//! One fire time, given as an instant or as a delay.

use std::{fmt, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::schedule::{Schedule, Search};
use crate::{
    error::Error,
    trigger::{
        instant::{add_millis, rfc3339, whole_millis},
        moment::{Form, IntoMoment as _, Moment},
        period::{duration, in_units},
        search::Budget,
        wall_clock::ZoneRules,
    },
    zone::TimeZone,
};

/// A trigger with a single fire time; made by [`at`](crate::trigger::at), [`after`](crate::trigger::after) and
/// [`now`](crate::trigger::now).
///
/// A fire time in the past is due at once, and judged by the job's misfire grace time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Repr", into = "Repr")]
#[non_exhaustive]
pub enum Date {
    /// At this instant.
    At(DateTime<Utc>),
    /// So many milliseconds after the job is added.
    AfterMs(u64),
    /// At a moment that the wall clock of the scheduler's zone names, until the job is added.
    AtWall(Moment),
}

impl From<Moment> for Date {
    fn from(moment: Moment) -> Date {
        match moment.0 {
            Form::Instant(instant) => Date::At(instant),
            Form::Delay(delay) => Date::AfterMs(delay),
            Form::Wall(_) | Form::Time(..) => Date::AtWall(moment),
        }
    }
}

impl Date {
    /// The fire time of this trigger if it is added at `now` and the wall clock is that of `zone`.
    fn fire_time(&self, now: DateTime<Utc>, zone: TimeZone) -> Result<DateTime<Utc>, Error> {
        match *self {
            Date::At(instant) => whole_millis(instant),
            Date::AfterMs(delay) => i64::try_from(delay)
                .ok()
                .and_then(|delay| add_millis(whole_millis(now).ok()?, delay))
                .ok_or_else(|| {
                    Error::invalid_trigger(format!(
                        "a delay of {delay} ms reaches past the end of the calendar: use a shorter one"
                    ))
                }),
            Date::AtWall(moment) => {
                let rules = ZoneRules { zone: Some(zone), ..ZoneRules::default() };
                moment.resolve(whole_millis(now)?, rules)
            }
        }
    }
}

impl Schedule for Date {
    fn next(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let fire = self.fire_time(search.asked, TimeZone::UTC)?;
        budget.spend(1)?;
        Ok(Some(fire).filter(|&fire| fire > search.from))
    }

    fn last(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let fire = self.fire_time(search.asked, TimeZone::UTC)?;
        budget.spend(1)?;
        Ok(Some(fire).filter(|&fire| fire <= search.from))
    }

    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Date::At(instant) => write!(f, "at {}", rfc3339(*instant)),
            Date::AtWall(moment) => write!(f, "at {moment}"),
            Date::AfterMs(0) => f.write_str("now"),
            Date::AfterMs(delay) => {
                let (n, unit) = in_units([*delay]);
                write!(f, "after {}{unit}", n[0])
            }
        }
    }

    fn description(&self) -> String {
        match self {
            Date::At(instant) => format!("Once, at {}", rfc3339(*instant)),
            Date::AtWall(moment) => format!("Once, at {moment}"),
            Date::AfterMs(0) => "Once, when it is added".to_owned(),
            Date::AfterMs(delay) => format!("Once, {} after it is added", duration([*delay])),
        }
    }

    fn validate(&mut self, _end: Option<DateTime<Utc>>) -> Result<(), Error> {
        if let Date::At(instant) = self {
            *instant = whole_millis(*instant)?;
        }
        Ok(())
    }

    fn anchor(
        &mut self,
        _start: &mut Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        zone: TimeZone,
    ) -> Result<(), Error> {
        *self = Date::At(self.fire_time(now, zone)?);
        Ok(())
    }

    fn is_floating(&self) -> bool {
        !matches!(self, Date::At(_))
    }

    fn is_elapsed_time(&self) -> bool {
        matches!(self, Date::AfterMs(_))
    }

    fn shift(&mut self, by: TimeDelta, _start: Option<DateTime<Utc>>) {
        if let Date::At(instant) = self {
            *instant = instant.checked_add_signed(by).unwrap_or(*instant);
        }
    }

    fn fires_once(&self) -> bool {
        true
    }

    fn set_zone(&mut self, zone: TimeZone) -> Result<bool, Error> {
        let Date::AtWall(moment) = *self else { return Ok(false) };
        *self = match moment.in_tz(zone)?.into() {
            Date::At(instant) => Date::At(whole_millis(instant)?),
            date => date,
        };
        Ok(true)
    }
}

/// The serialized form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repr {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after_ms: Option<u64>,
}

impl From<Date> for Repr {
    fn from(date: Date) -> Repr {
        match date {
            Date::At(instant) => Repr { at: Some(Moment(Form::Instant(instant))), after_ms: None },
            Date::AfterMs(delay) => Repr { at: None, after_ms: Some(delay) },
            Date::AtWall(moment) => Repr { at: Some(moment), after_ms: None },
        }
    }
}

impl TryFrom<Repr> for Date {
    type Error = Error;

    fn try_from(repr: Repr) -> Result<Date, Error> {
        match (repr.at, repr.after_ms) {
            (Some(moment), None) => Ok(moment.into()),
            (None, Some(delay)) => Ok(Duration::from_millis(delay).into_moment()?.into()),
            _ => Err(Error::invalid_trigger(
                "a date has either `at` or `after_ms`: give it one of them",
            )),
        }
    }
}
