//! A process whose descendants are killed with it, and which is always reaped.

use std::{io, os::unix::process::CommandExt as _, process::ExitStatus, thread};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::Child;

use super::io::watched;

/// The leader of its own process group. Signals to the group also reach its descendants. Signals
/// from a terminal to this program's group do not reach it. Dropping it kills the group.
#[derive(Debug)]
pub(crate) struct Group {
    /// `None` only during the drop.
    leader: Option<Child>,
}

impl Group {
    pub(crate) fn spawn(mut command: std::process::Command) -> io::Result<Group> {
        command.process_group(0);
        let leader = watched(|| tokio::process::Command::from(command).spawn())?;
        Ok(Group { leader: Some(leader) })
    }

    /// The process id, until the process has been waited for: until then the system does not reuse
    /// the id.
    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.leader.as_ref()?.id()?.try_into().ok()?)
    }

    /// The process id for messages; 0 after the process has been waited for.
    pub(crate) fn number(&self) -> i32 {
        self.pid().map_or(0, Pid::as_raw_pid)
    }

    /// Whether the process has ended. It is not reaped, so that its group can still be killed.
    pub(crate) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.pid().is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), options), Ok(None)))
    }

    /// Waits for the end of the process; descendants may continue.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        match &mut self.leader {
            Some(leader) => leader.wait().await,
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Sends SIGTERM to the group.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // An error means that the group has already ended.
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(pid) = self.pid() else { return };
        self.kill();
        let leader = self.leader.take();
        // The end of the process takes a moment, which must not block this thread, and the runtime
        // that could wait may be shutting down. Without a thread, Tokio reaps the process later.
        let _ = thread::Builder::new().name("punctual-reaper".to_owned()).spawn(move || {
            let end = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), end) {}
            // Reaps the ended process.
            drop(leader);
        });
    }
}
