//! Where a window begins and ends as of a time: functions of its frame and its edge alone, without
//! rows.
//!
//! For a frame that is bounded by time, [`Reach::floor`] is the first event time in it. It never
//! falls as time goes on: whatever it has passed no later read can see, and [`Reach::left_at`] says when
//! it passes a row.

use std::cell::Cell;

use tidemill_config::plan::{Edge, Exclude, Frame, Period};
use tidemill_types::time::{DAY, HOUR, civil_from_days, days_from_civil};
use tidemill_types::{Micros, Zone};

/// Up to where a read sees rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// Up to the row that reads, itself included.
    ThroughRow,
    /// Up to the row that reads, which is left out.
    BeforeRow,
    /// Event times up to this one.
    Through(Micros),
    /// Event times before this one.
    Before(Micros),
}

/// See [`Reach::span`].
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) last: Option<Micros>,
    pub(super) rows: usize,
}

/// A frame with its edge, over the spine's own stream or another.
pub(super) struct Reach {
    frame: Frame,
    edge: Edge,
    own_stream: bool,
    /// The period of the calendar that was asked for last: reads come near each other.
    period: Cell<(Micros, Micros)>,
}

impl Reach {
    pub(super) fn new(frame: Frame, edge: Edge, own_stream: bool) -> Reach {
        Reach { frame, edge, own_stream, period: Cell::new((Micros::MAX, Micros::MIN)) }
    }

    /// As of when a read at `time` sees the window.
    #[inline]
    pub(super) fn as_of(&self, time: Micros) -> Micros {
        time.saturating_sub(self.edge.offset)
    }

    /// When a read sees the window as of `as_of`.
    pub(super) fn read_at(&self, as_of: Micros) -> Micros {
        as_of.saturating_add(self.edge.offset)
    }

    /// Up to where a read as of `as_of` sees rows.
    #[inline]
    pub(super) fn bound(&self, as_of: Micros) -> Bound {
        match (self.frame, self.edge.exclude) {
            (Frame::Hopping { every, origin, .. }, _) => {
                Bound::Before(multiple(as_of, every, origin))
            }
            (_, Exclude::Time) => Bound::Before(as_of),
            _ if !self.own_stream || self.edge.offset > 0 => Bound::Through(as_of),
            (_, Exclude::Row) => Bound::BeforeRow,
            (_, Exclude::Nothing) => Bound::ThroughRow,
        }
    }

    /// How far back and how many rows it reaches, where that and the row that reads are all there is to it.
    pub(super) fn span(&self) -> Option<Span> {
        let (last, rows) = match self.frame {
            Frame::Last(last) | Frame::Within { last, .. } => (Some(last), self.rows()),
            Frame::Rows(_) => (None, self.rows()),
            _ => return None,
        };
        let plain = self.own_stream && self.edge == Edge::default();
        plain.then_some(Span { last, rows: rows.unwrap_or(usize::MAX) })
    }

    /// Whether time does not bound it.
    #[inline]
    pub(super) fn is_timeless(&self) -> bool {
        matches!(self.frame, Frame::Rows(_) | Frame::Lifetime)
    }

    /// Whether [`Reach::bound`] is that of another, whenever they are read.
    pub(super) fn ends_as(&self, other: &Reach) -> bool {
        let hops = |reach: &Reach| match reach.frame {
            Frame::Hopping { every, origin, .. } => Some((every, origin)),
            _ => None,
        };
        self.edge == other.edge && self.own_stream == other.own_stream && hops(self) == hops(other)
    }

    /// The first event time in the window, where time bounds it.
    #[inline]
    pub(super) fn floor(&self, as_of: Micros) -> Option<Micros> {
        match self.frame {
            Frame::Last(last) | Frame::Within { last, .. } => Some(as_of.saturating_sub(last)),
            _ => self.far_floor(as_of),
        }
    }

    fn far_floor(&self, as_of: Micros) -> Option<Micros> {
        Some(match self.frame {
            Frame::Last(last) | Frame::Within { last, .. } => as_of.saturating_sub(last),
            Frame::Tiled { last, resolution } => {
                multiple(as_of.saturating_sub(last), resolution, 0)
            }
            Frame::Tumbling { size, origin } => multiple(as_of, size, origin),
            Frame::Hopping { size, every, origin } => {
                multiple(as_of, every, origin).saturating_sub(size)
            }
            Frame::Calendar { period, zone } => self.period(period, zone, as_of).0,
            Frame::Rows(_) | Frame::Session(_) | Frame::Decayed(_) | Frame::Lifetime => {
                return None;
            }
        })
    }

    /// The first moment as of which a row at `time` is before [`Reach::floor`].
    pub(super) fn left_at(&self, time: Micros) -> Option<Micros> {
        let next = time.saturating_add(1);
        Some(match self.frame {
            Frame::Last(last) | Frame::Within { last, .. } => next.saturating_add(last),
            Frame::Tiled { last, resolution } => {
                multiple(time, resolution, 0).saturating_add(resolution).saturating_add(last)
            }
            Frame::Tumbling { size, origin } => multiple(time, size, origin).saturating_add(size),
            Frame::Hopping { size, every, origin } => {
                let end = next.saturating_add(size);
                match multiple(end, every, origin) {
                    multiple if multiple == end => end,
                    before => before.saturating_add(every),
                }
            }
            Frame::Calendar { period, zone } => self.period(period, zone, time).1,
            Frame::Rows(_) | Frame::Session(_) | Frame::Decayed(_) | Frame::Lifetime => {
                return None;
            }
        })
    }

    /// When the tile of a row begins, in a window that has some.
    #[inline]
    pub(super) fn tile_of(&self, time: Micros) -> Micros {
        match self.frame {
            Frame::Tiled { resolution, .. } => multiple(time, resolution, 0),
            _ => time,
        }
    }

    /// Whether rows leave by tiles.
    pub(super) fn has_tiles(&self) -> bool {
        matches!(self.frame, Frame::Tiled { .. })
    }

    /// How many rows there are at most, where their number is bounded.
    #[inline]
    pub(super) fn rows(&self) -> Option<usize> {
        match self.frame {
            Frame::Rows(rows) | Frame::Within { rows, .. } => {
                Some(usize::try_from(rows).unwrap_or(usize::MAX))
            }
            _ => None,
        }
    }

    /// The gap that ends a session.
    #[inline]
    pub(super) fn gap(&self) -> Option<Micros> {
        match self.frame {
            Frame::Session(gap) => Some(gap),
            _ => None,
        }
    }

    /// Whether no row ever leaves the window.
    #[inline]
    pub(super) fn holds_all(&self) -> bool {
        matches!(self.frame, Frame::Lifetime | Frame::Decayed(_))
    }

    /// The period of the calendar that `time` is in: its first instant, and that of the next.
    fn period(&self, period: Period, zone: Zone, time: Micros) -> (Micros, Micros) {
        let (start, end) = self.period.get();
        if start <= time && time < end {
            return (start, end);
        }
        let found = period_of(period, zone, time);
        self.period.set(found);
        found
    }
}

/// The latest of the times `origin`, `origin` +- `size`, and so on that is not after `time`; `origin`
/// is from 0 to `size` - 1.
#[inline]
fn multiple(time: Micros, size: Micros, origin: Micros) -> Micros {
    time.saturating_sub((time.rem_euclid(size) - origin).rem_euclid(size))
}

/// The period of a zone's calendar that `time` is in: its first instant, and that of the next.
///
/// A day begins when the clock of the zone first shows its date: where midnight is left out, when the
/// clock is set; where it comes twice, the first time; and where the clock is set back over midnight,
/// the day that has begun goes on. Longer periods begin with their first day. An hour begins at each full hour and
/// whenever the clock is set, so that it is never longer than sixty minutes.
fn period_of(period: Period, zone: Zone, time: Micros) -> (Micros, Micros) {
    let local = zone.local(time);
    if period == Period::Hour {
        let start = time.saturating_sub(local.rem_euclid(HOUR));
        let end = start.saturating_add(HOUR);
        let set = |from, until, unless| match zone.ahead(from) == zone.ahead(until) {
            true => unless,
            false => zone.set_between(from, until),
        };
        return (set(start, time, start), set(time, end, end));
    }
    let begins = |day: i64| zone.first(day.saturating_mul(DAY));
    let first = first_day(period, local.div_euclid(DAY));
    let next = next_first_day(period, first);
    match (begins(first), begins(next)) {
        (_, end) if end <= time => (end, begins(next_first_day(period, next))),
        found => found,
    }
}

/// The first day of the period that a day is in; days are counted from 1970-01-01, a Thursday.
fn first_day(period: Period, day: i64) -> i64 {
    let (year, month, _) = civil_from_days(day);
    match period {
        Period::Hour | Period::Day => day,
        Period::Week => day - (day + 3).rem_euclid(7),
        Period::Month => days_from_civil(year, month, 1),
        Period::Quarter => days_from_civil(year, month - (month - 1) % 3, 1),
        Period::Year => days_from_civil(year, 1, 1),
    }
}

/// The first day of the next period.
fn next_first_day(period: Period, first: i64) -> i64 {
    let (year, month, _) = civil_from_days(first);
    let months_on = |n: i64| match month + n {
        month if month > 12 => days_from_civil(year + 1, month - 12, 1),
        month => days_from_civil(year, month, 1),
    };
    match period {
        Period::Hour | Period::Day => first + 1,
        Period::Week => first + 7,
        Period::Month => months_on(1),
        Period::Quarter => months_on(3),
        Period::Year => days_from_civil(year + 1, 1, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_types::time::{MINUTE, from_rfc3339, to_rfc3339};

    fn at(text: &str) -> Micros {
        from_rfc3339(text).expect(text)
    }

    fn frames() -> Vec<Frame> {
        let zone = |name: &str| Zone::parse(name).expect(name);
        let mut frames = vec![
            Frame::Last(7 * MINUTE),
            Frame::Within { rows: 3, last: HOUR },
            Frame::Tiled { last: 50 * MINUTE, resolution: 7 * MINUTE },
            Frame::Tumbling { size: 13 * MINUTE, origin: 5 },
            Frame::Hopping { size: HOUR, every: 7 * MINUTE, origin: 3 },
            Frame::Hopping { size: HOUR, every: HOUR, origin: 0 },
        ];
        for (period, _) in Period::ALL {
            for name in ["UTC", "America/New_York", "America/St_Johns", "Pacific/Apia"] {
                frames.push(Frame::Calendar { period, zone: zone(name) });
            }
        }
        frames
    }

    /// What trimming stands on: floors never fall, and a row is left at the very moment that is told.
    #[test]
    fn floors_rise_and_rows_are_left_when_it_is_told() {
        let days = ["1970-01-01", "1969-12-28", "2010-11-07", "2011-12-29", "2013-03-10"];
        for frame in frames() {
            let floor = |time| {
                let fresh = Reach::new(frame, Edge::default(), true);
                fresh.floor(time).expect("a frame bounded by time")
            };
            let kept = Reach::new(frame, Edge::default(), true);
            for day in days.map(at) {
                let mut last = Micros::MIN;
                for i in 0..500 {
                    let time = day + i * 7 * MINUTE;
                    let found = kept.floor(time).expect("the same");
                    assert_eq!(found, floor(time), "{frame:?} {}", to_rfc3339(time));
                    assert!(last <= found && found <= time, "{frame:?} {}", to_rfc3339(time));
                    last = found;
                    let left = kept.left_at(time).expect("the same");
                    assert!(floor(left) > time, "{frame:?} {}", to_rfc3339(time));
                    assert!(floor(left - 1) <= time, "{frame:?} {}", to_rfc3339(time));
                }
            }
        }
    }

    #[test]
    fn periods_of_the_calendar() {
        use Period::{Day, Hour, Month, Quarter, Week, Year};
        for (period, name, time, start, end) in [
            (Hour, "UTC", "2013-03-10T07:59:59Z", "2013-03-10T07:00:00Z", "2013-03-10T08:00:00Z"),
            (Hour, "Asia/Kolkata", "2013-03-10T07:00Z", "2013-03-10T06:30Z", "2013-03-10T07:30Z"),
            // The clock goes back by half an hour at 02:00.
            (
                Hour,
                "Australia/Lord_Howe",
                "2013-04-06T15:10Z",
                "2013-04-06T15:00Z",
                "2013-04-06T15:30Z",
            ),
            (
                Day,
                "America/New_York",
                "2013-03-10T12:00Z",
                "2013-03-10T05:00Z",
                "2013-03-11T04:00Z",
            ),
            (
                Day,
                "America/New_York",
                "2013-11-04T04:59Z",
                "2013-11-03T04:00Z",
                "2013-11-04T05:00Z",
            ),
            (
                Day,
                "America/Sao_Paulo",
                "2013-10-20T03:00Z",
                "2013-10-20T03:00Z",
                "2013-10-21T02:00Z",
            ),
            (
                Day,
                "America/Sao_Paulo",
                "2013-10-20T02:59Z",
                "2013-10-19T03:00Z",
                "2013-10-20T03:00Z",
            ),
            // Back from 00:01 to 23:01: the day has begun and goes on.
            (
                Day,
                "America/St_Johns",
                "2010-11-07T02:29Z",
                "2010-11-06T02:30Z",
                "2010-11-07T02:30Z",
            ),
            (
                Day,
                "America/St_Johns",
                "2010-11-07T03:00Z",
                "2010-11-07T02:30Z",
                "2010-11-08T03:30Z",
            ),
            (Day, "Pacific/Apia", "2011-12-30T09:59Z", "2011-12-29T10:00Z", "2011-12-30T10:00Z"),
            (Week, "UTC", "1970-01-01", "1969-12-29", "1970-01-05"),
            (Week, "UTC", "2013-03-10T23:59Z", "2013-03-04", "2013-03-11"),
            (
                Week,
                "America/New_York",
                "2013-03-11T03:59Z",
                "2013-03-04T05:00Z",
                "2013-03-11T04:00Z",
            ),
            (Month, "UTC", "2012-02-29T12:00Z", "2012-02-01", "2012-03-01"),
            (Month, "UTC", "2012-12-31", "2012-12-01", "2013-01-01"),
            (Quarter, "UTC", "2012-12-31", "2012-10-01", "2013-01-01"),
            (Quarter, "Europe/Berlin", "2013-05-05", "2013-03-31T22:00Z", "2013-06-30T22:00Z"),
            (Year, "UTC", "1969-12-31T23:59Z", "1969-01-01", "1970-01-01"),
            (Year, "Asia/Tokyo", "2012-12-31T15:00Z", "2012-12-31T15:00Z", "2013-12-31T15:00Z"),
        ] {
            let zone = Zone::parse(name).expect(name);
            let found = period_of(period, zone, at(time));
            assert_eq!(found, (at(start), at(end)), "{period:?} {name} {time}");
        }
    }

    #[test]
    fn times_at_the_ends_of_the_range_do_not_overflow() {
        let mut frames = frames();
        frames.push(Frame::Last(Micros::MAX));
        frames.push(Frame::Tumbling { size: Micros::MAX, origin: Micros::MAX - 1 });
        for frame in frames {
            let reach = Reach::new(frame, Edge { offset: 5, exclude: Exclude::Nothing }, true);
            for time in [Micros::MIN, -1, 0, Micros::MAX] {
                let floor = reach.floor(reach.as_of(time)).expect("a frame bounded by time");
                let left = reach.read_at(reach.left_at(time).expect("the same"));
                assert!(floor <= time && time <= left, "{frame:?} {time}");
            }
        }
    }
}
