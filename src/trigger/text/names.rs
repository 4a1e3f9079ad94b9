//! The words for gaps and folds.

use crate::{
    error::Error,
    trigger::{
        quote::one_line,
        wall_clock::{Fold, Gap},
    },
};

/// The words for the values of an option.
pub(super) struct Names<T: 'static>(&'static [(T, &'static str)]);

pub(super) const GAPS: Names<Gap> = Names(&[(Gap::Next, "next"), (Gap::Skip, "skip")]);
pub(super) const FOLDS: Names<Fold> =
    Names(&[(Fold::First, "first"), (Fold::Last, "last"), (Fold::Both, "both")]);

impl<T: Copy + PartialEq> Names<T> {
    pub(super) fn name(&self, value: T) -> &'static str {
        self.0.iter().find(|(known, _)| *known == value).map_or("", |(_, name)| name)
    }

    pub(super) fn value(&self, name: &str, clause: &str) -> Result<T, Error> {
        let known = self.0.iter().find(|(_, known)| *known == name);
        known.map(|(value, _)| *value).ok_or_else(|| {
            let names: Vec<String> = self.0.iter().map(|(_, name)| format!("`{name}`")).collect();
            Error::invalid_trigger(format!(
                "`{}`: `{}` is none of {}",
                one_line(clause),
                one_line(name),
                names.join(", ")
            ))
        })
    }
}
