//! A multiset in order: extrema and ranks of a window.
//!
//! Sorted leaves of at most 256 values under one row of leaves: a B-tree of two levels. An insert or
//! removal costs two binary searches and a move of at most one leaf; a rank costs a walk over the
//! lengths of the leaves from the nearer end.

use tidemill_types::Value;

const LEAF: usize = 256;

/// Values in order, each as often as it was inserted.
#[derive(Clone, Debug, Default)]
pub struct Ordered {
    /// None is empty.
    leaves: Vec<Vec<Value>>,
    len: usize,
}

impl Ordered {
    /// Adds a value; NULL is not there.
    pub fn insert(&mut self, value: &Value) {
        if value.is_null() {
            return;
        }
        self.len += 1;
        let value = canonical(value);
        let at = self.leaf_of(&value).min(self.leaves.len().saturating_sub(1));
        let Some(leaf) = self.leaves.get_mut(at) else {
            self.leaves.push(vec![value]);
            return;
        };
        leaf.insert(leaf.partition_point(|x| *x < value), value);
        if leaf.len() > LEAF {
            let upper = leaf.split_off(LEAF / 2);
            self.leaves.insert(at + 1, upper);
        }
    }

    /// Takes out one of this value; false if there is none.
    pub fn remove(&mut self, value: &Value) -> bool {
        let at = self.leaf_of(value);
        let Some(leaf) = self.leaves.get_mut(at) else { return false };
        let place = leaf.partition_point(|x| x < value);
        if leaf.get(place) != Some(value) {
            return false;
        }
        leaf.remove(place);
        self.len -= 1;
        self.balance(at);
        true
    }

    /// The value of rank `k`, from 0.
    pub fn kth(&self, k: usize) -> Option<&Value> {
        if k >= self.len {
            return None;
        }
        if k < self.len / 2 {
            let mut rank = k;
            for leaf in &self.leaves {
                match leaf.get(rank) {
                    Some(value) => return Some(value),
                    None => rank -= leaf.len(),
                }
            }
            return None;
        }
        let mut from_top = self.len - 1 - k;
        for leaf in self.leaves.iter().rev() {
            if from_top < leaf.len() {
                return leaf.get(leaf.len() - 1 - from_top);
            }
            from_top -= leaf.len();
        }
        None
    }

    /// The least value.
    pub fn min(&self) -> Option<&Value> {
        self.leaves.first()?.first()
    }

    /// The greatest value.
    pub fn max(&self) -> Option<&Value> {
        self.leaves.last()?.last()
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes out all.
    pub fn clear(&mut self) {
        self.leaves.clear();
        self.len = 0;
    }

    /// Bytes on the heap, texts not counted (they are shared with the rows).
    pub fn bytes(&self) -> usize {
        let values: usize = self.leaves.iter().map(Vec::capacity).sum();
        values * size_of::<Value>() + self.leaves.capacity() * size_of::<Vec<Value>>()
    }

    /// The first leaf that may hold the value; the number of leaves if it is greater than all.
    fn leaf_of(&self, value: &Value) -> usize {
        self.leaves.partition_point(|leaf| leaf.last().is_some_and(|last| last < value))
    }

    /// Drops an empty leaf; joins a small one with the next, so that their number follows `len`.
    fn balance(&mut self, at: usize) {
        if self.leaves[at].is_empty() {
            self.leaves.remove(at);
        } else if self.leaves[at].len() < LEAF / 4
            && self.leaves.get(at + 1).is_some_and(|next| next.len() < LEAF / 2)
        {
            let next = self.leaves.remove(at + 1);
            self.leaves[at].extend(next);
        }
    }
}

/// Values that are equal in order have one form, so that what is read depends on no order of arrival.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Float(x) if *x == 0.0 => Value::Float(0.0),
        Value::Float(x) if x.is_nan() => Value::Float(f64::NAN),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed walk long enough to split, drain and join leaves many times over.
    #[test]
    fn agrees_with_a_sorted_vector() {
        let mut ordered = Ordered::default();
        let mut naive: Vec<Value> = Vec::new();
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
            assert_eq!((ordered.min(), ordered.max()), (naive.first(), naive.last()));
            let k = (state >> 33) as usize % naive.len().max(1);
            assert_eq!(ordered.kth(k), naive.get(k));
        }
        for value in std::mem::take(&mut naive) {
            assert!(ordered.remove(&value));
        }
        assert!(ordered.is_empty() && ordered.leaves.is_empty() && ordered.kth(0).is_none());
    }
}
