//! What do recurring jobs cost that are hours away?

mod common;
mod measure;

use std::time::Duration;

use common::{Args, figures::grouped};
use measure::idle::{self, Load};
use tokio::runtime::Runtime;

/// Puts so many jobs in place and watches what they cost for so long.
type Measure = fn(&Runtime, usize, Duration) -> Load;

fn main() {
    let args: Args = clap::Parser::parse();
    let window = if args.test() { Duration::from_millis(50) } else { Duration::from_secs(10) };
    let runtime = common::runtime();
    println!(
        "\nidle: recurring jobs, hours away, over {window:?}; the floor is a polled DelayQueue"
    );
    println!("{:>11}  {:<10} {:>12} {:>14}", "jobs", "", "CPU", "wake-ups");
    println!("{:>11}  {:<10} {:>12} {:>14}", "", "", "% of a core", "per second");
    for size in args.sizes(&[100, 100_000, 1_000_000]) {
        let contenders: [(&str, Measure); 3] =
            [("nothing", idle::nothing), ("floor", idle::floor), ("punctual", idle::ours)];
        for (what, load) in contenders.into_iter().filter(|(what, _)| args.wants(what)) {
            let Load { cpu, wake_ups } = load(&runtime, size, window);
            let size = grouped(size);
            println!("{size:>11}  {what:<10} {:>12.4} {wake_ups:>14.1}", cpu * 100.0);
        }
    }
}
