//! Nodes: their heartbeats, and what becomes of those that give none.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::{Row as Columns, types::Type};

use super::{
    super::{instant, signed, unsigned},
    columns::{Parameter, bound, get, row},
    error::{PostgresError, Result},
    jobs,
    ledger::{ends, locked_or_gone, once_locked, settled},
    pool::{Session, Step},
    schema,
};
use crate::store::{Heartbeat, Incarnation, NodeId, NodeRow, ReapReport, RowState, StoreChange};

/// The versions of the schema, whether there was a row, and the time; of a node in `$1` to `$5`, and a
/// program that knows the version `$6`.
macro_rules! beat {
    ($beat:expr) => {
        concat!(
            "WITH meta AS (SELECT version, min_version FROM punctual_meta LIMIT 1), beat AS (",
            $beat,
            " RETURNING node) SELECT meta.version, meta.min_version, (SELECT count(*) FROM beat), ",
            now!(),
            " FROM meta"
        )
    };
}

macro_rules! fits {
    () => {
        "EXISTS (SELECT FROM meta WHERE version <= $6 OR min_version <= $6)"
    };
}

const FIRST_HEARTBEAT: &str = beat!(concat!(
    "INSERT INTO punctual_nodes AS n (node, name, lease_until, lease, version, clock_offset) SELECT \
        $1, $2, ",
    now!(),
    " + $3, $3, $4, $5 WHERE ",
    fits!(),
    " ON CONFLICT (node) DO UPDATE SET name = EXCLUDED.name, lease_until = EXCLUDED.lease_until, \
        lease = EXCLUDED.lease, version = EXCLUDED.version, clock_offset = EXCLUDED.clock_offset, \
        heartbeats = n.heartbeats + 1"
));

const HEARTBEAT: &str = beat!(concat!(
    "UPDATE punctual_nodes SET name = $2, lease_until = ",
    now!(),
    " + $3, lease = $3, version = $4, clock_offset = $5, heartbeats = heartbeats + 1 \
        WHERE node = $1 AND ",
    fits!()
));

const NODES: &str = "SELECT node, name, heartbeats, lease, lease_until, version, clock_offset \
     FROM punctual_nodes";

const LEAVE: &str = "DELETE FROM punctual_nodes WHERE node = $1 RETURNING node";

const EXPIRE: &str = "DELETE FROM punctual_nodes AS n USING unnest($1, $2) AS s(node, heartbeats) \
     WHERE n.node = s.node AND n.heartbeats = s.heartbeats RETURNING n.node";

/// Nodes with claimed rows and without a row of their own. Hops from node to node along the index,
/// instead of looking at each claimed row.
const DEAD: &str = "WITH RECURSIVE claiming AS ( \
        (SELECT node FROM punctual_open WHERE node IS NOT NULL ORDER BY node LIMIT 1) UNION ALL \
        SELECT (SELECT o.node FROM punctual_open AS o WHERE o.node > c.node \
            ORDER BY o.node LIMIT 1) FROM claiming AS c WHERE c.node IS NOT NULL) \
     SELECT c.node FROM claiming AS c WHERE c.node IS NOT NULL \
        AND NOT EXISTS (SELECT FROM punctual_nodes AS n WHERE n.node = c.node)";

/// Reclaims up to `$2` rows of the nodes `$1`.
macro_rules! reclaim {
    ($lock:literal, $which:expr) => { concat!(
    "WITH found AS MATERIALIZED (SELECT o.* FROM unnest($1) AS d(node) \
        CROSS JOIN LATERAL (SELECT o.incarnation, o.kind, o.number FROM punctual_open AS o \
            WHERE o.node = d.node ORDER BY o.incarnation, o.kind, o.number LIMIT $2 + 1) AS o \
        LIMIT $2 + 1), \
     r AS MATERIALIZED (SELECT * FROM found LIMIT $2), \
     locked AS MATERIALIZED (SELECT incarnation, id, fence, next_fire, remember, claimed, waiting, \
        asked FROM punctual_jobs WHERE incarnation = ANY(ARRAY(SELECT incarnation FROM r)) \
        AND ended_at IS NULL ORDER BY incarnation ",
    $lock,
    "), \
     handed_out AS (UPDATE punctual_open AS o SET node = NULL, claim = NULL, \
        attempt = least(o.attempt, 2147483646) + 1, recoveries = o.recoveries - 1 FROM r WHERE ",
    once_locked!(),
    " AND o.incarnation = r.incarnation AND o.kind = r.kind AND o.number = r.number \
        AND o.node = ANY($1) AND o.recover AND o.recoveries > 0 \
        AND r.incarnation IN (SELECT incarnation FROM locked) RETURNING ",
    shared_columns!("o."),
    "), gone AS (DELETE FROM punctual_open AS o USING r WHERE ",
    once_locked!(),
    " AND o.incarnation = r.incarnation AND o.kind = r.kind AND o.number = r.number \
        AND o.node = ANY($1) AND NOT (o.recover AND o.recoveries > 0 \
            AND r.incarnation IN (SELECT incarnation FROM locked)) AND ",
    $which,
    " RETURNING ",
    shared_columns!("o."),
    ", CASE WHEN o.recover AND r.incarnation IN (SELECT incarnation FROM locked) \
        THEN 'abandoned: recovered too often' ELSE 'abandoned' END AS fate), \
     abandoned AS (SELECT ",
    shared_with!("", "attempt", "started_at", concat!(now!(), " AS ended_at"), "message"),
    ", fate FROM gone), \
     closed AS (INSERT INTO punctual_ledger (",
    shared_columns!(""),
    ", fate) SELECT ",
    shared_columns!(""),
    ", fate FROM abandoned ON CONFLICT DO NOTHING), \
     delta AS (SELECT incarnation, -1 AS claimed, 1 AS waiting, \
            CASE WHEN kind = 1 THEN 1 ELSE 0 END AS asked, 'completed' AS job_end, 0 AS place \
        FROM handed_out UNION ALL SELECT incarnation, -1, 0, 0, 'completed', 0 FROM gone), ",
    settled!(),
    " SELECT 0, (SELECT count(*) FROM found), ",
    shared_columns!(""),
    ", NULL::bigint, NULL::text FROM handed_out UNION ALL \
     SELECT 1, (SELECT count(*) FROM found), ",
    shared_columns!(""),
    ", NULL, fate FROM abandoned UNION ALL \
     SELECT 2, (SELECT count(*) FROM found), incarnation, 2::smallint, 0, id, 0, 0, 0, 0, 0, 1, false, \
        NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL FROM after WHERE is_over \
     UNION ALL SELECT 3, count(*), 0, 2::smallint, 0, '', 0, 0, 0, 0, 0, 1, false, \
        NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL FROM found"
)
    };
}

/// Leaves the rows alone whose jobs somebody else has locked.
const RECLAIM: &str = reclaim!("FOR UPDATE SKIP LOCKED", locked_or_gone!());

const RECLAIM_LOCKED: &str = reclaim!("FOR UPDATE", "true");

/// Returns the store's time.
pub(super) async fn heartbeat(
    session: &Session<'_>,
    heartbeat: &Heartbeat,
    max_batch: usize,
    channel: Option<&str>,
) -> Result<DateTime<Utc>> {
    let node = signed(heartbeat.node.0);
    if heartbeat.ttl.is_zero() {
        session.query(LEAVE, vec![(&node, Type::INT8)]).await?;
        let mut reaped = ReapReport::default();
        loop {
            reclaim(session, &[node], max_batch, &mut reaped).await?;
            if !reaped.more {
                break;
            }
        }
        // What the node would have claimed next is for others.
        jobs::notify(session, channel, &[StoreChange::Unknown]).await?;
        return jobs::time(session).await;
    }
    // So short that its end can be stored.
    let ttl = i64::try_from(heartbeat.ttl.as_millis()).unwrap_or(i64::MAX).clamp(1, i64::MAX / 4);
    let offset = heartbeat.clock_offset.map(|offset| offset.num_milliseconds());
    let (name, version) = (&*heartbeat.name, &*heartbeat.version);
    let parameters: Vec<Parameter<'_>> = vec![
        (&node, Type::INT8),
        (&name, Type::TEXT),
        (&ttl, Type::INT8),
        (&version, Type::TEXT),
        (&offset, Type::INT8),
        (&schema::LATEST, Type::INT4),
    ];
    let beat = if heartbeat.first { FIRST_HEARTBEAT } else { HEARTBEAT };
    let rows = session.query(beat, parameters).await?;
    let Some(row) = rows.first() else {
        return Err(PostgresError::Refused(
            "the schema does not say its version: restore it from a backup".to_owned(),
        ));
    };
    schema::fits(get(row, 0)?, get(row, 1)?)?;
    if get::<i64>(row, 2)? == 0 {
        return Err(PostgresError::LeaseLost);
    }
    Ok(instant(get(row, 3)?))
}

pub(super) async fn nodes(session: &Session<'_>) -> Result<Vec<NodeRow>> {
    let node = |row: &Columns| {
        Ok(NodeRow {
            id: NodeId(unsigned(get(row, 0)?)),
            name: get::<String>(row, 1)?.into(),
            heartbeats: unsigned(get(row, 2)?),
            ttl: Duration::from_millis(u64::try_from(get::<i64>(row, 3)?).unwrap_or(0)),
            lease_until: instant(get(row, 4)?),
            version: get::<String>(row, 5)?.into(),
            clock_offset: get::<Option<i64>>(row, 6)?.and_then(TimeDelta::try_milliseconds),
        })
    };
    session.query(NODES, Vec::new()).await?.iter().map(node).collect()
}

/// What a try has done is in the report, though a later statement of it fails.
pub(super) async fn reap(
    session: &Session<'_>,
    suspects: &[(NodeId, u64)],
    max_batch: usize,
    channel: Option<&str>,
    reaped: &mut ReapReport,
) -> Result<()> {
    let nodes: Vec<i64> = suspects.iter().map(|(node, _)| signed(node.0)).collect();
    let heartbeats: Vec<i64> = suspects.iter().map(|(_, count)| signed(*count)).collect();
    let mut steps = Vec::with_capacity(2);
    if !suspects.is_empty() {
        let parameters: Vec<Parameter<'_>> =
            vec![(&nodes, Type::INT8_ARRAY), (&heartbeats, Type::INT8_ARRAY)];
        steps.push(Step::Query(EXPIRE, parameters));
    }
    steps.push(Step::Query(DEAD, Vec::new()));
    let mut rows = session.all(steps).await?;
    let dead = rows.pop().unwrap_or_default();
    let dead: Vec<i64> = dead.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    for row in rows.iter().flatten() {
        reaped.nodes.push(NodeId(unsigned(get(row, 0)?)));
    }
    reclaim(session, &dead, max_batch, reaped).await?;
    let is_news =
        !(reaped.nodes.is_empty() && reaped.handed_out.is_empty() && reaped.abandoned.is_empty());
    if is_news {
        jobs::notify(session, channel, &[StoreChange::Unknown]).await?;
    }
    Ok(())
}

/// Reclaims up to `limit` rows of these nodes.
async fn reclaim(
    session: &Session<'_>,
    nodes: &[i64],
    limit: usize,
    reaped: &mut ReapReport,
) -> Result<()> {
    reaped.more = false;
    if nodes.is_empty() {
        return Ok(());
    }
    let (nodes, most) = (nodes.to_vec(), bound(limit));
    // One client that has stopped holds up the rows of its own jobs, and no others, until only those are
    // left.
    for statement in [RECLAIM, RECLAIM_LOCKED] {
        let parameters: Vec<Parameter<'_>> = vec![(&nodes, Type::INT8_ARRAY), (&most, Type::INT8)];
        let (mut found, mut done) = (0_i64, 0_i64);
        for it in session.query(statement, parameters).await? {
            found = get(&it, 1)?;
            match get::<i32>(&it, 0)? {
                0 => reaped.handed_out.push(row(&it, 2)?),
                1 => reaped.abandoned.push(row(&it, 2)?),
                2 => {
                    reaped.over.push(Incarnation(unsigned(get(&it, 2)?)));
                    continue;
                }
                _ => continue,
            }
            done += 1;
        }
        reaped.more = found > done;
        if done > 0 || found == 0 {
            break;
        }
    }
    reaped.handed_out.iter_mut().for_each(|row| row.state = RowState::Waiting);
    Ok(())
}
