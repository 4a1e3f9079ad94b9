//! What writes do, given the current records and the keys that the ledger has.
//!
//! It knows no database: a store locks the records of the ids, then reads the [`keys`], and then
//! carries out the [`Batch`] in the same commit.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use crate::{
    job::{JobId, SkipReason},
    store::{
        Fate, Incarnation, LoggedAction, Record, Row, RowKey, RowKind, RowState, StoreChange,
        Tokens, Write, WriteResult,
    },
};

/// How many rows of a job are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OpenRows {
    pub(super) claimed: i32,
    pub(super) waiting: i32,
    /// Those of the waiting rows that are requested runs.
    pub(super) asked: i32,
}

/// A record as it is, including one that is kept only as a remembered end.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) record: Record,
    pub(super) open: OpenRows,
}

/// What a store has to do.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// One result per write.
    pub(super) results: Vec<WriteResult>,
    /// The records to delete; their waiting rows are to be [closed](Fate::called_off).
    pub(super) gone: Vec<(Incarnation, SkipReason)>,
    /// New records, after the deletions.
    pub(super) inserted: Vec<(Record, OpenRows)>,
    /// Records that stay, with their new contents and counts.
    pub(super) updated: Vec<(Record, OpenRows)>,
    /// New rows, waiting and closed ones.
    pub(super) rows: Vec<Row>,
    pub(super) actions: Vec<LoggedAction>,
    /// The changes to report after the commit.
    pub(super) changes: Vec<StoreChange>,
}

impl Batch {
    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.inserted.is_empty() && self.updated.is_empty()
    }
}

/// The keys that a write asks the ledger for.
pub(super) fn keys(write: &Write) -> impl Iterator<Item = RowKey> + '_ {
    let new = write.record.as_ref().map(|record| RowKey::end_of(record.incarnation));
    write.rows.iter().map(|row| row.key).chain(new)
}

/// Decides writes, given the records that now have their ids, and those of their [`keys`] that the
/// ledger has.
pub(super) fn decide(
    writes: Vec<Write>,
    known: &HashMap<JobId, Known>,
    keys: &HashSet<RowKey>,
    now: DateTime<Utc>,
) -> Batch {
    let mut batch = Batch::default();
    for write in writes {
        let known = known.get(&write.id);
        let result = answer(&write, known, keys);
        if result.is_none() {
            batch.add(write, known, keys, now);
        }
        batch.results.push(result.unwrap_or(WriteResult::Done));
    }
    batch
}

/// The result of a write that changes nothing, since it was done before or is lost.
fn answer(write: &Write, known: Option<&Known>, keys: &HashSet<RowKey>) -> Option<WriteResult> {
    let current = known.map(|known| &known.record);
    let before = write.expected.map(|expected| expected.incarnation);
    let after = write.record.as_ref().map(|record| record.incarnation);
    let has_ended =
        after.filter(|_| after != before).is_some_and(|adds| keys.contains(&RowKey::end_of(adds)));
    if has_ended || current.is_some_and(|current| current.tokens.contains(write.token)) {
        return Some(WriteResult::Done);
    }
    let is_lost = current.map(Record::stamp) != write.expected;
    is_lost.then(|| WriteResult::Lost(current.cloned().map(Box::new)))
}

impl Batch {
    fn add(
        &mut self,
        write: Write,
        known: Option<&Known>,
        keys: &HashSet<RowKey>,
        now: DateTime<Utc>,
    ) {
        let Write { id, expected, record, rows, token, action } = write;
        let before = expected.map(|expected| expected.incarnation);
        let after = record.as_ref().map(|record| record.incarnation);
        let gone = before.filter(|_| after != before);
        let reason = if after.is_some() { SkipReason::Replaced } else { SkipReason::Removed };
        let stays = known.filter(|_| gone.is_none());
        let waits = rows.iter().any(|row| row.state == RowState::Waiting);
        let was_paused = known.is_some_and(|known| known.record.paused);

        let mut open = stays.map_or(OpenRows::default(), |known| known.open);
        let mut added = HashSet::new();
        let is_new = |row: &Row| !keys.contains(&row.key) && added.insert(row.key);
        for mut row in rows.into_iter().filter(is_new) {
            if row.state == RowState::Waiting && Some(row.key.incarnation) != after {
                let fate = Fate::called_off(reason, row.attempt);
                row = Row { state: RowState::Closed(fate), ended_at: Some(now), ..row };
            }
            if Some(row.key.incarnation) == after {
                open.count(&row);
            }
            self.rows.push(row);
        }
        self.gone.extend(gone.map(|gone| (gone, reason)));
        if let Some((action, of)) = action.zip(after.or(before)) {
            self.actions.push(LoggedAction::new(now, token, id, of, action));
        }

        let mut living = None;
        if let Some(record) = record {
            let (version, mut tokens) = stays.map_or((0, Tokens::default()), |known| {
                (known.record.version, known.record.tokens)
            });
            tokens.push(token);
            let mut version = version.wrapping_add(1);
            let is_over =
                record.remember && record.next_fire.is_none() && open == OpenRows::default();
            let mut record = Record { version, tokens, ended_at: None, ..record };
            if is_over {
                version = version.wrapping_add(1);
                let end = Row::ended(&record, Fate::Completed, now);
                if !keys.contains(&end.key) {
                    self.rows.push(end);
                }
                record = Record { version, ended_at: Some(now), ..record };
            } else {
                living = Some(record.clone());
            }
            let records = if stays.is_some() { &mut self.updated } else { &mut self.inserted };
            records.push((record, open));
        }
        // All waiting rows of a resumed job count again.
        let resumes = was_paused && living.as_ref().is_some_and(|record| !record.paused);
        let is_gone = expected
            .map(|it| it.incarnation)
            .filter(|it| living.as_ref().map(|record| record.incarnation) != Some(*it));
        self.changes.extend(StoreChange::of_write(is_gone, living.as_ref(), waits || resumes));
    }
}

impl OpenRows {
    fn count(&mut self, row: &Row) {
        match row.state {
            RowState::Waiting => {
                self.waiting += 1;
                self.asked += i32::from(row.key.kind == RowKind::Requested);
            }
            RowState::Claimed(_) => self.claimed += 1,
            RowState::Closed(_) => {}
        }
    }
}
