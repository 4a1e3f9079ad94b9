//! What people leave behind who edit the tables by hand: triggers keep the columns of the jobs, and what would
//! cost each operation something is put right when the store is pruned.

use super::{error::Result, jobs, ledger, session::Session};
use crate::{
    job::SkipReason,
    store::{
        Incarnation, RowKind,
        sql::{kind_number, millis, unsigned},
    },
};

/// How many jobs with waiting rows are looked at each time.
const LOOKED_AT: usize = 100;

/// Rows that were closed, and say not when.
const END: &str = "UPDATE punctual_ledger SET ended_at = ?1 WHERE (incarnation, kind, number) IN \
     (SELECT incarnation, kind, number FROM punctual_ledger INDEXED BY punctual_ledger_closed \
        WHERE kind = ?2 AND ended_at IS NULL AND fate IS NOT NULL LIMIT ?3)";

/// Hops from job to job along the index of open rows, instead of looking at each row.
const NEXT_THAT_WAITS: &str = "SELECT incarnation \
     FROM punctual_ledger INDEXED BY punctual_ledger_by_node \
     WHERE fate IS NULL AND node IS NULL AND incarnation > ?1 ORDER BY incarnation LIMIT 1";

/// Has up to `limit` closed rows of each kind that have no end end now. Returns whether there may be more.
pub(super) fn end(session: &Session, limit: usize) -> Result<bool> {
    let (now, mut more) = (millis(session.now()), false);
    for kind in [RowKind::Scheduled, RowKind::Requested, RowKind::Ended] {
        let parameters = (now, kind_number(kind), limit as i64);
        more |= session.prepare(END)?.execute(parameters)? == limit;
    }
    Ok(more)
}

/// Calls off what waits for records that are gone, of the next few jobs with waiting rows.
pub(super) fn call_off(session: &Session) -> Result<()> {
    let mut next = session.prepare(NEXT_THAT_WAITS)?;
    for _ in 0..LOOKED_AT {
        let mut found = next.query([session.repaired_to.get()])?;
        let Some(row) = found.next()? else {
            session.repaired_to.set(i64::MIN);
            break;
        };
        let incarnation: i64 = row.get(0)?;
        session.repaired_to.set(incarnation);
        let incarnation = Incarnation(unsigned(incarnation));
        drop(found);
        if !jobs::is_there(session, incarnation)? {
            ledger::call_off(session, incarnation, SkipReason::Removed)?;
        }
    }
    Ok(())
}

/// All of them, for a look at their plans.
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[END, NEXT_THAT_WAITS];
