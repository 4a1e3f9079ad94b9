//! Triggers as text that can be read back, and in English.

mod describe;
mod names;
mod read;
mod write;

pub(crate) use self::write::Short;
