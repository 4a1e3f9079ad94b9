//! What can go wrong, said with the value, the reason and the remedy.

use std::{borrow::Cow, fmt, sync::Arc};

use crate::store::StoreError;

/// Any error of a job's work, as axum and tower box theirs.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The error of every fallible call in this crate.
///
/// It is opaque: its text says the value, the reason and the remedy, and the predicates tell
/// apart what a caller may want to branch on. It is one pointer wide and cheap to clone.
///
/// | predicate | when |
/// |---|---|
/// | [`is_invalid_trigger`](Error::is_invalid_trigger) | a cron text, period, bound or zone makes no sense |
/// | [`never_fires`](Error::never_fires) | the trigger has no fire time left |
/// | [`is_search_exhausted`](Error::is_search_exhausted) | the search for a fire time ran out of its budget, so there may be one or none |
/// | [`is_invalid_option`](Error::is_invalid_option) | an option or an id is out of its range |
/// | [`is_invalid_task`](Error::is_invalid_task) | a task is not registered, two have one name, or arguments don't fit |
/// | [`is_duplicate_id`](Error::is_duplicate_id) | the id is taken |
/// | [`is_unknown_job`](Error::is_unknown_job) | there is no job of this id |
/// | [`is_gone`](Error::is_gone) | the handle's job has ended, was removed or replaced |
/// | [`is_overlap`](Error::is_overlap) | `run_now` found `max_instances` runs going |
/// | [`is_unreadable`](Error::is_unreadable) | a record of the store can't be read, or its job can't run here |
/// | [`is_store_unavailable`](Error::is_store_unavailable) | the store can't be reached, or is too busy: it may get better |
/// | [`is_store_refused`](Error::is_store_refused) | the store will not do it |
/// | [`is_shut_down`](Error::is_shut_down) | the scheduler has shut down |
/// | [`is_no_runtime`](Error::is_no_runtime) | the scheduler was made outside a Tokio runtime, or in one without timers |
/// | [`is_missed`](Error::is_missed) | the one run came too late for its grace time |
/// | [`is_timed_out`](Error::is_timed_out) | the one run took longer than its timeout |
/// | [`is_cancelled`](Error::is_cancelled) | the one run was cancelled or its job removed |
/// | [`is_panic`](Error::is_panic) | the one run panicked |
/// | [`is_failed`](Error::is_failed) | the one run returned an error, which is the [`source`](std::error::Error::source) |
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: Kind,
    message: Cow<'static, str>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    InvalidTrigger,
    NeverFires,
    SearchExhausted,
    InvalidOption,
    InvalidTask,
    DuplicateId,
    UnknownJob,
    Gone,
    Overlap,
    Unreadable,
    StoreUnavailable,
    StoreRefused,
    ShutDown,
    NoRuntime,
    Missed,
    TimedOut,
    Cancelled,
    Panicked,
    Failed,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $predicate:ident, $make:ident => $kind:ident;)*) => {
        impl Error {
            $(
                $(#[$doc])*
                pub fn $predicate(&self) -> bool {
                    self.0.kind == Kind::$kind
                }

                pub(crate) fn $make(message: impl Into<Cow<'static, str>>) -> Error {
                    Error::new(Kind::$kind, message.into(), None)
                }
            )*
        }
    };
}

kinds! {
    /// A cron text, a period, a bound or a zone makes no sense.
    is_invalid_trigger, invalid_trigger => InvalidTrigger;
    /// The trigger has no fire time, or none left.
    never_fires, no_fire_time => NeverFires;
    /// The search for a fire time ran out of its budget: there may be one further off, or none.
    ///
    /// Only triggers that combine others, or that leave out days, can be that hard to search. What
    /// the search found out is not that the trigger [never fires](Error::never_fires).
    is_search_exhausted, search_exhausted => SearchExhausted;
    /// An option or an id is out of its range.
    is_invalid_option, invalid_option => InvalidOption;
    /// A task is not registered, two have the same name, or arguments do not fit the type.
    is_invalid_task, invalid_task => InvalidTask;
    /// The id belongs to another job.
    is_duplicate_id, duplicate_id => DuplicateId;
    /// There is no job of this id.
    is_unknown_job, unknown_job => UnknownJob;
    /// The job that the handle stands for has ended, was removed or replaced.
    is_gone, gone => Gone;
    /// `max_instances` runs of the job are going.
    is_overlap, overlap => Overlap;
    /// A record of the store can't be read, or its job can't run here.
    is_unreadable, unreadable => Unreadable;
    /// The scheduler has shut down, or is about to.
    is_shut_down, shut_down => ShutDown;
    /// The scheduler was made outside a Tokio runtime, or in one without timers.
    is_no_runtime, no_runtime => NoRuntime;
    /// The one run of the job was later than its grace time.
    is_missed, missed => Missed;
    /// The one run of the job took longer than its timeout.
    is_timed_out, timed_out => TimedOut;
    /// The one run of the job was cancelled, or its job removed before it started.
    is_cancelled, cancelled => Cancelled;
    /// The one run of the job panicked.
    is_panic, panicked => Panicked;
}

impl Error {
    fn new(
        kind: Kind,
        message: Cow<'static, str>,
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error(Arc::new(Inner { kind, message, source }))
    }

    /// The one run of the job returned an error; it is this error's `source`.
    pub fn is_failed(&self) -> bool {
        self.0.kind == Kind::Failed
    }

    pub(crate) fn failed(source: Arc<dyn std::error::Error + Send + Sync>) -> Error {
        Error::new(Kind::Failed, "the job's run returned an error".into(), Some(source))
    }
}

impl Error {
    /// The store can't be reached, or is too busy; it may get better, and nobody knows whether what was
    /// asked for was done. What is wrong is this error's `source`.
    pub fn is_store_unavailable(&self) -> bool {
        self.0.kind == Kind::StoreUnavailable
    }

    /// The store will not do what was asked for. Why is this error's `source`.
    pub fn is_store_refused(&self) -> bool {
        self.0.kind == Kind::StoreRefused
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        let (kind, message) = match error.is_refused() {
            true => (Kind::StoreRefused, "the store refused"),
            false => (Kind::StoreUnavailable, "the store is not available: try again later"),
        };
        Error::new(kind, message.into(), Some(error.into_source()))
    }
}

/// So that what cannot fail may stand where something may.
impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Error {
        match never {}
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind).field("message", &self.0.message);
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
