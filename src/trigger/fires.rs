//! The next and the last fire time of a trigger: those of its kind, within its bounds and on its days.

use chrono::{DateTime, Utc};

use super::{
    Trigger,
    instant::{add_millis, before, floor_millis, just_after, rfc3339},
    kinds::{Schedule as _, Search},
    search::{Budget, leapfrog},
};
use crate::{error::Error, zone::TimeZone};

impl Trigger {
    /// The first fire time strictly later than `t`, if it is not later than `hi`.
    pub(super) fn next_within(
        &self,
        t: DateTime<Utc>,
        hi: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        if self.has_open_bounds() || self.is_searched() && self.is_floating() {
            return self.anchored(t, TimeZone::UTC)?.next_within(t, hi, budget);
        }
        // Just before the start nothing has fired yet.
        let from = match self.start.and_then(|start| add_millis(start, -1)) {
            Some(before) if before > t => before,
            _ => t,
        };
        let hi = self.end().map_or(hi, |end| end.min(hi));
        if from >= hi {
            return Ok(None);
        }
        if let Some(first) = self.limits().first.filter(|&first| t < first) {
            return Ok(Some(first).filter(|&first| first <= hi));
        }
        let next = match self.shown_filter() {
            None => self.next_of_kind(t, from, hi, budget)?,
            Some(days) => {
                let Some(from) = just_after(from) else { return Ok(None) };
                let zone = self.day_zone();
                let next = leapfrog(2, from, budget, |turn, at, budget| {
                    let next = match turn {
                        0 => self.next_of_kind(before(at), before(at), hi, budget)?,
                        _ => days.at_or_after(zone, at, self.names_dates(), budget)?,
                    };
                    Ok(next.filter(|&next| next <= hi))
                });
                self.unless_never_allowed(next)?
            }
        };
        self.later(t, next.filter(|&next| next <= hi))
    }

    /// An answer to what follows `t`, if it does: a fire time that does not would come again and
    /// again.
    pub(super) fn later(
        &self,
        t: DateTime<Utc>,
        next: Option<DateTime<Utc>>,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        match next {
            Some(next) if next <= t => Err(self.disordered(next, "follows", t, "a later")),
            next => Ok(next),
        }
    }

    #[cold]
    fn disordered(
        &self,
        answer: DateTime<Utc>,
        asked: &str,
        t: DateTime<Utc>,
        right: &str,
    ) -> Error {
        Error::invalid_trigger(format!(
            "the trigger `{self}` answered {} when asked for what {asked} {}: it must answer with {right} instant",
            rfc3339(answer),
            rfc3339(t)
        ))
    }

    fn next_of_kind(
        &self,
        asked: DateTime<Utc>,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        self.kind.next(&self.search(asked, from, until), budget)
    }

    fn search(
        &self,
        asked: DateTime<Utc>,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Search<'_> {
        Search { asked, from, until, start: self.start, days: self.named_days() }
    }

    /// The last fire time that is not later than `t`, if it is not earlier than `lo`.
    pub(super) fn last_within(
        &self,
        t: DateTime<Utc>,
        lo: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        if self.has_open_bounds() || self.is_searched() && self.is_floating() {
            return self.anchored(t, TimeZone::UTC)?.last_within(t, lo, budget);
        }
        let to = floor_millis(self.end().map_or(t, |end| t.min(end)));
        let lo = self.start.map_or(lo, |start| start.max(lo));
        if to < lo {
            return Ok(None);
        }
        let first = self.limits().first;
        if first.is_some_and(|first| to < first) {
            return Ok(None);
        }
        // What comes before the first fire does not count.
        let (first, lo) =
            (first.filter(|&first| first >= lo), first.map_or(lo, |first| first.max(lo)));
        let last = match self.shown_filter() {
            None => self.last_of_kind(t, to, lo, budget)?,
            Some(days) => {
                let Some(to) = just_after(to).map(before) else { return Ok(None) };
                let zone = self.day_zone();
                let last = leapfrog(2, to, budget, |turn, at, budget| {
                    let last = match turn {
                        0 => self.last_of_kind(at, at, lo, budget)?,
                        _ => days.at_or_before(zone, at, self.names_dates(), budget)?,
                    };
                    Ok(last.filter(|&last| last >= lo))
                });
                self.unless_never_allowed(last)?
            }
        };
        match last.filter(|&last| last >= lo).or(first) {
            Some(last) if last > t => {
                Err(self.disordered(last, "is not later than", t, "no later"))
            }
            last => Ok(last),
        }
    }

    fn last_of_kind(
        &self,
        asked: DateTime<Utc>,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        self.kind.last(&self.search(asked, from, until), budget)
    }

    /// Nothing, instead of an exhausted search, if it is certain that days and fire times exclude
    /// each other.
    fn unless_never_allowed(
        &self,
        found: Result<Option<DateTime<Utc>>, Error>,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let is_never = || {
            let (grid, days) = self.kind.grid(self.start).zip(self.days())?;
            Some(days.never_meets(self.day_zone(), grid))
        };
        match found {
            Err(error) if error.is_search_exhausted() && is_never() == Some(true) => Ok(None),
            found => found,
        }
    }

    pub(super) fn explained(&self, error: Error, t: DateTime<Utc>) -> Error {
        if !error.is_search_exhausted() {
            return error;
        }
        if let Some(reason) = self.why_never() {
            return Error::search_exhausted(format!("`{self}` hardly ever fires: {reason}"));
        }
        let remedy = match self.days() {
            Some(_) => "allow more days or hours, or fire more often",
            None => "combine what agrees more often",
        };
        Error::search_exhausted(format!(
            "the search from {} for a fire time of `{self}` ran out of its budget: there may be one further off or none, so {remedy}",
            rfc3339(t)
        ))
    }

    /// Why it has no fire times, and what would give it some, if that is known.
    pub(crate) fn why_never(&self) -> Option<String> {
        self.kind.why_never()
    }

    /// Whether its fire times are searched for, so that the search may run out of its budget.
    pub(super) fn is_searched(&self) -> bool {
        self.days().is_some() || self.kind.members().is_some()
    }

    /// Whether it names this fire time.
    pub(super) fn names(&self, t: DateTime<Utc>) -> bool {
        self.last_at_or_before(t).is_ok_and(|last| last == Some(t))
    }
}
