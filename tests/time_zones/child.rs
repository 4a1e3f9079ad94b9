//! The child processes of the tests: this program, with an environment of its own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use chrono::{DateTime, Utc, Weekday};
use punctual::{
    EventKind, EventPayload, Scheduler, TimeZone, reload_time_zone_data,
    testing::ManualClock,
    time_zone_data,
    trigger::{IntoTrigger as _, and, cron, every, or},
};
use tokio::time::sleep;

/// A folder of time zone data.
pub(crate) struct Zoneinfo(PathBuf);

impl Zoneinfo {
    pub(crate) fn new(name: &str) -> Zoneinfo {
        let folder = env::temp_dir().join(format!("punctual-zones-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Zoneinfo(folder)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// Writes a zone with a POSIX rule.
    pub(crate) fn write(&self, version: &str, name: &str, rule: &str) {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, tzif(rule)).unwrap();
        fs::write(self.0.join("tzdata.zi"), format!("# version {version}\n# the rest\n")).unwrap();
    }

    pub(crate) fn forget_version(&self) {
        fs::remove_file(self.0.join("tzdata.zi")).unwrap();
    }

    pub(crate) fn spoil(&self, name: &str) {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, b"TZif2 and then nothing that makes sense").unwrap();
    }
}

impl Drop for Zoneinfo {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns a TZif file of version 2 without transitions, by RFC 9636.
fn tzif(rule: &str) -> Vec<u8> {
    let block = || {
        let mut block = b"TZif2".to_vec();
        block.extend([0; 15]);
        // Counts of: UT and standard indicators, leap seconds, transitions, types, letters.
        for count in [0_u32, 0, 0, 0, 1, 4] {
            block.extend(count.to_be_bytes());
        }
        // One type: no offset, no daylight saving, the first designation.
        block.extend([0, 0, 0, 0, 0, 0]);
        block.extend(b"XXX\0");
        block
    };
    let mut file = block();
    file.extend(block());
    file.extend(format!("\n{rule}\n").as_bytes());
    file
}

/// Starts this program for one of the parts below, and returns the last line that it prints.
pub(crate) fn run(part: &str, zoneinfo: &Zoneinfo, args: &[&str]) -> String {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "child::part", "--nocapture", "--test-threads=1"])
        .env("TZDIR", zoneinfo.folder())
        .env("PUNCTUAL_PART", part)
        .env("PUNCTUAL_ARGS", args.join(" "));
    if part == "local" {
        command.env("TZ", args[0]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}{errors}");
    let answer = text.lines().find_map(|line| line.split_once("answer: "));
    answer.unwrap_or_else(|| panic!("{text}{errors}")).1.to_owned()
}

/// Does nothing unless started for one of the parts.
#[test]
fn part() {
    let Ok(part) = env::var("PUNCTUAL_PART") else { return };
    let args = env::var("PUNCTUAL_ARGS").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(part == "times")
        .build()
        .unwrap();
    let answer = match part.as_str() {
        "data" => format!("{} {}", time_zone_data(), nine_in("Europe/Berlin")),
        "zone" => nine_in(&args),
        "update" => runtime.block_on(update(&args)),
        "times" => runtime.block_on(times(&args)),
        "conflicts" => conflicts(&args),
        "downgrade" => downgrade(),
        "local" => runtime.block_on(local()),
        part => panic!("there is no part `{part}`"),
    };
    println!("\nanswer: {answer}");
}

/// Returns when it is 9:00 in a zone on 2026-12-01, in UTC.
fn nine_in(zone: &str) -> String {
    let midnight = "2026-12-01T00:00:00Z".parse().unwrap();
    match cron("0 9 * * *").in_tz(zone).into_trigger() {
        Ok(trigger) => hour(trigger.next_after(midnight).unwrap().unwrap()),
        Err(error) => error.to_string(),
    }
}

fn hour(instant: DateTime<Utc>) -> String {
    instant.format("%H:%M").to_string()
}

fn folder() -> Zoneinfo {
    Zoneinfo(env::var_os("TZDIR").unwrap().into())
}

async fn update(rule: &str) -> String {
    let clock = ManualClock::new("2026-12-01T00:00:00Z".parse().unwrap());
    let scheduler =
        Scheduler::builder().clock(clock.clone()).time_zone("Europe/Berlin").start().await.unwrap();
    let mut events = scheduler.events();
    let daily = scheduler.add("0 9 * * *", || async {}).id("daily").await.unwrap();
    let mut runs = daily.runs();
    let day = every(Duration::from_secs(24 * 3600));
    let interval = scheduler.add(day, || async {}).id("interval").await.unwrap();
    let next = async |id: &str| scheduler.job(id).get().await.unwrap().next_fire.unwrap();
    let (before, stays) = (next("daily").await, next("interval").await);

    let zoneinfo = folder();
    zoneinfo.write("9999b", "Europe/Berlin", rule);
    assert!(reload_time_zone_data());
    let after = next("daily").await;
    let stays = if next("interval").await == stays { "stays" } else { "moves" };
    let event = loop {
        let event = futures::StreamExt::next(&mut events).await.unwrap();
        if let EventPayload::TimeZonesUpdated { data } = event.payload {
            break data.version().to_owned();
        }
        assert_ne!(event.payload.kind(), EventKind::JobRemoved);
    };
    clock.advance(Duration::from_secs(10 * 3600));
    let run = futures::StreamExt::next(&mut runs).await.unwrap();
    // The parent removes the folder.
    std::mem::forget(zoneinfo);
    let answer = format!(
        "daily next {}, then {}; interval {stays}; event: now {event}; ran at {}",
        hour(before),
        hour(after),
        hour(run.fire_time)
    );
    drop((daily, interval));
    scheduler.shutdown().await;
    answer
}

/// Returns the runs of jobs with a limited number of fire times, if the rules change after the
/// first of two days.
async fn times(rule: &str) -> String {
    let clock = ManualClock::running("2026-12-01T00:00:00Z".parse().unwrap());
    let scheduler =
        Scheduler::builder().clock(clock.clone()).time_zone("Europe/Berlin").start().await.unwrap();
    let daily = || cron("0 9 * * *");
    // By the old rules, the third day begins with the last fire time by the new ones.
    let triggers = [
        daily().starting_at("2026-12-02").times(1).into_trigger().unwrap(),
        daily().times(3).into_trigger().unwrap(),
        cron("0 8,9 * * *").times(4).into_trigger().unwrap(),
        or((daily().times(2), daily().starting_at("2026-12-03").times(1))).into_trigger().unwrap(),
        or((daily(), cron("0 21 * * *"))).times(4).into_trigger().unwrap(),
    ];
    let mut jobs = Vec::new();
    for trigger in triggers {
        let mut add = scheduler.add(trigger, || async {});
        let runs = add.runs();
        jobs.push((add.await.unwrap(), runs));
    }
    sleep(Duration::from_secs(22 * 3600)).await;
    let zoneinfo = folder();
    zoneinfo.write("9999b", "Europe/Berlin", rule);
    assert!(reload_time_zone_data());
    std::mem::forget(zoneinfo);
    let mut answers = Vec::new();
    for (job, runs) in jobs {
        job.await;
        let runs: Vec<_> = futures::StreamExt::collect(runs).await;
        let runs = runs.iter().map(|run| run.fire_time.format("%-d %H").to_string());
        answers.push(runs.collect::<Vec<_>>().join(", "));
    }
    answers.join("; ")
}

/// Returns the next fire times of combinations whose members no longer exclude each other by the
/// new rules.
fn conflicts(rule: &str) -> String {
    let now = "2026-12-01T00:00:00Z".parse().unwrap();
    let hourly = every(Duration::from_secs(3600)).starting_at("2026-12-01T00:30:00Z");
    // From Tuesday on.
    let weekly = every(Duration::from_secs(7 * 24 * 3600)).starting_at("2026-12-01T22:00:00Z");
    let triggers = [
        and((hourly.clone(), cron("0 9 * * *").in_tz("Europe/Berlin"))).into_trigger().unwrap(),
        and([weekly.only(Weekday::Wed).in_tz("Europe/Berlin")]).into_trigger().unwrap(),
    ];
    let next = || triggers.each_ref().map(|trigger| trigger.next_after(now).unwrap().map(hour));
    let before = next();
    let zoneinfo = folder();
    zoneinfo.write("9999b", "Europe/Berlin", rule);
    assert!(reload_time_zone_data());
    std::mem::forget(zoneinfo);
    format!("{before:?} {:?}", next())
}

fn downgrade() -> String {
    let berlin = || nine_in("Europe/Berlin");
    let changes = || if reload_time_zone_data() { "changed" } else { "unchanged" };
    let zoneinfo = folder();
    let first = berlin();
    zoneinfo.write("9999a", "Europe/Berlin", "CET-1");
    let (older, second) = (changes(), berlin());
    fs::remove_dir_all(zoneinfo.folder()).unwrap();
    let answer = format!("{first} {older} {second} {} {}", changes(), berlin());
    std::mem::forget(zoneinfo);
    answer
}

async fn local() -> String {
    let local = match TimeZone::local() {
        Ok(local) => local,
        Err(error) => return error.to_string(),
    };
    let scheduler = Scheduler::builder().local_time_zone().start().await.unwrap();
    scheduler.add("0 9 * * *", || async {}).id("daily").await.unwrap();
    let info = scheduler.job("daily").get().await.unwrap();
    let zone = info.trigger.to_string();
    let zone = zone.split(['(', ')']).nth(1).unwrap().to_owned();
    assert_eq!("local".parse::<TimeZone>().unwrap(), local);
    format!("{local} {zone} {}", nine_in("local"))
}
