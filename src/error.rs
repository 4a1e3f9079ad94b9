//! What can go wrong, said with the value, the reason and the remedy.

use std::{
    borrow::Cow,
    fmt::{self, Display as _},
    sync::Arc,
};

use crate::{
    escape::{Escaped, one_line},
    ledger::StoreError,
};

/// Any error of a job's work, as axum and tower box theirs.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The error of every fallible call in this crate.
///
/// It is opaque: its text says the value, the reason and the remedy, and the predicates tell
/// apart what a caller may want to branch on. It is one pointer wide and cheap to clone.
///
/// `Debug`, which is what a `main` that returns it prints, is the text and those of its sources, in one
/// line. Line breaks and control characters are escaped in both. A task's arguments are in neither:
/// [`sensitive_details`](Error::sensitive_details) has them.
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
    details: Option<Box<str>>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// How long what is quoted in the details of an error is, in bytes.
const LONGEST_DETAIL: usize = 256;

/// What serde has to say of a JSON text, but for what it quotes from it: that may be confidential.
///
/// Where the text is no JSON, nothing is quoted. Else only that is kept which comes from the type: what
/// it expects, or the name of a field. What a hand-written `Deserialize` says may have anything in it.
pub(crate) fn without_values(error: &serde_json::Error) -> String {
    if !error.is_data() {
        return error.to_string();
    }
    let place = match error.line() {
        0 => String::new(),
        line => format!(" at line {line} column {}", error.column()),
    };
    let said = error.to_string();
    let said = said.strip_suffix(&place).unwrap_or(&said);
    let kept = |of: &str| said.starts_with(of);
    let reason = if kept("missing field `") || kept("duplicate field `") {
        said.into()
    } else {
        let expecting = ["invalid type", "invalid length", "unknown field", "unknown variant"];
        let what = expecting.into_iter().find(|what| kept(what));
        // What is quoted comes before what is expected.
        let expected = said.rsplit_once(", expected ").map(|(_, expected)| expected);
        match (what, expected) {
            (Some(what), Some(expected)) => format!("{what}, expected {expected}"),
            (Some(what), None) => what.to_owned(),
            (None, _) => "a value is refused".to_owned(),
        }
    };
    reason + &place
}

/// How many sources of an error are displayed.
const LONGEST_CHAIN: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    InvalidTrigger,
    NeverFires,
    SearchExhausted,
    InvalidOption,
    InvalidTask,
    DuplicateId,
    UnknownJob,
    Gone,
    Ambiguous,
    Overlap,
    Unreadable,
    StoreUnavailable,
    StoreRefused,
    ShutDown,
    NoRuntime,
    Missed,
    TimedOut,
    Cancelled,
    Elsewhere,
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
    /// Only triggers that combine others, or that leave out days, can be that hard to search. EventPayload
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
    /// Several stores of the scheduler have a job of this id: [`Job::store`](crate::Job::store) says which
    /// is meant.
    is_ambiguous, ambiguous => Ambiguous;
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
    /// The one run of the job, which is in a store, was not on this scheduler: another one that shares
    /// the store has its value, or it was missed.
    is_elsewhere, elsewhere => Elsewhere;
    /// The one run of the job panicked.
    is_panic, panicked => Panicked;
}

impl Error {
    fn new(
        kind: Kind,
        message: Cow<'static, str>,
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error(Arc::new(Inner { kind, message, details: None, source }))
    }

    /// With what the text leaves out; each part is shortened.
    pub(crate) fn with_details(self, details: [&dyn fmt::Display; 2]) -> Error {
        let details = details.map(|detail| one_line(detail, LONGEST_DETAIL)).join(": ");
        let Inner { kind, ref message, ref source, .. } = *self.0;
        let (message, source) = (message.clone(), source.clone());
        Error(Arc::new(Inner { kind, message, details: Some(details.into()), source }))
    }

    /// What the text leaves out because it may be confidential: for arguments that don't fit their task,
    /// the arguments and the reason that quotes from them, each shortened to 256 bytes.
    ///
    /// It is in no log line, no `Display` and no `Debug`. `None` for errors that leave out nothing.
    ///
    /// ```
    /// use punctual::{Context, Scheduler, Task, named_task, trigger::now};
    /// # use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct LogIn {
    ///     password: u64,
    /// }
    /// # impl Task for LogIn {
    /// #     const NAME: &'static str = "log-in";
    /// #     type Output = ();
    /// #     async fn run(self, _: Context) {}
    /// # }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), punctual::Error> {
    /// let scheduler = Scheduler::builder().task::<LogIn>().start().await?;
    /// let args = serde_json::json!({ "password": "hunter2" });
    /// let error = scheduler.add(now(), named_task("log-in", &args)).await.unwrap_err();
    /// assert!(!format!("{error} {error:?}").contains("hunter2"));
    /// assert!(error.sensitive_details().is_some_and(|details| details.contains("hunter2")));
    /// # Ok(()) }
    /// ```
    pub fn sensitive_details(&self) -> Option<&str> {
        self.0.details.as_deref()
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

impl Error {
    /// What a store of this name has failed with.
    pub(crate) fn of_store(name: &str, error: StoreError) -> Error {
        let (kind, message) = match error.is_refused() {
            true => (Kind::StoreRefused, format!("store `{name}` refused")),
            false => (
                Kind::StoreUnavailable,
                format!("store `{name}` is not available: try again later"),
            ),
        };
        Error::new(kind, message.into(), Some(error.into_source()))
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
        Escaped(&self.0.message).fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Chain(self).fmt(f)
    }
}

/// Displays an error with its sources, in one line: for `Debug`, and for log lines.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut error = self.0;
        let mut text = error.to_string();
        Escaped(&text).fmt(f)?;
        // More are hardly a chain, but a circle.
        for _ in 0..LONGEST_CHAIN {
            let Some(source) = error.source() else { break };
            error = source;
            let cause = source.to_string();
            // An error may have the text of its source in its own.
            if !text.contains(&*cause) {
                write!(f, "; caused by: {}", Escaped(&cause))?;
                text = cause;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::without_values;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is never read")]
    struct LogIn {
        user: Kind,
        password: u64,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[expect(dead_code, reason = "it is never read")]
    enum Kind {
        Guest,
        Named(String),
        #[serde(untagged)]
        Picky(#[serde(deserialize_with = "picky")] u8),
    }

    fn picky<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
        let text = String::deserialize(from)?;
        Err(serde::de::Error::custom(format!("`{text}` is refused")))
    }

    #[test]
    fn nothing_is_quoted_from_a_json_text() {
        for (json, reason) in [
            (
                r#"{"user":"guest","password":"hunter2"}"#,
                "invalid type, expected u64 at line 1 column 36",
            ),
            (
                r#"{"user":"guest","password":"hunter2, expected hunter2"}"#,
                "invalid type, expected u64 at line 1 column 54",
            ),
            (r#"{"user":"guest","password":-7}"#, "a value is refused at line 1 column 29"),
            (r#"{"user":"guest"}"#, "missing field `password` at line 1 column 16"),
            (
                "{\"user\":\"guest\",\n\"hunter2\":1}",
                "unknown field, expected `user` or `password` at line 2 column 9",
            ),
            (r#"{"user":"guest","password":7"#, "EOF while parsing an object at line 1 column 28"),
            (r#"hunter2"#, "expected value at line 1 column 1"),
            (r#"{"user":"guest","password":1}hunter2"#, "trailing characters at line 1 column 30"),
        ] {
            let error = serde_json::from_str::<LogIn>(json).unwrap_err();
            assert_eq!(without_values(&error), reason, "for {json}: {error}");
        }
        let refused = serde_json::from_str::<Kind>(r#""hunter2""#).unwrap_err();
        assert!(!without_values(&refused).contains("hunter2"), "{refused}");
    }
}
