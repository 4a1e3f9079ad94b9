//! When a job fires: pure functions from an instant to the next fire time.
//!
//! | constructor | fires |
//! |---|---|
//! | [`every`] | on a grid of elapsed time, at random distances, or on days that are said in [words](Words) |
//! | [`at`], [`after`], [`now`] | once |
//! | [`cron`] | when the wall clock of a zone matches a crontab text |
//! | [`cron_fields`] | when the wall clock of a zone matches fields given by name |
//! | [`calendar_interval`] | every so many years, months, weeks and days, at a time of day |
//! | [`and`], [`or`] | at the instants that all of several triggers name, or any of them |
//! | [`custom`] | whenever a type of your own says |
//! | [`after_success`], [`after_failure`], [`after_any`] | never: its job runs after the runs of another |
//!
//! Each returns a [`Build`], which takes bounds (`starting_at`, `until`, `times`), a first fire
//! (`first_at`, `immediately`), days (`only`, `except`), hours (`between`) and what its kind has
//! besides. Mistakes surface when the trigger is used: at `.await?` of an `add`, or at
//! [`IntoTrigger::into_trigger`]. A text may say all of that as well: see [`IntoTrigger`].
//!
//! A [`Trigger`] is data: it can be compared, printed and serialized. It is stateless, so the same
//! question always has the same answer. Fire times are whole milliseconds.
//!
//! # Daylight saving
//!
//! Intervals, random ones and dates are elapsed time, or instants: no clock changes them. All
//! others go by the wall clock of a zone, and have [`gap`](Build::gap) and [`fold`](Build::fold) to
//! choose what happens when it is set forward or back. A *fixed-time* trigger is a timetable, and a
//! cron pattern whose minute and hour fields both do not start with `*`. In 2026:
//!
//! | | fixed-time, as `30 2 * * *` | any other, as `*/30 * * * *` |
//! |---|---|---|
//! | Berlin, 03-29: from 02:00 CET to 03:00 CEST | 02:30 fires at 03:00 CEST ([`Gap::Next`]) | 01:30 CET, 03:00 CEST ([`Gap::Skip`]) |
//! | Berlin, 10-25: from 03:00 CEST to 02:00 CET | 02:30 CEST ([`Fold::First`]) | 02:00, 02:30 CEST, 02:00, 02:30 CET ([`Fold::Both`]) |
//! | New York, 03-08: from 02:00 EST to 03:00 EDT | 02:30 fires at 03:00 EDT | 01:30 EST, 03:00 EDT |
//! | New York, 11-01: from 02:00 EDT to 01:00 EST | 02:30 EST, which is shown once | 01:00, 01:30 EDT, 01:00, 01:30 EST |
//!
//! [`Gap`] and [`Fold`] have the tables for each choice. The rules of zones are the newest to be had,
//! the machine's or those compiled in: see [`time_zone_data`](crate::time_zone_data).
//!
//! # Serialized form
//!
//! Stores keep triggers as JSON, which stays readable by later versions. `"type"` says the kind:
//!
//! | kind | example |
//! |---|---|
//! | [`Date`] | `{"type":"date","at":"2026-11-20T12:00:00Z"}`, with another [`Moment`], or `{"type":"date","after_ms":10000}` |
//! | [`Interval`] | `{"type":"interval","period_ms":90000}`, with `"immediate":true` |
//! | [`Random`] | `{"type":"random","min_ms":300000,"max_ms":600000}`, with `"immediate":true`, `"seed":0` |
//! | [`Timetable`] | `{"type":"timetable","words":"every monday at 10:30"}`, with `"from":"2026-11-23"` |
//! | [`Cron`] | `{"type":"cron","expression":"30 8 * * MON-FRI"}`, with `"dom_and_dow":true` |
//! | [`CronFields`] | `{"type":"cron_fields","day":"3rd fri","hour":"3"}` |
//! | [`CalendarInterval`] | `{"type":"calendar_interval","months":1,"time":"09:30:00"}`, with `"start_date":"2026-01-31"` |
//! | [`And`], [`Or`] | `{"type":"or","triggers":[…]}` |
//! | [`Follow`] | `{"type":"follow","job":"extract","on":"success"}`, or `"failure"` or `"any"`; `"jobs":["extract","load"]` |
//! | [`Custom`] | none: it lives in memory only |
//!
//! Those that go by a wall clock have `"zone":"Europe/Berlin"`, `"gap":"next"` or `"skip"`, and
//! `"fold":"first"`, `"last"` or `"both"` besides; all have `"start"`, `"first"` and `"end"`, which
//! are instants, or the texts of other [`Moment`]s until a job is added; `"elapsed_end"`, the instant
//! that an end amounts to which counts from when the job is added; `"times"`, and `"times_since"` and
//! `"last"`, from when they are counted and which instant is the last of them; `"only"` and
//! `"except"`, which are [`Days`], `"between":["10:00","12:00"]`, and `"day_zone"`, whose days and
//! hours those are, once a job of a trigger without a zone of its own is added. What was not
//! said is left out. A key that is none of these is an error, as is a value that the builders would
//! refuse.

mod build;
mod calendar;
mod combine;
mod cron;
mod custom;
mod date;
#[cfg(test)]
mod dates_tests;
mod days;
#[cfg(test)]
mod family_tests;
mod follow;
#[cfg(test)]
mod instant_tests;
mod interval;
mod moment;
mod pasted;
mod random;
mod search;
#[cfg(test)]
mod tests;
mod text;
mod time_of_day;
mod timetable;
mod window;
mod words;
#[cfg(test)]
mod words_tests;
mod zone;

use std::{fmt, num::NonZeroU64, sync::Arc, time::Duration};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

pub(crate) use self::text::Short;
#[cfg(feature = "testing")]
pub(crate) use self::zone::changes;
pub use self::{
    build::{Build, IntoTrigger},
    calendar::CalendarInterval,
    combine::{And, IntoTriggers, Or},
    cron::{Cron, CronFields},
    custom::{Custom, CustomTrigger},
    date::{Date, IntoDelay},
    days::{Days, IntoDays},
    follow::{Follow, FollowOn, after_all, after_any, after_failure, after_success},
    interval::Interval,
    moment::{IntoMoment, Moment},
    random::Random,
    text::Upcoming,
    time_of_day::IntoTimeOfDay,
    timetable::Timetable,
    words::{Count, OnDays, Words},
    zone::{Fold, Gap, InZone},
};
use self::{
    combine::Members,
    days::{DayFilter, Said},
    moment::Bounds,
    search::{Budget, before, just_after, leapfrog},
    window::Window,
    zone::ZoneRules,
};
pub use crate::zone::IntoTimeZone;
use crate::{error::Error, zone::TimeZone};

/// Fires every so often: by words, by a number and a unit, or every duration of elapsed time.
///
/// | given | | see |
/// |---|---|---|
/// | words | `every("weekday at 9:00 Europe/Berlin")` | [`Words`] |
/// | a number, which is a `u64` | `every(10).minutes()`, `every(2).weeks().on(Mon).at("10:30")` | [`Words`] |
/// | two of them | `every(5).to(10).minutes()` | [`Random`] |
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
/// It takes an instant, a date, a time of day, a delay or a text: [`Moment`] lists the forms. One in the
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

/// When a job fires.
///
/// Made by the functions of this [module](self). Bounds are inclusive. What depends on when a job
/// is added (where an interval's grid starts, what `after` counts from, the default zone) is filled
/// in by [`anchored`](Trigger::anchored), which `add` calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Repr")]
pub struct Trigger {
    #[serde(flatten)]
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<DateTime<Utc>>,
    /// In a box, since few triggers have any and all take the room.
    #[serde(flatten)]
    limits: Option<Box<Limits>>,
}

/// What makes a trigger fire less often than its kind says.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Limits {
    /// The bounds that wait for a zone or for when the job is added.
    #[serde(flatten)]
    open: Bounds,
    /// A fire time before all others, which its kind need not name.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<NonZeroU64>,
    /// From when `times` are counted, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    times_since: Option<DateTime<Utc>>,
    /// The end that counts from when the job was added, or from its start: where that is elapsed time, so
    /// is the end, and moves with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    elapsed_end: Option<DateTime<Utc>>,
    /// The last fire time that `times` leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<DateTime<Utc>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    days: Option<Arc<DayFilter>>,
}

impl Limits {
    const NONE: &Limits = &Limits {
        open: Bounds { start: None, first: None, end: None },
        first: None,
        end: None,
        times: None,
        times_since: None,
        elapsed_end: None,
        last: None,
        days: None,
    };

    fn are_none(&self) -> bool {
        let Limits { open, first, end, times, times_since: _, elapsed_end, last, days } = self;
        open.is_empty()
            && first.is_none()
            && end.is_none()
            && times.is_none()
            && elapsed_end.is_none()
            && last.is_none()
            && days.is_none()
    }

    /// The last instant that the bounds allow, a number of times aside.
    fn until(&self) -> Option<DateTime<Utc>> {
        [self.end, self.elapsed_end].into_iter().flatten().min()
    }
}

/// What a trigger goes by. It prints as [`Trigger`] does, without bounds and options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// One fire time.
    Date(Date),
    /// A grid of elapsed time.
    Interval(Interval),
    /// A pattern of wall-clock readings.
    Cron(Cron),
    /// The same, given as fields.
    CronFields(CronFields),
    /// Dates so many years, months, weeks and days apart.
    CalendarInterval(CalendarInterval),
    /// The instants that several triggers name, all of them.
    And(And),
    /// The instants that several triggers name, any of them.
    Or(Or),
    /// Certain days at certain times of day.
    Timetable(Timetable),
    /// Random distances of elapsed time.
    Random(Box<Random>),
    /// Another job's runs, in place of fire times.
    Follow(Box<Follow>),
    /// A type of the user's own. It has no serialized form.
    #[serde(skip_deserializing)]
    Custom(Custom),
}

/// A trigger as it is read, before it is known to make sense.
#[derive(Deserialize)]
struct Repr {
    #[serde(flatten)]
    kind: Kind,
    start: Option<Moment>,
    first: Option<Moment>,
    end: Option<Moment>,
    times: Option<NonZeroU64>,
    times_since: Option<DateTime<Utc>>,
    elapsed_end: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    only: Option<Days>,
    except: Option<Days>,
    between: Option<Window>,
    day_zone: Option<TimeZone>,
}

impl TryFrom<Repr> for Trigger {
    type Error = Error;

    fn try_from(repr: Repr) -> Result<Trigger, Error> {
        let Repr { only, except, between, day_zone, .. } = repr;
        let limits = Limits {
            open: Bounds { start: repr.start, first: repr.first, end: repr.end },
            times: repr.times,
            times_since: repr.times_since,
            elapsed_end: repr.elapsed_end,
            last: repr.last,
            days: DayFilter::new(Said { only, except, between }, day_zone)?,
            ..Limits::default()
        };
        Trigger::new(repr.kind, limits).validated()
    }
}

impl Trigger {
    fn new(kind: Kind, limits: Limits) -> Trigger {
        Trigger { kind, start: None, limits: None }.with_limits(limits)
    }

    fn limits(&self) -> &Limits {
        self.limits.as_deref().unwrap_or(Limits::NONE)
    }

    fn with_limits(mut self, limits: Limits) -> Trigger {
        self.limits = (!limits.are_none()).then(|| Box::new(limits));
        self
    }

    /// What the trigger goes by.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The first instant at which the trigger may fire, if it is known: a start that depends on a
    /// zone, or on when the job is added, is once the trigger is [anchored](Trigger::anchored).
    pub fn start(&self) -> Option<DateTime<Utc>> {
        self.start
    }

    /// The last instant at which the trigger may fire, if it is known, as [`start`](Trigger::start).
    pub fn end(&self) -> Option<DateTime<Utc>> {
        let limits = self.limits.as_deref()?;
        [limits.until(), limits.last].into_iter().flatten().min()
    }

    /// The end up to which a run for this fire time may start: that of the trigger, or of those members of
    /// a combination that name it. A number of times is no such end.
    pub(crate) fn end_for(&self, fire_time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let of_members = match &self.kind {
            Kind::And(and) => and.triggers().filter_map(|it| it.end_for(fire_time)).min(),
            // Of several members that name it, the one that ends last lets it start.
            Kind::Or(or) => {
                let naming = or.triggers().filter(|it| it.names(fire_time));
                let ends: Option<Vec<_>> = naming.map(|it| it.end_for(fire_time)).collect();
                ends.and_then(|ends| ends.into_iter().max())
            }
            _ => None,
        };
        [self.limits().until(), of_members].into_iter().flatten().min()
    }

    fn names(&self, t: DateTime<Utc>) -> bool {
        self.last_at_or_before(t).is_ok_and(|last| last == Some(t))
    }

    /// The first fire time strictly later than `t`.
    ///
    /// A trigger that has not been [anchored](Trigger::anchored) counts from `t`: an interval
    /// without a start answers `t` plus one period.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if a custom trigger broke its rules;
    /// [`is_search_exhausted`](Error::is_search_exhausted) if triggers that are combined, or days
    /// that are left out, made the search too long. Then there may be a fire time further off.
    pub fn next_after(&self, t: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        // Fire times are whole milliseconds.
        self.next_within(floor_millis(t), DateTime::<Utc>::MAX_UTC, &mut Budget::for_one())
            .map_err(|error| self.explained(error, t))
    }

    /// The last fire time that is not later than `t`.
    ///
    /// This is what makes catching up cost the same, however long the outage.
    ///
    /// # Errors
    ///
    /// As [`next_after`](Trigger::next_after).
    pub fn last_at_or_before(&self, t: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        self.last_within(floor_millis(t), DateTime::<Utc>::MIN_UTC, &mut Budget::for_one())
            .map_err(|error| self.explained(error, t))
    }

    /// The first fire time strictly later than `t`, if it is not later than `hi`.
    fn next_within(
        &self,
        t: DateTime<Utc>,
        hi: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        if self.has_open_bounds() || self.is_searched() && self.is_floating() {
            return self.anchored(t, TimeZone::UTC)?.next_within(t, hi, budget);
        }
        // Just before the start nothing has fired yet.
        let from = match self.start.and_then(|start| add_millis(start, -1)) {
            Some(before) if before > t => before,
            _ => t,
        };
        let hi = self.end().map_or(hi, |end| end.min(hi));
        if from >= hi {
            return Ok(None);
        }
        if let Some(first) = self.limits().first.filter(|&first| t < first) {
            return Ok(Some(first).filter(|&first| first <= hi));
        }
        let next = match self.shown_filter() {
            None => self.next_of_kind(t, from, hi, budget)?,
            Some(days) => {
                let Some(from) = just_after(from) else { return Ok(None) };
                let zone = self.day_zone();
                let next = leapfrog(2, from, budget, |turn, at, budget| {
                    let next = match turn {
                        0 => self.next_of_kind(before(at), before(at), hi, budget)?,
                        _ => days.at_or_after(zone, at, self.names_dates(), budget)?,
                    };
                    Ok(next.filter(|&next| next <= hi))
                });
                self.unless_never_allowed(next)?
            }
        };
        self.later(t, next.filter(|&next| next <= hi))
    }

    /// An answer to what follows `t`, if it does: a fire time that does not would come again and
    /// again.
    fn later(
        &self,
        t: DateTime<Utc>,
        next: Option<DateTime<Utc>>,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        match next {
            Some(next) if next <= t => Err(self.disordered(next, "follows", t, "a later")),
            next => Ok(next),
        }
    }

    #[cold]
    fn disordered(
        &self,
        answer: DateTime<Utc>,
        asked: &str,
        t: DateTime<Utc>,
        right: &str,
    ) -> Error {
        Error::invalid_trigger(format!(
            "the trigger `{self}` answered {} when asked for what {asked} {}: it must answer with {right} instant",
            rfc3339(answer),
            rfc3339(t)
        ))
    }

    fn next_of_kind(
        &self,
        t: DateTime<Utc>,
        from: DateTime<Utc>,
        hi: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let days = self.named_days();
        let next = match &self.kind {
            Kind::Date(date) => Some(date.fire_time(t, TimeZone::UTC)?).filter(|&fire| fire > from),
            Kind::Interval(interval) => match self.start {
                Some(start) => interval.next_after(start, t),
                None => interval.nth(t, 1),
            },
            Kind::Cron(cron) => cron.zoned().next_on(days, from, hi, budget)?,
            Kind::CronFields(fields) => fields.zoned().next_on(days, from, hi, budget)?,
            Kind::Timetable(timetable) => {
                timetable.zoned(&timetable.dates()).next_on(days, from, hi, budget)?
            }
            Kind::Random(random) => match self.start {
                Some(start) => random.next_after(start, t),
                None => {
                    let start = random.start(t);
                    start.and_then(|start| random.next_after(start, t))
                }
            },
            Kind::CalendarInterval(calendar) => calendar.next_after(days, from, hi, budget)?,
            Kind::And(and) => return and.next_after(from, hi, budget),
            Kind::Or(or) => return or.next_after(from, hi, budget),
            Kind::Follow(_) => None,
            Kind::Custom(custom) => custom.next_after(from)?,
        };
        self.pay(from, next, 1, budget)?;
        Ok(next)
    }

    /// The last fire time that is not later than `t`, if it is not earlier than `lo`.
    fn last_within(
        &self,
        t: DateTime<Utc>,
        lo: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        if self.has_open_bounds() || self.is_searched() && self.is_floating() {
            return self.anchored(t, TimeZone::UTC)?.last_within(t, lo, budget);
        }
        let to = floor_millis(self.end().map_or(t, |end| t.min(end)));
        let lo = self.start.map_or(lo, |start| start.max(lo));
        if to < lo {
            return Ok(None);
        }
        let first = self.limits().first;
        if first.is_some_and(|first| to < first) {
            return Ok(None);
        }
        // What comes before the first fire does not count.
        let (first, lo) =
            (first.filter(|&first| first >= lo), first.map_or(lo, |first| first.max(lo)));
        let last = match self.shown_filter() {
            None => self.last_of_kind(t, to, lo, budget)?,
            Some(days) => {
                let Some(to) = just_after(to).map(before) else { return Ok(None) };
                let zone = self.day_zone();
                let last = leapfrog(2, to, budget, |turn, at, budget| {
                    let last = match turn {
                        0 => self.last_of_kind(at, at, lo, budget)?,
                        _ => days.at_or_before(zone, at, self.names_dates(), budget)?,
                    };
                    Ok(last.filter(|&last| last >= lo))
                });
                self.unless_never_allowed(last)?
            }
        };
        match last.filter(|&last| last >= lo).or(first) {
            Some(last) if last > t => {
                Err(self.disordered(last, "is not later than", t, "no later"))
            }
            last => Ok(last),
        }
    }

    fn last_of_kind(
        &self,
        t: DateTime<Utc>,
        to: DateTime<Utc>,
        lo: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let days = self.named_days();
        let last = match &self.kind {
            Kind::Date(date) => Some(date.fire_time(t, TimeZone::UTC)?).filter(|&fire| fire <= to),
            Kind::Interval(interval) => {
                self.start.and_then(|start| interval.last_at_or_before(start, to))
            }
            Kind::Cron(cron) => cron.zoned().last_on(days, to, lo, budget)?,
            Kind::CronFields(fields) => fields.zoned().last_on(days, to, lo, budget)?,
            Kind::CalendarInterval(calendar) => calendar.zoned().last_on(days, to, lo, budget)?,
            Kind::And(and) => return and.last_at_or_before(to, lo, budget),
            Kind::Or(or) => return or.last_at_or_before(to, lo, budget),
            Kind::Timetable(timetable) => {
                timetable.zoned(&timetable.dates()).last_on(days, to, lo, budget)?
            }
            Kind::Random(random) => {
                self.start.and_then(|start| random.last_at_or_before(start, to))
            }
            Kind::Follow(_) => None,
            Kind::Custom(custom) => custom.last_at_or_before(to)?,
        };
        self.pay(to, last, 100, budget)?;
        Ok(last)
    }

    /// Pays for a search that took place, which called a type of the user's own so many times.
    fn pay(
        &self,
        from: DateTime<Utc>,
        to: Option<DateTime<Utc>>,
        calls: u32,
        budget: &mut Budget,
    ) -> Result<(), Error> {
        // The search for a date on one of the days has paid for itself.
        if self.named_days().is_some() {
            return Ok(());
        }
        match &self.kind {
            Kind::Cron(_) | Kind::CronFields(_) | Kind::CalendarInterval(_) => {
                budget.spend_on_calendar(from, to, 1)
            }
            // It looks at each day, week or month that its steps leave.
            Kind::Timetable(_) => budget.spend_on_calendar(from, to, 12),
            Kind::Custom(_) => budget.spend(4 * calls),
            _ => budget.spend(1),
        }
    }

    /// Nothing, instead of an exhausted search, if it is certain that days and fire times exclude
    /// each other.
    fn unless_never_allowed(
        &self,
        found: Result<Option<DateTime<Utc>>, Error>,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let is_never = || {
            let (grid, days) = self.grid_of_kind().zip(self.days())?;
            Some(days.never_meets(self.day_zone(), grid))
        };
        match found {
            Err(error) if error.is_search_exhausted() && is_never() == Some(true) => Ok(None),
            found => found,
        }
    }

    fn explained(&self, error: Error, t: DateTime<Utc>) -> Error {
        if !error.is_search_exhausted() {
            return error;
        }
        if let Some(reason) = self.why_never() {
            return Error::search_exhausted(format!("`{self}` hardly ever fires: {reason}"));
        }
        let remedy = match self.days() {
            Some(_) => "allow more days or hours, or fire more often",
            None => "combine what agrees more often",
        };
        Error::search_exhausted(format!(
            "the search from {} for a fire time of `{self}` ran out of its budget: there may be one further off or none, so {remedy}",
            rfc3339(t)
        ))
    }

    /// Why it has no fire times, and what would give it some, if that can be told.
    pub(crate) fn why_never(&self) -> Option<String> {
        match &self.kind {
            Kind::And(and) => and.why_never(),
            _ => None,
        }
    }

    /// Whether its fire times are searched for, so that the search may run out of its budget.
    fn is_searched(&self) -> bool {
        self.days().is_some() || matches!(self.kind, Kind::And(_) | Kind::Or(_))
    }

    /// Whether bounds wait for a zone or for when the job is added.
    fn has_open_bounds(&self) -> bool {
        self.limits.as_ref().is_some_and(|limits| !limits.open.is_empty())
    }

    /// Whether its answers depend on when the job is added.
    fn is_floating(&self) -> bool {
        if self.has_open_bounds() {
            return true;
        }
        match &self.kind {
            Kind::Date(date) => !matches!(date, Date::At(_)),
            Kind::Interval(_) | Kind::Random(_) => self.start.is_none(),
            Kind::Timetable(timetable) => timetable.is_floating(),
            Kind::CalendarInterval(calendar) => calendar.is_floating(),
            Kind::And(and) => and.members().is_floating(),
            Kind::Or(or) => or.members().is_floating(),
            Kind::Cron(_) | Kind::CronFields(_) | Kind::Follow(_) | Kind::Custom(_) => false,
        }
    }

    /// The grid on which all its fire times lie, if days and the end are left aside.
    fn grid(&self) -> Option<search::Grid> {
        self.grid_of_kind().filter(|_| self.limits().first.is_none())
    }

    /// The same, if a first fire is left aside as well.
    fn grid_of_kind(&self) -> Option<search::Grid> {
        match &self.kind {
            Kind::Interval(interval) => Some(search::Grid::new(self.start?, interval.period_ms())),
            Kind::And(and) => and.grid(),
            _ => None,
        }
    }

    fn days(&self) -> Option<&Arc<DayFilter>> {
        self.limits().days.as_ref()
    }

    /// Whether its fire times are those of its kind, but for the bounds.
    fn is_plain(&self) -> bool {
        self.days().is_none() && self.limits().first.is_none()
    }

    /// The days that pick from the dates that the trigger names, if it goes by a wall clock.
    fn named_days(&self) -> Option<&DayFilter> {
        self.days().filter(|days| days.has_days() && self.names_dates()).map(|days| &**days)
    }

    /// The days that pick from the dates that a calendar shows at its fire times, if it does not.
    fn shown_filter(&self) -> Option<&DayFilter> {
        let is_shown = |days: &&Arc<DayFilter>| days.between().is_some() || !self.names_dates();
        self.days().filter(is_shown).map(|days| &**days)
    }

    /// Whether its fire times are dates and times of day, which a gap may move.
    fn names_dates(&self) -> bool {
        matches!(
            self.kind,
            Kind::Cron(_) | Kind::CronFields(_) | Kind::Timetable(_) | Kind::CalendarInterval(_)
        )
    }

    fn without_days(&self) -> Trigger {
        self.clone().with_limits(Limits { days: None, ..self.limits().clone() })
    }

    /// The zone whose calendar says which day it is.
    fn day_zone(&self) -> TimeZone {
        let own = match &self.kind {
            Kind::Cron(cron) => cron.zone(),
            Kind::CronFields(fields) => fields.zone(),
            Kind::Timetable(timetable) => timetable.zone(),
            Kind::CalendarInterval(calendar) => calendar.zone(),
            _ => None,
        };
        own.or_else(|| self.days()?.zone()).unwrap_or(TimeZone::UTC)
    }

    /// The same trigger with everything filled in that depends on when a job is added: where the
    /// grid of an interval or the dates of a calendar interval start, what a delay counts from, the
    /// zone of what goes by a wall clock or by days, and the end that `times` amounts to. So it is
    /// for the members of a combination.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if that is not possible.
    pub fn anchored(&self, now: DateTime<Utc>, zone: impl IntoTimeZone) -> Result<Trigger, Error> {
        let (now, zone) = (whole_millis(now)?, zone.into_time_zone()?);
        let mut anchored = self.clone();
        anchored.resolve_bounds(now, zone)?;
        match &mut anchored.kind {
            Kind::Date(date) => *date = Date::At(date.fire_time(now, zone)?),
            Kind::Interval(interval) => {
                if anchored.start.is_none() {
                    anchored.start = interval.nth(now, 1);
                    if anchored.start.is_none() {
                        return Err(Error::invalid_trigger(format!(
                            "a period of {} ms reaches past the end of the calendar: use a shorter one",
                            interval.period_ms()
                        )));
                    }
                }
            }
            Kind::Cron(cron) => cron.anchor(zone),
            Kind::CronFields(fields) => fields.anchor(zone),
            Kind::CalendarInterval(calendar) => {
                calendar.anchor(anchored.start.unwrap_or(now), zone)?;
            }
            Kind::And(and) => and.anchor(now, zone)?,
            Kind::Or(or) => or.anchor(now, zone)?,
            Kind::Timetable(timetable) => {
                timetable.anchor(just_before(anchored.start.unwrap_or(now))?, zone);
            }
            Kind::Random(random) => {
                if anchored.start.is_none() {
                    anchored.start = random.start(now);
                    if anchored.start.is_none() {
                        return Err(Error::invalid_trigger(format!(
                            "a period of {} ms reaches past the end of the calendar: use a shorter one",
                            random.min_ms()
                        )));
                    }
                }
            }
            Kind::Follow(_) | Kind::Custom(_) => {}
        }
        if anchored.limits.is_none() {
            return Ok(anchored);
        }
        let mut limits = anchored.limits().clone();
        if let Some(days) = &mut limits.days
            && days.zone().is_none()
            && !self.names_dates()
        {
            *days = Arc::new(days.in_tz(zone));
        }
        // An end that has passed may be earlier than a start that counts from now: bounds that the user
        // gave are refused if they contradict each other.
        let from = [anchored.start, limits.first, self.is_floating().then_some(now)];
        if let Some(end) = limits.end
            && from.into_iter().flatten().any(|from| end < from)
        {
            limits.end = None;
            limits.elapsed_end = Some(limits.elapsed_end.map_or(end, |known| known.min(end)));
        }
        limits.first =
            limits.first.filter(|&first| anchored.start.is_none_or(|start| start <= first));
        anchored = anchored.with_limits(limits.clone());
        if let Some(times) = limits.times
            && (limits.times_since.is_none() || limits.last.is_none())
        {
            let since = *limits.times_since.get_or_insert(anchored.start.unwrap_or(now));
            let last = anchored.nth(anchored.first_when_added(since)?, times)?;
            limits.last = last.into_iter().chain(limits.last).min();
            anchored = anchored.with_limits(limits);
        }
        Ok(anchored)
    }

    /// Whether the fire times depend on the rules of a time zone.
    pub(crate) fn goes_by_wall_clock(&self) -> bool {
        self.names_dates()
            || self.days().is_some()
            || self.kind.members().is_some_and(Members::any_goes_by_wall_clock)
    }

    /// Fills in what waits for a zone or for when the job is added.
    fn resolve_bounds(&mut self, now: DateTime<Utc>, zone: TimeZone) -> Result<(), Error> {
        let is_immediate = match &mut self.kind {
            // The grid starts with the first fire, and needs no mark once it does.
            Kind::Interval(interval) => std::mem::take(&mut interval.immediate),
            Kind::Random(random) => random.immediate && self.start.is_none(),
            _ => false,
        };
        if !is_immediate && !self.has_open_bounds() {
            return Ok(());
        }
        let mut limits = self.limits().clone();
        let open = std::mem::take(&mut limits.open);
        let rules = self.kind.rules().copied().unwrap_or_default();
        let rules = ZoneRules { zone: rules.zone.or(Some(zone)), ..rules };
        let resolved = |moment: Option<Moment>, from| {
            moment.map(|moment| moment.resolve(from, rules)).transpose()
        };
        if let Some(start) = resolved(open.start, now)? {
            self.start = Some(whole_millis(start)?);
        }
        let first = open.first.or(is_immediate.then_some(Moment::NOW));
        if let Some(first) = resolved(first, now)? {
            limits.first = Some(whole_millis(first)?);
        }
        // A time of day is the next after the start.
        let base = self.start.or(limits.first).unwrap_or(now);
        let from = match open.end {
            Some(end) if !end.is_delay() => just_after(base).unwrap_or(base),
            _ => base,
        };
        if let Some(end) = resolved(open.end, from)?.map(floor_millis) {
            match open.end.is_some_and(Moment::is_delay) {
                true => limits.elapsed_end = Some(end),
                false => limits.end = Some(end),
            }
        }
        *self = self.clone().with_limits(limits);
        // What counts from when the job is added contradicts nothing: it may come too late.
        let is_fixed = |moment: Option<Moment>| moment.is_none_or(Moment::is_fixed);
        let is_first_fixed = !is_immediate && is_fixed(open.first);
        self.check_bounds(is_fixed(open.start), is_first_fixed)?;
        self.start_grid_at_first();
        Ok(())
    }

    /// Makes the first fire the start of a grid that has none.
    fn start_grid_at_first(&mut self) {
        let Some(first) = self.limits().first.filter(|_| self.start.is_none()) else { return };
        match &mut self.kind {
            Kind::Interval(_) => {}
            Kind::Random(random) => random.immediate = true,
            _ => return,
        }
        self.start = Some(first);
        if self.days().is_none() {
            let limits = Limits { first: None, ..self.limits().clone() };
            *self = self.clone().with_limits(limits);
        }
    }

    fn check_bounds(&self, with_start: bool, with_first: bool) -> Result<(), Error> {
        let Limits { open, first, .. } = *self.limits();
        let end = self.limits().until();
        let moment = |said: Option<Moment>, known: Option<DateTime<Utc>>| {
            said.or(known.and_then(|known| known.into_moment().ok()))
        };
        Bounds {
            start: moment(open.start, self.start).filter(|_| with_start),
            first: moment(open.first, first).filter(|_| with_first),
            end: moment(open.end, end),
        }
        .check()
    }

    /// Whether the fire times are counted from when the job is added, and so are elapsed time.
    pub(crate) fn is_elapsed_time(&self) -> bool {
        match &self.kind {
            Kind::Date(date) => matches!(date, Date::AfterMs(_)),
            Kind::Interval(_) | Kind::Random(_) => {
                let open = self.limits().open;
                self.start.is_none() && open.start.or(open.first).is_none_or(Moment::is_delay)
            }
            Kind::And(and) => and.members().any_is_elapsed_time(),
            Kind::Or(or) => or.members().any_is_elapsed_time(),
            Kind::Cron(_)
            | Kind::CronFields(_)
            | Kind::Timetable(_)
            | Kind::CalendarInterval(_)
            | Kind::Follow(_)
            | Kind::Custom(_) => false,
        }
    }

    /// Moves the grid of an anchored trigger of elapsed time, as a step of the wall clock asks. Of a
    /// combination only those members move that are of elapsed time.
    pub(crate) fn shift(&mut self, by: TimeDelta) {
        let shifted = |t: DateTime<Utc>| t.checked_add_signed(by).unwrap_or(t);
        match &mut self.kind {
            Kind::Date(Date::At(instant)) => *instant = shifted(*instant),
            kind => kind.change_members(|members| members.shift(by)),
        }
        if !self.moves_as_a_whole() {
            return;
        }
        if let (Kind::Random(random), Some(start)) = (&mut self.kind, self.start) {
            random.keep_offsets(start);
        }
        // The end that the user gave stays: that is an instant.
        self.start = self.start.map(shifted);
        if let Some(limits) = &mut self.limits {
            limits.first = limits.first.map(shifted);
            limits.times_since = limits.times_since.map(shifted);
            limits.elapsed_end = limits.elapsed_end.map(shifted);
            limits.last = limits.last.map(shifted);
        }
    }

    /// Whether a [shift](Trigger::shift) moves all of it, and not some members alone.
    pub(crate) fn moves_as_a_whole(&self) -> bool {
        self.kind.members().is_none_or(Members::all_are_elapsed_time)
    }

    /// The first fire time of a job that is added at `now`: as [`first`](Trigger::first), or the
    /// start of a grid, or a first fire that was said, if that is less than a second old.
    pub(crate) fn first_when_added(
        &self,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        match self.just_passed(now) {
            Some(passed) => Ok(Some(passed)),
            None => self.first(now),
        }
    }

    /// The start of a grid or a first fire that was said, if it is less than a second old and counts as
    /// now. For a combination it is one of its members', if the whole fires then.
    fn just_passed(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let said = match &self.kind {
            Kind::Interval(_) | Kind::Random(_) => self.limits().first.or(self.start),
            _ => self.limits().first,
        };
        if let (None, Some(members)) = (said, self.kind.members()) {
            let passed = members.triggers().filter_map(|member| member.just_passed(now));
            return passed.filter(|&passed| self.names(passed)).min();
        }
        let said = said.filter(|&said| said <= now && now - said < RECENT)?;
        // Of a grid that is finer than that, it is not the last that has passed.
        (self.last_at_or_before(now).ok()? == Some(said)).then_some(said)
    }

    /// Has a trigger go on from `now`, although the fire times before `used_to` are used up; says which is
    /// the first, if it is earlier than that. As many fire times are left as before, if their number is
    /// limited, and the end is as far, if that is elapsed time.
    pub(crate) fn corrected(
        &mut self,
        used_to: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let mut corrected = self.clone();
        corrected.correct_members(used_to, now);
        let first = corrected.go_on(self.left(used_to), now)?;
        let Some(first) = first.filter(|&first| first < used_to) else { return Ok(None) };
        if let Some(limits) = &mut corrected.limits
            && let Some(end) = limits.elapsed_end
        {
            let next = self.next_after(before(used_to))?.unwrap_or(used_to);
            limits.elapsed_end = end.checked_add_signed(first - next);
        }
        *self = corrected;
        Ok(Some(first))
    }

    /// Has the members of a combination go on from `now` that have not moved with the clock.
    pub(crate) fn correct_members(&mut self, used_to: DateTime<Utc>, now: DateTime<Utc>) {
        self.kind.change_members(|members| members.correct(used_to, now));
    }

    /// The fire times that are left from an instant on, if their number is limited.
    pub(crate) fn left(&self, from: DateTime<Utc>) -> Option<Left> {
        let last = self.limits().last?;
        let next = self.next_after(before(from)).ok().flatten();
        let count = next.map_or(0, |next| self.count(next, last, u64::MAX));
        Some(Left { count, lasting: last - next.unwrap_or(last) })
    }

    /// Has a trigger go on from an instant with so many fire times; says which is the first.
    pub(crate) fn go_on(
        &mut self,
        left: Option<Left>,
        from: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let Some(left) = left else { return self.first(from) };
        let limits = Limits { times: None, times_since: None, last: None, ..self.limits().clone() };
        let unlimited = self.clone().with_limits(limits.clone());
        let Some(first) = unlimited.first(from)? else { return Ok(None) };
        let limits = match NonZeroU64::new(left.count) {
            None => Limits { last: Some(just_before(from)?), ..limits },
            Some(times) => match unlimited.nth(Some(first), times) {
                Ok(last) => Limits { times: Some(times), times_since: Some(first), last, ..limits },
                // Too many to count.
                Err(_) => Limits { last: first.checked_add_signed(left.lasting), ..limits },
            },
        };
        *self = unlimited.with_limits(limits);
        Ok((left.count > 0).then_some(first))
    }

    /// Counts anew to the last of a number of fire times, since the rules of time zones have changed; says
    /// whether it is another.
    pub(crate) fn recount(&mut self) -> bool {
        if !self.goes_by_wall_clock() {
            return false;
        }
        let mut changed = false;
        self.kind.change_members(|members| changed = members.recount());
        let limits = self.limits();
        if let (Some(times), Some(since)) = (limits.times, limits.times_since) {
            let limits = Limits { last: None, ..limits.clone() };
            let unlimited = self.clone().with_limits(limits.clone());
            let last =
                unlimited.first_when_added(since).and_then(|first| unlimited.nth(first, times));
            if let Ok(last) = last
                && last != self.limits().last
            {
                *self = unlimited.with_limits(Limits { last, ..limits });
                changed = true;
            }
        }
        changed
    }

    /// The first fire time not earlier than `now`; that of a date, even if it has passed.
    pub(crate) fn first(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        let next = self.next_after(just_before(now)?)?;
        match &self.kind {
            Kind::Date(date) if next.is_none() => {
                let fire = date.fire_time(now, TimeZone::UTC)?;
                Ok(self.last_at_or_before(fire)?.filter(|&last| last == fire))
            }
            _ => Ok(next),
        }
    }

    /// How many fire times lie in `first..=last`, both of which are fire times. The answer is
    /// exact up to `limit`, and a lower bound past it; a search that is too long to go on with
    /// makes it a lower bound, too.
    pub(crate) fn count(&self, first: DateTime<Utc>, last: DateTime<Utc>, limit: u64) -> u64 {
        if self.days().is_none()
            && let Some(grid) = self.grid()
        {
            return grid.count(first, last);
        }
        if let (Kind::Random(random), Some(start), true) = (&self.kind, self.start, self.is_plain())
        {
            return random.count(start, first, last);
        }
        let budget = &mut Budget::for_many();
        let (mut count, mut t) = (1, first);
        while t < last && count < limit {
            match self.next_within(t, last, budget) {
                Ok(Some(next)) => (t, count) = (next, count + 1),
                _ => break,
            }
        }
        count
    }

    /// The `times`-th fire time of an anchored trigger from its fire time `first` on, if it has so many.
    fn nth(
        &self,
        first: Option<DateTime<Utc>>,
        times: NonZeroU64,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        const WALK: u64 = 10_000;
        let times = times.get();
        if let (Some(first), Some(start), true) = (first, self.start, self.is_plain()) {
            let steps = i64::try_from(times - 1).ok();
            match &self.kind {
                Kind::Interval(interval) => {
                    return Ok(steps.and_then(|steps| interval.nth(first, steps)));
                }
                Kind::Random(random) => {
                    return Ok(steps.and_then(|steps| random.nth_from(start, first, steps)));
                }
                _ => {}
            }
        }
        if times > WALK {
            return Err(Error::invalid_trigger(format!(
                "times({times}) is more than a trigger that is no interval can count, which is {WALK}: use `until`"
            )));
        }
        let budget = &mut Budget::for_many();
        let mut fire = first;
        for _ in 1..times {
            let Some(t) = fire else { break };
            fire = self
                .next_within(t, DateTime::<Utc>::MAX_UTC, budget)
                .map_err(|error| self.explained(error, t))?;
        }
        Ok(fire)
    }

    /// The same, but for its first fire time alone.
    pub(crate) fn once(self) -> Trigger {
        if let Kind::Date(_) = self.kind {
            return self;
        }
        let limits = self.limits().clone();
        let limits = Limits { times: Some(NonZeroU64::MIN), times_since: None, ..limits };
        self.with_limits(limits)
    }

    /// The job whose runs it follows, if it has no fire times of its own.
    pub(crate) fn follow(&self) -> Option<&Follow> {
        match &self.kind {
            Kind::Follow(follow) => Some(follow),
            _ => None,
        }
    }

    /// Sorts out which bounds are instants already.
    fn take_known_bounds(&mut self) -> Result<(), Error> {
        let mut limits = self.limits().clone();
        limits.open.check()?;
        let is_immediate = limits.open.first == Some(Moment::NOW);
        let contradicts = limits.open.start.is_some()
            && match &self.kind {
                Kind::Interval(interval) => interval.immediate || is_immediate,
                _ => is_immediate,
            };
        if contradicts {
            return Err(Error::invalid_trigger(
                "`immediately` and `starting_at` contradict each other: leave one out",
            ));
        }
        // Grids have a mark of their own, by which they start when the job is added.
        let mark = match &mut self.kind {
            Kind::Interval(interval) => Some(&mut interval.immediate),
            Kind::Random(random) => Some(&mut random.immediate),
            _ => None,
        };
        if let Some(mark) = mark.filter(|_| is_immediate) {
            *mark = true;
            limits.open.first = None;
        }
        let [start, first, end] = limits.open.take_instants()?;
        limits.times_since =
            limits.times_since.filter(|_| limits.times.is_some()).map(floor_millis);
        limits.elapsed_end = limits.elapsed_end.map(floor_millis);
        limits.last = limits.last.map(floor_millis);
        self.start = start.or(self.start);
        *self = self.clone().with_limits(Limits { first, end, ..limits });
        if self.limits().open.start.is_none() {
            self.start_grid_at_first();
        }
        Ok(())
    }

    fn validated(mut self) -> Result<Trigger, Error> {
        if self.follow().is_some() && (self.start.is_some() || self.limits.is_some()) {
            return Err(Error::invalid_trigger(format!(
                "`{}` has no fire times of its own, and so takes no bounds, number of times or days: give them to the job that it follows",
                self.kind
            )));
        }
        if let Kind::Date(Date::At(instant)) = &mut self.kind {
            *instant = whole_millis(*instant)?;
        }
        if self.limits.is_some() {
            self.take_known_bounds()?;
        }
        if let Kind::CronFields(fields) = &self.kind {
            fields.validate()?;
        }
        if let Kind::Random(random) = &self.kind {
            random.validate()?;
        }
        if let Kind::Interval(interval) = &self.kind {
            interval.validate()?;
        }
        if let (Kind::CalendarInterval(calendar), Some(end)) = (&self.kind, self.limits().end)
            && let Some(start) = calendar.start_date()
            && zone::date_at(calendar.zone().unwrap_or(TimeZone::UTC), end) < start
        {
            return Err(Error::invalid_trigger(format!(
                "the trigger ends at {}, before it starts on {start}: swap them",
                rfc3339(end)
            )));
        }
        if let Kind::CalendarInterval(calendar) = self.kind {
            self.kind = Kind::CalendarInterval(calendar.validated()?);
        }
        Ok(self)
    }
}

/// The fire times that are left of a limited number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    count: u64,
    /// How long from the first of them to the last.
    lasting: TimeDelta,
}

impl Left {
    fn is_none(self) -> bool {
        self.count == 0
    }
}

/// How old a start may be that counts as now: what lies between a program's look at the clock and
/// the adding of a job.
const RECENT: TimeDelta = TimeDelta::seconds(1);

/// `t` plus so many milliseconds, if the calendar reaches that far.
fn add_millis(t: DateTime<Utc>, millis: i64) -> Option<DateTime<Utc>> {
    t.checked_add_signed(TimeDelta::try_milliseconds(millis)?)
}

/// `t`, rounded down to a whole millisecond; a leap second counts as the second after it.
///
/// Every instant that comes in passes here or through [`whole_millis`]. Chrono keeps a leap second
/// as nanoseconds past a whole second, and its arithmetic with such instants is off by as much.
#[inline]
fn floor_millis(t: DateTime<Utc>) -> DateTime<Utc> {
    if is_whole_millis(t) { t } else { rounded_down(t) }
}

/// Nearly all of them are whole already, and to see that is quicker than to round.
#[inline]
fn is_whole_millis(t: DateTime<Utc>) -> bool {
    let nanos = t.timestamp_subsec_nanos();
    nanos < SECOND && nanos.is_multiple_of(1_000_000)
}

const SECOND: u32 = 1_000_000_000;

#[cold]
fn rounded_down(t: DateTime<Utc>) -> DateTime<Utc> {
    if t.timestamp_subsec_nanos() < SECOND {
        return t.trunc_subsecs(3);
    }
    let next = t.timestamp().checked_add(1);
    let next = next.and_then(|second| DateTime::from_timestamp(second, 0));
    next.unwrap_or(DateTime::<Utc>::MAX_UTC.trunc_subsecs(3))
}

/// `t`, rounded up to a whole millisecond: a fire time is never earlier than what was asked for. A
/// leap second counts as the second after it.
#[inline]
fn whole_millis(t: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
    if is_whole_millis(t) { Ok(t) } else { rounded_up(t) }
}

#[cold]
fn rounded_up(t: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
    let floor = floor_millis(t);
    if floor >= t {
        return Ok(floor);
    }
    add_millis(floor, 1).ok_or_else(|| {
        Error::invalid_trigger(format!("{} is past the end of the calendar", rfc3339(t)))
    })
}

/// The last whole millisecond strictly before `t`.
fn just_before(t: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
    Ok(add_millis(whole_millis(t)?, -1).unwrap_or(DateTime::<Utc>::MIN_UTC))
}

pub(crate) fn rfc3339(t: DateTime<Utc>) -> impl fmt::Display {
    t.format("%Y-%m-%dT%H:%M:%S%.fZ")
}
