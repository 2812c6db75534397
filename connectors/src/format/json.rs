//! `json`: one object a message, or one a line.
//!
//! * **Reads** objects, keys in any order, undeclared keys passed over whatever they hold; an absent
//!   key and `null` are NULL. A declared key that stands twice in one object refuses the record: which
//!   one was meant cannot be known.
//! * **Types** int64: a number without a fraction; `1.0` counts, up to 2^53. float64: any number.
//!   bool: `true`, `false`. string: a string. timestamp: RFC 3339 text (without an offset: UTC), or a
//!   whole number of microseconds since 1970. Lists: arrays of such, `null` among them, at most 4,096; of a
//!   vector, as many as it has. Maps: objects of such, keys in any order, each once. Nothing is converted: `"1"`
//!   is no number, 1 no bool.
//! * **Writes** every column in order, floats in their shortest exact form, times as RFC 3339 in
//!   UTC, NULL and floats that are not finite as `null`, binary as base64, lists as arrays and maps as
//!   objects.
//! * **Cost** one pass over the text straight into typed columns; a record with the keys of the one before,
//!   in its order, and plain values takes a third of that (`shape.rs`). See `tests/format.rs`
//!   (`speed_of_text`, ignored by default) for rows per second.

use std::collections::HashMap;
use std::fmt;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tidemill_types::{Error, Field};

use super::cells;
use super::compression::Input;
use super::lines::LineReader;
use super::records::too_large;
use super::rows::Rows;
use super::shape::Shape;
use super::text::{Lines, utf8};
use super::value::Value;
use super::{
    Decoder, Encoder, Entry, FileReader, FileWriter, Layout, Messages, Output, Packing, Refusal,
};

/// What the list says.
pub const ENTRY: Entry = Entry {
    name: "json",
    summary: "one JSON object a message or line",
    extensions: &["jsonl", "json", "ndjson"],
    reader,
    writer,
    reread: None,
    packs: false,
    messages: Some(Messages { decoder, encoder }),
};

fn reader(input: &Input, layout: &Layout) -> Result<Box<dyn FileReader>, Error> {
    Ok(Box::new(LineReader::new(input, layout, decoder)?))
}

fn decoder(layout: &Layout) -> Box<dyn Decoder> {
    Box::new(JsonDecoder::new(layout))
}

/// The places of keys remembered from earlier records; more would not be a record's shape.
const REMEMBERED: usize = 1024;

/// Records that the general parser reads before the shape is learnt anew, where the last one fitted
/// none of them, and where there was none to be learnt.
const RELEARN: (u32, u32) = (4, 64);

struct JsonDecoder {
    keys: Keys,
    max_record: usize,
    /// What the records before this one looked like.
    shape: Option<Shape>,
    /// Records until it is learnt anew.
    patience: u32,
}

/// Finds the column of a key. Records of one stream name their keys in the same order, so the
/// key that stood at this place last time is tried before the map.
struct Keys {
    fields: Vec<Field>,
    columns: HashMap<String, usize>,
    last: Vec<(String, Option<usize>)>,
}

impl Keys {
    fn column(&mut self, place: usize, key: &str) -> Option<usize> {
        if let Some((last, column)) = self.last.get(place)
            && last == key
        {
            return *column;
        }
        let column = self.columns.get(key).copied();
        let seen = (key.to_string(), column);
        match self.last.get_mut(place) {
            Some(stale) => *stale = seen,
            None if place < REMEMBERED => self.last.push(seen),
            None => {}
        }
        column
    }
}

impl JsonDecoder {
    fn new(layout: &Layout) -> JsonDecoder {
        let fields = layout.schema.fields.clone();
        let columns = fields.iter().enumerate().map(|(i, f)| (f.name.clone(), i)).collect();
        let keys = Keys { fields, columns, last: Vec::new() };
        JsonDecoder { keys, max_record: layout.max_record, shape: None, patience: 0 }
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, record: &[u8], rows: &mut Rows) -> Result<(), Refusal> {
        if record.len() > self.max_record {
            return Err(too_large(record.len() as u64, self.max_record));
        }
        let text = utf8(record)?;
        if let Some(shape) = &mut self.shape
            && shape.read(text, rows)
        {
            return Ok(());
        }
        self.parse(text, rows)?;
        self.learn(text);
        Ok(())
    }
}

impl JsonDecoder {
    /// Learns the shape of a record that was taken.
    fn learn(&mut self, text: &str) {
        if self.patience > 0 {
            self.patience -= 1;
            return;
        }
        self.shape = Shape::of(text, &self.keys.fields);
        self.patience = if self.shape.is_some() { RELEARN.0 } else { RELEARN.1 };
    }

    /// Reads any record.
    fn parse(&mut self, text: &str, rows: &mut Rows) -> Result<(), Refusal> {
        let mut row = Row { keys: &mut self.keys, rows, refusal: None };
        let mut json = serde_json::Deserializer::from_str(text);
        let outcome = (&mut row).deserialize(&mut json).and_then(|()| json.end());
        let refusal = row.refusal.take();
        match outcome {
            Ok(()) => {
                rows.end();
                Ok(())
            }
            Err(error) => {
                rows.undo();
                Err(refusal.unwrap_or_else(|| {
                    Refusal::new("parse", format!("not a JSON object: {error}"))
                }))
            }
        }
    }
}

/// A record on its way into the columns. What refuses it is kept beside serde's error, which can
/// only hold a text.
struct Row<'a> {
    keys: &'a mut Keys,
    rows: &'a mut Rows,
    refusal: Option<Refusal>,
}

impl Row<'_> {
    fn refuse<E: serde::de::Error>(&mut self, refusal: Refusal) -> E {
        self.refusal = Some(refusal);
        E::custom("refused")
    }

    fn no_object<E: serde::de::Error>(&mut self, found: &str) -> E {
        let detail = format!("a record must be a JSON object, found {found}");
        self.refuse(Refusal::new("type", detail))
    }
}

impl<'de> DeserializeSeed<'de> for &mut Row<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let mut place = 0;
        while let Some(column) = map.next_key_seed(Key { keys: self.keys, place })? {
            place += 1;
            match column {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(column) if self.rows.is_set(column) => {
                    let name = &self.keys.fields[column].name;
                    let detail = format!("column {name}: the key stands twice in the object");
                    return Err(self.refuse(Refusal::new("parse", detail)));
                }
                Some(column) => {
                    let field = &self.keys.fields[column];
                    let (data_type, into) = (field.data_type, self.rows.column(column));
                    let refusal = &mut self.refusal;
                    map.next_value_seed(Value { field, data_type, into, refusal })?;
                }
            }
        }
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        Err(self.no_object("true or false"))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Err(self.no_object("a number"))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        Err(self.no_object("a number"))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Err(self.no_object("a number"))
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(self.no_object("a string"))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Err(self.no_object("null"))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, _: S) -> Result<(), S::Error> {
        Err(self.no_object("an array"))
    }
}

/// Reads a key as the column that it names, if it names one.
struct Key<'a> {
    keys: &'a mut Keys,
    place: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<usize>, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.keys.column(self.place, key))
    }
}

fn encoder(schema: &SchemaRef) -> Result<Box<dyn Encoder>, Error> {
    Ok(Box::new(JsonEncoder::new(schema)?))
}

struct JsonEncoder {
    schema: SchemaRef,
    /// What stands before each value: `{"a":`, `,"b":`.
    heads: Vec<Vec<u8>>,
    record: Vec<u8>,
}

impl JsonEncoder {
    fn new(schema: &SchemaRef) -> Result<JsonEncoder, Error> {
        cells::check(schema)?;
        let head = |(i, field): (usize, &std::sync::Arc<arrow::datatypes::Field>)| {
            let mut head = vec![if i == 0 { b'{' } else { b',' }];
            cells::write_json_text(field.name(), &mut head)?;
            head.push(b':');
            Ok(head)
        };
        let heads = schema.fields().iter().enumerate().map(head).collect::<Result<_, Error>>()?;
        Ok(JsonEncoder { schema: schema.clone(), heads, record: Vec::new() })
    }
}

impl Encoder for JsonEncoder {
    fn encode(
        &mut self,
        rows: &RecordBatch,
        each: &mut dyn FnMut(usize, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let columns = cells::columns(rows, &self.schema)?;
        for row in 0..rows.num_rows() {
            self.record.clear();
            for (head, column) in self.heads.iter().zip(columns) {
                self.record.extend_from_slice(head);
                cells::write_json(&cells::cell(column, row), &mut self.record)?;
            }
            self.record.extend_from_slice(if columns.is_empty() { b"{}" } else { b"}" });
            each(row, &self.record)?;
        }
        Ok(())
    }
}

fn writer(output: Output, schema: &SchemaRef, _: Packing) -> Result<Box<dyn FileWriter>, Error> {
    Ok(Box::new(Lines { encoder: Box::new(JsonEncoder::new(schema)?), output }))
}
