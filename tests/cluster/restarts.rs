//! Nodes that shut down: nothing is abandoned, and nothing is late.

use std::{collections::HashMap, time::Duration};

use punctual::store::{Fate, RowState, RunEnd};

use crate::{account::Account, database::Kind, stage::Stage};

/// Longer than a node may have to wait for a busy disk.
const LEASE: Duration = Duration::from_secs(5);

/// How often a node is restarted; on a server, where more is tested, less often.
const RESTARTS: u32 = 20;
const RESTARTS_ON_SERVER: u32 = 12;

const EVERY: Duration = Duration::from_millis(700);

/// More than the length of a run plus the time until another node detects released rows. In
/// microseconds.
const LATE: i64 = 1_000_000;

pub(crate) fn restarted(kind: Kind) {
    let count = if kind == Kind::Sqlite { RESTARTS } else { RESTARTS_ON_SERVER };
    let mut stage = Stage::new("restarted", kind, LEASE, |_| count * EVERY + EVERY);
    let mut nodes = [Some(stage.start()), Some(stage.start())];
    for restart in 0..count {
        stage.sleep_until(restart * EVERY + EVERY);
        let place = &mut nodes[stage.rng.below(2) as usize];
        // Alternately, the new node starts before the old one stops, and the other way round.
        let next = (restart % 2 == 0).then(|| stage.start());
        place.take().into_iter().for_each(|node| node.close());
        *place = next.or_else(|| Some(stage.start()));
    }
    stage.come_to_rest();
    nodes.into_iter().flatten().for_each(|node| node.close());

    let account = Account::of(&stage);
    account.print();
    account.check();
    account.never_overlaps(&HashMap::new());
    for row in &account.rows {
        let given_up =
            matches!(row.state, RowState::Closed(Fate::Abandoned | Fate::Ran(RunEnd::Cancelled)));
        assert!(!given_up && row.attempt == 1, "{row:?}");
    }
    let late = account.executions.iter().map(|run| (run.began - run.who.fire_time * 1000, run));
    let (late, run) = late.max_by_key(|(late, _)| *late).unwrap();
    println!("  {count} restarts; the latest run was {late} µs late");
    assert!(late < LATE, "late: {run:?}");
}
