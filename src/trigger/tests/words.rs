//! Triggers in words, and their errors.

use super::*;

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
            Ok(trigger) => {
                assert_eq!(fires_when_added(&trigger, from, 3).join(", "), expected, "{text}")
            }
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
        fires_when_added(&trigger(every(1).day().at("9:00").times(2)), "2026-07-01T12:00:00Z", 9)
            .len(),
        2
    );
    let end = t("2026-07-13T10:29:59Z");
    let until = trigger(every(1).week().on(Mon).at("10:30").until(end));
    assert_eq!(fires_when_added(&until, "2026-07-01T12:00:00Z", 9), ["07-06 10:30"]);
    assert_eq!(
        fires_when_added(&trigger(every(10).minutes().immediately()), "2026-07-01T12:00:00Z", 1),
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

proptest! {
    #[test]
    fn nothing_said_panics(text in "(every )?[a-z0-9:,/ (é]{0,40}|(every|other|second|month|week|days?|on|the|last|1st|2|to|at|9:00|,|and|monday|hourly|1h30m| )( (every|other|second|month|week|hour|days?|on|the|last|1st|2|3min|to|at|9:00|:15|,|and|friday|of|Asia/Tokyo)){0,8}") {
        let _ = text.parse::<Trigger>();
        if let Ok(trigger) = every(text.as_str()).into_trigger() {
            let _ = trigger.next_after(t("2026-07-01T12:00:00Z"));
        }
    }
}
