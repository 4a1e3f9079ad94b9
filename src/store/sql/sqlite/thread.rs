//! The thread that owns the connection, and the queue of its operations.
//!
//! Queued writes share a transaction, and so one wait for the disk. A failed write is undone by
//! itself, and no write gets its result before all are committed.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use futures::stream::BoxStream;
use tokio::sync::{Semaphore, oneshot};

use super::{SqliteBuilder, error::Result, session::Session};
use crate::{
    clock::LONGEST_WAIT,
    store::{Changes, StoreChange, StoreError},
};

/// How many operations may be queued; more wait for room.
const ROOM: usize = 128;

/// How long a transaction accepts further writes: other processes wait for it.
const SHARED_FOR: Duration = Duration::from_millis(5);

/// A handle of the thread, which ends when the last handle is dropped.
#[derive(Clone)]
pub(super) struct Thread {
    queue: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    changes: Changes,
}

enum Message {
    Read(Operation),
    Write(Operation),
    /// A stream of changes was created.
    Listen,
    /// The file may be closed.
    Close(oneshot::Sender<()>),
}

/// Receives an error if there is no transaction for it.
type Operation = Box<dyn FnOnce(std::result::Result<&Session, StoreError>) -> Done + Send>;

/// A finished operation.
struct Done {
    failed: bool,
    /// Sends the result, or the error of the commit.
    reply: Box<dyn FnOnce(std::result::Result<(), StoreError>) + Send>,
}

/// Opens the file on a thread of its own.
pub(super) async fn start(options: SqliteBuilder) -> std::result::Result<Thread, StoreError> {
    let (queue, messages) = mpsc::channel();
    let (opened, is_open) = oneshot::channel();
    let changes = Changes::new();
    let thread = Thread { queue, room: Arc::new(Semaphore::new(ROOM)), changes: changes.clone() };
    let open = move || {
        let session = Session::open(&options)?;
        // Read before the first use of the store, so that no change is missed.
        let others = Others::new(&session, options.poll)?;
        Ok((session, others))
    };
    let main = move || match open() {
        Ok((session, others)) => {
            // The receiver may be gone; then no message comes either.
            let _ = opened.send(Ok(()));
            let closed = serve(&session, &messages, &changes, others);
            // Dropped first: the last connection removes the log beside the file.
            drop((session, messages));
            if let Some(closed) = closed {
                // The receiver may be gone.
                let _ = closed.send(());
            }
        }
        Err(error) => drop(opened.send(Err(error))),
    };
    thread::Builder::new().name("punctual-sqlite".into()).spawn(main).map_err(|error| {
        StoreError::unavailable(format!("no thread can be made for SQLite: {error}"))
    })?;
    is_open.await.unwrap_or_else(|_| Err(ended()))?;
    Ok(thread)
}

impl Thread {
    /// Runs an operation that only reads.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, StoreError> {
        self.send(Message::Read, work).await
    }

    /// Runs an operation in a transaction, which is rolled back on an error.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, StoreError> {
        self.send(Message::Write, work).await
    }

    async fn send<T: Send + 'static>(
        &self,
        message: fn(Operation) -> Message,
        work: impl FnOnce(&Session) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, StoreError> {
        let room = self.room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (sender, reply) = oneshot::channel();
        let operation = move |session: std::result::Result<&Session, StoreError>| {
            drop(room);
            let work = |session: &Session| work(session).map_err(|error| session.explain(error));
            let result = catch_unwind(AssertUnwindSafe(|| session.and_then(work)));
            let failed = !matches!(result, Ok(Ok(_)));
            let reply = move |committed: std::result::Result<(), StoreError>| {
                let result = result.map(|result| result.and_then(|done| committed.map(|()| done)));
                // The receiver may be gone.
                let _ = sender.send(result);
            };
            Done { failed, reply: Box::new(reply) }
        };
        self.queue.send(message(Box::new(operation))).map_err(|_| ended())?;
        match reply.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(ended()),
        }
    }

    /// Closes the file after all queued operations. Later operations get an error.
    pub(super) async fn close(&self) {
        let (sender, closed) = oneshot::channel();
        if self.queue.send(Message::Close(sender)).is_ok() {
            // The file is closed as well if the thread has ended before.
            let _ = closed.await;
        }
    }

    /// Returns a stream of later changes.
    pub(super) fn changes(&self) -> BoxStream<'static, StoreChange> {
        let changes = self.changes.stream();
        // If the thread has ended, nothing will change.
        let _ = self.queue.send(Message::Listen);
        changes
    }
}

fn ended() -> StoreError {
    StoreError::refused("the SQLite store was closed when its scheduler shut down: open it again")
}

/// Runs operations until all handles are dropped, or until the file is to be closed: then returns
/// the sender to confirm that.
fn serve(
    session: &Session,
    messages: &mpsc::Receiver<Message>,
    changes: &Changes,
    mut others: Others,
) -> Option<oneshot::Sender<()>> {
    let (mut next, mut alone) = (None, 0);
    loop {
        let wait = (changes.are_wanted()).then(|| others.wait());
        let message = match (next.take(), wait) {
            (Some(message), _) => Ok(message),
            (None, Some(wait)) => messages.recv_timeout(wait),
            (None, None) => messages.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
        };
        match message {
            Ok(Message::Read(operation)) => (operation(checked(session)).reply)(Ok(())),
            Ok(Message::Write(operation)) => {
                next = write(session, operation, messages, changes, &mut alone);
            }
            Ok(Message::Listen) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            Ok(Message::Close(closed)) => return Some(closed),
            Err(mpsc::RecvTimeoutError::Disconnected) => return None,
        }
        if changes.are_wanted() && others.have_written(session) {
            changes.send([StoreChange::Unknown]);
        }
    }
}

/// Returns the session, if its file still exists.
fn checked(session: &Session) -> std::result::Result<&Session, StoreError> {
    session.check_file().map_err(|error| session.explain(error))?;
    Ok(session)
}

/// Commits a write together with the writes behind it, unless the next `alone` writes must be
/// alone, and sends their results. Returns the message that followed the writes.
fn write(
    session: &Session,
    first: Operation,
    messages: &mpsc::Receiver<Message>,
    changes: &Changes,
    alone: &mut usize,
) -> Option<Message> {
    let begun = session.check_file().and_then(|()| session.execute("BEGIN IMMEDIATE"));
    // Counted from the lock on: a transaction that has waited long for the lock still takes in other writes.
    let began = Instant::now();
    if let Err(error) = begun {
        (first(Err(session.explain(error))).reply)(Ok(()));
        return None;
    }
    let first = first(Ok(session));
    if first.failed {
        session.roll_back();
        (first.reply)(Ok(()));
        return None;
    }
    let (mut all, mut next) = (vec![first], None);
    let shares = *alone == 0;
    *alone = alone.saturating_sub(1);
    while shares && began.elapsed() < SHARED_FOR && session.is_in_transaction() {
        match messages.try_recv() {
            Ok(Message::Write(operation)) => all.push(apart(session, operation)),
            Ok(message) => {
                next = Some(message);
                break;
            }
            Err(_) => break,
        }
    }
    let committed = match session.is_in_transaction() {
        true => session.execute("COMMIT").map_err(|error| session.explain(error)),
        // After some errors, such as a full disk, SQLite has rolled back the whole transaction.
        false => {
            Err(StoreError::unavailable("what shared its transaction has failed, and it, too"))
        }
    };
    if committed.is_err() {
        session.roll_back();
    }
    // It is unknown which of several writes is at fault, so each runs alone when retried.
    let committed = committed.map_err(|error| match all.len() {
        1 => error,
        several => {
            *alone = 4 * several;
            StoreError::unavailable(error)
        }
    });
    changes.send(session.take_changes());
    for done in all {
        (done.reply)(committed.clone());
    }
    next
}

/// Runs an operation that is undone by itself if it fails.
fn apart(session: &Session, operation: Operation) -> Done {
    if let Err(error) = session.execute("SAVEPOINT apart") {
        return operation(Err(session.explain(error)));
    }
    let done = operation(Ok(session));
    if done.failed && session.is_in_transaction() {
        let _ = session.execute("ROLLBACK TO apart");
    }
    let _ = session.execute("RELEASE apart");
    done
}

/// Changes by other connections to the same file.
struct Others {
    poll: Duration,
    version: i64,
    next: Instant,
}

impl Others {
    fn new(session: &Session, poll: Duration) -> std::result::Result<Others, StoreError> {
        let version = session.data_version().map_err(|error| session.explain(error))?;
        // A poll takes some microseconds, and must not take all the time.
        let poll = poll.clamp(Duration::from_millis(1), LONGEST_WAIT);
        Ok(Others { poll, version, next: Instant::now() })
    }

    /// Returns how long until the next poll.
    fn wait(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Polls, if it is time. Returns whether other connections have written.
    fn have_written(&mut self, session: &Session) -> bool {
        if !self.wait().is_zero() {
            return false;
        }
        self.next = Instant::now() + self.poll;
        let Ok(version) = session.data_version() else { return false };
        std::mem::replace(&mut self.version, version) != version
    }
}
