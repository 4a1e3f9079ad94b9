//! Each statement reads no more of the tables than needed.

use rusqlite::StatementStatus;

use super::{SqliteBuilder, actions, claim, fates, jobs, ledger, nodes, prune, session::Session};

/// Returns SQLite's plan for a statement.
fn plan(session: &Session, sql: &str) -> Vec<String> {
    let mut explain = session.connection().prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let parameters = vec![rusqlite::types::Null; explain.parameter_count()];
    let steps = explain.query_map(rusqlite::params_from_iter(parameters), |row| row.get(3));
    steps.unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

fn statements() -> impl Iterator<Item = &'static &'static str> {
    let jobs = [jobs::STATEMENTS, claim::STATEMENTS, nodes::STATEMENTS];
    let ledger = [ledger::STATEMENTS, prune::STATEMENTS, fates::STATEMENTS, actions::STATEMENTS];
    jobs.into_iter().chain(ledger).flatten()
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

#[test]
fn a_claim_seeks_the_beginning_of_its_page() {
    let session = Session::open(&SqliteBuilder::new(None)).unwrap();
    let steps = plan(&session, claim::DUE);
    let seek = "INDEX punctual_jobs_due (task=? AND holder=? AND next_fire>? AND next_fire<?)";
    assert!(steps[0].contains(seek), "{steps:?}");
}

#[test]
fn the_next_fire_time_is_found_without_reading_claimed_jobs() {
    let session = Session::open(&SqliteBuilder::new(None)).unwrap();
    let steps = plan(&session, claim::NEXT);
    let seek = "INDEX punctual_jobs_due (task=? AND holder=? AND next_fire>?)";
    assert!(steps[0].contains(seek), "{steps:?}");
    assert_eq!(steps.len(), 1, "{steps:?}");
}
