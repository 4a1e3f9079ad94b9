//! What is filled in when a job is added: starts of grids, zones, and bounds that count from then.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    IntoTimeZone, Trigger,
    bounds::Bounds,
    instant::{floor_millis, just_after, just_before, whole_millis},
    kinds::{Schedule as _, Search},
    limits::Limits,
    moment::{IntoMoment as _, Moment},
    search::Budget,
    wall_clock::ZoneRules,
};
use crate::{error::Error, zone::TimeZone};

/// How old a start may be that counts as now: what lies between a program's look at the clock and
/// the adding of a job.
const RECENT: TimeDelta = TimeDelta::seconds(1);

impl Trigger {
    /// The same trigger with everything filled in that depends on when a job is added: where the
    /// grid of an interval or the dates of a calendar interval start, what a delay counts from, the
    /// zone of what goes by a wall clock or by days, and the end that `times` amounts to. So it is
    /// for the members of a combination.
    ///
    /// # Errors
    ///
    /// [`is_invalid_trigger`](Error::is_invalid_trigger) if that is not possible.
    pub fn anchored(&self, now: DateTime<Utc>, zone: impl IntoTimeZone) -> Result<Trigger, Error> {
        let (now, zone) = (whole_millis(now)?, zone.into_time_zone()?);
        let mut anchored = self.clone();
        anchored.resolve_bounds(now, zone)?;
        anchored.kind.anchor(&mut anchored.start, now, zone)?;
        if anchored.limits.is_none() {
            return Ok(anchored);
        }
        let mut limits = anchored.limits().clone();
        if let Some(days) = &mut limits.days
            && days.zone().is_none()
            && !self.names_dates()
        {
            *days = Arc::new(days.in_tz(zone));
        }
        // An end that has passed may be earlier than a start that counts from now: bounds that the user
        // gave are refused if they contradict each other.
        let from = [anchored.start, limits.first, self.is_floating().then_some(now)];
        if let Some(end) = limits.end
            && from.into_iter().flatten().any(|from| end < from)
        {
            limits.end = None;
            limits.elapsed_end = Some(limits.elapsed_end.map_or(end, |known| known.min(end)));
        }
        limits.first =
            limits.first.filter(|&first| anchored.start.is_none_or(|start| start <= first));
        anchored = anchored.with_limits(limits.clone());
        if let Some(times) = limits.times
            && (limits.times_since.is_none() || limits.last.is_none())
        {
            let since = *limits.times_since.get_or_insert(anchored.start.unwrap_or(now));
            let last = anchored.nth(anchored.first_when_added(since)?, times)?;
            limits.last = last.into_iter().chain(limits.last).min();
            anchored = anchored.with_limits(limits);
        }
        Ok(anchored)
    }

    /// Whether its answers depend on when the job is added.
    pub(super) fn is_floating(&self) -> bool {
        self.has_open_bounds()
            || self.kind.is_grid() && self.start.is_none()
            || self.kind.is_floating()
    }

    /// Turns the open bounds into instants.
    fn resolve_bounds(&mut self, now: DateTime<Utc>, zone: TimeZone) -> Result<(), Error> {
        let is_immediate = match self.kind.immediate_mark() {
            Some(mark) if mark.stays => *mark.is_set && self.start.is_none(),
            Some(mark) => std::mem::take(mark.is_set),
            None => false,
        };
        if !is_immediate && !self.has_open_bounds() {
            return Ok(());
        }
        let mut limits = self.limits().clone();
        let open = std::mem::take(&mut limits.open);
        let rules = self.kind.zone_rules().copied().unwrap_or_default();
        let rules = ZoneRules { zone: rules.zone.or(Some(zone)), ..rules };
        let resolved = |moment: Option<Moment>, from| {
            moment.map(|moment| moment.resolve(from, rules)).transpose()
        };
        if let Some(start) = resolved(open.start, now)? {
            self.start = Some(whole_millis(start)?);
        }
        let first = open.first.or(is_immediate.then_some(Moment::NOW));
        if let Some(first) = resolved(first, now)? {
            limits.first = Some(whole_millis(first)?);
        }
        // A time of day is the next after the start.
        let base = self.start.or(limits.first).unwrap_or(now);
        let from = match open.end {
            Some(end) if !end.is_delay() => just_after(base).unwrap_or(base),
            _ => base,
        };
        if let Some(end) = resolved(open.end, from)?.map(floor_millis) {
            if open.end.is_some_and(Moment::is_delay) {
                limits.elapsed_end = Some(end);
            } else {
                limits.end = Some(end);
            }
        }
        *self = self.clone().with_limits(limits);
        // What counts from when the job is added contradicts nothing: it may come too late.
        let is_fixed = |moment: Option<Moment>| moment.is_none_or(Moment::is_fixed);
        let is_first_fixed = !is_immediate && is_fixed(open.first);
        self.check_bounds(is_fixed(open.start), is_first_fixed)?;
        self.start_grid_at_first();
        Ok(())
    }

    /// Makes the first fire the start of a grid that has none.
    pub(super) fn start_grid_at_first(&mut self) {
        let Some(first) = self.limits().first.filter(|_| self.start.is_none()) else { return };
        let Some(mark) = self.kind.immediate_mark() else { return };
        if mark.stays {
            *mark.is_set = true;
        }
        self.start = Some(first);
        if self.days().is_none() {
            let limits = Limits { first: None, ..self.limits().clone() };
            *self = self.clone().with_limits(limits);
        }
    }

    fn check_bounds(&self, with_start: bool, with_first: bool) -> Result<(), Error> {
        let Limits { open, first, .. } = *self.limits();
        let end = self.limits().until();
        let moment = |given: Option<Moment>, known: Option<DateTime<Utc>>| {
            given.or(known.and_then(|known| known.into_moment().ok()))
        };
        Bounds {
            start: moment(open.start, self.start).filter(|_| with_start),
            first: moment(open.first, first).filter(|_| with_first),
            end: moment(open.end, end),
        }
        .check()
    }

    /// The first fire time of a job that is added at `now`: as [`first`](Trigger::first), or the
    /// start of a grid, or a first fire that was set, if that is less than a second old.
    pub(crate) fn first_when_added(
        &self,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        match self.just_passed(now) {
            Some(passed) => Ok(Some(passed)),
            None => self.first(now),
        }
    }

    /// The start of a grid or a first fire that was set, if it is less than a second old and counts as
    /// now. For a combination it is one of its members', if the whole fires then.
    fn just_passed(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let start = self.start.filter(|_| self.kind.is_grid());
        let begins = self.limits().first.or(start);
        if let (None, Some(members)) = (begins, self.kind.members()) {
            let passed = members.triggers().filter_map(|member| member.just_passed(now));
            return passed.filter(|&passed| self.names(passed)).min();
        }
        let begins = begins.filter(|&begins| begins <= now && now - begins < RECENT)?;
        // Of a grid that is finer than that, it is not the last that has passed.
        (self.last_at_or_before(now).ok()? == Some(begins)).then_some(begins)
    }

    /// The first fire time not earlier than `now`; that of a date, even if it has passed.
    pub(crate) fn first(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        let next = self.next_after(just_before(now)?)?;
        if next.is_some() || !self.kind.fires_once() {
            return Ok(next);
        }
        let (from, until) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
        let search = Search { asked: now, from, until, start: None, days: None };
        let Some(fire) = self.kind.next(&search, &mut Budget::for_one())? else { return Ok(None) };
        Ok(self.last_at_or_before(fire)?.filter(|&last| last == fire))
    }
}
