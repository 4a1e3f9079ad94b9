//! All zones from 1970 to 2150, compared with Python's zoneinfo on the same data.
//!
//! `PUNCTUAL_SWEEP=1750` sets the number of comparisons per zone, more than a million in all;
//! without it the test does nothing. It needs `python3` with the package `tzdata`.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use chrono::DateTime;
use punctual::{
    time_zone_data,
    trigger::{IntoTrigger as _, Trigger, calendar_interval, cron},
};

#[test]
fn every_zone_fires_when_python_says() {
    let Ok(questions) = env::var("PUNCTUAL_SWEEP") else { return };
    let mut oracle = Command::new("python3")
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/time_zones/oracle.py"), &questions])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 can be started");
    let mut lines = BufReader::new(oracle.stdout.take().unwrap()).lines().map(Result::unwrap);
    let version = lines.next().expect("the oracle prints its version");
    assert_eq!(version, time_zone_data().version(), "install the tzdata package of our version");

    let (mut compared, mut differences) = (0_u64, Vec::new());
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let [zone, kind, spec, after, fire] = fields[..] else { panic!("{line}") };
        let instant = |text: &str| DateTime::from_timestamp(text.parse().unwrap(), 0).unwrap();
        let answer = trigger(zone, kind, spec).next_after(instant(after)).unwrap();
        compared += 1;
        if answer != Some(instant(fire)) {
            differences.push(format!("{line}: {answer:?} instead of {}", instant(fire)));
        }
    }
    assert!(oracle.wait().unwrap().success());
    println!("{compared} questions, {} differences, {}", differences.len(), time_zone_data());
    let shown = &differences[..differences.len().min(10)];
    assert!(differences.is_empty(), "{} differ: {shown:#?}", differences.len());
    assert!(compared >= 500 * questions.parse::<u64>().unwrap(), "{compared}");
}

fn trigger(zone: &str, kind: &str, spec: &str) -> Trigger {
    let words: Vec<&str> = spec.split(' ').collect();
    let crontab = |clock: &str, weekday: &str| {
        let parts: Vec<u32> = clock.split(':').map(|part| part.parse().unwrap()).collect();
        format!("{} {} {} * * {weekday}", parts[2], parts[1], parts[0])
    };
    let trigger = match (kind, &words[..]) {
        ("cron", [clock]) => cron(crontab(clock, "*")).in_tz(zone).into_trigger(),
        ("weekday", [day, clock]) => {
            cron(crontab(clock, &day.to_uppercase())).in_tz(zone).into_trigger()
        }
        ("wild", [step]) => cron(format!("*/{step} * * * *")).in_tz(zone).into_trigger(),
        ("calendar", [days, first, clock]) => calendar_interval()
            .days(days.parse().unwrap())
            .starting_on(first.parse().unwrap())
            .at(*clock)
            .in_tz(zone)
            .into_trigger(),
        ("timetable", [weeks, day, first, clock, other]) => {
            let json = serde_json::json!({
                "type": "timetable",
                "words": format!("every {weeks} weeks on {day} at {clock}, {other}"),
                "from": first,
                "zone": zone,
            });
            return serde_json::from_value(json).unwrap();
        }
        _ => panic!("{kind} {spec}"),
    };
    trigger.unwrap()
}
