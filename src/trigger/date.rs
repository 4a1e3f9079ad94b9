//! One fire time, given as an instant or as a delay.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{add_millis, whole_millis};
use crate::error::Error;

/// A trigger with a single fire time; made by [`at`](super::at), [`after`](super::after) and
/// [`now`](super::now).
///
/// A fire time in the past is due at once, and judged by the job's misfire grace time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Date {
    /// At this instant.
    At(DateTime<Utc>),
    /// So many milliseconds after the job is added.
    AfterMs(u64),
}

impl Date {
    /// The fire time of this trigger, a delay being counted from `now`.
    pub(super) fn fire_time(&self, now: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
        match *self {
            Date::At(instant) => whole_millis(instant),
            Date::AfterMs(delay) => i64::try_from(delay)
                .ok()
                .and_then(|delay| add_millis(whole_millis(now).ok()?, delay))
                .ok_or_else(|| {
                    Error::invalid_trigger(format!(
                        "a delay of {delay} ms reaches past the end of the calendar: use a shorter one"
                    ))
                }),
        }
    }
}
