//! A store that can be made to fail, in front of one in memory.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use punctual::{JobId, store::*};

/// Clones are the same; the store behind it may be shared by others that work.
#[derive(Clone)]
pub(crate) struct Flaky {
    store: MemoryStore,
    broken: Arc<AtomicBool>,
    /// Whether what is asked is done although the answer is lost.
    done_nevertheless: Arc<AtomicBool>,
}

impl Flaky {
    pub(crate) fn before(store: &MemoryStore) -> Flaky {
        let (broken, done_nevertheless) = Default::default();
        Flaky { store: store.clone(), broken, done_nevertheless }
    }

    pub(crate) fn fail(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    pub(crate) fn lose_answers(&self, lost: bool) {
        self.done_nevertheless.store(lost, Ordering::SeqCst);
    }

    async fn ask<T>(
        &self,
        ask: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("it was made to fail"));
        }
        let answer = ask.await;
        if self.done_nevertheless.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("the answer was lost"));
        }
        answer
    }
}

impl Store for Flaky {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        self.ask(self.store.now()).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Written, StoreError> {
        self.ask(self.store.write(writes)).await
    }

    async fn get(&self, id: JobId) -> Result<Option<Record>, StoreError> {
        self.ask(self.store.get(id)).await
    }

    async fn list(
        &self,
        filter: RecordFilter,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.ask(self.store.list(filter, after, limit)).await
    }

    async fn changed(
        &self,
        known: Vec<(JobId, Incarnation, u64)>,
    ) -> Result<Vec<Changed>, StoreError> {
        self.ask(self.store.changed(known)).await
    }

    async fn take(&self, take: Take) -> Result<Takings, StoreError> {
        self.ask(self.store.take(take)).await
    }

    async fn release(&self, node: NodeId, rows: Vec<(RowKey, u64)>) -> Result<(), StoreError> {
        self.ask(self.store.release(node, rows)).await
    }

    async fn finish(&self, outcomes: Vec<Finished>) -> Result<Finishes, StoreError> {
        self.ask(self.store.finish(outcomes)).await
    }

    async fn heartbeat(&self, beat: Beat) -> Result<DateTime<Utc>, StoreError> {
        self.ask(self.store.heartbeat(beat)).await
    }

    async fn reap(&self) -> Result<Reaped, StoreError> {
        self.ask(self.store.reap()).await
    }

    async fn taken_by(&self, node: NodeId, limit: usize) -> Result<Takings, StoreError> {
        self.ask(self.store.taken_by(node, limit)).await
    }

    async fn next_due(&self, of: NextDue) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.ask(self.store.next_due(of)).await
    }

    fn changes(&self) -> BoxStream<'static, ()> {
        self.store.changes()
    }

    async fn history(
        &self,
        incarnation: Incarnation,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.ask(self.store.history(incarnation, limit)).await
    }

    async fn rows(&self, after: Option<RowKey>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.ask(self.store.rows(after, limit)).await
    }

    async fn prune(
        &self,
        keep: Keep,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Pruned, StoreError> {
        self.ask(self.store.prune(keep, after, limit)).await
    }
}
