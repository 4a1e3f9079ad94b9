//! Which fire times of a durable job a node takes ahead, and what becomes of those that have passed:
//! a pure function of its record, the rows of it that wait, and the time.

use chrono::{DateTime, TimeDelta, Utc};

use super::decide::{Due, Planner, mix};
use crate::{
    error::Error,
    escape::one_line,
    job::{Coalesce, FireTimes, JobOptions, RunId, SkipReason},
    json,
    ledger::{Decision, Fate, NodeId, Record, Row, RowKey, RowKind, RowState},
    trigger::{Kind, Trigger},
};

/// How many rows of one job are taken at once: as many as come due in a second at most.
const MAX_ROWS: usize = 1000;

/// How much of a text that can't be read is in the error, in bytes.
const QUOTED: usize = 1024;

/// What of a record has to be understood to decide on its fire times.
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

    /// When a fire time is due by the store's clock.
    pub(in crate::core) fn due(&self, record: &Record, fire_time: DateTime<Utc>) -> DateTime<Utc> {
        self.planner(record).due(fire_time).at
    }
}

/// The number of a run: that of its row, the same on whichever node it runs.
pub(crate) fn run_id(key: RowKey) -> RunId {
    let row = mix(key.number as u64 ^ ((key.kind as u64) << 62));
    // Numbers that a scheduler counts have the highest bit clear.
    RunId(mix(key.incarnation.0 ^ row) | 1 << 63)
}

/// The row of a run that is asked for.
pub(in crate::core) fn requested(record: &Record, number: u64, now: DateTime<Utc>) -> Row {
    let key = RowKey {
        incarnation: record.incarnation,
        kind: RowKind::Requested,
        number: number.cast_signed(),
    };
    Row { key, state: RowState::Waiting, ..row(record, FireTimes::one(now), RowState::Waiting) }
}

/// The rows of what passes without a run when the record's trigger or the record itself goes: fire
/// times up to `now` that nobody has taken.
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

/// The rows of what is due, its jitter included, when the record's trigger goes: one run for fire times up
/// to `now` that nobody has taken, or as many as the job catches up with.
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
    // The others are part of the first that runs, if the job says so.
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

/// The last fire time of the record's trigger that may have been taken.
pub(in crate::core) fn last_taken(record: &Record) -> Option<DateTime<Utc>> {
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

/// Decides, at `now` by the store's clock, on everything of a job up to `horizon`.
///
/// What is due by now is coalesced as in memory, and runs for nothing as far as that says so. What is
/// not yet due is taken fire time by fire time: it is judged when it is.
///
/// # Errors
///
/// What the trigger can't say. Then the job is left alone, and kept.
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
    // What is due at that very instant is not past.
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
            // What was asked for is exempt, and what has begun goes on.
            _ if row.key.kind != RowKind::Scheduled || row.attempt > 1 => None,
            _ if resumed.is_some_and(|resumed| row.fire_time <= resumed) => {
                Some(SkipReason::Paused)
            }
            // What was due when the job was given another trigger still runs.
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
    // The ledger of a job that was given another trigger may have rows of the old one that the new one
    // names, too, and some of them may be waiting: they are passed one by one.
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

    // What passed while the job was paused.
    if let Some(first) = due(next)
        && let Some(resumed) = resumed
        && let Some(stretch) = planner.passed(first, resumed)
    {
        rows.push(closed(record, stretch, Fate::Skipped(SkipReason::Paused), now));
        next = trigger.next_after(stretch.last)?;
    }

    // What catches up is taken together, in a take of its own if there is much else.
    if rows.len() >= MAX_ROWS {
        return Ok(Decision::Claim { rows, next_fire: next });
    }

    // What is due by now.
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

    // What is not.
    while let Some(fire_time) = due(next)
        && rows.len() < MAX_ROWS
    {
        rows.push(claimed(row(record, FireTimes::one(fire_time), RowState::Waiting)));
        next = trigger.next_after(fire_time)?;
    }
    Ok(Decision::Claim { rows, next_fire: next })
}
