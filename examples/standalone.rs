//! A program without an async `main`: first a scheduler in the background, then one that blocks.
//!
//! The second one blocks until it is stopped: by Ctrl-C, by SIGTERM, or by one of its jobs. Needs
//! the feature `standalone` of punctual.
//!
//! ```text
//! cargo run --example standalone
//! ```

use std::{thread, time::Duration};

use punctual::{
    BackgroundScheduler, BlockingScheduler, Error, Scheduler, Wait, Workers, blocking,
    trigger::{after, every},
};
use tokio::time::sleep;

fn main() -> Result<(), Error> {
    in_the_background()?;
    until_stopped()
}

/// The program does other work, and uses the scheduler now and then.
fn in_the_background() -> Result<(), Error> {
    let scheduler = BackgroundScheduler::new()?;

    let refresh = every(Duration::from_millis(300));
    let refresh = scheduler.add(refresh, || async { println!("background: refreshing") }).wait()?;

    let cache = scheduler.add_once(after(Duration::from_millis(500)), async { 4096 }).wait()?;

    // The program's own work.
    thread::sleep(Duration::from_secs(1));

    println!("background: the cache holds {} entries", cache.wait()?);
    println!("background: {}", refresh.get().wait()?);
    println!("background: stopped: {}", scheduler.shutdown()?);
    Ok(())
}

/// The program does nothing except run its jobs.
fn until_stopped() -> Result<(), Error> {
    let workers = Workers::new(2).thread_name("jobs");
    let defaults = Scheduler::builder().cancel_grace(Duration::from_millis(100));
    let scheduler = BlockingScheduler::start_on(workers, defaults)?.within(Duration::from_secs(20));

    scheduler.block_on(async {
        // Its last run is active when the scheduler is stopped, and may finish.
        let upload = || async {
            println!("blocking: uploading");
            sleep(Duration::from_secs(2)).await;
            println!("blocking: uploaded");
        };
        scheduler.add(every(Duration::from_millis(2200)).immediately(), upload).await?;

        // Blocking work runs on separate threads.
        let checksum = blocking(|| {
            let sum: u64 = (1..=10_000_000).sum();
            println!("blocking: the checksum is {sum}");
        });
        scheduler.add(every(Duration::from_secs(1)), checksum).await?;

        let stop = scheduler.stop_handle();
        scheduler.add(after(Duration::from_millis(5500)), || async move { stop.stop() }).await?;
        Ok(())
    })?;

    println!("blocking: Ctrl-C stops it, and twice at once");
    let report = scheduler.run()?;
    println!("blocking: stopped: {report}");
    Ok(())
}
