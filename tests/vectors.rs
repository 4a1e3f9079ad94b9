//! Results recorded from APScheduler 3.11.3 and croniter 7.0.0, replayed.
//!
//! `tests/vectors` has, for each file `NAME.*.jsonl`, the recorded results. With
//! `PUNCTUAL_VECTORS=DIR cargo test --test vectors` the files of another folder are replayed
//! instead. [`EXCLUDED`] lists the cases that are not compared, with reasons.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use chrono::{
    DateTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, Offset as _, TimeDelta,
    TimeZone as _, Utc,
};
use punctual::{
    Error, TimeZone,
    trigger::{
        self, Build, CalendarInterval, Cron, CronFields, Fold, Gap, IntoTrigger, Moment, Trigger,
        cron, every,
    },
};
use serde_json::{Value, json};

/// One recorded question with its result.
type Case = Value;
/// The expected and the actual result, if they differ.
type Comparison = Result<(), Difference>;
/// Computes the result here, and compares.
type Replay = fn(&Case) -> Comparison;
/// Whether a case is excluded from the comparison.
type Rule = fn(&Case) -> bool;

struct Difference {
    expected: String,
    actual: String,
}

/// The replay of each file, by the first part of its name.
const REPLAYED: &[(&str, Replay)] = &[
    ("calendarinterval", calendarinterval),
    ("combining", combining),
    ("cron_fields", cron_fields),
    ("crontab", crontab),
    ("date", date),
    ("interval", interval),
    ("invalid", invalid),
];

/// Files that are not replayed, with reasons.
const NOT_REPLAYED: &[(&str, &str)] =
    &[("semantics", "that is the scheduler's affair, not the triggers'")];

/// Cases that are not compared: the file, the rule, and the reason.
const EXCLUDED: &[(&str, Rule, &str)] = &[
    (
        "calendarinterval",
        fires_past_its_end,
        "the recorded fire times go past the end date, which APScheduler does not",
    ),
    ("combining", gives_up_early, "APScheduler gave up before a fire time that is found here"),
    ("cron_fields", |case| has(case, "hang"), "APScheduler gave no answer"),
    ("cron_fields", loses_midnight, "APScheduler lost midnight after a gap"),
    (
        "crontab",
        |case| is_earlier(&case["croniter"][0], &case["now"]),
        "croniter began before it was asked to, in the first pass of a fold",
    ),
    (
        "crontab",
        |case| text(case, "tz") == "Australia/Lord_Howe" && lacks_a_second_pass(case),
        "croniter does not fire twice in a fold of half an hour",
    ),
    (
        "crontab",
        |case| lists(case, "diff", "croniter_degenerate_range"),
        "croniter reads `17-17` as every value",
    ),
    (
        "interval",
        |case| text(case, "mode") == "jitter_bounds",
        "jitter is an option of the job here, not of the trigger",
    ),
    ("interval", |case| seconds(case) <= 0.0, "a negative period is an error here"),
    (
        "interval",
        |case| !has(case, "previous") && is_earlier(&case["fires"][0], &case["now"]),
        "APScheduler began before it was asked to, in the first pass of a fold",
    ),
    ("interval", starts_by_the_wall, "the first period is elapsed time here, not wall time"),
    (
        "invalid",
        |case| is(case, "api") && !has(&case["params"], "hour") && scheduler_zone(case).is_none(),
        "it is about the scheduler, not about triggers",
    ),
    (
        "invalid",
        is_wider_date,
        "a date may be `now`, be of the year 0, and have a blank or no seconds before its offset",
    ),
    ("invalid", is_mistyped, "no function takes it, or the compiler refuses it"),
    ("invalid", is_wider_crontab, "crontab text may say more here than in APScheduler"),
    (
        "invalid",
        |case| is(case, "cron_timezone") && case["params"]["timezone"] == "",
        "an empty zone name is an error here, not the default zone",
    ),
    (
        "invalid",
        |case| is(case, "cron_timezone") && is_in_another_case(&case["params"]["timezone"]),
        "the name of a zone may be in any case here",
    ),
    (
        "invalid",
        |case| is(case, "cron_timezone") && case["params"]["timezone"] == "local",
        "`local` names the machine's zone here",
    ),
];

#[test]
fn recorded_answers() {
    let folder = match std::env::var_os("PUNCTUAL_VECTORS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
    };
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no .jsonl files", folder.display());

    let report: Vec<Report> = files.iter().map(|path| replay(path)).collect();
    let mut out = String::from("\n");
    report.iter().for_each(|report| out += &report.lines);
    // Bypasses the test harness, which captures the output of `println!`.
    io::stdout().write_all(out.as_bytes()).unwrap();
    let failures: Vec<&str> =
        report.iter().flat_map(|report| &report.failures).map(|s| &**s).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// The results of one file.
struct Report {
    lines: String,
    failures: Vec<String>,
}

fn replay(path: &Path) -> Report {
    const SHOWN: usize = 10;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = file.split('.').next().unwrap_or_default();
    let Some((_, compare)) = REPLAYED.iter().find(|(known, _)| *known == name) else {
        let reason = NOT_REPLAYED.iter().find(|(known, _)| *known == name);
        let reason = reason.map_or("no file of this name is known here", |(_, reason)| reason);
        return Report { lines: format!("{file}: not replayed: {reason}\n"), failures: Vec::new() };
    };

    let lines = fs::read_to_string(path).unwrap();
    let cases: Vec<Case> = lines
        .lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{file}:{}: {error}", index + 1))
        })
        .collect();
    let mut excluded: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in &cases {
        let rule = EXCLUDED.iter().find(|(file, rule, _)| *file == name && rule(case));
        if let Some((_, _, reason)) = rule {
            *excluded.entry(reason).or_default() += 1;
        } else if let Err(Difference { expected, actual }) = compare(case) {
            failures.push(format!(
                "{}\n    expected {expected}\n    actual   {actual}",
                text(case, "id")
            ));
        }
    }

    let without: usize = excluded.values().sum();
    let mut report = format!(
        "{file}: {} read, {} compared, {without} excluded\n",
        cases.len(),
        cases.len() - without
    );
    for (reason, count) in excluded {
        report += &format!("    {count} excluded: {reason}\n");
    }
    if failures.len() > SHOWN {
        let count = failures.len();
        failures.truncate(SHOWN);
        failures.push(format!("{file}: {count} cases differ; these were the first {SHOWN}"));
    }
    Report { lines: report, failures }
}

/// APScheduler's `calendarinterval` trigger.
fn calendarinterval(case: &Case) -> Comparison {
    let mut start = case["start_date"].clone();
    let mut from = DateTime::<Utc>::MIN_UTC;
    if let Some(previous) = case["previous"].as_str() {
        // Its grid counts from the previous fire time, and the one here from the start: both agree
        // on the fire times after the date of the previous one if that is the start.
        let date = parse(previous).with_timezone(&zone(case)).date_naive();
        start = json!(date.to_string());
        from = last_second(date, zone(case)) + TimeDelta::seconds(1);
    } else if let Some(today) = case["ctor_today"].as_str() {
        start = json!(today);
    }
    let mut case = case.clone();
    case["start_date"] = start;
    let (case, build) = (&case, calendar(&case));
    let expected = first_of(case, &["fires"]);
    let trigger = match build.into_trigger() {
        // Bounds with nothing between them are an error here.
        Err(error) if error.to_string().contains("before it starts") => {
            return same(&[None], expected);
        }
        made => made.map_err(|error| unexpected(case, error))?,
    };
    same(&fires(&trigger, from, expected.len())?, expected)
}

/// Returns a builder with the parameters of a calendar interval. APScheduler skips a date if a gap
/// swallows the time.
fn calendar(case: &Case) -> Build<CalendarInterval> {
    let unit = |unit: &str| {
        let count = case["params"][unit].as_u64().unwrap_or(0);
        u32::try_from(count).expect("a unit is counted in 32 bits")
    };
    let part = |part: &str| case["time"][part].as_i64().unwrap_or(0);
    let mut build = trigger::calendar_interval()
        .years(unit("years"))
        .months(unit("months"))
        .weeks(unit("weeks"))
        .days(unit("days"))
        .at(format!("{}:{}:{}", part("hour"), part("minute"), part("second")))
        .in_tz(zone(case))
        .gap(Gap::Skip)
        .fold(Fold::First);
    if let Some(start) = case["start_date"].as_str() {
        build = build.starting_on(date_named(start));
    }
    if let Some(end) = case["end_date"].as_str() {
        build = build.until(last_second(date_named(end), zone(case)));
    }
    build
}

/// Compares with the union or the intersection of the members' fire times, which is
/// `set_semantics`, or if that is missing with the result of APScheduler 4.
fn combining(case: &Case) -> Comparison {
    let trigger = combined(case).map_err(|error| unexpected(case, error))?;
    if !gives_up(case) {
        let expected = first_of(case, &["set_semantics", "aps4"]);
        return same(&fires(&trigger, DateTime::<Utc>::MIN_UTC, expected.len())?, expected);
    }
    match trigger.next_after(DateTime::<Utc>::MIN_UTC) {
        Err(error) if !error.is_search_exhausted() => Err(unexpected(case, error)),
        Err(_) => Ok(()),
        Ok(fire) => same(&[fire], &[Value::Null]),
    }
}

/// Returns the trigger of a case of the file `combining`. Members of type cron and interval were
/// started at `now`, the others at their own start.
fn combined(case: &Case) -> Result<Trigger, Error> {
    let now = instant(&case["now"]);
    let member = |member: &Value| {
        let mut member = member.clone();
        member["tz"] = case["tz"].clone();
        match text(&member, "type") {
            "cron" => {
                wall_cron(&member).expect("there is no start").starting_at(now).into_trigger()
            }
            "interval" => {
                let period = period(&member["params"]);
                let grid = bounded(every(period), &member).expect("there is no end");
                let first = grid.into_trigger()?.next_after(now - TimeDelta::milliseconds(1))?;
                every(period).starting_at(first.expect("an interval goes on")).into_trigger()
            }
            "date" => trigger::at(date_of(text(&member, "run_date"), zone(case))).into_trigger(),
            "calendarinterval" => calendar(&member).into_trigger(),
            other => panic!("no trigger is called {other}"),
        }
    };
    let members = first_of(case, &["triggers"]).iter().map(member);
    let members = members.collect::<Result<Vec<Trigger>, Error>>()?;
    match text(case, "op") {
        "and" => trigger::and(members).into_trigger(),
        "or" => trigger::or(members).into_trigger(),
        other => panic!("nothing combines by {other}"),
    }
}

/// Whether APScheduler 4 gave up its search, and no other result is known.
fn gives_up(case: &Case) -> bool {
    !case["set_semantics"].is_array() && !case["aps4"].is_array()
}

/// APScheduler's `cron` trigger.
fn cron_fields(case: &Case) -> Comparison {
    let expected = first_of(case, &["ideal", "fires"]);
    let Some(build) = wall_cron(case) else {
        return same(&[None], expected);
    };
    let trigger = build.into_trigger().map_err(|error| unexpected(case, error))?;
    let (now, previous) = (instant(&case["now"]), case["previous"].as_str());
    let fires = match previous {
        None => fires(&trigger, now, expected.len()),
        // One result, counted from the earlier of the two, but not the same again.
        Some(previous) => {
            let previous = parse(previous);
            let after = previous + TimeDelta::microseconds(1);
            fires(&trigger, if now == previous { after } else { now.min(after) }, 1)
        }
    };
    same(&fires?, expected)
}

/// Returns the fields of a case with its bounds, unless nothing is between them. APScheduler fires
/// at every instant whose wall reading matches.
fn wall_cron(case: &Case) -> Option<Build<CronFields>> {
    let build = fields(&case["fields"]).in_tz(zone(case)).gap(Gap::Skip).fold(Fold::Both);
    bounded(build, case)
}

/// A builder with these fields.
fn fields(fields: &Value) -> Build<CronFields> {
    let mut build = CronFields::builder();
    for (field, value) in fields.as_object().expect("fields are an object") {
        let text = match value {
            Value::String(text) => text.clone(),
            number => number.to_string(),
        };
        build = match &**field {
            "year" => build.year(text),
            "month" => build.month(text),
            "day" => build.day(text),
            "week" => build.week(text),
            "day_of_week" => build.day_of_week(text),
            "hour" => build.hour(text),
            "minute" => build.minute(text),
            "second" => build.second(text),
            other => panic!("no field is called {other}"),
        };
    }
    build
}

/// Compares crontab text: the defaults with croniter's results, both day fields with POSIX's
/// weekdays.
fn crontab(case: &Case) -> Comparison {
    let (text, zone, now) = (text(case, "expr"), zone(case), instant(&case["now"]));
    let run = |build: Build<Cron>, expected: &[Value]| {
        let trigger = build.in_tz(zone).into_trigger().map_err(|error| unexpected(case, error))?;
        same(&fires(&trigger, now, expected.len())?, expected)
    };
    if has(case, "croniter_error") {
        return refused(cron(text).into_trigger());
    }
    let croniter = first_of(case, &["croniter"]);
    let ours = run(cron(text), croniter);
    // croniter always fires after a gap and in both passes of a fold. The defaults here do so for
    // some patterns only, so where they differ, its policy is used.
    if ours.is_err() && run(cron(text).gap(Gap::Next).fold(Fold::Both), croniter).is_err() {
        return ours;
    }
    run(
        cron(text).dom_and_dow().gap(Gap::Skip).fold(Fold::Both),
        first_of(case, &["std_and_ideal", "std_and", "croniter"]),
    )
}

fn date(case: &Case) -> Comparison {
    let zone = zone(case);
    let trigger = match case["run_date"].as_str() {
        Some(run_date) => trigger::at(date_of(run_date, zone)).into_trigger(),
        None => trigger::now()
            .into_trigger()
            .and_then(|trigger| trigger.anchored(instant(&case["ctor_now"]), zone)),
    };
    let trigger = trigger.map_err(|error| unexpected(case, error))?;
    // A date fires even if it has passed, unless it has fired.
    let after = case["previous"].as_str().map_or(DateTime::<Utc>::MIN_UTC, parse);
    let fire = trigger.next_after(after).expect("a date does not fail");
    same(&[fire], std::slice::from_ref(&case["fire"]))
}

fn interval(case: &Case) -> Comparison {
    let zone = zone(case);
    let build = every(TimeDelta::microseconds((seconds(case) * 1e6).round() as i64));
    let expected = first_of(case, &["fires"]);
    // APScheduler counts from the last fire time, wherever that was: its grid starts there.
    let previous = case["previous"].as_str().map(parse);
    let Some(build) = bounded_from(build, case, previous) else {
        return same(&[None], expected);
    };
    let from = match previous {
        Some(previous) => ceil_millis(previous) + TimeDelta::nanoseconds(1),
        None => instant(&case["now"]),
    };
    let constructed = case["ctor_now"].as_str().map_or(from, parse);
    let trigger = build
        .into_trigger()
        .and_then(|trigger| trigger.anchored(constructed, zone))
        .map_err(|error| unexpected(case, error))?;
    same(&fires(&trigger, from, expected.len())?, expected)
}

/// Sets the bounds of a case, unless nothing is between them, which is an error here.
fn bounded<K>(build: Build<K>, case: &Case) -> Option<Build<K>> {
    bounded_from(build, case, None)
}

/// Like [`bounded`], with another start than that of the case.
fn bounded_from<K>(
    mut build: Build<K>,
    case: &Case,
    other_start: Option<DateTime<Utc>>,
) -> Option<Build<K>> {
    let bound = |key| Some(date_of(case[key].as_str()?, zone(case)));
    let (start, end) = (bound("start_date"), bound("end_date"));
    match (other_start, start) {
        (Some(start), _) => build = build.starting_at(start),
        (None, Some(start)) => build = build.starting_at(start),
        (None, None) => {}
    }
    if let Some(end) = end {
        build = build.until(end);
    }
    (start.is_none() || end.is_none() || start <= end).then_some(build)
}

/// The parameters of APScheduler's `interval` trigger, in seconds.
const UNITS: &[(&str, f64)] = &[
    ("weeks", 604_800.0),
    ("days", 86_400.0),
    ("hours", 3_600.0),
    ("minutes", 60.0),
    ("seconds", 1.0),
];

/// Returns the sum of these parameters as a period, in whole seconds.
fn period(params: &Value) -> TimeDelta {
    let parts =
        UNITS.iter().filter_map(|(unit, seconds)| Some(params.get(unit)?.as_f64()? * seconds));
    TimeDelta::seconds(parts.sum::<f64>() as i64)
}

fn seconds(case: &Case) -> f64 {
    case["interval_seconds"].as_f64().expect("seconds are a number")
}

/// Checks that rejected input is rejected here as well, and so is input that was accepted with
/// another meaning.
fn invalid(case: &Case) -> Comparison {
    let params = &case["params"];
    let made = match text(case, "kind") {
        "cron_fields" | "cron_fields_python_value" => {
            let literal = |value: &Value| match value.as_str() {
                Some(text) => text.trim_end_matches(" (python literal)").into(),
                None => value.clone(),
            };
            let params = params.as_object().expect("parameters are an object");
            let is_bound = |name: &str| ["start_date", "end_date"].contains(&name);
            let named = params.iter().filter(|(name, _)| !is_bound(name));
            let build =
                fields(&named.map(|(name, value)| (name.clone(), literal(value))).collect());
            bounded_by_text(build, case).into_trigger()
        }
        "date" => trigger::at(text(params, "run_date")).into_trigger(),
        "crontab" => cron(text(params, "expr")).into_trigger(),
        "api" if has(params, "hour") => fields(&json!({ "hour": params["hour"] })).into_trigger(),
        "api" => cron("@daily").in_tz(scheduler_zone(case).unwrap_or_default()).into_trigger(),
        "cron_timezone" => cron("@daily").in_tz(text(params, "timezone")).into_trigger(),
        "interval" => every(period(params))
            .into_trigger()
            .and_then(|trigger| trigger.anchored(Utc::now(), TimeZone::UTC)),
        "calendarinterval" => {
            let build = calendar(&json!({ "tz": "UTC", "params": params, "time": params }));
            bounded_by_text(build, case).into_trigger()
        }
        kind => panic!("no counterpart of {kind} is known"),
    };
    let is_understood = match text(case, "kind") {
        "cron_fields" => text(case, "canonical") == said(params),
        // An empty period becomes one second, and a negative one goes back in time.
        "interval" => !text(case, "canonical").starts_with("interval[-") && *params != json!({}),
        _ => true,
    };
    if case["rejected"] == false && is_understood {
        return made.map(drop).map_err(|error| unexpected(case, error));
    }
    if let (true, Err(error)) = (is(case, "cron_fields"), &made)
        && bounds_of(case).next().is_none()
    {
        let field = params.as_object().and_then(|params| params.keys().next());
        let named = format!("invalid cron fields: {} ", field.expect("a field was given"));
        if !error.to_string().starts_with(&named) {
            return Err(Difference { expected: named, actual: error.to_string() });
        }
    }
    refused(made)
}

/// Returns the canonical form of the fields that APScheduler would print if it understood them: in
/// lower case, without needless spaces, zeros and ranges.
fn said(fields: &Value) -> String {
    let tidy = |text: &str| {
        let words = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
        let items = words.split(',').map(str::trim).map(|item| match item.split_once('-') {
            Some((first, last)) if first == last => first,
            _ if item.parse::<u32>().is_ok() && item != "0" => item.trim_start_matches('0'),
            _ => item,
        });
        items.collect::<Vec<_>>().join(",")
    };
    let fields = fields.as_object().expect("fields are an object").iter().map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name}='{}'", tidy(&text))
    });
    format!("cron[{}]", fields.collect::<Vec<_>>().join(", "))
}

/// Returns the first `n` fire times from `from` on, with `None` once there are no more. Each is
/// found backwards as well.
fn fires(
    trigger: &Trigger,
    from: DateTime<Utc>,
    n: usize,
) -> Result<Vec<Option<DateTime<Utc>>>, Difference> {
    let failed = |error: Error| Difference {
        expected: format!("fire times of `{trigger}`"),
        actual: error.to_string(),
    };
    let mut at = from.checked_sub_signed(TimeDelta::nanoseconds(1)).unwrap_or(from);
    let mut fires = Vec::new();
    while fires.len() < n && fires.last() != Some(&None) {
        let next = trigger.next_after(at).map_err(failed)?;
        if let Some(next) = next {
            let last = trigger.last_at_or_before(next).map_err(failed)?;
            if last != Some(next) {
                return Err(Difference {
                    expected: format!("{next} as the last fire time of `{trigger}` by then"),
                    actual: format!("{last:?}"),
                });
            }
            at = next;
        }
        fires.push(next);
    }
    Ok(fires)
}

/// Compares fire times, those of the record rounded up to whole milliseconds. Years from 2200 on
/// are beyond the end of the calendar here.
fn same(actual: &[Option<DateTime<Utc>>], expected: &[Value]) -> Comparison {
    let mut expected: Vec<_> =
        expected.iter().map(|fire| fire.as_str().map(|fire| ceil_millis(parse(fire)))).collect();
    if let Some(end) = expected.iter().position(|fire| fire.is_some_and(|fire| fire.year() >= 2200))
    {
        expected.truncate(end);
        expected.push(None);
    }
    if actual == expected {
        return Ok(());
    }
    let list = |fires: &[Option<DateTime<Utc>>]| {
        let fires = fires.iter().map(|fire| fire.map_or("none".into(), |fire| fire.to_rfc3339()));
        fires.collect::<Vec<_>>().join(", ")
    };
    Err(Difference { expected: list(&expected), actual: list(actual) })
}

fn refused(made: Result<Trigger, Error>) -> Comparison {
    match made {
        Ok(trigger) => {
            Err(Difference { expected: "an error".into(), actual: format!("`{trigger}`") })
        }
        Err(error) if error.is_invalid_trigger() => Ok(()),
        Err(error) => {
            Err(Difference { expected: "an invalid trigger".into(), actual: error.to_string() })
        }
    }
}

fn unexpected(case: &Case, error: impl Debug) -> Difference {
    Difference { expected: format!("a trigger: {case}"), actual: format!("{error:?}") }
}

/// Whether a recorded fire time has a date after the case's `end_date`.
fn fires_past_its_end(case: &Case) -> bool {
    case["end_date"].as_str().map(date_named).is_some_and(|end| {
        let fires = first_of(case, &["fires"]).iter().filter_map(Value::as_str);
        fires.map(parse).any(|fire| fire.with_timezone(&zone(case)).date_naive() > end)
    })
}

/// Whether there is a fire time after all when APScheduler gave up its search.
fn gives_up_early(case: &Case) -> bool {
    let first = || combined(case)?.next_after(DateTime::<Utc>::MIN_UTC);
    gives_up(case) && matches!(first(), Ok(Some(_)))
}

/// Whether the clock was set forward on the day of `previous`: APScheduler adds a day to the
/// reading from before that, and misses the next midnight. For single results no `ideal` was
/// recorded.
fn loses_midnight(case: &Case) -> bool {
    let Some(previous) = case["previous"].as_str().filter(|_| text(case, "mode") == "single")
    else {
        return false;
    };
    let previous = parse(previous).with_timezone(&zone(case));
    let offset = |t: DateTime<TimeZone>| t.offset().fix().local_minus_utc();
    let evening = previous.with_time(NaiveTime::MIN - TimeDelta::minutes(1)).latest();
    let is_far = case["fires"][0]
        .as_str()
        .is_some_and(|fire| parse(fire) - previous.to_utc() > TimeDelta::days(1));
    is_far && evening.is_some_and(|evening| offset(previous) < offset(evening))
}

fn is_earlier(time: &Value, than: &Value) -> bool {
    time.as_str().is_some_and(|time| parse(time) < instant(than))
}

/// Whether croniter misses a fire time in a fold that it should have even if both day fields had to
/// match.
fn lacks_a_second_pass(case: &Case) -> bool {
    let Some(croniter) = case["croniter"].as_array() else {
        return false;
    };
    let croniter: Vec<_> = croniter.iter().filter_map(Value::as_str).map(parse).collect();
    let both = first_of(case, &["std_and_ideal", "std_and", "croniter"]);
    both.iter().filter_map(Value::as_str).map(parse).any(|fire| {
        let wall = fire.with_timezone(&zone(case)).naive_local();
        let is_repeated = zone(case).from_local_datetime(&wall).single().is_none();
        is_repeated && croniter.last() > Some(&fire) && !croniter.contains(&fire)
    })
}

/// Whether a list of the case has this tag.
fn lists(case: &Case, key: &str, tag: &str) -> bool {
    case[key].as_array().is_some_and(|tags| tags.iter().any(|known| known == tag))
}

/// Whether an interval without a start was made less than a period before a transition. APScheduler
/// adds the first period to the wall clock's reading.
fn starts_by_the_wall(case: &Case) -> bool {
    case["ctor_now"].as_str().is_some_and(|constructed| {
        let first = instant(&case["effective_start"]) - parse(constructed);
        first.num_seconds() as f64 != seconds(case)
    })
}

/// Whether a case of the file `invalid` is of this kind.
fn is(case: &Case, kind: &str) -> bool {
    text(case, "kind") == kind
}

/// Returns the zone that a scheduler was configured with.
fn scheduler_zone(case: &Case) -> Option<&str> {
    case["params"]["apscheduler.timezone"].as_str()
}

/// Returns the bounds of a case, maybe as texts.
fn bounds_of(case: &Case) -> impl Iterator<Item = &Value> {
    ["start_date", "end_date"].iter().filter_map(|bound| case["params"].get(bound))
}

/// Returns a builder with the bounds of a case, as texts.
fn bounded_by_text<K>(mut build: Build<K>, case: &Case) -> Build<K> {
    if let Some(start) = case["params"]["start_date"].as_str() {
        build = build.starting_at(start);
    }
    if let Some(end) = case["params"]["end_date"].as_str() {
        build = build.until(end);
    }
    build
}

/// Whether a date or a bound is a text that is accepted here and has none of APScheduler's formats.
fn is_wider_date(case: &Case) -> bool {
    let run_date = case["params"].get("run_date").filter(|_| is(case, "date"));
    bounds_of(case).chain(run_date).filter_map(Value::as_str).any(|text| {
        let mut shape = text.replace(|c: char| c.is_ascii_digit(), "9");
        while shape.contains("99") {
            shape = shape.replace("99", "9");
        }
        let (date, time) = shape.split_at_checked("9-9-9".len()).unwrap_or((&shape, ""));
        let zone = time.trim_start_matches([' ', 'T']).trim_start_matches("9:9:9");
        let zone = zone.strip_prefix(".9").unwrap_or(zone);
        let is_known = date == "9-9-9"
            && (time.is_empty() || time[1..].starts_with("9:9:9"))
            && ["", "Z", "+9:9", "-9:9"].contains(&zone)
            && !text.starts_with("0000");
        !is_known && text.parse::<Moment>().is_ok()
    })
}

/// Whether a zone has a known name in another spelling.
fn is_in_another_case(name: &Value) -> bool {
    let name = name.as_str().unwrap_or_default();
    name.parse::<TimeZone>().is_ok_and(|zone| zone.name() != name && name != "local")
}

/// Whether a parameter has a name or a type that no function here accepts.
fn is_mistyped(case: &Case) -> bool {
    let params = case["params"].as_object();
    match text(case, "kind") {
        "cron_fields_python_value" => text(&case["params"], "minute").starts_with("None "),
        "cron_timezone" => !case["params"]["timezone"].is_string(),
        "cron_fields" => bounds_of(case).any(|bound| !bound.is_string()),
        "date" => params.into_iter().flatten().any(|(_, value)| !value.is_string()),
        "interval" => params.into_iter().flatten().any(|(unit, value)| {
            !UNITS.iter().any(|(known, _)| known == unit) || !value.is_number()
        }),
        "calendarinterval" => params.into_iter().flatten().any(|(name, value)| match &**name {
            "years" | "months" | "weeks" | "days" => {
                value.as_u64().is_none_or(|count| u32::try_from(count).is_err())
            }
            "hour" | "minute" | "second" => !value.is_i64(),
            "start_date" | "end_date" => !value.is_string(),
            _ => true,
        }),
        _ => false,
    }
}

/// Whether a crontab text uses features that APScheduler lacks: nicknames, zones, `?`, `L`, 7 for
/// Sunday, or ranges that wrap around.
fn is_wider_crontab(case: &Case) -> bool {
    let expr = text(&case["params"], "expr");
    let is_wider = match *expr.split_whitespace().collect::<Vec<_>>() {
        [nickname] => nickname.starts_with('@') && nickname != "@reboot",
        [zone, ..] if zone.starts_with("TZ=") || zone.starts_with("CRON_TZ=") => true,
        // Sunday is the last day of the week there, so a range that begins with it wraps around.
        [_, _, day, _, weekday] => {
            day.contains(['L', 'W', '?'])
                || weekday.contains(['7', 'L', '#', '?'])
                || weekday.starts_with("sun-")
        }
        _ => false,
    };
    is(case, "crontab") && is_wider
}

fn has(case: &Case, key: &str) -> bool {
    case.get(key).is_some()
}

fn text<'a>(case: &'a Case, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_default()
}

fn zone(case: &Case) -> TimeZone {
    text(case, "tz").parse().expect("a known zone")
}

/// Returns the first of these lists that the case has.
fn first_of<'a>(case: &'a Case, keys: &[&str]) -> &'a [Value] {
    keys.iter()
        .find_map(|key| case[*key].as_array())
        .unwrap_or_else(|| panic!("{case} has none of {keys:?}"))
}

fn instant(value: &Value) -> DateTime<Utc> {
    parse(value.as_str().expect("an instant"))
}

fn parse(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn ceil_millis(t: DateTime<Utc>) -> DateTime<Utc> {
    let past = t.timestamp_subsec_nanos() % 1_000_000;
    let missing = (1_000_000 - past) % 1_000_000;
    t + TimeDelta::nanoseconds(i64::from(missing))
}

fn date_named(text: &str) -> NaiveDate {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The last second of a date in a zone.
fn last_second(date: NaiveDate, zone: TimeZone) -> DateTime<Utc> {
    date_of(&format!("{date} 23:59:59"), zone)
}

/// Parses a date like APScheduler: a wall time of `zone` unless it has an offset. In a gap, the
/// offset before the gap applies; a repeated time is its first occurrence.
fn date_of(text: &str, zone: TimeZone) -> DateTime<Utc> {
    let text = text.replacen(' ', "T", 1);
    // `.5` is 5 µs: the digits of a fraction are read as a whole number.
    let text = match text.split_once('.') {
        Some((whole, rest)) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            format!("{whole}.{:0>6}{}", &rest[..digits], &rest[digits..])
        }
        None => text,
    };
    if let Ok(instant) = text.parse::<DateTime<Utc>>() {
        return instant;
    }
    let wall: NaiveDateTime = match text.parse::<NaiveDate>() {
        Ok(day) => day.and_hms_opt(0, 0, 0).expect("midnight is a time"),
        Err(_) => text.parse().unwrap_or_else(|error| panic!("{text}: {error}")),
    };
    match zone.from_local_datetime(&wall).earliest() {
        Some(instant) => instant.to_utc(),
        None => {
            let day = TimeDelta::days(1);
            let before = zone.from_local_datetime(&(wall - day)).earliest().expect("one gap a day");
            before.to_utc() + day
        }
    }
}
