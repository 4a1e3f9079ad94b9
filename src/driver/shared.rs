//! The state that handles, runs and the driver share, and the only way to access it.

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

/// A scheduler, apart from its driver. It has many fields, since each part that handles use has a
/// lock of its own, or none.
pub(crate) struct Shared {
    state: Mutex<State>,
    inbox: Mutex<Inbox>,
    /// The origin of elapsed time.
    made_at: Instant,
    /// By name; the core has their limits.
    executors: Mutex<HashMap<Arc<str>, Arc<Executor>>>,
    /// The values that work may request by type.
    pub(crate) states: States,
    pub(crate) tasks: Tasks,
    /// Wakes the driver.
    pub(super) wake: Notify,
    /// Wakes the tasks that wait until no job is left here.
    pub(crate) emptied: Notify,
    pub(crate) clock: Clock,
    pub(crate) zone: TimeZone,
    pub(crate) defaults: Arc<JobOptions>,
    /// How many events or runs are buffered for a slow listener.
    pub(crate) buffer: usize,
    /// Whether timers are to be more precise than Tokio's.
    pub(super) precise: bool,
    pub(crate) stores: Stores,
    /// The options of its nodes, apart from those that depend on the store.
    pub(crate) node: NodeOptions,
    /// Wakes the tasks that wait for the removal of a store.
    pub(crate) leaving: Notify,
    /// The runtime in which the scheduler was made, or why there is none to use.
    runtime: Result<Handle, Error>,
    /// Cancelled when the driver has ended.
    pub(crate) stopped: CancellationToken,
}

/// The state behind the lock. No user value is awaited, woken or dropped under the lock.
struct State {
    machine: Machine<Arc<dyn Entry>>,
    hooks: Hooks,
    /// Kept for its capacity.
    ended: Vec<(RunKey, RunResult)>,
}

/// The external tokens and listeners.
#[derive(Default)]
pub(super) struct Hooks {
    listeners: Listeners,
    /// The cancellation tokens that runs requested.
    run_tokens: HashMap<RunKey, CancellationToken>,
    /// Tokens of jobs that the driver must watch.
    pub(super) watches: Vec<Watch>,
}

/// A token that cancels a job, to be watched until the job is over.
pub(super) struct Watch {
    pub(super) job: JobKey,
    pub(super) token: CancellationToken,
    pub(super) until: AbortRegistration,
}

/// The parts of a scheduler besides its core.
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

    /// Returns the state for work in a process of its own: without a driver, it refuses every call.
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

    /// Runs `f` on the core under the lock, at an instant, and carries out the effects.
    pub(crate) fn transact<T>(
        &self,
        f: impl FnOnce(&mut Core<Arc<dyn Entry>>, DateTime<Utc>) -> T,
    ) -> T {
        self.with(|machine, _, now| f(&mut machine.core, now))
    }

    /// Like [`transact`](Self::transact), if the scheduler has a runtime.
    pub(crate) fn try_transact<T>(
        &self,
        f: impl FnOnce(&mut Core<Arc<dyn Entry>>, DateTime<Utc>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.runtime()?;
        self.transact(f)
    }

    /// Has the machine read the clock and handle ended runs.
    pub(super) fn catch_up(&self) {
        self.with(|_, _, _| {});
    }

    /// Runs `f` under the lock, at an instant, and carries out the effects.
    pub(super) fn with<T>(
        &self,
        f: impl FnOnce(&mut Machine<Arc<dyn Entry>>, &mut Hooks, DateTime<Utc>) -> T,
    ) -> T {
        // Only a bug here poisons the lock; a half-made decision is better than none.
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
        // Read under the lock, so that a later transaction does not get an earlier time.
        let reading = self.clock.read();
        self.inbox().take(ended);
        hooks.apply_tokens(ended);
        let over = !ended.is_empty() && self.stopped.is_cancelled();
        let result = machine.transact(reading, ended, |machine, now| f(machine, hooks, now));
        let after = hooks.drain_outbox(machine);
        drop(state);
        after.carry_out(self);
        if over {
            self.end_streams();
        }
        result
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // Nothing panics while it has the lock.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the age of the scheduler, which also grows while a manual clock stands still.
    pub(super) fn elapsed(&self) -> TimeDelta {
        TimeDelta::from_std(self.made_at.elapsed()).unwrap_or(TimeDelta::MAX)
    }

    /// Returns when the scheduler reaches this age.
    pub(super) fn instant(&self, elapsed: TimeDelta) -> Instant {
        self.made_at + elapsed.to_std().unwrap_or_default().min(FOREVER)
    }

    /// Sets whether the driver is about to lock the state. After `false` it must do so once more.
    pub(super) fn attend(&self, attended: bool) {
        self.inbox().attended = attended;
    }

    /// Returns the runtime in which the scheduler was made.
    pub(crate) fn runtime(&self) -> Result<&Handle, Error> {
        self.runtime.as_ref().map_err(Clone::clone)
    }

    /// Polls `future` in the context of the scheduler's runtime if there is none: stores may need
    /// timers and I/O, and the caller may be a thread without a runtime.
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
                // The runtime may be gone, and then its timers panic.
                return Poll::Ready(Err(Error::shut_down("the scheduler has shut down")));
            }
            let _entered = runtime.enter();
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Returns the executor of this name.
    pub(crate) fn executor(&self, name: &str) -> Option<Arc<Executor>> {
        self.executors().get(name).cloned()
    }

    /// Adds an executor under a free name.
    pub(crate) fn add_executor(&self, name: Arc<str>, executor: Executor) -> Result<(), Error> {
        self.runtime()?;
        executor.validate(&name)?;
        let (limit, executor) = (executor.limit, Arc::new(executor));
        // Once the core knows the executor, runs may use it. On an error, the executor is dropped when
        // the lock is free, since its threads may belong to the user.
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
        // Nothing panics while it has the lock.
        self.executors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports the end of a run.
    pub(super) fn finish(&self, run: RunKey, finish: RunResult) {
        let urgency = self.inbox().push(run, finish);
        match urgency {
            Urgency::CanWait => {}
            Urgency::IfFree => {
                // The holder of the lock may have drained the inbox already, but the driver has
                // not.
                if let Ok(state) = self.state.try_lock() {
                    self.with_locked(state, |_, _, _| {});
                }
            }
            Urgency::Now => self.catch_up(),
        }
    }

    /// Returns the token that is cancelled with the run.
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

    /// The number of runs that have a token.
    #[cfg(test)]
    pub(crate) fn count_run_tokens(&self) -> usize {
        self.with(|_, hooks, _| hooks.run_tokens.len())
    }

    pub(crate) fn is_cancelled(&self, run: RunKey) -> bool {
        self.with(|machine, hooks, _| {
            machine.core.is_cancelled(run)
                || hooks.run_tokens.get(&run).is_some_and(CancellationToken::is_cancelled)
        })
    }

    /// Returns a stream of later events that pass the filter.
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

    /// Begins a shutdown, or shortens the one in progress.
    pub(crate) fn begin_shutdown(&self, within: Duration, caller: Option<RunKey>) {
        let elapsed = self.elapsed();
        self.with(|machine, _, now| machine.begin_shutdown(within, caller, elapsed, now));
        self.wake.notify_one();
    }

    /// Returns the outcomes of the shutdown in progress so far.
    pub(crate) fn shutdown_report(&self) -> ShutdownReport {
        self.with(|machine, _, _| machine.shutdown_report())
    }

    /// Returns until when the shutdown in progress lets runs end by themselves.
    #[cfg(feature = "standalone")]
    pub(crate) fn shutdown_deadline(&self) -> Option<Instant> {
        let deadline = self.with(|machine, _, _| machine.shutdown_deadline());
        deadline.map(|deadline| self.instant(deadline))
    }

    /// Gives runs up: they may stay active, but nothing waits for them any more.
    pub(crate) fn abandon(&self, runs: impl FnOnce(&Core<Arc<dyn Entry>>) -> Vec<RunKey>) {
        self.with(|machine, _, now| machine.abandon(runs(&machine.core), now));
    }

    /// Stops the scheduler, since the driver has ended or was dropped with its runtime: nothing
    /// starts any more.
    pub(super) fn stop(&self) {
        self.attend(false);
        // Dropped when the lock is free, since the starts own user work.
        let _starts = self.with(|machine, _, now| machine.stop(now));
        self.stores.all().iter().for_each(|durable| durable.stop());
        // Processes and threads that wait for runs end with the executors.
        let executors = std::mem::take(&mut *self.executors());
        drop(executors);
        self.stopped.cancel();
        self.end_streams();
    }

    /// Ends the streams of events, once no run is left that may emit another event.
    fn end_streams(&self) {
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
    // A panic is Tokio's only sign of missing timers: `Handle` does not show them. The panic's
    // message, which names the remedy as well, is printed; where panics abort, the program ends
    // here and not at the first timer.
    catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).map_err(|_| {
        Error::no_runtime(
            "the scheduler was made in a Tokio runtime without timers: call `enable_time()`, or `enable_all()`, on the runtime's builder",
        )
    })?;
    Ok(handle)
}

impl Hooks {
    /// Ends the retries of runs whose token was cancelled.
    fn apply_tokens(&mut self, ended: &mut [(RunKey, RunResult)]) {
        if self.run_tokens.is_empty() {
            return;
        }
        for (run, result) in ended {
            let token = self.run_tokens.get(run);
            if token.is_some_and(CancellationToken::is_cancelled) {
                match result.outcome {
                    // Blocking work is cancelled by its token; another attempt gets another token.
                    Outcome::TimedOut => drop(self.run_tokens.remove(run)),
                    _ => result.retry_in = None,
                }
            }
        }
    }

    /// Drops the tokens of runs that are over.
    fn drop_tokens(&mut self, concluded: &mut Vec<RunKey>) {
        if concluded.is_empty() {
            return;
        }
        if !self.run_tokens.is_empty() {
            for run in concluded.iter() {
                self.run_tokens.remove(run);
            }
            if self.run_tokens.is_empty() {
                self.run_tokens.shrink_to(KEPT);
            }
        }
        concluded.clear();
        concluded.shrink_to(KEPT);
    }

    /// Drains the core's outbox, except for the effects that the driver carries out: ordered
    /// effects are carried out here, and those that may call user code are left for after the lock
    /// is free.
    fn drain_outbox(&mut self, machine: &mut Machine<Arc<dyn Entry>>) -> PostUnlock {
        let wake_driver = machine.wakes_loop(!self.watches.is_empty());
        let mut after = PostUnlock { wake_driver, ..PostUnlock::default() };
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
        self.drop_tokens(&mut out.concluded);
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
