//! The log: each event is one line with its job, without characters that would break the line or
//! hide in it, of bounded length, and without any task's arguments.

use std::{
    error::Error as _,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use punctual::{
    Context, Error, OnConflict, Scheduler, Task, named_task,
    store::{MemoryStore, RecordFilter, Store as _, StoreError},
    trigger::{after, now},
};
use serde::{Deserialize, Serialize};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

const SECOND: Duration = Duration::from_secs(1);

/// A secret that must not be logged, and a part of a text that is too long to be logged.
const SECRET: &str = "hunter2";

/// The lines of a log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Captures the events that this thread traces.
    fn capture() -> (Lines, DefaultGuard) {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(lines.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    fn all(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Lines;

    fn make_writer(&self) -> Lines {
        self.clone()
    }
}

/// The first version of a task.
#[derive(Serialize, Deserialize)]
struct LogIn {
    password: String,
}

impl Task for LogIn {
    const NAME: &'static str = "log-in";
    type Output = ();

    async fn run(self, _: Context) {}
}

/// A later version of the same task.
#[derive(Serialize, Deserialize)]
struct LogInByNumber {
    password: u64,
}

impl Task for LogInByNumber {
    const NAME: &'static str = "log-in";
    type Output = ();

    async fn run(self, _: Context) {}
}

fn shown(value: &(impl fmt::Display + fmt::Debug)) -> String {
    format!("{value} {value:?} {value:#?}")
}

#[tokio::test(start_paused = true)]
async fn arguments_that_do_not_fit_are_in_no_text_but_on_request() {
    let (lines, _guard) = Lines::capture();
    let scheduler = Scheduler::builder().task::<LogInByNumber>().start().await.unwrap();
    for long in [1, 1_000_000] {
        let password = SECRET.repeat(long);
        let work = named_task("log-in", &LogIn { password });
        assert!(!format!("{work:?}").contains(SECRET));
        let error = scheduler.add(now(), work).await.unwrap_err();
        assert!(error.is_invalid_task());
        let text = shown(&error);
        assert!(!text.contains(SECRET) && text.len() < 1000, "{text}");
        assert!(text.contains("invalid type, expected u64 at line 1 column"), "{text}");
        let details = error.sensitive_details().unwrap();
        assert!(details.contains(SECRET) && details.len() < 1000, "{details}");
    }
    assert!(!lines.all().concat().contains(SECRET));
}

#[tokio::test(start_paused = true)]
async fn a_job_of_the_store_that_cannot_run_does_not_show_its_arguments() {
    let (lines, _guard) = Lines::capture();
    let store = MemoryStore::new();
    let before = Scheduler::builder().store(store.clone()).task::<LogIn>().start().await.unwrap();
    let password = SECRET.to_owned();
    before.add(after(SECOND), LogIn { password }).id("log-in").await.unwrap();
    before.shutdown().await;

    let builder = Scheduler::builder().store(store.clone()).task::<LogInByNumber>();
    let scheduler = builder.start().await.unwrap();
    tokio::time::sleep(60 * SECOND).await;
    let unhandled = scheduler.unhandled().await.unwrap();
    let text = shown(&unhandled[0]);
    assert!(
        text.contains("log-in: the arguments do not match task `log-in`: invalid type"),
        "{text}"
    );
    assert!(!text.contains(SECRET), "{text}");
    assert!(unhandled[0].reason.sensitive_details().unwrap().contains(SECRET));
    let records = store.list(RecordFilter::default(), None, 10).await.unwrap().records;
    assert!(records[0].args.contains(SECRET));
    assert!(!format!("{records:?}").contains(SECRET), "{records:?}");
    // An export contains everything in the store.
    assert!(scheduler.export().await.unwrap().contains(SECRET));

    let warned = lines.all().into_iter().find(|line| line.contains("JobUnreadable")).unwrap();
    assert!(warned.contains("WARN") && warned.contains("job=log-in"), "{warned}");
    assert!(!lines.all().concat().contains(SECRET));
}

#[tokio::test]
async fn a_document_that_cannot_be_imported_is_not_quoted() {
    let scheduler = Scheduler::builder().store(MemoryStore::new()).start().await.unwrap();
    let document = format!(r#"{{"punctual_jobs":"{SECRET}","jobs":[]}}"#);
    let error = scheduler.import(&document, OnConflict::Keep).await.unwrap_err();
    assert!(!shown(&error).contains(SECRET), "{error}");
    assert!(error.to_string().contains("invalid type, expected u32 at line 1 column"), "{error}");
    assert!(error.sensitive_details().unwrap().contains(SECRET));
}

/// Characters that would start a new line, clear the screen, reverse the text, and be invisible.
const WILD: &str = "a\n2026 ERROR forged\r\u{1b}[2J\u{202e}b\u{200b}c";
const TAMED: &str = r"a\n2026 ERROR forged\r\u{1b}[2J\u{202e}b\u{200b}c";

fn is_one_line(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || "\u{202e}\u{200b}".contains(c))
}

async fn panics() {
    panic!("{WILD}")
}

#[tokio::test(start_paused = true)]
async fn line_breaks_and_control_characters_are_escaped() {
    let (lines, _guard) = Lines::capture();
    let scheduler = Scheduler::new();
    let fails = || async { Err::<(), _>(WILD) };
    let job = scheduler.add(after(SECOND), fails).id(WILD).name(WILD).tag(WILD).await.unwrap();
    assert_eq!(job.id().to_string(), TAMED);
    assert!(*job.id() == *WILD, "the id itself is as it was given");
    let line = job.get().await.unwrap().to_string();
    assert!(is_one_line(&line) && line.matches(TAMED).count() == 3, "{line}");
    let error = scheduler.add(after(SECOND), || async {}).id(WILD).await.unwrap_err();
    assert!(is_one_line(&error.to_string()) && is_one_line(&format!("{error:?}")), "{error}");
    assert!(error.to_string().contains(TAMED), "{error}");
    job.await;
    scheduler.add(after(SECOND), panics).id("panics").await.unwrap().await;
    let lines = lines.all();
    assert!(lines.iter().all(|line| is_one_line(line)), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.starts_with("2026 ERROR")), "{lines:#?}");
    let has = |text: &str| lines.iter().any(|line| line.contains(text));
    assert!(has(&format!("failed: {TAMED}")) && has(&format!("panicked: {TAMED}")), "{lines:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_text_is_cut_in_a_log_line() {
    let (lines, _guard) = Lines::capture();
    let scheduler = Scheduler::new();
    let fails = || async { Err::<(), _>("long ".repeat(1_000_000)) };
    scheduler.add(now(), fails).id("talks").await.unwrap().await;
    let lines = lines.all();
    assert!(lines.iter().all(|line| line.len() < 9000), "of {:?}", lines.iter().map(String::len));
    let failed = lines.iter().find(|line| line.contains("Failed talks")).unwrap();
    assert!(failed.contains('…') && failed.contains("job=talks"), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn the_job_is_a_field_of_its_events_lines() {
    let (lines, _guard) = Lines::capture();
    let scheduler = Scheduler::new();
    scheduler.add(after(SECOND), || async {}).id("report").await.unwrap().await;
    scheduler.shutdown().await;
    let lines = lines.all();
    let events: Vec<_> = lines.iter().filter(|line| line.contains("sequence=")).collect();
    let of_job = events.iter().filter(|line| line.contains(" report")).count();
    let with_field = events.iter().filter(|line| line.contains(" job=report")).count();
    assert!(of_job >= 4 && of_job == with_field, "{events:#?}");
    assert!(events.iter().any(|line| line.contains("ShutDown") && !line.contains("job=")));
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_logged_with_the_sources_of_its_error() {
    let (lines, _guard) = Lines::capture();
    let scheduler = Scheduler::new();
    scheduler.add(now(), || async { Err::<(), _>(Twice) }).id("twice").await.unwrap().await;
    let lines = lines.all();
    let failed = lines.iter().find(|line| line.contains("Failed twice")).unwrap();
    assert!(failed.contains("failed: sent nothing: no route; caused by: cable cut "), "{failed}");
}

/// An error whose text includes that of its source, like those of many crates.
#[derive(Debug)]
struct Twice;

#[derive(Debug)]
struct NoRoute(std::io::Error);

impl fmt::Display for Twice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sent nothing: no route")
    }
}

impl std::error::Error for Twice {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        static SOURCE: std::sync::LazyLock<NoRoute> =
            std::sync::LazyLock::new(|| NoRoute(std::io::Error::other("cable cut")));
        Some(&*SOURCE)
    }
}

impl fmt::Display for NoRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no route")
    }
}

impl std::error::Error for NoRoute {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn the_debug_of_an_error_reads_like_its_display() {
    let scheduler = Scheduler::new();
    let error = scheduler.job("nobody").get().await.unwrap_err();
    assert_eq!(format!("{error:?}"), error.to_string());

    let error = Error::from(StoreError::refused("`jobs.db`: the disk is full"));
    assert_eq!(error.to_string(), "the store refused the operation");
    assert_eq!(error.source().unwrap().to_string(), "`jobs.db`: the disk is full");
    let debug = "the store refused the operation; caused by: `jobs.db`: the disk is full";
    assert_eq!(format!("{error:?}"), debug);
    assert_eq!(format!("{error:#?}"), debug);
    assert_eq!(format!("{:?}", StoreError::refused("`jobs.db`: the disk is full")), debug);

    let once = scheduler.try_add_once(now(), async { Err::<(), _>(Twice) }).await.unwrap();
    let debug =
        "the job's run returned an error; caused by: sent nothing: no route; caused by: cable cut";
    assert_eq!(format!("{:?}", once.await.unwrap_err()), debug);
}
