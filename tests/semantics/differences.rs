//! The deliberate differences, with reasons.
//!
//! Each rule turns the recorded account into the expected one, which is then compared.

use super::{
    account::{Account, Fact, Outcome},
    trace::{Job, Op, Time, Trace},
};

type Rule = fn(&Trace, &mut Account);

pub(crate) const DIFFERENT: &[(Rule, &str)] = &[
    (
        ends_with_its_last_run,
        "a job is over when its last run has ended, not when its last fire time has come",
    ),
    (
        starts_by_fire_time,
        "what starts at one instant starts in order of fire times and of adding, not of what was due first and of ids",
    ),
    (tells_that_it_resumes, "that a job is resumed is told even if it has no fire time left"),
    (
        cancels_what_is_replaced,
        "the runs of a job that is replaced are cancelled, and are no instances of the new one",
    ),
    (stays_paused, "a paused job that is given another trigger stays paused"),
    (
        refuses_what_never_fires,
        "a trigger that never fires is an error, and the job goes on by the one it has",
    ),
    (owes_nothing, "a job that is added owes no fire times from before, unless it is a date"),
    (
        forgets_what_passed_while_down,
        "jobs live in memory: they end with the scheduler, and whoever starts another adds them anew",
    ),
];

fn ends_with_its_last_run(trace: &Trace, account: &mut Account) {
    let commands = trace.scenario.commands();
    let is_asked_for = |job: &str, at: Time| {
        let is_this = |op: &Op| matches!(op, Op::RemoveJob { id } if id == job);
        commands.iter().any(|command| command.t == at && is_this(&command.op))
    };
    let facts = account.facts.clone();
    // `None` if a run is still active.
    let last_end = |job: &str, at: Time| {
        let fates = facts.iter().filter(|fact| fact.fire_time_of(job).is_some_and(|t| t <= at));
        let mut ends = fates.map(|fate| match fate {
            Fact::Ran { end, .. } => end.map(|(end, _)| end),
            other => other.at(),
        });
        ends.try_fold(at, |last, end| Some(last.max(end?)))
    };
    for fact in &mut account.facts {
        if let Fact::Told { job: Some(job), at, what: "removed" } = &fact
            && !is_asked_for(job, *at)
        {
            let job = job.clone();
            *fact = match last_end(&job, *at) {
                Some(end) => Fact::told(&job, end, "removed"),
                None => Fact::Left { job, next: None },
            };
        }
    }
}

fn starts_by_fire_time(trace: &Trace, account: &mut Account) {
    let commands = trace.scenario.commands();
    let is_added = |op: &Op, id: &str| matches!(op, Op::Add { job } if job.id == id);
    let added = |id: &str| commands.iter().rposition(|command| is_added(&command.op, id));
    account.starts.sort_by_key(|start| (start.at, start.fire_time, added(&start.job)));
}

fn tells_that_it_resumes(trace: &Trace, account: &mut Account) {
    for command in trace.scenario.commands() {
        let Op::ResumeJob { id } = command.op else { continue };
        let told = |what| Fact::told(&id, command.t, what);
        if account.facts.contains(&told("removed")) && !account.facts.contains(&told("modified")) {
            account.facts.push(told("modified"));
        }
    }
}

fn cancels_what_is_replaced(trace: &Trace, account: &mut Account) {
    for command in trace.scenario.commands() {
        let Op::Add { job } = command.op else { continue };
        if !job.replace_existing || !job.is_instantaneous() {
            continue;
        }
        // Until when runs of the old job were active.
        let mut instances = command.t;
        for fact in &mut account.facts {
            if let Fact::Ran { job: its, start, end, .. } = fact
                && (*its == job.id
                    && *start < command.t
                    && end.is_none_or(|(end, _)| end > command.t))
            {
                let ended = end.replace((command.t, Outcome::Cancelled));
                instances = instances.max(ended.map_or(trace.scenario.until, |(end, _)| end));
            }
        }
        for fact in &mut account.facts {
            if let Fact::Skipped { job: its, fire_times, at, .. } = &fact
                && (*its == job.id && (command.t..=instances).contains(at))
            {
                *fact = Fact::instantaneous_run(its, fire_times.last, *at);
            }
        }
    }
}

fn stays_paused(trace: &Trace, account: &mut Account) {
    let commands = trace.scenario.commands();
    for (index, command) in commands.iter().enumerate() {
        let Op::RescheduleJob { id, .. } = &command.op else { continue };
        let paused = commands[..index].iter().rev().find_map(|command| match &command.op {
            Op::PauseJob { id: its } if its == id => Some(true),
            Op::ResumeJob { id: its } if its == id => Some(false),
            _ => None,
        });
        if paused == Some(true) {
            account.facts.retain_mut(|fact| {
                if let Fact::Left { job, next } = fact
                    && job == id
                {
                    *next = None;
                }
                fact.fire_time_of(id).is_none_or(|t| t < command.t)
            });
        }
    }
}

fn refuses_what_never_fires(trace: &Trace, account: &mut Account) {
    let commands = trace.scenario.commands();
    for command in &commands {
        let Op::RescheduleJob { id, trigger } = &command.op else { continue };
        let just_before = Time(command.t.0 - 1);
        let refused = trace.trigger(trigger, None, Some(command.made));
        if trace.next_after(&refused, just_before).is_some() {
            continue;
        }
        let added = commands.iter().find_map(|command| match &command.op {
            Op::Add { job } if job.id == *id && job.is_instantaneous() => Some((job, command.made)),
            _ => None,
        });
        let Some((job, made)) = added else { continue };
        let trigger = trace.trigger(&job.trigger, None, Some(made));
        let mut next = trace.next_after(&trigger, just_before);
        while let Some(fire_time) = next.filter(|next| *next <= trace.scenario.until) {
            account.facts.push(Fact::instantaneous_run(id, fire_time, fire_time));
            next = trace.next_after(&trigger, fire_time);
        }
        for fact in &mut account.facts {
            match fact {
                Fact::Left { job, next: left } if job == id => *left = next,
                fact if *fact == Fact::told(id, command.t, "modified") => {
                    *fact = Fact::Refused { at: command.t, error: "never fires" };
                }
                _ => {}
            }
        }
    }
}

fn owes_nothing(trace: &Trace, account: &mut Account) {
    for command in trace.scenario.commands() {
        let Op::Add { job } = command.op else { continue };
        if !job.is_date() {
            account.facts.retain(|fact| {
                let is_from_before = fact.fire_time_of(&job.id).is_some_and(|t| t < command.t);
                !is_from_before || fact.at() < Some(command.t)
            });
        }
    }
}

fn forgets_what_passed_while_down(trace: &Trace, account: &mut Account) {
    let mut there: Vec<Job> = Vec::new();
    let mut down_since = None;
    for command in trace.scenario.commands() {
        match command.op {
            Op::Add { job } => there.push(job),
            Op::Shutdown => down_since = Some(command.t),
            Op::Restart => {
                let Some(since) = down_since else { continue };
                for job in &there {
                    let ended = |fact: &Fact| {
                        let told = |at| *fact == Fact::told(&job.id, at, "removed");
                        fact.at().is_some_and(|at| at < since && told(at))
                    };
                    if account.facts.iter().any(ended) {
                        continue;
                    }
                    account.facts.push(Fact::told(&job.id, command.t, "added"));
                    if !job.is_date() {
                        account.facts.retain(|fact| {
                            fact.fire_time_of(&job.id).is_none_or(|t| t <= since || t >= command.t)
                        });
                    }
                }
            }
            _ => {}
        }
    }
}
