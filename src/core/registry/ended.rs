//! Jobs that are over, for a while: their last runs, for whoever asks by the job's id, and what they were
//! declared as, so that none of them begins anew when it is declared the same again.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    core::{Added, Core, Declaration, Discarded, Ended, JobKey, NewJob, Payload, fates::shrink},
    job::{End, JobId, Run},
};

/// How many jobs are kept.
const JOBS: usize = 1000;

/// How many runs of them, all together.
const RUNS: usize = 10_000;

/// For how long.
const AGE: TimeDelta = TimeDelta::minutes(10);

/// The jobs that ended last.
#[derive(Default)]
pub(in crate::core) struct Past {
    /// The latest last.
    jobs: VecDeque<Over>,
    runs: usize,
    /// Those that stay over as long as they are declared the same, by their ids.
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

impl<P: Payload> Core<P> {
    /// The last runs of a job of this id that is over: of this incarnation, or of the latest that is
    /// kept.
    pub(crate) fn past(
        &self,
        id: &JobId,
        key: Option<JobKey>,
        now: DateTime<Utc>,
    ) -> Option<Arc<[Run]>> {
        let is_meant = |it: &&Over| it.id == *id && key.is_none_or(|key| key == it.key);
        let over = self.past.jobs.iter().rev().find(is_meant)?;
        (!over.is_old(now)).then(|| over.history.clone())
    }

    /// Keeps the history of a job that ends now, and what it was declared as; forgets the oldest ones that
    /// are in its way.
    pub(in crate::core) fn remember(
        &mut self,
        key: JobKey,
        id: JobId,
        history: Arc<[Run]>,
        declared: Option<Box<Declaration>>,
        now: DateTime<Utc>,
    ) {
        if let Some(declared) = declared {
            self.past.declared.insert(id.clone(), (key, declared));
        }
        self.past.runs += history.len();
        self.past.jobs.push_back(Over { key, id, at: now, history });
        while let Some(oldest) = self.past.jobs.front()
            && (self.past.jobs.len() > JOBS || self.past.runs > RUNS || oldest.is_old(now))
            && let Some(oldest) = self.past.jobs.pop_front()
        {
            self.past.runs -= oldest.history.len();
            if self.past.declared.get(&oldest.id).is_some_and(|(key, _)| *key == oldest.key) {
                self.forget_end(&oldest.id);
            }
        }
    }

    /// Forgets that a job of this id is over: it can be declared anew. Says whether that was remembered.
    pub(crate) fn forget_end(&mut self, id: &JobId) -> bool {
        let Some((_, declared)) = self.past.declared.remove(id) else { return false };
        shrink(&mut self.past.declared);
        self.effects.discard(Discarded::Declaration(declared));
        true
    }

    /// The job of a new one's id, if that is over and the new one is declared the same.
    pub(in crate::core) fn stays_over(
        &self,
        new: &NewJob<P>,
        now: DateTime<Utc>,
    ) -> Option<(JobKey, JobId)> {
        let (id, declaration) = (new.id.as_ref()?, new.declared.as_ref()?);
        let (key, declared) = self.past.declared.get(id)?;
        let over = self.past.jobs.iter().rfind(|over| over.key == *key)?;
        (!over.is_old(now) && declared.is_same(declaration)).then(|| (*key, id.clone()))
    }

    /// Adds nothing: the job `key` is over, which is remembered from now on as long as when it ended.
    pub(in crate::core) fn stay_over(
        &mut self,
        (key, id): (JobKey, JobId),
        new: NewJob<P>,
        now: DateTime<Utc>,
    ) -> Added<P> {
        let jobs = &mut self.past.jobs;
        if let Some(index) = jobs.iter().rposition(|over| over.key == key)
            && let Some(over) = jobs.remove(index)
        {
            jobs.push_back(Over { at: now, ..over });
        }
        let NewJob { trigger, declared, options, payload, .. } = new;
        self.effects.discard_all(declared.map(Discarded::Declaration));
        options.into_iter().for_each(|options| self.effects.discard_options(options));
        let (end, history) = (End::Completed, None);
        self.effects.end(Ended { payload: payload.clone(), end, trigger, history });
        Added { key, id, payload }
    }
}
