//! Fire times at which the wall clock of a zone matches fields given by name, as in APScheduler.

mod parse;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};

use super::{
    super::schedule::{Schedule, Search},
    pattern::Pattern,
};
use crate::{
    error::Error,
    trigger::{
        quote::one_line,
        search::Budget,
        wall_clock::{Fold, Gap, InZone, Readings, ZoneRules, Zoned},
    },
    zone::{IntoTimeZone as _, TimeZone},
};

/// A trigger that fires when the wall clock of a zone matches fields given by name; made by
/// [`cron_fields`](crate::trigger::cron_fields).
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
/// | [`year`](crate::trigger::Build::year) | 1970–9999 | | `*` |
/// | [`month`](crate::trigger::Build::month) | 1–12, `jan`–`dec` | | `*` or `1` |
/// | [`day`](crate::trigger::Build::day) | 1–31 | `last`, `3rd fri` (`1st` to `5th`), `last fri` | `*` or `1` |
/// | [`week`](crate::trigger::Build::week) | 1–53, as ISO 8601 counts | | `*` |
/// | [`day_of_week`](crate::trigger::Build::day_of_week) | 0–6, `mon`–`sun`; **0 is Monday** | | `*` |
/// | [`hour`](crate::trigger::Build::hour) | 0–23 | | `*` or `0` |
/// | [`minute`](crate::trigger::Build::minute) | 0–59 | | `*` or `0` |
/// | [`second`](crate::trigger::Build::second) | 0–59 | | `*` or `0` |
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
/// `day_of_week`, unlike a day of [`cron`](crate::trigger::cron) text, where 0 is Sunday besides.
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
    fields: Arc<GivenFields>,
    rules: ZoneRules,
}

/// Fields and what they mean.
#[derive(Clone, PartialEq)]
struct GivenFields {
    /// The fields that were given, the most significant first.
    given: Box<[(Part, Box<str>)]>,
    pattern: Pattern,
    fixed_time: bool,
}

macro_rules! parts {
    ($($part:ident $name:ident $default:literal;)*) => {
        /// A field, the most significant first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(in crate::trigger) enum Part {
            $($part,)*
        }

        impl Part {
            pub(in crate::trigger) fn name(self) -> &'static str {
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
                fields.check()?;
                let zone = repr.zone.map(|zone| zone.into_time_zone()).transpose()?;
                fields.rules = ZoneRules { zone, gap: repr.gap, fold: repr.fold };
                Ok(fields)
            }
        }
    };
}

parts! {
    Year year "*";
    Month month "1";
    Day day "1";
    Week week "*";
    DayOfWeek day_of_week "*";
    Hour hour "0";
    Minute minute "0";
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
    /// The zone whose wall clock it goes by, if that was said or filled in.
    pub fn zone(&self) -> Option<TimeZone> {
        self.rules.zone
    }

    pub(in crate::trigger) fn new() -> Result<CronFields, Error> {
        CronFields::of(Vec::new(), ZoneRules::default())
    }

    fn of(given: Vec<(Part, Box<str>)>, rules: ZoneRules) -> Result<CronFields, Error> {
        let (pattern, fixed_time) = parse::compile(&given)?;
        let given = given.into_boxed_slice();
        Ok(CronFields { fields: Arc::new(GivenFields { given, pattern, fixed_time }), rules })
    }

    /// The same with one more field.
    pub(in crate::trigger) fn with(self, part: Part, text: &str) -> Result<CronFields, Error> {
        let (name, text) = (part.name(), text.trim());
        let mut given = self.fields.given.to_vec();
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
            if fields.fields.given.iter().any(|(given, _)| *given == part) {
                return Err(invalid(format!("`{name}` is given twice: leave one out")));
            }
            fields = fields.with(part, expression)?;
        }
        if !text.ends_with('\'') {
            return Err(invalid(
                "it lacks a quote: write, for example, `day='3rd fri'`".to_owned(),
            ));
        }
        Ok(fields)
    }

    /// Checks what a builder cannot refuse while it is being filled.
    fn check(&self) -> Result<(), Error> {
        if self.fields.given.is_empty() {
            return Err(Error::invalid_trigger(
                "invalid cron fields: none is given: write `.second(\"*\")` to fire every second",
            ));
        }
        Ok(())
    }

    // As for crontab texts, neither search runs out of a budget.
    fn zoned(&self) -> Zoned<'_, impl Readings> {
        self.rules.apply(&self.fields.pattern, self.fields.fixed_time)
    }
}

impl Schedule for CronFields {
    fn next(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        self.zoned().next_on(search.days, search.from, search.until, budget)
    }

    fn last(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        self.zoned().last_on(search.days, search.from, search.until, budget)
    }

    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }

    fn description(&self) -> String {
        let given = self.fields.given.iter();
        let given: Vec<String> =
            given.map(|(part, text)| format!("{} is {text}", part.name())).collect();
        self.rules.in_zone(format!("When {}", given.join(" and ")))
    }

    fn validate(&mut self, _end: Option<DateTime<Utc>>) -> Result<(), Error> {
        self.check()
    }

    fn anchor(
        &mut self,
        _start: &mut Option<DateTime<Utc>>,
        _now: DateTime<Utc>,
        zone: TimeZone,
    ) -> Result<(), Error> {
        self.rules.zone.get_or_insert(zone);
        Ok(())
    }

    fn zone_rules(&self) -> Option<&ZoneRules> {
        Some(&self.rules)
    }

    fn zone_rules_mut(&mut self) -> Option<&mut ZoneRules> {
        Some(&mut self.rules)
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
        for (index, (part, text)) in self.fields.given.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}='{text}'", part.name())?;
        }
        f.write_str("]")?;
        self.rules.write_zone(f)
    }
}

impl fmt::Debug for CronFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("CronFields");
        for (part, text) in &self.fields.given {
            debug.field(part.name(), text);
        }
        debug.field("rules", &self.rules).finish()
    }
}

impl Serialize for CronFields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (part, text) in &self.fields.given {
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
