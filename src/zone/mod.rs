//! Time zones: a name, and the offsets from UTC that the newest data to be had gives it.
//!
//! The rules come from the machine's zoneinfo or from the copy that is compiled in, whichever is newer
//! ([`data`]), and may be replaced while the program runs: what is asked next goes by the new ones.

mod data;
mod hints;
mod local;
mod spans;

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroU16,
    str::FromStr,
    sync::{
        OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use chrono::{DateTime, FixedOffset, MappedLocalTime, NaiveDate, NaiveDateTime, Offset, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::data::{TimeZoneData, reload_time_zone_data, time_zone_data};
pub(crate) use self::{
    hints::{edit_distance, is_like_a_zone},
    spans::{END_OF_TIME, Span, at as span_at},
};
use crate::error::Error;

/// A time zone, by its IANA name.
///
/// It takes two bytes. Its rules are the newest that can be had ([`time_zone_data`]), they do
/// not end, and a service that runs for long follows an update of the machine's zoneinfo. They are
/// known from 1900 on, and past 2200 the last offset stays.
///
/// It is a [`chrono::TimeZone`], so instants can be shown in it:
///
/// ```
/// use chrono::{DateTime, Utc};
/// use punctual::TimeZone;
///
/// let vancouver: TimeZone = "America/Vancouver".parse()?;
/// let instant: DateTime<Utc> = "2026-12-01T16:00:00Z".parse()?;
/// // It has no daylight saving any more, but chrono-tz 0.10.4 does not know that.
/// assert_eq!(instant.with_timezone(&vancouver).to_string(), "2026-12-01 09:00:00 -07:00");
///
/// assert_eq!(vancouver, chrono_tz::America::Vancouver.into());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeZone(NonZeroU16);

/// A zone of this process: there is one for each name.
struct Zone {
    name: Box<str>,
    rules: Rules,
}

/// The rules of a zone, and those that replaced them.
///
/// Rules are never freed, since anybody may be reading them: a chain costs a reader one look, and
/// grows by some kilobytes when an update of the data changes this zone, a few times a year at most.
struct Rules {
    spans: Box<[Span]>,
    newer: OnceLock<Box<Rules>>,
}

/// How many zones a process may use. The data has some 600 names, and only names that it has get in.
const MOST: usize = 2048;

/// The zones in use, UTC first.
static ZONES: [OnceLock<Zone>; MOST] = [const { OnceLock::new() }; MOST];

/// Where in [`ZONES`] they are, by name.
static NAMED: RwLock<BTreeMap<&'static str, TimeZone>> = RwLock::new(BTreeMap::new());

impl TimeZone {
    /// Coordinated universal time.
    pub const UTC: TimeZone = TimeZone(NonZeroU16::MIN);

    /// The zone of the machine, as `TZ` or its settings name it; UTC if neither is set.
    ///
    /// It is looked up at each call. The text `"local"` means it wherever a zone is named.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if the machine's zone has no IANA name.
    pub fn local() -> Result<TimeZone, Error> {
        local::find()
    }

    /// The IANA name.
    pub fn name(self) -> &'static str {
        &self.zone().name
    }

    /// The offset from UTC at an instant.
    pub fn offset_at(self, instant: DateTime<Utc>) -> FixedOffset {
        let spans = self.spans();
        fixed(spans[spans::at(spans, instant.timestamp())].offset)
    }

    /// The zone of this name, in any case, if there is one.
    fn named(name: &str) -> Option<TimeZone> {
        if name == TimeZone::UTC.name() {
            return Some(TimeZone::UTC);
        }
        if let Some(&zone) = NAMED.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Some(zone);
        }
        let spelling = data::spelling(name)?;
        if spelling != name {
            return TimeZone::named(&spelling);
        }
        let spans = data::load(name)?;
        let mut named = NAMED.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&zone) = named.get(name) {
            return Some(zone);
        }
        // The first is UTC.
        let index = named.len() + 1;
        let zone = ZONES.get(index)?.get_or_init(|| Zone::new(name, spans));
        let handle = TimeZone(NonZeroU16::MIN.checked_add(u16::try_from(index).ok()?)?);
        named.insert(&zone.name, handle);
        Some(handle)
    }

    fn zone(self) -> &'static Zone {
        // Only UTC is there before it was asked for by name.
        ZONES[usize::from(self.0.get()) - 1].get_or_init(|| Zone::new("UTC", spans::constant(0)))
    }

    /// The stretches of constant offset that the zone has by the newest rules, in order; the first
    /// begins before every instant.
    #[inline]
    pub(crate) fn spans(self) -> &'static [Span] {
        &self.zone().rules.newest().spans
    }
}

impl Zone {
    fn new(name: &str, spans: Box<[Span]>) -> Zone {
        Zone { name: name.into(), rules: Rules { spans, newer: OnceLock::new() } }
    }
}

impl Rules {
    #[inline]
    fn newest(&self) -> &Rules {
        let mut rules = self;
        while let Some(newer) = rules.newer.get() {
            rules = newer;
        }
        rules
    }
}

/// Counts the updates of the rules of zones.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// A number that changes whenever the rules of some zone in use did.
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Acquire)
}

/// Reads the rules of all zones in use anew; says whether any of them changed.
fn reload() -> bool {
    let zones: Vec<TimeZone> =
        NAMED.read().unwrap_or_else(PoisonError::into_inner).values().copied().collect();
    let mut changed = false;
    for zone in zones {
        // A zone whose file can't be read now, for example while it is replaced, keeps its rules.
        let Some(spans) = data::load_again(zone.name()) else { continue };
        let newest = zone.zone().rules.newest();
        if spans != newest.spans {
            let newer = Rules { spans, newer: OnceLock::new() };
            // Whoever else reads them anew at this moment has the same.
            changed |= newest.newer.set(Box::new(newer)).is_ok();
        }
    }
    if changed {
        GENERATION.fetch_add(1, Ordering::Release);
    }
    changed
}

/// What names a time zone: a [`TimeZone`], a [`chrono_tz::Tz`], or the IANA name of one.
///
/// The text `"local"` is the zone of the machine, [`TimeZone::local`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name a time zone",
    note = "use a `punctual::TimeZone`, a `chrono_tz::Tz`, or an IANA name such as \"Europe/Berlin\""
)]
pub trait IntoTimeZone {
    /// Looks the zone up.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if no zone has this name. The case of its
    /// letters does not matter: `europe/berlin` is [`name`](TimeZone::name)d `Europe/Berlin`.
    fn into_time_zone(self) -> Result<TimeZone, Error>;
}

impl IntoTimeZone for TimeZone {
    fn into_time_zone(self) -> Result<TimeZone, Error> {
        Ok(self)
    }
}

impl IntoTimeZone for Tz {
    fn into_time_zone(self) -> Result<TimeZone, Error> {
        Ok(self.into())
    }
}

impl IntoTimeZone for &str {
    fn into_time_zone(self) -> Result<TimeZone, Error> {
        match self {
            "local" => TimeZone::local(),
            name => TimeZone::named(name).ok_or_else(|| hints::unknown(name)),
        }
    }
}

impl IntoTimeZone for String {
    fn into_time_zone(self) -> Result<TimeZone, Error> {
        self.as_str().into_time_zone()
    }
}

impl FromStr for TimeZone {
    type Err = Error;

    fn from_str(name: &str) -> Result<TimeZone, Error> {
        name.into_time_zone()
    }
}

/// By name, so with the newest rules instead of those compiled into `chrono-tz`.
impl From<Tz> for TimeZone {
    fn from(zone: Tz) -> TimeZone {
        // A test looks each of them up.
        TimeZone::named(zone.name()).unwrap_or(TimeZone::UTC)
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for TimeZone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for TimeZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TimeZone, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The offset from UTC of a [`TimeZone`] at some instant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TimeZoneOffset {
    zone: TimeZone,
    offset: FixedOffset,
}

impl Offset for TimeZoneOffset {
    fn fix(&self) -> FixedOffset {
        self.offset
    }
}

impl fmt::Display for TimeZoneOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.offset.fmt(f)
    }
}

impl fmt::Debug for TimeZoneOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.offset.fmt(f)
    }
}

impl chrono::TimeZone for TimeZone {
    type Offset = TimeZoneOffset;

    fn from_offset(offset: &TimeZoneOffset) -> TimeZone {
        offset.zone
    }

    fn offset_from_local_date(&self, local: &NaiveDate) -> MappedLocalTime<TimeZoneOffset> {
        self.offset_from_local_datetime(&local.and_time(chrono::NaiveTime::MIN))
    }

    fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> MappedLocalTime<TimeZoneOffset> {
        let reading = local.and_utc().timestamp();
        let of = |offset: i64| TimeZoneOffset { zone: *self, offset: fixed(offset) };
        match spans::showing(self.spans(), reading) {
            (None, _) => MappedLocalTime::None,
            (Some(offset), None) => MappedLocalTime::Single(of(offset)),
            (Some(first), Some(last)) => MappedLocalTime::Ambiguous(of(first), of(last)),
        }
    }

    fn offset_from_utc_date(&self, utc: &NaiveDate) -> TimeZoneOffset {
        self.offset_from_utc_datetime(&utc.and_time(chrono::NaiveTime::MIN))
    }

    fn offset_from_utc_datetime(&self, utc: &NaiveDateTime) -> TimeZoneOffset {
        TimeZoneOffset { zone: *self, offset: self.offset_at(utc.and_utc()) }
    }
}

fn fixed(seconds: i64) -> FixedOffset {
    let offset = i32::try_from(seconds).ok().and_then(FixedOffset::east_opt);
    // Offsets of a day and more are refused where rules are read.
    offset.unwrap_or_else(|| Offset::fix(&Utc))
}

/// The seconds of a day.
pub(crate) const DAY: i64 = 86_400;

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, TimeZone as _};
    use chrono_tz::TZ_VARIANTS;

    use super::*;

    #[test]
    fn every_name_of_chrono_tz_is_a_zone() {
        for zone in TZ_VARIANTS {
            assert_eq!(TimeZone::from(zone).name(), zone.name());
        }
    }

    #[test]
    fn each_name_is_one_zone() {
        let berlin: TimeZone = "Europe/Berlin".parse().unwrap();
        assert_eq!(berlin, Tz::Europe__Berlin.into());
        assert_eq!(TimeZone::UTC, "UTC".parse().unwrap());
        assert_ne!(TimeZone::UTC, "Etc/UTC".parse().unwrap());
    }

    #[test]
    fn a_name_in_another_case_is_the_same_zone() {
        for (said, name) in [
            ("europe/berlin", "Europe/Berlin"),
            ("AMERICA/NEW_YORK", "America/New_York"),
            ("utc", "UTC"),
            ("etc/gmt+5", "Etc/GMT+5"),
            ("est5edt", "EST5EDT"),
        ] {
            let zone: TimeZone = said.parse().unwrap();
            assert_eq!((zone.name(), zone), (name, name.parse().unwrap()));
        }
        assert_eq!("LOCAL".parse::<TimeZone>().is_ok(), "LocalTime".parse::<TimeZone>().is_ok());
        assert!("LocalTime".parse::<TimeZone>().is_err());
    }

    #[test]
    fn a_local_time_is_shown_never_once_or_twice() {
        let berlin: TimeZone = "Europe/Berlin".parse().unwrap();
        let at = |month, day, hour| {
            let local = NaiveDate::from_ymd_opt(2026, month, day).unwrap();
            let shown = berlin.from_local_datetime(&local.and_hms_opt(hour, 30, 0).unwrap());
            let utc = |t: DateTime<TimeZone>| t.to_utc().format("%H:%M").to_string();
            (shown.earliest().map(utc), shown.latest().map(utc))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(at(7, 1, 2), (some("00:30"), some("00:30")));
        assert_eq!(at(3, 29, 2), (None, None));
        assert_eq!(at(10, 25, 2), (some("00:30"), some("01:30")));
    }

    /// What the bundled data knows and chrono-tz 0.10.4 does not.
    #[test]
    fn the_hour_is_right_in_december_2026() {
        let instant: DateTime<Utc> = "2026-12-01T12:00:00Z".parse().unwrap();
        let offsets = [
            ("America/Vancouver", -7),
            ("Canada/Pacific", -7),
            ("America/Edmonton", -6),
            ("America/Yellowknife", -6),
            ("America/Inuvik", -6),
            ("Canada/Mountain", -6),
            ("America/Winnipeg", -5),
            ("America/Rainy_River", -5),
            ("Canada/Central", -5),
            ("America/Havana", -4),
            ("Cuba", -4),
            ("Africa/Casablanca", 0),
            ("Africa/El_Aaiun", 0),
        ];
        for (name, hours) in offsets {
            let zone: TimeZone = name.parse().unwrap();
            assert_eq!(zone.offset_at(instant), fixed(hours * 3600), "{name}");
        }
    }

    #[test]
    fn rules_do_not_end_in_2099() {
        let berlin: TimeZone = "Europe/Berlin".parse().unwrap();
        let summer = "2199-07-01T00:00:00Z".parse().unwrap();
        assert_eq!(berlin.offset_at(summer), fixed(2 * 3600));
        assert_eq!(berlin.offset_at(summer + TimeDelta::days(150)), fixed(3600));
    }
}
