//! Nodes: their heartbeats, and what becomes of those that give none.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use mysql_async::Row as Columns;

use super::{
    super::{instant, signed, unsigned},
    columns::{List, NOW, OPEN, OrNull, ROW, Text, get, incarnations, text},
    edit::{Edit, lock, locked, time},
    error::{MySqlError, Result},
    jobs, ledger,
    pool::{BEGIN, Session},
    schema::{self, Tables},
};
use crate::store::{
    Fate, Heartbeat, Incarnation, NodeId, NodeRow, ReapReport, Row, RowKey, RowState,
};

/// Returns the store's time.
pub(super) async fn heartbeat(
    session: &mut Session<'_>,
    heartbeat: &Heartbeat,
    max_batch: usize,
) -> Result<DateTime<Utc>> {
    let Tables { meta, nodes, .. } = session.tables();
    let node = signed(heartbeat.node.0);
    if heartbeat.ttl.is_zero() {
        session.run(&format!("DELETE FROM {nodes} WHERE node = {node}")).await?;
        let mut reaped = ReapReport::default();
        loop {
            reclaim(session, &[node], max_batch, &mut reaped).await?;
            if !reaped.more {
                break;
            }
        }
        return jobs::time_of(session).await;
    }
    // So short that its end can be stored.
    let lease = i64::try_from(heartbeat.ttl.as_millis()).unwrap_or(i64::MAX).clamp(1, i64::MAX / 4);
    let offset = OrNull(heartbeat.clock_offset.map(|offset| offset.num_milliseconds()));
    let (name, version) = (Text(&heartbeat.name), Text(&heartbeat.version));
    let fits = format!("version <= {0} OR min_version <= {0}", schema::LATEST);
    let beat = match heartbeat.first {
        true => format!(
            "INSERT INTO {nodes} (node, name, lease_until, lease, version, clock_offset) \
             SELECT {node}, {name}, {NOW} + {lease}, {lease}, {version}, {offset} FROM {meta} \
                WHERE id = 1 AND ({fits}) \
             ON DUPLICATE KEY UPDATE name = {name}, lease_until = {NOW} + {lease}, lease = {lease}, \
                {nodes}.version = {version}, clock_offset = {offset}, heartbeats = heartbeats + 1"
        ),
        false => format!(
            "UPDATE {nodes} SET name = {name}, lease_until = {NOW} + {lease}, lease = {lease}, \
                version = {version}, clock_offset = {offset}, heartbeats = heartbeats + 1 \
             WHERE node = {node} AND EXISTS (SELECT 1 FROM {meta} WHERE id = 1 AND ({fits}))"
        ),
    };
    let sql = format!(
        "{beat}; SELECT ROW_COUNT(), {NOW}; SELECT version, min_version FROM {meta} WHERE id = 1"
    );
    let answers = session.run(&sql).await?;
    let [beats, versions] = &answers[..] else { return Err(MySqlError::Columns) };
    let [beat] = &beats[..] else { return Err(MySqlError::Columns) };
    let Some(versions) = versions.first() else {
        return Err(MySqlError::Refused(
            "the schema does not say its version: restore it from a backup".to_owned(),
        ));
    };
    schema::fits(get(versions, 0)?, get(versions, 1)?)?;
    if get::<i64>(beat, 0)? == 0 {
        return Err(MySqlError::LeaseLost);
    }
    Ok(instant(get(beat, 1)?))
}

pub(super) async fn nodes(session: &mut Session<'_>) -> Result<Vec<NodeRow>> {
    let node = |row: &Columns| {
        Ok(NodeRow {
            id: NodeId(unsigned(get(row, 0)?)),
            name: text(row, 1)?.into(),
            heartbeats: unsigned(get(row, 2)?),
            ttl: Duration::from_millis(u64::try_from(get::<i64>(row, 3)?).unwrap_or(0)),
            lease_until: instant(get(row, 4)?),
            version: text(row, 5)?.into(),
            clock_offset: get::<Option<i64>>(row, 6)?.and_then(TimeDelta::try_milliseconds),
        })
    };
    let sql = format!(
        "SELECT node, name, heartbeats, lease, lease_until, version, clock_offset FROM {}",
        session.tables().nodes
    );
    session.run(&sql).await?.iter().flatten().map(node).collect()
}

/// What a try has done is in the report, though a later statement of it fails.
pub(super) async fn reap(
    session: &mut Session<'_>,
    suspects: &[(NodeId, u64)],
    max_batch: usize,
    reaped: &mut ReapReport,
) -> Result<()> {
    let Tables { nodes, open, .. } = session.tables();
    if !suspects.is_empty() {
        let of = suspects.iter().map(|(node, _)| signed(node.0));
        // No client has the row of a node locked while it decides something, so this waits for none that
        // has stopped.
        let sql = format!(
            "{BEGIN}; SELECT node, heartbeats FROM {nodes} WHERE node IN ({}) FOR UPDATE",
            List(of)
        );
        let found = |row: &Columns| Ok((NodeId(unsigned(get(row, 0)?)), unsigned(get(row, 1)?)));
        let found: Vec<(NodeId, u64)> =
            session.run(&sql).await?.iter().flatten().map(found).collect::<Result<_>>()?;
        let dead: Vec<NodeId> =
            found.into_iter().filter(|it| suspects.contains(it)).map(|(node, _)| node).collect();
        let sql = match dead.is_empty() {
            true => "COMMIT".to_owned(),
            false => format!(
                "DELETE FROM {nodes} WHERE node IN ({}); COMMIT",
                List(dead.iter().map(|node| signed(node.0)))
            ),
        };
        session.run(&sql).await?;
        reaped.nodes.extend(dead);
    }
    // Nodes with claimed rows and without a row of their own. The living are looked at last: a node joins
    // before it claims.
    let sql = format!(
        "SELECT DISTINCT node FROM {open} WHERE node IS NOT NULL; SELECT node FROM {nodes}"
    );
    let answers = session.run(&sql).await?;
    let numbers =
        |rows: &Vec<Columns>| rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<i64>>>();
    let (claiming, living) = match &answers[..] {
        [claiming, living] => (numbers(claiming)?, numbers(living)?),
        _ => return Err(MySqlError::Columns),
    };
    let living: HashSet<i64> = living.into_iter().collect();
    let dead: Vec<i64> = claiming.into_iter().filter(|node| !living.contains(node)).collect();
    reclaim(session, &dead, max_batch, reaped).await
}

/// Reclaims up to `limit` rows of these nodes.
async fn reclaim(
    session: &mut Session<'_>,
    nodes: &[i64],
    limit: usize,
    reaped: &mut ReapReport,
) -> Result<()> {
    reaped.more = false;
    if nodes.is_empty() {
        return Ok(());
    }
    // One client that has stopped holds up the rows of its own jobs, and no others, until only those are
    // left.
    for skips in [true, false] {
        let (found, done) = reclaim_some(session, nodes, limit, skips, reaped).await?;
        reaped.more = found > done;
        if done > 0 || found == 0 {
            break;
        }
    }
    Ok(())
}

/// Returns how many rows were found, one more than the limit if there are more, and how many of them were
/// reclaimed.
async fn reclaim_some(
    session: &mut Session<'_>,
    nodes: &[i64],
    limit: usize,
    skips: bool,
    reaped: &mut ReapReport,
) -> Result<(usize, usize)> {
    let tables = session.tables();
    let selects: Vec<String> = nodes
        .iter()
        .map(|node| {
            format!(
                "(SELECT {ROW}, {OPEN} FROM {} WHERE node = {node} \
                 ORDER BY incarnation, kind, number LIMIT {})",
                tables.open,
                limit.saturating_add(1)
            )
        })
        .collect();
    let sql = format!("{} LIMIT {}", selects.join(" UNION ALL "), limit.saturating_add(1));
    let mut rows = ledger::read(&session.run(&sql).await?)?;
    let found = rows.len();
    rows.truncate(limit);
    if rows.is_empty() {
        return Ok((found, 0));
    }
    let of = incarnations(rows.iter().map(|row| row.key.incarnation));
    let keys: Vec<RowKey> = rows.iter().map(|row| row.key).collect();
    let suffix = if skips { " FOR UPDATE SKIP LOCKED" } else { " FOR UPDATE" };
    let sql = format!("{BEGIN}; SELECT {NOW}; {}", lock(tables, &of, skips));
    let answers = session.run(&sql).await?;
    let now = time(answers.first())?;
    let mut jobs = answers.get(1).map_or(Ok(HashMap::new()), |rows| locked(rows))?;
    let of_others: HashSet<Incarnation> = match skips && jobs.len() < of.len() {
        true => ledger::existing(session, &of).await?,
        false => HashSet::new(),
    };
    let is_dead = |row: &Row| match row.state {
        RowState::Claimed(node) => nodes.contains(&signed(node.0)),
        _ => false,
    };
    let mut edit = Edit::new(tables, now);
    let mut done = 0;
    let (mut handed_out, mut abandoned) = (Vec::new(), Vec::new());
    for row in ledger::open_rows_of(session, &keys, suffix).await?.into_iter().filter(is_dead) {
        let of = row.key.incarnation;
        let job = jobs.get_mut(&of);
        if job.is_none() && of_others.contains(&of) {
            continue;
        }
        done += 1;
        let recovers = row.recover && job.is_some();
        if recovers && row.recoveries > 0 {
            let row = Row {
                state: RowState::Waiting,
                attempt: row.attempt.min(i32::MAX as u32 - 1) + 1,
                recoveries: row.recoveries - 1,
                ..row
            };
            if let Some(job) = job {
                job.open.add(row.key.kind, -1, 1);
                edit.set(job.clone(), Fate::Completed);
            }
            edit.replace(row.clone(), None);
            handed_out.push(row);
        } else {
            let fate = if recovers { Fate::RecoveredTooOften } else { Fate::Abandoned };
            let row = Row { state: RowState::Closed(fate), ended_at: Some(now), ..row };
            if let Some(job) = job {
                job.open.add(row.key.kind, -1, 0);
                edit.set(job.clone(), Fate::Completed);
            }
            edit.close(row.clone());
            abandoned.push(row);
        }
    }
    session.run(&format!("{}COMMIT", edit.sql())).await?;
    reaped.over.extend(edit.over());
    reaped.handed_out.extend(handed_out);
    reaped.abandoned.extend(abandoned);
    Ok((found, done))
}
