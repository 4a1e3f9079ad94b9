//! The replay: a scenario runs on a scheduler, under paused time.

use std::{
    collections::BTreeMap,
    future::IntoFuture as _,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use punctual::{
    AsyncExecutor, Coalesce, Context, End, Error, Event, EventFilter, EventPayload, FireTimes,
    JobId, OnConflict, Run, Scheduler, testing::ManualClock,
};
use tokio::task::yield_now;

use super::{
    account::{Account, Fact, Outcome, Stretch},
    stage::Stage,
    trace::{Command, Job, Op, Time, Trace},
};

/// Replays a trace's scenario.
pub(crate) fn replay(trace: &Trace) -> Account {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut replay = Replay::new(trace);
        for command in trace.scenario.commands() {
            replay.pass_until(command.t).await;
            if let Err(error) = replay.perform(&command).await {
                replay.refused.push(Fact::Refused { at: command.t, error: kind(&error) });
            }
        }
        replay.pass_until(trace.scenario.until).await;
        replay.account().await
    })
}

fn kind(error: &Error) -> &'static str {
    match error {
        error if error.is_duplicate_id() => "duplicate id",
        error if error.is_unknown_job() => "unknown job",
        error if error.never_fires() => "never fires",
        error => panic!("{error}"),
    }
}

/// Sets the given options on the builder of a scheduler or a job, or on a job's settings.
macro_rules! with_options {
    ($builder:expr, $options:expr) => {{
        let (mut builder, options) = ($builder, $options);
        if let Some(grace) = options.misfire_grace_time {
            builder = builder.misfire_grace_time(grace.map(Time::duration));
        }
        if let Some(coalesce) = options.coalesce {
            builder = builder.coalesce(if coalesce { Coalesce::Latest } else { Coalesce::All });
        }
        if let Some(max_instances) = options.max_instances {
            builder = builder.max_instances(max_instances);
        }
        builder
    }};
}

struct Replay<'a> {
    trace: &'a Trace,
    clock: ManualClock,
    now: Time,
    scheduler: Option<Scheduler>,
    /// The jobs as last added, with the instants of their triggers.
    jobs: BTreeMap<String, (Job, Time)>,
    stage: Arc<Stage>,
    events: Arc<Mutex<Vec<Event>>>,
    refused: Vec<Fact>,
}

impl<'a> Replay<'a> {
    fn new(trace: &'a Trace) -> Replay<'a> {
        let clock = ManualClock::running(trace.t0);
        Replay {
            trace,
            now: Time(0),
            scheduler: None,
            jobs: BTreeMap::new(),
            stage: Stage::new(clock.clone()),
            clock,
            events: Arc::default(),
            refused: Vec::new(),
        }
    }

    async fn perform(&mut self, command: &Command) -> Result<(), Error> {
        match &command.op {
            Op::Start { paused } => self.start(*paused).await,
            Op::Add { job } => self.add(job, command.made).await,
            Op::Pause => self.scheduler().pause().await,
            Op::Resume => self.scheduler().resume().await,
            Op::PauseJob { id } => self.scheduler().job(&**id).pause().await,
            Op::ResumeJob { id } => self.scheduler().job(&**id).resume().await,
            Op::RemoveJob { id } => self.scheduler().job(&**id).remove().await,
            Op::RescheduleJob { id, trigger } => {
                let trigger = self.trace.trigger(trigger, None, None);
                self.scheduler().job(&**id).reschedule(trigger).await
            }
            Op::ModifyJob { id, changes } => {
                let job = self.scheduler().job(&**id);
                match changes.next_run_time {
                    None => job.modify(|settings| with_options!(settings, changes)).await,
                    Some(None) => job.pause().await,
                    Some(next) => {
                        let (recorded, made) = &self.jobs[id];
                        let trigger = self.trace.trigger(&recorded.trigger, next, Some(*made));
                        job.reschedule(trigger).await
                    }
                }
            }
            Op::Shutdown => {
                let scheduler = self.scheduler.take().expect("what shuts down was started");
                let left = scheduler.jobs().await?;
                self.jobs.retain(|id, _| left.iter().any(|job| job.id == **id));
                // Not awaited here: time passes only when it is advanced.
                tokio::spawn(scheduler.shutdown().into_future());
                Ok(())
            }
            // Jobs are in memory, so a restart adds them again.
            Op::Restart => {
                self.start(false).await?;
                for (job, made) in std::mem::take(&mut self.jobs).into_values() {
                    self.add(&job, made).await?;
                }
                Ok(())
            }
        }
    }

    fn scheduler(&self) -> &Scheduler {
        self.scheduler.as_ref().expect("a scheduler was started")
    }

    async fn start(&mut self, paused: bool) -> Result<(), Error> {
        let events = self.events.clone();
        let mut builder = Scheduler::builder()
            .clock(self.clock.clone())
            // APScheduler's default.
            .misfire_grace_time(Duration::from_secs(1))
            // Cancelled runs end at once, since the scenario has no grace.
            .cancel_grace(Duration::ZERO)
            .on_event(EventFilter::new(), move |event| events.lock().unwrap().push(event));
        if let Some(workers) = self.trace.scenario.workers {
            let executor = AsyncExecutor::new().max_running(workers);
            builder = builder.add_executor("default", executor);
        }
        if paused {
            builder = builder.paused();
        }
        let builder = with_options!(builder, &self.trace.scenario.job_defaults);
        self.scheduler = Some(builder.start().await?);
        Ok(())
    }

    async fn add(&mut self, job: &Job, made: Time) -> Result<(), Error> {
        let first = job.options.next_run_time;
        let made_before = (made < self.now).then_some(made);
        let trigger = self.trace.trigger(&job.trigger, first.flatten(), made_before);
        let (stage, played) = (self.stage.clone(), job.clone());
        let work = move |cx: Context| stage.run(played, cx);
        let mut add = with_options!(self.scheduler().add(trigger, work), &job.options);
        add = add.id(&*job.id);
        if first == Some(None) {
            add = add.paused();
        }
        if job.replace_existing {
            add = add.on_conflict(OnConflict::Replace);
        }
        add.await?;
        self.jobs.insert(job.id.clone(), (job.clone(), made));
        Ok(())
    }

    /// Advances time to `t`, and handles everything that happens until then.
    async fn pass_until(&mut self, t: Time) {
        while self.now < t {
            self.settle().await;
            let due = self.next_due().await;
            let mut next = [due, self.stage.next_end()].into_iter().flatten().fold(t, Time::min);
            assert!(next > self.now, "{}: what was due did not happen", self.trace.id);
            for &(from, until) in &self.trace.scenario.stalls {
                if (from..until).contains(&next) {
                    next = until;
                }
            }
            if next > self.trace.scenario.until {
                // Stalled to the end.
                self.now = t;
                return;
            }
            // After a stall, runs end and jobs come due in the order in which they should have. At
            // one instant, jobs come due first.
            self.stage.end_runs(|end| end <= next && due.is_none_or(|due| end < due));
            tokio::time::advance(Time(next.0 - self.now.0).duration()).await;
            self.now = next;
            self.settle().await;
            while self.stage.end_runs(|end| end <= next) {
                self.settle().await;
            }
        }
    }

    /// Returns when the next job comes due.
    async fn next_due(&self) -> Option<Time> {
        let scheduler = self.scheduler.as_ref().filter(|scheduler| !scheduler.is_paused())?;
        let jobs = scheduler.jobs().await.expect("it has a runtime");
        Some(self.trace.time(jobs.first()?.next_fire?))
    }

    /// Yields until nothing more happens at this instant.
    async fn settle(&self) {
        // Everything that happens emits an event, at most a few turns of the driver and the runs
        // after the event before.
        const TURNS: u32 = 16;
        let happened = || self.events().len();
        let (mut seen, mut quiet) = (happened(), 0);
        while quiet < TURNS {
            yield_now().await;
            quiet = if happened() > seen { 0 } else { quiet + 1 };
            seen = happened();
        }
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().expect("nothing panics with the events")
    }

    async fn account(self) -> Account {
        self.settle().await;
        let events = std::mem::take(&mut *self.events());
        let mut facts = self.refused;
        facts.extend(events.iter().filter_map(|event| fact(self.trace, event)));
        facts.extend(self.stage.going());
        let starts = self.stage.starts();
        let runs = facts.iter().filter(|fact| matches!(fact, Fact::Ran { .. })).count();
        assert_eq!(starts.len(), runs, "{}: each start is told of once", self.trace.id);
        if let Some(scheduler) = &self.scheduler {
            facts.extend(scheduler.jobs().await.expect("it has a runtime").iter().map(|job| {
                let next = job.next_fire.map(|next| self.trace.time(next));
                Fact::Left { job: job.id.to_string(), next }
            }));
        }
        Account { facts, starts }
    }
}

/// Returns the fact of an event, if the recording has a counterpart.
fn fact(trace: &Trace, event: &Event) -> Option<Fact> {
    let at = trace.time(event.at);
    let stretch = |times: &FireTimes| Stretch {
        first: trace.time(times.first),
        last: trace.time(times.last),
        count: times.count,
    };
    let ran = |run: &Run, outcome| Fact::Ran {
        job: run.job.to_string(),
        fire_time: trace.time(run.fire_time),
        start: trace.time(run.started_at.expect("its work was called")),
        end: Some((trace.time(run.ended_at), outcome)),
    };
    let told = |job: Option<&JobId>, what| Fact::Told { job: job.map(JobId::to_string), at, what };
    Some(match &event.payload {
        EventPayload::Executed(run) => ran(run, Outcome::Succeeded),
        EventPayload::Failed(run) => ran(run, Outcome::Failed),
        EventPayload::Cancelled(run) => ran(run, Outcome::Cancelled),
        EventPayload::Missed { job, fire_times, .. } => {
            Fact::Missed { job: job.to_string(), fire_times: stretch(fire_times), at }
        }
        EventPayload::Skipped { job, fire_times, reason, .. } => Fact::Skipped {
            job: job.to_string(),
            fire_times: stretch(fire_times),
            at,
            reason: reason.to_string(),
        },
        EventPayload::Coalesced { job, fire_times, into } => Fact::Coalesced {
            job: job.to_string(),
            fire_times: stretch(fire_times),
            at,
            into: trace.time(*into),
        },
        EventPayload::Started => told(None, "started"),
        EventPayload::Paused => told(None, "paused"),
        EventPayload::Resumed => told(None, "resumed"),
        EventPayload::ShutDown => told(None, "shut down"),
        EventPayload::JobAdded { job, .. } => told(Some(job), "added"),
        EventPayload::JobModified { job, .. }
        | EventPayload::JobPaused { job }
        | EventPayload::JobResumed { job, .. } => told(Some(job), "modified"),
        // A submission has no fate yet, a replacement shows in the addition, and the executors are
        // always the same.
        EventPayload::Submitted { .. }
        | EventPayload::ExecutorAdded { .. }
        | EventPayload::JobRemoved { end: End::Replaced, .. } => return None,
        EventPayload::JobRemoved { job, .. } => told(Some(job), "removed"),
        other => panic!("{}: nothing should cause {other:?}", trace.id),
    })
}
