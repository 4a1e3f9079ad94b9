//! What the process has used: CPU time, wake-ups and memory.

use std::time::Duration;

/// What all threads of the process have used so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// Voluntary context switches: each wait has ended with a wake-up, or will.
    pub(crate) wake_ups: u64,
}

impl Usage {
    #[cfg(unix)]
    pub(crate) fn now() -> Usage {
        use nix::sys::{
            resource::{UsageWho, getrusage},
            time::TimeValLike as _,
        };

        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("every process may ask for its own");
        let time = usage.user_time() + usage.system_time();
        Usage {
            cpu: Duration::from_micros(time.num_microseconds().try_into().unwrap_or_default()),
            wake_ups: usage.voluntary_context_switches().try_into().unwrap_or_default(),
        }
    }

    /// There is nobody to ask, so the figures are zeros.
    #[cfg(not(unix))]
    pub(crate) fn now() -> Usage {
        Usage::default()
    }

    /// What was used since.
    pub(crate) fn since(before: Usage) -> Usage {
        let now = Usage::now();
        Usage { cpu: now.cpu.saturating_sub(before.cpu), wake_ups: now.wake_ups - before.wake_ups }
    }
}

/// The bytes of memory that are in use as the system sees it, where it says so. What was given back
/// to the allocator may stay with it, and count.
pub(crate) fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}
