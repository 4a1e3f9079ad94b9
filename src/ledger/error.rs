//! What a store's operations may fail with.

use std::{
    fmt::{self, Display as _},
    sync::Arc,
};

use crate::error::{BoxError, Chain};

/// Why an operation of a [`Store`](crate::store::Store) failed.
///
/// | predicate | the scheduler |
/// |---|---|
/// | [`is_unavailable`](StoreError::is_unavailable) | asks again, with backoff, for as long as it takes |
/// | [`is_refused`](StoreError::is_refused) | says so to who asked, and asks again more seldom |
/// | [`is_lease_lost`](StoreError::is_lease_lost) | drops what it had taken, and begins another life |
#[derive(Clone)]
pub struct StoreError {
    kind: Kind,
    source: Arc<dyn std::error::Error + Send + Sync>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Refused,
    LeaseLost,
}

impl StoreError {
    /// The store can't be reached or is too busy; it may get better, and nobody knows whether the
    /// operation took effect.
    pub fn unavailable(source: impl Into<BoxError>) -> StoreError {
        StoreError { kind: Kind::Unavailable, source: source.into().into() }
    }

    /// The store will not do it: its schema is another, it may not be written to, what it holds makes
    /// no sense.
    pub fn refused(source: impl Into<BoxError>) -> StoreError {
        StoreError { kind: Kind::Refused, source: source.into().into() }
    }

    /// The node that asks is not alive, as far as the store knows.
    pub fn lease_lost() -> StoreError {
        let source = BoxError::from("the node has no row: it was taken for dead");
        StoreError { kind: Kind::LeaseLost, source: source.into() }
    }

    pub(crate) fn into_source(self) -> Arc<dyn std::error::Error + Send + Sync> {
        self.source
    }

    /// It may get better by itself.
    pub fn is_unavailable(&self) -> bool {
        self.kind == Kind::Unavailable
    }

    /// It will not get better by trying.
    pub fn is_refused(&self) -> bool {
        self.kind == Kind::Refused
    }

    /// The node is not alive, as far as the store knows.
    pub fn is_lease_lost(&self) -> bool {
        self.kind == Kind::LeaseLost
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Unavailable => "the store is not available",
            Kind::Refused => "the store refused",
            Kind::LeaseLost => "the lease is lost",
        })
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Chain(self).fmt(f)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}
