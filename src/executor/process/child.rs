//! The pool's side of one of its processes: it is started, given one run after the other, and killed
//! when this is dropped.

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
    protocol::{Answer, Ask, Ending, VERSION, encode, receive},
    worker::MARK,
};
use crate::{
    error::BoxError,
    escape::{LOG_LINE, one_line},
};

/// How long a process may take to say that it is ready.
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
            .map_err(|error| format!("no process can be started for the run: {error}"))?;
        child.greeted().await
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
                // Both streams are read as one, and a program's standard output may be data. If
                // nobody reads the other, there is nobody to tell.
                let _ = writeln!(io::stderr().lock(), "{line}");
            }
        })?;
        Ok(Child { group, socket: watched(|| UnixStream::from_std(ours))?, output })
    }

    /// Waits until it is ready for runs.
    async fn greeted(mut self) -> Result<Child, BoxError> {
        match timeout(STARTUP, receive(&mut self.socket)).await {
            Ok(Ok(Answer::Ready { version: VERSION })) => Ok(self),
            Ok(Ok(_)) => Err("this program was replaced by another version: start it anew".into()),
            Ok(Err(error)) => {
                let when = "before it came to `punctual::worker`, which must be the first line of `main`";
                Err(self.lost(when, error).await)
            }
            Err(_) => Err(format!(
                "the process did not come to `punctual::worker` in {STARTUP:?}: make that the first line of `main`"
            )
            .into()),
        }
    }

    /// Whether it can be given a run.
    pub(super) fn is_ready(&self) -> bool {
        // Between runs it has nothing to say: what there is to read is its end.
        let read = self.socket.try_read(&mut [0]);
        let silent = read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        silent && !self.group.has_ended()
    }

    /// Has it carry out a run that was encoded. If that is an error, the process is of no more use.
    pub(super) async fn run(
        &mut self,
        request: &[u8],
        stop: CancellationToken,
    ) -> io::Result<Ending> {
        let (mut from, mut to) = self.socket.split();
        to.write_all(request).await?;
        let stopping = async {
            stop.cancelled().await;
            if let Ok(stop) = encode(&Ask::Stop) {
                // If it is gone, that shows when its answer is awaited.
                let _ = to.write_all(&stop).await;
            }
            std::future::pending::<Infallible>().await
        };
        let answer = tokio::select! {
            answer = receive(&mut from) => answer?,
            never = stopping => match never {},
        };
        match answer {
            Answer::Ended(ending) => Ok(ending),
            Answer::Ready { .. } => Err(io::Error::other("it forgot its run")),
        }
    }

    /// Makes sure that it ends, and says how it did.
    pub(super) async fn lost(mut self, when: &str, error: io::Error) -> BoxError {
        let pid = self.group.number();
        // With the socket closed it has ended or is about to: how can't be changed any more.
        self.group.kill();
        let status = match self.group.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let mut said = format!("process {pid} ended {when} ({status})");
        if error.kind() != io::ErrorKind::UnexpectedEof {
            said += &format!(", as it could not be understood: {error}");
        }
        let tail = self.output.tail().await;
        if !tail.is_empty() {
            said += &format!("; what it printed last: {tail}");
        }
        said.into()
    }
}

/// The program that is running, even if its file was replaced meanwhile.
fn this_program() -> io::Result<PathBuf> {
    match cfg!(target_os = "linux") {
        true => Ok("/proc/self/exe".into()),
        false => std::env::current_exe(),
    }
}
