//! Every case of the contract: with two stores on one file, two clones of one store, and in memory.

use std::sync::Arc;

use punctual::{
    store::{SqliteStore, Synchronous},
    testing::store_conformance,
};

use crate::fixture::Folder;

store_conformance!(two_connections, async || {
    let folder = Arc::new(Folder::new());
    async move || SqliteStore::open(folder.file()).await.unwrap()
});

store_conformance!(clones, async || {
    let folder = Arc::new(Folder::new());
    let builder = SqliteStore::builder(folder.file()).synchronous(Synchronous::Normal);
    let store = builder.namespace("other_").open().await.unwrap();
    async move || {
        let _folder = &folder;
        store.clone()
    }
});

store_conformance!(in_memory, async || {
    let store = SqliteStore::in_memory().await.unwrap();
    async move || store.clone()
});
