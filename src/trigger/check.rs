//! Whether a trigger makes sense, before it is one.

use super::{Trigger, instant::floor_millis, kinds::Schedule as _, limits::Limits, moment::Moment};
use crate::error::Error;

impl Trigger {
    /// The same trigger, checked, with all that is known of its bounds.
    pub(super) fn validated(mut self) -> Result<Trigger, Error> {
        if self.follow().is_some() && (self.start.is_some() || self.limits.is_some()) {
            return Err(Error::invalid_trigger(format!(
                "`{}` has no fire times of its own, and so takes no bounds, number of times or days: give them to the job that it follows",
                self.kind
            )));
        }
        if self.limits.is_some() {
            self.take_known_bounds()?;
        }
        let end = self.limits().end;
        self.kind.validate(end)?;
        Ok(self)
    }

    /// Moves the bounds that are instants already out of the open ones.
    fn take_known_bounds(&mut self) -> Result<(), Error> {
        let mut limits = self.limits().clone();
        limits.open.check()?;
        let is_immediate = limits.open.first == Some(Moment::NOW);
        let mark = self.kind.immediate_mark();
        let has_mark = mark.as_ref().is_some_and(|mark| *mark.is_set && !mark.stays);
        if limits.open.start.is_some() && (is_immediate || has_mark) {
            return Err(Error::invalid_trigger(
                "`immediately` and `starting_at` contradict each other: leave one out",
            ));
        }
        // Grids have a mark of their own, by which they start when the job is added.
        if let Some(mark) = mark.filter(|_| is_immediate) {
            *mark.is_set = true;
            limits.open.first = None;
        }
        let [start, first, end] = limits.open.take_instants()?;
        limits.times_since =
            limits.times_since.filter(|_| limits.times.is_some()).map(floor_millis);
        limits.elapsed_end = limits.elapsed_end.map(floor_millis);
        limits.last = limits.last.map(floor_millis);
        self.start = start.or(self.start);
        *self = self.clone().with_limits(Limits { first, end, ..limits });
        if self.limits().open.start.is_none() {
            self.start_grid_at_first();
        }
        Ok(())
    }
}
