//! Fire times at which the wall clock of a zone matches a crontab text, or fields.

mod describe;
mod fields;
mod line;
mod parse;
mod pattern;
mod read;

use std::{fmt, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};

pub use self::fields::CronFields;
pub(in crate::trigger) use self::fields::Part;
use self::{pattern::Pattern, read::Origin};
use super::schedule::{KindOption, Schedule, Search};
use crate::{
    error::Error,
    trigger::{
        search::Budget,
        wall_clock::{ClockTimes, Fold, Gap, InZone, Readings, ZoneRules, Zoned},
    },
    zone::{IntoTimeZone as _, TimeZone},
};

/// A trigger that fires when the wall clock of a zone matches a crontab text; made by
/// [`cron`](crate::trigger::cron).
///
/// # Text
///
/// Five fields, or six with seconds first, or seven with years last:
///
/// | field | values | also |
/// |---|---|---|
/// | second | 0–59 | |
/// | minute | 0–59 | |
/// | hour | 0–23 | |
/// | day of month | 1–31 | `L` the last day, `L-3` three days before it, `LW` the last weekday, `15W` the weekday (Monday to Friday) nearest to the 15th, `?` as `*` |
/// | month | 1–12, `JAN`–`DEC` | |
/// | day of week | 0–7, `SUN`–`SAT`; 0 and 7 are Sunday | `5L` or `FRIL` the last Friday of the month, `MON#2` the second Monday, `?` as `*` |
/// | year | 1900–2199 | |
///
/// A field is a list, as in `1,15,20-25`, of values, ranges (`9-17`, also around the end: `22-2`,
/// `FRI-MON`) and `*`, each maybe with a step (`*/5`, `10-50/20`). A value with a step counts from
/// there to the end of the field: `5/15` is `5-59/15`; days of the week take none, since crons
/// disagree on where these end. Names are read in any case. In place of fields stands `@yearly`,
/// `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight` or `@hourly`. A prefix names the zone:
/// `CRON_TZ=Europe/Berlin 0 9 * * *`.
///
/// A step is at most the distance between the ends of its range: `*/59` in minutes, and `10-20/10`.
/// One that is longer would leave the first value alone, so that is what the error says to write
/// (`0` for `*/60`), or which trigger has such a period (`every 90 minutes` for `*/90`).
///
/// If both day fields are restricted, a day matches that is in *either*, as crontab(5) has it:
/// `0 0 13 * FRI` fires on every 13th and on every Friday. Only `*` and `?` are no restriction;
/// `*/2` is one. [`dom_and_dow`](crate::trigger::Build::dom_and_dow) asks for days that are in both.
///
/// # From other crons
///
/// | text | of | here |
/// |---|---|---|
/// | `0/5`, `L-3`, `?` | Quartz | the same |
/// | `0 0 12 ? * 2-6` | Quartz, where 1 is Sunday | an error that names the days, for `?` in that place with numbered weekdays and six or seven fields; other numbers are crontab's |
/// | `@every 1h30m` | robfig/cron | [`every("1h30m")`](crate::trigger::every); as a text in place of a trigger it is read as that |
/// | `@reboot` | crontab | [`now()`](crate::trigger::now) |
/// | `0 9 * * * root /bin/report # daily` | a line of a crontab file | an error that says what to leave out |
///
/// Characters that only look like others, such as no-break spaces and long dashes, are an error
/// that names their place.
///
/// # Daylight saving
///
/// A pattern whose minute and hour fields both do not start with `*` is *fixed-time*: a wall time
/// that a gap swallows fires once, at the first instant after it, and one that occurs twice fires
/// at its first occurrence. Any other pattern fires at every instant at which the wall clock
/// matches: never for a time in a gap, twice for one in a fold. [`Gap`] and [`Fold`] have the
/// tables, and choose otherwise.
///
/// # Limits
///
/// Fire times are whole seconds of the years 1900 to 2199.
///
/// # Serialized form
///
/// ```
/// use punctual::trigger::{Cron, IntoTrigger, Trigger, cron};
///
/// let trigger = cron("30 8 * * MON-FRI").in_tz("Europe/Berlin").into_trigger()?;
/// let json = r#"{"type":"cron","expression":"30 8 * * MON-FRI","zone":"Europe/Berlin"}"#;
/// assert_eq!(serde_json::to_string(&trigger)?, json);
/// assert_eq!(serde_json::from_str::<Trigger>(json)?, trigger);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `"gap"`, `"fold"` and `"dom_and_dow"` are there if they were asked for.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(try_from = "Repr")]
pub struct Cron {
    text: Arc<CronText>,
    rules: ZoneRules,
    dom_and_dow: bool,
}

/// A text and what it means.
#[derive(Clone, PartialEq)]
struct CronText {
    text: Box<str>,
    pattern: Pattern,
    fixed_time: bool,
}

impl Cron {
    /// Reads a crontab text.
    ///
    /// A text that never fires, such as `0 0 30 2 *`, is none the less valid: it has no next fire
    /// time.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger); the message names the field and what is
    /// wrong with it.
    ///
    /// ```
    /// use punctual::trigger::Cron;
    ///
    /// let error = Cron::parse("61 * * * *").unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "invalid cron expression `61 * * * *`: minute 61 is not in 0..=59",
    /// );
    /// ```
    pub fn parse(text: &str) -> Result<Cron, Error> {
        Cron::read(text, Origin::Typed)
    }

    fn read(text: &str, origin: Origin) -> Result<Cron, Error> {
        let parsed = read::read(text, origin)?;
        Ok(Cron {
            text: Arc::new(CronText {
                text: parsed.expression.into(),
                pattern: parsed.pattern,
                fixed_time: parsed.fixed_time,
            }),
            rules: ZoneRules { zone: parsed.zone, ..ZoneRules::default() },
            dom_and_dow: false,
        })
    }

    /// The crontab text, without a zone.
    pub fn expression(&self) -> &str {
        &self.text.text
    }

    /// The zone whose wall clock it goes by, if that was said or filled in.
    pub fn zone(&self) -> Option<TimeZone> {
        self.rules.zone
    }

    /// What the text says, in English, and the zone.
    ///
    /// ```
    /// use chrono_tz::Europe::Berlin;
    /// use punctual::trigger::Cron;
    ///
    /// let cron = Cron::parse("CRON_TZ=Europe/Berlin 30 8 * * SAT,SUN")?;
    /// assert_eq!(cron.describe(), "At 08:30, on Sunday and Saturday, in Europe/Berlin");
    /// # Ok::<(), punctual::Error>(())
    /// ```
    pub fn describe(&self) -> String {
        let words =
            describe::describe(&self.text.pattern).unwrap_or_else(|| self.text.text.to_string());
        match self.rules.zone {
            Some(zone) => format!("{words}, in {zone}"),
            None => words,
        }
    }

    pub(in crate::trigger) fn dom_and_dow(mut self) -> Cron {
        Arc::make_mut(&mut self.text).pattern.either = false;
        Cron { dom_and_dow: true, ..self }
    }

    // Neither search runs out of a budget: both look at 3,600 months at most.
    fn zoned(&self) -> Zoned<'_, impl Readings> {
        self.rules.apply(&self.text.pattern, self.text.fixed_time)
    }
}

impl Schedule for Cron {
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
        self.describe()
    }

    fn write_options(&self, f: &mut fmt::Formatter<'_>, _short: bool) -> fmt::Result {
        if self.dom_and_dow { f.write_str("; dom_and_dow") } else { Ok(()) }
    }

    fn read_option(&mut self, option: &KindOption<'_>) -> Result<bool, Error> {
        if option.name != "dom_and_dow" {
            return Ok(false);
        }
        *self = self.clone().dom_and_dow();
        Ok(true)
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

    fn clock_times(&self) -> Option<ClockTimes> {
        let (hours, minutes, seconds) = self.text.pattern.times();
        Some(ClockTimes { hours, minutes, seconds })
    }
}

impl InZone for Cron {
    fn rules(&mut self) -> &mut ZoneRules {
        &mut self.rules
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expression())?;
        self.rules.write_zone(f)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cron")
            .field("expression", &self.expression())
            .field("rules", &self.rules)
            .field("dom_and_dow", &self.dom_and_dow)
            .finish()
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Repr {
            expression: self.expression(),
            zone: self.rules.zone.map(|zone| zone.name()),
            gap: self.rules.gap,
            fold: self.rules.fold,
            dom_and_dow: self.dom_and_dow,
        }
        .serialize(serializer)
    }
}

/// The serialized form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repr<S = String> {
    expression: S,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    zone: Option<S>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fold: Option<Fold>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dom_and_dow: bool,
}

fn none<T>() -> Option<T> {
    None
}

impl TryFrom<Repr> for Cron {
    type Error = Error;

    fn try_from(repr: Repr) -> Result<Cron, Error> {
        let mut cron = Cron::read(&repr.expression, Origin::Stored)?;
        if let Some(zone) = repr.zone {
            cron.rules.name_zone(zone.into_time_zone()?)?;
        }
        if repr.dom_and_dow {
            cron = cron.dom_and_dow();
        }
        (cron.rules.gap, cron.rules.fold) = (repr.gap, repr.fold);
        Ok(cron)
    }
}
