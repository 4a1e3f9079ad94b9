//! A node: this program, written like a service that keeps its jobs in a file.

use std::{ffi::OsString, io::Read as _, path::PathBuf, time::Duration};

use nix::sys::{prctl, signal::Signal};
use punctual::{Scheduler, store::SqliteStore};

use crate::{
    jobs::{JOBS, Span, Work},
    log::Log,
    stage::{DATABASE, LOG},
};

pub(crate) const FLAG: &str = "--node";

/// The setup of a node.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) folder: PathBuf,
    pub(crate) span: Span,
    pub(crate) name: String,
    pub(crate) lease: Duration,
    pub(crate) claim_ahead: Duration,
}

impl Setup {
    pub(crate) fn to_args(&self) -> [OsString; 7] {
        let Setup { folder, span, name, lease, claim_ahead } = self;
        [
            FLAG.into(),
            folder.into(),
            span.first.to_string().into(),
            span.last.to_string().into(),
            name.into(),
            lease.as_millis().to_string().into(),
            claim_ahead.as_millis().to_string().into(),
        ]
    }

    fn from_args() -> Setup {
        let args: Vec<String> = std::env::args().collect();
        let number = |index: usize| args[index].parse::<i64>().unwrap();
        let duration = |index| Duration::from_millis(number(index).cast_unsigned());
        Setup {
            folder: args[2].clone().into(),
            span: Span { first: number(3), last: number(4) },
            name: args[5].clone(),
            lease: duration(6),
            claim_ahead: duration(7),
        }
    }
}

/// Runs jobs until its input ends, which happens at the end of the test.
#[tokio::main]
pub(crate) async fn main() {
    // A stopped process does not notice the end of its input.
    prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    let Setup { folder, span, name, lease, claim_ahead } = Setup::from_args();
    // Rows that other nodes release are detected within this interval.
    let store = SqliteStore::builder(folder.join(DATABASE)).poll(Duration::from_millis(200));
    let scheduler = Scheduler::builder()
        .store(store.open().await.unwrap())
        .state(Log::open(&folder.join(LOG)))
        .task::<Work>()
        .lease(lease)
        .claim_ahead(claim_ahead)
        .keep_history(u32::MAX, Duration::from_secs(60 * 60))
        .node_name(name)
        .start()
        .await
        .unwrap();
    scheduler.add_all(JOBS.iter().map(|job| job.declared(&scheduler, span))).await.unwrap();
    let input = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    input.await.unwrap().unwrap();
    let report = scheduler.shutdown().within(Duration::from_secs(5)).await;
    assert!(report.is_clean(), "{report}");
}
