//! When does a daily job run on a day whose clocks leave its time out, or show it twice?

use std::panic::catch_unwind;

use chrono::{NaiveDate, NaiveTime};
use chrono_tz::America::New_York;
use serde_json::json;

use super::{Row, Unable};
use crate::peer::Peer;

pub(super) const HEADINGS: &[&str] =
    &["", "02:30 on 2026-03-08, which has none", "01:30 on 2026-11-01, which has two"];

pub(super) fn run<P: Peer>() -> Result<Row, Unable> {
    let gap = ask::<P>((2026, 3, 8), (2, 30))?;
    let fold = ask::<P>((2026, 11, 1), (1, 30))?;
    Ok(Row::new([gap.clone(), fold.clone()], json!({ "gap": gap, "fold": fold })))
}

fn ask<P: Peer>(
    (year, month, day): (i32, u32, u32),
    (hour, minute): (u32, u32),
) -> Result<String, Unable> {
    let day = NaiveDate::from_ymd_opt(year, month, day).expect("it is a date");
    let time = NaiveTime::from_hms_opt(hour, minute, 0).expect("it is a time");
    let Ok(runs) = catch_unwind(|| P::runs_on(day, time, New_York)) else {
        return Ok("panics".to_owned());
    };
    let runs: Vec<_> = runs?.iter().map(|run| run.format("%H:%M %Z").to_string()).collect();
    Ok(if runs.is_empty() {
        "does not run".to_owned()
    } else {
        format!("runs at {}", runs.join(" and "))
    })
}
