//! A program that has no async `main`: a scheduler in its background, then one that it is all about.
//!
//! The second blocks until it is stopped: by Ctrl-C, by SIGTERM, or by a job of its own after a while.
//! It takes punctual's feature `standalone`.
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

/// The program has other things to do, and asks now and then.
fn in_the_background() -> Result<(), Error> {
    let scheduler = BackgroundScheduler::new()?;

    let refresh = every(Duration::from_millis(300));
    let refresh = scheduler.add(refresh, || async { println!("background: refreshing") }).wait()?;

    let cache = scheduler.add_once(after(Duration::from_millis(500)), async { 4096 }).wait()?;

    // What the program is really about.
    thread::sleep(Duration::from_secs(1));

    println!("background: the cache holds {} entries", cache.wait()?);
    println!("background: {}", refresh.get().wait()?);
    println!("background: stopped: {}", scheduler.shutdown()?);
    Ok(())
}

/// The jobs are all there is to do.
fn until_stopped() -> Result<(), Error> {
    let workers = Workers::new(2).thread_name("jobs");
    let defaults = Scheduler::builder().cancel_grace(Duration::from_millis(100));
    let scheduler = BlockingScheduler::start_on(workers, defaults)?.within(Duration::from_secs(20));

    scheduler.block_on(async {
        // Its last run is going when the scheduler is stopped, and has time to end.
        let upload = || async {
            println!("blocking: uploading");
            sleep(Duration::from_secs(2)).await;
            println!("blocking: uploaded");
        };
        scheduler.add(every(Duration::from_millis(2200)).immediately(), upload).await?;

        // Work that blocks has threads of its own.
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
