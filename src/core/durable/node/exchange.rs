//! The requests of a node and the replies of its store, by lane; and how a lane waits.

use std::{
    collections::HashSet,
    mem::{Discriminant, discriminant},
};

use chrono::TimeDelta;

use super::{NodeOptions, Numbers, claimer, closer, membership, pruner};
use crate::{
    clock::Reading,
    ledger::{NodeId, Record, RecordStatus},
};

/// A request of a node to its store. Requests of one lane are sent one after the other; the lanes
/// do not wait for each other.
#[derive(Clone)]
pub(crate) enum Request {
    Membership(membership::Request),
    Claim(claimer::Request),
    Close(closer::Request),
    Prune(pruner::Request),
}

impl Request {
    /// Returns the incarnation of the node that sends the request, if it counts for that one alone.
    pub(super) fn node(&self) -> Option<NodeId> {
        match self {
            Request::Membership(request) => request.node(),
            Request::Claim(request) => request.node(),
            Request::Close(request) => request.node(),
            Request::Prune(_) => None,
        }
    }
}

/// The reply of the store. Each reply has the part of its request that is needed to interpret it.
#[derive(Debug)]
pub(crate) enum Reply {
    Membership(membership::Reply),
    Claim(claimer::Reply),
    Close(closer::Reply),
    Prune(pruner::Reply),
}

impl Reply {
    /// Returns the records whose jobs the node may accept, in order: the node needs the work of
    /// each.
    pub(crate) fn records(&self) -> Vec<&Record> {
        match self {
            Reply::Membership(membership::Reply::Claimed { found: result, .. })
            | Reply::Claim(claimer::Reply::Claim { result, .. }) => {
                result.jobs.iter().map(|job| &job.record).collect()
            }
            Reply::Claim(claimer::Reply::Changed(changes)) => {
                let updated = changes.iter().filter_map(|change| match &change.status {
                    RecordStatus::Updated(record) => Some(&**record),
                    RecordStatus::Removed(_) => None,
                });
                updated.collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The request of a lane that has no reply yet, and the wait of the lane after errors.
pub(super) struct InFlight<R> {
    /// When the request was sent, and which operation of the store it is.
    sent: Option<(Reading, Discriminant<R>)>,
    /// How many replies in a row were errors.
    failures: u32,
    not_before: TimeDelta,
    /// The operations whose last reply was an error.
    failing: HashSet<Discriminant<R>>,
}

impl<R> Default for InFlight<R> {
    fn default() -> InFlight<R> {
        InFlight { sent: None, failures: 0, not_before: TimeDelta::zero(), failing: HashSet::new() }
    }
}

impl<R> InFlight<R> {
    /// Whether a reply is pending.
    pub(super) fn is_waiting(&self) -> bool {
        self.sent.is_some()
    }

    /// Whether a request that is wanted at `wanted` may be sent now.
    pub(super) fn is_due(&self, wanted: Option<TimeDelta>, now: Reading) -> bool {
        self.wake_at(wanted).is_some_and(|at| at <= now.elapsed)
    }

    /// Returns when a request that is wanted at `wanted` may be sent, or `None` while a reply is
    /// pending.
    pub(super) fn wake_at(&self, wanted: Option<TimeDelta>) -> Option<TimeDelta> {
        wanted.filter(|_| self.sent.is_none()).map(|wanted| wanted.max(self.not_before))
    }

    /// Notes that a request is sent, and returns it.
    pub(super) fn send(&mut self, request: R, now: Reading) -> R {
        self.sent = Some((now, discriminant(&request)));
        request
    }

    /// Forgets the request. Returns when it was sent, or `None` if no reply is pending.
    pub(super) fn cancel(&mut self) -> Option<Reading> {
        self.sent.take().map(|(at, _)| at)
    }

    /// Notes a successful reply. Returns when its request was sent, or `None` if no reply is
    /// pending.
    pub(super) fn succeed(&mut self) -> Option<Reading> {
        let (at, operation) = self.sent.take()?;
        self.failures = 0;
        self.failing.remove(&operation);
        Some(at)
    }

    /// Notes an error. The lane waits for the [`backoff`].
    pub(super) fn fail(
        &mut self,
        refused: bool,
        options: &NodeOptions,
        now: Reading,
        numbers: &mut Numbers,
    ) {
        self.fail_at_once(now);
        self.not_before = now.elapsed + backoff(self.failures, refused, options, numbers);
    }

    /// Notes an error after which the lane need not wait. Returns how long the request took.
    pub(super) fn fail_at_once(&mut self, now: Reading) -> TimeDelta {
        let mut took = TimeDelta::zero();
        if let Some((at, operation)) = self.sent.take() {
            self.failing.insert(operation);
            took = now.elapsed - at.elapsed;
        }
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.elapsed;
        took
    }

    /// Whether the last reply was an error.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Whether the last reply to some operation was an error.
    pub(super) fn is_failing(&self) -> bool {
        !self.failing.is_empty()
    }

    /// Forgets that the last reply to this operation was an error, since it is not sent again.
    pub(super) fn forgive(&mut self, request: &R) {
        self.failing.remove(&discriminant(request));
    }
}

/// How long to wait after this number of errors in a row: twice as long after each error, from 40 ms up to
/// a sixth of the lease, and as long as that at once if the store has `refused` the request.
pub(super) fn backoff(
    failures: u32,
    refused: bool,
    options: &NodeOptions,
    numbers: &mut Numbers,
) -> TimeDelta {
    let longest = options.longest_wait();
    let base = if refused { longest } else { TimeDelta::milliseconds(20) };
    let wait = (base * (1 << failures.min(10))).min(longest);
    // Up to half of it is random, so that nodes do not retry together.
    wait - wait / 2000 * numbers.per_mille()
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{at, at_ms, options},
        *,
    };

    #[derive(Clone, Copy)]
    enum Ask {
        One,
        Other,
    }

    /// Returns the waits of a lane after each of ten errors in a row, in milliseconds.
    fn waits(refused: bool) -> Vec<i64> {
        let (mut lane, mut numbers) = (InFlight::default(), Numbers::new(1));
        let mut waits = Vec::new();
        for _ in 0..10 {
            lane.send(Ask::One, at(0));
            lane.fail(refused, &options(), at(0), &mut numbers);
            waits.push(lane.not_before.num_milliseconds());
        }
        waits
    }

    #[test]
    fn a_lane_waits_twice_as_long_after_each_error_up_to_a_sixth_of_the_lease() {
        let longest = [40, 80, 160, 320, 640, 1280, 2560, 5000, 5000, 5000];
        for (wait, longest) in waits(false).into_iter().zip(longest) {
            // Up to half of the wait is random.
            assert!((longest / 2..=longest).contains(&wait), "{wait} of {longest}");
        }
    }

    #[test]
    fn a_lane_waits_long_at_once_after_a_refusal() {
        assert!(waits(true).iter().all(|wait| (2500..=5000).contains(wait)));
    }

    #[test]
    fn nodes_do_not_wait_alike() {
        let wait = |seed| {
            let (mut lane, mut numbers) = (InFlight::default(), Numbers::new(seed));
            lane.send(Ask::One, at(0));
            lane.fail(true, &options(), at(0), &mut numbers);
            lane.not_before
        };
        let waits: HashSet<TimeDelta> = (0..20).map(wait).collect();
        assert!(waits.len() > 15, "{waits:?}");
    }

    #[test]
    fn a_success_ends_the_waiting() {
        let (mut lane, mut numbers) = (InFlight::default(), Numbers::new(1));
        for _ in 0..8 {
            lane.send(Ask::One, at(0));
            lane.fail(false, &options(), at(0), &mut numbers);
        }
        lane.send(Ask::One, at(10));
        assert!(lane.has_failed() && lane.is_failing());
        assert_eq!(lane.succeed().map(|sent| sent.elapsed), Some(at(10).elapsed));
        assert!(!lane.has_failed() && !lane.is_failing());
        lane.send(Ask::One, at(11));
        lane.fail(false, &options(), at(11), &mut numbers);
        assert!(lane.is_due(Some(TimeDelta::MIN), at_ms(11_040)), "it begins anew");
    }

    #[test]
    fn an_operation_is_failing_until_it_succeeds_itself() {
        let (mut lane, mut numbers) = (InFlight::default(), Numbers::new(1));
        lane.send(Ask::One, at(0));
        lane.fail(false, &options(), at(0), &mut numbers);
        lane.send(Ask::Other, at(1));
        lane.succeed();
        assert!(lane.is_failing() && !lane.has_failed());
        lane.forgive(&Ask::One);
        assert!(!lane.is_failing());
    }

    #[test]
    fn a_lane_sends_nothing_while_a_reply_is_awaited() {
        let mut lane = InFlight::default();
        lane.send(Ask::One, at(0));
        assert!(lane.is_waiting() && lane.wake_at(Some(TimeDelta::MIN)).is_none());
        assert!(!lane.is_due(Some(TimeDelta::MIN), at(100)));
        assert!(lane.cancel().is_some() && lane.cancel().is_none() && lane.succeed().is_none());
        assert!(lane.is_due(Some(TimeDelta::MIN), at(100)) && !lane.is_due(None, at(100)));
    }
}
