//! Fire times: which are due, who claims them, and when to claim next.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
};

use chrono::{DateTime, Utc};
use mysql_async::Row as Columns;

use super::{
    super::{
        instant, millis,
        scan::{Candidate, Decided, Order, Page, Scan},
        signed, unsigned,
        write::OpenRows,
    },
    columns::{
        List, NOW, OPEN, RECORD, RECORD_COLUMNS, ROW, Text, by_incarnation, by_key, get,
        incarnations, joined, key, keys, open_rows, record, row,
    },
    edit::{Edit, Locked, has_row, lock, locked, place, time},
    error::{MySqlError, Result},
    ledger,
    pool::{Answers, BEGIN, Session, ensure},
    schema::Tables,
};
use crate::store::{
    Claim, ClaimRequest, ClaimResult, ClaimedJob, Fate, Incarnation, NextDueRequest, NodeId,
    Release, Row, RowKey, RowState,
};

/// How many rows of a candidate are open, and the node that holds it.
type Held = (OpenRows, Option<i64>);

/// What a claim has read beside the candidates.
#[derive(Default)]
struct Look {
    now: DateTime<Utc>,
    /// The keys of the waiting rows that were read.
    waiting: HashSet<RowKey>,
}

/// Claims, in a transaction that has the candidates locked while it decides.
pub(super) async fn claim(
    session: &mut Session<'_>,
    request: &ClaimRequest,
) -> Result<ClaimResult> {
    // Rows that are to be put are taken to be new. If one is not, all is rolled back, and the claim is
    // done again by one that looks.
    match attempt(session, request, false).await {
        Err(error) if error.is_of_a_key() => {
            session.run("ROLLBACK").await?;
            attempt(session, request, true).await
        }
        result => result,
    }
}

async fn attempt(
    session: &mut Session<'_>,
    request: &ClaimRequest,
    looks_up: bool,
) -> Result<ClaimResult> {
    let mut scan = Scan::new(request, 0);
    let mut look = Look::default();
    let mut is_first = true;
    while is_first || !scan.wanted().is_empty() {
        let wanted = scan.wanted();
        let sql = select(session.tables(), request, &wanted, is_first);
        let mut answers = session.run(&sql).await?;
        if is_first {
            let node = answers.remove(0);
            let Some(node) = node.first() else { return Err(MySqlError::LeaseLost) };
            let last = unsigned(get(node, 0)?);
            if request.number < last {
                let number = request.number;
                return Err(MySqlError::Refused(format!(
                    "claim {number} follows claim {last} of the same node: the numbers must ascend"
                )));
            }
            if request.number == last {
                session.run("ROLLBACK").await?;
                return repeated(session, request).await;
            }
            look.now = instant(get(node, 1)?);
            is_first = false;
        }
        let pages = read(session, answers, &mut look).await?;
        scan.feed(pages);
    }
    commit(session, request, scan, look, looks_up).await
}

/// The SQL for the pages that a scan wants, locked but for the jobs that others have locked.
fn select(tables: &Tables, request: &ClaimRequest, wanted: &[Page<'_>], is_first: bool) -> String {
    let Tables { jobs, nodes, .. } = tables;
    let node = signed(request.node.0);
    let mut sql = String::new();
    if is_first {
        // The node's row is not locked yet: if this client stops, the others can still expire it.
        let _ = write!(sql, "{BEGIN}; SELECT claim, {NOW} FROM {nodes} WHERE node = {node}");
    }
    let except = without(request.except.iter());
    for Page { order, task, after: (at, after), limit } in wanted {
        let (which, order) = match order {
            Order::Waiting => (format!("ready = 1 AND incarnation > {after}"), "incarnation"),
            Order::Due => (
                format!(
                    "paused = 0 AND next_fire <= {} \
                     AND (next_fire > {at} OR (next_fire = {at} AND incarnation > {after}))",
                    millis(request.horizon)
                ),
                "next_fire, incarnation",
            ),
            Order::Newest => (
                format!("paused = 0 AND next_fire <= {}", millis(request.horizon)),
                "next_fire DESC, incarnation DESC",
            ),
        };
        let separator = if sql.is_empty() { "" } else { "; " };
        // Writing into a string does not fail.
        let _ = write!(
            sql,
            "{separator}SELECT {RECORD}, claimed, waiting, asked, holder FROM {jobs} \
             WHERE task = {task} AND {which} AND {CLAIMABLE} {node}){except} \
             ORDER BY {order} LIMIT {limit} FOR UPDATE SKIP LOCKED",
            task = Text(task),
        );
    }
    sql
}

/// Whether a node may claim a job; the node and `)` follow.
///
/// Jobs that others hold are passed over one by one: they are at most as many as all nodes have room for.
const CLAIMABLE: &str = "(holder IS NULL OR holder =";

/// The condition that jobs are none of these.
fn without<'a>(except: impl ExactSizeIterator<Item = &'a Incarnation> + Clone) -> String {
    if except.len() == 0 {
        return String::new();
    }
    format!(" AND incarnation NOT IN ({})", List(except.map(|it| signed(it.0))))
}

/// Reads pages, and the waiting rows of their jobs.
async fn read(
    session: &mut Session<'_>,
    answers: Answers,
    look: &mut Look,
) -> Result<Vec<Vec<Candidate<Held>>>> {
    let mut pages = Vec::with_capacity(answers.len());
    let mut waiting = BTreeMap::new();
    for rows in &answers {
        let mut page = Vec::with_capacity(rows.len());
        for row in rows {
            let record = record(row, 0)?;
            let open = open_rows(row, RECORD_COLUMNS)?;
            if open.waiting > 0 {
                waiting.insert(record.incarnation, (record.paused, open.waiting));
            }
            let known = (open, get(row, RECORD_COLUMNS + 3)?);
            page.push(Candidate { record, known, rows: Vec::new() });
        }
        pages.push(page);
    }
    if !waiting.is_empty() {
        let sql = waiting_rows(session.tables(), &waiting);
        let mut by_job: HashMap<Incarnation, Vec<Row>> = HashMap::new();
        for columns in session.run(&sql).await?.iter().flatten() {
            let row = row(columns)?;
            look.waiting.insert(row.key);
            by_job.entry(row.key.incarnation).or_default().push(row);
        }
        for candidate in pages.iter_mut().flatten() {
            if let Some(rows) = by_job.get(&candidate.record.incarnation) {
                candidate.rows.clone_from(rows);
            }
        }
    }
    Ok(pages)
}

/// The first waiting rows that count of some jobs, as many as a claim considers; with the jobs, whether
/// they are paused, and how many rows of theirs wait.
fn waiting_rows(tables: &Tables, of: &BTreeMap<Incarnation, (bool, i32)>) -> String {
    let open = &tables.open;
    let most = ClaimRequest::MOST_WAITING;
    let (few, many): (Vec<_>, Vec<_>) =
        of.iter().partition(|(_, (_, waiting))| usize::try_from(*waiting).unwrap_or(0) <= most);
    let mut sql = Vec::with_capacity(many.len() + 1);
    if !few.is_empty() {
        let rows: Vec<_> = few
            .iter()
            .map(|(of, (paused, _))| [Some(signed(of.0)), Some(i64::from(*paused))])
            .collect();
        sql.push(format!(
            "SELECT {ROW}, {OPEN} FROM {} WHERE node IS NULL AND (kind = 1 OR NOT r_paused) \
             ORDER BY incarnation, kind, number",
            joined(["r_of", "r_paused"], &rows, open)
        ));
    }
    for (of, (paused, _)) in many {
        let which = if *paused { " AND kind = 1" } else { "" };
        sql.push(format!(
            "SELECT {ROW}, {OPEN} FROM {open} WHERE incarnation = {} AND node IS NULL{which} \
             ORDER BY incarnation, kind, number LIMIT {most}",
            signed(of.0)
        ));
    }
    sql.join("; ")
}

/// Which of some keys the ledger has, and whether their rows wait.
async fn look_up(
    session: &mut Session<'_>,
    of: impl Iterator<Item = &RowKey>,
) -> Result<HashMap<RowKey, bool>> {
    let Tables { open, ledger, .. } = session.tables();
    let of = keys(of);
    let sql = format!(
        "SELECT incarnation, kind, number, node IS NULL FROM {}; \
         SELECT incarnation, kind, number, false FROM {}",
        by_key(&of, open),
        by_key(&of, ledger)
    );
    let known = |row: &Columns| Ok((key(row, 0)?, get(row, 3)?));
    session.run(&sql).await?.iter().flatten().map(known).collect()
}

/// Claims what the scan has decided, and asks for the next claim in the same round trip.
async fn commit(
    session: &mut Session<'_>,
    request: &ClaimRequest,
    scan: Scan<'_, Held>,
    look: Look,
    looks_up: bool,
) -> Result<ClaimResult> {
    let Scan { decided, mut result, unclaimed, .. } = scan;
    let Look { now, waiting } = look;
    let known = match looks_up {
        true => {
            look_up(session, decided.iter().flat_map(|it| &it.rows).map(|row| &row.key)).await?
        }
        false => waiting.into_iter().map(|key| (key, true)).collect(),
    };
    let mut edit = Edit::new(session.tables(), now);
    for Decided { mut record, known: (mut open, holder), rows, next_fire } in decided {
        record.fence = record.next_fence(now);
        record.next_fire = next_fire;
        let mut put = Vec::with_capacity(rows.len());
        for mut row in rows {
            let waits = match known.get(&row.key) {
                // It is covered by another commit.
                Some(false) => continue,
                Some(true) => true,
                None => false,
            };
            if waits {
                open.add(row.key.kind, 0, -1);
            }
            match &mut row.state {
                RowState::Claimed(node) => {
                    *node = request.node;
                    row.node = Some(request.node);
                    row.fence = record.fence;
                    open.add(row.key.kind, 1, 0);
                }
                RowState::Waiting => open.add(row.key.kind, 0, 1),
                RowState::Closed(_) => {}
            }
            match (row.state.is_open(), waits) {
                (true, true) => edit.replace(row.clone(), Some(request.number)),
                (true, false) => edit.open(row.clone(), Some(request.number)),
                (false, true) => edit.close(row.clone()),
                (false, false) => edit.add_closed(row.clone()),
            }
            put.push(row);
        }
        let job = Locked {
            incarnation: record.incarnation,
            id: record.id.clone(),
            fence: record.fence,
            next_fire,
            remember: record.remember,
            open,
            holder: holder.or(Some(signed(request.node.0))),
        };
        edit.set(job, Fate::Completed);
        result.jobs.push(ClaimedJob { record, rows: put });
    }
    let Tables { nodes, ledger, open: open_table, .. } = session.tables();
    let (node, number) = (signed(request.node.0), signed(request.number));
    let mut sql = format!(
        "UPDATE {nodes} SET claim = {number} WHERE node = {node} AND claim < {number}; {}; ",
        ensure("ROW_COUNT() = 1")
    );
    if !looks_up {
        let opened: Vec<&RowKey> = edit.opened_keys().collect();
        if !opened.is_empty() {
            let is_closed = has_row(ledger, opened.iter().copied());
            let _ = write!(sql, "{}; ", ensure(&format!("NOT {is_closed}")));
        }
        let closed: Vec<&RowKey> = edit.closed_keys().collect();
        if !closed.is_empty() {
            let is_known = format!(
                "{} OR {}",
                has_row(ledger, closed.iter().copied()),
                has_row(open_table, closed.iter().copied())
            );
            let _ = write!(sql, "{}; ", ensure(&format!("NOT ({is_known})")));
        }
    }
    sql.push_str(&edit.sql());
    sql.push_str("COMMIT");
    if !result.more {
        let due = request.next_due(result.passed, &unclaimed);
        let _ = write!(sql, "; {}", due_select(session.tables(), &due));
    }
    let answers = session.run(&sql).await.map_err(|error| match error {
        // The node's row is gone, or another claim of the node was faster.
        error if looks_up && error.is_of_a_key() => MySqlError::Raced,
        error => error,
    })?;
    if !result.more {
        result.next_due = read_due(&answers)?;
    }
    Ok(result)
}

/// The rows that the node still has of the claim with this number.
async fn repeated(session: &mut Session<'_>, request: &ClaimRequest) -> Result<ClaimResult> {
    let open = &session.tables().open;
    let (node, number) = (signed(request.node.0), signed(request.number));
    let sql = format!(
        "SELECT {ROW}, {OPEN} FROM {open} WHERE node = {node} AND claim = {number} \
         ORDER BY incarnation, kind, number"
    );
    let rows = ledger::read(&session.run(&sql).await?)?;
    Ok(ClaimResult { more: true, passed: request.passed, ..with_records(session, rows).await? })
}

/// Rows in order of their incarnations, with their records.
async fn with_records(session: &mut Session<'_>, rows: Vec<Row>) -> Result<ClaimResult> {
    let mut result = ClaimResult::default();
    if rows.is_empty() {
        return Ok(result);
    }
    let jobs = &session.tables().jobs;
    let of = incarnations(rows.iter().map(|row| row.key.incarnation));
    let sql = format!("SELECT {RECORD} FROM {} WHERE ended_at IS NULL", by_incarnation(&of, jobs));
    let answers = session.run(&sql).await?;
    let record = |row: &Columns| record(row, 0).map(|record| (record.incarnation, record));
    let mut records: HashMap<Incarnation, _> =
        answers.iter().flatten().map(record).collect::<Result<_>>()?;
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
    session: &mut Session<'_>,
    node: NodeId,
    after: Option<RowKey>,
    limit: usize,
) -> Result<Vec<Claim>> {
    let open = &session.tables().open;
    let sql = format!(
        "SELECT incarnation, kind, number, fence FROM {open} WHERE node = {} AND {} \
         ORDER BY incarnation, kind, number LIMIT {limit}",
        signed(node.0),
        behind(after)
    );
    let claim = |row: &Columns| Ok(Claim { key: key(row, 0)?, fence: unsigned(get(row, 3)?) });
    session.run(&sql).await?.iter().flatten().map(claim).collect()
}

/// Whether a row is behind this key, as a condition that the servers make a range of.
pub(super) fn behind(after: Option<RowKey>) -> String {
    let (of, kind, number) = place(after);
    format!(
        "(incarnation > {of} OR (incarnation = {of} AND kind > {kind}) \
         OR (incarnation = {of} AND kind = {kind} AND number > {number}))"
    )
}

pub(super) async fn claimed(
    session: &mut Session<'_>,
    node: NodeId,
    rows: &[RowKey],
) -> Result<ClaimResult> {
    let open = &session.tables().open;
    let of = keys(rows);
    let sql = format!(
        "SELECT {ROW}, {OPEN} FROM {} WHERE node = {} ORDER BY incarnation, kind, number",
        by_key(&of, open),
        signed(node.0)
    );
    let rows = ledger::read(&session.run(&sql).await?)?;
    with_records(session, rows).await
}

/// Rows wait again, or are closed if their job is gone.
pub(super) async fn release(
    session: &mut Session<'_>,
    node: NodeId,
    rows: &[Release],
) -> Result<()> {
    let asked: HashMap<RowKey, &Release> = rows.iter().map(|it| (it.key, it)).collect();
    let is_claimed = |row: &Row| {
        row.state == RowState::Claimed(node)
            && asked.get(&row.key).is_some_and(|release| release.fence == row.fence)
    };
    // Only jobs whose rows are claimed like that are locked, so that a release that is sent again keeps
    // no claim from them.
    let claimed = ledger::open_rows_of(session, asked.keys(), "").await?;
    let claimed: Vec<RowKey> =
        claimed.into_iter().filter(|row| is_claimed(row)).map(|row| row.key).collect();
    if claimed.is_empty() {
        return Ok(());
    }
    let of = incarnations(claimed.iter().map(|key| key.incarnation));
    let sql = format!("{BEGIN}; SELECT {NOW}; {}", lock(session.tables(), &of, false));
    let answers = session.run(&sql).await?;
    let now = time(answers.first())?;
    let mut jobs = answers.get(1).map_or(Ok(HashMap::new()), |rows| locked(rows))?;
    let open = ledger::open_rows_of(session, &claimed, " FOR UPDATE").await?;
    let mut edit = Edit::new(session.tables(), now);
    for row in open.into_iter().filter(|row| is_claimed(row)) {
        let attempt = asked.get(&row.key).map_or(0, |release| release.attempt);
        let attempt = row.attempt.max(attempt);
        match jobs.get_mut(&row.key.incarnation) {
            Some(job) => {
                job.open.add(row.key.kind, -1, 1);
                edit.set(job.clone(), Fate::Completed);
                edit.replace(Row { state: RowState::Waiting, attempt, ..row }, None);
            }
            None => {
                let fate = Fate::called_off(crate::job::SkipReason::Removed, attempt);
                let state = RowState::Closed(fate);
                edit.close(Row { state, attempt, ended_at: Some(now), ..row });
            }
        }
    }
    let sql = format!("{}COMMIT", edit.sql());
    session.run(&sql).await?;
    Ok(())
}

/// The SQL that finds when there is something to claim next, and whether something waits.
fn due_select(tables: &Tables, of: &NextDueRequest) -> String {
    let jobs = &tables.jobs;
    let node = signed(of.node.0);
    let waiting = of.passed.waiting.map_or(i64::MIN, |passed| signed(passed.0));
    let due = of.passed.due.map(|(at, passed)| (millis(at), signed(passed.0)));
    let (at, after) = due.unwrap_or((i64::MIN, i64::MIN));
    let except = without(of.except.iter());
    let mut tasks: Vec<&String> = of.tasks.iter().collect();
    tasks.sort_unstable();
    let selects = tasks.iter().flat_map(|task| {
        let task = Text(task);
        [
            format!(
                "(SELECT {} AS at FROM {jobs} WHERE task = {task} AND ready = 1 \
                 AND incarnation > {waiting} AND {CLAIMABLE} {node}){except} \
                 ORDER BY incarnation LIMIT 1)",
                i64::MIN
            ),
            format!(
                "(SELECT next_fire FROM {jobs} WHERE task = {task} AND paused = 0 \
                 AND (next_fire > {at} OR (next_fire = {at} AND incarnation > {after})) \
                 AND {CLAIMABLE} {node}){except} ORDER BY next_fire, incarnation LIMIT 1)"
            ),
        ]
    });
    let selects: Vec<String> = selects.collect();
    match selects.is_empty() {
        true => "SELECT NULL".to_owned(),
        false => format!("SELECT MIN(at) FROM ({}) AS d", selects.join(" UNION ALL ")),
    }
}

fn read_due(answers: &Answers) -> Result<Option<DateTime<Utc>>> {
    let Some(row) = answers.last().and_then(|rows| rows.first()) else { return Ok(None) };
    super::columns::optional_instant(row, 0)
}

pub(super) async fn next_due(
    session: &mut Session<'_>,
    of: &NextDueRequest,
) -> Result<Option<DateTime<Utc>>> {
    let sql = due_select(session.tables(), of);
    read_due(&session.run(&sql).await?)
}
