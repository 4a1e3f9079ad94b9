//! How many round trips a node's statements take, as a proxy in between counts them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use punctual::{
    End, Scheduler,
    store::MySqlStore,
    trigger::{after, every},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::sleep,
};

use crate::{
    fixture::Tables,
    scheduler::{Note, Notes},
};

const SECOND: Duration = Duration::from_secs(1);

/// The command of a packet that has statements.
const QUERY: u8 = 3;

/// Passes on what a client sends, and counts the packets with statements.
async fn pass_on(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, count: Arc<AtomicU64>) {
    let (mut header, mut is_first) = ([0; 4], true);
    while client.read_exact(&mut header).await.is_ok() {
        let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        let mut payload = vec![0; length as usize];
        if client.read_exact(&mut payload).await.is_err() {
            return;
        }
        // The first packet of a connection is its login; what follows a command has a number above 0.
        if !is_first && header[3] == 0 && payload.first() == Some(&QUERY) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        is_first = false;
        if server.write_all(&[&header[..], &payload].concat()).await.is_err() {
            return;
        }
    }
}

/// A store whose connections are counted.
async fn counted(tables: &Tables) -> (MySqlStore, Arc<AtomicU64>) {
    let (user, rest) = tables.url().split_once('@').unwrap();
    let (server, database) = rest.split_once('/').unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("{user}@{}/{database}", listener.local_addr().unwrap());
    let (count, server) = (Arc::new(AtomicU64::new(0)), server.to_owned());
    tokio::spawn({
        let count = count.clone();
        async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&server).await.unwrap();
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                tokio::spawn(
                    async move { tokio::io::copy(&mut from_server, &mut to_client).await },
                );
                tokio::spawn(pass_on(from_client, to_server, count.clone()));
            }
        }
    });
    let store = tables.builder().url(url).connect().await.unwrap();
    (store, count)
}

#[tokio::test]
async fn an_idle_node_sends_few_statements() {
    for tables in Tables::on_each() {
        let (store, count) = counted(&tables).await;
        let builder = Scheduler::builder().store(store).state(Notes::default());
        let scheduler = builder.task::<Note>().start().await.unwrap();
        scheduler.add(every(SECOND * 3600), Note("x".into())).await.unwrap();
        // By then it has pruned what others may have left.
        sleep(SECOND * 8).await;
        let before = count.load(Ordering::Relaxed);
        sleep(SECOND * 30).await;
        let a_minute = 2 * (count.load(Ordering::Relaxed) - before);
        println!("{a_minute} round trips a minute");
        assert!((2..=60).contains(&a_minute), "{a_minute} round trips a minute");
        scheduler.shutdown().await;
    }
}

#[tokio::test]
async fn one_shots_that_trickle_in_cost_few_statements() {
    const JOBS: u64 = 20;
    for tables in Tables::on_each() {
        let (store, count) = counted(&tables).await;
        let builder = Scheduler::builder().store(store).state(Notes::default());
        let scheduler = builder.task::<Note>().start().await.unwrap();
        sleep(SECOND).await;
        let before = count.load(Ordering::Relaxed);
        for _ in 0..JOBS {
            let job = scheduler.add(after(SECOND / 20), Note("x".into())).await.unwrap();
            assert!(matches!(job.await, End::Completed));
            sleep(SECOND / 20).await;
        }
        let sent = count.load(Ordering::Relaxed) - before;
        println!("{} round trips a one-shot, with its add", sent as f64 / JOBS as f64);
        // Two add it, two claim and two finish it; and the node sends its heartbeats.
        assert!(sent <= 7 * JOBS + 10, "{sent} round trips for {JOBS} one-shots");
        scheduler.shutdown().await;
    }
}
