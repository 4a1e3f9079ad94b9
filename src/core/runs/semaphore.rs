//! The semaphore of a job: at most `max_instances` of its runs hold a permit.

/// Counts the permits that are out.
///
/// It takes no memory but its count, and the limit is given at each call, since a job's
/// `max_instances` may change while runs are going: tokio's semaphore can't shrink below what is
/// taken.
#[derive(Debug, Default)]
pub(in crate::core) struct Semaphore {
    in_use: u32,
}

/// The right of one run to be going. It can't be copied, only given back.
#[derive(Debug)]
#[must_use = "a permit that is lost never comes back"]
pub(in crate::core) struct Permit(());

impl Semaphore {
    pub(in crate::core) fn try_acquire(&mut self, limit: u32) -> Option<Permit> {
        (self.in_use < limit).then(|| {
            self.in_use += 1;
            Permit(())
        })
    }

    pub(in crate::core) fn release(&mut self, permit: Permit) {
        let Permit(()) = permit;
        self.in_use -= 1;
    }

    pub(in crate::core) fn in_use(&self) -> u32 {
        self.in_use
    }
}
