//! THE task: the only `select!`, the only `DelayQueue`. It turns the core's decisions into timers
//! and runs.

mod entry;
mod precise;
mod run;
mod shared;
mod store;
mod stores;
mod timers;
mod watch;

use std::{
    collections::VecDeque, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{
    StreamExt as _,
    future::{Abortable, JoinAll, join_all},
    stream::FuturesUnordered,
};
use tokio::{runtime::Handle, task::JoinHandle, time::Instant};

pub(crate) use self::{
    entry::{EndWait, Entry, EntryState, Hold},
    run::RunGuard,
    shared::{Shared, SharedConfig},
    store::Durable,
};
use self::{
    precise::Precise,
    store::{Answered, Answering},
    timers::{Timers, Wake},
};
use crate::{
    clock::{Moves, Now, tokio_is_paused},
    core::{JobKey, RunResult, Start},
    job::Outcome,
    panic::shielded,
};

/// How many jobs are fired under one lock, and between two chances for others to run.
const BATCH: usize = 256;

/// How much room lists keep for the next time: after a burst the rest is given back.
const KEPT: usize = 256;

/// How long after their grace runs are waited for that were cancelled: dropping takes a moment.
pub(crate) const LAST_WAIT: Duration = Duration::from_secs(1);

/// How long a store is given to hear what is left to tell, when all runs have ended.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

/// A wait that is as good as endless, and still can be added to an instant.
pub(crate) const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Fires when a job is cancelled by its token.
type Cancelled = Abortable<Pin<Box<dyn Future<Output = JobKey> + Send>>>;

pub(crate) struct Driver {
    shared: Arc<Shared>,
    runtime: Handle,
    timers: Timers,
    /// Slots that may be due, in the order in which they start.
    due: VecDeque<u32>,
    watches: FuturesUnordered<Cancelled>,
    /// What the node asked its store.
    answers: FuturesUnordered<Answering>,
    /// Until when the store is told what is left to tell, once all else is done.
    farewell: Option<Instant>,
    moves: Moves,
    /// Whether somebody looks at the clock.
    watched: bool,
    /// Kept for their capacity.
    dirty: Vec<u32>,
    starts: Vec<Start<Arc<dyn Entry>>>,
}

impl Driver {
    pub(crate) fn spawn(shared: Arc<Shared>, runtime: &Handle) {
        let moves = shared.clock.moves();
        let precise = if shared.precise { precise() } else { None };
        let driver = Driver {
            shared,
            runtime: runtime.clone(),
            timers: Timers::new(precise),
            due: VecDeque::new(),
            watches: FuturesUnordered::new(),
            answers: FuturesUnordered::new(),
            farewell: None,
            moves,
            watched: false,
            dirty: Vec::new(),
            starts: Vec::new(),
        };
        runtime.spawn(driver.drive());
    }

    async fn drive(mut self) {
        loop {
            if self.catch_up() {
                // It goes on if it takes longer.
                let _ = tokio::time::timeout(FAREWELL, self.close_stores()).await;
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
                expired = self.timers.expired() => self.expire(expired),
                jobs = cancelled(&mut self.watches) => self.shared.with(|state, now| {
                    for job in jobs {
                        state.core.cancel(job, now);
                    }
                }),
                answered = answered(&mut self.answers) => self.answer(answered),
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
            self.due.shrink_to(KEPT);
        }
        let (mut dirty, mut starts) =
            (std::mem::take(&mut self.dirty), std::mem::take(&mut self.starts));
        let (wakes, watches, shutdown, done, jobs, asked) = shared.with(|state, now| {
            state.core.out.ask = false;
            let asked = state.core.ask(now);
            std::mem::swap(&mut dirty, &mut state.core.out.dirty);
            std::mem::swap(&mut starts, &mut state.core.out.starts);
            state.driver_knows = false;
            let wakes: Vec<_> =
                dirty.iter().map(|&slot| (slot, state.core.wake_at(slot))).collect();
            let callers = state.shutdown.as_ref().map_or(&[][..], |shutdown| &shutdown.callers);
            let done =
                state.core.is_closed() && state.core.going().all(|run| callers.contains(&run));
            // Once all is given up that can be, there is nothing more to wait for.
            let pending = state.shutdown.as_ref().filter(|shutdown| !shutdown.given_up);
            let deadline = pending.map(|shutdown| shutdown.deadline);
            let node = state.core.node_wakes_in();
            let done = (done, state.core.has_left());
            let jobs = state.core.len();
            (wakes, std::mem::take(&mut state.watches), deadline, done, jobs, (asked, node))
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
        let now = shared.clock.now_and_instant();
        let removed = wakes.iter().filter(|(_, due)| due.is_none()).map(|&(slot, _)| slot);
        let dropped = self.timers.drop_at_once(removed, jobs);
        let mut due_now = Vec::new();
        for (slot, due) in wakes {
            self.arm(slot, due, now, &mut due_now);
        }
        self.enqueue(due_now);
        let coarse = self.timers.is_precise() && tokio_is_paused() && self.timers.be_coarse();
        if self.timers.give_back(jobs) || coarse || dropped {
            self.shared.with(|state, _| state.core.rearm_all());
        }
        if let Some(deadline) = shutdown {
            self.timers.set_shutdown(deadline);
        }
        let (asked, node) = asked;
        for (store, asked) in asked {
            let durable = self.shared.stores.get(store);
            self.answers.extend(durable.map(|durable| durable.carry_out(asked, &self.runtime)));
        }
        let done = self.is_done(done);
        self.set_node_timer(node);
        self.watch_clock();
        done
    }

    /// Whether there is nothing left to do: all runs have ended, and the store knows, or does not answer.
    fn is_done(&mut self, (runs, store): (bool, bool)) -> bool {
        if !runs || store {
            return runs;
        }
        if self.shared.with(|state, _| state.core.going().next().is_some()) {
            // Runs that asked for the shutdown can't be waited for, but the store is to hear of their
            // end.
            self.shared.stop_early();
            return false;
        }
        let until = *self.farewell.get_or_insert_with(|| Instant::now() + FAREWELL);
        let done = Instant::now() >= until;
        if done {
            for (store, untold) in self.shared.with(|state, _| state.core.untold()) {
                let store = &*store;
                tracing::warn!(target: "punctual", store, "store `{store}` does not answer: it was not told of {untold} runs that have ended");
            }
        }
        done
    }

    /// Has the stores see that what they have answered needs nothing of this process any more.
    fn close_stores(&self) -> JoinAll<JoinHandle<()>> {
        // In tasks, since it is somebody else's code.
        let closing = self.shared.stores.all().into_iter();
        join_all(closing.map(|it| self.runtime.spawn(async move { it.store.close().await })))
    }

    fn set_node_timer(&mut self, wait: Option<Duration>) {
        let asks = wait.and_then(|wait| self.shared.clock.deadline_in(wait));
        self.timers.set_node([asks, self.farewell].into_iter().flatten().min());
    }

    /// A store has answered.
    fn answer(&mut self, (store, asked, answer): Answered) {
        let durable = self.shared.stores.get(store);
        let entries = durable.map(|durable| durable.entries_for(&answer, &self.shared));
        let entries = entries.unwrap_or_default();
        self.shared.with(|state, now| state.core.answer(store, asked, answer, entries, now));
    }

    /// Sets, moves or removes the timer of a slot, unless its job is due now.
    fn arm(&mut self, slot: u32, due: Option<DateTime<Utc>>, now: Now, due_now: &mut Vec<u32>) {
        let deadline = match due {
            Some(due) if due <= now.wall => {
                due_now.push(slot);
                None
            }
            Some(due) => self.shared.clock.deadline(due, now, slot.into()),
            None => None,
        };
        self.timers.set(slot, deadline);
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
            let executor = match start.options.as_ref().unwrap_or(&self.shared.defaults).executor {
                None => None,
                Some(ref name) => self.shared.executor(name),
            };
            // Threads may not be had. Then the run is cancelled, and the scheduler goes on.
            shielded(|| entry.launch(RunGuard::new(start), executor, &self.runtime));
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
                Wake::Job(slot) => due_now.push(slot),
                Wake::Shutdown => self.end_patience(),
                // The driver asks before it waits again.
                Wake::Node => {}
            }
        }
        self.enqueue(due_now);
    }

    /// Has the clock looked at as long as it may step and there is anything to be late for.
    fn watch_clock(&mut self) {
        let wanted = !self.timers.is_empty() && self.shared.clock.must_be_watched();
        if wanted != self.watched {
            self.watched = watch::watch(&self.shared, wanted);
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
            shutdown.given_up = true;
            let callers = shutdown.callers.clone();
            let going: Vec<_> = state.core.going().filter(|run| !callers.contains(run)).collect();
            for run in going {
                state.finish(run, RunResult::without_work(Outcome::Abandoned, now), now);
            }
        });
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        watch::watch(&self.shared, false);
        self.shared.stop();
    }
}

/// The precise timers, if there can be any.
fn precise() -> Option<Precise> {
    let started = Precise::start();
    if let Err(error) = &started {
        tracing::warn!(target: "punctual", "no thread for precise timers, so Tokio's are used: {error}");
    }
    started.ok()
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

/// The next answer of the store; waits until there is one.
async fn answered(answers: &mut FuturesUnordered<Answering>) -> Answered {
    match answers.next().await {
        Some(answer) => answer,
        // Whoever asks wakes the driver.
        None => std::future::pending().await,
    }
}

/// The jobs that were cancelled by their tokens; waits until one was.
async fn cancelled(watches: &mut FuturesUnordered<Cancelled>) -> Vec<JobKey> {
    poll_fn(|cx| {
        let mut jobs = Vec::new();
        while let Poll::Ready(Some(watch)) = watches.poll_next_unpin(cx) {
            // A watch that was aborted belonged to a job that is over.
            if let Ok(job) = watch {
                jobs.push(job);
            }
        }
        if jobs.is_empty() { Poll::Pending } else { Poll::Ready(jobs) }
    })
    .await
}
