//! A shop: an order that is not paid in time is cancelled, and a payment cancels the order's
//! deadline.
//!
//! One order of each kind, then ten thousand at once. A payment at the deadline is a race: the
//! order itself decides it, once, and not the scheduler.
//!
//! ```text
//! cargo run --release --example order_timeout
//! ```

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::Utc;
use punctual::{
    BoxError, Context, End, Scheduler,
    trigger::{after, at},
};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

const ORDERS: u64 = 10_000;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let scheduler = Scheduler::new();
    two_orders(&scheduler).await?;
    many_orders(&scheduler).await?;
    let report = scheduler.shutdown().await;
    assert!(report.is_clean());
    Ok(())
}

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Paid,
    TimedOut,
}

/// The payment was too late.
#[derive(Debug)]
struct TooLate;

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the order has timed out")
    }
}

impl std::error::Error for TooLate {}

/// An order. It has ended when its ending is set, which succeeds only once.
#[derive(Default)]
struct Order {
    ending: OnceLock<Ending>,
}

impl Order {
    /// The work of the deadline job. In a real shop: `UPDATE … WHERE status = 'open'`.
    fn time_out(&self) -> bool {
        self.ending.set(Ending::TimedOut).is_ok()
    }

    /// Accepts or refuses a payment. Cancelling the job is optional: otherwise the job would fire,
    /// find the order paid, and return.
    fn pay(&self, deadline: &CancellationToken) -> Result<(), TooLate> {
        self.ending.set(Ending::Paid).map_err(|_| TooLate)?;
        deadline.cancel();
        Ok(())
    }
}

async fn two_orders(scheduler: &Scheduler) -> Result<(), BoxError> {
    let deadline = Duration::from_secs(1);
    let orders: [Arc<Order>; 2] = Default::default();
    let [forgotten, wanted] = orders.clone();

    let forgotten =
        scheduler.add_once(after(deadline), async move { forgotten.time_out() }).await?;
    let wanted = scheduler.add_once(after(deadline), async move { wanted.time_out() }).await?;

    sleep(Duration::from_millis(200)).await;
    orders[1].pay(&wanted.cancel_token())?;

    if forgotten.await? {
        println!("order 1: not paid within {deadline:?}, cancelled");
    }
    match wanted.await {
        Err(error) if error.is_cancelled() => println!("order 2: paid, its deadline called off"),
        other => return Err(format!("a paid order still met its deadline: {other:?}").into()),
    }
    assert_eq!(orders[0].ending.get(), Some(&Ending::TimedOut));
    assert_eq!(orders[1].ending.get(), Some(&Ending::Paid));
    assert!(orders[0].pay(&CancellationToken::new()).is_err(), "too late is too late");
    Ok(())
}

#[derive(Default)]
struct Shop {
    orders: Vec<Order>,
    timed_out: AtomicU64,
    /// Deadlines that fired after the payment, before it cancelled them.
    found_paid: AtomicU64,
    latest_micros: AtomicU64,
}

impl Shop {
    fn deadline(&self, n: u64, cx: &Context) {
        let micros = u64::try_from(cx.late_by().as_micros()).unwrap_or(u64::MAX);
        self.latest_micros.fetch_max(micros, Relaxed);
        let counter =
            if self.orders[n as usize].time_out() { &self.timed_out } else { &self.found_paid };
        counter.fetch_add(1, Relaxed);
    }
}

async fn many_orders(scheduler: &Scheduler) -> Result<(), BoxError> {
    let orders = (0..ORDERS).map(|_| Order::default()).collect();
    let shop = Arc::new(Shop { orders, ..Shop::default() });

    // One call for all of them: when it returns, all orders have a deadline, or none.
    let (placed_at, placed) = (Utc::now(), Instant::now());
    let jobs = (0..ORDERS).map(|n| {
        let shop = shop.clone();
        scheduler.add(at(placed_at + deadline(n)), move |cx: Context| async move {
            shop.deadline(n, &cx);
        })
    });
    let jobs = scheduler.add_all(jobs).await?;
    println!("{ORDERS} orders placed in {:.1?}", placed.elapsed());

    let customers = jobs.iter().zip(0..).filter_map(|(job, n)| {
        let pays_at = placed + pays_after(n)?;
        let (shop, deadline) = (shop.clone(), job.cancel_token());
        Some(tokio::spawn(async move {
            sleep_until(pays_at).await;
            shop.orders[n as usize].pay(&deadline)
        }))
    });
    let (mut paid, mut refused) = (0, 0);
    for customer in customers.collect::<Vec<_>>() {
        match customer.await? {
            Ok(()) => paid += 1,
            Err(TooLate) => refused += 1,
        }
    }

    for (job, n) in jobs.into_iter().zip(0..) {
        let end = job.await;
        let ending = shop.orders[n as usize].ending.get();
        match (ending, &end) {
            // Paid; the deadline was cancelled, or fired a moment later and found the order paid.
            (Some(Ending::Paid), End::Cancelled | End::Completed) => {
                assert!(pays_after(n).is_some(), "order {n} was paid by nobody");
            }
            // Not paid: the deadline fired.
            (Some(Ending::TimedOut), End::Completed) => {}
            _ => panic!("order {n} ended as {ending:?}, its job was {end}"),
        }
    }
    let (timed_out, found_paid) = (shop.timed_out.load(Relaxed), shop.found_paid.load(Relaxed));
    println!("{paid} paid, {timed_out} timed out, after {:.1?}", placed.elapsed());
    println!(
        "{refused} payments came too late; {found_paid} deadlines found their order just paid"
    );
    let latest = Duration::from_micros(shop.latest_micros.load(Relaxed));
    println!("no deadline was more than {latest:.1?} late");
    assert_eq!(paid + timed_out, ORDERS);
    assert!(scheduler.is_empty(), "no job is left over");
    println!("every order ended exactly once");
    Ok(())
}

/// How long the order may stay unpaid: one to three seconds.
fn deadline(n: u64) -> Duration {
    Duration::from_millis(1000 + hash(n) % 2000)
}

/// When the customer pays, if at all.
fn pays_after(n: u64) -> Option<Duration> {
    let (deadline, dice) = (deadline(n), hash(n ^ ORDERS));
    let part = Duration::from_millis(dice >> 32 & 0x3ff);
    match dice % 100 {
        // In time: most of them.
        0..75 => Some(deadline - part.min(deadline)),
        // At about the deadline.
        75..85 => Some(deadline + Duration::from_millis(dice >> 32 & 3)),
        // A little too late.
        85..90 => Some(deadline + part / 10),
        _ => None,
    }
}

/// SplitMix64: pseudo-random numbers that are the same in every run.
fn hash(n: u64) -> u64 {
    let z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
