//! Calling what is the user's, whose panics are nobody else's trouble.

use std::{
    any::Any,
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    error::Error,
    escape::{LOG_LINE, cut, one_line},
};

/// Calls a destructor or a waker of the user's.
#[inline]
pub(crate) fn shielded(call: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
        log_panic(panic);
    }
}

#[cold]
fn log_panic(panic: Box<dyn Any + Send>) {
    let message = one_line(message(panic), LOG_LINE);
    tracing::error!(target: "punctual", "a destructor or waker panicked: {message}");
}

/// Calls what the user's code is part of, and makes an error of its panic.
pub(crate) fn shielded_or<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        Err(Error::unreadable(format!("the code that reads it panicked: {}", message(panic))))
    })
}

/// How much of the text of an error is kept or sent, in bytes.
pub(crate) const LONGEST_TEXT: usize = 64 * 1024;

/// The text of what the user may have a hand in, cut off where it is too long to be kept. It is made
/// before it is given to a subscriber, which a panic inside would leave poisoned.
pub(crate) fn text(value: &impl Display) -> String {
    catch_unwind(AssertUnwindSafe(|| cut(value, LONGEST_TEXT)))
        .unwrap_or_else(|panic| format!("<panicked when displayed: {}>", message(panic)))
}

/// The same, as it can stand in a log line.
pub(crate) fn line(value: &impl Display) -> String {
    catch_unwind(AssertUnwindSafe(|| one_line(value, LOG_LINE))).unwrap_or_else(|panic| {
        one_line(format_args!("<panicked when displayed: {}>", message(panic)), LOG_LINE)
    })
}

/// What a panic said. Its payload is dropped; one that panics over that is leaked.
pub(crate) fn message(panic: Box<dyn Any + Send>) -> Arc<str> {
    let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => Arc::from(*text),
        (_, Some(text)) => Arc::from(text.as_str()),
        _ => Arc::from("a panic without a message"),
    };
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
    message
}
