//! How many rows of jobs in the store a node may claim beyond those that it has: what is due and can't
//! start is left to others.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    job::{DEFAULT_EXECUTOR, Group, JobOptions},
    ledger::Incarnation,
};

/// The room under each limit, as far as there is one.
#[derive(Debug, Default)]
pub(in crate::core) struct Allowance {
    pub(in crate::core) executors: HashMap<Arc<str>, usize>,
    pub(in crate::core) groups: HashMap<Arc<str>, usize>,
    /// Jobs under some limit of which this node has rows: nobody else may claim more of those.
    pub(in crate::core) claimed_jobs: HashSet<Incarnation>,
}

impl Allowance {
    /// Whether others are to have a job that has these options, since there is no room for it here.
    pub(in crate::core) fn is_full(&self, incarnation: Incarnation, options: &JobOptions) -> bool {
        if self.claimed_jobs.contains(&incarnation) {
            return false;
        }
        let executor = options.executor.as_deref().unwrap_or(DEFAULT_EXECUTOR);
        let group = options.group.as_ref().and_then(|group| self.groups.get(&group.name));
        self.executors.get(executor) == Some(&0) || group == Some(&0)
    }

    /// Counts rows that are claimed of such a job.
    pub(in crate::core) fn claim(&mut self, options: &JobOptions, rows: usize) {
        let executor = options.executor.as_deref().unwrap_or(DEFAULT_EXECUTOR);
        if let Some(room) = self.executors.get_mut(executor) {
            *room = room.saturating_sub(rows);
        }
        if let Some(Group { name, limit }) = &options.group {
            let room = self.groups.entry(name.clone()).or_insert(*limit as usize);
            *room = room.saturating_sub(rows);
        }
    }
}
