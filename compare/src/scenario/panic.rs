//! Does a job run again that panicked, and do others?

use std::time::Duration;

use serde_json::json;

use super::{Row, runtime};
use crate::{
    heard,
    log::{FAULTY, Log, Mishap},
    peer::{Peer, When},
};

pub(super) const HEADINGS: &[&str] = &["", "its next runs, of 5", "the other's", "what it says"];

/// Five fire times, the last of which may be a little late.
const AFTERWARDS: Duration = Duration::from_millis(5_500);

pub(super) fn run<P: Peer>() -> Row {
    heard::listen();
    runtime().block_on(async {
        let log = Log::with_a(Mishap::Panic);
        let mut peer = P::new(2).await;
        peer.listen();
        for job in [FAULTY, FAULTY + 1] {
            peer.add(job, When::EverySeconds(1), &log).await;
        }
        peer.start().await;
        let panicked = log.mishap().await;
        tokio::time::sleep(AFTERWARDS).await;

        // Within half a second it is the other's run for the same fire time.
        let later = |job| {
            let runs = log.runs();
            let later = runs.iter().filter(|run| (run.at - panicked).num_milliseconds() > 500);
            later.filter(|run| run.job == job).count()
        };
        let (its, others) = (later(FAULTY), later(FAULTY + 1));
        let says = heard::all();
        Row::new(
            [its.to_string(), others.to_string(), says.clone()],
            json!({ "runs_after": its, "runs_of_the_other_after": others, "says": says }),
        )
    })
}
