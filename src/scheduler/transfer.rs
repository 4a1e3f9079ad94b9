//! Jobs of the store as a whole: those that nobody here can run, and all of them as JSON.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Scheduler, durable};
use crate::{
    driver::Durable,
    error::Error,
    job::{JobId, OnConflict},
    store::{Incarnation, Record, RecordFilter, Write, Written},
};

/// A job in the store that can't run on this scheduler; it is kept as it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Unhandled {
    /// What the store has.
    pub record: Record,
    /// Why it can't run here: its task is not registered, its arguments do not fit, its trigger or its
    /// options can't be read, or there is no such executor.
    pub reason: Error,
}

impl fmt::Display for Unhandled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.record.id, self.reason)
    }
}

/// All jobs of a store as a document.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    punctual_jobs: u32,
    jobs: Vec<Exported>,
}

const FORMAT: u32 = 1;

/// A record whose JSON is not text in text, where it is JSON.
#[derive(Serialize, Deserialize)]
struct Exported {
    args: Value,
    trigger: Value,
    options: Value,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

impl Scheduler {
    /// The jobs in the store that can't run on this scheduler, in order of their ids. They are kept:
    /// another scheduler may know their task, or a later version of this one.
    ///
    /// # Errors
    ///
    /// That the store is not available; that the scheduler has no store.
    pub async fn unhandled(&self) -> Result<Vec<Unhandled>, Error> {
        let records = durable::records(&*self.durable()?.store, &RecordFilter::default()).await?;
        let unhandled = records.into_iter().filter_map(|record| {
            let reason = durable::obstacle(&self.shared, &record)?;
            Some(Unhandled { record, reason })
        });
        Ok(unhandled.collect())
    }

    /// All jobs of the store as a JSON document, for [`import`](Scheduler::import) into another. Jobs in
    /// memory, and what has run, are not in it.
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
    /// That the store is not available; that the scheduler has no store.
    pub async fn export(&self) -> Result<String, Error> {
        let records = durable::records(&*self.durable()?.store, &RecordFilter::default()).await?;
        let jobs = records.iter().map(exported).collect::<Result<_, _>>();
        let document = jobs.map(|jobs| Document { punctual_jobs: FORMAT, jobs });
        document
            .and_then(|document| serde_json::to_string_pretty(&document))
            .map_err(|error| Error::unreadable(format!("the jobs can't be written: {error}")))
    }

    /// Adds the jobs of a document that [`export`](Scheduler::export) made, each as it was: paused or
    /// not, and with the same next fire time, so that what has passed since is due at once. Those
    /// whose tasks are not registered are added, too. Returns how many were added, those not counted
    /// that were there and stay.
    ///
    /// They are added one by one: after an error those before it stay, and importing the rest again
    /// with [`OnConflict::Keep`] or [`OnConflict::Reconcile`] goes on.
    ///
    /// # Errors
    ///
    /// That the document is not one; that an id is taken; that the store is not available; that the
    /// scheduler has no store.
    pub async fn import(&self, document: &str, on_conflict: OnConflict) -> Result<usize, Error> {
        let durable = self.durable()?;
        let document: Document = serde_json::from_str(document).map_err(|error| {
            Error::unreadable(format!("this is no document of `export`: {error}"))
        })?;
        if document.punctual_jobs != FORMAT {
            return Err(Error::unreadable(format!(
                "the document is of format {}, and this version reads {FORMAT}: use a later one",
                document.punctual_jobs
            )));
        }
        let records = document.jobs.into_iter().map(imported);
        let mut added = 0;
        for record in records.collect::<Result<Vec<Record>, Error>>()? {
            added += usize::from(self.import_one(durable, record, on_conflict).await?);
        }
        Ok(added)
    }

    async fn import_one(
        &self,
        durable: &Durable,
        record: Record,
        on_conflict: OnConflict,
    ) -> Result<bool, Error> {
        let (incarnation, token) = self
            .shared
            .try_with(|state, _| Ok((Incarnation(state.core.number()), state.core.number())))?;
        let record = Record { incarnation, version: 0, fence: 0, requests: 0, token, ..record };
        let next_fire = record.next_fire.filter(|_| !record.paused);
        let id = record.id.clone();
        let mut write =
            Write { id, expected: None, record: Some(record.clone()), rows: Vec::new(), token };
        loop {
            match durable::patiently(|| durable.store.write(vec![write.clone()])).await? {
                Written::Done => break,
                Written::Lost { current, .. } => {
                    if !durable::give_way(&self.shared, &mut write, current, on_conflict)? {
                        return Ok(false);
                    }
                }
            }
        }
        self.shared.with(|state, _| state.core.expect(next_fire));
        Ok(true)
    }

    fn durable(&self) -> Result<&Durable, Error> {
        self.shared.runtime()?;
        self.shared.durable.as_deref().ok_or_else(|| {
            Error::invalid_option("the scheduler has no store: give its builder one")
        })
    }
}

fn exported(record: &Record) -> serde_json::Result<Exported> {
    let parsed =
        |text: &String| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
    let (args, trigger, options) =
        (parsed(&record.args), parsed(&record.trigger), parsed(&record.options));
    let mut rest = match serde_json::to_value(record)? {
        Value::Object(rest) => rest,
        _ => serde_json::Map::new(),
    };
    // What tells one store's life of a job from another's is not the job's.
    for key in
        ["args", "trigger", "options", "incarnation", "version", "fence", "requests", "token"]
    {
        rest.remove(key);
    }
    Ok(Exported { args, trigger, options, rest })
}

fn imported(job: Exported) -> Result<Record, Error> {
    let Exported { args, trigger, options, mut rest } = job;
    let id = rest.get("id").and_then(Value::as_str).unwrap_or("?").to_owned();
    for (key, value) in [("args", args), ("trigger", trigger), ("options", options)] {
        rest.insert(key.into(), Value::String(value.to_string()));
    }
    rest.insert("incarnation".into(), Value::from(0));
    let record: Record = serde_json::from_value(Value::Object(rest)).map_err(|error| {
        Error::unreadable(format!("job `{id}` of the document can't be read: {error}"))
    })?;
    JobId::validate(&record.id)?;
    Ok(record)
}
