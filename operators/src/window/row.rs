//! A row of a log: a few words. Time, id and the kinds of its columns, then a word a column.

use std::cmp::Ordering;

use tidemill_types::{Id, Micros, Value};

use super::heap::Heap;
use super::rank::{Name, Rank};
use crate::aggregate::extreme::Extreme;
use crate::aggregate::numbers::Number;
use crate::column::Cell;

/// Columns whose kinds one word tells, at three bits each. The rest says whether the id is a number, and of
/// which stream the row is, so that as a number it orders rows of one time.
const KINDS_A_WORD: usize = 20;
const ID_KIND: u32 = 60;
/// Of rows of the last stream, whose ids are numbers and others.
const LAST_INT: u64 = 14;
const LAST_OTHER: u64 = 15;

const NULL: u64 = 0;
const BOOL: u64 = 1;
const INT: u64 = 2;
const FLOAT: u64 = 3;
const TEXT: u64 = 4;
/// A list or a map.
const NESTED: u64 = 5;

/// The words of a row: time, id, kinds, then a word a column.
#[derive(Clone, Copy)]
pub(super) struct RowRef<'a>(pub(super) &'a [u64], pub(super) Width);

impl<'a> RowRef<'a> {
    #[inline]
    pub(super) fn time(self) -> Micros {
        self.0[0] as Micros
    }

    #[inline]
    fn kind(self, column: usize) -> u64 {
        self.0[2 + column / KINDS_A_WORD] >> (3 * (column % KINDS_A_WORD)) & 7
    }

    #[inline]
    fn word(self, column: usize) -> u64 {
        self.0[self.1.head as usize + column]
    }

    /// Its id.
    pub(super) fn id(self, heap: &Heap) -> Id {
        match self.has_number() {
            true => Id::Int(self.0[1] as i64),
            false => heap.id(self.0[1]).clone(),
        }
    }

    /// Of which stream it is.
    pub(super) fn stream(self) -> Rank {
        let places = (LAST_OTHER - (self.0[2] >> ID_KIND)) / 2;
        Rank::from_last(places as u8).unwrap_or(Rank::LAST)
    }

    /// Whether its id is a number.
    #[inline]
    fn has_number(self) -> bool {
        self.0[2] >> ID_KIND & 1 == 0
    }

    /// Whether a column holds true.
    #[inline]
    pub(super) fn is_true(self, column: usize) -> bool {
        self.kind(column) == BOOL && self.word(column) == 1
    }

    /// The same, given where it is.
    #[inline]
    pub(super) fn is_true_at(self, spot: Spot) -> bool {
        self.at(spot) == (BOOL, 1)
    }

    /// A column's value.
    #[inline]
    pub(super) fn value(self, column: usize, heap: &Heap) -> Value {
        let word = self.word(column);
        match self.kind(column) {
            NULL => Value::Null,
            BOOL => Value::Bool(word == 1),
            INT => Value::Int(word as i64),
            FLOAT => Value::Float(f64::from_bits(word)),
            TEXT => heap.text(word),
            _ => heap.nested(word),
        }
    }

    #[inline(always)]
    fn at(self, spot: Spot) -> (u64, u64) {
        (self.0[spot.kinds as usize] >> spot.shift & 7, self.0[spot.word as usize])
    }

    /// Whether there is a number in a column.
    #[inline(always)]
    pub(super) fn sees(self, spot: Spot) -> Seen {
        match self.at(spot) {
            (FLOAT, word) if f64::from_bits(word).is_finite() => Seen::Number,
            (FLOAT, word) => Seen::Special(f64::from_bits(word)),
            (INT | BOOL, _) => Seen::Number,
            _ => Seen::Nothing,
        }
    }

    /// The number in a column where there is one.
    #[inline(always)]
    pub(super) fn number(self, spot: Spot) -> Number {
        match self.at(spot) {
            (FLOAT, word) => Number::of_float(f64::from_bits(word)),
            (_, word) => Number::of_int(word as i64),
        }
    }

    /// The rank of the number in a column among those of its type.
    #[inline]
    pub(super) fn rank(self, spot: Spot) -> Option<i64> {
        match self.at(spot) {
            (FLOAT, word) => Some(Extreme::rank_of(f64::from_bits(word))),
            (INT, word) => Some(word as i64),
            _ => None,
        }
    }

    /// The whole number in a column.
    #[inline]
    pub(super) fn int(self, spot: Spot) -> Option<i64> {
        let (kind, word) = self.at(spot);
        (kind == INT).then_some(word as i64)
    }

    /// A column's value where it stands.
    #[inline]
    pub(super) fn cell(self, column: usize, heap: &Heap) -> Cell<'_> {
        let word = self.word(column);
        match self.kind(column) {
            NULL => Cell::Null,
            BOOL => Cell::Bool(word == 1),
            INT => Cell::Int(word as i64),
            FLOAT => Cell::Float(f64::from_bits(word)),
            TEXT => heap.cell(word),
            _ => heap.nested_cell(word),
        }
    }

    /// How this row orders against another. Values break ties of id, so that rows with one id stand
    /// in one order whatever the order they came in.
    #[inline]
    pub(super) fn order(self, other: RowRef<'_>, heap: &Heap) -> Ordering {
        self.time().cmp(&other.time()).then_with(|| {
            self.id_order(other, heap).then_with(|| {
                let both = |column| by_bits(&self.value(column, heap), &other.value(column, heap));
                let mut orders = (0..self.1.columns as usize).map(both);
                orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
            })
        })
    }

    #[inline]
    fn id_order(self, other: RowRef<'_>, heap: &Heap) -> Ordering {
        match (self.0[2] >> ID_KIND).cmp(&(other.0[2] >> ID_KIND)) {
            Ordering::Equal if self.has_number() => (self.0[1] as i64).cmp(&(other.0[1] as i64)),
            Ordering::Equal => heap.id(self.0[1]).cmp(heap.id(other.0[1])),
            order => order,
        }
    }

    /// How this row orders against one of its time and the last stream that has such an id.
    #[inline]
    pub(super) fn id_cmp(self, id: &Id, heap: &Heap) -> Ordering {
        match (self.0[2] >> ID_KIND, id) {
            (LAST_INT, Id::Int(id)) => (self.0[1] as i64).cmp(id),
            (LAST_OTHER, id) => heap.id(self.0[1]).cmp(id),
            _ => Ordering::Less,
        }
    }

    /// Lets go of what it holds on the heap.
    pub(super) fn release(self, heap: &mut Heap) {
        if !self.has_number() {
            heap.release_id(self.0[1]);
        }
        for column in 0..self.1.columns as usize {
            match self.kind(column) {
                TEXT => heap.release_text(self.word(column)),
                NESTED => heap.release_nested(self.word(column)),
                _ => {}
            }
        }
    }
}

/// What stands in a column of numbers.
pub(super) enum Seen {
    Number,
    /// It is not finite.
    Special(f64),
    Nothing,
}

/// Where in a row a column is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spot {
    word: u32,
    kinds: u32,
    shift: u32,
}

/// How many words a row has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Width {
    columns: u32,
    /// Words before the columns.
    head: u32,
    words: u32,
}

impl Width {
    pub(super) fn new(columns: usize) -> Width {
        let head = 2 + columns.div_ceil(KINDS_A_WORD).max(1);
        let words = head + columns;
        Width { columns: columns as u32, head: head as u32, words: words as u32 }
    }

    pub(super) fn spot(self, column: usize) -> Spot {
        Spot {
            word: self.head + column as u32,
            kinds: (2 + column / KINDS_A_WORD) as u32,
            shift: 3 * (column % KINDS_A_WORD) as u32,
        }
    }

    #[inline]
    pub(super) fn words(self) -> usize {
        self.words as usize
    }

    /// Writes a row; `cell` gives its columns. What it holds on the heap is the caller's to release.
    #[inline]
    pub(super) fn encode<'a>(
        self,
        time: Micros,
        name: Name<'_>,
        cell: impl Fn(usize) -> Cell<'a>,
        heap: &mut Heap,
        row: &mut Vec<u64>,
    ) {
        row.clear();
        row.extend([time as u64, 0, 0]);
        if self.head > 3 {
            row.resize(self.head as usize, 0);
        }
        let mut kinds = (LAST_INT - 2 * name.rank.before_last()) << ID_KIND;
        match name.id {
            Id::Int(id) => row[1] = *id as u64,
            other => {
                row[1] = heap.hold_id(other);
                kinds |= 1 << ID_KIND;
            }
        }
        let (mut shift, mut at) = (0, 2);
        for column in 0..self.columns as usize {
            let (kind, word) = match cell(column) {
                Cell::Null => (NULL, 0),
                Cell::Bool(b) => (BOOL, u64::from(b)),
                Cell::Int(i) => (INT, i as u64),
                Cell::Float(x) => (FLOAT, x.to_bits()),
                Cell::Text(text) => (TEXT, heap.hold_text(text)),
                nested @ (Cell::List(_) | Cell::Map(_)) => {
                    (NESTED, heap.hold_nested(nested.to_value()))
                }
            };
            if shift == ID_KIND {
                row[at] = kinds;
                (shift, at, kinds) = (0, at + 1, 0);
            }
            kinds |= kind << shift;
            shift += 3;
            row.push(word);
        }
        row[at] = kinds;
    }

    /// Takes back what [`Width::encode`] held for a row that is not kept.
    pub(super) fn forget(self, row: &[u64], heap: &mut Heap) {
        RowRef(row, self).release(heap);
    }
}

/// The order of values, with the forms that it holds equal (zeros, NaNs) apart.
fn by_bits(a: &Value, b: &Value) -> Ordering {
    a.cmp(b).then_with(|| match (a, b) {
        (Value::Float(a), Value::Float(b)) => a.to_bits().cmp(&b.to_bits()),
        (Value::List(a), Value::List(b)) => {
            let orders = a.iter().zip(b.iter()).map(|(a, b)| by_bits(a, b));
            orders.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        }
        (Value::Map(a), Value::Map(b)) => {
            let mut orders = a.iter().zip(b.iter()).map(|((_, a), (_, b))| by_bits(a, b));
            orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        }
        _ => Ordering::Equal,
    })
}
