//! THE task: the only `select!`, the only `DelayQueue`. It turns the core's decisions into timers
//! and runs.

mod entry;
mod run;
mod shared;

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{
    StreamExt as _,
    future::{Abortable, Aborted},
    stream::FuturesUnordered,
};
use tokio::{runtime::Handle, time::Instant};
use tokio_util::time::{DelayQueue, delay_queue};

pub(crate) use self::{
    entry::{EndWait, Entry, EntryState},
    run::RunGuard,
    shared::{Shared, State},
};
use crate::{
    clock::{LONGEST_WAIT, Moves, Now, StepWatch},
    core::{Finish, JobKey, Start},
    job::Outcome,
};

/// How many jobs are fired under one lock, and between two chances for others to run.
const BATCH: usize = 256;

/// How much room lists keep for the next time: after a burst the rest is given back.
const KEPT: usize = 1024;

/// How long after their grace runs are waited for that were cancelled: dropping takes a moment.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// A wait that is as good as endless, and still can be added to an instant.
pub(crate) const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
enum Wake {
    /// The job in this slot may be due.
    Job(u32),
    /// Has the wall clock stepped?
    Clock,
    /// A shutdown has waited long enough.
    Shutdown,
}

/// Fires when a job is cancelled by its token.
type Cancelled = Abortable<Pin<Box<dyn Future<Output = JobKey> + Send>>>;

pub(crate) struct Driver {
    shared: Arc<Shared>,
    runtime: Handle,
    timers: DelayQueue<Wake>,
    timers_since: Instant,
    /// The timer of each slot that has one.
    keys: Vec<Option<delay_queue::Key>>,
    /// Slots that may be due, in the order in which they start.
    due: VecDeque<u32>,
    watches: FuturesUnordered<Cancelled>,
    moves: Moves,
    watching: bool,
    shutdown: Option<delay_queue::Key>,
    /// Kept for their capacity.
    dirty: Vec<u32>,
    starts: Vec<Start<Arc<dyn Entry>>>,
}

impl Driver {
    pub(crate) fn spawn(shared: Arc<Shared>, runtime: &Handle) {
        let moves = shared.clock.moves();
        let driver = Driver {
            shared,
            runtime: runtime.clone(),
            timers: DelayQueue::new(),
            timers_since: Instant::now(),
            keys: Vec::new(),
            due: VecDeque::new(),
            watches: FuturesUnordered::new(),
            moves,
            watching: false,
            shutdown: None,
            dirty: Vec::new(),
            starts: Vec::new(),
        };
        runtime.spawn(driver.drive());
    }

    async fn drive(mut self) {
        loop {
            if self.catch_up() {
                return;
            }
            if !self.due.is_empty() {
                self.shared.attend(true);
                self.fire();
                // Jobs that are due again by now must not keep others from running.
                step_aside().await;
                continue;
            }
            // Every branch is cancel safe: what one of them takes, it hands over in the same poll.
            tokio::select! {
                () = self.shared.wake.notified() => {}
                expired = expired(&mut self.timers) => self.expire(expired),
                jobs = cancelled(&mut self.watches) => self.shared.with(|state, now| {
                    for job in jobs {
                        state.core.cancel(job, now);
                    }
                }),
                () = self.moves.next() => self.shared.with(|state, _| state.core.rearm_all()),
            }
        }
    }

    /// Takes from the core what there is to do, sets timers and spawns runs. Says whether that was
    /// the last: the scheduler is closed, and all runs have ended that can be waited for.
    fn catch_up(&mut self) -> bool {
        let shared = self.shared.clone();
        if self.due.is_empty() {
            shared.attend(false);
        }
        let (mut dirty, mut starts) =
            (std::mem::take(&mut self.dirty), std::mem::take(&mut self.starts));
        let (wakes, watches, shutdown, done) = shared.with(|state, _| {
            std::mem::swap(&mut dirty, &mut state.core.out.dirty);
            std::mem::swap(&mut starts, &mut state.core.out.starts);
            state.driver_knows = false;
            let wakes: Vec<_> =
                dirty.iter().map(|&slot| (slot, state.core.wake_at(slot))).collect();
            let callers = state.shutdown.as_ref().map_or(&[][..], |shutdown| &shutdown.callers);
            let done =
                state.core.is_closed() && state.core.going().all(|run| callers.contains(&run));
            let deadline = state.shutdown.as_ref().map(|shutdown| shutdown.deadline);
            (wakes, std::mem::take(&mut state.watches), deadline, done)
        });
        dirty.clear();
        dirty.shrink_to(KEPT);
        self.dirty = dirty;
        self.launch(&mut starts);
        self.starts = starts;
        for watch in watches {
            let cancelled = watch.token.cancelled_owned();
            let job = watch.job;
            let cancelled: Pin<Box<dyn Future<Output = JobKey> + Send>> = Box::pin(async move {
                cancelled.await;
                job
            });
            self.watches.push(Abortable::new(cancelled, watch.until));
        }
        if self.timers.is_empty() && self.timers_since.elapsed() > LONGEST_WAIT {
            // A queue that was empty for 795 days panics at the next timer, however near: it counts
            // from when it last expired one.
            self.timers = DelayQueue::new();
            self.timers_since = Instant::now();
        }
        let now = shared.clock.now_and_instant();
        let mut due_now = Vec::new();
        for (slot, due) in wakes {
            self.arm(slot, due, now, &mut due_now);
        }
        self.enqueue(due_now);
        self.watch_clock();
        if let Some(deadline) = shutdown {
            // An early look does no harm, and too long a wait would panic.
            let deadline = deadline.min(Instant::now() + LONGEST_WAIT);
            match &self.shutdown {
                Some(key) => self.timers.reset_at(key, deadline),
                None => self.shutdown = Some(self.timers.insert_at(Wake::Shutdown, deadline)),
            }
        }
        done
    }

    /// Sets, moves or removes the timer of a slot, unless its job is due now.
    fn arm(&mut self, slot: u32, due: Option<DateTime<Utc>>, now: Now, due_now: &mut Vec<u32>) {
        let index = slot as usize;
        if index >= self.keys.len() {
            self.keys.resize(index + 1, None);
        }
        let deadline = match due {
            Some(due) if due <= now.wall => {
                due_now.push(slot);
                None
            }
            Some(due) => self.shared.clock.deadline(due, now, slot.into()),
            None => None,
        };
        match (deadline, self.keys[index].take()) {
            (Some(deadline), Some(key)) => {
                self.timers.reset_at(&key, deadline);
                self.keys[index] = Some(key);
            }
            (Some(deadline), None) => {
                self.keys[index] = Some(self.timers.insert_at(Wake::Job(slot), deadline));
            }
            (None, Some(key)) => {
                self.timers.remove(&key);
            }
            (None, None) => {}
        }
    }

    /// Puts jobs that came due together behind those that came due before.
    fn enqueue(&mut self, mut slots: Vec<u32>) {
        if slots.len() > 1 {
            // The delay queue is last in, first out within a tick.
            self.shared.with(|state, _| state.core.sort(&mut slots));
        }
        self.due.extend(slots);
    }

    /// Fires the next batch of those that are due.
    fn fire(&mut self) {
        let batch: Vec<u32> = self.due.iter().take(BATCH).copied().collect();
        let mut starts = std::mem::take(&mut self.starts);
        let woken = self.shared.with(|state, now| {
            let woken = state.core.wake(&batch, now);
            std::mem::swap(&mut starts, &mut state.core.out.starts);
            woken
        });
        self.due.drain(..woken);
        self.launch(&mut starts);
        self.starts = starts;
    }

    /// Spawns runs; what is left of `starts` is its capacity.
    fn launch(&mut self, starts: &mut Vec<Start<Arc<dyn Entry>>>) {
        let several = starts.len() > 1;
        for start in starts.drain(..) {
            let entry = start.payload.clone();
            entry.launch(RunGuard::new(start), &self.runtime);
        }
        if several {
            // A worker of Tokio runs what was spawned last first, and the rest in order: let that
            // be something that does nothing.
            self.runtime.spawn(async {});
        }
        starts.shrink_to(KEPT);
    }

    fn expire(&mut self, expired: Vec<Wake>) {
        let mut due_now = Vec::new();
        for wake in expired {
            match wake {
                Wake::Job(slot) => {
                    self.keys[slot as usize] = None;
                    due_now.push(slot);
                }
                // To look is all it takes: a step is noticed whenever the state is locked.
                Wake::Clock => self.watching = false,
                Wake::Shutdown => {
                    self.shutdown = None;
                    self.end_patience();
                }
            }
        }
        self.enqueue(due_now);
    }

    /// Looks at the clock again in a while, if that may step and there is anything to be late for.
    fn watch_clock(&mut self) {
        if !self.watching && !self.timers.is_empty() && self.shared.clock.must_be_watched() {
            self.timers.insert_at(Wake::Clock, Instant::now() + StepWatch::EVERY);
            self.watching = true;
        }
    }

    /// The time for runs to end by themselves is over, or that for cancelled ones to be dropped.
    fn end_patience(&mut self) {
        self.shared.with(|state, now| {
            let Some(shutdown) = &mut state.shutdown else { return };
            if Instant::now() < shutdown.deadline {
                return;
            }
            if !shutdown.cancelling {
                shutdown.cancelling = true;
                let grace = state.core.cancel_all(&shutdown.callers);
                shutdown.deadline = Instant::now() + grace.min(FOREVER) + LAST_WAIT;
                return;
            }
            let callers = shutdown.callers.clone();
            let going: Vec<_> = state.core.going().filter(|run| !callers.contains(run)).collect();
            for run in going {
                state.core.finish(run, Finish::without_work(Outcome::Abandoned, now), now);
            }
        });
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// Lets others run.
///
/// Tokio's `yield_now` leaves the task with its worker until that looks for work again. If what the
/// driver just spawned there blocks the thread, the driver is stuck behind it; woken like this, it
/// is in the queue that other workers steal from.
async fn step_aside() {
    let mut stepped = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut stepped, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Everything that has expired; waits until something has.
async fn expired(timers: &mut DelayQueue<Wake>) -> Vec<Wake> {
    // An empty queue is ready at once, with `None`: a wake-up will fill it.
    some_of(|cx| timers.poll_expired(cx).map(|wake| wake.map(delay_queue::Expired::into_inner)))
        .await
}

/// The jobs that were cancelled by their tokens; waits until one was.
async fn cancelled(watches: &mut FuturesUnordered<Cancelled>) -> Vec<JobKey> {
    // A watch that was aborted belonged to a job that is over.
    some_of(|cx| {
        loop {
            match std::task::ready!(watches.poll_next_unpin(cx)) {
                Some(Ok(job)) => return Poll::Ready(Some(job)),
                Some(Err(Aborted)) => {}
                None => return Poll::Ready(None),
            }
        }
    })
    .await
}

/// Takes what is ready, all in one poll; waits until something is.
async fn some_of<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<Option<T>>) -> Vec<T> {
    poll_fn(|cx| {
        let mut taken = Vec::new();
        while let Poll::Ready(Some(item)) = poll(cx) {
            taken.push(item);
        }
        if taken.is_empty() { Poll::Pending } else { Poll::Ready(taken) }
    })
    .await
}
