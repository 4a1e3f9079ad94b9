//! The record of a durable job.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Fate;
use crate::id::JobId;

/// A durable job, as a store keeps it.
///
/// A store interprets only ids, numbers and instants. All other fields are text that the store
/// keeps unchanged and need not parse. `Debug` shows the length of the arguments, and not their
/// contents. Its fields are the columns that a store has.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// The job's id, unique in the store.
    pub id: JobId,
    /// Distinguishes this incarnation of the id from all others.
    pub incarnation: Incarnation,
    /// How often the record was written; claims do not count.
    #[serde(default)]
    pub version: u64,
    /// The fence of the last claim: see [`Record::next_fence`].
    #[serde(default)]
    pub fence: u64,
    /// The number of requested runs.
    #[serde(default)]
    pub requests: u64,
    /// The tokens of the latest writes.
    #[serde(default)]
    pub tokens: Tokens,
    /// The name of the task.
    pub task: String,
    /// The task's arguments, as JSON.
    pub args: String,
    /// The trigger, as JSON, with all defaults resolved.
    pub trigger: String,
    /// The options, as JSON. The reader's defaults apply to options that are left out.
    pub options: String,
    /// The job's name, if set.
    pub name: Option<String>,
    /// The job's tags.
    pub tags: Vec<String>,
    /// The definition as declared in code, as JSON, to detect when the declaration changes.
    pub declared: Option<String>,
    /// When the job was added.
    pub added_at: DateTime<Utc>,
    /// The first unclaimed fire time; `None` if none is left.
    pub next_fire: Option<DateTime<Utc>>,
    /// Whether the job is paused.
    pub paused: bool,
    /// When the job was last resumed. Earlier fire times are skipped.
    pub resumed_at: Option<DateTime<Utc>>,
    /// The last fire time that was claimed under a previous trigger, if any. The ledger may have
    /// rows up to this instant, so a stretch of fire times starts after it.
    #[serde(default)]
    pub taken_to: Option<DateTime<Utc>>,
    /// Whether a run is recovered after its node died.
    pub recover: bool,
    /// The maximum number of recoveries of one fire time.
    #[serde(default = "recoveries")]
    pub recoveries: u32,
    /// When the job was last rescheduled. Fire times that were due by then still run.
    #[serde(default)]
    pub rescheduled_at: Option<DateTime<Utc>>,
    /// Whether the store remembers the end of the job, since the job may be declared again.
    #[serde(default)]
    pub remember: bool,
    /// When the job ended, if only its end is remembered. Set by the store.
    #[serde(default)]
    pub ended_at: Option<DateTime<Utc>>,
    /// Who paused the job, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<String>,
    /// Why the job was paused, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_because: Option<String>,
    /// Data of later versions of this crate, as a JSON object. Every change of the record keeps it
    /// unchanged.
    #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
    pub extra: String,
}

impl Record {
    /// A record with this id and task, without a fire time, with `null` as arguments and default
    /// options.
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

    /// The fence of a claim at `now` by the store's clock, higher than all previous fences.
    ///
    /// The fence is the larger of the last fence + 1 and the store's time in milliseconds. So
    /// fences grow even if the latest claims were lost in a failover or by restoring a backup.
    pub fn next_fence(&self, now: DateTime<Utc>) -> u64 {
        let time = u64::try_from(now.timestamp_millis()).unwrap_or(0);
        self.fence.wrapping_add(1).max(time)
    }

    /// The stamp that a [`Write`](super::Write) compares.
    pub fn stamp(&self) -> Stamp {
        Stamp { incarnation: self.incarnation, version: self.version, fence: self.fence }
    }
}

/// The default number of recoveries of one fire time.
pub(crate) fn recoveries() -> u32 {
    3
}

/// An empty JSON object.
pub(crate) fn nothing() -> String {
    "{}".to_owned()
}

pub(crate) fn is_nothing(object: &str) -> bool {
    object == "{}"
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Text that `Debug` must not show: arguments, or a declaration that contains them.
        struct Hidden<'a>(&'a str);
        impl fmt::Debug for Hidden<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "<{} bytes>", self.0.len())
            }
        }
        // Destructured, so that a new field causes a compile error here.
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

/// The tokens of a record's latest writes, the latest first.
///
/// A retried write, whose first response was lost, is recognized by its token.
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
    /// How many tokens are kept.
    pub const KEPT: usize = 8;

    /// Adds the token of a write, and drops the oldest token beyond the limit.
    pub fn push(&mut self, token: u64) {
        self.latest_first.rotate_right(1);
        self.latest_first[0] = token;
        self.count = (self.count + 1).min(Tokens::KEPT as u8);
    }

    /// Whether the latest writes include one with this token.
    pub fn contains(&self, token: u64) -> bool {
        self.as_slice().contains(&token)
    }

    /// The kept tokens, the latest first.
    pub fn as_slice(&self) -> &[u64] {
        &self.latest_first[..usize::from(self.count)]
    }
}

/// In order from the earliest to the latest.
impl FromIterator<u64> for Tokens {
    fn from_iter<I: IntoIterator<Item = u64>>(tokens: I) -> Tokens {
        let mut kept = Tokens::default();
        tokens.into_iter().for_each(|token| kept.push(token));
        kept
    }
}

impl From<Vec<u64>> for Tokens {
    /// In order from the latest to the earliest.
    fn from(tokens: Vec<u64>) -> Tokens {
        tokens.into_iter().take(Tokens::KEPT).rev().collect()
    }
}

impl From<Tokens> for Vec<u64> {
    fn from(tokens: Tokens) -> Vec<u64> {
        tokens.as_slice().to_vec()
    }
}

/// Identifies one state of a record; every change of the record changes its stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The record's incarnation.
    pub incarnation: Incarnation,
    /// The record's version.
    pub version: u64,
    /// The record's fence.
    pub fence: u64,
}

/// One life of a job id, from add to removal or replacement: a random number of 63 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// The records that [`Store::list`](crate::store::Store::list) returns: those that match every set
/// field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// The record has this name.
    pub name: Option<String>,
    /// The record has this tag.
    pub tag: Option<String>,
    /// Whether the record is paused.
    pub paused: Option<bool>,
}

impl RecordFilter {
    /// Whether a record passes the filter.
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

/// The end of a page of [`Store::list`](crate::store::Store::list): an id, as the bytes in the
/// store.
///
/// The bytes need not be valid text if other programs write into the store, so this is not a
/// [`JobId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordCursor(Box<[u8]>);

impl RecordCursor {
    /// The position after the id with these bytes.
    pub fn new(id: impl Into<Box<[u8]>>) -> RecordCursor {
        RecordCursor(id.into())
    }

    /// The bytes of the id.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&JobId> for RecordCursor {
    fn from(id: &JobId) -> RecordCursor {
        RecordCursor::new(id.as_str().as_bytes())
    }
}

/// A page of a store's records; see [`Store::list`](crate::store::Store::list).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordPage {
    /// The records.
    pub records: Vec<Record>,
    /// Where the next page begins; that page may be empty. `None` after the last page.
    pub next: Option<RecordCursor>,
}

/// A known record that has changed.
#[derive(Clone, Debug)]
pub struct RecordChange {
    /// The incarnation that was known.
    pub incarnation: Incarnation,
    /// How the record has changed.
    pub status: RecordStatus,
}

/// The current status of a known incarnation.
#[derive(Clone, Debug)]
pub enum RecordStatus {
    /// The record was changed; this is the current one.
    Updated(Box<Record>),
    /// The incarnation is gone. Contains its fate, if the ledger still has it.
    Removed(Option<Fate>),
}
