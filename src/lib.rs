//! An async, Tokio-native job scheduler in which no fire time has a silent fate.
//!
//! A [`Scheduler`] runs async closures when their [triggers](trigger) say so: at an instant, at an
//! interval, by a cron text in a time zone. Every instant at which a job was due ends as exactly one
//! of *ran*, *missed*, *skipped*, *coalesced* or *abandoned*, with the reason, and a program
//! ([`Scheduler::events`], [`JobHandle::runs`]), a person ([`JobInfo`]'s `Display`) and a log
//! (`tracing`) can see it.
//!
//! ```
//! use std::time::Duration;
//! use punctual::{Context, Scheduler, trigger::{after, cron, every}};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), punctual::BoxError> {
//! let scheduler = Scheduler::new(); // on the current runtime, in memory, started
//!
//! // A closure every 5 s: `|| async`, `|cx: Context| async`, or the name of an async fn.
//! scheduler.add(every(Duration::from_secs(5)), || async { println!("ping") }).await?;
//!
//! // Cron in a zone; what is wrong with it surfaces at `.await?`.
//! scheduler
//!     .add(cron("30 8 * * MON-FRI").in_tz("Europe/Berlin"), |cx: Context| async move {
//!         println!("{} of {}", cx.job_id(), cx.fire_time());
//!     })
//!     .id("report")
//!     .await?;
//!
//! // Run once and take the value.
//! let answer: u64 = scheduler.add_once(after(Duration::from_secs(10)), async { 42 }).await?.await?;
//! # assert_eq!(answer, 42);
//!
//! // The same by id, and the end.
//! scheduler.job("report").pause().await?;
//! let report = scheduler.shutdown().within(Duration::from_secs(20)).await;
//! println!("{report}");
//! # Ok(()) }
//! ```
//!
//! # What becomes of a fire time
//!
//! | it came due | default | option |
//! |---|---|---|
//! | together with others of its job | the latest runs, the others are *coalesced* into it | `coalesce`, `max_catch_up` |
//! | while the job's runs are going | it is *skipped*; or it waits in line, or cancels the run before it | `max_instances`, `overlap` |
//! | while its executor or its group is full | its run waits for its turn | `executor`, `group` |
//! | and its condition says no | it is *skipped* | `when` |
//! | and its run would start late | it runs, however late | `misfire_grace_time` |
//! | together with those of other jobs | in order of fire time, then of adding | `priority` |
//! | and its run fails, panics or takes too long | it has *failed*, or *timed out*; or the work is called again | `retry`, `timeout` |
//! | while the job was paused | it is *skipped*; a date stays due | |
//! | while the scheduler was paused | it waits, and is coalesced on resume | |
//!
//! # Promises
//!
//! - A run never starts before its fire time, by the wall clock; `now` decides, never a timer.
//! - A panic in a job, in a trigger or in an event callback is that run's, that job's or that
//!   event's failure, and nobody else's trouble.
//! - No more than `max_instances` runs of a job are going, nor more than its executor and its group
//!   have room for: each holds a permit, which comes back when its future is dropped.
//! - A step of the clock, or a suspended machine, is noticed within a second. Nothing fires twice
//!   for it.
//! - Nothing starts after a job was cancelled, removed or paused, or after a shutdown began.
//! - Under Tokio's paused time the scheduler follows that: a year of cron takes seconds.
//!
//! # Jobs that survive
//!
//! A scheduler that is given a [`store`] ([`SchedulerBuilder::store`]) keeps there the jobs whose work is
//! a [`Task`]. They outlive the process, and several schedulers may share them: each fire time is taken
//! by one of them. Closures stay in memory. A scheduler may have several stores, each under a name. See
//! the [module](store) for what is promised.
//!
//! # Where to call it from
//!
//! From anywhere in the Tokio runtime it was made in, jobs included: a job may add, change and
//! remove jobs, itself too, and shut the scheduler down. Work that blocks its thread would delay
//! whatever else Tokio runs there: make it [`blocking`].
//!
//! # Logs
//!
//! Events go to [`tracing`](https://docs.rs/tracing), target `punctual`, and each run is a span.
//!
//! | what | level | fields |
//! |---|---|---|
//! | an event of a run that failed, timed out, was missed, abandoned or is tried again, and of a store that fails | `WARN` | `sequence`, and `job` if it happened to one |
//! | an event of the scheduler: started, paused, resumed, shut down, the clock stepped, the store works again | `INFO` | the same |
//! | any other event | `DEBUG` | the same |
//! | the span `run` around a run's work | `DEBUG` | `job`, `run`, `fire_time`, `late_by`, `outcome` |
//! | a line that a process of a pool prints, target `punctual::worker` | `INFO` | `pid`, `run`, `job` |
//!
//! An event is one line: line breaks, control characters, marks of direction and invisible characters of
//! ids, names and errors are escaped, as in `\n` and `\u{1b}`, and what is longer than 8 KiB is cut off. A
//! task's arguments are in no line: [`Error::sensitive_details`] has them where they don't fit.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `process` | no | `ProcessPool` runs tasks in processes of their own, which can be killed, and `command` jobs run programs; for Unix |
//! | `sqlite` | no | `store::SqliteStore` keeps durable jobs in an SQLite file |
//! | `standalone` | no | `BlockingScheduler` and `BackgroundScheduler`, for programs that have no async `main`, and `.wait()` beside `.await` |
//! | `testing` | no | `testing::ManualClock`, a clock that is moved by hand; `testing::assert_fires` and `testing::daylight_saving_days`; for those who write a store `testing::store_conformance!` and `testing::Simulation` |

#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(feature = "process", not(unix)))]
compile_error!("the feature `process` of punctual needs Unix: process groups, signals and sockets");

mod clock;
mod core;
mod driver;
mod error;
mod escape;
mod event;
mod executor;
mod feed;
mod job;
mod json;
mod ledger;
mod metrics;
mod panic;
pub mod prelude;
mod retry;
mod scheduler;
pub mod store;
mod task;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trigger;
mod zone;

// What users need of these in the versions that this crate speaks.
pub use chrono;
pub use chrono_tz;
pub use tokio_util::sync::CancellationToken;

#[cfg(feature = "standalone")]
pub use self::scheduler::{
    BackgroundScheduler, BlockingScheduler, StopHandle, Wait, Waited, Workers,
};
pub use self::{
    error::{BoxError, Error},
    event::{Event, EventFilter, EventKind, EventPayload},
    executor::{AsyncExecutor, BlockingPool, Executor},
    job::{
        Coalesce, End, FireTimes, JobId, JobInfo, OnConflict, Outcome, Overlap, Run, RunId,
        SkipReason,
    },
    metrics::{Lateness, Metrics},
    retry::Retry,
    scheduler::{
        Add, AddFuture, Events, Job, JobHandle, JobSettings, Jobs, OnceHandle, Runs, Scheduler,
        SchedulerBuilder, Shutdown, ShutdownReport, Unhandled,
    },
    task::{
        Blocking, BlockingWork, ByName, Context, NamedTask, OnceWork, Plain, Preceding, Ready,
        Stateful, StatefulWork, Task, WithContext, Work, WorkError, WorkOutput, blocking,
        named_task, stateful,
    },
    zone::{
        IntoTimeZone, TimeZone, TimeZoneData, TimeZoneOffset, reload_time_zone_data, time_zone_data,
    },
};
#[cfg(feature = "process")]
pub use self::{
    executor::process::{
        ProcessPool,
        worker::{Worker, worker},
    },
    task::{Command, CommandError, CommandWork, command},
};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
