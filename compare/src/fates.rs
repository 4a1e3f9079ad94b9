//! What became of the fire times of some jobs: they ran, were lost, doubled, early or late.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use hdrhistogram::Histogram;

use crate::log::Run;

/// How long before a fire time a run may come and count as an early one for it, rather than as a
/// late one for the fire time before.
pub(crate) const AHEAD: Duration = Duration::from_millis(500);

/// How many fire times, or runs, had which fate.
pub(crate) struct Fates {
    /// Fire times that had a run.
    pub(crate) ran: usize,
    /// Fire times that had none.
    pub(crate) lost: usize,
    /// Runs beyond the first for a fire time.
    pub(crate) doubled: usize,
    /// Runs before their fire time, be it by a microsecond.
    pub(crate) early: usize,
    /// How late the runs were, in microseconds.
    pub(crate) late: Histogram<u64>,
}

impl Fates {
    /// Judges the runs of the jobs `0..jobs`, all of which have the same fire times, in order.
    ///
    /// Schedulers don't all say which fire time a run is for, so none is asked: it is the last one
    /// that has come, or comes within [`AHEAD`]; or else the first.
    pub(crate) fn of(runs: &[Run], jobs: u32, fire_times: &[DateTime<Utc>]) -> Fates {
        let mut had_run = vec![false; jobs as usize * fire_times.len()];
        let mut fates = Fates {
            ran: 0,
            lost: 0,
            doubled: 0,
            early: 0,
            late: Histogram::new(3).expect("three digits are few enough"),
        };
        for run in runs {
            let index = fire_times.partition_point(|&at| at <= run.at + AHEAD).saturating_sub(1);
            let late = run.at - fire_times[index];
            fates.early += usize::from(late < TimeDelta::zero());
            let late = late.num_microseconds().unwrap_or(i64::MAX).max(0);
            fates.late.record(late.unsigned_abs()).expect("it takes any number");
            let had_run = &mut had_run[run.job as usize * fire_times.len() + index];
            fates.doubled += usize::from(*had_run);
            *had_run = true;
        }
        fates.ran = had_run.iter().filter(|&&ran| ran).count();
        fates.lost = had_run.len() - fates.ran;
        fates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(ms: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms)
    }

    fn fates(runs: &[(u32, i64)], jobs: u32, fire_times: &[i64]) -> [usize; 4] {
        let runs: Vec<_> = runs.iter().map(|&(job, at)| Run { job, at: instant(at) }).collect();
        let fire_times: Vec<_> = fire_times.iter().map(|&at| instant(at)).collect();
        let fates = Fates::of(&runs, jobs, &fire_times);
        [fates.ran, fates.lost, fates.doubled, fates.early]
    }

    #[test]
    fn each_fire_time_of_each_job_is_counted() {
        assert_eq!(fates(&[(0, 2_000), (1, 2_001), (0, 4_300)], 2, &[2_000, 4_000]), [3, 1, 0, 0]);
        assert_eq!(fates(&[], 2, &[2_000, 4_000]), [0, 4, 0, 0]);
    }

    #[test]
    fn a_second_run_for_a_fire_time_is_doubled() {
        assert_eq!(fates(&[(0, 2_000), (0, 2_900)], 1, &[2_000, 4_000]), [1, 1, 1, 0]);
    }

    #[test]
    fn a_run_is_early_or_late_for_the_nearer_fire_time() {
        assert_eq!(fates(&[(0, 3_499)], 1, &[2_000, 4_000]), [1, 1, 0, 0]);
        assert_eq!(fates(&[(0, 2_000), (0, 3_500)], 1, &[2_000, 4_000]), [2, 0, 0, 1]);
        assert_eq!(fates(&[(0, 900)], 1, &[2_000]), [1, 0, 0, 1]);
        assert_eq!(fates(&[(0, 9_900)], 1, &[2_000]), [1, 0, 0, 0]);
    }

    #[test]
    fn lateness_is_in_microseconds() {
        let runs = [2_000, 2_003].map(|at| Run { job: 0, at: instant(at) });
        assert_eq!(Fates::of(&runs, 1, &[instant(2_000)]).late.max(), 3_001);
    }
}
