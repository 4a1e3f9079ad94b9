//! An async, Tokio-native job scheduler in which no fire time has a silent fate.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod core;
mod driver;
mod error;
mod event;
mod executor;
mod feed;
mod job;
mod scheduler;
mod task;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trigger;

pub use self::{
    error::{BoxError, Error},
    event::{Event, EventFilter, EventKind, What},
    job::{
        Coalesce, End, FireTimes, JobId, JobInfo, OnConflict, Outcome, Overlap, Run, RunId,
        SkipReason,
    },
    scheduler::{
        Add, AddFuture, Events, Job, JobHandle, JobSettings, Jobs, OnceHandle, Runs, Scheduler,
        SchedulerBuilder, Shutdown, ShutdownReport,
    },
    task::{Context, OnceWork, Plain, Ready, WithContext, Work, WorkOutput},
};
