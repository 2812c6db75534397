//! Rows on their way: typed columns with the time, id and offset of each row.

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::Int64Type;
use tidemill_operators::batches::interleaved;
use tidemill_operators::column::values;
use tidemill_operators::order::order;
use tidemill_types::key::canonical;
use tidemill_types::long::long_bytes;
use tidemill_types::{DataType, Id, Micros, Value};

/// A row with so many bytes of texts, lists and maps counts as one.
const ROW_BYTES: u64 = 4 << 10;

const ONE_SCHEMA: &str = "rows of one source have one schema";

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

    /// How many rows they count as for whoever bounds what is held in memory: long ones for several.
    pub fn load(&self) -> usize {
        let bytes = long_bytes(self.batch.columns(), 0..self.batch.num_rows());
        self.times.len().max((bytes / ROW_BYTES) as usize)
    }

    /// The rows of runs of one source that are in order each, by (event time, id); among rows without a difference those
    /// of earlier runs first. In batches of no more than `most` bytes of texts, lists and maps.
    pub fn merged(mut runs: Vec<OrderedRows>, most: u64) -> Vec<OrderedRows> {
        runs.retain(|run| !run.times.is_empty());
        if runs.len() <= 1 {
            return runs;
        }
        let rows = runs.iter().map(|run| run.times.len()).sum();
        let (mut times, mut ids) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let (mut offsets, mut batches) = (Vec::with_capacity(rows), Vec::with_capacity(runs.len()));
        for run in runs {
            times.extend(run.times);
            ids.extend(run.ids);
            offsets.extend(run.offsets);
            batches.push(run.batch);
        }
        let long = |batch: &RecordBatch| long_bytes(batch.columns(), 0..batch.num_rows());
        let total = batches.iter().map(long).sum::<u64>();
        let order = order(&times, &ids);
        if order.is_none() && total <= most {
            let batch = concat_batches(&batches[0].schema(), &batches).expect(ONE_SCHEMA);
            return vec![OrderedRows { times, ids, offsets, batch }];
        }
        let order: Vec<usize> = match order {
            Some(order) => order.into_iter().map(|row| row as usize).collect(),
            None => (0..rows).collect(),
        };
        let places: Vec<(usize, usize)> = batches
            .iter()
            .enumerate()
            .flat_map(|(i, batch)| (0..batch.num_rows()).map(move |row| (i, row)))
            .collect();
        let picks: Vec<(usize, usize)> = order.iter().map(|row| places[*row]).collect();
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        let mut order = order.into_iter();
        let part = |batch: RecordBatch| {
            let own: Vec<usize> = order.by_ref().take(batch.num_rows()).collect();
            OrderedRows {
                times: own.iter().map(|row| times[*row]).collect(),
                ids: own.iter().map(|row| ids[*row].clone()).collect(),
                offsets: own.iter().map(|row| offsets[*row]).collect(),
                batch,
            }
        };
        let parts = interleaved(&batches, &picks, most).expect(ONE_SCHEMA);
        parts.into_iter().map(part).collect()
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    #[test]
    fn long_rows_count_for_several() {
        let rows = |texts: &[&str]| {
            let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
            let (times, n) = (vec![0; texts.len()], texts.len());
            let batch = RecordBatch::try_from_iter([("text", texts)]).expect("one column");
            OrderedRows { times, ids: vec![Id::Int(0); n], offsets: vec![0; n], batch }
        };
        let long = "x".repeat(100 << 10);
        assert_eq!(rows(&[]).load(), 0);
        assert_eq!(rows(&["a", "b", "c"]).load(), 3);
        let rows = rows(&["a", &long, "b", &long]);
        assert_eq!(rows.load(), 50);
        assert_eq!(rows.slice(1, 1).load(), 25);
        assert_eq!(rows.slice(2, 1).load(), 1);
    }
}
