//! A steady stream of fires: recurring jobs whose phases are spread evenly over their period.
//!
//! Fire times are whole milliseconds of the wall clock. Each run marks its own fire time with how
//! late it is, so that one that is lost, early or run twice is noticed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use hdrhistogram::Histogram;
use punctual::{Context, Scheduler, SchedulerBuilder, trigger::every};
use tokio::runtime::Runtime;
use tokio_util::time::DelayQueue;

use crate::common::{Usage, both_clocks, jobs, seen_to, stop};

/// How long the jobs have to be there before the first is due.
const LEAD: Duration = Duration::from_millis(500);

/// How long after the last fire time its run may come.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to fire, and how often.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    pub(crate) per_second: usize,
    pub(crate) period: Duration,
    pub(crate) window: Duration,
}

/// What came of it: every fire time ran once, and none early.
pub(crate) struct Flow {
    /// Microseconds from the fire time until the run had begun.
    late: Histogram<u64>,
    /// CPU seconds per second.
    pub(crate) cpu: f64,
    /// Per second.
    pub(crate) wake_ups: f64,
}

impl Flow {
    /// How late the run at this quantile began, in milliseconds.
    pub(crate) fn late_ms(&self, quantile: f64) -> f64 {
        self.late.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// What fires a stream on a runtime.
type Contender = (&'static str, fn(&Runtime, Stream) -> Flow);

const CONTENDERS: [Contender; 3] = [
    ("floor", floor),
    ("punctual", |runtime, stream| ours(runtime, stream, Scheduler::builder())),
    ("with precise_timers()", |runtime, stream| {
        ours(runtime, stream, Scheduler::builder().precise_timers())
    }),
];

/// Lets them take turns; says what came of each round of those that are wanted.
pub(crate) fn turns(
    runtime: &Runtime,
    stream: Stream,
    rounds: usize,
    wants: impl Fn(&str) -> bool,
) -> Vec<(&'static str, Vec<Flow>)> {
    let wanted = CONTENDERS.into_iter().filter(|(name, _)| wants(name));
    let mut all: Vec<_> = wanted.map(|(name, run)| (name, run, Vec::new())).collect();
    for _ in 0..rounds {
        for (_, run, flows) in &mut all {
            flows.push(run(runtime, stream));
        }
    }
    all.into_iter().map(|(name, _, flows)| (name, flows)).collect()
}

fn ours(runtime: &Runtime, stream: Stream, builder: SchedulerBuilder) -> Flow {
    let (scheduler, log) = runtime.block_on(async {
        mid_millisecond();
        let scheduler = builder.start().await.expect("there is a runtime");
        let log = Log::new(stream, LEAD);
        let all = jobs(stream.jobs()).map(|job| {
            let (log, start) = (log.clone(), log.wall);
            let first = start + Duration::from_millis(stream.phase(job));
            scheduler.add(every(stream.period).starting_at(first), move |cx: Context| async move {
                log.ran(job, (cx.fire_time() - start).num_milliseconds() as u64);
            })
        });
        drop(scheduler.add_all(all).await.expect("nothing is wrong with the jobs"));
        seen_to(&scheduler).await;
        (scheduler, log)
    });
    let flow = log.watch();
    runtime.block_on(async {
        scheduler.remove_all().await.expect("the scheduler is open");
        stop(scheduler).await;
    });
    flow
}

fn floor(runtime: &Runtime, stream: Stream) -> Flow {
    let (driver, log) = runtime.block_on(async {
        mid_millisecond();
        let mut queue = DelayQueue::new();
        let log = Log::new(stream, LEAD);
        for job in jobs(stream.jobs()) {
            queue.insert_at(job, (log.start + Duration::from_millis(stream.phase(job))).into());
        }
        (tokio::spawn(drive(queue, log.clone())), log)
    });
    let flow = log.watch();
    driver.abort();
    flow
}

/// The floor's task: runs every job when it is due, and again a period later.
async fn drive(mut queue: DelayQueue<u32>, log: Arc<Log>) {
    while let Some(due) = queue.next().await {
        // The queue has rounded the deadline up to its own milliseconds.
        let fire_time = (due.deadline().into_std() - log.start).as_millis() as u64;
        let (job, log) = (due.into_inner(), log.clone());
        let next = log.start + Duration::from_millis(fire_time) + log.stream.period;
        queue.insert_at(job, next.into());
        tokio::spawn(async move { log.ran(job, fire_time) });
    }
}

/// Waits for the middle of a millisecond of the wall clock: a `DelayQueue` counts milliseconds from
/// when it is made, so that decides how late it wakes for a whole one.
pub(super) fn mid_millisecond() {
    while !(450..550).contains(&(Utc::now().timestamp_subsec_micros() % 1000)) {
        std::hint::spin_loop();
    }
}

impl Stream {
    pub(super) fn jobs(&self) -> usize {
        (self.per_second as f64 * self.period.as_secs_f64()) as usize
    }

    /// How far into the period a job fires, in milliseconds.
    pub(super) fn phase(&self, job: u32) -> u64 {
        u64::from(job) * self.period.as_millis() as u64 / self.jobs() as u64
    }

    /// How often each job fires.
    pub(super) fn times(&self) -> usize {
        (self.window.as_millis() / self.period.as_millis()) as usize
    }
}

/// When each fire time ran.
pub(super) struct Log {
    stream: Stream,
    jobs: usize,
    period_ms: u64,
    /// When the first job is due, by three clocks.
    pub(super) wall: DateTime<Utc>,
    start: Instant,
    system: SystemTime,
    /// How late each fire time ran, in microseconds, plus one: 0 means that it did not.
    late: Box<[AtomicU32]>,
    early: AtomicUsize,
    doubled: AtomicUsize,
}

impl Log {
    /// Of a stream that begins in a moment.
    pub(super) fn new(stream: Stream, lead: Duration) -> Arc<Log> {
        let (wall, start) = both_clocks(lead);
        let jobs = stream.jobs();
        Arc::new(Log {
            stream,
            jobs,
            period_ms: stream.period.as_millis() as u64,
            wall,
            start,
            system: wall.into(),
            late: (0..jobs * stream.times()).map(|_| AtomicU32::new(0)).collect(),
            early: AtomicUsize::new(0),
            doubled: AtomicUsize::new(0),
        })
    }

    /// What a job does when it runs for a fire time, so many milliseconds after the start.
    pub(super) fn ran(&self, job: u32, fire_time: u64) {
        let late = SystemTime::now().duration_since(self.system + Duration::from_millis(fire_time));
        let place = (fire_time / self.period_ms) as usize * self.jobs + job as usize;
        let Some(mark) = self.late.get(place) else {
            return; // It is past the window.
        };
        if late.is_err() {
            self.early.fetch_add(1, Ordering::Relaxed);
        }
        if mark.swap(late.unwrap_or_default().as_micros() as u32 + 1, Ordering::Relaxed) != 0 {
            self.doubled.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sleeps through the stream and says what came of it.
    pub(super) fn watch(&self) -> Flow {
        let window = self.stream.window;
        assert!(Instant::now() < self.start, "the jobs were not there in time");
        std::thread::sleep(self.start - Instant::now());
        let before = Usage::now();
        std::thread::sleep((self.start + window).saturating_duration_since(Instant::now()));
        let used = Usage::since(before);
        let deadline = Instant::now() + PATIENCE;
        while self.marks().any(|mark| mark == 0) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let lost = self.marks().filter(|&mark| mark == 0).count();
        let [early, doubled] = [&self.early, &self.doubled].map(|n| n.load(Ordering::Relaxed));
        assert_eq!((lost, early, doubled), (0, 0, 0), "fire times lost, early, and run twice");
        let mut late = Histogram::new(3).expect("three digits are allowed");
        for mark in self.marks() {
            late.record(u64::from(mark) - 1).expect("it grows as it needs to");
        }
        Flow {
            late,
            cpu: used.cpu.as_secs_f64() / window.as_secs_f64(),
            // The sleep above is one of them.
            wake_ups: used.wake_ups.saturating_sub(1) as f64 / window.as_secs_f64(),
        }
    }

    fn marks(&self) -> impl Iterator<Item = u32> {
        self.late.iter().map(|mark| mark.load(Ordering::Relaxed))
    }
}
