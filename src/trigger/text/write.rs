//! A trigger as text.

use std::fmt;

use super::names::{FOLDS, GAPS};
use crate::trigger::{Moment, Trigger, instant::rfc3339, kinds::Schedule as _, limits::Limits};

/// The text of a trigger, which [`FromStr`](std::str::FromStr) reads back: its kind, and its options behind
/// a `;` each.
///
/// | | text |
/// |---|---|
/// | follow | `after success of extract`, `after failure of …`, `after any run of …`, `after all of ["extract","load"]` |
/// | date | `at 2026-11-20T12:00:00Z`, or another [`Moment`], `after 10s`, `now` |
/// | interval | `every 10min` |
/// | random | `every 5 to 10min` |
/// | timetable | `every weekday at 9:00 (Europe/Berlin)` |
/// | cron text | `30 8 * * MON-FRI (Europe/Berlin)` |
/// | cron fields | `cron[day='3rd fri', hour='0-3'] (Europe/Berlin)` |
/// | calendar interval | `calendar[1 month, 2 days at 09:30:00] (Europe/Berlin)` |
/// | combination | `and[every 90s & 0 9 * * *]`, `or[@daily | every monday]`, maybe nested |
/// | then | `; starting MOMENT`, `; first MOMENT`, `; immediately`, `; until MOMENT`, `; elapsed_end INSTANT`, `; last INSTANT`, `; 5 times`, `; 5 times since INSTANT` |
/// | if it goes by a wall clock | `; gap next`, `; gap skip`, `; fold first`, `; fold last`, `; fold both` |
/// | cron text | `; dom_and_dow` |
/// | timetable, calendar interval | `; from DATE`, which its days, weeks or months count from |
/// | any | `; only Mon, Fri, 2026-12-24`, `; except 2026-12-25`, `; between 10:00 and 12:00`, `; days in ZONE`, whose dates and hours these are |
/// | random | `; seed NUMBER`, once a step of the clock has moved it |
///
/// A custom trigger has no text that could be read: it prints what its `Debug` does.
impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}

/// The text of a trigger as a line about a job has it: where a grid starts is left out, and so are
/// all but a few of many dates.
pub(crate) struct Short<'a>(pub(crate) &'a Trigger);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, true)
    }
}

impl Trigger {
    fn write(&self, f: &mut fmt::Formatter<'_>, short: bool) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        self.kind.write_options(f, short)?;
        let rules = self.kind.zone_rules().copied().unwrap_or_default();
        if let Some(gap) = rules.gap {
            write!(f, "; gap {}", GAPS.name(gap))?;
        }
        if let Some(fold) = rules.fold {
            write!(f, "; fold {}", FOLDS.name(fold))?;
        }
        let Limits { open: bounds, first, end, times, times_since, elapsed_end, last, days } =
            self.limits();
        // Where the grid of a job starts was filled in, or shows in its next fire time.
        let start = self.start.filter(|_| !(short && self.kind.is_grid()));
        for (name, open, known) in [
            ("starting", bounds.start, start),
            ("first", bounds.first, *first),
            ("until", bounds.end, *end),
            (if short { "until" } else { "elapsed_end" }, None, *elapsed_end),
            // Alone it would read as the last run.
            (if short { "the last at" } else { "last" }, None, *last),
        ] {
            match (open, known) {
                (Some(Moment::NOW), _) if name == "first" => f.write_str("; immediately")?,
                (Some(open), _) => write!(f, "; {name} {open}")?,
                (None, Some(known)) => write!(f, "; {name} {}", rfc3339(known))?,
                (None, None) => {}
            }
        }
        if let Some(days) = days {
            for (name, days) in [("only", days.only()), ("except", days.except())] {
                match days {
                    Some(days) if short => write!(f, "; {name} {days}")?,
                    Some(days) => {
                        write!(f, "; {name} {}", days.words().collect::<Vec<_>>().join(", "))?;
                    }
                    None => {}
                }
            }
            if let Some(window) = days.between() {
                write!(f, "; between {window}")?;
            }
            if let Some(zone) = days.zone() {
                write!(f, "; days in {zone}")?;
            }
        }
        match (times, times_since) {
            // The last of them is there already.
            (Some(_), Some(_)) if short && last.is_some() => Ok(()),
            (Some(times), Some(since)) if !short => {
                write!(f, "; {times} times since {}", rfc3339(*since))
            }
            (Some(times), _) => write!(f, "; {times} times"),
            (None, _) => Ok(()),
        }
    }
}
