//! Jobs of the stores as a whole: those that nobody here can run, and all of them as JSON.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use futures::{Stream, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Scheduler,
    durable::{self, Pages},
    stores::{self, Reservation},
};
use crate::{
    core::Place,
    driver::Durable,
    error::{Error, without_values},
    escape::Escaped,
    event::EventPayload,
    job::{self, DEFAULT_STORE, End, JobId, Labels, OnConflict},
    json,
    ledger::{
        Incarnation, Record, RecordFilter, Row, RowKey, RowKind, RowState, Write, WriteResult,
        is_nothing, nothing, recoveries,
    },
};

/// A job in the store that can't run on this scheduler; it is kept as it is.
///
/// It prints as a line, without the arguments: those are in `record.args`, and, shortened and with what
/// is wrong with them, in [`reason.sensitive_details()`](Error::sensitive_details).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), punctual::Error> {
/// # let scheduler =
/// #     punctual::Scheduler::builder().store(punctual::store::MemoryStore::new()).start().await?;
/// for job in scheduler.unhandled().await? {
///     eprintln!("{job}");
///     if let Some(details) = job.reason.sensitive_details() {
///         eprintln!("not for logs: {details}");
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Unhandled {
    /// The name of the store that it is in.
    pub store: Arc<str>,
    /// What the store has.
    pub record: Record,
    /// Why it can't run here: its task is not registered, its arguments do not fit, its trigger or its
    /// options can't be read, or there is no such executor.
    pub reason: Error,
}

impl fmt::Display for Unhandled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.record.id)?;
        if *self.store != *DEFAULT_STORE {
            write!(f, " in store {}", Escaped(&self.store))?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// All jobs of the stores as a document.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    punctual_jobs: u32,
    jobs: Vec<Exported>,
}

const FORMAT: u32 = 1;

/// How many bytes of a document are many: they are not read on a thread of the runtime.
const LONG: usize = 1 << 20;

/// A record whose JSON is not text in text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported {
    id: JobId,
    /// The name of its store; `default` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    task: String,
    args: Box<RawValue>,
    trigger: Box<RawValue>,
    options: Box<RawValue>,
    /// Which of these are text that is no JSON, and so a string here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    not_json: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    declared: Option<String>,
    added_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_fire: Option<DateTime<Utc>>,
    /// What is to run besides, since it was given back by whoever had taken it, or was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<Waiting>,
    #[serde(default)]
    paused: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resumed_at: Option<DateTime<Utc>>,
    #[serde(default)]
    recover: bool,
    #[serde(default = "recoveries")]
    recoveries: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused_because: Option<String>,
    /// A JSON object, as text: it is not for this version to read.
    #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
    extra: String,
}

/// A row of the ledger that waits.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    fire_time: DateTime<Utc>,
    #[serde(default)]
    requested: bool,
    #[serde(default)]
    coalesced: u64,
    attempt: u32,
}

impl Scheduler {
    /// The jobs in the stores that can't run on this scheduler, store by store, in order of their ids. They are kept:
    /// another scheduler may know their task, or a later version of this one.
    ///
    /// # Errors
    ///
    /// That a store is not available; that the scheduler has none.
    pub async fn unhandled(&self) -> Result<Vec<Unhandled>, Error> {
        let mut unhandled = Vec::new();
        for durable in self.stores()?.iter() {
            let mut pages = Pages::new(durable, RecordFilter::default());
            while let Some(records) = self.shared.within(pages.next()).await? {
                unhandled.extend(records.into_iter().filter_map(|record| {
                    let reason = durable::obstacle(&self.shared, &record)?;
                    Some(Unhandled { store: durable.name.clone(), record, reason })
                }));
            }
        }
        Ok(unhandled)
    }

    /// All jobs of the stores as a JSON document, for [`import`](Scheduler::import) into another. Jobs in
    /// memory, what has run, and what a scheduler has taken and is about to run, are not in it: pause all
    /// schedulers of the stores before, or shut them down.
    ///
    /// ```
    /// # use punctual::{OnConflict, Scheduler, store::MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), punctual::Error> {
    /// # let one = Scheduler::builder().store(MemoryStore::new()).start().await?;
    /// # let other = Scheduler::builder().store(MemoryStore::new()).start().await?;
    /// let jobs = one.export().await?;
    /// let count = other.import(&jobs, OnConflict::Replace).await?;
    /// # assert_eq!(count, 0);
    /// # one.shutdown().await; other.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That a store is not available; that the scheduler has none.
    pub async fn export(&self) -> Result<String, Error> {
        self.export_stream()?.try_collect().await
    }

    /// The same document in pieces, for a file or a connection: few jobs are in memory at once. It is
    /// complete when the stream ends, and not if there is an error among the pieces.
    ///
    /// ```
    /// # use futures::TryStreamExt;
    /// # use punctual::{Scheduler, store::MemoryStore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), punctual::Error> {
    /// # let scheduler = Scheduler::builder().store(MemoryStore::new()).start().await?;
    /// let mut pieces = std::pin::pin!(scheduler.export_stream()?);
    /// while let Some(piece) = pieces.try_next().await? {
    ///     print!("{piece}");
    /// }
    /// # scheduler.shutdown().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That the scheduler has no store.
    pub fn export_stream(
        &self,
    ) -> Result<impl Stream<Item = Result<String, Error>> + Send + use<>, Error> {
        let stores = self.stores()?;
        let pages = stores.iter().map(|durable| Pages::new(durable, RecordFilter::default()));
        let begin = Some((self.shared.clone(), pages.collect::<VecDeque<Pages>>(), 0));
        Ok(stream::unfold(begin, async |state| {
            let (shared, mut stored, mut count) = state?;
            let page = shared.within(async {
                while let Some(pages) = stored.front_mut() {
                    if let Some(records) = pages.next().await? {
                        let waiting = durable::waiting(&pages.durable, &records).await?;
                        return Ok(Some((pages.durable.name.clone(), records, waiting)));
                    }
                    stored.pop_front();
                }
                Ok(None)
            });
            Some(match page.await {
                Ok(Some((store, records, waiting))) => {
                    match piece(&store, &records, waiting, &mut count) {
                        Ok(piece) => (Ok(piece), Some((shared, stored, count))),
                        Err(error) => (Err(error), None),
                    }
                }
                Ok(None) if count == 0 => (Ok(format!("{HEAD}]\n}}")), None),
                Ok(None) => (Ok("\n  ]\n}".to_owned()), None),
                Err(error) => (Err(error), None),
            })
        }))
    }

    /// Adds the jobs of a document that [`export`](Scheduler::export) made, each as it was: paused or
    /// not, and with the same next fire time, so that what has passed since is due at once. Those
    /// whose tasks are not registered are added, too. Returns how many were added, those not counted
    /// that were there and stay.
    ///
    /// Each goes to the store of the name that it was in. One of `default` goes to the scheduler's only store,
    /// if it has one alone.
    ///
    /// They are added one by one: after an error those before it stay, and importing the rest again
    /// with [`OnConflict::Keep`] or [`OnConflict::Reconcile`] goes on.
    ///
    /// # Errors
    ///
    /// That the document is not one; that an id is taken, here or in another store; that a store
    /// is not available; that the scheduler has none of the name that a job was in.
    pub async fn import(&self, document: &str, on_conflict: OnConflict) -> Result<usize, Error> {
        self.stores()?;
        let document: Result<Document, _> = if document.len() > LONG {
            let document = document.to_owned();
            let read = move || serde_json::from_str(&document);
            let read = self.shared.runtime()?.spawn_blocking(read).await;
            read.map_err(|_| Error::shut_down("the runtime has shut down"))?
        } else {
            serde_json::from_str(document)
        };
        let document = document.map_err(|error| {
            let reason = without_values(&error);
            Error::unreadable(format!("this is no document of `export`: {reason}"))
                .with_details([&"the reason", &error])
        })?;
        if document.punctual_jobs != FORMAT {
            return Err(Error::unreadable(format!(
                "the document is of format {}, and this version reads {FORMAT}: use a later one",
                document.punctual_jobs
            )));
        }
        let jobs = document.jobs.into_iter().map(|job| {
            let durable = self.home_of(job.store.as_deref())?;
            let (record, waiting) = imported(job)?;
            Ok((durable, record, waiting))
        });
        let mut added = 0;
        for (durable, record, waiting) in jobs.collect::<Result<Vec<_>, Error>>()? {
            let import = self.import_one(&durable, record, waiting, on_conflict);
            added += usize::from(self.shared.within(import).await?);
        }
        Ok(added)
    }

    async fn import_one(
        &self,
        durable: &Durable,
        record: Record,
        waiting: Vec<Waiting>,
        on_conflict: OnConflict,
    ) -> Result<bool, Error> {
        let (incarnation, token) = self.shared.try_with(|state, _| {
            let mut number = || state.core.number(durable.key);
            Ok((Incarnation(number()?), number()?))
        })?;
        let mut record = Record { incarnation, ..record };
        let rows = waiting.into_iter().map(|waiting| row(&mut record, waiting)).collect();
        let next_fire = record.next_fire.filter(|_| !record.paused);
        let id = record.id.clone();
        let _reserved = Reservation::of(&self.shared, &id, Place::Store(durable.key))?;
        stores::check_free(&self.shared, vec![id], Some(durable.key)).await?;
        let mut replaces = None;
        let mut write = Write::add(record.clone(), token).with_rows(rows);
        loop {
            match durable::write_one(durable, write.clone()).await? {
                WriteResult::Done => break,
                WriteResult::Lost(current) => {
                    let there = current.as_deref();
                    let is_same = there.is_some_and(|it| it.declared == record.declared);
                    // What waits of the job belongs to its incarnation, so it is not changed in place.
                    let on_conflict = match on_conflict {
                        OnConflict::Reconcile if !is_same => OnConflict::Replace,
                        other => other,
                    };
                    let shared = &self.shared;
                    if !durable::give_way(shared, durable, &record, &mut write, there, on_conflict)?
                    {
                        return Ok(false);
                    }
                    replaces = current.filter(|it| it.ended_at.is_none()).map(|it| *it);
                }
            }
        }
        if let Some(replaced) = replaces {
            durable::forget(&self.shared, durable, &replaced, &End::Replaced);
        }
        let job = record.id;
        self.shared.with(|state, now| {
            state.core.note_in(durable.key, now, EventPayload::JobAdded { job, next_fire });
            state.core.expect(durable.key, next_fire);
            state.core.look(durable.key);
        });
        Ok(true)
    }

    /// The store for a job of a document. One that names none goes to the only store, if there is one alone.
    fn home_of(&self, name: Option<&str>) -> Result<Arc<Durable>, Error> {
        match (name, &self.stores()?[..]) {
            (None, [only]) => Ok(only.clone()),
            (name, _) => self.shared.stores.named(name.unwrap_or(DEFAULT_STORE)),
        }
    }

    fn stores(&self) -> Result<Arc<[Arc<Durable>]>, Error> {
        self.shared.runtime()?;
        let stores = self.shared.stores.usable();
        match stores.is_empty() {
            true => Err(Error::invalid_option("the scheduler has no store: give its builder one")),
            false => Ok(stores),
        }
    }
}

/// How the document begins.
const HEAD: &str = "{\n  \"punctual_jobs\": 1,\n  \"jobs\": [";

/// The jobs of these records as a piece of the document; `count` is how many there were before.
fn piece(
    store: &str,
    records: &[Record],
    mut waiting: HashMap<Incarnation, Vec<Row>>,
    count: &mut usize,
) -> Result<String, Error> {
    let mut piece = String::new();
    for record in records {
        let rows = waiting.remove(&record.incarnation).unwrap_or_default();
        let Some(job) = exported(store, record, rows) else { continue };
        let job = job.and_then(|job| serde_json::to_string_pretty(&job));
        let job = job.map_err(|error| {
            Error::unreadable(format!("job `{}` can't be written: {error}", record.id))
        })?;
        piece.push_str(if *count == 0 { HEAD } else { "," });
        // Line breaks are between the parts of JSON, and not in them.
        piece.push_str("\n    ");
        piece.push_str(&job.replace('\n', "\n    "));
        *count += 1;
    }
    Ok(piece)
}

/// What has no fire time left, and none that waits, is only waiting for its last run to end.
fn exported(
    store: &str,
    record: &Record,
    waiting: Vec<Row>,
) -> Option<serde_json::Result<Exported>> {
    let next_fire = record.next_fire;
    if next_fire.is_none() && waiting.is_empty() {
        return None;
    }
    let waiting = waiting.iter().map(|row| Waiting {
        fire_time: row.fire_time,
        requested: row.key.kind == RowKind::Requested,
        coalesced: row.coalesced,
        attempt: row.attempt,
    });
    let waiting = waiting.collect();
    let Record { id, name, tags, task, declared, added_at, paused, resumed_at, .. } =
        record.clone();
    let Record { paused_by, paused_because, extra, .. } = record.clone();
    let Record { recover, recoveries, .. } = *record;
    let mut not_json = Vec::new();
    // As it is, whatever its numbers.
    let mut raw = |what: &str, text: &String| match RawValue::from_string(text.clone()) {
        Ok(json) => Ok(json),
        Err(_) => {
            not_json.push(what.to_owned());
            serde_json::to_string(text).and_then(RawValue::from_string)
        }
    };
    let texts =
        [("args", &record.args), ("trigger", &record.trigger), ("options", &record.options)]
            .map(|(what, text)| raw(what, text));
    let [args, trigger, options] = texts;
    let exported = args.and_then(|args| {
        let (trigger, options) = (trigger?, options?);
        Ok(Exported {
            id,
            store: (store != DEFAULT_STORE).then(|| store.to_owned()),
            name,
            tags,
            task,
            args,
            trigger,
            options,
            not_json,
            declared,
            added_at,
            next_fire,
            waiting,
            paused,
            resumed_at,
            recover,
            recoveries,
            paused_by,
            paused_because,
            extra,
        })
    });
    Some(exported)
}

/// A row of the ledger for what waits of a job.
fn row(record: &mut Record, waiting: Waiting) -> Row {
    let Waiting { fire_time, requested, coalesced, attempt } = waiting;
    let (kind, number) = match requested {
        true => {
            record.requests = record.requests.wrapping_add(1);
            (RowKind::Requested, record.requests.cast_signed())
        }
        false => (RowKind::Scheduled, fire_time.timestamp_millis()),
    };
    let key = RowKey { incarnation: record.incarnation, kind, number };
    let row = Row::new(key, record.id.clone(), fire_time, RowState::Waiting);
    let Record { recover, recoveries, .. } = *record;
    Row { coalesced, attempt, recover, recoveries, ..row }
}

fn imported(job: Exported) -> Result<(Record, Vec<Waiting>), Error> {
    job.id.validate()?;
    job::check_name("the name of a task", &job.task)?;
    let labels = Labels {
        name: job.name.as_deref().map(Into::into),
        tags: job.tags.iter().map(|tag| tag.as_str().into()).collect(),
    };
    labels.validate()?;
    if job.next_fire.is_none() && job.waiting.is_empty() {
        return Err(Error::unreadable(format!(
            "job `{}` of the document has neither `next_fire` nor `waiting`, and would never run: leave it out",
            job.id
        )));
    }
    let text = |what: &str, raw: &RawValue| match job.not_json.iter().any(|it| it == what) {
        true => serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned()),
        false => raw.get().to_owned(),
    };
    let text = |what, raw| text(what, raw).replace('\0', "\u{FFFD}");
    for (what, raw) in
        [("arguments", &job.args), ("trigger", &job.trigger), ("options", &job.options)]
    {
        json::check(format_args!("the {what} of job `{}`", job.id), raw.get())?;
    }
    let by = [("who has paused the job", &job.paused_by), ("the reason", &job.paused_because)];
    for (what, text) in by {
        text.iter().try_for_each(|text| job::check_name(what, text))?;
    }
    json::check(format_args!("the rest of job `{}`", job.id), &job.extra)?;
    // What tells one store's life of a job from another's is not the job's.
    let incarnation = Incarnation(0);
    let record = Record {
        args: text("args", &job.args),
        trigger: text("trigger", &job.trigger),
        options: text("options", &job.options),
        name: job.name,
        tags: job.tags,
        declared: job.declared,
        next_fire: job.next_fire,
        paused: job.paused,
        resumed_at: job.resumed_at,
        recover: job.recover,
        recoveries: job.recoveries,
        paused_by: job.paused_by,
        paused_because: job.paused_because,
        extra: job.extra,
        ..Record::new(job.id, incarnation, job.task, job.added_at)
    };
    Ok((record, job.waiting))
}
