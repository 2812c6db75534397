//! From values to places: linear scales, ticks at round numbers and at months.

use tidemill_types::Micros;
use tidemill_types::time::{DAY, civil_from_days, days_from_civil};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A straight map of one range onto another.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    from: (f64, f64),
    to: (f64, f64),
}

impl Scale {
    /// Maps `from` onto `to`. An empty range maps to the middle.
    pub fn new(from: (f64, f64), to: (f64, f64)) -> Scale {
        Scale { from, to }
    }

    /// Where a value stands.
    pub fn at(&self, value: f64) -> f64 {
        let whole = self.from.1 - self.from.0;
        let share = if whole == 0.0 { 0.5 } else { (value - self.from.0) / whole };
        self.to.0 + share * (self.to.1 - self.to.0)
    }
}

/// Round numbers (1, 2 or 5 times a power of ten apart) that enclose all values: about `count` steps.
/// Their texts have as many decimals as the step needs.
pub fn ticks(values: impl IntoIterator<Item = f64>, count: usize) -> Vec<(f64, String)> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.into_iter().filter(|v| v.is_finite()) {
        low = low.min(value);
        high = high.max(value);
    }
    if low > high {
        (low, high) = (0.0, 1.0);
    }
    if high - low < 1e-9 * high.abs().max(1e-9) {
        let around = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
        (low, high) = (low - around, high + around);
    }
    let step = nice((high - low) / count.max(1) as f64);
    let decimals = (-libm::floor(libm::log10(step) + 1e-9)).clamp(0.0, 12.0) as usize;
    let (first, last) =
        (libm::floor(low / step + 1e-9) as i64, libm::ceil(high / step - 1e-9) as i64);
    (first..=last)
        .map(|i| i as f64 * step)
        .map(|value| (value, format!("{value:.decimals$}")))
        .collect()
}

fn nice(step: f64) -> f64 {
    let power = libm::pow(10.0, libm::floor(libm::log10(step)));
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= step * 0.999).unwrap_or(10.0);
    factor * power
}

/// The first days of months in a range, at most `count` of them; January carries its year.
pub fn months(from: Micros, to: Micros, count: usize) -> Vec<(Micros, String)> {
    let index = |time: Micros| {
        let (year, month, _) = civil_from_days(time.div_euclid(DAY));
        year * 12 + month - 1
    };
    let start =
        |index: i64| days_from_civil(index.div_euclid(12), index.rem_euclid(12) + 1, 1) * DAY;
    let (first, last) = (index(from.saturating_sub(1)) + 1, index(to));
    let wanted = (last - first + 1).max(0) as usize;
    let steps = [1, 2, 3, 6, 12, 24, 60, 120, 600, 1_200];
    let step =
        steps.into_iter().find(|s| wanted.div_ceil(*s as usize) <= count.max(1)).unwrap_or(12_000);
    (first..=last)
        .filter(|index| index.rem_euclid(step) == 0)
        .map(|index| {
            let name = MONTHS[index.rem_euclid(12) as usize];
            let year = index.div_euclid(12);
            (
                start(index),
                if index.rem_euclid(12) == 0 { format!("{name} {year}") } else { name.into() },
            )
        })
        .collect()
}

/// The day of a time as people write it: `5 Feb 2013`.
pub fn date(time: Micros) -> String {
    let (year, month, day) = civil_from_days(time.div_euclid(DAY));
    format!("{day} {} {year}", MONTHS[(month - 1).rem_euclid(12) as usize])
}

#[cfg(test)]
mod tests {
    use tidemill_types::time::from_rfc3339;

    use super::*;

    fn texts<T>(ticks: Vec<(T, String)>) -> Vec<String> {
        ticks.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_enclose() {
        assert_eq!(texts(ticks([0.412, 0.5231], 4)), ["0.40", "0.45", "0.50", "0.55"]);
        assert_eq!(texts(ticks([0.0, 97.0], 5)), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(texts(ticks([-3.0, 4.0, f64::NAN], 4)), ["-4", "-2", "0", "2", "4"]);
        assert_eq!(texts(ticks([], 2)), ["0.0", "0.5", "1.0"]);
        for flat in [0.0, 0.3, -7.0, 1e12] {
            let ticks = ticks([flat], 4);
            let (first, last) = (ticks[0].0, ticks[ticks.len() - 1].0);
            assert!(first < flat && flat < last && ticks.len() < 9, "{flat}: {ticks:?}");
        }
    }

    #[test]
    fn months_fit_their_number() {
        let time = |text: &str| from_rfc3339(text).expect("a time");
        let year = (time("2013-01-01"), time("2013-12-31"));
        assert_eq!(texts(months(year.0, year.1, 12)).len(), 12);
        assert_eq!(texts(months(year.0, year.1, 4)), ["Jan 2013", "Apr", "Jul", "Oct"]);
        assert_eq!(months(year.0 + 1, year.1, 12)[0].0, time("2013-02-01"));
        assert_eq!(date(time("2013-02-05T23:59:59Z")), "5 Feb 2013");
    }
}
