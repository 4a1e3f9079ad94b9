//! Timers that are more precise than Tokio's millisecond.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use punctual::{
    Context, Scheduler,
    chrono::{TimeDelta, Utc},
    trigger::{after, every},
};

/// Real time, since the test measures how late a thread is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_start_within_a_fraction_of_a_millisecond_and_never_early() {
    let scheduler = Scheduler::builder().precise_timers().start().await.unwrap();
    let late = Arc::new(Mutex::new(Vec::new()));
    let jobs = (0..10).map(|phase| {
        let start = Utc::now() + TimeDelta::milliseconds(200 + 7 * phase);
        let trigger = every(Duration::from_millis(20)).starting_at(start).times(50);
        let late = late.clone();
        scheduler.add(trigger, move |cx: Context| async move {
            late.lock().unwrap().push(Utc::now() - cx.fire_time());
        })
    });
    for job in scheduler.add_all(jobs).await.unwrap() {
        job.await;
    }
    let mut late = std::mem::take(&mut *late.lock().unwrap());
    late.sort_unstable();
    println!("{} runs, median {}, last {}", late.len(), late[late.len() / 2], late[late.len() - 1]);
    assert!(late[0] >= TimeDelta::zero(), "{} early", late[0]);
    // Tokio's own timers are later by half a millisecond, even on an idle machine.
    assert!(late[late.len() / 2] < TimeDelta::microseconds(700), "{}", late[late.len() / 2]);
    assert_eq!(late.len(), 500, "nothing was missed or lost");
}

#[tokio::test(start_paused = true)]
async fn under_paused_time_they_are_tokios() {
    let scheduler = Scheduler::builder().precise_timers().start().await.unwrap();
    let job = scheduler.add(every(Duration::from_secs(60)).times(1000), || async {}).await.unwrap();
    job.await;
}

#[tokio::test]
async fn time_that_is_paused_later_does_not_stop_them() {
    let scheduler = Scheduler::builder().precise_timers().start().await.unwrap();
    let near = scheduler.add(after(Duration::from_millis(3)), || async {}).await.unwrap();
    let far = scheduler.add(after(Duration::from_secs(3600)), || async {}).await.unwrap();
    tokio::task::yield_now().await;
    tokio::time::pause();
    near.await;
    far.await;
}
