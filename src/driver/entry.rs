//! What the scheduler keeps with each job: its work, whether it may run, and who holds on to it.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures::future::AbortHandle;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::run::RunGuard;
use crate::{
    core::Payload,
    feed::FeedSender,
    job::{End, Outcome, Run, SkipReason},
};

/// A job's work and its state, in one allocation.
pub(crate) trait Entry: Send + Sync {
    fn state(&self) -> &EntryState;

    /// Spawns a run of the work.
    fn launch(self: Arc<Self>, run: RunGuard, runtime: &Handle);

    /// Learns how a run ended.
    fn conclude(&self, outcome: &Outcome) {
        let _ = outcome;
    }

    /// Drops the work: the job is over. What it captured must not outlive it in some handle.
    fn drop_work(&self);
}

impl Payload for Arc<dyn Entry> {
    fn set_standing(&self, standing: Option<SkipReason>) {
        let code = standing.map_or(0, |reason| match reason {
            SkipReason::Paused => 1,
            SkipReason::Shutdown => 2,
            _ => 3,
        });
        self.state().standing.store(code, Ordering::SeqCst);
    }
}

/// The part of an [`Entry`] that does not depend on the kind of work.
#[derive(Default)]
pub(crate) struct EntryState {
    /// Why runs that have not started are called off, if they are.
    standing: AtomicU8,
    /// The token that cancels the job, once somebody asked for it.
    token: OnceLock<CancellationToken>,
    ties: Mutex<Ties>,
}

#[derive(Default)]
struct Ties {
    end: Option<End>,
    /// Made for the first who asks.
    more: Option<Box<MoreTies>>,
}

#[derive(Default)]
struct MoreTies {
    /// Cancelled at the end of the job.
    ended: CancellationToken,
    /// Ends the driver's watch of the token.
    watch: Option<AbortHandle>,
    runs: Vec<FeedSender<Run>>,
}

/// What is to be done when the lock is free: waking and dropping may run the user's code.
#[derive(Default)]
pub(super) struct Reported {
    pub(super) wakers: Vec<Waker>,
    pub(super) dropped: Vec<Run>,
}

impl EntryState {
    /// Why a run must not start now. A token that was cancelled counts before the driver noticed.
    pub(crate) fn standing(&self) -> Option<SkipReason> {
        match self.standing.load(Ordering::SeqCst) {
            0 | 1 if self.token.get().is_some_and(CancellationToken::is_cancelled) => {
                Some(SkipReason::Removed)
            }
            0 => None,
            1 => Some(SkipReason::Paused),
            2 => Some(SkipReason::Shutdown),
            _ => Some(SkipReason::Removed),
        }
    }

    /// The token that cancels the job, and whether this call made it.
    pub(crate) fn token(&self) -> (CancellationToken, bool) {
        let mut made = false;
        let token = self.token.get_or_init(|| {
            made = true;
            CancellationToken::new()
        });
        (token.clone(), made)
    }

    /// Leaves what ends the driver's watch of the token. If the job is over, it ends at once.
    pub(crate) fn set_watch(&self, watch: AbortHandle) {
        let mut ties = self.ties();
        match ties.end {
            Some(_) => watch.abort(),
            None => ties.more.get_or_insert_default().watch = Some(watch),
        }
    }

    /// Sends every further run to `sender`, unless the job is over.
    pub(crate) fn subscribe(&self, sender: FeedSender<Run>) {
        let mut ties = self.ties();
        if ties.end.is_none() {
            let runs = &mut ties.more.get_or_insert_default().runs;
            // The next run may be far, and until then nothing else shows who is gone.
            runs.retain(|sender| !sender.is_closed());
            runs.push(sender);
        }
    }

    /// Sends a run to whoever listens.
    pub(super) fn report(&self, run: &Run, reported: &mut Reported) {
        let mut ties = self.ties();
        let Some(more) = &mut ties.more else { return };
        more.runs.retain(|sender| {
            let (waker, dropped) = sender.send(run.clone());
            reported.wakers.extend(waker);
            reported.dropped.extend(dropped);
            !sender.is_closed()
        });
    }

    /// The job is over: resolves its handles and closes its streams of runs.
    pub(super) fn end(&self, end: End) {
        let more = {
            let mut ties = self.ties();
            ties.end = Some(end);
            ties.more.take()
        };
        if let Some(more) = more {
            if let Some(watch) = more.watch {
                watch.abort();
            }
            more.ended.cancel();
        }
    }

    /// Cancels the job's token, if anybody has it.
    pub(super) fn cancel_token(&self) {
        if let Some(token) = self.token.get() {
            token.cancel();
        }
    }

    /// How the job ended, or what to wait for.
    fn ended(&self) -> Result<End, CancellationToken> {
        let mut ties = self.ties();
        match &ties.end {
            Some(end) => Ok(end.clone()),
            None => Err(ties.more.get_or_insert_default().ended.clone()),
        }
    }

    fn ties(&self) -> MutexGuard<'_, Ties> {
        // Nothing panics while it holds the lock.
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
