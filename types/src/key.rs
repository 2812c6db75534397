//! Keys: a stable 128-bit hash of the typed values, its key group and the worker that owns it.
//!
//! The hash is XXH3-128, a published and frozen function: it may be written to disk and compared
//! across builds. A value is tagged by its type, so that 1 and "1" are different keys.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::Value;

/// State is divided into so many groups, for every number of workers.
pub const KEY_GROUPS: u64 = 4096;

/// A key's hash. Equal values give equal keys on every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key(pub u128);

impl Key {
    /// The key of no columns: one for the whole stream.
    pub const GLOBAL: Key = Key(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);

    /// The key of these values, or nothing if one of them is NULL: a NULL key matches nothing.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a Value>) -> Option<Key> {
        let mut bytes = Vec::with_capacity(32);
        for value in values {
            if value.is_null() {
                return None;
            }
            canonical(value, &mut bytes);
        }
        Some(Key::of_bytes(&bytes))
    }

    /// The key of the canonical bytes of values, none of which is NULL.
    pub fn of_bytes(bytes: &[u8]) -> Key {
        if bytes.is_empty() { Key::GLOBAL } else { Key(xxh3_128(bytes)) }
    }

    /// The key group, 0 to 4,095.
    pub fn group(self) -> u64 {
        (self.0 >> 116) as u64
    }

    /// Which of `peers` workers owns this key.
    pub fn worker(self, peers: usize) -> usize {
        (self.group() * peers as u64 / KEY_GROUPS) as usize
    }
}

/// Appends the canonical bytes of a value: a type tag, then the value so that equal values, and
/// only they, give equal bytes. Whole floats are not made equal to integers: a column has one type.
pub fn canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0),
        Value::Bool(b) => canonical_bool(*b, out),
        Value::Int(i) => canonical_int(*i, out),
        Value::Float(f) => canonical_float(*f, out),
        Value::Text(text) => canonical_text(text, out),
        Value::List(items) => {
            out.push(5);
            out.extend((items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| canonical(item, out));
        }
        Value::Map(entries) => {
            out.push(6);
            out.extend((entries.len() as u64).to_le_bytes());
            for (key, value) in entries.iter() {
                canonical_text(key, out);
                canonical(value, out);
            }
        }
    }
}

/// See [`canonical`].
pub fn canonical_bool(b: bool, out: &mut Vec<u8>) {
    out.extend([1, u8::from(b)]);
}

/// See [`canonical`].
pub fn canonical_int(i: i64, out: &mut Vec<u8>) {
    out.push(2);
    out.extend(i.to_le_bytes());
}

/// See [`canonical`]. One zero and one NaN, as the order of values has it.
pub fn canonical_float(f: f64, out: &mut Vec<u8>) {
    let f = match f {
        0.0 => 0.0,
        f if f.is_nan() => f64::NAN,
        f => f,
    };
    out.push(3);
    out.extend(f.to_bits().to_le_bytes());
}

/// See [`canonical`].
pub fn canonical_text(text: &str, out: &mut Vec<u8>) {
    out.push(4);
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The 64-bit hash by which a category is known to models; never 0, which stands for NULL.
pub fn category(text: &str) -> u64 {
    xxh3_64(text.as_bytes()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_frozen_and_typed() {
        let of = |v: Value| Key::of([&v]);
        assert_eq!(of(Value::Null), None);
        assert_ne!(of(Value::Int(1)), of(Value::Text("1".into())));
        assert_eq!(of(Value::Float(-0.0)), of(Value::Float(0.0)));
        assert_eq!(Key::of([]), Some(Key::GLOBAL));
        // A change of this constant would orphan every state and file ever written.
        assert_eq!(of(Value::Text("UA".into())).map(|k| k.group()), Some(FROZEN_GROUP));
    }

    const FROZEN_GROUP: u64 = 228;

    #[test]
    fn every_worker_gets_its_share() {
        for peers in 1..=5 {
            let mut counts = vec![0; peers];
            for i in 0..10_000 {
                counts[Key::of([&Value::Int(i)]).map_or(0, |k| k.worker(peers))] += 1;
            }
            assert!(counts.iter().all(|&c| c > 10_000 / peers * 9 / 10), "{counts:?}");
        }
    }
}
