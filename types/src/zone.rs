//! Time zones: what a wall clock shows, and when it first shows it.

use std::cmp::Ordering;
use std::fmt;

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};

use crate::Micros;
use crate::time::{HOUR, SECOND};

/// A time zone of the IANA database, with the rules that were compiled in: the same on every machine.
///
/// Ordered by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Zone(Tz);

/// No clock on earth was ever further from UTC.
const FURTHEST: Micros = 16 * HOUR;

impl Zone {
    /// Coordinated Universal Time.
    pub const UTC: Zone = Zone(Tz::UTC);

    /// The zone of that name, `America/New_York`; upper and lower case matter.
    pub fn parse(name: &str) -> Option<Zone> {
        name.parse().ok().map(Zone)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Every name that [`Zone::parse`] takes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TZ_VARIANTS.iter().map(|zone| zone.name())
    }

    /// What the clock is ahead of UTC at an instant. Years that no calendar counts (before -262143 or
    /// after 262142) have the offset of UTC.
    pub fn ahead(self, time: Micros) -> Micros {
        let instant = DateTime::from_timestamp_micros(time);
        let seconds = instant.map_or(0, |instant| {
            self.0.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc()
        });
        Micros::from(seconds) * SECOND
    }

    /// What the clock shows at an instant, as microseconds since its own 1970-01-01T00:00.
    pub fn local(self, time: Micros) -> Micros {
        time.saturating_add(self.ahead(time))
    }

    /// The first instant at which the clock shows `local` or later: where it is set forward over
    /// `local`, when that is done; where it shows `local` twice, the first time.
    ///
    /// It takes the clock to be set at most once in 32 hours. Cost: two looks into the rules of the
    /// zone, and some 40 more if it is set near by.
    pub fn first(self, local: Micros) -> Micros {
        let (from, until) = (local.saturating_sub(FURTHEST), local.saturating_add(FURTHEST));
        let (before, after) = (self.ahead(from), self.ahead(until));
        let early = local.saturating_sub(before);
        if before == after {
            return early;
        }
        let set = self.set_between(from, until);
        if early < set { early } else { set.max(local.saturating_sub(after)) }
    }

    /// When the clock is set, between two instants at which its offsets differ.
    pub fn set_between(self, from: Micros, until: Micros) -> Micros {
        let before = self.ahead(from);
        let (mut low, mut high) = (from, until);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.ahead(middle) == before { low = middle } else { high = middle }
        }
        high
    }
}

impl Ord for Zone {
    fn cmp(&self, other: &Zone) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl PartialOrd for Zone {
    fn partial_cmp(&self, other: &Zone) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{DAY, MINUTE, from_rfc3339};

    fn zone(name: &str) -> Zone {
        Zone::parse(name).expect(name)
    }

    fn at(text: &str) -> Micros {
        from_rfc3339(text).expect(text)
    }

    #[test]
    fn zones_are_known_by_name() {
        for name in ["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"] {
            assert_eq!(zone(name).name(), name);
            assert!(Zone::names().any(|known| known == name));
        }
        for name in ["", "Mars/Olympus", "america/new_york", "+05:00"] {
            assert_eq!(Zone::parse(name), None, "{name}");
        }
        assert!(zone("Asia/Tokyo") < zone("Europe/Berlin"));
    }

    #[test]
    fn the_first_instant_of_a_local_time() {
        for (name, local, first) in [
            ("UTC", "2013-01-01T00:00:00", "2013-01-01T00:00:00Z"),
            ("America/New_York", "2013-01-01T00:00:00", "2013-01-01T05:00:00Z"),
            // 02:00 to 03:00 is left out: when the clock is set.
            ("America/New_York", "2013-03-10T02:30:00", "2013-03-10T07:00:00Z"),
            ("America/New_York", "2013-03-10T03:00:00", "2013-03-10T07:00:00Z"),
            ("America/New_York", "2013-03-11T00:00:00", "2013-03-11T04:00:00Z"),
            // 01:00 to 02:00 comes twice: the first time.
            ("America/New_York", "2013-11-03T01:30:00", "2013-11-03T05:30:00Z"),
            ("America/New_York", "2013-11-03T02:00:00", "2013-11-03T07:00:00Z"),
            // There was no midnight: the day began at 01:00.
            ("America/Sao_Paulo", "2013-10-20T00:00:00", "2013-10-20T03:00:00Z"),
            // Midnight came twice.
            ("America/Havana", "2013-11-03T00:00:00", "2013-11-03T04:00:00Z"),
            // There was no 30 December.
            ("Pacific/Apia", "2011-12-30T00:00:00", "2011-12-30T10:00:00Z"),
            ("Pacific/Apia", "2011-12-31T00:00:00", "2011-12-30T10:00:00Z"),
            // At 00:01 back to 23:01 of the day before.
            ("America/St_Johns", "2010-11-07T00:00:00", "2010-11-07T02:30:00Z"),
        ] {
            assert_eq!(zone(name).first(at(local)), at(first), "{name} {local}");
        }
    }

    /// Against the definition, minute by minute, over the days on which clocks were set.
    #[test]
    fn the_first_instant_by_definition() {
        for (name, day) in [
            ("America/New_York", "2013-03-10"),
            ("America/New_York", "2013-11-03"),
            ("America/Sao_Paulo", "2013-10-20"),
            ("America/Sao_Paulo", "2014-02-16"),
            ("America/Havana", "2013-11-03"),
            ("America/St_Johns", "2010-11-07"),
            ("Australia/Lord_Howe", "2013-04-07"),
            ("Australia/Lord_Howe", "2013-10-06"),
        ] {
            let (zone, midnight) = (zone(name), at(day));
            let instants = |i: i64| midnight - DAY + i * MINUTE;
            let mut reached = Micros::MIN;
            for time in (0..3 * 24 * 60).map(instants) {
                let local = zone.local(time);
                if local > reached && local > midnight - DAY / 2 && local < midnight + DAY {
                    assert_eq!(zone.first(local), time, "{name} {local}");
                }
                reached = reached.max(local);
            }
        }
    }

    #[test]
    fn far_times_do_not_overflow() {
        for time in [Micros::MIN, Micros::MIN + 1, Micros::MAX - 1, Micros::MAX] {
            let zone = zone("Pacific/Apia");
            assert!(zone.local(time).abs_diff(time) <= FURTHEST as u64);
            assert!(zone.first(time).abs_diff(time) <= FURTHEST as u64);
        }
    }
}
