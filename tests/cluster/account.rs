//! The fate of each fire time: the ledger, compared with the schedules and the log.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use punctual::{
    SkipReason,
    store::{Fate, Incarnation, Row, RowKind, RowState, RunEnd},
};

use crate::{
    database::Held,
    jobs::{JOBS, Job, Span},
    log::{self, Execution},
    stage::Stage,
};

pub(crate) struct Account {
    span: Span,
    pub(crate) rows: Vec<Row>,
    pub(crate) executions: Vec<Execution>,
}

impl Account {
    pub(crate) fn of(stage: &Stage) -> Account {
        let (rows, executions) = (stage.database.rows(), log::read(&stage.log_path()));
        Account { span: stage.span, rows, executions }
    }

    /// Checks that all promises were kept, whatever happened to the nodes.
    pub(crate) fn check(&self) {
        for job in &JOBS {
            self.has_one_fate_for_each_fire_time(job);
            self.has_run_as_often_as_promised(job);
        }
        self.agrees_with_the_log();
        self.fences_grow();
    }

    /// Of two executions for one fire time, the later attempt has the higher fence.
    fn fences_grow(&self) {
        let mut last: HashMap<(&str, i64), &Execution> = HashMap::new();
        for execution in &self.executions {
            let who = &execution.who;
            if let Some(before) = last.insert((&who.job, who.fire_time), execution)
                && before.who.attempt != who.attempt
                && before.who.pid != who.pid
            {
                let grow = before.who.fence < who.fence && before.who.attempt < who.attempt;
                assert!(grow, "{before:?}, {execution:?}");
            }
        }
    }

    /// Checks that a process called nothing from this time on, in microseconds since 1970, of the rows
    /// that other nodes reclaimed from it.
    pub(crate) fn is_no_zombie(&self, pid: u32, from: i64, lost: &HashSet<Held>) {
        let mut here = self.executions.iter().filter(|run| run.who.pid == pid);
        let zombie = here.find(|run| run.called > from && lost.contains(&Held::of(&run.who)));
        assert!(zombie.is_none(), "from {from} on: {zombie:?}");
    }

    /// Checks that a process called something soon after this time.
    pub(crate) fn goes_on(&self, pid: u32, after: i64, soon: Duration) {
        let mut here = self.executions.iter().filter(|run| run.who.pid == pid);
        let soon = after + soon.as_micros() as i64;
        assert!(here.any(|run| (after..soon).contains(&run.called)), "{pid} goes on after {after}");
    }

    fn rows_of<'a>(&'a self, job: &'a Job) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(|row| row.job == job.id)
    }

    fn executions_of<'a>(&'a self, job: &'a Job) -> impl Iterator<Item = &'a Execution> {
        self.executions.iter().filter(|execution| execution.who.job == job.id)
    }

    fn has_one_fate_for_each_fire_time(&self, job: &Job) {
        let incarnations: HashSet<Incarnation> =
            self.rows_of(job).map(|row| row.key.incarnation).collect();
        assert_eq!(incarnations.len(), 1, "{}: it was added once", job.id);
        let mut ends = self.rows_of(job).filter(|row| row.key.kind == RowKind::Ended);
        let end = ends.next().map(|row| &row.state);
        assert_eq!(end, Some(&RowState::Closed(Fate::Completed)), "{}", job.id);
        let mut covered = Vec::new();
        for row in self.rows_of(job).filter(|row| row.key.kind == RowKind::Scheduled) {
            assert!(!row.state.is_open(), "{row:?}");
            let (first, last) = (row.fire_time.timestamp_millis(), row.last.timestamp_millis());
            let stretch = (first..=last).step_by(job.every_ms as usize);
            assert_eq!(stretch.clone().count() as u64, row.count, "{row:?}");
            covered.extend(stretch);
        }
        covered.sort_unstable();
        let doubled = covered.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(doubled, None, "{}: a fire time with two fates", job.id);
        let named: Vec<i64> = job.fire_times(self.span).collect();
        let difference = covered.iter().zip(&named).find(|(covered, named)| covered != named);
        assert_eq!(difference, None, "{}: a fire time without a fate", job.id);
        assert_eq!(covered.len(), named.len(), "{}", job.id);
    }

    fn has_run_as_often_as_promised(&self, job: &Job) {
        let (mut begun, mut ended) = (HashMap::<i64, u32>::new(), HashSet::new());
        for Execution { who, ended: to_its_end, .. } in self.executions_of(job) {
            *begun.entry(who.fire_time).or_default() += 1;
            if *to_its_end {
                ended.insert(who.fire_time);
            }
        }
        if !job.recover {
            let twice = begun.iter().find(|(_, times)| **times > 1);
            assert_eq!(twice, None, "{}: it runs at most once", job.id);
            return;
        }
        for row in self.rows_of(job) {
            match &row.state {
                RowState::Closed(Fate::Ran(RunEnd::Succeeded)) => {
                    let fire_time = row.fire_time.timestamp_millis();
                    assert!(ended.contains(&fire_time), "it runs at least once: {row:?}");
                }
                RowState::Closed(Fate::Ran(_) | Fate::Abandoned) => {
                    panic!("it runs at least once: {row:?}")
                }
                _ => {}
            }
        }
    }

    fn agrees_with_the_log(&self) {
        let rows: HashMap<_, _> = self
            .rows
            .iter()
            .map(|row| ((row.job.to_string(), row.fire_time.timestamp_millis()), row))
            .collect();
        let mut by_row: HashMap<(String, i64), Vec<&Execution>> = HashMap::new();
        for execution in &self.executions {
            let row = (execution.who.job.clone(), execution.who.fire_time);
            assert!(rows.contains_key(&row), "it has no row: {execution:?}");
            by_row.entry(row).or_default().push(execution);
        }
        for (place, row) in rows.into_iter().filter(|(_, row)| row.key.kind == RowKind::Scheduled) {
            let executions = by_row.get(&place).map_or(&[][..], Vec::as_slice);
            let RowState::Closed(fate) = &row.state else { continue };
            let agrees = match fate {
                Fate::Ran(RunEnd::Succeeded) => executions.iter().any(|execution| {
                    execution.ended
                        && (execution.who.fence, execution.who.attempt) == (row.fence, row.attempt)
                }),
                // The node did not trust its lease for a while.
                Fate::Ran(RunEnd::Cancelled) => {
                    executions.iter().any(|execution| execution.who.fence == row.fence)
                }
                Fate::Abandoned => true,
                Fate::Coalesced(_)
                | Fate::Skipped(SkipReason::MaxInstances | SkipReason::QueueFull) => {
                    executions.is_empty()
                }
                _ => false,
            };
            assert!(agrees, "{row:?}: {executions:?}");
        }
    }

    /// Checks that no two runs overlap of a job that allows only one. `died` are the processes that
    /// were killed, with the times.
    pub(crate) fn never_overlaps(&self, died: &HashMap<u32, i64>) {
        for job in JOBS.iter().filter(|job| job.max_instances == 1) {
            let mut before: Option<(&Execution, i64)> = None;
            for execution in self.executions_of(job) {
                if let Some((other, over)) = before {
                    assert!(over <= execution.began, "at once: {other:?}, {execution:?}");
                }
                let over = execution.over.or(died.get(&execution.who.pid).copied());
                let over = over.unwrap_or_else(|| panic!("it never ends: {execution:?}"));
                before = Some((execution, over));
            }
        }
    }

    /// Prints the number of fire times and their fates.
    pub(crate) fn print(&self) {
        let mut fates: HashMap<String, u64> = HashMap::new();
        for row in self.rows.iter().filter(|row| row.key.kind == RowKind::Scheduled) {
            let RowState::Closed(fate) = &row.state else { continue };
            let fate = match fate {
                Fate::Coalesced(_) => "coalesced".into(),
                fate => fate.to_string(),
            };
            *fates.entry(fate).or_default() += row.count;
        }
        let mut fates: Vec<_> = fates.into_iter().collect();
        fates.sort();
        let again = self.executions.iter().filter(|execution| execution.who.attempt > 1).count();
        println!("  {} executions, {again} of them again; {fates:?}", self.executions.len());
    }
}
