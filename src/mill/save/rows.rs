//! Scored rows, each once: the label join and the training set share them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use tidemill_operators::batches::interleaved;
use tidemill_operators::dataflow::{Features, Wire};
use tidemill_types::long::MOST_BYTES;
use tidemill_types::{Id, Micros};

use super::super::join::Scored;
use super::super::matrix::Matrix;
use crate::checkpoint::section;

/// Collects rows and names them by their places.
#[derive(Default)]
pub struct Table {
    places: HashMap<*const Scored, u32>,
    rows: Vec<Arc<Scored>>,
}

/// A row without its features, which stand in columns.
#[derive(Serialize, Deserialize)]
struct SavedRow {
    time: Micros,
    id: Id,
    margins: Vec<f64>,
    versions: Vec<u64>,
    frozen: f64,
    served: f64,
    base_rate: f64,
}

impl Table {
    /// The place of a row, which is added if it is not there.
    pub fn place(&mut self, row: &Arc<Scored>) -> u32 {
        let next = self.rows.len() as u32;
        let place = *self.places.entry(Arc::as_ptr(row)).or_insert(next);
        if place == next {
            self.rows.push(Arc::clone(row));
        }
        place
    }

    /// All rows as bytes: what is said of each, and their features as an Arrow IPC stream.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        self.encoded(MOST_BYTES)
    }

    fn encoded(&self, most: u64) -> Result<Vec<u8>, String> {
        let mut batches: Vec<&RecordBatch> = Vec::new();
        let mut places: HashMap<*const RecordBatch, usize> = HashMap::new();
        let mut picks = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let place = *places.entry(Arc::as_ptr(&row.columns)).or_insert_with(|| {
                batches.push(row.columns.as_ref());
                batches.len() - 1
            });
            picks.push((place, row.row as usize));
        }
        let mut features = Vec::new();
        if !picks.is_empty() {
            let write = || {
                let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema())?;
                let parts = interleaved(&batches, &picks, most)?;
                parts.iter().try_for_each(|part| writer.write(part))?;
                writer.into_inner()
            };
            features = write().map_err(|e: ArrowError| e.to_string())?;
        }
        let said = |row: &Arc<Scored>| SavedRow {
            time: row.time,
            id: row.id.clone(),
            margins: row.margins.to_vec(),
            versions: row.versions.to_vec(),
            frozen: row.frozen,
            served: row.served,
            base_rate: row.base_rate,
        };
        let rows: Vec<SavedRow> = self.rows.iter().map(said).collect();
        section::encode(&(rows, features))
    }
}

/// Rows that were read back.
pub struct Taken(Vec<Arc<Scored>>);

impl Taken {
    /// Reads rows back.
    ///
    /// # Errors
    /// Bytes that were not made by [`Table::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Taken, String> {
        let (rows, features): (Vec<SavedRow>, Vec<u8>) = section::decode(bytes)?;
        if rows.is_empty() {
            return Ok(Taken(Vec::new()));
        }
        let read = || {
            let reader = StreamReader::try_new(features.as_slice(), None)?;
            reader.collect::<Result<Vec<RecordBatch>, ArrowError>>()
        };
        let batches = read().map_err(|e| e.to_string())?;
        if batches.iter().map(RecordBatch::num_rows).sum::<usize>() != rows.len() {
            return Err("the features of rows are missing".to_string());
        }
        // As the mill read them when they were scored.
        let mut rest = rows.iter();
        let part = |batch: RecordBatch| {
            let own = rest.by_ref().take(batch.num_rows());
            let (times, ids) = own.map(|row| (row.time, row.id.clone())).unzip();
            Features { last: true, times, ids, columns: Wire(batch), kept: None }
        };
        let matrix = Matrix::new(batches.into_iter().map(part).collect());
        let scored = |(i, row): (usize, SavedRow)| {
            let (batch, place) = matrix.place(i);
            Arc::new(Scored {
                time: row.time,
                id: row.id,
                numbers: matrix.numbers(i).into(),
                categories: matrix.categories(i).into(),
                margins: row.margins.into(),
                versions: row.versions.into(),
                frozen: row.frozen,
                served: row.served,
                base_rate: row.base_rate,
                columns: Arc::clone(&batch.columns),
                row: place as u32,
            })
        };
        Ok(Taken(rows.into_iter().enumerate().map(scored).collect()))
    }

    /// The row at a place.
    ///
    /// # Errors
    /// There is none.
    pub fn row(&self, place: u32) -> Result<Arc<Scored>, String> {
        self.0.get(place as usize).cloned().ok_or_else(|| format!("row {place} is missing"))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};

    use super::*;

    #[test]
    fn long_rows_are_kept_in_several_batches() {
        let texts: Vec<String> = (0..9).map(|i| "x".repeat(i)).collect();
        let columns: [(&str, ArrayRef); 2] = [
            ("number", Arc::new(Int64Array::from_iter_values(0..9))),
            ("text", Arc::new(StringArray::from_iter_values(&texts))),
        ];
        let columns = Arc::new(RecordBatch::try_from_iter(columns).expect("equally long"));
        let mut table = Table::default();
        for row in (0..9).rev() {
            let scored = Arc::new(Scored {
                time: 10,
                id: Id::Int(row),
                numbers: [row as f64].into(),
                categories: [1].into(),
                margins: [0.5].into(),
                frozen: 0.0,
                versions: [3].into(),
                served: 0.25,
                base_rate: 0.5,
                columns: Arc::clone(&columns),
                row: row as u32,
            });
            assert_eq!(table.place(&scored), 8 - row as u32);
        }
        let whole = table.encoded(36).expect("rows have bytes");
        assert_eq!(whole, table.encode().expect("rows have bytes"));
        for (most, batches) in [(36, 1), (20, 3), (0, 9)] {
            let bytes = table.encoded(most).expect("rows have bytes");
            let taken = Taken::decode(&bytes).expect("its own bytes");
            let mut seen: Vec<*const RecordBatch> = Vec::new();
            for place in 0..9 {
                let row = taken.row(place).expect("a row");
                let number = 8 - i64::from(place);
                assert_eq!((&row.id, row.numbers[0]), (&Id::Int(number), number as f64));
                let found = row.columns.column(1).as_string::<i32>().value(row.row as usize);
                assert_eq!(found, texts[number as usize]);
                seen.push(Arc::as_ptr(&row.columns));
            }
            seen.dedup();
            assert_eq!(seen.len(), batches, "of at most {most} bytes");
        }
    }
}
