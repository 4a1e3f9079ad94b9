//! Nodes that are killed at any instant: their rows are reclaimed in time, and nothing is lost or
//! done twice.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    time::Duration,
};

use chrono::Utc;
use punctual::store::{Fate, RowState};

use crate::{
    account::Account,
    database::{Held, Kind},
    stage::Stage,
};

/// Short, so that the rows of dead nodes are soon reclaimed.
const LEASE: Duration = Duration::from_secs(1);

/// The longest life of a node between two kills.
const LIVES_MS: u64 = 1800;

/// The delay that a busy machine may add to the lease and a heartbeat.
const SLACK: Duration = Duration::from_millis(500);

struct Kill {
    at: i64,
    pid: u32,
    held: HashSet<Held>,
}

/// How many kills there are, unless `PUNCTUAL_KILLS` says it.
const KILLS: u32 = 70;
const KILLS_ON_SERVER: u32 = 20;

pub(crate) fn killed(kind: Kind) {
    let default = if kind == Kind::Sqlite { KILLS } else { KILLS_ON_SERVER };
    let number = std::env::var("PUNCTUAL_KILLS").map_or(default, |number| number.parse().unwrap());
    let mut at = Vec::new();
    let mut stage = Stage::new("killed", kind, LEASE, |rng| {
        let mut now = 0;
        at.extend((0..number).map(|_| {
            now += 50 + rng.below(LIVES_MS - 50);
            Duration::from_millis(now)
        }));
        Duration::from_millis(now) + 3 * LEASE
    });
    let now = || Utc::now().timestamp_micros();
    // A file has two nodes, and a server three.
    let count = if kind == Kind::Sqlite { 2 } else { 3 };
    let mut nodes: Vec<_> = (0..count).map(|_| (stage.start(), now())).collect();
    let (mut kills, mut lives) = (Vec::new(), Vec::new());
    for at in at {
        stage.sleep_until(at);
        let (victim, began) = nodes.swap_remove(stage.rng.below(count) as usize);
        let (name, pid) = (victim.name.clone(), victim.pid());
        let at = victim.kill();
        lives.push(began..at);
        nodes.push((stage.start(), now()));
        kills.push(Kill { at, pid, held: stage.held_by(&name) });
    }
    for (node, began) in nodes {
        node.close();
        lives.push(began..now());
    }
    stage.come_to_rest();

    let account = Account::of(&stage);
    account.print();
    account.check();
    account.never_overlaps(&kills.iter().map(|kill| (kill.pid, kill.at)).collect());
    are_reclaimed(&kills, &lives, &account);
}

/// Returns by when the rows of a node that died at `death` must be reclaimed: a lease and a
/// heartbeat after a node is alive that lives that long. A node that has just started must watch
/// for a lease first.
fn deadline(death: i64, lives: &[Range<i64>]) -> i64 {
    let bound = micros(LEASE + LEASE / 3 + SLACK);
    let from = |life: &Range<i64>| death.max(life.start + micros(SLACK));
    let by = lives.iter().map(|life| (from(life) + bound, life.end));
    by.filter(|(by, end)| by <= end).map(|(by, _)| by).min().unwrap_or(i64::MAX)
}

fn micros(time: Duration) -> i64 {
    time.as_micros() as i64
}

/// Checks that the rows of dead nodes were reclaimed in time.
fn are_reclaimed(kills: &[Kill], lives: &[Range<i64>], account: &Account) {
    let abandoned: HashMap<_, _> = account
        .rows
        .iter()
        .filter(|row| row.state == RowState::Closed(Fate::Abandoned))
        .map(|row| ((row.job.to_string(), row.key.number, row.fence), row.ended_at.unwrap()))
        .collect();
    let (mut took, mut watched) = (Vec::new(), 0);
    for (index, kill) in kills.iter().enumerate() {
        let mut taken_over: HashMap<&str, i64> = HashMap::new();
        for held in &kill.held {
            let abandoned = abandoned
                .get(&(held.job.clone(), held.fire_time, held.fence))
                .map(|at| at.timestamp_micros());
            let executed = account.executions.iter().filter(|execution| {
                (&*execution.who.job, execution.who.fire_time) == (&*held.job, held.fire_time)
                    && execution.began > kill.at
            });
            // The node that reclaims them may be killed as well.
            let later = kills[index + 1..].iter().filter(|later| {
                later.held.iter().any(|row| {
                    (&row.job, row.fire_time) == (&held.job, held.fire_time)
                        && row.fence > held.fence
                })
            });
            let first = executed
                .map(|execution| execution.began)
                .chain(later.map(|later| later.at))
                .chain(abandoned)
                .min();
            if let Some(first) = first {
                let known = taken_over.entry(&held.job).or_insert(first);
                *known = first.min(*known);
            }
        }
        let jobs: HashSet<&str> = kill.held.iter().map(|held| &*held.job).collect();
        assert_eq!(taken_over.len(), jobs.len(), "{taken_over:?} of {jobs:?}");
        let by = deadline(kill.at, lives);
        watched += usize::from(by == kill.at + micros(LEASE + LEASE / 3 + SLACK));
        let late: Vec<_> = taken_over.iter().filter(|(_, at)| **at > by).collect();
        assert!(late.is_empty(), "taken over after {by}, death at {}: {late:?}", kill.at);
        took.extend(taken_over.into_values().map(|at| (at - kill.at) / 1000));
    }
    took.sort_unstable();
    let at = |part: usize| took[(took.len() - 1) * part / 100];
    println!(
        "  {} kills; jobs of the dead were taken over after {} / {} / {} / {} ms (0, 50, 90, 100 %)",
        kills.len(),
        at(0),
        at(50),
        at(90),
        at(100)
    );
    println!("  {watched} of them were watched by one that lived long enough");
    assert!(watched > 0 || kills.len() < 20, "nobody was there to watch");
}
