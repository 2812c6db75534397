//! `min_by(x, y)`, `max_by(x, y)`, and with n the values of the n rows: x where y is least or greatest.
//!
//! Rows in which x or y is NULL are not there, as with DuckDB's `arg_min` and `arg_max`; NaN is the greatest
//! number. Of rows with equal y the earlier comes first, of those of one time the one with the lesser x: an
//! order that does not depend on arrival. Over no rows the result is NULL; n is from 1 to 1,000, and
//! gives a list, the most extreme y first.
//!
//! The rows are kept in that order: each that comes or goes costs two binary searches.

use std::any::Any;
use std::cmp::Ordering;

use tidemill_types::{DataType, Micros, Value};

use super::bytes::{Reader, Writer};
use super::leaves::Leaves;
use super::ordered::{rank, unrank};
use super::{Aggregate, Call, Entry, Primitive, Row, Running, View};

pub(super) const MIN_BY: Entry = Entry {
    name: "min_by",
    aliases: &["arg_min", "argmin", "min_by_n"],
    summary: "x where y is least; with n the list of the n: min_by(x, y[, n])",
    build: |call| build(call, false),
};

pub(super) const MAX_BY: Entry = Entry {
    name: "max_by",
    aliases: &["arg_max", "argmax", "max_by_n"],
    summary: "x where y is greatest; with n the list of the n: max_by(x, y[, n])",
    build: |call| build(call, true),
};

fn build(call: &Call<'_>, greatest: bool) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    let item = call.item(&DataType::ALL)?;
    if call.second.is_none() {
        return Err(format!("{} takes a value and what it is chosen by: two columns", call.name));
    }
    let n = match call.constants {
        [] => None,
        constants => Some(call.bound(constants, None)?),
    };
    let output = if n.is_some() { DataType::List(item) } else { item.into() };
    Ok(Box::new(ByOther { output, n, greatest }))
}

struct ByOther {
    output: DataType,
    n: Option<usize>,
    greatest: bool,
}

impl Aggregate for ByOther {
    fn output(&self) -> DataType {
        self.output
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Own]
    }

    fn running(&self) -> Option<Box<dyn Running>> {
        Some(Box::new(Pairs { greatest: self.greatest, pairs: Leaves::default() }))
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let Some(own) = view.own::<Pairs>() else { return Value::Null };
        let value = |k: usize| own.pairs.kth(k).map(|pair| pair.value.clone());
        match self.n {
            None => value(0).unwrap_or_default(),
            Some(_) if own.pairs.is_empty() => Value::Null,
            Some(n) => Value::List((0..n.min(own.pairs.len())).filter_map(value).collect()),
        }
    }
}

/// The rows of a window, first the one that is asked for.
struct Pairs {
    greatest: bool,
    pairs: Leaves<Pair>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    by: Value,
    time: Micros,
    value: Value,
    greatest: bool,
}

impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> Ordering {
        let by = self.by.cmp(&other.by);
        let by = if self.greatest { by.reverse() } else { by };
        by.then(self.time.cmp(&other.time)).then_with(|| self.value.cmp(&other.value))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Pairs {
    /// The row, if it is there; of equal floats one stands for all.
    fn pair(&self, row: &Row<'_>) -> Option<Pair> {
        let one = |value: &Value| match value {
            Value::Null => None,
            Value::Float(x) => Some(unrank(rank(*x))),
            other => Some(other.clone()),
        };
        let (value, by) = (one(row.value)?, one(row.second)?);
        Some(Pair { by, time: row.time, value, greatest: self.greatest })
    }

    fn all(&self) -> impl Iterator<Item = &Pair> {
        (0..self.pairs.len()).filter_map(|k| self.pairs.kth(k))
    }
}

impl Running for Pairs {
    fn name(&self) -> String {
        format!("rows by the second, greatest first: {}", self.greatest)
    }

    fn fresh(&self) -> Box<dyn Running> {
        Box::new(Pairs { greatest: self.greatest, pairs: Leaves::default() })
    }

    fn insert(&mut self, row: &Row<'_>) {
        if let Some(pair) = self.pair(row) {
            self.pairs.insert(pair);
        }
    }

    fn remove(&mut self, row: &Row<'_>) {
        if let Some(pair) = self.pair(row) {
            self.pairs.remove(&pair);
        }
    }

    fn clear(&mut self) {
        self.pairs = Leaves::default();
    }

    fn merge(&mut self, other: &dyn Running) {
        if let Some(other) = other.as_any().downcast_ref::<Pairs>() {
            other.all().for_each(|pair| self.pairs.insert(pair.clone()));
        }
    }

    fn save(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.count(self.pairs.len() as u64);
        for pair in self.all() {
            out.value(&pair.by).whole(pair.time).value(&pair.value);
        }
        out.finish()
    }

    fn restore(&self, bytes: &[u8]) -> Option<Box<dyn Running>> {
        let mut bytes = Reader::new(bytes);
        let mut restored = Pairs { greatest: self.greatest, pairs: Leaves::default() };
        let mut last: Option<Pair> = None;
        for _ in 0..bytes.count()? {
            let (by, time, value) = (bytes.value()?, bytes.whole()?, bytes.value()?);
            let row = Row { time, value: &value, second: &by };
            let pair = restored.pair(&row)?;
            if last.is_some_and(|last| last > pair) {
                return None;
            }
            last = Some(pair.clone());
            restored.pairs.insert(pair);
        }
        bytes.end(Box::new(restored) as Box<dyn Running>)
    }

    fn bytes(&self) -> usize {
        size_of::<Pairs>() + self.pairs.bytes()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
