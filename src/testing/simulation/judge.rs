//! The judge: compares the promises about a store's jobs with the true events and with the ledger.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    agenda::Life,
    clocks::{Micros, instant, micros},
    log::{Era, Execution, How, Log, describe, name},
    operation::is_poison,
    scenario::{MILLI, Scenario, micros_of},
};
use crate::{
    job::{Coalesce, JobOptions, Overlap, SkipReason},
    ledger::{Fate, Incarnation, Row, RowKey, RowKind, RowState, RunEnd, recoveries},
};

/// Judges everything after the end.
///
/// `alive` are the nodes that can still report outcomes.
pub(super) fn judge(log: &mut Log, scenario: &Scenario, rows: &[Row], alive: &[Life], now: Micros) {
    let mut of_row: BTreeMap<RowKey, Vec<Execution>> = BTreeMap::new();
    for execution in &log.executions {
        of_row.entry(execution.key).or_default().push(execution.clone());
    }
    let ledger: BTreeMap<RowKey, &Row> = rows.iter().map(|row| (row.key, row)).collect();
    let mut wrong = Vec::new();
    for (key, executions) in &of_row {
        match ledger.get(key) {
            Some(row) => judge_row(log, scenario, row, executions, alive, &mut wrong),
            None => wrong.push(format!("{} ran and is not in the ledger", name(*key))),
        }
    }
    for row in rows {
        if !of_row.contains_key(&row.key) {
            judge_row(log, scenario, row, &[], alive, &mut wrong);
        }
    }
    for incarnation in log.incarnations() {
        judge_coverage(log, incarnation, rows, scenario.faults.is_steady(), &mut wrong);
        judge_overlap(log, incarnation, &ledger, &mut wrong);
        judge_policies(log, incarnation, rows, &mut wrong);
        judge_end(log, incarnation, &ledger, &mut wrong);
    }
    judge_starts(log, scenario, &mut wrong);
    for what in wrong {
        log.wrong(now, what);
    }
}

/// The fate of a row must match the true events.
fn judge_row(
    log: &Log,
    scenario: &Scenario,
    row: &Row,
    executions: &[Execution],
    alive: &[Life],
    wrong: &mut Vec<String>,
) {
    let RowState::Closed(fate) = &row.state else { return };
    let refused = scenario.faults.refused && is_poison(row.key);
    let removed = log.removed.get(&row.key.incarnation).copied();
    let removed_by = |ended_at: Micros| removed.is_some_and(|at| at <= ended_at);
    let gives_way = options_of(log, row.key.incarnation)
        .any(|options| options.overlap == Overlap::CancelPrevious);
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
                let ended_at = last.ended.map_or(Micros::MAX, |(at, _)| at);
                let removed = removed_by(ended_at);
                if row.recover && *end == RunEnd::Cancelled && !removed && !gives_way {
                    say("nobody wanted it to end, and it is not run again");
                }
            }
        },
        // No node could report the outcome.
        Fate::Abandoned | Fate::RecoveredTooOften if refused => {}
        Fate::Abandoned | Fate::RecoveredTooOften => {
            let too_often = *fate == Fate::RecoveredTooOften;
            if too_often && !(row.recover && row.recoveries == 0) {
                say("it has recoveries left");
            }
            let ended_at = log.abandoned.get(&row.key).copied();
            // A run that waits for its recovery is called off when its job is removed, or gives
            // way.
            let called_off = row.attempt > 1 && (removed.is_some() || gives_way);
            let removed = removed_by(ended_at.unwrap_or(Micros::MAX));
            if row.recover && !too_often && !removed && !called_off {
                say("it was to be run again");
            }
            let has_reported = |last: &Execution| {
                let ran =
                    matches!(last.ended, Some((_, How::Ran(end))) if end != RunEnd::Cancelled);
                ran && alive.contains(&last.life)
            };
            // A failed run may have had further attempts.
            let retried =
                options_of(log, row.key.incarnation).any(|options| options.retry.is_some());
            if !retried && last.is_some_and(has_reported) {
                say("its node knows better");
            }
        }
        _ if !executions.is_empty() && !refused => say("it ran"),
        _ => {}
    }
    if row.recover {
        let firsts = firsts(executions);
        let deaths = firsts.iter().filter(|it| matches!(it.ended, Some((_, How::Crashed))));
        if deaths.count() > 1 + recoveries() as usize {
            say("it has killed more nodes than it may");
        }
        if !refused && firsts.windows(2).any(|pair| pair[0].attempt >= pair[1].attempt) {
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

/// Returns the first call of the work under each fence.
fn firsts(executions: &[Execution]) -> Vec<&Execution> {
    let mut firsts: Vec<&Execution> = Vec::new();
    for execution in executions {
        if !firsts.iter().any(|first| first.fence == execution.fence) {
            firsts.push(execution);
        }
    }
    firsts
}

fn options_of(log: &Log, incarnation: Incarnation) -> impl Iterator<Item = &JobOptions> {
    log.lives.get(&incarnation).into_iter().flatten().flat_map(|era| &era.options)
}

/// A fate without a run must follow from the options of the job.
fn judge_policies(log: &Log, incarnation: Incarnation, rows: &[Row], wrong: &mut Vec<String>) {
    let some = |is: &dyn Fn(&JobOptions) -> bool| options_of(log, incarnation).any(is);
    let rescheduled = log.rescheduled.contains(&incarnation)
        || log.lives.get(&incarnation).is_some_and(|eras| eras.len() > 1);
    let of_it = |row: &&Row| row.key.incarnation == incarnation;
    for row in rows.iter().filter(of_it) {
        let RowState::Closed(fate) = &row.state else { continue };
        let fits = match fate {
            Fate::Missed => some(&|options| options.misfire_grace_time.is_some()),
            Fate::Coalesced(into) if *into > row.last => {
                some(&|options| options.coalesce != Coalesce::Earliest)
            }
            Fate::Coalesced(_) => some(&|options| options.coalesce == Coalesce::Earliest),
            Fate::Skipped(reason) => match reason {
                SkipReason::MaxInstances => some(&|options| options.overlap == Overlap::Skip),
                SkipReason::QueueFull => {
                    some(&|options| matches!(options.overlap, Overlap::Queue(_)))
                }
                SkipReason::Superseded => {
                    rescheduled || some(&|options| options.overlap == Overlap::CancelPrevious)
                }
                SkipReason::Paused => log.paused.contains_key(&incarnation),
                SkipReason::Removed | SkipReason::Replaced => {
                    log.removed.contains_key(&incarnation)
                }
                // A store keeps no condition, and other nodes may run a job that this node does
                // not.
                SkipReason::Condition | SkipReason::Shutdown => false,
            },
            _ => true,
        };
        if !fits {
            wrong.push(format!("its job does not say so: {}", describe(row)));
        }
    }
}

/// Every fire time of an incarnation is covered by exactly one row, and nothing else is.
fn judge_coverage(
    log: &Log,
    incarnation: Incarnation,
    rows: &[Row],
    steady: bool,
    wrong: &mut Vec<String>,
) {
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
            // Fire times up to `next` were claimed, and those up to `passed` were closed.
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
        // At the instant of a reschedule both triggers may name it: one fire time is superseded.
        // And a node that did not notice elapsed time continues from an instant within a stretch of
        // the old trigger.
        let stretch = eras.len() > 1 && rows.iter().any(|row| row.count > 1);
        let tolerated = rows.len() == 2 && (seams.contains(time) || (stretch && !steady));
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

/// The largest number of fire times that a simulation can check.
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

/// A job never has more active runs than its limit.
fn judge_overlap(
    log: &Log,
    incarnation: Incarnation,
    ledger: &BTreeMap<RowKey, &Row>,
    wrong: &mut Vec<String>,
) {
    let Some(eras) = log.lives.get(&incarnation) else { return };
    let options = eras.iter().flat_map(|era| &era.options);
    let most = options.map(|options| options.max_instances as usize).max().unwrap_or(1);
    let stops = |key: &RowKey| most == 1 || ledger.get(key).is_some_and(|row| row.recover);
    let mut steps = Vec::new();
    let mut of_row: BTreeMap<RowKey, Vec<(Micros, Micros)>> = BTreeMap::new();
    for execution in log.executions.iter().filter(|it| it.key.incarnation == incarnation) {
        let mut ended = execution.ended.map_or(Micros::MAX, |(at, _)| at);
        ended = ended.min(execution.stopped.unwrap_or(Micros::MAX));
        if !stops(&execution.key)
            && let Some((node, _)) = log.claims.get(&(execution.key, execution.fence))
            && let Some(lapse) = log.lapse(*node, ended)
        {
            // The run may stay active alongside runs that other nodes start.
            ended = lapse.max(execution.began);
        }
        steps.push((execution.began, 1_isize, execution.key));
        steps.push((ended, -1, execution.key));
        of_row.entry(execution.key).or_default().push((execution.began, ended));
    }
    steps.sort_unstable_by_key(|&(at, step, _)| (at, step));
    let mut active = 0;
    for (at, step, key) in steps {
        active += step;
        if active > most as isize {
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

/// An incarnation ends with the fate that follows from the true events.
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

/// No run starts before its time, nor after a user was told that it will not, nor needlessly late.
fn judge_starts(log: &Log, scenario: &Scenario, wrong: &mut Vec<String>) {
    // How long a node may take to detect that its clock has stepped back.
    let lease = micros_of(scenario.lease);
    let learns = if scenario.clockless { lease.max(1_100 * MILLI) } else { lease };
    let mut begun = BTreeSet::new();
    for execution in &log.executions {
        let Execution { key, fence, began, attempt, life, uncertainty, .. } = *execution;
        let scheduled = key.kind == RowKind::Scheduled;
        // A retry follows its run, which was judged by the node's knowledge at that time.
        let retried = !begun.insert((key, fence));
        let due = DateTime::from_timestamp_millis(key.number).map_or(0, micros);
        // A fire time that has come due stays due, even if the store's clock steps back then.
        let latest = log.latest_by(began, learns);
        // A node treats two clocks as one until it can tell them apart: at most twice as far off.
        if scheduled && !retried && latest + 2 * uncertainty + MILLI < due {
            let early = (due - latest) as f64 / MILLI as f64;
            wrong.push(format!("{} starts {early} ms early, at ±{uncertainty} µs", name(key)));
        }
        for response in
            log.responses.iter().filter(|response| response.incarnation == key.incarnation)
        {
            let again = |&(incarnation, at): &(Incarnation, Micros)| {
                incarnation == key.incarnation && at <= began && at >= response.at - 10 * 1_000_000
            };
            // The node that reports the pause may have detected it late.
            let mut paused = log.paused.get(&key.incarnation).into_iter().flatten();
            let paused = paused.rfind(|paused| **paused <= response.at).copied();
            let resumed = log
                .unpaused
                .iter()
                .any(|unpaused| again(unpaused) && paused.is_some_and(|at| unpaused.1 > at));
            let exempt = !response.removed && (resumed || !scheduled || attempt > 1);
            if response.life == life && response.at < began && !exempt {
                let at = response.at / MILLI;
                wrong.push(format!(
                    "{} starts although {life:?} said at {at} ms that it will not",
                    name(key)
                ));
            }
        }
    }
    if scenario.faults.is_steady() {
        judge_grace(log, wrong);
    }
    if scenario.faults.is_steady() && scenario.crowd == 0 {
        judge_coalescing(log, wrong);
    }
    if scenario.faults.is_calm() {
        judge_lateness(log, scenario, wrong);
    }
}

/// Whether a run is the first attempt for a fire time.
fn is_first(execution: &Execution) -> bool {
    execution.key.kind == RowKind::Scheduled && execution.attempt == 1
}

/// Whether another run of the job was active between these instants, before this one began.
fn was_busy(log: &Log, execution: &Execution, since: Micros) -> bool {
    log.executions.iter().any(|other| {
        let ended = other.ended.map_or(Micros::MAX, |(at, _)| at);
        other.key.incarnation == execution.key.incarnation
            && other.began < execution.began
            && ended + MILLI > since
    })
}

/// The tolerance for a node's deviation from the right time.
fn tolerance(execution: &Execution) -> Micros {
    2 * execution.uncertainty + 15 * MILLI
}

/// No run starts later than its grace allows.
fn judge_grace(log: &Log, wrong: &mut Vec<String>) {
    for execution in log.executions.iter().filter(|execution| is_first(execution)) {
        let Execution { key, began, .. } = *execution;
        let most = |options: &JobOptions| Some(options.grace()? + options.jitter);
        let Some(most) = options_of(log, key.incarnation).map(most).collect::<Option<Vec<_>>>()
        else {
            continue;
        };
        let most = most.into_iter().max().map_or(Micros::MAX, micros_of);
        let due = DateTime::from_timestamp_millis(key.number).map_or(0, micros);
        if began - due > most.saturating_add(tolerance(execution)) {
            let late = (began - due) / MILLI;
            wrong.push(format!("{} starts {late} ms late, and is missed", name(key)));
        }
    }
}

/// Fire times that came due together have at most as many runs as the job catches up with.
fn judge_coalescing(log: &Log, wrong: &mut Vec<String>) {
    let mut together: BTreeMap<(Incarnation, u64), Vec<&Execution>> = BTreeMap::new();
    for execution in log.executions.iter().filter(|execution| is_first(execution)) {
        together.entry((execution.key.incarnation, execution.fence)).or_default().push(execution);
    }
    for ((incarnation, _), executions) in together {
        let most = |options: &JobOptions| match options.coalesce {
            Coalesce::All => options.max_catch_up as usize,
            _ => 1,
        };
        let most = options_of(log, incarnation).map(most).max().unwrap_or(usize::MAX);
        let simple = |options: &JobOptions| options.jitter.is_zero() && options.group.is_none();
        if executions.len() <= most || !options_of(log, incarnation).all(simple) {
            continue;
        }
        for first in &executions {
            let number = first.key.number;
            let since = DateTime::from_timestamp_millis(number).map_or(0, micros);
            let until = first.began - tolerance(first);
            let due = |other: &&&Execution| {
                let at = DateTime::from_timestamp_millis(other.key.number).map_or(0, micros);
                number <= other.key.number && at <= until
            };
            let count = executions.iter().filter(due).count();
            if count > most && !was_busy(log, first, since) {
                let name = name(first.key);
                wrong.push(format!("{name} is one of {count} that run, of {most}"));
            }
        }
    }
}

/// No run is late without an obstacle.
fn judge_lateness(log: &Log, scenario: &Scenario, wrong: &mut Vec<String>) {
    let bound = if scenario.claim_ahead.as_millis() < 300 { 400 * MILLI } else { 150 * MILLI };
    for execution in &log.executions {
        let Execution { key, began, attempt, .. } = *execution;
        let Some(eras) = log.lives.get(&key.incarnation) else { continue };
        // Notified changes need no poll, but they are not checked all the time; and there is no
        // notification when a node is done with a job that it could not continue.
        let notified = scenario.notified && !log.narrowed.contains(&key.incarnation);
        let poll = if notified { 100 * MILLI } else { micros_of(scenario.poll) };
        let due = DateTime::from_timestamp_millis(key.number).map_or(0, micros);
        let simple = |era: &Era| {
            era.options.iter().all(|options| options.jitter.is_zero() && options.group.is_none())
        };
        // A requested run is due as soon as its node detects the request.
        let due = match key.kind {
            RowKind::Scheduled => due,
            _ => log.requested.get(&key).map_or(Micros::MAX, |at| at + poll),
        };
        let late = attempt == 1 && began.saturating_sub(due) > bound;
        if !late || !eras.iter().all(simple) {
            continue;
        }
        let waits = |options: &JobOptions| {
            options.overlap != Overlap::Skip || options.coalesce == Coalesce::All
        };
        // A run that waits for no other run is skipped instead.
        let may_wait =
            key.kind != RowKind::Scheduled || options_of(log, key.incarnation).any(waits);
        let busy = may_wait && was_busy(log, execution, due - poll);
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
