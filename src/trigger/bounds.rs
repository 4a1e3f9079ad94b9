//! When a trigger starts, fires first and ends.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{
    instant::{floor_millis, whole_millis},
    moment::Moment,
    once::set_once,
};
use crate::error::Error;

/// The bounds of a trigger that are not known before it has a zone or its job is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Bounds {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end: Option<Moment>,
}

impl Bounds {
    pub(super) fn is_empty(&self) -> bool {
        self.start.is_none() && self.first.is_none() && self.end.is_none()
    }

    /// Sets the first fire: two methods and two clauses do.
    pub(super) fn set_first(&mut self, first: Moment) -> Result<(), Error> {
        set_once(&mut self.first, first, |[a, b]| format!("the first fire is at {a} and again {b}"))
    }

    /// Checks that it starts before it fires first, and that before it ends.
    pub(super) fn check(&self) -> Result<(), Error> {
        let reversed = |before: Option<Moment>, after: Option<Moment>| {
            before.zip(after).filter(|(before, after)| after.is_before(*before))
        };
        if let Some((start, end)) = reversed(self.start, self.end) {
            return Err(Error::invalid_trigger(format!(
                "the trigger ends at {end}, before it starts at {start}: swap them"
            )));
        }
        if let Some((start, first)) = reversed(self.start, self.first) {
            return Err(Error::invalid_trigger(format!(
                "the trigger fires first at {first}, before it starts at {start}: leave the start out"
            )));
        }
        if let Some((first, end)) = reversed(self.first, self.end) {
            return Err(Error::invalid_trigger(format!(
                "the trigger ends at {end}, before it fires first at {first}: end it later"
            )));
        }
        Ok(())
    }

    /// Takes the instants out, which are known: those of start and first fire, rounded up, and the
    /// end, rounded down.
    pub(super) fn take_instants(&mut self) -> Result<[Option<DateTime<Utc>>; 3], Error> {
        let take = |moment: &mut Option<Moment>| {
            let instant = moment.and_then(Moment::as_instant);
            *moment = moment.filter(|_| instant.is_none());
            instant
        };
        Ok([
            take(&mut self.start).map(whole_millis).transpose()?,
            take(&mut self.first).map(whole_millis).transpose()?,
            take(&mut self.end).map(floor_millis),
        ])
    }
}
