//! What a pool and its processes say to each other: JSON, each message after its length.

use std::{
    fmt::{self, Display as _},
    io::{self, Read, Write},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::{
    error::{BoxError, Chain},
    panic::text,
};

/// Counts the changes of what is said here. A program that was replaced while it runs may start a
/// process that speaks differently.
pub(super) const VERSION: u32 = 2;

/// The longest message, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;

/// How many errors a chain may have.
const LONGEST_CHAIN: usize = 16;

/// What the pool says.
#[derive(Serialize, Deserialize)]
pub(super) enum Ask {
    /// Begin this run; there is no other.
    Run(Request),
    /// The run is asked to stop, if it has not ended yet.
    Stop,
}

/// What the process says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It waits for runs. This comes first, once.
    Ready { version: u32 },
    /// The run ended.
    Ended(Ending),
}

/// A run, as its process needs to know it.
#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) task: String,
    pub(super) args: String,
    pub(super) job: String,
    pub(super) run: u64,
    pub(super) fire_time: DateTime<Utc>,
    pub(super) late_by: Duration,
    pub(super) coalesced: u64,
    pub(super) on_request: bool,
    pub(super) attempt: u32,
    pub(super) fence: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ending {
    Succeeded,
    Failed(Said),
    Panicked(String),
}

/// An error of which only the texts crossed over: its own, and those of its sources.
#[derive(Serialize, Deserialize)]
pub(super) struct Said {
    text: String,
    source: Option<Box<Said>>,
}

impl From<BoxError> for Said {
    fn from(error: BoxError) -> Said {
        fn said(error: &dyn std::error::Error, room: usize) -> Said {
            let source = error.source().filter(|_| room > 1);
            Said {
                text: text(&error),
                source: source.map(|source| Box::new(said(source, room - 1))),
            }
        }
        said(&*error, LONGEST_CHAIN)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Chain(self).fmt(f)
    }
}

impl std::error::Error for Said {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A message as it is sent.
pub(super) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = checked(bytes.len() - 4)?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// Sends a message from a process.
pub(super) fn write(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

/// Waits for a message to a process.
pub(super) fn read<T: DeserializeOwned>(mut from: impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = checked(u32::from_be_bytes(length) as usize)?;
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Waits for a message to the pool.
pub(super) async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<T> {
    let length = checked(from.read_u32().await? as usize)?;
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn checked(length: usize) -> io::Result<u32> {
    match u32::try_from(length) {
        Ok(short) if length <= LONGEST => Ok(short),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {length} bytes is too long: the limit is {LONGEST}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::{Answer, Ending, LONGEST, Said, encode, read, receive};
    use crate::{BoxError, Error};

    #[tokio::test]
    async fn both_sides_read_what_is_written() {
        let bytes = encode(&Answer::Ready { version: 7 }).unwrap();
        assert!(matches!(read(&bytes[..]).unwrap(), Answer::Ready { version: 7 }));
        assert!(matches!(receive(&mut &bytes[..]).await.unwrap(), Answer::Ready { version: 7 }));
        assert!(read::<Answer>(&bytes[..9]).is_err());
    }

    #[tokio::test]
    async fn a_long_message_is_refused_by_all() {
        assert!(encode(&"x".repeat(LONGEST - 2)).is_ok());
        assert!(encode(&"x".repeat(LONGEST)).unwrap_err().to_string().contains("too long"));
        assert!(read::<Answer>(&[0xff; 64][..]).unwrap_err().to_string().contains("too long"));
        let received = receive::<Answer>(&mut &[0xff; 64][..]).await;
        assert!(received.unwrap_err().to_string().contains("too long"));
    }

    #[test]
    fn errors_keep_their_sources() {
        let inner = BoxError::from("the disk is full");
        let said = Said::from(BoxError::from(Error::failed(inner.into())));
        let sent = encode(&Ending::Failed(said)).unwrap();
        let Ending::Failed(said) = read(&sent[..]).unwrap() else { panic!("it failed") };
        assert_eq!(said.to_string(), "the job's run returned an error");
        assert_eq!(said.source().unwrap().to_string(), "the disk is full");
        assert!(said.source().unwrap().source().is_none());
    }
}
