//! Three nodes on one store, of which one is killed every few seconds: a line per second shows which
//! node has claimed which job, and the ledger adds up: every fire time has one fate.
//!
//! Runs until Ctrl-C, or for `--seconds`. Without an argument the store is an SQLite file.
//!
//! ```text
//! cargo run --features sqlite --example cluster
//! cargo run --features postgres --example cluster -- postgres://postgres@localhost/postgres
//! ```
//!
//! In PostgreSQL the tables begin with `cluster_`, and stay when the example ends.

use std::{
    collections::BTreeMap,
    env,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clap::Parser;
use punctual::{
    BoxError, Context, OnConflict, Scheduler, Task,
    store::{Fate, PostgresStore, RecordFilter, Row, RowKind, RowState, SqliteStore, Store},
    trigger::every,
};
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncReadExt as _, time::sleep};

/// How long a node counts as alive after its last heartbeat. Default in a scheduler: 15 s.
const LEASE: Duration = Duration::from_secs(3);

/// How often a node is killed, and how long it is down.
const KILL_EVERY: Duration = Duration::from_secs(5);
const DOWN_FOR: Duration = Duration::from_secs(2);

const NODES: [&str; 3] = ["ann", "bob", "cyd"];

#[derive(Parser)]
struct Args {
    /// Where the jobs are kept: the URL of a PostgreSQL database, or the path of an SQLite file. Default:
    /// a new file in the system's temporary directory.
    store: Option<String>,
    /// Ends after this number of seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Runs as the node of this name.
    #[arg(long, hide = true)]
    node: Option<String>,
}

/// Work that a second run does no harm.
#[derive(Serialize, Deserialize)]
struct Export;

impl Task for Export {
    const NAME: &'static str = "export";
    type Output = ();

    async fn run(self, cx: Context) {
        if cx.attempt() > 1 {
            println!("    {} for {} is recovered", cx.job_id(), cx.fire_time().format("%T"));
        }
        sleep(Duration::from_millis(1500)).await;
    }
}

/// Work that must not run twice.
#[derive(Serialize, Deserialize)]
struct Charge;

impl Task for Charge {
    const NAME: &'static str = "charge";
    type Output = ();

    async fn run(self, _: Context) {
        sleep(Duration::from_millis(400)).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let Args { store, seconds, node } = Args::parse();
    let file = || env::temp_dir().join(format!("punctual-cluster-{}.db", std::process::id()));
    let place = store.unwrap_or_else(|| file().to_string_lossy().into_owned());
    if place.starts_with("postgres://") || place.starts_with("postgresql://") {
        let store = PostgresStore::builder().url(&place).namespace("cluster_");
        run(store.connect().await?, &place, seconds, node).await
    } else if place.contains("://") {
        Err(format!("`{place}` is neither a PostgreSQL URL nor the path of a file").into())
    } else {
        run(SqliteStore::open(&place).await?, &place, seconds, node).await
    }
}

async fn run(
    store: impl Store,
    place: &str,
    seconds: Option<u64>,
    as_node: Option<String>,
) -> Result<(), BoxError> {
    match as_node {
        Some(name) => node(&name, store).await,
        None => {
            println!("jobs in {place}");
            watch(store, place, seconds).await
        }
    }
}

/// One node: declares the jobs, and runs what it claims until its standard input ends.
async fn node(name: &str, store: impl Store) -> Result<(), BoxError> {
    let scheduler = Scheduler::builder()
        .store(store)
        .node_name(name)
        .lease(LEASE)
        .task::<Export>()
        .task::<Charge>()
        .start()
        .await?;
    for n in 1..=4 {
        let exports = scheduler.add(every(Duration::from_secs(3)), Export).recover(true);
        exports.id(format!("export-{n}")).on_conflict(OnConflict::Keep).await?;
        let charges = scheduler.add(every(Duration::from_secs(1)), Charge);
        charges.id(format!("charge-{n}")).on_conflict(OnConflict::Keep).await?;
    }
    // The input ends with the process that has started this one, in whatever way that ends.
    let _ = tokio::io::stdin().read(&mut [0]).await;
    scheduler.shutdown().await;
    Ok(())
}

/// Starts the nodes, kills one now and then, and prints what the store says of them.
async fn watch(store: impl Store, url: &str, seconds: Option<u64>) -> Result<(), BoxError> {
    let mut nodes = Vec::new();
    for name in NODES {
        nodes.push((name, Some(start(name, url)?)));
    }
    let started = Instant::now();
    let is_over = || seconds.is_some_and(|seconds| started.elapsed().as_secs() >= seconds);
    let (mut kills, mut next_kill, mut victim) = (0, KILL_EVERY, 0);
    let mut ctrl_c = std::pin::pin!(tokio::signal::ctrl_c());
    while !is_over() {
        tokio::select! {
            _ = &mut ctrl_c => break,
            () = sleep(Duration::from_secs(1)) => {}
        }
        let (name, process) = &mut nodes[victim];
        if started.elapsed() >= next_kill {
            if let Some(mut process) = process.take() {
                process.kill()?;
                process.wait()?;
                kills += 1;
                println!("    {name} is killed");
            } else if started.elapsed() >= next_kill + DOWN_FOR {
                *process = Some(start(name, url)?);
                (next_kill, victim) = (started.elapsed() + KILL_EVERY, (victim + 1) % NODES.len());
            }
        }
        println!("{}", claims(&store).await?);
    }
    for (_, process) in &mut nodes {
        // Ends their standard input, so that they shut down.
        if let Some(process) = process {
            drop(process.stdin.take());
            process.wait()?;
        }
    }
    let ledger = Ledger::of(&store).await?;
    println!("{kills} kills. {ledger}");
    match ledger.due == ledger.sum() {
        true => Ok(()),
        false => Err("a fire time has no fate".into()),
    }
}

fn start(name: &str, url: &str) -> Result<Child, BoxError> {
    let mut command = Command::new(env::current_exe()?);
    Ok(command.arg(url).args(["--node", name]).stdin(Stdio::piped()).spawn()?)
}

/// Which node has claimed which jobs. A killed node is listed until its lease has expired.
async fn claims(store: &impl Store) -> Result<String, BoxError> {
    let records = store.list(RecordFilter::default(), None, 500).await?.records;
    let ids: BTreeMap<_, _> = records.iter().map(|it| (it.incarnation, &it.id)).collect();
    let mut nodes = store.nodes().await?;
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    let mut parts = Vec::new();
    for node in nodes {
        let claims = store.claimed_by(node.id, None, 500).await?;
        let mut jobs: Vec<String> = claims
            .iter()
            .filter_map(|it| Some(ids.get(&it.key.incarnation)?.to_string()))
            .collect();
        jobs.sort();
        jobs.dedup();
        parts.push(format!("{}: {:48}", node.name, jobs.join(" ")));
    }
    Ok(parts.join(" "))
}

async fn rows(store: &impl Store) -> Result<Vec<Row>, BoxError> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.rows(after, 500).await?;
        after = page.last().map(|row| row.key);
        let is_last = page.len() < 500;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

/// The fire times of all jobs, by their fates.
#[derive(Default)]
struct Ledger {
    due: u64,
    ran: u64,
    coalesced: u64,
    skipped: u64,
    missed: u64,
    abandoned: u64,
    /// Released at a shutdown, for the next node that starts.
    waiting: u64,
}

impl Ledger {
    async fn of(store: &impl Store) -> Result<Ledger, BoxError> {
        let mut ledger = Ledger::default();
        let mut fire_times: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
        for row in rows(store).await?.into_iter().filter(|row| row.key.kind == RowKind::Scheduled) {
            let counted = match &row.state {
                RowState::Closed(Fate::Ran(_)) => &mut ledger.ran,
                RowState::Closed(Fate::Coalesced(_)) => &mut ledger.coalesced,
                RowState::Closed(Fate::Skipped(_)) => &mut ledger.skipped,
                RowState::Closed(Fate::Missed) => &mut ledger.missed,
                RowState::Closed(_) => &mut ledger.abandoned,
                RowState::Waiting | RowState::Claimed(_) => &mut ledger.waiting,
            };
            *counted += row.count;
            let span = (row.fire_time.timestamp_millis(), row.last.timestamp_millis());
            fire_times.entry(row.job.to_string()).or_default().push(span);
        }
        // What should be there, from the periods alone.
        let records = store.list(RecordFilter::default(), None, 500).await?.records;
        for record in records {
            let period = if record.task == Export::NAME { 3000 } else { 1000 };
            let spans = fire_times.remove(&record.id.to_string()).unwrap_or_default();
            let first = spans.iter().map(|span| span.0).min();
            let last = spans.iter().map(|span| span.1).max();
            if let (Some(first), Some(last)) = (first, last) {
                ledger.due += ((last - first) / period + 1).unsigned_abs();
            }
        }
        Ok(ledger)
    }

    fn sum(&self) -> u64 {
        self.ran + self.coalesced + self.skipped + self.missed + self.abandoned + self.waiting
    }
}

impl std::fmt::Display for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ledger { due, ran, coalesced, skipped, missed, abandoned, waiting } = self;
        write!(
            f,
            "{due} due = {ran} ran + {coalesced} coalesced + {skipped} skipped + {missed} missed + {abandoned} abandoned"
        )?;
        if *waiting > 0 { write!(f, " + {waiting} for the next node") } else { Ok(()) }
    }
}
