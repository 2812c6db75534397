//! Scored rows, each once: the label join and the training set share them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use tidemill_operators::dataflow::{Features, Wire};
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
                let batch = interleave_record_batch(&batches, &picks)?;
                let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
                writer.write(&batch)?;
                writer.into_inner()
            };
            features = write().map_err(|e: arrow::error::ArrowError| e.to_string())?;
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
            let mut reader = StreamReader::try_new(features.as_slice(), None)?;
            reader.next().transpose()
        };
        let batch = read().map_err(|e: arrow::error::ArrowError| e.to_string())?;
        let batch = batch.filter(|batch| batch.num_rows() == rows.len());
        let batch = batch.ok_or("the features of rows are missing")?;
        // As the mill read them when they were scored.
        let matrix = Matrix::new(Features {
            last: true,
            times: rows.iter().map(|row| row.time).collect(),
            ids: rows.iter().map(|row| row.id.clone()).collect(),
            columns: Wire(batch),
            kept: None,
        });
        let scored = |(i, row): (usize, SavedRow)| {
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
                columns: Arc::clone(&matrix.columns),
                row: i as u32,
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
