//! How many fire times a second does the MySQL store claim and finish, beside plain SQL?
//!
//! As `postgres.rs` beside this: the floor does by hand, with mysql_async, two round trips and one. Its
//! sets are in one statement, too: new rows as values, and changes joined with a table of numbers.
//!
//! The server is the one of `PUNCTUAL_MARIADB_URL`; without one, nothing is measured.

mod common;

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use chrono::Utc;
use common::{
    Args,
    claims::{self, HORIZON, Node, Pace, TASK},
    figures,
};
use futures::future::join_all;
use mysql_async::{Conn, Opts, OptsBuilder, Result, Row, prelude::Queryable as _};
use punctual::store::MySqlStore;

const BATCHES: [usize; 4] = [1, 10, 100, 1000];
const NODES: [usize; 2] = [1, 4];

const TABLES: [&str; 9] =
    ["jobs", "open", "ledger", "nodes", "actions", "pruned", "meta", "floor", "fires"];

fn main() {
    let args: Args = clap::Parser::parse();
    let url = std::env::var("PUNCTUAL_MARIADB_URL").ok().filter(|url| !url.is_empty());
    let Some(url) = url else {
        println!("PUNCTUAL_MARIADB_URL names no server: nothing is measured");
        return;
    };
    let runtime = common::runtime();
    let round = Duration::from_millis(if args.test() { 1 } else { 1500 });
    println!("\nMariaDB: fire times claimed and finished; the floor does it with plain SQL");
    println!(
        "{:>9} {:>6} {:>6} {:>9} {:>9} {:>7} {:>10}",
        "jobs", "nodes", "batch", "floor/s", "ours/s", "ratio", "our CPU"
    );
    for size in args.sizes(&[10_000, 1_000_000]) {
        let namespace = format!("bench{}_{size}_", std::process::id());
        let store = runtime.block_on(async {
            let store = MySqlStore::builder().url(&url).namespace(&namespace).connect().await;
            let store = store.expect("the server is there");
            claims::fill(&store, size).await;
            Floor::create(&url, &namespace).await;
            store
        });
        for count in NODES {
            let (mut nodes, mut floors) = runtime.block_on(async {
                let nodes = (0..count).map(|_| Node::join(store.clone(), size));
                let floors = (0..count).map(|_| Floor::connect(&url, &namespace, size));
                (join_all(nodes).await, join_all(floors).await)
            });
            for batch in BATCHES {
                if !args.wants(&format!("{count} nodes, batch {batch}.")) {
                    continue;
                }
                let (mut by_hand, mut ours) = (Vec::new(), Vec::new());
                for _ in 0..args.rounds(3) {
                    by_hand.push(Pace::of(|start| {
                        runtime.block_on(Floor::go(&mut floors, start, round, batch))
                    }));
                    ours.push(Pace::of(|start| {
                        runtime.block_on(Node::go(&mut nodes, start, round, batch))
                    }));
                }
                let [by_hand, ours] = [by_hand, ours].map(|paces| Pace::median(&paces));
                println!(
                    "{:>9} {count:>6} {batch:>6} {:>9} {:>9} {:>7.2} {:>7.0} µs",
                    figures::grouped(size),
                    figures::short(by_hand.rate),
                    figures::short(ours.rate),
                    ours.rate / by_hand.rate,
                    ours.cpu,
                );
            }
        }
        let tables = TABLES.map(|table| format!("{namespace}{table}")).join(", ");
        let views = ["jobs", "ledger", "nodes", "actions"];
        let views = views.map(|view| format!("{namespace}{view}_view")).join(", ");
        let drop = format!("DROP VIEW {views}; DROP TABLE {tables}");
        runtime.block_on(store.execute(&drop)).expect("the tables are there");
    }
}

/// The same by hand, without leases, holders and repeated answers.
struct Floor {
    client: Conn,
    namespace: String,
    period: i64,
}

type Claimed = (i64, i64, i64);

impl Floor {
    async fn client(url: &str) -> Conn {
        let options = Opts::from_url(url).expect("the store has taken it");
        let options = OptsBuilder::from_opts(options).prefer_socket(Some(false));
        Conn::new(options).await.expect("it is there")
    }

    async fn create(url: &str, namespace: &str) {
        let sql = format!(
            "CREATE TABLE {namespace}floor (number BIGINT PRIMARY KEY, id VARBINARY(1024) NOT NULL, \
                task VARBINARY(1024) NOT NULL, args LONGTEXT NOT NULL, `trigger` LONGTEXT NOT NULL, \
                options LONGTEXT NOT NULL, paused BOOLEAN NOT NULL, fence BIGINT NOT NULL, \
                next_fire BIGINT, UNIQUE (id), KEY (task, paused, next_fire)); \
             INSERT INTO {namespace}floor SELECT incarnation, id, task, args, `trigger`, options, paused, \
                fence, next_fire FROM {namespace}jobs; \
             CREATE TABLE {namespace}fires (number BIGINT, fire_time BIGINT, job VARBINARY(1024) NOT NULL, \
                node BIGINT, fence BIGINT NOT NULL, fate LONGTEXT, started_at BIGINT, ended_at BIGINT, \
                PRIMARY KEY (number, fire_time))"
        );
        let mut client = Floor::client(url).await;
        client.query_drop(sql).await.expect("the statements are right");
        let analyze = format!("ANALYZE TABLE {namespace}floor, {namespace}jobs");
        client.query_drop(analyze).await.expect("the statements are right");
    }

    async fn connect(url: &str, namespace: &str, size: usize) -> Floor {
        let mut client = Floor::client(url).await;
        let level = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
        client.query_drop(level).await.expect("the statement is right");
        Floor { client, namespace: namespace.to_owned(), period: size as i64 }
    }

    async fn go(floors: &mut [Floor], start: Instant, round: Duration, batch: usize) -> usize {
        let each = floors.iter_mut().map(async |floor| {
            let mut done = 0;
            while start.elapsed() < round {
                let claimed = floor.claim(batch).await.expect("the statements are right");
                done += claimed.len();
                floor.finish(&claimed).await.expect("the statements are right");
            }
            done
        });
        join_all(each).await.into_iter().sum()
    }

    async fn claim(&mut self, batch: usize) -> Result<Vec<Claimed>> {
        let Floor { client, namespace, period } = self;
        let due = format!(
            "BEGIN; SELECT number, id, args, fence, next_fire FROM {namespace}floor \
             WHERE task = '{TASK}' AND paused = 0 AND next_fire <= {HORIZON} \
             ORDER BY next_fire LIMIT {batch} FOR UPDATE SKIP LOCKED"
        );
        let mut result = client.query_iter(due).await?;
        result.collect::<Row>().await?;
        let rows: Vec<(i64, String, String, i64, i64)> = result.collect().await?;
        result.drop_result().await?;
        let (mut claimed, mut changes, mut values) = (Vec::new(), String::new(), String::new());
        for (number, id, args, fence, fire_time) in rows {
            std::hint::black_box(args);
            let separator = if claimed.is_empty() { "" } else { "," };
            let (fence, next) = (fence + 1, fire_time + *period);
            let _ = write!(changes, "{separator}[{number},{fence},{next}]");
            let _ = write!(values, "{separator}({number}, {fire_time}, '{id}', 1, {fence})");
            claimed.push((number, fire_time, fence));
        }
        if claimed.is_empty() {
            // The others have all that there is.
            client.query_drop("COMMIT").await?;
            return Ok(claimed);
        }
        let sql = format!(
            "UPDATE JSON_TABLE('[{changes}]', '$[*]' COLUMNS(number BIGINT PATH '$[0]', \
                fence BIGINT PATH '$[1]', next_fire BIGINT PATH '$[2]')) AS c \
                STRAIGHT_JOIN {namespace}floor AS j ON j.number = c.number \
                SET j.fence = c.fence, j.next_fire = c.next_fire; \
             INSERT INTO {namespace}fires (number, fire_time, job, node, fence) VALUES {values}; COMMIT"
        );
        client.query_drop(sql).await?;
        Ok(claimed)
    }

    async fn finish(&mut self, claimed: &[Claimed]) -> Result<()> {
        let namespace = &self.namespace;
        let now = Utc::now().timestamp_millis();
        let keys: Vec<String> = claimed
            .iter()
            .map(|(number, fire_time, fence)| format!("[{number},{fire_time},{fence}]"))
            .collect();
        let sql = format!(
            "UPDATE JSON_TABLE('[{}]', '$[*]' COLUMNS(number BIGINT PATH '$[0]', \
                fire_time BIGINT PATH '$[1]', fence BIGINT PATH '$[2]')) AS c \
                STRAIGHT_JOIN {namespace}fires AS f \
                ON f.number = c.number AND f.fire_time = c.fire_time AND f.fence = c.fence \
                SET f.node = NULL, f.fate = 'ran: succeeded', f.started_at = {now}, f.ended_at = {now}",
            keys.join(",")
        );
        self.client.query_drop(sql).await
    }
}
