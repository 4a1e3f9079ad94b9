//! The fates of fire times and jobs, and their text form.

use std::{fmt, str::FromStr, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::outcome::SkipReason;

/// How a fire time ended; or how an incarnation ended, in its row of
/// [`RowKind::Ended`](super::RowKind::Ended).
///
/// Stores keep a fate as text, in the form of its `Display`: `ran: succeeded`, `missed`, `skipped:
/// paused`, `coalesced into 2026-11-20T12:00:00Z`, `abandoned`, `abandoned: recovered too often`,
/// `completed`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// The work was called and ended like this.
    Ran(RunEnd),
    /// The run could not start within the misfire grace time.
    Missed,
    /// The fire time was skipped.
    Skipped(SkipReason),
    /// The fire time became part of the run for this other fire time.
    Coalesced(DateTime<Utc>),
    /// The work was called, or may have been, and its result is unknown: its node died, or the job
    /// was removed before a recovery.
    Abandoned,
    /// Like [`Abandoned`](Fate::Abandoned), after as many recoveries as the job allows: the run may
    /// be what ended its nodes.
    RecoveredTooOften,
    /// The job has no fire time left and its last run has ended.
    Completed,
    /// The job was removed.
    Removed,
    /// The job's token was cancelled.
    Cancelled,
    /// Another job replaced this one under its id.
    Replaced,
    /// A fate that a later version of this crate wrote.
    Unknown(Arc<str>),
}

impl Fate {
    /// The fate of a waiting row, for this attempt, that is not to run any more: *skipped*, or
    /// *abandoned* after the first attempt, since the work may have been called.
    pub fn called_off(reason: SkipReason, attempt: u32) -> Fate {
        if attempt > 1 { Fate::Abandoned } else { Fate::Skipped(reason) }
    }

    /// Whether the result is unknown. A late outcome replaces such a fate.
    pub fn is_abandoned(&self) -> bool {
        matches!(self, Fate::Abandoned | Fate::RecoveredTooOften)
    }
}

/// How the work of a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunEnd {
    /// The work returned, without an error.
    Succeeded,
    /// The work returned an error.
    Failed,
    /// The work panicked.
    Panicked,
    /// The work took longer than the job's timeout.
    TimedOut,
    /// The work was dropped before it returned.
    Cancelled,
}

impl fmt::Display for RunEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RunEnd::Succeeded => "succeeded",
            RunEnd::Failed => "failed",
            RunEnd::Panicked => "panicked",
            RunEnd::TimedOut => "timed out",
            RunEnd::Cancelled => "cancelled",
        })
    }
}

const RUN_ENDS: [RunEnd; 5] =
    [RunEnd::Succeeded, RunEnd::Failed, RunEnd::Panicked, RunEnd::TimedOut, RunEnd::Cancelled];

const SKIP_REASONS: [SkipReason; 8] = [
    SkipReason::MaxInstances,
    SkipReason::QueueFull,
    SkipReason::Superseded,
    SkipReason::Condition,
    SkipReason::Paused,
    SkipReason::Removed,
    SkipReason::Replaced,
    SkipReason::Shutdown,
];

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Ran(end) => write!(f, "ran: {end}"),
            Fate::Missed => f.write_str("missed"),
            Fate::Skipped(reason) => write!(f, "skipped: {reason}"),
            Fate::Coalesced(into) => {
                write!(f, "coalesced into {}", crate::trigger::rfc3339(*into))
            }
            Fate::Abandoned => f.write_str("abandoned"),
            Fate::RecoveredTooOften => f.write_str("abandoned: recovered too often"),
            Fate::Completed => f.write_str("completed"),
            Fate::Removed => f.write_str("removed"),
            Fate::Cancelled => f.write_str("cancelled"),
            Fate::Replaced => f.write_str("replaced"),
            Fate::Unknown(text) => f.write_str(text),
        }
    }
}

impl FromStr for Fate {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Fate, Self::Err> {
        let fate = if let Some(end) = text.strip_prefix("ran: ") {
            RUN_ENDS.into_iter().find(|known| known.to_string() == end).map(Fate::Ran)
        } else if let Some(reason) = text.strip_prefix("skipped: ") {
            SKIP_REASONS.into_iter().find(|known| known.to_string() == reason).map(Fate::Skipped)
        } else if let Some(into) = text.strip_prefix("coalesced into ") {
            DateTime::parse_from_rfc3339(into).ok().map(|into| Fate::Coalesced(into.to_utc()))
        } else {
            let plain = [
                Fate::Missed,
                Fate::Abandoned,
                Fate::RecoveredTooOften,
                Fate::Completed,
                Fate::Removed,
                Fate::Cancelled,
                Fate::Replaced,
            ];
            plain.into_iter().find(|known| known.to_string() == text)
        };
        Ok(fate.unwrap_or_else(|| Fate::Unknown(text.into())))
    }
}

impl Serialize for Fate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Fate, D::Error> {
        let Ok(fate) = String::deserialize(deserializer)?.parse();
        Ok(fate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates_are_read_as_they_are_written() {
        let into = DateTime::from_timestamp_millis(1_763_640_000_123).unwrap();
        let mut fates = vec![
            Fate::Missed,
            Fate::Abandoned,
            Fate::RecoveredTooOften,
            Fate::Completed,
            Fate::Removed,
            Fate::Cancelled,
            Fate::Replaced,
            Fate::Coalesced(into),
            Fate::Unknown("postponed: rain".into()),
        ];
        fates.extend(RUN_ENDS.map(Fate::Ran));
        fates.extend(SKIP_REASONS.map(Fate::Skipped));
        for fate in fates {
            assert_eq!(fate.to_string().parse(), Ok(fate));
        }
    }
}
