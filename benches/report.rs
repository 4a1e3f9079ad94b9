//! What are the figures, all of them, beside what they are to be?
//!
//! `cargo bench --bench report -- --json FILE` takes some minutes, prints a table in Markdown and
//! writes the same as JSON. Everything is measured as the bench of its question does.

mod common;
mod measure;

use std::{collections::BTreeMap, iter::zip, path::PathBuf, time::Duration};

use chrono_tz::America::New_York;
use clap::Parser;
use common::{
    Args,
    figures::{grouped, median},
    race::{self, Contender, enough},
    targets::{
        Report, Row,
        Target::{AtLeast, AtMost, TimesFloorAtLeast, TimesFloorAtMost},
    },
};
use measure::{
    add, cancel, drain, idle,
    memory::{self, Weight},
    steady::{self, Flow, Stream},
    trigger,
};
use tokio::runtime::Runtime;

#[derive(Parser)]
struct ReportArgs {
    #[command(flatten)]
    args: Args,
    /// Writes the report to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() {
    let ReportArgs { args, json } = ReportArgs::parse();
    let report = Report::new(Bench::new(args).rows());
    println!("\n{report}");
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&report).expect("a report is data");
        if let Err(error) = std::fs::write(&file, text + "\n") {
            panic!("the report can't be written to {}: {error}", file.display());
        }
    }
}

/// What is measured, and on what.
struct Bench {
    args: Args,
    runtime: Runtime,
    /// How many jobs, from few to most.
    sizes: Vec<usize>,
    /// How many jobs most figures are for.
    many: usize,
    most: usize,
    stream: Stream,
    idle: Duration,
    calls: u32,
}

/// What is told of a stream, its unit, and how it is taken from what came of that.
type Column = (&'static str, &'static str, fn(&Flow) -> f64);

impl Bench {
    fn new(args: Args) -> Bench {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let sizes = if args.test() {
            vec![5, 10, 20]
        } else {
            vec![100, 1_000, 10_000, 100_000, 1_000_000]
        };
        let (stream, idle, calls) = if args.test() {
            (Stream { per_second: 10, period: ms(500), window: s(1) }, ms(50), 20)
        } else {
            (Stream { per_second: 10_000, period: s(1), window: s(10) }, s(20), 20_000)
        };
        let [.., many, most] = sizes[..] else { unreachable!("there are several sizes") };
        Bench { args, runtime: common::runtime(), sizes, many, most, stream, idle, calls }
    }

    fn rows(&self) -> Vec<Row> {
        let (many, most) = (self.many, self.most);
        let add = self.race("adding", add::contenders(&self.runtime));
        let drain = self.race("draining", drain::contenders(&self.runtime));
        let cancel = self.race("cancelling", cancel::contenders(&self.runtime));
        eprintln!("weighing …");
        let weights = Weights(memory::ask(many, self.args.test()));
        let mut rows = vec![
            add.rate("add in bulk", add::BULK, many).target(AtLeast(1e6)),
            add.rate("add one by one", add::ONE_BY_ONE, many).target(AtLeast(3e5)),
            weights.row("memory of a job", memory::JOB, memory::FLOOR).target(AtMost(320.0)),
            weights
                .row("memory of a job with an id of its own", memory::NAMED, memory::FLOOR)
                .target(AtMost(320.0)),
            weights.resident("memory of a job, in resident pages", memory::JOB, memory::FLOOR),
        ];
        let drained = |size| drain.rate("drain", drain::OURS, size).target(TimesFloorAtLeast(0.7));
        rows.extend([many, most].map(drained));
        rows.extend(self.steady());
        rows.extend(self.idle(many));
        rows.extend(self.idle(most));
        // "Given back" has no number: let it be a tenth of what a job may weigh.
        let given_back = AtMost(32.0);
        rows.extend([
            cancel.rate("cancel by token", cancel::TOKEN, many).target(AtLeast(1e6)),
            weights
                .row("left by a job cancelled by token", memory::LEFT_BY_TOKEN, memory::FLOOR_LEFT)
                .target(given_back),
            cancel.rate("remove by handle", cancel::HANDLE, many).target(AtLeast(1e6)),
            weights
                .row("left by a job removed by handle", memory::LEFT_BY_HANDLE, memory::FLOOR_LEFT)
                .target(given_back),
        ]);
        rows.extend(self.next_fire());
        rows.push(
            weights
                .row("a cron pattern's memory (floor: croner)", memory::PATTERN, memory::CRONER)
                .target(AtMost(128.0)),
        );
        let spreads = [
            add.spread("add in bulk", add::BULK_ARMED),
            add.spread("add one by one", add::ONE_BY_ONE_ARMED),
            drain.spread("drain", drain::OURS),
            cancel.spread("cancel by token", cancel::TOKEN_DISARMED),
            cancel.spread("remove by handle", cancel::HANDLE_DISARMED),
        ];
        rows.extend(spreads.map(|row| row.target(AtMost(2.0))));
        rows
    }

    fn race(&self, what: &str, mut contenders: Vec<Contender<'_>>) -> Race {
        eprintln!("{what} …");
        let rounds = |size| self.args.rounds(enough(size));
        let sizes = self.sizes.iter();
        Race(sizes.map(|&size| (size, race::rounds(&mut contenders, size, rounds(size)))).collect())
    }

    fn steady(&self) -> Vec<Row> {
        eprintln!("firing {} times a second …", grouped(self.stream.per_second));
        let flows = steady::turns(&self.runtime, self.stream, self.args.rounds(3), |_| true);
        let [(_, floor), (_, ours), (_, precise)] = &flows[..] else {
            unreachable!("nobody was left out")
        };
        let row = |(what, unit, value): Column, flows: &[Flow], with| {
            let what = format!("{what}, {} fires/s{with}", grouped(self.stream.per_second));
            let [ours, floor] = [flows, floor].map(|flows| median(flows.iter().map(value)));
            Row::new(what, unit, ours, floor)
        };
        let columns: [Column; 3] = [
            ("late, p50", "ms", |flow| flow.late_ms(0.5)),
            ("late, p99", "ms", |flow| flow.late_ms(0.99)),
            ("CPU", "% of a core", |flow| flow.cpu * 100.0),
        ];
        let targets = [1.1, 1.5, 1.5].map(TimesFloorAtMost);
        let rows =
            zip(columns, targets).map(|(column, target)| row(column, ours, "").target(target));
        rows.chain(columns.map(|column| row(column, precise, ", precise_timers()"))).collect()
    }

    fn idle(&self, size: usize) -> [Row; 2] {
        eprintln!("idling with {} jobs …", grouped(size));
        let floor = idle::floor(&self.runtime, size, self.idle);
        let ours = idle::ours(&self.runtime, size, self.idle);
        let jobs = format!("{} jobs", grouped(size));
        [
            Row::new(format!("idle, {jobs}"), "wake-ups/s", ours.wake_ups, floor.wake_ups)
                .target(AtMost(1.0)),
            Row::new(format!("idle, {jobs}"), "% of a core", ours.cpu * 100.0, floor.cpu * 100.0)
                .target(AtMost(0.01)),
        ]
    }

    fn next_fire(&self) -> [Row; 2] {
        eprintln!("looking for fire times …");
        let rows = trigger::next_fires(New_York, self.calls);
        let [ours, croner] = [0, 1].map(|column| trigger::median_and_worst(&rows, column));
        let row = |what, index: usize, bound| {
            let what = format!("next fire of a cron in New York, {what} (floor: croner)");
            Row::new(what, "ns", ours[index], croner[index]).target(AtMost(bound))
        };
        [row("median", 0, 150.0), row("worst", 1, 300.0)]
    }
}

/// What each contender took at each size.
struct Race(BTreeMap<usize, Vec<race::Row>>);

impl Race {
    /// Jobs a second.
    fn rate(&self, what: &str, name: &str, size: usize) -> Row {
        let rows = &self.0[&size];
        let what = format!("{what}, {} jobs", grouped(size));
        Row::new(what, "jobs/s", 1e9 / named(rows, name).median, 1e9 / rows[0].median)
    }

    /// By how much the CPU time of a further job differs between sizes.
    fn spread(&self, what: &str, name: &str) -> Row {
        let ours = self.further(|rows| named(rows, name).cpu);
        let floor = self.further(|rows| rows[0].cpu);
        Row::spread(format!("CPU time of a further job, {what}"), ours, floor.into_values())
    }

    /// What each job takes that one size has beyond the size before: threads and timers that wake
    /// up cost the same whatever the size, and most of what a few jobs do.
    fn further(&self, cpu: impl Fn(&[race::Row]) -> f64) -> BTreeMap<usize, f64> {
        let all: Vec<_> =
            self.0.iter().map(|(&size, rows)| (size, cpu(rows) * size as f64)).collect();
        let pairs = zip(&all, &all[1..]);
        pairs
            .map(|((few, before), (many, after))| (*many, (after - before) / (many - few) as f64))
            .collect()
    }
}

fn named<'a>(rows: &'a [race::Row], name: &str) -> &'a race::Row {
    rows.iter().find(|row| row.name == name).expect("a contender has this name")
}

struct Weights(Vec<Weight>);

impl Weights {
    fn row(&self, what: &str, ours: &str, floor: &str) -> Row {
        Row::new(what, "B", self.of(ours).allocated, self.of(floor).allocated)
    }

    fn resident(&self, what: &str, ours: &str, floor: &str) -> Row {
        let [ours, floor] = [ours, floor].map(|what| self.of(what).resident.unwrap_or_default());
        Row::new(what, "B", ours, floor)
    }

    fn of(&self, what: &str) -> &Weight {
        self.0.iter().find(|weight| weight.what == what).expect("the memory bench weighs this")
    }
}
