//! `.wait()`: blocking on a future of this crate in a thread without async code.

use std::{
    future::IntoFuture,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use super::waiting;
use crate::{error::Error, job::End, scheduler::ShutdownReport};

/// Blocks this thread until a future of this crate completes: `scheduler.add(..).wait()?` is the
/// counterpart of `scheduler.add(..).await?` in a program without an async `main`.
///
/// All futures of this crate have this method: adding, listing and changing jobs, handles,
/// shutdowns, [`drained`](crate::Scheduler::drained), and the `next()` of a stream. It returns the
/// future's output, as a `Result`. Only this thread is blocked, not the scheduler's own threads, so
/// it works with any [`Scheduler`](crate::Scheduler) whose runtime has its own thread, not only
/// with a [`BackgroundScheduler`](crate::BackgroundScheduler).
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
    /// Blocks this thread until the future completes, and returns its output.
    ///
    /// # Errors
    ///
    /// The error of the future. In async code, whose thread must not be blocked, an error with
    /// [`is_no_runtime`](Error::is_no_runtime), and the future is not polled: await it there
    /// instead, or call this in [`blocking`](crate::blocking) work or
    /// [`spawn_blocking`](tokio::task::spawn_blocking). Async code that Tokio polls
    /// [`unconstrained`](tokio::task::unconstrained) cannot be distinguished from code that may
    /// block: its thread is blocked.
    fn wait(self) -> Result<<Self::Output as Waited>::Value, Error> {
        waiting::check("wait")?;
        block_on(self.into_future()).into_result()
    }
}

impl<F> Wait for F where F: IntoFuture<Output: Waited> {}

/// An output of a future of this crate, which [`Wait`] can wait for.
#[diagnostic::on_unimplemented(
    message = "`wait` does not support a future with output `{Self}`",
    note = "`wait` supports the futures of `punctual`: for other futures, use the `block_on` of their runtime"
)]
pub trait Waited {
    /// The value that `wait` returns.
    type Value;

    /// Converts the output into a result.
    fn into_result(self) -> Result<Self::Value, Error>;
}

impl<T> Waited for Result<T, Error> {
    type Value = T;

    fn into_result(self) -> Result<T, Error> {
        self
    }
}

/// Implements [`Waited`] for outputs that are not results.
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

/// Polls a future on this thread, and parks the thread in between.
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
