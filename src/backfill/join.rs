//! What parts came to, as one: their rows by (event time, id), however many parts there are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use tidemill_connectors::sink::Sink;
use tidemill_operators::batches::interleaved;
use tidemill_types::long::{MOST_BYTES, long_bytes};
use tidemill_types::{DataType, Error, Id, Micros};

use super::rows::{BATCH, Reading};

/// Rows of a part that come next.
struct Cursor {
    reading: Reading,
    /// Where its batch stands among those that are held.
    slot: usize,
    row: usize,
}

/// Writes the rows of all parts into a sink; `ids` is the type of the spine's id, of which texts are written where it is
/// no whole number. A batch of each part is in memory.
///
/// # Errors
/// A part that was changed since it was computed; what the sink says.
pub fn join(parts: Vec<Reading>, ids: Option<DataType>, sink: &mut dyn Sink) -> Result<(), Error> {
    // Times and truth values order as whole numbers and are written as texts.
    let whole = matches!(ids, Some(DataType::Timestamp | DataType::Bool));
    let mut held: Vec<RecordBatch> = Vec::new();
    let mut cursors = Vec::with_capacity(parts.len());
    let mut next = BinaryHeap::new();
    for mut reading in parts {
        let Some(batch) = filled(&mut reading)? else { continue };
        let slot = held.len();
        held.push(batch);
        next.push(Reverse((key(&held[slot], 0, whole), cursors.len())));
        cursors.push(Cursor { reading, slot, row: 0 });
    }
    let (mut picks, mut times): (Vec<(usize, usize)>, Vec<Micros>) = (Vec::new(), Vec::new());
    // Of batches that are read to their end.
    let mut bytes = 0;
    while let Some(Reverse(((time, _), at))) = next.pop() {
        let cursor = &mut cursors[at];
        picks.push((cursor.slot, cursor.row));
        times.push(time);
        cursor.row += 1;
        let mut over = false;
        let read = &held[cursor.slot];
        if cursor.row == read.num_rows() {
            bytes += long_bytes(read.columns(), 0..read.num_rows());
            match filled(&mut cursor.reading)? {
                Some(batch) => {
                    (cursor.slot, cursor.row) = (held.len(), 0);
                    held.push(batch);
                }
                None => over = true,
            }
        }
        if !over {
            next.push(Reverse((key(&held[cursor.slot], cursor.row, whole), at)));
        }
        if picks.len() >= BATCH || bytes >= MOST_BYTES || next.is_empty() {
            let batches: Vec<&RecordBatch> = held.iter().collect();
            let parts = interleaved(&batches, &picks, MOST_BYTES)
                .map_err(|e| Error::internal(format!("rows of parts do not fit together: {e}")))?;
            let mut times = times.drain(..);
            for rows in parts {
                let times: Vec<Micros> = times.by_ref().take(rows.num_rows()).collect();
                sink.write(&rows, &times)?;
            }
            picks.clear();
            bytes = 0;
            // Batches that are read to their end are let go.
            let live: Vec<usize> = next.iter().map(|Reverse((_, at))| *at).collect();
            let mut kept = Vec::with_capacity(live.len());
            for at in live {
                kept.push(held[cursors[at].slot].clone());
                cursors[at].slot = kept.len() - 1;
            }
            held = kept;
        }
    }
    Ok(())
}

/// The next batch that holds rows.
fn filled(reading: &mut Reading) -> Result<Option<RecordBatch>, Error> {
    loop {
        match reading.batch()? {
            Some(batch) if batch.num_rows() == 0 => {}
            found => return Ok(found),
        }
    }
}

/// What orders a row: its event time and id, as in a run.
fn key(rows: &RecordBatch, row: usize, whole: bool) -> (Micros, Id) {
    let time = rows.column(1).as_primitive::<TimestampMicrosecondType>().value(row);
    let ids = rows.column(0);
    if let Some(ids) = ids.as_primitive_opt::<Int64Type>() {
        return (time, Id::Int(ids.value(row)));
    }
    let text = ids.as_string::<i32>().value(row);
    match text.parse() {
        Ok(id) if whole => (time, Id::Int(id)),
        _ => (time, Id::Text(text.into())),
    }
}
