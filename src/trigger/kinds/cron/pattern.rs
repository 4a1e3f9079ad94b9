//! The compiled form of a pattern, and the walk through the calendar in both directions.
//!
//! It knows neither texts nor zones: front ends compile to it, and the zone layer asks it for
//! readings of a wall clock.

use std::ops::RangeInclusive;

use crate::trigger::wall_clock::Readings;

/// The years in which a pattern fires at all.
pub(super) const YEARS: RangeInclusive<i64> = 1900..=2199;

const DAY: i64 = 86_400;
/// 1900-01-01 and 2200-01-01, in days since 1970-01-01.
const FIRST_DAY: i64 = -25_567;
const END_DAY: i64 = 84_006;

/// Which seconds, minutes, hours, days, weeks, months and years match: sets of bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Bits 0 to 59.
    pub(super) seconds: u64,
    /// Bits 0 to 59.
    pub(super) minutes: u64,
    /// Bits 0 to 23.
    pub(super) hours: u32,
    /// Bits 1 to 12.
    pub(super) months: u16,
    /// Weeks as ISO 8601 counts them, which a day must be in besides: bits 1 to 53, or
    /// [`Pattern::ALL_WEEKS`].
    pub(super) weeks: u64,
    /// Whether a day matches that is in either of `days`; otherwise it must be in both.
    pub(super) either: bool,
    /// What the pattern says of days of the month and of the week.
    pub(super) days: [Days; 2],
    pub(super) years: Years,
}

// Each job has one.
const _: () = assert!(size_of::<Pattern>() <= 128);

/// A set of the days of any month.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Days {
    /// Days of the month: bits 1 to 31.
    pub(super) of_month: u32,
    /// Days before the last one of the month, which is bit 0: bits 0 to 30.
    pub(super) before_end: u32,
    /// The weekdays (Monday to Friday) nearest to days of the month: bits 1 to 31, and bit
    /// [`Days::LAST`] for the last weekday of the month.
    pub(super) nearest_weekday: u32,
    /// Days of the week: bits 0 (Sunday) to 6.
    pub(super) of_week: u8,
    /// The first to the fifth of a day of the week in the month, and the last: bits as `of_week`.
    pub(super) nth_of_week: [u8; 6],
}

/// A set of [`YEARS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Years([u64; 5]);

impl Days {
    /// The bit of the last day of a month in `nearest_weekday`; no month has it as a number.
    pub(super) const LAST: u32 = 1;
    /// Where in `nth_of_week` the last one is.
    pub(super) const LAST_OF_WEEK: usize = 5;
    pub(super) const ALL_OF_MONTH: u32 = !0 << 1;

    /// The days of one month, as bits 1 to 31.
    fn in_month(&self, month: &Month) -> u32 {
        let mut days = self.of_month;
        if self.before_end != 0 {
            // Bit 0 becomes that of the last day, and bit 1 that of the day before.
            days |= self.before_end.reverse_bits() >> (31 - month.days);
        }
        if self.of_week != 0 {
            days |= month.weekdays(self.of_week);
        }
        if self.nth_of_week != [0; 6] {
            for (nth, &weekdays) in self.nth_of_week.iter().enumerate() {
                // The first of any weekday is one of the days 1 to 7, the second one of 8 to 14.
                let week = match nth {
                    Days::LAST_OF_WEEK => 0x7f << (month.days - 6),
                    _ => (0x7f_u64 << (7 * nth + 1)) as u32,
                };
                days |= month.weekdays(weekdays) & week;
            }
        }
        let mut rest = self.nearest_weekday;
        while rest != 0 {
            days |= month.nearest_weekday(rest.trailing_zeros());
            rest &= rest - 1;
        }
        days & month.all()
    }
}

impl Years {
    pub(super) const ALL: Years = Years([!0; 5]);
    pub(super) const NONE: Years = Years([0; 5]);

    pub(super) fn insert(&mut self, year: i64) {
        let index = (year - YEARS.start()) as usize;
        self.0[index / 64] |= 1 << (index % 64);
    }

    pub(super) fn contains(&self, year: i64) -> bool {
        let index = (year - YEARS.start()) as usize;
        self.0[index / 64] >> (index % 64) & 1 != 0
    }
}

impl Readings for Pattern {
    fn at_or_after(&self, reading: i64) -> Option<i64> {
        let reading = reading.max(FIRST_DAY * DAY);
        let (day, time) = (reading.div_euclid(DAY), reading.rem_euclid(DAY) as u32);
        if day >= END_DAY {
            return None;
        }
        let date = Date::of(day);
        let days = self.days_of(date.year, date.month);
        if days >> date.day & 1 != 0
            && let Some(time) = self.time_at_or_after(time)
        {
            return Some(day * DAY + i64::from(time));
        }
        let day = match first_bit(u64::from(days), date.day + 1) {
            Some(later) => day + i64::from(later - date.day),
            None => self.first_day_after(date.year, date.month)?,
        };
        Some(day * DAY + i64::from(self.first_time()))
    }

    fn at_or_before(&self, reading: i64) -> Option<i64> {
        let reading = reading.min(END_DAY * DAY - 1);
        let (day, time) = (reading.div_euclid(DAY), reading.rem_euclid(DAY) as u32);
        if day < FIRST_DAY {
            return None;
        }
        let date = Date::of(day);
        let days = self.days_of(date.year, date.month);
        if days >> date.day & 1 != 0
            && let Some(time) = self.time_at_or_before(time)
        {
            return Some(day * DAY + i64::from(time));
        }
        let day = match last_bit(u64::from(days), date.day) {
            Some(earlier) => day - i64::from(date.day - earlier),
            None => self.last_day_before(date.year, date.month)?,
        };
        Some(day * DAY + i64::from(self.last_time()))
    }
}

impl Pattern {
    pub(super) const ALL_WEEKS: u64 = !0;

    /// The matching days of a month, as bits 1 to 31.
    fn days_of(&self, year: i64, month: u32) -> u32 {
        if self.months >> month & 1 == 0 || !self.years.contains(year) {
            return 0;
        }
        let month = Month::new(year, month);
        let [one, other] = self.days.each_ref().map(|days| days.in_month(&month));
        let days = if self.either { one | other } else { one & other };
        if self.weeks == Pattern::ALL_WEEKS { days } else { days & month.weeks(self.weeks) }
    }

    /// The first matching day of the months after this one. Looks at 3,600 months at most.
    fn first_day_after(&self, year: i64, month: u32) -> Option<i64> {
        let mut after = month + 1;
        for year in year..=*YEARS.end() {
            if self.years.contains(year) {
                while let Some(month) = first_bit(u64::from(self.months), after) {
                    if let Some(day) = first_bit(u64::from(self.days_of(year, month)), 1) {
                        return Some(Date { year, month, day }.number());
                    }
                    after = month + 1;
                }
            }
            after = 1;
        }
        None
    }

    /// The last matching day of the months before this one. Looks at 3,600 months at most.
    fn last_day_before(&self, year: i64, month: u32) -> Option<i64> {
        let mut before = month;
        for year in (*YEARS.start()..=year).rev() {
            if self.years.contains(year) {
                while let Some(month) = last_bit(u64::from(self.months), before) {
                    if let Some(day) = last_bit(u64::from(self.days_of(year, month)), 32) {
                        return Some(Date { year, month, day }.number());
                    }
                    before = month;
                }
            }
            before = 13;
        }
        None
    }

    /// The first matching second of a day that is not less than `time`.
    fn time_at_or_after(&self, time: u32) -> Option<u32> {
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
        if self.hours >> hour & 1 != 0 {
            if self.minutes >> minute & 1 != 0
                && let Some(second) = first_bit(self.seconds, second)
            {
                return Some(time_of(hour, minute, second));
            }
            if let Some(minute) = first_bit(self.minutes, minute + 1) {
                return Some(time_of(hour, minute, self.seconds.trailing_zeros()));
            }
        }
        let hour = first_bit(u64::from(self.hours), hour + 1)?;
        Some(time_of(hour, self.minutes.trailing_zeros(), self.seconds.trailing_zeros()))
    }

    /// The last matching second of a day that is not greater than `time`.
    fn time_at_or_before(&self, time: u32) -> Option<u32> {
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
        if self.hours >> hour & 1 != 0 {
            if self.minutes >> minute & 1 != 0
                && let Some(second) = last_bit(self.seconds, second + 1)
            {
                return Some(time_of(hour, minute, second));
            }
            if let Some(minute) = last_bit(self.minutes, minute) {
                return Some(time_of(hour, minute, self.seconds.ilog2()));
            }
        }
        let hour = last_bit(u64::from(self.hours), hour)?;
        Some(time_of(hour, self.minutes.ilog2(), self.seconds.ilog2()))
    }

    /// Its hours, minutes and seconds, as sets of bits: the times of day are all that these make.
    pub(super) fn times(&self) -> (u32, u64, u64) {
        (self.hours, self.minutes, self.seconds)
    }

    fn first_time(&self) -> u32 {
        let (hours, minutes, seconds) = (self.hours, self.minutes, self.seconds);
        time_of(hours.trailing_zeros(), minutes.trailing_zeros(), seconds.trailing_zeros())
    }

    fn last_time(&self) -> u32 {
        time_of(self.hours.ilog2(), self.minutes.ilog2(), self.seconds.ilog2())
    }
}

fn time_of(hour: u32, minute: u32, second: u32) -> u32 {
    hour * 3600 + minute * 60 + second
}

/// A month of a year: what its days depend on.
struct Month {
    /// Its first day, counted from 1970-01-01.
    first: i64,
    /// How many days it has.
    days: u32,
    /// The day of the week of its first day; 0 is Sunday.
    first_weekday: u32,
}

impl Month {
    fn new(year: i64, month: u32) -> Month {
        let first = Date { year, month, day: 1 }.number();
        let days = match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        Month { first, days, first_weekday: weekday(first) }
    }

    fn all(&self) -> u32 {
        Days::ALL_OF_MONTH & (!0 >> (31 - self.days))
    }

    /// The days of the month that fall on these days of the week.
    fn weekdays(&self, weekdays: u8) -> u32 {
        let weekdays = u32::from(weekdays);
        // Bit 0 is the weekday of the first day.
        let week = (weekdays >> self.first_weekday | weekdays << (7 - self.first_weekday)) & 0x7f;
        (week | week << 7 | week << 14 | week << 21 | week << 28) << 1
    }

    /// The days of the month that lie in these ISO weeks.
    fn weeks(&self, weeks: u64) -> u32 {
        // A week belongs to the year that its Thursday is in.
        let week_of = |thursday| {
            let new_year = Date { year: Date::of(thursday).year, month: 1, day: 1 }.number();
            (thursday - new_year) / 7 + 1
        };
        let mut days = 0;
        let mut thursday = self.first + 3 - i64::from((self.first_weekday + 6) % 7);
        let mut week = week_of(thursday);
        while thursday - 3 < self.first + i64::from(self.days) {
            if weeks >> week & 1 != 0 {
                // Its Monday may be up to six days before the first of the month.
                let monday = thursday - 3 - self.first + 1;
                days |= (0x7f_u64 << (monday + 7) >> 7) as u32 & Days::ALL_OF_MONTH;
            }
            thursday += 7;
            week = if week < 52 { week + 1 } else { week_of(thursday) };
        }
        days
    }

    /// The one day from Monday to Friday that is nearest to `day` in this month, if it has `day`.
    fn nearest_weekday(&self, day: u32) -> u32 {
        const SUNDAY: u32 = 0;
        const SATURDAY: u32 = 6;
        let is_last = day == Days::LAST.trailing_zeros();
        let day = if is_last { self.days } else { day };
        if day > self.days {
            return 0;
        }
        1 << match (self.first_weekday + day - 1) % 7 {
            SATURDAY if day == 1 => 3,
            SATURDAY => day - 1,
            SUNDAY if day == self.days => day - 2,
            SUNDAY => day + 1,
            _ => day,
        }
    }
}

/// A day of the Gregorian calendar.
#[derive(Clone, Copy)]
struct Date {
    year: i64,
    month: u32,
    day: u32,
}

// Days are counted in years that begin in March, so that the leap day is a year's last. March 1st
// of year 0 is day -719,468; 146,097 days are 400 years, 153 are the five months from March on.
impl Date {
    /// The date of a day since 1970-01-01; it must not lie before year 0.
    fn of(number: i64) -> Date {
        let days = (number + 719_468) as u32;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        Date { year: i64::from(era * 400 + year + u32::from(month <= 2)), month, day }
    }

    /// The number of this day since 1970-01-01.
    fn number(self) -> i64 {
        let year = (self.year - i64::from(self.month <= 2)) as u32;
        let month = if self.month > 2 { self.month - 3 } else { self.month + 9 };
        let day = (153 * month + 2) / 5 + self.day - 1;
        i64::from(365 * year + year / 4 - year / 100 + year / 400 + day) - 719_468
    }
}

/// The day of the week of a day since 1970-01-01, which was a Thursday; 0 is Sunday.
fn weekday(number: i64) -> u32 {
    (number + 4).rem_euclid(7) as u32
}

/// The first element of a set that is not less than `from`.
fn first_bit(set: u64, from: u32) -> Option<u32> {
    let rest = set & (!0_u64).checked_shl(from)?;
    (rest != 0).then(|| rest.trailing_zeros())
}

/// The last element of a set that is less than `end`.
fn last_bit(set: u64, end: u32) -> Option<u32> {
    (set & !(!0_u64).checked_shl(end).unwrap_or(0)).checked_ilog2()
}
