//! Jobs of all stores as a whole: the jobs that this scheduler cannot run, and the export and
//! import as JSON.

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

/// A job in a store that cannot run on this scheduler. The store keeps the job.
///
/// `Display` prints one line, without the task's arguments. The arguments are in `record.args`; if
/// they are invalid, [`reason.sensitive_details()`](Error::sensitive_details) has them in short
/// form, with the reason.
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
    /// The name of the job's store.
    pub store: Arc<str>,
    /// The job's record.
    pub record: Record,
    /// Why the job cannot run here: its task is not registered, its arguments do not match, its
    /// trigger or options cannot be read, or its executor does not exist.
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

/// The exported jobs of all stores.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    punctual_jobs: u32,
    jobs: Vec<Exported>,
}

const FORMAT: u32 = 1;

/// The size in bytes above which a document is parsed on a blocking thread, not on a thread of the
/// runtime.
const LONG: usize = 1 << 20;

/// A record as part of a document, with its JSON fields as JSON instead of text: as many fields as a
/// [`Record`](crate::store::Record) has that outlive a store.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported {
    id: JobId,
    /// The name of the job's store; `None` is `default`.
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
    /// The names of those JSON fields that are not valid JSON, and are strings in the document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    not_json: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    declared: Option<String>,
    added_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_fire: Option<DateTime<Utc>>,
    /// Waiting runs: released, recovered or requested ones.
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
    /// A JSON object as text, which this version does not interpret.
    #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
    extra: String,
}

/// A waiting row of the ledger.
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
    /// Returns the jobs in all stores that cannot run on this scheduler, store by store, in order
    /// of their ids.
    ///
    /// The stores keep these jobs: another scheduler may have registered their task, or a later
    /// version of this one.
    ///
    /// # Errors
    ///
    /// If a store is not available, or the scheduler has no store.
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

    /// Returns all jobs of all stores as a JSON document, for [`import`](Scheduler::import).
    ///
    /// The document does not contain jobs in memory, past runs, and claimed runs. Before the
    /// export, pause or shut down all schedulers on the stores.
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
    /// If a store is not available, or the scheduler has no store.
    pub async fn export(&self) -> Result<String, Error> {
        self.export_stream()?.try_collect().await
    }

    /// Returns the document of [`export`](Scheduler::export) as a stream of pieces, which reads one
    /// page of jobs at a time.
    ///
    /// The document is complete when the stream has ended without an error.
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
    /// If the scheduler has no store.
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

    /// Adds the jobs of a document from [`export`](Scheduler::export). Returns the number of added
    /// jobs, without existing jobs that were kept.
    ///
    /// Each job keeps its state: it is paused or not, and has the same next fire time, so fire
    /// times that have passed since are due at once. Jobs whose tasks are not registered are added
    /// too. Each job goes to the store with the name of its old store; a job of `default` goes to
    /// the scheduler's only store, if it has just one.
    ///
    /// Jobs are added one by one. After an error the jobs before it remain; import the document
    /// again with [`OnConflict::Keep`] or [`OnConflict::Reconcile`] to add the rest.
    ///
    /// # Errors
    ///
    /// If the document is invalid, an id is in use in this or another store, a store is not
    /// available, or the scheduler has no store with the name of a job's store.
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
            Error::unreadable(format!("not a document of `export`: {reason}"))
                .with_details([&"the reason", &error])
        })?;
        if document.punctual_jobs != FORMAT {
            return Err(Error::unreadable(format!(
                "the document has format {}, but this version reads {FORMAT}: use a later version",
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
        let (incarnation, token) = self.shared.try_transact(|core, _| {
            let mut number = || core.number(durable.key);
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
            match durable::write_one(durable, write.clone()).await?.0 {
                WriteResult::Done => break,
                WriteResult::Lost(current) => {
                    let there = current.as_deref();
                    let is_same = there.is_some_and(|it| it.declared == record.declared);
                    // Waiting rows belong to the incarnation, so the existing job is not changed in
                    // place.
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
        self.shared.transact(|core, now| {
            core.note_in(durable.key, now, EventPayload::JobAdded { job, next_fire });
            core.note_due(durable.key, next_fire);
            core.refresh(durable.key);
        });
        Ok(true)
    }

    /// The store for a job of a document.
    fn home_of(&self, name: Option<&str>) -> Result<Arc<Durable>, Error> {
        match (name, &self.stores()?[..]) {
            (None, [only]) => Ok(only.clone()),
            (name, _) => self.shared.stores.named(name.unwrap_or(DEFAULT_STORE)),
        }
    }

    fn stores(&self) -> Result<Arc<[Arc<Durable>]>, Error> {
        self.shared.runtime()?;
        let stores = self.shared.stores.usable();
        if stores.is_empty() {
            return Err(Error::invalid_option(
                "the scheduler has no store: add one with `.store(..)` on its builder",
            ));
        }
        Ok(stores)
    }
}

/// The beginning of the document.
const HEAD: &str = "{\n  \"punctual_jobs\": 1,\n  \"jobs\": [";

/// The given records as a piece of the document; `count` is the number of jobs before them.
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
            Error::unreadable(format!("job `{}` can't be exported: {error}", record.id))
        })?;
        piece.push_str(if *count == 0 { HEAD } else { "," });
        // JSON has line breaks only between its tokens.
        piece.push_str("\n    ");
        piece.push_str(&job.replace('\n', "\n    "));
        *count += 1;
    }
    Ok(piece)
}

/// `None` for a job without a fire time left and without a waiting row, which only waits for the
/// end of its last run.
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
    // Unchanged, since parsing could change numbers.
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

/// The ledger row of a waiting run.
fn row(record: &mut Record, waiting: Waiting) -> Row {
    let Waiting { fire_time, requested, coalesced, attempt } = waiting;
    let (kind, number) = if requested {
        record.requests = record.requests.wrapping_add(1);
        (RowKind::Requested, record.requests.cast_signed())
    } else {
        (RowKind::Scheduled, fire_time.timestamp_millis())
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
            "job `{}` of the document has neither `next_fire` nor `waiting` and would never run: leave it out",
            job.id
        )));
    }
    let text = |what: &str, raw: &RawValue| {
        if job.not_json.iter().any(|it| it == what) {
            serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
        } else {
            raw.get().to_owned()
        }
    };
    let text = |what, raw| text(what, raw).replace('\0', "\u{FFFD}");
    for (what, raw) in
        [("arguments", &job.args), ("trigger", &job.trigger), ("options", &job.options)]
    {
        json::check(format_args!("the {what} of job `{}`", job.id), raw.get())?;
    }
    let by = [("`paused_by`", &job.paused_by), ("`paused_because`", &job.paused_because)];
    for (what, text) in by {
        text.iter().try_for_each(|text| job::check_name(what, text))?;
    }
    json::check(format_args!("`extra` of job `{}`", job.id), &job.extra)?;
    // The incarnation belongs to a store, so the import assigns a new one.
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
