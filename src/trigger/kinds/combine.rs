//! Fire times of several triggers: those that all of them name, and those that any does.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Kind,
    schedule::{Schedule, Search},
};
use crate::{
    error::Error,
    trigger::{
        Trigger,
        day_filter::DayFilter,
        instant::{before, just_after, rfc3339},
        search::{Budget, Grid, leapfrog},
        wall_clock::{self, ClockTimes},
    },
    zone::{TimeZone, generation},
};

/// A trigger that fires at the instants that all of its members name; made by
/// [`and`](crate::trigger::and).
///
/// Intervals are combined by arithmetic, to the millisecond: every 6 minutes and every 10 minutes
/// from the same start are every 30 minutes, and grids that never meet have no fire time. The
/// others are searched one after the other, from the fire time of one to the next of another,
/// until all agree. The start, end and days of each member hold, and so do those of the whole.
///
/// # Limits
///
/// A search takes a millisecond at most. If it did not find an instant by then, nor that there is
/// none, that is an [error](Error::is_search_exhausted) of its own and not the end of the trigger.
/// It finds that there is none if intervals, times of day (in one zone) or weekdays exclude each
/// other, or if a member ends, as wall-clock triggers do with the year 2199.
///
/// There are 32 triggers at most, in all, and 8 levels of them.
///
/// # Serialized form
///
/// ```
/// use std::time::Duration;
/// use punctual::trigger::{IntoTrigger, Trigger, and, cron, every};
///
/// let trigger = and((cron("0 9 * * *"), every(Duration::from_secs(86_400)))).into_trigger()?;
/// let json = concat!(
///     r#"{"type":"and","triggers":[{"type":"cron","expression":"0 9 * * *"},"#,
///     r#"{"type":"interval","period_ms":86400000}]}"#,
/// );
/// assert_eq!(serde_json::to_string(&trigger)?, json);
/// assert_eq!(serde_json::from_str::<Trigger>(json)?, trigger);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Repr", into = "Repr")]
pub struct And(Arc<Conjunction>);

/// A trigger that fires at each instant that any of its members names, once; made by
/// [`or`](crate::trigger::or).
///
/// The start, end and days of each member hold, and so do those of the whole. The first fire time
/// is not earlier than when the job is added: a date that had passed by then does not count. A
/// member's [`first_at`](crate::trigger::Build::first_at) or start of a grid that is less than a second old
/// counts as now.
///
/// There are 32 triggers at most, in all, and 8 levels of them.
///
/// # Serialized form
///
/// That of [`And`], with the type `"or"`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Repr", into = "Repr")]
pub struct Or(Arc<Members>);

impl And {
    pub(in crate::trigger) fn new(triggers: Vec<Trigger>) -> Result<And, Error> {
        Ok(And::with_members(Members::new(triggers)?))
    }

    /// The triggers that must agree.
    pub fn triggers(&self) -> impl ExactSizeIterator<Item = &Trigger> {
        self.0.members.triggers()
    }

    fn with_members(members: Members) -> And {
        And(Arc::new(Conjunction::new(members)))
    }

    fn change(&mut self, change: impl FnOnce(&mut Members)) {
        let mut members = self.0.members.clone();
        change(&mut members);
        *self = And::with_members(members);
    }
}

impl Schedule for And {
    fn next(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let from = search.from.max(self.0.lo.map_or(search.from, before));
        self.0.next_after(from, search.until.min(self.0.hi), budget)
    }

    fn last(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let until = search.until.max(self.0.lo.unwrap_or(search.until));
        self.0.last_at_or_before(search.from.min(self.0.hi), until, budget)
    }

    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }

    fn description(&self) -> String {
        format!("When all of these agree: {}", self.0.members.descriptions())
    }

    fn anchor(
        &mut self,
        _start: &mut Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        zone: TimeZone,
    ) -> Result<(), Error> {
        *self = And::with_members(self.0.members.anchored(now, zone)?);
        Ok(())
    }

    fn is_floating(&self) -> bool {
        self.0.members.is_floating()
    }

    fn is_elapsed_time(&self) -> bool {
        self.0.members.any_is_elapsed_time()
    }

    fn shift(&mut self, by: TimeDelta, _start: Option<DateTime<Utc>>) {
        self.change(|members| members.shift(by));
    }

    /// The grid that the whole of it is, if all members are intervals.
    fn grid(&self, _start: Option<DateTime<Utc>>) -> Option<Grid> {
        match (self.0.grid, &self.0.parts[..]) {
            (Meeting::On(grid), []) => Some(grid),
            _ => None,
        }
    }

    fn end_for(&self, fire_time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.triggers().filter_map(|it| it.end_for(fire_time)).min()
    }

    /// Why an interval and a trigger that goes by a wall clock never agree, if they do not.
    fn why_never(&self) -> Option<String> {
        let is_interval = |trigger: &&Trigger| matches!(trigger.kind, Kind::Interval(_));
        let interval = self.triggers().find(is_interval)?;
        let clock = self.triggers().find(|trigger| is_wall_clock(trigger))?;
        let start = interval.start()?;
        let grid = interval.kind.grid(Some(start))?;
        let is_second_of = |(_, times): (_, ClockTimes)| {
            grid.hits(60_000, 0, |millis| times.seconds >> (millis / 1000) & 1 != 0)
        };
        let beside = if !grid.has_whole_seconds() {
            "the whole seconds"
        } else if !times_of(clock).is_none_or(is_second_of) {
            "the seconds of the minute"
        } else if self.0.conflict() == Conflict::TimesOfDay {
            "the times of day"
        } else {
            return None;
        };
        let fire = clock.next_after(before(start)).ok()??;
        Some(format!(
            "the grid of `{interval}` lies beside {beside} at which `{clock}` fires: start the interval at one of those, as with `starting_at(\"{}\")`",
            rfc3339(fire)
        ))
    }
}

impl Kind {
    /// The members of a combination.
    pub(in crate::trigger) fn members(&self) -> Option<&Members> {
        match self {
            Kind::And(and) => Some(&and.0.members),
            Kind::Or(or) => Some(&or.0),
            _ => None,
        }
    }

    /// Changes the members of a combination.
    pub(in crate::trigger) fn change_members(&mut self, change: impl FnOnce(&mut Members)) {
        match self {
            Kind::And(and) => and.change(change),
            Kind::Or(or) => change(Arc::make_mut(&mut or.0)),
            _ => {}
        }
    }
}

impl Or {
    pub(in crate::trigger) fn new(triggers: Vec<Trigger>) -> Result<Or, Error> {
        Ok(Or(Arc::new(Members::new(triggers)?)))
    }

    /// The triggers of which any may fire.
    pub fn triggers(&self) -> impl ExactSizeIterator<Item = &Trigger> {
        self.0.triggers()
    }
}

impl Schedule for Or {
    fn next(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let mut first: Option<DateTime<Utc>> = None;
        for trigger in self.triggers() {
            // What comes later than the first so far is not looked for.
            let until = first.unwrap_or(search.until);
            first = trigger.next_within(search.from, until, budget)?.or(first);
        }
        Ok(first)
    }

    fn last(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let mut last: Option<DateTime<Utc>> = None;
        for trigger in self.triggers() {
            let until = last.unwrap_or(search.until);
            last = trigger.last_within(search.from, until, budget)?.or(last);
        }
        Ok(last)
    }

    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }

    fn description(&self) -> String {
        format!("At any of these: {}", self.0.descriptions())
    }

    fn anchor(
        &mut self,
        _start: &mut Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        zone: TimeZone,
    ) -> Result<(), Error> {
        *self = Or(Arc::new(self.0.anchored(now, zone)?));
        Ok(())
    }

    fn is_floating(&self) -> bool {
        self.0.is_floating()
    }

    fn is_elapsed_time(&self) -> bool {
        self.0.any_is_elapsed_time()
    }

    fn shift(&mut self, by: TimeDelta, _start: Option<DateTime<Utc>>) {
        Arc::make_mut(&mut self.0).shift(by);
    }

    fn end_for(&self, fire_time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // Of several members that name it, the one that ends last lets it start.
        let naming = self.triggers().filter(|it| it.names(fire_time));
        let ends: Option<Vec<_>> = naming.map(|it| it.end_for(fire_time)).collect();
        ends.and_then(|ends| ends.into_iter().max())
    }
}

/// The members of a combination.
#[derive(Clone, PartialEq)]
pub(in crate::trigger) struct Members(Box<[Member]>);

#[derive(Clone)]
struct Member {
    trigger: Trigger,
    /// Whether it was anchored to when the job was added, and so moves with the clock.
    elapsed: bool,
}

impl PartialEq for Member {
    fn eq(&self, other: &Member) -> bool {
        self.trigger == other.trigger
    }
}

impl Members {
    fn new(triggers: Vec<Trigger>) -> Result<Members, Error> {
        const MOST: usize = 32;
        const DEEPEST: usize = 8;
        if triggers.is_empty() {
            return Err(Error::invalid_trigger(
                "a combination of no triggers would never fire: give it one or more",
            ));
        }
        if let Some(follow) = triggers.iter().find_map(Trigger::follow) {
            return Err(Error::invalid_trigger(format!(
                "`{follow}` has no fire times to combine with others: use a job of its own"
            )));
        }
        let members = triggers.into_iter().map(|trigger| Member { trigger, elapsed: false });
        let members = Members(members.collect());
        let (count, depth) = members.size();
        if count > MOST || depth > DEEPEST {
            return Err(Error::invalid_trigger(format!(
                "a combination of {count} triggers on {depth} levels is too large: the most are {MOST} triggers and {DEEPEST} levels, so say more in each or use several jobs"
            )));
        }
        Ok(members)
    }

    pub(in crate::trigger) fn triggers(&self) -> impl ExactSizeIterator<Item = &Trigger> {
        self.0.iter().map(|member| &member.trigger)
    }

    /// How many triggers there are that combine nothing, and how many levels of those that do.
    fn size(&self) -> (usize, usize) {
        let sizes =
            self.triggers().map(|trigger| trigger.kind.members().map_or((1, 0), Members::size));
        let (count, depth) = sizes.fold((0, 0), |(count, depth), (c, d)| (count + c, depth.max(d)));
        (count, depth + 1)
    }

    fn descriptions(&self) -> String {
        let each: Vec<String> = self.triggers().map(Trigger::describe).collect();
        each.join("; ")
    }

    fn is_floating(&self) -> bool {
        self.0.iter().any(|member| member.trigger.is_floating())
    }

    pub(in crate::trigger) fn any_goes_by_wall_clock(&self) -> bool {
        self.0.iter().any(|member| member.trigger.goes_by_wall_clock())
    }

    fn any_is_elapsed_time(&self) -> bool {
        self.0.iter().any(|member| member.elapsed || member.trigger.is_elapsed_time())
    }

    pub(in crate::trigger) fn all_are_elapsed_time(&self) -> bool {
        self.0.iter().all(|member| match member.trigger.kind.members() {
            Some(members) => members.all_are_elapsed_time(),
            None => member.elapsed,
        })
    }

    fn anchored(&self, now: DateTime<Utc>, zone: TimeZone) -> Result<Members, Error> {
        let anchored = |member: &Member| {
            Ok(Member {
                elapsed: member.elapsed || member.trigger.is_elapsed_time(),
                trigger: member.trigger.anchored(now, zone)?,
            })
        };
        Ok(Members(self.0.iter().map(anchored).collect::<Result<_, Error>>()?))
    }

    fn shift(&mut self, by: TimeDelta) {
        for member in self.0.iter_mut().filter(|member| member.elapsed) {
            member.trigger.shift(by);
        }
    }

    /// See [`Trigger::correct_members`].
    pub(in crate::trigger) fn correct(&mut self, used_to: DateTime<Utc>, now: DateTime<Utc>) {
        for Member { trigger, .. } in self.0.iter_mut().filter(|member| !member.elapsed) {
            // One that can't say goes on as it was.
            let _ = match trigger.left(used_to) {
                Some(left) if left.is_none() => trigger.go_on(Some(left), now),
                _ => trigger.corrected(used_to, now),
            };
        }
    }

    /// See [`Trigger::recount`].
    pub(in crate::trigger) fn recount(&mut self) -> bool {
        let mut changed = false;
        for member in &mut self.0 {
            changed |= member.trigger.recount();
        }
        changed
    }
}

/// Members, and what their agreement amounts to.
struct Conjunction {
    members: Members,
    /// The bounds of members of members; those of the others are kept by themselves.
    lo: Option<DateTime<Utc>>,
    hi: DateTime<Utc>,
    /// Where all intervals meet.
    grid: Meeting,
    /// What has to agree besides.
    parts: Vec<Part>,
    conflict: KnownConflict,
}

/// What keeps members from agreeing, by the rules of time zones.
#[derive(Clone, Copy, PartialEq)]
enum Conflict {
    None,
    /// Times of day exclude each other, so that only the ends of gaps are left: with
    /// [`Gap::Next`](crate::trigger::Gap::Next), two triggers at different times fire together there.
    TimesOfDay,
    /// A grid lies beside all days or hours.
    Days,
}

/// A conflict that was found, and the [generation](generation) of the rules by which: it is looked for
/// anew once those have changed.
struct KnownConflict(AtomicU64);

impl KnownConflict {
    /// More than there are generations.
    const UNKNOWN: u64 = u64::MAX;

    fn get_or_find(&self, find: impl FnOnce() -> Conflict) -> Conflict {
        // Rules that change while it looks have another generation afterwards.
        let generation = generation();
        let known = self.0.load(Ordering::Relaxed);
        if known >> 2 == generation {
            return match known & 3 {
                0 => Conflict::None,
                1 => Conflict::TimesOfDay,
                _ => Conflict::Days,
            };
        }
        let found = find();
        self.0.store(generation << 2 | found as u64, Ordering::Relaxed);
        found
    }
}

#[derive(Clone, Copy)]
enum Meeting {
    Anywhere,
    On(Grid),
    Nowhere,
}

enum Part {
    Trigger(Trigger),
    Days(Arc<DayFilter>, TimeZone),
}

impl PartialEq for Conjunction {
    fn eq(&self, other: &Conjunction) -> bool {
        self.members == other.members
    }
}

impl Conjunction {
    fn new(members: Members) -> Conjunction {
        let mut whole = Conjunction {
            members: Members(Box::default()),
            lo: None,
            hi: DateTime::<Utc>::MAX_UTC,
            grid: Meeting::Anywhere,
            parts: Vec::new(),
            conflict: KnownConflict(AtomicU64::new(KnownConflict::UNKNOWN)),
        };
        whole.take(&members);
        whole.members = members;
        // What goes by a wall clock fires at whole seconds.
        if let Meeting::On(grid) = whole.grid
            && !grid.has_whole_seconds()
            && whole.wall_clock_triggers().any(is_wall_clock)
        {
            whole.grid = Meeting::Nowhere;
        }
        whole
    }

    fn conflict(&self) -> Conflict {
        self.conflict.get_or_find(|| {
            if self.days_conflict() {
                Conflict::Days
            } else if self.times_conflict() {
                Conflict::TimesOfDay
            } else {
                Conflict::None
            }
        })
    }

    /// Takes members apart, those of members included.
    fn take(&mut self, members: &Members) {
        for Member { trigger, .. } in &members.0 {
            if trigger.is_floating() || trigger.limits().first.is_some() {
                // It is anchored before it is searched, or fires where its kind does not.
                self.parts.push(Part::Trigger(trigger.clone()));
                continue;
            }
            match (&trigger.kind, trigger.start()) {
                (Kind::Interval(interval), Some(start)) => {
                    let grid = Grid::new(start, interval.period_ms());
                    self.grid = match self.grid {
                        Meeting::Anywhere => Meeting::On(grid),
                        Meeting::On(other) => {
                            grid.meet(other).map_or(Meeting::Nowhere, Meeting::On)
                        }
                        Meeting::Nowhere => Meeting::Nowhere,
                    };
                }
                (Kind::And(and), _) => self.take(&and.0.members),
                _ if trigger.names_dates() => self.parts.push(Part::Trigger(trigger.clone())),
                _ => self.parts.push(Part::Trigger(trigger.without_days())),
            }
            self.lo = self.lo.max(trigger.start());
            self.hi = trigger.end().map_or(self.hi, |end| self.hi.min(end));
            if let Some(days) = trigger.days().filter(|_| !trigger.names_dates()) {
                self.parts.push(Part::Days(Arc::clone(days), trigger.day_zone()));
            }
        }
    }

    fn days_conflict(&self) -> bool {
        let Meeting::On(grid) = self.grid else { return false };
        self.parts.iter().any(|part| match part {
            Part::Days(days, zone) => days.never_meets(*zone, grid),
            Part::Trigger(_) => false,
        })
    }

    fn times_conflict(&self) -> bool {
        const DAY: i64 = 86_400_000;
        let mut common: Vec<(TimeZone, ClockTimes)> = Vec::new();
        for trigger in self.wall_clock_triggers() {
            let Some((zone, times)) = times_of(trigger) else { continue };
            match common.iter_mut().find(|(known, _)| *known == zone) {
                Some((_, known)) => *known = known.common(times),
                None => common.push((zone, times)),
            }
        }
        common.into_iter().any(|(zone, ClockTimes { hours, minutes, seconds })| {
            if hours == 0 || minutes == 0 || seconds == 0 {
                return true;
            }
            let Meeting::On(grid) = self.grid else { return false };
            let is_time = |millis: i64| {
                let second = millis / 1000;
                millis % 1000 == 0
                    && hours >> (second / 3600) & 1 != 0
                    && minutes >> (second / 60 % 60) & 1 != 0
                    && seconds >> (second % 60) & 1 != 0
            };
            let mut offsets =
                wall_clock::offsets_from(zone, grid.first.div_euclid(1000)).into_iter();
            !grid.has_whole_seconds()
                || !offsets.any(|offset| grid.hits(DAY, offset * 1000, is_time))
        })
    }

    fn wall_clock_triggers(&self) -> impl Iterator<Item = &Trigger> {
        self.parts.iter().filter_map(|part| match part {
            Part::Trigger(trigger) => Some(trigger),
            Part::Days(..) => None,
        })
    }

    fn next_after(
        &self,
        t: DateTime<Utc>,
        hi: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let Some(at) = just_after(t) else { return Ok(None) };
        if matches!(self.grid, Meeting::Nowhere) {
            return Ok(None);
        }
        match self.conflict() {
            Conflict::None => {}
            Conflict::TimesOfDay => return self.next_transition(at, hi, budget),
            Conflict::Days => return Ok(None),
        }
        leapfrog(self.parts.len() + 1, at, budget, |part, at, budget| {
            Ok(self.go_on(part, at, hi, budget)?.filter(|&next| next <= hi))
        })
    }

    /// The first instant from `at` on that the grid, or one of the parts, names.
    fn go_on(
        &self,
        part: usize,
        at: DateTime<Utc>,
        hi: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let Some(part) = part.checked_sub(1) else {
            budget.spend(1)?;
            return Ok(match self.grid {
                Meeting::Anywhere => Some(at),
                Meeting::On(grid) => grid.at_or_after(at),
                Meeting::Nowhere => None,
            });
        };
        match &self.parts[part] {
            Part::Trigger(trigger) => trigger.next_within(before(at), hi, budget),
            Part::Days(days, zone) => days.at_or_after(*zone, at, false, budget),
        }
    }

    fn last_at_or_before(
        &self,
        t: DateTime<Utc>,
        lo: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let Some(at) = just_after(t).map(before) else { return Ok(None) };
        if matches!(self.grid, Meeting::Nowhere) {
            return Ok(None);
        }
        match self.conflict() {
            Conflict::None => {}
            Conflict::TimesOfDay => return self.last_transition(at, lo, budget),
            Conflict::Days => return Ok(None),
        }
        leapfrog(self.parts.len() + 1, at, budget, |part, at, budget| {
            Ok(self.go_back(part, at, lo, budget)?.filter(|&last| last >= lo))
        })
    }

    fn go_back(
        &self,
        part: usize,
        at: DateTime<Utc>,
        lo: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let Some(part) = part.checked_sub(1) else {
            budget.spend(1)?;
            return Ok(match self.grid {
                Meeting::Anywhere => Some(at),
                Meeting::On(grid) => grid.at_or_before(at),
                Meeting::Nowhere => None,
            });
        };
        match &self.parts[part] {
            Part::Trigger(trigger) => trigger.last_within(at, lo, budget),
            Part::Days(days, zone) => days.at_or_before(*zone, at, false, budget),
        }
    }

    /// The first instant from `at` on at which a clock is set and that all name.
    fn next_transition(
        &self,
        mut at: DateTime<Utc>,
        hi: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        loop {
            let from = at.timestamp() + i64::from(at.timestamp_subsec_nanos() > 0);
            let zones = self.wall_clock_triggers().filter_map(times_of);
            let first = zones.filter_map(|(zone, _)| wall_clock::transition_from(zone, from)).min();
            let first = first.and_then(|second| DateTime::from_timestamp(second, 0));
            let Some(first) = first.filter(|&first| first <= hi) else { return Ok(None) };
            if self.all_name(first, budget)? {
                return Ok(Some(first));
            }
            at = first + TimeDelta::milliseconds(1);
        }
    }

    /// The last instant up to `at` at which a clock is set and that all name.
    fn last_transition(
        &self,
        mut at: DateTime<Utc>,
        lo: DateTime<Utc>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        loop {
            let to = at.timestamp();
            let zones = self.wall_clock_triggers().filter_map(times_of);
            let last = zones.filter_map(|(zone, _)| wall_clock::transition_to(zone, to)).max();
            let last = last.and_then(|second| DateTime::from_timestamp(second, 0));
            let Some(last) = last.filter(|&last| last >= lo) else { return Ok(None) };
            if self.all_name(last, budget)? {
                return Ok(Some(last));
            }
            at = before(last);
        }
    }

    fn all_name(&self, at: DateTime<Utc>, budget: &mut Budget) -> Result<bool, Error> {
        for part in 0..=self.parts.len() {
            if self.go_on(part, at, at, budget)? != Some(at) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether it fires when a wall clock shows something, and at no other instant.
fn is_wall_clock(trigger: &Trigger) -> bool {
    trigger.names_dates()
        && trigger.limits().first.is_none()
        && trigger.limits().open.first.is_none()
}

/// The zone of a wall-clock trigger, and the times of day at which it fires.
fn times_of(trigger: &Trigger) -> Option<(TimeZone, ClockTimes)> {
    let times = Some(trigger).filter(|trigger| is_wall_clock(trigger))?.kind.clock_times()?;
    Some((trigger.day_zone(), times))
}

fn list(f: &mut fmt::Formatter<'_>, members: &Members, word: &str) -> fmt::Result {
    for (index, Member { trigger, .. }) in members.0.iter().enumerate() {
        let separator = if index == 0 { "" } else { word };
        write!(f, "{separator}{trigger}")?;
    }
    f.write_str("]")
}

impl fmt::Display for And {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("and[")?;
        list(f, &self.0.members, " & ")
    }
}

impl fmt::Display for Or {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("or[")?;
        list(f, &self.0, " | ")
    }
}

impl fmt::Debug for And {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("And")?;
        f.debug_list().entries(self.triggers()).finish()
    }
}

impl fmt::Debug for Or {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Or")?;
        f.debug_list().entries(self.triggers()).finish()
    }
}

/// The serialized form.
#[derive(Serialize, Deserialize)]
struct Repr {
    triggers: Vec<Trigger>,
}

impl From<And> for Repr {
    fn from(and: And) -> Repr {
        Repr { triggers: and.triggers().cloned().collect() }
    }
}

impl From<Or> for Repr {
    fn from(or: Or) -> Repr {
        Repr { triggers: or.triggers().cloned().collect() }
    }
}

impl TryFrom<Repr> for And {
    type Error = Error;

    fn try_from(Repr { triggers }: Repr) -> Result<And, Error> {
        And::new(triggers)
    }
}

impl TryFrom<Repr> for Or {
    type Error = Error;

    fn try_from(Repr { triggers }: Repr) -> Result<Or, Error> {
        Or::new(triggers)
    }
}
