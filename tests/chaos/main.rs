//! Chaos from outside: three processes on one store, which are killed, stopped and asked to end, on a
//! clock that steps, and a checker that shares no code with this crate.
//!
//! `run.py` begins the processes, which are this very program, does them harm, and then compares what
//! the database says (read by Python's own SQLite) with what the work has said in a log of its own. It
//! takes minutes and needs Python and libfaketime (`apt-get install faketime`), so it runs on request:
//!
//! ```sh
//! PUNCTUAL_CHAOS=600 cargo test --features sqlite --test chaos -- --ignored
//! ```
//!
//! `PUNCTUAL_CHAOS` is how many seconds, `PUNCTUAL_SEED` what chance begins with, and
//! `PUNCTUAL_CHAOS_STEP` by how many seconds the clock steps (default: up to 90; 0: not at all).
//! `PUNCTUAL_CHAOS_EARLIER` names this program as an earlier version of the crate has it: the store is
//! made by it, and nodes of both versions live side by side.

#[cfg(target_os = "linux")]
mod log;
#[cfg(target_os = "linux")]
mod node;

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    use libtest_mimic::{Arguments, Trial};

    if std::env::args().nth(1).as_deref() == Some(node::FLAG) {
        return node::main();
    }
    let trial = Trial::test("nothing_is_lost_doubled_or_early", || {
        chaos();
        Ok(())
    });
    let trials = vec![trial.with_ignored_flag(true)];
    libtest_mimic::run(&Arguments::from_args(), trials).exit()
}

#[cfg(target_os = "linux")]
fn chaos() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chaos/run.py");
    let node = std::env::current_exe().unwrap();
    let status = std::process::Command::new("python3").arg(script).arg(node).status().unwrap();
    assert!(status.success(), "see what is printed above");
}
