//! A store in memory.

mod claim;
mod history;
mod indexes;
mod prune;
mod state;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::SubsecRound as _;

use self::state::State;
use super::*;
#[cfg(feature = "testing")]
use crate::clock::ManualClock;
use crate::clock::{Clock, SystemClock};

/// A store in the memory of this process. Clones share one store.
///
/// Several schedulers of one process can share it. Its contents are lost when the process ends: use
/// it in tests of durable jobs, and for trying them out. Every operation completes at once. Its
/// time is the system's, or Tokio's if that is paused.
///
/// ```
/// use punctual::store::{MemoryStore, Store};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), punctual::store::StoreError> {
/// let store = MemoryStore::new();
/// assert_eq!(store.get("report".into()).await?, None);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

struct Inner {
    clock: Clock,
    state: Mutex<State>,
    changes: Changes,
    max_jobs: Option<u64>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::with(Clock::System(SystemClock::new()), None)
    }

    /// An empty store for at most `max_jobs` jobs: an add beyond that is refused.
    pub fn with_max_jobs(max_jobs: u64) -> MemoryStore {
        MemoryStore::with(Clock::System(SystemClock::new()), Some(max_jobs))
    }

    /// An empty store with a clock that a test advances manually.
    #[cfg(feature = "testing")]
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    pub fn with_clock(clock: ManualClock) -> MemoryStore {
        MemoryStore::with(Clock::Manual(clock), None)
    }

    fn with(clock: Clock, max_jobs: Option<u64>) -> MemoryStore {
        let changes = Changes::new();
        MemoryStore(Arc::new(Inner { clock, state: Mutex::default(), changes, max_jobs }))
    }

    /// Runs an operation under the lock, as one commit, then sends its changes.
    fn locked<T>(&self, operation: impl FnOnce(&mut State, DateTime<Utc>) -> T) -> T {
        // The only foreign code under the lock is `ClaimRequest::decide`, which runs before any
        // change.
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let done = operation(&mut state, self.0.clock.now().trunc_subsecs(3));
        let changes = state.take_changes();
        drop(state);
        self.0.changes.send(changes);
        done
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            notifies: true,
            has_clock: !self.0.clock.must_be_watched(),
            durability: Durability::Process,
            max_jobs: self.0.max_jobs,
            ..Capabilities::default()
        }
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        Ok(self.locked(|_, now| now))
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<WriteResult>, StoreError> {
        self.locked(|state, now| state.write(writes, self.0.max_jobs, now))
    }

    async fn get(&self, id: JobId) -> Result<Option<Record>, StoreError> {
        Ok(self.locked(|state, _| state.get(&id)))
    }

    async fn list(
        &self,
        filter: RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> Result<RecordPage, StoreError> {
        Ok(self.locked(|state, _| state.list(&filter, after, limit)))
    }

    async fn changed(
        &self,
        known: Vec<(JobId, Incarnation, u64)>,
    ) -> Result<Vec<RecordChange>, StoreError> {
        Ok(self.locked(|state, _| state.changed(known)))
    }

    async fn claim(&self, request: ClaimRequest) -> Result<ClaimResult, StoreError> {
        self.locked(|state, now| state.claim(&request, now))
    }

    async fn release(&self, node: NodeId, rows: Vec<Release>) -> Result<(), StoreError> {
        self.locked(|state, now| state.release(node, rows, now));
        Ok(())
    }

    async fn finish(&self, outcomes: Vec<RowOutcome>) -> Result<FinishReport, StoreError> {
        Ok(self.locked(|state, now| state.finish(outcomes, now)))
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<DateTime<Utc>, StoreError> {
        self.locked(|state, now| state.heartbeat(&heartbeat, now))
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        Ok(self.locked(|state, _| state.nodes()))
    }

    async fn reap(&self, suspects: Vec<(NodeId, u64)>) -> Result<ReapReport, StoreError> {
        let limit = Store::capabilities(self).max_batch;
        Ok(self.locked(|state, now| state.reap(&suspects, limit, now)))
    }

    async fn claimed_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError> {
        Ok(self.locked(|state, _| state.claimed_by(node, after, limit)))
    }

    async fn claimed(&self, node: NodeId, rows: Vec<RowKey>) -> Result<ClaimResult, StoreError> {
        Ok(self.locked(|state, _| state.claimed(node, &rows)))
    }

    async fn next_due(&self, of: NextDueRequest) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(self.locked(|state, _| state.next_due(&of)))
    }

    fn changes(&self) -> BoxStream<'static, StoreChange> {
        self.0.changes.stream()
    }

    async fn history(
        &self,
        incarnation: Incarnation,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        Ok(self.locked(|state, _| state.history(incarnation, limit)))
    }

    async fn rows(&self, after: Option<RowKey>, limit: usize) -> Result<Vec<Row>, StoreError> {
        Ok(self.locked(|state, _| state.rows(after, limit)))
    }

    async fn fates(
        &self,
        filter: FateFilter,
        after: Option<FateCursor>,
        limit: usize,
    ) -> Result<FatePage, StoreError> {
        Ok(self.locked(|state, _| state.fates(&filter, after, limit)))
    }

    async fn actions(
        &self,
        job: Option<JobId>,
        after: Option<ActionCursor>,
        limit: usize,
    ) -> Result<ActionPage, StoreError> {
        Ok(self.locked(|state, _| state.actions(job.as_ref(), after, limit)))
    }

    async fn waiting(
        &self,
        of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        Ok(self.locked(|state, _| state.waiting_rows(of, after, limit)))
    }

    async fn prune(&self, keep: Keep, limit: usize) -> Result<PruneReport, StoreError> {
        Ok(self.locked(|state, now| state.prune(keep, limit, now)))
    }
}
