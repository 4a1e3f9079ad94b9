//! Mutation tests of the simulation: ways to break a store or the core, each of which makes seeds
//! fail that otherwise pass.
//!
//! By default, only checks that the source line of each mutant exists exactly once.
//! `PUNCTUAL_MUTANTS=all cargo test --test mutants` applies one mutant after the other in a copy of
//! the sources, builds the copy, runs the default seeds of `tests/simulation.rs` on it, and prints
//! how many fail, and the first failure. Each mutant takes about a minute. `PUNCTUAL_MUTANTS=NAME`
//! applies the mutants whose names contain NAME. `PUNCTUAL_SEEDS` sets the seeds, as for the
//! simulation itself.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// One way to break something.
struct Mutant {
    name: &'static str,
    file: &'static str,
    /// The source texts, each with its replacement.
    edits: &'static [(&'static str, &'static str)],
}

const MUTANTS: &[Mutant] = &[
    // An outcome closes a row that was claimed again since.
    Mutant {
        name: "no fence in finish",
        file: "src/store/sql/sqlite/ledger.rs",
        edits: &[(
            "WHERE incarnation = ?1 AND kind = ?2 AND number = ?3 AND fence = ?4 \\",
            "WHERE incarnation = ?1 AND kind = ?2 AND number = ?3 AND ?4 = ?4 \\",
        )],
    },
    // A write uses a record that has changed since.
    Mutant {
        name: "no stamp in write",
        file: "src/store/sql/sqlite/jobs.rs",
        edits: &[(
            "if current.as_ref().map(Record::stamp) != write.expected {",
            "if current.as_ref().map(|it| it.incarnation) != expected {",
        )],
    },
    Mutant {
        name: "no unique key in take",
        file: "src/store/sql/sqlite/claim.rs",
        edits: &[(
            "put_new: session.prepare(ledger::PUT_NEW)?,",
            "put_new: session.prepare(&ledger::PUT_NEW.replace(\"NOTHING\", \"UPDATE SET node = excluded.node, fate = excluded.fate, fence = excluded.fence, take = excluded.take\"))?,",
        )],
    },
    Mutant {
        name: "no unique key in write",
        file: "src/store/sql/sqlite/jobs.rs",
        edits: &[(
            "session.prepare(ledger::PUT_NEW)?;",
            "session.prepare(&ledger::PUT_NEW.replace(\"NOTHING\", \"UPDATE SET node = excluded.node, fate = excluded.fate, fence = excluded.fence\"))?;",
        )],
    },
    // A node trusts its lease after other nodes have expired it. (`membership::tests` check the
    // margin by which it stops earlier: dead nodes are found by watching, which leaves more room
    // than the margin.)
    Mutant {
        name: "trust beyond the lease",
        file: "src/core/durable/node/options.rs",
        edits: &[("delta(self.lease / 5)", "-delta(self.lease)")],
    },
    // A node claims fire times of a job of which another node has claimed some.
    Mutant {
        name: "no holder",
        file: "src/store/sql/sqlite/claim.rs",
        edits: &[
            (
                "WHERE task = ?1 AND holder IS ?2 AND paused = 0 AND next_fire <= ?3 \\\n     AND next_fire =",
                "WHERE task = ?1 AND ?2 IS ?2 AND paused = 0 AND next_fire <= ?3 \\\n     AND next_fire =",
            ),
            (
                "WHERE task = ?1 AND holder IS ?2 AND paused = 0 AND next_fire <= ?3 \\\n     AND next_fire >",
                "WHERE task = ?1 AND ?2 IS ?2 AND paused = 0 AND next_fire <= ?3 \\\n     AND next_fire >",
            ),
        ],
    },
    Mutant {
        name: "no overlap at start",
        file: "src/core/runs/submit.rs",
        edits: &[(
            "            && let Some(permit) = job.runs.semaphore.try_acquire(limit)\n        {\n            return Some(self.begin(",
            "            && let Some(permit) = job.runs.semaphore.try_acquire(limit.max(1000))\n        {\n            return Some(self.begin(",
        )],
    },
    // Nodes are expired by the store's clock, and not by watching (3).
    Mutant {
        name: "death by the store's clock",
        file: "src/store/sql/sqlite/nodes.rs",
        edits: &[(
            "    for &(node, heartbeats) in suspects {\n",
            "    let dead = nodes(session)?.into_iter().filter(|it| it.lease_until <= session.now());\n    \
                 let dead: Vec<_> = dead.map(|it| (it.id, it.heartbeats)).chain(suspects.iter().copied()).collect();\n    \
                 for (node, heartbeats) in dead {\n",
        )],
    },
    // A run that kills its node is recovered forever (5).
    Mutant {
        name: "recoveries are not counted",
        file: "src/ledger/row.rs",
        edits: &[("self.recoveries.checked_sub(1)?", "self.recoveries")],
    },
    // Notifications are ignored (6).
    Mutant {
        name: "notifications move nothing",
        file: "src/core/durable/node/claimer/mod.rs",
        edits: &[(
            "StoreChange::Due(at) => self.note(at, By::Store, now),",
            "StoreChange::Due(_) => _ = now,",
        )],
    },
    // An outcome that the store refuses for good is sent forever (13).
    Mutant {
        name: "refused outcomes are not given up",
        file: "src/core/durable/node/closer/mod.rs",
        edits: &[(
            "if last_heartbeat <= since {",
            "if last_heartbeat >= since || last_heartbeat < since {",
        )],
    },
    // A write is recognized only until the next one (15).
    Mutant {
        name: "one token",
        file: "src/ledger/record.rs",
        edits: &[("pub const KEPT: usize = 8;", "pub const KEPT: usize = 1;")],
    },
    // A verb continues with a job that took over the id (15).
    Mutant {
        name: "verbs follow the id",
        file: "src/core/change.rs",
        edits: &[(
            "now.incarnation == found.incarnation && now.ended_at.is_none()",
            "now.id == found.id && now.ended_at.is_none()",
        )],
    },
    // A batch of outcomes is retried at the same size, although the store needs longer than the
    // timeout.
    Mutant {
        name: "batches stay as they are",
        file: "src/core/durable/node/closer/mod.rs",
        edits: &[(
            "Request::Finish(sent) => self.finish_batch = sent.len().div_ceil(2).max(1)",
            "Request::Finish(_) => {}",
        )],
    },
];

fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the text of the file with the mutant applied.
fn mutated(mutant: &Mutant, text: &str) -> String {
    let mut text = text.to_owned();
    for (old, new) in mutant.edits {
        let times = text.matches(old).count();
        let Mutant { name, file, .. } = mutant;
        assert_eq!(times, 1, "mutant `{name}`: `{old}` is {times} times in {file}, not once");
        text = text.replacen(old, new, 1);
    }
    text
}

#[test]
fn each_mutant_still_matches_once() {
    for mutant in MUTANTS {
        let text = fs::read_to_string(sources().join(mutant.file)).unwrap();
        mutated(mutant, &text);
    }
}

#[test]
fn the_simulation_sees_each_mutant() {
    let Some(wanted) = env::var("PUNCTUAL_MUTANTS").ok().filter(|wanted| !wanted.is_empty()) else {
        eprintln!("left out: PUNCTUAL_MUTANTS is not set");
        return;
    };
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    let chosen = |mutant: &&Mutant| wanted == "all" || mutant.name.contains(&wanted);
    let mut unseen = Vec::new();
    for mutant in MUTANTS.iter().filter(chosen) {
        copy_sources(&copy);
        let file = copy.join(mutant.file);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, mutated(mutant, &text)).unwrap();
        let found = simulate(&copy);
        fs::write(&file, text).unwrap();
        if found.iter().all(|found| found.seeds == 0) {
            unseen.push(mutant.name);
        }
        for Found { test, seeds, first } in found {
            let first = if seeds == 0 { "" } else { &first };
            println!("{:<34} {test:<48} {seeds:>5} {first}", mutant.name);
        }
    }
    assert!(unseen.is_empty(), "nothing sees {unseen:?}");
}

/// The results of one test of the simulation.
struct Found {
    test: String,
    /// The number of failing seeds.
    seeds: u64,
    /// The first failing seed, with the broken promise.
    first: String,
}

/// Builds the simulation, and runs its default seeds.
fn simulate(copy: &Path) -> Vec<Found> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(copy).env("CARGO_TARGET_DIR", copy.join("target"));
    // One crate with a small change is built again and again.
    cargo.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_DEV_DEBUG", "0");
    cargo.env("RUST_BACKTRACE", "0").env("PUNCTUAL_SHOWN", "1").env_remove("PUNCTUAL_MUTANTS");
    cargo.args(["test", "--features", "testing,sqlite", "--test", "simulation", "promises"]);
    let run = cargo.args(["--", "--test-threads=1", "--nocapture"]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let tests: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("test ")).collect();
    assert!(!tests.is_empty(), "it does not build:\n{err}");
    // The errors list the failing tests in the order in which they ran.
    let mut failed = err.lines().filter(|line| !line.is_empty());
    let mut found = Vec::new();
    for line in out.lines() {
        let Some((test, rest)) = line.strip_prefix("test ").and_then(|it| it.split_once(" ... "))
        else {
            continue;
        };
        let (mut seeds, mut first) = (0, String::new());
        if !rest.contains("ok") {
            let count = failed.by_ref().find_map(|line| line.strip_suffix(" seeds fail:"));
            seeds = count.and_then(|count| count.parse().ok()).unwrap_or(1);
            first = failed.next().unwrap_or_default().trim().to_owned();
        }
        found.push(Found { test: test.to_owned(), seeds, first });
    }
    found
}

/// Copies the sources of the build, except for files that are unchanged.
fn copy_sources(copy: &Path) {
    fs::create_dir_all(copy).unwrap();
    for name in ["Cargo.toml", "Cargo.lock", "README.md", "src", "tests", "benches", "examples"] {
        copy_new(&sources().join(name), &copy.join(name));
    }
}

/// Leaves unchanged files alone, so that they are not rebuilt.
fn copy_new(from: &PathBuf, to: &PathBuf) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy_new(&from.join(&name), &to.join(&name));
        }
    } else if from.exists() && fs::read(to).ok() != fs::read(from).ok() {
        fs::copy(from, to).unwrap();
    }
}
