//! The jobs that pass a filter: listed, or all of them paused, resumed, changed, run or removed.

use std::{fmt, future::IntoFuture, sync::Arc};

use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};

use super::{
    Job, JobSettings,
    durable::{self, Pages, Stored},
};
use crate::{
    core::{Filter, JobKey, PAGE},
    driver::{Shared, State},
    error::Error,
    job::{End, JobInfo},
    store::RecordFilter,
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
/// # Errors
///
/// That the scheduler has no runtime, or that its store is not available.
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
}

impl Jobs {
    pub(super) fn new(shared: Arc<Shared>) -> Jobs {
        Jobs { shared, filter: Filter::default() }
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
    /// That the scheduler has shut down or has no runtime; that its store is not available, with some of
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
        let shared = self.shared.clone();
        let mut count = 0;
        let jobs = self.stream();
        let mut jobs = std::pin::pin!(jobs);
        while let Some(job) = jobs.try_next().await? {
            let job = Job::by_id(shared.clone(), job.id);
            count += usize::from(acted(job.modify(&change).await)?);
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
        if let Some(durable) = &self.shared.durable {
            let filter = self.record_filter();
            let stored = durable::remove_all(&self.shared, durable, &filter);
            count += self.shared.within(stored).await?;
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
        let pages = self.shared.durable.as_ref().map(|it| Pages::new(it, self.record_filter()));
        let begin = (self, Some(0), pages);
        let pages = stream::unfold(begin, async |(jobs, slot, mut stored)| {
            if let Some(slot) = slot {
                let mut page = Vec::new();
                let list =
                    |state: &mut State, _| Ok(state.core.list(slot, PAGE, &jobs.filter, &mut page));
                return Some(match jobs.shared.try_with(list) {
                    Ok(rest) => (Ok(page), (jobs, rest, stored)),
                    // Neither memory nor store can be read any more.
                    Err(error) => (Err(error), (jobs, None, None)),
                });
            }
            match jobs.shared.within(stored.as_mut()?.next()).await {
                Ok(records) => {
                    let durable = jobs.shared.durable.as_ref()?;
                    // Those that can't be read are listed elsewhere.
                    let read = |it| durable::info_of(&jobs.shared, durable, it).ok();
                    let page = records?.iter().filter_map(read).collect();
                    Some((Ok(page), (jobs, None, stored)))
                }
                Err(error) => Some((Err(error), (jobs, None, None))),
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
        let Some(durable) = &self.shared.durable else { return Ok(count) };
        let each_stored = async {
            let mut pages = Pages::new(durable, self.record_filter());
            while let Some(records) = pages.next().await? {
                for record in records {
                    let (shared, durable) = (self.shared.clone(), durable.clone());
                    let incarnation = Some(record.incarnation);
                    let job = Stored { shared, durable, id: record.id, incarnation };
                    count += usize::from(acted(stored(job).await)?);
                }
            }
            Ok(count)
        };
        self.shared.within(each_stored).await
    }

    fn each_in_memory(
        &self,
        mut act: impl FnMut(&mut State, JobKey, DateTime<Utc>) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let (mut keys, mut page) = (Vec::new(), Some(0));
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
    if let Some(durable) = &shared.durable {
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
