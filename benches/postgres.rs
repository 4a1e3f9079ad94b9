//! How many fire times a second does the PostgreSQL store claim and finish, beside plain SQL?
//!
//! The sizes are those of the table of jobs, all of which are due. Each fire time is claimed, its job
//! advanced and its row inserted into the ledger in one transaction, and the row is closed by another.
//! The floor does just that as one would by hand with tokio-postgres: two round trips and one, sets in
//! one statement, a table of jobs with the same texts, and a ledger with a unique key.
//!
//! The server is the one of `PUNCTUAL_POSTGRES_URL`; without one, nothing is measured.

mod common;

use std::time::{Duration, Instant};

use chrono::Utc;
use common::{
    Args,
    claims::{self, HORIZON, Node, Pace, TASK},
    figures,
    postgres::{Database, url},
};
use futures::future::{join_all, try_join, try_join3};
use tokio_postgres::{Client, Error, NoTls, Statement};

const BATCHES: [usize; 4] = [1, 10, 100, 1000];
const NODES: [usize; 2] = [1, 4];

fn main() {
    let args: Args = clap::Parser::parse();
    let Some(url) = url() else {
        println!("PUNCTUAL_POSTGRES_URL names no server: nothing is measured");
        return;
    };
    let runtime = common::runtime();
    let round = Duration::from_millis(if args.test() { 1 } else { 1500 });
    println!("\nPostgreSQL: fire times claimed and finished; the floor does it with plain SQL");
    println!(
        "{:>9} {:>6} {:>6} {:>9} {:>9} {:>7} {:>10}",
        "jobs", "nodes", "batch", "floor/s", "ours/s", "ratio", "our CPU"
    );
    for size in args.sizes(&[10_000, 1_000_000]) {
        let database = runtime.block_on(async {
            let database = Database::create(&url).await;
            claims::fill(&database.store, size).await;
            Floor::create(&url, &database.namespace).await;
            database
        });
        for count in NODES {
            let (mut nodes, mut floors) = runtime.block_on(async {
                let nodes = (0..count).map(|_| Node::join(database.store.clone(), size));
                let floors = (0..count).map(|_| Floor::connect(&url, &database.namespace, size));
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
        runtime.block_on(database.remove(&["floor", "fires"]));
    }
}

/// The same by hand, without leases, holders and repeated answers.
struct Floor {
    client: Client,
    begin: Statement,
    due: Statement,
    advance: Statement,
    insert: Statement,
    commit: Statement,
    close: Statement,
    period: i64,
}

type Claimed = (i64, i64, i64);

impl Floor {
    async fn client(url: &str) -> Client {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("it is there");
        tokio::spawn(connection);
        client
    }

    async fn create(url: &str, namespace: &str) {
        let sql = format!(
            "CREATE TABLE {namespace}floor AS SELECT incarnation AS number, id, task, args, trigger, \
                options, paused, fence, next_fire FROM {namespace}jobs; \
             ALTER TABLE {namespace}floor ADD PRIMARY KEY (number), ADD UNIQUE (id), \
                SET (fillfactor = 80); \
             CREATE INDEX ON {namespace}floor (task, next_fire) WHERE NOT paused; \
             CREATE TABLE {namespace}fires (number bigint, fire_time bigint, job text NOT NULL, \
                node bigint, fence bigint NOT NULL, fate text, started_at bigint, ended_at bigint, \
                PRIMARY KEY (number, fire_time)) WITH (fillfactor = 80); \
             VACUUM ANALYZE {namespace}floor; VACUUM ANALYZE {namespace}jobs"
        );
        let client = Floor::client(url).await;
        for statement in sql.split("; ") {
            client.batch_execute(statement).await.expect("the statements are right");
        }
    }

    async fn connect(url: &str, namespace: &str, size: usize) -> Floor {
        let client = Floor::client(url).await;
        let prepare = async |sql: &str| {
            let sql = sql.replace("NAMESPACE_", namespace);
            client.prepare(&sql).await.expect("the statements are right")
        };
        Floor {
            begin: prepare("BEGIN").await,
            due: prepare(
                "SELECT number, id, args, fence, next_fire FROM NAMESPACE_floor \
                 WHERE task = $1 AND NOT paused AND next_fire <= $2 \
                 ORDER BY next_fire LIMIT $3 FOR UPDATE SKIP LOCKED",
            )
            .await,
            advance: prepare(
                "UPDATE NAMESPACE_floor AS j SET fence = c.fence, next_fire = c.next_fire \
                 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS c(number, fence, next_fire) \
                 WHERE j.number = c.number",
            )
            .await,
            insert: prepare(
                "INSERT INTO NAMESPACE_fires (number, fire_time, job, node, fence) \
                 SELECT number, fire_time, job, 1, fence \
                 FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[]) \
                    AS c(number, fire_time, job, fence)",
            )
            .await,
            commit: prepare("COMMIT").await,
            close: prepare(
                "UPDATE NAMESPACE_fires AS f SET node = NULL, fate = 'ran: succeeded', \
                    started_at = $4, ended_at = $4 \
                 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS c(number, fire_time, fence) \
                 WHERE f.number = c.number AND f.fire_time = c.fire_time AND f.fence = c.fence",
            )
            .await,
            period: size as i64,
            client,
        }
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

    async fn claim(&self, batch: usize) -> Result<Vec<Claimed>, Error> {
        let Floor { client, .. } = self;
        let limit = batch as i64;
        let (_, due) = try_join(
            client.execute(&self.begin, &[]),
            client.query(&self.due, &[&TASK, &HORIZON, &limit]),
        )
        .await?;
        let (mut numbers, mut ids, mut fences) = (Vec::new(), Vec::new(), Vec::new());
        let (mut fire_times, mut nexts) = (Vec::new(), Vec::new());
        for row in &due {
            let fire_time: i64 = row.get(4);
            std::hint::black_box(row.get::<_, &str>(2));
            numbers.push(row.get::<_, i64>(0));
            ids.push(row.get::<_, &str>(1));
            fences.push(row.get::<_, i64>(3) + 1);
            fire_times.push(fire_time);
            nexts.push(fire_time + self.period);
        }
        try_join3(
            client.execute(&self.advance, &[&numbers, &fences, &nexts]),
            client.execute(&self.insert, &[&numbers, &fire_times, &ids, &fences]),
            client.execute(&self.commit, &[]),
        )
        .await?;
        let claimed = numbers.into_iter().zip(fire_times).zip(fences);
        Ok(claimed.map(|((number, fire_time), fence)| (number, fire_time, fence)).collect())
    }

    async fn finish(&self, claimed: &[Claimed]) -> Result<(), Error> {
        let now = Utc::now().timestamp_millis();
        let numbers: Vec<i64> = claimed.iter().map(|it| it.0).collect();
        let fire_times: Vec<i64> = claimed.iter().map(|it| it.1).collect();
        let fences: Vec<i64> = claimed.iter().map(|it| it.2).collect();
        let closed =
            self.client.execute(&self.close, &[&numbers, &fire_times, &fences, &now]).await?;
        assert_eq!(closed, claimed.len() as u64, "nothing else claims");
        Ok(())
    }
}
