//! `.wait()`: how a thread that runs no async code gets what async code awaits.

use std::{
    future::IntoFuture,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use super::waiting;
use crate::{error::Error, job::End, scheduler::ShutdownReport};

/// Waits on this thread for what async code awaits: `scheduler.add(..).wait()?` is
/// `scheduler.add(..).await?` of a program that has no async `main`.
///
/// Everything of this crate has it that can be awaited, and yields what it yields when awaited, with
/// one more reason for an error: jobs as they are added, listed and changed, handles, shutdowns,
/// [`drained`](crate::Scheduler::drained), and the `next()` of a stream. The thread is blocked
/// meanwhile; a scheduler's own threads are not, so any [`Scheduler`](crate::Scheduler) will do whose
/// runtime has a thread of its own, not only a [`BackgroundScheduler`](crate::BackgroundScheduler).
///
/// ```
/// use std::time::Duration;
/// use punctual::{BackgroundScheduler, Wait, trigger::{after, every}};
///
/// fn main() -> Result<(), punctual::Error> {
///     let scheduler = BackgroundScheduler::new()?;
///     let ping = every(Duration::from_secs(5));
///     let job = scheduler.add(ping, || async { println!("ping") }).wait()?;
///     job.pause().wait()?;
///
///     let answer = scheduler.add_once(after(Duration::from_millis(10)), async { 42 }).wait()?;
///     assert_eq!(answer.wait()?, 42);
///
///     let end = scheduler.add(after(Duration::ZERO), || async {}).wait()?.wait()?;
///     println!("{end}");
///     Ok(())
/// }
/// ```
pub trait Wait: IntoFuture<Output: Waited> + Sized {
    /// Waits for the future's output, on this thread.
    ///
    /// # Errors
    ///
    /// That of what is waited for. In async code, where a thread must not be blocked, that this is so
    /// ([`is_no_runtime`](Error::is_no_runtime)), and nothing is done: await it there, or call this in
    /// [`blocking`](crate::blocking) work or [`spawn_blocking`](tokio::task::spawn_blocking). Async code
    /// that Tokio polls [`unconstrained`](tokio::task::unconstrained) can't be told from code that may
    /// block: its thread is blocked.
    fn wait(self) -> Result<<Self::Output as Waited>::Value, Error> {
        waiting::check("wait")?;
        block_on(self.into_future()).into_result()
    }
}

impl<F> Wait for F where F: IntoFuture<Output: Waited> {}

/// What can be [waited](Wait) for: what the futures of this crate yield.
#[diagnostic::on_unimplemented(
    message = "`wait` does not wait for a `{Self}`",
    note = "it waits for what the futures of `punctual` yield: of others, use the `block_on` of their runtime"
)]
pub trait Waited {
    /// What waiting yields.
    type Value;

    /// Makes a result of it.
    fn into_result(self) -> Result<Self::Value, Error>;
}

impl<T> Waited for Result<T, Error> {
    type Value = T;

    fn into_result(self) -> Result<T, Error> {
        self
    }
}

/// Generates [`Waited`] for what is no result by itself.
macro_rules! waited {
    ($([$($parameter:ident)?] $value:ty,)*) => {$(
        impl $(<$parameter>)? Waited for $value {
            type Value = Self;

            fn into_result(self) -> Result<Self, Error> {
                Ok(self)
            }
        }
    )*};
}

waited! {
    [] (),
    [] End,
    [] ShutdownReport,
    [T] Option<T>,
}

/// Polls a future on this thread, which sleeps in between.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
