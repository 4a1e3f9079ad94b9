//! What most programs need, in one line: `use punctual::prelude::*;`.
//!
//! None of its names is in the standard library's prelude. A name that the program imports or declares
//! itself, such as `anyhow::Context`, goes before the one from here.
//!
//! ```
//! use std::time::Duration;
//! use punctual::prelude::*;
//!
//! async fn report(cx: Context) -> Result<(), BoxError> {
//!     println!("{} of {}", cx.job_id(), cx.fire_time());
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), punctual::Error> {
//! let scheduler = Scheduler::new();
//! scheduler.add(cron("30 8 * * MON-FRI"), report).overlap(Overlap::Queue(1)).await?;
//! scheduler.add(every(Duration::from_secs(5)), || async { println!("ping") }).await?;
//! scheduler.on_event(EventKind::Failed | EventKind::Missed, |event| eprintln!("{event}"))?;
//! # Ok(()) }
//! ```

#[cfg(feature = "standalone")]
pub use crate::{BackgroundScheduler, BlockingScheduler, Wait};
pub use crate::{
    BoxError, Coalesce, Context, Error, EventFilter, EventKind, Job, JobHandle, JobId, JobInfo,
    OnConflict, Outcome, Overlap, Retry, Scheduler, Task, blocking, stateful,
    trigger::{
        IntoTrigger, Trigger, after, after_all, after_any, after_failure, after_success, at,
        calendar_interval, cron, every, now,
    },
};
