//! The verbs on durable jobs, without I/O: compare and swap, until no other change comes in
//! between.
//!
//! A lost response does not cause a second action: a repeated write has the same token, and the
//! incarnation is fixed once it is known. A job that took over the id is another job, and left
//! unchanged.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    core::{
        Core, Definition, Payload, StoreKey,
        change::{self, Change},
    },
    error::Error,
    event::EventPayload,
    job::{End, JobId, OnConflict},
    ledger::{
        Action, Fate, Incarnation, Record, RecordChange, RecordStatus, RowKind, RowState, Write,
        WriteResult,
    },
    trigger::Kind,
};

/// The wait before an unavailable operation is retried for the first time; doubled for each retry,
/// up to [`LONGEST_RETRY`].
pub(crate) const FIRST_RETRY: Duration = Duration::from_millis(20);

/// The longest wait between two tries of an operation.
pub(crate) const LONGEST_RETRY: Duration = Duration::from_millis(500);

/// How often an operation is retried.
pub(crate) const RETRIES: u32 = 5;

/// A change of a durable job in progress.
pub(crate) struct Update {
    id: JobId,
    /// The incarnation to change; until one is found, any incarnation with the id.
    incarnation: Option<Incarnation>,
    action: Option<Action>,
    /// The record as last read.
    current: Option<Record>,
    /// The record as written.
    written: Option<Record>,
    /// The record as it is, if it was changed again before the response to the write came.
    latest: Option<Record>,
    /// How the job ends by the write.
    fate: Option<Fate>,
}

/// The next step of an [`Update`].
pub(crate) enum Step {
    /// Read the record of the id, for [`Update::found`].
    Read,
    /// Change this record, for [`Update::changed`].
    Change(Box<Record>),
    /// Write this, for [`Update::written`].
    Write(Box<Write>),
    /// Read the record of the id, for [`Update::read_again`].
    ReadAgain,
    /// Read how this version ended, for [`Update::ended`].
    ReadEnd(JobId, Incarnation, u64),
    Done(Box<Updated>),
    /// The job does not exist. `Some` if an incarnation was given or found, and is gone.
    Missing(Option<Incarnation>),
}

/// The record that an update found, and the changed record; `None` if it is removed.
pub(crate) struct Updated {
    pub(crate) old: Record,
    pub(crate) new: Option<Record>,
    /// The record as it is, if it was changed again meanwhile.
    pub(crate) latest: Option<Record>,
}

impl Update {
    /// Begins with [`Step::Read`]. `action` is logged with the write.
    pub(crate) fn new(
        id: JobId,
        incarnation: Option<Incarnation>,
        action: Option<Action>,
    ) -> Update {
        Update { id, incarnation, action, current: None, written: None, latest: None, fate: None }
    }

    pub(crate) fn found(&mut self, record: Option<Record>) -> Step {
        let is_meant = |record: &Record| {
            record.ended_at.is_none() && self.incarnation.is_none_or(|it| it == record.incarnation)
        };
        match record.filter(is_meant) {
            Some(record) => {
                self.incarnation = Some(record.incarnation);
                self.go_on(record)
            }
            None => Step::Missing(self.incarnation),
        }
    }

    fn go_on(&mut self, record: Record) -> Step {
        let step = Step::Change(Box::new(record.clone()));
        self.current = Some(record);
        step
    }

    /// Continues with the changed record, or with `None` if there is nothing to do. `token`
    /// identifies this write.
    pub(crate) fn changed(&mut self, change: Option<Change>, token: u64) -> Step {
        let Some(current) = &self.current else { return Step::Read };
        let Some(Change { record, rows }) = change else {
            let (old, new) = (current.clone(), Some(current.clone()));
            return Step::Done(Box::new(Updated { old, new, latest: None }));
        };
        self.fate = rows.iter().find_map(|row| match &row.state {
            RowState::Closed(fate) if row.key.kind == RowKind::Ended => Some(fate.clone()),
            _ => None,
        });
        let version = current.version.wrapping_add(1);
        self.written = record.clone().map(|record| Record { version, ..record });
        let (id, expected) = (self.id.clone(), Some(current.stamp()));
        let action = self.action.clone();
        Step::Write(Box::new(Write { id, expected, record, rows, token, action }))
    }

    /// Continues after the write. `repeated` says that its first response was lost: the write may be
    /// older than other changes.
    pub(crate) fn written(&mut self, written: WriteResult, repeated: bool) -> Step {
        let Some(current) = &self.current else { return Step::Read };
        match written {
            WriteResult::Done if repeated && self.written.is_some() => Step::ReadAgain,
            WriteResult::Done => self.done(),
            WriteResult::Lost(Some(now)) if change::is_same_job(current, &now) => self.go_on(*now),
            // If a response was lost, the removal may have been this one.
            WriteResult::Lost(_) if self.written.is_none() => {
                Step::ReadEnd(self.id.clone(), current.incarnation, current.version)
            }
            WriteResult::Lost(_) => Step::Missing(self.incarnation),
        }
    }

    /// Continues with the record as it is.
    pub(crate) fn read_again(&mut self, record: Option<Record>) -> Step {
        let is_later = |record: &Record| {
            self.written.as_ref().is_some_and(|written| {
                record.incarnation == written.incarnation && record.version > written.version
            })
        };
        self.latest = record.filter(is_later);
        self.done()
    }

    pub(crate) fn ended(&self, changes: Vec<RecordChange>) -> Step {
        let fate = changes.into_iter().find_map(|change| match change.status {
            RecordStatus::Removed(fate) => fate,
            RecordStatus::Updated(_) => None,
        });
        if self.fate.is_some() && fate == self.fate {
            self.done()
        } else {
            Step::Missing(self.incarnation)
        }
    }

    fn done(&self) -> Step {
        let (new, latest) = (self.written.clone(), self.latest.clone());
        let updated = self.current.clone().map(|old| Box::new(Updated { old, new, latest }));
        updated.map_or(Step::Read, Step::Done)
    }
}

/// A job that is being added to a store.
#[derive(Clone)]
pub(crate) struct Addition {
    /// The record as declared.
    pub(crate) declared: Record,
    /// The record in the end.
    pub(crate) record: Record,
    /// The write that adds or changes the job; `None` if an existing job stays as it is.
    pub(crate) write: Option<Write>,
    /// The job that is changed or replaced.
    pub(crate) current: Option<Record>,
    pub(crate) on_conflict: OnConflict,
    /// Whether the write is done.
    pub(crate) is_written: bool,
}

impl Addition {
    pub(crate) fn new(record: Record, token: u64, on_conflict: OnConflict) -> Addition {
        let (declared, write) = (record.clone(), Some(Write::add(record.clone(), token)));
        Addition { declared, record, write, current: None, on_conflict, is_written: false }
    }

    /// Returns the write that is still to be done.
    pub(crate) fn open_write(&self) -> Option<&Write> {
        self.write.as_ref().filter(|_| !self.is_written)
    }

    /// Accepts the result of the write. `now` is the time of the store's clock, at which an
    /// existing job with the id is changed or replaced.
    pub(crate) fn written(
        &mut self,
        written: WriteResult,
        now: impl FnOnce() -> DateTime<Utc>,
    ) -> Result<(), Error> {
        let current = match written {
            WriteResult::Done => {
                self.is_written = true;
                return Ok(());
            }
            WriteResult::Lost(current) => current,
        };
        let Some(write) = &mut self.write else { return Ok(()) };
        let there = current.as_deref();
        if change::give_way(&self.declared, write, there, self.on_conflict, now())? {
            if let Some(record) = &write.record {
                self.record.clone_from(record);
            }
            self.current = current.map(|current| *current);
        } else if let Some(current) = current {
            (self.record, self.write) = (*current, None);
        }
        Ok(())
    }

    /// Whether the addition became a job of its own, rather than a change of an existing one.
    pub(crate) fn is_new(&self) -> bool {
        self.record.incarnation == self.declared.incarnation
    }
}

impl<P: Payload> Core<P> {
    /// Updates the claims of a job to its record, and has the node claim its next fire time.
    pub(crate) fn follow(
        &mut self,
        store: StoreKey,
        record: &Record,
        payload: Option<P>,
        note: Option<EventPayload>,
        now: DateTime<Utc>,
    ) {
        self.adopt(store, record, payload, now);
        self.note_due(store, record.next_fire.filter(|_| !record.paused));
        if let Some(note) = note {
            self.note_in(store, now, note);
        }
    }

    /// Like [`follow`](Self::follow), after a run was requested, which is due at once.
    pub(crate) fn follow_request(&mut self, store: StoreKey, record: &Record, now: DateTime<Utc>) {
        self.adopt(store, record, None, now);
        let due = self.store_now(store);
        self.note_due(store, Some(due));
    }

    /// Accounts for a job that was added to a store, in the place of `replaced` if there was one.
    /// `has_changed` says that another writer has changed the job since.
    pub(crate) fn added_to_store(
        &mut self,
        store: StoreKey,
        record: &Record,
        replaced: Option<&Record>,
        has_changed: bool,
        now: DateTime<Utc>,
    ) {
        // A job that was over was not replaced.
        if let Some(replaced) = replaced.filter(|replaced| replaced.ended_at.is_none()) {
            self.removed_from_store(store, replaced, &End::Replaced, now);
        }
        if has_changed {
            self.refresh(store);
        }
        let (job, next_fire) = (record.id.clone(), next_fire_of(record));
        self.note_in(store, now, EventPayload::JobAdded { job, next_fire });
        self.note_due(store, next_fire);
    }

    /// Accounts for an addition that kept an existing job: unchanged, or changed from `old`.
    pub(crate) fn kept_in_store(
        &mut self,
        store: StoreKey,
        record: &Record,
        old: Option<&Record>,
        payload: Option<P>,
        now: DateTime<Utc>,
    ) {
        self.adopt(store, record, payload, now);
        if old.is_some_and(|old| old.declared != record.declared) {
            self.note_in(store, now, modified(record));
            self.note_due(store, record.next_fire.filter(|_| !record.paused));
            self.refresh(store);
        }
    }

    /// Accounts for a job that was removed from a store, or replaced: its claims on this node go,
    /// too.
    pub(crate) fn removed_from_store(
        &mut self,
        store: StoreKey,
        record: &Record,
        end: &End,
        now: DateTime<Utc>,
    ) {
        if !self.has_claimed(store, record.incarnation) {
            let (job, end) = (record.id.clone(), end.clone());
            self.note_in(store, now, EventPayload::JobRemoved { job, end });
        }
        self.forget(store, record.incarnation, end, now);
    }
}

/// Returns the event of a durable job that was modified.
pub(crate) fn modified(record: &Record) -> EventPayload {
    EventPayload::JobModified { job: record.id.clone(), next_fire: next_fire_of(record) }
}

/// Returns the next fire time of a durable job, unless the job is paused.
pub(crate) fn next_fire_of(record: &Record) -> Option<DateTime<Utc>> {
    let next = record.next_fire.filter(|_| !record.paused)?;
    // Fire times that passed while the job was paused are skipped when a scheduler claims them.
    let Some(resumed) = record.resumed_at.filter(|&resumed| next < resumed) else {
        return Some(next);
    };
    let trigger = Definition::read(record).ok()?.trigger;
    match trigger.kind() {
        Kind::Date(_) => Some(next),
        _ => trigger.next_after(resumed - TimeDelta::milliseconds(1)).ok().flatten(),
    }
}
