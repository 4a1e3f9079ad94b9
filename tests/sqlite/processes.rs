//! Several processes on one file, one of them killed, and a disk that is full.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use chrono::TimeDelta;
use futures::StreamExt as _;
use nix::sys::resource::{Resource, setrlimit};
use punctual::store::{
    ClaimRequest, Decision, RecordFilter, RowState, SqliteStore, Store as _, StoreChange,
    StoreError, WriteResult,
};

use crate::fixture::{Folder, add, adding, connect, heartbeat, now, record, succeeded, taking};

/// The file for a test that runs as a process of its own.
pub(crate) const FILE: &str = "PUNCTUAL_TEST_FILE";

/// Returns a command that runs an ignored test of this program on a file.
pub(crate) fn child(test: &str, file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env(FILE, file);
    command
}

fn file() -> PathBuf {
    std::env::var_os(FILE).expect("it is run by other tests").into()
}

#[tokio::test]
#[ignore = "it is run by other tests, as a process of its own"]
async fn takes_all() {
    let store = SqliteStore::open(file()).await.unwrap();
    let node = u64::from(std::process::id());
    heartbeat(&store, node, Duration::from_secs(60)).await;
    for number in 1.. {
        let claim_result = store.claim(once(taking(node, number, 7))).await.unwrap();
        for taken in &claim_result.jobs {
            println!("took {}", taken.record.id);
        }
        assert!(store.finish(succeeded(&claim_result.jobs)).await.unwrap().refused.is_empty());
        if !claim_result.more {
            break;
        }
    }
}

/// Claims each job only once.
fn once(take: ClaimRequest) -> ClaimRequest {
    let decide = take.decide;
    let decide = move |record: &_, waiting: &[_]| match decide(record, waiting) {
        Decision::Claim { rows, .. } => Decision::Claim { rows, next_fire: None },
        leave => leave,
    };
    ClaimRequest { decide: Arc::new(decide), ..take }
}

#[tokio::test]
async fn processes_claim_each_fire_time_once() {
    const JOBS: usize = 300;
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let due = now() - TimeDelta::seconds(1);
    add(&store, (1..=JOBS as u64).map(|n| record(&format!("{n:03}"), n, Some(due)))).await;
    let start =
        || child("processes::takes_all", &folder.file()).stdout(Stdio::piped()).spawn().unwrap();
    let children = [start(), start(), start()];
    let mut taken = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let said = String::from_utf8(output.stdout).unwrap();
        taken.extend(said.lines().filter_map(|line| line.strip_prefix("took ")).map(str::to_owned));
    }
    assert_eq!(taken.len(), JOBS);
    assert_eq!(taken.iter().collect::<HashSet<_>>().len(), JOBS);
    assert_eq!(store.list(RecordFilter::default(), None, 10).await.unwrap().records, []);
    // One row for each fire time, and one for the end of each job.
    let rows = store.rows(None, 1000).await.unwrap();
    assert_eq!(rows.len(), 2 * JOBS);
    assert!(rows.iter().all(|row| matches!(row.state, RowState::Closed(_))));
}

#[tokio::test]
async fn a_change_by_another_process_is_notified() {
    let folder = Folder::new();
    let builder = SqliteStore::builder(folder.file()).poll(Duration::from_millis(20));
    let store = builder.open().await.unwrap();
    let mut changes = store.changes();
    store.get("a".into()).await.unwrap(); // in line behind the beginning of the stream
    let output = child("processes::takes_all", &folder.file()).output().unwrap();
    assert!(output.status.success());
    let heard = tokio::time::timeout(Duration::from_secs(10), changes.next()).await;
    assert_eq!(heard, Ok(Some(StoreChange::Unknown)));
}

#[tokio::test]
async fn openers_that_race_make_the_tables_once() {
    for _ in 0..10 {
        let folder = Folder::new();
        let opens = (0..8).map(|_| tokio::spawn(SqliteStore::open(folder.file())));
        let stores = futures::future::join_all(opens.collect::<Vec<_>>()).await;
        let mut others = (0..2).map(|_| child("processes::takes_all", &folder.file()));
        for other in others.by_ref() {
            let mut other = other;
            assert!(other.output().unwrap().status.success());
        }
        for (n, store) in (1..).zip(stores) {
            add(&store.unwrap().unwrap(), [record(&format!("{n}"), n, None)]).await;
        }
        let version = connect(&folder.file()).query_row(
            "SELECT group_concat(version) FROM punctual_meta",
            [],
            |row| row.get(0),
        );
        assert_eq!(version, Ok("3".to_owned()));
    }
}

#[tokio::test]
#[ignore = "it is run by other tests, as a process of its own"]
async fn is_killed_while_it_takes() {
    let store = SqliteStore::open(file()).await.unwrap();
    heartbeat(&store, 1, Duration::from_millis(100)).await;
    let decide = taking(1, 1, 1).decide;
    let take = ClaimRequest {
        decide: Arc::new(move |record, waiting| {
            if record.id == "50" {
                println!("in the middle");
                std::thread::sleep(Duration::from_secs(600)); // until it is killed
            }
            decide(record, waiting)
        }),
        ..taking(1, 1, 100)
    };
    let _ = store.claim(take).await;
    unreachable!("it was killed");
}

#[tokio::test]
async fn a_process_killed_during_a_claim_has_claimed_nothing() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let due = now() - TimeDelta::seconds(1);
    add(&store, (1..=99).map(|n| record(&n.to_string(), n, Some(due)))).await;
    let mut child = child("processes::is_killed_while_it_takes", &folder.file())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("in the middle")));
    child.kill().unwrap();
    child.wait().unwrap();

    assert_eq!(store.rows(None, 10).await.unwrap(), []);
    let records = store.list(RecordFilter::default(), None, 100).await.unwrap().records;
    assert!(records.iter().all(|job| job.fence == 0 && job.next_fire == Some(due)));
    heartbeat(&store, 2, Duration::from_secs(60)).await;
    let claim_result = store.claim(taking(2, 1, 100)).await.unwrap();
    assert_eq!(claim_result.jobs.len(), 99);
    let check: String =
        connect(&folder.file()).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

/// Adds jobs until the disk is full. Returns how many were added.
async fn fill(store: &SqliteStore, from: u64) -> (u64, StoreError) {
    for n in from.. {
        let mut job = record(&format!("{n:06}"), n, None);
        job.args = "x".repeat(2000);
        match store.write(vec![adding(job)]).await {
            Ok(written) => assert_eq!(written, [WriteResult::Done]),
            Err(error) => return (n - from, error),
        }
    }
    unreachable!("the numbers never end")
}

/// Fills the disk, frees space, and checks that the store continues where it was.
async fn lives_through_a_full_disk(file: &Path, make_room: impl FnOnce()) {
    let store = SqliteStore::open(file).await.unwrap();
    let (fitted, error) = fill(&store, 1).await;
    assert!(fitted > 10);
    assert!(error.is_unavailable(), "{error:?}");
    let said = std::error::Error::source(&error).unwrap().to_string();
    assert!(said.contains("disk"), "{said}");
    // Confirmed jobs are stored, and can be read without free space.
    let list = store.list(RecordFilter::default(), None, 100_000).await.unwrap().records;
    assert_eq!(list.len() as u64, fitted);
    make_room();
    add(&store, [record("after", 1_000_000, None)]).await;
    let list = store.list(RecordFilter::default(), None, 100_000).await.unwrap().records;
    assert_eq!(list.len() as u64, fitted + 1);
}

#[tokio::test]
#[ignore = "it is run by other tests, as a process of its own"]
async fn may_not_write_much() {
    // Files of this process cannot grow beyond this size, as on a full disk.
    setrlimit(Resource::RLIMIT_FSIZE, 400_000, nix::libc::RLIM_INFINITY).unwrap();
    lives_through_a_full_disk(&file(), || {
        setrlimit(Resource::RLIMIT_FSIZE, nix::libc::RLIM_INFINITY, nix::libc::RLIM_INFINITY)
            .unwrap();
    })
    .await;
}

#[test]
fn a_file_that_can_not_grow_stalls_the_store() {
    let folder = Folder::new();
    let test = child("processes::may_not_write_much", &folder.file());
    // Without the trap, the system would kill it with a signal instead of failing the write.
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"trap "" XFSZ; exec "$@""#, "sh"]).arg(test.get_program());
    shell.args(test.get_args()).env(FILE, folder.file()).process_group(0);
    let output = shell.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// On a disk that is really full, if the system lets the test create one.
#[tokio::test]
async fn a_full_disk_stalls_the_store() {
    let folder = Folder::new();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "punctual"])
        .arg(folder.path())
        .output();
    if !mount.is_ok_and(|mount| mount.status.success()) {
        eprintln!("only root may make a disk: see `a_file_that_can_not_grow_stalls_the_store`");
        return;
    }
    let ballast = folder.path().join("ballast");
    std::fs::write(&ballast, vec![1; 300_000]).unwrap();
    let file = folder.file();
    let test = tokio::spawn(async move {
        lives_through_a_full_disk(&file, || std::fs::remove_file(ballast).unwrap()).await;
    });
    let passed = test.await;
    assert!(Command::new("umount").arg("-l").arg(folder.path()).status().unwrap().success());
    passed.unwrap();
}
