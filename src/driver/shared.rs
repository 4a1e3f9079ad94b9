//! The state that handles, runs and the driver share, and the one way to reach it.

use std::{
    collections::HashMap,
    future::poll_fn,
    panic::catch_unwind,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::AbortRegistration;
use tokio::{runtime::Handle, sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{entry::Entry, listeners::Listeners, post_unlock::PostUnlock, stores::Stores};
use crate::{
    clock::Clock,
    core::{
        Core, FOREVER, Inbox, JobKey, KEPT, Machine, NodeOptions, RunKey, RunResult,
        ShutdownReport, Urgency,
    },
    error::Error,
    event::{Event, EventFilter},
    executor::Executor,
    feed::{FeedReceiver, feed},
    job::{JobOptions, Outcome},
    task::{States, Tasks},
    zone::TimeZone,
};

/// What a scheduler consists of, but for its driver. Its fields are many, since each part that handles use
/// has a lock, or none, of its own.
pub(crate) struct Shared {
    state: Mutex<State>,
    inbox: Mutex<Inbox>,
    /// When it was made: the origin of elapsed time.
    made_at: Instant,
    /// By name; the core knows their limits.
    executors: Mutex<HashMap<Arc<str>, Arc<Executor>>>,
    /// What work may ask for by its type.
    pub(crate) states: States,
    pub(crate) tasks: Tasks,
    /// Wakes the driver.
    pub(super) wake: Notify,
    /// Wakes those who wait until no job is left here.
    pub(crate) emptied: Notify,
    pub(crate) clock: Clock,
    pub(crate) zone: TimeZone,
    pub(crate) defaults: Arc<JobOptions>,
    /// How many events, or runs, are kept for a listener that is slow.
    pub(crate) buffer: usize,
    /// Whether timers are to be more precise than Tokio's.
    pub(super) precise: bool,
    pub(crate) stores: Stores,
    /// How it is a node of each, but for what depends on the store.
    pub(crate) node: NodeOptions,
    /// Wakes those who wait until the scheduler has taken leave of a store.
    pub(crate) leaving: Notify,
    /// The runtime that the scheduler was made in, or why there is none to use.
    runtime: Result<Handle, Error>,
    /// Cancelled when the driver is done.
    pub(crate) stopped: CancellationToken,
}

/// What the lock protects. Nothing is awaited, woken or dropped under it that is the user's.
struct State {
    machine: Machine<Arc<dyn Entry>>,
    hooks: Hooks,
    /// Kept for its capacity.
    ended: Vec<(RunKey, RunResult)>,
}

/// What tokens and listeners outside are attached to.
#[derive(Default)]
pub(super) struct Hooks {
    listeners: Listeners,
    /// The cancellation tokens of runs that asked for one.
    run_tokens: HashMap<RunKey, CancellationToken>,
    /// Tokens of jobs that the driver is to watch.
    pub(super) watches: Vec<Watch>,
}

/// A token that cancels a job, to be watched until the job is over.
pub(super) struct Watch {
    pub(super) job: JobKey,
    pub(super) token: CancellationToken,
    pub(super) until: AbortRegistration,
}

/// What a scheduler is made of, besides its core.
pub(crate) struct SharedConfig {
    pub(crate) clock: Clock,
    pub(crate) zone: TimeZone,
    pub(crate) defaults: Arc<JobOptions>,
    pub(crate) buffer: usize,
    pub(crate) precise: bool,
    pub(crate) states: States,
    pub(crate) tasks: Tasks,
    pub(crate) node: NodeOptions,
}

impl Shared {
    pub(crate) fn new(core: Core<Arc<dyn Entry>>, parts: SharedConfig) -> Shared {
        let SharedConfig { clock, zone, defaults, buffer, precise, states, tasks, node } = parts;
        Shared {
            state: Mutex::new(State {
                machine: Machine::new(core, clock.read()),
                hooks: Hooks::default(),
                ended: Vec::new(),
            }),
            inbox: Mutex::default(),
            made_at: Instant::now(),
            executors: Mutex::default(),
            states,
            tasks,
            wake: Notify::new(),
            emptied: Notify::new(),
            clock,
            zone,
            defaults,
            buffer,
            precise,
            stores: Stores::default(),
            node,
            leaving: Notify::new(),
            runtime: runtime(),
            stopped: CancellationToken::new(),
        }
    }

    /// One that nobody drives, for work in a process of its own: it refuses what it is asked.
    #[cfg(feature = "process")]
    pub(crate) fn detached(states: States, refusal: Error) -> Shared {
        let defaults = Arc::<JobOptions>::default();
        let clock = Clock::System(crate::clock::SystemClock::new());
        let core = Core::new(0, defaults.clone(), false, clock.read());
        let parts = SharedConfig {
            clock,
            zone: TimeZone::UTC,
            defaults,
            buffer: 1,
            precise: false,
            states,
            tasks: Tasks::default(),
            node: NodeOptions::default(),
        };
        let mut shared = Shared::new(core, parts);
        shared.runtime = Err(refusal);
        shared.stopped.cancel();
        shared
    }

    /// Runs `f` on the core under the lock, at an instant, and carries out what follows from it.
    pub(crate) fn transact<T>(
        &self,
        f: impl FnOnce(&mut Core<Arc<dyn Entry>>, DateTime<Utc>) -> T,
    ) -> T {
        self.with(|machine, _, now| f(&mut machine.core, now))
    }

    /// The same, if the scheduler has a runtime to run in.
    pub(crate) fn try_transact<T>(
        &self,
        f: impl FnOnce(&mut Core<Arc<dyn Entry>>, DateTime<Utc>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.runtime()?;
        self.transact(f)
    }

    /// Has the machine see what time it is, and which runs have ended.
    pub(super) fn catch_up(&self) {
        self.with(|_, _, _| {});
    }

    /// Runs `f` under the lock, at an instant, and carries out what follows from it.
    pub(super) fn with<T>(
        &self,
        f: impl FnOnce(&mut Machine<Arc<dyn Entry>>, &mut Hooks, DateTime<Utc>) -> T,
    ) -> T {
        // The lock is poisoned only by a bug here; a half-made decision is better than none.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.with_locked(state, f)
    }

    fn with_locked<T>(
        &self,
        mut state: MutexGuard<'_, State>,
        f: impl FnOnce(&mut Machine<Arc<dyn Entry>>, &mut Hooks, DateTime<Utc>) -> T,
    ) -> T {
        let State { machine, hooks, ended } = &mut *state;
        machine.core.observe(hooks.listeners.observed());
        // Read under the lock, so that what happens later does not get an earlier time.
        let reading = self.clock.read();
        self.inbox().take(ended);
        hooks.apply_tokens(ended);
        let over = !ended.is_empty() && self.stopped.is_cancelled();
        let result = machine.transact(reading, ended, |machine, now| f(machine, hooks, now));
        let after = hooks.drain_outbox(machine);
        drop(state);
        after.carry_out(self);
        if over {
            self.let_listeners_go();
        }
        result
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // Nothing panics while it holds the lock.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it has been there: time that also passes while a manual clock stands still.
    pub(super) fn elapsed(&self) -> TimeDelta {
        TimeDelta::from_std(self.made_at.elapsed()).unwrap_or(TimeDelta::MAX)
    }

    /// When so much time will have passed since it was made.
    pub(super) fn instant(&self, elapsed: TimeDelta) -> Instant {
        self.made_at + elapsed.to_std().unwrap_or_default().min(FOREVER)
    }

    /// Whether the driver is going to lock the state in a moment. It must do so after it said no.
    pub(super) fn attend(&self, attended: bool) {
        self.inbox().attended = attended;
    }

    /// The runtime that the scheduler was made in.
    pub(crate) fn runtime(&self) -> Result<&Handle, Error> {
        self.runtime.as_ref().map_err(Clone::clone)
    }

    /// Polls `future` in the context of the scheduler's runtime where there is none: stores may need
    /// timers and I/O, and whoever waits may be a thread of no runtime.
    pub(crate) async fn within<T>(
        &self,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if Handle::try_current().is_ok() {
                return future.as_mut().poll(cx);
            }
            let runtime = self.runtime()?;
            if self.stopped.is_cancelled() {
                // The runtime may be gone, and its timers panic then.
                return Poll::Ready(Err(Error::shut_down("the scheduler has shut down")));
            }
            let _entered = runtime.enter();
            future.as_mut().poll(cx)
        })
        .await
    }

    /// The executor of this name.
    pub(crate) fn executor(&self, name: &str) -> Option<Arc<Executor>> {
        self.executors().get(name).cloned()
    }

    /// Adds an executor, of whose name there is none.
    pub(crate) fn add_executor(&self, name: Arc<str>, executor: Executor) -> Result<(), Error> {
        self.runtime()?;
        executor.validate(&name)?;
        let (limit, executor) = (executor.limit, Arc::new(executor));
        // Once the core knows it there are runs that ask for it. What is left of it is dropped when
        // the lock is free: its threads may be the user's trouble.
        self.transact(|core, now| {
            core.add_executor(name.clone(), limit, now)?;
            self.executors().insert(name, executor.clone());
            Ok(())
        })
    }

    pub(crate) fn remove_executor(&self, name: Arc<str>) -> Result<(), Error> {
        let removed = self.try_transact(|core, now| {
            core.remove_executor(name.clone(), now)?;
            Ok(self.executors().remove(&name))
        });
        removed.map(drop)
    }

    fn executors(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Executor>>> {
        // Nothing panics while it holds the lock.
        self.executors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports a run's end.
    pub(super) fn finish(&self, run: RunKey, finish: RunResult) {
        let urgency = self.inbox().push(run, finish);
        match urgency {
            Urgency::CanWait => {}
            Urgency::IfFree => {
                // Whoever holds it now may have looked already, but the driver has not.
                if let Ok(state) = self.state.try_lock() {
                    self.with_locked(state, |_, _, _| {});
                }
            }
            Urgency::Now => self.catch_up(),
        }
    }

    /// The token that is cancelled when the run is asked to stop.
    pub(crate) fn run_token(&self, run: RunKey) -> CancellationToken {
        let (token, cancelled) = self.with(|machine, hooks, _| {
            let cancelled = machine.core.is_cancelled(run);
            let token = match cancelled {
                // A run that is over must not leave a token behind.
                true => hooks.run_tokens.get(&run).cloned().unwrap_or_default(),
                false => hooks.run_tokens.entry(run).or_default().clone(),
            };
            (token, cancelled)
        });
        if cancelled {
            token.cancel();
        }
        token
    }

    pub(crate) fn is_cancelled(&self, run: RunKey) -> bool {
        self.with(|machine, hooks, _| {
            machine.core.is_cancelled(run)
                || hooks.run_tokens.get(&run).is_some_and(CancellationToken::is_cancelled)
        })
    }

    /// Listens to what passes the filter from here on.
    pub(crate) fn listen(&self, filter: EventFilter) -> FeedReceiver<Event> {
        self.with(|_, hooks, _| {
            if self.stopped.is_cancelled() {
                // A stream that has ended.
                return feed(self.buffer).1;
            }
            hooks.listeners.add(filter, self.buffer)
        })
    }

    /// Has the driver watch the token that cancels a job.
    pub(crate) fn watch(&self, job: JobKey, token: CancellationToken, until: AbortRegistration) {
        self.with(|_, hooks, _| hooks.watches.push(Watch { job, token, until }));
    }

    /// Starts nothing from here on.
    pub(crate) fn close(&self) {
        self.transact(|core, now| core.close(now));
        self.wake.notify_one();
    }

    /// Begins a shutdown, or shortens the one that is on its way.
    pub(crate) fn begin_shutdown(&self, within: Duration, caller: Option<RunKey>) {
        let elapsed = self.elapsed();
        self.with(|machine, _, now| machine.begin_shutdown(within, caller, elapsed, now));
        self.wake.notify_one();
    }

    /// What the shutdown on its way has come to.
    pub(crate) fn shutdown_report(&self) -> ShutdownReport {
        self.with(|machine, _, _| machine.shutdown_report())
    }

    /// Until when the shutdown on its way lets runs end by themselves.
    #[cfg(feature = "standalone")]
    pub(crate) fn shutdown_deadline(&self) -> Option<Instant> {
        let deadline = self.with(|machine, _, _| machine.shutdown_deadline());
        deadline.map(|deadline| self.instant(deadline))
    }

    /// Gives up these runs: they may go on, but nobody waits for them any more.
    pub(crate) fn abandon(&self, runs: impl FnOnce(&Core<Arc<dyn Entry>>) -> Vec<RunKey>) {
        self.with(|machine, _, now| machine.abandon(runs(&machine.core), now));
    }

    /// The driver is done, or was dropped with its runtime: nothing will start any more.
    pub(super) fn stop(&self) {
        self.attend(false);
        // Dropped when the lock is free: they hold the user's work.
        let _starts = self.with(|machine, _, now| machine.stop(now));
        self.stores.all().iter().for_each(|durable| durable.stop());
        // With them go processes and threads that wait for runs.
        let executors = std::mem::take(&mut *self.executors());
        drop(executors);
        self.stopped.cancel();
        self.let_listeners_go();
    }

    /// Ends the streams of events, once no run is left that may have something to tell.
    fn let_listeners_go(&self) {
        let listeners = self.with(|machine, hooks, _| match machine.core.active_runs().next() {
            Some(_) => Listeners::default(),
            None => std::mem::take(&mut hooks.listeners),
        });
        drop(listeners);
    }
}

fn runtime() -> Result<Handle, Error> {
    let handle = Handle::try_current().map_err(|_| {
        Error::no_runtime(
            "the scheduler was made outside a Tokio runtime: call `Scheduler::new()` inside `#[tokio::main]`, or within `runtime.enter()`",
        )
    })?;
    // Tokio says by a panic that it has no timers, and in no other way: `Handle` does not know. The panic's
    // message, which names the remedy as well, is printed; where panics abort, the program ends here and
    // not at the first timer.
    catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).map_err(|_| {
        Error::no_runtime(
            "the scheduler was made in a Tokio runtime without timers: call `enable_time()`, or `enable_all()`, on the runtime's builder",
        )
    })?;
    Ok(handle)
}

impl Hooks {
    /// A run whose token was cancelled is not tried again.
    fn apply_tokens(&mut self, ended: &mut [(RunKey, RunResult)]) {
        if self.run_tokens.is_empty() {
            return;
        }
        for (run, result) in ended {
            let token = self.run_tokens.get(run);
            if token.is_some_and(CancellationToken::is_cancelled) {
                match result.outcome {
                    // Work that blocks learns of it by its token; another attempt gets another.
                    Outcome::TimedOut => drop(self.run_tokens.remove(run)),
                    _ => result.retry_in = None,
                }
            }
        }
    }

    /// Drops the tokens of runs that are over.
    fn drop_tokens(&mut self, machine: &mut Machine<Arc<dyn Entry>>) {
        if machine.finished.is_empty() {
            return;
        }
        if !self.run_tokens.is_empty() {
            for &run in &machine.finished {
                if machine.core.is_over(run) {
                    self.run_tokens.remove(&run);
                }
            }
            if self.run_tokens.is_empty() {
                self.run_tokens.shrink_to(KEPT);
            }
        }
        machine.finished.clear();
        machine.finished.shrink_to(KEPT);
    }

    /// Empties the core's outbox of everything but what the driver does: what must keep its order
    /// is done here, and what may run the user's code is left for when the lock is free.
    fn drain_outbox(&mut self, machine: &mut Machine<Arc<dyn Entry>>) -> PostUnlock {
        let wake_driver = machine.wakes_loop(!self.watches.is_empty());
        let mut after = PostUnlock { wake_driver, ..PostUnlock::default() };
        self.drop_tokens(machine);
        let out = machine.core.outbox();
        after.events = std::mem::take(&mut out.events);
        self.listeners.send(&after.events, &mut after.reported.wakers, &mut after.dropped_events);
        if !out.reports.is_empty() {
            for (entry, run) in out.reports.drain(..) {
                entry.state().report(&run, &mut after.reported);
                after.runs.push((entry, run));
            }
            out.reports.shrink_to(KEPT);
        }
        if !out.cancels.is_empty() {
            let token = |run| self.run_tokens.get(&run).cloned();
            after.cancelled.extend(out.cancels.drain(..).filter_map(token));
            out.cancels.shrink_to(KEPT);
        }
        after.retired = std::mem::take(&mut out.retired);
        after.ended = std::mem::take(&mut out.ended);
        after.over = std::mem::take(&mut out.over);
        after.discarded = std::mem::take(&mut out.discarded);
        let gone = !after.ended.is_empty() || !after.discarded.is_empty();
        after.leaving = std::mem::take(&mut out.wake_removals);
        after.left_none = gone && machine.core.len() == 0;
        after
    }
}
