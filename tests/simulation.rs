//! Simulated clusters with every kind of fault: the promises about a store's jobs hold.
//!
//! `PUNCTUAL_SEEDS=FROM..TO` sets the seeds; `PUNCTUAL_TRACE=1` prints all events of the first
//! failing seed, or of the only one.

use std::{
    env,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use punctual::{
    store::MemoryStore,
    testing::{Broken, Report, Simulation},
};

/// Seeds that once found a bug.
const REGRESSIONS: [u64; 39] = [
    3, 13, 21, 76, 87, 296, 380, 487, 591, 650, 780, 785, 833, 885, 914, 922, 969, 1772, 2862,
    2992, 3272, 4439, 7582, 8382, 9532, 11021, 17556, 19625, 8343, 5559, 26181810, 6184, 16212,
    15440, 19159, 5807, 9268, 906, 7702,
];

fn seeds() -> Option<Range<u64>> {
    let text = env::var("PUNCTUAL_SEEDS").ok()?;
    let seeds =
        text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    let one = || text.parse().ok().map(|seed: u64| seed..seed + 1);
    let seeds = seeds.or_else(one);
    Some(seeds.unwrap_or_else(|| panic!("PUNCTUAL_SEEDS is `{text}`, not `FROM..TO`")))
}

fn env_number(name: &str, default: usize) -> usize {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn fail(seed: u64, broken: &Broken, run: impl Fn(Simulation) -> Result<Report, Broken>) -> ! {
    if env::var_os("PUNCTUAL_TRACE").is_some() {
        let again = run(Simulation::new(seed).traced());
        eprintln!("{}", again.unwrap_err().report().trace);
    }
    panic!(
        "{broken}\n\nTo see how it came to that:\n  PUNCTUAL_TRACE=1 PUNCTUAL_SEEDS={seed}..{} cargo test --features testing --test simulation promises\n",
        seed + 1
    );
}

#[test]
fn promises_hold_whatever_goes_wrong() {
    hold(seeds().unwrap_or(0..3000), |simulation| simulation.run(MemoryStore::with_clock));
}

#[test]
fn promises_hold_where_operations_are_several_commits() {
    hold(seeds().unwrap_or(0..400), in_several_commits);
}

#[test]
fn promises_hold_where_the_store_has_no_clock() {
    hold(seeds().unwrap_or(0..250), without_clock);
}

fn without_clock(simulation: Simulation) -> Result<Report, Broken> {
    simulation.without_store_clock().run(MemoryStore::with_clock)
}

fn in_several_commits(simulation: Simulation) -> Result<Report, Broken> {
    simulation.in_several_commits().run(MemoryStore::with_clock)
}

#[cfg(feature = "sqlite")]
fn on_sqlite(simulation: Simulation) -> Result<Report, Broken> {
    use futures::executor::block_on;
    use punctual::store::SqliteStore;

    simulation.run(|clock| block_on(SqliteStore::in_memory_with_clock(clock)).unwrap())
}

#[cfg(feature = "sqlite")]
#[test]
fn promises_hold_on_sqlite() {
    hold(seeds().unwrap_or(0..300), on_sqlite);
}

/// Runs the simulations of these seeds, on all cores.
fn hold(seeds: Range<u64>, run: impl Fn(Simulation) -> Result<Report, Broken> + Sync) {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut broken = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return broken;
            }
            if let Err(found) = run(Simulation::new(seed)) {
                broken.push((seed, found));
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut broken: Vec<(u64, Broken)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    broken.sort_by_key(|(seed, _)| *seed);
    if let Some((seed, first)) = broken.first() {
        eprintln!("{} seeds fail:", broken.len());
        for (seed, broken) in broken.iter().take(env_number("PUNCTUAL_SHOWN", 20)) {
            eprintln!("{seed:>8} {}", broken.wrong()[0]);
        }
        fail(*seed, first, &run);
    }
}

#[test]
fn seeds_that_found_something_once_find_nothing_any_more() {
    for seed in REGRESSIONS {
        let run = |simulation: Simulation| simulation.run(MemoryStore::with_clock);
        if let Err(broken) = run(Simulation::new(seed)) {
            fail(seed, &broken, run);
        }
        if let Err(broken) = in_several_commits(Simulation::new(seed)) {
            fail(seed, &broken, in_several_commits);
        }
    }
}

/// Returns all events of a simulation, line by line.
fn trace(seed: u64, run: impl Fn(Simulation) -> Result<Report, Broken>) -> String {
    let run = run(Simulation::new(seed).traced());
    run.map_or_else(|broken| broken.report().trace.clone(), |report| report.trace)
}

#[test]
fn the_same_seed_is_the_same_simulation() {
    let on_memory = |simulation: Simulation| simulation.run(MemoryStore::with_clock);
    for seed in 0..20 {
        let (one, other) = (trace(seed, on_memory), trace(seed, on_memory));
        assert!(!one.is_empty());
        assert!(one == other, "seed {seed} is not the same twice");
        let (one, other) = (trace(seed, in_several_commits), trace(seed, in_several_commits));
        assert!(one == other, "seed {seed} is not the same twice, in several commits");
        #[cfg(feature = "sqlite")]
        assert!(trace(seed, on_sqlite) == trace(seed, on_sqlite), "seed {seed}, on SQLite");
    }
}
