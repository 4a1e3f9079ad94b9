//! Limits of runs beyond their job: executors with a number of workers, and groups of jobs. A run
//! without a free slot waits its turn.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    core::{StoreKey, durable::allowance::Allowance, registry::table::Table},
    error::Error,
    job::{DEFAULT_EXECUTOR, Group, JobOptions, RunId},
    ledger::Incarnation,
};

pub(in crate::core) struct Limits {
    all: Table<Limit>,
    executors: HashMap<Arc<str>, Executor>,
    /// How many jobs name each executor, including executors that do not exist: a durable job may
    /// name one that is added later.
    named: HashMap<Arc<str>, usize>,
    /// The limit of the default executor, if it has one.
    default: Option<u32>,
    groups: HashMap<Arc<str>, u32>,
}

struct Executor {
    limit: Option<u32>,
}

struct Limit {
    /// The group of this limit, or `None` for an executor.
    group: Option<Arc<str>>,
    max: u32,
    in_use: u32,
    /// How many jobs name the group.
    jobs: usize,
    waiting: BTreeMap<Turn, Waiting>,
    /// How many rows this node has claimed of each durable job that names this limit; below, their
    /// sum.
    claims: HashMap<(StoreKey, Incarnation), usize>,
    claimed: usize,
    /// How many runs have begun; the last sample of that number, with its time; how many began in
    /// the second before the sample.
    begun: u64,
    measured: (TimeDelta, u64),
    pace: u64,
}

/// The order of waiting runs: by fire time, then priority, then the order of adding, then the order
/// of runs.
pub(in crate::core) type Turn = (DateTime<Utc>, Reverse<i32>, u64, RunId);

#[derive(Clone, Copy)]
struct Waiting {
    run: u32,
    on_request: bool,
}

/// The limits of which a run uses a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::core) struct Slots([Option<u32>; 2]);

impl Limits {
    pub(in crate::core) fn new() -> Limits {
        Limits {
            all: Table::new(),
            executors: HashMap::new(),
            named: HashMap::new(),
            default: None,
            groups: HashMap::new(),
        }
    }

    /// Adds an executor for up to `max` runs at once, or without a limit.
    pub(in crate::core) fn add_executor(
        &mut self,
        name: Arc<str>,
        max: Option<u32>,
    ) -> Result<(), Error> {
        if self.executors.contains_key(&name) {
            return Err(Error::invalid_option(format!(
                "there is an executor `{name}` already: choose another name, or remove it first"
            )));
        }
        let limit = max.map(|max| self.all.insert_with(|_| Limit::new(None, max)));
        if *name == *DEFAULT_EXECUTOR {
            self.default = limit;
        }
        self.executors.insert(name, Executor { limit });
        Ok(())
    }

    pub(in crate::core) fn remove_executor(&mut self, name: &str) -> Result<(), Error> {
        let unused = match self.executors.get(name) {
            None => return Err(self.unknown(name)),
            Some(_) if name == DEFAULT_EXECUTOR => {
                return Err(Error::invalid_option(
                    "the executor `default` can't be removed: jobs that name none go there",
                ));
            }
            Some(_) if self.named.contains_key(name) => false,
            Some(Executor { limit }) => limit.filter(|&limit| self.all[limit].is_used()).is_none(),
        };
        if !unused {
            return Err(Error::invalid_option(format!(
                "executor `{name}` is used by jobs: remove them, or modify them to name another"
            )));
        }
        if let Some(limit) = self.executors.remove(name).and_then(|executor| executor.limit) {
            self.all.remove(limit);
        }
        Ok(())
    }

    fn unknown(&self, name: &str) -> Error {
        let mut names: Vec<&str> = self.executors.keys().map(|name| &**name).collect();
        names.sort_unstable();
        Error::invalid_option(format!(
            "there is no executor `{name}`, but `{}`: add it first, with `scheduler.add_executor(\"{name}\", ..)`",
            names.join("`, `")
        ))
    }

    /// Checks whether a job may have these options; `old` are its options now, if any.
    pub(in crate::core) fn check(
        &self,
        options: &JobOptions,
        old: Option<&JobOptions>,
    ) -> Result<(), Error> {
        if let Some(name) = &options.executor
            && !self.executors.contains_key(name)
        {
            return Err(self.unknown(name));
        }
        let Some(group) = &options.group else { return Ok(()) };
        let Some(&number) = self.groups.get(&group.name) else { return Ok(()) };
        let there = &self.all[number];
        // The only job of a group may change the limit.
        let alone = there.jobs == 1
            && old.and_then(|old| old.group.as_ref()).is_some_and(|old| old.name == group.name);
        if there.max != group.limit && !alone {
            return Err(group.contradicted(there.max));
        }
        Ok(())
    }

    /// Counts a job with these checked options. Returns the limit that may have changed.
    pub(in crate::core) fn join(&mut self, options: &JobOptions) -> Option<u32> {
        if let Some(name) = &options.executor {
            *self.named.entry(name.clone()).or_default() += 1;
        }
        let named = options.group.as_ref()?;
        let group = self.group(named);
        self.all[group].jobs += 1;
        self.all[group].max = named.limit;
        Some(group)
    }

    /// Returns the limit of a group, adding the group if it does not exist.
    fn group(&mut self, Group { name, limit }: &Group) -> u32 {
        let make = || self.all.insert_with(|_| Limit::new(Some(name.clone()), *limit));
        *self.groups.entry(name.clone()).or_insert_with(make)
    }

    /// Uncounts a job with these options.
    pub(in crate::core) fn leave(&mut self, options: &JobOptions) {
        if let Some(name) = &options.executor
            && let Some(jobs) = self.named.get_mut(name)
        {
            *jobs -= 1;
            if *jobs == 0 {
                self.named.remove(name);
            }
        }
        if let Some(Group { name, .. }) = &options.group
            && let Some(&group) = self.groups.get(name)
        {
            self.all[group].jobs -= 1;
            self.tidy(group);
        }
    }

    /// Removes a group that no job names and no run belongs to.
    fn tidy(&mut self, limit: u32) {
        let Limit { group: Some(name), jobs: 0, .. } = &self.all[limit] else { return };
        if !self.all[limit].is_used() {
            // A newer group may have the same name.
            if self.groups.get(name) == Some(&limit) {
                self.groups.remove(name);
            }
            self.all.remove(limit);
        }
    }

    /// Uses one slot of each limit of a run with these options, or returns the limit that is full.
    pub(in crate::core) fn try_acquire_slots(
        &mut self,
        options: &JobOptions,
    ) -> Result<Slots, u32> {
        let executor = match &options.executor {
            None => self.default,
            Some(name) => self.executors.get(name).and_then(|executor| executor.limit),
        };
        let group = options.group.as_ref().and_then(|group| self.groups.get(&group.name)).copied();
        let mut slots = Slots([executor, group]);
        if let Some(full) = slots.iter().find(|&limit| !self.all[limit].has_room()) {
            return Err(full);
        }
        if let Some(group) = options.group.as_ref().filter(|_| group.is_none()) {
            // A run that is tried again keeps its options, and no job may name the group any more.
            slots.0[1] = Some(self.group(group));
        }
        for limit in slots.iter() {
            self.all[limit].in_use += 1;
            self.all[limit].begun += 1;
        }
        Ok(slots)
    }

    /// Sets how many rows this node has claimed of a durable job with these options.
    pub(in crate::core) fn count_claimed(
        &mut self,
        job: (StoreKey, Incarnation),
        options: &JobOptions,
        now: usize,
    ) {
        let executor = match &options.executor {
            None => self.default,
            Some(name) => self.executors.get(name).and_then(|executor| executor.limit),
        };
        let group = options.group.as_ref().and_then(|group| self.groups.get(&group.name)).copied();
        for limit in [executor, group].into_iter().flatten() {
            let limit = &mut self.all[limit];
            let before = match now {
                0 => limit.claims.remove(&job),
                _ => limit.claims.insert(job, now),
            };
            limit.claimed = (limit.claimed + now).saturating_sub(before.unwrap_or_default());
        }
    }

    /// Returns how many more rows of this store's jobs may be claimed.
    pub(in crate::core) fn room(&mut self, store: StoreKey, now: TimeDelta) -> Allowance {
        let mut room = Allowance::default();
        for (name, executor) in &self.executors {
            if let Some(limit) = executor.limit {
                room.executors.insert(name.clone(), self.all[limit].room(now));
                room.claimed_jobs.extend(self.all[limit].claims_in(store));
            }
        }
        for (name, &limit) in &self.groups {
            room.groups.insert(name.clone(), self.all[limit].room(now));
            room.claimed_jobs.extend(self.all[limit].claims_in(store));
        }
        room
    }

    /// Frees a slot.
    pub(in crate::core) fn give_back(&mut self, limit: u32) {
        self.all[limit].in_use -= 1;
    }

    pub(in crate::core) fn wait(&mut self, limit: u32, turn: Turn, run: u32, on_request: bool) {
        self.all[limit].waiting.insert(turn, Waiting { run, on_request });
    }

    pub(in crate::core) fn change_turn(&mut self, limit: u32, old: Turn, new: Turn) {
        let waiting = &mut self.all[limit].waiting;
        if let Some(run) = waiting.remove(&old) {
            waiting.insert(new, run);
        }
    }

    pub(in crate::core) fn stop_waiting(&mut self, limit: u32, turn: Turn) {
        self.all[limit].waiting.remove(&turn);
        self.tidy(limit);
    }

    /// Returns the next waiting run if a slot is free, and removes the run from the queue. While
    /// the scheduler is paused, only requested runs have a turn.
    pub(in crate::core) fn next(&mut self, limit: u32, paused: bool) -> Option<u32> {
        let there = self.all.get_mut(limit)?;
        let next = match paused {
            _ if !there.has_room() => None,
            false => there.waiting.pop_first().map(|(_, next)| next),
            true => {
                let turn = there.waiting.iter().find(|(_, waiting)| waiting.on_request);
                let turn = turn.map(|(&turn, _)| turn);
                turn.and_then(|turn| there.waiting.remove(&turn))
            }
        };
        if next.is_none() {
            self.tidy(limit);
        }
        next.map(|next| next.run)
    }

    /// Returns all limits that have waiting runs.
    pub(in crate::core) fn waited_for(&self) -> Vec<u32> {
        let waited_for = self.all.iter().filter(|(_, limit)| !limit.waiting.is_empty());
        waited_for.map(|(limit, _)| limit).collect()
    }

    /// Whether no slot is in use, no run waits and no group is left.
    #[cfg(test)]
    pub(in crate::core) fn is_idle(&self) -> bool {
        self.groups.is_empty() && self.all.iter().all(|(_, limit)| !limit.is_used())
    }
}

impl Limit {
    fn new(group: Option<Arc<str>>, max: u32) -> Limit {
        Limit {
            group,
            max,
            in_use: 0,
            jobs: 0,
            waiting: BTreeMap::new(),
            claims: HashMap::new(),
            claimed: 0,
            begun: 0,
            measured: (TimeDelta::MIN, 0),
            pace: 0,
        }
    }

    /// Returns how many more rows may be claimed. Enough rows for all slots, and for the runs that
    /// begin within a second, are enough until slots are free again.
    fn room(&mut self, now: TimeDelta) -> usize {
        let (at, count) = self.measured;
        let began = self.begun - count;
        if at < now - TimeDelta::seconds(2) {
            (self.pace, self.measured) = (0, (now, self.begun));
        } else if at <= now - TimeDelta::seconds(1) {
            (self.pace, self.measured) = (began, (now, self.begun));
        } else {
            self.pace = self.pace.max(began);
        }
        (self.max as usize).saturating_add(self.pace as usize).saturating_sub(self.claimed)
    }

    /// Returns the jobs in this store of which the node has claimed rows.
    fn claims_in(&self, store: StoreKey) -> impl Iterator<Item = Incarnation> {
        let claims = self.claims.keys().filter(move |(of, _)| *of == store);
        claims.map(|&(_, incarnation)| incarnation)
    }

    fn has_room(&self) -> bool {
        self.in_use < self.max
    }

    fn is_used(&self) -> bool {
        self.in_use > 0 || !self.waiting.is_empty()
    }
}

impl Slots {
    pub(in crate::core) fn iter(self) -> impl Iterator<Item = u32> {
        self.0.into_iter().flatten()
    }
}
