//! How a store on a server executes an operation: on a connection of the pool, with retries after a
//! conflict with another transaction.

/// The maximum number of attempts of an operation that conflicts with other transactions.
pub(super) const TRIES: u32 = 10;

/// Executes an operation on a connection, and retries it after a conflict with another transaction.
///
/// Operations that are not urgent leave one connection of the pool free for urgent operations.
macro_rules! operation {
    (urgent $store:expr, |$session:ident| $operation:expr) => {{
        let inner: &Inner = &$store.0;
        let operation = async {
            let mut tries = 0;
            loop {
                #[allow(unused_mut)]
                let mut $session = inner.session().await?;
                match $operation.await {
                    Ok(done) => {
                        $session.release();
                        return Ok(done);
                    }
                    Err(error) => {
                        $session.recover(&error).await;
                        tries += 1;
                        if !error.is_raced() || tries == $crate::store::sql::operation::TRIES {
                            return Err(error);
                        }
                    }
                }
            }
        };
        inner.limited(operation).await
    }};
    ($store:expr, |$session:ident| $operation:expr) => {{
        let permit = $store.0.permit().await?;
        let done = operation!(urgent $store, |$session| $operation);
        drop(permit);
        done
    }};
}

pub(super) use operation;
