//! The record of a job: what a store keeps of it.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Fate;
use crate::job::JobId;

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

/// Which records [`Store::list`](crate::store::Store::list) lists: those that are as said, where something is
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

/// Where a page of [`Store::list`](crate::store::Store::list) ends: at an id, as the store itself has it. That may be no text,
/// where others write into the store, so it is not a [`JobId`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordCursor(Box<[u8]>);

impl RecordCursor {
    /// Behind the id of these bytes.
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

/// Some of the records of a store; see [`Store::list`](crate::store::Store::list).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordPage {
    /// The records.
    pub records: Vec<Record>,
    /// Behind what the next page begins, which may be empty; `None` if this is the last one.
    pub next: Option<RecordCursor>,
}

/// A record that is not what somebody knew.
#[derive(Clone, Debug)]
pub struct RecordChange {
    /// The incarnation that was known.
    pub incarnation: Incarnation,
    /// What became of it.
    pub status: RecordStatus,
}

/// What became of an incarnation.
#[derive(Clone, Debug)]
pub enum RecordStatus {
    /// It was changed: the record as it is now.
    Updated(Box<Record>),
    /// The incarnation is gone, with how it ended, if the ledger still has that.
    Removed(Option<Fate>),
}
