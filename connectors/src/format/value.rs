//! Values of JSON on their way into columns.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use tidemill_types::{DataType, Field, MOST_ITEMS};

use super::Refusal;
use super::rows::{Column, Rows};
use super::text::{length, shown, time, whole, wrong};

/// Reads a value into its column, or what a list or a map holds into that of the items.
pub(super) struct Value<'a> {
    pub(super) field: &'a Field,
    pub(super) data_type: DataType,
    pub(super) into: &'a mut Column,
    /// Why the record is refused; beside serde's error, which can only hold a text.
    pub(super) refusal: &'a mut Option<Refusal>,
}

/// Puts the list or the map that a text holds as JSON into its column.
pub(super) fn put_nested(
    rows: &mut Rows,
    column: usize,
    field: &Field,
    text: &str,
) -> Result<(), Refusal> {
    let (mut refusal, data_type) = (None, field.data_type);
    let value = Value { field, data_type, into: rows.column(column), refusal: &mut refusal };
    let mut json = serde_json::Deserializer::from_str(text);
    let outcome = value.deserialize(&mut json).and_then(|()| json.end());
    let form = match data_type {
        DataType::Map(_) => " as a JSON object",
        _ => " as a JSON array",
    };
    outcome.map_err(|_| refusal.unwrap_or_else(|| wrong(field, shown(text), form)))
}

impl Value<'_> {
    fn wrong<E: serde::de::Error>(self, found: impl fmt::Display, why: &str) -> E {
        let refusal = match self.field.data_type {
            whole if whole == self.data_type => wrong(self.field, found, why),
            DataType::Map(_) => wrong(self.field, format_args!("{found} in the object"), why),
            _ => wrong(self.field, format_args!("{found} in the array"), why),
        };
        self.refuse(refusal)
    }

    fn refuse<E: serde::de::Error>(self, refusal: Refusal) -> E {
        *self.refusal = Some(refusal);
        E::custom("refused")
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.into.null();
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        match self.data_type {
            DataType::Bool => self.into.bool(value),
            _ => return Err(self.wrong(value, "")),
        }
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        match self.data_type {
            DataType::Int64 | DataType::Timestamp => self.into.int(value),
            DataType::Float64 => self.into.float(value as f64),
            _ => return Err(self.wrong(format_args!("the number {value}"), "")),
        }
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match (i64::try_from(value), self.data_type) {
            (Ok(value), _) => self.visit_i64(value),
            (Err(_), DataType::Float64) => {
                self.into.float(value as f64);
                Ok(())
            }
            (Err(_), _) => {
                Err(self.wrong(format_args!("the number {value}"), " (64 bits, signed)"))
            }
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        match self.data_type {
            DataType::Float64 => self.into.float(value),
            DataType::Int64 | DataType::Timestamp => match whole(self.field, value) {
                Ok(value) => self.into.int(value),
                Err(refusal) => return Err(self.refuse(refusal)),
            },
            _ => return Err(self.wrong(format_args!("the number {value}"), "")),
        }
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        match self.data_type {
            DataType::String => self.into.text(value),
            DataType::Timestamp => match time(self.field, value) {
                Ok(value) => self.into.int(value),
                Err(refusal) => return Err(self.refuse(refusal)),
            },
            _ => return Err(self.wrong(format_args!("the string {}", shown(value)), "")),
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut array: S) -> Result<(), S::Error> {
        let (DataType::List(item), Some(items)) = (self.data_type, self.into.items()) else {
            return Err(self.wrong("an array", ""));
        };
        let (field, data_type) = (self.field, DataType::from(item));
        let mut found = 0;
        loop {
            let (into, refusal) = (&mut *items, &mut *self.refusal);
            let item = Value { field, data_type, into, refusal };
            if array.next_element_seed(item)?.is_none() {
                break;
            }
            found += 1;
            if found > MOST_ITEMS {
                break;
            }
        }
        match length(field, found) {
            Ok(()) => self.into.end_list(),
            Err(refusal) => return Err(self.refuse(refusal)),
        }
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let (DataType::Map(item), Some(_)) = (self.data_type, self.into.entries()) else {
            return Err(self.wrong("an object", ""));
        };
        let (field, data_type) = (self.field, DataType::from(item));
        let mut found = 0;
        while let Some((keys, items)) = self.into.entries()
            && map.next_key_seed(EntryKey(keys))?.is_some()
        {
            found += 1;
            if let Err(refusal) = length(field, found) {
                return Err(self.refuse(refusal));
            }
            let (into, refusal) = (items, &mut *self.refusal);
            map.next_value_seed(Value { field, data_type, into, refusal })?;
        }
        match self.into.end_map() {
            Ok(()) => Ok(()),
            Err(key) => {
                let found = format_args!("the key {} twice", shown(&key)).to_string();
                Err(self.refuse(wrong(field, found, "")))
            }
        }
    }
}

/// Reads the key of an entry of a map.
struct EntryKey<'a>(&'a mut Column);

impl<'de> DeserializeSeed<'de> for EntryKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for EntryKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<(), E> {
        self.0.text(key);
        Ok(())
    }
}
