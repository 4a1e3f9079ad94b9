//! What becomes of the fire times during which the runtime is blocked, and who is told?

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::json;
use tokio::runtime::Builder;

use super::Row;
use crate::{
    heard,
    log::{FAULTY, Log, Mishap},
    peer::{Peer, When},
};

pub(super) const HEADINGS: &[&str] =
    &["", "due", "the other ran", "lost", "it goes on", "the other goes on", "what it says"];

pub(super) const STALL: Duration = Duration::from_secs(4);
const AFTERWARDS: Duration = Duration::from_secs(3);

/// Fire times are a second apart: what is nearer belongs to the same.
const NEAR: TimeDelta = TimeDelta::milliseconds(500);

pub(super) fn run<P: Peer>() -> Row {
    heard::listen();
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("it needs no threads").block_on(async {
        let log = Log::with_a(Mishap::Block(STALL));
        let mut peer = P::new(2).await;
        peer.listen();
        for job in [FAULTY, FAULTY + 1] {
            peer.add(job, When::EverySeconds(1), &log).await;
        }
        peer.start().await;
        let start = log.mishap().await;
        let end = start + STALL;
        let settled = end + NEAR - Utc::now();
        tokio::time::sleep(settled.to_std().unwrap_or_default() + AFTERWARDS).await;

        let runs = log.runs();
        // That at which the other blocked is one of them: whose turn comes first is nobody's fault.
        let due = STALL.as_secs() as usize + 1;
        let near = start - NEAR..end + NEAR;
        let others = runs.iter().filter(|run| run.job != FAULTY);
        let ran = others.filter(|run| near.contains(&run.at)).count();
        let lost = due.saturating_sub(ran);
        let goes_on = |job| runs.iter().any(|run| run.job == job && run.at >= near.end);
        let (it, other) = (goes_on(FAULTY), goes_on(FAULTY + 1));
        let word = |goes_on| if goes_on { "yes" } else { "no" }.to_owned();
        let says = heard::all();
        Row::new(
            [
                due.to_string(),
                ran.to_string(),
                lost.to_string(),
                word(it),
                word(other),
                says.clone(),
            ],
            json!({
                "due": due,
                "ran": ran,
                "lost": lost,
                "goes_on": it,
                "other_goes_on": other,
                "says": says,
            }),
        )
    })
}
