//! A sum that does not depend on the order of what is summed.

/// Values are rounded to this many binary places, then summed as integers. A log loss, a
/// probability or a squared difference of two losses is below 2^11: 2^56 of them fit.
const PLACES: f64 = (1u64 << 60) as f64;

/// A sum of numbers of moderate size: within 2^-61 per summand of the true one, taken back exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sum(i128);

impl Sum {
    /// Adds a number.
    pub fn add(&mut self, x: f64) {
        self.0 += Sum::places(x);
    }

    /// Takes a number back that was added.
    pub fn subtract(&mut self, x: f64) {
        self.0 -= Sum::places(x);
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: Sum) {
        self.0 += other.0;
    }

    /// The sum.
    pub fn value(self) -> f64 {
        self.0 as f64 / PLACES
    }

    fn places(x: f64) -> i128 {
        libm::rint(x * PLACES) as i128
    }
}
