//! Blocking a thread without async code on a future, and detecting threads with async code.

use std::task::{Context, Waker};

use tokio::{
    runtime::{Builder, Handle},
    task::coop::poll_proceed,
};

use super::workers::refused;
use crate::error::Error;

/// Blocks this thread on a future, with its own timers and signals: the scheduler's own timers stop
/// when jobs block all its workers.
pub(super) fn wait<T>(
    caller: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    check(caller)?;
    Builder::new_current_thread().enable_all().build().map_err(refused)?.block_on(work)
}

/// Returns an error if this thread must not be blocked, where Tokio's `block_on` would panic.
pub(super) fn check(caller: &str) -> Result<(), Error> {
    if Handle::try_current().is_err() || !is_polling() {
        return Ok(());
    }
    Err(Error::no_runtime(format!(
        "`{caller}` was called in async code, whose thread it would block: await the methods of `Scheduler` there, or call it in `blocking` work or `spawn_blocking`"
    )))
}

/// Whether Tokio is polling a future on this thread.
///
/// A polled future has a coop budget, and code that may block has none. Tokio has no other way to
/// check this except by a panic: `spawn_blocking` has a current runtime too.
fn is_polling() -> bool {
    /// Tokio's budget is 128.
    const MORE_THAN_ANY_BUDGET: usize = 1024;
    let mut cx = Context::from_waker(Waker::noop());
    // The used-up budget makes the task yield once, which is acceptable for an error.
    (0..MORE_THAN_ANY_BUDGET)
        .any(|_| poll_proceed(&mut cx).map(|unit| unit.made_progress()).is_pending())
}
