//! One store: the life of a job, the resulting file, and the options.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt as _;
use punctual::{
    JobId,
    store::{
        Action, ActionCursor, ActionPage, ClaimCursor, ClaimRequest, Durability, Fate, FateCursor,
        FateFilter, FatePage, Incarnation, NodeId, RecordCursor, RecordFilter, Release, RowKind,
        RowState, RunEnd, SqliteStore, Store as _, StoreChange, Synchronous, Write,
    },
};

use crate::fixture::{
    Folder, add, adding, claim, close, connect, heartbeat, now, record, row, succeeded, taking,
};

/// A file uses the machine's clock, like its schedulers.
#[tokio::test]
async fn a_step_back_of_the_clock_is_acted_on_at_once() {
    use punctual::{Context, Scheduler, Task, testing::ManualClock, trigger::at};

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Greet;

    impl Task for Greet {
        const NAME: &'static str = "greet";
        type Output = ();

        async fn run(self, _: Context) {}
    }

    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let noon: DateTime<Utc> = "2026-06-01T12:00:00Z".parse().unwrap();
    let clock = ManualClock::running(noon - TimeDelta::milliseconds(1500));
    let scheduler = Scheduler::builder().store(store).clock(clock.clone()).task::<Greet>();
    let scheduler = scheduler.start().await.unwrap();
    let job = scheduler.add(at(noon), Greet).await.unwrap();
    // SQLite's thread runs in real time: until then the fire time is claimed.
    tokio::time::sleep(Duration::from_secs(1)).await;
    clock.step(TimeDelta::seconds(-1));
    job.await;
    assert!(clock.now() >= noon, "it ran at {}", clock.now());
}

#[tokio::test]
async fn a_job_is_added_taken_and_finished_and_people_can_read_it() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let due = now() - TimeDelta::seconds(1);
    add(&store, [record("a", 7, Some(due))]).await;
    heartbeat(&store, 1, Duration::from_secs(15)).await;
    let claim_result = claim(&store, 1, 1).await.unwrap();
    assert_eq!(claim_result.jobs.len(), 1);
    assert!(!claim_result.more);
    assert_eq!(claim_result.jobs[0].record.next_fire, Some(due + TimeDelta::minutes(1)));
    assert!(claim_result.jobs[0].record.fence >= u64::try_from(due.timestamp_millis()).unwrap());
    assert_eq!(claim_result.jobs[0].rows[0].fence, claim_result.jobs[0].record.fence);
    let report = store.finish(succeeded(&claim_result.jobs)).await.unwrap();
    assert!(report.refused.is_empty() && report.over.is_empty());
    let rows = store.history(claim_result.jobs[0].record.incarnation, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].state, RowState::Closed(Fate::Ran(RunEnd::Succeeded)));
    assert_eq!(rows[0].key.kind, RowKind::Scheduled);

    let connection = connect(&folder.file());
    let shown: (String, String) = connection
        .query_row("SELECT id, next_fire FROM punctual_jobs_view", [], |row| row.try_into())
        .unwrap();
    let next_fire = (due + TimeDelta::minutes(1)).format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    assert_eq!(shown, ("a".to_owned(), next_fire));
    let shown: (String, String, String) = connection
        .query_row("SELECT job, kind, state FROM punctual_ledger_view", [], |row| row.try_into())
        .unwrap();
    assert_eq!(shown, ("a".to_owned(), "scheduled".to_owned(), "ran: succeeded".to_owned()));
}

#[tokio::test]
async fn what_was_answered_is_there_after_the_store_was_closed() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let job = record("a \"quoted\" ü \0 id", 7, None);
    add(&store, [job.clone()]).await;
    close(store, &folder).await;
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let found = store.get(job.id.clone()).await.unwrap().unwrap();
    assert_eq!((found.version, &found.args), (1, &job.args));
    assert_eq!(found.id, job.id);
}

#[tokio::test]
async fn the_thread_lives_as_long_as_a_clone_and_a_stream_does_not_keep_it() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let mut changes = store.changes();
    let clone = store.clone();
    drop(store);
    add(&clone, [record("a", 7, None)]).await;
    assert_eq!(changes.next().await, Some(StoreChange::Job(Incarnation(7), 1)));
    close(clone, &folder).await;
    assert_eq!(changes.next().await, None);
}

#[tokio::test]
async fn a_change_by_another_connection_before_the_first_poll_is_notified() {
    let folder = Folder::new();
    let builder = SqliteStore::builder(folder.file()).poll(Duration::from_millis(20));
    let (store, other) = (builder.clone().open().await.unwrap(), builder.open().await.unwrap());
    add(&other, [record("a", 7, None)]).await;
    let heard = tokio::time::timeout(Duration::from_secs(10), store.changes().next()).await;
    assert_eq!(heard, Ok(Some(StoreChange::Unknown)));
}

#[tokio::test]
async fn stores_of_two_namespaces_share_a_file_and_nothing_else() {
    let folder = Folder::new();
    let ours = SqliteStore::open(folder.file()).await.unwrap();
    let theirs = SqliteStore::builder(folder.file()).namespace("cron_").open().await.unwrap();
    add(&ours, [record("a", 7, Some(now()))]).await;
    assert_eq!(theirs.get("a".into()).await.unwrap(), None);
    add(&theirs, [record("a", 8, Some(now()))]).await;
    heartbeat(&theirs, 1, Duration::from_secs(15)).await;
    let claim_result = claim(&theirs, 1, 1).await.unwrap();
    assert_eq!(claim_result.jobs[0].record.incarnation.0, 8);
    theirs.finish(succeeded(&claim_result.jobs)).await.unwrap();
    assert_eq!(ours.rows(None, 10).await.unwrap(), []);
    assert_eq!(theirs.list(RecordFilter::default(), None, 10).await.unwrap().records.len(), 1);
    assert!(ours.get("a".into()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_namespace_that_is_no_name_is_refused() {
    for namespace in ["", "1st_", "jobs; DROP TABLE x", "sqlite_", "jöbs_", &"x".repeat(65)] {
        let builder = SqliteStore::builder("never-made.db").namespace(namespace);
        let error = builder.open().await.unwrap_err();
        assert!(error.is_refused(), "{namespace:?}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(&format!("{namespace:?}")), "{source}");
    }
    assert!(!std::path::Path::new("never-made.db").exists());
}

#[tokio::test]
async fn durability_is_what_was_asked_for() {
    let folder = Folder::new();
    let full = SqliteStore::open(folder.file()).await.unwrap();
    let normal = SqliteStore::builder(folder.file()).synchronous(Synchronous::Normal);
    let memory = SqliteStore::in_memory().await.unwrap();
    assert_eq!(full.capabilities().durability, Durability::Disk);
    assert_eq!(normal.open().await.unwrap().capabilities().durability, Durability::System);
    assert_eq!(memory.capabilities().durability, Durability::Process);
    add(&memory, [record("a", 7, None)]).await;
    assert!(memory.clone().get("a".into()).await.unwrap().is_some());
}

#[tokio::test]
async fn clones_are_notified_of_changes_at_once_and_not_of_claims() {
    // The poll interval is so long that a poll cannot be the cause.
    let folder = Folder::new();
    let builder = SqliteStore::builder(folder.file()).poll(Duration::from_secs(3600));
    let store = builder.open().await.unwrap();
    let mut changes = store.changes();
    let due = now();
    add(&store, [record("a", 7, Some(due))]).await;
    assert_eq!(changes.next().await, Some(StoreChange::Job(Incarnation(7), 1)));
    assert_eq!(changes.next().await, Some(StoreChange::Due(due)));
    heartbeat(&store, 1, Duration::from_secs(15)).await;
    let claim_result = claim(&store, 1, 1).await.unwrap();
    store.finish(succeeded(&claim_result.jobs)).await.unwrap();
    let quiet = tokio::time::timeout(Duration::from_millis(50), changes.next()).await;
    assert!(quiet.is_err(), "a take and an outcome wake nobody");
    let rows = vec![Release::new(claim_result.jobs[0].rows[0].key, 1, 1)];
    store.release(NodeId(1), rows).await.unwrap();
    let quiet = tokio::time::timeout(Duration::from_millis(50), changes.next()).await;
    assert!(quiet.is_err(), "a row that is closed can't be released");
    let taken = store.get("a".into()).await.unwrap().unwrap().stamp();
    store.write(vec![Write::change(taken, record("a", 7, None), 2)]).await.unwrap();
    assert_eq!(changes.next().await, Some(StoreChange::Job(Incarnation(7), 2)));
}

#[tokio::test]
async fn another_store_on_the_file_is_detected_by_polling() {
    let folder = Folder::new();
    let builder = SqliteStore::builder(folder.file()).poll(Duration::from_millis(20));
    let store = builder.open().await.unwrap();
    let other = SqliteStore::open(folder.file()).await.unwrap();
    let mut changes = store.changes();
    // After this the stream has begun: requests are handled in order.
    store.get("a".into()).await.unwrap();
    add(&other, [record("a", 7, None)]).await;
    let heard = tokio::time::timeout(Duration::from_secs(10), changes.next()).await;
    assert_eq!(heard, Ok(Some(StoreChange::Unknown)));
    // Commits of its own connection do not count as changes by others.
    heartbeat(&store, 1, Duration::from_secs(15)).await;
    let next = tokio::time::timeout(Duration::from_millis(100), changes.next()).await;
    assert!(next.is_err());
}

#[tokio::test]
async fn writes_that_share_a_commit_fail_each_for_itself() {
    let folder = Folder::new();
    let builder = SqliteStore::builder(folder.file()).busy_timeout(Duration::from_secs(20));
    let store = builder.open().await.unwrap();
    heartbeat(&store, 1, Duration::from_secs(3600)).await;
    add(&store, [record("due", 1, Some(now()))]).await;
    // While the file is locked, the operations queue up; the first of them succeeds.
    let connection = connect(&folder.file());
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let adds = (2..20_u64).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { add(&store, [record(&format!("job {n}"), n, None)]).await })
    });
    let adds: Vec<_> = adds.collect();
    let panics = ClaimRequest { decide: Arc::new(|_, _| panic!("as a test")), ..taking(1, 1, 10) };
    let panicking = tokio::spawn({
        let store = store.clone();
        async move { store.claim(panics).await.map(|_| ()) }
    });
    let unknown = tokio::spawn({
        let store = store.clone();
        async move { claim(&store, 2, 1).await.map(|_| ()) }
    });
    tokio::time::sleep(Duration::from_millis(50)).await; // until all of them are in line
    connection.execute_batch("COMMIT").unwrap();
    for add in adds {
        add.await.unwrap();
    }
    assert!(panicking.await.unwrap_err().is_panic());
    assert!(unknown.await.unwrap().unwrap_err().is_lease_lost());
    assert_eq!(store.list(RecordFilter::default(), None, 100).await.unwrap().records.len(), 19);
    // The claim that panicked was rolled back, including its number.
    assert_eq!(claim(&store, 1, 1).await.unwrap().jobs.len(), 1);
}

#[tokio::test]
async fn many_jobs_of_unknown_tasks_and_claimed_ones_block_no_node() {
    let store = SqliteStore::in_memory().await.unwrap();
    let due = now() - TimeDelta::hours(1);
    for batch in 0..20 {
        let records = (0..1000).map(|n| {
            let mut job = record(&format!("{batch} {n}"), batch * 1000 + n + 10, Some(due));
            job.task = "nobody knows".into();
            job
        });
        add(&store, records).await;
    }
    add(&store, [record("held", 1, Some(due)), record("free", 2, Some(now()))]).await;
    heartbeat(&store, 1, Duration::from_secs(15)).await;
    heartbeat(&store, 2, Duration::from_secs(15)).await;
    let held = store.claim(taking(1, 1, 1)).await.unwrap();
    assert_eq!(held.jobs[0].record.id, "held");
    let claim_result = claim(&store, 2, 1).await.unwrap();
    let ids: Vec<_> = claim_result.jobs.iter().map(|taken| taken.record.id.clone()).collect();
    assert_eq!(ids, ["free"]);
}

/// With many tasks, the jobs come in order of their fire times, not of their tasks.
#[tokio::test]
async fn the_lines_of_many_tasks_are_merged() {
    let store = SqliteStore::in_memory().await.unwrap();
    // Each is due once within the test.
    let due = now() - TimeDelta::seconds(30);
    let mut tasks: std::collections::HashSet<String> = ["unused".to_owned()].into();
    let records = (0..100_u64).map(|n| {
        let task = format!("task {}", n * 7 % 13);
        tasks.insert(task.clone());
        let next_fire = due + TimeDelta::milliseconds((n * 37 % 100) as i64);
        let mut record = record(&format!("{n}"), n + 1, Some(next_fire));
        record.task = task;
        record
    });
    add(&store, records.collect::<Vec<_>>()).await;
    heartbeat(&store, 1, Duration::from_secs(15)).await;
    let (tasks, mut fire_times) = (Arc::new(tasks), Vec::new());
    for number in 1.. {
        let take = ClaimRequest { tasks: tasks.clone(), ..taking(1, number, 15) };
        let claim_result = store.claim(take).await.unwrap();
        fire_times.extend(claim_result.jobs.iter().map(|taken| taken.rows[0].fire_time));
        if !claim_result.more {
            break;
        }
        assert_eq!(claim_result.jobs.len(), 15);
    }
    let expected: Vec<_> = (0..100).map(|n| due + TimeDelta::milliseconds(n)).collect();
    assert_eq!(fire_times, expected);
}

/// A job that stays due after a claim is claimed only once by it.
#[tokio::test]
async fn a_claim_decides_about_a_job_once() {
    let store = SqliteStore::in_memory().await.unwrap();
    let due = now() - TimeDelta::hours(1);
    let mut waits = record("waits", 1, Some(due));
    let mut write = adding(waits.clone());
    waits.requests = 1;
    let mut requested = row(&waits, now());
    requested.key.kind = RowKind::Requested;
    requested.key.number = 1;
    write.rows.push(requested);
    store.write(vec![write]).await.unwrap();
    add(&store, [record("due", 2, Some(due))]).await;
    heartbeat(&store, 1, Duration::from_secs(15)).await;
    let claim_result = claim(&store, 1, 1).await.unwrap();
    let ids: Vec<_> = claim_result.jobs.iter().map(|taken| taken.record.id.to_string()).collect();
    assert_eq!(ids, ["waits", "due"]);
    assert_eq!(claim_result.jobs[0].rows.len(), 2, "what waits comes first, with what is due");
    assert!(!claim_result.more);
    let of = taking(1, 2, 1).next_due(ClaimCursor::default(), &HashSet::new());
    assert_eq!(claim_result.next_due, Some(due + TimeDelta::minutes(1)));
    assert_eq!(store.next_due(of).await.unwrap(), Some(due + TimeDelta::minutes(1)));
}

#[tokio::test]
async fn thousands_of_jobs_are_listed_in_pages() {
    let store = SqliteStore::in_memory().await.unwrap();
    for batch in 0..3 {
        let ids = batch * 900..(batch + 1) * 900;
        add(&store, ids.map(|n| record(&format!("{n:05}"), n + 1, None))).await;
    }
    let mut named = store.get("02500".into()).await.unwrap().unwrap();
    named.name = Some("last".into());
    let named = Write::change(named.stamp(), named, 5);
    store.write(vec![named]).await.unwrap();
    let filter = RecordFilter { name: Some("last".into()), ..RecordFilter::default() };
    let found = store.list(filter, None, 10).await.unwrap().records;
    assert_eq!(found.iter().map(|record| record.id.clone()).collect::<Vec<_>>(), ["02500"]);
    let page = store
        .list(RecordFilter::default(), Some(RecordCursor::from(&"00998".into())), 1002)
        .await
        .unwrap()
        .records;
    assert_eq!((page.len(), &page[0].id), (1002, &JobId::from("00999")));
}

#[tokio::test]
async fn a_job_without_waiting_rows_costs_claims_nothing() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    add(&store, [record("a", 7, Some(now()))]).await;
    heartbeat(&store, 1, Duration::from_secs(15)).await;
    let claim_result = claim(&store, 1, 1).await.unwrap();
    let row = &claim_result.jobs[0].rows[0];
    store.release(NodeId(1), vec![Release::new(row.key, row.fence, 1)]).await.unwrap();
    let connection = connect(&folder.file());
    let marked = || {
        let select = "SELECT waiting FROM punctual_jobs";
        connection.query_row(select, [], |row| row.get::<_, bool>(0)).unwrap()
    };
    assert!(marked());
    // The run had started after all.
    store.finish(succeeded(&claim_result.jobs)).await.unwrap();
    assert!(claim(&store, 1, 2).await.unwrap().jobs.is_empty());
    assert!(!marked());
}

#[tokio::test]
async fn an_add_beyond_what_the_file_may_hold_is_refused_and_undone() {
    let folder = Folder::new();
    let store = SqliteStore::builder(folder.file()).max_jobs(2).open().await.unwrap();
    assert_eq!(store.capabilities().max_jobs, Some(2));
    add(&store, [record("a", 1, None)]).await;
    let both = [record("b", 2, None), record("c", 3, None)].map(adding).into();
    let error = store.write(both).await.unwrap_err();
    assert!(error.is_refused() && format!("{error:?}").contains("at most 2 jobs"), "{error:?}");
    add(&store, [record("b", 2, None)]).await;
    assert!(store.write(vec![adding(record("c", 3, None))]).await.is_err());
    let page = store.list(RecordFilter::default(), None, 10).await.unwrap();
    assert_eq!(page.records.len(), 2);
}

/// Reads all pages up to the last, at most a few. Returns the number of actions.
async fn actions(store: &SqliteStore, mut after: Option<ActionCursor>) -> usize {
    let mut count = 0;
    for _ in 0..10 {
        let page = store.actions(None, after, 1).await.unwrap();
        count += page.actions.len();
        match page.next {
            Some(next) => after = Some(next),
            None => return count,
        }
    }
    panic!("the pages do not end");
}

#[tokio::test]
async fn pages_of_fates_and_actions_end_whatever_the_limit_and_the_cursor() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let due = now() - TimeDelta::hours(1);
    let adding = adding(record("job", 1, Some(due))).with_action(Some(Action::new("ann", "add")));
    store.write(vec![adding]).await.unwrap();
    heartbeat(&store, 1, Duration::from_secs(60)).await;
    let claim_result = claim(&store, 1, 1).await.unwrap();
    store.finish(succeeded(&claim_result.jobs)).await.unwrap();
    let key = claim_result.jobs[0].rows[0].key;

    let all = FateFilter::default;
    let [first, last] = [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC];
    assert_eq!(store.fates(all(), None, 1).await.unwrap().rows.len(), 1);
    assert_eq!(store.fates(all(), None, 0).await.unwrap(), FatePage::default());
    assert_eq!(store.actions(None, None, 0).await.unwrap(), ActionPage::default());
    let behind_all = Some(FateCursor { ended_at: first, key });
    assert_eq!(store.fates(all(), behind_all, 10).await.unwrap(), FatePage::default());
    let before_all = Some(FateCursor { ended_at: last, key });
    assert_eq!(store.fates(all(), before_all, 10).await.unwrap().rows.len(), 1);
    let behind_all = Some(ActionCursor { at: first, token: 0 });
    assert_eq!(store.actions(None, behind_all, 10).await.unwrap(), ActionPage::default());
    assert_eq!(actions(&store, Some(ActionCursor { at: last, token: u64::MAX })).await, 1);

    // Cursors are of any precision.
    let half = TimeDelta::microseconds(500);
    let row = store.fates(all(), None, 1).await.unwrap().rows.remove(0);
    let ended_at = row.ended_at.unwrap();
    let action = store.actions(None, None, 1).await.unwrap().actions.remove(0);
    for (half, count) in [(half, 1), (-half, 0)] {
        let before = Some(FateCursor {
            ended_at: ended_at + half,
            key: punctual::store::RowKey { number: 0, ..key },
        });
        assert_eq!(store.fates(all(), before, 10).await.unwrap().rows.len(), count);
        let before = Some(ActionCursor { at: action.at + half, token: 0 });
        assert_eq!(store.actions(None, before, 10).await.unwrap().actions.len(), count);
    }

    // Actions at instants out of range are in no page, and end no page.
    let connection = connect(&folder.file());
    for at in [i64::MIN, i64::MAX] {
        let edit = "INSERT INTO punctual_actions VALUES (?1, 7, 'job', 1, 'add', 'ann', NULL)";
        connection.execute(edit, [at]).unwrap();
    }
    assert_eq!(actions(&store, None).await, 1);
}
