//! Requests of a node as operations of its store, for the driver and the simulation.

use crate::{
    core::{Reply, Request, claimer, closer, membership, pruner},
    ledger::{ClaimResult, RecordFilter, StoreError},
    store::ErasedStore,
};

/// Carries out a request, as several operations if the store limits their size.
pub(crate) async fn perform(
    store: &dyn ErasedStore,
    request: Request,
) -> Result<Reply, StoreError> {
    Ok(match request {
        Request::Membership(request) => {
            Reply::Membership(perform_membership(store, request).await?)
        }
        Request::Claim(request) => Reply::Claim(perform_claim(store, request).await?),
        Request::Close(request) => Reply::Close(perform_close(store, request).await?),
        Request::Prune(request) => Reply::Prune(perform_prune(store, request).await?),
    })
}

async fn perform_membership(
    store: &dyn ErasedStore,
    request: membership::Request,
) -> Result<membership::Reply, StoreError> {
    use membership::{Reply, Request};
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
            let (requested, mut found) = (rows.len(), ClaimResult::default());
            for rows in rows.chunks(store.capabilities().max_batch.max(1)) {
                let ClaimResult { jobs, orphans, .. } = store.claimed(node, rows.to_vec()).await?;
                found.jobs.extend(jobs);
                found.orphans.extend(orphans);
            }
            Reply::Claimed { node, requested, found }
        }
    })
}

async fn perform_claim(
    store: &dyn ErasedStore,
    request: claimer::Request,
) -> Result<claimer::Reply, StoreError> {
    use claimer::{Reply, Request};
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
            Reply::Changed(changed)
        }
    })
}

async fn perform_close(
    store: &dyn ErasedStore,
    request: closer::Request,
) -> Result<closer::Reply, StoreError> {
    use closer::{Reply, Request};
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

async fn perform_prune(
    store: &dyn ErasedStore,
    request: pruner::Request,
) -> Result<pruner::Reply, StoreError> {
    use pruner::{Reply, Request};
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
