//! The pool's side of a process: starts it, sends it one run after another, and kills it when
//! dropped.

use std::{
    convert::Infallible,
    io::{self, Write as _},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream as Socket, process::CommandExt as _},
    },
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, net::UnixStream, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    group::Group,
    io::watched,
    output::Output,
    protocol::{Ending, FromProcess, ToProcess, VERSION, encode, receive},
    worker::MARK,
};
use crate::{
    error::BoxError,
    escape::{LOG_LINE, one_line},
};

/// How long a process may take to report that it is ready.
const STARTUP: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Child {
    group: Group,
    socket: UnixStream,
    output: Output,
}

impl Child {
    pub(super) async fn start() -> Result<Child, BoxError> {
        let child = Child::spawn()
            .map_err(|error| format!("no process could be started for the run: {error}"))?;
        child.await_ready().await
    }

    fn spawn() -> io::Result<Child> {
        let (reader, writer) = io::pipe()?;
        let (ours, theirs) = Socket::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(this_program()?);
        command
            .arg0(MARK)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(writer.try_clone()?)
            .stderr(writer);
        let group = Group::spawn(command)?;
        let pid = group.number();
        let output = Output::new(reader, move |run, job, line| {
            let line = one_line(line, LOG_LINE);
            if tracing::enabled!(target: "punctual::worker", tracing::Level::INFO) {
                tracing::info!(target: "punctual::worker", pid, run, job = job.map(display), "{line}");
            } else {
                // Both streams are read as one, and a program's standard output may be data. A
                // write error means that standard error has no reader.
                let _ = writeln!(io::stderr().lock(), "{line}");
            }
        })?;
        Ok(Child { group, socket: watched(|| UnixStream::from_std(ours))?, output })
    }

    /// Waits until the process is ready for runs.
    async fn await_ready(mut self) -> Result<Child, BoxError> {
        match timeout(STARTUP, receive(&mut self.socket)).await {
            Ok(Ok(FromProcess::Ready { version: VERSION })) => Ok(self),
            Ok(Ok(_)) => Err("this program was replaced by another version: restart it".into()),
            Ok(Err(error)) => {
                let when = "before it reached `punctual::worker`, which must be the first line of `main`";
                Err(self.lost(when, error).await)
            }
            Err(_) => Err(format!(
                "the process did not reach `punctual::worker` within {STARTUP:?}: call it in the first line of `main`"
            )
            .into()),
        }
    }

    /// Whether the process can execute a run.
    pub(super) fn is_ready(&self) -> bool {
        // Between runs the process sends nothing, so readable data means its end.
        let read = self.socket.try_read(&mut [0]);
        let silent = read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        silent && !self.group.has_ended()
    }

    /// Executes an encoded run. After an error the process cannot be used again.
    pub(super) async fn run(
        &mut self,
        request: &[u8],
        stop: CancellationToken,
    ) -> io::Result<Ending> {
        let (mut from, mut to) = self.socket.split();
        to.write_all(request).await?;
        let stopping = async {
            stop.cancelled().await;
            if let Ok(stop) = encode(&ToProcess::Stop) {
                // If the process has exited, the response below shows it.
                let _ = to.write_all(&stop).await;
            }
            std::future::pending::<Infallible>().await
        };
        let answer = tokio::select! {
            answer = receive(&mut from) => answer?,
            never = stopping => match never {},
        };
        match answer {
            FromProcess::Ended(ending) => Ok(ending),
            FromProcess::Ready { .. } => Err(io::Error::other("the process has restarted")),
        }
    }

    /// Kills the process if it still runs, and returns an error with its exit status and last
    /// output.
    pub(super) async fn lost(mut self, when: &str, error: io::Error) -> BoxError {
        let pid = self.group.number();
        // The socket is closed, so the process has exited or is about to; the signal cannot change
        // its status.
        self.group.kill();
        let status = match self.group.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let mut text = format!("process {pid} ended {when} ({status})");
        if error.kind() != io::ErrorKind::UnexpectedEof {
            text += &format!(", after an invalid message: {error}");
        }
        let tail = self.output.tail().await;
        if !tail.is_empty() {
            text += &format!("; last output: {tail}");
        }
        text.into()
    }
}

/// The running program, even if its file has been replaced since.
fn this_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}
