//! The jobs that there are: by slot, by id, and those that ended last.

mod declaration;
pub(in crate::core) mod ended;
pub(in crate::core) mod followers;
pub(in crate::core) mod job;
mod listing;
pub(in crate::core) mod table;

pub(crate) use self::{declaration::Declaration, listing::PAGE};
