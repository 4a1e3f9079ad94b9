//! The machine's zoneinfo: which data is used, and the effects of an update on a running scheduler.

use crate::child::{Zoneinfo, run};

/// Berlin at UTC+5 all year, which no bundled data has.
const FIVE: &str = "<+05>-5";

#[test]
fn newer_data_of_the_machine_is_taken_and_older_is_not() {
    let zoneinfo = Zoneinfo::new("taken");
    zoneinfo.write("9999a", "Europe/Berlin", FIVE);
    let folder = zoneinfo.folder().display().to_string();
    assert_eq!(run("data", &zoneinfo, &[]), format!("9999a ({folder}) 04:00"));
    zoneinfo.write("2001a", "Europe/Berlin", FIVE);
    assert!(run("data", &zoneinfo, &[]).ends_with("(bundled) 08:00"));
    // Data without a version counts as older.
    zoneinfo.forget_version();
    assert!(run("data", &zoneinfo, &[]).ends_with("(bundled) 08:00"));
}

#[test]
fn a_zone_that_the_newer_data_lacks_or_spoils_is_the_other_ones() {
    let zoneinfo = Zoneinfo::new("lacks");
    zoneinfo.write("9999a", "Asia/Tokyo", FIVE);
    assert!(run("data", &zoneinfo, &[]).ends_with(" 08:00"));
    zoneinfo.spoil("Europe/Berlin");
    assert!(run("data", &zoneinfo, &[]).ends_with(" 08:00"));
    // A zone of the machine's own is used even if its data is older.
    zoneinfo.write("2001a", "Factory/Floor", FIVE);
    assert_eq!(run("zone", &zoneinfo, &["Factory/Floor"]), "04:00");
    for outside in ["../taken/Europe/Berlin", "/etc/localtime", "right/Europe/Berlin", "tzdata.zi"]
    {
        assert!(run("zone", &zoneinfo, &[outside]).contains("unknown time zone"), "{outside}");
    }
}

#[test]
fn an_update_reaches_a_running_scheduler() {
    let zoneinfo = Zoneinfo::new("update");
    zoneinfo.write("9999a", "Europe/Berlin", "CET-1");
    // Prints the next fire before and after, the event, and the instants of the runs.
    assert_eq!(
        run("update", &zoneinfo, &[FIVE]),
        "daily next 08:00, then 04:00; interval stays; event: now 9999b; ran at 04:00"
    );
}

#[test]
fn what_fires_so_many_times_does_so_although_the_rules_change() {
    let zoneinfo = Zoneinfo::new("times");
    zoneinfo.write("9999a", "Europe/Berlin", "CET-1");
    // The clock is set back by two hours, so each day's fire times are two hours later.
    assert_eq!(
        run("times", &zoneinfo, &["<-01>1"]),
        "2 10; 1 08, 2 10, 3 10; 1 07, 1 08, 2 09, 2 10; 1 08, 2 10, 3 10; 1 08, 1 20, 2 10, 2 22"
    );
    // And forward by four, which is earlier.
    zoneinfo.write("9999a", "Europe/Berlin", "CET-1");
    assert_eq!(
        run("times", &zoneinfo, &[FIVE]),
        "2 04; 1 08, 2 04, 3 04; 1 07, 1 08, 2 03, 2 04; 1 08, 2 04, 3 04; 1 08, 1 20, 2 04, 2 16"
    );
}

#[test]
fn a_combination_goes_by_the_rules_of_now() {
    let zoneinfo = Zoneinfo::new("conflicts");
    zoneinfo.write("9999a", "Europe/Berlin", "CET-1");
    assert_eq!(
        run("conflicts", &zoneinfo, &["<+0530>-5:30"]),
        r#"[None, None] [Some("03:30"), Some("22:00")]"#
    );
}

#[test]
fn data_that_is_gone_or_older_changes_nothing() {
    let zoneinfo = Zoneinfo::new("gone");
    zoneinfo.write("9999b", "Europe/Berlin", FIVE);
    assert_eq!(run("downgrade", &zoneinfo, &[]), "04:00 unchanged 04:00 unchanged 04:00");
}

#[test]
fn the_local_zone_is_what_tz_names() {
    let zoneinfo = Zoneinfo::new("local");
    assert_eq!(run("local", &zoneinfo, &["Asia/Tokyo"]), "Asia/Tokyo Asia/Tokyo 00:00");
    assert_eq!(run("local", &zoneinfo, &[":Asia/Tokyo"]), "Asia/Tokyo Asia/Tokyo 00:00");
    let unnamed = run("local", &zoneinfo, &["CET-1CEST"]);
    assert!(
        unnamed.contains("TZ is `CET-1CEST`") && unnamed.contains("time_zone(..)"),
        "{unnamed}"
    );
}
