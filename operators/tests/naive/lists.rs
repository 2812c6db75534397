//! Definitions of what reads rows in their order.

use tidemill_types::Value;

use super::{Built, Given};

/// Those whose result depends on the order of rows.
pub const ORDERED: &[&str] = &["first_value", "last_value", "lag"];

/// The result, where the call is one of these.
pub fn evaluate(call: &Built, rows: &[Given], _now: i64) -> Option<Value> {
    let value = |row: Option<&Given>| row.map(|row| row.value.clone()).unwrap_or_default();
    Some(match call.name {
        "first_value" => value(rows.first()),
        "last_value" => value(rows.last()),
        "lag" => {
            let back = call.constants.first().and_then(Value::as_i64).unwrap_or(1) as usize;
            value(rows.iter().rev().nth(back))
        }
        _ => return None,
    })
}
