//! The jobs that pass a filter: listed, or all of them paused, resumed, changed, run or removed.

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
    core::{Filter, JobKey, PAGE},
    driver::{Durable, Shared, State},
    error::Error,
    job::{End, JobInfo},
    ledger::RecordFilter,
};

/// How many jobs are changed under one lock.
const BATCH: usize = 256;

/// The jobs of a scheduler, in order of their next fire time, those without one last; listed when
/// awaited.
///
/// [`pause`](Jobs::pause), [`resume`](Jobs::resume), [`modify`](Jobs::modify),
/// [`run_now`](Jobs::run_now) and [`remove`](Jobs::remove) act on all of them instead.
///
/// Those in a store that can't be read here are listed by
/// [`Scheduler::unhandled`](super::Scheduler::unhandled). The list is read in pages, so that listing a
/// million jobs delays none of them: it is not a snapshot of one instant.
///
/// With several stores all of them are read. While one of them is down this is an error, which names it;
/// [`store`](Jobs::store) reads one that works. A verb acts on the jobs of the others before it fails.
///
/// # Errors
///
/// That the scheduler has no runtime, or that one of its stores is not available.
///
/// # Cancel safety
///
/// A verb whose future is dropped may have acted on some of the jobs and not on others.
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

/// Where jobs are looked for.
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

    /// Only jobs of this name.
    pub fn name(mut self, name: impl Into<String>) -> Jobs {
        self.filter.name = Some(name.into());
        self
    }

    /// Only jobs that bear this tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Jobs {
        self.filter.tag = Some(tag.into());
        self
    }

    /// Only jobs in this store: no other is asked, and memory is left out.
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

    /// Only jobs that are paused, or only those that are not.
    pub fn paused(mut self, paused: bool) -> Jobs {
        self.filter.paused = Some(paused);
        self
    }

    /// Pauses each of the jobs; see [`Job::pause`](super::Job::pause). Returns how many there are, those
    /// included that were paused before.
    ///
    /// It acts on each job once, those in memory first. A job that ends meanwhile is not counted, and is
    /// no error. Jobs that are added meanwhile may be among them or not.
    ///
    /// # Errors
    ///
    /// That the scheduler has shut down or has no runtime; that a store is not available, with some of
    /// the jobs paused and others not.
    pub async fn pause(self) -> Result<usize, Error> {
        self.each(|state, key, now| state.core.pause(key, now), async |job| job.pause().await).await
    }

    /// Resumes each of the jobs; see [`Job::resume`](super::Job::resume). Returns how many there are,
    /// those included that were not paused. Otherwise as [`pause`](Jobs::pause).
    ///
    /// # Errors
    ///
    /// As [`pause`](Jobs::pause).
    pub async fn resume(self) -> Result<usize, Error> {
        self.each(|state, key, now| state.core.resume(key, now), async |job| job.resume().await)
            .await
    }

    /// Changes the options of each of the jobs; see [`Job::modify`](super::Job::modify). Returns how many
    /// that were. Otherwise as [`pause`](Jobs::pause).
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
    /// As [`pause`](Jobs::pause), and that the settings do not fit a job, with some of the jobs changed
    /// and others not.
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
            // One that is down must not keep the others from it.
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

    /// Starts an extra run of each of the jobs; see [`Job::run_now`](super::Job::run_now). Returns how
    /// many runs that makes: a job whose run would be skipped is not counted, and is no error. Otherwise
    /// as [`pause`](Jobs::pause).
    ///
    /// # Errors
    ///
    /// As [`pause`](Jobs::pause).
    pub async fn run_now(self) -> Result<usize, Error> {
        self.each(
            |state, key, now| state.core.run_now(key, now).map(drop),
            async |job| job.run_now().await.map(drop),
        )
        .await
    }

    /// Removes each of the jobs; see [`Job::remove`](super::Job::remove). Returns how many that were.
    /// Otherwise as [`pause`](Jobs::pause).
    ///
    /// # Errors
    ///
    /// As [`pause`](Jobs::pause).
    pub async fn remove(self) -> Result<usize, Error> {
        let mut count =
            self.each_in_memory(|state, key, now| state.core.remove(key, End::Removed, now))?;
        let (stores, filter) = (self.stores()?, self.record_filter());
        let removals = stores.iter().map(|it| durable::remove_all(&self.shared, it, &filter));
        let removed = self.shared.within(async { Ok(join_all(removals).await) }).await?;
        for removed in removed {
            count += removed?;
        }
        Ok(count)
    }

    /// The jobs as a stream, in no particular order, read in pages: however many there are, few are in
    /// memory at once.
    ///
    /// It ends with the first error.
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
                let list =
                    |state: &mut State, _| Ok(state.core.list(slot, PAGE, &jobs.filter, &mut page));
                return Some(match jobs.shared.try_with(list) {
                    Ok(rest) => (Ok(page), Some((jobs, rest, Ok(stored)))),
                    Err(error) => (Err(error), None),
                });
            }
            let pages = stored.front_mut()?;
            match jobs.shared.within(pages.next()).await {
                Ok(Some(records)) => {
                    // Those that can't be read are listed elsewhere.
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

    /// Acts on each of the jobs. Returns how many that were.
    async fn each(
        self,
        in_memory: impl FnMut(&mut State, JobKey, DateTime<Utc>) -> Result<(), Error>,
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
        // All of them at once: one that is down must not keep the others from it.
        let acted = self.shared.within(async { Ok(join_all(each_stored).await) }).await?;
        for acted in acted {
            count += acted?;
        }
        Ok(count)
    }

    /// The stores that are meant.
    fn stores(&self) -> Result<Arc<[Arc<Durable>]>, Error> {
        match &self.place {
            Place::Everywhere => Ok(self.shared.stores.usable()),
            Place::Memory => Ok([].into()),
            Place::Store(name) => Ok([self.shared.stores.named(name)?].into()),
        }
    }

    fn each_in_memory(
        &self,
        mut act: impl FnMut(&mut State, JobKey, DateTime<Utc>) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let (mut keys, mut page) =
            (Vec::new(), (!matches!(self.place, Place::Store(_))).then_some(0));
        while let Some(slot) = page {
            page =
                self.shared.try_with(|state, _| state.core.keys(slot, &self.filter, &mut keys))?;
        }
        let mut count = 0;
        // The newest first: a job that follows another would end with that, and not be counted.
        keys.sort_unstable_by_key(|key| std::cmp::Reverse(key.incarnation()));
        for keys in keys.chunks(BATCH) {
            count += self.shared.try_with(|state, now| {
                let mut acted_on = 0;
                for &key in keys {
                    acted_on += usize::from(acted(act(state, key, now))?);
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

/// Whether a job was acted on: not if it has ended meanwhile, or if its run would be skipped.
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
        let (next, rest) = shared.try_with(|state, _| Ok(state.core.earliest(slot)))?;
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
