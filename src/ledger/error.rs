//! The errors of a store's operations.

use std::{
    fmt::{self, Display as _},
    sync::Arc,
};

use crate::error::{BoxError, Chain, Error};

/// The error of an operation of a [`Store`](crate::store::Store).
///
/// | predicate | the scheduler |
/// |---|---|
/// | [`is_unavailable`](StoreError::is_unavailable) | retries with backoff, without a limit |
/// | [`is_refused`](StoreError::is_refused) | returns the error to the caller, or retries background operations at a longer interval |
/// | [`is_lease_lost`](StoreError::is_lease_lost) | drops all claims and joins again under a new node id |
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
    /// An error for a store that is unreachable or too busy.
    ///
    /// A retry may succeed. Whether the operation took effect is unknown.
    pub fn unavailable(source: impl Into<BoxError>) -> StoreError {
        StoreError { kind: Kind::Unavailable, source: source.into().into() }
    }

    /// An error for an operation that a retry will not fix, such as a different schema, a read-only
    /// database, or unreadable data.
    pub fn refused(source: impl Into<BoxError>) -> StoreError {
        StoreError { kind: Kind::Refused, source: source.into().into() }
    }

    /// An error for a node that has no row in the store.
    pub fn lease_lost() -> StoreError {
        let source = BoxError::from("the node has no row: it has expired");
        StoreError { kind: Kind::LeaseLost, source: source.into() }
    }

    pub(crate) fn into_source(self) -> Arc<dyn std::error::Error + Send + Sync> {
        self.source
    }

    /// Whether the store is unreachable or too busy. A retry may succeed.
    pub fn is_unavailable(&self) -> bool {
        self.kind == Kind::Unavailable
    }

    /// Whether the store refused the operation. A retry will not succeed.
    pub fn is_refused(&self) -> bool {
        self.kind == Kind::Refused
    }

    /// Whether the node has no row in the store.
    pub fn is_lease_lost(&self) -> bool {
        self.kind == Kind::LeaseLost
    }
}

impl StoreError {
    /// The error of the store with this name.
    pub(crate) fn of(self, store: &str) -> Error {
        let is_refused = self.is_refused();
        let message = if is_refused {
            format!("store `{store}` refused the operation")
        } else {
            format!("store `{store}` is not available: try again later")
        };
        Error::of_store(is_refused, message, self.into_source())
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        let is_refused = error.is_refused();
        let message = if is_refused {
            "the store refused the operation"
        } else {
            "the store is not available: try again later"
        };
        Error::of_store(is_refused, message, error.into_source())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Unavailable => "the store is not available",
            Kind::Refused => "the store refused the operation",
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
