//! A trigger in English.

use crate::trigger::{Moment, Trigger, instant::rfc3339, kinds::Schedule as _, limits::Limits};

impl Trigger {
    /// What the trigger says, in English.
    ///
    /// ```
    /// use punctual::trigger::{every, IntoTrigger, Trigger};
    ///
    /// let trigger = every(2).weeks().on("monday").at("10:30").in_tz("Europe/Berlin").times(5);
    /// assert_eq!(
    ///     trigger.into_trigger()?.describe(),
    ///     "Every 2 weeks on monday at 10:30, in Europe/Berlin, 5 times",
    /// );
    /// let trigger: Trigger = "30 8 * * SAT,SUN".parse()?;
    /// assert_eq!(trigger.describe(), "At 08:30, on Sunday and Saturday");
    /// # Ok::<(), punctual::Error>(())
    /// ```
    pub fn describe(&self) -> String {
        let mut text = self.kind.description();
        if let Some(days) = self.days() {
            text += &days.to_string();
        }
        let Limits { open, first, .. } = self.limits();
        match (open.first.filter(|&first| first != Moment::NOW), first) {
            (Some(first), _) => text += &format!(", first at {first}"),
            (None, Some(first)) => text += &format!(", first at {}", rfc3339(*first)),
            (None, None) if self.kind.is_immediate() || open.first.is_some() => {
                text += ", from when it is added";
            }
            (None, None) => {}
        }
        for (word, open, known) in
            [("from", open.start, self.start), ("until", open.end, self.end())]
        {
            match (open, known) {
                (Some(open), _) => text += &format!(", {word} {open}"),
                (None, Some(known)) => text += &format!(", {word} {}", rfc3339(known)),
                (None, None) => {}
            }
        }
        if let Some(times) = self.limits().times {
            text += &format!(", {times} times");
        }
        text
    }
}
