//! What makes a trigger fire less often than its kind does: bounds, a number of times, days and hours.

use std::{num::NonZeroU64, sync::Arc};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{
    Trigger,
    bounds::Bounds,
    day_filter::DayFilter,
    kinds::{Kind, Schedule as _},
};
use crate::zone::TimeZone;

/// What makes a trigger fire less often than its kind does.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Limits {
    /// The bounds that wait for a zone or for when the job is added.
    #[serde(flatten)]
    pub(super) open: Bounds,
    /// A fire time before all others, which its kind need not name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) times: Option<NonZeroU64>,
    /// From when `times` are counted, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) times_since: Option<DateTime<Utc>>,
    /// The end that counts from when the job was added, or from its start: where that is elapsed time, so
    /// is the end, and moves with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) elapsed_end: Option<DateTime<Utc>>,
    /// The last fire time that `times` leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<DateTime<Utc>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) days: Option<Arc<DayFilter>>,
}

impl Limits {
    pub(super) const NONE: &Limits = &Limits {
        open: Bounds { start: None, first: None, end: None },
        first: None,
        end: None,
        times: None,
        times_since: None,
        elapsed_end: None,
        last: None,
        days: None,
    };

    pub(super) fn are_none(&self) -> bool {
        let Limits { open, first, end, times, times_since: _, elapsed_end, last, days } = self;
        open.is_empty()
            && first.is_none()
            && end.is_none()
            && times.is_none()
            && elapsed_end.is_none()
            && last.is_none()
            && days.is_none()
    }

    /// The last instant that the bounds allow, a number of times aside.
    pub(super) fn until(&self) -> Option<DateTime<Utc>> {
        [self.end, self.elapsed_end].into_iter().flatten().min()
    }
}

impl Trigger {
    pub(super) fn new(kind: Kind, limits: Limits) -> Trigger {
        Trigger { kind, start: None, limits: None }.with_limits(limits)
    }

    pub(super) fn limits(&self) -> &Limits {
        self.limits.as_deref().unwrap_or(Limits::NONE)
    }

    pub(super) fn with_limits(mut self, limits: Limits) -> Trigger {
        self.limits = (!limits.are_none()).then(|| Box::new(limits));
        self
    }

    /// Whether there are bounds that are not known before it has a zone or its job is added.
    pub(super) fn has_open_bounds(&self) -> bool {
        self.limits.as_ref().is_some_and(|limits| !limits.open.is_empty())
    }

    /// The end up to which a run for this fire time may start: that of the trigger, or of those members of
    /// a combination that name it. A number of times is no such end.
    pub(crate) fn end_for(&self, fire_time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let of_members = self.kind.end_for(fire_time);
        [self.limits().until(), of_members].into_iter().flatten().min()
    }

    pub(super) fn days(&self) -> Option<&Arc<DayFilter>> {
        self.limits().days.as_ref()
    }

    /// Whether its fire times are those of its kind, but for the bounds.
    pub(super) fn is_plain(&self) -> bool {
        self.days().is_none() && self.limits().first.is_none()
    }

    /// The days that pick from the dates that the trigger names, if it goes by a wall clock.
    pub(super) fn named_days(&self) -> Option<&DayFilter> {
        self.days().filter(|days| days.has_days() && self.names_dates()).map(|days| &**days)
    }

    /// The days that pick from the dates that a calendar shows at its fire times, if it does not.
    pub(super) fn shown_filter(&self) -> Option<&DayFilter> {
        let is_shown = |days: &&Arc<DayFilter>| days.between().is_some() || !self.names_dates();
        self.days().filter(is_shown).map(|days| &**days)
    }

    /// Whether its fire times are dates and times of day, which a gap may move.
    pub(super) fn names_dates(&self) -> bool {
        self.kind.zone_rules().is_some()
    }

    pub(super) fn without_days(&self) -> Trigger {
        self.clone().with_limits(Limits { days: None, ..self.limits().clone() })
    }

    /// The zone whose calendar says which day it is.
    pub(super) fn day_zone(&self) -> TimeZone {
        let own = self.kind.zone_rules().and_then(|rules| rules.zone);
        own.or_else(|| self.days()?.zone()).unwrap_or(TimeZone::UTC)
    }
}
