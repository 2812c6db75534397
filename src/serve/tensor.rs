//! Tensors in: JSON (flat or nested) or raw bytes after the JSON, to columns of values.

use std::collections::HashSet;

use tidemill_types::{DataType, Value};

use super::grpc::InferTensorContents;
use super::protocol::{Failure, InferRequest, InputTensor, moment};
use super::scorer::{FeatureMatrix, Question};

/// The tensor that names rows instead of giving features.
pub const ID: &str = "id";
/// A request has at most so many rows.
pub const ROW_LIMIT: usize = 100_000;
/// A tensor has at most so many values.
const VALUE_LIMIT: usize = 1 << 24;

/// The protocol's name for a type of ours.
pub fn datatype_of(data_type: DataType) -> &'static str {
    match data_type {
        DataType::Bool => "BOOL",
        DataType::Int64 | DataType::Timestamp => "INT64",
        DataType::Float64 => "FP64",
        // No model reads lists and maps; elsewhere they are JSON in bytes.
        DataType::String | DataType::List(_) | DataType::Map(_) => "BYTES",
    }
}

/// A tensor without its values.
pub struct RawTensor<'a> {
    /// A feature, a column, or `id`.
    pub name: &'a str,
    /// `[n]` or `[n, 1]`; `[n, k]` of all k features that the model reads.
    pub shape: Vec<u64>,
    /// As the protocol names it.
    pub datatype: &'a str,
}

/// Reads the tensors of a request; `binary` is what follows its JSON.
///
/// # Errors
/// Tensors that do not fit together, of types that no feature has, or with bytes too few or too many.
pub fn read(request: &InferRequest, mut binary: &[u8]) -> Result<Question, Failure> {
    let mut tensors = Vec::with_capacity(request.inputs.len());
    for input in &request.inputs {
        let tensor =
            RawTensor { name: &input.name, shape: input.shape.clone(), datatype: &input.datatype };
        tensor.size()?;
        let values = match binary_size(input)? {
            Some(size) => {
                let (own, rest) = binary.split_at_checked(size).ok_or_else(|| {
                    Failure::invalid(format!(
                        "the body ends before the {size} bytes of input `{}`",
                        input.name
                    ))
                })?;
                binary = rest;
                tensor.read_bytes(own)?
            }
            None => tensor.read_json(input.data.as_ref())?,
        };
        tensors.push((tensor, values));
    }
    if !binary.is_empty() {
        return Err(Failure::invalid(format!("{} bytes follow the last tensor", binary.len())));
    }
    let as_of = moment(request.parameters.get("as_of"))?;
    Ok(Question { as_of, ..gather(tensors)? })
}

/// A question of tensors with their values.
///
/// # Errors
/// Tensors of different lengths, two of one name, or two of several columns.
pub fn gather(tensors: Vec<(RawTensor<'_>, Vec<Value>)>) -> Result<Question, Failure> {
    let mut question = Question::default();
    let mut rows = None;
    let mut seen = HashSet::new();
    for (tensor, values) in tensors {
        let name = tensor.name;
        let (n, width) = tensor.size()?;
        if *rows.get_or_insert(n) != n {
            return Err(Failure::invalid(format!(
                "input `{name}` has {n} rows and others have not"
            )));
        }
        if values.len() != n * width {
            let (found, shape) = (values.len(), tensor.shape);
            return Err(Failure::invalid(format!(
                "input `{name}` has {found} values for a shape of {shape:?}"
            )));
        }
        if !seen.insert(name) {
            return Err(Failure::invalid(format!("input `{name}` is given twice")));
        }
        if width > 1 {
            if let Some(FeatureMatrix { name: first, .. }) = question.matrix {
                let why = format!("inputs `{first}` and `{name}` both have several columns");
                return Err(Failure::invalid(why));
            }
            let values = numbers(name, values)?;
            question.matrix = Some(FeatureMatrix { name: name.to_string(), width, values });
        } else if name == ID {
            question.ids = Some(ids(values)?);
        } else {
            question.given.columns.push((name.to_string(), values));
        }
    }
    question.given.rows = rows.ok_or_else(|| {
        Failure::invalid("there are no inputs: give a tensor `id`, or one for each feature")
    })?;
    Ok(question)
}

/// Values of several columns, which are numbers.
fn numbers(name: &str, values: Vec<Value>) -> Result<Vec<f64>, Failure> {
    let number = |value: Value| match value {
        Value::Null => Some(f64::NAN),
        other => other.as_f64(),
    };
    let numbers: Option<Vec<f64>> = values.into_iter().map(number).collect();
    numbers.ok_or_else(|| {
        let why = format!("input `{name}` has several columns, and these are numbers");
        Failure::invalid(why)
    })
}

fn binary_size(tensor: &InputTensor) -> Result<Option<usize>, Failure> {
    let Some(size) = tensor.parameters.get("binary_data_size") else { return Ok(None) };
    let size = size.as_u64().and_then(|size| usize::try_from(size).ok());
    size.map(Some).ok_or_else(|| {
        Failure::invalid(format!("binary_data_size of input `{}` is not a size", tensor.name))
    })
}

fn ids(values: Vec<Value>) -> Result<Vec<String>, Failure> {
    let text = |value: Value| match value {
        Value::Text(text) => Ok(text.to_string()),
        Value::Int(i) => Ok(i.to_string()),
        _ => Err(Failure::invalid("ids are of type BYTES or INT64, and none is null")),
    };
    values.into_iter().map(text).collect()
}

impl RawTensor<'_> {
    /// How many rows it has, and how many columns.
    fn size(&self) -> Result<(usize, usize), Failure> {
        let name = self.name;
        let (rows, width) = match self.shape.as_slice() {
            [n] => (*n, 1),
            [n, width] if *width > 0 => (*n, *width),
            other => {
                return Err(Failure::invalid(format!(
                    "input `{name}` has shape {other:?}, not [n], [n, 1] or [n, features]"
                )));
            }
        };
        let rows = usize::try_from(rows).ok().filter(|&n| n <= ROW_LIMIT).ok_or_else(|| {
            Failure::invalid(format!("input `{name}` has {rows} rows, and {ROW_LIMIT} are allowed"))
        })?;
        let width = usize::try_from(width).ok();
        let width = width.filter(|width| rows.max(1).saturating_mul(*width) <= VALUE_LIMIT);
        let width = width.ok_or_else(|| {
            let shape = &self.shape;
            Failure::invalid(format!("input `{name}` of shape {shape:?} has too many values"))
        })?;
        Ok((rows, width))
    }

    fn read_json(&self, data: Option<&serde_json::Value>) -> Result<Vec<Value>, Failure> {
        let name = self.name;
        let (_, width) = self.size()?;
        let mut flat = Vec::new();
        match data {
            // In one tensor a value that is left out would move all behind it to other features.
            Some(serde_json::Value::Array(rows))
                if width > 1
                    && rows.iter().any(|row| row.is_array())
                    && rows.iter().any(|row| row.as_array().is_none_or(|r| r.len() != width)) =>
            {
                let why = format!("a row of input `{name}` has not {width} values");
                return Err(Failure::invalid(why));
            }
            Some(serde_json::Value::Array(data)) => data.iter().for_each(|item| match item {
                serde_json::Value::Array(inner) => flat.extend(inner),
                single => flat.push(single),
            }),
            _ => return Err(Failure::invalid(format!("input `{name}` has no array `data`"))),
        }
        let kind = self.kind()?;
        let wrong = |found: &serde_json::Value| {
            let datatype = self.datatype;
            Failure::invalid(format!("input `{name}` is of type {datatype}, and {found} is not"))
        };
        flat.into_iter()
            .map(|value| {
                if value.is_null() {
                    return Ok(Value::Null);
                }
                kind.of_json(value).ok_or_else(|| wrong(value))
            })
            .collect()
    }

    /// Little-endian numbers; texts with their length in 32 bits before them.
    ///
    /// # Errors
    /// Bytes that are not those of the type.
    pub fn read_bytes(&self, mut bytes: &[u8]) -> Result<Vec<Value>, Failure> {
        let kind = self.kind()?;
        let mut values = Vec::new();
        while !bytes.is_empty() {
            let value = kind.take(&mut bytes).ok_or_else(|| {
                let (name, datatype) = (self.name, self.datatype);
                Failure::invalid(format!("the bytes of input `{name}` are not those of {datatype}"))
            })?;
            values.push(value);
            if values.len() > VALUE_LIMIT {
                break;
            }
        }
        Ok(values)
    }

    /// The values of a message.
    ///
    /// # Errors
    /// Contents of a type that is not the tensor's; an INT8 that is 1,000.
    pub fn read_contents(&self, contents: &InferTensorContents) -> Result<Vec<Value>, Failure> {
        let kind = self.kind()?;
        let int = |number: Option<i64>| number.filter(|n| kind.holds(*n)).map(Value::Int);
        let c = contents;
        let values: Option<Vec<Value>> = match kind {
            Kind::Bool => Some(c.bool_contents.iter().map(|b| Value::Bool(*b)).collect()),
            Kind::Int { bytes: 8, signed: true } => {
                c.int64_contents.iter().map(|i| int(Some(*i))).collect()
            }
            Kind::Int { bytes: 8, .. } => {
                c.uint64_contents.iter().map(|i| int(i64::try_from(*i).ok())).collect()
            }
            Kind::Int { signed: true, .. } => {
                c.int_contents.iter().map(|i| int(Some(i64::from(*i)))).collect()
            }
            Kind::Int { .. } => c.uint_contents.iter().map(|i| int(Some(i64::from(*i)))).collect(),
            Kind::Float { bytes: 4 } => {
                Some(c.fp32_contents.iter().map(|f| Value::Float(f64::from(*f))).collect())
            }
            Kind::Float { .. } => Some(c.fp64_contents.iter().map(|f| Value::Float(*f)).collect()),
            Kind::Text => {
                let text = |b: &Vec<u8>| Some(Value::Text(std::str::from_utf8(b).ok()?.into()));
                c.bytes_contents.iter().map(text).collect()
            }
        };
        values.ok_or_else(|| {
            let (name, datatype) = (self.name, self.datatype);
            Failure::invalid(format!("the contents of input `{name}` are not those of {datatype}"))
        })
    }

    fn kind(&self) -> Result<Kind, Failure> {
        let signed = |bytes| Kind::Int { bytes, signed: true };
        let unsigned = |bytes| Kind::Int { bytes, signed: false };
        Ok(match self.datatype {
            "BOOL" => Kind::Bool,
            "INT8" => signed(1),
            "INT16" => signed(2),
            "INT32" => signed(4),
            "INT64" => signed(8),
            "UINT8" => unsigned(1),
            "UINT16" => unsigned(2),
            "UINT32" => unsigned(4),
            "UINT64" => unsigned(8),
            "FP32" => Kind::Float { bytes: 4 },
            "FP64" => Kind::Float { bytes: 8 },
            "BYTES" => Kind::Text,
            other => {
                let name = self.name;
                return Err(Failure::invalid(format!(
                    "input `{name}` is of type {other}; there are: BOOL, INT8 to INT64, UINT8 to \
                     UINT64, FP32, FP64, BYTES"
                )));
            }
        })
    }
}

/// The types of the protocol that features may have.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Int { bytes: usize, signed: bool },
    Float { bytes: usize },
    Text,
}

impl Kind {
    /// Whether a number is one of the type.
    fn holds(self, number: i64) -> bool {
        let Kind::Int { bytes, signed } = self else { return false };
        let bits = 8 * bytes as u32;
        let high = number >> (bits - 1).min(63);
        match signed {
            true => high == 0 || high == -1,
            false => number >= 0 && (bits == 64 || number >> bits == 0),
        }
    }

    fn of_json(self, value: &serde_json::Value) -> Option<Value> {
        match self {
            Kind::Bool => value.as_bool().map(Value::Bool),
            Kind::Int { .. } => {
                let number = value.as_i64()?;
                self.holds(number).then_some(Value::Int(number))
            }
            // FP32 in JSON is decimal text: it means the nearest float, as the sender has it.
            Kind::Float { bytes: 4 } => value.as_f64().map(|f| Value::Float(f64::from(f as f32))),
            Kind::Float { .. } => value.as_f64().map(Value::Float),
            Kind::Text => value.as_str().map(|text| Value::Text(text.into())),
        }
    }

    /// Takes one value off the front.
    fn take(self, bytes: &mut &[u8]) -> Option<Value> {
        let mut split = |n: usize| {
            let (own, rest) = bytes.split_at_checked(n)?;
            *bytes = rest;
            Some(own)
        };
        match self {
            Kind::Bool => Some(Value::Bool(split(1)?[0] != 0)),
            Kind::Int { bytes: size, signed } => {
                let own = split(size)?;
                let negative = signed && own[size - 1] & 0x80 != 0;
                let mut whole = [if negative { 0xff } else { 0 }; 8];
                whole[..size].copy_from_slice(own);
                let number = i64::from_le_bytes(whole);
                (signed || number >= 0).then_some(Value::Int(number))
            }
            Kind::Float { bytes: 4 } => {
                split(4)?.try_into().ok().map(|b| Value::Float(f64::from(f32::from_le_bytes(b))))
            }
            Kind::Float { .. } => {
                split(8)?.try_into().ok().map(|b| Value::Float(f64::from_le_bytes(b)))
            }
            Kind::Text => {
                let length = u32::from_le_bytes(split(4)?.try_into().ok()?);
                let text = std::str::from_utf8(split(length as usize)?).ok()?;
                Some(Value::Text(text.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: serde_json::Value, binary: &[u8]) -> Result<Question, String> {
        let request = serde_json::from_value(json).map_err(|e| e.to_string())?;
        read(&request, binary).map_err(|failure| failure.message)
    }

    fn one(datatype: &str, n: u64, data: serde_json::Value) -> Result<Vec<Value>, String> {
        let tensor =
            serde_json::json!({"name": "x", "shape": [n], "datatype": datatype, "data": data});
        Ok(parse(serde_json::json!({"inputs": [tensor]}), b"")?.given.columns.remove(0).1)
    }

    #[test]
    fn json_of_every_type() {
        use serde_json::json;
        let int = |i| Value::Int(i);
        assert_eq!(
            one("INT8", 3, json!([-128, 127, null])),
            Ok(vec![int(-128), int(127), Value::Null])
        );
        assert_eq!(one("UINT64", 1, json!([[5]])), Ok(vec![int(5)]));
        assert_eq!(one("FP64", 2, json!([1, 0.1])), Ok(vec![Value::Float(1.0), Value::Float(0.1)]));
        assert_eq!(one("FP32", 1, json!([0.1])), Ok(vec![Value::Float(f64::from(0.1f32))]));
        assert_eq!(one("BOOL", 1, json!([true])), Ok(vec![Value::Bool(true)]));
        assert_eq!(one("BYTES", 1, json!(["a"])), Ok(vec![Value::Text("a".into())]));
        for (datatype, n, data) in [
            ("INT8", 1, json!([128])),
            ("UINT8", 1, json!([-1])),
            ("UINT8", 1, json!([256])),
            ("INT64", 1, json!([0.5])),
            ("BOOL", 1, json!([1])),
            ("FP64", 1, json!(["1"])),
            ("FP64", 2, json!([1.0])),
            ("FP64", 1, json!(1.0)),
            ("FP128", 1, json!([1.0])),
            ("FP64", 1 << 40, json!([])),
        ] {
            assert!(one(datatype, n, data.clone()).is_err(), "{datatype} {data}");
        }
    }

    #[test]
    fn binary_tensors_follow_the_json_in_order() {
        let request = serde_json::json!({"inputs": [
            {"name": "id", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 11}},
            {"name": "x", "shape": [2, 1], "datatype": "INT16", "parameters": {"binary_data_size": 4}},
        ]});
        let binary = b"\x02\0\0\0ab\x01\0\0\0c\xff\xff\x02\0";
        let input = parse(request.clone(), binary).expect("well formed");
        assert_eq!(input.ids, Some(vec!["ab".to_owned(), "c".to_owned()]));
        assert_eq!(input.given.columns[0].1, [Value::Int(-1), Value::Int(2)]);
        for cut in 0..binary.len() {
            assert!(parse(request.clone(), &binary[..cut]).is_err(), "{cut}");
        }
        assert!(parse(request, &[binary.as_slice(), b"x"].concat()).is_err());
    }

    #[test]
    fn shapes_and_names_must_fit() {
        let tensor = |name: &str, shape: &[u64]| {
            let n = shape.first().copied().unwrap_or(0);
            let data = vec![1; n as usize];
            serde_json::json!({"name": name, "shape": shape, "datatype": "INT64", "data": data})
        };
        let why = |tensors: Vec<serde_json::Value>| {
            parse(serde_json::json!({"inputs": tensors}), b"").expect_err("wrong")
        };
        assert!(why(vec![]).contains("no inputs"));
        assert!(why(vec![tensor("a", &[2]), tensor("b", &[3])]).contains("3 rows"));
        assert!(why(vec![tensor("a", &[2]), tensor("a", &[2])]).contains("twice"));
        assert!(why(vec![tensor("id", &[2]), tensor("id", &[2])]).contains("twice"));
        assert!(why(vec![tensor("a", &[2, 2, 2])]).contains("[n, 1]"));
        assert!(why(vec![tensor("a", &[2, 2])]).contains("2 values for a shape of [2, 2]"));
        assert!(why(vec![tensor("a", &[2, 0])]).contains("[n, features]"));
        assert!(why(vec![tensor("a", &[1, 1 << 40])]).contains("too many values"));
        assert!(why(vec![tensor("a", &[0, 1 << 40])]).contains("too many values"));
    }

    #[test]
    fn all_features_may_come_in_one_tensor() {
        use serde_json::json;
        let of = |name: &str, datatype: &str, shape: [u64; 2], data: serde_json::Value| json!({"name": name, "shape": shape, "datatype": datatype, "data": data});
        let nested = of("x", "FP64", [2, 3], json!([[1, 2.5, null], [4, 5, 6]]));
        let flat = of("x", "FP64", [2, 3], json!([1, 2.5, null, 4, 5, 6]));
        for tensor in [&nested, &flat] {
            let question = parse(json!({"inputs": [tensor]}), b"").expect("well formed");
            let matrix = question.matrix.expect("a matrix");
            assert_eq!((matrix.width, question.given.rows), (3, 2));
            assert!(matrix.values[2].is_nan() && question.given.columns.is_empty());
            assert_eq!(
                (&matrix.values[..2], &matrix.values[3..]),
                (&[1.0, 2.5][..], &[4.0, 5.0, 6.0][..])
            );
        }
        for rows in [json!([[1], [2, 3, 4]]), json!([1, [2, 3], 4])] {
            let ragged = parse(json!({"inputs": [of("x", "FP64", [2, 2], rows)]}), b"");
            assert!(ragged.expect_err("wrong").contains("has not 2 values"));
        }
        let words = of("x", "BYTES", [1, 2], json!(["a", "b"]));
        let why = |tensors| parse(json!({"inputs": tensors}), b"").expect_err("wrong");
        assert!(why(json!([words])).contains("numbers"));
        let other = of("y", "INT8", [2, 2], json!([1, 2, 3, 4]));
        assert!(why(json!([nested, other])).contains("both have several columns"));
    }
}
