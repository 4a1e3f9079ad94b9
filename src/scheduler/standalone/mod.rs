//! Schedulers for programs that have no async `main`: one blocks, one works in the background.

mod background;
mod blocking;
mod host;
mod signals;
mod waiting;
mod workers;

pub use self::{
    background::BackgroundScheduler,
    blocking::{BlockingScheduler, StopHandle},
    workers::Workers,
};
