//! What a line of a crontab file has that is no part of the schedule, and what to write instead.

use super::parse::{MONTH, WEEKDAY, is_schedule};
use crate::{trigger::quote::one_line, zone::IntoTimeZone as _};

/// Why a text is not read that is a schedule but for a comment, a command or blanks. What it says
/// to write is read.
///
/// `prefix` is what stands before the fields, such as a zone.
pub(super) fn reason(prefix: &str, text: &str) -> Option<String> {
    if text.starts_with('#') {
        return Some("it is a comment and no schedule: write, for example, `0 9 * * *`".to_owned());
    }
    if prefix.is_empty()
        && let Some(reason) = zone_behind(text)
    {
        return Some(reason);
    }
    [comment, command, blanks_within].into_iter().find_map(|reason| {
        let (what, rest) = reason(text)?;
        let remedy = format!("{prefix}{rest}");
        // A remedy that is cut off would not do.
        (is_schedule(&rest) && one_line(&remedy) == remedy)
            .then(|| format!("{what}: write `{remedy}`"))
    })
}

/// A zone behind the fields, as words have it.
fn zone_behind(text: &str) -> Option<String> {
    let (schedule, name) = text.rsplit_once(char::is_whitespace)?;
    let schedule = schedule.trim_end();
    let schedule = spaced(schedule.strip_suffix(" in").unwrap_or(schedule));
    let name = name.strip_prefix('(').and_then(|name| name.strip_suffix(')')).unwrap_or(name);
    // `0 9 * * MON 2030` lacks nothing, and a path such as `/bin/report` is no zone.
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) || !is_schedule(&schedule) {
        return None;
    }
    match name.into_time_zone() {
        Ok(zone) => Some(format!(
            "`{name}` is a zone, which goes before the fields: write `CRON_TZ={zone} {schedule}`"
        )),
        Err(error) => crate::zone::is_like_a_zone(name).then(|| error.to_string()),
    }
}

fn comment(text: &str) -> Option<(String, String)> {
    let begin = text.match_indices('#').map(|(begin, _)| begin).find(|&begin| {
        // `#2` may be a day of the week whose name is missing.
        text[..begin].ends_with(char::is_whitespace) && text[begin..].len() > 2
    })?;
    let (schedule, comment) = text.split_at(begin);
    Some((
        format!("`{}` is a comment, which has no place here", one_line(comment)),
        spaced(schedule),
    ))
}

fn command(text: &str) -> Option<(String, String)> {
    let tokens: Vec<&str> = text.split_whitespace().collect();
    let least = if text.starts_with('@') { 1 } else { 5 };
    let begin = tokens.iter().position(|token| !is_like_a_field(token))?.max(least);
    let command = tokens.get(begin..).filter(|command| !command.is_empty())?;
    // One odd word may as well be a day of the week with a typing error.
    let is_sure = least == 1
        || tokens.len() > 7
        || command.iter().any(|word| {
            !word.chars().all(|c| c.is_ascii_alphanumeric() || ",-/#*?".contains(c))
                || word.starts_with('/')
        });
    is_sure.then(|| {
        let what =
            format!("`{}` is a command, which a job has as its work", one_line(&command.join(" ")));
        (what, tokens[..begin].join(" "))
    })
}

fn is_like_a_field(token: &str) -> bool {
    let is_name = |word: &str| {
        let names = MONTH.names.iter().chain(WEEKDAY.names).chain(&["L", "W", "LW"]);
        word.is_empty() || names.into_iter().any(|name| name.eq_ignore_ascii_case(word))
    };
    token.starts_with('@')
        || token.chars().all(|c| c.is_ascii_alphanumeric() || ",-/#*?".contains(c))
            && token.split(|c: char| !c.is_ascii_alphabetic()).all(is_name)
}

/// Blanks beside a comma, a hyphen or a slash, which would divide a field into two.
fn blanks_within(text: &str) -> Option<(String, String)> {
    let mut joined = spaced(text);
    for divider in [",", "-", "/"] {
        joined = joined.replace(&format!(" {divider}"), divider);
        joined = joined.replace(&format!("{divider} "), divider);
    }
    // A `*` is no item of a list that somebody means.
    let is_meant = joined != spaced(text) && !joined.contains("*,") && !joined.contains(",*");
    is_meant.then(|| ("a field has no blanks within it".to_owned(), joined))
}

fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
