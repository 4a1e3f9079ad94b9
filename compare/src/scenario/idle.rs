//! What do daily jobs cost while there is nothing to do?

use std::{
    thread,
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use serde_json::json;

use super::{Row, Unable, runtime};
use crate::{
    log::Log,
    peer::{Peer, When},
    table::grouped,
    usage::{NO_PROC, Usage, resident},
};

pub(super) const HEADINGS: &[&str] = &["", "CPU, % of a core", "thread wake-ups/s", "bytes a job"];

/// Adding has its aftermath, and schedulers that tick do so every second at least.
const SETTLE: Duration = Duration::from_secs(2);
const WINDOW: Duration = Duration::from_secs(5);

pub(super) fn run<P: Peer>(jobs: u32) -> Result<Row, Unable> {
    let runtime = runtime();
    let log = Log::with_room(0);
    let (peer, before) = runtime.block_on(async {
        let mut peer = P::new(jobs).await;
        let before = resident();
        // 6 to 18 hours away, at so many seconds of the day as there are jobs.
        let away = |job| TimeDelta::hours(6) + TimeDelta::seconds(i64::from(job) * 7919 % 43_200);
        let now = Utc::now();
        for job in 0..jobs {
            peer.add(job, When::Daily((now + away(job)).time()), &log).await;
        }
        peer.start().await;
        (peer, before)
    });
    thread::sleep(SETTLE);
    let (start, earlier) = (Instant::now(), Usage::now().ok_or(NO_PROC)?);
    thread::sleep(WINDOW);
    let (used, took) = (Usage::now().ok_or(NO_PROC)?.since(&earlier), start.elapsed());
    let bytes = resident().zip(before).ok_or(NO_PROC)?;
    assert_eq!(log.len(), 0, "nothing was due");
    drop(peer);

    let cpu = used.cpu.as_secs_f64() / took.as_secs_f64() * 100.0;
    // The sleep above is one of them.
    let wake_ups = used.switches.saturating_sub(1) as f64 / took.as_secs_f64();
    let bytes = bytes.0.saturating_sub(bytes.1) / u64::from(jobs);
    Ok(Row::new(
        [format!("{cpu:.3}"), format!("{wake_ups:.1}"), grouped(bytes as usize)],
        json!({ "cpu_percent": cpu, "wake_ups_per_second": wake_ups, "bytes_per_job": bytes }),
    ))
}
