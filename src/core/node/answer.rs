//! What a node makes of an answer.

use std::{mem::discriminant, sync::Arc};

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

use super::{
    Answer, Asked, InFlight, LOOKS_AGAIN, Lane, Looking, MAX_EXCEPT, MAX_LOST, MAX_REPORTED, Node,
    NodeEvent, PRUNE_EVERY, Request, StoreClock, delta,
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
        (lane, request): Asked,
        answer: Result<Answer, StoreError>,
        now: Reading,
    ) -> Vec<NodeEvent> {
        let id = self.id;
        let traffic = self.traffic(lane);
        let Some(sent) = traffic.sent.take() else { return Vec::new() };
        let mut news = Vec::new();
        match answer {
            Ok(answer) => {
                traffic.failures = 0;
                let mut works = self.failing.remove(&discriminant(&request));
                if self.looking.as_ref().is_none_or(|looking| looking.corrections.is_empty()) {
                    // The corrections that failed were given up.
                    works |= self.failing.remove(&discriminant(&Request::Correct(Vec::new())));
                }
                if works && self.failing.is_empty() {
                    news.push(NodeEvent::Working);
                }
                self.accept(request, answer, sent, now, &mut news);
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
                    if self.failing.remove(&discriminant(&request)) && self.failing.is_empty() {
                        news.push(NodeEvent::Working);
                    }
                    return news;
                }
                let works = self.failing.is_empty();
                self.failing.insert(discriminant(&request));
                if works {
                    news.push(NodeEvent::Failing(error));
                }
            }
        }
        news
    }

    fn traffic(&mut self, lane: Lane) -> &mut InFlight {
        match lane {
            Lane::Life => &mut self.life,
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
            // It may take effect long after the node has left, and must not bring that back.
            Request::Heartbeat(heartbeat) if heartbeat.first => self.id = NodeId(self.number()),
            Request::Nodes => self.ask_nodes = true,
            Request::Reap(_) => self.reap = true,
            Request::ClaimedBy(..) => self.ask_mine = true,
            // The next list says whether it still has them.
            Request::Claimed(..) => self.unknown.clear(),
            Request::Changed(_, Some(named)) => self.named.extend(named),
            Request::Changed(..) => self.ask_changed = true,
            Request::NextDue(_) => {
                self.ask_due = true;
                // A take finds it, too.
                let wait = delta(self.options.lease / 6);
                self.expected = self.expected.min(now.elapsed + wait);
            }
            // The store will not do this one, but perhaps another.
            Request::Claim(_) if refused => {
                self.taking = None;
                self.ask_due = true;
            }
            // The others must not wait for the one that the store refuses.
            Request::Finish(sent) if refused && sent.len() == 1 => {
                let count = self.outcomes.len().min(1);
                self.outcomes.rotate_left(count);
                self.told_at_once = 1;
            }
            Request::Release(_, sent) if refused && sent.len() == 1 => {
                let count = self.releases.len().min(1);
                self.releases.rotate_left(count);
                self.released_at_once = 1;
            }
            // The others go on: what can't be written must not keep them from that.
            Request::Correct(_) if refused => {
                if let Some(looking) = self.looking.as_mut().filter(|looking| looking.asked) {
                    looking.corrections.clear();
                    self.look_on();
                }
            }
            // One of them the store refuses, or they are more than it does in the time that is waited.
            Request::Finish(sent) => self.told_at_once = sent.len().div_ceil(2).max(1),
            Request::Release(_, sent) => self.released_at_once = sent.len().div_ceil(2).max(1),
            // What these are about is still there.
            Request::Heartbeat(_)
            | Request::Claim(_)
            | Request::Prune(..)
            | Request::List(..)
            | Request::Correct(_) => {}
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
            Request::Finish(sent) if let [outcome] = &sent[..] => outcome.claim(),
            Request::Release(_, sent) if let [row] = &sent[..] => row.claim(),
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

    fn accept(
        &mut self,
        request: Request,
        answer: Answer,
        sent: Reading,
        now: Reading,
        news: &mut Vec<NodeEvent>,
    ) {
        match (request, answer) {
            (Request::Heartbeat(heartbeat), Answer::Heartbeat(_)) if heartbeat.ttl.is_zero() => {
                self.left = true
            }
            (Request::Heartbeat(heartbeat), Answer::Heartbeat(said))
                if heartbeat.node == self.id =>
            {
                self.has_beaten(said, sent, now, news);
            }
            (Request::Nodes, Answer::Nodes(nodes)) => {
                let has_lost_one = self.watch.see(&nodes, self.id, now.elapsed);
                if has_lost_one {
                    // Others may have what it had.
                    self.expected = now.elapsed;
                }
            }
            (Request::Reap(suspects), Answer::Reaped(reaped)) => {
                self.reap = reaped.more;
                // Those that were not buried live, and are watched anew.
                self.watch.forget(&suspects);
                self.ask_nodes |= !suspects.is_empty();
                if !reaped.handed_out.is_empty() || !suspects.is_empty() {
                    self.expected = now.elapsed;
                }
                news.push(NodeEvent::Reaped(reaped));
            }
            (Request::ClaimedBy(node, _, limit), Answer::ClaimedBy(taken)) if node == self.id => {
                let is_full = taken.len() >= limit;
                self.mine_after = taken.last().map(|claim| claim.key).filter(|_| is_full);
                self.ask_mine |= is_full;
                news.push(NodeEvent::Listed(taken));
            }
            (Request::Claimed(node, sent), Answer::Claimed(taken)) if node == self.id => {
                self.unknown.drain(..sent.len().min(self.unknown.len()));
                news.push(NodeEvent::Mine(taken));
            }
            (Request::Claim(take), Answer::Claim(claim_result)) => {
                self.taking = None;
                if take.node == self.id {
                    self.has_taken(claim_result, now, news);
                }
            }
            (Request::NextDue(_), Answer::NextDue(due)) => self.has_been_told(due, now),
            (Request::Changed(..), Answer::Changed(changed)) => {
                news.push(NodeEvent::Changed(changed))
            }
            // As fast as it comes.
            (Request::Prune(..), Answer::Pruned(pruned)) if pruned.more => {
                self.next_prune = now.elapsed;
            }
            (Request::List(..), Answer::Listed(page)) => {
                self.has_listed(page, now);
            }
            (Request::Correct(writes), Answer::Corrected(written)) => {
                self.has_corrected(writes, written, now, news);
            }
            (Request::Finish(sent), Answer::Finish(report)) => {
                let settled = self.outcomes.drain(..sent.len().min(self.outcomes.len()));
                let settled: Vec<_> = settled.map(|outcome| outcome.claim()).collect();
                for row in &settled {
                    self.untold.remove(row);
                    self.refused.remove(row);
                }
                self.told_at_once = self.told_at_once.saturating_mul(2);
                self.flush_at = (!self.outcomes.is_empty()).then_some(now.elapsed);
                self.has_settled(&settled, report.over, news);
            }
            (Request::Release(node, sent), Answer::Released) if node == self.id => {
                self.released_at_once = self.released_at_once.saturating_mul(2);
                let count = sent.len().min(self.releases.len());
                let settled = self.releases.drain(..count);
                let settled: Vec<_> = settled.map(|row| row.claim()).collect();
                for row in &settled {
                    self.refused.remove(row);
                }
                self.has_settled(&settled, Vec::new(), news);
            }
            _ => {}
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
        let release = Request::Release(self.id, Vec::new());
        if self.failing.remove(&discriminant(&release)) && self.failing.is_empty() {
            news.push(NodeEvent::Working);
        }
        self.has_settled(&released, Vec::new(), news);
        if self.leaving {
            self.left = self.outcomes.is_empty();
        }
        news.push(NodeEvent::Lost);
    }
}
