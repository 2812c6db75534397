//! Rows on their way: typed columns with the time, id and offset of each row.

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Int64Type, Schema};
use tidemill_operators::column::values;
use tidemill_operators::order::order;
use tidemill_types::key::canonical;
use tidemill_types::{DataType, Id, Micros, Value};

use super::check::Derive;

/// Typed rows with their times and ids.
#[derive(Clone)]
pub struct OrderedRows {
    /// Event time of each row.
    pub times: Vec<Micros>,
    /// Id of each row.
    pub ids: Vec<Id>,
    /// Offset of each row in its partition.
    pub offsets: Vec<u64>,
    /// Declared and computed columns.
    pub batch: RecordBatch,
}

impl OrderedRows {
    /// No rows.
    pub fn empty(derive: &Derive) -> OrderedRows {
        let batch = RecordBatch::new_empty(derive.schema.to_arrow());
        OrderedRows { times: Vec::new(), ids: Vec::new(), offsets: Vec::new(), batch }
    }

    /// The rows picked, in the order of the picks.
    pub fn take(&self, picks: &[u32]) -> OrderedRows {
        OrderedRows {
            times: picks.iter().map(|i| self.times[*i as usize]).collect(),
            ids: picks.iter().map(|i| self.ids[*i as usize].clone()).collect(),
            offsets: picks.iter().map(|i| self.offsets[*i as usize]).collect(),
            batch: take_record_batch(&self.batch, &UInt32Array::from(picks.to_vec()))
                .expect("picks are rows of the batch"),
        }
    }

    /// A run of rows; the columns are shared.
    pub fn slice(&self, start: usize, rows: usize) -> OrderedRows {
        OrderedRows {
            times: self.times[start..start + rows].to_vec(),
            ids: self.ids[start..start + rows].to_vec(),
            offsets: self.offsets[start..start + rows].to_vec(),
            batch: self.batch.slice(start, rows),
        }
    }

    /// The rows of several pieces of one source, one after the other.
    pub fn joined(pieces: Vec<OrderedRows>) -> OrderedRows {
        let rows = pieces.iter().map(|piece| piece.times.len()).sum();
        let (mut times, mut ids) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let (mut offsets, mut batches) = (Vec::with_capacity(rows), Vec::new());
        for piece in pieces {
            times.extend(piece.times);
            ids.extend(piece.ids);
            offsets.extend(piece.offsets);
            batches.push(piece.batch);
        }
        let schema = batches.first().map_or_else(|| Schema::empty().into(), RecordBatch::schema);
        let batch = concat_batches(&schema, &batches).expect("rows of one source have one schema");
        OrderedRows { times, ids, offsets, batch }
    }

    /// The same rows by (event time, id).
    pub fn sorted(self) -> OrderedRows {
        match order(&self.times, &self.ids) {
            Some(picks) => self.take(&picks),
            None => self,
        }
    }
}

/// The ids of all rows: a column, or without one the canonical bytes of the row.
pub fn ids(batch: &RecordBatch, id: Option<usize>) -> Vec<Id> {
    match id {
        Some(id) => {
            let column = batch.column(id);
            match DataType::from_arrow(column.data_type()) {
                Some(DataType::Int64) => {
                    let column = column.as_primitive::<Int64Type>();
                    match column.null_count() {
                        0 => column.values().iter().map(|v| Id::Int(*v)).collect(),
                        _ => column.iter().map(|v| Id::Int(v.unwrap_or(0))).collect(),
                    }
                }
                _ => values(column).iter().map(id_of).collect(),
            }
        }
        None => {
            let columns: Vec<Vec<Value>> = batch.columns().iter().map(values).collect();
            (0..batch.num_rows())
                .map(|row| {
                    let mut bytes = Vec::new();
                    columns.iter().for_each(|c| canonical(&c[row], &mut bytes));
                    Id::Row(bytes.into())
                })
                .collect()
        }
    }
}

/// A value as an id.
pub fn id_of(value: &Value) -> Id {
    match value {
        Value::Int(i) => Id::Int(*i),
        Value::Bool(b) => Id::Int(i64::from(*b)),
        Value::Text(text) => Id::Text(text.as_ref().into()),
        Value::Float(f) => Id::Text(f.to_string().into()),
        Value::Null => Id::Text("".into()),
        nested @ (Value::List(_) | Value::Map(_)) => {
            let mut bytes = Vec::new();
            canonical(nested, &mut bytes);
            Id::Row(bytes.into())
        }
    }
}
