//! The ledger: rows closed and read.

use tokio_postgres::types::Type;

use super::{
    super::{millis, signed, unsigned},
    columns::{Parameter, bound, clean, get, key, kind_column, row},
    error::Result,
    pool::Session,
};
use crate::store::{FinishReport, Incarnation, Row, RowKey, RowOutcome};

/// The jobs of the incarnations `$1`, locked. Whatever else a statement reads is of its snapshot;
/// these are as they are once nobody else has them locked.
macro_rules! locked {
    ($incarnations:literal, $lock:literal) => {
        concat!(
            "locked AS MATERIALIZED (SELECT incarnation, id, fence, next_fire, remember, claimed, \
             waiting, asked FROM punctual_jobs WHERE incarnation = ANY(",
            $incarnations,
            ") AND ended_at IS NULL ORDER BY incarnation ",
            $lock,
            ")"
        )
    };
}

/// Whether a row `r` is of a job that is locked, or of one that is gone: the others are left alone,
/// where jobs that somebody else has locked are skipped.
macro_rules! locked_or_gone {
    () => {
        "(r.incarnation IN (SELECT incarnation FROM locked) OR (SELECT true FROM punctual_jobs AS j \
            WHERE j.incarnation = r.incarnation AND j.ended_at IS NULL) IS NULL)"
    };
}

/// Makes what precedes wait for the locks.
macro_rules! once_locked {
    () => {
        "(SELECT count(*) FROM locked) >= 0"
    };
}

/// What becomes of the `locked` jobs whose open rows have changed by the rows of `delta`: their counts,
/// or their end.
///
/// Both are united and grouped, since the server takes such tables to have one row, and would join
/// them by comparing each row with each.
macro_rules! settled {
    () => {
        concat!(
            "after AS MATERIALIZED (SELECT incarnation, max(id) AS id, max(fence) AS fence, \
                bool_or(remember) AS remember, sum(claimed)::int AS claimed, \
                sum(waiting)::int AS waiting, sum(asked)::int AS asked, \
                bool_or(NOT is_job AND waiting <> 0) AS waits_differ, \
                (array_agg(job_end ORDER BY place DESC) FILTER (WHERE NOT is_job))[1] AS job_end, \
                max(next_fire) IS NULL AND sum(claimed) = 0 AND sum(waiting) = 0 AS is_over \
             FROM (SELECT incarnation, id, fence, next_fire, remember, claimed, waiting, asked, \
                    NULL::text AS job_end, NULL::bigint AS place, true AS is_job FROM locked \
                UNION ALL SELECT incarnation, NULL, NULL, NULL, NULL, claimed, waiting, asked, \
                    job_end, place, false FROM delta) AS every_row \
             GROUP BY incarnation HAVING bool_or(is_job) AND bool_or(NOT is_job)), \
             deleted AS (DELETE FROM punctual_jobs AS j USING after AS a \
                WHERE j.incarnation = a.incarnation AND a.is_over AND NOT a.remember), \
             changed AS (UPDATE punctual_jobs AS j SET claimed = a.claimed, waiting = a.waiting, \
                asked = a.asked, holder = CASE WHEN a.claimed > 0 THEN j.holder END, rev = j.rev + CASE WHEN a.waits_differ THEN 1 ELSE 0 END, \
                version = j.version + CASE WHEN a.is_over THEN 1 ELSE 0 END, \
                ended_at = CASE WHEN a.is_over THEN ",
            now!(),
            " END FROM after AS a \
                WHERE j.incarnation = a.incarnation AND (a.remember OR NOT a.is_over)), ",
            ends!()
        )
    };
}

/// The rows for the ends of jobs.
macro_rules! ends {
    () => {
        concat!(
            "ends AS (INSERT INTO punctual_ledger (",
            shared_columns!(""),
            ", fate) SELECT incarnation, 2, 0, id, ",
            now!(),
            ", ",
            now!(),
            ", 1, 0, fence, 1, false, NULL, ",
            now!(),
            ", NULL, 3, NULL, NULL, NULL, NULL, job_end FROM after WHERE is_over \
             ON CONFLICT DO NOTHING)"
        )
    };
}

pub(super) use {ends, locked, locked_or_gone, once_locked, settled};

/// The outcomes as a table `r`, from the parameters `$1` to `$10`.
///
/// The conditions hold for each: they have the server expect few rows, and look up each by its key,
/// however small the other table was when it made its plan.
macro_rules! outcomes {
    () => {
        "r AS MATERIALIZED (SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         WITH ORDINALITY AS r(incarnation, kind, number, fence, fate, attempt, started_at, \
            ended_at, message, job_end, place) \
         WHERE place > 0 AND kind >= 0 AND attempt >= 0)"
    };
}

macro_rules! finish {
    ($lock:literal, $which:expr) => {
        concat!(
            "WITH ",
            outcomes!(),
            ", ",
            locked!("$1", $lock),
            ", gone AS (DELETE FROM punctual_open AS o USING r WHERE ",
            once_locked!(),
            " AND o.incarnation = r.incarnation AND o.kind = r.kind AND o.number = r.number \
        AND o.fence = r.fence AND ",
            $which,
            " RETURNING ",
            shared_with!("o.", "r.attempt", "r.started_at", "r.ended_at", "r.message"),
            ", r.fate, r.job_end, r.place, o.node IS NULL AS waited), \
     closed AS (INSERT INTO punctual_ledger (",
            shared_columns!(""),
            ", fate) SELECT ",
            shared_columns!(""),
            ", fate FROM gone ON CONFLICT DO NOTHING), \
     delta AS (SELECT incarnation, CASE WHEN waited THEN 0 ELSE -1 END AS claimed, \
        CASE WHEN waited THEN -1 ELSE 0 END AS waiting, \
        CASE WHEN waited AND kind = 1 THEN -1 ELSE 0 END AS asked, job_end, place FROM gone), ",
            settled!(),
            " SELECT place, NULL::bigint FROM gone \
     UNION ALL SELECT NULL, incarnation FROM after WHERE is_over"
        )
    };
}

/// Moves open rows to the ledger, but for those of jobs that somebody else has locked.
const FINISH: &str = finish!("FOR UPDATE SKIP LOCKED", locked_or_gone!());

/// The same of all open rows, once nobody else has their jobs locked.
const FINISH_LOCKED: &str = finish!("FOR UPDATE", "true");

/// Outcomes of rows that are not open: news to those of which only the death of their node was known.
/// Returns the fences of the closed rows.
const FINISH_LATE: &str = concat!(
    "WITH ",
    outcomes!(),
    ", late AS (UPDATE punctual_ledger AS l SET fate = r.fate, attempt = r.attempt, \
        started_at = r.started_at, ended_at = r.ended_at, message = r.message FROM r \
        WHERE l.incarnation = r.incarnation AND l.kind = r.kind AND l.number = r.number \
        AND l.fence = r.fence AND l.fate IN ('abandoned', 'abandoned: recovered too often')) \
     SELECT r.place, (SELECT l.fence FROM punctual_ledger AS l \
        WHERE l.incarnation = r.incarnation AND l.kind = r.kind AND l.number = r.number) FROM r"
);

/// The numbers of each kind grow with time, so each kind gives its last few without sorting.
const HISTORY: &str = concat!(
    "SELECT * FROM (SELECT ",
    open_columns!("o."),
    " FROM unnest('{0,1,2}'::smallint[]) AS k(kind) CROSS JOIN LATERAL (SELECT * FROM punctual_open \
        WHERE incarnation = $1 AND kind = k.kind ORDER BY number DESC LIMIT $2) AS o UNION ALL SELECT ",
    closed_columns!("l."),
    " FROM unnest('{0,1,2}'::smallint[]) AS k(kind) CROSS JOIN LATERAL (SELECT * FROM punctual_ledger \
        WHERE incarnation = $1 AND kind = k.kind ORDER BY number DESC LIMIT $2) AS l) AS every_row \
     ORDER BY fire_time DESC, kind DESC, number DESC LIMIT $2"
);

const PAGE: &str = concat!(
    "SELECT * FROM ((SELECT ",
    open_columns!("o."),
    " FROM punctual_open AS o WHERE (incarnation, kind, number) > ($1, $2, $3) \
        ORDER BY incarnation, kind, number LIMIT $4) UNION ALL (SELECT ",
    closed_columns!("l."),
    " FROM punctual_ledger AS l WHERE (incarnation, kind, number) > ($1, $2, $3) \
        ORDER BY incarnation, kind, number LIMIT $4)) AS every_row \
     ORDER BY incarnation, kind, number LIMIT $4"
);

const WAITING: &str = concat!(
    "SELECT ",
    open_columns!("o."),
    " FROM punctual_open AS o WHERE o.incarnation = ANY($1) AND o.node IS NULL \
        AND (o.incarnation, o.kind, o.number) > ($2, $3, $4) \
     ORDER BY o.incarnation, o.kind, o.number LIMIT $5"
);

arrays! {
    /// The columns of outcomes.
    Outcomes<'a> of &'a RowOutcome as it:
    incarnation: i64, INT8_ARRAY = signed(it.key.incarnation.0);
    kind: i16, INT2_ARRAY = kind_column(it.key.kind);
    number: i64, INT8_ARRAY = it.key.number;
    fence: i64, INT8_ARRAY = signed(it.fence);
    fate: String, TEXT_ARRAY = clean(&it.fate.to_string()).into_owned();
    attempt: i32, INT4_ARRAY = i32::try_from(it.attempt).unwrap_or(i32::MAX);
    started_at: Option<i64>, INT8_ARRAY = it.started_at.map(millis);
    ended_at: i64, INT8_ARRAY = millis(it.ended_at);
    message: Option<std::borrow::Cow<'a, str>>, TEXT_ARRAY = it.message.as_deref().map(clean);
    job_end: String, TEXT_ARRAY = clean(&it.job_end.to_string()).into_owned();
}

/// What a try has done is in the report, though a later statement of it fails.
pub(super) async fn finish(
    session: &Session<'_>,
    outcomes: &[RowOutcome],
    report: &mut FinishReport,
) -> Result<()> {
    let all: Vec<&RowOutcome> = outcomes.iter().collect();
    // An outcome whose job somebody else has locked delays no other. What is not found then is nearly
    // always closed or claimed anew.
    let left = close(session, FINISH, all, report).await?;
    let outcomes = close(session, FINISH_LOCKED, left, report).await?;
    if outcomes.is_empty() {
        return Ok(());
    }
    let parameters = Outcomes::of(outcomes.iter().copied());
    let rows = session.query(FINISH_LATE, parameters.parameters().collect()).await?;
    for row in &rows {
        let outcome = outcomes[place(get(row, 0)?)];
        if get::<Option<i64>>(row, 1)? != Some(signed(outcome.fence)) {
            report.refused.push(outcome.key);
        }
    }
    Ok(())
}

/// Closes open rows; returns the outcomes whose rows were not found.
async fn close<'a>(
    session: &Session<'_>,
    statement: &'static str,
    outcomes: Vec<&'a RowOutcome>,
    report: &mut FinishReport,
) -> Result<Vec<&'a RowOutcome>> {
    if outcomes.is_empty() {
        return Ok(outcomes);
    }
    let parameters = Outcomes::of(outcomes.iter().copied());
    let rows = session.query(statement, parameters.parameters().collect()).await?;
    let mut is_found = vec![false; outcomes.len()];
    for row in &rows {
        if let Some(ordinality) = get(row, 0)? {
            is_found[place(ordinality)] = true;
        } else {
            report.over.push(Incarnation(unsigned(get(row, 1)?)));
        }
    }
    let left = outcomes.into_iter().zip(is_found).filter(|(_, is_found)| !is_found);
    Ok(left.map(|(outcome, _)| outcome).collect())
}

/// The index of what has this place among the parameters.
pub(super) fn place(ordinality: i64) -> usize {
    usize::try_from(ordinality).map_or(0, |place| place - 1)
}

pub(super) async fn history(
    session: &Session<'_>,
    incarnation: Incarnation,
    limit: usize,
) -> Result<Vec<Row>> {
    let (incarnation, limit) = (signed(incarnation.0), bound(limit));
    let parameters: Vec<Parameter<'_>> = vec![(&incarnation, Type::INT8), (&limit, Type::INT8)];
    let rows = session.query(HISTORY, parameters).await?;
    rows.iter().map(|it| row(it, 0)).collect()
}

/// The columns of a key, or of the one before all keys.
pub(super) fn after(key: Option<RowKey>) -> (i64, i16, i64) {
    key.map_or((i64::MIN, i16::MIN, i64::MIN), |key| {
        (signed(key.incarnation.0), kind_column(key.kind), key.number)
    })
}

pub(super) async fn rows(
    session: &Session<'_>,
    from: Option<RowKey>,
    limit: usize,
) -> Result<Vec<Row>> {
    let (incarnation, kind, number) = after(from);
    let limit = bound(limit);
    let parameters: Vec<Parameter<'_>> = vec![
        (&incarnation, Type::INT8),
        (&kind, Type::INT2),
        (&number, Type::INT8),
        (&limit, Type::INT8),
    ];
    let rows = session.query(PAGE, parameters).await?;
    rows.iter().map(|it| row(it, 0)).collect()
}

/// The waiting rows of these jobs.
pub(super) async fn waiting(
    session: &Session<'_>,
    of: &[Incarnation],
    from: Option<RowKey>,
    limit: usize,
) -> Result<Vec<Row>> {
    let of: Vec<i64> = of.iter().map(|of| signed(of.0)).collect();
    let (incarnation, kind, number) = after(from);
    let limit = bound(limit);
    let parameters: Vec<Parameter<'_>> = vec![
        (&of, Type::INT8_ARRAY),
        (&incarnation, Type::INT8),
        (&kind, Type::INT2),
        (&number, Type::INT8),
        (&limit, Type::INT8),
    ];
    let rows = session.query(WAITING, parameters).await?;
    rows.iter().map(|it| row(it, 0)).collect()
}

/// A key as it is read.
pub(super) fn read_key(row: &tokio_postgres::Row) -> Result<RowKey> {
    key(row, 0)
}
