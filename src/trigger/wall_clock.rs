//! Real instants from wall-clock readings, through gaps and folds.
//!
//! A zone is a list of spans of constant offset. A span shows a window of readings, so the fire
//! times in it are the matching readings of that window, less the offset. Where two windows meet
//! they leave a gap or overlap in a fold; [`Gap`] and [`Fold`] say how far each window reaches
//! there, and nothing else in the search knows about daylight saving.

use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::once::set_once;
use crate::{
    error::Error,
    zone::{DAY, END_OF_TIME, Span, TimeZone, span_at},
};

/// What happens to a wall time that does not exist, because the clock was set forward over it.
///
/// The default is `Next` for fixed-time patterns, which are those whose minute and hour fields
/// both do not start with `*`, and `Skip` for all others: these go by the clock that is shown,
/// and it never shows a time in the gap.
///
/// In New York the clock goes from 01:59:59 EST to 03:00:00 EDT on 2026-03-08:
///
/// | pattern | `Next` | `Skip` |
/// |---|---|---|
/// | `30 2 * * *` | 03-07 02:30 EST, **03-08 03:00 EDT**, 03-09 02:30 EDT | 03-07 02:30 EST, 03-09 02:30 EDT |
/// | `0,30 2 * * *` | 03-07 02:30 EST, **03-08 03:00 EDT** (once), 03-09 02:00 EDT | 03-07 02:30 EST, 03-09 02:00 EDT |
/// | `0 3 * * *` | 03-07 03:00 EST, 03-08 03:00 EDT | the same: it is not in the gap |
///
/// Samoa had no 2011-12-30: `0 12 * * *` in `Pacific/Apia` fires at 2011-12-31 00:00 with `Next`,
/// and then at noon of that day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// Fires once, at the first instant after the gap, however many of its times fell into it.
    Next,
    /// Does not fire.
    Skip,
}

/// Which occurrence of a wall time fires that is shown twice, because the clock was set back.
///
/// The default is `First` for fixed-time patterns, which are those whose minute and hour fields
/// both do not start with `*`, and `Both` for all others.
///
/// In New York the clock goes from 01:59:59 EDT back to 01:00:00 EST on 2026-11-01:
///
/// | pattern | `First` | `Last` | `Both` |
/// |---|---|---|---|
/// | `30 1 * * *` | 11-01 01:30 EDT | 11-01 01:30 EST | 11-01 01:30 EDT and 01:30 EST |
/// | `0 2 * * *` | 11-01 02:00 EST | the same: it is shown once | the same |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// Fires at the first occurrence.
    First,
    /// Fires at the last occurrence.
    Last,
    /// Fires at every occurrence.
    Both,
}

/// The kinds of triggers that go by the wall clock of a zone: [`Cron`](super::Cron),
/// [`CronFields`](super::CronFields), [`CalendarInterval`](super::CalendarInterval) and
/// [`Words`](super::Words).
///
/// They share the options [`gap`](super::Build::gap) and [`fold`](super::Build::fold).
/// [`in_tz`](super::Build::in_tz) is for all triggers: in the others, its zone is that of a date and a
/// time of day without an offset, and of the days and hours of [`only`](super::Build::only),
/// [`except`](super::Build::except) and [`between`](super::Build::between).
pub trait InZone {
    /// The zone, gap and fold that were set.
    #[doc(hidden)]
    fn rules(&mut self) -> &mut ZoneRules;
}

/// The zone that a trigger goes by, and what it does in gaps and folds, as far as these are set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneRules {
    pub(super) zone: Option<TimeZone>,
    pub(super) gap: Option<Gap>,
    pub(super) fold: Option<Fold>,
}

impl ZoneRules {
    /// Sets the zone. Text, JSON and methods may name it more than once, but not differently.
    pub(super) fn name_zone(&mut self, zone: TimeZone) -> Result<(), Error> {
        set_once(&mut self.zone, zone, |[a, b]| format!("the zone is `{a}` and again `{b}`"))
    }

    /// Writes the zone behind the text of what goes by it.
    pub(super) fn write_zone(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.zone {
            Some(zone) => write!(f, " ({zone})"),
            None => Ok(()),
        }
    }

    /// A description, with the zone.
    pub(super) fn in_zone(self, description: String) -> String {
        match self.zone {
            Some(zone) => format!("{description}, in {zone}"),
            None => description,
        }
    }

    /// `readings` in this zone; `fixed_time` tells what the defaults are.
    pub(super) fn apply<R: Readings>(self, readings: &R, fixed_time: bool) -> Zoned<'_, R> {
        let (gap, fold) =
            if fixed_time { (Gap::Next, Fold::First) } else { (Gap::Skip, Fold::Both) };
        Zoned::new(
            readings,
            self.zone.unwrap_or(TimeZone::UTC),
            self.gap.unwrap_or(gap),
            self.fold.unwrap_or(fold),
        )
    }
}

/// The hours, minutes and seconds of some times of day, as sets of bits.
#[derive(Clone, Copy)]
pub(super) struct ClockTimes {
    pub(super) hours: u32,
    pub(super) minutes: u64,
    pub(super) seconds: u64,
}

impl ClockTimes {
    /// The hours, minutes and seconds that are in both.
    pub(super) fn common(self, other: ClockTimes) -> ClockTimes {
        ClockTimes {
            hours: self.hours & other.hours,
            minutes: self.minutes & other.minutes,
            seconds: self.seconds & other.seconds,
        }
    }
}

/// What a schedule asks of a wall clock. A reading is what the clock shows, in seconds since it
/// showed 1970-01-01 00:00:00.
pub(super) trait Readings {
    /// The first reading of the schedule that is not less than `reading`.
    fn at_or_after(&self, reading: i64) -> Option<i64>;

    /// The last reading of the schedule that is not greater than `reading`.
    fn at_or_before(&self, reading: i64) -> Option<i64>;

    /// How much dearer it is to search than a cron pattern.
    const COST: u32 = 1;
}

/// A schedule of wall-clock readings in a zone: what turns it into instants.
pub(super) struct Zoned<'a, R> {
    pub(super) readings: &'a R,
    spans: &'static [Span],
    gap: Gap,
    fold: Fold,
}

impl<'a, R: Readings> Zoned<'a, R> {
    pub(super) fn new(readings: &'a R, zone: TimeZone, gap: Gap, fold: Fold) -> Zoned<'a, R> {
        Zoned { readings, spans: zone.spans(), gap, fold }
    }

    /// The same zone for other readings.
    pub(super) fn with<'b, S>(&self, readings: &'b S) -> Zoned<'b, S> {
        Zoned { readings, spans: self.spans, gap: self.gap, fold: self.fold }
    }

    /// The first fire time strictly later than `t`.
    pub(super) fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.next_and_reading(t).map(|(next, _)| next)
    }

    /// The same, with the reading that the schedule names: in a gap the clock never shows it.
    pub(super) fn next_and_reading(&self, t: DateTime<Utc>) -> Option<(DateTime<Utc>, i64)> {
        let t = t.timestamp();
        let mut index = span_at(self.spans, t);
        let mut window = self.window(index);
        // Fire times are whole seconds: none is left in the one that `t` lies in.
        let mut from = window.first.max(t + window.offset + 1);
        // No reading in `clear..match_` is one of the schedule's, and `match_` is.
        let (mut clear, mut match_) = (from, self.readings.at_or_after(from));
        loop {
            // What was found stays the answer to the next question, too, unless the clock was set
            // back before where that search began, or forward over its end.
            if from < clear || match_.is_some_and(|reading| reading < from) {
                (clear, match_) = (from, self.readings.at_or_after(from));
            }
            if let Some(reading) = match_.filter(|&reading| reading < window.end) {
                return Some((window.instant(reading)?, reading));
            }
            index += 1;
            if index == self.spans.len() {
                return None;
            }
            window = self.window(index);
            from = window.first;
        }
    }

    /// The last fire time that is not later than `t`.
    pub(super) fn last_at_or_before(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let t = t.timestamp();
        let mut index = span_at(self.spans, t);
        let mut window = self.window(index);
        let mut from = (window.end - 1).min(t + window.offset);
        // As above, with time reversed.
        let (mut clear, mut match_) = (from, self.readings.at_or_before(from));
        loop {
            if from > clear || match_.is_some_and(|reading| reading > from) {
                (clear, match_) = (from, self.readings.at_or_before(from));
            }
            if let Some(reading) = match_.filter(|&reading| reading >= window.first) {
                return window.instant(reading);
            }
            index = index.checked_sub(1)?;
            window = self.window(index);
            from = window.end - 1;
        }
    }

    /// The readings for which the span answers.
    ///
    /// With `Gap::Next` a span answers for the gap before it; with `Fold::First` or `Fold::Last`
    /// only one of two spans answers for what both show. Looking at the neighbours is enough: in
    /// all zones a span lasts longer than the clock is ever set forward or back.
    #[inline]
    fn window(&self, index: usize) -> SpanWindow {
        let Span { begin, offset } = self.spans[index];
        let (mut first, mut end) = (begin + offset, END_OF_TIME);
        if let Some(before) = index.checked_sub(1).map(|before| self.spans[before]) {
            let takes_over_at_once = if before.offset < offset {
                self.gap == Gap::Next
            } else {
                self.fold == Fold::First
            };
            if takes_over_at_once {
                first = begin + before.offset;
            }
        }
        if let Some(after) = self.spans.get(index + 1) {
            let hands_over_early = after.offset < offset && self.fold == Fold::Last;
            end = after.begin + if hands_over_early { after.offset } else { offset };
        }
        SpanWindow { begin, offset, first, end }
    }
}

/// The first second from `from` on whose date, as the zone's calendar has it, is allowed.
///
/// Dates are days since 1970-01-01. `first_allowed` answers with the first one that is not before
/// a date. A zone shows some dates twice, so looking for the date's midnight would not do.
pub(super) fn first_on(
    zone: TimeZone,
    from: i64,
    first_allowed: impl Fn(i64) -> Option<i64>,
) -> Option<i64> {
    let spans = zone.spans();
    let holds = span_at(spans, from);
    // What was found stays the answer, unless the calendar was set back before where that search
    // began.
    let mut known: Option<(i64, i64)> = None;
    spans[holds..].iter().enumerate().find_map(|(index, span)| {
        let begin = from.max(span.begin);
        let date = (begin + span.offset).div_euclid(DAY);
        let allowed = match known {
            Some((asked, found)) if (asked..=found).contains(&date) => found,
            // None from here on; but the next span may begin with an earlier date.
            _ => first_allowed(date)?,
        };
        known = Some((date, allowed));
        let second = begin.max(allowed * DAY - span.offset);
        spans.get(holds + index + 1).is_none_or(|next| second < next.begin).then_some(second)
    })
}

/// The last second up to `to` whose date, as the zone's calendar has it, is allowed.
pub(super) fn last_on(
    zone: TimeZone,
    to: i64,
    last_allowed: impl Fn(i64) -> Option<i64>,
) -> Option<i64> {
    let spans = zone.spans();
    let holds = spans.partition_point(|span| span.begin <= to).max(1);
    let mut known: Option<(i64, i64)> = None;
    spans[..holds].iter().enumerate().rev().find_map(|(index, span)| {
        let end = spans.get(index + 1).map_or(to, |next| to.min(next.begin - 1));
        let date = (end + span.offset).div_euclid(DAY);
        let allowed = match known {
            Some((asked, found)) if (found..=asked).contains(&date) => found,
            _ => last_allowed(date)?,
        };
        known = Some((date, allowed));
        let second = end.min((allowed + 1) * DAY - span.offset - 1);
        (second >= span.begin).then_some(second)
    })
}

/// The date that the zone's calendar shows; the nearest that there is, at the ends of the calendar.
pub(super) fn date_at(zone: TimeZone, t: DateTime<Utc>) -> NaiveDate {
    let (spans, second) = (zone.spans(), t.timestamp());
    let shown = second + spans[span_at(spans, second)].offset;
    let clock = DateTime::from_timestamp(shown, 0);
    clock.map_or(t.date_naive(), |clock| clock.date_naive())
}

/// The offsets from UTC, in seconds, that a zone has at `from` and later.
pub(super) fn offsets_from(zone: TimeZone, from: i64) -> Vec<i64> {
    let spans = zone.spans();
    let holds = span_at(spans, from);
    let mut offsets: Vec<i64> = spans[holds..].iter().map(|span| span.offset).collect();
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

/// The first instant not earlier than `from`, in seconds, at which the zone's clock is set.
pub(super) fn transition_from(zone: TimeZone, from: i64) -> Option<i64> {
    let spans = zone.spans();
    let index = spans.partition_point(|span| span.begin < from).max(1);
    spans.get(index).map(|span| span.begin)
}

/// The last instant not later than `to`, in seconds, at which the zone's clock is set.
pub(super) fn transition_to(zone: TimeZone, to: i64) -> Option<i64> {
    let spans = zone.spans();
    let index = spans.partition_point(|span| span.begin <= to).checked_sub(1)?;
    (index > 0).then(|| spans[index].begin)
}

/// The readings `first..end` that a span answers for.
struct SpanWindow {
    begin: i64,
    offset: i64,
    first: i64,
    end: i64,
}

impl SpanWindow {
    fn instant(&self, reading: i64) -> Option<DateTime<Utc>> {
        // A reading from the gap before the span becomes its first instant.
        DateTime::from_timestamp((reading - self.offset).max(self.begin), 0)
    }
}

/// When the clocks of a zone are changed, and from and to which offset from UTC, in seconds.
#[cfg(feature = "testing")]
pub(crate) fn changes(zone: TimeZone) -> impl Iterator<Item = (DateTime<Utc>, i64, i64)> {
    zone.spans().windows(2).filter_map(|pair| {
        let [before, after] = pair else { return None };
        Some((DateTime::from_timestamp(after.begin, 0)?, before.offset, after.offset))
    })
}
