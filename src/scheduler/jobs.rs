//! Listing jobs.

use std::{fmt, future::IntoFuture, sync::Arc};

use futures::future::BoxFuture;

use super::durable;
use crate::{core::Filter, driver::Shared, error::Error, job::JobInfo, store::RecordFilter};

/// How many slots are looked at under one lock.
const PAGE: u32 = 1024;

/// The jobs of a scheduler, in order of their next fire time, those without one last; listed when
/// awaited.
///
/// Those in a store that can't be read here are listed by
/// [`Scheduler::unhandled`](super::Scheduler::unhandled). The list is read in pages, so that listing a million jobs delays none of them: it is not a
/// snapshot of one instant.
///
/// # Errors
///
/// That the scheduler has no runtime, or that its store is not available.
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

    async fn list(self) -> Result<Vec<JobInfo>, Error> {
        let mut list = Vec::new();
        let mut page = Some(0);
        while let Some(slot) = page {
            page = self
                .shared
                .try_with(|state, _| Ok(state.core.list(slot, PAGE, &self.filter, &mut list)))?;
        }
        if let Some(durable) = &self.shared.durable {
            let Filter { name, tag, paused } = self.filter;
            let filter = RecordFilter { name, tag, paused };
            let records = durable::records(&*durable.store, &filter).await?;
            // Those that can't be read are listed elsewhere.
            let read =
                records.iter().filter_map(|record| durable::info_of(&self.shared, record).ok());
            list.extend(read);
        }
        list.sort_by(|a, b| {
            let key = |job: &JobInfo| (job.next_fire.is_none(), job.next_fire);
            key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
        });
        Ok(list)
    }
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
