//! From one fire time of a crontab text to the next, beside croner and the crate `cron`; each call
//! starts at the answer of the one before.

use std::{hint::black_box, time::Instant};

use chrono::{DateTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds};
use punctual::trigger::{IntoTrigger as _, cron};

pub(crate) const PATTERNS: [&str; 6] =
    ["*/5 * * * *", "*/10 * * * * *", "0 9 * * MON-FRI", "0 0 1 1 *", "0 0 L * *", "0 0 29 2 *"];

/// What goes to the next fire time with each call, and begins again when the century is over.
pub(crate) type Next = Box<dyn FnMut() -> i64>;

pub(crate) fn contenders(text: &str, zone: Tz) -> Vec<(&'static str, Next)> {
    let start: DateTime<Utc> = Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap();
    let end = Utc.with_ymd_and_hms(2090, 1, 1, 0, 0, 0).unwrap().timestamp();
    let local = start.with_timezone(&zone);
    let ours = cron(text).in_tz(zone).into_trigger().expect("the patterns are valid");
    let mut t = start;
    let ours: Next = Box::new(move || {
        t = ours
            .next_after(t)
            .expect("a cron knows")
            .filter(|t| t.timestamp() < end)
            .unwrap_or(start);
        t.timestamp()
    });
    let theirs = croner(text);
    let mut t = local;
    let croner: Next = Box::new(move || {
        let next = theirs.find_next_occurrence(&t, false).ok();
        t = next.filter(|t| t.timestamp() < end).unwrap_or(local);
        t.timestamp()
    });
    let mut all = vec![("punctual", ours), ("croner", croner)];
    if let Some(theirs) = cron_crate(text) {
        let mut t = local;
        all.push((
            "cron",
            Box::new(move || {
                t = theirs.after(&t).next().filter(|t| t.timestamp() < end).unwrap_or(local);
                t.timestamp()
            }),
        ));
    }
    all
}

pub(crate) fn croner(text: &str) -> croner::Cron {
    let parser = CronParser::builder().seconds(Seconds::Optional).build();
    parser.parse(text).expect("croner knows the patterns")
}

/// The crate `cron` wants seconds, and does not know `L`.
pub(crate) fn cron_crate(text: &str) -> Option<cron::Schedule> {
    match text.split(' ').count() {
        5 => format!("0 {text}").parse().ok(),
        _ => text.parse().ok(),
    }
}

/// Nanoseconds per next fire of each pattern, of each contender that knows it.
pub(crate) fn next_fires(zone: Tz, calls: u32) -> [[Option<f64>; 3]; 6] {
    PATTERNS.map(|text| {
        let mut row = [None; 3];
        for (column, (_, mut next)) in row.iter_mut().zip(contenders(text, zone)) {
            *column = Some(nanos(calls, || {
                black_box(next());
            }));
        }
        row
    })
}

/// The median and the worst of a column.
pub(crate) fn median_and_worst(rows: &[[Option<f64>; 3]], column: usize) -> [f64; 2] {
    let mut values: Vec<f64> = rows.iter().filter_map(|row| row[column]).collect();
    values.sort_by(f64::total_cmp);
    let middle = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
    [middle, values[values.len() - 1]]
}

/// The fastest of some rounds of so many calls each, per call: the others tell how busy the machine
/// was.
pub(crate) fn nanos(calls: u32, mut call: impl FnMut()) -> f64 {
    let rounds = [(); 9].map(|()| {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    });
    rounds.into_iter().fold(f64::INFINITY, f64::min)
}
