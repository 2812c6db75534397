//! The least or the greatest number of a window, without keeping all of them in order.
//!
//! Of most windows only the number at the end asked for is known, and how many others there are: a
//! number that comes or goes behind it costs one comparison. When the known one has gone, the window is
//! asked for its values again ([`Extreme::refill`]). Where that happens soon after the last time, in a
//! window of more than a few values, the values nearest to the end are kept in order, twice as many each
//! time, so that the cost a row is constant for values in random order and logarithmic at worst (values
//! that rise for ever, of which each that leaves is the least).
//!
//! So this is no function of the multiset but what is known of one: what it answers is a function, how much it
//! knows is not. What is saved is only how many values there are; what is restored asks for them again,
//! and a window that has its rows tells it.

use tidemill_types::Value;

use super::bytes::{Reader, Writer};
use super::ordered::{float_of, rank};

/// A window of so many values is looked through whenever its end has gone.
const FEW: u32 = 12;

/// How many values are kept in order at first, where that does not do; of a large window more, for it is dear to
/// look through.
const KEEP: u32 = 8;
const KEEP_FIRST: u32 = 64;

/// One end of a multiset of numbers. Ranks are turned so that the end asked for is the least.
#[derive(Clone, Debug)]
pub struct Extreme {
    /// Numbers at or beyond this rank come and go without a further look. It is the greatest of those
    /// that are known; the least rank of all while none is.
    behind: i64,
    /// The least number, if it is known.
    end: i64,
    /// How many values there are.
    count: u32,
    /// Values that have gone since the last refill.
    gone: u32,
    /// The ranks that are known, where there may be more than one; the least stands last.
    #[allow(clippy::box_collection, reason = "most have none, and states lie close together")]
    known: Option<Box<Vec<i64>>>,
    /// Up to twice as many are known.
    keep: u32,
    starved: bool,
    float: bool,
    /// All ones where ranks are turned.
    turn: i8,
}

/// A number at an end.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// A whole number.
    Int(i64),
    /// A float.
    Float(f64),
}

impl End {
    /// A value, if it is a number.
    pub fn of(value: Value) -> Option<End> {
        match value {
            Value::Int(i) => Some(End::Int(i)),
            Value::Float(x) => Some(End::Float(x)),
            _ => None,
        }
    }

    /// As a float.
    #[inline]
    pub fn as_f64(self) -> f64 {
        match self {
            End::Int(i) => i as f64,
            End::Float(x) => x,
        }
    }

    /// As a value.
    #[inline]
    pub fn value(self) -> Value {
        match self {
            End::Int(i) => Value::Int(i),
            End::Float(x) => Value::Float(x),
        }
    }
}

impl Extreme {
    /// Over no values.
    pub fn new(greatest: bool) -> Extreme {
        Extreme {
            behind: i64::MIN,
            end: i64::MIN,
            count: 0,
            gone: 0,
            known: None,
            keep: 1,
            starved: false,
            float: false,
            turn: -i8::from(greatest),
        }
    }

    /// Which end it is of.
    pub fn is_greatest(&self) -> bool {
        self.turn != 0
    }

    /// Adds a number; NULL is not there.
    #[inline]
    pub fn insert(&mut self, value: &Value) {
        if let Some(rank) = self.rank(value) {
            self.insert_rank(rank, matches!(value, Value::Float(_)));
        }
    }

    /// The rank of a float among floats; a whole number is its own.
    #[inline]
    pub(crate) fn rank_of(x: f64) -> i64 {
        rank(x)
    }

    /// Adds a number by its rank, not turned.
    #[inline]
    pub(super) fn insert_number(&mut self, rank: i64, float: bool) {
        self.insert_rank(rank ^ i64::from(self.turn), float);
    }

    /// Takes out a number by its rank, not turned.
    #[inline]
    pub(super) fn remove_number(&mut self, rank: i64) {
        self.remove_rank(rank ^ i64::from(self.turn));
    }

    #[inline]
    fn insert_rank(&mut self, rank: i64, float: bool) {
        let first = self.count == 0;
        self.count += 1;
        if rank < self.behind || first {
            self.float = float;
            match &mut self.known {
                None => (self.end, self.behind, self.starved) = (rank, rank, false),
                Some(_) => self.insert_in_order(rank),
            }
        }
    }

    #[inline(never)]
    fn insert_in_order(&mut self, rank: i64) {
        if let Some(known) = &mut self.known {
            let place = known.partition_point(|x| *x > rank);
            known.insert(place, rank);
            self.shorten();
        }
    }

    /// Takes out a number that was added.
    #[inline]
    pub fn remove(&mut self, value: &Value) {
        if let Some(rank) = self.rank(value) {
            self.remove_rank(rank);
        }
    }

    #[inline]
    fn remove_rank(&mut self, rank: i64) {
        self.gone = self.gone.wrapping_add(1);
        self.count = self.count.saturating_sub(1);
        if rank <= self.behind {
            self.remove_known(rank);
        }
    }

    #[inline(never)]
    fn remove_known(&mut self, rank: i64) {
        match &mut self.known {
            Some(known) => {
                let place = known.partition_point(|x| *x > rank);
                if known.get(place) == Some(&rank) {
                    known.remove(place);
                }
                self.note();
            }
            None if rank == self.end => self.forget(),
            None => {}
        }
    }

    /// Nothing is known any more.
    fn forget(&mut self) {
        (self.starved, self.known) = (self.count > 0, None);
        (self.behind, self.end) = (i64::MIN, i64::MIN);
    }

    /// Remembers what stands at both ends of what is known.
    fn note(&mut self) {
        match self.known.as_deref().map(|known| (known.first().copied(), known.last().copied())) {
            Some((Some(first), Some(last))) => (self.behind, self.end) = (first, last),
            Some(_) => self.forget(),
            None => {}
        }
    }

    /// Whether there are values, and it is not known which is the extreme one.
    #[inline]
    pub fn is_starved(&self) -> bool {
        self.starved && self.count > 0
    }

    /// Learns the values anew: all that are there, in any order.
    pub fn refill(&mut self, values: impl Iterator<Item = Value>) {
        self.refill_ranks(values.filter_map(|value| turned(&value, 0)));
    }

    /// The same by their ranks, not turned.
    #[inline]
    pub(super) fn refill_ranks(&mut self, ranks: impl Iterator<Item = i64>) {
        let (turn, n) = (i64::from(self.turn), self.count);
        let ranks = ranks.map(|rank| rank ^ turn);
        let first = (n / 64).clamp(KEEP, KEEP_FIRST);
        self.keep = match n {
            ..=FEW => 1,
            _ if self.gone < n => self.keep.saturating_mul(2).clamp(first, n),
            _ if self.gone / 64 > n => (self.keep / 2).max(first),
            _ => self.keep.max(first),
        };
        (self.gone, self.starved) = (0, false);
        if self.keep == 1 {
            let (mut end, mut any) = (i64::MAX, false);
            for rank in ranks {
                (end, any) = (end.min(rank), true);
            }
            let end = if any { end } else { i64::MIN };
            (self.end, self.behind) = (end, end);
            return;
        }
        let keep = self.keep as usize;
        let (mut known, mut last) = (Vec::with_capacity(2 * keep), None);
        for rank in ranks {
            if last.is_some_and(|last| rank >= last) {
                continue;
            }
            known.push(rank);
            if known.len() == 2 * keep {
                last = Some(*known.select_nth_unstable(keep - 1).1);
                known.truncate(keep);
            }
        }
        known.sort_unstable_by(|a, b| b.cmp(a));
        self.known = Some(Box::new(known));
        self.note();
    }

    /// Adds all values of another of the same end. What is known of both is known of the sum: values
    /// up to where the knowledge of either ends.
    pub fn merge(&mut self, other: &Extreme) {
        let ranks = |of: &Extreme| match &of.known {
            Some(known) => known.to_vec(),
            None if of.starved || of.count == 0 => Vec::new(),
            None => vec![of.end],
        };
        let horizon = |of: &Extreme, known: &[i64]| match of.count as usize == known.len() {
            true => Some(i64::MAX),
            false => known.first().copied(),
        };
        let (mut ours, theirs) = (ranks(self), ranks(other));
        match (horizon(self, &ours), horizon(other, &theirs)) {
            (Some(a), Some(b)) => {
                ours.extend(theirs);
                ours.retain(|rank| *rank <= a.min(b));
                ours.sort_unstable_by(|a, b| b.cmp(a));
            }
            _ => ours.clear(),
        }
        self.float |= other.float;
        self.keep = self.keep.max(other.keep);
        (self.count, self.known) = (self.count.saturating_add(other.count), None);
        match ours[..] {
            [] => self.forget(),
            [only] => (self.end, self.behind, self.starved) = (only, only, false),
            _ => {
                (self.known, self.starved) = (Some(Box::new(ours)), false);
                self.shorten();
            }
        }
    }

    /// Takes out all values of another, which were added: if the extreme one may be among them, which it then is
    /// is not known.
    pub(super) fn unmerge(&mut self, other: &Extreme) {
        if other.count == 0 {
            return;
        }
        self.count = self.count.saturating_sub(other.count);
        if self.count == 0 || self.starved || other.starved || other.end <= self.end {
            self.forget();
        } else {
            (self.known, self.behind, self.keep) = (None, self.end, 1);
        }
    }

    /// Adds all values of another to be read once: of the sum nothing is known but which is the extreme one.
    #[inline]
    pub(super) fn join(&mut self, other: &Extreme) {
        if other.count == 0 {
            return;
        }
        self.starved = self.is_starved() || other.starved;
        if self.count == 0 {
            (self.end, self.float) = (other.end, other.float);
        }
        self.end = self.end.min(other.end);
        (self.behind, self.known) = (self.end, None);
        self.count = self.count.saturating_add(other.count);
    }

    /// The rank of the extreme value, not turned; none where it is not known.
    #[inline]
    pub(super) fn end_rank(&self) -> Option<i64> {
        (self.count > 0 && !self.starved).then_some(self.end ^ i64::from(self.turn))
    }

    /// Whether the values are floats.
    #[inline]
    pub(super) fn is_float(&self) -> bool {
        self.float
    }

    /// Learns which value is the extreme one, by its rank, where it is not known.
    pub(super) fn tell(&mut self, rank: i64) {
        if self.is_starved() {
            let rank = rank ^ i64::from(self.turn);
            (self.end, self.behind, self.starved, self.keep) = (rank, rank, false, 1);
        }
    }

    /// Lets go of the values furthest from the end if too many are kept.
    fn shorten(&mut self) {
        let keep = self.keep.max(KEEP) as usize;
        if let Some(known) = &mut self.known {
            let over = known.len().checked_sub(2 * keep).map_or(0, |over| over + keep);
            known.drain(..over);
        }
        self.note();
    }

    pub(super) fn save(&self, out: &mut Writer) {
        let any = self.count > 0;
        out.byte(u8::from(self.float && any)).count(u64::from(self.count));
    }

    /// One that knows of so many values and of none which it is.
    pub(super) fn restore(&self, bytes: &mut Reader<'_>) -> Option<Extreme> {
        let (float, count) = (bytes.truth()?, u32::try_from(bytes.count()?).ok()?);
        Some(Extreme { float, count, starved: count > 0, ..Extreme::new(self.is_greatest()) })
            .filter(|e| !float || e.count > 0)
    }

    /// The extreme value; none over no values.
    #[inline]
    pub fn get(&self) -> Option<End> {
        if self.count == 0 || self.starved {
            return None;
        }
        let rank = self.end ^ i64::from(self.turn);
        Some(if self.float { End::Float(float_of(rank)) } else { End::Int(rank) })
    }

    /// Takes out all values.
    pub fn clear(&mut self) {
        (self.count, self.gone, self.keep, self.starved) = (0, 0, 1, false);
        if self.known.is_some() {
            self.forget();
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        let ranks = |known: &Vec<i64>| size_of::<Vec<i64>>() + known.capacity() * size_of::<i64>();
        self.known.as_deref().map_or(0, ranks)
    }

    #[inline]
    fn rank(&self, value: &Value) -> Option<i64> {
        turned(value, i64::from(self.turn))
    }
}

/// The rank of a number, the greatest as the least where that is the end asked for.
#[inline]
fn turned(value: &Value, turn: i64) -> Option<i64> {
    let rank = match value {
        Value::Int(i) => *i,
        Value::Float(x) => rank(*x),
        _ => return None,
    };
    Some(rank ^ turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slides over a series and compares with a search; counts the values looked at to refill.
    fn slide(series: &[f64], window: usize, greatest: bool) -> usize {
        let mut extreme = Extreme::new(greatest);
        let mut looked_at = 0;
        for end in 0..series.len() {
            let start = end.saturating_sub(window - 1);
            extreme.insert(&Value::Float(series[end]));
            if end >= window {
                extreme.remove(&Value::Float(series[end - window]));
            }
            let values: Vec<Value> = series[start..=end].iter().map(|x| Value::Float(*x)).collect();
            if extreme.is_starved() {
                looked_at += values.len();
                extreme.refill(values.iter().cloned());
            }
            let naive = if greatest { values.iter().max() } else { values.iter().min() };
            assert_eq!(extreme.get().map(End::value).as_ref(), naive, "{end}");
            assert!(extreme.bytes() <= 24 + 8 * 4 * window.max(KEEP as usize));
        }
        looked_at
    }

    #[test]
    fn every_series_costs_little() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f64
        };
        let n = 20_000;
        let random: Vec<f64> = (0..n).map(|_| random()).collect();
        let rising: Vec<f64> = (0..n).map(|i| i as f64).collect();
        let falling: Vec<f64> = rising.iter().map(|x| -x).collect();
        let saw: Vec<f64> = (0..n).map(|i| f64::from(i % 777)).collect();
        let same = vec![1.0; n as usize];
        for series in [random, rising, falling, saw, same] {
            for window in [1, 2, 17, 500] {
                for greatest in [false, true] {
                    let looked_at = slide(&series, window, greatest);
                    assert!(looked_at < 4 * n as usize, "{window}: {looked_at}");
                }
            }
        }
    }

    #[test]
    fn the_way_does_not_show() {
        let mut extreme = Extreme::new(true);
        let values = [3, 1, 4, 1, 5, 9, 2, 6].map(Value::Int);
        values.iter().for_each(|v| extreme.insert(v));
        extreme.insert(&Value::Null);
        assert_eq!(extreme.get().map(End::value), Some(Value::Int(9)));
        extreme.remove(&Value::Int(9));
        assert!(extreme.get().is_none() && extreme.is_starved());
        extreme.refill(values.iter().filter(|v| **v != Value::Int(9)).cloned());
        assert_eq!(extreme.get().map(End::value), Some(Value::Int(6)));
        extreme.clear();
        assert!(extreme.get().is_none() && !extreme.is_starved());
    }
}
