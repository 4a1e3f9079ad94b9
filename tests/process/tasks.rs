//! The tasks of the tests' processes.

use std::{
    fs,
    future::pending,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use punctual::{BoxError, Context, Error, ProcessPool, Task, trigger::now};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::fixture::FOREVER;

/// The action of a process, after it has written its id.
#[derive(Serialize, Deserialize)]
pub(super) struct Act {
    /// The file for its id, and for that of a process that it has started, if any.
    pub(super) pids: PathBuf,
    pub(super) then: Then,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Then {
    Return,
    Sleep(Duration),
    /// Stops when it is cancelled, and writes that to a file.
    Obey(PathBuf),
    /// Blocks its thread, and does not check whether it is cancelled.
    Block,
    /// Waits forever, like a process that it has started.
    StartAnother,
    Fail,
    Panic,
    Abort,
    Exit(i32),
    /// Writes its context to a file.
    Report(PathBuf),
    Print(String),
    /// Prints a lot, without a line end.
    Babble,
    /// Reads from its standard input, which is the channel to the pool.
    ReadInput,
    /// Starts this program, which must not act as a worker.
    StartThisProgram,
    AskScheduler,
    FailOnce,
}

/// The state of the processes.
pub(super) struct Greeting(pub(super) &'static str);

impl Task for Act {
    const NAME: &'static str = "act";
    type Output = Result<(), BoxError>;

    async fn run(self, cx: Context) -> Result<(), BoxError> {
        say_pid(&self.pids, std::process::id());
        match self.then {
            Then::Return => {}
            Then::Sleep(time) => sleep(time).await,
            Then::Obey(said) => {
                cx.cancelled().await;
                assert!(cx.is_cancelled());
                fs::write(said, "obeyed")?;
            }
            Then::Block => std::thread::sleep(FOREVER),
            Then::StartAnother => {
                let another = std::process::Command::new("sleep").arg("600").spawn()?;
                say_pid(&self.pids, another.id());
                pending().await
            }
            Then::Fail => {
                #[derive(Debug)]
                struct Outer(BoxError);
                impl std::fmt::Display for Outer {
                    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("no picture")
                    }
                }
                impl std::error::Error for Outer {
                    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                        Some(&*self.0)
                    }
                }
                return Err(Outer("the disk is full".into()).into());
            }
            Then::Panic => panic!("out of {}", "paper"),
            Then::Abort => {
                eprintln!("about to abort");
                std::process::abort();
            }
            Then::Exit(code) => std::process::exit(code),
            Then::Report(to) => {
                let known = format!(
                    "{} {} {} {} {} {} {} {}",
                    cx.job_id(),
                    cx.run_id(),
                    cx.fire_time().timestamp_nanos_opt().unwrap_or(0),
                    cx.late_by().as_nanos(),
                    cx.attempt(),
                    cx.on_request(),
                    cx.coalesced(),
                    cx.state::<Greeting>().0,
                );
                fs::write(to, known)?;
            }
            Then::Print(line) => println!("{line}"),
            Then::Babble => {
                print!("{}", "x".repeat(1 << 20));
                eprint!("{}", "y".repeat(1 << 20));
            }
            Then::ReadInput => {
                let read = std::io::stdin().read(&mut [0; 16])?;
                assert_eq!(read, 0, "its input is empty");
            }
            Then::StartThisProgram => {
                let output = std::process::Command::new(std::env::current_exe()?)
                    .arg("--who")
                    .stdin(Stdio::null())
                    .output()?;
                assert_eq!(String::from_utf8(output.stdout)?, "the program itself\n");
            }
            Then::AskScheduler => {
                let scheduler = cx.scheduler();
                let refused = |error: Error| {
                    assert!(error.is_no_runtime(), "{error}");
                    assert!(error.to_string().contains("has no scheduler"), "{error}");
                };
                refused(scheduler.add(now(), || async {}).await.unwrap_err());
                refused(scheduler.pause().await.unwrap_err());
                refused(scheduler.job(cx.job_id()).run_now().await.unwrap_err());
                refused(scheduler.add_executor("x", ProcessPool::new(1)).await.unwrap_err());
                assert!(scheduler.is_empty() && !scheduler.is_paused());
                assert!(scheduler.events().next().await.is_none());
                assert!(scheduler.shutdown().await.is_clean());
            }
            Then::FailOnce => {
                if cx.attempt() == 1 {
                    return Err("not yet".into());
                }
            }
        }
        Ok(())
    }
}

/// A task that the processes do not know.
#[derive(Serialize, Deserialize)]
pub(super) struct Stranger;

impl Task for Stranger {
    const NAME: &'static str = "stranger";
    type Output = ();

    async fn run(self, _: Context) {}
}

fn say_pid(to: &Path, pid: u32) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(to).unwrap();
    // In one write, since other processes append, too.
    file.write_all(format!("{pid}\n").as_bytes()).unwrap();
}
