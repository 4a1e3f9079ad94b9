//! Handles of jobs: by id, for one incarnation, for a single value, and for a stream of runs.

use std::{
    fmt,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{
    FutureExt as _, Stream, StreamExt as _,
    future::{AbortHandle, AbortRegistration, Abortable},
};
use tokio_util::sync::CancellationToken;

use super::{
    add::{anchor, checked},
    durable::{Put, Stored},
    stores,
};
use crate::{
    core::{Added, Author, Core, JobKey, Own, RunKey, StoreKey},
    driver::{CountedEntry, EndWait, Entry, Shared},
    error::Error,
    feed::{Fed, FeedReceiver, feed},
    job::{self, End, JobId, JobInfo, JobOptions, Labels, Run, RunId, SkipReason, option_setters},
    ledger::{Incarnation, Row},
    task::{NamedTask, Value},
    trigger::IntoTrigger,
};

/// A handle on a job, by its id.
///
/// [`Scheduler::job`](super::Scheduler::job) returns a `Job` that looks up its id at each call. A
/// [`JobHandle`] dereferences to a `Job` that refers to one incarnation, and whose methods return
/// an error when that incarnation has ended ([`is_gone`](Error::is_gone)).
#[derive(Clone)]
pub struct Job {
    shared: Arc<Shared>,
    id: JobId,
    which: Which,
    author: Option<Arc<Author>>,
}

/// The incarnation that a handle refers to.
#[derive(Clone)]
enum Which {
    /// The current incarnation, in memory or in any store.
    Current,
    /// The current incarnation in the store with this name.
    CurrentIn(Arc<str>),
    Memory(JobKey),
    Stored(StoreKey, Incarnation),
}

impl Job {
    pub(super) fn by_id(shared: Arc<Shared>, id: JobId) -> Job {
        Job { shared, id, which: Which::Current, author: None }
    }

    /// The job of a run: its incarnation, or the current one if the run has ended.
    pub(crate) fn of_run(shared: Arc<Shared>, id: JobId, run: RunKey) -> Job {
        let own = shared.transact(|core, _| core.job_of(run));
        let which = match own {
            Some(Own::Memory(key)) => Which::Memory(key),
            Some(Own::Stored(store, incarnation)) => Which::Stored(store, incarnation),
            None => Which::Current,
        };
        Job { shared, id, which, author: None }
    }

    /// Selects the job with this id in the store with this name, for an id that several stores
    /// have.
    ///
    /// A scheduler refuses an id that another of its stores has, but schedulers that share only
    /// some of their stores cannot see all ids. Without this method, the verbs of such a job return
    /// an error ([`is_ambiguous`](Error::is_ambiguous)), and each call looks up the id in all
    /// available stores, and in unavailable ones only if no other store has it. With this method, a
    /// call reads only this store.
    ///
    /// ```
    /// # use punctual::{Context, Scheduler, Task, store::MemoryStore, trigger::every};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Import;
    /// # impl Task for Import { const NAME: &'static str = "import"; type Output = (); async fn run(self, _: Context) {} }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), punctual::Error> {
    /// # let builder = Scheduler::builder().add_store("archive", MemoryStore::new());
    /// # let scheduler = builder.task::<Import>().start().await?;
    /// scheduler.add(every("1h"), Import).id("import").store("archive").await?;
    /// scheduler.job("import").store("archive").remove().await?;
    /// # scheduler.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn store(self, name: impl Into<Arc<str>>) -> Job {
        Job { which: Which::CurrentIn(name.into()), ..self }
    }

    /// The job's id.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// Returns the same job, whose verbs are recorded with the name of this person or program, in
    /// at most 255 bytes.
    ///
    /// A store keeps the name in its [action log](crate::store::Store::actions), for the pause of a
    /// job ([`paused_by`](crate::store::Record::paused_by)) and for a requested run
    /// ([`requested_by`](crate::store::Row::requested_by)). Default: no name, and no entry in the
    /// action log. Nothing is recorded for a job in memory.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use punctual::{Context, Scheduler, Task, store::{MemoryStore, Store as _}, trigger::every};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Ping;
    /// # impl Task for Ping {
    /// #     const NAME: &'static str = "ping";
    /// #     type Output = ();
    /// #     async fn run(self, _: Context) {}
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = MemoryStore::new();
    /// let scheduler = Scheduler::builder().store(store.clone()).task::<Ping>().start().await?;
    /// scheduler.add(every(Duration::from_secs(5)), Ping).id("ping").await?;
    /// scheduler.job("ping").by("ops").because("the host moves").pause().await?;
    ///
    /// let log = store.actions(Some("ping".into()), None, 10).await?.actions;
    /// assert_eq!((&*log[0].action.by, &*log[0].action.what), ("ops", "pause"));
    /// # Ok(()) }
    /// ```
    #[must_use = "`by` returns another handle, whose verbs are recorded, and does not change this one"]
    pub fn by(&self, who: impl Into<String>) -> Job {
        let because = self.author.as_ref().and_then(|author| author.because.clone());
        Job { author: Some(Arc::new(Author { by: who.into(), because })), ..self.clone() }
    }

    /// Returns the same job, whose verbs are recorded with this reason beside [`by`](Job::by), in at
    /// most 255 bytes.
    #[must_use = "`because` returns another handle, whose verbs are recorded, and does not change this one"]
    pub fn because(&self, reason: impl Into<String>) -> Job {
        let by = self.author.as_ref().map(|author| author.by.clone()).unwrap_or_default();
        Job { author: Some(Arc::new(Author { by, because: Some(reason.into()) })), ..self.clone() }
    }

    /// Returns a snapshot of the job.
    ///
    /// # Errors
    ///
    /// If there is no such job, it is gone, its store is not available, or the scheduler has shut
    /// down.
    pub async fn get(&self) -> Result<JobInfo, Error> {
        match self.stored().await? {
            Some(job) => self.shared.within(job.info()).await,
            None => self.with(|core, key, _| core.info(key)),
        }
    }

    /// Returns the next fire time; `None` while the job is paused, and after the last fire time.
    ///
    /// # Errors
    ///
    /// The errors of [`get`](Job::get).
    pub async fn next_fire(&self) -> Result<Option<chrono::DateTime<chrono::Utc>>, Error> {
        Ok(self.get().await?.next_fire)
    }

    /// Pauses the job: its next fire time is cleared, and waiting runs are skipped.
    ///
    /// Active runs finish, and [`run_now`](Job::run_now) still works. Pausing a paused job does
    /// nothing.
    ///
    /// # Errors
    ///
    /// The errors of [`get`](Job::get).
    pub async fn pause(&self) -> Result<(), Error> {
        match self.stored().await? {
            Some(job) => self.shared.within(job.pause()).await,
            None => self.with(|core, key, now| core.pause(key, now)),
        }
    }

    /// Resumes the job, which next fires at its first fire time from now on.
    ///
    /// Fire times that passed during the pause are skipped, but a date that passed during the pause
    /// is still due.
    ///
    /// # Errors
    ///
    /// The errors of [`get`](Job::get).
    pub async fn resume(&self) -> Result<(), Error> {
        match self.stored().await? {
            Some(job) => self.shared.within(job.resume()).await,
            None => self.with(|core, key, now| core.resume(key, now)),
        }
    }

    /// Changes the job's trigger.
    ///
    /// The next fire time is the first of the new trigger from now on. Active runs are unchanged. A
    /// fire time of the old trigger that is due still runs, unless the job or the scheduler is
    /// paused: then it is skipped as *superseded*, or *paused*.
    ///
    /// # Errors
    ///
    /// If the trigger is invalid, and the errors of [`get`](Job::get).
    pub async fn reschedule(&self, trigger: impl IntoTrigger) -> Result<(), Error> {
        let trigger = trigger.into_trigger()?;
        if let Some(job) = self.stored().await? {
            return self.shared.within(job.reschedule(&trigger)).await;
        }
        let (trigger, first, elapsed) = anchor(&trigger, &self.shared, self.shared.clock.now())?;
        self.with(|core, key, now| core.reschedule(key, trigger, first, elapsed, now))
    }

    /// Changes the job's options, name and tags, and the arguments of its task.
    ///
    /// Fire times are unchanged, and active runs keep their settings. `change` may be called again,
    /// if the job is modified concurrently.
    ///
    /// # Errors
    ///
    /// If an option is out of range, the executor cannot run this work, or the arguments do not
    /// match the job's task, and the errors of [`get`](Job::get).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use punctual::{Scheduler, trigger::every};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// # let scheduler = Scheduler::new();
    /// let job = scheduler.add(every(Duration::from_secs(5)), || async {}).await?;
    /// job.modify(|settings| settings.max_instances(3).name("ping")).await?;
    /// # Ok(()) }
    /// ```
    pub async fn modify(&self, change: impl Fn(JobSettings) -> JobSettings) -> Result<(), Error> {
        if let Some(job) = self.stored().await? {
            let change = |options, labels| {
                let changed = change(JobSettings { options, labels, task: None });
                (changed.options, changed.labels, changed.task)
            };
            return self.shared.within(job.modify(change)).await;
        }
        loop {
            // `change` is user code: it is called without the lock, on a copy.
            let (key, settings) = self.with(|core, key, _| Ok((key, core.settings(key)?)))?;
            let options = JobOptions::clone(&settings.options);
            let labels = settings.labels.clone();
            let changed = change(JobSettings { options, labels, task: None });
            let args = changed.task.map(|task| self.new_args(&*settings.payload, task));
            let args = args.transpose()?;
            changed.labels.validate()?;
            let options = checked(changed.options, &self.shared, &*settings.payload)?;
            // The core shares the options and may refuse them: they are dropped here, without the
            // lock.
            let options = Arc::new(options);
            let done = self.shared.try_transact(|core, now| {
                let (options, args) = (options.clone(), args.as_deref());
                core.modify(key, &settings, options, changed.labels, args, now)
            })?;
            if done {
                return Ok(());
            }
        }
    }

    /// Checks new arguments for a job in memory against its task.
    fn new_args(&self, entry: &dyn Entry, task: NamedTask) -> Result<String, Error> {
        let Some((name, _)) = entry.task() else {
            return Err(Error::invalid_task(format!(
                "the work of job `{}` is not a task and has no arguments: replace the job",
                self.id
            )));
        };
        let args = task.into_args(&self.id, name)?;
        self.shared.tasks.make(&self.shared, name, args.clone()).check_alone()?;
        Ok(args)
    }

    /// Requests a run with the current time as its fire time, and returns its id.
    ///
    /// The run follows the job's overlap policy and group, but is neither coalesced nor subject to
    /// the misfire grace time. It also runs while the job or the scheduler is paused. The next fire
    /// time does not change. For a job that runs only once, this is its run.
    ///
    /// # Errors
    ///
    /// If the run would be skipped because `max_instances` runs are active
    /// ([`is_overlap`](Error::is_overlap)), and the errors of [`get`](Job::get). For a job in a
    /// store this check covers only active runs on the node that has claimed the job; on any other
    /// node such a run is skipped, and the ledger has the reason.
    pub async fn run_now(&self) -> Result<RunId, Error> {
        match self.stored().await? {
            Some(job) => self.shared.within(job.run_now()).await,
            None => self.with(|core, key, now| core.run_now(key, now)),
        }
    }

    /// Returns the job's latest runs, the latest last, up to the number set by
    /// [`history`](crate::Add::history). Only the text of an error is kept.
    ///
    /// After the end of a job in memory with an explicit [`id`](crate::Add::id), its runs are kept
    /// for 10 minutes, for the last 1,000 jobs and up to 10,000 runs in total. The runs of a job in
    /// a store are available while the store remembers its end: see [`ledger`](Job::ledger). The
    /// handle of any job keeps its runs: see [`JobHandle::history`].
    ///
    /// # Errors
    ///
    /// The errors of [`get`](Job::get), if no history is kept.
    pub async fn history(&self) -> Result<Vec<Run>, Error> {
        let current = match self.stored().await {
            Ok(Some(job)) => self.shared.within(job.history()).await,
            Ok(None) => self.with(|core, key, _| core.history(key)),
            Err(error) => Err(error),
        };
        let key = match self.which {
            Which::Stored(..) | Which::CurrentIn(_) => return current,
            Which::Memory(key) => Some(key),
            Which::Current => None,
        };
        match current {
            Err(error)
                if error.is_gone() || error.is_unknown_job() || error.is_store_unavailable() =>
            {
                let past = self.shared.transact(|core, now| core.past(&self.id, key, now));
                past.map(|history| history.to_vec()).ok_or(error)
            }
            current => current,
        }
    }

    /// Returns the latest `limit` rows of the job in the store's ledger, the latest first: all fire
    /// times, or stretches of them, closed and open. Returns no rows for a job in memory.
    ///
    /// After the job's end, its rows stay for as long as the store
    /// [keeps](super::SchedulerBuilder::keep_history) them. A [`JobHandle`] can read them.
    /// [`Scheduler::job`](super::Scheduler::job) can read them if the store remembers the end, as
    /// for a job that was added with [`OnConflict::Keep`](crate::OnConflict::Keep) or
    /// [`Reconcile`](crate::OnConflict::Reconcile).
    ///
    /// # Errors
    ///
    /// The errors of [`get`](Job::get), if the end is not remembered.
    pub async fn ledger(&self, limit: usize) -> Result<Vec<Row>, Error> {
        match self.stored().await? {
            Some(job) => self.shared.within(job.ledger(limit)).await,
            None => self.with(|core, key, _| core.info(key).map(|_| Vec::new())),
        }
    }

    /// Removes the job: no further run starts, and active runs finish.
    ///
    /// For a job that was declared with [`OnConflict::Keep`](crate::OnConflict::Keep) or
    /// [`Reconcile`](crate::OnConflict::Reconcile) and has ended, this deletes its remembered end,
    /// so that the same declaration adds the job again. This applies only to a `Job` by id.
    ///
    /// # Errors
    ///
    /// The errors of [`get`](Job::get).
    pub async fn remove(&self) -> Result<(), Error> {
        let removed = match self.stored().await? {
            Some(job) => self.shared.within(job.remove(End::Removed)).await,
            None => self.with(|core, key, now| core.remove(key, End::Removed, now)),
        };
        match removed {
            Err(error)
                if error.is_unknown_job()
                    && !matches!(self.which, Which::CurrentIn(_))
                    && self.shared.transact(|core, _| core.forget_end(&self.id)) =>
            {
                Ok(())
            }
            removed => removed,
        }
    }

    fn with<T>(
        &self,
        f: impl FnOnce(
            &mut Core<Arc<dyn Entry>>,
            JobKey,
            chrono::DateTime<chrono::Utc>,
        ) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.shared.try_transact(|core, now| {
            let key = match self.which {
                Which::Memory(key) => key,
                _ => core.find(&self.id)?.key,
            };
            f(core, key, now)
        })
    }

    /// The job in a store that this handle refers to; `None` if the job is in memory.
    async fn stored(&self) -> Result<Option<Stored>, Error> {
        let check = || self.shared.try_transact(|core, _| core.check_open());
        let (durable, incarnation) = match &self.which {
            Which::Memory(_) => return Ok(None),
            Which::Current => {
                let here = self.shared.try_transact(|core, _| match core.find(&self.id) {
                    Err(error) if error.is_shut_down() => Err(error),
                    found => Ok(found.is_ok()),
                })?;
                if here {
                    return Ok(None);
                }
                (stores::find(&self.shared, &self.id).await?, None)
            }
            Which::CurrentIn(name) => {
                check()?;
                (Some(self.shared.stores.named(name)?), None)
            }
            &Which::Stored(store, incarnation) => {
                check()?;
                let durable = self.shared.stores.get(store);
                let durable = durable.filter(|durable| !durable.stopped.is_cancelled());
                let gone = || {
                    Error::gone(
                        "the store of the job was removed from the scheduler: add the store again, then use `scheduler.job(id)`",
                    )
                };
                (Some(durable.ok_or_else(gone)?), Some(incarnation))
            }
        };
        if let Some(author) = &self.author {
            if author.by.is_empty() {
                return Err(Error::invalid_option(
                    "the name in `.by(..)` is empty: use at least one character",
                ));
            }
            job::check_name("the name in `.by(..)`", &author.by)?;
            author.because.iter().try_for_each(|why| job::check_name("the reason", why))?;
        }
        let (shared, id, author) = (self.shared.clone(), self.id.clone(), self.author.clone());
        Ok(durable.map(|durable| Stored { shared, durable, id, incarnation, author }))
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Job").field(&self.id).finish()
    }
}

/// The options, name and tags of a job, and the arguments of its task, for [`Job::modify`].
#[derive(Clone, Debug)]
#[must_use = "settings take effect when the closure of `modify` returns them"]
pub struct JobSettings {
    options: JobOptions,
    labels: Labels,
    /// The task with new arguments, if they change.
    task: Option<NamedTask>,
}

impl JobSettings {
    option_setters!(options_mut);

    fn options_mut(&mut self) -> &mut JobOptions {
        &mut self.options
    }

    /// Changes the arguments of the job's task, for runs that start from now on: a
    /// [`Task`](crate::Task) with the same name, or a [`named_task`](crate::named_task).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use punctual::{Context, Scheduler, Task, trigger::every};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// struct SendInvoice {
    ///     customer: u64,
    /// }
    /// # impl Task for SendInvoice {
    /// #     const NAME: &'static str = "send-invoice";
    /// #     type Output = ();
    /// #     async fn run(self, _: Context) {}
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// # let scheduler = Scheduler::builder().task::<SendInvoice>().start().await?;
    /// let job = scheduler.add(every(Duration::from_secs(5)), SendInvoice { customer: 7 }).await?;
    /// job.modify(|settings| settings.arguments(SendInvoice { customer: 8 })).await?;
    /// # Ok(()) }
    /// ```
    pub fn arguments(mut self, task: impl Into<NamedTask>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// Sets the job's name.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.labels.name = Some(name.into());
        self
    }

    /// Replaces the job's tags.
    pub fn tags<T: Into<Arc<str>>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.labels.tags = tags.into_iter().map(Into::into).collect();
        self
    }
}

/// A handle on one incarnation of a job, as `add` returns it.
///
/// It dereferences to [`Job`]. After the incarnation has ended or was replaced, its methods return
/// an error ([`is_gone`](Error::is_gone)). Awaiting the handle waits for the job's end, which comes
/// after the end of its last run. Dropping the handle has no effect on the job.
///
/// # Cancel safety
///
/// Awaiting the handle is cancel safe. `&mut` handle can be awaited any number of times.
pub struct JobHandle {
    job: Job,
    entry: CountedEntry,
    wait: EndWait,
}

impl JobHandle {
    pub(super) fn new(shared: Arc<Shared>, added: Added<Arc<dyn Entry>>) -> JobHandle {
        let Added { key, id, payload } = added;
        let job = Job { shared, id, which: Which::Memory(key), author: None };
        JobHandle { job, entry: CountedEntry::new(payload), wait: EndWait::default() }
    }

    /// The handle of a job in a store.
    pub(super) fn durable(shared: Arc<Shared>, put: Put) -> JobHandle {
        let Put { durable, record, entry, .. } = put;
        let which = Which::Stored(durable.key, record.incarnation);
        let job = Job { shared, id: record.id, which, author: None };
        JobHandle { job, entry: CountedEntry::new(entry), wait: EndWait::default() }
    }

    /// Returns the job's latest runs, the latest last, also after the job's end, up to the number
    /// set by [`history`](crate::Add::history). Only the text of an error is kept.
    ///
    /// The runs are kept while a handle exists. For a job from
    /// [`add_once`](super::Scheduler::add_once) without an id, nothing is kept after its end, since
    /// its awaited handle returns the result. For a job in a store, the runs are kept for as long
    /// as the store [keeps](super::SchedulerBuilder::keep_history) them.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use punctual::{Scheduler, trigger::every};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// # let scheduler = Scheduler::new();
    /// let mut job = scheduler.add(every(Duration::from_secs(1)).times(3), || async {}).await?;
    /// println!("{}", (&mut job).await);
    /// assert_eq!(job.history().await?.len(), 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`get`](Job::get), while the job has not ended.
    pub async fn history(&self) -> Result<Vec<Run>, Error> {
        let past = match self.job.which {
            Which::Stored(..) => None,
            _ => self.entry.state().past(),
        };
        match past {
            // The handle of an unchanged declaration of an ended job has that job's history.
            Some(none) if none.is_empty() => self.job.history().await.or(Ok(none)),
            Some(history) => Ok(history),
            None => self.job.history().await,
        }
    }

    /// Returns the token that cancels the job.
    ///
    /// After a cancellation no further run starts. Active runs see
    /// [`Context::cancelled`](crate::Context::cancelled) and are dropped after their
    /// `cancel_grace`. The token belongs to this incarnation and is also cancelled when the job is
    /// removed or replaced.
    pub fn cancel_token(&self) -> CancellationToken {
        let (token, made) = self.entry.state().token();
        let gone = [Some(SkipReason::Removed), Some(SkipReason::Replaced)];
        if made && gone.contains(&self.entry.state().standing()) {
            token.cancel();
        } else if made {
            let (watch, until) = AbortHandle::new_pair();
            self.entry.state().set_watch(watch);
            self.watch(token.clone(), until);
        }
        token
    }

    /// Ends the job when the token is cancelled.
    fn watch(&self, token: CancellationToken, until: AbortRegistration) {
        let Job { shared, id, which, .. } = &self.job;
        match *which {
            Which::Memory(key) => shared.watch(key, token, until),
            Which::Stored(store, incarnation) => {
                let Some(durable) = shared.stores.get(store) else { return };
                let (shared, id, kept) = (shared.clone(), id.clone(), durable.clone());
                let Ok(runtime) = shared.runtime().cloned() else { return };
                let stored =
                    Stored { shared, durable, id, incarnation: Some(incarnation), author: None };
                let stopped = kept.stopped.clone();
                kept.keep(incarnation, &self.entry);
                let cancelling = async move {
                    let cancel = async {
                        token.cancelled().await;
                        // At once, whether or not the store is available.
                        stored.shared.transact(|core, _| {
                            core.cancel_claimed(stored.durable.key, incarnation)
                        });
                        stored.cancel().await;
                    };
                    stopped.run_until_cancelled(cancel).await;
                };
                runtime.spawn(Abortable::new(cancelling, until));
            }
            Which::Current | Which::CurrentIn(_) => {}
        }
    }

    /// Returns a stream of the job's runs from now on, which ends with the job.
    ///
    /// Runs that start from now on contain the work's [return value](Run::output). For a job in a
    /// store, the stream has the runs on this scheduler. To receive all runs, call
    /// [`Add::runs`](super::Add::runs) on the builder instead.
    pub fn runs(&self) -> Runs {
        let (sender, receiver) = feed(self.job.shared.buffer);
        self.entry.state().subscribe(sender);
        if let Which::Stored(store, incarnation) = self.job.which
            && let Some(durable) = self.job.shared.stores.get(store)
        {
            durable.keep(incarnation, &self.entry);
        }
        Runs::new(receiver)
    }
}

impl Deref for JobHandle {
    type Target = Job;

    fn deref(&self) -> &Job {
        &self.job
    }
}

impl Clone for JobHandle {
    fn clone(&self) -> JobHandle {
        JobHandle { job: self.job.clone(), entry: self.entry.clone(), wait: EndWait::default() }
    }
}

impl Future for JobHandle {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let JobHandle { entry, wait, .. } = &mut *self;
        wait.poll(entry.state(), cx)
    }
}

impl fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JobHandle").field(&self.job.id).finish()
    }
}

/// The handle of a job that runs once. Awaiting it returns the run's value.
///
/// It dereferences to [`JobHandle`].
///
/// # Errors
///
/// If the run failed, panicked, timed out, was missed or cancelled, the job was removed or
/// replaced, or the scheduler shut down. For a task in a store, also if the run ended on another
/// scheduler ([`is_elsewhere`](Error::is_elsewhere)), for example after that scheduler recovered
/// it.
///
/// The error that the work returned is the [`source`](std::error::Error::source) of the error,
/// whose text does not repeat it:
///
/// ```
/// # use punctual::{Scheduler, trigger::now};
/// use std::error::Error as _;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// # let scheduler = Scheduler::new();
/// let error = scheduler.try_add_once(now(), async { "x".parse::<u8>() }).await?.await.unwrap_err();
/// assert!(error.is_failed());
/// assert_eq!(error.source().unwrap().to_string(), "invalid digit found in string");
/// # Ok(()) }
/// ```
///
/// # Cancel safety
///
/// Awaiting `&mut` handle is cancel safe. The value is returned once; awaiting the handle again
/// returns an error.
pub struct OnceHandle<T> {
    handle: JobHandle,
    value: Value<T>,
}

impl<T> OnceHandle<T> {
    pub(super) fn new(handle: JobHandle, value: Value<T>) -> OnceHandle<T> {
        OnceHandle { handle, value }
    }
}

impl<T> Deref for OnceHandle<T> {
    type Target = JobHandle;

    fn deref(&self) -> &JobHandle {
        &self.handle
    }
}

impl<T> Future for OnceHandle<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Error>> {
        let end = ready!(self.handle.poll_unpin(cx));
        Poll::Ready(self.value.take().unwrap_or_else(|| {
            Err(match end {
                End::Completed if matches!(self.handle.job.which, Which::Stored(..)) => {
                    Error::elsewhere(
                        "the job's run did not end on this scheduler: another scheduler on the same store has its value, or it was missed; see the job's ledger",
                    )
                }
                End::Completed => Error::missed(
                    "the job ended without a run, or its value was already returned: await the handle only once",
                ),
                End::ShutDown => Error::shut_down("the scheduler shut down before the job's run"),
                End::TriggerFailed(error) => error,
                End::Removed | End::Cancelled | End::Replaced => {
                    Error::cancelled(format!("the job was {end} before its run ended"))
                }
            })
        }))
    }
}

impl<T> fmt::Debug for OnceHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceHandle").field(&self.handle.job.id).finish()
    }
}

/// A [`Stream`] of a job's runs, which ends with the job.
///
/// Its buffer is bounded (`event_buffer` on the scheduler's builder). If its reader is too slow,
/// the oldest runs are dropped, and [`lagged`](Runs::lagged) counts them.
///
/// # Cancel safety
///
/// Waiting for the next run is cancel safe.
///
/// ```
/// # use std::time::Duration;
/// # use punctual::{Scheduler, trigger::every};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// # let scheduler = Scheduler::new();
/// let mut job = scheduler.add(every(Duration::from_secs(1)).times(3), || async {});
/// let mut runs = job.runs();
/// job.await?;
/// while let Some(run) = runs.next().await {
///     println!("{} {} {:?} late", run.fire_time, run.outcome, run.late_by);
/// }
/// # Ok(()) }
/// ```
#[must_use = "a stream does nothing unless polled"]
pub struct Runs {
    feed: FeedReceiver<Run>,
    lagged: u64,
}

impl Runs {
    pub(super) fn new(feed: FeedReceiver<Run>) -> Runs {
        Runs { feed, lagged: 0 }
    }

    /// Returns the next run, or `None` after the job's end. Like `StreamExt::next`, without a trait
    /// in scope.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no run is lost if the future is dropped.
    #[allow(clippy::should_implement_trait, reason = "streams have a method of this name")]
    pub fn next(&mut self) -> impl Future<Output = Option<Run>> + Send + Unpin + '_ {
        futures::StreamExt::next(self)
    }

    /// Returns how many runs were dropped because this stream was read too slowly.
    pub fn lagged(&self) -> u64 {
        self.lagged
    }
}

impl Stream for Runs {
    type Item = Run;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Run>> {
        loop {
            match ready!(self.feed.poll_next_unpin(cx)) {
                Some(Fed::Item(run)) => return Poll::Ready(Some(run)),
                Some(Fed::Lost(runs)) => self.lagged += runs,
                None => return Poll::Ready(None),
            }
        }
    }
}

impl fmt::Debug for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runs").field("lagged", &self.lagged).finish_non_exhaustive()
    }
}

impl From<&JobHandle> for JobId {
    fn from(job: &JobHandle) -> JobId {
        job.id().clone()
    }
}
