//! Changed and removed records, and their effects on the jobs here.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{Upcoming, labels_of, row_cap};
use crate::{
    core::{Core, Discarded, Job, Payload, StoreKey, ahead::Definition, shrink},
    job::{End, SkipReason},
    ledger::{Claim, Fate, Incarnation, Record},
};

impl<P: Payload> Core<P> {
    /// Updates the job here to its changed record. `payload` has the current work.
    pub(crate) fn adopt(
        &mut self,
        store: StoreKey,
        record: &Record,
        payload: Option<P>,
        now: DateTime<Utc>,
    ) {
        let unused = self.follow_record(store, record, payload, now);
        self.effects.discard_all(unused.map(Discarded::Payload));
    }

    fn follow_record(
        &mut self,
        store: StoreKey,
        record: &Record,
        payload: Option<P>,
        now: DateTime<Utc>,
    ) -> Option<P> {
        if let Some(node) = self.durable.node_mut(store) {
            node.overtake(record.incarnation, Some(record));
        }
        let Some(slot) = self.durable.slot(store, record.incarnation) else { return payload };
        let Ok(definition) = Definition::read(record) else { return payload };
        let job = &mut self.registry[slot];
        // A removed job stays removed: this may be the reply to an earlier request.
        let stays = !job.retired;
        let Some(durable) =
            job.durable_mut().filter(|durable| stays && durable.version < record.version)
        else {
            return payload;
        };
        let reworked = durable.task != record.task;
        durable.task.clone_from(&record.task);
        durable.version = record.version;
        durable.row_cap = row_cap(&definition.options);
        let rescheduled = durable.trigger != record.trigger;
        if rescheduled {
            durable.trigger.clone_from(&record.trigger);
            let old = std::mem::replace(&mut job.trigger, definition.trigger);
            self.effects.discard(Discarded::Trigger(old));
        }
        let job = &mut self.registry[slot];
        let mut unused = payload;
        if reworked && let Some(payload) = unused.take() {
            let payload = job.payload.rework(payload);
            unused = Some(std::mem::replace(&mut job.payload, payload));
        }
        let job = &mut self.registry[slot];
        job.payload.set_args(record.version, &record.args);
        job.extras().labels = labels_of(record);
        let options = Arc::new(definition.options);
        let last = job.durable().filter(|durable| durable.last);
        let open = last.map_or(0, |durable| durable.open.len());
        if let Some(old) = job.options.replace(options.clone()) {
            self.runs.limits_mut().count_claimed((store, record.incarnation), &old, 0);
            self.runs.limits_mut().leave(&old);
        }
        let limit = self.runs.limits_mut().join(&options);
        self.runs.limits_mut().count_claimed((store, record.incarnation), &options, open);
        let was_paused = std::mem::replace(&mut self.registry[slot].paused, record.paused);
        if record.paused && !was_paused {
            self.registry[slot].payload.set_standing(Some(SkipReason::Paused));
            self.skip_unstarted(slot, SkipReason::Paused, now);
        } else if was_paused && !record.paused {
            self.registry[slot].payload.set_standing(None);
        }
        if rescheduled {
            // The new trigger decides whether these rows still run.
            self.release_upcoming(slot);
        }
        if self.registry.get(slot).is_none() {
            return unused;
        }
        self.mark(slot);
        self.requeue_waiting(slot);
        self.serve_queue(slot, now);
        limit.into_iter().for_each(|limit| self.serve(limit));
        self.end_if_over(slot, now);
        unused
    }

    pub(in crate::core) fn release_upcoming(&mut self, slot: u32) {
        let Some(durable) = self.registry.get_mut(slot).and_then(|job| job.durable_mut()) else {
            return;
        };
        for Upcoming { kind, number, .. } in std::mem::take(&mut durable.upcoming) {
            self.release_row(slot, (kind, number));
        }
        self.arm_claims(slot);
    }

    /// Cancels the runs of a job that are active here.
    pub(crate) fn cancel_claimed(&mut self, store: StoreKey, incarnation: Incarnation) {
        if let Some(slot) = self.durable.slot(store, incarnation) {
            self.cancel_runs(slot);
        }
    }

    /// Handles the end of an incarnation in the store.
    pub(crate) fn forget(
        &mut self,
        store: StoreKey,
        incarnation: Incarnation,
        end: &End,
        now: DateTime<Utc>,
    ) {
        if let Some(node) = self.durable.node_mut(store) {
            node.overtake(incarnation, None);
        }
        // The job is over because none of its rows is open: other nodes have closed those that are
        // open here.
        if matches!(end, End::Completed)
            && let Some(slot) = self.durable.slot(store, incarnation)
        {
            self.lose_rows(slot, now);
        }
        match self.durable.slot(store, incarnation) {
            Some(slot) if !self.registry[slot].retired => self.retire(slot, end.clone(), now),
            Some(_) => {}
            None => self.effects.job_over(store, incarnation, end.clone()),
        }
    }

    /// Accepts that the store has acknowledged the outcomes of these rows; the jobs in `over` have
    /// ended with them.
    pub(in crate::core) fn acknowledge_rows(
        &mut self,
        store: StoreKey,
        rows: &[Claim],
        over: &[Incarnation],
        now: DateTime<Utc>,
    ) {
        for &incarnation in over {
            let slot = self.durable.slot(store, incarnation);
            let job = slot.map(|slot| &mut self.registry[slot]);
            match job.and_then(|job| job.durable().is_some().then_some(job)) {
                Some(job) => {
                    if job.payload.is_cancelled() {
                        job.extras().end.get_or_insert(End::Cancelled);
                    }
                    job.durable_mut().into_iter().for_each(|durable| durable.over = true);
                }
                None => self.effects.job_over(store, incarnation, End::Completed),
            }
        }
        for row in rows {
            let slot = self.durable.slot(store, row.key.incarnation);
            let Some(slot) = slot else { continue };
            if let Some(durable) = self.registry[slot].durable_mut() {
                durable.unacknowledged.remove(row);
            }
            self.end_if_over(slot, now);
        }
        self.deregister_idle_nodes();
    }

    /// Drops the claims of a job that leaves this node. Returns whether the job is over.
    pub(in crate::core) fn drop_claims(&mut self, job: &Job<P>) -> bool {
        let Some(durable) = job.durable() else { return true };
        if let Some(room) = self.durable.get_mut(durable.store) {
            room.claims.slots.remove(&durable.incarnation);
            shrink(&mut room.claims.slots);
            room.claims.count(durable.incarnation, durable.open.len(), 0, durable.row_cap);
        }
        if !durable.open.is_empty() {
            self.durable.note_rows_closed();
        }
        let of = (durable.store, durable.incarnation);
        self.runs.limits_mut().count_claimed(of, job.options(self.registry.common()), 0);
        job.retired || durable.over
    }
}

/// Returns how an incarnation ended that is gone from the store.
pub(in crate::core) fn end_of(fate: Option<Fate>) -> End {
    match fate {
        Some(Fate::Completed) => End::Completed,
        Some(Fate::Cancelled) => End::Cancelled,
        Some(Fate::Replaced) => End::Replaced,
        _ => End::Removed,
    }
}
