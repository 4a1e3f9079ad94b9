//! A scheduler respects the capabilities of its store.

use std::time::Duration;

use punctual::{
    store::{Capabilities, MemoryStore, Store as _},
    testing::{FaultyStore, Operation},
    trigger::every,
};

use crate::tasks::{Notes, on, remember};

const SECOND: Duration = Duration::from_secs(1);

fn store_that_can(set: impl FnOnce(&mut Capabilities)) -> FaultyStore<MemoryStore> {
    let store = FaultyStore::new(MemoryStore::new());
    let mut capabilities = store.capabilities();
    set(&mut capabilities);
    store.set_capabilities(capabilities);
    store
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_too_short_for_the_store_is_refused_with_the_shortest() {
    let store = store_that_can(|it| it.min_lease = SECOND * 5);
    let notes = Notes::default();
    let error = on(&store, &notes).lease(SECOND * 2).start().await.unwrap_err();
    assert!(error.is_invalid_option() && error.to_string().contains("use 5s or more"), "{error}");
    on(&store, &notes).lease(SECOND * 5).start().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_jobs_are_written_in_parts_that_the_store_can_commit() {
    let store = store_that_can(|it| it.max_bytes = Some(64 * 1024));
    let scheduler = on(&store, &Notes::default()).start().await.unwrap();
    let add = |n: usize| scheduler.add(every(SECOND * 600), remember(&"x".repeat(n)));
    // The arguments are in the declaration, too.
    scheduler.add_all((0..20).map(|_| add(8 * 1024))).await.unwrap();
    let writes = store.calls(Operation::Write);
    assert!((5..=10).contains(&writes), "{writes}");
    let error = add(64 * 1024).await.unwrap_err();
    assert!(error.to_string().contains("store `default` refused"), "{error}");
    assert!(format!("{error:?}").contains("smaller arguments"), "{error:?}");
    assert_eq!(scheduler.remove_all().await.unwrap(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_full_store_says_so_and_what_helps() {
    let notes = Notes::default();
    let scheduler = on(&MemoryStore::with_max_jobs(3), &notes).start().await.unwrap();
    let add = |id: &str| scheduler.add(every(SECOND * 600), remember("x")).id(id.to_owned());
    for id in ["a", "b", "c"] {
        add(id).await.unwrap();
    }
    let error = add("d").await.unwrap_err();
    assert!(format!("{error:?}").contains("at most 3 jobs: remove some"), "{error:?}");
    scheduler.job("a").remove().await.unwrap();
    add("d").await.unwrap();
}
