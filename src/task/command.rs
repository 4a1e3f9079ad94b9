//! Commands: work that runs a program, whose exit status is the outcome.

use std::{
    ffi::OsString,
    fmt::{self, Display as _},
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{Home, NewEntry, Work};
use crate::{
    driver::{Entry, EntryState, RunGuard},
    error::{Chain, Error},
    escape::Escaped,
    executor::{
        Executor, Kind, Returned,
        process::{group::Group, output::Output},
        task::execute,
    },
};

/// Creates work that runs a program with arguments. A run fails unless the exit status is 0.
///
/// The program is looked up as in [`std::process::Command::new`], without a shell. Its input is
/// empty. Its output is not shown; a failed run's error, a [`CommandError`], contains the last 4
/// KiB of output, or the reason why the program could not be started.
///
/// The command runs on an async executor, or on a [`ProcessPool`](crate::ProcessPool), where it
/// counts as one of its processes. A cancelled run receives SIGTERM, and SIGKILL after
/// `cancel_grace`. A run that exceeds its `timeout` receives SIGKILL at once. Both signals go to
/// the process group, which includes the program's child processes. Background processes that
/// remain after the program's exit are not killed.
///
/// ```
/// use punctual::{Scheduler, command, trigger::now};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), punctual::Error> {
/// let scheduler = Scheduler::new();
/// let backup = command("sh", ["-c", "echo $LEVEL; exit 3"]).env("LEVEL", "full");
/// let mut job = scheduler.add(now(), backup);
/// let mut runs = job.runs();
/// job.await?;
///
/// let run = runs.next().await.expect("the job runs");
/// assert_eq!(run.outcome.to_string(), "failed: `sh` ended with exit status: 3; last output: full");
/// # Ok(()) }
/// ```
pub fn command<I, A>(program: impl Into<OsString>, args: I) -> Command
where
    I: IntoIterator<Item = A>,
    A: Into<OsString>,
{
    Command {
        program: program.into(),
        args: args.into_iter().map(Into::into).collect(),
        envs: Vec::new(),
        current_dir: None,
    }
}

/// Work that runs a program, created by [`command`].
///
/// `Debug` shows the program, the number of arguments, and the names of environment variables. The
/// rest may be confidential.
#[derive(Clone)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    current_dir: Option<PathBuf>,
}

impl Command {
    /// Sets an environment variable, in addition to those of this process.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Command {
        self.envs.push((name.into(), value.into()));
        self
    }

    /// Sets the working directory of the program. Default: the working directory of this process.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Command {
        self.current_dir = Some(directory.into());
        self
    }

    /// Runs the program until its exit. Cancelling `stop` terminates the program; dropping the
    /// future kills it.
    async fn run(&self, stop: CancellationToken) -> Result<(), CommandError> {
        let failed = |cause, output| CommandError { program: self.program.clone(), cause, output };
        let (mut group, output) = self.spawn().map_err(|error| {
            let why = why_not_started(self, &error);
            failed(Cause::NotStarted { error, why }, String::new())
        })?;
        let ended = tokio::select! {
            status = group.wait() => Some(status),
            () = stop.cancelled() => None,
        };
        let ended = match ended {
            Some(status) => status,
            None => {
                group.terminate();
                group.wait().await
            }
        };
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(Cause::Ended(status), output.tail().await)),
            Err(error) => Err(failed(Cause::Lost(error), output.tail().await)),
        }
    }

    fn spawn(&self) -> io::Result<(Group, Output)> {
        let (reader, writer) = io::pipe()?;
        let mut command = std::process::Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        if let Some(directory) = &self.current_dir {
            command.current_dir(directory);
        }
        Ok((Group::spawn(command)?, Output::new(reader, |_, _, _| {})?))
    }
}

/// The reason why the program could not be started, with a remedy. The system's error does not say
/// whether it concerns the program, its interpreter or the directory.
fn why_not_started(command: &Command, error: &io::Error) -> String {
    if let Some(directory) = &command.current_dir {
        let shown = Escaped(directory.display());
        match fs::metadata(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return format!(
                    "its working directory `{shown}` does not exist: create it, or set another"
                );
            }
            Ok(metadata) if !metadata.is_dir() => {
                return format!("its working directory `{shown}` is not a directory: set another");
            }
            _ => {}
        }
    }
    let program = Path::new(&command.program);
    let named_by_path = program.components().count() > 1 || program.is_absolute();
    // A relative path is relative to the working directory of the new process.
    let file = match (&command.current_dir, named_by_path) {
        (Some(directory), true) => directory.join(program),
        _ => program.to_owned(),
    };
    match (error.kind(), error.raw_os_error().map(Errno::from_raw_os_error)) {
        (io::ErrorKind::NotFound, _) if !named_by_path => {
            "it is in no directory of PATH: install it, give its path, or set PATH with `.env(\"PATH\", ..)`"
                .into()
        }
        (io::ErrorKind::NotFound, _) if file.exists() => {
            "the interpreter in its first line, or its loader, does not exist: install it".into()
        }
        (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, _) => {
            "there is no such file: give another path".into()
        }
        (io::ErrorKind::PermissionDenied, _) if !named_by_path => {
            "no program with this name in PATH is executable: check the permissions, or give a path".into()
        }
        (io::ErrorKind::PermissionDenied, _) if file.is_dir() => {
            "it is a directory: give the path of a program".into()
        }
        (io::ErrorKind::PermissionDenied, _) => match fs::metadata(&file) {
            Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => {
                "it is not executable: use `chmod +x`, or name its interpreter as the program".into()
            }
            _ => "this user has no permission to execute it: check the permissions of the file and of its directories"
                .into(),
        },
        (_, Some(Errno::NOEXEC)) => {
            "it is neither a program for this machine nor a script with a first line like `#!/bin/sh`: add such a line, or name its interpreter as the program"
                .into()
        }
        (_, Some(Errno::TOOBIG)) => {
            "its arguments and environment are too long for the system: pass them in a file".into()
        }
        (_, Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE)) => {
            "the system has no processes, memory or file descriptors left: raise its limits, or run fewer programs at once".into()
        }
        (io::ErrorKind::InvalidInput, _) => {
            "its name, an argument or a variable contains a NUL byte: remove it".into()
        }
        _ => "the system refused to start it".into(),
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.envs.iter().map(|(name, _)| name).collect();
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("args", &format_args!("<{}>", self.args.len()))
            .field("envs", &names)
            .field("current_dir", &self.current_dir)
            .finish()
    }
}

/// Marks work that is a [`Command`].
#[derive(Debug)]
pub enum CommandWork {}

impl Work<CommandWork> for Command {
    type Output = ();

    fn into_entry(self, scheduler: Home) -> NewEntry {
        NewEntry(Arc::new(Commanded { state: EntryState::new(scheduler.0), command: self }))
    }
}

/// The entry of a command.
struct Commanded {
    state: EntryState,
    command: Command,
}

impl Entry for Commanded {
    fn state(&self) -> &EntryState {
        &self.state
    }

    fn check(&self, executor: &Executor) -> Result<(), Error> {
        match executor.kind {
            Kind::Async | Kind::Process(_) => self.check_alone(),
            Kind::Blocking(_) => Err(Error::invalid_option(format!(
                "a command can't run on {}: name an async executor, a process pool, or none",
                executor.kind_name()
            ))),
        }
    }

    fn check_alone(&self) -> Result<(), Error> {
        self.state.shared.runtime().map(drop)
    }

    fn launch(self: Arc<Self>, run: RunGuard, _: Option<Arc<Executor>>, runtime: &Handle) {
        runtime.spawn(execute(run, move |run: &RunGuard| {
            let cx = run.context();
            async move {
                self.command.run(cx.cancellation_token()).await?;
                Ok(None) as Returned
            }
        }));
    }

    fn drop_work(&self) {}
}

/// The error of a failed run of a [`command`].
///
/// ```
/// use punctual::{CommandError, Outcome};
///
/// /// Whether the program's exit status says that another instance of it is running.
/// fn was_locked(outcome: &Outcome) -> bool {
///     let Outcome::Failed(error) = outcome else { return false };
///     let status = error.downcast_ref::<CommandError>().and_then(CommandError::status);
///     status.is_some_and(|status| status.code() == Some(75))
/// }
/// ```
///
/// `Display` prints one line, with line breaks and control characters of the output escaped.
/// [`output`](CommandError::output) returns the output unchanged.
pub struct CommandError {
    program: OsString,
    cause: Cause,
    output: String,
}

enum Cause {
    NotStarted {
        error: io::Error,
        why: String,
    },
    Ended(ExitStatus),
    /// Waiting for the process failed.
    Lost(io::Error),
}

impl CommandError {
    /// Returns the exit status, unless the program could not be started or waited for.
    pub fn status(&self) -> Option<ExitStatus> {
        match self.cause {
            Cause::Ended(status) => Some(status),
            Cause::NotStarted { .. } | Cause::Lost(_) => None,
        }
    }

    /// Returns the last output of the program, up to 4 KiB.
    pub fn output(&self) -> &str {
        &self.output
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = Escaped(self.program.display());
        match &self.cause {
            Cause::NotStarted { why, .. } => write!(f, "`{program}` can't be started: {why}")?,
            Cause::Ended(status) => write!(f, "`{program}` ended with {status}")?,
            Cause::Lost(_) => write!(f, "the exit status of `{program}` is unknown")?,
        }
        match &*self.output {
            "" => Ok(()),
            output => write!(f, "; last output: {}", Escaped(output)),
        }
    }
}

impl fmt::Debug for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Chain(self).fmt(f)
    }
}

impl std::error::Error for CommandError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::NotStarted { error, .. } | Cause::Lost(error) => Some(error),
            Cause::Ended(_) => None,
        }
    }
}
