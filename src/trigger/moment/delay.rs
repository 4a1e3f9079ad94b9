//! Delays, from when a job is added.

use std::time::Duration;

use chrono::TimeDelta;

use super::{Form, IntoMoment, Moment};
use crate::{error::Error, trigger::quote::one_line};

/// How long [`after`](crate::trigger::after) waits: a [`std::time::Duration`], a [`chrono::TimeDelta`], or a text
/// such as `"10 minutes"` or `"1h30m"`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a delay",
    note = "use a `std::time::Duration`, a `chrono::TimeDelta`, or a text such as \"10 minutes\"; for an instant, use `at`"
)]
pub trait IntoDelay {
    /// Reads the delay.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if it is negative, or the text is no delay.
    fn into_delay(self) -> Result<Duration, Error>;
}

impl IntoDelay for Duration {
    fn into_delay(self) -> Result<Duration, Error> {
        Ok(self)
    }
}

impl IntoDelay for TimeDelta {
    fn into_delay(self) -> Result<Duration, Error> {
        self.to_std().map_err(|_| {
            Error::invalid_trigger(format!(
                "{} ms is before the job is added: use a duration that is not negative",
                self.num_milliseconds()
            ))
        })
    }
}

impl IntoDelay for &str {
    fn into_delay(self) -> Result<Duration, Error> {
        let moment = self.parse().ok();
        match moment.map(|Moment(form)| form) {
            Some(Form::Delay(millis)) => Ok(Duration::from_millis(millis)),
            Some(_) => Err(Error::invalid_trigger(format!(
                "`{text}` is no delay: write `at(\"{text}\")`",
                text = one_line(self)
            ))),
            None => Err(Error::invalid_trigger(format!(
                "`{}` is no delay: write, for example, `10 minutes`, `90s` or `1h30m`",
                one_line(self)
            ))),
        }
    }
}

impl IntoDelay for String {
    fn into_delay(self) -> Result<Duration, Error> {
        self.as_str().into_delay()
    }
}

impl IntoMoment for Duration {
    fn into_moment(self) -> Result<Moment, Error> {
        let millis = i64::try_from(self.as_nanos().div_ceil(1_000_000)).map_err(|_| {
            Error::invalid_trigger(format!(
                "{} s reaches past the end of the calendar: use a shorter duration",
                self.as_secs()
            ))
        })?;
        Ok(Moment(Form::Delay(millis.unsigned_abs())))
    }
}

impl IntoMoment for TimeDelta {
    fn into_moment(self) -> Result<Moment, Error> {
        self.into_delay()?.into_moment()
    }
}
