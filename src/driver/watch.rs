//! The thread that reads the clock once a second, and the machine's time zone data once an hour,
//! for all schedulers of the process.
//!
//! A timer of Tokio's would do, at three times the wake-ups: its wheel wakes up to move its timers
//! from one level to the next.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use super::shared::Shared;
use crate::{clock::StepWatch, panic::shielded, zone::reload_time_zone_data};

/// How often the machine's time zone data is read.
const ZONES_EVERY: Duration = Duration::from_secs(60 * 60);

/// The schedulers whose clock is watched; the thread exists as long as there are any.
static WATCHED: Mutex<Watched> =
    Mutex::new(Watched { schedulers: Vec::new(), running: false, zones_read: None });

struct Watched {
    schedulers: Vec<Weak<Shared>>,
    running: bool,
    /// When the time zone data was last read.
    zones_read: Option<Instant>,
}

/// Starts or stops watching a scheduler's clock. Returns whether it is watched.
pub(super) fn watch(scheduler: &Arc<Shared>, wanted: bool) -> bool {
    let mut watched = watched();
    let this = Arc::downgrade(scheduler);
    watched.schedulers.retain(|other| !other.ptr_eq(&this));
    if !wanted {
        return false;
    }
    if !watched.running {
        match thread::Builder::new().name("punctual-clock".into()).spawn(watch_clocks) {
            Ok(_) => watched.running = true,
            Err(error) => {
                tracing::warn!(target: "punctual", "no thread to watch the clock, trying again: {error}");
                return false;
            }
        }
    }
    watched.schedulers.push(this);
    true
}

/// The loop of the thread.
fn watch_clocks() {
    loop {
        thread::sleep(StepWatch::EVERY);
        let (schedulers, reads_zones) = {
            let mut watched = watched();
            let schedulers: Vec<_> = watched.schedulers.iter().filter_map(Weak::upgrade).collect();
            watched.running = !schedulers.is_empty();
            if !watched.running {
                watched.schedulers.clear();
                return;
            }
            // The data is read on first use, which may be now.
            let read = *watched.zones_read.get_or_insert_with(Instant::now);
            let reads_zones = read.elapsed() >= ZONES_EVERY;
            if reads_zones {
                watched.zones_read = Some(Instant::now());
            }
            (schedulers, reads_zones)
        };
        if reads_zones {
            shielded(|| _ = reload_time_zone_data());
        }
        for scheduler in schedulers {
            // Locking the state is enough: a step of the clock, or an update of the zones, is
            // noticed then.
            shielded(move || scheduler.catch_up());
        }
    }
}

fn watched() -> MutexGuard<'static, Watched> {
    // Nothing panics while it has the lock.
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}
