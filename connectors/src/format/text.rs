//! What the text formats share: reading a file record by record, and what a text or a number may
//! become in a typed column.

use std::num::IntErrorKind;

use arrow::array::RecordBatch;
use tidemill_types::time::from_rfc3339;
use tidemill_types::{DataType, Error, Field, MOST_ITEMS};

use super::records::Records;
use super::rows::Rows;
use super::value::put_nested;
use super::{Decoder, Encoder, FileReader, FileWriter, Layout, Output, Part, Refusal, Reject};

/// A part ends after so many bytes of one text column, or of what was refused, whatever the number of rows.
pub(crate) const PART_BYTES: usize = 8 << 20;

/// The largest float up to which every whole number is its own float: beyond it, a whole number
/// that was written as a float may have been another one.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads a text file: records cut from bytes, each given to the format's decoder.
pub(super) struct TextReader {
    records: Records,
    decoder: Box<dyn Decoder>,
    rows: Rows,
    failed: Option<Error>,
}

impl TextReader {
    pub(super) fn new(records: Records, decoder: Box<dyn Decoder>, layout: &Layout) -> TextReader {
        TextReader { records, decoder, rows: Rows::new(&layout.schema), failed: None }
    }
}

impl FileReader for TextReader {
    fn read(&mut self, rows: usize) -> Result<Option<Part>, Error> {
        let mut lines = Vec::new();
        let mut rejects = Vec::new();
        let mut refused = 0;
        while self.failed.is_none()
            && lines.len() + rejects.len() < rows
            && self.rows.text_bytes().max(refused) < PART_BYTES
        {
            let record = match self.records.next() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            };
            let outcome = match record.refusal {
                Some(refusal) => Err(refusal),
                None => self.decoder.decode(record.bytes, &mut self.rows),
            };
            match outcome {
                Ok(()) => lines.push(record.line),
                Err(refusal) => {
                    let raw = record.bytes.to_vec();
                    refused += raw.len();
                    rejects.push(Reject { line: record.line, refusal, raw });
                }
            }
        }
        if lines.is_empty() && rejects.is_empty() {
            return match &self.failed {
                Some(error) => Err(error.clone()),
                None => Ok(None),
            };
        }
        Ok(Some(Part { rows: self.rows.finish()?, lines, rejects }))
    }

    fn position(&self) -> u64 {
        self.records.lines()
    }
}

/// The record as text.
pub(super) fn utf8(record: &[u8]) -> Result<&str, Refusal> {
    if let Ok(text) = simdutf8::basic::from_utf8(record) {
        return Ok(text);
    }
    // The fast one does not tell where.
    std::str::from_utf8(record).map_err(|e| {
        let at = e.valid_up_to();
        let detail = format!("byte {} (0x{:02x}) is not UTF-8", at + 1, record[at]);
        Refusal::new("encoding", detail)
    })
}

/// A value of the wrong type.
pub(super) fn wrong(field: &Field, found: impl std::fmt::Display, why: &str) -> Refusal {
    let detail = format!("column {}: found {found}, wanted {}{why}", field.name, field.declared());
    Refusal::new("type", detail)
}

/// A found text as an error shows it: quoted, its beginning if it is long.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{:?}... ({} bytes)", &text[..at], text.len()),
        None => format!("{text:?}"),
    }
}

/// Puts a float into a column of whole numbers, if it is one.
pub(super) fn whole(field: &Field, value: f64) -> Result<i64, Refusal> {
    if value.trunc() != value {
        return Err(wrong(field, value, ""));
    }
    if value.abs() > EXACT {
        let why = " (a whole number written as a float is exact up to 2^53 only)";
        return Err(wrong(field, value, why));
    }
    Ok(value as i64)
}

/// Refuses a list or a map that is too long, or a vector of another length.
pub(super) fn length(field: &Field, items: usize) -> Result<(), Refusal> {
    let why = match field.length {
        Some(length) if items != length as usize => String::new(),
        None if items > MOST_ITEMS => format!(" of at most {MOST_ITEMS}"),
        _ => return Ok(()),
    };
    let found = match field.data_type {
        DataType::Map(_) => format!("a map of {} entries", up_to_most(items)),
        _ => format!("a list of {} items", up_to_most(items)),
    };
    Err(wrong(field, found, &why))
}

/// A number of items, which are not counted beyond the most there may be.
fn up_to_most(items: usize) -> String {
    if items > MOST_ITEMS { format!("more than {MOST_ITEMS}") } else { items.to_string() }
}

/// A text as microseconds.
pub(super) fn time(field: &Field, text: &str) -> Result<i64, Refusal> {
    from_rfc3339(text)
        .ok_or_else(|| wrong(field, shown(text), " as in 2013-01-01T10:00:00Z (RFC 3339)"))
}

/// Puts a text that is not NULL into a column, for formats that have nothing but texts.
pub(super) fn put(
    rows: &mut Rows,
    column: usize,
    field: &Field,
    text: &str,
) -> Result<(), Refusal> {
    match field.data_type {
        DataType::String => rows.text(column, text),
        DataType::Timestamp => rows.int(column, time(field, text)?),
        DataType::Float64 => rows.float(column, float(field, text)?),
        DataType::Int64 => {
            let value = match text.parse::<i64>() {
                Ok(value) => value,
                Err(e)
                    if matches!(
                        e.kind(),
                        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow
                    ) =>
                {
                    return Err(wrong(field, shown(text), " (64 bits, signed)"));
                }
                Err(_) => whole(field, float(field, text)?)?,
            };
            rows.int(column, value);
        }
        DataType::Bool => {
            let value = match text {
                "true" | "True" | "TRUE" => true,
                "false" | "False" | "FALSE" => false,
                _ => return Err(wrong(field, shown(text), " (true or false)")),
            };
            rows.bool(column, value);
        }
        DataType::List(_) | DataType::Map(_) => put_nested(rows, column, field, text)?,
    }
    Ok(())
}

fn float(field: &Field, text: &str) -> Result<f64, Refusal> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(wrong(field, shown(text), " (finite)")),
        Err(_) => Err(wrong(field, shown(text), "")),
    }
}

/// A file of records, each ended by a line feed.
pub(super) struct Lines {
    pub(super) encoder: Box<dyn Encoder>,
    pub(super) output: Output,
}

impl FileWriter for Lines {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let output = &mut self.output;
        self.encoder.encode(rows, &mut |_, record| {
            output.write_all(record)?;
            Ok(output.write_all(b"\n")?)
        })
    }

    fn finish(mut self: Box<Self>) -> Result<(), Error> {
        Ok(self.output.flush()?)
    }
}
