//! The run state of one job: its permits, its active runs, its waiting submissions and its history.

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
    /// The newest active run; the active runs form a linked list.
    pub(super) newest: Option<u32>,
}

/// The waiting submissions and the last runs of a job.
#[derive(Default)]
pub(in crate::core) struct WaitingRuns {
    /// Backlogs that wait until the scheduler is resumed, with the permits that they keep.
    pub(super) parked: Vec<(Permit, VecDeque<Due>)>,
    /// Submissions that wait for a permit.
    pub(super) queue: VecDeque<Submission>,
    /// When the first run that backs off is tried again.
    pub(super) retry_at: Option<DateTime<Utc>>,
    /// The last runs, the latest last.
    pub(super) history: VecDeque<Run>,
}

impl JobRuns {
    /// Returns how many of the job's permits are in use.
    pub(in crate::core) fn active(&self) -> u32 {
        self.semaphore.in_use()
    }
}

impl WaitingRuns {
    pub(in crate::core) fn retry_at(&self) -> Option<DateTime<Utc>> {
        self.retry_at
    }

    /// Whether the queue has a run that a run of this job requested.
    pub(in crate::core) fn has_again(&self) -> bool {
        self.queue.iter().any(|submission| submission.again)
    }

    pub(in crate::core) fn history(&self) -> impl Iterator<Item = &Run> {
        self.history.iter()
    }

    /// Returns the queued and parked fire times, except those of requested runs.
    pub(in crate::core) fn scheduled(&self) -> impl Iterator<Item = &Due> {
        let queue = self.queue.iter().filter(|queued| !queued.on_request);
        let queue = queue.flat_map(|queued| std::iter::once(&queued.due).chain(&queued.backlog));
        queue.chain(self.parked.iter().flat_map(|(_, backlog)| backlog))
    }

    /// Returns the queued fire times of requested runs.
    pub(in crate::core) fn requested(&mut self) -> impl Iterator<Item = &mut Due> {
        self.queue.iter_mut().filter(|queued| queued.on_request).map(|queued| &mut queued.due)
    }

    /// Returns all other queued and parked fire times.
    pub(in crate::core) fn waiting(&mut self) -> impl Iterator<Item = &mut Due> {
        let parked = self.parked.iter_mut().flat_map(|(_, backlog)| backlog);
        let queue = self.queue.iter_mut().filter(|queued| !queued.on_request);
        parked.chain(
            queue.flat_map(|queued| std::iter::once(&mut queued.due).chain(&mut queued.backlog)),
        )
    }
}

impl<P> Job<P> {
    /// Drops the queue and the parked backlogs of a job whose rows belong to other nodes now.
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

    /// Drops the oldest runs until at most `kept` are left.
    pub(in crate::core) fn trim_history(&mut self, kept: u32) {
        if let Some(extras) = &mut self.extras {
            while extras.runs.history.len() > kept as usize {
                extras.runs.history.pop_front();
            }
        }
    }

    /// Returns the history of a job that is over, or `None` if it is empty.
    pub(in crate::core) fn take_history(&mut self) -> Option<Arc<[Run]>> {
        let history = std::mem::take(&mut self.extras.as_mut()?.runs.history);
        (!history.is_empty()).then(|| history.into_iter().collect())
    }

    /// Adds a run to the job's history.
    pub(in crate::core) fn keep_run(
        &mut self,
        run: &Run,
        error_text: Option<&Arc<str>>,
        common: Common<'_>,
    ) {
        let kept = self.options(common).history;
        self.trim_history(kept.saturating_sub(1));
        let outcome = match (&run.outcome, error_text) {
            // The error itself may be large, and dropping it calls user code; the text is enough.
            (Outcome::Failed(_), error_text) => {
                Outcome::from_error_text(error_text.map_or("", |text| text))
            }
            (outcome, _) => outcome.clone(),
        };
        let history = &mut self.extras().runs.history;
        if history.is_empty() {
            // This may stay the only run.
            history.reserve_exact(1);
        }
        history.push_back(Run { outcome, output: None, ..run.clone() });
    }
}

impl<P: Payload> Job<P> {
    /// Whether an ended run is added to the job's history. The last run of a job is added only if
    /// the history can be read afterwards. `more` says whether other runs follow under the same
    /// permit.
    pub(in crate::core) fn keeps_run(&self, more: bool, common: Common<'_>) -> bool {
        // The history of a durable job is the ledger.
        if self.options(common).history == 0 || self.is_durable() {
            return false;
        }
        let is_last = !self.waits() && self.runs.active() == 1 && !more;
        // Work that runs once sends its outcome to its handle.
        !is_last || self.given_id().is_some() || (!self.once && self.payload.has_handle())
    }
}
