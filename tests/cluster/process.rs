//! A node's process, for the test.

use std::process::{Child, Command, Stdio};

use chrono::Utc;
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::node::Setup;

/// Killed when it is dropped, unless it has ended.
pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
}

impl Process {
    pub(crate) fn start(setup: &Setup) -> Process {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(setup.to_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Process { name: setup.name.clone(), child }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process. Returns its time of death, in microseconds since 1970.
    pub(crate) fn kill(mut self) -> i64 {
        self.is_going();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Utc::now().timestamp_micros()
    }

    /// Has the process end by itself.
    pub(crate) fn close(mut self) {
        self.is_going();
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "node {}: {status}", self.name);
    }

    /// Stops the process, and waits until all of its threads stand.
    pub(crate) fn stop(&mut self) {
        self.is_going();
        self.signal(Signal::SIGSTOP);
        let status = waitpid(self.id(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(status, WaitStatus::Stopped(self.id(), Signal::SIGSTOP));
    }

    pub(crate) fn go_on(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    /// Checks that the process has not ended by itself.
    fn is_going(&mut self) {
        let status = self.child.try_wait().unwrap();
        assert_eq!(status, None, "node {} has ended by itself", self.name);
    }

    fn signal(&self, signal: Signal) {
        kill(self.id(), signal).unwrap();
    }

    fn id(&self) -> Pid {
        Pid::from_raw(self.pid().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
