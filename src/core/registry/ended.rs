//! Jobs that ended recently: their last runs, for queries by id, and their declarations, so that an
//! unchanged declaration does not start an ended job again.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::Registry;
use crate::{
    core::{
        Added, Declaration, Discarded, Ended, JobKey, NewJob, Payload, effects::Effects, shrink,
    },
    job::{End, JobId, Run},
};

/// How many ended jobs are kept.
const JOBS: usize = 1000;

/// How many runs of ended jobs are kept, all together.
const RUNS: usize = 10_000;

/// How long an ended job is kept.
const AGE: TimeDelta = TimeDelta::minutes(10);

/// The jobs that ended last.
#[derive(Default)]
pub(super) struct EndedJobs {
    /// The latest last.
    jobs: VecDeque<Over>,
    runs: usize,
    /// The jobs that stay over as long as their declarations are unchanged, by id.
    declared: HashMap<JobId, (JobKey, Box<Declaration>)>,
}

struct Over {
    key: JobKey,
    id: JobId,
    at: DateTime<Utc>,
    history: Arc<[Run]>,
}

impl Over {
    fn is_old(&self, now: DateTime<Utc>) -> bool {
        now - self.at >= AGE
    }
}

impl<P: Payload> Registry<P> {
    /// Returns the last runs of an ended job with this id: of this incarnation, or of the latest
    /// that is kept.
    pub(in crate::core) fn past(
        &self,
        id: &JobId,
        key: Option<JobKey>,
        now: DateTime<Utc>,
    ) -> Option<Arc<[Run]>> {
        let is_meant = |it: &&Over| it.id == *id && key.is_none_or(|key| key == it.key);
        let over = self.ended.jobs.iter().rev().find(is_meant)?;
        (!over.is_old(now)).then(|| over.history.clone())
    }

    /// Keeps the history and the declaration of a job that ends now, and forgets the oldest jobs
    /// beyond the limits.
    pub(in crate::core) fn remember(
        &mut self,
        key: JobKey,
        id: JobId,
        history: Arc<[Run]>,
        declared: Option<Box<Declaration>>,
        now: DateTime<Utc>,
        effects: &mut Effects<P>,
    ) {
        if let Some(declared) = declared {
            self.ended.declared.insert(id.clone(), (key, declared));
        }
        self.ended.runs += history.len();
        self.ended.jobs.push_back(Over { key, id, at: now, history });
        while let Some(oldest) = self.ended.jobs.front()
            && (self.ended.jobs.len() > JOBS || self.ended.runs > RUNS || oldest.is_old(now))
            && let Some(oldest) = self.ended.jobs.pop_front()
        {
            self.ended.runs -= oldest.history.len();
            if self.ended.declared.get(&oldest.id).is_some_and(|(key, _)| *key == oldest.key) {
                self.forget_end(&oldest.id, effects);
            }
        }
    }

    /// Forgets the remembered end of a job with this id, so that the id can be declared again.
    /// Returns whether an end was remembered.
    pub(in crate::core) fn forget_end(&mut self, id: &JobId, effects: &mut Effects<P>) -> bool {
        let Some((_, declared)) = self.ended.declared.remove(id) else { return false };
        shrink(&mut self.ended.declared);
        effects.discard(Discarded::Declaration(declared));
        true
    }

    /// Returns the ended job with the id of `new`, if the declaration is unchanged.
    pub(in crate::core) fn stays_over(
        &self,
        new: &NewJob<P>,
        now: DateTime<Utc>,
    ) -> Option<(JobKey, JobId)> {
        let (id, declaration) = (new.id.as_ref()?, new.declared.as_ref()?);
        let (key, declared) = self.ended.declared.get(id)?;
        let over = self.ended.jobs.iter().rfind(|over| over.key == *key)?;
        (!over.is_old(now) && declared.is_same(declaration)).then(|| (*key, id.clone()))
    }

    /// Leaves the job `key` ended, and remembers its end from now on as if it had ended now.
    pub(in crate::core) fn stay_over(
        &mut self,
        (key, id): (JobKey, JobId),
        new: NewJob<P>,
        now: DateTime<Utc>,
        effects: &mut Effects<P>,
    ) -> Added<P> {
        let jobs = &mut self.ended.jobs;
        if let Some(index) = jobs.iter().rposition(|over| over.key == key)
            && let Some(over) = jobs.remove(index)
        {
            jobs.push_back(Over { at: now, ..over });
        }
        let NewJob { trigger, declared, options, payload, .. } = new;
        effects.discard_all(declared.map(Discarded::Declaration));
        options.into_iter().for_each(|options| effects.discard_options(options));
        let (end, history) = (End::Completed, None);
        effects.end(Ended { payload: payload.clone(), end, trigger, history });
        Added { key, id, payload }
    }
}
