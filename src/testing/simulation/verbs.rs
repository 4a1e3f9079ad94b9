//! What users ask of nodes: the same compare and swap as that of the scheduler's verbs, in steps that the
//! world can come between.

use chrono::{DateTime, Utc};

use super::{
    agenda::{Life, Outside},
    chance::Chance,
    clocks::Micros,
    log::Told,
    node::{NEWER, Node, TASKS},
    scenario::{self, MILLI},
};
use crate::{
    core::{Change, change},
    job::{End, JobId, JobOptions, OnConflict},
    ledger::{Fate, Incarnation, Record, StoreError, Write, Written},
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
    /// Whether older programs can't read it.
    newer: bool,
}

impl New {
    /// A run once, soon, that kills each node that it runs on.
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

/// What is asked of the store.
#[derive(Clone)]
pub(super) enum VerbRequest {
    Get(JobId),
    /// And what the time is, by the clock of who writes.
    Write(Box<Write>, DateTime<Utc>),
}

pub(super) enum VerbAnswer {
    Got(Option<Box<Record>>),
    Written(Written),
}

/// A verb on its way.
pub(super) struct Wish {
    pub(super) life: Life,
    id: JobId,
    verb: Verb,
    tries: u32,
    /// The number of the request that is not answered.
    pub(super) asking: u64,
    pub(super) request: VerbRequest,
    current: Option<Record>,
    /// The job that is to be added.
    added: Option<Record>,
}

/// What is to be done next about a verb.
pub(super) enum Next {
    /// The request is sent.
    Ask,
    AskAfter(Micros),
    Done,
}

impl Verb {
    pub(super) fn is_add(&self) -> bool {
        matches!(self, Verb::Add(_))
    }

    /// The same for a job that older programs can't read, if it adds one.
    pub(super) fn newer(self) -> Verb {
        match self {
            Verb::Add(new) => Verb::Add(New { newer: true, ..new }),
            verb => verb,
        }
    }

    /// `again` says that there is a job most likely.
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
    /// Somebody wishes for something. None if that makes no sense.
    pub(super) fn new(
        id: JobId,
        verb: Verb,
        node: &mut Node,
        outside: &mut Outside<'_>,
    ) -> Option<Wish> {
        let life = outside.life;
        outside.log.trace(outside.agenda.now, || format!("{life:?} is asked: {id} {verb:?}"));
        let mut added = None;
        let request = match &verb {
            Verb::Add(new) => {
                let (now, token) = node.now_and_number(outside);
                let (_, incarnation) = node.now_and_number(outside);
                let record = record(&id, new, Incarnation(incarnation), now)?;
                if new.held {
                    // Before it is written: it may be taken at once.
                    node.know(&record);
                }
                added = Some(record.clone());
                let write = Write::add(record, token);
                VerbRequest::Write(Box::new(write), now)
            }
            _ => VerbRequest::Get(id.clone()),
        };
        Some(Wish { life, id, verb, tries: 0, asking: 0, request, current: None, added })
    }

    pub(super) fn answered(
        &mut self,
        answer: Result<VerbAnswer, StoreError>,
        node: &mut Node,
        outside: &mut Outside<'_>,
    ) -> Next {
        let answer = match answer {
            Ok(answer) => answer,
            Err(_) if self.tries >= 5 => return Next::Done,
            Err(_) => {
                self.tries += 1;
                let wait = ((20 * MILLI) << self.tries.min(5)).min(500 * MILLI);
                return Next::AskAfter(wait + outside.chance.between(0..=wait));
            }
        };
        self.tries = 0;
        let VerbRequest::Write(write, now) = &mut self.request else {
            return match answer {
                VerbAnswer::Got(Some(record)) if record.ended_at.is_none() => {
                    self.change(*record, node, outside)
                }
                _ => Next::Done,
            };
        };
        match answer {
            VerbAnswer::Written(Written::Done) => {
                self.done(node, outside);
                Next::Done
            }
            VerbAnswer::Written(Written::Lost(current)) => match &self.verb {
                Verb::Add(new) => {
                    *now = node.now_and_number(outside).0;
                    let on_conflict = new.on_conflict;
                    let Some(added) = &self.added else { return Next::Done };
                    match change::give_way(added, write, current.as_deref(), on_conflict, *now) {
                        Ok(true) => {
                            self.current = current.map(|current| *current);
                            Next::Ask
                        }
                        _ => {
                            node.unknow(added.incarnation);
                            Next::Done
                        }
                    }
                }
                _ => match (current, &self.current) {
                    (Some(now), Some(found)) if change::is_same_job(found, &now) => {
                        self.change(*now, node, outside)
                    }
                    _ => Next::Done,
                },
            },
            VerbAnswer::Got(_) => Next::Done,
        }
    }

    fn change(&mut self, record: Record, node: &mut Node, outside: &mut Outside<'_>) -> Next {
        let (now, token) = node.now_and_number(outside);
        let change = match &self.verb {
            Verb::Add(_) => None,
            Verb::Pause => change::pause(&record, None),
            Verb::Resume => change::resume(&record, now),
            Verb::Reschedule(trigger) => anchored(trigger, now)
                .map(|(trigger, first)| change::reschedule(&record, trigger, Some(first), now)),
            Verb::Modify(options) => serde_json::to_string(options)
                .ok()
                .map(|options| Change::to(Record { options, ..record.clone() })),
            Verb::RunNow if node.is_full(record.incarnation) => None,
            Verb::RunNow => Some(change::run_now(&record, None, now).0),
            Verb::Remove => Some(change::remove(&record, Fate::Removed, now)),
        };
        let Some(Change { record: changed, rows }) = change else { return Next::Done };
        let (id, expected) = (self.id.clone(), Some(record.stamp()));
        self.current = Some(record);
        let write = Write { id, expected, record: changed, rows, token, action: None };
        self.request = VerbRequest::Write(Box::new(write), now);
        Next::Ask
    }

    /// It was done, and whoever wished for it is told so.
    fn done(&self, node: &mut Node, outside: &mut Outside<'_>) {
        let VerbRequest::Write(write, _) = &self.request else { return };
        let version = self.current.as_ref().map_or(0, |current| current.version) + 1;
        let (record, store) = (write.record.clone(), node.store);
        node.transact(outside, |core, now| match (&self.verb, record, &self.current) {
            (Verb::Add(_), Some(record), Some(current))
                if record.incarnation == current.incarnation =>
            {
                let record = Record { version, ..record };
                core.adopt(store, &record, None, now);
                core.expect(store, record.next_fire.filter(|_| !record.paused));
                core.look(store);
            }
            (Verb::Add(_), Some(record), replaced) => {
                // One that was over was not replaced.
                if let Some(replaced) = replaced.as_ref().filter(|it| it.ended_at.is_none()) {
                    core.forget(store, replaced.incarnation, &End::Replaced, now);
                }
                core.expect(store, record.next_fire.filter(|_| !record.paused));
            }
            (verb, Some(record), _) => {
                let record = Record { version, ..record };
                core.adopt(store, &record, None, now);
                core.expect(store, record.next_fire.filter(|_| !record.paused));
                match verb {
                    Verb::Resume | Verb::Reschedule(_) => core.look(store),
                    Verb::RunNow => {
                        let now = core.store_now(store);
                        core.expect(store, Some(now));
                    }
                    _ => {}
                }
            }
            (_, None, Some(removed)) => core.forget(store, removed.incarnation, &End::Removed, now),
            _ => {}
        });
        if let (Verb::Add(New { held: true, .. }), VerbRequest::Write(write, _)) =
            (&self.verb, &self.request)
            && let Some(record) = &write.record
        {
            let has_changed = node.know(&Record { version: 1, ..record.clone() });
            if has_changed {
                node.transact(outside, |core, _| core.look(store));
            }
        }
        let (now, life) = (outside.now(), self.life);
        outside.log.trace(now, || format!("{life:?} answers: {} {}", self.id, self.kind()));
        // One that was changed in place goes on.
        let stays = |current: &&Record| {
            let VerbRequest::Write(write, _) = &self.request else { return false };
            let record = write.record.as_ref();
            record.is_some_and(|record| record.incarnation == current.incarnation)
        };
        let is_add = matches!(self.verb, Verb::Add(_));
        if let Some(current) = self.current.as_ref().filter(|it| !is_add || !stays(it))
            && matches!(self.verb, Verb::Pause | Verb::Remove | Verb::Add(_))
        {
            let removed = !matches!(self.verb, Verb::Pause);
            let told = Told { life, incarnation: current.incarnation, at: now, removed };
            outside.log.told.push(told);
        }
    }

    /// Whether it adds a job.
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
