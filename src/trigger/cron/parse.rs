//! Crontab text, read strictly: what is accepted means what it says.

use chrono_tz::Tz;

use super::pattern::{Days, Pattern, YEARS, Years};
use crate::{error::Error, trigger::zone::IntoTimeZone as _};

/// A text, read.
pub(super) struct Parsed<'a> {
    /// The text without its zone.
    pub(super) expression: &'a str,
    pub(super) zone: Option<Tz>,
    pub(super) pattern: Pattern,
    /// Whether neither the minute nor the hour field starts with `*`: ISC cron's rule for what
    /// must not be lost in a gap, nor run twice in a fold.
    pub(super) fixed_time: bool,
}

pub(super) fn parse(text: &str) -> Result<Parsed<'_>, Error> {
    let invalid = |reason: String| {
        // A token may be as long and as odd as the text is; the longest reason has 160 letters.
        let reason = clipped(&reason, 300);
        Error::invalid_trigger(format!("invalid cron expression `{}`: {reason}", one_line(text)))
    };
    let (zone, expression) = split_zone(text.trim()).map_err(|error| invalid(error.to_string()))?;
    let fields = match expression.strip_prefix('@') {
        Some(name) => nickname(name).map_err(invalid)?,
        None => expression,
    };
    let (pattern, fixed_time) = fields_of(fields).map_err(invalid)?;
    Ok(Parsed { expression, zone, pattern, fixed_time })
}

/// A field of numbers, some of which may have names.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) min: u32,
    pub(super) max: u32,
    /// The names, starting with that of `min`.
    pub(super) names: &'static [&'static str],
}

pub(super) const SECOND: Field = Field { name: "second", min: 0, max: 59, names: &[] };
pub(super) const MINUTE: Field = Field { name: "minute", min: 0, max: 59, names: &[] };
pub(super) const HOUR: Field = Field { name: "hour", min: 0, max: 23, names: &[] };
const DAY: Field = Field { name: "day of month", min: 1, max: 31, names: &[] };
pub(super) const MONTH: Field = Field {
    name: "month",
    min: 1,
    max: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
/// Sunday is both 0 and 7.
const WEEKDAY: Field = Field {
    name: "day of week",
    min: 0,
    max: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
};
const YEAR: Field =
    Field { name: "year", min: *YEARS.start() as u32, max: *YEARS.end() as u32, names: &[] };

fn split_zone(text: &str) -> Result<(Option<Tz>, &str), Error> {
    let Some(rest) = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) else {
        return Ok((None, text));
    };
    let (name, expression) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    Ok((Some(name.into_time_zone()?), expression.trim_start()))
}

fn nickname(name: &str) -> Result<&'static str, String> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "yearly" | "annually" => "0 0 1 1 *",
        "monthly" => "0 0 1 * *",
        "weekly" => "0 0 * * 0",
        "daily" | "midnight" => "0 0 * * *",
        "hourly" => "0 * * * *",
        "reboot" => {
            return Err("`@reboot` is no time of the clock: use the trigger `now()`".into());
        }
        _ => {
            return Err(format!(
                "`@{name}` is no nickname: those are `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight` and `@hourly`"
            ));
        }
    })
}

fn fields_of(text: &str) -> Result<(Pattern, bool), String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [second, minute, hour, day, month, weekday, year] = match *fields {
        [a, b, c, d, e] => ["0", a, b, c, d, e, "*"],
        [a, b, c, d, e, f] => [a, b, c, d, e, f, "*"],
        [a, b, c, d, e, f, g] => [a, b, c, d, e, f, g],
        _ => {
            return Err(format!(
                "it has {} fields, not 5 (minute, hour, day of month, month, day of week), 6 with seconds first, or 7 with years last",
                fields.len()
            ));
        }
    };
    let days = [days_of_month(day)?, days_of_week(weekday)?];
    let pattern = Pattern {
        seconds: SECOND.set(second)?,
        minutes: MINUTE.set(minute)?,
        hours: HOUR.set(hour)? as u32,
        months: MONTH.set(month)? as u16,
        weeks: Pattern::ALL_WEEKS,
        either: either([day, weekday], &days),
        days,
        years: years(year)?,
    };
    let fixed_time = !minute.starts_with('*') && !hour.starts_with('*');
    Ok((pattern, fixed_time))
}

fn days_of_month(text: &str) -> Result<Days, String> {
    if is_any(text) {
        return Ok(Days { of_month: Days::ALL_OF_MONTH, ..Days::default() });
    }
    let mut days = Days::default();
    for item in DAY.items(text)? {
        if item.eq_ignore_ascii_case("L") {
            days.of_month |= Days::LAST;
        } else if item.eq_ignore_ascii_case("LW") {
            days.nearest_weekday |= Days::LAST;
        } else if let Some(day) = item.strip_suffix(['W', 'w']) {
            days.nearest_weekday |= 1 << DAY.value(day, item)?;
        } else {
            DAY.each(item, |day| days.of_month |= 1 << day)?;
        }
    }
    if days.of_month & days.nearest_weekday & Days::LAST != 0 {
        return Err(format!(
            "day of month `{text}` has both `L`, the last day, and `LW`, the last weekday: use one of them"
        ));
    }
    Ok(days)
}

fn days_of_week(text: &str) -> Result<Days, String> {
    if is_any(text) {
        return Ok(Days { of_month: Days::ALL_OF_MONTH, ..Days::default() });
    }
    let mut days = Days::default();
    for item in WEEKDAY.items(text)? {
        let (weekday, nth) = if let Some((weekday, nth)) = item.split_once('#') {
            let nth = match nth {
                "L" | "l" => Days::LAST_OF_WEEK,
                "1" | "2" | "3" | "4" | "5" => usize::from(nth.as_bytes()[0] - b'1'),
                _ => {
                    return Err(format!(
                        "day of week `{item}`: after `#` comes a number in 1..=5, or `L` for the last"
                    ));
                }
            };
            (weekday, nth)
        } else if let Some(weekday) = item.strip_suffix(['L', 'l']) {
            (weekday, Days::LAST_OF_WEEK)
        } else {
            WEEKDAY.each(item, |weekday| days.of_week |= 1 << weekday)?;
            continue;
        };
        if weekday.is_empty() {
            return Err(format!(
                "day of week `{item}` does not say which day: write `6{item}` for the last Saturday of the month"
            ));
        }
        let number = WEEKDAY.value(weekday, item)?;
        if number == 7 && nth == Days::LAST_OF_WEEK {
            // crons disagree on whether this ever fires.
            return Err(format!(
                "day of week `{item}`: write `SUNL` for the last Sunday of the month"
            ));
        }
        days.nth_of_week[nth] |= 1 << (number % 7);
    }
    Ok(days)
}

/// Whether a day matches that is in one of the two day fields, which is so if both are restricted.
///
/// `*` and `?` are no restriction, and `*/2` is one, as in croniter. So is a field that happens to
/// list all its values, unless the other has a `*` in it.
fn either([day, weekday]: [&str; 2], days: &[Days; 2]) -> bool {
    let all_days = days[0].of_month | Days::LAST == !0;
    let all_weekdays = days[1].of_week == 0x7f;
    let any_day = is_any(day) || all_days && weekday.contains('*');
    let any_weekday = is_any(weekday) || all_weekdays && day.contains('*');
    !any_day && !any_weekday
}

fn years(text: &str) -> Result<Years, String> {
    if text == "*" {
        return Ok(Years::ALL);
    }
    let mut years = Years::NONE;
    for item in YEAR.items(text)? {
        if item.starts_with("*/") {
            return Err(format!(
                "year `{item}` does not say from which year on: write a range, as in `2024-{}/2`",
                YEAR.max
            ));
        }
        YEAR.each(item, |year| years.insert(i64::from(year)))?;
    }
    Ok(years)
}

fn is_any(text: &str) -> bool {
    matches!(text, "*" | "?")
}

impl Field {
    /// The values of a field without modifiers, as bits.
    fn set(&self, text: &str) -> Result<u64, String> {
        let mut set = 0;
        for item in self.items(text)? {
            self.each(item, |value| set |= 1 << value)?;
        }
        Ok(set)
    }

    fn items<'a>(&self, text: &'a str) -> Result<std::str::Split<'a, char>, String> {
        if text.split(',').any(str::is_empty) {
            return Err(format!("{} `{text}` has an empty item: remove the comma", self.name));
        }
        Ok(text.split(','))
    }

    /// Calls `add` with each value of one item: a value, a range or `*`, the latter two maybe with
    /// a step. A range may wrap around.
    fn each(&self, item: &str, mut add: impl FnMut(u32)) -> Result<(), String> {
        let name = self.name;
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let (first, last) = if range == "*" {
            (self.min, self.min + self.count() - 1)
        } else if let Some((first, last)) = range.split_once('-') {
            (self.value(first, item)?, self.value(last, item)?)
        } else {
            let value = self.value(range, item)?;
            if let Some(step) = step {
                return Err(format!(
                    "{name} `{item}` has a step but no range: write `{value}-{}/{step}`",
                    self.max
                ));
            }
            (value, value)
        };
        let step = match step.map(number) {
            None => 1,
            Some(Some(step)) if (1..=self.count()).contains(&step) => step,
            Some(_) => {
                return Err(format!("{name} `{item}`: the step is not in 1..={}", self.count()));
            }
        };
        let length = match last.checked_sub(first) {
            Some(length) => length,
            None if self.name == YEAR.name => {
                return Err(format!("{name} `{item}` ends before it begins: swap its ends"));
            }
            None => last + self.count() - first,
        };
        for distance in (0..=length).step_by(step as usize) {
            add(self.min + (first - self.min + distance) % self.count());
        }
        Ok(())
    }

    /// One value, by number or by name. `item` is what it is a part of.
    pub(super) fn value(&self, text: &str, item: &str) -> Result<u32, String> {
        let Field { name, min, max, names } = *self;
        if let Some(index) = names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(min + index as u32);
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return number(text)
                .filter(|value| (min..=max).contains(value))
                .ok_or_else(|| format!("{name} {text} is not in {min}..={max}"));
        }
        let is_name =
            |field: &Field| field.names.iter().any(|name| name.eq_ignore_ascii_case(text));
        Err(if text.is_empty() {
            format!("{name} `{item}` lacks a number")
        } else if is_name(&MONTH) || is_name(&WEEKDAY) {
            format!(
                "{name} `{item}`: `{text}` is a name of another field; here go numbers in {min}..={max}"
            )
        } else if names.is_empty() {
            format!("{name} `{item}`: `{text}` is not a number in {min}..={max}")
        } else {
            format!(
                "{name} `{item}`: `{text}` is neither a number in {min}..={max} nor one of {} to {}",
                names[0],
                names[names.len() - 1]
            )
        })
    }

    /// How many different values there are.
    fn count(&self) -> u32 {
        match self.names.len() {
            0 => self.max - self.min + 1,
            names => names as u32,
        }
    }
}

pub(super) fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A text as it can stand in an error: short, and without line breaks.
pub(in crate::trigger) fn one_line(text: &str) -> String {
    clipped(text, 100)
}

/// The first `long` characters of a text, in one line. Control characters are shown, not dropped:
/// what is left without them could be taken for what was written.
fn clipped(text: &str, long: usize) -> String {
    let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line: String = words.chars().map(visible).take(long).collect();
    if words.chars().nth(long).is_some() {
        line.push('…');
    }
    line
}
