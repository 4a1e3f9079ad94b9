//! Replays the recorded answers of other schedulers for calendar intervals and combined triggers.
//!
//! `tests/vectors/` has a compact copy of them. `PUNCTUAL_VECTORS=DIR` reads every `NAME.*.jsonl`
//! of another folder instead.

use std::{collections::BTreeMap, error::Error, path::PathBuf};

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use punctual::trigger::{
    Build, CalendarInterval, Cron, Fold, Gap, IntoTrigger as _, Trigger, and, at,
    calendar_interval, cron, every, or,
};
use serde_json::Value;

type Answer<T> = Result<T, Box<dyn Error>>;

/// What became of one row.
enum Verdict {
    Agrees,
    Differs(String),
    /// Not compared, and why.
    Excluded(&'static str),
}

#[test]
fn calendar_intervals() {
    replay("calendarinterval", calendarinterval);
}

#[test]
fn combined_triggers() {
    replay("combining", combining);
}

/// Compares every row of every `NAME.*.jsonl`, and says how many.
fn replay(name: &str, compare: fn(&[Value]) -> Vec<Answer<Verdict>>) {
    let folder = std::env::var_os("PUNCTUAL_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors")),
        PathBuf::from,
    );
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|path| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.') && rest.ends_with(".jsonl"))
    });
    assert!(!files.is_empty(), "no {name}.*.jsonl in {}", folder.display());

    let mut differing = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let rows: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut excluded: BTreeMap<&str, usize> = BTreeMap::new();
        for (row, verdict) in rows.iter().zip(compare(&rows)) {
            match verdict {
                Ok(Verdict::Agrees) => {}
                Ok(Verdict::Excluded(reason)) => *excluded.entry(reason).or_default() += 1,
                Ok(Verdict::Differs(how)) => differing.push(format!("{}: {how}", row["id"])),
                Err(error) => differing.push(format!("{}: {error}", row["id"])),
            }
        }
        let left_out: usize = excluded.values().sum();
        println!(
            "{}: {} read, {} compared, {left_out} excluded",
            path.file_name().unwrap_or_default().to_string_lossy(),
            rows.len(),
            rows.len() - left_out,
        );
        for (reason, count) in excluded {
            println!("  {count} excluded: {reason}");
        }
    }
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
}

/// APScheduler's rule is that of `Gap::Skip`, `Fold::First`: a time in a gap passes the date over.
fn calendarinterval(rows: &[Value]) -> Vec<Answer<Verdict>> {
    let compare = |row: &Value| {
        let zone: Tz = text(row, "tz")?.parse()?;
        let mut build = calendar(row, zone)?;
        let mut from = DateTime::<Utc>::MIN_UTC;
        if let Some(previous) = row["previous"].as_str() {
            // Its grid counts from the previous fire time, ours from the start: they agree on
            // what follows the date of that fire time if it is the start.
            let date = previous.parse::<DateTime<Utc>>()?.with_timezone(&zone).date_naive();
            build = build.starting_on(date);
            from = last_second(date, zone)?;
        } else if let Some(today) = row["ctor_today"].as_str() {
            build = build.starting_on(today.parse()?);
        }
        if fires_past_its_end(row)? {
            return Ok(Verdict::Excluded(
                "the recorded fire times go past the end date, which APScheduler does not",
            ));
        }
        compared(row, "fires", &build.into_trigger()?, from)
    };
    rows.iter().map(compare).collect()
}

/// Whether a recorded fire time has a date after the row's `end_date`.
fn fires_past_its_end(row: &Value) -> Answer<bool> {
    let Some(end) = row["end_date"].as_str() else { return Ok(false) };
    // Instants are written as the zone's clock shows them, so texts compare as dates.
    let fires = row["fires"].as_array().ok_or("no fire times")?;
    Ok(fires.iter().filter_map(Value::as_str).any(|fire| &fire[..10] > end))
}

/// The union or the intersection of what the members fire, which is `set_semantics`, or where that
/// is missing the answer of APScheduler 4. Members of type cron and interval were started at `now`,
/// the others at their own start.
fn combining(rows: &[Value]) -> Vec<Answer<Verdict>> {
    let compare = |row: &Value| {
        let zone: Tz = text(row, "tz")?.parse()?;
        let now: DateTime<Utc> = text(row, "now")?.parse()?;
        let mut members = Vec::new();
        for member in row["triggers"].as_array().ok_or("no triggers")? {
            members.push(match text(member, "type")? {
                "cron" => {
                    let Some(build) = fields(&member["fields"]) else {
                        return Ok(Verdict::Excluded("cron fields that crontab text can't say"));
                    };
                    let mut build =
                        build.in_tz(zone).gap(Gap::Skip).fold(Fold::Both).starting_at(now);
                    if let Some(end) = member["end_date"].as_str() {
                        build = build.until(wall(end, zone)?);
                    }
                    build.into_trigger()?
                }
                "interval" => {
                    let unit = |unit| member["params"][unit].as_i64().unwrap_or(0);
                    let days = 7 * unit("weeks") + unit("days");
                    let minutes = (24 * days + unit("hours")) * 60 + unit("minutes");
                    let period = TimeDelta::seconds(minutes * 60 + unit("seconds"));
                    let grid = wall(text(member, "start_date")?, zone)?;
                    let grid = every(period).starting_at(grid).into_trigger()?;
                    let first = grid.next_after(now - TimeDelta::milliseconds(1))?;
                    every(period).starting_at(first.ok_or("no first fire time")?).into_trigger()?
                }
                "date" => at(wall(text(member, "run_date")?, zone)?).into_trigger()?,
                "calendarinterval" => calendar(member, zone)?.into_trigger()?,
                other => return Err(format!("unknown type {other}").into()),
            });
        }
        let trigger = match text(row, "op")? {
            "and" => and(members).into_trigger()?,
            _ => or(members).into_trigger()?,
        };
        if row["set_semantics"].is_array() {
            return compared(row, "set_semantics", &trigger, DateTime::<Utc>::MIN_UTC);
        }
        if row["aps4"].is_array() {
            return compared(row, "aps4", &trigger, DateTime::<Utc>::MIN_UTC);
        }
        // APScheduler gave up.
        match trigger.next_after(DateTime::<Utc>::MIN_UTC) {
            Ok(Some(_)) => Ok(Verdict::Excluded("a fire time that APScheduler gives up to find")),
            Ok(None) => Ok(Verdict::Agrees),
            Err(error) if error.is_search_exhausted() => Ok(Verdict::Agrees),
            Err(error) => Err(error.into()),
        }
    };
    rows.iter().map(compare).collect()
}

/// APScheduler's fields as crontab text, if that can say them.
fn fields(fields: &Value) -> Option<Build<Cron>> {
    const NAMES: [&str; 8] =
        ["year", "month", "day", "week", "day_of_week", "hour", "minute", "second"];
    let fields = fields.as_object()?;
    let said = |name: &str| {
        fields
            .get(name)
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    // Fields less significant than the last one given have their minimum, weekdays aside.
    let last = NAMES.iter().rposition(|&name| fields.contains_key(name))?;
    let field = |index: usize, minimum: &str| {
        let default = if index > last { minimum } else { "*" };
        said(NAMES[index]).unwrap_or_else(|| default.to_owned())
    };
    let (mut day, mut weekday) = (field(2, "1"), field(4, "*"));
    if fields.contains_key("week") || weekday.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if day == "last" {
        day = "L".to_owned();
    } else if let Some((which, name)) = day.clone().split_once(' ') {
        if weekday != "*" {
            return None;
        }
        day = "*".to_owned();
        weekday = match which {
            "last" => format!("{name}L"),
            which => format!("{name}#{}", which.get(..1)?),
        };
    }
    let [month, hour] = [field(1, "1"), field(5, "0")];
    let [minute, second, year] = [field(6, "0"), field(7, "0"), field(0, "*")];
    Some(cron(format!("{second} {minute} {hour} {day} {month} {weekday} {year}")).dom_and_dow())
}

/// An instant as a zone's clock shows it: `2026-10-15 23:30:00`.
fn wall(text: &str, zone: Tz) -> Answer<DateTime<Utc>> {
    instant(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")?, zone)
}

fn calendar(row: &Value, zone: Tz) -> Answer<Build<CalendarInterval>> {
    let unit = |unit: &str| row["params"][unit].as_u64().unwrap_or(0) as u32;
    let part = |part: &str| row["time"][part].as_u64().unwrap_or(0) as u32;
    let time = NaiveTime::from_hms_opt(part("hour"), part("minute"), part("second"));
    let mut build = calendar_interval()
        .years(unit("years"))
        .months(unit("months"))
        .weeks(unit("weeks"))
        .days(unit("days"))
        .at(time.ok_or("no time of day")?)
        .in_tz(zone)
        .gap(Gap::Skip)
        .fold(Fold::First);
    if let Some(start) = row["start_date"].as_str() {
        build = build.starting_on(start.parse()?);
    }
    if let Some(end) = row["end_date"].as_str() {
        build = build.until(last_second(end.parse()?, zone)?);
    }
    Ok(build)
}

/// Compares a row's list of fire times, `null` standing for the end of them.
fn compared(row: &Value, list: &str, trigger: &Trigger, from: DateTime<Utc>) -> Answer<Verdict> {
    let mut at = from;
    for expected in row[list].as_array().ok_or("no fire times")? {
        let expected = expected.as_str().map(str::parse::<DateTime<Utc>>).transpose()?;
        let next = trigger.next_after(at)?;
        if next != expected {
            return Ok(Verdict::Differs(format!(
                "`{trigger}` after {at} is {next:?}, not {expected:?}"
            )));
        }
        let Some(next) = next else { break };
        if trigger.last_at_or_before(next)? != Some(next) {
            return Ok(Verdict::Differs(format!("`{trigger}` forgets {next}")));
        }
        at = next;
    }
    Ok(Verdict::Agrees)
}

fn text<'a>(row: &'a Value, key: &str) -> Answer<&'a str> {
    row[key].as_str().ok_or_else(|| format!("no {key}").into())
}

/// The last second of a date in a zone.
fn last_second(date: NaiveDate, zone: Tz) -> Answer<DateTime<Utc>> {
    let next = date.succ_opt().ok_or("the calendar ends")?;
    Ok(instant(next.and_time(NaiveTime::MIN), zone)? - TimeDelta::seconds(1))
}

/// The first instant at which a zone's clock shows `wall`, or the end of the gap that swallows it.
fn instant(wall: NaiveDateTime, zone: Tz) -> Answer<DateTime<Utc>> {
    (0..24 * 60)
        .find_map(|minutes| {
            zone.from_local_datetime(&(wall + TimeDelta::minutes(minutes))).earliest()
        })
        .map(|instant| instant.with_timezone(&Utc))
        .ok_or_else(|| format!("{wall} is in no span of {zone}").into())
}
