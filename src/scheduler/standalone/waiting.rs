//! How a thread that runs no async code waits for some, and where none may.

use std::task::{Context, Waker};

use tokio::{
    runtime::{Builder, Handle},
    task::coop::poll_proceed,
};

use super::workers::refused;
use crate::error::Error;

/// Waits on this thread, with timers and signals of its own: a scheduler's stand still when jobs block
/// all its workers.
pub(super) fn wait<T>(
    caller: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    check(caller)?;
    Builder::new_current_thread().enable_all().build().map_err(refused)?.block_on(work)
}

/// An error if this thread must not be blocked, where Tokio's `block_on` would panic.
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
/// What it polls has a budget, and code that may block has none. Tokio has no other way to ask, but
/// for a panic: there is a current runtime in `spawn_blocking` too.
fn is_polling() -> bool {
    /// Tokio's is 128.
    const MORE_THAN_ANY_BUDGET: usize = 1024;
    let mut cx = Context::from_waker(Waker::noop());
    // A budget that is used up makes its task yield once, which is the least of this caller's troubles.
    (0..MORE_THAN_ANY_BUDGET)
        .any(|_| poll_proceed(&mut cx).map(|unit| unit.made_progress()).is_pending())
}
