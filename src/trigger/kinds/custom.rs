//! Triggers of the user's own, kept in memory only.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer, ser::Error as _};

use super::schedule::{Schedule, Search};
use crate::{
    error::Error,
    trigger::{
        instant::{add_millis, rfc3339, whole_millis},
        search::Budget,
    },
};

/// A trigger of the user's own; given to a scheduler by [`custom`](crate::trigger::custom).
///
/// It must be pure: the same instant yields the same answer, whoever asks and whenever. It is
/// called while the scheduler's state is locked, so it must be quick, and must not call the
/// scheduler. A panic in it, and an answer that is not later than what was asked, end the job
/// with an error. Answers are rounded up to whole milliseconds.
pub trait CustomTrigger: Send + Sync + fmt::Debug + 'static {
    /// The first fire time strictly later than `t`, or `None` if there is none.
    fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>>;
}

/// A [`CustomTrigger`] as a kind of trigger; made by [`custom`](crate::trigger::custom).
#[derive(Clone, Debug)]
pub struct Custom(Arc<dyn CustomTrigger>);

impl Custom {
    pub(in crate::trigger) fn new(trigger: impl CustomTrigger) -> Custom {
        Custom(Arc::new(trigger))
    }

    fn next_after(&self, t: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        let answer = std::panic::catch_unwind(AssertUnwindSafe(|| self.0.next_after(t)))
            .map_err(|panic| {
                // Dropping it may run the user's code, and this may be under the lock.
                std::mem::forget(panic);
                Error::invalid_trigger(format!(
                    "the custom trigger panicked when asked for what follows {t}: it must answer for every instant"
                ))
            })?;
        match answer.map(whole_millis).transpose()? {
            Some(next) if next <= t => Err(Error::invalid_trigger(format!(
                "the custom trigger answered {} when asked for what follows {}: it must answer with a later instant",
                rfc3339(next),
                rfc3339(t)
            ))),
            next => Ok(next),
        }
    }

    /// Finds the last fire time by bisection: at most about a hundred calls, however dense the
    /// fire times and however far back the last one lies.
    fn last_at_or_before(&self, t: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
        let fire_after = |from| -> Result<Option<DateTime<Utc>>, Error> {
            Ok(self.next_after(from)?.filter(|&next| next <= t))
        };
        // Double the distance until a fire time lies between there and `t` …
        let (mut near, mut back) = (0, 1);
        let mut last = loop {
            let Some(from) = add_millis(t, -back) else {
                return fire_after(DateTime::<Utc>::MIN_UTC);
            };
            match fire_after(from)? {
                Some(next) => break next,
                None => (near, back) = (back, back * 2),
            }
        };
        // … and halve it until nothing lies after the one that was found.
        while back - near > 1 {
            let middle = near + (back - near) / 2;
            let Some(from) = add_millis(t, -middle) else { break };
            match fire_after(from)? {
                Some(next) => (back, last) = (middle, next),
                None => near = middle,
            }
        }
        Ok(Some(last))
    }
}

impl Schedule for Custom {
    fn next(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let next = self.next_after(search.from)?;
        budget.spend(CALL)?;
        Ok(next)
    }

    fn last(
        &self,
        search: &Search<'_>,
        budget: &mut Budget,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let last = self.last_at_or_before(search.from)?;
        budget.spend(100 * CALL)?;
        Ok(last)
    }

    fn write_text(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }

    fn description(&self) -> String {
        format!("As {self:?} says")
    }
}

/// What a call of the user's type costs of a search's budget.
const CALL: u32 = 4;

impl PartialEq for Custom {
    fn eq(&self, other: &Custom) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Serialize for Custom {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("a custom trigger lives in memory only: it has no serialized form"))
    }
}
