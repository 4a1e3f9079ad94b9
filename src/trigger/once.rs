//! Options that have one value.

use crate::error::Error;

/// Sets what has one value. A second one that differs is an error: neither is dropped silently.
pub(super) fn set_once<T: PartialEq>(
    slot: &mut Option<T>,
    value: T,
    both: impl FnOnce([&T; 2]) -> String,
) -> Result<(), Error> {
    match slot {
        Some(before) if *before != value => Err(Error::invalid_trigger(format!(
            "{}: leave one of them out",
            both([before, &value])
        ))),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}
