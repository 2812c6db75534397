//! The bytes of a saved running value: little end first, one way to say each value.
//!
//! They carry no checksum: what stores them has one. Reading refuses what is cut off, left over or out
//! of range, and never takes more memory than a small multiple of the bytes there are.

use std::sync::Arc;

use tidemill_types::Value;

use super::exact_sum::Special;
use super::wide::Wide;

/// The powers of two that a number may begin and end at: fourth powers of any f64 lie well inside.
const EXPONENTS: i32 = 8_192;

/// Writes a value part by part.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn byte(&mut self, byte: u8) -> &mut Writer {
        self.0.push(byte);
        self
    }

    pub(crate) fn count(&mut self, n: u64) -> &mut Writer {
        self.0.extend(n.to_le_bytes());
        self
    }

    pub(super) fn whole(&mut self, i: i64) -> &mut Writer {
        self.0.extend(i.to_le_bytes());
        self
    }

    /// An exact number: sign, power of two, limbs.
    pub(super) fn wide(&mut self, wide: &Wide) -> &mut Writer {
        let (negative, limbs, e) = wide.canonical();
        self.byte(u8::from(negative)).byte(limbs.len() as u8);
        self.0.extend(e.to_le_bytes());
        limbs.iter().for_each(|limb| self.0.extend(limb.to_le_bytes()));
        self
    }

    pub(super) fn special(&mut self, special: Option<&Special>) -> &mut Writer {
        let none = Special::default();
        let special = special.unwrap_or(&none);
        if special.is_empty() {
            return self.byte(0);
        }
        self.byte(1).count(special.nan).count(special.positive).count(special.negative)
    }

    /// A value; zeros are one, and so are NaNs.
    pub(super) fn value(&mut self, value: &Value) -> &mut Writer {
        match value {
            Value::Null => self.byte(0),
            Value::Bool(b) => self.byte(1).byte(u8::from(*b)),
            Value::Int(i) => self.byte(2).whole(*i),
            Value::Float(x) => {
                let x = if *x == 0.0 { 0.0 } else { *x };
                self.byte(3).count(if x.is_nan() { f64::NAN } else { x }.to_bits())
            }
            Value::Text(text) => self.byte(4).text(text),
            Value::List(items) => {
                self.byte(5).count(items.len() as u64);
                items.iter().fold(self, |out, item| out.value(item))
            }
            Value::Map(entries) => {
                self.byte(6).count(entries.len() as u64);
                entries.iter().fold(self, |out, (key, value)| out.text(key).value(value))
            }
        }
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Writer {
        self.count(text.len() as u64);
        self.0.extend(text.as_bytes());
        self
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        self.count(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// Reads what a [`Writer`] wrote.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn word<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.word::<1>().map(|[byte]| byte)
    }

    /// A byte that is 0 or 1.
    pub(super) fn truth(&mut self) -> Option<bool> {
        self.byte().filter(|byte| *byte < 2).map(|byte| byte == 1)
    }

    pub(crate) fn count(&mut self) -> Option<u64> {
        self.word().map(u64::from_le_bytes)
    }

    pub(super) fn whole(&mut self) -> Option<i64> {
        self.word().map(i64::from_le_bytes)
    }

    pub(super) fn wide(&mut self) -> Option<Wide> {
        let (negative, length) = (self.truth()?, self.byte()?);
        let e = i32::from_le_bytes(self.word()?);
        let end = e.checked_add(64 * i32::from(length))?;
        if e < -EXPONENTS || end > EXPONENTS {
            return None;
        }
        let limb = |_| self.count();
        let limbs = (0..length).map(limb).collect::<Option<Vec<u64>>>()?;
        let wide = Wide::of_signed(negative, &limbs, e);
        (wide.canonical() == (negative, limbs, e)).then_some(wide)
    }

    pub(super) fn special(&mut self) -> Option<Option<Box<Special>>> {
        if !self.truth()? {
            return Some(None);
        }
        let (nan, positive, negative) = (self.count()?, self.count()?, self.count()?);
        let special = Special { nan, positive, negative };
        (!special.is_empty()).then(|| Some(Box::new(special)))
    }

    pub(super) fn value(&mut self) -> Option<Value> {
        Some(match self.byte()? {
            0 => Value::Null,
            1 => Value::Bool(self.truth()?),
            2 => Value::Int(self.whole()?),
            3 => {
                let bits = self.count()?;
                let x = f64::from_bits(bits);
                let one =
                    bits != (-0.0f64).to_bits() && (!x.is_nan() || bits == f64::NAN.to_bits());
                Value::Float(one.then_some(x)?)
            }
            4 => Value::Text(self.text()?.into()),
            5 => {
                let length = self.count()?;
                let items: Option<Vec<Value>> = (0..length).map(|_| self.item()).collect();
                Value::List(items?.into())
            }
            6 => {
                let length = self.count()?;
                let entry = |_| Some((Arc::from(self.text()?), self.item()?));
                let entries: Vec<(Arc<str>, Value)> =
                    (0..length).map(entry).collect::<Option<_>>()?;
                let rising = entries.windows(2).all(|two| two[0].0 < two[1].0);
                Value::map(rising.then_some(entries)?)
            }
            _ => return None,
        })
    }

    /// What a list or a map holds: neither of them.
    fn item(&mut self) -> Option<Value> {
        if *self.0.first()? > 4 { None } else { self.value() }
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.count()?).ok()?;
        self.take(length)
    }

    /// Whatever was read, if nothing is left over.
    pub(crate) fn end<T>(self, read: T) -> Option<T> {
        self.0.is_empty().then_some(read)
    }
}
