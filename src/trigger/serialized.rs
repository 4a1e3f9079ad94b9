//! A trigger from its serialized form.

use std::num::NonZeroU64;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{
    Trigger,
    bounds::Bounds,
    day_filter::{DayFilter, DayOptions},
    days::Days,
    kinds::Kind,
    limits::Limits,
    moment::Moment,
    window::Window,
};
use crate::{error::Error, zone::TimeZone};

/// A trigger as it is read, before it is checked.
#[derive(Deserialize)]
pub(super) struct TriggerRepr {
    #[serde(flatten)]
    kind: Kind,
    start: Option<Moment>,
    first: Option<Moment>,
    end: Option<Moment>,
    times: Option<NonZeroU64>,
    times_since: Option<DateTime<Utc>>,
    elapsed_end: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    only: Option<Days>,
    except: Option<Days>,
    between: Option<Window>,
    day_zone: Option<TimeZone>,
}

impl TryFrom<TriggerRepr> for Trigger {
    type Error = Error;

    fn try_from(repr: TriggerRepr) -> Result<Trigger, Error> {
        let TriggerRepr { only, except, between, day_zone, .. } = repr;
        let limits = Limits {
            open: Bounds { start: repr.start, first: repr.first, end: repr.end },
            times: repr.times,
            times_since: repr.times_since,
            elapsed_end: repr.elapsed_end,
            last: repr.last,
            days: DayFilter::new(DayOptions { only, except, between }, day_zone)?,
            ..Limits::default()
        };
        Trigger::new(repr.kind, limits).validated()
    }
}
