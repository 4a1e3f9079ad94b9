//! What a job has of the room of the runs: its permits, its active runs, what waits, and its history.

use std::{collections::VecDeque, sync::Arc};

use chrono::{DateTime, Utc};

use super::{
    Submission,
    semaphore::{Permit, Semaphore},
};
use crate::{
    core::{Job, Payload, decide::Due, registry::Common},
    job::{Outcome, Run},
};

/// The permits and the active runs of a job.
#[derive(Default)]
pub(in crate::core) struct JobRuns {
    pub(super) semaphore: Semaphore,
    /// The newest of its active runs, which are linked.
    pub(super) newest: Option<u32>,
}

/// What waits to run of a job, and its last runs.
#[derive(Default)]
pub(in crate::core) struct WaitingRuns {
    /// Backlogs that wait for the scheduler to be resumed, and the permits they keep.
    pub(super) parked: Vec<(Permit, VecDeque<Due>)>,
    /// What waits in line for a permit.
    pub(super) queue: VecDeque<Submission>,
    /// When the first of its runs that failed is to be tried again.
    pub(super) retry_at: Option<DateTime<Utc>>,
    /// Its last runs, the latest last.
    pub(super) history: VecDeque<Run>,
}

impl JobRuns {
    /// How many of the job's permits are taken.
    pub(in crate::core) fn active(&self) -> u32 {
        self.semaphore.in_use()
    }
}

impl WaitingRuns {
    pub(in crate::core) fn retry_at(&self) -> Option<DateTime<Utc>> {
        self.retry_at
    }

    /// Whether a run that another run asked for waits in line.
    pub(in crate::core) fn has_again(&self) -> bool {
        self.queue.iter().any(|submission| submission.again)
    }

    pub(in crate::core) fn history(&self) -> impl Iterator<Item = &Run> {
        self.history.iter()
    }

    /// The fire times that wait in line or are parked, but for those that were asked for.
    pub(in crate::core) fn scheduled(&self) -> impl Iterator<Item = &Due> {
        let queue = self.queue.iter().filter(|queued| !queued.on_request);
        let queue = queue.flat_map(|queued| std::iter::once(&queued.due).chain(&queued.backlog));
        queue.chain(self.parked.iter().flat_map(|(_, backlog)| backlog))
    }

    /// Those that were asked for, and wait in line.
    pub(in crate::core) fn requested(&mut self) -> impl Iterator<Item = &mut Due> {
        self.queue.iter_mut().filter(|queued| queued.on_request).map(|queued| &mut queued.due)
    }

    /// All other fire times that wait.
    pub(in crate::core) fn waiting(&mut self) -> impl Iterator<Item = &mut Due> {
        let parked = self.parked.iter_mut().flat_map(|(_, backlog)| backlog);
        let queue = self.queue.iter_mut().filter(|queued| !queued.on_request);
        parked.chain(
            queue.flat_map(|queued| std::iter::once(&mut queued.due).chain(&mut queued.backlog)),
        )
    }
}

impl<P> Job<P> {
    /// Empties the line and the parked backlogs of a job whose rows are others' now.
    pub(in crate::core) fn drop_waiting(&mut self) {
        if let Some(extras) = &mut self.extras {
            extras.runs.queue = VecDeque::new();
        }
        for (permit, _) in self.take_parked() {
            self.runs.semaphore.release(permit);
        }
    }

    pub(in crate::core) fn take_parked(&mut self) -> Vec<(Permit, VecDeque<Due>)> {
        self.extras
            .as_mut()
            .map(|extras| std::mem::take(&mut extras.runs.parked))
            .unwrap_or_default()
    }

    pub(in crate::core) fn is_queue_empty(&self) -> bool {
        self.extras.as_ref().is_none_or(|extras| extras.runs.queue.is_empty())
    }

    /// Keeps so many runs at most.
    pub(in crate::core) fn trim_history(&mut self, kept: u32) {
        if let Some(extras) = &mut self.extras {
            while extras.runs.history.len() > kept as usize {
                extras.runs.history.pop_front();
            }
        }
    }

    /// The job's history, now that the job is over; none if nothing was kept.
    pub(in crate::core) fn take_history(&mut self) -> Option<Arc<[Run]>> {
        let history = std::mem::take(&mut self.extras.as_mut()?.runs.history);
        (!history.is_empty()).then(|| history.into_iter().collect())
    }

    /// Keeps a run for the job's history.
    pub(in crate::core) fn keep_run(
        &mut self,
        run: &Run,
        error_text: Option<&Arc<str>>,
        common: Common<'_>,
    ) {
        let kept = self.options(common).history;
        self.trim_history(kept.saturating_sub(1));
        let outcome = match (&run.outcome, error_text) {
            // Not the error itself: that may be large, and dropping it is the user's code.
            (Outcome::Failed(_), error_text) => {
                Outcome::from_error_text(error_text.map_or("", |text| text))
            }
            (outcome, _) => outcome.clone(),
        };
        let history = &mut self.extras().runs.history;
        if history.is_empty() {
            // It may be the only one.
            history.reserve_exact(1);
        }
        history.push_back(Run { outcome, output: None, ..run.clone() });
    }
}

impl<P: Payload> Job<P> {
    /// Whether a run that ends is kept for the job's history: if the job ends with it, only where
    /// somebody may ask for it afterwards. `more` says whether others go on under its permit.
    pub(in crate::core) fn keeps_run(&self, more: bool, common: Common<'_>) -> bool {
        // That of a durable job is the ledger.
        if self.options(common).history == 0 || self.is_durable() {
            return false;
        }
        let is_last = !self.waits() && self.runs.active() == 1 && !more;
        // Work that runs once hands its outcome to its handle.
        !is_last || self.given_id().is_some() || (!self.once && self.payload.has_handle())
    }
}
