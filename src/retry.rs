//! The retry policy of failed runs.

use std::{fmt, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ConstantBuilder, ExponentialBuilder};
use serde::{Deserialize, Serialize};

use crate::{error::Error, json::millis, outcome::Outcome};

/// When and how often a run that failed, panicked or timed out is retried.
///
/// All attempts belong to one run, for one fire time, whose outcome is that of the last attempt.
/// Between attempts the run keeps its job's permit, and releases the permits of its executor and
/// its group. The misfire grace time applies only to the first attempt. If the job is removed or
/// the scheduler shuts down, the run ends with the last error instead of a retry.
///
/// ```
/// use std::time::Duration;
/// use punctual::{Outcome, Retry};
///
/// let retry = Retry::exponential(Duration::from_millis(100))
///     .max_delay(Duration::from_secs(30))
///     .jitter()
///     .times(5)
///     .only_if(|outcome| !matches!(outcome, Outcome::Panicked(_)));
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Retry {
    #[serde(rename = "base_ms", with = "millis")]
    base: Duration,
    /// `None` if all delays are equal.
    factor: Option<f32>,
    #[serde(rename = "max_delay_ms", with = "millis")]
    max_delay: Duration,
    jitter: bool,
    times: u32,
    #[serde(skip)]
    only_if: Option<Condition>,
}

type Condition = Arc<dyn Fn(&Outcome) -> bool + Send + Sync>;

impl Retry {
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

    /// Retries with a fixed delay, three times by default.
    pub fn fixed(delay: Duration) -> Retry {
        Retry {
            base: delay,
            factor: None,
            max_delay: delay,
            jitter: false,
            times: 3,
            only_if: None,
        }
    }

    /// Retries with exponential backoff: `base` before the first retry, and twice as long before
    /// each further one. Three times by default, with delays of at most 1 h.
    pub fn exponential(base: Duration) -> Retry {
        Retry {
            factor: Some(2.0),
            max_delay: base.max(Duration::from_secs(60 * 60)),
            ..Retry::fixed(base)
        }
    }

    /// Sets the factor between successive delays of exponential backoff. Default: 2. Range: 1 to
    /// 1000.
    pub fn factor(mut self, factor: f32) -> Retry {
        self.factor = Some(factor);
        self
    }

    /// Sets the maximum delay of exponential backoff, before jitter. Default: 1 h. Maximum: 366
    /// days.
    pub fn max_delay(mut self, delay: Duration) -> Retry {
        self.max_delay = delay;
        self
    }

    /// Adds random jitter of up to 100 % to each delay, so that runs that failed together are not
    /// retried together.
    pub fn jitter(mut self) -> Retry {
        self.jitter = true;
        self
    }

    /// Sets the maximum number of retries. Default: 3.
    pub fn times(mut self, times: u32) -> Retry {
        self.times = times;
        self
    }

    /// Retries only if `condition` returns `true` for the outcome.
    ///
    /// It is called only for [failures](Outcome::is_failure). A panic in it counts as `false`.
    pub fn only_if(
        mut self,
        condition: impl Fn(&Outcome) -> bool + Send + Sync + 'static,
    ) -> Retry {
        self.only_if = Some(Arc::new(condition));
        self
    }

    pub(crate) fn holds_code(&self) -> bool {
        self.only_if.is_some()
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        if let Some(factor) = self.factor.filter(|factor| !(1.0..=1000.0).contains(factor)) {
            return Err(Error::invalid_option(format!(
                "a retry factor of {factor} is out of range: use 1 to 1000"
            )));
        }
        if self.base > Retry::LONGEST || self.max_delay > Retry::LONGEST {
            return Err(Error::invalid_option(format!(
                "a retry delay of {:?} is longer than a year: use a shorter one",
                self.base.max(self.max_delay)
            )));
        }
        if self.max_delay < self.base {
            return Err(Error::invalid_option(format!(
                "the maximum retry delay, {:?}, is shorter than the first, {:?}: swap them",
                self.max_delay, self.base
            )));
        }
        Ok(())
    }

    /// The same policy without user code.
    pub(crate) fn without_code(self) -> Retry {
        Retry { only_if: None, ..self }
    }

    /// The delay before the retry after this attempt; `None` without a retry. `seed` makes the
    /// jitter of runs differ.
    pub(crate) fn delay_after(
        &self,
        attempt: u32,
        outcome: &Outcome,
        seed: u64,
    ) -> Option<Duration> {
        let wanted = attempt <= self.times
            && outcome.is_failure()
            && self.only_if.as_ref().is_none_or(|condition| condition(outcome));
        if !wanted {
            return None;
        }
        // At this point the delays have stopped growing.
        let nth = attempt.saturating_sub(1).min(10_000) as usize;
        let Some(factor) = self.factor else {
            let delays = ConstantBuilder::new().with_delay(self.base).without_max_times();
            let delays =
                if self.jitter { delays.with_jitter().with_jitter_seed(seed) } else { delays };
            return delays.build().nth(nth);
        };
        let delays = ExponentialBuilder::new()
            .with_min_delay(self.base)
            .with_max_delay(self.max_delay)
            .with_factor(factor)
            .without_max_times();
        let delays = if self.jitter { delays.with_jitter().with_jitter_seed(seed) } else { delays };
        delays.build().nth(nth)
    }
}

impl PartialEq for Retry {
    fn eq(&self, other: &Retry) -> bool {
        let condition = |retry: &Retry| retry.only_if.as_ref().map(Arc::as_ptr);
        self.base == other.base
            && self.factor == other.factor
            && self.max_delay == other.max_delay
            && self.jitter == other.jitter
            && self.times == other.times
            && match (condition(self), condition(other)) {
                (Some(one), Some(other)) => std::ptr::addr_eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            }
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("base", &self.base)
            .field("factor", &self.factor)
            .field("max_delay", &self.max_delay)
            .field("jitter", &self.jitter)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}
