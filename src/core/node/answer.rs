//! What a node makes of an answer.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

use super::{
    InFlight, LOOKS_AGAIN, Lane, Looking, MAX_EXCEPT, MAX_LOST, MAX_REPORTED, Node, NodeEvent,
    PRUNE_EVERY, Reply, Request, StoreClock, claimer, closer, delta, membership, pruner,
};
use crate::{
    clock::Reading,
    core::correct,
    error::Error,
    job::JobId,
    ledger::{
        Claim, ClaimResult, Incarnation, NodeId, Page, Passed, Record, Rejected, Release,
        StoreError, Write, Written,
    },
    panic::shielded_or,
};

impl Node {
    /// An answer, and what follows from it for the jobs.
    pub(in crate::core) fn answer(
        &mut self,
        request: Request,
        reply: Result<Reply, StoreError>,
        now: Reading,
    ) -> Vec<NodeEvent> {
        let (id, lane) = (self.id, reply.as_ref().map_or_else(|_| request.lane(), Reply::lane));
        let traffic = self.traffic(lane);
        let Some(sent) = traffic.sent.take() else { return Vec::new() };
        let mut news = Vec::new();
        match reply {
            Ok(reply) => {
                traffic.failures = 0;
                let mut works = self.failing.remove(&request.operation());
                if self.looking.as_ref().is_none_or(|looking| looking.corrections.is_empty()) {
                    // The corrections that failed were given up.
                    let correct = Request::Prune(pruner::Request::Correct(Vec::new()));
                    works |= self.failing.remove(&correct.operation());
                }
                if works && self.failing.is_empty() {
                    news.push(NodeEvent::Working);
                }
                self.accept(reply, sent, now, &mut news);
            }
            // A life that was given up since has nothing to lose.
            Err(_) if request.node().is_some_and(|node| node != id) => {}
            Err(error) if error.is_lease_lost() => self.lose(&mut news),
            Err(error) => {
                traffic.failures = traffic.failures.saturating_add(1);
                let wait = match error.is_refused() && request.is_batch() {
                    // Which of them the store refuses is found out at once.
                    true => TimeDelta::zero(),
                    false => self.backoff(lane, error.is_refused()),
                };
                self.traffic(lane).not_before = now.elapsed + wait;
                self.repeat(&request, error.is_refused(), now);
                if error.is_refused() && self.give_up(&request, &error, now, &mut news) {
                    if self.failing.remove(&request.operation()) && self.failing.is_empty() {
                        news.push(NodeEvent::Working);
                    }
                    return news;
                }
                let works = self.failing.is_empty();
                self.failing.insert(request.operation());
                if works {
                    news.push(NodeEvent::Failing(error));
                }
            }
        }
        news
    }

    fn traffic(&mut self, lane: Lane) -> &mut InFlight {
        match lane {
            Lane::Membership => &mut self.life,
            Lane::Claim => &mut self.take,
            Lane::Close => &mut self.close,
            Lane::Prune => &mut self.prune,
        }
    }

    /// How long to wait after a failure: longer each time, up to a part of the lease.
    fn backoff(&mut self, lane: Lane, refused: bool) -> TimeDelta {
        let failures = self.traffic(lane).failures;
        let longest = delta(self.options.lease / 6);
        let base = if refused { longest } else { TimeDelta::milliseconds(20) };
        let wait = (base * (1 << failures.min(10))).min(longest);
        // A part of it is left to chance, so that nodes do not come together.
        let part = (self.number() % 1000) as i32;
        wait - wait / 2000 * part
    }

    /// Remembers to ask again what was not answered.
    fn repeat(&mut self, request: &Request, refused: bool, now: Reading) {
        match request {
            Request::Membership(request) => self.repeat_membership(request),
            Request::Claim(request) => self.repeat_claim(request, refused, now),
            Request::Close(request) => self.repeat_close(request, refused),
            // The others go on: what can't be written must not keep them from that.
            Request::Prune(pruner::Request::Correct(_)) if refused => {
                if let Some(looking) = self.looking.as_mut().filter(|looking| looking.asked) {
                    looking.corrections.clear();
                    self.look_on();
                }
            }
            // What these are about is still there.
            Request::Prune(_) => {}
        }
    }

    fn repeat_membership(&mut self, request: &membership::Request) {
        match request {
            // It may take effect long after the node has left, and must not bring that back.
            membership::Request::Heartbeat(heartbeat) if heartbeat.first => {
                self.id = NodeId(self.number());
            }
            membership::Request::Heartbeat(_) => {}
            membership::Request::Nodes => self.ask_nodes = true,
            membership::Request::Reap(_) => self.reap = true,
            membership::Request::ClaimedBy { .. } => self.ask_mine = true,
            // The next list says whether it still has them.
            membership::Request::Claimed { .. } => self.unknown.clear(),
        }
    }

    fn repeat_claim(&mut self, request: &claimer::Request, refused: bool, now: Reading) {
        match request {
            claimer::Request::Changed { named: Some(named), .. } => self.named.extend(named),
            claimer::Request::Changed { named: None, .. } => self.ask_changed = true,
            claimer::Request::NextDue(_) => {
                self.ask_due = true;
                // A take finds it, too.
                let wait = delta(self.options.lease / 6);
                self.expected = self.expected.min(now.elapsed + wait);
            }
            // The store will not do this one, but perhaps another.
            claimer::Request::Claim(_) if refused => {
                self.taking = None;
                self.ask_due = true;
            }
            claimer::Request::Claim(_) => {}
        }
    }

    fn repeat_close(&mut self, request: &closer::Request, refused: bool) {
        match request {
            // The others must not wait for the one that the store refuses.
            closer::Request::Finish(sent) if refused && sent.len() == 1 => {
                let count = self.outcomes.len().min(1);
                self.outcomes.rotate_left(count);
                self.told_at_once = 1;
            }
            closer::Request::Release { rows, .. } if refused && rows.len() == 1 => {
                let count = self.releases.len().min(1);
                self.releases.rotate_left(count);
                self.released_at_once = 1;
            }
            // One of them the store refuses, or they are more than it does in the time that is waited.
            closer::Request::Finish(sent) => self.told_at_once = sent.len().div_ceil(2).max(1),
            closer::Request::Release { rows, .. } => {
                self.released_at_once = rows.len().div_ceil(2).max(1);
            }
        }
    }

    /// Does without the message of an outcome that the store refuses alone, and then without the outcome:
    /// it would be refused for ever, and the node could not leave. While the store refuses heartbeats,
    /// too, it is the store that is at fault, and not what it is asked. Returns whether it gave it up.
    fn give_up(
        &mut self,
        request: &Request,
        error: &StoreError,
        now: Reading,
        news: &mut Vec<NodeEvent>,
    ) -> bool {
        let row = match request {
            Request::Close(closer::Request::Finish(sent)) if let [outcome] = &sent[..] => {
                outcome.claim()
            }
            Request::Close(closer::Request::Release { rows, .. }) if let [row] = &rows[..] => {
                row.claim()
            }
            _ => return false,
        };
        let since = *self.refused.entry(row).or_insert(now.elapsed);
        if self.beaten_at <= since {
            return false;
        }
        let outcome = self.outcomes.iter_mut().find(|it| it.claim() == row);
        if outcome.is_some_and(|outcome| outcome.message.take().is_some()) {
            self.refused.insert(row, now.elapsed);
            return false;
        }
        self.outcomes.retain(|it| it.claim() != row);
        self.releases.retain(|it| it.claim() != row);
        self.untold.remove(&row);
        self.refused.remove(&row);
        self.given_up.insert(row);
        news.push(NodeEvent::GivenUp(row.key, error.clone()));
        self.has_settled(&[row], Vec::new(), news);
        true
    }

    /// Looks at all records for those that go on otherwise, since the store's clock was set back or the
    /// rules of time zones have changed.
    pub(in crate::core) fn look_for_corrections(&mut self) {
        self.looking = Some(Looking::default());
    }

    /// Ignores the answer to a look that was begun before the present one: it went by another clock.
    fn has_listed(&mut self, page: Page, now: Reading) {
        if !self.looking.as_ref().is_some_and(|looking| looking.asked) {
            return;
        }
        let corrections = page.records.iter().filter_map(|record| self.correction(record, now));
        let corrections: Vec<Write> = corrections.collect();
        let Some(looking) = &mut self.looking else { return };
        looking.corrections = corrections;
        looking.lost = 0;
        looking.ends = page.next.is_none();
        looking.after = page.next;
        self.look_on();
    }

    /// The write after which a record goes on otherwise, if it must.
    fn correction(&mut self, record: &Record, now: Reading) -> Option<Write> {
        let (store_now, longest) = (self.store_now(now).trunc_subsecs(3), self.options.correction);
        let corrected = shielded_or(|| {
            let corrected = correct::corrected(record, store_now, longest);
            Ok(corrected.or_else(|| correct::rezoned_record(record, store_now)))
        });
        // What can't be read, a take reports.
        let corrected = corrected.ok()??;
        Some(Write {
            id: record.id.clone(),
            expected: Some(record.stamp()),
            record: Some(corrected),
            rows: Vec::new(),
            token: self.number(),
            action: None,
        })
    }

    fn has_corrected(
        &mut self,
        writes: Vec<Write>,
        written: Vec<Written>,
        now: Reading,
        news: &mut Vec<NodeEvent>,
    ) {
        let asked = self.looking.as_ref().is_some_and(|looking| looking.asked);
        let (asked_for, mut corrected, mut lost) = (writes.len(), Vec::new(), Vec::new());
        for (write, written) in writes.into_iter().zip(written) {
            match (written, write.expected, write.record) {
                (Written::Done, Some(expected), Some(record)) => {
                    let version = expected.version.wrapping_add(1);
                    corrected.push(Record { version, ..record });
                }
                // Somebody else has changed it: perhaps it is to be corrected all the same.
                (Written::Lost(Some(current)), ..) => lost.push(current),
                _ => {}
            }
        }
        if !corrected.is_empty() {
            news.push(NodeEvent::Corrected(corrected));
        }
        if !asked {
            return;
        }
        let room = self.looking.as_ref().map_or(0, |looking| MAX_LOST.saturating_sub(looking.lost));
        let again = lost.iter().take(room).filter_map(|current| self.correction(current, now));
        let again: Vec<Write> = again.collect();
        if let Some(looking) = &mut self.looking {
            looking.lost += lost.len();
            let done = asked_for.min(looking.corrections.len());
            looking.corrections.splice(..done, again);
        }
        self.look_on();
    }

    fn look_on(&mut self) {
        self.looking = self.looking.take().filter(|it| !it.ends || !it.corrections.is_empty());
    }

    fn accept(&mut self, reply: Reply, sent: Reading, now: Reading, news: &mut Vec<NodeEvent>) {
        match reply {
            Reply::Membership(reply) => self.accept_membership(reply, sent, now, news),
            Reply::Claim(reply) => self.accept_claim(reply, now, news),
            Reply::Close(reply) => self.accept_close(reply, now, news),
            Reply::Prune(pruner::Reply::Prune(pruned)) => {
                if pruned.more {
                    // As fast as it comes.
                    self.next_prune = now.elapsed;
                }
            }
            Reply::Prune(pruner::Reply::List(page)) => self.has_listed(page, now),
            Reply::Prune(pruner::Reply::Correct { writes, written }) => {
                self.has_corrected(writes, written, now, news);
            }
        }
    }

    fn accept_membership(
        &mut self,
        reply: membership::Reply,
        sent: Reading,
        now: Reading,
        news: &mut Vec<NodeEvent>,
    ) {
        match reply {
            membership::Reply::Heartbeat { heartbeat, .. } if heartbeat.ttl.is_zero() => {
                self.left = true
            }
            membership::Reply::Heartbeat { heartbeat, store_now } => {
                if heartbeat.node == self.id {
                    self.has_beaten(store_now, sent, now, news);
                }
            }
            membership::Reply::Nodes(nodes) => {
                let has_lost_one = self.watch.see(&nodes, self.id, now.elapsed);
                if has_lost_one {
                    // Others may have what it had.
                    self.expected = now.elapsed;
                }
            }
            membership::Reply::Reap { suspects, reaped } => {
                self.reap = reaped.more;
                // Those that were not buried live, and are watched anew.
                self.watch.forget(&suspects);
                self.ask_nodes |= !suspects.is_empty();
                if !reaped.handed_out.is_empty() || !suspects.is_empty() {
                    self.expected = now.elapsed;
                }
                news.push(NodeEvent::Reaped(reaped));
            }
            membership::Reply::ClaimedBy { node, limit, claims } => {
                if node == self.id {
                    let is_full = claims.len() >= limit;
                    self.mine_after = claims.last().map(|claim| claim.key).filter(|_| is_full);
                    self.ask_mine |= is_full;
                    news.push(NodeEvent::Listed(claims));
                }
            }
            membership::Reply::Claimed { node, asked, found } => {
                if node == self.id {
                    self.unknown.drain(..asked.min(self.unknown.len()));
                    news.push(NodeEvent::Mine(found));
                }
            }
        }
    }

    fn accept_claim(&mut self, reply: claimer::Reply, now: Reading, news: &mut Vec<NodeEvent>) {
        match reply {
            claimer::Reply::Claim { node, result } => {
                self.taking = None;
                if node == self.id {
                    self.has_taken(result, now, news);
                }
            }
            claimer::Reply::NextDue(due) => self.has_been_told(due, now),
            claimer::Reply::Changed(changed) => news.push(NodeEvent::Changed(changed)),
        }
    }

    fn accept_close(&mut self, reply: closer::Reply, now: Reading, news: &mut Vec<NodeEvent>) {
        match reply {
            closer::Reply::Finish { count, report } => {
                let settled = self.outcomes.drain(..count.min(self.outcomes.len()));
                let settled: Vec<_> = settled.map(|outcome| outcome.claim()).collect();
                for row in &settled {
                    self.untold.remove(row);
                    self.refused.remove(row);
                }
                self.told_at_once = self.told_at_once.saturating_mul(2);
                self.flush_at = (!self.outcomes.is_empty()).then_some(now.elapsed);
                self.has_settled(&settled, report.over, news);
            }
            closer::Reply::Release { node, count } => {
                if node != self.id {
                    return;
                }
                self.released_at_once = self.released_at_once.saturating_mul(2);
                let count = count.min(self.releases.len());
                let settled = self.releases.drain(..count);
                let settled: Vec<_> = settled.map(|row| row.claim()).collect();
                for row in &settled {
                    self.refused.remove(row);
                }
                self.has_settled(&settled, Vec::new(), news);
            }
        }
    }

    fn has_settled(
        &mut self,
        settled: &[Claim],
        over: Vec<Incarnation>,
        news: &mut Vec<NodeEvent>,
    ) {
        self.settled.extend(settled);
        news.push(NodeEvent::Settled { rows: settled.to_vec(), over });
    }

    fn has_beaten(
        &mut self,
        said: DateTime<Utc>,
        sent: Reading,
        now: Reading,
        news: &mut Vec<NodeEvent>,
    ) {
        if self.options.has_clock {
            self.measure(said, sent, now, news);
        }
        if !self.joined {
            self.look_for_corrections();
        }
        let until = delta(self.options.lease) - self.options.margin();
        self.lease.set(
            sent.wall.timestamp_millis() + until.num_milliseconds(),
            (sent.elapsed + until).num_milliseconds(),
        );
        if !std::mem::replace(&mut self.joined, true) {
            (self.expected, self.next_poll) = (now.elapsed, now.elapsed);
            self.next_prune = now.elapsed + PRUNE_EVERY;
        }
        (self.ask_nodes, self.reap, self.ask_mine) = (true, true, true);
        self.beaten_at = sent.elapsed;
        self.next_beat = match StoreClock::is_in_doubt(sent, now) {
            true => TimeDelta::MIN,
            false => sent.elapsed + self.options.beat_every(),
        };
        if self.is_trusted(now) && !std::mem::replace(&mut self.trusted, true) {
            news.push(NodeEvent::Trusted);
        }
    }

    /// Takes into account what the store's clock said.
    fn measure(
        &mut self,
        said: DateTime<Utc>,
        sent: Reading,
        now: Reading,
        news: &mut Vec<NodeEvent>,
    ) {
        let (measured, before) = (StoreClock::measure(said, sent, now), self.ahead());
        let clock = self.clock.get_or_insert(measured);
        let zero = clock.zero;
        clock.refine(measured);
        let stepped_back = zero - clock.zero > TimeDelta::seconds(1);
        if clock.zero != zero {
            // When to take was reckoned by what it was thought to be.
            self.expected = now.elapsed;
        }
        if stepped_back {
            self.look_for_corrections();
        }
        let moved = self.ahead() - before;
        if !moved.is_zero() {
            news.push(NodeEvent::ClockMoved(moved));
        }
    }

    fn has_taken(&mut self, claim_result: ClaimResult, now: Reading, news: &mut Vec<NodeEvent>) {
        let found = claim_result.jobs.len();
        let looked_in_vain = !claim_result.rejected.is_empty() || claim_result.left > 0;
        self.left_some = claim_result.left > 0;
        self.pass_over(&claim_result, now);
        let is_empty = found == 0 && !looked_in_vain && !claim_result.more;
        self.in_vain = if is_empty { self.in_vain.saturating_add(1) } else { 0 };
        if is_empty {
            // Another node was faster, or has what was due.
            let patience = TimeDelta::milliseconds(20) * (1 << self.in_vain.min(6));
            self.patient_until = now.elapsed + patience;
        }
        if !claim_result.more {
            self.has_been_told(claim_result.next_due, now);
        }
        if claim_result.more && (found > 0 || !looked_in_vain) {
            self.expected = now.elapsed;
        } else if claim_result.more || self.left_some && self.room_again {
            self.expected = self.expected.min(now.elapsed + LOOKS_AGAIN);
        }
        // Bigger batches while there is much to do.
        let least = self.options.max_batch.min(100);
        self.limit = match claim_result.more && found > 0 {
            true => self.limit.saturating_mul(2).min(self.options.max_batch),
            false => least,
        };
        let unreadable = self.not_yet_reported(&claim_result.rejected, now);
        if !unreadable.is_empty() {
            news.push(NodeEvent::Unreadable(unreadable));
        }
        news.push(NodeEvent::Claimed(claim_result));
    }

    /// Has later takes leave out what this one could not take.
    fn pass_over(&mut self, claim_result: &ClaimResult, now: Reading) {
        let is_passing = self.passed != Passed::default();
        let listed = self.except.len() + claim_result.rejected.len() <= MAX_EXCEPT;
        if listed && !claim_result.rejected.is_empty() {
            let rejected = claim_result.rejected.iter().map(|rejected| rejected.stamp.incarnation);
            Arc::make_mut(&mut self.except).extend(rejected);
        }
        if !is_passing {
            if listed && claim_result.left == 0 {
                return;
            }
            self.pass_began = now.elapsed;
        }
        self.passed = claim_result.passed;
        self.next_pass = match claim_result.more {
            true => TimeDelta::MAX,
            // It takes a part of the time only, however many there are.
            false => now.elapsed + (now.elapsed - self.pass_began) * 10,
        };
    }

    /// Those that have not been told of before.
    fn not_yet_reported(&mut self, rejected: &[Rejected], now: Reading) -> Vec<(JobId, Error)> {
        let mut new = Vec::new();
        for Rejected { job, stamp, error } in rejected {
            if self.reported.len() >= MAX_REPORTED {
                if now.elapsed < self.reported_since + TimeDelta::hours(1) {
                    break;
                }
                self.reported.clear();
            }
            if self.reported.is_empty() {
                self.reported_since = now.elapsed;
            }
            if self.reported.insert((stamp.incarnation, stamp.version)) {
                new.push((job.clone(), error.clone()));
            }
        }
        new
    }

    fn has_been_told(&mut self, due: Option<DateTime<Utc>>, now: Reading) {
        let Some(due) = due else {
            self.told = TimeDelta::MAX;
            return;
        };
        let ahead = (due - self.store_now(now)).max(TimeDelta::zero());
        let wait = (ahead - self.lead()).max(TimeDelta::zero());
        self.told = now.elapsed + wait;
        if self.in_vain > 0 && wait.is_zero() {
            let at = self.patient_until.max(now.elapsed);
            self.told = if ahead.is_zero() { at } else { at.min(now.elapsed + ahead) };
        }
    }

    pub(super) fn next_take(&self) -> TimeDelta {
        self.told.min(self.expected)
    }

    /// The store takes the node for dead: it begins another life.
    fn lose(&mut self, news: &mut Vec<NodeEvent>) {
        self.id = NodeId(self.number());
        (self.joined, self.trusted) = (false, false);
        (self.takes, self.taking) = (0, None);
        (self.mine_after, self.unknown) = (None, Vec::new());
        self.lease.lose();
        self.given_up.clear();
        self.next_beat = TimeDelta::MIN;
        let released = std::mem::take(&mut self.releases);
        let released: Vec<_> = released.iter().map(Release::claim).collect();
        // They are not asked for again: that this has failed is of no interest any more.
        let release = closer::Request::Release { node: self.id, rows: Vec::new() };
        if self.failing.remove(&Request::Close(release).operation()) && self.failing.is_empty() {
            news.push(NodeEvent::Working);
        }
        self.has_settled(&released, Vec::new(), news);
        if self.leaving {
            self.left = self.outcomes.is_empty();
        }
        news.push(NodeEvent::Lost);
    }
}
