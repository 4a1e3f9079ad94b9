//! Lists of triggers.

use super::IntoTrigger;
use crate::{error::Error, trigger::Trigger};

/// What [`and`](crate::trigger::and) and [`or`](crate::trigger::or) take: an array or a `Vec` of triggers, or a tuple
/// of up to six, which may be of different kinds.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no list of triggers",
    note = "use an array or a `Vec` of triggers, or a tuple of up to six of different kinds"
)]
pub trait IntoTriggers {
    /// Makes a trigger of each.
    ///
    /// # Errors
    ///
    /// As [`IntoTrigger::into_trigger`].
    fn into_triggers(self) -> Result<Vec<Trigger>, Error>;
}

impl<T: IntoTrigger, const N: usize> IntoTriggers for [T; N] {
    fn into_triggers(self) -> Result<Vec<Trigger>, Error> {
        self.into_iter().map(T::into_trigger).collect()
    }
}

impl<T: IntoTrigger> IntoTriggers for Vec<T> {
    fn into_triggers(self) -> Result<Vec<Trigger>, Error> {
        self.into_iter().map(T::into_trigger).collect()
    }
}

macro_rules! tuples {
    ($($($T:ident)+;)+) => {$(
        impl<$($T: IntoTrigger),+> IntoTriggers for ($($T,)+) {
            fn into_triggers(self) -> Result<Vec<Trigger>, Error> {
                #[allow(non_snake_case)]
                let ($($T,)+) = self;
                Ok(vec![$($T.into_trigger()?),+])
            }
        }
    )+};
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
}
