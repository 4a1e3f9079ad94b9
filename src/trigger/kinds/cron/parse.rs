//! The fields of crontab text, read strictly: what is accepted means what it says.

use super::pattern::{Days, Pattern, YEARS, Years};
use crate::trigger::{quote::one_line, words};

/// Where a text comes from.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Origin {
    /// Somebody wrote it, and may have meant something else.
    Typed,
    /// It was accepted before, by this version or an earlier one, and keeps its meaning.
    Stored,
}

/// Whether a text without a zone can be read.
pub(super) fn is_schedule(text: &str) -> bool {
    schedule(text, Origin::Typed).is_ok()
}

pub(super) fn schedule(text: &str, origin: Origin) -> Result<(Pattern, bool), String> {
    match text.strip_prefix('@') {
        Some(name) => fields_of(nickname(name)?, origin),
        None => fields_of(text, origin),
    }
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
pub(super) const WEEKDAY: Field = Field {
    name: "day of week",
    min: 0,
    max: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
};
const YEAR: Field =
    Field { name: "year", min: *YEARS.start() as u32, max: *YEARS.end() as u32, names: &[] };

fn nickname(name: &str) -> Result<&'static str, String> {
    if let Some(("every", period)) = name.split_once(char::is_whitespace) {
        let example = match words::parse(period) {
            Ok(_) => format!("use the trigger `every(\"{}\")`", one_line(period)),
            Err(_) => "use the trigger `every`, as in `every(\"1h30m\")`".to_owned(),
        };
        return Err(format!("`@every` is elapsed time, which is no reading of a clock: {example}"));
    }
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

fn fields_of(text: &str, origin: Origin) -> Result<(Pattern, bool), String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [second, minute, hour, day, month, weekday, year] = match *fields {
        [a, b, c, d, e] => ["0", a, b, c, d, e, "*"],
        [a, b, c, d, e, f] => [a, b, c, d, e, f, "*"],
        [a, b, c, d, e, f, g] => [a, b, c, d, e, f, g],
        [] => {
            return Err("it is empty: write, for example, `0 9 * * *`".to_owned());
        }
        _ => {
            let plural = if fields.len() == 1 { "" } else { "s" };
            return Err(format!(
                "it has {} field{plural}, not 5 (minute, hour, day of month, month, day of week), 6 with seconds first, or 7 with years last",
                fields.len()
            ));
        }
    };
    let set = |field: &Field, text| field.set(text, origin);
    let (seconds, minutes, hours) =
        (set(&SECOND, second)?, set(&MINUTE, minute)?, set(&HOUR, hour)?);
    let days = [days_of_month(day, origin)?, days_of_week(weekday, origin)?];
    if origin == Origin::Typed && fields.len() > 5 && day == "?" {
        unlike_quartz(weekday)?;
    }
    let pattern = Pattern {
        seconds,
        minutes,
        hours: hours as u32,
        months: set(&MONTH, month)? as u16,
        weeks: Pattern::ALL_WEEKS,
        either: either([day, weekday], &days),
        days,
        years: years(year, origin)?,
    };
    let fixed_time = !minute.starts_with('*') && !hour.starts_with('*');
    Ok((pattern, fixed_time))
}

fn days_of_month(text: &str, origin: Origin) -> Result<Days, String> {
    if is_any(text) {
        return Ok(Days { of_month: Days::ALL_OF_MONTH, ..Days::default() });
    }
    let mut days = Days::default();
    for item in DAY.items(text)? {
        if item.eq_ignore_ascii_case("L") {
            days.before_end |= 1;
        } else if let Some(distance) = item.strip_prefix("L-").or_else(|| item.strip_prefix("l-")) {
            match number(distance) {
                Some(distance @ 1..=30) => days.before_end |= 1 << distance,
                _ => {
                    return Err(format!(
                        "day of month `{item}`: after `L-` comes a number of days in 1..=30; the last day itself is `L`, and the last from Monday to Friday `LW`"
                    ));
                }
            }
        } else if item.eq_ignore_ascii_case("LW") {
            days.nearest_weekday |= Days::LAST;
        } else if let Some(day) = item.strip_suffix(['W', 'w']) {
            days.nearest_weekday |= 1 << DAY.value(day, item)?;
        } else {
            DAY.each(item, origin, |day| days.of_month |= 1 << day)?;
        }
    }
    if days.before_end & days.nearest_weekday & Days::LAST != 0 {
        return Err(format!(
            "day of month `{text}` has both `L`, the last day, and `LW`, the last weekday: use one of them"
        ));
    }
    Ok(days)
}

fn days_of_week(text: &str, origin: Origin) -> Result<Days, String> {
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
            WEEKDAY.each(item, origin, |weekday| days.of_week |= 1 << weekday)?;
            continue;
        };
        if weekday.is_empty() {
            let which = ["first", "second", "third", "fourth", "fifth", "last"][nth];
            // Quartz reads a lone `L` as the last day of its week.
            let quartz = if item.len() == 1 { ", or `6` for every Saturday" } else { "" };
            return Err(format!(
                "day of week `{item}` does not say which day: write, for example, `6{item}` for the {which} Saturday of the month{quartz}"
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
    let all_days = days[0].of_month == Days::ALL_OF_MONTH;
    let all_weekdays = days[1].of_week == 0x7f;
    let any_day = is_any(day) || all_days && weekday.contains('*');
    let any_weekday = is_any(weekday) || all_weekdays && day.contains('*');
    !any_day && !any_weekday
}

fn years(text: &str, origin: Origin) -> Result<Years, String> {
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
        YEAR.each(item, origin, |year| years.insert(i64::from(year)))?;
    }
    Ok(years)
}

/// Refuses days of the week that mean others in Quartz: there 1 is Sunday and 7 is Saturday.
///
/// A text of Quartz has a `?` in one of the day fields, so this is for one that has it in the other.
fn unlike_quartz(weekday: &str) -> Result<(), String> {
    // Numbers behind `#` and `/` are no days.
    let is_day = |at: usize| {
        let before = weekday[..at].trim_end_matches(|c: char| c.is_ascii_digit());
        !before.ends_with(['#', '/'])
    };
    let days = weekday.char_indices().filter(|&(at, c)| c.is_ascii_digit() && is_day(at));
    let days: Vec<usize> = days.map(|(at, _)| at).collect();
    // Quartz has no day 0, and no day has two digits.
    if days.is_empty() || days.iter().any(|&at| weekday[at..].starts_with('0')) {
        return Ok(());
    }
    let named = |sunday: usize| -> String {
        let name = |(at, c): (usize, char)| match c.to_digit(10).filter(|_| days.contains(&at)) {
            Some(day) => WEEKDAY.names[(day as usize + 7 - sunday) % 7].to_owned(),
            None => c.to_string(),
        };
        weekday.char_indices().map(name).collect()
    };
    Err(format!(
        "day of week `{weekday}`: beside `?` it may be Quartz's, where 1 is Sunday, or crontab's, where 0 is: name the days, `{}` for those of Quartz or `{}` for those of crontab",
        named(1),
        named(0)
    ))
}

fn is_any(text: &str) -> bool {
    matches!(text, "*" | "?")
}

impl Field {
    /// The values of a field without modifiers, as bits.
    fn set(&self, text: &str, origin: Origin) -> Result<u64, String> {
        let mut set = 0;
        for item in self.items(text)? {
            self.each(item, origin, |value| set |= 1 << value)?;
        }
        Ok(set)
    }

    fn items<'a>(&self, text: &'a str) -> Result<std::str::Split<'a, char>, String> {
        if text.split(',').any(str::is_empty) {
            return Err(format!("{} `{text}` has an empty item: remove the comma", self.name));
        }
        Ok(text.split(','))
    }

    /// Calls `add` with each value of one item: a value, a range or `*`, each maybe with a step.
    /// That of a value counts up to the end of the field. A range may wrap around.
    fn each(&self, item: &str, origin: Origin, mut add: impl FnMut(u32)) -> Result<(), String> {
        let name = self.name;
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let end = self.min + self.count() - 1;
        let (first, last) = if range == "*" {
            (self.min, end)
        } else if range.is_empty()
            && let Some(step) = step
        {
            return Err(format!("{name} `{item}` has a step but no range: write `*/{step}`"));
        } else if let Some((first, last)) = range.split_once('-') {
            (self.value(first, item)?, self.value(last, item)?)
        } else {
            let value = self.value(range, item)?;
            if let Some(step) = step
                && self.name == WEEKDAY.name
            {
                // crons disagree on which day 1 is, and on which one is the last.
                return Err(format!(
                    "{name} `{item}` does not say where it ends: name a range, as in `MON-SAT/{step}`"
                ));
            }
            (value, if step.is_some() { end } else { value })
        };
        let length = match last.checked_sub(first) {
            Some(length) => length,
            None if self.name == YEAR.name => {
                return Err(format!("{name} `{item}` ends before it begins: swap its ends"));
            }
            None => last + self.count() - first,
        };
        // Earlier versions let steps be as long as the field.
        let longest = if origin == Origin::Stored { self.count() } else { length };
        let step = match step.map(number) {
            None => 1,
            Some(Some(step)) if (1..=longest).contains(&step) => step,
            Some(step) => return Err(self.misstep(item, [first, length], step)),
        };
        for distance in (0..=length).step_by(step as usize) {
            add(self.min + (first - self.min + distance) % self.count());
        }
        Ok(())
    }

    /// The error for a step that is no number, or that goes past the end at once.
    pub(super) fn misstep(
        &self,
        item: &str,
        [first, length]: [u32; 2],
        step: Option<u32>,
    ) -> String {
        // Words may count to so many months, and to more of all that is shorter.
        const MOST: u32 = 3600;
        let name = self.name;
        if length == 0 {
            return format!("{name} `{item}` has a step but one value: write `{first}`");
        }
        let wrong = format!("{name} `{item}`: the step is not in 1..={length}");
        let Some(step) = step.filter(|step| (1..=MOST).contains(step)) else {
            return wrong;
        };
        if first != self.min || length + 1 < self.count() || step == self.count() {
            return format!("{wrong}, so only {first} would be left: write `{first}`");
        }
        let words = match (name, self.names) {
            ("second" | "minute" | "hour", _) => format!("every {step} {name}s"),
            ("month", _) => format!("every {step} months on the 1st"),
            ("week", _) => format!("every {step} weeks on monday"),
            ("year", _) => return format!("{wrong}: list the years"),
            (_, [first, ..]) if step % 7 == 0 => {
                format!("every {} weeks on {}", step / 7, first.to_lowercase())
            }
            _ => format!("every {step} days at 0:00"),
        };
        format!("{wrong}: for longer periods use the trigger `{words}`")
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
        Err(if text == "?" {
            format!("{name} `{item}`: `?` stands for all of a day field: write `*`")
        } else if text.is_empty() {
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
