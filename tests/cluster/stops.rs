//! Nodes that are stopped for longer than their lease: when they continue, they start nothing that
//! was reclaimed, and take part again.

use std::{collections::HashSet, time::Duration};

use chrono::Utc;

use crate::{
    account::Account,
    database::{Held, Kind},
    stage::Stage,
};

const LEASE: Duration = Duration::from_secs(1);

/// How often a node is stopped; on a server, where more is tested, less often.
const STOPS: u32 = 8;
const STOPS_ON_SERVER: u32 = 4;

/// The longest round.
const ROUND: Duration = Duration::from_secs(4);

struct Stop {
    pid: u32,
    /// In microseconds since 1970.
    from: i64,
    to: i64,
    /// The rows that other nodes reclaimed from it before it continued.
    lost: HashSet<Held>,
}

pub(crate) fn stopped(kind: Kind) {
    let count = if kind == Kind::Sqlite { STOPS } else { STOPS_ON_SERVER };
    let mut stage = Stage::new("stopped", kind, LEASE, |_| (count + 1) * ROUND);
    let mut nodes = vec![stage.start(), stage.start()];
    let mut stops = Vec::new();
    for stop in 0..count {
        let random = stage.up_to(LEASE);
        stage.sleep_until(stop * ROUND + LEASE / 2 + random);
        // The one that has most to lose.
        let busiest = (0..2).max_by_key(|&node| stage.held_by(&nodes[node].name).len());
        let mut node = nodes.swap_remove(busiest.unwrap());
        node.stop();
        let from = Utc::now().timestamp_micros();
        let (held, random) = (stage.held_by(&node.name), stage.up_to(LEASE / 2));
        std::thread::sleep(LEASE * 3 / 2 + random);
        // A node that was stopped during a write loses nothing: the file was locked, and the node
        // stays alive.
        let lost = &held - &stage.held_by(&node.name);
        let to = Utc::now().timestamp_micros();
        node.go_on();
        stops.push(Stop { pid: node.pid(), from, to, lost });
        // The other node has claimed all jobs by now, and would keep them.
        nodes.swap_remove(0).close();
        std::thread::sleep(LEASE / 2);
        nodes = vec![node, stage.start()];
    }
    stage.come_to_rest();
    for node in nodes {
        node.close();
    }

    let account = Account::of(&stage);
    account.print();
    account.check();
    let lost: usize = stops.iter().map(|stop| stop.lost.len()).sum();
    println!("  {count} stops; {lost} rows were taken over");
    assert!(lost > 0, "nothing was taken over");
    for Stop { pid, from, to, lost } in stops {
        account.is_no_zombie(pid, from, &lost);
        account.goes_on(pid, to, LEASE);
    }
}
