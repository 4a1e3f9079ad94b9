//! Prints the next fire times of a crontab text.
//!
//! ```text
//! cargo run --example next_fires -- "0 9 * * MON-FRI" --tz Europe/Berlin --count 5
//! ```

use std::{fmt, io::Write as _, process::ExitCode};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Parser;
use punctual::{
    TimeZone,
    trigger::{IntoTimeZone as _, IntoTrigger as _, Kind, cron},
};

/// Prints the next fire times of a crontab text.
#[derive(Parser)]
struct Args {
    /// A crontab text of 5 fields, 6 with seconds first, or 7 with years last.
    expression: String,
    /// The IANA name of the time zone. Default: UTC, or the time zone in the text.
    #[arg(long)]
    tz: Option<String>,
    /// How many fire times to print.
    #[arg(long, default_value_t = 5)]
    count: usize,
    /// Print fire times after this instant, such as 2026-03-07T17:00:00Z. Default: now.
    #[arg(long, value_name = "INSTANT")]
    after: Option<String>,
    /// Print only one UTC instant per line.
    #[arg(long)]
    utc: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match report(&args) {
        Ok(report) => match std::io::stdout().lock().write_all(report.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            // The reader has closed the pipe, as `head` does.
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn report(args: &Args) -> Result<String, Box<dyn std::error::Error>> {
    let mut build = cron(&args.expression);
    if let Some(zone) = &args.tz {
        build = build.in_tz(zone.as_str().into_time_zone()?);
    }
    let after = match &args.after {
        Some(text) => instant(text)?,
        None => Utc::now(),
    };
    let trigger = build.into_trigger()?.anchored(after, TimeZone::UTC)?;

    let mut fires = Vec::new();
    let mut t = after;
    while fires.len() < args.count {
        let Some(next) = trigger.next_after(t)? else {
            break;
        };
        fires.push(next);
        t = next;
    }
    let mut report = String::new();
    if args.utc {
        fires.iter().for_each(|&fire| line(&mut report, utc(fire)));
        return Ok(report);
    }
    let Kind::Cron(cron) = trigger.kind() else { unreachable!("`cron` makes a cron trigger") };
    let zone = cron.zone().unwrap_or(TimeZone::UTC);
    line(&mut report, cron.describe());
    for &fire in &fires {
        let wall = fire.with_timezone(&zone).format("%a %Y-%m-%d %H:%M:%S (%:z)");
        line(&mut report, format_args!("{wall}  {}", utc(fire)));
    }
    match fires.len() {
        found if found == args.count => {}
        0 => line(&mut report, format_args!("It never fires after {}.", utc(after))),
        found => line(&mut report, format_args!("It fires no more: {found} of {}.", args.count)),
    }
    Ok(report)
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    text.parse().map_err(|_| {
        format!(
            "invalid instant `{text}`: use RFC 3339 with an offset, as in `2026-03-07T17:00:00Z`"
        )
    })
}

fn utc(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn line(report: &mut String, text: impl fmt::Display) {
    report.push_str(&format!("{text}\n"));
}
