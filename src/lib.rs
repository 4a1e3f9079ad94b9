//! An async, Tokio-native job scheduler in which no fire time has a silent fate.

pub mod error;
pub mod trigger;

pub use error::Error;
