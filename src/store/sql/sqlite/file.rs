//! How the file comes to be: readable by its owner alone.

use std::path::Path;
#[cfg(unix)]
use std::{fs, io};

/// Makes an empty file that only its owner may read and write, if there is none; SQLite gives the files
/// beside it the same permissions. What goes wrong, SQLite says when it opens the file.
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

/// Those of other systems have no such permissions.
#[cfg(not(unix))]
pub(super) fn make(_: &Path) {}

/// How many links may lead to a file, as on Linux.
#[cfg(unix)]
const MAX_LINKS: usize = 40;

#[cfg(unix)]
fn make_at(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;

    if path.try_exists()? {
        return Ok(());
    }
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!("-new-{}-{:016x}", std::process::id(), number()));
    // Under another name first, and closed before it is there: whoever closes a file takes from its whole
    // process the locks that SQLite has on it.
    let new = path.with_file_name(name);
    drop(fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?);
    let made = fs::hard_link(&new, path);
    fs::remove_file(&new)?;
    made
}

/// A number that no other thread has at the same time.
#[cfg(unix)]
fn number() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};

    RandomState::new().hash_one(0)
}
