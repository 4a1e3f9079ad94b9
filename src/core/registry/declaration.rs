//! The declaration of a job, and whether a declaration has changed.

use std::sync::Arc;

use crate::{
    job::{JobOptions, Labels},
    trigger::Trigger,
};

/// The declaration of a job that is kept or reconciled.
#[derive(Debug)]
pub(crate) struct Declaration {
    /// As given, without an anchor.
    pub(crate) trigger: Trigger,
    pub(crate) options: Arc<JobOptions>,
    pub(crate) labels: Labels,
    /// The name and the arguments of the task, if the work is a task.
    pub(crate) task: Option<(&'static str, String)>,
}

impl Declaration {
    /// Whether nothing has changed. Closures cannot be compared, and count as the same.
    pub(in crate::core) fn is_same(&self, other: &Declaration) -> bool {
        self.trigger == other.trigger
            && self.labels == other.labels
            && self.task == other.task
            && self.options.is_same_but_for_code(&other.options)
    }
}
