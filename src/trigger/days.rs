//! Days on which a trigger fires or does not: weekdays and dates.

use std::fmt;

use chrono::{NaiveDate, Weekday};
use serde::{Deserialize, Serialize};

use super::{
    moment::impossible_date,
    quote::one_line,
    weekdays::{self, WEEK, bit},
};
use crate::error::Error;

/// A set of days: weekdays, dates, or both.
///
/// It says on which days a trigger fires ([`only`](super::Build::only)) or does not
/// ([`except`](super::Build::except)). A [`Weekday`], a [`NaiveDate`], and an array or a `Vec` of
/// either are such sets, too. It has 4,096 dates at most.
///
/// ```
/// use chrono::{NaiveDate, Weekday};
/// use punctual::trigger::{Days, IntoTrigger, cron};
///
/// let christmas: NaiveDate = "2026-12-25".parse()?;
/// let off = Days::weekend().and(christmas);
/// assert!(off.contains(christmas));
///
/// let trigger = cron("0 9 * * *").except(off).into_trigger()?;
/// let eve = "2026-12-24T12:00:00Z".parse()?;
/// assert_eq!(trigger.next_after(eve)?, Some("2026-12-28T09:00:00Z".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Serialized form
///
/// `{"weekdays":["Sat","Sun"],"dates":["2026-12-25"]}`, either being left out if it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Repr", into = "Repr")]
pub struct Days {
    /// Bit 0 is Monday.
    pub(super) weekdays: u8,
    /// In order, each once.
    pub(super) dates: Vec<NaiveDate>,
}

impl Days {
    /// Some days of every week.
    pub fn weekdays(weekdays: impl IntoIterator<Item = Weekday>) -> Days {
        let weekdays = weekdays.into_iter().fold(0, |set, day| set | bit(day));
        Days { weekdays, dates: Vec::new() }
    }

    /// Some dates.
    pub fn dates(dates: impl IntoIterator<Item = NaiveDate>) -> Days {
        let mut dates: Vec<NaiveDate> = dates.into_iter().collect();
        dates.sort_unstable();
        dates.dedup();
        Days { weekdays: 0, dates }
    }

    /// Saturday and Sunday.
    pub fn weekend() -> Days {
        Days::weekdays([Weekday::Sat, Weekday::Sun])
    }

    /// These days and the others.
    pub fn and(mut self, others: impl Into<Days>) -> Days {
        let others = others.into();
        self.dates.extend(others.dates);
        Days { weekdays: self.weekdays | others.weekdays, ..Days::dates(self.dates) }
    }

    /// Whether a date is one of these days.
    pub fn contains(&self, date: NaiveDate) -> bool {
        self.weekdays & bit(chrono::Datelike::weekday(&date)) != 0
            || self.dates.binary_search(&date).is_ok()
    }

    /// The days that are in both sets.
    pub(super) fn common(self, others: Days) -> Days {
        let dates = self.dates.iter().copied().filter(|&date| others.contains(date));
        let theirs = others.dates.iter().copied().filter(|&date| self.contains(date));
        Days { weekdays: self.weekdays & others.weekdays, ..Days::dates(dates.chain(theirs)) }
    }
}

impl FromIterator<NaiveDate> for Days {
    fn from_iter<I: IntoIterator<Item = NaiveDate>>(dates: I) -> Days {
        Days::dates(dates)
    }
}

impl FromIterator<Weekday> for Days {
    fn from_iter<I: IntoIterator<Item = Weekday>>(weekdays: I) -> Days {
        Days::weekdays(weekdays)
    }
}

impl From<Weekday> for Days {
    fn from(weekday: Weekday) -> Days {
        Days::weekdays([weekday])
    }
}

impl From<NaiveDate> for Days {
    fn from(date: NaiveDate) -> Days {
        Days::dates([date])
    }
}

impl<T, const N: usize> From<[T; N]> for Days
where
    Days: FromIterator<T>,
{
    fn from(days: [T; N]) -> Days {
        days.into_iter().collect()
    }
}

impl<T> From<Vec<T>> for Days
where
    Days: FromIterator<T>,
{
    fn from(days: Vec<T>) -> Days {
        days.into_iter().collect()
    }
}

/// What [`Build::only`](super::Build::only) and [`Build::except`](super::Build::except) take: [`Days`], a
/// [`Weekday`], a [`NaiveDate`], an array or a `Vec` of either, what else becomes `Days` by `From`, or a
/// text such as `"Mon-Thu, weekend"`.
///
/// The items of a text are divided by `,`: weekdays, a range of them, `weekday`, `weekend`, and dates.
///
/// ```
/// use punctual::trigger::{IntoTrigger, cron};
///
/// let trigger = cron("0 9 * * *").except("weekend, 2026-12-25").into_trigger()?;
/// assert_eq!(trigger.to_string(), "0 9 * * *; except Sat, Sun, 2026-12-25");
/// # Ok::<(), punctual::Error>(())
/// ```
pub trait IntoDays {
    /// Reads the days.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if the text names none.
    fn into_days(self) -> Result<Days, Error>;
}

impl<D: Into<Days>> IntoDays for D {
    fn into_days(self) -> Result<Days, Error> {
        Ok(self.into())
    }
}

impl IntoDays for &str {
    fn into_days(self) -> Result<Days, Error> {
        Days::read(self).map_err(|reason| {
            Error::invalid_trigger(format!("`{}` does not name days: {reason}", one_line(self)))
        })
    }
}

impl IntoDays for String {
    fn into_days(self) -> Result<Days, Error> {
        self.as_str().into_days()
    }
}

impl Days {
    /// All of its days, as text.
    pub(super) fn words(&self) -> impl Iterator<Item = String> {
        let weekdays = WEEK.iter().filter(|&&day| self.weekdays & bit(day) != 0);
        weekdays.map(Weekday::to_string).chain(self.dates.iter().map(NaiveDate::to_string))
    }

    /// Reads days as they print; an error is the reason and the remedy.
    pub(super) fn read(text: &str) -> Result<Days, String> {
        let mut days = Days::default();
        for word in text.split(',').map(str::trim) {
            days = match word.parse() {
                Ok(date) => days.and(Days::dates([date])),
                Err(_) => days.and(weekdays_named(word).ok_or_else(|| {
                    impossible_date(word)
                        .unwrap_or_else(|| "write, for example, `Sat, Sun, 2026-12-25`".to_owned())
                })?),
            };
        }
        Ok(days)
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        let weekdays = self.weekdays.count_ones() as usize;
        let mut words: Vec<String> = self.words().take(weekdays + SHOWN).collect();
        if self.dates.len() > SHOWN {
            words.push(format!("{} more dates", self.dates.len() - SHOWN));
        }
        f.write_str(&words.join(", "))
    }
}

/// One day of the week, a range of them, maybe around the end, or `weekday` or `weekend`.
fn weekdays_named(word: &str) -> Option<Days> {
    if let Some((first, last)) = word.split_once('-') {
        let (first, last): (Weekday, Weekday) = (first.parse().ok()?, last.parse().ok()?);
        let days = WEEK.into_iter().cycle().skip_while(|&day| day != first);
        let length = (last.num_days_from_monday() + 7 - first.num_days_from_monday()) % 7;
        return Some(days.take(length as usize + 1).collect());
    }
    let weekdays = weekdays::named(&word.to_ascii_lowercase())?;
    Some(WEEK.into_iter().filter(|&day| weekdays & bit(day) != 0).collect())
}

/// The serialized form.
#[derive(Serialize, Deserialize)]
struct Repr {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    weekdays: Vec<Weekday>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dates: Vec<NaiveDate>,
}

impl From<Days> for Repr {
    fn from(Days { weekdays, dates }: Days) -> Repr {
        let weekdays = WEEK.into_iter().filter(|&day| weekdays & bit(day) != 0).collect();
        Repr { weekdays, dates }
    }
}

impl From<Repr> for Days {
    fn from(Repr { weekdays, dates }: Repr) -> Days {
        Days::weekdays(weekdays).and(dates)
    }
}
