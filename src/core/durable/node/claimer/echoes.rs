//! Which notifications are echoes: of what this node has written, and has noted itself.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

/// How many notes are kept, and for how long: an echo comes soon, or not at all.
const MOST: usize = 64;
const LONGEST: TimeDelta = TimeDelta::seconds(1);

/// Who has noted a due instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// This node, when it had written.
    Node,
    /// The store, in a notification.
    Store,
}

/// The due instants that were noted lately by one, and not yet by the other.
///
/// Of two notes of one instant, one by each, the later is an echo: the earlier has planned a claim. If
/// the two are of different writes, the true echo is still to come, and is none.
#[derive(Default)]
pub(super) struct Echoes(VecDeque<Note>);

struct Note {
    instant: DateTime<Utc>,
    by: By,
    until: TimeDelta,
}

impl Echoes {
    /// Expects no echoes any more.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Whether a note is an echo.
    pub(super) fn is_echo(&mut self, instant: DateTime<Utc>, by: By, now: TimeDelta) -> bool {
        while self.0.front().is_some_and(|note| note.until <= now || self.0.len() > MOST) {
            self.0.pop_front();
        }
        let first = self.0.iter().position(|note| note.instant == instant && note.by != by);
        if let Some(first) = first {
            self.0.remove(first);
            return true;
        }
        self.0.push_back(Note { instant, by, until: now + LONGEST });
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(millis).unwrap()
    }

    #[test]
    fn the_later_of_two_notes_is_an_echo() {
        let (mut echoes, now) = (Echoes::default(), TimeDelta::zero());
        for by in [[By::Node, By::Store], [By::Store, By::Node]] {
            assert!(!echoes.is_echo(at(7), by[0], now));
            assert!(!echoes.is_echo(at(8), by[1], now), "it is of another instant");
            assert!(echoes.is_echo(at(7), by[1], now));
            assert!(echoes.is_echo(at(8), by[0], now));
        }
    }

    #[test]
    fn each_note_has_one_echo() {
        let (mut echoes, now) = (Echoes::default(), TimeDelta::zero());
        // Another node has written of the same instant.
        let notes = [By::Node, By::Store, By::Store];
        assert_eq!(notes.map(|by| echoes.is_echo(at(7), by, now)), [false, true, false]);
    }

    #[test]
    fn forgotten_notes_have_no_echo() {
        let (mut echoes, now) = (Echoes::default(), TimeDelta::zero());
        assert!(!echoes.is_echo(at(7), By::Node, now));
        echoes.forget();
        assert!(!echoes.is_echo(at(7), By::Store, now));
    }

    #[test]
    fn notes_are_few_and_forgotten_soon() {
        let mut echoes = Echoes::default();
        assert!(!echoes.is_echo(at(7), By::Node, TimeDelta::zero()));
        assert!(!echoes.is_echo(at(7), By::Store, TimeDelta::seconds(1)));
        for millis in 0..1000 {
            echoes.is_echo(at(millis), By::Store, TimeDelta::seconds(1));
        }
        assert_eq!(echoes.0.len(), MOST + 1);
    }
}
