//! `arrow_ipc`: Apache Arrow's own format, file or stream.
//!
//! * **Reads** both forms, told apart by their first bytes; columns as for Parquet. Compressed
//!   buffers are refused with a clear error.
//! * **Writes** the file form, uncompressed, in batches of 65,536 rows; the same rows give the same bytes.
//! * **Cost** a batch of the file in memory.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::{FileReader as IpcFile, StreamReader};
use arrow::ipc::writer::FileWriter as IpcWriter;
use tidemill_types::Error;

use super::cells::write_failed;
use super::columnar::{Batches, ColumnReader, GroupWriter, Grouped, check, guarded};
use super::compression::Input;
use super::{Entry, FileReader, FileWriter, Layout, Output};

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "arrow_ipc",
    summary: "Apache Arrow IPC, file or stream",
    extensions: &["arrow", "arrows", "feather", "ipc"],
    reader,
    writer,
    messages: None,
};

fn reader(input: &Input, layout: &Layout) -> Result<Box<dyn FileReader>, Error> {
    let mut file = BufReader::new(input.file()?);
    let (schema, batches) = if is_file_form(&mut file)? {
        open_file(file, &input.name)?
    } else {
        open_stream(file, &input.name)?
    };
    check(&input.name, &schema, layout)?;
    Ok(Box::new(ColumnReader::new(&input.name, layout, batches)))
}

/// Tells the file form, which begins and ends with a magic word, from the stream form.
fn is_file_form(file: &mut BufReader<File>) -> Result<bool, Error> {
    let mut head = [0; 6];
    let is_file = file.read_exact(&mut head).is_ok() && &head == b"ARROW1";
    file.rewind()?;
    Ok(is_file)
}

fn open_file(file: BufReader<File>, name: &str) -> Result<(SchemaRef, Batches), Error> {
    let reader = guarded(name, || IpcFile::try_new(file, None))?;
    Ok((reader.schema(), Box::new(reader)))
}

fn open_stream(file: BufReader<File>, name: &str) -> Result<(SchemaRef, Batches), Error> {
    let reader = guarded(name, || StreamReader::try_new(file, None))?;
    Ok((reader.schema(), Box::new(reader)))
}

fn writer(output: Output, schema: &SchemaRef) -> Result<Box<dyn FileWriter>, Error> {
    let plain: SchemaRef = Arc::new(Schema::new(schema.fields().clone()));
    let writer = IpcWriter::try_new(output, &plain).map_err(write_failed)?;
    Ok(Box::new(Grouped::new(&plain, Box::new(ArrowFile { writer }))))
}

struct ArrowFile {
    writer: IpcWriter<Output>,
}

impl GroupWriter for ArrowFile {
    fn group(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.writer.write(rows).map_err(write_failed)
    }

    fn end(mut self: Box<Self>) -> Result<(), Error> {
        self.writer.finish().map_err(write_failed)
    }
}
