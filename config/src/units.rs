//! Durations and sizes as people write them.

use tidemill_types::Micros;
use tidemill_types::time::{DAY, HOUR, MILLISECOND, MINUTE, SECOND};

/// Reads a duration: whole numbers with units, largest first by custom, `"1h30m"`, `"250ms"`, `"7d"`.
///
/// # Errors
/// Says what is wrong with the text; a duration is never negative and fits in microseconds.
pub fn duration(text: &str) -> Result<Micros, String> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err("a duration is never negative".to_string());
    }
    let mut rest = text;
    let mut sum: Micros = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: Micros =
            number.parse().map_err(|_| format!("`{text}` does not begin with a whole number"))?;
        let unit = match unit {
            "us" => 1,
            "ms" => MILLISECOND,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            "" => return Err(format!("`{text}` has no unit")),
            other => return Err(format!("`{other}` is no unit of time")),
        };
        sum = number
            .checked_mul(unit)
            .and_then(|n| sum.checked_add(n))
            .ok_or_else(|| format!("`{text}` is longer than 292,000 years"))?;
        rest = after;
    }
    if text.is_empty() { Err("it is empty".to_string()) } else { Ok(sum) }
}

/// Writes a duration with the fewest units.
pub fn show_duration(mut micros: Micros) -> String {
    if micros == 0 {
        return "0s".to_string();
    }
    let units =
        [(DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s"), (MILLISECOND, "ms"), (1, "us")];
    let mut out = String::new();
    for (unit, name) in units {
        if micros >= unit {
            out.push_str(&format!("{}{name}", micros / unit));
            micros %= unit;
        }
    }
    out
}

/// Reads a size in bytes: `"512"`, `"64KiB"`, `"10MiB"`, `"1GiB"`, `"10MB"`.
///
/// # Errors
/// Says what is wrong with the text.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| format!("`{text}` does not begin with a whole number"))?;
    let unit: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        other => return Err(format!("`{other}` is no unit of size")),
    };
    number.checked_mul(unit).ok_or_else(|| format!("`{text}` is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, micros) in [
            ("0s", 0),
            ("3h", 3 * HOUR),
            ("1h30m", 90 * MINUTE),
            ("250ms", 250_000),
            ("7d", 7 * DAY),
        ] {
            assert_eq!(duration(text), Ok(micros), "{text}");
            assert_eq!(duration(&show_duration(micros)), Ok(micros), "{text}");
        }
        for text in ["", "3", "h", "-3h", "3 hours", "3h 5m", "1.5h", "9223372036854775807d", "3H"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_as_people_write_them() {
        assert_eq!(size("10MiB"), Ok(10 << 20));
        assert_eq!(size("512"), Ok(512));
        assert!(size("ten").is_err() && size("3TB").is_err() && size("99999999999GiB").is_err());
    }
}
