//! A server that is restarted, and one that is killed, in the middle of everything: nodes go on when it is
//! back.

use std::{collections::HashMap, path::PathBuf, process::Command, time::Duration};

use chrono::Utc;

use crate::{
    account::Account,
    database::{Database, Kind},
    stage::Stage,
};

/// Longer than a restart, so that not everything is abandoned each time.
const LEASE: Duration = Duration::from_secs(3);

const OUTAGES: [&str; 4] = ["restart", "kill", "kill", "restart"];

/// The longest round: a server that was killed recovers first.
const ROUND: Duration = Duration::from_secs(8);

/// How soon each node has a lease again.
const SOON: Duration = Duration::from_secs(5);

/// The script that starts servers, if it is there.
fn script() -> Option<PathBuf> {
    std::env::var_os("PUNCTUAL_SERVERS").map(PathBuf::from)
}

pub(crate) fn can_start() -> bool {
    script().is_some()
}

/// A server of this test's own.
struct Server {
    name: &'static str,
    folder: PathBuf,
}

impl Server {
    fn start(kind: Kind) -> (Server, String) {
        let name = match kind {
            Kind::Sqlite => panic!("SQLite has no server"),
            Kind::Postgres => "postgres",
            Kind::MariaDb => "mariadb",
        };
        let folder =
            std::env::temp_dir().join(format!("punctual-outage-{name}-{}", std::process::id()));
        let server = Server { name, folder };
        let variables = server.call("start");
        let variable = format!("export PUNCTUAL_{}_URL=", name.to_uppercase());
        let url = variables.lines().find_map(|line| line.strip_prefix(&variable)).unwrap();
        (server, url.to_owned())
    }

    /// Returns what the script prints.
    fn call(&self, command: &str) -> String {
        let mut script = Command::new(script().unwrap());
        script.env("PUNCTUAL_SERVERS_DIR", &self.folder).arg(command);
        if command != "stop" {
            script.arg(self.name);
        }
        let output = script.output().unwrap();
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command}: {errors}");
        text.into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is of no use to anybody, whatever has failed.
        let mut script = Command::new(script().unwrap());
        let _ = script.env("PUNCTUAL_SERVERS_DIR", &self.folder).arg("stop").output();
    }
}

pub(crate) fn outage(kind: Kind) {
    let (server, url) = Server::start(kind);
    let rounds = OUTAGES.len() as u32;
    let database = |_: &PathBuf| Database::on_server(url);
    let mut stage = Stage::with("outage", LEASE, |_| (rounds + 1) * ROUND, database);
    let nodes = [stage.start(), stage.start(), stage.start()];
    for (round, outage) in (0..).zip(OUTAGES) {
        let random = stage.up_to(Duration::from_secs(1));
        stage.sleep_until(round * ROUND + Duration::from_secs(2) + random);
        server.call(outage);
        for node in &nodes {
            stage.database.wait_for_heartbeat(&node.name, SOON);
        }
    }
    let (last, pids) = (Utc::now().timestamp_micros(), nodes.each_ref().map(|node| node.pid()));
    // The nodes that have seen it all go on, and not just another one.
    stage.sleep_until((rounds + 1) * ROUND);
    stage.come_to_rest();
    nodes.into_iter().for_each(|node| node.close());

    let account = Account::of(&stage);
    account.print();
    account.check();
    account.never_overlaps(&HashMap::new());
    let mut after = account.executions.iter().filter(|run| run.called > last);
    assert!(after.any(|run| pids.contains(&run.who.pid)), "none of the nodes goes on");
    println!("  the server was gone {rounds} times: {OUTAGES:?}");
}
