//! A scheduler with its own runtime, and the shutdown of both.

use std::{
    future::IntoFuture,
    sync::{Arc, mpsc},
    time::Duration,
};

use tokio::{
    runtime::{Handle, Runtime},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Workers, waiting};
use crate::{
    driver::Shared,
    error::Error,
    scheduler::{Scheduler, SchedulerBuilder, ShutdownReport},
};

/// How far a shutdown may be behind its deadline before its driver counts as blocked.
const DRIVER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long tasks that outlive the scheduler may still run.
const TASKS_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Host {
    scheduler: Scheduler,
    /// `None` after the shutdown.
    runtime: Option<Runtime>,
}

impl Host {
    pub(super) fn start(workers: Workers, builder: SchedulerBuilder) -> Result<Host, Error> {
        let runtime = workers.start()?;
        let (sender, started) = mpsc::channel();
        // Started on the runtime, since Tokio does not allow this thread to block if it runs async
        // code.
        runtime.spawn(async move { sender.send(builder.start().await) });
        match started.recv().expect("the start of a scheduler ends, and does not panic") {
            Ok(scheduler) => Ok(Host { scheduler, runtime: Some(runtime) }),
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    pub(super) fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    pub(super) fn block_on<T>(
        &self,
        work: impl IntoFuture<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        waiting::check("block_on")?;
        self.runtime().block_on(work.into_future())
    }

    /// Waits until the scheduler has been shut down by another caller.
    pub(super) async fn stopped(&self) {
        self.shared().stopped.cancelled().await;
    }

    /// Shuts the scheduler down, even if jobs block all workers. Must be awaited on another
    /// runtime.
    pub(super) async fn shut_down(&self, within: Duration) -> ShutdownReport {
        let report = tokio::select! {
            biased;
            report = self.scheduler.shutdown().within(within).into_future() => report,
            () = self.fallen_behind() => self.abandon(),
        };
        await_tasks(self.runtime().handle(), 0).await;
        report
    }

    /// Ends the runtime. The scheduler has shut down, and this thread may be blocked.
    pub(super) fn close(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(TASKS_TIMEOUT);
        }
    }

    /// Waits until a shutdown that has begun is long past its deadline.
    async fn fallen_behind(&self) {
        // When the deadline passes, the driver extends it by the grace of cancelled runs.
        let deadline = || self.shared().shutdown_deadline().unwrap_or_else(Instant::now);
        let mut passed = deadline();
        loop {
            sleep_until(passed).await;
            // Measured from here: time in which the process was stopped does not count.
            sleep(DRIVER_TIMEOUT).await;
            let next = deadline();
            if next <= passed {
                return;
            }
            passed = next;
        }
    }

    /// Ends a shutdown as the driver would if it had a thread to run on.
    fn abandon(&self) -> ShutdownReport {
        self.shared().abandon(|core| core.active_runs().collect());
        self.shared().shutdown_report()
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the runtime is taken only when the host is consumed")
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.scheduler.shared
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        self.shared().close();
        let shutdown = self.scheduler.shutdown();
        let handle = runtime.handle().clone();
        // Nothing can be awaited here, and a runtime must not be dropped in async code: so a task
        // owns the runtime until it is no longer needed.
        handle.clone().spawn(async move {
            shutdown.await;
            await_tasks(&handle, 1).await;
            runtime.shutdown_background();
        });
    }
}

/// Waits a moment for tasks that outlive the scheduler, except `own` tasks of the caller: event
/// callbacks have yet to receive the last events, and no handle waits for them.
async fn await_tasks(runtime: &Handle, own: usize) {
    let metrics = runtime.metrics();
    let over = async {
        while metrics.num_alive_tasks() > own {
            sleep(Duration::from_millis(1)).await;
        }
    };
    // Tasks that take longer end with the runtime.
    let _ = timeout(TASKS_TIMEOUT, over).await;
}
