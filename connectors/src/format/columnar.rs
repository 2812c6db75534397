//! What the columnar formats share: fitting a file's columns to the declared ones, and writing in
//! groups that depend on the rows alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, RecordBatchOptions,
    StringArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast, cast_with_options, concat, filter_record_batch};
use arrow::datatypes::{
    DataType as Arrow, Float64Type, Int32Type, Int64Type, SchemaRef, TimeUnit,
    TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::array_value_to_string;
use tidemill_types::long::Cut;
use tidemill_types::{DataType, Error, Field};

use super::text::wrong;
use super::{Each, FileReader, FileWriter, Held, Layout, Part, Refusal, Reject, lists, maps};

/// Rows of a row group, and of an Arrow IPC batch.
pub(super) const GROUP: usize = 65_536;

/// The batches of a file, as its library reads them.
pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// Reads a columnar file.
pub(super) struct ColumnReader {
    name: String,
    fields: Vec<Field>,
    schema: SchemaRef,
    batches: Batches,
    held: Option<RecordBatch>,
    position: u64,
    failed: Option<Error>,
}

/// Runs a library's reader over bytes that may be anything. Its panics on a damaged file are
/// errors of the file.
pub(super) fn guarded<T>(
    name: &str,
    read: impl FnOnce() -> Result<T, ArrowError>,
) -> Result<T, Error> {
    let damaged = |why: &str| {
        Error::external(format!("{name} is damaged: {why}")).help("fetch or write the file again")
    };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(damaged(&error.to_string())),
        Err(_) => Err(damaged("its parts contradict each other")),
    }
}

/// Refuses a file whose columns do not fit the declared ones.
pub(super) fn check(name: &str, file: &SchemaRef, layout: &Layout) -> Result<(), Error> {
    for field in &layout.schema.fields {
        let Ok(found) = file.field_with_name(&field.name) else {
            let names = || file.fields().iter().map(|f| f.name().as_str());
            let error = Error::user(format!("{name} has no column {}", field.name));
            return Err(match crate::keys::nearest(&field.name, names()) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error
                    .help(format!("its columns are {}", names().collect::<Vec<_>>().join(", "))),
            });
        };
        if file.fields().iter().filter(|found| *found.name() == field.name).count() > 1 {
            return Err(Error::user(format!("{name} has two columns named {}", field.name))
                .help("which of them is meant cannot be known: rename one"));
        }
        // What a writer calls a column in which it never saw a value.
        let nothing = *found.data_type() == Arrow::Null;
        if !nothing && !fits(found.data_type(), field.data_type) {
            return Err(Error::user(format!(
                "{name}: column {} is {}, wanted {}",
                field.name,
                found.data_type(),
                field.data_type
            ))
            .help("declare another type in `schema`, or write the file with this one"));
        }
    }
    Ok(())
}

/// Whether every value of a type, or all but those out of range, has one of the declared type.
fn fits(found: &Arrow, wanted: DataType) -> bool {
    let small = matches!(
        found,
        Arrow::Int8 | Arrow::Int16 | Arrow::Int32 | Arrow::UInt8 | Arrow::UInt16 | Arrow::UInt32
    );
    match wanted {
        DataType::Bool => matches!(found, Arrow::Boolean),
        DataType::Int64 => small || matches!(found, Arrow::Int64 | Arrow::UInt64),
        DataType::Float64 => {
            small || matches!(found, Arrow::Int64 | Arrow::Float32 | Arrow::Float64)
        }
        DataType::String => match found {
            Arrow::Utf8 | Arrow::LargeUtf8 | Arrow::Utf8View => true,
            Arrow::Dictionary(_, values) => fits(values, DataType::String),
            _ => false,
        },
        DataType::Timestamp => {
            matches!(found, Arrow::Timestamp(_, _) | Arrow::Date32 | Arrow::Date64)
        }
        DataType::List(item) => match found {
            Arrow::List(found) | Arrow::LargeList(found) | Arrow::FixedSizeList(found, _) => {
                fits(found.data_type(), item.into())
            }
            _ => false,
        },
        DataType::Map(item) => match found {
            Arrow::Map(entries, _) => match entries.data_type() {
                Arrow::Struct(parts) => match parts.as_ref() {
                    [key, value] => {
                        fits(key.data_type(), DataType::String)
                            && fits(value.data_type(), item.into())
                    }
                    _ => false,
                },
                _ => false,
            },
            _ => false,
        },
    }
}

impl ColumnReader {
    pub(super) fn new(name: &str, layout: &Layout, batches: Batches) -> ColumnReader {
        ColumnReader {
            name: name.to_string(),
            fields: layout.schema.fields.clone(),
            schema: layout.schema.to_arrow(),
            batches,
            held: None,
            position: 0,
            failed: None,
        }
    }

    /// The next rows as they are in the file, at most so many, and fewer where they are long.
    fn take(&mut self, rows: usize) -> Result<Option<RecordBatch>, Error> {
        let batch = match self.held.take() {
            Some(batch) => batch,
            None => {
                let batches = &mut self.batches;
                match guarded(&self.name, || batches.next().transpose())? {
                    Some(batch) => batch,
                    None => return Ok(None),
                }
            }
        };
        let n = Cut::new(rows).take(batch.columns(), batch.num_rows());
        if n == batch.num_rows() {
            return Ok(Some(batch));
        }
        self.held = Some(batch.slice(n, batch.num_rows() - n));
        Ok(Some(batch.slice(0, n)))
    }

    fn part(&mut self, batch: &RecordBatch) -> Result<Part, Error> {
        let first = self.position + 1;
        self.position += batch.num_rows() as u64;
        let mut keep = vec![true; batch.num_rows()];
        let mut columns = Vec::with_capacity(self.fields.len());
        let mut rejects = Vec::new();
        for field in &self.fields {
            let found = batch.column_by_name(&field.name).ok_or_else(|| {
                Error::external(format!("{}: column {} is gone", self.name, field.name))
            })?;
            let (column, lost) = match field.data_type {
                _ if *found.data_type() == Arrow::Null => {
                    let place = self.schema.index_of(&field.name);
                    let wanted = place.map(|place| self.schema.field(place).data_type().clone());
                    let wanted = wanted.map_err(|e| Error::internal(e.to_string()))?;
                    (new_null_array(&wanted, found.len()), Vec::new())
                }
                DataType::List(_) => guarded(&self.name, || lists::convert_lists(found, field))?,
                DataType::Map(_) => guarded(&self.name, || maps::convert_maps(found, field))?,
                _ => {
                    let column = guarded(&self.name, || convert(found, field.data_type))?;
                    let lost = out_of_range(found, &column, field);
                    (column, lost)
                }
            };
            for (row, refusal) in lost {
                if std::mem::replace(&mut keep[row], false) {
                    let raw = as_written(found, row).into_bytes();
                    rejects.push(Reject { line: first + row as u64, refusal, raw });
                }
            }
            columns.push(column);
        }
        rejects.sort_by_key(|reject| reject.line);
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|e| Error::internal(format!("{}: {e}", self.name)))?;
        let lines = (first..).zip(&keep).filter(|(_, keep)| **keep).map(|(line, _)| line).collect();
        let rows = if rejects.is_empty() {
            rows
        } else {
            filter_record_batch(&rows, &BooleanArray::from(keep))
                .map_err(|e| Error::internal(format!("{}: {e}", self.name)))?
        };
        Ok(Part { rows, lines, rejects })
    }
}

impl FileReader for ColumnReader {
    fn read(&mut self, rows: usize) -> Result<Option<Part>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let outcome = loop {
            match self.take(rows) {
                Ok(Some(batch)) if batch.num_rows() == 0 => {}
                Ok(Some(batch)) => break self.part(&batch).map(Some),
                Ok(None) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        if let Err(error) = &outcome {
            self.failed = Some(error.clone());
        }
        outcome
    }

    fn position(&self) -> u64 {
        self.position
    }
}

/// The rows whose value became NULL.
fn out_of_range(found: &ArrayRef, column: &ArrayRef, field: &Field) -> Vec<(usize, Refusal)> {
    if column.null_count() <= found.logical_null_count() {
        return Vec::new();
    }
    let lost = (0..found.len()).filter(|row| column.is_null(*row) && !found.is_null(*row));
    lost.map(|row| (row, wrong(field, as_written(found, row), " (out of range)"))).collect()
}

/// The column as declared; a value out of range becomes NULL, for the caller to find.
///
/// Times keep their instant and are relabelled as UTC; naive ones are UTC. Digits below the
/// microsecond are cut off.
pub(super) fn convert(found: &ArrayRef, wanted: DataType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    if wanted != DataType::Timestamp {
        return cast_with_options(found, &wanted.to_arrow(), &options);
    }
    let zone = match found.data_type() {
        Arrow::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let micros =
        cast_with_options(found, &Arrow::Timestamp(TimeUnit::Microsecond, zone), &options)?;
    let micros = micros.as_primitive::<TimestampMicrosecondType>().clone();
    Ok(Arc::new(micros.with_timezone("UTC")))
}

/// A value as text; a time as the number that the file holds, for it may be none that a calendar
/// has.
pub(super) fn as_written(found: &ArrayRef, row: usize) -> String {
    let number = match found.data_type() {
        Arrow::Timestamp(_, _) | Arrow::Date64 => cast(&found.slice(row, 1), &Arrow::Int64),
        _ => Ok(found.slice(row, 1)),
    };
    number.and_then(|number| array_value_to_string(&number, 0)).unwrap_or_default()
}

/// A library's writer of one file format.
pub(super) trait GroupWriter: Send {
    /// Writes one group, which comes in parts: up to [`GROUP`] rows.
    fn group(&mut self, parts: &[RecordBatch]) -> Result<(), Error>;

    /// Hands on all bytes of the groups written, and tells what a reader needs to find them.
    fn index(&mut self) -> Result<Vec<u8>, Error>;

    /// Ends the file.
    fn end(self: Box<Self>) -> Result<(), Error>;
}

/// Rows as an Arrow IPC stream; nothing for none.
fn streamed<'a>(rows: impl IntoIterator<Item = &'a RecordBatch>) -> Result<Vec<u8>, ArrowError> {
    let mut rows = rows.into_iter().peekable();
    let Some(first) = rows.peek() else { return Ok(Vec::new()) };
    let mut writer = StreamWriter::try_new(Vec::new(), &first.schema())?;
    rows.try_for_each(|batch| writer.write(batch))?;
    writer.into_inner()
}

/// The rows that [`FileWriter::mark`] told as held.
pub(crate) fn held_rows(stream: &[u8], each: Each<'_>) -> Result<(), Error> {
    if stream.is_empty() {
        return Ok(());
    }
    let failed = |e: ArrowError| Error::external(format!("held rows do not read back: {e}"));
    for batch in StreamReader::try_new(stream, None).map_err(failed)? {
        each(&batch.map_err(failed)?)?;
    }
    Ok(())
}

/// Cuts what is written into groups of one size and one form, so that the file depends on the rows
/// and not on how they came.
pub(super) struct Grouped {
    held: Vec<RecordBatch>,
    cut: Cut,
    writer: Box<dyn GroupWriter>,
}

impl Grouped {
    pub(super) fn new(writer: Box<dyn GroupWriter>) -> Grouped {
        Grouped { held: Vec::new(), cut: Cut::new(GROUP), writer }
    }

    /// Writes what is held.
    fn group(&mut self) -> Result<(), Error> {
        self.writer.group(&std::mem::take(&mut self.held))
    }
}

impl FileWriter for Grouped {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let mut rest = rows.clone();
        while rest.num_rows() > 0 {
            let n = self.cut.take(rest.columns(), rest.num_rows());
            self.held.push(rest.slice(0, n));
            rest = rest.slice(n, rest.num_rows() - n);
            if self.cut.ends() {
                self.group()?;
            }
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<Held, Error> {
        let rows = streamed(&self.held).map_err(super::cells::write_failed)?;
        Ok(Held { rows, index: self.writer.index()? })
    }

    fn finish(mut self: Box<Self>) -> Result<(), Error> {
        if !self.cut.is_empty() {
            self.group()?;
        }
        self.writer.end()
    }
}

/// The rows of a group as one batch in one fixed form.
pub(super) fn whole(schema: &SchemaRef, parts: &[RecordBatch]) -> Result<RecordBatch, Error> {
    let rows = parts.iter().map(RecordBatch::num_rows).sum();
    let column = |i| joined(parts, i).map(|column| plain(&column));
    let columns = (0..schema.fields().len()).map(column).collect::<Result<_, _>>();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    columns
        .and_then(|columns| RecordBatch::try_new_with_options(schema.clone(), columns, &options))
        .map_err(|e| Error::internal(format!("rows do not fit the file: {e}")))
}

/// A column of consecutive parts; copied only where there are several.
pub(super) fn joined(parts: &[RecordBatch], column: usize) -> Result<ArrayRef, ArrowError> {
    match parts {
        [only] => Ok(Arc::clone(only.column(column))),
        _ => concat(&parts.iter().map(|part| part.column(column).as_ref()).collect::<Vec<_>>()),
    }
}

/// The same values in one fixed form: nothing under a NULL, no bitmap where nothing is NULL, no
/// offset in texts and bits. Types that it does not know keep the form they came in.
pub(super) fn plain(column: &ArrayRef) -> ArrayRef {
    macro_rules! primitive {
        ($t:ty) => {{
            let array = column.as_primitive::<$t>();
            let values = match column.null_count() {
                // Nothing to clear: the values are shared.
                0 => array.values().clone(),
                _ => array.iter().map(Option::unwrap_or_default).collect::<Vec<_>>().into(),
            };
            let plain = arrow::array::PrimitiveArray::<$t>::new(values, nulls(column));
            Arc::new(plain.with_data_type(column.data_type().clone()))
        }};
    }
    match column.data_type() {
        Arrow::Int32 => primitive!(Int32Type),
        Arrow::Int64 => primitive!(Int64Type),
        Arrow::UInt32 => primitive!(UInt32Type),
        Arrow::UInt64 => primitive!(UInt64Type),
        Arrow::Float64 => primitive!(Float64Type),
        Arrow::Timestamp(TimeUnit::Microsecond, _) => primitive!(TimestampMicrosecondType),
        Arrow::Boolean => {
            let values = column.as_boolean().iter().map(Option::unwrap_or_default).collect();
            Arc::new(BooleanArray::new(values, nulls(column)))
        }
        Arrow::Utf8 => {
            let array = column.as_string::<i32>();
            let texts = StringArray::from_iter_values(array.iter().map(Option::unwrap_or_default));
            let (ends, bytes, _) = texts.into_parts();
            Arc::new(StringArray::new(ends, bytes, nulls(column)))
        }
        Arrow::Binary => {
            let array = column.as_binary::<i32>();
            let texts = BinaryArray::from_iter_values(array.iter().map(Option::unwrap_or_default));
            let (ends, bytes, _) = texts.into_parts();
            Arc::new(BinaryArray::new(ends, bytes, nulls(column)))
        }
        _ => column.clone(),
    }
}

fn nulls(column: &ArrayRef) -> Option<NullBuffer> {
    (column.null_count() > 0).then(|| (0..column.len()).map(|row| column.is_valid(row)).collect())
}
