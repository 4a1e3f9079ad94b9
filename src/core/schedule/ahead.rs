//! Which fire times of a durable job a node claims ahead, and the fates of those that have passed:
//! a pure function of the job's record, its waiting rows, and the time.

use chrono::{DateTime, TimeDelta, Utc};

use super::decide::{Due, Planner, mix};
use crate::{
    error::Error,
    escape::one_line,
    job::{Coalesce, FireTimes, JobOptions, RunId, SkipReason},
    json,
    ledger::{ClaimRequest, Decision, Fate, NodeId, Record, Row, RowKey, RowKind, RowState},
    trigger::{Kind, Trigger},
};

/// The maximum number of rows of one job in one claim: as many as come due in a second at most. A store
/// hands over no more waiting rows.
const MAX_ROWS: usize = ClaimRequest::MOST_WAITING;

/// How much of an unreadable text the error quotes, in bytes.
const QUOTED: usize = 1024;

/// The parts of a record that decide about its fire times.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) trigger: Trigger,
    pub(crate) options: JobOptions,
}

impl Definition {
    pub(crate) fn read(record: &Record) -> Result<Definition, Error> {
        let unreadable = |what: &str, text: &str, error: &dyn std::fmt::Display| {
            Error::unreadable(format!(
                "the {what} of job `{}`, `{}`, can't be read: {}; the record is kept",
                record.id,
                one_line(text, QUOTED),
                one_line(error, QUOTED)
            ))
        };
        for (what, text) in [("trigger", &record.trigger), ("options", &record.options)] {
            json::check(format_args!("the {what} of job `{}`", record.id), text)
                .map_err(|error| Error::unreadable(format!("{error}; the record is kept")))?;
        }
        let trigger: Trigger = serde_json::from_str(&record.trigger)
            .map_err(|error| unreadable("trigger", &record.trigger, &error))?;
        let options: JobOptions = serde_json::from_str(&record.options)
            .map_err(|error| unreadable("options", &record.options, &error))?;
        options.validate().map_err(|error| unreadable("options", &record.options, &error))?;
        Ok(Definition { trigger, options })
    }

    fn planner(&self, record: &Record) -> Planner<'_> {
        let seed = if self.options.jitter.is_zero() { 0 } else { record.id.stable_hash() };
        Planner { trigger: &self.trigger, options: &self.options, seed, once: false }
    }

    /// Returns when a fire time is due by the store's clock.
    pub(in crate::core) fn due(&self, record: &Record, fire_time: DateTime<Utc>) -> DateTime<Utc> {
        self.planner(record).due(fire_time).at
    }
}

/// Returns the number of the run of a row. It is the same on every node.
pub(crate) fn run_id(key: RowKey) -> RunId {
    let row = mix(key.number as u64 ^ ((key.kind as u64) << 62));
    // Numbers that a scheduler counts have the highest bit clear.
    RunId(mix(key.incarnation.0 ^ row) | 1 << 63)
}

/// Returns the row of a requested run.
pub(in crate::core) fn requested(record: &Record, number: u64, now: DateTime<Utc>) -> Row {
    let key = RowKey {
        incarnation: record.incarnation,
        kind: RowKind::Requested,
        number: number.cast_signed(),
    };
    Row { key, state: RowState::Waiting, ..row(record, FireTimes::one(now), RowState::Waiting) }
}

/// Returns the rows of unclaimed fire times up to `now` that pass without a run because the record
/// or its trigger goes.
pub(in crate::core) fn passed(record: &Record, reason: SkipReason, now: DateTime<Utc>) -> Vec<Row> {
    if record.next_fire.is_none_or(|next| next > now) {
        return Vec::new();
    }
    let Ok(definition) = Definition::read(record) else { return Vec::new() };
    let fate = Fate::Skipped(reason);
    let (mut rows, mut next) = (Vec::new(), record.next_fire);
    while let Some(fire_time) = next
        && fire_time <= now
        && record.taken_to.is_some_and(|taken_to| fire_time <= taken_to)
        && rows.len() < MAX_ROWS
    {
        rows.push(closed(record, FireTimes::one(fire_time), fate.clone(), now));
        next = definition.trigger.next_after(fire_time).ok().flatten();
    }
    let stretch = next.and_then(|next| definition.planner(record).passed(next, now));
    rows.extend(stretch.map(|stretch| closed(record, stretch, fate, now)));
    rows
}

/// Returns the rows of fire times that are due, jitter included, when the record's trigger goes:
/// one run for the unclaimed fire times up to `now`, or as many runs as the job catches up with.
pub(in crate::core) fn still_to_run(record: &Record, now: DateTime<Utc>) -> Vec<Row> {
    let mut rows = passed(record, SkipReason::Superseded, now);
    let Some(stretch) = rows.pop() else { return rows };
    let Ok(Definition { trigger, options }) = Definition::read(record) else { return rows };
    let before = |fire_time: &DateTime<Utc>| {
        let just_before = fire_time.checked_sub_signed(TimeDelta::milliseconds(1))?;
        let before = trigger.last_at_or_before(just_before).ok().flatten();
        before.filter(|&before| before >= stretch.fire_time)
    };
    let kept = match options.coalesce {
        Coalesce::All => MAX_ROWS.min(options.max_catch_up as usize),
        Coalesce::Latest | Coalesce::Earliest => 1,
    };
    let mut kept: Vec<_> = std::iter::successors(Some(stretch.last), before).take(kept).collect();
    kept.reverse();
    let Some(&into) = kept.first() else { return rows };
    // The other fire times coalesce into the first run, if the job coalesces.
    if let Some(before) = before(&into) {
        let count = stretch.count.saturating_sub(kept.len() as u64).max(1);
        rows.push(Row { last: before, count, ..stretch });
    }
    let mut coalesced = 0;
    if options.coalesce != Coalesce::Earliest {
        for row in &mut rows {
            row.state = RowState::Closed(Fate::Coalesced(into));
            coalesced += row.count;
        }
    }
    let runs = kept.into_iter().map(|fire_time| {
        let run = row(record, FireTimes::one(fire_time), RowState::Waiting);
        let coalesced = if fire_time == into { coalesced } else { 0 };
        Row { coalesced, ..run }
    });
    rows.extend(runs);
    rows
}

/// Returns the last fire time of the record's trigger that may have been claimed.
pub(in crate::core) fn last_claimed(record: &Record) -> Option<DateTime<Utc>> {
    let trigger = Definition::read(record).ok()?.trigger;
    let before = match record.next_fire {
        Some(next) => next.checked_sub_signed(TimeDelta::milliseconds(1))?,
        None => DateTime::<Utc>::MAX_UTC,
    };
    trigger.last_at_or_before(before).ok().flatten()
}

fn row(record: &Record, stretch: FireTimes, state: RowState) -> Row {
    let FireTimes { first, last, count } = stretch;
    let row = Row::new(scheduled(record, first), record.id.clone(), first, state);
    let Record { recover, recoveries, .. } = *record;
    Row { last, count, recover, recoveries, ..row }
}

fn closed(record: &Record, stretch: FireTimes, fate: Fate, now: DateTime<Utc>) -> Row {
    Row { ended_at: Some(now), ..row(record, stretch, RowState::Closed(fate)) }
}

fn scheduled(record: &Record, fire_time: DateTime<Utc>) -> RowKey {
    RowKey {
        incarnation: record.incarnation,
        kind: RowKind::Scheduled,
        number: fire_time.timestamp_millis(),
    }
}

/// Decides about everything of a job up to `horizon`, at `now` by the store's clock.
///
/// Fire times due by now are coalesced as in memory; fire times that get another fate have no run.
/// Later fire times are claimed one by one, and judged when they are due.
///
/// # Errors
///
/// The error of the trigger. The job is then left unchanged.
pub(crate) fn decide(
    record: &Record,
    waiting: &[Row],
    definition: &Definition,
    node: NodeId,
    now: DateTime<Utc>,
    horizon: DateTime<Utc>,
) -> Result<Decision, Error> {
    let Definition { trigger, .. } = definition;
    let planner = definition.planner(record);
    let is_date = matches!(trigger.kind(), Kind::Date(_));
    // A fire time at the very instant of resuming is not past.
    let just_before = |at: DateTime<Utc>| at.checked_sub_signed(TimeDelta::milliseconds(1));
    let resumed = record.resumed_at.filter(|_| !is_date).and_then(just_before);
    let jitters = !definition.options.jitter.is_zero();
    let claimed = |row: Row| {
        let jittered = jitters && row.key.kind == RowKind::Scheduled;
        let due = jittered.then(|| planner.due(row.fire_time).at);
        Row { state: RowState::Claimed(node), due, ..row }
    };

    let mut rows = Vec::new();
    for row in waiting.iter().take(MAX_ROWS) {
        let reason = match () {
            // Requested runs are exempt, and runs that have begun continue.
            _ if row.key.kind != RowKind::Scheduled || row.attempt > 1 => None,
            _ if resumed.is_some_and(|resumed| row.fire_time <= resumed) => {
                Some(SkipReason::Paused)
            }
            // Fire times that were due when the job was rescheduled still run.
            _ if record.rescheduled_at.is_some_and(|at| row.fire_time <= at) => None,
            _ if trigger.last_at_or_before(row.fire_time)? != Some(row.fire_time) => {
                Some(SkipReason::Superseded)
            }
            _ => None,
        };
        rows.push(match reason {
            None => claimed(row.clone()),
            Some(reason) => Row {
                state: RowState::Closed(Fate::Skipped(reason)),
                ended_at: Some(now),
                ..row.clone()
            },
        });
    }

    let mut next = record.next_fire;
    let due = |next: Option<DateTime<Utc>>| next.filter(|&next| !record.paused && next <= horizon);
    // The ledger of a rescheduled job may have rows of the old trigger for fire times that the new
    // trigger also names, some of them waiting. These fire times are checked one by one.
    let again = waiting.iter().filter(|row| row.key.kind == RowKind::Scheduled);
    let last_again = again.clone().map(|row| row.fire_time).max().max(record.taken_to);
    while let Some(fire_time) = due(next)
        && last_again.is_some_and(|last| fire_time <= last)
        && rows.len() < MAX_ROWS
    {
        if !again.clone().any(|row| row.fire_time == fire_time) {
            let one = FireTimes::one(fire_time);
            let passed = resumed.is_some_and(|resumed| fire_time <= resumed);
            rows.push(if passed {
                closed(record, one, Fate::Skipped(SkipReason::Paused), now)
            } else {
                claimed(row(record, one, RowState::Waiting))
            });
        }
        next = trigger.next_after(fire_time)?;
    }
    if last_again.is_some_and(|last| due(next).is_some_and(|next| next <= last)) {
        return Ok(Decision::Claim { rows, next_fire: next });
    }

    // Fire times that passed while the job was paused.
    if let Some(first) = due(next)
        && let Some(resumed) = resumed
        && let Some(stretch) = planner.passed(first, resumed)
    {
        rows.push(closed(record, stretch, Fate::Skipped(SkipReason::Paused), now));
        next = trigger.next_after(stretch.last)?;
    }

    // Runs that catch up are claimed together, by a claim of their own if this one is large.
    if rows.len() >= MAX_ROWS {
        return Ok(Decision::Claim { rows, next_fire: next });
    }

    // Fire times that are due by now.
    if let Some(first) = due(next).map(|next| planner.due(next))
        && first.at <= now
    {
        let (plan, after) = planner.plan(first, now);
        next = after?;
        if let Some(stretch) = plan.missed {
            rows.push(closed(record, stretch, Fate::Missed, now));
        }
        if let Some((stretch, into)) = plan.coalesced {
            rows.push(closed(record, stretch, Fate::Coalesced(into), now));
        }
        let coalesced = plan.coalesced.map_or(0, |(stretch, _)| stretch.count);
        let (run, backlog) = plan.run.unzip();
        let runs = run.into_iter().chain(backlog.into_iter().flatten());
        for (index, Due { fire_time, .. }) in runs.enumerate() {
            let open = row(record, FireTimes::one(fire_time), RowState::Waiting);
            let coalesced = if index == 0 { coalesced } else { 0 };
            rows.push(claimed(Row { coalesced, ..open }));
        }
    }

    // Fire times that are not due yet.
    while let Some(fire_time) = due(next)
        && rows.len() < MAX_ROWS
    {
        rows.push(claimed(row(record, FireTimes::one(fire_time), RowState::Waiting)));
        next = trigger.next_after(fire_time)?;
    }
    Ok(Decision::Claim { rows, next_fire: next })
}
