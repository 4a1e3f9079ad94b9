//! What a store keeps: the records of jobs, and the rows of the ledger.

use std::{fmt, str::FromStr, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::job::{JobId, SkipReason};

/// A durable job, as a store keeps it.
///
/// The store looks at ids, numbers and instants; the rest is text that it keeps as it is, and that need
/// not make sense to it. `Debug` shows how long the arguments are, and not what they say.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// Its id, unique in the store.
    pub id: JobId,
    /// Tells this life of the id from others.
    pub incarnation: Incarnation,
    /// How often the record was written; takes do not count.
    #[serde(default)]
    pub version: u64,
    /// The fence of the last take: see [`Record::next_fence`].
    #[serde(default)]
    pub fence: u64,
    /// How many runs were asked for.
    #[serde(default)]
    pub requests: u64,
    /// The tokens of the last writes.
    #[serde(default)]
    pub tokens: Tokens,
    /// The name of the task.
    pub task: String,
    /// Its arguments, as JSON.
    pub args: String,
    /// Its trigger, as JSON, with everything filled in.
    pub trigger: String,
    /// Its options, as JSON; those left out are the defaults of whoever reads it.
    pub options: String,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its definition as it was declared in code, as JSON, to see when that changes.
    pub declared: Option<String>,
    /// When it was added.
    pub added_at: DateTime<Utc>,
    /// The first fire time that nobody has taken yet; `None` if there is none left.
    pub next_fire: Option<DateTime<Utc>>,
    /// Whether it is paused.
    pub paused: bool,
    /// When it was last resumed: what passed before is skipped.
    pub resumed_at: Option<DateTime<Utc>>,
    /// The last fire time that was taken by a trigger that the job had before, if it had one: up to it
    /// the ledger may have rows already, so there are no stretches before it.
    #[serde(default)]
    pub taken_to: Option<DateTime<Utc>>,
    /// Whether a run whose node died is to be run again.
    pub recover: bool,
    /// How often at most that is done for one fire time.
    #[serde(default = "recoveries")]
    pub recoveries: u32,
    /// When it was last given another trigger: what was due by then still runs.
    #[serde(default)]
    pub rescheduled_at: Option<DateTime<Utc>>,
    /// Whether the store remembers that the job is over, since it may be declared again.
    #[serde(default)]
    pub remember: bool,
    /// When it was over, if it is only remembered. The store's to set.
    #[serde(default)]
    pub ended_at: Option<DateTime<Utc>>,
    /// Who has paused it, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<String>,
    /// Why it was paused, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_because: Option<String>,
    /// What later versions of this crate keep of the job, as a JSON object: each change of the record
    /// carries it along as it is.
    #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
    pub extra: String,
}

impl Record {
    /// A job of this id and task that has no fire time, no arguments (`null`), and whose options are
    /// the defaults.
    pub fn new(
        id: impl Into<JobId>,
        incarnation: Incarnation,
        task: impl Into<String>,
        added_at: DateTime<Utc>,
    ) -> Record {
        Record {
            id: id.into(),
            incarnation,
            version: 0,
            fence: 0,
            requests: 0,
            tokens: Tokens::default(),
            task: task.into(),
            args: "null".to_owned(),
            trigger: "null".to_owned(),
            options: "{}".to_owned(),
            name: None,
            tags: Vec::new(),
            declared: None,
            added_at,
            next_fire: None,
            paused: false,
            resumed_at: None,
            taken_to: None,
            recover: false,
            recoveries: recoveries(),
            rescheduled_at: None,
            remember: false,
            ended_at: None,
            paused_by: None,
            paused_because: None,
            extra: nothing(),
        }
    }

    /// The fence of a take at `now` by the store's clock: higher than all before. It is the time in
    /// milliseconds, or one more than the last fence if that is higher still; so fences grow even where
    /// the last takes were lost, since the store failed over to a copy or was restored from a backup.
    pub fn next_fence(&self, now: DateTime<Utc>) -> u64 {
        let time = u64::try_from(now.timestamp_millis()).unwrap_or(0);
        self.fence.wrapping_add(1).max(time)
    }

    /// What a [`Write`](super::Write) compares.
    pub fn stamp(&self) -> Stamp {
        Stamp { incarnation: self.incarnation, version: self.version, fence: self.fence }
    }
}

/// How often a fire time is run again by default whose node died.
pub(crate) fn recoveries() -> u32 {
    3
}

/// An object without entries.
pub(crate) fn nothing() -> String {
    "{}".to_owned()
}

pub(crate) fn is_nothing(object: &str) -> bool {
    object == "{}"
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Arguments, or what has them in it.
        struct Hidden<'a>(&'a str);
        impl fmt::Debug for Hidden<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "<{} bytes>", self.0.len())
            }
        }
        // All of them, so that a new one is not forgotten here.
        let Record {
            id,
            incarnation,
            version,
            fence,
            requests,
            tokens,
            task,
            args,
            trigger,
            options,
            name,
            tags,
            declared,
            added_at,
            next_fire,
            paused,
            resumed_at,
            taken_to,
            recover,
            recoveries,
            rescheduled_at,
            remember,
            ended_at,
            paused_by,
            paused_because,
            extra,
        } = self;
        f.debug_struct("Record")
            .field("id", id)
            .field("incarnation", incarnation)
            .field("version", version)
            .field("fence", fence)
            .field("requests", requests)
            .field("tokens", tokens)
            .field("task", task)
            .field("args", &Hidden(args))
            .field("trigger", trigger)
            .field("options", options)
            .field("name", name)
            .field("tags", tags)
            .field("declared", &declared.as_deref().map(Hidden))
            .field("added_at", added_at)
            .field("next_fire", next_fire)
            .field("paused", paused)
            .field("resumed_at", resumed_at)
            .field("taken_to", taken_to)
            .field("recover", recover)
            .field("recoveries", recoveries)
            .field("rescheduled_at", rescheduled_at)
            .field("remember", remember)
            .field("ended_at", ended_at)
            .field("paused_by", paused_by)
            .field("paused_because", paused_because)
            .field("extra", &Hidden(extra))
            .finish()
    }
}

/// The tokens of a record's last writes, the latest first: a write that is asked for again, since its
/// answer was lost, is known by them.
///
/// ```
/// use punctual::store::Tokens;
///
/// let tokens: Tokens = (1..=9).collect();
/// assert!(tokens.contains(9) && tokens.contains(2));
/// assert!(!tokens.contains(1), "that was {} writes ago", Tokens::KEPT);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u64>", into = "Vec<u64>")]
pub struct Tokens {
    latest_first: [u64; Tokens::KEPT],
    count: u8,
}

impl Tokens {
    /// How many are kept.
    pub const KEPT: usize = 8;

    /// Adds that of a write; the oldest goes if there are too many.
    pub fn push(&mut self, token: u64) {
        self.latest_first.rotate_right(1);
        self.latest_first[0] = token;
        self.count = (self.count + 1).min(Tokens::KEPT as u8);
    }

    /// Whether a write of this token is among the last.
    pub fn contains(&self, token: u64) -> bool {
        self.as_slice().contains(&token)
    }

    /// All that are kept, the latest first.
    pub fn as_slice(&self) -> &[u64] {
        &self.latest_first[..usize::from(self.count)]
    }
}

/// From the earliest to the latest.
impl FromIterator<u64> for Tokens {
    fn from_iter<I: IntoIterator<Item = u64>>(tokens: I) -> Tokens {
        let mut kept = Tokens::default();
        tokens.into_iter().for_each(|token| kept.push(token));
        kept
    }
}

impl From<Vec<u64>> for Tokens {
    /// From the latest to the earliest.
    fn from(tokens: Vec<u64>) -> Tokens {
        tokens.into_iter().take(Tokens::KEPT).rev().collect()
    }
}

impl From<Tokens> for Vec<u64> {
    fn from(tokens: Tokens) -> Vec<u64> {
        tokens.as_slice().to_vec()
    }
}

/// What changes whenever a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The record's incarnation.
    pub incarnation: Incarnation,
    /// Its version.
    pub version: u64,
    /// Its fence.
    pub fence: u64,
}

/// One life of an id, from add to removal or replacement: a random number of 63 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// One life of a node, from its first heartbeat on: a random number of 63 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// What tells a row of the ledger from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowKey {
    /// The job's incarnation.
    pub incarnation: Incarnation,
    /// What the number counts.
    pub kind: RowKind,
    /// A fire time in milliseconds since 1970, the first of a stretch; or a sequence.
    pub number: i64,
}

impl RowKey {
    /// The key of the row that says how an incarnation ended.
    pub fn end_of(incarnation: Incarnation) -> RowKey {
        RowKey { incarnation, kind: RowKind::Ended, number: 0 }
    }
}

/// What a row is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// A fire time, or a stretch of them. Numbered by the (first) fire time.
    Scheduled = 0,
    /// A run that was asked for. Numbered from 1.
    Requested = 1,
    /// The end of the incarnation. Its number is 0.
    Ended = 2,
}

/// One row of the ledger: the fate of a fire time, or of a stretch of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Row {
    /// What tells it from all others.
    pub key: RowKey,
    /// The job's id.
    pub job: JobId,
    /// The fire time, or the first of the stretch, or when the run was asked for.
    pub fire_time: DateTime<Utc>,
    /// The last fire time of the stretch.
    pub last: DateTime<Utc>,
    /// How many fire times there are in it; a lower bound past 10,000.
    pub count: u64,
    /// How many other fire times were coalesced into this one.
    pub coalesced: u64,
    /// How far it has come.
    pub state: RowState,
    /// The fence under which it was last taken.
    pub fence: u64,
    /// Which call of its work the node that takes it makes first, from 1. Higher than 1 where the work
    /// was called before, or may have been.
    pub attempt: u32,
    /// Whether it is to be run again if its node dies.
    pub recover: bool,
    /// How often that may still be done.
    #[serde(default = "recoveries")]
    pub recoveries: u32,
    /// When the work was called, if it was; the last time.
    pub started_at: Option<DateTime<Utc>>,
    /// When its fate was known.
    pub ended_at: Option<DateTime<Utc>>,
    /// The error of a run that failed.
    pub message: Option<String>,
    /// The node that took it last, if one did; kept when it is closed. The store's to set.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// When it was due, where jitter made that another instant than the fire time.
    #[serde(default)]
    pub due: Option<DateTime<Utc>>,
    /// Who asked for the run, if somebody did and said so.
    #[serde(default)]
    pub requested_by: Option<String>,
    /// The trace that the run belongs to, as whoever asked for it names it.
    #[serde(default)]
    pub trace_id: Option<String>,
}

impl Row {
    /// The row of one fire time that was not taken before.
    pub fn new(key: RowKey, job: JobId, fire_time: DateTime<Utc>, state: RowState) -> Row {
        Row {
            key,
            job,
            fire_time,
            last: fire_time,
            count: 1,
            coalesced: 0,
            state,
            fence: 0,
            attempt: 1,
            recover: false,
            recoveries: recoveries(),
            started_at: None,
            ended_at: None,
            message: None,
            node: None,
            due: None,
            requested_by: None,
            trace_id: None,
        }
    }

    /// The row as it waits to be run again since its node died; `None` if it has no recovery left.
    pub fn recovered(&self) -> Option<Row> {
        let recoveries = self.recoveries.checked_sub(1)?;
        let attempt = self.attempt.saturating_add(1);
        Some(Row { state: RowState::Waiting, attempt, recoveries, ..self.clone() })
    }

    /// The row that says how a record's incarnation ended.
    pub fn ended(record: &Record, fate: Fate, at: DateTime<Utc>) -> Row {
        let key = RowKey::end_of(record.incarnation);
        let row = Row::new(key, record.id.clone(), at, RowState::Closed(fate));
        Row { fence: record.fence, ended_at: Some(at), ..row }
    }
}

/// How far a row has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowState {
    /// It may be taken, by any node.
    Waiting,
    /// It is this node's.
    Taken(NodeId),
    /// It has met its fate.
    Closed(Fate),
}

impl RowState {
    /// Whether it has yet to meet its fate.
    pub fn is_open(&self) -> bool {
        !matches!(self, RowState::Closed(_))
    }
}

/// What became of a fire time; or of an incarnation, in its row of [`RowKind::Ended`].
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

/// Which records [`Store::list`](super::Store::list) lists: those that are as said, where something is
/// said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// Their name.
    pub name: Option<String>,
    /// One of their tags.
    pub tag: Option<String>,
    /// Whether they are paused.
    pub paused: Option<bool>,
}

impl RecordFilter {
    /// Whether a record is as said.
    pub fn passes(&self, record: &Record) -> bool {
        self.name.as_ref().is_none_or(|name| record.name.as_ref() == Some(name))
            && self.tag.as_ref().is_none_or(|tag| record.tags.contains(tag))
            && self.paused.is_none_or(|paused| record.paused == paused)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
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
