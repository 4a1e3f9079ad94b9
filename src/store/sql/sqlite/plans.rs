//! Each statement reads no more of the tables than needed.

use std::{collections::HashSet, sync::Arc, time::Duration};

use rusqlite::StatementStatus;

use super::{
    SqliteBuilder, actions, claim, fates, jobs, ledger, nodes, prune, repair, session::Session,
};
use crate::store::{
    ClaimCursor, ClaimRequest, Decision, Heartbeat, Incarnation, Keep, NodeId, sql::instant,
};

/// Returns SQLite's plan for a statement.
fn plan(session: &Session, sql: &str) -> Vec<String> {
    let mut explain = session.connection().prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let parameters = vec![rusqlite::types::Null; explain.parameter_count()];
    let steps = explain.query_map(rusqlite::params_from_iter(parameters), |row| row.get(3));
    steps.unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

fn statements() -> impl Iterator<Item = &'static &'static str> {
    let jobs = [jobs::STATEMENTS, claim::STATEMENTS, nodes::STATEMENTS];
    let ledger = [ledger::STATEMENTS, prune::STATEMENTS, repair::STATEMENTS];
    let read = [fates::STATEMENTS, actions::STATEMENTS];
    jobs.into_iter().chain(ledger).chain(read).flatten()
}

#[test]
fn nothing_scans_or_sorts_a_table() {
    let session = Session::open(&SqliteBuilder::new(None)).unwrap();
    for sql in statements() {
        for step in plan(&session, sql) {
            // There are few nodes.
            let is_fine = !step.contains("SCAN punctual_") || step.contains("punctual_nodes");
            assert!(is_fine && !step.contains("TEMP B-TREE"), "{step}, for\n{sql}");
            // That would read all rows of a job, including its history.
            assert!(!step.contains("PRIMARY KEY (incarnation=?)"), "{step}, for\n{sql}");
        }
    }
}

#[test]
fn what_is_pruned_is_counted_and_found_in_an_index_alone() {
    let session = Session::open(&SqliteBuilder::new(None)).unwrap();
    for sql in [prune::COUNT, prune::CLOSED] {
        let steps = plan(&session, sql);
        assert!(steps[0].contains("COVERING INDEX punctual_ledger_closed"), "{steps:?}");
    }
}

#[test]
fn other_parameters_are_no_reason_to_prepare_anew() {
    let session = Session::open(&SqliteBuilder::new(None)).unwrap();
    for sql in statements() {
        let mut statement = session.connection().prepare(sql).unwrap();
        for value in 0..3 {
            for index in 1..=statement.parameter_count() {
                statement.raw_bind_parameter(index, value).unwrap();
            }
            // A number in place of a text is an error, which serves as well.
            let _ = statement.raw_query().next();
        }
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{sql}");
    }
}

/// The only step of a statement seeks all that there is before its first row.
fn seeks(session: &Session, sql: &str, of: &str) {
    let steps = plan(session, sql);
    assert!(steps.len() == 1 && steps[0].contains(of), "{steps:?}");
}

#[test]
fn a_claim_seeks_the_beginning_of_its_page() {
    let session = Session::open(&SqliteBuilder::new(None)).unwrap();
    let at = "INDEX punctual_jobs_due (task=? AND holder=? AND next_fire=? AND rowid>?)";
    seeks(&session, claim::DUE_AT, at);
    let later = "INDEX punctual_jobs_due (task=? AND holder=? AND next_fire>? AND next_fire<?)";
    seeks(&session, claim::DUE, later);
    let waiting = "INDEX punctual_jobs_ready (task=? AND holder=? AND rowid>?)";
    seeks(&session, claim::WAITING, waiting);
    seeks(&session, claim::WAITS, waiting);
}

#[test]
fn the_next_fire_time_is_found_without_reading_claimed_jobs() {
    let session = Session::open(&SqliteBuilder::new(None)).unwrap();
    let at = "INDEX punctual_jobs_due (task=? AND holder=? AND next_fire=? AND rowid>?)";
    seeks(&session, claim::NEXT_AT, at);
    let later = "INDEX punctual_jobs_due (task=? AND holder=? AND next_fire>?)";
    seeks(&session, claim::NEXT, later);
}

/// Where a page begins is a bound of all its columns: a bound of the first alone steps over all that are
/// the same there.
#[test]
fn pages_begin_where_the_last_one_ended() {
    let session = Session::open(&SqliteBuilder::new(None)).unwrap();
    for sql in statements() {
        let has_place = sql.contains(") > (?") || sql.contains(") < (?") || sql.contains(") <= (?");
        let steps = plan(&session, sql);
        let is_sought =
            steps.iter().any(|step| step.contains(",number)") || step.contains(",token)"));
        assert!(!has_place || is_sought, "{steps:?}, for\n{sql}");
    }
}

/// How many steps SQLite has taken for these statements since this was asked last.
fn steps(session: &Session, statements: &[&str]) -> i32 {
    let of = |sql: &&str| session.prepare(sql).unwrap().reset_status(StatementStatus::VmStep);
    statements.iter().map(of).sum()
}

/// The beginning of a statement that makes rows of the numbers up to this.
fn up_to(last: u32) -> String {
    format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})"
    )
}

#[test]
fn jobs_that_were_passed_cost_nothing_though_all_are_of_one_fire_time() {
    let session = Session::open(&SqliteBuilder::new(None)).unwrap();
    let fill = format!(
        "INSERT INTO punctual_jobs (incarnation, id, version, fence, requests, token, task, args, \
            trigger, options, tags, added_at, next_fire, paused, recover) \
         {} SELECT n, n, 1, 0, 0, n, 'task ' || (n % 20), '{{}}', '{{}}', '{{}}', '[]', 0, 1000, 0, 0 \
         FROM numbers",
        up_to(20_000)
    );
    session.connection().execute_batch(&fill).unwrap();
    let heartbeat = Heartbeat::new(NodeId(1), "node", true, Duration::from_secs(60));
    nodes::heartbeat(&session, &heartbeat, 1000).unwrap();
    let mut number = 0;
    let mut cost = |passed| {
        number += 1;
        let due = Some((instant(1000), Incarnation(passed)));
        let request = ClaimRequest {
            node: NodeId(1),
            number,
            horizon: session.now(),
            tasks: Arc::new((0..20).map(|n| format!("task {n}")).collect()),
            except: Arc::default(),
            passed: ClaimCursor { waiting: None, due },
            looks: 200,
            limit: 100,
            row_limit: 1000,
            decide: Arc::new(|_, _| Decision::Leave),
        };
        let claimed = claim::claim(&session, &request).unwrap();
        assert!(claimed.left >= 200 && claimed.passed.due > due, "{claimed:?}");
        let next = request.next_due(claimed.passed, &HashSet::new());
        assert_eq!(claim::next_due(&session, &next).unwrap(), Some(instant(1000)));
        steps(&session, &[claim::DUE_AT, claim::DUE, claim::NEXT_AT, claim::NEXT])
    };
    let (near, far) = (cost(100), cost(19_000));
    assert!(far < 2 * near, "{near} steps near the beginning, {far} far behind it");
}

#[test]
fn rows_are_counted_once_while_too_many_of_them_are_deleted() {
    let session = Session::open(&SqliteBuilder::new(None)).unwrap();
    let fill = format!(
        "INSERT INTO punctual_ledger (incarnation, kind, number, job, fire_time, last, count, \
            coalesced, fate, fence, take, attempt, recover, ended_at) \
         {} SELECT n, 0, n, n, n, n, 1, 0, 'missed', 0, 0, 1, 0, n FROM numbers",
        up_to(3000)
    );
    session.connection().execute_batch(&fill).unwrap();
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let keep = Keep { rows: u32::MAX, age: CENTURY, ended: CENTURY, total: 1000 };
    let prune = || prune::prune(&session, keep, 100).unwrap();
    assert!(prune().more);
    assert!(steps(&session, &[prune::COUNT]) > 0);
    let mut deleted = 100;
    loop {
        let pruned = prune();
        deleted += pruned.deleted;
        if !pruned.more {
            break;
        }
    }
    assert_eq!(deleted, 2100, "down to nine tenths");
    assert_eq!(steps(&session, &[prune::COUNT]), 0);
}
