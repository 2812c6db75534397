//! Sums of gradients by bin, in fixed point.
//!
//! A row's gradient is a multiple of 2^-30; its second derivative and its count of one share a word
//! whose split depends on the number of rows (2^-30 again up to 262,143 rows, 2^-26 for a million).
//! Sums of integers are exact: a histogram does not depend on the order of its rows, and the parent's
//! minus a child's is the other child's to the last bit. Rounding a row to 2^-30 loses nothing that
//! sampling noise would not hide a million times over.

use super::bins::WIDTH;

/// Bins of a feature's histogram.
pub const BINS: usize = 256;

/// Sums over some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(16))]
pub struct Sum {
    gradient: i64,
    /// The second derivative in the high bits, the count in the low ones.
    weight: u64,
}

impl Sum {
    /// Adds other rows.
    #[inline]
    pub fn add(&mut self, other: Sum) {
        self.gradient = self.gradient.wrapping_add(other.gradient);
        self.weight = self.weight.wrapping_add(other.weight);
    }

    /// Without some of the rows.
    #[inline]
    pub fn minus(self, part: Sum) -> Sum {
        Sum {
            gradient: self.gradient.wrapping_sub(part.gradient),
            weight: self.weight.wrapping_sub(part.weight),
        }
    }

    /// Whether there are no rows.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.weight == 0
    }
}

/// Sums as numbers.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// The sum of first derivatives.
    pub gradient: f64,
    /// The sum of second derivatives.
    pub hessian: f64,
    /// How many rows.
    pub rows: usize,
}

/// How derivatives are made integers.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    gradient: f64,
    hessian: f64,
    /// Bits of the count.
    shift: u32,
}

impl Scale {
    /// The finest scale at which the sums over so many rows cannot overflow. For at most 2^26 rows.
    pub fn for_rows(rows: usize) -> Scale {
        let shift = usize::BITS - rows.leading_zeros();
        // Second derivatives are at most 1/4: their sum is below 2^(shift - 2).
        let fine = (66 - 2 * shift.min(30)).min(30);
        Scale { gradient: (1_u64 << 30) as f64, hessian: (1_u64 << fine) as f64, shift }
    }

    /// One row.
    #[inline]
    pub fn pack(self, gradient: f64, hessian: f64) -> Sum {
        // To the nearest by cutting, which is one instruction where `round` is a call.
        let nearest = |x: f64| (x + 0.5_f64.copysign(x)) as i64;
        let hessian = nearest(hessian * self.hessian) as u64;
        Sum { gradient: nearest(gradient * self.gradient), weight: (hessian << self.shift) | 1 }
    }

    /// The sums as numbers.
    #[inline]
    pub fn totals(self, sum: Sum) -> Totals {
        Totals {
            gradient: sum.gradient as f64 / self.gradient,
            hessian: (sum.weight >> self.shift) as f64 / self.hessian,
            rows: (sum.weight & ((1 << self.shift) - 1)) as usize,
        }
    }
}

/// One feature's histogram.
pub type Histogram = [Sum; BINS];

/// The histograms of a block of features.
pub type Block = [Histogram; WIDTH];

/// A block without rows.
pub static EMPTY: Block = [[Sum { gradient: 0, weight: 0 }; BINS]; WIDTH];

/// Adds rows to the histograms of a block of features: `sums` belong to `rows`, one for one.
pub fn add(bins: &[[u8; WIDTH]], rows: &[u32], sums: &[Sum], histograms: &mut Block) {
    for (&row, &sum) in rows.iter().zip(sums) {
        let bins = bins[row as usize];
        for (histogram, bin) in histograms.iter_mut().zip(bins) {
            histogram[usize::from(bin)].add(sum);
        }
    }
}

/// Takes a part out of histograms.
pub fn subtract(from: &mut Block, part: &Block) {
    for (sum, part) in from.as_flattened_mut().iter_mut().zip(part.as_flattened()) {
        *sum = sum.minus(*part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_sums_fit_and_come_back() {
        for rows in [1, 2, 1000, (1 << 18) - 1, 1 << 20, 1 << 26] {
            let scale = Scale::for_rows(rows);
            // The sum of `rows` equal rows, by doubling.
            let (mut sum, mut twice) = (Sum::default(), scale.pack(-1.0, 0.25));
            for bit in 0..27 {
                if rows >> bit & 1 == 1 {
                    sum.add(twice);
                }
                twice.add(twice);
            }
            let totals = scale.totals(sum);
            assert_eq!(totals.rows, rows);
            assert_eq!(totals.gradient, -(rows as f64));
            assert_eq!(totals.hessian, rows as f64 / 4.0);
        }
    }

    #[test]
    fn what_remains_is_the_other_part() {
        let scale = Scale::for_rows(7);
        let (mut a, b) = (scale.pack(0.3, 0.21), scale.pack(-0.9, 0.09));
        let first = a;
        a.add(b);
        assert_eq!(a.minus(first), b);
        assert!(a.minus(a).is_empty());
    }
}
