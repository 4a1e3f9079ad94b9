//! The bare floor: one task, tokio-util's `DelayQueue`, `tokio::spawn` per due entry, a `u32` per job.
//!
//! It has no ids, options, outcomes or events, and is told what to do through a channel: what a
//! scheduler costs is what it costs beyond this.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::time::{DelayQueue, delay_queue::Key};

use super::{Tally, jobs};

/// When jobs are due that are far from it: spread over a day, two hours hence.
pub(crate) fn hours_away(job: u32) -> Duration {
    Duration::from_secs(2 * 60 * 60) + Duration::from_millis(u64::from(job) * 7919 % 86_400_000)
}

/// The floor's task, as its users see it.
pub(crate) struct Floor {
    orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
}

enum Order {
    Add(u32, Instant),
    Remove(u32),
    /// Say how many jobs there are, when all before this is done.
    Count(oneshot::Sender<usize>),
}

impl Floor {
    pub(crate) fn spawn(tally: Arc<Tally>) -> Floor {
        let (orders, inbox) = mpsc::unbounded_channel();
        Floor { orders, task: tokio::spawn(serve(inbox, tally)) }
    }

    pub(crate) fn add(&self, job: u32, due: Instant) {
        self.order(Order::Add(job, due));
    }

    pub(crate) fn remove(&self, job: u32) {
        self.order(Order::Remove(job));
    }

    pub(crate) async fn count(&self) -> usize {
        let (sender, count) = oneshot::channel();
        self.order(Order::Count(sender));
        count.await.expect("the floor does not panic")
    }

    /// Ends the task, and waits for that.
    pub(crate) async fn stop(self) {
        drop(self.orders);
        self.task.await.expect("the floor does not panic");
    }

    fn order(&self, order: Order) {
        assert!(self.orders.send(order).is_ok(), "the floor does not panic");
    }
}

async fn serve(mut inbox: mpsc::UnboundedReceiver<Order>, tally: Arc<Tally>) {
    let (mut queue, mut keys) = (DelayQueue::new(), Vec::<Option<Key>>::new());
    loop {
        tokio::select! {
            order = inbox.recv() => match order {
                Some(Order::Add(job, due)) => {
                    let index = job as usize;
                    if index >= keys.len() {
                        keys.resize(index + 1, None);
                    }
                    keys[index] = Some(queue.insert_at(job, due.into()));
                }
                Some(Order::Remove(job)) => {
                    if let Some(key) = keys[job as usize].take() {
                        queue.remove(&key);
                    }
                }
                // Whoever asked may have given up.
                Some(Order::Count(sender)) => drop(sender.send(queue.len())),
                None => return,
            },
            Some(due) = queue.next(), if !queue.is_empty() => {
                let (job, tally) = (due.into_inner(), tally.clone());
                keys[job as usize] = None;
                tokio::spawn(async move { tally.ran(job) });
            }
        }
    }
}

/// The queue alone: so many jobs, and their keys.
pub(crate) fn filled(size: usize, due: impl Fn(u32) -> Instant) -> (DelayQueue<u32>, Vec<Key>) {
    let mut queue = DelayQueue::new();
    let keys = jobs(size).map(|job| queue.insert_at(job, due(job).into())).collect();
    (queue, keys)
}

/// The task alone: runs every job of a queue when it is due, until there are none.
pub(crate) async fn drive(mut queue: DelayQueue<u32>, tally: Arc<Tally>) {
    while let Some(due) = queue.next().await {
        let tally = tally.clone();
        tokio::spawn(async move { tally.ran(due.into_inner()) });
    }
}
