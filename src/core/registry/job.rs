//! A job in the core.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Common;
use crate::{
    core::{
        Declaration, JobKey,
        decide::{Due, Planner},
        durable::claims::DurableJob,
        runs::{JobRuns, WaitingRuns},
        schedule::Timing,
    },
    job::{End, JobId, JobOptions, Labels, Made},
    trigger::Trigger,
};

pub(in crate::core) struct Job<P> {
    pub(in crate::core) incarnation: u64,
    pub(in crate::core) trigger: Trigger,
    /// When the job is due; private to the schedule.
    pub(in crate::core) timing: Timing,
    /// `None` for the scheduler's defaults, which many jobs share without a cost.
    pub(in crate::core) options: Option<Arc<JobOptions>>,
    /// The permits and the active runs; private to the runs.
    pub(in crate::core) runs: JobRuns,
    pub(in crate::core) once: bool,
    /// Whether the job follows the runs of an existing job.
    pub(in crate::core) follows: bool,
    pub(in crate::core) paused: bool,
    /// Removed, cancelled, replaced or shut down: only active runs keep the job here.
    pub(in crate::core) retired: bool,
    /// Boxed, since few jobs have any of it.
    pub(in crate::core) extras: Option<Box<Extras>>,
    pub(in crate::core) payload: P,
}

/// State that few jobs have.
#[derive(Default)]
pub(in crate::core) struct Extras {
    /// The id that the user gave.
    pub(in crate::core) id: Option<JobId>,
    pub(in crate::core) labels: Labels,
    /// The waiting submissions and the history; private to the runs.
    pub(in crate::core) runs: WaitingRuns,
    /// When the extra run is due that one of the job's runs requested.
    pub(in crate::core) again: Option<DateTime<Utc>>,
    /// How the job will have ended when its last run ends, if not as completed.
    pub(in crate::core) end: Option<End>,
    /// The additional state of a durable job.
    pub(in crate::core) durable: Option<Box<DurableJob>>,
    /// Boxed, since few jobs are declared or rescheduled.
    pub(in crate::core) saved: Option<Box<Saved>>,
}

/// State of jobs that are declared in code, or were rescheduled.
#[derive(Default)]
pub(in crate::core) struct Saved {
    /// The declaration.
    declared: Option<Box<Declaration>>,
    /// Fire times of earlier triggers, to be run when their jitter has passed.
    carried: Vec<Due>,
}

impl JobKey {
    /// Returns the number of the job in order of adding.
    pub(crate) fn incarnation(self) -> u64 {
        self.incarnation
    }
}

impl<P> Job<P> {
    pub(in crate::core) fn key(&self, slot: u32) -> JobKey {
        JobKey { slot, incarnation: self.incarnation }
    }

    /// Returns the id that the user gave.
    pub(in crate::core) fn given_id(&self) -> Option<&JobId> {
        self.extras.as_ref()?.id.as_ref()
    }

    /// Returns the id: the user's, or one made from the job's key.
    pub(in crate::core) fn id(&self, common: Common<'_>, slot: u32) -> JobId {
        let made = Made { scheduler: common.scheduler, slot, incarnation: self.incarnation };
        self.given_id().cloned().unwrap_or_else(|| JobId::made(made))
    }

    pub(in crate::core) fn options<'a>(&'a self, common: Common<'a>) -> &'a Arc<JobOptions> {
        self.options.as_ref().unwrap_or(common.defaults)
    }

    pub(in crate::core) fn labels(&self) -> Option<&Labels> {
        self.extras.as_ref().map(|extras| &extras.labels)
    }

    pub(in crate::core) fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Returns the declaration, if there is one.
    pub(in crate::core) fn declared(&self) -> Option<&Declaration> {
        self.extras.as_ref()?.saved.as_ref()?.declared.as_deref()
    }

    pub(in crate::core) fn take_declared(&mut self) -> Option<Box<Declaration>> {
        self.extras.as_mut()?.saved.as_mut()?.declared.take()
    }

    /// Sets the declaration. Returns the previous one.
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

    /// Returns the fire times of earlier triggers that are still to run.
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

    /// Removes the carried fire times that are due by `last`, and returns them in order.
    pub(in crate::core) fn take_carried(&mut self, last: DateTime<Utc>) -> Vec<Due> {
        let saved = self.extras.as_mut().and_then(|extras| extras.saved.as_mut());
        let carried =
            saved.map(|saved| saved.carried.extract_if(.., |due| due.at <= last).collect());
        let mut carried: Vec<Due> = carried.unwrap_or_default();
        carried.sort_by_key(|due| (due.fire_time, due.at));
        carried
    }
}

impl Extras {
    /// Returns all waiting fire times, except those of requested runs.
    pub(in crate::core) fn waiting(&mut self) -> impl Iterator<Item = &mut Due> {
        let carried = self.saved.iter_mut().flat_map(|saved| &mut saved.carried);
        self.runs.waiting().chain(carried)
    }
}

impl<'a> Planner<'a> {
    pub(in crate::core) fn of<P>(job: &'a Job<P>, slot: u32, common: Common<'a>) -> Planner<'a> {
        Planner {
            trigger: &job.trigger,
            options: job.options(common),
            seed: if job.options(common).jitter.is_zero() {
                0
            } else {
                job.id(common, slot).stable_hash()
            },
            once: job.once,
        }
    }
}
