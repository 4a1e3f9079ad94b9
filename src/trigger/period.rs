//! Lengths of time as people write them, such as `10 minutes`, `1h30m` and `5 to 10 minutes`.

use std::fmt;

use super::{pasted, quote::one_line, tokens::Tokens};
use crate::error::Error;

/// A number of units, or a range of such numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Period {
    pub(super) count: u64,
    /// The upper bound of a random period.
    pub(super) to: Option<u64>,
    pub(super) unit: Unit,
}

impl Period {
    pub(super) fn new(count: u64, unit: Unit) -> Period {
        Period { count, to: None, unit }
    }

    /// Reads a text that is a period and nothing else, such as `1h30m`; a random one is none.
    pub(super) fn read(text: &str) -> Option<Period> {
        if text.len() > Tokens::LONGEST || pasted::disguised(text).is_some() {
            return None;
        }
        let mut tokens = Tokens::new(text);
        let count = tokens.number().ok()??;
        let unit = Unit::named(&tokens.peek(0)?)?;
        tokens.skip_one();
        let period = Period::of(count, None, unit).ok()?;
        let period = tokens.shorter_units(period, unit).ok()?;
        tokens.is_done().then_some(period)
    }

    /// The length in nanoseconds, unless the unit has no fixed length.
    pub(super) fn nanos(self) -> Option<i128> {
        i128::from(self.count).checked_mul(self.unit.nanos()?)
    }

    /// A number of units, or a range of them: of a shorter unit, if only of that these are whole
    /// numbers.
    pub(super) fn of(count: Decimal, to: Option<Decimal>, unit: Unit) -> Result<Period, String> {
        if let (Some(count), Some(to)) =
            (count.whole(), to.map_or(Some(None), |to| to.whole().map(Some)))
        {
            return Ok(Period { count, to, unit });
        }
        let fraction = to.filter(|_| count.whole().is_some()).unwrap_or(count);
        let Some(length) = unit.nanos() else {
            return Err(format!(
                "{fraction} is not a whole number of {}s, which have no fixed length: write a number of weeks or days",
                unit.name()
            ));
        };
        Unit::NAMES
            .iter()
            .rev()
            .filter(|&&(shorter, ..)| shorter < unit)
            .find_map(|&(shorter, ..)| {
                let units = |count: Decimal| count.times(length, shorter.nanos()?);
                let to = to.map_or(Some(None), |to| units(to).map(Some))?;
                Some(Period { count: units(count)?, to, unit: shorter })
            })
            .ok_or_else(|| {
                let millis = fraction.rounded_millis(length);
                format!(
                    "{fraction} {}s are not a whole number of milliseconds: write, for example, `{millis}ms`",
                    unit.name()
                )
            })
    }

    /// The sum of a period and one of a shorter unit.
    fn and(self, more: Period) -> Result<Period, String> {
        let (Some(this), Some(other)) = (self.unit.nanos(), more.unit.nanos()) else {
            return Err("a month has no fixed length: use `calendar_interval`".into());
        };
        let (unit, length) = if other < this { (more.unit, other) } else { (self.unit, this) };
        let units =
            |period: Period, of: i128| period.count.checked_mul(u64::try_from(of / length).ok()?);
        let count = units(self, this)
            .zip(units(more, other))
            .and_then(|(this, more)| this.checked_add(more))
            .ok_or_else(|| format!("{} {}s is too long a period", self.count, self.unit.name()))?;
        Ok(Period { count, unit, ..self })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.count)?;
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        let plural = if self.count == 1 && self.to.is_none() { "" } else { "s" };
        write!(f, " {}{plural}", self.unit.name())
    }
}

/// From the shortest to the longest.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) enum Unit {
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

impl Unit {
    pub(super) const NAMES: [(Unit, &'static str, &'static [&'static str]); 7] = [
        (Unit::Millisecond, "millisecond", &["ms", "milli", "millis"]),
        (Unit::Second, "second", &["s", "sec", "secs"]),
        (Unit::Minute, "minute", &["m", "min", "mins"]),
        (Unit::Hour, "hour", &["h", "hr", "hrs"]),
        (Unit::Day, "day", &["d"]),
        (Unit::Week, "week", &["w"]),
        (Unit::Month, "month", &[]),
    ];

    pub(super) fn named(word: &str) -> Option<Unit> {
        let singular = word.strip_suffix('s').unwrap_or(word);
        Unit::NAMES
            .iter()
            .find(|(_, name, short)| *name == singular || short.contains(&word))
            .map(|&(unit, ..)| unit)
    }

    pub(super) fn name(self) -> &'static str {
        Unit::NAMES[self as usize].1
    }

    /// The unit that an adverb such as `daily` is made of.
    pub(super) fn of_adverb(word: &str) -> Option<Unit> {
        Some(match word {
            "hourly" => Unit::Hour,
            "daily" => Unit::Day,
            "weekly" => Unit::Week,
            "monthly" => Unit::Month,
            _ => return None,
        })
    }

    /// How long it lasts, unless that depends.
    pub(super) fn nanos(self) -> Option<i128> {
        const SECOND: i128 = 1_000_000_000;
        Some(match self {
            Unit::Millisecond => SECOND / 1000,
            Unit::Second => SECOND,
            Unit::Minute => 60 * SECOND,
            Unit::Hour => 3600 * SECOND,
            Unit::Day => 86_400 * SECOND,
            Unit::Week => 7 * 86_400 * SECOND,
            Unit::Month => return None,
        })
    }
}

/// A number of units as it is written, with decimals or without: 15 and one decimal is 1.5.
#[derive(Clone, Copy)]
pub(super) struct Decimal {
    digits: u64,
    decimals: u32,
}

impl From<u64> for Decimal {
    fn from(digits: u64) -> Decimal {
        Decimal { digits, decimals: 0 }
    }
}

impl Decimal {
    /// Reads digits with or without a point.
    fn read(text: &str) -> Result<Decimal, String> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let decimals = decimals.trim_end_matches('0');
        let too_large = |what| format!("{} {what}", one_line(text));
        let digits = format!("{whole}{decimals}").parse().map_err(|_| match decimals {
            "" => too_large("is too large a number"),
            _ => too_large("has too many digits: write fewer decimals, or use a smaller unit"),
        })?;
        // There are fewer decimals than digits of the largest number, unless they begin with zeros.
        let decimals =
            u32::try_from(decimals.len()).ok().filter(|&decimals| decimals <= 18).ok_or_else(
                || too_large("has too many digits: write fewer decimals, or use a smaller unit"),
            )?;
        Ok(Decimal { digits, decimals })
    }

    pub(super) fn whole(self) -> Option<u64> {
        (self.decimals == 0).then_some(self.digits)
    }

    /// How many units of the length `unit` are in this number of units of the length `length`, if
    /// that is a whole number.
    fn times(self, length: i128, unit: i128) -> Option<u64> {
        let (total, parts) = (i128::from(self.digits).checked_mul(length)?, self.scale() * unit);
        (total % parts == 0).then(|| u64::try_from(total / parts).ok())?
    }

    /// The nearest number of milliseconds, at least one, if the unit lasts so many nanoseconds.
    fn rounded_millis(self, nanos: i128) -> i128 {
        let parts = self.scale() * 1_000_000;
        ((i128::from(self.digits) * nanos + parts / 2) / parts).max(1)
    }

    fn scale(self) -> i128 {
        10_i128.pow(self.decimals)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = 10_u64.pow(self.decimals);
        write!(f, "{}", self.digits / scale)?;
        match self.decimals {
            0 => Ok(()),
            decimals => write!(f, ".{:0width$}", self.digits % scale, width = decimals as usize),
        }
    }
}

/// How many bytes of a word are the number that it begins with: digits, and decimals behind a point.
pub(super) fn number_at_start(word: &str) -> usize {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(word);
    match word[whole..].strip_prefix('.').map(digits) {
        Some(decimals @ 1..) => whole + 1 + decimals,
        _ => whole,
    }
}

impl Tokens<'_> {
    /// The number of units, which is 1 unless something else is said, and the upper bound of a
    /// random one.
    pub(super) fn count(&mut self) -> Result<(Decimal, Option<Decimal>), String> {
        if self.skip("other") {
            return Ok((Decimal::from(2), None));
        }
        let Some(count) = self.number()? else { return Ok((Decimal::from(1), None)) };
        if !self.skip("to") {
            return Ok((count, None));
        }
        match self.number()? {
            Some(to) => Ok((count, Some(to))),
            None => Err(format!("after `{count} to` comes a number, as in `5 to 10 minutes`")),
        }
    }

    /// Adds the units that follow a period of this unit, as in `1 hour 30 minutes`: each is shorter than the
    /// one before.
    pub(super) fn shorter_units(
        &mut self,
        mut period: Period,
        mut unit: Unit,
    ) -> Result<Period, String> {
        while self.skip_to_unit() {
            let Some(count) = self.number()? else { break };
            let shorter = self.peek(0).and_then(|word| Unit::named(&word)).ok_or_else(|| {
                format!("{count} of what? add a unit, as in `1 hour {count} minutes`")
            })?;
            if shorter >= unit && shorter != Unit::Month {
                return Err(format!(
                    "`{}` comes after `{}`: write the larger unit first, as in `1 hour 30 minutes`",
                    shorter.name(),
                    unit.name()
                ));
            }
            self.skip_one();
            period = period.and(Period::of(count, None, shorter)?)?;
            unit = shorter;
        }
        Ok(period)
    }

    /// Whether a number with a unit follows; a `,` or `and` before it is skipped.
    fn skip_to_unit(&mut self) -> bool {
        let is = |at: usize, divider| self.peek(at).is_some_and(|word| word == divider);
        let comma = usize::from(is(0, ","));
        let dividers = comma + usize::from(is(comma, "and"));
        let Some(word) = self.peek(dividers) else { return false };
        let unit = &word[number_at_start(&word)..];
        let letters = unit.bytes().take_while(u8::is_ascii_alphabetic).count();
        let follows =
            unit.len() < word.len() && (unit.is_empty() || Unit::named(&unit[..letters]).is_some());
        self.read += if follows { dividers } else { 0 };
        follows
    }

    /// A number; of a unit that follows it at once, as in `10min` and `1h30m`, only the number.
    pub(super) fn number(&mut self) -> Result<Option<Decimal>, String> {
        let Some(&word) = self.tokens.get(self.read) else { return Ok(None) };
        let (number, rest) = word.split_at(number_at_start(word));
        if number.is_empty() {
            return Ok(None);
        }
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, more) = rest.split_at(letters);
        let has_unit = Unit::named(&unit.to_ascii_lowercase()).is_some();
        if rest.is_empty() {
            self.read += 1;
        } else if has_unit && (more.is_empty() || number_at_start(more) > 0) {
            self.tokens[self.read] = unit;
            if !more.is_empty() {
                self.tokens.insert(self.read + 1, more);
            }
        } else {
            return Err(format!(
                "`{}` is not a number, nor one with a unit: write, for example, `10 minutes`",
                one_line(word)
            ));
        }
        Decimal::read(number).map(Some)
    }
}

/// The whole milliseconds of a period in nanoseconds, since a grid of anything else would drift.
pub(super) fn in_millis(nanos: Option<i128>) -> Result<i64, Error> {
    const NANOS: i128 = 1_000_000;
    let too_long = || {
        Error::invalid_trigger("the period reaches past the end of the calendar: use a shorter one")
    };
    let nanos = nanos.ok_or_else(too_long)?;
    let period_ms = i64::try_from(nanos / NANOS).map_err(|_| too_long())?;
    if nanos < NANOS {
        return Err(Error::invalid_trigger(format!(
            "a period of {} ms is too short: the shortest is 1 ms",
            nanos as f64 / NANOS as f64
        )));
    }
    if nanos % NANOS != 0 {
        return Err(Error::invalid_trigger(format!(
            "a period of {} ms is not a whole number of milliseconds, so its grid would drift: use {} ms",
            nanos as f64 / NANOS as f64,
            nanos / NANOS
        )));
    }
    Ok(period_ms)
}

/// Milliseconds in the largest unit in which all are whole numbers.
pub(super) fn in_units<const N: usize>(millis: [u64; N]) -> ([u64; N], &'static str) {
    [(3_600_000, "h"), (60_000, "min"), (1_000, "s")]
        .into_iter()
        .find(|(unit, _)| millis.iter().all(|millis| millis % unit == 0))
        .map_or((millis, "ms"), |(unit, name)| (millis.map(|millis| millis / unit), name))
}

/// One or several durations of the same unit, in words.
pub(super) fn duration<const N: usize>(millis: [u64; N]) -> String {
    let (numbers, unit) = in_units(millis);
    let unit = match unit {
        "h" => "hour",
        "min" => "minute",
        "s" => "second",
        _ => "millisecond",
    };
    let plural = if numbers.iter().all(|&n| n == 1) { "" } else { "s" };
    let numbers = numbers.map(|n| n.to_string()).join(" to ");
    format!("{numbers} {unit}{plural}")
}
