//! Days, weeks and months that count from a date: naive walks.

use super::*;

#[test]
fn timetables_keep_their_times_through_gaps_and_folds() {
    let gap = trigger("every day at 2:30, 9:00 Europe/Berlin");
    assert_eq!(
        fires_when_added(&gap, "2026-03-28T12:00:00Z", 3),
        ["03-29 01:00", "03-29 07:00", "03-30 00:30"],
    );
    let fold = trigger(every("day at 2:30 Europe/Berlin").fold(Fold::Both));
    assert_eq!(
        fires_when_added(&fold, "2026-10-24T12:00:00Z", 3),
        ["10-25 00:30", "10-25 01:30", "10-26 01:30"],
    );
}

fn weekdays(mask: u8) -> Vec<Weekday> {
    (0..7).filter(|day| mask >> day & 1 != 0).map(|day| Weekday::try_from(day).unwrap()).collect()
}

proptest! {
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
