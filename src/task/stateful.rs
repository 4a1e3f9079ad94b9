//! Closures that keep state between runs.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Blocking, BlockingWork, Context, Home, NewEntry, Plain, WithContext, Work, WorkOutput,
    blocking::called, output::returned, repeated,
};

/// Creates work from a closure that mutates what it captured: all runs call the same closure.
///
/// Without `stateful`, each run calls a clone of the original closure, so a counter in it starts
/// again in each run. The closure need not be `Clone`. It takes no argument or a [`Context`], and
/// returns a future; for blocking work, use `blocking(stateful(..))`.
///
/// Use a plain closure that returns an `async move` block, as in `stateful(move |cx: Context| { n
/// += 1; async move { .. } })`: mutate the state before the block, and move copies or clones into
/// the block. With an async closure, as in `stateful(async move |cx: Context| ..)`, the future
/// would borrow the closure, which the compiler rejects.
///
/// Calls happen one after the other. Their futures overlap if
/// [`max_instances`](crate::Add::max_instances) is more than one. Blocking calls never overlap; a
/// call occupies its thread while it waits for the previous one. After a panic the closure keeps
/// its state at that point, and the next run or [`Retry`](crate::Retry) calls it again.
///
/// ```
/// use std::time::Duration;
/// # use futures::StreamExt;
/// use punctual::{BoxError, Scheduler, blocking, stateful, trigger::every};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// let scheduler = Scheduler::new();
/// let mut n = 0;
/// let count = stateful(move || {
///     n += 1;
///     async move { Ok::<u32, BoxError>(n) }
/// });
/// let mut job = scheduler.add(every(Duration::from_millis(10)).times(3), count);
/// let runs = job.runs();
/// job.await?;
/// let counts: Vec<_> = runs.map(|run| run.output::<u32>().copied()).collect().await;
/// assert_eq!(counts, [Some(1), Some(2), Some(3)]);
///
/// let mut lines = Vec::new();
/// let collect = blocking(stateful(move || {
///     lines.push("a line");
///     println!("{} lines", lines.len());
/// }));
/// scheduler.add(every(Duration::from_millis(10)).times(3), collect).await?.await;
/// # Ok(()) }
/// ```
pub fn stateful<F>(work: F) -> Stateful<F> {
    Stateful(Arc::new(Mutex::new(work)))
}

/// A closure that keeps state between runs, created by [`stateful`].
///
/// Clones share the state.
pub struct Stateful<F>(Arc<Mutex<F>>);

impl<F> Stateful<F> {
    /// Calls the closure, after calls in progress.
    fn call<T>(&self, call: impl FnOnce(&mut F) -> T) -> T {
        // A closure that has panicked is called again.
        call(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F> Clone for Stateful<F> {
    fn clone(&self) -> Stateful<F> {
        Stateful(self.0.clone())
    }
}

impl<F> fmt::Debug for Stateful<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stateful").finish_non_exhaustive()
    }
}

/// Marks work that is a [`Stateful`] closure; `M` distinguishes its forms.
#[derive(Debug)]
pub struct StatefulWork<M>(std::marker::PhantomData<M>);

impl<F, Fut> Work<StatefulWork<Plain>> for Stateful<F>
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future + Send + 'static,
{
    type Output = Fut::Output;

    fn into_entry(self, scheduler: Home) -> NewEntry
    where
        Fut::Output: WorkOutput,
    {
        repeated(scheduler, self, |work, _| work.call(|work| work()))
    }
}

impl<F, Fut> Work<StatefulWork<WithContext>> for Stateful<F>
where
    F: FnMut(Context) -> Fut + Send + 'static,
    Fut: Future + Send + 'static,
{
    type Output = Fut::Output;

    fn into_entry(self, scheduler: Home) -> NewEntry
    where
        Fut::Output: WorkOutput,
    {
        repeated(scheduler, self, |work, run| work.call(|work| work(run.context())))
    }
}

impl<F, T> Work<BlockingWork<StatefulWork<Plain>>> for Blocking<Stateful<F>>
where
    F: FnMut() -> T + Send + 'static,
    T: 'static,
{
    type Output = T;

    fn into_entry(self, scheduler: Home) -> NewEntry
    where
        T: WorkOutput,
    {
        called(scheduler, self.0, |work, run| {
            returned(work.call(|work| work()), run.wants_output())
        })
    }
}

impl<F, T> Work<BlockingWork<StatefulWork<WithContext>>> for Blocking<Stateful<F>>
where
    F: FnMut(Context) -> T + Send + 'static,
    T: 'static,
{
    type Output = T;

    fn into_entry(self, scheduler: Home) -> NewEntry
    where
        T: WorkOutput,
    {
        called(scheduler, self.0, |work, run| {
            returned(work.call(|work| work(run.context())), run.wants_output())
        })
    }
}
