//! Fire times as an iterator.

use chrono::{DateTime, Utc};

use super::Trigger;
use crate::{error::Error, zone::TimeZone};

impl Trigger {
    /// The next `n` fire times from now on; see [`upcoming_after`](Trigger::upcoming_after).
    ///
    /// ```
    /// use punctual::trigger::{cron, IntoTrigger};
    ///
    /// for fire in cron("0 9 * * MON-FRI").in_tz("Europe/Berlin").into_trigger()?.upcoming(3) {
    ///     println!("{}", fire?);
    /// }
    /// # Ok::<(), punctual::Error>(())
    /// ```
    pub fn upcoming(&self, n: usize) -> std::iter::Take<Upcoming> {
        self.upcoming_after(Utc::now()).take(n)
    }

    /// The fire times strictly later than `t`, in order.
    ///
    /// A trigger that has not been [anchored](Trigger::anchored) is taken as if it were added at
    /// `t`, and goes by UTC if it names no zone. The iterator ends after the last fire time, and
    /// after an error, which is its last item; many a trigger has no last fire time.
    pub fn upcoming_after(&self, t: DateTime<Utc>) -> Upcoming {
        Upcoming { trigger: Some(self.anchored(t, TimeZone::UTC)), after: t }
    }
}

/// The fire times of a trigger; made by [`Trigger::upcoming`] and [`Trigger::upcoming_after`].
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy"]
pub struct Upcoming {
    /// Until the end, or until an error was returned.
    trigger: Option<Result<Trigger, Error>>,
    after: DateTime<Utc>,
}

impl Iterator for Upcoming {
    type Item = Result<DateTime<Utc>, Error>;

    fn next(&mut self) -> Option<Result<DateTime<Utc>, Error>> {
        let trigger = self.trigger.take()?;
        match trigger.and_then(|trigger| Ok((trigger.next_after(self.after)?, trigger))) {
            Ok((None, _)) => None,
            Ok((Some(next), trigger)) => {
                (self.after, self.trigger) = (next, Some(Ok(trigger)));
                Some(Ok(next))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

impl std::iter::FusedIterator for Upcoming {}
