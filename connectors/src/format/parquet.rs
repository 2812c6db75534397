//! `parquet`: Apache Parquet files.
//!
//! * **Reads** the declared columns only. Narrower integers, 32-bit floats, dictionaries and times of
//!   any unit are widened; a value out of range refuses its row; any other type is an error at open, and so
//!   is another packing than zstd, Snappy or none. A column of the type null is NULL throughout.
//! * **Writes** row groups of 65,536 rows, or fewer with 64 MiB of texts, lists and maps, zstd, dictionaries where they pay; with `compression = "snappy"`
//!   the same under Snappy, with `"none"` plain pages without statistics, dictionaries for text only. The
//!   same rows give the same bytes: no time of day and no machine is in the footer.
//! * **Cost** a row group in memory while writing, a batch of 4,096 rows while reading, or fewer with 64 MiB.

use std::fs::File;
use std::io;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, ArrowWriter, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter,
    RowGroupMetaData,
};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use tidemill_types::Error;
use tidemill_types::long::MOST_BYTES;

use super::columnar::{
    ColumnReader, GROUP, GroupWriter, Grouped, check, guarded, joined, plain, whole,
};
use super::compression::Input;
use super::plain::PlainChunk;
use super::{Each, Entry, FileReader, FileWriter, Held, Layout, Output, Packing};

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "parquet",
    summary: "Apache Parquet files",
    extensions: &["parquet"],
    reader,
    writer,
    reread: Some(reread),
    packs: true,
    messages: None,
};

const BATCH: usize = 4_096;

fn reader(input: &Input, layout: &Layout) -> Result<Box<dyn FileReader>, Error> {
    let file = input.file()?;
    let builder = guarded(&input.name, || Ok(ParquetRecordBatchReaderBuilder::try_new(file)?))?;
    check(&input.name, builder.schema(), layout)?;
    unpacks(&input.name, builder.metadata(), layout)?;
    let wanted = builder.schema().fields().iter().enumerate();
    let wanted = wanted.filter(|(_, f)| layout.schema.index_of(f.name()).is_some()).map(|(i, _)| i);
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let rows = batch_rows(builder.metadata(), layout);
    let batches = guarded(&input.name, || {
        Ok(builder.with_projection(mask).with_batch_size(rows).build()?)
    })?;
    Ok(Box::new(ColumnReader::new(&input.name, layout, Box::new(batches))))
}

/// Rows that are read at once: fewer where a column of texts would come near the 2 GiB that it may hold.
fn batch_rows(file: &ParquetMetaData, layout: &Layout) -> usize {
    let long = |group: &RowGroupMetaData| {
        let read = group.columns().iter().filter(|column| is_read(column, layout));
        // Where a text that comes again is written once, only the writer's own sum tells how long all are.
        let bytes = read.map(|column| {
            let sum = column.unencoded_byte_array_data_bytes().unwrap_or(0);
            sum.max(column.uncompressed_size())
        });
        bytes.sum::<i64>() / group.num_rows().max(1)
    };
    let row = file.row_groups().iter().map(long).max().unwrap_or(0).max(1);
    (MOST_BYTES as i64 / row).clamp(1, BATCH as i64) as usize
}

fn is_read(column: &ColumnChunkMetaData, layout: &Layout) -> bool {
    let root = column.column_path().parts().first();
    root.is_some_and(|root| layout.schema.index_of(root).is_some())
}

/// Refuses a file whose declared columns are packed in a way that is not read, before the first row is.
fn unpacks(name: &str, file: &ParquetMetaData, layout: &Layout) -> Result<(), Error> {
    for column in file.row_groups().iter().flat_map(RowGroupMetaData::columns) {
        let known = matches!(
            column.compression(),
            Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_)
        );
        if is_read(column, layout) && !known {
            let packing = format!("{:?}", column.compression());
            let packing = packing.split('(').next().unwrap_or_default().to_lowercase();
            return Err(Error::user(format!("{name} is packed with {packing}, which is not read"))
                .help("write it with zstd, snappy or no compression"));
        }
    }
    Ok(())
}

fn writer(
    output: Output,
    schema: &SchemaRef,
    packing: Packing,
) -> Result<Box<dyn FileWriter>, Error> {
    // Metadata of the schema is a hash map, which has no order of its own: it stays out.
    let bare: SchemaRef = Arc::new(Schema::new(schema.fields().clone()));
    let properties: WriterPropertiesPtr = Arc::new(properties(schema, packing)?);
    let chosen = Some(properties.as_ref().clone());
    let writer = ArrowWriter::try_new(output, bare.clone(), chosen).map_err(failed)?;
    Ok(Box::new(Grouped::new(match packing {
        Packing::Plain => {
            let (writer, general) = writer.into_serialized_writer().map_err(failed)?;
            Box::new(PlainFile { schema: bare, writer, general, groups: 0 })
        }
        Packing::Zstd | Packing::Snappy => {
            Box::new(ParquetFile { schema: bare, properties, writer })
        }
    })))
}

fn properties(schema: &SchemaRef, packing: Packing) -> Result<WriterProperties, Error> {
    let mut properties = WriterProperties::builder()
        .set_created_by("tidemill".to_string())
        .set_max_row_group_row_count(Some(GROUP));
    properties = match packing {
        Packing::Zstd => {
            let level = ZstdLevel::try_new(1).map_err(failed)?;
            properties.set_compression(Compression::ZSTD(level))
        }
        Packing::Snappy => properties.set_compression(Compression::SNAPPY),
        Packing::Plain => properties
            .set_compression(Compression::UNCOMPRESSED)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true),
    };
    // A dictionary of floats is as long as the column and is thrown away again; it cost a third of
    // writing features, and higher levels of zstd half. One of whole numbers pays in bytes, not in time.
    for field in schema.fields() {
        let number = field.data_type().is_numeric() || field.data_type().is_temporal();
        if field.data_type().is_floating() || (number && packing == Packing::Plain) {
            let column = field.name().as_str().into();
            properties = properties.set_column_dictionary_enabled(column, false);
        }
    }
    Ok(properties.build())
}

struct ParquetFile {
    schema: SchemaRef,
    properties: WriterPropertiesPtr,
    writer: ArrowWriter<Output>,
}

/// A footer over these groups, for a reader of a file that has none yet.
fn footer(
    schema: &SchemaRef,
    properties: WriterPropertiesPtr,
    groups: &[RowGroupMetaData],
) -> Result<Vec<u8>, ParquetError> {
    let properties = Some(properties.as_ref().clone());
    let empty = ArrowWriter::try_new(io::sink(), schema.clone(), properties)?.close()?;
    let metadata = ParquetMetaData::new(empty.file_metadata().clone(), groups.to_vec());
    let mut out = Vec::new();
    ParquetMetaDataWriter::new(&mut out, &metadata).finish()?;
    Ok(out)
}

/// The rows of the groups that the index names, in pieces.
fn reread(file: File, _: u64, held: &Held, each: Each<'_>) -> Result<(), Error> {
    let index = Bytes::from(held.index.clone());
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&index).map_err(failed)?;
    if metadata.num_row_groups() == 0 {
        return Ok(());
    }
    let options = ArrowReaderOptions::new();
    let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata), options).map_err(failed)?;
    // Each by itself: the texts of several may be more than one batch holds.
    for group in 0..metadata.metadata().num_row_groups() {
        let (file, metadata) = (file.try_clone()?, metadata.clone());
        let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
        let batches = batches.with_row_groups(vec![group]).with_batch_size(GROUP);
        for batch in batches.build().map_err(failed)? {
            each(&batch.map_err(super::cells::write_failed)?)?;
        }
    }
    Ok(())
}

impl GroupWriter for ParquetFile {
    fn index(&mut self) -> Result<Vec<u8>, Error> {
        self.writer.sync()?;
        let groups = self.writer.flushed_row_groups();
        footer(&self.schema, self.properties.clone(), groups).map_err(failed)
    }

    fn group(&mut self, parts: &[RecordBatch]) -> Result<(), Error> {
        self.writer.write(&whole(&self.schema, parts)?).map_err(failed)?;
        self.writer.flush().map_err(failed)
    }

    fn end(self: Box<Self>) -> Result<(), Error> {
        self.writer.close().map(|_| ()).map_err(failed)
    }
}

/// Columns of numbers are written from where they are, the others by the general writer.
struct PlainFile {
    schema: SchemaRef,
    writer: SerializedFileWriter<Output>,
    general: ArrowRowGroupWriterFactory,
    groups: usize,
}

impl PlainFile {
    fn write(&mut self, parts: &[RecordBatch]) -> Result<(), ParquetError> {
        let general = self.general.create_column_writers(self.groups)?;
        self.groups += 1;
        let columns = self.writer.schema_descr().columns().to_vec();
        let mut group = self.writer.next_row_group()?;
        for (i, mut general) in general.into_iter().enumerate() {
            let found: Vec<&ArrayRef> = parts.iter().map(|part| part.column(i)).collect();
            if let Some((chunk, close)) = PlainChunk::of(&found, &columns[i])? {
                group.append_column(&chunk, close)?;
                continue;
            }
            let column = plain(&joined(parts, i)?);
            for leaf in compute_leaves(self.schema.field(i), &column)? {
                general.write(&leaf)?;
            }
            general.close()?.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }
}

impl GroupWriter for PlainFile {
    fn index(&mut self) -> Result<Vec<u8>, Error> {
        self.writer.flush()?;
        let (properties, groups) = (self.writer.properties(), self.writer.flushed_row_groups());
        footer(&self.schema, properties.clone(), groups).map_err(failed)
    }

    fn group(&mut self, parts: &[RecordBatch]) -> Result<(), Error> {
        self.write(parts).map_err(failed)
    }

    fn end(self: Box<Self>) -> Result<(), Error> {
        self.writer.close().map(|_| ()).map_err(failed)
    }
}

fn failed(error: ParquetError) -> Error {
    // Arrow would keep of a disk that refuses no more than a text, which looks like a defect of ours.
    if let ParquetError::External(below) = error {
        return match below.downcast::<io::Error>() {
            Ok(refused) => Error::from(*refused),
            Err(other) => Error::internal(format!("cannot write: {other}")),
        };
    }
    super::cells::write_failed(ArrowError::from(error))
}
