//! A process that takes its descendants along when it is killed, and is always reaped.

use std::{io, os::unix::process::CommandExt as _, process::ExitStatus, thread};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::Child;

use super::io::watched;

/// A process that leads a group of its own: signals reach its descendants with it, and what a
/// terminal sends to this program's group does not reach it. Dropped, the group is killed.
#[derive(Debug)]
pub(crate) struct Group {
    /// Gone only while this is being dropped.
    leader: Option<Child>,
}

impl Group {
    pub(crate) fn spawn(mut command: std::process::Command) -> io::Result<Group> {
        command.process_group(0);
        let leader = watched(|| tokio::process::Command::from(command).spawn())?;
        Ok(Group { leader: Some(leader) })
    }

    /// The process, as long as it was not waited for to its end: until then its number is not
    /// given to another.
    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.leader.as_ref()?.id()?.try_into().ok()?)
    }

    /// The same for people, 0 if it was.
    pub(crate) fn number(&self) -> i32 {
        self.pid().map_or(0, Pid::as_raw_pid)
    }

    /// Whether the process has ended. It stays to be reaped, so that its group can be killed.
    pub(crate) fn has_ended(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.pid().is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), look), Ok(None)))
    }

    /// Waits for the end of the process; descendants may go on.
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

    /// Asks the group to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // It fails if they are gone, which is what the signal is for.
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(pid) = self.pid() else { return };
        self.kill();
        let leader = self.leader.take();
        // Dying takes a moment, which must not be this thread's, and the runtime that could wait may
        // be what is being dropped. Without a thread, Tokio reaps it when it gets round to it.
        let _ = thread::Builder::new().name("punctual-reaper".to_owned()).spawn(move || {
            let end = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), end) {}
            // Reaps what has ended.
            drop(leader);
        });
    }
}
