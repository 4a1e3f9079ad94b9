//! The days of the week: their names, and sets of them as bits.

use chrono::Weekday;

/// The names, Monday first.
pub(super) const NAMES: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// The days of the week, Monday first.
pub(super) const WEEK: [Weekday; 7] = [
    Weekday::Mon,
    Weekday::Tue,
    Weekday::Wed,
    Weekday::Thu,
    Weekday::Fri,
    Weekday::Sat,
    Weekday::Sun,
];

/// Monday to Friday.
pub(super) const WEEKDAY: u8 = 0b001_1111;
/// Saturday and Sunday.
pub(super) const WEEKEND: u8 = 0b110_0000;

/// The bit of a day of the week; Monday is bit 0.
pub(super) fn bit(day: Weekday) -> u8 {
    1 << day.num_days_from_monday()
}

/// The days of the week of this name, as bits.
pub(super) fn named(word: &str) -> Option<u8> {
    let singular = word.strip_suffix('s').unwrap_or(word);
    match singular {
        "weekday" => return Some(WEEKDAY),
        "weekend" => return Some(WEEKEND),
        _ => {}
    }
    // `mon`, `tues`, `thurs`: at least three letters of the name.
    let day = NAMES
        .iter()
        .position(|name| *name == singular || word.len() >= 3 && name.starts_with(word))?;
    Weekday::try_from(day as u8).ok().map(bit)
}
