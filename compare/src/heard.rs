//! What a scheduler says of itself: the warnings and errors it logs, and what its own API tells.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Listens to all logs from here on, those of the `log` crate too.
pub(crate) fn listen() {
    tracing_subscriber::registry().with(Ear).init();
}

/// Writes down what a scheduler's API told.
pub(crate) fn note(message: impl fmt::Display) {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner).push(message.to_string());
}

/// What was heard so far, each once and with the number of times, or that it was nothing.
pub(crate) fn all() -> String {
    summary(&HEARD.lock().unwrap_or_else(PoisonError::into_inner))
}

fn summary(heard: &[String]) -> String {
    let mut counted: Vec<(&String, usize)> = Vec::new();
    for message in heard {
        match counted.iter_mut().find(|(known, _)| *known == message) {
            Some((_, times)) => *times += 1,
            None => counted.push((message, 1)),
        }
    }
    let said: Vec<_> = counted
        .into_iter()
        .map(|(message, times)| match times {
            1 => message.clone(),
            times => format!("{message} ({times} times)"),
        })
        .collect();
    if said.is_empty() { "nothing".to_owned() } else { said.join("; ") }
}

struct Ear;

impl<S: Subscriber> Layer<S> for Ear {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Levels are ordered by how much they let through.
        if *event.metadata().level() <= Level::WARN {
            let mut message = Message(String::new());
            event.record(&mut message);
            note(format_args!("logs “{}”", shortened(&message.0)));
        }
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// Messages have ids and instants at their end that tell nobody anything here.
fn shortened(message: &str) -> String {
    let mut chars = message.chars();
    let start: String = chars.by_ref().take(50).collect();
    if chars.next().is_some() { start + "…" } else { start }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_and_errors_are_heard() {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Ear), || {
            tracing::info!("all is well");
            tracing::warn!(job = 1, "late");
            tracing::error!("lost, {}", "x".repeat(45));
        });
        assert_eq!(all(), format!("logs “late”; logs “lost, {}…”", "x".repeat(44)));
    }

    #[test]
    fn repetitions_are_counted() {
        let heard = ["late", "lost", "late"].map(str::to_owned);
        assert_eq!(summary(&heard), "late (2 times); lost");
        assert_eq!(summary(&[]), "nothing");
    }
}
