//! How runs are submitted: with a permit they begin; without one they are queued, skipped, or
//! cancel another run.

use chrono::{DateTime, Utc};

use super::{Submission, semaphore::Permit};
use crate::{
    core::{Core, Payload},
    job::{Overlap, RunId, SkipReason},
};

impl<P: Payload> Core<P> {
    /// Begins a run or queues it, by the job's overlap option. Returns the number of the run unless
    /// it is skipped.
    pub(in crate::core) fn submit(
        &mut self,
        slot: u32,
        submission: Submission,
        now: DateTime<Utc>,
    ) -> Option<RunId> {
        let (job, common) = self.registry.job_mut(slot);
        let options = job.options(common);
        let (limit, overlap) = (options.max_instances, options.overlap);
        let queued = job.extras.as_ref().map_or(0, |extras| extras.runs.queue.len());
        // While the scheduler is paused, submissions get no permit but may be queued for one.
        let free = if self.paused && !submission.on_request {
            (limit.saturating_sub(job.runs.semaphore.in_use()) as usize).saturating_sub(queued)
        } else {
            0
        };
        if free > 0 {
            return Some(self.queue(slot, submission));
        }
        if (!self.paused || submission.on_request)
            && let Some(permit) = job.runs.semaphore.try_acquire(limit)
        {
            return Some(self.begin(slot, permit, submission, now));
        }
        if submission.again {
            return Some(self.queue(slot, submission));
        }
        match overlap {
            Overlap::Skip => {
                self.skip_submission(slot, submission, SkipReason::MaxInstances, now);
                None
            }
            Overlap::Queue(room) if queued >= room as usize => {
                self.skip_submission(slot, submission, SkipReason::QueueFull, now);
                None
            }
            Overlap::Queue(_) => Some(self.queue(slot, submission)),
            Overlap::CancelPrevious => {
                for superseded in std::mem::take(&mut job.extras().runs.queue) {
                    self.skip_submission(slot, superseded, SkipReason::Superseded, now);
                }
                let run = self.queue(slot, submission);
                self.cancel_previous(slot, now);
                Some(run)
            }
        }
    }

    /// Whether a requested run would be skipped now.
    pub(in crate::core) fn would_skip(&self, slot: u32) -> bool {
        let job = &self.registry[slot];
        let options = job.options(self.registry.common());
        let queued = job.extras.as_ref().map_or(0, |extras| extras.runs.queue.len());
        job.runs.semaphore.in_use() >= options.max_instances
            && match options.overlap {
                Overlap::Skip => true,
                Overlap::Queue(room) => queued >= room as usize,
                Overlap::CancelPrevious => false,
            }
    }

    fn queue(&mut self, slot: u32, mut submission: Submission) -> RunId {
        let id = submission.id.unwrap_or_else(|| self.run_id(slot, submission.due));
        submission.id = Some(id);
        self.registry[slot].extras().runs.queue.push_back(submission);
        if self.paused {
            self.deferred_jobs.insert(slot);
        }
        id
    }

    /// Begins queued runs while permits are free.
    pub(in crate::core) fn serve_queue(&mut self, slot: u32, now: DateTime<Utc>) {
        while let Some((job, common)) = self.registry.with_common(slot)
            && let limit = job.options(common).max_instances
            && let Some(extras) = &mut job.extras
            && !extras.runs.queue.is_empty()
        {
            // While the scheduler is paused, only requested runs have a turn.
            let turn = if self.paused {
                extras.runs.queue.iter().position(|submission| submission.on_request)
            } else {
                Some(0)
            };
            if self.paused {
                self.deferred_jobs.insert(slot);
            }
            let Some(turn) = turn else { return };
            let Some(permit) = job.runs.semaphore.try_acquire(limit) else { return };
            match extras.runs.queue.remove(turn) {
                Some(submission) => drop(self.begin(slot, permit, submission, now)),
                None => job.runs.semaphore.release(permit),
            }
        }
    }

    /// Releases a permit, and begins the next queued run.
    pub(in crate::core) fn release(&mut self, slot: u32, permit: Permit, now: DateTime<Utc>) {
        let job = &mut self.registry[slot];
        job.runs.semaphore.release(permit);
        self.serve_queue(slot, now);
    }
}
