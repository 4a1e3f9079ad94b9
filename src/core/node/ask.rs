//! What a node asks, and when.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;

use super::{
    InFlight, LOOK_EVERY, LOOKED_AT, LOOKS, MAX_OPEN, Node, PRUNE_EVERY, PRUNED, ROWS_PER_JOB,
    Request, claimer, closer, delta, membership, pruner,
};
use crate::{
    clock::Reading,
    core::{
        ahead::{self, Definition},
        room::Room,
    },
    job::JobId,
    ledger::{
        ClaimRequest, Decide, Decision, Heartbeat, Incarnation, NextDue, Passed, ROW_SIZE,
        RowOutcome, Write, fitting,
    },
    panic::shielded_or,
};

impl Node {
    /// When it must be asked again what it wants.
    pub(in crate::core) fn wake_at(&self, open: usize, now: Reading) -> Option<TimeDelta> {
        if self.left {
            return None;
        }
        let mut at = Vec::new();
        let mut lane = |traffic: &InFlight, wanted: Option<TimeDelta>| {
            if traffic.sent.is_none() {
                at.extend(wanted.map(|wanted| wanted.max(traffic.not_before)));
            }
        };
        lane(&self.life, self.life_wanted());
        if self.takes_now(now) {
            lane(&self.take, self.take_wanted(open));
        }
        lane(&self.close, self.close_wanted());
        let prune = if self.looking.is_some() { TimeDelta::MIN } else { self.next_prune };
        lane(&self.prune, self.prunes().then_some(prune));
        if self.trusted {
            at.push(now.elapsed + self.lease.left(now).max(TimeDelta::zero()));
        }
        at.into_iter().min()
    }

    /// Whether it leaves and there is nothing left that it has, or is to tell.
    fn may_leave(&self) -> bool {
        let told = self.outcomes.is_empty() && self.releases.is_empty();
        // What a take has taken that was not answered would be abandoned.
        let has_all = self.take.sent.is_none() && self.taking.is_none();
        self.leaving && told && self.close.sent.is_none() && has_all
    }

    fn life_wanted(&self) -> Option<TimeDelta> {
        if self.may_leave() {
            return Some(TimeDelta::MIN);
        }
        if self.leaving {
            // Its lease must not run out while it waits.
            return self.joined.then_some(self.next_beat);
        }
        if !self.joined {
            return Some(self.next_beat);
        }
        if self.ask_nodes || self.reap || self.ask_mine || !self.unknown.is_empty() {
            return Some(TimeDelta::MIN);
        }
        Some(self.watch.next_death().map_or(self.next_beat, |death| death.min(self.next_beat)))
    }

    /// Whether there is anything that it could take.
    fn knows_tasks(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Whether more may be taken: not while the store is not told of what was.
    fn has_room(&self, open: usize) -> bool {
        open + self.outcomes.len() + self.given_up.len() < MAX_OPEN
    }

    fn takes_now(&self, now: Reading) -> bool {
        self.joined && (!self.leaving || self.taking.is_some()) && self.is_trusted(now)
    }

    fn take_wanted(&self, open: usize) -> Option<TimeDelta> {
        if self.taking.is_some() || self.ask_due && self.knows_tasks() {
            return Some(TimeDelta::MIN);
        }
        let takes = !self.paused && self.knows_tasks() && self.has_room(open);
        let take = takes.then_some(self.next_take());
        let poll = self.changes_wanted();
        Some(take.map_or(poll, |take| take.min(poll)))
    }

    fn prunes(&self) -> bool {
        self.joined && !self.leaving
    }

    fn changes_wanted(&self) -> TimeDelta {
        let looks = (self.ask_changed || !self.named.is_empty()).then_some(self.next_look);
        looks.map_or(self.next_poll, |look| look.min(self.next_poll))
    }

    fn close_wanted(&self) -> Option<TimeDelta> {
        let full = self.outcomes.len() >= self.options.max_batch.min(100);
        match self.flush_at {
            _ if !self.releases.is_empty() => Some(TimeDelta::MIN),
            Some(_) if full || self.leaving => Some(TimeDelta::MIN),
            flush_at => flush_at,
        }
    }

    /// What is to be asked now. `held` are the jobs that it holds, `open` is how many rows, and those
    /// that are `crowded` have enough of them; what is asked is answered.
    pub(in crate::core) fn poll(
        &mut self,
        now: Reading,
        open: usize,
        crowded: &HashSet<Incarnation>,
        room: impl FnOnce() -> Room,
        held: impl FnOnce(Option<&HashSet<Incarnation>>) -> Vec<(JobId, Incarnation, u64)>,
    ) -> Vec<Request> {
        if self.left {
            return Vec::new();
        }
        if !self.awaits_records() {
            // What the store knew before it is asked, its answer will show.
            self.settled.clear();
            self.overtaken.clear();
        }
        let mut asked = Vec::new();
        if self.life.is_free(now) && self.life_wanted().is_some_and(|at| at <= now.elapsed) {
            let request = self.life_request(now);
            self.life.sent = Some(now);
            asked.push(Request::Membership(request));
        }
        if self.take.is_free(now)
            && self.takes_now(now)
            && self.take_wanted(open).is_some_and(|at| at <= now.elapsed)
            && let Some(request) = self.take_request(now, open, crowded, room, held)
        {
            self.take.sent = Some(now);
            asked.push(Request::Claim(request));
        }
        if self.close.is_free(now)
            && self.close_wanted().is_some_and(|at| at <= now.elapsed)
            && let Some(request) = self.close_request(now)
        {
            self.close.sent = Some(now);
            asked.push(Request::Close(request));
        }
        if self.prune.is_free(now)
            && self.prunes()
            && let Some(request) = self.prune_request(now)
        {
            self.prune.sent = Some(now);
            asked.push(Request::Prune(request));
        }
        asked
    }

    fn prune_request(&mut self, now: Reading) -> Option<pruner::Request> {
        let prunes = now.elapsed >= self.next_prune;
        // In turns, so that neither waits for the other if the store fails in one of them.
        self.looked = self.looking.is_some() && !(prunes && self.looked);
        if self.looked
            && let Some(looking) = &mut self.looking
        {
            looking.asked = true;
            let limit = LOOKED_AT.min(self.options.max_batch);
            return Some(match looking.corrections.is_empty() {
                true => pruner::Request::List { after: looking.after.clone(), limit },
                false => {
                    let sizes = looking.corrections.iter().map(Write::size);
                    let count = fitting(sizes, self.options.max_batch, self.options.max_bytes);
                    pruner::Request::Correct(looking.corrections[..count].to_vec())
                }
            });
        }
        prunes.then(|| {
            self.next_prune = now.elapsed + PRUNE_EVERY;
            pruner::Request::Prune { keep: self.options.keep, limit: PRUNED }
        })
    }

    fn life_request(&mut self, now: Reading) -> membership::Request {
        let leaves = self.may_leave();
        let ttl = if leaves { Duration::ZERO } else { self.options.lease };
        if leaves || !self.joined || now.elapsed >= self.next_beat {
            let heartbeat = Heartbeat::new(self.id, self.options.name.clone(), !self.joined, ttl);
            let clock_offset = self.clock.map(|_| -self.ahead());
            return membership::Request::Heartbeat(Heartbeat { clock_offset, ..heartbeat });
        }
        if std::mem::take(&mut self.ask_nodes) {
            return membership::Request::Nodes;
        }
        let suspects = self.watch.suspects(now.elapsed);
        if std::mem::take(&mut self.reap) || !suspects.is_empty() {
            return membership::Request::Reap(suspects);
        }
        // All at once, since rows of one job are judged together.
        if !self.unknown.is_empty() && self.mine_after.is_none() {
            return membership::Request::Claimed { node: self.id, rows: self.unknown.clone() };
        }
        self.ask_mine = false;
        let (node, after, limit) = (self.id, self.mine_after, self.options.max_batch);
        membership::Request::ClaimedBy { node, after, limit }
    }

    fn take_request(
        &mut self,
        now: Reading,
        open: usize,
        crowded: &HashSet<Incarnation>,
        room: impl FnOnce() -> Room,
        held: impl FnOnce(Option<&HashSet<Incarnation>>) -> Vec<(JobId, Incarnation, u64)>,
    ) -> Option<claimer::Request> {
        if let Some(take) = &self.taking {
            return Some(claimer::Request::Claim(take.clone()));
        }
        if now.elapsed >= self.changes_wanted() {
            self.next_look = now.elapsed + LOOK_EVERY;
            let named = std::mem::take(&mut self.named);
            if !self.ask_changed && now.elapsed < self.next_poll {
                if !self.except.is_disjoint(&named) {
                    Arc::make_mut(&mut self.except).retain(|of| !named.contains(of));
                    self.ask_due = true;
                }
                let known = held(Some(&named));
                return Some(claimer::Request::Changed { known, named: Some(named) });
            }
            self.ask_changed = false;
            // What could not be read, or run here, may have been changed.
            if !self.except.is_empty() {
                self.except = Arc::default();
            }
            if now.elapsed >= self.next_pass {
                self.passed = Passed::default();
            }
            // Nodes that poll do not do it together.
            let part = (self.number() % 1000) as i32;
            let poll = delta(self.options.poll);
            self.next_poll = now.elapsed + poll - poll / 4000 * part;
            self.ask_due = true;
            return Some(claimer::Request::Changed { known: held(None), named: None });
        }
        if !self.knows_tasks() {
            return None;
        }
        if !self.paused && self.has_room(open) && now.elapsed >= self.next_take() {
            let take = self.new_take(now, open, crowded, room());
            self.taking = Some(take.clone());
            return Some(claimer::Request::Claim(take));
        }
        if std::mem::take(&mut self.ask_due) {
            let (tasks, except) = (self.tasks.clone(), self.left_out(crowded));
            let (node, passed) = (self.id, self.passed);
            return Some(claimer::Request::NextDue(NextDue { node, tasks, except, passed }));
        }
        None
    }

    /// The jobs of which it takes nothing now: those that it can't read, and the crowded ones.
    fn left_out(&self, crowded: &HashSet<Incarnation>) -> Arc<HashSet<Incarnation>> {
        match crowded.is_empty() {
            true => self.except.clone(),
            false => Arc::new(self.except.union(crowded).copied().collect()),
        }
    }

    fn new_take(
        &mut self,
        now: Reading,
        open: usize,
        crowded: &HashSet<Incarnation>,
        room: Room,
    ) -> ClaimRequest {
        self.takes += 1;
        self.room_again = false;
        // Until it is known when to take next.
        (self.told, self.expected) = (TimeDelta::MAX, TimeDelta::MAX);
        let store_now = self.store_now(now);
        let ahead = delta(self.options.claim_ahead);
        let horizon = store_now.checked_add_signed(ahead).unwrap_or(store_now);
        let (node, can_run, room) = (self.id, self.can_run.clone(), Mutex::new(room));
        // Each job that is claimed is a record and a row at least.
        let limit = self.limit.min(self.options.max_bytes / (2 * ROW_SIZE)).max(1);
        let decide: Decide = Arc::new(move |record, waiting| {
            let decided = shielded_or(|| {
                let definition = Definition::read(record)?;
                can_run(record, &definition)?;
                let mut room = room.lock().unwrap_or_else(PoisonError::into_inner);
                let decided =
                    ahead::decide(record, waiting, &definition, node, store_now, horizon)?;
                // Jobs that fire again are as many as there are, and what waits was asked for, or is
                // late already.
                if let Decision::Claim { rows, next_fire: None } = &decided
                    && waiting.is_empty()
                {
                    if room.is_full(record.incarnation, &definition.options) {
                        return Ok(Decision::Leave);
                    }
                    let taken = rows.iter().filter(|row| row.state.is_open());
                    room.claim(&definition.options, taken.count());
                }
                Ok(decided)
            });
            decided.unwrap_or_else(Decision::Reject)
        });
        ClaimRequest {
            node,
            number: self.takes,
            horizon,
            tasks: self.tasks.clone(),
            except: self.left_out(crowded),
            passed: self.passed,
            looks: LOOKS,
            limit,
            row_limit: limit
                .saturating_mul(ROWS_PER_JOB)
                .min(MAX_OPEN.saturating_sub(open))
                .min(self.options.max_bytes / ROW_SIZE)
                .max(1),
            decide,
        }
    }

    fn close_request(&mut self, now: Reading) -> Option<closer::Request> {
        let most = self.options.max_batch.min(self.told_at_once);
        let sizes = self.outcomes.iter().map(RowOutcome::size);
        let count = fitting(sizes, most, self.options.max_bytes);
        let due = self.flush_at.is_some_and(|at| at <= now.elapsed) || self.leaving;
        let tells = count > 0 && (due || self.outcomes.len() >= 100.min(self.options.max_batch));
        // In turns, so that neither waits for the other if the store fails in one of them.
        self.released = !(self.releases.is_empty() || tells && self.released);
        if self.released {
            let most = self.options.max_batch.min(self.released_at_once);
            let sizes = self.releases.iter().map(|_| ROW_SIZE);
            let count = fitting(sizes, most, self.options.max_bytes);
            let rows = self.releases[..count].to_vec();
            return Some(closer::Request::Release { node: self.id, rows });
        }
        tells.then(|| closer::Request::Finish(self.outcomes.iter().take(count).cloned().collect()))
    }
}
