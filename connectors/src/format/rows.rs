//! Rows under construction: typed columns that can take back a row that turned out bad.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, BooleanBufferBuilder, Float64Array, Int64Array, ListArray, RecordBatch,
    RecordBatchOptions, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::error::ArrowError;
use tidemill_types::{DataType, Error, Item, Schema};

use super::maps::{Order, assemble};

/// Columns of a declared schema. A row is filled column by column, in any order, and is then
/// either kept ([`Rows::end`], which sets what is still missing to NULL) or taken back
/// ([`Rows::undo`]).
pub struct Rows {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// Those whose values differ in size.
    uneven: Vec<usize>,
    len: usize,
}

/// A column under construction.
pub(super) struct Column {
    data: Data,
    /// Which values are there; none while all are.
    valid: Option<BooleanBufferBuilder>,
}

enum Data {
    Bool(BooleanBufferBuilder),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Text {
        bytes: Vec<u8>,
        ends: Vec<i32>,
    },
    Timestamp(Vec<i64>),
    /// The items of all rows, and where those of each end. Items behind the last end are of a row under way.
    List {
        items: Box<Column>,
        ends: Vec<i32>,
        item: FieldRef,
    },
    /// The same of maps, and the order of their entries by key.
    Map {
        keys: Box<Column>,
        items: Box<Column>,
        ends: Vec<i32>,
        order: Order,
        item: Item,
    },
}

impl Data {
    fn new(data_type: DataType) -> Data {
        match data_type {
            DataType::Bool => Data::Bool(BooleanBufferBuilder::new(0)),
            DataType::Int64 => Data::Int64(Vec::new()),
            DataType::Float64 => Data::Float64(Vec::new()),
            DataType::String => Data::Text { bytes: Vec::new(), ends: vec![0] },
            DataType::List(item) => {
                let item = DataType::from(item);
                let field = Arc::new(arrow::datatypes::Field::new("item", item.to_arrow(), true));
                Data::List { items: Box::new(Column::new(item)), ends: vec![0], item: field }
            }
            DataType::Map(item) => Data::Map {
                keys: Box::new(Column::new(DataType::String)),
                items: Box::new(Column::new(item.into())),
                ends: vec![0],
                order: Order::default(),
                item,
            },
            DataType::Timestamp => Data::Timestamp(Vec::new()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Data::Bool(bits) => bits.len(),
            Data::Int64(values) | Data::Timestamp(values) => values.len(),
            Data::Float64(values) => values.len(),
            Data::Text { ends, .. } | Data::List { ends, .. } | Data::Map { ends, .. } => {
                ends.len() - 1
            }
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Data::Bool(bits) => bits.truncate(rows),
            Data::Int64(values) | Data::Timestamp(values) => values.truncate(rows),
            Data::Float64(values) => values.truncate(rows),
            Data::Text { bytes, ends } => {
                ends.truncate(rows + 1);
                bytes.truncate(ends[rows] as usize);
            }
            Data::List { items, ends, .. } => {
                ends.truncate(rows + 1);
                items.truncate(ends[rows] as usize);
            }
            Data::Map { keys, items, ends, order, .. } => {
                ends.truncate(rows + 1);
                let entries = ends[rows] as usize;
                keys.truncate(entries);
                items.truncate(entries);
                order.truncate(entries);
            }
        }
    }

    /// Whether its values differ in size.
    fn is_uneven(&self) -> bool {
        matches!(self, Data::Text { .. } | Data::List { .. } | Data::Map { .. })
    }

    /// What the largest buffer of such takes.
    fn bytes(&self) -> usize {
        match self {
            Data::Text { bytes, .. } => bytes.len(),
            Data::List { items, .. } => (8 * items.data.len()).max(items.data.bytes()),
            Data::Map { keys, items, .. } => {
                (8 * items.data.len()).max(items.data.bytes()).max(keys.data.bytes())
            }
            _ => 0,
        }
    }
}

impl Rows {
    /// No rows yet.
    pub fn new(schema: &Schema) -> Rows {
        let columns: Vec<Column> =
            schema.fields.iter().map(|field| Column::new(field.data_type)).collect();
        let uneven = (0..columns.len()).filter(|at| columns[*at].data.is_uneven()).collect();
        Rows { schema: schema.to_arrow(), columns, uneven, len: 0 }
    }

    /// Rows kept so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no row is kept.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes in the largest column of texts, lists or maps. An Arrow column ends at 2 GiB, so readers cut
    /// their chunks by this too.
    pub fn text_bytes(&self) -> usize {
        self.uneven.iter().map(|column| self.columns[*column].data.bytes()).max().unwrap_or(0)
    }

    /// Whether the row under way has this column already.
    pub(super) fn is_set(&self, column: usize) -> bool {
        self.columns[column].data.len() > self.len
    }

    pub(super) fn null(&mut self, column: usize) {
        self.columns[column].null();
    }

    pub(super) fn bool(&mut self, column: usize, value: bool) {
        self.columns[column].bool(value);
    }

    /// A whole number or microseconds.
    #[inline]
    pub(super) fn int(&mut self, column: usize, value: i64) {
        self.columns[column].int(value);
    }

    #[inline]
    pub(super) fn float(&mut self, column: usize, value: f64) {
        self.columns[column].float(value);
    }

    #[inline]
    pub(super) fn text(&mut self, column: usize, value: &str) {
        self.columns[column].text(value);
    }

    /// A column, for a value of the row under way.
    pub(super) fn column(&mut self, column: usize) -> &mut Column {
        &mut self.columns[column]
    }

    /// Keeps the row under way, of which no column is missing.
    pub(super) fn end_complete(&mut self) {
        self.len += 1;
    }

    /// Keeps the row under way.
    pub(super) fn end(&mut self) {
        for column in 0..self.columns.len() {
            if !self.is_set(column) {
                self.null(column);
            }
        }
        self.len += 1;
    }

    /// Takes the row under way back.
    pub(super) fn undo(&mut self) {
        for column in &mut self.columns {
            let nested = matches!(column.data, Data::List { .. } | Data::Map { .. });
            if column.data.len() > self.len || nested {
                column.truncate(self.len);
            }
        }
    }

    /// Hands the rows over and starts anew. Nothing is copied.
    pub fn finish(&mut self) -> Result<RecordBatch, Error> {
        let arrays: Result<_, ArrowError> = self.columns.iter_mut().map(Column::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.len));
        self.len = 0;
        let schema = self.schema.clone();
        arrays
            .and_then(|arrays| RecordBatch::try_new_with_options(schema, arrays, &options))
            .map_err(|e| Error::internal(format!("columns of a chunk do not fit: {e}")))
    }
}

impl Column {
    fn new(data_type: DataType) -> Column {
        Column { data: Data::new(data_type), valid: None }
    }

    pub(super) fn null(&mut self) {
        let rows = self.data.len();
        match &mut self.data {
            Data::Bool(bits) => bits.append(false),
            Data::Int64(values) | Data::Timestamp(values) => values.push(0),
            Data::Float64(values) => values.push(0.0),
            Data::Text { bytes, ends } => ends.push(bytes.len() as i32),
            Data::List { items, ends, .. } => ends.push(items.data.len() as i32),
            Data::Map { items, ends, .. } => ends.push(items.data.len() as i32),
        }
        let all = || {
            let mut all = BooleanBufferBuilder::new(rows + 1);
            all.append_n(rows, true);
            all
        };
        self.valid.get_or_insert_with(all).append(false);
    }

    pub(super) fn bool(&mut self, value: bool) {
        if let Data::Bool(bits) = &mut self.data {
            bits.append(value);
            self.there();
        }
    }

    /// A whole number or microseconds.
    #[inline]
    pub(super) fn int(&mut self, value: i64) {
        if let Data::Int64(values) | Data::Timestamp(values) = &mut self.data {
            values.push(value);
            self.there();
        }
    }

    #[inline]
    pub(super) fn float(&mut self, value: f64) {
        if let Data::Float64(values) = &mut self.data {
            values.push(value);
            self.there();
        }
    }

    #[inline]
    pub(super) fn text(&mut self, value: &str) {
        if let Data::Text { bytes, ends } = &mut self.data {
            bytes.extend_from_slice(value.as_bytes());
            ends.push(bytes.len() as i32);
            self.there();
        }
    }

    /// A list of the items that came since the last one.
    pub(super) fn end_list(&mut self) {
        if let Data::List { items, ends, .. } = &mut self.data {
            ends.push(items.data.len() as i32);
            self.there();
        }
    }

    /// Where the items go of the list that [`Column::end_list`] ends; nowhere, if this is no column of lists.
    pub(super) fn items(&mut self) -> Option<&mut Column> {
        match &mut self.data {
            Data::List { items, .. } => Some(items),
            _ => None,
        }
    }

    /// A map of the entries that came since the last one.
    ///
    /// # Errors
    /// A key that stands in it twice; the row is then to be taken back.
    pub(super) fn end_map(&mut self) -> Result<(), String> {
        if let Data::Map { keys, items, ends, order, .. } = &mut self.data {
            let first = ends.last().map_or(0, |end| *end as usize);
            let entries = first..items.data.len();
            if let Err(twice) = order.add(entries.clone(), |place| keys.bytes_of(place)) {
                return Err(String::from_utf8_lossy(keys.bytes_of(twice)).into_owned());
            }
            ends.push(entries.end as i32);
            self.there();
        }
        Ok(())
    }

    /// Where the keys and values go of the map that [`Column::end_map`] ends; nowhere, if this is no column of maps.
    pub(super) fn entries(&mut self) -> Option<(&mut Column, &mut Column)> {
        match &mut self.data {
            Data::Map { keys, items, .. } => Some((keys, items)),
            _ => None,
        }
    }

    /// The bytes of a text that is in it.
    fn bytes_of(&self, place: usize) -> &[u8] {
        match &self.data {
            Data::Text { bytes, ends } => &bytes[ends[place] as usize..ends[place + 1] as usize],
            _ => &[],
        }
    }

    fn truncate(&mut self, rows: usize) {
        self.data.truncate(rows);
        if let Some(valid) = &mut self.valid {
            valid.truncate(rows);
        }
    }

    /// The value that was appended is no NULL.
    #[inline]
    fn there(&mut self) {
        if self.valid.is_some() {
            self.there_among_nulls();
        }
    }

    #[inline(never)]
    fn there_among_nulls(&mut self) {
        if let Some(valid) = &mut self.valid {
            valid.append(true);
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.valid.take().map(|mut valid| NullBuffer::new(valid.finish()));
        // The NULL may have been of a row that was taken back.
        let nulls = nulls.filter(|n| n.null_count() > 0);
        Ok(match &mut self.data {
            Data::Bool(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Data::Int64(values) => {
                Arc::new(Int64Array::new(ScalarBuffer::from(std::mem::take(values)), nulls))
            }
            Data::Float64(values) => {
                Arc::new(Float64Array::new(ScalarBuffer::from(std::mem::take(values)), nulls))
            }
            Data::Timestamp(values) => Arc::new(
                TimestampMicrosecondArray::new(ScalarBuffer::from(std::mem::take(values)), nulls)
                    .with_timezone("UTC"),
            ),
            Data::Text { bytes, ends } => {
                let ends = OffsetBuffer::new(std::mem::replace(ends, vec![0]).into());
                Arc::new(StringArray::new(ends, std::mem::take(bytes).into(), nulls))
            }
            Data::List { items, ends, item } => {
                let ends = OffsetBuffer::new(std::mem::replace(ends, vec![0]).into());
                Arc::new(ListArray::new(Arc::clone(item), ends, items.finish()?, nulls))
            }
            Data::Map { keys, items, ends, order, item } => {
                let ends = OffsetBuffer::new(std::mem::replace(ends, vec![0]).into());
                let order = std::mem::take(order);
                let (keys, items) = (order.of(keys.finish()?)?, order.of(items.finish()?)?);
                assemble(*item, keys, items, ends, nulls)?
            }
        })
    }
}
