//! Schedulers for programs without an async `main`: they block where that is allowed, return an
//! error where it is not, and end in bounded time whatever their jobs do.
//!
//! All in real time: they have threads and runtimes of their own, whose time cannot be paused.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use punctual::{
    BackgroundScheduler, BlockingScheduler, Context, End, Error, EventFilter, EventKind, Scheduler,
    Task, Wait, Workers, blocking,
    store::SqliteStore,
    trigger::{after, cron, every, now},
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    time::sleep,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Longer than an immediate end takes on a busy machine, and shorter than any timeout.
const SOON: Duration = Duration::from_secs(4);

/// Longer than anything takes, except a shutdown with the default limit.
const PATIENCE: Duration = Duration::from_secs(20);

/// Checks that an error contains all of these.
fn says(error: &Error, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

/// Runs a blocking call with a limit, so that a bug does not block the tests forever.
fn in_time<T: Send + 'static>(block: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = mpsc::channel();
    thread::spawn(move || sender.send(block()));
    done.recv_timeout(PATIENCE).expect("it neither panics nor blocks for ever")
}

/// Waits until the condition holds.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what} is still not so");
        thread::sleep(5 * MILLISECOND);
    }
}

/// Adds a job that reports the start of its run, and continues until it is dropped.
fn stubborn(scheduler: &Scheduler) -> mpsc::Receiver<()> {
    let (sender, started) = mpsc::channel();
    let runtime = Builder::new_current_thread().build().unwrap();
    let job = scheduler.add(now(), || async move {
        sender.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    runtime.block_on(job.cancel_grace(Duration::ZERO).into_future()).unwrap();
    started
}

/// Adds a job that blocks its thread until the returned sender is dropped.
fn hogging(scheduler: &Scheduler) -> mpsc::Sender<()> {
    let (sender, started) = mpsc::channel();
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let runtime = Builder::new_current_thread().build().unwrap();
    let job = scheduler.add(now(), || async move {
        sender.send(()).unwrap();
        let _ = blocked.lock().unwrap().recv();
    });
    runtime.block_on(job.into_future()).unwrap();
    started.recv().unwrap();
    release
}

fn runtimes() -> [Runtime; 2] {
    [
        Builder::new_current_thread().enable_time().build().unwrap(),
        Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap(),
    ]
}

mod background {
    use super::*;

    #[test]
    fn a_synchronous_program_can_do_all_that_an_async_one_can() {
        let scheduler = BackgroundScheduler::new().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let job = scheduler.add(every(10 * MILLISECOND), move || async move {
            counted.fetch_add(1, SeqCst);
        });
        let job = scheduler.block_on(job.id("count")).unwrap();
        eventually("three runs", || count.load(SeqCst) >= 3);
        scheduler.block_on(job.pause()).unwrap();
        assert_eq!(scheduler.block_on(scheduler.jobs()).unwrap().len(), 1);

        let twice = scheduler.add_all((0..2).map(|_| scheduler.add(now(), || async {})));
        for handle in scheduler.block_on(twice).unwrap() {
            let end = scheduler.block_on(async { Ok(handle.await) }).unwrap();
            assert!(matches!(end, End::Completed));
        }
        let value = scheduler.block_on(scheduler.add_once(now(), async { 42 })).unwrap();
        assert_eq!(scheduler.block_on(value).unwrap(), 42);

        scheduler.block_on(scheduler.job("count").remove()).unwrap();
        let error = scheduler.block_on(scheduler.job("count").get()).unwrap_err();
        assert!(error.is_unknown_job());
        assert!(scheduler.shutdown().unwrap().is_clean());
    }

    #[test]
    fn the_builders_options_count_and_its_errors_are_returned() {
        let builder = Scheduler::builder().time_zone("Europe/Berlin").paused();
        let scheduler = BackgroundScheduler::start(builder).unwrap();
        assert!(scheduler.is_paused());
        let job = scheduler.block_on(scheduler.add(cron("0 9 * * *"), || async {})).unwrap();
        assert!(scheduler.block_on(job.get()).unwrap().to_string().contains("Europe/Berlin"));

        let refused = BackgroundScheduler::start(Scheduler::builder().event_buffer(0)).unwrap_err();
        assert!(refused.is_invalid_option());
    }

    #[test]
    fn its_threads_are_as_many_and_called_as_one_likes() {
        let seen = |workers| {
            let scheduler = BackgroundScheduler::start_on(workers, Scheduler::builder()).unwrap();
            let job = scheduler.add_once(now(), async {
                let name = thread::current().name().map(str::to_owned);
                (Handle::current().metrics().num_workers(), name.unwrap())
            });
            let value = scheduler.block_on(job).unwrap();
            scheduler.block_on(value).unwrap()
        };
        assert_eq!(seen(Workers::new(3).thread_name("jobs")), (3, "jobs".to_owned()));
        let (workers, name) = seen(Workers::default());
        assert!(workers >= 2, "one blocked job must not stop all others: {workers}");
        assert_eq!(name, "punctual-async");
    }

    #[test]
    fn threads_that_make_no_sense() {
        for (workers, parts) in [
            (Workers::new(0), &["Workers::new(0)", "1..=1024", "cores"][..]),
            (Workers::new(1025), &["Workers::new(1025)"]),
            (Workers::new(2).thread_name("a\0b"), &["a\\0b", "NUL", "remove the NUL"]),
        ] {
            let error = BackgroundScheduler::start_on(workers.clone(), Scheduler::builder());
            let error = error.unwrap_err();
            assert!(error.is_invalid_option(), "{error:?}");
            says(&error, parts);
            assert!(BlockingScheduler::start_on(workers, Scheduler::builder()).is_err());
        }
    }

    #[test]
    fn shutting_down_waits_for_runs_and_reports_their_outcomes() {
        let scheduler = BackgroundScheduler::new().unwrap();
        let (sender, started) = mpsc::channel();
        let quick = scheduler.add(now(), || async move {
            sender.send(()).unwrap();
            sleep(300 * MILLISECOND).await;
        });
        scheduler.block_on(quick).unwrap();
        started.recv().unwrap();
        let report = scheduler.shutdown().unwrap();
        assert_eq!(report.finished.len(), 1, "{report}");

        let scheduler = BackgroundScheduler::new().unwrap();
        stubborn(&scheduler).recv().unwrap();
        let began = Instant::now();
        let report = in_time(|| scheduler.shutdown_within(300 * MILLISECOND)).unwrap();
        assert_eq!(report.dropped.len(), 1, "{report}");
        assert!((300 * MILLISECOND..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[test]
    fn shutting_down_ends_even_if_jobs_block_every_thread() {
        let workers = Workers::new(2);
        let scheduler = BackgroundScheduler::start_on(workers, Scheduler::builder()).unwrap();
        let blocked = [hogging(&scheduler), hogging(&scheduler)];
        let began = Instant::now();
        let report = in_time(|| scheduler.shutdown_within(100 * MILLISECOND)).unwrap();
        assert_eq!(report.abandoned.len(), 2, "{report}");
        assert!(began.elapsed() < 5 * SECOND + SOON, "{:?}", began.elapsed());
        drop(blocked);
    }

    #[test]
    fn leftovers_of_jobs_do_not_block_a_shutdown() {
        let scheduler = BackgroundScheduler::new().unwrap();
        let (release, blocked) = mpsc::channel::<()>();
        let job = scheduler.add_once(now(), async {
            tokio::spawn(std::future::pending::<()>());
            tokio::task::spawn_blocking(move || blocked.recv());
        });
        let value = scheduler.block_on(job).unwrap();
        scheduler.block_on(value).unwrap();
        let began = Instant::now();
        assert!(in_time(|| scheduler.shutdown()).unwrap().is_clean());
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        drop(release);
    }

    /// A scheduler with many slow callbacks at its end, called one after the other: so many that
    /// Tokio would end their thread before the last one if nothing waited.
    fn with_callbacks(heard: &Arc<AtomicUsize>) -> BackgroundScheduler {
        let end = EventFilter::new().kinds([EventKind::ShutDown]);
        let builder = (0..CALLBACKS).fold(Scheduler::builder(), |builder, _| {
            let heard = heard.clone();
            builder.on_event(end.clone(), move |_| {
                thread::sleep(MILLISECOND);
                heard.fetch_add(1, SeqCst);
            })
        });
        BackgroundScheduler::start_on(Workers::new(1), builder).unwrap()
    }

    const CALLBACKS: usize = 150;

    #[test]
    fn callbacks_receive_the_last_event_before_a_shutdown_returns() {
        let heard = Arc::new(AtomicUsize::new(0));
        with_callbacks(&heard).shutdown().unwrap();
        assert_eq!(heard.load(SeqCst), CALLBACKS);
    }

    #[test]
    fn callbacks_receive_the_last_event_after_it_was_dropped() {
        let heard = Arc::new(AtomicUsize::new(0));
        drop(with_callbacks(&heard));
        eventually("the last callback", || heard.load(SeqCst) == CALLBACKS);
    }

    #[test]
    fn dropping_it_waits_for_nothing_and_lets_active_runs_finish() {
        let scheduler = BackgroundScheduler::new().unwrap();
        let (sender, started) = mpsc::channel();
        let (release, released) = tokio::sync::oneshot::channel();
        let going = scheduler.add_once(now(), |cx: Context| async move {
            sender.send(()).unwrap();
            released.await.unwrap();
            cx.is_cancelled()
        });
        let going = scheduler.block_on(going).unwrap();
        started.recv().unwrap();
        let clone = Scheduler::clone(&scheduler);
        let next = scheduler.block_on(scheduler.add(after(60 * SECOND), || async {})).unwrap();
        let began = Instant::now();
        drop(scheduler);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        // Even with clones left, its runtime is gone, so nothing starts.
        let other = Builder::new_current_thread().build().unwrap();
        assert!(other.block_on(next.run_now()).unwrap_err().is_shut_down());
        assert!(other.block_on(clone.pause()).unwrap_err().is_shut_down());
        assert!(matches!(other.block_on(next), End::ShutDown));
        release.send(()).unwrap();
        assert!(!other.block_on(going).unwrap(), "nobody asked it to stop");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn its_threads_end_with_it_however_that_comes() {
        let running = |name: &str| {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let names = tasks
                .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
            names.filter(|comm| comm.trim_end() == name).count()
        };
        let start = |name: &str| {
            let workers = Workers::new(2).thread_name(name);
            BackgroundScheduler::start_on(workers, Scheduler::builder()).unwrap()
        };
        let scheduler = start("shut-down");
        eventually("that they run", || running("shut-down") == 2);
        scheduler.shutdown().unwrap();
        eventually("that they ended", || running("shut-down") == 0);

        drop(start("dropped"));
        eventually("that they ended", || running("dropped") == 0);

        let workers = Workers::new(2).thread_name("never-run");
        drop(BlockingScheduler::start_on(workers, Scheduler::builder()).unwrap());
        eventually("that they ended", || running("never-run") == 0);

        let workers = Workers::new(2).thread_name("refused");
        let refused = Scheduler::builder().event_buffer(0);
        assert!(BackgroundScheduler::start_on(workers, refused).is_err());
        eventually("that they ended", || running("refused") == 0);
    }

    /// As long as the timeout of dropping, which cannot be set.
    #[test]
    fn dropping_it_ends_runs_that_never_would() {
        let scheduler = BackgroundScheduler::new().unwrap();
        stubborn(&scheduler).recv().unwrap();
        let clone = Scheduler::clone(&scheduler);
        drop(scheduler);
        let other = Builder::new_current_thread().enable_time().build().unwrap();
        let began = Instant::now();
        let report = other.block_on(clone.shutdown().within(Duration::MAX).into_future());
        assert_eq!(report.dropped.len(), 1, "{report}");
        assert!(began.elapsed() < 30 * SECOND + SOON, "{:?}", began.elapsed());
    }
}

mod in_async_code {
    use super::*;

    #[test]
    fn it_can_be_made_used_and_dropped() {
        for runtime in runtimes() {
            runtime.block_on(async {
                let scheduler = BackgroundScheduler::new().unwrap();
                let value = scheduler.add_once(now(), async { 42 }).await.unwrap();
                assert_eq!(value.await.unwrap(), 42);
                drop(scheduler);

                let scheduler = BackgroundScheduler::new().unwrap();
                assert!(Scheduler::shutdown(&scheduler).await.is_clean());
                drop(scheduler);

                let refused = Scheduler::builder().event_buffer(0);
                assert!(BackgroundScheduler::start(refused).unwrap_err().is_invalid_option());
                drop(BlockingScheduler::new().unwrap());
            });
        }
    }

    #[test]
    fn waiting_is_an_error_that_says_what_to_do() {
        for runtime in runtimes() {
            runtime.block_on(async {
                let scheduler = BackgroundScheduler::new().unwrap();
                let error = scheduler.block_on(scheduler.pause()).unwrap_err();
                assert!(error.is_no_runtime());
                says(&error, &["`block_on`", "async code", "await", "spawn_blocking"]);
                assert!(!scheduler.is_paused());

                let clone = Scheduler::clone(&scheduler);
                says(&scheduler.shutdown().unwrap_err(), &["`shutdown`", "await"]);
                assert!(
                    clone.pause().await.unwrap_err().is_shut_down(),
                    "it is dropped all the same"
                );

                let scheduler = BlockingScheduler::new().unwrap();
                assert!(scheduler.block_on(scheduler.pause()).unwrap_err().is_no_runtime());
                says(&scheduler.run().unwrap_err(), &["`run`", "await"]);
            });
        }
    }

    #[test]
    fn waiting_is_an_error_in_its_own_jobs_too() {
        let workers = Workers::new(1);
        let scheduler = BackgroundScheduler::start_on(workers, Scheduler::builder()).unwrap();
        let scheduler = Arc::new(scheduler);
        let shared = scheduler.clone();
        let job = scheduler.add_once(now(), async move {
            let never = shared.add_once(after(SECOND), async {}).await.unwrap();
            shared.block_on(never).unwrap_err()
        });
        let value = scheduler.block_on(job).unwrap();
        assert!(scheduler.block_on(value).unwrap().is_no_runtime());

        let shared = scheduler.clone();
        let job = scheduler.add(now(), blocking(move || shared.block_on(shared.pause())));
        let end = scheduler.block_on(async { Ok(job.await?.await) }).unwrap();
        assert!(matches!(end, End::Completed) && scheduler.is_paused(), "a blocking one may wait");
    }

    #[test]
    fn the_last_reference_may_go_in_a_job_of_its_own() {
        let scheduler = Arc::new(BackgroundScheduler::new().unwrap());
        let owned = scheduler.clone();
        let (release, released) = tokio::sync::oneshot::channel();
        let (sender, done) = mpsc::channel();
        let job = scheduler.add_once(now(), async move {
            released.await.unwrap();
            drop(Arc::into_inner(owned).unwrap());
            // Longer than the other runs need to end.
            sleep(1500 * MILLISECOND).await;
            sender.send(()).unwrap();
        });
        scheduler.block_on(job).unwrap();
        drop(scheduler);
        release.send(()).unwrap();
        done.recv_timeout(SOON).expect("its run is waited for, as others are");
    }

    #[test]
    fn blocking_code_may_wait() {
        let scheduler = Arc::new(BackgroundScheduler::new().unwrap());
        let [current_thread, multi_thread] = runtimes();
        {
            let _context = current_thread.enter();
            scheduler.block_on(scheduler.pause()).unwrap();
        }
        multi_thread.block_on(async {
            let shared = scheduler.clone();
            tokio::spawn(async move {
                tokio::task::block_in_place(|| shared.block_on(shared.pause())).unwrap();
            })
            .await
            .unwrap();
            let scheduler = BackgroundScheduler::new().unwrap();
            let stopped = tokio::task::spawn_blocking(|| scheduler.shutdown()).await.unwrap();
            assert!(stopped.unwrap().is_clean());
        });
    }
}

mod blocking {
    use super::*;

    #[test]
    fn it_blocks_until_another_thread_stops_it_and_waits_for_active_runs() {
        let scheduler = BlockingScheduler::new().unwrap();
        let (sender, started) = mpsc::channel();
        let going = scheduler.add(now(), || async move {
            sender.send(()).unwrap();
            sleep(700 * MILLISECOND).await;
        });
        scheduler.block_on(going).unwrap();
        started.recv().unwrap();
        let stop = scheduler.stop_handle();
        let began = Instant::now();
        thread::spawn(move || {
            thread::sleep(300 * MILLISECOND);
            stop.clone().stop();
        });
        let report = in_time(|| scheduler.run()).unwrap();
        assert_eq!(report.finished.len(), 1, "{report}");
        assert!((300 * MILLISECOND..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[test]
    fn a_job_can_stop_it() {
        let scheduler = BlockingScheduler::new().unwrap();
        let stop = scheduler.stop_handle();
        let job = scheduler.add(after(50 * MILLISECOND), || async move {
            stop.stop();
            sleep(50 * MILLISECOND).await;
        });
        scheduler.block_on(job).unwrap();
        let report = in_time(|| scheduler.run()).unwrap();
        assert_eq!(report.finished.len(), 1, "{report}");
    }

    #[test]
    fn a_job_that_shuts_the_scheduler_down_ends_it_too() {
        let scheduler = BlockingScheduler::new().unwrap();
        let said = Arc::new(AtomicBool::new(false));
        let says = said.clone();
        let job = scheduler.add(after(50 * MILLISECOND), move |cx: Context| async move {
            cx.scheduler().shutdown().await;
            sleep(100 * MILLISECOND).await;
            says.store(true, SeqCst);
        });
        scheduler.block_on(job).unwrap();
        assert!(in_time(|| scheduler.run()).unwrap().is_clean());
        assert!(said.load(SeqCst), "what it does after that has a second");
    }

    #[test]
    fn stopping_it_ahead_is_remembered_and_its_patience_can_be_set() {
        let scheduler = BlockingScheduler::start(Scheduler::builder()).unwrap();
        let scheduler = scheduler.within(300 * MILLISECOND);
        stubborn(&scheduler).recv().unwrap();
        scheduler.stop_handle().stop();
        let began = Instant::now();
        let report = in_time(|| scheduler.run()).unwrap();
        assert_eq!(report.dropped.len(), 1, "{report}");
        assert!((300 * MILLISECOND..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}

/// Tests that need a process of their own: real signals, and hooks. The process is the example, or
/// a program below.
#[cfg(unix)]
mod processes {
    use std::{
        io::{BufRead as _, BufReader},
        os::unix::process::ExitStatusExt as _,
        path::PathBuf,
        process::{Child, Command, ExitStatus, Stdio},
        sync::LazyLock,
    };

    use super::*;

    /// Set for a process that is one of the programs below.
    const PROGRAM: &str = "PUNCTUAL_TEST_PROGRAM";

    struct Process {
        child: Child,
        lines: mpsc::Receiver<String>,
    }

    impl Process {
        fn start(command: &mut Command) -> Process {
            let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
            let mut child = command.spawn().expect("it starts");
            let stdout = child.stdout.take().expect("it is piped");
            let (sender, lines) = mpsc::channel();
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines() {
                    // The test may be over.
                    let _ = sender.send(line.expect("it writes text"));
                }
            });
            Process { child, lines }
        }

        fn example() -> Process {
            Process::start(&mut Command::new(&*EXAMPLE))
        }

        /// Starts one of the programs below.
        fn program(name: &str) -> Process {
            let test = std::env::current_exe().expect("a test knows where it is");
            let name = format!("processes::program::{name}");
            let mut command = Command::new(test);
            command.args(["--ignored", "--exact", "--nocapture", name.as_str()]);
            Process::start(command.env(PROGRAM, name))
        }

        /// Reads up to a line with this text.
        fn until(&self, text: &str) {
            let mut read = Vec::new();
            while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
                if line.contains(text) {
                    return;
                }
                read.push(line);
            }
            panic!("no `{text}` in {read:#?}");
        }

        fn signal(&self, name: &str) {
            let kill = Command::new("kill").args([name, &self.child.id().to_string()]).status();
            assert!(kill.expect("unix has a `kill`").success());
        }

        fn end(mut self) -> ExitStatus {
            eventually("the end of its output", || {
                matches!(self.lines.try_recv(), Err(mpsc::TryRecvError::Disconnected))
            });
            self.child.wait().expect("a child can be waited for")
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            // A failing test leaves no process behind; a process that has ended is not affected.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Cargo's build of the example, next to this test.
    static EXAMPLE: LazyLock<PathBuf> = LazyLock::new(|| {
        let test = std::env::current_exe().expect("a test knows where it is");
        let profile =
            test.ancestors().nth(2).expect("a test lies in deps, in a profile's directory");
        let example = profile.join("examples/standalone");
        // `cargo test` builds examples first, but `cargo test --test standalone` does not.
        if !example.exists() {
            let mut build = Command::new(env!("CARGO"));
            build
                .args(["build", "--quiet", "--example", "standalone", "--manifest-path"])
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
                .arg("--target-dir")
                .arg(profile.parent().expect("a profile lies in the target directory"));
            if profile.ends_with("release") {
                build.arg("--release");
            }
            let status = build.status().expect("cargo, which built this test, starts again");
            assert!(status.success(), "the example does not build");
        }
        example
    });

    #[test]
    fn the_example_ends_by_itself() {
        let example = Process::example();
        example.until("background: the cache holds 4096 entries");
        example.until("background: stopped: 0 finished");
        // An upload, and maybe the run that stopped it.
        example.until("finished, 0 cancelled, 0 dropped");
        assert!(example.end().success());
    }

    #[test]
    fn sigterm_and_sigint_end_it_when_active_runs_have_finished() {
        for signal in ["-TERM", "-INT"] {
            let example = Process::example();
            example.until("blocking: the checksum");
            example.signal(signal);
            example.until("blocking: uploaded");
            // The upload, and maybe another checksum.
            example.until(" finished, 0 cancelled, 0 dropped, 0 abandoned");
            assert!(example.end().success());
        }
    }

    #[test]
    fn one_in_the_background_leaves_signals_alone() {
        let process = Process::program("in_the_background");
        process.until("at work");
        process.signal("-TERM");
        assert_eq!(process.end().signal(), Some(15));
    }

    #[test]
    fn another_signal_ends_the_patience() {
        let process = Process::program("an_hour_of_patience");
        process.until("at work");
        process.signal("-TERM");
        process.until("SIGTERM: active runs have 3600s to finish");
        let began = Instant::now();
        process.signal("-INT");
        process.until("SIGINT during the shutdown: active runs are cancelled");
        process.until("stopped: 0 finished, 0 cancelled, 1 dropped, 0 abandoned");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert!(process.end().success());
    }

    #[test]
    fn signals_are_heeded_even_if_jobs_block_every_thread() {
        let process = Process::program("no_thread_left");
        process.until("at work");
        process.signal("-TERM");
        process.until("stopped: 0 finished, 0 cancelled, 0 dropped, 2 abandoned");
        assert!(process.end().success());
    }

    #[test]
    fn no_panic_is_so_much_as_caught() {
        assert!(Process::program("dropped_anywhere").end().success());
    }

    /// The programs of the tests above, each run as a process of its own.
    mod program {
        use super::*;

        /// Whether this process is one of the programs, rather than a run of all ignored tests.
        fn is_wanted() -> bool {
            std::env::var_os(PROGRAM).is_some()
        }

        /// Prints a line when `run` has had time to listen, which only a signal would show; and
        /// ends the process in any case if the test does not.
        fn say_at_work() {
            thread::spawn(|| {
                thread::sleep(SECOND);
                println!("at work");
                thread::sleep(2 * PATIENCE);
                std::process::exit(1);
            });
        }

        #[test]
        #[ignore = "a program for other tests"]
        fn in_the_background() {
            if is_wanted() {
                let _scheduler = BackgroundScheduler::new().unwrap();
                say_at_work();
                thread::sleep(2 * PATIENCE);
            }
        }

        #[test]
        #[ignore = "a program for other tests"]
        fn dropped_anywhere() {
            if is_wanted() {
                std::panic::set_hook(Box::new(|_| std::process::exit(1)));
                drop(BackgroundScheduler::new().unwrap());
                for runtime in runtimes() {
                    runtime.block_on(async {
                        let scheduler = BackgroundScheduler::new().unwrap();
                        scheduler.block_on(scheduler.pause()).unwrap_err();
                        drop(BlockingScheduler::new().unwrap());
                        scheduler.shutdown().unwrap_err();
                    });
                }
                // The runtimes have yet to end.
                thread::sleep(SECOND);
            }
        }

        #[test]
        #[ignore = "a program for other tests"]
        fn an_hour_of_patience() {
            if is_wanted() {
                tracing_subscriber::fmt().with_ansi(false).init();
                let scheduler = BlockingScheduler::new().unwrap().within(3600 * SECOND);
                stubborn(&scheduler).recv().unwrap();
                say_at_work();
                println!("stopped: {}", scheduler.run().unwrap());
            }
        }

        #[test]
        #[ignore = "a program for other tests"]
        fn no_thread_left() {
            if is_wanted() {
                let workers = Workers::new(2);
                let scheduler = BlockingScheduler::start_on(workers, Scheduler::builder());
                let scheduler = scheduler.unwrap().within(Duration::ZERO);
                let _blocked = [hogging(&scheduler), hogging(&scheduler)];
                say_at_work();
                println!("stopped: {}", scheduler.run().unwrap());
            }
        }
    }
}

mod waiting {
    use super::*;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Note;

    impl Task for Note {
        const NAME: &'static str = "note";
        type Output = ();

        async fn run(self, _: Context) {}
    }

    #[test]
    fn everything_that_is_awaited_can_be_waited_for() {
        let scheduler = BackgroundScheduler::new().unwrap();
        let job = scheduler.add(every(SECOND), || async {}).id("job").tag("x").wait().unwrap();
        assert!(!job.get().wait().unwrap().paused);
        assert_eq!(scheduler.jobs().tag("x").pause().wait().unwrap(), 1);
        assert!(scheduler.jobs().wait().unwrap()[0].paused);
        job.remove().wait().unwrap();
        assert!(matches!(job.wait().unwrap(), End::Removed));
        assert!(scheduler.job("job").get().wait().unwrap_err().is_unknown_job());

        let value = scheduler.add_once(now(), async { 42 }).wait().unwrap();
        assert_eq!(value.wait().unwrap(), 42);
        let failing = async { Err::<(), _>("out of paper") };
        let failing = scheduler.try_add_once(now(), failing).wait().unwrap();
        assert!(failing.wait().unwrap_err().is_failed());

        let mut add = scheduler.add(every(MILLISECOND).times(2), || async {});
        let mut runs = add.runs();
        let mut job = add.wait().unwrap();
        let mut count = 0;
        while let Some(run) = runs.next().wait().unwrap() {
            count += 1 + run.coalesced;
            assert!(run.outcome.is_success());
        }
        assert_eq!(count, 2);
        assert!(matches!((&mut job).wait().unwrap(), End::Completed));
        let report = Scheduler::shutdown(&scheduler).within(SECOND).wait().unwrap();
        assert!(report.is_clean());
    }

    #[test]
    fn a_store_is_waited_for_by_threads_of_no_runtime() {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("waiting-{}.db", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
        let store = runtime.block_on(SqliteStore::open(&path)).unwrap();
        let builder = Scheduler::builder().store(store).task::<Note>();
        let scheduler = BackgroundScheduler::start(builder).unwrap();
        let job = scheduler.add(every(SECOND), Note).id("note").wait().unwrap();
        scheduler.add(every(SECOND), || async {}).id("closure").wait().unwrap();
        let error = scheduler.add(every(SECOND), || async {}).id("note").wait().unwrap_err();
        assert!(error.is_duplicate_id());
        assert_eq!(scheduler.jobs().wait().unwrap().len(), 2);
        assert_eq!(scheduler.jobs().pause().wait().unwrap(), 2);
        job.resume().wait().unwrap();
        job.run_now().wait().unwrap();
        let jobs = scheduler.export().wait().unwrap();
        assert_eq!(scheduler.unhandled().wait().unwrap().len(), 0);
        assert_eq!(scheduler.remove_all().wait().unwrap(), 2);
        assert_eq!(scheduler.import(&jobs, Default::default()).wait().unwrap(), 1);
        assert!(scheduler.next_fire().wait().unwrap().is_some());
        scheduler.shutdown().unwrap();
        let _ = std::fs::remove_file(&path);
    }

    #[test]
    fn a_thread_of_no_runtime_waits_for_the_scheduler_of_another() {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let scheduler = runtime.block_on(async { Scheduler::new() });
        let value = scheduler.add_once(after(10 * MILLISECOND), async { 7 }).wait().unwrap();
        assert_eq!(in_time(|| value.wait()).unwrap(), 7);
        drop(scheduler);
    }

    #[test]
    fn in_async_code_it_says_what_to_write_and_does_nothing() {
        for runtime in runtimes() {
            let scheduler = BackgroundScheduler::new().unwrap();
            runtime.block_on(async {
                let error = scheduler.add(every(SECOND), || async {}).wait().unwrap_err();
                assert!(error.is_no_runtime(), "{error:?}");
                says(&error, &["`wait` was called in async code", "await", "`spawn_blocking`"]);
            });
            assert!(scheduler.is_empty());
            let clone = Scheduler::clone(&scheduler);
            let job = move || clone.add(every(SECOND), || async {}).wait().map(drop);
            let added = runtime.block_on(async { tokio::task::spawn_blocking(job).await });
            added.unwrap().unwrap();
            assert_eq!(scheduler.len(), 1);
        }
    }

    #[test]
    fn a_job_may_wait_if_its_work_is_blocking() {
        let scheduler = BackgroundScheduler::new().unwrap();
        let refused = scheduler.add_once(now(), |cx: Context| async move {
            cx.scheduler().pause().wait().unwrap_err().is_no_runtime()
        });
        assert!(refused.wait().unwrap().wait().unwrap());
        let (sender, added) = mpsc::channel();
        let adds = blocking(move |cx: Context| {
            let job = cx.scheduler().add(every(SECOND), || async {}).wait();
            sender.send(job.is_ok()).unwrap();
        });
        scheduler.add(now(), adds).wait().unwrap().wait().unwrap();
        assert!(added.recv().unwrap());
    }
}
