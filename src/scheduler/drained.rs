//! Waiting until no job is left to run.

use std::{pin::pin, sync::Arc, time::Duration};

use super::durable;
use crate::{driver::Shared, error::Error};

/// How often stores are polled for remaining jobs.
const ASK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn drained(shared: &Arc<Shared>) {
    let emptied = async {
        loop {
            no_job_here(shared).await;
            if !has_stored(shared).await {
                return Ok(());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    };
    let emptied = pin!(shared.within::<()>(emptied));
    // A shutdown also ends the wait.
    let _ = shared.stopped.run_until_cancelled(emptied).await;
}

/// Waits until this scheduler has no job in memory and no active run.
async fn no_job_here(shared: &Shared) {
    loop {
        let mut emptied = pin!(shared.emptied.notified());
        // Register before the check, so that no notification in between is missed.
        emptied.as_mut().enable();
        if shared.transact(|core, _| core.len()) == 0 {
            return;
        }
        emptied.await;
    }
}

/// Whether a store has a job that can run on this scheduler. A store that does not respond counts
/// as one that has.
async fn has_stored(shared: &Arc<Shared>) -> bool {
    for durable in shared.stores.usable().iter() {
        let found: Result<bool, Error> = durable::any_can_run(shared, durable).await;
        if found.unwrap_or(true) {
            return true;
        }
    }
    false
}
