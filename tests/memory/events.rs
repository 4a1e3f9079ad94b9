//! Events: their receivers, their order, and slow listeners.

use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use punctual::{
    Event, EventFilter, EventKind, EventPayload, Scheduler,
    trigger::{after, every},
};
use tokio::time::sleep;

use crate::SECOND;

#[tokio::test(start_paused = true)]
async fn a_life_in_events() {
    let all = Arc::new(Mutex::new(Vec::new()));
    let seen = all.clone();
    let scheduler = Scheduler::builder()
        .on_event(EventFilter::new(), move |event| seen.lock().unwrap().push(event))
        .start()
        .await
        .unwrap();
    let job = scheduler
        .add(every(SECOND).times(9), || async { Err::<(), _>("no luck") })
        .id("job")
        .await
        .unwrap();
    sleep(SECOND + SECOND / 2).await;
    job.pause().await.unwrap();
    job.resume().await.unwrap();
    job.modify(|settings| settings.priority(3)).await.unwrap();
    scheduler.pause().await.unwrap();
    sleep(2 * SECOND).await;
    scheduler.resume().await.unwrap();
    sleep(SECOND).await;
    scheduler.remove_all().await.unwrap();
    scheduler.shutdown().await;
    sleep(SECOND).await;

    use EventKind::*;
    let events = all.lock().unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.payload.kind()).collect();
    assert_eq!(
        kinds,
        [
            Started,
            ExecutorAdded,
            ExecutorAdded,
            JobAdded,
            Submitted,
            Failed,
            JobPaused,
            JobResumed,
            JobModified,
            Paused,
            Resumed,
            Coalesced,
            Submitted,
            Failed,
            Submitted,
            Failed,
            JobRemoved,
            AllJobsRemoved,
            ShutDown
        ],
        "{events:#?}"
    );
    let sequence: Vec<_> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequence, (1..=events.len() as u64).collect::<Vec<_>>());
    assert!(events.windows(2).all(|pair| pair[0].at <= pair[1].at));
    let failed = events.iter().find(|event| event.payload.kind() == Failed).unwrap().to_string();
    assert!(failed.contains("job run 1") && failed.ends_with("failed: no luck"), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn a_filter_passes_its_kinds_and_its_job_alone() {
    let scheduler = Scheduler::new();
    let executed = EventFilter::new().kinds([EventKind::Executed]).job("one");
    let events = scheduler.events_matching(executed);
    scheduler.add(every(SECOND), || async {}).id("one").await.unwrap();
    scheduler.add(every(SECOND), || async {}).id("two").await.unwrap();
    sleep(3 * SECOND + SECOND / 2).await;
    scheduler.shutdown().await;
    let events: Vec<Event> = events.collect().await;
    assert_eq!(events.len(), 3);
    for event in events {
        assert!(
            matches!(&event.payload, EventPayload::Executed(run) if run.job == *"one"),
            "{event}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_lagging_listener_receives_the_number_of_missed_events() {
    let scheduler = Scheduler::builder().event_buffer(10).start().await.unwrap();
    let mut slow = scheduler.events_matching(EventFilter::new().kinds([EventKind::Executed]));
    let mut add = scheduler.add(every(SECOND).times(100), || async {});
    let mut runs = add.runs();
    add.await.unwrap().await;
    let lagged = slow.next().await.unwrap();
    assert!(matches!(lagged.payload, EventPayload::Lagged { missed: 90 }), "{lagged}");
    assert!(
        matches!(&slow.next().await.unwrap().payload, EventPayload::Executed(run) if run.id.to_string() == "91")
    );
    assert_eq!(runs.next().await.unwrap().id.to_string(), "91");
    assert_eq!(runs.lagged(), 90);
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_costs_that_event_alone() {
    let scheduler = Scheduler::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let filter = EventFilter::new().kinds([EventKind::Executed]);
    scheduler
        .on_event(filter, move |event| {
            let EventPayload::Executed(run) = event.payload else { return };
            log.lock().unwrap().push(run.id.to_string());
            assert_ne!(run.id.to_string(), "2", "a callback may panic");
        })
        .unwrap();
    scheduler.add(every(SECOND).times(4), || async {}).await.unwrap().await;
    sleep(SECOND).await;
    assert_eq!(*seen.lock().unwrap(), ["1", "2", "3", "4"]);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_is_dropped_is_forgotten() {
    let scheduler = Scheduler::new();
    for _ in 0..1000 {
        let mut events = scheduler.events();
        let job = scheduler.add(after(SECOND), || async {}).await.unwrap();
        assert_eq!(events.next().await.unwrap().payload.kind(), EventKind::JobAdded);
        job.await;
    }
    // An event stream of a scheduler that is gone ends at once.
    scheduler.shutdown().await;
    assert!(scheduler.events().next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn kinds_lists_of_kinds_and_filters_go_wherever_a_filter_goes() {
    use EventKind::{Executed, JobAdded, JobRemoved};
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = |name: &'static str| {
        let heard = heard.clone();
        move |event: Event| heard.lock().unwrap().push((name, event.payload.kind()))
    };
    let kinds = vec![JobAdded, Executed];
    let scheduler = Scheduler::builder()
        .on_event(JobAdded | Executed, hear("joined"))
        .on_event([JobAdded, Executed], hear("array"))
        .start()
        .await
        .unwrap();
    scheduler.on_event(&kinds[..], hear("slice")).unwrap();
    scheduler.on_event(kinds, hear("list")).unwrap();
    scheduler.on_event((JobAdded | Executed).job("other"), hear("other job")).unwrap();
    let one = scheduler.events_matching(Executed);
    let three = scheduler.events_matching(JobAdded | Executed | JobRemoved);
    let all = scheduler.events_matching(EventFilter::new() | Executed);
    scheduler.add(after(SECOND), || async {}).id("one").await.unwrap().await;
    scheduler.shutdown().await;
    sleep(SECOND).await;
    let kinds = async |events: punctual::Events| -> Vec<EventKind> {
        events.map(|event| event.payload.kind()).collect().await
    };
    assert_eq!(kinds(one).await, [Executed]);
    assert_eq!(kinds(three).await, [JobAdded, Executed, JobRemoved]);
    assert!(kinds(all).await.contains(&EventKind::Submitted));
    let heard = heard.lock().unwrap();
    for name in ["joined", "array", "slice", "list"] {
        let kinds: Vec<_> =
            heard.iter().filter(|(by, _)| *by == name).map(|(_, kind)| *kind).collect();
        assert_eq!(kinds, [JobAdded, Executed], "{name}");
    }
    assert!(!heard.iter().any(|(by, _)| *by == "other job"));
}

#[test]
fn the_table_of_kinds_lists_each_of_them() {
    let source = include_str!("../../src/event.rs");
    for kind in EventKind::ALL {
        let entry = format!("[`{kind:?}`](EventKind::{kind:?})");
        assert_eq!(source.matches(&entry).count(), 1, "{entry}");
    }
}
