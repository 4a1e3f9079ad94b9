//! Runs in processes of their own, and commands: whatever happens to a process, its run has an
//! outcome, and no process is left.
//!
//! In real time, since processes have no other; and with a `main` of its own, since the pool starts
//! this program again. The state of a process is read from `/proc`.

#![cfg_attr(not(target_os = "linux"), allow(unused, reason = "there is no `/proc`"))]

#[cfg(target_os = "linux")]
mod commands;
#[cfg(target_os = "linux")]
mod fixture;
#[cfg(target_os = "linux")]
mod pool;
#[cfg(target_os = "linux")]
mod tasks;

/// Set for a program that ends before it reaches `worker`.
const UNREADY: &str = "PUNCTUAL_TEST_UNREADY";

/// Tests, each in a runtime and on a thread of its own.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$(Trial::test(stringify!($name), || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on($name());
            Ok(())
        })),*]
    };
}
use trials;

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    let mode = std::env::args().nth(1);
    if mode.is_none() && std::env::var_os(UNREADY).is_some() {
        eprintln!("too early");
        std::process::exit(7);
    }
    punctual::worker(|worker| worker.task::<tasks::Act>().state_with(|| tasks::Greeting("hello")));
    match mode.as_deref() {
        Some("--who") => println!("the program itself"),
        Some("--parent") => pool::parent(),
        Some("--unready") => pool::unready(),
        Some("--printing") => pool::printing(),
        _ => {
            let arguments = libtest_mimic::Arguments::from_args();
            let mut trials = pool::trials();
            trials.extend(commands::trials());
            libtest_mimic::run(&arguments, trials).exit()
        }
    }
}
