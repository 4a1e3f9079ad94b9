//! How a fire time, or a job, ended, and how that is written.

use std::{fmt, str::FromStr, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::job::SkipReason;

/// What became of a fire time; or of an incarnation, in its row of [`RowKind::Ended`](super::RowKind::Ended).
///
/// As text, which is what stores keep: `ran: succeeded`, `missed`, `skipped: paused`,
/// `coalesced into 2026-11-20T12:00:00Z`, `abandoned`, `abandoned: recovered too often`, `completed`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// Its work was called, and ended like this.
    Ran(RunEnd),
    /// Its run could not start within the misfire grace time.
    Missed,
    /// It was skipped.
    Skipped(SkipReason),
    /// It became part of the run for this fire time.
    Coalesced(DateTime<Utc>),
    /// Its work was called, or may have been, and nobody knows how far it came: its node died, or the
    /// job was removed before it was run again.
    Abandoned,
    /// The same, once it had been run again as often as its job says: it may be what its nodes died of.
    RecoveredTooOften,
    /// The job has no fire time left and its last run has ended.
    Completed,
    /// The job was removed.
    Removed,
    /// The job was cancelled, by its token.
    Cancelled,
    /// Another job took its id.
    Replaced,
    /// What a later version of this crate wrote.
    Unknown(Arc<str>),
}

impl Fate {
    /// The fate of a row that waits for this attempt and is not to run any more: *skipped*, or
    /// *abandoned* if it is not the first attempt, since its work may have been called.
    pub fn called_off(reason: SkipReason, attempt: u32) -> Fate {
        if attempt > 1 { Fate::Abandoned } else { Fate::Skipped(reason) }
    }

    /// Whether nobody knows how far it had come: an outcome that arrives after all takes its place.
    pub fn is_abandoned(&self) -> bool {
        matches!(self, Fate::Abandoned | Fate::RecoveredTooOften)
    }
}

/// How the work of a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunEnd {
    /// It returned, and not with an error.
    Succeeded,
    /// It returned an error.
    Failed,
    /// It panicked.
    Panicked,
    /// It took longer than its job's timeout.
    TimedOut,
    /// It was dropped before it returned.
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
