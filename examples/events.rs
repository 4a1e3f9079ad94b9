//! Ways to receive events: `tracing`, a callback, and a stream with a filter; and what happens to a
//! listener that is too slow.
//!
//! ```text
//! cargo run --example events
//! ```

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use punctual::{
    BoxError, EventFilter, EventKind, EventPayload, Scheduler,
    trigger::{after, every},
};
use tokio::{sync::oneshot, time::sleep};
use tracing::Level;
use tracing_subscriber::{
    Layer as _, filter::filter_fn, fmt::format::FmtSpan, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    log();

    // A callback, set before the start, so that it receives all events. It counts the fates of fire
    // times and sends the counts at the last event.
    let kinds = [EventKind::Executed, EventKind::Failed, EventKind::Skipped, EventKind::ShutDown];
    let (sender, counted) = oneshot::channel();
    let mut sender = Some(sender);
    let mut counts = BTreeMap::new();
    let scheduler = Scheduler::builder()
        // The buffer of each listener: small, so that one of them falls behind.
        .event_buffer(16)
        .on_event(EventFilter::new().kinds(kinds), move |event| {
            if event.payload.kind() != EventKind::ShutDown {
                *counts.entry(format!("{:?}", event.payload.kind())).or_insert(0) += 1;
            } else if let Some(sender) = sender.take() {
                // If main failed, there is no receiver.
                let _ = sender.send(std::mem::take(&mut counts));
            }
        })
        .start()
        .await?;

    // A stream with a filter. Other events cost nothing, and never make the stream lag.
    let trouble = EventFilter::new().kinds([EventKind::Failed, EventKind::Skipped]);
    let mut trouble = scheduler.events_matching(trouble);
    let alerts = tokio::spawn(async move {
        let mut alerts = 0;
        while let Some(event) = trouble.next().await {
            println!("ALERT {event}");
            alerts += 1;
        }
        alerts
    });

    // A slow listener. The scheduler never waits: the oldest events are dropped, and `Lagged` has
    // their number.
    let mut everything = scheduler.events();
    let slow = tokio::spawn(async move {
        let mut lost = 0;
        while let Some(event) = everything.next().await {
            if let EventPayload::Lagged { missed } = event.payload {
                println!("SLOW  {event}");
                lost += missed;
            } else {
                sleep(Duration::from_millis(20)).await;
            }
        }
        lost
    });

    // Work that succeeds, then fails, then panics. A panic is only the failure of its run.
    static INVOICES: AtomicU32 = AtomicU32::new(1);
    scheduler
        .add(every(Duration::from_millis(200)).times(3), || async {
            let invoice = INVOICES.fetch_add(1, Relaxed);
            tracing::info!(invoice, "sending");
            match invoice {
                1 => Ok(()),
                2 => Err("the mail server is out to lunch"),
                _ => panic!("an invoice without a customer"),
            }
        })
        .id("invoices")
        .await?;
    // Work that takes longer than its period.
    scheduler
        .add(every(Duration::from_millis(250)).times(3), || sleep(Duration::from_millis(300)))
        .id("backup")
        .await?;

    // More events at once than the buffer holds.
    let reminders =
        (1..=100).map(|n| scheduler.add(after(Duration::from_secs(3600 * n)), || async {}));
    scheduler.add_all(reminders).await?;

    sleep(Duration::from_millis(1200)).await;
    // Streams and callbacks end with the scheduler.
    scheduler.shutdown().await;
    println!("the callback counted {:?}", counted.await?);
    println!("the stream of trouble brought {} alerts", alerts.await?);
    println!("the slow listener was told that it missed {} events", slow.await?);
    Ok(())
}

/// Each run is a span, at level debug, closed with its outcome; the log lines of its work are
/// inside. Each event is logged too: failed and missed runs as warnings, events of the scheduler at
/// info, all others at debug.
fn log() {
    let layer = tracing_subscriber::fmt::layer()
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(std::io::stdout().is_terminal())
        .with_filter(filter_fn(|meta| meta.is_span() || *meta.level() <= Level::INFO));
    tracing_subscriber::registry().with(layer).init();
    // A service logs its panics, too. This one is logged inside the span of its run.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}
