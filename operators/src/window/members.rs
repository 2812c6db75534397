//! Which rows a window holds as of a read, told from the rows themselves: for people who ask what a feature was made
//! of. The store never lists them.

use std::ops::Range;

use tidemill_config::plan::{Edge, Frame};
use tidemill_types::{Id, Micros};

use super::frame::{Bound, Reach};
use super::rank::Name;

/// Which of a key's rows, in the order of (event time, name), a window holds for a read at this time by the row of
/// this id; `own_stream` as in [`super::Group`]. What `FILTER` leaves out is among them.
pub fn members(
    (frame, edge): (Frame, Edge),
    own_stream: bool,
    (time, id): (Micros, &Id),
    rows: &[(Micros, Name<'_>)],
) -> Range<usize> {
    let reach = Reach::new(frame, edge, own_stream);
    let as_of = reach.as_of(time);
    let end = match reach.bound(as_of) {
        Bound::ThroughRow => rows.partition_point(|row| *row <= (time, id.into())),
        Bound::BeforeRow => rows.partition_point(|row| *row < (time, id.into())),
        Bound::Through(last) => rows.partition_point(|(t, _)| *t <= last),
        Bound::Before(first) => rows.partition_point(|(t, _)| *t < first),
    };
    let mut begin = match reach.floor(as_of) {
        Some(floor) => rows[..end].partition_point(|(t, _)| *t < floor),
        None => 0,
    };
    if let Some(most) = reach.rows() {
        begin = begin.max(end.saturating_sub(most));
    }
    if let Some(gap) = reach.gap() {
        let near = |before: Micros, after: Micros| before.abs_diff(after) <= gap.unsigned_abs();
        match rows[..end].last() {
            Some((last, _)) if near(*last, as_of) => {
                let joined = |n: &usize| near(rows[n - 1].0, rows[*n].0);
                begin = (1..end).rev().take_while(joined).last().unwrap_or(end) - 1;
            }
            _ => begin = end,
        }
    }
    begin.min(end)..end
}

#[cfg(test)]
mod tests {
    use tidemill_config::plan::Exclude;

    use super::super::rank::Rank;
    use super::*;

    fn held(frame: Frame, edge: Edge, own: bool, read: (Micros, i64)) -> Vec<Micros> {
        let of = [(0, 1), (10, 2), (11, 3), (11, 5), (30, 6), (31, 7)];
        among(&of.map(|(time, id)| (time, Rank::LAST, id)), frame, edge, own, read)
    }

    fn among(
        rows: &[(Micros, Rank, i64)],
        frame: Frame,
        edge: Edge,
        own: bool,
        read: (Micros, i64),
    ) -> Vec<Micros> {
        let ids: Vec<Id> = rows.iter().map(|(.., id)| Id::Int(*id)).collect();
        let names = rows.iter().zip(&ids);
        let rows: Vec<(Micros, Name<'_>)> =
            names.map(|((time, rank, _), id)| (*time, Name { rank: *rank, id })).collect();
        let range = members((frame, edge), own, (read.0, &Id::Int(read.1)), &rows);
        rows[range].iter().map(|(t, _)| *t).collect()
    }

    #[test]
    fn rows_of_other_streams_stand_before_the_row_that_reads() {
        let other = Rank::new(0, 2).expect("one of two");
        let rows = [(10, Rank::LAST, 1), (11, other, 9), (11, Rank::LAST, 3), (11, Rank::LAST, 5)];
        let count = |edge, own| among(&rows, Frame::Last(5), edge, own, (11, 3)).len();
        assert_eq!(count(Edge::default(), true), 3, "not the one that orders after it");
        let without = Edge { exclude: Exclude::Row, ..Edge::default() };
        assert_eq!(count(without, true), 2, "the other of that time is in it");
        assert_eq!(count(Edge::default(), false), 4);
    }

    #[test]
    fn each_frame_has_its_rows() {
        let plain = Edge::default();
        assert_eq!(held(Frame::Last(20), plain, true, (30, 6)), [10, 11, 11, 30]);
        assert_eq!(
            held(Frame::Last(20), plain, true, (11, 3)),
            [0, 10, 11],
            "up to the row itself"
        );
        assert_eq!(
            held(Frame::Last(20), plain, false, (11, 3)),
            [0, 10, 11, 11],
            "all of its time"
        );
        assert_eq!(held(Frame::Rows(2), plain, true, (31, 7)), [30, 31]);
        assert_eq!(held(Frame::Lifetime, plain, true, (11, 5)), [0, 10, 11, 11]);
        assert_eq!(held(Frame::Session(5), plain, true, (11, 5)), [10, 11, 11]);
        assert_eq!(held(Frame::Session(5), plain, false, (20, 9)), [0; 0], "it is over");
        assert_eq!(held(Frame::Session(10), plain, true, (11, 5)), [0, 10, 11, 11]);
        let without = Edge { exclude: Exclude::Row, ..plain };
        assert_eq!(held(Frame::Last(20), without, true, (30, 6)), [10, 11, 11]);
        let before = Edge { offset: 20, ..plain };
        assert_eq!(held(Frame::Last(5), before, true, (31, 7)), [10, 11, 11]);
        assert_eq!(held(Frame::Tumbling { size: 10, origin: 0 }, plain, true, (31, 7)), [30, 31]);
        assert_eq!(held(Frame::Last(1), plain, false, (-5, 1)), [0; 0]);
    }
}
