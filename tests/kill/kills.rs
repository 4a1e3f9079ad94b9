//! Nodes that are killed at any instant: what they held is taken over in time, and nothing is lost or
//! done twice.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use punctual::store::{Fate, RowState};

use crate::{
    account::Account,
    stage::{Held, Stage},
};

/// Short, so that what the dead held is soon taken over.
const LEASE: Duration = Duration::from_secs(1);

/// How long nodes live between two kills, at most.
const LIVES_MS: u64 = 1800;

/// What a busy machine may add to the lease and a heartbeat.
const SLACK: Duration = Duration::from_millis(500);

struct Kill {
    at: i64,
    pid: u32,
    held: HashSet<Held>,
}

pub(crate) fn killed() {
    let number = std::env::var("PUNCTUAL_KILLS").map_or(100, |number| number.parse().unwrap());
    let mut at = Vec::new();
    let mut stage = Stage::new("killed", LEASE, |rng| {
        let mut now = 0;
        at.extend((0..number).map(|_| {
            now += 50 + rng.below(LIVES_MS - 50);
            Duration::from_millis(now)
        }));
        Duration::from_millis(now) + 3 * LEASE
    });
    let mut nodes = vec![stage.start(), stage.start()];
    let mut kills = Vec::new();
    for at in at {
        stage.sleep_until(at);
        let victim = nodes.swap_remove(stage.rng.below(2) as usize);
        let (name, pid) = (victim.name.clone(), victim.pid());
        let at = victim.kill();
        nodes.push(stage.start());
        kills.push(Kill { at, pid, held: stage.held_by(&name) });
    }
    for node in nodes {
        node.close();
    }
    stage.come_to_rest();

    let account = Account::of(&stage);
    account.print();
    account.check();
    account.never_overlaps(&kills.iter().map(|kill| (kill.pid, kill.at)).collect());
    are_taken_over(&kills, &account);
}

/// Sees that what the dead had held was taken over in time.
fn are_taken_over(kills: &[Kill], account: &Account) {
    let abandoned: HashMap<_, _> = account
        .rows
        .iter()
        .filter(|row| row.state == RowState::Closed(Fate::Abandoned))
        .map(|row| ((row.job.to_string(), row.key.number, row.fence), row.ended_at.unwrap()))
        .collect();
    let mut took = Vec::new();
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
            // Who takes it over may be killed in its turn.
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
    let bound = LEASE + LEASE / 3 + SLACK;
    assert!(at(100) <= bound.as_millis() as i64, "taken over late: {took:?}");
}
