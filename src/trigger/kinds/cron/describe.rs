//! Patterns in words, by way of croner.

use std::fmt::Write as _;

use croner::parser::CronParser;

use super::pattern::{Days, Pattern, YEARS};

/// What the pattern says, as an English sentence without its full stop.
///
/// croner is given a text made of the compiled form, not the one that was parsed: it neither reads
/// wrap-around ranges nor describes lists with steps.
pub(super) fn describe(pattern: &Pattern) -> Option<String> {
    const LAST_DAY: &str = "the last day of the month";
    let days = &pattern.days[0];
    // croner knows no `L-3`, and describes `LW` as `L`: both are described as what they stand in
    // place of.
    let last = match (days.before_end, days.nearest_weekday & Days::LAST != 0) {
        (0 | 1, false) => LAST_DAY.to_owned(),
        (0, true) => "the last weekday of the month".to_owned(),
        (before_end, is_weekday) => {
            let mut last: Vec<String> = members(u64::from(before_end))
                .map(|days| match days {
                    0 => LAST_DAY.to_owned(),
                    1 => format!("the day before {LAST_DAY}"),
                    _ => format!("{days} days before {LAST_DAY}"),
                })
                .collect();
            if is_weekday {
                last.push("the last weekday of the month".to_owned());
            }
            last.join(" and ")
        }
    };
    let parser = CronParser::builder().dom_and_dow(!pattern.either).build();
    let sentence = parser.parse(&canonical(pattern)).ok()?.describe();
    Some(sentence.trim_end_matches('.').replace(LAST_DAY, &last))
}

/// A crontab text of seven fields that croner reads as this pattern, if days before the last one
/// are taken for it.
pub(super) fn canonical(pattern: &Pattern) -> String {
    let [mut day, mut weekday] = [day_of_month(&pattern.days[0]), day_of_week(&pattern.days[1])];
    if pattern.either && (day == "*" || weekday == "*") {
        // Every day is in one of them.
        (day, weekday) = ("*".to_owned(), "*".to_owned());
    }
    let years = YEARS.filter(|&year| pattern.years.contains(year)).map(|year| year as u32);
    format!(
        "{} {} {} {day} {} {weekday} {}",
        stepped(pattern.seconds, 60),
        stepped(pattern.minutes, 60),
        stepped(u64::from(pattern.hours), 24),
        list(members(u64::from(pattern.months)), 12),
        list(years, YEARS.count()),
    )
}

fn day_of_month(days: &Days) -> String {
    let mut text = list(members(u64::from(days.of_month)), 31);
    if days.before_end != 0 {
        add(&mut text, "L");
    }
    for day in members(u64::from(days.nearest_weekday)) {
        match day {
            0 if days.before_end != 0 => {}
            0 => add(&mut text, "LW"),
            day => add(&mut text, &format!("{day}W")),
        }
    }
    text
}

fn day_of_week(days: &Days) -> String {
    if days.of_month == Days::ALL_OF_MONTH {
        return "*".to_owned();
    }
    let mut text = list(members(u64::from(days.of_week)), 7);
    for (nth, &weekdays) in days.nth_of_week.iter().enumerate() {
        for weekday in members(u64::from(weekdays)) {
            match nth {
                Days::LAST_OF_WEEK => add(&mut text, &format!("{weekday}L")),
                _ => add(&mut text, &format!("{weekday}#{}", nth + 1)),
            }
        }
    }
    text
}

/// A set of the numbers below `count`, as `*/n` if it is that.
fn stepped(set: u64, count: u32) -> String {
    let every = |step: u32| (0..count).step_by(step as usize).fold(0, |set, bit| set | 1 << bit);
    match (2..=count / 2).find(|&step| set == every(step)) {
        Some(step) => format!("*/{step}"),
        None => list(members(set), count as usize),
    }
}

/// Numbers in ascending order, as `*` if there are `count` of them.
fn list(numbers: impl Iterator<Item = u32>, count: usize) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    if let [(first, last)] = *ranges
        && (last - first) as usize + 1 == count
    {
        return "*".to_owned();
    }
    let mut text = String::new();
    for (first, last) in ranges {
        match last - first {
            0 => add(&mut text, &first.to_string()),
            _ => add(&mut text, &format!("{first}-{last}")),
        }
    }
    text
}

fn members(set: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |bit| set >> bit & 1 != 0)
}

fn add(text: &mut String, item: &str) {
    let comma = if text.is_empty() { "" } else { "," };
    // Writing to a String cannot fail.
    let _ = write!(text, "{comma}{item}");
}
