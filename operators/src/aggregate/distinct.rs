//! How often each value is there: a hash multiset.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tidemill_types::{Value, key};

use super::bytes::{Reader, Writer};

/// Different values and how often each is there. The hash function has no seed; nothing is read in
/// its order.
#[derive(Clone, Debug, Default)]
pub struct Distinct {
    /// Whole numbers of 64 bits, floats or not, while there are no more than [`FEW`]: most windows are small, and
    /// these lie in a cache line or two.
    few: Vec<(i64, u64)>,
    /// All of those, once there are more, until there are none.
    whole: HashMap<i64, u64, BuildHasherDefault<Mix>>,
    /// Whether those are floats.
    float: bool,
    /// All others.
    others: HashMap<Same, u64, BuildHasherDefault<Mix>>,
}

const FEW: usize = 12;

/// A value that is no whole number; its hash agrees with its equality: one NaN.
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
            Value::Float(x) if x.is_nan() => state.write_u64(f64::NAN.to_bits()),
            Value::Float(x) => state.write_u64(x.to_bits()),
            Value::Text(text) => state.write(text.as_bytes()),
            nested @ (Value::List(_) | Value::Map(_)) => {
                let mut bytes = Vec::new();
                key::canonical(nested, &mut bytes);
                state.write(&bytes);
            }
        }
    }
}

/// The whole number that a value equals.
#[inline]
fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Int(i) => Some(*i),
        // Every float in this range that has no fraction is a whole number of 64 bits, and 2^63 is none.
        Value::Float(x) => {
            let whole = *x as i64;
            (whole as f64 == *x && whole != i64::MAX).then_some(whole)
        }
        _ => None,
    }
}

impl Distinct {
    /// Adds a value; NULL is not there.
    #[inline]
    pub fn insert(&mut self, value: &Value) {
        self.add(value, 1);
    }

    fn add(&mut self, value: &Value, n: u64) {
        let count = match whole(value) {
            Some(whole) => {
                self.float = matches!(value, Value::Float(_));
                return self.add_whole(whole, n);
            }
            None if value.is_null() => return,
            None => self.others.entry(Same(value.clone())).or_insert(0),
        };
        *count = count.saturating_add(n);
    }

    /// Adds a whole number.
    #[inline]
    pub fn insert_int(&mut self, i: i64) {
        self.float = false;
        self.add_whole(i, 1);
    }

    #[inline]
    fn add_whole(&mut self, i: i64, n: u64) {
        if self.whole.is_empty() {
            if let Some((_, count)) = self.few.iter_mut().find(|(few, _)| *few == i) {
                *count = count.saturating_add(n);
                return;
            }
            if self.few.len() < FEW {
                self.few.push((i, n));
                return;
            }
        }
        self.add_to_many(i, n);
    }

    #[inline(never)]
    fn add_to_many(&mut self, i: i64, n: u64) {
        if !self.few.is_empty() {
            self.whole.extend(self.few.drain(..));
        }
        let count = self.whole.entry(i).or_insert(0);
        *count = count.saturating_add(n);
    }

    /// Takes out one of this whole number; false if there is none.
    #[inline]
    pub fn remove_int(&mut self, i: i64) -> bool {
        if !self.whole.is_empty() {
            return take_one(&mut self.whole, i);
        }
        let Some(at) = self.few.iter().position(|(few, _)| *few == i) else { return false };
        match &mut self.few[at].1 {
            1 => drop(self.few.swap_remove(at)),
            count => *count -= 1,
        }
        true
    }

    /// Takes out one of this value; false if there is none.
    #[inline]
    pub fn remove(&mut self, value: &Value) -> bool {
        match whole(value) {
            Some(whole) => self.remove_int(whole),
            None => take_one(&mut self.others, Same(value.clone())),
        }
    }

    /// How many different values there are.
    pub fn len(&self) -> usize {
        self.few.len() + self.whole.len() + self.others.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values and how often each is there, in order.
    pub fn sorted(&self) -> Vec<(Value, u64)> {
        let number =
            |whole: i64| if self.float { Value::Float(whole as f64) } else { Value::Int(whole) };
        let few = self.few.iter().map(|(whole, n)| (number(*whole), *n));
        let whole = self.whole.iter().map(|(whole, n)| (number(*whole), *n));
        let others = self.others.iter().map(|(same, n)| (same.0.clone(), *n));
        let mut all: Vec<_> = few.chain(whole).chain(others).collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Distinct) {
        other.sorted().iter().for_each(|(value, n)| self.add(value, *n));
    }

    pub(super) fn save(&self, out: &mut Writer) {
        out.count(self.len() as u64);
        for (value, n) in self.sorted() {
            out.value(&value).count(n);
        }
    }

    pub(super) fn restore(bytes: &mut Reader<'_>) -> Option<Distinct> {
        let mut all = Distinct::default();
        let mut last = Value::Null;
        for _ in 0..bytes.count()? {
            let value = bytes.value().filter(|value| *value > last)?;
            all.add(&value, bytes.count().filter(|n| *n > 0)?);
            last = value;
        }
        Some(all)
    }

    /// Takes out all.
    pub fn clear(&mut self) {
        self.few.clear();
        self.whole.clear();
        self.others.clear();
    }

    /// Bytes on the heap, texts not counted (they are shared with the rows).
    pub fn bytes(&self) -> usize {
        let few = self.few.capacity() * size_of::<(i64, u64)>();
        few + self.whole.allocation_size() + self.others.allocation_size()
    }
}

/// Takes out one of many.
#[inline]
fn take_one<T: Eq + Hash>(counts: &mut HashMap<T, u64, BuildHasherDefault<Mix>>, one: T) -> bool {
    match counts.entry(one) {
        Entry::Occupied(mut found) if *found.get() > 1 => {
            *found.get_mut() -= 1;
            true
        }
        Entry::Occupied(found) => {
            found.remove();
            true
        }
        Entry::Vacant(_) => false,
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
