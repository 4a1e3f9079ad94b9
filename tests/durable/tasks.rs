//! The tasks of these tests, and what they note.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use punctual::{Context, Scheduler, SchedulerBuilder, Task, store::MemoryStore};
use serde::{Deserialize, Serialize};

/// What ran, in order.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<Note>>>);

#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) text: String,
    pub(crate) fire_time: DateTime<Utc>,
    pub(crate) attempt: u32,
    pub(crate) fence: u64,
}

impl Notes {
    pub(crate) fn all(&self) -> Vec<Note> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Notes that it ran.
#[derive(Serialize, Deserialize)]
pub(crate) struct Remember(pub(crate) String);

impl Task for Remember {
    const NAME: &'static str = "remember";
    type Output = ();

    async fn run(self, cx: Context) {
        cx.state::<Notes>().0.lock().unwrap().push(Note {
            text: self.0,
            fire_time: cx.fire_time(),
            attempt: cx.attempt(),
            fence: cx.fence().unwrap_or_default(),
        });
    }
}

/// A scheduler on this store, that knows the tasks.
pub(crate) fn on(store: &MemoryStore, notes: &Notes) -> SchedulerBuilder {
    Scheduler::builder().store(store.clone()).state(notes.clone()).task::<Remember>()
}

pub(crate) fn remember(text: &str) -> Remember {
    Remember(text.into())
}
