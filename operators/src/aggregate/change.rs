//! `change(x)`, `delta(x)`, `rate(x)`: how a value that is read off again and again has moved.
//!
//! With the rows in (event time, id) order and those left out whose x is NULL: `change` is the newest value
//! less the one before it, `delta` the newest less the oldest, `rate` that delta over the time between the
//! two rows, a second. NULL over fewer than two values; the rate also where both have one time. Of whole
//! numbers `change` and `delta` are whole, and NULL beyond 64 bits. A counter that starts again from 0
//! shows as a fall.

use tidemill_types::time::SECOND;
use tidemill_types::{DataType, Micros, Value};

use super::{Aggregate, Call, Entry, Primitive, View};

pub(super) const CHANGE: Entry = Entry {
    name: "change",
    aliases: &[],
    summary: "the newest value less the one before it",
    build: |call| build(call, Kind::Change),
};

pub(super) const DELTA: Entry = Entry {
    name: "delta",
    aliases: &[],
    summary: "the newest value less the oldest",
    build: |call| build(call, Kind::Delta),
};

pub(super) const RATE: Entry = Entry {
    name: "rate",
    aliases: &[],
    summary: "the newest value less the oldest, a second of the time between them",
    build: |call| build(call, Kind::Rate),
};

fn build(call: &Call<'_>, kind: Kind) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_constants()?;
    let output = match call.input(&[DataType::Int64, DataType::Float64])? {
        DataType::Int64 if kind != Kind::Rate => DataType::Int64,
        _ => DataType::Float64,
    };
    Ok(Box::new(Change { kind, output }))
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Change,
    Delta,
    Rate,
}

struct Change {
    kind: Kind,
    output: DataType,
}

impl Aggregate for Change {
    fn output(&self) -> DataType {
        self.output
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Position]
    }

    /// The cost is the NULL rows passed over.
    fn finish(&self, view: &View<'_>) -> Value {
        let Some((new, end)) = nth(view, true, 0) else { return Value::Null };
        let other = match self.kind {
            Kind::Change => nth(view, true, 1),
            // The oldest may be the newest: then there are no two.
            Kind::Delta | Kind::Rate => nth(view, true, 1).and_then(|_| nth(view, false, 0)),
        };
        let Some((old, start)) = other else { return Value::Null };
        let difference = match (&new, &old) {
            (Value::Int(new), Value::Int(old)) if self.output == DataType::Int64 => {
                return new.checked_sub(*old).map_or(Value::Null, Value::Int);
            }
            (Value::Int(new), Value::Int(old)) => (i128::from(*new) - i128::from(*old)) as f64,
            _ => match (new.as_f64(), old.as_f64()) {
                (Some(new), Some(old)) => new - old,
                _ => return Value::Null,
            },
        };
        match i128::from(end) - i128::from(start) {
            _ if self.kind != Kind::Rate => Value::Float(difference),
            0 => Value::Null,
            elapsed => Value::Float(difference / (elapsed as f64 / SECOND as f64)),
        }
    }
}

/// The value that is not NULL from one end on, but `n`, and its time.
fn nth(view: &View<'_>, newest_first: bool, mut n: usize) -> Option<(Value, Micros)> {
    let mut found = None;
    view.walk(newest_first, |row| {
        if row.value.is_null() {
            return true;
        }
        if n == 0 {
            found = Some((row.value.clone(), row.time));
            return false;
        }
        n -= 1;
        true
    });
    found
}
