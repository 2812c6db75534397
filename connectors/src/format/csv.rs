//! `csv`: comma-separated values (RFC 4180).
//!
//! * **Reads** files whose first line is a header; columns are found by name, undeclared ones passed
//!   over. A declared column that the header lacks, or has twice, is an error at open. A message is
//!   one record without a header, with a line end or none: the declared columns in order. A record must have as many fields as
//!   the header. Text after a closing quote refuses the record; a quote inside an unquoted field is
//!   taken as it is.
//! * **Types** as texts: whole numbers (`12`, and `12.0` up to 2^53), finite floats, `true`/`false`,
//!   RFC 3339 (without an offset: UTC; a bare number is no time: its unit cannot be known), any text.
//!   A text in the source's `null` list is NULL, quoted or not. Nothing is trimmed. A list is a JSON array
//!   in a field, a map a JSON object: `"[1.5,null]"`.
//! * **Writes** a header (files), `\n` line ends, quotes where they are needed, NULL as nothing, floats
//!   in their shortest exact form; floats that are not finite are NULL. An empty text therefore
//!   reads back as NULL. Lists and maps are texts, as JSON.
//! * **Cost** one pass to find the record, one to take it apart.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tidemill_types::{Error, Field};

use super::cells::{self, Cell};
use super::compression::Input;
use super::records::{Records, too_large};
use super::rows::Rows;
use super::text::{Lines, TextReader, put, utf8};
use super::{
    Decoder, Encoder, Entry, FileReader, FileWriter, Layout, Messages, Output, Packing, Refusal,
};

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "csv",
    summary: "comma-separated values; files have a header, messages have none",
    extensions: &["csv"],
    reader,
    writer,
    reread: None,
    packs: false,
    messages: Some(Messages { decoder, encoder }),
};

/// Follows the quotes of a record over its lines.
#[derive(Default)]
pub(super) struct Quotes {
    state: State,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Where a field begins.
    #[default]
    Start,
    /// In an unquoted field.
    Plain,
    /// Inside quotes.
    Quoted,
    /// Behind a quote inside quotes: it closed the field, or was half of a doubled one.
    Closing,
}

impl Quotes {
    /// Reads on.
    pub(super) fn scan(&mut self, bytes: &[u8]) {
        if self.state != State::Quoted && !bytes.contains(&b'"') {
            return;
        }
        for byte in bytes {
            self.state = match (self.state, byte) {
                (State::Quoted, b'"') => State::Closing,
                (State::Quoted, _) | (State::Start | State::Closing, b'"') => State::Quoted,
                (_, b',') => State::Start,
                _ => State::Plain,
            };
        }
    }

    /// Whether a quoted field is still open.
    pub(super) fn open(&self) -> bool {
        self.state == State::Quoted
    }
}

/// Takes the next field off `rest`, which is `None` behind the last one.
fn field<'a, 'r: 'a>(
    rest: &mut Option<&'r str>,
    unquoted: &'a mut String,
) -> Result<&'a str, &'static str> {
    let text = rest.take().unwrap_or_default();
    let Some(mut inside) = text.strip_prefix('"') else {
        return Ok(match text.split_once(',') {
            Some((field, behind)) => {
                *rest = Some(behind);
                field
            }
            None => text,
        });
    };
    unquoted.clear();
    loop {
        let Some((part, behind)) = inside.split_once('"') else {
            return Err("a quote does not close");
        };
        unquoted.push_str(part);
        match behind.as_bytes().first() {
            None => return Ok(unquoted),
            Some(b',') => {
                *rest = Some(&behind[1..]);
                return Ok(unquoted);
            }
            Some(b'"') => {
                unquoted.push('"');
                inside = &behind[1..];
            }
            Some(_) => return Err("text behind a closing quote"),
        }
    }
}

fn reader(input: &Input, layout: &Layout) -> Result<Box<dyn FileReader>, Error> {
    let mut records = Records::new(input.text()?, &input.name, layout.max_record);
    let header = match records.next()? {
        None => {
            return Err(Error::user(format!("{} is empty: it has no header", input.name))
                .help("write the column names into its first line"));
        }
        Some(record) => {
            let names = match record.refusal {
                Some(refusal) => Err(refusal),
                None => header(record.bytes),
            };
            names.map_err(|r| {
                Error::user(format!("{}: the header cannot be read: {}", input.name, r.detail))
                    .help("the first line names the columns, in UTF-8")
            })?
        }
    };
    let decoder = CsvDecoder {
        fields: layout.schema.fields.clone(),
        columns: columns(&header, layout, &input.name)?,
        null: layout.null.clone(),
        max_record: layout.max_record,
        unquoted: String::new(),
    };
    Ok(Box::new(TextReader::new(records, Box::new(decoder), layout)))
}

fn header(record: &[u8]) -> Result<Vec<String>, Refusal> {
    let mut rest = Some(utf8(record)?);
    let mut names = Vec::new();
    while rest.is_some() {
        let mut unquoted = String::new();
        let name = field(&mut rest, &mut unquoted).map_err(|e| Refusal::new("parse", e))?;
        names.push(name.to_string());
    }
    Ok(names)
}

/// For each field of the header, the declared column that it fills.
fn columns(header: &[String], layout: &Layout, file: &str) -> Result<Vec<Option<usize>>, Error> {
    for name in layout.schema.names() {
        match header.iter().filter(|h| *h == name).count() {
            1 => {}
            0 => {
                let error = Error::user(format!("{file} has no column {name}"));
                return Err(match crate::keys::nearest(name, header.iter().map(String::as_str)) {
                    Some(near) => error.help(format!("did you mean `{near}`?")),
                    None => error.help(format!("its columns are {}", header.join(", "))),
                });
            }
            _ => {
                return Err(Error::user(format!("{file} has two columns named {name}"))
                    .help("which of them is meant cannot be known: rename one"));
            }
        }
    }
    Ok(header.iter().map(|name| layout.schema.index_of(name)).collect())
}

fn decoder(layout: &Layout) -> Box<dyn Decoder> {
    Box::new(CsvDecoder {
        fields: layout.schema.fields.clone(),
        columns: (0..layout.schema.fields.len()).map(Some).collect(),
        null: layout.null.clone(),
        max_record: layout.max_record,
        unquoted: String::new(),
    })
}

struct CsvDecoder {
    fields: Vec<Field>,
    columns: Vec<Option<usize>>,
    null: Vec<String>,
    max_record: usize,
    unquoted: String,
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, record: &[u8], rows: &mut Rows) -> Result<(), Refusal> {
        if record.len() > self.max_record {
            return Err(too_large(record.len() as u64, self.max_record));
        }
        // Of a file it has none any more.
        let ends: [&[u8]; 2] = [b"\r\n", b"\n"];
        let record = ends.iter().find_map(|end| record.strip_suffix(*end)).unwrap_or(record);
        let outcome = utf8(record).and_then(|text| self.row(text, rows));
        match outcome {
            Ok(()) => rows.end(),
            Err(_) => rows.undo(),
        }
        outcome
    }
}

impl CsvDecoder {
    fn row(&mut self, text: &str, rows: &mut Rows) -> Result<(), Refusal> {
        let mut rest = Some(text);
        let mut found = 0;
        while rest.is_some() {
            let value = field(&mut rest, &mut self.unquoted).map_err(|problem| {
                Refusal::new("parse", format!("field {}: {problem}", found + 1))
            })?;
            if let Some(Some(column)) = self.columns.get(found) {
                if self.null.iter().any(|null| null == value) {
                    rows.null(*column);
                } else {
                    put(rows, *column, &self.fields[*column], value)?;
                }
            }
            found += 1;
        }
        if found == self.columns.len() {
            return Ok(());
        }
        let detail = format!("the record has {found} fields, wanted {}", self.columns.len());
        Err(Refusal::new("parse", detail))
    }
}

fn encoder(schema: &SchemaRef) -> Result<Box<dyn Encoder>, Error> {
    cells::check(schema)?;
    Ok(Box::new(CsvEncoder { schema: schema.clone(), record: Vec::new() }))
}

struct CsvEncoder {
    schema: SchemaRef,
    record: Vec<u8>,
}

impl Encoder for CsvEncoder {
    fn encode(
        &mut self,
        rows: &RecordBatch,
        each: &mut dyn FnMut(usize, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let columns = cells::columns(rows, &self.schema)?;
        for row in 0..rows.num_rows() {
            self.record.clear();
            for (i, column) in columns.iter().enumerate() {
                if i > 0 {
                    self.record.push(b',');
                }
                write_cell(&cells::cell(column, row), &mut self.record)?;
            }
            // A record of one empty field would be an empty line, which readers pass over.
            if self.record.is_empty() {
                self.record.extend_from_slice(b"\"\"");
            }
            each(row, &self.record)?;
        }
        Ok(())
    }
}

fn write_cell(cell: &Cell<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    match cell {
        Cell::Text(text) => {
            write_text(text, out);
            Ok(())
        }
        Cell::List(_) | Cell::Map(..) => {
            let mut json = Vec::new();
            cells::write_json(cell, &mut json)?;
            write_text(&String::from_utf8_lossy(&json), out);
            Ok(())
        }
        other => cells::write_bare(other, out),
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    if text.bytes().any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r')) {
        out.push(b'"');
        out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
        out.push(b'"');
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

fn writer(
    mut output: Output,
    schema: &SchemaRef,
    _: Packing,
) -> Result<Box<dyn FileWriter>, Error> {
    let encoder = encoder(schema)?;
    let mut header = Vec::new();
    for (i, field) in schema.fields().iter().enumerate() {
        if i > 0 {
            header.push(b',');
        }
        write_text(field.name(), &mut header);
    }
    header.push(b'\n');
    output.write_all(&header)?;
    Ok(Box::new(Lines { encoder, output }))
}
