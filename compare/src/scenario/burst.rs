//! How fast are one-shot jobs added, and what becomes of them when all are due at one instant?

use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use serde_json::json;

use super::{Row, Unable, runtime};
use crate::{
    fates::Fates,
    log::Log,
    peer::{Peer, When},
    table::{fractional_millis, grouped, rate, signed_millis},
};

pub(super) const HEADINGS: &[&str] =
    &["", "adds/s", "ran", "lost", "doubled", "early", "first run", "last run"];

/// It is over when nothing has run for so long.
const QUIET: Duration = Duration::from_secs(4);

pub(super) fn run<P: Peer>(jobs: u32) -> Result<Row, Unable> {
    runtime().block_on(async {
        let log = Log::with_room(2 * jobs as usize);
        let mut peer = P::new(jobs).await;
        let due = due(jobs);
        let start = Instant::now();
        for job in 0..jobs {
            peer.add(job, When::Once(due), &log).await;
        }
        let took = start.elapsed();
        peer.start().await;
        let spare = due - Utc::now();
        let Ok(spare) = spare.to_std() else {
            return Err(format!("too slow: adding took {took:.1?}, and all were due before"));
        };
        tokio::time::sleep(spare).await;

        let (mut ran, mut changed) = (0, Instant::now());
        while changed.elapsed() < QUIET {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if log.len() != ran {
                (ran, changed) = (log.len(), Instant::now());
            }
        }
        let runs = log.runs();
        let fates = Fates::of(&runs, jobs, &[due]);
        let since_due = || runs.iter().map(|run| run.at - due);
        let (first, last) = (since_due().min(), since_due().max());
        let per_second = f64::from(jobs) / took.as_secs_f64();
        let shown = |time: Option<TimeDelta>| time.map_or("never".to_owned(), signed_millis);
        Ok(Row::new(
            [
                rate(per_second),
                grouped(fates.ran),
                grouped(fates.lost),
                grouped(fates.doubled),
                grouped(fates.early),
                shown(first),
                shown(last),
            ],
            json!({
                "adds_per_second": per_second,
                "ran": fates.ran,
                "lost": fates.lost,
                "doubled": fates.doubled,
                "early": fates.early,
                "first_run_ms": first.map(fractional_millis),
                "last_run_ms": last.map(fractional_millis),
            }),
        ))
    })
}

/// A whole second, late enough to add all jobs before.
fn due(jobs: u32) -> DateTime<Utc> {
    let lead = TimeDelta::seconds(2) + TimeDelta::microseconds(100) * jobs.cast_signed();
    (Utc::now() + lead).trunc_subsecs(0) + TimeDelta::seconds(1)
}
