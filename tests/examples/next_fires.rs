//! The example `next_fires`, run as a process.

use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::LazyLock,
};

/// The example beside this test: cargo builds both for `cargo test`.
static EXAMPLE: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().expect("a test knows where it is");
    let target =
        test.ancestors().nth(2).expect("a test lies in deps, in a directory of the target");
    let name = format!("next_fires{}", std::env::consts::EXE_SUFFIX);
    let example = target.join("examples").join(name);
    if !example.exists() {
        // `cargo test --test examples` builds no examples.
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--example", "next_fires", "--manifest-path"]);
        build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        build.arg("--target-dir").arg(target.parent().expect("a profile lies in the target"));
        if target.file_name().is_some_and(|profile| profile == "release") {
            build.arg("--release");
        }
        let status = build.status().expect("cargo, which started this test, starts again");
        assert!(status.success(), "the example does not build");
    }
    example
});

fn run(args: &[&str]) -> Output {
    Command::new(&*EXAMPLE).args(args).output().expect("the example starts")
}

/// Returns the lines that it prints on success.
fn lines(args: &[&str]) -> Vec<String> {
    let output = run(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    assert_eq!(errors, "", "{args:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn prints_utc_instants_and_nothing_else() {
    let new_york = ["--tz", "America/New_York", "--after", "2026-03-07T17:00:00Z", "--utc"];
    let fires = |text, count| lines(&[&[text, "--count", count], &new_york[..]].concat());

    assert_eq!(
        fires("0 9 * * *", "3"),
        ["2026-03-08T13:00:00Z", "2026-03-09T13:00:00Z", "2026-03-10T13:00:00Z"]
    );
    // 02:30 does not exist on the 8th: the first instant after the gap is 03:00 EDT.
    assert_eq!(fires("30 2 * * *", "2"), ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]);
    // The gap of the day does not affect 01:00.
    assert_eq!(fires("0 1 * * *", "2"), ["2026-03-08T06:00:00Z", "2026-03-09T05:00:00Z"]);
}

#[test]
fn starts_strictly_after_the_instant() {
    let after = |instant| lines(&["@hourly", "--count", "1", "--utc", "--after", instant]);

    assert_eq!(after("2026-01-01T00:00:00Z"), ["2026-01-01T01:00:00Z"]);
    assert_eq!(after("2025-12-31T23:59:59.999Z"), ["2026-01-01T00:00:00Z"]);
    assert_eq!(after("2026-01-01T02:30:00+02:00"), ["2026-01-01T01:00:00Z"]);
}

#[test]
fn prints_five_without_a_count() {
    assert_eq!(lines(&["* * * * *", "--utc"]).len(), 5);
}

#[test]
fn prints_words_wall_times_and_instants() {
    let lines = lines(&[
        "0 9 * * MON-FRI",
        "--tz",
        "Europe/Berlin",
        "--count",
        "2",
        "--after",
        "2026-03-26T12:00:00Z",
    ]);

    assert!(lines[0].starts_with("At 09:00"), "{lines:?}");
    assert!(lines[0].ends_with("Europe/Berlin"), "{lines:?}");
    assert_eq!(lines[1], "Fri 2026-03-27 09:00:00 (+01:00)  2026-03-27T08:00:00Z");
    assert_eq!(lines[2], "Mon 2026-03-30 09:00:00 (+02:00)  2026-03-30T07:00:00Z");
    assert_eq!(lines.len(), 3);
}

#[test]
fn the_text_may_name_the_zone() {
    let args = ["CRON_TZ=Asia/Tokyo 0 9 * * *", "--count", "1", "--after", "2026-01-01T00:00:00Z"];

    assert_eq!(lines(&args)[1], "Fri 2026-01-02 09:00:00 (+09:00)  2026-01-02T00:00:00Z");
}

#[test]
fn prints_those_there_are_and_says_so() {
    let args = ["0 0 12 1 1 ? 2030,2031", "--after", "2026-01-01T00:00:00Z"];

    let few = lines(&args);
    assert_eq!(few.len(), 4);
    assert_eq!(few[3], "It fires no more: 2 of 5.");
    assert_eq!(
        lines(&[&args[..], &["--utc"]].concat()),
        ["2030-01-01T12:00:00Z", "2031-01-01T12:00:00Z"]
    );

    let never = ["0 0 30 2 *", "--after", "2026-01-01T00:00:00Z"];
    assert_eq!(lines(&never)[1], "It never fires after 2026-01-01T00:00:00Z.");
    assert!(lines(&[&never[..], &["--utc"]].concat()).is_empty());
}

#[test]
fn mistakes_are_one_line_and_status_2() {
    let mistakes: [(&[&str], &str); 5] = [
        (&["61 * * * *"], "invalid cron expression `61 * * * *`: minute 61 is not in 0..=59"),
        (&["a\nb"], "it has 2 fields"),
        (&["@reboot", "--utc"], "use the trigger `now()`"),
        (
            &["@daily", "--tz", "Europe/Berln"],
            "unknown time zone `Europe/Berln`: use an IANA name such as `Europe/Berlin`",
        ),
        (&["@daily", "--after", "tomorrow"], "invalid instant `tomorrow`"),
    ];
    for (args, message) in mistakes {
        let output = run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(stderr.contains(message), "{args:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    }
}
