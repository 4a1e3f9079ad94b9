//! The return types of work: `()`, or a `Result`.

use std::{any::TypeId, sync::Arc};

use crate::{error::BoxError, executor::Returned};

/// A return type of a job's work: `()`, or a `Result` whose error is a [`WorkError`].
///
/// The value of `Ok` is kept only on request; see [`Run::output`](crate::Run::output).
#[diagnostic::on_unimplemented(
    message = "a job's work can't return `{Self}`",
    label = "this work returns `{Self}`, and not `()` or a `Result`",
    note = "if the value is not needed, end the work with `;`, or discard the value with `let _ = ..;`",
    note = "if the value is needed, return `Ok::<_, BoxError>(value)`: `Run::output` has it; or run the work once, with `add_once`, which yields any value"
)]
pub trait WorkOutput {
    /// The value of a successful run.
    type Value: Send + Sync + 'static;

    /// The value of a successful run, or the error of a failed one.
    #[doc(hidden)]
    fn into_result(self) -> Result<Self::Value, BoxError>;
}

impl WorkOutput for () {
    type Value = ();

    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<T: Send + Sync + 'static, E: WorkError> WorkOutput for Result<T, E> {
    type Value = T;

    fn into_result(self) -> Result<T, BoxError> {
        self.map_err(WorkError::into_box)
    }
}

/// An error type of a job's work: any type that converts into [`BoxError`], which is every
/// [`Error`](std::error::Error) that is `Send + Sync`, and text.
///
/// A bare `Ok(())` does not determine the error type: write `Ok::<_, BoxError>(())`, or use an
/// `async fn`, which names its return type.
///
/// ```
/// use punctual::{BoxError, Scheduler, trigger::now};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), punctual::Error> {
/// let scheduler = Scheduler::new();
/// let work = || async {
///     let port: u16 = "8080".parse()?;
///     println!("{port}");
///     Ok::<_, BoxError>(())
/// };
/// scheduler.add(now(), work).await?.await;
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "a job's work can't fail with `{Self}`",
    label = "the error `{Self}` does not convert into `BoxError`, which is `Box<dyn Error + Send + Sync>`",
    note = "return `Result<_, BoxError>` in place of `Result<_, Box<dyn Error>>`: `?` converts into it alike; the last line is `Ok::<_, BoxError>(())`",
    note = "an error type of your own implements `std::error::Error`, and is `Send + Sync + 'static`"
)]
pub trait WorkError {
    #[doc(hidden)]
    fn into_box(self) -> BoxError;
}

// Makes the compiler report the trait above, with its notes, and not the conversion.
#[diagnostic::do_not_recommend]
impl<E: Into<BoxError>> WorkError for E {
    fn into_box(self) -> BoxError {
        self.into()
    }
}

/// The result of a run: its value, if `wanted`, or its error.
pub(super) fn returned<O: WorkOutput>(output: O, wanted: bool) -> Returned {
    let value = output.into_result()?;
    // A value of type `()` is never kept.
    let wanted = wanted && TypeId::of::<O::Value>() != TypeId::of::<()>();
    Ok(wanted.then(|| Arc::new(value) as _))
}
