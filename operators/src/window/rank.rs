//! What tells rows of one time apart, and orders them: the stream that they are of, then their id.

use serde::{Deserialize, Serialize};
use tidemill_config::plan::MOST_SOURCES;
use tidemill_types::Id;

/// The place of a row's stream among those that the windows of a group are over: rows of one event time
/// stand in the order of their streams.
///
/// The last place is that of the stream that reads, where it is one of them: so a row sees those of one time
/// of all other streams, and of its own those before it and itself. A group over one stream has the last
/// place only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rank(u8);

impl Rank {
    /// How many there are: a row has three bits for it.
    pub const COUNT: usize = MOST_SOURCES;

    /// The last one.
    pub const LAST: Rank = Rank(Rank::COUNT as u8 - 1);

    /// The `n`-th of `of` streams, in their order; none where there are more than [`Rank::COUNT`] of them.
    pub fn new(n: usize, of: usize) -> Option<Rank> {
        let is_one = n < of && of <= Rank::COUNT;
        is_one.then(|| if n + 1 == of { Rank::LAST } else { Rank(n as u8) })
    }

    /// How many places it stands before the last.
    #[inline]
    pub(super) fn before_last(self) -> u64 {
        u64::from(Rank::LAST.0 - (self.0 & Rank::LAST.0))
    }

    /// The one that stands so many places before the last.
    pub(super) fn from_last(places: u8) -> Option<Rank> {
        Rank::LAST.0.checked_sub(places).map(Rank)
    }
}

/// What a row is called among those of its time. An id alone is one of the last stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name<'a> {
    /// Its stream.
    pub rank: Rank,
    /// Its id in that stream; another one may have the same.
    pub id: &'a Id,
}

impl<'a> From<&'a Id> for Name<'a> {
    fn from(id: &'a Id) -> Name<'a> {
        Name { rank: Rank::LAST, id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stream_has_the_last_place_however_many_there_are() {
        for of in 1..=Rank::COUNT {
            let ranks: Vec<Rank> = (0..of).filter_map(|n| Rank::new(n, of)).collect();
            assert_eq!(ranks.len(), of);
            assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
            assert_eq!(ranks.last(), Some(&Rank::LAST));
            for rank in ranks {
                assert_eq!(Rank::from_last(rank.before_last() as u8), Some(rank));
            }
            assert_eq!(Rank::new(of, of), None);
        }
        assert_eq!(Rank::new(0, Rank::COUNT + 1), None);
        assert_eq!(Rank::from_last(Rank::COUNT as u8), None);
    }
}
