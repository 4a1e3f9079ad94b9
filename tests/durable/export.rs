//! Export and import of durable jobs.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use punctual::{
    Context, EventFilter, EventKind, OnConflict, Retry, Task,
    store::{MemoryStore, Store as _},
    testing::FaultyStore,
    trigger::{IntoTrigger as _, after, and, cron, every, or},
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::tasks::{Lasting, Notes, on, remember};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn jobs_are_exported_as_json_and_imported_again() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let add = |id: &str| scheduler.add(every(SECOND * 60), remember("tick")).id(id);
    add("a").tag("x").priority(3).recover(true).await.unwrap();
    add("b").name("paused").paused().await.unwrap();
    let document = scheduler.export().await.unwrap();
    assert!(document.contains("\"type\":\"interval\""), "{document}");
    let count = |result: Result<usize, punctual::Error>| result.unwrap();
    assert!(scheduler.import(&document, OnConflict::Error).await.unwrap_err().is_duplicate_id());
    assert_eq!(count(scheduler.import(&document, OnConflict::Keep).await), 0);
    assert_eq!(count(scheduler.import(&document, OnConflict::Reconcile).await), 0);

    let (other_store, other_notes) = (MemoryStore::new(), Notes::default());
    let other = on(&other_store, &other_notes).start().await.unwrap();
    assert_eq!(count(other.import(&document, OnConflict::Error).await), 2);
    let (from, to) = (scheduler.jobs().await.unwrap(), other.jobs().await.unwrap());
    let lines =
        |jobs: &[punctual::JobInfo]| jobs.iter().map(|job| job.to_string()).collect::<Vec<_>>();
    assert_eq!(lines(&from), lines(&to));
    assert!(other_store.get("a".into()).await.unwrap().unwrap().recover);
    tokio::time::sleep(SECOND * 61).await;
    assert_eq!((notes.len(), other_notes.len()), (1, 1));

    for broken in ["", "[]", "{\"punctual_jobs\":2,\"jobs\":[]}", "{\"punctual_jobs\":1}"] {
        let error = other.import(broken, OnConflict::Keep).await.unwrap_err();
        assert!(error.is_unreadable(), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_and_their_export_are_streamed_page_by_page() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    let empty = scheduler.export().await.unwrap();
    assert_eq!(scheduler.import(&empty, OnConflict::Error).await.unwrap(), 0);
    let add =
        |n: usize| scheduler.add(every(SECOND * 3600), remember("tick")).id(format!("{n:04}"));
    scheduler.add_all((0..1200).map(add)).await.unwrap();
    scheduler.add(every(SECOND * 3600), || async {}).id("volatile").await.unwrap();
    scheduler.job("0007").run_now().await.unwrap();
    scheduler.pause().await.unwrap();

    let jobs: Vec<_> = scheduler.jobs().stream().try_collect().await.unwrap();
    let mut ids: Vec<_> = jobs.iter().map(|job| job.id.to_string()).collect();
    ids.sort();
    let mut listed: Vec<_> =
        scheduler.jobs().await.unwrap().iter().map(|job| job.id.to_string()).collect();
    listed.sort();
    assert_eq!((ids.len(), &ids), (1201, &listed));

    let pieces: Vec<String> = scheduler.export_stream().unwrap().try_collect().await.unwrap();
    assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.matches("\"id\"").count() <= 500));
    let document = scheduler.export().await.unwrap();
    assert_eq!(pieces.concat(), document);
    assert_eq!(document.matches("\n    {\n      \"id\": \"").count(), 1200);
    let other = on(&MemoryStore::new(), &notes).start().await.unwrap();
    assert_eq!(other.import(&document, OnConflict::Error).await.unwrap(), 1200);
    assert_eq!(scheduler.jobs().paused(false).remove().await.unwrap(), 1201);
}

#[tokio::test(start_paused = true)]
async fn an_imported_job_without_fire_times_left_ends() {
    let (store, other, notes) = (MemoryStore::new(), MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(after(SECOND), Lasting(60_000)).id("last").await.unwrap();
    sleep(SECOND * 2).await;
    let jobs = scheduler.export().await.unwrap();
    scheduler.shutdown().await;
    let second = on(&other, &notes).start().await.unwrap();
    second.import(&jobs, OnConflict::Error).await.unwrap();
    sleep(SECOND * 3600).await;
    let there = second.jobs().await.unwrap();
    assert!(there.is_empty(), "an hour later: {there:?}");
}

#[tokio::test(start_paused = true)]
async fn arguments_survive_export_and_import() {
    let (store, other, notes) = (MemoryStore::new(), MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).task::<Big>().start().await.unwrap();
    scheduler.add(every(SECOND), Big(u128::MAX)).id("big").await.unwrap();
    let before = store.get("big".into()).await.unwrap().unwrap();
    let jobs = scheduler.export().await.unwrap();
    scheduler.shutdown().await;
    let second = on(&other, &notes).task::<Big>().start().await.unwrap();
    second.import(&jobs, OnConflict::Error).await.unwrap();
    let after = other.get("big".into()).await.unwrap().unwrap();
    assert_eq!(before.args, after.args);
}

#[derive(Serialize, Deserialize)]
struct Big(u128);

impl Task for Big {
    const NAME: &'static str = "big";
    type Output = ();
    async fn run(self, cx: Context) {
        cx.state::<Notes>().add(&cx, &self.0.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn an_import_shares_the_namespace_with_closures() {
    let (store, other, notes) = (MemoryStore::new(), MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(every(SECOND), remember("x")).id("same").await.unwrap();
    let jobs = scheduler.export().await.unwrap();
    let second = on(&other, &notes).start().await.unwrap();
    second.add(every(SECOND), || async {}).id("same").await.unwrap();
    let imported = second.import(&jobs, OnConflict::Error).await;
    assert!(imported.is_err(), "{imported:?}, {:?}", second.jobs().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_import_that_replaces_a_job_is_exact_on_its_own_node() {
    let (store, other, notes) = (MemoryStore::new(), MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(every(SECOND * 3600), remember("new")).id("same").await.unwrap();
    let jobs = scheduler.export().await.unwrap();
    let faulty = FaultyStore::new(other.clone());
    faulty.set_changes(|| stream::pending().boxed());
    let second = on(&faulty, &notes).start().await.unwrap();
    let mut events = second
        .events_matching(EventFilter::new().kinds([EventKind::JobAdded, EventKind::JobRemoved]));
    let _held =
        second.add(every(Duration::from_millis(100)), remember("old")).id("same").await.unwrap();
    events.next().await;
    sleep(SECOND * 3).await;
    second.import(&jobs, OnConflict::Replace).await.unwrap();
    let before = notes.len();
    let told = events.next().now_or_never();
    sleep(SECOND * 10).await;
    assert_eq!(notes.len(), before, "runs of the replaced job started; events at once: {told:?}");
}

/// The job fires once. A shutdown releases that run after it was claimed ahead, and its row waits in the ledger.
#[tokio::test(start_paused = true)]
async fn an_export_has_a_single_run_that_was_released() {
    let (store, other, notes) = (MemoryStore::new(), MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(after(SECOND * 10), remember("invoice")).id("invoice").await.unwrap();
    // The run is claimed ahead, and not due for a quarter of a second.
    sleep(SECOND * 9 + SECOND * 3 / 4).await;
    scheduler.shutdown().await;
    assert_eq!((notes.len(), store.get("invoice".into()).await.unwrap().is_some()), (0, true));

    let moving = on(&store, &notes).paused().start().await.unwrap();
    let jobs = moving.export().await.unwrap();
    moving.shutdown().await;
    let there = on(&other, &notes).start().await.unwrap();
    let count = there.import(&jobs, OnConflict::Error).await.unwrap();
    sleep(SECOND * 60).await;
    assert_eq!(notes.len(), 1, "{count} jobs were imported, from\n{jobs}");
}

/// The same with a job that has later fire times as well.
#[tokio::test(start_paused = true)]
async fn an_export_has_a_fire_time_that_was_released() {
    let (store, other, notes) = (MemoryStore::new(), MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler
        .add(every(SECOND * 3600).immediately(), remember("hourly"))
        .id("hourly")
        .await
        .unwrap();
    sleep(SECOND * 3600 - SECOND / 4).await;
    scheduler.shutdown().await;
    let ran = notes.len();
    assert_eq!(ran, 1);

    let moving = on(&store, &notes).paused().start().await.unwrap();
    let jobs = moving.export().await.unwrap();
    moving.shutdown().await;
    let there = on(&other, &notes).start().await.unwrap();
    there.import(&jobs, OnConflict::Error).await.unwrap();
    sleep(SECOND * 60).await;
    assert_eq!(
        notes.len(),
        ran + 1,
        "the fire time of an hour after the start is lost; from\n{jobs}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_export_has_the_requested_runs() {
    let (store, other, notes) = (MemoryStore::new(), MemoryStore::new(), Notes::default());
    let moving = on(&store, &notes).paused().start().await.unwrap();
    let job = moving.add(every(SECOND * 86_400), remember("asked for")).id("job").await.unwrap();
    job.run_now().await.unwrap();
    let jobs = moving.export().await.unwrap();
    moving.shutdown().await;
    let there = on(&other, &notes).start().await.unwrap();
    there.import(&jobs, OnConflict::Error).await.unwrap();
    sleep(SECOND * 60).await;
    assert_eq!(notes.len(), 1, "from\n{jobs}");
}

#[tokio::test(start_paused = true)]
async fn an_import_lets_in_only_what_an_add_would() {
    let (store, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&store, &notes).start().await.unwrap();
    scheduler.add(every(SECOND), remember("x")).id("job").await.unwrap();
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
        notes.len(),
        scheduler.jobs().await.unwrap()
    );
}

/// Each number and each text of a document is replaced by nonsense, one at a time.
#[tokio::test(start_paused = true)]
async fn edited_documents_cause_no_panic_and_block_no_other_job() {
    use serde_json::{Value, json};

    /// The paths of all numbers and texts in a document.
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
    let (source, notes) = (MemoryStore::new(), Notes::default());
    let scheduler = on(&source, &notes).start().await.unwrap();
    let two = || cron("0 2 * * *");
    let triggers = [
        every(SECOND * 7).into_trigger().unwrap(),
        every(SECOND * 7).times(3).into_trigger().unwrap(),
        cron("*/5 * * * *").in_tz("Europe/Berlin").into_trigger().unwrap(),
        after(SECOND * 30).into_trigger().unwrap(),
        or((two(), every(SECOND * 9))).into_trigger().unwrap(),
        and((every(SECOND * 4), every(SECOND * 6))).into_trigger().unwrap(),
    ];
    for (n, trigger) in triggers.into_iter().enumerate() {
        let add = scheduler.add(trigger, remember("edited")).id(format!("{n}"));
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
        let (store, notes) = (MemoryStore::new(), Notes::default());
        let scheduler = on(&store, &notes).start().await.unwrap();
        scheduler.add(every(SECOND), remember("good")).id("good").await.unwrap();
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
        let good = notes.all().iter().filter(|ran| ran.text == "good").count();
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
