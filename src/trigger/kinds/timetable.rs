//! Fire times on certain days at certain times of day: what people say in words.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::schedule::{KindOption, Schedule, Search};
use crate::{
    error::Error,
    trigger::{
        instant::just_before,
        quote::one_line,
        search::Budget,
        wall_clock::{Fold, Gap, InZone, Readings, ZoneRules, Zoned},
        weekdays,
        words::{self, DaysOfMonth, Meaning, On},
    },
    zone::{DAY, IntoTimeZone as _, TimeZone},
};

/// A trigger that fires on certain days at certain times of day; made by
/// [`every`](crate::trigger::every), of [words](crate::trigger::Words) or of numbers.
///
/// It differs from [`Cron`](crate::trigger::Cron) in what that cannot say: several times of day whose
/// minutes differ, and every so many days, weeks or months. Of the latter, those count that start
/// with the first fire: `every 2 weeks on monday`, added on a Wednesday, fires on the Monday that
/// follows, and then on every other one. Weeks start on Monday.
///
/// # Daylight saving
///
/// A time that a gap swallows fires at the first instant after it, and one that occurs twice fires
/// at its first occurrence. [`Gap`] and [`Fold`] have the tables, and choose otherwise.
///
/// # Limits
///
/// Fire times are whole seconds of the years 1900 to 2199. A day that a month does not have is passed over.
///
/// # Serialized form
///
/// ```
/// use punctual::trigger::{IntoTrigger, Trigger, every};
///
/// let trigger = every("weekday at 9:00, 17:30 Europe/Berlin").into_trigger()?;
/// let json = r#"{"type":"timetable","words":"every weekday at 9:00, 17:30","zone":"Europe/Berlin"}"#;
/// assert_eq!(serde_json::to_string(&trigger)?, json);
/// assert_eq!(serde_json::from_str::<Trigger>(json)?, trigger);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `"gap"` and `"fold"` are there if they were asked for, and `"from"`, the date from which days,
/// weeks or months count, once it is known.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Repr", into = "Repr")]
pub struct Timetable {
    days: Arc<DaysAndTimes>,
    /// The date of the first fire, if it matters and is known.
    from: Option<NaiveDate>,
    rules: ZoneRules,
}

#[derive(Debug, PartialEq)]
struct DaysAndTimes {
    /// Every so many days, weeks or months, as the days are.
    step: u32,
    days: On,
    /// Seconds since midnight, in ascending order; at least one.
    times: Box<[u32]>,
}

/// 1970-01-01, in days of the Common Era.
const EPOCH: i64 = 719_163;
/// 1900-01-01 and 2200-01-01, in days since 1970-01-01.
const DAYS: std::ops::Range<i64> = -25_567..84_006;

impl Timetable {
    pub(in crate::trigger) fn new(
        step: u64,
        days: On,
        mut times: Vec<u32>,
        rules: ZoneRules,
    ) -> Result<Timetable, Error> {
        let (unit, most) = match days {
            On::EveryDay => ("days", 109_573),
            On::Week(_) => ("weeks", 15_653),
            On::Month(_) => ("months", 3_600),
        };
        let step = u32::try_from(step).ok().filter(|step| (1..=most).contains(step)).ok_or_else(|| {
            Error::invalid_trigger(format!(
                "every {step} {unit}: the number is not in 1..={most}, which the calendar has from 1900 to 2199: use another one"
            ))
        })?;
        times.sort_unstable();
        times.dedup();
        let days = DaysAndTimes { step, days, times: times.into() };
        Ok(Timetable { days: Arc::new(days), from: None, rules })
    }

    /// The zone whose wall clock it goes by, if that was said or filled in.
    pub fn zone(&self) -> Option<TimeZone> {
        self.rules.zone
    }

    /// The date from which its days, weeks or months count, if it has more than one of them from
    /// one fire to the next, and it was filled in.
    pub fn counts_from(&self) -> Option<NaiveDate> {
        self.from
    }

    /// The words, without the zone.
    pub fn words(&self) -> String {
        self.days.to_string()
    }

    fn counted_from(mut self, date: NaiveDate) -> Result<Timetable, Error> {
        if self.days.step == 1 {
            return Err(Error::invalid_trigger(format!(
                "`{}` counts nothing, so it does not matter from which date: leave {date} out",
                self.days
            )));
        }
        if !DAYS.contains(&number(date)) {
            return Err(Error::invalid_trigger(format!(
                "the date {date} is not in the years 1900 to 2199: use another one"
            )));
        }
        self.from = Some(date);
        Ok(self)
    }

    /// Whether it is not known yet from which date to count.
    fn waits_for_first_date(&self) -> bool {
        self.days.step > 1 && self.from.is_none()
    }

    fn zoned<'a>(&self, dates: &'a Dates<'a>) -> Zoned<'a, Dates<'a>> {
        self.rules.apply(dates, true)
    }

    fn dates(&self) -> Dates<'_> {
        let days = &*self.days;
        // Before it is known where to count from, the next may be any.
        match self.from {
            None => Dates { days, step: 1, phase: 0 },
            Some(from) => {
                Dates { days, step: i64::from(days.step), phase: days.days.cell(number(from)) }
            }
        }
    }
}

/// The days and times, counted from a date.
struct Dates<'a> {
    days: &'a DaysAndTimes,
    step: i64,
    /// A cell that is one of those that count.
    phase: i64,
}

impl Dates<'_> {
    fn on_or_after(&self, day: i64) -> Option<i64> {
        let on = self.days.days;
        let mut day = day.max(DAYS.start);
        // Each turn goes to a later cell: months, of which there are 3,600, if those are many.
        while day < DAYS.end {
            let cell = on.cell(day);
            let past = (cell - self.phase).rem_euclid(self.step);
            if past == 0
                && let Some(day) = (day..on.first_day(cell + 1)).find(|&day| on.contains(day))
            {
                return DAYS.contains(&day).then_some(day);
            }
            day = on.first_day(cell + self.step - past);
        }
        None
    }

    fn on_or_before(&self, day: i64) -> Option<i64> {
        let on = self.days.days;
        let mut day = day.min(DAYS.end - 1);
        while day >= DAYS.start {
            let cell = on.cell(day);
            let past = (cell - self.phase).rem_euclid(self.step);
            if past == 0
                && let Some(day) = (on.first_day(cell)..=day).rev().find(|&day| on.contains(day))
            {
                return DAYS.contains(&day).then_some(day);
            }
            let back = if past == 0 { self.step } else { past };
            day = on.first_day(cell - back + 1) - 1;
        }
        None
    }
}

impl Readings for Dates<'_> {
    // It looks at each day, week or month that its steps leave.
    const COST: u32 = 12;

    fn at_or_after(&self, reading: i64) -> Option<i64> {
        let times = &self.days.times;
        let (day, second) = (reading.div_euclid(DAY), reading.rem_euclid(DAY));
        let found = self.on_or_after(day)?;
        let from = if found == day { second } else { 0 };
        match times.iter().map(|&time| i64::from(time)).find(|&time| time >= from) {
            Some(time) => Some(found * DAY + time),
            None => Some(self.on_or_after(day + 1)? * DAY + i64::from(*times.first()?)),
        }
    }

    fn at_or_before(&self, reading: i64) -> Option<i64> {
        let times = &self.days.times;
        let (day, second) = (reading.div_euclid(DAY), reading.rem_euclid(DAY));
        let found = self.on_or_before(day)?;
        let to = if found == day { second } else { DAY };
        match times.iter().rev().map(|&time| i64::from(time)).find(|&time| time <= to) {
            Some(time) => Some(found * DAY + time),
            None => Some(self.on_or_before(day - 1)? * DAY + i64::from(*times.last()?)),
        }
    }
}

impl On {
    /// The number of the day, week or month that a day lies in.
    fn cell(self, day: i64) -> i64 {
        match self {
            On::EveryDay => day,
            // 1969-12-29 was a Monday.
            On::Week(_) => (day + 3).div_euclid(7),
            On::Month(_) => {
                let date = date_of(day);
                i64::from(date.year()) * 12 + i64::from(date.month0())
            }
        }
    }

    fn first_day(self, cell: i64) -> i64 {
        match self {
            On::EveryDay => cell,
            On::Week(_) => cell * 7 - 3,
            On::Month(_) => {
                let (year, month) = (cell.div_euclid(12), cell.rem_euclid(12));
                NaiveDate::from_ymd_opt(year as i32, month as u32 + 1, 1).map_or(DAYS.end, number)
            }
        }
    }

    fn contains(self, day: i64) -> bool {
        match self {
            On::EveryDay => true,
            On::Week(weekdays) => weekdays >> (day + 3).rem_euclid(7) & 1 != 0,
            On::Month(days) => days.contains(date_of(day)),
        }
    }
}

fn number(date: NaiveDate) -> i64 {
    i64::from(date.num_days_from_ce()) - EPOCH
}

fn date_of(day: i64) -> NaiveDate {
    let day = day.clamp(DAYS.start - 40, DAYS.end + 40);
    NaiveDate::from_num_days_from_ce_opt((day + EPOCH) as i32).unwrap_or_default()
}

impl Schedule for Timetable {
    fn next(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        self.zoned(&self.dates()).next_on(search.days, search.from, search.until, budget)
    }

    fn last(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        self.zoned(&self.dates()).last_on(search.days, search.from, search.until, budget)
    }

    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }

    fn description(&self) -> String {
        self.rules.in_zone(self.words().replacen('e', "E", 1))
    }

    fn write_options(&self, f: &mut fmt::Formatter<'_>, _short: bool) -> fmt::Result {
        match self.from {
            Some(from) => write!(f, "; from {from}"),
            None => Ok(()),
        }
    }

    fn read_option(&mut self, option: &KindOption<'_>) -> Result<bool, Error> {
        if option.name != "from" {
            return Ok(false);
        }
        *self = self.clone().counted_from(option.date()?)?;
        Ok(true)
    }

    fn anchor(
        &mut self,
        start: &mut Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        zone: TimeZone,
    ) -> Result<(), Error> {
        let before = just_before(start.unwrap_or(now))?;
        self.rules.zone.get_or_insert(zone);
        if self.waits_for_first_date() {
            // By the date that is named: a gap may move the fire time to the next one.
            let first = self.zoned(&self.dates()).next_and_reading(before);
            self.from = first.map(|(_, reading)| date_of(reading.div_euclid(DAY)));
        }
        Ok(())
    }

    fn is_floating(&self) -> bool {
        self.waits_for_first_date()
    }

    fn zone_rules(&self) -> Option<&ZoneRules> {
        Some(&self.rules)
    }

    fn zone_rules_mut(&mut self) -> Option<&mut ZoneRules> {
        Some(&mut self.rules)
    }
}

impl InZone for Timetable {
    fn rules(&mut self) -> &mut ZoneRules {
        &mut self.rules
    }
}

impl fmt::Display for DaysAndTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every ")?;
        match (self.days, self.step) {
            (On::EveryDay, 1) => f.write_str("day")?,
            (On::EveryDay, step) => write!(f, "{step} days")?,
            (On::Week(days), 1) => f.write_str(&names_of(days))?,
            (On::Week(days), step) => write!(f, "{step} weeks on {}", names_of(days))?,
            (On::Month(days), 1) => write!(f, "month on the {}", days_of_month(days))?,
            (On::Month(days), step) => write!(f, "{step} months on the {}", days_of_month(days))?,
        }
        let mut before = " at ";
        for time in &self.times {
            write!(f, "{before}{}:{:02}", time / 3600, time / 60 % 60)?;
            if time % 60 != 0 {
                write!(f, ":{:02}", time % 60)?;
            }
            before = ", ";
        }
        Ok(())
    }
}

fn names_of(days: u8) -> String {
    match days {
        weekdays::WEEKDAY => return "weekday".to_owned(),
        weekdays::WEEKEND => return "weekend".to_owned(),
        _ => {}
    }
    let names = weekdays::NAMES.iter().enumerate().filter(|&(day, _)| days >> day & 1 != 0);
    names.map(|(_, &name)| name).collect::<Vec<_>>().join(", ")
}

fn days_of_month(days: DaysOfMonth) -> String {
    let mut items = Vec::new();
    for date in (1..=31).filter(|date| days.dates >> date & 1 != 0) {
        let suffix = match date {
            1 | 21 | 31 => "st",
            2 | 22 => "nd",
            3 | 23 => "rd",
            _ => "th",
        };
        items.push(format!("{date}{suffix}"));
    }
    if days.dates & DaysOfMonth::LAST != 0 {
        items.push("last day".to_owned());
    }
    for (nth, of_week) in ["1st", "2nd", "3rd", "4th", "5th", "last"].iter().zip(days.nth) {
        for (day, name) in weekdays::NAMES.iter().enumerate() {
            if of_week >> day & 1 != 0 {
                items.push(format!("{nth} {name}"));
            }
        }
    }
    items.join(", ")
}

/// The words, and the zone: `every monday at 10:30 (Europe/Berlin)`.
impl fmt::Display for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.days)?;
        self.rules.write_zone(f)
    }
}

impl fmt::Debug for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timetable")
            .field("words", &self.words())
            .field("from", &self.from)
            .field("rules", &self.rules)
            .finish()
    }
}

/// The serialized form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repr {
    words: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<NaiveDate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fold: Option<Fold>,
}

impl From<Timetable> for Repr {
    fn from(timetable: Timetable) -> Repr {
        let ZoneRules { zone, gap, fold } = timetable.rules;
        Repr {
            words: timetable.words(),
            from: timetable.from,
            zone: zone.map(|zone| zone.name().to_owned()),
            gap,
            fold,
        }
    }
}

impl TryFrom<Repr> for Timetable {
    type Error = Error;

    fn try_from(repr: Repr) -> Result<Timetable, Error> {
        let Meaning::Timetable { step, days, times, rules } =
            words::parse(&repr.words)?.meaning()?
        else {
            return Err(Error::invalid_trigger(format!(
                "`{}` is no timetable, which has days and times of day, as in `every day at 9:00`: write another `type`",
                one_line(&repr.words)
            )));
        };
        let mut timetable = Timetable::new(step, days, times, rules)?;
        if let Some(zone) = repr.zone {
            timetable.rules.name_zone(zone.into_time_zone()?)?;
        }
        (timetable.rules.gap, timetable.rules.fold) = (repr.gap, repr.fold);
        match repr.from {
            Some(from) => timetable.counted_from(from),
            None => Ok(timetable),
        }
    }
}
