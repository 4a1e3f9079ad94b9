//! Nodes that are killed, stopped and restarted: whatever happens to a process, each fire time has
//! one fate, and no work is done twice that must not be.
//!
//! In real time, with real processes that share an SQLite file, two at any time. `PUNCTUAL_KILLS`
//! is the number of kills (100), and `PUNCTUAL_SEED` decides when and which, so that a failure can
//! be repeated as far as the machine's own timing allows.

#![cfg_attr(
    not(target_os = "linux"),
    allow(unused, reason = "other systems end processes otherwise")
)]

#[cfg(target_os = "linux")]
mod account;
#[cfg(target_os = "linux")]
mod jobs;
#[cfg(target_os = "linux")]
mod kills;
#[cfg(target_os = "linux")]
mod log;
#[cfg(target_os = "linux")]
mod node;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod restarts;
#[cfg(target_os = "linux")]
mod stage;
#[cfg(target_os = "linux")]
mod stops;

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    use libtest_mimic::{Arguments, Trial};

    if std::env::args().nth(1).as_deref() == Some(node::FLAG) {
        return node::main();
    }
    let trial = |name, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        trial("killed", kills::killed),
        trial("restarted", restarts::restarted),
        trial("stopped", stops::stopped),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit()
}
