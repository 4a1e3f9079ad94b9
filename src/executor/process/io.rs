//! The runtime that watches processes and their pipes, for schedulers in runtimes that may not.
//!
//! What a Tokio runtime can't do shows only by a panic when it is wanted. So this is not asked of the
//! scheduler's runtime: there is one for the whole program, which waits on a thread of its own and does
//! nothing but wake those that wait.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use tokio::runtime::{Builder, Handle, Runtime};

/// Calls what registers something to be watched.
pub(super) fn watched<T>(register: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let runtime = runtime()?;
    let _within = runtime.enter();
    register()
}

fn runtime() -> io::Result<Handle> {
    static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);
    // Nothing panics while it holds the lock.
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*runtime {
        return Ok(runtime.handle().clone());
    }
    let made = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("punctual-io")
        .enable_io()
        .build()?;
    Ok(runtime.insert(made).handle().clone())
}
