//! What is left after schedulers and stores are gone. Alone in its process, since it counts the
//! threads and the open files of the process.

use std::time::Duration;

use punctual::{Context, Scheduler, Task, store::SqliteStore, trigger::every};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

const MILLISECOND: Duration = Duration::from_millis(1);

#[derive(Serialize, Deserialize)]
struct Nothing;

impl Task for Nothing {
    const NAME: &'static str = "nothing";
    type Output = ();

    async fn run(self, _: Context) {}
}

#[tokio::test]
async fn schedulers_and_stores_leave_no_threads_files_and_tasks() {
    let threads = || std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(0);
    let files = || std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or(0);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let file = std::env::temp_dir().join(format!("punctual-leaks-{}.db", std::process::id()));
    let before = (threads(), files(), tasks());
    for round in 0..30 {
        let store = SqliteStore::open(&file).await.unwrap();
        let scheduler = Scheduler::builder().store(store).task::<Nothing>().start().await.unwrap();
        let add = scheduler.add(every(MILLISECOND * 10), Nothing).id(format!("{round}"));
        let job = add.await.unwrap();
        let _token = job.cancel_token();
        match round % 3 {
            0 => drop(scheduler.shutdown().await),
            1 => drop(scheduler),
            _ => drop(timeout(MILLISECOND, scheduler.shutdown()).await),
        }
    }
    let mut after = before;
    for _ in 0..100 {
        sleep(MILLISECOND * 100).await;
        after = (threads(), files(), tasks());
        if after.0 <= before.0 && after.1 <= before.1 && after.2 <= before.2 {
            for end in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{end}", file.display()));
            }
            return;
        }
    }
    panic!("threads, files, tasks: before {before:?}, after {after:?}");
}
