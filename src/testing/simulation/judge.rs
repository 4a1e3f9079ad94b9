//! What is promised of a store's jobs, judged by what really happened and by what the ledger says.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    clocks::{Micros, instant, micros},
    log::{Era, Execution, How, Log, describe, name},
    scenario::{MILLI, Scenario, micros_of},
};
use crate::{
    job::SkipReason,
    store::{Fate, Incarnation, Row, RowKey, RowKind, RowState},
};

/// Judges all, when all is over.
pub(super) fn judge(log: &mut Log, scenario: &Scenario, rows: &[Row], now: Micros) {
    let mut of_row: BTreeMap<RowKey, Vec<Execution>> = BTreeMap::new();
    for execution in &log.executions {
        of_row.entry(execution.key).or_default().push(execution.clone());
    }
    let ledger: BTreeMap<RowKey, &Row> = rows.iter().map(|row| (row.key, row)).collect();
    let mut wrong = Vec::new();
    for (key, executions) in &of_row {
        match ledger.get(key) {
            Some(row) => judge_row(log, row, executions, &mut wrong),
            None => wrong.push(format!("{} ran and is not in the ledger", name(*key))),
        }
    }
    for row in rows {
        if !of_row.contains_key(&row.key) {
            judge_row(log, row, &[], &mut wrong);
        }
    }
    for incarnation in log.incarnations() {
        judge_coverage(log, incarnation, rows, &mut wrong);
        judge_overlap(log, incarnation, &mut wrong);
        judge_end(log, incarnation, &ledger, &mut wrong);
    }
    judge_starts(log, scenario, &mut wrong);
    for what in wrong {
        log.wrong(now, what);
    }
}

/// What the ledger says of a fire time is what happened.
fn judge_row(log: &Log, row: &Row, executions: &[Execution], wrong: &mut Vec<String>) {
    let RowState::Closed(fate) = &row.state else { return };
    let mut say = |what: &str| wrong.push(format!("{what}: {}", describe(row)));
    let last = executions.iter().rfind(|execution| execution.fence == row.fence);
    match fate {
        Fate::Ran(end) => match last {
            None => say("it did not run under that fence"),
            Some(last) => {
                if last.ended.map(|(_, how)| how) != Some(How::Ran(*end)) {
                    say(&format!("it ended as {:?}", last.ended));
                }
                if last.attempt != row.attempt {
                    say(&format!("its last attempt was {}", last.attempt));
                }
                if row.recover && row.started_at.is_none() {
                    say("nobody knows when it started");
                }
            }
        },
        Fate::Abandoned => {
            let ran = last.and_then(|last| last.ended).map(|(_, how)| how);
            let dropped = ran.is_none_or(|how| how == How::Crashed);
            let removed = log.removed.contains_key(&row.key.incarnation);
            if row.recover && dropped && !removed && !executions.is_empty() {
                say("it was to be run again");
            }
        }
        // One that its node began and did not end may be removed before it is begun again, or give way
        // to a later one.
        Fate::Skipped(SkipReason::Removed | SkipReason::Superseded) if row.attempt > 1 => {}
        _ if !executions.is_empty() => say("it ran"),
        _ => {}
    }
    if row.recover {
        let firsts = firsts(executions);
        if firsts.windows(2).any(|pair| pair[0].attempt >= pair[1].attempt) {
            say("its attempts do not grow");
        }
        if firsts.windows(2).any(|pair| pair[0].fence >= pair[1].fence) {
            say("its fences do not grow");
        }
    } else if executions.windows(2).any(|pair| pair[0].fence != pair[1].fence) {
        say("it was to run at most once and was handed out again");
    }
    let first = |execution: &&Execution| execution.attempt == 1;
    if executions.iter().filter(first).count() > 1 {
        say("its first attempt was made more than once");
    }
}

/// The first call of the work under each fence.
fn firsts(executions: &[Execution]) -> Vec<&Execution> {
    let mut firsts: Vec<&Execution> = Vec::new();
    for execution in executions {
        if !firsts.iter().any(|first| first.fence == execution.fence) {
            firsts.push(execution);
        }
    }
    firsts
}

/// Every fire time of an incarnation is covered by one row, and nothing else is.
fn judge_coverage(log: &Log, incarnation: Incarnation, rows: &[Row], wrong: &mut Vec<String>) {
    let Some(eras) = log.lives.get(&incarnation) else { return };
    let mut covered: BTreeMap<DateTime<Utc>, Vec<&Row>> = BTreeMap::new();
    let of_it = |row: &&Row| row.key.incarnation == incarnation;
    for row in rows.iter().filter(of_it).filter(|row| row.key.kind == RowKind::Scheduled) {
        let Some(&era) = log.era_of.get(&row.key) else {
            wrong.push(format!("nobody wrote {}", describe(row)));
            continue;
        };
        let times = match row.count {
            1 => vec![row.fire_time],
            _ => fire_times(&eras[era], row.fire_time, row.last),
        };
        if times.len() as u64 != row.count
            || times.first() != Some(&row.fire_time)
            || times.last() != Some(&row.last)
        {
            wrong.push(format!("there are {} fire times in {}", times.len(), describe(row)));
        }
        times.into_iter().for_each(|time| covered.entry(time).or_default().push(row));
    }
    let mut expected = BTreeSet::new();
    let mut seams = BTreeSet::new();
    for era in eras {
        let Some(first) = era.first else { continue };
        let last = match &era.end {
            // Those up to `next` were taken, and those up to `passed` were passed over.
            Some(end) => {
                seams.insert(end.passed);
                let before = end.next.map(|next| next - TimeDelta::milliseconds(1));
                before.map(|before| before.max(end.passed))
            }
            None => None,
        };
        expected.extend(fire_times(era, first, last.unwrap_or(DateTime::<Utc>::MAX_UTC)));
    }
    let job = incarnation.0 & 0xffff;
    for time in &expected {
        if !covered.contains_key(time) {
            wrong.push(format!("job {job:04x} for {} ms has no fate", micros(*time) / MILLI));
        }
    }
    for (time, rows) in &covered {
        if !expected.contains(time) {
            wrong.push(format!("no trigger names {}", describe(rows[0])));
        }
        // At the instant of a reschedule both triggers may name it: one is superseded. And what was taken
        // ahead by an old trigger may lie in a stretch of a new one.
        let stretch = eras.len() > 1 && rows.iter().any(|row| row.count > 1);
        let tolerated = rows.len() == 2 && (seams.contains(time) || stretch);
        if rows.len() > 1 && !tolerated {
            let rows: Vec<String> = rows.iter().map(|row| describe(row)).collect();
            wrong.push(format!(
                "{} ms is covered twice: {}",
                micros(*time) / MILLI,
                rows.join("; ")
            ));
        }
    }
}

/// As many fire times as a simulation can see.
const MOST: usize = 100_000;

fn fire_times(era: &Era, first: DateTime<Utc>, last: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let mut times = Vec::new();
    let mut next = Some(first);
    while let Some(time) = next.filter(|&time| time <= last && times.len() < MOST) {
        times.push(time);
        next = era.trigger.next_after(time).ok().flatten();
    }
    times
}

/// No more runs of a job go on at once than it says.
fn judge_overlap(log: &Log, incarnation: Incarnation, wrong: &mut Vec<String>) {
    let Some(eras) = log.lives.get(&incarnation) else { return };
    let options = eras.iter().flat_map(|era| &era.options);
    let most = options.map(|options| options.max_instances as usize).max().unwrap_or(1);
    let stops = most == 1 || eras.iter().any(|era| era.recover);
    let mut steps = Vec::new();
    let mut of_row: BTreeMap<RowKey, Vec<(Micros, Micros)>> = BTreeMap::new();
    for execution in log.executions.iter().filter(|it| it.key.incarnation == incarnation) {
        let mut ended = execution.ended.map_or(Micros::MAX, |(at, _)| at);
        ended = ended.min(execution.stopped.unwrap_or(Micros::MAX));
        if !stops
            && let Some((node, _)) = log.takes.get(&(execution.key, execution.fence))
            && let Some(lapse) = log.lapse(*node, ended)
        {
            // It may go on beside those that others start.
            ended = lapse.max(execution.began);
        }
        steps.push((execution.began, 1_isize, execution.key));
        steps.push((ended, -1, execution.key));
        of_row.entry(execution.key).or_default().push((execution.began, ended));
    }
    steps.sort_unstable_by_key(|&(at, step, _)| (at, step));
    let mut going = 0;
    for (at, step, key) in steps {
        going += step;
        if going > most as isize {
            let at = at as f64 / MILLI as f64;
            wrong.push(format!("{} is one too many at {at} ms, of {most}", name(key)));
            break;
        }
    }
    for (key, spans) in of_row {
        if spans.windows(2).any(|pair| pair[1].0 < pair[0].1) {
            wrong.push(format!("{} runs twice at once", name(key)));
        }
    }
}

/// An incarnation ends as what became of it says.
fn judge_end(
    log: &Log,
    incarnation: Incarnation,
    ledger: &BTreeMap<RowKey, &Row>,
    wrong: &mut Vec<String>,
) {
    let key = RowKey { incarnation, kind: RowKind::Ended, number: 0 };
    let fate = ledger.get(&key).map(|row| &row.state);
    let removed = log.removed.contains_key(&incarnation);
    let fits = match fate {
        Some(RowState::Closed(Fate::Completed)) => !removed,
        Some(RowState::Closed(Fate::Removed | Fate::Replaced)) => removed,
        _ => false,
    };
    if !fits {
        wrong.push(format!("{} is {fate:?}, removed: {removed}", name(key)));
    }
}

/// Nothing starts before its time, nor after somebody was told that it will not, nor needlessly late.
fn judge_starts(log: &Log, scenario: &Scenario, wrong: &mut Vec<String>) {
    for execution in &log.executions {
        let Execution { key, began, attempt, life, uncertainty, .. } = *execution;
        let scheduled = key.kind == RowKind::Scheduled;
        let due = DateTime::from_timestamp_millis(key.number).map_or(0, micros);
        // A node takes two clocks for one as long as it can't tell them apart: twice as far off at most.
        if scheduled && began + 2 * uncertainty + MILLI < due {
            let early = (due - began) as f64 / MILLI as f64;
            wrong.push(format!("{} starts {early} ms early, at ±{uncertainty} µs", name(key)));
        }
        for told in log.told.iter().filter(|told| told.incarnation == key.incarnation) {
            let again = |&(incarnation, at): &(Incarnation, Micros)| {
                incarnation == key.incarnation && at <= began && at >= told.at - 10 * 1_000_000
            };
            let resumed = log
                .unpaused
                .iter()
                .any(|unpaused| again(unpaused) && unpaused.1 > told.at - scenario.patience() * 8);
            let exempt = !told.removed && (resumed || !scheduled || attempt > 1);
            if told.life == life && told.at < began && !exempt {
                let at = told.at / MILLI;
                wrong.push(format!(
                    "{} starts although {life:?} said at {at} ms that it will not",
                    name(key)
                ));
            }
        }
    }
    if scenario.faults.is_calm() {
        judge_lateness(log, scenario, wrong);
    }
}

/// Nothing is late when nothing is in its way.
fn judge_lateness(log: &Log, scenario: &Scenario, wrong: &mut Vec<String>) {
    let poll = micros_of(scenario.poll);
    let bound = if scenario.claim_ahead.as_millis() < 300 { 400 * MILLI } else { 150 * MILLI };
    for execution in &log.executions {
        let Execution { key, began, attempt, .. } = *execution;
        let Some(eras) = log.lives.get(&key.incarnation) else { continue };
        let due = DateTime::from_timestamp_millis(key.number).map_or(0, micros);
        let simple = |era: &Era| {
            era.options.iter().all(|options| options.jitter.is_zero() && options.group.is_none())
        };
        let late = key.kind == RowKind::Scheduled && attempt == 1 && began - due > bound;
        if !late || !eras.iter().all(simple) {
            continue;
        }
        let busy = log.executions.iter().any(|other| {
            let ended = other.ended.map_or(Micros::MAX, |(at, _)| at);
            other.key.incarnation == key.incarnation && other.began < began && ended + MILLI > due
        });
        let news = eras.iter().any(|era| due < era.since + poll + bound);
        let resumed = log.unpaused.iter().any(|&(incarnation, at)| {
            incarnation == key.incarnation && due < at + poll + bound && at < began
        });
        if !busy && !news && !resumed {
            let late = instant(began) - instant(due);
            wrong.push(format!("{} starts {} ms late", name(key), late.num_milliseconds()));
        }
    }
}
