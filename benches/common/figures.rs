//! How figures are printed.

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

/// A number with three digits or so that count.
pub(crate) fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 999_500.0 => format!("{:.2} M", number / 1e6),
        size if size >= 10_000.0 => format!("{:.0} k", number / 1e3),
        size if size >= 100.0 => grouped(number.round() as usize),
        size if size >= 10.0 => format!("{number:.1}"),
        0.0 => "0".into(),
        size if size >= 0.1 => format!("{number:.2}"),
        _ => format!("{number:.4}"),
    }
}

/// The middle one, the greater of two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
