//! The errors of this crate, each with the value, the reason and the remedy.

use std::{
    borrow::Cow,
    fmt::{self, Display as _},
    sync::Arc,
};

use crate::escape::{Escaped, one_line};

/// The boxed error of a job's work, the same type as in axum and tower.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The error of every fallible call in this crate.
///
/// The error is opaque: its text contains the value, the reason and the remedy, and predicates
/// distinguish the cases that a caller may branch on. The type is one pointer wide and cheap to
/// clone.
///
/// `Debug`, which a `main` that returns the error prints, contains the error's text and the texts
/// of its sources, in one line. `Display` and `Debug` escape line breaks and control characters.
/// Neither contains the arguments of a task: use [`sensitive_details`](Error::sensitive_details).
///
/// | predicate | when |
/// |---|---|
/// | [`is_invalid_trigger`](Error::is_invalid_trigger) | a cron text, a period, a bound or a time zone is invalid |
/// | [`never_fires`](Error::never_fires) | the trigger has no fire time left |
/// | [`is_search_exhausted`](Error::is_search_exhausted) | the search for a fire time exceeded its budget; there may be a later fire time, or none |
/// | [`is_invalid_option`](Error::is_invalid_option) | an option or an id is out of range |
/// | [`is_invalid_task`](Error::is_invalid_task) | a task is not registered, two tasks have the same name, or the arguments do not match |
/// | [`is_duplicate_id`](Error::is_duplicate_id) | another job has the id |
/// | [`is_unknown_job`](Error::is_unknown_job) | no job has this id |
/// | [`is_gone`](Error::is_gone) | the handle's job has ended, or was removed or replaced |
/// | [`is_overlap`](Error::is_overlap) | `run_now` was called while `max_instances` runs were active |
/// | [`is_unreadable`](Error::is_unreadable) | a record in the store cannot be read, or its job cannot run on this scheduler |
/// | [`is_store_unavailable`](Error::is_store_unavailable) | the store is unreachable or too busy; a retry may succeed |
/// | [`is_store_refused`](Error::is_store_refused) | the store refused the operation; a retry will not succeed |
/// | [`is_shut_down`](Error::is_shut_down) | the scheduler has shut down |
/// | [`is_no_runtime`](Error::is_no_runtime) | the scheduler was created outside a Tokio runtime, or in one without timers |
/// | [`is_missed`](Error::is_missed) | the job's only run was later than its misfire grace time |
/// | [`is_timed_out`](Error::is_timed_out) | the job's only run took longer than its timeout |
/// | [`is_cancelled`](Error::is_cancelled) | the job's only run was cancelled, or the job was removed |
/// | [`is_panic`](Error::is_panic) | the job's only run panicked |
/// | [`is_failed`](Error::is_failed) | the job's only run returned an error, which is the [`source`](std::error::Error::source) |
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: Kind,
    message: Cow<'static, str>,
    details: Option<Box<str>>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The maximum length of a quoted value in the details of an error, in bytes.
const LONGEST_DETAIL: usize = 256;

/// The text of a serde error for JSON, without values from the JSON, which may be confidential.
///
/// A syntax error quotes no values and is kept. Otherwise only parts that come from the type are
/// kept: the expected type, or the name of a field. The text of a hand-written `Deserialize` may
/// contain any value and is left out.
pub(crate) fn without_values(error: &serde_json::Error) -> String {
    if !error.is_data() {
        return error.to_string();
    }
    let place = match error.line() {
        0 => String::new(),
        line => format!(" at line {line} column {}", error.column()),
    };
    let error_text = error.to_string();
    let error_text = error_text.strip_suffix(&place).unwrap_or(&error_text);
    let starts_with = |prefix: &str| error_text.starts_with(prefix);
    let reason = if starts_with("missing field `") || starts_with("duplicate field `") {
        error_text.into()
    } else {
        let expecting = ["invalid type", "invalid length", "unknown field", "unknown variant"];
        let what = expecting.into_iter().find(|what| starts_with(what));
        // The quoted value comes before the expected type.
        let expected = error_text.rsplit_once(", expected ").map(|(_, expected)| expected);
        match (what, expected) {
            (Some(what), Some(expected)) => format!("{what}, expected {expected}"),
            (Some(what), None) => what.to_owned(),
            (None, _) => "a value is refused".to_owned(),
        }
    };
    reason + &place
}

/// The maximum number of displayed sources of an error.
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
    /// Whether a cron text, a period, a bound or a time zone is invalid.
    is_invalid_trigger, invalid_trigger => InvalidTrigger;
    /// Whether the trigger has no fire time left.
    never_fires, no_fire_time => NeverFires;
    /// Whether the search for a fire time exceeded its budget; there may be a later fire time, or
    /// none.
    ///
    /// Only triggers that combine others, or that exclude days, can exceed the budget. This error
    /// does not mean that the trigger [never fires](Error::never_fires).
    is_search_exhausted, search_exhausted => SearchExhausted;
    /// Whether an option or an id is out of range.
    is_invalid_option, invalid_option => InvalidOption;
    /// Whether a task is not registered, two tasks have the same name, or arguments do not match
    /// the task's type.
    is_invalid_task, invalid_task => InvalidTask;
    /// Whether another job has the id.
    is_duplicate_id, duplicate_id => DuplicateId;
    /// Whether no job has this id.
    is_unknown_job, unknown_job => UnknownJob;
    /// Whether the handle's job has ended, or was removed or replaced.
    is_gone, gone => Gone;
    /// Whether several stores of the scheduler have a job with this id;
    /// [`Job::store`](crate::Job::store) selects one.
    is_ambiguous, ambiguous => Ambiguous;
    /// Whether `max_instances` runs of the job are active.
    is_overlap, overlap => Overlap;
    /// Whether a record in the store cannot be read, or its job cannot run on this scheduler.
    is_unreadable, unreadable => Unreadable;
    /// Whether the scheduler has shut down, or is shutting down.
    is_shut_down, shut_down => ShutDown;
    /// Whether the scheduler was created outside a Tokio runtime, or in one without timers.
    is_no_runtime, no_runtime => NoRuntime;
    /// Whether the job's only run was later than its misfire grace time.
    is_missed, missed => Missed;
    /// Whether the job's only run took longer than its timeout.
    is_timed_out, timed_out => TimedOut;
    /// Whether the job's only run was cancelled, or the job was removed before the run started.
    is_cancelled, cancelled => Cancelled;
    /// Whether the only run of a job in a store took place on another scheduler, which has its
    /// value, or was missed there.
    is_elsewhere, elsewhere => Elsewhere;
    /// Whether the job's only run panicked.
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

    /// Adds details that the text leaves out; each part is shortened.
    pub(crate) fn with_details(self, details: [&dyn fmt::Display; 2]) -> Error {
        let details = details.map(|detail| one_line(detail, LONGEST_DETAIL)).join(": ");
        let Inner { kind, ref message, ref source, .. } = *self.0;
        let (message, source) = (message.clone(), source.clone());
        Error(Arc::new(Inner { kind, message, details: Some(details.into()), source }))
    }

    /// Returns details that may be confidential, and that the error's text leaves out.
    ///
    /// If arguments do not match their task, these are the arguments and the reason, which may
    /// quote them, each shortened to 256 bytes. No log line, `Display` or `Debug` contains them.
    /// Returns `None` for errors without such details.
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

    /// Whether the job's only run returned an error, which is the
    /// [`source`](std::error::Error::source).
    pub fn is_failed(&self) -> bool {
        self.0.kind == Kind::Failed
    }

    pub(crate) fn failed(source: Arc<dyn std::error::Error + Send + Sync>) -> Error {
        Error::new(Kind::Failed, "the job's run returned an error".into(), Some(source))
    }
}

impl Error {
    /// Whether the store is unreachable or too busy.
    ///
    /// A retry may succeed. Whether the operation took effect is unknown. The cause is the
    /// [`source`](std::error::Error::source).
    pub fn is_store_unavailable(&self) -> bool {
        self.0.kind == Kind::StoreUnavailable
    }

    /// Whether the store refused the operation. A retry will not succeed. The cause is the
    /// [`source`](std::error::Error::source).
    pub fn is_store_refused(&self) -> bool {
        self.0.kind == Kind::StoreRefused
    }
}

impl Error {
    /// The error of a store: one that refused, or one that is not available.
    pub(crate) fn of_store(
        is_refused: bool,
        message: impl Into<Cow<'static, str>>,
        source: Arc<dyn std::error::Error + Send + Sync>,
    ) -> Error {
        let kind = if is_refused { Kind::StoreRefused } else { Kind::StoreUnavailable };
        Error::new(kind, message.into(), Some(source))
    }
}

/// Allows infallible conversions where a fallible one is accepted.
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

/// Displays an error and its sources in one line, for `Debug` and for log lines.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut error = self.0;
        let mut text = error.to_string();
        Escaped(&text).fmt(f)?;
        // A longer chain is probably a cycle.
        for _ in 0..LONGEST_CHAIN {
            let Some(source) = error.source() else { break };
            error = source;
            let cause = source.to_string();
            // Some errors include the text of their source.
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
