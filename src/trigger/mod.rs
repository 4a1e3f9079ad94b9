//! When a job fires: pure functions from an instant to the next fire time.
//!
//! | constructor | fires |
//! |---|---|
//! | [`every`] | on a grid of elapsed time, at random distances, or on days that are said in [words](Words) |
//! | [`at`], [`after`], [`now`] | once |
//! | [`cron`] | when the wall clock of a zone matches a crontab text |
//! | [`CronFields::builder`] | when the wall clock of a zone matches fields given by name |
//! | [`custom`] | whenever a type of your own says |
//!
//! Each returns a [`Build`], which takes bounds (`starting_at`, `until`, `times`) and what its
//! kind has besides. Mistakes surface when the trigger is used: at `.await?` of an `add`, or at
//! [`IntoTrigger::into_trigger`].
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
//! [`Gap`] and [`Fold`] have the tables for each choice. The zones and their rules are those
//! compiled into `chrono-tz`, **which knows no rules past 2099**: from 2100 on every zone keeps the
//! offset that it has at the end of 2099, which is daylight saving in Sydney, and standard time in
//! Berlin.
//!
//! # Serialized form
//!
//! Stores keep triggers as JSON, which stays readable by later versions. `"type"` says the kind:
//!
//! | kind | example |
//! |---|---|
//! | [`Date`] | `{"type":"date","at":"2026-11-20T12:00:00Z"}`, `{"type":"date","after_ms":10000}` |
//! | [`Interval`] | `{"type":"interval","period_ms":90000}`, with `"immediate":true` |
//! | [`Random`] | `{"type":"random","min_ms":300000,"max_ms":600000}`, with `"immediate":true`, `"seed":0` |
//! | [`Timetable`] | `{"type":"timetable","words":"every monday at 10:30"}`, with `"from":"2026-11-23"` |
//! | [`Cron`] | `{"type":"cron","expression":"30 8 * * MON-FRI"}`, with `"dom_and_dow":true` |
//! | [`CronFields`] | `{"type":"cron_fields","day":"3rd fri","hour":"3"}` |
//! | [`Custom`] | none: it lives in memory only |
//!
//! The three that go by a wall clock have `"zone":"Europe/Berlin"`, `"gap":"next"` or `"skip"`, and
//! `"fold":"first"`, `"last"` or `"both"` besides; all have `"start"` and `"end"`, which are
//! instants, `"times"`, and `"last"`, the instant that `times` amounts to once it is counted. What
//! was not said is left out. A key that is none of these is an error, as is a value that the
//! builders would refuse.

mod cron;
mod custom;
mod date;
mod interval;
mod random;
#[cfg(test)]
mod tests;
mod text;
mod timetable;
mod words;
#[cfg(test)]
mod words_tests;
mod zone;

use std::{fmt, num::NonZeroU64, time::Duration};

use chrono::{DateTime, SubsecRound as _, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

#[cfg(feature = "testing")]
pub(crate) use self::zone::changes;
pub use self::{
    cron::{Cron, CronFields},
    custom::{Custom, CustomTrigger},
    date::Date,
    interval::Interval,
    random::Random,
    text::Upcoming,
    timetable::Timetable,
    words::{Count, OnDays, Words},
    zone::{Fold, Gap, InZone, IntoTimeZone},
};
use crate::error::Error;

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

/// Fires once, at `instant`, rounded up to a whole millisecond.
///
/// An instant in the past is due at once, and judged by the job's misfire grace time.
pub fn at<Z: TimeZone>(instant: DateTime<Z>) -> Build<Date> {
    Build::new(whole_millis(instant.with_timezone(&Utc)).map(Date::At))
}

/// Fires once, `delay` after the job is added, rounded up to a whole millisecond.
pub fn after(delay: Duration) -> Build<Date> {
    let millis = delay.as_nanos().div_ceil(1_000_000);
    Build::new(Ok(Date::AfterMs(u64::try_from(millis).unwrap_or(u64::MAX))))
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
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<NonZeroU64>,
    /// The last fire time that `times` leaves, once the trigger is anchored.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<DateTime<Utc>>,
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
    /// Certain days at certain times of day.
    Timetable(Timetable),
    /// Random distances of elapsed time.
    Random(Random),
    /// A type of the user's own. It has no serialized form.
    #[serde(skip_deserializing)]
    Custom(Custom),
}

/// A trigger as it is read, before it is known to make sense.
#[derive(Deserialize)]
struct Repr {
    #[serde(flatten)]
    kind: Kind,
    start: Option<DateTime<Utc>>,
    end: Option<DateTime<Utc>>,
    times: Option<NonZeroU64>,
    last: Option<DateTime<Utc>>,
}

impl TryFrom<Repr> for Trigger {
    type Error = Error;

    fn try_from(Repr { kind, start, end, times, last }: Repr) -> Result<Trigger, Error> {
        Trigger { kind, start, end, times, last }.validated()
    }
}

impl Trigger {
    /// What the trigger goes by.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The first instant at which the trigger may fire.
    pub fn start(&self) -> Option<DateTime<Utc>> {
        self.start
    }

    /// The last instant at which the trigger may fire.
    pub fn end(&self) -> Option<DateTime<Utc>> {
        [self.end, self.last].into_iter().flatten().min()
    }

    /// The first fire time strictly later than `t`.
    ///
    /// A trigger that has not been [anchored](Trigger::anchored) counts from `t`: an interval
    /// without a start answers `t` plus one period.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if a custom trigger broke its rules.
    pub fn next_after(&self, t: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        // Fire times are whole milliseconds.
        let t = t.trunc_subsecs(3);
        // Just before the start nothing has fired yet.
        let from = match self.start.and_then(|start| add_millis(start, -1)) {
            Some(before) if before > t => before,
            _ => t,
        };
        let next = match &self.kind {
            Kind::Date(date) => Some(date.fire_time(t)?).filter(|&fire| fire > from),
            Kind::Interval(interval) => match self.start {
                Some(start) => interval.next_after(start, t),
                None => interval.nth(whole_millis(t)?, 1),
            },
            Kind::Cron(cron) => cron.next_after(from)?,
            Kind::CronFields(fields) => fields.next_after(from),
            Kind::Timetable(timetable) => timetable.next_after(from),
            Kind::Random(random) => match self.start {
                Some(start) => random.next_after(start, t),
                None => {
                    let start = random.start(whole_millis(t)?);
                    start.and_then(|start| random.next_after(start, t))
                }
            },
            Kind::Custom(custom) => custom.next_after(from)?,
        };
        Ok(next.filter(|&next| self.end().is_none_or(|end| next <= end)))
    }

    /// The last fire time that is not later than `t`.
    ///
    /// This is what makes catching up cost the same, however long the outage.
    ///
    /// # Errors
    ///
    /// As [`next_after`](Trigger::next_after).
    pub fn last_at_or_before(&self, t: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        let to = self.end().map_or(t, |end| t.min(end)).trunc_subsecs(3);
        let last = match &self.kind {
            Kind::Date(date) => Some(date.fire_time(t)?).filter(|&fire| fire <= to),
            Kind::Interval(interval) => {
                self.start.and_then(|start| interval.last_at_or_before(start, to))
            }
            Kind::Cron(cron) => cron.last_at_or_before(to)?,
            Kind::CronFields(fields) => fields.last_at_or_before(to),
            Kind::Timetable(timetable) => timetable.last_at_or_before(to),
            Kind::Random(random) => {
                self.start.and_then(|start| random.last_at_or_before(start, to))
            }
            Kind::Custom(custom) => custom.last_at_or_before(to)?,
        };
        Ok(last.filter(|&last| self.start.is_none_or(|start| last >= start)))
    }

    /// The same trigger with everything filled in that depends on when a job is added: where the
    /// grid of an interval starts, what a delay counts from, the zone of a cron text, and the end
    /// that `times` amounts to.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if that is not possible.
    pub fn anchored(&self, now: DateTime<Utc>, zone: Tz) -> Result<Trigger, Error> {
        let mut anchored = self.clone();
        match &mut anchored.kind {
            Kind::Date(date) => *date = Date::At(date.fire_time(now)?),
            Kind::Interval(interval) => {
                if anchored.start.is_none() {
                    let steps = if interval.immediate { 0 } else { 1 };
                    interval.immediate = false;
                    anchored.start = interval.nth(whole_millis(now)?, steps);
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
            Kind::Timetable(timetable) => {
                timetable.anchor(just_before(anchored.start.unwrap_or(now))?, zone);
            }
            Kind::Random(random) => {
                if anchored.start.is_none() {
                    anchored.start = random.start(whole_millis(now)?);
                    if anchored.start.is_none() {
                        return Err(Error::invalid_trigger(format!(
                            "a period of {} ms reaches past the end of the calendar: use a shorter one",
                            random.min_ms()
                        )));
                    }
                }
            }
            Kind::Custom(_) => {}
        }
        if let Some(times) = anchored.times.take() {
            anchored.last = anchored.nth(now, times)?;
        }
        Ok(anchored)
    }

    /// Whether the fire times are counted from when the job is added, and so are elapsed time.
    pub(crate) fn is_elapsed_time(&self) -> bool {
        match self.kind {
            Kind::Date(date) => matches!(date, Date::AfterMs(_)),
            Kind::Interval(_) | Kind::Random(_) => self.start.is_none(),
            Kind::Cron(_) | Kind::CronFields(_) | Kind::Timetable(_) | Kind::Custom(_) => false,
        }
    }

    /// Moves the grid of an anchored trigger of elapsed time, as a step of the wall clock asks.
    pub(crate) fn shift(&mut self, by: TimeDelta) {
        let shifted = |t: DateTime<Utc>| t.checked_add_signed(by).unwrap_or(t);
        if let Kind::Date(Date::At(instant)) = &mut self.kind {
            *instant = shifted(*instant);
        }
        if let (Kind::Random(random), Some(start)) = (&mut self.kind, self.start) {
            random.keep_offsets(start);
        }
        // The end that the user gave stays: that is an instant.
        self.start = self.start.map(shifted);
        self.last = self.last.map(shifted);
    }

    /// The first fire time not earlier than `now`; that of a date, even if it has passed.
    pub(crate) fn first(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        match &self.kind {
            Kind::Date(date) => {
                let fire = date.fire_time(now)?;
                let bounds = self.start.is_none_or(|start| start <= fire)
                    && self.end().is_none_or(|end| fire <= end);
                Ok(bounds.then_some(fire))
            }
            _ => self.next_after(just_before(now)?),
        }
    }

    /// How many fire times lie in `first..=last`, both of which are fire times. The answer is
    /// exact up to `limit`, and a lower bound past it.
    pub(crate) fn count(&self, first: DateTime<Utc>, last: DateTime<Utc>, limit: u64) -> u64 {
        if let Kind::Interval(interval) = &self.kind {
            return interval.count(first, last);
        }
        if let (Kind::Random(random), Some(start)) = (&self.kind, self.start) {
            return random.count(start, first, last);
        }
        let (mut count, mut t) = (1, first);
        while t < last && count < limit {
            match self.next_after(t) {
                Ok(Some(next)) => (t, count) = (next, count + 1),
                _ => break,
            }
        }
        count
    }

    /// The `times`-th fire time of an anchored trigger, if it has so many.
    fn nth(&self, now: DateTime<Utc>, times: NonZeroU64) -> Result<Option<DateTime<Utc>>, Error> {
        const WALK: u64 = 10_000;
        let times = times.get();
        if let (Kind::Interval(interval), Some(start)) = (&self.kind, self.start) {
            return Ok(i64::try_from(times - 1).ok().and_then(|steps| interval.nth(start, steps)));
        }
        if let (Kind::Random(random), Some(start)) = (&self.kind, self.start) {
            return Ok(i64::try_from(times - 1).ok().and_then(|step| random.nth(start, step)));
        }
        if times > WALK {
            return Err(Error::invalid_trigger(format!(
                "times({times}) is more than a trigger that is no interval can count, which is {WALK}: use `until`"
            )));
        }
        let mut fire = self.first(self.start.unwrap_or(now))?;
        for _ in 1..times {
            let Some(t) = fire else { break };
            fire = self.next_after(t)?;
        }
        Ok(fire)
    }

    fn validated(mut self) -> Result<Trigger, Error> {
        self.start = self.start.map(whole_millis).transpose()?;
        if let (Some(start), Some(end)) = (self.start, self.end)
            && end < start
        {
            return Err(Error::invalid_trigger(format!(
                "the trigger ends at {end}, before it starts at {start}: swap them"
            )));
        }
        if let Kind::CronFields(fields) = &self.kind {
            fields.validate()?;
        }
        if let Kind::Random(random) = &self.kind {
            random.validate()?;
        }
        if let Kind::Interval(interval) = &self.kind {
            interval.validate()?;
            if interval.immediate && self.start.is_some() {
                return Err(Error::invalid_trigger(
                    "`immediately` and `starting_at` contradict each other: leave one out",
                ));
            }
        }
        Ok(self)
    }
}

/// What can be a job's trigger: the builders of this [module](self), a [`Trigger`], and a text,
/// which is cron text, or [words](Words) if it starts with `every`; what a [`Trigger`] prints is
/// read, too.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a trigger",
    note = "triggers are made by `every`, `at`, `after`, `now`, `cron` and `custom`; a string is cron text, or words that start with `every`"
)]
pub trait IntoTrigger {
    /// Checks what was said and makes a trigger of it.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger), with the value, the reason and the
    /// remedy.
    fn into_trigger(self) -> Result<Trigger, Error>;
}

impl IntoTrigger for Trigger {
    fn into_trigger(self) -> Result<Trigger, Error> {
        Ok(self)
    }
}

impl IntoTrigger for &str {
    fn into_trigger(self) -> Result<Trigger, Error> {
        self.parse()
    }
}

impl IntoTrigger for String {
    fn into_trigger(self) -> Result<Trigger, Error> {
        self.as_str().into_trigger()
    }
}

impl<K> IntoTrigger for Build<K>
where
    K: TryInto<Kind>,
    Error: From<K::Error>,
{
    fn into_trigger(self) -> Result<Trigger, Error> {
        let times = self.times.map(|times| {
            NonZeroU64::new(times)
                .ok_or_else(|| Error::invalid_trigger("times(0) would never fire: use 1 or more"))
        });
        Trigger {
            kind: self.kind?.try_into()?,
            start: self.start,
            end: self.end,
            times: times.transpose()?,
            last: None,
        }
        .validated()
    }
}

/// A trigger in the making, of the kind `K`.
///
/// It never fails: what is wrong is said when the trigger is used.
#[derive(Clone, Debug)]
#[must_use = "a trigger does nothing until a job is added with it"]
pub struct Build<K> {
    kind: Result<K, Error>,
    start: Option<DateTime<Utc>>,
    end: Option<DateTime<Utc>>,
    times: Option<u64>,
}

impl<K> Build<K> {
    fn new(kind: Result<K, Error>) -> Build<K> {
        Build { kind, start: None, end: None, times: None }
    }

    /// Changes the kind, unless it is in error already.
    fn map(mut self, change: impl FnOnce(K) -> Result<K, Error>) -> Build<K> {
        self.kind = self.kind.and_then(change);
        self
    }

    /// The first instant at which the trigger may fire, inclusive; an interval's grid starts there
    /// and fires there. Rounded up to a whole millisecond. Default: when the job is added.
    pub fn starting_at<Z: TimeZone>(mut self, start: DateTime<Z>) -> Build<K> {
        self.start = Some(start.with_timezone(&Utc));
        self
    }

    /// The last instant at which the trigger may fire, inclusive. Default: none.
    pub fn until<Z: TimeZone>(mut self, end: DateTime<Z>) -> Build<K> {
        self.end = Some(end.with_timezone(&Utc));
        self
    }

    /// Fires `times` times and no more, counted from the start, or from when the job is added.
    ///
    /// Fire times count, not runs: one that is missed or skipped is one of them. A trigger that is
    /// no interval counts to 10,000 at most.
    pub fn times(mut self, times: u64) -> Build<K> {
        self.times = Some(times);
        self
    }
}

impl Build<Interval> {
    /// Fires first when the job is added, and every period from there.
    pub fn immediately(self) -> Build<Interval> {
        self.map(|interval| Ok(interval.immediately()))
    }
}

impl<K: InZone> Build<K> {
    /// Reads the pattern against the wall clock of this zone: a [`chrono_tz::Tz`], or the IANA name
    /// of one. Default: the scheduler's zone, which is UTC unless its builder says otherwise.
    pub fn in_tz(self, zone: impl IntoTimeZone) -> Build<K> {
        let zone = zone.into_time_zone();
        self.map(|mut kind| {
            kind.rules().zone = Some(zone?);
            Ok(kind)
        })
    }

    /// What happens to a wall time that a gap swallows. Default: see [`Gap`].
    pub fn gap(self, gap: Gap) -> Build<K> {
        self.map(|mut kind| {
            kind.rules().gap = Some(gap);
            Ok(kind)
        })
    }

    /// Which occurrence of a repeated wall time fires. Default: see [`Fold`].
    pub fn fold(self, fold: Fold) -> Build<K> {
        self.map(|mut kind| {
            kind.rules().fold = Some(fold);
            Ok(kind)
        })
    }
}

impl Build<Cron> {
    /// Fires on days that match both day fields. By default crontab(5) applies: if both are
    /// restricted, either will do.
    pub fn dom_and_dow(self) -> Build<Cron> {
        self.map(|cron| Ok(cron.dom_and_dow()))
    }
}

impl From<Date> for Kind {
    fn from(date: Date) -> Kind {
        Kind::Date(date)
    }
}

impl From<Interval> for Kind {
    fn from(interval: Interval) -> Kind {
        Kind::Interval(interval)
    }
}

impl From<Cron> for Kind {
    fn from(cron: Cron) -> Kind {
        Kind::Cron(cron)
    }
}

impl From<CronFields> for Kind {
    fn from(fields: CronFields) -> Kind {
        Kind::CronFields(fields)
    }
}

impl From<Custom> for Kind {
    fn from(custom: Custom) -> Kind {
        Kind::Custom(custom)
    }
}

/// `t` plus so many milliseconds, if the calendar reaches that far.
fn add_millis(t: DateTime<Utc>, millis: i64) -> Option<DateTime<Utc>> {
    t.checked_add_signed(TimeDelta::try_milliseconds(millis)?)
}

/// `t`, rounded up to a whole millisecond: a fire time is never earlier than what was asked for.
fn whole_millis(t: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
    let floor = t.trunc_subsecs(3);
    if floor == t {
        return Ok(t);
    }
    add_millis(floor, 1)
        .ok_or_else(|| Error::invalid_trigger(format!("{t} is past the end of the calendar")))
}

/// The last whole millisecond strictly before `t`.
fn just_before(t: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
    Ok(add_millis(whole_millis(t)?, -1).unwrap_or(DateTime::<Utc>::MIN_UTC))
}

pub(crate) fn rfc3339(t: DateTime<Utc>) -> impl fmt::Display {
    t.format("%Y-%m-%dT%H:%M:%S%.fZ")
}
