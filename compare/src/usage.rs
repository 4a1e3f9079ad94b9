//! What this process has used so far: CPU time, wake-ups and memory, as `/proc/self` has them.

use std::{fs, time::Duration};

/// Why nothing can be said on other systems than Linux.
pub(crate) const NO_PROC: &str = "there is no /proc/self to read";

/// What all threads of the process have used.
#[derive(Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// Voluntary context switches: how often a thread had gone to sleep.
    pub(crate) switches: u64,
}

impl Usage {
    /// `None` where there is no such thing as `/proc/self`.
    pub(crate) fn now() -> Option<Usage> {
        let mut usage = Usage::default();
        for thread in fs::read_dir("/proc/self/task").ok()? {
            let thread = thread.ok()?.path();
            // utime and stime count ticks of 10 ms; this counts nanoseconds.
            let schedstat = fs::read_to_string(thread.join("schedstat")).ok()?;
            usage.cpu += Duration::from_nanos(schedstat.split(' ').next()?.parse().ok()?);
            let status = fs::read_to_string(thread.join("status")).ok()?;
            usage.switches += field(&status, "voluntary_ctxt_switches:")?;
        }
        Some(usage)
    }

    /// What was used since an earlier reading. Threads that ended meanwhile take theirs along.
    pub(crate) fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            switches: self.switches.saturating_sub(earlier.switches),
        }
    }
}

/// Resident memory, in bytes.
pub(crate) fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some(field(&status, "VmRSS:")? * 1024)
}

fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{thread, time::Instant};

    use super::*;

    #[test]
    fn work_is_cpu_time_and_sleep_is_a_switch() {
        let earlier = Usage::now().expect(NO_PROC);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {}
        thread::sleep(Duration::from_millis(1));
        let used = Usage::now().expect(NO_PROC).since(&earlier);
        assert!(used.cpu > Duration::from_millis(1), "{:?}", used.cpu);
        assert!(used.switches > 0);
    }

    #[test]
    fn memory_is_resident_once_it_is_written() {
        let before = resident().expect(NO_PROC);
        let memory = std::hint::black_box(vec![1_u8; 100 << 20]);
        assert!(resident().expect(NO_PROC) - before > 50 << 20);
        drop(memory);
    }
}
