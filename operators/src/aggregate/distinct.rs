//! How often each value is there: a hash multiset.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use hashbrown::HashMap;
use tidemill_types::{Value, key};

use super::bytes::{Reader, Writer};

/// Different values and how often each is there. The hash function has no seed; nothing is read in
/// its order.
#[derive(Clone, Debug, Default)]
pub struct Distinct {
    counts: HashMap<Same, u64, BuildHasherDefault<Mix>>,
}

/// A value whose hash agrees with its equality: one zero, one NaN, whole floats equal to integers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Same(Value);

/// A multiplication a word, folded.
#[derive(Default)]
struct Mix(u64);

impl Mix {
    #[inline]
    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
        self.word(bytes.len() as u64);
    }

    #[inline]
    fn write_i64(&mut self, i: i64) {
        self.word(i as u64 ^ 0x517c_c1b7_2722_0a95);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

impl Hash for Same {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.0 {
            Value::Null => state.write_u8(0),
            Value::Bool(b) => state.write_u8(1 + u8::from(*b)),
            Value::Int(i) => state.write_i64(*i),
            Value::Float(x) => match *x as i64 {
                whole if whole as f64 == *x => state.write_i64(whole),
                _ if x.is_nan() => state.write_u64(f64::NAN.to_bits()),
                _ => state.write_u64(x.to_bits()),
            },
            Value::Text(text) => state.write(text.as_bytes()),
            nested @ (Value::List(_) | Value::Map(_)) => {
                let mut bytes = Vec::new();
                key::canonical(nested, &mut bytes);
                state.write(&bytes);
            }
        }
    }
}

impl Distinct {
    /// Adds a value; NULL is not there.
    pub fn insert(&mut self, value: &Value) {
        if !value.is_null() {
            *self.counts.entry(Same(value.clone())).or_insert(0) += 1;
        }
    }

    /// Takes out one of this value; false if there is none.
    pub fn remove(&mut self, value: &Value) -> bool {
        let key = Same(value.clone());
        match self.counts.get_mut(&key) {
            Some(1) => self.counts.remove(&key).is_some(),
            Some(count) => {
                *count -= 1;
                true
            }
            None => false,
        }
    }

    /// How many different values there are.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The values and how often each is there, in order.
    pub fn sorted(&self) -> Vec<(&Value, u64)> {
        let mut all: Vec<_> = self.counts.iter().map(|(same, n)| (&same.0, *n)).collect();
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Distinct) {
        for (same, n) in &other.counts {
            let count = self.counts.entry(same.clone()).or_insert(0);
            *count = count.saturating_add(*n);
        }
    }

    pub(super) fn save(&self, out: &mut Writer) {
        out.count(self.counts.len() as u64);
        for (value, n) in self.sorted() {
            out.value(value).count(n);
        }
    }

    pub(super) fn restore(bytes: &mut Reader<'_>) -> Option<Distinct> {
        let mut all = Distinct::default();
        let mut last = Value::Null;
        for _ in 0..bytes.count()? {
            let value = bytes.value().filter(|value| *value > last)?;
            all.counts.insert(Same(value.clone()), bytes.count().filter(|n| *n > 0)?);
            last = value;
        }
        Some(all)
    }

    /// Takes out all.
    pub fn clear(&mut self) {
        self.counts.clear();
    }

    /// Bytes on the heap, texts not counted (they are shared with the rows).
    pub fn bytes(&self) -> usize {
        self.counts.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_equality_of_values() {
        let mut distinct = Distinct::default();
        let values = [
            Value::Float(0.0),
            Value::Float(-0.0),
            Value::Int(0),
            Value::Float(f64::NAN),
            Value::Float(-f64::NAN),
            Value::Float(f64::INFINITY),
            Value::Float(9_223_372_036_854_775_808.0),
            Value::Int(i64::MAX),
            Value::Null,
            Value::Text("0".into()),
        ];
        values.iter().for_each(|v| distinct.insert(v));
        assert_eq!(distinct.len(), 6);
        assert!(distinct.remove(&Value::Float(-0.0)) && distinct.len() == 6);
        assert!(!distinct.remove(&Value::Int(7)) && !distinct.remove(&Value::Null));
        for value in values.iter().filter(|v| !v.is_null()).skip(1) {
            assert!(distinct.remove(value), "{value:?}");
        }
        assert!(distinct.is_empty());
    }
}
