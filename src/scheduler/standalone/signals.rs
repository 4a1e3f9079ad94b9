//! The signals that end a program: SIGINT and SIGTERM, or Ctrl-C on Windows.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{CtrlC, ctrl_c};

use crate::error::Error;

#[cfg(unix)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

#[cfg(unix)]
impl Signals {
    /// Takes the signals over from here on, for as long as the process lives.
    pub(super) fn listen() -> Result<Signals, Error> {
        let listen = |kind| signal(kind).map_err(refused);
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one, and names it.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(windows)]
pub(super) struct Signals(CtrlC);

#[cfg(windows)]
impl Signals {
    /// Takes Ctrl-C over from here on, for as long as the process lives.
    pub(super) fn listen() -> Result<Signals, Error> {
        Ok(Signals(ctrl_c().map_err(refused)?))
    }

    /// Waits for the next one, and names it.
    pub(super) async fn next(&mut self) -> &'static str {
        self.0.recv().await;
        "Ctrl-C"
    }
}

fn refused(error: io::Error) -> Error {
    Error::no_runtime(format!(
        "the system refused to hand over its signals ({error}): use a `BackgroundScheduler`, which takes none"
    ))
}
