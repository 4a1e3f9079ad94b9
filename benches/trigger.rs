//! How long is it to the next fire time, and what does a pattern weigh?
//!
//! Crontab texts in New York and in UTC, beside croner and the crate `cron`; each call starts at the
//! answer of the one before. First a summary that can be read at a glance, then Criterion's figures:
//! `cargo bench --bench trigger -- --summary` prints only the former.

use std::{hint::black_box, time::Duration, time::Instant};

use chrono::{DateTime, TimeZone as _, Utc};
use chrono_tz::{America::New_York, TZ_VARIANTS, Tz};
use criterion::{BenchmarkId, Criterion};
use croner::parser::{CronParser, Seconds};
use peak_alloc::PeakAlloc;
use punctual::trigger::{Cron, CronFields, Fold, Gap, IntoTrigger, Trigger, cron};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const PATTERNS: [&str; 6] =
    ["*/5 * * * *", "*/10 * * * * *", "0 9 * * MON-FRI", "0 0 1 1 *", "0 0 L * *", "0 0 29 2 *"];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // As Criterion has it: `cargo test` does not pass `--bench`.
    let bench = args.iter().any(|arg| arg == "--bench") && !args.iter().any(|arg| arg == "--test");
    summary(if bench { 20_000 } else { 20 });
    if args.iter().any(|arg| arg == "--summary") {
        return;
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args();
    for zone in [New_York, Tz::UTC] {
        let mut group = criterion.benchmark_group(format!("next fire, {zone}"));
        for text in PATTERNS {
            for (name, mut next) in contenders(text, zone) {
                group.bench_function(BenchmarkId::new(name, text), |bencher| {
                    bencher.iter(|| black_box(next()));
                });
            }
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group("parse");
    for text in PATTERNS {
        for (name, parse) in PARSERS {
            group.bench_function(BenchmarkId::new(name, text), |bencher| {
                bencher.iter(|| parse(black_box(text)));
            });
        }
    }
    group.finish();
    criterion.final_summary();
}

/// What goes to the next fire time with each call, and begins again when the century is over.
type Next = Box<dyn FnMut() -> i64>;

fn contenders(text: &str, zone: Tz) -> Vec<(&'static str, Next)> {
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

fn croner(text: &str) -> croner::Cron {
    let parser = CronParser::builder().seconds(Seconds::Optional).build();
    parser.parse(text).expect("croner knows the patterns")
}

/// The crate `cron` wants seconds, and does not know `L`.
fn cron_crate(text: &str) -> Option<cron::Schedule> {
    match text.split(' ').count() {
        5 => format!("0 {text}").parse().ok(),
        _ => text.parse().ok(),
    }
}

type Parse = fn(&str);

const PARSERS: [(&str, Parse); 3] = [
    ("punctual", |text| drop(black_box(Cron::parse(text)))),
    ("croner", |text| drop(black_box(croner(text)))),
    ("cron", |text| drop(black_box(cron_crate(text)))),
];

fn summary(calls: u32) {
    for zone in [New_York, Tz::UTC] {
        print_head(&format!("ns per next fire, {zone}"));
        let rows = PATTERNS.map(|text| {
            let mut row = [None; 3];
            for (column, (_, mut next)) in row.iter_mut().zip(contenders(text, zone)) {
                *column = Some(nanos(calls, || {
                    black_box(next());
                }));
            }
            row
        });
        print_rows(&rows);
    }
    print_head("ns per parse");
    let rows = PATTERNS.map(|text| {
        // What it does not know takes no time to tell.
        let knows = |name| name != "cron" || cron_crate(text).is_some();
        PARSERS.map(|(name, parse)| {
            knows(name).then(|| nanos(calls / 10 + 1, || parse(black_box(text))))
        })
    });
    print_rows(&rows);
    print_head("bytes per pattern, its text and all");
    let rows = PATTERNS.map(|text| {
        [
            Some(bytes(|| Cron::parse(text).expect("the patterns are valid"))),
            Some(bytes(|| croner(text))),
            cron_crate(text).map(|_| bytes(|| cron_crate(text))),
        ]
    });
    print_rows(&rows);
    adversaries(calls);
}

fn print_head(what: &str) {
    println!("\n{what:<36} {:>9} {:>9} {:>9}", "punctual", "croner", "cron");
}

fn print_rows(rows: &[[Option<f64>; 3]]) {
    let print = |name: &str, row: [Option<f64>; 3]| {
        let cell = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.0}"));
        println!("  {name:<34} {:>9} {:>9} {:>9}", cell(row[0]), cell(row[1]), cell(row[2]));
    };
    for (text, row) in PATTERNS.iter().zip(rows) {
        print(text, *row);
    }
    let sorted = [0, 1, 2].map(|column| {
        let mut values: Vec<f64> = rows.iter().filter_map(|row| row[column]).collect();
        values.sort_by(f64::total_cmp);
        values
    });
    let middle =
        |values: &Vec<f64>| (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
    print("median", sorted.each_ref().map(|values| Some(middle(values))));
    print("worst", sorted.each_ref().map(|values| values.last().copied()));
}

/// The fastest of some rounds of so many calls each, per call: the others tell how busy the machine
/// was.
fn nanos(calls: u32, mut call: impl FnMut()) -> f64 {
    let rounds = [(); 9].map(|()| {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    });
    rounds.into_iter().fold(f64::INFINITY, f64::min)
}

/// What one of many weighs, with what it owns and the text.
fn bytes<T>(parse: impl Fn() -> T) -> f64 {
    const MANY: usize = 1_000;
    let mut all = Vec::with_capacity(MANY);
    let before = ALLOCATOR.current_usage();
    all.extend((0..MANY).map(|_| parse()));
    (ALLOCATOR.current_usage() - before) as f64 / MANY as f64 + size_of::<T>() as f64
}

/// The longest that any call takes, in any zone, with patterns that fire never or hardly ever.
fn adversaries(calls: u32) {
    let fields = CronFields::builder;
    let mut triggers: Vec<Trigger> = Vec::new();
    for gap in [Gap::Next, Gap::Skip] {
        for fold in [Fold::First, Fold::Last, Fold::Both] {
            for text in [
                "0 0 30 2 *",
                "0 0 31 2,4,6,9,11 *",
                "0 0 31W 2 ?",
                "0 0 1 1 ? 2199",
                "59 59 23 31 12 ? 1900",
                "59 59 23 29 2 SAT#5 *",
                // Each of its times lies in a gap of New York.
                "30 2 8-14 3 SUN",
                "0 0 29 2 MON",
                "0 0 */2 */2 1#5",
            ] {
                let build = cron(text).dom_and_dow().gap(gap).fold(fold);
                triggers.extend(build.into_trigger());
            }
            for build in [
                fields().week(53).month("1-6").day("4-31"),
                fields().week("1,53").day("20"),
                fields().week(53).day_of_week("mon").day("last"),
                fields().month(2).day("5th mon").week(9),
                fields().year("2199").week(1).day("31").day_of_week(0),
                fields().year("9999"),
            ] {
                triggers.extend(build.gap(gap).fold(fold).into_trigger());
            }
        }
    }
    let mut worst = (Duration::ZERO, String::new());
    let mut first_uses = Vec::new();
    let zones: Vec<Tz> = match calls {
        0..100 => vec![New_York, Tz::Africa__Casablanca],
        _ => TZ_VARIANTS.to_vec(),
    };
    let instants = ["1500-01-01", "1900-01-01", "2026-11-20", "2199-12-31", "3000-01-01"]
        .map(|day| format!("{day}T00:00:00Z").parse::<DateTime<Utc>>().expect("a date"));
    let asked = zones.len() * triggers.len() * instants.len() * 2;
    for zone in zones {
        // What is known of a zone is found out when it is first used.
        let fresh = cron("0 0 * * *").in_tz(zone).into_trigger().expect("the pattern is valid");
        let start = Instant::now();
        let _ = black_box(fresh.next_after(instants[2]));
        first_uses.push(start.elapsed());
        for trigger in &triggers {
            let trigger = trigger.anchored(instants[2], zone).expect("a cron can be anchored");
            for t in instants {
                for forward in [true, false] {
                    let ask = || match forward {
                        true => trigger.next_after(t),
                        false => trigger.last_at_or_before(t),
                    };
                    // The best of three: what is asked here is not what else the machine does.
                    let took = [(); 3].map(|()| {
                        let start = Instant::now();
                        let _ = black_box(ask());
                        start.elapsed()
                    });
                    let took = took.into_iter().min().expect("three were measured");
                    if took > worst.0 {
                        let call = if forward { "next_after" } else { "last_at_or_before" };
                        worst = (took, format!("{trigger}, {call} {t}"));
                    }
                }
            }
        }
    }
    println!(
        "\n{asked} calls of patterns that hardly ever fire: the worst takes {:?}: {}",
        worst.0, worst.1
    );
    first_uses.sort();
    println!(
        "the first use of a zone in a process takes {:?}, and {:?} at most\n",
        first_uses[first_uses.len() / 2],
        first_uses[first_uses.len() - 1],
    );
}
