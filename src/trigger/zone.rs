//! The zone layer: real instants from wall-clock readings, through gaps and folds.
//!
//! A zone is a list of spans of constant offset. A span shows a window of readings, so the fire
//! times in it are the matching readings of that window, less the offset. Where two windows meet
//! they leave a gap or overlap in a fold; [`Gap`] and [`Fold`] say how far each window reaches
//! there, and nothing else in the search knows about daylight saving.

use std::{ops::Range, sync::OnceLock};

use chrono::{DateTime, Offset as _, TimeZone as _, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use serde::{Deserialize, Serialize};

use crate::error::Error;

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

/// What names a time zone: a [`chrono_tz::Tz`], or the IANA name of one.
///
/// The zones are those compiled into `chrono-tz`, which knows no daylight saving after 2099.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name a time zone",
    note = "use a `chrono_tz::Tz`, or an IANA name such as \"Europe/Berlin\""
)]
pub trait IntoTimeZone {
    /// Looks the zone up.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if no zone has this name. Names are case
    /// sensitive.
    fn into_time_zone(self) -> Result<Tz, Error>;
}

impl IntoTimeZone for Tz {
    fn into_time_zone(self) -> Result<Tz, Error> {
        Ok(self)
    }
}

impl IntoTimeZone for &str {
    fn into_time_zone(self) -> Result<Tz, Error> {
        self.parse().map_err(|_| {
            Error::invalid_trigger(format!(
                "unknown time zone `{self}`: use an IANA name such as `{}`",
                nearest_name(self)
            ))
        })
    }
}

impl IntoTimeZone for String {
    fn into_time_zone(self) -> Result<Tz, Error> {
        self.as_str().into_time_zone()
    }
}

/// The kinds of triggers that go by the wall clock of a zone; they share the options
/// [`in_tz`](super::Build::in_tz), [`gap`](super::Build::gap) and [`fold`](super::Build::fold).
pub trait InZone {
    /// What was said of the zone.
    #[doc(hidden)]
    fn rules(&mut self) -> &mut ZoneRules;
}

/// The zone that a trigger goes by, and what it does in gaps and folds, as far as that was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneRules {
    pub(super) zone: Option<Tz>,
    pub(super) gap: Option<Gap>,
    pub(super) fold: Option<Fold>,
}

impl ZoneRules {
    /// `readings` in this zone; `fixed_time` tells what the defaults are.
    pub(super) fn apply<R: Readings>(self, readings: &R, fixed_time: bool) -> Zoned<'_, R> {
        let (gap, fold) = match fixed_time {
            true => (Gap::Next, Fold::First),
            false => (Gap::Skip, Fold::Both),
        };
        Zoned::new(
            readings,
            self.zone.unwrap_or(Tz::UTC),
            self.gap.unwrap_or(gap),
            self.fold.unwrap_or(fold),
        )
    }
}

/// What a schedule asks of a wall clock. A reading is what the clock shows, in seconds since it
/// showed 1970-01-01 00:00:00.
pub(super) trait Readings {
    /// The first reading of the schedule that is not less than `reading`.
    fn at_or_after(&self, reading: i64) -> Option<i64>;

    /// The last reading of the schedule that is not greater than `reading`.
    fn at_or_before(&self, reading: i64) -> Option<i64>;
}

/// A schedule of wall-clock readings in a zone: what turns it into instants.
pub(super) struct Zoned<'a, R> {
    readings: &'a R,
    spans: &'static [Span],
    gap: Gap,
    fold: Fold,
}

impl<'a, R: Readings> Zoned<'a, R> {
    pub(super) fn new(readings: &'a R, zone: Tz, gap: Gap, fold: Fold) -> Zoned<'a, R> {
        Zoned { readings, spans: spans(zone), gap, fold }
    }

    /// The first fire time strictly later than `t`.
    pub(super) fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let t = t.timestamp();
        let mut index = self.span_at(t);
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
                return window.instant(reading);
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
        let mut index = self.span_at(t);
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

    /// The index of the span that holds `t`.
    fn span_at(&self, t: i64) -> usize {
        // The first span begins before every instant.
        self.spans.partition_point(|span| span.begin <= t).saturating_sub(1)
    }

    /// The readings for which the span answers.
    ///
    /// With `Gap::Next` a span answers for the gap before it; with `Fold::First` or `Fold::Last`
    /// only one of two spans answers for what both show. Looking at the neighbours is enough: in
    /// all zones a span lasts longer than the clock is ever set forward or back.
    #[inline]
    fn window(&self, index: usize) -> Window {
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
        Window { begin, offset, first, end }
    }
}

/// The first second from `from` on whose date, as the zone's calendar has it, is allowed.
///
/// Dates are days since 1970-01-01. `first_allowed` answers with the first one that is not before
/// a date. A zone shows some dates twice, so looking for the date's midnight would not do.
pub(super) fn first_on(
    zone: Tz,
    from: i64,
    first_allowed: impl Fn(i64) -> Option<i64>,
) -> Option<i64> {
    let spans = spans(zone);
    let holds = spans.partition_point(|span| span.begin <= from).saturating_sub(1);
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
pub(super) fn last_on(zone: Tz, to: i64, last_allowed: impl Fn(i64) -> Option<i64>) -> Option<i64> {
    let spans = spans(zone);
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

/// The offsets from UTC, in seconds, that a zone has at `from` and later.
pub(super) fn offsets_from(zone: Tz, from: i64) -> Vec<i64> {
    let spans = spans(zone);
    let holds = spans.partition_point(|span| span.begin <= from).saturating_sub(1);
    let mut offsets: Vec<i64> = spans[holds..].iter().map(|span| span.offset).collect();
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

/// The first instant not earlier than `from`, in seconds, at which the zone's clock is set.
pub(super) fn transition_from(zone: Tz, from: i64) -> Option<i64> {
    let spans = spans(zone);
    let index = spans.partition_point(|span| span.begin < from).max(1);
    spans.get(index).map(|span| span.begin)
}

/// The last instant not later than `to`, in seconds, at which the zone's clock is set.
pub(super) fn transition_to(zone: Tz, to: i64) -> Option<i64> {
    let spans = spans(zone);
    let index = spans.partition_point(|span| span.begin <= to).checked_sub(1)?;
    (index > 0).then(|| spans[index].begin)
}

/// The readings `first..end` that a span answers for.
struct Window {
    begin: i64,
    offset: i64,
    first: i64,
    end: i64,
}

impl Window {
    fn instant(&self, reading: i64) -> Option<DateTime<Utc>> {
        // A reading from the gap before the span becomes its first instant.
        DateTime::from_timestamp((reading - self.offset).max(self.begin), 0)
    }
}

/// A stretch of time with one offset from UTC, in seconds, up to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    begin: i64,
    offset: i64,
}

const DAY: i64 = 86_400;
/// Far enough for every instant of chrono, and small enough to add offsets to.
const END_OF_TIME: i64 = i64::MAX / 2;
/// 1899-12-01 and 2101-01-01, in seconds: from a month before the years that schedules know to a
/// year after the last of those that chrono-tz knows transitions of.
const KNOWN: Range<i64> = -2_211_667_200..4_133_980_800;
/// How far apart probes are. Two transitions that undo each other between two probes would go
/// unseen; the closest two of any zone are 167 hours apart (Recife, October 2000).
const STEP: i64 = 6 * DAY;

/// The spans of a zone, found when first asked for and kept.
fn spans(zone: Tz) -> &'static [Span] {
    static SPANS: [OnceLock<Box<[Span]>>; TZ_VARIANTS.len()] =
        [const { OnceLock::new() }; TZ_VARIANTS.len()];
    SPANS[zone as usize].get_or_init(|| find_spans(zone))
}

/// Finds the spans of a zone by probing: chrono-tz keeps its table of transitions to itself.
fn find_spans(zone: Tz) -> Box<[Span]> {
    probe(zone, KNOWN, STEP)
}

fn probe(zone: Tz, known: Range<i64>, step: i64) -> Box<[Span]> {
    let mut offset = offset_at(zone, known.start);
    let mut spans = vec![Span { begin: -END_OF_TIME, offset }];
    if zone == Tz::UTC {
        return spans.into();
    }
    let mut probe = known.start;
    while probe < known.end {
        let (mut same, mut other) = (probe, probe + step);
        if offset_at(zone, other) == offset {
            probe = other;
            continue;
        }
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            if offset_at(zone, middle) == offset {
                same = middle;
            } else {
                other = middle;
            }
        }
        offset = offset_at(zone, other);
        spans.push(Span { begin: other, offset });
        probe = other;
    }
    spans.into()
}

/// When the clocks of a zone are changed, and from and to which offset from UTC, in seconds.
#[cfg(feature = "testing")]
pub(crate) fn changes(zone: Tz) -> impl Iterator<Item = (DateTime<Utc>, i64, i64)> {
    spans(zone).windows(2).filter_map(|pair| {
        let [before, after] = pair else { return None };
        Some((DateTime::from_timestamp(after.begin, 0)?, before.offset, after.offset))
    })
}

fn offset_at(zone: Tz, t: i64) -> i64 {
    let utc = DateTime::from_timestamp(t, 0).unwrap_or_default().naive_utc();
    i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
}

/// The known zone whose name, or whose last part of a name, is most like `name`.
fn nearest_name(name: &str) -> &'static str {
    const FAR: usize = 3;
    // Long texts are not typing errors, and comparing them would take long.
    if name.len() > 64 {
        return "Europe/Berlin";
    }
    let wanted = name.trim().to_lowercase().replace(' ', "_");
    let distance = |known: &str| {
        let known = known.to_lowercase();
        let city = known.rsplit('/').next().unwrap_or(&known);
        edit_distance(&wanted, &known).min(edit_distance(&wanted, city))
    };
    TZ_VARIANTS
        .iter()
        .map(|zone| (distance(zone.name()), zone.name()))
        .filter(|&(distance, _)| distance < FAR && distance < wanted.len().max(1))
        .min_by_key(|&(distance, _)| distance)
        .map_or("Europe/Berlin", |(_, name)| name)
}

/// How many bytes must be inserted, removed or replaced to make `a` of `b`.
pub(super) fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new chrono-tz may bring closer transitions, or some that are later.
    #[test]
    fn probing_finds_every_transition() {
        let until_2200 = KNOWN.start..7_258_118_400;
        for zone in TZ_VARIANTS {
            let found = find_spans(zone);
            assert_eq!(found, probe(zone, until_2200.clone(), 2 * DAY), "{zone}");
            let closest = found.windows(2).skip(1).map(|pair| pair[1].begin - pair[0].begin).min();
            assert!(closest.is_none_or(|closest| closest > STEP), "{zone}");
        }
    }
}
