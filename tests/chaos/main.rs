//! Chaos from outside: three processes on one store, which are killed, stopped and terminated, on a
//! clock that steps, and a checker that shares no code with this crate.
//!
//! `run.py` starts the processes, which are this program, disturbs them, and then compares the
//! database (read by Python's own SQLite) with the log of the work. It takes minutes and needs
//! Python and libfaketime (`apt-get install faketime`), so it runs on request:
//!
//! ```sh
//! PUNCTUAL_CHAOS=600 cargo test --features sqlite --test chaos -- --ignored
//! ```
//!
//! `PUNCTUAL_CHAOS` is the number of seconds, `PUNCTUAL_SEED` the random seed, and
//! `PUNCTUAL_CHAOS_STEP` the size of the clock steps in seconds (default: up to 90; 0: none).
//! `PUNCTUAL_CHAOS_EARLIER` is the path of this program as built from an earlier version of the
//! crate: it creates the store, and nodes of both versions run side by side.

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
