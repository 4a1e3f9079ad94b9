//! Words, timetables, random periods and texts: tables, and properties against naive oracles.

use chrono::{
    DateTime, Datelike as _, NaiveDate, TimeDelta, Timelike as _, Utc,
    Weekday::{self, Fri, Mon, Thu},
};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;

fn t(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn trigger(trigger: impl IntoTrigger) -> Trigger {
    trigger.into_trigger().unwrap()
}

/// As if added then: `n` fire times after `from`, each of which must be the last at its own time.
fn fires(trigger: &Trigger, from: &str, n: usize) -> Vec<String> {
    let trigger = trigger.anchored(t(from), Tz::UTC).unwrap();
    let mut at = t(from);
    let mut fires = Vec::new();
    for _ in 0..n {
        let Some(next) = trigger.next_after(at).unwrap() else { break };
        assert!(next > at, "{trigger}: {next} is not later than {at}");
        assert_eq!(trigger.last_at_or_before(next).unwrap(), Some(next), "{trigger} at {next}");
        fires.push(next.format("%m-%d %H:%M").to_string());
        at = next;
    }
    fires
}

fn error(trigger: impl IntoTrigger) -> String {
    let error = trigger.into_trigger().unwrap_err();
    assert!(error.is_invalid_trigger());
    error.to_string()
}

#[test]
fn words_mean_what_people_mean() {
    // A Wednesday.
    let from = "2026-07-01T12:00:00Z";
    for (text, expected) in [
        ("every 10 minutes", "07-01 12:10, 07-01 12:20, 07-01 12:30"),
        ("every 10min", "07-01 12:10, 07-01 12:20, 07-01 12:30"),
        ("every hour", "07-01 13:00, 07-01 14:00, 07-01 15:00"),
        ("every 1h30m", "07-01 13:30, 07-01 15:00, 07-01 16:30"),
        ("every 1 hour 30 minutes", "07-01 13:30, 07-01 15:00, 07-01 16:30"),
        ("every 1 hour and 30min", "07-01 13:30, 07-01 15:00, 07-01 16:30"),
        ("every 1 day 12h", "07-03 00:00, 07-04 12:00, 07-06 00:00"),
        ("every hour at :15", "07-01 12:15, 07-01 13:15, 07-01 14:15"),
        ("hourly at :15, :45", "07-01 12:15, 07-01 12:45, 07-01 13:15"),
        ("every hour at :15 Asia/Kathmandu", "07-01 12:30, 07-01 13:30, 07-01 14:30"),
        ("every minute at :17", "07-01 12:00, 07-01 12:01, 07-01 12:02"),
        ("daily at 9:00", "07-02 09:00, 07-03 09:00, 07-04 09:00"),
        ("weekly on friday at 9:00", "07-03 09:00, 07-10 09:00, 07-17 09:00"),
        ("monthly on the 1st", "08-01 00:00, 09-01 00:00, 10-01 00:00"),
        ("monday at 10:30", "07-06 10:30, 07-13 10:30, 07-20 10:30"),
        ("mon,thu at 10:30", "07-02 10:30, 07-06 10:30, 07-09 10:30"),
        ("weekdays at 9am (Europe/Berlin)", "07-02 07:00, 07-03 07:00, 07-06 07:00"),
        ("1st and 15th at 7:00", "07-15 07:00, 08-01 07:00, 08-15 07:00"),
        ("Last Friday at 16:00", "07-31 16:00, 08-28 16:00, 09-25 16:00"),
        ("the 2nd monday at 8:00; 2 times", "07-13 08:00, 08-10 08:00"),
        ("every 2 hours", "07-01 14:00, 07-01 16:00, 07-01 18:00"),
        ("every hours", "07-01 13:00, 07-01 14:00, 07-01 15:00"),
        ("every 2 days", "07-03 12:00, 07-05 12:00, 07-07 12:00"),
        ("every day at 9:00, 17:30", "07-01 17:30, 07-02 09:00, 07-02 17:30"),
        ("every 2 days at 9:00", "07-02 09:00, 07-04 09:00, 07-06 09:00"),
        ("every monday at 10:30", "07-06 10:30, 07-13 10:30, 07-20 10:30"),
        ("Every Mondays AT 10:30", "07-06 10:30, 07-13 10:30, 07-20 10:30"),
        ("every mon, thu and fri at noon", "07-02 12:00, 07-03 12:00, 07-06 12:00"),
        ("every friday", "07-03 00:00, 07-10 00:00, 07-17 00:00"),
        ("every weekday at 9:00 Europe/Berlin", "07-02 07:00, 07-03 07:00, 07-06 07:00"),
        ("every weekday at 9am in Europe/Berlin", "07-02 07:00, 07-03 07:00, 07-06 07:00"),
        ("every weekend at 11 pm", "07-04 23:00, 07-05 23:00, 07-11 23:00"),
        ("every 2 weeks on monday at 10:30", "07-06 10:30, 07-20 10:30, 08-03 10:30"),
        ("every other monday at 10:30", "07-06 10:30, 07-20 10:30, 08-03 10:30"),
        ("every 2 weeks on mon and thu", "07-02 00:00, 07-13 00:00, 07-16 00:00"),
        ("every month on the 1st at 7:00", "08-01 07:00, 09-01 07:00, 10-01 07:00"),
        ("every month on the 31st", "07-31 00:00, 08-31 00:00, 10-31 00:00"),
        ("every month on the 1st and 15th of the month", "07-15 00:00, 08-01 00:00, 08-15 00:00"),
        ("every 3 months on the 2nd", "07-02 00:00, 10-02 00:00, 01-02 00:00"),
        ("every last friday at 16:00", "07-31 16:00, 08-28 16:00, 09-25 16:00"),
        ("every last day of the month at 16:00", "07-31 16:00, 08-31 16:00, 09-30 16:00"),
        ("every first monday at 8:00", "07-06 08:00, 08-03 08:00, 09-07 08:00"),
        ("every 5th friday", "07-31 00:00, 10-30 00:00, 01-29 00:00"),
    ] {
        match text.into_trigger() {
            Ok(trigger) => assert_eq!(fires(&trigger, from, 3).join(", "), expected, "{text}"),
            Err(error) => assert_eq!(expected, "", "{error}"),
        }
    }
}

#[test]
fn methods_say_the_same_as_words() {
    for (typed, words) in [
        (trigger(every(10).minutes()), "every 10 minutes"),
        (trigger(every(1).hour()), "every hour"),
        (trigger(every(90).minutes()), "every 1h30m"),
        (trigger(every("1 hour 30 minutes")), "@every 1h30m"),
        (trigger(every(5405).seconds()), "every 1 hour, 30 minutes, 5s"),
        (trigger(every(1).minute().at(":17")), "every minute at :17"),
        (trigger(every(1).hour().at(":15")), "every hour at :15"),
        (trigger(every(1).hour().at(":45:30").at(":15:30")), "hourly at :15:30, :45:30"),
        (trigger(every("hourly").at(":15").in_tz("Asia/Tokyo")), "every hour at :15 Asia/Tokyo"),
        (trigger(cron("15 * * * *")), "every hour at :15"),
        (trigger(cron("17 * * * * *")), "every minute at :17"),
        (trigger(cron("30 15,45 * * * *")), "every hour at :15:30, :45:30"),
        (trigger(every("daily").at("9:00")), "daily at 9:00"),
        (trigger(every(1).day().at("9:00")), "daily at 9:00"),
        (trigger(every("weekly").on(Mon)), "monday"),
        (trigger(every(1).month().on("the 1st")), "monthly on the 1st"),
        (trigger(every(500).milliseconds()), "every 500ms"),
        (trigger(every(1).day().at("9:00")), "every day at 9:00"),
        (trigger(every(2).weeks().on(Mon).at("10:30")), "every 2 weeks on monday at 10:30"),
        (trigger(every(1).week().on([Fri, Mon, Thu])), "every mon, thu, fri"),
        (trigger(every(1).week().on("weekday").at("9am")), "every weekday at 9:00"),
        (trigger(every(1).month().on("last friday").at("16:00")), "every last friday at 16:00"),
        (trigger(every(1).month().on("the 1st").in_tz("Asia/Tokyo")), "every 1st (Asia/Tokyo)"),
        (trigger(every(5).to(10).minutes()), "every 5 to 10 minutes"),
        (trigger(every("monday").at("7:00")), "every monday at 7:00"),
        (trigger(every(Duration::from_secs(60))), "every minute"),
    ] {
        assert_eq!(typed, trigger(words), "{words}");
    }
    assert_eq!(
        fires(&trigger(every(1).day().at("9:00").times(2)), "2026-07-01T12:00:00Z", 9).len(),
        2
    );
    let end = t("2026-07-13T10:29:59Z");
    let until = trigger(every(1).week().on(Mon).at("10:30").until(end));
    assert_eq!(fires(&until, "2026-07-01T12:00:00Z", 9), ["07-06 10:30"]);
    assert_eq!(
        fires(&trigger(every(10).minutes().immediately()), "2026-07-01T12:00:00Z", 1),
        ["07-01 12:10"],
    );
}

#[test]
fn errors_name_the_word_and_the_remedy() {
    for (text, expected) in [
        ("every", "it does not say how often: write, for example, `every 10 minutes`"),
        ("every 10", "10 of what? add a unit, as in `every 10 minutes`"),
        ("every 10 mintes", "`mintes` is not a unit or a day: did you mean `minute`?"),
        ("every mondy at 9:00", "`mondy` is not a unit or a day: did you mean `monday`?"),
        ("every second friday", "`second` is ambiguous here"),
        ("every day att 9:00", "`att` is not understood after `day`: did you mean `at`?"),
        ("every day at 9", "`9` is not a time of day: write `9:00`"),
        ("every day at 24:00", "the hour is in 0..=23"),
        ("every day at 9:5", "write hours and minutes"),
        ("every day at 13pm", "the hour is in 1..=12"),
        ("every day at", "it lacks a time of day"),
        ("every monday at 9:00 Europe/Berln", "use an IANA name such as `Europe/Berlin`"),
        ("every month", "does not say on which day"),
        ("every week at 9:00", "does not say on which day of the week"),
        ("every month on monday", "`on the first monday`"),
        ("every hour at 9:00", "use `day`, `week` or `month`, or `cron`"),
        ("every day at :15", "write a time of day, as in `9:15`, or `every hour at :15`"),
        ("every monday at :15", "give it times of day, as in `9:15`"),
        ("every hour at :5", "write two digits from `:00` to `:59`"),
        ("every hour at :60", "write two digits from `:00` to `:59`"),
        ("every minute at :17:30", "has a second, as in `:17`, and no minute"),
        ("every hour at :15:30, :45", "make a trigger of each"),
        ("every hour at :15, 9:00", "make two triggers"),
        ("every 5 hours at :15", "leave the part out, or use `cron`"),
        ("every 30 minutes 1 hour", "write the larger unit first, as in `1 hour 30 minutes`"),
        ("every 1h2h", "`hour` comes after `hour`"),
        ("every 1h30", "30 of what? add a unit"),
        ("every 1 month 2 days", "use `calendar_interval`"),
        ("every 18446744073709551615h1m", "too long a period"),
        ("every hour 30 minutes", "`30` is not understood after `hour`"),
        ("every 2 days 9:00", "`9:00` is not understood after `days`: write `at 9:00`"),
        ("every 1.55 ms", "not a whole number of milliseconds: write, for example, `2ms`"),
        (
            "every 1.0001 seconds",
            "not a whole number of milliseconds: write, for example, `1000ms`",
        ),
        ("every 0.1 ms", "not a whole number of milliseconds: write, for example, `1ms`"),
        ("every 1.5 months", "have no fixed length: write a number of weeks or days"),
        ("every 1.5 mondays", "1.5 is not a whole number of weeks"),
        ("every 1.5 days at 9:00", "is elapsed time, which has neither days nor times"),
        ("every 1.5", "1.5 of what? add a unit, as in `every 1.5 minutes`"),
        ("every 1.5.5 hours", "`1.5.5` is not a number, nor one with a unit"),
        ("every 1.0000000000000000000000000001 hours", "has too many digits"),
        ("every 0.0000000000000000000000000001 hours", "has too many digits"),
        ("yearly", "use the cron text `@yearly`"),
        ("monthly", "does not say on which day"),
        ("mondy at 10:30", "`mondy` is not a unit or a day: did you mean `monday`?"),
        ("MON 5 3 2 1", "`5` is not understood after `MON`"),
        ("every 2 hours Europe/Berlin", "is the same in every zone"),
        ("every month on the 32nd", "the 32nd is not in 1..=31"),
        ("every 6th friday", "the most is 5"),
        ("every 1st and monday", "make two triggers"),
        ("every 10 to 5 minutes", "swap them"),
        ("every 0 minutes", "too short"),
        ("every 99999999999999999999999 hours", "too large"),
        ("every 18446744073709551615 hours", "past the end of the calendar"),
        ("every 99999999 days at 9:00", "is not in 1..=109573"),
        ("every 10 5min", "is not a unit or a day"),
        ("every monday,", "it lacks a day"),
    ] {
        let error = error(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert!(error(every(1).day().on(Mon)).contains("use `week` or `month`"));
    assert!(error(every(1).week().on(Vec::new())).contains("lacks a day"));
}

#[test]
fn what_is_said_twice_holds_twice() {
    for (twice, once) in [
        (trigger(every(1).day().at("10:30").at("17:00")), "every day at 10:30, 17:00"),
        (trigger(every("monday at 17:00").at("10:30").on(Thu)), "every mon, thu at 10:30, 17:00"),
        (
            trigger(every(1).month().on("the 1st").on("last friday and 15th")),
            "every 1st, 15th and last friday",
        ),
        (
            trigger(calendar_interval().months(1).at("17:00").at("10:30").at("17:00")),
            "calendar[1 month at 10:30:00, 17:00:00]",
        ),
        (trigger(every(5).to(10).to(10).minutes()), "every 5 to 10 minutes"),
        (
            trigger(every("day at 9:00 Asia/Tokyo").in_tz("Asia/Tokyo")),
            "every day at 9:00 Asia/Tokyo",
        ),
        (trigger(cron("TZ=UTC 0 9 * * *").in_tz("UTC")), "0 9 * * * (UTC)"),
        (trigger("TZ=UTC 0 9 * * * (UTC)"), "0 9 * * * (UTC)"),
        (trigger(cron_fields().hour("9,17").hour("9,17")), "cron[hour='9,17']"),
        (
            trigger(cron("0 9 * * *").gap(Gap::Skip).gap(Gap::Skip).fold(Fold::Last)),
            "0 9 * * *; gap skip; fold last; fold last",
        ),
    ] {
        assert_eq!(twice, trigger(once), "{once}");
    }
}

#[test]
fn errors_of_words_say_what_to_write_instead() {
    let written =
        |error: &str| error.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    for (text, remedies) in [
        ("hourly", ["every 60 minutes", "0 * * * *"]),
        ("daily", ["every 24 hours", "every day at 0:00"]),
        ("weekly", ["every 168 hours", "every monday"]),
        ("10 minutes", ["every 10 minutes", "after 10 minutes"]),
        ("1h30m", ["every 90 minutes", "after 90 minutes"]),
        ("hours", ["every hour", "after 1 hour"]),
    ] {
        let error = error(text);
        let written = written(&error);
        for (written, meant) in written[written.len() - 2..].iter().zip(remedies) {
            assert_eq!(trigger(written.as_str()), trigger(meant), "{error}");
        }
    }
    for (text, meant) in [
        ("every 2 hours at :15", "15 */2 * * *"),
        ("every 15 minutes at :30", "30 */15 * * * *"),
        ("every 1.0004 seconds", "every second"),
    ] {
        let error = error(text);
        let written = written(&error).pop().unwrap();
        let written = if meant.ends_with("d") { format!("every {written}") } else { written };
        assert_eq!(trigger(written.as_str()), trigger(meant), "{error}");
    }
}

#[test]
fn a_zone_is_that_of_days_and_hours_where_nothing_else_goes_by_one() {
    let meant = trigger("every 15 minutes; only Sat; between 09:00 and 17:00; days in Asia/Tokyo");
    let build = || every("15 minutes");
    for said in [
        build().only(Weekday::Sat).between("09:00", "17:00").in_tz("Asia/Tokyo"),
        build().in_tz("Asia/Tokyo").between("09:00", "17:00").only(Weekday::Sat),
    ] {
        assert_eq!(trigger(said), meant);
    }
    assert!(error(build().in_tz("Asia/Tokyo")).contains("leave the zone out"));
    assert_eq!(
        trigger(at("2026-12-01 10:30").in_tz("America/New_York")),
        trigger("at 2026-12-01T15:30:00Z"),
    );
}

#[test]
fn a_number_of_units_may_have_decimals() {
    for (text, meant) in [
        ("every 1.5 hours", "every 90 minutes"),
        ("every 1.5h", "every 90 minutes"),
        ("@every 1.5h", "every 90 minutes"),
        ("@every 1.5h30m", "every 2 hours"),
        ("every 1 hour 30.5 minutes", "every 5430 seconds"),
        ("every 0.25h", "every 15 minutes"),
        ("every .5 hours", "every 30 minutes"),
        ("every 2.50 seconds", "every 2500ms"),
        ("every 0.001s", "every 1ms"),
        ("every 1.0 days", "every 1 day"),
        ("every 1.0 day at 9:00", "every 1 day at 9:00"),
        ("every 0.5 weeks", "every 84 hours"),
        ("every 0.5 to 1.5 hours", "every 30 to 90 minutes"),
        ("every 1 to 1.5 minutes", "every 60 to 90 seconds"),
        ("after 1.5 hours", "after 90 minutes"),
        ("at 1.5 hours", "after 90 minutes"),
    ] {
        assert_eq!(trigger(text), trigger(meant), "{text}");
    }
    assert_eq!(trigger(every("1.5 hours")), trigger(every(90).minutes()));
}

#[test]
fn a_time_of_day_is_the_same_text_everywhere() {
    for (said, time) in [
        ("6pm", "18:00"),
        ("6:30 pm", "18:30"),
        ("6:30 PM", "18:30"),
        ("noon", "12:00"),
        ("midnight", "0:00"),
    ] {
        for (text, meant) in [
            (format!("every day at {said}"), format!("every day at {time}")),
            (format!("at {said}"), format!("at {time}")),
            (format!("at 2026-12-24 {said}"), format!("at 2026-12-24 {time}")),
            (format!("at 2026-12-24 at {said} UTC"), format!("at 2026-12-24T{time}:00Z")),
            (format!("@daily; until {said}"), format!("@daily; until {time}")),
            (
                format!("every 5min; between {said} and 19:00"),
                format!("every 5min; between {time} and 19:00"),
            ),
            (format!("calendar[1 day at {said}]"), format!("calendar[1 day at {time}]")),
        ] {
            let meant = meant.replace("T0:00", "T00:00");
            assert_eq!(trigger(text.as_str()), trigger(meant.as_str()), "{text}");
        }
        assert_eq!(trigger(at(said)), trigger(at(time)));
        assert_eq!(trigger(every(1).day().at(said)), trigger(every(1).day().at(time)));
    }
    for text in ["6pm", "noon", "6:30 pm"] {
        let error = error(text);
        assert!(error.contains(&format!("write `every day at {text}`, or `at {text}`")), "{error}");
    }
}

#[test]
fn days_in_a_zone_are_kept_or_refused() {
    let same = "0 9 * * * (Asia/Tokyo); only Sat; days in Asia/Tokyo";
    assert_eq!(trigger(same), trigger("0 9 * * * (Asia/Tokyo); only Sat"));
    for (text, expected) in [
        ("every 10min; days in Asia/Tokyo", "does not say which days or hours: add `only`"),
        ("0 9 * * *; only Sat; days in Asia/Tokyo", "write `0 9 * * * (Asia/Tokyo)`"),
        (
            "every day at 9:00; only Sat; days in Asia/Tokyo",
            "write `every day at 9:00 (Asia/Tokyo)`",
        ),
        ("0 9 * * * (UTC); only Sat; days in Asia/Tokyo", "that it goes by: leave it out"),
        ("every 10min; only Sat; days Asia/Tokyo", "write, for example, `days in Europe/Berlin`"),
    ] {
        let error = error(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn texts_that_are_no_triggers_yet_name_the_text_that_is() {
    for (text, meant) in [
        ("in 5 minutes", "after 5 minutes"),
        ("2026-12-24 18:00", "at 2026-12-24 18:00"),
        ("9:00", "at 9:00"),
        ("every 15 minutes until 18:00", "every 15 minutes; until 18:00"),
        ("every 15 minutes between 9:00 and 17:00", "every 15min; between 9:00 and 17:00"),
        ("every day at 9:00 only Mon, Fri", "every day at 9:00; only Mon, Fri"),
        ("every 15 minutes, 3 times", "every 15 minutes; 3 times"),
        ("every 15 minutes 3 times", "every 15 minutes; 3 times"),
        ("monday at 10:30, 3 times", "every monday at 10:30; 3 times"),
        ("every 15 minutes, until 18:00 Asia/Tokyo", "every 15 min; until 18:00 Asia/Tokyo"),
    ] {
        let error = error(text);
        let mut written = error.rsplit('`').skip(1).step_by(2);
        assert!(
            written.any(|text| text.parse::<Trigger>().is_ok_and(|it| it == trigger(meant))),
            "{error}"
        );
    }
    let error_of = |text: &str| every(text).into_trigger().unwrap_err().to_string();
    assert!(error_of("15 minutes, 3 times").contains("or add `.times(3)`"));
    assert!(error_of("15 minutes until 6pm").contains("or add `.until(\"6pm\")`"));
    assert!(error("").contains("empty text: write, for example, `every 10 minutes`"));
    for text in ["every monday at 9:00 PST", "0 9 * * MON-FRI PST"] {
        assert!(error(text).contains("for PST probably `America/Los_Angeles`"), "{text}");
    }
    for text in [
        "every day at 9:00 ET",
        "every day at 9:00 et",
        "every day at 9am ET",
        "every day at 9:00 in ET",
        "every day at 9:00 (ET)",
        "0 9 * * * ET",
        "0 9 * * * (ET)",
        "CRON_TZ=ET 0 9 * * *",
        "at 18:00 ET",
        "at 2026-12-24 18:00 ET",
        "@daily; until 2026-12-24 ET",
    ] {
        let error = error(text);
        assert!(error.contains("for ET probably `America/New_York`"), "{text}: {error}");
    }
}

#[test]
fn days_of_a_clause_may_be_ranges_and_weekday_and_weekend() {
    for (text, meant) in [
        ("@daily; only MON-FRI", "@daily; only Mon, Tue, Wed, Thu, Fri"),
        ("@daily; only weekday", "@daily; only Mon, Tue, Wed, Thu, Fri"),
        ("@daily; except weekends, 2026-12-24", "@daily; except Sat, Sun, 2026-12-24"),
        ("@daily; only Fri-Mon", "@daily; only Fri, Sat, Sun, Mon"),
    ] {
        assert_eq!(trigger(text), trigger(meant), "{text}");
    }
}

#[test]
fn days_are_the_same_text_in_a_clause_and_in_a_method() {
    for text in ["weekday", "Mon-Thu, weekend", "Sat, 2026-12-24", "friday"] {
        for (method, clause) in [
            (every(1).hour().only(text), format!("every 1h; only {text}")),
            (every(1).hour().except(text.to_owned()), format!("every 1h; except {text}")),
        ] {
            match clause.parse::<Trigger>() {
                Ok(read) => assert_eq!(trigger(method), read, "{clause}"),
                // That leaves no day.
                Err(error) => {
                    assert_eq!(method.into_trigger().unwrap_err().to_string(), error.to_string())
                }
            }
        }
    }
    for (text, reason) in [
        ("2026-02-30", "`2026-02-30` does not name days: February 2026 has 28 days"),
        ("holidays", "`holidays` does not name days: write, for example, `Sat, Sun, 2026-12-25`"),
    ] {
        assert!(error(every(1).hour().except(text)).contains(reason));
    }
}

#[test]
fn what_contradicts_itself_names_both_and_the_remedy() {
    let json = |json: &str| serde_json::from_str::<Trigger>(json).unwrap_err().to_string();
    for (error, both) in [
        (
            error(cron("CRON_TZ=Europe/Berlin 0 9 * * *").in_tz("America/New_York")),
            ["`Europe/Berlin`", "`America/New_York`"],
        ),
        (
            error(every("day at 9:00 Europe/Berlin").in_tz("America/New_York")),
            ["`Europe/Berlin`", "`America/New_York`"],
        ),
        (error(cron_fields().hour(9).in_tz("UTC").in_tz("Asia/Tokyo")), ["`UTC`", "`Asia/Tokyo`"]),
        (
            error(calendar_interval().days(1).in_tz("UTC").in_tz("Asia/Tokyo")),
            ["`UTC`", "`Asia/Tokyo`"],
        ),
        (error("CRON_TZ=UTC 0 9 * * * (Asia/Tokyo)"), ["`UTC`", "`Asia/Tokyo`"]),
        (
            json(r#"{"type":"cron","expression":"TZ=UTC 0 9 * * *","zone":"Asia/Tokyo"}"#),
            ["`UTC`", "`Asia/Tokyo`"],
        ),
        (
            json(r#"{"type":"timetable","words":"every day at 9:00 UTC","zone":"Asia/Tokyo"}"#),
            ["`UTC`", "`Asia/Tokyo`"],
        ),
        (error(cron("0 9 * * *").gap(Gap::Skip).gap(Gap::Next)), ["`Skip`", "`Next`"]),
        (error(every("day at 9:00").fold(Fold::Last).fold(Fold::Both)), ["`Last`", "`Both`"]),
        (error(every(5).to(10).to(20).minutes()), ["10", "20"]),
        (error(calendar_interval().months(1).months(2)), ["months is 1", "2"]),
        (error("calendar[1 week, 2 weeks at 9:30]"), ["weeks is 1", "2"]),
        (
            error(
                calendar_interval()
                    .days(1)
                    .starting_on(NaiveDate::from_ymd_opt(2026, 1, 1).unwrap())
                    .starting_on(NaiveDate::from_ymd_opt(2026, 1, 2).unwrap()),
            ),
            ["2026-01-01", "2026-01-02"],
        ),
        (error(cron_fields().hour(9).hour(17)), ["`9`", "`17`"]),
        (
            error("0 9 * * *; until 2027-01-01T00:00:00Z; until 2028-01-01T00:00:00Z"),
            ["2027-01-01", "2028-01-01"],
        ),
    ] {
        assert!(both.iter().all(|part| error.contains(part)), "{error}");
        assert!(error.contains("leave one of them out"), "{error}");
    }
    assert!(error(every("monday").on("the 1st")).contains("make two triggers"));
}

#[test]
fn timetables_keep_their_times_through_gaps_and_folds() {
    let gap = trigger("every day at 2:30, 9:00 Europe/Berlin");
    assert_eq!(
        fires(&gap, "2026-03-28T12:00:00Z", 3),
        ["03-29 01:00", "03-29 07:00", "03-30 00:30"],
    );
    let fold = trigger(every("day at 2:30 Europe/Berlin").fold(Fold::Both));
    assert_eq!(
        fires(&fold, "2026-10-24T12:00:00Z", 3),
        ["10-25 00:30", "10-25 01:30", "10-26 01:30"],
    );
}

#[test]
fn a_step_of_the_clock_moves_a_random_grid_and_keeps_its_offsets() {
    let start = t("2026-01-01T00:00:00Z");
    let mut random = trigger(every(1).to(100).minutes()).anchored(start, Tz::UTC).unwrap();
    let before = random.next_after(start).unwrap().unwrap();
    random.shift(TimeDelta::seconds(-7));
    let after = random.next_after(start).unwrap().unwrap();
    assert_eq!(before - after, TimeDelta::seconds(7));
}

#[test]
fn texts_say_what_they_mean() {
    for (text, canonical, description) in [
        (
            "at 2026-11-20T13:00:00+01:00",
            "at 2026-11-20T12:00:00Z",
            "Once, at 2026-11-20T12:00:00Z",
        ),
        ("after 90 seconds", "after 90s", "Once, 90 seconds after it is added"),
        ("now", "now", "Once, when it is added"),
        ("every 120 minutes; 5 times", "every 2h; 5 times", "Every 2 hours, 5 times"),
        (
            "every 1500ms; immediately",
            "every 1500ms; immediately",
            "Every 1500 milliseconds, from when it is added",
        ),
        ("every 60 to 120 seconds", "every 1 to 2min", "Every 1 to 2 minutes, at random"),
        (
            "CRON_TZ=Europe/Berlin 30 8 * * SAT,SUN; gap skip",
            "30 8 * * SAT,SUN (Europe/Berlin); gap skip",
            "At 08:30, on Sunday and Saturday, in Europe/Berlin",
        ),
        (
            "cron[hour='0-3', day='3rd fri,15'] (Europe/Berlin)",
            "cron[day='3rd fri,15', hour='0-3'] (Europe/Berlin)",
            "When day is 3rd fri,15 and hour is 0-3, in Europe/Berlin",
        ),
        ("every tue, mon until", "", ""),
        (
            "EVERY tue, mon at 9am Asia/Tokyo; until 2026-11-20T12:00:00Z",
            "every monday, tuesday at 9:00 (Asia/Tokyo); until 2026-11-20T12:00:00Z",
            "Every monday, tuesday at 9:00, in Asia/Tokyo, until 2026-11-20T12:00:00Z",
        ),
    ] {
        match text.parse::<Trigger>() {
            Ok(trigger) => {
                assert_eq!(trigger.to_string(), canonical);
                assert_eq!(trigger.describe(), description);
            }
            Err(error) => assert_eq!(canonical, "", "{error}"),
        }
    }
    for (text, expected) in [
        ("every 5min; gap skip", "it is for what goes by a wall clock"),
        ("0 9 * * *; gap jump", "`jump` is none of `next`, `skip`"),
        ("0 9 * * *; x times", "does not say how many times"),
        ("0 9 * * *; until tomorrow", "does not name an instant"),
        ("TZ=UTC 0 9 * * * (Asia/Tokyo)", "leave one of them out"),
        ("0 9 * * *; gap skip; gap next", "`gap next` comes after `gap skip`"),
        ("every day at 9:00; 2 times; 3 times", "`3 times` comes after `2 times`"),
        ("after monday", "is no delay"),
        ("cron[hours='3']", "`hours` is no field"),
        ("cron[hour='3]", "lacks a quote"),
        ("cron[hour='3', hour='4']", "given twice"),
        ("cron[]", "lacks a quote"),
        ("every 2 days at 9:00; from 1800-01-01", "is not in the years"),
        ("tomorrow", "invalid words `tomorrow`: `tomorrow` is not a unit or a day"),
        ("MON * * * *", "minute `MON`: `MON` is a name of another field"),
    ] {
        let error = error(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_delay_is_a_duration_or_a_text() {
    let minute = trigger(after(Duration::from_secs(60)));
    assert_eq!(trigger(after(TimeDelta::minutes(1))), minute);
    assert_eq!(trigger(after(Duration::from_nanos(59_999_000_001))), minute);
    for text in ["1 minute", "60s", "+60s", "1min"] {
        assert_eq!(trigger(after(text)), minute, "{text}");
        assert_eq!(trigger(after(text.to_owned())), minute, "{text}");
    }
    assert_eq!(trigger(after("now")), trigger(now()));
    for (text, expected) in [
        ("18:00", "`18:00` is no delay: write `at(\"18:00\")`"),
        ("soon", "`soon` is no delay: write, for example, `10 minutes`, `90s` or `1h30m`"),
        ("1 month", "`1 month` is no delay"),
    ] {
        let error = after(text).into_trigger().unwrap_err();
        assert!(error.is_invalid_trigger());
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let error = after(TimeDelta::seconds(-1)).into_trigger().unwrap_err().to_string();
    assert!(error.contains("use a duration that is not negative"), "{error}");
}

#[test]
fn upcoming_fire_times_end_with_the_last_or_with_an_error() {
    let from = t("2026-07-01T12:00:00Z");
    let list =
        |trigger: Trigger| trigger.upcoming_after(from).map(Result::unwrap).collect::<Vec<_>>();
    let day = |text: &str| t(&format!("2026-{text}T09:00:00Z"));
    assert_eq!(list(trigger("every 2 days at 9:00; 2 times")), [day("07-02"), day("07-04")]);
    assert!(list(trigger(at(from))).is_empty());
    assert_eq!(list(trigger(after(Duration::from_secs(1)))), [from + TimeDelta::seconds(1)]);
    assert_eq!(trigger("* * * * *").upcoming(3).count(), 3);

    #[derive(Debug)]
    struct Broken;
    impl CustomTrigger for Broken {
        fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
            Some(t)
        }
    }
    let mut broken = trigger(custom(Broken)).upcoming_after(from);
    assert!(broken.next().unwrap().is_err());
    assert!(broken.next().is_none());
}

fn any_rules() -> impl Strategy<Value = String> {
    let zone = prop::sample::select(vec!["", " (Europe/Berlin)", " (UTC)", " (America/New_York)"]);
    let gap = prop::sample::select(vec!["", "; gap skip", "; gap next"]);
    let fold = prop::sample::select(vec!["", "; fold first", "; fold last", "; fold both"]);
    (zone, gap, fold).prop_map(|(zone, gap, fold)| format!("{zone}{gap}{fold}"))
}

fn any_text() -> impl Strategy<Value = String> {
    let unit = prop::sample::select(vec!["ms", "s", "min", "h", "d", "w"]);
    let immediately = prop::sample::select(vec!["", "; immediately"]);
    let instant = (0_i64..4_000_000_000_000)
        .prop_map(|millis| rfc3339(DateTime::from_timestamp_millis(millis).unwrap()).to_string());
    let cron = prop::sample::select(vec![
        "0 9 * * *",
        "*/5 9-17 * * MON-FRI",
        "0 0 13 * FRI; dom_and_dow",
        "@daily",
        "5 0 0 L 2,3 ?",
        "0 0 0 1 1 * 2030-2040/2",
        "cron[day='3rd fri,15', hour='0-3']",
        "cron[week='1,53']",
        "hourly at :15, :45",
        "every minute at :17",
    ]);
    let days = prop::sample::select(vec![
        "every day at 9:00",
        "every 3 days at 9:00:30, 17:30",
        "every weekday",
        "every weekend",
        "every other tue and sun at noon",
        "every 4 weeks on weekday at 9pm",
        "every 3rd, last day",
        "monday at 10:30",
        "monthly on the 1st and 15th at noon",
        "every 7 months on the 31st and last friday and 2nd monday at 0:00",
    ]);
    let wall = (prop_oneof![cron, days], any_rules()).prop_map(|(text, rules)| {
        // The zone comes before the first clause.
        match text.split_once(';') {
            Some((text, clause)) => {
                let (zone, rules) = rules.split_at(rules.find(';').unwrap_or(rules.len()));
                format!("{text}{zone};{clause}{rules}")
            }
            None => format!("{text}{rules}"),
        }
    });
    prop_oneof![
        instant.prop_map(|instant| format!("at {instant}")),
        Just("at 18:00 Asia/Tokyo".to_owned()),
        Just("every 1.5 hours; starting 6:30 pm in Asia/Tokyo; first 2026-12-24 6pm".to_owned()),
        (1_u32..100_000, unit.clone()).prop_map(|(n, unit)| format!("after {n}{unit}")),
        (1_u32..100_000, unit.clone(), immediately.clone())
            .prop_map(|(n, unit, immediately)| format!("every {n}{unit}{immediately}")),
        (1_u32..1000, 0_u32..1000, unit, immediately).prop_map(|(n, more, unit, immediately)| {
            format!("every {n} to {} {unit}{immediately}", n + more)
        }),
        wall,
        Just("calendar[1 year, 2 months, 3 weeks, 1 day at 9:30]; gap skip".to_owned()),
        Just("calendar[3 days at 9:30, 17:00:05, 0:00]; fold both".to_owned()),
        Just("calendar[2 days at 23:00:05] (America/New_York); from 2026-03-01; fold last".to_owned()),
        Just("and[every 90s & or[@daily | 0 12 * * * (Asia/Tokyo); 3 times]]; only Mon, Fri".to_owned()),
        Just("or[cron[day='3rd fri'] | calendar[1 month at 10:30]; from 2026-01-31 | every 7min]".to_owned()),
        Just("every 90min; only Mon, Tue, 2026-12-26; except 2026-12-25, 2027-01-01; days in Asia/Tokyo".to_owned()),
    ]
}

fn weekdays(mask: u8) -> Vec<Weekday> {
    (0..7).filter(|day| mask >> day & 1 != 0).map(|day| Weekday::try_from(day).unwrap()).collect()
}

proptest! {
    #[test]
    fn what_prints_is_read_back(
        text in any_text(), times in prop::option::of(1_u64..100), end in prop::option::of(0_i64..4_000_000_000),
        now in 0_i64..4_000_000_000, step in prop::option::of(-100_000_i64..100_000),
    ) {
        let mut first: Trigger = text.parse().map_err(|error| TestCaseError::fail(format!("{error}")))?;
        let times = times.and_then(NonZeroU64::new);
        let end = end.and_then(|end| DateTime::from_timestamp(end, 0));
        first = first.clone().with_limits(Limits { times, end, ..first.limits().clone() });
        let now = DateTime::from_timestamp(now, 0).unwrap();
        // Counting `times` of a combination may take too long.
        let Ok(mut anchored) = first.anchored(now, Tz::Asia__Tokyo) else { return Ok(()) };
        if let Some(step) = step.filter(|_| first.is_elapsed_time()) {
            anchored.shift(TimeDelta::milliseconds(step));
        }
        for trigger in [first, anchored] {
            let text = trigger.to_string();
            let again = match text.parse::<Trigger>() {
                // That is refused when it is read, but may come about.
                Err(error) if error.to_string().contains("before it starts") => continue,
                read => read.map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?,
            };
            prop_assert_eq!(&again, &trigger, "{}", text);
            prop_assert!(!trigger.describe().is_empty());
            let json = serde_json::to_string(&trigger).unwrap();
            prop_assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger, "{}", json);
        }
    }

    #[test]
    fn nothing_read_panics(text in ".{0,30}|(and\\[|or\\[|calendar\\[| & | \\| |only|except|days in|Mon|1 month|at|after|now|every|cron\\[|day='|'|\\]|;| |\\(|UTC|\\)|gap|from|5|times|min|until|é){0,12}") {
        let _ = text.parse::<Trigger>();
    }

    #[test]
    fn nothing_said_panics(text in "(every )?[a-z0-9:,/ (é]{0,40}|(every|other|second|month|week|days?|on|the|last|1st|2|to|at|9:00|,|and|monday|hourly|1h30m| )( (every|other|second|month|week|hour|days?|on|the|last|1st|2|3min|to|at|9:00|:15|,|and|friday|of|Asia/Tokyo)){0,8}") {
        let _ = text.parse::<Trigger>();
        if let Ok(trigger) = every(text.as_str()).into_trigger() {
            let _ = trigger.next_after(t("2026-07-01T12:00:00Z"));
        }
    }

    #[test]
    fn random_periods_stay_within_their_bounds(
        min in 1_u64..100_000, more in 0_u64..200_000, now in 0_i64..4_000_000_000_000,
    ) {
        let now = DateTime::from_timestamp_millis(now).unwrap();
        let (least, most) = (min as i64, (min + more) as i64);
        let build = every(min).to(min + more).milliseconds();
        let random = trigger(build.times(60)).anchored(now, Tz::UTC).unwrap();
        let (mut at, mut count) = (now, 0);
        let first = random.next_after(now).unwrap().unwrap();
        while let Some(next) = random.next_after(at).unwrap() {
            let distance = (next - at).num_milliseconds();
            prop_assert!((least..=most).contains(&distance), "{distance}");
            prop_assert_eq!(random.last_at_or_before(next).unwrap(), Some(next));
            let before = next - TimeDelta::milliseconds(1);
            prop_assert_eq!(random.next_after(before).unwrap(), Some(next));
            let last = random.last_at_or_before(before).unwrap();
            prop_assert_eq!(last, (count > 0).then_some(at));
            count += 1;
            prop_assert_eq!(random.count(first, next, u64::MAX), count);
            at = next;
        }
        prop_assert_eq!(count, 60);
    }

    #[test]
    fn several_times_of_a_calendar_interval_are_those_of_each(
        days in 1_u32..40, months in 0_u32..3, minutes in prop::collection::vec(0_u32..1440, 1..5),
        now in 0_i64..4_000_000_000,
    ) {
        let now = DateTime::from_timestamp(now, 0).unwrap();
        let build = || calendar_interval().days(days).months(months).in_tz("America/New_York");
        let time = |minute: &u32| format!("{}:{:02}", minute / 60, minute % 60);
        let all = minutes.iter().fold(build(), |build, minute| build.at(time(minute)));
        let all = trigger(all).anchored(now, Tz::UTC).unwrap();
        let each = or(minutes.iter().map(|minute| build().at(time(minute))).collect::<Vec<_>>());
        let each = trigger(each).anchored(now, Tz::UTC).unwrap();
        let mut at = now;
        for _ in 0..20 {
            let next = all.next_after(at).unwrap();
            prop_assert_eq!(next, each.next_after(at).unwrap());
            let Some(next) = next else { break };
            let before = next - TimeDelta::seconds(1);
            prop_assert_eq!(all.last_at_or_before(next).unwrap(), Some(next));
            prop_assert_eq!(all.last_at_or_before(before).unwrap(), each.last_at_or_before(before).unwrap());
            at = next;
        }
    }

    #[test]
    fn weeks_agree_with_walking_days(
        n in 1_u64..5, mask in 1_u8..128, hour in 0_u32..24, now in 0_i64..4_000_000_000,
    ) {
        let now = DateTime::from_timestamp(now, 0).unwrap();
        let days = weekdays(mask);
        let build = every(n).weeks().on(days.clone()).at(format!("{hour}:30"));
        let trigger = trigger(build).anchored(now, Tz::UTC).unwrap();
        let first = trigger.next_after(now - TimeDelta::seconds(1)).unwrap().unwrap();
        let monday = |date: NaiveDate| {
            date - TimeDelta::days(i64::from(date.weekday().num_days_from_monday()))
        };
        let mut expected = (0..100)
            .map(|day| now.date_naive() + TimeDelta::days(day))
            .filter(|date| days.contains(&date.weekday()))
            .map(|date| date.and_hms_opt(hour, 30, 0).unwrap().and_utc())
            .filter(|&fire| fire >= now)
            .peekable();
        prop_assert_eq!(expected.peek(), Some(&first));
        let weeks = |fire: DateTime<Utc>| {
            (monday(fire.date_naive()) - monday(first.date_naive())).num_weeks()
        };
        let expected = expected.filter(|&fire| weeks(fire) % n as i64 == 0);
        let mut at = now - TimeDelta::seconds(1);
        for fire in expected {
            prop_assert_eq!(trigger.next_after(at).unwrap(), Some(fire));
            prop_assert_eq!(trigger.last_at_or_before(fire).unwrap(), Some(fire));
            at = fire;
        }
    }

    #[test]
    fn months_agree_with_walking_days(
        dates in prop::collection::btree_set(1_u32..32, 1..4), n in 1_u64..7, nth in 1_usize..6,
        now in 0_i64..4_000_000_000,
    ) {
        let now = DateTime::from_timestamp(now, 0).unwrap();
        let nths = ["1st", "2nd", "3rd", "4th", "5th"];
        let mut words: Vec<String> = dates.iter().map(|date| match date {
            1 | 21 | 31 => format!("{date}st"),
            2 | 22 => format!("{date}nd"),
            3 | 23 => format!("{date}rd"),
            _ => format!("{date}th"),
        }).collect();
        words.push(format!("{} friday", nths[nth - 1]));
        let words = words.join(" and the ");
        let trigger = trigger(every(n).months().on(words.as_str())).anchored(now, Tz::UTC).unwrap();
        let first = trigger.next_after(now - TimeDelta::seconds(1)).unwrap().unwrap();
        let month = |date: NaiveDate| i64::from(date.year()) * 12 + i64::from(date.month0());
        let is_on = |date: NaiveDate| {
            dates.contains(&date.day())
                || date.weekday() == Fri && (date.day() as usize - 1) / 7 + 1 == nth
        };
        let from = now.date_naive() + TimeDelta::days(i64::from(now.num_seconds_from_midnight() > 0));
        let mut at = now - TimeDelta::seconds(1);
        for date in (0..400).map(|day| from + TimeDelta::days(day)).filter(|&date| is_on(date)) {
            let fire = date.and_hms_opt(0, 0, 0).unwrap().and_utc();
            prop_assert!(first <= fire);
            if (month(date) - month(first.date_naive())) % n as i64 == 0 {
                prop_assert_eq!(trigger.next_after(at).unwrap(), Some(fire));
                prop_assert_eq!(trigger.last_at_or_before(fire).unwrap(), Some(fire));
                at = fire;
            }
        }
    }
}

#[test]
#[ignore = "measures time: run it with --release"]
fn no_text_takes_long_to_refuse() {
    // The names of all zones are gathered once.
    let _ = "TZ=Nowhere 0 9 * * *".parse::<Trigger>();
    let texts = [
        "1,", "9", "-", "1h", "mon,", "* ", "\u{a0}", "[", "@every ", "every ", ":15,", "# ", ";",
        "é",
    ]
    .into_iter()
    .flat_map(|part| [10, 1_000, 60_000].map(|n| part.repeat(n)))
    .flat_map(|text| {
        ["", "every ", "0 9 * * ", "0 9 1, ", "every day at ", "@every ", "TZ=", "cron[hour='"]
            .map(|before| format!("{before}{text}"))
    });
    for text in texts {
        // The best of several tries: others use the machine, too.
        let took = (0..9).map(|_| {
            let begin = std::time::Instant::now();
            let _ = (text.parse::<Trigger>(), cron(&text).into_trigger());
            begin.elapsed()
        });
        let took = took.min().unwrap();
        // It is read twice.
        assert!(took < Duration::from_millis(2), "{took:?}: {} bytes, {text:.40}", text.len());
    }
}

#[test]
fn texts_that_combine_say_what_is_wrong_and_end() {
    for (text, part) in [
        ("and[every 90s & 61 * * * *]", "minute 61"),
        ("and[]", "empty text"),
        ("calendar[1 fortnight at 9:30]", "calendar[1 month, 2 days at 9:30]"),
        ("calendar[at 9:30]", "calendar["),
        ("0 9 * * *; only Blursday", "`Sat, Sun, 2026-12-25`"),
        ("0 9 * * *; days in Mars", "Mars"),
        (&"and[".repeat(10_000), "levels"),
        (&format!("{}0 9 * * *{}", "or[".repeat(10_000), "]".repeat(10_000)), "levels"),
    ] {
        let error = text.parse::<Trigger>().unwrap_err().to_string();
        assert!(error.contains(part) || text.len() > 1000, "{text}: {error}");
    }
}
