//! What a text in words says.

use chrono::Timelike as _;

use super::{DaysOfMonth, On, Time, Words};
use crate::{
    error::Error,
    trigger::{
        pasted,
        period::{Decimal, Period, Unit, number_at_start},
        quote::one_line,
        time_of_day,
        tokens::Tokens,
        weekdays,
    },
    zone::{IntoTimeZone as _, TimeZone, edit_distance, is_like_a_zone},
};

/// Whether a text that stands for a trigger is meant as words: cron text begins with no letter, and
/// with no number such as `1st`.
pub(in crate::trigger) fn is_words(text: &str) -> bool {
    let first = text.split(|c: char| c == ',' || c.is_whitespace()).next().unwrap_or_default();
    let is_word = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_alphabetic());
    (is_word || date_named(&first.to_ascii_lowercase()).is_some()) && !text.contains('*')
}

/// Reads words that stand for a trigger by themselves.
pub(in crate::trigger) fn parse_alone(text: &str) -> Result<Words, Error> {
    let words = parse(text)?;
    let has_every = text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("every"));
    if words.is_period() && !has_every { Err(bare_period(text)) } else { Ok(words) }
}

/// Whether a text is a period, as `10 minutes` is, which lacks `every` to be a trigger.
pub(in crate::trigger) fn is_bare_period(text: &str) -> bool {
    parse(text).is_ok_and(|words| words.is_period())
}

pub(in crate::trigger) fn bare_period(text: &str) -> Error {
    let text = one_line(text);
    Error::invalid_trigger(format!(
        "`{text}` may be a period or a delay: write `every {text}`, or `after {text}` for once"
    ))
}

/// Reads words, of which the first may be `every`.
pub(in crate::trigger) fn parse(text: &str) -> Result<Words, Error> {
    read_all(text, Tokens::words).map_err(|error| clause_behind(text).unwrap_or(error))
}

/// Reads days as a list, such as `monday, friday` and `the 1st`.
pub(in crate::trigger) fn days(text: &str) -> Result<On, Error> {
    read_all(text, Tokens::days)
}

/// Reads times of day and parts of an hour or a minute as a list, such as `9:00, 17:30` and `:15`.
pub(in crate::trigger) fn times(text: &str) -> Result<Vec<Time>, Error> {
    read_all(text, Tokens::times)
}

/// Reads a text with nothing left over.
fn read_all<'a, T>(
    text: &'a str,
    read: impl FnOnce(&mut Tokens<'a>) -> Result<T, String>,
) -> Result<T, Error> {
    const LONGEST: usize = Tokens::LONGEST;
    let invalid =
        |reason| Error::invalid_trigger(format!("invalid words `{}`: {reason}", one_line(text)));
    if text.len() > LONGEST {
        return Err(invalid(format!("they are longer than {LONGEST} bytes: say fewer")));
    }
    if let Some(reason) = pasted::disguised(text) {
        return Err(invalid(reason));
    }
    let mut tokens = Tokens::new(text);
    read(&mut tokens)
        .and_then(|it| match tokens.next() {
            Some(token) => Err(tokens.left_over(token)),
            None => Ok(it),
        })
        .map_err(invalid)
}

impl Tokens<'_> {
    fn words(&mut self) -> Result<Words, String> {
        self.skip("every");
        let mut words = self.period()?;
        if self.skip("on") {
            words.on = Some(self.days()?);
        }
        if self.skip("at") {
            words.times = self.times()?;
        }
        if !self.is_done() {
            words.rules.zone = Some(self.zone()?);
        }
        Ok(words)
    }

    fn period(&mut self) -> Result<Words, String> {
        let Some(word) = self.peek(0) else {
            return Err("it does not say how often: write, for example, `every 10 minutes`".into());
        };
        // The days of a month can stand for themselves.
        if word == "the" || self.nth()?.is_some() {
            return Ok(Words::on(Period::new(1, Unit::Month), self.days()?));
        }
        if let Some(unit) = Unit::of_adverb(&word) {
            self.skip_one();
            return Ok(Words { adverb: true, ..Words::of(Period::new(1, unit)) });
        }
        if matches!(word.as_str(), "yearly" | "annually") {
            return Err(format!(
                "`{word}` does not say on which day: use the cron text `@yearly` for the 1st of January, or one such as `0 9 24 12 *`"
            ));
        }
        let is_number = number_at_start(&word) > 0;
        let (count, to) = self.count()?;
        let Some(word) = self.peek(0) else {
            return Err(format!("{count} of what? add a unit, as in `every {count} minutes`"));
        };
        if let Some(unit) = Unit::named(&word) {
            self.skip_one();
            let period = Period::of(count, to, unit)?;
            let may_go_on = is_number && to.is_none();
            return Ok(Words::of(if may_go_on {
                self.shorter_units(period, unit)?
            } else {
                period
            }));
        }
        if weekdays::named(&word).is_some() {
            let whole = |count: Decimal| {
                count.whole().ok_or_else(|| {
                    format!("{count} is not a whole number of weeks: write, for example, `every 2 weeks on monday`")
                })
            };
            let (count, to) = (whole(count)?, to.map(whole).transpose()?);
            return Ok(Words::on(Period { count, to, unit: Unit::Week }, self.days()?));
        }
        Err(unknown(&word, "is not a unit or a day", Unit::NAMES.map(|(_, name, _)| name)))
    }

    /// A list of days, all of the week or all of the month.
    fn days(&mut self) -> Result<On, String> {
        let (mut of_week, mut of_month) = (0, DaysOfMonth::default());
        loop {
            self.skip("the");
            if let Some(nth) = self.nth()? {
                self.skip_one();
                self.nth_day(nth, &mut of_month)?;
                self.of_the_month()?;
            } else if let Some(days) = self.weekdays() {
                of_week |= days;
            } else {
                return Err(match self.peek(0) {
                    Some(word) => unknown(&word, "is not a day", ["weekday", "weekend", "last"]),
                    None => "it lacks a day: write, for example, `monday` or `the 1st`".into(),
                });
            }
            if !self.another() {
                break;
            }
        }
        match (of_week, of_month == DaysOfMonth::default()) {
            (0, _) => Ok(On::Month(of_month)),
            (of_week, true) => Ok(On::Week(of_week)),
            _ => Err(On::MIXED.into()),
        }
    }

    /// The day that an `nth` before it is said of.
    fn nth_day(&mut self, nth: Nth, days: &mut DaysOfMonth) -> Result<(), String> {
        let weekdays = self.weekdays();
        match (nth, weekdays) {
            (Nth::Last, Some(weekdays)) => days.nth[DaysOfMonth::LAST_OF_WEEK] |= weekdays,
            (Nth::Number(n @ 1..=5), Some(weekdays)) => days.nth[n as usize - 1] |= weekdays,
            (Nth::Number(n), Some(_)) => {
                return Err(format!("no month has a day of the week {n} times: the most is 5"));
            }
            (Nth::Last, None) => {
                if !self.skip("day") {
                    return Err("after `last` comes `day` or a day of the week".into());
                }
                days.dates |= DaysOfMonth::LAST;
            }
            (Nth::Number(n), None) => {
                self.skip("day");
                days.dates |= 1 << n;
            }
        }
        Ok(())
    }

    /// Goes past `of the month`, which is what it is without, too.
    fn of_the_month(&mut self) -> Result<(), String> {
        if !self.skip("of") {
            return Ok(());
        }
        let _article = self.skip("the") || self.skip("each") || self.skip("every");
        if !self.skip("month") {
            return Err("after `of` comes `the month`; for certain months use `cron`".into());
        }
        Ok(())
    }

    /// One name of a weekday or of several, and what belongs to it.
    fn weekdays(&mut self) -> Option<u8> {
        let days = weekdays::named(&self.peek(0)?)?;
        self.skip_one();
        Some(days)
    }

    /// Which of a month's days the next word says, without going past it.
    fn nth(&self) -> Result<Option<Nth>, String> {
        let Some(word) = self.peek(0) else { return Ok(None) };
        let number = match word.as_str() {
            "first" => 1,
            "second" => {
                return match self.peek(1).and_then(|next| weekdays::named(&next)) {
                    // Some say so and mean every other one.
                    Some(_) => Err(
                        "`second` is ambiguous here: write `2nd` for the second of the month, or `other` for every other one".into(),
                    ),
                    None => Ok(None),
                };
            }
            "third" => 3,
            "fourth" => 4,
            "fifth" => 5,
            "last" => return Ok(Some(Nth::Last)),
            word => {
                let Some(number) = date_named(word) else { return Ok(None) };
                return match number.parse() {
                    Ok(number @ 1..=31) => Ok(Some(Nth::Number(number))),
                    _ => Err(format!("the {} is not in 1..=31: no month has it", one_line(word))),
                };
            }
        };
        Ok(Some(Nth::Number(number)))
    }

    fn times(&mut self) -> Result<Vec<Time>, String> {
        let mut times = vec![self.time()?];
        while self.another() {
            times.push(self.time()?);
        }
        Ok(times)
    }

    fn time(&mut self) -> Result<Time, String> {
        let Some(word) = self.peek(0) else {
            return Err("it lacks a time of day: write, for example, `9:00`".into());
        };
        self.skip_one();
        if let Some(part) = word.strip_prefix(':') {
            let number = |part: &str| {
                let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
                part.parse().ok().filter(|&number: &u32| digits && number < 60)
            };
            let parts = match part.split_once(':') {
                Some((minute, second)) => number(minute).zip(number(second).map(Some)),
                None => number(part).map(|part| (part, None)),
            };
            return parts.map(|(part, second)| Time::Part(part, second)).ok_or_else(|| {
                format!(
                    "`{}` is not a part of an hour or a minute: write two digits from `:00` to `:59`",
                    one_line(&word)
                )
            });
        }
        let next = self.peek(0);
        let digits = |part: &str| part.bytes().take_while(u8::is_ascii_digit).count();
        // `9:5` may be meant as 9:05 and as 9:50.
        let is_cut_off = word.split(':').skip(1).any(|part| digits(part) == 1);
        let (time, took_next) = if is_cut_off {
            Err(time_of_day::HOURS_AND_MINUTES.to_owned())
        } else {
            time_of_day::from_words(&word, next.as_deref())
        }
        .map_err(|remedy| format!("`{}` is not a time of day: {remedy}", one_line(&word)))?;
        self.read += usize::from(took_next);
        Ok(Time::OfDay(time.num_seconds_from_midnight()))
    }

    fn zone(&mut self) -> Result<TimeZone, String> {
        self.skip("in");
        let Some(token) = self.next() else {
            return Err("after `in` comes a zone, as in `in Europe/Berlin`".into());
        };
        let name = match token.strip_prefix('(') {
            Some(name) => name.strip_suffix(')').unwrap_or(name),
            None => token,
        };
        match name.into_time_zone() {
            Ok(zone) => {
                self.skip_one();
                Ok(zone)
            }
            Err(error) if name.contains('/') || is_like_a_zone(name) => Err(error.to_string()),
            Err(_) => Err(self.left_over(token)),
        }
    }

    fn left_over(&self, token: &str) -> String {
        let before = self.read.checked_sub(1).and_then(|before| self.tokens.get(before));
        let place = match before {
            Some(before) => format!("is not understood after `{}`", one_line(before)),
            None => "is not understood".to_owned(),
        };
        if time_of_day::read(token).is_ok() {
            return format!("`{}` {place}: write `at {}`", one_line(token), one_line(token));
        }
        unknown(token, &place, ["on", "at", "and", "in"])
    }
}

/// The error for words with a clause behind them that is no part of them, as in `every 10 minutes
/// until 18:00`, if the words are right without it.
fn clause_behind(text: &str) -> Option<Error> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let name = |at: usize| {
        let word = words.get(at)?.to_ascii_lowercase();
        let is_times = words.get(at + 1).is_some_and(|next| next.eq_ignore_ascii_case("times"));
        match &*word {
            "until" | "starting" | "between" | "only" | "except" | "immediately" => Some(word),
            _ => (is_times && word.parse::<u64>().is_ok()).then(|| format!("{word} times")),
        }
    };
    let (at, name) = (1..words.len()).find_map(|at| Some((at, name(at)?)))?;
    let said = words[..at].join(" ");
    let said = said.strip_suffix(',').unwrap_or(&said);
    read_all(said, Tokens::words).ok()?;
    let every = if said.to_ascii_lowercase().starts_with("every") { "" } else { "every " };
    let instead = one_line(&format!("{every}{said}; {}", words[at..].join(" ")));
    let value = one_line(&words[at + 1..].join(" "));
    let method = match &*name {
        "until" => format!(", or add `.until(\"{value}\")`"),
        "starting" => format!(", or add `.starting_at(\"{value}\")`"),
        "immediately" => ", or add `.immediately()`".to_owned(),
        "between" | "only" | "except" => String::new(),
        _ => format!(", or add `.times({})`", words[at]),
    };
    Some(Error::invalid_trigger(format!(
        "invalid words `{}`: `{name}` begins a clause of its own: write the text `{instead}`{method}",
        one_line(text)
    )))
}

/// Which of a month's days.
#[derive(Clone, Copy)]
enum Nth {
    Number(u32),
    Last,
}

/// The number in a name such as `1st`.
fn date_named(word: &str) -> Option<&str> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = word.split_at(digits);
    (digits > 0 && matches!(suffix, "st" | "nd" | "rd" | "th")).then_some(number)
}

/// The error for a word that is none of those expected, with the one that is most like it.
fn unknown<const N: usize>(word: &str, reason: &str, expected: [&'static str; N]) -> String {
    const FAR: usize = 3;
    let lower = word.to_ascii_lowercase();
    // Long texts are not typing errors, and comparing them would take long.
    let nearest = (lower.len() <= 32)
        .then(|| {
            let known = expected.iter().copied().chain(weekdays::NAMES);
            known
                .map(|known| (edit_distance(&lower, known), known))
                .filter(|&(distance, known)| {
                    distance < FAR.min(known.len()) && distance < lower.len()
                })
                .min_by_key(|&(distance, _)| distance)
        })
        .flatten();
    let word = one_line(word);
    match nearest {
        Some((_, known)) => format!("`{word}` {reason}: did you mean `{known}`?"),
        None => format!("`{word}` {reason}: write, for example, `every monday at 10:30`"),
    }
}
