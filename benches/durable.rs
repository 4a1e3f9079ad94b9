//! How much later do jobs in a store run than jobs in memory, and what does that cost?
//!
//! `cargo bench --bench durable -- 1000 5000 --seconds 60` measures those rates, in fires per second,
//! for so long.

mod common;
mod measure;

use std::time::Duration;

use clap::Parser;
use common::{
    Args,
    figures::{grouped, median, short},
};
use measure::{
    durable,
    steady::{Flow, Stream},
};

#[derive(Parser)]
struct DurableArgs {
    #[command(flatten)]
    args: Args,
    /// How long each stream is watched.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// How it is called, and how it is taken from what came of a stream.
type Column = (&'static str, fn(&Flow) -> f64);

const COLUMNS: [Column; 5] = [
    ("p50 ms", |flow| flow.late_ms(0.5)),
    ("p99 ms", |flow| flow.late_ms(0.99)),
    ("max ms", |flow| flow.late_ms(1.0)),
    ("CPU s/s", |flow| flow.cpu),
    ("wakes/s", |flow| flow.wake_ups),
];

fn main() {
    let DurableArgs { args, seconds } = DurableArgs::parse();
    let ms = Duration::from_millis;
    let (periods, window) = if args.test() {
        ([ms(200), ms(100)], ms(400))
    } else {
        ([ms(1000), ms(100)], Duration::from_secs(seconds))
    };
    let rounds = args.rounds(3);
    let runtime = common::runtime();
    println!("\ndurable: {window:?} of tasks in a store, the median of {rounds} rounds");
    println!("{:>8}  {:<24}{}", "fires/s", "", COLUMNS.map(|(name, _)| cell(name)).concat());
    for per_second in args.sizes(&[1_000]) {
        for period in periods.into_iter().chain([window]) {
            if period == window {
                println!("{:>8}  once", grouped(per_second))
            } else {
                println!("{:>8}  every {period:?}", grouped(per_second))
            }
            let stream = Stream { per_second, period, window };
            for (name, flows) in durable::turns(&runtime, stream, rounds, |name| args.wants(name)) {
                let row = COLUMNS.map(|(_, value)| short(median(flows.iter().map(value))));
                println!("{:>8}    {name:<22}{}", "", row.map(|value| cell(&value)).concat());
            }
        }
    }
}

fn cell(text: &str) -> String {
    format!(" {text:>9}")
}
