//! Clusters of real processes, on each store that they can share: whatever happens to a node, to the
//! server or to the network, each fire time has one fate, and no work is done twice that must not be.
//!
//! In real time. `PUNCTUAL_KILLS` is the number of kills, and `PUNCTUAL_SEED` decides when and which, so
//! that a failure can be repeated as far as the machine's own timing allows. SQLite needs no server;
//! PostgreSQL is the server that `PUNCTUAL_POSTGRES_URL` names. What a server itself suffers needs one of
//! its own, which the script that `PUNCTUAL_SERVERS` names starts and stops: `.ci/servers`.
//! `PUNCTUAL_LOCKED` is how many seconds a job is locked by somebody else.

#![cfg_attr(
    not(target_os = "linux"),
    allow(unused, reason = "other systems end processes otherwise")
)]

#[cfg(target_os = "linux")]
mod account;
#[cfg(target_os = "linux")]
mod cuts;
#[cfg(target_os = "linux")]
mod database;
#[cfg(target_os = "linux")]
mod jobs;
#[cfg(target_os = "linux")]
mod kills;
#[cfg(target_os = "linux")]
mod locks;
#[cfg(target_os = "linux")]
mod log;
#[cfg(target_os = "linux")]
mod node;
#[cfg(target_os = "linux")]
mod outages;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod proxy;
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

    use crate::database::Kind;

    if std::env::args().nth(1).as_deref() == Some(node::FLAG) {
        return node::main();
    }
    /// A name, and what is tested with a store.
    type Test = (&'static str, fn(Kind));

    /// The tests of every store, and those of servers.
    const TESTS: [Test; 3] = [
        ("killed", kills::killed),
        ("restarted", restarts::restarted),
        ("stopped", stops::stopped),
    ];
    const ON_SERVERS: [Test; 2] = [("cut_off", cuts::cut_off), ("locked", locks::locked)];
    const OF_SERVERS: [Test; 1] = [("outage", outages::outage)];

    let mut trials = Vec::new();
    let kinds =
        [("sqlite", Kind::Sqlite), ("postgres", Kind::Postgres), ("mariadb", Kind::MariaDb)];
    for (prefix, kind) in kinds {
        if !kind.is_there() {
            eprintln!("no server is named: {prefix} is not tested");
            continue;
        }
        let is_server = kind != Kind::Sqlite;
        if is_server && !outages::can_start() {
            eprintln!("PUNCTUAL_SERVERS names no script: outages of {prefix} are not tested");
        }
        let on_servers = ON_SERVERS.into_iter().filter(|_| is_server);
        let of_servers = OF_SERVERS.into_iter().filter(|_| is_server && outages::can_start());
        for (name, test) in TESTS.into_iter().chain(on_servers).chain(of_servers) {
            trials.push(Trial::test(format!("{prefix}::{name}"), move || {
                test(kind);
                Ok(())
            }));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit()
}
