//! The jobs of a store that have handles in this process: their known versions, and which changes
//! are news to the handles.

use std::collections::{HashMap, HashSet};

use crate::{
    core::{Reply, Request, claimer},
    job::JobId,
    ledger::{Incarnation, Record, RecordChange, RecordStatus, StoreChange},
};

/// The data that the shell keeps for the handles of a job.
pub(crate) trait Handles {
    /// Whether any handles are left.
    fn is_wanted(&self) -> bool;
}

/// The jobs of one store that were added or found here and may have handles.
pub(crate) struct Known<H> {
    jobs: HashMap<Incarnation, KnownJob<H>>,
}

struct KnownJob<H> {
    id: JobId,
    /// 0 while the job is being added: the store may not have it yet.
    version: u64,
    /// The highest version that the store notified of while the job was being added.
    noticed: u64,
    handles: H,
}

/// With fewer jobs, searching for jobs without handles is not worth it.
const FEW: usize = 64;

impl<H> Default for Known<H> {
    fn default() -> Known<H> {
        Known { jobs: HashMap::new() }
    }
}

impl<H: Handles> Known<H> {
    /// Keeps the job of a record at its version; at version 0 while the job is being added. Returns
    /// whether the job was changed or removed before its version was known, and the handles that
    /// were kept before.
    pub(crate) fn insert(&mut self, record: &Record, handles: H) -> (bool, Option<H>) {
        if self.jobs.len() >= FEW && self.jobs.len() == self.jobs.capacity() {
            self.jobs.retain(|_, known| known.handles.is_wanted());
        }
        let noticed = self.jobs.get(&record.incarnation).map_or(0, |known| known.noticed);
        let (id, version) = (record.id.clone(), record.version);
        let known = KnownJob { id, version, noticed, handles };
        let before = self.jobs.insert(record.incarnation, known);
        (noticed > version, before.map(|known| known.handles))
    }

    pub(crate) fn get(&self, incarnation: Incarnation) -> Option<&H> {
        self.jobs.get(&incarnation).map(|known| &known.handles)
    }

    pub(crate) fn get_mut(&mut self, incarnation: Incarnation) -> Option<&mut H> {
        self.jobs.get_mut(&incarnation).map(|known| &mut known.handles)
    }

    pub(crate) fn remove(&mut self, incarnation: Incarnation) -> Option<H> {
        self.jobs.remove(&incarnation).map(|known| known.handles)
    }

    /// Removes a job that could not be added.
    pub(crate) fn remove_unadded(&mut self, incarnation: Incarnation) -> Option<H> {
        let is_added = self.jobs.get(&incarnation).is_none_or(|known| known.version > 0);
        if is_added { None } else { self.remove(incarnation) }
    }

    /// Removes all jobs.
    pub(crate) fn drain(&mut self) -> Vec<H> {
        let jobs = std::mem::take(&mut self.jobs);
        jobs.into_values().map(|known| known.handles).collect()
    }

    /// Whether a change is news to the handles of the job.
    pub(crate) fn is_news(&mut self, change: StoreChange) -> bool {
        let Some((of, version)) = change.record() else { return false };
        let Some(known) = self.jobs.get_mut(&of) else { return false };
        if known.version == 0 {
            known.noticed = known.noticed.max(version);
            return false;
        }
        known.version < version && known.handles.is_wanted()
    }

    /// Adds the known jobs to a request for changes: all of them, or the named ones.
    pub(crate) fn add_to(&mut self, request: &mut Request) {
        let Request::Claim(claimer::Request::Changed { known, named }) = request else { return };
        let claimed: HashSet<Incarnation> = known.iter().map(|&(_, of, _)| of).collect();
        let before = known.len();
        let mut add = |of: Incarnation, job: &KnownJob<H>| {
            if job.version > 0 && !claimed.contains(&of) {
                known.push((job.id.clone(), of, job.version));
            }
        };
        match named {
            None => {
                self.jobs.retain(|_, job| job.handles.is_wanted());
                self.jobs.iter().for_each(|(of, job)| add(*of, job));
            }
            Some(named) => {
                let jobs = named.iter().filter_map(|(of, is)| Some((*of, is, self.jobs.get(of)?)));
                let old = jobs.filter(|(_, is, job)| job.version < **is);
                old.for_each(|(of, _, job)| add(of, job));
            }
        }
        // A simulation must not depend on the order of a map.
        known[before..].sort_unstable();
    }

    /// Learns the versions that a reply brings.
    pub(crate) fn update_versions(&mut self, reply: &Reply) {
        let Reply::Claim(claimer::Reply::Changed(changes)) = reply else { return };
        for RecordChange { incarnation, status } in changes {
            if let RecordStatus::Updated(record) = status
                && let Some(known) = self.jobs.get_mut(incarnation)
            {
                known.version = record.version;
            }
        }
    }
}
