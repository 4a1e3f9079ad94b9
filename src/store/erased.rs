//! Dynamic dispatch for stores.

use chrono::{DateTime, Utc};
use futures::{future::BoxFuture, stream::BoxStream};

use super::*;

type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The operations of a [`Store`] that a scheduler uses, with boxed futures.
pub(crate) trait ErasedStore: Send + Sync {
    fn capabilities(&self) -> Capabilities;
    fn changes(&self) -> BoxStream<'static, StoreChange>;
    fn now(&self) -> StoreFuture<'_, DateTime<Utc>>;
    fn write(&self, writes: Vec<Write>) -> StoreFuture<'_, Vec<WriteResult>>;
    fn insert_statement(&self, record: &Record) -> Option<InsertStatement>;
    fn get(&self, id: JobId) -> StoreFuture<'_, Option<Record>>;
    fn list(
        &self,
        filter: RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> StoreFuture<'_, RecordPage>;
    fn changed(&self, known: Vec<(JobId, Incarnation, u64)>) -> StoreFuture<'_, Vec<RecordChange>>;
    fn claim(&self, request: ClaimRequest) -> StoreFuture<'_, ClaimResult>;
    fn release(&self, node: NodeId, rows: Vec<Release>) -> StoreFuture<'_, ()>;
    fn finish(&self, outcomes: Vec<RowOutcome>) -> StoreFuture<'_, FinishReport>;
    fn heartbeat(&self, heartbeat: Heartbeat) -> StoreFuture<'_, DateTime<Utc>>;
    fn nodes(&self) -> StoreFuture<'_, Vec<NodeRow>>;
    fn reap(&self, suspects: Vec<(NodeId, u64)>) -> StoreFuture<'_, ReapReport>;
    fn claimed_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> StoreFuture<'_, Vec<Claim>>;
    fn claimed(&self, node: NodeId, rows: Vec<RowKey>) -> StoreFuture<'_, ClaimResult>;
    fn next_due(&self, of: NextDueRequest) -> StoreFuture<'_, Option<DateTime<Utc>>>;
    fn history(&self, incarnation: Incarnation, limit: usize) -> StoreFuture<'_, Vec<Row>>;
    fn waiting(
        &self,
        of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> StoreFuture<'_, Vec<Row>>;
    fn prune(&self, keep: Keep, limit: usize) -> StoreFuture<'_, PruneReport>;
    fn close(&self) -> BoxFuture<'_, ()>;
}

impl<S: Store> ErasedStore for S {
    fn capabilities(&self) -> Capabilities {
        Store::capabilities(self)
    }

    fn changes(&self) -> BoxStream<'static, StoreChange> {
        Store::changes(self)
    }

    fn now(&self) -> StoreFuture<'_, DateTime<Utc>> {
        Box::pin(Store::now(self))
    }

    fn write(&self, writes: Vec<Write>) -> StoreFuture<'_, Vec<WriteResult>> {
        Box::pin(Store::write(self, writes))
    }

    fn insert_statement(&self, record: &Record) -> Option<InsertStatement> {
        Store::insert_statement(self, record)
    }

    fn get(&self, id: JobId) -> StoreFuture<'_, Option<Record>> {
        Box::pin(Store::get(self, id))
    }

    fn list(
        &self,
        filter: RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> StoreFuture<'_, RecordPage> {
        Box::pin(Store::list(self, filter, after, limit))
    }

    fn changed(&self, known: Vec<(JobId, Incarnation, u64)>) -> StoreFuture<'_, Vec<RecordChange>> {
        Box::pin(Store::changed(self, known))
    }

    fn claim(&self, request: ClaimRequest) -> StoreFuture<'_, ClaimResult> {
        Box::pin(Store::claim(self, request))
    }

    fn release(&self, node: NodeId, rows: Vec<Release>) -> StoreFuture<'_, ()> {
        Box::pin(Store::release(self, node, rows))
    }

    fn finish(&self, outcomes: Vec<RowOutcome>) -> StoreFuture<'_, FinishReport> {
        Box::pin(Store::finish(self, outcomes))
    }

    fn heartbeat(&self, heartbeat: Heartbeat) -> StoreFuture<'_, DateTime<Utc>> {
        Box::pin(Store::heartbeat(self, heartbeat))
    }

    fn nodes(&self) -> StoreFuture<'_, Vec<NodeRow>> {
        Box::pin(Store::nodes(self))
    }

    fn reap(&self, suspects: Vec<(NodeId, u64)>) -> StoreFuture<'_, ReapReport> {
        Box::pin(Store::reap(self, suspects))
    }

    fn claimed_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> StoreFuture<'_, Vec<Claim>> {
        Box::pin(Store::claimed_by(self, node, after, limit))
    }

    fn claimed(&self, node: NodeId, rows: Vec<RowKey>) -> StoreFuture<'_, ClaimResult> {
        Box::pin(Store::claimed(self, node, rows))
    }

    fn next_due(&self, of: NextDueRequest) -> StoreFuture<'_, Option<DateTime<Utc>>> {
        Box::pin(Store::next_due(self, of))
    }

    fn history(&self, incarnation: Incarnation, limit: usize) -> StoreFuture<'_, Vec<Row>> {
        Box::pin(Store::history(self, incarnation, limit))
    }

    fn waiting(
        &self,
        of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> StoreFuture<'_, Vec<Row>> {
        Box::pin(Store::waiting(self, of, after, limit))
    }

    fn prune(&self, keep: Keep, limit: usize) -> StoreFuture<'_, PruneReport> {
        Box::pin(Store::prune(self, keep, limit))
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(Store::close(self))
    }
}
