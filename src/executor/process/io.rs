//! The runtime that watches processes and their pipes, for schedulers in runtimes without I/O.
//!
//! A Tokio runtime reports missing I/O only by a panic. So the scheduler's runtime is not used: one
//! runtime for the whole program watches them on its own thread, and does nothing except wake
//! tasks.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use tokio::runtime::{Builder, Handle, Runtime};

/// Calls a function that registers something to watch.
pub(super) fn watched<T>(register: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let runtime = runtime()?;
    let _within = runtime.enter();
    register()
}

fn runtime() -> io::Result<Handle> {
    static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);
    // No code panics while it holds the lock.
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
