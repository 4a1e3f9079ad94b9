//! The zone of the machine.

use std::path::Path;

use super::{IntoTimeZone as _, TimeZone};
use crate::error::Error;

/// What `TZ` names, else the machine's settings; UTC if neither says anything, or `TZ` is empty.
pub(super) fn find() -> Result<TimeZone, Error> {
    match std::env::var("TZ").as_deref() {
        Ok("") => Ok(TimeZone::UTC),
        // The usual way to spare the C library a look at its settings.
        Ok("/etc/localtime" | ":/etc/localtime") | Err(_) => settings(),
        Ok(said) => named_by_tz(said),
    }
}

/// The zone that a value of `TZ` names: `Europe/Berlin`, or `:Europe/Berlin`, or a file of zoneinfo.
fn named_by_tz(said: &str) -> Result<TimeZone, Error> {
    let name = said.strip_prefix(':').unwrap_or(said);
    let name = name.rsplit_once("/zoneinfo/").map_or(name, |(_, name)| name);
    TimeZone::named(name).ok_or_else(|| {
        Error::invalid_trigger(format!(
            "TZ is `{}`, which is not an IANA name: set it to one such as `Europe/Berlin`, or name the zone with `time_zone(..)`",
            said.escape_default()
        ))
    })
}

fn settings() -> Result<TimeZone, Error> {
    match iana_time_zone::get_timezone() {
        Ok(name) => name.as_str().into_time_zone(),
        // This is how the C library reads it, too.
        Err(_) if cfg!(unix) && !Path::new("/etc/localtime").exists() => Ok(TimeZone::UTC),
        Err(error) => Err(Error::invalid_trigger(format!(
            "the machine does not say the name of its time zone ({error}): set TZ to an IANA name such as `Europe/Berlin`, or name the zone with `time_zone(..)`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tz_names_a_zone_in_all_its_forms() {
        for said in ["Asia/Tokyo", ":Asia/Tokyo", "/usr/share/zoneinfo/Asia/Tokyo"] {
            assert_eq!(named_by_tz(said).unwrap().name(), "Asia/Tokyo", "{said}");
        }
        let error = named_by_tz("CET-1CEST").unwrap_err().to_string();
        assert!(error.contains("CET-1CEST") && error.contains("time_zone"), "{error}");
    }
}
