//! The action log: who did what to which job, when and why.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Incarnation;
use crate::id::JobId;

/// An action of a user or a program, as a [`Write`](super::Write) sends it to the action log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Action {
    /// The user or program, in at most 255 bytes.
    pub by: String,
    /// The name of the verb, such as `pause`.
    pub what: String,
    /// The reason, in at most 255 bytes.
    pub because: Option<String>,
}

impl Action {
    /// An action without a reason.
    pub fn new(by: impl Into<String>, what: impl Into<String>) -> Action {
        Action { by: by.into(), what: what.into(), because: None }
    }

    /// The same action with a reason.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Action {
        Action { because: Some(reason.into()), ..self }
    }
}

/// One entry of the action log; see [`Store::actions`](crate::store::Store::actions).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoggedAction {
    /// The time of the action, by the store's clock.
    pub at: DateTime<Utc>,
    /// The token of the write.
    pub token: u64,
    /// The job's id.
    pub job: JobId,
    /// The incarnation that the write added, changed or removed.
    pub incarnation: Incarnation,
    /// The action.
    pub action: Action,
}

impl LoggedAction {
    /// An entry of the action log for the write with this token.
    pub fn new(
        at: DateTime<Utc>,
        token: u64,
        job: JobId,
        incarnation: Incarnation,
        action: Action,
    ) -> LoggedAction {
        LoggedAction { at, token, job, incarnation, action }
    }

    /// The position of this entry in the log.
    pub fn cursor(&self) -> ActionCursor {
        ActionCursor { at: self.at, token: self.token }
    }
}

/// The end of a page of [`Store::actions`](crate::store::Store::actions).
///
/// Later actions do not move it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ActionCursor {
    /// The time of the page's last action.
    pub at: DateTime<Utc>,
    /// The token of its write.
    pub token: u64,
}

/// A page of a store's action log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActionPage {
    /// The entries, the latest first.
    pub actions: Vec<LoggedAction>,
    /// Where the next page begins; that page may be empty. `None` after the last page.
    pub next: Option<ActionCursor>,
}
