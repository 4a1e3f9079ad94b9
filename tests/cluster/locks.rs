//! A transaction of somebody else that has a job's row locked: that job waits, and no other.

use std::{
    collections::HashMap,
    sync::mpsc,
    time::{Duration, Instant},
};

use chrono::Utc;

use crate::{account::Account, database::Kind, stage::Stage};

const LEASE: Duration = Duration::from_secs(1);

const LOCKED_JOB: &str = "dense, recovers";

/// How long the job is locked, unless `PUNCTUAL_LOCKED` says it in seconds.
const LOCKED: u64 = 5;

/// How late other jobs may be meanwhile, on a busy machine.
const LATE: i64 = 1_000_000;

pub(crate) fn locked(kind: Kind) {
    let seconds = std::env::var("PUNCTUAL_LOCKED").map_or(LOCKED, |text| text.parse().unwrap());
    let lasts = Duration::from_secs(seconds);
    let mut stage = Stage::new("locked", kind, LEASE, |_| lasts + 4 * LEASE);
    let nodes = [stage.start(), stage.start(), stage.start()];
    stage.sleep_until(LEASE);
    let (begun, locked) = mpsc::channel();
    let database = stage.database.clone();
    let transaction = std::thread::spawn(move || {
        database.in_transaction(
            &format!("SELECT id FROM punctual_jobs WHERE id = '{LOCKED_JOB}' FOR UPDATE"),
            || {
                begun.send(Utc::now().timestamp_micros()).unwrap();
                std::thread::sleep(lasts);
            },
        );
    });
    let from = locked.recv().unwrap();
    transaction.join().unwrap();
    let (to, since) = (Utc::now().timestamp_micros(), Instant::now());
    stage.come_to_rest();
    nodes.into_iter().for_each(|node| node.close());
    println!("  locked for {} ms, at rest after {:?}", (to - from) / 1000, since.elapsed());

    let account = Account::of(&stage);
    account.print();
    account.check();
    account.never_overlaps(&HashMap::new());
    let during = |of: &str| {
        let runs = account.executions.iter().filter(move |run| run.who.job == of);
        runs.filter(|run| (from..to).contains(&(run.who.fire_time * 1000))).collect::<Vec<_>>()
    };
    for job in ["dense", "in line", "in line, recovers"] {
        let runs = during(job);
        let late = runs.iter().map(|run| run.called - run.who.fire_time * 1000).max();
        println!("  {job}: {} runs meanwhile, up to {late:?} µs late", runs.len());
        assert!(late.is_some_and(|late| late < LATE), "{job} is late with another job");
    }
    // What was claimed before may start.
    let claimed = from + 2 * LEASE.as_micros() as i64;
    let mut locked = account.executions.iter().filter(|run| run.who.job == LOCKED_JOB);
    let run = locked.find(|run| (claimed..to).contains(&run.called));
    assert!(run.is_none(), "the lock holds nothing up: {run:?}");
    let after = account.executions.iter().filter(|run| run.who.job == LOCKED_JOB);
    assert!(after.filter(|run| run.called > to).count() > 10, "{LOCKED_JOB} goes on");
}
