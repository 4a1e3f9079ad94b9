//! Rounds in which several ways to do a thing take turns with a bare floor, and the table of them.

use std::time::{Duration, Instant};

use super::{Args, Usage, figures};

/// One way to do the thing that a bench measures; it may look at its stopwatch at several points.
pub(crate) struct Contender<'a> {
    rows: &'static [&'static str],
    run: Box<dyn FnMut(usize) -> Vec<Took> + 'a>,
}

impl<'a> Contender<'a> {
    /// `run` does it with so many jobs, and has something to say for each of the `rows`.
    pub(crate) fn new(
        rows: &'static [&'static str],
        run: impl FnMut(usize) -> Vec<Took> + 'a,
    ) -> Contender<'a> {
        Contender { rows, run: Box::new(run) }
    }
}

/// How long something took, and how much CPU time of all threads.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

pub(crate) struct Stopwatch(Instant, Usage);

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        let usage = Usage::now();
        Stopwatch(Instant::now(), usage)
    }

    pub(crate) fn read(&self) -> Took {
        Took { wall: self.0.elapsed(), cpu: Usage::since(self.1).cpu }
    }
}

/// What a job took in all rounds of one size, in nanoseconds.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) best: f64,
    pub(crate) median: f64,
    /// CPU time, the median.
    pub(crate) cpu: f64,
}

/// Lets the contenders take turns; the first of them is the floor.
pub(crate) fn rounds(contenders: &mut [Contender<'_>], size: usize, rounds: usize) -> Vec<Row> {
    let mut took: Vec<Vec<Vec<Took>>> =
        contenders.iter().map(|contender| vec![Vec::new(); contender.rows.len()]).collect();
    for _ in 0..rounds {
        for (contender, took) in contenders.iter_mut().zip(&mut took) {
            for (row, time) in took.iter_mut().zip((contender.run)(size)) {
                row.push(time);
            }
        }
    }
    let names = contenders.iter().flat_map(|contender| contender.rows);
    names.zip(took.into_iter().flatten()).map(|(name, took)| Row::new(name, size, &took)).collect()
}

impl Row {
    fn new(name: &'static str, size: usize, took: &[Took]) -> Row {
        let sorted = |part: fn(&Took) -> Duration| {
            let per_job = |took| part(took).as_nanos().max(1) as f64 / size as f64;
            let mut sorted: Vec<f64> = took.iter().map(per_job).collect();
            sorted.sort_by(f64::total_cmp);
            sorted
        };
        let (wall, cpu) = (sorted(|took| took.wall), sorted(|took| took.cpu));
        Row { name, best: wall[0], median: wall[wall.len() / 2], cpu: cpu[cpu.len() / 2] }
    }
}

/// How often to measure a size: more often what is over soon and so tells less.
pub(crate) fn enough(size: usize) -> usize {
    match size {
        0..=1_000 => 41,
        1_001..=20_000 => 15,
        20_001..=200_000 => 11,
        _ => 5,
    }
}

/// Prints what each contender needs for a job. Ratios are of the floor's time to each: 1 is as fast
/// as the floor, less is slower.
pub(crate) fn table(args: &Args, sizes: &[usize], title: &str, mut all: Vec<Contender<'_>>) {
    all.retain(|contender| contender.rows.iter().any(|row| args.wants(row)));
    println!("\n{title}");
    println!(
        "{:>11}  {:<34} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7}",
        "jobs", "", "best", "median", "median", "CPU", "ratio", "ratio"
    );
    println!(
        "{:>11}  {:<34} {:>9} {:>9} {:>8} {:>8} {:>7} {:>7}",
        "", "", "jobs/s", "jobs/s", "ns/job", "ns/job", "best", "median"
    );
    for &size in &args.sizes(sizes) {
        let rows = rounds(&mut all, size, args.rounds(enough(size)));
        for row in &rows {
            println!(
                "{:>11}  {:<34} {:>9} {:>9} {:>8.0} {:>8.0} {:>7.2} {:>7.2}",
                figures::grouped(size),
                row.name,
                figures::short(1e9 / row.best),
                figures::short(1e9 / row.median),
                row.median,
                row.cpu,
                rows[0].best / row.best,
                rows[0].median / row.median,
            );
        }
    }
}
