//! Triggers: properties against brute-force oracles, and tables for what properties rarely hit. A file for
//! each behaviour.

mod calendar_interval;
mod combinations;
mod cron_properties;
mod cron_text;
mod custom;
mod day_limits;
mod daylight_saving;
mod elapsed_time;
mod ends;
mod first_fires;
mod helpers;
mod hour_limits;
mod leap_seconds;
mod moments;
mod named_dates;
mod serialized;
mod texts;
mod timetables;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
    time::Duration,
};

use chrono::{
    DateTime, Datelike as _, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone as _,
    Timelike as _, Utc,
    Weekday::{self, Fri, Mon, Thu},
};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;

use self::helpers::*;
use super::{
    day_filter::{DayFilter, DayOptions},
    kinds::Schedule as _,
    limits::Limits,
    search::Budget,
    weekdays::WEEK,
    *,
};
use crate::zone::TimeZone;
