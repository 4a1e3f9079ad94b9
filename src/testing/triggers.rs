//! Assertions on the fire times of triggers, and the days on which a zone's clocks are changed.

use std::{fmt, ops::RangeInclusive};

use chrono::{DateTime, Datelike as _, NaiveDate, TimeDelta, Utc};

use crate::{
    error::Error,
    trigger::{IntoTimeZone, Trigger, changes, rfc3339},
    zone::TimeZone,
};

/// What names an instant: a [`chrono::DateTime`], or a text as of RFC 3339.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name an instant",
    note = "use a `chrono::DateTime`, or a text such as \"2026-11-20T12:00:00Z\""
)]
pub trait IntoInstant {
    /// The instant.
    ///
    /// # Panics
    ///
    /// If the text does not name one.
    fn into_instant(self) -> DateTime<Utc>;
}

impl<Z: chrono::TimeZone> IntoInstant for DateTime<Z> {
    fn into_instant(self) -> DateTime<Utc> {
        self.with_timezone(&Utc)
    }
}

impl IntoInstant for &str {
    #[track_caller]
    fn into_instant(self) -> DateTime<Utc> {
        self.parse().unwrap_or_else(|error| {
            panic!("`{self}` does not name an instant ({error}): write `2026-11-20T12:00:00Z`, or an offset for the `Z`")
        })
    }
}

/// Asserts that the trigger fires at these instants of a range, and at no other.
///
/// A trigger that has not been [anchored](Trigger::anchored) is taken as if it were added at the
/// start of the range, by a scheduler whose zone is UTC.
///
/// ```
/// use punctual::{testing::{assert_fires, daylight_saving_days}, trigger::Trigger};
///
/// // Nine o'clock stays nine o'clock on the days on which Berlin changes its clocks.
/// let trigger: Trigger = "0 9 * * * (Europe/Berlin)".parse()?;
/// for change in daylight_saving_days("Europe/Berlin", 2026)? {
///     println!("{change}");
/// }
/// assert_fires(
///     &trigger,
///     "2026-03-28T00:00:00Z"..="2026-03-30T00:00:00Z",
///     ["2026-03-28T09:00:00+01:00", "2026-03-29T09:00:00+02:00"],
/// );
/// # Ok::<(), punctual::Error>(())
/// ```
///
/// # Panics
///
/// If it fires at other instants, with a list of both; at an error of the trigger, and at a text
/// that names no instant.
///
/// ```should_panic
/// # use punctual::{testing::assert_fires, trigger::Trigger};
/// let trigger: Trigger = "0 9 * * *".parse().unwrap();
/// assert_fires(&trigger, "2026-03-28T00:00:00Z"..="2026-03-28T23:59:59Z", ["2026-03-28T10:00:00Z"]);
/// // `0 9 * * *` does not fire as expected:
/// //   + 2026-03-28T09:00:00Z  fires, and is not expected
/// //   - 2026-03-28T10:00:00Z  is expected, and does not fire
/// ```
#[track_caller]
pub fn assert_fires<T: IntoInstant + Clone>(
    trigger: &Trigger,
    range: RangeInclusive<T>,
    expected: impl IntoIterator<Item = impl IntoInstant>,
) {
    let (from, to) = range.into_inner();
    let (from, to) = (from.into_instant(), to.into_instant());
    let mut expected: Vec<DateTime<Utc>> =
        expected.into_iter().map(IntoInstant::into_instant).collect();
    expected.sort_unstable();
    // As many more tell what is wrong.
    let most = expected.len() + 10;
    let fires = match fires(trigger, from, to, most) {
        Ok(fires) => fires,
        Err(error) => panic!("`{trigger}` has no fire times to compare: {error}"),
    };
    if fires == expected {
        return;
    }
    let mut lines = String::new();
    let (mut fire, mut wanted) = (fires.iter().peekable(), expected.iter().peekable());
    loop {
        let (instant, sign, what) = match (fire.peek(), wanted.peek()) {
            (None, None) => break,
            (Some(a), Some(b)) if a == b => {
                wanted.next();
                (fire.next(), ' ', "")
            }
            (Some(a), b) if b.is_none_or(|b| a < b) => {
                (fire.next(), '+', "  fires, and is not expected")
            }
            _ => (wanted.next(), '-', "  is expected, and does not fire"),
        };
        if let Some(&instant) = instant {
            lines += &format!("\n  {sign} {}{what}", rfc3339(instant));
        }
    }
    if fires.len() > most {
        lines += "\n  + and so on";
    }
    panic!("`{trigger}` does not fire as expected:{lines}");
}

/// One more than `most` fire times, if there are so many.
fn fires(
    trigger: &Trigger,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    most: usize,
) -> Result<Vec<DateTime<Utc>>, Error> {
    let trigger = trigger.anchored(from, TimeZone::UTC)?;
    let mut fires = Vec::new();
    // The first may be `from` itself, and that of a date lies where it does.
    let mut next = trigger.first(from)?.filter(|&first| first >= from);
    while let Some(fire) = next.filter(|&fire| fire <= to && fires.len() <= most) {
        fires.push(fire);
        next = trigger.next_after(fire)?;
    }
    Ok(fires)
}

/// A day on which the clocks of a zone are changed; made by [`daylight_saving_days`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockChange {
    /// The date that the clocks show just before.
    pub date: NaiveDate,
    /// When they are changed.
    pub at: DateTime<Utc>,
    /// By how much they are set forward; less than nothing if they are set back.
    pub by: TimeDelta,
}

impl ClockChange {
    /// Whether times are left out, because the clocks are set forward.
    pub fn is_gap(&self) -> bool {
        self.by > TimeDelta::zero()
    }

    /// Whether times are shown twice, because the clocks are set back.
    pub fn is_fold(&self) -> bool {
        self.by < TimeDelta::zero()
    }

    /// How long the gap or the fold is.
    pub fn length(&self) -> TimeDelta {
        self.by.abs()
    }
}

/// As in `2026-03-29: a gap of 60 min at 2026-03-29T01:00:00Z`.
impl fmt::Display for ClockChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_gap() { "gap" } else { "fold" };
        let seconds = self.length().num_seconds();
        write!(f, "{}: a {what} of ", self.date)?;
        match seconds % 60 {
            0 => write!(f, "{} min", seconds / 60)?,
            _ => write!(f, "{seconds} s")?,
        }
        write!(f, " at {}", rfc3339(self.at))
    }
}

/// The days of a year on which the clocks of a zone are changed, in order; for daylight saving,
/// mostly.
///
/// The rules are those of [`time_zone_data`](crate::time_zone_data).
///
/// ```
/// use punctual::testing::daylight_saving_days;
///
/// let days = daylight_saving_days("Europe/Berlin", 2026)?;
/// let days: Vec<String> = days.iter().map(|change| change.to_string()).collect();
/// assert_eq!(
///     days,
///     [
///         "2026-03-29: a gap of 60 min at 2026-03-29T01:00:00Z",
///         "2026-10-25: a fold of 60 min at 2026-10-25T01:00:00Z",
///     ],
/// );
/// assert!(daylight_saving_days("Asia/Tokyo", 2026)?.is_empty());
/// # Ok::<(), punctual::Error>(())
/// ```
///
/// # Errors
///
/// [`is_invalid_trigger`](Error::is_invalid_trigger) if no zone has this name.
pub fn daylight_saving_days(zone: impl IntoTimeZone, year: i32) -> Result<Vec<ClockChange>, Error> {
    let changes = changes(zone.into_time_zone()?);
    let changes = changes.filter_map(|(at, before, after)| {
        let date = (at + TimeDelta::seconds(before) - TimeDelta::seconds(1)).date_naive();
        (date.year() == year).then(|| ClockChange {
            date,
            at,
            by: TimeDelta::seconds(after - before),
        })
    });
    Ok(changes.collect())
}
