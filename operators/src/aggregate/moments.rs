//! Many moments, a column each of what they tell, so that an aggregate fills its own column in one go.

use super::exact_sum::Rounded;
use super::extreme::End;
use super::moment::Moment;
use super::numbers::Numbers;
use super::ordered::float_of;
use crate::column::Builder;

/// How many moments are told together: what is noted of them fits the nearest cache.
pub const TOGETHER: usize = 64;

/// Up to [`TOGETHER`] moments of one mark. Most are *plain*: over some numbers, all of them finite, of which what is
/// asked for is a float or a whole number of 64 bits. The others are kept as they are.
pub struct Moments {
    counts: [u64; TOGETHER],
    sums: [f64; TOGETHER],
    deviations: [f64; TOGETHER],
    /// The sum as a whole number, where that is asked for.
    wholes: [i64; TOGETHER],
    /// The ranks of the least and the greatest number, where they are asked for.
    ends: [[i64; TOGETHER]; 2],
    len: usize,
    /// Bit by bit: which are not plain.
    odd: u64,
    /// Those, with their places.
    others: Vec<(u32, Moment)>,
    /// Bit by bit: which have ends that are floats.
    float: u64,
    /// Whether sums are asked for as whole numbers, and which ends are asked for.
    asks: (bool, [bool; 2]),
}

/// What a plain moment tells.
#[derive(Clone, Copy)]
pub(super) struct Plain {
    /// At least one.
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) deviation: f64,
    pub(super) whole: i64,
}

impl Default for Moments {
    fn default() -> Moments {
        Moments {
            counts: [0; TOGETHER],
            sums: [0.0; TOGETHER],
            deviations: [0.0; TOGETHER],
            wholes: [0; TOGETHER],
            ends: [[0; TOGETHER]; 2],
            len: 0,
            odd: 0,
            others: Vec::new(),
            float: 0,
            asks: (false, [false; 2]),
        }
    }
}

impl Moments {
    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        (self.len, self.odd, self.float) = (0, 0, 0);
        self.others.clear();
    }

    /// One more, over so many rows, of which nothing else is asked.
    #[inline]
    pub(crate) fn push_count(&mut self, count: u64) {
        let at = self.len % TOGETHER;
        self.counts[at] = count;
        self.len = at + 1;
    }

    /// One more, as it is.
    pub(crate) fn push(&mut self, moment: Moment) {
        let at = self.len % TOGETHER;
        self.odd |= 1 << at;
        self.others.push((at as u32, moment));
        self.len = at + 1;
    }

    /// One more: what running numbers come to. `whole` is as in [`Moment::of`].
    #[inline]
    pub(crate) fn push_numbers(&mut self, numbers: &Numbers, whole: bool) {
        if self.note(numbers, whole).is_some() {
            self.len = self.len % TOGETHER + 1;
        } else {
            self.push(Moment::of(numbers, whole));
        }
    }

    #[inline(always)]
    fn note(&mut self, numbers: &Numbers, whole: bool) -> Option<()> {
        let (sums, asks, count) = (numbers.sums()?, numbers.asks(), numbers.count());
        if count == 0 {
            return None;
        }
        let at = self.len % TOGETHER;
        self.counts[at] = count;
        self.asks = (whole, [asks.least, asks.greatest]);
        if asks.sum {
            (self.sums[at], self.deviations[at]) = sums.plain(count, asks.squares)?;
        }
        if whole {
            self.wholes[at] = sums.whole()?;
        }
        if asks.least {
            let end = numbers.end(false);
            self.ends[0][at] = end.end_rank()?;
            self.float |= u64::from(end.is_float()) << at;
        }
        if asks.greatest {
            let end = numbers.end(true);
            self.ends[1][at] = end.end_rank()?;
            self.float |= u64::from(end.is_float()) << at;
        }
        Some(())
    }

    /// One of them.
    pub(crate) fn get(&self, at: usize) -> Moment {
        if self.odd >> at & 1 == 1 {
            let other = self.others.iter().find(|other| other.0 as usize == at);
            return other.map_or(Moment::NOTHING, |other| other.1);
        }
        let (whole, asked) = self.asks;
        let end = |greatest: usize| {
            let rank = self.ends[greatest][at];
            let end = match self.float >> at & 1 {
                1 => End::Float(float_of(rank)),
                _ => End::Int(rank),
            };
            asked[greatest].then_some(end)
        };
        let rounded = |mantissa: f64| Rounded { mantissa, exponent: 0 };
        let (sum, deviation) = (rounded(self.sums[at]), rounded(self.deviations[at]));
        let whole = whole.then_some(self.wholes[at]);
        Moment::of_parts(self.counts[at], sum, deviation, [end(0), end(1)], whole)
    }

    /// All of them, one by one.
    pub fn iter(&self) -> impl Iterator<Item = Moment> {
        (0..self.len).map(|at| self.get(at))
    }

    /// What all tell, if all are plain.
    #[inline]
    fn all_plain(&self) -> Option<impl Iterator<Item = Plain>> {
        let n = self.len;
        let columns = self.counts[..n].iter().zip(&self.sums[..n]).zip(&self.deviations[..n]);
        let all = columns.zip(&self.wholes[..n]).map(|(((count, sum), deviation), whole)| Plain {
            count: *count,
            sum: *sum,
            deviation: *deviation,
            whole: *whole,
        });
        (self.odd == 0).then_some(all)
    }

    /// Appends a float for each, given what a plain one comes to and what any does; the two agree.
    #[inline]
    pub(super) fn floats(
        &self,
        out: &mut Builder,
        plain: impl Fn(Plain) -> Option<f64>,
        any: impl Fn(&Moment) -> Option<f64>,
    ) {
        match self.all_plain() {
            Some(all) => out.floats(all.map(plain)),
            None => out.floats(self.iter().map(|moment| any(&moment))),
        }
    }

    /// The same of whole numbers.
    #[inline]
    pub(super) fn ints(
        &self,
        out: &mut Builder,
        plain: impl Fn(Plain) -> Option<i64>,
        any: impl Fn(&Moment) -> Option<i64>,
    ) {
        match self.all_plain() {
            Some(all) => out.ints(all.map(plain)),
            None => out.ints(self.iter().map(|moment| any(&moment))),
        }
    }

    /// Appends an end of each as a float.
    #[inline]
    pub(super) fn float_ends(&self, greatest: bool, out: &mut Builder) {
        let all = u64::MAX >> (TOGETHER - self.len.clamp(1, TOGETHER));
        if self.odd == 0 && self.float == all {
            let ranks = &self.ends[usize::from(greatest)][..self.len];
            out.floats(ranks.iter().map(|rank| Some(float_of(*rank))));
        } else {
            out.floats(self.iter().map(|moment| moment.end(greatest).map(End::as_f64)));
        }
    }
}
