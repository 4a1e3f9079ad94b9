//! Attacks on stores and on what schedulers make of them: one operation that fails while the others work,
//! odd numbers in an SQLite file, clocks that step while a node is dead, and what gets lost on the way from
//! one store to another.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt as _, stream::BoxStream};
use punctual::{
    store::*,
    testing::ManualClock,
    trigger::{IntoTrigger as _, after, cron, every},
    *,
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

// Tasks.

/// What ran: its text, its fire time, how late, and which attempt.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Ran>>>);

#[derive(Clone, Debug)]
struct Ran {
    text: String,
    fire_time: DateTime<Utc>,
    late_by: Duration,
    attempt: u32,
}

impl Log {
    fn all(&self) -> Vec<Ran> {
        self.0.lock().unwrap().clone()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

#[derive(Serialize, Deserialize)]
struct Echo(String);

impl Task for Echo {
    const NAME: &'static str = "echo";
    type Output = ();

    async fn run(self, cx: Context) {
        let (fire_time, late_by, attempt) = (cx.fire_time(), cx.late_by(), cx.attempt());
        let ran = Ran { text: self.0, fire_time, late_by, attempt };
        cx.state::<Log>().0.lock().unwrap().push(ran);
    }
}

#[derive(Serialize, Deserialize)]
struct Slow(u64);

impl Task for Slow {
    const NAME: &'static str = "slow";
    type Output = ();

    async fn run(self, cx: Context) {
        let (fire_time, late_by, attempt) = (cx.fire_time(), cx.late_by(), cx.attempt());
        let ran = Ran { text: "slow".into(), fire_time, late_by, attempt };
        cx.state::<Log>().0.lock().unwrap().push(ran);
        sleep(Duration::from_millis(self.0)).await;
    }
}

fn echo(text: &str) -> Echo {
    Echo(text.into())
}

fn on(store: &(impl Store + Clone), log: &Log) -> SchedulerBuilder {
    Scheduler::builder().store(store.clone()).state(log.clone()).task::<Echo>().task::<Slow>()
}

// A store one of whose operations does not do what it should.

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Refuse,
    Fail,
    Panic,
    Hang,
    /// It is done, and then takes so long to answer.
    Slow(Duration),
    /// Its clock, which it answers a heartbeat with, is at its end.
    Mad(DateTime<Utc>),
}

#[derive(Clone)]
struct Moody<S> {
    store: S,
    moods: Arc<Mutex<BTreeMap<&'static str, Mood>>>,
    calls: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    /// Whether it tells of changes all the time.
    chatty: bool,
    mute: bool,
}

impl<S: Store> Moody<S> {
    fn new(store: S) -> Moody<S> {
        Moody { store, moods: Arc::default(), calls: Arc::default(), chatty: false, mute: false }
    }

    fn set(&self, operation: &'static str, mood: Mood) {
        self.moods.lock().unwrap().insert(operation, mood);
    }

    fn reset(&self) {
        self.moods.lock().unwrap().clear();
    }

    async fn ask<T>(
        &self,
        operation: &'static str,
        asked: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        *self.calls.lock().unwrap().entry(operation).or_default() += 1;
        // As a store over a network does, it lets others run.
        tokio::task::yield_now().await;
        let mood = self.moods.lock().unwrap().get(operation).copied();
        match mood {
            None | Some(Mood::Mad(_)) => asked.await,
            Some(Mood::Refuse) => Err(StoreError::refused("made to refuse")),
            Some(Mood::Fail) => Err(StoreError::unavailable("made to fail")),
            Some(Mood::Panic) => panic!("made to panic"),
            Some(Mood::Hang) => std::future::pending().await,
            Some(Mood::Slow(by)) => {
                let answer = asked.await;
                sleep(by).await;
                answer
            }
        }
    }
}

impl<S: Store + Clone> Store for Moody<S> {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        self.ask("now", self.store.now()).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<Written>, StoreError> {
        self.ask("write", self.store.write(writes)).await
    }

    async fn get(&self, id: JobId) -> Result<Option<Record>, StoreError> {
        self.ask("get", self.store.get(id)).await
    }

    async fn list(
        &self,
        filter: RecordFilter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.ask("list", self.store.list(filter, after, limit)).await
    }

    async fn changed(
        &self,
        known: Vec<(JobId, Incarnation, u64)>,
    ) -> Result<Vec<RecordChange>, StoreError> {
        self.ask("changed", self.store.changed(known)).await
    }

    async fn claim(&self, take: ClaimRequest) -> Result<ClaimResult, StoreError> {
        self.ask("take", self.store.claim(take)).await
    }

    async fn release(&self, node: NodeId, rows: Vec<Release>) -> Result<(), StoreError> {
        self.ask("release", self.store.release(node, rows)).await
    }

    async fn finish(&self, outcomes: Vec<RowOutcome>) -> Result<FinishReport, StoreError> {
        self.ask("finish", self.store.finish(outcomes)).await
    }

    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<DateTime<Utc>, StoreError> {
        let said = self.ask("heartbeat", self.store.heartbeat(heartbeat)).await?;
        match self.moods.lock().unwrap().get("heartbeat") {
            Some(Mood::Mad(clock)) => Ok(*clock),
            _ => Ok(said),
        }
    }

    async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.ask("nodes", self.store.nodes()).await
    }
    async fn reap(&self, suspects: Vec<(NodeId, u64)>) -> Result<Reaped, StoreError> {
        self.ask("reap", self.store.reap(suspects)).await
    }

    async fn claimed_by(
        &self,
        node: NodeId,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError> {
        self.ask("claimed_by", self.store.claimed_by(node, after, limit)).await
    }

    async fn claimed(&self, node: NodeId, rows: Vec<RowKey>) -> Result<ClaimResult, StoreError> {
        self.ask("taken", self.store.claimed(node, rows)).await
    }

    async fn next_due(&self, of: NextDue) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.ask("next_due", self.store.next_due(of)).await
    }

    fn changes(&self) -> BoxStream<'static, StoreChange> {
        if self.chatty {
            return futures::stream::repeat(StoreChange::Unknown).boxed();
        }
        if self.mute {
            return futures::stream::pending().boxed();
        }
        self.store.changes()
    }

    async fn history(
        &self,
        incarnation: Incarnation,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.ask("history", self.store.history(incarnation, limit)).await
    }

    async fn rows(&self, after: Option<RowKey>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.ask("rows", self.store.rows(after, limit)).await
    }

    async fn fates(
        &self,
        filter: FateFilter,
        after: Option<FateCursor>,
        limit: usize,
    ) -> Result<FatePage, StoreError> {
        self.ask("fates", self.store.fates(filter, after, limit)).await
    }

    async fn actions(
        &self,
        job: Option<JobId>,
        after: Option<ActionCursor>,
        limit: usize,
    ) -> Result<ActionPage, StoreError> {
        self.ask("actions", self.store.actions(job, after, limit)).await
    }

    async fn waiting(
        &self,
        of: Vec<Incarnation>,
        after: Option<RowKey>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        self.ask("waiting", self.store.waiting(of, after, limit)).await
    }

    async fn prune(&self, keep: Keep, limit: usize) -> Result<Pruned, StoreError> {
        self.ask("prune", self.store.prune(keep, limit)).await
    }
}

async fn rows(store: &impl Store) -> Vec<Row> {
    let rows = store.rows(None, 1_000_000).await.unwrap();
    rows.into_iter().filter(|row| row.key.kind != RowKind::Ended).collect()
}

// From one store to another.

/// A job that fires once, taken ahead and given back by a shutdown, waits in the ledger.
#[tokio::test(start_paused = true)]
async fn an_export_has_what_waits_to_run() {
    let (store, other, log) = (MemoryStore::new(), MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    scheduler.add(after(SECOND * 10), echo("invoice")).id("invoice").await.unwrap();
    // It is taken half a second before it is due.
    sleep(SECOND * 9 + SECOND * 3 / 4).await;
    scheduler.shutdown().await;
    assert_eq!((log.len(), store.get("invoice".into()).await.unwrap().is_some()), (0, true));

    let moving = on(&store, &log).paused().start().await.unwrap();
    let jobs = moving.export().await.unwrap();
    moving.shutdown().await;
    let there = on(&other, &log).start().await.unwrap();
    let count = there.import(&jobs, OnConflict::Error).await.unwrap();
    sleep(SECOND * 60).await;
    assert_eq!(log.len(), 1, "{count} jobs were imported, from\n{jobs}");
}

/// The same of a job that goes on: the fire time that waits is not in the document.
#[tokio::test(start_paused = true)]
async fn an_export_has_the_fire_time_that_waits() {
    let (store, other, log) = (MemoryStore::new(), MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    scheduler.add(every(SECOND * 3600).immediately(), echo("hourly")).id("hourly").await.unwrap();
    sleep(SECOND * 3600 - SECOND / 4).await;
    scheduler.shutdown().await;
    let ran = log.len();
    assert_eq!(ran, 1);

    let moving = on(&store, &log).paused().start().await.unwrap();
    let jobs = moving.export().await.unwrap();
    moving.shutdown().await;
    let there = on(&other, &log).start().await.unwrap();
    there.import(&jobs, OnConflict::Error).await.unwrap();
    sleep(SECOND * 60).await;
    assert_eq!(
        log.len(),
        ran + 1,
        "the fire time of an hour after the start is lost; from\n{jobs}"
    );
}

/// A run that somebody asked for while the scheduler was paused.
#[tokio::test(start_paused = true)]
async fn an_export_has_the_runs_that_were_asked_for() {
    let (store, other, log) = (MemoryStore::new(), MemoryStore::new(), Log::default());
    let moving = on(&store, &log).paused().start().await.unwrap();
    let job = moving.add(every(SECOND * 86_400), echo("asked for")).id("job").await.unwrap();
    job.run_now().await.unwrap();
    let jobs = moving.export().await.unwrap();
    moving.shutdown().await;
    let there = on(&other, &log).start().await.unwrap();
    there.import(&jobs, OnConflict::Error).await.unwrap();
    sleep(SECOND * 60).await;
    assert_eq!(log.len(), 1, "from\n{jobs}");
}

/// A trigger that no `add` would let into a store comes in by an import.
#[tokio::test(start_paused = true)]
async fn an_import_lets_in_only_what_an_add_would() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    scheduler.add(every(SECOND), echo("x")).id("job").await.unwrap();
    let jobs = scheduler.export().await.unwrap();
    scheduler.job("job").remove().await.unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&jobs).unwrap();
    let follows = serde_json::json!({ "type": "follow", "job": "other", "on": "any" });
    document["jobs"][0]["trigger"] = follows;
    let imported = scheduler.import(&document.to_string(), OnConflict::Error).await;
    sleep(SECOND * 20).await;
    let unhandled = scheduler.unhandled().await.unwrap();
    assert!(
        imported.is_err() || unhandled.len() == 1,
        "{imported:?}; it ran {} times, and is not among those that can't run: {:?}",
        log.len(),
        scheduler.jobs().await.unwrap()
    );
}

// Declared in code.

/// Its arguments are written in another order by each process.
#[derive(Serialize, Deserialize)]
struct Mapped(std::collections::HashMap<String, u32>);

impl Task for Mapped {
    const NAME: &'static str = "mapped";
    type Output = ();

    async fn run(self, cx: Context) {
        let (fire_time, late_by, attempt) = (cx.fire_time(), cx.late_by(), cx.attempt());
        let ran = Ran { text: "mapped".into(), fire_time, late_by, attempt };
        cx.state::<Log>().0.lock().unwrap().push(ran);
    }
}

/// "A daily deploy does not put off a daily job for ever."
#[tokio::test(start_paused = true)]
async fn the_same_declaration_in_another_order_is_the_same() {
    let (store, log) = (MemoryStore::new(), Log::default());
    for _ in 0..10 {
        let scheduler = on(&store, &log).task::<Mapped>().start().await.unwrap();
        let map = (0..10).map(|n| (format!("key {n}"), n)).collect();
        let add = scheduler.add(every(SECOND * 86_400), Mapped(map)).id("daily");
        add.on_conflict(OnConflict::Reconcile).await.unwrap();
        // A deploy every twenty hours.
        sleep(SECOND * 72_000).await;
        scheduler.shutdown().await;
    }
    assert!(log.len() >= 7, "in 8 days of deploys the daily job ran {} times", log.len());
}

#[tokio::test(start_paused = true)]
async fn another_zone_is_another_declaration() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let declare = async |zone: &'static str| {
        let scheduler = on(&store, &log).time_zone(zone).start().await.unwrap();
        let add = scheduler.add(cron("0 7 * * *"), echo("morning")).id("morning");
        add.on_conflict(OnConflict::Reconcile).await.unwrap();
        let job = scheduler.job("morning").get().await.unwrap();
        scheduler.shutdown().await;
        job.trigger.to_string()
    };
    let before = declare("Europe/Berlin").await;
    let then = declare("America/New_York").await;
    assert_ne!(before, then, "the zone of the scheduler was changed, the job's was not");
}

// One operation fails, the others work.

/// How late the worst run was, and how many events told that the store fails or works again, while one
/// operation does not.
async fn lateness_while(operation: &'static str, mood: Mood) -> (usize, Duration, usize) {
    let (store, log) = (Moody::new(MemoryStore::new()), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    let kinds = [EventKind::StoreFailing, EventKind::StoreWorking];
    let events = scheduler.events_matching(EventFilter::new().kinds(kinds));
    scheduler.add(every(SECOND), echo("tick")).id("tick").await.unwrap();
    sleep(SECOND * 5 + SECOND / 3).await;
    store.set(operation, mood);
    log.clear();
    sleep(SECOND * 120).await;
    let ran = log.all();
    store.reset();
    scheduler.shutdown().await;
    let worst = ran.iter().map(|ran| ran.late_by).max().unwrap_or_default();
    (ran.len(), worst, events.count().await)
}

#[tokio::test(start_paused = true)]
async fn runs_are_on_time_while_the_ledger_can_not_be_pruned() {
    for mood in [Mood::Refuse, Mood::Fail, Mood::Panic, Mood::Hang] {
        let (ran, late, told) = lateness_while("prune", mood).await;
        assert!(
            ran >= 115 && late < SECOND / 2 && told <= 2,
            "{mood:?}: {ran} of 120 runs, up to {late:?} late, and {told} events"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn runs_go_on_while_the_store_can_not_say_what_has_changed() {
    for mood in [Mood::Refuse, Mood::Fail, Mood::Panic] {
        let (ran, late, told) = lateness_while("changed", mood).await;
        assert!(ran >= 100, "{mood:?}: {ran} of 120 runs, up to {late:?} late, and {told} events");
    }
}

#[tokio::test(start_paused = true)]
async fn runs_go_on_while_the_store_can_not_say_what_is_next() {
    for mood in [Mood::Refuse, Mood::Fail, Mood::Panic] {
        let (ran, late, told) = lateness_while("next_due", mood).await;
        assert!(ran >= 10, "{mood:?}: {ran} of 120 runs, up to {late:?} late, and {told} events");
    }
}

#[tokio::test(start_paused = true)]
async fn runs_go_on_while_the_dead_can_not_be_buried() {
    for operation in ["reap", "claimed_by"] {
        for mood in [Mood::Refuse, Mood::Fail, Mood::Panic, Mood::Hang] {
            let (ran, late, told) = lateness_while(operation, mood).await;
            assert!(
                ran >= 115 && late < SECOND / 2 && told <= 2,
                "{operation} {mood:?}: {ran} of 120 runs, up to {late:?} late, and {told} events"
            );
        }
    }
}

/// What can't be given back must not keep the store from hearing what ran.
#[tokio::test(start_paused = true)]
async fn outcomes_are_told_while_nothing_can_be_given_back() {
    for mood in [Mood::Refuse, Mood::Fail, Mood::Panic] {
        let (memory, log) = (MemoryStore::new(), Log::default());
        let store = Moody::new(memory.clone());
        let scheduler = on(&store, &log).start().await.unwrap();
        scheduler.add(every(SECOND), echo("tick")).id("tick").await.unwrap();
        let paused = scheduler.add(every(SECOND), echo("paused")).id("paused").await.unwrap();
        sleep(SECOND * 3 + SECOND * 3 / 4).await;
        store.set("release", mood);
        // What it has taken ahead is to be given back.
        paused.pause().await.unwrap();
        sleep(SECOND * 60).await;
        let closed = rows(&memory).await;
        let ran = |row: &&Row| row.state == RowState::Closed(Fate::Ran(RunEnd::Succeeded));
        let closed = closed.iter().filter(|row| row.job == "tick").filter(ran).count();
        let ticks = log.all().iter().filter(|ran| ran.text == "tick").count();
        assert!(
            closed + 3 >= ticks,
            "{mood:?}: {ticks} runs have ended, and the ledger knows of {closed}"
        );
    }
}

/// The same, and then it restarts: what ran and recovers must not run again.
#[tokio::test(start_paused = true)]
async fn what_ran_while_nothing_could_be_given_back_does_not_run_again() {
    let (memory, log) = (MemoryStore::new(), Log::default());
    let store = Moody::new(memory.clone());
    let scheduler = on(&store, &log).start().await.unwrap();
    scheduler.add(every(SECOND), echo("tick")).id("tick").recover(true).await.unwrap();
    let paused = scheduler.add(every(SECOND), echo("paused")).id("paused").await.unwrap();
    sleep(SECOND * 3 + SECOND * 3 / 4).await;
    store.set("release", Mood::Refuse);
    paused.pause().await.unwrap();
    sleep(SECOND * 30).await;
    scheduler.shutdown().await;
    store.reset();
    let _next = on(&store, &log).start().await.unwrap();
    sleep(SECOND * 60).await;
    let mut times = BTreeMap::<DateTime<Utc>, Vec<u32>>::new();
    for ran in log.all().into_iter().filter(|ran| ran.text == "tick") {
        times.entry(ran.fire_time).or_default().push(ran.attempt);
    }
    let twice = times.values().filter(|attempts| attempts.len() > 1).count();
    assert_eq!(twice, 0, "of {} fire times {twice} ran more than once", times.len());
}

/// A store whose stream of changes is always ready must not have the runtime to itself.
#[test]
fn a_store_that_tells_all_the_time_does_not_hold_up_the_runtime() {
    let (said, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let store = Moody { chatty: true, ..Moody::new(MemoryStore::new()) };
            let scheduler = on(&store, &Log::default()).start().await.unwrap();
            scheduler.add(every(SECOND), || async {}).await.unwrap();
            sleep(MILLISECOND * 100).await;
            said.send(()).unwrap();
        });
    });
    let heard = heard.recv_timeout(SECOND * 10);
    assert!(heard.is_ok(), "nothing else has run for ten seconds");
}

/// The runtime goes while the store is asked: what is asked from another one is answered.
#[test]
fn verbs_are_answered_after_the_runtime_has_gone() {
    let (said, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = Moody::new(MemoryStore::new());
        let (scheduler, job) = runtime.block_on(async {
            let scheduler = on(&store, &Log::default()).start().await.unwrap();
            let job = scheduler.add(every(SECOND), echo("x")).id("job").await.unwrap();
            sleep(MILLISECOND * 600).await;
            (scheduler, job)
        });
        store.set("take", Mood::Hang);
        store.set("heartbeat", Mood::Hang);
        runtime.block_on(async { sleep(SECOND).await });
        drop(runtime);
        let other = tokio::runtime::Runtime::new().unwrap();
        other.block_on(async move {
            let got = scheduler.job("job").get().await;
            let added = scheduler.add(every(SECOND), || async {}).id("y").await;
            let task = scheduler.add(every(SECOND), echo("z")).id("z").await;
            let shutdown = scheduler.shutdown().within(SECOND).await;
            let end = job.await;
            let told = format!(
                "{:?} {:?} {:?} {shutdown:?} {end:?}",
                got.map(drop),
                added.map(drop),
                task.map(drop)
            );
            said.send(told).unwrap();
        });
    });
    let heard = heard.recv_timeout(SECOND * 20);
    assert!(heard.is_ok(), "something has not been answered for 20 seconds");
    println!("{}", heard.unwrap());
}

// Clocks.

/// A node dies, and the clock is set back before the next one starts: an hour's lease is not to be waited
/// for, there are none that long.
#[tokio::test(start_paused = true)]
async fn the_dead_are_buried_although_the_clock_was_set_back() {
    let start = "2030-01-01T12:00:00Z".parse::<DateTime<Utc>>().unwrap();
    let clock = ManualClock::running(start);
    let (memory, log) = (MemoryStore::with_clock(clock.clone()), Log::default());
    let store = Moody::new(memory.clone());
    let dies = on(&store, &log).clock(clock.clone()).start().await.unwrap();
    dies.add(every(SECOND), echo("tick")).id("tick").await.unwrap();
    sleep(SECOND * 5 + SECOND * 3 / 4).await;
    assert!(rows(&memory).await.iter().any(|row| matches!(row.state, RowState::Claimed(_))));
    // Nothing is heard of it any more.
    for operation in ["heartbeat", "take", "finish", "release", "reap"] {
        store.set(operation, Mood::Hang);
    }
    sleep(SECOND * 2).await;
    log.clear();
    clock.step(TimeDelta::days(-1));
    let _lives = on(&memory, &log).clock(clock.clone()).start().await.unwrap();
    let job = _lives.job("tick");
    // Its next fire time is tomorrow's by now.
    job.reschedule(every(SECOND)).await.unwrap();
    sleep(SECOND * 600).await;
    assert!(log.len() > 500, "in ten minutes it ran {} times", log.len());
}

// Growth.

/// Five hundred fires a second, of which one row each is to be kept.
#[tokio::test(start_paused = true)]
async fn the_ledger_does_not_grow_faster_than_it_is_pruned() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler =
        on(&store, &log).keep_history(1, Duration::from_secs(60)).start().await.unwrap();
    let jobs = (0..500).map(|n| scheduler.add(every(SECOND), echo("x")).id(format!("{n}")));
    scheduler.add_all(jobs.collect::<Vec<_>>()).await.unwrap();
    let mut lengths = Vec::new();
    for _ in 0..4 {
        sleep(SECOND * 300).await;
        log.clear();
        lengths.push(rows(&store).await.len());
    }
    // What ended in the last minute is kept in any case: 30,000 rows.
    assert!(
        lengths[3] < lengths[1] * 5 / 4,
        "after 5, 10, 15 and 20 minutes it has {lengths:?} rows"
    );
}

// SQLite.

/// A folder of a test's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("punctual-attacks-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("jobs.db")
    }

    fn change(&self, sql: &str) {
        let connection = rusqlite::Connection::open(self.file()).unwrap();
        connection.busy_timeout(SECOND * 10).unwrap();
        connection.execute_batch(sql).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// "Nothing keeps the rest from being read": one number that makes no sense, and the other jobs.
async fn others_run_beside(column: &str, number: i64) {
    let (folder, log) = (Folder::new(), Log::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &log).paused().start().await.unwrap();
    let fast = || every(MILLISECOND * 100);
    scheduler.add(fast(), echo("odd")).id("odd").await.unwrap();
    scheduler.add(fast(), echo("good")).id("good").await.unwrap();
    folder.change(&format!("UPDATE punctual_jobs SET {column} = {number} WHERE id = 'odd'"));
    scheduler.resume().await.unwrap();
    sleep(SECOND * 2).await;
    let good = log.all().iter().filter(|ran| ran.text == "good").count();
    assert!(good >= 5, "{column} = {number}: the other job ran {good} times in 2 s");
    scheduler.shutdown().within(SECOND).await;
}

#[tokio::test]
async fn a_fence_that_makes_no_sense_holds_up_no_other_job() {
    others_run_beside("fence", -1).await;
}

#[tokio::test]
async fn other_numbers_that_make_no_sense_hold_up_no_other_job() {
    for column in ["version", "requests", "token", "next_fire", "added_at", "taken_to"] {
        for number in [-1, i64::MIN, i64::MAX] {
            others_run_beside(column, number).await;
        }
    }
}

/// What is asked about a job whose numbers make no sense is answered, or refused: it does not panic.
#[tokio::test]
async fn verbs_do_not_panic_over_numbers_that_make_no_sense() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &Log::default()).paused().start().await.unwrap();
    let mut panicked = Vec::new();
    for column in ["version", "requests", "fence", "next_fire", "resumed_at", "taken_to"] {
        for number in [-1, i64::MIN, i64::MAX] {
            for verb in 0..6 {
                let id = format!("{column} {number} {verb}");
                let add = scheduler.add(every(SECOND), echo("x")).id(id.as_str());
                add.paused().await.unwrap();
                folder.change(&format!(
                    "UPDATE punctual_jobs SET {column} = {number}, paused = {} WHERE id = '{id}'",
                    i32::from(verb == 1)
                ));
                let job = scheduler.job(id.as_str());
                let asked = tokio::spawn(async move {
                    match verb {
                        0 => job.pause().await,
                        1 => job.resume().await,
                        2 => job.reschedule(every(SECOND)).await,
                        3 => job.modify(|settings| settings.priority(1)).await,
                        4 => job.run_now().await.map(drop),
                        _ => job.remove().await,
                    }
                });
                if asked.await.is_err() {
                    panicked.push(id);
                }
            }
        }
    }
    assert!(panicked.is_empty(), "{panicked:?}");
}

#[tokio::test]
async fn an_endless_busy_timeout_does_not_bring_the_store_down() {
    let folder = Folder::new();
    let patient = SqliteStore::builder(folder.file()).busy_timeout(Duration::MAX).open().await;
    assert!(patient.is_ok(), "{:?}", patient.map(drop));
}

#[tokio::test]
async fn an_endless_poll_does_not_bring_the_store_down() {
    let folder = Folder::new();
    let seldom = SqliteStore::builder(folder.file()).poll(Duration::MAX).open().await.unwrap();
    let mut changes = seldom.changes();
    let told = tokio::time::timeout(MILLISECOND * 100, changes.next()).await;
    let got = seldom.get("x".into()).await;
    assert!(told.is_err() && got.is_ok(), "{told:?}, {got:?}");
}

#[tokio::test]
async fn namespaces_that_differ_in_case() {
    let folder = Folder::new();
    let open = async |name: &str| SqliteStore::builder(folder.file()).namespace(name).open().await;
    let one = open("team_").await.unwrap();
    let other = open("TEAM_").await;
    let error = match &other {
        Ok(_) => String::new(),
        Err(error) => std::error::Error::source(error).unwrap().to_string(),
    };
    assert!(
        other.is_ok() || error.contains("case") || error.contains("namespace"),
        "neither another store, nor an error that says why: {error}"
    );
    drop(one);
}

/// What nobody can name a table or a file: the text says what is wrong with it.
#[tokio::test]
async fn errors_of_names_and_paths_say_what_is_wrong() {
    let folder = Folder::new();
    let told = async |builder: SqliteBuilder| match builder.open().await {
        Ok(_) => String::new(),
        Err(error) => std::error::Error::source(&error).unwrap().to_string(),
    };
    let reserved = told(SqliteStore::builder(folder.file()).namespace("SQLITE_")).await;
    let nul = told(SqliteStore::builder(folder.0.join("a\0b"))).await;
    let is_folder = told(SqliteStore::builder(&folder.0)).await;
    for text in [&reserved, &nul, &is_folder] {
        assert!(
            !text.contains("see what the tables hold"),
            "reserved: {reserved}\nnul: {nul}\na folder: {is_folder}"
        );
    }
}

// A recovering run that is put back while it waits.

/// A run is stopped since the node does not believe itself, is to be called again, waits behind another,
/// and the job or the scheduler is paused for a moment.
async fn is_called_again_after_a_pause(of_the_job: bool) {
    for _ in 0..50 {
        let (memory, log) = (MemoryStore::new(), Log::default());
        let store = Moody::new(memory.clone());
        let scheduler = on(&store, &log).start().await.unwrap();
        let job = scheduler
            .add(every(SECOND).times(2), Slow(30_000))
            .id("job")
            .recover(true)
            .overlap(Overlap::Queue(5))
            .await
            .unwrap();
        sleep(SECOND * 3).await;
        let first = log.all()[0].fire_time;
        let kinds = [EventKind::LeaseLapsed];
        let mut lapsed = scheduler.events_matching(EventFilter::new().kinds(kinds));
        let operations =
            ["heartbeat", "take", "finish", "release", "reap", "claimed_by", "changed"];
        operations.iter().for_each(|operation| store.set(operation, Mood::Fail));
        lapsed.next().await.unwrap();
        sleep(SECOND / 2).await;
        store.reset();
        sleep(SECOND * 5).await;
        // The second is to run by now, and the first to wait for it: that depends on when the store was
        // asked again, which is left to chance.
        let begun: Vec<_> =
            log.all().iter().map(|ran| (ran.fire_time == first, ran.attempt)).collect();
        if begun != [(true, 1), (false, 1)] {
            continue;
        }
        if of_the_job {
            job.pause().await.unwrap();
            sleep(SECOND).await;
            job.resume().await.unwrap();
        } else {
            scheduler.pause().await.unwrap();
            sleep(SECOND).await;
            scheduler.resume().await.unwrap();
        }
        sleep(SECOND * 600).await;
        let again = |ran: &&Ran| ran.fire_time == first && ran.attempt > 1;
        let again = log.all().iter().filter(again).count();
        let ledger: Vec<_> = rows(&memory).await.into_iter().map(|row| row.state).collect();
        assert_eq!(again, 1, "ten minutes later; the ledger says {ledger:?}");
        return;
    }
    panic!("the scene was not set in fifty tries");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_to_be_called_again_outlives_a_pause_of_the_scheduler() {
    is_called_again_after_a_pause(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_to_be_called_again_outlives_a_pause_of_the_job() {
    is_called_again_after_a_pause(true).await;
}

// Answers.

/// What was taken ahead must not crowd out what has run.
#[tokio::test(start_paused = true)]
async fn the_history_has_runs_although_much_is_taken_ahead() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    let job = scheduler
        .add(every(MILLISECOND * 2), echo("x"))
        .id("job")
        .history(10)
        .max_instances(10)
        .await
        .unwrap();
    let mut lengths = Vec::new();
    for _ in 0..10 {
        sleep(MILLISECOND * 730).await;
        lengths.push(job.history().await.unwrap().len());
    }
    assert_eq!(lengths, [10; 10], "{} runs", log.len());
}

/// Another node brings the job to its end, long before this one asks.
#[tokio::test(start_paused = true)]
async fn a_handle_says_how_its_job_ended_although_the_ledger_is_short() {
    let (memory, log) = (MemoryStore::new(), Log::default());
    let mute = Moody { mute: true, ..Moody::new(memory.clone()) };
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let one = on(&mute, &log).poll_interval(minutes(20)).start().await.unwrap();
    let other = on(&memory, &log).keep_history(0, Duration::ZERO).start().await.unwrap();
    let job = one.add(after(minutes(3)), echo("x")).id("job").await.unwrap();
    one.pause().await.unwrap();
    let end = tokio::time::timeout(minutes(60), job).await;
    assert!(matches!(end, Ok(End::Completed)), "{end:?}, and it ran {} times", log.len());
    drop(other);
}

/// A store whose clock is at its end.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_mad_brings_nothing_down() {
    for clock in [DateTime::<Utc>::MAX_UTC, DateTime::<Utc>::MIN_UTC] {
        let (store, log) = (Moody::new(MemoryStore::new()), Log::default());
        store.set("heartbeat", Mood::Mad(clock));
        let scheduler = on(&store, &log).start().await.unwrap();
        let ticks = Arc::new(AtomicUsize::new(0));
        let count = ticks.clone();
        let tick = move || {
            let count = count.clone();
            async move { _ = count.fetch_add(1, Ordering::SeqCst) }
        };
        scheduler.add(every(SECOND), tick).await.unwrap();
        sleep(SECOND).await;
        let added = tokio::spawn(scheduler.add(every(SECOND), echo("x")).id("job").into_future());
        assert!(added.await.is_ok(), "`add` panicked");
        sleep(SECOND * 60).await;
        assert!(ticks.load(Ordering::SeqCst) > 55, "closures stopped at {clock}");
        store.reset();
        let shut = tokio::time::timeout(SECOND * 60, scheduler.shutdown()).await;
        assert!(shut.is_ok());
    }
}

// Dropped at every await.

/// Each verb is polled so often and dropped; then it is asked anew, to its end, and all is as it should be.
#[tokio::test(start_paused = true)]
async fn verbs_that_are_dropped_lock_and_lose_nothing() {
    for polls in 0..12 {
        for verb in 0..10 {
            let (memory, log) = (MemoryStore::new(), Log::default());
            let store = Moody::new(memory.clone());
            let scheduler = on(&store, &log).start().await.unwrap();
            let add = |id: &str| scheduler.add(every(SECOND), echo(id)).id(id);
            let job = add("job").await.unwrap();
            add("spare").await.unwrap();
            sleep(SECOND * 2 + SECOND / 4).await;
            let document = scheduler.export().await.unwrap();
            let ask = async |scheduler: &Scheduler| -> Result<(), Error> {
                let job = scheduler.job("job");
                let add = |id: &str| {
                    scheduler.add(every(SECOND), echo(id)).id(id).on_conflict(OnConflict::Replace)
                };
                match verb {
                    0 => add("new").await.map(drop),
                    1 => add("job").await.map(drop),
                    2 => scheduler.add_all([add("a"), add("b")]).await.map(drop),
                    3 => scheduler.import(&document, OnConflict::Replace).await.map(drop),
                    4 => job.pause().await,
                    5 => job.reschedule(every(SECOND * 2)).await,
                    6 => job.modify(|settings| settings.priority(3)).await,
                    7 => job.run_now().await.map(drop),
                    8 => scheduler.add(every(SECOND), || async {}).id("c").await.map(drop),
                    _ => scheduler.remove_all().await.map(drop),
                }
            };
            {
                let mut asked = std::pin::pin!(ask(&scheduler));
                for _ in 0..polls {
                    if futures::FutureExt::now_or_never(asked.as_mut()).is_some() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            let again = ask(&scheduler).await;
            let fine = match &again {
                Ok(()) => true,
                // The first one may have been done.
                Err(error) => {
                    error.is_duplicate_id() && verb == 8 || error.is_overlap() && verb == 7
                }
            };
            assert!(fine, "verb {verb} after {polls} polls: {again:?}");
            // Every id that is not taken can be had.
            for id in ["job", "new", "a", "b", "spare"] {
                let add = scheduler.add(every(SECOND), echo("last")).id(id);
                let added = add.on_conflict(OnConflict::Replace).await;
                assert!(added.is_ok(), "{id} after verb {verb} and {polls} polls: {added:?}");
            }
            log.clear();
            sleep(SECOND * 10).await;
            let last = log.all().iter().filter(|ran| ran.text == "last").count();
            assert!(last >= 5 * 9, "verb {verb}, {polls} polls: {last} of 50 runs");
            assert_eq!(log.len(), last, "verb {verb}, {polls} polls: others run, too");
            let end = tokio::time::timeout(SECOND * 20, job).await;
            assert!(end.is_ok(), "verb {verb}, {polls} polls: the handle never resolves");
            let report = tokio::time::timeout(SECOND * 60, scheduler.shutdown()).await;
            assert!(report.is_ok());
            let open = rows(&memory).await.into_iter().filter(|row| row.state.is_open()).count();
            let there = memory.list(RecordFilter::default(), None, 100).await.unwrap().records;
            let due = rows(&memory).await;
            let taken = due.iter().filter(|row| matches!(row.state, RowState::Claimed(_))).count();
            assert_eq!(taken, 0, "verb {verb}, {polls} polls; {open} open, {} jobs", there.len());
        }
    }
}

// Tokens.

/// "No further run starts", which holds at once for a job in memory.
#[tokio::test(start_paused = true)]
async fn nothing_starts_after_a_cancel_although_the_store_is_slow() {
    for mood in [Mood::Slow(SECOND * 3), Mood::Fail] {
        for in_memory in [true, false] {
            let (store, log) = (Moody::new(MemoryStore::new()), Log::default());
            let scheduler = on(&store, &log).start().await.unwrap();
            let add = scheduler.add(every(MILLISECOND * 100), echo("x")).id("job");
            let add = if in_memory { add.in_memory() } else { add };
            let job = add.await.unwrap();
            let token = job.cancel_token();
            sleep(SECOND * 2).await;
            store.set("get", mood);
            token.cancel();
            sleep(MILLISECOND * 150).await;
            let before = log.len();
            sleep(SECOND * 30).await;
            let more = log.len() - before;
            assert_eq!(more, 0, "{mood:?}, in memory: {in_memory}: runs started after the cancel");
        }
    }
}

/// A store that refuses once: the token is cancelled, and the job goes on for ever?
#[tokio::test(start_paused = true)]
async fn a_cancel_that_the_store_refused_is_not_forgotten() {
    let (store, log) = (Moody::new(MemoryStore::new()), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    let job = scheduler.add(every(SECOND), echo("x")).id("job").await.unwrap();
    let token = job.cancel_token();
    sleep(SECOND * 2).await;
    store.set("write", Mood::Refuse);
    token.cancel();
    sleep(SECOND * 5).await;
    store.reset();
    sleep(SECOND * 60).await;
    assert_eq!(log.len(), 1);
    let is_there = store.get("job".into()).await.unwrap().is_some();
    scheduler.shutdown().await;
    let _next = on(&store, &log).start().await.unwrap();
    sleep(SECOND * 60).await;
    assert_eq!(log.len(), 1, "after a restart it runs on; a minute later it was there: {is_there}");
}

// Much at once, in SQLite.

/// A hundred jobs make up for what passed: nothing of that may cost the node its life.
#[tokio::test]
async fn a_catch_up_does_not_cost_the_lease() {
    let (folder, log) = (Folder::new(), Log::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let first = on(&store, &log).paused().start().await.unwrap();
    let jobs = (0..100).map(|n| {
        let add = first.add(every(SECOND), echo("x")).id(format!("{n}"));
        add.coalesce(Coalesce::All).max_catch_up(3000).max_instances(1)
    });
    first.add_all(jobs.collect::<Vec<_>>()).await.unwrap();
    first.shutdown().await;
    // It was away for three hours.
    folder.change("UPDATE punctual_jobs SET next_fire = next_fire - 10800000");
    folder.change(
        "UPDATE punctual_jobs SET trigger = json_set(trigger, '$.start', '2020-01-01T00:00:00Z')",
    );
    let scheduler = on(&store, &log).lease(SECOND * 5).start().await.unwrap();
    let kinds = [EventKind::LeaseLost, EventKind::LeaseLapsed];
    let mut events = scheduler.events_matching(EventFilter::new().kinds(kinds));
    let mut told = Vec::new();
    for _ in 0..12 {
        sleep(SECOND).await;
        while let Some(Some(event)) = futures::FutureExt::now_or_never(events.next()) {
            told.push(format!("{:?}", event.payload));
        }
    }
    let closed = "SELECT fate, count(*) FROM punctual_ledger GROUP BY fate";
    let connection = rusqlite::Connection::open(folder.file()).unwrap();
    let mut statement = connection.prepare(closed).unwrap();
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<String>>(0)?, row.get(1)?));
    let fates: Vec<(Option<String>, i64)> =
        statement.query_map([], read).unwrap().map(Result::unwrap).collect();
    assert!(told.is_empty(), "{told:?}; {} ran; {fates:?}", log.len());
}

// Transactions that several writes share.

/// The file is the application's own, too, and its tables refer to the jobs: what can't be committed for
/// one write is the trouble of that write.
#[tokio::test]
async fn a_commit_that_fails_for_one_write_fails_for_no_other() {
    let (folder, log) = (Folder::new(), Log::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &log).start().await.unwrap();
    scheduler.add(every(SECOND * 3600), echo("x")).id("referred").await.unwrap();
    folder.change(
        "CREATE TABLE orders (job TEXT REFERENCES punctual_jobs (id) DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO orders VALUES ('referred');",
    );
    let mut refused = Vec::new();
    for _ in 0..50 {
        let referred = scheduler.job("referred");
        let others = futures::future::join_all((0..8).map(|n| {
            let add = scheduler.add(every(SECOND * 3600), echo("x")).id(format!("{n}"));
            add.on_conflict(OnConflict::Replace).into_future()
        }));
        let (removed, others) = futures::future::join(referred.remove(), others).await;
        refused.extend(others.into_iter().filter_map(|other| other.err()));
        if removed.is_ok() {
            break;
        }
    }
    let first = refused.first().map(|error| error.to_string());
    assert!(refused.is_empty(), "{} others failed, too: {first:?}", refused.len());
}

/// A write that undoes all of the transaction: the others are told so, and the store goes on.
#[tokio::test]
async fn a_write_that_rolls_all_back_loses_nothing_that_was_answered() {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &Log::default()).paused().start().await.unwrap();
    folder.change(
        "CREATE TRIGGER no BEFORE INSERT ON punctual_jobs WHEN new.id = 'bad'
         BEGIN SELECT RAISE(ROLLBACK, 'not this one'); END",
    );
    for round in 0..20 {
        let adding = (0..20).map(|n| {
            let id = if n == 10 { "bad".into() } else { format!("{round}-{n}") };
            let adding = scheduler.add(every(SECOND * 3600), echo("x")).id(id.clone());
            async move { (id, adding.into_future().await) }
        });
        for (id, added) in futures::future::join_all(adding).await {
            let there = store.get(id.as_str().into()).await.unwrap().is_some();
            assert_eq!(added.is_ok(), there, "{id}: {added:?}");
            assert_eq!(added.is_ok(), id != "bad", "{id}: {added:?}");
        }
    }
}

// What is left when all is over.

#[tokio::test]
async fn schedulers_and_stores_leave_no_threads_and_no_tasks() {
    let threads = || std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(0);
    let files = || std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or(0);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let folder = Folder::new();
    let before = (threads(), files(), tasks());
    for round in 0..30 {
        let store = SqliteStore::open(folder.file()).await.unwrap();
        let scheduler = on(&store, &Log::default()).start().await.unwrap();
        let add = scheduler.add(every(MILLISECOND * 10), echo("x")).id(format!("{round}"));
        let job = add.await.unwrap();
        let _token = job.cancel_token();
        match round % 3 {
            0 => drop(scheduler.shutdown().await),
            1 => drop(scheduler),
            _ => drop(tokio::time::timeout(MILLISECOND, scheduler.shutdown()).await),
        }
    }
    let mut after = before;
    for _ in 0..100 {
        sleep(MILLISECOND * 100).await;
        after = (threads(), files(), tasks());
        if after.0 <= before.0 && after.1 <= before.1 && after.2 <= before.2 {
            return;
        }
    }
    panic!("threads, files, tasks: before {before:?}, after {after:?}");
}

/// A take is on its way when the scheduler is shut down.
#[tokio::test(start_paused = true)]
async fn what_a_take_brings_during_shutdown_is_given_back() {
    for slow in [100, 1000, 3000] {
        let (memory, log) = (MemoryStore::new(), Log::default());
        let store = Moody::new(memory.clone());
        let scheduler = on(&store, &log).start().await.unwrap();
        scheduler.add(every(SECOND), echo("x")).id("job").await.unwrap();
        sleep(SECOND * 3 + SECOND / 4).await;
        store.set("take", Mood::Slow(Duration::from_millis(slow)));
        sleep(SECOND / 2).await;
        scheduler.shutdown().within(SECOND).await;
        sleep(SECOND * 10).await;
        let next = on(&memory, &log).start().await.unwrap();
        sleep(SECOND * 30).await;
        let states: Vec<_> = rows(&memory).await.into_iter().map(|row| row.state).collect();
        let lost = |state: &&RowState| **state == RowState::Closed(Fate::Abandoned);
        let abandoned = states.iter().filter(lost).count();
        assert_eq!(abandoned, 0, "{slow} ms: {states:?}");
        drop(next);
    }
}

// One job and the others.

/// Three jobs have ten thousand runs each to make up for, one after the other: the other jobs go on.
#[tokio::test(start_paused = true)]
async fn a_backlog_of_some_jobs_does_not_stall_the_others() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).paused().start().await.unwrap();
    for n in 0..3 {
        let add = scheduler.add(every(SECOND), Slow(2_000)).id(format!("backlog {n}"));
        add.coalesce(Coalesce::All).max_catch_up(10_000).await.unwrap();
    }
    // Three hours of pause.
    sleep(SECOND * 10_800).await;
    scheduler.resume().await.unwrap();
    scheduler.add(every(SECOND), echo("tick")).id("tick").await.unwrap();
    sleep(SECOND * 600).await;
    let ticks = log.all().iter().filter(|ran| ran.text == "tick").count();
    assert!(ticks > 590, "in ten minutes a job of every second ran {ticks} times");
}

/// The same with a job that lets its runs wait in line.
#[tokio::test(start_paused = true)]
async fn a_long_queue_of_one_job_does_not_stall_the_others() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    let add = scheduler.add(every(MILLISECOND * 10), Slow(3_600_000)).id("queue");
    add.overlap(Overlap::Queue(100_000)).await.unwrap();
    scheduler.add(every(SECOND), echo("tick")).id("tick").await.unwrap();
    sleep(SECOND * 300).await;
    log.clear();
    sleep(SECOND * 300).await;
    assert!(log.len() > 290, "in five minutes a job of every second ran {} times", log.len());
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_back_is_an_error_at_add() {
    #[derive(Serialize, Deserialize)]
    struct Ratio(f64);

    impl Task for Ratio {
        const NAME: &'static str = "ratio";
        type Output = ();

        async fn run(self, cx: Context) {
            let (fire_time, late_by, attempt) = (cx.fire_time(), cx.late_by(), cx.attempt());
            let ran = Ran { text: self.0.to_string(), fire_time, late_by, attempt };
            cx.state::<Log>().0.lock().unwrap().push(ran);
        }
    }

    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).task::<Ratio>().start().await.unwrap();
    let added = scheduler.add(after(SECOND), Ratio(f64::NAN)).id("job").await;
    sleep(SECOND * 60).await;
    assert!(added.is_err() || log.len() == 1, "it was added, and never runs");
}

/// ClaimedJob at once when it is due, and no sooner.
#[tokio::test(start_paused = true)]
async fn without_taking_ahead_runs_are_on_time_too() {
    let (store, log) = (Moody::new(MemoryStore::new()), Log::default());
    let scheduler = on(&store, &log).claim_ahead(Duration::ZERO).start().await.unwrap();
    scheduler.add(every(SECOND), echo("x")).id("job").await.unwrap();
    sleep(SECOND * 600).await;
    let late = log.all().iter().map(|ran| ran.late_by).max();
    assert!(log.len() > 595 && late < Some(MILLISECOND * 50), "{} runs, {late:?}", log.len());
}

// Races of verbs.

/// A job that is taken often, on a store that is a network away: who changes it must get a turn.
#[tokio::test(start_paused = true)]
async fn a_job_that_fires_all_the_time_can_be_paused() {
    for (period, get) in [(50, 100), (10, 20), (2, 20)] {
        let (store, log) = (Moody::new(MemoryStore::new()), Log::default());
        let builder = on(&store, &log).claim_ahead(Duration::ZERO);
        let scheduler = builder.start().await.unwrap();
        let add = scheduler.add(every(MILLISECOND * period), echo("x")).id("job");
        let job = add.max_instances(10).await.unwrap();
        sleep(SECOND).await;
        store.set("get", Mood::Slow(Duration::from_millis(get)));
        let paused = tokio::time::timeout(SECOND * 60, job.pause()).await;
        assert!(
            paused.is_ok(),
            "every {period} ms, a read takes {get} ms: not paused within a minute"
        );
    }
}

#[tokio::test]
async fn many_ask_for_runs_of_one_job_at_once() {
    let (folder, log) = (Folder::new(), Log::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &log).start().await.unwrap();
    let add = scheduler.add(every(SECOND * 3600), echo("x")).id("job");
    let job = add.max_instances(1000).await.unwrap();
    let began = std::time::Instant::now();
    let asked = (0..300).map(|_| {
        let job = job.clone();
        async move { job.run_now().await }
    });
    let asked = futures::future::join_all(asked).await;
    let took = began.elapsed();
    let refused: Vec<_> = asked.iter().filter_map(|run| run.as_ref().err()).collect();
    assert!(refused.is_empty(), "{} refused: {:?}", refused.len(), refused.first());
    assert!(took < SECOND * 5, "three hundred took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn two_who_declare_the_same_job_at_once() {
    for on_conflict in [OnConflict::Keep, OnConflict::Reconcile, OnConflict::Replace] {
        for in_memory in [true, false] {
            let (store, log) = (Moody::new(MemoryStore::new()), Log::default());
            let scheduler = on(&store, &log).start().await.unwrap();
            let add = || {
                let add = scheduler.add(every(SECOND), echo("x")).id("job");
                let add = if in_memory { add.in_memory() } else { add };
                add.on_conflict(on_conflict).into_future()
            };
            let (one, other) = futures::future::join(add(), add()).await;
            assert!(
                one.is_ok() && other.is_ok(),
                "{on_conflict:?}, in memory: {in_memory}: {one:?} {other:?}"
            );
        }
    }
}

// Daylight saving.

/// Ten days around each change of the clocks, with a restart every five hours, beside a scheduler in memory
/// that lives through them.
#[tokio::test(start_paused = true)]
async fn restarts_around_a_change_of_the_clocks_are_as_good_as_none() {
    for start in ["2027-03-23T00:00:00Z", "2027-10-26T00:00:00Z"] {
        let clock = ManualClock::running(start.parse().unwrap());
        let (store, log) = (MemoryStore::with_clock(clock.clone()), Log::default());
        let triggers = || {
            let hour = SECOND * 3600;
            [
                ("gap", cron("30 2 * * *").into_trigger().unwrap()),
                ("both", cron("*/30 1-3 * * *").into_trigger().unwrap()),
                ("three", every(hour * 3).into_trigger().unwrap()),
                ("times", every(hour).times(50).into_trigger().unwrap()),
            ]
        };
        let (zone, ran) = ("Europe/Berlin", Log::default());
        let oracle = Scheduler::builder().time_zone(zone).clock(clock.clone()).start();
        let oracle = oracle.await.unwrap();
        let builder = || {
            let builder = on(&store, &log).time_zone(zone).clock(clock.clone());
            builder.lease(SECOND * 600).poll_interval(SECOND * 600)
        };
        let mut scheduler = builder().start().await.unwrap();
        for (id, trigger) in triggers() {
            scheduler.add(trigger.clone(), echo(id)).id(id).await.unwrap();
            let ran = ran.clone();
            let work = move |cx: Context| {
                let (text, fire_time) = (id.to_string(), cx.fire_time());
                let (late_by, attempt) = (cx.late_by(), cx.attempt());
                ran.0.lock().unwrap().push(Ran { text, fire_time, late_by, attempt });
                async {}
            };
            oracle.add(trigger, work).id(id).await.unwrap();
        }
        for _ in 0..48 {
            sleep(SECOND * 18_000 - SECOND / 3).await;
            scheduler.shutdown().await;
            scheduler = builder().start().await.unwrap();
        }
        sleep(SECOND * 60).await;
        for (id, _) in triggers() {
            let times = |log: &Log| -> Vec<i64> {
                let of = log.all().into_iter().filter(|ran| ran.text == id);
                of.map(|ran| ran.fire_time.timestamp()).collect()
            };
            assert_eq!(times(&log), times(&ran), "{id} from {start} on");
        }
    }
}

// Documents that somebody has edited.

/// Each number and each text of a document, replaced by what makes no sense: an error, a job that can't run
/// or one that does, but no panic, and the other jobs go on.
#[tokio::test(start_paused = true)]
async fn documents_that_were_edited_bring_nothing_down() {
    use serde_json::{Value, json};

    /// Where a document has numbers and texts.
    fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(key, it)| leaves(it, &format!("{path}/{key}"), found));
            }
            Value::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(index, it)| leaves(it, &format!("{path}/{index}"), found)),
            _ => found.push(path.to_owned()),
        }
    }

    let odd = [
        json!(0),
        json!(-1),
        json!(1),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e308),
        json!(""),
        json!("* * * * * *"),
        json!("-262143-01-01T00:00:00Z"),
        json!("+262142-12-31T23:59:59.999Z"),
        json!("1970-01-01T00:00:00.0005Z"),
        json!(null),
        json!([]),
    ];
    let (source, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&source, &log).start().await.unwrap();
    let two = || cron("0 2 * * *");
    let triggers = [
        every(SECOND * 7).into_trigger().unwrap(),
        every(SECOND * 7).times(3).into_trigger().unwrap(),
        cron("*/5 * * * *").in_tz("Europe/Berlin").into_trigger().unwrap(),
        after(SECOND * 30).into_trigger().unwrap(),
        trigger::or((two(), every(SECOND * 9))).into_trigger().unwrap(),
        trigger::and((every(SECOND * 4), every(SECOND * 6))).into_trigger().unwrap(),
    ];
    for (n, trigger) in triggers.into_iter().enumerate() {
        let add = scheduler.add(trigger, echo("edited")).id(format!("{n}"));
        let add = add.retry(Retry::fixed(SECOND)).timeout(SECOND).group("db", 2).jitter(SECOND);
        add.await.unwrap();
    }
    let document: Value = serde_json::from_str(&scheduler.export().await.unwrap()).unwrap();
    scheduler.shutdown().await;

    let mut paths = Vec::new();
    leaves(&document["jobs"], "/jobs", &mut paths);
    let mut faults = Vec::new();
    for path in &paths {
        let began = std::time::Instant::now();
        let (store, log) = (MemoryStore::new(), Log::default());
        let scheduler = on(&store, &log).start().await.unwrap();
        scheduler.add(every(SECOND), echo("good")).id("good").await.unwrap();
        let place: usize = path.split('/').nth(2).unwrap().parse().unwrap();
        for (n, odd) in odd.iter().enumerate() {
            let mut edited = document.clone();
            *edited.pointer_mut(path).unwrap() = odd.clone();
            let mut job = edited["jobs"][place].clone();
            if !path.ends_with("/id") {
                job["id"] = json!(format!("odd {n}"));
            }
            let edited = json!({ "punctual_jobs": 1, "jobs": [job] }).to_string();
            let importing = scheduler.clone();
            let import = async move { importing.import(&edited, OnConflict::Replace).await };
            if tokio::spawn(import).await.is_err() {
                faults.push(format!("import panicked: {path} = {odd}"));
            }
        }
        sleep(SECOND * 20).await;
        let asking = scheduler.clone();
        let listed = tokio::spawn(async move {
            asking.jobs().await?;
            asking.unhandled().await?;
            asking.export().await
        });
        match listed.await {
            Ok(Ok(_)) => {}
            other => faults.push(format!("listing: {path}: {other:?}")),
        }
        for n in 0..14 {
            for verb in 0..6 {
                let job = scheduler.job(format!("odd {n}"));
                let asked = tokio::spawn(async move {
                    match verb {
                        0 => job.pause().await,
                        1 => job.resume().await,
                        2 => job.modify(|settings| settings.priority(1)).await,
                        3 => job.run_now().await.map(drop),
                        4 => job.reschedule(every(SECOND)).await,
                        _ => job.remove().await,
                    }
                });
                if asked.await.is_err() {
                    faults.push(format!("verb {verb} panicked: {path} = odd {n}"));
                }
            }
        }
        sleep(SECOND * 10).await;
        let good = log.all().iter().filter(|ran| ran.text == "good").count();
        if good < 27 {
            faults.push(format!("{path}: the good one ran {good} times in 30 s"));
        }
        if began.elapsed() > SECOND * 3 {
            faults.push(format!("{path}: took {:?}", began.elapsed()));
        }
        scheduler.shutdown().await;
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

// Two schedulers, of which one does not know all tasks, and one store.

/// What one scheduler has taken and can't run after all is for the other.
#[tokio::test(start_paused = true)]
async fn a_job_that_only_the_other_knows_is_not_held_up() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let knows = on(&store, &log).add_executor("gpu", AsyncExecutor::new()).start().await.unwrap();
    let other = on(&store, &log).start().await.unwrap();
    knows.add(every(SECOND), echo("gpu")).id("gpu").executor("gpu").await.unwrap();
    sleep(SECOND * 10).await;
    // It is the other that is asked to change it, which does not have the executor.
    let asked = other.job("gpu").run_now().await;
    let before = log.len();
    sleep(SECOND * 60).await;
    assert!(log.len() >= before + 58, "{} runs, {asked:?}", log.len() - before);
}

// The thread of SQLite.

/// Takes whose `decide` panics, among writes that share their transaction.
#[tokio::test]
async fn a_panic_among_writes_that_share_a_transaction_undoes_itself_alone() {
    let (folder, log) = (Folder::new(), Log::default());
    let store = SqliteStore::open(folder.file()).await.unwrap();
    let scheduler = on(&store, &log).paused().start().await.unwrap();
    for n in 0..20 {
        let add = scheduler.add(every(SECOND).immediately(), echo("x"));
        add.id(format!("due {n}")).await.unwrap();
    }
    let node = NodeId(42);
    let ttl = SECOND * 600;
    let heartbeat = Heartbeat::new(node, "panics", true, ttl);
    store.heartbeat(heartbeat).await.unwrap();
    for round in 0..30 {
        let take = ClaimRequest {
            node,
            number: round + 1,
            horizon: Utc::now() + TimeDelta::hours(1),
            tasks: Arc::new(["echo".to_owned()].into()),
            except: Arc::default(),
            passed: Default::default(),
            looks: usize::MAX,
            limit: 10,
            row_limit: usize::MAX,
            decide: Arc::new(move |record, _| {
                // Some have been written before it panics.
                assert!(!record.id.to_string().ends_with('7'), "made to panic");
                Decision::Claim { rows: Vec::new(), next_fire: None }
            }),
        };
        let taker = store.clone();
        let taking = async move { taker.claim(take).await };
        let (before, after) = (2 * round, 2 * round + 1);
        let add = |n| {
            let add = scheduler.add(every(SECOND * 3600), echo("x")).id(format!("new {n}"));
            tokio::spawn(add.into_future())
        };
        let (one, taken, other) = (add(before), tokio::spawn(taking), add(after));
        assert!(one.await.unwrap().is_ok() && other.await.unwrap().is_ok());
        assert!(taken.await.is_err(), "it did not panic");
    }
    let there = store.list(RecordFilter::default(), None, 1000).await.unwrap().records;
    assert_eq!(there.len(), 20 + 60);
    assert!(there.iter().all(|record| record.fence == 0 && record.next_fire.is_some()));
}

/// The runtime goes while SQLite waits for a lock: it does not wait along, and another runtime goes on with
/// the same store.
#[test]
fn a_runtime_that_goes_while_the_file_is_locked() {
    let (folder, log) = (Folder::new(), Log::default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(SqliteStore::open(folder.file())).unwrap();
    let scheduler = runtime.block_on(on(&store, &log).start()).unwrap();
    runtime.block_on(async {
        scheduler.add(every(MILLISECOND * 50), echo("x")).id("job").recover(true).await.unwrap();
        sleep(SECOND).await;
    });
    let other = rusqlite::Connection::open(folder.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    runtime.block_on(async { sleep(SECOND).await });
    let began = std::time::Instant::now();
    drop(runtime);
    let took = began.elapsed();
    assert!(took < SECOND, "dropping the runtime took {took:?}");
    other.execute_batch("ROLLBACK").unwrap();
    log.clear();
    let second = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    second.block_on(async {
        let scheduler = on(&store, &log).start().await.unwrap();
        // Until the first is taken for dead.
        sleep(SECOND * 22).await;
        assert!(log.len() > 20, "{} runs", log.len());
        scheduler.shutdown().await;
    });
}

/// The executor goes while a take that needs it is on its way.
#[tokio::test(start_paused = true)]
async fn an_executor_that_goes_while_a_take_is_on_its_way() {
    let (memory, log) = (MemoryStore::new(), Log::default());
    let store = Moody::new(memory.clone());
    let builder = on(&store, &log).add_executor("gpu", AsyncExecutor::new().max_running(1));
    let scheduler = builder.start().await.unwrap();
    let ticks = Arc::new(AtomicUsize::new(0));
    let count = ticks.clone();
    let tick = move || {
        let count = count.clone();
        async move { _ = count.fetch_add(1, Ordering::SeqCst) }
    };
    scheduler.add(every(SECOND), tick).await.unwrap();
    scheduler.add(after(SECOND * 10), echo("x")).id("job").executor("gpu").await.unwrap();
    sleep(SECOND * 8).await;
    store.set("take", Mood::Slow(SECOND * 3));
    sleep(SECOND * 2).await;
    let removed = scheduler.remove_executor("gpu").await;
    sleep(SECOND * 60).await;
    let states: Vec<_> = rows(&memory).await.into_iter().map(|row| row.state).collect();
    assert!(ticks.load(Ordering::SeqCst) > 65, "closures stopped; {removed:?}");
    // It is kept for when there is one, or it has run.
    let is_there = memory.get("job".into()).await.unwrap().is_some();
    assert!(is_there || log.len() == 1, "{removed:?}, {states:?}");
}

/// What can't be given back is not the node's any more once it has lost its life: the store works again as
/// soon as all else does.
#[tokio::test(start_paused = true)]
async fn that_the_store_works_again_is_told_although_the_lease_was_lost() {
    let (memory, log) = (MemoryStore::new(), Log::default());
    let store = Moody::new(memory.clone());
    let scheduler = on(&store, &log).start().await.unwrap();
    let other = on(&memory, &log).start().await.unwrap();
    let job = scheduler.add(every(MILLISECOND * 100), echo("x")).id("job").await.unwrap();
    sleep(SECOND * 3).await;
    let kinds = [EventKind::StoreFailing, EventKind::StoreWorking, EventKind::LeaseLost];
    let mut events = scheduler.events_matching(EventFilter::new().kinds(kinds));
    let mut next = async || {
        let next = tokio::time::timeout(SECOND * 120, events.next()).await;
        next.expect("nothing is told").unwrap().payload.kind()
    };
    store.set("release", Mood::Fail);
    job.pause().await.unwrap();
    assert_eq!(next().await, EventKind::StoreFailing);
    store.set("heartbeat", Mood::Fail);
    sleep(SECOND * 30).await;
    store.reset();
    let told = [next().await, next().await];
    assert!(told.contains(&EventKind::LeaseLost) && told.contains(&EventKind::StoreWorking));
    drop((job, other));
}
