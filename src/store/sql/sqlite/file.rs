//! How the file comes to be: readable by its owner alone.

use std::path::Path;
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
