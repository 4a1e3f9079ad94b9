//! When a job fires: pure functions from an instant to the next fire time.
//!
//! | constructor | fires |
//! |---|---|
//! | [`every`] | on a grid of elapsed time, at random distances, or on days that are said in [words](Words) |
//! | [`at`], [`after`], [`now`] | once |
//! | [`cron`] | when the wall clock of a zone matches a crontab text |
//! | [`cron_fields`] | when the wall clock of a zone matches fields given by name |
//! | [`calendar_interval`] | every so many years, months, weeks and days, at a time of day |
//! | [`and`], [`or`] | at the instants that all of several triggers name, or any of them |
//! | [`custom`] | whenever a type of your own says |
//! | [`after_success`], [`after_failure`], [`after_any`] | never: its job runs after the runs of another |
//!
//! Each returns a [`Build`], which takes bounds (`starting_at`, `until`, `times`), a first fire
//! (`first_at`, `immediately`), days (`only`, `except`), hours (`between`) and what its kind has
//! besides. Mistakes surface when the trigger is used: at `.await?` of an `add`, or at
//! [`IntoTrigger::into_trigger`]. A text may say all of that as well: see [`IntoTrigger`].
//!
//! A [`Trigger`] is data: it can be compared, printed and serialized. It is stateless, so the same
//! question always has the same answer. Fire times are whole milliseconds.
//!
//! # Daylight saving
//!
//! Intervals, random ones and dates are elapsed time, or instants: no clock changes them. All
//! others go by the wall clock of a zone, and have [`gap`](Build::gap) and [`fold`](Build::fold) to
//! choose what happens when it is set forward or back. A *fixed-time* trigger is a timetable, and a
//! cron pattern whose minute and hour fields both do not start with `*`. In 2026:
//!
//! | | fixed-time, as `30 2 * * *` | any other, as `*/30 * * * *` |
//! |---|---|---|
//! | Berlin, 03-29: from 02:00 CET to 03:00 CEST | 02:30 fires at 03:00 CEST ([`Gap::Next`]) | 01:30 CET, 03:00 CEST ([`Gap::Skip`]) |
//! | Berlin, 10-25: from 03:00 CEST to 02:00 CET | 02:30 CEST ([`Fold::First`]) | 02:00, 02:30 CEST, 02:00, 02:30 CET ([`Fold::Both`]) |
//! | New York, 03-08: from 02:00 EST to 03:00 EDT | 02:30 fires at 03:00 EDT | 01:30 EST, 03:00 EDT |
//! | New York, 11-01: from 02:00 EDT to 01:00 EST | 02:30 EST, which is shown once | 01:00, 01:30 EDT, 01:00, 01:30 EST |
//!
//! [`Gap`] and [`Fold`] have the tables for each choice. The rules of zones are the newest to be had,
//! the machine's or those compiled in: see [`time_zone_data`](crate::time_zone_data).
//!
//! # Serialized form
//!
//! Stores keep triggers as JSON, which stays readable by later versions. `"type"` says the kind:
//!
//! | kind | example |
//! |---|---|
//! | [`Date`] | `{"type":"date","at":"2026-11-20T12:00:00Z"}`, with another [`Moment`], or `{"type":"date","after_ms":10000}` |
//! | [`Interval`] | `{"type":"interval","period_ms":90000}`, with `"immediate":true` |
//! | [`Random`] | `{"type":"random","min_ms":300000,"max_ms":600000}`, with `"immediate":true`, `"seed":0` |
//! | [`Timetable`] | `{"type":"timetable","words":"every monday at 10:30"}`, with `"from":"2026-11-23"` |
//! | [`Cron`] | `{"type":"cron","expression":"30 8 * * MON-FRI"}`, with `"dom_and_dow":true` |
//! | [`CronFields`] | `{"type":"cron_fields","day":"3rd fri","hour":"3"}` |
//! | [`CalendarInterval`] | `{"type":"calendar_interval","months":1,"time":"09:30:00"}`, with `"start_date":"2026-01-31"` |
//! | [`And`], [`Or`] | `{"type":"or","triggers":[…]}` |
//! | [`Follow`] | `{"type":"follow","job":"extract","on":"success"}`, or `"failure"` or `"any"`; `"jobs":["extract","load"]` |
//! | [`Custom`] | none: it lives in memory only |
//!
//! Those that go by a wall clock have `"zone":"Europe/Berlin"`, `"gap":"next"` or `"skip"`, and
//! `"fold":"first"`, `"last"` or `"both"` besides; all have `"start"`, `"first"` and `"end"`, which
//! are instants, or the texts of other [`Moment`]s until a job is added; `"elapsed_end"`, the instant
//! that an end amounts to which counts from when the job is added; `"times"`, and `"times_since"` and
//! `"last"`, from when they are counted and which instant is the last of them; `"only"` and
//! `"except"`, which are [`Days`], `"between":["10:00","12:00"]`, and `"day_zone"`, whose days and
//! hours those are, once a job of a trigger without a zone of its own is added. What was not
//! said is left out. A key that is none of these is an error, as is a value that the builders would
//! refuse.

mod anchor;
mod bounds;
mod build;
mod check;
mod correct;
mod count;
mod day_filter;
mod days;
mod fires;
mod instant;
mod kinds;
mod limits;
mod moment;
mod once;
mod pasted;
mod period;
mod quote;
mod search;
mod serialized;
#[cfg(test)]
mod tests;
mod text;
mod time_of_day;
mod tokens;
mod upcoming;
mod wall_clock;
mod weekdays;
mod window;
mod words;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

#[cfg(feature = "testing")]
pub(crate) use self::wall_clock::changes;
pub use self::{
    build::{
        Build, Count, Every, IntoTrigger, IntoTriggers, OnDays, after, after_all, after_any,
        after_failure, after_success, and, at, calendar_interval, cron, cron_fields, custom, every,
        now, or,
    },
    days::{Days, IntoDays},
    kinds::{
        And, CalendarInterval, Cron, CronFields, Custom, CustomTrigger, Date, Follow, FollowOn,
        Interval, Kind, Or, Random, Timetable,
    },
    moment::{IntoDelay, IntoMoment, Moment},
    time_of_day::IntoTimeOfDay,
    upcoming::Upcoming,
    wall_clock::{Fold, Gap, InZone},
    words::Words,
};
use self::{instant::floor_millis, limits::Limits, search::Budget, serialized::TriggerRepr};
pub(crate) use self::{instant::rfc3339, text::Short};
use crate::error::Error;
pub use crate::zone::IntoTimeZone;

/// When a job fires.
///
/// Made by the functions of this [module](self). Bounds are inclusive. What depends on when a job
/// is added (where an interval's grid starts, what `after` counts from, the default zone) is filled
/// in by [`anchored`](Trigger::anchored), which `add` calls.
// More than forty methods: each question about a trigger is one, in the file of that question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "TriggerRepr")]
pub struct Trigger {
    #[serde(flatten)]
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<DateTime<Utc>>,
    /// In a box, since few triggers have any and all take the room.
    #[serde(flatten)]
    limits: Option<Box<Limits>>,
}

impl Trigger {
    /// What the trigger goes by.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The first instant at which the trigger may fire, if it is known: a start that depends on a
    /// zone, or on when the job is added, is once the trigger is [anchored](Trigger::anchored).
    pub fn start(&self) -> Option<DateTime<Utc>> {
        self.start
    }

    /// The last instant at which the trigger may fire, if it is known, as [`start`](Trigger::start).
    pub fn end(&self) -> Option<DateTime<Utc>> {
        let limits = self.limits.as_deref()?;
        [limits.until(), limits.last].into_iter().flatten().min()
    }

    /// The first fire time strictly later than `t`.
    ///
    /// A trigger that has not been [anchored](Trigger::anchored) counts from `t`: an interval
    /// without a start answers `t` plus one period.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if a custom trigger broke its rules;
    /// [`is_search_exhausted`](Error::is_search_exhausted) if triggers that are combined, or days
    /// that are left out, made the search too long. Then there may be a fire time further off.
    pub fn next_after(&self, t: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        // Fire times are whole milliseconds.
        self.next_within(floor_millis(t), DateTime::<Utc>::MAX_UTC, &mut Budget::for_one())
            .map_err(|error| self.explained(error, t))
    }

    /// The last fire time that is not later than `t`.
    ///
    /// This is what makes catching up cost the same, however long the outage.
    ///
    /// # Errors
    ///
    /// As [`next_after`](Trigger::next_after).
    pub fn last_at_or_before(&self, t: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        self.last_within(floor_millis(t), DateTime::<Utc>::MIN_UTC, &mut Budget::for_one())
            .map_err(|error| self.explained(error, t))
    }

    /// The job whose runs it follows, if it has no fire times of its own.
    pub(crate) fn follow(&self) -> Option<&Follow> {
        match &self.kind {
            Kind::Follow(follow) => Some(follow),
            _ => None,
        }
    }
}
