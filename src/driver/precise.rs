//! Timers that are more precise than Tokio's millisecond: a thread sleeps to the microsecond and
//! wakes the driver.
//!
//! The waits of the `DelayQueue` end a little early, and this thread waits for the rest.

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

/// How much of a wait is spent spinning, since a sleeping thread may wake that much too late.
const SPIN: Duration = Duration::from_micros(80);

pub(super) struct Precise {
    /// Jobs due within the lead, the earliest first. A job is removed when it is due, even if its
    /// timer was cancelled: waking a job without need does no harm.
    near: BinaryHeap<Reverse<(Instant, u32)>>,
    alarm: Arc<Alarm>,
}

/// The state that the thread and the driver share.
#[derive(Default)]
struct Alarm {
    setting: Mutex<Setting>,
    /// Signals the thread after a change.
    changed: Condvar,
    /// Woken when the alarm goes off.
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

    /// Takes over a job that is due within the lead; for any other, returns when to check again.
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

    /// Moves the jobs due by now to `reached`, and has the task woken for the next one.
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
            // The alarm went off by the real clock while Tokio's was paused: the driver handles
            // that.
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

    /// The loop of the thread: wakes the driver at the set instant, again and again.
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
        // Nothing panics while it has the lock.
        self.setting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
