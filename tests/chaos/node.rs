//! A node: a service that declares a hundred jobs, adds one-shots, requests runs, and changes jobs.

use std::{path::PathBuf, time::Duration};

use nix::sys::{prctl, signal::Signal};
use punctual::{
    Context, Error, OnConflict, Scheduler, Task,
    chrono::DateTime,
    store::SqliteStore,
    trigger::{after, every},
};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::log::Log;

pub(crate) const FLAG: &str = "--node";

/// The number of jobs that all nodes declare and never change.
const DENSE: u64 = 100;

/// The number of jobs that change all the time.
const CHANGED: u64 = 10;

/// Logs its begin and its end.
#[derive(Serialize, Deserialize)]
struct Work {
    takes_ms: u64,
}

impl Task for Work {
    const NAME: &'static str = "work";
    type Output = ();

    async fn run(self, cx: Context) {
        let log = cx.state::<Log>();
        log.say_of("begun", &cx);
        tokio::time::sleep(Duration::from_millis(self.takes_ms)).await;
        log.say_of("ended", &cx);
    }
}

/// The arguments from the script: the folder, the node's name, its lease in milliseconds, the first
/// and the last instant of the dense jobs in milliseconds since 1970, and the random seed.
struct Setup {
    folder: PathBuf,
    name: String,
    lease: Duration,
    first: i64,
    last: i64,
    chance: Chance,
}

/// Runs jobs until the process is terminated.
#[tokio::main]
pub(crate) async fn main() {
    prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    let args: Vec<String> = std::env::args().skip(2).collect();
    let number = |index: usize| args[index].parse::<i64>().unwrap();
    let setup = Setup {
        folder: args[0].clone().into(),
        name: args[1].clone(),
        lease: Duration::from_millis(number(2).cast_unsigned()),
        first: number(3),
        last: number(4),
        chance: Chance(number(5).cast_unsigned()),
    };
    let log = Log::open(&setup.folder.join("log"));
    let store = SqliteStore::builder(setup.folder.join("jobs.db"))
        .poll(Duration::from_millis(200))
        .open()
        .await
        .unwrap();
    let scheduler = Scheduler::builder()
        .store(store)
        .state(log.clone())
        .task::<Work>()
        .lease(setup.lease)
        .keep_history(u32::MAX, Duration::from_secs(24 * 60 * 60))
        .node_name(setup.name.clone())
        .start()
        .await
        .unwrap();
    let mut end = signal(SignalKind::terminate()).unwrap();
    let user = use_it(&scheduler, &log, setup);
    tokio::select! {
        _ = end.recv() => {}
        () = user => {}
    }
    let report = scheduler.shutdown().within(Duration::from_secs(5)).await;
    assert!(report.is_clean(), "{report}");
}

/// Declares the dense jobs, and then calls random verbs.
async fn use_it(scheduler: &Scheduler, log: &Log, setup: Setup) {
    let Setup { folder, first, last, mut chance, name, .. } = setup;
    let instant = |millis| DateTime::from_timestamp_millis(millis).unwrap();
    let dense = || {
        (0..DENSE).map(|number| {
            let period = Duration::from_millis(250 + 50 * (number % 16));
            let trigger = every(period).starting_at(instant(first)).until(instant(last));
            let add = scheduler.add(trigger, Work { takes_ms: number % 20 });
            // Every other job recovers, however often it is killed.
            let add = if number % 2 == 0 { add.recoveries(u32::MAX) } else { add };
            add.id(format!("dense-{number}")).on_conflict(OnConflict::Reconcile)
        })
    };
    while let Err(error) = scheduler.add_all(dense()).await {
        eprintln!("{name}: {error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for number in 0.. {
        tokio::time::sleep(Duration::from_millis(chance.below(60))).await;
        if folder.join("enough").exists() {
            // The requested runs finish.
            std::future::pending().await
        }
        let done = one_wish(scheduler, log, &mut chance, &format!("once-{name}-{number}")).await;
        if let Err(error) = done
            && !(error.is_unknown_job() || error.is_gone() || error.is_duplicate_id())
            && !(error.is_overlap() || error.is_store_unavailable() || error.is_shut_down())
        {
            eprintln!("{name}: {error}");
        }
    }
}

/// Calls a verb, and logs it before and after.
async fn one_wish(
    scheduler: &Scheduler,
    log: &Log,
    chance: &mut Chance,
    once: &str,
) -> Result<(), Error> {
    let id = format!("changed-{}", chance.below(CHANGED));
    let job = scheduler.job(&*id);
    let takes_ms = chance.below(30);
    match chance.below(12) {
        0..=4 => {
            let wait = Duration::from_millis(chance.below(2000));
            let add = scheduler.add(after(wait), Work { takes_ms }).id(once);
            let recovers = chance.below(2) == 0;
            let add = if recovers { add.recoveries(u32::MAX) } else { add };
            log.say("adding", once);
            add.await?;
            log.say(if recovers { "added, recovers" } else { "added" }, once);
        }
        5..=7 => {
            log.say("asking", &id);
            job.run_now().await?;
            log.say("asked", &id);
        }
        8 => job.pause().await?,
        9 => job.resume().await?,
        10 => job.reschedule(every(Duration::from_millis(200 + chance.below(2000)))).await?,
        _ => {
            let trigger = every(Duration::from_millis(200 + chance.below(2000)));
            let conflict = [OnConflict::Keep, OnConflict::Replace][chance.below(2) as usize];
            let add = scheduler.add(trigger, Work { takes_ms }).id(&*id).on_conflict(conflict);
            add.max_instances(3).await?;
            if chance.below(4) == 0 {
                job.remove().await?;
            }
        }
    }
    Ok(())
}

/// A generator of random numbers.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
