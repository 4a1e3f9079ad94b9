use std::{sync::{Arc, atomic::{AtomicU32, Ordering}}, time::Duration};
use futures::StreamExt;
use punctual::{Context, Scheduler, trigger::{after, cron, every}};

#[tokio::test(start_paused = true)]
async fn smoke() {
    let scheduler = Scheduler::new();
    let n = Arc::new(AtomicU32::new(0));
    let m = n.clone();
    let mut add = scheduler.add(every(Duration::from_secs(1)).times(5), move || { let m = m.clone(); async move { m.fetch_add(1, Ordering::SeqCst); } }).id("tick");
    let runs = add.runs();
    let job = add.await.unwrap();
    println!("{}", job.get().await.unwrap());
    println!("{}", job.await);
    let runs: Vec<_> = runs.collect().await;
    assert_eq!(runs.len(), 5);
    for r in &runs { println!("{r:?}"); assert_eq!(r.late_by, Duration::ZERO); }
    assert_eq!(n.load(Ordering::SeqCst), 5);
    let x: u64 = scheduler.add_once(after(Duration::from_secs(10)), async { 42 }).await.unwrap().await.unwrap();
    assert_eq!(x, 42);
    let j = scheduler.add(every(Duration::from_secs(1)), |cx: Context| async move { cx.cancelled().await; }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    j.cancel_token().cancel();
    println!("{}", j.await);
    let report = scheduler.shutdown().await;
    println!("{report}");
}

#[tokio::test(start_paused = true)]
async fn a_year_of_minutely_cron() {
    let scheduler = Scheduler::new();
    let n = Arc::new(AtomicU32::new(0));
    let m = n.clone();
    let t = std::time::Instant::now();
    scheduler.add(cron("* * * * *"), move || { let m = m.clone(); async move { m.fetch_add(1, Ordering::SeqCst); } }).await.unwrap();
    tokio::time::sleep(Duration::from_secs(365*86400)).await;
    println!("{} {:?}", n.load(Ordering::SeqCst), t.elapsed());
}
