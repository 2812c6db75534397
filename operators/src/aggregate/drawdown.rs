//! `drawdown(x)`: the greatest share that was lost from a peak to a later trough.
//!
//! With the rows in (event time, id) order and those left out whose x is NULL: the greatest (p - x) / p
//! over values x and the greatest value p up to each, where that is above 0; 0 if nothing ever fell, NULL if
//! no value is above 0 or there is none. It is above 1 where a value below 0 follows. This is OpenMLDB's
//! `drawdown`, with NULL where the share has no meaning. A NaN makes it NaN.
//!
//! It depends on the order of rows, so no running value takes rows out at one end and in the middle:
//! each read walks over the window's rows, a few nanoseconds each.

use tidemill_types::{DataType, Value};

use super::{Aggregate, Call, Entry, Primitive, View};

pub(super) const ENTRY: Entry = Entry {
    name: "drawdown",
    aliases: &["max_drawdown"],
    summary: "the greatest share lost from a peak to a later trough; reads all rows of the window",
    build,
};

fn build(call: &Call<'_>) -> Result<Box<dyn Aggregate>, String> {
    call.without_distinct()?;
    call.without_constants()?;
    call.input(&[DataType::Int64, DataType::Float64])?;
    Ok(Box::new(Drawdown))
}

struct Drawdown;

impl Aggregate for Drawdown {
    fn output(&self) -> DataType {
        DataType::Float64
    }

    fn primitives(&self) -> &'static [Primitive] {
        &[Primitive::Position]
    }

    fn finish(&self, view: &View<'_>) -> Value {
        let (mut peak, mut lost) = (None, None);
        view.walk(false, |row| {
            let Some(x) = row.value.as_f64() else { return true };
            if x.is_nan() {
                lost = Some(f64::NAN);
                return false;
            }
            if x > peak.unwrap_or(0.0) {
                peak = Some(x);
            }
            if let Some(peak) = peak {
                let share = share_lost(peak, x);
                lost = Some(lost.map_or(share, |most: f64| most.max(share)));
            }
            true
        });
        lost.map_or(Value::Null, Value::Float)
    }
}

/// From an infinite peak everything finite is lost; the distance may be more than an f64 holds.
fn share_lost(peak: f64, x: f64) -> f64 {
    match (peak - x) / peak {
        share if share.is_finite() => share,
        _ if peak == x => 0.0,
        _ if peak.is_finite() => 1.0 - x / peak,
        _ if x.is_finite() => 1.0,
        _ => f64::INFINITY,
    }
}
