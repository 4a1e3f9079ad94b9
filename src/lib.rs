//! An async, Tokio-native job scheduler in which no fire time has a silent fate.
//!
//! A [`Scheduler`] runs async closures when their [triggers](trigger) fire: at an instant, at an
//! interval, or by a cron text in a time zone. Every fire time ends as exactly one of *ran*,
//! *missed*, *skipped*, *coalesced* or *abandoned*, with the reason, which a program
//! ([`Scheduler::events`], [`JobHandle::runs`]), a person ([`JobInfo`]'s `Display`) and a log
//! (`tracing`) can see.
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
//! # The fate of a fire time
//!
//! | the fire time comes due | default | options |
//! |---|---|---|
//! | together with other fire times of its job | the latest runs, the others are *coalesced* into it | `coalesce`, `max_catch_up` |
//! | while `max_instances` runs of its job are active | it is *skipped*; or it waits, or cancels the previous run | `max_instances`, `overlap` |
//! | while its executor or its group is full | its run waits for a free slot | `executor`, `group` |
//! | and its condition returns `false` | it is *skipped* | `when` |
//! | and its run would start late | it runs, however late | `misfire_grace_time` |
//! | together with fire times of other jobs | in order of fire time, then of adding | `priority` |
//! | and its run fails, panics or takes too long | it has *failed* or *timed out*; or it is retried | `retry`, `timeout` |
//! | while the job was paused | it is *skipped*; a date stays due | |
//! | while the scheduler was paused | it waits, and is coalesced on resume | |
//!
//! # Promises
//!
//! - A run never starts before its fire time, by the wall clock, whatever a timer does.
//! - A panic in a job, in a trigger or in an event callback is a failure of that run, job or event
//!   only.
//! - At most `max_instances` runs of a job are active, and no more than its executor and its group
//!   allow. Each run has a permit, which is released when its future is dropped.
//! - A clock step or a suspended machine is detected within a second. Nothing fires twice because
//!   of it.
//! - Nothing starts after its job was cancelled, removed or paused, or after a shutdown began.
//! - The scheduler follows Tokio's paused time: a year of cron takes seconds.
//!
//! # Durable jobs
//!
//! A scheduler with a [`store`] ([`SchedulerBuilder::store`]) keeps the jobs whose work is a
//! [`Task`] in it. They survive the process, and several schedulers may share them: each fire time
//! is claimed by one of them. Closures stay in memory. A scheduler may have several named stores.
//! The [module](store) describes the promises.
//!
//! # Where to call the scheduler from
//!
//! From anywhere in the Tokio runtime of the scheduler, including from jobs: a job may add, change
//! and remove jobs, itself included, and shut the scheduler down. Work that blocks its thread
//! delays other tasks of the runtime: make such work [`blocking`].
//!
//! # Logs
//!
//! Events go to [`tracing`](https://docs.rs/tracing), target `punctual`, and each run is a span.
//!
//! | record | level | fields |
//! |---|---|---|
//! | an event of a run that failed, timed out, was missed or abandoned, or will be retried, and of a failing store | `WARN` | `sequence`, and `job` if the event is about one |
//! | an event of the scheduler: started, paused, resumed, shut down, the clock stepped, a store works again | `INFO` | the same |
//! | any other event | `DEBUG` | the same |
//! | the span `run` around a run's work | `DEBUG` | `job`, `run`, `fire_time`, `late_by`, `outcome` |
//! | a line of output of a process in a pool, target `punctual::worker` | `INFO` | `pid`, `run`, `job` |
//!
//! An event is one line: in ids, names and errors, line breaks, control characters, direction marks
//! and invisible characters are escaped, as in `\n` and `\u{1b}`. A line is cut off after 8 KiB. No
//! line contains the arguments of a task: [`Error::sensitive_details`] has invalid ones.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `process` | no | `ProcessPool` runs tasks in separate processes, which can be killed, and `command` jobs run programs; Unix only |
//! | `mysql` | no | `store::MySqlStore` keeps durable jobs in MySQL or MariaDB, for any number of nodes |
//! | `postgres` | no | `store::PostgresStore` keeps durable jobs in PostgreSQL, for any number of nodes |
//! | `sqlite` | no | `store::SqliteStore` keeps durable jobs in an SQLite file |
//! | `standalone` | no | `BlockingScheduler` and `BackgroundScheduler`, for programs without an async `main`, and `.wait()` as the counterpart of `.await` |
//! | `testing` | no | `testing::ManualClock`, which a test advances manually; `testing::assert_fires` and `testing::daylight_saving_days`; `testing::FaultyStore`, whose operations fail when a test asks for it; for store implementations `testing::store_conformance!` and `testing::Simulation` |

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
mod id;
mod job;
mod json;
mod ledger;
mod metrics;
mod outcome;
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

// The crates whose types are part of the public API.
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
    id::{JobId, RunId},
    job::{Coalesce, JobInfo, OnConflict, Overlap},
    metrics::{Lateness, Metrics},
    outcome::{End, FireTimes, Outcome, Run, SkipReason},
    retry::Retry,
    scheduler::{
        Add, AddFuture, Events, Job, JobHandle, JobSettings, Jobs, OnceHandle, PreparedAdd, Runs,
        Scheduler, SchedulerBuilder, Shutdown, ShutdownReport, Unhandled,
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
