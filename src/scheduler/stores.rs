//! The stores of a scheduler: added and removed, and which of them has a job.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{join_all, try_join_all},
    stream::{self, BoxStream},
};

use super::{Scheduler, durable};
use crate::{
    core::{CanRun, Core, NodeOptions, Place, RunResult, StoreKey},
    driver::{Durable, Entry, FAREWELL, FOREVER, LAST_WAIT, RunGuard, Shared},
    error::Error,
    event::EventPayload,
    job::{self, JobId, Outcome},
    ledger::{Keep, Record, StoreChange, StoreError},
    store::{Capabilities, ErasedStore, Store},
};

/// How long the runs of a store that is removed may take to end by themselves.
const SOFTLY: Duration = Duration::from_secs(30);

/// How long a store is waited for that is only asked whether it has a job.
const LOOK: Duration = Duration::from_secs(1);

/// How many ids it is asked for at the same time.
const AT_ONCE: usize = 32;

impl Scheduler {
    /// Adds a store, to which jobs go that [name](super::Add::store) it; see [`store`](crate::store).
    ///
    /// What is in it runs from here on, as far as its tasks are registered. Options such as
    /// [`lease`](super::SchedulerBuilder::lease) are those of the builder, for each store alike.
    ///
    /// ```
    /// # use punctual::{Context, Scheduler, Task, store::MemoryStore, trigger::every};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Import;
    /// # impl Task for Import { const NAME: &'static str = "import"; type Output = (); async fn run(self, _: Context) {} }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), punctual::Error> {
    /// let scheduler = Scheduler::builder().task::<Import>().start().await?;
    /// scheduler.add_store("archive", MemoryStore::new()).await?;
    /// let job = scheduler.add(every("1h"), Import).store("archive").await?;
    /// assert_eq!(job.get().await?.store.as_deref(), Some("archive"));
    /// scheduler.remove_store("archive").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That the name is taken, or has no or more than 255 bytes; that the scheduler has shut down or has no
    /// runtime. Whether the store works is not looked at: [`StoreFailing`](EventPayload::StoreFailing) tells.
    pub async fn add_store(
        &self,
        name: impl Into<Arc<str>>,
        store: impl Store,
    ) -> Result<(), Error> {
        self.shared.runtime()?;
        join(&self.shared, name.into(), Arc::new(store))
    }

    /// Removes a store, whose jobs stay in it: other schedulers run them, and this one if it adds the
    /// store again.
    ///
    /// Nothing more of it is claimed, and what was claimed and has not started is released. Going runs
    /// finish, as at a [shutdown](Scheduler::shutdown): after 30 s they are cancelled, and dropped after
    /// their `cancel_grace`. When the store has heard how they ended, the scheduler takes leave of it and
    /// closes it; a store that does not answer is given up after five seconds. The handles of its jobs
    /// resolve with [`End::ShutDown`](crate::End::ShutDown), those of going runs when these have ended; their
    /// other methods say that the job is [gone](Error::is_gone).
    ///
    /// Once `default` is removed, tasks that name no store are kept in memory. A run of one of the store's
    /// jobs that removes the store does not wait for that.
    ///
    /// # Errors
    ///
    /// That there is no store of this name; that the scheduler has shut down or has no runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the removal going.
    pub async fn remove_store(&self, name: &str) -> Result<(), Error> {
        let shared = &self.shared;
        let runtime = shared.runtime()?;
        let caller = RunGuard::current(shared);
        let (durable, begins, is_own) = shared.with(|state, now| {
            if state.core.is_closed() {
                return Err(Error::shut_down("the scheduler has shut down, and left its stores"));
            }
            let begins = match shared.stores.leaving(name) {
                Some(durable) => (durable, false),
                None => (shared.stores.named(name)?, true),
            };
            let key = begins.0.key;
            if begins.1 {
                shared.stores.begin_removing(key);
                state.core.retire_store(key, now);
            }
            let is_own = caller.is_some_and(|run| state.core.going_in(key).contains(&run));
            Ok((begins.0, begins.1, is_own))
        })?;
        if begins {
            runtime.spawn(remove(shared.clone(), durable.clone()));
        }
        if !is_own {
            durable.stopped.cancelled().await;
        }
        Ok(())
    }
}

/// Has a scheduler be a node of a store.
pub(super) fn join(
    shared: &Arc<Shared>,
    name: Arc<str>,
    store: Arc<dyn ErasedStore>,
) -> Result<(), Error> {
    let runtime = shared.runtime()?;
    job::check_name("the name of a store", &name)?;
    if name.is_empty() {
        return Err(Error::invalid_option(
            "a store without a name can't be told from others: name it",
        ));
    }
    let Capabilities { max_batch, max_bytes, max_rows, min_lease, has_clock, .. } =
        store.capabilities();
    let NodeOptions { lease, keep, .. } = shared.node;
    if lease < min_lease {
        return Err(Error::invalid_option(format!(
            "lease({lease:?}) is shorter than store `{name}` can keep: use {min_lease:?} or more"
        )));
    }
    let options = NodeOptions {
        max_batch: max_batch.max(1),
        max_bytes: max_bytes.unwrap_or(usize::MAX),
        keep: Keep { total: keep.total.min(max_rows.unwrap_or(u64::MAX)), ..keep },
        has_clock,
        // The hasher's keys are random in each process and differ with every call.
        seed: RandomState::new().build_hasher().finish(),
        ..shared.node.clone()
    };
    // An operation that hangs must not cost the lease.
    let patience = options.lease / 4;
    let this = Arc::downgrade(shared);
    let can_run: CanRun = Arc::new(move |record, definition| match this.upgrade() {
        Some(shared) => durable::can_run(&shared, record, definition),
        None => Err(Error::shut_down("the scheduler has shut down")),
    });
    let tasks = shared.tasks.names().map(str::to_owned).collect();
    // Nothing is to change unnoticed once the node has looked.
    let changes = listen(&*store);
    // Once the core knows it, it asks for the store by its key.
    let durable = shared.with(|state, now| {
        if state.core.is_closed() {
            return Err(Error::shut_down("the scheduler has shut down: make a new one"));
        }
        shared.stores.check_free(&name)?;
        let (key, _) = state.core.join(name.clone(), options, tasks, can_run);
        let durable = Arc::new(Durable::new(key, name.clone(), store, patience));
        shared.stores.add(durable.clone());
        state.core.note_in(key, now, EventPayload::StoreAdded { store: name });
        Ok(durable)
    })?;
    runtime.spawn(notice(durable, changes, Arc::downgrade(shared)));
    Ok(())
}

/// The changes that a store notifies of, from here on. One that panics notifies of none.
fn listen(store: &dyn ErasedStore) -> BoxStream<'static, StoreChange> {
    let changes = catch_unwind(AssertUnwindSafe(|| store.changes()));
    changes.unwrap_or_else(|_| stream::empty().boxed())
}

/// Has the scheduler look at what its store notifies of.
async fn notice(
    durable: Arc<Durable>,
    changes: BoxStream<'static, StoreChange>,
    scheduler: Weak<Shared>,
) {
    const SHORTEST: Duration = Duration::from_millis(1);
    let (mut changes, mut wait) = (changes.ready_chunks(TOGETHER), SHORTEST);
    loop {
        let next = AssertUnwindSafe(changes.next()).catch_unwind();
        let Some(next) = durable.stopped.run_until_cancelled(next).await else { return };
        let next = match next {
            Ok(Some(next)) => {
                wait = SHORTEST;
                next
            }
            // It should neither end nor panic. What it has left out meanwhile is looked for.
            Ok(None) | Err(_) => {
                wait = (wait * 2).min(Duration::from_secs(5));
                let waited = durable.stopped.run_until_cancelled(tokio::time::sleep(wait));
                if waited.await.is_none() {
                    return;
                }
                changes = listen(&*durable.store).ready_chunks(TOGETHER);
                vec![StoreChange::Unknown]
            }
        };
        let next: Vec<_> = next.into_iter().map(|it| (it, durable.is_news(it))).collect();
        let Some(shared) = scheduler.upgrade() else { return };
        shared.with(|state, _| {
            for (change, is_news) in next {
                state.core.notice(durable.key, change, is_news);
            }
        });
        drop(shared);
        // One that notifies all the time is not to have the runtime for itself.
        tokio::time::sleep(SHORTEST).await;
    }
}

/// How many changes are looked at together.
const TOGETHER: usize = 256;

/// Takes leave of a store of which nothing is claimed any more. A shutdown leaves all stores by itself.
async fn remove(shared: Arc<Shared>, durable: Arc<Durable>) {
    let leaving = async {
        let key = durable.key;
        let no_run = |core: &Core<Arc<dyn Entry>>| core.going_in(key).is_empty();
        wait_until(&shared, SOFTLY, no_run).await;
        let grace = shared.with(|state, _| state.core.cancel_store(key));
        wait_until(&shared, grace.min(FOREVER) + LAST_WAIT, no_run).await;
        shared.with(|state, now| {
            for run in state.core.going_in(key) {
                state.finish(run, RunResult::without_work(Outcome::Abandoned, now), now);
            }
        });
        wait_until(&shared, FAREWELL, |core| core.has_left_store(key)).await;
        // In a task, since it is somebody else's code.
        let closing = durable.clone();
        let closing = tokio::spawn(async move { closing.store.close().await });
        let _ = tokio::time::timeout(FAREWELL, closing).await;
    };
    if durable.stopped.run_until_cancelled(leaving).await.is_none() {
        return;
    }
    let untold = shared.with(|state, now| {
        shared.stores.end_removing(durable.key);
        state.core.drop_store(durable.key, now)
    });
    if untold > 0 {
        let store = &*durable.name;
        tracing::warn!(target: "punctual", store, "store `{store}` does not answer: it was not told of {untold} runs that have ended");
    }
    durable.stop();
}

/// Waits until this is so of the scheduler, or for so long.
async fn wait_until(
    shared: &Shared,
    longest: Duration,
    is_so: impl Fn(&Core<Arc<dyn Entry>>) -> bool,
) {
    let waiting = async {
        loop {
            let mut moved = pin!(shared.leaving.notified());
            // What happens between the look and the wait counts.
            moved.as_mut().enable();
            if shared.with(|state, _| is_so(&state.core)) {
                return;
            }
            moved.await;
        }
    };
    let _ = tokio::time::timeout(longest, waiting).await;
}

/// An id that is kept for a job that is being added: what is in memory and what is in the stores share
/// one namespace.
pub(super) struct Reservation {
    shared: Arc<Shared>,
    id: JobId,
}

impl Reservation {
    pub(super) fn of(shared: &Arc<Shared>, id: &JobId, place: Place) -> Result<Reservation, Error> {
        shared.try_with(|state, _| state.core.reserve(id, place))?;
        Ok(Reservation { shared: shared.clone(), id: id.clone() })
    }

    /// The same for jobs in memory, if no store has jobs of these ids.
    pub(super) async fn in_memory(
        shared: Arc<Shared>,
        ids: Vec<JobId>,
    ) -> Result<Vec<Reservation>, Error> {
        let reserved: Result<Vec<_>, _> =
            ids.iter().map(|id| Reservation::of(&shared, id, Place::Memory)).collect();
        let reserved = reserved?;
        check_free(&shared, ids, None).await?;
        Ok(reserved)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.with(|state, _| state.core.unreserve(&self.id));
    }
}

/// Whether no store but this one has a job of one of these ids. A store that is down, or does not answer
/// at once, is passed over: jobs elsewhere must not depend on it.
pub(super) async fn check_free(
    shared: &Arc<Shared>,
    ids: Vec<JobId>,
    but: Option<StoreKey>,
) -> Result<(), Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let runtime = shared.runtime()?;
    let others = shared.stores.usable();
    let asked = |key| but != Some(key) && !is_down(shared, key);
    let checks = others.iter().filter(|durable| asked(durable.key)).map(|durable| {
        let (durable, ids) = (durable.clone(), ids.clone());
        // In a task, so that it does not matter who polls this.
        let found = runtime.spawn(async move {
            let looks = ids.into_iter().map(|id| look(durable.clone(), id));
            let mut looks = pin!(stream::iter(looks).buffered(AT_ONCE));
            while let Some(Ok(found)) = looks.next().await {
                if let Some(record) = found.filter(|record| record.ended_at.is_none()) {
                    return Err(Error::duplicate_id(format!(
                        "there is a job `{}` in store `{}` already: choose another id, or remove it there first",
                        record.id, durable.name
                    )));
                }
            }
            Ok(())
        });
        async { found.await.unwrap_or(Ok(())) }
    });
    try_join_all(checks).await.map(drop)
}

fn is_down(shared: &Shared, store: StoreKey) -> bool {
    shared.with(|state, _| state.core.is_down(store))
}

/// What a store has of an id, if it answers at once.
async fn look(durable: Arc<Durable>, id: JobId) -> Result<Option<Record>, StoreError> {
    let looked = tokio::time::timeout(LOOK, durable.store.get(id)).await;
    looked.unwrap_or_else(|_| {
        Err(StoreError::unavailable(format!("it has not answered for {LOOK:?}")))
    })
}

/// The store in which a job of this id is to be looked for: where there is one alone, that one; otherwise
/// the one that has it.
pub(super) async fn find(shared: &Arc<Shared>, id: &JobId) -> Result<Option<Arc<Durable>>, Error> {
    let stores = shared.stores.usable();
    if stores.len() < 2 {
        return Ok(stores.first().cloned());
    }
    let (mut there, mut over, mut silent) = (Vec::new(), Vec::new(), None);
    let (down, working): (Vec<_>, Vec<_>) =
        stores.iter().partition(|durable| is_down(shared, durable.key));
    for stores in [working, down] {
        if !there.is_empty() {
            // Those that are down are not waited for.
            break;
        }
        let looks = stores.iter().map(|&durable| look(durable.clone(), id.clone()));
        let looks = shared.within(async { Ok(join_all(looks).await) }).await?;
        for (durable, look) in stores.into_iter().zip(looks) {
            match look {
                Ok(Some(record)) if record.ended_at.is_none() => there.push(durable),
                Ok(Some(_)) => over.push(durable),
                Ok(None) => {}
                Err(error) => silent = Some(durable.error(error)),
            }
        }
    }
    if there.is_empty()
        && let Some(error) = silent
    {
        return Err(error);
    }
    // That one is over counts where none is left.
    let found = if there.is_empty() { over } else { there };
    match &found[..] {
        [durable] => Ok(Some(Arc::clone(durable))),
        [] => Ok(stores.first().cloned()),
        several => {
            let names: Vec<_> = several.iter().map(|it| format!("store `{}`", it.name)).collect();
            Err(Error::ambiguous(format!(
                "there is a job `{id}` in {}: say which, with `scheduler.job(\"{id}\").store(..)`",
                names.join(" and in ")
            )))
        }
    }
}
