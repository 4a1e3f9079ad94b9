//! Fire times: which are due, who claims them, and when to claim next.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use tokio_postgres::{Row as Columns, types::Type};

use super::{
    super::{
        instant, millis,
        scan::{Candidate, Decided, Order, Page, Scan},
        signed, unsigned,
    },
    columns::{Keys, Parameter, Rows, bound, get, kind_column, record, row},
    error::{PostgresError, Result},
    jobs,
    ledger::{after, ends, locked, once_locked, place, read_key, settled},
    pool::{Session, Step},
};
use crate::store::{
    Claim, ClaimRequest, ClaimResult, ClaimedJob, Incarnation, NextDueRequest, NodeId, Release,
    Row, RowKey, RowState, StoreChange,
};

/// The jobs of the lines that a scan wants, with the number of the node's last claim and the time.
///
/// Jobs that others hold are passed over one by one: they are at most as many as all nodes have room for.
/// An index by holder would have to change with each run that ends.
macro_rules! candidates {
    ($lock:literal) => {
        concat!(
            "SELECT n.claim, n.now, c.* FROM (SELECT (SELECT claim FROM punctual_nodes \
                WHERE node = $1) AS claim, ",
            now!(),
            " AS now) AS n LEFT JOIN (",
            "SELECT line.page, j.* FROM unnest($2, $3, $4) AS line(page, task, after)",
            of_line!(
                "j.waiting > 0 AND (NOT j.paused OR j.asked > 0) AND j.incarnation > line.after",
                "j.incarnation",
                "$6",
                $lock
            ),
            " UNION ALL \
             SELECT line.page, j.* FROM unnest($7, $8, $9, $10) AS line(page, task, at, after)",
            of_line!(
                "NOT j.paused AND j.next_fire IS NOT NULL AND j.next_fire <= (SELECT $11) \
                    AND (j.next_fire, j.incarnation) > (line.at, line.after)",
                "j.next_fire, j.incarnation",
                "$6",
                $lock
            ),
            " UNION ALL \
             SELECT line.page, j.* FROM unnest($12, $13) AS line(page, task)",
            of_line!(
                "NOT j.paused AND j.next_fire IS NOT NULL AND j.next_fire <= (SELECT $11)",
                "j.next_fire DESC, j.incarnation DESC",
                "$14",
                $lock
            ),
            ") AS c ON true"
        )
    };
}

/// The jobs of a line that the node `$1` may claim, without those of the incarnations `$5`.
macro_rules! of_line {
    ($which:literal, $order:literal, $limit:literal, $lock:literal) => {
        concat!(
            " CROSS JOIN LATERAL (SELECT * FROM (SELECT j.rev, j.waiting, ",
            record_columns!("j."),
            " FROM punctual_jobs AS j WHERE j.task = line.task AND ",
            $which,
            " AND ",
            claimable!("j.holder", "$1"),
            " AND j.incarnation <> ALL($5) ORDER BY ",
            $order,
            // As many as a page has at most: a number that the plan may know.
            " LIMIT 1001 ",
            $lock,
            ") AS j LIMIT (SELECT ",
            $limit,
            ")) AS j"
        )
    };
}

/// Whether a job with this holder may be claimed by this node.
macro_rules! claimable {
    ($holder:literal, $node:literal) => {
        concat!("(", $holder, " IS NULL OR ", $holder, " = ", $node, ")")
    };
}

const CANDIDATES: &str = candidates!("");

/// The same, locked but for those that others have locked.
const LOCKED_CANDIDATES: &str = candidates!("FOR UPDATE OF j SKIP LOCKED");

/// The first waiting rows that count of some jobs, as many as a claim considers.
const WAITING: &str = concat!(
    "SELECT ",
    open_columns!("o."),
    " FROM unnest($1, $2) AS j(incarnation, paused) \
     CROSS JOIN LATERAL (SELECT * FROM punctual_open AS o WHERE o.incarnation = j.incarnation \
        AND o.node IS NULL AND (o.kind = 1 OR NOT j.paused) \
        ORDER BY o.kind, o.number LIMIT $3) AS o \
     ORDER BY o.incarnation, o.kind, o.number"
);

/// Claims as decided, if nobody was faster: rows in `$1` to `$21`, the node, its number, and the jobs
/// with what is compared, their new fences, and their next fire times.
macro_rules! claim {
    ($version:expr, $others:expr) => { concat!(
    "WITH me AS MATERIALIZED (UPDATE punctual_nodes SET claim = $23 \
        WHERE node = $22 AND claim < $23 RETURNING node), \
     locked AS MATERIALIZED (SELECT j.incarnation, j.id, j.rev, j.remember, j.claimed, j.waiting, \
        j.asked FROM punctual_jobs AS j WHERE (SELECT count(*) FROM me) = 1 \
        AND j.incarnation = ANY($24) AND j.ended_at IS NULL AND ",
    claimable!("j.holder", "$22"),
    " ORDER BY j.incarnation FOR UPDATE SKIP LOCKED), \
     job AS MATERIALIZED (SELECT l.*, d.fence, d.next_fire FROM locked AS l \
        JOIN unnest($24, $25, $26, $27) AS d(incarnation, rev, fence, next_fire) \
        ON d.incarnation = l.incarnation AND d.rev = l.rev), \
     looked_up AS MATERIALIZED (SELECT r.*, \
        (SELECT o.node IS NULL FROM punctual_open AS o WHERE o.incarnation = r.incarnation \
            AND o.kind = r.kind AND o.number = r.number) AS waits, \
        (SELECT true FROM punctual_ledger AS l WHERE l.incarnation = r.incarnation \
            AND l.kind = r.kind AND l.number = r.number) AS is_closed FROM ",
    unnest_rows!(),
    " WHERE r.incarnation IN (SELECT incarnation FROM job)), \
     put AS MATERIALIZED (SELECT l.*, is_closed IS NULL AND waits IS DISTINCT FROM false AS is_new \
        FROM looked_up AS l), \
     after AS MATERIALIZED (SELECT incarnation, max(id) AS id, max(fence) AS fence, \
        max(next_fire) AS next_fire, bool_or(remember) AS remember, sum(claimed)::int AS claimed, \
        sum(waiting)::int AS waiting, sum(asked)::int AS asked, 'completed' AS job_end, \
        array_agg(left_out) FILTER (WHERE left_out IS NOT NULL) AS left_out, \
        max(next_fire) IS NULL AND sum(claimed) = 0 AND sum(waiting) = 0 AS is_over \
        FROM (SELECT incarnation, id, fence, next_fire, remember, claimed, waiting, asked, \
            NULL::bigint AS left_out FROM job UNION ALL \
        SELECT incarnation, NULL, NULL, NULL, NULL, \
            CASE WHEN is_new AND node IS NOT NULL THEN 1 ELSE 0 END, \
            CASE WHEN is_new AND node IS NULL AND fate IS NULL THEN 1 ELSE 0 END \
                - CASE WHEN is_new AND waits THEN 1 ELSE 0 END, \
            CASE WHEN is_new AND node IS NULL AND fate IS NULL AND kind = 1 THEN 1 ELSE 0 END \
                - CASE WHEN is_new AND waits AND kind = 1 THEN 1 ELSE 0 END, \
            CASE WHEN NOT is_new THEN place END FROM put) AS every_row GROUP BY incarnation), \
     changed AS (UPDATE punctual_jobs AS j SET fence = a.fence, next_fire = a.next_fire, \
        claimed = a.claimed, waiting = a.waiting, asked = a.asked, rev = j.rev + 1, \
        holder = CASE WHEN a.claimed > 0 THEN $22 END",
    $version,
    " FROM after AS a WHERE j.incarnation = a.incarnation AND (a.remember OR NOT a.is_over)), \
     opened AS (INSERT INTO punctual_open AS o (",
    shared_columns!(""),
    ", node, claim) SELECT ",
    shared_columns!(""),
    ", node, CASE WHEN node IS NOT NULL THEN $23 END FROM put WHERE is_new AND fate IS NULL \
        ON CONFLICT (incarnation, kind, number) DO UPDATE SET (",
    shared_columns!(""),
    ", node, claim) = (",
    shared_columns!("EXCLUDED."),
    ", EXCLUDED.node, EXCLUDED.claim))",
    $others,
    " SELECT (SELECT count(*) FROM me), a.incarnation, a.left_out \
     FROM (SELECT 1) AS one LEFT JOIN after AS a ON true"
    ) };
}

/// What a claim needs as well that closes rows, or that may end a job: it makes each claim slower.
const CLAIM: &str = claim!(
    concat!(
        ", version = j.version + CASE WHEN a.is_over THEN 1 ELSE 0 END, \
         ended_at = CASE WHEN a.is_over THEN ",
        now!(),
        " END"
    ),
    concat!(
        ", deleted AS (DELETE FROM punctual_jobs AS j USING after AS a \
            WHERE j.incarnation = a.incarnation AND a.is_over AND NOT a.remember), \
         dropped AS (DELETE FROM punctual_open AS o USING put AS p \
            WHERE o.incarnation = p.incarnation AND o.kind = p.kind AND o.number = p.number \
            AND p.is_new AND p.waits AND p.fate IS NOT NULL), \
         closed AS (INSERT INTO punctual_ledger (",
        shared_columns!(""),
        ", fate) SELECT ",
        shared_columns!(""),
        ", fate FROM put WHERE is_new AND fate IS NOT NULL), ",
        ends!()
    )
);

/// The same where no row is closed and each job fires again.
const CLAIM_ONLY: &str = claim!("", "");

/// Counts a claim of nothing.
const COUNT: &str =
    "UPDATE punctual_nodes SET claim = $2 WHERE node = $1 AND claim < $2 RETURNING node";

const OF_CLAIM: &str = concat!(
    "SELECT ",
    open_columns!("o."),
    " FROM punctual_open AS o WHERE o.node = $1 AND o.claim = $2 \
     ORDER BY o.incarnation, o.kind, o.number"
);

const CLAIMED_BY: &str = "SELECT incarnation, kind, number, fence FROM punctual_open \
     WHERE node = $1 AND (incarnation, kind, number) > ($2, $3, $4) \
     ORDER BY incarnation, kind, number LIMIT $5";

const CLAIMED: &str = concat!(
    "SELECT ",
    open_columns!("o."),
    " FROM unnest($1, $2, $3) AS k(incarnation, kind, number) \
     CROSS JOIN LATERAL (SELECT * FROM punctual_open AS o WHERE o.incarnation = k.incarnation \
        AND o.kind = k.kind AND o.number = k.number AND o.node = $4 OFFSET 0) AS o \
     ORDER BY o.incarnation, o.kind, o.number"
);

/// Rows wait again, or are closed if their job is gone. Only jobs whose rows are claimed like that are
/// locked, so that a release that is sent again keeps no claim from them.
const RELEASE: &str = concat!(
    "WITH r AS MATERIALIZED (SELECT r.* FROM unnest($1, $2, $3, $4, $5) \
        AS r(incarnation, kind, number, fence, attempt) \
        WHERE (SELECT true FROM punctual_open AS o WHERE o.incarnation = r.incarnation \
            AND o.kind = r.kind AND o.number = r.number AND o.node = $6 AND o.fence = r.fence)), ",
    locked!("ARRAY(SELECT incarnation FROM r)", "FOR UPDATE"),
    ", moved AS (UPDATE punctual_open AS o SET node = NULL, claim = NULL, \
        attempt = greatest(o.attempt, r.attempt) FROM r WHERE ",
    once_locked!(),
    " AND o.incarnation = r.incarnation AND o.kind = r.kind AND o.number = r.number \
        AND o.node = $6 AND o.fence = r.fence \
        AND r.incarnation IN (SELECT incarnation FROM locked) \
        RETURNING o.incarnation, o.kind), \
     gone AS (DELETE FROM punctual_open AS o USING r WHERE ",
    once_locked!(),
    " AND o.incarnation = r.incarnation AND o.kind = r.kind AND o.number = r.number \
        AND o.node = $6 AND o.fence = r.fence \
        AND r.incarnation NOT IN (SELECT incarnation FROM locked) RETURNING ",
    shared_with!(
        "o.",
        "greatest(o.attempt, r.attempt) AS attempt",
        "o.started_at",
        "o.ended_at",
        "o.message"
    ),
    "), closed AS (INSERT INTO punctual_ledger (",
    shared_columns!(""),
    ", fate) SELECT ",
    shared_with!("", "attempt", "started_at", now!(), "message"),
    ", CASE WHEN attempt > 1 THEN 'abandoned' ELSE 'skipped: removed' END FROM gone \
        ON CONFLICT DO NOTHING), \
     delta AS (SELECT incarnation, -1 AS claimed, 1 AS waiting, \
        CASE WHEN kind = 1 THEN 1 ELSE 0 END AS asked, 'completed' AS job_end, 0 AS place \
        FROM moved), ",
    settled!(),
    " SELECT (SELECT count(*) FROM moved)"
);

/// When there is something to claim next, and whether something waits.
const NEXT_DUE: &str = concat!(
    "SELECT (SELECT true FROM unnest($2) AS line(task) \
        CROSS JOIN LATERAL (SELECT FROM punctual_jobs AS j WHERE j.task = line.task \
            AND j.waiting > 0 AND (NOT j.paused OR j.asked > 0) AND j.incarnation > (SELECT $3) AND ",
    claimable!("j.holder", "$1"),
    " AND j.incarnation <> ALL($6) ORDER BY j.incarnation LIMIT 1) AS j LIMIT 1), \
     (SELECT min(j.next_fire) FROM unnest($2) AS line(task) \
        CROSS JOIN LATERAL (SELECT j.next_fire FROM punctual_jobs AS j WHERE j.task = line.task \
            AND NOT j.paused AND j.next_fire IS NOT NULL \
            AND (j.next_fire, j.incarnation) > ((SELECT $4), (SELECT $5)) AND ",
    claimable!("j.holder", "$1"),
    " AND j.incarnation <> ALL($6) ORDER BY j.next_fire, j.incarnation LIMIT 1) AS j)"
);

/// What came of a claim.
pub(super) struct Done {
    pub(super) result: ClaimResult,
    /// How many jobs others have changed or claimed meanwhile.
    pub(super) lost: usize,
}

/// Claims; if it `locks`, in a transaction that has the candidates locked while it decides.
pub(super) async fn claim(
    session: &Session<'_>,
    request: &ClaimRequest,
    locks: bool,
) -> Result<Done> {
    let mut scan = Scan::new(request, 1);
    let mut now = None;
    while now.is_none() || !scan.wanted().is_empty() {
        let wanted = scan.wanted();
        let read = read(session, request, &wanted, locks, now.is_none()).await?;
        if now.is_none() {
            let last = read.last.ok_or(PostgresError::LeaseLost)?;
            if request.number < last {
                let number = request.number;
                return Err(PostgresError::Refused(format!(
                    "claim {number} follows claim {last} of the same node: the numbers must ascend"
                )));
            }
            if request.number == last {
                if locks {
                    session.all(vec![Step::Run("ROLLBACK".into())]).await?;
                }
                return Ok(Done { result: repeated(session, request).await?, lost: 0 });
            }
        }
        now = Some(read.now);
        scan.feed(read.pages);
    }
    let now = now.unwrap_or_default();
    commit(session, request, scan, locks, now).await
}

/// What one look at the lines has found.
struct Read {
    /// The number of the node's last claim, if the node has a row.
    last: Option<u64>,
    now: DateTime<Utc>,
    pages: Vec<Vec<Candidate<i64>>>,
}

/// The lines of one order, as parameters.
#[derive(Default)]
struct Lines<'a> {
    page: Vec<i64>,
    task: Vec<&'a str>,
    at: Vec<i64>,
    after: Vec<i64>,
    limit: i64,
}

impl<'a> Lines<'a> {
    fn of(order: Order, wanted: &[Page<'a>]) -> Lines<'a> {
        let mut lines = Lines::default();
        for (index, page) in (0..).zip(wanted).filter(|(_, page)| page.order == order) {
            lines.page.push(index);
            lines.task.push(page.task);
            lines.at.push(page.after.0);
            lines.after.push(page.after.1);
            lines.limit = bound(page.limit);
        }
        lines
    }
}

async fn read(
    session: &Session<'_>,
    request: &ClaimRequest,
    wanted: &[Page<'_>],
    locks: bool,
    is_first: bool,
) -> Result<Read> {
    let waiting = Lines::of(Order::Waiting, wanted);
    let due = Lines::of(Order::Due, wanted);
    let newest = Lines::of(Order::Newest, wanted);
    let node = signed(request.node.0);
    let except: Vec<i64> = request.except.iter().map(|it| signed(it.0)).collect();
    let horizon = millis(request.horizon);
    let limit = waiting.limit.max(due.limit);
    let parameters: Vec<Parameter<'_>> = vec![
        (&node, Type::INT8),
        (&waiting.page, Type::INT8_ARRAY),
        (&waiting.task, Type::TEXT_ARRAY),
        (&waiting.after, Type::INT8_ARRAY),
        (&except, Type::INT8_ARRAY),
        (&limit, Type::INT8),
        (&due.page, Type::INT8_ARRAY),
        (&due.task, Type::TEXT_ARRAY),
        (&due.at, Type::INT8_ARRAY),
        (&due.after, Type::INT8_ARRAY),
        (&horizon, Type::INT8),
        (&newest.page, Type::INT8_ARRAY),
        (&newest.task, Type::TEXT_ARRAY),
        (&newest.limit, Type::INT8),
    ];
    let select = if locks { LOCKED_CANDIDATES } else { CANDIDATES };
    let mut steps = Vec::with_capacity(2);
    if locks && is_first {
        steps.push(session.begin());
    }
    steps.push(Step::Query(select, parameters));
    let rows = session.all(steps).await?.pop().unwrap_or_default();
    let mut pages: Vec<Vec<Candidate<i64>>> = wanted.iter().map(|_| Vec::new()).collect();
    let mut waits: HashMap<Incarnation, bool> = HashMap::new();
    for row in &rows {
        let Some(page) = get::<Option<i64>>(row, 2)? else { continue };
        let record = record(row, 5)?;
        if get::<i32>(row, 4)? > 0 {
            waits.insert(record.incarnation, record.paused);
        }
        let candidate = Candidate { record, known: get(row, 3)?, rows: Vec::new() };
        pages[page as usize].push(candidate);
    }
    if !waits.is_empty() {
        add_waiting(session, &mut pages, &waits).await?;
    }
    for (page, candidates) in wanted.iter().zip(&mut pages) {
        candidates.sort_by_key(|it| page.order.place(&it.record));
        if page.order == Order::Newest {
            candidates.reverse();
        }
    }
    let (last, now): (Option<i64>, i64) = match rows.first() {
        Some(row) => (get(row, 0)?, get(row, 1)?),
        None => return Err(PostgresError::Raced),
    };
    Ok(Read { last: last.map(unsigned), now: instant(now), pages })
}

/// Adds the waiting rows of these jobs, which may be paused.
async fn add_waiting(
    session: &Session<'_>,
    pages: &mut [Vec<Candidate<i64>>],
    waits: &HashMap<Incarnation, bool>,
) -> Result<()> {
    let (incarnations, paused): (Vec<i64>, Vec<bool>) =
        waits.iter().map(|(of, paused)| (signed(of.0), *paused)).unzip();
    let most = bound(ClaimRequest::MOST_WAITING);
    let parameters: Vec<Parameter<'_>> =
        vec![(&incarnations, Type::INT8_ARRAY), (&paused, Type::BOOL_ARRAY), (&most, Type::INT8)];
    let mut by_job: HashMap<Incarnation, Vec<Row>> = HashMap::new();
    for it in session.query(WAITING, parameters).await? {
        let row = row(&it, 0)?;
        by_job.entry(row.key.incarnation).or_default().push(row);
    }
    for candidate in pages.iter_mut().flatten() {
        if let Some(rows) = by_job.get(&candidate.record.incarnation) {
            candidate.rows.clone_from(rows);
        }
    }
    Ok(())
}

/// Claims what the scan has decided, and asks for the next claim in the same round trip.
async fn commit(
    session: &Session<'_>,
    request: &ClaimRequest,
    scan: Scan<'_, i64>,
    locks: bool,
    now: DateTime<Utc>,
) -> Result<Done> {
    let Scan { mut decided, mut result, unclaimed, .. } = scan;
    let (mut incarnations, mut revs, mut fences, mut nexts) = (vec![], vec![], vec![], vec![]);
    for Decided { record, known: rev, rows, next_fire } in &mut decided {
        record.fence = record.next_fence(now);
        record.next_fire = *next_fire;
        for row in rows {
            if let RowState::Claimed(node) = &mut row.state {
                *node = request.node;
                row.node = Some(request.node);
                row.fence = record.fence;
            }
        }
        incarnations.push(signed(record.incarnation.0));
        revs.push(*rev);
        fences.push(signed(record.fence));
        nexts.push(next_fire.map(millis));
    }
    let rows = Rows::of(decided.iter().flat_map(|it| &it.rows));
    let is_open = |row: &Row| row.state.is_open();
    let (node, number) = (signed(request.node.0), signed(request.number));
    let due = (!result.more).then(|| DueLines::of(&request.next_due(result.passed, &unclaimed)));

    let mut steps = Vec::with_capacity(3);
    if decided.is_empty() {
        let parameters: Vec<Parameter<'_>> = vec![(&node, Type::INT8), (&number, Type::INT8)];
        steps.push(Step::Query(COUNT, parameters));
    } else {
        let mut parameters: Vec<Parameter<'_>> = rows.parameters().collect();
        parameters.extend([
            (&node as _, Type::INT8),
            (&number as _, Type::INT8),
            (&incarnations as _, Type::INT8_ARRAY),
            (&revs as _, Type::INT8_ARRAY),
            (&fences as _, Type::INT8_ARRAY),
            (&nexts as _, Type::INT8_ARRAY),
        ]);
        let is_plain = |it: &Decided<i64>| it.next_fire.is_some() && it.rows.iter().all(is_open);
        let claim = if decided.iter().all(is_plain) { CLAIM_ONLY } else { CLAIM };
        steps.push(Step::Query(claim, parameters));
    }
    if locks {
        steps.push(Step::Run("COMMIT".into()));
    }
    if let Some(due) = &due {
        steps.push(Step::Query(NEXT_DUE, due.parameters()));
    }
    let answers = session.all(steps).await?;
    let mut left_out = HashMap::new();
    if decided.is_empty() && answers[0].is_empty() {
        return Err(PostgresError::Raced);
    }
    for row in answers[0].iter().filter(|_| !decided.is_empty()) {
        if get::<i64>(row, 0)? == 0 {
            return Err(PostgresError::Raced);
        }
        if let Some(incarnation) = get::<Option<i64>>(row, 1)? {
            left_out.insert(incarnation, get::<Option<Vec<i64>>>(row, 2)?.unwrap_or_default());
        }
    }
    let (mut lost, mut first) = (0, 0);
    for Decided { record, rows, .. } in decided {
        let behind = first + rows.len();
        if let Some(left_out) = left_out.get(&signed(record.incarnation.0)) {
            let places = first..behind;
            let is_put = |index: usize| !left_out.iter().any(|it| place(*it) == index);
            let put = rows.into_iter().zip(places).filter(|(_, index)| is_put(*index));
            let rows = put.map(|(row, _)| row).collect();
            result.jobs.push(ClaimedJob { record, rows });
        } else {
            lost += 1;
        }
        first = behind;
    }
    result.more |= lost > 0;
    if let (Some(_), false, Some(rows)) = (&due, result.more, answers.last()) {
        result.next_due = read_due(rows)?;
    }
    Ok(Done { result, lost })
}

/// The rows that the node still has of the claim with this number.
async fn repeated(session: &Session<'_>, request: &ClaimRequest) -> Result<ClaimResult> {
    let (node, number) = (signed(request.node.0), signed(request.number));
    let parameters: Vec<Parameter<'_>> = vec![(&node, Type::INT8), (&number, Type::INT8)];
    let rows = session.query(OF_CLAIM, parameters).await?;
    let rows = rows.iter().map(|it| row(it, 0)).collect::<Result<_>>()?;
    Ok(ClaimResult { more: true, passed: request.passed, ..with_records(session, rows).await? })
}

/// Rows in order of their incarnations, with their records.
async fn with_records(session: &Session<'_>, rows: Vec<Row>) -> Result<ClaimResult> {
    let mut result = ClaimResult::default();
    if rows.is_empty() {
        return Ok(result);
    }
    let mut of: Vec<i64> = rows.iter().map(|row| signed(row.key.incarnation.0)).collect();
    of.dedup();
    let records = session.query(jobs::BY_INCARNATION, vec![(&of, Type::INT8_ARRAY)]).await?;
    let mut records: HashMap<Incarnation, _> = records
        .iter()
        .map(|row| record(row, 0).map(|record| (record.incarnation, record)))
        .collect::<Result<_>>()?;
    for row in rows {
        match result.jobs.last_mut() {
            Some(last) if last.record.incarnation == row.key.incarnation => last.rows.push(row),
            _ => match records.remove(&row.key.incarnation) {
                Some(record) => result.jobs.push(ClaimedJob { record, rows: vec![row] }),
                None => result.orphans.push(row),
            },
        }
    }
    Ok(result)
}

pub(super) async fn claimed_by(
    session: &Session<'_>,
    node: NodeId,
    from: Option<RowKey>,
    limit: usize,
) -> Result<Vec<Claim>> {
    let (node, limit) = (signed(node.0), bound(limit));
    let (incarnation, kind, number) = after(from);
    let parameters: Vec<Parameter<'_>> = vec![
        (&node, Type::INT8),
        (&incarnation, Type::INT8),
        (&kind, Type::INT2),
        (&number, Type::INT8),
        (&limit, Type::INT8),
    ];
    let rows = session.query(CLAIMED_BY, parameters).await?;
    let claim = |row: &Columns| Ok(Claim { key: read_key(row)?, fence: unsigned(get(row, 3)?) });
    rows.iter().map(claim).collect()
}

pub(super) async fn claimed(
    session: &Session<'_>,
    node: NodeId,
    rows: &[RowKey],
) -> Result<ClaimResult> {
    let (node, keys) = (signed(node.0), Keys::of(rows));
    let mut parameters: Vec<Parameter<'_>> = keys.parameters().collect();
    parameters.push((&node, Type::INT8));
    let rows = session.query(CLAIMED, parameters).await?;
    let rows = rows.iter().map(|it| row(it, 0)).collect::<Result<_>>()?;
    with_records(session, rows).await
}

arrays! {
    /// The columns of released rows.
    Releases<'a> of &'a Release as it:
    incarnation: i64, INT8_ARRAY = signed(it.key.incarnation.0);
    kind: i16, INT2_ARRAY = kind_column(it.key.kind);
    number: i64, INT8_ARRAY = it.key.number;
    fence: i64, INT8_ARRAY = signed(it.fence);
    attempt: i32, INT4_ARRAY = i32::try_from(it.attempt).unwrap_or(i32::MAX);
}

pub(super) async fn release(
    session: &Session<'_>,
    node: NodeId,
    rows: &[Release],
    channel: Option<&str>,
) -> Result<()> {
    let (node, releases) = (signed(node.0), Releases::of(rows));
    let mut parameters: Vec<Parameter<'_>> = releases.parameters().collect();
    parameters.push((&node, Type::INT8));
    let released = session.query(RELEASE, parameters).await?;
    if get::<i64>(&released[0], 0)? > 0 {
        let waits = StoreChange::Due(DateTime::<Utc>::MIN_UTC);
        jobs::notify(session, channel, &[waits]).await?;
    }
    Ok(())
}

/// The parameters of [`NEXT_DUE`].
struct DueLines {
    node: i64,
    tasks: Vec<String>,
    waiting: i64,
    due: (i64, i64),
    except: Vec<i64>,
}

impl DueLines {
    fn of(of: &NextDueRequest) -> DueLines {
        let due = of.passed.due.map(|(at, passed)| (millis(at), signed(passed.0)));
        DueLines {
            node: signed(of.node.0),
            tasks: of.tasks.iter().cloned().collect(),
            waiting: of.passed.waiting.map_or(i64::MIN, |passed| signed(passed.0)),
            due: due.unwrap_or((i64::MIN, i64::MIN)),
            except: of.except.iter().map(|it| signed(it.0)).collect(),
        }
    }

    fn parameters(&self) -> Vec<Parameter<'_>> {
        vec![
            (&self.node, Type::INT8),
            (&self.tasks, Type::TEXT_ARRAY),
            (&self.waiting, Type::INT8),
            (&self.due.0, Type::INT8),
            (&self.due.1, Type::INT8),
            (&self.except, Type::INT8_ARRAY),
        ]
    }
}

fn read_due(rows: &[Columns]) -> Result<Option<DateTime<Utc>>> {
    let Some(row) = rows.first() else { return Ok(None) };
    if get::<Option<bool>>(row, 0)?.unwrap_or(false) {
        return Ok(Some(DateTime::<Utc>::MIN_UTC));
    }
    Ok(get::<Option<i64>>(row, 1)?.map(instant))
}

pub(super) async fn next_due(
    session: &Session<'_>,
    of: &NextDueRequest,
) -> Result<Option<DateTime<Utc>>> {
    let lines = DueLines::of(of);
    read_due(&session.query(NEXT_DUE, lines.parameters()).await?)
}
