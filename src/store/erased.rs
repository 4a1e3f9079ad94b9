//! A store whose type is forgotten.

use chrono::{DateTime, Utc};
use futures::{future::BoxFuture, stream::BoxStream};

use super::*;

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A [`Store`] behind a pointer: those of its operations that a scheduler uses, boxed.
pub(crate) trait ErasedStore: Send + Sync {
    fn capabilities(&self) -> Capabilities;
    fn changes(&self) -> BoxStream<'static, StoreChange>;
    fn now(&self) -> Answer<'_, DateTime<Utc>>;
    fn write(&self, writes: Vec<Write>) -> Answer<'_, Vec<WriteResult>>;
    fn get(&self, id: JobId) -> Answer<'_, Option<Record>>;
    fn list(
        &self,
        filter: RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> Answer<'_, RecordPage>;
    fn changed(&self, known: Vec<(JobId, Incarnation, u64)>) -> Answer<'_, Vec<RecordChange>>;
    fn claim(&self, take: ClaimRequest) -> Answer<'_, ClaimResult>;
    fn release(&self, node: NodeId, rows: Vec<Release>) -> Answer<'_, ()>;
    fn finish(&self, outcomes: Vec<RowOutcome>) -> Answer<'_, FinishReport>;
    fn heartbeat(&self, heartbeat: Heartbeat) -> Answer<'_, DateTime<Utc>>;
    fn nodes(&self) -> Answer<'_, Vec<NodeRow>>;
    fn reap(&self, suspects: Vec<(NodeId, u64)>) -> Answer<'_, ReapReport>;
    fn claimed_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> Answer<'_, Vec<Claim>>;
    fn claimed(&self, node: NodeId, rows: Vec<RowKey>) -> Answer<'_, ClaimResult>;
    fn next_due(&self, of: NextDueRequest) -> Answer<'_, Option<DateTime<Utc>>>;
    fn history(&self, incarnation: Incarnation, limit: usize) -> Answer<'_, Vec<Row>>;
    fn waiting(
        &self,
        of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> Answer<'_, Vec<Row>>;
    fn prune(&self, keep: Keep, limit: usize) -> Answer<'_, PruneReport>;
    fn close(&self) -> BoxFuture<'_, ()>;
}

impl<S: Store> ErasedStore for S {
    fn capabilities(&self) -> Capabilities {
        Store::capabilities(self)
    }

    fn changes(&self) -> BoxStream<'static, StoreChange> {
        Store::changes(self)
    }

    fn now(&self) -> Answer<'_, DateTime<Utc>> {
        Box::pin(Store::now(self))
    }

    fn write(&self, writes: Vec<Write>) -> Answer<'_, Vec<WriteResult>> {
        Box::pin(Store::write(self, writes))
    }

    fn get(&self, id: JobId) -> Answer<'_, Option<Record>> {
        Box::pin(Store::get(self, id))
    }

    fn list(
        &self,
        filter: RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> Answer<'_, RecordPage> {
        Box::pin(Store::list(self, filter, after, limit))
    }

    fn changed(&self, known: Vec<(JobId, Incarnation, u64)>) -> Answer<'_, Vec<RecordChange>> {
        Box::pin(Store::changed(self, known))
    }

    fn claim(&self, take: ClaimRequest) -> Answer<'_, ClaimResult> {
        Box::pin(Store::claim(self, take))
    }

    fn release(&self, node: NodeId, rows: Vec<Release>) -> Answer<'_, ()> {
        Box::pin(Store::release(self, node, rows))
    }

    fn finish(&self, outcomes: Vec<RowOutcome>) -> Answer<'_, FinishReport> {
        Box::pin(Store::finish(self, outcomes))
    }

    fn heartbeat(&self, heartbeat: Heartbeat) -> Answer<'_, DateTime<Utc>> {
        Box::pin(Store::heartbeat(self, heartbeat))
    }

    fn nodes(&self) -> Answer<'_, Vec<NodeRow>> {
        Box::pin(Store::nodes(self))
    }

    fn reap(&self, suspects: Vec<(NodeId, u64)>) -> Answer<'_, ReapReport> {
        Box::pin(Store::reap(self, suspects))
    }

    fn claimed_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> Answer<'_, Vec<Claim>> {
        Box::pin(Store::claimed_by(self, node, after, limit))
    }

    fn claimed(&self, node: NodeId, rows: Vec<RowKey>) -> Answer<'_, ClaimResult> {
        Box::pin(Store::claimed(self, node, rows))
    }

    fn next_due(&self, of: NextDueRequest) -> Answer<'_, Option<DateTime<Utc>>> {
        Box::pin(Store::next_due(self, of))
    }

    fn history(&self, incarnation: Incarnation, limit: usize) -> Answer<'_, Vec<Row>> {
        Box::pin(Store::history(self, incarnation, limit))
    }

    fn waiting(
        &self,
        of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> Answer<'_, Vec<Row>> {
        Box::pin(Store::waiting(self, of, after, limit))
    }

    fn prune(&self, keep: Keep, limit: usize) -> Answer<'_, PruneReport> {
        Box::pin(Store::prune(self, keep, limit))
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(Store::close(self))
    }
}
