//! A node takes no more of what is due than it can start soon: the rest is for others.

use std::{collections::HashMap, time::Duration};

use punctual::{
    store::{MemoryStore, NodeId, RowState, Store as _},
    trigger::after,
};

use crate::tasks::{Notes, Slow, on};

const MILLISECOND: Duration = Duration::from_millis(1);

/// How many rows each node has taken and not closed.
async fn taken(store: &MemoryStore) -> HashMap<NodeId, usize> {
    let (mut taken, mut after) = (HashMap::new(), None);
    loop {
        let rows = store.rows(after, 1000).await.unwrap();
        for row in &rows {
            if let RowState::Claimed(node) = row.state {
                *taken.entry(node).or_default() += 1;
            }
        }
        match rows.last() {
            Some(last) if rows.len() == 1000 => after = Some(last.key),
            _ => return taken,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_leaves_what_it_cannot_start_to_others() {
    let count = 2000;
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let one = on(&store, &notes).start().await.unwrap();
    let two = on(&store, &notes).start().await.unwrap();
    // Ten at once on each node, a hundred in a second.
    for _ in 0..count {
        one.add(after(MILLISECOND * 3000), Slow(100)).group("db", 10).await.unwrap();
    }
    tokio::time::sleep(MILLISECOND * 2990).await;
    let ahead = taken(&store).await;
    assert!(
        ahead.len() == 2 && ahead.values().all(|&rows| rows <= 10),
        "{ahead:?} are due at once"
    );
    let mut most = 0;
    for _ in 0..20 {
        tokio::time::sleep(MILLISECOND * 100).await;
        most = most.max(taken(&store).await.into_values().max().unwrap_or_default());
    }
    assert!((50..=120).contains(&most), "{most} rows were claimed by one node");
    // Others that come have their part.
    let three = on(&store, &notes).start().await.unwrap();
    tokio::time::sleep(MILLISECOND * 1500).await;
    let taken = taken(&store).await;
    assert!(taken.len() == 3 && taken.values().all(|&rows| rows <= 120), "{taken:?}");
    while notes.len() < count {
        tokio::time::sleep(MILLISECOND * 100).await;
    }
    drop((one, two, three));
}
