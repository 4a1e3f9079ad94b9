//! Creating the file, readable only by its owner, and checking that it still exists.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};
#[cfg(unix)]
use std::{
    fs, io,
    sync::{Mutex, PoisonError},
};

use rusqlite::OpenFlags;

/// SQLite must not create a missing file, which it would make readable for everybody. [`make`]
/// creates it; if that fails, SQLite reports that there is no file.
#[cfg(unix)]
pub(super) const CREATE: OpenFlags = OpenFlags::empty();

/// Files of other systems have no such permissions.
#[cfg(not(unix))]
pub(super) const CREATE: OpenFlags = OpenFlags::SQLITE_OPEN_CREATE;

/// Creates an empty file that only its owner may read and write, if there is none. SQLite gives the
/// files beside it the same permissions.
#[cfg(unix)]
pub(super) fn make(path: &Path) {
    // For a dangling link, the file is created at its target.
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().map_or(target.clone(), |folder| folder.join(target));
    }
    let _ = make_at(&path);
}

#[cfg(not(unix))]
pub(super) fn make(_: &Path) {}

/// The maximum number of links to follow, as on Linux.
#[cfg(unix)]
const MAX_LINKS: usize = 40;

#[cfg(unix)]
fn make_at(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;

    // Closing a file releases all locks that SQLite has on it in this process: no other store may
    // open the file before it is closed here.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if !path.try_exists()? {
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    }
    Ok(())
}

/// The file and its log, as they were when they were opened. SQLite continues with a file that was
/// deleted or replaced, and no other process sees what it writes then.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    file: Cell<Option<Identity>>,
    log: Cell<Option<Identity>>,
}

/// Device and inode number.
#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = ();

impl Watched {
    pub(super) fn new(path: &Path) -> Watched {
        // The program may change its working directory.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Watched { path, file: Cell::default(), log: Cell::default() }
    }

    /// How the file has changed, if it is no longer the opened one.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        let of_file = changed(&self.path, &self.file);
        // SQLite creates the log at its first write, and keeps it while the file is open.
        of_file.or_else(|| self.log_problem(Path::new(&log)))
    }

    fn log_problem(&self, log: &Path) -> Option<&'static str> {
        if self.log.get().is_none() && !log.exists() {
            return None;
        }
        changed(log, &self.log).map(|_| "its write-ahead log was deleted or replaced")
    }
}

/// How a file has changed since it was first read.
#[cfg(unix)]
fn changed(path: &Path, was: &Cell<Option<Identity>>) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt as _;

    let Ok(is) = fs::metadata(path) else { return Some("it was deleted or moved") };
    let identity = (is.dev(), is.ino());
    match was.get() {
        None => was.set(Some(identity)),
        Some(was) if was != identity => return Some("another file has taken its place"),
        Some(_) => {}
    }
    None
}

/// Other systems do not allow deleting or replacing an open file.
#[cfg(not(unix))]
fn changed(_: &Path, _: &Cell<Option<Identity>>) -> Option<&'static str> {
    None
}
