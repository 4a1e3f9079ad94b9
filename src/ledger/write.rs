//! The writes of records.

use super::{Action, ROW_SIZE, Record, Row, Stamp};
use crate::id::JobId;

/// A compare-and-swap of one record: see [`Store::write`](crate::store::Store::write).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Write {
    /// The record's id.
    pub id: JobId,
    /// The stamp that the current record must have; `None` if there must be no record.
    pub expected: Option<Stamp>,
    /// The new record; `None` removes the record.
    pub record: Option<Record>,
    /// Closed rows for fire times that the write passes over, and a waiting row for a requested
    /// run.
    pub rows: Vec<Row>,
    /// Distinguishes this write from all others, so that a retry is recognized: a random number of
    /// 63 bits.
    pub token: u64,
    /// The entry for the action log, if any.
    pub action: Option<Action>,
}

impl Write {
    /// Adds a record. The write is lost if its id is in use.
    pub fn add(record: Record, token: u64) -> Write {
        Write {
            id: record.id.clone(),
            expected: None,
            record: Some(record),
            rows: Vec::new(),
            token,
            action: None,
        }
    }

    /// Changes or replaces the record with this stamp.
    pub fn change(expected: Stamp, record: Record, token: u64) -> Write {
        Write { expected: Some(expected), ..Write::add(record, token) }
    }

    /// Removes the record with this stamp.
    pub fn remove(id: JobId, expected: Stamp, token: u64) -> Write {
        Write { id, expected: Some(expected), record: None, rows: Vec::new(), token, action: None }
    }

    /// The same write with these rows.
    #[must_use]
    pub fn with_rows(self, rows: Vec<Row>) -> Write {
        Write { rows, ..self }
    }

    /// The same write with this action.
    #[must_use]
    pub fn with_action(self, action: Option<Action>) -> Write {
        Write { action, ..self }
    }
}

impl Write {
    /// The approximate size of the commit, in bytes.
    pub(crate) fn size(&self) -> usize {
        let record = self.record.as_ref().map_or(0, |record| {
            let texts = [&record.task, &record.args, &record.trigger, &record.options];
            let others = [&record.name, &record.declared, &record.paused_by];
            texts.iter().map(|text| text.len()).sum::<usize>()
                + others.into_iter().flatten().map(String::len).sum::<usize>()
                + record.tags.iter().map(String::len).sum::<usize>()
                + record.extra.len()
        });
        ROW_SIZE + record + self.rows.len() * ROW_SIZE
    }
}

/// The result of one [`Write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteResult {
    /// The write was done, now or by an earlier attempt.
    Done,
    /// Nothing was changed: the current record is not the expected one. Contains the current
    /// record, if any.
    Lost(Option<Box<Record>>),
}
