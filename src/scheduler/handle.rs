//! Handles: a job by its id or as it was added, its end, its value and its runs.

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
    core::{Added, Author, JobKey, Own, RunKey, StoreKey},
    driver::{EndWait, Entry, Hold, Shared, State},
    error::Error,
    feed::{Fed, FeedReceiver, feed},
    job::{self, End, JobId, JobInfo, JobOptions, Labels, Run, RunId, SkipReason, option_setters},
    ledger::{Incarnation, Row},
    task::{NamedTask, Value},
    trigger::IntoTrigger,
};

/// What a job can be told.
///
/// [`Scheduler::job`](super::Scheduler::job) makes one that means whichever job has the id at each
/// call; a [`JobHandle`] is one that means the job it was returned for, and says so when that is
/// gone.
#[derive(Clone)]
pub struct Job {
    shared: Arc<Shared>,
    id: JobId,
    which: Which,
    author: Option<Arc<Author>>,
}

/// Which incarnation of an id is meant.
#[derive(Clone)]
enum Which {
    /// The one that has it, wherever that is.
    Current,
    /// The one that has it in the store of this name.
    CurrentIn(Arc<str>),
    Memory(JobKey),
    Stored(StoreKey, Incarnation),
}

impl Job {
    pub(super) fn by_id(shared: Arc<Shared>, id: JobId) -> Job {
        Job { shared, id, which: Which::Current, author: None }
    }

    /// The job of a run: this incarnation, or whichever has the id if the run has ended.
    pub(crate) fn of_run(shared: Arc<Shared>, id: JobId, run: RunKey) -> Job {
        let own = shared.with(|state, _| state.core.job_of(run));
        let which = match own {
            Some(Own::Memory(key)) => Which::Memory(key),
            Some(Own::Stored(store, incarnation)) => Which::Stored(store, incarnation),
            None => Which::Current,
        };
        Job { shared, id, which, author: None }
    }

    /// The job of this id that is in the store of this name, for an id that several stores have: those of
    /// one scheduler refuse an id that another of them has, but schedulers that have other stores in
    /// common do not see that. Without this such a job's verbs are an error
    /// ([`is_ambiguous`](Error::is_ambiguous)), and each asks all stores of the scheduler for the id, those
    /// that are down only if no other has it; with it that store alone.
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

    /// The same job, whose verbs are noted as this person's or program's: a store keeps who did what in its
    /// [action log](crate::store::Store::actions), who has paused the job
    /// ([`paused_by`](crate::store::Record::paused_by)) and who asked for a run
    /// ([`requested_by`](crate::store::Row::requested_by)), in at most 255 bytes. Default: nobody, and nothing
    /// is logged. Of a job in memory nothing is noted.
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
    #[must_use = "the job that is returned notes who does something, and this one does not"]
    pub fn by(&self, who: impl Into<String>) -> Job {
        let because = self.author.as_ref().and_then(|author| author.because.clone());
        Job { author: Some(Arc::new(Author { by: who.into(), because })), ..self.clone() }
    }

    /// The same job, whose verbs are noted with this reason beside [who](Job::by) does them, in at most 255
    /// bytes.
    #[must_use = "the job that is returned notes why something is done, and this one does not"]
    pub fn because(&self, reason: impl Into<String>) -> Job {
        let by = self.author.as_ref().map(|author| author.by.clone()).unwrap_or_default();
        Job { author: Some(Arc::new(Author { by, because: Some(reason.into()) })), ..self.clone() }
    }

    /// The job as it stands.
    ///
    /// # Errors
    ///
    /// Like all of these: that there is no such job, that it is gone, or that the scheduler has
    /// shut down.
    pub async fn get(&self) -> Result<JobInfo, Error> {
        match self.stored().await? {
            Some(job) => self.shared.within(job.info()).await,
            None => self.with(|state, key, _| state.core.info(key)),
        }
    }

    /// The next fire time; `None` while the job is paused, and after the last.
    ///
    /// # Errors
    ///
    /// As [`get`](Job::get).
    pub async fn next_fire(&self) -> Result<Option<chrono::DateTime<chrono::Utc>>, Error> {
        Ok(self.get().await?.next_fire)
    }

    /// Pauses the job: its next fire time is forgotten, and runs that wait are skipped. Going runs
    /// finish, and [`run_now`](Job::run_now) still works. Pausing a paused job does nothing.
    ///
    /// # Errors
    ///
    /// As [`get`](Job::get).
    pub async fn pause(&self) -> Result<(), Error> {
        match self.stored().await? {
            Some(job) => self.shared.within(job.pause()).await,
            None => self.with(|state, key, now| state.core.pause(key, now)),
        }
    }

    /// Resumes the job, which fires next at its first fire time from now on; what passed meanwhile
    /// is skipped. A date that passed meanwhile is still due.
    ///
    /// # Errors
    ///
    /// As [`get`](Job::get).
    pub async fn resume(&self) -> Result<(), Error> {
        match self.stored().await? {
            Some(job) => self.shared.within(job.resume()).await,
            None => self.with(|state, key, now| state.core.resume(key, now)),
        }
    }

    /// Gives the job another trigger. Going runs are left alone; the next fire time is the first of
    /// the new trigger from now on. What is due by the old one still runs, unless the job or the
    /// scheduler is paused: then it is skipped as *superseded*, or *paused*.
    ///
    /// # Errors
    ///
    /// What is wrong with the trigger, and as [`get`](Job::get).
    pub async fn reschedule(&self, trigger: impl IntoTrigger) -> Result<(), Error> {
        let trigger = trigger.into_trigger()?;
        if let Some(job) = self.stored().await? {
            return self.shared.within(job.reschedule(&trigger)).await;
        }
        let (trigger, first, elapsed) = anchor(&trigger, &self.shared, self.shared.clock.now())?;
        self.with(|state, key, now| state.core.reschedule(key, trigger, first, elapsed, now))
    }

    /// Changes the job's options, name and tags, and the arguments of its task; its fire times stay, and
    /// active runs keep what they have. `change` may be called more than once, if somebody else modifies
    /// the job too.
    ///
    /// # Errors
    ///
    /// That an option is out of range, that the executor is not one for this work, that the arguments
    /// are not those of the job's task, and as [`get`](Job::get).
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
            // The change is the user's code: it is called without the lock, on a copy.
            let (key, settings) =
                self.with(|state, key, _| Ok((key, state.core.settings(key)?)))?;
            let options = JobOptions::clone(&settings.options);
            let labels = settings.labels.clone();
            let changed = change(JobSettings { options, labels, task: None });
            let args = changed.task.map(|task| self.new_args(&*settings.payload, task));
            let args = args.transpose()?;
            changed.labels.validate()?;
            let options = checked(changed.options, &self.shared, &*settings.payload)?;
            // Shared with the core, which may refuse it: it is dropped here, when the lock is free.
            let options = Arc::new(options);
            let done = self.shared.try_with(|state, now| {
                let (options, args) = (options.clone(), args.as_deref());
                state.core.modify(key, &settings, options, changed.labels, args, now)
            })?;
            if done {
                return Ok(());
            }
        }
    }

    /// The arguments that a job in memory is to have, if they are those of its task and fit it.
    fn new_args(&self, entry: &dyn Entry, task: NamedTask) -> Result<String, Error> {
        let Some((name, _)) = entry.task() else {
            return Err(Error::invalid_task(format!(
                "the work of job `{}` is no task, so it has no arguments: replace the job",
                self.id
            )));
        };
        let args = task.into_args(&self.id, name)?;
        self.shared.tasks.make(&self.shared, name, args.clone()).check_alone()?;
        Ok(args)
    }

    /// Starts an extra run, with now as its fire time, or has it wait as the job's options for overlap
    /// and its group say: neither coalesced nor judged by grace, and
    /// also while the job or the scheduler is paused. The next fire time stays. For a job that runs
    /// only once, this is its run.
    ///
    /// # Errors
    ///
    /// That it would be skipped, since runs are going ([`is_overlap`](Error::is_overlap)), and as
    /// [`get`](Job::get). Of a job in a store that is known only where it is held, and only of what has
    /// begun: elsewhere such a run is skipped, and the ledger says so.
    pub async fn run_now(&self) -> Result<RunId, Error> {
        match self.stored().await? {
            Some(job) => self.shared.within(job.run_now()).await,
            None => self.with(|state, key, now| state.core.run_now(key, now)),
        }
    }

    /// The job's last runs, the latest last: as many as [`history`](crate::Add::history) says. Of an
    /// error only the text is kept.
    ///
    /// When a job in memory is over whose id was given to [`id`](crate::Add::id), they are kept for ten
    /// minutes: those of the last 1,000 jobs, and 10,000 runs in all. Those of a job in a store are read by
    /// its id for as long as the store remembers its end, as [`ledger`](Job::ledger) says. Those of any job
    /// are kept by its handle; see [`JobHandle::history`].
    ///
    /// # Errors
    ///
    /// As [`get`](Job::get), if nothing is kept.
    pub async fn history(&self) -> Result<Vec<Run>, Error> {
        let current = match self.stored().await {
            Ok(Some(job)) => self.shared.within(job.history()).await,
            Ok(None) => self.with(|state, key, _| state.core.history(key)),
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
                let past = self.shared.with(|state, now| state.core.past(&self.id, key, now));
                past.map(|history| history.to_vec()).ok_or(error)
            }
            current => current,
        }
    }

    /// The job's latest rows of the store's ledger, the latest first: the fate of each fire time, or
    /// stretch of them, and those that have not met it. None for a job in memory.
    ///
    /// The rows of a job outlive it for as long as the store
    /// [keeps](super::SchedulerBuilder::keep_history) them. A [`JobHandle`] reads them after the job's end;
    /// [`Scheduler::job`](super::Scheduler::job) does if the store remembers that end, as it does of a job
    /// that was added with [`OnConflict::Keep`](crate::OnConflict::Keep) or
    /// [`Reconcile`](crate::OnConflict::Reconcile).
    ///
    /// # Errors
    ///
    /// As [`get`](Job::get), if no end is remembered.
    pub async fn ledger(&self, limit: usize) -> Result<Vec<Row>, Error> {
        match self.stored().await? {
            Some(job) => self.shared.within(job.ledger(limit)).await,
            None => self.with(|state, key, _| state.core.info(key).map(|_| Vec::new())),
        }
    }

    /// Removes the job: no further run starts, going ones finish.
    ///
    /// By its id it also forgets the end of a job that was declared with
    /// [`OnConflict::Keep`](crate::OnConflict::Keep) or [`Reconcile`](crate::OnConflict::Reconcile) and is
    /// over, so that the same declaration adds it anew.
    ///
    /// # Errors
    ///
    /// As [`get`](Job::get).
    pub async fn remove(&self) -> Result<(), Error> {
        let removed = match self.stored().await? {
            Some(job) => self.shared.within(job.remove(End::Removed)).await,
            None => self.with(|state, key, now| state.core.remove(key, End::Removed, now)),
        };
        match removed {
            Err(error)
                if error.is_unknown_job()
                    && !matches!(self.which, Which::CurrentIn(_))
                    && self.shared.with(|state, _| state.core.forget_end(&self.id)) =>
            {
                Ok(())
            }
            removed => removed,
        }
    }

    fn with<T>(
        &self,
        f: impl FnOnce(&mut State, JobKey, chrono::DateTime<chrono::Utc>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.shared.try_with(|state, now| {
            let key = match self.which {
                Which::Memory(key) => key,
                _ => state.core.find(&self.id)?.key,
            };
            f(state, key, now)
        })
    }

    /// The job in a store that is meant, if it is there that one must look.
    async fn stored(&self) -> Result<Option<Stored>, Error> {
        let check = || self.shared.try_with(|state, _| state.core.check_open());
        let (durable, incarnation) = match &self.which {
            Which::Memory(_) => return Ok(None),
            Which::Current => {
                let here = self.shared.try_with(|state, _| match state.core.find(&self.id) {
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
                        "the store of the job has been removed from the scheduler: add it again, and the job is `scheduler.job(id)`",
                    )
                };
                (Some(durable.ok_or_else(gone)?), Some(incarnation))
            }
        };
        if let Some(author) = &self.author {
            if author.by.is_empty() {
                return Err(Error::invalid_option(
                    "nobody is named who does it: say `.by(..)` with at least one letter",
                ));
            }
            job::check_name("the name of who does it", &author.by)?;
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
#[must_use = "settings count when `modify`'s closure returns them"]
pub struct JobSettings {
    options: JobOptions,
    labels: Labels,
    /// The task with other arguments, if they are to change.
    task: Option<NamedTask>,
}

impl JobSettings {
    option_setters!(options_mut);

    fn options_mut(&mut self) -> &mut JobOptions {
        &mut self.options
    }

    /// Gives the job's task other arguments, for runs that begin from here on: a [`Task`](crate::Task)
    /// of the same name, or a [`named_task`](crate::named_task).
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

    /// Names the job.
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

/// A job as it was added: one incarnation of its id.
///
/// It can do all that a [`Job`] can; when its job has ended or been replaced, it says that it is
/// gone. Awaiting it waits for the job's end, which comes after that of its last run. Dropping it
/// does nothing to the job.
///
/// # Cancel safety
///
/// Awaiting it is cancel safe, and so is awaiting `&mut` it, as often as one likes.
pub struct JobHandle {
    job: Job,
    entry: Hold,
    wait: EndWait,
}

impl JobHandle {
    pub(super) fn new(shared: Arc<Shared>, added: Added<Arc<dyn Entry>>) -> JobHandle {
        let Added { key, id, payload } = added;
        let job = Job { shared, id, which: Which::Memory(key), author: None };
        JobHandle { job, entry: Hold::new(payload), wait: EndWait::default() }
    }

    /// The handle of a job in the store.
    pub(super) fn durable(shared: Arc<Shared>, put: Put) -> JobHandle {
        let Put { durable, record, entry, .. } = put;
        let which = Which::Stored(durable.key, record.incarnation);
        let job = Job { shared, id: record.id, which, author: None };
        JobHandle { job, entry: Hold::new(entry), wait: EndWait::default() }
    }

    /// The job's last runs, the latest last, also when the job is over: as many as
    /// [`history`](crate::Add::history) says. Of an error only the text is kept.
    ///
    /// They are kept for as long as there is a handle. Of a job that
    /// [`add_once`](super::Scheduler::add_once) made without an id nothing is kept beyond its end, since
    /// awaiting its handle says how its run ended; and of a job in a store as much as the store
    /// [keeps](super::SchedulerBuilder::keep_history).
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
    /// As [`get`](Job::get), while the job is not over.
    pub async fn history(&self) -> Result<Vec<Run>, Error> {
        let past = match self.job.which {
            Which::Stored(..) => None,
            _ => self.entry.state().past(),
        };
        match past {
            // Declared the same as one that is over, it has the history of that.
            Some(none) if none.is_empty() => self.job.history().await.or(Ok(none)),
            Some(history) => Ok(history),
            None => self.job.history().await,
        }
    }

    /// The token that cancels the job: no further run starts, and going ones see
    /// [`Context::cancelled`](crate::Context::cancelled) and are dropped after their `cancel_grace`.
    ///
    /// It is cancelled too when the job is removed or replaced. It belongs to this incarnation.
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

    /// Has the job end when the token is cancelled.
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
                        // At once, whether the store can be reached or not.
                        stored.shared.with(|state, _| {
                            state.core.cancel_held(stored.durable.key, incarnation)
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

    /// Every run of the job from here on, as a stream that ends with the job; runs that begin from here
    /// on bear what the work [returned](Run::output). Of a job in a store those that run on this
    /// scheduler.
    ///
    /// To miss none, take it on the builder: [`Add::runs`](super::Add::runs).
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

/// The handle of a job that runs once; awaiting it yields the run's value.
///
/// Otherwise it is like a [`JobHandle`].
///
/// # Errors
///
/// Why there is no value: the run failed, panicked, was missed or cancelled, the job was removed or
/// replaced, or the scheduler shut down; of a task in a store also that its run ended on another scheduler
/// ([`is_elsewhere`](Error::is_elsewhere)), as it does if that scheduler recovered it.
///
/// The error that the work returned is the [`source`](std::error::Error::source) of a failed run's error,
/// which does not repeat it when displayed:
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
/// Awaiting `&mut` it is cancel safe. The value is handed over once: awaiting it again is an error.
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
                        "the job's run did not end on this scheduler: another one that shares the store has its value, or it was missed; the store's ledger says which",
                    )
                }
                End::Completed => Error::missed(
                    "the job ended without a run, or its value was taken before: await its handle once",
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

/// The runs of a job, as a [`Stream`] that ends with the job.
///
/// Its buffer is bounded (`event_buffer` on the scheduler's builder): if its reader is too slow the
/// oldest runs are thrown away, and [`lagged`](Runs::lagged) counts them.
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

    /// The next run, or `None` if the job is over. It is what `StreamExt::next` is, and needs no trait
    /// in scope.
    ///
    /// # Cancel safety
    ///
    /// No run is lost if this is dropped.
    #[allow(clippy::should_implement_trait, reason = "it is named as with every stream")]
    pub fn next(&mut self) -> impl Future<Output = Option<Run>> + Send + Unpin + '_ {
        futures::StreamExt::next(self)
    }

    /// How many runs were thrown away so far because this stream was not read in time.
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
