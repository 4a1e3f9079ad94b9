//! Timers that are better than Tokio's millisecond: a thread that sleeps to the microsecond and hands
//! over.
//!
//! The `DelayQueue` ends its waits a little early, and what is left of them is waited for here.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::Context,
    thread,
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::time::Instant;

use super::timers::Wake;

/// How early the delay queue's waits end: its timers are up to 2 ms late.
const LEAD: Duration = Duration::from_millis(4);

/// How much of a wait is spun away, since a sleeping thread may be woken that much too late.
const SPIN: Duration = Duration::from_micros(80);

pub(super) struct Precise {
    /// What is due within the lead, the earliest first. It leaves when it is due, and not earlier if
    /// it is called off: to look at a job for nothing does no harm.
    near: BinaryHeap<Reverse<(Instant, u32)>>,
    alarm: Arc<Alarm>,
}

/// What the thread and the driver share.
#[derive(Default)]
struct Alarm {
    setting: Mutex<Setting>,
    /// Tells the thread of another setting.
    changed: Condvar,
    /// Whom to wake when the alarm goes off.
    sleeper: AtomicWaker,
}

#[derive(Default)]
struct Setting {
    at: Option<std::time::Instant>,
    closed: bool,
}

impl Precise {
    /// Starts the thread, which ends when this is dropped.
    pub(super) fn start() -> io::Result<Precise> {
        let alarm = Arc::new(Alarm::default());
        let precise = Precise { near: BinaryHeap::new(), alarm: alarm.clone() };
        thread::Builder::new().name("punctual-timer".into()).spawn(move || alarm.keep())?;
        Ok(precise)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.near.is_empty()
    }

    /// Takes a job on that is due in a moment; for any other, says when to look again.
    pub(super) fn unless_near(&mut self, slot: u32, deadline: Instant) -> Option<Instant> {
        let early = deadline.checked_sub(LEAD);
        if let Some(early) = early.filter(|&early| early > Instant::now()) {
            return Some(early);
        }
        let first = self.near.peek().is_none_or(|Reverse((first, _))| deadline < *first);
        self.near.push(Reverse((deadline, slot)));
        if first {
            self.alarm.set(deadline);
        }
        None
    }

    /// Takes what is due by now, and sees to it that the task is woken for the next.
    pub(super) fn take_reached(&mut self, cx: &mut Context<'_>, reached: &mut Vec<Wake>) {
        self.alarm.sleeper.register(cx.waker());
        let now = Instant::now();
        let before = reached.len();
        while let Some(&Reverse((deadline, slot))) = self.near.peek()
            && deadline <= now
        {
            self.near.pop();
            reached.push(Wake::Job(slot));
        }
        if reached.len() > before {
            if let Some(&Reverse((next, _))) = self.near.peek() {
                self.alarm.set(next);
            }
        } else if self.alarm.setting().at.is_none() {
            // It went off by the real clock, and Tokio's was paused: the driver will see that.
            reached.extend(self.near.drain().map(|Reverse((_, slot))| Wake::Job(slot)));
        }
    }
}

impl Drop for Precise {
    fn drop(&mut self) {
        self.alarm.setting().closed = true;
        self.alarm.changed.notify_one();
    }
}

impl Alarm {
    fn set(&self, at: Instant) {
        self.setting().at = Some(at.into_std());
        self.changed.notify_one();
    }

    /// What the thread does: wakes the driver at the instant that is set, time and again.
    fn keep(&self) {
        let mut setting = self.setting();
        while !setting.closed {
            let Some(at) = setting.at else {
                setting = self.changed.wait(setting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = at.saturating_duration_since(std::time::Instant::now());
            if left > SPIN {
                let waited = self.changed.wait_timeout(setting, left - SPIN);
                setting = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            drop(setting);
            while std::time::Instant::now() < at {
                std::hint::spin_loop();
            }
            setting = self.setting();
            if setting.at == Some(at) {
                setting.at = None;
                self.sleeper.wake();
            }
        }
    }

    fn setting(&self) -> MutexGuard<'_, Setting> {
        // Nothing panics while it holds the lock.
        self.setting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
