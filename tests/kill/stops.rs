//! Nodes that are stopped for longer than their lease: when they go on they start nothing of what was
//! theirs, and take part again.

use std::{collections::HashSet, time::Duration};

use chrono::Utc;

use crate::{
    account::Account,
    node::LEASE,
    stage::{Held, Stage},
};

const STOPS: u32 = 8;

struct Stop {
    pid: u32,
    /// In microseconds since 1970.
    from: i64,
    to: i64,
    held: HashSet<Held>,
}

pub(crate) fn stopped() {
    let mut stage = Stage::new("stopped", |_| STOPS * 4 * LEASE + 3 * LEASE);
    let mut nodes = [stage.start(), stage.start()];
    let mut stops = Vec::new();
    for stop in 0..STOPS {
        let random = Duration::from_millis(stage.rng.below(1000));
        stage.sleep_until(stop * 4 * LEASE + LEASE + random);
        let node = &mut nodes[stage.rng.below(2) as usize];
        node.stop();
        let from = Utc::now().timestamp_micros();
        let (held, random) =
            (stage.held_by(&node.name), Duration::from_millis(stage.rng.below(1000)));
        std::thread::sleep(LEASE + LEASE / 2 + random);
        let to = Utc::now().timestamp_micros();
        node.go_on();
        stops.push(Stop { pid: node.pid(), from, to, held });
    }
    stage.come_to_rest();
    for node in nodes {
        node.close();
    }

    let account = Account::of(&stage);
    account.print();
    account.check();
    for Stop { pid, from, to, held } in stops {
        let mut here = account.executions.iter().filter(|run| run.who.pid == pid);
        let by_its_old_lease =
            here.clone().find(|run| run.called > from && held.contains(&Held::of(&run.who)));
        assert!(by_its_old_lease.is_none(), "stopped from {from} to {to}: {by_its_old_lease:?}");
        assert!(here.any(|run| run.called > to), "{pid} goes on after {to}");
    }
    println!("  {STOPS} stops");
}
