//! The driver task, with the only `select!` and the only `DelayQueue`. It turns the core's
//! decisions into timers and runs.

mod entry;
mod listeners;
mod post_unlock;
mod precise;
mod request;
mod run;
mod shared;
mod store;
mod stores;
mod timers;
mod watch;

use std::{
    future::{poll_fn, ready},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use futures::{
    StreamExt as _,
    future::{Abortable, JoinAll, join_all},
    stream::FuturesUnordered,
};
use tokio::{runtime::Handle, task::JoinHandle};

pub(crate) use self::{
    entry::{CountedEntry, EndWait, Entry, EntryState},
    request::perform,
    run::RunGuard,
    shared::{Shared, SharedConfig},
    store::{Durable, KnownForNow},
};
use self::{
    precise::Precise,
    shared::Watch,
    store::{Answered, Answering},
    timers::{Timers, Wake},
};
use crate::{
    clock::{Moves, tokio_is_paused},
    core::{ACKNOWLEDGE_TIMEOUT, Course, JobKey, Timer, Turn},
    panic::shielded,
};

/// Fires when a job is cancelled by its token.
type Cancelled = Abortable<Pin<Box<dyn Future<Output = JobKey> + Send>>>;

pub(crate) struct Driver {
    shared: Arc<Shared>,
    runtime: Handle,
    timers: Timers,
    turn: Turn<Arc<dyn Entry>>,
    watches: FuturesUnordered<Cancelled>,
    /// The requests without a reply.
    answers: FuturesUnordered<Answering>,
    moves: Moves,
    /// Whether the clock is being watched.
    watched: bool,
}

impl Driver {
    pub(crate) fn spawn(shared: Arc<Shared>, runtime: &Handle) {
        let moves = shared.clock.moves();
        let precise = if shared.precise { precise() } else { None };
        let driver = Driver {
            shared,
            runtime: runtime.clone(),
            timers: Timers::new(precise),
            turn: Turn::new(),
            watches: FuturesUnordered::new(),
            answers: FuturesUnordered::new(),
            moves,
            watched: false,
        };
        runtime.spawn(driver.drive());
    }

    async fn drive(mut self) {
        loop {
            if self.catch_up() {
                // Longer closing continues in the background.
                let _ = tokio::time::timeout(ACKNOWLEDGE_TIMEOUT, self.close_stores()).await;
                return;
            }
            let fires = self.turn.fires;
            if fires {
                self.shared.attend(true);
                self.fire();
                // Jobs that are due again by now must not block other tasks.
                step_aside().await;
            }
            // Every branch is cancel safe: a branch hands over everything that it receives within
            // one poll.
            tokio::select! {
                // While jobs are due nothing is waited for, and replies of stores, tokens and timers are
                // still received: `select!` polls its branches in random order.
                () = ready(()), if fires => {}
                () = self.shared.wake.notified() => {}
                expired = self.timers.expired() => self.expire(expired),
                jobs = cancelled(&mut self.watches) => self.shared.transact(|core, now| {
                    for job in jobs {
                        core.cancel(job, now);
                    }
                }),
                answered = answered(&mut self.answers) => self.answer(answered),
                () = self.moves.next() => self.shared.transact(|core, _| core.rearm_all()),
            }
        }
    }

    /// Takes a turn of the machine and carries it out. Returns whether that was the last turn.
    fn catch_up(&mut self) -> bool {
        if !self.turn.fires {
            self.shared.attend(false);
        }
        let (turn, elapsed) = (&mut self.turn, self.shared.elapsed());
        let watches = self.shared.with(|machine, hooks, now| {
            machine.turn(elapsed, now, turn);
            std::mem::take(&mut hooks.watches)
        });
        self.launch();
        self.watch(watches);
        self.set_timers();
        for (store, asked) in self.turn.requests.drain(..) {
            let durable = self.shared.stores.get(store);
            self.answers.extend(durable.map(|durable| durable.carry_out(asked, &self.runtime)));
        }
        self.watch_clock();
        match &self.turn.course {
            Course::GoesOn => false,
            Course::HasStopped => {
                self.shared.stopped.cancel();
                false
            }
            Course::Ends(unanswered) => {
                for (store, pending) in unanswered {
                    let store = &**store;
                    tracing::warn!(target: "punctual", store, "store `{store}` does not answer: it was not told of {pending} runs that have ended");
                }
                true
            }
        }
    }

    /// Watches the tokens that cancel jobs.
    fn watch(&mut self, watches: Vec<Watch>) {
        for Watch { job, token, until } in watches {
            let cancelled = token.cancelled_owned();
            let cancelled: Pin<Box<dyn Future<Output = JobKey> + Send>> = Box::pin(async move {
                cancelled.await;
                job
            });
            self.watches.push(Abortable::new(cancelled, until));
        }
    }

    /// Sets, moves and removes timers.
    fn set_timers(&mut self) {
        let clock = &self.shared.clock;
        let (now, jobs) = (clock.now_and_instant(), self.turn.jobs);
        let gone = self.turn.timers.iter().filter(|(_, timer)| *timer == Timer::Gone);
        let dropped = self.timers.drop_at_once(gone.map(|&(slot, _)| slot), jobs);
        for (slot, timer) in self.turn.timers.drain(..) {
            let deadline = match timer {
                Timer::At(due) => clock.deadline(due, now, slot.into()),
                Timer::Due | Timer::Gone => None,
            };
            self.timers.set(slot, deadline);
        }
        let coarse = self.timers.is_precise() && tokio_is_paused() && self.timers.be_coarse();
        if self.timers.give_back(jobs) || coarse || dropped {
            self.shared.transact(|core, _| core.rearm_all());
        }
        if let Some(deadline) = self.turn.patient_until {
            self.timers.set_shutdown(self.shared.instant(deadline));
        }
        let sends = self.turn.sends_in.and_then(|wait| self.shared.clock.deadline_in(wait));
        let acknowledge_until = self.turn.acknowledge_until.map(|until| self.shared.instant(until));
        self.timers.set_node([sends, acknowledge_until].into_iter().flatten().min());
        self.turn.shrink();
    }

    /// Has each store finish what its replies started, so that nothing needs this process any more.
    fn close_stores(&self) -> JoinAll<JoinHandle<()>> {
        // In tasks, since a store is foreign code.
        let closing = self.shared.stores.all().into_iter();
        join_all(closing.map(|it| self.runtime.spawn(async move { it.store.close().await })))
    }

    /// Accepts the reply of a store.
    fn answer(&mut self, (store, asked, answer): Answered) {
        let durable = self.shared.stores.get(store);
        let entries = durable.map(|durable| durable.entries_for(&answer, &self.shared));
        let entries = entries.unwrap_or_default();
        self.shared.transact(|core, now| core.answer(store, asked, answer, entries, now));
    }

    /// Fires the next batch of due jobs.
    fn fire(&mut self) {
        let turn = &mut self.turn;
        self.shared.with(|machine, _, now| machine.fire(now, turn));
        self.launch();
    }

    /// Spawns the runs that start.
    fn launch(&mut self) {
        let several = self.turn.starts.len() > 1;
        for start in self.turn.starts.drain(..) {
            let entry = start.payload.clone();
            let executor = match start.options.as_ref().unwrap_or(&self.shared.defaults).executor {
                None => None,
                Some(ref name) => self.shared.executor(name),
            };
            // Without a free thread, the run is cancelled, and the scheduler continues.
            shielded(|| entry.launch(RunGuard::new(start), executor, &self.runtime));
        }
        if several {
            // A worker of Tokio runs the task spawned last first, and the others in order: let the
            // last one do nothing.
            self.runtime.spawn(async {});
        }
    }

    fn expire(&mut self, expired: Vec<Wake>) {
        for wake in expired {
            match wake {
                Wake::Job(slot) => self.turn.expired.push(slot),
                Wake::Shutdown => {
                    let elapsed = self.shared.elapsed();
                    self.shared.with(|machine, _, now| machine.end_patience(elapsed, now));
                }
                // The next turn sends the requests.
                Wake::Node => {}
            }
        }
    }

    /// Has the clock watched as long as it may step and there is a timer.
    fn watch_clock(&mut self) {
        let wanted = !self.timers.is_empty() && self.shared.clock.must_be_watched();
        if wanted != self.watched {
            self.watched = watch::watch(&self.shared, wanted);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        watch::watch(&self.shared, false);
        self.shared.stop();
    }
}

/// Returns the precise timers, if they can be started.
fn precise() -> Option<Precise> {
    let started = Precise::start();
    if let Err(error) = &started {
        tracing::warn!(target: "punctual", "no thread for precise timers, so Tokio's are used: {error}");
    }
    started.ok()
}

/// Lets other tasks run.
///
/// Tokio's `yield_now` leaves the task with its worker until that looks for work again. If a task
/// that the driver just spawned there blocks the thread, the driver is stuck behind it; woken like
/// this, it is in the queue that other workers steal from.
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

/// Waits for the next reply of a store.
async fn answered(answers: &mut FuturesUnordered<Answering>) -> Answered {
    match answers.next().await {
        Some(answer) => answer,
        // A new request wakes the driver.
        None => std::future::pending().await,
    }
}

/// Waits for jobs that are cancelled by their tokens.
async fn cancelled(watches: &mut FuturesUnordered<Cancelled>) -> Vec<JobKey> {
    poll_fn(|cx| {
        let mut jobs = Vec::new();
        while let Poll::Ready(Some(watch)) = watches.poll_next_unpin(cx) {
            // The job of an aborted watch is over.
            if let Ok(job) = watch {
                jobs.push(job);
            }
        }
        if jobs.is_empty() { Poll::Pending } else { Poll::Ready(jobs) }
    })
    .await
}
