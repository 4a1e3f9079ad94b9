//! How late do jobs run in a steady stream, and what does that cost?
//!
//! `cargo bench --bench steady -- 1000 20000 --seconds 60` measures those rates, in fires per second,
//! for so long.

mod common;
mod measure;

use std::time::Duration;

use clap::Parser;
use common::{
    Args,
    figures::{grouped, median, short},
};
use measure::steady::{self, Flow, Stream};

#[derive(Parser)]
struct SteadyArgs {
    #[command(flatten)]
    args: Args,
    /// How long each stream is watched.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// How it is called, and how it is taken from what came of a stream.
type Column = (&'static str, fn(&Flow) -> f64);

const COLUMNS: [Column; 6] = [
    ("p50 ms", |flow| flow.late_ms(0.5)),
    ("p99 ms", |flow| flow.late_ms(0.99)),
    ("p99.9 ms", |flow| flow.late_ms(0.999)),
    ("max ms", |flow| flow.late_ms(1.0)),
    ("CPU s/s", |flow| flow.cpu),
    ("wakes/s", |flow| flow.wake_ups),
];

fn main() {
    let SteadyArgs { args, seconds } = SteadyArgs::parse();
    let (period, window) = if args.test() {
        (Duration::from_millis(500), Duration::from_secs(1))
    } else {
        (Duration::from_secs(1), Duration::from_secs(seconds))
    };
    let rounds = args.rounds(3);
    let runtime = common::runtime();
    println!(
        "\nsteady: recurring jobs, {window:?} of them, the median of {rounds} rounds; the floor puts \
         each entry back and spawns a task for it"
    );
    println!("{:>11}  {:<24}{}", "fires/s", "", COLUMNS.map(|(name, _)| cell(name)).concat());
    for per_second in args.sizes(&[1_000, 10_000]) {
        let stream = Stream { per_second, period, window };
        let mut floor = None;
        for (name, flows) in steady::turns(&runtime, stream, rounds, |name| args.wants(name)) {
            let row = COLUMNS.map(|(_, value)| median(flows.iter().map(value)));
            let cells = row.map(|value| cell(&short(value))).concat();
            println!("{:>11}  {name:<24}{cells}", grouped(per_second));
            if let Some(floor) = floor {
                let ratios = std::iter::zip(row, floor).map(|(ours, floor)| ours / floor);
                let cells: String = ratios.map(|ratio| cell(&short(ratio))).collect();
                println!("{:>11}  {:<24}{cells}", "", "  times the first");
            }
            floor = floor.or(Some(row));
        }
    }
}

fn cell(text: &str) -> String {
    format!(" {text:>9}")
}
