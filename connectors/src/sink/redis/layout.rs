//! The bytes that Feast's Redis store holds, by its
//! [format](https://github.com/feast-dev/feast/blob/master/docs/specs/online_store_format.md) with entity keys of
//! version 3, as Feast 0.67 reads and writes it.
//!
//! * **A key** is an entity: the number of its join keys, their names sorted, their values in that order, and behind them the
//!   project. All views of an entity share its hash.
//! * **A field** is a feature: the 32-bit Murmur3 hash of `VIEW:FEATURE`, little-endian. It holds a `feast.types.Value`;
//!   NULL is the empty message.
//! * **`_ts:VIEW`** is the event time of the row, a `google.protobuf.Timestamp`.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use tidemill_types::time::SECOND;
use tidemill_types::{DataType, Error, Item, Micros};

/// Numbers of the enumeration `feast.types.ValueType`, which are those of the fields of `Value` too.
const STRING: u8 = 2;
const INT64: u8 = 4;
const DOUBLE: u8 = 5;
const BOOL: u8 = 7;
const UNIX_TIMESTAMP: u8 = 8;
const STRING_LIST: u8 = 12;
const INT64_LIST: u8 = 14;
const DOUBLE_LIST: u8 = 15;
const BOOL_LIST: u8 = 17;
const UNIX_TIMESTAMP_LIST: u8 = 18;
const MAP: u8 = 20;
const VALUES: u8 = 42;

/// Columns that every row has and that are no features of it.
const APART: [&str; 2] = ["event_time", "diff"];

/// Where in a row everything stands.
pub(super) struct Layout {
    /// What every key begins with.
    head: Vec<u8>,
    /// Places and types of the join keys' columns, in the order of their names.
    key: Vec<(usize, DataType)>,
    /// What every key ends with.
    project: Vec<u8>,
    /// Places, types and fields of the features.
    features: Vec<(usize, DataType, [u8; 4])>,
    /// The field of the event time.
    pub(super) time: Vec<u8>,
    /// The column that says whether a row is taken back.
    diff: Option<usize>,
}

impl Layout {
    /// For rows of this schema.
    ///
    /// # Errors
    /// A join key that is no column, or of a type that Feast has no keys of; no feature at all.
    pub(super) fn new(
        schema: &SchemaRef,
        (project, view): (&str, &str),
        keys: &[String],
    ) -> Result<Layout, Error> {
        let mut names: Vec<&String> = keys.iter().collect();
        names.sort_unstable();
        let mut head = (names.len() as u32).to_le_bytes().to_vec();
        let mut key = Vec::new();
        for name in names {
            let place = schema.index_of(name).map_err(|_| missing(schema, name))?;
            let kind = DataType::from_arrow(schema.field(place).data_type());
            match kind {
                Some(kind @ (DataType::String | DataType::Int64)) => key.push((place, kind)),
                other => {
                    let kind = other.map_or("a type of its own", DataType::name);
                    return Err(Error::user(format!(
                        "`{name}` is {kind}, and Feast finds rows by texts and whole numbers"
                    ))
                    .help("name a column of type string or int64 as `key`"));
                }
            }
            head.extend(u32::from(STRING).to_le_bytes());
            head.extend((name.len() as u32).to_le_bytes());
            head.extend(name.as_bytes());
        }
        let mut features = Vec::new();
        for (place, field) in schema.fields().iter().enumerate() {
            let name = field.name();
            if keys.contains(name) || APART.contains(&name.as_str()) {
                continue;
            }
            let kind = DataType::from_arrow(field.data_type()).ok_or_else(|| {
                Error::user(format!("Feast has no type for the column {name}"))
                    .help("leave it out of `columns`")
            })?;
            features.push((place, kind, field_of(view, name)));
        }
        if features.is_empty() {
            return Err(Error::user("the rows for Redis have no column beside their key")
                .help("name some features in `columns`, or leave `columns` out"));
        }
        let time = format!("_ts:{view}").into_bytes();
        let diff = schema.index_of("diff").ok();
        Ok(Layout { head, key, project: project.as_bytes().to_vec(), features, time, diff })
    }

    /// Whether a row takes back what an earlier one said. What is right follows it.
    pub(super) fn taken_back(&self, rows: &RecordBatch, row: usize) -> bool {
        self.diff.is_some_and(|at| rows.column(at).as_primitive::<Int64Type>().value(row) < 0)
    }

    /// The key of a row's entity; nothing where one of its join keys is NULL.
    pub(super) fn key(&self, rows: &RecordBatch, row: usize) -> Option<Vec<u8>> {
        let mut out = self.head.clone();
        for (place, kind) in &self.key {
            let column = rows.column(*place);
            if column.is_null(row) {
                return None;
            }
            let mut put = |kind: u8, bytes: &[u8]| {
                out.extend(u32::from(kind).to_le_bytes());
                out.extend((bytes.len() as u32).to_le_bytes());
                out.extend(bytes);
            };
            match kind {
                DataType::String => put(STRING, column.as_string::<i32>().value(row).as_bytes()),
                _ => put(INT64, &column.as_primitive::<Int64Type>().value(row).to_le_bytes()),
            }
        }
        out.extend(&self.project);
        Some(out)
    }

    /// Fields and values of a row's features.
    pub(super) fn features<'a>(
        &'a self,
        rows: &'a RecordBatch,
        row: usize,
    ) -> impl ExactSizeIterator<Item = (&'a [u8; 4], Vec<u8>)> {
        self.features.iter().map(move |(place, kind, field)| {
            let mut bytes = Vec::new();
            value(*kind, rows.column(*place), row, &mut bytes);
            (field, bytes)
        })
    }
}

fn missing(schema: &SchemaRef, name: &str) -> Error {
    let columns: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    Error::user(format!("the rows for Redis have no column {name}")).help(format!(
        "`key` may name {}; the columns of [online] entity are among the features, and so is any \
         feature that is a column: {name} = \"{name}\"",
        columns.join(", ")
    ))
}

/// The field of a feature.
fn field_of(view: &str, feature: &str) -> [u8; 4] {
    murmur3(format!("{view}:{feature}").as_bytes()).to_le_bytes()
}

/// MurmurHash3_x86_32 with seed 0 (Austin Appleby, public domain).
fn murmur3(bytes: &[u8]) -> u32 {
    let mix = |word: u32| word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let mut hash = 0_u32;
    let mut words = bytes.chunks_exact(4);
    for word in words.by_ref() {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        hash = (hash ^ mix(word)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let rest = words.remainder().iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    hash ^= mix(rest) ^ bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// A `google.protobuf.Timestamp`: seconds and, of a second, the nanoseconds behind them.
pub(super) fn timestamp(time: Micros) -> Vec<u8> {
    let mut out = Vec::new();
    for (field, number) in [(1, time.div_euclid(SECOND)), (2, time.rem_euclid(SECOND) * 1_000)] {
        if number != 0 {
            tag(field, VARINT, &mut out);
            varint(number as u64, &mut out);
        }
    }
    out
}

/// How a field's bytes are delimited.
const VARINT: u8 = 0;
const FIXED: u8 = 1;
const DELIMITED: u8 = 2;

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn tag(field: u8, wire: u8, out: &mut Vec<u8>) {
    varint(u64::from(field) << 3 | u64::from(wire), out);
}

fn delimited(field: u8, bytes: &[u8], out: &mut Vec<u8>) {
    tag(field, DELIMITED, out);
    varint(bytes.len() as u64, out);
    out.extend(bytes);
}

/// Seconds, as Feast keeps times: what is finer is cut off.
fn seconds(column: &ArrayRef, row: usize) -> i64 {
    column.as_primitive::<TimestampMicrosecondType>().value(row).div_euclid(SECOND)
}

/// Appends a `Value`.
fn value(kind: DataType, column: &ArrayRef, row: usize, out: &mut Vec<u8>) {
    if column.is_null(row) {
        return;
    }
    match kind {
        DataType::Bool => {
            tag(BOOL, VARINT, out);
            out.push(u8::from(column.as_boolean().value(row)));
        }
        DataType::Int64 => {
            tag(INT64, VARINT, out);
            varint(column.as_primitive::<Int64Type>().value(row) as u64, out);
        }
        DataType::Float64 => {
            tag(DOUBLE, FIXED, out);
            out.extend(column.as_primitive::<Float64Type>().value(row).to_le_bytes());
        }
        DataType::String => delimited(STRING, column.as_string::<i32>().value(row).as_bytes(), out),
        DataType::Timestamp => {
            tag(UNIX_TIMESTAMP, VARINT, out);
            varint(seconds(column, row) as u64, out);
        }
        DataType::List(item) => list(item, &column.as_list::<i32>().value(row), out),
        DataType::Map(item) => {
            let entries = column.as_map().value(row);
            let (names, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
            let mut map = Vec::new();
            for at in 0..entries.len() {
                let (mut entry, mut held) = (Vec::new(), Vec::new());
                value(item.into(), values, at, &mut held);
                delimited(1, names.value(at).as_bytes(), &mut entry);
                delimited(2, &held, &mut entry);
                delimited(1, &entry, &mut map);
            }
            delimited(MAP, &map, out);
        }
    }
}

/// Appends a list: packed numbers or texts and, where some are NULL, a list of `Value`s, for the others cannot
/// hold any.
fn list(item: Item, items: &ArrayRef, out: &mut Vec<u8>) {
    let mut all = Vec::new();
    if items.null_count() > 0 {
        for at in 0..items.len() {
            let mut held = Vec::new();
            value(item.into(), items, at, &mut held);
            delimited(1, &held, &mut all);
        }
        return delimited(VALUES, &all, out);
    }
    for at in 0..items.len() {
        match item {
            Item::Bool => all.push(u8::from(items.as_boolean().value(at))),
            Item::Int64 => varint(items.as_primitive::<Int64Type>().value(at) as u64, &mut all),
            Item::Float64 => {
                all.extend(items.as_primitive::<Float64Type>().value(at).to_le_bytes());
            }
            Item::String => {
                delimited(1, items.as_string::<i32>().value(at).as_bytes(), &mut all);
            }
            Item::Timestamp => varint(seconds(items, at) as u64, &mut all),
        }
    }
    let (field, packed) = match item {
        Item::Bool => (BOOL_LIST, true),
        Item::Int64 => (INT64_LIST, true),
        Item::Float64 => (DOUBLE_LIST, true),
        Item::String => (STRING_LIST, false),
        Item::Timestamp => (UNIX_TIMESTAMP_LIST, true),
    };
    if packed && !all.is_empty() {
        let mut message = Vec::with_capacity(all.len() + 6);
        delimited(1, &all, &mut message);
        all = message;
    }
    delimited(field, &all, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_types::schema::hex;

    /// Values of the reference implementation and, the last, of a field that Feast wrote.
    #[test]
    fn murmur3_is_the_published_function() {
        for (text, wanted) in
            [("", 0), ("a", 0x3c25_69b2), ("abcd", 0x43ed_676a), ("Hello, world!", 0xc036_3e43)]
        {
            assert_eq!(murmur3(text.as_bytes()), wanted, "{text}");
        }
        assert_eq!(hex(&field_of("driver_hourly_stats_fresh", "conv_rate")), "03ed1046");
    }

    #[test]
    fn times_are_those_of_protobuf() {
        for (time, wanted) in
            [(0, ""), (1_500_000, "08011080cab5ee01"), (-1, "08ffffffffffffffffff0110988cebdc03")]
        {
            assert_eq!(hex(&timestamp(time)), wanted, "{time}");
        }
    }
}
