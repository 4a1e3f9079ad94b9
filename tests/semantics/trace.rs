//! A line of the recording: a scenario, and its results in APScheduler.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use punctual::trigger::{self, CronFields, IntoTrigger as _, every};
use serde::{Deserialize, Deserializer};

/// An instant, counted from the trace's `t0`, or a duration: in milliseconds, and shown in seconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(from = "f64")]
pub(crate) struct Time(pub i64);

#[derive(Deserialize)]
pub(crate) struct Trace {
    pub(crate) id: String,
    pub(crate) t0: DateTime<Utc>,
    pub(crate) scenario: Scenario,
    pub(crate) runs: Vec<RecordedRun>,
    pub(crate) events: Vec<RecordedEvent>,
    pub(crate) final_jobs: Vec<FinalJob>,
    #[serde(default)]
    pub(crate) errors: Vec<RecordedError>,
}

#[derive(Deserialize)]
pub(crate) struct Scenario {
    jobs: Vec<Job>,
    actions: Option<Vec<Action>>,
    pub(crate) until: Time,
    /// Nothing executes from the first instant until the second.
    #[serde(default)]
    pub(crate) stalls: Vec<(Time, Time)>,
    /// How many runs of all jobs may be active together; the others are queued.
    pub(crate) workers: Option<u32>,
    #[serde(default)]
    pub(crate) job_defaults: Options,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) trigger: Trigger,
    /// The length of each run; the last one applies to all later runs. Empty: no time.
    #[serde(default)]
    durations: Vec<Time>,
    /// Which runs fail, counted from 0.
    #[serde(default)]
    pub(crate) fail_runs: Vec<usize>,
    #[serde(default)]
    pub(crate) replace_existing: bool,
    #[serde(flatten)]
    pub(crate) options: Options,
}

/// The options of a job, or changes of them.
#[derive(Clone, Default, Deserialize)]
pub(crate) struct Options {
    #[serde(default, deserialize_with = "given")]
    pub(crate) misfire_grace_time: Option<Option<Time>>,
    pub(crate) coalesce: Option<bool>,
    pub(crate) max_instances: Option<u32>,
    /// The next fire time, overriding the trigger; `None` pauses the job.
    #[serde(default, deserialize_with = "given")]
    pub(crate) next_run_time: Option<Option<Time>>,
}

#[derive(Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Trigger {
    Interval { seconds: Time, start_date: Option<Time>, end_date: Option<Time> },
    Date { run_date: Time },
    Cron { second: String },
}

#[derive(Clone, Deserialize)]
struct Action {
    t: Time,
    #[serde(flatten)]
    op: Op,
}

/// A call of a verb of the scheduler.
pub(crate) struct Command {
    pub(crate) t: Time,
    /// When the trigger of the command was made.
    pub(crate) made: Time,
    pub(crate) op: Op,
}

#[derive(Clone, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Op {
    Add {
        job: Job,
    },
    Start {
        #[serde(default)]
        paused: bool,
    },
    Shutdown,
    Restart,
    Pause,
    Resume,
    PauseJob {
        id: String,
    },
    ResumeJob {
        id: String,
    },
    RemoveJob {
        id: String,
    },
    ModifyJob {
        id: String,
        changes: Options,
    },
    RescheduleJob {
        id: String,
        trigger: Trigger,
    },
}

/// A call of a job's body.
#[derive(Clone, Deserialize)]
pub(crate) struct RecordedRun {
    pub(crate) job: String,
    pub(crate) start: Time,
    /// `None` if it was still active at the end.
    pub(crate) end: Option<Time>,
}

#[derive(Deserialize)]
pub(crate) struct RecordedEvent {
    pub(crate) t: Time,
    #[serde(flatten)]
    pub(crate) what: EventPayload,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum EventPayload {
    SchedulerStarted,
    SchedulerPaused,
    SchedulerResumed,
    SchedulerShutdown,
    JobAdded { job: String },
    JobModified { job: String },
    JobRemoved { job: String },
    JobSubmitted { job: String, scheduled: Vec<Time> },
    JobMaxInstances { job: String, scheduled: Vec<Time> },
    JobExecuted { job: String, scheduled: Time, retval: usize },
    JobError { job: String, scheduled: Time, exception: String },
    JobMissed { job: String, scheduled: Time },
}

#[derive(Deserialize)]
pub(crate) struct FinalJob {
    pub(crate) id: String,
    pub(crate) next_run_time: Option<Time>,
}

#[derive(Deserialize)]
pub(crate) struct RecordedError {
    pub(crate) t: Time,
    pub(crate) error_type: String,
}

impl Trace {
    /// Converts a time of the trace to an instant.
    pub(crate) fn instant(&self, t: Time) -> DateTime<Utc> {
        self.t0 + TimeDelta::milliseconds(t.0)
    }

    /// Converts an instant to a time of the trace.
    pub(crate) fn time(&self, instant: DateTime<Utc>) -> Time {
        Time((instant - self.t0).num_milliseconds())
    }

    /// Returns the trigger that fires like a recorded one. `first` overrides its first fire time;
    /// `made` is when it was made, if not when the job got it.
    pub(crate) fn trigger(
        &self,
        recorded: &Trigger,
        first: Option<Time>,
        made: Option<Time>,
    ) -> trigger::Trigger {
        let trigger = match recorded {
            Trigger::Interval { seconds, start_date, end_date } => {
                let mut build = every(seconds.duration());
                // Its grid continues from the overriding instant, and otherwise from one period
                // after it was made.
                let made = made.map(|made| Time(made.0 + seconds.0));
                if let Some(start) = first.or(*start_date).or(made) {
                    build = build.starting_at(self.instant(start));
                }
                if let Some(end) = end_date {
                    build = build.until(self.instant(*end));
                }
                build.into_trigger()
            }
            Trigger::Date { run_date } => {
                trigger::at(self.instant(first.unwrap_or(*run_date))).into_trigger()
            }
            Trigger::Cron { second } => {
                let cron = CronFields::builder().second(second);
                match first.map(|first| self.instant(first)) {
                    None => cron.into_trigger(),
                    Some(first) => {
                        trigger::or((trigger::at(first), cron.starting_at(first))).into_trigger()
                    }
                }
            }
        };
        trigger.unwrap_or_else(|error| panic!("{}: {error}", self.id))
    }

    /// The first fire time after this one.
    pub(crate) fn next_after(&self, trigger: &trigger::Trigger, t: Time) -> Option<Time> {
        let next = trigger.next_after(self.instant(t)).expect("nothing takes long to find");
        next.map(|next| self.time(next))
    }
}

impl Scenario {
    /// Returns the commands in order. Jobs that are added before the start are added at the start.
    pub(crate) fn commands(&self) -> Vec<Command> {
        let all_at_once = || {
            let adds = self.jobs.iter().map(|job| Op::Add { job: job.clone() });
            let ops = adds.chain([Op::Start { paused: false }]);
            ops.map(|op| Action { t: Time(0), op }).collect()
        };
        let actions = self.actions.clone().unwrap_or_else(all_at_once);
        let start = actions.iter().position(|action| matches!(action.op, Op::Start { .. }));
        let (pending, rest) = actions.split_at(start.expect("every scenario starts a scheduler"));
        let command =
            |action: &Action| Command { t: action.t, made: action.t, op: action.op.clone() };
        let mut commands: Vec<Command> = rest.iter().map(command).collect();
        let t = commands[0].t;
        commands.splice(1..1, pending.iter().map(|action| Command { t, ..command(action) }));
        commands
    }
}

impl Job {
    /// Returns the length of a run.
    pub(crate) fn duration(&self, run: usize) -> Time {
        self.durations.get(run).or(self.durations.last()).copied().unwrap_or_default()
    }

    pub(crate) fn is_instantaneous(&self) -> bool {
        self.durations.iter().all(|duration| *duration == Time(0))
    }

    pub(crate) fn is_date(&self) -> bool {
        matches!(self.trigger, Trigger::Date { .. })
    }
}

impl Time {
    /// The time as a duration.
    pub(crate) fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.try_into().expect("no duration is negative"))
    }
}

impl From<f64> for Time {
    fn from(seconds: f64) -> Time {
        Time((seconds * 1000.0).round() as i64)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 as f64 / 1000.0)
    }
}

/// Separates `null` from a missing field.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Time>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
