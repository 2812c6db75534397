//! Event time: microseconds since 1970-01-01T00:00:00 UTC, and its text form.

/// Event time in microseconds, UTC. Durations use it too.
pub type Micros = i64;

/// Microseconds in a millisecond.
pub const MILLISECOND: Micros = 1_000;
/// Microseconds in a second.
pub const SECOND: Micros = 1_000_000;
/// Microseconds in a minute.
pub const MINUTE: Micros = 60 * SECOND;
/// Microseconds in an hour.
pub const HOUR: Micros = 60 * MINUTE;
/// Microseconds in a day of 24 hours.
pub const DAY: Micros = 24 * HOUR;

/// Writes `time` as RFC 3339 in UTC, with a fraction only where there is one.
///
/// Proleptic Gregorian calendar, after Howard Hinnant's `civil_from_days`.
pub fn to_rfc3339(time: Micros) -> String {
    let (days, within) = (time.div_euclid(DAY), time.rem_euclid(DAY));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (within / HOUR, within / MINUTE % 60, within / SECOND % 60);
    let fraction = within % SECOND;
    let year = if (0..=9999).contains(&year) { format!("{year:04}") } else { format!("{year:+}") };
    let head = format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction == 0 {
        head + "Z"
    } else {
        format!("{head}.{}Z", format!("{fraction:06}").trim_end_matches('0'))
    }
}

/// Reads RFC 3339, or the same without an offset (taken as UTC), with `T` or a blank between date
/// and time; a date alone is its midnight. Digits beyond the microsecond are cut off.
pub fn from_rfc3339(text: &str) -> Option<Micros> {
    let bytes = text.as_bytes();
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = bytes.get(range)?;
        part.iter()
            .try_fold(0i64, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
    };
    let is = |at: usize, wanted: u8| bytes.get(at) == Some(&wanted);
    if !(is(4, b'-') && is(7, b'-')) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * DAY;
    if bytes.len() == 10 {
        return Some(midnight);
    }
    if !(is(10, b'T') || is(10, b't') || is(10, b' ')) || !is(13, b':') {
        return None;
    }
    let (hour, minute) = (number(11..13)?, number(14..16)?);
    let mut at = 16;
    let mut second = 0;
    let mut fraction = 0;
    if is(16, b':') {
        second = number(17..19)?;
        at = 19;
        if is(19, b'.') {
            at = 20;
            let mut unit = SECOND / 10;
            while let Some(digit) = bytes.get(at).filter(|b| b.is_ascii_digit()) {
                fraction += i64::from(digit - b'0') * unit;
                unit /= 10;
                at += 1;
            }
            if at == 20 {
                return None;
            }
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let local = midnight + hour * HOUR + minute * MINUTE + second * SECOND + fraction;
    match &bytes[at..] {
        [] | [b'Z'] | [b'z'] => Some(local),
        [sign @ (b'+' | b'-'), ..] => {
            let hours = number(at + 1..at + 3)?;
            let minutes = match bytes.len() - at {
                3 => 0,
                5 => number(at + 3..at + 5)?,
                6 if is(at + 3, b':') => number(at + 4..at + 6)?,
                _ => return None,
            };
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * HOUR + minutes * MINUTE;
            Some(if *sign == b'+' { local - offset } else { local + offset })
        }
        _ => None,
    }
}

/// Year, month, day of the number of days since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for time in [0, -1, 1_357_034_400_000_000, 253_402_300_799_999_999, 951_782_400_000_001] {
            assert_eq!(from_rfc3339(&to_rfc3339(time)), Some(time), "{}", to_rfc3339(time));
        }
        for day in (-200_000..200_000).step_by(37) {
            let (y, m, d) = civil_from_days(day);
            assert_eq!(days_from_civil(y, m, d), day);
        }
    }

    #[test]
    fn forms_that_people_write() {
        let want = Some(1_357_034_400_000_000);
        for text in [
            "2013-01-01T10:00:00Z",
            "2013-01-01 10:00:00",
            "2013-01-01T10:00",
            "2013-01-01T05:00:00-05:00",
            "2013-01-01T15:30:00+0530",
            "2013-01-01T10:00:00.000000999Z",
        ] {
            assert_eq!(from_rfc3339(text), want, "{text}");
        }
        for text in [
            "",
            "2013",
            "2013-13-01",
            "2013-02-29",
            "2013-01-01T24:00:00Z",
            "2013-01-01T10:00:00x",
            "2013-01-01T10:00:00.Z",
        ] {
            assert_eq!(from_rfc3339(text), None, "{text}");
        }
    }
}
