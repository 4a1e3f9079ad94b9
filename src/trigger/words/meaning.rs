//! Which kind of trigger words stand for.

use super::{On, Time, Words};
use crate::{
    error::Error,
    trigger::{
        period::{Period, Unit},
        wall_clock::ZoneRules,
    },
};

/// What words mean.
pub(in crate::trigger) enum Meaning {
    /// A period of elapsed time, or a random one.
    Elapsed(Period),
    /// Parts of each hour or of each minute, as cron text.
    Cron { text: String, rules: ZoneRules },
    /// Certain days at certain times, in seconds since midnight.
    Timetable { step: u64, days: On, times: Vec<u32>, rules: ZoneRules },
}

impl Words {
    /// The kind of trigger that was meant, with what it is made of.
    pub(in crate::trigger) fn meaning(self) -> Result<Meaning, Error> {
        if self.times.iter().any(|time| matches!(time, Time::Part(..))) {
            self.parts()
        } else if self.on.is_none() && self.times.is_empty() {
            self.elapsed()
        } else {
            self.timetable()
        }
    }

    fn elapsed(self) -> Result<Meaning, Error> {
        let so_far = self.so_far();
        let other = match self.period.unit {
            _ if !self.adverb => None,
            Unit::Hour => {
                Some(["hourly", "60 minutes", "`hourly at :00` for the start of each hour"])
            }
            Unit::Day => Some(["daily", "24 hours", "`daily at 0:00` for each midnight"]),
            Unit::Week => {
                Some(["weekly", "168 hours", "`weekly on monday` for a day of each week"])
            }
            _ => None,
        };
        if let Some([adverb, length, clock]) = other {
            return Err(Error::invalid_trigger(format!(
                "`{adverb}` alone has two meanings: write `{so_far}` for {length} of elapsed time, or {clock}"
            )));
        }
        if self.period.nanos().is_none() {
            return Err(Error::invalid_trigger(format!(
                "`{so_far}` does not say on which day: add one, as in `on the 1st` or `on the last friday`"
            )));
        }
        if self.rules != ZoneRules::default() {
            return Err(Error::invalid_trigger(format!(
                "`{so_far}` is elapsed time, which is the same in every zone: leave zone, gap and fold out, or say at which time of day"
            )));
        }
        Ok(Meaning::Elapsed(self.period))
    }

    /// Parts of each hour or of each minute.
    fn parts(self) -> Result<Meaning, Error> {
        let so_far = self.so_far();
        let refused = |reason: &str| Err(Error::invalid_trigger(format!("`{so_far}` {reason}")));
        if self.period.to.is_some() {
            return refused("goes by the clock, so it is not random");
        }
        let mut parts = Vec::new();
        for &time in &self.times {
            match (self.period.unit, time) {
                _ if self.on.is_some() => {
                    return refused("is on certain days: give it times of day, as in `9:15`");
                }
                (_, Time::OfDay(_)) => {
                    return refused(
                        "has both times of day and parts of an hour: make two triggers of them",
                    );
                }
                (Unit::Hour, Time::Part(minute, second)) => {
                    parts.push([minute, second.unwrap_or(0)])
                }
                (Unit::Minute, Time::Part(second, None)) => parts.push([0, second]),
                (Unit::Minute, Time::Part(..)) => {
                    return refused("has a second, as in `:17`, and no minute");
                }
                _ => {
                    return refused(
                        "has no part such as `:15`: write a time of day, as in `9:15`, or `every hour at :15`",
                    );
                }
            }
        }
        parts.sort_unstable();
        parts.dedup();
        let [mut minutes, mut seconds] =
            [0, 1].map(|part| parts.iter().map(|at| at[part]).collect::<Vec<_>>());
        for values in [&mut minutes, &mut seconds] {
            values.sort_unstable();
            values.dedup();
        }
        if minutes.len() * seconds.len() != parts.len() {
            return refused(
                "has minutes whose seconds differ: make a trigger of each, and `or` of them",
            );
        }
        let list = |values: &[u32]| values.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let step =
            if self.period.count == 1 { String::new() } else { format!("/{}", self.period.count) };
        let (text, most) = match (self.period.unit, &*seconds) {
            (Unit::Minute, _) => (format!("{} *{step} * * * *", list(&seconds)), 60),
            (_, [0]) => (format!("{} *{step} * * *", list(&minutes)), 24),
            _ => (format!("{} {} *{step} * * *", list(&seconds), list(&minutes)), 24),
        };
        match self.period.count {
            1 => {}
            count if count > 0 && count < most && most % count == 0 => {
                return refused(&format!(
                    "counts from when a job is added, and not on the clock: use the cron text `{text}`"
                ));
            }
            _ => {
                return refused(
                    "counts from when a job is added, and not on the clock: leave the part out, or use `cron`",
                );
            }
        }
        Ok(Meaning::Cron { text, rules: self.rules })
    }

    fn timetable(self) -> Result<Meaning, Error> {
        let so_far = self.so_far();
        let refused = |reason: &str| Err(Error::invalid_trigger(format!("`{so_far}` {reason}")));
        if self.period.to.is_some() {
            return refused("is a random period, which has neither days nor times: leave them out");
        }
        let days = match (self.period.unit, self.on) {
            (Unit::Day, None) => On::EveryDay,
            (Unit::Week, Some(on @ On::Week(_))) | (Unit::Month, Some(on @ On::Month(_))) => on,
            (Unit::Week, None) => {
                return refused(
                    "does not say on which day of the week: add one, as in `on monday`",
                );
            }
            (Unit::Month, None) => {
                return refused(
                    "does not say on which day: add one, as in `on the 1st` or `on the last friday`",
                );
            }
            (Unit::Week, Some(_)) => {
                return refused("is of weeks, and the days are of a month: use `month`");
            }
            (Unit::Month, Some(_)) => {
                return refused(
                    "does not say which one of the month: write, for example, `on the first monday`",
                );
            }
            (Unit::Day, Some(_)) => {
                return refused("is of days, and cannot choose among them: use `week` or `month`");
            }
            _ => {
                return refused(
                    "is elapsed time, which has neither days nor times of day: use `day`, `week` or `month`, or `cron`",
                );
            }
        };
        let of_day = |time| match time {
            Time::OfDay(second) => Some(second),
            Time::Part(..) => None,
        };
        let mut times: Vec<u32> = self.times.into_iter().filter_map(of_day).collect();
        if times.is_empty() {
            times.push(0);
        }
        Ok(Meaning::Timetable { step: self.period.count, days, times, rules: self.rules })
    }
}

impl On {
    /// Why days of the week and of the month are not listed together.
    pub(super) const MIXED: &str =
        "it lists days of the week and days of the month: make two triggers of them";

    /// On the days of either.
    pub(in crate::trigger) fn and(self, other: On) -> Result<On, Error> {
        match (self, other) {
            (On::Week(a), On::Week(b)) => Ok(On::Week(a | b)),
            (On::Month(mut a), On::Month(b)) => {
                a.dates |= b.dates;
                for (a, b) in a.nth.iter_mut().zip(b.nth) {
                    *a |= b;
                }
                Ok(On::Month(a))
            }
            _ => Err(Error::invalid_trigger(format!("invalid words: {}", On::MIXED))),
        }
    }
}
