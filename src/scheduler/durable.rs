//! Durable jobs: the same verbs as for jobs in memory, by compare and swap.

use std::{collections::HashMap, sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::timeout;

use super::{
    add::{anchor, anchor_declared, checked},
    stores::{self, Reservation},
};
use crate::{
    core::{
        self, Addition, Author, Change, Definition, FIRST_RETRY, LONGEST_RETRY, Place, RETRIES,
        Step, Update, Updated, change, modified, next_fire_of,
    },
    driver::{Durable, Entry, KnownForNow, Shared},
    error::Error,
    event::EventPayload,
    job::{End, JobId, JobInfo, JobOptions, Labels, OnConflict, Outcome, Run, RunId},
    json,
    ledger::{
        Action, Fate, Incarnation, InsertStatement, Record, RecordCursor, RecordFilter, Row,
        RowKey, RowKind, RowState, RunEnd, StoreError, Write, WriteResult, fitting, recoveries,
    },
    store::Capabilities,
    task::NamedTask,
    trigger::{Kind, Trigger},
};

/// A durable job: whichever has the id, or one incarnation of it.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) shared: Arc<Shared>,
    pub(super) durable: Arc<Durable>,
    pub(super) id: JobId,
    pub(super) incarnation: Option<Incarnation>,
    /// The author for the action log, if any.
    pub(super) author: Option<Arc<Author>>,
}

impl Stored {
    pub(super) async fn record(&self) -> Result<Record, Error> {
        let get = || async { self.durable.store.get(self.id.clone()).await };
        match patiently(&self.durable, get).await? {
            Some(record)
                if record.ended_at.is_none()
                    && self.incarnation.is_none_or(|it| it == record.incarnation) =>
            {
                Ok(record)
            }
            _ => Err(self.missing()),
        }
    }

    /// Returns the record of the job, or the last one of its id if the store remembers its end.
    async fn latest_record(&self) -> Result<Record, Error> {
        let get = || async { self.durable.store.get(self.id.clone()).await };
        match patiently(&self.durable, get).await? {
            Some(record) if self.incarnation.is_none_or(|it| it == record.incarnation) => {
                Ok(record)
            }
            _ if self.incarnation.is_some() => Err(self.missing()),
            _ => Err(Error::unknown_job(format!(
                "there is no job `{}`, and the store remembers no end of one: read the runs of a job that is over by the handle that adding it returned, or add it with `on_conflict(OnConflict::Keep)`, so that its end is remembered",
                self.id
            ))),
        }
    }

    fn missing(&self) -> Error {
        missing(&self.id, self.incarnation)
    }

    /// Changes the record, and retries until no other change comes in between. `change` returns the
    /// changed record, at an instant of the store's clock, or `None` if there is nothing to do.
    async fn change(
        &self,
        what: &str,
        mut change: impl FnMut(&Record, DateTime<Utc>) -> Result<Option<Change>, Error>,
    ) -> Result<Updated, Error> {
        let action = self.author.as_ref().map(|author| {
            let action = Action::new(&*author.by, what);
            Action { because: author.because.clone(), ..action }
        });
        let (shared, durable) = (&self.shared, &self.durable);
        let mut update = Update::new(self.id.clone(), self.incarnation, action);
        let mut step = Step::Read;
        loop {
            step = match step {
                Step::Read => {
                    let get = || durable.store.get(self.id.clone());
                    update.found(patiently(durable, get).await?)
                }
                Step::Change(record) => {
                    let now = store_now(shared, durable).await?;
                    let token = shared.transact(|core, _| core.number(durable.key))?;
                    update.changed(change(&record, now)?, token)
                }
                Step::Write(write) => {
                    let (written, repeated) = write_one(durable, *write).await?;
                    update.written(written, repeated)
                }
                Step::ReadAgain => {
                    let get = || durable.store.get(self.id.clone());
                    // The write is done, whether this answers or not.
                    update.read_again(patiently(durable, get).await.unwrap_or_default())
                }
                Step::ReadEnd(id, incarnation, version) => {
                    let ended = || durable.store.changed(vec![(id.clone(), incarnation, version)]);
                    update.ended(patiently(durable, ended).await?)
                }
                Step::Done(updated) => {
                    if let Some(latest) = &updated.latest {
                        self.adopt(latest, None);
                    }
                    return Ok(*updated);
                }
                Step::Missing(incarnation) => return Err(missing(&self.id, incarnation)),
            }
        }
    }

    /// Updates the claims of this node to the record, and has the node claim the next fire time.
    fn adopt(&self, record: &Record, note: Option<EventPayload>) {
        let (key, entry) = (self.durable.key, self.durable.entry(record, &self.shared));
        self.shared.transact(|core, now| core.follow(key, record, Some(entry), note, now));
    }

    pub(super) async fn info(&self) -> Result<JobInfo, Error> {
        let record = self.record().await?;
        info_of(&self.shared, &self.durable, &record)
    }

    pub(super) async fn pause(&self) -> Result<(), Error> {
        let Updated { old, new, .. } = self
            .change("pause", |record, _| Ok(change::pause(record, self.author.as_deref())))
            .await?;
        if let Some(record) = new.filter(|_| !old.paused) {
            self.adopt(&record, Some(EventPayload::JobPaused { job: self.id.clone() }));
        }
        Ok(())
    }

    pub(super) async fn resume(&self) -> Result<(), Error> {
        let Updated { old, new, .. } =
            self.change("resume", |record, now| Ok(change::resume(record, now))).await?;
        if let Some(record) = new.filter(|_| old.paused) {
            let next_fire = next_fire_of(&record);
            self.adopt(&record, Some(EventPayload::JobResumed { job: self.id.clone(), next_fire }));
            // Waiting rows become claimable, too.
            self.shared.transact(|core, _| core.refresh(self.durable.key));
        }
        Ok(())
    }

    pub(super) async fn reschedule(&self, trigger: &Trigger) -> Result<(), Error> {
        check_trigger(trigger)?;
        let Updated { new, .. } = self
            .change("reschedule", |record, now| {
                let (anchored, first, _) = anchor(trigger, &self.shared, now)?;
                let trigger = to_json(&anchored, "the trigger")?;
                Ok(Some(change::reschedule(record, trigger, first, now)))
            })
            .await?;
        if let Some(record) = new {
            self.adopt(&record, Some(modified(&record)));
            self.shared.transact(|core, _| core.refresh(self.durable.key));
        }
        Ok(())
    }

    /// Changes options, labels and, if `change` returns a task, its arguments. `change` may be
    /// called more than once.
    pub(super) async fn modify(
        &self,
        change: impl Fn(JobOptions, Labels) -> (JobOptions, Labels, Option<NamedTask>),
    ) -> Result<(), Error> {
        let Updated { new, .. } = self
            .change("modify", |record, _| {
                let old = Definition::read(record)?.options;
                let (options, labels, task) = change(old.clone(), labels_of(record));
                let args = match task {
                    Some(task) => task.into_args(&self.id, &record.task)?,
                    None => record.args.clone(),
                };
                json::check(format_args!("the arguments of job `{}`", self.id), &args)?;
                let entry = self.shared.tasks.make(&self.shared, &record.task, args.clone());
                let options = checked(options, &self.shared, &*entry)?;
                check_options(&options)?;
                labels.validate()?;
                self.shared.transact(|core, _| core.check_options(&options, Some(&old)))?;
                let changed = Record {
                    args,
                    options: to_json(&options, "the options")?,
                    name: labels.name.as_deref().map(Into::into),
                    tags: labels.tags.iter().map(|tag| tag.to_string()).collect(),
                    ..record.clone()
                };
                Ok(Some(Change::to(changed)))
            })
            .await?;
        if let Some(record) = new {
            self.adopt(&record, Some(modified(&record)));
        }
        Ok(())
    }

    pub(super) async fn run_now(&self) -> Result<RunId, Error> {
        let mut run = None;
        let Updated { new, .. } = self
            .change("run_now", |record, now| {
                if self
                    .shared
                    .transact(|core, _| core.is_full(self.durable.key, record.incarnation))
                {
                    return Err(Error::overlap(format!(
                        "job `{}` has `max_instances` runs going: wait for one to end, or raise it",
                        self.id
                    )));
                }
                let (change, id) = change::run_now(record, self.author.as_deref(), now);
                run = Some(id);
                Ok(Some(change))
            })
            .await?;
        if let Some(record) = new {
            let key = self.durable.key;
            self.shared.transact(|core, now| core.follow_request(key, &record, now));
        }
        run.ok_or_else(|| Error::overlap("the run was skipped"))
    }

    pub(super) async fn remove(&self, end: End) -> Result<(), Error> {
        let fate = match end {
            End::Cancelled => Fate::Cancelled,
            _ => Fate::Removed,
        };
        let what = if fate == Fate::Cancelled { "cancel" } else { "remove" };
        let remove = |record: &Record, now| Ok(Some(change::remove(record, fate.clone(), now)));
        let removed = self.change(what, remove).await;
        match removed {
            Ok(Updated { old, .. }) => forget(&self.shared, &self.durable, &old, &end),
            Err(error) if error.is_unknown_job() && self.forget_end().await? => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Forgets the remembered end of this id, so that the id can be added again. Returns whether an
    /// end was remembered.
    async fn forget_end(&self) -> Result<bool, Error> {
        let get = || async { self.durable.store.get(self.id.clone()).await };
        let Some(ended) =
            patiently(&self.durable, get).await?.filter(|record| record.ended_at.is_some())
        else {
            return Ok(false);
        };
        let token = self.shared.transact(|core, _| core.number(self.durable.key))?;
        let write = Write::remove(self.id.clone(), ended.stamp(), token);
        Ok(matches!(
            write_one(&self.durable, write).await?.0,
            WriteResult::Done | WriteResult::Lost(None)
        ))
    }

    /// Cancels the job, and retries until the store has done so.
    pub(super) async fn cancel(self) {
        let mut wait = Duration::from_secs(1);
        while let Err(error) = self.remove(End::Cancelled).await
            && !error.is_gone()
        {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(60));
        }
    }

    pub(super) async fn history(&self) -> Result<Vec<Run>, Error> {
        let (incarnation, limit) = match (self.latest_record().await, self.incarnation) {
            (Ok(record), _) => {
                (record.incarnation, Definition::read(&record)?.options.history as usize)
            }
            // The options of the job are gone with its record.
            (Err(error), Some(incarnation)) if error.is_gone() => {
                (incarnation, self.shared.defaults.history as usize)
            }
            (Err(error), _) => return Err(error),
        };
        // Open rows, and rows of stretches without a run, are among them.
        let mut most = limit.saturating_mul(2) + 100;
        loop {
            let rows = self.rows(incarnation, most).await?;
            let runs: Vec<Run> = rows.iter().filter_map(run_of).take(limit).collect();
            if runs.len() == limit || rows.len() < most {
                return Ok(runs.into_iter().rev().collect());
            }
            most = most.saturating_mul(4);
        }
    }

    /// Returns the rows of a job. They outlive the job: an incarnation needs no record.
    pub(super) async fn ledger(&self, limit: usize) -> Result<Vec<Row>, Error> {
        let incarnation = match self.incarnation {
            Some(incarnation) => incarnation,
            None => self.latest_record().await?.incarnation,
        };
        self.rows(incarnation, limit).await
    }

    async fn rows(&self, incarnation: Incarnation, limit: usize) -> Result<Vec<Row>, Error> {
        let rows = || self.durable.store.history(incarnation, limit);
        patiently(&self.durable, rows).await
    }
}

/// A job that is to be added to the store.
pub(super) struct New {
    pub(super) durable: Arc<Durable>,
    pub(super) given: Option<JobId>,
    pub(super) on_conflict: OnConflict,
    pub(super) trigger: Trigger,
    pub(super) options: JobOptions,
    pub(super) labels: Labels,
    pub(super) paused: bool,
    /// How often a run is run again whose node expired, if it is.
    pub(super) recoveries: Option<u32>,
    pub(super) entry: Arc<dyn Entry>,
}

/// A durable job that exists now, and its entry here.
pub(super) struct Put {
    /// Whether its id had to be free.
    is_fresh: bool,
    pub(super) durable: Arc<Durable>,
    pub(super) record: Record,
    pub(super) entry: Arc<dyn Entry>,
}

/// Adds jobs to their stores, as many at once as each store allows, and returns them in order. Jobs
/// that must be new come first: if one of them is not new, those before it are removed again, and
/// nothing has changed.
pub(super) async fn add_all(shared: &Arc<Shared>, new: Vec<New>) -> Result<Vec<Put>, Error> {
    let mut put: Vec<Option<Put>> = new.iter().map(|_| None).collect();
    let mut new: Vec<(usize, New)> = new.into_iter().enumerate().collect();
    new.sort_by_key(|(_, new)| (new.on_conflict != OnConflict::Error, new.durable.key));
    let mut jobs = new.into_iter().peekable();
    while let Some((_, next)) = jobs.peek() {
        let (durable, is_fresh) = (next.durable.clone(), next.on_conflict == OnConflict::Error);
        let limit = durable.store.capabilities().max_batch.max(1);
        let (mut places, mut batch) = (Vec::new(), Vec::new());
        while batch.len() < limit
            && let Some((at, job)) = jobs.next_if(|(_, job)| {
                job.durable.key == durable.key && (job.on_conflict == OnConflict::Error) == is_fresh
            })
        {
            places.push(at);
            batch.push(job);
        }
        match add_batch(shared, &durable, batch).await {
            Ok(added) => places.into_iter().zip(added).for_each(|(at, job)| put[at] = Some(job)),
            Err(error) => {
                let mut fresh: Vec<&Put> =
                    put.iter().flatten().filter(|put| put.is_fresh).collect();
                fresh.sort_by_key(|put| put.durable.key);
                for fresh in fresh.chunk_by(|one, next| one.durable.key == next.durable.key) {
                    let records = fresh.iter().map(|put| &put.record);
                    undo_add(shared, &fresh[0].durable, records).await;
                }
                return Err(error);
            }
        }
    }
    Ok(put.into_iter().flatten().collect())
}

/// Returns the time of the store's clock; queries the store if no heartbeat has returned it yet.
async fn store_now(shared: &Shared, durable: &Durable) -> Result<DateTime<Utc>, Error> {
    let now = match shared.transact(|core, _| core.known_store_now(durable.key)) {
        Some(now) => now,
        None => patiently(durable, || durable.store.now()).await?,
    };
    Ok(whole_millis(now))
}

/// A job that is being added, and its reserved id.
pub(super) struct Adding {
    _reserved: Reservation,
    new: New,
    addition: Addition,
}

impl Adding {
    pub(super) fn job(&self) -> &JobId {
        &self.addition.declared.id
    }

    /// The job that the application has added with the statement of [`prepare`].
    pub(super) fn written_elsewhere(mut self, shared: &Arc<Shared>) -> Put {
        self.addition.is_written = true;
        let durable = self.new.durable.clone();
        finish_adding(shared, &durable, self)
    }
}

/// Prepares the statement with which an application adds a job in a transaction of its own.
///
/// The job's entry is known until the returned guard is dropped, so that its runs reach the handle
/// even if they start before the handle exists.
pub(super) async fn prepare(
    shared: &Arc<Shared>,
    new: New,
) -> Result<(InsertStatement, Adding, KnownForNow), Error> {
    let durable = new.durable.clone();
    let now = store_now(shared, &durable).await?;
    let adding = begin_adding(shared, &durable, new, now)?;
    let given = adding.new.given.iter().cloned().collect();
    stores::check_free(shared, given, Some(durable.key)).await?;
    let Some(write) = adding.addition.open_write() else {
        return Err(Error::invalid_option("there is no job to prepare"));
    };
    let tokens = [write.token].into_iter().collect();
    let record = Record { version: 1, tokens, ..adding.addition.declared.clone() };
    let statement = durable.store.insert_statement(&record).ok_or_else(|| {
        Error::invalid_option(format!(
            "store `{}` has no SQL that another connection can execute: await `add(..)` instead of `prepare()`, or keep the job in a file or on a database server",
            durable.name
        ))
    })?;
    // At version 0: until the application commits, the store does not have the record.
    let known = durable.know_for_now([(&adding.addition.declared, &adding.new.entry)]);
    Ok((statement, adding, known))
}

async fn add_batch(
    shared: &Arc<Shared>,
    durable: &Arc<Durable>,
    batch: Vec<New>,
) -> Result<Vec<Put>, Error> {
    let now = store_now(shared, durable).await?;
    let mut adding = batch
        .into_iter()
        .map(|new| begin_adding(shared, durable, new, now))
        .collect::<Result<Vec<Adding>, Error>>()?;
    let given = adding.iter().filter_map(|adding| adding.new.given.clone()).collect();
    stores::check_free(shared, given, Some(durable.key)).await?;
    // Known before they are written, since they may be claimed at once.
    let known = adding.iter().map(|adding| (&adding.addition.declared, &adding.new.entry));
    let _known = durable.know_for_now(known);
    let written = write_all(shared, durable, &mut adding).await;
    if let Err(error) = written {
        let is_fresh = |adding: &&Adding| adding.new.on_conflict == OnConflict::Error;
        let added = adding.iter().filter(|adding| adding.addition.is_written).filter(is_fresh);
        undo_add(shared, durable, added.map(|adding| &adding.addition.declared)).await;
        return Err(error);
    }
    let put = adding.into_iter().map(|adding| finish_adding(shared, durable, adding));
    Ok(put.collect())
}

/// Writes the additions, until each job exists or has given way.
async fn write_all(shared: &Shared, durable: &Durable, adding: &mut [Adding]) -> Result<(), Error> {
    loop {
        let additions = adding.iter_mut().map(|adding| &mut adding.addition);
        let mut open: Vec<&mut Addition> =
            additions.filter(|addition| addition.open_write().is_some()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let writes: Vec<Write> = open.iter().filter_map(|it| it.open_write().cloned()).collect();
        let Parts { written, done: mut failed, .. } = write_parts(durable, &writes).await;
        for (addition, written) in open.iter_mut().zip(written) {
            failed = failed.and(addition.written(written, || now_in(shared, durable)));
        }
        failed?;
    }
}

/// Removes the jobs of an add that has failed. Jobs that were changed since stay.
async fn undo_add(shared: &Shared, durable: &Durable, added: impl Iterator<Item = &Record>) {
    let now = now_in(shared, durable);
    let writes = added.map(|record| {
        let record = Record { version: 1, ..record.clone() };
        let rows = change::remove(&record, Fate::Removed, now).rows;
        let token = shared.transact(|core, _| core.number(durable.key)).ok()?;
        let expected = record.stamp();
        Some(Write::remove(record.id, expected, token).with_rows(rows))
    });
    let writes: Vec<Write> = writes.flatten().collect();
    // An error here has no receiver: the add has failed already.
    let _ = write_parts(durable, &writes).await;
}

/// What came of writes.
struct Parts {
    /// The results of the writes before the first error.
    written: Vec<WriteResult>,
    /// Whether some were repeated, since a response was lost.
    repeated: bool,
    done: Result<(), Error>,
}

/// Carries out writes, as many at once as the store allows.
async fn write_parts(durable: &Durable, writes: &[Write]) -> Parts {
    let Capabilities { max_batch, max_bytes, .. } = durable.store.capabilities();
    let bytes = max_bytes.unwrap_or(usize::MAX);
    let (mut left, written) = (writes, Vec::with_capacity(writes.len()));
    let mut parts = Parts { written, repeated: false, done: Ok(()) };
    while let Some(first) = left.first() {
        if first.size() > bytes {
            parts.done = Err(too_large(durable, first, bytes));
            break;
        }
        let (part, rest) = left.split_at(fitting(left.iter().map(Write::size), max_batch, bytes));
        let mut tries = 0;
        let write = || {
            tries += 1;
            durable.store.write(part.to_vec())
        };
        let answers = patiently(durable, write).await;
        parts.repeated |= tries > 1;
        match answers {
            Ok(answers) if answers.len() == part.len() => parts.written.extend(answers),
            Ok(answers) => parts.done = Err(answers_missing(durable, part.len(), answers.len())),
            Err(error) => parts.done = Err(error),
        }
        if parts.done.is_err() {
            break;
        }
        left = rest;
    }
    parts
}

fn too_large(durable: &Durable, write: &Write, bytes: usize) -> Error {
    durable.error(StoreError::refused(format!(
        "job `{}` takes {} bytes, and the store commits at most {bytes} at once: give its task smaller arguments",
        write.id,
        write.size()
    )))
}

fn begin_adding(
    shared: &Arc<Shared>,
    durable: &Durable,
    new: New,
    now: DateTime<Utc>,
) -> Result<Adding, Error> {
    check_trigger(&new.trigger)?;
    check_options(&new.options)?;
    let Some((task, args)) = new.entry.task() else {
        return Err(Error::invalid_task("only tasks can be kept in a store: say `.in_memory()`"));
    };
    let (incarnation, token) = shared.try_transact(|core, _| {
        core.check_options(&new.options, None)?;
        let mut number = || core.number(durable.key);
        Ok((Incarnation(number()?), number()?))
    })?;
    let (anchored, first, _) = anchor_declared(&new.trigger, new.on_conflict, shared, now)?;
    let id = new.given.clone().unwrap_or_else(|| JobId::from(incarnation.to_string()));
    let reserved = Reservation::of(shared, &id, Place::Store(durable.key))?;
    let (task, args) = (task.to_owned(), args?.to_string());
    json::check(format_args!("the arguments of task `{task}`"), &args)?;
    // The written arguments may be unreadable: a number that is NaN is written as `null`.
    shared.tasks.make(shared, &task, args.clone()).check_alone()?;
    let name = new.labels.name.as_deref().map(str::to_owned);
    let tags: Vec<String> = new.labels.tags.iter().map(|tag| tag.to_string()).collect();
    let options = to_json(&new.options, "the options")?;
    let trigger = to_json(&new.trigger, "the trigger")?;
    let recover = match new.recoveries {
        None => "false".to_owned(),
        Some(count) if count == recoveries() => "true".to_owned(),
        Some(count) => format!("true:{count}"),
    };
    let labels = format!("{name:?} {tags:?} {recover} {}", shared.zone);
    // Longer than each of its parts, each of which is bounded.
    let declared = [&task, &json::canonical(&args), &trigger, &options, &labels];
    let declared =
        serde_json::to_string(&declared).map_err(|error| unwritable("the declaration", &error))?;
    let record = Record {
        declared: Some(declared),
        args,
        trigger: to_json(&anchored, "the trigger")?,
        options,
        name,
        tags,
        next_fire: first,
        paused: new.paused,
        recover: new.recoveries.is_some(),
        recoveries: new.recoveries.unwrap_or_else(recoveries),
        remember: matches!(new.on_conflict, OnConflict::Keep | OnConflict::Reconcile),
        ..Record::new(id, incarnation, task, now)
    };
    let addition = Addition::new(record, token, new.on_conflict);
    Ok(Adding { _reserved: reserved, new, addition })
}

/// Adapts a write that adds the job `new` to `current`, the job that has or had the id. Returns
/// whether the write is still needed.
pub(super) fn give_way(
    shared: &Shared,
    durable: &Durable,
    new: &Record,
    write: &mut Write,
    current: Option<&Record>,
    on_conflict: OnConflict,
) -> Result<bool, Error> {
    change::give_way(new, write, current, on_conflict, now_in(shared, durable))
}

/// Returns the time of the store's clock, as far as this node knows it.
fn now_in(shared: &Shared, durable: &Durable) -> DateTime<Utc> {
    shared.transact(|core, _| whole_millis(core.store_now(durable.key)))
}

fn finish_adding(shared: &Arc<Shared>, durable: &Arc<Durable>, adding: Adding) -> Put {
    let Adding { new, addition, .. } = adding;
    let is_new = addition.is_new();
    let Addition { mut record, write, current, .. } = addition;
    let is_fresh = new.on_conflict == OnConflict::Error;
    if record.ended_at.is_some() || (is_new && record.next_fire.is_none()) {
        if is_new {
            let (job, end) = (record.id.clone(), End::Completed);
            shared.transact(|core, now| {
                core.note_in(
                    durable.key,
                    now,
                    EventPayload::JobAdded { job: job.clone(), next_fire: None },
                );
                core.note_in(durable.key, now, EventPayload::JobRemoved { job, end });
            });
        }
        // The job is over, so it gets no subscribers.
        new.entry.state().end(End::Completed);
        return Put { is_fresh, durable: durable.clone(), record, entry: new.entry };
    }
    if !is_new {
        return finish_changing(shared, durable, &new, record, write.and(current));
    }
    record.version = 1;
    let (key, replaced) = (durable.key, current.as_ref());
    let has_changed = durable.know(&record, &new.entry);
    shared.transact(|core, now| core.added_to_store(key, &record, replaced, has_changed, now));
    Put { is_fresh, durable: durable.clone(), record, entry: new.entry }
}

/// Finishes an addition that kept an existing job, unchanged or changed from `old`; returns its
/// handle.
fn finish_changing(
    shared: &Arc<Shared>,
    durable: &Arc<Durable>,
    new: &New,
    mut record: Record,
    old: Option<Record>,
) -> Put {
    if let Some(old) = &old {
        record.version = old.version.wrapping_add(1);
    }
    // The work is that of the record, not the one of this addition.
    let entry = durable.entry(&record, shared);
    let (key, old) = (durable.key, old.as_ref());
    let claimed = shared.transact(|core, now| {
        core.kept_in_store(key, &record, old, Some(entry.clone()), now);
        core.payload_of(key, record.incarnation)
    });
    let entry = claimed.unwrap_or(entry);
    entry.state().take_over(new.entry.state());
    durable.know(&record, &entry);
    Put { is_fresh: false, durable: durable.clone(), record, entry }
}

/// Drops this node's claims of an incarnation.
pub(super) fn forget(shared: &Shared, durable: &Durable, record: &Record, end: &End) {
    shared.transact(|core, now| core.removed_from_store(durable.key, record, end, now));
}

/// Removes the jobs of the store that pass the filter. Returns how many.
pub(super) async fn remove_all(
    shared: &Shared,
    durable: &Arc<Durable>,
    filter: &RecordFilter,
) -> Result<usize, Error> {
    let (mut pages, mut count) = (Pages::new(durable, filter.clone()), 0);
    while let Some(records) = pages.next().await? {
        let now = store_now(shared, durable).await?;
        let remove = |record: &Record| {
            let rows = change::remove(record, Fate::Removed, now).rows;
            let token = shared.transact(|core, _| core.number(durable.key))?;
            Ok(Write::remove(record.id.clone(), record.stamp(), token).with_rows(rows))
        };
        let mut left = records;
        while !left.is_empty() {
            let writes = left.iter().map(remove).collect::<Result<Vec<Write>, Error>>()?;
            let Parts { written, done, .. } = write_parts(durable, &writes).await;
            let mut changed = Vec::new();
            for (record, written) in left.into_iter().zip(written) {
                match written {
                    WriteResult::Done => {
                        count += 1;
                        forget(shared, durable, &record, &End::Removed);
                    }
                    WriteResult::Lost(Some(current))
                        if current.ended_at.is_none() && filter.passes(&current) =>
                    {
                        changed.push(*current);
                    }
                    WriteResult::Lost(_) => {}
                }
            }
            done?;
            left = changed;
        }
    }
    shared.transact(|core, _| core.refresh(durable.key));
    Ok(count)
}

/// Carries out one write, and returns its result.
/// Carries out a write. Returns its result, and whether it was repeated, since a response was lost.
pub(super) async fn write_one(
    durable: &Durable,
    write: Write,
) -> Result<(WriteResult, bool), Error> {
    let Parts { mut written, repeated, done } = write_parts(durable, &[write]).await;
    done?;
    let written = written.pop().ok_or_else(|| answers_missing(durable, 1, 0))?;
    Ok((written, repeated))
}

/// Returns the error for a store that returned the wrong number of results.
fn answers_missing(durable: &Durable, asked: usize, answered: usize) -> Error {
    durable.error(StoreError::refused(format!(
        "it was asked for {asked} writes, and answered {answered} of them"
    )))
}

/// How many records or rows are read at once.
const PAGE: usize = 500;

/// The timeout of a page: lists of all stores must not hang with one of them.
const LONGEST_READ: Duration = Duration::from_secs(10);

/// The records of a store in order of their ids, page by page; no page is kept.
pub(super) struct Pages {
    pub(super) durable: Arc<Durable>,
    filter: RecordFilter,
    /// Where the next page begins; `None` after the last.
    next: Option<Option<RecordCursor>>,
}

impl Pages {
    pub(super) fn new(durable: &Arc<Durable>, filter: RecordFilter) -> Pages {
        Pages { durable: durable.clone(), filter, next: Some(None) }
    }

    /// Returns the next page, or `None` after the last. After an error, the same page is read
    /// again.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Record>>, Error> {
        let Some(after) = self.next.clone() else { return Ok(None) };
        let store = &self.durable.store;
        let limit = PAGE.min(store.capabilities().max_batch.max(1));
        let list = || store.list(self.filter.clone(), after.clone(), limit);
        let page = timeout(LONGEST_READ, patiently(&self.durable, list)).await;
        let page = page.unwrap_or_else(|_| {
            let silent = format!("it has not answered for {LONGEST_READ:?}");
            Err(self.durable.error(StoreError::unavailable(silent)))
        })?;
        self.next = page.next.map(Some);
        Ok(Some(page.records))
    }
}

/// Whether there is a record whose job can run here.
pub(super) async fn any_can_run(
    shared: &Arc<Shared>,
    durable: &Arc<Durable>,
) -> Result<bool, Error> {
    let mut pages = Pages::new(durable, RecordFilter::default());
    while let Some(records) = pages.next().await? {
        if records.iter().any(|record| obstacle(shared, record).is_none()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the waiting rows of the jobs of these records.
pub(super) async fn waiting(
    durable: &Durable,
    records: &[Record],
) -> Result<HashMap<Incarnation, Vec<Row>>, Error> {
    let of: Vec<_> = records.iter().map(|record| record.incarnation).collect();
    let (mut waiting, mut after) = (HashMap::<_, Vec<Row>>::new(), None);
    loop {
        let rows = patiently(durable, || durable.store.waiting(of.clone(), after, PAGE)).await?;
        after = rows.last().map(|row| row.key);
        let is_last = rows.len() < PAGE;
        for row in rows {
            waiting.entry(row.key.incarnation).or_default().push(row);
        }
        if is_last {
            return Ok(waiting);
        }
    }
}

/// Retries an operation a few times while the store is unavailable.
pub(super) async fn patiently<T, F>(durable: &Durable, ask: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let delays = ExponentialBuilder::new()
        .with_min_delay(FIRST_RETRY)
        .with_max_delay(LONGEST_RETRY)
        .with_max_times(RETRIES as usize)
        .with_jitter();
    let asked = ask.retry(delays).sleep(tokio::time::sleep).when(StoreError::is_unavailable);
    asked.await.map_err(|error| durable.error(error))
}

/// Returns the information about a durable job, as far as it can be read.
pub(super) fn info_of(
    shared: &Shared,
    durable: &Durable,
    record: &Record,
) -> Result<JobInfo, Error> {
    let Definition { trigger, options } = Definition::read(record)?;
    let labels = labels_of(record);
    let (running, taken) = shared.transact(|core, _| {
        (
            core.running(durable.key, record.incarnation),
            core.next_claimed(durable.key, record.incarnation),
        )
    });
    Ok(JobInfo {
        id: record.id.clone(),
        name: labels.name,
        tags: labels.tags,
        trigger,
        next_fire: taken.or(next_fire_of(record)),
        paused: record.paused,
        running,
        max_instances: options.max_instances,
        priority: options.priority,
        task: Some(record.task.as_str().into()),
        volatile: false,
        store: Some(durable.name.clone()),
    })
}

/// Returns why a durable job cannot run here, if so.
pub(super) fn obstacle(shared: &Arc<Shared>, record: &Record) -> Option<Error> {
    let read = Definition::read(record);
    read.and_then(|definition| can_run(shared, record, &definition)).err()
}

/// Checks that a job of this record can run here.
pub(super) fn can_run(
    shared: &Arc<Shared>,
    record: &Record,
    definition: &Definition,
) -> Result<(), Error> {
    check_trigger(&definition.trigger)?;
    let entry = shared.tasks.make(shared, &record.task, record.args.clone());
    let named = definition.options.executor.as_ref();
    match named.map(|name| (name, shared.executor(name))) {
        None => entry.check_alone(),
        Some((_, Some(executor))) => entry.check(&executor),
        Some((name, None)) => Err(Error::unreadable(format!(
            "job `{}` names executor `{name}`, which there is not here: add it",
            record.id
        ))),
    }
}

fn check_trigger(trigger: &Trigger) -> Result<(), Error> {
    let what = match trigger.kind() {
        Kind::Custom(_) => "a custom trigger",
        Kind::Follow(_) => "a trigger that follows another job",
        _ => return Ok(()),
    };
    Err(Error::invalid_trigger(format!(
        "{what} can't be kept in a store: say `.in_memory()`, and add the job at each start"
    )))
}

fn check_options(options: &JobOptions) -> Result<(), Error> {
    if !options.hold_code() {
        return Ok(());
    }
    let what = match options.condition {
        Some(_) => "the condition of `when`",
        None => "a retry with `only_if`",
    };
    Err(Error::invalid_option(format!(
        "{what} can't be kept in a store: leave that out, or say `.in_memory()`"
    )))
}

fn to_json(value: &impl serde::Serialize, what: &str) -> Result<String, Error> {
    let text = serde_json::to_string(value).map_err(|error| unwritable(what, &error))?;
    json::check(format_args!("{what} of the job"), &text)?;
    Ok(text)
}

fn unwritable(what: &str, error: &serde_json::Error) -> Error {
    Error::invalid_option(format!("{what} of the job can't be written as JSON: {error}"))
}

fn labels_of(record: &Record) -> Labels {
    Labels {
        name: record.name.as_deref().map(Into::into),
        tags: record.tags.iter().map(|tag| tag.as_str().into()).collect(),
    }
}

fn missing(id: &JobId, incarnation: Option<Incarnation>) -> Error {
    match incarnation {
        Some(_) => Error::gone(
            "the job is gone: it has ended, was removed or replaced; if its id was added again, `scheduler.job(id)` is the job that has it now",
        ),
        None => {
            Error::unknown_job(format!("there is no job `{id}`: `jobs()` lists those there are"))
        }
    }
}

/// Returns the run of a closed row, if the row is one of a run.
fn run_of(row: &Row) -> Option<Run> {
    let RowState::Closed(fate) = &row.state else { return None };
    let outcome = match fate {
        Fate::Ran(RunEnd::Succeeded) => Outcome::Succeeded,
        Fate::Ran(RunEnd::Failed) => Outcome::from_error_text(row.message.as_deref().unwrap_or("")),
        Fate::Ran(RunEnd::Panicked) => {
            Outcome::Panicked(row.message.as_deref().unwrap_or("").into())
        }
        Fate::Ran(RunEnd::TimedOut) => Outcome::TimedOut,
        Fate::Ran(RunEnd::Cancelled) => Outcome::Cancelled,
        Fate::Missed if row.count == 1 => Outcome::Missed,
        Fate::Skipped(reason) if row.count == 1 => Outcome::Skipped(*reason),
        Fate::Abandoned | Fate::RecoveredTooOften => Outcome::Abandoned,
        _ => return None,
    };
    let ended_at = row.ended_at?;
    let span = |from: DateTime<Utc>, to: DateTime<Utc>| {
        (to - from).max(TimeDelta::zero()).to_std().unwrap_or_default()
    };
    let RowKey { kind, .. } = row.key;
    Some(Run {
        job: row.job.clone(),
        id: core::run_id(row.key),
        fire_time: row.fire_time,
        late_by: row.started_at.map_or(Duration::ZERO, |at| span(row.fire_time, at)),
        coalesced: row.coalesced,
        on_request: kind == RowKind::Requested,
        attempt: row.attempt,
        started_at: row.started_at,
        took: row.started_at.map_or(Duration::ZERO, |at| span(at, ended_at)),
        ended_at,
        outcome,
        output: None,
    })
}

fn whole_millis(instant: DateTime<Utc>) -> DateTime<Utc> {
    chrono::SubsecRound::trunc_subsecs(instant, 3)
}
