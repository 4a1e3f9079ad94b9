//! When a node claims next.

use chrono::{DateTime, TimeDelta, Utc};

use super::Now;

/// The wait between a claim that left jobs out and the next one, so that other operations get a
/// turn.
pub(super) const SCAN_AGAIN: TimeDelta = TimeDelta::milliseconds(5);

/// When to claim next, in elapsed time.
pub(super) struct NextClaim {
    /// The instant from the store's last reply.
    store_next_due: TimeDelta,
    /// The instant that the node knows itself.
    local_next_due: TimeDelta,
    /// How many claims in a row found nothing although something was due.
    empty_claims: u32,
    /// The earliest next claim after an empty one.
    retry_at: TimeDelta,
    /// How long before a fire time is due it is claimed: later than possible, so that claims come
    /// in batches.
    lead: TimeDelta,
}

impl NextClaim {
    pub(super) fn new(claim_ahead: TimeDelta) -> NextClaim {
        NextClaim {
            store_next_due: TimeDelta::MAX,
            local_next_due: TimeDelta::MIN,
            empty_claims: 0,
            retry_at: TimeDelta::MIN,
            lead: claim_ahead / 2,
        }
    }

    pub(super) fn at(&self) -> TimeDelta {
        self.store_next_due.min(self.local_next_due)
    }

    /// Claims at `at`, or sooner if a sooner claim is planned.
    pub(super) fn no_later_than(&mut self, at: TimeDelta) {
        self.local_next_due = self.local_next_due.min(at);
    }

    /// Claims at `at`, unless the store has replied that a fire time is due sooner.
    pub(super) fn set_local_due(&mut self, at: TimeDelta) {
        self.local_next_due = at;
    }

    /// Claims in time for a fire time that comes due at `instant` by the store's clock.
    pub(super) fn note_due(&mut self, instant: DateTime<Utc>, now: Now) {
        let wait = instant - now.store - self.lead;
        self.no_later_than(now.elapsed() + wait.max(TimeDelta::zero()));
    }

    /// Forgets the planned claims, since the claim that is being sent returns the next one.
    pub(super) fn forget(&mut self) {
        (self.store_next_due, self.local_next_due) = (TimeDelta::MAX, TimeDelta::MAX);
    }

    /// Sets the next due instant of the store.
    pub(super) fn set(&mut self, due: Option<DateTime<Utc>>, now: Now) {
        let Some(due) = due else {
            self.store_next_due = TimeDelta::MAX;
            return;
        };
        let ahead = (due - now.store).max(TimeDelta::zero());
        let wait = (ahead - self.lead).max(TimeDelta::zero());
        self.store_next_due = now.elapsed() + wait;
        if self.empty_claims > 0 && wait.is_zero() {
            let at = self.retry_at.max(now.elapsed());
            self.store_next_due = if ahead.is_zero() { at } else { at.min(now.elapsed() + ahead) };
        }
    }

    /// Counts empty claims in a row, and waits longer after each: another node was faster, or has
    /// claimed the due jobs.
    pub(super) fn count(&mut self, is_empty: bool, now: Now) {
        self.empty_claims = if is_empty { self.empty_claims.saturating_add(1) } else { 0 };
        if is_empty {
            let wait = TimeDelta::milliseconds(20) * (1 << self.empty_claims.min(6));
            self.retry_at = now.elapsed() + wait;
        }
    }
}
