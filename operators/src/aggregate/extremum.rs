//! `min(x)` and `max(x)`, of any type; NaN is the largest number.

use tidemill_types::{DataType, Value};

use super::extreme::End;
use super::moment::Moment;
use super::moments::Moments;
use super::{Aggregate, Call, Entry, Primitive, View};
use crate::column::Builder;

pub(super) const MIN: Entry = Entry {
    name: "min",
    aliases: &[],
    summary: "the least value; texts by their bytes",
    build: |call| build(call, false),
};

pub(super) const MAX: Entry = Entry {
    name: "max",
    aliases: &[],
    summary: "the greatest value; NaN is the greatest number, texts by their bytes",
    build: |call| build(call, true),
};

// DISTINCT changes no extremum, and SQL lets it stand.
fn build(call: &Call<'_>, greatest: bool) -> Result<Box<dyn Aggregate>, String> {
    call.without_constants()?;
    let output = call.input(&DataType::ALL)?;
    let number = !matches!(output, DataType::Bool | DataType::String);
    Ok(Box::new(Extremum { output, greatest, number }))
}

struct Extremum {
    output: DataType,
    greatest: bool,
    /// Numbers and times have a state of their own.
    number: bool,
}

impl Aggregate for Extremum {
    fn output(&self) -> DataType {
        self.output
    }

    fn primitives(&self) -> &'static [Primitive] {
        match (self.number, self.greatest) {
            (true, false) => &[Primitive::Least],
            (true, true) => &[Primitive::Greatest],
            (false, _) => &[Primitive::Ordered],
        }
    }

    fn finish(&self, view: &View<'_>) -> Value {
        if self.number {
            return view.moment().extreme(self.greatest).unwrap_or_default();
        }
        let Some(ordered) = view.ordered() else { return Value::Null };
        let extremum = if self.greatest { ordered.max() } else { ordered.min() };
        extremum.unwrap_or_default()
    }

    fn finish_all(&self, moments: &Moments, out: &mut Builder) {
        match self.output {
            DataType::Float64 => moments.float_ends(self.greatest, out),
            _ => {
                let end = |moment: Moment| moment.end(self.greatest);
                out.extend(moments.iter().map(end).map(|end| end.map_or(Value::Null, End::value)));
            }
        }
    }
}
