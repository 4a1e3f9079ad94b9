//! The action log: who did what to which job, when and why.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Incarnation;
use crate::job::JobId;

/// What somebody does with a [`Write`](super::Write), for people to read later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Action {
    /// Who does it, in at most 255 bytes.
    pub by: String,
    /// What it is: the name of the verb, such as `pause`.
    pub what: String,
    /// Why, in at most 255 bytes.
    pub because: Option<String>,
}

impl Action {
    /// What somebody does, without a reason.
    pub fn new(by: impl Into<String>, what: impl Into<String>) -> Action {
        Action { by: by.into(), what: what.into(), because: None }
    }

    /// The same, with a reason.
    #[must_use]
    pub fn because(self, reason: impl Into<String>) -> Action {
        Action { because: Some(reason.into()), ..self }
    }
}

/// One line of the action log; see [`Store::actions`](crate::store::Store::actions).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoggedAction {
    /// When it was done, by the store's clock.
    pub at: DateTime<Utc>,
    /// The token of the write that did it.
    pub token: u64,
    /// The job's id.
    pub job: JobId,
    /// The life of the job that was added or changed, or that was removed.
    pub incarnation: Incarnation,
    /// What was done.
    pub action: Action,
}

impl LoggedAction {
    /// What was done to a job by the write of this token.
    pub fn new(
        at: DateTime<Utc>,
        token: u64,
        job: JobId,
        incarnation: Incarnation,
        action: Action,
    ) -> LoggedAction {
        LoggedAction { at, token, job, incarnation, action }
    }

    /// Where it stands in the log.
    pub fn cursor(&self) -> ActionCursor {
        ActionCursor { at: self.at, token: self.token }
    }
}

/// Where a page of [`Store::actions`](crate::store::Store::actions) ends. What is done later does not move it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ActionCursor {
    /// When the last action of the page was done.
    pub at: DateTime<Utc>,
    /// The token of its write.
    pub token: u64,
}

/// Some of a store's action log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActionPage {
    /// What was done, the latest first.
    pub actions: Vec<LoggedAction>,
    /// Behind what the next page begins, which may be empty; `None` if this is the last one.
    pub next: Option<ActionCursor>,
}
