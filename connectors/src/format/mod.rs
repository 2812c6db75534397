//! Formats: what bytes mean.
//!
//! A format reads and writes whole files; a *message* format also reads and writes single records,
//! which is what a topic holds. Both shapes of `json` and `csv` end in the same [`Decoder`], so a
//! row means the same in a file and in a topic.
//!
//! The contract of reading: typed columns of exactly the declared schema. A record that does not
//! fit becomes a [`Reject`] with its raw bytes, a stable reason and a text that names the column,
//! what was found and what was wanted; the rows around it are not touched. Only what makes the
//! rest unreadable (a damaged archive, a lost disk) is an error, and rows before it come first.
//!
//! The contract of writing: the bytes are a function of the rows in their order, never of how they
//! were batched, of the time of day or of the machine; floats are written so that they read back to
//! the same bits.

pub mod compression;

mod blocks;

mod cells;

mod columnar;

mod lines;

mod lists;

mod maps;

mod plain;

mod records;

pub mod rows;

mod shape;

mod text;

mod value;

mod arrow_ipc;
mod csv;
mod json;
mod parquet;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_config::diagnostic::Diagnostic;
use tidemill_config::plan::At;
use tidemill_types::{Error, Schema};

use compression::{Compression, Input};
use rows::Rows;

pub(crate) use columnar::held_rows;
#[cfg(feature = "kafka")]
pub(crate) use {cells::write_key, text::PART_BYTES};

/// Every format, in the order of the reference.
pub const FORMATS: &[Entry] = &[json::ENTRY, csv::ENTRY, parquet::ENTRY, arrow_ipc::ENTRY];

/// Where bytes go.
pub type Output = Box<dyn Write + Send>;

/// The default of `max_record`: a record of more bytes is refused.
pub const MAX_RECORD: usize = 1 << 20;

/// What the list says about a format.
pub struct Entry {
    /// The value of `format`.
    pub name: &'static str,
    /// One line for the reference.
    pub summary: &'static str,
    /// Endings of file names that choose it, the first one preferred; no dot.
    pub extensions: &'static [&'static str],
    /// Reads a file; the first look at it (a header, a footer) happens here.
    pub reader: fn(&Input, &Layout) -> Result<Box<dyn FileReader>, Error>,
    /// Writes a file of a schema.
    pub writer: fn(Output, &SchemaRef, Packing) -> Result<Box<dyn FileWriter>, Error>,
    /// Hands the rows to `each` that stand in the first bytes of a file that is not ended, given the
    /// index that [`FileWriter::mark`] told there. A format without it is text, whose files are gone on
    /// with by appending.
    pub reread: Option<fn(File, u64, &Held, Each<'_>) -> Result<(), Error>>,
    /// Whether it compresses its columns itself, so that [`Packing`] is the user's choice.
    pub packs: bool,
    /// Single records, where the format has them. Such a format is text, and its files may be
    /// compressed as a whole.
    pub messages: Option<Messages>,
}

/// How a columnar format packs its columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// Zstandard, dictionaries and statistics: the smallest file.
    #[default]
    Zstd,
    /// Snappy: a third of the time of Zstandard, and what every reader has.
    Snappy,
    /// Plain values, no statistics: the least work, and the largest file.
    Plain,
}

/// The half of a format that a topic needs.
pub struct Messages {
    /// Reads records.
    pub decoder: fn(&Layout) -> Box<dyn Decoder>,
    /// Writes records of a schema.
    pub encoder: fn(&SchemaRef) -> Result<Box<dyn Encoder>, Error>,
}

/// What a reader must know.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The columns wanted, in order.
    pub schema: Schema,
    /// Texts that mean NULL, in formats that have no NULL of their own.
    pub null: Vec<String>,
    /// The largest record in bytes.
    pub max_record: usize,
    /// Threads that may parse a file; what they are shows in nothing.
    pub threads: usize,
}

impl Layout {
    /// A layout with what a pipeline file has by default.
    pub fn new(schema: Schema) -> Layout {
        Layout { schema, null: vec![String::new()], max_record: MAX_RECORD, threads: 1 }
    }
}

/// Why a record was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `parse`, `type`, `encoding` or `too_large`; see [`tidemill_types::DeadLetter::reason`].
    pub reason: &'static str,
    /// For people: the column, what was found and what was wanted.
    pub detail: String,
}

impl Refusal {
    pub(crate) fn new(reason: &'static str, detail: impl Into<String>) -> Refusal {
        Refusal { reason, detail: detail.into() }
    }
}

/// Reads single records.
pub trait Decoder: Send {
    /// Appends one row, or refuses and leaves `rows` as it was.
    fn decode(&mut self, record: &[u8], rows: &mut Rows) -> Result<(), Refusal>;
}

/// Writes single records.
pub trait Encoder: Send {
    /// Hands each row's bytes to `each`, in order, with the number of the row within the batch.
    ///
    /// # Errors
    /// What `each` returns.
    fn encode(
        &mut self,
        rows: &RecordBatch,
        each: &mut dyn FnMut(usize, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error>;
}

/// A record that a file's reader refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The line or row, from 1.
    pub line: u64,
    /// Why.
    pub refusal: Refusal,
    /// The bytes as they came; of a record that is too large, as many as are allowed.
    pub raw: Vec<u8>,
}

/// Some rows of a file, in its order.
#[derive(Debug)]
pub struct Part {
    /// Exactly the declared columns.
    pub rows: RecordBatch,
    /// One a row: its line or row number, from 1, growing.
    pub lines: Vec<u64>,
    /// What was refused on the way.
    pub rejects: Vec<Reject>,
}

/// Reads a file from its beginning to its end.
pub trait FileReader: Send {
    /// About `rows` rows more; `None` at the end.
    ///
    /// # Errors
    /// When the rest cannot be read, after every row before the damage was handed out.
    fn read(&mut self, rows: usize) -> Result<Option<Part>, Error>;

    /// Lines or rows taken so far.
    fn position(&self) -> u64;
}

/// Writes a file.
pub trait FileWriter: Send {
    /// Takes rows of the schema that it was opened with.
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error>;

    /// Hands every byte on that depends on no later row, and tells what is held back. Text holds
    /// nothing back. It shows in no byte of the file.
    ///
    /// # Errors
    /// Where bytes cannot be handed on.
    fn mark(&mut self) -> Result<Held, Error> {
        Ok(Held::default())
    }

    /// Writes what is still held, and whatever ends the file.
    fn finish(self: Box<Self>) -> Result<(), Error>;
}

/// What of a file is not among its bytes yet.
#[derive(Debug, Default, PartialEq)]
pub struct Held {
    /// Rows that make no group yet, as an Arrow IPC stream; empty without any.
    pub rows: Vec<u8>,
    /// What tells where the groups are, for [`Entry::reread`].
    pub index: Vec<u8>,
}

/// Takes rows.
pub type Each<'a> = &'a mut dyn FnMut(&RecordBatch) -> Result<(), Error>;

/// The format of that name.
///
/// # Errors
/// At the place where the name was written, with the names that exist.
pub fn by_name(name: &At<String>) -> Result<&'static Entry, Diagnostic> {
    FORMATS.iter().find(|entry| entry.name == name.value).ok_or_else(|| {
        let known: Vec<_> = FORMATS.iter().map(|entry| entry.name).collect();
        Diagnostic::new(
            &name.span,
            format!("unknown format `{}`", name.value),
            format!("the formats are {}", known.join(", ")),
            match crate::keys::nearest(&name.value, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => String::new(),
            },
        )
    })
}

/// The message format of that name, `json` where none is given.
///
/// # Errors
/// Where the format does not exist or has no single records.
pub fn for_messages(
    name: Option<&At<String>>,
) -> Result<(&'static Entry, &'static Messages), Diagnostic> {
    let json = At::nowhere(json::ENTRY.name.to_string());
    let name = name.unwrap_or(&json);
    let entry = by_name(name)?;
    let messages = entry.messages.as_ref().ok_or_else(|| {
        Diagnostic::new(
            &name.span,
            format!("`{}` is a format of files", entry.name),
            "it has no single records, and a message is one record",
            "write `format = \"json\"` or `format = \"csv\"`",
        )
    })?;
    Ok((entry, messages))
}

/// The format and compression of a file: `declared`, or else by the ending of its name
/// (`flights.csv.zst`).
///
/// # Errors
/// Where neither tells, or where a format that compresses inside would be compressed again.
pub fn for_file(
    path: &At<String>,
    declared: Option<&At<String>>,
) -> Result<(&'static Entry, Compression), Diagnostic> {
    let (compression, stem) = Compression::of_name(&path.value);
    let entry = match declared {
        Some(name) => by_name(name)?,
        None => by_extension(stem).ok_or_else(|| {
            let known: Vec<_> = FORMATS.iter().flat_map(|e| e.extensions).copied().collect();
            Diagnostic::new(
                &path.span,
                format!("the name `{}` does not tell the format", path.value),
                format!("known endings are {}", known.join(", ")),
                "name the file so, or add `format = \"csv\"`",
            )
        })?,
    };
    if entry.messages.is_none() && compression != Compression::None {
        return Err(Diagnostic::new(
            &path.span,
            format!("`{}` is compressed twice", path.value),
            format!("{} compresses its columns itself and must be read at random", entry.name),
            "unpack the file once",
        ));
    }
    Ok((entry, compression))
}

fn by_extension(stem: &str) -> Option<&'static Entry> {
    let extension = Path::new(stem).extension()?.to_str()?;
    FORMATS.iter().find(|e| e.extensions.iter().any(|x| x.eq_ignore_ascii_case(extension)))
}
