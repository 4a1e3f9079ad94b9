//! Connections: how they are opened, borrowed from the pool, and returned or closed.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::Write as _,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures::{
    future::{BoxFuture, join_all},
    stream::{self, BoxStream, StreamExt as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Handle,
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, CancelToken, Client, Config, NoTls, Row as Columns, Statement,
    config::{Host, LoadBalanceHosts, SslMode},
    tls::MakeTlsConnect,
    types::{ToSql, Type},
};

use super::{
    columns::Parameter,
    error::{PostgresError, Result},
    tls::Tls,
};

/// The prefix of all names in the SQL of this crate.
pub(super) const NAMESPACE: &str = "punctual_";

/// How long the cancellation of a statement may take.
const CANCELS_WITHIN: Duration = Duration::from_secs(5);

/// A stream of bytes to a server.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// A stream that somebody else has opened.
pub(super) struct Opened(pub(super) Box<dyn Stream>);

impl AsyncRead for Opened {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Opened {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().0).poll_write(cx, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().0).poll_shutdown(cx)
    }
}

/// Opens a stream to the server.
pub(super) type Open = Arc<dyn Fn() -> BoxFuture<'static, io::Result<Opened>> + Send + Sync>;

/// What the server sends beside its answers. A connection lasts while this is polled.
pub(super) type Messages =
    BoxStream<'static, std::result::Result<AsyncMessage, tokio_postgres::Error>>;

/// A connection that is being made.
type Connecting =
    BoxFuture<'static, std::result::Result<(Client, Messages), tokio_postgres::Error>>;

/// How to connect to the server.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) config: Config,
    /// `None` if TLS is disabled.
    pub(super) tls: Option<Tls>,
    pub(super) open: Option<Open>,
    /// Whether the last attempt to connect has failed, or goes on.
    pub(super) failed: Arc<AtomicBool>,
}

impl Connector {
    pub(super) fn connect(&self) -> Connecting {
        let Connector { mut config, tls, open, failed } = self.clone();
        // The first of several hosts may accept a connection, say nothing, and would be tried again and
        // again: the others have their turn.
        if failed.swap(true, Ordering::Relaxed) {
            config.load_balance_hosts(LoadBalanceHosts::Random);
        }
        let connecting: Connecting = match (open, tls) {
            (None, None) => Box::pin(async move { Ok(boxed(config.connect(NoTls).await?)) }),
            (None, Some(tls)) => Box::pin(async move { Ok(boxed(config.connect(tls).await?)) }),
            (Some(open), tls) => Box::pin(async move {
                // The client has no error for this: a stream that ends at once is one.
                let stream = open().await.unwrap_or_else(|_| Opened(Box::new(tokio::io::empty())));
                connect_over(config, tls, stream).await
            }),
        };
        Box::pin(async move {
            let connection = connecting.await?;
            failed.store(false, Ordering::Relaxed);
            Ok(connection)
        })
    }

    /// Cancels the statement that a connection executes.
    async fn cancel(&self, token: CancelToken) -> std::result::Result<(), tokio_postgres::Error> {
        let Connector { config, tls, open, .. } = self.clone();
        match (open, tls) {
            (None, None) => token.cancel_query(NoTls).await,
            (None, Some(tls)) => token.cancel_query(tls).await,
            (Some(open), tls) => {
                let stream = open().await.unwrap_or_else(|_| Opened(Box::new(tokio::io::empty())));
                match connect_tls(&config, tls) {
                    Some(tls) => token.cancel_query_raw(stream, tls).await,
                    None => token.cancel_query_raw(stream, NoTls).await,
                }
            }
        }
    }

    /// A pool of up to so many connections.
    pub(super) fn pool(&self, size: usize, timeout: Duration) -> Result<Pool> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(self.config.clone(), self.clone(), recycling);
        let pool = Pool::builder(manager)
            .max_size(size.max(1))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(timeout))
            .create_timeout(Some(timeout));
        pool.build().map_err(|error| PostgresError::Refused(error.to_string()))
    }

    /// Whether the server's certificate must be checked.
    pub(super) fn checks(config: &Config) -> Option<bool> {
        match config.get_ssl_mode() {
            SslMode::Disable => None,
            SslMode::Require => Some(true),
            _ => Some(false),
        }
    }
}

/// Connects over a stream that has been opened.
fn connect_over(config: Config, tls: Option<Tls>, stream: Opened) -> Connecting {
    match connect_tls(&config, tls) {
        Some(tls) => Box::pin(async move { Ok(boxed(config.connect_raw(stream, tls).await?)) }),
        None => Box::pin(async move { Ok(boxed(config.connect_raw(stream, NoTls).await?)) }),
    }
}

/// TLS with the server of this configuration, over a stream that has been opened.
fn connect_tls(
    config: &Config,
    tls: Option<Tls>,
) -> Option<<Tls as MakeTlsConnect<Opened>>::TlsConnect> {
    // The name by which the certificate is checked.
    let host = config.get_hosts().iter().find_map(|host| match host {
        Host::Tcp(name) => Some(name.clone()),
        #[cfg(unix)]
        Host::Unix(_) => None,
    });
    let host = host.unwrap_or_else(|| "localhost".to_owned());
    tls.and_then(|mut tls| MakeTlsConnect::<Opened>::make_tls_connect(&mut tls, &host).ok())
}

fn boxed<S, T>(
    (client, mut connection): (Client, tokio_postgres::Connection<S, T>),
) -> (Client, Messages)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
{
    (client, stream::poll_fn(move |cx| connection.poll_message(cx)).boxed())
}

impl Connect for Connector {
    fn connect(
        &self,
        _: &Config,
    ) -> BoxFuture<
        '_,
        std::result::Result<(Client, tokio::task::JoinHandle<()>), tokio_postgres::Error>,
    > {
        let connecting = Connector::connect(self);
        Box::pin(async move {
            let (client, messages) = connecting.await?;
            // An error ends the stream, and the client says so.
            let driving = messages.take_while(|message| std::future::ready(message.is_ok()));
            let task = tokio::spawn(driving.for_each(|_| std::future::ready(())));
            Ok((client, task))
        })
    }
}

/// A borrowed connection.
///
/// A connection that is dropped without [`release`](Session::release), as when the future of an operation
/// is dropped, is closed, and its statement is canceled: a backend that waits for a lock does not notice a
/// closed connection, and would keep the locks that it has.
pub(super) struct Session<'a> {
    object: Option<Object>,
    namespace: &'a str,
    begin: &'a str,
    /// How to connect to cancel a statement.
    cancels: Option<&'a Connector>,
    /// `None` if statements are not prepared once per connection.
    texts: Option<&'a Texts>,
}

/// The texts of the prepared statements, which take time to make: by the place and the length of their SQL
/// in this program.
#[derive(Default)]
pub(super) struct Texts(Mutex<HashMap<(usize, usize), Arc<str>>>);

impl Texts {
    fn of(&self, sql: &'static str, make: impl FnOnce() -> String) -> Arc<str> {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        texts.entry((sql.as_ptr().addr(), sql.len())).or_insert_with(|| make().into()).clone()
    }
}

/// The SQL that begins a transaction of an operation that may take so long. No setting outlives it,
/// since a pooler hands sessions around.
pub(super) fn begin(timeout: Duration) -> String {
    let statement = timeout.as_millis().clamp(1, i32::MAX as u128);
    // A client that has stopped must not keep its locks.
    let idle = statement.min(5000);
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {statement}; \
         SET LOCAL lock_timeout = {statement}; SET LOCAL idle_in_transaction_session_timeout = {idle}"
    )
}

/// One of several things that are sent at once.
pub(super) enum Step<'a> {
    /// SQL without parameters.
    Run(Cow<'a, str>),
    /// A statement of this crate, and its parameters.
    Query(&'static str, Vec<Parameter<'a>>),
}

impl<'a> Session<'a> {
    pub(super) fn new(
        object: Object,
        namespace: &'a str,
        begin: &'a str,
        cancels: Option<&'a Connector>,
        texts: Option<&'a Texts>,
    ) -> Session<'a> {
        Session { object: Some(object), namespace, begin, cancels, texts }
    }

    /// The beginning of a transaction.
    pub(super) fn begin(&self) -> Step<'a> {
        Step::Run(self.begin.into())
    }

    /// Gives the connection back to the pool.
    pub(super) fn release(mut self) {
        drop(self.object.take());
    }

    fn client(&self) -> &Object {
        self.object.as_ref().expect("only `release` and `drop` take it")
    }

    /// SQL with the tables named as they are here.
    pub(super) fn named<'s>(&self, sql: &'s str) -> Cow<'s, str> {
        named(sql, self.namespace)
    }

    pub(super) fn namespace(&self) -> &str {
        self.namespace
    }

    pub(super) async fn query(
        &self,
        sql: &'static str,
        parameters: Vec<Parameter<'_>>,
    ) -> Result<Vec<Columns>> {
        let prepared = self.prepare(sql, &parameters).await?;
        self.send(Step::Query(sql, parameters), prepared).await
    }

    /// Sends several steps at once, and returns the rows of each. If one fails, its error is that of
    /// all, and those behind it in the same transaction are not done.
    pub(super) async fn all(&self, steps: Vec<Step<'_>>) -> Result<Vec<Vec<Columns>>> {
        // Whatever must be prepared is, before the first step is sent: the order counts.
        let mut prepared = Vec::with_capacity(steps.len());
        for step in &steps {
            prepared.push(match step {
                Step::Run(_) => None,
                Step::Query(sql, parameters) => self.prepare(sql, parameters).await?,
            });
        }
        let sent = steps.into_iter().zip(prepared);
        // Up to thirty futures are polled in their order.
        let sent = join_all(sent.map(|(step, prepared)| self.send(step, prepared))).await;
        let (mut rows, mut first) = (Vec::with_capacity(sent.len()), None::<PostgresError>);
        for result in sent {
            match result {
                Ok(answer) => rows.push(answer),
                Err(error) if first.as_ref().is_none_or(|it| it.is_of_a_dead_transaction()) => {
                    first = Some(error);
                }
                Err(_) => {}
            }
        }
        first.map_or(Ok(rows), Err)
    }

    async fn prepare(
        &self,
        sql: &'static str,
        parameters: &[Parameter<'_>],
    ) -> Result<Option<Statement>> {
        let Some(texts) = self.texts else { return Ok(None) };
        let types: Vec<_> = parameters.iter().map(|(_, kind)| kind.clone()).collect();
        let sql = texts.of(sql, || hidden(&self.named(sql), &types));
        Ok(Some(self.client().prepare_typed_cached(&sql, &types).await?))
    }

    async fn send(&self, step: Step<'_>, prepared: Option<Statement>) -> Result<Vec<Columns>> {
        let client = self.client();
        match (step, prepared) {
            (Step::Run(sql), _) => {
                client.batch_execute(&sql).await?;
                Ok(Vec::new())
            }
            (Step::Query(_, parameters), Some(statement)) => {
                let values: Vec<&(dyn ToSql + Sync)> =
                    parameters.into_iter().map(|(value, _)| value).collect();
                Ok(client.query(&statement, &values).await?)
            }
            (Step::Query(sql, parameters), None) => {
                Ok(client.query_typed(&self.named(sql), &parameters).await?)
            }
        }
    }

    /// Executes any SQL, and returns the first column.
    #[cfg(feature = "testing")]
    pub(super) async fn execute(&self, sql: &str) -> Result<Vec<String>> {
        let messages = self.client().simple_query(&self.named(sql)).await?;
        let rows = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0)?.to_owned()),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Sees to the connection after an error: ends a transaction, or closes the connection.
    pub(super) async fn recover(self, error: &PostgresError) {
        if error.leaves_the_connection() && self.client().batch_execute("ROLLBACK").await.is_ok() {
            self.release();
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        let pool = Object::pool(&object);
        let client = Object::take(object);
        if let (Some(connector), Ok(runtime)) = (self.cancels, Handle::try_current()) {
            // Where one connection is dead, those that are idle may be as well, and each would be waited
            // for in turn.
            if let Some(pool) = pool {
                pool.retain(|_, _| false);
            }
            let (token, connector) = (client.cancel_token(), connector.clone());
            // If the server cannot be reached, its own limits end the statement.
            runtime.spawn(timeout(CANCELS_WITHIN, async move { connector.cancel(token).await }));
        }
    }
}

/// SQL whose plan does not depend on how long the arrays among its parameters are.
///
/// Where a plan for the arrays at hand seems to be cheaper than one for all, as for arrays of one, the
/// server makes one anew for each execution, and takes longer for that than for the rest. It does not see
/// through a subquery that has an `OFFSET`, nor through one in an expression.
fn hidden(sql: &str, types: &[Type]) -> String {
    let (mut hidden, mut rest) = (String::with_capacity(2 * sql.len()), sql);
    // Writing into a string does not fail.
    while let Some((before, found)) = rest.split_once("unnest($")
        && let Some((arrays, after)) = found.split_once(')')
    {
        let (ordinality, after) = match after.strip_prefix(" WITH ORDINALITY") {
            Some(after) => (" WITH ORDINALITY", after),
            None => ("", after),
        };
        let arrays = arrays.split(", ").map(|array| array.trim_start_matches('$'));
        let (named, names): (Vec<_>, Vec<_>) =
            arrays.map(|array| (format!("${array} AS p{array}"), format!("h.p{array}"))).unzip();
        let (named, names) = (named.join(", "), names.join(", "));
        let _ = write!(
            hidden,
            "{before}(SELECT u.* FROM (SELECT {named} OFFSET 0) AS h, unnest({names}){ordinality} AS u)"
        );
        rest = after;
    }
    hidden.push_str(rest);
    for word in ["ANY", "ALL"] {
        for (number, array) in (1..).zip(types) {
            let (plain, subquery) = (
                format!("{word}(${number})"),
                format!("{word}((SELECT ${number})::{})", array.name()),
            );
            hidden = hidden.replace(&plain, &subquery);
        }
    }
    hidden
}

/// SQL with the tables named after a namespace.
pub(super) fn named<'s>(sql: &'s str, namespace: &str) -> Cow<'s, str> {
    if namespace == NAMESPACE { sql.into() } else { sql.replace(NAMESPACE, namespace).into() }
}
