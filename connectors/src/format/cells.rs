//! The values of a batch, one by one, for the text formats to write.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float64Type, Int32Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType,
    UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use tidemill_types::Error;
use tidemill_types::time::to_rfc3339;

/// One value.
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    /// Finite; what is not becomes NULL, for text has no agreed word for it.
    Float(f64),
    Text(&'a str),
    Time(i64),
    /// Written as base64 (RFC 4648).
    Bytes(&'a [u8]),
    /// The items of a list.
    List(ArrayRef),
    /// The keys and the values of a map.
    Map(ArrayRef, ArrayRef),
}

/// Refuses a schema with a type that text has no form for.
pub(super) fn check(schema: &SchemaRef) -> Result<(), Error> {
    for field in schema.fields() {
        if !writable(field.data_type()) {
            return Err(Error::user(format!(
                "column {} of type {} cannot be written as text",
                field.name(),
                field.data_type()
            ))
            .help("write Parquet or Arrow IPC"));
        }
    }
    Ok(())
}

fn writable(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Null
            | DataType::Boolean
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt32
            | DataType::UInt64
            | DataType::Float64
            | DataType::Utf8
            | DataType::Binary
            | DataType::Timestamp(TimeUnit::Microsecond, _)
    ) || tidemill_types::DataType::from_arrow(data_type).is_some()
}

/// The value of a column at a row. The column is of a type that [`check`] let pass.
pub(super) fn cell(column: &ArrayRef, row: usize) -> Cell<'_> {
    if column.is_null(row) {
        return Cell::Null;
    }
    match column.data_type() {
        DataType::Boolean => Cell::Bool(column.as_boolean().value(row)),
        DataType::Int32 => Cell::Int(column.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Cell::Int(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt32 => Cell::Unsigned(column.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => Cell::Unsigned(column.as_primitive::<UInt64Type>().value(row)),
        DataType::Utf8 => Cell::Text(column.as_string::<i32>().value(row)),
        DataType::Binary => Cell::Bytes(column.as_binary::<i32>().value(row)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Cell::Time(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(row);
            if value.is_finite() { Cell::Float(value) } else { Cell::Null }
        }
        DataType::List(_) => Cell::List(column.as_list::<i32>().value(row)),
        DataType::Map(_, _) => match column.as_map().value(row).columns() {
            [keys, values] => Cell::Map(keys.clone(), values.clone()),
            _ => Cell::Null,
        },
        _ => Cell::Null,
    }
}

/// Appends a value as JSON: times and bytes as texts, lists as arrays, maps as objects.
pub(super) fn write_json(cell: &Cell<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    match cell {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Text(text) => write_json_text(text, out)?,
        Cell::Time(_) | Cell::Bytes(_) => {
            out.push(b'"');
            write_bare(cell, out)?;
            out.push(b'"');
        }
        bare => write_bare(bare, out)?,
    }
    Ok(())
}

/// Appends a text as JSON has it.
pub(super) fn write_json_text(text: &str, out: &mut Vec<u8>) -> Result<(), Error> {
    serde_json::to_writer(out, text).map_err(|e| Error::internal(e.to_string()))
}

/// Appends what stands between brackets, comma by comma.
fn write_nested(
    brackets: [u8; 2],
    items: usize,
    out: &mut Vec<u8>,
    mut item: impl FnMut(usize, &mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    out.push(brackets[0]);
    for at in 0..items {
        if at > 0 {
            out.push(b',');
        }
        item(at, out)?;
    }
    out.push(brackets[1]);
    Ok(())
}

/// The columns of a batch, which must be those of the schema that the writer was opened with.
pub(super) fn columns<'a>(
    rows: &'a RecordBatch,
    schema: &SchemaRef,
) -> Result<&'a [ArrayRef], Error> {
    let same = rows.num_columns() == schema.fields().len()
        && rows.columns().iter().zip(schema.fields()).all(|(c, f)| c.data_type() == f.data_type());
    if same {
        return Ok(rows.columns());
    }
    Err(Error::internal(format!("rows of {:?} for a writer of {schema:?}", rows.schema())))
}

/// Appends a value as bare text, NULL as nothing, a list or a map as JSON.
pub(super) fn write_bare(written: &Cell<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    match written {
        Cell::Null => {}
        Cell::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Cell::Int(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Cell::Unsigned(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Cell::Float(value) => write_float(*value, out)?,
        Cell::Text(text) => out.extend_from_slice(text.as_bytes()),
        Cell::Time(time) => out.extend_from_slice(to_rfc3339(*time).as_bytes()),
        Cell::Bytes(bytes) => write_base64(bytes, out),
        Cell::List(items) => {
            write_nested(*b"[]", items.len(), out, |at, out| write_json(&cell(items, at), out))?
        }
        Cell::Map(keys, values) => write_nested(*b"{}", keys.len(), out, |at, out| {
            write_json(&cell(keys, at), out)?;
            out.push(b':');
            write_json(&cell(values, at), out)
        })?,
    }
    Ok(())
}

/// The values of some columns at a row, joined by `/`: the key of a message.
#[cfg(feature = "kafka")]
pub(crate) fn write_key(
    rows: &RecordBatch,
    row: usize,
    columns: &[usize],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    for (i, column) in columns.iter().enumerate() {
        if i > 0 {
            out.push(b'/');
        }
        write_bare(&cell(rows.column(*column), row), out)?;
    }
    Ok(())
}

/// Appends a float in the shortest form that reads back to the same bits.
pub(super) fn write_float(value: f64, out: &mut Vec<u8>) -> Result<(), Error> {
    serde_json::to_writer(out, &value).map_err(|e| Error::internal(e.to_string()))
}

/// Appends bytes as base64 with padding.
pub(super) fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit > group.len() { b'=' } else { DIGITS[index as usize] });
        }
    }
}

/// An error of Arrow's while writing rows that were checked before.
pub(super) fn write_failed(error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => Error::from(error),
        other => Error::internal(format!("cannot write: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_rfc() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, wanted) in pairs {
            let mut out = Vec::new();
            write_base64(plain.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
        }
    }
}
