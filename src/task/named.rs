//! Named tasks: work with a name and serializable arguments.

use std::{
    any::TypeId,
    collections::HashMap,
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[cfg(feature = "process")]
use futures::future::BoxFuture;
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Handle;

use super::{Context, Home, NewEntry, OnceWork, Work, WorkOutput, once::Taker, output::returned};
use crate::{
    driver::{Entry, EntryState, RunGuard, Shared},
    error::{Error, without_values},
    executor::{Executor, Returned, task::execute},
    job::{JobId, Outcome, check_name},
    json,
    panic::shielded_or,
};
#[cfg(feature = "process")]
use crate::{
    error::BoxError,
    executor::{Kind, process::worker},
};

/// Work with a name and serializable arguments.
///
/// The value of the type holds the arguments. They are serialized as JSON when a job is added, and
/// deserialized for each run. So a task can be added by name ([`named_task`]), be kept in a store,
/// and run in another process. Register the type on the scheduler's builder. A run gets everything
/// besides its arguments from [`Context::state`].
///
/// The arguments take at most 1 MiB as JSON, with at most 127 levels of lists and objects: adding a
/// job with more is an error.
///
/// ```
/// use std::time::Duration;
/// use punctual::{BoxError, Context, Scheduler, Task, named_task, trigger::now};
/// use serde::{Deserialize, Serialize};
///
/// struct Mailer;
///
/// impl Mailer {
///     async fn send(&self, customer: u64) {}
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct SendInvoice {
///     customer: u64,
/// }
///
/// impl Task for SendInvoice {
///     const NAME: &'static str = "send-invoice";
///     type Output = Result<(), BoxError>;
///
///     async fn run(self, cx: Context) -> Result<(), BoxError> {
///         cx.state::<Mailer>().send(self.customer).await;
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// let scheduler = Scheduler::builder().state(Mailer).task::<SendInvoice>().start().await?;
/// scheduler.add(now(), SendInvoice { customer: 7 }).await?.await;
///
/// // The same by name; arguments that do not match the type are an error here, not at a run.
/// let seven = serde_json::json!({ "customer": 7 });
/// scheduler.add(now(), named_task("send-invoice", &seven)).await?.await;
/// let wrong = named_task("send-invoice", &"seven");
/// assert!(scheduler.add(now(), wrong).await.unwrap_err().is_invalid_task());
///
/// // Once: the handle returns the value or the error.
/// scheduler.add_once(now(), SendInvoice { customer: 7 }).await?.await?;
/// # Ok(()) }
/// ```
pub trait Task: Serialize + DeserializeOwned + Send + 'static {
    /// The name of the task, unique within a scheduler, at most 255 bytes. Stores keep the name, so
    /// it must not change when the type is renamed.
    const NAME: &'static str;

    /// The return type: `()`, or a `Result` whose error converts into
    /// [`BoxError`](crate::BoxError).
    type Output: WorkOutput + Send;

    /// Runs the task. May be an `async fn`.
    fn run(self, cx: Context) -> impl Future<Output = Self::Output> + Send;
}

/// Creates work from a task's name and arguments, for code without access to its type.
pub fn named_task(name: impl Into<String>, args: &impl Serialize) -> NamedTask {
    let name = name.into();
    let args = to_json(&name, args);
    NamedTask { name, args }
}

/// A task by name, created by [`named_task`] or from a [`Task`]. `Debug` shows the name, and not
/// the arguments.
#[derive(Clone)]
pub struct NamedTask {
    name: String,
    args: Result<String, Error>,
}

/// Marks work that is a [`Task`], by type or by name.
#[derive(Debug)]
pub enum ByName {}

impl<T: Task> Work<ByName> for T {
    type Output = T::Output;

    fn into_entry(self, scheduler: Home) -> NewEntry {
        let args = written(&self, &scheduler);
        NewEntry(Arc::new(Named::<T, _>::new(scheduler.0, args, Kept)))
    }
}

/// The handle returns the value of a successful run. An error that the task returns is the run's
/// failure, wherever it runs.
impl<T: Task> OnceWork<ByName> for T {
    type Output = <T::Output as WorkOutput>::Value;

    fn into_once<R: Send + 'static>(
        self,
        scheduler: Home,
        taker: Taker<<T::Output as WorkOutput>::Value, R>,
    ) -> NewEntry {
        let args = written(&self, &scheduler);
        NewEntry(Arc::new(Named::<T, _>::new(scheduler.0, args, taker)))
    }
}

/// The arguments as JSON, if the scheduler has registered the task.
fn written<T: Task>(task: &T, scheduler: &Home) -> Result<String, Error> {
    scheduler.0.tasks.check::<T>()?;
    to_json(T::NAME, task)
}

fn to_json(name: &str, args: &impl Serialize) -> Result<String, Error> {
    let args = serde_json::to_string(args).map_err(|error| unwritable(name, &error))?;
    json::check_depth(format_args!("the arguments of task `{name}`"), &args)?;
    Ok(args)
}

impl Work<NamedTask> for NamedTask {
    type Output = ();

    fn into_entry(self, scheduler: Home) -> NewEntry {
        NewEntry(match self.args {
            Ok(args) => scheduler.0.tasks.make(&scheduler.0, &self.name, args),
            Err(error) => Arc::new(Named::<Never, _>::new(scheduler.0, Err(error), Kept)),
        })
    }
}

impl fmt::Debug for NamedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedTask").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T: Task> From<T> for NamedTask {
    fn from(task: T) -> NamedTask {
        named_task(T::NAME, &task)
    }
}

impl NamedTask {
    /// The arguments for a job whose task has this name.
    pub(crate) fn into_args(self, job: &JobId, task: &str) -> Result<String, Error> {
        if self.name == task {
            return self.args;
        }
        Err(Error::invalid_task(format!(
            "job `{job}` is task `{task}`, which can't have the arguments of task `{}`: replace the job",
            self.name
        )))
    }
}

fn unwritable(name: &str, error: &serde_json::Error) -> Error {
    let reason = without_values(error);
    let text = format!("the arguments of task `{name}` can't be written as JSON: {reason}");
    Error::invalid_task(text).with_details([&"the reason", error])
}

/// Deserializes arguments. The error's text does not contain them: they may be confidential, and
/// long.
fn read<T: Task>(args: &str) -> Result<T, Error> {
    json::check_depth(format_args!("the arguments of task `{}`", T::NAME), args)?;
    serde_json::from_str(args).map_err(|error| {
        let reason = without_values(&error);
        let text = format!("the arguments do not match task `{}`: {reason}", T::NAME);
        Error::invalid_task(text).with_details([&args, &error])
    })
}

/// The registered tasks of a scheduler.
#[derive(Default)]
pub(crate) struct Tasks(HashMap<&'static str, Registered>);

struct Registered {
    task: TypeId,
    make: fn(Arc<Shared>, String) -> Arc<dyn Entry>,
    #[cfg(feature = "process")]
    call: fn(String, Context) -> BoxFuture<'static, Result<(), BoxError>>,
}

impl Tasks {
    pub(crate) fn register<T: Task>(&mut self) -> Result<(), Error> {
        check_name("the name of a task", T::NAME)?;
        let task = TypeId::of::<T>();
        let make = |shared, args: String| -> Arc<dyn Entry> {
            let fits = read::<T>(&args).map(|_| args);
            Arc::new(Named::<T, _>::new(shared, fits, Kept))
        };
        let registered = Registered {
            task,
            make,
            #[cfg(feature = "process")]
            call: |args, cx| {
                Box::pin(async move { call::<T>(&args, cx).await?.into_result().map(drop) })
            },
        };
        match self.0.insert(T::NAME, registered) {
            Some(other) if other.task != task => Err(Error::invalid_task(format!(
                "two tasks are named `{}`: give one of them another name",
                T::NAME
            ))),
            _ => Ok(()),
        }
    }

    /// The names of all tasks.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.keys().copied()
    }

    /// Creates an entry for the task with this name. If there is an error, its runs fail with it.
    pub(crate) fn make(&self, shared: &Arc<Shared>, name: &str, args: String) -> Arc<dyn Entry> {
        let made = shielded_or(|| Ok((self.get(name)?.make)(shared.clone(), args)));
        made.unwrap_or_else(|error| {
            Arc::new(Named::<Never, _>::new(shared.clone(), Err(error), Kept))
        })
    }

    /// Whether this type is registered.
    #[cfg(feature = "process")]
    pub(crate) fn has<T: Task>(&self) -> bool {
        self.0.get(T::NAME).is_some_and(|registered| registered.task == TypeId::of::<T>())
    }

    /// Calls the task with this name.
    #[cfg(feature = "process")]
    pub(crate) async fn call(&self, name: &str, args: String, cx: Context) -> Result<(), BoxError> {
        (self.get(name)?.call)(args, cx).await
    }

    fn get(&self, name: &str) -> Result<&Registered, Error> {
        self.0.get(name).ok_or_else(|| {
            Error::invalid_task(format!(
                "no task `{name}` is registered: add `.task::<..>()` to the scheduler's builder"
            ))
        })
    }

    fn check<T: Task>(&self) -> Result<(), Error> {
        if self.get(T::NAME)?.task == TypeId::of::<T>() {
            return Ok(());
        }
        Err(Error::invalid_task(format!(
            "another type is registered as task `{}`: rename one of them",
            T::NAME
        )))
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The entry of a named task.
struct Named<T, O> {
    state: EntryState,
    args: Mutex<Arguments>,
    /// Handles the return values of runs.
    outputs: O,
    task: PhantomData<fn() -> T>,
}

struct Arguments {
    /// The version of the job's record that has these arguments; 0 for a job in memory.
    version: u64,
    /// JSON that matches the type, or an error.
    json: Result<Arc<str>, Error>,
}

/// Handles the return values of a task.
trait Outputs<V>: Send + Sync + 'static {
    /// Whether a handle waits for a value, so that there must be one.
    const WANTED: bool;

    /// Handles the value of a run; `kept` says whether the run keeps the value.
    fn take(&self, output: impl WorkOutput<Value = V>, kept: bool) -> Returned;

    /// Handles the outcome of a run; `is_final` says whether no other scheduler can recover the
    /// run.
    fn conclude(&self, outcome: &Outcome, is_final: bool);
}

/// Keeps values in their runs, on request.
struct Kept;

impl<V> Outputs<V> for Kept {
    const WANTED: bool = false;

    fn take(&self, output: impl WorkOutput<Value = V>, kept: bool) -> Returned {
        returned(output, kept)
    }

    fn conclude(&self, _: &Outcome, _: bool) {}
}

impl<V: Send + 'static, R: Send + 'static> Outputs<V> for Taker<V, R> {
    const WANTED: bool = true;

    fn take(&self, output: impl WorkOutput<Value = V>, _: bool) -> Returned {
        Taker::take(self, output.into_result()?)?;
        Ok(None)
    }

    fn conclude(&self, outcome: &Outcome, is_final: bool) {
        if is_final {
            Taker::conclude(self, outcome);
        }
    }
}

/// The value type of the task.
type ValueOf<T> = <<T as Task>::Output as WorkOutput>::Value;

impl<T: Task, O: Outputs<ValueOf<T>>> Named<T, O> {
    fn new(shared: Arc<Shared>, args: Result<String, Error>, outputs: O) -> Named<T, O> {
        let args = Mutex::new(Arguments { version: 0, json: args.map(Into::into) });
        Named { state: EntryState::new(shared), args, outputs, task: PhantomData }
    }
}

impl<T: Task, O: Outputs<ValueOf<T>>> Entry for Named<T, O> {
    fn state(&self) -> &EntryState {
        &self.state
    }

    fn check(&self, executor: &Executor) -> Result<(), Error> {
        self.check_alone()?;
        match executor.kind {
            #[cfg(feature = "process")]
            Kind::Process(_) if O::WANTED => Err(Error::invalid_option(
                "a process pool does not return the value of a task: use `add`, or name an async executor",
            )),
            #[cfg(feature = "process")]
            Kind::Process(_) => worker::knows::<T>(),
            _ => super::only_async(executor),
        }
    }

    fn check_alone(&self) -> Result<(), Error> {
        self.args().map(drop)
    }

    fn task(&self) -> Option<(&'static str, Result<Arc<str>, Error>)> {
        Some((T::NAME, self.args()))
    }

    fn set_args(&self, version: u64, args: &str) {
        let mut current = self.lock_args();
        if version >= current.version {
            current.version = version;
            if current.json.as_deref().ok() != Some(args) {
                // The next call of the task checks whether they match.
                current.json = Ok(args.into());
            }
        }
    }

    #[cfg_attr(not(feature = "process"), expect(unused_variables, reason = "there is one kind"))]
    fn launch(self: Arc<Self>, run: RunGuard, executor: Option<Arc<Executor>>, runtime: &Handle) {
        runtime.spawn(execute(run, move |run: &RunGuard| {
            let (cx, wanted) = (run.context(), run.wants_output());
            async move {
                let args = self.args()?;
                #[cfg(feature = "process")]
                if let Some(Kind::Process(processes)) = executor.as_deref().map(|e| &e.kind) {
                    // Boxed, so that runs without a process do not need space for it.
                    return Box::pin(processes.run(T::NAME, &args, &cx)).await;
                }
                let output = call::<T>(&args, cx).await?;
                self.outputs.take(output, wanted)
            }
        }));
    }

    fn wants_runs(&self) -> bool {
        O::WANTED || self.state.is_tied()
    }

    fn conclude(&self, outcome: &Outcome) {
        // Another scheduler on the store may recover such a run.
        let is_lost = matches!(outcome, Outcome::Cancelled | Outcome::Abandoned);
        self.outputs.conclude(outcome, !is_lost || self.state.shared.stores.is_empty());
    }

    fn drop_work(&self) {}
}

impl<T, O> Named<T, O> {
    fn args(&self) -> Result<Arc<str>, Error> {
        self.lock_args().json.clone()
    }

    fn lock_args(&self) -> MutexGuard<'_, Arguments> {
        // No code panics while it holds the lock.
        self.args.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn call<T: Task>(args: &str, cx: Context) -> Result<T::Output, Error> {
    Ok(read::<T>(args)?.run(cx).await)
}

/// The type of an unregistered task.
#[derive(Serialize, serde::Deserialize)]
enum Never {}

impl Task for Never {
    const NAME: &'static str = "";
    type Output = ();

    async fn run(self, _: Context) {
        match self {}
    }
}
