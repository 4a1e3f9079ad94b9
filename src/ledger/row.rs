//! The rows of the ledger: one for each fire time, or stretch of them, with its fate.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Claim, Fate, Incarnation, NodeId, Record, record::recoveries};
use crate::job::JobId;

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

    /// The claim under which a node has it, or had it last.
    pub(crate) fn claim(&self) -> Claim {
        Claim { key: self.key, fence: self.fence }
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
    Claimed(NodeId),
    /// It has met its fate.
    Closed(Fate),
}

impl RowState {
    /// Whether it has yet to meet its fate.
    pub fn is_open(&self) -> bool {
        !matches!(self, RowState::Closed(_))
    }
}

/// About how many bytes a row is, or a record without its texts.
pub(crate) const ROW_SIZE: usize = 512;
