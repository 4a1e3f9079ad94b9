//! How many more rows of durable jobs a node may claim: fire times that are due and cannot start
//! here are left to other nodes.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    job::{DEFAULT_EXECUTOR, Group, JobOptions},
    ledger::Incarnation,
};

/// The free slots of each limit, where there is a limit.
#[derive(Debug, Default)]
pub(in crate::core) struct Allowance {
    pub(in crate::core) executors: HashMap<Arc<str>, usize>,
    pub(in crate::core) groups: HashMap<Arc<str>, usize>,
    /// Jobs under a limit of which this node has claimed rows: no other node may claim more of
    /// these jobs.
    pub(in crate::core) claimed_jobs: HashSet<Incarnation>,
}

impl Allowance {
    /// Whether a job with these options is left to other nodes, since its limits have no free slots
    /// here.
    pub(in crate::core) fn is_full(&self, incarnation: Incarnation, options: &JobOptions) -> bool {
        if self.claimed_jobs.contains(&incarnation) {
            return false;
        }
        let executor = options.executor.as_deref().unwrap_or(DEFAULT_EXECUTOR);
        let group = options.group.as_ref().and_then(|group| self.groups.get(&group.name));
        self.executors.get(executor) == Some(&0) || group == Some(&0)
    }

    /// Counts claimed rows of a job with these options.
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
