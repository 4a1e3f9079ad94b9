//! Nodes: their heartbeats, and the reclaiming of rows of dead nodes.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{OptionalExtension as _, Row as Columns};

use super::{
    columns::{key, row, row_columns, text},
    error::{Result, SqliteError},
    jobs, schema,
    session::Session,
};
use crate::store::{
    Fate, Heartbeat, NodeId, NodeRow, ReapReport, Row, RowState, StoreChange,
    sql::{instant, millis, signed, unsigned},
};

const FIRST_HEARTBEAT: &str = "INSERT INTO punctual_nodes \
        (node, name, lease_until, lease, version, clock_offset) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
     ON CONFLICT (node) DO UPDATE \
        SET name = ?2, lease_until = ?3, lease = ?4, version = ?5, clock_offset = ?6";

const HEARTBEAT: &str = "UPDATE punctual_nodes \
     SET name = ?2, lease_until = ?3, lease = ?4, version = ?5, clock_offset = ?6 WHERE node = ?1";

const DEREGISTER: &str = "DELETE FROM punctual_nodes WHERE node = ?1";

const NODES: &str = "SELECT node, name, beats, lease, lease_until, version, clock_offset \
     FROM punctual_nodes";

const EXPIRE: &str = "DELETE FROM punctual_nodes WHERE node = ?1 AND beats = ?2";

/// Steps from node to node along the index of open rows, instead of reading each row.
const FIRST_HOLDER: &str = "SELECT min(node) FROM punctual_ledger INDEXED BY punctual_ledger_by_node \
     WHERE fate IS NULL AND node >= ?1";
const NEXT_HOLDER: &str = "SELECT min(node) FROM punctual_ledger INDEXED BY punctual_ledger_by_node \
     WHERE fate IS NULL AND node > ?1";
const IS_NODE: &str = "SELECT 1 FROM punctual_nodes WHERE node = ?1";

const CLAIMED_BY: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM punctual_ledger INDEXED BY punctual_ledger_by_node \
     WHERE fate IS NULL AND node = ?1 LIMIT ?2"
);

const HAND_OUT: &str = "UPDATE punctual_ledger SET node = NULL, attempt = ?4, recoveries = ?5 \
     WHERE incarnation = ?1 AND kind = ?2 AND number = ?3";

const ABANDON: &str = "UPDATE punctual_ledger SET node = NULL, fate = ?4, ended_at = ?5 \
     WHERE incarnation = ?1 AND kind = ?2 AND number = ?3";

/// Renews or ends the lease of a node. Returns the time of the clock.
pub(super) fn heartbeat(
    session: &Session,
    heartbeat: &Heartbeat,
    max_batch: usize,
) -> Result<DateTime<Utc>> {
    schema::fits(session)?;
    let node = signed(heartbeat.node.0);
    if heartbeat.ttl.is_zero() {
        if session.prepare(DEREGISTER)?.execute([node])? > 0 {
            // Other nodes may claim what this node would have claimed next.
            session.notify([StoreChange::Unknown]);
        }
        let mut reaped = ReapReport::default();
        reclaim(session, node, max_batch, &mut reaped)?;
        return Ok(session.now());
    }
    // Clamped so that the end of the lease stays in range.
    let ttl = i64::try_from(heartbeat.ttl.as_millis()).unwrap_or(i64::MAX).clamp(1, i64::MAX / 4);
    let now = session.now();
    let until = millis(now).saturating_add(ttl);
    let mut statement =
        session.prepare(if heartbeat.first { FIRST_HEARTBEAT } else { HEARTBEAT })?;
    let offset = heartbeat.clock_offset.map(|offset| offset.num_milliseconds());
    match statement.execute((node, &*heartbeat.name, until, ttl, &*heartbeat.version, offset))? {
        0 => Err(SqliteError::LeaseLost),
        _ => Ok(now),
    }
}

pub(super) fn nodes(session: &Session) -> Result<Vec<NodeRow>> {
    let node = |row: &Columns<'_>| {
        Ok(NodeRow {
            id: NodeId(unsigned(row.get(0)?)),
            name: text(row, 1)?.into(),
            heartbeats: unsigned(row.get(2)?),
            ttl: Duration::from_millis(u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0)),
            lease_until: instant(row.get(4)?),
            version: text(row, 5)?.into(),
            clock_offset: row.get::<_, Option<i64>>(6)?.and_then(TimeDelta::try_milliseconds),
        })
    };
    let nodes = session.prepare(NODES)?.query_map([], node)?.collect::<rusqlite::Result<_>>()?;
    Ok(nodes)
}

pub(super) fn reap(
    session: &Session,
    suspects: &[(NodeId, u64)],
    max_batch: usize,
) -> Result<ReapReport> {
    let mut reaped = ReapReport::default();
    for &(node, heartbeats) in suspects {
        if session.prepare(EXPIRE)?.execute([signed(node.0), signed(heartbeats)])? > 0 {
            reaped.nodes.push(node);
        }
    }
    let mut is_node = session.prepare(IS_NODE)?;
    let mut next_holder = session.prepare(NEXT_HOLDER)?;
    let mut holder: Option<i64> =
        session.prepare(FIRST_HOLDER)?.query_row([i64::MIN], |row| row.get(0))?;
    while let Some(node) = holder {
        if !is_node.exists([node])? {
            let done = reaped.handed_out.len() + reaped.abandoned.len();
            reclaim(session, node, max_batch - done, &mut reaped)?;
            if reaped.more {
                break;
            }
        }
        holder = next_holder.query_row([node], |row| row.get(0)).optional()?.flatten();
    }
    if !reaped.nodes.is_empty() {
        session.notify([StoreChange::Unknown]);
    }
    Ok(reaped)
}

/// Reclaims up to `limit` rows of a dead node.
fn reclaim(session: &Session, node: i64, limit: usize, reaped: &mut ReapReport) -> Result<()> {
    let mut rows: Vec<Row> = session
        .prepare(CLAIMED_BY)?
        .query_map((node, limit.saturating_add(1) as i64), row)?
        .filter_map(rusqlite::Result::transpose)
        .collect::<rusqlite::Result<_>>()?;
    reaped.more = rows.len() > limit;
    rows.truncate(limit);
    for mut row in rows {
        let (incarnation, kind, number) = key(row.key);
        // No node claims a waiting row whose record is gone.
        let recovers = row.recover && jobs::is_there(session, row.key.incarnation)?;
        if let Some(row) = row.recovered().filter(|_| recovers) {
            let parameters = (incarnation, kind, number, row.attempt, row.recoveries);
            session.prepare(HAND_OUT)?.execute(parameters)?;
            reaped.handed_out.push(row);
        } else {
            let fate = if recovers { Fate::RecoveredTooOften } else { Fate::Abandoned };
            let (text, ended_at) = (fate.to_string(), session.now());
            row.ended_at = Some(ended_at);
            row.state = RowState::Closed(fate);
            let parameters = (incarnation, kind, number, text, millis(ended_at));
            session.prepare(ABANDON)?.execute(parameters)?;
            if jobs::end_if_over(session, row.key.incarnation, Fate::Completed)? {
                reaped.over.push(row.key.incarnation);
            }
            reaped.abandoned.push(row);
        }
        session.notify([StoreChange::Unknown]);
    }
    Ok(())
}

/// All statements, for a check of their plans.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[
    FIRST_HEARTBEAT,
    HEARTBEAT,
    DEREGISTER,
    NODES,
    EXPIRE,
    FIRST_HOLDER,
    NEXT_HOLDER,
    IS_NODE,
    CLAIMED_BY,
    HAND_OUT,
    ABANDON,
];
