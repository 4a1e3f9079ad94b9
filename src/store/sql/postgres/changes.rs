//! Changes: how one node tells the others, by NOTIFY, and listens on a connection of its own.

use std::{fmt::Write as _, pin::pin, time::Duration};

use chrono::{DateTime, Utc};
use futures::{
    StreamExt as _,
    future::{self, Either},
};
use tokio::{task::AbortHandle, time::timeout};
use tokio_postgres::AsyncMessage;

use super::{
    super::{instant, millis},
    pool::Connector,
};
use crate::store::{Changes, Incarnation, StoreChange};

/// Sends a payload, `$2`, to a channel, `$1`.
pub(super) const NOTIFY: &str = "SELECT pg_notify($1, $2)";

/// The server takes payloads below 8000 bytes.
const LONGEST: usize = 7900;

/// How often the connection is checked, and for how long it may be silent then.
const CHECK_EVERY: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(10);

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The name of the channel.
pub(super) fn channel(namespace: &str) -> String {
    format!("{}changes", namespace.to_ascii_lowercase())
}

/// Changes as a payload; `None` if there are none.
pub(super) fn payload(changes: &[StoreChange]) -> Option<String> {
    let mut text = String::new();
    for change in changes {
        let separator = if text.is_empty() { "" } else { " " };
        // Writing into a string does not fail.
        let _ = match change {
            StoreChange::Due(at) if *at == DateTime::<Utc>::MIN_UTC => write!(text, "{separator}w"),
            StoreChange::Due(at) => write!(text, "{separator}d{}", millis(*at)),
            StoreChange::Job(of, version) => write!(text, "{separator}j{:x}.{version:x}", of.0),
            StoreChange::Gone(of) => write!(text, "{separator}g{:x}", of.0),
            StoreChange::Unknown => write!(text, "{separator}?"),
        };
    }
    if text.len() > LONGEST {
        text = "?".to_owned();
    }
    (!text.is_empty()).then_some(text)
}

/// The changes of a payload; whatever a later version sends is an unknown change.
fn changes(payload: &str) -> impl Iterator<Item = StoreChange> + '_ {
    payload.split(' ').map(|word| change(word).unwrap_or(StoreChange::Unknown))
}

fn change(word: &str) -> Option<StoreChange> {
    let number = |text| u64::from_str_radix(text, 16).ok();
    match word.split_at_checked(1)? {
        ("w", "") => Some(StoreChange::Due(DateTime::<Utc>::MIN_UTC)),
        ("d", at) => Some(StoreChange::Due(instant(at.parse().ok()?))),
        ("j", job) => {
            let (of, version) = job.split_once('.')?;
            Some(StoreChange::Job(Incarnation(number(of)?), number(version)?))
        }
        ("g", of) => Some(StoreChange::Gone(Incarnation(number(of)?))),
        _ => None,
    }
}

/// Listens to the channel until it is aborted.
pub(super) fn listen(connector: Connector, channel: String, changes: Changes) -> AbortHandle {
    let listening = async move {
        let mut wait = FIRST_WAIT;
        loop {
            if attend(&connector, &channel, &changes).await {
                wait = FIRST_WAIT;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    };
    tokio::spawn(listening).abort_handle()
}

/// Listens on one connection until it fails; returns whether it was made.
async fn attend(connector: &Connector, channel: &str, receivers: &Changes) -> bool {
    let Ok(Ok((client, messages))) = timeout(SILENCE, connector.connect()).await else {
        return false;
    };
    let forward = messages.take_while(|message| future::ready(message.is_ok())).for_each(|it| {
        if let Ok(AsyncMessage::Notification(notification)) = it {
            receivers.send(changes(notification.payload()));
        }
        future::ready(())
    });
    let watch = async {
        let mut is_listening = false;
        let listen = format!("LISTEN \"{channel}\"");
        while timeout(SILENCE, client.batch_execute(&listen)).await.is_ok_and(|it| it.is_ok()) {
            if !is_listening {
                is_listening = true;
                // What was before may have gone unheard.
                receivers.send([StoreChange::Unknown]);
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
        is_listening
    };
    match future::select(pin!(forward), pin!(watch)).await {
        Either::Left(_) => true,
        Either::Right((was_listening, _)) => was_listening,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_they_are_written() {
        let all = [
            StoreChange::Due(DateTime::<Utc>::MIN_UTC),
            StoreChange::Due(instant(1_763_640_000_123)),
            StoreChange::Due(instant(-5)),
            StoreChange::Job(Incarnation(u64::MAX / 2), 7),
            StoreChange::Gone(Incarnation(255)),
            StoreChange::Unknown,
        ];
        let text = payload(&all).unwrap();
        assert_eq!(text, "w d1763640000123 d-5 j7fffffffffffffff.7 gff ?");
        assert_eq!(changes(&text).collect::<Vec<_>>(), all);
        assert_eq!(payload(&[]), None);
        let many = [StoreChange::Gone(Incarnation(u64::MAX)); 1000];
        assert_eq!(payload(&many).as_deref(), Some("?"));
        for text in ["", "x7", "d", "j1", "ü"] {
            assert_eq!(changes(text).collect::<Vec<_>>(), [StoreChange::Unknown], "{text}");
        }
    }
}
