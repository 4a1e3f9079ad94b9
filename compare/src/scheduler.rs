//! Which schedulers are compared, and what they are called.

use clap::ValueEnum;

use crate::{
    peer::{ApalisCron, Clokwerk, DelayTimer, Punctual, TokioCronScheduler},
    scenario::{Row, Scenario, Unable},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(clippy::enum_variant_names, reason = "that is what the package is called")]
pub(crate) enum Scheduler {
    Punctual,
    TokioCronScheduler,
    /// Channels with room for all jobs.
    TokioCronSchedulerWide,
    DelayTimer,
    Clokwerk,
    ApalisCron,
    /// Workers that a monitor restarts.
    ApalisCronMonitored,
}

impl Scheduler {
    pub(crate) fn package(self) -> &'static str {
        match self {
            Scheduler::Punctual => "punctual",
            Scheduler::TokioCronScheduler | Scheduler::TokioCronSchedulerWide => {
                "tokio-cron-scheduler"
            }
            Scheduler::DelayTimer => "delay_timer",
            Scheduler::Clokwerk => "clokwerk",
            Scheduler::ApalisCron | Scheduler::ApalisCronMonitored => "apalis-cron",
        }
    }

    /// What is not its default.
    pub(crate) fn setting(self) -> Option<&'static str> {
        match self {
            Scheduler::TokioCronSchedulerWide => Some("wide channels"),
            Scheduler::ApalisCronMonitored => Some("in a restarting monitor"),
            _ => None,
        }
    }

    /// The version of its package, as the lock file has it.
    pub(crate) fn version(self) -> &'static str {
        let entry = format!("name = \"{}\"\nversion = \"", self.package());
        let (_, version) =
            include_str!("../Cargo.lock").split_once(&entry).expect("what is built is locked");
        version.split('"').next().expect("splitting yields something")
    }

    /// Whether it is of interest: settings are where they make a difference.
    pub(crate) fn meets(self, scenario: Scenario) -> bool {
        match self {
            Scheduler::TokioCronSchedulerWide => {
                matches!(scenario, Scenario::Burst | Scenario::Steady)
            }
            Scheduler::ApalisCronMonitored => {
                matches!(scenario, Scenario::Stall | Scenario::Panic)
            }
            _ => true,
        }
    }

    /// What readers of a scenario's table must know.
    pub(crate) fn remark(self, scenario: Scenario) -> Option<&'static str> {
        match (self, scenario) {
            (Scheduler::TokioCronScheduler, Scenario::Burst) => {
                Some("takes an instant, of which it keeps the whole seconds")
            }
            (Scheduler::Clokwerk, Scenario::Burst) => {
                Some("has no dates: these are daily jobs that are told to run once")
            }
            (Scheduler::ApalisCron, Scenario::Burst) => Some(
                "has no one-shot jobs: these are cron texts that name the year, in a worker each",
            ),
            (Scheduler::DelayTimer, Scenario::Stall) => {
                Some("makes a runtime of its own, which has other threads")
            }
            _ => None,
        }
    }

    /// Measures it, in this process.
    pub(crate) fn run(self, scenario: Scenario, jobs: u32) -> Result<Row, Unable> {
        match self {
            Scheduler::Punctual => scenario.run::<Punctual>(jobs),
            Scheduler::TokioCronScheduler => scenario.run::<TokioCronScheduler<false>>(jobs),
            Scheduler::TokioCronSchedulerWide => scenario.run::<TokioCronScheduler<true>>(jobs),
            Scheduler::DelayTimer => scenario.run::<DelayTimer>(jobs),
            Scheduler::Clokwerk => scenario.run::<Clokwerk>(jobs),
            Scheduler::ApalisCron => scenario.run::<ApalisCron<false>>(jobs),
            Scheduler::ApalisCronMonitored => scenario.run::<ApalisCron<true>>(jobs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_locked() {
        for scheduler in Scheduler::value_variants() {
            let version = scheduler.version();
            assert_eq!(version.split('.').count(), 3, "{scheduler:?} {version}");
        }
    }
}
