//! How the file comes to be, readable by its owner alone, and whether it is still there.

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

/// What SQLite may do with a file that is not there: nothing, since it would make one that everybody may
/// read. [`make`] makes it, and what goes wrong there, SQLite says when it finds no file.
#[cfg(unix)]
pub(super) const CREATE: OpenFlags = OpenFlags::empty();

/// The files of other systems have no such permissions.
#[cfg(not(unix))]
pub(super) const CREATE: OpenFlags = OpenFlags::SQLITE_OPEN_CREATE;

/// Makes an empty file that only its owner may read and write, if there is none; SQLite gives the files
/// beside it the same permissions.
#[cfg(unix)]
pub(super) fn make(path: &Path) {
    // A link to nothing is made good where it leads to.
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().map_or(target.clone(), |folder| folder.join(target));
    }
    let _ = make_at(&path);
}

#[cfg(not(unix))]
pub(super) fn make(_: &Path) {}

/// How many links may lead to a file, as on Linux.
#[cfg(unix)]
const MAX_LINKS: usize = 40;

#[cfg(unix)]
fn make_at(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;

    // Whoever closes a file takes from its whole process the locks that SQLite has on it: no other store
    // opens this one before it is closed here.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if !path.try_exists()? {
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    }
    Ok(())
}

/// The file, and the log beside it, as they were when they were opened. SQLite goes on with a file that
/// was deleted or replaced, and what it writes then nobody else sees.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    file: Cell<Option<Identity>>,
    log: Cell<Option<Identity>>,
}

/// Device and number.
#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = ();

impl Watched {
    pub(super) fn new(path: &Path) -> Watched {
        // The program may go to another directory.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Watched { path, file: Cell::default(), log: Cell::default() }
    }

    /// What has become of the file, if it is no longer the one that was opened.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        let of_file = changed(&self.path, &self.file);
        // SQLite makes it when it first writes, and keeps it while the file is open.
        of_file.or_else(|| self.log_trouble(Path::new(&log)))
    }

    fn log_trouble(&self, log: &Path) -> Option<&'static str> {
        if self.log.get().is_none() && !log.exists() {
            return None;
        }
        changed(log, &self.log).map(|_| "its write-ahead log was deleted or replaced")
    }
}

/// What has become of a file since it was first looked at.
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

/// Other systems don't let go of a file that is open.
#[cfg(not(unix))]
fn changed(_: &Path, _: &Cell<Option<Identity>>) -> Option<&'static str> {
    None
}
