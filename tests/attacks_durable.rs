//! Attacks on durable jobs: stores that fail, hang or answer nonsense, races of verbs, odd records, and
//! shutdowns at the wrong moment. Each was a fault once.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};
use punctual::{
    store::*,
    testing::ManualClock,
    trigger::{after, cron, every, now},
    *,
};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);

/// A closure that is so late was held up by a fault, and not by a busy machine.
const STALL: Duration = Duration::from_secs(1);

/// How late the worst run of a closure was that runs fifty times a second.
async fn watch_lateness(scheduler: &Scheduler) -> Arc<Mutex<Duration>> {
    let late = Arc::new(Mutex::new(Duration::ZERO));
    let worst = late.clone();
    let tick = move |cx: Context| {
        let worst = worst.clone();
        async move {
            let mut worst = worst.lock().unwrap();
            *worst = (*worst).max(cx.late_by());
        }
    };
    scheduler.add(every(Duration::from_millis(20)), tick).await.unwrap();
    late
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(String, u32, u64)>>>);
impl Log {
    fn all(&self) -> Vec<(String, u32, u64)> {
        self.0.lock().unwrap().clone()
    }
    fn texts(&self) -> Vec<String> {
        self.all().into_iter().map(|it| it.0).collect()
    }
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

#[derive(Serialize, Deserialize)]
struct Echo(String);
impl Task for Echo {
    const NAME: &'static str = "echo";
    type Output = ();
    async fn run(self, cx: Context) {
        cx.state::<Log>().0.lock().unwrap().push((self.0, cx.attempt(), cx.fence().unwrap_or(0)));
    }
}

#[derive(Serialize, Deserialize)]
struct Slow(u64);
impl Task for Slow {
    const NAME: &'static str = "slow";
    type Output = ();
    async fn run(self, cx: Context) {
        let log = cx.state::<Log>();
        log.0.lock().unwrap().push(("begin".into(), cx.attempt(), cx.fence().unwrap_or(0)));
        tokio::time::sleep(Duration::from_millis(self.0)).await;
        log.0.lock().unwrap().push(("end".into(), cx.attempt(), cx.fence().unwrap_or(0)));
    }
}

#[derive(Serialize, Deserialize)]
struct Big(u128);
impl Task for Big {
    const NAME: &'static str = "big";
    type Output = ();
    async fn run(self, cx: Context) {
        cx.state::<Log>().0.lock().unwrap().push((self.0.to_string(), 0, 0));
    }
}

/// Its arguments panic when they are read.
#[derive(Serialize, Deserialize, Clone)]
#[serde(from = "u64", into = "u64")]
struct Poison {
    n: u64,
}
impl From<u64> for Poison {
    fn from(_: u64) -> Poison {
        panic!("poison")
    }
}
impl From<Poison> for u64 {
    fn from(it: Poison) -> u64 {
        it.n
    }
}
impl Task for Poison {
    const NAME: &'static str = "poison";
    type Output = ();
    async fn run(self, _: Context) {}
}

#[derive(Serialize, Deserialize)]
struct ShutDownFromRun;
impl Task for ShutDownFromRun {
    const NAME: &'static str = "suicide";
    type Output = ();
    async fn run(self, cx: Context) {
        let log = cx.state::<Log>();
        log.0.lock().unwrap().push(("begin".into(), cx.attempt(), cx.fence().unwrap_or(0)));
        cx.scheduler().shutdown().await;
        log.0.lock().unwrap().push(("end".into(), cx.attempt(), cx.fence().unwrap_or(0)));
    }
}

fn on(store: &(impl Store + Clone), log: &Log) -> SchedulerBuilder {
    Scheduler::builder()
        .store(store.clone())
        .state(log.clone())
        .task::<Echo>()
        .task::<Slow>()
        .task::<Big>()
        .task::<Poison>()
        .task::<ShutDownFromRun>()
}
fn echo(text: &str) -> Echo {
    Echo(text.into())
}

#[derive(Default)]
struct Knobs {
    fail_all: AtomicBool,
    fail_take: AtomicBool,
    lose_life: AtomicBool,
    slow_write: Mutex<Option<Duration>>,
    slow_get: Mutex<Option<Duration>>,
    slow_changed: Mutex<Option<Duration>>,
    slow_take_answer: Mutex<Option<Duration>>,
    slow_release: Mutex<Option<Duration>>,
    spoil_take: AtomicBool,
    most_changed: AtomicUsize,
    mute: AtomicBool,
    lose_write: AtomicBool,
    fail_finish: AtomicBool,
    hang: AtomicBool,
    calls: Mutex<std::collections::BTreeMap<&'static str, usize>>,
}

#[derive(Clone)]
struct Wrap {
    store: MemoryStore,
    knobs: Arc<Knobs>,
}
impl Wrap {
    fn new(store: &MemoryStore) -> Wrap {
        Wrap { store: store.clone(), knobs: Arc::default() }
    }
    async fn ask<T>(
        &self,
        name: &'static str,
        ask: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        *self.knobs.calls.lock().unwrap().entry(name).or_default() += 1;
        if self.knobs.hang.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.knobs.fail_all.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("made to fail"));
        }
        ask.await
    }
    fn get_knob(knob: &Mutex<Option<Duration>>) -> Option<Duration> {
        *knob.lock().unwrap()
    }
}
async fn nap(d: Option<Duration>) {
    if let Some(d) = d {
        tokio::time::sleep(d).await
    }
}

impl Store for Wrap {
    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }
    async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        self.ask("now", self.store.now()).await
    }
    async fn write(&self, writes: Vec<Write>) -> Result<Vec<Written>, StoreError> {
        nap(Wrap::get_knob(&self.knobs.slow_write)).await;
        let written = self.ask("write", self.store.write(writes)).await;
        if self.knobs.lose_write.swap(false, Ordering::SeqCst) {
            return Err(StoreError::unavailable("answer lost"));
        }
        written
    }
    async fn get(&self, id: JobId) -> Result<Option<Record>, StoreError> {
        let got = self.ask("get", self.store.get(id)).await;
        nap(Wrap::get_knob(&self.knobs.slow_get)).await;
        got
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
        self.knobs.most_changed.fetch_max(known.len(), Ordering::SeqCst);
        nap(Wrap::get_knob(&self.knobs.slow_changed)).await;
        self.ask("changed", self.store.changed(known)).await
    }
    async fn claim(&self, take: ClaimRequest) -> Result<ClaimResult, StoreError> {
        if self.knobs.fail_take.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("no takes"));
        }
        let mut taken = self.ask("take", self.store.claim(take)).await?;
        nap(Wrap::get_knob(&self.knobs.slow_take_answer)).await;
        if self.knobs.spoil_take.load(Ordering::SeqCst) {
            for job in &mut taken.jobs {
                job.record.options = "garbage".into();
            }
        }
        Ok(taken)
    }
    async fn release(&self, node: NodeId, rows: Vec<Release>) -> Result<(), StoreError> {
        nap(Wrap::get_knob(&self.knobs.slow_release)).await;
        self.ask("release", self.store.release(node, rows)).await
    }
    async fn finish(&self, outcomes: Vec<RowOutcome>) -> Result<FinishReport, StoreError> {
        if self.knobs.fail_finish.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("no finishes"));
        }
        self.ask("finish", self.store.finish(outcomes)).await
    }
    async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<DateTime<Utc>, StoreError> {
        if !heartbeat.first && self.knobs.lose_life.swap(false, Ordering::SeqCst) {
            let mut gone = heartbeat.clone();
            gone.ttl = Duration::ZERO;
            self.store.heartbeat(gone).await?;
            return Err(StoreError::lease_lost());
        }
        self.ask("heartbeat", self.store.heartbeat(heartbeat)).await
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
        if self.knobs.mute.load(Ordering::SeqCst) {
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

async fn rows(store: &MemoryStore) -> Vec<Row> {
    let rows = store.rows(None, 100_000).await.unwrap();
    rows.into_iter().filter(|row| row.key.kind != RowKind::Ended).collect()
}

#[tokio::test(start_paused = true)]
async fn keeping_a_job_keeps_its_arguments() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let first = on(&store, &log).start().await.unwrap();
    first.add(every(SECOND), echo("stored")).id("job").await.unwrap();
    first.shutdown().await;
    let second = on(&store, &log).start().await.unwrap();
    let kept = second
        .add(every(SECOND), echo("given now"))
        .id("job")
        .on_conflict(OnConflict::Keep)
        .await
        .unwrap();
    tokio::time::sleep(SECOND * 5).await;
    assert!(log.texts().iter().all(|text| text == "stored"), "{:?}", log.texts());
    drop(kept);
}

#[tokio::test(start_paused = true)]
async fn adding_after_shutdown_is_an_error() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    scheduler.shutdown().await;
    let volatile = scheduler.add(every(SECOND), || async {}).await;
    assert!(volatile.unwrap_err().is_shut_down());
    let added = scheduler.add(every(SECOND), echo("x")).id("late").await;
    let in_store = store.get("late".into()).await.unwrap().is_some();
    if let Ok(job) = &added {
        let end = tokio::time::timeout(SECOND * 3600, job.clone()).await;
        panic!("added: in store: {in_store}, its handle: {end:?}");
    }
    assert!(added.unwrap_err().is_shut_down());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_executor_is_an_error_at_add() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    assert!(scheduler.add(every(SECOND), echo("x")).in_memory().executor("gpu").await.is_err());
    assert!(scheduler.add(every(SECOND), echo("x")).executor("gpu").await.is_err());
}
#[tokio::test(start_paused = true)]
async fn adding_the_missing_executor_helps() {
    let (store, log) = (MemoryStore::new(), Log::default());
    // Declared by a node that has it.
    let has = on(&store, &log).add_executor("gpu", AsyncExecutor::new()).start().await.unwrap();
    has.add(every(SECOND), echo("x")).id("job").executor("gpu").paused().await.unwrap();
    has.job("job").resume().await.unwrap();
    has.shutdown().await;
    let scheduler = on(&store, &log).start().await.unwrap();
    tokio::time::sleep(SECOND * 5).await;
    let before = log.len();
    assert_eq!(scheduler.unhandled().await.unwrap().len(), 1);
    // `unhandled` says: "which there is not here: add it".
    scheduler.add_executor("gpu", AsyncExecutor::new()).await.unwrap();
    assert_eq!(scheduler.unhandled().await.unwrap().len(), 0);
    tokio::time::sleep(SECOND * 600).await;
    assert!(log.len() > before, "ten minutes later it has not run");
}
#[tokio::test(start_paused = true)]
async fn modifying_what_could_not_run_helps() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let has = on(&store, &log).add_executor("gpu", AsyncExecutor::new()).start().await.unwrap();
    has.add(every(SECOND), echo("x")).id("job").executor("gpu").await.unwrap();
    has.shutdown().await;
    let scheduler = on(&store, &log).start().await.unwrap();
    tokio::time::sleep(SECOND * 5).await;
    let before = log.len();
    scheduler.job("job").modify(|settings| settings.executor("default")).await.unwrap();
    tokio::time::sleep(SECOND * 600).await;
    assert!(log.len() > before, "ten minutes later it has not run");
}

#[tokio::test(start_paused = true)]
async fn arguments_that_panic_hold_up_nobody_else() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    scheduler.add(every(SECOND), echo("fine")).id("fine").await.unwrap();
    drop(scheduler.add(every(SECOND), Poison { n: 1 }).id("poison").await);
    tokio::time::sleep(SECOND * 60).await;
    assert!(log.len() >= 55, "{} runs in a minute", log.len());
}

#[tokio::test(start_paused = true)]
async fn runs_go_on_although_the_handle_is_dropped() {
    for in_memory in [true, false] {
        let (store, log) = (MemoryStore::new(), Log::default());
        let scheduler = on(&store, &log).start().await.unwrap();
        let mut add = scheduler.add(every(SECOND), echo("x")).id("job");
        if in_memory {
            add = add.in_memory();
        }
        let mut runs = add.runs();
        drop(add.await.unwrap());
        let run = tokio::time::timeout(SECOND * 5, runs.next()).await;
        assert!(matches!(run, Ok(Some(_))), "in memory: {in_memory}: {run:?}");
    }
}
#[tokio::test(start_paused = true)]
async fn a_token_hears_of_the_removal_although_the_handle_is_dropped() {
    for in_memory in [true, false] {
        let (store, log) = (MemoryStore::new(), Log::default());
        let scheduler = on(&store, &log).start().await.unwrap();
        let mut add = scheduler.add(every(SECOND), echo("x")).id("job");
        if in_memory {
            add = add.in_memory();
        }
        let token = add.await.unwrap().cancel_token();
        tokio::time::sleep(SECOND * 3).await;
        scheduler.job("job").remove().await.unwrap();
        tokio::time::sleep(SECOND * 10).await;
        assert!(token.is_cancelled(), "in memory: {in_memory}");
    }
}

// In real time: how long the machine takes is what is asked.
#[tokio::test]
async fn many_handles_do_not_stall_the_driver() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    let jobs: Vec<_> =
        (0..100_000).map(|_| scheduler.add(after(SECOND * 86_400), echo("far"))).collect();
    let handles = scheduler.add_all(jobs).await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    let late = watch_lateness(&scheduler).await;
    tokio::time::sleep(SECOND * 12).await;
    let worst = *late.lock().unwrap();
    assert!(worst < STALL, "a closure was {worst:?} late since 100,000 handles are held");
    drop(handles);
}
#[tokio::test(start_paused = true)]
async fn no_operation_is_asked_for_more_than_max_batch() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let wrap = Wrap::new(&store);
    let scheduler = on(&wrap, &log).start().await.unwrap();
    let jobs: Vec<_> =
        (0..3_000).map(|_| scheduler.add(after(SECOND * 86_400), echo("far"))).collect();
    let _handles = scheduler.add_all(jobs).await.unwrap();
    tokio::time::sleep(SECOND * 12).await;
    let most = wrap.knobs.most_changed.load(Ordering::SeqCst);
    assert!(most <= wrap.capabilities().max_batch, "`changed` was asked for {most}");
}

#[tokio::test(start_paused = true)]
async fn what_has_no_fire_time_left_is_not_imported_for_ever() {
    let (store, other, log) = (MemoryStore::new(), MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    scheduler.add(after(SECOND), Slow(60_000)).id("last").await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    let jobs = scheduler.export().await.unwrap();
    scheduler.shutdown().await;
    let second = on(&other, &log).start().await.unwrap();
    second.import(&jobs, OnConflict::Error).await.unwrap();
    tokio::time::sleep(SECOND * 3600).await;
    let there = second.jobs().await.unwrap();
    assert!(there.is_empty(), "an hour later: {there:?}");
}

#[tokio::test(start_paused = true)]
async fn arguments_survive_export_and_import() {
    let (store, other, log) = (MemoryStore::new(), MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    scheduler.add(every(SECOND), Big(u128::MAX)).id("big").await.unwrap();
    let before = store.get("big".into()).await.unwrap().unwrap();
    let jobs = scheduler.export().await.unwrap();
    scheduler.shutdown().await;
    let second = on(&other, &log).start().await.unwrap();
    second.import(&jobs, OnConflict::Error).await.unwrap();
    let after = other.get("big".into()).await.unwrap().unwrap();
    assert_eq!(before.args, after.args);
}

#[tokio::test(start_paused = true)]
async fn one_namespace_although_both_are_added_at_once() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let wrap = Wrap::new(&store);
    *wrap.knobs.slow_get.lock().unwrap() = Some(Duration::from_millis(5));
    let scheduler = on(&wrap, &log).start().await.unwrap();
    let closure = scheduler.add(every(SECOND), || async {}).id("same").into_future();
    let task = scheduler.add(every(SECOND), echo("x")).id("same").into_future();
    let (closure, task) = tokio::join!(closure, task);
    assert!(
        closure.is_err() || task.is_err(),
        "both were added: {:?}",
        scheduler.jobs().await.unwrap()
    );
}
#[tokio::test(start_paused = true)]
async fn one_namespace_for_what_is_imported() {
    let (store, other, log) = (MemoryStore::new(), MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    scheduler.add(every(SECOND), echo("x")).id("same").await.unwrap();
    let jobs = scheduler.export().await.unwrap();
    let second = on(&other, &log).start().await.unwrap();
    second.add(every(SECOND), || async {}).id("same").await.unwrap();
    let imported = second.import(&jobs, OnConflict::Error).await;
    assert!(imported.is_err(), "{imported:?}, {:?}", second.jobs().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_clock_is_followed_at_once() {
    let start = "2030-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap();
    let clock = ManualClock::running(start);
    let (store, log) = (MemoryStore::with_clock(clock.clone()), Log::default());
    let scheduler =
        on(&store, &log).clock(clock.clone()).poll_interval(SECOND * 3600).start().await.unwrap();
    scheduler.add(cron("0 2 * * *"), echo("two")).id("two").await.unwrap();
    tokio::time::sleep(SECOND * 60).await;
    // It is 00:01. Now it is 01:59.
    clock.step(TimeDelta::minutes(118));
    tokio::time::sleep(SECOND * 120).await;
    assert_eq!(log.len(), 1, "it is {} and the job of 02:00 has not run", clock.now());
    drop(scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_durable_run_that_shuts_down_is_not_run_again() {
    for recover in [false, true] {
        let (store, log) = (MemoryStore::new(), Log::default());
        let scheduler = on(&store, &log).start().await.unwrap();
        scheduler.add(after(SECOND), ShutDownFromRun).id("job").recover(recover).await.unwrap();
        tokio::time::sleep(SECOND * 30).await;
        assert_eq!(log.texts(), ["begin", "end"]);
        let state = rows(&store).await[0].state.clone();
        let second = on(&store, &log).start().await.unwrap();
        tokio::time::sleep(SECOND * 60).await;
        let then = rows(&store).await[0].state.clone();
        assert_eq!(log.len(), 2, "recover {recover}: it ran again: {:?}", log.all());
        assert_eq!(
            then,
            RowState::Closed(Fate::Ran(RunEnd::Succeeded)),
            "recover {recover}; before: {state:?}"
        );
        drop(second);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_in_part_is_not_reported_all_the_time() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let wrap = Wrap::new(&store);
    let scheduler = on(&wrap, &log).start().await.unwrap();
    let events = scheduler.events_matching(
        EventFilter::new().kinds([EventKind::StoreFailing, EventKind::StoreWorking]),
    );
    scheduler.add(every(SECOND), echo("x")).await.unwrap();
    tokio::time::sleep(SECOND * 3).await;
    wrap.knobs.fail_take.store(true, Ordering::SeqCst);
    tokio::time::sleep(SECOND * 600).await;
    scheduler.shutdown().await;
    let count = events.collect::<Vec<_>>().await.len();
    assert!(count <= 2, "{count} events in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_run_of_a_lost_life_is_not_begun_again() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let wrap = Wrap::new(&store);
    let one = on(&wrap, &log).start().await.unwrap();
    one.add(after(SECOND), Slow(20_000)).id("job").recover(true).await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(log.len(), 1);
    let other = on(&store, &log).start().await.unwrap();
    // Only the other may take it.
    wrap.knobs.fail_take.store(true, Ordering::SeqCst);
    wrap.knobs.lose_life.store(true, Ordering::SeqCst);
    tokio::time::sleep(SECOND * 120).await;
    let begun: Vec<_> = log.all().into_iter().filter(|it| it.0 == "begin").collect();
    assert_eq!(begun.len(), 2, "{:?}", log.all());
    drop((one, other));
}

#[tokio::test(start_paused = true)]
async fn the_handle_of_a_job_added_during_shutdown_resolves() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let wrap = Wrap::new(&store);
    let scheduler = on(&wrap, &log).start().await.unwrap();
    *wrap.knobs.slow_write.lock().unwrap() = Some(SECOND * 2);
    let adding = tokio::spawn(scheduler.add(every(SECOND), echo("x")).into_future());
    tokio::time::sleep(SECOND).await;
    scheduler.shutdown().await;
    match adding.await.unwrap() {
        Ok(job) => {
            let end = tokio::time::timeout(SECOND * 3600, job).await;
            assert!(end.is_ok(), "its handle never resolves");
        }
        Err(error) => assert!(error.is_shut_down(), "{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_once_remove_all_has_answered() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let wrap = Wrap::new(&store);
    let scheduler = on(&wrap, &log).start().await.unwrap();
    scheduler.add(every(Duration::from_millis(100)), echo("x")).id("job").await.unwrap();
    tokio::time::sleep(SECOND * 3).await;
    *wrap.knobs.slow_changed.lock().unwrap() = Some(SECOND);
    scheduler.remove_all().await.unwrap();
    let before = log.len();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(log.len(), before, "runs started after `remove_all` had answered");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_answers_nonsense_does_not_bring_the_scheduler_down() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let wrap = Wrap::new(&store);
    let scheduler = on(&wrap, &log).start().await.unwrap();
    scheduler.add(every(SECOND), Slow(10_000)).id("job").await.unwrap();
    let ticks = Arc::new(AtomicUsize::new(0));
    let count = ticks.clone();
    scheduler
        .add(every(SECOND), move || {
            let c = count.clone();
            async move {
                c.fetch_add(1, Ordering::SeqCst);
            }
        })
        .await
        .unwrap();
    tokio::time::sleep(SECOND * 3).await;
    wrap.knobs.spoil_take.store(true, Ordering::SeqCst);
    tokio::time::sleep(SECOND * 4).await;
    wrap.knobs.spoil_take.store(false, Ordering::SeqCst);
    let before = ticks.load(Ordering::SeqCst);
    tokio::time::sleep(SECOND * 10).await;
    assert!(ticks.load(Ordering::SeqCst) >= before + 9, "closures stopped, too");
}

#[tokio::test(start_paused = true)]
async fn modify_to_an_executor_that_is_added_later() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    let job = scheduler.add(every(SECOND), Slow(10_000)).id("job").await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    let modified = job.modify(|settings| settings.executor("gpu")).await;
    let accepted = modified.is_ok();
    scheduler.add_executor("gpu", AsyncExecutor::new()).await.unwrap();
    let ticks = Arc::new(AtomicUsize::new(0));
    let count = ticks.clone();
    scheduler
        .add(every(SECOND), move || {
            let c = count.clone();
            async move {
                c.fetch_add(1, Ordering::SeqCst);
            }
        })
        .await
        .unwrap();
    scheduler.job("job").remove().await.unwrap();
    tokio::time::sleep(SECOND * 30).await;
    assert!(
        ticks.load(Ordering::SeqCst) >= 29,
        "the scheduler is dead after {} ticks",
        ticks.load(Ordering::SeqCst)
    );
    assert!(!accepted, "an executor that there is not was accepted");
}

#[tokio::test(start_paused = true)]
async fn next_fire_is_the_next_fire() {
    for in_memory in [true, false] {
        let (store, log) = (MemoryStore::new(), Log::default());
        let scheduler = on(&store, &log).claim_ahead(SECOND * 60).start().await.unwrap();
        let mut add = scheduler.add(after(SECOND * 20), echo("x")).id("job");
        if in_memory {
            add = add.in_memory();
        }
        let job = add.await.unwrap();
        tokio::time::sleep(SECOND).await;
        let next = job.next_fire().await.unwrap();
        assert!(
            next.is_some(),
            "in memory: {in_memory}: it runs in 19 s, and says that it does not"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_stops_the_run_although_the_store_is_down() {
    for in_memory in [true, false] {
        let (store, log) = (MemoryStore::new(), Log::default());
        let wrap = Wrap::new(&store);
        let scheduler = on(&wrap, &log).lease(SECOND * 600).start().await.unwrap();
        let mut add = scheduler.add(every(SECOND), Slow(100_000)).id("job");
        if in_memory {
            add = add.in_memory();
        }
        let job = add.await.unwrap();
        tokio::time::sleep(SECOND * 2).await;
        wrap.knobs.fail_all.store(true, Ordering::SeqCst);
        job.cancel_token().cancel();
        tokio::time::sleep(SECOND * 110).await;
        assert_eq!(log.texts(), ["begin"], "in memory: {in_memory}: it went on to its end");
    }
}

#[tokio::test(start_paused = true)]
async fn groups_that_contradict_each_other_are_refused() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    let add = |n| scheduler.add(every(SECOND), Slow(10_000)).group("db", n);
    add(1).in_memory().id("a").await.unwrap();
    assert!(add(5).in_memory().await.is_err());
    let other = add(5).id("b").max_instances(9).await;
    tokio::time::sleep(SECOND * 6).await;
    let begun = log.texts().iter().filter(|it| *it == "begin").count();
    assert!(other.is_err(), "it was added, and {begun} runs go on in a group of one");
}

#[tokio::test(start_paused = true)]
async fn importing_over_a_job_is_exact_here() {
    let (store, other, log) = (MemoryStore::new(), MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    scheduler.add(every(SECOND * 3600), echo("new")).id("same").await.unwrap();
    let jobs = scheduler.export().await.unwrap();
    let wrap = Wrap::new(&other);
    wrap.knobs.mute.store(true, Ordering::SeqCst);
    let second = on(&wrap, &log).start().await.unwrap();
    let mut events = second
        .events_matching(EventFilter::new().kinds([EventKind::JobAdded, EventKind::JobRemoved]));
    let _held =
        second.add(every(Duration::from_millis(100)), echo("old")).id("same").await.unwrap();
    events.next().await;
    tokio::time::sleep(SECOND * 3).await;
    second.import(&jobs, OnConflict::Replace).await.unwrap();
    let before = log.len();
    let told = events.next().now_or_never();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(log.len(), before, "runs of the replaced job started; events at once: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn idle_statements() {
    for ahead in [Duration::from_secs(1), Duration::from_secs(60)] {
        let (store, log) = (MemoryStore::new(), Log::default());
        let (one, two) = (Wrap::new(&store), Wrap::new(&store));
        let a = on(&one, &log).claim_ahead(ahead).start().await.unwrap();
        let b = on(&two, &log).claim_ahead(ahead).start().await.unwrap();
        a.add(after(SECOND * 1_000_000), echo("far")).await.unwrap();
        tokio::time::sleep(SECOND * 60).await;
        one.knobs.calls.lock().unwrap().clear();
        tokio::time::sleep(SECOND * 600).await;
        let calls = one.knobs.calls.lock().unwrap().clone();
        let all: usize = calls.values().sum();
        drop((a, b));
        assert!(
            all < 900,
            "claim_ahead {ahead:?}: {all} statements of an idle node in 600 s: {calls:?}"
        );
    }
}

#[test]
fn adding_works_outside_the_runtime() {
    for with_store in [false, true] {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let log = Log::default();
        let scheduler = runtime.block_on(async {
            let builder = Scheduler::builder().state(log.clone()).task::<Echo>();
            match with_store {
                true => builder.store(MemoryStore::new()),
                false => builder,
            }
            .start()
            .await
            .unwrap()
        });
        let added = std::thread::spawn(move || {
            futures::executor::block_on(
                scheduler.add(every(SECOND), || async {}).id("x").into_future(),
            )
            .is_ok()
        });
        assert!(added.join().unwrap_or(false), "with a store: {with_store}");
    }
}

#[tokio::test(start_paused = true)]
async fn adding_a_mixed_batch_is_all_or_none() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    scheduler.add(every(SECOND), echo("x")).id("there").await.unwrap();
    let jobs = [
        scheduler.add(every(SECOND), echo("new")).id("new"),
        scheduler.add(every(SECOND), || async {}).id("there"),
    ];
    assert!(scheduler.add_all(jobs).await.is_err());
    assert_eq!(
        store.list(Default::default(), None, 10).await.unwrap().records.len(),
        1,
        "the task was added nevertheless"
    );
}

#[tokio::test(start_paused = true)]
async fn a_removal_whose_answer_was_lost_has_been_done() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let wrap = Wrap::new(&store);
    wrap.knobs.mute.store(true, Ordering::SeqCst);
    let scheduler = on(&wrap, &log).start().await.unwrap();
    let job = scheduler.add(every(Duration::from_millis(100)), echo("x")).id("job").await.unwrap();
    tokio::time::sleep(SECOND * 3).await;
    wrap.knobs.lose_write.store(true, Ordering::SeqCst);
    let removed = job.remove().await;
    let before = log.len();
    tokio::time::sleep(SECOND * 10).await;
    let more = log.len() - before;
    assert!(removed.is_ok() && more == 0, "{removed:?}, and {more} runs started after it");
}

// In real time, as above.
#[tokio::test]
async fn a_job_of_a_millisecond_taken_a_minute_ahead() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).claim_ahead(SECOND * 60).start().await.unwrap();
    scheduler.add(every(Duration::from_millis(1)), echo("x")).id("fast").await.unwrap();
    let late = watch_lateness(&scheduler).await;
    tokio::time::sleep(SECOND * 8).await;
    let worst = *late.lock().unwrap();
    assert!(worst < STALL, "a closure was {worst:?} late");
}

// A paused job far back: `next_fire` after resume.
#[tokio::test(start_paused = true)]
async fn next_fire_after_resume_is_not_past() {
    for in_memory in [true, false] {
        let (store, log) = (MemoryStore::new(), Log::default());
        let scheduler = on(&store, &log).start().await.unwrap();
        let mut events =
            scheduler.events_matching(EventFilter::new().kinds([EventKind::JobResumed]));
        let mut add = scheduler.add(every(SECOND * 60), echo("x")).id("job").paused();
        if in_memory {
            add = add.in_memory();
        }
        let job = add.await.unwrap();
        let resumed_at = job.get().await.map(|_| ()).map(|_| ()).is_ok();
        assert!(resumed_at);
        tokio::time::sleep(SECOND * 3600).await;
        job.resume().await.unwrap();
        let event = events.next().await.unwrap();
        let EventPayload::JobResumed { next_fire, .. } = event.payload.clone() else { panic!() };
        assert!(
            next_fire.unwrap() >= event.at,
            "in memory {in_memory}: resumed at {} and said to fire next at {next_fire:?}",
            event.at
        );
    }
}

// A store that hangs during shutdown.
#[tokio::test(start_paused = true)]
async fn unexecuted_settings() {
    // A job that replaces itself while it runs ends, and the new one runs.
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    let job = scheduler.add(every(SECOND), Slow(60_000)).id("job").await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    let other = scheduler
        .add(every(SECOND), echo("new"))
        .id("job")
        .on_conflict(OnConflict::Replace)
        .await
        .unwrap();
    let end = tokio::time::timeout(SECOND * 10, job).await;
    assert!(matches!(end, Ok(End::Replaced)), "{end:?}");
    tokio::time::sleep(SECOND * 5).await;
    assert!(log.texts().iter().filter(|it| *it == "new").count() >= 4);
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn watches_of_tokens_end_with_their_jobs() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for _ in 0..200 {
        let job = scheduler.add(now(), echo("x")).await.unwrap();
        drop(job.cancel_token());
        drop(job);
    }
    tokio::time::sleep(SECOND * 60).await;
    assert!(scheduler.jobs().await.unwrap().is_empty());
    let after = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(after < before + 20, "{before} tasks before, {after} after all jobs have ended");
}

#[tokio::test(start_paused = true)]
async fn closures_with_ids_do_not_wait_for_a_store_that_hangs() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let wrap = Wrap::new(&store);
    let scheduler = on(&wrap, &log).start().await.unwrap();
    wrap.knobs.hang.store(true, Ordering::SeqCst);
    let started = tokio::time::Instant::now();
    let jobs: Vec<_> =
        (0..100).map(|n| scheduler.add(every(SECOND), || async {}).id(format!("{n}"))).collect();
    scheduler.add_all(jobs).await.unwrap();
    let took = started.elapsed();
    assert!(took <= SECOND * 2, "adding 100 closures took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn extreme_jobs() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).claim_ahead(SECOND * 60).start().await.unwrap();
    let long = Duration::MAX;
    let year = SECOND * 31_536_000;
    scheduler.add(every(SECOND), echo("good")).id("good").await.unwrap();
    let is_told = |error: Error| {
        error.is_invalid_option() || error.is_invalid_trigger() || error.never_fires()
    };
    for (n, trigger) in [
        every(SECOND),
        every(Duration::from_millis(1)),
        every(long),
        every(year * 1000),
        every(SECOND).times(1),
    ]
    .into_iter()
    .enumerate()
    {
        for option in 0..8 {
            let add = scheduler
                .add(trigger.clone(), echo("odd"))
                .id(format!("{n}-{option}-{}", "x".repeat(200)));
            let add = match option {
                0 => add.jitter(long),
                1 => add.jitter(year),
                2 => add.misfire_grace_time(long),
                3 => add.timeout(long),
                4 => add.coalesce(Coalesce::All).max_catch_up(10_000),
                5 => add.priority(i32::MIN),
                6 => add.overlap(Overlap::Queue(u32::MAX)),
                _ => add.retry(Retry::fixed(long)),
            };
            if let Err(error) = add.await {
                assert!(is_told(error.clone()), "{n} {option}: {error:?}");
            }
        }
    }
    for add in [after(long), after(year * 1000), after(year * 300_000)] {
        if let Err(error) = scheduler.add(add, echo("far")).await {
            assert!(is_told(error.clone()), "{error:?}");
        }
    }
    tokio::time::sleep(SECOND * 3).await;
    let good = log.texts().iter().filter(|it| *it == "good").count();
    assert!(good >= 2, "{good}");
}

// In real time, as above.
#[tokio::test]
async fn a_store_that_takes_no_outcomes_does_not_stall_others() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let wrap = Wrap::new(&store);
    let scheduler = on(&wrap, &log).start().await.unwrap();
    let late = watch_lateness(&scheduler).await;
    for n in 0..10 {
        scheduler
            .add(every(Duration::from_millis(1)), echo("x"))
            .id(format!("{n}"))
            .max_instances(10)
            .await
            .unwrap();
    }
    tokio::time::sleep(SECOND * 3).await;
    let before = std::mem::take(&mut *late.lock().unwrap());
    wrap.knobs.fail_finish.store(true, Ordering::SeqCst);
    tokio::time::sleep(SECOND * 13).await;
    let worst = *late.lock().unwrap();
    assert!(worst < STALL, "a closure was {worst:?} late, before that {before:?}");
}

#[tokio::test(start_paused = true)]
async fn the_stores_clock_counts_from_the_start() {
    let start = "2030-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap();
    let (here, there) =
        (ManualClock::running(start), ManualClock::running(start + TimeDelta::hours(1)));
    let (store, log) = (MemoryStore::with_clock(there), Log::default());
    let scheduler = on(&store, &log).clock(here).start().await.unwrap();
    scheduler.add(after(SECOND * 60), echo("x")).id("job").await.unwrap();
    tokio::time::sleep(SECOND * 30).await;
    assert_eq!(log.len(), 0, "it ran half a minute early");
    tokio::time::sleep(SECOND * 40).await;
    assert_eq!(log.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_while_the_store_hangs() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let wrap = Wrap::new(&store);
    let scheduler = on(&wrap, &log).start().await.unwrap();
    let job = scheduler.add(every(SECOND), Slow(500)).id("job").await.unwrap();
    tokio::time::sleep(SECOND + SECOND / 4).await;
    wrap.knobs.hang.store(true, Ordering::SeqCst);
    let report = tokio::time::timeout(SECOND * 60, scheduler.shutdown().within(SECOND)).await;
    assert!(report.is_ok(), "{report:?}");
    assert!(matches!(tokio::time::timeout(SECOND, job).await, Ok(End::ShutDown)));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_scheduler() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    let job = scheduler.add(every(SECOND), Slow(10_000)).id("job").await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    drop(scheduler);
    let end = tokio::time::timeout(SECOND * 60, job.clone()).await;
    assert!(matches!(end, Ok(End::ShutDown)), "{end:?}");
    assert_eq!(log.texts(), ["begin", "end"]);
    let states: Vec<_> = rows(&store).await.into_iter().map(|row| row.state).collect();
    assert!(states.iter().all(|state| !matches!(state, RowState::Claimed(_))), "{states:?}");
}

#[tokio::test(start_paused = true)]
async fn remove_all_says_how_many() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let scheduler = on(&store, &log).start().await.unwrap();
    let events = scheduler.events_matching(
        EventFilter::new().kinds([EventKind::AllJobsRemoved, EventKind::JobRemoved]),
    );
    for n in 0..3 {
        scheduler.add(every(SECOND * 600), echo("x")).id(format!("{n}")).await.unwrap();
    }
    assert_eq!(scheduler.remove_all().await.unwrap(), 3);
    tokio::time::sleep(SECOND * 10).await;
    scheduler.shutdown().await;
    let events: Vec<_> = events.map(|e| e.payload).collect().await;
    assert!(
        events.iter().any(|what| matches!(what, EventPayload::AllJobsRemoved { count: 3 })),
        "{events:?}"
    );
}

// Suspended longer than the lease (clock advanced by hand), with another node.
#[tokio::test(start_paused = true)]
async fn a_suspended_machine_does_not_run_what_was_taken_over() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let wrap = Wrap::new(&store);
    // The failing store stands for the suspension: nothing is heard of this node.
    let one = on(&wrap, &log).start().await.unwrap();
    one.add(after(SECOND), Slow(20_000)).id("job").recover(true).await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    let other = on(&store, &log).start().await.unwrap();
    wrap.knobs.fail_all.store(true, Ordering::SeqCst);
    tokio::time::sleep(SECOND * 20).await;
    wrap.knobs.fail_all.store(false, Ordering::SeqCst);
    tokio::time::sleep(SECOND * 100).await;
    let begun: Vec<_> = log.all().into_iter().filter(|it| it.0 == "begin").collect();
    assert_eq!(begun.len(), 2, "{:?}", log.all());
    drop((one, other));
}

#[tokio::test(start_paused = true)]
async fn a_take_under_way_brings_nothing_of_the_trigger_that_was() {
    let (store, log) = (MemoryStore::new(), Log::default());
    let wrap = Wrap::new(&store);
    let scheduler = on(&wrap, &log).start().await.unwrap();
    let often = every(Duration::from_millis(100));
    let job = scheduler.add(often, echo("x")).id("job").await.unwrap();
    tokio::time::sleep(SECOND * 3).await;
    *wrap.knobs.slow_take_answer.lock().unwrap() = Some(SECOND * 2 / 5);
    *wrap.knobs.slow_release.lock().unwrap() = Some(SECOND);
    // In the midst of a take, at one of these moments.
    for moment in 1..20 {
        tokio::time::sleep(Duration::from_millis(moment * 37)).await;
        job.reschedule(after(SECOND * 100)).await.unwrap();
        let before = log.len();
        tokio::time::sleep(SECOND * 5).await;
        assert_eq!(log.len(), before, "at moment {moment}");
        job.reschedule(every(Duration::from_millis(100))).await.unwrap();
        tokio::time::sleep(SECOND * 2).await;
        assert!(log.len() > before);
    }
}
