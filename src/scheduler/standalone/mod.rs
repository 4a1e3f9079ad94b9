//! Schedulers for programs without an async `main`: one blocks, one works in the background.

mod background;
mod blocking;
mod host;
mod signals;
mod wait;
mod waiting;
mod workers;

pub use self::{
    background::BackgroundScheduler,
    blocking::{BlockingScheduler, StopHandle},
    wait::{Wait, Waited},
    workers::Workers,
};
