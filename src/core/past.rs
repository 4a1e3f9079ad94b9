//! The last runs of jobs that are over: kept for a while, for whoever asks by the job's id.

use std::{collections::VecDeque, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Core, JobKey, Payload};
use crate::job::{JobId, Run};

/// How many jobs are kept.
const JOBS: usize = 1000;

/// How many runs of them, all together.
const RUNS: usize = 10_000;

/// For how long.
const AGE: TimeDelta = TimeDelta::minutes(10);

/// The jobs that ended last, the latest last.
#[derive(Default)]
pub(super) struct Past {
    jobs: VecDeque<Ended>,
    runs: usize,
}

struct Ended {
    key: JobKey,
    id: JobId,
    at: DateTime<Utc>,
    history: Arc<[Run]>,
}

impl Past {
    /// Keeps the history of a job that ends now; forgets the oldest ones that are in its way.
    pub(super) fn keep(&mut self, key: JobKey, id: JobId, history: Arc<[Run]>, now: DateTime<Utc>) {
        self.runs += history.len();
        self.jobs.push_back(Ended { key, id, at: now, history });
        while let Some(oldest) = self.jobs.front()
            && (self.jobs.len() > JOBS || self.runs > RUNS || oldest.is_old(now))
        {
            self.runs -= oldest.history.len();
            self.jobs.pop_front();
        }
    }
}

impl Ended {
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
        let is_meant = |it: &&Ended| it.id == *id && key.is_none_or(|key| key == it.key);
        let ended = self.past.jobs.iter().rev().find(is_meant)?;
        (!ended.is_old(now)).then(|| ended.history.clone())
    }
}
