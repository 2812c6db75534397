//! The common shape of JSON records: the same keys in the same order as the record before, written the
//! same way, with plain values. Such records are read by comparing what stands between the values and
//! scanning the values, eight bytes at a time in a word (Lemire, "Number parsing at a gigabyte per second",
//! 2021, has the digits): a loop over bytes ends somewhere else in each number, which processors cannot foresee.
//!
//! It is a shortcut and no second opinion: whatever is not exactly of this form (an escape, a nested
//! value, another order, a value of another type, a float that needs care, any mistake) is left to
//! the general parser, so that there is one rule of what a record means. `tests/json_shape.rs` holds the
//! two equal.

use tidemill_types::time::from_rfc3339;
use tidemill_types::{DataType, Field};

use super::rows::Rows;

/// What stands between the values of a record, learnt from one that the general parser took.
pub(super) struct Shape {
    slots: Vec<Slot>,
    /// What stands behind the last value.
    tail: Vec<u8>,
    /// Whether every column has its slot.
    complete: bool,
}

/// A value of the record.
struct Slot {
    /// What stands before it, from the end of the value before: `,"amount":`.
    head: Head,
    /// Its column and type; none for a key that is not declared.
    column: Option<(usize, DataType)>,
}

/// Bytes to compare with: the first sixteen as two words each of which tells what counts of it, for most heads are
/// shorter and a call to compare them costs more than the comparison.
struct Head {
    words: [(u64, u64); 2],
    rest: Vec<u8>,
    len: usize,
}

impl Head {
    /// None of them may be zero, which is what stands behind the end of a text.
    fn new(head: &[u8]) -> Head {
        let word = |at| {
            let counts = match head.len().saturating_sub(at) {
                n @ 0..8 => (1 << (8 * n)) - 1,
                _ => u64::MAX,
            };
            (eight(head, at), counts)
        };
        let rest = head.get(16..).unwrap_or_default().to_vec();
        Head { words: [word(0), word(8)], rest, len: head.len() }
    }

    /// Where it ends, if it stands here.
    #[inline(always)]
    fn end(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let [(first, of_first), (second, of_second)] = self.words;
        let differs =
            (eight(bytes, at) ^ first) & of_first | (eight(bytes, at + 8) ^ second) & of_second;
        let is_longer = !self.rest.is_empty();
        if differs != 0 || is_longer && !bytes.get(at + 16..)?.starts_with(&self.rest) {
            return None;
        }
        Some(at + self.len)
    }
}

/// Powers of ten that are floats exactly.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Up to here every whole number is its own float.
const EXACT: u64 = 1 << 53;

impl Shape {
    /// The shape of a record that the general parser has taken; none if it is no common one.
    pub(super) fn of(text: &str, fields: &[Field]) -> Option<Shape> {
        let bytes = text.as_bytes();
        let mut slots: Vec<Slot> = Vec::new();
        let mut from = 0;
        let mut at = blank(bytes, 0);
        let mut opening = b'{';
        loop {
            if *bytes.get(at)? != opening {
                break;
            }
            opening = b',';
            at = blank(bytes, at + 1);
            let end = string(bytes, at)?;
            let key = text.get(at + 1..end - 1)?;
            at = blank(bytes, end);
            if *bytes.get(at)? != b':' {
                return None;
            }
            at = blank(bytes, at + 1);
            let column = fields.iter().position(|field| field.name == key);
            let column = column.map(|column| (column, fields[column].data_type));
            slots.push(Slot { head: Head::new(&bytes[from..at]), column });
            at = scalar(bytes, at)?;
            from = at;
            at = blank(bytes, at);
        }
        if slots.is_empty() || *bytes.get(at)? != b'}' || blank(bytes, at + 1) != bytes.len() {
            return None;
        }
        let of =
            |column: usize| slots.iter().filter(move |s| s.column.is_some_and(|c| c.0 == column));
        if (0..fields.len()).any(|column| of(column).count() > 1) {
            return None;
        }
        let complete = (0..fields.len()).all(|column| of(column).count() == 1);
        Some(Shape { slots, tail: bytes[from..].to_vec(), complete })
    }

    /// Appends the record as a row, if it has this shape; else leaves `rows` as it was.
    pub(super) fn read(&self, text: &str, rows: &mut Rows) -> bool {
        if self.scan(text, rows).is_none() {
            rows.undo();
            return false;
        }
        if self.complete {
            rows.end_complete();
        } else {
            rows.end();
        }
        true
    }

    fn scan(&self, text: &str, rows: &mut Rows) -> Option<()> {
        let bytes = text.as_bytes();
        let mut at = 0;
        for slot in &self.slots {
            at = slot.head.end(bytes, at)?;
            let Some((column, data_type)) = slot.column else {
                at = scalar(bytes, at)?;
                continue;
            };
            let first = *bytes.get(at)?;
            if first == b'n' {
                at = word(bytes, at, b"null")?;
                rows.null(column);
                continue;
            }
            match data_type {
                DataType::Int64 => {
                    let (value, end) = whole(bytes, at)?;
                    rows.int(column, value);
                    at = end;
                }
                DataType::Float64 => {
                    let (value, end) = float(text, at)?;
                    rows.float(column, value);
                    at = end;
                }
                DataType::Timestamp if first == b'"' => {
                    let end = string(bytes, at)?;
                    rows.int(column, from_rfc3339(text.get(at + 1..end - 1)?)?);
                    at = end;
                }
                DataType::Timestamp => {
                    let (value, end) = whole(bytes, at)?;
                    rows.int(column, value);
                    at = end;
                }
                DataType::String => {
                    let end = string(bytes, at)?;
                    rows.text(column, text.get(at + 1..end - 1)?);
                    at = end;
                }
                DataType::Bool => {
                    let value = first == b't';
                    at = word(bytes, at, if value { b"true" } else { b"false" })?;
                    rows.bool(column, value);
                }
                // A record with an array has no common shape.
                DataType::List(_) | DataType::Map(_) => return None,
            }
        }
        (bytes[at..] == self.tail).then_some(())
    }
}

/// The place behind white space.
fn blank(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

fn word(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes[at..].starts_with(word).then_some(at + word.len())
}

/// The eight bytes at a place in one word, the first of them lowest; zeros where the text is over.
#[inline(always)]
fn eight(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => fewer(bytes, at),
    }
}

#[inline(never)]
fn fewer(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The same in each byte of a word.
const fn each(byte: u8) -> u64 {
    u64::MAX / 255 * byte as u64
}

/// Which bytes of a word are below `least`, at most 128, by their highest bits; of those above the first one nothing is
/// told.
#[inline(always)]
fn below(word: u64, least: u8) -> u64 {
    word.wrapping_sub(each(least)) & !word & each(0x80)
}

/// How many of the eight bytes are before the first that is marked by its highest bit.
#[inline(always)]
fn before(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// The end of a string without escapes.
#[inline(always)]
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let mut end = at + 1;
    loop {
        let word = eight(bytes, end);
        let is = |byte: u8| below(word ^ each(byte), 1);
        let n = before(is(b'"') | is(b'\\') | below(word, b' '));
        end += n;
        if n < 8 {
            return (bytes.get(end) == Some(&b'"')).then_some(end + 1);
        }
    }
}

/// The end of a value that holds no other: a string without escapes, a number, `true`, `false`, `null`.
#[inline(always)]
fn scalar(bytes: &[u8], at: usize) -> Option<usize> {
    match *bytes.get(at)? {
        b'"' => string(bytes, at),
        b't' => word(bytes, at, b"true"),
        b'f' => word(bytes, at, b"false"),
        b'n' => word(bytes, at, b"null"),
        _ => number(bytes, at).map(|number| number.end),
    }
}

/// What a number is multiplied by where so many digits follow it.
const SHIFTS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The place behind digits, and the number that they make of `value`, as far as 64 bits hold it. Eight are looked at
/// together.
#[inline(always)]
fn digits(bytes: &[u8], mut at: usize, mut value: u64) -> (u64, usize) {
    loop {
        let word = eight(bytes, at) ^ each(b'0');
        // No sum is carried into the next byte.
        let others = (((word & each(0x7f)) + each(0x7f - 9)) | word) & each(0x80);
        let n = before(others);
        if n > 0 {
            // Zeros are put before the digits, and what is behind them goes.
            let digits = word << (64 - 8 * n);
            value = value.wrapping_mul(SHIFTS[n]).wrapping_add(eight_digits(digits));
            at += n;
        }
        if n < 8 {
            return (value, at);
        }
    }
}

/// The number that eight digits make, of which the first is lowest: neighbours are put together, three times.
#[inline(always)]
fn eight_digits(digits: u64) -> u64 {
    let pairs = digits.wrapping_mul(1 + (10 << 8)) >> 8 & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(1 + (100 << 16)) >> 16 & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(1 + (10_000 << 32)) >> 32
}

/// A whole number of at most 18 digits, as JSON has it; `-0` is a float.
#[inline]
fn whole(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let negative = *bytes.get(at)? == b'-';
    let start = at + usize::from(negative);
    let (value, end) = digits(bytes, start, 0);
    let n = end - start;
    if n == 0 || n > 18 || (bytes[start] == b'0' && (n > 1 || negative)) {
        return None;
    }
    let value = value as i64;
    Some((if negative { -value } else { value }, end))
}

/// A number as it is written.
struct Number {
    negative: bool,
    /// All digits as one number, where there are at most 19.
    mantissa: u64,
    digits: usize,
    /// Digits behind the point.
    places: usize,
    /// Whether an exponent follows.
    scientific: bool,
    end: usize,
}

/// A number by the grammar of JSON.
#[inline(always)]
fn number(bytes: &[u8], at: usize) -> Option<Number> {
    let negative = *bytes.get(at)? == b'-';
    let start = at + usize::from(negative);
    let (mut mantissa, mut end) = digits(bytes, start, 0);
    let mut all = end - start;
    if all == 0 || (all > 1 && bytes[start] == b'0') {
        return None;
    }
    let mut places = 0;
    if bytes.get(end) == Some(&b'.') {
        let first = end + 1;
        (mantissa, end) = digits(bytes, first, mantissa);
        places = end - first;
        if places == 0 {
            return None;
        }
        all += places;
    }
    let scientific = matches!(bytes.get(end), Some(b'e' | b'E'));
    if scientific {
        let sign = end + 1;
        let first = sign + usize::from(matches!(bytes.get(sign), Some(b'+' | b'-')));
        end = digits(bytes, first, 0).1;
        if end == first {
            return None;
        }
    }
    Some(Number { negative, mantissa, digits: all, places, scientific, end })
}

/// A number as the float nearest to it.
///
/// Both operands are floats exactly where the digits make at most 2^53 and the power of ten is at most
/// 22, so that one division rounds once (Clinger, "How to Read Floating Point Numbers Accurately",
/// 1990). Otherwise the standard library reads it, which rounds correctly too.
#[inline]
fn float(text: &str, at: usize) -> Option<(f64, usize)> {
    let number = number(text.as_bytes(), at)?;
    let value = if number.digits <= 19
        && number.mantissa <= EXACT
        && number.places < TENS.len()
        && !number.scientific
    {
        let value = number.mantissa as f64 / TENS[number.places];
        if number.negative { -value } else { value }
    } else {
        text.get(at..number.end)?.parse::<f64>().ok().filter(|value| value.is_finite())?
    };
    Some((value, number.end))
}
