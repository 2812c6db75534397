//! A multiset in order: extrema and ranks of a window.
//!
//! Numbers are kept as integers of 8 bytes in the order of their values, other types as they are.

use tidemill_types::Value;

use super::bytes::{Reader, Writer};
use super::leaves::Leaves;

/// Values in order, each as often as it was inserted. A column has one type; should types mix, the
/// order is that of [`Value`], at three times the memory.
#[derive(Clone, Debug)]
pub enum Ordered {
    /// Whole numbers.
    Int(Leaves<i64>),
    /// Floats by [`rank`].
    Float(Leaves<i64>),
    /// Anything.
    Values(Leaves<Value>),
}

impl Default for Ordered {
    fn default() -> Ordered {
        Ordered::Values(Leaves::default())
    }
}

impl Ordered {
    /// Adds a value; NULL is not there.
    pub fn insert(&mut self, value: &Value) {
        match (&mut *self, value) {
            (_, Value::Null) => {}
            (Ordered::Int(leaves), Value::Int(i)) => leaves.insert(*i),
            (Ordered::Float(leaves), Value::Float(x)) => leaves.insert(rank(*x)),
            (this, _) if this.is_empty() => {
                *this = match value {
                    Value::Int(i) => Ordered::Int(Leaves::from_iter([*i])),
                    Value::Float(x) => Ordered::Float(Leaves::from_iter([rank(*x)])),
                    other => Ordered::Values(Leaves::from_iter([other.clone()])),
                };
            }
            (Ordered::Values(leaves), Value::Float(x)) => leaves.insert(unrank(rank(*x))),
            (Ordered::Values(leaves), other) => leaves.insert(other.clone()),
            (this, other) => {
                *this = Ordered::Values((0..this.len()).filter_map(|k| this.kth(k)).collect());
                this.insert(other);
            }
        }
    }

    /// Takes out one of this value; false if there is none.
    pub fn remove(&mut self, value: &Value) -> bool {
        match (self, value) {
            (Ordered::Int(leaves), Value::Int(i)) => leaves.remove(i),
            (Ordered::Float(leaves), Value::Float(x)) => leaves.remove(&rank(*x)),
            (Ordered::Values(leaves), value) => leaves.remove(value),
            _ => false,
        }
    }

    /// The value of rank `k`, from 0.
    pub fn kth(&self, k: usize) -> Option<Value> {
        match self {
            Ordered::Int(leaves) => leaves.kth(k).map(|i| Value::Int(*i)),
            Ordered::Float(leaves) => leaves.kth(k).map(|x| unrank(*x)),
            Ordered::Values(leaves) => leaves.kth(k).cloned(),
        }
    }

    /// The least value.
    pub fn min(&self) -> Option<Value> {
        self.kth(0)
    }

    /// The greatest value.
    pub fn max(&self) -> Option<Value> {
        self.kth(self.len().checked_sub(1)?)
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Ordered::Int(leaves) | Ordered::Float(leaves) => leaves.len(),
            Ordered::Values(leaves) => leaves.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values in order, each as often as it is there.
    pub fn iter(&self) -> Box<dyn Iterator<Item = Value> + '_> {
        match self {
            Ordered::Int(leaves) => Box::new(leaves.iter().map(|i| Value::Int(*i))),
            Ordered::Float(leaves) => Box::new(leaves.iter().map(|x| unrank(*x))),
            Ordered::Values(leaves) => Box::new(leaves.iter().cloned()),
        }
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Ordered) {
        other.iter().for_each(|value| self.insert(&value));
    }

    pub(super) fn save(&self, out: &mut Writer) {
        out.count(self.len() as u64);
        for value in self.iter() {
            out.value(&value);
        }
    }

    pub(super) fn restore(bytes: &mut Reader<'_>) -> Option<Ordered> {
        let mut all = Ordered::default();
        let mut last = Value::Null;
        for _ in 0..bytes.count()? {
            let value = bytes.value().filter(|value| !value.is_null() && *value >= last)?;
            all.insert(&value);
            last = value;
        }
        Some(all)
    }

    /// Takes out all.
    pub fn clear(&mut self) {
        *self = Ordered::default();
    }

    /// Bytes on the heap, texts not counted (they are shared with the rows).
    pub fn bytes(&self) -> usize {
        match self {
            Ordered::Int(leaves) | Ordered::Float(leaves) => leaves.bytes(),
            Ordered::Values(leaves) => leaves.bytes(),
        }
    }
}

/// An integer in the order of floats. Zeros have one, and so have NaNs: the greatest; so what is
/// read back depends on no order of arrival.
#[inline]
pub(super) fn rank(x: f64) -> i64 {
    // Of the zeros and of the NaNs one stands for all; adding 0 makes -0 one of them.
    rank_of_bits(if x.is_nan() { f64::NAN } else { x + 0.0 })
}

/// The rank of a float that is finite.
#[inline(always)]
pub(super) fn rank_of_finite(x: f64) -> i64 {
    rank_of_bits(x + 0.0)
}

#[inline(always)]
fn rank_of_bits(x: f64) -> i64 {
    let bits = x.to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

#[inline]
pub(super) fn unrank(rank: i64) -> Value {
    Value::Float(float_of(rank))
}

/// The float of a rank.
#[inline]
pub(super) fn float_of(rank: i64) -> f64 {
    f64::from_bits((rank ^ ((rank >> 63) as u64 >> 1) as i64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed walk long enough to split, drain and join leaves many times over.
    #[test]
    fn agrees_with_a_sorted_vector() {
        let (mut ordered, mut naive) = (Ordered::default(), Vec::<Value>::new());
        let mut state = 7u64;
        for step in 0..30_000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = match state >> 60 {
                0 => Value::Float(f64::NAN),
                1 => Value::Float(-0.0),
                _ => Value::Float((state >> 50) as f64),
            };
            let place = naive.partition_point(|x| *x < value);
            // Waves of growth and decline.
            if (step / 5_000).is_multiple_of(2) {
                ordered.insert(&value);
                naive.insert(place, value);
            } else {
                let there = naive.get(place) == Some(&value);
                assert_eq!(ordered.remove(&value), there);
                if there {
                    naive.remove(place);
                } else if let Some(value) = naive.pop() {
                    assert!(ordered.remove(&value));
                }
            }
            assert_eq!(ordered.len(), naive.len());
            assert_eq!(
                (ordered.min(), ordered.max()),
                (naive.first().cloned(), naive.last().cloned())
            );
            let k = (state >> 33) as usize % naive.len().max(1);
            assert_eq!(ordered.kth(k), naive.get(k).cloned());
        }
        for value in std::mem::take(&mut naive) {
            assert!(ordered.remove(&value));
        }
        assert!(ordered.is_empty() && ordered.bytes() < 1_000 && ordered.kth(0).is_none());
    }
    #[test]
    fn types_may_mix() {
        let values =
            [Value::Float(2.5), Value::Int(3), Value::Text("a".into()), Value::Float(-0.0)];
        let mut ordered = Ordered::default();
        values.iter().for_each(|v| ordered.insert(v));
        let sorted: Vec<Value> = (0..4).filter_map(|k| ordered.kth(k)).collect();
        assert_eq!(
            sorted,
            [values[3].clone(), values[0].clone(), values[1].clone(), values[2].clone()]
        );
        assert!(values.iter().all(|v| ordered.remove(v)) && ordered.is_empty());
    }

    #[test]
    fn ranks_are_in_the_order_of_values() {
        let floats =
            [f64::NEG_INFINITY, -1e300, -1.0, -5e-324, 0.0, 5e-324, 1.0, f64::INFINITY, f64::NAN];
        assert!(floats.windows(2).all(|pair| rank(pair[0]) < rank(pair[1])));
        assert!(floats.iter().all(|x| unrank(rank(*x)) == Value::Float(*x)));
        assert_eq!((rank(-0.0), rank(-f64::NAN)), (rank(0.0), rank(f64::NAN)));
    }
}
