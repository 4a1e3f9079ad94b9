//! How an operation of a store on a server is done: on a connection of the pool, and again if others were
//! in the way.

/// How often an operation is done again after another transaction was in its way.
pub(super) const TRIES: u32 = 10;

/// Does an operation on a connection, again and again if other transactions are in the way.
///
/// All but the urgent ones leave a connection of the pool free for those.
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
