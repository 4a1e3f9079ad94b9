//! Runs are spans and events are traced. Alone in its process, since the subscriber is global.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use punctual::{Scheduler, trigger::after};
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn runs_are_spans_and_events_are_traced() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
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

    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(lines.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let scheduler = Scheduler::new();
    let work = || async {
        tracing::info!("inside the work");
        Err::<(), _>("out of paper")
    };
    scheduler.add(after(SECOND), work).id("print").await.unwrap().await;
    scheduler.shutdown().await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let line = |needle: &str| {
        text.lines().find(|line| line.contains(needle)).unwrap_or_else(|| panic!("{text}"))
    };
    let inside = line("inside the work");
    assert!(inside.contains("run{job=print run=1 fire_time="), "{inside}");
    assert!(inside.contains("late_by=0ns"), "{inside}");
    assert!(line("close").contains("outcome=failed: out of paper"), "{}", line("close"));
    assert!(line("Failed print run 1").contains("WARN"), "{text}");
}
