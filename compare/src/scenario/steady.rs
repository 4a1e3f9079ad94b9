//! How punctual are many jobs that all run every few seconds, and what does it cost?

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::{Row, Unable, runtime};
use crate::{
    fates::{AHEAD, Fates},
    log::Log,
    peer::{Peer, When},
    table::{grouped, millis},
    usage::{NO_PROC, Usage},
};

pub(super) const HEADINGS: &[&str] =
    &["", "ran", "lost", "doubled", "early", "p50 late", "p99 late", "most", "CPU s"];

/// In seconds. Some schedulers are 2 s late, which must not look like 0 s late or early.
pub(super) const PERIOD: u32 = 3;
const FIRE_TIMES: u32 = 4;

pub(super) fn run<P: Peer>(jobs: u32) -> Result<Row, Unable> {
    runtime().block_on(async {
        let log = Log::with_room(jobs as usize * FIRE_TIMES as usize * 2);
        let mut peer = P::new(jobs).await;
        for job in 0..jobs {
            peer.add(job, When::EverySeconds(PERIOD), &log).await;
        }
        peer.start().await;

        let period = TimeDelta::seconds(PERIOD.into());
        let first = first(Utc::now() + TimeDelta::seconds(1));
        let fire_times: Vec<_> =
            (0..FIRE_TIMES.cast_signed()).map(|n| first + period * n).collect();
        let window = first - AHEAD..first - AHEAD + period * FIRE_TIMES.cast_signed();
        until(window.start).await;
        let before = Usage::now().ok_or(NO_PROC)?;
        until(window.end).await;
        let used = Usage::now().ok_or(NO_PROC)?.since(&before);

        let runs: Vec<_> = log.runs().into_iter().filter(|run| window.contains(&run.at)).collect();
        let fates = Fates::of(&runs, jobs, &fire_times);
        let late = |quantile| Duration::from_micros(fates.late.value_at_quantile(quantile));
        let (p50, p99, most) = (late(0.5), late(0.99), late(1.0));
        let cpu = used.cpu.as_secs_f64();
        let ms = |late: Duration| late.as_secs_f64() * 1e3;
        Ok(Row::new(
            [
                grouped(fates.ran),
                grouped(fates.lost),
                grouped(fates.doubled),
                grouped(fates.early),
                millis(p50),
                millis(p99),
                millis(most),
                format!("{cpu:.3}"),
            ],
            json!({
                "ran": fates.ran,
                "lost": fates.lost,
                "doubled": fates.doubled,
                "early": fates.early,
                "late_p50_ms": ms(p50),
                "late_p99_ms": ms(p99),
                "late_max_ms": ms(most),
                "cpu_seconds": cpu,
            }),
        ))
    })
}

/// The first fire time from then on.
fn first(from: DateTime<Utc>) -> DateTime<Utc> {
    let period = i64::from(PERIOD);
    let seconds = (from.timestamp().div_euclid(period) + 1) * period;
    DateTime::from_timestamp(seconds, 0).expect("it is soon")
}

async fn until(instant: DateTime<Utc>) {
    tokio::time::sleep((instant - Utc::now()).to_std().unwrap_or_default()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fire_times_are_at_multiples_of_the_period() {
        let instant = |seconds| DateTime::from_timestamp(seconds, 0).expect("it is soon");
        assert_eq!(first(instant(60)), instant(63));
        assert_eq!(first(instant(62) + TimeDelta::milliseconds(999)), instant(63));
    }
}
