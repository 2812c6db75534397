//! Sum and sum of squares of numbers that have a unit in common, in two forms: as hundredths, where all are of up
//! to two decimals, and in units of one power of two.

use super::exact_sum::{ExactSum, NO_BASE, REACH, Rounded, SPARE, shift_left};
use super::hundredths::Hundredths;
use super::squares::{Count, SumSquares};

/// Either form.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sums {
    Hundredths(Hundredths),
    Units(Units),
}

/// Sums in units of `2^base` and of its square. A number that comes or goes is a shift and an addition to each.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed(8))]
pub(super) struct Units {
    pub(super) sum: i128,
    pub(super) squares: Count,
    /// [`NO_BASE`] while sum and squares are beyond.
    pub(super) base: i32,
}

impl Default for Sums {
    fn default() -> Sums {
        Sums::Hundredths(Hundredths::default())
    }
}

impl Sums {
    /// Reads a word.
    #[inline]
    pub(super) fn touch(&self) -> u64 {
        u64::from(matches!(self, Sums::Hundredths(_)))
    }

    /// The sum, rounded once.
    #[inline]
    pub(super) fn sum(&self) -> Rounded {
        match self {
            Sums::Hundredths(hundredths) => hundredths.sum(),
            Sums::Units(units) => Rounded::of(units.sum, units.base),
        }
    }

    /// The sum and, if that is asked for, [`Sums::deviation`], both without an exponent; none where one might change
    /// what is made of them.
    #[inline(always)]
    pub(super) fn plain(&self, count: u64, squares: bool) -> Option<(f64, f64)> {
        if let Sums::Hundredths(sums) = self
            && let Some(sum) = sums.near_sum()
        {
            if !squares {
                return Some((sum, 0.0));
            }
            if let Some(deviation) = sums.near_deviation(count) {
                return Some((sum, deviation));
            }
        }
        self.far_plain(count, squares)
    }

    #[inline(never)]
    fn far_plain(&self, count: u64, squares: bool) -> Option<(f64, f64)> {
        let deviation = if squares { self.deviation(count) } else { Rounded::ZERO };
        Some((self.sum().near()?, deviation.near()?))
    }

    /// The sum, where it is a whole number of 64 bits.
    #[inline]
    pub(super) fn whole(&self) -> Option<i64> {
        match self {
            Sums::Hundredths(hundredths) => hundredths.whole().or_else(|| self.far_whole()),
            Sums::Units(units) if units.base == 0 => i64::try_from(units.sum).ok(),
            Sums::Units(_) => self.far_whole(),
        }
    }

    #[cold]
    fn far_whole(&self) -> Option<i64> {
        self.exact().0.to_i128().and_then(|sum| i64::try_from(sum).ok())
    }

    /// `n * (sum of squares) - sum^2`: n^2 times the population variance, without cancellation.
    #[inline]
    pub(super) fn deviation(&self, n: u64) -> Rounded {
        let near = match self {
            Sums::Hundredths(hundredths) => hundredths.deviation(n),
            Sums::Units(units) => {
                let Units { sum, squares, base } = *units;
                squares.deviation(n, sum.unsigned_abs(), 2 * base)
            }
        };
        near.unwrap_or_else(|| self.wide_deviation(n))
    }

    /// [`Sums::deviation`] at any width.
    #[cold]
    fn wide_deviation(&self, n: u64) -> Rounded {
        let (sum, squares) = self.exact();
        squares.deviation(n, &sum)
    }

    /// What both come to, where one unit does for them.
    pub(super) fn plus(&self, other: &Sums) -> Option<Sums> {
        let units = |sums: &Sums| match sums {
            Sums::Hundredths(hundredths) => hundredths.units(),
            Sums::Units(units) => Some(*units).filter(|units| units.base != NO_BASE),
        };
        Some(Sums::Units(units(self)?.plus(&units(other)?)?))
    }

    /// Sum and sum of squares on their own.
    pub(super) fn exact(&self) -> (ExactSum, SumSquares) {
        match self {
            Sums::Hundredths(hundredths) => hundredths.exact(),
            Sums::Units(units) => {
                let Units { sum, squares, base } = *units;
                (ExactSum::of_parts(sum, base), SumSquares::of_parts(squares, 2 * base))
            }
        }
    }
}

impl Units {
    /// What these come to, where they have a base in common.
    pub(super) fn of(sum: &ExactSum, squares: &SumSquares) -> Option<Units> {
        let (value, base) = sum.parts()?;
        let (squares, double) = squares.parts()?;
        if squares.is_zero() {
            return Some(Units { sum: value, squares, base });
        }
        let half = double.div_euclid(2);
        let common = if value == 0 { half } else { base.min(half) };
        let sum = if value == 0 { 0 } else { shift_left(value, base - common)? };
        let squares = squares.shifted((double - 2 * common).unsigned_abs())?;
        Some(Units { sum, squares, base: common })
    }

    /// What both come to, in the smaller of their units; none where that is out of range.
    fn plus(&self, other: &Units) -> Option<Units> {
        if self.is_zero() || other.is_zero() {
            return Some(if self.is_zero() { *other } else { *self });
        }
        let (fine, coarse) = if self.base <= other.base { (self, other) } else { (other, self) };
        let (base, up) = (fine.base, coarse.base.checked_sub(fine.base)?);
        let (sum, squares) = (coarse.sum, coarse.squares);
        let sum = shift_left(sum, up)?.checked_add(fine.sum)?;
        let squares = squares.shifted(2 * up.unsigned_abs())?.plus(fine.squares)?;
        Some(Units { sum, squares, base })
    }

    /// Whether nothing is left of what was put in.
    #[inline]
    pub(super) fn is_zero(&self) -> bool {
        self.sum == 0 && self.squares.is_zero() && self.base != NO_BASE
    }

    /// Adds `m * 2^e` and its square, or takes them out; false, and nothing is changed, where that is out of
    /// reach.
    #[inline]
    pub(super) fn step<const IN: bool>(&mut self, m: i64, e: i32, squares: bool) -> bool {
        let up = e.wrapping_sub(self.base) as u32;
        up <= REACH && self.step_up::<IN>(m, up, squares) || self.step_lower::<IN>(m, e, squares)
    }

    #[inline]
    fn step_up<const IN: bool>(&mut self, m: i64, up: u32, squares: bool) -> bool {
        let term = i128::from(m) << up;
        let sum = if IN { self.sum.checked_add(term) } else { self.sum.checked_sub(term) };
        let Some(sum) = sum else { return false };
        if squares {
            let magnitude = u128::from(m.unsigned_abs());
            let squares = self.squares.step::<IN>(magnitude * magnitude, 2 * up);
            let Some(squares) = squares else { return false };
            self.squares = squares;
        }
        self.sum = sum;
        true
    }

    #[cold]
    fn step_lower<const IN: bool>(&mut self, m: i64, e: i32, squares: bool) -> bool {
        if self.base == NO_BASE {
            return false;
        }
        let zeros = m.trailing_zeros();
        let (m, e) = (m >> zeros, e + zeros as i32);
        self.lower(e).is_some_and(|base| self.step_up::<IN>(m, (e - base) as u32, squares))
    }

    /// Lowers the base so that numbers of this exponent and somewhat smaller ones are within reach.
    fn lower(&mut self, e: i32) -> Option<i32> {
        if self.sum == 0 && self.squares.is_zero() {
            self.base = e - SPARE;
        } else if e < self.base {
            let down = self.base - e + SPARE;
            let sum = shift_left(self.sum, down)?;
            self.squares = self.squares.shifted(2 * down.unsigned_abs())?;
            (self.sum, self.base) = (sum, self.base - down);
        }
        (e - self.base <= REACH as i32).then_some(self.base)
    }
}
