//! A node's process, as the test sees it.

use std::process::{Child, Command, Stdio};

use chrono::Utc;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::node::Setup;

/// Killed when it is dropped, if it has not ended.
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

    /// Kills it; says when it was dead, in microseconds since 1970.
    pub(crate) fn kill(mut self) -> i64 {
        self.is_going();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Utc::now().timestamp_micros()
    }

    /// Has it end by itself.
    pub(crate) fn close(mut self) {
        self.is_going();
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "node {}: {status}", self.name);
    }

    /// Takes its time away.
    pub(crate) fn stop(&mut self) {
        self.is_going();
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn go_on(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sees that it has not ended by itself.
    fn is_going(&mut self) {
        let status = self.child.try_wait().unwrap();
        assert_eq!(status, None, "node {} has ended by itself", self.name);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
