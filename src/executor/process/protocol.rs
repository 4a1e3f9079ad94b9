//! The protocol between a pool and its processes: JSON messages with a length prefix.

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

/// The version of the protocol. A program that is replaced while it runs may start a process with
/// another version.
pub(super) const VERSION: u32 = 2;

/// The maximum length of a message, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;

/// The maximum number of errors in a chain.
const LONGEST_CHAIN: usize = 16;

/// A message from the pool.
#[derive(Serialize, Deserialize)]
pub(super) enum ToProcess {
    /// Start this run; no other run is active.
    Run(Request),
    /// Cancel the run, if it has not ended.
    Stop,
}

/// A message from the process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromProcess {
    /// The process is ready for runs. The first message, sent once.
    Ready { version: u32 },
    /// The run ended.
    Ended(Ending),
}

/// A run, with the data for its process.
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
    Failed(ErrorText),
    Panicked(String),
}

/// The texts of an error and of its sources.
#[derive(Serialize, Deserialize)]
pub(super) struct ErrorText {
    text: String,
    source: Option<Box<ErrorText>>,
}

impl From<BoxError> for ErrorText {
    fn from(error: BoxError) -> ErrorText {
        fn chain(error: &dyn std::error::Error, room: usize) -> ErrorText {
            let source = error.source().filter(|_| room > 1);
            ErrorText {
                text: text(&error),
                source: source.map(|source| Box::new(chain(source, room - 1))),
            }
        }
        chain(&*error, LONGEST_CHAIN)
    }
}

impl fmt::Display for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Chain(self).fmt(f)
    }
}

impl std::error::Error for ErrorText {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Encodes a message.
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

/// Receives a message in a process.
pub(super) fn read<T: DeserializeOwned>(mut from: impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = checked(u32::from_be_bytes(length) as usize)?;
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Receives a message in the pool.
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

    use super::{Ending, ErrorText, FromProcess, LONGEST, encode, read, receive};
    use crate::{BoxError, Error};

    #[tokio::test]
    async fn both_sides_read_what_is_written() {
        let bytes = encode(&FromProcess::Ready { version: 7 }).unwrap();
        assert!(matches!(read(&bytes[..]).unwrap(), FromProcess::Ready { version: 7 }));
        assert!(matches!(
            receive(&mut &bytes[..]).await.unwrap(),
            FromProcess::Ready { version: 7 }
        ));
        assert!(read::<FromProcess>(&bytes[..9]).is_err());
    }

    #[tokio::test]
    async fn a_long_message_is_refused_by_all() {
        assert!(encode(&"x".repeat(LONGEST - 2)).is_ok());
        assert!(encode(&"x".repeat(LONGEST)).unwrap_err().to_string().contains("too long"));
        assert!(read::<FromProcess>(&[0xff; 64][..]).unwrap_err().to_string().contains("too long"));
        let received = receive::<FromProcess>(&mut &[0xff; 64][..]).await;
        assert!(received.unwrap_err().to_string().contains("too long"));
    }

    #[test]
    fn errors_keep_their_sources() {
        let inner = BoxError::from("the disk is full");
        let error_text = ErrorText::from(BoxError::from(Error::failed(inner.into())));
        let sent = encode(&Ending::Failed(error_text)).unwrap();
        let Ending::Failed(error_text) = read(&sent[..]).unwrap() else { panic!("it failed") };
        assert_eq!(error_text.to_string(), "the job's run returned an error");
        assert_eq!(error_text.source().unwrap().to_string(), "the disk is full");
        assert!(error_text.source().unwrap().source().is_none());
    }
}
