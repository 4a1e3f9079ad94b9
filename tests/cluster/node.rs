//! A node: this program, written like a service that keeps its jobs in a store.

use std::{ffi::OsString, io::Read as _, path::PathBuf, time::Duration};

use nix::sys::{prctl, signal::Signal};

use crate::{
    database::Database,
    jobs::{JOBS, Span, Work},
    log::Log,
};

pub(crate) const FLAG: &str = "--node";

/// The setup of a node.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) database: Database,
    /// The file of the log.
    pub(crate) log: PathBuf,
    pub(crate) span: Span,
    pub(crate) name: String,
    pub(crate) lease: Duration,
    pub(crate) claim_ahead: Duration,
}

impl Setup {
    pub(crate) fn to_args(&self) -> [OsString; 8] {
        let Setup { database, log, span, name, lease, claim_ahead } = self;
        [
            FLAG.into(),
            database.to_arg().into(),
            log.into(),
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
            database: Database::from_arg(&args[2]),
            log: args[3].clone().into(),
            span: Span { first: number(4), last: number(5) },
            name: args[6].clone(),
            lease: duration(7),
            claim_ahead: duration(8),
        }
    }
}

/// Runs jobs until its input ends, which happens at the end of the test.
#[tokio::main]
pub(crate) async fn main() {
    // A stopped process does not notice the end of its input.
    prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    let Setup { database, log, span, name, lease, claim_ahead } = Setup::from_args();
    let scheduler = database
        .builder()
        .await
        .state(Log::open(&log))
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
