//! A job as the core keeps it.

use std::{collections::VecDeque, sync::Arc};

use chrono::{DateTime, Utc};

use crate::{
    core::{
        Declaration, JobKey, Payload, Submission,
        decide::{Due, Planner},
        durable::claims::DurableJob,
        runs::semaphore::{Permit, Semaphore},
    },
    job::{End, JobId, JobOptions, Labels, Made, Outcome, Run},
    trigger::Trigger,
};

pub(in crate::core) struct Job<P> {
    pub(in crate::core) incarnation: u64,
    pub(in crate::core) trigger: Trigger,
    /// The earliest fire time that has no fate yet, also while the job is paused.
    pub(in crate::core) next: Option<Due>,
    /// None if they are the scheduler's defaults, which many jobs then share at no cost.
    pub(in crate::core) options: Option<Arc<JobOptions>>,
    pub(in crate::core) semaphore: Semaphore,
    /// The newest of its runs, which are linked.
    pub(in crate::core) runs: Option<u32>,
    pub(in crate::core) elapsed: bool,
    pub(in crate::core) once: bool,
    /// Whether it runs after the runs of a job that there is.
    pub(in crate::core) follows: bool,
    pub(in crate::core) paused: bool,
    pub(in crate::core) deferred: bool,
    pub(in crate::core) dirty: bool,
    /// Whether the driver has a timer for it, as far as it was told.
    pub(in crate::core) armed: bool,
    /// Removed, cancelled, replaced or shut down: only its going runs keep it here.
    pub(in crate::core) retired: bool,
    /// In a box, since few jobs have any of it and all take the room.
    pub(in crate::core) extras: Option<Box<Extras>>,
    pub(in crate::core) payload: P,
}

/// What few jobs have.
#[derive(Default)]
pub(in crate::core) struct Extras {
    /// The id that the user gave.
    pub(in crate::core) id: Option<JobId>,
    pub(in crate::core) labels: Labels,
    /// Backlogs that wait for the scheduler to be resumed, and the permits they keep.
    pub(in crate::core) parked: Vec<(Permit, VecDeque<Due>)>,
    /// What waits in line for a permit.
    pub(in crate::core) queue: VecDeque<Submission>,
    /// When the first of its runs that failed is to be tried again.
    pub(in crate::core) retry_at: Option<DateTime<Utc>>,
    /// When it is to run once more, since one of its runs asked for that.
    pub(in crate::core) again: Option<DateTime<Utc>>,
    /// Its last runs, the latest last.
    pub(in crate::core) history: VecDeque<Run>,
    /// How the job will have ended when its last run ends, if not as completed.
    pub(in crate::core) end: Option<End>,
    /// What it has beyond a job in memory, if it is in a store.
    pub(in crate::core) durable: Option<Box<DurableJob>>,
    /// In a box, since few jobs are saved more than once.
    pub(in crate::core) saved: Option<Box<Saved>>,
}

/// What a job has that is declared in code, or was given another trigger.
#[derive(Default)]
pub(in crate::core) struct Saved {
    /// What it was declared as.
    declared: Option<Box<Declaration>>,
    /// Fire times of triggers that it had before, still to run when their jitter has passed.
    carried: Vec<Due>,
}

impl JobKey {
    /// Counts the jobs of a scheduler in order of adding.
    pub(crate) fn incarnation(self) -> u64 {
        self.incarnation
    }
}

impl<P> Job<P> {
    pub(in crate::core) fn key(&self, slot: u32) -> JobKey {
        JobKey { slot, incarnation: self.incarnation }
    }

    /// The id that the user gave it.
    pub(in crate::core) fn given_id(&self) -> Option<&JobId> {
        self.extras.as_ref()?.id.as_ref()
    }

    /// Its id: the user's, or one made of where the job is.
    pub(in crate::core) fn id(&self, scheduler: u32, slot: u32) -> JobId {
        let made = Made { scheduler, slot, incarnation: self.incarnation };
        self.given_id().cloned().unwrap_or_else(|| JobId::made(made))
    }

    pub(in crate::core) fn options<'a>(
        &'a self,
        defaults: &'a Arc<JobOptions>,
    ) -> &'a Arc<JobOptions> {
        self.options.as_ref().unwrap_or(defaults)
    }

    pub(in crate::core) fn labels(&self) -> Option<&Labels> {
        self.extras.as_ref().map(|extras| &extras.labels)
    }

    pub(in crate::core) fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// What it was declared as, if it was.
    pub(in crate::core) fn declared(&self) -> Option<&Declaration> {
        self.extras.as_ref()?.saved.as_ref()?.declared.as_deref()
    }

    pub(in crate::core) fn take_declared(&mut self) -> Option<Box<Declaration>> {
        self.extras.as_mut()?.saved.as_mut()?.declared.take()
    }

    /// Sets what it was declared as; returns what was before.
    pub(in crate::core) fn set_declared(
        &mut self,
        declared: Option<Box<Declaration>>,
    ) -> Option<Box<Declaration>> {
        let saved = self.extras.as_mut().and_then(|extras| extras.saved.as_mut());
        match (saved, &declared) {
            (None, None) => None,
            _ => {
                let saved = self.extras().saved.get_or_insert_default();
                std::mem::replace(&mut saved.declared, declared)
            }
        }
    }

    /// The fire times of earlier triggers that are still to run.
    pub(in crate::core) fn carried(&self) -> &[Due] {
        let saved = self.extras.as_ref().and_then(|extras| extras.saved.as_ref());
        saved.map_or(&[], |saved| &saved.carried)
    }

    pub(in crate::core) fn carried_mut(&mut self) -> &mut [Due] {
        let saved = self.extras.as_mut().and_then(|extras| extras.saved.as_mut());
        saved.map_or(&mut [], |saved| &mut saved.carried)
    }

    pub(in crate::core) fn carry(&mut self, due: Due) {
        self.extras().saved.get_or_insert_default().carried.push(due);
    }

    /// Takes those of them that are due by `last`, in order.
    pub(in crate::core) fn take_carried(&mut self, last: DateTime<Utc>) -> Vec<Due> {
        let saved = self.extras.as_mut().and_then(|extras| extras.saved.as_mut());
        let carried =
            saved.map(|saved| saved.carried.extract_if(.., |due| due.at <= last).collect());
        let mut carried: Vec<Due> = carried.unwrap_or_default();
        carried.sort_by_key(|due| (due.fire_time, due.at));
        carried
    }

    pub(in crate::core) fn take_parked(&mut self) -> Vec<(Permit, VecDeque<Due>)> {
        self.extras.as_mut().map(|extras| std::mem::take(&mut extras.parked)).unwrap_or_default()
    }

    /// The next fire time, as seen from outside.
    pub(in crate::core) fn next_fire(&self) -> Option<DateTime<Utc>> {
        let next = self.carried().iter().copied().chain(self.awaited()).map(|next| next.fire_time);
        next.chain(self.again()).min()
    }

    /// The next fire time, unless it doesn't count now.
    pub(in crate::core) fn awaited(&self) -> Option<Due> {
        // What a paused job in a store still has was asked for.
        self.next.filter(|_| (!self.paused || self.is_durable()) && !self.retired)
    }

    /// When the driver is to look at the job, if it is.
    pub(in crate::core) fn wake_at(&self) -> Option<DateTime<Utc>> {
        let next = self.awaited().filter(|_| !self.deferred).map(|next| next.at);
        let Some(extras) = &self.extras else { return next };
        let carried = self.carried().iter().map(|carried| carried.at).min();
        let carried = carried.filter(|_| !self.deferred);
        let again = self.again().filter(|_| !self.deferred);
        [next, carried, again, extras.retry_at].into_iter().flatten().min()
    }

    pub(in crate::core) fn is_queue_empty(&self) -> bool {
        self.extras.as_ref().is_none_or(|extras| extras.queue.is_empty())
    }

    /// Whether anything is left for it to run for, but for its runs and their backlogs.
    pub(in crate::core) fn waits(&self) -> bool {
        let again = self.extras.as_ref().is_some_and(|extras| extras.again.is_some());
        self.next.is_some()
            || !self.carried().is_empty()
            || self.follows
            || again
            || !self.is_queue_empty()
    }

    /// Keeps so many runs at most.
    pub(in crate::core) fn trim_history(&mut self, kept: u32) {
        if let Some(extras) = &mut self.extras {
            while extras.history.len() > kept as usize {
                extras.history.pop_front();
            }
        }
    }

    /// The job's history, now that the job is over; none if nothing was kept.
    pub(in crate::core) fn take_history(&mut self) -> Option<Arc<[Run]>> {
        let history = std::mem::take(&mut self.extras.as_mut()?.history);
        (!history.is_empty()).then(|| history.into_iter().collect())
    }

    /// Keeps a run for the job's history.
    pub(in crate::core) fn keep_run(
        &mut self,
        run: &Run,
        said: Option<&Arc<str>>,
        defaults: &Arc<JobOptions>,
    ) {
        let kept = self.options(defaults).history;
        self.trim_history(kept.saturating_sub(1));
        let outcome = match (&run.outcome, said) {
            // Not the error itself: that may be large, and dropping it is the user's code.
            (Outcome::Failed(_), said) => Outcome::said(said.map_or("", |said| said)),
            (outcome, _) => outcome.clone(),
        };
        let history = &mut self.extras().history;
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
    pub(in crate::core) fn keeps_run(&self, more: bool, defaults: &Arc<JobOptions>) -> bool {
        // That of a durable job is the ledger.
        if self.options(defaults).history == 0 || self.is_durable() {
            return false;
        }
        let is_last = !self.waits() && self.semaphore.in_use() == 1 && !more;
        // Work that runs once hands its outcome to its handle.
        !is_last || self.given_id().is_some() || (!self.once && self.payload.has_handle())
    }
}

impl Extras {
    /// Those that were asked for, and wait in line.
    pub(in crate::core) fn requested(&mut self) -> impl Iterator<Item = &mut Due> {
        self.queue.iter_mut().filter(|queued| queued.on_request).map(|queued| &mut queued.due)
    }

    /// All other fire times that wait.
    pub(in crate::core) fn waiting(&mut self) -> impl Iterator<Item = &mut Due> {
        let carried = self.saved.iter_mut().flat_map(|saved| &mut saved.carried);
        let parked = self.parked.iter_mut().flat_map(|(_, backlog)| backlog).chain(carried);
        let queue = self.queue.iter_mut().filter(|queued| !queued.on_request);
        parked.chain(
            queue.flat_map(|queued| std::iter::once(&mut queued.due).chain(&mut queued.backlog)),
        )
    }
}

impl<'a> Planner<'a> {
    pub(in crate::core) fn of<P>(
        job: &'a Job<P>,
        slot: u32,
        defaults: &'a Arc<JobOptions>,
        scheduler: u32,
    ) -> Planner<'a> {
        Planner {
            trigger: &job.trigger,
            options: job.options(defaults),
            seed: match job.options(defaults).jitter.is_zero() {
                true => 0,
                false => job.id(scheduler, slot).stable_hash(),
            },
            once: job.once,
        }
    }
}
