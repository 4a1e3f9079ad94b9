//! Many threads, one scheduler: every fire time has one fate, every run one outcome, and nothing is
//! left behind.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, future::join_all};
use punctual::{
    Context, End, Event, EventPayload, JobId, Outcome, RunId, Scheduler,
    trigger::{after, every},
};
use tokio::time::sleep;

/// A generator of the same numbers in every run of the test.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// About three seconds of real time on real threads, since the test is about those.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn verbs_from_many_threads_lose_and_double_nothing() {
    let scheduler = Scheduler::builder()
        .event_buffer(2_000_000)
        .cancel_grace(Duration::from_millis(50))
        .start()
        .await
        .unwrap();
    let events = scheduler.events();
    let started = Arc::new(AtomicUsize::new(0));
    let threads = (0..8).map(|seed| {
        let (scheduler, started) = (scheduler.clone(), started.clone());
        tokio::spawn(hammer(scheduler, seed, started))
    });
    for thread in join_all(threads).await {
        thread.unwrap();
    }
    let report = scheduler.shutdown().within(Duration::from_millis(300)).await;
    assert!(report.abandoned.is_empty(), "{report}");
    assert!(scheduler.is_empty());
    check(&events.collect::<Vec<_>>().await, started.load(Ordering::SeqCst));
}

async fn hammer(scheduler: Scheduler, seed: u64, started: Arc<AtomicUsize>) {
    let mut dice = Dice(seed);
    let mut jobs = Vec::new();
    for step in 0..400 {
        let running = Arc::new(AtomicI64::new(0));
        let most = 1 + dice.roll(3) as i64;
        let started = started.clone();
        let takes = Duration::from_millis(dice.roll(12));
        let fails = dice.roll(10) == 0;
        let work = move |cx: Context| async move {
            /// Counts down at any end of the run.
            struct Running(Arc<AtomicI64>);
            impl Drop for Running {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, Ordering::SeqCst);
                }
            }
            started.fetch_add(1, Ordering::SeqCst);
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            let _running = Running(running);
            assert!(now <= most, "max_instances");
            assert!(chrono::Utc::now() >= cx.fire_time(), "never early");
            if !takes.is_zero() {
                sleep(takes).await;
            }
            assert!(!fails, "as arranged");
        };
        let period = Duration::from_millis(1 + dice.roll(9));
        let mut add = scheduler.add(every(period), work).max_instances(most as u32);
        if dice.roll(3) == 0 {
            add = add.id(format!("{}", dice.roll(40))).on_conflict(punctual::OnConflict::Replace);
        }
        if dice.roll(4) == 0 {
            add = add.coalesce(punctual::Coalesce::All).max_catch_up(5);
        }
        if dice.roll(4) == 0 {
            add = add.misfire_grace_time(Duration::from_millis(1)).jitter(Duration::from_millis(3));
        }
        jobs.push(add.await.unwrap());
        let job = &jobs[dice.roll(jobs.len() as u64) as usize];
        // A verb on a job that is gone returns an error, which is fine.
        let _ = match dice.roll(12) {
            0 => job.pause().await,
            1 => job.resume().await,
            2 => job.remove().await,
            3 | 4 => {
                job.cancel_token().cancel();
                Ok(())
            }
            5 => job.run_now().await.map(drop),
            6 => job.reschedule(every(Duration::from_millis(1 + dice.roll(20)))).await,
            7 => job.reschedule(after(Duration::from_millis(dice.roll(5)))).await,
            8 => job.modify(|settings| settings.priority(step)).await,
            9 if seed == 0 => scheduler.pause().await,
            10 if seed == 0 => scheduler.resume().await,
            _ => Ok(()),
        };
        if jobs.len() > 30 {
            let job = jobs.swap_remove(dice.roll(30) as usize);
            job.cancel_token().cancel();
            let waiting = job.clone();
            let end = match tokio::time::timeout(Duration::from_secs(5), waiting).await {
                Ok(end) => end,
                Err(_) => panic!(
                    "{seed} {step}: {job:?} does not end: {:?}, token {:?}",
                    job.get().await,
                    job.cancel_token()
                ),
            };
            assert!(matches!(end, End::Cancelled | End::Replaced | End::Removed | End::Completed));
        }
        sleep(Duration::from_millis(dice.roll(6))).await;
    }
}

/// Checks all events.
fn check(events: &[Event], started: usize) {
    let mut submitted: HashSet<RunId> = HashSet::new();
    let mut ended: HashSet<RunId> = HashSet::new();
    let mut called = 0;
    let mut over: HashMap<JobId, u64> = HashMap::new();
    for (n, event) in events.iter().enumerate() {
        assert_eq!(
            event.sequence,
            events[0].sequence + n as u64,
            "no event is lost or out of order"
        );
        let run = match &event.payload {
            EventPayload::Submitted { run, job, .. } => {
                assert!(submitted.insert(*run), "run {run} is submitted twice");
                assert!(
                    !over.contains_key(job) || job.to_string().len() < 3,
                    "{event} after its job was over"
                );
                continue;
            }
            EventPayload::Executed(run)
            | EventPayload::Failed(run)
            | EventPayload::Cancelled(run)
            | EventPayload::Abandoned(run) => {
                called += 1;
                assert!(run.started_at.is_some());
                let arranged = run.outcome.to_string().contains("as arranged");
                assert!(!matches!(run.outcome, Outcome::Panicked(_)) || arranged, "{event}");
                run.id
            }
            EventPayload::Missed { run: Some(run), .. }
            | EventPayload::Skipped { run: Some(run), .. } => *run,
            EventPayload::JobRemoved { job, .. } => {
                over.insert(job.clone(), event.sequence);
                continue;
            }
            EventPayload::Lagged { .. } => panic!("the listener has room for all"),
            _ => continue,
        };
        assert!(submitted.contains(&run), "run {run} ends before it is submitted");
        assert!(ended.insert(run), "run {run} ends twice");
    }
    assert_eq!(submitted.len(), ended.len(), "every run ends");
    assert_eq!(called, started, "what was called is what is reported");
    assert!(started > 10_000, "{started} runs are too few to say anything");
}
