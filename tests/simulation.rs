//! Clusters with everything that goes wrong in them: what a store's jobs are promised holds.
//!
//! `PUNCTUAL_SEEDS=FROM..TO` says which seeds; `PUNCTUAL_TRACE=1` prints all that happens in the first
//! of them that fails, or in the only one.

use std::{
    env,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use punctual::{
    store::MemoryStore,
    testing::{Broken, Simulation},
};

/// Seeds that found something once.
const REGRESSIONS: [u64; 23] = [
    3, 13, 21, 76, 87, 296, 380, 487, 591, 650, 780, 785, 833, 885, 914, 922, 969, 1772, 2862,
    2992, 4439, 7582, 19625,
];

fn seeds() -> Range<u64> {
    let Ok(text) = env::var("PUNCTUAL_SEEDS") else { return 0..3000 };
    let seeds =
        text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    let one = || text.parse().ok().map(|seed: u64| seed..seed + 1);
    seeds.or_else(one).unwrap_or_else(|| panic!("PUNCTUAL_SEEDS is `{text}`, not `FROM..TO`"))
}

fn env_number(name: &str, default: usize) -> usize {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn fail(seed: u64, broken: &Broken) -> ! {
    if env::var_os("PUNCTUAL_TRACE").is_some() {
        let again = Simulation::new(seed).traced().run(MemoryStore::with_clock);
        eprintln!("{}", again.unwrap_err().report().trace);
    }
    panic!(
        "{broken}\n\nTo see how it came to that:\n  PUNCTUAL_TRACE=1 PUNCTUAL_SEEDS={seed}..{} cargo test --features testing --test simulation promises\n",
        seed + 1
    );
}

#[test]
fn promises_hold_whatever_goes_wrong() {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut broken = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return broken;
            }
            if let Err(found) = Simulation::new(seed).run(MemoryStore::with_clock) {
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
        fail(*seed, first);
    }
}

#[test]
fn seeds_that_found_something_once_find_nothing_any_more() {
    for seed in REGRESSIONS {
        if let Err(broken) = Simulation::new(seed).run(MemoryStore::with_clock) {
            fail(seed, &broken);
        }
    }
}

#[test]
fn the_same_seed_is_the_same_simulation() {
    for seed in 0..20 {
        let trace = || {
            let run = Simulation::new(seed).traced().run(MemoryStore::with_clock);
            run.map_or_else(|broken| broken.report().trace.clone(), |report| report.trace)
        };
        let (one, other) = (trace(), trace());
        assert!(!one.is_empty());
        assert!(one == other, "seed {seed} is not the same twice");
    }
}
