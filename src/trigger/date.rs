//! One fire time, given as an instant or as a delay.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{
    add_millis,
    cron::one_line,
    moment::{IntoMoment as _, Moment, Said},
    whole_millis,
    zone::ZoneRules,
};
use crate::{error::Error, zone::TimeZone};

/// A trigger with a single fire time; made by [`at`](super::at), [`after`](super::after) and
/// [`now`](super::now).
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
            Said::Instant(instant) => Date::At(instant),
            Said::Delay(delay) => Date::AfterMs(delay),
            Said::Wall(_) | Said::Time(..) => Date::AtWall(moment),
        }
    }
}

impl Date {
    /// When the clock of this zone shows it, if it goes by a wall clock.
    pub(super) fn in_tz(self, zone: TimeZone) -> Result<Option<Date>, Error> {
        match self {
            Date::AtWall(moment) => match moment.in_tz(zone)?.into() {
                Date::At(instant) => Ok(Some(Date::At(whole_millis(instant)?))),
                date => Ok(Some(date)),
            },
            _ => Ok(None),
        }
    }

    /// The fire time of this trigger if it is added at `now` and the wall clock is that of `zone`.
    pub(super) fn fire_time(
        &self,
        now: DateTime<Utc>,
        zone: TimeZone,
    ) -> Result<DateTime<Utc>, Error> {
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

/// How long [`after`](super::after) waits: a [`std::time::Duration`], a [`chrono::TimeDelta`], or a text
/// such as `"10 minutes"` or `"1h30m"`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a delay",
    note = "use a `std::time::Duration`, a `chrono::TimeDelta`, or a text such as \"10 minutes\"; for an instant, use `at`"
)]
pub trait IntoDelay {
    /// Reads the delay.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if it is negative, or the text is no delay.
    fn into_delay(self) -> Result<Duration, Error>;
}

impl IntoDelay for Duration {
    fn into_delay(self) -> Result<Duration, Error> {
        Ok(self)
    }
}

impl IntoDelay for TimeDelta {
    fn into_delay(self) -> Result<Duration, Error> {
        self.to_std().map_err(|_| {
            Error::invalid_trigger(format!(
                "{} ms is before the job is added: use a duration that is not negative",
                self.num_milliseconds()
            ))
        })
    }
}

impl IntoDelay for &str {
    fn into_delay(self) -> Result<Duration, Error> {
        let moment = self.parse().ok();
        match moment.map(|Moment(said)| said) {
            Some(Said::Delay(millis)) => Ok(Duration::from_millis(millis)),
            Some(_) => Err(Error::invalid_trigger(format!(
                "`{text}` is no delay: write `at(\"{text}\")`",
                text = one_line(self)
            ))),
            None => Err(Error::invalid_trigger(format!(
                "`{}` is no delay: write, for example, `10 minutes`, `90s` or `1h30m`",
                one_line(self)
            ))),
        }
    }
}

impl IntoDelay for String {
    fn into_delay(self) -> Result<Duration, Error> {
        self.as_str().into_delay()
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
            Date::At(instant) => Repr { at: Some(Moment(Said::Instant(instant))), after_ms: None },
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
