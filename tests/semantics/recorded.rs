//! The recorded fates of all fire times, in this crate's terms.
//!
//! APScheduler reports which fire times it submitted, and which it did not because of
//! `max_instances`. Coalesced fire times and those of paused jobs are not reported there, but are
//! events here.

use std::collections::BTreeMap;

use punctual::trigger;

use super::{
    account::{Account, Fact, Outcome, Start, Stretch},
    trace::{Command, EventPayload, Op, RecordedRun, Time, Trace, Trigger},
};

/// Converts a trace to this crate's terms.
pub(crate) fn recorded(trace: &Trace) -> Account {
    let mut recording = Recording::new(trace);
    let commands = trace.scenario.commands();
    let mut commands = commands.iter().peekable();
    for event in &trace.events {
        while let Some(command) = commands.next_if(|command| command.t <= event.t) {
            recording.command(command);
        }
        recording.event(event.t, &event.what);
    }
    commands.for_each(|command| recording.command(command));

    let Account { mut facts, mut starts } = recording.account;
    facts.extend(trace.errors.iter().map(|error| {
        let what = match &*error.error_type {
            "ConflictingIdError" => "duplicate id",
            "JobLookupError" => "unknown job",
            other => panic!("{}: no counterpart of {other} is known", trace.id),
        };
        Fact::Refused { at: error.t, error: what }
    }));
    facts.extend(trace.final_jobs.iter().map(|left| {
        let (job, next) = (left.id.clone(), left.next_run_time);
        Fact::Left { job, next }
    }));
    starts.sort_by_key(|start| start.at);
    Account { facts, starts }
}

struct Recording<'a> {
    trace: &'a Trace,
    jobs: BTreeMap<String, Job>,
    /// The reported fates of submitted fire times, by job.
    said: BTreeMap<(&'a str, Time), Said>,
    /// The runs of each job.
    runs: BTreeMap<&'a str, Vec<&'a RecordedRun>>,
    /// The runs of all jobs without a reported fire time, since they, or runs submitted with them,
    /// were still active at the end.
    unsaid: Vec<&'a RecordedRun>,
    account: Account,
}

/// The state of a job's trigger.
struct Job {
    recorded: Trigger,
    trigger: trigger::Trigger,
    /// The first fire time without a fate.
    next: Option<Time>,
    paused: bool,
    grace: Option<Time>,
}

enum Said {
    /// The job's run with this number was for it.
    Ran(usize, Outcome),
    Missed(Time),
}

impl<'a> Recording<'a> {
    fn new(trace: &'a Trace) -> Recording<'a> {
        let mut runs: BTreeMap<&str, Vec<&RecordedRun>> = BTreeMap::new();
        for run in &trace.runs {
            runs.entry(&run.job).or_default().push(run);
        }
        let mut unsaid: Vec<&RecordedRun> = trace.runs.iter().collect();
        let mut said = BTreeMap::new();
        for event in &trace.events {
            let (job, fire_time, what) = match &event.what {
                EventPayload::JobExecuted { job, scheduled, retval } => {
                    (job, scheduled, Said::Ran(*retval, Outcome::Succeeded))
                }
                EventPayload::JobError { job, scheduled, exception } => {
                    let run = exception.trim_matches(|c: char| !c.is_ascii_digit());
                    let run = run.parse().expect("an exception says the number of its run");
                    (job, scheduled, Said::Ran(run, Outcome::Failed))
                }
                EventPayload::JobMissed { job, scheduled } => {
                    (job, scheduled, Said::Missed(event.t))
                }
                _ => continue,
            };
            if let Said::Ran(run, _) = what {
                let run = runs[&**job][run];
                unsaid.retain(|other| !std::ptr::eq(*other, run));
            }
            let before = said.insert((&**job, *fire_time), what);
            assert!(before.is_none(), "{}: {job} fired twice at {fire_time:?}", trace.id);
        }
        let account = Account::default();
        Recording { trace, jobs: BTreeMap::new(), said, runs, unsaid, account }
    }

    fn command(&mut self, command: &Command) {
        match &command.op {
            Op::Add { job } => {
                if self.jobs.contains_key(&job.id) && !job.replace_existing {
                    return;
                }
                let next = job.options.next_run_time;
                let defaults = &self.trace.scenario.job_defaults;
                let grace = job.options.misfire_grace_time.or(defaults.misfire_grace_time);
                let mut added = self.job(command, &job.trigger, next.flatten());
                added.paused = next == Some(None);
                added.grace = grace.unwrap_or(Some(Time(1000)));
                self.jobs.insert(job.id.clone(), added);
            }
            Op::RescheduleJob { id, trigger } => {
                self.pass_over_paused(id, Time(command.t.0 + 1), command.t);
                let job = self.job(command, trigger, None);
                let grace = self.jobs[id].grace;
                self.jobs.insert(id.clone(), Job { grace, ..job });
            }
            Op::ModifyJob { id, changes } => {
                let Some(job) = self.jobs.get_mut(id) else { return };
                let grace = changes.misfire_grace_time.unwrap_or(job.grace);
                job.grace = grace;
                if let Some(Some(next)) = changes.next_run_time {
                    let recorded = job.recorded.clone();
                    let job = self.job(command, &recorded, Some(next));
                    self.jobs.insert(id.clone(), Job { grace, ..job });
                }
            }
            Op::PauseJob { id } => self.set_paused(id, true),
            Op::ResumeJob { id } => {
                self.pass_over_paused(id, command.t, command.t);
                self.set_paused(id, false);
            }
            Op::Start { .. }
            | Op::Shutdown
            | Op::Restart
            | Op::Pause
            | Op::Resume
            | Op::RemoveJob { .. } => {}
        }
    }

    /// Returns a job with this trigger from the command on; `first` overrides its first fire time.
    fn job(&self, command: &Command, recorded: &Trigger, first: Option<Time>) -> Job {
        let trigger = self.trace.trigger(recorded, first, Some(command.made));
        let next = match recorded {
            Trigger::Date { run_date } => Some(*run_date),
            _ => self.trace.next_after(&trigger, Time(command.t.0 - 1)),
        };
        let recorded = recorded.clone();
        Job { recorded, trigger, next: first.or(next), paused: false, grace: None }
    }

    fn set_paused(&mut self, id: &str, paused: bool) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.paused = paused;
        }
    }

    fn event(&mut self, t: Time, what: &'a EventPayload) {
        let (job, what) = match what {
            EventPayload::JobSubmitted { job, scheduled } => {
                self.coalesce(job, scheduled, t);
                return self.run(job, scheduled, t);
            }
            EventPayload::JobMaxInstances { job, scheduled } => {
                self.coalesce(job, scheduled, t);
                return self.account.facts.push(Fact::Skipped {
                    job: job.clone(),
                    fire_times: stretch(scheduled),
                    at: t,
                    reason: "max instances".into(),
                });
            }
            EventPayload::JobExecuted { .. }
            | EventPayload::JobError { .. }
            | EventPayload::JobMissed { .. } => return,
            EventPayload::SchedulerStarted => (None, "started"),
            EventPayload::SchedulerPaused => (None, "paused"),
            EventPayload::SchedulerResumed => (None, "resumed"),
            EventPayload::SchedulerShutdown => (None, "shut down"),
            EventPayload::JobAdded { job } => (Some(job.clone()), "added"),
            EventPayload::JobModified { job } => (Some(job.clone()), "modified"),
            EventPayload::JobRemoved { job } => (Some(job.clone()), "removed"),
        };
        self.account.facts.push(Fact::Told { job, at: t, what });
    }

    /// Coalesces the fire times that passed and were submitted neither before nor with these into
    /// the first of these.
    fn coalesce(&mut self, id: &str, submitted: &[Time], at: Time) {
        let (job, into) = (id.to_owned(), submitted[0]);
        if let Some(fire_times) = self.pass_over(id, into) {
            self.account.facts.push(Fact::Coalesced { job, fire_times, at, into });
        }
        self.go_on_after(id, stretch(submitted).last);
    }

    /// Skips the fire times that passed while a job was paused, when it is resumed; a date stays
    /// due.
    fn pass_over_paused(&mut self, id: &str, before: Time, at: Time) {
        let is_date = |job: &Job| matches!(job.recorded, Trigger::Date { .. });
        if self.jobs.get(id).is_some_and(|job| job.paused && !is_date(job))
            && let Some(fire_times) = self.pass_over(id, before)
        {
            let (job, reason) = (id.to_owned(), "paused".to_owned());
            self.account.facts.push(Fact::Skipped { job, fire_times, at, reason });
        }
    }

    /// Returns the fire times before this instant without a fate.
    fn pass_over(&mut self, id: &str, before: Time) -> Option<Stretch> {
        let mut passed = Vec::new();
        while let Some(next) = self.jobs[id].next.filter(|next| *next < before) {
            passed.push(next);
            self.go_on_after(id, next);
        }
        (!passed.is_empty()).then(|| stretch(&passed))
    }

    fn go_on_after(&mut self, id: &str, fire_time: Time) {
        let job = self.jobs.get_mut(id).expect("only jobs that were added fire");
        job.next = self.trace.next_after(&job.trigger, fire_time);
    }

    /// Adds the fates of fire times that were submitted together: they run one after the other, and
    /// each is judged by grace when the one before has ended.
    fn run(&mut self, id: &'a str, submitted: &[Time], at: Time) {
        let Some(mut now) = self.begun(id, submitted, at) else { return };
        let grace = self.jobs[id].grace;
        for &fire_time in submitted {
            let is_late = grace.is_some_and(|grace| now.0 - fire_time.0 > grace.0);
            let job = id.to_owned();
            let (run, outcome) = match self.said.get(&(id, fire_time)) {
                Some(Said::Ran(run, outcome)) => (self.runs[id][*run], *outcome),
                None if !is_late => {
                    let run = self.unsaid(id, now).expect("a run that is going is recorded");
                    (self.unsaid.remove(run), Outcome::Succeeded)
                }
                Some(Said::Missed(_)) | None => {
                    let fire_times = stretch(&[fire_time]);
                    self.account.facts.push(Fact::Missed { job, fire_times, at: now });
                    continue;
                }
            };
            if fire_time == submitted[0] {
                let at = run.start;
                self.account.starts.push(Start { at, job: job.clone(), fire_time });
            }
            let end = run.end.map(|end| (end, outcome));
            self.account.facts.push(Fact::Ran { job, fire_time, start: run.start, end });
            let Some(end) = run.end else { return };
            now = end;
        }
    }

    /// Returns when the first of these fire times was judged: at `at`, or when a worker was free.
    /// `None` if it still waits for a worker.
    fn begun(&self, id: &str, submitted: &[Time], at: Time) -> Option<Time> {
        let said = || submitted.iter().filter_map(|t| self.said.get(&(id, *t)));
        let ran = said().find_map(|said| match said {
            Said::Ran(run, _) => Some(self.runs[id][*run].start),
            Said::Missed(_) => None,
        });
        let missed = said().find_map(|said| match said {
            Said::Missed(at) => Some(*at),
            Said::Ran(..) => None,
        });
        let going = || Some(self.unsaid[self.unsaid(id, at)?].start);
        ran.or(missed).or_else(going)
    }

    /// Returns the first run of a job, from an instant on, without a reported fire time.
    fn unsaid(&self, id: &str, from: Time) -> Option<usize> {
        self.unsaid.iter().position(|run| run.job == id && run.start >= from)
    }
}

fn stretch(fire_times: &[Time]) -> Stretch {
    let last = fire_times.last().expect("a stretch has fire times");
    Stretch { first: fire_times[0], last: *last, count: fire_times.len() as u64 }
}
