//! Triggers in the making, and what can be made into one.

mod constructors;
mod cron_fields;
mod follow;
mod list;
mod words;

use std::num::NonZeroU64;

use chrono::NaiveDate;

pub use self::{
    constructors::{
        Every, after, and, at, calendar_interval, cron, cron_fields, custom, every, now, or,
    },
    follow::{after_all, after_any, after_failure, after_success},
    list::IntoTriggers,
    words::{Count, OnDays},
};
use super::{
    Trigger,
    bounds::Bounds,
    day_filter::{DayFilter, DayOptions},
    days::IntoDays,
    kinds::{CalendarInterval, Cron, Kind, Schedule as _},
    limits::Limits,
    moment::{IntoMoment, Moment},
    once::set_once,
    time_of_day::IntoTimeOfDay,
    wall_clock::{Fold, Gap, InZone},
    window::Window,
};
use crate::{
    error::Error,
    zone::{IntoTimeZone, TimeZone},
};

/// What can be a job's trigger: the builders of this [module](crate::trigger), a [`Trigger`], and a text,
/// which is [words](crate::trigger::Words) if it starts with a letter or with a date such as `1st`, and cron text
/// otherwise; what a [`Trigger`] prints is read, too.
///
/// | text | read as |
/// |---|---|
/// | `every 10 minutes`, `monday at 10:30`, `daily at 9:00`, `1st at 7:00` | [words](crate::trigger::Words) |
/// | `30 8 * * MON-FRI`, `@daily`, `CRON_TZ=Europe/Berlin 0 9 * * *` | [cron text](crate::trigger::Cron) |
/// | `@every 1h30m` | words, without the `@` |
/// | `after 10 minutes`, `now`, `at 2026-11-20T12:00:00Z`, `or[@daily \| every 90s]` | what a [`Trigger`] prints |
///
/// Clauses follow, each behind a `;`:
///
/// | clause | as a method |
/// |---|---|
/// | `; starting 2026-12-01`, `; until 2026-12-24 18:00`, `; until 6pm Asia/Tokyo` | [`starting_at`](Build::starting_at), [`until`](Build::until) |
/// | `; first 2026-12-01 10:30`, `; immediately` | [`first_at`](Build::first_at), [`immediately`](Build::immediately) |
/// | `; 3 times` | [`times`](Build::times) |
/// | `; only Sat`, `; only Mon-Thu, weekend`, `; except Sun, 2026-12-25` | [`only`](Build::only), [`except`](Build::except) |
/// | `; between 09:00 and 17:00`, `; between 9am and 5:30 pm` | [`between`](Build::between) |
/// | `; days in Asia/Tokyo` | none: the zone whose days and hours `only`, `except` and `between` name |
/// | `; gap skip`, `; fold last` | [`gap`](Build::gap), [`fold`](Build::fold) |
///
/// ```
/// use chrono::Weekday::Sat;
/// use punctual::trigger::{IntoTrigger, every};
///
/// let text = "every 10 minutes; only Sat; between 09:00 and 17:00; until 2027-01-01";
/// let methods = every(10).minutes().only(Sat).between("09:00", "17:00").until("2027-01-01");
/// assert_eq!(text.into_trigger()?, methods.into_trigger()?);
/// # Ok::<(), punctual::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a trigger",
    note = "triggers are made by `every`, `at`, `after`, `now`, `cron`, `cron_fields`, `calendar_interval`, `and`, `or`, `after_success`, `after_failure`, `after_any`, `after_all` and `custom`; a number such as `every(10)` needs a unit, as in `every(10).minutes()`; a string is cron text, or words such as \"every 10 minutes\" and \"monday at 10:30\""
)]
pub trait IntoTrigger {
    /// Checks the options and makes a trigger.
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
        let mut kind = self.kind?.try_into()?;
        let has_days =
            self.days.only.is_some() || self.days.except.is_some() || self.days.between.is_some();
        let mut day_zone = None;
        if let Some(zone) = self.zone {
            match kind.zone_rules_mut() {
                Some(rules) => rules.name_zone(zone)?,
                None => {
                    if !kind.set_zone(zone)? && !has_days {
                        return Err(Error::invalid_trigger(format!(
                            "`{kind}` goes by no zone of its own: leave the zone out, or say days, hours, or a date with its time of day"
                        )));
                    }
                    day_zone = has_days.then_some(zone);
                }
            }
        }
        let limits = Limits {
            open: self.bounds,
            times: times.transpose()?,
            days: DayFilter::new(self.days, day_zone)?,
            ..Limits::default()
        };
        Trigger::new(kind, limits).validated()
    }
}

/// A trigger in the making, of the kind `K`.
///
/// It never fails: errors are returned when the trigger is used.
#[derive(Clone, Debug)]
#[must_use = "a trigger does nothing until a job is added with it"]
pub struct Build<K> {
    pub(in crate::trigger) kind: Result<K, Error>,
    bounds: Bounds,
    times: Option<u64>,
    days: DayOptions,
    /// The zone that a method names: that of the kind, or else of the days and hours.
    zone: Option<TimeZone>,
}

impl<K> Build<K> {
    pub(in crate::trigger) fn new(kind: Result<K, Error>) -> Build<K> {
        let (bounds, days) = (Bounds::default(), DayOptions::default());
        Build { kind, bounds, times: None, days, zone: None }
    }

    /// Changes the kind, unless it is in error already.
    pub(in crate::trigger) fn map(
        mut self,
        change: impl FnOnce(K) -> Result<K, Error>,
    ) -> Build<K> {
        self.kind = self.kind.and_then(change);
        self
    }

    /// Changes a bound, unless the kind is in error already or the bound is.
    fn bound(mut self, change: impl FnOnce(&mut Build<K>) -> Result<(), Error>) -> Build<K> {
        let changed = change(&mut self);
        self.map(|kind| changed.map(|()| kind))
    }

    /// The first instant at which the trigger may fire, inclusive; an interval's grid starts there
    /// and fires there. Rounded up to a whole millisecond. Default: when the job is added.
    ///
    /// It takes an instant, a date, a time of day, a delay or a text, such as `"2026-12-01 10:30"`,
    /// `"2026-12-01"`, `"18:00"`, `"6pm Asia/Tokyo"` and `"10 minutes"`: [`Moment`] lists the forms. A
    /// start of a grid of elapsed time that is less than a second old when the job is added counts as now: the
    /// job fires for it at once, and the grid stays where it is. Otherwise the first fire time is
    /// the first that is not earlier than when the job is added. Said twice, it is an error.
    ///
    /// ```
    /// use std::time::Duration;
    /// use punctual::trigger::{IntoTrigger, every};
    ///
    /// let hourly = every(Duration::from_secs(3600));
    /// let trigger = hourly.starting_at("2026-12-01 10:30").until("2026-12-24").into_trigger()?;
    /// assert_eq!(trigger.to_string(), "every 1h; starting 2026-12-01T10:30:00; until 2026-12-24T00:00:00");
    /// # Ok::<(), punctual::Error>(())
    /// ```
    pub fn starting_at(self, start: impl IntoMoment) -> Build<K> {
        self.bound(|build| {
            set_once(&mut build.bounds.start, start.into_moment()?, |[a, b]| {
                format!("the start is {a} and again {b}")
            })
        })
    }

    /// The last instant at which the trigger may fire, inclusive. Default: none.
    ///
    /// It takes an instant, a date, a time of day, a duration or a text, such as `"2026-12-24 18:00"`,
    /// `"18:00"`, `"6pm Asia/Tokyo"` and `"8 hours"`: [`Moment`] lists the forms. A date is
    /// its midnight, so its day is left out. A time of day is the next after the start, and a
    /// duration counts from there: from [`starting_at`](Build::starting_at) or
    /// [`first_at`](Build::first_at), and without them from when the job is added; beside a grid of
    /// elapsed time it is elapsed time as well. No run starts later, jitter or not. Said twice, it
    /// is an error.
    ///
    /// ```
    /// use std::time::Duration;
    /// use punctual::trigger::{IntoTrigger, every};
    ///
    /// let poll = || every(Duration::from_secs(5));
    /// assert!(poll().until(Duration::from_secs(600)).into_trigger().is_ok());
    /// assert!(poll().starting_at("09:00").until("18:00").into_trigger().is_ok());
    /// ```
    pub fn until(self, end: impl IntoMoment) -> Build<K> {
        self.bound(|build| {
            set_once(&mut build.bounds.end, end.into_moment()?, |[a, b]| {
                format!("the end is {a} and again {b}")
            })
        })
    }

    /// Fires first at this moment, and then at the trigger's own fire times that are later.
    ///
    /// It takes an instant, a date, a time of day, a delay or a text, as
    /// [`starting_at`](Build::starting_at) does: [`Moment`] lists the forms. The first fire is one of
    /// [`times`](Build::times), and comes whatever [`only`](Build::only),
    /// [`except`](Build::except) and [`between`](Build::between) say, since it is said by itself. The grid of an interval or of
    /// random periods starts with it, unless `starting_at` says otherwise. One that has passed by
    /// more than a second when the job is added is left out. Said twice, it is an error.
    ///
    /// ```
    /// use chrono::{DateTime, Utc};
    /// use punctual::trigger::{IntoTrigger, cron};
    ///
    /// let trigger = cron("0 9 * * *").first_at("2026-12-01T10:30:00Z").into_trigger()?;
    /// let eve: DateTime<Utc> = "2026-11-30T12:00:00Z".parse()?;
    /// let fires = trigger.upcoming_after(eve).take(2).collect::<Result<Vec<_>, _>>()?;
    /// let expected: [DateTime<Utc>; 2] = ["2026-12-01T10:30:00Z".parse()?, "2026-12-02T09:00:00Z".parse()?];
    /// assert_eq!(fires, expected);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn first_at(self, first: impl IntoMoment) -> Build<K> {
        self.bound(|build| build.bounds.set_first(first.into_moment()?))
    }

    /// Fires first when the job is added, and then at the trigger's own fire times: those of an
    /// interval are every period from there. Otherwise as [`first_at`](Build::first_at).
    pub fn immediately(self) -> Build<K> {
        self.first_at(Moment::NOW)
    }

    /// Fires `times` times and no more, counted from the start, or from when the job is added.
    ///
    /// Fire times count, not runs: one that is missed or skipped is one of them. A trigger that is
    /// no interval counts to 10,000 at most. Said twice, it is an error.
    pub fn times(self, times: u64) -> Build<K> {
        self.bound(|build| {
            set_once(&mut build.times, times, |[a, b]| format!("`times` is {a} and again {b}"))
        })
    }

    /// Fires on these days only, as the calendar of the trigger's zone has them: that of a trigger
    /// that goes by a wall clock, otherwise the scheduler's. Asked twice, both must hold.
    ///
    /// Days pick from the fire times and move none: a grid goes on below the days left out. A
    /// pattern that never falls on these days (`MON-FRI`, and the weekend) may take more to find
    /// out than a search is given, which is an [error](Error::is_search_exhausted) of its own.
    ///
    /// It takes [`Days`](crate::trigger::Days), weekdays, dates, or a text: see [`IntoDays`].
    ///
    /// ```
    /// use chrono::Weekday::{Fri, Mon};
    /// use punctual::trigger::{IntoTrigger, every};
    ///
    /// let office = every(15).minutes().only("weekday").between("9:00", "17:00").into_trigger()?;
    /// assert_eq!(office.to_string(), "every 15min; only Mon, Tue, Wed, Thu, Fri; between 09:00 and 17:00");
    /// assert!(every(1).hour().only([Mon, Fri]).into_trigger().is_ok());
    /// # Ok::<(), punctual::Error>(())
    /// ```
    pub fn only(self, days: impl IntoDays) -> Build<K> {
        self.bound(|build| {
            build.days.only(days.into_days()?);
            Ok(())
        })
    }

    /// Fires only when the wall clock shows a time from `from` to `to`, both included: a
    /// [`chrono::NaiveTime`] of whole seconds, or a text such as `"10:30"`.
    ///
    /// The clock is that of the trigger's zone if it goes by one, otherwise the scheduler's. If
    /// `from` is the later one, the window is over midnight. It picks from the fire times and moves
    /// none: a grid goes on below the hours left out, and what a gap moves fires if the clock is in
    /// the window then. A trigger that never fires in the window may take more to find out than a
    /// search is given, which is an [error](Error::is_search_exhausted) of its own. Said twice, it is
    /// an error; for two windows use [`or`](crate::trigger::or).
    ///
    /// ```
    /// use std::time::Duration;
    /// use chrono::{DateTime, Utc};
    /// use punctual::trigger::{IntoTrigger, every};
    ///
    /// let start: DateTime<Utc> = "2026-12-01T11:50:00Z".parse()?;
    /// let trigger = every(Duration::from_secs(600)).between("10:00", "12:00").starting_at(start);
    /// let fires = trigger.into_trigger()?.upcoming_after(start).take(2).collect::<Result<Vec<_>, _>>()?;
    /// let [noon, ten] = ["2026-12-01T12:00:00Z", "2026-12-02T10:00:00Z"];
    /// assert_eq!(fires, [noon.parse::<DateTime<Utc>>()?, ten.parse()?]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn between(self, from: impl IntoTimeOfDay, to: impl IntoTimeOfDay) -> Build<K> {
        self.bound(|build| {
            set_once(&mut build.days.between, Window::new(from, to)?, |[a, b]| {
                format!("the hours are between {a} and again between {b}")
            })
        })
    }

    /// Does not fire on these days, as the calendar of the trigger's zone has them: that of a
    /// trigger that goes by a wall clock, otherwise the scheduler's. Asked twice, both hold. It takes
    /// what [`only`](Build::only) takes.
    ///
    /// ```
    /// use chrono::{NaiveDate, Weekday};
    /// use punctual::trigger::{IntoTrigger, cron};
    ///
    /// let holidays: Vec<NaiveDate> = vec!["2026-12-25".parse()?, "2027-01-01".parse()?];
    /// let trigger = cron("0 9 * * MON-FRI").except(holidays).into_trigger()?;
    /// let eve = "2026-12-31T12:00:00Z".parse()?;
    /// assert_eq!(trigger.next_after(eve)?, Some("2027-01-04T09:00:00Z".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn except(self, days: impl IntoDays) -> Build<K> {
        self.bound(|build| {
            build.days.except(days.into_days()?);
            Ok(())
        })
    }
}

impl<K> Build<K> {
    /// Goes by the wall clock of this zone: a [`TimeZone`], a [`chrono_tz::Tz`], or the IANA name of
    /// one. Default: the scheduler's zone, which is UTC unless its builder says otherwise.
    ///
    /// What goes by no wall clock, such as an interval, has its days and hours in this zone: those
    /// of [`only`](Build::only), [`except`](Build::except) and [`between`](Build::between).
    ///
    /// ```
    /// use punctual::trigger::{IntoTrigger, at, every};
    ///
    /// let trigger = every("15 minutes").between("09:00", "17:00").in_tz("Asia/Tokyo");
    /// let text = "every 15min; between 09:00 and 17:00; days in Asia/Tokyo";
    /// assert_eq!(trigger.into_trigger()?.to_string(), text);
    ///
    /// let trigger = at("2026-12-01 10:30").in_tz("Asia/Tokyo").into_trigger()?;
    /// assert_eq!(trigger, at("2026-12-01T10:30:00+09:00").into_trigger()?);
    /// # Ok::<(), punctual::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A zone where nothing goes by one, and one that differs from one that the text names, or from
    /// an earlier one:
    ///
    /// ```
    /// use punctual::trigger::{IntoTrigger, cron};
    ///
    /// let build = cron("CRON_TZ=Europe/Berlin 0 9 * * *").in_tz("America/New_York");
    /// assert_eq!(
    ///     build.into_trigger().unwrap_err().to_string(),
    ///     "the zone is `Europe/Berlin` and again `America/New_York`: leave one of them out",
    /// );
    /// ```
    pub fn in_tz(self, zone: impl IntoTimeZone) -> Build<K> {
        self.bound(|build| {
            set_once(&mut build.zone, zone.into_time_zone()?, |[a, b]| {
                format!("the zone is `{a}` and again `{b}`")
            })
        })
    }
}

impl<K: InZone> Build<K> {
    /// What happens to a wall time that a gap swallows. Default: see [`Gap`].
    pub fn gap(self, gap: Gap) -> Build<K> {
        self.map(|mut kind| {
            set_once(&mut kind.rules().gap, gap, |[a, b]| {
                format!("the gap is `{a:?}` and again `{b:?}`")
            })?;
            Ok(kind)
        })
    }

    /// Which occurrence of a repeated wall time fires. Default: see [`Fold`].
    pub fn fold(self, fold: Fold) -> Build<K> {
        self.map(|mut kind| {
            set_once(&mut kind.rules().fold, fold, |[a, b]| {
                format!("the fold is `{a:?}` and again `{b:?}`")
            })?;
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

impl Build<CalendarInterval> {
    /// Adds so many years to get from one date to the next.
    pub fn years(self, years: u32) -> Build<CalendarInterval> {
        self.map(|calendar| calendar.every_years(years))
    }

    /// Adds so many months to get from one date to the next.
    pub fn months(self, months: u32) -> Build<CalendarInterval> {
        self.map(|calendar| calendar.every_months(months))
    }

    /// Adds so many weeks to get from one date to the next.
    pub fn weeks(self, weeks: u32) -> Build<CalendarInterval> {
        self.map(|calendar| calendar.every_weeks(weeks))
    }

    /// Adds so many days to get from one date to the next.
    pub fn days(self, days: u32) -> Build<CalendarInterval> {
        self.map(|calendar| calendar.every_days(days))
    }

    /// The time of day: a [`chrono::NaiveTime`] of whole seconds, or a text such as `"10:30"`.
    /// Asked twice, both. Default: midnight.
    pub fn at(self, time: impl IntoTimeOfDay) -> Build<CalendarInterval> {
        let time = time.into_time_of_day();
        self.map(|calendar| Ok(calendar.at(time?)))
    }

    /// The first date, from which the others count. Default: that of
    /// [`starting_at`](Build::starting_at), and failing that the day the job is added.
    pub fn starting_on(self, date: NaiveDate) -> Build<CalendarInterval> {
        self.map(|calendar| calendar.starting_on(date))
    }
}
