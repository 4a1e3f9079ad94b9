//! The semaphore of a job: at most `max_instances` of its runs have a permit.

/// Counts the permits in use.
///
/// Keeps only the count. Each call passes the limit, since a job's `max_instances` may change while
/// runs are active: tokio's semaphore cannot shrink below the permits in use.
#[derive(Debug, Default)]
pub(in crate::core) struct Semaphore {
    in_use: u32,
}

/// The right of one run to be active. Cannot be copied, only released.
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
