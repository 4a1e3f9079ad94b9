//! Tools for tests: a manual clock, assertions on triggers, a store that fails on request, and the
//! conformance suite for stores.
//!
//! Most tests need none of these: under `#[tokio::test(start_paused = true)]` the scheduler follows
//! Tokio's paused time, and a year of cron takes seconds.

mod conformance;
mod faulty;
mod simulation;
mod triggers;

#[doc(hidden)]
pub use self::conformance::{ConformanceCase, run_conformance_case};
pub use self::{
    faulty::{Fault, FaultyStore, Operation},
    simulation::{Broken, Report, Simulation},
    triggers::{ClockChange, IntoInstant, assert_fires, daylight_saving_days},
};
#[doc(inline)]
pub use crate::__store_conformance as store_conformance;
pub use crate::clock::ManualClock;
