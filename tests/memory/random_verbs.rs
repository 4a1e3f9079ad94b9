//! Random operations of all kinds, on several jobs that follow each other and share limits: each
//! run has one fate, all permits are released, and nothing hangs.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use punctual::{
    AsyncExecutor, BoxError, Coalesce, Context, EventFilter, EventKind, EventPayload, OnConflict,
    Overlap, Retry, Scheduler,
    chrono::TimeDelta,
    testing::ManualClock,
    trigger::{IntoTrigger, Trigger, after, after_any, after_failure, after_success, every, now},
};
use tokio::time::{sleep, timeout};

use crate::SECOND;

const MS: Duration = Duration::from_millis(1);

struct Rng(u64);

impl Rng {
    fn next(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

async fn random_verbs(seed: u64) -> Result<(), String> {
    let mut rng = Rng(seed);
    let clock = ManualClock::running("2026-03-29T00:30:00Z".parse().unwrap());
    let scheduler = Scheduler::builder()
        .clock(clock.clone())
        .event_buffer(1_000_000)
        .add_executor("two", AsyncExecutor::new().max_running(2))
        .start()
        .await
        .unwrap();
    let events = scheduler.events();
    let going = Arc::new(AtomicU32::new(0));
    let mut handles = Vec::new();
    let steps = 150;
    for _ in 0..steps {
        let id = format!("j{}", rng.next(8));
        let job = scheduler.job(id.as_str());
        match rng.next(14) {
            0..=3 => {
                let trigger: Trigger = match rng.next(6) {
                    0 => after_any(format!("j{}", rng.next(8))).into_trigger().unwrap(),
                    1 => after_success(format!("j{}", rng.next(8))).into_trigger().unwrap(),
                    2 => after_failure(format!("j{}", rng.next(8))).into_trigger().unwrap(),
                    3 => after(MS * rng.next(5000) as u32).into_trigger().unwrap(),
                    4 => every(MS * (200 + rng.next(3000) as u32))
                        .times(1 + rng.next(20))
                        .into_trigger()
                        .unwrap(),
                    _ => every(MS * (100 + rng.next(3000) as u32)).into_trigger().unwrap(),
                };
                let takes = MS * rng.next(4000) as u32;
                let fails = rng.next(3);
                let going = going.clone();
                struct G(Arc<AtomicU32>);
                impl Drop for G {
                    fn drop(&mut self) {
                        self.0.fetch_sub(1, Ordering::SeqCst);
                    }
                }
                let mut add = scheduler.add(trigger, move |cx: Context| {
                    let going = going.clone();
                    async move {
                        going.fetch_add(1, Ordering::SeqCst);
                        let _g = G(going);
                        if !takes.is_zero() { tokio::select! { () = sleep(takes) => {} , () = cx.cancelled(), if fails == 1 => {} } }
                        if fails == 2 || (fails == 1 && cx.attempt() == 1) { return Err(BoxError::from("x")); }
                        Ok(())
                    }
                }).id(id.as_str()).on_conflict(OnConflict::Replace).cancel_grace(SECOND);
                add = match rng.next(4) {
                    0 => add.overlap(Overlap::Queue(3)),
                    1 => add.overlap(Overlap::CancelPrevious),
                    _ => add,
                };
                add = match rng.next(3) {
                    0 => add.group("g", 2),
                    1 => add.executor("two"),
                    _ => add.group("h", 1).executor("two"),
                };
                add = match rng.next(3) {
                    0 => add.coalesce(Coalesce::All),
                    1 => add.coalesce(Coalesce::Earliest).misfire_grace_time(2 * SECOND),
                    _ => add,
                };
                if rng.next(2) == 0 {
                    add = add.retry(Retry::fixed(MS * rng.next(3000) as u32).times(2));
                }
                if rng.next(3) == 0 {
                    add = add.timeout(SECOND);
                }
                add = add.max_instances(1 + rng.next(3) as u32).priority(rng.next(3) as i32);
                if let Ok(handle) = add.await {
                    if rng.next(4) == 0 {
                        let t = handle.cancel_token();
                        if rng.next(3) == 0 {
                            t.cancel();
                        }
                    }
                    handles.push(handle);
                }
            }
            4 => drop(job.pause().await),
            5 => drop(job.resume().await),
            6 => drop(job.run_now().await),
            7 => drop(job.remove().await),
            8 => {
                let n = 1 + rng.next(3) as u32;
                let g = rng.next(2);
                drop(
                    job.modify(|s| {
                        let s = s.max_instances(n);
                        if g == 0 {
                            s.group("g", 2)
                        } else {
                            s.group("h", 1).overlap(Overlap::Queue(2))
                        }
                    })
                    .await,
                )
            }
            9 => {
                let t = match rng.next(2) {
                    0 => every(MS * (100 + rng.next(2000) as u32)).into_trigger().unwrap(),
                    _ => after_any(format!("j{}", rng.next(8))).into_trigger().unwrap(),
                };
                drop(job.reschedule(t).await)
            }
            10 => drop(scheduler.pause().await),
            11 => drop(scheduler.resume().await),
            12 => clock.step(TimeDelta::milliseconds(rng.next(20000) as i64 - 10000)),
            _ => clock.advance(MS * rng.next(5000) as u32),
        }
        if rng.next(2) == 0 {
            sleep(MS * rng.next(3000) as u32).await;
        }
    }
    if seed % 4 == 1 {
        let n = handles.len();
        let _ = n;
        let report = scheduler.shutdown().within(2 * SECOND).await;
        let _ = report;
    }
    if seed % 4 == 2 {
        let _ = scheduler.remove_all().await.unwrap();
    }
    if seed % 4 == 3 {
        drop(scheduler);
        for handle in handles {
            let id = handle.id().clone();
            if timeout(1000 * SECOND, handle).await.is_err() {
                return Err(format!("{id} never ends"));
            }
        }
        if going.load(Ordering::SeqCst) != 0 {
            return Err("going".into());
        }
        return fates(events).await;
    }
    if seed % 4 == 1 {
        for handle in handles {
            let id = handle.id().clone();
            if timeout(1000 * SECOND, handle).await.is_err() {
                return Err(format!("{id} never ends"));
            }
        }
        if going.load(Ordering::SeqCst) != 0 {
            return Err("going".into());
        }
        return fates(events).await;
    }
    scheduler.resume().await.unwrap();
    sleep(3 * SECOND).await;
    for _ in 0..3 {
        for n in (0..8).rev() {
            let _ = scheduler.job(format!("j{n}")).remove().await;
        }
    }
    for handle in handles {
        let id = handle.id().clone();
        if timeout(1000 * SECOND, handle).await.is_err() {
            return Err(format!("{id} never ends"));
        }
    }
    if !scheduler.is_empty() {
        return Err(format!("{} jobs left", scheduler.len()));
    }
    for g in [("g", 2), ("h", 1)] {
        let job = scheduler.add(now(), || async {}).group(g.0, g.1).executor("two").await.unwrap();
        if timeout(SECOND, job).await.is_err() {
            return Err(format!("no room in {g:?}"));
        }
    }
    if going.load(Ordering::SeqCst) != 0 {
        return Err("work is going".into());
    }
    let report = scheduler.shutdown().await;
    if !report.is_clean() {
        return Err(report.to_string());
    }
    fates(events).await
}

async fn fates(mut events: punctual::Events) -> Result<(), String> {
    let (mut submitted, mut ended) = (HashSet::new(), HashMap::new());
    while let Some(event) = events.next().await {
        let over = match event.payload {
            EventPayload::Submitted { run, .. } => {
                if !submitted.insert(run) {
                    return Err(format!("{run} submitted twice"));
                }
                None
            }
            EventPayload::Executed(run)
            | EventPayload::Failed(run)
            | EventPayload::TimedOut(run)
            | EventPayload::Cancelled(run)
            | EventPayload::Abandoned(run) => Some(run.id),
            EventPayload::Missed { run, .. } | EventPayload::Skipped { run, .. } => run,
            _ => None,
        };
        if let Some(run) = over {
            *ended.entry(run).or_insert(0) += 1;
        }
    }
    for run in &submitted {
        if ended.get(run) != Some(&1) {
            return Err(format!("run {run}: {:?} fates", ended.get(run)));
        }
    }
    if let Some((run, n)) = ended.iter().find(|(_, n)| **n != 1) {
        return Err(format!("run {run}: {n} fates"));
    }
    let _ = EventFilter::new().kinds([EventKind::Submitted]);
    Ok(())
}

#[test]
fn random_verbs_leave_nothing_behind() {
    let seeds = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(300_u64);
    let mut bad = 0;
    for seed in 0..seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let outcome = std::panic::catch_unwind(|| {
            runtime.block_on(async { timeout(100_000 * SECOND, random_verbs(seed)).await })
        });
        match outcome {
            Ok(Ok(Ok(()))) => {}
            other => {
                bad += 1;
                println!("seed {seed}: {other:?}");
                if bad > 8 {
                    break;
                }
            }
        }
        std::mem::forget(runtime);
    }
    assert_eq!(bad, 0);
}
