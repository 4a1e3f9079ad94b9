//! The thread that owns the connection, and the queue of what it is asked to do.
//!
//! Writes that have piled up share a transaction, and so a wait for the disk. Each is undone by itself
//! if it fails, and none is answered before all are committed.

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

/// How many operations may wait in line; more wait for room.
const ROOM: usize = 128;

/// How long a transaction takes in further writes: other processes wait for it.
const SHARED_FOR: Duration = Duration::from_millis(5);

/// A way to the thread; it ends when the last is dropped.
#[derive(Clone)]
pub(super) struct Thread {
    queue: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
    changes: Changes,
}

enum Message {
    Read(Operation),
    Write(Operation),
    /// Somebody listens to changes.
    Listen,
    /// Nobody needs the file open any more.
    Close(oneshot::Sender<()>),
}

/// Is told why, if there is no transaction to do it in.
type Operation = Box<dyn FnOnce(std::result::Result<&Session, StoreError>) -> Done + Send>;

/// An operation that was done, or has failed.
struct Done {
    failed: bool,
    /// Hands out what came of it, or why it came to nothing after all.
    answer: Box<dyn FnOnce(std::result::Result<(), StoreError>) + Send>,
}

/// Opens the file on a thread of its own.
pub(super) async fn start(options: SqliteBuilder) -> std::result::Result<Thread, StoreError> {
    let (queue, messages) = mpsc::channel();
    let (opened, is_open) = oneshot::channel();
    let changes = Changes::new();
    let thread = Thread { queue, room: Arc::new(Semaphore::new(ROOM)), changes: changes.clone() };
    let open = move || {
        let session = Session::open(&options)?;
        // Read before anybody uses the store, so that nobody's first change goes unseen.
        let others = Others::new(&session, options.poll)?;
        Ok((session, others))
    };
    let main = move || match open() {
        Ok((session, others)) => {
            // Nobody may wait for it any more; then there is no message either.
            let _ = opened.send(Ok(()));
            let closed = serve(&session, &messages, &changes, others);
            // Before anybody is told: the last connection takes the log beside the file with it.
            drop((session, messages));
            if let Some(closed) = closed {
                // Whoever waited may have gone.
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
    /// Has something read.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, StoreError> {
        self.ask(Message::Read, work).await
    }

    /// Has something done in a transaction: all of it, or nothing if it fails.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, StoreError> {
        self.ask(Message::Write, work).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        message: fn(Operation) -> Message,
        work: impl FnOnce(&Session) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, StoreError> {
        let room = self.room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (sender, answer) = oneshot::channel();
        let operation = move |session: std::result::Result<&Session, StoreError>| {
            drop(room);
            let work =
                |session: &Session| work(session).map_err(|trouble| session.explain(trouble));
            let result = catch_unwind(AssertUnwindSafe(|| session.and_then(work)));
            let failed = !matches!(result, Ok(Ok(_)));
            let answer = move |committed: std::result::Result<(), StoreError>| {
                let result = result.map(|result| result.and_then(|done| committed.map(|()| done)));
                // Whoever asked may have gone.
                let _ = sender.send(result);
            };
            Done { failed, answer: Box::new(answer) }
        };
        self.queue.send(message(Box::new(operation))).map_err(|_| ended())?;
        match answer.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(ended()),
        }
    }

    /// Closes the file, after all that was asked before. Whoever asks then is told that it is closed.
    pub(super) async fn close(&self) {
        let (sender, closed) = oneshot::channel();
        if self.queue.send(Message::Close(sender)).is_ok() {
            // It is closed as well if the thread has ended before.
            let _ = closed.await;
        }
    }

    /// Sees each change from here on.
    pub(super) fn changes(&self) -> BoxStream<'static, StoreChange> {
        let changes = self.changes.stream();
        // If the thread has ended nothing will change.
        let _ = self.queue.send(Message::Listen);
        changes
    }
}

fn ended() -> StoreError {
    StoreError::refused("the SQLite store was closed when its scheduler shut down: open it again")
}

/// Does what is asked until nobody can ask any more, or somebody wants the file closed: returns whom to
/// tell of that.
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
            Ok(Message::Read(operation)) => (operation(there(session)).answer)(Ok(())),
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

/// The session, if its file is still there.
fn there(session: &Session) -> std::result::Result<&Session, StoreError> {
    session.look().map_err(|trouble| session.explain(trouble))?;
    Ok(session)
}

/// Commits a write together with those behind it, unless so many are to be `alone`, and answers them.
/// Returns the message that ended their row.
fn write(
    session: &Session,
    first: Operation,
    messages: &mpsc::Receiver<Message>,
    changes: &Changes,
    alone: &mut usize,
) -> Option<Message> {
    let begun = session.look().and_then(|()| session.execute("BEGIN IMMEDIATE"));
    // Not before, or what has waited long for the lock would share it with nobody, and the rest would wait
    // anew.
    let began = Instant::now();
    if let Err(trouble) = begun {
        (first(Err(session.explain(trouble))).answer)(Ok(()));
        return None;
    }
    let first = first(Ok(session));
    if first.failed {
        session.roll_back();
        (first.answer)(Ok(()));
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
        true => session.execute("COMMIT").map_err(|trouble| session.explain(trouble)),
        // After some errors, such as that of a full disk, SQLite has undone all of it by itself.
        false => {
            Err(StoreError::unavailable("what shared its transaction has failed, and it, too"))
        }
    };
    if committed.is_err() {
        session.roll_back();
    }
    // Which of several is at fault nobody knows: asked again, each is alone.
    let committed = committed.map_err(|error| match all.len() {
        1 => error,
        several => {
            *alone = 4 * several;
            StoreError::unavailable(error)
        }
    });
    changes.send(session.take_changes());
    for done in all {
        (done.answer)(committed.clone());
    }
    next
}

/// Does an operation so that it alone is undone if it fails.
fn apart(session: &Session, operation: Operation) -> Done {
    if let Err(trouble) = session.execute("SAVEPOINT apart") {
        return operation(Err(session.explain(trouble)));
    }
    let done = operation(Ok(session));
    if done.failed && session.is_in_transaction() {
        let _ = session.execute("ROLLBACK TO apart");
    }
    let _ = session.execute("RELEASE apart");
    done
}

/// Those who write to the same file over other connections.
struct Others {
    poll: Duration,
    version: i64,
    next: Instant,
}

impl Others {
    fn new(session: &Session, poll: Duration) -> std::result::Result<Others, StoreError> {
        let version = session.data_version().map_err(|trouble| session.explain(trouble))?;
        // A look takes some microseconds: nobody means to do nothing else.
        let poll = poll.clamp(Duration::from_millis(1), LONGEST_WAIT);
        Ok(Others { poll, version, next: Instant::now() })
    }

    /// How long until they are asked after again.
    fn wait(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Whether they have written, if it is time to ask.
    fn have_written(&mut self, session: &Session) -> bool {
        if !self.wait().is_zero() {
            return false;
        }
        self.next = Instant::now() + self.poll;
        let Ok(version) = session.data_version() else { return false };
        std::mem::replace(&mut self.version, version) != version
    }
}
