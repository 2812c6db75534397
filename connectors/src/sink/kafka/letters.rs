//! Dead letters that fit into a message.
//!
//! A record that could not be used travels in its letter as base64, which is a third longer. A letter that the producer
//! does not take would end the run: of such a record the beginning is kept, and the letter says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use tidemill_types::Error;
use tidemill_types::long::long_bytes;

use crate::client::kafka::Cluster;
use crate::format::{self, Encoder};

/// The default of librdkafka's `message.max.bytes`, which a topic of default settings takes.
const MESSAGE: usize = 1_000_000;

/// For the frame of a message, its headers, and what the numbers in the detail differ by.
const FRAME: usize = 1 << 10;

/// Bytes of JSON for a byte of text at most.
const ESCAPED: usize = 6;

/// The encoder for a topic of this cluster; where rows have records as they came, one that keeps messages short enough.
/// `key` names the columns of the message's key.
pub(super) fn fitting(
    encoder: Box<dyn Encoder>,
    schema: &SchemaRef,
    key: &[usize],
    cluster: &Cluster,
) -> Box<dyn Encoder> {
    let of = |name: &str, data_type: DataType| {
        let is = |field: &arrow::datatypes::FieldRef| {
            field.name() == name && *field.data_type() == data_type
        };
        schema.fields().iter().position(is)
    };
    let Some(raw) = of("raw", DataType::Binary) else { return encoder };
    let given = cluster.properties.get("message.max.bytes").and_then(|most| most.parse().ok());
    let most = given.unwrap_or(MESSAGE).saturating_sub(FRAME);
    let (detail, key) = (of("detail", DataType::Utf8), key.to_vec());
    Box::new(Fitting { encoder, raw, detail, key, most })
}

struct Fitting {
    encoder: Box<dyn Encoder>,
    raw: usize,
    detail: Option<usize>,
    key: Vec<usize>,
    /// Bytes of a key and a value.
    most: usize,
}

impl Encoder for Fitting {
    fn encode(
        &mut self,
        rows: &RecordBatch,
        each: &mut dyn FnMut(usize, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut kept = BTreeMap::new();
        for row in 0..rows.num_rows() {
            let long = long_bytes(rows.columns(), row..row + 1) as usize;
            if ESCAPED * long + FRAME > self.most {
                let room = self.room(rows, row)?;
                let whole = rows.column(self.raw).as_binary::<i32>().value(row).len();
                if whole.div_ceil(3) * 4 > room {
                    kept.insert(row, room / 4 * 3);
                }
            }
        }
        if kept.is_empty() {
            return self.encoder.encode(rows, each);
        }
        let rows = self.cut(rows, &kept)?;
        self.encoder.encode(&rows, each)
    }
}

impl Fitting {
    /// Bytes that the record of a row may take in its message.
    fn room(&mut self, rows: &RecordBatch, row: usize) -> Result<usize, Error> {
        let mut key = Vec::new();
        format::write_key(rows, row, &self.key, &mut key)?;
        let bare = self.cut(&rows.slice(row, 1), &BTreeMap::from([(0, 0)]))?;
        let mut taken = key.len();
        self.encoder.encode(&bare, &mut |_, value| {
            taken += value.len();
            Ok(())
        })?;
        Ok(self.most.saturating_sub(taken))
    }

    /// The rows with so many bytes of some records.
    fn cut(&self, rows: &RecordBatch, kept: &BTreeMap<usize, usize>) -> Result<RecordBatch, Error> {
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        let raw = rows.column(self.raw).as_binary::<i32>();
        let records = raw.iter().enumerate().map(|(row, record)| {
            let keep = kept.get(&row).copied().unwrap_or(usize::MAX);
            record.map(|record| &record[..record.len().min(keep)])
        });
        columns[self.raw] = Arc::new(records.collect::<BinaryArray>());
        if let Some(detail) = self.detail {
            let details = rows.column(detail).as_string::<i32>().iter().enumerate();
            let details = details.map(|(row, detail)| {
                let detail = detail.unwrap_or_default();
                match kept.get(&row) {
                    None => detail.to_string(),
                    Some(kept) => format!(
                        "{detail} (`raw` has the first {kept} of {} bytes, for a message holds no more: the whole \
                         record is where `origin`, `partition` and `offset` say)",
                        raw.value(row).len()
                    ),
                }
            });
            columns[detail] = Arc::new(StringArray::from_iter_values(details));
        }
        RecordBatch::try_new(rows.schema(), columns)
            .map_err(|e| Error::internal(format!("dead letters: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{Field, Schema};

    use super::*;
    use crate::format::FORMATS;

    fn letters(records: &[&[u8]]) -> RecordBatch {
        let fields = vec![
            Field::new("offset", DataType::Int64, true),
            Field::new("detail", DataType::Utf8, true),
            Field::new("raw", DataType::Binary, true),
        ];
        let details = records.iter().map(|_| "column \"amount\":\nfound \"x\"");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(0..records.len() as i64)),
            Arc::new(StringArray::from_iter_values(details)),
            Arc::new(BinaryArray::from_iter_values(records)),
        ];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("letters")
    }

    fn encoded(format: &str, rows: &RecordBatch, most: usize) -> Vec<Vec<u8>> {
        let mut cluster = Cluster::new("localhost:9092");
        cluster.properties.insert("message.max.bytes".to_string(), most.to_string());
        let entry = FORMATS.iter().find(|entry| entry.name == format).expect("a format");
        let encoder = entry.messages.as_ref().expect("of messages").encoder;
        let encoder = encoder(&rows.schema()).expect("its columns are written");
        let mut encoder = fitting(encoder, &rows.schema(), &[0], &cluster);
        let mut values = Vec::new();
        let sent = encoder.encode(rows, &mut |row, value| {
            assert_eq!(row, values.len());
            values.push(value.to_vec());
            Ok(())
        });
        sent.expect("nothing refuses them");
        values
    }

    #[test]
    fn a_record_is_cut_where_its_letter_would_be_too_large() {
        let (short, long) = (b"{\"amount\": x}".as_slice(), vec![0xff; 100_000]);
        let rows = letters(&[short, &long, short]);
        for format in ["json", "csv"] {
            let whole = encoded(format, &rows, 1 << 20);
            let cut = encoded(format, &rows, 50_000);
            assert_eq!((&cut[0], &cut[2]), (&whole[0], &whole[2]), "{format}");
            assert!(
                whole[1].len() > 133_000 && !String::from_utf8_lossy(&whole[1]).contains("(`raw`")
            );
            // All of the room is used, but for a few bytes and the frame.
            let length = cut[1].len();
            assert!((50_000 - 2 * FRAME..50_000).contains(&length), "{format}: {length}");
            let told = String::from_utf8(cut[1].clone()).expect("text");
            assert!(told.contains("of 100000 bytes, for a message holds no more"), "{told:.300}");
        }
        // Where no byte of it has room, the letter is there all the same.
        let none = encoded("json", &rows, 0);
        assert!(String::from_utf8_lossy(&none[1]).contains("the first 0 of 100000 bytes"));
    }
}
