//! Jobs in a file, which survive the process: kill the process in any way and start it again.
//!
//! Runs until Ctrl-C, or for `--seconds`. After a restart it prints the ledger of the time in
//! between: every fire time has a fate.
//!
//! ```text
//! cargo run --example durable
//! kill -9 $(pgrep -f examples/durable)     # while the export is going
//! cargo run --example durable              # goes on: what was coalesced, missed, recovered, abandoned
//! cargo run --example durable -- --file jobs.db
//! sqlite3 jobs.db 'SELECT * FROM punctual_ledger_view ORDER BY fire_time DESC LIMIT 20'
//! ```

use std::{env, path::PathBuf, time::Duration};

use clap::Parser;
use punctual::{
    BoxError, Coalesce, Context, EventFilter, EventKind, OnConflict, Scheduler, Task,
    store::SqliteStore, trigger::every,
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

#[derive(Parser)]
struct Args {
    /// The file of the jobs. Default: punctual-durable.db in the system's temporary directory.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Ends after this number of seconds.
    #[arg(long)]
    seconds: Option<u64>,
}

/// A task: work with a name and arguments, which the file keeps.
#[derive(Serialize, Deserialize)]
struct Say {
    what: String,
}

impl Task for Say {
    const NAME: &'static str = "say";
    type Output = ();

    async fn run(self, cx: Context) {
        let stands_for = match cx.coalesced() {
            0 => String::new(),
            others => format!(", and {others} fire times that passed"),
        };
        println!("{:9} for {}{stands_for}", self.what, cx.fire_time().format("%T%.3f"));
    }
}

/// Takes a while, so that there is time to kill it.
#[derive(Serialize, Deserialize)]
struct Export {
    pages: u32,
}

impl Task for Export {
    const NAME: &'static str = "export";
    type Output = Result<(), BoxError>;

    async fn run(self, cx: Context) -> Result<(), BoxError> {
        let job = cx.job_id();
        if cx.attempt() > 1 {
            // The job and its fire time identify this export: the system that it writes to can
            // check whether it was done.
            println!("{job:9} for {} is recovered: its process died", cx.fire_time().format("%T"));
        }
        println!("{job:9} begins, under fence {}", cx.fence().unwrap_or_default());
        for _ in 0..self.pages {
            sleep(Duration::from_millis(500)).await;
        }
        println!("{job:9} done");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    let file = args.file.unwrap_or_else(|| env::temp_dir().join("punctual-durable.db"));
    println!("process {}, jobs in {}", std::process::id(), file.display());

    // Fire times without a run.
    let fates = [
        EventKind::Coalesced,
        EventKind::Missed,
        EventKind::Skipped,
        EventKind::Abandoned,
        EventKind::NodesDied,
    ];
    let scheduler = Scheduler::builder()
        .store(SqliteStore::open(&file).await?)
        .task::<Say>()
        .task::<Export>()
        // A short lease, so that a killed process expires soon. Default: 15 s.
        .lease(Duration::from_secs(3))
        .on_event(EventFilter::new().kinds(fates), |event| println!("          {event}"))
        .start()
        .await?;

    // Declared at each start: added the first time, and unchanged while the declaration is
    // unchanged.
    let say = |what: &str| Say { what: what.to_owned() };
    let seconds = |n| every(Duration::from_secs(n));
    let jobs = [
        scheduler.add(seconds(1), say("tick")).id("tick"),
        scheduler.add(seconds(2), say("invoice")).id("invoice").coalesce(Coalesce::All),
        scheduler
            .add(seconds(3), say("strict"))
            .id("strict")
            .coalesce(Coalesce::Earliest)
            .misfire_grace_time(Duration::from_secs(4)),
        scheduler.add(seconds(5), Export { pages: 6 }).id("export").recover(true),
        scheduler.add(seconds(5), Export { pages: 7 }).id("mailing"),
    ];
    for job in jobs {
        job.on_conflict(OnConflict::Reconcile).await?;
    }
    for job in scheduler.jobs().await? {
        println!("{job}");
    }

    match args.seconds {
        Some(seconds) => sleep(Duration::from_secs(seconds)).await,
        None => tokio::signal::ctrl_c().await?,
    }
    // Unstarted claims are released, so that the next process can run them.
    println!("stopped: {}", scheduler.shutdown().await);
    Ok(())
}
