//! `time_since_last(x)` and `time_since_first(x)`: how long ago, as of the read, the newest or the oldest row
//! was whose x is not NULL; of any row, `time_since_last(*)`.
//!
//! In seconds, as a float (a feature has no type for intervals): exact to the microsecond for 285 years,
//! the microseconds over 10^6 rounded once. NULL over no such row. In a window over the spine's own stream
//! the row that is read is the newest: `time_since_last(x) FILTER (WHERE ...)` asks for those before.

use tidemill_types::time::SECOND;
use tidemill_types::{DataType, Value};

use super::{Aggregate, Call, Entry, Primitive, View};

pub(super) const TIME_SINCE_LAST: Entry = Entry {
    name: "time_since_last",
    aliases: &[],
    summary: "seconds since the newest row whose value is not NULL",
    build: |call| build(call, true),
};

pub(super) const TIME_SINCE_FIRST: Entry = Entry {
    name: "time_since_first",
    aliases: &[],
    summary: "seconds since the oldest row whose value is not NULL",
    build: |call| build(call, false),
};

fn build(call: &Call<'_>, newest: bool) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_constants()?;
    if call.input.is_some() {
        call.input(&DataType::ALL)?;
    }
    Ok(Box::new(Elapsed { newest }))
}

struct Elapsed {
    newest: bool,
}

impl Aggregate for Elapsed {
    fn output(&self) -> DataType {
        DataType::Float64
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Position]
    }

    /// The cost is the NULL rows passed over.
    fn finish(&self, view: &View<'_>) -> Value {
        let mut found = None;
        view.walk(self.newest, |row| {
            found = (!row.value.is_null()).then_some(row.time);
            found.is_none()
        });
        let elapsed = |time| (i128::from(view.time()) - i128::from(time)) as f64 / SECOND as f64;
        found.map_or(Value::Null, |time| Value::Float(elapsed(time)))
    }
}
