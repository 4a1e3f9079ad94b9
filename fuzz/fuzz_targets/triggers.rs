//! Does any text make a trigger panic, dawdle, or contradict itself?
//!
//! An input is a text and 16 bytes that choose a zone, an instant, and the policies for gaps and
//! folds. The text is JSON if it starts with `{`; the eight fields of `CronFields`, separated by
//! `;`, if it starts with `f;`; and crontab text otherwise.

#![no_main]

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::TZ_VARIANTS;
use libfuzzer_sys::{Corpus, fuzz_target};
use punctual::{
    Error,
    trigger::{Build, Cron, CronFields, Fold, Gap, IntoTrigger, Kind, Trigger, cron},
};

/// How long one call may take.
const BOUND: Duration = Duration::from_millis(1);

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((text, choices)) = input.split_last_chunk::<16>() else {
        return Corpus::Reject;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return Corpus::Reject;
    };
    let choices = Choices(*choices);
    match trigger(text, &choices) {
        Ok(trigger) => check(&trigger, choices.instant()),
        Err(error) => {
            let message = error.to_string();
            assert!(error.is_invalid_trigger() && !message.contains('\n'), "{message}");
        }
    }
    Corpus::Keep
});

fn trigger(text: &str, choices: &Choices) -> Result<Trigger, Error> {
    if text.starts_with('{') {
        let Ok(trigger) = serde_json::from_str(text) else {
            return Trigger::into_trigger("@daily".into_trigger()?);
        };
        return Ok(trigger);
    }
    let Some(fields) = text.strip_prefix("f;") else {
        let build = if choices.flag(0) { cron(text).dom_and_dow() } else { cron(text) };
        let build = if choices.flag(1) { build.in_tz(choices.zone()) } else { build };
        let build = match choices.gap() {
            Some(gap) => build.gap(gap),
            None => build,
        };
        return match choices.fold() {
            Some(fold) => build.fold(fold).into_trigger(),
            None => build.into_trigger(),
        };
    };
    type Set = fn(Build<CronFields>, &str) -> Build<CronFields>;
    const SETTERS: [Set; 8] = [
        |fields, text| fields.year(text),
        |fields, text| fields.month(text),
        |fields, text| fields.day(text),
        |fields, text| fields.week(text),
        |fields, text| fields.day_of_week(text),
        |fields, text| fields.hour(text),
        |fields, text| fields.minute(text),
        |fields, text| fields.second(text),
    ];
    let given = fields.split(';').zip(SETTERS).filter(|(text, _)| !text.is_empty());
    let mut fields = given.fold(CronFields::builder(), |fields, (text, set)| set(fields, text));
    fields = fields.in_tz(choices.zone());
    if let Some(gap) = choices.gap() {
        fields = fields.gap(gap);
    }
    if let Some(fold) = choices.fold() {
        fields = fields.fold(fold);
    }
    fields.into_trigger()
}

fn check(trigger: &Trigger, t: DateTime<Utc>) {
    round_trips(trigger);
    let next = |t| timed(trigger, || trigger.next_after(t));
    let last = |t| timed(trigger, || trigger.last_at_or_before(t));
    if !matches!(trigger.kind(), Kind::Cron(_) | Kind::CronFields(_)) {
        // The answers of others depend on when they are added.
        let _ = (trigger.next_after(t), trigger.last_at_or_before(t));
        return;
    }
    // Is nothing between the two neighbours of an instant? Once around it, and then further on.
    let mut t = t;
    for _ in 0..4 {
        let (before, after) = (last(t), next(t));
        if let Some(before) = before {
            assert!(before <= t, "{trigger:?}: {before} is later than {t}");
            assert_eq!(last(before), Some(before), "{trigger:?}: the last at {before}");
            assert_eq!(next(before), after, "{trigger:?}: the next after {before}");
            let just_before = before - TimeDelta::milliseconds(1);
            assert_eq!(next(just_before), Some(before), "{trigger:?}: the next of {just_before}");
        }
        let Some(after) = after else { return };
        assert!(after > t, "{trigger:?}: {after} is not later than {t}");
        assert_eq!(last(after), Some(after), "{trigger:?}: the last at {after}");
        let just_before = after - TimeDelta::milliseconds(1);
        assert_eq!(last(just_before), before, "{trigger:?}: the last of {just_before}");
        t = after;
    }
}

/// The answer, which must come within [`BOUND`].
fn timed<T>(trigger: &Trigger, ask: impl Fn() -> Result<T, Error>) -> T {
    let mut fastest = Duration::MAX;
    // The machine may have been busy with something else, or a zone looked up for the first time.
    for _ in 0..10 {
        let start = Instant::now();
        let answer = ask();
        fastest = fastest.min(start.elapsed());
        if fastest <= BOUND {
            return answer.expect("the answer is an instant or none");
        }
    }
    panic!("{trigger:?} takes {fastest:?}");
}

fn round_trips(trigger: &Trigger) {
    let json = serde_json::to_string(trigger).expect("what is made of data is data");
    let read: Trigger = serde_json::from_str(&json).expect(&json);
    assert_eq!(&read, trigger, "{json}");
    assert_eq!(serde_json::to_string(&read).expect(&json), json);
    assert_eq!(read.to_string(), trigger.to_string());
    if let Kind::Cron(cron) = trigger.kind() {
        assert!(!cron.describe().is_empty());
        let text = match cron.zone() {
            Some(zone) => format!("CRON_TZ={zone} {}", cron.expression()),
            None => cron.expression().to_owned(),
        };
        let read = Cron::parse(&text).expect(&text);
        assert_eq!(read.to_string(), cron.to_string());
        assert_eq!(Cron::parse(read.expression()).expect(&text).expression(), cron.expression());
    }
}

/// What the last bytes of an input choose.
struct Choices([u8; 16]);

impl Choices {
    fn flag(&self, bit: u32) -> bool {
        self.0[15] >> bit & 1 != 0
    }

    fn gap(&self) -> Option<Gap> {
        [None, Some(Gap::Next), Some(Gap::Skip)][usize::from(self.0[14] % 3)]
    }

    fn fold(&self) -> Option<Fold> {
        [None, Some(Fold::First), Some(Fold::Last), Some(Fold::Both)][usize::from(self.0[13] % 4)]
    }

    fn zone(&self) -> chrono_tz::Tz {
        let index = u16::from_le_bytes([self.0[11], self.0[12]]);
        TZ_VARIANTS[usize::from(index) % TZ_VARIANTS.len()]
    }

    /// Mostly one in which something may fire, with a fraction of a second or without.
    fn instant(&self) -> DateTime<Utc> {
        let [a, b, c, d, e, f, g, h, i, j, ..] = self.0;
        let seconds = i64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let nanos = u32::from(u16::from_le_bytes([i, j])) * 15_000;
        let seconds = match self.0[10] % 8 {
            0 => DateTime::from_timestamp(seconds >> 20, nanos),
            // 1890 to 2210
            _ => {
                DateTime::from_timestamp(seconds.rem_euclid(10_098_000_000) - 2_524_500_000, nanos)
            }
        };
        seconds.unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}
