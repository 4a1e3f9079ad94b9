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
    /// Installs the signal handlers, which stay until the process ends.
    pub(super) fn listen() -> Result<Signals, Error> {
        let listen = |kind| signal(kind).map_err(refused);
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal and returns its name.
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
    /// Installs the Ctrl-C handler, which stays until the process ends.
    pub(super) fn listen() -> Result<Signals, Error> {
        Ok(Signals(ctrl_c().map_err(refused)?))
    }

    /// Waits for the next signal and returns its name.
    pub(super) async fn next(&mut self) -> &'static str {
        self.0.recv().await;
        "Ctrl-C"
    }
}

fn refused(error: io::Error) -> Error {
    Error::no_runtime(format!(
        "the system refused the signal handlers ({error}): use a `BackgroundScheduler`, which installs none"
    ))
}
