//! The scheduler's data of each job: its work, whether it may run, and the users of the job.

use std::{
    ops::Deref,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::future::AbortHandle;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{run::RunGuard, shared::Shared};
use crate::{
    core::Payload,
    error::Error,
    executor::Executor,
    feed::FeedSender,
    job::{DEFAULT_EXECUTOR, End, Outcome, Run, SkipReason},
};

/// A job's work and its state, in one allocation.
pub(crate) trait Entry: Send + Sync {
    fn state(&self) -> &EntryState;

    /// Checks that the work can run on this executor, and at all.
    fn check(&self, executor: &Executor) -> Result<(), Error>;

    /// Checks that the work can run at all.
    fn check_alone(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Returns the name and the arguments of the task, if the work is a task.
    fn task(&self) -> Option<(&'static str, Result<Arc<str>, Error>)> {
        None
    }

    /// Sets the arguments of the task, as of this version of its job's record, for runs that begin
    /// from here on. Older versions than the current one change nothing.
    fn set_args(&self, version: u64, args: &str) {
        let _ = (version, args);
    }

    /// Returns the executor of the work if its job names none.
    fn default_executor(&self) -> &'static str {
        DEFAULT_EXECUTOR
    }

    /// Whether the work can be called again.
    fn is_repeatable(&self) -> bool {
        true
    }

    /// Spawns a run of the work; `executor` is the one that the job names, if any.
    fn launch(self: Arc<Self>, run: RunGuard, executor: Option<Arc<Executor>>, runtime: &Handle);

    /// Whether a run of the job has any receivers.
    fn wants_runs(&self) -> bool {
        self.state().is_tied()
    }

    /// Accepts the outcome of a run, if [`wants_runs`](Self::wants_runs).
    fn conclude(&self, outcome: &Outcome) {
        let _ = outcome;
    }

    /// Drops the work, since the job is over. Captured values must not outlive the job in a handle.
    fn drop_work(&self);

    /// Returns the first entry of the job, if this one has later work.
    fn first(&self) -> Option<&Arc<dyn Entry>> {
        None
    }
}

/// A job with later work: its state is that of its first entry.
struct Reworked {
    first: Arc<dyn Entry>,
    work: Arc<dyn Entry>,
}

impl Entry for Reworked {
    fn state(&self) -> &EntryState {
        self.first.state()
    }

    fn check(&self, executor: &Executor) -> Result<(), Error> {
        self.work.check(executor)
    }

    fn check_alone(&self) -> Result<(), Error> {
        self.work.check_alone()
    }

    fn task(&self) -> Option<(&'static str, Result<Arc<str>, Error>)> {
        self.work.task()
    }

    fn set_args(&self, version: u64, args: &str) {
        self.work.set_args(version, args);
    }

    fn default_executor(&self) -> &'static str {
        self.work.default_executor()
    }

    fn is_repeatable(&self) -> bool {
        self.work.is_repeatable()
    }

    fn launch(self: Arc<Self>, run: RunGuard, executor: Option<Arc<Executor>>, runtime: &Handle) {
        self.work.clone().launch(run, executor, runtime);
    }

    fn wants_runs(&self) -> bool {
        self.state().is_tied() || self.work.wants_runs()
    }

    fn conclude(&self, outcome: &Outcome) {
        self.work.conclude(outcome);
    }

    fn drop_work(&self) {
        // Runs that were handed over before the work was changed call the first work.
        self.first.drop_work();
        self.work.drop_work();
    }

    fn first(&self) -> Option<&Arc<dyn Entry>> {
        Some(&self.first)
    }
}

impl Payload for Arc<dyn Entry> {
    fn set_args(&self, version: u64, args: &str) {
        (**self).set_args(version, args);
    }

    fn wants_runs(&self) -> bool {
        (**self).wants_runs()
    }

    fn want_output(&self) {
        self.state().want_output();
    }

    fn is_cancelled(&self) -> bool {
        self.state().is_cancelled()
    }

    fn has_handle(&self) -> bool {
        self.state().handles.load(Ordering::SeqCst) > 0
    }

    fn rework(&self, new: Arc<dyn Entry>) -> Arc<dyn Entry> {
        let first = self.first().unwrap_or(self).clone();
        first.state().take_over(new.state());
        Arc::new(Reworked { first, work: new })
    }

    fn take_over(&self, new: &Arc<dyn Entry>) {
        self.state().take_over(new.state());
    }

    fn is(&self, other: &Arc<dyn Entry>) -> bool {
        Arc::ptr_eq(self, other)
    }

    fn set_standing(&self, standing: Option<SkipReason>) {
        let code = standing.map_or(0, |reason| match reason {
            SkipReason::Paused => 1,
            SkipReason::Shutdown => 2,
            SkipReason::Replaced => 4,
            _ => 3,
        });
        self.state().standing.store(code, Ordering::SeqCst);
    }
}

/// The part of an [`Entry`] that does not depend on the kind of work.
pub(crate) struct EntryState {
    pub(crate) shared: Arc<Shared>,
    /// Why runs that have not started are called off, if they are.
    standing: AtomicU8,
    /// Whether the output of the work has any receivers.
    output_wanted: AtomicBool,
    /// The number of handles.
    handles: AtomicU32,
    /// Whether the subscriptions have more than the end, so that runs need not lock them to check.
    tied: AtomicBool,
    ties: Mutex<Subscriptions>,
}

/// The users of a job.
#[derive(Default)]
struct Subscriptions {
    end: Option<End>,
    /// Created on first use.
    more: Option<Box<Attachments>>,
}

#[derive(Default)]
struct Attachments {
    /// Cancels the job.
    token: Option<CancellationToken>,
    /// Cancelled at the end of the job.
    ended: CancellationToken,
    /// Ends the driver's watch of the token.
    watch: Option<AbortHandle>,
    runs: Vec<FeedSender<Run>>,
    /// The last runs of the job, once the job is over and if it has handles.
    history: Option<Arc<[Run]>>,
}

/// The entry of a handle: counted, so that the job's history outlives the job only if it can be
/// read.
pub(crate) struct CountedEntry(Arc<dyn Entry>);

impl CountedEntry {
    pub(crate) fn new(entry: Arc<dyn Entry>) -> CountedEntry {
        entry.state().handles.fetch_add(1, Ordering::SeqCst);
        CountedEntry(entry)
    }
}

impl Clone for CountedEntry {
    fn clone(&self) -> CountedEntry {
        CountedEntry::new(self.0.clone())
    }
}

impl Drop for CountedEntry {
    fn drop(&mut self) {
        self.0.state().handles.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Deref for CountedEntry {
    type Target = Arc<dyn Entry>;

    fn deref(&self) -> &Arc<dyn Entry> {
        &self.0
    }
}

/// Work for after the lock is free: waking and dropping may call user code.
#[derive(Default)]
pub(super) struct Reported {
    pub(super) wakers: Vec<Waker>,
    pub(super) dropped: Vec<Run>,
}

impl EntryState {
    pub(crate) fn new(shared: Arc<Shared>) -> EntryState {
        EntryState {
            shared,
            standing: AtomicU8::new(0),
            output_wanted: AtomicBool::new(false),
            handles: AtomicU32::new(0),
            tied: AtomicBool::new(false),
            ties: Mutex::default(),
        }
    }

    /// Returns why a run must not start now. A cancelled token counts before the driver notices it.
    pub(crate) fn standing(&self) -> Option<SkipReason> {
        match self.standing.load(Ordering::SeqCst) {
            0 | 1 if self.is_cancelled() => Some(SkipReason::Removed),
            0 => None,
            1 => Some(SkipReason::Paused),
            2 => Some(SkipReason::Shutdown),
            4 => Some(SkipReason::Replaced),
            _ => Some(SkipReason::Removed),
        }
    }

    /// Whether a token was made, or runs have subscribers, or the end has waiters.
    pub(crate) fn is_tied(&self) -> bool {
        self.tied.load(Ordering::SeqCst)
    }

    /// Has later runs keep the output of the work.
    pub(crate) fn want_output(&self) {
        self.output_wanted.store(true, Ordering::SeqCst);
    }

    /// Whether the output of the work has any receivers.
    pub(crate) fn wants_output(&self) -> bool {
        self.output_wanted.load(Ordering::SeqCst)
    }

    /// Whether the job was cancelled by its token.
    pub(super) fn is_cancelled(&self) -> bool {
        self.existing_token().is_some_and(|token| token.is_cancelled())
    }

    fn existing_token(&self) -> Option<CancellationToken> {
        if !self.tied.load(Ordering::SeqCst) {
            return None;
        }
        self.ties().more.as_ref()?.token.clone()
    }

    /// Returns the token that cancels the job, and whether this call made it.
    pub(crate) fn token(&self) -> (CancellationToken, bool) {
        let mut ties = self.ties();
        let token = &mut self.more(&mut ties).token;
        let made = token.is_none();
        (token.get_or_insert_default().clone(), made)
    }

    /// Sets the handle that ends the driver's watch of the token. If the job is over, the watch
    /// ends at once.
    pub(crate) fn set_watch(&self, watch: AbortHandle) {
        let mut ties = self.ties();
        match ties.end {
            Some(_) => watch.abort(),
            None => self.more(&mut ties).watch = Some(watch),
        }
    }

    /// Sends later runs to `sender`, with the output of the work, unless the job is over.
    pub(crate) fn subscribe(&self, sender: FeedSender<Run>) {
        self.want_output();
        let mut ties = self.ties();
        if ties.end.is_none() {
            let runs = &mut self.more(&mut ties).runs;
            // The next run may be far away, and until then nothing else shows which senders are
            // closed.
            runs.retain(|sender| !sender.is_closed());
            runs.push(sender);
        }
    }

    /// Moves the subscribers of another entry's runs to this entry.
    pub(crate) fn take_over(&self, other: &EntryState) {
        if other.wants_output() {
            self.want_output();
        }
        let runs = other.ties().more.as_mut().map(|more| std::mem::take(&mut more.runs));
        runs.into_iter().flatten().for_each(|sender| self.subscribe(sender));
    }

    /// Sends a run to the subscribers.
    pub(super) fn report(&self, run: &Run, reported: &mut Reported) {
        if !self.tied.load(Ordering::SeqCst) {
            return;
        }
        let mut ties = self.ties();
        let Some(more) = &mut ties.more else { return };
        more.runs.retain(|sender| {
            let (waker, dropped) = sender.send(run.clone());
            reported.wakers.extend(waker);
            reported.dropped.extend(dropped);
            !sender.is_closed()
        });
    }

    /// Keeps the last runs of a job that is about to be over, if it has handles.
    pub(super) fn keep(&self, history: Arc<[Run]>) {
        if self.handles.load(Ordering::SeqCst) > 0 {
            let mut ties = self.ties();
            self.more(&mut ties).history = Some(history);
        }
    }

    /// Returns the last runs of the job if it is over, or `None` if none were kept.
    pub(crate) fn past(&self) -> Option<Vec<Run>> {
        let ties = self.ties();
        ties.end.as_ref()?;
        let history = ties.more.as_ref().and_then(|more| more.history.as_ref());
        Some(history.map(|history| history.to_vec()).unwrap_or_default())
    }

    /// Ends the job: resolves its handles and closes its streams of runs.
    pub(crate) fn end(&self, end: End) {
        let more = {
            let mut ties = self.ties();
            ties.end = Some(end);
            let Some(more) = &mut ties.more else { return };
            let (watch, runs) = (more.watch.take(), std::mem::take(&mut more.runs));
            (watch, runs, more.ended.clone())
        };
        let (watch, runs, ended) = more;
        if let Some(watch) = watch {
            watch.abort();
        }
        drop(runs);
        ended.cancel();
    }

    /// Cancels the job's token, if it was made.
    pub(super) fn cancel_token(&self) {
        if let Some(token) = self.existing_token() {
            token.cancel();
        }
    }

    /// Returns how the job ended, or a token to wait for.
    fn ended(&self) -> Result<End, CancellationToken> {
        let mut ties = self.ties();
        match &ties.end {
            Some(end) => Ok(end.clone()),
            None => Err(self.more(&mut ties).ended.clone()),
        }
    }

    fn more<'a>(&self, ties: &'a mut Subscriptions) -> &'a mut Attachments {
        self.tied.store(true, Ordering::SeqCst);
        ties.more.get_or_insert_default()
    }

    fn ties(&self) -> MutexGuard<'_, Subscriptions> {
        // Nothing panics while it has the lock.
        self.ties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a job's end.
#[derive(Default)]
pub(crate) struct EndWait(Option<Pin<Box<WaitForCancellationFutureOwned>>>);

impl EndWait {
    pub(crate) fn poll(&mut self, state: &EntryState, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            match state.ended() {
                Ok(end) => return Poll::Ready(end),
                Err(ended) => {
                    let wait = self.0.get_or_insert_with(|| Box::pin(ended.cancelled_owned()));
                    std::task::ready!(wait.as_mut().poll(cx));
                    self.0 = None;
                }
            }
        }
    }
}
