//! A bounded channel whose sender never waits: when full, it drops the oldest item and reports how
//! many it dropped.
//!
//! Events and runs go to their listeners through it. Sending happens under the scheduler's lock, so
//! it does not wake the receiver: it returns the waker, to be called without the lock.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::Stream;

pub(crate) struct FeedSender<T>(Arc<Mutex<Feed<T>>>);

pub(crate) struct FeedReceiver<T>(Arc<Mutex<Feed<T>>>);

/// What a receiver gets: an item, or the number of dropped items.
#[derive(Debug, PartialEq)]
pub(crate) enum Fed<T> {
    Item(T),
    Lost(u64),
}

struct Feed<T> {
    queue: VecDeque<T>,
    capacity: usize,
    lost: u64,
    /// Whether the last poll returned `Lost`. The next poll then returns an item, so that a receiver
    /// that is always too slow does not get `Lost` only.
    lost_reported: bool,
    waker: Option<Waker>,
    sender_gone: bool,
    receiver_gone: bool,
}

pub(crate) fn feed<T>(capacity: usize) -> (FeedSender<T>, FeedReceiver<T>) {
    let feed = Arc::new(Mutex::new(Feed {
        queue: VecDeque::new(),
        capacity: capacity.max(1),
        lost: 0,
        lost_reported: false,
        waker: None,
        sender_gone: false,
        receiver_gone: false,
    }));
    (FeedSender(feed.clone()), FeedReceiver(feed))
}

fn lock<T>(feed: &Mutex<Feed<T>>) -> MutexGuard<'_, Feed<T>> {
    // No code below panics while it holds the lock.
    feed.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> FeedSender<T> {
    /// Sends an item. Returns the waker to call, and the item that was dropped.
    pub(crate) fn send(&self, item: T) -> (Option<Waker>, Option<T>) {
        let mut feed = lock(&self.0);
        if feed.receiver_gone {
            return (None, Some(item));
        }
        let oldest = if feed.queue.len() >= feed.capacity {
            feed.lost += 1;
            feed.queue.pop_front()
        } else {
            None
        };
        feed.queue.push_back(item);
        (feed.waker.take(), oldest)
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.0).receiver_gone
    }
}

impl<T> Drop for FeedSender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut feed = lock(&self.0);
            feed.sender_gone = true;
            feed.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Stream for FeedReceiver<T> {
    type Item = Fed<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Fed<T>>> {
        // The waker is user code, so it is cloned and dropped without the lock.
        let waker = cx.waker().clone();
        let mut feed = lock(&self.0);
        if feed.lost > 0 && !feed.lost_reported {
            feed.lost_reported = true;
            return Poll::Ready(Some(Fed::Lost(std::mem::take(&mut feed.lost))));
        }
        if let Some(item) = feed.queue.pop_front() {
            feed.lost_reported = false;
            return Poll::Ready(Some(Fed::Item(item)));
        }
        if feed.sender_gone {
            return Poll::Ready(None);
        }
        let replaced = feed.waker.replace(waker);
        drop(feed);
        drop(replaced);
        Poll::Pending
    }
}

impl<T> Drop for FeedReceiver<T> {
    fn drop(&mut self) {
        let left = {
            let mut feed = lock(&self.0);
            feed.receiver_gone = true;
            (std::mem::take(&mut feed.queue), feed.waker.take())
        };
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    #[test]
    fn a_slow_receiver_gets_the_newest_and_the_number_of_those_it_missed() {
        let (sender, mut receiver) = feed(2);
        for item in 1..=5 {
            sender.send(item);
        }
        drop(sender);
        let got: Vec<_> = receiver.by_ref().collect().now_or_never().expect("the sender is gone");
        assert_eq!(got, [Fed::Lost(3), Fed::Item(4), Fed::Item(5)]);
    }

    #[test]
    fn a_receiver_that_is_always_too_slow_still_gets_items() {
        let (sender, mut receiver) = feed(2);
        let mut got = Vec::new();
        for item in 0..40 {
            sender.send(item);
            if item % 5 == 4 {
                got.push(receiver.next().now_or_never().flatten().expect("something was sent"));
            }
        }
        let items: Vec<_> = got.into_iter().filter(|fed| matches!(fed, Fed::Item(_))).collect();
        assert_eq!(items, [Fed::Item(8), Fed::Item(18), Fed::Item(28), Fed::Item(38)]);
    }

    #[test]
    fn sending_to_nobody_gives_the_item_back() {
        let (sender, receiver) = feed(2);
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.send(1).1, Some(1));
    }
}
