//! A zone as a table: stretches of time with one offset from UTC.

use std::ops::Range;

use jiff::{Timestamp, tz};

use super::DAY;

/// A stretch of time with one offset from UTC, in seconds, up to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) begin: i64,
    pub(crate) offset: i64,
}

/// Far enough for every instant of chrono, and small enough to add offsets to.
pub(crate) const END_OF_TIME: i64 = i64::MAX / 2;
/// 1899-12-01 and 2201-01-01, in seconds: a little more than the years that schedules know.
const KNOWN: Range<i64> = -2_211_667_200..7_289_654_400;

/// The spans of a zone that never changes its clock.
pub(super) fn constant(offset: i64) -> Box<[Span]> {
    Box::new([Span { begin: -END_OF_TIME, offset }])
}

/// The spans of a zone, from TZif data and the POSIX rule at its end; nothing if that makes no sense.
pub(super) fn read(tzif: &[u8]) -> Option<Box<[Span]>> {
    let zone = tz::TimeZone::tzif("", tzif).ok()?;
    let start = Timestamp::from_second(KNOWN.start).ok()?;
    let mut offset = i64::from(zone.to_offset(start).seconds());
    let mut spans = vec![Span { begin: -END_OF_TIME, offset }];
    let transitions = zone
        .following(start)
        .take_while(|transition| transition.timestamp().as_second() < KNOWN.end);
    for transition in transitions {
        let to = i64::from(transition.offset().seconds());
        // Some only change what the offset is called.
        if to != offset {
            offset = to;
            spans.push(Span { begin: transition.timestamp().as_second(), offset });
        }
    }
    let sane = spans.iter().all(|span| span.offset.abs() < DAY)
        // A span lasts longer than the clock is set forward or back at its ends, so that looking at
        // neighbours is enough.
        && spans.windows(3).all(|w| {
            let lasts = w[2].begin - w[1].begin;
            lasts > (w[1].offset - w[0].offset).abs() + (w[2].offset - w[1].offset).abs()
        });
    sane.then(|| spans.into())
}

/// The index of the span that holds an instant.
#[inline]
pub(crate) fn at(spans: &[Span], t: i64) -> usize {
    // The first span begins before every instant.
    spans.partition_point(|span| span.begin <= t).saturating_sub(1)
}

/// The offsets by which a wall-clock reading is shown, in seconds since a clock showed 1970-01-01
/// 00:00:00: none in a gap, two in a fold, the earlier one first.
pub(super) fn showing(spans: &[Span], reading: i64) -> (Option<i64>, Option<i64>) {
    // No zone is a day from UTC.
    let near = at(spans, reading - DAY)..=at(spans, reading + DAY);
    let mut shown = near.filter_map(|index| {
        let Span { begin, offset } = spans[index];
        let end = spans.get(index + 1).map_or(END_OF_TIME, |next| next.begin);
        (begin..end).contains(&(reading - offset)).then_some(offset)
    });
    (shown.next(), shown.next())
}
