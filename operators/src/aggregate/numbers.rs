//! The running numbers of one column in one window: how many there are, their exact sum and sum of
//! squares, and both ends.
//!
//! While they are of similar size, sum and squares are counted in units of `2^base` and `2^(2 base)`: a
//! number that comes or goes is a shift and an addition to each. What does not fit goes on in an
//! [`ExactSum`] and a [`SumSquares`] of its own, and comes back. Either way nothing is rounded before it is
//! read, so that all of it is a function of the multiset of numbers.

use tidemill_types::Value;

use super::Primitive;
use super::bytes::{Reader, Writer};
use super::exact_sum::{ExactSum, NO_BASE, Rounded, Special, dyadic};
use super::extreme::Extreme;
use super::hundredths::{Hundredths, Part};
use super::ordered::{float_of, rank_of_finite};
use super::squares::SumSquares;
use super::units::{Sums, Units};
use super::wide::Wide;

/// How many numbers are taken beyond the common base between two looks whether it would do again.
const BACK_EVERY: u32 = 256;

/// Which of a column's numbers are asked for, besides how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    pub(crate) sum: bool,
    pub(crate) squares: bool,
    pub(crate) least: bool,
    pub(crate) greatest: bool,
}

impl Asks {
    /// With another primitive; false if that is none of numbers.
    pub(crate) fn add(&mut self, primitive: Primitive) -> bool {
        match primitive {
            Primitive::Sum => self.sum = true,
            // Its readers compare it with the sum.
            Primitive::SumSquares => (self.sum, self.squares) = (true, true),
            Primitive::Least => self.least = true,
            Primitive::Greatest => self.greatest = true,
            _ => return false,
        }
        true
    }

    fn byte(self) -> u8 {
        let bit = |asked: bool, bit: u8| u8::from(asked) << bit;
        bit(self.sum, 0) | bit(self.squares, 1) | bit(self.least, 2) | bit(self.greatest, 3)
    }
}

/// A number as all of these take it: taken apart once.
#[derive(Clone, Copy)]
pub struct Number {
    part: Part,
    /// A whole number is its own.
    rank: i64,
    float: bool,
}

impl Number {
    /// A float, which must be finite.
    #[inline(always)]
    pub fn of_float(x: f64) -> Number {
        Number { part: Part::of_float(x), rank: rank_of_finite(x), float: true }
    }

    /// A whole number.
    #[inline(always)]
    pub fn of_int(i: i64) -> Number {
        Number { part: Part::of_int(i), rank: i, float: false }
    }

    /// It is `m * 2^e`.
    fn dyadic(&self) -> (i64, i32) {
        if self.float { dyadic(float_of(self.rank)) } else { (self.rank, 0) }
    }
}

/// See the head of this file. A few nanoseconds a number, some tens where sizes differ by more than 2^60.
#[derive(Clone, Debug)]
pub struct Numbers {
    sums: Sums,
    count: u64,
    asks: Asks,
    least: Extreme,
    greatest: Extreme,
    beyond: Option<Box<Beyond>>,
}

/// What has no common base.
#[derive(Clone, Debug, Default)]
struct Beyond {
    special: Special,
    finite: Option<(ExactSum, SumSquares)>,
    age: u32,
}

impl Numbers {
    /// Over none.
    pub fn new(asks: Asks) -> Numbers {
        Numbers {
            sums: Sums::default(),
            count: 0,
            asks,
            least: Extreme::new(false),
            greatest: Extreme::new(true),
            beyond: None,
        }
    }

    /// What is asked of them.
    pub fn asks(&self) -> Asks {
        self.asks
    }

    /// Takes a finite number in or out.
    #[inline(always)]
    pub fn step<const IN: bool>(&mut self, number: &Number) {
        let Number { part, rank, float } = *number;
        self.count = if IN { self.count + 1 } else { self.count.saturating_sub(1) };
        if self.asks.sum {
            match &mut self.sums {
                Sums::Hundredths(sums) if part.is_near && Hundredths::holds(self.count) => {
                    sums.step::<IN>(part, self.asks.squares);
                }
                _ => self.step_units::<IN>(number),
            }
        }
        self.step_ends::<IN>(rank, float);
    }

    #[inline(always)]
    fn step_ends<const IN: bool>(&mut self, rank: i64, float: bool) {
        let step = |extreme: &mut Extreme| match IN {
            true => extreme.insert_number(rank, float),
            false => extreme.remove_number(rank),
        };
        if self.asks.least {
            step(&mut self.least);
        }
        if self.asks.greatest {
            step(&mut self.greatest);
        }
    }

    /// What is no hundredth, or is among others that are none.
    #[inline(never)]
    fn step_units<const IN: bool>(&mut self, number: &Number) {
        let ((m, e), part) = (number.dyadic(), number.part);
        if m == 0 {
            return;
        }
        let squares = self.asks.squares;
        if let Sums::Hundredths(sums) = &self.sums {
            match sums.units() {
                Some(units) => self.sums = Sums::Units(units),
                None => self.go_beyond(),
            }
        }
        let Sums::Units(units) = &mut self.sums else { return };
        if part.is_near && units.is_zero() && Hundredths::holds(self.count) {
            let mut sums = Hundredths::default();
            sums.step::<IN>(part, squares);
            self.sums = Sums::Hundredths(sums);
        } else if !units.step::<IN>(m, e, squares) {
            self.step_beyond::<IN>(m, e);
        }
    }

    #[cold]
    fn step_beyond<const IN: bool>(&mut self, m: i64, e: i32) {
        self.go_beyond();
        let Some(beyond) = &mut self.beyond else { return };
        let Some(finite) = &mut beyond.finite else { return };
        finite.0.step::<IN>(m, e);
        if self.asks.squares {
            finite.1.step::<IN>(m, e);
        }
        beyond.age = beyond.age.wrapping_add(1);
        if beyond.age.is_multiple_of(BACK_EVERY) || self.count == 0 {
            self.come_back();
        }
    }

    /// Goes on without a common base.
    fn go_beyond(&mut self) {
        let beyond = self.beyond.get_or_insert_default();
        let exact = || self.sums.exact();
        beyond.finite.get_or_insert_with(exact);
        self.sums = Sums::Units(Units { base: NO_BASE, ..Units::default() });
    }

    /// Goes on with a common base where there is one again.
    fn come_back(&mut self) {
        let Some(beyond) = &mut self.beyond else { return };
        let Some((sum, squares)) = &beyond.finite else { return };
        let Some(units) = Units::of(sum, squares) else { return };
        beyond.finite = None;
        self.sums = Sums::Units(units);
        if beyond.special.is_empty() {
            self.beyond = None;
        }
    }

    /// Takes in or out what is not finite.
    #[inline(never)]
    pub fn step_special<const IN: bool>(&mut self, x: f64) {
        self.count = if IN { self.count + 1 } else { self.count.saturating_sub(1) };
        if self.asks.sum {
            let beyond = self.beyond.get_or_insert_default();
            beyond.special.change(x, |n| *n = if IN { *n + 1 } else { n.saturating_sub(1) });
            if beyond.special.is_empty() && beyond.finite.is_none() {
                self.beyond = None;
            }
        }
        self.step_ends::<IN>(Extreme::rank_of(x), true);
    }

    /// Takes a value in or out; what is no number is not there. Truth counts as 0 and 1.
    #[inline]
    pub fn step_value<const IN: bool>(&mut self, value: &Value) {
        match value {
            Value::Int(i) => self.step::<IN>(&Number::of_int(*i)),
            Value::Bool(b) => self.step::<IN>(&Number::of_int(i64::from(*b))),
            Value::Float(x) if x.is_finite() => self.step::<IN>(&Number::of_float(*x)),
            Value::Float(x) => self.step_special::<IN>(*x),
            _ => {}
        }
    }

    /// Takes out all.
    pub fn clear(&mut self) {
        self.count = 0;
        self.sums = match self.sums {
            // Numbers to come are likely to be as those that were there.
            Sums::Units(Units { base, .. }) if base != NO_BASE => {
                Sums::Units(Units { base, ..Units::default() })
            }
            _ => Sums::default(),
        };
        self.beyond = None;
        self.least.clear();
        self.greatest.clear();
    }

    /// How many there are.
    #[inline]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Reads a word of each cache line that they take. What it returns means nothing.
    #[inline]
    pub(crate) fn touch(&self) -> u64 {
        let greatest = u64::from(self.greatest.is_float());
        self.count ^ u64::from(self.least.is_float()) ^ greatest ^ self.sums.touch()
    }

    /// NaN or an infinity, if there is one among them or they make one.
    #[inline]
    pub fn non_finite(&self) -> Option<f64> {
        self.beyond.as_ref()?.special.sum()
    }

    fn finite(&self) -> Option<&(ExactSum, SumSquares)> {
        self.beyond.as_ref()?.finite.as_ref()
    }

    /// The sum of the finite ones, rounded once.
    #[inline]
    pub fn sum(&self) -> Rounded {
        match self.finite() {
            Some((sum, _)) => sum.rounded(),
            None => self.sums.sum(),
        }
    }

    /// The sum, where it is a whole number of 64 bits.
    #[inline]
    pub fn whole(&self) -> Option<i64> {
        match self.finite() {
            Some((sum, _)) => sum.to_i128().and_then(|sum| i64::try_from(sum).ok()),
            None => self.sums.whole(),
        }
    }

    /// `n * (sum of squares) - sum^2`: n^2 times the population variance, without cancellation.
    #[inline]
    pub fn deviation(&self) -> Rounded {
        match self.finite() {
            Some((sum, squares)) => squares.deviation(self.count, sum),
            None => self.sums.deviation(self.count),
        }
    }

    /// Sum and sum of squares on their own.
    fn exact(&self) -> (ExactSum, SumSquares) {
        self.finite().cloned().unwrap_or_else(|| self.sums.exact())
    }

    /// Sum and sum of squares, at any width.
    pub fn to_wide(&self) -> (Wide, Wide) {
        let (sum, squares) = self.exact();
        (sum.to_wide(), squares.to_wide())
    }

    /// Sum and sum of squares, unless some numbers have no common base or are not finite.
    #[inline]
    pub(super) fn sums(&self) -> Option<&Sums> {
        self.beyond.is_none().then_some(&self.sums)
    }

    /// An end.
    #[inline]
    pub fn end(&self, greatest: bool) -> &Extreme {
        if greatest { &self.greatest } else { &self.least }
    }

    /// Whether an end is to be told all values again.
    #[inline]
    pub fn is_starved(&self) -> bool {
        self.least.is_starved() || self.greatest.is_starved()
    }

    /// Tells an end that needs it all values again, by their ranks.
    pub fn refill<I: Iterator<Item = i64>>(&mut self, ranks: impl Fn() -> I) {
        for end in [&mut self.least, &mut self.greatest] {
            if end.is_starved() {
                end.refill_ranks(ranks());
            }
        }
    }

    /// Adds all numbers of another that is asked the same.
    pub fn merge(&mut self, other: &Numbers) {
        self.least.merge(&other.least);
        self.greatest.merge(&other.greatest);
        self.merge_sums(other);
    }

    /// The same to be read once, after which it is known no more than what is read.
    #[inline]
    pub(crate) fn join(&mut self, other: &Numbers) {
        self.least.join(&other.least);
        self.greatest.join(&other.greatest);
        self.merge_sums(other);
    }

    fn merge_sums(&mut self, other: &Numbers) {
        let near = self.sums().zip(other.sums()).and_then(|(ours, theirs)| ours.plus(theirs));
        if let Some(sums) = near {
            self.sums = sums;
            self.count = self.count.saturating_add(other.count);
            return;
        }
        let ((mut sum, mut squares), (theirs, their_squares)) = (self.exact(), other.exact());
        sum.merge(&theirs);
        squares.merge(&their_squares);
        let mut special = Special::default();
        for beyond in [&self.beyond, &other.beyond].into_iter().flatten() {
            special.merge(&beyond.special);
        }
        self.count = self.count.saturating_add(other.count);
        self.take(special, sum, squares);
    }

    /// Takes out all numbers of another, which were added. Which its ends then are is not known.
    pub(crate) fn unmerge(&mut self, other: &Numbers) {
        let ((mut sum, mut squares), (theirs, their_squares)) = (self.exact(), other.exact());
        sum.unmerge(&theirs);
        squares.unmerge(&their_squares);
        let mut special = self.beyond.as_ref().map_or_else(Special::default, |b| b.special.clone());
        other.beyond.iter().for_each(|beyond| special.unmerge(&beyond.special));
        self.count = self.count.saturating_sub(other.count);
        self.take(special, sum, squares);
        self.least.unmerge(&other.least);
        self.greatest.unmerge(&other.greatest);
    }

    /// The ranks of the ends that are known: the least of none is the greatest there is, and the reverse.
    pub(crate) fn ranks(&self) -> [i64; 2] {
        [self.least.end_rank().unwrap_or(i64::MAX), self.greatest.end_rank().unwrap_or(i64::MIN)]
    }

    /// Tells ends that are not known by their ranks.
    pub(crate) fn tell_ranks(&mut self, [least, greatest]: [i64; 2]) {
        self.least.tell(least);
        self.greatest.tell(greatest);
    }

    fn take(&mut self, special: Special, sum: ExactSum, squares: SumSquares) {
        let finite = Some((sum, squares));
        self.sums = Sums::Units(Units { base: NO_BASE, ..Units::default() });
        self.beyond = Some(Box::new(Beyond { special, finite, age: 0 }));
        self.come_back();
    }

    pub(crate) fn save(&self, out: &mut Writer) {
        let (sum, squares) = self.exact();
        out.byte(self.asks.byte()).count(self.count);
        sum.save(out);
        squares.save(out);
        out.special(self.beyond.as_ref().map(|beyond| &beyond.special));
        self.least.save(out);
        self.greatest.save(out);
    }

    /// Those that were saved. Ends are starved: the window tells them its rows at the next read.
    pub(crate) fn restore(&self, bytes: &mut Reader<'_>) -> Option<Numbers> {
        if bytes.byte()? != self.asks.byte() {
            return None;
        }
        let mut numbers = Numbers::new(self.asks);
        numbers.count = bytes.count()?;
        let (sum, squares) = (ExactSum::restore(bytes)?, SumSquares::restore(bytes)?);
        let special = bytes.special()?.map_or_else(Special::default, |special| *special);
        numbers.take(special, sum, squares);
        numbers.least = self.least.restore(bytes)?;
        numbers.greatest = self.greatest.restore(bytes)?;
        Some(numbers)
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        let finite = self.finite().map_or(0, |(sum, squares)| sum.bytes() + squares.bytes());
        let beyond = self.beyond.as_ref().map_or(0, |_| size_of::<Beyond>());
        finite + beyond + self.least.bytes() + self.greatest.bytes()
    }
}
