//! The compiler's messages about invalid work: each message shows what to write instead.
//!
//! Each program is checked by `rustc` alone, against the library that this test is linked with.
//! Only our own sentences are looked for in its messages: those are the same in every version.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Returns the folder of Cargo's build of this test.
fn deps() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.parent().unwrap().to_owned()
}

/// Returns the newest build of the library, which Cargo has just brought up to date.
fn library(deps: &Path) -> PathBuf {
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libpunctual-") && name.ends_with(".rlib")
    };
    let files = fs::read_dir(deps).unwrap().map(|entry| entry.unwrap().path());
    let built = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
    files.filter(is_library).max_by_key(built).expect("the library has been built")
}

/// Returns the compiler next to the Cargo that runs this test.
fn rustc() -> PathBuf {
    let cargo = env::var_os("CARGO").map(PathBuf::from);
    let beside =
        cargo.map(|cargo| cargo.with_file_name(format!("rustc{}", env::consts::EXE_SUFFIX)));
    beside.filter(|rustc| rustc.exists()).unwrap_or_else(|| "rustc".into())
}

/// Returns the compiler's messages about a program with this line; empty if it compiles.
fn errors(name: &str, line: &str) -> String {
    let deps = deps();
    let folder = deps.join("diagnostics");
    fs::create_dir_all(&folder).unwrap();
    let source = folder.join(format!("{name}.rs"));
    let program = format!(
        "#![allow(unused)]
         use std::{{rc::Rc, error::Error}};
         use punctual::{{BoxError, Context, Scheduler, blocking, stateful, trigger::{{after, every, now}}}};
         pub async fn program(scheduler: Scheduler) {{ {line} }}
        "
    );
    fs::write(&source, program).unwrap();
    let output = Command::new(rustc())
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata"])
        .arg("--out-dir")
        .arg(&folder)
        .arg("--extern")
        .arg(format!("punctual={}", library(&deps).display()))
        .arg("-L")
        .arg(format!("dependency={}", deps.display()))
        .arg(&source)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), !text.contains("error"), "{text}");
    if output.status.success() { String::new() } else { text }
}

#[track_caller]
fn assert_says(name: &str, line: &str, sentences: &[&str]) {
    let text = errors(name, line);
    assert!(!text.is_empty(), "`{line}` compiles");
    for sentence in sentences {
        assert!(text.contains(sentence), "`{sentence}` is not said of `{line}`:\n{text}");
    }
}

#[track_caller]
fn assert_compiles(name: &str, line: &str) {
    let text = errors(name, line);
    assert!(text.is_empty(), "`{line}` does not compile:\n{text}");
}

#[test]
fn a_value_that_is_neither_nothing_nor_a_result() {
    let says = [
        "a job's work can't return",
        "end the work with `;`, or discard the value with `let _ = ..;`",
        "return `Ok::<_, BoxError>(value)`",
        "`add_once`, which yields any value",
    ];
    assert_says("number", "scheduler.add(now(), || async { 42 });", &says);
    assert_says("option", "scheduler.add(now(), || async { Some(3) });", &says);
    assert_says("blocking", "scheduler.add(now(), blocking(|| 42));", &says);
    assert_says("context", "scheduler.add(now(), |_: Context| async { \"text\" });", &says);
    assert_says("stateful", "scheduler.add(now(), stateful(|| async { 1 }));", &says);
    // The remedy of the message.
    assert_compiles("semicolon", "scheduler.add(now(), || async { let _ = 42; });");
    assert_compiles("wrapped", "scheduler.add(now(), || async { Ok::<_, BoxError>(42) });");
    assert_compiles("once", "scheduler.add_once(now(), || async { Some(3) });");
}

#[test]
fn an_error_that_can_not_go_to_another_thread() {
    let line =
        "scheduler.add(now(), || async { \"x\".parse::<u8>()?; Ok::<(), Box<dyn Error>>(()) });";
    let says = [
        "a job's work can't fail with `Box<dyn",
        "return `Result<_, BoxError>` in place of `Result<_, Box<dyn Error>>`",
    ];
    assert_says("boxed_error", line, &says);
    assert_compiles("box_error", &line.replace("Box<dyn Error>", "BoxError"));
    let own = "struct Mine; scheduler.add(now(), || async { Err::<(), _>(Mine) });";
    assert_says("own_error", own, &["can't fail with", "implements `std::error::Error`"]);
}

#[test]
fn an_error_that_is_not_named() {
    let line = "scheduler.add(now(), || async { Ok(()) });";
    // The compiler's own words, which show where the type belongs.
    assert_says("bare_ok", line, &["type annotations needed", "Ok::<"]);
    assert_compiles("named_ok", &line.replace("Ok(())", "Ok::<_, BoxError>(())"));
}

#[test]
fn work_of_the_wrong_shape() {
    let says = ["is not work for a job", "`|| async { .. }`", "`blocking(|| ..)`"];
    assert_says("not_async", "scheduler.add(now(), || println!());", &says);
    let counts = "let mut n = 0; scheduler.add(now(), move || { n += 1; });";
    assert_says("counter", counts, &["`stateful(move || { n += 1; async { .. } })`"]);
    let stateful = "scheduler.add(now(), stateful(move || { n += 1; async {} }));";
    assert_compiles("counter_stateful", &format!("let mut n = 0; {stateful}"));
    let blocking = "scheduler.add(now(), blocking(stateful(move || n += 1)));";
    assert_compiles("counter_blocking", &format!("let mut n = 0; {blocking}"));
    assert_says("future", "scheduler.add(now(), async {});", &["or use `add_once`"]);
    assert_says("arguments", "scheduler.add(now(), |a: u8, b: u8| async {});", &says);
    let once = "scheduler.add_once(now(), || 42);";
    assert_says(
        "once_not_async",
        once,
        &["is not work for a job that runs once", "`blocking(|| ..)`"],
    );
}

#[test]
fn a_number_without_a_unit_is_no_trigger() {
    let says = ["is not a trigger", "needs a unit, as in `every(10).minutes()`", "`after_success`"];
    assert_says("no_unit", "scheduler.add(every(10), || async {});", &says);
    assert_compiles("unit", "scheduler.add(every(10).minutes(), || async {});");
}

#[test]
fn a_delay_of_the_wrong_type() {
    let says = ["`{integer}` is not a delay", "`std::time::Duration`", "\"10 minutes\""];
    assert_says("bare_delay", "scheduler.add(after(10), || async {});", &says);
    assert_compiles("delay_text", "scheduler.add(after(\"10 minutes\"), || async {});");
}

#[test]
fn a_stateful_closure_returns_its_future() {
    let line = "let mut n = 0;
        scheduler.add(now(), stateful(move |_: Context| { n += 1; async move { drop(n) } }));";
    assert_compiles("stateful_context", line);
    let line = "let mut n = 0;
        scheduler.add(now(), stateful(async move |_: Context| { n += 1; }));";
    // The compiler's own words.
    assert_says("stateful_async", line, &["error"]);
}
