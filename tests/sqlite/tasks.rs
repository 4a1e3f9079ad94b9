//! A task that notes its runs, for tests of schedulers on a file.

use std::sync::{Arc, Mutex};

use punctual::{Context, Scheduler, SchedulerBuilder, Task, store::SqliteStore};
use serde::{Deserialize, Serialize};

/// The texts of the runs so far.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The number of runs of this text.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|noted| *noted == text).count()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Remember(String);

impl Task for Remember {
    const NAME: &'static str = "remember";
    type Output = ();

    async fn run(self, cx: Context) {
        cx.state::<Notes>().0.lock().unwrap().push(self.0);
    }
}

pub(crate) fn remember(text: &str) -> Remember {
    Remember(text.into())
}

/// A scheduler on this store that knows the task.
pub(crate) fn on(store: &SqliteStore, notes: &Notes) -> SchedulerBuilder {
    Scheduler::builder().store(store.clone()).state(notes.clone()).task::<Remember>()
}
