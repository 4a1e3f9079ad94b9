//! The rows of the ledger: one for each fire time, or for each stretch of fire times, with its
//! fate.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Claim, Fate, Incarnation, NodeId, Record, record::recoveries};
use crate::id::JobId;

/// The unique key of a row in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowKey {
    /// The job's incarnation.
    pub incarnation: Incarnation,
    /// What `number` means.
    pub kind: RowKind,
    /// A fire time in milliseconds since 1970 (the first of a stretch), or a sequence number.
    pub number: i64,
}

impl RowKey {
    /// The key of the row for the end of an incarnation.
    pub fn end_of(incarnation: Incarnation) -> RowKey {
        RowKey { incarnation, kind: RowKind::Ended, number: 0 }
    }
}

/// The kind of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// A fire time, or a stretch of fire times. The number is the (first) fire time.
    Scheduled = 0,
    /// A requested run. Numbered from 1.
    Requested = 1,
    /// The end of the incarnation. The number is 0.
    Ended = 2,
}

/// A row of the ledger: a fire time, or a stretch of fire times, with its state and fate. Its fields are the
/// columns that a store has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Row {
    /// The unique key.
    pub key: RowKey,
    /// The job's id.
    pub job: JobId,
    /// The fire time, or the first of the stretch, or the time of the request.
    pub fire_time: DateTime<Utc>,
    /// The last fire time of the stretch.
    pub last: DateTime<Utc>,
    /// The number of fire times in the stretch; a lower bound above 10,000.
    pub count: u64,
    /// How many other fire times were coalesced into this one.
    pub coalesced: u64,
    /// The state of the row.
    pub state: RowState,
    /// The fence of the last claim.
    pub fence: u64,
    /// The first attempt of the node that claims the row, from 1. Higher than 1 if the work was
    /// called before, or may have been.
    pub attempt: u32,
    /// Whether the row is recovered if its node dies.
    pub recover: bool,
    /// The number of recoveries left.
    #[serde(default = "recoveries")]
    pub recoveries: u32,
    /// When the last attempt called the work; `None` if it was not called.
    pub started_at: Option<DateTime<Utc>>,
    /// When the fate was known.
    pub ended_at: Option<DateTime<Utc>>,
    /// The error of a failed run.
    pub message: Option<String>,
    /// The last node that claimed the row, if any; kept when the row is closed. Set by the store.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// The due instant, if jitter makes it differ from the fire time.
    #[serde(default)]
    pub due: Option<DateTime<Utc>>,
    /// Who requested the run, if known.
    #[serde(default)]
    pub requested_by: Option<String>,
    /// The trace id that the requester of the run gave, if any.
    #[serde(default)]
    pub trace_id: Option<String>,
}

impl Row {
    /// A row of one fire time, never claimed before.
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

    /// The last claim of the row.
    pub(crate) fn claim(&self) -> Claim {
        Claim { key: self.key, fence: self.fence }
    }

    /// The row as it waits for a recovery after its node died; `None` if no recovery is left.
    pub fn recovered(&self) -> Option<Row> {
        let recoveries = self.recoveries.checked_sub(1)?;
        let attempt = self.attempt.saturating_add(1);
        Some(Row { state: RowState::Waiting, attempt, recoveries, ..self.clone() })
    }

    /// The row for the end of a record's incarnation.
    pub fn ended(record: &Record, fate: Fate, at: DateTime<Utc>) -> Row {
        let key = RowKey::end_of(record.incarnation);
        let row = Row::new(key, record.id.clone(), at, RowState::Closed(fate));
        Row { fence: record.fence, ended_at: Some(at), ..row }
    }
}

/// The state of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowState {
    /// Any node may claim the row.
    Waiting,
    /// This node has claimed the row.
    Claimed(NodeId),
    /// The row has its fate.
    Closed(Fate),
}

impl RowState {
    /// Whether the row has no fate yet.
    pub fn is_open(&self) -> bool {
        !matches!(self, RowState::Closed(_))
    }
}

/// The approximate size of a row, or of a record without its text fields, in bytes.
pub(crate) const ROW_SIZE: usize = 512;
