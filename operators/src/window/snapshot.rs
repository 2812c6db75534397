//! A store as bytes, and a store from bytes.
//!
//! What a window holds is a function of the rows of its key, so the rows are kept and everything else
//! is found again by inserting them. Only a window that no row ever leaves holds more: of the rows that
//! the log let go of, its counts and states are all that is left, and they are kept as they are.
//!
//! Keys are kept by *range* of key groups, so that any number of workers finds its own, and in order of
//! key, so that a range in which nothing happened gives the bytes it gave before. Numbers are seven bits
//! a byte, times as distances from the time before. There is no checksum: whoever stores them has one.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_types::{Id, Key, Micros, Value};

use super::Store;
use super::heap::Heap;
use super::history::History;
use super::layout::Layout;
use super::rank::{Name, Rank};
use super::tiles::Tiled;
use crate::column::Cell;

/// Ranges of key groups that are kept apart.
pub const RANGES: u64 = 64;

/// The form of the bytes; another one is refused.
const FORMAT: u8 = 1;

/// What a window that no row ever leaves holds of one key.
#[derive(Debug, PartialEq)]
pub(super) struct Whole {
    /// How many of the rows that the log still has are in it, from the first.
    pub(super) rows: u64,
    /// Its counts.
    pub(super) counts: Vec<u64>,
    /// Its states, each as saved.
    pub(super) states: Vec<Vec<u8>>,
}

/// What is kept of a key besides its rows, where some window is over all rows.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Kept {
    /// The position of the first row in the log.
    pub(super) base: u64,
    /// Rows that only those windows hold.
    pub(super) folded: u64,
    /// Those windows, in the order of the layout.
    pub(super) windows: Vec<Whole>,
}

impl Store {
    /// Every key with its rows, by range of key groups. Cost: one step a value held, and a sort of the keys.
    /// [`Store::begin_cut`] gives the same in many small steps.
    pub fn save(&self) -> BTreeMap<u64, Vec<u8>> {
        let mut pieces = Pieces::default();
        for (key, place) in &self.places {
            pieces.put(*key, &self.keys[*place as usize], &self.layout, &self.heap);
        }
        pieces.ranges()
    }

    /// Takes the keys of a saved range that are `mine`. Windows of the same definitions must have been
    /// saved; the store holds none of these keys.
    ///
    /// # Errors
    /// Bytes that were not saved by such a store.
    pub fn restore(&mut self, bytes: &[u8], mine: impl Fn(Key) -> bool) -> Result<(), String> {
        let broken = || "the rows of a window's key do not read back".to_string();
        let mut bytes = Bytes(bytes);
        if bytes.byte().ok_or_else(broken)? != FORMAT {
            return Err("the rows of windows are of another format".to_string());
        }
        while !bytes.0.is_empty() {
            self.restore_key(&mut bytes, &mine).ok_or_else(broken)?;
        }
        Ok(())
    }

    fn take_tiles(&self, bytes: &mut Bytes<'_>) -> Option<Tiled> {
        let mut tiled = Tiled::new(&self.layout, &self.scratch.states);
        let mut any = false;
        for (window, tiles) in self.layout.tiled().zip(&mut tiled.0) {
            for _ in 0..bytes.number()? {
                let (at, sums) = (bytes.signed()?, bytes.bytes()?);
                let ends = window.numbers.clone().flat_map(|_| [bytes.signed(), bytes.signed()]);
                tiles.hold(at, sums, &ends.collect::<Option<Vec<i64>>>()?)?;
                any = true;
            }
        }
        any.then_some(tiled)
    }

    fn restore_key(&mut self, bytes: &mut Bytes<'_>, mine: &impl Fn(Key) -> bool) -> Option<()> {
        let key = Key(u128::from_le_bytes(bytes.take(16)?.try_into().ok()?));
        let parts = bytes.byte().filter(|parts| *parts <= KEPT | TILED)?;
        let kept = if parts & KEPT > 0 { Some(take_kept(bytes)?) } else { None };
        let tiles = if parts & TILED > 0 { Some(self.take_tiles(bytes)?) } else { None };
        let mine = mine(key);
        let place = mine.then(|| self.place(key));
        if let (Some(place), Some(kept)) = (place, &kept) {
            self.keys[place as usize].begin_at(&self.layout, usize::try_from(kept.base).ok()?);
        }
        if let (Some(place), Some(tiles)) = (place, tiles) {
            self.keys[place as usize].tiles = Some(Box::new(tiles));
            self.look_again(place);
        }
        let rows = bytes.number()?;
        let columns = self.layout.columns.clone();
        let mut values: Vec<Value> = Vec::new();
        let mut time: Micros = 0;
        for _ in 0..rows {
            time = time.wrapping_add(bytes.signed()?);
            let (rank, id) = bytes.name()?;
            values.clear();
            for _ in &columns {
                values.push(bytes.value()?);
            }
            if let Some(place) = place {
                let cell = |column: usize| {
                    let kept = columns.binary_search(&column).ok();
                    kept.map_or(Cell::Null, |kept| Cell::from(&values[kept]))
                };
                self.insert_at(place, key, time, Name { rank, id: &id }, cell);
            }
        }
        match (place, kept) {
            (Some(place), Some(kept)) => self.keys[place as usize].hold(&self.layout, &kept),
            _ => Some(()),
        }
    }
}

/// Keys as bytes, in any order.
#[derive(Debug, Default)]
pub struct Pieces {
    /// By range: all bytes, and of each key where its own begin.
    ranges: BTreeMap<u64, (Vec<u8>, Vec<(Key, usize)>)>,
    bytes: usize,
}

impl Pieces {
    /// Adds a key. Cost: one step a value that it holds.
    pub(super) fn put(&mut self, key: Key, history: &History, layout: &Layout, heap: &Heap) {
        let (out, keys) = self.ranges.entry(range_of(key)).or_default();
        let before = out.len();
        keys.push((key, before));
        put_history(key, history, layout, heap, out);
        self.bytes += out.len() - before;
    }

    /// How many there are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The keys of each range in their order, which does not tell in which they were added. Cost: a sort of the
    /// keys and a copy.
    pub fn ranges(self) -> BTreeMap<u64, Vec<u8>> {
        let in_order = |(range, (bytes, mut keys)): (u64, (Vec<u8>, Vec<(Key, usize)>))| {
            let mut ends: Vec<usize> = keys.iter().skip(1).map(|(_, from)| *from).collect();
            ends.push(bytes.len());
            let mut keys: Vec<(Key, usize, usize)> =
                keys.drain(..).zip(ends).map(|((key, from), to)| (key, from, to)).collect();
            keys.sort_unstable();
            let mut out = Vec::with_capacity(1 + bytes.len());
            out.push(FORMAT);
            keys.iter().for_each(|(_, from, to)| out.extend(&bytes[*from..*to]));
            (range, out)
        };
        self.ranges.into_iter().map(in_order).collect()
    }
}

fn put_history(key: Key, history: &History, layout: &Layout, heap: &Heap, out: &mut Vec<u8>) {
    out.extend(key.0.to_le_bytes());
    let (kept, tiles) = (history.kept(layout), &history.tiles);
    out.push((u8::from(kept.is_some()) * KEPT) | (u8::from(tiles.is_some()) * TILED));
    kept.iter().for_each(|kept| put_kept(kept, out));
    tiles.iter().for_each(|tiles| put_tiles(tiles, out));
    put(history.rows() as u64, out);
    let mut before: Micros = 0;
    let columns = layout.columns.len();
    history.each_row(|row| {
        put_signed(row.time().wrapping_sub(before), out);
        before = row.time();
        put_name(row.stream(), &row.id(heap), out);
        (0..columns).for_each(|column| put_value(&row.value(column, heap), out));
    });
}

/// Kinds of ids.
const IDS: u8 = 3;

/// What of a key is kept beside its rows.
const KEPT: u8 = 1;
const TILED: u8 = 2;

fn put_tiles(tiled: &Tiled, out: &mut Vec<u8>) {
    for tiles in &tiled.0 {
        put(tiles.len() as u64, out);
        tiles.each(|at, sums, ends| {
            put_signed(at, out);
            put_bytes(sums, out);
            ends.iter().for_each(|end| put_signed(*end, out));
        });
    }
}

fn range_of(key: Key) -> u64 {
    key.group() * RANGES / tidemill_types::key::KEY_GROUPS
}

fn put(mut n: u64, out: &mut Vec<u8>) {
    while n > 0x7f {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_signed(i: i64, out: &mut Vec<u8>) {
    put(((i << 1) ^ (i >> 63)) as u64, out);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put(bytes.len() as u64, out);
    out.extend(bytes);
}

/// One byte tells what the id is and of which stream the row is; of the last stream, which is the only one of most
/// groups, what the id is alone.
fn put_name(rank: Rank, id: &Id, out: &mut Vec<u8>) {
    let stream = IDS * rank.before_last() as u8;
    match id {
        Id::Int(i) => {
            out.push(stream);
            put_signed(*i, out);
        }
        Id::Text(text) => {
            out.push(stream + 1);
            put_bytes(text.as_bytes(), out);
        }
        Id::Row(bytes) => {
            out.push(stream + 2);
            put_bytes(bytes, out);
        }
    }
}

/// A value with its very bits; lists and maps hold single values.
fn put_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(b) => out.push(1 + u8::from(*b)),
        Value::Int(i) => {
            out.push(3);
            put_signed(*i, out);
        }
        Value::Float(x) => {
            out.push(4);
            out.extend(x.to_bits().to_le_bytes());
        }
        Value::Text(text) => {
            out.push(5);
            put_bytes(text.as_bytes(), out);
        }
        Value::List(items) => {
            out.push(6);
            put(items.len() as u64, out);
            items.iter().for_each(|item| put_value(item, out));
        }
        Value::Map(entries) => {
            out.push(7);
            put(entries.len() as u64, out);
            for (key, value) in entries.iter() {
                put_bytes(key.as_bytes(), out);
                put_value(value, out);
            }
        }
        Value::Null => out.push(0),
    }
}

fn put_kept(kept: &Kept, out: &mut Vec<u8>) {
    put(kept.base, out);
    put(kept.folded, out);
    put(kept.windows.len() as u64, out);
    for window in &kept.windows {
        put(window.rows, out);
        put(window.counts.len() as u64, out);
        window.counts.iter().for_each(|count| put(*count, out));
        put(window.states.len() as u64, out);
        window.states.iter().for_each(|state| put_bytes(state, out));
    }
}

fn take_kept(bytes: &mut Bytes<'_>) -> Option<Kept> {
    let (base, folded) = (bytes.number()?, bytes.number()?);
    let mut windows = Vec::new();
    for _ in 0..bytes.number()? {
        let rows = bytes.number()?;
        let (mut counts, mut states) = (Vec::new(), Vec::new());
        for _ in 0..bytes.number()? {
            counts.push(bytes.number()?);
        }
        for _ in 0..bytes.number()? {
            states.push(bytes.bytes()?.to_vec());
        }
        windows.push(Whole { rows, counts, states });
    }
    Some(Kept { base, folded, windows })
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn number(&mut self) -> Option<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(n);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let n = self.number()?;
        Some((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = usize::try_from(self.number()?).ok()?;
        self.take(n)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn name(&mut self) -> Option<(Rank, Id)> {
        let tag = self.byte()?;
        let id = match tag % IDS {
            0 => Id::Int(self.signed()?),
            1 => Id::Text(self.text()?.into()),
            _ => Id::Row(self.bytes()?.into()),
        };
        Some((Rank::from_last(tag / IDS)?, id))
    }

    /// What a list or a map holds: neither.
    fn item(&mut self) -> Option<Value> {
        if *self.0.first()? < 6 { self.value() } else { None }
    }

    fn value(&mut self) -> Option<Value> {
        Some(match self.byte()? {
            0 => Value::Null,
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => Value::Int(self.signed()?),
            4 => Value::Float(f64::from_bits(u64::from_le_bytes(self.take(8)?.try_into().ok()?))),
            5 => Value::Text(Arc::from(self.text()?)),
            6 => {
                let items = self.number()?;
                (0..items).map(|_| self.item()).collect::<Option<Value>>()?
            }
            7 => {
                let entries = self.number()?;
                let entry = |_| Some((Arc::from(self.text()?), self.item()?));
                Value::map((0..entries).map(entry).collect::<Option<Vec<_>>>()?)
            }
            _ => return None,
        })
    }
}
