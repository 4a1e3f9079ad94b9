//! Figures as people read them, and Markdown tables of them.

use std::time::Duration;

use chrono::TimeDelta;

/// A table with columns as wide as they need be. The first cell of a row is a name; a row with one
/// other cell tells in it why there are no more, at any length.
pub(crate) fn markdown(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<_> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        let cells = if row.len() == headings.len() { row.len() } else { 1 };
        for (width, cell) in widths.iter_mut().zip(&row[..cells]) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut table = line(&widths, headings);
    table += &line(&widths, &widths.iter().map(|&width| "-".repeat(width)).collect::<Vec<_>>());
    rows.iter().for_each(|row| table += &line(&widths, row));
    table
}

fn line(widths: &[usize], cells: &[impl AsRef<str>]) -> String {
    let cells = widths.iter().enumerate().map(|(column, &width)| {
        let cell = cells.get(column).map_or("", AsRef::as_ref);
        format!(" {cell:<width$} |")
    });
    format!("|{}\n", cells.collect::<String>())
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// So many of a thousand or a million.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1e6 => format!("{:.2} M", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.1} k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}

pub(crate) fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    if millis < 10.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}

/// A time after an instant, or before it.
pub(crate) fn signed_millis(time: TimeDelta) -> String {
    let sign = if time < TimeDelta::zero() { '−' } else { '+' };
    format!("{sign}{}", millis(time.abs().to_std().expect("it is not negative")))
}

/// The same for programs.
pub(crate) fn fractional_millis(time: TimeDelta) -> f64 {
    time.as_seconds_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_figures_and_reasons_wider() {
        let rows = [["a", "1,000", "5"].as_slice(), &["bcd", "it has no dates"]];
        let rows = rows.map(|row| row.iter().map(|&cell| cell.to_owned()).collect());
        let expected = [
            "|     | n     | m |",
            "| --- | ----- | - |",
            "| a   | 1,000 | 5 |",
            "| bcd | it has no dates |   |",
        ];
        assert!(markdown(&["", "n", "m"], &rows).lines().eq(expected));
    }

    #[test]
    fn figures_are_short() {
        assert_eq!([grouped(0), grouped(999), grouped(1_234_567)], ["0", "999", "1,234,567"]);
        assert_eq!([rate(12.4), rate(8_040.0), rate(1_234_567.0)], ["12", "8.0 k", "1.23 M"]);
        assert_eq!(millis(Duration::from_micros(1_250)), "1.2 ms");
        assert_eq!(millis(Duration::from_micros(312_600)), "313 ms");
        assert_eq!(signed_millis(TimeDelta::microseconds(1_250)), "+1.2 ms");
        assert_eq!(signed_millis(TimeDelta::microseconds(-312_600)), "−313 ms");
    }
}
