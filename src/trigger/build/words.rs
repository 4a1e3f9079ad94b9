//! Builders that read like words.

use chrono::Weekday;

use super::{Build, Every};
use crate::{
    error::Error,
    trigger::{
        kinds::{Cron, Interval, Kind, Random, Timetable},
        period::{Period, Unit},
        wall_clock::InZone as _,
        weekdays,
        words::{self, Meaning, Words},
    },
};

/// A number that waits for its unit, as in `every(10).minutes()`; made by [`every`](crate::trigger::every).
#[derive(Clone, Copy, Debug)]
#[must_use = "a number is no trigger before it has a unit, as in `every(10).minutes()`"]
pub struct Count {
    count: u64,
    to: Option<u64>,
    /// A second upper bound, which is an error once there is a unit.
    again: Option<u64>,
}

macro_rules! units {
    ($($unit:ident $singular:ident $plural:ident $doc:literal;)*) => {
        impl Count {
            $(
                #[doc = $doc]
                pub fn $plural(self) -> Build<Words> {
                    self.of(Unit::$unit)
                }

                #[doc = concat!("The same as [`", stringify!($plural), "`](Count::", stringify!($plural), ").")]
                pub fn $singular(self) -> Build<Words> {
                    self.of(Unit::$unit)
                }
            )*
        }
    };
}

units! {
    Millisecond millisecond milliseconds "So many milliseconds of elapsed time.";
    Second second seconds "So many seconds of elapsed time.";
    Minute minute minutes "So many minutes of elapsed time.";
    Hour hour hours "So many hours of elapsed time.";
    Day day days "So many times 24 hours of elapsed time, or so many dates if [`at`](Build::at) follows.";
    Week week weeks "So many times 168 hours of elapsed time, or so many weeks from Monday on if [`on`](Build::on) follows.";
    Month month months "So many months; [`on`](Build::on) must follow.";
}

impl Count {
    /// At random distances, from so many units to this many; see [`Random`](crate::trigger::Random).
    ///
    /// ```
    /// use chrono::{DateTime, TimeDelta, Utc};
    /// use punctual::trigger::{every, IntoTrigger};
    ///
    /// let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse()?;
    /// let trigger = every(5).to(10).minutes().starting_at(start).into_trigger()?;
    /// let first = trigger.next_after(start)?.unwrap();
    /// let second = trigger.next_after(first)?.unwrap();
    /// assert!((5..=10).contains(&(second - first).num_minutes()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to(self, most: u64) -> Count {
        match self.to {
            Some(before) if before != most => Count { again: Some(most), ..self },
            _ => Count { to: Some(most), ..self },
        }
    }

    fn of(self, unit: Unit) -> Build<Words> {
        let Count { count, to, again } = self;
        Build::new(match (to, again) {
            (Some(to), Some(again)) => Err(Error::invalid_trigger(format!(
                "a random period ends with {to} and again with {again}: leave one of them out"
            ))),
            _ => Ok(Words::of(Period { count, to, unit })),
        })
    }
}

impl Every for u64 {
    type Output = Count;

    fn every(self) -> Count {
        Count { count: self, to: None, again: None }
    }
}

impl Every for &str {
    type Output = Build<Words>;

    fn every(self) -> Build<Words> {
        Build::new(words::parse(self))
    }
}

impl Every for String {
    type Output = Build<Words>;

    fn every(self) -> Build<Words> {
        self.as_str().every()
    }
}

/// What [`Build::on`] takes: a [`chrono::Weekday`], several of them, or words such as
/// `"monday, friday"`, `"weekday"`, `"the 1st and 15th"`, `"last day"` and `"last friday"`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say on which days",
    note = "use a `chrono::Weekday`, an array of them, or words such as \"the 1st\" and \"last friday\""
)]
pub trait OnDays {
    /// The days, as words.
    #[doc(hidden)]
    fn on_days(self) -> String;
}

impl OnDays for Weekday {
    fn on_days(self) -> String {
        [self].on_days()
    }
}

impl<const N: usize> OnDays for [Weekday; N] {
    fn on_days(self) -> String {
        self.as_slice().on_days()
    }
}

impl OnDays for Vec<Weekday> {
    fn on_days(self) -> String {
        self.as_slice().on_days()
    }
}

impl OnDays for &[Weekday] {
    fn on_days(self) -> String {
        let names = self.iter().map(|day| weekdays::NAMES[day.num_days_from_monday() as usize]);
        names.collect::<Vec<_>>().join(", ")
    }
}

impl OnDays for &str {
    fn on_days(self) -> String {
        self.to_owned()
    }
}

impl Build<Words> {
    /// On these days of the week, or of the month; see [`OnDays`]. Asked twice, on all of them.
    ///
    /// ```
    /// use chrono::Weekday::{Mon, Thu};
    /// use punctual::trigger::{every, IntoTrigger};
    ///
    /// assert!(every(2).weeks().on([Mon, Thu]).at("10:30").into_trigger().is_ok());
    /// assert!(every(1).month().on("the 1st and 15th").at("7:00").into_trigger().is_ok());
    /// # Ok::<(), punctual::Error>(())
    /// ```
    pub fn on(self, days: impl OnDays) -> Build<Words> {
        let text = days.on_days();
        self.map(|mut words| {
            let days = words::days(&text)?;
            words.on = Some(words.on.map_or(Ok(days), |on| on.and(days))?);
            Ok(words)
        })
    }

    /// At these times of the day: `"10:30"`, `"9am"` or `"9:00, 17:30"`. Default: midnight. An hour
    /// is given its minutes, as in `":15"`, and a minute its seconds. Asked twice, at all of them.
    ///
    /// ```
    /// use punctual::trigger::{every, IntoTrigger};
    ///
    /// let twice = every(1).day().at("10:30").at("17:00").into_trigger()?;
    /// assert_eq!(twice, every("day at 10:30, 17:00").into_trigger()?);
    /// # Ok::<(), punctual::Error>(())
    /// ```
    pub fn at(self, times: impl AsRef<str>) -> Build<Words> {
        self.map(|mut words| {
            words.times.extend(words::times(times.as_ref())?);
            Ok(words)
        })
    }
}

impl TryFrom<Words> for Kind {
    type Error = Error;

    fn try_from(words: Words) -> Result<Kind, Error> {
        Ok(match words.meaning()? {
            Meaning::Elapsed(period) => {
                let shortest = Interval::new(period.nanos())?;
                match period.to {
                    None => shortest.into(),
                    Some(to) => {
                        let longest = Interval::new(Period { count: to, ..period }.nanos())?;
                        Random::new(shortest.period_ms(), longest.period_ms())?.into()
                    }
                }
            }
            Meaning::Cron { text, rules } => {
                let mut cron = Cron::parse(&text)?;
                *cron.rules() = rules;
                cron.into()
            }
            Meaning::Timetable { step, days, times, rules } => {
                Timetable::new(step, days, times, rules)?.into()
            }
        })
    }
}
