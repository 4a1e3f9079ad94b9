//! Attempts: a failed run backs off, and its work is called again.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Phase, RunResult};
use crate::{
    core::{Core, Payload},
    event::{EventKind, EventPayload},
};

impl<P: Payload> Core<P> {
    /// Has a run back off after a failed attempt.
    pub(super) fn back_off(
        &mut self,
        run: u32,
        mut finish: RunResult,
        delay: Duration,
        now: DateTime<Utc>,
    ) {
        let active = &mut self.runs.active[run];
        let slot = active.job;
        let job = &self.registry[slot];
        self.runs.metrics.retried += 1;
        // Only the first attempt counts as late.
        finish.late_by = active.last.as_ref().map_or(finish.late_by, |last| last.late_by);
        let record = || active.record(job.id(self.registry.common(), slot), &finish);
        let store = || self.durable.name(job.store());
        self.effects.emit_in(now, EventKind::Retrying, store, || EventPayload::Retrying {
            run: record(),
            delay,
        });
        active.attempt += 1;
        if let Some(last) = active.last.replace(Box::new(finish)) {
            self.effects.discard_result(*last);
        }
        self.wait_to_retry(run, now, delay);
    }

    /// Has a run wait for its next attempt, and frees its slots of executor and group.
    pub(super) fn wait_to_retry(&mut self, run: u32, now: DateTime<Utc>, delay: Duration) {
        let delay = TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX);
        let at = now.checked_add_signed(delay).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let active = &mut self.runs.active[run];
        let slot = active.job;
        active.phase = Phase::BackingOff(at);
        let slots = std::mem::take(&mut active.slots);
        let retry_at = &mut self.registry[slot].extras().runs.retry_at;
        *retry_at = Some(retry_at.map_or(at, |earliest| earliest.min(at)));
        self.mark(slot);
        self.free_slots(slots);
    }

    /// Starts the next attempts that are due.
    pub(in crate::core) fn retry_due(&mut self, slot: u32, now: DateTime<Utc>) {
        let retry_at = self.registry[slot].extras.as_ref().and_then(|extras| extras.runs.retry_at);
        if retry_at.is_none_or(|at| at > now) {
            return;
        }
        let mut earliest: Option<DateTime<Utc>> = None;
        for run in self.runs_of(slot) {
            match self.runs.active[run].phase {
                Phase::BackingOff(at) if at <= now => self.try_start(run),
                Phase::BackingOff(at) => {
                    earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
                }
                _ => {}
            }
        }
        self.registry[slot].extras().runs.retry_at = earliest;
    }

    /// Moves instants of elapsed time with the clock: those of next attempts and of requested runs.
    pub(in crate::core) fn shift_retries(&mut self, slot: u32, by: TimeDelta) {
        let Some(extras) = &mut self.registry[slot].extras else { return };
        if let Some(again) = &mut extras.again {
            *again = again.checked_add_signed(by).unwrap_or(*again);
        }
        let Some(retry_at) = &mut extras.runs.retry_at else { return };
        *retry_at = retry_at.checked_add_signed(by).unwrap_or(*retry_at);
        for run in self.runs_of(slot) {
            if let Phase::BackingOff(at) = &mut self.runs.active[run].phase {
                *at = at.checked_add_signed(by).unwrap_or(*at);
            }
        }
    }
}
