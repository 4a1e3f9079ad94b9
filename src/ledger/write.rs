//! The change of a record, compared and swapped.

use super::{Action, ROW_SIZE, Record, Row, Stamp};
use crate::job::JobId;

/// One change of a record: see [`Store::write`](crate::store::Store::write).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Write {
    /// The record's id.
    pub id: JobId,
    /// What the record must be for the change to be made; `None` if there must be none.
    pub expected: Option<Stamp>,
    /// What it becomes; `None` removes it.
    pub record: Option<Record>,
    /// Closed rows, for fire times that the change passes over, and a waiting one for a run that is
    /// asked for.
    pub rows: Vec<Row>,
    /// Tells this write from all others, for when it is asked again: a random number of 63 bits.
    pub token: u64,
    /// What goes into the action log with it, if anything.
    pub action: Option<Action>,
}

impl Write {
    /// Adds a record, whose id must be free.
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

    /// Sets the record that bears this stamp to another, maybe of another incarnation.
    pub fn change(expected: Stamp, record: Record, token: u64) -> Write {
        Write { expected: Some(expected), ..Write::add(record, token) }
    }

    /// Removes the record that bears this stamp.
    pub fn remove(id: JobId, expected: Stamp, token: u64) -> Write {
        Write { id, expected: Some(expected), record: None, rows: Vec::new(), token, action: None }
    }

    /// The same write, with these rows.
    #[must_use]
    pub fn with_rows(self, rows: Vec<Row>) -> Write {
        Write { rows, ..self }
    }

    /// The same write, with this for the action log.
    #[must_use]
    pub fn with_action(self, action: Option<Action>) -> Write {
        Write { action, ..self }
    }
}

impl Write {
    /// About how many bytes it commits.
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

/// What came of one [`Write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteResult {
    /// It was done, now or when it was asked for before.
    Done,
    /// Nothing was: the write expected something else than this, the record as it is.
    Lost(Option<Box<Record>>),
}
