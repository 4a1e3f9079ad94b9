//! How a scheduler reaches one of its stores: what the node asks is carried out, and the entries of durable
//! jobs that somebody holds on to are found again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{runtime::Handle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Entry, Shared};
use crate::{
    core::{Payload as _, Reply, Request, StoreKey, claimer, closer, membership, pruner},
    error::Error,
    job::{End, JobId},
    ledger::{
        ClaimResult, Incarnation, Record, RecordChange, RecordFilter, RecordStatus, StoreChange,
        StoreError,
    },
    store::ErasedStore,
};

/// A store of a scheduler, and what this process knows of the jobs in it.
pub(crate) struct Durable {
    pub(crate) key: StoreKey,
    pub(crate) name: Arc<str>,
    pub(crate) store: Arc<dyn ErasedStore>,
    /// How long an answer is waited for.
    patience: Duration,
    /// Cancelled when the store has been removed, or the scheduler has stopped.
    pub(crate) stopped: CancellationToken,
    entries: Mutex<Entries>,
}

/// The entries of jobs that were added here and that somebody may hold on to.
#[derive(Default)]
struct Entries {
    known: HashMap<Incarnation, Known>,
    stopped: bool,
}

struct Known {
    id: JobId,
    /// 0 while the job is being added: the store may not have it yet.
    version: u64,
    /// The highest version that was notified of while the job is being added.
    heard: u64,
    /// The name of the task that it is.
    task: String,
    entry: Weak<dyn Entry>,
    /// The same, if something hangs on it that outlives the handles: a token, a stream of runs, or
    /// that outputs are kept.
    tied: Option<Arc<dyn Entry>>,
}

impl Known {
    fn is_wanted(&self) -> bool {
        self.entry.strong_count() > 0
    }
}

/// Jobs that are being added; see [`Durable::know_for_now`].
pub(crate) struct KnownForNow<'a> {
    durable: &'a Durable,
    incarnations: Vec<Incarnation>,
}

impl Drop for KnownForNow<'_> {
    fn drop(&mut self) {
        let mut entries = self.durable.entries();
        let mut gone = Vec::new();
        for of in &self.incarnations {
            if entries.known.get(of).is_some_and(|known| known.version == 0) {
                gone.extend(entries.known.remove(of));
            }
        }
        // What hangs on them is the user's.
        drop(entries);
    }
}

/// A request on its way, and at its end the answer.
pub(super) type Answering = BoxFuture<'static, Answered>;

/// Which store answers what.
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

    /// What the store has failed with, by its name.
    pub(crate) fn error(&self, error: StoreError) -> Error {
        error.of(&self.name)
    }

    /// Finds the entry again when the job is taken, for as long as somebody holds on to it. Says whether
    /// the job was changed, or has gone, before its version was known here.
    pub(crate) fn know(&self, record: &Record, entry: &Arc<dyn Entry>) -> bool {
        let mut entries = self.entries();
        if entries.stopped {
            drop(entries);
            entry.state().end(End::ShutDown);
            return false;
        }
        let known = &mut entries.known;
        if known.len() >= 64 && known.len() == known.capacity() {
            known.retain(|_, known| known.is_wanted());
        }
        // The handles of before hold on to the first entry, and those of now through theirs.
        let (first, task) = match entry.first() {
            Some(first) => (first, first.task().map(|(task, _)| task.to_owned())),
            None => (entry, None),
        };
        let heard = known.get(&record.incarnation).map_or(0, |known| known.heard);
        let new = Known {
            id: record.id.clone(),
            version: record.version,
            heard,
            task: task.unwrap_or_else(|| record.task.clone()),
            entry: Arc::downgrade(first),
            tied: (entry.state().is_tied() || entry.state().wants_output()).then(|| entry.clone()),
        };
        let before = known.insert(record.incarnation, new);
        drop(entries);
        drop(before);
        heard > record.version
    }

    /// Jobs that are being added: those that have not come to be when this is dropped are known no
    /// longer.
    pub(crate) fn know_for_now<'a>(
        &self,
        jobs: impl IntoIterator<Item = (&'a Record, &'a Arc<dyn Entry>)>,
    ) -> KnownForNow<'_> {
        let mut incarnations = Vec::new();
        for (record, entry) in jobs {
            self.know(record, entry);
            incarnations.push(record.incarnation);
        }
        KnownForNow { durable: self, incarnations }
    }

    /// Keeps the entry until the job is over: something hangs on it that outlives the handles.
    pub(crate) fn keep(&self, incarnation: Incarnation, entry: &Arc<dyn Entry>) {
        if let Some(known) = self.entries().known.get_mut(&incarnation) {
            known.tied = Some(entry.clone());
        }
    }

    /// The entry of a record's job: that of the job that was added here, if somebody holds on to it, with
    /// the task and the arguments that the record has.
    pub(crate) fn entry(&self, record: &Record, shared: &Arc<Shared>) -> Arc<dyn Entry> {
        let made = || shared.tasks.make(shared, &record.task, record.args.clone());
        let known = self
            .entries()
            .known
            .get(&record.incarnation)
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

    /// A job is over: tells who holds on to it.
    pub(super) fn end(&self, incarnation: Incarnation, end: End) {
        let known = self.entries().known.remove(&incarnation);
        if let Some(entry) = known.as_ref().and_then(|known| known.entry.upgrade()) {
            let end = match end {
                End::Completed if entry.state().is_cancelled() => End::Cancelled,
                end => end,
            };
            entry.state().cancel_token();
            entry.state().end(end);
        }
    }

    /// The scheduler has stopped, or has taken leave of the store: tells all who hold on to jobs.
    pub(crate) fn stop(&self) {
        let mut entries = self.entries();
        entries.stopped = true;
        let known = std::mem::take(&mut entries.known);
        drop(entries);
        for entry in known.values().filter_map(|known| known.entry.upgrade()) {
            entry.state().end(End::ShutDown);
        }
        self.stopped.cancel();
    }

    /// Whether a change is news to somebody who holds on to the job.
    pub(crate) fn is_news(&self, change: StoreChange) -> bool {
        let (of, is) = match change {
            StoreChange::Job(of, is) => (of, is),
            StoreChange::Gone(of) => (of, u64::MAX),
            _ => return false,
        };
        let mut entries = self.entries();
        let Some(known) = entries.known.get_mut(&of) else { return false };
        if known.version == 0 {
            known.heard = known.heard.max(is);
            return false;
        }
        known.version < is && known.is_wanted()
    }

    /// Adds those jobs that somebody holds on to: all, or those that are named.
    fn add_known(
        &self,
        asked: &mut Vec<(JobId, Incarnation, u64)>,
        named: Option<&HashSet<Incarnation>>,
    ) {
        let held: HashSet<Incarnation> =
            asked.iter().map(|&(_, incarnation, _)| incarnation).collect();
        let mut entries = self.entries();
        let mut add = |incarnation: Incarnation, known: &Known| {
            if known.version > 0 && !held.contains(&incarnation) {
                asked.push((known.id.clone(), incarnation, known.version));
            }
        };
        let Some(named) = named else {
            entries.known.retain(|_, known| known.is_wanted());
            entries.known.iter().for_each(|(of, known)| add(*of, known));
            return;
        };
        let known = named.iter().filter_map(|of| Some((*of, entries.known.get(of)?)));
        known.for_each(|(of, known)| add(of, known));
    }

    fn learn(&self, changed: &[RecordChange]) {
        let mut entries = self.entries();
        for RecordChange { incarnation, status } in changed {
            let known = entries.known.get_mut(incarnation);
            if let (Some(known), RecordStatus::Updated(record)) = (known, status) {
                known.version = record.version;
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Nothing panics while it holds the lock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out what the node asks, in a task of its own: the store is somebody else's code.
    pub(super) fn carry_out(self: &Arc<Self>, request: Request, runtime: &Handle) -> Answering {
        let (durable, key) = (self.clone(), self.key);
        let mut request = request;
        if let Request::Claim(claimer::Request::Changed { known, named }) = &mut request {
            durable.add_known(known, named.as_ref());
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
            (key, request, answer)
        })
    }

    async fn perform(&self, request: Request) -> Result<Reply, StoreError> {
        Ok(match request {
            Request::Membership(request) => {
                Reply::Membership(self.perform_membership(request).await?)
            }
            Request::Claim(request) => Reply::Claim(self.perform_claim(request).await?),
            Request::Close(request) => Reply::Close(self.perform_close(request).await?),
            Request::Prune(request) => Reply::Prune(self.perform_prune(request).await?),
        })
    }

    async fn perform_membership(
        &self,
        request: membership::Request,
    ) -> Result<membership::Reply, StoreError> {
        use membership::{Reply, Request};
        let store = &self.store;
        Ok(match request {
            Request::Heartbeat(heartbeat) => {
                let store_now = store.heartbeat(heartbeat.clone()).await?;
                Reply::Heartbeat { heartbeat, store_now }
            }
            Request::Nodes => Reply::Nodes(store.nodes().await?),
            Request::Reap(suspects) => {
                let reaped = store.reap(suspects.clone()).await?;
                Reply::Reap { suspects, reaped }
            }
            Request::ClaimedBy { node, after, limit } => {
                let claims = store.claimed_by(node, after, limit).await?;
                Reply::ClaimedBy { node, limit, claims }
            }
            Request::Claimed { node, rows } => {
                let (asked, mut found) = (rows.len(), ClaimResult::default());
                for rows in rows.chunks(store.capabilities().max_batch.max(1)) {
                    let ClaimResult { jobs, orphans, .. } =
                        store.claimed(node, rows.to_vec()).await?;
                    found.jobs.extend(jobs);
                    found.orphans.extend(orphans);
                }
                Reply::Claimed { node, asked, found }
            }
        })
    }

    async fn perform_claim(&self, request: claimer::Request) -> Result<claimer::Reply, StoreError> {
        use claimer::{Reply, Request};
        let store = &self.store;
        Ok(match request {
            Request::Claim(claim) => {
                Reply::Claim { node: claim.node, result: store.claim(claim).await? }
            }
            Request::NextDue(of) => Reply::NextDue(store.next_due(of).await?),
            Request::Changed { known, .. } => {
                let mut changed = Vec::new();
                for known in known.chunks(store.capabilities().max_batch.max(1)) {
                    changed.extend(store.changed(known.to_vec()).await?);
                }
                self.learn(&changed);
                Reply::Changed(changed)
            }
        })
    }

    async fn perform_close(&self, request: closer::Request) -> Result<closer::Reply, StoreError> {
        use closer::{Reply, Request};
        let store = &self.store;
        Ok(match request {
            Request::Finish(outcomes) => {
                Reply::Finish { count: outcomes.len(), report: store.finish(outcomes).await? }
            }
            Request::Release { node, rows } => {
                let count = rows.len();
                store.release(node, rows).await?;
                Reply::Release { node, count }
            }
        })
    }

    async fn perform_prune(&self, request: pruner::Request) -> Result<pruner::Reply, StoreError> {
        use pruner::{Reply, Request};
        let store = &self.store;
        Ok(match request {
            Request::Prune { keep, limit } => Reply::Prune(store.prune(keep, limit).await?),
            Request::List { after, limit } => {
                Reply::List(store.list(RecordFilter::default(), after, limit).await?)
            }
            Request::Correct(writes) => {
                let written = store.write(writes.clone()).await?;
                Reply::Correct { writes, written }
            }
        })
    }

    /// The entries for the jobs of a reply, in order.
    pub(super) fn entries_for(
        &self,
        reply: &Result<Reply, StoreError>,
        shared: &Arc<Shared>,
    ) -> Vec<Arc<dyn Entry>> {
        let records = reply.as_ref().map(Reply::records).unwrap_or_default();
        records.into_iter().map(|record| self.entry(record, shared)).collect()
    }
}
