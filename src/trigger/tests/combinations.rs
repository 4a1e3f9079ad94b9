//! `and` and `or`.

use super::*;

fn grid(millis: i64, start: &str) -> Build<Interval> {
    every(TimeDelta::milliseconds(millis)).starting_at(t(start))
}

#[test]
fn what_is_impossible_has_no_fire_time() {
    const HOUR: i64 = 3_600_000;
    let start = "2026-01-01T00:00:00Z"; // a Thursday
    let hourly = || trigger(grid(HOUR, start));
    let noon = || trigger(cron("0 12 * * *").in_tz(BERLIN));
    for members in [
        // Odd and even.
        vec![trigger(grid(2, start)), trigger(grid(2, "2026-01-01T00:00:00.001Z"))],
        vec![
            trigger(grid(6 * HOUR, start)),
            trigger(grid(35, start)),
            trigger(grid(10 * HOUR, "2026-01-01T01:00:00Z")),
        ],
        // Times of day that are never the same, or never on the grid.
        vec![noon(), trigger(cron("0 11 * * *").in_tz(BERLIN))],
        vec![hourly(), trigger(cron("30 * * * *").in_tz(BERLIN))],
        vec![trigger(grid(1000, "2026-01-01T00:00:00.500Z")), noon()],
        vec![
            trigger(grid(72 * HOUR, "2014-04-09T10:00:00Z")),
            trigger(calendar_interval().days(1).at("11:00").starting_on(date("2014-04-09"))),
        ],
        // Days that never come.
        vec![trigger(grid(168 * HOUR, start).only(Weekday::Mon)), hourly()],
        vec![hourly(), trigger(cron("0 0 30 2 *"))],
        // An end before the other's start.
        vec![
            trigger(cron("* * * * *").until(t(start))),
            trigger(grid(HOUR, "2026-01-01T01:00:00Z")),
        ],
    ] {
        let trigger = trigger(and(members));
        assert_eq!(trigger.next_after(t(start)).unwrap(), None, "{trigger}");
        let later = t("2030-01-01T00:00:00Z");
        assert_eq!(trigger.last_at_or_before(later).unwrap(), None, "{trigger}");
    }
    let never = trigger(grid(168 * HOUR, start).only(Weekday::Mon));
    assert_eq!(never.next_after(t(start)).unwrap(), None);
    assert_eq!(never.last_at_or_before(t("2099-01-01T00:00:00Z")).unwrap(), None);
}

/// Two times that one gap swallows both fire at its end, and nowhere else together.
#[test]
fn different_times_meet_at_the_end_of_a_gap() {
    let zone = Tz::America__New_York;
    let [early, late] = ["15 2 * * *", "45 2 * * *"].map(|text| trigger(cron(text).in_tz(zone)));
    let both = and([early, late]);
    assert_eq!(
        shown_fires(both.clone(), zone, "2026-01-01T00:00:00Z", 2),
        ["2026-03-08 03:00-04:00", "2027-03-14 03:00-04:00"]
    );
    let end = t("2026-12-31T00:00:00Z");
    assert_eq!(trigger(both).last_at_or_before(end).unwrap(), Some(t("2026-03-08T07:00:00Z")));
}

/// No call may do more work than what a millisecond is enough for.
#[test]
fn every_answer_is_bounded() {
    let start = "2026-01-01T00:00:00Z";
    let prime = |n: i64| trigger(grid(n, start));
    let hard: Vec<Trigger> = vec![
        trigger(and([prime(999_999_999_989), prime(999_999_999_961), prime(86_400_007)])),
        trigger(and((prime(86_400_007), cron("0 12 * * *").in_tz(BERLIN)))),
        trigger(and((prime(1_009), cron("0 0 29 2 MON").dom_and_dow()))),
        trigger(and((cron("*/7 * * * * *"), cron("0 0 0 31 12 ? 2199")))),
        trigger(and((cron("0 12 * * *").in_tz("Asia/Tokyo"), cron("0 12 * * *").in_tz(BERLIN)))),
        trigger(and((
            calendar_interval().months(1).days(1).starting_on(date("1900-01-01")),
            calendar_interval().months(1).days(2).starting_on(date("1900-01-02")),
            cron("0 0 29 2 *"),
        ))),
        trigger(or(vec![trigger("0 0 31 2,4,6,9,11 *"); 32])),
        trigger(and([
            trigger(or(vec![trigger("0 0 31 2,4,6,9,11 *"); 15])),
            trigger(or(vec![trigger("* * * * * *"); 16])),
        ])),
        trigger(grid(86_400_007, start).only([date("2190-01-01"), date("2191-01-01")])),
        trigger(cron("* * * * * *").only(Days::weekdays([Weekday::Sun])).except(
            (0..4_096).map(|week| date("2026-01-04") + TimeDelta::weeks(week)).collect::<Vec<_>>(),
        )),
        trigger(every(seconds(1)).starting_at(t(start)).only(date("2020-02-02"))),
        trigger(cron("45 23 * * MON-FRI").only(Days::weekend())),
    ];
    let mut exhausted = 0;
    for trigger in &hard {
        for at in ["1900-01-01T00:00:00Z", start, "2035-05-05T05:05:05.5Z", "2199-12-31T23:59:59Z"]
        {
            for (name, asked) in [
                ("next", trigger.next_after(t(at)).map(drop)),
                ("last", trigger.last_at_or_before(t(at)).map(drop)),
            ] {
                let Err(error) = asked else { continue };
                exhausted += 1;
                assert!(error.is_search_exhausted(), "{trigger}: {name}: {error}");
                assert!(!error.never_fires() && !error.is_invalid_trigger());
                let text = error.to_string();
                assert!(text.contains("ran out of its budget"), "{text}");
            }
            // The budget is what bounds the work: none may do without.
            let mut budget = Budget::for_one();
            let full = budget.left();
            let _ = trigger.next_within(t(at), DateTime::<Utc>::MAX_UTC, &mut budget);
            assert!(
                budget.left() < full || trigger.kind.grid(trigger.start).is_some(),
                "{trigger}"
            );
        }
    }
    assert!(exhausted > 0, "none of them was hard");
}

#[test]
#[ignore = "measures time: run it with --release"]
fn times_of_hard_searches() {
    let start = "2026-01-01T00:00:00Z";
    let grid = |millis| every(TimeDelta::milliseconds(millis)).starting_at(t(start));
    let dead = || trigger("0 0 31 2,4,6,9,11 *");
    let sundays: Vec<NaiveDate> =
        (0..4_096).map(|week| date("2026-01-04") + TimeDelta::weeks(week)).collect();
    let primes = [86_400_007, 86_400_011, 999_983, 1_000_003, 1_000_033, 1_000_037];
    for (name, trigger) in [
        ("grids", trigger(and(primes.map(grid)))),
        ("grid × daily", trigger(and((grid(86_400_007), cron("0 12 * * *").in_tz(BERLIN))))),
        ("grid × minutes", trigger(and((grid(60_007), cron("* * * * *").in_tz(BERLIN))))),
        (
            "zones",
            trigger(and((
                cron("0 12 * * *").in_tz("Asia/Tokyo"),
                cron("0 12 * * *").in_tz(BERLIN),
            ))),
        ),
        (
            "dead timetables",
            trigger(or(["every 12 months on the 30th at 9:00 Europe/Berlin; from 2026-02-01"; 32])),
        ),
        (
            "seconds × leap Mondays",
            trigger(and((
                cron("*/7 * * * * *").in_tz(BERLIN),
                cron("1 0 0 29 2 MON").dom_and_dow().in_tz(BERLIN),
            ))),
        ),
        (
            "walks",
            trigger(and((
                calendar_interval().months(1).days(1).starting_on(date("1900-01-01")).in_tz(BERLIN),
                calendar_interval().months(1).days(2).starting_on(date("1900-01-02")).in_tz(BERLIN),
            ))),
        ),
        (
            "gaps only",
            trigger(and((
                cron("15 2 * * *").in_tz(BERLIN),
                cron("45 2 * * *").in_tz(BERLIN),
                cron("50 12 * * *").in_tz(BERLIN),
            ))),
        ),
        ("32 dead", trigger(or(vec![dead(); 32]))),
        (
            "or × or",
            trigger(and([
                trigger(or(vec![trigger("0 0 1 1 *"); 16])),
                trigger(or(vec![trigger("1 * * * * *"); 16])),
            ])),
        ),
        (
            "no Sundays",
            trigger(cron("* * * * * *").in_tz(BERLIN).only(Weekday::Sun).except(sundays.clone())),
        ),
        ("grid on dates", trigger(grid(86_400_007).only(sundays))),
    ] {
        let mut worst = Duration::ZERO;
        for at in ["1900-01-01T00:00:00Z", start, "2035-05-05T05:05:05.5Z", "2199-12-31T23:59:59Z"]
        {
            for backward in [false, true] {
                let mut best = Duration::MAX;
                for _ in 0..20 {
                    let begin = std::time::Instant::now();
                    let answer = if backward {
                        trigger.last_at_or_before(t(at))
                    } else {
                        trigger.next_after(t(at))
                    };
                    best = best.min(begin.elapsed());
                    let _ = std::hint::black_box(answer);
                }
                worst = worst.max(best);
            }
        }
        println!("{name}: {worst:?}, {:?}", trigger.next_after(t(start)).map_err(|_| "exhausted"));
        assert!(worst <= Duration::from_millis(1), "{name}: {worst:?}");
    }
}

#[test]
fn members_are_anchored_and_only_elapsed_time_moves() {
    let now = t("2026-01-01T00:00:00Z");
    let hour = TimeDelta::hours(1);
    let either = trigger(or((every(seconds(7200)), cron("0 1 * * *"))));
    assert!(either.is_elapsed_time());
    let mut either = either.anchored(now, BERLIN).unwrap();
    let fires = |trigger: &Trigger| {
        let to = t("2026-01-01T05:00:00Z");
        fires_between(trigger, now, to)
            .iter()
            .map(|t| t.format("%H:%M").to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(fires(&either), ["00:00", "02:00", "04:00"]);
    either.shift(hour);
    assert_eq!(fires(&either), ["00:00", "03:00"]);
    either.shift(-hour);
    assert_eq!(fires(&either), ["00:00", "02:00", "04:00"]);

    // Nested, and combined by arithmetic, too.
    let grids = [every(seconds(3600)), every(seconds(5400)).starting_at(now)];
    let both = trigger(and([trigger(and(grids))]));
    assert!(both.is_elapsed_time());
    let mut both = both.anchored(now, BERLIN).unwrap();
    assert_eq!(fires(&both), ["03:00"]);
    both.shift(TimeDelta::minutes(30));
    assert_eq!(fires(&both), ["01:30", "04:30"]);

    let fixed = trigger(or([cron("0 1 * * *"), cron("0 2 * * *")]));
    assert!(!fixed.is_elapsed_time());

    // Not anchored, it counts from what is asked.
    let floating = trigger(or([every(seconds(60)), every(seconds(90))]));
    assert_eq!(floating.next_after(now).unwrap(), Some(now + TimeDelta::minutes(1)));
    let thrice = trigger(or([every(seconds(60)), every(seconds(90))]).times(3));
    assert_eq!(thrice.anchored(now, BERLIN).unwrap().end(), Some(now + TimeDelta::minutes(2)));
}

#[test]
fn too_many_or_too_deep_is_refused() {
    let daily = || trigger("@daily");
    let error = |build: Build<Or>| {
        let error = build.into_trigger().unwrap_err();
        assert!(error.is_invalid_trigger());
        error.to_string()
    };
    assert!(error(or(Vec::<Trigger>::new())).contains("no triggers"));
    assert!(or(vec![daily(); 32]).into_trigger().is_ok());
    assert!(error(or(vec![daily(); 33])).contains("33 triggers on 1 levels is too large"));
    assert!(error(or(["@daily", "61 * * * *"])).contains("minute 61"));
    let nest = |levels| (0..levels).try_fold(daily(), |inner, _| and([inner]).into_trigger());
    assert!(nest(8).is_ok());
    assert!(nest(9).unwrap_err().to_string().contains("9 levels"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn agree_with_sets((from, zone, members) in zone_and_members(), weekdays in 1..128_u8) {
        let sets: Vec<_> = members.iter().map(|member| fires_in_week(member, from)).collect();
        let union: BTreeSet<_> = sets.iter().flatten().copied().collect();
        let common: BTreeSet<_> =
            union.iter().copied().filter(|fire| sets.iter().all(|set| set.contains(fire))).collect();

        prop_assert_eq!(fires_in_week(&trigger(or(members.clone())), from), union.clone());
        prop_assert_eq!(fires_in_week(&trigger(and(members.clone())), from), common.clone());

        // Nested, it is the same.
        let (first, rest) = members.split_at(members.len() / 2);
        if !first.is_empty() {
            let nested = or([trigger(or(first.to_vec())), trigger(or(rest.to_vec()))]);
            prop_assert_eq!(fires_in_week(&trigger(nested), from), union.clone());
            let nested = and([trigger(and(first.to_vec())), trigger(and(rest.to_vec()))]);
            prop_assert_eq!(fires_in_week(&trigger(nested), from), common);
            let mixed = and([trigger(or(first.to_vec())), trigger(or(rest.to_vec()))]);
            let any = |sets: &[BTreeSet<_>], fire| sets.iter().any(|set| set.contains(fire));
            let (one, other) = sets.split_at(first.len());
            let both = union.iter().filter(|fire| any(one, *fire) && any(other, *fire));
            prop_assert_eq!(fires_in_week(&trigger(mixed), from), both.copied().collect());
        }

        // Days of the whole pick from it.
        let days = Days::weekdays(WEEK.into_iter().filter(|day| {
            weekdays >> day.num_days_from_monday() & 1 != 0
        }));
        let picked = trigger(or(members).only(days.clone())).anchored(from, zone).unwrap();
        let on = |fire: &&DateTime<Utc>| days.contains(fire.with_timezone(&zone).date_naive());
        prop_assert_eq!(fires_in_week(&picked, from), union.iter().filter(on).copied().collect());
    }

    #[test]
    fn grids_meet_where_arithmetic_says(
        grids in prop::collection::vec((1..60_i64, -100..100_i64), 1..5)
    ) {
        let epoch = DateTime::UNIX_EPOCH;
        let grid = |&(period, first): &(i64, i64)| {
            trigger(every(TimeDelta::milliseconds(period)).starting_at(epoch + MS * first as i32))
        };
        let whole = trigger(and(grids.iter().map(grid).collect::<Vec<_>>()));
        let named = |at: i64| {
            grids.iter().all(|&(period, first)| at >= first && (at - first) % period == 0)
        };
        let period = grids.iter().fold(1, |lcm, &(p, _)| (1..).map(|n| n * lcm).find(|n| n % p == 0).unwrap());
        let expected = (-100..100 + period).find(|&at| named(at)).map(|at| epoch + TimeDelta::milliseconds(at));
        let first = whole.next_after(DateTime::<Utc>::MIN_UTC).unwrap();
        prop_assert_eq!(first, expected);
        if let Some(first) = first {
            let second = first + TimeDelta::milliseconds(period);
            prop_assert_eq!(whole.next_after(first).unwrap(), Some(second));
            prop_assert_eq!(whole.last_at_or_before(second - MS).unwrap(), Some(first));
            prop_assert_eq!(whole.last_at_or_before(first - MS).unwrap(), None);
            prop_assert_eq!(whole.count(first, second, 10), 2);
        }
    }
}
