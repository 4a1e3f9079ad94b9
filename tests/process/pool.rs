//! Runs in a pool's processes.

use std::{
    fs,
    future::pending,
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::{Arc, Mutex},
};

use libtest_mimic::Trial;
use punctual::{
    Add, BlockingPool, End, Outcome, ProcessPool, Retry, blocking, command, named_task,
    trigger::{every, now},
};
use tokio::time::sleep;

use super::{
    fixture::{
        FOREVER, Fixture, SECOND, dead, eventually, failed, gone, kill_9, outcome, path, state,
    },
    tasks::{Stranger, Then},
    trials,
};

pub(super) fn trials() -> Vec<Trial> {
    trials![
        a_run_knows_itself_in_its_process,
        a_process_is_used_again,
        a_process_that_is_killed_fails_its_run_alone,
        a_process_that_is_killed_between_runs_is_replaced,
        a_process_that_crashes_says_how,
        a_run_that_takes_too_long_is_killed_with_what_it_started,
        a_run_that_blocks_is_killed,
        a_run_that_is_cancelled_can_end_by_itself,
        a_run_that_does_not_obey_is_killed,
        errors_and_panics_cross_over,
        a_run_is_tried_again,
        an_exhausted_pool_lets_runs_wait,
        a_run_that_waits_too_long_for_a_process_is_missed,
        a_shutdown_leaves_no_process,
        a_pool_that_is_removed_leaves_no_process,
        a_dropped_scheduler_leaves_no_process,
        a_dropped_runtime_leaves_no_process,
        a_killed_program_leaves_no_process,
        a_process_must_come_to_the_worker,
        what_is_printed_is_traced,
        what_is_printed_is_shown_where_nobody_traces,
        what_is_printed_disturbs_nothing,
        a_process_has_no_input_and_no_mark,
        a_process_has_no_scheduler,
        long_arguments_are_refused,
        misuse_says_so,
        a_runtime_without_io_will_do,
    ]
}

async fn a_run_knows_itself_in_its_process() {
    let fixture = Fixture::new(1).await;
    let said = path();
    let mut add = fixture.add(Then::Report(said.clone())).id("known");
    let mut runs = add.runs();
    add.await.unwrap();
    let run = runs.next().await.unwrap();
    assert!(run.outcome.is_success(), "{}", run.outcome);
    let known = fs::read_to_string(said).unwrap();
    let known: Vec<&str> = known.split(' ').collect();
    let fire_time = run.fire_time.timestamp_nanos_opt().unwrap().to_string();
    let late_by = run.late_by.as_nanos().to_string();
    let id = run.id.to_string();
    assert_eq!(known, ["known", &id, &fire_time, &late_by, "1", "false", "0", "hello"]);
    assert_ne!(fixture.pids(), [std::process::id()]);
}

async fn a_process_is_used_again() {
    let fixture = Fixture::new(4).await;
    for _ in 0..5 {
        assert!(fixture.outcome(Then::Return).await.is_success());
    }
    let pids = fixture.pids();
    assert_eq!(pids, [pids[0]; 5]);
}

async fn a_process_that_is_killed_fails_its_run_alone() {
    let fixture = Fixture::new(2).await;
    let mut other = fixture.add(Then::Sleep(SECOND));
    let mut other_runs = other.runs();
    other.await.unwrap();
    let others = fixture.wait_for_pids(1).await;
    let run = tokio::spawn(outcome(fixture.add(Then::StartAnother)));
    let pids = fixture.wait_for_pids(3).await;
    kill_9(pids[1]);
    let text = failed(&run.await.unwrap());
    assert_eq!(text, format!("process {} ended before its run did (signal: 9 (SIGKILL))", pids[1]));
    gone(&pids[1..2]).await;
    dead(pids[2]).await;

    assert!(fixture.outcome(Then::Return).await.is_success());
    assert!(other_runs.next().await.unwrap().outcome.is_success());
    assert!(!fixture.pids()[3..].contains(&pids[1]) && state(others[0]).is_some());
}

async fn a_process_that_is_killed_between_runs_is_replaced() {
    let fixture = Fixture::new(1).await;
    for round in 0..5 {
        assert!(fixture.outcome(Then::Return).await.is_success());
        let pid = fixture.pids()[round];
        kill_9(pid);
        eventually(|| state(pid).is_none_or(|state| state == 'Z')).await;
    }
    gone(&fixture.pids()[..4]).await;
}

async fn a_process_that_crashes_says_how() {
    let fixture = Fixture::new(1).await;
    let text = failed(&fixture.outcome(Then::Abort).await);
    assert!(text.contains("(signal: 6 (SIGABRT)"), "{text}");
    assert!(text.ends_with("; last output: about to abort"), "{text}");
    let text = failed(&fixture.outcome(Then::Exit(3)).await);
    assert!(text.ends_with("ended before its run did (exit status: 3)"), "{text}");
    gone(&fixture.pids()).await;
}

async fn a_run_that_takes_too_long_is_killed_with_what_it_started() {
    let fixture = Fixture::new(1).await;
    let add = fixture.add(Then::StartAnother).timeout(2 * SECOND);
    assert!(matches!(outcome(add).await, Outcome::TimedOut));
    let pids = fixture.wait_for_pids(2).await;
    gone(&pids[..1]).await;
    dead(pids[1]).await;
    assert!(fixture.outcome(Then::Return).await.is_success());
}

async fn a_run_that_blocks_is_killed() {
    let fixture = Fixture::new(1).await;
    let add = fixture.add(Then::Block).timeout(2 * SECOND);
    assert!(matches!(outcome(add).await, Outcome::TimedOut));
    gone(&fixture.pids()).await;
}

async fn a_run_that_is_cancelled_can_end_by_itself() {
    let fixture = Fixture::new(1).await;
    let said = path();
    let mut add = fixture.add(Then::Obey(said.clone()));
    let mut runs = add.runs();
    let job = add.await.unwrap();
    let pids = fixture.wait_for_pids(1).await;
    job.cancel_token().cancel();
    assert!(runs.next().await.unwrap().outcome.is_success());
    assert_eq!(fs::read_to_string(said).unwrap(), "obeyed");

    // The process waits for the next run.
    assert!(fixture.outcome(Then::Return).await.is_success());
    assert_eq!(fixture.pids(), [pids[0]; 2]);
}

async fn a_run_that_does_not_obey_is_killed() {
    let fixture = Fixture::new(1).await;
    for then in [Then::Sleep(FOREVER), Then::Block, Then::StartAnother] {
        let before = fixture.pids().len();
        let mut add = fixture.add(then).cancel_grace(SECOND / 10);
        let mut runs = add.runs();
        let job = add.await.unwrap();
        let pids = fixture.wait_for_pids(before + 1).await;
        job.cancel_token().cancel();
        assert!(matches!(runs.next().await.unwrap().outcome, Outcome::Cancelled));
        gone(&pids[before..=before]).await;
    }
}

async fn errors_and_panics_cross_over() {
    let fixture = Fixture::new(1).await;
    let Outcome::Failed(error) = fixture.outcome(Then::Fail).await else { panic!("it failed") };
    assert_eq!(error.to_string(), "no picture");
    assert_eq!(error.source().unwrap().to_string(), "the disk is full");
    let outcome = fixture.outcome(Then::Panic).await;
    assert!(matches!(&outcome, Outcome::Panicked(said) if &**said == "out of paper"), "{outcome}");
    assert!(fixture.outcome(Then::Return).await.is_success());
    let pids = fixture.pids();
    assert_eq!(pids, [pids[0]; 3]);
}

async fn a_run_is_tried_again() {
    let fixture = Fixture::new(1).await;
    let add = fixture.add(Then::FailOnce).retry(Retry::fixed(SECOND / 100).times(1));
    let job = add.await.unwrap();
    assert!(matches!(job.await, End::Completed));
    assert_eq!(fixture.pids().len(), 2);
}

async fn an_exhausted_pool_lets_runs_wait() {
    let fixture = Fixture::new(2).await;
    let mut all = Vec::new();
    for _ in 0..8 {
        let mut add = fixture.add(Then::Sleep(SECOND / 10));
        all.push(add.runs());
        add.await.unwrap();
    }
    for mut runs in all {
        let run = runs.next().await.unwrap();
        assert!(run.outcome.is_success(), "{}", run.outcome);
    }
    let mut pids = fixture.pids();
    assert_eq!(pids.len(), 8);
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 2);
}

async fn a_run_that_waits_too_long_for_a_process_is_missed() {
    let fixture = Fixture::new(1).await;
    let first = fixture.add(Then::Sleep(SECOND)).await.unwrap();
    let second = fixture.add(Then::Return).misfire_grace_time(SECOND / 10);
    assert!(matches!(outcome(second).await, Outcome::Missed));
    assert!(matches!(first.await, End::Completed));
    assert_eq!(fixture.pids().len(), 1);
}

async fn a_shutdown_leaves_no_process() {
    let fixture = Fixture::new(4).await;
    let said = path();
    let mut all = Vec::new();
    // Five runs for four processes; the run that starts another process shows two ids.
    let acts = [
        (Then::StartAnother, 2),
        (Then::Sleep(FOREVER), 3),
        (Then::Obey(said.clone()), 4),
        (Then::Block, 5),
        (Then::Return, 5),
    ];
    for (then, seen) in acts {
        let mut add = fixture.add(then).cancel_grace(SECOND);
        all.push(add.runs());
        add.await.unwrap();
        fixture.wait_for_pids(seen).await;
    }
    // Nothing shows that the last run has come due, which takes a millisecond.
    sleep(SECOND / 20).await;
    let pids = fixture.pids();
    let report = fixture.scheduler.shutdown().within(SECOND / 10).await;
    assert_eq!((report.dropped.len(), report.cancelled.len()), (3, 1), "{report}");
    assert_eq!(fs::read_to_string(said).unwrap(), "obeyed");
    let mut outcomes = Vec::new();
    for mut runs in all {
        outcomes.push(runs.next().await.unwrap().outcome.to_string());
    }
    let expected = ["cancelled", "cancelled", "succeeded", "cancelled", "skipped: shutdown"];
    assert_eq!(outcomes, expected);
    gone(&[pids[0], pids[2], pids[3], pids[4]]).await;
    dead(pids[1]).await;
}

async fn a_pool_that_is_removed_leaves_no_process() {
    let fixture = Fixture::new(1).await;
    assert!(fixture.outcome(Then::Return).await.is_success());
    assert!(state(fixture.pids()[0]).is_some());
    fixture.scheduler.remove_executor("pool").await.unwrap();
    gone(&fixture.pids()).await;
}

async fn a_dropped_scheduler_leaves_no_process() {
    let fixture = Fixture::new(2).await;
    assert!(fixture.outcome(Then::Return).await.is_success());
    let mut add = fixture.add(Then::Sleep(SECOND));
    let mut runs = add.runs();
    let job = add.await.unwrap();
    let pids = fixture.wait_for_pids(2).await;
    drop(fixture);
    assert!(runs.next().await.unwrap().outcome.is_success());
    assert!(matches!(job.await, End::Completed | End::ShutDown));
    gone(&pids).await;
}

async fn a_dropped_runtime_leaves_no_process() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (fixture, mut runs) = runtime
        .spawn(async {
            let fixture = Fixture::new(2).await;
            let mut add = fixture.add(Then::StartAnother);
            let runs = add.runs();
            add.await.unwrap();
            fixture.wait_for_pids(2).await;
            assert!(fixture.outcome(Then::Return).await.is_success());
            (fixture, runs)
        })
        .await
        .unwrap();
    let pids = fixture.pids();
    assert_eq!(pids.len(), 3);
    runtime.shutdown_background();
    assert!(matches!(runs.next().await.unwrap().outcome, Outcome::Cancelled));
    gone(&[pids[0], pids[2]]).await;
    dead(pids[1]).await;
}

/// A program with a run, and with a process that waits for a run.
pub(super) fn parent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let fixture = Fixture::new(2).await;
        fixture.add(Then::StartAnother).await.unwrap();
        fixture.wait_for_pids(2).await;
        assert!(fixture.outcome(Then::Return).await.is_success());
        for pid in fixture.pids() {
            println!("{pid}");
        }
        pending::<()>().await;
    });
}

async fn a_killed_program_leaves_no_process() {
    let mut parent = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("--parent")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(parent.stdout.take().unwrap()).lines().take(3);
    let pids: Vec<u32> = said.map(|line| line.unwrap().parse().unwrap()).collect();
    parent.kill().unwrap();
    parent.wait().unwrap();
    for pid in pids {
        dead(pid).await;
    }
}

/// A program whose processes do not reach `worker`.
pub(super) fn unready() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        println!("{}", Fixture::new(1).await.outcome(Then::Return).await);
    });
}

async fn a_process_must_come_to_the_worker() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("--unready")
        .env(super::UNREADY, "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("failed: process "), "{text}");
    assert!(
        text.contains("before it reached `punctual::worker`, which must be the first"),
        "{text}"
    );
    assert!(text.contains("(exit status: 7); last output: too early"), "{text}");
}

async fn what_is_printed_is_traced() {
    #[derive(Clone, Default)]
    struct Traced(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Traced {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let traced = Traced::default();
    let writer = traced.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // For this thread, the only one of the runtime.
    let _guard = tracing::subscriber::set_default(subscriber);
    let fixture = Fixture::new(1).await;
    for run in 1..=20 {
        let add = fixture.add(Then::Print(format!("line {run}"))).id(format!("job {run}"));
        assert!(outcome(add).await.is_success());
    }
    let text = || String::from_utf8(traced.0.lock().unwrap().clone()).unwrap();
    eventually(|| text().contains("line 20")).await;
    let pid = fixture.pids()[0];
    for run in 1..=20 {
        let line = format!("INFO punctual::worker: line {run} pid={pid} run={run} job=job {run}\n");
        assert!(text().contains(&line), "{}", text());
    }
    let crash = failed(&fixture.outcome(Then::Abort).await);
    assert!(crash.ends_with("(SIGABRT)); last output: about to abort"), "{crash}");
}

/// A program whose processes print, with no subscriber or with one for warnings alone.
pub(super) fn printing() {
    if std::env::args().nth(2).is_some() {
        let warnings = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN);
        let warnings = warnings.with_writer(std::io::sink).finish();
        tracing::subscriber::set_global_default(warnings).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let fixture = Fixture::new(1).await;
        assert!(fixture.outcome(Then::Print("one\ntwo".to_owned())).await.is_success());
        // The last printed text arrives before the crash is reported.
        failed(&fixture.outcome(Then::Abort).await);
    });
    println!("data");
}

async fn what_is_printed_is_shown_where_nobody_traces() {
    for arguments in [&["--printing"][..], &["--printing", "--warnings"]] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "data\n");
        let shown = String::from_utf8(output.stderr).unwrap();
        assert!(shown.starts_with("one\ntwo\nabout to abort\n"), "{shown}");
    }
}

async fn what_is_printed_disturbs_nothing() {
    // Megabytes, which are discarded.
    let unseen = tracing_subscriber::fmt().with_writer(std::io::sink).finish();
    let _guard = tracing::subscriber::set_default(unseen);
    let fixture = Fixture::new(1).await;
    for _ in 0..3 {
        assert!(fixture.outcome(Then::Babble).await.is_success());
    }
    let frame = String::from_utf8_lossy(b"\0\0\0\x02{}").into_owned();
    assert!(fixture.outcome(Then::Print(frame)).await.is_success());
    let pids = fixture.pids();
    assert_eq!(pids, [pids[0]; 4]);
}

async fn a_process_has_no_input_and_no_mark() {
    let fixture = Fixture::new(1).await;
    for then in [Then::ReadInput, Then::StartThisProgram, Then::Return] {
        let outcome = fixture.outcome(then).await;
        assert!(outcome.is_success(), "{outcome}");
    }
}

async fn a_process_has_no_scheduler() {
    let fixture = Fixture::new(1).await;
    let outcome = fixture.outcome(Then::AskScheduler).await;
    assert!(outcome.is_success(), "{outcome}");
}

async fn long_arguments_are_refused() {
    let fixture = Fixture::new(1).await;
    let text = failed(&fixture.outcome(Then::Print("x".repeat(17 << 20))).await);
    assert!(text.contains("is too long: the limit is 16777216"), "{text}");
    assert!(fixture.outcome(Then::Print("x".repeat(8 << 20))).await.is_success());
}

async fn misuse_says_so() {
    let fixture = Fixture::new(1).await;
    let refused = async |add: Add, says: &str| {
        let error = add.await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    let scheduler = &fixture.scheduler;
    let add = scheduler.add(now(), || async {}).executor("pool");
    refused(add, "a closure can't run on a process pool: make a `Task` of it").await;
    let closure = scheduler.add(every(FOREVER), || async {}).await.unwrap();
    let moved = closure.modify(|settings| settings.executor("pool")).await.unwrap_err();
    assert!(moved.to_string().contains("make a `Task` of it"), "{moved}");
    closure.modify(|settings| settings.max_instances(2)).await.unwrap();
    let once = scheduler.add_once(now(), async {}).executor("pool").await;
    assert!(once.unwrap_err().is_invalid_option());
    let add = scheduler.add(now(), blocking(|| {})).executor("pool");
    refused(add, "work that blocks can't run on a process pool").await;
    let once = scheduler.add_once(now(), fixture.act(Then::Return)).executor("pool").await;
    let once = once.unwrap_err().to_string();
    assert!(once.contains("does not return the value of a task: use `add`"), "{once}");
    let unknown = "task `stranger` is not registered for processes: add `.task::<..>()` in `punctual::worker`";
    refused(scheduler.add(now(), Stranger).executor("pool"), unknown).await;
    refused(scheduler.add(now(), named_task("stranger", &Stranger)).executor("pool"), unknown)
        .await;
    let add = fixture.add(Then::Return).executor("poll");
    refused(add, "there is no executor `poll`, but `blocking`, `default`, `pool`").await;
    scheduler.add_executor("threads", BlockingPool::new(1)).await.unwrap();
    let add = scheduler.add(now(), command("true", [""; 0])).executor("threads");
    refused(add, "a command can't run on a blocking pool").await;
    let none = scheduler.add_executor("none", ProcessPool::new(0)).await.unwrap_err();
    assert!(none.is_invalid_option(), "{none}");
    // A second call neither counts nor does harm.
    punctual::worker(|worker| worker.task::<Stranger>());
    refused(scheduler.add(now(), Stranger).executor("pool"), unknown).await;
    assert!(fixture.outcome(Then::Return).await.is_success());
}

async fn a_runtime_without_io_will_do() {
    let made = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new(1).await;
            let command = outcome(fixture.scheduler.add(now(), command("true", [""; 0]))).await;
            (fixture.outcome(Then::Return).await, command)
        })
    });
    let (pool, command) = made.join().unwrap();
    for outcome in [pool, command] {
        assert!(outcome.is_success(), "{outcome}");
    }
}
