//! The timers of the driver: the only `DelayQueue`, and the key of each job's entry in it.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use tokio::{task::unconstrained, time::Instant};
use tokio_util::time::{
    DelayQueue,
    delay_queue::{Expired, Key},
};

use super::precise::Precise;
use crate::{clock::LONGEST_WAIT, core::KEPT};

/// The purpose of a timer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wake {
    /// The job in this slot may be due.
    Job(u32),
    /// A deadline of the shutdown.
    Shutdown,
    /// The node may have a request for its store.
    Node,
}

pub(super) struct Timers {
    queue: DelayQueue<Wake>,
    /// When the queue was made.
    since: Instant,
    keys: Keys,
    shutdown: Option<Key>,
    node: Option<Key>,
    /// Handles the last moments of each wait, if the scheduler is to be more precise than Tokio.
    precise: Option<Precise>,
}

impl Timers {
    pub(super) fn new(precise: Option<Precise>) -> Timers {
        Timers {
            queue: DelayQueue::new(),
            since: Instant::now(),
            keys: Keys::default(),
            shutdown: None,
            node: None,
            precise,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.precise.as_ref().is_none_or(Precise::is_empty)
    }

    /// Sets, moves or removes the timer of a job.
    pub(super) fn set(&mut self, slot: u32, deadline: Option<Instant>) {
        let deadline = match (deadline, &mut self.precise) {
            (Some(deadline), Some(precise)) => precise.unless_near(slot, deadline),
            (deadline, _) => deadline,
        };
        match (deadline, self.keys.take(slot)) {
            (Some(deadline), Some(key)) => {
                self.queue.reset_at(&key, deadline);
                self.keys.put(slot, key);
            }
            (Some(deadline), None) => {
                let key = self.insert(Wake::Job(slot), deadline);
                self.keys.put(slot, key);
            }
            (None, Some(key)) => {
                self.queue.remove(&key);
            }
            (None, None) => {}
        }
    }

    /// Sets or moves the timer of a shutdown.
    pub(super) fn set_shutdown(&mut self, deadline: Instant) {
        // An early wake-up does no harm, and too long a wait would panic.
        let deadline = deadline.min(Instant::now() + LONGEST_WAIT);
        match &self.shutdown {
            Some(key) => self.queue.reset_at(key, deadline),
            None => self.shutdown = Some(self.insert(Wake::Shutdown, deadline)),
        }
    }

    /// Sets, moves or removes the timer of the node.
    pub(super) fn set_node(&mut self, deadline: Option<Instant>) {
        match (deadline, self.node.take()) {
            (Some(deadline), Some(key)) => {
                self.queue.reset_at(&key, deadline);
                self.node = Some(key);
            }
            (Some(deadline), None) => self.node = Some(self.insert(Wake::Node, deadline)),
            (None, Some(key)) => drop(self.queue.remove(&key)),
            (None, None) => {}
        }
    }

    fn insert(&mut self, wake: Wake, deadline: Instant) -> Key {
        if self.queue.is_empty() && self.since.elapsed() > LONGEST_WAIT {
            // A queue that was empty for 795 days panics at the next timer, however near: it counts
            // from the last expiry.
            self.queue = DelayQueue::new();
            self.since = Instant::now();
        }
        self.queue.insert_at(wake, deadline)
    }

    /// Drops all timers at once if more of these jobs' timers are to be removed than `jobs` may
    /// remain. Returns whether it did, so that all timers must be set again.
    ///
    /// In a debug build each removal walks the entries beside it, so the time for all removals
    /// grows with the square of their number.
    pub(super) fn drop_at_once(&mut self, removed: impl Iterator<Item = u32>, jobs: usize) -> bool {
        let enough = jobs.max(KEPT);
        let wanted = removed.filter(|&slot| self.keys.has(slot)).take(enough + 1).count() > enough;
        if wanted {
            *self = Timers::new(self.precise.take());
        }
        wanted
    }

    /// Waits for timers to expire, and returns them. Cancel safe: expired timers are returned in
    /// the same poll.
    pub(super) async fn expired(&mut self) -> Vec<Wake> {
        // Tokio would make it yield after 128 of them, but jobs that are due together are sorted
        // together.
        unconstrained(poll_fn(|cx| {
            let mut expired = self.take_expired(cx);
            if let Some(precise) = &mut self.precise {
                precise.take_reached(cx, &mut expired);
            }
            if expired.is_empty() { Poll::Pending } else { Poll::Ready(expired) }
        }))
        .await
    }

    fn take_expired(&mut self, cx: &mut Context<'_>) -> Vec<Wake> {
        let mut expired = Vec::new();
        // An empty queue is ready at once, with `None`: the next insertion wakes the driver.
        while let Poll::Ready(Some(wake)) =
            self.queue.poll_expired(cx).map(|wake| wake.map(Expired::into_inner))
        {
            match wake {
                Wake::Job(slot) => drop(self.keys.take(slot)),
                Wake::Shutdown => self.shutdown = None,
                Wake::Node => self.node = None,
            }
            expired.push(wake);
        }
        expired
    }

    /// Switches to coarse timers. Returns whether they were precise, so that all timers must be set
    /// again.
    pub(super) fn be_coarse(&mut self) -> bool {
        self.precise.take().is_some()
    }

    pub(super) fn is_precise(&self) -> bool {
        self.precise.is_some()
    }

    /// Frees the capacity that a burst needed, if this many jobs need no quarter of it. Returns
    /// whether it did, so that all timers must be set again.
    pub(super) fn give_back(&mut self, jobs: usize) -> bool {
        // A delay queue cannot shrink below its highest key, but few timers are quickly set again.
        // The number of jobs decides, rather than that of timers: those of recurring jobs are gone
        // only for a moment.
        let wasteful = self.queue.capacity() > KEPT && jobs * 4 < self.queue.capacity();
        if wasteful {
            *self = Timers::new(self.precise.take());
        }
        wasteful
    }
}

/// The keys of the slots that have one, in pages that are dropped when empty.
#[derive(Default)]
struct Keys {
    pages: Vec<Option<Box<Page>>>,
}

struct Page {
    keys: [Option<Key>; PAGE],
    occupied: usize,
}

const PAGE: usize = 128;

impl Keys {
    fn put(&mut self, slot: u32, key: Key) {
        let (page, index) = (slot as usize / PAGE, slot as usize % PAGE);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page]
            .get_or_insert_with(|| Box::new(Page { keys: [None; PAGE], occupied: 0 }));
        if page.keys[index].replace(key).is_none() {
            page.occupied += 1;
        }
    }

    fn has(&self, slot: u32) -> bool {
        let page = self.pages.get(slot as usize / PAGE).and_then(Option::as_ref);
        page.is_some_and(|page| page.keys[slot as usize % PAGE].is_some())
    }

    fn take(&mut self, slot: u32) -> Option<Key> {
        let (number, index) = (slot as usize / PAGE, slot as usize % PAGE);
        let page = self.pages.get_mut(number)?.as_mut()?;
        let key = page.keys[index].take()?;
        page.occupied -= 1;
        if page.occupied == 0 {
            self.pages[number] = None;
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn timers_are_dropped_at_once_when_most_of_them_go() {
        const MANY: u32 = 4 * KEPT as u32;
        let filled = || {
            let mut timers = Timers::new(None);
            let deadline = Instant::now() + Duration::from_secs(60);
            (0..MANY).for_each(|slot| timers.set(slot, Some(deadline)));
            timers
        };
        assert!(filled().drop_at_once(0..MANY, 0));
        assert!(filled().drop_at_once(0..MANY / 2 + 1, MANY as usize / 2));
        // Setting the remaining timers again would take longer.
        assert!(!filled().drop_at_once(0..MANY / 2 - 1, MANY as usize / 2));
        // This few are quickly removed; and jobs without a timer have none to remove.
        assert!(!filled().drop_at_once(0..KEPT as u32, 0));
        assert!(!filled().drop_at_once(MANY..3 * MANY, 0));

        let mut timers = filled();
        timers.drop_at_once(0..MANY, 0);
        assert!(timers.is_empty());
        timers.set(7, Some(Instant::now()));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(matches!(timers.expired().await[..], [Wake::Job(7)]));
    }
}
