//! The least or the greatest number of a window, without keeping all of them in order.
//!
//! Only the few values nearest to the end asked for are kept in order; of the others it is known
//! that they lie behind, and how many they are. A value that comes or goes behind costs one
//! comparison. When all that were kept have gone, the window is asked for its values again
//! ([`Extreme::refill`]); how many are kept doubles when that happens soon after the last time, so
//! that the cost a row is constant for values in random order and logarithmic at worst (values that
//! rise for ever, of which each that leaves is the least).
//!
//! So this is no function of the multiset but what is known of one: what it answers is a function, how much it
//! knows is not. What is saved is only how many values there are; what is restored asks for them again,
//! and a window that has its rows tells it.

use tidemill_types::Value;

use super::bytes::{Reader, Writer};
use super::ordered::{rank, unrank};

/// How many values are kept in order at first.
const KEEP: usize = 8;

/// One end of a multiset of numbers.
#[derive(Clone, Debug)]
pub struct Extreme {
    /// Ranks, turned so that the end asked for is the least; the least stands last.
    ends: Vec<i64>,
    /// How many values lie behind `ends[0]` or equal it.
    rest: u64,
    /// Up to twice as many are kept.
    keep: usize,
    /// Values that have gone since the last refill.
    gone: u64,
    greatest: bool,
    float: bool,
}

impl Extreme {
    /// Over no values.
    pub fn new(greatest: bool) -> Extreme {
        Extreme { ends: Vec::new(), rest: 0, keep: KEEP, gone: 0, greatest, float: false }
    }

    /// Which end it is of.
    pub fn is_greatest(&self) -> bool {
        self.greatest
    }

    /// Adds a number; NULL is not there.
    #[inline]
    pub fn insert(&mut self, value: &Value) {
        let Some(rank) = self.rank(value) else { return };
        self.float = matches!(value, Value::Float(_));
        match self.ends.first() {
            Some(&behind) if rank < behind || self.rest == 0 => {
                let place = self.ends.partition_point(|x| *x > rank);
                self.ends.insert(place, rank);
                self.shorten();
            }
            None if self.rest == 0 => self.ends.push(rank),
            _ => self.rest += 1,
        }
    }

    /// Takes out a number that was added.
    #[inline]
    pub fn remove(&mut self, value: &Value) {
        let Some(rank) = self.rank(value) else { return };
        self.gone += 1;
        match self.ends.first() {
            Some(&behind) if rank <= behind => {
                let place = self.ends.partition_point(|x| *x > rank);
                if self.ends.get(place) == Some(&rank) {
                    self.ends.remove(place);
                }
            }
            _ => self.rest = self.rest.saturating_sub(1),
        }
    }

    /// Whether there are values, and it is not known which is the extreme one.
    #[inline]
    pub fn is_starved(&self) -> bool {
        self.ends.is_empty() && self.rest > 0
    }

    /// Learns the values anew: all that are there, in any order.
    pub fn refill<'a>(&mut self, values: impl Iterator<Item = &'a Value>) {
        let mut ranks: Vec<i64> = values.filter_map(|value| self.rank(value)).collect();
        self.keep = match ranks.len() as u64 {
            n if self.gone < n => (2 * self.keep).min(ranks.len()).max(KEEP),
            n if self.gone > 8 * n => KEEP,
            _ => self.keep,
        };
        self.gone = 0;
        self.rest = ranks.len().saturating_sub(self.keep) as u64;
        if self.rest > 0 {
            ranks.select_nth_unstable(self.keep);
            ranks.truncate(self.keep);
        }
        ranks.sort_unstable_by(|a, b| b.cmp(a));
        self.ends = ranks;
    }

    /// Adds all values of another of the same end. What is known of both is known of the sum: values
    /// up to where the knowledge of either ends.
    pub fn merge(&mut self, other: &Extreme) {
        let horizon = |of: &Extreme| match (of.rest, of.ends.first()) {
            (0, _) => Some(i64::MAX),
            (_, known) => known.copied(),
        };
        let count = self.count() + other.count();
        match (horizon(self), horizon(other)) {
            (Some(a), Some(b)) => {
                self.ends.extend(&other.ends);
                self.ends.retain(|rank| *rank <= a.min(b));
                self.ends.sort_unstable_by(|a, b| b.cmp(a));
            }
            _ => self.ends.clear(),
        }
        self.float |= other.float;
        self.keep = self.keep.max(other.keep);
        self.rest = count - self.ends.len() as u64;
        self.shorten();
    }

    /// Lets go of the values furthest from the end if too many are kept.
    fn shorten(&mut self) {
        if self.ends.len() > 2 * self.keep {
            let surplus = self.ends.len() - self.keep;
            self.ends.drain(..surplus);
            self.rest += surplus as u64;
        }
    }

    /// How many values there are.
    fn count(&self) -> u64 {
        self.rest + self.ends.len() as u64
    }

    pub(super) fn save(&self, out: &mut Writer) {
        let count = self.count();
        out.byte(u8::from(self.float && count > 0)).count(count);
    }

    /// One that knows of so many values and of none which it is.
    pub(super) fn restore(&self, bytes: &mut Reader<'_>) -> Option<Extreme> {
        let (float, rest) = (bytes.truth()?, bytes.count().filter(|n| *n < 1 << 62)?);
        Some(Extreme { float, rest, ..Extreme::new(self.greatest) })
            .filter(|e| !float || e.rest > 0)
    }

    /// The extreme value; none over no values.
    #[inline]
    pub fn get(&self) -> Option<Value> {
        let rank = *self.ends.last()?;
        let rank = if self.greatest { !rank } else { rank };
        Some(if self.float { unrank(rank) } else { Value::Int(rank) })
    }

    /// Takes out all values.
    pub fn clear(&mut self) {
        self.ends.clear();
        (self.rest, self.gone, self.keep) = (0, 0, KEEP);
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.ends.capacity() * size_of::<i64>()
    }

    #[inline]
    fn rank(&self, value: &Value) -> Option<i64> {
        let rank = match value {
            Value::Int(i) => *i,
            Value::Float(x) => rank(*x),
            _ => return None,
        };
        Some(if self.greatest { !rank } else { rank })
    }
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
                extreme.refill(values.iter());
            }
            let naive = if greatest { values.iter().max() } else { values.iter().min() };
            assert_eq!(extreme.get().as_ref(), naive, "{end}");
            assert!(extreme.bytes() <= 8 * 4 * window.max(KEEP));
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
        assert_eq!(extreme.get(), Some(Value::Int(9)));
        extreme.remove(&Value::Int(9));
        extreme.remove(&Value::Int(7));
        assert_eq!(extreme.get(), Some(Value::Int(6)));
        extreme.clear();
        assert_eq!((extreme.get(), extreme.is_starved()), (None, false));
    }
}
