//! The stores of a scheduler: adding and removing stores, and finding the store of a job.

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
    core::{ACKNOWLEDGE_TIMEOUT, CanRun, Core, FOREVER, LAST_WAIT, NodeOptions, Place, StoreKey},
    driver::{Durable, Entry, RunGuard, Shared},
    error::Error,
    event::EventPayload,
    job::{self, JobId},
    ledger::{Keep, Record, StoreChange, StoreError},
    store::{Capabilities, ErasedStore, Store},
};

/// How long the active runs of a removed store may take to finish.
const SOFT_WAIT: Duration = Duration::from_secs(30);

/// How long to wait for a store's response when looking up an id.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// How many lookups are sent to a store concurrently.
const CONCURRENT_LOOKUPS: usize = 32;

impl Scheduler {
    /// Adds a store for the jobs that [name](super::Add::store) it; see [`store`](crate::store).
    ///
    /// The scheduler runs the jobs in the store from now on, if their tasks are registered. Options
    /// such as [`lease`](super::SchedulerBuilder::lease) are set on the builder and apply to all
    /// stores.
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
    /// If the name is in use, is empty or is longer than 255 bytes, or the scheduler has shut down
    /// or has no runtime. The store itself is not checked:
    /// [`StoreFailing`](EventPayload::StoreFailing) reports its errors.
    pub async fn add_store(
        &self,
        name: impl Into<Arc<str>>,
        store: impl Store,
    ) -> Result<(), Error> {
        self.shared.runtime()?;
        join(&self.shared, name.into(), Arc::new(store))
    }

    /// Removes a store from the scheduler. Its jobs stay in the store, where other schedulers run
    /// them.
    ///
    /// The scheduler claims nothing more from the store and releases its unstarted claims. Active
    /// runs may finish, as in a [shutdown](Scheduler::shutdown): after 30 s they are cancelled, and
    /// dropped after their `cancel_grace`. After the store has acknowledged their outcomes, the
    /// scheduler deregisters from the store and closes it; it waits for a store that does not
    /// respond for up to 5 s. The handles of the store's jobs resolve with
    /// [`End::ShutDown`](crate::End::ShutDown), after the end of their active runs; their other
    /// methods then return an error ([`is_gone`](Error::is_gone)).
    ///
    /// After `default` is removed, tasks without a named store go to memory. A call from a run of
    /// one of the store's own jobs does not wait for the removal.
    ///
    /// # Errors
    ///
    /// If there is no store with this name, or the scheduler has shut down or has no runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the removal.
    pub async fn remove_store(&self, name: &str) -> Result<(), Error> {
        let shared = &self.shared;
        let runtime = shared.runtime()?;
        let caller = RunGuard::current(shared);
        let (durable, begins, is_own) = shared.transact(|core, now| {
            if core.is_closed() {
                return Err(Error::shut_down(
                    "the scheduler has shut down and has deregistered from its stores",
                ));
            }
            let begins = match shared.stores.leaving(name) {
                Some(durable) => (durable, false),
                None => (shared.stores.named(name)?, true),
            };
            let key = begins.0.key;
            if begins.1 {
                shared.stores.begin_removing(key);
                core.retire_store(key, now);
            }
            let is_own = caller.is_some_and(|run| core.active_runs_in(key).contains(&run));
            Ok((begins.0, begins.1, is_own))
        })?;
        if begins {
            runtime.spawn(finish_removal(shared.clone(), durable.clone()));
        }
        if !is_own {
            durable.stopped.cancelled().await;
        }
        Ok(())
    }
}

/// Makes the scheduler a node of a store.
pub(super) fn join(
    shared: &Arc<Shared>,
    name: Arc<str>,
    store: Arc<dyn ErasedStore>,
) -> Result<(), Error> {
    let runtime = shared.runtime()?;
    job::check_name("the name of a store", &name)?;
    if name.is_empty() {
        return Err(Error::invalid_option("the name of a store is empty: use 1 to 255 bytes"));
    }
    let Capabilities { notifies, max_batch, max_bytes, max_rows, min_lease, has_clock, .. } =
        store.capabilities();
    let NodeOptions { lease, keep, .. } = shared.node;
    if lease < min_lease {
        return Err(Error::invalid_option(format!(
            "lease({lease:?}) is shorter than the minimum of store `{name}`: use {min_lease:?} or more"
        )));
    }
    let options = NodeOptions {
        max_batch: max_batch.max(1),
        max_bytes: max_bytes.unwrap_or(usize::MAX),
        keep: Keep { total: keep.total.min(max_rows.unwrap_or(u64::MAX)), ..keep },
        notifies,
        has_clock,
        // The hasher's keys are random in each process and differ in each call.
        seed: RandomState::new().build_hasher().finish(),
        ..shared.node.clone()
    };
    // An operation that hangs must not cost the lease.
    let timeout = options.lease / 4;
    let this = Arc::downgrade(shared);
    let can_run: CanRun = Arc::new(move |record, definition| match this.upgrade() {
        Some(shared) => durable::can_run(&shared, record, definition),
        None => Err(Error::shut_down("the scheduler has shut down")),
    });
    let tasks = shared.tasks.names().map(str::to_owned).collect();
    // Subscribe before the node first reads the store, so that no change is missed in between.
    let changes = open_changes(&*store);
    // The core sends requests by the store's key as soon as it has the node, so both are added
    // under one lock.
    let durable = shared.transact(|core, now| {
        if core.is_closed() {
            return Err(Error::shut_down("the scheduler has shut down: create a new one"));
        }
        shared.stores.check_free(&name)?;
        let (key, _) = core.join(name.clone(), options, tasks, can_run);
        let durable = Arc::new(Durable::new(key, name.clone(), store.clone(), timeout));
        shared.stores.add(durable.clone());
        core.note_in(key, now, EventPayload::StoreAdded { store: name });
        Ok(durable)
    })?;
    runtime.spawn(forward_changes(durable, changes, Arc::downgrade(shared)));
    Ok(())
}

/// The stream of a store's changes from now on; empty if the store panics.
fn open_changes(store: &dyn ErasedStore) -> BoxStream<'static, StoreChange> {
    let changes = catch_unwind(AssertUnwindSafe(|| store.changes()));
    changes.unwrap_or_else(|_| stream::empty().boxed())
}

/// Forwards the changes that a store reports to the core.
async fn forward_changes(
    durable: Arc<Durable>,
    changes: BoxStream<'static, StoreChange>,
    scheduler: Weak<Shared>,
) {
    const SHORTEST: Duration = Duration::from_millis(1);
    let (mut changes, mut wait) = (changes.ready_chunks(CHANGE_BATCH), SHORTEST);
    loop {
        let next = AssertUnwindSafe(changes.next()).catch_unwind();
        let Some(next) = durable.stopped.run_until_cancelled(next).await else { return };
        let next = match next {
            Ok(Some(next)) => {
                wait = SHORTEST;
                next
            }
            // The stream should neither end nor panic. Reopen it, and treat the gap as an unknown
            // change.
            Ok(None) | Err(_) => {
                wait = (wait * 2).min(Duration::from_secs(5));
                let waited = durable.stopped.run_until_cancelled(tokio::time::sleep(wait));
                if waited.await.is_none() {
                    return;
                }
                changes = open_changes(&*durable.store).ready_chunks(CHANGE_BATCH);
                vec![StoreChange::Unknown]
            }
        };
        let next: Vec<_> = next.into_iter().map(|it| (it, durable.is_news(it))).collect();
        let Some(shared) = scheduler.upgrade() else { return };
        shared.transact(|core, _| {
            for (change, is_news) in next {
                core.notice(durable.key, change, is_news);
            }
        });
        drop(shared);
        // Limits a store that reports changes continuously.
        tokio::time::sleep(SHORTEST).await;
    }
}

/// How many changes are forwarded together.
const CHANGE_BATCH: usize = 256;

/// Finishes the removal of a store from which nothing is claimed any more. A shutdown deregisters
/// from all stores itself.
async fn finish_removal(shared: Arc<Shared>, durable: Arc<Durable>) {
    let leaving = async {
        let key = durable.key;
        let no_run = |core: &Core<Arc<dyn Entry>>| core.active_runs_in(key).is_empty();
        wait_until(&shared, SOFT_WAIT, no_run).await;
        let grace = shared.transact(|core, _| core.cancel_store(key));
        wait_until(&shared, grace.min(FOREVER) + LAST_WAIT, no_run).await;
        shared.abandon(|core| core.active_runs_in(key));
        wait_until(&shared, ACKNOWLEDGE_TIMEOUT, |core| core.has_left_store(key)).await;
        // In a task, since this is the store's code, which may panic.
        let closing = durable.clone();
        let closing = tokio::spawn(async move { closing.store.close().await });
        let _ = tokio::time::timeout(ACKNOWLEDGE_TIMEOUT, closing).await;
    };
    if durable.stopped.run_until_cancelled(leaving).await.is_none() {
        return;
    }
    let pending = shared.transact(|core, now| {
        shared.stores.end_removing(durable.key);
        core.drop_store(durable.key, now)
    });
    if pending > 0 {
        let store = &*durable.name;
        tracing::warn!(target: "punctual", store, "store `{store}` does not respond: {pending} outcomes of runs were not acknowledged");
    }
    durable.stop();
}

/// Waits until the condition holds, up to `longest`.
async fn wait_until(
    shared: &Shared,
    longest: Duration,
    is_so: impl Fn(&Core<Arc<dyn Entry>>) -> bool,
) {
    let waiting = async {
        loop {
            let mut moved = pin!(shared.leaving.notified());
            // Register before the check, so that no notification in between is missed.
            moved.as_mut().enable();
            if shared.transact(|core, _| is_so(core)) {
                return;
            }
            moved.await;
        }
    };
    let _ = tokio::time::timeout(longest, waiting).await;
}

/// A reservation of an id for a job that is being added, since memory and all stores share one
/// namespace.
pub(super) struct Reservation {
    shared: Arc<Shared>,
    id: JobId,
}

impl Reservation {
    pub(super) fn of(shared: &Arc<Shared>, id: &JobId, place: Place) -> Result<Reservation, Error> {
        shared.try_transact(|core, _| core.reserve(id, place))?;
        Ok(Reservation { shared: shared.clone(), id: id.clone() })
    }

    /// Reserves ids for jobs in memory, if no store has them.
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
        self.shared.transact(|core, _| core.unreserve(&self.id));
    }
}

/// Checks that no store except `but` has a job with one of these ids.
///
/// Skips a store that is unavailable or does not respond in time, so that other jobs do not depend
/// on it.
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
    let is_checked = |key| but != Some(key) && !is_down(shared, key);
    let checks = others.iter().filter(|durable| is_checked(durable.key)).map(|durable| {
        let (durable, ids) = (durable.clone(), ids.clone());
        // In a task, so that the lookup does not depend on who polls this future.
        let found = runtime.spawn(async move {
            let lookups = ids.into_iter().map(|id| look_up(durable.clone(), id));
            let mut lookups = pin!(stream::iter(lookups).buffered(CONCURRENT_LOOKUPS));
            while let Some(Ok(found)) = lookups.next().await {
                if let Some(record) = found.filter(|record| record.ended_at.is_none()) {
                    return Err(Error::duplicate_id(format!(
                        "store `{}` already has a job `{}`: choose another id, or remove that job first",
                        durable.name, record.id
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
    shared.transact(|core, _| core.is_down(store))
}

/// Looks up an id in a store, with a timeout.
async fn look_up(durable: Arc<Durable>, id: JobId) -> Result<Option<Record>, StoreError> {
    let record = tokio::time::timeout(LOOKUP_TIMEOUT, durable.store.get(id)).await;
    record.unwrap_or_else(|_| {
        Err(StoreError::unavailable(format!("the store has not responded for {LOOKUP_TIMEOUT:?}")))
    })
}

/// The store in which to find a job by id: the only store, or the one that has the id.
pub(super) async fn find(shared: &Arc<Shared>, id: &JobId) -> Result<Option<Arc<Durable>>, Error> {
    let stores = shared.stores.usable();
    if stores.len() < 2 {
        return Ok(stores.first().cloned());
    }
    let (mut current, mut ended, mut unavailable) = (Vec::new(), Vec::new(), None);
    let (down, working): (Vec<_>, Vec<_>) =
        stores.iter().partition(|durable| is_down(shared, durable.key));
    for stores in [working, down] {
        if !current.is_empty() {
            // Do not wait for unavailable stores.
            break;
        }
        let lookups = stores.iter().map(|&durable| look_up(durable.clone(), id.clone()));
        let lookups = shared.within(async { Ok(join_all(lookups).await) }).await?;
        for (durable, lookup) in stores.into_iter().zip(lookups) {
            match lookup {
                Ok(Some(record)) if record.ended_at.is_none() => current.push(durable),
                Ok(Some(_)) => ended.push(durable),
                Ok(None) => {}
                Err(error) => unavailable = Some(durable.error(error)),
            }
        }
    }
    if current.is_empty()
        && let Some(error) = unavailable
    {
        return Err(error);
    }
    // An ended job counts only if no store has a current one.
    let found = if current.is_empty() { ended } else { current };
    match &found[..] {
        [durable] => Ok(Some(Arc::clone(durable))),
        [] => Ok(stores.first().cloned()),
        several => {
            let names: Vec<_> = several.iter().map(|it| format!("store `{}`", it.name)).collect();
            Err(Error::ambiguous(format!(
                "there is a job `{id}` in {}: name the store, with `scheduler.job(\"{id}\").store(..)`",
                names.join(" and in ")
            )))
        }
    }
}
