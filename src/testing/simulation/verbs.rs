//! The verbs of users on nodes, in steps between which the world continues.

use chrono::{DateTime, Utc};

use super::{
    agenda::{Life, Outside},
    chance::Chance,
    clocks::{self, Micros},
    log::Response,
    node::{NEWER, Node, TASKS},
    scenario::{self, micros_of},
};
use crate::{
    core::{Addition, Change, FIRST_RETRY, LONGEST_RETRY, RETRIES, Step, Update, Updated, change},
    job::{End, JobId, JobOptions, OnConflict},
    ledger::{Fate, Incarnation, Record, RecordChange, StoreError, Write, WriteResult},
    trigger::Trigger,
    zone::TimeZone,
};

#[derive(Clone, Debug)]
pub(super) enum Verb {
    Add(New),
    Pause,
    Resume,
    Reschedule(Trigger),
    Modify(JobOptions),
    RunNow,
    Remove,
}

#[derive(Clone, Debug)]
pub(super) struct New {
    trigger: Trigger,
    options: JobOptions,
    task: &'static str,
    on_conflict: OnConflict,
    recover: bool,
    paused: bool,
    held: bool,
    /// Whether older programs cannot read it.
    newer: bool,
}

impl New {
    /// A job that runs once, soon, and kills each node on which it runs.
    pub(super) fn deadly(chance: &mut Chance, now: Micros) -> New {
        New {
            trigger: scenario::soon(chance, now),
            options: JobOptions::default(),
            task: TASKS[0],
            on_conflict: OnConflict::Keep,
            recover: chance.percent(80),
            paused: false,
            held: false,
            newer: false,
        }
    }
}

/// A request of a verb to the store.
#[derive(Clone)]
pub(super) enum VerbRequest {
    Get(JobId),
    /// With the time by the writer's clock.
    Write(Box<Write>, DateTime<Utc>),
    Changed(JobId, Incarnation, u64),
}

pub(super) enum VerbAnswer {
    Got(Option<Box<Record>>),
    Written(WriteResult),
    Changed(Vec<RecordChange>),
}

/// A verb in progress.
pub(super) struct Wish {
    pub(super) life: Life,
    id: JobId,
    verb: Verb,
    tries: u32,
    /// The number of the request without a reply.
    pub(super) asking: u64,
    /// Whether the pending read follows the write.
    reads_again: bool,
    pub(super) request: VerbRequest,
    course: Course,
}

enum Course {
    Addition(Box<Addition>),
    Update(Box<Update>),
}

/// The next step of a verb.
pub(super) enum Next {
    /// Send the request.
    Ask,
    AskAfter(Micros),
    Done,
}

impl Verb {
    pub(super) fn is_add(&self) -> bool {
        matches!(self, Verb::Add(_))
    }

    /// Returns the verb for a job that older programs cannot read, if it adds one.
    pub(super) fn newer(self) -> Verb {
        match self {
            Verb::Add(new) => Verb::Add(New { newer: true, ..new }),
            verb => verb,
        }
    }

    /// Returns a random verb. `again` says that there is most likely a job.
    pub(super) fn random(chance: &mut Chance, alike: u64, now: Micros, again: bool) -> Verb {
        match if again { 8 + chance.below(12) } else { chance.below(20) } {
            0..=8 => Verb::Add(New {
                trigger: scenario::trigger(chance, alike, now),
                options: scenario::options(chance),
                task: chance.pick(&[TASKS[0], TASKS[0], TASKS[0], TASKS[1]]),
                on_conflict: chance.pick(&[
                    OnConflict::Keep,
                    OnConflict::Replace,
                    OnConflict::Replace,
                    OnConflict::Reconcile,
                ]),
                recover: chance.percent(45),
                paused: chance.percent(8),
                held: chance.percent(50),
                newer: false,
            }),
            9..=10 => Verb::Pause,
            11..=12 => Verb::Resume,
            13..=14 => Verb::Reschedule(scenario::trigger(chance, alike, now)),
            15 => Verb::Modify(scenario::options(chance)),
            16..=18 => Verb::RunNow,
            _ => Verb::Remove,
        }
    }
}

impl Wish {
    /// Starts a verb, or returns `None` if it makes no sense.
    pub(super) fn new(
        id: JobId,
        verb: Verb,
        node: &mut Node,
        outside: &mut Outside<'_>,
    ) -> Option<Wish> {
        let life = outside.life;
        outside.log.trace(outside.agenda.now, || format!("{life:?} is asked: {id} {verb:?}"));
        let (request, course) = match &verb {
            Verb::Add(new) => {
                let (now, token) = node.now_and_number(outside);
                let (_, incarnation) = node.now_and_number(outside);
                let record = record(&id, new, Incarnation(incarnation), now)?;
                if new.held {
                    // Known before it is written, since it may be claimed at once.
                    node.know(&record);
                }
                let addition = Addition::new(record, token, new.on_conflict);
                let write = addition.open_write()?.clone();
                (VerbRequest::Write(Box::new(write), now), Course::Addition(Box::new(addition)))
            }
            _ => {
                let update = Update::new(id.clone(), None, None);
                (VerbRequest::Get(id.clone()), Course::Update(Box::new(update)))
            }
        };
        Some(Wish { life, id, verb, tries: 0, asking: 0, reads_again: false, request, course })
    }

    pub(super) fn answered(
        &mut self,
        answer: Result<VerbAnswer, StoreError>,
        node: &mut Node,
        outside: &mut Outside<'_>,
    ) -> Next {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if self.tries >= RETRIES || !error.is_unavailable() => return Next::Done,
            Err(_) => {
                let wait = (FIRST_RETRY * 2_u32.pow(self.tries)).min(LONGEST_RETRY);
                self.tries += 1;
                let wait = micros_of(wait);
                return Next::AskAfter(wait + outside.chance.between(0..=wait));
            }
        };
        let repeated = std::mem::take(&mut self.tries) > 0;
        let step = match (&mut self.course, answer) {
            (Course::Addition(_), VerbAnswer::Written(written)) => {
                return self.add_on(written, node, outside);
            }
            (Course::Update(update), VerbAnswer::Got(record)) => {
                let record = record.map(|record| *record);
                match std::mem::take(&mut self.reads_again) {
                    true => update.read_again(record),
                    false => update.found(record),
                }
            }
            (Course::Update(update), VerbAnswer::Written(written)) => {
                update.written(written, repeated)
            }
            (Course::Update(update), VerbAnswer::Changed(changes)) => update.ended(changes),
            (Course::Addition(_), _) => return Next::Done,
        };
        self.go_on(step, node, outside)
    }

    /// Continues an addition.
    fn add_on(&mut self, written: WriteResult, node: &mut Node, outside: &mut Outside<'_>) -> Next {
        let (now, _) = node.now_and_number(outside);
        let Course::Addition(addition) = &mut self.course else { return Next::Done };
        if addition.written(written, || now).is_err() {
            node.forget(addition.declared.incarnation);
            return Next::Done;
        }
        if let Some(write) = addition.open_write() {
            self.request = VerbRequest::Write(Box::new(write.clone()), now);
            return Next::Ask;
        }
        let addition = (**addition).clone();
        self.added(&addition, node, outside);
        Next::Done
    }

    /// Continues an update.
    fn go_on(&mut self, mut step: Step, node: &mut Node, outside: &mut Outside<'_>) -> Next {
        let mut at = clocks::instant(outside.now());
        loop {
            match step {
                Step::Read => self.request = VerbRequest::Get(self.id.clone()),
                Step::ReadAgain => {
                    self.reads_again = true;
                    self.request = VerbRequest::Get(self.id.clone());
                }
                Step::Change(record) => {
                    let (now, token) = node.now_and_number(outside);
                    let Ok(change) = self.change(&record, node, now) else { return Next::Done };
                    let Course::Update(update) = &mut self.course else { return Next::Done };
                    at = now;
                    step = update.changed(change, token);
                    continue;
                }
                Step::Write(write) => self.request = VerbRequest::Write(write, at),
                Step::ReadEnd(id, incarnation, version) => {
                    self.request = VerbRequest::Changed(id, incarnation, version);
                }
                Step::Done(updated) => {
                    self.updated(&updated, node, outside);
                    return Next::Done;
                }
                Step::Missing(_) => return Next::Done,
            }
            return Next::Ask;
        }
    }

    /// Returns the changed record, or `None` if there is nothing to do, or an error.
    fn change(
        &self,
        record: &Record,
        node: &Node,
        now: DateTime<Utc>,
    ) -> Result<Option<Change>, ()> {
        Ok(match &self.verb {
            Verb::Add(_) => None,
            Verb::Pause => change::pause(record, None),
            Verb::Resume => change::resume(record, now),
            Verb::Reschedule(trigger) => {
                let (trigger, first) = anchored(trigger, now).ok_or(())?;
                Some(change::reschedule(record, trigger, Some(first), now))
            }
            Verb::Modify(options) => {
                let options = serde_json::to_string(options).map_err(drop)?;
                Some(Change::to(Record { options, ..record.clone() }))
            }
            Verb::RunNow if node.is_full(record.incarnation) => return Err(()),
            Verb::RunNow => Some(change::run_now(record, None, now).0),
            Verb::Remove => Some(change::remove(record, Fate::Removed, now)),
        })
    }

    /// Accounts for an added or kept job, and responds to the user.
    fn added(&self, addition: &Addition, node: &mut Node, outside: &mut Outside<'_>) {
        let Verb::Add(New { held, .. }) = self.verb else { return };
        let (store, declared) = (node.store, &addition.declared);
        let (mut record, current) = (addition.record.clone(), addition.current.as_ref());
        if !addition.is_new() {
            node.forget(declared.incarnation);
            if record.ended_at.is_some() {
                return;
            }
            let old = current.filter(|_| addition.is_written);
            record.version = old.map_or(record.version, |old| old.version + 1);
            node.transact(outside, |core, now| {
                core.kept_in_store(store, &record, old, None, now);
            });
        } else {
            record.version = 1;
            let has_changed = held && node.know(&record);
            node.transact(outside, |core, now| {
                core.added_to_store(store, &record, current, has_changed, now);
            });
        }
        self.answer(outside);
        if let Some(replaced) = current.filter(|_| addition.is_new()) {
            self.log_response(replaced.incarnation, true, outside);
        }
    }

    /// Accounts for a changed job, and responds to the user.
    fn updated(&self, updated: &Updated, node: &mut Node, outside: &mut Outside<'_>) {
        let Updated { old, new, latest } = updated;
        let store = node.store;
        if let Some(latest) = latest {
            node.transact(outside, |core, now| core.follow(store, latest, None, None, now));
        }
        if new.as_ref().is_some_and(|new| new.version == old.version) {
            // Nothing was changed.
            return;
        }
        node.transact(outside, |core, now| match (&self.verb, new) {
            (Verb::RunNow, Some(new)) => core.follow_request(store, new, now),
            (_, Some(new)) => {
                core.follow(store, new, None, None, now);
                if matches!(self.verb, Verb::Resume | Verb::Reschedule(_)) {
                    core.refresh(store);
                }
            }
            (_, None) => core.removed_from_store(store, old, &End::Removed, now),
        });
        self.answer(outside);
        if matches!(self.verb, Verb::Pause | Verb::Remove) {
            self.log_response(old.incarnation, matches!(self.verb, Verb::Remove), outside);
        }
    }

    fn answer(&self, outside: &mut Outside<'_>) {
        let (now, life) = (outside.now(), self.life);
        outside.log.trace(now, || format!("{life:?} answers: {} {}", self.id, self.kind()));
    }

    /// Logs that a user knows a job to be paused or removed.
    fn log_response(&self, incarnation: Incarnation, removed: bool, outside: &mut Outside<'_>) {
        let response = Response { life: self.life, incarnation, at: outside.now(), removed };
        outside.log.responses.push(response);
    }

    /// Whether the verb adds a job.
    pub(super) fn adds(&self) -> bool {
        self.verb.is_add()
    }

    pub(super) fn kind(&self) -> &'static str {
        match self.verb {
            Verb::Add(_) => "add",
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::Reschedule(_) => "reschedule",
            Verb::Modify(_) => "modify",
            Verb::RunNow => "run now",
            Verb::Remove => "remove",
        }
    }
}

fn anchored(trigger: &Trigger, now: DateTime<Utc>) -> Option<(String, DateTime<Utc>)> {
    let anchored = trigger.anchored(now, TimeZone::UTC).ok()?;
    let first = anchored.first(now).ok()??;
    Some((serde_json::to_string(&anchored).ok()?, first))
}

fn record(id: &JobId, new: &New, incarnation: Incarnation, now: DateTime<Utc>) -> Option<Record> {
    let (trigger, first) = anchored(&new.trigger, now)?;
    let options = serde_json::to_string(&new.options).ok()?;
    Some(Record {
        trigger,
        declared: Some(options.clone()),
        options,
        next_fire: Some(first),
        paused: new.paused,
        recover: new.recover,
        tags: new.newer.then(|| NEWER.to_owned()).into_iter().collect(),
        ..Record::new(id.clone(), incarnation, new.task, now)
    })
}
