//! What crontab text means, and what is wrong with text that is none.

use super::*;

fn utc(text: &str, from: &str, n: usize) -> Vec<String> {
    fires_after(&trigger(text), t(from), n).iter().map(|t| t.format("%F %T").to_string()).collect()
}

#[test]
fn fields_mean_what_crontab_says() {
    let from = "2026-01-01T00:00:00Z"; // a Thursday
    for (text, fires) in [
        ("*/20 9-10 * * *", ["2026-01-01 09:00:00", "2026-01-01 09:20:00", "2026-01-01 09:40:00"]),
        ("10-50/20 0 * * *", ["2026-01-01 00:10:00", "2026-01-01 00:30:00", "2026-01-01 00:50:00"]),
        ("30 15 10 * * *", ["2026-01-01 10:15:30", "2026-01-02 10:15:30", "2026-01-03 10:15:30"]),
        (
            "0 0 12 1 JAN,jul ? 2030-2099/9",
            ["2030-01-01 12:00:00", "2030-07-01 12:00:00", "2039-01-01 12:00:00"],
        ),
        ("0 0 * * 7", ["2026-01-04 00:00:00", "2026-01-11 00:00:00", "2026-01-18 00:00:00"]),
        ("0/25 12 * * *", ["2026-01-01 12:00:00", "2026-01-01 12:25:00", "2026-01-01 12:50:00"]),
        ("0 12 20/5 * *", ["2026-01-20 12:00:00", "2026-01-25 12:00:00", "2026-01-30 12:00:00"]),
        (
            "0 0 0 1 FEB/5 ? 2030/2",
            ["2030-02-01 00:00:00", "2030-07-01 00:00:00", "2030-12-01 00:00:00"],
        ),
        ("0 12 L-3 * *", ["2026-01-28 12:00:00", "2026-02-25 12:00:00", "2026-03-28 12:00:00"]),
        (
            "0 12 L-30,L-27 * *",
            ["2026-01-01 12:00:00", "2026-01-04 12:00:00", "2026-02-01 12:00:00"],
        ),
        ("0 12 L * *", ["2026-01-31 12:00:00", "2026-02-28 12:00:00", "2026-03-31 12:00:00"]),
        ("0 12 LW * *", ["2026-01-30 12:00:00", "2026-02-27 12:00:00", "2026-03-31 12:00:00"]),
        // 15 February is a Sunday; 1 February, too, and 31 January a Saturday.
        ("0 0 15W * *", ["2026-01-15 00:00:00", "2026-02-16 00:00:00", "2026-03-16 00:00:00"]),
        ("0 0 1W FEB,AUG *", ["2026-02-02 00:00:00", "2026-08-03 00:00:00", "2027-02-01 00:00:00"]),
        ("0 0 31W * *", ["2026-01-30 00:00:00", "2026-03-31 00:00:00", "2026-05-29 00:00:00"]),
        ("0 0 * * FRIL", ["2026-01-30 00:00:00", "2026-02-27 00:00:00", "2026-03-27 00:00:00"]),
        ("0 0 * * 5#L", ["2026-01-30 00:00:00", "2026-02-27 00:00:00", "2026-03-27 00:00:00"]),
        ("0 0 * * MON#5", ["2026-03-30 00:00:00", "2026-06-29 00:00:00", "2026-08-31 00:00:00"]),
        ("@weekly", ["2026-01-04 00:00:00", "2026-01-11 00:00:00", "2026-01-18 00:00:00"]),
        ("@Midnight", ["2026-01-02 00:00:00", "2026-01-03 00:00:00", "2026-01-04 00:00:00"]),
    ] {
        assert_eq!(utc(text, from, 3), fires, "{text}");
    }
}

#[test]
fn ranges_wrap_around() {
    for (wrapping, listed) in [
        ("0 22-2 * * *", "0 22,23,0,1,2 * * *"),
        ("0 22-4/2 * * *", "0 22,0,2,4 * * *"),
        ("55-5/5 * * * *", "55,0,5 * * * *"),
        ("0 0 * * FRI-MON", "0 0 * * 5,6,0,1"),
        ("0 0 * * FRI-SUN", "0 0 * * 5-7"),
        ("0 0 * * 7-2", "0 0 * * 0-2"),
        ("0 0 30-2 * *", "0 0 30,31,1,2 * *"),
        ("0 0 1 NOV-FEB *", "0 0 1 11,12,1,2 *"),
    ] {
        let from = t("2026-02-03T04:05:06Z");
        assert_eq!(
            fires_after(&trigger(wrapping), from, 40),
            fires_after(&trigger(listed), from, 40),
            "{wrapping}"
        );
    }
}

#[test]
fn both_day_fields_are_either_unless_asked() {
    let days = |build: Build<Cron>| wall_fires(build, "UTC", "2026-02-01T12:00:00Z", 4).join(" ");

    assert_eq!(
        days(cron("0 0 13 * FRI")),
        "02-06 00:00+00:00 02-13 00:00+00:00 02-20 00:00+00:00 02-27 00:00+00:00"
    );
    assert_eq!(
        days(cron("0 0 13 * FRI").dom_and_dow()),
        "02-13 00:00+00:00 03-13 00:00+00:00 11-13 00:00+00:00 08-13 00:00+00:00"
    );
    // A step is a restriction, `*` and `?` are none.
    assert_eq!(
        days(cron("0 0 */15 * MON")),
        "02-02 00:00+00:00 02-09 00:00+00:00 02-16 00:00+00:00 02-23 00:00+00:00"
    );
    assert_eq!(days(cron("0 0 13 * ?")), days(cron("0 0 13 * *")));
    assert_eq!(days(cron("0 0 ? * FRI")), days(cron("0 0 * * FRI")));
    // Every weekday beside a step is as good as `*`; beside a plain day it is every day.
    assert_eq!(days(cron("0 0 */15 * 0-6")), days(cron("0 0 1,16,31 * *")));
    assert_eq!(days(cron("0 0 13 * */1")), days(cron("0 0 * * *")));
}

#[test]
fn leap_days() {
    assert_eq!(
        utc("0 0 29 2 *", "2096-01-01T00:00:00Z", 3),
        ["2096-02-29 00:00:00", "2104-02-29 00:00:00", "2108-02-29 00:00:00"]
    );
    let monday = trigger(cron("0 0 29 2 MON").dom_and_dow());
    assert_eq!(
        fires_after(&monday, t("2026-01-01T00:00:00Z"), 3),
        [t("2044-02-29T00:00:00Z"), t("2072-02-29T00:00:00Z"), t("2112-02-29T00:00:00Z")]
    );
    assert_eq!(
        monday.last_at_or_before(t("2044-02-28T00:00:00Z")).unwrap(),
        Some(t("2016-02-29T00:00:00Z"))
    );
}

#[test]
fn what_never_fires_has_no_fire_time() {
    for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31W 2 *", "0 0 0 29 2 ? 2027"] {
        for zone in ["UTC", "America/New_York", "Pacific/Apia"] {
            let never = trigger(cron(text).in_tz(zone));
            for at in
                [DateTime::<Utc>::MIN_UTC, t("2026-01-01T00:00:00Z"), DateTime::<Utc>::MAX_UTC]
            {
                assert_eq!(never.next_after(at).unwrap(), None, "{text}");
                assert_eq!(never.last_at_or_before(at).unwrap(), None, "{text}");
            }
        }
    }
}

#[test]
fn the_calendar_ends_without_a_panic() {
    for zone in ["UTC", "Pacific/Kiritimati", "America/New_York"] {
        let zone: TimeZone = zone.parse().unwrap();
        let daily = trigger(cron("0 0 * * *").in_tz(zone));
        let at = |year| zone.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap().to_utc();
        let (first, end) = (at(1900), at(2200));
        let last = end - TimeDelta::days(1);
        for early in
            [DateTime::<Utc>::MIN_UTC, t("1850-01-01T00:00:00Z"), first - TimeDelta::nanoseconds(1)]
        {
            assert_eq!(daily.next_after(early).unwrap(), Some(first), "{zone}");
            assert_eq!(daily.last_at_or_before(early).unwrap(), None, "{zone}");
        }
        for late in [last, end, DateTime::<Utc>::MAX_UTC] {
            assert_eq!(daily.next_after(late).unwrap(), None, "{zone}");
            assert_eq!(daily.last_at_or_before(late).unwrap(), Some(last), "{zone}");
        }
    }
}

#[test]
fn errors_name_the_field_and_the_token() {
    for (text, reason) in [
        ("61 * * * *", "minute 61 is not in 0..=59"),
        ("* 24 * * *", "hour 24 is not in 0..=23"),
        ("0 0 0 * *", "day of month 0 is not in 1..=31"),
        ("0 0 * 13 *", "month 13 is not in 1..=12"),
        ("0 0 * * 8", "day of week 8 is not in 0..=7"),
        ("0 0 0 1 1 ? 1776", "year 1776 is not in 1900..=2199"),
        ("99999999999 * * * *", "minute 99999999999 is not in 0..=59"),
        ("0 0 * * 7L", "day of week `7L`"),
        ("0 0 * * 7#L", "day of week `7#L`"),
        (
            "0 0 * * L",
            "which day: write, for example, `6L` for the last Saturday of the month, or `6` for every Saturday",
        ),
        ("0 0 * * MON#6", "day of week `MON#6`"),
        ("0 0 * * 1#2L", "day of week `1#2L`"),
        ("0 0 * * #2", "which day: write, for example, `6#2` for the second Saturday of the month"),
        ("0 0 * * #L", "which day: write, for example, `6#L` for the last Saturday of the month"),
        (", * * * *", "minute `,` has an empty item"),
        ("1,,2 * * * *", "minute `1,,2` has an empty item"),
        ("1, * * * *", "minute `1,` has an empty item"),
        ("MON * * * *", "minute `MON`: `MON` is a name of another field"),
        ("0 0 JAN1 * *", "day of month `JAN1`"),
        (
            "0 0 * jan5 *",
            "month `jan5`: `jan5` is neither a number in 1..=12 nor one of JAN to DEC",
        ),
        ("0 0 L,LW * *", "day of month `L,LW`"),
        ("0 0 32W * *", "day of month 32 is not in 1..=31"),
        ("0 L * * *", "hour `L`"),
        ("? * * * *", "minute `?`: `?` stands for all of a day field: write `*`"),
        ("*/90 * * * *", "minute `*/90`: the step is not in 1..=59: for longer periods use"),
        ("*/0 * * * *", "minute `*/0`: the step is not in 1..=59"),
        ("*/x * * * *", "minute `*/x`"),
        ("0 0 * * 1/2", "day of week `1/2` does not say where it ends: name a range"),
        ("/10 * * * *", "minute `/10` has a step but no range: write `*/10`"),
        ("0 0 L-0 * *", "day of month `L-0`: after `L-` comes a number of days in 1..=30"),
        ("0 0 L-31 * *", "day of month `L-31`: after `L-` comes"),
        ("0 0 L-3W * *", "day of month `L-3W`: after `L-` comes"),
        ("# nothing", "it is a comment and no schedule"),
        ("@every 1.5h", "use the trigger `every(\"1.5h\")`"),
        ("@every 1.5x", "use the trigger `every`, as in `every(\"1h30m\")`"),
        ("-5 * * * *", "minute `-5` lacks a number"),
        ("0 0 0 1 1 ? */2", "year `*/2` does not say from which year on"),
        ("0 0 0 1 1 ? 2030-2020", "year `2030-2020` ends before it begins"),
        ("* * * *", "it has 4 fields"),
        ("", "it is empty: write, for example, `0 9 * * *`"),
        ("9:00", "it has 1 field, not 5"),
        ("5 , 10 * * * *", "a field has no blanks within it: write `5,10 * * * *`"),
        ("5, * * * *", "minute `5,` has an empty item"),
        ("@reboot", "use the trigger `now()`"),
        ("@daly", "`@daly` is no nickname"),
        (
            "CRON_TZ=Europe/Berln 0 9 * * *",
            "unknown time zone `Europe/Berln`: use an IANA name such as `Europe/Berlin`",
        ),
        ("CRON_TZ=UTC", "it is empty: write, for example, `0 9 * * *`"),
    ] {
        let error = cron(text).into_trigger().unwrap_err();
        assert!(error.is_invalid_trigger());
        let message = error.to_string();
        assert!(message.starts_with(&format!("invalid cron expression `{text}`: ")), "{message}");
        assert!(message.contains(reason), "{message}");
    }
}

/// The last text in backquotes of an error, which is what it says to write.
fn remedy(error: &str) -> &str {
    error.rsplit('`').nth(1).unwrap()
}

#[test]
fn a_step_past_the_end_of_its_field_is_an_error_whose_remedy_means_the_same() {
    let stored = |text: &str| -> Trigger {
        serde_json::from_str(&format!(r#"{{"type":"cron","expression":"{text}"}}"#)).unwrap()
    };
    let from = t("2026-02-03T04:05:06Z");
    for text in [
        "*/60 * * * *",
        "0/60 * * * *",
        "0 */24 * * *",
        "0 0 */31 * *",
        "0 0 1 */12 *",
        "0 0 * * */7",
        "10-20/11 * * * *",
        "0 22-2/5 * * *",
        "30/45 * * * *",
        "59/1 * * * *",
        "0 0 0 1 1 * 2030-2040/20",
    ] {
        let error = text.into_trigger().unwrap_err().to_string();
        let item = text.split_whitespace().find(|field| field.contains('/')).unwrap();
        let mended = text.replace(item, remedy(&error));
        // What an earlier version stored keeps its meaning.
        assert_eq!(
            fires_after(&trigger(mended.as_str()), from, 20),
            fires_after(&stored(text), from, 20),
            "{error}"
        );
    }
    for (text, meant) in [
        ("*/90 * * * *", trigger(every(90).minutes())),
        ("*/90 * * * * *", trigger(every(90).seconds())),
        ("0 */36 * * *", trigger(every(36).hours())),
        ("0 0 */45 * *", trigger(every(45).days().at("0:00"))),
        ("0 0 1 */18 *", trigger(every(18).months().on("the 1st"))),
        ("0 0 * * */14", trigger(every(2).weeks().on(chrono::Weekday::Sun))),
        ("0 0 * * */10", trigger(every(10).days().at("0:00"))),
    ] {
        let error = text.into_trigger().unwrap_err().to_string();
        assert_eq!(trigger(remedy(&error)), meant, "{error}");
        let json = format!(r#"{{"type":"cron","expression":"{text}"}}"#);
        assert!(serde_json::from_str::<Trigger>(&json).is_err());
    }
}

#[test]
fn lines_of_crontab_files_are_errors_whose_remedy_is_their_schedule() {
    for (text, schedule, what) in [
        ("0 9 1, 15 * *", "0 9 1,15 * *", "no blanks within it"),
        ("0 9 1 , 15 * *", "0 9 1,15 * *", "no blanks within it"),
        ("0 9 * * MON - FRI", "0 9 * * MON-FRI", "no blanks within it"),
        ("*/ 5 * * * *", "*/5 * * * *", "no blanks within it"),
        ("* /5 9-17 * * *", "*/5 9-17 * * *", "no blanks within it"),
        ("CRON_TZ=Asia/Tokyo 0 9 1, 15 * *", "0 9 1,15 * * (Asia/Tokyo)", "no blanks"),
        ("0 9 * * *  # the report", "0 9 * * *", "`# the report` is a comment"),
        ("30 0 9 * * MON # 1, 2 - 3", "30 0 9 * * MON", "`# 1, 2 - 3` is a comment"),
        ("@daily #x2", "@daily", "`#x2` is a comment"),
        (
            "0 9 * * * root /bin/report # daily",
            "0 9 * * *",
            "`root /bin/report # daily` is a command",
        ),
        (
            "30 4 * * * /usr/bin/backup # nightly",
            "30 4 * * *",
            "`/usr/bin/backup # nightly` is a command",
        ),
        (
            "0 9 * * MON-FRI Europe/Berlin",
            "0 9 * * MON-FRI (Europe/Berlin)",
            "`Europe/Berlin` is a zone",
        ),
        ("0 9 * * MON-FRI UTC", "0 9 * * MON-FRI (UTC)", "`UTC` is a zone"),
        (
            "0 9 * * MON-FRI in Europe/Berlin",
            "0 9 * * MON-FRI (Europe/Berlin)",
            "`Europe/Berlin` is a zone",
        ),
        ("0 9 * * 1-5 /usr/bin/report", "0 9 * * 1-5", "`/usr/bin/report` is a command"),
        ("0 9 * * * root /bin/sh -c 'x'", "0 9 * * *", "`root /bin/sh -c 'x'` is a command"),
        ("*/5 * * * * php artisan run all", "*/5 * * * *", "`php artisan run all` is a command"),
        ("@hourly /bin/true", "@hourly", "`/bin/true` is a command"),
        ("TZ=UTC @daily backup.sh", "@daily (UTC)", "`backup.sh` is a command"),
    ] {
        let error = text.into_trigger().unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert_eq!(trigger(remedy(&error)), trigger(schedule), "{error}");
    }
    // One word may be a day of the week with a typing error, and `#2` one without its name.
    for text in ["0 9 * * * MONN", "0 0 1 * * #2"] {
        assert!(text.into_trigger().unwrap_err().to_string().contains("day of week"));
    }
}

#[test]
fn days_that_quartz_numbers_otherwise_are_named() {
    for (text, quartz, crontab) in [
        ("0 0 12 ? * 2-6", "0 0 12 ? * MON-FRI", "0 0 12 * * 2-6"),
        ("0 0 12 ? * 1,7 2030", "0 0 12 ? * SUN,SAT 2030", "0 0 12 * * 1,7 2030"),
        ("0 0 12 ? * 2#3", "0 0 12 ? * MON#3", "0 0 12 * * 2#3"),
        ("0 0 12 ? * 6L", "0 0 12 ? * FRIL", "0 0 12 * * 6L"),
        ("0 0 12 ? * 1-5/2", "0 0 12 ? * SUN-THU/2", "0 0 12 * * 1-5/2"),
    ] {
        let error = text.into_trigger().unwrap_err().to_string();
        let weekday = text.split_whitespace().nth(5).unwrap();
        let names: Vec<&str> = error.split('`').collect();
        let from = t("2026-02-03T04:05:06Z");
        for (named, meant) in [(names[names.len() - 4], quartz), (remedy(&error), crontab)] {
            let named = text.replacen(&format!("? * {weekday}"), &format!("? * {named}"), 1);
            assert_eq!(
                fires_after(&trigger(named.as_str()), from, 20),
                fires_after(&trigger(meant), from, 20),
                "{error}"
            );
        }
        let json = format!(r#"{{"type":"cron","expression":"{text}"}}"#);
        assert!(serde_json::from_str::<Trigger>(&json).is_ok());
    }
    // None of these can be Quartz's.
    for text in ["0 12 ? * 2", "0 0 12 ? * 0-4", "0 0 12 ? * MON", "0 0 12 ? * */2", "0 0 12 1 * ?"]
    {
        assert!(text.into_trigger().is_ok(), "{text}");
    }
}

#[test]
fn what_robfig_calls_every_is_an_interval() {
    for (text, typed) in [
        ("@every 90s", every(90).seconds()),
        ("@Every 10 minutes", every(10).minutes()),
        ("@every 90s; 3 times", every(90).seconds().times(3)),
    ] {
        assert_eq!(trigger(text), trigger(typed), "{text}");
    }
    let error = cron("@every 90s").into_trigger().unwrap_err().to_string();
    let words = remedy(&error).strip_prefix("every(\"").unwrap().strip_suffix("\")").unwrap();
    assert_eq!(trigger(every(words)), trigger(every(90).seconds()));
}

/// Found by fuzzing: `@yearly` and a line break made an error of two lines.
#[test]
fn errors_are_one_short_line_whatever_the_text() {
    for token in ["@yearly\0\n\u{b}", "1\0", "\u{1b}[2J", &"9".repeat(10_000)] {
        for text in [token.to_owned(), format!("{token} * * * *")] {
            let fields = CronFields::builder().day(token).into_trigger();
            for error in [cron(&text).into_trigger(), fields] {
                let message = error.unwrap_err().to_string();
                assert!(!message.contains(char::is_control), "{message:?}");
                assert!(message.chars().count() < 500, "{message}");
            }
        }
    }
}

#[test]
fn zones_by_name() {
    let suggestion = |name: &str| name.into_time_zone().unwrap_err().to_string();

    assert_eq!("Europe/Berlin".into_time_zone().unwrap(), Tz::Europe__Berlin.into());
    for (name, known) in [
        ("Europe/Berln", "`Europe/Berlin`"),
        ("new york", "`America/New_York`"),
        ("Tokio", "`Asia/Tokyo`"),
        ("Middle-earth/Shire", "`Europe/Berlin`"),
        ("", "`Europe/Berlin`"),
    ] {
        assert!(suggestion(name).ends_with(known), "{}", suggestion(name));
    }
}

#[test]
fn a_zone_is_filled_in_unless_the_text_names_one() {
    let cron_of = |build: Build<Cron>| match trigger(build).kind() {
        Kind::Cron(cron) => cron.to_string(),
        kind => panic!("{kind:?}"),
    };
    let text = "CRON_TZ=Asia/Tokyo 0 9 * * *";
    assert_eq!(cron_of(cron(text)), "0 9 * * * (Asia/Tokyo)");
    assert_eq!(cron_of(cron("0 9 * * *").in_tz(Tz::UTC)), "0 9 * * * (UTC)");

    let anchored = |text: &str| trigger(text).anchored(Utc::now(), Tz::Europe__Paris).unwrap();
    assert_eq!(anchored(text).to_string(), "0 9 * * * (Asia/Tokyo)");
    assert_eq!(anchored("0 9 * * *").to_string(), "0 9 * * * (Europe/Paris)");
}

#[test]
fn descriptions_are_english() {
    let words = |text: &str| Cron::parse(text).unwrap().describe();

    assert_eq!(
        words("CRON_TZ=Europe/Berlin 30 8 * * SUN"),
        "At 08:30, on Sunday, in Europe/Berlin"
    );
    assert_eq!(words("0 0 LW * *"), "At 00:00, on the last weekday of the month");
    assert_eq!(words("0 0 L * *"), "At 00:00, on the last day of the month");
    assert_eq!(words("0 0 L-3 * *"), "At 00:00, on 3 days before the last day of the month");
    assert_eq!(
        words("0 0 1,L,L-1 * *"),
        "At 00:00, on day 1 and the last day of the month and the day before the last day of the month"
    );
    // A list with a step is not "every 5 minutes".
    assert_eq!(words("0-10/5 3 * * *"), "At minute 0, 5, and 10, of hour 3");
    assert_eq!(words("0 0 13 * 0-6"), "At 00:00");
}

#[test]
fn a_cron_is_small() {
    assert!(size_of::<Cron>() <= 16, "{}", size_of::<Cron>());
}
