//! Fire times at which the wall clock of a zone matches fields given by name, as in APScheduler.

mod parse;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};

use super::{
    super::{
        Build, pasted,
        zone::{Fold, Gap, InZone, Readings, ZoneRules, Zoned},
    },
    parse::one_line,
    pattern::Pattern,
};
use crate::{
    error::Error,
    zone::{IntoTimeZone as _, TimeZone},
};

/// A trigger that fires when the wall clock of a zone matches fields given by name; made by
/// [`cron_fields`](super::super::cron_fields).
///
/// ```
/// use chrono_tz::Europe::Berlin;
/// use punctual::trigger::{IntoTrigger, cron_fields};
///
/// // At midnight and at 1, 2 and 3 o'clock of the third Friday of each month.
/// let trigger = cron_fields().day("3rd fri").hour("0-3").in_tz(Berlin).into_trigger()?;
/// let november = "2026-11-01T00:00:00Z".parse()?;
/// assert_eq!(trigger.next_after(november)?, Some("2026-11-19T23:00:00Z".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Fields
///
/// They are those of APScheduler's `cron` trigger, from the most significant to the least:
///
/// | field | values | also | if left out |
/// |---|---|---|---|
/// | [`year`](Build::year) | 1970–9999 | | `*` |
/// | [`month`](Build::month) | 1–12, `jan`–`dec` | | `*` or `1` |
/// | [`day`](Build::day) | 1–31 | `last`, `3rd fri` (`1st` to `5th`), `last fri` | `*` or `1` |
/// | [`week`](Build::week) | 1–53, as ISO 8601 counts | | `*` |
/// | [`day_of_week`](Build::day_of_week) | 0–6, `mon`–`sun`; **0 is Monday** | | `*` |
/// | [`hour`](Build::hour) | 0–23 | | `*` or `0` |
/// | [`minute`](Build::minute) | 0–59 | | `*` or `0` |
/// | [`second`](Build::second) | 0–59 | | `*` or `0` |
///
/// A field that is left out is `*` if a less significant one is given, and otherwise what the
/// table names last: `.hour(3)` fires at 03:00:00 of every day, `.minute("*/5")` at second 0 of
/// every fifth minute of every hour.
///
/// A field takes a number, or a text that lists, divided by commas, these expressions:
///
/// | expression | matches |
/// |---|---|
/// | `*` | every value |
/// | `*/a` | every `a`-th value from the lowest on |
/// | `a` | `a` |
/// | `a/c` | every `c`-th value from `a` on |
/// | `a-b` | the values from `a` to `b` |
/// | `a-b/c` | every `c`-th value from `a` to `b` |
/// | `mon`, `jan-mar` | a name, or a range of names, which takes no step |
///
/// Names are read in any case. Ranges do not wrap around. A step is at most the distance between
/// the ends of its range, as in [`Cron`](super::Cron). A day must match `day`, `week` *and*
/// `day_of_week`, unlike a day of [`cron`](super::super::cron) text, where 0 is Sunday besides.
///
/// What APScheduler reads past is an error here: `mon-fri/2`, `jan5`, `last-1`.
///
/// # Daylight saving
///
/// As for [`Cron`](super::Cron): fields whose minute and hour both do not start with `*` are
/// fixed-time, with [`Gap::Next`] and [`Fold::First`]; all others have [`Gap::Skip`] and
/// [`Fold::Both`]. APScheduler itself comes closest to the latter.
///
/// # Limits
///
/// Fire times are whole seconds of the years 1970 to 2199; later years can be named, but nothing
/// fires in them.
///
/// # Serialized form
///
/// The fields that were given, each as a text, and the zone; numbers are read, too.
///
/// ```
/// use punctual::trigger::{IntoTrigger, Trigger, cron_fields};
///
/// let trigger = cron_fields().day("3rd fri").hour(3).in_tz("Europe/Berlin").into_trigger()?;
/// let json = r#"{"type":"cron_fields","day":"3rd fri","hour":"3","zone":"Europe/Berlin"}"#;
/// assert_eq!(serde_json::to_string(&trigger)?, json);
/// assert_eq!(serde_json::from_str::<Trigger>(json)?, trigger);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `"gap"` and `"fold"` are there if they were asked for. A key that is none of these is an error.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(try_from = "Repr")]
pub struct CronFields {
    schedule: Arc<Schedule>,
    pub(in crate::trigger) rules: ZoneRules,
}

/// Fields and what they mean.
#[derive(Clone, PartialEq)]
struct Schedule {
    /// The fields that were given, the most significant first.
    given: Box<[(Part, Box<str>)]>,
    pattern: Pattern,
    fixed_time: bool,
}

macro_rules! parts {
    ($($(#[$doc:meta])* $part:ident $name:ident $default:literal;)*) => {
        /// A field, the most significant first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        enum Part {
            $($part,)*
        }

        impl Part {
            fn name(self) -> &'static str {
                match self {
                    $(Part::$part => stringify!($name),)*
                }
            }

            fn named(name: &str) -> Option<Part> {
                [$(Part::$part),*].into_iter().find(|part| part.name() == name)
            }

            /// What the field is if neither it nor a less significant one is given.
            fn default_text(self) -> &'static str {
                match self {
                    $(Part::$part => $default,)*
                }
            }
        }

        /// Each of these sets one field to a number, or to an expression of the table of
        /// [`CronFields`]. Setting a field again, to something else, is an error.
        impl Build<CronFields> {
            $(
                $(#[$doc])*
                pub fn $name(self, expression: impl fmt::Display) -> Build<CronFields> {
                    let text = expression.to_string();
                    self.map(|fields| match pasted::disguised(&text) {
                        Some(reason) => Err(Error::invalid_trigger(format!(
                            "invalid cron fields: {} `{}`: {reason}",
                            Part::$part.name(),
                            one_line(&text)
                        ))),
                        None => fields.with(Part::$part, &text),
                    })
                }
            )*
        }

        /// The serialized form.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Repr {
            $($name: Option<Expression>,)*
            zone: Option<String>,
            gap: Option<Gap>,
            fold: Option<Fold>,
        }

        impl TryFrom<Repr> for CronFields {
            type Error = Error;

            fn try_from(repr: Repr) -> Result<CronFields, Error> {
                let mut fields = CronFields::new()?;
                $(
                    if let Some(expression) = repr.$name {
                        fields = fields.with(Part::$part, &expression.into_text())?;
                    }
                )*
                fields.validate()?;
                let zone = repr.zone.map(|zone| zone.into_time_zone()).transpose()?;
                fields.rules = ZoneRules { zone, gap: repr.gap, fold: repr.fold };
                Ok(fields)
            }
        }
    };
}

parts! {
    /// The year.
    Year year "*";
    /// The month: 1 to 12, or `jan` to `dec`.
    Month month "1";
    /// The day of the month: 1 to 31, `last`, or as in `3rd fri` and `last fri`.
    Day day "1";
    /// The week, as ISO 8601 counts: 1 to 53. It begins on Monday, and belongs to the year that its
    /// Thursday is in.
    Week week "*";
    /// The day of the week: 0 to 6, or `mon` to `sun`. 0 is Monday.
    DayOfWeek day_of_week "*";
    /// The hour: 0 to 23.
    Hour hour "0";
    /// The minute: 0 to 59.
    Minute minute "0";
    /// The second: 0 to 59.
    Second second "0";
}

/// How a field may be written in JSON.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a field is a text or a whole number")]
enum Expression {
    Text(String),
    Number(i64),
}

impl Expression {
    fn into_text(self) -> String {
        match self {
            Expression::Text(text) => text,
            Expression::Number(number) => number.to_string(),
        }
    }
}

impl CronFields {
    /// A trigger whose fields are still to be given, at least one of them; the same as
    /// [`cron_fields`](super::super::cron_fields).
    ///
    /// # Errors
    ///
    /// They surface when the trigger is used, and name the field and what is wrong with it:
    ///
    /// ```
    /// use punctual::trigger::{CronFields, IntoTrigger};
    ///
    /// let error = CronFields::builder().month("jan-mar/2").into_trigger().unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "invalid cron fields: month `jan-mar/2` has a step after names: write `1-3/2`",
    /// );
    /// ```
    pub fn builder() -> Build<CronFields> {
        Build::new(CronFields::new())
    }

    /// The zone whose wall clock it goes by, if that was said or filled in.
    pub fn zone(&self) -> Option<TimeZone> {
        self.rules.zone
    }

    fn new() -> Result<CronFields, Error> {
        CronFields::of(Vec::new(), ZoneRules::default())
    }

    fn of(given: Vec<(Part, Box<str>)>, rules: ZoneRules) -> Result<CronFields, Error> {
        let (pattern, fixed_time) = parse::compile(&given)?;
        let given = given.into_boxed_slice();
        Ok(CronFields { schedule: Arc::new(Schedule { given, pattern, fixed_time }), rules })
    }

    /// The same with one more field.
    fn with(self, part: Part, text: &str) -> Result<CronFields, Error> {
        let (name, text) = (part.name(), text.trim());
        let mut given = self.schedule.given.to_vec();
        if let Some((_, before)) = given.iter().find(|(given, _)| *given == part) {
            if **before == *text {
                return Ok(self);
            }
            let (before, text) = (one_line(before), one_line(text));
            return Err(Error::invalid_trigger(format!(
                "invalid cron fields: {name} is `{before}` and again `{text}`: leave one of them out, or write `{before},{text}` for both"
            )));
        }
        given.push((part, text.into()));
        given.sort_unstable_by_key(|(part, _)| *part);
        CronFields::of(given, self.rules)
    }

    /// Reads fields as they are printed: `day='3rd fri', hour='0-3'`.
    pub(in crate::trigger) fn read(text: &str) -> Result<CronFields, Error> {
        let invalid = |reason: String| {
            Error::invalid_trigger(format!("invalid cron fields `{}`: {reason}", one_line(text)))
        };
        let mut fields = CronFields::new()?;
        let mut quoted = text.split('\'');
        // Names stand before a quote, texts between two of them.
        while let (Some(name), Some(expression)) = (quoted.next(), quoted.next()) {
            let name = name.trim_start_matches(',').trim().trim_end_matches('=');
            let part = Part::named(name).ok_or_else(|| {
                invalid(format!(
                    "`{}` is no field: write, for example, `day='3rd fri', hour='3'`",
                    one_line(name)
                ))
            })?;
            if fields.schedule.given.iter().any(|(given, _)| *given == part) {
                return Err(invalid(format!("`{name}` is given twice: leave one out")));
            }
            fields = fields.with(part, expression)?;
        }
        match text.ends_with('\'') {
            true => Ok(fields),
            false => {
                Err(invalid("it lacks a quote: write, for example, `day='3rd fri'`".to_owned()))
            }
        }
    }

    /// What the fields say, in English, without the zone.
    pub(in crate::trigger) fn describe(&self) -> String {
        let given = self.schedule.given.iter();
        let given: Vec<String> =
            given.map(|(part, text)| format!("{} is {text}", part.name())).collect();
        format!("When {}", given.join(" and "))
    }

    /// Checks what a builder cannot refuse while it is being filled.
    pub(in crate::trigger) fn validate(&self) -> Result<(), Error> {
        if self.schedule.given.is_empty() {
            return Err(Error::invalid_trigger(
                "invalid cron fields: none is given: write `.second(\"*\")` to fire every second",
            ));
        }
        Ok(())
    }

    /// Fills in the zone, if none was said.
    pub(in crate::trigger) fn anchor(&mut self, default: TimeZone) {
        self.rules.zone.get_or_insert(default);
    }

    // As for crontab texts, neither search runs out of a budget.

    pub(in crate::trigger) fn zoned(&self) -> Zoned<'_, impl Readings> {
        self.rules.apply(&self.schedule.pattern, self.schedule.fixed_time)
    }
}

impl InZone for CronFields {
    fn rules(&mut self) -> &mut ZoneRules {
        &mut self.rules
    }
}

/// As APScheduler prints it, and the zone: `cron[day='3rd fri', hour='0-3'] (Europe/Berlin)`.
impl fmt::Display for CronFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cron[")?;
        for (index, (part, text)) in self.schedule.given.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}='{text}'", part.name())?;
        }
        f.write_str("]")?;
        match self.rules.zone {
            Some(zone) => write!(f, " ({zone})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for CronFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("CronFields");
        for (part, text) in &self.schedule.given {
            debug.field(part.name(), text);
        }
        debug.field("rules", &self.rules).finish()
    }
}

impl Serialize for CronFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (part, text) in &self.schedule.given {
            map.serialize_entry(part.name(), text)?;
        }
        let ZoneRules { zone, gap, fold } = self.rules;
        if let Some(zone) = zone {
            map.serialize_entry("zone", zone.name())?;
        }
        if let Some(gap) = gap {
            map.serialize_entry("gap", &gap)?;
        }
        if let Some(fold) = fold {
            map.serialize_entry("fold", &fold)?;
        }
        map.end()
    }
}
