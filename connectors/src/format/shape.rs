//! The common shape of JSON records: the same keys in the same order as the record before, written the
//! same way, with plain values. Such records are read by comparing what stands between the values and
//! scanning the values, eight or sixteen bytes at a time in a word (Lemire, "Number parsing at a gigabyte per
//! second", 2021, has the digits): a loop over bytes ends somewhere else in each number, which processors cannot
//! foresee. The record is copied to where zeros follow it, so that no word is cut short by its end.
//!
//! It is a shortcut and no second opinion: whatever is not exactly of this form (an escape, a nested
//! value, another order, a value of another type, a float that needs care, any mistake) is left to
//! the general parser, so that there is one rule of what a record means. `tests/json_shape.rs` holds the
//! two equal.

use tidemill_types::time::from_rfc3339;
use tidemill_types::{DataType, Field};
use wide::u8x16;

use super::rows::Rows;

/// What stands between the values of a record, learnt from one that the general parser took.
pub(super) struct Shape {
    slots: Vec<Slot>,
    /// What stands behind the last value.
    tail: Vec<u8>,
    /// Whether every column has its slot.
    complete: bool,
    /// The record under way, and [`MARGIN`] zeros.
    padded: Vec<u8>,
}

/// Zeros behind a record: what is read at once of it, which may begin at its end.
const MARGIN: usize = 16;

/// A value of the record.
struct Slot {
    /// What stands before it, from the end of the value before: `,"amount":`.
    head: Head,
    /// Its column and type; none for a key that is not declared.
    column: Option<(usize, DataType)>,
}

/// Bytes to compare with: the first sixteen at once, for most heads are shorter and a call to compare them costs
/// more than the comparison.
struct Head {
    first: u8x16,
    /// All bits of those bytes that count.
    counts: u8x16,
    rest: Vec<u8>,
    len: usize,
}

impl Head {
    fn new(head: &[u8]) -> Head {
        let at = |at: usize| head.get(at).copied();
        Head {
            first: u8x16::new(std::array::from_fn(|n| at(n).unwrap_or(0))),
            counts: u8x16::new(std::array::from_fn(|n| at(n).map_or(0, |_| 0xff))),
            rest: head.get(16..).unwrap_or_default().to_vec(),
            len: head.len(),
        }
    }

    /// Where it ends, if it stands here.
    #[inline(always)]
    fn end(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let chunk = u8x16::new(*sixteen(bytes, at)?);
        let is_same = (chunk & self.counts).simd_eq(self.first).to_bitmask() == 0xffff;
        let is_longer = !self.rest.is_empty();
        if !is_same || is_longer && !bytes[at + 16..].starts_with(&self.rest) {
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
        let mut padded = Vec::new();
        pad(text, &mut padded);
        let bytes = padded.as_slice();
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
        if slots.is_empty() || *bytes.get(at)? != b'}' || blank(bytes, at + 1) != text.len() {
            return None;
        }
        let of =
            |column: usize| slots.iter().filter(move |s| s.column.is_some_and(|c| c.0 == column));
        if (0..fields.len()).any(|column| of(column).count() > 1) {
            return None;
        }
        let complete = (0..fields.len()).all(|column| of(column).count() == 1);
        let tail = text.as_bytes()[from..].to_vec();
        Some(Shape { slots, tail, complete, padded })
    }

    /// Appends the record as a row, if it has this shape; else leaves `rows` as it was.
    pub(super) fn read(&mut self, text: &str, rows: &mut Rows) -> bool {
        pad(text, &mut self.padded);
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
        let bytes = self.padded.as_slice();
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
                    let (value, end) = float(bytes, at)?;
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
        (text.as_bytes().get(at..)? == self.tail).then_some(())
    }
}

/// A record and the zeros behind it.
#[inline]
fn pad(text: &str, padded: &mut Vec<u8>) {
    padded.clear();
    padded.extend_from_slice(text.as_bytes());
    padded.extend_from_slice(&[0; MARGIN]);
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

/// The eight bytes at a place in one word, the first of them lowest; none behind the end of the record.
#[inline(always)]
fn eight(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Sixteen bytes likewise, as they stand.
#[inline(always)]
fn sixteen(bytes: &[u8], at: usize) -> Option<&[u8; 16]> {
    bytes.get(at..)?.first_chunk()
}

/// The end of a string without escapes.
#[inline(always)]
fn string(bytes: &[u8], at: usize) -> Option<usize> {
    if *bytes.get(at)? != b'"' {
        return None;
    }
    let mut end = at + 1;
    loop {
        let chunk = u8x16::new(*sixteen(bytes, end)?);
        let is = |byte: u8| chunk.simd_eq(u8x16::splat(byte));
        let control = chunk.min(u8x16::splat(b' ' - 1)).simd_eq(chunk);
        match (is(b'"') | is(b'\\') | control).to_bitmask() {
            0 => end += 16,
            marks => {
                end += marks.trailing_zeros() as usize;
                return (bytes[end] == b'"').then_some(end + 1);
            }
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
        _ => {
            let (_, start) = sign(bytes, at)?;
            match Plain::at(bytes, start) {
                Some(plain) => Some(plain.end),
                None => number(bytes, start).map(|number| number.end),
            }
        }
    }
}

/// A number without sign and exponent, of less than sixteen bytes: as most are.
struct Plain {
    /// Digits before the point, and behind it.
    whole: usize,
    places: usize,
    /// Where it begins and ends.
    start: usize,
    end: usize,
}

impl Plain {
    /// The number at a place; none if there is no such one, whatever there is.
    #[inline(always)]
    fn at(bytes: &[u8], start: usize) -> Option<Plain> {
        let chunk = sixteen(bytes, start)?;
        let others = no_digits(chunk);
        let whole = others.trailing_zeros() as usize;
        if whole == 0 || whole > 1 && chunk[0] == b'0' {
            return None;
        }
        let (mut len, mut places) = (whole, 0);
        let mut stop = *chunk.get(whole)?;
        if stop == b'.' {
            len = (others & (others - 1)).trailing_zeros() as usize;
            places = len - whole - 1;
            stop = *chunk.get(len)?;
            if places == 0 {
                return None;
            }
        }
        if stop | 0x20 == b'e' {
            return None;
        }
        Some(Plain { whole, places, start, end: start + len })
    }

    /// All its digits as one number, below 10^15.
    #[inline(always)]
    fn mantissa(&self, bytes: &[u8]) -> u64 {
        let whole = few_digits(bytes, self.start, self.whole);
        match self.places {
            0 => whole,
            n => whole * SHIFTS[n] + few_digits(bytes, self.start + self.whole + 1, n),
        }
    }
}

/// Which of sixteen bytes are no digits, a bit each, the first of them lowest; and all that would follow.
#[inline(always)]
fn no_digits(chunk: &[u8; 16]) -> u32 {
    let digits = u8x16::new(*chunk) - u8x16::splat(b'0');
    !digits.min(u8x16::splat(9)).simd_eq(digits).to_bitmask()
}

/// The digit zero, eight times.
const ZEROS: u64 = u64::MAX / 255 * b'0' as u64;

/// The number that so many digits make, 1 to 16.
#[inline(always)]
fn few_digits(bytes: &[u8], at: usize, n: usize) -> u64 {
    let eight_at = |at| eight(bytes, at).unwrap_or_default() ^ ZEROS;
    // Zeros are put before the digits, and what is behind them goes.
    if n <= 8 {
        return eight_digits(eight_at(at) << (64 - 8 * n));
    }
    let first = eight_digits(eight_at(at) << (128 - 8 * n));
    first * SHIFTS[8] + eight_digits(eight_at(at + n - 8))
}

/// What a number is multiplied by where so many digits follow it.
const SHIFTS: [u64; 17] = {
    let mut shifts = [1; 17];
    let mut n = 1;
    while n < shifts.len() {
        shifts[n] = 10 * shifts[n - 1];
        n += 1;
    }
    shifts
};

/// The place behind digits, and the number that they make of `value`, as far as 64 bits hold it.
#[inline(always)]
fn digits(bytes: &[u8], mut at: usize, mut value: u64) -> Option<(u64, usize)> {
    loop {
        let n = no_digits(sixteen(bytes, at)?).trailing_zeros() as usize;
        if n > 0 {
            value = value.wrapping_mul(SHIFTS[n]).wrapping_add(few_digits(bytes, at, n));
            at += n;
        }
        if n < 16 {
            return Some((value, at));
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
#[inline(always)]
fn whole(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let (negative, start) = sign(bytes, at)?;
    let (value, end) = match Plain::at(bytes, start) {
        Some(plain) if plain.places == 0 => (plain.mantissa(bytes), plain.end),
        _ => {
            let (value, end) = digits(bytes, start, 0)?;
            let n = end - start;
            if n == 0 || n > 18 || (n > 1 && bytes[start] == b'0') {
                return None;
            }
            (value, end)
        }
    };
    if negative && value == 0 {
        return None;
    }
    let value = value as i64;
    Some((if negative { -value } else { value }, end))
}

/// Whether a number is negative, and where its digits begin.
#[inline(always)]
fn sign(bytes: &[u8], at: usize) -> Option<(bool, usize)> {
    let negative = *bytes.get(at)? == b'-';
    Some((negative, at + usize::from(negative)))
}

/// A number as it is written, without its sign.
struct Number {
    /// All digits as one number, where there are at most 19.
    mantissa: u64,
    digits: usize,
    /// Digits behind the point.
    places: usize,
    /// Whether an exponent follows.
    scientific: bool,
    end: usize,
}

/// Any number by the grammar of JSON, without its sign.
#[inline(never)]
fn number(bytes: &[u8], start: usize) -> Option<Number> {
    let (mut mantissa, mut end) = digits(bytes, start, 0)?;
    let mut all = end - start;
    if all == 0 || (all > 1 && bytes[start] == b'0') {
        return None;
    }
    let mut places = 0;
    if bytes[end] == b'.' {
        let first = end + 1;
        (mantissa, end) = digits(bytes, first, mantissa)?;
        places = end - first;
        if places == 0 {
            return None;
        }
        all += places;
    }
    let scientific = matches!(bytes[end], b'e' | b'E');
    if scientific {
        let sign = end + 1;
        let first = sign + usize::from(matches!(bytes[sign], b'+' | b'-'));
        end = digits(bytes, first, 0)?.1;
        if end == first {
            return None;
        }
    }
    Some(Number { mantissa, digits: all, places, scientific, end })
}

/// A number as the float nearest to it.
///
/// Both operands are floats exactly where the digits make at most 2^53 and the power of ten is at most
/// 22, so that one division rounds once (Clinger, "How to Read Floating Point Numbers Accurately",
/// 1990). Otherwise the standard library reads it, which rounds correctly too.
#[inline(always)]
fn float(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    let (negative, start) = sign(bytes, at)?;
    let signed = |value: f64| if negative { -value } else { value };
    if let Some(plain) = Plain::at(bytes, start) {
        let value = plain.mantissa(bytes) as f64 / TENS[plain.places];
        return Some((signed(value), plain.end));
    }
    let number = number(bytes, start)?;
    let is_exact = number.digits <= 19
        && number.mantissa <= EXACT
        && number.places < TENS.len()
        && !number.scientific;
    let value = if is_exact {
        number.mantissa as f64 / TENS[number.places]
    } else {
        let text = std::str::from_utf8(&bytes[start..number.end]).ok()?;
        text.parse::<f64>().ok().filter(|value| value.is_finite())?
    };
    Some((signed(value), number.end))
}
