//! How a node prunes the ledger, and corrects records that a wrong clock has set.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

use super::{NodeEvent, NodeOptions, Now, Numbers, exchange::InFlight};
use crate::{
    core::correct,
    ledger::{
        Keep, PruneReport, Record, RecordCursor, RecordPage, StoreError, Write, WriteResult,
        fitting,
    },
    panic::shielded_or,
};

/// A request of the prune lane to the store.
#[derive(Clone)]
pub(crate) enum Request {
    Prune {
        keep: Keep,
        limit: usize,
    },
    List {
        after: Option<RecordCursor>,
        limit: usize,
    },
    /// Rewrites records whose next fire time a wrong clock has set.
    Correct(Vec<Write>),
}

/// The reply of the store, with the corrections that were sent.
#[derive(Debug)]
pub(crate) enum Reply {
    Prune(PruneReport),
    List(RecordPage),
    Correct { writes: Vec<Write>, written: Vec<WriteResult> },
}

/// How many rows make a node prune as often as it may.
const MANY_ROWS: usize = 100;

/// How often a node prunes that adds many rows to the ledger, few, or none: rows also grow old.
const PRUNE_OFTEN: TimeDelta = TimeDelta::seconds(5);
const PRUNE_RARELY: TimeDelta = TimeDelta::seconds(60);
const PRUNE_IDLE: TimeDelta = TimeDelta::seconds(600);

/// How many rows are deleted at once: other operations wait meanwhile.
const PRUNED: usize = 500;

/// How many records are listed at once to find those that need a correction.
const LISTED: usize = 500;

/// How many corrections of a page are recomputed after losing to other writes.
const MAX_LOST: usize = 2 * LISTED;

/// One node's pruning, and its search for records that need a correction.
pub(super) struct Pruner {
    options: Arc<NodeOptions>,
    in_flight: InFlight<Request>,
    pruned_at: TimeDelta,
    /// How many rows the node has added to the ledger since.
    new_rows: usize,
    /// Whether there was more to delete than one request deletes.
    has_more: bool,
    /// The search in progress, if any.
    search: Option<Search>,
    /// Whether the last request was one of a search.
    searched_last: bool,
}

/// A search of all records for those that need a correction.
#[derive(Default)]
struct Search {
    /// The position after which records are still to be listed.
    after: Option<RecordCursor>,
    /// The corrections of the last page that are not written.
    corrections: Vec<Write>,
    /// How many corrections have lost to other writes.
    lost: usize,
    /// Whether the last page was listed.
    ends: bool,
    /// Whether the pending reply belongs to this search, and not to an earlier one.
    is_sent: bool,
}

impl Pruner {
    pub(super) fn new(options: Arc<NodeOptions>) -> Pruner {
        Pruner {
            options,
            in_flight: InFlight::default(),
            pruned_at: TimeDelta::MIN,
            new_rows: 0,
            has_more: false,
            search: None,
            searched_last: false,
        }
    }

    pub(super) fn in_flight(&mut self) -> &mut InFlight<Request> {
        &mut self.in_flight
    }

    pub(super) fn is_failing(&self) -> bool {
        self.in_flight.is_failing()
    }

    /// Begins pruning, since the node has joined.
    pub(super) fn start(&mut self, now: TimeDelta) {
        // Nodes that have left may have added rows.
        (self.pruned_at, self.new_rows) = (now, MANY_ROWS);
    }

    /// Notes that the node has added rows to the ledger.
    pub(super) fn count(&mut self, rows: usize) {
        self.new_rows = self.new_rows.saturating_add(rows);
    }

    fn next_prune(&self) -> TimeDelta {
        let pause = match self.new_rows {
            _ if self.has_more => TimeDelta::zero(),
            0 => PRUNE_IDLE,
            1..MANY_ROWS => PRUNE_RARELY,
            _ => PRUNE_OFTEN,
        };
        self.pruned_at.checked_add(&pause).unwrap_or(TimeDelta::MAX)
    }

    /// Searches all records for those that need a correction, since the store's clock was set back or the
    /// rules of time zones have changed.
    pub(super) fn search(&mut self) {
        self.search = Some(Search::default());
    }

    /// Returns when the lane must be polled again.
    pub(super) fn wake_at(&self) -> Option<TimeDelta> {
        self.in_flight.wake_at(Some(self.wanted_at()))
    }

    fn wanted_at(&self) -> TimeDelta {
        if self.search.is_some() { TimeDelta::MIN } else { self.next_prune() }
    }

    /// Returns the request to send now, if any.
    pub(super) fn poll(&mut self, now: Now) -> Option<Request> {
        if !self.in_flight.is_due(Some(self.wanted_at()), now.local) {
            return None;
        }
        let request = self.next_request(now);
        Some(self.in_flight.send(request, now.local))
    }

    fn next_request(&mut self, now: Now) -> Request {
        let prunes = now.elapsed() >= self.next_prune();
        // Alternates, so that neither kind waits for the other if the store fails for one of them.
        self.searched_last = self.search.is_some() && !(prunes && self.searched_last);
        if self.searched_last
            && let Some(search) = &mut self.search
        {
            search.is_sent = true;
            let limit = LISTED.min(self.options.max_batch);
            if search.corrections.is_empty() {
                return Request::List { after: search.after.clone(), limit };
            }
            let sizes = search.corrections.iter().map(Write::size);
            let count = fitting(sizes, self.options.max_batch, self.options.max_bytes);
            return Request::Correct(search.corrections[..count].to_vec());
        }
        (self.pruned_at, self.new_rows) = (now.elapsed(), 0);
        Request::Prune { keep: self.options.keep, limit: PRUNED }
    }

    /// Accepts a reply.
    pub(super) fn accept(
        &mut self,
        reply: Reply,
        now: Now,
        numbers: &mut Numbers,
        events: &mut Vec<NodeEvent>,
    ) {
        if self.in_flight.succeed().is_none() {
            return;
        }
        match reply {
            Reply::Prune(pruned) => {
                // As fast as the store prunes.
                self.has_more = pruned.more;
            }
            Reply::List(page) => self.has_listed(page, now, numbers),
            Reply::Correct { writes, written } => {
                self.has_corrected(writes, written, now, numbers, events);
            }
        }
    }

    /// Returns the current search if the reply belongs to it: an earlier search used another clock.
    fn sent_search(&mut self) -> Option<&mut Search> {
        self.search.as_mut().filter(|search| search.is_sent)
    }

    fn has_listed(&mut self, page: RecordPage, now: Now, numbers: &mut Numbers) {
        let options = self.options.clone();
        let Some(search) = self.sent_search() else { return };
        let corrections =
            page.records.iter().filter_map(|record| correction(record, &options, now, numbers));
        search.corrections = corrections.collect();
        search.lost = 0;
        search.ends = page.next.is_none();
        search.after = page.next;
        self.end_if_done();
    }

    fn has_corrected(
        &mut self,
        writes: Vec<Write>,
        written: Vec<WriteResult>,
        now: Now,
        numbers: &mut Numbers,
        events: &mut Vec<NodeEvent>,
    ) {
        let (sent, mut corrected, mut lost) = (writes.len(), Vec::new(), Vec::new());
        for (write, written) in writes.into_iter().zip(written) {
            match (written, write.expected, write.record) {
                (WriteResult::Done, Some(expected), Some(record)) => {
                    let version = expected.version.wrapping_add(1);
                    corrected.push(Record { version, ..record });
                }
                // Another write came first, but the record may still need a correction.
                (WriteResult::Lost(Some(current)), ..) => lost.push(current),
                _ => {}
            }
        }
        if !corrected.is_empty() {
            events.push(NodeEvent::Corrected(corrected));
        }
        let options = self.options.clone();
        let Some(search) = self.sent_search() else { return };
        let room = MAX_LOST.saturating_sub(search.lost);
        let again = lost.iter().take(room);
        let again = again.filter_map(|current| correction(current, &options, now, numbers));
        let again: Vec<Write> = again.collect();
        search.lost += lost.len();
        let done = sent.min(search.corrections.len());
        search.corrections.splice(..done, again);
        self.end_if_done();
    }

    fn end_if_done(&mut self) {
        self.search.take_if(|search| search.ends && search.corrections.is_empty());
    }

    /// Handles a failed request: it is sent again, or given up.
    pub(super) fn fail(
        &mut self,
        request: &Request,
        error: &StoreError,
        now: Now,
        numbers: &mut Numbers,
    ) {
        self.in_flight.fail(error.is_refused(), &self.options, now.local, numbers);
        if let Request::Prune { .. } = request {
            self.new_rows = MANY_ROWS;
        }
        // A correction that cannot be written must not block the other records.
        if let Request::Correct(_) = request
            && error.is_refused()
            && let Some(search) = self.sent_search()
        {
            search.corrections.clear();
            self.end_if_done();
        }
    }

    /// Forgets an error of corrections that were given up.
    pub(super) fn forgive_corrections(&mut self) {
        if self.search.as_ref().is_none_or(|search| search.corrections.is_empty()) {
            self.in_flight.forgive(&Request::Correct(Vec::new()));
        }
    }
}

/// Returns the write that corrects a record, if the record needs a correction.
fn correction(
    record: &Record,
    options: &NodeOptions,
    now: Now,
    numbers: &mut Numbers,
) -> Option<Write> {
    let store_now: DateTime<Utc> = now.store.trunc_subsecs(3);
    let corrected = shielded_or(|| {
        let corrected = correct::corrected(record, store_now, options.correction);
        Ok(corrected.or_else(|| correct::rezoned_record(record, store_now)))
    });
    // Claims report unreadable records.
    let corrected = corrected.ok()??;
    Some(Write {
        id: record.id.clone(),
        expected: Some(record.stamp()),
        record: Some(corrected),
        rows: Vec::new(),
        token: numbers.draw(),
        action: None,
    })
}
