//! Corrections of the clock: steps of the wall clock, and new rules of time zones.

use chrono::{DateTime, TimeDelta, Utc};

use super::{correct, decide};
use crate::{
    core::{Core, Payload},
    event::EventPayload,
    zone::TimeZoneData,
};

impl<P: Payload> Core<P> {
    /// Sets the longest step back of the wall clock after which jobs wait until the clock has
    /// caught up.
    pub(crate) fn correct_clocks_after(&mut self, longest: TimeDelta) {
        self.correction = longest;
    }

    /// Accounts for a step of the wall clock against elapsed time.
    pub(crate) fn clock_stepped(&mut self, by: TimeDelta, now: DateTime<Utc>) {
        // Durable jobs follow the store's clock, which may not have stepped.
        for store in self.durable.keys() {
            if let Some(moved) = self.durable.clock_stepped(store, by) {
                self.shift_claims(store, -moved);
            }
        }
        self.effects.poll_stores();
        let corrected = -by > self.correction;
        for slot in self.registry.live_slots() {
            // A job that ended has taken its followers along.
            if self.registry.get(slot).is_none() {
                continue;
            }
            self.shift_retries(slot, by);
            let job = &mut self.registry[slot];
            if job.timing.elapsed {
                let next = job.timing.next.filter(|_| !job.trigger.moves_as_a_whole());
                let left = next.and_then(|next| job.trigger.left(next.fire_time));
                // Each fire time stays as far away as before the step, with the same jitter.
                job.trigger.shift(by);
                let before = now.checked_sub_signed(by).unwrap_or(now);
                if let Some(next) = next.filter(|next| next.fire_time > now.min(before)) {
                    // Some members of the trigger moved and some did not. Nothing may fire twice,
                    // so after a step back the trigger continues where it was, unless the step was
                    // a correction. Fire times that a step forward has passed are due.
                    let from = if corrected { now } else { before.max(next.fire_time.min(now)) };
                    if corrected {
                        job.trigger.correct_members(next.fire_time, now);
                    }
                    let first = job.trigger.go_on(left, from).ok().flatten();
                    let planner = self.registry.planner(slot);
                    let next = first.map_or(next, |first| planner.due(first));
                    self.registry[slot].timing.next = Some(next);
                    self.mark(slot);
                    continue;
                }
                if let Some(next) = &mut job.timing.next {
                    next.shift(by);
                }
                // The end is an instant and does not move.
                let end = job.trigger.end();
                let is_past_end =
                    job.timing.next.is_some_and(|next| end.is_some_and(|end| next.fire_time > end));
                if is_past_end {
                    job.timing.next = None;
                }
                for due in job.extras.iter_mut().flat_map(|extras| extras.waiting()) {
                    due.shift(by);
                }
                let incarnation = job.incarnation;
                for run in self.runs_of(slot) {
                    self.runs.shift_waiting(run, by, incarnation);
                }
                if is_past_end {
                    self.mark(slot);
                    self.end_if_over(slot, now);
                    continue;
                }
            } else if corrected && !job.is_durable() {
                self.correct_next(slot, by, now);
            }
            self.mark(slot);
        }
        self.note(now, EventPayload::ClockStepped { by, corrected });
    }

    /// Continues a wall-clock job from now, although it has fired at later instants, which never
    /// were. A trigger with a limited number of fire times has as many left as before.
    pub(in crate::core) fn correct_next(&mut self, slot: u32, by: TimeDelta, now: DateTime<Utc>) {
        let job = &mut self.registry[slot];
        for carried in job.carried_mut() {
            // The jitter stays as long as before.
            carried.at = carried.at.checked_add_signed(by).unwrap_or(now);
        }
        let Some(next) = job.timing.next.filter(|next| next.fire_time > now) else { return };
        let before = now.checked_sub_signed(by).unwrap_or(now);
        // The fire time waits for its jitter or for the scheduler to be resumed.
        let has_come = next.fire_time <= before;
        let used = TimeDelta::milliseconds(i64::from(has_come));
        let used_to = next.fire_time.checked_add_signed(used).unwrap_or(next.fire_time);
        let first = match job.trigger.corrected(used_to, now) {
            Ok(None) if has_come => job.trigger.next_after(next.fire_time).ok().flatten(),
            Ok(Some(first)) => Some(first),
            _ => return,
        };
        if has_come {
            job.carry(decide::Due { at: next.at.checked_add_signed(by).unwrap_or(now), ..next });
        }
        self.set_next(slot, first);
    }

    /// Applies new rules of time zones to later fire times. Fire times that are due or claimed
    /// stay.
    pub(crate) fn time_zones_updated(&mut self, data: TimeZoneData, now: DateTime<Utc>) {
        for slot in self.registry.live_slots() {
            // A job that ended may have ended its followers.
            let Some(job) = self.registry.get_mut(slot).filter(|job| !job.is_durable()) else {
                continue;
            };
            job.trigger.recount();
            let Some(next) = job.timing.next.filter(|next| next.fire_time > now) else { continue };
            if let Some(next) = correct::rezoned(&job.trigger, next.fire_time, now).transpose() {
                self.go_on(slot, next, now);
                self.end_if_over(slot, now);
            }
        }
        if self.durable.search_for_corrections() {
            self.effects.poll_stores();
        }
        self.note(now, EventPayload::TimeZonesUpdated { data });
    }

    /// Has the driver look up every job's wake-up again, since the clock was moved.
    pub(crate) fn rearm_all(&mut self) {
        for slot in self.registry.live_slots() {
            self.mark(slot);
        }
    }
}
