//! The examples print the expected lines, end by themselves, and report no errors.
//!
//! They run as processes and in real time, since they show the behaviour on a real clock; all at
//! once, so that together they take as long as the longest.

mod next_fires;

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

/// Each example, and a line that it prints on success.
const EXAMPLES: &[(&str, &str)] = &[
    ("quickstart", "the cache holds 4096 entries"),
    ("policies", "all        ran for 1.2"),
    ("events", "the slow listener was told that it missed"),
    ("testing", "all as expected"),
    ("order_timeout", "every order ended exactly once"),
    ("pipeline", "telling everyone: import succeeded"),
    #[cfg(unix)]
    ("processes", "endless.png: timed out"),
];

/// Far longer than any example takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Cargo's folder of examples, next to this test.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.ancestors().nth(2).expect("a test lies in deps, in a profile's directory");
    let directory = profile.join("examples");
    // `cargo test` builds examples first, but `cargo test --test examples` does not.
    if EXAMPLES.iter().any(|(name, _)| !directory.join(executable(name)).exists()) {
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet", "--examples", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(profile.parent().expect("a profile lies in the target directory"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        let status = build.status().expect("cargo, which built this test, starts again");
        assert!(status.success(), "the examples do not build");
    }
    directory
});

fn executable(name: &str) -> String {
    format!("{name}{}", std::env::consts::EXE_SUFFIX)
}

fn example(name: &str) -> Command {
    let mut command = Command::new(DIRECTORY.join(executable(name)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn check(name: &str, line: &str, output: Output) {
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(
        output.status.success() && stdout.contains(line),
        "{name}: {}, and it should print `{line}`\n--- stdout\n{stdout}\n--- stderr\n{stderr}",
        output.status
    );
}

#[test]
fn the_examples_run_and_end_by_themselves() {
    let (sender, ended) = mpsc::channel();
    for &(name, line) in EXAMPLES {
        let (mut command, sender) = (example(name), sender.clone());
        thread::spawn(move || {
            let output = command.output().expect("the example starts");
            // The test may have failed meanwhile.
            let _ = sender.send((name, line, output));
        });
    }
    let mut waiting: Vec<_> = EXAMPLES.iter().map(|&(name, _)| name).collect();
    while !waiting.is_empty() {
        let (name, line, output) = ended
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("still running after {PATIENCE:?}: {waiting:?}"));
        check(name, line, output);
        waiting.retain(|&other| other != name);
    }
}

#[cfg(unix)]
#[test]
fn the_quickstart_stops_at_ctrl_c() {
    let mut child = example("quickstart").spawn().expect("the example starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut until = |text: &str| {
        let line = lines.find_map(|line| line.ok().filter(|line| line.contains(text)));
        line.unwrap_or_else(|| panic!("the example ended without `{text}`"))
    };
    // It listens for the signal before the first poll is due.
    until("anything new?");
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("unix has a `kill`").success());
    until("shutting down");
    until("stopped: ");
    assert!(child.wait().expect("the example can be waited for").success());
}

/// Killed during an export and started again, it reports the fate of every run.
#[cfg(unix)]
#[test]
fn the_durable_jobs_go_on_after_a_kill() {
    let file = std::env::temp_dir().join(format!("punctual-examples-{}.db", std::process::id()));
    let start = |seconds: &str| {
        let mut command = example("durable");
        command.arg("--file").arg(&file).args(["--seconds", seconds]);
        command.spawn().expect("the example starts")
    };
    let mut first = start("60");
    let lines = BufReader::new(first.stdout.take().expect("it is piped")).lines();
    let mut begun = lines.map_while(Result::ok).filter(|line| line.contains("begins, under fence"));
    assert!(begun.next().is_some() && begun.next().is_some(), "both exports begin");
    first.kill().expect("it is a child of this process");
    first.wait().expect("the example can be waited for");
    // The lease must lapse, and fire times must pass.
    thread::sleep(Duration::from_secs(5));
    let output = start("9").wait_with_output().expect("the example can be waited for");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = [
        "Coalesced tick",
        "fire times that passed",
        "Missed strict",
        "is recovered: its process died",
        "Abandoned mailing",
        "1 runs recovered",
        "stopped: ",
    ];
    for line in expected {
        assert!(text.contains(line), "there is no `{line}` in\n{text}");
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut path = file.clone().into_os_string();
        path.push(suffix);
        let _ = std::fs::remove_file(path);
    }
}
