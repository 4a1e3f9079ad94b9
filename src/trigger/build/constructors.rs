//! The functions that make triggers.

use std::time::Duration;

use chrono::TimeDelta;

use super::{Build, IntoTriggers};
use crate::trigger::{
    instant::whole_millis,
    kinds::{And, CalendarInterval, Cron, CronFields, Custom, CustomTrigger, Date, Interval, Or},
    moment::{IntoDelay, IntoMoment},
};

/// Fires every so often: by words, by a number and a unit, or every duration of elapsed time.
///
/// | given | | see |
/// |---|---|---|
/// | words | `every("weekday at 9:00 Europe/Berlin")` | [`Words`](crate::trigger::Words) |
/// | a number, which is a `u64` | `every(10).minutes()`, `every(2).weeks().on(Mon).at("10:30")` | [`Words`](crate::trigger::Words) |
/// | two of them | `every(5).to(10).minutes()` | [`Random`](crate::trigger::Random) |
/// | a [`std::time::Duration`] or a [`chrono::TimeDelta`] | `every(Duration::from_secs(90))` | [`Interval`] |
///
/// The first fire of elapsed time is one period after the job is added, unless
/// [`Build::starting_at`] or `immediately` says otherwise. The period is a whole number of
/// milliseconds, at least one.
///
/// ```
/// use std::time::Duration;
/// use chrono::{DateTime, Utc};
/// use punctual::trigger::{every, IntoTrigger};
///
/// let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse()?;
/// let trigger = every(Duration::from_secs(90)).starting_at(start).into_trigger()?;
/// assert_eq!(trigger.next_after(start)?, Some("2026-01-01T00:01:30Z".parse()?));
/// assert_eq!(trigger, every(90).seconds().starting_at(start).into_trigger()?);
///
/// assert!(every(Duration::ZERO).into_trigger().unwrap_err().is_invalid_trigger());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn every<E: Every>(often: E) -> E::Output {
    often.every()
}

/// What [`every`] takes; its output differs with what it is given.
#[diagnostic::on_unimplemented(
    message = "`every` does not take a `{Self}`",
    note = "it takes words, as in `every(\"monday at 10:30\")`, a number, as in `every(10).minutes()`, which is a `u64`, a `std::time::Duration` or a `chrono::TimeDelta`"
)]
pub trait Every {
    /// The trigger, or what still has to be said before it is one.
    type Output;

    /// Called by [`every`].
    fn every(self) -> Self::Output;
}

impl Every for Duration {
    type Output = Build<Interval>;

    fn every(self) -> Build<Interval> {
        Build::new(Interval::new(i128::try_from(self.as_nanos()).ok()))
    }
}

impl Every for TimeDelta {
    type Output = Build<Interval>;

    fn every(self) -> Build<Interval> {
        let seconds = i128::from(self.num_seconds()) * 1_000_000_000;
        Build::new(Interval::new(Some(seconds + i128::from(self.subsec_nanos()))))
    }
}

/// Fires once, at this moment, rounded up to a whole millisecond.
///
/// It takes an instant, a date, a time of day, a delay or a text: [`Moment`](crate::trigger::Moment) lists the forms. One in the
/// past is due at once, and judged by the job's misfire grace time.
///
/// ```
/// use punctual::trigger::{IntoTrigger, at};
///
/// for text in [
///     "2026-12-01T10:30:00+01:00",       // an instant
///     "2026-12-01 10:30",                // a date and a time of day
///     "2026-12-01 10:30 Europe/Berlin",  // … in a zone
///     "2026-12-01",                      // its midnight
///     "6:30 pm",                         // the next 18:30
///     "noon Asia/Tokyo",                 // the next noon in Tokyo
///     "10 minutes",                      // so long after the job is added
/// ] {
///     assert!(at(text).into_trigger().is_ok());
/// }
///
/// let trigger = at("2026-12-01 10:30 Europe/Berlin").into_trigger()?;
/// assert_eq!(trigger, at("2026-12-01T10:30:00+01:00").into_trigger()?);
/// // As the clock of the scheduler's zone shows it.
/// assert_eq!(at("2026-12-01 10:30").into_trigger()?.to_string(), "at 2026-12-01T10:30:00");
/// # Ok::<(), punctual::Error>(())
/// ```
pub fn at(moment: impl IntoMoment) -> Build<Date> {
    let date = moment.into_moment().map(Date::from);
    Build::new(date.and_then(|date| match date {
        Date::At(instant) => whole_millis(instant).map(Date::At),
        date => Ok(date),
    }))
}

/// Fires once, `delay` after the job is added, rounded up to a whole millisecond.
///
/// It takes a duration or a text: see [`IntoDelay`].
///
/// ```
/// use std::time::Duration;
/// use chrono::TimeDelta;
/// use punctual::trigger::{IntoTrigger, after};
///
/// let trigger = after(Duration::from_secs(90)).into_trigger()?;
/// assert_eq!(trigger, after(TimeDelta::seconds(90)).into_trigger()?);
/// assert_eq!(trigger, after("90s").into_trigger()?);
///
/// assert!(after("18:00").into_trigger().unwrap_err().is_invalid_trigger());
/// # Ok::<(), punctual::Error>(())
/// ```
pub fn after(delay: impl IntoDelay) -> Build<Date> {
    Build::new(delay.into_delay().and_then(|delay| delay.into_moment().map(Date::from)))
}

/// Fires once, as soon as the job is added.
pub fn now() -> Build<Date> {
    after(Duration::ZERO)
}

/// Fires when the wall clock matches a crontab text; see [`Cron`] for what it may say.
///
/// The zone is the scheduler's default, which is UTC unless its builder says otherwise, or the one
/// given to [`Build::in_tz`].
///
/// ```
/// use chrono_tz::Europe::Berlin;
/// use punctual::trigger::{cron, IntoTrigger};
///
/// let trigger = cron("30 8 * * MON-FRI").in_tz(Berlin).into_trigger()?;
/// let friday = "2026-11-20T12:00:00Z".parse()?;
/// assert_eq!(trigger.next_after(friday)?, Some("2026-11-23T07:30:00Z".parse()?));
///
/// let error = cron("61 * * * *").into_trigger().unwrap_err();
/// assert!(error.to_string().contains("61"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn cron(expression: impl AsRef<str>) -> Build<Cron> {
    Build::new(Cron::parse(expression.as_ref()))
}

/// Fires when the wall clock matches fields given by name; see [`CronFields`] for what they may say.
///
/// The zone is the scheduler's default, which is UTC unless its builder says otherwise, or the one
/// given to [`Build::in_tz`].
///
/// ```
/// use punctual::trigger::{IntoTrigger, cron_fields};
///
/// let trigger = cron_fields().day("3rd fri").hour("9, 17").into_trigger()?;
/// let november = "2026-11-01T00:00:00Z".parse()?;
/// assert_eq!(trigger.next_after(november)?, Some("2026-11-20T09:00:00Z".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn cron_fields() -> Build<CronFields> {
    CronFields::builder()
}

/// Fires every so many years, months, weeks and days, at one time of day; see [`CalendarInterval`].
///
/// The time is midnight unless [`Build::at`] says otherwise. The zone is the scheduler's default, or
/// the one given to [`Build::in_tz`].
///
/// ```
/// use chrono_tz::Europe::Berlin;
/// use punctual::trigger::{calendar_interval, IntoTrigger};
///
/// let start = "2026-01-31".parse()?;
/// let trigger = calendar_interval().months(1).at("10:30").starting_on(start).in_tz(Berlin);
/// let trigger = trigger.into_trigger()?;
/// // There is no 31 February.
/// let january = "2026-01-31T12:00:00Z".parse()?;
/// assert_eq!(trigger.next_after(january)?, Some("2026-03-31T08:30:00Z".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn calendar_interval() -> Build<CalendarInterval> {
    Build::new(Ok(CalendarInterval::new()))
}

/// Fires at the instants that all of these triggers name; see [`And`].
///
/// ```
/// use std::time::Duration;
/// use chrono::{DateTime, Utc};
/// use punctual::trigger::{IntoTrigger, and, every};
///
/// let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse()?;
/// let minutes = |n: u64| every(Duration::from_secs(60 * n)).starting_at(start);
/// let trigger = and([minutes(6), minutes(10)]).into_trigger()?;
/// assert_eq!(trigger.next_after(start)?, Some("2026-01-01T00:30:00Z".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn and(triggers: impl IntoTriggers) -> Build<And> {
    Build::new(triggers.into_triggers().and_then(And::new))
}

/// Fires at each instant that any of these triggers names, once; see [`Or`].
///
/// ```
/// use punctual::trigger::{IntoTrigger, calendar_interval, cron, or};
///
/// let paydays = (cron("0 12 15 * *"), calendar_interval().weeks(2).at("12:00"));
/// assert!(or(paydays).into_trigger().is_ok());
/// ```
pub fn or(triggers: impl IntoTriggers) -> Build<Or> {
    Build::new(triggers.into_triggers().and_then(Or::new))
}

/// Fires whenever a type of the user's own says; such a job lives in memory only.
pub fn custom(trigger: impl CustomTrigger) -> Build<Custom> {
    Build::new(Ok(Custom::new(trigger)))
}
