//! The tasks of these tests, and their notes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{StreamExt as _, stream::BoxStream};
use punctual::{
    BoxError, Context, Event, EventFilter, EventKind, Scheduler, SchedulerBuilder, Task,
    store::{Fate, MemoryStore, Row, RowKind, RowState, RunEnd, Store},
};
use serde::{Deserialize, Serialize};

/// The runs, in order.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<Note>>>);

#[derive(Clone, Debug)]
pub(crate) struct Note {
    /// The argument of [`Remember`]; `begin` or `end` for [`Lasting`].
    pub(crate) text: String,
    pub(crate) fire_time: DateTime<Utc>,
    pub(crate) late_by: Duration,
    pub(crate) attempt: u32,
    pub(crate) fence: u64,
    pub(crate) on_request: bool,
}

impl Notes {
    pub(crate) fn all(&self) -> Vec<Note> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.all().into_iter().map(|note| note.text).collect()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    pub(crate) fn add(&self, cx: &Context, text: &str) {
        self.0.lock().unwrap().push(Note {
            text: text.into(),
            fire_time: cx.fire_time(),
            late_by: cx.late_by(),
            attempt: cx.attempt(),
            fence: cx.fence().unwrap_or_default(),
            on_request: cx.on_request(),
        });
    }
}

/// Notes that it ran.
#[derive(Serialize, Deserialize)]
pub(crate) struct Remember(pub(crate) String);

impl Task for Remember {
    const NAME: &'static str = "remember";
    type Output = ();

    async fn run(self, cx: Context) {
        cx.state::<Notes>().add(&cx, &self.0);
    }
}

/// Runs for this many milliseconds, and then notes its run.
#[derive(Serialize, Deserialize)]
pub(crate) struct Slow(pub(crate) u64);

impl Task for Slow {
    const NAME: &'static str = "slow";
    type Output = ();

    async fn run(self, cx: Context) {
        tokio::time::sleep(Duration::from_millis(self.0)).await;
        cx.state::<Notes>().add(&cx, "slow");
    }
}

/// Notes its begin, runs for this many milliseconds, and notes its end.
#[derive(Serialize, Deserialize)]
pub(crate) struct Lasting(pub(crate) u64);

impl Task for Lasting {
    const NAME: &'static str = "lasting";
    type Output = ();

    async fn run(self, cx: Context) {
        cx.state::<Notes>().add(&cx, "begin");
        tokio::time::sleep(Duration::from_millis(self.0)).await;
        cx.state::<Notes>().add(&cx, "end");
    }
}

/// A scheduler on this store that knows the tasks.
pub(crate) fn on(store: &(impl Store + Clone), notes: &Notes) -> SchedulerBuilder {
    let builder = Scheduler::builder().store(store.clone()).state(notes.clone());
    builder.task::<Remember>().task::<Slow>().task::<Lasting>()
}

pub(crate) fn remember(text: &str) -> Remember {
    Remember(text.into())
}

/// Returns a stream of the events of this kind.
pub(crate) async fn event(scheduler: &Scheduler, kind: EventKind) -> BoxStream<'static, Event> {
    scheduler.events_matching(EventFilter::new().kinds([kind])).boxed()
}

/// Returns the rows of fire times and of requested runs.
pub(crate) async fn rows(store: &impl Store) -> Vec<Row> {
    let rows = store.rows(None, 1_000_000).await.unwrap();
    rows.into_iter().filter(|row| row.key.kind != RowKind::Ended).collect()
}

pub(crate) fn fates(rows: &[Row]) -> Vec<Fate> {
    let fate = |row: &Row| match &row.state {
        RowState::Closed(fate) => Some(fate.clone()),
        _ => None,
    };
    rows.iter().filter_map(fate).collect()
}

pub(crate) const RAN: Fate = Fate::Ran(RunEnd::Succeeded);

/// Returns the number of rows in the ledger.
pub(crate) async fn count(store: &MemoryStore) -> usize {
    store.rows(None, usize::MAX).await.unwrap().len()
}

/// Fails with a character in its message that some stores cannot keep.
#[derive(Serialize, Deserialize)]
pub(crate) struct Fails;

impl Task for Fails {
    const NAME: &'static str = "fails";
    type Output = Result<(), BoxError>;

    async fn run(self, _: Context) -> Result<(), BoxError> {
        Err("a\0b".into())
    }
}
