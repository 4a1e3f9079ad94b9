//! The end of a job, and the rows that its incarnation leaves.

use chrono::{DateTime, Utc};

use super::{
    super::{Fate, Incarnation, Record, Row, RowState},
    Cell,
};
use crate::job::SkipReason;

impl Cell {
    /// Ends the given incarnation if it is the current one, and has neither a fire time nor an open
    /// row left.
    ///
    /// Returns whether the job has ended.
    pub(super) fn end_if_over(
        &mut self,
        incarnation: Incarnation,
        fate: Fate,
        now: DateTime<Utc>,
    ) -> bool {
        let is_over = self.is_living(incarnation)
            && self.living().is_some_and(|record| record.next_fire.is_none())
            && self.waiting.of(incarnation).len() == 0
            && self.claimed.of(incarnation).len() == 0;
        let Some(record) = self.record.take_if(|_| is_over) else {
            return false;
        };
        let end = Row::ended(&record, fate, now);
        if self.row(end.key).is_none() {
            self.put(end, 0);
        }
        if record.remember {
            let version = record.version.wrapping_add(1);
            self.record = Some(Record { version, ended_at: Some(now), ..record });
        } else {
            self.archived.forget_record();
        }
        true
    }

    /// Removes the record of a removed or replaced job, and closes its waiting rows.
    pub(super) fn take_out(&mut self, reason: SkipReason, now: DateTime<Utc>) {
        let Some(record) = self.record.take() else {
            return;
        };
        let waiting: Vec<Row> = self.waiting.of(record.incarnation).cloned().collect();
        for row in waiting {
            let fate = Fate::called_off(reason, row.attempt);
            self.close(row, fate, now);
        }
        self.archived.forget_record();
    }

    /// Closes a row and returns it.
    pub(super) fn close(&mut self, row: Row, fate: Fate, now: DateTime<Utc>) -> Row {
        let row = Row { state: RowState::Closed(fate), ended_at: Some(now), ..row };
        self.put(row.clone(), 0);
        row
    }
}
