//! `first_value(x)`, `last_value(x)`, `lag(x, n)`: by position in (event time, id) order.
//!
//! Rows whose value is NULL count, as with SQL's `RESPECT NULLS`, which is its default. A list or a map is one value.

use tidemill_types::{DataType, Value};

use super::{Aggregate, Call, Entry, Primitive, View, written};

pub(super) const FIRST_VALUE: Entry = Entry {
    name: "first_value",
    aliases: &["first"],
    summary: "the value in the oldest row, NULL or not",
    build: |call| {
        call.without_constants()?;
        build(call, Place::Oldest)
    },
};

pub(super) const LAST_VALUE: Entry = Entry {
    name: "last_value",
    aliases: &["last"],
    summary: "the value in the newest row, NULL or not",
    build: |call| {
        call.without_constants()?;
        build(call, Place::Newest(0))
    },
};

pub(super) const LAG: Entry = Entry {
    name: "lag",
    aliases: &[],
    summary: "the value n rows before the newest: lag(x, n = 1); lag(x, 0) is last_value(x)",
    build: |call| {
        let back = match call.constants {
            [] => 1,
            [Value::Int(n @ 0..)] => *n as usize,
            [other] => {
                return Err(format!(
                    "{} goes back a whole number of rows, 0 or more; found {}",
                    call.name,
                    written(other)
                ));
            }
            more => {
                return Err(format!(
                    "{} takes at most 2 arguments; found {}",
                    call.name,
                    more.len() + 1
                ));
            }
        };
        build(call, Place::Newest(back))
    },
};

fn build(call: &Call<'_>, place: Place) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_second()?;
    Ok(Box::new(Position { output: call.any_input()?, place }))
}

enum Place {
    Oldest,
    Newest(usize),
}

struct Position {
    output: DataType,
    place: Place,
}

impl Aggregate for Position {
    fn output(&self) -> DataType {
        self.output
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Position]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let value = match self.place {
            Place::Oldest => view.oldest(0),
            Place::Newest(back) => view.newest(back),
        };
        value.unwrap_or_default()
    }

    fn place(&self) -> Option<(bool, usize)> {
        Some(match self.place {
            Place::Oldest => (false, 0),
            Place::Newest(back) => (true, back),
        })
    }
}
