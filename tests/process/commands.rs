//! Jobs that are commands.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Instant};

use libtest_mimic::Trial;
use punctual::{Command, CommandError, End, Outcome, Scheduler, command, trigger::now};

use super::{
    fixture::{Fixture, SECOND, dead, eventually, failed, gone, outcome, path},
    trials,
};

pub(super) fn trials() -> Vec<Trial> {
    trials![
        a_command_succeeds_by_its_status,
        a_command_fails_with_the_end_of_its_output,
        a_command_that_is_not_there_fails,
        a_command_that_cannot_be_started_says_why,
        a_command_does_not_show_its_secrets,
        a_command_is_killed_with_what_it_started,
        a_command_is_asked_to_end_first,
        a_command_need_not_wait_for_what_it_leaves,
        commands_count_in_a_process_pool,
        commands_do_not_block_threads,
    ]
}

/// Returns a command for a shell script.
fn sh(text: &str) -> Command {
    command("sh", ["-c", text])
}

async fn a_command_succeeds_by_its_status() {
    let scheduler = Scheduler::new();
    let directory = fs::canonicalize(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let text =
        format!("test \"$(pwd -P)\" = {} && test $WHO = me && ! read x", directory.display());
    let work = sh(&text).env("WHO", "me").current_dir(&directory);
    let outcome = outcome(scheduler.add(now(), work)).await;
    assert!(outcome.is_success(), "{outcome}");
}

async fn a_command_fails_with_the_end_of_its_output() {
    let scheduler = Scheduler::new();
    let work = sh("yes | head -c 10000; echo one; echo two >&2; exit 3");
    let outcome = outcome(scheduler.add(now(), work)).await;
    let text = failed(&outcome);
    assert!(text.starts_with("`sh` ended with exit status: 3; last output: y\\ny"), "{text}");
    assert!(text.ends_with("y\\none\\ntwo"), "{text}");
    let Outcome::Failed(error) = outcome else { panic!("it failed") };
    let error = error.downcast_ref::<CommandError>().unwrap();
    assert_eq!(error.status().unwrap().code(), Some(3));
    assert!(error.output().len() <= 4096 && error.output().len() > 4000);
    assert!(error.output().ends_with("y\none\ntwo"), "{}", error.output());
    let killed = self::outcome(scheduler.add(now(), sh("kill -9 $$"))).await;
    assert_eq!(failed(&killed), "`sh` ended with signal: 9 (SIGKILL)");
}

async fn a_command_that_is_not_there_fails() {
    let scheduler = Scheduler::new();
    let outcome =
        outcome(scheduler.add(now(), command("punctual-has-no-such-program", [""; 0]))).await;
    let text = failed(&outcome);
    assert!(text.starts_with("`punctual-has-no-such-program` can't be started: "), "{text}");
    let Outcome::Failed(error) = outcome else { panic!("it failed") };
    assert!(error.source().unwrap().to_string().contains("No such file"));
}

async fn a_command_that_cannot_be_started_says_why() {
    let scheduler = Scheduler::new();
    let folder = path();
    fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let file = folder.join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        file
    };
    let none = [""; 0];
    let plain = file("plain", "echo", 0o644);
    for (command, why) in [
        (command("punctual-has-no-such-program", none), "it is in no directory of PATH"),
        (command(folder.join("nowhere"), none), "there is no such file"),
        (command(plain.join("below"), none), "there is no such file"),
        (command("./nowhere", none).current_dir(&folder), "there is no such file"),
        (command(&plain, none), "it is not executable: use `chmod +x`"),
        (command("./plain", none).current_dir(&folder), "it is not executable: use `chmod +x`"),
        (command(&folder, none), "it is a directory"),
        (command(file("headless", "echo", 0o755), none), "a first line like `#!/bin/sh`"),
        (
            command(file("orphan", "#!/no/interpreter\n", 0o755), none),
            "the interpreter in its first line",
        ),
        (command("true", none).current_dir(folder.join("gone")), "its working directory `"),
        (command("true", none).current_dir(&plain), "is not a directory"),
        (command("true", ["a\0b"]), "a NUL byte"),
        (command("true", ["x".repeat(4 << 20)]), "too long for the system"),
    ] {
        let outcome = outcome(scheduler.add(now(), command)).await;
        let text = failed(&outcome);
        assert!(text.contains("` can't be started: ") && text.contains(why), "{why}: {text}");
    }
}

async fn a_command_does_not_show_its_secrets() {
    let work = command("login", ["--password=hunter2"]).env("TOKEN", "hunter3");
    let text = format!("{work:?}");
    assert!(text.contains("login") && text.contains("TOKEN"), "{text}");
    assert!(!text.contains("hunter"), "{text}");
}

async fn a_command_is_killed_with_what_it_started() {
    let scheduler = Scheduler::new();
    let pids = path();
    let text =
        format!("trap '' TERM; echo $$ >> {0}; sleep 600 & echo $! >> {0}; wait", pids.display());
    let read = || -> Vec<u32> {
        let said = fs::read_to_string(&pids).unwrap_or_default();
        said.lines().filter_map(|line| line.parse().ok()).collect()
    };
    let timed_out = outcome(scheduler.add(now(), sh(&text)).timeout(SECOND)).await;
    assert!(matches!(timed_out, Outcome::TimedOut), "{timed_out}");

    let mut add = scheduler.add(now(), sh(&text)).cancel_grace(SECOND / 10);
    let mut runs = add.runs();
    let job = add.await.unwrap();
    eventually(|| read().len() == 4).await;
    job.cancel_token().cancel();
    assert!(matches!(runs.next().await.unwrap().outcome, Outcome::Cancelled));

    let pids = read();
    gone(&[pids[0], pids[2]]).await;
    dead(pids[1]).await;
    dead(pids[3]).await;
}

async fn a_command_is_asked_to_end_first() {
    let scheduler = Scheduler::new();
    let ready = path();
    let text =
        format!("trap 'exit 0' TERM; touch {}; while :; do sleep 0.01; done", ready.display());
    let mut add = scheduler.add(now(), sh(&text));
    let mut runs = add.runs();
    let job = add.await.unwrap();
    eventually(|| ready.exists()).await;
    job.cancel_token().cancel();
    let outcome = runs.next().await.unwrap().outcome;
    assert!(outcome.is_success(), "{outcome}");
}

async fn a_command_need_not_wait_for_what_it_leaves() {
    let scheduler = Scheduler::new();
    let began = Instant::now();
    for text in ["sleep 20 &", "sleep 20 & echo over; exit 1"] {
        let outcome = outcome(scheduler.add(now(), sh(text))).await;
        assert_eq!(outcome.is_success(), text.ends_with('&'), "{outcome}");
    }
    assert!(began.elapsed() < 10 * SECOND);
}

async fn commands_count_in_a_process_pool() {
    let fixture = Fixture::new(1).await;
    let first = fixture.scheduler.add(now(), sh("sleep 1")).executor("pool").await.unwrap();
    let second = fixture.scheduler.add(now(), sh("true")).executor("pool");
    let second = outcome(second.misfire_grace_time(SECOND / 10)).await;
    assert!(matches!(second, Outcome::Missed), "{second}");
    assert!(matches!(first.await, End::Completed));
    assert!(outcome(fixture.scheduler.add(now(), sh("true")).executor("pool")).await.is_success());
}

async fn commands_do_not_block_threads() {
    let scheduler = Scheduler::new();
    let jobs: Vec<_> = (0..20).map(|_| outcome(scheduler.add(now(), sh("sleep 0.5")))).collect();
    let began = Instant::now();
    assert!(futures::future::join_all(jobs).await.iter().all(Outcome::is_success));
    assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
}
