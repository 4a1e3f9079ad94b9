//! How a scheduler reaches its store: what its node asks is carried out, and the entries of durable
//! jobs that somebody holds on to are found again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{runtime::Handle, time::timeout};

use super::{Entry, Shared};
use crate::{
    core::{Answer, Asked, Lease, Request},
    job::{End, JobId},
    store::{Changed, ErasedStore, Incarnation, Now, Record, StoreError, Taken},
};

/// A scheduler's store, and what this process knows of the jobs in it.
pub(crate) struct Durable {
    pub(crate) store: Arc<dyn ErasedStore>,
    pub(crate) lease: Arc<Lease>,
    /// How long an answer is waited for.
    pub(crate) patience: Duration,
    /// The entries of jobs that were added here and that somebody may hold on to.
    entries: Mutex<HashMap<Incarnation, Known>>,
}

struct Known {
    id: JobId,
    version: u64,
    entry: Weak<dyn Entry>,
}

/// A request on its way, and at its end the answer.
pub(super) type Answering = BoxFuture<'static, (Asked, Result<Answer, StoreError>)>;

impl Durable {
    pub(crate) fn new(
        store: Arc<dyn ErasedStore>,
        lease: Arc<Lease>,
        patience: Duration,
    ) -> Durable {
        Durable { store, lease, patience, entries: Mutex::default() }
    }

    /// Finds the entry again when the job is taken, for as long as somebody holds on to it.
    pub(crate) fn know(&self, record: &Record, entry: &Arc<dyn Entry>) {
        let mut entries = self.entries();
        if entries.len() >= 64 && entries.len() == entries.capacity() {
            entries.retain(|_, known| known.entry.strong_count() > 0);
        }
        let known =
            Known { id: record.id.clone(), version: record.version, entry: Arc::downgrade(entry) };
        entries.insert(record.incarnation, known);
    }

    /// The entry of a job that was added here, if somebody holds on to it.
    pub(crate) fn known(&self, incarnation: Incarnation) -> Option<Arc<dyn Entry>> {
        self.entries().get(&incarnation)?.entry.upgrade()
    }

    /// A job is over: tells who holds on to it.
    pub(super) fn end(&self, incarnation: Incarnation, end: End) {
        let known = self.entries().remove(&incarnation);
        if let Some(entry) = known.and_then(|known| known.entry.upgrade()) {
            entry.state().cancel_token();
            entry.state().end(end);
        }
    }

    /// The scheduler has stopped: tells all who hold on to jobs.
    pub(super) fn stop(&self) {
        let known = std::mem::take(&mut *self.entries());
        for entry in known.into_values().filter_map(|known| known.entry.upgrade()) {
            entry.state().end(End::ShutDown);
        }
    }

    /// Adds those jobs that somebody holds on to.
    fn add_known(&self, asked: &mut Vec<(JobId, Incarnation, u64)>) {
        let mut entries = self.entries();
        entries.retain(|_, known| known.entry.strong_count() > 0);
        for (&incarnation, known) in &*entries {
            if !asked.iter().any(|&(_, asked, _)| asked == incarnation) {
                asked.push((known.id.clone(), incarnation, known.version));
            }
        }
    }

    fn learn(&self, changed: &[Changed]) {
        let mut entries = self.entries();
        for Changed { incarnation, now } in changed {
            if let (Some(known), Now::Changed(record)) = (entries.get_mut(incarnation), now) {
                known.version = record.version;
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Incarnation, Known>> {
        // Nothing panics while it holds the lock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out what the node asks, in a task of its own: the store is somebody else's code.
    pub(super) fn carry_out(self: &Arc<Self>, asked: Asked, runtime: &Handle) -> Answering {
        let durable = self.clone();
        let (lane, mut request) = asked;
        if let Request::Changed(known) = &mut request {
            durable.add_known(known);
        }
        let to_do = request.clone();
        let task = runtime.spawn(async move {
            let patience = durable.patience;
            timeout(patience, durable.perform(to_do)).await.unwrap_or_else(|_| {
                Err(StoreError::unavailable(format!("it has not answered for {patience:?}")))
            })
        });
        Box::pin(async move {
            let answer = task.await.unwrap_or_else(|error| {
                Err(StoreError::unavailable(format!("its operation panicked: {error}")))
            });
            ((lane, request), answer)
        })
    }

    async fn perform(&self, request: Request) -> Result<Answer, StoreError> {
        let store = &self.store;
        Ok(match request {
            Request::Beat(beat) => Answer::Beat(store.heartbeat(beat).await?),
            Request::Reap => Answer::Reaped(store.reap().await?),
            Request::TakenBy(node, limit) => Answer::TakenBy(store.taken_by(node, limit).await?),
            Request::Take(take) => Answer::Takings(store.take(take).await?),
            Request::NextDue(of) => Answer::NextDue(store.next_due(of).await?),
            Request::Changed(known) if known.is_empty() => Answer::Changed(Vec::new()),
            Request::Changed(known) => {
                let changed = store.changed(known).await?;
                self.learn(&changed);
                Answer::Changed(changed)
            }
            Request::Prune(keep, after, limit) => {
                Answer::Pruned(store.prune(keep, after, limit).await?)
            }
            Request::Finish(outcomes) => Answer::Finished(store.finish(outcomes).await?),
            Request::Release(node, rows) => {
                store.release(node, rows).await?;
                Answer::Released
            }
        })
    }

    /// The entries for the jobs of an answer, in order.
    pub(super) fn entries_for(
        &self,
        answer: &Result<Answer, StoreError>,
        shared: &Arc<Shared>,
    ) -> Vec<Arc<dyn Entry>> {
        let jobs = match answer {
            Ok(Answer::Takings(takings)) => &takings.jobs[..],
            Ok(Answer::TakenBy(takings)) => &takings.jobs,
            _ => return Vec::new(),
        };
        let entry = |Taken { record, .. }: &Taken| {
            self.known(record.incarnation)
                .unwrap_or_else(|| shared.tasks.make(shared, &record.task, record.args.clone()))
        };
        jobs.iter().map(entry).collect()
    }
}
