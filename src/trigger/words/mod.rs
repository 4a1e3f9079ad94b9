//! Triggers in words.

mod meaning;
mod read;

use chrono::{Datelike as _, NaiveDate};

pub(super) use self::{
    meaning::Meaning,
    read::{bare_period, days, is_bare_period, is_words, parse, parse_alone, times},
};
use super::{
    period::Period,
    wall_clock::{InZone, ZoneRules},
};

/// What was said of a trigger after `every`, in words or by methods.
///
/// ```
/// use chrono::Weekday::Mon;
/// use punctual::trigger::{every, IntoTrigger};
///
/// let words = every("monday at 10:30 Europe/Berlin").into_trigger()?;
/// let typed = every(1).week().on(Mon).at("10:30").in_tz("Europe/Berlin").into_trigger()?;
/// assert_eq!(words, typed);
/// # Ok::<(), punctual::Error>(())
/// ```
///
/// # Words
///
/// | words | by methods | fires |
/// |---|---|---|
/// | `every 10 minutes` | `every(10).minutes()` | every 10 minutes of elapsed time |
/// | `every 1h30m`, `every 1 hour 30 minutes`, `every 1.5 hours` | `every(90).minutes()` | every 90 minutes of elapsed time |
/// | `every 5 to 10 minutes` | `every(5).to(10).minutes()` | at [random](crate::trigger::Random) distances |
/// | `every minute at :17` | `every(1).minute().at(":17")` | at second 17 of every minute |
/// | `every hour at :15`, `hourly at :15` | `every(1).hour().at(":15")` | at minute 15 of every hour |
/// | `every day at 9:00, 17:30`, `daily at 9:00, 17:30` | `every(1).day().at("9:00").at("17:30")` | twice a day |
/// | `every monday at 10:30`, `monday at 10:30` | `every(1).week().on(Mon).at("10:30")` | on Mondays |
/// | `every other monday at 10:30`, `every 2 weeks on monday at 10:30` | `every(2).weeks().on(Mon).at("10:30")` | on every second Monday |
/// | `every weekday at 9am Europe/Berlin` | `every(1).week().on("weekday").at("9am").in_tz("Europe/Berlin")` | from Monday to Friday |
/// | `every month on the 1st at 7:00` | `every(1).month().on("the 1st").at("7:00")` | on the 1st |
/// | `every last friday at 16:00` | `every(1).month().on("last friday").at("16:00")` | on the last Friday of each month |
///
/// The grammar, read in any case. `every` itself may be left out, but a text in place of a trigger
/// needs it before a period, which may as well be a delay:
///
/// ```text
/// words    = [ "every" ] ( elapsed | ( parts | days [ "at" times ] ) [ [ "in" ] zone ] )
/// elapsed  = [ count ] unit
///          | number "to" number unit
///          | number unit { [ "," ] [ "and" ] number unit }          (the larger unit first)
/// unit     = millisecond | second | minute | hour | day | week      (or ms, s, min, h, d, w)
/// parts    = "minute" "at" ":17"                                    (a list)
///          | ( "hour" | "hourly" ) "at" ( ":15" | ":15:30" )        (a list)
/// days     = ( [ count ] "day" | "daily" )                          (with "at")
///          | [ count ] weekdays
///          | ( [ count ] "week" | "weekly" ) "on" weekdays
///          | ( [ count ] "month" | "monthly" ) "on" monthdays
///          | monthdays
/// count    = number | "other", which is 2
/// number   = "10" | "1.5", a whole number of milliseconds           (with a unit; else whole)
/// weekdays = "monday" … "sunday", "mon" … "sun", "weekday", "weekend"  (a list)
/// monthdays = [ "the" ] ( nth | "last" "day" | nth weekdays ) [ "of the month" ]  (a list)
/// nth      = "1st" … "31st" | "first" … "fifth" | "last"
/// times    = "9:00" | "9:00:30" | "9am" | "9:30 pm" | "noon" | "midnight"  (a list)
/// zone     = an IANA name
/// ```
///
/// Units and weekdays may be in the plural. The items of a list are divided by `,` or `and`.
///
/// # What it means
///
/// A unit alone is elapsed time, `every 2 days` too: 48 hours, whatever the clock does, and first
/// after one period. With days or a time it goes by the wall clock of a zone, as a
/// [`Timetable`](crate::trigger::Timetable); the time is midnight if none is said. A number of days, weeks
/// or months counts from the first fire, which is the first day that fits. Parts of an hour or a
/// minute are a [`Cron`](crate::trigger::Cron): `every hour at :15` is `15 * * * *`, and prints so.
///
/// `hourly`, `daily` and `weekly` alone are errors: some mean a period of elapsed time, and others
/// the start of each hour, day or week, as `@hourly`, `@daily` and `@weekly` do in cron text.
///
/// # Errors
///
/// They name the word and the remedy:
///
/// ```
/// use punctual::trigger::{every, IntoTrigger};
///
/// let error = every("mondy at 10:30").into_trigger().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "invalid words `mondy at 10:30`: `mondy` is not a unit or a day: did you mean `monday`?",
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Words {
    period: Period,
    pub(super) on: Option<On>,
    pub(super) times: Vec<Time>,
    rules: ZoneRules,
    /// Whether it was `daily` or the like, which is ambiguous unless days or times follow.
    adverb: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Time {
    /// Seconds since midnight.
    OfDay(u32),
    /// `:15` and `:15:30`: a second of each minute, or a minute of each hour and its second.
    Part(u32, Option<u32>),
}

/// On which days.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::trigger) enum On {
    EveryDay,
    /// Days of the week; Monday is bit 0.
    Week(u8),
    Month(DaysOfMonth),
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::trigger) struct DaysOfMonth {
    /// Bits 1 to 31, and [`LAST`](DaysOfMonth::LAST).
    pub(in crate::trigger) dates: u32,
    /// Days of the week, first to fifth, and last, of the month.
    pub(in crate::trigger) nth: [u8; 6],
}

impl DaysOfMonth {
    /// The last day of the month.
    pub(in crate::trigger) const LAST: u32 = 1;
    pub(in crate::trigger) const LAST_OF_WEEK: usize = 5;

    pub(in crate::trigger) fn contains(&self, date: NaiveDate) -> bool {
        let day = date.day();
        let left = u32::from(date.num_days_in_month()) - day;
        let weekday = 1 << date.weekday().num_days_from_monday();
        self.dates >> day & 1 != 0
            || left == 0 && self.dates & DaysOfMonth::LAST != 0
            || self.nth[(day as usize - 1) / 7] & weekday != 0
            || left < 7 && self.nth[DaysOfMonth::LAST_OF_WEEK] & weekday != 0
    }
}

impl InZone for Words {
    fn rules(&mut self) -> &mut ZoneRules {
        &mut self.rules
    }
}

impl Words {
    pub(super) fn of(period: Period) -> Words {
        let (on, times, rules) = (None, Vec::new(), ZoneRules::default());
        Words { period, on, times, rules, adverb: false }
    }

    fn on(period: Period, days: On) -> Words {
        Words { on: Some(days), ..Words::of(period) }
    }

    /// The number and its unit, as an error quotes them.
    fn so_far(&self) -> String {
        format!("every {}", self.period)
    }

    /// Whether it has a number of units and nothing else.
    fn is_period(&self) -> bool {
        self.on.is_none() && self.times.is_empty() && !self.adverb
    }
}
