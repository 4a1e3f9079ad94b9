//! What somebody meant who wrote the name of a zone that there is not.

use super::{TimeZone, data};
use crate::error::Error;

/// The error of a name that no zone has.
pub(super) fn unknown(name: &str) -> Error {
    let remedy = remedy(name);
    let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    Error::invalid_trigger(format!("unknown time zone `{shown}`: {remedy}"))
}

/// Whether a name that no zone has is meant as one: a known abbreviation, or an offset from UTC.
pub(crate) fn is_like_a_zone(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    ABBREVIATIONS.iter().any(|(short, _)| *short == upper)
        || fixed_offset(&upper).is_some()
        || is_part_of_an_hour(&upper)
}

fn remedy(name: &str) -> String {
    let wanted = name.trim();
    let upper = wanted.to_ascii_uppercase();
    if upper == "Z" {
        return "use `UTC`".to_owned();
    }
    if is_part_of_an_hour(&upper) {
        return "only whole hours from UTC have a zone of their own: use the name of a city, such as `Asia/Kolkata`".to_owned();
    }
    if let Some((_, zones)) = ABBREVIATIONS.iter().find(|(short, _)| *short == upper) {
        return match zones {
            [zone] => format!("use an IANA name, for {upper} probably `{zone}`"),
            _ => format!(
                "{upper} is several zones: use an IANA name, such as `{}`",
                zones.join("` or `")
            ),
        };
    }
    if let Some(zone) = fixed_offset(&upper) {
        return format!(
            "for a fixed offset use `{zone}`, whose sign is the other way round in IANA names"
        );
    }
    if wanted.eq_ignore_ascii_case("local") || wanted.eq_ignore_ascii_case("localtime") {
        return "use `local` for the zone of the machine".to_owned();
    }
    match nearest(wanted) {
        Some(zone) => format!("use an IANA name such as `{zone}`"),
        None => "use an IANA name such as `Europe/Berlin`".to_owned(),
    }
}

/// What people write for zones that have a name of their own. Those that are IANA names themselves
/// (CET, EET, EST, GMT, HST, MST, WET …) are not in here.
const ABBREVIATIONS: [(&str, &[&str]); 46] = [
    ("ACDT", &["Australia/Adelaide"]),
    ("ACST", &["Australia/Adelaide", "Australia/Darwin"]),
    ("ADT", &["America/Halifax"]),
    ("AEDT", &["Australia/Sydney"]),
    ("AEST", &["Australia/Sydney", "Australia/Brisbane"]),
    ("AKDT", &["America/Anchorage"]),
    ("AKST", &["America/Anchorage"]),
    ("ART", &["America/Argentina/Buenos_Aires"]),
    ("AST", &["America/Halifax", "America/Puerto_Rico", "Asia/Riyadh"]),
    ("AWST", &["Australia/Perth"]),
    ("BRT", &["America/Sao_Paulo"]),
    ("BST", &["Europe/London", "Asia/Dhaka"]),
    ("CAT", &["Africa/Maputo"]),
    ("CDT", &["America/Chicago"]),
    ("CEST", &["Europe/Berlin", "Europe/Paris"]),
    ("CST", &["America/Chicago", "Asia/Shanghai", "America/Havana"]),
    ("CT", &["America/Chicago"]),
    ("EAT", &["Africa/Nairobi"]),
    ("EDT", &["America/New_York"]),
    ("EEST", &["Europe/Athens", "Europe/Helsinki"]),
    ("ET", &["America/New_York"]),
    ("GST", &["Asia/Dubai"]),
    ("HKT", &["Asia/Hong_Kong"]),
    ("ICT", &["Asia/Bangkok"]),
    ("IDT", &["Asia/Jerusalem"]),
    ("IST", &["Asia/Kolkata", "Europe/Dublin", "Asia/Jerusalem"]),
    ("JST", &["Asia/Tokyo"]),
    ("KST", &["Asia/Seoul"]),
    ("MDT", &["America/Denver"]),
    ("MESZ", &["Europe/Berlin"]),
    ("MEZ", &["Europe/Berlin"]),
    ("MSK", &["Europe/Moscow"]),
    ("MT", &["America/Denver"]),
    ("NDT", &["America/St_Johns"]),
    ("NST", &["America/St_Johns"]),
    ("NZDT", &["Pacific/Auckland"]),
    ("NZST", &["Pacific/Auckland"]),
    ("PDT", &["America/Los_Angeles"]),
    ("PHT", &["Asia/Manila"]),
    ("PKT", &["Asia/Karachi"]),
    ("PST", &["America/Los_Angeles"]),
    ("PT", &["America/Los_Angeles"]),
    ("SAST", &["Africa/Johannesburg"]),
    ("SGT", &["Asia/Singapore"]),
    ("TRT", &["Europe/Istanbul"]),
    ("WIB", &["Asia/Jakarta"]),
];

/// Whether it is an offset from UTC such as `UTC+5:30` or `+0530`.
fn is_part_of_an_hour(upper: &str) -> bool {
    let offset = upper.strip_prefix("UTC").or_else(|| upper.strip_prefix("GMT")).unwrap_or(upper);
    let Some(digits) = offset.strip_prefix(['+', '-']) else { return false };
    let digits = digits.replace(':', "");
    matches!(digits.len(), 3 | 4)
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.ends_with("00")
}

/// The IANA name of a whole number of hours from UTC, written as `UTC+1`, `GMT-5`, `+02:00` or `Z`.
fn fixed_offset(upper: &str) -> Option<TimeZone> {
    if upper == "Z" {
        return Some(TimeZone::UTC);
    }
    let offset = upper.strip_prefix("UTC").or_else(|| upper.strip_prefix("GMT")).unwrap_or(upper);
    let (sign, hours) = match offset.split_at_checked(1)? {
        ("+", hours) => ('-', hours),
        ("-", hours) => ('+', hours),
        _ => return None,
    };
    let hours = hours
        .strip_suffix(":00")
        .or_else(|| hours.strip_suffix("00"))
        .filter(|hours| !hours.is_empty())
        .unwrap_or(hours);
    match hours.parse::<u8>().ok()? {
        0 => Some(TimeZone::UTC),
        hours => TimeZone::named(&format!("Etc/GMT{sign}{hours}")),
    }
}

/// The known zone whose name, or whose last part of a name, is most like `name`.
fn nearest(name: &str) -> Option<&'static str> {
    const FAR: usize = 3;
    // What is short is an abbreviation, and what is long no typing error: comparing it takes long.
    if !(4..=64).contains(&name.len()) {
        return None;
    }
    let wanted = name.to_lowercase().replace(' ', "_");
    let distance = |known: &str| {
        let known = known.to_lowercase();
        let city = known.rsplit('/').next().unwrap_or(&known);
        edit_distance(&wanted, &known).min(edit_distance(&wanted, city))
    };
    data::names()
        .map(|zone| (distance(zone), zone))
        .filter(|&(distance, zone)| {
            distance < FAR
                && distance * 3 < wanted.len()
                && zone.contains('/')
                && !zone.starts_with("Etc/")
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// How many bytes must be inserted, removed or replaced to make `a` of `b`.
pub(crate) fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_remedy_names_zones_that_there_are() {
        for (short, zones) in ABBREVIATIONS {
            assert!(TimeZone::named(short).is_none(), "{short} is a zone");
            assert!(zones.iter().all(|zone| TimeZone::named(zone).is_some()), "{short}");
        }
    }

    #[test]
    fn abbreviations_offsets_and_typing_errors_each_get_their_remedy() {
        let cases = [
            ("PST", "probably `America/Los_Angeles`"),
            ("IST", "`Asia/Kolkata` or `Europe/Dublin` or `Asia/Jerusalem`"),
            ("MSK", "probably `Europe/Moscow`"),
            ("GMT+1", "`Etc/GMT-1`"),
            ("UTC-05:00", "`Etc/GMT+5`"),
            ("+02:00", "`Etc/GMT-2`"),
            ("Z", "`Z`: use `UTC`"),
            ("UTC+5:30", "the name of a city, such as `Asia/Kolkata`"),
            ("+0530", "only whole hours from UTC have a zone of their own"),
            ("Local", "use `local`"),
            ("Europe/Berln", "such as `Europe/Berlin`"),
            ("new york", "such as `America/New_York`"),
            ("XYZ", "an IANA name such as"),
            ("GMT+99", "an IANA name such as"),
            ("", "an IANA name such as"),
            ("../../etc/passwd", "an IANA name such as"),
        ];
        for (name, expected) in cases {
            let error = unknown(name).to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
}
