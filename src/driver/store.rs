//! A scheduler's link to one of its stores: requests of the node are carried out, and durable jobs
//! find the entries of their handles again.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{runtime::Handle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Entry, Shared, perform};
use crate::{
    core::{Handles, Known, Payload as _, Reply, Request, StoreKey},
    error::Error,
    job::End,
    ledger::{Incarnation, Record, StoreChange, StoreError},
    store::ErasedStore,
};

/// A store of a scheduler, and the entries of its jobs in this process.
pub(crate) struct Durable {
    pub(crate) key: StoreKey,
    pub(crate) name: Arc<str>,
    pub(crate) store: Arc<dyn ErasedStore>,
    /// The timeout of an operation.
    patience: Duration,
    /// Cancelled when the store has been removed, or the scheduler has stopped.
    pub(crate) stopped: CancellationToken,
    entries: Mutex<Entries>,
}

/// The entries of jobs that were added here and may have handles.
#[derive(Default)]
struct Entries {
    known: Known<KnownEntry>,
    stopped: bool,
}

/// The entry of a job that was added here.
struct KnownEntry {
    /// The name of the task of the job.
    task: String,
    entry: Weak<dyn Entry>,
    /// A strong reference, if the entry has something that outlives the handles: a token, a stream
    /// of runs, or outputs to be kept.
    tied: Option<Arc<dyn Entry>>,
}

impl Handles for KnownEntry {
    fn is_wanted(&self) -> bool {
        self.entry.strong_count() > 0
    }
}

/// Jobs that are being added; see [`Durable::know_for_now`].
pub(crate) struct KnownForNow {
    durable: Arc<Durable>,
    incarnations: Vec<Incarnation>,
}

impl Drop for KnownForNow {
    fn drop(&mut self) {
        let mut entries = self.durable.entries();
        let mut gone = Vec::new();
        for &incarnation in &self.incarnations {
            gone.extend(entries.known.remove_unadded(incarnation));
        }
        // The entries own user values.
        drop(entries);
    }
}

/// A request in flight; resolves to the reply.
pub(super) type Answering = BoxFuture<'static, Answered>;

/// A store, its request, and the reply.
pub(super) type Answered = (StoreKey, Request, Result<Reply, StoreError>);

impl Durable {
    pub(crate) fn new(
        key: StoreKey,
        name: Arc<str>,
        store: Arc<dyn ErasedStore>,
        patience: Duration,
    ) -> Durable {
        let (stopped, entries) = (CancellationToken::new(), Mutex::default());
        Durable { key, name, store, patience, stopped, entries }
    }

    /// Returns an error of the store, with the store's name.
    pub(crate) fn error(&self, error: StoreError) -> Error {
        error.of(&self.name)
    }

    /// Keeps the entry for claims of the job, as long as the job has handles. Returns whether the
    /// job was changed or removed before its version was known here.
    pub(crate) fn know(&self, record: &Record, entry: &Arc<dyn Entry>) -> bool {
        let mut entries = self.entries();
        if entries.stopped {
            drop(entries);
            entry.state().end(End::ShutDown);
            return false;
        }
        // Older handles own the first entry; newer handles reference it through theirs.
        let (first, task) = match entry.first() {
            Some(first) => (first, first.task().map(|(task, _)| task.to_owned())),
            None => (entry, None),
        };
        let new = KnownEntry {
            task: task.unwrap_or_else(|| record.task.clone()),
            entry: Arc::downgrade(first),
            tied: (entry.state().is_tied() || entry.state().wants_output()).then(|| entry.clone()),
        };
        let (has_changed, before) = entries.known.insert(record, new);
        drop(entries);
        drop(before);
        has_changed
    }

    /// Keeps the entries of jobs that are being added. Dropping the result forgets the jobs that
    /// were not added.
    pub(crate) fn know_for_now<'a>(
        self: &Arc<Durable>,
        jobs: impl IntoIterator<Item = (&'a Record, &'a Arc<dyn Entry>)>,
    ) -> KnownForNow {
        let mut incarnations = Vec::new();
        for (record, entry) in jobs {
            self.know(record, entry);
            incarnations.push(record.incarnation);
        }
        KnownForNow { durable: self.clone(), incarnations }
    }

    /// Keeps the entry until the job is over, since it has something that outlives the handles.
    pub(crate) fn keep(&self, incarnation: Incarnation, entry: &Arc<dyn Entry>) {
        if let Some(known) = self.entries().known.get_mut(incarnation) {
            known.tied = Some(entry.clone());
        }
    }

    /// Returns the entry of a record's job, with the task and the arguments of the record: the
    /// entry of the job that was added here, if that has handles.
    pub(crate) fn entry(&self, record: &Record, shared: &Arc<Shared>) -> Arc<dyn Entry> {
        let made = || shared.tasks.make(shared, &record.task, record.args.clone());
        let known = self
            .entries()
            .known
            .get(record.incarnation)
            .and_then(|known| Some((known.entry.upgrade()?, known.task == record.task)));
        match known {
            Some((entry, true)) => {
                entry.set_args(record.version, &record.args);
                entry
            }
            Some((entry, false)) => entry.rework(made()),
            None => made(),
        }
    }

    /// Ends a job, and resolves its handles.
    pub(super) fn end(&self, incarnation: Incarnation, end: End) {
        let known = self.entries().known.remove(incarnation);
        if let Some(entry) = known.as_ref().and_then(|known| known.entry.upgrade()) {
            let end = match end {
                End::Completed if entry.state().is_cancelled() => End::Cancelled,
                end => end,
            };
            entry.state().cancel_token();
            entry.state().end(end);
        }
    }

    /// Ends all jobs, since the scheduler has stopped, or has left the store, and resolves their
    /// handles.
    pub(crate) fn stop(&self) {
        let mut entries = self.entries();
        entries.stopped = true;
        let known = entries.known.drain();
        drop(entries);
        for entry in known.iter().filter_map(|known| known.entry.upgrade()) {
            entry.state().end(End::ShutDown);
        }
        self.stopped.cancel();
    }

    /// Whether a change is news to handles of the job.
    pub(crate) fn is_news(&self, change: StoreChange) -> bool {
        self.entries().known.is_news(change)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Nothing panics while it has the lock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out a request of the node in a task of its own, since a store is foreign code.
    pub(super) fn carry_out(self: &Arc<Self>, request: Request, runtime: &Handle) -> Answering {
        let (durable, key) = (self.clone(), self.key);
        let mut request = request;
        self.entries().known.add_to(&mut request);
        let to_do = request.clone();
        let task = runtime.spawn(async move {
            let patience = durable.patience;
            timeout(patience, perform(&*durable.store, to_do)).await.unwrap_or_else(|_| {
                Err(StoreError::unavailable(format!("it has not answered for {patience:?}")))
            })
        });
        Box::pin(async move {
            let answer = task.await.unwrap_or_else(|error| {
                Err(StoreError::unavailable(format!("its operation panicked: {error}")))
            });
            (key, request, answer)
        })
    }

    /// Returns the entries for the jobs of a reply, in order.
    pub(super) fn entries_for(
        &self,
        reply: &Result<Reply, StoreError>,
        shared: &Arc<Shared>,
    ) -> Vec<Arc<dyn Entry>> {
        let Ok(reply) = reply else { return Vec::new() };
        self.entries().known.update_versions(reply);
        let records = reply.records();
        records.into_iter().map(|record| self.entry(record, shared)).collect()
    }
}
