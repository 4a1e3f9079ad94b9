//! Invalid, foreign, old and damaged files.

use std::{error::Error as _, fs, time::Duration};

use punctual::store::{
    Fate, Heartbeat, Incarnation, NodeId, RecordFilter, RowState, SqliteStore, Store as _,
};

use crate::fixture::{
    Folder, add, adding, claim, close, connect, heartbeat, now, record, succeeded,
};

async fn refused(path: impl AsRef<std::path::Path>) -> String {
    let error = SqliteStore::open(path).await.unwrap_err();
    let text = error.source().unwrap().to_string();
    assert!(error.is_refused(), "{text}");
    text
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let folder = Folder::new();
    let text = "a letter to nobody\n".repeat(100);
    fs::write(folder.file(), &text).unwrap();
    let said = refused(folder.file()).await;
    assert!(said.contains("jobs.db") && said.contains("not a database"), "{said}");
    assert_eq!(fs::read_to_string(folder.file()).unwrap(), text);

    let said = refused(folder.path()).await;
    assert!(said.contains("a file in a directory that is there"), "{said}");
    let said = refused(folder.path().join("nowhere/jobs.db")).await;
    assert!(said.contains("nowhere"), "{said}");
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let folder = Folder::new();
    drop(SqliteStore::open(folder.file()).await.unwrap());
    let connection = connect(&folder.file());
    connection.execute("UPDATE punctual_meta SET version = 1000, min_version = 999", []).unwrap();
    let said = refused(folder.file()).await;
    assert!(said.contains("version 1000") && said.contains("update the program"), "{said}");
    // Another namespace has a schema of its own.
    SqliteStore::builder(folder.file()).namespace("other_").open().await.unwrap();
    let version: i64 =
        connection.query_row("SELECT version FROM punctual_meta", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 1000);
}

#[tokio::test]
async fn a_newer_schema_that_fits_is_used_until_it_fits_no_more() {
    let folder = Folder::new();
    let before = SqliteStore::open(folder.file()).await.unwrap();
    heartbeat(&before, 1, Duration::from_secs(15)).await;
    let connection = connect(&folder.file());
    connection.execute("UPDATE punctual_meta SET version = 1000, min_version = 3", []).unwrap();
    // A program that was running before continues, and one that is rolled back returns.
    heartbeat(&before, 1, Duration::from_secs(15)).await;
    let rolled_back = SqliteStore::open(folder.file()).await.unwrap();
    add(&rolled_back, [record("a", 7, None)]).await;
    let version: i64 =
        connection.query_row("SELECT version FROM punctual_meta", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 1000);

    connection.execute("UPDATE punctual_meta SET min_version = 1000", []).unwrap();
    let ttl = Duration::from_secs(15);
    let heartbeat = Heartbeat::new(NodeId(1), "node", false, ttl);
    let error = before.heartbeat(heartbeat).await.unwrap_err();
    assert!(error.is_refused(), "{error}");
    let said = error.source().unwrap().to_string();
    assert!(said.contains("update the program"), "{said}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_goes_while_it_is_open_is_noticed_until_it_is_back() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    add(&store, [record("a", 1, None)]).await;
    let aside = folder.path().join("aside");
    let log = folder.path().join(format!("{}-wal", folder.file().file_name().unwrap().display()));
    let wait = || tokio::time::sleep(Duration::from_millis(150));
    for (number, gone) in (2..).zip([folder.file(), log]) {
        wait().await;
        add(&store, [record(&format!("{number}"), number, None)]).await;
        fs::rename(&gone, &aside).unwrap();
        wait().await;
        let written = store.write(vec![adding(record("lost", 9, None))]).await.unwrap_err();
        assert!(written.is_unavailable(), "{written}");
        let said = written.source().unwrap().to_string();
        assert!(said.contains("while it was open"), "{said}");
        assert!(store.get("a".into()).await.is_err());
        fs::write(&gone, b"somebody else's").unwrap();
        assert!(store.get("a".into()).await.is_err());
        fs::rename(&aside, &gone).unwrap();
        assert!(store.get("a".into()).await.unwrap().is_some());
        assert_eq!(store.get("lost".into()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_file_is_whole_when_its_scheduler_has_shut_down() {
    use punctual::{Context, Scheduler, Task, trigger::every};

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Send;
    impl Task for Send {
        const NAME: &'static str = "send";
        type Output = ();
        async fn run(self, _: Context) {}
    }
    let folder = Folder::new();
    for kept in [false, true] {
        let store = SqliteStore::open(folder.file()).await.unwrap();
        let clone = kept.then(|| store.clone());
        let scheduler = Scheduler::builder().store(store).task::<Send>().start().await.unwrap();
        let job = scheduler.add(every("1h"), Send).id(format!("kept {kept}")).await.unwrap();
        scheduler.shutdown().await;
        let log =
            folder.path().join(format!("{}-wal", folder.file().file_name().unwrap().display()));
        assert_eq!(log.exists(), kept);
        assert!(!kept || fs::metadata(&log).unwrap().len() == 0);
        let copy = folder.path().join("copy.db");
        fs::copy(folder.file(), &copy).unwrap();
        let count: i64 = connect(&copy)
            .query_row("SELECT count(*) FROM punctual_jobs", [], |row| row.get(0))
            .unwrap();
        assert_eq!(count, 1 + i64::from(kept));
        assert!(job.pause().await.is_err());
        drop(clone);
        fs::remove_file(copy).unwrap();
    }
}

#[tokio::test]
async fn what_has_the_name_of_a_table_is_named_in_a_sentence() {
    for (made, name) in [
        ("CREATE TABLE punctual_jobs (title TEXT)", "table `punctual_jobs`"),
        ("CREATE TABLE Punctual_Nodes (title TEXT)", "table `punctual_nodes`"),
        ("CREATE VIEW punctual_ledger AS SELECT 1", "view `punctual_ledger`"),
        (
            "CREATE TABLE t (x); CREATE INDEX punctual_jobs_due ON t (x)",
            "index `punctual_jobs_due`",
        ),
        ("CREATE TABLE punctual_meta (title TEXT)", "table `punctual_meta`"),
        ("CREATE TABLE punctual_meta (version TEXT)", "table `punctual_meta`"),
        (
            "CREATE TABLE punctual_meta (version); INSERT INTO punctual_meta VALUES ('one')",
            "table `punctual_meta`",
        ),
    ] {
        let folder = Folder::new();
        let connection = connect(&folder.file());
        connection.execute_batch(made).unwrap();
        let schema = || -> Vec<String> {
            let mut select = connection.prepare("SELECT sql FROM sqlite_schema").unwrap();
            let rows = select.query_map([], |row| row.get(0)).unwrap();
            rows.map(Result::unwrap).collect()
        };
        let before = schema();
        let said = refused(folder.file()).await;
        assert!(
            said.contains(&format!("the file has a {name} that is not this store's")),
            "{said}"
        );
        assert!(!said.contains("CREATE") && !said.contains("SELECT"), "{said}");
        assert_eq!(schema(), before, "nothing is left behind");
        // The remedy.
        SqliteStore::builder(folder.file()).namespace("jobs_").open().await.unwrap();
    }
}

#[tokio::test]
async fn tables_that_others_have_changed_are_named_without_sql() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let connection = connect(&folder.file());
    connection.execute("ALTER TABLE punctual_jobs RENAME COLUMN args TO arguments", []).unwrap();
    let error = store.list(RecordFilter::default(), None, 1).await.unwrap_err();
    let said = error.source().unwrap().to_string();
    assert!(error.is_refused() && said.contains("no such column"), "{said}");
    assert!(said.contains("changed by somebody else") && !said.contains("SELECT"), "{said}");
}

#[tokio::test]
async fn a_uri_is_no_path() {
    let folder = Folder::new();
    for uri in ["file:x.db?mode=memory", "file:/tmp/x.db", "file::memory:"] {
        let said = refused(uri).await;
        assert!(said.starts_with(&format!("`{uri}` is a URI")), "{said}");
        assert!(said.contains("`SqliteStore::in_memory()`"), "{said}");
        assert!(said.contains(&format!("`./{uri}`")), "{said}");
    }
    // A path with these words further on is an ordinary path.
    let file = folder.path().join("file:x.db?mode=memory");
    drop(SqliteStore::open(&file).await.unwrap());
    assert!(file.exists());
}

#[tokio::test]
async fn a_file_of_the_first_schema_opens_with_its_jobs() {
    let folder = Folder::new();
    let connection = connect(&folder.file());
    let schema = include_str!("../../src/store/sql/sqlite/schema_1.sql");
    connection.execute_batch(schema).unwrap();
    connection
        .execute_batch(
            "UPDATE punctual_meta SET version = 1; \
             INSERT INTO punctual_jobs (incarnation, id, version, fence, requests, token, task, \
                args, trigger, options, tags, added_at, next_fire, paused, recover) \
             VALUES (7, 'report', 1, 0, 0, 5, 'send', '{}', '{}', '{}', '[]', 0, 1000, 0, 1)",
        )
        .unwrap();
    drop(connection);
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let record = store.get("report".into()).await.unwrap().unwrap();
    assert_eq!((record.incarnation, record.recover), (Incarnation(7), true));
    assert!(!record.remember && record.rescheduled_at.is_none() && record.ended_at.is_none());
}

/// The older program began before the schema counted heartbeats, and continues beside a newer one.
#[tokio::test]
async fn a_node_of_an_older_program_is_seen_to_live() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let connection = connect(&folder.file());
    let add = "INSERT INTO punctual_nodes (node, name, lease_until, lease) VALUES (5, 'old', 1, 1)";
    connection.execute_batch(add).unwrap();
    let before = store.nodes().await.unwrap().remove(0);
    let heartbeat =
        "UPDATE punctual_nodes SET name = 'old', lease_until = 2, lease = 1 WHERE node = 5";
    connection.execute_batch(heartbeat).unwrap();
    let row = store.nodes().await.unwrap().remove(0);
    assert_eq!((row.id, row.heartbeats), (NodeId(5), before.heartbeats + 1));
}

/// Adds jobs 1 to 4: node 5 has claimed rows of 1 and 3; 2 and 3 have waiting rows; 4 is marked and
/// has none.
fn fill_old(connection: &rusqlite::Connection, version: usize) {
    let schemas = [
        include_str!("../../src/store/sql/sqlite/schema_1.sql"),
        include_str!("../../src/store/sql/sqlite/schema_2.sql"),
    ];
    for schema in &schemas[..version] {
        connection.execute_batch(schema).unwrap();
    }
    connection.execute("UPDATE punctual_meta SET version = ?1", [version as i64]).unwrap();
    for number in 1..=4 {
        connection
            .execute(
                "INSERT INTO punctual_jobs (incarnation, id, version, fence, requests, token, \
                    task, args, trigger, options, tags, added_at, next_fire, paused, recover, \
                    waiting) \
                 VALUES (?1, 'job-' || ?1, 1, 3, 0, 5, 'greet', '{}', '{}', '{}', '[]', 0, 1000, \
                    0, 1, ?1 > 1)",
                [number],
            )
            .unwrap();
    }
    for (incarnation, number, node) in
        [(1, 1, Some(5)), (2, 1, None), (3, 1, Some(5)), (3, 2, None)]
    {
        old_row(connection, incarnation, number, node);
    }
}

fn old_row(connection: &rusqlite::Connection, incarnation: i64, number: i64, node: Option<i64>) {
    connection
        .execute(
            "INSERT INTO punctual_ledger (incarnation, kind, number, job, fire_time, last, count, \
                coalesced, node, fate, fence, take, attempt, recover) \
             VALUES (?1, 0, ?2, 'job-' || ?1, ?2, ?2, 1, 0, ?3, NULL, 3, 1, 1, 1)",
            (incarnation, number, node),
        )
        .unwrap();
}

/// Returns the holder of each job, and whether it has waiting rows.
fn states(connection: &rusqlite::Connection) -> Vec<(Option<i64>, bool)> {
    let mut select = connection
        .prepare("SELECT holder, waiting FROM punctual_jobs ORDER BY incarnation")
        .unwrap();
    let states = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    states.collect::<rusqlite::Result<_>>().unwrap()
}

#[tokio::test]
async fn older_files_open_with_claimed_and_waiting_rows() {
    for version in [1, 2] {
        let folder = Folder::new();
        let connection = connect(&folder.file());
        fill_old(&connection, version);
        let store = SqliteStore::open(folder.file()).await.unwrap();
        let expected = [(Some(5), false), (None, true), (Some(5), true), (None, false)];
        assert_eq!(states(&connection), expected, "from version {version}");
        heartbeat(&store, 1, Duration::from_secs(15)).await;
        let claim_result = claim(&store, 1, 1).await.unwrap();
        let ids: Vec<_> = claim_result.jobs.iter().map(|it| it.record.id.to_string()).collect();
        assert_eq!(ids, ["job-2", "job-4"], "from version {version}");
        let kept = store.history(Incarnation(3), 10).await.unwrap();
        assert_eq!(kept.len(), 2);
    }
}

/// The writes of a program of the previous version that had the file open when it was migrated.
#[tokio::test]
async fn a_program_that_goes_on_beside_a_newer_schema_is_seen() {
    let folder = Folder::new();
    let old = connect(&folder.file());
    fill_old(&old, 2);
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let due = "SELECT incarnation FROM punctual_jobs AS j INDEXED BY punctual_jobs_due \
         WHERE task = 'greet' AND paused = 0 AND next_fire <= 2000 \
         AND (next_fire, incarnation) > (0, 0) \
         AND NOT EXISTS (SELECT 1 FROM punctual_ledger AS l INDEXED BY punctual_ledger_open \
            WHERE l.incarnation = j.incarnation AND l.fate IS NULL AND l.node <> 6) \
         ORDER BY next_fire, incarnation LIMIT 10";
    let waiting = "SELECT incarnation FROM punctual_jobs AS j INDEXED BY punctual_jobs_waiting \
         WHERE task = 'greet' AND waiting = 1 AND incarnation > 0 ORDER BY incarnation LIMIT 10";
    let found = |sql: &str| -> Vec<i64> {
        let mut select = old.prepare(sql).unwrap();
        let found = select.query_map([], |row| row.get(0)).unwrap();
        found.collect::<rusqlite::Result<_>>().unwrap()
    };
    assert_eq!((found(due), found(waiting)), (vec![2, 4], vec![2, 3]));

    // It claims, in place of waiting rows and new ones, and closes.
    old_row(&old, 4, 7, Some(6));
    old.execute(
        "INSERT INTO punctual_ledger (incarnation, kind, number, job, fire_time, last, count, \
            coalesced, node, fate, fence, take, attempt, recover) \
         VALUES (2, 0, 1, 'job-2', 1, 1, 1, 0, 6, NULL, 4, 1, 1, 1) \
         ON CONFLICT (incarnation, kind, number) DO UPDATE SET (node, fence) = (6, 4) \
         WHERE node IS NULL AND fate IS NULL",
        [],
    )
    .unwrap();
    let close = "UPDATE punctual_ledger SET node = NULL, fate = 'succeeded', ended_at = 9 \
         WHERE incarnation = ?1 AND number = ?2";
    old.execute(close, [1, 1]).unwrap();
    let expected = [(None, false), (Some(6), false), (Some(5), true), (Some(6), false)];
    assert_eq!(states(&old), expected);
    heartbeat(&store, 1, Duration::from_secs(15)).await;
    let claim_result = claim(&store, 1, 1).await.unwrap();
    assert_eq!(claim_result.jobs.len(), 1);
    assert_eq!(claim_result.jobs[0].record.incarnation, Incarnation(1));

    // It releases, marks in its usual way, and calls off.
    old.execute("UPDATE punctual_ledger SET node = NULL WHERE incarnation = 2", []).unwrap();
    old.execute("UPDATE punctual_jobs SET waiting = 1 WHERE incarnation = 2", []).unwrap();
    old.execute(close, [4, 7]).unwrap();
    old.execute(
        "UPDATE punctual_ledger SET fate = 'skipped: removed', ended_at = 9 \
         WHERE incarnation = 3 AND fate IS NULL AND node IS NULL",
        [],
    )
    .unwrap();
    let expected = [(None, true), (Some(5), false), (None, false)];
    assert_eq!(states(&old)[1..], expected);
}

#[tokio::test]
async fn a_corrupt_file_is_refused() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    add(&store, (1..=1000).map(|n| record(&format!("{n:04}"), n, Some(now())))).await;
    close(store, &folder).await;
    let mut bytes = fs::read(folder.file()).unwrap();
    assert!(bytes.len() > 100_000);
    // Overwrites all pages except those of the schema.
    for byte in &mut bytes[24 * 4096..] {
        *byte = 0x5a;
    }
    fs::write(folder.file(), bytes).unwrap();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let error = store.list(RecordFilter::default(), None, 1000).await.unwrap_err();
    assert!(error.is_refused());
    let said = error.source().unwrap().to_string();
    assert!(said.contains("malformed") && said.contains("backup"), "{said}");
}

/// Values that a person or another program has written do not prevent reading the rest.
#[tokio::test]
async fn texts_and_numbers_that_make_no_sense_are_read_as_well_as_can_be() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let due = now();
    add(&store, (1..=3).map(|n| record(&n.to_string(), n, Some(due)))).await;
    heartbeat(&store, 1, Duration::from_secs(15)).await;
    let claim_result = claim(&store, 1, 1).await.unwrap();
    store.finish(succeeded(&claim_result.jobs)).await.unwrap();
    let connection = connect(&folder.file());
    connection
        .execute_batch(
            "UPDATE punctual_jobs SET tags = 'no JSON', args = CAST(x'ff41' AS TEXT), \
                added_at = 9223372036854775807 WHERE id = '2'; \
             UPDATE punctual_ledger SET fate = 'postponed: rain', attempt = -1 WHERE job = '2';",
        )
        .unwrap();
    let records = store.list(RecordFilter::default(), None, 10).await.unwrap().records;
    assert_eq!(records.len(), 3);
    assert_eq!((&*records[1].args, &records[1].tags), ("\u{fffd}A", &Vec::new()));
    let rows = store.history(Incarnation(2), 10).await.unwrap();
    assert_eq!(rows[0].state, RowState::Closed(Fate::Unknown("postponed: rain".into())));
    // The tables reject a text in place of a number.
    let text = connection.execute("UPDATE punctual_jobs SET next_fire = 'soon'", []);
    assert!(text.is_err());
}

#[cfg(unix)]
mod permissions {
    use std::{
        os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
        path::Path,
        process::Command,
    };

    use super::*;
    use crate::processes::{FILE, child};

    fn forbid(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Opens the file as a user who may only read it; root may do everything.
    fn opened_by_another(file: &Path) {
        let mut command: Command =
            child("files::permissions::is_refused_for_being_read_only", file);
        if is_root() {
            command.uid(65_534).gid(65_534);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    fn is_root() -> bool {
        let id = Command::new("id").arg("-u").output().unwrap();
        id.stdout.trim_ascii() == b"0"
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_new_file_is_readable_by_its_owner_alone() {
        let folder = Folder::new();
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink("target.db", &link).unwrap();
        // The names of SQLite's files beside it are longer still.
        let long = "j".repeat(240);
        let opened =
            [(folder.file(), "jobs.db"), (link, "target.db"), (folder.path().join(&long), &long)];
        for (opened, made) in opened {
            let store = SqliteStore::open(&opened).await.unwrap();
            add(&store, [record("1", 1, Some(now()))]).await;
            let made = folder.path().join(made);
            let beside = |suffix: &str| {
                let mut path = made.clone().into_os_string();
                path.push(suffix);
                std::path::PathBuf::from(path)
            };
            for file in [made.clone(), beside("-wal"), beside("-shm")] {
                assert_eq!(mode(&file), 0o600, "{}", file.display());
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_is_there_keeps_its_permissions() {
        let folder = Folder::new();
        drop(connect(&folder.file()));
        fs::write(folder.file(), "").unwrap();
        forbid(&folder.file(), 0o640);
        drop(SqliteStore::open(folder.file()).await.unwrap());
        assert_eq!(mode(&folder.file()), 0o640);
    }

    #[test]
    #[ignore = "it is run by other tests, as a process of its own"]
    fn is_refused_for_being_read_only() {
        let file = std::env::var_os(FILE).expect("it is run by other tests");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let said = runtime.block_on(refused(file));
        assert!(said.contains("writable"), "{said}");
    }

    #[tokio::test]
    async fn a_file_or_folder_that_is_read_only_is_refused() {
        let folder = Folder::new();
        drop(SqliteStore::open(folder.file()).await.unwrap());
        // So that only the file itself is an obstacle.
        drop(connect(&folder.file()));
        for (folder_mode, file_mode) in [(0o777, 0o444), (0o555, 0o666)] {
            forbid(folder.path(), folder_mode);
            forbid(&folder.file(), file_mode);
            opened_by_another(&folder.file());
        }
        forbid(folder.path(), 0o777);
    }
}

/// Pages continue after the bytes in the file, and not after their converted text.
#[tokio::test]
async fn ids_that_are_not_utf_8_are_listed_once_exported_and_removed() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let due = now() + chrono::TimeDelta::days(1);
    for batch in 0..2_u64 {
        let numbers = batch * 1000 + 1..=(batch + 1) * 1000;
        add(&store, numbers.map(|n| record(&format!("{n:05}"), n, Some(due)))).await;
    }
    connect(&folder.file())
        .execute_batch(
            "UPDATE punctual_jobs SET trigger = '{\"type\":\"interval\",\"period_ms\":1000}', \
                options = '{}', id = CAST(x'61ff' || CAST(id AS BLOB) AS TEXT) WHERE id > '00500'",
        )
        .unwrap();
    let scheduler = punctual::Scheduler::builder().store(store.clone()).start().await.unwrap();
    let patience = Duration::from_secs(60);
    let (mut listed, mut after) = (0, None);
    while listed < 10_000 {
        let page = store.list(RecordFilter::default(), after, 700).await.unwrap();
        listed += page.records.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, 2000);
    let unhandled = tokio::time::timeout(patience, scheduler.unhandled()).await.unwrap();
    assert_eq!(unhandled.unwrap().len(), 2000);
    let document = tokio::time::timeout(patience, scheduler.export()).await.unwrap().unwrap();
    assert_eq!(document.matches("\"id\"").count(), 2000);
    tokio::time::timeout(patience, scheduler.jobs().into_future()).await.unwrap().unwrap();
    tokio::time::timeout(patience, scheduler.next_fire()).await.unwrap().unwrap();
    let removed = tokio::time::timeout(patience, scheduler.remove_all()).await.unwrap();
    assert_eq!(removed.unwrap(), 2000);
    assert_eq!(store.list(RecordFilter::default(), None, 10).await.unwrap().records, []);
    scheduler.shutdown().await;
}
