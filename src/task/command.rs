//! Work that is a command: a program with its arguments, whose exit status is the outcome.

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

/// Makes work of a program and its arguments: a run starts it, and fails unless its exit status is 0.
///
/// The program is looked for as [`std::process::Command::new`] does. Its input is empty. What it
/// prints is not shown; the last 4 KiB of it are in the error of a run that failed, a [`CommandError`],
/// which also says why a program could not be started. No shell looks at the arguments, unless it is the
/// program.
///
/// It runs on an async executor, or on a [`ProcessPool`](crate::ProcessPool), as one of its
/// processes. A run that is cancelled has SIGTERM sent to it, and SIGKILL after `cancel_grace`; one that
/// takes longer than its `timeout` has SIGKILL at once. Both reach its process group, that is what it
/// has started as well. What it leaves in the background when it exits is left alone.
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
/// let run = runs.next().await.expect("it runs");
/// assert_eq!(run.outcome.to_string(), "failed: `sh` ended with exit status: 3; what it printed last: full");
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

/// Work that is a command; made by [`command`]. `Debug` shows the program, how many arguments it has, and
/// the names of environment variables: the rest may be confidential.
#[derive(Clone)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    current_dir: Option<PathBuf>,
}

impl Command {
    /// Sets an environment variable, besides those of this program.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Command {
        self.envs.push((name.into(), value.into()));
        self
    }

    /// Sets the directory in which the program runs. Default: that of this program.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Command {
        self.current_dir = Some(directory.into());
        self
    }

    /// Runs the program to its end; `stop` asks it to end. If this is dropped, it is killed.
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

/// Why the system refused to start the program, and what would help: its errors don't say whether they
/// are about the program, its interpreter or the directory.
fn why_not_started(command: &Command, error: &io::Error) -> String {
    if let Some(directory) = &command.current_dir {
        let shown = Escaped(directory.display());
        match fs::metadata(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return format!(
                    "there is no directory `{shown}` for it to run in: make it, or name another"
                );
            }
            Ok(metadata) if !metadata.is_dir() => {
                return format!("`{shown}`, which it is to run in, is no directory: name another");
            }
            _ => {}
        }
    }
    let program = Path::new(&command.program);
    let named_by_path = program.components().count() > 1 || program.is_absolute();
    // A relative path is looked for in the directory of the program that is started.
    let file = match (&command.current_dir, named_by_path) {
        (Some(directory), true) => directory.join(program),
        _ => program.to_owned(),
    };
    match (error.kind(), error.raw_os_error().map(Errno::from_raw_os_error)) {
        (io::ErrorKind::NotFound, _) if !named_by_path => {
            "no directory of PATH has it: install it, name it by its path, or set PATH by `.env(\"PATH\", ..)`"
                .into()
        }
        (io::ErrorKind::NotFound, _) if file.exists() => {
            "its interpreter, which its first line names, or its loader is not there: install that".into()
        }
        (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, _) => {
            "there is no such file: name another".into()
        }
        (io::ErrorKind::PermissionDenied, _) if !named_by_path => {
            "none that PATH leads to may be executed: see to their permissions, or name it by its path".into()
        }
        (io::ErrorKind::PermissionDenied, _) if file.is_dir() => {
            "it is a directory: name a program in it".into()
        }
        (io::ErrorKind::PermissionDenied, _) => match fs::metadata(&file) {
            Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => {
                "it is not executable: `chmod +x` it, or name the program that reads it".into()
            }
            _ => "this user may not execute it: see to its permissions, and those of the directories that lead to it"
                .into(),
        },
        (_, Some(Errno::NOEXEC)) => {
            "it is neither a program for this machine nor a script with a first line like `#!/bin/sh`: give it one, or name the program that reads it"
                .into()
        }
        (_, Some(Errno::TOOBIG)) => {
            "its arguments and environment are too long for the system: hand them over in a file".into()
        }
        (_, Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE)) => {
            "the system has no process, memory or file descriptor left: raise its limits, or run fewer at once".into()
        }
        (io::ErrorKind::InvalidInput, _) => {
            "its name, an argument or a variable has a zero byte: leave that out".into()
        }
        _ => "the system refused".into(),
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

/// An entry for a command.
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

/// Why a run of a [`command`] failed.
///
/// ```
/// use punctual::{CommandError, Outcome};
///
/// /// Whether the program found another instance of itself running, as it says by its status.
/// fn was_locked(outcome: &Outcome) -> bool {
///     let Outcome::Failed(error) = outcome else { return false };
///     let status = error.downcast_ref::<CommandError>().and_then(CommandError::status);
///     status.is_some_and(|status| status.code() == Some(75))
/// }
/// ```
///
/// It prints as one line: line breaks and control characters of what the program printed are escaped
/// there, and not in [`output`](CommandError::output).
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
    /// It can't be waited for.
    Lost(io::Error),
}

impl CommandError {
    /// How the program ended, unless it could not be started.
    pub fn status(&self) -> Option<ExitStatus> {
        match self.cause {
            Cause::Ended(status) => Some(status),
            Cause::NotStarted { .. } | Cause::Lost(_) => None,
        }
    }

    /// What the program printed last, up to 4 KiB.
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
            Cause::Lost(_) => write!(f, "nobody knows how `{program}` ended")?,
        }
        match &*self.output {
            "" => Ok(()),
            output => write!(f, "; what it printed last: {}", Escaped(output)),
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
