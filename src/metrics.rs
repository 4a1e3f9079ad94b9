//! What a scheduler counts.

use std::{fmt, time::Duration};

use hdrhistogram::Histogram;

use crate::outcome::Outcome;

/// What a scheduler has counted since it was made; see
/// [`Scheduler::metrics`](crate::Scheduler::metrics).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Runs that have begun: to go, or to wait for room.
    pub submitted: u64,
    /// Runs whose work succeeded.
    pub succeeded: u64,
    /// Runs whose work returned an error.
    pub failed: u64,
    /// Runs whose work panicked.
    pub panicked: u64,
    /// Runs whose work took too long.
    pub timed_out: u64,
    /// Runs that were cancelled and dropped.
    pub cancelled: u64,
    /// Runs whose end nobody knows.
    pub abandoned: u64,
    /// Attempts after which the work was to be called again.
    pub retried: u64,
    /// Fire times that were missed.
    pub missed: u64,
    /// Fire times that were skipped.
    pub skipped: u64,
    /// Fire times that became part of another's run.
    pub coalesced: u64,
    /// How much later than due runs started.
    pub lateness: Lateness,
}

/// How much later than due runs started: a histogram with an error of 1 % at most, from a microsecond
/// to an hour; what is later counts as an hour.
#[derive(Clone, Default)]
pub struct Lateness(Option<Box<Histogram<u64>>>);

impl Metrics {
    /// Counts a run that has ended; `late_by` is how late it started, if it did.
    pub(crate) fn count(&mut self, outcome: &Outcome, late_by: Option<Duration>) {
        let count = match outcome {
            Outcome::Succeeded => &mut self.succeeded,
            Outcome::Failed(_) => &mut self.failed,
            Outcome::Panicked(_) => &mut self.panicked,
            Outcome::TimedOut => &mut self.timed_out,
            Outcome::Cancelled => &mut self.cancelled,
            Outcome::Abandoned => &mut self.abandoned,
            Outcome::Missed => &mut self.missed,
            Outcome::Skipped(_) => &mut self.skipped,
        };
        *count += 1;
        if let Some(late_by) = late_by {
            self.lateness.record(late_by);
        }
    }
}

impl Lateness {
    const LONGEST: u64 = 60 * 60 * 1_000_000;

    fn record(&mut self, late_by: Duration) {
        let micros = u64::try_from(late_by.as_micros()).unwrap_or(u64::MAX);
        if self.0.is_none() {
            self.0 = Histogram::new_with_max(Lateness::LONGEST, 2).ok().map(Box::new);
        }
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(micros.min(Lateness::LONGEST));
        }
    }

    /// How many runs were counted.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |histogram| histogram.len())
    }

    /// The lateness that this part of the runs, from 0 to 1, did not exceed; zero if there were none.
    pub fn quantile(&self, part: f64) -> Duration {
        self.micros(|histogram| histogram.value_at_quantile(part))
    }

    /// The greatest lateness of all.
    pub fn max(&self) -> Duration {
        self.micros(Histogram::max)
    }

    fn micros(&self, of: impl FnOnce(&Histogram<u64>) -> u64) -> Duration {
        Duration::from_micros(self.0.as_deref().map_or(0, of))
    }
}

impl fmt::Debug for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lateness")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max())
            .finish()
    }
}
