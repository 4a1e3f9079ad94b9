//! Queries for jobs: list the jobs that pass a filter, or pause, resume, change, run or remove all
//! of them.

use std::{collections::VecDeque, fmt, future::IntoFuture, sync::Arc};

use chrono::{DateTime, Utc};
use futures::{
    Stream, StreamExt as _, TryStreamExt as _,
    future::{BoxFuture, join_all},
    stream,
};

use super::{
    Job, JobSettings,
    durable::{self, Pages, Stored},
};
use crate::{
    core::{Core, Filter, JobKey, PAGE},
    driver::{Durable, Entry, Shared},
    error::Error,
    job::{End, JobInfo},
    ledger::RecordFilter,
};

/// How many jobs are changed under one lock.
const BATCH: usize = 256;

/// A query for the jobs of a scheduler. Awaiting it lists them in order of their next fire times,
/// jobs without one last.
///
/// [`pause`](Jobs::pause), [`resume`](Jobs::resume), [`modify`](Jobs::modify),
/// [`run_now`](Jobs::run_now) and [`remove`](Jobs::remove) act on all of the jobs instead.
///
/// [`Scheduler::unhandled`](super::Scheduler::unhandled) lists the jobs in stores that this
/// scheduler cannot read. The list is read in pages, so that listing a million jobs delays none of
/// them. It is not a snapshot of one instant.
///
/// All stores are read. If a store is unavailable, the query returns an error that names the store;
/// [`store`](Jobs::store) queries a single store. A verb acts on the jobs of all available stores
/// before it returns that error.
///
/// # Errors
///
/// If the scheduler has no runtime, or a store is not available.
///
/// # Cancel safety
///
/// If the future of a verb is dropped, the verb may have acted on some of the jobs.
///
/// ```
/// # use std::time::Duration;
/// # use punctual::{Scheduler, trigger::every};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// # let scheduler = Scheduler::new();
/// scheduler.add(every(Duration::from_secs(5)), || async {}).id("ping").tag("net").await?;
/// for job in scheduler.jobs().tag("net").await? {
///     println!("{job}");
/// }
/// assert_eq!(scheduler.jobs().tag("net").remove().await?, 1);
/// # Ok(()) }
/// ```
#[must_use = "jobs are listed when this is awaited"]
pub struct Jobs {
    shared: Arc<Shared>,
    filter: Filter,
    place: Place,
}

/// Where to search for jobs.
#[derive(Clone)]
enum Place {
    Everywhere,
    Memory,
    Store(Arc<str>),
}

impl Jobs {
    pub(super) fn new(shared: Arc<Shared>) -> Jobs {
        Jobs { shared, filter: Filter::default(), place: Place::Everywhere }
    }

    /// Selects jobs with this name.
    pub fn name(mut self, name: impl Into<String>) -> Jobs {
        self.filter.name = Some(name.into());
        self
    }

    /// Selects jobs with this tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Jobs {
        self.filter.tag = Some(tag.into());
        self
    }

    /// Selects jobs in this store. Other stores and memory are not read.
    ///
    /// ```
    /// # use punctual::{Scheduler, store::MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), punctual::Error> {
    /// # let scheduler = Scheduler::builder().add_store("archive", MemoryStore::new()).start().await?;
    /// for job in scheduler.jobs().store("archive").await? {
    ///     println!("{job}");
    /// }
    /// # scheduler.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn store(mut self, name: impl Into<Arc<str>>) -> Jobs {
        self.place = Place::Store(name.into());
        self
    }

    /// Selects paused jobs, or with `false` jobs that are not paused.
    pub fn paused(mut self, paused: bool) -> Jobs {
        self.filter.paused = Some(paused);
        self
    }

    /// Pauses each of the jobs, as [`Job::pause`](super::Job::pause) does. Returns their number,
    /// including jobs that were already paused.
    ///
    /// Acts once on each job, first on jobs in memory. A job that ends in the meantime is neither
    /// counted nor an error. Jobs that are added in the meantime may or may not be included.
    ///
    /// # Errors
    ///
    /// If the scheduler has shut down or has no runtime, or a store is not available; some of the
    /// jobs may be paused then.
    pub async fn pause(self) -> Result<usize, Error> {
        self.each(|core, key, now| core.pause(key, now), async |job| job.pause().await).await
    }

    /// Resumes each of the jobs, as [`Job::resume`](super::Job::resume) does. Returns their number,
    /// including jobs that were not paused.
    ///
    /// Acts on jobs as [`pause`](Jobs::pause) does.
    ///
    /// # Errors
    ///
    /// The errors of [`pause`](Jobs::pause).
    pub async fn resume(self) -> Result<usize, Error> {
        self.each(|core, key, now| core.resume(key, now), async |job| job.resume().await).await
    }

    /// Changes the options of each of the jobs, as [`Job::modify`](super::Job::modify) does.
    /// Returns the number of changed jobs.
    ///
    /// Acts on jobs as [`pause`](Jobs::pause) does.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use punctual::{Scheduler, trigger::every};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// # let scheduler = Scheduler::new();
    /// scheduler.add(every(Duration::from_secs(5)), || async {}).id("ping").tag("net").await?;
    /// let timeout = Duration::from_secs(2);
    /// assert_eq!(scheduler.jobs().tag("net").modify(|job| job.timeout(timeout)).await?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`pause`](Jobs::pause), and an error if the settings are invalid for a job;
    /// some of the jobs may be changed then.
    pub async fn modify(self, change: impl Fn(JobSettings) -> JobSettings) -> Result<usize, Error> {
        let places = match &self.place {
            Place::Everywhere => {
                let stores = self.stores()?;
                let stores = stores.iter().map(|durable| Place::Store(durable.name.clone()));
                std::iter::once(Place::Memory).chain(stores).collect()
            }
            place => vec![place.clone()],
        };
        let (mut count, mut failed) = (0, None);
        for place in places {
            let jobs = Jobs { shared: self.shared.clone(), filter: self.filter.clone(), place };
            // An unavailable store must not prevent the change of the other jobs.
            match jobs.modify_listed(&change).await {
                Ok(modified) => count += modified,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(count), Err)
    }

    async fn modify_listed(
        self,
        change: &impl Fn(JobSettings) -> JobSettings,
    ) -> Result<usize, Error> {
        let shared = self.shared.clone();
        let mut count = 0;
        let mut jobs = std::pin::pin!(self.stream());
        while let Some(job) = jobs.try_next().await? {
            let job = match job.store {
                Some(store) => Job::by_id(shared.clone(), job.id).store(store),
                None => Job::by_id(shared.clone(), job.id),
            };
            count += usize::from(acted(job.modify(change).await)?);
        }
        Ok(count)
    }

    /// Requests a run of each of the jobs, as [`Job::run_now`](super::Job::run_now) does. Returns
    /// the number of requested runs.
    ///
    /// A job whose run would be skipped is neither counted nor an error. Acts on jobs as
    /// [`pause`](Jobs::pause) does.
    ///
    /// # Errors
    ///
    /// The errors of [`pause`](Jobs::pause).
    pub async fn run_now(self) -> Result<usize, Error> {
        self.each(
            |core, key, now| core.run_now(key, now).map(drop),
            async |job| job.run_now().await.map(drop),
        )
        .await
    }

    /// Removes each of the jobs, as [`Job::remove`](super::Job::remove) does. Returns the number of
    /// removed jobs.
    ///
    /// Acts on jobs as [`pause`](Jobs::pause) does.
    ///
    /// # Errors
    ///
    /// The errors of [`pause`](Jobs::pause).
    pub async fn remove(self) -> Result<usize, Error> {
        let mut count =
            self.each_in_memory(|core, key, now| core.remove(key, End::Removed, now))?;
        let (stores, filter) = (self.stores()?, self.record_filter());
        let removals = stores.iter().map(|it| durable::remove_all(&self.shared, it, &filter));
        let removed = self.shared.within(async { Ok(join_all(removals).await) }).await?;
        for removed in removed {
            count += removed?;
        }
        Ok(count)
    }

    /// Returns the jobs as a stream, in no particular order, which reads one page at a time.
    ///
    /// The stream ends after the first error.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use futures::TryStreamExt;
    /// # use punctual::{Scheduler, trigger::every};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// # let scheduler = Scheduler::new();
    /// scheduler.add(every(Duration::from_secs(5)), || async {}).id("ping").await?;
    /// let mut jobs = std::pin::pin!(scheduler.jobs().stream());
    /// while let Some(job) = jobs.try_next().await? {
    ///     println!("{job}");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn stream(self) -> impl Stream<Item = Result<JobInfo, Error>> + Send + 'static {
        let slot = (!matches!(self.place, Place::Store(_))).then_some(0);
        let pages = self.stores().map(|stores| {
            let pages = stores.iter().map(|it| Pages::new(it, self.record_filter()));
            pages.collect::<VecDeque<Pages>>()
        });
        let begin = Some((self, slot, pages));
        let pages = stream::unfold(begin, async |state| {
            let (jobs, slot, stored) = state?;
            let mut stored = match stored {
                Ok(stored) => stored,
                Err(error) => return Some((Err(error), None)),
            };
            if let Some(slot) = slot {
                let mut page = Vec::new();
                let list = |core: &mut Core<Arc<dyn Entry>>, _| {
                    Ok(core.list(slot, PAGE, &jobs.filter, &mut page))
                };
                return Some(match jobs.shared.try_transact(list) {
                    Ok(rest) => (Ok(page), Some((jobs, rest, Ok(stored)))),
                    Err(error) => (Err(error), None),
                });
            }
            let pages = stored.front_mut()?;
            match jobs.shared.within(pages.next()).await {
                Ok(Some(records)) => {
                    // `Scheduler::unhandled` lists the unreadable records.
                    let read = |it| durable::info_of(&jobs.shared, &pages.durable, it).ok();
                    let page = records.iter().filter_map(read).collect();
                    Some((Ok(page), Some((jobs, None, Ok(stored)))))
                }
                Ok(None) => {
                    stored.pop_front();
                    Some((Ok(Vec::new()), Some((jobs, None, Ok(stored)))))
                }
                Err(error) => Some((Err(error), None)),
            }
        });
        pages.map_ok(|page: Vec<JobInfo>| stream::iter(page).map(Ok)).try_flatten()
    }

    async fn list(self) -> Result<Vec<JobInfo>, Error> {
        let mut list: Vec<JobInfo> = self.stream().try_collect().await?;
        list.sort_by(|a, b| {
            let key = |job: &JobInfo| (job.next_fire.is_none(), job.next_fire);
            key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
        });
        Ok(list)
    }

    /// Acts on each of the jobs. Returns the number of jobs acted on.
    async fn each(
        self,
        in_memory: impl FnMut(&mut Core<Arc<dyn Entry>>, JobKey, DateTime<Utc>) -> Result<(), Error>,
        stored: impl AsyncFn(Stored) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let mut count = self.each_in_memory(in_memory)?;
        let stores = self.stores()?;
        let each_stored = stores.iter().map(async |durable| {
            let (mut pages, mut count) = (Pages::new(durable, self.record_filter()), 0);
            while let Some(records) = pages.next().await? {
                for record in records {
                    let (shared, durable) = (self.shared.clone(), durable.clone());
                    let incarnation = Some(record.incarnation);
                    let job = Stored { shared, durable, id: record.id, incarnation, author: None };
                    count += usize::from(acted(stored(job).await)?);
                }
            }
            Ok::<usize, Error>(count)
        });
        // Concurrently: an unavailable store must not delay or prevent the verb on the others.
        let acted = self.shared.within(async { Ok(join_all(each_stored).await) }).await?;
        for acted in acted {
            count += acted?;
        }
        Ok(count)
    }

    /// The stores to search.
    fn stores(&self) -> Result<Arc<[Arc<Durable>]>, Error> {
        match &self.place {
            Place::Everywhere => Ok(self.shared.stores.usable()),
            Place::Memory => Ok([].into()),
            Place::Store(name) => Ok([self.shared.stores.named(name)?].into()),
        }
    }

    fn each_in_memory(
        &self,
        mut act: impl FnMut(&mut Core<Arc<dyn Entry>>, JobKey, DateTime<Utc>) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let (mut keys, mut page) =
            (Vec::new(), (!matches!(self.place, Place::Store(_))).then_some(0));
        while let Some(slot) = page {
            page = self.shared.try_transact(|core, _| core.keys(slot, &self.filter, &mut keys))?;
        }
        let mut count = 0;
        // The newest first: removing a job ends its followers, which would then not be counted.
        keys.sort_unstable_by_key(|key| std::cmp::Reverse(key.incarnation()));
        for keys in keys.chunks(BATCH) {
            count += self.shared.try_transact(|core, now| {
                let mut acted_on = 0;
                for &key in keys {
                    acted_on += usize::from(acted(act(core, key, now))?);
                }
                Ok(acted_on)
            })?;
        }
        Ok(count)
    }

    fn record_filter(&self) -> RecordFilter {
        let Filter { name, tag, paused } = self.filter.clone();
        RecordFilter { name, tag, paused }
    }
}

/// Whether the verb acted on the job. It did not if the job has ended, or if its run would be
/// skipped.
fn acted(result: Result<(), Error>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.is_gone() || error.is_unknown_job() || error.is_overlap() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The earliest next fire time of all jobs.
pub(super) async fn next_fire(shared: &Arc<Shared>) -> Result<Option<DateTime<Utc>>, Error> {
    let (mut earliest, mut page) = (None, Some(0));
    while let Some(slot) = page {
        let (next, rest) = shared.try_transact(|core, _| Ok(core.earliest(slot)))?;
        page = rest;
        earliest = earliest.into_iter().chain(next).min();
    }
    for durable in shared.stores.usable().iter() {
        let mut pages = Pages::new(durable, RecordFilter::default());
        while let Some(records) = pages.next().await? {
            let jobs = records.iter().filter_map(|it| durable::info_of(shared, durable, it).ok());
            earliest = earliest.into_iter().chain(jobs.filter_map(|job| job.next_fire)).min();
        }
    }
    Ok(earliest)
}

impl IntoFuture for Jobs {
    type Output = Result<Vec<JobInfo>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.list())
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("filter", &self.filter).finish_non_exhaustive()
    }
}
