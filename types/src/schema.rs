//! Fields and their types, as a pipeline declares them.

use std::fmt;
use std::sync::Arc;

use arrow_schema as arrow;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A type that a column may be declared with.
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
}

impl DataType {
    /// Every declarable type, in the order of the reference.
    pub const ALL: [DataType; 5] =
        [DataType::Bool, DataType::Int64, DataType::Float64, DataType::String, DataType::Timestamp];

    /// The name that a pipeline file uses.
    pub fn name(self) -> &'static str {
        match self {
            DataType::Bool => "bool",
            DataType::Int64 => "int64",
            DataType::Float64 => "float64",
            DataType::String => "string",
            DataType::Timestamp => "timestamp",
        }
    }

    /// The type of that name.
    pub fn parse(name: &str) -> Option<DataType> {
        DataType::ALL.into_iter().find(|t| t.name() == name)
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
        }
    }

    /// The declared type of an Arrow column, where there is one.
    pub fn from_arrow(from: &arrow::DataType) -> Option<DataType> {
        Some(match from {
            arrow::DataType::Boolean => DataType::Bool,
            arrow::DataType::Int64 => DataType::Int64,
            arrow::DataType::Float64 => DataType::Float64,
            arrow::DataType::Utf8 => DataType::String,
            arrow::DataType::Timestamp(arrow::TimeUnit::Microsecond, _) => DataType::Timestamp,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// The column's name.
    pub name: String,
    /// The column's type.
    pub data_type: DataType,
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
                .map(|(name, data_type)| Field { name: name.into(), data_type })
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
            hash.update(field.data_type.name().as_bytes());
            hash.update([0]);
        }
        hex(&hash.finalize())
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
