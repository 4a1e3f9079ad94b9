//! Cron fields, given by name.

use std::fmt;

use super::Build;
use crate::{
    error::Error,
    trigger::{
        kinds::{CronFields, Part},
        pasted,
        quote::one_line,
    },
};

impl CronFields {
    /// A trigger whose fields are still to be given, at least one of them; the same as
    /// [`cron_fields`](crate::trigger::cron_fields).
    ///
    /// # Errors
    ///
    /// They surface when the trigger is used, and name the field and what is wrong with it:
    ///
    /// ```
    /// use punctual::trigger::{CronFields, IntoTrigger};
    ///
    /// let error = CronFields::builder().month("jan-mar/2").into_trigger().unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "invalid cron fields: month `jan-mar/2` has a step after names: write `1-3/2`",
    /// );
    /// ```
    pub fn builder() -> Build<CronFields> {
        Build::new(CronFields::new())
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])* $part:ident $name:ident;)*) => {
        /// Each of these sets one field to a number, or to an expression of the table of
        /// [`CronFields`]. Setting a field again, to something else, is an error.
        impl Build<CronFields> {
            $(
                $(#[$doc])*
                pub fn $name(self, expression: impl fmt::Display) -> Build<CronFields> {
                    let text = expression.to_string();
                    self.map(|fields| match pasted::disguised(&text) {
                        Some(reason) => Err(Error::invalid_trigger(format!(
                            "invalid cron fields: {} `{}`: {reason}",
                            Part::$part.name(),
                            one_line(&text)
                        ))),
                        None => fields.with(Part::$part, &text),
                    })
                }
            )*
        }
    };
}

fields! {
    /// The year.
    Year year;
    /// The month: 1 to 12, or `jan` to `dec`.
    Month month;
    /// The day of the month: 1 to 31, `last`, or as in `3rd fri` and `last fri`.
    Day day;
    /// The week, as ISO 8601 counts: 1 to 53. It begins on Monday, and belongs to the year that its
    /// Thursday is in.
    Week week;
    /// The day of the week: 0 to 6, or `mon` to `sun`. 0 is Monday.
    DayOfWeek day_of_week;
    /// The hour: 0 to 23.
    Hour hour;
    /// The minute: 0 to 59.
    Minute minute;
    /// The second: 0 to 59.
    Second second;
}
