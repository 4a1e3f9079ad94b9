//! The fates of all fire times and jobs: the form in which a recording and its replay are compared.

use super::trace::Time;

#[derive(Clone, Default, PartialEq)]
pub(crate) struct Account {
    pub(crate) facts: Vec<Fact>,
    /// Runs in the order of their starts. Only runs that waited for no other run count.
    pub(crate) starts: Vec<Start>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fact {
    Ran {
        job: String,
        fire_time: Time,
        start: Time,
        end: Option<(Time, Outcome)>,
    },
    Missed {
        job: String,
        fire_times: Stretch,
        at: Time,
    },
    Skipped {
        job: String,
        fire_times: Stretch,
        at: Time,
        reason: String,
    },
    Coalesced {
        job: String,
        fire_times: Stretch,
        at: Time,
        into: Time,
    },
    /// The scheduler, or a job, was started, paused, added, modified …
    Told {
        job: Option<String>,
        at: Time,
        what: &'static str,
    },
    /// A verb returned an error.
    Refused {
        at: Time,
        error: &'static str,
    },
    /// The job existed at the end.
    Left {
        job: String,
        next: Option<Time>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed,
    Cancelled,
}

/// Successive fire times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stretch {
    pub(crate) first: Time,
    pub(crate) last: Time,
    pub(crate) count: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Start {
    pub(crate) at: Time,
    pub(crate) job: String,
    pub(crate) fire_time: Time,
}

impl Fact {
    pub(crate) fn told(job: &str, at: Time, what: &'static str) -> Fact {
        Fact::Told { job: Some(job.into()), at, what }
    }

    /// Returns the fact of a run that took no time.
    pub(crate) fn instantaneous_run(job: &str, fire_time: Time, at: Time) -> Fact {
        let end = Some((at, Outcome::Succeeded));
        Fact::Ran { job: job.into(), fire_time, start: at, end }
    }

    /// Returns the time of the fact, or `None` for one about the end.
    pub(crate) fn at(&self) -> Option<Time> {
        match self {
            Fact::Ran { start: at, .. }
            | Fact::Missed { at, .. }
            | Fact::Skipped { at, .. }
            | Fact::Coalesced { at, .. }
            | Fact::Told { at, .. }
            | Fact::Refused { at, .. } => Some(*at),
            Fact::Left { .. } => None,
        }
    }

    /// Returns the first of the job's fire times whose fate this fact is, if any.
    pub(crate) fn fire_time_of(&self, id: &str) -> Option<Time> {
        let (job, fire_time) = match self {
            Fact::Ran { job, fire_time, .. } => (job, fire_time),
            Fact::Missed { job, fire_times, .. }
            | Fact::Skipped { job, fire_times, .. }
            | Fact::Coalesced { job, fire_times, .. } => (job, &fire_times.first),
            Fact::Told { .. } | Fact::Refused { .. } | Fact::Left { .. } => return None,
        };
        (job == id).then_some(*fire_time)
    }
}

impl Account {
    /// Returns the facts that only one of the two has, in order of time, and runs that start in
    /// another order.
    pub(crate) fn differences(&self, replayed: &Account) -> Vec<String> {
        let mut facts: Vec<(&str, &Fact)> = Vec::new();
        facts.extend(missing(&self.facts, &replayed.facts).map(|fact| ("expected", fact)));
        facts.extend(missing(&replayed.facts, &self.facts).map(|fact| ("replayed", fact)));
        facts.sort_by_key(|(_, fact)| (fact.at().is_none(), fact.at()));
        let mut differences: Vec<String> =
            facts.iter().map(|(side, fact)| format!("{side} only: {fact:?}")).collect();
        let (expected, replayed) = (self.starts_also_in(replayed), replayed.starts_also_in(self));
        if let Some((expected, replayed)) = expected.zip(replayed).find(|(a, b)| a != b) {
            differences.push(format!("expected first: {expected:?}, not {replayed:?}"));
        }
        differences
    }

    fn starts_also_in<'a>(&'a self, other: &'a Account) -> impl Iterator<Item = &'a Start> {
        self.starts.iter().filter(|start| other.starts.contains(start))
    }
}

/// Returns the facts that are not among the others, counting repetitions.
fn missing<'a>(facts: &'a [Fact], others: &[Fact]) -> impl Iterator<Item = &'a Fact> {
    let mut others: Vec<&Fact> = others.iter().collect();
    facts.iter().filter(move |fact| match others.iter().position(|other| other == fact) {
        Some(other) => {
            others.swap_remove(other);
            false
        }
        None => true,
    })
}
