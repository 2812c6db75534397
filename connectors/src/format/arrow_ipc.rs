//! `arrow_ipc`: Apache Arrow's own format, file or stream.
//!
//! * **Reads** both forms, told apart by their first bytes, from front to back; columns as for Parquet.
//!   Buffers packed by LZ4 or Zstandard are read. A truncated file gives the batches before the
//!   break, then the error.
//! * **Writes** the file form, uncompressed, in batches of 65,536 rows, or fewer with 64 MiB of texts, lists and
//!   maps; the same rows give the same bytes.
//! * **Cost** a batch of the file in memory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::FileWriter as IpcWriter;
use tidemill_types::Error;

use super::cells::write_failed;
use super::columnar::{ColumnReader, GroupWriter, Grouped, check, guarded, whole};
use super::compression::Input;
use super::{Each, Entry, FileReader, FileWriter, Held, Layout, Output, Packing};

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "arrow_ipc",
    summary: "Apache Arrow IPC, file or stream",
    extensions: &["arrow", "arrows", "feather", "ipc"],
    reader,
    writer,
    reread: Some(reread),
    packs: false,
    messages: None,
};

const MAGIC: &[u8; 6] = b"ARROW1";

/// Bytes read at a time.
const PIECE: u64 = 1 << 20;

fn reader(input: &Input, layout: &Layout) -> Result<Box<dyn FileReader>, Error> {
    let mut file = input.file()?;
    let form = form(&mut file)?;
    let mut batches = Messages {
        bytes: Box::new(file),
        form,
        piece: Buffer::from(Vec::<u8>::new()),
        decoder: StreamDecoder::new(),
    };
    let (schema, first) = guarded(&input.name, || batches.schema())?;
    check(&input.name, &schema, layout)?;
    let batches = Box::new(first.into_iter().map(Ok).chain(batches));
    Ok(Box::new(ColumnReader::new(&input.name, layout, batches)))
}

/// The rows of the whole batches among the first bytes of a file.
fn reread(mut file: File, bytes: u64, _: &Held, each: Each<'_>) -> Result<(), Error> {
    form(&mut file)?;
    let first = file.stream_position()?;
    let batches = Messages {
        bytes: Box::new(file.take(bytes.saturating_sub(first))),
        form: Form::Stream,
        piece: Buffer::from(Vec::<u8>::new()),
        decoder: StreamDecoder::new(),
    };
    for batch in batches {
        // A schema without a batch behind it reads as a torn stream. What was read is compared with what
        // was written by whoever asked.
        let Ok(batch) = batch else { break };
        each(&batch)?;
    }
    Ok(())
}

/// The two forms. A file is a stream between a magic word and a footer, which repeats where the
/// messages are: reading them in order needs no footer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Stream,
    File,
    /// A file without its end.
    Torn,
}

/// Tells the form, and places the file at its first message: the magic word is padded with zeros
/// to 8 bytes, or to as many as its writer likes.
fn form(file: &mut File) -> Result<Form, Error> {
    let mut word = Vec::new();
    file.by_ref().take(8).read_to_end(&mut word)?;
    if !word.starts_with(MAGIC) {
        file.rewind()?;
        return Ok(Form::Stream);
    }
    let mut first = 0;
    while word.len() == 8 && (first == 0 || word.iter().all(|byte| *byte == 0)) {
        first += 8;
        word.clear();
        file.by_ref().take(8).read_to_end(&mut word)?;
    }
    let mut tail = [0; 6];
    if file.metadata()?.len() >= first + 6 {
        file.seek(SeekFrom::End(-6))?;
        file.read_exact(&mut tail)?;
    }
    file.seek(SeekFrom::Start(first))?;
    Ok(if &tail == MAGIC { Form::File } else { Form::Torn })
}

/// The batches of a sequence of messages. Memory is taken as bytes arrive and not as a message
/// announces them, for a damaged length could ask for all there is.
struct Messages {
    bytes: Box<dyn Read + Send>,
    form: Form,
    piece: Buffer,
    decoder: StreamDecoder,
}

impl Messages {
    /// Reads up to the schema, and the batch that may have come with it.
    fn schema(&mut self) -> Result<(SchemaRef, Option<RecordBatch>), ArrowError> {
        let first = loop {
            let batch = self.step()?;
            match batch {
                Step::Batch(batch) => break Some(batch),
                Step::On if self.decoder.schema().is_some() => break None,
                Step::On => {}
                Step::End => break None,
            }
        };
        let schema = self.decoder.schema();
        Ok((schema.ok_or_else(|| ArrowError::IpcError("it has no schema".to_string()))?, first))
    }

    fn step(&mut self) -> Result<Step, ArrowError> {
        if self.piece.is_empty() {
            let mut piece = Vec::new();
            self.bytes.by_ref().take(PIECE).read_to_end(&mut piece)?;
            if piece.is_empty() {
                self.decoder.finish()?;
                return match self.form {
                    Form::Torn => Err(ArrowError::IpcError("its end is missing".to_string())),
                    Form::File | Form::Stream => Ok(Step::End),
                };
            }
            self.piece = Buffer::from(piece);
        }
        match self.decoder.decode(&mut self.piece) {
            Ok(batch) => Ok(batch.map_or(Step::On, Step::Batch)),
            // What refuses more bytes, and has nothing half read, is behind the end marker: what
            // follows is the footer.
            Err(_) if self.form == Form::File && self.decoder.finish().is_ok() => Ok(Step::End),
            Err(error) => Err(error),
        }
    }
}

enum Step {
    Batch(RecordBatch),
    On,
    End,
}

impl Iterator for Messages {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.step() {
                Ok(Step::On) => {}
                Ok(Step::Batch(batch)) => return Some(Ok(batch)),
                Ok(Step::End) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn writer(output: Output, schema: &SchemaRef, _: Packing) -> Result<Box<dyn FileWriter>, Error> {
    let plain: SchemaRef = Arc::new(Schema::new(schema.fields().clone()));
    let writer = IpcWriter::try_new(output, &plain).map_err(write_failed)?;
    Ok(Box::new(Grouped::new(Box::new(ArrowFile { schema: plain, writer }))))
}

struct ArrowFile {
    schema: SchemaRef,
    writer: IpcWriter<Output>,
}

impl GroupWriter for ArrowFile {
    fn index(&mut self) -> Result<Vec<u8>, Error> {
        self.writer.flush().map_err(write_failed)?;
        Ok(Vec::new())
    }

    fn group(&mut self, parts: &[RecordBatch]) -> Result<(), Error> {
        self.writer.write(&whole(&self.schema, parts)?).map_err(write_failed)
    }

    fn end(mut self: Box<Self>) -> Result<(), Error> {
        self.writer.finish().map_err(write_failed)
    }
}
