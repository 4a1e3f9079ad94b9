//! Triggers: properties against brute-force oracles, and tables for what properties rarely hit.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, Datelike as _, NaiveDateTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;

use super::*;

fn t(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn trigger(trigger: impl IntoTrigger) -> Trigger {
    trigger.into_trigger().unwrap()
}

/// At most `n` fire times after `from`, each of which must be the last at its own time.
fn walk(trigger: &Trigger, from: DateTime<Utc>, n: usize) -> Vec<DateTime<Utc>> {
    let mut fires = Vec::new();
    let mut at = from;
    while fires.len() < n {
        let Some(next) = trigger.next_after(at).unwrap() else {
            break;
        };
        assert!(next > at, "{trigger}: {next} is not later than {at}");
        assert_eq!(trigger.last_at_or_before(next).unwrap(), Some(next), "{trigger} at {next}");
        fires.push(next);
        at = next;
    }
    fires
}

/// The fire times after `from` as the zone's wall clock shows them.
fn wall(build: Build<Cron>, zone: &str, from: &str, n: usize) -> Vec<String> {
    let zone: TimeZone = zone.parse().unwrap();
    walk(&trigger(build.in_tz(zone)), t(from), n)
        .iter()
        .map(|fire| fire.with_timezone(&zone).format("%m-%d %H:%M%:z").to_string())
        .collect()
}

fn utc(text: &str, from: &str, n: usize) -> Vec<String> {
    walk(&trigger(text), t(from), n).iter().map(|t| t.format("%F %T").to_string()).collect()
}

mod cron_text {
    use super::*;

    #[test]
    fn fields_mean_what_crontab_says() {
        let from = "2026-01-01T00:00:00Z"; // a Thursday
        for (text, fires) in [
            (
                "*/20 9-10 * * *",
                ["2026-01-01 09:00:00", "2026-01-01 09:20:00", "2026-01-01 09:40:00"],
            ),
            (
                "10-50/20 0 * * *",
                ["2026-01-01 00:10:00", "2026-01-01 00:30:00", "2026-01-01 00:50:00"],
            ),
            (
                "30 15 10 * * *",
                ["2026-01-01 10:15:30", "2026-01-02 10:15:30", "2026-01-03 10:15:30"],
            ),
            (
                "0 0 12 1 JAN,jul ? 2030-2099/9",
                ["2030-01-01 12:00:00", "2030-07-01 12:00:00", "2039-01-01 12:00:00"],
            ),
            ("0 0 * * 7", ["2026-01-04 00:00:00", "2026-01-11 00:00:00", "2026-01-18 00:00:00"]),
            (
                "0/25 12 * * *",
                ["2026-01-01 12:00:00", "2026-01-01 12:25:00", "2026-01-01 12:50:00"],
            ),
            (
                "0 12 20/5 * *",
                ["2026-01-20 12:00:00", "2026-01-25 12:00:00", "2026-01-30 12:00:00"],
            ),
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
            (
                "0 0 1W FEB,AUG *",
                ["2026-02-02 00:00:00", "2026-08-03 00:00:00", "2027-02-01 00:00:00"],
            ),
            ("0 0 31W * *", ["2026-01-30 00:00:00", "2026-03-31 00:00:00", "2026-05-29 00:00:00"]),
            ("0 0 * * FRIL", ["2026-01-30 00:00:00", "2026-02-27 00:00:00", "2026-03-27 00:00:00"]),
            ("0 0 * * 5#L", ["2026-01-30 00:00:00", "2026-02-27 00:00:00", "2026-03-27 00:00:00"]),
            (
                "0 0 * * MON#5",
                ["2026-03-30 00:00:00", "2026-06-29 00:00:00", "2026-08-31 00:00:00"],
            ),
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
                walk(&trigger(wrapping), from, 40),
                walk(&trigger(listed), from, 40),
                "{wrapping}"
            );
        }
    }

    #[test]
    fn both_day_fields_are_either_unless_asked() {
        let days = |build: Build<Cron>| wall(build, "UTC", "2026-02-01T12:00:00Z", 4).join(" ");

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
            walk(&monday, t("2026-01-01T00:00:00Z"), 3),
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
            for early in [
                DateTime::<Utc>::MIN_UTC,
                t("1850-01-01T00:00:00Z"),
                first - TimeDelta::nanoseconds(1),
            ] {
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
            (
                "0 0 * * #2",
                "which day: write, for example, `6#2` for the second Saturday of the month",
            ),
            (
                "0 0 * * #L",
                "which day: write, for example, `6#L` for the last Saturday of the month",
            ),
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
            assert!(
                message.starts_with(&format!("invalid cron expression `{text}`: ")),
                "{message}"
            );
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
                walk(&trigger(mended.as_str()), from, 20),
                walk(&stored(text), from, 20),
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
            (
                "*/5 * * * * php artisan run all",
                "*/5 * * * *",
                "`php artisan run all` is a command",
            ),
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
                    walk(&trigger(named.as_str()), from, 20),
                    walk(&trigger(meant), from, 20),
                    "{error}"
                );
            }
            let json = format!(r#"{{"type":"cron","expression":"{text}"}}"#);
            assert!(serde_json::from_str::<Trigger>(&json).is_ok());
        }
        // None of these can be Quartz's.
        for text in
            ["0 12 ? * 2", "0 0 12 ? * 0-4", "0 0 12 ? * MON", "0 0 12 ? * */2", "0 0 12 1 * ?"]
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
    fn words() {
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
}

mod daylight_saving {
    use super::*;

    const NEW_YORK: &str = "America/New_York";

    #[test]
    fn gap() {
        let fires = |build| wall(build, NEW_YORK, "2026-03-07T17:00:00Z", 2);

        // Fixed-time: once, at the first instant after the gap.
        assert_eq!(fires(cron("30 2 * * *")), ["03-08 03:00-04:00", "03-09 02:30-04:00"]);
        assert_eq!(fires(cron("0,30 2 * * *")), ["03-08 03:00-04:00", "03-09 02:00-04:00"]);
        assert_eq!(fires(cron("30 2,14 * * *")), ["03-07 14:30-05:00", "03-08 03:00-04:00"]);
        assert_eq!(fires(cron("0 2,3 * * *")), ["03-08 03:00-04:00", "03-09 02:00-04:00"]);
        assert_eq!(fires(cron("* 30 2 * * *"))[0], "03-08 03:00-04:00");
        assert_eq!(
            fires(cron("30 2 * * *").gap(Gap::Skip)),
            ["03-09 02:30-04:00", "03-10 02:30-04:00"]
        );
        // Wild: none in the gap.
        assert_eq!(fires(cron("*/30 2 * * *")), ["03-09 02:00-04:00", "03-09 02:30-04:00"]);
        assert_eq!(
            fires(cron("*/30 2 * * *").gap(Gap::Next)),
            ["03-08 03:00-04:00", "03-09 02:00-04:00"]
        );
        // The rest of the day is none of the gap's business.
        assert_eq!(fires(cron("0 1 * * *")), ["03-08 01:00-05:00", "03-09 01:00-04:00"]);
        assert_eq!(fires(cron("0 3 * * *")), ["03-08 03:00-04:00", "03-09 03:00-04:00"]);
        assert_eq!(fires(cron("0 9 * * *")), ["03-08 09:00-04:00", "03-09 09:00-04:00"]);
    }

    #[test]
    fn the_end_of_a_gap_is_one_fire() {
        // 2:00 to 2:59 are missing, and 3:00 is one of the pattern's own.
        let trigger = trigger(cron("0,30 2-3 * * *").in_tz(NEW_YORK));
        let after_gap = t("2026-03-08T07:00:00Z");
        assert_eq!(
            walk(&trigger, t("2026-03-08T05:00:00Z"), 2),
            [after_gap, t("2026-03-08T07:30:00Z")]
        );
        assert_eq!(
            trigger.last_at_or_before(after_gap - TimeDelta::nanoseconds(1)).unwrap(),
            Some(t("2026-03-07T08:30:00Z"))
        );
    }

    #[test]
    fn fold() {
        let fires = |build| wall(build, NEW_YORK, "2026-10-31T16:00:00Z", 3);

        let (first, last, day_after) =
            ("11-01 01:30-04:00", "11-01 01:30-05:00", "11-02 01:30-05:00");
        assert_eq!(fires(cron("30 1 * * *"))[..2], [first, day_after]);
        assert_eq!(fires(cron("30 1 * * *").fold(Fold::Last))[..2], [last, day_after]);
        assert_eq!(fires(cron("30 1 * * *").fold(Fold::Both)), [first, last, day_after]);
        assert_eq!(fires(cron("30 */1 * * *").fold(Fold::First))[..1], ["10-31 12:30-04:00"]);
        // Wild: both passes.
        assert_eq!(
            fires(cron("*/30 1 * * *")),
            ["11-01 01:00-04:00", "11-01 01:30-04:00", "11-01 01:00-05:00"]
        );
        // Shown once.
        assert_eq!(fires(cron("0 2 * * *"))[..2], ["11-01 02:00-05:00", "11-02 02:00-05:00"]);
    }

    #[test]
    fn from_between_the_passes_of_a_fold() {
        let next = |fold, at| {
            trigger(cron("30 1 * * *").in_tz(NEW_YORK).fold(fold)).next_after(t(at)).unwrap()
        };

        let first = t("2026-11-01T05:30:00Z");
        let last = t("2026-11-01T06:30:00Z");
        let day_after = t("2026-11-02T06:30:00Z");
        for between in ["2026-11-01T05:30:00Z", "2026-11-01T05:45:00Z", "2026-11-01T06:29:59.999Z"]
        {
            assert_eq!(next(Fold::First, between), Some(day_after), "{between}");
            assert_eq!(next(Fold::Last, between), Some(last), "{between}");
            assert_eq!(next(Fold::Both, between), Some(last), "{between}");
        }
        assert_eq!(next(Fold::First, "2026-11-01T05:29:59.999Z"), Some(first));
    }

    #[test]
    fn cairo_loses_midnight() {
        let fires = |text| wall(cron(text), "Africa/Cairo", "2026-04-23T09:00:00Z", 2);

        assert_eq!(fires("0 12 * * *"), ["04-23 12:00+02:00", "04-24 12:00+03:00"]);
        assert_eq!(fires("0 0 * * *"), ["04-24 01:00+03:00", "04-25 00:00+03:00"]);
        assert_eq!(fires("30 0 24 4 *")[0], "04-24 01:00+03:00");
    }

    #[test]
    fn sao_paulo_repeats_the_hour_before_midnight() {
        let fires = |text| wall(cron(text), "America/Sao_Paulo", "2018-02-17T20:00:00Z", 3);

        assert_eq!(
            fires("30 23 * * *"),
            ["02-17 23:30-02:00", "02-18 23:30-03:00", "02-19 23:30-03:00"]
        );
        assert_eq!(
            fires("0 0 * * *"),
            ["02-18 00:00-03:00", "02-19 00:00-03:00", "02-20 00:00-03:00"]
        );
    }

    #[test]
    fn apia_loses_a_day() {
        let fires = |build| wall(build, "Pacific/Apia", "2011-12-29T12:00:00Z", 3);

        assert_eq!(
            fires(cron("0 12 * * *")),
            ["12-29 12:00-10:00", "12-31 00:00+14:00", "12-31 12:00+14:00"]
        );
        assert_eq!(
            fires(cron("0 12 * * *").gap(Gap::Skip)),
            ["12-29 12:00-10:00", "12-31 12:00+14:00", "01-01 12:00+14:00"]
        );
        assert_eq!(
            fires(cron("0 */8 * * *")),
            ["12-29 08:00-10:00", "12-29 16:00-10:00", "12-31 00:00+14:00"]
        );
        // A Friday that was not there.
        assert_eq!(fires(cron("0 9 30 * *"))[0], "12-31 00:00+14:00");
    }

    #[test]
    fn lord_howe_moves_by_half_an_hour() {
        let fires = |build, from| wall(build, "Australia/Lord_Howe", from, 3);

        assert_eq!(
            fires(cron("15 2 * * *"), "2026-10-02T16:00:00Z"),
            ["10-04 02:30+11:00", "10-05 02:15+11:00", "10-06 02:15+11:00"]
        );
        assert_eq!(
            fires(cron("*/15 * * * *"), "2026-10-03T15:10:00Z"),
            ["10-04 01:45+10:30", "10-04 02:30+11:00", "10-04 02:45+11:00"]
        );
        assert_eq!(
            fires(cron("45 1 * * *").fold(Fold::Both), "2026-04-04T12:00:00Z"),
            ["04-05 01:45+11:00", "04-05 01:45+10:30", "04-06 01:45+10:30"]
        );
    }

    /// A transition of a zone, or at least an instant within a few hours of it.
    const TRANSITIONS: [(&str, &str); 26] = [
        ("America/New_York", "2026-03-08T07:00:00Z"),
        ("America/New_York", "2026-11-01T06:00:00Z"),
        ("America/New_York", "1967-04-30T07:00:00Z"),
        ("America/New_York", "2099-11-01T06:00:00Z"),
        ("Europe/Dublin", "2026-03-29T01:00:00Z"),
        ("Europe/Dublin", "2026-10-25T01:00:00Z"),
        ("Africa/Casablanca", "2026-02-15T02:00:00Z"),
        ("Africa/Casablanca", "2026-03-22T02:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        ("Africa/Cairo", "2026-04-23T22:00:00Z"),
        ("Africa/Cairo", "2026-10-29T21:00:00Z"),
        ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
        ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),
        ("Antarctica/Troll", "2026-03-29T01:00:00Z"),
        ("Antarctica/Troll", "2026-10-25T01:00:00Z"),
        ("Antarctica/Casey", "2009-10-17T18:00:00Z"),
        ("Antarctica/Casey", "2010-03-04T15:00:00Z"),
        ("Asia/Kathmandu", "1985-12-31T18:30:00Z"),
        ("Pacific/Apia", "2011-12-30T10:00:00Z"),
        ("Pacific/Kwajalein", "1969-09-30T13:00:00Z"), // a fold of 23 hours
        ("Pacific/Kwajalein", "1993-08-21T12:00:00Z"),
        // The shortest time between two transitions of any zone.
        ("America/Boa_Vista", "2000-10-08T04:00:00Z"),
        ("America/Boa_Vista", "2000-10-15T03:00:00Z"),
        ("Africa/Tunis", "1943-04-17T00:00:00Z"),
        ("Europe/Riga", "1944-10-08T01:00:00Z"),
    ];

    /// Minutes and hours; the fields to say them with.
    #[derive(Debug, Clone)]
    struct Times {
        minutes: BTreeSet<i64>,
        hours: BTreeSet<i64>,
        text: String,
        fixed_time: bool,
    }

    fn times() -> impl Strategy<Value = Times> {
        let field = |count: i64| {
            prop_oneof![
                prop::collection::btree_set(0..count, 1..5).prop_map(|set| (list(&set), set)),
                (2..count / 2).prop_map(move |step| {
                    (format!("*/{step}"), (0..count).step_by(step as usize).collect())
                }),
                Just(("*".to_owned(), (0..count).collect())),
            ]
        };
        (field(60), field(24)).prop_map(|((minute, minutes), (hour, hours))| Times {
            text: format!("{minute} {hour} * * *"),
            fixed_time: !minute.starts_with('*') && !hour.starts_with('*'),
            minutes,
            hours,
        })
    }

    fn list(set: &BTreeSet<i64>) -> String {
        set.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
    }

    /// What fires in `from..to`, found by looking at the wall clock at each minute.
    fn brute_force(
        times: &Times,
        zone: TimeZone,
        gap: Gap,
        fold: Fold,
        from: i64,
        to: i64,
    ) -> BTreeSet<i64> {
        const MARGIN: i64 = 25 * 60;
        let reading = |minute: i64| {
            let instant = DateTime::from_timestamp(minute * 60, 0).unwrap();
            let wall = instant.with_timezone(&zone).naive_local();
            wall.and_utc().timestamp() / 60
        };
        let matches = |reading: i64| {
            times.minutes.contains(&reading.rem_euclid(60))
                && times.hours.contains(&reading.div_euclid(60).rem_euclid(24))
        };
        let readings: Vec<(i64, i64)> =
            (from - MARGIN..to + MARGIN).map(|minute| (minute, reading(minute))).collect();

        let mut shown: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for &(minute, reading) in readings.iter().filter(|(_, reading)| matches(*reading)) {
            shown.entry(reading).or_default().push(minute);
        }
        let mut fires: BTreeSet<i64> = shown
            .values()
            .flat_map(|minutes| match fold {
                Fold::First => &minutes[..1],
                Fold::Last => &minutes[minutes.len() - 1..],
                Fold::Both => &minutes[..],
            })
            .copied()
            .collect();
        if gap == Gap::Next {
            for pair in readings.windows(2) {
                if (pair[0].1 + 1..pair[1].1).any(matches) {
                    fires.insert(pair[1].0);
                }
            }
        }
        fires.range(from..to).copied().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn agrees_with_a_look_at_every_minute(
            times in times(),
            (zone, transition) in prop::sample::select(&TRANSITIONS[..]),
            gap in prop::sample::select(&[None, Some(Gap::Next), Some(Gap::Skip)][..]),
            fold in prop::sample::select(&[None, Some(Fold::First), Some(Fold::Last), Some(Fold::Both)][..]),
            shift in -600..600_i64,
            millis in 0..60_000_i64,
        ) {
            let zone: TimeZone = zone.parse().unwrap();
            let mut build = cron(&times.text).in_tz(zone);
            if let Some(gap) = gap {
                build = build.gap(gap);
            }
            if let Some(fold) = fold {
                build = build.fold(fold);
            }
            let trigger = trigger(build);
            let gap = gap.unwrap_or(if times.fixed_time { Gap::Next } else { Gap::Skip });
            let fold = fold.unwrap_or(if times.fixed_time { Fold::First } else { Fold::Both });

            let middle = t(transition).timestamp() / 60 + shift;
            let (from, to) = (middle - 30 * 60, middle + 30 * 60);
            let fires = brute_force(&times, zone, gap, fold, from, to);
            let instant = |minute: i64| DateTime::from_timestamp(minute * 60, 0).unwrap();

            let mut found = BTreeSet::new();
            let mut at = instant(from) - TimeDelta::nanoseconds(1);
            while let Some(next) = trigger.next_after(at).unwrap().filter(|&next| next < instant(to)) {
                prop_assert!(next > at);
                found.insert(next.timestamp() / 60);
                at = next;
            }
            prop_assert_eq!(&found, &fires, "forward");

            found.clear();
            let mut at = instant(to) - TimeDelta::nanoseconds(1);
            while let Some(last) = trigger.last_at_or_before(at).unwrap().filter(|&last| last >= instant(from)) {
                prop_assert!(last <= at);
                found.insert(last.timestamp() / 60);
                at = last - TimeDelta::nanoseconds(1);
            }
            prop_assert_eq!(&found, &fires, "backward");

            // From anywhere, not only from fire times.
            let at = instant(middle) + TimeDelta::milliseconds(millis);
            if let Some(&next) = fires.range(middle + 1..).next() {
                prop_assert_eq!(trigger.next_after(at).unwrap(), Some(instant(next)));
            }
            if let Some(&last) = fires.range(..=middle).next_back() {
                prop_assert_eq!(trigger.last_at_or_before(at).unwrap(), Some(instant(last)));
            }
        }

        /// The reading of the wall clock at any instant, in any zone, finds that instant.
        #[test]
        fn what_the_clock_shows_finds_the_instant(
            zone in prop::sample::select(&TZ_VARIANTS[..]),
            // From 1900-01-03 to 2199-12-29.
            seconds in -2_208_816_000..7_257_859_200_i64,
        ) {
            let zone = TimeZone::from(zone);
            let instant = DateTime::from_timestamp(seconds, 0).unwrap();
            let text = instant.with_timezone(&zone).format("%-S %-M %-H %-d %-m ? %Y").to_string();
            let trigger = trigger(cron(text).in_tz(zone).gap(Gap::Skip).fold(Fold::Both));
            let second = TimeDelta::seconds(1);
            prop_assert_eq!(trigger.next_after(instant - second).unwrap(), Some(instant));
            prop_assert_eq!(trigger.last_at_or_before(instant).unwrap(), Some(instant));
            prop_assert_eq!(trigger.last_at_or_before(instant + second).unwrap(), Some(instant));
        }
    }
}

mod cron_properties {
    use super::*;

    /// A field that is a value, a range, a list, or a step of all, but never a list of all values.
    fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
        let value = min..=max;
        prop_oneof![
            3 => Just("*".to_owned()),
            3 => value.clone().prop_map(|value| value.to_string()),
            1 => (min..max, 1..4_u32).prop_map(move |(a, n)| format!("{a}-{}", (a + n).min(max))),
            1 => (2..=(max - min) / 2).prop_map(|step| format!("*/{step}")),
            1 => (value.clone(), value.clone(), value).prop_map(|(a, b, c)| format!("{a},{b},{c}")),
        ]
    }

    fn day_of_month() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => field(1, 31),
            1 => Just("?".to_owned()),
            1 => Just("L".to_owned()),
            1 => Just("LW".to_owned()),
            1 => (1..=31).prop_map(|day| format!("{day}W")),
            1 => (1..=31).prop_map(|day| format!("{day},L")),
        ]
    }

    fn day_of_week() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => field(0, 6),
            1 => Just("?".to_owned()),
            1 => Just("MON-FRI".to_owned()),
            1 => Just("7".to_owned()),
            1 => (0..=6, 1..=5).prop_map(|(day, nth)| format!("{day}#{nth}")),
            1 => (0..=6).prop_map(|day| format!("{day}L")),
            1 => (0..=6, 0..=6).prop_map(|(a, b)| format!("{a}L,{b}")),
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        let seconds = prop_oneof![2 => Just("0".to_owned()), 1 => field(0, 59)];
        let years = prop_oneof![4 => Just("*".to_owned()), 1 => Just("2000-2060/3".to_owned())];
        (seconds, field(0, 59), field(0, 23), day_of_month(), field(1, 12), day_of_week(), years)
            .prop_map(|(s, min, h, dom, mon, dow, y)| {
                // Beside `?`, numbers could be those of Quartz.
                let is_numbered = dow.contains(|c: char| c.is_ascii_digit());
                let dom = if dom == "?" && is_numbered { "*".to_owned() } else { dom };
                format!("{s} {min} {h} {dom} {mon} {dow} {y}")
            })
    }

    proptest! {
        #[test]
        fn next_and_last_are_inverse(
            text in text(),
            zone in prop::sample::select(&TZ_VARIANTS[..]),
            both in any::<bool>(),
            gap in prop::sample::select(&[Gap::Next, Gap::Skip][..]),
            fold in prop::sample::select(&[Fold::First, Fold::Last, Fold::Both][..]),
            // From 1890 to 2210.
            millis in -2_524_000_000_000..7_573_000_000_000_i64,
        ) {
            let mut build = cron(text).in_tz(zone).gap(gap).fold(fold);
            if both {
                build = build.dom_and_dow();
            }
            let trigger = trigger(build);
            let at = DateTime::from_timestamp_millis(millis).unwrap();
            let tick = TimeDelta::nanoseconds(1);
            let last = trigger.last_at_or_before(at).unwrap();
            if let Some(last) = last {
                prop_assert!(last <= at);
                prop_assert_eq!(trigger.next_after(last - tick).unwrap(), Some(last));
            }
            let next = trigger.next_after(at).unwrap();
            if let Some(next) = next {
                prop_assert!(next > at);
                prop_assert_eq!(next.timestamp_subsec_nanos(), 0);
                prop_assert_eq!(trigger.last_at_or_before(next).unwrap(), Some(next));
                prop_assert_eq!(trigger.last_at_or_before(next - tick).unwrap(), last);
            }
            if let Some(last) = last {
                prop_assert_eq!(trigger.next_after(last).unwrap(), next);
            }
        }

        #[test]
        fn whatever_is_accepted_has_words_and_a_serialized_form(text in text(), both in any::<bool>()) {
            let build = cron(&text).in_tz(Tz::UTC);
            let trigger = trigger(if both { build.dom_and_dow() } else { build });
            let Kind::Cron(cron) = trigger.kind() else { panic!() };
            // Without words there is but the text.
            prop_assert!(!cron.describe().starts_with(&text));
            let json = serde_json::to_string(&trigger).unwrap();
            prop_assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger);
        }

        #[test]
        fn no_text_panics(text in "([0-9*?LW#,/A-Za-z@=-]{0,4}[ \t]){0,8}.{0,3}|(0|9|1,|15|L-3|0/5|[*]/60|[?]|MON|2#|# a|-|/bin/x|\u{a0}| ){0,12}", seconds in any::<i32>()) {
            if let Ok(trigger) = cron(text).into_trigger() {
                let at = DateTime::from_timestamp(i64::from(seconds), 0).unwrap();
                let _ = (trigger.next_after(at), trigger.last_at_or_before(at));
            }
        }
    }

    proptest! {
        // croner takes its time over what never fires.
        #![proptest_config(ProptestConfig::with_cases(96))]

        /// croner's search in civil time is sound; ours must agree wherever both look.
        #[test]
        fn agrees_with_croner_in_civil_time(
            text in text(),
            both in any::<bool>(),
            // From 1970 to 2100.
            seconds in 0..4_102_000_000_i64,
        ) {
            let theirs = croner::parser::CronParser::builder().dom_and_dow(both).build();
            let theirs = theirs.parse(&text).unwrap();
            let build = cron(&text);
            let ours = trigger(if both { build.dom_and_dow() } else { build });

            let at = DateTime::from_timestamp(seconds, 0).unwrap();
            let known = |found: Result<NaiveDateTime, _>| {
                found.ok().map(|t| t.and_utc()).filter(|t| t.year() >= 1900 && t.year() < 2200)
            };
            prop_assert_eq!(
                ours.next_after(at).unwrap(),
                known(theirs.find_next_occurrence(&at.naive_utc(), false))
            );
            prop_assert_eq!(
                ours.last_at_or_before(at - TimeDelta::nanoseconds(1)).unwrap(),
                known(theirs.find_previous_occurrence(&at.naive_utc(), false))
            );
        }
    }
}

mod serialized {
    use super::*;

    fn round_trip(trigger: Trigger, json: &str) {
        assert_eq!(serde_json::to_string(&trigger).unwrap(), json);
        assert_eq!(serde_json::from_str::<Trigger>(json).unwrap(), trigger);
    }

    #[test]
    fn every_kind_keeps_its_form() {
        let start = t("2026-01-01T00:00:00Z");
        round_trip(
            trigger(
                cron("0 2 13 * FRI")
                    .in_tz(NEW_YORK)
                    .gap(Gap::Skip)
                    .fold(Fold::Both)
                    .dom_and_dow()
                    .starting_at(start)
                    .times(3),
            ),
            concat!(
                r#"{"type":"cron","expression":"0 2 13 * FRI","zone":"America/New_York","gap":"skip","#,
                r#""fold":"both","dom_and_dow":true,"start":"2026-01-01T00:00:00Z","times":3}"#
            ),
        );
        round_trip(trigger("@daily"), r#"{"type":"cron","expression":"@daily"}"#);
        round_trip(
            trigger(every(Duration::from_secs(90)).until(start)),
            r#"{"type":"interval","period_ms":90000,"end":"2026-01-01T00:00:00Z"}"#,
        );
    }

    const NEW_YORK: Tz = Tz::America__New_York;

    #[test]
    fn dates_come_back() {
        for trigger in
            [trigger(at(t("2026-01-01T00:00:00.001Z"))), trigger(after(Duration::from_secs(5)))]
        {
            let json = serde_json::to_string(&trigger).unwrap();
            assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger, "{json}");
        }
    }

    #[test]
    fn the_both_days_rule_comes_back() {
        let json = r#"{"type":"cron","expression":"0 0 13 * 5","dom_and_dow":true}"#;
        let trigger: Trigger = serde_json::from_str(json).unwrap();
        assert_eq!(
            trigger.next_after(t("2026-02-14T00:00:00Z")).unwrap(),
            Some(t("2026-03-13T00:00:00Z"))
        );
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        for (json, reason) in [
            (r#"{"type":"cron","expression":"61 * * * *"}"#, "minute 61 is not in 0..=59"),
            (
                r#"{"type":"cron","expression":"@daily","zone":"Nowhere"}"#,
                "unknown time zone `Nowhere`",
            ),
            (r#"{"type":"cron"}"#, "expression"),
            (r#"{"type":"interval","period_ms":0}"#, "0 ms"),
        ] {
            let error = serde_json::from_str::<Trigger>(json).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_custom_trigger_has_no_form() {
        #[derive(Debug)]
        struct Never;
        impl CustomTrigger for Never {
            fn next_after(&self, _: DateTime<Utc>) -> Option<DateTime<Utc>> {
                None
            }
        }
        assert!(serde_json::to_string(&trigger(custom(Never))).is_err());
    }
}

mod other_kinds {
    use super::*;

    const MS: TimeDelta = TimeDelta::milliseconds(1);

    #[test]
    fn an_interval_is_a_grid_from_its_start() {
        let start = t("2026-01-01T00:00:00Z");
        let trigger = trigger(every(Duration::from_millis(1_900)).starting_at(start));
        assert_eq!(trigger.next_after(start - MS).unwrap(), Some(start));
        assert_eq!(walk(&trigger, start, 2), [start + MS * 1_900, start + MS * 3_800]);
        assert_eq!(trigger.next_after(start + MS * 1_899).unwrap(), Some(start + MS * 1_900));
        assert_eq!(trigger.last_at_or_before(start - MS).unwrap(), None);
        let years = start + TimeDelta::days(10_000);
        let last = trigger.last_at_or_before(years).unwrap().unwrap();
        assert_eq!((last - start).num_milliseconds() % 1_900, 0);
        assert!(years - last < MS * 1_900);
    }

    #[test]
    fn periods_are_whole_positive_milliseconds() {
        for period in [
            Duration::ZERO,
            Duration::from_micros(999),
            Duration::from_micros(1_500),
            Duration::MAX,
        ] {
            assert!(every(period).into_trigger().unwrap_err().is_invalid_trigger(), "{period:?}");
        }
        assert!(every(-MS).into_trigger().is_err());
        assert!(every(MS).into_trigger().is_ok());
    }

    #[test]
    fn anchoring_fills_in_what_depends_on_now() {
        let now = t("2026-01-01T00:00:00Z");
        let first = |trigger: Trigger| {
            let anchored = trigger.anchored(now, Tz::UTC).unwrap();
            anchored.first(now).unwrap().map(|fire| (fire - now).num_milliseconds())
        };
        let second = Duration::from_secs(1);
        assert_eq!(first(trigger(every(second))), Some(1_000));
        assert_eq!(first(trigger(every(second).immediately())), Some(0));
        assert_eq!(first(trigger(after(second))), Some(1_000));
        assert_eq!(first(trigger(super::super::now())), Some(0));
        assert_eq!(first(trigger(at(now - MS * 5))), Some(-5));
        assert_eq!(first(trigger("@hourly")), Some(0));
    }

    #[test]
    fn a_date_fires_once_on_a_whole_millisecond() {
        let date = trigger(at(t("2026-01-01T00:00:00.0001Z")));
        let fire = t("2026-01-01T00:00:00.001Z");
        assert_eq!(walk(&date, DateTime::<Utc>::MIN_UTC, 9), [fire]);
        assert_eq!(date.last_at_or_before(fire - MS).unwrap(), None);
    }

    #[test]
    fn bounds_are_inclusive() {
        let (start, end) = (t("2026-01-01T09:00:00Z"), t("2026-01-03T09:00:00Z"));
        let bounded = trigger(cron("0 9 * * *").starting_at(start).until(end));
        assert_eq!(
            walk(&bounded, DateTime::<Utc>::MIN_UTC, 9),
            [start, t("2026-01-02T09:00:00Z"), end]
        );
        assert_eq!(bounded.last_at_or_before(DateTime::<Utc>::MAX_UTC).unwrap(), Some(end));
        assert_eq!(bounded.last_at_or_before(start - MS).unwrap(), None);
        assert!(cron("@daily").starting_at(end).until(start).into_trigger().is_err());
    }

    #[test]
    fn times_become_an_end() {
        let now = t("2026-01-01T00:00:00Z");
        let count =
            |build: Trigger| walk(&build.anchored(now, Tz::UTC).unwrap(), now - MS, 99).len();
        assert_eq!(count(trigger(every(MS).times(7))), 7);
        assert_eq!(count(trigger(every(MS).immediately().times(1))), 1);
        assert_eq!(count(trigger(cron("0 9 * * *").times(3))), 3);
        assert_eq!(count(trigger(cron("0 0 0 1 1 ? 2030,2031").times(5))), 2);
        assert!(cron("@daily").times(0).into_trigger().is_err());
    }

    /// Fires at the squares of milliseconds since 1970, up to a limit.
    #[derive(Debug)]
    struct Squares(i64);

    impl CustomTrigger for Squares {
        fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
            let root = match t.timestamp_millis() {
                negative if negative < 0 => 0,
                millis => millis.isqrt() + 1,
            };
            (root <= self.0).then(|| DateTime::from_timestamp_millis(root * root))?
        }
    }

    proptest! {
        #[test]
        fn the_last_of_a_custom_trigger_is_found(limit in 0..2_000_i64, millis in -10..5_000_000_i64) {
            let squares = trigger(custom(Squares(limit)));
            let walked = (0..=limit).map(|n| n * n).take_while(|&square| square <= millis).last();
            let at = DateTime::from_timestamp_millis(millis).unwrap();
            let last = squares.last_at_or_before(at).unwrap();
            prop_assert_eq!(last.map(|t| t.timestamp_millis()), walked);
        }
    }

    #[test]
    fn a_custom_trigger_that_breaks_its_rules_is_an_error() {
        #[derive(Debug)]
        struct Stuck;
        impl CustomTrigger for Stuck {
            fn next_after(&self, t: DateTime<Utc>) -> Option<DateTime<Utc>> {
                Some(t)
            }
        }
        let error = trigger(custom(Stuck)).next_after(Utc::now()).unwrap_err();
        assert!(error.is_invalid_trigger());
    }
}
