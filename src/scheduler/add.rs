//! Adding jobs.

use std::{
    fmt,
    future::IntoFuture,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;

use super::{JobHandle, OnceHandle, Runs, durable, prepared, stores::Reservation};
use crate::{
    core::{Added, Declaration, NewJob},
    driver::{Durable, Entry, Shared},
    error::Error,
    feed::feed,
    job::{DEFAULT_EXECUTOR, JobId, JobOptions, Labels, OnConflict, option_setters},
    json,
    ledger::recoveries,
    task::Value,
    trigger::{Trigger, rfc3339},
};

/// A builder for a job, from [`Scheduler::add`](super::Scheduler::add) and its variants. Awaiting
/// it adds the job.
///
/// Options that are not set have the scheduler's defaults. On a scheduler without stores, adding
/// completes and arms the job on the first poll. On a scheduler with stores, a
/// [`Task`](crate::Task) is written to a store, and an explicit id is looked up in all other
/// stores, for up to one second each.
///
/// # Cancel safety
///
/// If the future is dropped before it completes, a job for a store may or may not have been added.
#[must_use = "a job is added when this is awaited"]
pub struct Add<V = ()> {
    trigger: Result<Trigger, Error>,
    entry: Arc<dyn Entry>,
    once: bool,
    in_memory: bool,
    /// The name of the job's store, if set.
    store: Option<Arc<str>>,
    /// The maximum number of recoveries of a run; `None` without recovery.
    recoveries: Option<u32>,
    id: Option<JobId>,
    on_conflict: OnConflict,
    paused: bool,
    /// `None` while the job has the scheduler's defaults, which many jobs then share.
    options: Option<Box<JobOptions>>,
    labels: Option<Box<Labels>>,
    value: V,
}

impl<V> Add<V> {
    pub(super) fn new(trigger: Result<Trigger, Error>, entry: Arc<dyn Entry>, value: V) -> Add<V> {
        Add {
            trigger,
            entry,
            once: false,
            in_memory: false,
            store: None,
            recoveries: None,
            id: None,
            on_conflict: OnConflict::default(),
            paused: false,
            options: None,
            labels: None,
            value,
        }
    }

    pub(super) fn once(mut self) -> Self {
        self.once = true;
        self
    }

    option_setters!(options_mut);

    fn options_mut(&mut self) -> &mut JobOptions {
        let defaults = &self.entry.state().shared.defaults;
        self.options.get_or_insert_with(|| Box::new(JobOptions::clone(defaults)))
    }

    /// Sets the job's id, 1 to 255 bytes. Default: a generated id.
    pub fn id(mut self, id: impl Into<JobId>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets what happens if the id is in use. Default: [`OnConflict::Error`]. All other variants
    /// need an [`id`](Add::id).
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    /// Sets the job's name, for people, in at most 255 bytes. Names need not be unique.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.labels.get_or_insert_default().name = Some(name.into());
        self
    }

    /// Adds a tag to the job, for queries. Up to 100 tags of at most 255 bytes.
    pub fn tag(mut self, tag: impl Into<Arc<str>>) -> Self {
        self.labels.get_or_insert_default().tags.push(tag.into());
        self
    }

    /// Adds the job paused: it does not fire until it is resumed.
    pub fn paused(mut self) -> Self {
        self.paused = true;
        self
    }

    /// Keeps the job in memory, although its work is a task and the scheduler has a store.
    ///
    /// The job runs only on this scheduler and is lost at a restart.
    pub fn in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }

    /// Keeps the job in the store with this name, as given to
    /// [`add_store`](super::Scheduler::add_store). Default: the store named `default`, if there is
    /// one.
    ///
    /// The work must be a task. Adding is an error if the id is in another store or in memory,
    /// whatever [`on_conflict`](Add::on_conflict) is set. This check skips a store that is
    /// unavailable or does not respond within a second.
    ///
    /// ```
    /// # use punctual::{Context, Scheduler, Task, store::MemoryStore, trigger::every};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Import;
    /// # impl Task for Import { const NAME: &'static str = "import"; type Output = (); async fn run(self, _: Context) {} }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), punctual::Error> {
    /// let builder = Scheduler::builder().add_store("archive", MemoryStore::new());
    /// let scheduler = builder.task::<Import>().start().await?;
    /// scheduler.add(every("1h"), Import).store("archive").await?;
    /// # scheduler.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn store(mut self, name: impl Into<Arc<str>>) -> Self {
        self.store = Some(name.into());
        self
    }

    /// Sets whether a run is recovered after its scheduler died, by any scheduler on the same
    /// store: each fire time then runs at least once, instead of at most once. Default: `false`.
    ///
    /// The work may have completed before its scheduler died. The job's id and
    /// [`Context::fire_time`](crate::Context::fire_time) identify the fire time, and
    /// [`Context::attempt`](crate::Context::attempt) is more than 1 in a recovery. Has no effect in
    /// memory.
    ///
    /// A run is recovered up to three times, since the run itself may be what ends its schedulers;
    /// after that it is [*abandoned: recovered too often*](crate::store::Fate::RecoveredTooOften).
    /// [`recoveries`](Add::recoveries) sets another limit.
    pub fn recover(mut self, recover: bool) -> Self {
        self.recoveries = recover.then(recoveries);
        self
    }

    /// [Recovers](Add::recover) a run after its scheduler died, up to `count` times. Default: 3.
    ///
    /// A scheduler that shuts down releases its runs; this does not count as a recovery.
    ///
    /// ```
    /// # use punctual::{Context, Scheduler, Task, store::MemoryStore, trigger::every};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Import;
    /// # impl Task for Import { const NAME: &'static str = "import"; type Output = (); async fn run(self, _: Context) {} }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), punctual::Error> {
    /// let scheduler = Scheduler::builder().store(MemoryStore::new()).task::<Import>().start().await?;
    /// scheduler.add(every("1h"), Import).recoveries(1).await?;
    /// # Ok(()) }
    /// ```
    pub fn recoveries(mut self, count: u32) -> Self {
        self.recoveries = Some(count);
        self
    }

    /// Keeps the return value of the work in its runs for [event](crate::EventPayload::Executed)
    /// listeners: see [`Run::output`](crate::Run::output).
    ///
    /// Streams from [`runs`](Add::runs) have the value without this. For a job in a store, this
    /// applies to runs on this scheduler, until it stops.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use punctual::{BoxError, EventFilter, EventKind, Scheduler, EventPayload, trigger::now};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// # let scheduler = Scheduler::new();
    /// let mut executed =
    ///     scheduler.events_matching(EventFilter::new().kinds([EventKind::Executed]));
    /// scheduler.add(now(), || async { Ok::<u32, BoxError>(17) }).keep_output().await?;
    /// let event = executed.next().await.expect("the job runs");
    /// let EventPayload::Executed(run) = event.payload else { panic!("the filter passes one kind") };
    /// assert_eq!(run.output::<u32>(), Some(&17));
    /// # Ok(()) }
    /// ```
    pub fn keep_output(self) -> Self {
        self.entry.state().want_output();
        self
    }

    /// Returns a stream of the job's runs, with the work's [return values](crate::Run::output).
    ///
    /// The stream starts before the job is armed, so it has all runs. See [`JobHandle::runs`].
    pub fn runs(&mut self) -> Runs {
        let (sender, receiver) = feed(self.shared().buffer);
        self.entry.state().subscribe(sender);
        Runs::new(receiver)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.entry.state().shared
    }

    /// Checks all that does not depend on the scheduler's state, and converts the builder for the
    /// core.
    fn new_job(self, now: DateTime<Utc>) -> Result<(NewJob<Arc<dyn Entry>>, V), Error> {
        let Add { trigger, entry, once, id, on_conflict, paused, options, labels, value, .. } =
            self;
        if let Some(id) = &id {
            id.validate()?;
        }
        labels.as_ref().map_or(Ok(()), |labels| labels.validate())?;
        on_conflict.validate(id.as_ref())?;
        check_once(once, on_conflict, false)?;
        let shared = &entry.state().shared;
        if once
            && !entry.is_repeatable()
            && let Some(options) = &options
            && options.retry != shared.defaults.retry
            && options.retry.is_some()
        {
            return Err(Error::invalid_option(
                "work that can run only once can't be retried: use `add`, or leave out `retry`",
            ));
        }
        let options = own_options(options, shared, &*entry)?;
        let given = trigger?;
        let (trigger, first, elapsed) = anchor_declared(&given, on_conflict, shared, now)?;
        let declared = match on_conflict {
            OnConflict::Keep | OnConflict::Reconcile if !once => {
                let options = options.as_ref().unwrap_or(&shared.defaults).clone();
                let labels = labels.as_deref().cloned().unwrap_or_default();
                let task = match entry.task() {
                    Some((name, args)) => Some((name, json::canonical(&args?))),
                    None => None,
                };
                Some(Box::new(Declaration { trigger: given, options, labels, task }))
            }
            _ => None,
        };
        let new = NewJob {
            id,
            on_conflict,
            trigger,
            declared,
            first,
            elapsed,
            once,
            paused,
            options,
            labels,
            payload: entry,
        };
        Ok((new, value))
    }

    /// The store that the job goes to; `None` for memory.
    fn home(&self) -> Result<Option<Arc<Durable>>, Error> {
        let stores = &self.shared().stores;
        match &self.store {
            None if stores.is_empty() || self.in_memory || self.entry.task().is_none() => Ok(None),
            None => Ok(stores.default_store()),
            Some(name) if self.in_memory => Err(Error::invalid_option(format!(
                "a job can't be in memory and in store `{name}`: leave out `.in_memory()` or `.store(..)`"
            ))),
            Some(name) if self.entry.task().is_none() => Err(Error::invalid_task(format!(
                "only tasks can be kept in store `{name}`: make the work a `Task`, or leave out `.store(..)`"
            ))),
            Some(name) => stores.named(name).map(Some),
        }
    }

    /// The counterpart of [`new_job`](Add::new_job) for a job that goes to a store.
    fn durable_job(self, durable: Arc<Durable>) -> Result<(durable::New, V), Error> {
        let Add {
            trigger,
            entry,
            once,
            id,
            on_conflict,
            paused,
            options,
            labels,
            recoveries,
            value,
            ..
        } = self;
        if let Some(id) = &id {
            id.validate()?;
        }
        labels.as_ref().map_or(Ok(()), |labels| labels.validate())?;
        on_conflict.validate(id.as_ref())?;
        check_once(once, on_conflict, true)?;
        let shared = &entry.state().shared;
        let options = own_options(options, shared, &*entry)?;
        let options = JobOptions::clone(options.as_ref().unwrap_or(&shared.defaults));
        let (given, labels) = (id, labels.map(|labels| *labels).unwrap_or_default());
        let trigger = if once { trigger?.once() } else { trigger? };
        let new = durable::New {
            durable,
            given,
            on_conflict,
            trigger,
            options,
            labels,
            paused,
            recoveries,
            entry,
        };
        Ok((new, value))
    }

    fn commit(self) -> Result<(JobHandle, V), Error> {
        let shared = self.shared().clone();
        let (new, value) = self.new_job(shared.clock.now())?;
        let added = shared.try_transact(|core, now| core.add(new, now));
        Ok((JobHandle::new(shared, added?), value))
    }
}

/// A job whose statement the application executes: see [`Add::prepare`].
pub(super) fn for_a_statement(add: Add) -> Result<(Arc<Shared>, durable::New), Error> {
    let shared = add.shared().clone();
    prepared::check_on_conflict(add.on_conflict)?;
    let Some(durable) = add.home()? else {
        return Err(Error::invalid_task(
            "only a task in a store can be added by a statement: make the work a `Task`, give the \
             scheduler a store, and leave out `.in_memory()`",
        ));
    };
    let (new, ()) = add.durable_job(durable)?;
    Ok((shared, new))
}

/// Checks that the handle of a job that runs once can return a value.
///
/// The handle returns the value of the job's own work. An existing job that is kept, or that stays
/// in a store, has no value for it.
fn check_once(once: bool, on_conflict: OnConflict, durable: bool) -> Result<(), Error> {
    match on_conflict {
        OnConflict::Keep if once => Err(Error::invalid_option(
            "an existing job that is kept has no value for this handle: use `OnConflict::Replace`, or `add`",
        )),
        OnConflict::Reconcile if once && durable => Err(Error::invalid_option(
            "an existing job in a store has no value for this handle: use `OnConflict::Replace`, or `add`",
        )),
        _ => Ok(()),
    }
}

/// The job's own options, or `None` if the scheduler's defaults apply.
fn own_options(
    mut options: Option<Box<JobOptions>>,
    shared: &Shared,
    entry: &dyn Entry,
) -> Result<Option<Arc<JobOptions>>, Error> {
    if options.is_none()
        && shared.defaults.executor.is_none()
        && entry.default_executor() != DEFAULT_EXECUTOR
    {
        options = Some(Box::new(JobOptions::clone(&shared.defaults)));
    }
    match options {
        Some(options) => Ok(Some(Arc::new(checked(*options, shared, entry)?))),
        None => {
            check_executor(&shared.defaults, shared, entry)?;
            Ok(None)
        }
    }
}

/// Resolves the default executor and checks that the work can run with these options.
pub(super) fn checked(
    mut options: JobOptions,
    shared: &Shared,
    entry: &dyn Entry,
) -> Result<JobOptions, Error> {
    options.validate()?;
    if options.executor.is_none() && entry.default_executor() != DEFAULT_EXECUTOR {
        options.executor = Some(entry.default_executor().into());
    }
    check_executor(&options, shared, entry)?;
    Ok(options)
}

fn check_executor(options: &JobOptions, shared: &Shared, entry: &dyn Entry) -> Result<(), Error> {
    // The default executors fit. The core refuses the name of an unknown executor.
    match options.executor.as_ref().and_then(|name| shared.executor(name)) {
        Some(executor) => entry.check(&executor),
        None => entry.check_alone(),
    }
}

/// Resolves what depends on the current time, and finds the first fire time, which is `None` for a
/// trigger that follows another job.
pub(super) fn anchor(
    trigger: &Trigger,
    shared: &Shared,
    now: DateTime<Utc>,
) -> Result<(Trigger, Option<DateTime<Utc>>, bool), Error> {
    let anchored = trigger.anchored(now, shared.zone)?;
    if anchored.follow().is_some() {
        return Ok((anchored, None, false));
    }
    let first = anchored.first_when_added(now)?.ok_or_else(|| {
        let reason = anchored.why_never();
        Error::no_fire_time(format!(
            "the trigger `{anchored}` never fires from {} on: {}",
            rfc3339(now),
            reason.as_deref().unwrap_or("check its pattern and its end")
        ))
    })?;
    Ok((anchored, Some(first), trigger.is_elapsed_time()))
}

/// The counterpart of [`anchor`] for a declared job, for which a trigger without a fire time left
/// is not an error: the job has ended. Otherwise a service could not start once such a job has
/// ended.
pub(super) fn anchor_declared(
    trigger: &Trigger,
    on_conflict: OnConflict,
    shared: &Shared,
    now: DateTime<Utc>,
) -> Result<(Trigger, Option<DateTime<Utc>>, bool), Error> {
    let anchored = anchor(trigger, shared, now);
    match (&anchored, on_conflict) {
        (Err(error), OnConflict::Keep | OnConflict::Reconcile) if error.never_fires() => {
            let elapsed = trigger.is_elapsed_time();
            Ok((trigger.anchored(now, shared.zone)?, None, elapsed))
        }
        _ => anchored,
    }
}

/// Adds a job to a store.
async fn add_to_store(shared: Arc<Shared>, new: durable::New) -> Result<JobHandle, Error> {
    let batch = Batch { in_memory: Vec::new(), durable: vec![new], kinds: vec![true] };
    let handle = shared.within(add_all(&shared, batch)).await?.pop();
    handle.ok_or_else(|| Error::shut_down("the scheduler has no store"))
}

/// Jobs that are added together, each already checked by itself.
pub(super) struct Batch {
    in_memory: Vec<NewJob<Arc<dyn Entry>>>,
    durable: Vec<durable::New>,
    /// For each job, in order, whether it is durable.
    kinds: Vec<bool>,
}

/// Checks each job, and that no id occurs twice.
pub(super) fn prepare_all(
    shared: &Arc<Shared>,
    jobs: impl IntoIterator<Item = Add>,
) -> Result<Batch, Error> {
    let now = shared.clock.now();
    let mut batch = Batch { in_memory: Vec::new(), durable: Vec::new(), kinds: Vec::new() };
    for job in jobs {
        if !Arc::ptr_eq(job.shared(), shared) {
            return Err(Error::invalid_option(
                "a builder from another scheduler's `add` can't be added to this one",
            ));
        }
        let home = job.home()?;
        batch.kinds.push(home.is_some());
        match home {
            Some(durable) => batch.durable.push(job.durable_job(durable)?.0),
            None => batch.in_memory.push(job.new_job(now)?.0),
        }
    }
    let mut ids = std::collections::HashSet::new();
    let in_memory = batch.in_memory.iter().map(|job| (&job.id, job.on_conflict, false));
    let durable = batch.durable.iter().map(|job| (&job.given, job.on_conflict, true));
    for (id, on_conflict, durable) in in_memory.chain(durable) {
        if let Some(id) = id
            && !ids.insert(id)
            && (on_conflict == OnConflict::Error || durable)
        {
            return Err(Error::duplicate_id(format!(
                "two jobs of the same `add_all` have the id `{id}`: choose another id",
            )));
        }
    }
    Ok(batch)
}

/// Adds all jobs or none, those in stores first.
pub(super) async fn add_all(shared: &Arc<Shared>, batch: Batch) -> Result<Vec<JobHandle>, Error> {
    let Batch { in_memory, durable, kinds } = batch;
    let (mut put, mut reserved) = (Vec::new(), Vec::new());
    if !shared.stores.is_empty() {
        let ids = in_memory.iter().filter_map(|job| job.id.clone()).collect();
        reserved = Reservation::in_memory(shared.clone(), ids).await?;
    }
    if !durable.is_empty() {
        shared.try_transact(|core, now| core.check_all(&in_memory, now))?;
        put = durable::add_all(shared, durable).await?;
    }
    let mut in_memory = add_in_memory(shared, in_memory)?.into_iter();
    drop(reserved);
    let mut put = put.into_iter();
    let handles = kinds.into_iter().filter_map(|is_durable| {
        if is_durable {
            put.next().map(|put| JobHandle::durable(shared.clone(), put))
        } else {
            in_memory.next()
        }
    });
    Ok(handles.collect())
}

fn add_in_memory(
    shared: &Arc<Shared>,
    new: Vec<NewJob<Arc<dyn Entry>>>,
) -> Result<Vec<JobHandle>, Error> {
    // Refused jobs contain user closures, which must be dropped without the lock: so the list lives
    // outside of it, and jobs that pass the check are not refused.
    let mut rest = new.into_iter();
    let added: Result<Vec<Added<_>>, _> = shared.try_transact(|core, now| {
        core.check_all(rest.as_slice(), now)?;
        rest.by_ref().map(|job| core.add(job, now)).collect()
    });
    Ok(added?.into_iter().map(|added| JobHandle::new(shared.clone(), added)).collect())
}

impl IntoFuture for Add {
    type Output = Result<JobHandle, Error>;
    type IntoFuture = AddFuture<()>;

    fn into_future(self) -> AddFuture<()> {
        AddFuture::new(self)
    }
}

impl<T> IntoFuture for Add<Value<T>> {
    type Output = Result<OnceHandle<T>, Error>;
    type IntoFuture = AddFuture<Value<T>>;

    fn into_future(self) -> AddFuture<Value<T>> {
        AddFuture::new(self)
    }
}

/// The future that adds a job.
#[must_use = "futures do nothing unless polled"]
pub struct AddFuture<V>(Adding<V>);

enum Adding<V> {
    /// Not polled yet. A job in memory is added by the first poll.
    New(Option<Add<V>>),
    /// Checks that no store has the id.
    Checking(BoxFuture<'static, Result<Vec<Reservation>, Error>>, Option<Add<V>>),
    Stored(BoxFuture<'static, Result<JobHandle, Error>>, Option<V>),
}

// No field is pinned except inside a box.
impl<V> Unpin for AddFuture<V> {}

impl<V> AddFuture<V> {
    fn new(add: Add<V>) -> AddFuture<V> {
        AddFuture(Adding::New(Some(add)))
    }

    fn poll_added(&mut self, cx: &mut Context<'_>) -> Poll<Result<(JobHandle, V), Error>> {
        // Polling a completed future is a bug of the caller, as with an async fn.
        const DONE: &str = "`Add` polled after it completed";
        loop {
            match &mut self.0 {
                Adding::New(new) => {
                    let add = new.take().expect(DONE);
                    let shared = add.shared().clone();
                    match add.home()? {
                        Some(durable) => {
                            let (new, value) = add.durable_job(durable)?;
                            self.0 =
                                Adding::Stored(Box::pin(add_to_store(shared, new)), Some(value));
                        }
                        None if add.id.is_some() && !shared.stores.is_empty() => {
                            let ids = add.id.iter().cloned().collect();
                            let check = Reservation::in_memory(shared, ids);
                            self.0 = Adding::Checking(Box::pin(check), Some(add));
                        }
                        None => return Poll::Ready(add.commit()),
                    }
                }
                Adding::Checking(check, add) => {
                    let _reserved = ready!(check.as_mut().poll(cx))?;
                    return Poll::Ready(add.take().expect(DONE).commit());
                }
                Adding::Stored(adding, value) => {
                    let handle = ready!(adding.as_mut().poll(cx))?;
                    return Poll::Ready(Ok((handle, value.take().expect(DONE))));
                }
            }
        }
    }
}

impl Future for AddFuture<()> {
    type Output = Result<JobHandle, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_added(cx).map_ok(|(handle, ())| handle)
    }
}

impl<T> Future for AddFuture<Value<T>> {
    type Output = Result<OnceHandle<T>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_added(cx).map_ok(|(handle, value)| OnceHandle::new(handle, value))
    }
}

impl<V> fmt::Debug for Add<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Add")
            .field("id", &self.id)
            .field("trigger", &self.trigger)
            .finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for AddFuture<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddFuture").finish_non_exhaustive()
    }
}
