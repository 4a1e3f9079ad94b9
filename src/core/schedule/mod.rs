//! When jobs are due, and how clock steps change that.

mod again;
pub(in crate::core) mod ahead;
mod clock;
pub(in crate::core) mod correct;
pub(in crate::core) mod decide;
mod timing;
mod wake;

pub(in crate::core) use self::timing::Timing;
pub(crate) use self::{
    again::Own,
    ahead::{Definition, run_id},
    decide::{Candidate, Verdict, mix},
};
