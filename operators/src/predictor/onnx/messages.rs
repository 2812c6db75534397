//! The messages of ONNX that are read, field by field as `onnx.proto` numbers them
//! (<https://github.com/onnx/onnx>). Other fields are skipped: subgraphs of control flow, texts for people,
//! and training.

#![allow(missing_docs)]

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct Model {
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "14")]
    pub properties: Vec<Property>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Property {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    pub constants: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub inputs: Vec<Variable>,
    #[prost(message, repeated, tag = "12")]
    pub outputs: Vec<Variable>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Node {
    #[prost(string, repeated, tag = "1")]
    pub inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub outputs: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub operator: String,
    #[prost(message, repeated, tag = "5")]
    pub attributes: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, tag = "2")]
    pub float: f32,
    #[prost(int64, tag = "3")]
    pub int: i64,
    #[prost(bytes = "vec", tag = "4")]
    pub text: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    pub tensor: Option<Tensor>,
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub texts: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub kind: i32,
    #[prost(float, repeated, tag = "4")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, tag = "7")]
    pub ints: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw: Vec<u8>,
    #[prost(int32, tag = "14")]
    pub location: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Variable {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub of: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Type {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorType>,
    #[prost(message, optional, tag = "4")]
    pub sequence: Option<SequenceType>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// Only that it is one: ZipMap gives a sequence of maps.
#[derive(Clone, PartialEq, Message)]
pub struct SequenceType {}

#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub dims: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    #[prost(int64, tag = "1")]
    pub length: i64,
}

/// `TensorProto.DataType` of 32-bit floats.
pub const FLOAT: i32 = 1;
/// The same of 64-bit whole numbers.
pub const INT64: i32 = 7;

impl Tensor {
    /// Its numbers of 32 bits, row after row.
    pub fn float_values(&self) -> Option<Vec<f32>> {
        let values = match self.raw.is_empty() {
            true => self.floats.clone(),
            false => self.raw.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        };
        (self.kind == FLOAT && self.location == 0 && self.holds(values.len(), 4)).then_some(values)
    }

    /// Its whole numbers of 64 bits.
    pub fn int_values(&self) -> Option<Vec<i64>> {
        let values = match self.raw.is_empty() {
            true => self.ints.clone(),
            false => self.raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        };
        (self.kind == INT64 && self.location == 0 && self.holds(values.len(), 8)).then_some(values)
    }

    /// Whether so many values are as many as its dimensions say.
    fn holds(&self, values: usize, bytes: usize) -> bool {
        let product = self.dims.iter().try_fold(1_i64, |all, dim| all.checked_mul(*dim));
        product.is_some_and(|product| usize::try_from(product) == Ok(values))
            && (self.raw.is_empty() || self.raw.len() == values * bytes)
    }
}
