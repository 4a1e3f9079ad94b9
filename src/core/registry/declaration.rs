//! What a job was declared as, and whether a declaration is the same again.

use std::sync::Arc;

use crate::{
    job::{JobOptions, Labels},
    trigger::Trigger,
};

/// What was given of a job that is declared to be kept or reconciled.
#[derive(Debug)]
pub(crate) struct Declaration {
    /// As it was given: not anchored.
    pub(crate) trigger: Trigger,
    pub(crate) options: Arc<JobOptions>,
    pub(crate) labels: Labels,
    /// The name and the arguments of the task that is its work, if it is one.
    pub(crate) task: Option<(&'static str, String)>,
}

impl Declaration {
    /// Whether nothing has changed. Closures can't be compared, and count as the same.
    pub(in crate::core) fn is_same(&self, other: &Declaration) -> bool {
        self.trigger == other.trigger
            && self.labels == other.labels
            && self.task == other.task
            && self.options.is_same_but_for_code(&other.options)
    }
}
