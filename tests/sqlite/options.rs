//! Options, names and paths at their extremes.

use std::time::Duration;

use futures::StreamExt as _;
use punctual::store::{SqliteBuilder, SqliteStore, Store as _};
use tokio::time::timeout;

use crate::fixture::Folder;

const MILLISECOND: Duration = Duration::from_millis(1);

#[tokio::test]
async fn an_endless_busy_timeout_is_accepted() {
    let folder = Folder::new();
    let patient = SqliteStore::builder(folder.file()).busy_timeout(Duration::MAX).open().await;
    assert!(patient.is_ok(), "{:?}", patient.map(drop));
}

#[tokio::test]
async fn an_endless_poll_interval_is_accepted() {
    let folder = Folder::new();
    let seldom = SqliteStore::builder(folder.file()).poll(Duration::MAX).open().await.unwrap();
    let mut changes = seldom.changes();
    let told = timeout(MILLISECOND * 100, changes.next()).await;
    let got = seldom.get("x".into()).await;
    assert!(told.is_err() && got.is_ok(), "{told:?}, {got:?}");
}

#[tokio::test]
async fn namespaces_that_differ_in_case_alone_are_two_or_an_error() {
    let folder = Folder::new();
    let open = async |name: &str| SqliteStore::builder(folder.file()).namespace(name).open().await;
    let one = open("team_").await.unwrap();
    let other = open("TEAM_").await;
    let error = match &other {
        Ok(_) => String::new(),
        Err(error) => std::error::Error::source(error).unwrap().to_string(),
    };
    assert!(
        other.is_ok() || error.contains("case") || error.contains("namespace"),
        "neither another store, nor an error that says why: {error}"
    );
    drop(one);
}

#[tokio::test]
async fn errors_of_names_and_paths_say_what_is_wrong() {
    let folder = Folder::new();
    let told = async |builder: SqliteBuilder| match builder.open().await {
        Ok(_) => String::new(),
        Err(error) => std::error::Error::source(&error).unwrap().to_string(),
    };
    let reserved = told(SqliteStore::builder(folder.file()).namespace("SQLITE_")).await;
    let nul = told(SqliteStore::builder(folder.path().join("a\0b"))).await;
    let is_folder = told(SqliteStore::builder(folder.path())).await;
    for text in [&reserved, &nul, &is_folder] {
        assert!(
            !text.contains("see what the tables hold"),
            "reserved: {reserved}\nnul: {nul}\na folder: {is_folder}"
        );
    }
}
