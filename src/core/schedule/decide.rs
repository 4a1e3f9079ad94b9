//! The fates of fire times that came due: coalescing, grace and jitter as pure functions.

use std::{collections::VecDeque, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    error::Error,
    job::{Coalesce, FireTimes, JobOptions, Outcome, SkipReason},
    trigger::Trigger,
};

/// The fire times of a longer stretch are not counted one by one.
const COUNT_LIMIT: u64 = 10_000;

/// The inputs that decide when a job is due.
pub(in crate::core) struct Planner<'a> {
    pub(in crate::core) trigger: &'a Trigger,
    pub(in crate::core) options: &'a JobOptions,
    /// Separates the jitter of this job from that of others.
    pub(in crate::core) seed: u64,
    /// Whether the job can run only once.
    pub(in crate::core) once: bool,
}

/// A fire time, and when it was due by the trigger and the options at the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::core) struct Due {
    pub(in crate::core) fire_time: DateTime<Utc>,
    pub(in crate::core) at: DateTime<Utc>,
}

impl Due {
    pub(in crate::core) fn shift(&mut self, by: TimeDelta) {
        let shifted = |t: DateTime<Utc>| t.checked_add_signed(by).unwrap_or(t);
        *self = Due { fire_time: shifted(self.fire_time), at: shifted(self.at) };
    }
}

/// The fates of the fire times that were due at one instant.
///
/// Together the fates cover `first ..= last`, each fire time in exactly one of them.
#[derive(Debug, PartialEq)]
pub(in crate::core) struct Plan {
    pub(in crate::core) missed: Option<FireTimes>,
    pub(in crate::core) coalesced: Option<(FireTimes, DateTime<Utc>)>,
    /// The fire time to run for now, and those to run for after it.
    pub(in crate::core) run: Option<(Due, VecDeque<Due>)>,
    /// The last of all these fire times.
    pub(in crate::core) last: DateTime<Utc>,
}

/// The next fire time, if any, or the error of the trigger.
type NextFire = Result<Option<DateTime<Utc>>, Error>;

impl Planner<'_> {
    /// Returns when a fire time is due: later by its jitter, but before the next fire time, and not
    /// after the trigger's end.
    pub(in crate::core) fn due(&self, fire_time: DateTime<Utc>) -> Due {
        Due { fire_time, at: self.due_at(fire_time) }
    }

    fn due_at(&self, fire_time: DateTime<Utc>) -> DateTime<Utc> {
        let bound = u64::try_from(self.options.jitter.as_millis()).unwrap_or(u64::MAX);
        if bound == 0 {
            return fire_time;
        }
        let hash = mix(self.seed ^ fire_time.timestamp_millis().unsigned_abs());
        // A uniform part of 0..=bound: the high half of the product.
        let part = (u128::from(hash) * (u128::from(bound) + 1)) >> 64;
        let delay = i64::try_from(part).ok().and_then(TimeDelta::try_milliseconds);
        let due = delay.and_then(|delay| fire_time.checked_add_signed(delay));
        let due = due.unwrap_or(DateTime::<Utc>::MAX_UTC);
        let due = match self.trigger.next_after(fire_time) {
            Ok(Some(next)) => due.min(next - TimeDelta::milliseconds(1)),
            _ => due,
        };
        self.trigger.end_for(fire_time).map_or(due, |end| due.min(end))
    }

    /// Returns the last fire time due at `now`, given that `first` is due.
    ///
    /// If the trigger fails, `first` counts as the only one: the error shows again at the next fire
    /// time.
    fn last_due(&self, first: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        match self.trigger.last_at_or_before(now) {
            Ok(Some(last)) if last > first => {
                if self.due_at(last) <= now {
                    last
                } else {
                    // The one before is due: jitter stays before the next fire time.
                    self.before(last).map_or(first, |last| last.max(first))
                }
            }
            _ => first,
        }
    }

    fn before(&self, fire_time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.trigger.last_at_or_before(fire_time - TimeDelta::milliseconds(1)).ok().flatten()
    }

    fn after(&self, fire_time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.trigger.next_after(fire_time).ok().flatten()
    }

    pub(in crate::core) fn stretch(&self, first: DateTime<Utc>, last: DateTime<Utc>) -> FireTimes {
        FireTimes { first, last, count: self.trigger.count(first, last, COUNT_LIMIT) }
    }

    /// Returns the fire times from `first` up to the one before `kept`, if any.
    fn stretch_before(&self, first: DateTime<Utc>, kept: DateTime<Utc>) -> Option<FireTimes> {
        (first < kept).then(|| self.stretch(first, self.before(kept).unwrap_or(first).max(first)))
    }

    /// Returns the fire times in `first ..= now`, due or not, if any.
    pub(in crate::core) fn passed(
        &self,
        first: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<FireTimes> {
        (first <= now).then(|| match self.trigger.last_at_or_before(now) {
            Ok(Some(last)) if last > first => self.stretch(first, last),
            _ => FireTimes::one(first),
        })
    }

    /// Coalesces the fire times due at `now`, of which `next` is the earliest. Returns the fire
    /// time after them as well.
    pub(in crate::core) fn plan(&self, next: Due, now: DateTime<Utc>) -> (Plan, NextFire) {
        let after = self.trigger.next_after(next.fire_time);
        match after {
            Ok(Some(second)) if second <= now => {
                let plan = self.plan_several(next, now);
                let after = self.trigger.next_after(plan.last);
                (plan, after)
            }
            // Nearly always only one is due, and then one search is enough.
            after => {
                let last = next.fire_time;
                let run = Some((next, VecDeque::new()));
                (Plan { missed: None, coalesced: None, run, last }, after)
            }
        }
    }

    fn plan_several(&self, next: Due, now: DateTime<Utc>) -> Plan {
        let first = next.fire_time;
        let last = self.last_due(first, now);
        // The options may have changed since `next` was found to be due.
        let due = |fire_time| if fire_time == first { next } else { self.due(fire_time) };
        let run = Some((due(last), VecDeque::new()));
        let mut plan = Plan { missed: None, coalesced: None, run, last };
        if first == last {
            return plan;
        }
        match self.options.coalesce {
            Coalesce::All if !self.once => {
                let (mut oldest, mut backlog) = (last, VecDeque::new());
                for _ in 1..self.options.max_catch_up {
                    if oldest <= first {
                        break;
                    }
                    backlog.push_front(due(oldest));
                    oldest = self.before(oldest).unwrap_or(first).max(first);
                }
                plan.coalesced = self.stretch_before(first, oldest).map(|early| (early, oldest));
                plan.run = Some((due(oldest), backlog));
            }
            // A job that can run only once does not catch up.
            Coalesce::Latest | Coalesce::All => {
                plan.coalesced = self.stretch_before(first, last).map(|early| (early, last));
            }
            Coalesce::Earliest => {
                let Some(kept) = self.earliest_within_grace(first, last, now) else {
                    plan.missed = Some(self.stretch(first, last));
                    plan.run = None;
                    return plan;
                };
                plan.missed = self.stretch_before(first, kept);
                plan.coalesced = self
                    .after(kept)
                    .filter(|&next| next <= last)
                    .map(|next| (self.stretch(next, last), kept));
                plan.run = Some((due(kept), VecDeque::new()));
            }
        }
        plan
    }

    /// Returns the earliest fire time in `first ..= last` that is within its grace at `now`.
    fn earliest_within_grace(
        &self,
        first: DateTime<Utc>,
        last: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let grace = self.options.grace().map(TimeDelta::from_std);
        let Some(oldest_due) = grace.and_then(Result::ok).and_then(|g| now.checked_sub_signed(g))
        else {
            return Some(first);
        };
        // Fire times are due no earlier than themselves, and before the next one. So only the
        // jitter of the last one not later than `oldest_due` matters.
        let kept = match self.trigger.last_at_or_before(oldest_due) {
            Ok(Some(t)) if t >= first && self.due_at(t) >= oldest_due => Some(t),
            Ok(Some(t)) if t >= first => self.after(t),
            _ => Some(first),
        };
        kept.filter(|&kept| kept <= last)
    }
}

/// Coalesces claimed fire times that are due at `now`, as [`Planner::plan`] coalesces those of a
/// trigger.
pub(in crate::core) fn coalesce(
    options: &JobOptions,
    mut due: VecDeque<Due>,
    now: DateTime<Utc>,
) -> Option<Plan> {
    let last = due.back()?.fire_time;
    let stretch = |due: &VecDeque<Due>| {
        let (first, last) = (due.front()?.fire_time, due.back()?.fire_time);
        Some(FireTimes { first, last, count: due.len() as u64 })
    };
    let mut plan = Plan { missed: None, coalesced: None, run: None, last };
    match options.coalesce {
        Coalesce::All | Coalesce::Latest => {
            let kept = match options.coalesce {
                Coalesce::All => options.max_catch_up as usize,
                _ => 1,
            };
            let mut backlog = due.split_off(due.len().saturating_sub(kept));
            let run = backlog.pop_front()?;
            plan.coalesced = stretch(&due).map(|early| (early, run.fire_time));
            plan.run = Some((run, backlog));
        }
        Coalesce::Earliest => {
            let grace = options.grace().and_then(|g| TimeDelta::from_std(g).ok());
            let in_time = |due: &Due| grace.is_none_or(|grace| now - due.at <= grace);
            let mut kept = due.split_off(due.iter().position(in_time).unwrap_or(due.len()));
            plan.missed = stretch(&due);
            if let Some(run) = kept.pop_front() {
                plan.coalesced = stretch(&kept).map(|late| (late, run.fire_time));
                plan.run = Some((run, VecDeque::new()));
            }
        }
    }
    Some(plan)
}

/// The state of a run at the instant when it would start.
pub(crate) struct Candidate {
    /// Why the job's runs are called off, if they are.
    pub(crate) standing: Option<SkipReason>,
    pub(crate) on_request: bool,
    pub(crate) attempt: u32,
    /// Whether the run is cancelled.
    pub(crate) cancelled: bool,
    pub(crate) late_by: Duration,
    pub(crate) grace: Option<Duration>,
    /// Whether the node trusts its lease; true for a job in memory.
    pub(crate) trusted: bool,
    /// Whether the lease has lapsed since the run was handed over.
    pub(crate) distrusted: bool,
    /// Whether the store has expired the node since the run was handed over.
    pub(crate) lost: bool,
}

/// Whether a run starts.
#[derive(Debug)]
pub(crate) enum Verdict {
    Start,
    /// The run ends with this outcome instead.
    Refuse(Outcome),
    /// Another node may have claimed the row.
    PutBack,
}

impl Candidate {
    /// Judges the run. Requested runs and later attempts are exempt from grace and from pausing; a
    /// run that was cancelled between two attempts is not called again.
    pub(crate) fn judge(&self) -> Verdict {
        let exempt = self.on_request || self.attempt > 1;
        match refusal(self.standing, exempt, self.late_by, self.grace) {
            _ if self.lost => Verdict::Refuse(Outcome::Abandoned),
            Some(outcome) => Verdict::Refuse(outcome),
            None if self.distrusted => Verdict::PutBack,
            // The job continues: the run gives way to a later run.
            None if self.attempt > 1 && self.cancelled => {
                Verdict::Refuse(Outcome::Skipped(SkipReason::Superseded))
            }
            None if !self.trusted => Verdict::PutBack,
            None => Verdict::Start,
        }
    }
}

/// Returns why a run must not start, or `None` if it may.
pub(in crate::core) fn refusal(
    standing: Option<SkipReason>,
    exempt: bool,
    late_by: Duration,
    grace: Option<Duration>,
) -> Option<Outcome> {
    match standing {
        Some(SkipReason::Paused) if exempt => None,
        Some(reason) => Some(Outcome::Skipped(reason)),
        None if !exempt && grace.is_some_and(|grace| late_by > grace) => Some(Outcome::Missed),
        None => None,
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014).
pub(crate) fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
