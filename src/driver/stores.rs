//! The stores of a scheduler for its shell: by name for users, by key for the core.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use super::store::Durable;
use crate::{core::StoreKey, error::Error, job::DEFAULT_STORE};

/// The stores, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Stores {
    lists: Mutex<Lists>,
    /// How many stores can be used, for callers that only check whether there are any.
    count: AtomicUsize,
}

#[derive(Default)]
struct Lists {
    usable: Arc<[Arc<Durable>]>,
    /// The stores that are being removed.
    leaving: Vec<Arc<Durable>>,
}

impl Stores {
    /// Whether no store can be used.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Returns the stores that can be used.
    pub(crate) fn usable(&self) -> Arc<[Arc<Durable>]> {
        self.lists().usable.clone()
    }

    /// Returns all stores, including those that are being removed.
    pub(super) fn all(&self) -> Vec<Arc<Durable>> {
        let lists = self.lists();
        lists.usable.iter().chain(&lists.leaving).cloned().collect()
    }

    /// Returns the store of this key, also while it is being removed.
    pub(crate) fn get(&self, key: StoreKey) -> Option<Arc<Durable>> {
        let lists = self.lists();
        lists.usable.iter().chain(&lists.leaving).find(|it| it.key == key).cloned()
    }

    /// Returns the store of this name while it is being removed.
    pub(crate) fn leaving(&self, name: &str) -> Option<Arc<Durable>> {
        self.lists().leaving.iter().find(|it| *it.name == *name).cloned()
    }

    /// Returns the store for tasks that name none, if there is one.
    pub(crate) fn default_store(&self) -> Option<Arc<Durable>> {
        self.lists().usable.iter().find(|it| *it.name == *DEFAULT_STORE).cloned()
    }

    /// Returns the store of this name.
    pub(crate) fn named(&self, name: &str) -> Result<Arc<Durable>, Error> {
        let lists = self.lists();
        let found = lists.usable.iter().find(|it| *it.name == *name);
        found.cloned().ok_or_else(|| lists.unknown(name))
    }

    /// Checks that a store may get this name.
    pub(crate) fn check_free(&self, name: &str) -> Result<(), Error> {
        let lists = self.lists();
        if lists.usable.iter().any(|it| *it.name == *name) {
            return Err(Error::invalid_option(format!(
                "there is a store `{name}` already: choose another name, or remove it first"
            )));
        }
        if lists.leaving.iter().any(|it| *it.name == *name) {
            return Err(Error::invalid_option(format!(
                "store `{name}` is being removed: choose another name, or await `remove_store(\"{name}\")` first"
            )));
        }
        Ok(())
    }

    pub(crate) fn add(&self, durable: Arc<Durable>) {
        let mut lists = self.lists();
        lists.usable = lists.usable.iter().cloned().chain([durable]).collect();
        self.count.store(lists.usable.len(), Ordering::SeqCst);
    }

    /// Makes a store unusable, since it is being removed.
    pub(crate) fn begin_removing(&self, key: StoreKey) {
        let mut lists = self.lists();
        let (leaving, usable): (Vec<_>, Vec<_>) =
            lists.usable.iter().cloned().partition(|it| it.key == key);
        lists.leaving.extend(leaving);
        lists.usable = usable.into();
        self.count.store(lists.usable.len(), Ordering::SeqCst);
    }

    /// Drops a store that has been removed.
    pub(crate) fn end_removing(&self, key: StoreKey) {
        self.lists().leaving.retain(|it| it.key != key);
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        // Nothing panics while it has the lock.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lists {
    fn unknown(&self, name: &str) -> Error {
        let names: Vec<_> = self.usable.iter().map(|it| format!("`{}`", it.name)).collect();
        let there = if names.is_empty() {
            "and no other".to_owned()
        } else {
            format!("but {}", names.join(", "))
        };
        Error::invalid_option(format!(
            "there is no store `{name}`, {there}: add it first, with `scheduler.add_store(\"{name}\", ..)`"
        ))
    }
}
