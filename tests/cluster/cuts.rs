//! Nodes that are cut off from the server, by a network that loses what it is given, in one direction
//! or both, or that resets connections; for a while that the lease survives, and for longer.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use chrono::Utc;

use crate::{
    account::Account,
    database::{Held, Kind},
    proxy::{Network, Proxy},
    stage::Stage,
};

const LEASE: Duration = Duration::from_secs(1);

const FAILURES: [Network; 4] =
    [Network::LosesAll, Network::LosesRequests, Network::LosesAnswers, Network::Resets];

/// How long the network fails: the first is shorter than the lease.
const CUTS: [Duration; 2] = [Duration::from_millis(400), Duration::from_millis(2500)];

/// The longest round.
const ROUND: Duration = Duration::from_millis(5500);

/// How soon a node is alive again: it may wait for an answer, and then before the next attempt.
const SOON: Duration = Duration::from_secs(3);

struct Cut {
    network: Network,
    pid: u32,
    from: i64,
    to: i64,
    /// The rows that other nodes reclaimed from the node.
    lost: HashSet<Held>,
}

pub(crate) fn cut_off(kind: Kind) {
    let rounds = (FAILURES.len() * CUTS.len()) as u32;
    let mut stage = Stage::new("cut_off", kind, LEASE, |_| rounds * ROUND);
    let nodes = [(); 3].map(|()| {
        let proxy = Proxy::new(stage.database.address());
        (stage.start_on(stage.database.at(proxy.port)), proxy)
    });
    let mut cuts = Vec::new();
    let all = FAILURES.into_iter().flat_map(|network| CUTS.map(|lasts| (network, lasts)));
    for (round, (network, lasts)) in (0..).zip(all) {
        let random = stage.up_to(LEASE);
        stage.sleep_until(round * ROUND + LEASE / 2 + random);
        // The one that has most to lose.
        let busiest = nodes.iter().max_by_key(|(node, _)| stage.held_by(&node.name).len());
        let (node, proxy) = busiest.unwrap();
        proxy.set(network);
        let (from, held) = (Utc::now().timestamp_micros(), stage.held_by(&node.name));
        std::thread::sleep(lasts);
        let lost = if lasts > LEASE { &held - &stage.held_by(&node.name) } else { HashSet::new() };
        proxy.set(Network::Works);
        assert!(proxy.has_failed(), "{network:?} for {lasts:?}: nothing was lost");
        let to = Utc::now().timestamp_micros();
        let back = stage.database.wait_for_heartbeat(&node.name, SOON);
        println!("  {network:?} for {lasts:?}: back after {back:?}");
        cuts.push(Cut { network, pid: node.pid(), from, to, lost });
    }
    stage.come_to_rest();
    nodes.into_iter().for_each(|(node, _proxy)| node.close());

    let account = Account::of(&stage);
    account.print();
    account.check();
    account.never_overlaps(&HashMap::new());
    let lost: usize = cuts.iter().map(|cut| cut.lost.len()).sum();
    println!("  {} cuts; {lost} rows were taken over", cuts.len());
    assert!(lost > 0, "nothing was taken over");
    for Cut { network, pid, from, to, lost } in cuts {
        println!("  {network:?} for {} ms: {} rows", (to - from) / 1000, lost.len());
        // Until its lease ends, it may start what it has claimed.
        account.is_no_zombie(pid, from + LEASE.as_micros() as i64, &lost);
    }
}
