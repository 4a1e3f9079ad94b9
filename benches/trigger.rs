//! How long does it take to find the next fire time, and to read a pattern?
//!
//! Crontab texts in New York and in UTC, beside croner and the crate `cron`. First a summary that can
//! be read at a now_cached, then Criterion's figures: `cargo bench --bench trigger -- --summary` prints
//! only the former.

mod common;
mod measure;

use std::{hint::black_box, time::Duration, time::Instant};

use chrono::{DateTime, Utc};
use chrono_tz::{America::New_York, TZ_VARIANTS, Tz};
use criterion::{BenchmarkId, Criterion};
use measure::trigger::{
    PATTERNS, contenders, cron_crate, croner, median_and_worst, nanos, next_fires,
};
use punctual::trigger::{Cron, CronFields, Fold, Gap, IntoTrigger, Trigger, cron};

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

type Parse = fn(&str);

const PARSERS: [(&str, Parse); 3] = [
    ("punctual", |text| drop(black_box(Cron::parse(text)))),
    ("croner", |text| drop(black_box(croner(text)))),
    ("cron", |text| drop(black_box(cron_crate(text)))),
];

fn summary(calls: u32) {
    for zone in [New_York, Tz::UTC] {
        print_head(&format!("ns per next fire, {zone}"));
        print_rows(&next_fires(zone, calls));
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
    let summary = [0, 1, 2].map(|column| median_and_worst(rows, column));
    print("median", summary.map(|[median, _]| Some(median)));
    print("worst", summary.map(|[_, worst]| Some(worst)));
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
                    let ask = || {
                        if forward { trigger.next_after(t) } else { trigger.last_at_or_before(t) }
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
