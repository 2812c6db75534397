//! Fields and their types, as a pipeline declares them.

use std::fmt;
use std::sync::Arc;

use arrow_schema as arrow;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The type of a column. All may be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// `bool`
    Bool,
    /// `int64`
    Int64,
    /// `float64`
    Float64,
    /// `string`
    String,
    /// `timestamp`: microseconds, UTC
    Timestamp,
    /// `list<...>`: values of one type, NULL among them; in a column of a source at most [`MOST_ITEMS`]
    List(Item),
    /// `map<string, ...>`: values of one type, NULL among them, by a text, in the order of its bytes, each text
    /// once; in a column of a source at most [`MOST_ITEMS`]
    Map(Item),
}

/// The longest list and the largest map that a column of a source holds: a record with a longer one is
/// refused. Embeddings have hundreds to some thousands of numbers.
pub const MOST_ITEMS: usize = 4_096;

/// What a list or a map holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// [`DataType::Bool`]
    Bool,
    /// [`DataType::Int64`]
    Int64,
    /// [`DataType::Float64`]
    Float64,
    /// [`DataType::String`]
    String,
    /// [`DataType::Timestamp`]
    Timestamp,
}

impl From<Item> for DataType {
    fn from(item: Item) -> DataType {
        match item {
            Item::Bool => DataType::Bool,
            Item::Int64 => DataType::Int64,
            Item::Float64 => DataType::Float64,
            Item::String => DataType::String,
            Item::Timestamp => DataType::Timestamp,
        }
    }
}

impl DataType {
    /// Every declarable type of single values, in the order of the reference.
    pub const ALL: [DataType; 5] =
        [DataType::Bool, DataType::Int64, DataType::Float64, DataType::String, DataType::Timestamp];

    /// The lists of them, which may be declared too.
    pub const LISTS: [DataType; 5] = [
        DataType::List(Item::Bool),
        DataType::List(Item::Int64),
        DataType::List(Item::Float64),
        DataType::List(Item::String),
        DataType::List(Item::Timestamp),
    ];

    /// The maps of them, which may be declared too.
    pub const MAPS: [DataType; 5] = [
        DataType::Map(Item::Bool),
        DataType::Map(Item::Int64),
        DataType::Map(Item::Float64),
        DataType::Map(Item::String),
        DataType::Map(Item::Timestamp),
    ];

    /// The name that a pipeline file uses and people read.
    pub fn name(self) -> &'static str {
        match self {
            DataType::Bool => "bool",
            DataType::Int64 => "int64",
            DataType::Float64 => "float64",
            DataType::String => "string",
            DataType::Timestamp => "timestamp",
            DataType::List(Item::Bool) => "list<bool>",
            DataType::List(Item::Int64) => "list<int64>",
            DataType::List(Item::Float64) => "list<float64>",
            DataType::List(Item::String) => "list<string>",
            DataType::List(Item::Timestamp) => "list<timestamp>",
            DataType::Map(Item::Bool) => "map<string, bool>",
            DataType::Map(Item::Int64) => "map<string, int64>",
            DataType::Map(Item::Float64) => "map<string, float64>",
            DataType::Map(Item::String) => "map<string, string>",
            DataType::Map(Item::Timestamp) => "map<string, timestamp>",
        }
    }

    /// As what a list or a map holds; none for those themselves, which do not nest.
    pub fn as_item(self) -> Option<Item> {
        Some(match self {
            DataType::Bool => Item::Bool,
            DataType::Int64 => Item::Int64,
            DataType::Float64 => Item::Float64,
            DataType::String => Item::String,
            DataType::Timestamp => Item::Timestamp,
            DataType::List(_) | DataType::Map(_) => return None,
        })
    }

    /// Whether it is a list or a map: what no model reads.
    pub fn is_nested(self) -> bool {
        self.as_item().is_none()
    }

    /// The type of that name; `map<int64>` is `map<string, int64>`, for all keys are texts.
    pub fn parse(name: &str) -> Option<DataType> {
        if let Some(of) = name.strip_prefix("map<").and_then(|rest| rest.strip_suffix('>')) {
            let of = of.strip_prefix("string,").map_or(of, str::trim_start);
            return DataType::MAPS
                .into_iter()
                .find(|map| map.holds().is_some_and(|t| t.name() == of));
        }
        DataType::ALL.into_iter().chain(DataType::LISTS).find(|t| t.name() == name)
    }

    /// The type of what a list or a map holds.
    pub fn holds(self) -> Option<DataType> {
        match self {
            DataType::List(item) | DataType::Map(item) => Some(item.into()),
            _ => None,
        }
    }

    /// The Arrow type of such a column.
    pub fn to_arrow(self) -> arrow::DataType {
        match self {
            DataType::Bool => arrow::DataType::Boolean,
            DataType::Int64 => arrow::DataType::Int64,
            DataType::Float64 => arrow::DataType::Float64,
            DataType::String => arrow::DataType::Utf8,
            DataType::Timestamp => {
                arrow::DataType::Timestamp(arrow::TimeUnit::Microsecond, Some("UTC".into()))
            }
            DataType::List(item) => {
                let item = DataType::from(item).to_arrow();
                arrow::DataType::List(Arc::new(arrow::Field::new("item", item, true)))
            }
            DataType::Map(item) => {
                let fields = vec![
                    arrow::Field::new("key", arrow::DataType::Utf8, false),
                    arrow::Field::new("value", DataType::from(item).to_arrow(), true),
                ];
                let entries = arrow::DataType::Struct(fields.into());
                arrow::DataType::Map(Arc::new(arrow::Field::new("entries", entries, false)), false)
            }
        }
    }

    /// The type of an Arrow column, where there is one.
    pub fn from_arrow(from: &arrow::DataType) -> Option<DataType> {
        Some(match from {
            arrow::DataType::Boolean => DataType::Bool,
            arrow::DataType::Int64 => DataType::Int64,
            arrow::DataType::Float64 => DataType::Float64,
            arrow::DataType::Utf8 => DataType::String,
            arrow::DataType::Timestamp(arrow::TimeUnit::Microsecond, _) => DataType::Timestamp,
            arrow::DataType::List(item) => {
                DataType::List(DataType::from_arrow(item.data_type())?.as_item()?)
            }
            arrow::DataType::Map(entries, _) => match entries.data_type() {
                arrow::DataType::Struct(fields) => match fields.as_ref() {
                    [key, value] if *key.data_type() == arrow::DataType::Utf8 => {
                        DataType::Map(DataType::from_arrow(value.data_type())?.as_item()?)
                    }
                    _ => return None,
                },
                _ => return None,
            },
            _ => return None,
        })
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A named column. Every column may be NULL; what must not be is said by the pipeline.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// The column's name.
    pub name: String,
    /// The column's type.
    pub data_type: DataType,
    /// How many items each list has, where all have as many: a vector.
    pub length: Option<u32>,
}

/// Fingerprints of pipelines are made of this: what a column has not is not shown.
impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Field");
        shown.field("name", &self.name).field("data_type", &self.data_type);
        if let Some(length) = self.length {
            shown.field("length", &length);
        }
        shown.finish()
    }
}

impl Field {
    /// A column of any length, where it holds lists.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Field {
        Field { name: name.into(), data_type, length: None }
    }

    /// The column that a type declares: [`DataType::parse`], or `vector(64)`, which is `list<float64>` of
    /// that length, from 1 to [`MOST_ITEMS`].
    pub fn parse(name: &str, declared: &str) -> Option<Field> {
        if let Some(data_type) = DataType::parse(declared) {
            return Some(Field::new(name, data_type));
        }
        let length = declared.strip_prefix("vector(")?.strip_suffix(')')?;
        let length = length.parse().ok().filter(|n| (1..=MOST_ITEMS as u32).contains(n))?;
        let data_type = DataType::List(Item::Float64);
        Some(Field { length: Some(length), ..Field::new(name, data_type) })
    }

    /// The type as declared.
    pub fn declared(&self) -> String {
        match self.length {
            Some(length) => format!("vector({length})"),
            None => self.data_type.to_string(),
        }
    }
}

/// Columns in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// The columns.
    pub fields: Vec<Field>,
}

impl Schema {
    /// A schema of `(name, type)` pairs.
    pub fn new<N: Into<String>>(fields: impl IntoIterator<Item = (N, DataType)>) -> Schema {
        Schema {
            fields: fields
                .into_iter()
                .map(|(name, data_type)| Field::new(name, data_type))
                .collect(),
        }
    }

    /// Where the column of that name stands.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// The type of the column of that name.
    pub fn type_of(&self, name: &str) -> Option<DataType> {
        self.index_of(name).map(|i| self.fields[i].data_type)
    }

    /// The column names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|f| f.name.as_str())
    }

    /// The Arrow schema; every field nullable.
    pub fn to_arrow(&self) -> arrow::SchemaRef {
        Arc::new(arrow::Schema::new(
            self.fields
                .iter()
                .map(|f| arrow::Field::new(&f.name, f.data_type.to_arrow(), true))
                .collect::<Vec<_>>(),
        ))
    }

    /// SHA-256 over names and types in order, hex: equal exactly for equal schemas.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for field in &self.fields {
            hash.update((field.name.len() as u64).to_le_bytes());
            hash.update(field.name.as_bytes());
            hash.update(field.declared().as_bytes());
            hash.update([0]);
        }
        hex(&hash.finalize())
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_go_to_arrow_and_back() {
        for plain in DataType::ALL {
            let item = plain.as_item().expect("what may be declared does not nest");
            for data_type in [plain, DataType::List(item), DataType::Map(item)] {
                assert_eq!(DataType::from_arrow(&data_type.to_arrow()), Some(data_type));
                assert_eq!(DataType::parse(data_type.name()), Some(data_type));
            }
            assert_eq!(DataType::from(item), plain);
        }
        assert!(
            DataType::LISTS
                .iter()
                .map(|list| list.name())
                .eq(DataType::ALL.iter().map(|plain| format!("list<{plain}>")))
        );
        assert_eq!(DataType::parse("map<float64>"), Some(DataType::Map(Item::Float64)));
        assert_eq!(DataType::parse("map<string>"), Some(DataType::Map(Item::String)));
        for wrong in ["map", "map<>", "map<int64, string>", "map<list<int64>>", "map<string,"] {
            assert_eq!(DataType::parse(wrong), None, "{wrong}");
        }
        let list = DataType::List(Item::Int64).to_arrow();
        let nested = arrow::DataType::List(Arc::new(arrow::Field::new("item", list, true)));
        assert_eq!(DataType::from_arrow(&nested), None);
    }

    #[test]
    fn a_vector_is_a_list_of_one_length() {
        let vector = Field::parse("v", "vector(64)").expect("a type");
        assert_eq!((vector.data_type, vector.length), (DataType::LISTS[2], Some(64)));
        assert_eq!(vector.declared(), "vector(64)");
        for wrong in
            ["vector", "vector(0)", "vector(4097)", "vector(x)", "vector(3", "list<vector>"]
        {
            assert_eq!(Field::parse("v", wrong), None, "{wrong}");
        }
        let print = |fields| Schema { fields }.fingerprint();
        let list = Field::new("v", DataType::LISTS[2]);
        assert_ne!(print(vec![vector]), print(vec![list]));
    }
}
